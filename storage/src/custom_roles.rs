//! Custom roles: a base role with more or fewer permissions, and patterns of the repositories and tags that it reaches. What
//! the texts mean is decided above.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::names::new_id;
use crate::{execute, execute_each, query_all, query_opt};

/// A custom role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomRole {
    /// Opaque id, which bindings name.
    pub id: String,
    /// The organization.
    pub org_id: String,
    /// Its name; unique in the organization.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// Token of the base role.
    pub base: String,
    /// What it may do.
    pub rules: Rules,
    /// Moves with every change.
    pub version: i64,
    /// When it was made (unix seconds).
    pub created_at: i64,
}

/// What a custom role does with its base. Lists are kept sorted, without doubles.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Names of permissions that the base does not have.
    pub added: Vec<String>,
    /// Names of permissions of the base that it does not have.
    pub removed: Vec<String>,
    /// Patterns of paths below the project; empty: every repository.
    pub repositories: Vec<String>,
    /// Patterns of tags that may be written or deleted; empty: every tag.
    pub tags: Vec<String>,
}

impl Rules {
    /// Sorts the lists and drops doubles.
    pub fn normalise(&mut self) {
        for list in [&mut self.added, &mut self.removed, &mut self.repositories, &mut self.tags] {
            list.sort_unstable();
            list.dedup();
        }
    }
}

/// What a new custom role needs.
#[derive(Debug, Clone)]
pub struct NewCustomRole<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// Its name.
    pub name: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// Token of the base role.
    pub base: &'a str,
    /// What it may do.
    pub rules: &'a Rules,
}

/// Finds a custom role of an organization by its id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, id: &str) -> Result<Option<CustomRole>> {
    let row = query_opt!(session, Row, "SELECT * FROM custom_roles WHERE org_id = $1 AND id = $2", org_id, id)?;
    row.map(Row::read).transpose()
}

/// Finds a custom role of an organization by its name.
///
/// # Errors
/// Those of the database.
pub async fn find_by_name(session: &mut Session, org_id: &str, name: &str) -> Result<Option<CustomRole>> {
    let row = query_opt!(session, Row, "SELECT * FROM custom_roles WHERE org_id = $1 AND name = $2", org_id, name)?;
    row.map(Row::read).transpose()
}

/// At most `limit` custom roles of an organization after the name `after`, in byte order of the name.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session, org_id: &str, after: &str, limit: i64) -> Result<Vec<CustomRole>> {
    let sql = "SELECT * FROM custom_roles WHERE org_id = $1 AND name > $2 ORDER BY name LIMIT $3";
    query_all!(session, Row, sql, org_id, after, limit)?.into_iter().map(Row::read).collect()
}

/// The custom roles that count for a user in any organization.
///
/// # Errors
/// Those of the database.
pub async fn list_of_user(session: &mut Session, user_id: &str) -> Result<Vec<CustomRole>> {
    query_all!(
        session,
        Row,
        "SELECT * FROM custom_roles WHERE id IN (
             SELECT b.role FROM bindings b WHERE b.user_id = $1
             UNION SELECT b.role FROM group_members x JOIN bindings b ON b.group_id = x.group_id WHERE x.user_id = $1)
         ORDER BY id LIMIT 10000",
        user_id,
    )?
    .into_iter()
    .map(Row::read)
    .collect()
}

/// How many custom roles an organization has.
///
/// # Errors
/// Those of the database.
pub async fn count(session: &mut Session, org_id: &str) -> Result<i64> {
    let found = query_opt!(session, (i64,), "SELECT COUNT(*) FROM custom_roles WHERE org_id = $1", org_id)?;
    Ok(found.map_or(0, |(count,)| count))
}

/// Creates a custom role.
///
/// # Errors
/// [`Error::Conflict`] where the name is taken, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewCustomRole<'_>, now: i64) -> Result<CustomRole> {
    let mut rules = new.rules.clone();
    rules.normalise();
    let role = CustomRole {
        id: new_id(),
        org_id: new.org_id.to_owned(),
        name: new.name.to_owned(),
        description: new.description.to_owned(),
        base: new.base.to_owned(),
        rules,
        version: 1,
        created_at: now,
    };
    let made = execute!(
        tx,
        "INSERT INTO custom_roles (id, org_id, name, description, base, added, removed, repositories, tags, version,
                                   created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1, $10) ON CONFLICT (org_id, name) DO NOTHING",
        role.id.as_str(),
        role.org_id.as_str(),
        role.name.as_str(),
        role.description.as_str(),
        role.base.as_str(),
        text(&role.rules.added)?,
        text(&role.rules.removed)?,
        text(&role.rules.repositories)?,
        text(&role.rules.tags)?,
        now,
    )?;
    if made == 0 {
        return Err(Error::Conflict("a role of that name exists already"));
    }
    Ok(role)
}

/// Locks a custom role's row and moves its version.
///
/// # Errors
/// [`Error::Version`], [`Error::NotFound`], else those of the database.
pub async fn touch(tx: &mut Tx, org_id: &str, id: &str, expected: Option<i64>) -> Result<CustomRole> {
    let row = query_opt!(
        tx,
        Row,
        "UPDATE custom_roles SET version = version + 1
         WHERE org_id = $1 AND id = $2 AND (CAST($3 AS BIGINT) IS NULL OR version = $3) RETURNING *",
        org_id,
        id,
        expected,
    )?;
    match row {
        Some(row) => row.read(),
        None if find(tx, org_id, id).await?.is_some() => Err(Error::Version),
        None => Err(Error::NotFound("role")),
    }
}

/// Locks a custom role's row: it is given and changed by one at a time.
///
/// # Errors
/// [`Error::NotFound`], else those of the database.
pub async fn lock(tx: &mut Tx, org_id: &str, id: &str) -> Result<CustomRole> {
    let sql = "UPDATE custom_roles SET version = version WHERE org_id = $1 AND id = $2 RETURNING *";
    query_opt!(tx, Row, sql, org_id, id)?.ok_or(Error::NotFound("role"))?.read()
}

/// Writes what a custom role may do and what it is for. [`touch`] comes before.
///
/// # Errors
/// Those of the database.
pub async fn update(tx: &mut Tx, org_id: &str, id: &str, description: &str, rules: &Rules) -> Result<()> {
    let mut rules = rules.clone();
    rules.normalise();
    execute!(
        tx,
        "UPDATE custom_roles SET description = $3, added = $4, removed = $5, repositories = $6, tags = $7
         WHERE org_id = $1 AND id = $2",
        org_id,
        id,
        description,
        text(&rules.added)?,
        text(&rules.removed)?,
        text(&rules.repositories)?,
        text(&rules.tags)?,
    )?;
    Ok(())
}

/// Deletes a custom role. True where there was one.
///
/// # Errors
/// [`Error::Conflict`] where somebody has it, else those of the database.
pub async fn delete(tx: &mut Tx, org_id: &str, id: &str) -> Result<bool> {
    let used = query_opt!(tx, (i64,), "SELECT COUNT(*) FROM bindings WHERE org_id = $1 AND role = $2", org_id, id)?;
    if used.is_some_and(|(count,)| count > 0) {
        return Err(Error::Conflict("the role is given to somebody: take it from them first"));
    }
    Ok(execute!(tx, "DELETE FROM custom_roles WHERE org_id = $1 AND id = $2", org_id, id)? > 0)
}

/// Moves the grants' epoch of everybody who has the role, by themselves or through a group.
///
/// # Errors
/// Those of the database.
pub async fn bump_holders(tx: &mut Tx, org_id: &str, role: &str) -> Result<()> {
    // PostgreSQL locks in the order of ids, so that two who touch the same users cannot wait for each other.
    execute_each!(
        tx,
        "UPDATE users SET grants_epoch = grants_epoch + 1 WHERE id IN (
             SELECT user_id FROM bindings WHERE org_id = $1 AND role = $2 AND user_id IS NOT NULL
             UNION SELECT x.user_id FROM bindings b JOIN group_members x ON x.group_id = b.group_id
             WHERE b.org_id = $1 AND b.role = $2)",
        "UPDATE users SET grants_epoch = grants_epoch + 1 WHERE id IN (
             SELECT id FROM users WHERE id IN (
                 SELECT user_id FROM bindings WHERE org_id = $1 AND role = $2 AND user_id IS NOT NULL
                 UNION SELECT x.user_id FROM bindings b JOIN group_members x ON x.group_id = b.group_id
                 WHERE b.org_id = $1 AND b.role = $2) ORDER BY id FOR UPDATE)",
        org_id,
        role,
    )?;
    Ok(())
}

fn text(list: &[String]) -> Result<String> {
    serde_json::to_string(list).map_err(|e| Error::Damaged(e.to_string()))
}

/// The row as it is stored.
#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    org_id: String,
    name: String,
    description: String,
    base: String,
    added: String,
    removed: String,
    repositories: String,
    tags: String,
    version: i64,
    created_at: i64,
}

impl Row {
    fn read(self) -> Result<CustomRole> {
        let list = |text: &str| {
            serde_json::from_str(text).map_err(|_| Error::Damaged(format!("the lists of custom role {}", self.id)))
        };
        Ok(CustomRole {
            rules: Rules {
                added: list(&self.added)?,
                removed: list(&self.removed)?,
                repositories: list(&self.repositories)?,
                tags: list(&self.tags)?,
            },
            id: self.id,
            org_id: self.org_id,
            name: self.name,
            description: self.description,
            base: self.base,
            version: self.version,
            created_at: self.created_at,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bindings::{self, NewBinding, Subject};
    use crate::db::testing;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};
    use crate::{groups, memberships};

    #[tokio::test]
    async fn custom_roles_are_kept_sorted_and_while_somebody_has_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        let mut rules = Rules { added: vec!["b".into(), "a".into(), "b".into()], ..Rules::default() };
        let new = NewCustomRole {
            org_id: &org.id,
            name: "pusher",
            description: "",
            base: "PROJECT_READ_ONLY",
            rules: &rules,
        };
        let role = create(&mut tx, &new, 2).await.unwrap();
        assert_eq!(role.rules.added, ["a", "b"]);
        assert!(create(&mut tx, &new, 2).await.unwrap_err().is_conflict());
        assert_eq!(find(&mut tx, &org.id, &role.id).await.unwrap().unwrap(), role);
        assert_eq!(find(&mut tx, "other", &role.id).await.unwrap(), None);
        assert_eq!(list(&mut tx, &org.id, "", 9).await.unwrap(), std::slice::from_ref(&role));
        assert!(list(&mut tx, &org.id, "pusher", 9).await.unwrap().is_empty());
        assert_eq!(count(&mut tx, &org.id).await.unwrap(), 1);

        let mut ids = Vec::new();
        for name in ["ann@a.example", "bob@a.example"] {
            let new = NewUser { name, kind: "local", operator: false, password_hash: None, temporary_until: None };
            let user = users::create(&mut tx, &new, 1).await.unwrap();
            memberships::create(&mut tx, &org.id, &user.id, 2).await.unwrap();
            ids.push(user.id);
        }
        let group = groups::NewGroup { org_id: &org.id, name: "dev", description: "" };
        let group = groups::create(&mut tx, &group, 3).await.unwrap();
        groups::add_member(&mut tx, &group, &ids[1], 3).await.unwrap();
        let mut made = Vec::new();
        for subject in [Subject::User(&ids[0]), Subject::Group(&group.id)] {
            let new = NewBinding { org_id: &org.id, subject, role: &role.id, project_id: None, namespaces: &[] };
            made.push(bindings::create(&mut tx, &new, 3).await.unwrap().id);
        }
        bump_holders(&mut tx, &org.id, &role.id).await.unwrap();
        for id in &ids {
            assert_eq!(users::find(&mut tx, id).await.unwrap().unwrap().grants_epoch, 2);
            assert_eq!(list_of_user(&mut tx, id).await.unwrap().len(), 1);
        }
        assert!(delete(&mut tx, &org.id, &role.id).await.unwrap_err().is_conflict());
        for id in &made {
            assert!(bindings::delete(&mut tx, &org.id, id).await.unwrap());
        }

        assert!(matches!(touch(&mut tx, &org.id, &role.id, Some(7)).await, Err(Error::Version)));
        assert!(matches!(touch(&mut tx, &org.id, "nope", None).await, Err(Error::NotFound(_))));
        assert_eq!(touch(&mut tx, &org.id, &role.id, Some(1)).await.unwrap().version, 2);
        assert_eq!(lock(&mut tx, &org.id, &role.id).await.unwrap().version, 2);
        assert!(matches!(lock(&mut tx, "other", &role.id).await, Err(Error::NotFound(_))));
        rules.repositories = vec!["ci/**".into()];
        update(&mut tx, &org.id, &role.id, "for CI", &rules).await.unwrap();
        let after = find_by_name(&mut tx, &org.id, "pusher").await.unwrap().unwrap();
        assert_eq!((after.description.as_str(), after.rules.repositories), ("for CI", vec!["ci/**".to_owned()]));
        assert!(delete(&mut tx, &org.id, &role.id).await.unwrap());
        assert!(!delete(&mut tx, &org.id, &role.id).await.unwrap());
    }
}

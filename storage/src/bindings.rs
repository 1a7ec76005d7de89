//! Bindings: user × role × (organization, or project, or project and namespaces). Rights come from nowhere else.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::names::new_id;
use crate::{execute, query_all, query_opt};

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Opaque id.
    pub id: String,
    /// The organization.
    pub org_id: String,
    /// Who holds the role.
    pub user_id: String,
    /// The role's token.
    pub role: String,
    /// The project, or the whole organization.
    pub project_id: Option<String>,
    /// Kubernetes namespaces, for the roles that need them.
    pub namespaces: Vec<String>,
    /// When it was made (unix seconds).
    pub created_at: i64,
}

/// What a new binding needs.
#[derive(Debug, Clone)]
pub struct NewBinding<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// Who gets the role: a member of the organization.
    pub user_id: &'a str,
    /// The role's token.
    pub role: &'a str,
    /// The project, or the whole organization.
    pub project_id: Option<&'a str>,
    /// Kubernetes namespaces, for the roles that need them.
    pub namespaces: &'a [String],
}

/// Finds a binding of an organization by id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, id: &str) -> Result<Option<Binding>> {
    query_opt!(
        session,
        Row,
        "SELECT * FROM bindings WHERE org_id = $1 AND id = $2 AND user_id IS NOT NULL",
        org_id,
        id
    )?
    .map(Row::read)
    .transpose()
}

/// At most `limit` bindings of an organization after the id `after`, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session, org_id: &str, after: &str, limit: i64) -> Result<Vec<Binding>> {
    query_all!(
        session,
        Row,
        "SELECT * FROM bindings WHERE org_id = $1 AND id > $2 AND user_id IS NOT NULL ORDER BY id LIMIT $3",
        org_id,
        after,
        limit,
    )?
    .into_iter()
    .map(Row::read)
    .collect()
}

/// Every binding that counts for a user now: those of organizations in which the membership is active.
///
/// # Errors
/// Those of the database.
pub async fn list_active_of_user(session: &mut Session, user_id: &str) -> Result<Vec<Binding>> {
    query_all!(
        session,
        Row,
        "SELECT b.id, b.org_id, b.user_id, b.role, b.project_id, b.namespaces, b.created_at
         FROM bindings b JOIN memberships m ON m.org_id = b.org_id AND m.user_id = b.user_id
         WHERE b.user_id = $1 AND m.active = TRUE ORDER BY b.id LIMIT 10000",
        user_id,
    )?
    .into_iter()
    .map(Row::read)
    .collect()
}

/// Creates a binding.
///
/// # Errors
/// [`Error::Conflict`] where the same one exists, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewBinding<'_>, now: i64) -> Result<Binding> {
    let mut namespaces = new.namespaces.to_vec();
    namespaces.sort_unstable();
    namespaces.dedup();
    let text = serde_json::to_string(&namespaces).map_err(|e| Error::Damaged(e.to_string()))?;
    let binding = Binding {
        id: new_id(),
        org_id: new.org_id.to_owned(),
        user_id: new.user_id.to_owned(),
        role: new.role.to_owned(),
        project_id: new.project_id.map(ToOwned::to_owned),
        namespaces,
        created_at: now,
    };
    let made = execute!(
        tx,
        "INSERT INTO bindings (id, org_id, user_id, role, project_id, namespaces, builtin, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, FALSE, $7) ON CONFLICT DO NOTHING",
        binding.id.as_str(),
        binding.org_id.as_str(),
        binding.user_id.as_str(),
        binding.role.as_str(),
        binding.project_id.as_deref(),
        text.as_str(),
        now,
    )?;
    if made == 0 {
        return Err(Error::Conflict("the user has that role there already"));
    }
    Ok(binding)
}

/// Deletes a binding. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, org_id: &str, id: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM bindings WHERE org_id = $1 AND id = $2", org_id, id)? > 0)
}

/// The row as it is stored.
#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    org_id: String,
    user_id: String,
    role: String,
    project_id: Option<String>,
    namespaces: String,
    created_at: i64,
}

impl Row {
    fn read(self) -> Result<Binding> {
        let namespaces = serde_json::from_str(&self.namespaces)
            .map_err(|_| Error::Damaged(format!("namespaces of binding {}", self.id)))?;
        Ok(Binding {
            id: self.id,
            org_id: self.org_id,
            user_id: self.user_id,
            role: self.role,
            project_id: self.project_id,
            namespaces,
            created_at: self.created_at,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::memberships;
    use crate::orgs::{self, NewOrg};
    use crate::projects::{self, NewProject};
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn bindings_exist_once_and_count_while_the_member_is_active() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let slug = "acme".parse().unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &slug, name: "A" }, 1).await.unwrap();
        let new = NewProject {
            org_id: &org.id,
            slug: &slug,
            settings: crate::projects::ProjectSettings::default(),
            description: "",
        };
        let project = projects::create(&mut tx, &new, 1).await.unwrap();
        let new = NewUser { name: "ci", kind: "machine", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap();
        memberships::create(&mut tx, &org.id, &user.id, 1).await.unwrap();
        let namespaces = ["b".to_owned(), "a".to_owned(), "b".to_owned()];
        let new = NewBinding {
            org_id: &org.id,
            user_id: &user.id,
            role: "NAMESPACE_ADMIN",
            project_id: Some(&project.id),
            namespaces: &namespaces,
        };
        let binding = create(&mut tx, &new, 2).await.unwrap();
        assert_eq!(binding.namespaces, ["a", "b"]);
        assert!(create(&mut tx, &new, 3).await.unwrap_err().is_conflict());
        let wide = NewBinding { role: "ADMIN", project_id: None, namespaces: &[], ..new };
        create(&mut tx, &wide, 3).await.unwrap();
        assert!(create(&mut tx, &wide, 3).await.unwrap_err().is_conflict());

        assert_eq!(find(&mut tx, &org.id, &binding.id).await.unwrap().unwrap(), binding);
        assert_eq!(find(&mut tx, "other", &binding.id).await.unwrap(), None);
        let all = list(&mut tx, &org.id, "", 9).await.unwrap();
        assert_eq!((all.len(), list(&mut tx, &org.id, &all[0].id, 9).await.unwrap()), (2, all[1..].to_vec()));
        assert_eq!(list_active_of_user(&mut tx, &user.id).await.unwrap().len(), 2);
        memberships::update_active(&mut tx, &org.id, &user.id, false).await.unwrap();
        assert!(list_active_of_user(&mut tx, &user.id).await.unwrap().is_empty());
        assert!(!delete(&mut tx, "other", &binding.id).await.unwrap());
        assert!(delete(&mut tx, &org.id, &binding.id).await.unwrap());
        assert!(!delete(&mut tx, &org.id, &binding.id).await.unwrap());
    }
}

//! Bindings: (user or group) × role × (organization, or project, or project and namespaces). Rights come from nowhere else.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::names::new_id;
use crate::{execute, query_all, query_opt};

/// A binding, with the names of what it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binding {
    /// Opaque id.
    pub id: String,
    /// The organization.
    pub org_id: String,
    /// The user who holds the role.
    pub user_id: Option<String>,
    /// The name of that user's row.
    pub user: Option<String>,
    /// The group that holds the role.
    pub group_id: Option<String>,
    /// The name of that group.
    pub group: Option<String>,
    /// The role: the token of a base role, or the id of a custom one.
    pub role: String,
    /// The name of the custom role.
    pub role_name: Option<String>,
    /// The project, or the whole organization.
    pub project_id: Option<String>,
    /// The slug of that project.
    pub project: Option<String>,
    /// Kubernetes namespaces, for the roles that need them.
    pub namespaces: Vec<String>,
    /// Part of the organization itself: cannot be taken away.
    pub builtin: bool,
    /// When it was made (unix seconds).
    pub created_at: i64,
}

/// Who gets a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject<'a> {
    /// The user of this id, a member of the organization.
    User(&'a str),
    /// The group of this id, of the organization.
    Group(&'a str),
}

/// What a new binding needs.
#[derive(Debug, Clone)]
pub struct NewBinding<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// Who gets the role.
    pub subject: Subject<'a>,
    /// The token of a base role, or the id of a custom one.
    pub role: &'a str,
    /// The project, or the whole organization.
    pub project_id: Option<&'a str>,
    /// Kubernetes namespaces, for the roles that need them.
    pub namespaces: &'a [String],
}

/// Which bindings to list. All bounds hold that are given.
#[derive(Debug, Clone, Default)]
pub struct BindingFilter<'a> {
    /// Only of this user, by themselves.
    pub user_id: Option<&'a str>,
    /// Only of this group.
    pub group_id: Option<&'a str>,
    /// Only on this project.
    pub project_id: Option<&'a str>,
    /// Only of this role.
    pub role: Option<&'a str>,
    /// Only on the whole organization (true), or only on projects (false).
    pub whole: Option<bool>,
    /// Only on one of these projects, where the organization's own are not to be seen.
    pub within: Option<&'a [String]>,
}

/// A binding that counts for a user, with how it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The binding.
    pub binding: Binding,
    /// The slug of the organization.
    pub org: String,
}

/// A role of a member, by themselves or through a group, as a list of members tells it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct MemberRole {
    /// The member.
    pub user_id: String,
    /// The role: the token of a base role, or the name of a custom one.
    pub role: String,
    /// The slug of the project; `None` for the whole organization.
    pub project: Option<String>,
    /// The name of the group that holds it; `None` where the member does.
    pub group_name: Option<String>,
    /// How many there are of the member, those that were left out counted too.
    pub total: i64,
}

macro_rules! select {
    ($($rest:expr),+ $(,)?) => {
        concat!(
            "SELECT b.id, b.org_id, b.user_id, u.name AS user_name, b.group_id, g.name AS group_name, b.role,
                    c.name AS role_name, b.project_id, p.slug AS project, b.namespaces, b.builtin, b.created_at,
                    o.slug AS org
             FROM bindings b JOIN orgs o ON o.id = b.org_id
             LEFT JOIN users u ON u.id = b.user_id
             LEFT JOIN groups g ON g.id = b.group_id
             LEFT JOIN custom_roles c ON c.id = b.role AND c.org_id = b.org_id
             LEFT JOIN projects p ON p.id = b.project_id ",
            $($rest),+
        )
    };
}

/// The statements of one condition that leads, by an index of its own; the others choose among what it gives.
struct Statements {
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! listed {
    ($lead:literal) => {
        Statements {
            sqlite: listed!($lead, "SELECT value FROM json_each($7)"),
            postgres: listed!($lead, "SELECT json_array_elements_text(CAST(CAST($7 AS TEXT) AS JSON))"),
        }
    };
    ($lead:literal, $projects:literal) => {
        select!(
            $lead,
            " AND b.id > $2 AND (CAST($3 AS TEXT) IS NULL OR b.user_id = $3)
             AND (CAST($4 AS TEXT) IS NULL OR b.group_id = $4) AND (CAST($5 AS TEXT) IS NULL OR b.project_id = $5)
             AND (CAST($6 AS TEXT) IS NULL OR b.role = $6)
             AND (CAST($9 AS BOOLEAN) IS NULL OR (b.project_id IS NULL) = $9)
             AND (CAST($7 AS TEXT) IS NULL OR b.project_id IN (",
            $projects,
            ")) ORDER BY b.id LIMIT $8"
        )
    };
}

// The organization is written so that no engine looks for all that the organization has.
static ALL: Statements = listed!("WHERE b.org_id = $1");
static BY_USER: Statements = listed!("WHERE b.user_id = $3 AND b.org_id || '' = $1");
static BY_GROUP: Statements = listed!("WHERE b.group_id = $4 AND b.org_id || '' = $1");
static BY_PROJECT: Statements = listed!("WHERE b.project_id = $5 AND b.org_id || '' = $1");
static BY_ROLE: Statements = listed!("WHERE b.org_id = $1 AND b.role = $6");

/// Finds a binding of an organization by id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, id: &str) -> Result<Option<Binding>> {
    let row = query_opt!(session, Row, select!("WHERE b.org_id = $1 AND b.id = $2"), org_id, id)?;
    row.map(Row::read).transpose()
}

/// At most `limit` bindings of an organization after the id `after`, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    org_id: &str,
    filter: &BindingFilter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Binding>> {
    let within = filter.within.map(serde_json::to_string).transpose().map_err(|e| Error::Damaged(e.to_string()))?;
    let statements = match filter {
        BindingFilter { user_id: Some(_), .. } => &BY_USER,
        BindingFilter { group_id: Some(_), .. } => &BY_GROUP,
        BindingFilter { project_id: Some(_), .. } => &BY_PROJECT,
        BindingFilter { role: Some(_), .. } => &BY_ROLE,
        _ => &ALL,
    };
    crate::query_all_each!(
        session,
        Row,
        statements.sqlite,
        statements.postgres,
        org_id,
        after,
        filter.user_id,
        filter.group_id,
        filter.project_id,
        filter.role,
        within.as_deref(),
        limit,
        filter.whole,
    )?
    .into_iter()
    .map(Row::read)
    .collect()
}

/// How many hold a role.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Holders {
    /// The role: the token of a base role, or the id of a custom one.
    pub role: String,
    /// Users who hold it themselves.
    pub users: i64,
    /// Groups that hold it.
    pub groups: i64,
}

/// Members are counted by the index that has them in the order of names.
macro_rules! holders_of {
    ($roles:literal) => {
        concat!(
            "SELECT asked.value AS role,
                    (SELECT COUNT(*) FROM (SELECT 1 FROM bindings b
                     WHERE b.org_id = $1 AND b.role = asked.value AND b.name > '' GROUP BY b.name) AS named) AS users,
                    (SELECT COUNT(DISTINCT b.group_id) FROM bindings b
                     WHERE b.org_id = $1 AND b.role = asked.value AND b.name = '') AS groups
             FROM ",
            $roles
        )
    };
}

/// How many hold each of these roles.
///
/// # Errors
/// Those of the database.
pub async fn holders(session: &mut Session, org_id: &str, roles: &[&str]) -> Result<Vec<Holders>> {
    let roles = serde_json::to_string(roles).map_err(|e| Error::Damaged(e.to_string()))?;
    crate::query_all_each!(
        session,
        Holders,
        holders_of!("json_each($2) AS asked"),
        holders_of!("json_array_elements_text(CAST(CAST($2 AS TEXT) AS JSON)) AS asked (value)"),
        org_id,
        roles.as_str(),
    )
}

/// Every binding of a group.
///
/// # Errors
/// Those of the database.
pub async fn list_of_group(session: &mut Session, org_id: &str, group_id: &str) -> Result<Vec<Binding>> {
    list(session, org_id, &BindingFilter { group_id: Some(group_id), ..BindingFilter::default() }, "", 10_000).await
}

/// Every binding that counts for a user now, theirs and their groups': those of living organizations in which the membership
/// is active.
///
/// # Errors
/// Those of the database.
pub async fn list_active_of_user(session: &mut Session, user_id: &str) -> Result<Vec<Held>> {
    query_all!(
        session,
        Row,
        select!(
            "JOIN memberships m ON m.org_id = b.org_id AND m.user_id = $1
             WHERE m.active = TRUE AND o.status = 'active'
             AND b.id IN (SELECT d.id FROM bindings d WHERE d.user_id = $1
                          UNION SELECT e.id FROM group_members x
                          JOIN bindings e ON e.group_id = x.group_id AND e.org_id = x.org_id WHERE x.user_id = $1)
             ORDER BY b.id LIMIT 10000"
        ),
        user_id,
    )?
    .into_iter()
    .map(Row::held)
    .collect()
}

/// At most `limit` bindings after the id `after` that a member of an organization has there, by themselves or through a
/// group, whether they count now or not.
///
/// # Errors
/// Those of the database.
pub async fn list_of_member(
    session: &mut Session,
    org_id: &str,
    user_id: &str,
    after: &str,
    limit: i64,
) -> Result<Vec<Held>> {
    query_all!(
        session,
        Row,
        select!(
            "WHERE b.org_id || '' = $1 AND b.id > $3
             AND b.id IN (SELECT d.id FROM bindings d WHERE d.user_id = $2
                          UNION SELECT e.id FROM group_members x
                          JOIN bindings e ON e.group_id = x.group_id AND e.org_id = x.org_id WHERE x.user_id = $2)
             ORDER BY b.id LIMIT $4"
        ),
        org_id,
        user_id,
        after,
        limit,
    )?
    .into_iter()
    .map(Row::held)
    .collect()
}

/// A list that a parameter holds as JSON, in the words of the engine.
macro_rules! roles_of_members {
    ($users:literal, $projects:literal) => {
        concat!(
            "SELECT h.user_id, COALESCE(c.name, h.role) AS role, p.slug AS project, g.name AS group_name, h.total
             FROM (SELECT x.*, COUNT(*) OVER (PARTITION BY x.user_id) AS total,
                          ROW_NUMBER() OVER (PARTITION BY x.user_id ORDER BY COALESCE(x.project_id, ''), x.id) AS place
                   FROM (SELECT b.user_id, b.id, b.role, b.project_id, b.group_id FROM bindings b
                         WHERE b.org_id || '' = $1 AND b.user_id IN (",
            $users,
            ")
                         UNION ALL
                         SELECT m.user_id, b.id, b.role, b.project_id, b.group_id
                         FROM group_members m JOIN bindings b ON b.group_id = m.group_id AND b.org_id || '' = m.org_id
                         WHERE m.org_id || '' = $1 AND m.user_id IN (",
            $users,
            ")) x
                   WHERE CAST($3 AS TEXT) IS NULL OR x.project_id IN (",
            $projects,
            ")) h
             LEFT JOIN custom_roles c ON c.id = h.role AND c.org_id = $1
             LEFT JOIN projects p ON p.id = h.project_id
             LEFT JOIN groups g ON g.id = h.group_id
             WHERE h.place <= $4 ORDER BY h.user_id, h.place"
        )
    };
}

/// At most `most` roles of each of these members of an organization, those on the whole of it first; only those on some
/// projects where `within` names them.
///
/// # Errors
/// Those of the database.
pub async fn list_of_members(
    session: &mut Session,
    org_id: &str,
    user_ids: &[&str],
    within: Option<&[String]>,
    most: i64,
) -> Result<Vec<MemberRole>> {
    let damaged = |e: serde_json::Error| Error::Damaged(e.to_string());
    let users = serde_json::to_string(user_ids).map_err(damaged)?;
    let within = within.map(serde_json::to_string).transpose().map_err(damaged)?;
    crate::query_all_each!(
        session,
        MemberRole,
        roles_of_members!("SELECT value FROM json_each($2)", "SELECT value FROM json_each($3)"),
        roles_of_members!(
            "SELECT json_array_elements_text(CAST(CAST($2 AS TEXT) AS JSON))",
            "SELECT json_array_elements_text(CAST(CAST($3 AS TEXT) AS JSON))"
        ),
        org_id,
        users.as_str(),
        within.as_deref(),
        most,
    )
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
    let (user_id, group_id) = match new.subject {
        Subject::User(id) => (Some(id), None),
        Subject::Group(id) => (None, Some(id)),
    };
    let id = new_id();
    let made = execute!(
        tx,
        "INSERT INTO bindings (id, org_id, user_id, group_id, role, project_id, namespaces, builtin, created_at, name)
         VALUES ($1, $2, $3, $4, $5, $6, $7, FALSE, $8,
                 COALESCE((SELECT m.name FROM memberships m WHERE m.org_id = $2 AND m.user_id = $3), ''))
         ON CONFLICT DO NOTHING",
        id.as_str(),
        new.org_id,
        user_id,
        group_id,
        new.role,
        new.project_id,
        text.as_str(),
        now,
    )?;
    if made == 0 {
        return Err(Error::Conflict(match new.subject {
            Subject::User(_) => "the user has that role there already",
            Subject::Group(_) => "the group has that role there already",
        }));
    }
    find(tx, new.org_id, &id).await?.ok_or(Error::NotFound("binding"))
}

/// Deletes a binding that is no part of the organization itself. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, org_id: &str, id: &str) -> Result<bool> {
    let sql = "DELETE FROM bindings WHERE org_id = $1 AND id = $2 AND builtin = FALSE";
    Ok(execute!(tx, sql, org_id, id)? > 0)
}

/// The row as it is stored, joined with the names.
#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    org_id: String,
    user_id: Option<String>,
    user_name: Option<String>,
    group_id: Option<String>,
    group_name: Option<String>,
    role: String,
    role_name: Option<String>,
    project_id: Option<String>,
    project: Option<String>,
    namespaces: String,
    builtin: bool,
    created_at: i64,
    org: String,
}

impl Row {
    fn read(self) -> Result<Binding> {
        self.held().map(|held| held.binding)
    }

    fn held(self) -> Result<Held> {
        let namespaces = serde_json::from_str(&self.namespaces)
            .map_err(|_| Error::Damaged(format!("namespaces of binding {}", self.id)))?;
        let binding = Binding {
            id: self.id,
            org_id: self.org_id,
            user_id: self.user_id,
            user: self.user_name,
            group_id: self.group_id,
            group: self.group_name,
            role: self.role,
            role_name: self.role_name,
            project_id: self.project_id,
            project: self.project,
            namespaces,
            builtin: self.builtin,
            created_at: self.created_at,
        };
        Ok(Held { binding, org: self.org })
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
            subject: Subject::User(&user.id),
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
        let all = list(&mut tx, &org.id, &BindingFilter::default(), "", 9).await.unwrap();
        assert_eq!(
            (all.len(), list(&mut tx, &org.id, &BindingFilter::default(), &all[0].id, 9).await.unwrap()),
            (2, all[1..].to_vec())
        );
        assert_eq!(list_active_of_user(&mut tx, &user.id).await.unwrap().len(), 2);
        let of_member = list_of_member(&mut tx, &org.id, &user.id, &all[0].id, 9).await.unwrap();
        assert_eq!((of_member.len(), of_member[0].org.as_str()), (1, "acme"));
        let within = [project.id.clone(), "other".to_owned()];
        for (filter, found) in [
            (BindingFilter { user_id: Some(&user.id), ..BindingFilter::default() }, 2),
            (BindingFilter { group_id: Some(&user.id), ..BindingFilter::default() }, 0),
            (BindingFilter { project_id: Some(&project.id), ..BindingFilter::default() }, 1),
            (BindingFilter { role: Some("ADMIN"), ..BindingFilter::default() }, 1),
            (BindingFilter { whole: Some(true), ..BindingFilter::default() }, 1),
            (BindingFilter { whole: Some(false), project_id: Some(&project.id), ..BindingFilter::default() }, 1),
            (BindingFilter { whole: Some(true), project_id: Some(&project.id), ..BindingFilter::default() }, 0),
            (BindingFilter { within: Some(&within), ..BindingFilter::default() }, 1),
            (BindingFilter { within: Some(&[]), ..BindingFilter::default() }, 0),
        ] {
            assert_eq!(list(&mut tx, &org.id, &filter, "", 9).await.unwrap().len(), found, "{filter:?}");
        }
        let told = list_of_members(&mut tx, &org.id, &[&user.id, "nobody"], None, 9).await.unwrap();
        let texts: Vec<_> = told.iter().map(|r| (r.role.as_str(), r.project.as_deref(), r.total)).collect();
        assert_eq!(texts, [("ADMIN", None, 2), ("NAMESPACE_ADMIN", Some("acme"), 2)]);
        for (org, within, most, found) in [
            (org.id.as_str(), None, 1, 1),
            (org.id.as_str(), Some(&within[..1]), 9, 1),
            (org.id.as_str(), Some(&[][..]), 9, 0),
            ("other", None, 9, 0),
        ] {
            let told = list_of_members(&mut tx, org, &[&user.id], within, most).await.unwrap();
            assert_eq!(told.len(), found, "{within:?}, {most}");
        }
        let held = holders(&mut tx, &org.id, &["ADMIN", "AUDITOR"]).await.unwrap();
        let none = Holders { role: "AUDITOR".into(), users: 0, groups: 0 };
        assert_eq!(held, [Holders { role: "ADMIN".into(), users: 1, groups: 0 }, none]);
        let elsewhere = holders(&mut tx, "other", &["ADMIN"]).await.unwrap();
        assert_eq!((elsewhere[0].users, elsewhere[0].groups), (0, 0));
        let shut = "UPDATE orgs SET status = $1 WHERE id = $2";
        execute!(tx, shut, "suspended", org.id.as_str()).unwrap();
        assert!(list_active_of_user(&mut tx, &user.id).await.unwrap().is_empty());
        assert!(memberships::active_orgs(&mut tx, &user.id).await.unwrap().is_empty());
        execute!(tx, shut, "active", org.id.as_str()).unwrap();
        memberships::update_active(&mut tx, &org.id, &user.id, false).await.unwrap();
        assert!(list_active_of_user(&mut tx, &user.id).await.unwrap().is_empty());
        assert!(!delete(&mut tx, "other", &binding.id).await.unwrap());
        assert!(delete(&mut tx, &org.id, &binding.id).await.unwrap());
        assert!(!delete(&mut tx, &org.id, &binding.id).await.unwrap());
    }

    #[tokio::test]
    async fn no_list_looks_at_all_that_an_organization_has() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh_sqlite(dir.path()).await;
        let mut session = db.read().await.unwrap();
        let members = roles_of_members!("SELECT value FROM json_each($2)", "SELECT value FROM json_each($3)");
        for (sql, indexes) in [
            (ALL.sqlite, &["b USING INDEX bindings_by_org (org_id=? AND id>?)"][..]),
            (BY_USER.sqlite, &["b USING INDEX bindings_by_user (user_id=?)"]),
            (BY_GROUP.sqlite, &["b USING INDEX bindings_by_group (group_id=?)"]),
            (BY_PROJECT.sqlite, &["b USING INDEX bindings_of_project (project_id=? AND id>?)"]),
            (BY_ROLE.sqlite, &["b USING INDEX bindings_of_role (org_id=? AND role=? AND id>?)"]),
            (holders_of!("json_each($2) AS asked"), &["bindings_by_role (org_id=? AND role=? AND name>?)"]),
            (members, &["b USING INDEX bindings_by_user (user_id=?)", "b USING INDEX bindings_by_group (group_id=?)"]),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            let plan = query_all!(session, (i64, i64, i64, String), sqlx::AssertSqlSafe(sql)).unwrap();
            let plan: Vec<String> = plan.into_iter().map(|(.., step)| step).collect();
            for index in indexes {
                assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:#?}");
            }
        }
    }
}

//! Memberships: which users belong to which organization, and whether they are active there.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::{execute, query_all, query_one, query_opt};

/// A user as a member of one organization.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Member {
    /// The organization.
    pub org_id: String,
    /// The user.
    pub user_id: String,
    /// The user's normalised name.
    pub name: String,
    /// `local` or `machine`.
    pub kind: String,
    /// Whether the user has access to this organization at all.
    pub active: bool,
    /// Since when (unix seconds).
    pub created_at: i64,
}

/// Finds a member of an organization by user id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, user_id: &str) -> Result<Option<Member>> {
    query_opt!(
        session,
        Member,
        "SELECT m.org_id, m.user_id, u.name, u.kind, m.active, m.created_at
         FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.org_id = $1 AND m.user_id = $2",
        org_id,
        user_id,
    )
}

/// Finds a member of an organization by the user's normalised name.
///
/// # Errors
/// Those of the database.
pub async fn find_by_name(session: &mut Session, org_id: &str, name: &str) -> Result<Option<Member>> {
    query_opt!(
        session,
        Member,
        "SELECT m.org_id, m.user_id, u.name, u.kind, m.active, m.created_at
         FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.org_id = $1 AND u.name = $2",
        org_id,
        name,
    )
}

/// At most `limit` members of an organization after the name `after`, in byte order of the name.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session, org_id: &str, after: &str, limit: i64) -> Result<Vec<Member>> {
    query_all!(
        session,
        Member,
        "SELECT m.org_id, m.user_id, u.name, u.kind, m.active, m.created_at
         FROM memberships m JOIN users u ON u.id = m.user_id
         WHERE m.org_id = $1 AND u.name > $2 ORDER BY u.name LIMIT $3",
        org_id,
        after,
        limit,
    )
}

/// Ids of the living organizations in which the user is active.
///
/// # Errors
/// Those of the database.
pub async fn active_orgs(session: &mut Session, user_id: &str) -> Result<Vec<String>> {
    let rows = query_all!(
        session,
        (String,),
        "SELECT m.org_id FROM memberships m JOIN orgs o ON o.id = m.org_id
         WHERE m.user_id = $1 AND m.active = TRUE AND o.status = 'active' ORDER BY m.org_id LIMIT 10000",
        user_id,
    )?;
    Ok(rows.into_iter().map(|(org,)| org).collect())
}

/// Ids of the organizations that a user belongs to, active there or not, in their order.
///
/// # Errors
/// Those of the database.
pub async fn orgs_of_user(session: &mut Session, user_id: &str) -> Result<Vec<String>> {
    let sql = "SELECT org_id FROM memberships WHERE user_id = $1 ORDER BY org_id LIMIT 10000";
    let rows = query_all!(session, (String,), sql, user_id)?;
    Ok(rows.into_iter().map(|(org,)| org).collect())
}

/// To how many organizations a user belongs, active there or not.
///
/// # Errors
/// Those of the database.
pub async fn count_of_user(session: &mut Session, user_id: &str) -> Result<i64> {
    let (count,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM memberships WHERE user_id = $1", user_id)?;
    Ok(count)
}

/// Makes a user an active member of an organization.
///
/// # Errors
/// [`Error::Conflict`] where the user belongs to it already, else those of the database.
pub async fn create(tx: &mut Tx, org_id: &str, user_id: &str, now: i64) -> Result<Member> {
    let made = execute!(
        tx,
        "INSERT INTO memberships (org_id, user_id, active, created_at) VALUES ($1, $2, TRUE, $3)
         ON CONFLICT (org_id, user_id) DO NOTHING",
        org_id,
        user_id,
        now,
    )?;
    if made == 0 {
        return Err(Error::Conflict("the user belongs to this organization already"));
    }
    find(tx, org_id, user_id).await?.ok_or(Error::NotFound("user"))
}

/// Takes a member's access away or gives it back. True where that changed anything.
///
/// # Errors
/// Those of the database.
pub async fn update_active(tx: &mut Tx, org_id: &str, user_id: &str, active: bool) -> Result<bool> {
    let touched = execute!(
        tx,
        "UPDATE memberships SET active = $3 WHERE org_id = $1 AND user_id = $2 AND active <> $3",
        org_id,
        user_id,
        active,
    )?;
    Ok(touched > 0)
}

/// How many active members hold the role on the whole organization, by themselves or through a group, the organization's row locked until the
/// transaction ends where the engine has row locks: two who would each take one away do so one after the other.
///
/// # Errors
/// Those of the database.
pub async fn count_active_holders(tx: &mut Tx, org_id: &str, role: &str) -> Result<i64> {
    execute!(tx, "UPDATE orgs SET name = name WHERE id = $1", org_id)?;
    let (count,) = query_one!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM memberships m
         WHERE m.org_id = $1 AND m.active = TRUE AND m.user_id IN (
             SELECT b.user_id FROM bindings b
             WHERE b.org_id = $1 AND b.role = $2 AND b.project_id IS NULL AND b.user_id IS NOT NULL
             UNION SELECT x.user_id FROM bindings b JOIN group_members x ON x.group_id = b.group_id
             WHERE b.org_id = $1 AND b.role = $2 AND b.project_id IS NULL)",
        org_id,
        role,
    )?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bindings::{self, NewBinding, Subject};
    use crate::db::testing;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn members_are_added_once_deactivated_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        let mut ids = Vec::new();
        for name in ["bob", "ann"] {
            let new = NewUser { name, kind: "machine", operator: false, password_hash: None, temporary_until: None };
            let user = users::create(&mut tx, &new, 1).await.unwrap();
            create(&mut tx, &org.id, &user.id, 2).await.unwrap();
            assert!(create(&mut tx, &org.id, &user.id, 2).await.unwrap_err().is_conflict());
            let new =
                NewBinding { org_id: &org.id, subject: Subject::User(&user.id), role: "ADMIN", project_id: None, namespaces: &[] };
            bindings::create(&mut tx, &new, 3).await.unwrap();
            ids.push(user.id);
        }
        assert_eq!(count_active_holders(&mut tx, &org.id, "ADMIN").await.unwrap(), 2);
        assert!(update_active(&mut tx, &org.id, &ids[0], false).await.unwrap());
        assert!(!update_active(&mut tx, &org.id, &ids[0], false).await.unwrap());
        assert_eq!(count_active_holders(&mut tx, &org.id, "ADMIN").await.unwrap(), 1);
        assert!(active_orgs(&mut tx, &ids[0]).await.unwrap().is_empty());
        assert_eq!(active_orgs(&mut tx, &ids[1]).await.unwrap(), [org.id.as_str()]);
        let names: Vec<String> = list(&mut tx, &org.id, "", 9).await.unwrap().into_iter().map(|m| m.name).collect();
        assert_eq!(names, ["ann", "bob"]);
        assert!(!find_by_name(&mut tx, &org.id, "bob").await.unwrap().unwrap().active);
        assert_eq!(orgs::list_of_user(&mut tx, &ids[1], "", 9).await.unwrap(), [org]);
    }
}

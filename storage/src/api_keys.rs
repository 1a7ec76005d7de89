//! API keys: a user's way in by program, in one organization. Rows hold a hash of the secret.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::{execute, query_all, query_opt};

/// An API key, without its secret. `Debug` leaves the secret's hash out.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ApiKey {
    /// The public part, 40 hexadecimal characters.
    pub id: String,
    /// The organization whose bindings it carries.
    pub org_id: String,
    /// Whose rights it carries.
    pub user_id: String,
    /// What its maker called it.
    pub name: String,
    /// SHA-256 of the secret, in hexadecimal.
    pub secret_hash: String,
    /// When it was made (unix seconds).
    pub created_at: i64,
    /// When it ends (unix seconds), if ever.
    pub expires_at: Option<i64>,
    /// When it last let somebody in (unix seconds, to the minute).
    pub last_used_at: Option<i64>,
    /// Ids of the projects that it is narrowed to, as a JSON array; `None`: all of its user's.
    pub projects: Option<String>,
    /// Permissions that it is narrowed to, as a JSON array; `None`: all of its user's.
    pub permissions: Option<String>,
    /// The user who made it.
    pub created_by: Option<String>,
    /// The address from which it last let somebody in.
    pub last_used_from: Option<String>,
    /// When its owner was told that it ends soon (unix seconds).
    pub notified_at: Option<i64>,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiKey")
            .field("id", &self.id)
            .field("org_id", &self.org_id)
            .field("user_id", &self.user_id)
            .field("name", &self.name)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// What a new API key needs.
#[derive(Clone)]
#[allow(missing_debug_implementations)] // It carries a secret's hash.
pub struct NewApiKey<'a> {
    /// The public part.
    pub id: &'a str,
    /// The organization whose bindings it carries.
    pub org_id: &'a str,
    /// Whose rights it carries: a member of the organization.
    pub user_id: &'a str,
    /// What its maker calls it.
    pub name: &'a str,
    /// SHA-256 of the secret, in hexadecimal.
    pub secret_hash: &'a str,
    /// When it ends, if ever.
    pub expires_at: Option<i64>,
    /// Ids of the projects that it is narrowed to, as a JSON array.
    pub projects: Option<&'a str>,
    /// Permissions that it is narrowed to, as a JSON array.
    pub permissions: Option<&'a str>,
    /// The user who makes it.
    pub created_by: &'a str,
}

/// What a list of API keys is drawn from.
#[derive(Debug, Clone)]
pub struct ApiKeyFilter<'a> {
    /// Only of this organization.
    pub org_id: &'a str,
    /// Only of this user.
    pub user_id: Option<&'a str>,
}

/// Finds an API key by its public part.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, id: &str) -> Result<Option<ApiKey>> {
    query_opt!(session, ApiKey, "SELECT * FROM api_keys WHERE id = $1", id)
}

/// At most `limit` API keys after the id `after`, in order of the id.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session, filter: &ApiKeyFilter<'_>, after: &str, limit: i64) -> Result<Vec<ApiKey>> {
    query_all!(
        session,
        ApiKey,
        "SELECT * FROM api_keys WHERE org_id = $1 AND (CAST($2 AS TEXT) IS NULL OR user_id = $2) AND id > $3
         ORDER BY id LIMIT $4",
        filter.org_id,
        filter.user_id,
        after,
        limit,
    )
}

/// The keys of an organization, or of one of its users, that end between `now` and `until`: the first to end first.
///
/// # Errors
/// Those of the database.
pub async fn expiring(
    session: &mut Session,
    filter: &ApiKeyFilter<'_>,
    now: i64,
    until: i64,
    limit: i64,
) -> Result<Vec<ApiKey>> {
    query_all!(
        session,
        ApiKey,
        "SELECT * FROM api_keys WHERE org_id = $1 AND (CAST($2 AS TEXT) IS NULL OR user_id = $2)
         AND expires_at > $3 AND expires_at <= $4 ORDER BY expires_at, id LIMIT $5",
        filter.org_id,
        filter.user_id,
        now,
        until,
        limit,
    )
}

/// How many keys a user has in an organization.
///
/// # Errors
/// Those of the database.
pub async fn count(session: &mut Session, org_id: &str, user_id: &str) -> Result<i64> {
    let (count,) = crate::query_one!(
        session,
        (i64,),
        "SELECT COUNT(*) FROM api_keys WHERE org_id = $1 AND user_id = $2",
        org_id,
        user_id,
    )?;
    Ok(count)
}

/// How many keys each of these users has in an organization, of those who have any.
///
/// # Errors
/// Those of the database.
pub async fn counts(session: &mut Session, org_id: &str, user_ids: &[&str]) -> Result<Vec<(String, i64)>> {
    let users = serde_json::to_string(user_ids).map_err(|e| Error::Damaged(e.to_string()))?;
    crate::query_all_each!(
        session,
        (String, i64),
        "SELECT user_id, COUNT(*) FROM api_keys
         WHERE org_id = $1 AND user_id IN (SELECT value FROM json_each($2)) GROUP BY user_id",
        "SELECT user_id, COUNT(*) FROM api_keys
         WHERE org_id = $1 AND user_id IN (SELECT json_array_elements_text(CAST(CAST($2 AS TEXT) AS JSON)))
         GROUP BY user_id",
        org_id,
        users.as_str(),
    )
}

/// Creates an API key.
///
/// # Errors
/// [`Error::Conflict`] where the id is taken, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewApiKey<'_>, now: i64) -> Result<ApiKey> {
    execute!(
        tx,
        "INSERT INTO api_keys (id, org_id, user_id, name, secret_hash, created_at, expires_at, last_used_at, projects,
                               permissions, created_by)
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, $8, $9, $10)",
        new.id,
        new.org_id,
        new.user_id,
        new.name,
        new.secret_hash,
        now,
        new.expires_at,
        new.projects,
        new.permissions,
        new.created_by,
    )?;
    find(tx, new.id).await?.ok_or(Error::NotFound("API key"))
}

/// Notes that a key was used, and from which address.
///
/// # Errors
/// Those of the database.
pub async fn touch(tx: &mut Tx, id: &str, now: i64, from: Option<&str>) -> Result<()> {
    execute!(
        tx,
        "UPDATE api_keys SET last_used_at = $2, last_used_from = COALESCE($3, last_used_from) WHERE id = $1",
        id,
        now,
        from,
    )?;
    Ok(())
}

/// At most `limit` keys that end after `now` and no later than `until`, and whose owners were not told yet. Each is noted as
/// told: of all who ask at the same time, one gets it. Keys that never were longer than `until - now` are left out.
///
/// # Errors
/// Those of the database.
pub async fn take_expiring(tx: &mut Tx, now: i64, until: i64, limit: i64) -> Result<Vec<ApiKey>> {
    // The outer condition is asked again of a row that another process just took; the inner one is not.
    query_all!(
        tx,
        ApiKey,
        "UPDATE api_keys SET notified_at = $1
         WHERE notified_at IS NULL AND id IN
               (SELECT id FROM api_keys WHERE expires_at > $1 AND expires_at <= $2 AND notified_at IS NULL
                       AND expires_at - created_at > $2 - $1 ORDER BY expires_at, id LIMIT $3)
         RETURNING *",
        now,
        until,
        limit,
    )
}

/// Deletes an API key. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM api_keys WHERE id = $1", id)? > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::memberships;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn keys_are_made_found_listed_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        let new = NewUser { name: "ci", kind: "machine", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap();
        memberships::create(&mut tx, &org.id, &user.id, 1).await.unwrap();
        for id in ["aa", "bb"] {
            let new = NewApiKey {
                id,
                org_id: &org.id,
                user_id: &user.id,
                name: "build",
                secret_hash: "5ec",
                expires_at: (id == "bb").then_some(90),
                projects: Some("[]"),
                permissions: None,
                created_by: &user.id,
            };
            let key = create(&mut tx, &new, 2).await.unwrap();
            assert!(!format!("{key:?}").contains("5ec"));
            assert_eq!(key.expires_at, new.expires_at);
        }
        assert_eq!(count(&mut tx, &org.id, &user.id).await.unwrap(), 2);
        touch(&mut tx, "aa", 77, Some("192.0.2.7")).await.unwrap();
        touch(&mut tx, "aa", 78, None).await.unwrap();
        let used = find(&mut tx, "aa").await.unwrap().unwrap();
        assert_eq!((used.last_used_at, used.last_used_from.as_deref()), (Some(78), Some("192.0.2.7")));
        assert_eq!((used.projects.as_deref(), used.created_by), (Some("[]"), Some(user.id.clone())));
        assert!(take_expiring(&mut tx, 79, 89, 9).await.unwrap().is_empty(), "not yet");
        assert!(take_expiring(&mut tx, 2, 91, 9).await.unwrap().is_empty(), "it never had longer");
        assert_eq!(take_expiring(&mut tx, 81, 91, 9).await.unwrap()[0].id, "bb");
        assert!(take_expiring(&mut tx, 82, 92, 9).await.unwrap().is_empty(), "told once");
        let all = ApiKeyFilter { org_id: &org.id, user_id: None };
        assert_eq!(list(&mut tx, &all, "", 9).await.unwrap().len(), 2);
        assert_eq!(list(&mut tx, &all, "aa", 9).await.unwrap()[0].id, "bb");
        let theirs = ApiKeyFilter { org_id: &org.id, user_id: Some("somebody else") };
        assert!(list(&mut tx, &theirs, "", 9).await.unwrap().is_empty());
        assert!(delete(&mut tx, "aa").await.unwrap());
        assert!(!delete(&mut tx, "aa").await.unwrap());
    }
}

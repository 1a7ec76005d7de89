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
    /// When it last let somebody in (unix seconds, to the hour).
    pub last_used_at: Option<i64>,
    /// Ids of the projects that it is narrowed to: a JSON array.
    pub projects: Option<String>,
    /// The permissions that it is narrowed to: a JSON array.
    pub permissions: Option<String>,
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

/// Creates an API key.
///
/// # Errors
/// [`Error::Conflict`] where the id is taken, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewApiKey<'_>, now: i64) -> Result<ApiKey> {
    execute!(
        tx,
        "INSERT INTO api_keys (id, org_id, user_id, name, secret_hash, created_at, expires_at, last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, NULL)",
        new.id,
        new.org_id,
        new.user_id,
        new.name,
        new.secret_hash,
        now,
        new.expires_at,
    )?;
    find(tx, new.id).await?.ok_or(Error::NotFound("API key"))
}

/// Notes that a key was used.
///
/// # Errors
/// Those of the database.
pub async fn touch(tx: &mut Tx, id: &str, now: i64) -> Result<()> {
    execute!(tx, "UPDATE api_keys SET last_used_at = $2 WHERE id = $1", id, now)?;
    Ok(())
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
                expires_at: (id == "bb").then_some(9),
            };
            let key = create(&mut tx, &new, 2).await.unwrap();
            assert!(!format!("{key:?}").contains("5ec"));
            assert_eq!(key.expires_at, new.expires_at);
        }
        assert_eq!(count(&mut tx, &org.id, &user.id).await.unwrap(), 2);
        touch(&mut tx, "aa", 77).await.unwrap();
        assert_eq!(find(&mut tx, "aa").await.unwrap().unwrap().last_used_at, Some(77));
        let all = ApiKeyFilter { org_id: &org.id, user_id: None };
        assert_eq!(list(&mut tx, &all, "", 9).await.unwrap().len(), 2);
        assert_eq!(list(&mut tx, &all, "aa", 9).await.unwrap()[0].id, "bb");
        let theirs = ApiKeyFilter { org_id: &org.id, user_id: Some("somebody else") };
        assert!(list(&mut tx, &theirs, "", 9).await.unwrap().is_empty());
        assert!(delete(&mut tx, "aa").await.unwrap());
        assert!(!delete(&mut tx, "aa").await.unwrap());
    }
}

//! Refresh tokens, which docker keeps instead of a password, by hash. Good until revoked or long unused.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::{execute, query_opt};

/// A refresh token.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct RefreshToken {
    /// SHA-256 of the token, in hexadecimal.
    pub token_hash: String,
    /// Who logged in.
    pub user_id: String,
    /// The user's epoch then: the token ends when it moves.
    pub epoch: i64,
    /// The service it was asked for.
    pub service: String,
    /// When it was made (unix seconds).
    pub created_at: i64,
    /// When it was last used (unix seconds, to the day).
    pub last_used_at: i64,
}

/// Finds a refresh token by its hash.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, token_hash: &str) -> Result<Option<RefreshToken>> {
    query_opt!(session, RefreshToken, "SELECT * FROM refresh_tokens WHERE token_hash = $1", token_hash)
}

/// Creates a refresh token, and leaves the user the `keep` most recently used ones.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut Tx, new: &RefreshToken, keep: i64) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO refresh_tokens (token_hash, user_id, epoch, service, created_at, last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6)",
        new.token_hash.as_str(),
        new.user_id.as_str(),
        new.epoch,
        new.service.as_str(),
        new.created_at,
        new.last_used_at,
    )?;
    execute!(
        tx,
        "DELETE FROM refresh_tokens WHERE token_hash IN
            (SELECT token_hash FROM refresh_tokens WHERE user_id = $1
             ORDER BY last_used_at DESC, created_at DESC, token_hash LIMIT 100 OFFSET $2)",
        new.user_id.as_str(),
        keep,
    )?;
    Ok(())
}

/// Notes that a token was used.
///
/// # Errors
/// Those of the database.
pub async fn touch(tx: &mut Tx, token_hash: &str, now: i64) -> Result<()> {
    execute!(tx, "UPDATE refresh_tokens SET last_used_at = $2 WHERE token_hash = $1", token_hash, now)?;
    Ok(())
}

/// Takes away the tokens that nobody used since `unused_since`, and those that an epoch ended; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, unused_since: i64) -> Result<u64> {
    execute!(
        tx,
        "DELETE FROM refresh_tokens WHERE last_used_at < $1
            OR EXISTS (SELECT 1 FROM users u WHERE u.id = refresh_tokens.user_id AND u.epoch <> refresh_tokens.epoch)",
        unused_since,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn tokens_are_kept_by_use_and_purged_by_age_and_epoch() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap();
        for (hash, at) in [("a", 1), ("b", 2), ("c", 3)] {
            let new = RefreshToken {
                token_hash: hash.into(),
                user_id: user.id.clone(),
                epoch: 1,
                service: "wharfinger".into(),
                created_at: at,
                last_used_at: at,
            };
            create(&mut tx, &new, 2).await.unwrap();
        }
        assert_eq!(find(&mut tx, "a").await.unwrap(), None);
        touch(&mut tx, "b", 9).await.unwrap();
        assert_eq!(purge(&mut tx, 4).await.unwrap(), 1);
        assert_eq!(find(&mut tx, "b").await.unwrap().unwrap().last_used_at, 9);
        users::bump_epoch(&mut tx, &user.id).await.unwrap();
        assert_eq!(purge(&mut tx, 4).await.unwrap(), 1);
    }
}

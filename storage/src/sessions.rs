//! Console sessions, by the hash of their cookie.

use crate::db::{Session as Connection, Tx};
use crate::error::Result;
use crate::{execute, query_opt};

/// A console session.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Session {
    /// Public id, by which it is listed and ended.
    pub id: String,
    /// SHA-256 of the cookie's value, in hexadecimal.
    pub token_hash: String,
    /// Who logged in.
    pub user_id: String,
    /// The user's epoch then: the session ends when it moves.
    pub epoch: i64,
    /// When it began (unix seconds).
    pub created_at: i64,
    /// When it ends in any case (unix seconds).
    pub expires_at: i64,
}

/// Finds a session by the hash of its cookie.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Connection, token_hash: &str) -> Result<Option<Session>> {
    query_opt!(session, Session, "SELECT * FROM sessions WHERE token_hash = $1", token_hash)
}

/// Creates a session.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut Tx, new: &Session) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO sessions (id, token_hash, user_id, epoch, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6)",
        new.id.as_str(),
        new.token_hash.as_str(),
        new.user_id.as_str(),
        new.epoch,
        new.created_at,
        new.expires_at,
    )?;
    Ok(())
}

/// Leaves a user the `keep` youngest sessions.
///
/// # Errors
/// Those of the database.
pub async fn trim(tx: &mut Tx, user_id: &str, keep: i64) -> Result<()> {
    execute!(
        tx,
        "DELETE FROM sessions WHERE user_id = $1 AND token_hash NOT IN
            (SELECT token_hash FROM sessions WHERE user_id = $1 ORDER BY created_at DESC, token_hash LIMIT $2)",
        user_id,
        keep,
    )?;
    Ok(())
}

/// Ends a session. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, token_hash: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM sessions WHERE token_hash = $1", token_hash)? > 0)
}

/// Takes away the sessions that have ended, by time or by epoch; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, now: i64) -> Result<u64> {
    execute!(
        tx,
        "DELETE FROM sessions WHERE expires_at <= $1
            OR EXISTS (SELECT 1 FROM users u WHERE u.id = sessions.user_id AND u.epoch <> sessions.epoch)",
        now,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::names::new_id;
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn sessions_end_by_hand_by_time_by_epoch_and_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap();
        for (hash, created_at) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            let new = Session {
                id: new_id(),
                token_hash: hash.into(),
                user_id: user.id.clone(),
                epoch: 1,
                created_at,
                expires_at: created_at + 10,
            };
            create(&mut tx, &new).await.unwrap();
        }
        trim(&mut tx, &user.id, 3).await.unwrap();
        assert_eq!(find(&mut tx, "a").await.unwrap(), None);
        assert!(delete(&mut tx, "b").await.unwrap());
        assert_eq!(purge(&mut tx, 13).await.unwrap(), 1);
        assert_eq!(find(&mut tx, "d").await.unwrap().unwrap().created_at, 4);
        users::bump_epoch(&mut tx, &user.id).await.unwrap();
        assert_eq!(purge(&mut tx, 13).await.unwrap(), 1);
    }
}

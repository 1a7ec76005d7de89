//! Sessions of the console and of the command line, by the hash of their secret.

use crate::db::{Session as Connection, Tx};
use crate::error::Result;
use crate::{execute, query_all, query_opt};

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Session {
    /// Public id, by which it is listed and ended.
    pub id: String,
    /// SHA-256 of the cookie's value or the bearer token, in hexadecimal.
    pub token_hash: String,
    /// Who logged in.
    pub user_id: String,
    /// The user's epoch then: the session ends when it moves.
    pub epoch: i64,
    /// `browser` or `cli`.
    pub kind: String,
    /// The organization that was chosen.
    pub org_id: Option<String>,
    /// Whether a second factor was shown, or a passkey.
    pub second_factor: bool,
    /// From where it was begun.
    pub address: String,
    /// What the client called itself.
    pub agent: String,
    /// When it began (unix seconds).
    pub created_at: i64,
    /// When it was last used (unix seconds, to the minute).
    pub last_seen_at: i64,
    /// When it ends in any case (unix seconds).
    pub expires_at: i64,
}

/// Finds a session by the hash of its secret.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Connection, token_hash: &str) -> Result<Option<Session>> {
    query_opt!(session, Session, "SELECT * FROM sessions WHERE token_hash = $1", token_hash)
}

/// At most `limit` sessions of a user that no time and no epoch has ended, after the id `after`, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn list_of_user(
    session: &mut Connection,
    user_id: &str,
    now: i64,
    after: &str,
    limit: i64,
) -> Result<Vec<Session>> {
    query_all!(
        session,
        Session,
        "SELECT s.* FROM sessions s JOIN users u ON u.id = s.user_id AND u.epoch = s.epoch
         WHERE s.user_id = $1 AND s.expires_at > $2 AND s.id > $3 ORDER BY s.id LIMIT $4",
        user_id,
        now,
        after,
        limit,
    )
}

/// Creates a session.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut Tx, new: &Session) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO sessions (id, token_hash, user_id, epoch, kind, org_id, second_factor, address, agent, created_at,
                               last_seen_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        new.id.as_str(),
        new.token_hash.as_str(),
        new.user_id.as_str(),
        new.epoch,
        new.kind.as_str(),
        new.org_id.as_deref(),
        new.second_factor,
        new.address.as_str(),
        new.agent.as_str(),
        new.created_at,
        new.last_seen_at,
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

/// Notes that a session is used.
///
/// # Errors
/// Those of the database.
pub async fn touch(tx: &mut Tx, token_hash: &str, now: i64) -> Result<()> {
    execute!(tx, "UPDATE sessions SET last_seen_at = $2 WHERE token_hash = $1 AND last_seen_at < $2", token_hash, now)?;
    Ok(())
}

/// Chooses the session's organization, and gives it another secret.
///
/// # Errors
/// [`Error::NotFound`](crate::Error::NotFound) where the session has ended, else those of the database.
pub async fn update_org(tx: &mut Tx, token_hash: &str, org_id: &str, new_hash: &str) -> Result<()> {
    let touched = execute!(
        tx,
        "UPDATE sessions SET org_id = $2, token_hash = $3 WHERE token_hash = $1",
        token_hash,
        org_id,
        new_hash,
    )?;
    if touched == 0 { Err(crate::Error::NotFound("session")) } else { Ok(()) }
}

/// Ends a session. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, token_hash: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM sessions WHERE token_hash = $1", token_hash)? > 0)
}

/// Ends a user's session by its public id. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn delete_by_id(tx: &mut Tx, user_id: &str, id: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM sessions WHERE user_id = $1 AND id = $2", user_id, id)? > 0)
}

/// Ends a user's sessions but the one of that id; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn delete_others(tx: &mut Tx, user_id: &str, id: &str) -> Result<u64> {
    execute!(tx, "DELETE FROM sessions WHERE user_id = $1 AND id <> $2", user_id, id)
}

/// Ends a user's sessions in which this organization is the chosen one; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn delete_in_org(tx: &mut Tx, user_id: &str, org_id: &str) -> Result<u64> {
    execute!(tx, "DELETE FROM sessions WHERE user_id = $1 AND org_id = $2", user_id, org_id)
}

/// Takes away the sessions that have ended, by time or by epoch; returns how many. One whose epoch moved is kept for five
/// minutes after it was last used: whoever moved it by changing their own password goes on with it, in another transaction.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, now: i64) -> Result<u64> {
    execute!(
        tx,
        "DELETE FROM sessions WHERE expires_at <= $1
            OR (last_seen_at <= $1 - 300
                AND EXISTS (SELECT 1 FROM users u WHERE u.id = sessions.user_id AND u.epoch <> sessions.epoch))",
        now,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::users::{self, NewUser};

    fn made(user_id: &str, hash: &str, at: i64) -> Session {
        Session {
            id: format!("id-{hash}"),
            token_hash: hash.into(),
            user_id: user_id.into(),
            epoch: 1,
            kind: "browser".into(),
            org_id: Some("o".into()),
            second_factor: true,
            address: "192.0.2.1".into(),
            agent: "test".into(),
            created_at: at,
            last_seen_at: at,
            expires_at: at + 10,
        }
    }

    #[tokio::test]
    async fn sessions_end_by_hand_by_time_by_epoch_and_by_number() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap();
        for (hash, at) in [("a", 1), ("b", 2), ("c", 3), ("d", 4)] {
            create(&mut tx, &made(&user.id, hash, at)).await.unwrap();
        }
        trim(&mut tx, &user.id, 3).await.unwrap();
        assert_eq!(find(&mut tx, "a").await.unwrap(), None);
        assert!(delete(&mut tx, "b").await.unwrap());
        let listed = list_of_user(&mut tx, &user.id, 12, "", 10).await.unwrap();
        assert_eq!(listed.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["id-c", "id-d"]);
        assert_eq!(list_of_user(&mut tx, &user.id, 13, "id-c", 10).await.unwrap(), [made(&user.id, "d", 4)]);
        assert_eq!(purge(&mut tx, 13).await.unwrap(), 1);
        assert_eq!(find(&mut tx, "d").await.unwrap().unwrap().created_at, 4);
        users::bump_epoch(&mut tx, &user.id).await.unwrap();
        assert!(list_of_user(&mut tx, &user.id, 5, "", 10).await.unwrap().is_empty());
        assert_eq!(purge(&mut tx, 13).await.unwrap(), 0);
        assert_eq!(purge(&mut tx, 304).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn sessions_are_used_switched_and_ended_one_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap();
        for hash in ["a", "b", "c", "d"] {
            create(&mut tx, &made(&user.id, hash, 1)).await.unwrap();
        }
        touch(&mut tx, "a", 9).await.unwrap();
        touch(&mut tx, "a", 8).await.unwrap();
        assert_eq!(find(&mut tx, "a").await.unwrap().unwrap().last_seen_at, 9);
        update_org(&mut tx, "a", "p", "a2").await.unwrap();
        assert!(update_org(&mut tx, "a", "p", "a3").await.is_err());
        assert_eq!(find(&mut tx, "a2").await.unwrap().unwrap().org_id.as_deref(), Some("p"));
        assert!(delete_by_id(&mut tx, &user.id, "id-b").await.unwrap());
        assert!(!delete_by_id(&mut tx, "somebody else", "id-c").await.unwrap());
        assert_eq!(delete_in_org(&mut tx, &user.id, "p").await.unwrap(), 1);
        assert_eq!(delete_others(&mut tx, &user.id, "id-c").await.unwrap(), 1);
        assert!(find(&mut tx, "c").await.unwrap().is_some());
    }
}

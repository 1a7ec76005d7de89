//! One-time things in flight, by the hash of their secret: a log-in that waits for its second factor, passkey ceremonies,
//! password resets. Each is bound to the epoch that its user had when it was made, so whatever moves that voids it.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::{execute, query_opt};

/// Challenges of one kind that a user may have at a time; the oldest make room.
const PER_USER: i64 = 20;

/// Something in flight. `Debug` leaves its data out.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Challenge {
    /// SHA-256 of the secret, in hexadecimal.
    pub secret_hash: String,
    /// What it is for: `login`, `passkey-login`, `passkey-add`, `reset`.
    pub kind: String,
    /// Whose it is, where that is known.
    pub user_id: Option<String>,
    /// The user's epoch then; 0 without a user.
    pub epoch: i64,
    /// What its kind needs to go on.
    pub data: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it was made (unix seconds).
    pub created_at: i64,
    /// When it ends (unix seconds).
    pub expires_at: i64,
}

impl std::fmt::Debug for Challenge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Challenge")
            .field("kind", &self.kind)
            .field("user_id", &self.user_id)
            .field("attempts", &self.attempts)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// Puts something in flight, and leaves its user the youngest twenty of its kind.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut Tx, new: &Challenge) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO challenges (secret_hash, kind, user_id, epoch, data, attempts, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
        new.secret_hash.as_str(),
        new.kind.as_str(),
        new.user_id.as_deref(),
        new.epoch,
        new.data.as_str(),
        new.attempts,
        new.created_at,
        new.expires_at,
    )?;
    if let Some(user_id) = &new.user_id {
        execute!(
            tx,
            "DELETE FROM challenges WHERE user_id = $1 AND kind = $2 AND secret_hash NOT IN
                (SELECT secret_hash FROM challenges WHERE user_id = $1 AND kind = $2
                 ORDER BY created_at DESC, secret_hash LIMIT $3)",
            user_id.as_str(),
            new.kind.as_str(),
            PER_USER,
        )?;
    }
    Ok(())
}

/// Finds something of a kind that has not ended, by the hash of its secret.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, kind: &str, secret_hash: &str, now: i64) -> Result<Option<Challenge>> {
    query_opt!(
        session,
        Challenge,
        "SELECT * FROM challenges WHERE secret_hash = $2 AND kind = $1 AND expires_at > $3",
        kind,
        secret_hash,
        now,
    )
}

/// As [`find`], counting one more try, atomically; `None` also where it was tried `most` times.
///
/// # Errors
/// Those of the database.
pub async fn try_once(tx: &mut Tx, kind: &str, secret_hash: &str, most: i64, now: i64) -> Result<Option<Challenge>> {
    query_opt!(
        tx,
        Challenge,
        "UPDATE challenges SET attempts = attempts + 1
         WHERE secret_hash = $2 AND kind = $1 AND expires_at > $4 AND attempts < $3 RETURNING *",
        kind,
        secret_hash,
        most,
        now,
    )
}

/// Takes something out of flight: of all who try to at the same time, one gets it.
///
/// # Errors
/// Those of the database.
pub async fn take(tx: &mut Tx, kind: &str, secret_hash: &str, now: i64) -> Result<Option<Challenge>> {
    query_opt!(
        tx,
        Challenge,
        "DELETE FROM challenges WHERE secret_hash = $2 AND kind = $1 AND expires_at > $3 RETURNING *",
        kind,
        secret_hash,
        now,
    )
}

/// Takes everything of a kind out of flight that is a user's; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn delete_of_user(tx: &mut Tx, kind: &str, user_id: &str) -> Result<u64> {
    execute!(tx, "DELETE FROM challenges WHERE user_id = $2 AND kind = $1", kind, user_id)
}

/// Takes away what has ended; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, now: i64) -> Result<u64> {
    execute!(tx, "DELETE FROM challenges WHERE expires_at <= $1", now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn a_challenge_is_taken_once_tried_a_few_times_and_ends() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap();
        let made = |hash: &str, kind: &str, user_id: Option<&str>, at| Challenge {
            secret_hash: hash.into(),
            kind: kind.into(),
            user_id: user_id.map(Into::into),
            epoch: 1,
            data: "{}".into(),
            attempts: 0,
            created_at: at,
            expires_at: at + 10,
        };
        create(&mut tx, &made("a", "login", Some(&user.id), 1)).await.unwrap();
        create(&mut tx, &made("b", "reset", None, 1)).await.unwrap();
        assert!(find(&mut tx, "login", "a", 10).await.unwrap().is_some());
        assert_eq!(find(&mut tx, "reset", "a", 10).await.unwrap(), None, "of another kind");
        assert_eq!(find(&mut tx, "login", "a", 11).await.unwrap(), None, "ended");
        for attempts in 1..=3 {
            assert_eq!(try_once(&mut tx, "login", "a", 3, 2).await.unwrap().unwrap().attempts, attempts);
        }
        assert_eq!(try_once(&mut tx, "login", "a", 3, 2).await.unwrap(), None);
        assert!(take(&mut tx, "login", "a", 2).await.unwrap().is_some());
        assert_eq!(take(&mut tx, "login", "a", 2).await.unwrap(), None);
        assert_eq!(take(&mut tx, "reset", "b", 11).await.unwrap(), None, "ended");
        assert_eq!(purge(&mut tx, 11).await.unwrap(), 1);

        for at in 0..PER_USER + 5 {
            create(&mut tx, &made(&format!("c{at:03}"), "login", Some(&user.id), at)).await.unwrap();
        }
        assert_eq!(find(&mut tx, "login", "c004", 5).await.unwrap(), None, "the oldest made room");
        assert!(find(&mut tx, "login", "c005", 5).await.unwrap().is_some());
        assert_eq!(delete_of_user(&mut tx, "reset", &user.id).await.unwrap(), 0);
        assert_eq!(delete_of_user(&mut tx, "login", &user.id).await.unwrap(), 20);
    }
}

//! A user's second factor by time-based codes, kept in the user's row. It counts once it was confirmed by a code.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::{execute, query_opt};

/// The secret of a user, sealed. `Debug` leaves it out.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Totp {
    /// The secret under the master key.
    pub sealed: String,
    /// When a code proved that the user has it (unix seconds).
    pub confirmed_at: Option<i64>,
    /// The last time step that a code was taken of.
    pub last_step: i64,
}

impl std::fmt::Debug for Totp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Totp").field("confirmed_at", &self.confirmed_at).finish_non_exhaustive()
    }
}

/// Finds a user's secret, confirmed or not.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, user_id: &str) -> Result<Option<Totp>> {
    query_opt!(
        session,
        Totp,
        "SELECT totp_sealed AS sealed, totp_confirmed_at AS confirmed_at, totp_last_step AS last_step
         FROM users WHERE id = $1 AND totp_sealed IS NOT NULL",
        user_id,
    )
}

/// Keeps a new secret until it is confirmed. False where a confirmed one is there.
///
/// # Errors
/// Those of the database.
pub async fn propose(tx: &mut Tx, user_id: &str, sealed: &str) -> Result<bool> {
    let touched = execute!(
        tx,
        "UPDATE users SET totp_sealed = $2, totp_last_step = 0 WHERE id = $1 AND totp_confirmed_at IS NULL",
        user_id,
        sealed,
    )?;
    Ok(touched > 0)
}

/// Makes this very secret count from now on, its code of `step` being spent. False where it is another, or counts already.
///
/// # Errors
/// Those of the database.
pub async fn confirm(tx: &mut Tx, user_id: &str, sealed: &str, step: i64, now: i64) -> Result<bool> {
    let touched = execute!(
        tx,
        "UPDATE users SET totp_confirmed_at = $4, totp_last_step = $3
         WHERE id = $1 AND totp_sealed = $2 AND totp_confirmed_at IS NULL",
        user_id,
        sealed,
        step,
        now,
    )?;
    Ok(touched > 0)
}

/// Spends the code of a step: of all who show it at the same time, one gets true (RFC 6238 §5.2), and no older one after it.
///
/// # Errors
/// Those of the database.
pub async fn spend(tx: &mut Tx, user_id: &str, sealed: &str, step: i64) -> Result<bool> {
    let touched = execute!(
        tx,
        "UPDATE users SET totp_last_step = $3
         WHERE id = $1 AND totp_sealed = $2 AND totp_confirmed_at IS NOT NULL AND totp_last_step < $3",
        user_id,
        sealed,
        step,
    )?;
    Ok(touched > 0)
}

/// Takes a user's secret away. True where a confirmed one was there.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, user_id: &str) -> Result<bool> {
    let confirmed = find(tx, user_id).await?.is_some_and(|totp| totp.confirmed_at.is_some());
    execute!(
        tx,
        "UPDATE users SET totp_sealed = NULL, totp_confirmed_at = NULL, totp_last_step = 0 WHERE id = $1",
        user_id,
    )?;
    Ok(confirmed)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn a_secret_counts_once_confirmed_and_a_step_is_spent_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let id = users::create(&mut tx, &new, 1).await.unwrap().id;
        assert_eq!(find(&mut tx, &id).await.unwrap(), None);
        assert!(propose(&mut tx, &id, "first").await.unwrap() && propose(&mut tx, &id, "second").await.unwrap());
        assert!(!spend(&mut tx, &id, "second", 10).await.unwrap(), "not confirmed");
        assert!(!confirm(&mut tx, &id, "first", 10, 300).await.unwrap(), "replaced");
        assert!(confirm(&mut tx, &id, "second", 10, 300).await.unwrap());
        assert!(!confirm(&mut tx, &id, "second", 11, 330).await.unwrap());
        assert!(!propose(&mut tx, &id, "third").await.unwrap());
        assert!(!spend(&mut tx, &id, "second", 10).await.unwrap() && !spend(&mut tx, &id, "second", 9).await.unwrap());
        assert!(spend(&mut tx, &id, "second", 11).await.unwrap() && !spend(&mut tx, &id, "second", 11).await.unwrap());
        let known = find(&mut tx, &id).await.unwrap().unwrap();
        assert_eq!((known.confirmed_at, known.last_step), (Some(300), 11));
        assert!(!format!("{known:?}").contains("second"));
        assert!(delete(&mut tx, &id).await.unwrap() && !delete(&mut tx, &id).await.unwrap());
    }
}

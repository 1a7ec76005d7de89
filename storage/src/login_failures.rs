//! Failed password log-ins, by a hash of the name that was typed, whether or not somebody goes by it.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::{execute, query_all_each, query_one, query_opt};

/// How often a name failed in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct LoginFailures {
    /// Failures in a row since [`LoginFailures::first_at`].
    pub failures: i64,
    /// The first of them (unix seconds).
    pub first_at: i64,
    /// No password lets in before this time (unix seconds); 0 where nothing is locked.
    pub locked_until: i64,
}

/// When failures lock a name, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockoutRule {
    /// Failures in a row that lock.
    pub failures: i64,
    /// Seconds within which they count, and for which the lock then holds.
    pub window: i64,
}

/// Finds what a name has failed.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, name_hash: &str) -> Result<Option<LoginFailures>> {
    query_opt!(
        session,
        LoginFailures,
        "SELECT failures, first_at, locked_until FROM login_failures WHERE name_hash = $1",
        name_hash,
    )
}

/// Which of these names are locked, and until when.
///
/// # Errors
/// Those of the database.
pub async fn locked(session: &mut Session, name_hashes: &[&str], now: i64) -> Result<Vec<(String, i64)>> {
    let hashes = serde_json::to_string(name_hashes).map_err(|e| Error::Damaged(e.to_string()))?;
    query_all_each!(
        session,
        (String, i64),
        "SELECT name_hash, locked_until FROM login_failures
         WHERE locked_until > $2 AND name_hash IN (SELECT value FROM json_each($1))",
        "SELECT name_hash, locked_until FROM login_failures
         WHERE locked_until > $2 AND name_hash IN (SELECT json_array_elements_text(CAST(CAST($1 AS TEXT) AS JSON)))",
        hashes.as_str(),
        now,
    )
}

/// Counts one more failure, atomically, and locks where the rule says so.
///
/// # Errors
/// Those of the database.
pub async fn record(tx: &mut Tx, name_hash: &str, rule: LockoutRule, now: i64) -> Result<LoginFailures> {
    query_one!(
        tx,
        LoginFailures,
        "INSERT INTO login_failures AS f (name_hash, failures, first_at, last_at, locked_until)
         VALUES ($1, 1, $2, $2, CASE WHEN $3 <= 1 THEN $2 + $4 ELSE 0 END)
         ON CONFLICT (name_hash) DO UPDATE SET
            failures = CASE WHEN f.first_at + $4 <= $2 THEN 1 ELSE f.failures + 1 END,
            first_at = CASE WHEN f.first_at + $4 <= $2 THEN $2 ELSE f.first_at END,
            last_at = $2,
            locked_until = CASE
                WHEN (CASE WHEN f.first_at + $4 <= $2 THEN 1 ELSE f.failures + 1 END) >= $3 THEN $2 + $4
                ELSE 0 END
         RETURNING failures, first_at, locked_until",
        name_hash,
        now,
        rule.failures,
        rule.window,
    )
}

/// Forgets what a name has failed: after a success, or when an admin unlocks it.
///
/// # Errors
/// Those of the database.
pub async fn clear(tx: &mut Tx, name_hash: &str) -> Result<()> {
    execute!(tx, "DELETE FROM login_failures WHERE name_hash = $1", name_hash)?;
    Ok(())
}

/// Takes away what no longer counts; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, rule: LockoutRule, now: i64) -> Result<u64> {
    execute!(tx, "DELETE FROM login_failures WHERE last_at + $2 <= $1 AND locked_until <= $1", now, rule.window)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;

    const RULE: LockoutRule = LockoutRule { failures: 3, window: 100 };

    #[tokio::test]
    async fn failures_in_a_row_lock_and_old_ones_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        assert_eq!(record(&mut tx, "h", RULE, 1000).await.unwrap().failures, 1);
        assert_eq!(record(&mut tx, "h", RULE, 1050).await.unwrap().failures, 2);
        let fresh = record(&mut tx, "h", RULE, 1100).await.unwrap();
        assert_eq!((fresh.failures, fresh.first_at, fresh.locked_until), (1, 1100, 0));
        record(&mut tx, "h", RULE, 1101).await.unwrap();
        let locked = record(&mut tx, "h", RULE, 1102).await.unwrap();
        assert_eq!((locked.failures, locked.locked_until), (3, 1202));
        assert_eq!(find(&mut tx, "h").await.unwrap(), Some(locked));
        let locked_at = async |tx: &mut Tx, now| super::locked(tx, &["h", "i"], now).await.unwrap();
        assert_eq!(locked_at(&mut tx, 1201).await, [("h".to_owned(), 1202)]);
        assert_eq!(locked_at(&mut tx, 1202).await, []);
        assert_eq!(purge(&mut tx, RULE, 1201).await.unwrap(), 0);
        clear(&mut tx, "h").await.unwrap();
        assert_eq!(find(&mut tx, "h").await.unwrap(), None);
        record(&mut tx, "i", RULE, 1).await.unwrap();
        assert_eq!(purge(&mut tx, RULE, 101).await.unwrap(), 1);
    }
}

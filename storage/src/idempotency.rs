//! Creates that were answered, so that whoever repeats one gets the same answer instead of a second thing.

use crate::db::Tx;
use crate::error::Result;
use crate::{execute, query_opt};

/// How long an answer is kept, in seconds.
pub const KEPT: i64 = 86_400;
/// How long a request may run before its key may be used anew, in seconds: the process that ran it is gone.
pub const RUNNING: i64 = 600;

/// What a key stands for at this moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Nothing so far: the request may run, and [`finish`] or [`abandon`] must follow.
    New,
    /// The first request with this key still runs.
    Running,
    /// The key belongs to another request.
    Mismatch,
    /// It was answered.
    Answered(String),
    /// It was answered with an API key, which was revoked since.
    Gone,
}

#[derive(sqlx::FromRow)]
struct Row {
    request_hash: String,
    sealed: Option<String>,
    created_at: i64,
}

/// Takes a key for a request, or tells what became of the request that took it first.
///
/// # Errors
/// Those of the database.
pub async fn begin(tx: &mut Tx, key_hash: &str, request_hash: &str, now: i64) -> Result<Begun> {
    // At most two rounds: the first may find a row whose time is over.
    for _ in 0..2 {
        let made = execute!(
            tx,
            "INSERT INTO idempotency_keys (key_hash, request_hash, status, sealed, created_at)
             VALUES ($1, $2, NULL, NULL, $3) ON CONFLICT (key_hash) DO NOTHING",
            key_hash,
            request_hash,
            now,
        )?;
        if made > 0 {
            return Ok(Begun::New);
        }
        let row = query_opt!(
            tx,
            Row,
            "SELECT request_hash, sealed, created_at FROM idempotency_keys WHERE key_hash = $1",
            key_hash,
        )?;
        let Some(row) = row else { continue };
        let kept = if row.sealed.is_some() { KEPT } else { RUNNING };
        if row.created_at + kept > now {
            return Ok(match row.sealed {
                _ if row.request_hash != request_hash => Begun::Mismatch,
                Some(sealed) if sealed.is_empty() => Begun::Gone,
                Some(sealed) => Begun::Answered(sealed),
                None => Begun::Running,
            });
        }
        execute!(tx, "DELETE FROM idempotency_keys WHERE key_hash = $1 AND created_at = $2", key_hash, row.created_at,)?;
    }
    Ok(Begun::Running)
}

/// Keeps the answer of the request that took a key; `api_key` is the id of the API key that the answer holds, if it does.
///
/// # Errors
/// Those of the database.
pub async fn finish(tx: &mut Tx, key_hash: &str, status: i64, sealed: &str, api_key: Option<&str>) -> Result<()> {
    execute!(
        tx,
        "UPDATE idempotency_keys SET status = $2, sealed = $3, api_key = $4 WHERE key_hash = $1 AND sealed IS NULL",
        key_hash,
        status,
        sealed,
        api_key,
    )?;
    Ok(())
}

/// Ends the answers that hold an API key, when that is revoked. Whoever repeats the request is told so.
///
/// # Errors
/// Those of the database.
pub async fn end_api_key(tx: &mut Tx, api_key: &str) -> Result<()> {
    execute!(tx, "UPDATE idempotency_keys SET sealed = '' WHERE api_key = $1", api_key)?;
    Ok(())
}

/// Gives a key back: its request changed nothing.
///
/// # Errors
/// Those of the database.
pub async fn abandon(tx: &mut Tx, key_hash: &str) -> Result<()> {
    execute!(tx, "DELETE FROM idempotency_keys WHERE key_hash = $1 AND sealed IS NULL", key_hash)?;
    Ok(())
}

/// Forgets answers whose time is over. Returns how many.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, now: i64) -> Result<u64> {
    execute!(tx, "DELETE FROM idempotency_keys WHERE created_at <= $1", now - KEPT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;

    #[tokio::test]
    async fn an_answer_ends_with_the_api_key_that_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        for key in ["a", "b"] {
            begin(&mut tx, key, "r", 100).await.unwrap();
            finish(&mut tx, key, 201, "answer", Some(key)).await.unwrap();
        }
        end_api_key(&mut tx, "a").await.unwrap();
        assert_eq!(begin(&mut tx, "a", "r", 101).await.unwrap(), Begun::Gone);
        assert_eq!(begin(&mut tx, "a", "other", 101).await.unwrap(), Begun::Mismatch);
        assert_eq!(begin(&mut tx, "b", "r", 101).await.unwrap(), Begun::Answered("answer".into()));
    }

    #[tokio::test]
    async fn a_key_belongs_to_one_request_for_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        assert_eq!(begin(&mut tx, "k", "r", 100).await.unwrap(), Begun::New);
        assert_eq!(begin(&mut tx, "k", "r", 101).await.unwrap(), Begun::Running);
        assert_eq!(begin(&mut tx, "k", "other", 101).await.unwrap(), Begun::Mismatch);
        finish(&mut tx, "k", 201, "answer", None).await.unwrap();
        finish(&mut tx, "k", 201, "another", None).await.unwrap();
        abandon(&mut tx, "k").await.unwrap();
        assert_eq!(begin(&mut tx, "k", "r", 99 + KEPT).await.unwrap(), Begun::Answered("answer".into()));
        assert_eq!(begin(&mut tx, "k", "r", 100 + KEPT).await.unwrap(), Begun::New);
        abandon(&mut tx, "k").await.unwrap();
        assert_eq!(begin(&mut tx, "k", "other", 300).await.unwrap(), Begun::New);
        assert_eq!(begin(&mut tx, "k", "r", 300 + RUNNING).await.unwrap(), Begun::New);
        assert_eq!(purge(&mut tx, 300 + RUNNING).await.unwrap(), 0);
        assert_eq!(purge(&mut tx, 300 + RUNNING + KEPT).await.unwrap(), 1);
    }
}

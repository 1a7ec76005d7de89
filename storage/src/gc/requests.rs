//! Passes that somebody asks the processes which serve for.
//!
//! A process beside the server could collect as well, and does where none serves. But on `SQLite` those who push would wait for
//! its lock, which they do not see and cannot share a commit with.

use super::Report;
use crate::db::{Session, Tx};
use crate::error::Result;
use crate::names::new_id;
use crate::{execute, query_all, query_opt};

/// Whoever collects says so this often at least (seconds).
pub const BEAT: i64 = 1;
/// So long after its last word nobody collects any more (seconds).
pub const SILENT: i64 = 30;
/// So many requests are kept, with what came of them.
const KEPT: i64 = 20;

/// A pass that is wanted.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Wanted {
    /// Opaque id.
    pub id: String,
    /// Seconds that unused blobs are kept.
    pub grace: i64,
}

/// How far a pass is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// When whoever collects last said so (unix seconds); `None` while nobody does.
    pub taken_at: Option<i64>,
    /// Whether it is over.
    pub ended: bool,
    /// What was done so far.
    pub report: Report,
    /// Why it broke off; else empty.
    pub problem: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    taken_at: Option<i64>,
    ended_at: Option<i64>,
    report: String,
    problem: String,
}

/// Asks for a pass; returns its id.
///
/// # Errors
/// Those of the database.
pub async fn ask(tx: &mut Tx, grace: i64) -> Result<String> {
    let id = new_id();
    execute!(tx, "INSERT INTO gc_requests (id, grace) VALUES ($1, $2)", id.as_str(), grace)?;
    let old = "DELETE FROM gc_requests WHERE id <> $1
               AND id NOT IN (SELECT id FROM gc_requests ORDER BY id DESC LIMIT CAST($2 AS BIGINT))";
    execute!(tx, old, id.as_str(), KEPT)?;
    Ok(id)
}

/// The passes that nobody has taken, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn waiting(session: &mut Session) -> Result<Vec<Wanted>> {
    query_all!(
        session,
        Wanted,
        "SELECT id, grace FROM gc_requests WHERE taken_at IS NULL AND ended_at IS NULL ORDER BY id LIMIT 10"
    )
}

/// Takes a pass. False where somebody was faster, or it is not wanted any more.
///
/// # Errors
/// Those of the database.
pub async fn take(tx: &mut Tx, id: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE gc_requests SET taken_at = $2 WHERE id = $1 AND taken_at IS NULL AND ended_at IS NULL";
    Ok(execute!(tx, sql, id, now)? > 0)
}

/// Says that whoever took a pass collects, and what was done so far.
///
/// # Errors
/// Those of the database.
pub async fn note(tx: &mut Tx, id: &str, report: &Report, now: i64) -> Result<()> {
    let report = serde_json::to_string(report).unwrap_or_default();
    let sql = "UPDATE gc_requests SET taken_at = $2, report = $3 WHERE id = $1 AND ended_at IS NULL";
    execute!(tx, sql, id, now, report)?;
    Ok(())
}

/// Says that a pass is over. `problem` is empty where nothing went wrong.
///
/// # Errors
/// Those of the database.
pub async fn end(tx: &mut Tx, id: &str, report: &Report, problem: &str, now: i64) -> Result<()> {
    let report = serde_json::to_string(report).unwrap_or_default();
    let sql = "UPDATE gc_requests SET ended_at = $2, report = $3, problem = $4 WHERE id = $1 AND ended_at IS NULL";
    execute!(tx, sql, id, now, report, problem)?;
    Ok(())
}

/// Takes a request back that nobody has taken or nobody works at any more. False where somebody does, or it is over.
///
/// # Errors
/// Those of the database.
pub async fn withdraw(tx: &mut Tx, id: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE gc_requests SET ended_at = $2 WHERE id = $1 AND ended_at IS NULL AND (taken_at IS NULL OR taken_at <= $3)";
    Ok(execute!(tx, sql, id, now, now - SILENT)? > 0)
}

/// How far a pass is; `None` where it was forgotten.
///
/// # Errors
/// Those of the database.
pub async fn state(session: &mut Session, id: &str) -> Result<Option<State>> {
    let sql = "SELECT taken_at, ended_at, report, problem FROM gc_requests WHERE id = $1";
    let row = query_opt!(session, Row, sql, id)?;
    Ok(row.map(|row| State {
        taken_at: row.taken_at,
        ended: row.ended_at.is_some(),
        // Another version may count other things: what is not understood is not known.
        report: serde_json::from_str(&row.report).unwrap_or_default(),
        problem: row.problem,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;

    #[tokio::test]
    async fn a_pass_is_taken_once_and_its_end_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let id = ask(&mut tx, 60).await.unwrap();
        assert_eq!(waiting(&mut tx).await.unwrap(), [Wanted { id: id.clone(), grace: 60 }]);
        assert_eq!(state(&mut tx, &id).await.unwrap().unwrap().taken_at, None);
        assert!(take(&mut tx, &id, 100).await.unwrap());
        assert!(!take(&mut tx, &id, 100).await.unwrap());
        assert_eq!(waiting(&mut tx).await.unwrap(), []);
        let report = Report { blobs_removed: 3, ..Report::default() };
        note(&mut tx, &id, &report, 101).await.unwrap();
        let said = state(&mut tx, &id).await.unwrap().unwrap();
        assert_eq!(said, State { taken_at: Some(101), ended: false, report, problem: String::new() });
        end(&mut tx, &id, &report, "the disk is full", 102).await.unwrap();
        note(&mut tx, &id, &Report::default(), 103).await.unwrap();
        let said = state(&mut tx, &id).await.unwrap().unwrap();
        assert_eq!((said.ended, said.report, said.problem.as_str()), (true, report, "the disk is full"));
        assert_eq!(state(&mut tx, "none").await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_request_is_taken_back_where_nobody_works_at_it() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let (left, taken) = (ask(&mut tx, 0).await.unwrap(), ask(&mut tx, 0).await.unwrap());
        assert!(take(&mut tx, &taken, 100).await.unwrap());
        assert!(withdraw(&mut tx, &left, 101).await.unwrap());
        assert!(!take(&mut tx, &left, 101).await.unwrap(), "it is not wanted any more");
        assert!(!withdraw(&mut tx, &taken, 99 + SILENT).await.unwrap());
        assert!(withdraw(&mut tx, &taken, 100 + SILENT).await.unwrap(), "who took it died");
        let mut kept = String::new();
        for _ in 0..=KEPT {
            kept = ask(&mut tx, 0).await.unwrap();
        }
        assert!(state(&mut tx, &kept).await.unwrap().is_some());
        let left = crate::query_one!(tx, (i64,), "SELECT COUNT(*) FROM gc_requests").unwrap().0;
        assert!((KEPT..=KEPT + 1).contains(&left), "{left}");
    }
}

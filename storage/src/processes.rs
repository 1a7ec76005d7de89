//! Processes that serve: each says every few seconds that it lives, and what only it can see. A handful of rows.

use serde::{Deserialize, Serialize};

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::{execute, query_all};

/// How often a process says that it lives (seconds).
pub const BEAT: i64 = 10;
/// A process that said nothing for so long does not serve (seconds).
pub const SILENT: i64 = 4 * BEAT;
/// So long after its last word a process is forgotten (seconds).
const FORGOTTEN: i64 = 86_400;

/// A process, as it last said of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Opaque id, another one at each start.
    pub id: String,
    /// Name of the machine.
    pub host: String,
    /// Version of the program.
    pub version: String,
    /// What only it can see.
    pub report: Report,
    /// When it started (unix seconds).
    pub started_at: i64,
    /// When it last said so (unix seconds).
    pub seen_at: i64,
}

impl Process {
    /// Whether it serves, as far as is known.
    #[must_use]
    pub fn is_alive(&self, now: i64) -> bool {
        now - self.seen_at < SILENT
    }
}

/// What a process says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Names of the services that it serves.
    pub services: Vec<String>,
    /// Folders in which it keeps something.
    pub folders: Vec<Folder>,
    /// The certificate that it serves with.
    pub certificate: Option<Certificate>,
    /// What it does besides requests.
    pub tasks: Vec<Task>,
    /// Audit events that it noted and has not written yet.
    pub events_waiting: i64,
}

/// Room on a file system.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Folder {
    /// `blobs` or `data`.
    pub what: String,
    /// Bytes of the file system.
    pub total: i64,
    /// Bytes that are free.
    pub free: i64,
}

/// A certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Names that it is for.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// Until when it holds (unix seconds).
    pub not_after: i64,
}

/// A task in the background.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its name.
    pub name: String,
    /// When it last ended well (unix seconds).
    pub ok_at: Option<i64>,
    /// When it last failed (unix seconds).
    pub failed_at: Option<i64>,
}

#[derive(sqlx::FromRow)]
struct Row {
    id: String,
    host: String,
    version: String,
    report: String,
    started_at: i64,
    seen_at: i64,
}

/// Notes what a process says, and forgets those that have been silent for a day.
///
/// # Errors
/// Those of the database.
pub async fn note(tx: &mut Tx, process: &Process) -> Result<()> {
    execute!(tx, "DELETE FROM processes WHERE seen_at < $1", process.seen_at - FORGOTTEN)?;
    let report = serde_json::to_string(&process.report).unwrap_or_default();
    execute!(
        tx,
        "INSERT INTO processes (id, host, version, report, started_at, seen_at) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (id) DO UPDATE SET report = excluded.report, seen_at = excluded.seen_at",
        process.id.as_str(),
        process.host.as_str(),
        process.version.as_str(),
        report.as_str(),
        process.started_at,
        process.seen_at,
    )?;
    Ok(())
}

/// Forgets a process that ended in order.
///
/// # Errors
/// Those of the database.
pub async fn forget(tx: &mut Tx, id: &str) -> Result<()> {
    execute!(tx, "DELETE FROM processes WHERE id = $1", id)?;
    Ok(())
}

/// Every process that was heard of within a day, the youngest word first; at most 100.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session) -> Result<Vec<Process>> {
    let rows = query_all!(session, Row, "SELECT * FROM processes ORDER BY seen_at DESC, id LIMIT 100")?;
    let process = |row: Row| Process {
        id: row.id,
        host: row.host,
        version: row.version,
        // Another version may say other things: what is not understood is not known.
        report: serde_json::from_str(&row.report).unwrap_or_default(),
        started_at: row.started_at,
        seen_at: row.seen_at,
    };
    Ok(rows.into_iter().map(process).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;

    #[tokio::test]
    async fn a_process_is_known_while_it_speaks_and_forgotten_after_a_day() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let mut one = Process {
            id: "one".into(),
            host: "box".into(),
            version: "1".into(),
            report: Report { services: vec!["registry".into()], ..Report::default() },
            started_at: 100,
            seen_at: 100,
        };
        note(&mut tx, &one).await.unwrap();
        one.seen_at = 110;
        one.report.events_waiting = 3;
        note(&mut tx, &one).await.unwrap();
        assert_eq!(list(&mut tx).await.unwrap(), [one.clone()]);
        assert!(one.is_alive(110 + SILENT - 1) && !one.is_alive(110 + SILENT));
        let two = Process { id: "two".into(), seen_at: 110 + FORGOTTEN, ..one.clone() };
        note(&mut tx, &two).await.unwrap();
        assert_eq!(list(&mut tx).await.unwrap().len(), 2);
        note(&mut tx, &Process { seen_at: two.seen_at + 1, ..two.clone() }).await.unwrap();
        assert_eq!(list(&mut tx).await.unwrap().len(), 1);
        forget(&mut tx, "two").await.unwrap();
        assert!(list(&mut tx).await.unwrap().is_empty());
    }
}

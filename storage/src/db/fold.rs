//! `SQLite`'s write-ahead log, folded into the database file beside the writer.
//!
//! The log begins anew only once all of it is in the database file. What is copied and synced here, on a connection of its own,
//! holds up nobody; while the writer goes on there is always a little left, which a second, short look does while nobody
//! writes.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use super::lane::Lane;
use crate::error::Result;

/// Fewer commits than this since the last time are not worth it.
const COMMITS: u32 = 16;
/// Pages in the log from which on it is to begin anew: 4 MiB. A larger log is synced in longer stretches.
const PAGES: i64 = 1_000;

/// Whoever folds the log.
#[derive(Debug)]
pub(super) struct Folder {
    options: SqliteConnectOptions,
    connection: Mutex<Option<SqliteConnection>>,
}

impl Folder {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: Mutex::new(None) }
    }

    /// Folds the log where enough was committed.
    pub(super) async fn fold(&self, lane: &Lane) -> Result<()> {
        if lane.take_commits() < COMMITS {
            return Ok(());
        }
        let mut held = self.connection.lock().await;
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        // One that failed is not used again.
        let pages = checkpoint(&mut connection).await?;
        if pages >= PAGES {
            // What came meanwhile: the less is left, the shorter the writer waits.
            checkpoint(&mut connection).await?;
            lane.fold().await?;
        }
        *held = Some(connection);
        Ok(())
    }

    pub(super) async fn close(&self) {
        if let Some(connection) = self.connection.lock().await.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the connection that folds the log did not close well");
        }
    }
}

/// Copies as much of the log as nobody needs any more. Returns how many pages the log has.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> Result<i64> {
    let (_, pages, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(connection).await?;
    Ok(pages)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::db::testing;
    use crate::execute;

    #[tokio::test]
    async fn the_log_begins_anew_once_it_is_folded() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh_sqlite(dir.path()).await;
        let write = async |rounds: usize| {
            for _ in 0..rounds {
                let mut tx = db.begin().await.unwrap();
                let sql = "INSERT INTO small_objects (object_key, content) VALUES ($1, $2)";
                execute!(tx, sql, crate::names::new_id(), vec![7_u8; 100_000]).unwrap();
                tx.commit().await.unwrap();
            }
        };
        let log = || std::fs::metadata(dir.path().join("test.db-wal")).unwrap().len();
        write(100).await;
        let before = log();
        for _ in 0..5 {
            db.fold_log().await.unwrap();
            write(40).await;
        }
        // It was written again from its beginning.
        assert_eq!(log(), before);
        // Too little happened to fold.
        db.fold_log().await.unwrap();
        db.fold_log().await.unwrap();
        db.close().await;
        assert!(!dir.path().join("test.db-wal").exists());
    }
}

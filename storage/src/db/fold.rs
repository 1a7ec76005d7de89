//! `SQLite`'s write-ahead log, folded into the database file beside the writer.
//!
//! The log begins anew only once all of it is in the database file. What is copied and synced here, on a connection of its own,
//! holds up nobody; while the writer goes on there is always a little left, which a second, short look does while nobody
//! writes. Nor does it begin anew while somebody reads from it: where that goes on, the writer waits for them now and then.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::WAIT;
use super::lane::Lane;
use crate::error::Result;

/// Fewer commits than this since it was last asked are not worth it...
const COMMITS: u32 = 16;
/// ... until they are so many in all.
const MOST: u32 = if cfg!(test) { 100 } else { 1_000 };
/// Pages in the log from which on it is to begin anew: 32 MiB. The writer waits for a sync of the database file each time.
const PAGES: i64 = if cfg!(test) { 1_000 } else { 8_000 };
/// Pages from which on whoever reads from the log is waited for, and as many more after each time in vain: 64 MiB.
const MANY: i64 = if cfg!(test) { 4_000 } else { 16_000 };
/// How long they are waited for while nobody writes: until all is copied, and then until they are done.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Whoever folds the log.
#[derive(Debug)]
pub(super) struct Folder {
    options: SqliteConnectOptions,
    connection: Mutex<Option<SqliteConnection>>,
    /// Commits that were not worth it.
    unfolded: AtomicU32,
    /// Pages from which on whoever reads is waited for.
    wait_from: AtomicI64,
}

impl Folder {
    pub(super) fn new(options: SqliteConnectOptions) -> Self {
        Self { options, connection: Mutex::new(None), unfolded: AtomicU32::new(0), wait_from: AtomicI64::new(MANY) }
    }

    /// Folds the log where enough was committed.
    pub(super) async fn fold(&self, lane: &Lane) -> Result<()> {
        let commits = lane.take_commits();
        let unfolded = self.unfolded.fetch_add(commits, Ordering::Relaxed).saturating_add(commits);
        if commits < COMMITS && unfolded < MOST {
            return Ok(());
        }
        self.unfolded.store(0, Ordering::Relaxed);
        let mut held = self.connection.lock().await;
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => self.options.connect().await?,
        };
        // One that failed is not used again.
        let (pages, _) = checkpoint(&mut connection).await?;
        if pages < MANY {
            self.wait_from.store(MANY, Ordering::Relaxed);
        }
        if pages >= PAGES {
            // What came meanwhile: the less is left, the shorter the writer waits.
            checkpoint(&mut connection).await?;
            if pages < self.wait_from.load(Ordering::Relaxed) {
                lane.fold().await?;
            } else if !lane.empty_log().await? {
                self.wait_from.store(pages + MANY, Ordering::Relaxed);
            }
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

/// Copies as much of the log as nobody needs any more. Returns how many pages the log has, and how many of them are copied.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> Result<(i64, i64)> {
    let sql = "PRAGMA wal_checkpoint(PASSIVE)";
    let (_, pages, copied): (i64, i64, i64) = sqlx::query_as(sql).fetch_one(connection).await?;
    Ok((pages, copied))
}

/// Copies all of the log and gives its room back, once nobody reads from it any more; false where somebody still does. Only while
/// nobody writes: then all who begin to read need the same of the log, and nothing once it is copied.
pub(super) async fn empty(connection: &mut SqliteConnection) -> Result<bool> {
    let until = Instant::now() + PATIENCE;
    loop {
        let (pages, copied) = checkpoint(connection).await?;
        if pages == copied {
            break;
        }
        if Instant::now() >= until {
            return Ok(false);
        }
        sleep(PAUSE).await;
    }
    wait_at_most(connection, PATIENCE).await?;
    let done = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut *connection).await;
    wait_at_most(connection, WAIT).await?;
    let (busy, _, _): (i64, i64, i64) = done?;
    Ok(busy == 0)
}

async fn wait_at_most(connection: &mut SqliteConnection, patience: Duration) -> Result<()> {
    let sql = AssertSqlSafe(format!("PRAGMA busy_timeout = {}", patience.as_millis()));
    sqlx::raw_sql(sql).execute(connection).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use crate::db::testing;
    use crate::{execute, query_one};

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

    #[tokio::test]
    async fn the_log_stays_small_though_there_is_always_somebody_who_reads() {
        stays_small(20).await;
    }

    #[tokio::test]
    async fn the_log_stays_small_though_little_is_written_at_a_time() {
        stays_small(10).await;
    }

    /// Folds the log after so many commits each.
    async fn stays_small(often: usize) {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh_sqlite(dir.path()).await;
        let reader = || {
            let db = db.clone();
            tokio::spawn(async move {
                loop {
                    let mut session = db.read().await.unwrap();
                    execute!(session, "BEGIN").unwrap();
                    let _: (i64,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM orgs").unwrap();
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    execute!(session, "COMMIT").unwrap();
                }
            })
        };
        let readers = [reader(), reader(), reader(), reader()];
        for round in 0..400 {
            let mut tx = db.begin().await.unwrap();
            let sql = "INSERT INTO small_objects (object_key, content) VALUES ($1, $2)";
            execute!(tx, sql, crate::names::new_id(), vec![7_u8; 100_000]).unwrap();
            tx.commit().await.unwrap();
            if round % often == 0 {
                db.fold_log().await.unwrap();
            }
        }
        readers.iter().for_each(tokio::task::JoinHandle::abort);
        let log = std::fs::metadata(dir.path().join("test.db-wal")).unwrap().len();
        assert!(log < 24 << 20, "{log}");
    }
}

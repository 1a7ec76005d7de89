//! `SQLite`'s one writer, and commits that many transactions share.
//!
//! `SQLite` takes one writer at a time, and a commit costs a sync of the disk. Transactions that wait for their turn
//! while another runs are therefore made durable together: each is a savepoint of one outer transaction, and each
//! caller's [`Turn::commit`] answers once the outer one is committed. A transaction that is dropped rolls its own
//! savepoint back and nothing else. Where nobody waits, it is committed at once and alone.
//!
//! A disk error may make `SQLite` roll the outer transaction back by itself. Then its savepoint is gone, the next
//! statement that names it fails, and every caller that waits for the commit is told that it did not happen.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{Stream, TryStreamExt};
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteQueryResult, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Either, Execute, Executor, SqlStr, Sqlite};
use tokio::runtime::Handle;
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard, oneshot, watch};

use super::changes::Changes;
use super::{WAIT, fold};
use crate::error::{Error, Result};

/// Transactions that share a commit, at most.
const MOST: usize = 64;
/// How old a group is when nobody joins it any more.
const LONGEST: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 20 });

/// What is said of a transaction's savepoint. There are two names, which take turns: where a message failed that was to begin
/// one, nobody knows whether it did, and what is said of the one must not touch the other.
#[derive(Debug)]
struct Savepoint {
    /// After the other, whose work stays.
    follow: &'static str,
    /// Takes its work back, and keeps it open.
    undo: &'static str,
    /// Takes its work back and ends the outer transaction.
    undo_and_end: &'static str,
}

static SAVEPOINTS: [Savepoint; 2] = [
    Savepoint {
        follow: "RELEASE two; SAVEPOINT one",
        undo: "ROLLBACK TO one",
        undo_and_end: "ROLLBACK TO one; COMMIT",
    },
    Savepoint {
        follow: "RELEASE one; SAVEPOINT two",
        undo: "ROLLBACK TO two",
        undo_and_end: "ROLLBACK TO two; COMMIT",
    },
];

/// Begins an outer transaction, and in it the first of [`SAVEPOINTS`].
const BEGIN: &str = "BEGIN IMMEDIATE; SAVEPOINT one";

/// What a transaction does first, in the message that begins it: everybody waits for every message of whoever has the turn.
#[derive(Debug)]
pub(super) struct First {
    sql: SqlStr,
    arguments: SqliteArguments,
}

impl First {
    /// A query's statements, whose parameters have numbers.
    ///
    /// # Errors
    /// Where a parameter cannot be said in `SQLite`'s words.
    pub(super) fn of(mut query: Query<'_, Sqlite, SqliteArguments>) -> Result<Self> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
        Ok(Self { sql: query.sql(), arguments })
    }
}

/// Pages as they were before a savepoint stay in memory: for more than 64 KiB of them every commit would make a file.
const KEEP: &str = "PRAGMA temp_store = MEMORY";
/// For what may sort millions of rows.
const SPILL: &str = "PRAGMA temp_store = FILE";

/// The writer; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Lane(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: SqliteConnectOptions,
    /// Taken by whoever's turn it is, in the order of asking; empty once it is closed.
    writer: Arc<Mutex<Option<Writer>>>,
    changes: Arc<Changes>,
    /// Commits since the log was folded last.
    commits: AtomicU32,
    /// Transactions that were begun.
    turns: AtomicU64,
    /// Somebody saw what is not committed yet, and went away without a commit to wait for.
    seen: watch::Sender<bool>,
}

type Held = OwnedMappedMutexGuard<Option<Writer>, Writer>;

#[derive(Debug)]
struct Writer {
    connection: SqliteConnection,
    group: Option<Group>,
}

/// The outer transaction that is open.
#[derive(Debug)]
struct Group {
    began: Instant,
    /// Who waits for its commit.
    members: Vec<oneshot::Sender<Result<()>>>,
    /// The last savepoint: which of [`SAVEPOINTS`], and what is to become of it.
    savepoint: usize,
    last: Last,
    /// A task waits for its turn to end the group.
    closing: bool,
}

impl Group {
    fn is_full(&self) -> bool {
        self.members.len() >= MOST || self.began.elapsed() >= LONGEST
    }
}

/// What is to become of the last savepoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    Kept,
    Abandoned,
}

impl Lane {
    /// Opens the writer's connection. What its commits change is noted in `changes`.
    pub(super) async fn open(options: SqliteConnectOptions, changes: Arc<Changes>) -> Result<Self> {
        let writer = Writer { connection: connect(&options, &changes).await?, group: None };
        let (seen, _) = watch::channel(false);
        Ok(Self(Arc::new(Shared {
            options,
            writer: Arc::new(Mutex::new(Some(writer))),
            changes,
            commits: AtomicU32::new(0),
            turns: AtomicU64::new(0),
            seen,
        })))
    }

    /// Waits for the caller's turn.
    async fn lock(&self) -> Result<Held> {
        let turn = Arc::clone(&self.0.writer).lock_owned();
        let turn = tokio::time::timeout(WAIT, turn).await;
        let writer = turn.map_err(|_| Error::Unavailable(sqlx::Error::PoolTimedOut))?;
        OwnedMutexGuard::try_map(writer, Option::as_mut).map_err(|_| Error::Unavailable(sqlx::Error::PoolClosed))
    }

    /// To be waited for before reading on another connection: whoever saw something in a transaction and gave that up must
    /// find it there, though others did it whose commit was still to come.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where that commit did not come in time.
    pub(super) async fn settled(&self) -> Result<()> {
        if !*self.0.seen.borrow() {
            return Ok(());
        }
        let mut seen = self.0.seen.subscribe();
        let waited = tokio::time::timeout(WAIT, seen.wait_for(|seen| !seen)).await;
        waited.map(drop).map_err(|_| Error::Unavailable(sqlx::Error::PoolTimedOut))
    }

    /// Begins a transaction when its turn has come.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where it did not come in time.
    pub(super) async fn begin(&self) -> Result<Turn> {
        self.enter(None).await.map(|(turn, _)| turn)
    }

    /// As [`Lane::begin`], with what the transaction does first. Returns the rows that came of that. Where it fails, the
    /// transaction is over.
    ///
    /// # Errors
    /// As [`Lane::begin`], and what the database said of the statements.
    pub(super) async fn begin_with(&self, first: First) -> Result<(Turn, Vec<SqliteRow>)> {
        self.enter(Some(first)).await
    }

    async fn enter(&self, first: Option<First>) -> Result<(Turn, Vec<SqliteRow>)> {
        let turn = Turn { lane: self.clone(), writer: self.lock().await? };
        self.0.turns.fetch_add(1, Ordering::Relaxed);
        // In a task of its own: a caller that goes away must not leave a statement half done.
        let entered = tokio::spawn(turn.enter(first)).await;
        entered.map_err(|_| Error::Unavailable(sqlx::Error::WorkerCrashed))?
    }

    /// Runs something that begins and ends its own transactions, and may be large.
    pub(super) async fn alone<T>(&self, run: impl AsyncFnOnce(&mut SqliteConnection) -> Result<T>) -> Result<T> {
        let mut writer = self.lock().await?;
        self.finish(&mut writer).await;
        writer.connection.execute(SPILL).await?;
        let done = run(&mut writer.connection).await;
        let kept = writer.connection.execute(KEEP).await;
        self.0.changes.everything();
        let done = done?;
        kept?;
        Ok(done)
    }

    /// Commits what is open and closes the connection.
    pub(super) async fn close(&self) {
        let Some(mut writer) = self.0.writer.lock().await.take() else { return };
        self.finish(&mut writer).await;
        if let Err(error) = writer.connection.close().await {
            tracing::warn!(%error, "the database's writing connection did not close well");
        }
    }

    /// A number that moves where another process commits; nothing of ours moves it.
    pub(super) async fn version(&self) -> Result<i64> {
        let mut writer = self.lock().await?;
        self.finish(&mut writer).await;
        Ok(sqlx::query_scalar("PRAGMA data_version").fetch_one(&mut writer.connection).await?)
    }

    /// Commits since this was last asked.
    pub(super) fn take_commits(&self) -> u32 {
        self.0.commits.swap(0, Ordering::Relaxed)
    }

    /// Transactions that were begun so far.
    pub(super) fn turns(&self) -> u64 {
        self.0.turns.load(Ordering::Relaxed)
    }

    /// Folds what is left of the log while nobody writes.
    pub(super) async fn fold(&self) -> Result<()> {
        let mut writer = self.lock().await?;
        self.finish(&mut writer).await;
        fold::checkpoint(&mut writer.connection).await.map(drop)
    }

    /// As [`Lane::fold`], but waits a moment for whoever reads from the log, so that nothing is left of it. False where they
    /// read on.
    pub(super) async fn empty_log(&self) -> Result<bool> {
        let mut writer = self.lock().await?;
        self.finish(&mut writer).await;
        fold::empty(&mut writer.connection).await
    }

    /// Runs statements that open and close savepoints and transactions.
    async fn control(&self, writer: &mut Writer, statements: &'static str) -> Result<()> {
        let outcome =
            ended(writer.connection.fetch_many(sqlx::raw_sql(statements)), statements.split(';').count()).await;
        self.reconnected(writer, outcome).await
    }

    /// As [`Lane::control`], with what comes after them, if anything does.
    async fn control_and(
        &self,
        writer: &mut Writer,
        statements: &'static str,
        first: Option<First>,
    ) -> Result<Vec<SqliteRow>> {
        let Some(First { sql, arguments }) = first else {
            return self.control(writer, statements).await.map(|()| Vec::new());
        };
        let all = AssertSqlSafe(format!("{statements}; {}", sql.as_str()));
        let outcome = sqlx::query_with(all, arguments).fetch_all(&mut writer.connection).await;
        self.reconnected(writer, outcome).await
    }

    /// Opens the connection anew where its thread is gone.
    async fn reconnected<T>(&self, writer: &mut Writer, outcome: std::result::Result<T, sqlx::Error>) -> Result<T> {
        if matches!(outcome, Err(sqlx::Error::WorkerCrashed)) {
            writer.connection = connect(&self.0.options, &self.0.changes).await?;
        }
        Ok(outcome?)
    }

    /// As [`Lane::control`], where it is as good if there is nothing to roll back.
    async fn roll_back(&self, writer: &mut Writer) {
        if let Err(error) = self.control(writer, "ROLLBACK").await {
            tracing::debug!(%error, "nothing was rolled back");
        }
    }

    /// Ends the outer transaction, if one is open, and tells everybody who waits for it.
    async fn finish(&self, writer: &mut Writer) {
        let Some(group) = writer.group.take() else { return };
        if group.members.is_empty() {
            self.roll_back(writer).await;
            self.0.changes.publish();
            return;
        }
        let outcome = match group.last {
            Last::Kept => self.control(writer, "COMMIT").await,
            Last::Abandoned => self.control(writer, SAVEPOINTS[group.savepoint].undo_and_end).await,
        };
        self.settle(writer, group, outcome).await;
    }

    /// Tells the members of a group how it ended.
    async fn settle(&self, writer: &mut Writer, group: Group, outcome: Result<()>) {
        if let Err(error) = &outcome {
            tracing::warn!(
                %error,
                cause = std::error::Error::source(error).map(tracing::field::display),
                transactions = group.members.len(),
                "a commit failed"
            );
            self.roll_back(writer).await;
        } else {
            self.0.commits.fetch_add(1, Ordering::Relaxed);
        }
        // Before anybody is told: who was told must never see what was before.
        self.0.changes.publish();
        for member in group.members {
            // Who went away does not want to know.
            let _ = member.send(outcome.as_ref().copied().map_err(again));
        }
        self.0.seen.send_if_modified(std::mem::take);
    }
}

async fn connect(options: &SqliteConnectOptions, changes: &Arc<Changes>) -> Result<SqliteConnection> {
    let mut connection = options.connect().await?;
    connection.execute(KEEP).await?;
    let changes = Arc::clone(changes);
    connection.lock_handle().await?.set_update_hook(move |change| changes.note(change.table, change.rowid));
    Ok(connection)
}

/// Whether so many statements came to their ends. Where the connection's thread dies meanwhile, what it says just stops: that
/// is no success.
async fn ended(
    mut said: impl Stream<Item = std::result::Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>> + Unpin,
    statements: usize,
) -> std::result::Result<(), sqlx::Error> {
    let mut done = 0;
    while let Some(step) = said.try_next().await? {
        done += usize::from(step.is_left());
    }
    if done == statements { Ok(()) } else { Err(sqlx::Error::WorkerCrashed) }
}

/// The same failure, for another who waited for the same commit.
fn again(error: &Error) -> Error {
    match error {
        Error::NoSpace(what) => Error::NoSpace(what),
        other => Error::Unavailable(sqlx::Error::Protocol(format!("the shared commit failed: {other}"))),
    }
}

/// A transaction of the writer; dropped without [`Turn::commit`], it leaves nothing behind.
#[derive(Debug)]
pub(super) struct Turn {
    lane: Lane,
    writer: Held,
}

impl Turn {
    /// Opens the savepoint: in the transaction that is open, or in one of its own.
    async fn enter(mut self, first: Option<First>) -> Result<(Self, Vec<SqliteRow>)> {
        let lane = self.lane.clone();
        let writer = &mut *self.writer;
        // Whoever has the turn may read elsewhere as well, and must not wait there for a commit that waits for the turn.
        if writer.group.as_ref().is_some_and(Group::is_full) || *lane.0.seen.borrow() {
            lane.finish(writer).await;
        }
        let alone = first.is_none();
        if let Some(mut group) = writer.group.take() {
            let statements = match group.last {
                Last::Kept => {
                    group.savepoint = 1 - group.savepoint;
                    SAVEPOINTS[group.savepoint].follow
                }
                Last::Abandoned => SAVEPOINTS[group.savepoint].undo,
            };
            group.last = Last::Abandoned;
            match lane.control_and(writer, statements, first).await {
                Ok(rows) => {
                    writer.group = Some(group);
                    return Ok((self, rows));
                }
                // What it did first failed by itself, where there is something to take back.
                Err(error) if !alone && lane.control(writer, SAVEPOINTS[group.savepoint].undo).await.is_ok() => {
                    writer.group = Some(group);
                    return Err(error);
                }
                // The database has rolled all of it back.
                Err(error) if !alone => {
                    let told = again(&error);
                    lane.settle(writer, group, Err(error)).await;
                    return Err(told);
                }
                Err(error) => lane.settle(writer, group, Err(error)).await,
            }
            return Box::pin(self.enter(None)).await;
        }
        let rows = match lane.control_and(writer, BEGIN, first).await {
            Ok(rows) => rows,
            Err(error) => {
                // Where some of it worked.
                lane.roll_back(writer).await;
                return Err(error);
            }
        };
        // Until it is committed, whoever drops it gives it up.
        writer.group = Some(Group {
            began: Instant::now(),
            members: Vec::new(),
            savepoint: 0,
            last: Last::Abandoned,
            closing: false,
        });
        Ok((self, rows))
    }

    /// Makes everything in the transaction durable and visible, at once.
    ///
    /// # Errors
    /// What the database said; then nothing of the transaction holds, or it is not known.
    pub(super) async fn commit(mut self) -> Result<()> {
        let (tell, told) = oneshot::channel();
        if let Some(group) = &mut self.writer.group {
            group.members.push(tell);
            group.last = Last::Kept;
        }
        drop(self);
        told.await.unwrap_or_else(|_| Err(Error::Unavailable(sqlx::Error::WorkerCrashed)))
    }
}

impl Turn {
    /// To be said where the transaction changes what rows mean that it does not touch.
    pub(super) fn changes_everything(&self) {
        self.lane.0.changes.note_everything();
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(group) = &mut self.writer.group else { return };
        if group.last == Last::Abandoned && !group.members.is_empty() {
            self.lane.0.seen.send_replace(true);
        }
        // Without a runtime the process ends: what is not committed was not acknowledged.
        let Ok(runtime) = Handle::try_current() else { return };
        if std::mem::replace(&mut group.closing, true) {
            return;
        }
        let lane = self.lane.clone();
        // Turns come in order: whoever waits now is before it and joins the group.
        runtime.spawn(async move {
            if let Some(writer) = lane.0.writer.lock().await.as_mut() {
                lane.finish(writer).await;
            }
        });
    }
}

impl Deref for Turn {
    type Target = SqliteConnection;
    fn deref(&self) -> &SqliteConnection {
        &self.writer.connection
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut SqliteConnection {
        &mut self.writer.connection
    }
}

#[cfg(test)]
mod tests;

//! One database handle over `SQLite` and `PostgreSQL`, and one SQL text for both.
//!
//! Statements use `$1` parameters, `RETURNING` and `ON CONFLICT`, and columns of TEXT, BIGINT, BOOLEAN and BYTEA; the
//! [`query_opt!`](crate::query_opt), [`query_one!`](crate::query_one), [`query_all!`](crate::query_all) and
//! [`execute!`](crate::execute) macros run them on either. `SQLite` takes one writer at a time (the [`lane`]), so a
//! transaction never fails halfway because another upgraded its lock first.

pub(crate) mod changes;
mod fold;
mod lane;
pub(crate) mod parts;
mod trigrams;

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{Migration, Migrator};
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgPool, PgPoolOptions};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr, Sqlite, Transaction};

use self::changes::Changes;
use self::fold::Folder;
use self::lane::{First, Lane, Turn};
use crate::audit::unbundled;
use crate::error::{Error, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");

/// How long a statement waits for `SQLite`'s write lock, or a caller for a connection.
const WAIT: Duration = Duration::from_secs(15);

/// A handle on the database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Db(Arc<Pools>);

#[derive(Debug)]
enum Pools {
    Sqlite { path: PathBuf, write: Lane, read: SqlitePool, changes: Arc<Changes>, folder: Box<Folder> },
    Postgres(PgPool),
}

/// Options of [`Db::connect_with`].
#[derive(Debug, Clone)]
pub struct DbOptions {
    /// Connections for reading (`SQLite`) or in all (`PostgreSQL`).
    pub connections: u32,
}

impl Default for DbOptions {
    fn default() -> Self {
        Self { connections: 8 }
    }
}

impl Db {
    /// Opens `sqlite://PATH` (created if missing) or `postgres://…`, without touching the schema.
    ///
    /// # Errors
    /// [`Error::Config`] for a URL of another kind, else what the database said.
    pub async fn connect(url: &str) -> Result<Self> {
        Self::connect_with(url, &DbOptions::default()).await
    }

    /// As [`Db::connect`], with options.
    ///
    /// # Errors
    /// As [`Db::connect`].
    pub async fn connect_with(url: &str, options: &DbOptions) -> Result<Self> {
        if let Some(path) = url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")) {
            return Self::open_sqlite(Path::new(path), options).await;
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let connect = PgConnectOptions::from_str(url)
                .map_err(|_| Error::Config("the database URL is not a valid postgres:// URL".into()))?
                .application_name("wharfinger");
            let pool = PgPoolOptions::new()
                .max_connections(options.connections.max(2))
                .acquire_timeout(WAIT)
                .connect_with(connect)
                .await?;
            return Ok(Self(Arc::new(Pools::Postgres(pool))));
        }
        Err(Error::Config("the database URL must start with sqlite:// or postgres://".into()))
    }

    async fn open_sqlite(path: &Path, options: &DbOptions) -> Result<Self> {
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An acknowledged commit survives a power cut: WAL is synced at every commit.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(WAIT)
            .pragma("cache_size", "-16000")
            // 64 MiB, where nobody folds it: see `Db::fold_log`.
            .pragma("wal_autocheckpoint", "16000");
        let changes = Arc::new(Changes::default());
        let write = Lane::open(connect.clone(), Arc::clone(&changes)).await?;
        let folder = Box::new(Folder::new(connect.clone()));
        let read = SqlitePoolOptions::new()
            .max_connections(options.connections.clamp(1, 4))
            .acquire_timeout(WAIT)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(connect.pragma("query_only", "1"))
            .await?;
        Ok(Self(Arc::new(Pools::Sqlite { path: path.to_owned(), write, read, changes, folder })))
    }

    /// Brings the schema up to date. Safe to call from several processes at once.
    ///
    /// # Errors
    /// [`Error::Migrate`] where a migration fails or the database is newer than this program.
    pub async fn migrate(&self) -> Result<()> {
        self.migrate_to(i64::MAX).await?;
        unbundled::bundle_all(self).await?;
        match &*self.0 {
            Pools::Sqlite { write, .. } => write.alone(parts::keep).await,
            Pools::Postgres(pool) => {
                trigrams::offer(pool).await;
                Ok(())
            }
        }
    }

    /// As [`Db::migrate`], but no further than a version of the schema.
    pub(crate) async fn migrate_to(&self, version: i64) -> Result<()> {
        let wanted = MIGRATIONS.migrations.iter().filter(|m| m.version <= version);
        match &*self.0 {
            Pools::Sqlite { write, .. } => {
                // `SQLite` compares bytes by default and knows no collation "C".
                let migrations = wanted.map(|m| {
                    let sql = m
                        .sql
                        .as_str()
                        .replace(" COLLATE \"C\"", "")
                        .replace(" /*SQLite: WITHOUT ROWID*/", " WITHOUT ROWID");
                    Migration::new(
                        m.version,
                        m.description.clone(),
                        m.migration_type,
                        AssertSqlSafe(sql).into_sql_str(),
                        m.no_tx,
                    )
                });
                let migrator = Migrator::with_migrations(migrations.collect());
                write.alone(async |connection| migrator.run(connection).await.map_err(Error::Migrate)).await
            }
            Pools::Postgres(pool) => {
                Migrator::with_migrations(wanted.cloned().collect()).run(pool).await.map_err(Error::Migrate)
            }
        }
    }

    /// A connection for reading. On `SQLite` it sees all that is committed and never waits for the writer.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where no connection came free in time.
    pub async fn read(&self) -> Result<Session> {
        Ok(Session(match &*self.0 {
            Pools::Sqlite { read, write, .. } => {
                write.settled().await?;
                // To wait takes 4 KiB, which would be part of the state of everybody who may ask.
                Inner::Sqlite(match read.try_acquire() {
                    Some(connection) => connection,
                    None => Box::pin(read.acquire()).await?,
                })
            }
            Pools::Postgres(pool) => Inner::Postgres(Box::pin(pool.acquire()).await?),
        }))
    }

    /// Begins a transaction that may write. Dropped without [`Tx::commit`], it leaves nothing behind. On `SQLite` it may
    /// see what others have done whose commit it shares.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where no connection came free in time.
    pub async fn begin(&self) -> Result<Tx> {
        Ok(Tx(Session(match &*self.0 {
            Pools::Sqlite { write, .. } => Inner::SqliteTx(write.begin().await?),
            Pools::Postgres(pool) => Inner::PostgresTx(Box::pin(pool.begin()).await?),
        })))
    }

    /// As [`Db::begin`], on `SQLite` in one message with what the transaction does first; returns the rows that came of that.
    /// The query's parameters have numbers. On `PostgreSQL` nothing of it is done, and there are no rows.
    ///
    /// # Errors
    /// As [`Db::begin`], and what the database said.
    pub(crate) async fn begin_with<'q>(
        &self,
        first: impl FnOnce() -> Query<'q, Sqlite, SqliteArguments>,
    ) -> Result<(Tx, Option<Vec<SqliteRow>>)> {
        match &*self.0 {
            Pools::Sqlite { write, .. } => {
                let (turn, rows) = write.begin_with(First::of(first())?).await?;
                Ok((Tx(Session(Inner::SqliteTx(turn))), Some(rows)))
            }
            Pools::Postgres(_) => Ok((self.begin().await?, None)),
        }
    }

    /// How many transactions this process has begun so far: whoever takes many turns can tell whether others take some. On
    /// `PostgreSQL`, where nobody has to wait for a turn, it is 0.
    #[must_use]
    pub fn turns(&self) -> u64 {
        match &*self.0 {
            Pools::Sqlite { write, .. } => write.turns(),
            Pools::Postgres(_) => 0,
        }
    }

    /// True on `SQLite`, where this machine is the only one that serves.
    #[must_use]
    pub fn is_sqlite(&self) -> bool {
        matches!(&*self.0, Pools::Sqlite { .. })
    }

    /// Path of the database file, on `SQLite`.
    #[must_use]
    pub fn sqlite_path(&self) -> Option<&Path> {
        match &*self.0 {
            Pools::Sqlite { path, .. } => Some(path),
            Pools::Postgres(_) => None,
        }
    }

    /// What the commits of this process have changed, where no other process commits: on `SQLite`.
    pub(crate) fn changes(&self) -> Option<&Changes> {
        match &*self.0 {
            Pools::Sqlite { changes, .. } => Some(changes),
            Pools::Postgres(_) => None,
        }
    }

    /// Notices what other processes have committed since this was last called, where a cache depends on it. To be called a
    /// few times a second while something is served from [`Shelf`](crate::shelf::Shelf).
    ///
    /// # Errors
    /// Those of the database.
    pub async fn notice_others(&self) -> Result<()> {
        if let Pools::Sqlite { write, changes, .. } = &*self.0 {
            let version = write.version().await?;
            if changes.others(version) {
                changes.everything();
            }
        }
        Ok(())
    }

    /// Moves what was committed from `SQLite`'s write-ahead log into the database file while others write. Left to itself,
    /// whoever's commit fills the log does it, and all who write wait. To be called some times a second where much is written.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn fold_log(&self) -> Result<()> {
        match &*self.0 {
            Pools::Sqlite { write, folder, .. } => folder.fold(write).await,
            Pools::Postgres(_) => Ok(()),
        }
    }

    /// Answers where the database answers.
    ///
    /// # Errors
    /// What the database said, or [`Error::Unavailable`].
    pub async fn ping(&self) -> Result<()> {
        let mut session = self.read().await?;
        let _: (i64,) = crate::query_one!(session, (i64,), "SELECT CAST(1 AS BIGINT)")?;
        Ok(())
    }

    /// Closes every connection once it is idle; on `SQLite` this folds the write-ahead log into the file.
    pub async fn close(&self) {
        match &*self.0 {
            Pools::Sqlite { write, read, folder, .. } => {
                read.close().await;
                folder.close().await;
                write.close().await;
            }
            Pools::Postgres(pool) => pool.close().await,
        }
    }
}

/// A connection that statements run on, inside or outside a transaction.
#[derive(Debug)]
pub struct Session(Inner);

#[derive(Debug)]
enum Inner {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(PoolConnection<Postgres>),
    SqliteTx(Turn),
    PostgresTx(Transaction<'static, Postgres>),
}

/// The engine's own connection, for the macros of this crate and the few statements that need one engine's words.
#[derive(Debug)]
pub enum Raw<'a> {
    /// A connection to `SQLite`.
    Sqlite(&'a mut SqliteConnection),
    /// A connection to `PostgreSQL`.
    Postgres(&'a mut PgConnection),
}

impl Session {
    /// The engine's own connection.
    pub fn raw(&mut self) -> Raw<'_> {
        match &mut self.0 {
            Inner::Sqlite(c) => Raw::Sqlite(c),
            Inner::Postgres(c) => Raw::Postgres(c),
            Inner::SqliteTx(c) => Raw::Sqlite(c),
            Inner::PostgresTx(c) => Raw::Postgres(c),
        }
    }
}

/// A transaction. It derefs to the [`Session`] that statements run on.
#[derive(Debug)]
pub struct Tx(Session);

impl Tx {
    /// Makes everything in the transaction durable and visible, at once.
    ///
    /// # Errors
    /// What the database said; then nothing of the transaction holds, or (connection lost) it is not known.
    pub async fn commit(self) -> Result<()> {
        match self.0.0 {
            Inner::SqliteTx(tx) => tx.commit().await?,
            Inner::PostgresTx(tx) => tx.commit().await?,
            Inner::Sqlite(_) | Inner::Postgres(_) => {}
        }
        Ok(())
    }
}

impl Tx {
    /// To be said by a transaction that changes what rows mean that it does not touch, as a repository's new name does:
    /// nothing that was cached before counts any more.
    pub(crate) fn changes_everything(&self) {
        if let Inner::SqliteTx(turn) = &self.0.0 {
            turn.changes_everything();
        }
    }
}

impl Deref for Tx {
    type Target = Session;
    fn deref(&self) -> &Session {
        &self.0
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.0
    }
}

/// What a column in small letters is searched by, for a text anywhere in it behind what it begins with: by GLOB in `SQLite`,
/// where that is the fastest there is, and by LIKE in `PostgreSQL`, where an index can serve it (see [`trigrams`]).
pub(crate) fn within(session: &mut Session, begin: &str, text: &str) -> String {
    let text = text.to_lowercase();
    match session.raw() {
        Raw::Sqlite(_) if text.is_empty() => format!("{}*", quoted_for_glob(begin)),
        Raw::Sqlite(_) => format!("{}*{}*", quoted_for_glob(begin), quoted_for_glob(&text)),
        Raw::Postgres(_) if text.is_empty() => format!("{}%", quoted_for_like(begin)),
        Raw::Postgres(_) => format!("{}%{}%", quoted_for_like(begin), quoted_for_like(&text)),
    }
}

fn quoted_for_glob(text: &str) -> String {
    let quoted = |c: char| if matches!(c, '*' | '?' | '[') { format!("[{c}]") } else { c.to_string() };
    text.chars().map(quoted).collect()
}

fn quoted_for_like(text: &str) -> String {
    let quoted = |c: char| if matches!(c, '%' | '_' | '\\') { format!("\\{c}") } else { c.to_string() };
    text.chars().map(quoted).collect()
}

/// What `LIKE` finds a text by, anywhere and in lower case.
pub(crate) fn like(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars().flat_map(char::to_lowercase) {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Runs a query on either engine and returns `Result<Option<Row>>`: `query_opt!(session, RowType, "SELECT …", arg, …)`.
#[macro_export]
macro_rules! query_opt {
    ($session:expr, $row:ty, $sql:expr $(, $arg:expr)* $(,)?) => {
        match $session.raw() {
            $crate::db::Raw::Sqlite(c) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($arg))*.fetch_optional(c).await,
            $crate::db::Raw::Postgres(c) =>
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($arg))*.fetch_optional(c).await,
        }
        .map_err($crate::error::Error::from)
    };
}

/// As [`query_opt!`], but a missing row is [`Error::NotFound`](crate::error::Error::NotFound).
#[macro_export]
macro_rules! query_one {
    ($session:expr, $row:ty, $sql:expr $(, $arg:expr)* $(,)?) => {
        match $session.raw() {
            $crate::db::Raw::Sqlite(c) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($arg))*.fetch_one(c).await,
            $crate::db::Raw::Postgres(c) =>
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($arg))*.fetch_one(c).await,
        }
        .map_err($crate::error::Error::from)
    };
}

/// As [`query_opt!`], but every row: `Result<Vec<Row>>`. Bound the number with `LIMIT`.
#[macro_export]
macro_rules! query_all {
    ($session:expr, $row:ty, $sql:expr $(, $arg:expr)* $(,)?) => {
        match $session.raw() {
            $crate::db::Raw::Sqlite(c) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sql)$(.bind($arg))*.fetch_all(c).await,
            $crate::db::Raw::Postgres(c) =>
                sqlx::query_as::<sqlx::Postgres, $row>($sql)$(.bind($arg))*.fetch_all(c).await,
        }
        .map_err($crate::error::Error::from)
    };
}

/// Runs a statement on either engine and returns how many rows it touched: `Result<u64>`.
#[macro_export]
macro_rules! execute {
    ($session:expr, $sql:expr $(, $arg:expr)* $(,)?) => {
        match $session.raw() {
            $crate::db::Raw::Sqlite(c) =>
                sqlx::query::<sqlx::Sqlite>($sql)$(.bind($arg))*.execute(c).await.map(|r| r.rows_affected()),
            $crate::db::Raw::Postgres(c) =>
                sqlx::query::<sqlx::Postgres>($sql)$(.bind($arg))*.execute(c).await.map(|r| r.rows_affected()),
        }
        .map_err($crate::error::Error::from)
    };
}

/// As [`query_opt!`], for the few statements that need each engine's own words: `SQLite`'s text, then `PostgreSQL`'s.
#[macro_export]
macro_rules! query_opt_each {
    ($session:expr, $row:ty, $sqlite:expr, $postgres:expr $(, $arg:expr)* $(,)?) => {
        match $session.raw() {
            $crate::db::Raw::Sqlite(c) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sqlite)$(.bind($arg))*.fetch_optional(c).await,
            $crate::db::Raw::Postgres(c) =>
                sqlx::query_as::<sqlx::Postgres, $row>($postgres)$(.bind($arg))*.fetch_optional(c).await,
        }
        .map_err($crate::error::Error::from)
    };
}

/// As [`query_all!`], for the few statements that need each engine's own words: `SQLite`'s text, then `PostgreSQL`'s.
#[macro_export]
macro_rules! query_all_each {
    ($session:expr, $row:ty, $sqlite:expr, $postgres:expr $(, $arg:expr)* $(,)?) => {
        match $session.raw() {
            $crate::db::Raw::Sqlite(c) =>
                sqlx::query_as::<sqlx::Sqlite, $row>($sqlite)$(.bind($arg))*.fetch_all(c).await,
            $crate::db::Raw::Postgres(c) =>
                sqlx::query_as::<sqlx::Postgres, $row>($postgres)$(.bind($arg))*.fetch_all(c).await,
        }
        .map_err($crate::error::Error::from)
    };
}

/// As [`execute!`], for the few statements that need each engine's own words: `SQLite`'s text, then `PostgreSQL`'s.
#[macro_export]
macro_rules! execute_each {
    ($session:expr, $sqlite:expr, $postgres:expr $(, $arg:expr)* $(,)?) => {
        match $session.raw() {
            $crate::db::Raw::Sqlite(c) =>
                sqlx::query::<sqlx::Sqlite>($sqlite)$(.bind($arg))*.execute(c).await.map(|r| r.rows_affected()),
            $crate::db::Raw::Postgres(c) =>
                sqlx::query::<sqlx::Postgres>($postgres)$(.bind($arg))*.execute(c).await.map(|r| r.rows_affected()),
        }
        .map_err($crate::error::Error::from)
    };
}

/// Databases for tests, here and in the crates above.
#[cfg(any(test, feature = "test-support"))]
pub mod testing {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::{Db, Raw};
    use sqlx::AssertSqlSafe;

    /// A fresh database with nothing in it, as [`fresh`] makes one.
    pub async fn empty(dir: &std::path::Path) -> Db {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(url) if !url.is_empty() => empty_postgres(&url).await,
            _ => Db::connect(&format!("sqlite://{}", dir.join("test.db").display())).await.unwrap(),
        }
    }

    /// A fresh, migrated database: a schema of its own on `TEST_DATABASE_URL` where that is set, else `SQLite` in `dir`.
    pub async fn fresh(dir: &std::path::Path) -> Db {
        match std::env::var("TEST_DATABASE_URL") {
            Ok(url) if !url.is_empty() => fresh_postgres(&url).await,
            _ => fresh_sqlite(dir).await,
        }
    }

    /// Runs a statement as somebody would who has the database in hand.
    pub async fn run(db: &Db, sql: &'static str) {
        let mut tx = db.begin().await.unwrap();
        crate::execute!(tx, sql).unwrap();
        tx.commit().await.unwrap();
    }

    /// A fresh, migrated `SQLite` database in `dir`.
    pub async fn fresh_sqlite(dir: &std::path::Path) -> Db {
        let db = Db::connect(&format!("sqlite://{}", dir.join("test.db").display())).await.unwrap();
        db.migrate().await.unwrap();
        db
    }

    /// A fresh, migrated schema of its own on a `PostgreSQL` server.
    pub async fn fresh_postgres(url: &str) -> Db {
        let db = empty_postgres(url).await;
        db.migrate().await.unwrap();
        db
    }

    /// A schema of its own with nothing in it on a `PostgreSQL` server.
    pub async fn empty_postgres(url: &str) -> Db {
        let schema = format!("t_{}", crate::names::new_id());
        let admin = Db::connect(url).await.expect("TEST_DATABASE_URL answers");
        let mut session = admin.read().await.unwrap();
        if let Raw::Postgres(c) = session.raw() {
            sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(c).await.unwrap();
        }
        let separator = if url.contains('?') { '&' } else { '?' };
        Db::connect(&format!("{url}{separator}options=-csearch_path%3D{schema}")).await.unwrap()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::testing;

    #[tokio::test]
    async fn a_machine_of_two_organizations_becomes_one_in_each_with_what_it_had_there() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::empty(dir.path()).await;
        db.migrate_to(2).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        for sql in [
            "INSERT INTO orgs (id, slug, name, created_at) VALUES ('a', 'aa', 'A', 1), ('b', 'bb', 'B', 1)",
            "INSERT INTO users (id, name, kind, operator, must_change_password, epoch, grants_epoch, created_at)
             VALUES ('u', 'ci', 'machine', FALSE, FALSE, 1, 1, 1), ('p', 'ann@x', 'local', FALSE, FALSE, 1, 1, 1)",
            "INSERT INTO memberships (org_id, user_id, active, created_at)
             VALUES ('a', 'u', TRUE, 1), ('b', 'u', FALSE, 2), ('a', 'p', TRUE, 1), ('b', 'p', TRUE, 1)",
            "INSERT INTO bindings (id, org_id, user_id, role, namespaces, created_at)
             VALUES ('1', 'a', 'u', 'AUDITOR', '[]', 1), ('2', 'b', 'u', 'ADMIN', '[]', 1), ('3', 'b', 'p', 'ADMIN', '[]', 1)",
            "INSERT INTO api_keys (id, org_id, user_id, name, secret_hash, created_at)
             VALUES ('k', 'b', 'u', 'k', 's', 1), ('l', 'b', 'p', 'l', 's', 1)",
        ] {
            execute!(tx, sql).unwrap();
        }
        tx.commit().await.unwrap();
        db.migrate().await.unwrap();

        let mut session = db.read().await.unwrap();
        let mut all = async |sql: &'static str| query_all!(session, (String, String), sql).unwrap();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let names = all("SELECT id, name FROM users ORDER BY id").await;
        assert_eq!(names, [pair("p", "ann@x"), pair("u", "ci:a"), pair("u-b", "ci:b")]);
        let members = all("SELECT org_id, user_id FROM memberships ORDER BY org_id, user_id").await;
        assert_eq!(members, [pair("a", "p"), pair("a", "u"), pair("b", "p"), pair("b", "u-b")]);
        let searched = all("SELECT kind, searched FROM memberships ORDER BY org_id, user_id").await;
        let (person, machine) = (pair("local", "ann@x  "), pair("machine", "ci  "));
        assert_eq!(searched, [person.clone(), machine.clone(), person, machine]);
        let bound = all("SELECT id, user_id FROM bindings WHERE user_id IS NOT NULL ORDER BY id").await;
        assert_eq!(bound, [pair("1", "u"), pair("2", "u-b"), pair("3", "p")]);
        let named = all("SELECT id, name FROM bindings WHERE user_id IS NOT NULL ORDER BY id").await;
        assert_eq!(named, [pair("1", "ci:a"), pair("2", "ci:b"), pair("3", "ann@x")]);
        let keys = all("SELECT id, user_id FROM api_keys ORDER BY id").await;
        assert_eq!(keys, [pair("k", "u-b"), pair("l", "p")]);
        let groups = all("SELECT org_id, builtin FROM groups ORDER BY org_id, builtin").await;
        assert_eq!(groups.len(), 4);
    }

    #[tokio::test]
    async fn what_groups_are_listed_by_is_filled_in() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::empty(dir.path()).await;
        db.migrate_to(5).await.unwrap();
        for sql in [
            "INSERT INTO orgs (id, slug, name, created_at) VALUES ('o', 'acme', 'A', 1)",
            "INSERT INTO users (id, name, kind, operator, must_change_password, epoch, grants_epoch, created_at)
             VALUES ('p', 'ann@x', 'local', FALSE, FALSE, 1, 1, 1)",
            "INSERT INTO memberships (org_id, user_id, name, kind, searched, active, created_at)
             VALUES ('o', 'p', 'ann@x', 'local', 'ann@x ann ray', TRUE, 1)",
            "INSERT INTO groups (id, org_id, name, description, builtin, version, created_at)
             VALUES ('g', 'o', 'dev', '', NULL, 1, 1), ('h', 'o', 'ops', '', NULL, 1, 1)",
            "INSERT INTO group_members (group_id, user_id, org_id, created_at) VALUES ('g', 'p', 'o', 1)",
        ] {
            testing::run(&db, sql).await;
        }
        db.migrate().await.unwrap();
        let mut session = db.read().await.unwrap();
        let copied = query_all!(session, (String, String), "SELECT name, searched FROM group_members").unwrap();
        assert_eq!(copied, [("ann@x".to_owned(), "ann@x ann ray".to_owned())]);
        let counted = query_all!(session, (String, i64), "SELECT id, members FROM groups ORDER BY id").unwrap();
        assert_eq!(counted, [("g".to_owned(), 1), ("h".to_owned(), 0)]);
    }
}

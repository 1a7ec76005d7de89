//! What can go wrong below the surfaces: few kinds, each of which a caller treats differently.

use std::io;

/// An error of the storage layer. Surfaces map it to their own answers; `#[source]` keeps the cause for the log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The named thing does not exist.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// A unique name is taken, or the thing changed since it was read.
    #[error("{0}")]
    Conflict(&'static str),
    /// The thing is no longer the version that the caller read.
    #[error("it was changed since it was read")]
    Version,
    /// There is no room left for rows or bytes. Nothing was half-written; the caller may try again once there is.
    #[error("no space left for {0}")]
    NoSpace(&'static str),
    /// Stored bytes are missing or are not what their row says. Never served as content.
    #[error("damaged data: {0}")]
    Damaged(String),
    /// The database did not answer in time, lost the connection, or cannot do now what it could at another time (a deadlock, a
    /// standby, no memory): trying again may help.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// So much waits to be written that no more is taken on: trying again helps.
    #[error("{0} is behind")]
    Busy(&'static str),
    /// Any other database error.
    #[error("database error")]
    Database(#[source] sqlx::Error),
    /// Any other error of the byte store.
    #[error("byte store error: {context}")]
    Io {
        /// What was being done.
        context: &'static str,
        /// The operating system's error.
        #[source]
        source: io::Error,
    },
    /// The configuration of the store is not usable.
    #[error("{0}")]
    Config(String),
    /// A schema migration failed.
    #[error("schema migration failed")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

/// The storage layer's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Maps an operating system error met while doing `context`; a full disk or quota becomes [`Error::NoSpace`].
    pub fn io(context: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                Self::NoSpace(context)
            }
            _ => Self::Io { context, source },
        }
    }

    /// True where the write was refused because a unique name is taken.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict(_))
    }
}

/// Error code of `SQLite` for a full disk (`SQLITE_FULL`), and of `PostgreSQL` (`disk_full`).
const FULL: [&str; 2] = ["13", "53100"];
/// Classes of `PostgreSQL`'s codes for statements and rows that are wrong in themselves: what is not supported, cardinality,
/// data, constraints, syntax and names, `WITH CHECK OPTION`, limits, what a trigger refuses; and damage on its disk.
/// Everything else is about the server, the connection or somebody else's transaction, and may be otherwise the next time.
const WRONG: [&str; 10] = ["0A", "21", "22", "23", "42", "44", "54", "P0", "XX001", "XX002"];
/// Kinds of `SQLite`'s codes, which have them in their lowest byte, that may be otherwise the next time: busy, locked, and what
/// the disk says.
const TRANSIENT: [u32; 3] = [5, 6, 10];

/// Whether a statement may work when it is tried again.
fn is_transient(code: &str) -> bool {
    match code.len() {
        // `PostgreSQL`'s codes have five characters, `SQLite`'s are shorter numbers.
        5 => !WRONG.iter().any(|class| code.starts_with(class)),
        _ => code.parse::<u32>().is_ok_and(|code| TRANSIENT.contains(&(code & 0xff))),
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::RowNotFound => Self::NotFound("row"),
            sqlx::Error::Database(db) if db.is_unique_violation() => Self::Conflict("that name is taken"),
            sqlx::Error::Database(db) if db.code().is_some_and(|c| FULL.contains(&c.as_ref())) => {
                Self::NoSpace("the database")
            }
            sqlx::Error::Database(db) if db.code().is_some_and(|c| is_transient(&c)) => Self::Unavailable(error),
            sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error),
            _ => Self::Database(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_disk_or_a_failover_refuses_may_be_tried_again_and_what_is_wrong_with_the_rows_may_not() {
        // SQLite: reading, writing, syncing, waiting; PostgreSQL: a standby, a crash, no memory; a time-out of statements, a
        // proxy without its server, a password that is being changed.
        for again in [
            "10", "266", "778", "1034", "5", "6", "261", "517", "25006", "57P02", "53200", "40001", "57014", "08006",
            "08P01", "28P01", "3D000", "XX000",
        ] {
            assert!(is_transient(again), "{again}");
        }
        // A text with a NUL, a row too large for an index, a constraint, a file that is no database.
        for never in
            ["22021", "54000", "23502", "42P01", "0A000", "P0001", "XX001", "1", "11", "18", "19", "26", "787", ""]
        {
            assert!(!is_transient(never), "{never}");
        }
    }
}

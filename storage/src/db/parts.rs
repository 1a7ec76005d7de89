//! What makes a search for any part of a text fast in `SQLite`: full-text indexes of every three letters, which triggers keep in
//! step with the rows, in the transaction that changes them.
//!
//! An index says in which rows all three-letter parts of a text are, so that the rows are looked at once more. They are named by
//! `SQLite`'s row numbers: a VACUUM by hand may give new ones, which is noticed at the next start.

use std::collections::BTreeSet;

use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection, query, query_as, query_scalar};

use super::{Raw, Session};
use crate::error::{Error, Result};

/// An index of every three letters of a column.
pub(crate) struct Parts {
    index: &'static str,
    table: &'static str,
    column: &'static str,
    /// How many rows of the organization `$2` hold `$1`, up to `$3`, and their ids as a JSON array.
    ids: &'static str,
}

macro_rules! parts {
    ($index:literal, $table:literal, $column:literal, $id:literal) => {
        Parts {
            index: $index,
            table: $table,
            column: $column,
            // One row, as every row that is fetched costs many times one that is found. In SQLite, a cross join is walked in the
            // order that it is written in.
            ids: concat!(
                "SELECT COUNT(*), json_group_array(id) FROM (SELECT t.",
                $id,
                " AS id FROM ",
                $index,
                " f CROSS JOIN ",
                $table,
                " t ON t.rowid = f.rowid WHERE f.",
                $index,
                " MATCH $1 AND t.org_id = $2 LIMIT $3)"
            ),
        }
    };
}

/// What members are searched in, and their user ids.
pub(crate) static MEMBERS: Parts = parts!("members_by_part", "memberships", "searched", "user_id");
/// Names of repositories, and their ids.
pub(crate) static REPOSITORIES: Parts = parts!("repositories_by_part", "repositories", "name", "id");

/// So many rows that an index names are looked at one by one and sorted; where more are meant, a list is walked until its page is full.
pub(crate) const FEW: i64 = if cfg!(test) { 1 } else { 500 };

/// Most parts of a text that are asked for: what has so many in common is looked at.
const MOST_PARTS: usize = 32;

impl Parts {
    /// Ids of all rows of an organization that can hold a text, and perhaps of some that do not. `None` where that is not known:
    /// of texts of one or two letters, where there may be more than `most`, and on `PostgreSQL`, which has indexes of its own.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn few(
        &self,
        session: &mut Session,
        org_id: &str,
        text: &str,
        most: i64,
    ) -> Result<Option<Vec<String>>> {
        let Raw::Sqlite(connection) = session.raw() else { return Ok(None) };
        let Some(wanted) = wanted(org_id, text) else { return Ok(None) };
        let found: (i64, String) =
            query_as(self.ids).bind(wanted).bind(org_id).bind(most.saturating_add(1)).fetch_one(connection).await?;
        if found.0 > most {
            return Ok(None);
        }
        serde_json::from_str(&found.1).map(Some).map_err(|error| Error::Damaged(error.to_string()))
    }

    /// What the index holds of a row: the end of the organization's id, so that no search looks through those of others, and
    /// the column.
    fn text_of(&self, row: &str) -> String {
        format!("substr('..' || {row}.org_id, -3) || char(1) || {row}.{}", self.column)
    }

    /// What makes the index and keeps it.
    fn made_by(&self) -> [String; 4] {
        let Self { index, table, column, .. } = self;
        let (new, old) = (self.text_of("new"), self.text_of("old"));
        let add = format!("INSERT INTO {index} (rowid, text) VALUES (new.rowid, {new});");
        let remove = format!("INSERT INTO {index} ({index}, rowid, text) VALUES ('delete', old.rowid, {old});");
        [
            format!(
                "CREATE VIRTUAL TABLE IF NOT EXISTS {index}
                 USING fts5(text, content='', detail='none', tokenize='trigram case_sensitive 1')"
            ),
            format!("CREATE TRIGGER IF NOT EXISTS {index}_insert AFTER INSERT ON {table} BEGIN {add} END"),
            format!("CREATE TRIGGER IF NOT EXISTS {index}_delete AFTER DELETE ON {table} BEGIN {remove} END"),
            format!(
                "CREATE TRIGGER IF NOT EXISTS {index}_update AFTER UPDATE OF {column} ON {table} BEGIN {remove} {add} END"
            ),
        ]
    }

    /// Whether the index and its triggers are there.
    async fn is_there(&self, connection: &mut SqliteConnection) -> sqlx::Result<bool> {
        let sql = "SELECT COUNT(*) = 4 FROM sqlite_master WHERE name IN ($1, $1 || '_insert', $1 || '_delete', $1 || '_update')";
        query_scalar(sql).bind(self.index).fetch_one(connection).await
    }

    /// Whether the index holds the rows that there are, by the numbers that they have.
    async fn is_whole(&self, connection: &mut SqliteConnection) -> sqlx::Result<bool> {
        let Self { index, table, .. } = self;
        let sql = format!("SELECT (SELECT MAX(rowid) FROM {table}) IS (SELECT MAX(id) FROM {index}_docsize)");
        query_scalar(AssertSqlSafe(sql)).fetch_one(connection).await
    }

    /// Makes the index where it is not there, and fills it where it does not hold the rows that there are.
    async fn keep(&self, connection: &mut SqliteConnection) -> sqlx::Result<()> {
        let Self { index, table, .. } = self;
        for sql in self.made_by() {
            query(AssertSqlSafe(sql)).execute(&mut *connection).await?;
        }
        if self.is_whole(connection).await? {
            return Ok(());
        }
        tracing::info!(table, "making the index that searches read");
        let clear = format!("INSERT INTO {index} ({index}) VALUES ('delete-all')");
        query(AssertSqlSafe(clear)).execute(&mut *connection).await?;
        let text = self.text_of("t");
        let fill = format!("INSERT INTO {index} (rowid, text) SELECT t.rowid, {text} FROM {table} t");
        query(AssertSqlSafe(fill)).execute(connection).await?;
        Ok(())
    }
}

/// Sees to it that the indexes are there and whole.
pub(super) async fn keep(connection: &mut SqliteConnection) -> Result<()> {
    const ALL: [&Parts; 2] = [&MEMBERS, &REPOSITORIES];
    // Every command asks: those that push must not wait for the answer.
    let mut missing = false;
    for parts in ALL {
        missing |= !(parts.is_there(connection).await? && parts.is_whole(connection).await?);
    }
    if !missing {
        return Ok(());
    }
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
    for parts in ALL {
        parts.keep(&mut tx).await?;
    }
    Ok(tx.commit().await?)
}

/// What an index is asked for: all parts of the text, beside the organization. `None` for a text that is too short, and where
/// the question would end early, at a NUL.
fn wanted(org_id: &str, text: &str) -> Option<String> {
    if text.contains('\0') {
        return None;
    }
    let letters: Vec<char> = text.to_lowercase().chars().collect();
    let parts: BTreeSet<String> = letters.windows(3).take(MOST_PARTS).map(|part| part.iter().collect()).collect();
    if parts.is_empty() {
        return None;
    }
    let org: Vec<char> = "..".chars().chain(org_id.chars()).collect();
    let org: String = org[org.len().saturating_sub(3)..].iter().collect();
    let quoted = std::iter::once(org).chain(parts).map(|part| format!("\"{}\"", part.replace('"', "\"\"")));
    Some(quoted.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::{Db, testing};
    use crate::execute;

    const ORGS: &str =
        "INSERT INTO orgs (id, slug, name, created_at) VALUES ('org-one', 'o', 'O', 1), ('x', 'p', 'P', 1)";
    const PROJECTS: &str = "INSERT INTO projects (id, org_id, slug, public, sparse, created_at)
                            VALUES ('p', 'org-one', 'p', FALSE, FALSE, 1), ('q', 'x', 'q', FALSE, FALSE, 1)";
    const REPOSITORIES_OF_BOTH: &str = "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
        VALUES ('1', 'org-one', 'p', 'o/p/web', 1, 1), ('2', 'org-one', 'p', 'o/p/webhook', 1, 1),
               ('3', 'x', 'q', 'p/q/web', 1, 1), ('4', 'org-one', 'p', 'o/p/api', 1, 1)";

    async fn filled(dir: &std::path::Path) -> Db {
        let db = testing::fresh_sqlite(dir).await;
        for sql in [ORGS, PROJECTS, REPOSITORIES_OF_BOTH] {
            testing::run(&db, sql).await;
        }
        db
    }

    async fn found(db: &Db, org: &str, text: &str, most: i64) -> Option<Vec<String>> {
        REPOSITORIES.few(&mut db.read().await.unwrap(), org, text, most).await.unwrap()
    }

    fn ids(ids: &[&str]) -> Option<Vec<String>> {
        Some(ids.iter().map(|id| (*id).to_owned()).collect())
    }

    #[tokio::test]
    async fn rows_are_found_by_any_part_as_they_come_and_go() {
        let dir = tempfile::tempdir().unwrap();
        let db = filled(dir.path()).await;
        assert_eq!(found(&db, "org-one", "web", 9).await, ids(&["1", "2"]));
        assert_eq!(found(&db, "org-one", "WEBH", 9).await, ids(&["2"]));
        assert_eq!(found(&db, "x", "web", 9).await, ids(&["3"]));
        assert_eq!(found(&db, "org-one", "nothing", 9).await, ids(&[]));
        assert_eq!(found(&db, "org-one", "we", 9).await, None, "too short");
        assert_eq!(found(&db, "org-one", "web", 1).await, None, "too many");
        assert_eq!(found(&db, "org-one", "\"*' OR", 9).await, ids(&[]));
        assert_eq!(found(&db, "org-one", "web\0hook", 9).await, None, "a NUL is no part of a question");

        testing::run(&db, "UPDATE repositories SET name = 'o/p/other' WHERE id = '2'").await;
        testing::run(&db, "UPDATE repositories SET pushed_at = 9 WHERE id = '1'").await;
        testing::run(&db, "DELETE FROM repositories WHERE id = '4'").await;
        assert_eq!(found(&db, "org-one", "web", 9).await, ids(&["1"]));
        assert_eq!(found(&db, "org-one", "other", 9).await, ids(&["2"]));
        assert_eq!(found(&db, "org-one", "api", 9).await, ids(&[]));
    }

    #[tokio::test]
    async fn what_is_taken_back_is_not_found() {
        let dir = tempfile::tempdir().unwrap();
        let db = filled(dir.path()).await;
        let mut kept = db.begin().await.unwrap();
        execute!(kept, "UPDATE repositories SET name = 'o/p/kept' WHERE id = '1'").unwrap();
        kept.commit().await.unwrap();
        let mut dropped = db.begin().await.unwrap();
        execute!(dropped, "UPDATE repositories SET name = 'o/p/dropped' WHERE id = '2'").unwrap();
        drop(dropped);
        assert_eq!(found(&db, "org-one", "kept", 9).await, ids(&["1"]));
        assert_eq!(found(&db, "org-one", "dropped", 9).await, ids(&[]));
        assert_eq!(found(&db, "org-one", "webhook", 9).await, ids(&["2"]));
    }

    #[tokio::test]
    async fn a_database_of_before_and_one_whose_rows_have_new_numbers_are_indexed_at_the_start() {
        let dir = tempfile::tempdir().unwrap();
        let db = filled(dir.path()).await;
        for parts in [&MEMBERS, &REPOSITORIES] {
            let mut tx = db.begin().await.unwrap();
            for what in ["insert", "update", "delete"] {
                let sql = format!("DROP TRIGGER {}_{what}", parts.index);
                execute!(tx, AssertSqlSafe(sql.clone())).unwrap();
            }
            let sql = format!("DROP TABLE {}", parts.index);
            execute!(tx, AssertSqlSafe(sql.clone())).unwrap();
            tx.commit().await.unwrap();
        }
        db.migrate().await.unwrap();
        assert_eq!(found(&db, "org-one", "webhook", 9).await, ids(&["2"]));

        // As a VACUUM may do.
        testing::run(&db, "DELETE FROM repositories WHERE id = '1'").await;
        testing::run(&db, "UPDATE repositories SET rowid = rowid - 1").await;
        db.migrate().await.unwrap();
        assert_eq!(found(&db, "org-one", "webhook", 9).await, ids(&["2"]));
        assert_eq!(found(&db, "org-one", "api", 9).await, ids(&["4"]));
    }
}

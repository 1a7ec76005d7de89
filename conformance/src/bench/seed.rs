//! Fills large lists without hundreds of thousands of requests: rows for ours, files for Distribution.
//!
//! One entry is pushed as any client would; its rows or files are then repeated under other names. Rows are copied with
//! whatever columns they have, so that a change of the schema needs no change here.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use sqlx::{AssertSqlSafe, Connection as _, Row as _, SqliteConnection};

use super::measure::block_on;
use super::servers::{Peer, Running};
use super::work::{Kind, Spec, tag};

/// Lists shorter than this are pushed.
const WORTH_IT: u64 = 2_000;

/// What is filled once for several workloads.
pub(crate) fn key(spec: &Spec) -> u64 {
    let salt = match spec.kind {
        Kind::Tags(_) => 1,
        Kind::Catalog(_) => 2,
        Kind::Referrers(_) => 3,
        Kind::Start => 4,
        _ => return 0,
    };
    spec.entries * 8 + salt
}

/// Fills the list that a workload is about, where it is a long one; says how.
pub(crate) fn fill(running: &mut Running, spec: &Spec) -> Result<Option<&'static str>> {
    if spec.entries < WORTH_IT || key(spec) == 0 {
        return Ok(None);
    }
    let entries = spec.entries;
    let bench = &running.bench;
    let tags = bench.tags_repository(entries);
    let first = bench.catalog_repository(0);
    let referrers = bench.referrers_repository();
    match spec.kind {
        Kind::Tags(_) => bench.push_one(&tags)?,
        Kind::Catalog(_) | Kind::Start => bench.push_one(&first)?,
        _ => bench.push_one_referrer(entries)?,
    }
    match (running.peer, spec.kind) {
        (Peer::Wharfinger, kind) => {
            running.offline(|running| {
                let database = running.data().join("wharfinger.db");
                block_on(async {
                    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&database);
                    let mut rows = Rows(SqliteConnection::connect_with(&options).await?, 1);
                    match kind {
                        Kind::Tags(_) => rows.tags(&tags, entries).await,
                        Kind::Catalog(_) => rows.repositories(&first, entries).await,
                        Kind::Start => rows.blobs(entries).await,
                        _ => rows.referrers(&referrers, entries).await,
                    }?;
                    rows.0.close().await.context("close the database")
                })
            })?;
            Ok(Some("rows copied in the database"))
        }
        (Peer::DockerRegistry | Peer::Distribution, Kind::Tags(_)) => {
            let folder = repository_folder(running, &tags).join("_manifests/tags");
            repeat(&folder, &tag(0), (1..entries).map(tag))?;
            Ok(Some("files copied, those that lists need"))
        }
        (Peer::DockerRegistry | Peer::Distribution, Kind::Catalog(_)) => {
            let folder = repository_folder(running, &first);
            let (above, name) = folder.parent().zip(folder.file_name()).context("a repository's folder")?;
            // A shorter list was pushed, perhaps.
            let names = (1..entries).map(|number| format!("r{number:06}")).filter(|name| !above.join(name).exists());
            repeat(above, &name.to_string_lossy(), names)?;
            Ok(Some("files copied, those that lists need"))
        }
        _ => Ok(None),
    }
}

fn repository_folder(running: &Running, repository: &str) -> std::path::PathBuf {
    running.data().join("docker/registry/v2/repositories").join(repository)
}

/// Copies a folder under each of the names.
fn repeat(above: &Path, first: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let mut files = Vec::new();
    walk(&above.join(first), Path::new(""), &mut files)?;
    for name in names {
        let target = above.join(name);
        for (path, content) in &files {
            let file = target.join(path);
            match content {
                None => fs::create_dir_all(&file),
                Some(content) => fs::write(&file, content),
            }
            .with_context(|| format!("write {}", file.display()))?;
        }
    }
    Ok(())
}

/// What lists need of a folder, folders before what is in them.
fn walk(folder: &Path, below: &Path, found: &mut Vec<(std::path::PathBuf, Option<Vec<u8>>)>) -> Result<()> {
    found.push((below.to_owned(), None));
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        // What a tag pointed to before, and what is in folders of layers and uploads: no list asks for it, and it is most
        // of the files.
        if entry.file_name() == "index" || below.ends_with("_layers") || below.ends_with("_uploads") {
            continue;
        }
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            walk(&entry.path(), &path, found)?;
        } else {
            found.push((path, Some(fs::read(entry.path())?)));
        }
    }
    Ok(())
}

/// Rows of our database, and the number of the first copy.
struct Rows(SqliteConnection, i64);

/// Numbers from `$3` to one less than `$1`.
const NUMBERS: &str = "WITH RECURSIVE number(n) AS (SELECT $3 UNION ALL SELECT n + 1 FROM number WHERE n < $1 - 1)";

impl Rows {
    /// Copies the rows of `table` that match once for every number, with some columns made anew.
    async fn copy(
        &mut self,
        table: &str,
        matching: &str,
        changed: &[(&str, &str)],
        like: &str,
        entries: u64,
    ) -> Result<()> {
        let columns =
            sqlx::query(AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')"))).fetch_all(&mut self.0);
        let columns: Vec<String> = columns.await?.iter().map(|row| row.get(0)).collect();
        let value = |column: &String| {
            let anew = changed.iter().find(|(name, _)| name == column);
            anew.map_or_else(|| format!("one.{column}"), |(_, value)| (*value).to_owned())
        };
        let values: Vec<String> = columns.iter().map(value).collect();
        let statement = format!(
            "{NUMBERS} INSERT INTO {table} ({}) SELECT {} FROM {table} one, number WHERE {matching}",
            columns.join(", "),
            values.join(", ")
        );
        let done = sqlx::query(AssertSqlSafe(statement)).bind(i64::try_from(entries)?).bind(like);
        let done = done.bind(self.1).execute(&mut self.0);
        done.await.with_context(|| format!("copy rows of {table}"))?;
        Ok(())
    }

    async fn repository(&mut self, name: &str) -> Result<String> {
        let found = sqlx::query("SELECT id FROM repositories WHERE name = $1").bind(name).fetch_one(&mut self.0);
        Ok(found.await.with_context(|| format!("find {name}"))?.get(0))
    }

    async fn tags(&mut self, repository: &str, entries: u64) -> Result<()> {
        let id = self.repository(repository).await?;
        self.copy("tags", "one.repository_id = $2", &[("name", "printf('t%07d', n)")], &id, entries).await
    }

    async fn repositories(&mut self, first: &str, entries: u64) -> Result<()> {
        let id = self.repository(first).await?;
        let prefix = first.trim_end_matches("000000");
        let name = format!("printf('{prefix}%06d', n)");
        // A shorter list was pushed, perhaps.
        let pushed = sqlx::query("SELECT COUNT(*) FROM repositories WHERE name GLOB $1 || '[0-9]*'").bind(prefix);
        self.1 = pushed.fetch_one(&mut self.0).await?.get(0);
        let other = "printf('c%025d', n)";
        self.copy("repositories", "one.id = $2", &[("id", other), ("name", &name)], &id, entries).await?;
        for table in ["blob_links", "manifests", "manifest_references", "tags"] {
            self.copy(table, "one.repository_id = $2", &[("repository_id", other)], &id, entries).await?;
        }
        Ok(())
    }

    async fn blobs(&mut self, entries: u64) -> Result<()> {
        let one =
            sqlx::query("SELECT object_key FROM blobs LIMIT 1").fetch_one(&mut self.0).await.context("find a blob")?;
        let changed = [("digest", "printf('sha256:%064x', n)"), ("object_key", "printf('s%025d', n)")];
        self.copy("blobs", "one.object_key = $2", &changed, &one.get::<String, _>(0), entries).await
    }

    async fn referrers(&mut self, repository: &str, entries: u64) -> Result<()> {
        let id = self.repository(repository).await?;
        let matching =
            "one.repository_id = $2 AND one.subject IS NOT NULL AND one.digest NOT LIKE 'sha256:0000000000%'";
        self.copy("manifests", matching, &[("digest", "printf('sha256:%064x', n)")], &id, entries).await
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_folder_is_repeated_with_all_that_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("one/current/empty")).unwrap();
        fs::create_dir_all(folder.path().join("one/index/sha256")).unwrap();
        fs::write(folder.path().join("one/current/link"), "sha256:x").unwrap();
        repeat(folder.path(), "one", ["two", "three"].map(str::to_owned).into_iter()).unwrap();
        assert_eq!(fs::read_to_string(folder.path().join("three/current/link")).unwrap(), "sha256:x");
        assert!(folder.path().join("two/current/empty").is_dir());
        assert!(!folder.path().join("two/index").exists(), "what no list needs");
    }

    #[tokio::test]
    async fn rows_are_copied_with_whatever_columns_they_have() {
        let mut rows = Rows(SqliteConnection::connect("sqlite::memory:").await.unwrap(), 1);
        for statement in [
            "CREATE TABLE repositories (id TEXT, name TEXT)",
            "CREATE TABLE tags (repository_id TEXT, name TEXT, new_column INTEGER)",
            "INSERT INTO repositories VALUES ('r', 'a/b')",
            "INSERT INTO tags VALUES ('r', 't0000000', 7), ('other', 'x', 8)",
        ] {
            sqlx::query(statement).execute(&mut rows.0).await.unwrap();
        }
        rows.tags("a/b", 4).await.unwrap();
        let found = sqlx::query("SELECT name FROM tags WHERE repository_id = 'r' AND new_column = 7 ORDER BY name");
        let names: Vec<String> = found.fetch_all(&mut rows.0).await.unwrap().iter().map(|row| row.get(0)).collect();
        assert_eq!(names, [tag(0), tag(1), tag(2), tag(3)]);
    }
}

//! Tags: names that point at a manifest of the same repository. Lists are keyset pages in byte order.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::lists::{Names, names_of};
use crate::manifests::{cursor_of, read_cursor};
use crate::names::{Digest, RepoName, Tag};
use crate::repositories::Order;
use crate::{execute, query_all, query_all_each, query_one, query_opt};

/// A tag and what it points at.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TagRow {
    /// The tag.
    pub name: String,
    /// Digest of the manifest that it points at.
    pub digest: String,
    /// When it last moved (unix seconds).
    pub updated_at: i64,
}

/// Takes a tag away; its manifest and the manifest's other tags stay. Returns whether it was there.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, repository_id: &str, tag: &Tag) -> Result<bool> {
    let gone = execute!(tx, "DELETE FROM tags WHERE repository_id = $1 AND name = $2", repository_id, tag.as_str())?;
    Ok(gone > 0)
}

/// The digest that a tag points at.
///
/// # Errors
/// Those of the database.
pub async fn target(session: &mut Session, repository_id: &str, tag: &Tag) -> Result<Option<String>> {
    let row = query_opt!(
        session,
        (String,),
        "SELECT digest FROM tags WHERE repository_id = $1 AND name = $2",
        repository_id,
        tag.as_str(),
    )?;
    Ok(row.map(|(digest,)| digest))
}

/// Names of at most `limit` tags that point at a manifest.
///
/// # Errors
/// Those of the database.
pub async fn pointing_at(
    session: &mut Session,
    repository_id: &str,
    digest: &Digest,
    limit: i64,
) -> Result<Vec<String>> {
    let rows = query_all!(
        session,
        (String,),
        "SELECT name FROM tags WHERE repository_id = $1 AND digest = $2 ORDER BY name LIMIT CAST($3 AS BIGINT)",
        repository_id,
        digest.as_str(),
        limit,
    )?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// Names of at most `limit` tags of a repository.
///
/// # Errors
/// Those of the database.
pub async fn of_repository(session: &mut Session, repository_id: &str, limit: i64) -> Result<Vec<String>> {
    let sql = "SELECT name FROM tags WHERE repository_id = $1 ORDER BY name LIMIT CAST($2 AS BIGINT)";
    let rows = query_all!(session, (String,), sql, repository_id, limit)?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// At most `limit` tags of the repository after the name `after`.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session, repo: &RepoName, after: &str, limit: i64) -> Result<Vec<TagRow>> {
    // A bare `LIMIT $3` has SQLite parse and plan the statement anew for every value; a cast keeps it prepared.
    query_all!(
        session,
        TagRow,
        "SELECT t.name, t.digest, t.updated_at FROM repositories r
         JOIN tags t ON t.repository_id = r.id
         WHERE r.name = $1 AND t.name > $2 ORDER BY t.name LIMIT CAST($3 AS BIGINT)",
        repo.canonical(),
        after,
        limit,
    )
}

/// Names of at most `limit` tags of the repository after the name `after`.
///
/// # Errors
/// Those of the database.
pub async fn names(session: &mut Session, repo: &RepoName, after: &str, limit: i64) -> Result<Names> {
    query_one!(
        session,
        Names,
        names_of!(
            "SELECT t.name FROM repositories r JOIN tags t ON t.repository_id = r.id
             WHERE r.name = $1 AND t.name > $2 ORDER BY t.name LIMIT CAST($3 AS BIGINT)"
        ),
        repo.canonical(),
        after,
        limit,
    )
}

/// A tag with what it points at.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Listed {
    /// The tag.
    pub name: String,
    /// When it last moved (unix seconds).
    pub updated_at: i64,
    /// Name of who moved it.
    pub pushed_by: String,
    /// Digest of the manifest that it points at.
    pub digest: String,
    /// The manifest's media type.
    pub media_type: String,
    /// The manifest's length in bytes.
    pub size: i64,
    /// The manifest's artifact type, or its config's media type.
    pub artifact_type: Option<String>,
    /// Bytes of the manifest's config and layers, or of those of its entries that are here, each counted once.
    pub content_size: i64,
    /// When the manifest was last pulled, by any name (unix seconds).
    pub pulled_at: Option<i64>,
    /// Name of who did.
    pub pulled_by: Option<String>,
}

/// Which tags of a repository, and from where on.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Only those whose name holds this, in letters of either case.
    pub search: &'a str,
    /// Whether tags that only tell a tool which image their manifest is about (`sha256-….sig`) are left out.
    pub without_schemes: bool,
    /// In which order.
    pub order: Order,
    /// The [`Listed::cursor`] to go on after.
    pub after: &'a str,
}

impl Listed {
    /// What to go on after, where this is the last of a page.
    #[must_use]
    pub fn cursor(&self, order: Order) -> String {
        match order {
            Order::Name => self.name.clone(),
            Order::Pushed => cursor_of(self.updated_at, &self.name),
        }
    }
}

macro_rules! page {
    ($where:literal) => {
        concat!(
            "SELECT t.name, t.updated_at, t.pushed_by, t.digest, m.media_type, m.size, m.artifact_type,
                    p.pulled_at, p.pulled_by,
                    m.content_size + COALESCE((
                        SELECT CAST(SUM(b.size) AS BIGINT) FROM blob_links l
                        JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
                        WHERE l.repository_id = t.repository_id AND l.digest IN (
                            SELECT y.target FROM manifest_references x JOIN manifest_references y
                            ON y.repository_id = x.repository_id AND y.manifest = x.target
                            WHERE x.repository_id = t.repository_id AND x.manifest = t.digest)), 0) AS content_size
             FROM tags t JOIN manifests m ON m.repository_id = t.repository_id AND m.digest = t.digest
             LEFT JOIN last_pulls p ON p.repository_id = t.repository_id AND p.digest = t.digest
             WHERE t.repository_id = $1 AND LOWER(t.name) LIKE $2 ESCAPE '!'
             AND ($3 = FALSE OR LENGTH(t.name) < 71 OR SUBSTR(t.name, 1, 7) NOT IN ('sha256-', 'sha512-')) AND ",
            $where
        )
    };
}

/// At most `limit` tags of a repository.
///
/// # Errors
/// Those of the database.
pub async fn page(session: &mut Session, repository_id: &str, wanted: &Wanted<'_>, limit: i64) -> Result<Vec<Listed>> {
    let pattern = contains(wanted.search);
    match wanted.order {
        Order::Name => query_all!(
            session,
            Listed,
            page!("t.name > $4 ORDER BY t.name LIMIT CAST($5 AS BIGINT)"),
            repository_id,
            pattern,
            wanted.without_schemes,
            wanted.after,
            limit,
        ),
        Order::Pushed => {
            let (at, name) = read_cursor(wanted.after);
            query_all!(
                session,
                Listed,
                page!(
                    "(t.updated_at, t.name) < ($4, $5) ORDER BY t.updated_at DESC, t.name DESC LIMIT CAST($6 AS BIGINT)"
                ),
                repository_id,
                pattern,
                wanted.without_schemes,
                at,
                name,
                limit,
            )
        }
    }
}

/// A pattern for `LIKE … ESCAPE '!'`: holds a text somewhere.
fn contains(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.to_lowercase().chars() {
        if matches!(c, '!' | '%' | '_') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// Those of the tags that are there.
///
/// # Errors
/// Those of the database.
pub async fn named<'a>(
    session: &mut Session,
    repository_id: &str,
    tags: impl Iterator<Item = &'a Tag>,
) -> Result<Vec<TagRow>> {
    // Tags need no escaping.
    let quoted: Vec<String> = tags.map(|tag| format!("\"{}\"", tag.as_str())).collect();
    query_all_each!(
        session,
        TagRow,
        "SELECT name, digest, updated_at FROM tags
         WHERE repository_id = $1 AND name IN (SELECT value FROM json_each($2)) ORDER BY name",
        "SELECT name, digest, updated_at FROM tags
         WHERE repository_id = $1 AND name IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB))) ORDER BY name",
        repository_id,
        format!("[{}]", quoted.join(",")),
    )
}

#[cfg(test)]
mod tests {
    use super::contains;

    #[test]
    fn what_is_searched_is_text_and_no_pattern() {
        assert_eq!(contains(""), "%%");
        assert_eq!(contains("50%_!V"), "%50!%!_!!v%");
    }
}

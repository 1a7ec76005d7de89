//! Tags: names that point at a manifest of the same repository. Lists are keyset pages in byte order.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::names::{Digest, RepoName, Tag};
use crate::{execute, query_all, query_opt};

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

/// Points a tag at a manifest that is in the repository.
///
/// # Errors
/// Those of the database.
pub async fn set(tx: &mut Tx, repository_id: &str, tag: &Tag, digest: &Digest, now: i64) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO tags (repository_id, name, digest, updated_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository_id, name) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at",
        repository_id,
        tag.as_str(),
        digest.as_str(),
        now,
    )?;
    Ok(())
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
        "SELECT name FROM tags WHERE repository_id = $1 AND digest = $2 ORDER BY name LIMIT $3",
        repository_id,
        digest.as_str(),
        limit,
    )?;
    Ok(rows.into_iter().map(|(name,)| name).collect())
}

/// At most `limit` tags of the repository after the name `after`.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session, repo: &RepoName, after: &str, limit: i64) -> Result<Vec<TagRow>> {
    query_all!(
        session,
        TagRow,
        "SELECT t.name, t.digest, t.updated_at FROM repositories r
         JOIN tags t ON t.repository_id = r.id
         WHERE r.name = $1 AND t.name > $2 ORDER BY t.name LIMIT $3",
        repo.canonical(),
        after,
        limit,
    )
}

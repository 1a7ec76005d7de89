//! Repositories: rows made by the first push. Lists are keyset pages in byte order of the canonical name.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::names::{RepoName, new_id};
use crate::removal::FIRST;
use crate::{execute, query_all, query_one, query_opt};

/// A repository.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Repository {
    /// Opaque id.
    pub id: String,
    /// The organization it lies in.
    pub org_id: String,
    /// The project it lies in.
    pub project_id: String,
    /// Canonical name, `<org>/<project>/<path>` or `<org>/<name>`.
    pub name: String,
    /// When it was first pushed to (unix seconds).
    pub created_at: i64,
    /// When a manifest was last pushed (unix seconds).
    pub pushed_at: i64,
}

/// What a list of repositories is drawn from. Both bounds hold where both are given.
#[derive(Debug, Clone, Default)]
pub struct RepositoryFilter<'a> {
    /// Only of this organization.
    pub org_id: Option<&'a str>,
    /// Only of this project.
    pub project_id: Option<&'a str>,
}

/// Finds a repository by name.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, name: &RepoName) -> Result<Option<Repository>> {
    query_opt!(session, Repository, "SELECT * FROM repositories WHERE name = $1", name.canonical())
}

/// The repository of that name, made if it was not there.
///
/// # Errors
/// Those of the database.
pub async fn ensure(tx: &mut Tx, org_id: &str, project_id: &str, name: &RepoName, now: i64) -> Result<Repository> {
    if let Some(found) = find(tx, name).await? {
        return Ok(found);
    }
    execute!(
        tx,
        "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
         VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (name) DO NOTHING",
        new_id(),
        org_id,
        project_id,
        name.canonical(),
        now,
    )?;
    query_one!(tx, Repository, "SELECT * FROM repositories WHERE name = $1", name.canonical())
}

/// Notes that a manifest was pushed.
///
/// # Errors
/// Those of the database.
pub async fn touch(tx: &mut Tx, id: &str, now: i64) -> Result<()> {
    execute!(tx, "UPDATE repositories SET pushed_at = $2 WHERE id = $1", id, now)?;
    Ok(())
}

/// As [`list`], but only those that are to be kept; the others are read and passed over.
///
/// # Errors
/// Those of the database.
pub async fn list_where(
    session: &mut Session,
    filter: &RepositoryFilter<'_>,
    after: &str,
    limit: i64,
    keep: &(dyn Fn(&Repository) -> bool + Sync),
) -> Result<Vec<Repository>> {
    let most = usize::try_from(limit).unwrap_or(0);
    let mut kept = Vec::new();
    let mut after = after.to_owned();
    while kept.len() < most {
        let rows = list(session, filter, &after, 1000).await?;
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.name);
        kept.extend(rows.into_iter().filter(|row| keep(row)));
    }
    kept.truncate(most);
    Ok(kept)
}

/// At most `limit` repositories after the name `after`, in byte order of the name.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    filter: &RepositoryFilter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Repository>> {
    // Buried ones sort before it.
    let after = after.max(FIRST);
    match (filter.project_id, filter.org_id) {
        (Some(project), _) => query_all!(
            session,
            Repository,
            "SELECT * FROM repositories WHERE project_id = $1 AND name > $2 ORDER BY name LIMIT $3",
            project,
            after,
            limit,
        ),
        (None, Some(org)) => query_all!(
            session,
            Repository,
            "SELECT * FROM repositories WHERE org_id = $1 AND name > $2 ORDER BY name LIMIT $3",
            org,
            after,
            limit,
        ),
        (None, None) => query_all!(
            session,
            Repository,
            "SELECT * FROM repositories WHERE name > $1 ORDER BY name LIMIT $2",
            after,
            limit,
        ),
    }
}

//! Repositories: rows made by the first push. Lists are keyset pages in byte order of the canonical name.

use std::collections::HashMap;

use sqlx::FromRow;

use crate::db::{Db, Session, Tx};
use crate::error::{Error, Result};
use crate::lists::{Names, names_of};
use crate::names::{RepoName, new_id};
use crate::removal::FIRST;
use crate::{execute, query_all, query_all_each, query_one, query_opt, query_opt_each};

mod list;

pub use self::list::{Order, Wanted, page};

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

/// Begins a transaction in a repository, as [`ensure`] returns it.
///
/// # Errors
/// As [`ensure`].
pub async fn begin_in(db: &Db, org_id: &str, project_id: &str, name: &RepoName, now: i64) -> Result<(Tx, Repository)> {
    let find = || sqlx::query("SELECT * FROM repositories WHERE name = $1").bind(name.canonical());
    let (mut tx, rows) = db.begin_with(find).await?;
    let found = rows.iter().flatten().next().map(Repository::from_row).transpose()?;
    let repository = match found {
        Some(found) if found.project_id == project_id => found,
        _ => ensure(&mut tx, org_id, project_id, name, now).await?,
    };
    Ok((tx, repository))
}

/// The repository of that name in that project, made if it was not there. Until the transaction ends nobody buries it.
///
/// # Errors
/// [`Error::NotFound`] where the project is gone, also where another took its name; else those of the database.
pub async fn ensure(tx: &mut Tx, org_id: &str, project_id: &str, name: &RepoName, now: i64) -> Result<Repository> {
    let gone = || Error::NotFound("project");
    // Where several write, whoever buries it gives it another name, which waits for this lock and other pushes do not.
    let found = query_opt_each!(
        tx,
        Repository,
        "SELECT * FROM repositories WHERE name = $1",
        "SELECT * FROM repositories WHERE name = $1 FOR KEY SHARE",
        name.canonical(),
    )?;
    if let Some(found) = found {
        return if found.project_id == project_id { Ok(found) } else { Err(gone()) };
    }
    execute!(
        tx,
        "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
         SELECT $1, $2, id, $4, $5, $5 FROM projects WHERE id = $3 ON CONFLICT (name) DO NOTHING",
        new_id(),
        org_id,
        project_id,
        name.canonical(),
        now,
    )?;
    // Where several write, the row above waited for whoever buried the project meanwhile, and must not stay.
    macro_rules! made {
        ($lock:literal) => {
            concat!(
                "SELECT r.* FROM repositories r JOIN projects p ON p.id = r.project_id
                 WHERE r.name = $1 AND r.project_id = $2 AND p.slug > $3",
                $lock
            )
        };
    }
    let made =
        query_opt_each!(tx, Repository, made!(""), made!(" FOR KEY SHARE OF r"), name.canonical(), project_id, FIRST,)?;
    made.ok_or_else(gone)
}

/// As [`list`], but only those that are to be kept; the others are read and passed over. Where `look_at` were read before
/// there were enough, and there may be more, the last that was looked at is returned too.
///
/// # Errors
/// Those of the database.
pub async fn list_where(
    session: &mut Session,
    filter: &RepositoryFilter<'_>,
    after: &str,
    limit: i64,
    look_at: i64,
    keep: &(dyn Fn(&Repository) -> bool + Sync),
) -> Result<(Vec<Repository>, Option<Repository>)> {
    let most = usize::try_from(limit).unwrap_or(0);
    let mut kept = Vec::new();
    let (mut after, mut left) = (after.to_owned(), look_at.max(1));
    while kept.len() < most {
        let batch = left.min(1000);
        let rows = list(session, filter, &after, batch).await?;
        let read = i64::try_from(rows.len()).unwrap_or(batch);
        let Some(last) = rows.last().cloned() else { break };
        after.clone_from(&last.name);
        kept.extend(rows.into_iter().filter(|row| keep(row)));
        left -= read;
        if read < batch {
            break;
        }
        if left == 0 && kept.len() < most {
            return Ok((kept, Some(last)));
        }
    }
    kept.truncate(most);
    Ok((kept, None))
}

/// Finds a repository by its id; not one that is buried.
///
/// # Errors
/// Those of the database.
pub async fn find_by_id(session: &mut Session, id: &str) -> Result<Option<Repository>> {
    query_opt!(session, Repository, "SELECT * FROM repositories WHERE id = $1 AND name > $2", id, FIRST)
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
            "SELECT * FROM repositories WHERE project_id = $1 AND name > $2 ORDER BY name LIMIT CAST($3 AS BIGINT)",
            project,
            after,
            limit,
        ),
        (None, Some(org)) => query_all!(
            session,
            Repository,
            "SELECT * FROM repositories WHERE org_id = $1 AND name > $2 ORDER BY name LIMIT CAST($3 AS BIGINT)",
            org,
            after,
            limit,
        ),
        (None, None) => query_all!(
            session,
            Repository,
            "SELECT * FROM repositories WHERE name > $1 ORDER BY name LIMIT CAST($2 AS BIGINT)",
            after,
            limit,
        ),
    }
}

/// The names of what [`list`] returns.
///
/// # Errors
/// Those of the database.
pub async fn names(session: &mut Session, filter: &RepositoryFilter<'_>, after: &str, limit: i64) -> Result<Names> {
    let after = after.max(FIRST);
    match (filter.project_id, filter.org_id) {
        (Some(project), _) => query_one!(
            session,
            Names,
            names_of!(
                "SELECT name FROM repositories WHERE project_id = $1 AND name > $2 ORDER BY name LIMIT CAST($3 AS BIGINT)"
            ),
            project,
            after,
            limit,
        ),
        (None, Some(org)) => query_one!(
            session,
            Names,
            names_of!(
                "SELECT name FROM repositories WHERE org_id = $1 AND name > $2 ORDER BY name LIMIT CAST($3 AS BIGINT)"
            ),
            org,
            after,
            limit,
        ),
        (None, None) => query_one!(
            session,
            Names,
            names_of!("SELECT name FROM repositories WHERE name > $1 ORDER BY name LIMIT CAST($2 AS BIGINT)"),
            after,
            limit,
        ),
    }
}

/// What a list says of a repository beside its row.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Summary {
    /// How many tags it has.
    pub tags: i64,
    /// Bytes of the blobs that can be read in it; one that it shares with others counts in each.
    pub size: i64,
    /// When anything of it was last pulled (unix seconds).
    pub pulled_at: Option<i64>,
    /// Name of who did.
    pub pulled_by: Option<String>,
}

#[derive(Debug, sqlx::FromRow)]
struct OfRepository {
    id: String,
    #[sqlx(flatten)]
    summary: Summary,
}

macro_rules! summaries {
    ($set:literal) => {
        concat!(
            "SELECT r.id, p.pulled_at, p.pulled_by,
                    (SELECT COUNT(*) FROM tags t WHERE t.repository_id = r.id) AS tags,
                    (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM blob_links l
                     JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
                     WHERE l.repository_id = r.id) AS size
             FROM repositories r LEFT JOIN last_pulls p ON p.repository_id = r.id AND p.digest = ''
             WHERE r.id IN (",
            $set,
            ")"
        )
    };
}

/// What a list says of some repositories, by their ids: a page of them, not more.
///
/// # Errors
/// Those of the database.
pub async fn summaries<'a>(
    session: &mut Session,
    ids: impl Iterator<Item = &'a str>,
) -> Result<HashMap<String, Summary>> {
    let ids: Vec<&str> = ids.collect();
    let rows = query_all_each!(
        session,
        OfRepository,
        summaries!("SELECT value FROM json_each($1)"),
        summaries!("SELECT jsonb_array_elements_text(CAST($1 AS JSONB))"),
        serde_json::to_string(&ids).unwrap_or_default(),
    )?;
    Ok(rows.into_iter().map(|row| (row.id, row.summary)).collect())
}

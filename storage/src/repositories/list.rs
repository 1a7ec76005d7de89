//! Lists of repositories, searched and sorted.

use super::Repository;
use crate::db::{Session, parts, within};
use crate::error::Result;
use crate::manifests::{cursor_of, read_cursor};
use crate::removal::FIRST;
use crate::{query_all, query_all_each};

/// In which order a list is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// By name.
    #[default]
    Name,
    /// What was pushed last comes first.
    Pushed,
}

/// Which repositories of an organization, and from where on.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Id of the organization.
    pub org_id: &'a str,
    /// Its slug, which every name begins with and none is searched in.
    pub org: &'a str,
    /// Only of this project.
    pub project_id: Option<&'a str>,
    /// Only those whose name behind the organization holds this.
    pub search: &'a str,
    /// In which order.
    pub order: Order,
    /// The [`Repository::cursor`] to go on after.
    pub after: &'a str,
}

impl Repository {
    /// What to go on after, where this is the last of a page.
    #[must_use]
    pub fn cursor(&self, order: Order) -> String {
        match order {
            Order::Name => self.name.clone(),
            Order::Pushed => cursor_of(self.pushed_at, &self.name),
        }
    }
}

/// The repositories that match: `$1` is the pattern of what is searched for, behind the organization.
macro_rules! matching {
    ($session:expr, $rest:literal; $($arg:expr),+ $(,)?) => {
        query_all_each!(
            $session,
            Repository,
            // As an expression, or SQLite plans anew for every pattern.
            concat!("SELECT * FROM repositories WHERE name GLOB ($1 || '') AND ", $rest),
            concat!("SELECT * FROM repositories WHERE name LIKE $1 AND ", $rest),
            $($arg),+
        )
    };
}

/// Those of few repositories that match, on `SQLite`: `$1` is the pattern, `$2` their ids in JSON. Nothing but the ids leads.
macro_rules! matching_of {
    ($rest:literal) => {
        concat!(
            "SELECT * FROM repositories WHERE id IN (SELECT value FROM json_each($2)) AND name GLOB ($1 || '')
             AND +org_id = $3 AND ($4 = '' OR +project_id = $4) AND ",
            $rest
        )
    };
}

static BY_NAME_OF: &str = matching_of!("+name > $5 ORDER BY +name LIMIT $6");
static BY_PUSH_OF: &str =
    matching_of!("(+pushed_at, +name) < ($5, $6) AND +name > $7 ORDER BY +pushed_at DESC, +name DESC LIMIT $8");

/// At most `limit` repositories.
///
/// # Errors
/// Those of the database.
pub async fn page(session: &mut Session, wanted: &Wanted<'_>, limit: i64) -> Result<Vec<Repository>> {
    let pattern = within(session, &format!("{}/", wanted.org), wanted.search);
    if let Some(ids) = parts::REPOSITORIES.few(session, wanted.org_id, wanted.search, parts::FEW).await? {
        return page_of(session, wanted, &ids, &pattern, limit).await;
    }
    let (at, name) = read_cursor(wanted.after);
    match (wanted.order, wanted.project_id) {
        (Order::Name, Some(project)) => matching!(
            session,
            "project_id = $2 AND name > $3 ORDER BY name LIMIT $4";
            pattern,
            project,
            wanted.after.max(FIRST),
            limit,
        ),
        (Order::Name, None) => matching!(
            session,
            "org_id = $2 AND name > $3 ORDER BY name LIMIT $4";
            pattern,
            wanted.org_id,
            wanted.after.max(FIRST),
            limit,
        ),
        (Order::Pushed, Some(project)) => matching!(
            session,
            "project_id = $2 AND (pushed_at, name) < ($3, $4) AND name > $5
             ORDER BY pushed_at DESC, name DESC LIMIT $6";
            pattern,
            project,
            at,
            name,
            FIRST,
            limit,
        ),
        (Order::Pushed, None) => matching!(
            session,
            "org_id = $2 AND (pushed_at, name) < ($3, $4) AND name > $5
             ORDER BY pushed_at DESC, name DESC LIMIT $6";
            pattern,
            wanted.org_id,
            at,
            name,
            FIRST,
            limit,
        ),
    }
}

/// At most `limit` of those repositories whose ids are given.
async fn page_of(
    session: &mut Session,
    wanted: &Wanted<'_>,
    ids: &[String],
    pattern: &str,
    limit: i64,
) -> Result<Vec<Repository>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let (ids, project) = (serde_json::to_string(ids).unwrap_or_default(), wanted.project_id.unwrap_or_default());
    let (at, name) = read_cursor(wanted.after);
    let org = wanted.org_id;
    match wanted.order {
        Order::Name => {
            let after = wanted.after.max(FIRST);
            query_all!(session, Repository, BY_NAME_OF, pattern, ids, org, project, after, limit)
        }
        Order::Pushed => {
            query_all!(session, Repository, BY_PUSH_OF, pattern, ids, org, project, at, name, FIRST, limit)
        }
    }
}

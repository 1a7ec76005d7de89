//! Finding events, in the order of their chain or against it, with bounded work for every page.
//!
//! The filter that is likely to leave least leads: its index gives at most [`SCAN`] events beside the cursor, and the other
//! filters choose among those. A page may therefore come back short, or empty, and still have a cursor to go on from.
//! Times are looked up in `audit_spans`, since a chain is in the order of commits and only about in that of time.

use super::{Event, Row, SPAN, columns};
use crate::db::Session;
use crate::error::Result;
use crate::{query_all, query_one};

/// Most events that are looked at for one page.
pub(crate) const SCAN: i64 = 2_000;

/// Which events. Empty text and `None` choose all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter<'a> {
    /// Not before this (unix milliseconds).
    pub since: Option<i64>,
    /// Before this (unix milliseconds).
    pub until: Option<i64>,
    /// Name of the actor.
    pub actor: &'a str,
    /// An action (`user.create`), or all of a noun (`user.*`).
    pub action: &'a str,
    /// Slug of the project.
    pub project: &'a str,
    /// Only of these projects.
    pub projects: Option<&'a [Within]>,
    /// `ok`, `denied` or `error`.
    pub outcome: &'a str,
    /// `browser`, `cli`, `api`, `docker` or `server`.
    pub client: &'a str,
    /// The client's address.
    pub address: &'a str,
    /// What it was done to. Leads nothing: to be given with an action, or the noun of one, where events are many.
    pub target: &'a str,
}

/// A project as an event knows it: its slug, which another may have had before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// The slug.
    pub slug: String,
    /// When it was created (unix milliseconds): what is older is another's.
    pub since: i64,
}

impl Within {
    /// Whether an event is of the project.
    #[must_use]
    pub fn holds(&self, event: &Event) -> bool {
        event.event.project == self.slug && event.event.at_ms >= self.since
    }
}

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Newest first: the cursor is the place that the page begins before.
    Newest,
    /// Oldest first: the cursor is the place that the page begins after.
    Oldest,
}

/// A page of events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The events, in the order asked for.
    pub events: Vec<Event>,
    /// The cursor of the next page; `None` at the end.
    pub next: Option<i64>,
}

/// The statements of one leading filter: a page newest first, a page oldest first, and how far either looked.
struct Statements {
    newest: &'static str,
    oldest: &'static str,
    newest_reach: &'static str,
    oldest_reach: &'static str,
}

macro_rules! window {
    ($what:expr, $lead:literal, $order:literal) => {
        concat!(
            "(SELECT ",
            $what,
            " FROM audit_events WHERE org_id = $1 AND seq >= $2 AND seq <= $3",
            $lead,
            " ORDER BY seq ",
            $order,
            " LIMIT $4) AS seen"
        )
    };
}

macro_rules! page {
    ($lead:literal, $order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM ",
            window!("seq AS place", $lead, $order),
            " CROSS JOIN audit_events WHERE org_id = $1 AND seq = place
                AND ($6 = '' OR actor = $6) AND ($7 = '' OR action = $7) AND ($8 = '' OR noun = $8)
                AND ($9 = '' OR project = $9) AND ($10 = '' OR outcome = $10) AND ($11 = '' OR client = $11)
                AND ($12 = '' OR address = $12) AND at_ms >= $13 AND at_ms < $14
                AND ($15 = '' OR replace($15, '/' || project || '/', '') <> $15)
                AND ($17 = '' OR target = $17)
             ORDER BY place ",
            $order,
            " LIMIT $16"
        )
    };
}

macro_rules! reach {
    ($lead:literal, $order:literal, $end:literal) => {
        concat!("SELECT COUNT(*), ", $end, "(seq) FROM ", window!("seq", $lead, $order))
    };
}

macro_rules! statements {
    ($lead:literal) => {
        Statements {
            newest: page!($lead, "DESC"),
            oldest: page!($lead, "ASC"),
            newest_reach: reach!($lead, "DESC", "MIN"),
            oldest_reach: reach!($lead, "ASC", "MAX"),
        }
    };
}

static BY_ADDRESS: Statements = statements!(" AND address = $5");
static BY_ACTOR: Statements = statements!(" AND actor = $5");
static BY_ACTION: Statements = statements!(" AND action = $5");
static BY_PROJECT: Statements = statements!(" AND project = $5");
static BY_NOUN: Statements = statements!(" AND noun = $5");
static BY_OUTCOME: Statements = statements!(" AND outcome = $5");
static BY_CLIENT: Statements = statements!(" AND client = $5");
static BY_NOTHING: Statements = statements!(" AND $5 = ''");

/// At most `limit` events that pass the filter, beside the cursor; from the end (or beginning) without one.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    org_id: &str,
    filter: &Filter<'_>,
    direction: Direction,
    cursor: Option<i64>,
    limit: i64,
) -> Result<Found> {
    let wanted = Wanted::new(filter);
    let Some((mut low, mut high)) = bounds(session, org_id, filter).await? else {
        return Ok(Found { events: Vec::new(), next: None });
    };
    match (direction, cursor) {
        (Direction::Newest, Some(before)) => high = high.min(before.saturating_sub(1)),
        (Direction::Oldest, Some(after)) => low = low.max(after.saturating_add(1)),
        (_, None) => {}
    }
    let (statements, key) = wanted.lead();
    let (page, reach) = match direction {
        Direction::Newest => (statements.newest, statements.newest_reach),
        Direction::Oldest => (statements.oldest, statements.oldest_reach),
    };
    let rows = query_all!(
        session,
        Row,
        page,
        org_id,
        low,
        high,
        SCAN,
        key,
        wanted.actor,
        wanted.action,
        wanted.noun,
        wanted.project,
        wanted.outcome,
        wanted.client,
        wanted.address,
        filter.since.unwrap_or(i64::MIN),
        filter.until.unwrap_or(i64::MAX),
        wanted.projects.as_str(),
        limit,
        filter.target,
    )?;
    let mut events: Vec<Event> = rows.into_iter().map(Event::from).collect();
    let full = i64::try_from(events.len()).is_ok_and(|found| found >= limit);
    let last = events.last().map(|event| event.seq);
    if let Some(projects) = filter.projects {
        events.retain(|event| projects.iter().any(|project| project.holds(event)));
    }
    if full {
        let next = last;
        return Ok(Found { events, next });
    }
    let (seen, end) = query_one!(session, (i64, Option<i64>), reach, org_id, low, high, SCAN, key)?;
    Ok(Found { events, next: end.filter(|_| seen >= SCAN) })
}

/// The places between which everything lies that is of the filter's time; none where nothing is.
async fn bounds(session: &mut Session, org_id: &str, filter: &Filter<'_>) -> Result<Option<(i64, i64)>> {
    let (mut low, mut high) = (0, i64::MAX);
    if let Some(since) = filter.since {
        let sql = "SELECT MIN(span) FROM audit_spans WHERE org_id = $1 AND max_ms >= $2";
        let (span,) = query_one!(session, (Option<i64>,), sql, org_id, since)?;
        let Some(span) = span else { return Ok(None) };
        low = span * SPAN;
    }
    if let Some(until) = filter.until {
        let sql = "SELECT MAX(span) FROM audit_spans WHERE org_id = $1 AND min_ms < $2";
        let (span,) = query_one!(session, (Option<i64>,), sql, org_id, until)?;
        let Some(span) = span else { return Ok(None) };
        high = span * SPAN + SPAN - 1;
    }
    Ok(Some((low, high)))
}

/// A filter as the statements take it.
struct Wanted<'a> {
    actor: &'a str,
    action: &'a str,
    noun: &'a str,
    project: &'a str,
    /// `/a/b/`: slugs have no slash.
    projects: String,
    outcome: &'a str,
    client: &'a str,
    address: &'a str,
}

impl<'a> Wanted<'a> {
    fn new(filter: &Filter<'a>) -> Self {
        let (action, noun) = match filter.action.strip_suffix(".*") {
            Some(noun) => ("", noun),
            None => (filter.action, ""),
        };
        let (project, projects) = match filter.projects {
            Some([one]) if filter.project.is_empty() => (one.slug.as_str(), String::new()),
            // Of no project at all: no slug is a slash.
            Some([]) => ("/", String::new()),
            Some(several) => {
                let slugs: Vec<&str> = several.iter().map(|project| project.slug.as_str()).collect();
                (filter.project, format!("/{}/", slugs.join("/")))
            }
            None => (filter.project, String::new()),
        };
        Self {
            actor: filter.actor,
            action,
            noun,
            project,
            projects,
            outcome: filter.outcome,
            client: filter.client,
            address: filter.address,
        }
    }

    /// The filter that is likely to leave least.
    fn lead(&self) -> (&'static Statements, &'a str) {
        let mut by: Vec<(&'static Statements, &'a str)> = vec![
            (&BY_ADDRESS, self.address),
            (&BY_ACTOR, self.actor),
            (&BY_ACTION, self.action),
            (&BY_PROJECT, self.project),
            (&BY_NOUN, self.noun),
            (&BY_CLIENT, self.client),
            (&BY_OUTCOME, self.outcome),
        ];
        if self.outcome != "ok" {
            // Failures are few.
            by.rotate_right(1);
        }
        by.into_iter().find(|(_, key)| !key.is_empty()).unwrap_or((&BY_NOTHING, ""))
    }
}

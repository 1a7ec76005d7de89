//! Finding events, in the order of their chain or against it, with bounded work for every page.
//!
//! The filter that is likely to leave least leads: its term gives at most [`TERMS`] bundles beside the cursor, those that have
//! the other filters' terms too are opened, and no more of them than hold [`SCAN`] events. A page may therefore come back
//! short, or empty, and still have a cursor to go on from. Times are looked up in `audit_spans`, since a chain is in the order
//! of commits and only about in that of time.

use super::bundle::{MOST, Row, Seen, noun, term};
use super::{Event, SPAN};
use crate::db::Session;
use crate::error::Result;
use crate::{query_all, query_one};

/// About how many events are looked at for one page.
pub(crate) const SCAN: i64 = 4_000;
/// Most bundles of one term that are asked for the others.
const TERMS: i64 = 2_000;
/// Most bundles that are opened for one page: each holds an event at least.
const CANDIDATES: i64 = 500;
/// Bundles that are read at a time.
const TOGETHER: usize = 8;

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
        self.has(&event.event.project, event.event.at_ms)
    }

    fn has(&self, slug: &str, at_ms: i64) -> bool {
        slug == self.slug && at_ms >= self.since
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

/// Bundles beside the cursor that the leading filter leaves.
macro_rules! window {
    ($table:literal, $lead:literal, $order:literal) => {
        concat!(
            "(SELECT last_seq FROM ",
            $table,
            " WHERE org_id = $1 AND last_seq >= $2 AND last_seq <= $3 AND ",
            $lead,
            " ORDER BY last_seq ",
            $order,
            " LIMIT $4) AS seen"
        )
    };
}

/// Whether the bundle has a term, where one is wanted.
macro_rules! has {
    ($term:literal) => {
        concat!(
            " AND (",
            $term,
            " = '' OR EXISTS (SELECT 1 FROM audit_terms t WHERE t.org_id = $1 AND t.term = ",
            $term,
            " AND t.last_seq = seen.last_seq))"
        )
    };
}

/// Those with all of the terms.
macro_rules! having {
    ($table:literal, $lead:literal, $order:literal) => {
        concat!(
            "SELECT last_seq FROM ",
            window!($table, $lead, $order),
            " WHERE TRUE",
            has!("$6"),
            has!("$7"),
            has!("$8"),
            has!("$9"),
            has!("$10"),
            has!("$11"),
            " ORDER BY last_seq ",
            $order,
            " LIMIT $12"
        )
    };
}

/// How far it was looked for the leading term.
macro_rules! reach {
    ($order:literal, $end:literal) => {
        concat!("SELECT COUNT(*), ", $end, "(last_seq) FROM ", window!("audit_terms", "term = $5", $order))
    };
}

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
    let Some((mut low, mut high)) = bounds(session, org_id, filter).await? else {
        return Ok(Found { events: Vec::new(), next: None });
    };
    match (direction, cursor) {
        (Direction::Newest, Some(before)) => high = high.min(before.saturating_sub(1)),
        (Direction::Oldest, Some(after)) => low = low.max(after.saturating_add(1)),
        (_, None) => {}
    }
    let wanted = Wanted::new(filter);
    let search = Search { org_id, low, high, direction, terms: wanted.terms() };
    let most = usize::try_from(limit).unwrap_or_default();
    let candidates = search.candidates(session).await?;
    let (mut events, mut looked, mut next) = (Vec::new(), 0, None);
    let mut rest = candidates.as_slice();
    // Often the first is enough.
    let mut some = 1;
    while !rest.is_empty() {
        let (these, others) = rest.split_at(some.min(rest.len()));
        (rest, some) = (others, TOGETHER.min(some * 2));
        for row in search.open(session, these).await? {
            let pass = |seen: &Seen<'_>| seen.seq >= low && seen.seq <= high && wanted.passes(seen);
            let (mut found, count) = row.open(org_id, pass);
            // A bundle that cannot be read passes whatever is asked for: in its place, and not on the pages around it too.
            found.retain(|event| event.seq >= low && event.seq <= high);
            if direction == Direction::Newest {
                found.reverse();
            }
            events.extend(found);
            if events.len() >= most {
                events.truncate(most);
                next = events.last().map(|event| event.seq);
                return Ok(Found { events, next });
            }
            next = Some(search.behind(&row, count));
            looked += count;
            if looked >= SCAN {
                return Ok(Found { events, next });
            }
        }
    }
    if i64::try_from(candidates.len()).is_ok_and(|found| found < CANDIDATES) {
        next = search.reach(session).await?;
    } else if next.is_none() {
        // Terms of bundles that are not there hide nothing behind them.
        next = candidates.last().copied();
    }
    Ok(Found { events, next })
}

/// Where a list looks for bundles.
struct Search<'a> {
    org_id: &'a str,
    low: i64,
    high: i64,
    direction: Direction,
    /// The leading one first.
    terms: Vec<String>,
}

impl Search<'_> {
    /// The youngest event of the last bundle that may hold one of those looked for.
    fn end(&self) -> i64 {
        self.high.saturating_add(i64::try_from(MOST).unwrap_or(i64::MAX) - 1)
    }

    fn term(&self, place: usize) -> &str {
        self.terms.get(place).map_or("", String::as_str)
    }

    /// Bundles that have all of the terms, by their youngest events.
    async fn candidates(&self, session: &mut Session) -> Result<Vec<i64>> {
        let having = match (self.direction, self.terms.is_empty()) {
            (Direction::Newest, false) => having!("audit_terms", "term = $5", "DESC"),
            (Direction::Oldest, false) => having!("audit_terms", "term = $5", "ASC"),
            (Direction::Newest, true) => having!("audit_bundles", "$5 = ''", "DESC"),
            (Direction::Oldest, true) => having!("audit_bundles", "$5 = ''", "ASC"),
        };
        let found = query_all!(
            session,
            (i64,),
            having,
            self.org_id,
            self.low,
            self.end(),
            TERMS,
            self.term(0),
            self.term(1),
            self.term(2),
            self.term(3),
            self.term(4),
            self.term(5),
            self.term(6),
            CANDIDATES,
        )?;
        Ok(found.into_iter().map(|(last_seq,)| last_seq).collect())
    }

    /// Bundles by their youngest events, [`TOGETHER`] at most, in the order of the list.
    async fn open(&self, session: &mut Session, which: &[i64]) -> Result<Vec<Row>> {
        let nth = |place: usize| which.get(place).copied().unwrap_or(-1);
        let mut rows = query_all!(
            session,
            Row,
            "SELECT last_seq, events FROM audit_bundles
             WHERE org_id = $1 AND last_seq IN ($2, $3, $4, $5, $6, $7, $8, $9)",
            self.org_id,
            nth(0),
            nth(1),
            nth(2),
            nth(3),
            nth(4),
            nth(5),
            nth(6),
            nth(7),
        )?;
        rows.sort_by_key(|row| row.last_seq);
        if self.direction == Direction::Newest {
            rows.reverse();
        }
        Ok(rows)
    }

    /// The cursor that goes on behind a bundle of so many events.
    fn behind(&self, row: &Row, count: i64) -> i64 {
        match self.direction {
            Direction::Newest => row.last_seq - count + 1,
            Direction::Oldest => row.last_seq,
        }
    }

    /// The cursor behind all that was looked at, where there may be more; `None` at the end.
    async fn reach(&self, session: &mut Session) -> Result<Option<i64>> {
        // Where one term leads and no other chooses, everything that there is was found.
        if self.terms.len() < 2 {
            return Ok(None);
        }
        let reach = match self.direction {
            Direction::Newest => reach!("DESC", "MIN"),
            Direction::Oldest => reach!("ASC", "MAX"),
        };
        let (seen, end) =
            query_one!(session, (i64, Option<i64>), reach, self.org_id, self.low, self.end(), TERMS, self.term(0),)?;
        let Some(end) = end.filter(|_| seen >= TERMS) else { return Ok(None) };
        let last = self.open(session, &[end]).await?;
        Ok(Some(last.first().map_or(end, |row| self.behind(row, row.open(self.org_id, |_| false).1))))
    }
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

/// A filter as events are asked.
struct Wanted<'a> {
    filter: &'a Filter<'a>,
    action: &'a str,
    noun: &'a str,
    project: &'a str,
}

impl<'a> Wanted<'a> {
    fn new(filter: &'a Filter<'a>) -> Self {
        let (action, noun) = match filter.action.strip_suffix(".*") {
            Some(noun) => ("", noun),
            None => (filter.action, ""),
        };
        let project = match filter.projects {
            Some([one]) if filter.project.is_empty() => one.slug.as_str(),
            // Of no project at all: no slug is a slash.
            Some([]) => "/",
            _ => filter.project,
        };
        Self { filter, action, noun, project }
    }

    /// What a bundle must have to be opened, the one that is likely to leave least first.
    fn terms(&self) -> Vec<String> {
        let f = self.filter;
        // Nearly everything goes well: it has no term. Failures are few.
        let outcome = if f.outcome == "ok" { "" } else { f.outcome };
        let fields = [
            ("outcome", outcome),
            ("address", f.address),
            ("actor", f.actor),
            ("action", self.action),
            ("project", self.project),
            ("noun", self.noun),
            ("client", f.client),
        ];
        fields.into_iter().filter_map(|(field, value)| term(field, value)).collect()
    }

    fn passes(&self, seen: &Seen<'_>) -> bool {
        let f = self.filter;
        let is = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        is(f.actor, seen.actor())
            && is(self.action, seen.action())
            && is(self.noun, noun(seen.action()))
            && is(self.project, seen.project())
            && is(f.outcome, seen.outcome())
            && is(f.client, seen.client())
            && is(f.address, seen.address())
            && is(f.target, seen.target())
            && f.since.is_none_or(|since| seen.at_ms >= since)
            && f.until.is_none_or(|until| seen.at_ms < until)
            && f.projects.is_none_or(|projects| projects.iter().any(|one| one.has(seen.project(), seen.at_ms)))
    }
}

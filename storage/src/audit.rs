//! The audit log: append only, one hash chain for each organization and one for the platform (`org_id` empty).
//!
//! An event's hash covers the hash of the one before it and every field, so that no event can be changed, taken out or
//! moved without breaking the chain. [`append`] comes last in a transaction: it locks the head of the chain until the
//! commit, and whoever locked rows before it in the same order cannot meet it the other way round.
//!
//! Events lie in bundles ([`bundle`]): what one transaction appends shares a row, and what many have in common is said once.
//! [`list`] finds events by filters with bounded work, [`retention`] takes the oldest away without a hole, [`check`] proves
//! what is stored, [`unbundled`] moves what an older version wrote.

mod bundle;
pub mod check;
mod list;
pub mod retention;
pub(crate) mod unbundled;

pub use auditchain::{Event, GENESIS, NewEvent};
pub use list::{Direction, Filter, Found, Within, list};

use self::bundle::{Bundle, Row};
use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::{execute, execute_each, query_all, query_one, query_opt};

/// How many events of a chain share a row of `audit_spans`.
const SPAN: i64 = 1024;
/// Most bundles that are read at a time.
const BUNDLES: i64 = 16;

/// Both ends of a chain.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Head {
    /// The youngest event; 0 where there was none yet.
    pub seq: i64,
    /// Its hash, or [`GENESIS`].
    pub hash: String,
    /// The oldest event that is kept.
    pub first_seq: i64,
    /// The hash of the one before it, or [`GENESIS`].
    pub anchor: String,
}

impl Default for Head {
    fn default() -> Self {
        Self { seq: 0, hash: GENESIS.to_owned(), first_seq: 1, anchor: GENESIS.to_owned() }
    }
}

/// Appends an event to the chain of its organization, with what `tx` changes: both happen or neither. To be called last in a
/// transaction, and for several organizations in the order of their ids.
///
/// # Errors
/// Those of the database.
pub async fn append(tx: &mut Tx, event: NewEvent) -> Result<()> {
    append_all(tx, &[event]).await
}

/// Locks an organization's chain and moves its end on by `count` events. Returns where it ends then, and the hash of the last
/// event before.
async fn lock_head(tx: &mut Tx, org_id: &str, count: i64) -> Result<(i64, String)> {
    let locked = "UPDATE audit_heads SET seq = seq + $2 WHERE org_id = $1 RETURNING seq, hash";
    if let Some(head) = query_opt!(tx, (i64, String), locked, org_id, count)? {
        return Ok(head);
    }
    execute!(
        tx,
        "INSERT INTO audit_heads (org_id, seq, hash, first_seq, anchor) VALUES ($1, 0, $2, 1, $2)
         ON CONFLICT (org_id) DO NOTHING",
        org_id,
        GENESIS,
    )?;
    query_one!(tx, (i64, String), locked, org_id, count)
}

/// As [`append`], for several events, in their order: all of one organization.
///
/// # Errors
/// Those of the database.
pub async fn append_all(tx: &mut Tx, events: &[NewEvent]) -> Result<()> {
    let Some(first) = events.first() else { return Ok(()) };
    debug_assert!(events.iter().all(|event| event.org_id == first.org_id), "a chain is of one organization");
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    let (head, mut hash) = lock_head(tx, &first.org_id, count).await?;
    let (mut seq, mut rest) = (head - count + 1, events);
    while !rest.is_empty() {
        let (bundle, taken) = bundle::chain(rest, seq, &hash).map_err(|error| unwritable(&error))?;
        rest = rest.split_at_checked(taken).map_or(&[], |(_, rest)| rest);
        put(tx, &first.org_id, seq, &bundle).await?;
        (seq, hash) = (bundle.last_seq + 1, bundle.last_hash);
    }
    Ok(())
}

fn unwritable(error: &serde_json::Error) -> Error {
    Error::Damaged(format!("an audit event cannot be written: {error}"))
}

/// A bundle, what it is found by, and what else goes with it, in one message.
macro_rules! bundle_and {
    ($tx:expr, $org_id:expr, $bundle:expr, $sqlite:literal, $postgres:literal $(, $arg:expr)* $(,)?) => {
        execute_each!(
            $tx,
            concat!(
                "INSERT INTO audit_bundles (org_id, last_seq, events) VALUES ($1, $2, $3);
                 INSERT INTO audit_terms (org_id, term, last_seq) SELECT $1, value, $2 FROM json_each($4)",
                $sqlite
            ),
            concat!(
                "WITH bundle AS (INSERT INTO audit_bundles (org_id, last_seq, events) VALUES ($1, $2, $3))",
                $postgres,
                " INSERT INTO audit_terms (org_id, term, last_seq)
                 SELECT $1, x.term, $2 FROM jsonb_array_elements_text(CAST($4 AS JSONB)) AS x(term)"
            ),
            $org_id,
            $bundle.last_seq,
            $bundle.text.as_str(),
            serde_json::to_string(&$bundle.terms).unwrap_or_default(),
            $($arg),*
        )
    };
}

/// Writes a bundle whose first event is at place `first_seq`, and the new hash of the chain's head.
async fn put(tx: &mut Tx, org_id: &str, first_seq: i64, bundle: &Bundle) -> Result<()> {
    bundle_and!(
        tx,
        org_id,
        bundle,
        "; UPDATE audit_heads SET hash = $5 WHERE org_id = $1;
         INSERT INTO audit_spans (org_id, span, min_ms, max_ms)
         SELECT $1, x.span, $8, $9 FROM (SELECT $6 AS span UNION SELECT $7) x WHERE TRUE
         ON CONFLICT (org_id, span) DO UPDATE SET
             min_ms = MIN(min_ms, excluded.min_ms), max_ms = MAX(max_ms, excluded.max_ms)",
        ", head AS (UPDATE audit_heads SET hash = $5 WHERE org_id = $1), spans AS (
             INSERT INTO audit_spans (org_id, span, min_ms, max_ms)
             SELECT $1, x.span, $8, $9 FROM (SELECT CAST($6 AS BIGINT) AS span UNION SELECT $7) x
             ON CONFLICT (org_id, span) DO UPDATE SET
                 min_ms = LEAST(audit_spans.min_ms, excluded.min_ms), max_ms = GREATEST(audit_spans.max_ms, excluded.max_ms))",
        bundle.last_hash.as_str(),
        first_seq / SPAN,
        bundle.last_seq / SPAN,
        bundle.times.0,
        bundle.times.1,
    )?;
    Ok(())
}

/// Writes a bundle, and what it is found by.
async fn insert_bundle(tx: &mut Tx, org_id: &str, bundle: &Bundle) -> Result<()> {
    bundle_and!(tx, org_id, bundle, "", "")?;
    Ok(())
}

/// Both ends of an organization's chain.
///
/// # Errors
/// Those of the database.
pub async fn head(session: &mut Session, org_id: &str) -> Result<Head> {
    let found =
        query_opt!(session, Head, "SELECT seq, hash, first_seq, anchor FROM audit_heads WHERE org_id = $1", org_id)?;
    Ok(found.unwrap_or_default())
}

/// Ids of organizations that have a chain, or events without one, the platform's empty one among them: at most `limit` after `after`, which is
/// `None` for the first.
///
/// # Errors
/// Those of the database.
pub async fn chains(session: &mut Session, after: Option<&str>, limit: i64) -> Result<Vec<String>> {
    let rows = query_all!(
        session,
        (String,),
        "SELECT org_id FROM (SELECT org_id FROM audit_heads UNION SELECT org_id FROM audit_bundles) AS chains
         WHERE ($1 OR org_id > $2) ORDER BY org_id LIMIT $3",
        after.is_none(),
        after.unwrap_or_default(),
        limit,
    )?;
    Ok(rows.into_iter().map(|(id,)| id).collect())
}

/// An event by its place.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, seq: i64) -> Result<Option<Event>> {
    let rows = bundles_after(session, org_id, seq.saturating_sub(1), 1).await?;
    Ok(rows.first().and_then(|row| row.open(org_id, |seen| seen.seq == seq).0.pop()))
}

/// At most `limit` events after `seq`, in the order of the chain.
///
/// # Errors
/// Those of the database.
pub async fn read(session: &mut Session, org_id: &str, seq: i64, limit: i64) -> Result<Vec<Event>> {
    let most = usize::try_from(limit).unwrap_or_default();
    let mut events = Vec::new();
    let mut after = seq;
    loop {
        let rows = bundles_after(session, org_id, after, BUNDLES.min(limit)).await?;
        for row in &rows {
            events.extend(row.open(org_id, |seen| seen.seq > seq).0);
        }
        match rows.last() {
            Some(last) if events.len() < most => after = last.last_seq,
            _ => break,
        }
    }
    events.truncate(most);
    Ok(events)
}

/// At most `limit` bundles that end after `seq`, in the order of the chain.
async fn bundles_after(session: &mut Session, org_id: &str, seq: i64, limit: i64) -> Result<Vec<Row>> {
    query_all!(
        session,
        Row,
        "SELECT last_seq, events FROM audit_bundles WHERE org_id = $1 AND last_seq > $2 ORDER BY last_seq LIMIT $3",
        org_id,
        seq,
        limit,
    )
}

#[cfg(test)]
mod tests;

//! The audit log: append only, one hash chain for each organization and one for the platform (`org_id` empty).
//!
//! An event's hash covers the hash of the one before it and every field, so that no event can be changed, taken out or
//! moved without breaking the chain. [`append`] comes last in a transaction: it locks the head of the chain until the
//! commit, and whoever locked rows before it in the same order cannot meet it the other way round.
//!
//! [`list`] finds events by filters with bounded work, [`retention`] takes the oldest away without a hole, [`check`] proves
//! what is stored.

pub mod check;
mod list;
pub mod retention;

pub use auditchain::{Event, GENESIS, NewEvent};
pub use list::{Direction, Filter, Found, Within, list};

use std::sync::LazyLock;

use crate::db::{Raw, Session, Tx};
use crate::error::Result;
use crate::{execute, query_all, query_one, query_opt};

/// How many events of a chain share a row of `audit_spans`.
const SPAN: i64 = 1024;

/// The columns of an event, in the order of [`Row`].
macro_rules! columns {
    () => {
        "org_id, seq, at_ms, actor_id, actor, credential, client, action, target, project, outcome, reason, address, agent,
         request_id, detail, prev_hash, hash"
    };
}
pub(crate) use columns;

/// An event as it lies in the table.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Row {
    org_id: String,
    seq: i64,
    at_ms: i64,
    actor_id: String,
    actor: String,
    credential: String,
    client: String,
    action: String,
    target: String,
    project: String,
    outcome: String,
    reason: String,
    address: String,
    agent: String,
    request_id: String,
    detail: String,
    prev_hash: String,
    hash: String,
}

impl From<Row> for Event {
    fn from(row: Row) -> Self {
        Self {
            seq: row.seq,
            event: NewEvent {
                org_id: row.org_id,
                at_ms: row.at_ms,
                actor_id: row.actor_id,
                actor: row.actor,
                credential: row.credential,
                client: row.client,
                action: row.action,
                target: row.target,
                project: row.project,
                outcome: row.outcome,
                reason: row.reason,
                address: row.address,
                agent: row.agent,
                request_id: row.request_id,
                detail: row.detail,
            },
            prev_hash: row.prev_hash,
            hash: row.hash,
        }
    }
}

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
    let org_id = event.org_id.clone();
    append_all(tx, &org_id, vec![event]).await
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

/// As [`append`], for several events of one organization, in their order.
///
/// # Errors
/// Those of the database.
pub async fn append_all(tx: &mut Tx, org_id: &str, events: Vec<NewEvent>) -> Result<()> {
    let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
    if count == 0 {
        return Ok(());
    }
    let (head, last) = lock_head(tx, org_id, count).await?;
    let mut span: Option<(i64, i64, i64)> = None;
    let mut hash = last;
    let mut chained = Vec::with_capacity(events.len());
    for (seq, new) in (head - count + 1..).zip(events) {
        let event = Event::chained(NewEvent { org_id: org_id.to_owned(), ..new }, seq, std::mem::take(&mut hash));
        let at = event.event.at_ms;
        span = match span {
            Some((number, min, max)) if number == seq / SPAN => Some((number, min.min(at), max.max(at))),
            full => {
                widen(tx, org_id, full).await?;
                Some((seq / SPAN, at, at))
            }
        };
        hash.clone_from(&event.hash);
        chained.push(event);
    }
    while chained.len() >= MANY {
        let rest = chained.split_off(MANY);
        insert(tx, &INSERT_MANY, std::mem::replace(&mut chained, rest)).await?;
    }
    for event in chained {
        insert(tx, &INSERT_ONE, vec![event]).await?;
    }
    widen(tx, org_id, span).await?;
    execute!(tx, "UPDATE audit_heads SET hash = $2 WHERE org_id = $1", org_id, hash.as_str())?;
    Ok(())
}

/// Events of one statement, where there are so many: the way to the database and back costs more than a row.
const MANY: usize = 32;
static INSERT_ONE: LazyLock<Insertion> = LazyLock::new(|| Insertion::of(1));
static INSERT_MANY: LazyLock<Insertion> = LazyLock::new(|| Insertion::of(MANY));

/// The statement that inserts so many events. `SQLite` looks a parameter with a name up among all of them, each time.
struct Insertion {
    sqlite: String,
    postgres: String,
}

impl Insertion {
    fn of(rows: usize) -> Self {
        Self { sqlite: insertion(rows, |_| "?".to_owned()), postgres: insertion(rows, |number| format!("${number}")) }
    }
}

fn insertion(rows: usize, parameter: impl Fn(usize) -> String) -> String {
    const FIELDS: usize = 19;
    let rows = (0..rows).map(|row| {
        let fields: Vec<String> = (1..=FIELDS).map(|field| parameter(row * FIELDS + field)).collect();
        format!("({})", fields.join(", "))
    });
    let rows: Vec<String> = rows.collect();
    format!(concat!("INSERT INTO audit_events (", columns!(), ", noun) VALUES {}"), rows.join(", "))
}

/// The texts go over as they are: copying them would cost as much as the row.
async fn insert(tx: &mut Tx, sql: &'static Insertion, events: Vec<Event>) -> Result<()> {
    macro_rules! run {
        ($engine:ty, $sql:expr, $connection:expr) => {{
            let mut query = sqlx::query::<$engine>($sql);
            for Event { event: e, seq, prev_hash, hash } in events {
                let noun = noun(&e.action).to_owned();
                query = query
                    .bind(e.org_id)
                    .bind(seq)
                    .bind(e.at_ms)
                    .bind(e.actor_id)
                    .bind(e.actor)
                    .bind(e.credential)
                    .bind(e.client)
                    .bind(e.action)
                    .bind(e.target)
                    .bind(e.project)
                    .bind(e.outcome)
                    .bind(e.reason)
                    .bind(e.address)
                    .bind(e.agent)
                    .bind(e.request_id)
                    .bind(e.detail)
                    .bind(prev_hash)
                    .bind(hash)
                    .bind(noun);
            }
            query.execute($connection).await?;
        }};
    }
    match tx.raw() {
        Raw::Sqlite(connection) => run!(sqlx::Sqlite, sql.sqlite.as_str(), connection),
        Raw::Postgres(connection) => run!(sqlx::Postgres, sql.postgres.as_str(), connection),
    }
    Ok(())
}

/// Makes a span's times cover those of events that were added.
async fn widen(tx: &mut Tx, org_id: &str, span: Option<(i64, i64, i64)>) -> Result<()> {
    let Some((span, min_ms, max_ms)) = span else { return Ok(()) };
    execute!(
        tx,
        "INSERT INTO audit_spans (org_id, span, min_ms, max_ms) VALUES ($1, $2, $3, $4)
         ON CONFLICT (org_id, span) DO UPDATE SET
             min_ms = CASE WHEN excluded.min_ms < audit_spans.min_ms THEN excluded.min_ms ELSE audit_spans.min_ms END,
             max_ms = CASE WHEN excluded.max_ms > audit_spans.max_ms THEN excluded.max_ms ELSE audit_spans.max_ms END",
        org_id,
        span,
        min_ms,
        max_ms,
    )?;
    Ok(())
}

/// The part of an action before the dot.
fn noun(action: &str) -> &str {
    action.split('.').next().unwrap_or_default()
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

/// Ids of organizations that have a chain, the platform's empty one among them: at most `limit` after `after`, which is
/// `None` for the first.
///
/// # Errors
/// Those of the database.
pub async fn chains(session: &mut Session, after: Option<&str>, limit: i64) -> Result<Vec<String>> {
    let rows = query_all!(
        session,
        (String,),
        "SELECT org_id FROM audit_heads WHERE ($1 OR org_id > $2) ORDER BY org_id LIMIT $3",
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
    let row = query_opt!(
        session,
        Row,
        concat!("SELECT ", columns!(), " FROM audit_events WHERE org_id = $1 AND seq = $2"),
        org_id,
        seq,
    )?;
    Ok(row.map(Event::from))
}

/// At most `limit` events after `seq`, in the order of the chain.
///
/// # Errors
/// Those of the database.
pub async fn read(session: &mut Session, org_id: &str, seq: i64, limit: i64) -> Result<Vec<Event>> {
    let rows = query_all!(
        session,
        Row,
        concat!("SELECT ", columns!(), " FROM audit_events WHERE org_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"),
        org_id,
        seq,
        limit,
    )?;
    Ok(rows.into_iter().map(Event::from).collect())
}

#[cfg(test)]
mod tests;

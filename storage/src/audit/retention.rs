//! Taking the oldest events away, in whole months, so that what is left is still one chain.
//!
//! The head of a chain says which event is the oldest and what the hash of the one before it was: both move in the
//! transaction that deletes. That it was cut, how far and why is an event of the chain itself.

use super::bundle::{self, Row};
use super::{BUNDLES, Head, NewEvent, SPAN, append, bundles_after, head, unwritable};
use crate::clock::month_of;
use crate::db::{Db, Session, Tx};
use crate::error::Result;
use crate::{execute, execute_each, query_all, query_opt};

/// Most events that one transaction deletes.
const BATCH: i64 = 1_000;

/// What a cut takes away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The oldest event that there was.
    pub first_seq: i64,
    /// The oldest event that is left.
    pub until_seq: i64,
    /// What is left begins at or after this (unix milliseconds), the first of a month.
    pub older_than_ms: i64,
}

/// Takes away what is of months that ended more than `days` before `now_ms`. The first transaction also records what
/// `event` makes of the cut; each deletes at most a thousand events. Returns what was cut, if anything was.
///
/// # Errors
/// Those of the database; what was begun goes on with the next call.
pub async fn cut(
    db: &Db,
    org_id: &str,
    days: i64,
    now_ms: i64,
    event: impl FnOnce(&Cut) -> NewEvent,
) -> Result<Option<Cut>> {
    let older_than_ms = month_of(now_ms.saturating_sub(days.saturating_mul(86_400_000)));
    // Cheap where there is nothing to do, which is nearly always.
    let mut session = db.read().await?;
    let found = head(&mut session, org_id).await?;
    let oldest = super::read(&mut session, org_id, found.first_seq - 1, 1).await?;
    drop(session);
    if oldest.first().is_none_or(|event| event.event.at_ms >= older_than_ms) {
        return Ok(None);
    }
    let mut tx = db.begin().await?;
    let first_seq = lock(&mut tx, org_id).await?.first_seq;
    let until_seq = first_younger(&mut tx, org_id, older_than_ms).await?;
    if until_seq <= first_seq {
        return Ok(None);
    }
    let cut = Cut { first_seq, until_seq, older_than_ms };
    delete_some(&mut tx, org_id, first_seq, until_seq).await?;
    append(&mut tx, event(&cut)).await?;
    tx.commit().await?;
    loop {
        let mut tx = db.begin().await?;
        let first_seq = lock(&mut tx, org_id).await?.first_seq;
        if first_seq >= until_seq {
            return Ok(Some(cut));
        }
        delete_some(&mut tx, org_id, first_seq, until_seq).await?;
        tx.commit().await?;
        // Whoever waits to write comes first.
        tokio::task::yield_now().await;
    }
}

/// Locks a chain and returns both ends.
pub(super) async fn lock(tx: &mut Tx, org_id: &str) -> Result<Head> {
    let found = query_opt!(
        tx,
        Head,
        "UPDATE audit_heads SET first_seq = first_seq WHERE org_id = $1 RETURNING seq, hash, first_seq, anchor",
        org_id,
    )?;
    Ok(found.unwrap_or_default())
}

/// The place of the oldest event that is not older than `older_than_ms`; the one after the youngest where all are.
async fn first_younger(tx: &mut Tx, org_id: &str, older_than_ms: i64) -> Result<i64> {
    let sql = "SELECT MIN(span) FROM audit_spans WHERE org_id = $1 AND max_ms >= $2";
    let span = query_opt!(tx, (Option<i64>,), sql, org_id, older_than_ms)?.and_then(|(span,)| span);
    let mut after = match span {
        Some(span) => span * SPAN - 1,
        None => return Ok(head(tx, org_id).await?.seq + 1),
    };
    loop {
        let rows = bundles_after(tx, org_id, after, BUNDLES).await?;
        let Some(last) = rows.last().map(|row| row.last_seq) else { return Ok(head(tx, org_id).await?.seq + 1) };
        let young = |row: &Row| {
            let events = row.open(org_id, |seen| seen.seq > after && seen.at_ms >= older_than_ms).0;
            events.first().map(|event| event.seq)
        };
        if let Some(seq) = rows.iter().find_map(young) {
            return Ok(seq);
        }
        after = last;
    }
}

/// Deletes the oldest events up to a bound, and moves the chain's beginning.
async fn delete_some(tx: &mut Tx, org_id: &str, first_seq: i64, until_seq: i64) -> Result<()> {
    let until = until_seq.min(first_seq.saturating_add(BATCH));
    let last = super::find(tx, org_id, until - 1).await?;
    let anchor = last.map(|event| event.hash).unwrap_or_default();
    let mut after = 0;
    loop {
        let rows = bundles_after(tx, org_id, after, BUNDLES).await?;
        for row in &rows {
            shorten(tx, org_id, row, until).await?;
            if row.last_seq >= until {
                break;
            }
        }
        match rows.last() {
            Some(row) if row.last_seq < until - 1 => after = row.last_seq,
            _ => break,
        }
    }
    execute!(tx, "DELETE FROM audit_spans WHERE org_id = $1 AND span < $2", org_id, until / SPAN)?;
    execute!(
        tx,
        "UPDATE audit_heads SET first_seq = $2, anchor = $3 WHERE org_id = $1",
        org_id,
        until,
        anchor.as_str(),
    )?;
    Ok(())
}

/// Takes out of a bundle what comes before `until`.
async fn shorten(tx: &mut Tx, org_id: &str, row: &Row, until: i64) -> Result<()> {
    let (events, _) = row.open(org_id, |_| true);
    let kept: Vec<_> = events.iter().filter(|event| event.seq >= until).cloned().collect();
    if kept.len() == events.len() {
        return Ok(());
    }
    // What is found by a term and has nothing of it any more is opened in vain, no worse.
    if let Some(kept) = bundle::of(&kept).map_err(|error| unwritable(&error))? {
        let sql = "UPDATE audit_bundles SET events = $3 WHERE org_id = $1 AND last_seq = $2";
        execute!(tx, sql, org_id, row.last_seq, kept.text.as_str())?;
        return Ok(());
    }
    let terms = bundle::of(&events).map_err(|error| unwritable(&error))?.map(|bundle| bundle.terms).unwrap_or_default();
    execute_each!(
        tx,
        "DELETE FROM audit_terms
         WHERE org_id = $1 AND last_seq = $2 AND term IN (SELECT value FROM json_each($3))",
        "DELETE FROM audit_terms
         WHERE org_id = $1 AND last_seq = $2 AND term IN (SELECT jsonb_array_elements_text(CAST($3 AS JSONB)))",
        org_id,
        row.last_seq,
        serde_json::to_string(&terms).unwrap_or_default(),
    )?;
    execute!(tx, "DELETE FROM audit_bundles WHERE org_id = $1 AND last_seq = $2", org_id, row.last_seq)?;
    Ok(())
}

/// Organizations that keep their events for so many days, and not for ever: at most `limit` after the id `after`.
///
/// # Errors
/// Those of the database.
pub async fn limits(session: &mut Session, after: &str, limit: i64) -> Result<Vec<(String, i64)>> {
    query_all!(
        session,
        (String, i64),
        "SELECT id, audit_days FROM orgs
         WHERE audit_days IS NOT NULL AND id > $1 AND status <> 'deleted' ORDER BY id LIMIT $2",
        after,
        limit,
    )
}

//! The audit log: append only, one hash chain for each organization and one for the platform (`org_id` empty).
//!
//! An event's hash covers the hash of the one before it and every field, so that no event can be changed, taken out or
//! moved without breaking the chain. [`append`] comes last in a transaction: it locks the head of the chain until the
//! commit, and whoever locked rows before it in the same order cannot meet it the other way round.

pub use auditchain::{Event, GENESIS, NewEvent};

use crate::db::Tx;
use crate::error::Result;
use crate::{execute, query_one};

/// Appends an event to the chain of its organization, with what `tx` changes: both happen or neither. To be called last in a
/// transaction, and for several organizations in the order of their ids.
///
/// # Errors
/// Those of the database.
pub async fn append(tx: &mut Tx, event: NewEvent) -> Result<Event> {
    execute!(
        tx,
        "INSERT INTO audit_heads (org_id, seq, hash, first_seq, anchor) VALUES ($1, 0, $2, 1, $2)
         ON CONFLICT (org_id) DO NOTHING",
        event.org_id.as_str(),
        GENESIS,
    )?;
    let (seq, prev_hash) = query_one!(
        tx,
        (i64, String),
        "UPDATE audit_heads SET seq = seq + 1 WHERE org_id = $1 RETURNING seq, hash",
        event.org_id.as_str(),
    )?;
    let event = Event::chained(event, seq, prev_hash);
    let e = &event.event;
    execute!(
        tx,
        "INSERT INTO audit_events (org_id, seq, at_ms, actor_id, actor, credential, client, action, target, project, outcome,
                                   reason, address, agent, request_id, detail, prev_hash, hash)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)",
        e.org_id.as_str(),
        seq,
        e.at_ms,
        e.actor_id.as_str(),
        e.actor.as_str(),
        e.credential.as_str(),
        e.client.as_str(),
        e.action.as_str(),
        e.target.as_str(),
        e.project.as_str(),
        e.outcome.as_str(),
        e.reason.as_str(),
        e.address.as_str(),
        e.agent.as_str(),
        e.request_id.as_str(),
        e.detail.as_str(),
        event.prev_hash.as_str(),
        event.hash.as_str(),
    )?;
    execute!(tx, "UPDATE audit_heads SET hash = $2 WHERE org_id = $1", e.org_id.as_str(), event.hash.as_str())?;
    Ok(event)
}

//! The audit log: append only, one hash chain for each organization and one for the platform (`org_id` empty).
//!
//! An event's hash covers the hash of the one before it and every field, so that no event can be changed, taken out or
//! moved without breaking the chain. [`append`] comes last in a transaction: it locks the head of the chain until the
//! commit, and whoever locked rows before it in the same order cannot meet it the other way round.

use serde::{Deserialize, Serialize};

use crate::db::Tx;
use crate::digest::digest_of;
use crate::error::Result;
use crate::names::Algorithm;
use crate::{execute, query_one};

/// The anchor of a chain that has not begun: what the first event names as the one before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What happened, before it has a place in the chain. Empty text stands for "nothing to say".
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct NewEvent {
    /// The organization, by its id; empty for the platform.
    pub org_id: String,
    /// When (unix milliseconds).
    pub at_ms: i64,
    /// Who: id of the user.
    pub actor_id: String,
    /// Who: name of the user, or what was typed as one.
    pub actor: String,
    /// What they showed: `password`, `session:<id>`, `api-key:<id>`, `token`, …
    pub credential: String,
    /// By which kind of client: `browser`, `cli`, `api`, `docker` or `server`.
    pub client: String,
    /// What: `user.create`, `image.push`, …
    pub action: String,
    /// To what.
    pub target: String,
    /// Slug of the project, where it lies in one.
    pub project: String,
    /// `ok`, `denied` or `error`.
    pub outcome: String,
    /// Why not, where it was not.
    pub reason: String,
    /// The client's address.
    pub address: String,
    /// What the client calls itself.
    pub agent: String,
    /// The request's id in the logs.
    pub request_id: String,
    /// What changed, before and after, as JSON text. Never a secret.
    pub detail: String,
}

/// An event of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Event {
    /// Place in the chain, from 1 on without gaps.
    pub seq: i64,
    /// What happened.
    #[serde(flatten)]
    #[sqlx(flatten)]
    pub event: NewEvent,
    /// Hash of the event before this one.
    pub prev_hash: String,
    /// Hash of this event.
    pub hash: String,
}

impl Event {
    /// What [`Event::hash`] must be: SHA-256 (hexadecimal) of the hash before it and the event's fields as a JSON array in
    /// the order of [`NewEvent`].
    #[must_use]
    pub fn expected_hash(&self) -> String {
        let e = &self.event;
        let texts = [
            &e.org_id,
            &e.actor_id,
            &e.actor,
            &e.credential,
            &e.client,
            &e.action,
            &e.target,
            &e.project,
            &e.outcome,
            &e.reason,
            &e.address,
            &e.agent,
            &e.request_id,
            &e.detail,
        ];
        let text = serde_json::json!([self.prev_hash, self.seq, e.at_ms, texts]).to_string();
        digest_of(Algorithm::Sha256, text.as_bytes()).hex().to_owned()
    }
}

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
    let mut event = Event { seq, event, prev_hash, hash: String::new() };
    event.hash = event.expected_hash();
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

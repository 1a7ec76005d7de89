//! Events that a version before bundles wrote one to a row of `audit_events`: they are moved into bundles when the schema is
//! brought up to date, some in each transaction, so that whatever interrupts it goes on with the next start.

use super::bundle;
use super::retention::lock;
use super::{Event, NewEvent, insert_bundle, unwritable};
use crate::db::{Db, Tx};
use crate::error::Result;
use crate::{execute, query_all, query_opt};

/// Events of one transaction.
const BATCH: i64 = 4096;

/// An event as it lay in the table.
#[derive(sqlx::FromRow)]
struct Row {
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

impl Row {
    fn event(self, org_id: &str) -> Event {
        Event {
            seq: self.seq,
            event: NewEvent {
                org_id: org_id.to_owned(),
                at_ms: self.at_ms,
                actor_id: self.actor_id,
                actor: self.actor,
                credential: self.credential.into(),
                client: self.client.into(),
                action: self.action,
                target: self.target,
                project: self.project,
                outcome: self.outcome.into(),
                reason: self.reason,
                address: self.address,
                agent: self.agent,
                request_id: self.request_id,
                detail: self.detail,
            },
            prev_hash: self.prev_hash,
            hash: self.hash,
        }
    }
}

/// Moves every event that is not in a bundle yet. Safe to call from several processes at once.
///
/// # Errors
/// Those of the database; what was moved stays moved.
pub(crate) async fn bundle_all(db: &Db) -> Result<()> {
    let mut moved = 0;
    loop {
        let oldest = "SELECT org_id FROM audit_events ORDER BY org_id, seq LIMIT 1";
        let Some((org_id,)) = query_opt!(db.read().await?, (String,), oldest)? else { break };
        let mut tx = db.begin().await?;
        lock(&mut tx, &org_id).await?;
        let before = moved;
        moved += bundle_some(&mut tx, &org_id).await?;
        tx.commit().await?;
        if moved / 100_000 > before / 100_000 {
            tracing::info!(events = moved, "putting the audit log's events into bundles, as this version keeps them");
        }
    }
    if moved > 0 {
        tracing::info!(events = moved, "the audit log's events are in bundles");
    }
    Ok(())
}

async fn bundle_some(tx: &mut Tx, org_id: &str) -> Result<usize> {
    let rows = query_all!(
        tx,
        Row,
        "SELECT seq, at_ms, actor_id, actor, credential, client, action, target, project, outcome, reason, address, agent,
                request_id, detail, prev_hash, hash
         FROM audit_events WHERE org_id = $1 ORDER BY seq LIMIT $2",
        org_id,
        BATCH,
    )?;
    let events: Vec<Event> = rows.into_iter().map(|row| row.event(org_id)).collect();
    let Some(last) = events.last().map(|event| event.seq) else { return Ok(0) };
    // A hole that somebody made stays one.
    for run in events.chunk_by(|one, next| next.seq == one.seq + 1) {
        for some in run.chunks(bundle::MOST) {
            if let Some(bundle) = bundle::of(some).map_err(|error| unwritable(&error))? {
                insert_bundle(tx, org_id, &bundle).await?;
            }
        }
    }
    execute!(tx, "DELETE FROM audit_events WHERE org_id = $1 AND seq <= $2", org_id, last)?;
    Ok(events.len())
}

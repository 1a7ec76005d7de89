//! Proving a stored chain: every event, from the oldest that is kept to the head.

use auditchain::{Chain, Flaw};

use super::{head, read};
use crate::db::Db;
use crate::error::Result;

/// Events read at a time.
const BATCH: i64 = 1_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// How many events were good.
    pub events: u64,
    /// The first thing that is wrong, where something is.
    pub flaw: Option<Flaw>,
}

/// Checks the chain of an organization while others append to it. Holds no transaction.
///
/// # Errors
/// Those of the database; a flaw is not one.
pub async fn check(db: &Db, org_id: &str) -> Result<Checked> {
    let start = head(&mut db.read().await?, org_id).await?;
    let (end, end_hash) = (start.seq, start.hash);
    let mut chain = Chain::after(org_id, start.first_seq - 1, &start.anchor);
    let mut good = 0;
    loop {
        let seq = chain.head().0;
        if seq >= end {
            break;
        }
        let mut session = db.read().await?;
        let events = read(&mut session, org_id, seq, BATCH.min(end - seq)).await?;
        let kept = head(&mut session, org_id).await?;
        drop(session);
        if kept.first_seq > seq + 1 {
            // Retention overtook us: go on from where the chain begins now.
            chain = Chain::after(org_id, kept.first_seq - 1, &kept.anchor);
            continue;
        }
        if events.is_empty() {
            break;
        }
        for event in &events {
            if let Err(flaw) = chain.push(event) {
                return Ok(Checked { events: good, flaw: Some(flaw) });
            }
            good += 1;
        }
    }
    let flaw = if chain.head().0 > end { None } else { chain.ends_with(end, &end_hash).err() };
    Ok(Checked { events: good, flaw })
}

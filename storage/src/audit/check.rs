//! Proving a stored chain: every event, from the oldest that is kept to the head.

use auditchain::{Chain, Flaw};

use super::{Head, find, head, read};
use crate::db::{Db, Session};
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

/// What the newest events of a chain prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// Both ends of the chain.
    pub head: Head,
    /// When the oldest event that is kept happened (unix milliseconds).
    pub first_ms: Option<i64>,
    /// When the youngest did.
    pub last_ms: Option<i64>,
    /// The first event that was checked.
    pub from_seq: i64,
    /// What was found.
    pub checked: Checked,
}

/// Checks the newest events of a chain, `count` of them at most, up to its head.
///
/// # Errors
/// Those of the database; a flaw is not one.
pub async fn newest(session: &mut Session, org_id: &str, count: i64) -> Result<Newest> {
    let mut found = newest_once(session, org_id, count).await?;
    if found.checked.flaw.is_some() {
        // Retention may have taken away what was read next.
        found = newest_once(session, org_id, count).await?;
    }
    Ok(found)
}

async fn newest_once(session: &mut Session, org_id: &str, count: i64) -> Result<Newest> {
    let head = head(session, org_id).await?;
    let oldest = read(session, org_id, head.first_seq - 1, 1).await?;
    let from_seq = head.first_seq.max(head.seq - count + 1);
    let before = match from_seq > head.first_seq {
        true => find(session, org_id, from_seq - 1).await?.map(|event| event.hash).unwrap_or_default(),
        false => head.anchor.clone(),
    };
    let events = read(session, org_id, from_seq - 1, head.seq - from_seq + 1).await?;
    let mut chain = Chain::after(org_id, from_seq - 1, &before);
    let broken = events.iter().find_map(|event| chain.push(event).err());
    let flaw = broken.or_else(|| chain.ends_with(head.seq, &head.hash).err());
    Ok(Newest {
        first_ms: oldest.first().map(|event| event.event.at_ms),
        last_ms: events.last().map(|event| event.event.at_ms),
        from_seq,
        checked: Checked { events: chain.count(), flaw },
        head,
    })
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

//! Proving a stored chain: every event, from the oldest that is kept to the head, and that lists find it.

use std::collections::BTreeMap;

use auditchain::{Chain, Flaw};
use serde::Serialize;

use super::bundle::{self, Row};
use super::{Event, Head, SPAN, bundles_after, find, head, read};
use crate::db::{Db, Session};
use crate::error::Result;
use crate::{query_all, query_all_each, query_one};

/// Bundles read at a time.
const BATCH: i64 = 64;

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
    let flaw = flaw.or(outside(session, org_id).await?);
    Ok(Newest {
        first_ms: oldest.first().map(|event| event.event.at_ms),
        last_ms: events.last().map(|event| event.event.at_ms),
        from_seq,
        checked: Checked { events: chain.count(), flaw },
        head,
    })
}

/// Checks the chain of an organization while others append to it, and that its events are found by what they say. Holds no
/// transaction.
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
        let mut rows = bundles_after(&mut session, org_id, seq, BATCH).await?;
        rows.retain(|row| row.last_seq <= end);
        let hidden = hidden(&mut session, org_id, &rows).await?;
        let kept = head(&mut session, org_id).await?;
        drop(session);
        if kept.first_seq > seq + 1 {
            // Retention overtook us: go on from where the chain begins now.
            chain = Chain::after(org_id, kept.first_seq - 1, &kept.anchor);
            continue;
        }
        if rows.is_empty() {
            break;
        }
        // All of each bundle: what somebody put before its first event would be seen by nobody else.
        for event in rows.iter().flat_map(|row| row.open(org_id, |_| true).0) {
            if let Err(flaw) = chain.push(&event) {
                return Ok(Checked { events: good, flaw: Some(flaw) });
            }
            good += 1;
        }
        if hidden.is_some() {
            return Ok(Checked { events: good, flaw: hidden });
        }
    }
    let flaw = if chain.head().0 > end { None } else { chain.ends_with(end, &end_hash).err() };
    Ok(Checked { events: good, flaw: flaw.or(outside(&mut db.read().await?, org_id).await?) })
}

/// A bundle beyond one of the chain's ends: lists would show it.
async fn outside(session: &mut Session, org_id: &str) -> Result<Option<Flaw>> {
    // One statement, which sees one moment.
    let sql = "SELECT COALESCE((SELECT MIN(last_seq) FROM audit_bundles WHERE org_id = $1), 0),
                      COALESCE((SELECT MAX(last_seq) FROM audit_bundles WHERE org_id = $1), 0),
                      COALESCE((SELECT first_seq FROM audit_heads WHERE org_id = $1), 1),
                      COALESCE((SELECT seq FROM audit_heads WHERE org_id = $1), 0)";
    let (oldest, youngest, first, last) = query_one!(session, (i64, i64, i64, i64), sql, org_id)?;
    if youngest > last {
        return Ok(Some(Flaw::Outside(youngest)));
    }
    Ok((oldest < first && last >= first).then_some(Flaw::Outside(oldest)))
}

/// Something that a bundle is to be found by and is not: a term, or that its time is one of its span.
#[derive(Serialize)]
struct Wanted {
    term: String,
    last_seq: i64,
}

/// The first of these bundles that some list does not look into which should.
async fn hidden(session: &mut Session, org_id: &str, rows: &[Row]) -> Result<Option<Flaw>> {
    let (mut terms, mut times) = (Vec::new(), BTreeMap::<i64, (i64, i64, i64)>::new());
    for row in rows {
        let events = row.open(org_id, |_| true).0;
        let Ok(Some(bundle)) = bundle::of(&events) else { continue };
        terms.extend(bundle.terms.into_iter().map(|term| Wanted { term, last_seq: row.last_seq }));
        for Event { seq, event, .. } in &events {
            let span = times.entry(seq / SPAN).or_insert((event.at_ms, event.at_ms, *seq));
            *span = (span.0.min(event.at_ms), span.1.max(event.at_ms), *seq);
        }
    }
    let missing = query_all_each!(
        session,
        (i64,),
        "SELECT x.value ->> 'last_seq' FROM json_each($2) x WHERE NOT EXISTS
             (SELECT 1 FROM audit_terms t
              WHERE t.org_id = $1 AND t.term = x.value ->> 'term' AND t.last_seq = x.value ->> 'last_seq')
         ORDER BY 1 LIMIT 1",
        "SELECT x.last_seq FROM jsonb_to_recordset(CAST($2 AS JSONB)) AS x(term TEXT, last_seq BIGINT) WHERE NOT EXISTS
             (SELECT 1 FROM audit_terms t WHERE t.org_id = $1 AND t.term = x.term AND t.last_seq = x.last_seq)
         ORDER BY 1 LIMIT 1",
        org_id,
        serde_json::to_string(&terms).unwrap_or_default(),
    )?;
    if let Some((seq,)) = missing.first() {
        return Ok(Some(Flaw::Hidden(*seq)));
    }
    let (Some((first, _)), Some((last, _))) = (times.first_key_value(), times.last_key_value()) else {
        return Ok(None);
    };
    let spans: Vec<(i64, i64, i64)> = query_all!(
        session,
        (i64, i64, i64),
        "SELECT span, min_ms, max_ms FROM audit_spans WHERE org_id = $1 AND span >= $2 AND span <= $3",
        org_id,
        *first,
        *last,
    )?;
    let holds = |span: &i64, (oldest, youngest, _): &(i64, i64, i64)| {
        spans.iter().any(|(at, min, max)| at == span && min <= oldest && max >= youngest)
    };
    let hidden = times.iter().find(|(span, times)| !holds(span, times));
    Ok(hidden.map(|(_, (.., seq))| Flaw::Hidden(*seq)))
}

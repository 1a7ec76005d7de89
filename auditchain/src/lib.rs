//! What an audit event is, how events are chained, and how a chain is checked, wherever it is: no rows, no requests.
//!
//! An event's hash covers the hash of the event before it and every field ([`Event::expected_hash`]). [`Chain`] checks
//! that events follow one another; [`export`] writes a chain, or what a filter leaves of it, as lines that end in a sealed
//! trailer; [`verify`] checks such lines, with the seal's key where that is at hand.

pub mod export;
pub mod verify;

use std::borrow::Cow;

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// The anchor of a chain that has not begun: what the first event names as the one before it.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// What happened, before it has a place in the chain. Empty text stands for "nothing to say".
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
    pub credential: Cow<'static, str>,
    /// By which kind of client: `browser`, `cli`, `api`, `docker` or `server`.
    pub client: Cow<'static, str>,
    /// What: `user.create`, `image.push`, …
    pub action: String,
    /// To what.
    pub target: String,
    /// Slug of the project, where it lies in one.
    pub project: String,
    /// `ok`, `denied` or `error`.
    pub outcome: Cow<'static, str>,
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Place in the chain, from 1 on without gaps.
    pub seq: i64,
    /// What happened.
    #[serde(flatten)]
    pub event: NewEvent,
    /// Hash of the event before this one.
    pub prev_hash: String,
    /// Hash of this event.
    pub hash: String,
}

impl Event {
    /// The event that comes at place `seq`, after the event of hash `prev_hash`.
    #[must_use]
    pub fn chained(event: NewEvent, seq: i64, prev_hash: String) -> Self {
        let mut event = Self { seq, event, prev_hash, hash: String::new() };
        event.hash = event.expected_hash();
        event
    }

    /// What [`Event::hash`] must be: see [`hash`].
    #[must_use]
    pub fn expected_hash(&self) -> String {
        hash(&self.event, self.seq, &self.prev_hash)
    }
}

/// The hash of an event at place `seq` after the event of hash `prev_hash`: SHA-256 (hexadecimal) of a JSON array of that hash,
/// the place, the time and the event's texts in the order of [`NewEvent`].
#[must_use]
pub fn hash(e: &NewEvent, seq: i64, prev_hash: &str) -> String {
    let texts: [&str; 14] = [
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
    let mut text = Vec::with_capacity(1024);
    // Texts and numbers can always be written.
    let _ = serde_json::to_writer(&mut text, &(prev_hash, seq, e.at_ms, texts));
    HEXLOWER.encode(digest(&SHA256, &text).as_ref())
}

/// What is wrong with a chain or with an export of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// An event whose fields are not those that were hashed.
    #[error("event {0} was edited: its hash does not fit its fields")]
    Edited(i64),
    /// An event that does not name the one before it.
    #[error("event {0} does not follow the one before it: something was replaced there")]
    Broken(i64),
    /// Events are missing.
    #[error("{} missing between {after} and {before}", if before - after == 2 { "an event is" } else { "events are" })]
    Gap {
        /// The last event before the gap.
        after: i64,
        /// The first event after it.
        before: i64,
    },
    /// An event that comes again, or later than its place.
    #[error("event {seq} comes after event {after}: events were put in another order, or one comes twice")]
    Order {
        /// The event.
        seq: i64,
        /// The one before it.
        after: i64,
    },
    /// An event beyond either end of the chain.
    #[error("event {0} lies outside the chain: it was put there")]
    Outside(i64),
    /// An event that is there, and that who looks for it does not find.
    #[error("event {0} or one right before it is hidden from who looks for it: what events are found by was changed")]
    Hidden(i64),
    /// An event of another organization.
    #[error("event {0} belongs to another organization")]
    Foreign(i64),
    /// The chain ends elsewhere than it should.
    #[error("the chain ends at event {found} and not at event {expected}, or that event is another one")]
    End {
        /// The last event that is there.
        found: i64,
        /// The last event that should be there.
        expected: i64,
    },
}

/// Checks events one after another.
#[derive(Debug, Clone)]
pub struct Chain {
    org_id: String,
    seq: i64,
    hash: String,
    count: u64,
}

impl Chain {
    /// A chain of an organization that goes on after event `seq` of the given hash: 0 and [`GENESIS`] for a whole one.
    #[must_use]
    pub fn after(org_id: &str, seq: i64, hash: &str) -> Self {
        Self { org_id: org_id.to_owned(), seq, hash: hash.to_owned(), count: 0 }
    }

    /// Takes the event that comes next.
    ///
    /// # Errors
    /// [`Flaw`] where it is not the next, or not what was hashed.
    pub fn push(&mut self, event: &Event) -> Result<(), Flaw> {
        if event.seq > self.seq + 1 {
            return Err(Flaw::Gap { after: self.seq, before: event.seq });
        }
        self.push_later(event)
    }

    /// As [`Chain::push`], but events may have been left out: those that follow one another directly must fit.
    ///
    /// # Errors
    /// As [`Chain::push`], without [`Flaw::Gap`].
    pub fn push_later(&mut self, event: &Event) -> Result<(), Flaw> {
        if event.event.org_id != self.org_id {
            return Err(Flaw::Foreign(event.seq));
        }
        if event.seq <= self.seq {
            return Err(Flaw::Order { seq: event.seq, after: self.seq });
        }
        if event.hash != event.expected_hash() {
            return Err(Flaw::Edited(event.seq));
        }
        if event.seq == self.seq + 1 && event.prev_hash != self.hash {
            return Err(Flaw::Broken(event.seq));
        }
        self.seq = event.seq;
        self.hash.clone_from(&event.hash);
        self.count += 1;
        Ok(())
    }

    /// Checks that the chain ended with event `seq` of the given hash.
    ///
    /// # Errors
    /// [`Flaw::End`] where not.
    pub fn ends_with(&self, seq: i64, hash: &str) -> Result<(), Flaw> {
        if self.seq == seq && self.hash == hash {
            return Ok(());
        }
        Err(Flaw::End { found: self.seq, expected: seq })
    }

    /// The last event taken, and its hash.
    #[must_use]
    pub fn head(&self) -> (i64, &str) {
        (self.seq, &self.hash)
    }

    /// How many events were taken.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }
}

/// HMAC-SHA256 under the key of seals, however it is had.
pub type Mac<'a> = dyn Fn(&[u8]) -> [u8; 32] + Send + Sync + 'a;

#[cfg(test)]
mod testing {
    use super::{Event, GENESIS, NewEvent};

    /// A chain of `n` events of organization `org`, after `first - 1` others.
    pub(crate) fn chain(org: &str, n: i64) -> Vec<Event> {
        let mut prev = GENESIS.to_owned();
        (1..=n)
            .map(|seq| {
                let new = NewEvent {
                    org_id: org.into(),
                    at_ms: seq * 1000,
                    actor: format!("user{}@example.com", seq % 3),
                    action: if seq % 2 == 0 { "image.pull" } else { "image.push" }.into(),
                    outcome: "ok".into(),
                    detail: "{\"a\":1}".into(),
                    ..NewEvent::default()
                };
                let event = Event::chained(new, seq, prev.clone());
                prev.clone_from(&event.hash);
                event
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn check(events: &[Event], head: &Event) -> Result<(), Flaw> {
        let mut chain = Chain::after("o", 0, GENESIS);
        events.iter().try_for_each(|event| chain.push(event))?;
        chain.ends_with(head.seq, &head.hash)
    }

    #[test]
    fn a_chain_is_whole_or_its_flaw_is_found() {
        let events = testing::chain("o", 5);
        let head = events.last().unwrap();
        check(&events, head).unwrap();
        let without = |i: usize| [&events[..i], &events[i + 1..]].concat();
        assert_eq!(check(&without(0), head), Err(Flaw::Gap { after: 0, before: 2 }));
        assert_eq!(check(&without(2), head), Err(Flaw::Gap { after: 2, before: 4 }));
        assert_eq!(check(&without(4), head), Err(Flaw::End { found: 4, expected: 5 }));
        let mut swapped = events.clone();
        swapped.swap(1, 2);
        assert!(check(&swapped, head).is_err());
        let mut twice = events.clone();
        twice.insert(2, events[1].clone());
        assert_eq!(check(&twice, head), Err(Flaw::Order { seq: 2, after: 2 }));
        let mut edited = events.clone();
        edited[3].event.actor = "someone.else".into();
        assert_eq!(check(&edited, head), Err(Flaw::Edited(4)));
        // Hashed anew, the next one does not follow any more.
        edited[3].hash = edited[3].expected_hash();
        assert_eq!(check(&edited, head), Err(Flaw::Broken(5)));
        assert_eq!(check(&testing::chain("other", 5), head), Err(Flaw::Foreign(1)));
    }

    #[test]
    fn the_hash_of_an_event_never_changes_its_recipe() {
        let events = testing::chain("o", 1);
        assert_eq!(events[0].hash, "3fc22d31055d13be5f81b6363275b9603e1e49dcc0fb9df07eab4c81ddf5769e");
    }
}

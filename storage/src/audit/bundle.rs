//! Bundles: events that follow one another, as one text in which what they have in common is said once.
//!
//! A bundle is a JSON array of the hash before its first event, of its texts, each once, and of its events. An event is an
//! array of its time, of the places of its texts in the order of [`shared`], of its request's id and of its hash. Where an event
//! stands in the chain follows from its place in the bundle, and the hash before it is that of its neighbour: who changes
//! one of them changes what was hashed.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use auditchain::{Event, NewEvent, hash};
use serde::{Deserialize, Serialize};

/// Most events of a bundle: what has to be read to see one of them.
pub(super) const MOST: usize = 64;
/// A bundle of texts this long (bytes) takes no further event.
const FULL: usize = 256 * 1024;

/// Texts of an event that it is likely to share with others.
const SHARED: usize = 12;

/// The shared texts of an event, in their order.
fn shared(e: &NewEvent) -> [&str; SHARED] {
    [
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
        &e.detail,
    ]
}

/// Places in [`shared`] of what [`terms`] are made of.
const FOUND_BY: [usize; 6] = [1, 3, 4, 6, 7, 9];

/// An event as a bundle has it: when, its texts' places, its request, its hash.
#[derive(Serialize, Deserialize)]
struct Packed<'a>(i64, [u32; SHARED], #[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Cow<'a, str>);

/// The hash before the first event, the texts, the events.
#[derive(Serialize, Deserialize)]
struct Content<'a>(#[serde(borrow)] Cow<'a, str>, #[serde(borrow)] Vec<Cow<'a, str>>, #[serde(borrow)] Vec<Packed<'a>>);

/// A bundle on its way into the database.
pub(super) struct Bundle {
    /// The place of its youngest event.
    pub last_seq: i64,
    /// The hash of that.
    pub last_hash: String,
    /// The oldest and the youngest time in it (unix milliseconds).
    pub times: (i64, i64),
    /// Its content.
    pub text: String,
    /// What it is to be found by.
    pub terms: BTreeSet<String>,
}

/// Chains the first of `events`, as many as one bundle takes, from place `seq` on, after the event of hash `prev_hash`. Returns
/// how many those were. There must be one.
///
/// # Errors
/// [`serde_json::Error`] never, as far as anybody knows: texts and numbers can be written.
pub(super) fn chain(events: &[NewEvent], seq: i64, prev_hash: &str) -> serde_json::Result<(Bundle, usize)> {
    let mut packing = Packing::default();
    let mut last_hash = prev_hash.to_owned();
    let mut last_seq = seq - 1;
    for event in events.iter().take(MOST) {
        last_seq += 1;
        last_hash = hash(event, last_seq, &last_hash);
        packing.add(event, last_hash.clone());
        if packing.size >= FULL {
            break;
        }
    }
    let count = packing.events.len();
    Ok((packing.bundle(last_seq, last_hash, prev_hash)?, count))
}

/// The bundle of events that are chained already, their hashes as they are: at most [`MOST`], each next to the one before.
/// There must be one.
///
/// # Errors
/// As [`chain`].
pub(super) fn of(events: &[Event]) -> serde_json::Result<Option<Bundle>> {
    let (Some(first), Some(last)) = (events.first(), events.last()) else { return Ok(None) };
    let mut packing = Packing::default();
    for event in events {
        packing.add(&event.event, event.hash.clone());
    }
    packing.bundle(last.seq, last.hash.clone(), &first.prev_hash).map(Some)
}

#[derive(Default)]
struct Packing<'a> {
    texts: Vec<Cow<'a, str>>,
    places: HashMap<&'a str, u32>,
    events: Vec<Packed<'a>>,
    terms: BTreeSet<String>,
    times: Option<(i64, i64)>,
    size: usize,
}

impl<'a> Packing<'a> {
    fn add(&mut self, event: &'a NewEvent, hash: String) {
        let texts = shared(event);
        let before = self.events.last().map(|event| event.1);
        let places = std::array::from_fn(|field| {
            let text = texts[field];
            // Neighbours are alike.
            let same = before.map(|before| before[field]).filter(|at| self.texts[*at as usize] == text);
            same.unwrap_or_else(|| self.place(text))
        });
        // Telling what it is found by costs more than to see that the one before said the same.
        if before.is_none_or(|before| FOUND_BY.iter().any(|field| before[*field] != places[*field])) {
            self.terms.extend(terms(event));
        }
        let (oldest, youngest) = self.times.unwrap_or((event.at_ms, event.at_ms));
        self.times = Some((oldest.min(event.at_ms), youngest.max(event.at_ms)));
        self.size += event.request_id.len() + hash.len();
        self.events.push(Packed(event.at_ms, places, Cow::Borrowed(&event.request_id), Cow::Owned(hash)));
    }

    fn place(&mut self, text: &'a str) -> u32 {
        let next = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        *self.places.entry(text).or_insert_with(|| {
            self.texts.push(Cow::Borrowed(text));
            self.size += text.len();
            next
        })
    }

    fn bundle(self, last_seq: i64, last_hash: String, prev_hash: &str) -> serde_json::Result<Bundle> {
        let text = serde_json::to_string(&Content(Cow::Borrowed(prev_hash), self.texts, self.events))?;
        let times = self.times.unwrap_or_default();
        Ok(Bundle { last_seq, last_hash, times, text, terms: self.terms })
    }
}

/// What an event is found by.
fn terms(e: &NewEvent) -> impl Iterator<Item = String> {
    let noun = noun(&e.action);
    let fields = [
        ("actor", e.actor.as_str()),
        ("action", &e.action),
        ("noun", noun),
        ("project", &e.project),
        ("client", &e.client),
        ("address", &e.address),
        // Nearly everything goes well.
        ("outcome", if e.outcome == "ok" { "" } else { &e.outcome }),
    ];
    fields.into_iter().filter_map(|(field, value)| term(field, value))
}

/// The term of a field's value; none where it is empty.
pub(super) fn term(field: &str, value: &str) -> Option<String> {
    (!value.is_empty()).then(|| format!("{field}={value}"))
}

/// The part of an action before the dot.
pub(super) fn noun(action: &str) -> &str {
    action.split('.').next().unwrap_or_default()
}

/// A bundle as it lies in the table.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct Row {
    /// The place of its youngest event.
    pub last_seq: i64,
    /// Its content.
    pub events: String,
}

impl Row {
    /// The events of the bundle that pass, in their order, and how many there are in all. A bundle that somebody has
    /// damaged is one event that says so and fits no hash.
    pub(super) fn open(&self, org_id: &str, mut pass: impl FnMut(&Seen<'_>) -> bool) -> (Vec<Event>, i64) {
        let content: Option<Content<'_>> = serde_json::from_str(&self.events).ok();
        let Some(Content(first_hash, texts, events)) = content.filter(is_whole) else {
            return (vec![self.unreadable(org_id)], 1);
        };
        let count = i64::try_from(events.len()).unwrap_or(i64::MAX);
        let mut found = Vec::new();
        let mut prev_hash: &str = &first_hash;
        for (seq, packed) in (self.last_seq.saturating_sub(count).saturating_add(1)..).zip(&events) {
            let seen = Seen { seq, at_ms: packed.0, texts: packed.1.map(|at| texts[at as usize].as_ref()) };
            if pass(&seen) {
                found.push(Event {
                    seq,
                    event: seen.event(org_id, &packed.2),
                    prev_hash: prev_hash.to_owned(),
                    hash: packed.3.as_ref().to_owned(),
                });
            }
            prev_hash = &packed.3;
        }
        (found, count)
    }

    fn unreadable(&self, org_id: &str) -> Event {
        let event = NewEvent {
            org_id: org_id.to_owned(),
            action: "audit.unreadable".into(),
            outcome: "error".into(),
            reason: "what the database has in this place is no event: it was changed".into(),
            ..NewEvent::default()
        };
        Event { seq: self.last_seq, event, prev_hash: String::new(), hash: String::new() }
    }
}

/// Whether every place is one of a text.
fn is_whole(content: &Content<'_>) -> bool {
    !content.2.is_empty() && content.2.iter().all(|packed| packed.1.iter().all(|at| (*at as usize) < content.1.len()))
}

/// An event in a bundle that is looked at.
pub(super) struct Seen<'a> {
    /// Its place in the chain.
    pub seq: i64,
    /// When it was (unix milliseconds).
    pub at_ms: i64,
    texts: [&'a str; SHARED],
}

impl Seen<'_> {
    /// Who did it.
    pub(super) fn actor(&self) -> &str {
        self.texts[1]
    }

    /// By which kind of client.
    pub(super) fn client(&self) -> &str {
        self.texts[3]
    }

    /// What was done.
    pub(super) fn action(&self) -> &str {
        self.texts[4]
    }

    /// To what.
    pub(super) fn target(&self) -> &str {
        self.texts[5]
    }

    /// In which project.
    pub(super) fn project(&self) -> &str {
        self.texts[6]
    }

    /// How it ended.
    pub(super) fn outcome(&self) -> &str {
        self.texts[7]
    }

    /// From where.
    pub(super) fn address(&self) -> &str {
        self.texts[9]
    }

    fn event(&self, org_id: &str, request_id: &str) -> NewEvent {
        let [actor_id, actor, credential, client, action, target, project, outcome, reason, address, agent, detail] =
            self.texts.map(str::to_owned);
        NewEvent {
            org_id: org_id.to_owned(),
            at_ms: self.at_ms,
            actor_id,
            actor,
            credential: credential.into(),
            client: client.into(),
            action,
            target,
            project,
            outcome: outcome.into(),
            reason,
            address,
            agent,
            request_id: request_id.to_owned(),
            detail,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn event(n: usize) -> NewEvent {
        NewEvent {
            org_id: "o".into(),
            at_ms: 1000 - i64::try_from(n).unwrap(),
            actor: format!("u{}", n % 2),
            action: "image.pull".into(),
            outcome: "ok".into(),
            request_id: format!("r{n}"),
            detail: "{\"é\":\"\\u0000\"}".into(),
            ..NewEvent::default()
        }
    }

    fn open(bundle: &Bundle) -> Vec<Event> {
        Row { last_seq: bundle.last_seq, events: bundle.text.clone() }.open("o", |_| true).0
    }

    #[test]
    fn what_was_bundled_comes_out_as_one_chain() {
        let events: Vec<NewEvent> = (0..MOST + 3).map(event).collect();
        let (bundle, count) = chain(&events, 8, "before").unwrap();
        assert_eq!((count, bundle.last_seq, bundle.times), (MOST, 7 + MOST as i64, (1001 - MOST as i64, 1000)));
        let mut prev = "before".to_owned();
        let mut expected = Vec::new();
        for (seq, event) in (8..).zip(&events[..MOST]) {
            expected.push(Event::chained(event.clone(), seq, prev));
            prev = expected.last().unwrap().hash.clone();
        }
        assert_eq!(bundle.last_hash, prev);
        let opened = open(&bundle);
        assert_eq!(opened, expected);
        let terms: Vec<&str> = bundle.terms.iter().map(String::as_str).collect();
        assert_eq!(terms, ["action=image.pull", "actor=u0", "actor=u1", "noun=image"]);
        let again = of(&opened).unwrap().unwrap();
        assert_eq!((again.text, again.terms), (bundle.text, bundle.terms));
        assert_eq!(chain(&events[MOST..], 1, "x").unwrap().1, 3);
    }

    #[test]
    fn long_texts_fill_a_bundle() {
        let long = |n: usize| NewEvent { detail: format!("{n}{}", "x".repeat(FULL / 4)), ..event(n) };
        let events: Vec<NewEvent> = (0..20).map(long).collect();
        assert_eq!(chain(&events, 1, "").unwrap().1, 4);
    }

    #[test]
    fn a_bundle_that_was_damaged_is_an_event_that_fits_no_hash() {
        let (bundle, _) = chain(&[event(1), event(2)], 1, "before").unwrap();
        for damage in [
            String::new(),
            "[]".to_owned(),
            "[\"before\",[],[]]".to_owned(),
            bundle.text.replace("\"u1\",", ""),
            bundle.text.replace("[0,", "[99,"),
            bundle.text[1..].to_owned(),
        ] {
            let (events, count) = Row { last_seq: 2, events: damage }.open("o", |_| true);
            assert_eq!((events.len(), count, events[0].seq), (1, 1, 2));
            assert_ne!(events[0].hash, events[0].expected_hash());
        }
    }
}

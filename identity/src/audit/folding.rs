//! Pulls of one minute that differ in nothing but their time, told as one event, where an operator wants it so.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use serde::Deserialize;
use storage::audit::NewEvent;
use storage::pulls::Pull;
use tokio::time::Instant;

use super::Outcome;

/// How the audit log tells of pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PullEvents {
    /// Each by itself.
    #[default]
    Each,
    /// Those of a minute by the same caller, of the same thing, as one that says how many they were. What a process has
    /// counted and not yet written is lost when it is killed.
    Minute,
}

/// The action of a pull.
const PULL: &str = "image.pull";
/// How long pulls are counted before they are written.
const MINUTE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 60 });
/// Different pulls that are counted at a time.
const MOST: usize = if cfg!(test) { 8 } else { 20_000 };

/// Whether an event tells of a pull.
fn is_pull(event: &NewEvent) -> bool {
    event.action == PULL && event.outcome == Outcome::Ok.as_str()
}

/// What the event of a pull says of it.
#[derive(Deserialize)]
struct Detail<'a> {
    #[serde(borrow)]
    digest: Cow<'a, str>,
    pulls: Option<u64>,
}

/// The pull that an event tells of, where it does.
pub(super) fn pull_of(event: &NewEvent) -> Option<Pull<'_>> {
    if !is_pull(event) {
        return None;
    }
    let detail: Detail<'_> = serde_json::from_str(&event.detail).ok()?;
    // A name has neither of these; what follows is the tag or digest that was asked for.
    let repository = event.target.split(['@', ':']).next()?;
    let count = detail.pulls.unwrap_or(1);
    Some(Pull { repository, digest: detail.digest, at: event.at_ms / 1000, by: &event.actor, count })
}

/// The pulls that are counted now.
#[derive(Debug, Default)]
pub(super) struct Folding {
    /// When the first of them was.
    since: Option<Instant>,
    /// What they have in common, the time of the last, its request, and how many they are.
    pulls: HashMap<NewEvent, (i64, String, u64)>,
}

impl Folding {
    /// Takes in a pull; returns any other event.
    pub(super) fn take(&mut self, mut event: NewEvent) -> Option<NewEvent> {
        if !is_pull(&event) {
            return Some(event);
        }
        self.since.get_or_insert_with(Instant::now);
        let (at, request) = (std::mem::take(&mut event.at_ms), std::mem::take(&mut event.request_id));
        let last = self.pulls.entry(event).or_default();
        *last = (at.max(last.0), request, last.2 + 1);
        None
    }

    /// When they are to be written.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.since?;
        Some(if self.pulls.len() >= MOST { since } else { since + MINUTE })
    }

    /// Everything that was counted, oldest first.
    pub(super) fn drain(&mut self) -> Vec<NewEvent> {
        self.since = None;
        let told = self.pulls.drain().map(|(event, (at_ms, request_id, pulls))| {
            // One that was alone is told as it was.
            if pulls == 1 {
                return NewEvent { at_ms, request_id, ..event };
            }
            let detail = match serde_json::from_str(&event.detail) {
                Ok(serde_json::Value::Object(mut detail)) => {
                    detail.insert("pulls".into(), pulls.into());
                    serde_json::Value::Object(detail).to_string()
                }
                _ => event.detail,
            };
            NewEvent { at_ms, detail, ..event }
        });
        let mut told: Vec<NewEvent> = told.collect();
        told.sort_by_key(|event| event.at_ms);
        told
    }
}

//! Keys of issuers, remembered: one fetch at a time for each, bounded in how often and in how long they are kept.

use std::sync::{Arc, PoisonError, RwLock};

use moka::sync::Cache;
use tokio::sync::Mutex;

use super::fetch::{FetchError, Web};
use super::key_set::KeySet;
use super::subject_token::Refusal;

/// Issuers that are remembered.
const MOST: u64 = 2_000;
/// Seconds for which keys are kept where the issuer does not say, at least, and at most.
const KEEP: (i64, i64, i64) = (600, 60, 3600);
/// Seconds for which keys go on counting while their issuer does not answer.
const STALE: i64 = 3600;
/// Seconds between two fetches because of a key that is not known.
const MISSED_EVERY: i64 = 60;
/// Seconds between two tries of an issuer that does not answer.
const RETRY_EVERY: i64 = 10;

/// Keys that were fetched.
struct Held {
    keys: Arc<KeySet>,
    fresh_until: i64,
}

/// What was tried last.
#[derive(Default)]
struct Attempt {
    at: i64,
    failed: Option<FetchError>,
}

#[derive(Default)]
struct Issuer {
    held: RwLock<Option<Arc<Held>>>,
    /// Whoever fetches holds it; the others wait and find what was fetched.
    turn: Mutex<Attempt>,
}

impl Issuer {
    fn held(&self) -> Option<Arc<Held>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The issuers that were asked.
pub(super) struct Issuers {
    known: Cache<String, Arc<Issuer>>,
    web: Web,
}

impl Issuers {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { known: Cache::builder().max_capacity(MOST).build(), web: Web::new(allow_private) }
    }

    /// The keys of an issuer, with the one of that id if it has it.
    pub(super) async fn keys(&self, name: &str, kid: &str, now: i64) -> Result<Arc<KeySet>, Refusal> {
        let issuer = self.known.get_with(name.to_owned(), Arc::default);
        let good = |held: &Held| now < held.fresh_until && held.keys.has(kid);
        if let Some(held) = issuer.held().filter(|held| good(held)) {
            return Ok(Arc::clone(&held.keys));
        }
        let mut last = issuer.turn.lock().await;
        let held = issuer.held();
        let fresh = held.as_ref().is_some_and(|held| now < held.fresh_until);
        if let Some(held) = held.as_ref().filter(|held| good(held)) {
            return Ok(Arc::clone(&held.keys));
        }
        let pause = if fresh { MISSED_EVERY } else { RETRY_EVERY };
        let waits = last.at <= now && now < last.at + pause;
        let error = match (waits, last.failed) {
            (true, None) => return held.map(|held| Arc::clone(&held.keys)).ok_or(Refusal::UnknownKey),
            (true, Some(error)) => error,
            (false, _) => {
                // A caller who goes away in the middle has tried, too.
                *last = Attempt { at: now, failed: Some(FetchError::Unreachable) };
                match self.web.keys(name).await {
                    Ok(fetched) => {
                        last.failed = None;
                        let (usual, least, most) = KEEP;
                        let keep = fetched.max_age.unwrap_or(usual).clamp(least, most);
                        let held = Arc::new(Held { keys: Arc::new(fetched.keys), fresh_until: now + keep });
                        *issuer.held.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&held));
                        return Ok(Arc::clone(&held.keys));
                    }
                    Err(error) => {
                        tracing::warn!(issuer = name, %error, "cannot get an issuer's keys");
                        last.failed = Some(error);
                        error
                    }
                }
            }
        };
        match held.filter(|held| now < held.fresh_until + STALE) {
            Some(held) => Ok(Arc::clone(&held.keys)),
            None => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;

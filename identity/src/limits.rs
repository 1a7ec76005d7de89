//! How often somebody may try: buckets of points for each address and each account, in this process's memory. They refill
//! with time; a try costs a point, a failure many more, so that a fleet of builds behind one address is not stopped by its
//! own success. `IPv6` addresses count by /64: a client has as many of the others as it likes.
//!
//! The lockout of a name ([`crate::login`]) is apart from this, kept in rows, and felt by every process.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use moka::sync::Cache;

use crate::audit::Origin;
use crate::core::Identity;
use crate::name::normalise;

/// Buckets that are remembered; the least used make room.
const MOST: u64 = 100_000;
/// Seconds after which a bucket that nobody asked for is forgotten: the slowest is full again by then.
const IDLE: u64 = 86_400;
/// Points that a failure costs beyond those of the try.
const FAILURE: f64 = 9.0;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// Passwords, keys and second factors.
    Login,
    /// Asking for a mail that resets a password, and showing what it said.
    Reset,
    /// Asking for a device code.
    Device,
    /// Asking what became of a device code.
    DevicePoll,
    /// User codes of devices, typed by somebody who is logged in.
    DeviceCode,
    /// Invitations of one organization to one address, however they come about.
    Invitation,
    /// Sending one of them again.
    InvitationAgain,
}

/// Points that a bucket holds at most, and how many come back in a second.
#[derive(Debug, Clone, Copy)]
struct Rate {
    most: f64,
    per_second: f64,
}

impl Limit {
    /// What an address may, and what an account may.
    fn rates(self) -> (Rate, Rate) {
        let rate = |most, per_second| Rate { most, per_second };
        match self {
            // 150 failures at once and 1 a second from an address; 20 and 6 a minute under a name.
            Self::Login => (rate(1500.0, 10.0), rate(200.0, 1.0)),
            Self::Reset => (rate(30.0, 0.1), rate(5.0, 1.0 / 600.0)),
            Self::Device => (rate(60.0, 0.5), rate(60.0, 0.5)),
            Self::DevicePoll => (rate(200.0, 10.0), rate(200.0, 10.0)),
            // 10 wrong codes at once, then 1 a minute: of 20^8 codes none is found by trying.
            Self::DeviceCode => (rate(100.0, 1.0 / 6.0), rate(100.0, 1.0 / 6.0)),
            // Whoever is invited did not ask for mail: 10 a day, and one again each 5 minutes.
            Self::Invitation => (rate(10.0, 10.0 / 86_400.0), rate(10.0, 10.0 / 86_400.0)),
            Self::InvitationAgain => (rate(1.0, 1.0 / 300.0), rate(1.0, 1.0 / 300.0)),
        }
    }
}

/// Too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tries from this address or under this name: wait {retry_after} s")]
pub struct Throttled {
    /// Seconds until the next try is looked at.
    pub retry_after: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    V4(u32),
    /// The first 64 bits.
    V6(u64),
    Account([u8; 32]),
}

impl Who {
    fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            #[allow(clippy::cast_possible_truncation)] // The upper half is 64 bits.
            IpAddr::V6(v6) => Self::V6((v6.to_bits() >> 64) as u64),
        }
    }
}

#[derive(Debug)]
struct Bucket {
    points: f64,
    at_ms: i64,
}

impl Bucket {
    fn refill(&mut self, rate: Rate, now_ms: i64) {
        #[allow(clippy::cast_precision_loss)] // Milliseconds between two tries.
        let seconds = (now_ms - self.at_ms).max(0) as f64 / 1000.0;
        self.points = (self.points + seconds * rate.per_second).min(rate.most);
        self.at_ms = now_ms;
    }
}

/// The buckets.
#[derive(Debug)]
pub(crate) struct Limits(Cache<(Limit, Who), Arc<Mutex<Bucket>>>);

impl Default for Limits {
    fn default() -> Self {
        Self(Cache::builder().max_capacity(MOST).time_to_idle(std::time::Duration::from_secs(IDLE)).build())
    }
}

impl Limits {
    fn with<T>(&self, limit: Limit, who: Who, rate: Rate, now_ms: i64, then: impl FnOnce(&mut Bucket) -> T) -> T {
        let bucket =
            self.0.get_with((limit, who), || Arc::new(Mutex::new(Bucket { points: rate.most, at_ms: now_ms })));
        let mut bucket = bucket.lock().unwrap_or_else(PoisonError::into_inner);
        bucket.refill(rate, now_ms);
        then(&mut bucket)
    }

    /// Takes a point, or says how many seconds it takes until there is one.
    fn take(&self, limit: Limit, who: Who, rate: Rate, now_ms: i64) -> Result<(), Throttled> {
        self.with(limit, who, rate, now_ms, |bucket| {
            if bucket.points >= 1.0 {
                bucket.points -= 1.0;
                return Ok(());
            }
            #[allow(clippy::cast_possible_truncation)] // At most the points of a bucket by the slowest rate: hours.
            let retry_after = ((1.0 - bucket.points) / rate.per_second).ceil() as i64;
            Err(Throttled { retry_after: retry_after.max(1) })
        })
    }

    /// Takes points that need not be there: those who come later wait for them.
    fn charge(&self, limit: Limit, who: Who, rate: Rate, now_ms: i64, points: f64) {
        self.with(limit, who, rate, now_ms, |bucket| {
            bucket.points = (bucket.points - points).clamp(-rate.most, rate.most);
        });
    }
}

impl Identity {
    /// Lets a try through, or not: by the address that it comes from, and by the account where it names one.
    ///
    /// # Errors
    /// [`Throttled`].
    pub fn admit(&self, limit: Limit, from: &Origin, account: Option<&str>) -> Result<(), Throttled> {
        let (by_address, by_account) = limit.rates();
        let now_ms = self.now_ms();
        if let Some(address) = from.address {
            self.0.limits.take(limit, Who::at(address), by_address, now_ms)?;
        }
        match account {
            Some(account) => self.0.limits.take(limit, self.account(account), by_account, now_ms),
            None => Ok(()),
        }
    }

    /// Counts a try that was let through and failed.
    pub fn count_against(&self, limit: Limit, from: &Origin, account: Option<&str>) {
        self.adjust(limit, from, account, FAILURE);
    }

    /// Gives back what a try cost that was right.
    pub(crate) fn give_back(&self, limit: Limit, from: &Origin, account: Option<&str>) {
        self.adjust(limit, from, account, -1.0);
    }

    fn adjust(&self, limit: Limit, from: &Origin, account: Option<&str>, points: f64) {
        let (by_address, by_account) = limit.rates();
        let now_ms = self.now_ms();
        if let Some(address) = from.address {
            self.0.limits.charge(limit, Who::at(address), by_address, now_ms, points);
        }
        if let Some(account) = account {
            self.0.limits.charge(limit, self.account(account), by_account, now_ms, points);
        }
    }

    fn account(&self, name: &str) -> Who {
        Who::Account(self.0.remember_key.mac(normalise(name).as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::testing;

    fn from(address: &str) -> Origin {
        Origin { address: Some(address.parse().unwrap()), ..Origin::default() }
    }

    #[tokio::test]
    async fn failures_cost_what_success_does_not_and_time_gives_it_back() {
        let t = testing::identity().await;
        let nat = from("192.0.2.1");
        for _ in 0..5000 {
            t.identity.admit(Limit::Login, &nat, Some("ci@acme.example")).unwrap();
            t.identity.give_back(Limit::Login, &nat, Some("ci@acme.example"));
        }
        let mut failures = 0;
        while t.identity.admit(Limit::Login, &nat, Some("ann@acme.example")).is_ok() {
            t.identity.count_against(Limit::Login, &nat, Some(" ANN@acme.example"));
            failures += 1;
        }
        assert_eq!(failures, 20, "by the account");
        t.identity.admit(Limit::Login, &nat, Some("bob@acme.example")).unwrap();
        let wait = t.identity.admit(Limit::Login, &nat, Some("ann@acme.example")).unwrap_err().retry_after;
        t.advance(wait);
        t.identity.admit(Limit::Login, &nat, Some("ann@acme.example")).unwrap();
        t.identity.admit(Limit::Reset, &nat, Some("ann@acme.example")).unwrap();
    }

    #[tokio::test]
    async fn an_address_of_version_6_counts_by_its_network() {
        let t = testing::identity().await;
        let mut tries = 0;
        while t.identity.admit(Limit::Device, &from(&format!("2001:db8:0:1::{tries:x}")), None).is_ok() {
            tries += 1;
        }
        assert_eq!(tries, 60);
        t.identity.admit(Limit::Device, &from("2001:db8:0:2::1"), None).unwrap();
        for _ in 0..60 {
            t.identity.admit(Limit::Device, &from("192.0.2.1"), None).unwrap();
        }
        assert!(t.identity.admit(Limit::Device, &from("::ffff:192.0.2.1"), None).is_err());
        t.identity.admit(Limit::Device, &Origin::default(), None).unwrap();
    }
}

//! Fetching an issuer's keys (OpenID Connect Discovery 1.0 §4, RFC 8414) from an address that an organization's admin named:
//! nothing of that may reach into this server's own networks, take long, or take memory.
//!
//! Names are resolved here, every address is checked, and the connection goes to a checked address and nowhere else: a name
//! that changes its mind between check and use gains nothing. Redirects are not followed, proxies of the environment not
//! used. Plain HTTP goes to local addresses alone, and only where the operator allowed those.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde_json::Value;
use tokio::sync::Semaphore;
use url::{Host, Url};

use super::key_set::{KeySet, MAX_BYTES};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// How long one answer may take.
const ANSWER: Duration = Duration::from_secs(5);
/// Issuers that are asked at a time.
const AT_ONCE: usize = 8;
/// How long a fetch waits for others to end.
const PATIENCE: Duration = Duration::from_secs(2);
/// Where issuers describe themselves.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Why an issuer's keys could not be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    #[error("the address is not one that may be asked")]
    Forbidden,
    #[error("the issuer cannot be reached")]
    Unreachable,
    #[error("the issuer answered with status {0}")]
    Status(u16),
    #[error("the issuer's answer is too large")]
    TooLarge,
    #[error("the issuer's answer is not what OpenID Connect Discovery says")]
    Malformed,
    #[error("the issuer calls itself by another name")]
    OtherIssuer,
    #[error("the issuer publishes no usable key")]
    NoKeys,
    #[error("too many issuers are being asked")]
    Busy,
}

/// What was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The keys.
    pub(super) keys: KeySet,
    /// For how many seconds the issuer says that they may be kept.
    pub(super) max_age: Option<i64>,
}

/// The way out.
pub(super) struct Web {
    /// Whether the operator lets issuers be in the server's own networks.
    allow_private: bool,
    turns: Semaphore,
    https: OnceLock<reqwest::Client>,
    plain: OnceLock<reqwest::Client>,
}

impl Web {
    pub(super) fn new(allow_private: bool) -> Self {
        Self { allow_private, turns: Semaphore::new(AT_ONCE), https: OnceLock::new(), plain: OnceLock::new() }
    }

    /// Fetches the keys of an issuer: what it says of itself, then the keys that it points to.
    pub(super) async fn keys(&self, issuer: &str) -> Result<Fetched, FetchError> {
        let turn = tokio::time::timeout(PATIENCE, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| FetchError::Busy)?.map_err(|_| FetchError::Busy)?;
        let place = Url::parse(&format!("{}{DISCOVERY}", issuer.trim_end_matches('/')));
        let (text, _) = self.get(&place.map_err(|_| FetchError::Forbidden)?).await?;
        let said: Value = serde_json::from_slice(&text).map_err(|_| FetchError::Malformed)?;
        // OpenID Connect Discovery 1.0 §4.3.
        if said["issuer"].as_str() != Some(issuer) {
            return Err(FetchError::OtherIssuer);
        }
        let keys = said["jwks_uri"].as_str().and_then(|text| Url::parse(text).ok()).ok_or(FetchError::Malformed)?;
        let (text, max_age) = self.get(&keys).await?;
        let keys = KeySet::published(&text).map_err(|_| FetchError::NoKeys)?;
        Ok(Fetched { keys, max_age })
    }

    async fn get(&self, url: &Url) -> Result<(Vec<u8>, Option<i64>), FetchError> {
        let guard = match url.scheme() {
            "https" => Guard { public: true, local: self.allow_private },
            "http" => Guard { public: false, local: self.allow_private },
            _ => return Err(FetchError::Forbidden),
        };
        let literal = match url.host() {
            Some(Host::Ipv4(v4)) => Some(IpAddr::V4(v4)),
            Some(Host::Ipv6(v6)) => Some(IpAddr::V6(v6)),
            Some(Host::Domain(_)) => None,
            None => return Err(FetchError::Forbidden),
        };
        let named = !url.username().is_empty() || url.password().is_some();
        if named || (!guard.public && !guard.local) || literal.is_some_and(|address| !guard.lets(address)) {
            return Err(FetchError::Forbidden);
        }
        let request = self.client(guard)?.get(url.clone()).header(http::header::ACCEPT, "application/json");
        let mut response = request.send().await.map_err(|error| refusal(&error))?;
        if response.status() != http::StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let max_age =
            response.headers().get(http::header::CACHE_CONTROL).and_then(|v| v.to_str().ok()).and_then(max_age);
        let mut text = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| refusal(&error))? {
            if text.len() + chunk.len() > MAX_BYTES {
                return Err(FetchError::TooLarge);
            }
            text.extend_from_slice(&chunk);
        }
        Ok((text, max_age))
    }

    fn client(&self, guard: Guard) -> Result<&reqwest::Client, FetchError> {
        let slot = if guard.public { &self.https } else { &self.plain };
        if let Some(client) = slot.get() {
            return Ok(client);
        }
        let built = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .https_only(guard.public)
            .connect_timeout(CONNECT)
            .timeout(ANSWER)
            .pool_max_idle_per_host(0)
            .referer(false)
            .user_agent(concat!("wharfinger/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(guard))
            .build();
        let client = built.map_err(|error| {
            tracing::error!(%error, "cannot make requests to issuers");
            FetchError::Unreachable
        })?;
        Ok(slot.get_or_init(|| client))
    }
}

fn refusal(error: &reqwest::Error) -> FetchError {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    if causes.into_iter().any(<dyn std::error::Error>::is::<NotAllowed>) {
        FetchError::Forbidden
    } else {
        FetchError::Unreachable
    }
}

/// `max-age` of a `Cache-Control` (RFC 9111 §5.2.2.1).
fn max_age(value: &str) -> Option<i64> {
    value.split(',').find_map(|part| part.trim().to_ascii_lowercase().strip_prefix("max-age=")?.parse().ok())
}

/// A name that resolves to an address that may not be asked.
#[derive(Debug, thiserror::Error)]
#[error("the name resolves to an address that may not be asked")]
struct NotAllowed;

/// Which addresses may be asked.
#[derive(Debug, Clone, Copy)]
struct Guard {
    public: bool,
    local: bool,
}

impl Guard {
    fn lets(self, address: IpAddr) -> bool {
        match reach(address) {
            Reach::Public => self.public,
            Reach::Local => self.local,
            Reach::Never => false,
        }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let guard = *self;
        Box::pin(async move {
            let found: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            // One that may not be asked spoils them all: nobody's public name has one by right.
            if !found.iter().all(|address| guard.lets(address.ip())) {
                return Err(NotAllowed.into());
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Where an address lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// On the public internet.
    Public,
    /// This machine, or networks that somebody runs for themselves.
    Local,
    /// Nowhere that an issuer is: every machine's metadata service, groups, what is reserved.
    Never,
}

fn reach(address: IpAddr) -> Reach {
    match address.to_canonical() {
        IpAddr::V4(v4) => reach_v4(v4),
        IpAddr::V6(v6) => reach_v6(v6),
    }
}

/// By the IANA IPv4 Special-Purpose Address Registry (RFC 6890).
fn reach_v4(v4: Ipv4Addr) -> Reach {
    let [a, b, c, _] = v4.octets();
    match (a, b, c) {
        (127 | 10, _, _) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Reach::Local,
        // Link-local: 169.254.169.254 hands out a cloud machine's own credentials.
        (0 | 224..=255, _, _)
        | (169, 254, _)
        | (192, 0, 0 | 2)
        | (192, 88, 99)
        | (198, 18..=19, _)
        | (198, 51, 100)
        | (203, 0, 113) => Reach::Never,
        _ => Reach::Public,
    }
}

/// By the IANA IPv6 Special-Purpose Address Registry: what is public is `2000::/3`, less some of it.
fn reach_v6(v6: Ipv6Addr) -> Reach {
    let s = v6.segments();
    let embedded = |high: u16, low: u16| {
        let [a, b] = high.to_be_bytes();
        let [c, d] = low.to_be_bytes();
        Ipv4Addr::new(a, b, c, d)
    };
    // The address that metadata services of clouds have within fc00::/7.
    if s[..4] == [0xfd00, 0x0ec2, 0, 0] {
        return Reach::Never;
    }
    match s[0] {
        _ if v6 == Ipv6Addr::LOCALHOST => Reach::Local,
        0xfc00..=0xfdff => Reach::Local,
        // Addresses of version 4 in disguise (RFC 6052, RFC 3056).
        0x0064 if s[1..6] == [0xff9b, 0, 0, 0, 0] => reach_v4(embedded(s[6], s[7])),
        0x2002 => reach_v4(embedded(s[1], s[2])),
        // 2001::/23, documentation (2001:db8::/32, 3fff::/20).
        0x2001 if s[1] < 0x0200 || s[1] == 0x0db8 => Reach::Never,
        0x3fff if s[1] < 0x1000 => Reach::Never,
        0x2000..=0x3fff => Reach::Public,
        _ => Reach::Never,
    }
}

#[cfg(test)]
mod tests;

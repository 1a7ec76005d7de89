//! Proxies in front of the services that may say on whose behalf they ask. Everybody else's `X-Forwarded-…` is dropped at the
//! door, so that nothing behind it can take a stranger's word.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use http::{HeaderMap, HeaderName, HeaderValue};
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// What proxies may say and nothing here reads.
static UNREAD: [HeaderName; 4] = [
    HeaderName::from_static("forwarded"),
    HeaderName::from_static("x-forwarded-host"),
    HeaderName::from_static("x-forwarded-port"),
    HeaderName::from_static("x-real-ip"),
];
/// Most hops that are looked at, from the right.
const MAX_HOPS: usize = 32;

/// Networks of proxies that are believed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Proxies(Vec<IpNet>);

impl Proxies {
    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// The address of whoever asks: the peer, or, where that is a trusted proxy, the rightmost address of `X-Forwarded-For`
    /// that is none. Leaves no `X-Forwarded-…` that was not a trusted proxy's word.
    pub(crate) fn client(&self, peer: IpAddr, headers: &mut HeaderMap) -> IpAddr {
        let peer = peer.to_canonical();
        for name in &UNREAD {
            headers.remove(name);
        }
        if !self.trusts(peer) {
            headers.remove(&FORWARDED_FOR);
            headers.remove(&FORWARDED_PROTO);
            return peer;
        }
        let client = self.walk(peer, headers);
        headers.remove(&FORWARDED_FOR);
        // Several proxies append: the first one's word is about the client.
        let proto = headers.get(&FORWARDED_PROTO).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let proto = match proto.split(',').next().unwrap_or_default().trim() {
            "https" => Some("https"),
            "http" => Some("http"),
            _ => None,
        };
        headers.remove(&FORWARDED_PROTO);
        if let Some(proto) = proto {
            headers.insert(&FORWARDED_PROTO, HeaderValue::from_static(proto));
        }
        client
    }

    fn walk(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        // A hop that is no text spoils itself alone, not the line that the proxy added to.
        let lines: Vec<_> =
            headers.get_all(&FORWARDED_FOR).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        let mut client = peer;
        for hop in hops.take(MAX_HOPS) {
            // What cannot be read is nobody's address: the last good one is.
            let Some(address) = parse(hop.trim()) else { return client };
            client = address;
            if !self.trusts(address) {
                return client;
            }
        }
        client
    }
}

/// An address, with a port behind it or without.
fn parse(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.split(']').next()).unwrap_or(text);
    let address = bare.parse::<IpAddr>().or_else(|_| bare.parse::<std::net::SocketAddr>().map(|a| a.ip()));
    address.ok().map(|address| address.to_canonical())
}

impl FromStr for Proxies {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let network = |part: &str| {
            let alone = || part.parse::<IpAddr>().map(IpNet::from);
            part.parse::<IpNet>().or_else(|_| alone()).map_err(|_| format!("{part:?} is no network such as 10.0.0.0/8"))
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(network).collect::<Result<_, _>>().map(Self)
    }
}

impl<'de> Deserialize<'de> for Proxies {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum ListOrText {
            List(Vec<String>),
            Text(String),
        }
        let text = match ListOrText::deserialize(deserializer)? {
            ListOrText::List(list) => list.join(","),
            ListOrText::Text(text) => text,
        };
        text.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for Proxies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&texts.join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn client(peer: &str, lines: &[&str]) -> String {
        let proxies: Proxies = "10.0.0.0/8, 192.0.2.7,fd00::/8".parse().unwrap();
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&FORWARDED_FOR, line.parse().unwrap());
        }
        let client = proxies.client(peer.parse().unwrap(), &mut headers).to_string();
        assert!(!headers.contains_key(&FORWARDED_FOR));
        client
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(client("203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        assert_eq!(client("::ffff:203.0.113.9", &["198.51.100.1"]), "203.0.113.9");
        let mut headers = HeaderMap::new();
        for name in ["x-forwarded-proto", "forwarded", "x-forwarded-host", "x-real-ip"] {
            headers.insert(name, HeaderValue::from_static("https"));
        }
        Proxies::default().client("10.0.0.1".parse().unwrap(), &mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn behind_trusted_proxies_the_rightmost_other_address_is_the_clients() {
        assert_eq!(client("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(client("::ffff:10.0.0.1", &["198.51.100.1:4711"]), "198.51.100.1");
        // What the client wrote itself stands further left.
        assert_eq!(client("10.0.0.1", &["127.0.0.1, 198.51.100.1, 192.0.2.7"]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "198.51.100.1 , 10.9.9.9"]), "198.51.100.1");
        assert_eq!(client("fd00::1", &["[2001:db8::5]:443"]), "2001:db8::5");
        assert_eq!(client("10.0.0.1", &["10.0.0.2"]), "10.0.0.2");
        assert_eq!(client("10.0.0.1", &["198.51.100.1, nonsense, 10.0.0.3"]), "10.0.0.3");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[&"10.0.0.2,".repeat(100)]), "10.0.0.1");
    }

    #[test]
    fn what_is_no_text_hides_nobody() {
        let proxies: Proxies = "10.0.0.0/8".parse().unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(&FORWARDED_FOR, HeaderValue::from_bytes(b"\xff, 203.0.113.9").unwrap());
        assert_eq!(proxies.walk("10.0.0.1".parse().unwrap(), &headers).to_string(), "203.0.113.9");
    }

    #[test]
    fn the_scheme_is_the_first_trusted_word() {
        let proxies: Proxies = "10.0.0.1".parse().unwrap();
        for (said, left) in [("https", Some("https")), ("https, http", Some("https")), ("gopher", None)] {
            let mut headers = HeaderMap::from_iter([(FORWARDED_PROTO.clone(), said.parse().unwrap())]);
            proxies.client("10.0.0.1".parse().unwrap(), &mut headers);
            assert_eq!(headers.get(&FORWARDED_PROTO).map(|value| value.to_str().unwrap()), left);
        }
    }

    #[test]
    fn networks_are_read_from_text() {
        assert_eq!("10.0.0.0/8,::1".parse::<Proxies>().unwrap().to_string(), "10.0.0.0/8,::1/128");
        assert_eq!("".parse::<Proxies>().unwrap(), Proxies::default());
        assert!("10.0.0.0/33".parse::<Proxies>().is_err() && "proxy".parse::<Proxies>().is_err());
    }
}

//! Public keys of an issuer (RFC 7517). What is not a public key for signatures that we know is left out: a symmetric key
//! never counts, and a key says by its own type which algorithms it may be used with (RFC 8725 §3.1).

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

/// Most keys of one set.
pub(super) const MOST_KEYS: usize = 100;
/// Longest text of a set, in bytes.
pub(super) const MAX_BYTES: usize = 512 * 1024;
/// Longest id of a key, in bytes.
const MAX_KID: usize = 256;
/// Longest modulus of an RSA key as base64url: 8192 bits.
const MAX_MODULUS: usize = 1368;

/// Why a set was refused. `Display` is meant for whoever gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not a set.
    #[error("not a JSON Web Key Set: an object with a list of keys, as at the issuer's jwks_uri")]
    Malformed,
    /// Too large.
    #[error("a key set has at most {MOST_KEYS} keys and {} KiB", MAX_BYTES / 1024)]
    TooLarge,
    /// A private or secret key.
    #[error("the key set holds a private or secret key: give the public keys alone")]
    Secret,
    /// Nothing that could check a signature.
    #[error("the key set holds no public key with a kid that signs by RS256, PS256, ES256, ES384 or EdDSA")]
    Empty,
}

/// A key and what it may be used with.
struct Key {
    kid: String,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// The keys that count.
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Reads a set that an issuer publishes.
    pub(super) fn published(text: &[u8]) -> Result<Self, KeySetError> {
        let keys = list(text)?.iter().filter_map(usable).collect::<Vec<_>>();
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self(keys)) }
    }

    /// Reads a set that somebody gave, who is told where it holds what must be nobody's.
    pub(super) fn given(text: &str) -> Result<Self, KeySetError> {
        let secret = |key: &Value| key["kty"] == "oct" || ["d", "p", "q", "k"].iter().any(|m| key.get(m).is_some());
        if list(text.as_bytes())?.iter().any(secret) {
            return Err(KeySetError::Secret);
        }
        Self::published(text.as_bytes())
    }

    /// Whether it holds a key of that id.
    pub(super) fn has(&self, kid: &str) -> bool {
        self.0.iter().any(|key| key.kid == kid)
    }

    /// The key of that id that may be used with that algorithm.
    pub(super) fn find(&self, kid: &str, algorithm: Algorithm) -> Option<&DecodingKey> {
        let fits = |key: &&Key| key.kid == kid && key.algorithms.contains(&algorithm);
        self.0.iter().find(fits).map(|key| &key.key)
    }
}

fn list(text: &[u8]) -> Result<Vec<Value>, KeySetError> {
    if text.len() > MAX_BYTES {
        return Err(KeySetError::TooLarge);
    }
    let set: Map<String, Value> = serde_json::from_slice(text).map_err(|_| KeySetError::Malformed)?;
    let Some(Value::Array(keys)) = set.get("keys").cloned() else { return Err(KeySetError::Malformed) };
    if keys.len() > MOST_KEYS { Err(KeySetError::TooLarge) } else { Ok(keys) }
}

fn usable(value: &Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let kid = jwk.common.key_id.clone().filter(|kid| (1..=MAX_KID).contains(&kid.len()))?;
    let signs = jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let verifies = jwk.common.key_operations.as_ref().is_none_or(|list| list.contains(&KeyOperations::Verify));
    let own = algorithms(&jwk.algorithm)?;
    // Where the set names the algorithm, it is that one alone.
    let algorithms = match value.get("alg").and_then(Value::as_str) {
        Some(name) => own.iter().copied().filter(|algorithm| format!("{algorithm:?}") == name).collect(),
        None => own.to_vec(),
    };
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (signs && verifies && !algorithms.is_empty()).then_some(Key { kid, algorithms, key })
}

fn algorithms(parameters: &AlgorithmParameters) -> Option<&'static [Algorithm]> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    match parameters {
        AlgorithmParameters::RSA(rsa) if rsa.n.len() <= MAX_MODULUS && rsa.e.len() <= 8 => {
            Some(&[RS256, RS384, RS512, PS256, PS384, PS512])
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => Some(&[ES256]),
            EllipticCurve::P384 => Some(&[ES384]),
            _ => None,
        },
        AlgorithmParameters::OctetKeyPair(pair) if pair.curve == EllipticCurve::Ed25519 => Some(&[EdDSA]),
        _ => None,
    }
}

impl std::fmt::Debug for KeySet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|key| &key.kid)).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const EC: (&str, &str) =
        ("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM");

    fn ec(kid: &str, more: &[(&str, Value)]) -> Value {
        let mut key = json!({"kty": "EC", "crv": "P-256", "x": EC.0, "y": EC.1, "kid": kid});
        for (name, value) in more {
            key[*name] = value.clone();
        }
        key
    }

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::published(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_key_is_used_with_the_algorithms_of_its_type_alone() {
        let keys = set(&[ec("a", &[])]).unwrap();
        assert!(keys.find("a", Algorithm::ES256).is_some() && keys.has("a"));
        for wrong in [Algorithm::HS256, Algorithm::ES384, Algorithm::RS256, Algorithm::EdDSA] {
            assert!(keys.find("a", wrong).is_none(), "{wrong:?}");
        }
        assert!(keys.find("b", Algorithm::ES256).is_none());
        let rsa = json!({"kty": "RSA", "n": format!("{}w", "u".repeat(341)), "e": "AQAB", "kid": "r", "alg": "PS256"});
        let keys = set(&[rsa]).unwrap();
        assert!(keys.find("r", Algorithm::PS256).is_some() && keys.find("r", Algorithm::RS256).is_none());
    }

    #[test]
    fn what_is_no_public_key_for_signatures_is_left_out() {
        for other in [
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "a", "alg": "HS256"}),
            ec("a", &[("use", json!("enc"))]),
            ec("a", &[("key_ops", json!(["encrypt"]))]),
            ec("a", &[("alg", json!("HS256"))]),
            ec("a", &[("crv", json!("P-521"))]),
            ec("a", &[("kid", json!(""))]),
            json!({"kty": "EC", "crv": "P-256", "x": EC.0, "y": EC.1}),
            json!({"kty": "RSA", "n": "u".repeat(3000), "e": "AQAB", "kid": "a"}),
            json!({"kty": "future", "kid": "a"}),
            json!("a"),
        ] {
            assert_eq!(set(std::slice::from_ref(&other)).unwrap_err(), KeySetError::Empty, "{other}");
            assert!(set(&[other, ec("good", &[])]).unwrap().has("good"));
        }
    }

    #[test]
    fn sets_are_bounded_and_given_ones_hold_no_secret() {
        let many: Vec<Value> = (0..101).map(|i| ec(&i.to_string(), &[])).collect();
        assert_eq!(set(&many).unwrap_err(), KeySetError::TooLarge);
        assert_eq!(KeySet::published(&vec![b' '; MAX_BYTES + 1]).unwrap_err(), KeySetError::TooLarge);
        for bad in ["", "[]", "{}", "{\"keys\":{}}", "null", "{\"keys\":[", &"[".repeat(10_000)] {
            assert_eq!(KeySet::published(bad.as_bytes()).unwrap_err(), KeySetError::Malformed, "{bad:.20}");
        }
        let private = json!({ "keys": [ec("a", &[("d", json!("x"))])] }).to_string();
        assert_eq!(KeySet::given(&private).unwrap_err(), KeySetError::Secret);
        let shared = json!({ "keys": [ec("a", &[]), {"kty": "oct", "k": "c2VjcmV0"}] }).to_string();
        assert_eq!(KeySet::given(&shared).unwrap_err(), KeySetError::Secret);
        assert!(KeySet::given(&json!({ "keys": [ec("a", &[])] }).to_string()).is_ok());
    }
}

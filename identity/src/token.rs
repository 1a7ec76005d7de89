//! Access tokens: ES256 JSON Web Tokens (RFC 7519, Docker token specification "JWT"). Pure: keys and time are passed in.
//!
//! A token is checked with a key of ours, found by its `kid` alone; the key says the algorithm. Keys that a token brings
//! along or points to (`jwk`, `x5c`, `jku`, `x5u`) are never looked at.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

/// Seconds by which two clocks may differ.
pub const LEEWAY: i64 = 60;
/// Longest token looked at.
const MAX_LEN: usize = 16 * 1024;

/// One thing and what its holder may do to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// `repository` or `registry`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The thing's name, as it was asked for.
    pub name: String,
    /// The granted actions; empty where it was asked for and nothing was granted.
    pub actions: Vec<String>,
}

impl Access {
    /// Whether an action is granted.
    #[must_use]
    pub fn allows(&self, action: &str) -> bool {
        self.actions.iter().any(|a| a == action || a == "*")
    }
}

/// A user's two epochs, `<epoch>.<grants_epoch>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Epochs {
    /// Of the credential: moves with the password, and when the user is shut out everywhere.
    pub user: i64,
    /// Of the rights: moves when they shrink.
    pub grants: i64,
}

impl fmt::Display for Epochs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.user, self.grants)
    }
}

impl FromStr for Epochs {
    type Err = std::num::ParseIntError;
    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let (user, grants) = s.split_once('.').unwrap_or((s, ""));
        Ok(Self { user: user.parse()?, grants: grants.parse()? })
    }
}

impl Serialize for Epochs {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epochs {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The token service.
    pub iss: String,
    /// The user's name; empty for anybody.
    pub sub: String,
    /// The registry.
    pub aud: String,
    /// End (unix seconds).
    pub exp: i64,
    /// Beginning (unix seconds).
    pub nbf: i64,
    /// When it was made (unix seconds).
    pub iat: i64,
    /// Its own id.
    pub jti: String,
    /// What it grants.
    pub access: Vec<Access>,
    /// The user's id; absent for anybody.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The user's epochs when it was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ep: Option<Epochs>,
    /// The API key that it was had with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Repositories whose `pull` is granted only because their project is public.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub open: Vec<String>,
}

impl Claims {
    /// About how many bytes of memory they take, with what they say of who calls ([`Bearer`]) beside them.
    pub(crate) fn weight(&self) -> u32 {
        /// A string's own part and what the allocator rounds up.
        const TEXT: usize = 40;
        let access = self.access.iter().map(|access| {
            let actions: usize = access.actions.iter().map(|action| action.len() + TEXT).sum();
            access.kind.len() + access.name.len() + 3 * TEXT + actions
        });
        let open = self.open.iter().map(|name| name.len() + TEXT);
        // The rest: eight short texts, numbers, the cache's own entry.
        u32::try_from(1024 + 2 * (self.sub.len() + access.sum::<usize>()) + open.sum::<usize>()).unwrap_or(u32::MAX)
    }
}

/// A token that was checked: who calls, and what was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bearer {
    /// The user's id; `None` for anybody.
    pub user: Option<String>,
    /// The user's name; empty for anybody.
    pub name: String,
    /// The API key that the token was had with.
    pub key: Option<String>,
    /// The user's epochs; zero for anybody.
    pub epochs: Epochs,
    /// What was granted, and what was asked and refused (no actions).
    pub access: Vec<Access>,
    /// End of the token (unix seconds).
    pub expires_at: i64,
}

impl From<&Claims> for Bearer {
    fn from(claims: &Claims) -> Self {
        Self {
            user: claims.uid.clone(),
            name: claims.sub.clone(),
            key: claims.key.clone(),
            epochs: claims.ep.unwrap_or_default(),
            access: claims.access.clone(),
            expires_at: claims.exp,
        }
    }
}

/// Why a token does not count.
#[derive(Debug, thiserror::Error)]
pub enum BearerError {
    /// Not a token of our form.
    #[error("malformed token")]
    Malformed,
    /// Signed with a key that is not ours, or no longer.
    #[error("unknown signing key")]
    UnknownKey,
    /// The signature, or its algorithm, is not the key's.
    #[error("wrong signature")]
    Signature,
    /// From another issuer.
    #[error("wrong issuer")]
    Issuer,
    /// For another service.
    #[error("wrong audience")]
    Audience,
    /// Over.
    #[error("expired")]
    Expired,
    /// Not begun.
    #[error("not valid yet")]
    NotYet,
    /// Its user's credential or rights have changed since, or what it was given for is no longer public: a good token
    /// otherwise, this one.
    #[error("revoked")]
    Revoked(Arc<Bearer>),
    /// It cannot be checked now.
    #[error("cannot be checked now")]
    Unavailable(#[source] storage::Error),
}

/// A token could not be signed.
#[derive(Debug, thiserror::Error)]
#[error("cannot sign a token")]
pub enum SignError {
    /// Its claims cannot be written.
    Json(#[from] serde_json::Error),
    /// The key did not sign.
    Key(#[from] aws_lc_rs::error::Unspecified),
}

/// A private key that signs tokens: read once, as reading and checking it takes nearly as long as a signature.
pub struct Signer {
    kid: String,
    /// What every token of it begins with: the header, encoded, and the dot behind it.
    header: String,
    key: EcdsaKeyPair,
}

impl Signer {
    /// The signer of a P-256 key in PKCS #8 DER; none where that is something else.
    #[must_use]
    pub fn es256(kid: &str, pkcs8: &[u8]) -> Option<Self> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8).ok()?;
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        let header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).ok()?) + ".";
        Some(Self { kid: kid.to_owned(), header, key })
    }

    /// What its tokens name it by.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Signs.
    ///
    /// # Errors
    /// Where something cannot be written as JSON or the key does not sign.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        let claims = serde_json::to_vec(claims)?;
        // Four characters for three bytes; the dot and a signature of 64 bytes take 87, and what is begun is rounded up.
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 96);
        token.push_str(&self.header);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.key.sign(&SystemRandom::new(), token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature.as_ref(), &mut token);
        Ok(token)
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.kid)
    }
}

/// Checks tokens against one issuer, one audience and a set of public keys.
#[derive(Clone)]
pub struct Verifier {
    issuer: String,
    audience: String,
    keys: HashMap<String, DecodingKey>,
}

impl Verifier {
    /// A verifier that knows no key yet.
    #[must_use]
    pub fn new(issuer: &str, audience: &str) -> Self {
        Self { issuer: issuer.to_owned(), audience: audience.to_owned(), keys: HashMap::new() }
    }

    /// Adds a P-256 public key: an uncompressed point (SEC 1 §2.3.3).
    pub fn add_es256(&mut self, kid: &str, point: &[u8]) {
        self.keys.insert(kid.to_owned(), DecodingKey::from_ec_der(point));
    }

    /// Whether it knows the key.
    #[must_use]
    pub fn knows(&self, kid: &str) -> bool {
        self.keys.contains_key(kid)
    }

    /// Checks signature, issuer, audience and times, and returns the claims and the key's id.
    ///
    /// # Errors
    /// [`BearerError`], every variant but `Revoked` and `Unavailable`.
    pub fn verify(&self, token: &str, now: i64) -> Result<(Claims, String), BearerError> {
        if token.len() > MAX_LEN {
            return Err(BearerError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| BearerError::Malformed)?;
        let kid = header.kid.ok_or(BearerError::UnknownKey)?;
        let key = self.keys.get(&kid).ok_or(BearerError::UnknownKey)?;
        // The key's algorithm is the only one allowed, whatever the header says (RFC 8725 §3.1).
        let mut validation = Validation::new(Algorithm::ES256);
        // Issuer, audience and times are checked below, against the time that was passed in.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let claims = jsonwebtoken::decode::<Claims>(token, key, &validation).map_err(refusal)?.claims;
        if claims.iss != self.issuer {
            return Err(BearerError::Issuer);
        }
        if claims.aud != self.audience {
            return Err(BearerError::Audience);
        }
        check_times(&claims, now)?;
        Ok((claims, kid))
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("issuer", &self.issuer).field("kids", &self.keys.keys()).finish()
    }
}

fn refusal(error: jsonwebtoken::errors::Error) -> BearerError {
    use jsonwebtoken::errors::ErrorKind as E;
    match error.into_kind() {
        E::InvalidSignature | E::InvalidAlgorithm | E::InvalidKeyFormat => BearerError::Signature,
        _ => BearerError::Malformed,
    }
}

/// Whether a token holds at this time, give or take [`LEEWAY`].
pub(crate) fn check_times(claims: &Claims, now: i64) -> Result<(), BearerError> {
    if claims.exp.saturating_add(LEEWAY) <= now {
        Err(BearerError::Expired)
    } else if claims.nbf.saturating_sub(LEEWAY) > now {
        Err(BearerError::NotYet)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

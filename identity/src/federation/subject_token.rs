//! A token of somebody else's issuer (RFC 7519): read, then judged by what a trust says, then by its signature.
//!
//! Keys that a token brings along or points to (`jwk`, `x5c`, `jku`, `x5u`) are never looked at.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, Validation};
use serde_json::{Map, Value};

use super::fetch::FetchError;
use super::key_set::KeySet;
use super::rules::Rules;

/// Longest token looked at, in bytes: what the token service reads of a request.
const MAX_LEN: usize = 16 * 1024;
/// Seconds by which the issuer's clock may be ahead.
const LEEWAY: i64 = 30;
/// Seconds for which a token counts at most, however long its issuer lets it live.
const MAX_AGE: i64 = 24 * 3600;
/// What the header may call the token (RFC 9068 §2.1); logout tokens, security events and proofs are no credentials.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Why a token does not stand for the machine. `Display` is for the organization's audit log, never for the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no such machine, or it is not active")]
    NoMachine,
    #[error("the organization is not active")]
    Organization,
    #[error("the token is not a signed JWT with iss, exp and iat")]
    Malformed,
    #[error("the machine has no trust in this issuer")]
    Untrusted,
    #[error("the token's algorithm is none that counts")]
    Algorithm,
    #[error("the token's type is none that counts")]
    Type,
    #[error("the token is not for the audience {0}")]
    Audience(String),
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    NotYet,
    #[error("the token is older than a day")]
    TooOld,
    #[error("the rule for {0} does not hold")]
    Rule(String),
    #[error("the trust cannot be read")]
    Damaged,
    #[error("the issuer has no key of the token's kid that fits its algorithm")]
    UnknownKey,
    #[error("the signature is wrong")]
    Signature,
    #[error("the issuer's keys are not to be had: {0}")]
    Keys(#[from] FetchError),
}

impl Refusal {
    /// How far a token got: of several refusals, the farthest says most.
    pub(super) fn progress(&self) -> u8 {
        match self {
            Self::NoMachine | Self::Organization | Self::Malformed | Self::Type | Self::Algorithm => 0,
            Self::Untrusted | Self::Damaged => 1,
            Self::Audience(_) => 2,
            Self::Expired | Self::NotYet | Self::TooOld => 3,
            Self::Rule(_) => 4,
            Self::UnknownKey | Self::Signature | Self::Keys(_) => 5,
        }
    }
}

/// A token that was read and not checked.
pub(super) struct SubjectToken<'a> {
    text: &'a str,
    algorithm: Algorithm,
    /// Its key's id.
    pub(super) kid: String,
    /// What it says.
    pub(super) claims: Map<String, Value>,
}

impl<'a> SubjectToken<'a> {
    /// Reads a token.
    pub(super) fn read(text: &'a str) -> Result<Self, Refusal> {
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed);
        };
        if text.len() > MAX_LEN {
            return Err(Refusal::Malformed);
        }
        let header = object(header).ok_or(Refusal::Malformed)?;
        let claims = object(payload).ok_or(Refusal::Malformed)?;
        // Extensions that must be understood are not (RFC 7515 §4.1.11).
        if header.contains_key("crit") {
            return Err(Refusal::Malformed);
        }
        let kind = header.get("typ").map(|kind| kind.as_str().unwrap_or_default().to_ascii_lowercase());
        if kind.is_some_and(|kind| !TYPES.contains(&kind.as_str())) {
            return Err(Refusal::Type);
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(algorithm).ok_or(Refusal::Algorithm)?;
        let kid = header.get("kid").and_then(Value::as_str).ok_or(Refusal::UnknownKey)?.to_owned();
        Ok(Self { text, algorithm, kid, claims })
    }

    /// A claim that is a text.
    pub(super) fn text_claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    /// Checks the signature.
    pub(super) fn verify(&self, keys: &KeySet) -> Result<(), Refusal> {
        let key = keys.find(&self.kid, self.algorithm).ok_or(Refusal::UnknownKey)?;
        let mut validation = Validation::new(self.algorithm);
        // Everything but the signature is checked against the time that is passed in.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_aud = false;
        let signed = jsonwebtoken::decode::<Map<String, Value>>(self.text, key, &validation);
        match signed {
            Ok(signed) if signed.claims == self.claims => Ok(()),
            _ => Err(Refusal::Signature),
        }
    }
}

/// What a trust says about tokens.
pub(super) struct Terms<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) rules: &'a Rules,
}

impl Terms<'_> {
    /// Whether claims fit, and when they end (unix seconds). No leeway at the end: what is given for a token does not
    /// outlive it, so there would be nothing to give.
    pub(super) fn judge(&self, claims: &Map<String, Value>, now: i64) -> Result<i64, Refusal> {
        if claims.get("iss").and_then(Value::as_str) != Some(self.issuer) {
            return Err(Refusal::Untrusted);
        }
        if !names(claims.get("aud"), self.audience) {
            return Err(Refusal::Audience(self.audience.to_owned()));
        }
        let end = time(claims, "exp")?.ok_or(Refusal::Malformed)?;
        let made = time(claims, "iat")?.ok_or(Refusal::Malformed)?;
        let begins = time(claims, "nbf")?.unwrap_or(made).max(made);
        if end <= now {
            return Err(Refusal::Expired);
        }
        if begins.saturating_sub(LEEWAY) > now {
            return Err(Refusal::NotYet);
        }
        if made.saturating_add(MAX_AGE) < now {
            return Err(Refusal::TooOld);
        }
        match self.rules.first_failed(claims) {
            Some(claim) => Err(Refusal::Rule(claim.to_owned())),
            None => Ok(end),
        }
    }
}

/// Whether `aud` is the audience, or a list that holds it (RFC 7519 §4.1.3).
fn names(aud: Option<&Value>, audience: &str) -> bool {
    match aud {
        Some(Value::String(single)) => single == audience,
        Some(Value::Array(list)) => list.iter().any(|one| one.as_str() == Some(audience)),
        _ => false,
    }
}

/// A time (RFC 7519 §2, "NumericDate"); fractions are cut off.
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<i64>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    #[allow(clippy::cast_possible_truncation)] // A cast from a float saturates.
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|seconds| seconds.floor() as i64));
    seconds.map(Some).ok_or(Refusal::Malformed)
}

fn object(part: &str) -> Option<Map<String, Value>> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

/// The algorithms that count: public keys alone, never `none`, never a shared secret.
fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" => Algorithm::EdDSA,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;

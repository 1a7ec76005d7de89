//! API keys: `ra2.<40 hex key id>.<64 hex secret>`. The id is public; of the secret only a SHA-256 is kept, which is
//! enough because it is 256 random bits that nobody can guess.

use subtle::ConstantTimeEq;

use crate::secret::{Secret, sha256_hex};

const PREFIX: &str = "ra2.";
const ID: usize = 40;
const SECRET: usize = 64;

/// An API key in full. `Debug` shows its public part alone.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiKey {
    id: String,
    secret: Secret,
}

impl ApiKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        Self { id: Secret::random_hex(ID / 2).expose().to_owned(), secret: Secret::random_hex(SECRET / 2) }
    }

    /// Reads a key; `None` for anything that is not exactly of its form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('.')?;
        let hex = |s: &str, len| s.len() == len && s.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        (hex(id, ID) && hex(secret, SECRET)).then(|| Self { id: id.to_owned(), secret: Secret::new(secret) })
    }

    /// The public part.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the row keeps of the secret.
    #[must_use]
    pub fn secret_hash(&self) -> String {
        sha256_hex(self.secret.expose())
    }

    /// Whether the row's hash is that of this secret, in constant time.
    #[must_use]
    pub fn matches(&self, stored_hash: &str) -> bool {
        bool::from(self.secret_hash().as_bytes().ct_eq(stored_hash.as_bytes()))
    }

    /// The whole key, to show to its owner once.
    #[must_use]
    pub fn reveal(&self) -> Secret {
        Secret::new(format!("{PREFIX}{}.{}", self.id, self.secret.expose()))
    }
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({PREFIX}{}.…)", self.id)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_key_round_trips_and_hides_its_secret() {
        let key = ApiKey::generate();
        let text = key.reveal();
        let again = ApiKey::parse(text.expose()).unwrap();
        assert_eq!(again, key);
        assert!(again.matches(&key.secret_hash()));
        assert!(!ApiKey::generate().matches(&key.secret_hash()));
        assert!(!format!("{key:?}").contains(&text.expose()[46..]));
        assert_eq!(text.expose().len(), 4 + 40 + 1 + 64);
    }

    #[test]
    fn anything_else_is_not_a_key() {
        let good = ApiKey::generate().reveal();
        let good = good.expose();
        let upper = good.to_uppercase();
        let long = format!("{good}0");
        for bad in ["", "ra2.", "ra2..", &good[..108], &long, &upper, &good.replacen("ra2", "ra1", 1), &good[1..]] {
            assert!(ApiKey::parse(bad).is_none(), "{bad}");
        }
    }
}

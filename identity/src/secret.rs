//! Text that must not be seen: passwords and tokens in memory.

use std::fmt;

use data_encoding::HEXLOWER;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A secret text. `Debug` hides it, dropping it wipes it, and comparing it takes the same time wherever it differs.
#[derive(Clone)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, to hash, to send to its owner, or to show once.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `bytes` random bytes as lower-case hexadecimal.
    pub(crate) fn random_hex(bytes: usize) -> Self {
        let mut raw = Zeroizing::new(vec![0u8; bytes]);
        fill_random(&mut raw);
        Self::new(hex::encode(raw.as_slice()))
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        bool::from(self.0.as_bytes().ct_eq(other.0.as_bytes()))
    }
}

impl Eq for Secret {}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// Fills a buffer with the system's randomness.
///
/// # Panics
/// Where the operating system has none to give: a guessable secret would be worse than a stop.
#[allow(clippy::expect_used)]
pub(crate) fn fill_random(buffer: &mut [u8]) {
    aws_lc_rs::rand::fill(buffer).expect("the system's random source works");
}

/// SHA-256.
pub(crate) fn sha256(text: &str) -> [u8; 32] {
    let mut out = [0u8; 32];
    out.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref());
    out
}

/// SHA-256 in lower-case hexadecimal: how tokens of 256 random bits are kept.
pub(crate) fn sha256_hex(text: &str) -> String {
    HEXLOWER.encode(&sha256(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed() {
        let secret = Secret::new("hunter2hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(secret == Secret::new("hunter2hunter2") && secret != Secret::new("hunter2"));
        assert_ne!(Secret::random_hex(32), Secret::random_hex(32));
    }
}

//! The master key: 32 bytes in a file that only the server reads. Every other key is derived from it (HKDF-SHA256, RFC
//! 5869), one per purpose, so that what one purpose gives away says nothing about another.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::secret::fill_random;

/// Length of the master key in bytes.
pub const LEN: usize = 32;

/// The master key. Cheap to clone is not a goal: few places hold it.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; LEN]>);

/// Why sealed bytes could not be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed under another master key, or damaged")]
pub struct OpenSealedError;

impl MasterKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        let mut key = Zeroizing::new([0u8; LEN]);
        fill_random(key.as_mut());
        Self(key)
    }

    /// The key in a file's content: 64 hexadecimal characters, white space around them ignored.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut key = Zeroizing::new([0u8; LEN]);
        hex::decode_to_slice(text.trim(), key.as_mut()).ok()?;
        Some(Self(key))
    }

    /// What to write to the file: 64 hexadecimal characters.
    #[must_use]
    pub fn to_hex(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(self.0.as_slice()))
    }

    /// The key of one purpose.
    fn derive(&self, purpose: &str) -> Zeroizing<[u8; LEN]> {
        struct Len;
        impl KeyType for Len {
            fn len(&self) -> usize {
                LEN
            }
        }
        let mut out = Zeroizing::new([0u8; LEN]);
        let prk = Salt::new(HKDF_SHA256, b"wharfinger 1").extract(self.0.as_slice());
        let info = [purpose.as_bytes()];
        // Neither step can fail: 32 bytes are far below HKDF's limit of 255 × 32.
        if prk.expand(&info, Len).and_then(|okm| okm.fill(out.as_mut())).is_err() {
            unreachable!("HKDF expands to 32 bytes");
        }
        out
    }

    /// HMAC-SHA256 of `data` under the key of `purpose`.
    #[must_use]
    pub fn mac(&self, purpose: &str, data: &[u8]) -> [u8; 32] {
        self.mac_key(purpose).mac(data)
    }

    /// The HMAC key of a purpose, to be kept where many codes are made.
    #[must_use]
    pub fn mac_key(&self, purpose: &str) -> MacKey {
        MacKey(hmac::Key::new(hmac::HMAC_SHA256, self.derive(&format!("mac:{purpose}")).as_slice()))
    }

    /// Encrypts and authenticates (AES-256-GCM, random nonce first). `context` must be given again to open.
    #[must_use]
    pub fn seal(&self, purpose: &str, context: &str, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0u8; NONCE_LEN];
        fill_random(&mut nonce);
        let mut sealed = plain.to_vec();
        let aad = Aad::from(context.as_bytes());
        let key = self.aead(purpose);
        if key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed).is_err() {
            unreachable!("AES-GCM seals anything shorter than 64 GiB");
        }
        [nonce.as_slice(), &sealed].concat()
    }

    /// Opens what [`MasterKey::seal`] made.
    ///
    /// # Errors
    /// [`OpenSealedError`] for another key, purpose or context, and for bytes that were changed.
    pub fn open(&self, purpose: &str, context: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, OpenSealedError> {
        let (nonce, body) = sealed.split_at_checked(NONCE_LEN).ok_or(OpenSealedError)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| OpenSealedError)?;
        let mut plain = Zeroizing::new(body.to_vec());
        let len = self
            .aead(purpose)
            .open_in_place(nonce, Aad::from(context.as_bytes()), &mut plain)
            .map_err(|_| OpenSealedError)?
            .len();
        plain.truncate(len);
        Ok(plain)
    }

    fn aead(&self, purpose: &str) -> LessSafeKey {
        match UnboundKey::new(&AES_256_GCM, self.derive(&format!("seal:{purpose}")).as_slice()) {
            Ok(key) => LessSafeKey::new(key),
            Err(_) => unreachable!("AES-256 takes 32 bytes"),
        }
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

/// An HMAC-SHA256 key of one purpose.
#[derive(Clone)]
pub struct MacKey(hmac::Key);

impl MacKey {
    /// A key that lives as long as this process.
    pub(crate) fn ephemeral() -> Self {
        let mut key = Zeroizing::new([0u8; LEN]);
        fill_random(key.as_mut());
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
    }

    /// The code of `data`.
    #[must_use]
    pub fn mac(&self, data: &[u8]) -> [u8; 32] {
        let mut out = [0u8; 32];
        out.copy_from_slice(hmac::sign(&self.0, data).as_ref());
        out
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_sealed_opens_with_the_same_key_purpose_and_context_only() {
        let key = MasterKey::generate();
        let sealed = key.seal("signing", "kid", b"private");
        assert_eq!(key.open("signing", "kid", &sealed).unwrap().as_slice(), b"private");
        assert!(key.open("signing", "kid2", &sealed).is_err());
        assert!(key.open("other", "kid", &sealed).is_err());
        assert!(MasterKey::generate().open("signing", "kid", &sealed).is_err());
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(key.open("signing", "kid", &bad).is_err(), "byte {i}");
        }
        assert!(key.open("signing", "kid", b"short").is_err());
        assert_ne!(sealed, key.seal("signing", "kid", b"private"));
    }

    #[test]
    fn the_key_survives_its_file_and_purposes_differ() {
        let key = MasterKey::generate();
        let again = MasterKey::from_hex(&format!("{}\n", key.to_hex().as_str())).unwrap();
        assert_eq!(key.mac("a", b"x"), again.mac("a", b"x"));
        assert_ne!(key.mac("a", b"x"), key.mac("b", b"x"));
        assert!(MasterKey::from_hex("abc").is_none() && MasterKey::from_hex(&"g".repeat(64)).is_none());
        assert_eq!(format!("{key:?}"), "MasterKey(…)");
    }
}

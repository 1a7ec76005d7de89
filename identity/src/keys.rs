//! The ring of signing keys. A new key is published a minute before it signs, so that whoever reads our key set has it in
//! time; an old one counts until the last token it signed has ended. Every process reads the ring again every few
//! seconds, and at once (at most once a second) when a token names a key that it does not know.

use std::sync::{Arc, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use serde_json::json;
use storage::signing_keys::{self, SigningKey};
use zeroize::Zeroizing;

use crate::core::Identity;
use crate::token::{LEEWAY, Signer, Verifier};

const PURPOSE: &str = "signing key";
/// Seconds between publishing a key and signing with it.
const PUBLISH_AHEAD: i64 = 60;
/// As much for a key that only replaces an old one: registries elsewhere that read our keys once a day have it in time.
const PUBLISH_FAR_AHEAD: i64 = 2 * 86_400;
/// Seconds that an old key counts beyond the life of its last token.
const MARGIN: i64 = 300;
/// Age at which a key is replaced (90 days).
pub const MAX_AGE: i64 = 90 * 86_400;

/// Why the ring could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The rows could not be read or written.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// A key does not open: the master key is another than the one that sealed it.
    #[error("signing key {0} was sealed under another master key: restore that key's file")]
    Sealed(String),
    /// A row holds something that is not a key.
    #[error("signing key {0} is damaged")]
    Damaged(String),
    /// A new key could not be made.
    #[error("cannot make a signing key")]
    Make(#[source] rcgen::Error),
}

/// Why a key is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// There is none.
    First,
    /// Somebody wants a new one, soon.
    Asked,
    /// The youngest has grown old.
    Age,
}

/// A key pair with all that is said about it.
pub struct KeyMaterial {
    /// libtrust's fingerprint of the public key.
    pub kid: String,
    /// The private key, PKCS #8 DER.
    pub pkcs8: Zeroizing<Vec<u8>>,
    /// The public key, `SubjectPublicKeyInfo` DER.
    pub spki: Vec<u8>,
    /// A self-signed certificate, DER.
    pub certificate: Vec<u8>,
}

impl KeyMaterial {
    /// A new P-256 key.
    ///
    /// # Errors
    /// Where the cryptographic library fails.
    pub fn generate() -> Result<Self, rcgen::Error> {
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let spki = pair.subject_public_key_info();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, "Wharfinger token signing");
        // The ring says how long the key counts; the certificate is only its envelope.
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2120, 1, 1);
        let certificate = params.self_signed(&pair)?.der().to_vec();
        Ok(Self { kid: libtrust_kid(&spki), pkcs8: Zeroizing::new(pair.serialize_der()), spki, certificate })
    }

    /// The public key as an uncompressed point.
    #[must_use]
    pub fn point(&self) -> &[u8] {
        point(&self.spki).unwrap_or_default()
    }
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyMaterial({})", self.kid)
    }
}

/// libtrust's fingerprint, by which CNCF Distribution 2.x looks keys up: base32 of the first 240 bits of the SHA-256 of the
/// `SubjectPublicKeyInfo`, in groups of four.
#[must_use]
pub fn libtrust_kid(spki: &[u8]) -> String {
    let text = data_encoding::BASE32.encode(&digest(&SHA256, spki).as_ref()[..30]);
    let groups: Vec<&str> = (0..text.len()).step_by(4).map(|i| &text[i..i + 4]).collect();
    groups.join(":")
}

/// The uncompressed point at the end of a P-256 key's `SubjectPublicKeyInfo` (RFC 5480 §2.2).
fn point(spki: &[u8]) -> Option<&[u8]> {
    let start = spki.len().checked_sub(65)?;
    spki.get(start..).filter(|point| point[0] == 4)
}

/// The keys as they were when last read.
#[derive(Debug)]
pub(crate) struct Ring {
    pub(crate) verifier: Verifier,
    /// From when on each signs; the youngest first.
    signers: Vec<(i64, Arc<Signer>)>,
    /// When the youngest was made.
    youngest: i64,
    jwks: Arc<str>,
    bundle: Arc<str>,
}

impl Ring {
    /// The key that signs at this time.
    pub(crate) fn signer(&self, now: i64) -> Option<Arc<Signer>> {
        let due = self.signers.iter().find(|(from, _)| *from <= now);
        // A clock that went back must not leave the service without a key.
        due.or(self.signers.last()).map(|(_, signer)| Arc::clone(signer))
    }
}

impl Identity {
    /// The public keys as a JSON Web Key Set (RFC 7517).
    #[must_use]
    pub fn jwks(&self) -> Arc<str> {
        Arc::clone(&self.ring().jwks)
    }

    /// A PEM bundle of self-signed certificates of every key: CNCF Distribution's `rootcertbundle`.
    #[must_use]
    pub fn certificate_bundle(&self) -> Arc<str> {
        Arc::clone(&self.ring().bundle)
    }

    /// Makes a new signing key, which signs in a minute (at once if it is the first), and returns its `kid`. The old ones
    /// count until their last tokens have ended.
    ///
    /// # Errors
    /// [`KeysError`].
    pub async fn rotate_keys(&self) -> Result<String, KeysError> {
        let kid = self.make_key(Occasion::Asked).await?;
        self.reload_keys().await?;
        // Asked for, it is made whatever there is.
        Ok(kid.unwrap_or_default())
    }

    /// Reads the ring again, making the first key where there is none.
    ///
    /// # Errors
    /// [`KeysError`]; the ring stays as it was.
    pub async fn reload_keys(&self) -> Result<(), KeysError> {
        let mut rows = signing_keys::list(&mut self.db().read().await?).await?;
        if rows.is_empty() {
            self.make_key(Occasion::First).await?;
            rows = signing_keys::list(&mut self.db().read().await?).await?;
        }
        let ring = self.read_ring(&rows)?;
        *self.0.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(ring);
        Ok(())
    }

    /// Replaces the key if it has grown old.
    pub(crate) async fn rotate_keys_if_due(&self) -> Result<(), KeysError> {
        if self.ring().youngest + MAX_AGE <= self.now() {
            if let Some(kid) = self.make_key(Occasion::Age).await? {
                tracing::info!(key.id = kid, "made a new signing key: the last one has grown old");
            }
            self.reload_keys().await?;
        }
        Ok(())
    }

    pub(crate) fn ring(&self) -> Arc<Ring> {
        Arc::clone(&self.0.ring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// An empty ring, to begin with.
    pub(crate) fn empty_ring(issuer: &str, service: &str) -> Ring {
        Ring {
            verifier: Verifier::new(issuer, service),
            signers: Vec::new(),
            youngest: i64::MAX - MAX_AGE,
            jwks: "{\"keys\":[]}".into(),
            bundle: "".into(),
        }
    }

    /// Makes a key, unless another process was a moment faster.
    async fn make_key(&self, occasion: Occasion) -> Result<Option<String>, KeysError> {
        let key = KeyMaterial::generate().map_err(KeysError::Make)?;
        let now = self.now();
        let mut tx = self.db().begin().await?;
        signing_keys::lock(&mut tx).await?;
        let known = signing_keys::list(&mut tx).await?;
        let sign_from = match (occasion, known.iter().map(|row| row.created_at).max()) {
            (_, None) => now,
            (Occasion::First, Some(_)) => return Ok(None),
            (Occasion::Age, Some(youngest)) if youngest + MAX_AGE > now => return Ok(None),
            (Occasion::Age, Some(_)) => now + PUBLISH_FAR_AHEAD,
            (Occasion::Asked, Some(_)) => now + PUBLISH_AHEAD,
        };
        let row = SigningKey {
            sealed: STANDARD.encode(self.0.master.seal(PURPOSE, &key.kid, &key.pkcs8)),
            public_key: STANDARD.encode(&key.spki),
            certificate: STANDARD.encode(&key.certificate),
            created_at: now,
            sign_from,
            verify_until: None,
            kid: key.kid,
        };
        let others_until = sign_from + self.0.options.token_lifetime + LEEWAY + MARGIN;
        signing_keys::create(&mut tx, &row, others_until).await?;
        tx.commit().await?;
        Ok(Some(row.kid))
    }

    fn read_ring(&self, rows: &[SigningKey]) -> Result<Ring, KeysError> {
        let options = &self.0.options;
        let mut ring = Self::empty_ring(&options.issuer, &options.service);
        let (mut jwks, mut bundle) = (Vec::new(), String::new());
        // A key that was asked for comes before an older one that was to sign later.
        let mut rows: Vec<&SigningKey> = rows.iter().collect();
        rows.sort_by_key(|row| (-row.created_at, -row.sign_from));
        for row in rows.iter().filter(|row| row.verify_until.is_none_or(|until| until > self.now())) {
            let damaged = || KeysError::Damaged(row.kid.clone());
            let decode = |text: &str| STANDARD.decode(text).map_err(|_| damaged());
            let spki = decode(&row.public_key)?;
            let point = point(&spki).ok_or_else(damaged)?;
            let sealed = decode(&row.sealed)?;
            let private =
                self.0.master.open(PURPOSE, &row.kid, &sealed).map_err(|_| KeysError::Sealed(row.kid.clone()))?;
            ring.verifier.add_es256(&row.kid, point);
            let signer = Signer::es256(&row.kid, &private).ok_or_else(damaged)?;
            ring.signers.push((row.sign_from, Arc::new(signer)));
            jwks.push(json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": row.kid,
                "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
            }));
            bundle.push_str(&pem(&decode(&row.certificate)?));
        }
        ring.youngest = rows.iter().map(|row| row.created_at).max().unwrap_or_default();
        ring.jwks = json!({ "keys": jwks }).to_string().into();
        ring.bundle = bundle.into();
        Ok(ring)
    }
}

/// A certificate in PEM (RFC 7468).
fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::core::testing;

    #[test]
    fn a_kid_is_twelve_groups_of_four() {
        let key = KeyMaterial::generate().unwrap();
        let groups: Vec<&str> = key.kid.split(':').collect();
        assert_eq!(groups.len(), 12);
        assert!(groups.iter().all(|g| g.len() == 4 && g.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit())));
        assert_eq!(key.point().len(), 65);
    }

    #[tokio::test]
    async fn a_new_key_is_published_before_it_signs_and_the_old_one_counts_on() {
        let t = testing::identity().await;
        let first = t.identity.ring().signer(t.now()).unwrap().kid().to_owned();
        let old = t.anonymous_token().await;
        let second = t.identity.rotate_keys().await.unwrap();
        assert_ne!(first, second);
        let jwks: serde_json::Value = serde_json::from_str(&t.identity.jwks()).unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 2);
        assert_eq!(t.identity.certificate_bundle().matches("BEGIN CERTIFICATE").count(), 2);
        assert_eq!(t.identity.ring().signer(t.now()).unwrap().kid(), first);
        t.advance(PUBLISH_AHEAD);
        assert_eq!(t.identity.ring().signer(t.now()).unwrap().kid(), second);
        assert!(t.identity.verify_bearer(&old).await.is_ok());
        t.advance(300 + LEEWAY + MARGIN);
        t.identity.tick().await.unwrap();
        let jwks: serde_json::Value = serde_json::from_str(&t.identity.jwks()).unwrap();
        assert_eq!(jwks["keys"].as_array().unwrap().len(), 1);
        t.advance(MAX_AGE);
        t.identity.tick().await.unwrap();
        assert_ne!(t.identity.ring().signers[0].1.kid(), second);
    }

    #[tokio::test]
    async fn another_process_learns_of_a_key_from_the_first_token_that_names_it() {
        let t = testing::identity().await;
        let other = t.another_process().await;
        other.rotate_keys().await.unwrap();
        t.advance(PUBLISH_AHEAD);
        let token = other.issue(None, &[]).await.unwrap().token;
        assert!(t.identity.verify_bearer(&token).await.is_ok());
    }

    #[tokio::test]
    async fn another_master_key_is_named_as_the_cause() {
        let t = testing::identity().await;
        let opened = Identity::open(t.db.clone(), crate::MasterKey::generate(), t.options.clone()).await.unwrap_err();
        assert!(opened.to_string().contains("master key"), "{opened}");
    }

    #[tokio::test]
    async fn an_old_key_is_replaced_once_and_long_before_the_new_one_signs() {
        let t = testing::identity().await;
        let (old, other) = (t.identity.ring().signer(t.now()).unwrap(), t.another_process().await);
        t.advance(MAX_AGE);
        // Neither has seen the other's.
        let (one, two) = tokio::join!(t.identity.rotate_keys_if_due(), other.rotate_keys_if_due());
        one.and(two).unwrap();
        t.identity.reload_keys().await.unwrap();
        assert_eq!(t.identity.ring().signers.len(), 2);
        t.advance(86_400);
        assert_eq!(t.identity.ring().signer(t.now()).unwrap().kid(), old.kid());
        // One that is asked for meanwhile goes first, and stays.
        let asked = t.identity.rotate_keys().await.unwrap();
        t.advance(PUBLISH_AHEAD);
        assert_eq!(t.identity.ring().signer(t.now()).unwrap().kid(), asked);
        t.advance(PUBLISH_FAR_AHEAD - 86_400);
        assert_eq!(t.identity.ring().signer(t.now()).unwrap().kid(), asked);
        assert_ne!(t.identity.ring().signer(t.now()).unwrap().kid(), old.kid());
        assert!(t.identity.verify_bearer(&t.anonymous_token().await).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_many_first_starts_at_once_one_makes_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let db = storage::db::testing::fresh(dir.path()).await;
        let options = || {
            let mut options = crate::Options::new("https://auth.test", "wharfinger");
            options.cost = crate::password::Cost { memory: 64, passes: 1 };
            options
        };
        // Each by a master key of its own: a second key would keep everybody out for good.
        let masters: Vec<_> = (0..6).map(|_| crate::MasterKey::generate()).collect();
        let opening = masters.iter().map(|master| tokio::spawn(Identity::open(db.clone(), master.clone(), options())));
        let mut opened = 0;
        for result in opening.collect::<Vec<_>>() {
            opened += usize::from(result.await.unwrap().is_ok());
        }
        assert_eq!(opened, 1);
        assert_eq!(signing_keys::list(&mut db.read().await.unwrap()).await.unwrap().len(), 1);
    }
}

//! TLS 1.2 and 1.3 for the three services, with a certificate that is reloaded when its files change.
//!
//! The server chooses the cipher and puts AES-128-GCM first: it costs least where AES is in hardware, which is where
//! blobs are served. The registry offers HTTP/1.1 alone, since HTTP/2 costs a third more for large bodies; the others
//! offer both.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{CipherSuite, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;

use crate::config::MAX_PEM;
use crate::files::read_bounded;

/// How often the files are looked at. Reading two small files costs less than being clever about symbolic links,
/// renames and file systems without change notices.
const POLL: Duration = Duration::from_secs(3);

/// Which protocols a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocols {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 and HTTP/1.1.
    Http2,
}

/// Reads a certificate chain and its key.
///
/// # Errors
/// Where a file cannot be read, holds no such thing, or the key is not the certificate's.
pub(crate) fn load(cert: &Path, key: &Path) -> Result<CertifiedKey> {
    Material::read(cert, key)?.certified(cert, key)
}

/// What the two files hold.
#[derive(PartialEq, Eq)]
struct Material {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Material {
    fn read(cert: &Path, key: &Path) -> Result<Self> {
        Ok(Self { cert: read_bounded(cert, MAX_PEM)?, key: read_bounded(key, MAX_PEM)? })
    }

    fn certified(&self, cert: &Path, key: &Path) -> Result<CertifiedKey> {
        let chain = CertificateDer::pem_slice_iter(&self.cert)
            .collect::<Result<Vec<_>, _>>()
            .with_context(|| format!("{} is not a PEM file", cert.display()))?;
        ensure!(!chain.is_empty(), "{} holds no certificate", cert.display());
        let private = PrivateKeyDer::from_pem_slice(&self.key)
            .with_context(|| format!("{} holds no private key that can be used", key.display()))?;
        CertifiedKey::from_der(chain, private, &provider())
            .with_context(|| format!("{} is not the key of {}", key.display(), cert.display()))
    }
}

/// The certificate that is served now; replaced when its files change.
#[derive(Debug)]
pub(crate) struct Certificate {
    cert: PathBuf,
    key: PathBuf,
    current: ArcSwap<CertifiedKey>,
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current.load_full())
    }
}

impl Certificate {
    /// Loads the files for the first time.
    ///
    /// # Errors
    /// As [`load`].
    pub(crate) fn open(cert: PathBuf, key: PathBuf) -> Result<Arc<Self>> {
        let current = ArcSwap::from_pointee(load(&cert, &key)?);
        Ok(Arc::new(Self { cert, key, current }))
    }

    /// What the certificate that is served says of itself.
    pub(crate) fn facts(&self) -> Option<storage::processes::Certificate> {
        let current = self.current.load();
        crate::pki::facts(current.cert.first()?)
    }

    /// Looks at the files every few seconds until `stop`. Files that do not fit together are reported once and change
    /// nothing: a renewal is seldom caught between its two writes, and then seen whole at the next look.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        let mut seen = Material::read(&self.cert, &self.key).ok();
        while stop.run_until_cancelled(tokio::time::sleep(POLL)).await.is_some() {
            let this = Arc::clone(&self);
            seen = tokio::task::spawn_blocking(move || this.look(seen)).await.unwrap_or_default();
        }
    }

    /// Takes what the files hold now, if that differs from `seen`. Returns what was seen.
    fn look(&self, seen: Option<Material>) -> Option<Material> {
        let now = match Material::read(&self.cert, &self.key) {
            Ok(now) => now,
            Err(error) => {
                if seen.is_some() {
                    tracing::error!(
                        error = format!("{error:#}"),
                        "the TLS certificate cannot be read; the old one stays"
                    );
                }
                return None;
            }
        };
        if seen.as_ref() == Some(&now) {
            return seen;
        }
        match now.certified(&self.cert, &self.key) {
            Ok(certified) => {
                self.current.store(Arc::new(certified));
                tracing::info!(tls.certificate = %self.cert.display(), "took a new TLS certificate");
            }
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "the new TLS certificate is no good; the old one stays");
            }
        }
        Some(now)
    }
}

fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|suite| match suite.suite() {
        CipherSuite::TLS13_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => 0,
        _ => 1,
    });
    provider
}

/// What a listener needs to speak TLS.
///
/// # Errors
/// Where the crypto library refuses to work.
pub(crate) fn server_config(certificate: Arc<Certificate>, protocols: Protocols) -> Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .context("setting up TLS")?
        .with_no_client_auth()
        .with_cert_resolver(certificate);
    config.ignore_client_order = true;
    config.ticketer = aws_lc_rs::Ticketer::new().context("setting up TLS session tickets")?;
    config.alpn_protocols = match protocols {
        Protocols::Http1 => vec![b"http/1.1".to_vec()],
        Protocols::Http2 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
    };
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::pki::Pki;

    fn pair(dir: &Path, name: &str) -> Pki {
        let pki = Pki::in_dir(&dir.join(name));
        pki.ensure(&["localhost".to_owned()], 1_790_000_000).unwrap();
        pki
    }

    fn leaf(certificate: &Certificate) -> Vec<u8> {
        certificate.current.load().cert[0].to_vec()
    }

    fn der(pki: &Pki) -> Vec<u8> {
        CertificateDer::from_pem_slice(&fs::read(&pki.server_cert).unwrap()).unwrap().to_vec()
    }

    #[test]
    fn a_key_of_another_certificate_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (pair(dir.path(), "one"), pair(dir.path(), "two"));
        assert!(load(&one.server_cert, &one.server_key).is_ok());
        let error = format!("{:#}", load(&one.server_cert, &two.server_key).unwrap_err());
        assert!(error.contains("is not the key of"), "{error}");
        assert!(load(&one.server_key, &one.server_key).is_err());
    }

    #[test]
    fn a_swapped_link_is_taken_and_a_bad_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (pair(dir.path(), "one"), pair(dir.path(), "two"));
        let live = dir.path().join("live");
        symlink(dir.path().join("one"), &live).unwrap();
        let certificate = Certificate::open(live.join("server.crt"), live.join("server.key")).unwrap();
        let mut seen = certificate.look(None);
        assert_eq!(leaf(&certificate), der(&one));
        fs::remove_file(&live).unwrap();
        seen = certificate.look(seen);
        assert!(seen.is_none());
        assert_eq!(leaf(&certificate), der(&one));
        symlink(dir.path().join("two"), &live).unwrap();
        seen = certificate.look(seen);
        assert_eq!(leaf(&certificate), der(&two));
        fs::write(&two.server_key, "rubbish").unwrap();
        let served = leaf(&certificate);
        certificate.look(seen);
        assert_eq!(leaf(&certificate), served);
    }

    #[test]
    fn the_registry_offers_http1_alone_and_aes_128_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let pki = pair(dir.path(), "one");
        let certificate = Certificate::open(pki.server_cert, pki.server_key).unwrap();
        let config = server_config(certificate, Protocols::Http1).unwrap();
        assert_eq!(config.alpn_protocols, [b"http/1.1".to_vec()]);
        assert!(config.ignore_client_order);
        assert_eq!(config.crypto_provider().cipher_suites[0].suite(), CipherSuite::TLS13_AES_128_GCM_SHA256);
    }
}

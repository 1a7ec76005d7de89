//! The private certificate authority for those who bring no certificate of their own.
//!
//! ```text
//! DATA/pki/ca.crt, ca.key            root, P-256, ten years, made once: what clients are told to trust
//! DATA/pki/server.crt, server.key    P-256, 397 days, for every name of this machine; renewed when either changes
//! ```

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType, date_time_ymd,
};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::config::MAX_PEM;
use crate::files::{private_dir, read_bounded, write_atomically};

const DAY: i64 = 86_400;
const ROOT_DAYS: i64 = 3652;
/// The longest that clients accept from any authority (CA/Browser Forum, baseline requirements 6.3.2).
const SERVER_DAYS: i64 = 397;
/// A server certificate with less left than this is renewed.
const RENEW_DAYS: i64 = 30;
/// Clocks of clients may be behind by so much.
const BACKDATED: i64 = 3600;

/// The files of the private CA.
#[derive(Debug, Clone)]
pub(crate) struct Pki {
    /// The root's certificate.
    pub(crate) ca_cert: PathBuf,
    ca_key: PathBuf,
    /// The server's certificate.
    pub(crate) server_cert: PathBuf,
    /// The server's key.
    pub(crate) server_key: PathBuf,
}

impl Pki {
    /// The files in a folder, whether they are there or not.
    pub(crate) fn in_dir(dir: &Path) -> Self {
        Self {
            ca_cert: dir.join("ca.crt"),
            ca_key: dir.join("ca.key"),
            server_cert: dir.join("server.crt"),
            server_key: dir.join("server.key"),
        }
    }

    /// Makes the root if there is none, and a server certificate for `names` if there is none, if it is for other names,
    /// of another root, or runs out within a month. Returns whether the server certificate is a new one.
    ///
    /// # Errors
    /// What the file system said, or that a file is not what it should be. A root that is there is never replaced.
    pub(crate) fn ensure(&self, names: &[String], now: i64) -> Result<bool> {
        if let Some(dir) = self.ca_cert.parent() {
            private_dir(dir)?;
        }
        if !self.ca_cert.exists() {
            self.make_root(now)?;
        }
        if self.server_certificate_holds(names, now).unwrap_or(false) {
            return Ok(false);
        }
        self.make_server_certificate(names, now)?;
        Ok(true)
    }

    fn make_root(&self, now: i64) -> Result<()> {
        // A root's certificate is written last: it says that the root is complete.
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the root's key")?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::OrganizationName, "Wharfinger");
        params.distinguished_name.push(DnType::CommonName, format!("Wharfinger root {}", storage::names::new_id()));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        valid(&mut params, now - BACKDATED, now - BACKDATED + ROOT_DAYS * DAY);
        let cert = params.self_signed(&key).context("signing the root")?;
        write_atomically(&self.ca_key, key.serialize_pem().as_bytes(), 0o600)?;
        write_atomically(&self.ca_cert, cert.pem().as_bytes(), 0o644)
    }

    fn make_server_certificate(&self, names: &[String], now: i64) -> Result<()> {
        let root_key = text(&self.ca_key)?;
        let root_key = KeyPair::from_pem(&root_key).with_context(|| format!("reading {}", self.ca_key.display()))?;
        let issuer = Issuer::from_ca_cert_pem(&text(&self.ca_cert)?, root_key)
            .with_context(|| format!("reading {}", self.ca_cert.display()))?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).context("making the server's key")?;
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.iter().map(|name| alt_name(name)).collect::<Result<_>>()?;
        params.distinguished_name.push(DnType::OrganizationName, "Wharfinger");
        // RFC 5280 appendix A: a common name has 64 characters at most.
        if let Some(name) = names.iter().find(|name| name.len() <= 64) {
            params.distinguished_name.push(DnType::CommonName, name.as_str());
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, now - BACKDATED, now - BACKDATED + SERVER_DAYS * DAY);
        let cert = params.signed_by(&key, &issuer).context("signing the server's certificate")?;
        write_atomically(&self.server_key, key.serialize_pem().as_bytes(), 0o600)?;
        write_atomically(&self.server_cert, cert.pem().as_bytes(), 0o644)
    }

    fn server_certificate_holds(&self, names: &[String], now: i64) -> Result<bool> {
        let (root, server) = (pem(&self.ca_cert)?, pem(&self.server_cert)?);
        let (root, server) = (root.parse_x509()?, server.parse_x509()?);
        let mut wanted = names.to_vec();
        let mut present = alt_names(&server);
        wanted.sort_unstable();
        present.sort_unstable();
        let key_matches = crate::tls::load(&self.server_cert, &self.server_key).is_ok();
        Ok(wanted == present
            && server.validity().not_after.timestamp() - now > RENEW_DAYS * DAY
            && server.validity().not_before.timestamp() <= now
            && server.issuer() == root.subject()
            && key_matches)
    }
}

/// Sets from when until when a certificate holds (unix seconds).
fn valid(params: &mut CertificateParams, from: i64, until: i64) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from.max(0).unsigned_abs());
    params.not_after = epoch + Duration::from_secs(until.max(0).unsigned_abs());
}

fn text(path: &Path) -> Result<String> {
    String::from_utf8(read_bounded(path, MAX_PEM)?).map_err(|_| anyhow::anyhow!("{} is not text", path.display()))
}

fn pem(path: &Path) -> Result<x509_parser::pem::Pem> {
    let bytes = read_bounded(path, MAX_PEM)?;
    Ok(parse_x509_pem(&bytes).with_context(|| format!("reading {}", path.display()))?.1)
}

fn alt_name(name: &str) -> Result<SanType> {
    Ok(match name.parse::<IpAddr>() {
        Ok(address) => SanType::IpAddress(address),
        Err(_) => SanType::DnsName(name.try_into().with_context(|| format!("the host name {name:?}"))?),
    })
}

fn alt_names(cert: &X509Certificate<'_>) -> Vec<String> {
    let names = cert.extensions().iter().find_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| IpAddr::from(b).to_string()),
        },
        _ => None,
    };
    names.into_iter().flatten().filter_map(text).collect()
}

/// What a certificate (DER) says of itself.
pub(crate) fn facts(der: &[u8]) -> Option<storage::processes::Certificate> {
    let (_, cert) = X509Certificate::from_der(der).ok()?;
    let issuer = cert.issuer().iter_common_name().next().and_then(|name| name.as_str().ok());
    Some(storage::processes::Certificate {
        names: alt_names(&cert),
        issuer: issuer.map_or_else(|| cert.issuer().to_string(), str::to_owned),
        not_after: cert.validity().not_after.timestamp(),
    })
}

/// Every name that clients may know this machine by: the configured one first, then the machine's own, then the loopback
/// ones. No name twice.
pub(crate) fn names(hostname: &str) -> Vec<String> {
    let machine = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let usable =
        |name: &String| name.parse::<IpAddr>().is_ok() || rcgen::string::Ia5String::try_from(name.as_str()).is_ok();
    let mut names: Vec<String> = Vec::new();
    for name in [hostname, machine.as_str(), "localhost", "127.0.0.1", "::1"].map(str::to_owned) {
        if !name.is_empty() && usable(&name) && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    const NOW: i64 = 1_790_000_000;

    fn fresh() -> (tempfile::TempDir, Pki, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::in_dir(&dir.path().join("pki"));
        let names = vec!["registry.example".to_owned(), "localhost".to_owned(), "::1".to_owned()];
        assert!(pki.ensure(&names, NOW).unwrap());
        (dir, pki, names)
    }

    #[test]
    fn keys_are_private_and_nothing_is_made_twice() {
        let (_dir, pki, names) = fresh();
        for key in [&pki.ca_key, &pki.server_key] {
            assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
        }
        let before = [fs::read(&pki.ca_cert).unwrap(), fs::read(&pki.server_cert).unwrap()];
        assert!(!pki.ensure(&names, NOW + DAY).unwrap());
        assert_eq!(before, [fs::read(&pki.ca_cert).unwrap(), fs::read(&pki.server_cert).unwrap()]);
    }

    #[test]
    fn the_certificates_say_what_they_are_for() {
        let (_dir, pki, names) = fresh();
        let (root, server) = (pem(&pki.ca_cert).unwrap(), pem(&pki.server_cert).unwrap());
        let (root, server) = (root.parse_x509().unwrap(), server.parse_x509().unwrap());
        assert!(root.is_ca() && !server.is_ca());
        assert_eq!(server.issuer(), root.subject());
        assert_eq!(alt_names(&server).len(), names.len());
        let days = |cert: &X509Certificate<'_>| {
            (cert.validity().not_after.timestamp() - cert.validity().not_before.timestamp()) / DAY
        };
        assert_eq!((days(&root), days(&server)), (ROOT_DAYS, SERVER_DAYS));
        let said = facts(&pem(&pki.server_cert).unwrap().contents).unwrap();
        assert_eq!(said.names, names);
        assert!(said.issuer.starts_with("Wharfinger root "), "{said:?}");
        assert_eq!(said.not_after, NOW - BACKDATED + SERVER_DAYS * DAY);
    }

    #[test]
    fn the_server_certificate_is_renewed_for_new_names_near_its_end_and_when_its_key_is_another() {
        let (_dir, pki, mut names) = fresh();
        let root = fs::read(&pki.ca_cert).unwrap();
        names.push("other.example".to_owned());
        assert!(pki.ensure(&names, NOW).unwrap());
        assert!(!pki.ensure(&names, NOW).unwrap());
        assert!(pki.ensure(&names, NOW + (SERVER_DAYS - RENEW_DAYS) * DAY).unwrap());
        let now = NOW + (SERVER_DAYS - RENEW_DAYS) * DAY;
        let other = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        write_atomically(&pki.server_key, other.serialize_pem().as_bytes(), 0o600).unwrap();
        assert!(pki.ensure(&names, now).unwrap());
        assert_eq!(root, fs::read(&pki.ca_cert).unwrap());
    }

    #[test]
    fn a_root_that_cannot_be_read_is_not_replaced() {
        let (_dir, pki, names) = fresh();
        fs::write(&pki.ca_cert, "rubbish").unwrap();
        assert!(pki.ensure(&names, NOW).is_err());
        assert_eq!(fs::read(&pki.ca_cert).unwrap(), b"rubbish");
    }

    #[test]
    fn the_configured_name_comes_first_and_no_name_twice() {
        let names = names("localhost");
        assert_eq!(names[0], "localhost");
        assert_eq!(names.iter().filter(|n| *n == "localhost").count(), 1);
        assert!(names.contains(&"127.0.0.1".to_owned()) && names.contains(&"::1".to_owned()));
    }
}

//! The trust directory: where container tools look for the certificate of one registry's private CA
//! (<https://docs.docker.com/engine/security/certificates/>, containers-certs.d(5)).

use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::commands::Yes;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::note;

/// Largest file of certificates.
const MAX: u64 = 1 << 20;

/// Have docker and podman trust a private CA.
#[derive(Debug, Args)]
#[command(
    after_help = "The certificate goes to /etc/docker/certs.d/HOST:PORT/ca.crt, which docker and podman read; where that may\n\
    not be written, to ~/.config/containers/certs.d/HOST:PORT/ca.crt, which podman reads. Compare the fingerprint with the\n\
    one that the server's administrator gives you.\n\n\
    Examples:\n  rctl registry trust --ca-file ca.crt\n  sudo rctl registry trust registry.example.com:6000 --ca-file ca.crt --yes"
)]
pub(crate) struct Trust {
    /// The registry; the profile's where this is not given
    #[arg(value_name = "HOST:PORT")]
    registry: Option<String>,
    /// The directory, in place of those two
    #[arg(long, value_name = "DIR")]
    certs_dir: Option<PathBuf>,
    #[command(flatten)]
    yes: Yes,
}

impl Trust {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::Declined`].
    pub(crate) fn run(&self, context: &Context) -> Result<()> {
        let registry = self.registry.clone().map_or_else(|| context.settings.registry(), Ok)?;
        let Some(ca) = &context.settings.ca_file else {
            return Err(Error::Usage(
                "which certificate? --ca-file FILE (the server keeps it as DATA/pki/ca.crt)".into(),
            ));
        };
        let done = install(context, &registry, Path::new(ca), self.certs_dir.as_deref(), self.yes.yes)?;
        context
            .out
            .say(&done.map_or_else(|| "It is trusted already.".into(), |path| format!("Wrote {}.", path.display())))
    }
}

/// Puts the certificate where container tools look for it, after asking. Nothing where it is there already.
///
/// # Errors
/// [`Error::File`], [`Error::Declined`].
pub(crate) fn install(
    context: &Context,
    registry: &str,
    ca: &Path,
    dir: Option<&Path>,
    yes: bool,
) -> Result<Option<PathBuf>> {
    check_name(registry)?;
    let pem = read(ca).map_err(Error::file(ca))?;
    let places = match dir {
        Some(dir) => vec![dir.to_owned()],
        None => vec![PathBuf::from("/etc/docker/certs.d"), crate::config::home()?.join(".config/containers/certs.d")],
    };
    let places: Vec<PathBuf> = places.into_iter().map(|place| place.join(registry).join("ca.crt")).collect();
    if places.iter().any(|place| read(place).is_ok_and(|there| there == pem)) {
        return Ok(None);
    }
    let fingerprints = fingerprints(&pem).map_err(|what| Error::file(ca)(std::io::Error::other(what)))?;
    for fingerprint in &fingerprints {
        note(&format!("SHA-256 of the certificate: {fingerprint}"));
    }
    context.confirm(&format!("Have container tools trust it for {registry}?"), yes)?;
    let mut refused = None;
    for place in places {
        match write(&place, &pem) {
            Ok(()) => return Ok(Some(place)),
            Err(error) => refused = Some(Error::file(place)(error)),
        }
    }
    Err(refused.unwrap_or_else(|| Error::Other("nowhere to write".into())))
}

/// A registry's name becomes a directory's.
fn check_name(registry: &str) -> Result<()> {
    let good = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if registry.is_empty() || registry.starts_with('.') || !registry.chars().all(good) {
        return Err(Error::Usage(format!("{registry:?} is no registry: use HOST:PORT")));
    }
    Ok(())
}

fn fingerprints(pem: &[u8]) -> std::result::Result<Vec<String>, &'static str> {
    let all: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|_| "not PEM")?;
    if all.is_empty() {
        return Err("holds no certificate in PEM");
    }
    Ok(all.iter().map(|der| hex::encode(digest(&SHA256, der).as_ref())).collect())
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn write(path: &Path, pem: &[u8]) -> std::io::Result<()> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::write(path, pem)
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn a_registry_cannot_name_another_place() {
        assert!(check_name("reg.example:6000").is_ok() && check_name("[::1]:6000").is_ok());
        for bad in ["", "..", "../x", "a/b", ".hidden", "a\0b"] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}

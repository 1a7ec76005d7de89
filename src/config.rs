//! The configuration: one precedence (flag, environment, file, default), and everything checked before anything starts.
//!
//! [`settings`] lists every setting once. [`Loaded`] is what the sources said, [`Config`] is what holds.

mod check;
mod file;
mod mail;
mod settings;
mod units;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};
use clap::{CommandFactory, FromArgMatches};
use url::Url;

pub(crate) use check::{report, unknown_variables};
pub(crate) use mail::{Mailer, Security, Smtp};
use settings::TlsMode;
pub(crate) use settings::{AuditPulls, LogFormat, Secret, Settings, Source};
pub(crate) use units::{Size, Span};

use crate::cli::{Cli, Command, Service};
use crate::proxies::Proxies;

/// What the command line, the environment and the file said.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// The command.
    pub(crate) command: Command,
    /// The configuration that holds.
    pub(crate) config: Config,
    /// Where each setting comes from.
    pub(crate) sources: BTreeMap<&'static str, Source>,
}

/// The configuration that holds.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// The TOML file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// Folder of what the server keeps.
    pub(crate) data_dir: PathBuf,
    /// Name that clients know the server by.
    pub(crate) hostname: String,
    /// Where the registry listens.
    pub(crate) registry_listen: SocketAddr,
    /// Where the token service listens.
    pub(crate) auth_listen: SocketAddr,
    /// Where the controller listens.
    pub(crate) controller_listen: SocketAddr,
    /// Where metrics and health are served.
    pub(crate) admin_listen: SocketAddr,
    /// The database; a password may be in it.
    pub(crate) database_url: Secret,
    /// The byte store.
    pub(crate) blob_url: String,
    /// TLS, and with which certificate.
    pub(crate) tls: Tls,
    /// What clients reach the registry at, where that was said.
    pub(crate) registry_external_url: Option<Url>,
    /// What clients reach the token service at, where that was said.
    pub(crate) auth_external_url: Option<Url>,
    /// What clients reach the controller at, where that was said.
    pub(crate) controller_external_url: Option<Url>,
    /// Proxies that are believed about whom they ask for.
    pub(crate) trusted_proxies: Proxies,
    /// Whether trusted issuers may be in the server's own networks.
    pub(crate) federation_allow_private: bool,
    /// How logs are written.
    pub(crate) log_format: LogFormat,
    /// What is logged.
    pub(crate) log_level: String,
    /// File of the master key.
    pub(crate) master_key_file: PathBuf,
    /// Largest manifest.
    pub(crate) max_manifest_size: Size,
    /// Largest blob.
    pub(crate) max_blob_size: Size,
    /// How the audit log tells of pulls.
    pub(crate) audit_pulls: AuditPulls,
    /// Memory for manifests and small blobs.
    pub(crate) cache_size: Size,
    /// Connections of each service.
    pub(crate) max_connections: u32,
    /// Patience with clients that send nothing in the middle of an upload.
    pub(crate) body_timeout: Span,
    /// Patience with requests in flight at the end.
    pub(crate) drain_timeout: Span,
    /// How long unreferenced blobs are kept.
    pub(crate) gc_grace: Span,
    /// How often garbage is collected; zero is never.
    pub(crate) gc_interval: Span,
    /// How long uploads without progress are kept.
    pub(crate) upload_timeout: Span,
    /// How mails go out.
    pub(crate) mail: Mailer,
    /// The first accounts.
    pub(crate) first: First,
}

/// TLS of the three services.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Tls {
    /// None: a proxy does it.
    Off,
    /// With a certificate of the private CA in the data folder.
    Private,
    /// With these files.
    Files {
        /// Certificate chain.
        cert: PathBuf,
        /// Its key.
        key: PathBuf,
    },
}

/// Who is made at the first start.
#[derive(Debug, Clone)]
pub(crate) struct First {
    /// Slug of the organization.
    pub(crate) org: String,
    /// E-mail of its admin.
    pub(crate) admin_email: String,
    /// The admin's password; generated where none is given.
    pub(crate) admin_password: Password,
    /// E-mail of the platform operator.
    pub(crate) operator_email: String,
    /// The operator's password; generated where none is given.
    pub(crate) operator_password: Password,
}

/// Where a first password comes from.
#[derive(Debug, Clone)]
pub(crate) enum Password {
    /// It is made up and shown once.
    Generated,
    /// It was given.
    Given(Secret),
    /// It is the first line of this file.
    File(PathBuf),
}

impl Password {
    fn of(given: Option<Secret>, file: Option<PathBuf>, name: &str) -> Result<Self> {
        match (given, file) {
            (Some(_), Some(_)) => bail!("{name} and {name}_file are both set: keep one"),
            (Some(secret), None) => Ok(Self::Given(secret)),
            (None, Some(path)) => Ok(Self::File(path)),
            (None, None) => Ok(Self::Generated),
        }
    }

    /// The password, read from its file where it is in one; `None` where it shall be made up.
    ///
    /// # Errors
    /// Where the file cannot be read or is empty.
    pub(crate) fn read(&self) -> Result<Option<Secret>> {
        match self {
            Self::Generated => Ok(None),
            Self::Given(secret) => Ok(Some(secret.clone())),
            Self::File(path) => {
                let text = String::from_utf8(crate::files::read_bounded(path, 4096)?)
                    .map_err(|_| anyhow::anyhow!("{} is not text", path.display()))?;
                let line = text.lines().next().unwrap_or_default();
                ensure!(!line.is_empty(), "{} is empty", path.display());
                Ok(Some(Secret::new(line)))
            }
        }
    }
}

impl Loaded {
    /// Reads the process's own command line and environment, and the file that they name. Ends the process where clap
    /// does: for `--help` and for a command line that makes no sense.
    ///
    /// # Errors
    /// Says which setting is wrong, and where it was said.
    pub(crate) fn from_process() -> Result<Self> {
        let matches = Cli::command().get_matches();
        Self::from_matches(&matches, &|name| std::env::var(name).ok())
    }

    fn from_matches(matches: &clap::ArgMatches, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let Cli { config: path, settings: mut said, command } = Cli::from_arg_matches(matches)?;
        said.read_secrets(env);
        let file = path.as_deref().map(file::read).transpose()?.unwrap_or_default();
        let sources = said.sources(&file, matches);
        let command = command.unwrap_or(Command::Serve { services: Vec::new() });
        Ok(Self { command, config: Config::new(path, said.or(file))?, sources })
    }
}

impl Config {
    fn new(file: Option<PathBuf>, said: Settings) -> Result<Self> {
        let data_dir = said.data_dir.unwrap_or_else(|| "./data".into());
        let under = |name: &str| data_dir.join(name);
        let any = |port| SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let hostname = hostname(said.hostname.as_deref().unwrap_or("localhost"))?;
        let mail = Mailer {
            smtp: said.smtp_url.as_ref().map(|url| Smtp::parse(url, said.smtp_ca_file.clone())).transpose()?,
            from: mail::sender(said.mail_from.as_deref(), &hostname)?,
            dir: said.mail_dir.unwrap_or_else(|| under("mail")),
        };
        Ok(Self {
            file,
            hostname,
            mail,
            registry_listen: said.registry_listen.unwrap_or(any(6000)),
            auth_listen: said.auth_listen.unwrap_or(any(5001)),
            controller_listen: said.controller_listen.unwrap_or(any(443)),
            admin_listen: said.admin_listen.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 6001))),
            database_url: Secret::new(
                said.database_url.unwrap_or_else(|| format!("sqlite://{}", under("wharfinger.db").display())),
            ),
            blob_url: said.blob_url.unwrap_or_else(|| format!("file://{}", under("blobs").display())),
            tls: tls(said.tls, said.tls_cert, said.tls_key)?,
            registry_external_url: external(said.registry_external_url, "registry_external_url")?,
            auth_external_url: external(said.auth_external_url, "auth_external_url")?,
            controller_external_url: external(said.controller_external_url, "controller_external_url")?,
            trusted_proxies: said.trusted_proxies.unwrap_or_default(),
            federation_allow_private: said.federation_allow_private.unwrap_or(false),
            log_format: said.log_format.unwrap_or(LogFormat::Auto),
            log_level: said.log_level.unwrap_or_else(|| "info".into()),
            master_key_file: said.master_key_file.unwrap_or_else(|| under("master.key")),
            max_manifest_size: said.max_manifest_size.unwrap_or(Size(8 << 20)),
            max_blob_size: said.max_blob_size.unwrap_or(Size(1 << 40)),
            audit_pulls: said.audit_pulls.unwrap_or(AuditPulls::Each),
            cache_size: said.cache_size.unwrap_or(Size(64 << 20)),
            max_connections: said.max_connections.unwrap_or(8192).max(1),
            body_timeout: said.body_timeout.unwrap_or(Span(60)),
            drain_timeout: said.drain_timeout.unwrap_or(Span(30)),
            gc_grace: said.gc_grace.unwrap_or(Span(24 * 3600)),
            gc_interval: said.gc_interval.unwrap_or(Span(60)),
            upload_timeout: said.upload_timeout.unwrap_or(Span(86_400)),
            first: First {
                org: said.org.unwrap_or_else(|| "main".into()),
                admin_email: said.admin_email.unwrap_or_else(|| "admin@localhost".into()),
                admin_password: Password::of(said.admin_password, said.admin_password_file, "admin_password")?,
                operator_email: said.operator_email.unwrap_or_else(|| "operator@localhost".into()),
                operator_password: Password::of(
                    said.operator_password,
                    said.operator_password_file,
                    "operator_password",
                )?,
            },
            data_dir,
        })
    }

    /// Where a service listens.
    pub(crate) fn listen(&self, service: Service) -> SocketAddr {
        match service {
            Service::Registry => self.registry_listen,
            Service::Authsvc => self.auth_listen,
            Service::Controller => self.controller_listen,
        }
    }

    /// The URL that clients reach a service at, without a slash at its end.
    pub(crate) fn external_url(&self, service: Service) -> String {
        let said = match service {
            Service::Registry => &self.registry_external_url,
            Service::Authsvc => &self.auth_external_url,
            Service::Controller => &self.controller_external_url,
        };
        if let Some(url) = said {
            return url.as_str().trim_end_matches('/').to_owned();
        }
        let host = if self.hostname.contains(':') { format!("[{}]", self.hostname) } else { self.hostname.clone() };
        let (scheme, usual) = if self.tls == Tls::Off { ("http", 80) } else { ("https", 443) };
        match self.listen(service).port() {
            port if port == usual => format!("{scheme}://{host}"),
            port => format!("{scheme}://{host}:{port}"),
        }
    }

    /// `host` or `host:port`, the way docker names the registry.
    pub(crate) fn registry_host(&self) -> String {
        let url = self.external_url(Service::Registry);
        url.split_once("://").map_or(url.as_str(), |(_, host)| host).to_owned()
    }

    /// Folder of the private CA.
    pub(crate) fn pki_dir(&self) -> PathBuf {
        self.data_dir.join("pki")
    }

    /// The database's file, on `SQLite`.
    pub(crate) fn sqlite_path(&self) -> Option<&Path> {
        let url = self.database_url.expose();
        url.strip_prefix("sqlite://").or_else(|| url.strip_prefix("sqlite:")).map(Path::new)
    }
}

/// A DNS name or an address; brackets around an IPv6 address are taken off.
fn hostname(text: &str) -> Result<String> {
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    let label = |l: &str| {
        !l.is_empty()
            && l.len() <= 63
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    let name = bare.len() <= 253 && bare.split('.').all(label);
    ensure!(
        name || bare.parse::<IpAddr>().is_ok(),
        "hostname {text:?} is neither a DNS name nor an address (a port does not belong into it)"
    );
    Ok(bare.to_ascii_lowercase())
}

fn tls(mode: Option<TlsMode>, cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Tls> {
    match (mode.unwrap_or(TlsMode::On), cert, key) {
        (TlsMode::Off, None, None) => Ok(Tls::Off),
        (TlsMode::Off, ..) => bail!("tls is off, but tls_cert or tls_key is set: keep one or the other"),
        (TlsMode::On, None, None) => Ok(Tls::Private),
        (TlsMode::On, Some(cert), Some(key)) => Ok(Tls::Files { cert, key }),
        (TlsMode::On, Some(_), None) => bail!("tls_cert is set, but tls_key is not: both are needed"),
        (TlsMode::On, None, Some(_)) => bail!("tls_key is set, but tls_cert is not: both are needed"),
    }
}

/// An absolute `http` or `https` URL of a host alone: clients put paths of their own behind it.
fn external(url: Option<Url>, name: &str) -> Result<Option<Url>> {
    let Some(url) = url else { return Ok(None) };
    ensure!(matches!(url.scheme(), "http" | "https"), "{name}: expected a URL that starts with http:// or https://");
    ensure!(url.username().is_empty() && url.password().is_none(), "{name}: a URL without a user name is expected");
    ensure!(
        url.path() == "/" && url.query().is_none() && url.fragment().is_none(),
        "{name}: a URL without a path is expected; the services cannot live under one"
    );
    Ok(Some(url))
}

/// What a file with TLS material or the like may measure.
pub(crate) const MAX_PEM: u64 = 1 << 20;

#[cfg(test)]
mod tests;

/// Configurations for the tests of other modules.
#[cfg(test)]
pub(crate) mod testing {
    #![allow(clippy::unwrap_used)]
    use super::{Cli, CommandFactory, Config, Loaded};

    /// What a command line says.
    pub(crate) fn loaded(args: &[&str]) -> Loaded {
        let matches = Cli::command().try_get_matches_from([&["wharfinger"], args].concat()).unwrap();
        Loaded::from_matches(&matches, &|_| None).unwrap()
    }

    /// The configuration that a command line makes.
    pub(crate) fn config(args: &[&str]) -> Config {
        loaded(args).config
    }
}

//! Every setting, once: its name, type, flag, environment variable and what it does.
//!
//! The same names stand in the TOML file (snake case), on the command line (kebab case) and in the environment
//! (`WHARFINGER_` and upper case). Secrets are in the second list: they never stand on a command line, where every user of
//! the machine could read them.

// The doc comments of the settings are what `--help` prints.
#![allow(clippy::doc_markdown, rustdoc::broken_intra_doc_links)]

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::parser::ValueSource;
use serde::Deserialize;
use url::Url;

use super::units::{Size, Span};
use crate::proxies::Proxies;

/// A secret of the configuration; neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// A secret made of text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

/// Whether the three services speak TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TlsMode {
    /// TLS, with `--tls-cert` and `--tls-key` or a certificate of the private CA.
    On,
    /// Plain HTTP, for use behind a proxy that speaks TLS.
    Off,
}

/// How logs are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How the audit log tells of pulls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuditPulls {
    /// Each by itself.
    Each,
    /// Those of a minute by the same caller, of the same image, as one event that says how many they were.
    Minute,
}

/// Where a setting's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// The command line.
    Flag,
    /// The environment variable of that name.
    Env(&'static str),
    /// The TOML file.
    File,
    /// Nothing was said.
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Env(name) => f.write_str(name),
            Self::File => f.write_str("file"),
            Self::Default => f.write_str("default"),
        }
    }
}

macro_rules! settings {
    (
        flags { $( $(#[doc = $doc:literal])+ $flag:ident: $flag_type:ty = $flag_env:literal, $value:literal; )* }
        secrets { $( $(#[doc = $secret_doc:literal])+ $secret:ident: $secret_type:ty = $secret_env:literal; )* }
    ) => {
        /// What one source says; `None` where it says nothing.
        #[derive(Debug, Clone, Default, clap::Args, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub(crate) struct Settings {
            $( $(#[doc = $doc])+
               #[arg(long, env = $flag_env, value_name = $value, global = true, hide_env_values = true)]
               pub(crate) $flag: Option<$flag_type>, )*
            $( $(#[doc = $secret_doc])+
               #[arg(skip)]
               pub(crate) $secret: Option<$secret_type>, )*
        }

        impl Settings {
            /// The environment variables that are read.
            pub(crate) const VARIABLES: &[&str] = &[$($flag_env,)* $($secret_env,)* "WHARFINGER_CONFIG"];

            /// Reads the settings that have no flag from the environment.
            pub(crate) fn read_secrets(&mut self, env: &dyn Fn(&str) -> Option<String>) {
                $( if let Some(text) = env($secret_env).filter(|text| !text.is_empty()) {
                    self.$secret = Some(<$secret_type>::from(text));
                } )*
            }

            /// What `self` says, and `lower` where `self` says nothing.
            pub(crate) fn or(self, lower: Self) -> Self {
                Self {
                    $( $flag: self.$flag.or(lower.$flag), )*
                    $( $secret: self.$secret.or(lower.$secret), )*
                }
            }

            /// Where each setting's value comes from. `self` is what the command line and the environment said.
            pub(crate) fn sources(&self, file: &Self, matches: &clap::ArgMatches) -> BTreeMap<&'static str, Source> {
                let mut sources = BTreeMap::new();
                $( sources.insert(stringify!($flag), match matches.value_source(stringify!($flag)) {
                    Some(ValueSource::CommandLine) => Source::Flag,
                    Some(ValueSource::EnvVariable) => Source::Env($flag_env),
                    _ if file.$flag.is_some() => Source::File,
                    _ => Source::Default,
                }); )*
                $( sources.insert(stringify!($secret), if self.$secret.is_some() {
                    Source::Env($secret_env)
                } else if file.$secret.is_some() {
                    Source::File
                } else {
                    Source::Default
                }); )*
                sources
            }
        }
    };
}

settings! {
    flags {
        /// Folder of the database, the blobs and the keys [default: ./data]
        data_dir: PathBuf = "WHARFINGER_DATA_DIR", "DIR";
        /// Name (or address) that clients know this server by [default: localhost]
        hostname: String = "WHARFINGER_HOSTNAME", "NAME";
        /// Where the registry listens [default: [::]:6000]
        registry_listen: SocketAddr = "WHARFINGER_REGISTRY_LISTEN", "ADDRESS:PORT";
        /// Where the token service listens [default: [::]:5001]
        auth_listen: SocketAddr = "WHARFINGER_AUTH_LISTEN", "ADDRESS:PORT";
        /// Where the REST API listens [default: [::]:443]
        controller_listen: SocketAddr = "WHARFINGER_CONTROLLER_LISTEN", "ADDRESS:PORT";
        /// Where metrics and health are served, without TLS [default: 127.0.0.1:6001]
        admin_listen: SocketAddr = "WHARFINGER_ADMIN_LISTEN", "ADDRESS:PORT";
        /// sqlite://PATH or postgres://… [default: sqlite://DATA_DIR/wharfinger.db]
        database_url: String = "WHARFINGER_DATABASE_URL", "URL";
        /// Where blobs are kept: file://PATH [default: file://DATA_DIR/blobs]
        blob_url: String = "WHARFINGER_BLOB_URL", "URL";
        /// Whether the services speak TLS; `off` is for use behind a proxy [default: on]
        tls: TlsMode = "WHARFINGER_TLS", "on|off";
        /// Certificate chain (PEM), reloaded when it changes [default: one of the private CA in DATA_DIR/pki]
        tls_cert: PathBuf = "WHARFINGER_TLS_CERT", "FILE";
        /// Private key (PEM) of --tls-cert
        tls_key: PathBuf = "WHARFINGER_TLS_KEY", "FILE";
        /// URL that clients reach the registry at, where that is not HOSTNAME and the listener's port
        registry_external_url: Url = "WHARFINGER_REGISTRY_EXTERNAL_URL", "URL";
        /// URL that clients reach the token service at
        auth_external_url: Url = "WHARFINGER_AUTH_EXTERNAL_URL", "URL";
        /// URL that clients reach the REST API at
        controller_external_url: Url = "WHARFINGER_CONTROLLER_EXTERNAL_URL", "URL";
        /// Networks of proxies whose X-Forwarded-For and X-Forwarded-Proto are believed, with commas between [default: none]
        trusted_proxies: Proxies = "WHARFINGER_TRUSTED_PROXIES", "NETWORKS";
        /// Whether issuers that organizations trust may be in this server's own networks, by plain HTTP too [default: false]
        federation_allow_private: bool = "WHARFINGER_FEDERATION_ALLOW_PRIVATE", "true|false";
        /// How logs are written [default: auto]
        log_format: LogFormat = "WHARFINGER_LOG_FORMAT", "auto|human|json";
        /// What is logged: error, warn, info, debug or trace, or directives such as info,registry=debug [default: info]
        log_level: String = "WHARFINGER_LOG_LEVEL", "LEVEL";
        /// The key that other keys are made of and sealed with [default: DATA_DIR/master.key]
        master_key_file: PathBuf = "WHARFINGER_MASTER_KEY_FILE", "FILE";
        /// Largest manifest accepted [default: 8MiB]
        max_manifest_size: Size = "WHARFINGER_MAX_MANIFEST_SIZE", "SIZE";
        /// Largest blob accepted [default: 1TiB]
        max_blob_size: Size = "WHARFINGER_MAX_BLOB_SIZE", "SIZE";
        /// Whether the audit log tells of each pull, or of those of a minute together [default: each]
        audit_pulls: AuditPulls = "WHARFINGER_AUDIT_PULLS", "each|minute";
        /// Memory for manifests and small blobs that are read often; used with SQLite, where one process serves [default:
        /// 64MiB]
        cache_size: Size = "WHARFINGER_CACHE_SIZE", "SIZE";
        /// Connections that each service holds at a time; more have to wait [default: 8192]
        max_connections: u32 = "WHARFINGER_MAX_CONNECTIONS", "NUMBER";
        /// How long a client that sends nothing may keep an upload waiting [default: 60s]
        body_timeout: Span = "WHARFINGER_BODY_TIMEOUT", "TIME";
        /// How long requests in flight may go on after SIGTERM [default: 30s]
        drain_timeout: Span = "WHARFINGER_DRAIN_TIMEOUT", "TIME";
        /// How long a blob that nothing refers to is kept [default: 1d]
        gc_grace: Span = "WHARFINGER_GC_GRACE", "TIME";
        /// How often garbage is collected; 0 switches it off [default: 1m]
        gc_interval: Span = "WHARFINGER_GC_INTERVAL", "TIME";
        /// How long an upload that makes no progress is kept [default: 1d]
        upload_timeout: Span = "WHARFINGER_UPLOAD_TIMEOUT", "TIME";
        /// Sender of mails, `Name <address>` or an address [default: wharfinger@HOSTNAME]
        mail_from: String = "WHARFINGER_MAIL_FROM", "ADDRESS";
        /// Folder that mails are written to where no SMTP server is configured (smtp_url) [default: DATA_DIR/mail]
        mail_dir: PathBuf = "WHARFINGER_MAIL_DIR", "DIR";
        /// CA certificates (PEM) that the SMTP server's is checked against, besides the system's
        smtp_ca_file: PathBuf = "WHARFINGER_SMTP_CA_FILE", "FILE";
    }
    secrets {
        /// E-mail of the first Organization Admin.
        admin_email: String = "WHARFINGER_ADMIN_EMAIL";
        /// Password of the first Organization Admin.
        admin_password: Secret = "WHARFINGER_ADMIN_PASSWORD";
        /// File that holds that password.
        admin_password_file: PathBuf = "WHARFINGER_ADMIN_PASSWORD_FILE";
        /// Slug of the first organization.
        org: String = "WHARFINGER_ORG";
        /// E-mail of the platform operator.
        operator_email: String = "WHARFINGER_OPERATOR_EMAIL";
        /// Password of the platform operator.
        operator_password: Secret = "WHARFINGER_OPERATOR_PASSWORD";
        /// File that holds that password.
        operator_password_file: PathBuf = "WHARFINGER_OPERATOR_PASSWORD_FILE";
        /// SMTP server for mails: smtp://USER:PASSWORD@HOST:587 (STARTTLS) or smtps://USER:PASSWORD@HOST:465.
        smtp_url: Secret = "WHARFINGER_SMTP_URL";
    }
}

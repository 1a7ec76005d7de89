//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Settings, Span};

/// A container registry and the question of who may touch it.
///
/// Without a command, everything is served. Every option may also be given as an environment variable or, in snake case,
/// in a TOML file (--config); an option wins over the environment, the environment over the file.
#[derive(Debug, Parser)]
#[command(name = "wharfinger", version, max_term_width = 110, args_override_self = true)]
pub(crate) struct Cli {
    /// TOML file with settings
    #[arg(long, env = "WHARFINGER_CONFIG", value_name = "FILE", global = true)]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve (the default): everything, or the services that are named
    Serve {
        /// Services to run in this process [default: all of them]
        services: Vec<Service>,
    },
    /// Look at the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Bring the database's schema up to date
    Migrate,
    /// Collect garbage: blobs that nothing refers to, uploads that were given up
    Gc(Gc),
    /// Prove the database against the stored bytes, and the bytes against their digests
    Verify {
        /// Repair what can be repaired
        #[arg(long)]
        repair: bool,
    },
    /// Manage the keys that tokens are signed with
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Help administrators who cannot help themselves
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Prove audit logs: exported ones, and those in the database
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Ask a running server whether it is ready; for container health checks
    Healthcheck,
}

/// A service of the three.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Service {
    /// The registry (6000).
    Registry,
    /// The token service (5001).
    Authsvc,
    /// The REST API (443).
    Controller,
}

impl Service {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Registry, Self::Authsvc, Self::Controller];

    /// Its name in logs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Authsvc => "authsvc",
            Self::Controller => "controller",
        }
    }
}

/// `wharfinger config …`
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check the configuration without starting anything, and show every value and where it comes from
    Check,
}

/// `wharfinger gc …`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("mode").required(true).args(["dry_run", "now"])))]
pub(crate) struct Gc {
    /// Say what a run would do
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Run once, now
    #[arg(long)]
    pub(crate) now: bool,
    /// Take --gc-grace to be this, for this run [example: 0s]
    #[arg(long, value_name = "TIME")]
    pub(crate) grace: Option<Span>,
}

/// `wharfinger keys …`
#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a new signing key; it signs once every service had time to learn of it
    Rotate,
}

/// `wharfinger admin …`
#[derive(Debug, Subcommand)]
pub(crate) enum AdminCommand {
    /// Give a user a new password, read from standard input if that is not a terminal, else generated
    ResetPassword {
        /// E-mail of the user
        email: String,
    },
    /// Take every second factor off a user who has lost theirs and the recovery codes
    ResetMfa {
        /// E-mail of the user
        email: String,
    },
}

/// `wharfinger audit …`
#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Prove an export (NDJSON) with the master key; nothing else is needed. Exit status: 0 genuine, 1 not, 2 it could not be
    /// found out
    Verify {
        /// The file; - is standard input
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Prove the chains in the database. Exit status: 0 whole, 1 not, 2 it could not be found out
    Check {
        /// Only the chain of this organization [default: all of them, and the platform's]
        #[arg(long, value_name = "SLUG")]
        org: Option<String>,
    },
}

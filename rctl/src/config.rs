//! What to talk to and as whom: the file `~/.rctl/config.json`, the environment, the command line. Each wins over the one
//! before.

mod file;
mod settings;

pub(crate) use file::{ConfigFile, Document, Profile, StoredLogin, StoredSession, home, write_private};
pub(crate) use settings::{Credential, Overrides, Settings, key_of, parse_endpoint};

/// The profile where none is named.
pub(crate) const DEFAULT_PROFILE: &str = "default";

/// The variables, as help and documentation list them.
pub(crate) mod var {
    pub(crate) const ENDPOINT: &str = "RCTL_REST_ENDPOINT";
    pub(crate) const API_KEY: &str = "RCTL_API_KEY";
    pub(crate) const API_SECRET: &str = "RCTL_API_SECRET";
    pub(crate) const PROJECT: &str = "RCTL_PROJECT";
    pub(crate) const PROFILE: &str = "RCTL_PROFILE";
    pub(crate) const ORG: &str = "RCTL_ORG";
    pub(crate) const CA_FILE: &str = "RCTL_CA_FILE";
    pub(crate) const CONFIG: &str = "RCTL_CONFIG";
    pub(crate) const REGISTRY: &str = "RCTL_REGISTRY";
    pub(crate) const SKIP_VALIDATION: &str = "RCTL_SKIP_SERVER_CERT_VALIDATION";
}

//! The configuration file.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::config::{ConfigFile, DEFAULT_PROFILE, Overrides, Profile, Settings, parse_endpoint, var};
use crate::error::{Error, Result};
use crate::output::{Column, Output, col, note};

/// Lines of the answer.
const COLUMNS: &[Column] = &[
    col("File", &["file"]),
    col("Profile", &["profile"]),
    col("Profiles", &["profiles"]),
    col("Endpoint", &["endpoint"]),
    col("Organization", &["org"]),
    col("Project", &["project"]),
    col("Registry", &["registry"]),
    col("CA file", &["ca_file"]),
    col("User", &["user"]),
    col("Credential", &["credential"]),
    col("Session ends", &["session_expires_at"]),
    col("Certificates", &["certificates"]),
];

/// What to do with the file.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Make a profile
    #[command(
        after_help = "Examples:\n  rctl config init --endpoint https://registry.example.com --org acme --project web\n  \
        rctl config init --endpoint https://lab.example.com --ca-file lab-ca.crt --profile lab"
    )]
    Init(Init),
    /// Show what holds now, from the file, the environment and the command line; secrets are not shown
    Show,
    /// Change a profile
    #[command(
        after_help = "Names: endpoint, org, project, registry, ca_file, and current (the profile that is used).\n\
        An empty value takes the setting away.\n\n\
        Examples:\n  rctl config set org acme\n  rctl config set current lab"
    )]
    Set(Set),
}

/// Make a profile.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The project, where a command needs one and names none
    #[arg(long)]
    project: Option<String>,
    /// The registry, where it is not the controller's host with port 6000
    #[arg(long, value_name = "HOST[:PORT]")]
    registry: Option<String>,
    /// Replace a profile that is there
    #[arg(long)]
    force: bool,
}

/// Change a profile.
#[derive(Debug, Args)]
pub(crate) struct Set {
    /// What
    #[arg(value_parser = ["endpoint", "org", "project", "registry", "ca_file", "current"], hide_possible_values = true)]
    name: String,
    /// To what
    value: String,
}

impl Config {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::Usage`] for values that cannot be, [`Error::File`].
    pub(crate) async fn run(&self, given: &Overrides, settings: Result<Settings>, out: Output) -> Result<()> {
        match self {
            Self::Init(init) => init.run(given, out),
            Self::Show => show(&settings?, out),
            Self::Set(set) => set.run(&settings?, out),
        }
    }
}

impl Init {
    fn run(&self, given: &Overrides, out: Output) -> Result<()> {
        // The profile need not be there yet: only where the file is matters.
        let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let name = given.profile.clone().or_else(|| env(var::PROFILE)).unwrap_or_else(|| DEFAULT_PROFILE.into());
        let nowhere =
            Overrides { profile: Some(DEFAULT_PROFILE.into()), config: given.config.clone(), ..Overrides::default() };
        let file = Settings::resolve(&nowhere, &|variable| env(variable).filter(|_| variable == var::CONFIG))?.file;
        let endpoint = match given.endpoint.clone().or_else(|| env(var::ENDPOINT)) {
            Some(endpoint) => endpoint,
            None if std::io::IsTerminal::is_terminal(&std::io::stdin()) => {
                eprint!("Endpoint (https://HOST[:PORT]): ");
                crate::secret::line("the endpoint")?
            }
            None => return Err(Error::Usage("which server? --endpoint URL".into())),
        };
        let profile = Profile {
            endpoint: Some(parse_endpoint(endpoint.trim())?.as_str().trim_end_matches('/').to_owned()),
            org: given.org.clone().or_else(|| env(var::ORG)),
            project: self.project.clone().or_else(|| env(var::PROJECT)),
            registry: self.registry.clone().or_else(|| env(var::REGISTRY)),
            ca_file: given.ca_file.clone().or_else(|| env(var::CA_FILE)).map(|path| checked_ca(&path)).transpose()?,
            ..Profile::default()
        };
        if file.read()?.profiles.contains_key(&name) && !self.force {
            return Err(Error::Usage(format!(
                "there is a profile {name:?} already: --force replaces it, `rctl config set` changes it"
            )));
        }
        file.update(|document| {
            document.profiles.insert(name.clone(), profile);
            document.current.get_or_insert_with(|| name.clone());
        })?;
        out.say(&format!("Profile {name} is in {}. Next: rctl login", file.path.display()))
    }
}

/// The absolute path of a file of certificates.
fn checked_ca(path: &str) -> Result<String> {
    crate::client::certificates(path)?;
    Ok(std::path::absolute(path).map_err(Error::file(path))?.to_string_lossy().into_owned())
}

fn show(settings: &Settings, out: Output) -> Result<()> {
    warn_if_exposed(&settings.file);
    let document = settings.file.read()?;
    let stored = document.profiles.get(&settings.profile).cloned().unwrap_or_default();
    let credential = match &settings.credential {
        Some(_) if settings.from_environment => "API key (from the environment)",
        Some(crate::config::Credential::ApiKey(_)) => "API key",
        Some(crate::config::Credential::Session(_)) => "session",
        None if stored.session.is_some() || stored.api_key.is_some() => "none (the kept one is for another endpoint)",
        None => "none",
    };
    let shown = json!({
        "file": settings.file.path.to_string_lossy(),
        "profile": settings.profile,
        "profiles": document.profiles.keys().collect::<Vec<_>>(),
        "endpoint": settings.endpoint.as_ref().map(|url| url.as_str().trim_end_matches('/')),
        "org": settings.org,
        "project": settings.project,
        "registry": settings.registry().ok(),
        "ca_file": settings.ca_file,
        "user": settings.user,
        "credential": credential,
        "session_expires_at": stored.session.and_then(|session| session.expires_at).filter(|_| credential == "session"),
        "certificates": if settings.insecure { Value::from("not looked at") } else { Value::Null },
    });
    out.item(&shown, COLUMNS)
}

/// Warns where others can read the secrets.
fn warn_if_exposed(file: &ConfigFile) {
    if file.is_exposed() {
        let path = file.path.display();
        note(&format!("warning: others can read {path}: chmod 600 {path}, and replace the credentials in it"));
    }
}

impl Set {
    fn run(&self, settings: &Settings, out: Output) -> Result<()> {
        let value = Some(self.value.trim().to_owned()).filter(|value| !value.is_empty());
        let value = match (self.name.as_str(), value) {
            ("endpoint", Some(value)) => Some(parse_endpoint(&value)?.as_str().trim_end_matches('/').to_owned()),
            ("ca_file", Some(value)) => Some(checked_ca(&value)?),
            ("current", Some(value)) if !settings.file.read()?.profiles.contains_key(&value) => {
                return Err(Error::Usage(format!(
                    "there is no profile {value:?}: `rctl config init --profile {value}` makes it"
                )));
            }
            (_, value) => value,
        };
        settings.file.update(|document| {
            if self.name == "current" {
                document.current = value;
                return;
            }
            let profile = document.profiles.entry(settings.profile.clone()).or_default();
            match self.name.as_str() {
                "endpoint" => {
                    // Credentials stay with the server that gave them.
                    if profile.endpoint != value {
                        (profile.session, profile.api_key, profile.user) = (None, None, None);
                    }
                    profile.endpoint = value;
                }
                "org" => profile.org = value,
                "project" => profile.project = value,
                "registry" => profile.registry = value,
                _ => profile.ca_file = value,
            }
        })?;
        out.say(&format!("{} is set in {}", self.name, settings.file.path.display()))
    }
}

//! Docker's credential helper protocol: `docker-credential-rctl get|store|erase|list`, a request on standard input, an
//! answer on standard output (<https://github.com/docker/docker-credential-helpers>).
//!
//! `get` answers with what was stored for the registry, else with the profile whose registry it is, if that has an API key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

use clap::{Args, Parser, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::config::{Document, Overrides, Settings, StoredLogin};
use crate::error::{Error, Result};
use crate::output::print;
use crate::secret::Secret;

/// The name that docker calls it by.
const PROGRAM: &str = "docker-credential-rctl";
/// Largest request.
const MAX: u64 = 64 << 10;
/// What docker recognises as "there is none".
const NOT_FOUND: &str = "credentials not found in native keychain";

/// Whether the program was called as docker's helper.
pub(crate) fn is_called_as(program: Option<&Path>) -> bool {
    program.and_then(Path::file_stem).is_some_and(|name| name == PROGRAM)
}

/// Speak docker's credential helper protocol.
#[derive(Debug, Args)]
#[command(
    after_help = "Put a link to rctl named docker-credential-rctl into the PATH, and into ~/.docker/config.json:\n  \
    {\"credHelpers\": {\"registry.example.com:6000\": \"rctl\"}}\n\n\
    Examples:\n  ln -s \"$(command -v rctl)\" ~/.local/bin/docker-credential-rctl\n  \
    echo registry.example.com:6000 | rctl credential-helper get"
)]
pub(crate) struct Helper {
    /// What to do
    #[arg(value_enum)]
    action: Action,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Action {
    /// Answer with the credentials of the registry on standard input
    Get,
    /// Keep the credentials on standard input
    Store,
    /// Forget the credentials of the registry on standard input
    Erase,
    /// List registries and their users
    List,
}

#[derive(Debug, Parser)]
#[command(name = PROGRAM, version)]
struct Program {
    #[command(flatten)]
    helper: Helper,
}

/// Credentials, in the protocol's words.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Login {
    #[serde(rename = "ServerURL")]
    server_url: String,
    username: String,
    secret: Secret,
}

/// Does what docker asks.
///
/// # Errors
/// [`Error::No`] after having said so where there are no credentials.
pub(crate) fn run_as_program(args: &[OsString]) -> Result<()> {
    let program = Program::parse_from(args);
    let settings = Settings::resolve(&Overrides::default(), &|name| std::env::var(name).ok())?;
    program.helper.run(&settings)
}

impl Helper {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::Usage`] for requests that are none, [`Error::File`].
    pub(crate) fn run(&self, settings: &Settings) -> Result<()> {
        match self.action {
            Action::Get => get(settings),
            Action::Store => {
                let login: Login = serde_json::from_str(&request()?)
                    .map_err(|_| Error::Usage("expected ServerURL, Username and Secret as JSON".into()))?;
                settings.file.update(|document| {
                    let stored = StoredLogin { username: login.username, secret: login.secret };
                    document.registries.insert(host(&login.server_url), stored);
                })
            }
            Action::Erase => {
                let server = host(&request()?);
                settings.file.update(|document| drop(document.registries.remove(&server)))
            }
            Action::List => {
                let document = settings.file.read()?;
                let mut users: BTreeMap<String, String> = BTreeMap::new();
                for profile in document.profiles.keys() {
                    if let Some((server, login)) = of_profile(&document, profile) {
                        users.insert(server, login.username);
                    }
                }
                let stored = document.registries.into_iter().map(|(server, login)| (server, login.username));
                users.extend(stored);
                answer(&users)
            }
        }
    }
}

fn get(settings: &Settings) -> Result<()> {
    let asked = request()?;
    let server = host(&asked);
    let document = settings.file.read()?;
    let stored = document.registries.get(&server).cloned();
    let of_profiles = || document.profiles.keys().filter_map(|name| of_profile(&document, name));
    let found = stored.or_else(|| of_profiles().find(|(registry, _)| *registry == server).map(|(_, login)| login));
    match found {
        Some(login) => {
            answer(&Login { server_url: asked.trim().into(), username: login.username, secret: login.secret })
        }
        None => {
            print(&format!("{NOT_FOUND}\n"))?;
            Err(Error::Missing)
        }
    }
}

/// The registry of a profile and its API key. A session is not for docker.
fn of_profile(document: &Document, name: &str) -> Option<(String, StoredLogin)> {
    let profile = document.profiles.get(name)?;
    let login = StoredLogin { username: profile.user.clone()?, secret: profile.api_key.clone()? };
    Some((profile.registry()?, login))
}

fn request() -> Result<String> {
    let mut text = String::new();
    std::io::stdin().lock().take(MAX).read_to_string(&mut text)?;
    Ok(text)
}

/// The `HOST[:PORT]` of what docker calls a server.
fn host(server: &str) -> String {
    let server = server.trim();
    let server = server.split_once("://").map_or(server, |(_, rest)| rest);
    server.split('/').next().unwrap_or_default().to_ascii_lowercase()
}

fn answer(value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string(value).map_err(|error| Error::Other(error.to_string()))?;
    print(&format!("{text}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_known_by_host_and_port() {
        for server in ["reg.example:6000", "https://Reg.Example:6000/v2/", " reg.example:6000\n"] {
            assert_eq!(host(server), "reg.example:6000");
        }
    }

    #[test]
    fn it_knows_its_name() {
        assert!(is_called_as(Some(Path::new("/usr/bin/docker-credential-rctl"))));
        assert!(is_called_as(Some(Path::new("docker-credential-rctl.exe"))));
        assert!(!is_called_as(Some(Path::new("rctl"))) && !is_called_as(None));
    }
}

//! `registry login`: container tools get an API key, through the tool itself where it is installed, so that its own
//! credential store is used; else in the file that all of them read.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::trust;
use crate::client::Call;
use crate::commands::{Yes, machine, whoami};
use crate::config::{Credential, write_private};
use crate::context::{Context, agrees};
use crate::error::{Error, Result};
use crate::output::note;
use crate::secret::Secret;

/// Log container tools in.
#[derive(Debug, Args)]
#[command(
    after_help = "With a session, a new API key is made for it (you are asked first); with an API key, that key is used.\n\
    Where the server has a private CA (--ca-file), container tools are made to trust it, after asking.\n\n\
    Examples:\n  rctl registry login\n  rctl registry login registry.example.com:6000 --tool podman --days 30"
)]
pub(crate) struct Login {
    /// The registry; the profile's where this is not given
    #[arg(value_name = "HOST:PORT")]
    registry: Option<String>,
    /// Which tool: docker or podman; `file` writes the credentials file that podman, skopeo and buildah read
    #[arg(long, value_enum, hide_possible_values = true, value_name = "docker|podman|file")]
    tool: Option<Tool>,
    /// The credentials file for `file`
    #[arg(long, value_name = "FILE")]
    auth_file: Option<PathBuf>,
    /// Days that a new API key is valid
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Do not touch trust directories
    #[arg(long)]
    no_trust: bool,
    #[command(flatten)]
    yes: Yes,
}

/// Who keeps the credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tool {
    Docker,
    Podman,
    File,
}

impl Login {
    /// Does it.
    ///
    /// # Errors
    /// The server's, the tool's, [`Error::Declined`].
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let registry = self.registry.clone().map_or_else(|| context.settings.registry(), Ok)?;
        if let Some(ca) = context.settings.ca_file.as_deref().filter(|_| !self.no_trust) {
            let trusted = trust::install(context, &registry, Path::new(ca), None, self.yes.yes)?;
            if let Some(path) = trusted {
                note(&format!("Wrote {}.", path.display()));
            }
        }
        let account = whoami::account(context).await?;
        let user = whoami::name(&account).ok_or_else(|| Error::Other("the server does not say who you are".into()))?;
        let key = self.key(context, &registry).await?;
        match self.tool() {
            Tool::Docker => run("docker", &registry, user, &key)?,
            Tool::Podman => run("podman", &registry, user, &key)?,
            Tool::File => {
                let path = self.auth_file.clone().map_or_else(auth_file, Ok)?;
                write_auth(&path, &registry, user, &key)?;
                note(&format!("Wrote {}.", path.display()));
            }
        }
        context.out.say(&format!("Logged in at {registry} as {user}."))
    }

    fn tool(&self) -> Tool {
        let on_path = |name: &str| {
            let paths = std::env::var_os("PATH").unwrap_or_default();
            std::env::split_paths(&paths).any(|dir| dir.join(name).is_file())
        };
        match self.tool {
            Some(tool) => tool,
            None if self.auth_file.is_some() => Tool::File,
            None if on_path("docker") => Tool::Docker,
            None if on_path("podman") => Tool::Podman,
            None => Tool::File,
        }
    }

    /// The API key at hand, or a new one: a session's token is not for container tools.
    async fn key(&self, context: &Context, registry: &str) -> Result<Secret> {
        if let Some(Credential::ApiKey(key)) = &context.settings.credential {
            return Ok(key.clone());
        }
        if !self.yes.yes && !agrees(&format!("Make an API key for {registry} on this machine?"))? {
            return Err(Error::Declined);
        }
        let org = context.org().await?;
        let mut body = json!({"name": format!("container tools on {}", machine())});
        if let Some(days) = self.days {
            body["valid_days"] = days.into();
        }
        let made = context.client()?.send(&Call::create(&["orgs", &org, "apikeys"], body)?).await?.body;
        let key = made["key"].as_str().ok_or_else(|| Error::Other("the server shows no key".into()))?;
        Ok(Secret::new(key))
    }
}

/// Hands the key to a tool, on its standard input.
fn run(tool: &str, registry: &str, user: &str, key: &Secret) -> Result<()> {
    let failed = |what: String| Error::Program { program: format!("{tool} login"), what };
    let mut command = Command::new(tool);
    // `--` keeps a registry from being read as an option.
    command.args(["login", "--username", user, "--password-stdin", "--", registry]);
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = piped.spawn().map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(key.expose().as_bytes()).map_err(|error| failed(error.to_string()))?;
    }
    let output = child.wait_with_output().map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).replace(key.expose(), "…");
    Err(failed(said.trim().to_owned()))
}

/// Where podman, skopeo and buildah look (containers-auth.json(5)).
fn auth_file() -> Result<PathBuf> {
    let var = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = var("REGISTRY_AUTH_FILE") {
        return Ok(file);
    }
    match var("XDG_RUNTIME_DIR") {
        Some(dir) => Ok(dir.join("containers/auth.json")),
        None => Ok(crate::config::home()?.join(".config/containers/auth.json")),
    }
}

/// Adds a login to a credentials file; all else in it stays.
fn write_auth(path: &Path, registry: &str, user: &str, key: &Secret) -> Result<()> {
    let mut document = match std::fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).ok().filter(Value::is_object).ok_or_else(|| {
            Error::file(path)(std::io::Error::other("not a credentials file: move it away or name another"))
        })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => json!({}),
        Err(error) => return Err(Error::file(path)(error)),
    };
    if !document["auths"].is_object() {
        document["auths"] = json!({});
    }
    document["auths"][registry] = json!({"auth": STANDARD.encode(format!("{user}:{}", key.expose()))});
    let text = serde_json::to_vec_pretty(&document).map_err(|error| Error::Other(error.to_string()))?;
    write_private(path, &text).map_err(Error::file(path))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn other_logins_stay() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        std::fs::write(&path, r#"{"auths": {"other": {"auth": "eDp5"}}, "credHelpers": {"a": "b"}}"#).unwrap();
        write_auth(&path, "reg:6000", "bob", &Secret::new("ra2.a.b")).unwrap();
        let document: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(document["auths"]["other"]["auth"], "eDp5");
        assert_eq!(document["credHelpers"]["a"], "b");
        assert_eq!(document["auths"]["reg:6000"]["auth"], STANDARD.encode("bob:ra2.a.b"));
        std::fs::write(&path, "[]").unwrap();
        assert!(write_auth(&path, "reg:6000", "bob", &Secret::new("x")).is_err());
    }
}

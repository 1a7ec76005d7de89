//! The file: profiles by name, one of them current. It holds secrets, so that it is its owner's alone (0600) and is replaced
//! whole or not at all.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DEFAULT_PROFILE;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Largest file that is read.
const MAX: u64 = 1 << 20;

/// A session that `rctl login` began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredSession {
    /// The bearer token.
    pub(crate) token: Secret,
    /// When it ends, as the server said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<String>,
}

/// One server, and how to be somebody there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Profile {
    /// The controller's URL. The credentials below are for it and are sent nowhere else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) endpoint: Option<String>,
    /// The organization, where a command names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) org: Option<String>,
    /// The project, where a command needs one and names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) project: Option<String>,
    /// The registry's `HOST[:PORT]`, where it is not the controller's host with port 6000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) registry: Option<String>,
    /// The certificate of a private CA, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca_file: Option<String>,
    /// The name of whom the credentials are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// An API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) api_key: Option<Secret>,
    /// A session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) session: Option<StoredSession>,
}

impl Profile {
    /// The registry's `HOST:PORT`, if the profile tells.
    pub(crate) fn registry(&self) -> Option<String> {
        let of = |endpoint: &String| registry_of(&super::parse_endpoint(endpoint).ok()?);
        self.registry.clone().or_else(|| self.endpoint.as_ref().and_then(of))
    }
}

/// The registry beside a controller.
pub(crate) fn registry_of(endpoint: &url::Url) -> Option<String> {
    endpoint.host_str().map(|host| format!("{host}:6000"))
}

/// What the file says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Document {
    /// The profile that is used where none is named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    /// The profiles.
    pub(crate) profiles: BTreeMap<String, Profile>,
    /// What `docker-credential-rctl store` was given, by registry.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) registries: BTreeMap<String, StoredLogin>,
}

/// A login to a registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredLogin {
    /// The user.
    pub(crate) username: String,
    /// The password or key.
    pub(crate) secret: Secret,
}

impl Document {
    /// The name of the profile that is used where none is named.
    pub(crate) fn current(&self) -> &str {
        self.current.as_deref().unwrap_or(DEFAULT_PROFILE)
    }
}

/// Where the file is.
#[derive(Debug, Clone)]
pub(crate) struct ConfigFile {
    /// Its path.
    pub(crate) path: PathBuf,
}

impl ConfigFile {
    /// Reads it; nothing where there is none.
    ///
    /// # Errors
    /// [`Error::File`], also where the text is not ours: it is never overwritten then.
    pub(crate) fn read(&self) -> Result<Document> {
        let text = match bounded(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Document::default()),
            Err(source) => return Err(Error::File { path: self.path.clone(), source }),
        };
        // Not serde's own words: they may quote a secret.
        serde_json::from_str(&text).map_err(|error| {
            let place = format!("line {}, column {}: not a configuration of rctl", error.line(), error.column());
            Error::file(&self.path)(std::io::Error::other(place))
        })
    }

    /// Reads, changes and replaces it.
    ///
    /// # Errors
    /// [`Error::File`].
    pub(crate) fn update(&self, change: impl FnOnce(&mut Document)) -> Result<()> {
        let mut document = self.read()?;
        change(&mut document);
        let mut text = serde_json::to_vec_pretty(&document).map_err(|error| Error::Other(error.to_string()))?;
        text.push(b'\n');
        write_private(&self.path, &text).map_err(Error::file(&self.path))
    }

    /// Whether others than its owner can read it.
    pub(crate) fn is_exposed(&self) -> bool {
        is_exposed(&self.path)
    }
}

fn bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    let file = std::fs::File::open(path)?;
    if file.take(MAX + 1).read_to_string(&mut text)? as u64 > MAX {
        return Err(std::io::Error::other("larger than 1 MiB"));
    }
    Ok(text)
}

#[cfg(unix)]
fn is_exposed(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn is_exposed(_: &Path) -> bool {
    false
}

/// Replaces a file with one that only its owner can read, in a folder that is made the same way if it is not there.
///
/// # Errors
/// What the file system said; the old file is whole then.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let mut builder = std::fs::DirBuilder::new();
    let mut options = std::fs::File::options();
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        builder.mode(0o700);
        options.mode(0o600);
    }
    builder.recursive(true).create(dir)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fresh = dir.join(format!(".{name}.{}", std::process::id()));
    let written = options.write(true).create_new(true).open(&fresh).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.and_then(|()| std::fs::rename(&fresh, path));
    if done.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    done
}

/// The caller's home directory.
///
/// # Errors
/// [`Error::Usage`] where the environment does not tell.
pub(crate) fn home() -> Result<PathBuf> {
    std::env::home_dir()
        .filter(|dir| !dir.as_os_str().is_empty())
        .ok_or_else(|| Error::Usage("there is no home directory: set HOME or RCTL_CONFIG".into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn it_is_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile { path: dir.path().join("deep").join("config.json") };
        assert_eq!(file.read().unwrap(), Document::default());
        file.update(|document| {
            document.profiles.entry("default".into()).or_default().api_key = Some(Secret::new("ra2.x.y"));
        })
        .unwrap();
        assert!(!file.is_exposed());
        assert_eq!(file.read().unwrap().profiles["default"].api_key, Some(Secret::new("ra2.x.y")));
        assert_eq!(std::fs::read_dir(file.path.parent().unwrap()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn what_is_not_ours_is_neither_quoted_nor_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile { path: dir.path().join("config.json") };
        std::fs::write(&file.path, r#"{"profiles": {"default": {"api_key": ["hunter2"]}}}"#).unwrap();
        let error = file.update(|_| ()).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(std::fs::read_to_string(&file.path).unwrap().contains("hunter2"));
    }
}

//! What holds for this call: command line over environment over file.

use url::Url;

use super::{ConfigFile, DEFAULT_PROFILE, Document, Profile, home, var};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// What the command line says, beside the command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Overrides {
    /// `--config`.
    pub(crate) config: Option<std::path::PathBuf>,
    /// `--profile`.
    pub(crate) profile: Option<String>,
    /// `--endpoint`.
    pub(crate) endpoint: Option<String>,
    /// `--org`.
    pub(crate) org: Option<String>,
    /// `--ca-file`.
    pub(crate) ca_file: Option<String>,
}

/// What is shown to the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// An API key.
    ApiKey(Secret),
    /// A session's token.
    Session(Secret),
}

/// What holds for this call.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The file.
    pub(crate) file: ConfigFile,
    /// The profile's name.
    pub(crate) profile: String,
    /// The controller.
    pub(crate) endpoint: Option<Url>,
    /// The organization.
    pub(crate) org: Option<String>,
    /// The project.
    pub(crate) project: Option<String>,
    /// The registry, if it was named.
    pub(crate) registry: Option<String>,
    /// A private CA's certificate.
    pub(crate) ca_file: Option<String>,
    /// Whether the server's certificate is not looked at.
    pub(crate) insecure: bool,
    /// Who to be.
    pub(crate) credential: Option<Credential>,
    /// Whether the credential is the environment's.
    pub(crate) from_environment: bool,
    /// Whose the file's credential is.
    pub(crate) user: Option<String>,
}

impl Settings {
    /// Puts them together; `env` answers for the environment.
    ///
    /// # Errors
    /// [`Error::Usage`] for values that cannot be, [`Error::File`].
    pub(crate) fn resolve(given: &Overrides, env: &dyn Fn(&str) -> Option<String>) -> Result<Self> {
        let env = |name: &str| env(name).filter(|value| !value.is_empty());
        let path = match given.config.clone().or_else(|| env(var::CONFIG).map(Into::into)) {
            Some(path) => path,
            None => home()?.join(".rctl").join("config.json"),
        };
        let file = ConfigFile { path };
        let document = file.read()?;
        let named = given.profile.clone().or_else(|| env(var::PROFILE));
        let name = named.unwrap_or_else(|| document.current().to_owned());
        let stored = profile(&document, &name)?;

        let stored_endpoint = stored.endpoint.as_deref().map(parse_endpoint).transpose()?;
        let asked = given.endpoint.clone().or_else(|| env(var::ENDPOINT));
        let endpoint = asked.as_deref().map(parse_endpoint).transpose()?.or_else(|| stored_endpoint.clone());
        let in_environment = key_of(env(var::API_KEY), env(var::API_SECRET))?;
        let from_environment = in_environment.is_some();
        // What is stored for one server is not shown to another.
        let same = endpoint.as_ref().map(Url::origin) == stored_endpoint.as_ref().map(Url::origin);
        let kept = stored.session.map(|session| Credential::Session(session.token));
        let kept = kept.or(stored.api_key.map(Credential::ApiKey)).filter(|_| same);
        Ok(Self {
            file,
            profile: name,
            endpoint,
            org: given.org.clone().or_else(|| env(var::ORG)).or(stored.org),
            project: env(var::PROJECT).or(stored.project),
            registry: env(var::REGISTRY).or(stored.registry),
            ca_file: given.ca_file.clone().or_else(|| env(var::CA_FILE)).or(stored.ca_file),
            insecure: env(var::SKIP_VALIDATION).as_deref().map(parse_switch).transpose()?.unwrap_or(false),
            credential: in_environment.map(Credential::ApiKey).or(kept),
            from_environment,
            user: stored.user.filter(|_| same && !from_environment),
        })
    }

    /// The controller.
    ///
    /// # Errors
    /// [`Error::Usage`] where nobody named it.
    pub(crate) fn endpoint(&self) -> Result<&Url> {
        self.endpoint.as_ref().ok_or_else(|| {
            Error::Usage("no server is named: `rctl config init`, --endpoint URL or RCTL_REST_ENDPOINT".into())
        })
    }

    /// The registry's `HOST:PORT`.
    ///
    /// # Errors
    /// [`Error::Usage`] where nobody named a server.
    pub(crate) fn registry(&self) -> Result<String> {
        if let Some(registry) = &self.registry {
            return Ok(registry.clone());
        }
        super::file::registry_of(self.endpoint()?).ok_or_else(|| Error::Usage("which registry? RCTL_REGISTRY".into()))
    }
}

fn profile(document: &Document, name: &str) -> Result<Profile> {
    match document.profiles.get(name) {
        Some(profile) => Ok(profile.clone()),
        None if name == DEFAULT_PROFILE || document.profiles.is_empty() => Ok(Profile::default()),
        None => {
            let known: Vec<&str> = document.profiles.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Err(Error::Usage(format!("there is no profile {name:?}: there are {known}; `rctl config init` makes one")))
        }
    }
}

/// Reads an endpoint; `https://` where no scheme is given.
///
/// # Errors
/// [`Error::Usage`].
pub(crate) fn parse_endpoint(text: &str) -> Result<Url> {
    let full = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let wrong = |why: &str| Error::Usage(format!("the endpoint {text:?}: {why}; use https://HOST[:PORT]"));
    let url = Url::parse(&full).map_err(|error| wrong(&error.to_string()))?;
    if !matches!(url.scheme(), "https" | "http") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("not a web address"));
    }
    // Credentials in a URL would end up in messages.
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(Error::Usage("the endpoint has more than host, port and path; use https://HOST[:PORT]".into()));
    }
    Ok(url)
}

fn parse_switch(text: &str) -> Result<bool> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(Error::Usage(format!("{}: use true or false", var::SKIP_VALIDATION))),
    }
}

/// The API key of the two variables: `ra2.<id>.<secret>` whole in the first, or its id there and its secret in the second.
///
/// # Errors
/// [`Error::Usage`] for half a key. What was given is not repeated.
pub(crate) fn key_of(key: Option<String>, secret: Option<String>) -> Result<Option<Secret>> {
    let trimmed = |text: Option<String>| text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let (key, secret) = (trimmed(key), trimmed(secret));
    let whole = match (key, secret) {
        (None, None) => return Ok(None),
        (None, Some(secret)) if secret.starts_with("ra2.") => secret,
        (None, Some(_)) => return Err(Error::Usage(format!("{} is set without {}", var::API_SECRET, var::API_KEY))),
        (Some(key), _) if key.strip_prefix("ra2.").unwrap_or(&key).contains('.') => key,
        (Some(_), None) => {
            let message =
                format!("{} is a key's id alone: set {} too, or the whole key", var::API_KEY, var::API_SECRET);
            return Err(Error::Usage(message));
        }
        (Some(_), Some(secret)) if secret.starts_with("ra2.") => secret,
        (Some(key), Some(secret)) => format!("ra2.{}.{secret}", key.strip_prefix("ra2.").unwrap_or(&key)),
    };
    if whole.len() > 256 || !whole.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return Err(Error::Usage("the API key is not one: it looks like ra2.<40 digits>.<64 digits>".into()));
    }
    Ok(Some(Secret::new(whole)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::collections::HashMap;

    use super::*;
    use crate::config::StoredSession;

    fn settings(profile: Profile, env: &[(&str, &str)]) -> Result<Settings> {
        let dir = tempfile::tempdir().unwrap();
        let file = ConfigFile { path: dir.path().join("config.json") };
        file.update(|document| drop(document.profiles.insert("default".into(), profile))).unwrap();
        let env: HashMap<String, String> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let given = Overrides { config: Some(file.path.clone()), ..Overrides::default() };
        Settings::resolve(&given, &|name| env.get(name).cloned())
    }

    fn stored() -> Profile {
        Profile {
            endpoint: Some("https://a.example".into()),
            session: Some(StoredSession { token: Secret::new("rs1.00"), expires_at: None }),
            ..Profile::default()
        }
    }

    #[test]
    fn stored_credentials_stay_with_their_server() {
        assert!(settings(stored(), &[]).unwrap().credential.is_some());
        assert!(settings(stored(), &[(var::ENDPOINT, "a.example")]).unwrap().credential.is_some());
        for other in ["https://b.example", "http://a.example", "https://a.example:8443"] {
            assert_eq!(settings(stored(), &[(var::ENDPOINT, other)]).unwrap().credential, None, "{other}");
        }
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let env = [(var::API_KEY, "aa"), (var::API_SECRET, "bb"), (var::PROJECT, "web"), (var::ORG, "acme")];
        let settings = settings(stored(), &env).unwrap();
        assert_eq!(settings.credential, Some(Credential::ApiKey(Secret::new("ra2.aa.bb"))));
        assert_eq!((settings.project.as_deref(), settings.org.as_deref()), (Some("web"), Some("acme")));
    }

    #[test]
    fn keys_come_whole_or_in_two_halves() {
        let key = |a: &str, b: &str| key_of(Some(a.into()), Some(b.into())).map(|key| key.unwrap().expose().to_owned());
        assert_eq!(key("ra2.aa.bb", "").unwrap(), "ra2.aa.bb");
        assert_eq!(key("aa", "bb").unwrap(), "ra2.aa.bb");
        assert_eq!(key("ra2.aa", "bb").unwrap(), "ra2.aa.bb");
        assert_eq!(key("aa", "ra2.aa.bb").unwrap(), "ra2.aa.bb");
        assert!(key("aa", "").is_err() && key("", "bb").is_err() && key("aa\r\nX: y", "bb").is_err());
        assert!(key_of(None, None).unwrap().is_none());
    }

    #[test]
    fn endpoints_are_web_addresses_and_nothing_more() {
        assert_eq!(parse_endpoint("reg.example:8443").unwrap().as_str(), "https://reg.example:8443/");
        for bad in ["ftp://x", "https://", "https://u:hunter2@x", "https://x/?a=b", "https://x/#f", ""] {
            let error = parse_endpoint(bad).unwrap_err().to_string();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}

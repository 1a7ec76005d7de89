//! A caller of a registry: a connection, and tokens by the dance of `WWW-Authenticate`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use base64::Engine as _;
use rustls::ClientConfig;

use super::http::{Connection, Origin, Reply, Request, escaped};

/// Whom to log in as.
#[derive(Clone, Debug, Default)]
pub(crate) struct Login {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    /// Used in place of the password, but for the workload that is about passwords.
    pub(crate) api_key: Option<String>,
}

impl Login {
    /// The value of `Authorization`, by the API key where there is one.
    fn basic(&self) -> Option<String> {
        let secret = self.api_key.as_ref().or(self.password.as_ref())?;
        Some(basic(self.user.as_deref()?, secret))
    }
}

/// `Basic …`.
pub(crate) fn basic(user: &str, secret: &str) -> String {
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{user}:{secret}")))
}

/// What the connections to one registry share.
pub(crate) struct Registry {
    pub(crate) origin: Origin,
    pub(crate) tls: Arc<ClientConfig>,
    pub(crate) login: Login,
    /// Values of `Authorization` by scope.
    granted: Mutex<HashMap<String, Arc<str>>>,
}

/// Where tokens are had, as a challenge says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenService {
    pub(crate) realm: String,
    pub(crate) service: String,
}

impl TokenService {
    fn parse(challenge: &str) -> Option<Self> {
        let rest = challenge.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("bearer "))?;
        let parameters = &challenge[rest.len()..];
        let find = |name: &str| {
            let start = parameters.find(&format!("{name}=\""))? + name.len() + 2;
            Some(parameters[start..].split('"').next()?.to_owned())
        };
        Some(Self { realm: find("realm")?, service: find("service").unwrap_or_default() })
    }

    /// The path and query that ask for a token.
    pub(crate) fn question(&self, scope: &str) -> String {
        let path = super::http::path_of(&self.realm);
        let path = super::http::with_query(path, &format!("service={}", escaped(&self.service)));
        if scope.is_empty() { path } else { format!("{path}&scope={}", escaped(scope)) }
    }
}

impl Registry {
    pub(crate) fn new(url: &str, tls: Arc<ClientConfig>, login: Login) -> Result<Self> {
        Ok(Self { origin: Origin::parse(url, &tls)?, tls, login, granted: Mutex::default() })
    }

    /// Another service of the same deployment, as a place to connect to.
    pub(crate) fn at(&self, origin: Origin) -> Arc<Self> {
        let (tls, login) = (Arc::clone(&self.tls), self.login.clone());
        Arc::new(Self { origin, tls, login, granted: Mutex::default() })
    }

    /// Where tokens are had, where the registry wants any.
    pub(crate) async fn token_service(&self) -> Result<Option<TokenService>> {
        let reply = Connection::new(&self.origin).send(&Request::new("GET", "/v2/")).await?;
        Ok(reply.header("www-authenticate").filter(|_| reply.status == 401).and_then(TokenService::parse))
    }

    fn held(&self, scope: &str) -> Option<Arc<str>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner).get(scope).map(Arc::clone)
    }

    /// Answers a challenge.
    async fn grant(&self, challenge: &str, scope: &str) -> Result<Arc<str>> {
        let basic = self.login.basic();
        let value = match TokenService::parse(challenge) {
            None => basic.context("the registry wants a user and a password")?,
            Some(service) => {
                let question = service.question(scope);
                let mut request = Request::new("GET", &question).keep();
                if let Some(basic) = &basic {
                    request = request.header("Authorization", basic);
                }
                let origin = Origin::parse(&service.realm, &self.tls)?;
                let reply = Connection::new(&origin).send(&request).await?.expect(&[200]);
                let reply = reply.context("ask for a token")?.json()?;
                let token = reply["token"].as_str().or(reply["access_token"].as_str()).context("no token")?;
                format!("Bearer {token}")
            }
        };
        let value: Arc<str> = value.into();
        let mut granted = self.granted.lock().unwrap_or_else(PoisonError::into_inner);
        granted.insert(scope.to_owned(), Arc::clone(&value));
        Ok(value)
    }
}

/// One connection.
pub(crate) struct Client {
    registry: Arc<Registry>,
    pub(crate) connection: Connection,
    held: HashMap<String, Arc<str>>,
}

impl Client {
    pub(crate) fn new(registry: &Arc<Registry>) -> Self {
        let connection = Connection::new(&registry.origin);
        Self { registry: Arc::clone(registry), connection, held: HashMap::new() }
    }

    /// Sends a request with what the scope was granted; where that is refused, asks for a new grant once.
    pub(crate) async fn call(&mut self, scope: &str, request: Request<'_>) -> Result<Reply> {
        if !self.held.contains_key(scope)
            && let Some(value) = self.registry.held(scope)
        {
            self.held.insert(scope.to_owned(), value);
        }
        let dressed = match self.held.get(scope) {
            Some(value) => request.clone().header("Authorization", value),
            None => request.clone(),
        };
        let reply = self.connection.send(&dressed).await?;
        if reply.status != 401 {
            return Ok(reply);
        }
        let challenge = reply.header("www-authenticate").context("401 without a challenge")?;
        // Another connection may have been granted a new one while this one was refused.
        let used = self.held.get(scope).cloned();
        let value = match self.registry.held(scope) {
            Some(value) if Some(&value) != used.as_ref() => value,
            _ => self.registry.grant(challenge, scope).await?,
        };
        let dressed = request.header("Authorization", &value);
        self.held.insert(scope.to_owned(), value);
        self.connection.send(&dressed).await
    }
}

/// Everything a push, a pull and a deletion need in one repository.
pub(crate) fn scope_of(repository: &str) -> String {
    format!("repository:{repository}:pull,push,delete")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_challenge_says_where_tokens_are_had() {
        let service =
            TokenService::parse(r#"Bearer realm="https://localhost:5001/token",service="reg istry",scope="x""#);
        let service = service.unwrap();
        assert_eq!(service.realm, "https://localhost:5001/token");
        assert_eq!(
            service.question("repository:a/b:pull"),
            "/token?service=reg%20istry&scope=repository%3Aa%2Fb%3Apull"
        );
        assert_eq!(TokenService::parse(r#"Basic realm="x""#), None);
    }

    #[test]
    fn an_api_key_goes_before_a_password() {
        let mut login = Login { user: Some("u".into()), password: Some("p".into()), api_key: None };
        assert_eq!(login.basic().unwrap(), "Basic dTpw");
        login.api_key = Some("k".into());
        assert_eq!(login.basic().unwrap(), "Basic dTpr");
        assert_eq!(Login::default().basic(), None);
    }
}

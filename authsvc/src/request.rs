//! What clients send, read into one value. GET carries a query and `Basic` credentials, or none; POST carries an OAuth2
//! form. Scopes come repeated, in one value with spaces, or both; what we do not know is ignored.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use identity::Secret;
use identity::scope::Scope;

use crate::error::Error;

/// Largest form that is read.
pub const MAX_BODY: usize = 16 * 1024;
/// Most parameters that are looked at; no client sends half as many.
const MAX_PARAMS: usize = 100;

/// A request for a token.
#[derive(Debug)]
pub struct TokenRequest {
    /// Who asks.
    pub credentials: Credentials,
    /// Which service the token is for, where the client says so.
    pub service: Option<String>,
    /// What is asked, each thing once.
    pub scopes: Vec<Scope>,
    /// Whether a refresh token is wanted.
    pub offline: bool,
}

/// What a caller shows.
#[derive(Debug)]
pub enum Credentials {
    /// Nothing.
    Nobody,
    /// A name, and a password or API key.
    Password {
        /// The name.
        name: String,
        /// The password or API key.
        secret: Secret,
    },
    /// A refresh token.
    Refresh(Secret),
    /// A token of an issuer that the machine's organization trusts (RFC 8693).
    Exchange {
        /// `<organization>/<machine>`.
        account: String,
        /// The token.
        token: Secret,
    },
}

/// Token exchange (RFC 8693 §2.1).
pub(crate) const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// What may be exchanged, and what is given for it (RFC 8693 §3).
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";
const ID_TOKEN: &str = "urn:ietf:params:oauth:token-type:id_token";
pub(crate) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
/// What a request must say that says none of it.
const GRANTS: &str = "use grant_type=password, refresh_token or urn:ietf:params:oauth:grant-type:token-exchange";

/// The first value of each known parameter, and every scope.
#[derive(Default)]
struct Params {
    service: Option<String>,
    scopes: Vec<String>,
    grant_type: Option<String>,
    username: Option<String>,
    password: Option<Secret>,
    refresh_token: Option<Secret>,
    access_type: Option<String>,
    offline_token: Option<String>,
    account: Option<String>,
    subject_token: Option<Secret>,
    subject_token_type: Option<String>,
    requested_token_type: Option<String>,
    actor_token: Option<Secret>,
    audience: Option<String>,
    resource: Option<String>,
}

impl TokenRequest {
    /// Reads a GET.
    pub(crate) fn from_query(query: Option<&str>, headers: &HeaderMap) -> Result<Self, Error> {
        let params = Params::read(query.unwrap_or_default().as_bytes())?;
        let credentials = match headers.get(AUTHORIZATION) {
            Some(value) => basic(value)?,
            None => Credentials::Nobody,
        };
        let offline = params.offline_token.as_deref().is_some_and(|value| matches!(value, "true" | "1"));
        params.into_request(credentials, offline)
    }

    /// Reads a POST.
    pub(crate) fn from_form(body: &[u8], headers: &HeaderMap) -> Result<Self, Error> {
        if !is_form(headers) {
            let message = "send a form: Content-Type: application/x-www-form-urlencoded";
            return Err(Error::invalid("invalid_request", message));
        }
        let mut params = Params::read(body)?;
        let credentials = match params.grant_type.as_deref() {
            Some("password") => match (params.username.take(), params.password.take()) {
                (Some(name), Some(secret)) => Credentials::Password { name, secret },
                _ => return Err(Error::invalid("invalid_request", "grant_type=password needs username and password")),
            },
            Some("refresh_token") => match params.refresh_token.take() {
                Some(token) => Credentials::Refresh(token),
                None => return Err(Error::invalid("invalid_request", "grant_type=refresh_token needs refresh_token")),
            },
            Some(EXCHANGE) => params.exchange()?,
            Some(_) => return Err(Error::invalid("unsupported_grant_type", GRANTS)),
            None => return Err(Error::invalid("invalid_request", format!("grant_type is missing: {GRANTS}"))),
        };
        let offline = params.access_type.as_deref() == Some("offline");
        params.into_request(credentials, offline)
    }
}

impl Params {
    fn read(text: &[u8]) -> Result<Self, Error> {
        let mut params = Self::default();
        for (i, (name, value)) in url::form_urlencoded::parse(text).enumerate() {
            if i >= MAX_PARAMS {
                return Err(Error::invalid("invalid_request", "too many parameters"));
            }
            let value = value.into_owned();
            match &*name {
                "scope" => params.scopes.push(value),
                "service" => first(&mut params.service, value),
                "grant_type" => first(&mut params.grant_type, value),
                "username" => first(&mut params.username, value),
                "password" => first(&mut params.password, value.into()),
                "refresh_token" => first(&mut params.refresh_token, value.into()),
                "access_type" => first(&mut params.access_type, value),
                "offline_token" => first(&mut params.offline_token, value),
                "account" => first(&mut params.account, value),
                "subject_token" => first(&mut params.subject_token, value.into()),
                "subject_token_type" => first(&mut params.subject_token_type, value),
                "requested_token_type" => first(&mut params.requested_token_type, value),
                "actor_token" => first(&mut params.actor_token, value.into()),
                "audience" => first(&mut params.audience, value),
                "resource" => first(&mut params.resource, value),
                // `client_id` names what the credentials say better; the rest is unknown.
                _ => {}
            }
        }
        Ok(params)
    }

    /// What a token exchange needs, and nothing that it cannot give (RFC 8693 §2.1).
    fn exchange(&mut self) -> Result<Credentials, Error> {
        let invalid = |message: &str| Err(Error::invalid("invalid_request", message));
        let (Some(token), Some(kind)) = (self.subject_token.take(), self.subject_token_type.take()) else {
            return invalid("a token exchange needs subject_token and subject_token_type");
        };
        if ![JWT, ID_TOKEN, ACCESS_TOKEN].contains(&kind.as_str()) {
            return invalid("subject_token_type is urn:ietf:params:oauth:token-type:jwt, …:id_token or …:access_token");
        }
        let Some(account) = self.account.take() else {
            return invalid("a token exchange needs account: the machine, as ORGANIZATION/MACHINE");
        };
        if self.requested_token_type.as_deref().is_some_and(|kind| ![ACCESS_TOKEN, JWT].contains(&kind)) {
            return invalid("requested_token_type is urn:ietf:params:oauth:token-type:access_token");
        }
        if self.actor_token.is_some() {
            return invalid("actor_token is not understood: a machine acts for itself");
        }
        if self.resource.is_some() {
            return Err(Error::invalid("invalid_target", "resource is not understood: name the registry as service"));
        }
        // Another word for the same (RFC 8693 §2.1).
        if let Some(audience) = self.audience.take() {
            if self.service.as_ref().is_some_and(|service| *service != audience) {
                return Err(Error::invalid("invalid_target", "audience and service name two registries"));
            }
            self.service = Some(audience);
        }
        Ok(Credentials::Exchange { account, token })
    }

    fn into_request(self, credentials: Credentials, offline: bool) -> Result<TokenRequest, Error> {
        let scopes = Scope::parse_all(self.scopes.iter().map(String::as_str))?;
        let service = self.service.filter(|service| !service.is_empty());
        Ok(TokenRequest { credentials, service, scopes, offline })
    }
}

fn first<T>(slot: &mut Option<T>, value: T) {
    if slot.is_none() {
        *slot = Some(value);
    }
}

/// Whether the body is a form. Parameters such as `charset=utf-8` are allowed, and ignored.
fn is_form(headers: &HeaderMap) -> bool {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Credentials by `Basic` (RFC 7617): the name ends at the first colon, the text is UTF-8. An empty pair is nobody.
fn basic(value: &HeaderValue) -> Result<Credentials, Error> {
    let refused = || Error::Login(identity::login::LoginError::Refused);
    let (scheme, encoded) = value.to_str().ok().and_then(|value| value.split_once(' ')).ok_or_else(refused)?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(refused());
    }
    let encoded = encoded.trim();
    let raw = STANDARD.decode(encoded).or_else(|_| STANDARD_NO_PAD.decode(encoded)).map_err(|_| refused())?;
    let text = Secret::new(String::from_utf8(raw).map_err(|_| refused())?);
    let (name, secret) = text.expose().split_once(':').ok_or_else(refused)?;
    if name.is_empty() && secret.is_empty() {
        return Ok(Credentials::Nobody);
    }
    Ok(Credentials::Password { name: name.to_owned(), secret: secret.into() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn get(query: &str, authorization: Option<&str>) -> Result<TokenRequest, Error> {
        let mut headers = HeaderMap::new();
        if let Some(value) = authorization {
            headers.insert(AUTHORIZATION, value.parse().unwrap());
        }
        TokenRequest::from_query(Some(query), &headers)
    }

    fn post(body: &str, content_type: &str) -> Result<TokenRequest, Error> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, content_type.parse().unwrap());
        TokenRequest::from_form(body.as_bytes(), &headers)
    }

    #[test]
    fn a_secret_may_hold_colons_and_letters_of_any_script() {
        let header = format!("basic {}", STANDARD.encode("ann@acme.example:a:b:ü"));
        let request = get("service=wharfinger&offline_token=true", Some(&header)).unwrap();
        let Credentials::Password { name, secret } = request.credentials else { panic!("no password") };
        assert_eq!((name.as_str(), secret.expose()), ("ann@acme.example", "a:b:ü"));
        assert!(request.offline);
    }

    #[test]
    fn credentials_that_cannot_be_read_are_refused_and_none_are_nobody() {
        for bad in ["Bearer x", "Basic", "Basic ***", "Basic /w==", "Basic YQ=="] {
            assert!(matches!(get("", Some(bad)), Err(Error::Login(_))), "{bad}");
        }
        assert!(matches!(get("", None).unwrap().credentials, Credentials::Nobody));
        assert!(matches!(get("", Some("Basic Og==")).unwrap().credentials, Credentials::Nobody));
    }

    #[test]
    fn forms_are_read_whatever_their_charset_and_nothing_else_is() {
        let form =
            "grant_type=password&username=a&password=b&service=s&scope=repository:r:pull&scope=repository:r:push";
        let request = post(form, "application/x-www-form-urlencoded; charset=utf-8").unwrap();
        assert_eq!(request.scopes.len(), 1);
        assert_eq!(request.scopes[0].actions, ["pull", "push"]);
        assert!(post(form, "application/json").is_err());
        assert!(post("grant_type=password&username=a", "application/x-www-form-urlencoded").is_err());
        assert!(post(&"a=b&".repeat(101), "application/x-www-form-urlencoded").is_err());
    }

    #[test]
    fn an_exchange_says_what_is_exchanged_and_for_whom() {
        let form = "application/x-www-form-urlencoded";
        let whole = format!("grant_type={EXCHANGE}&subject_token=a.b.c&subject_token_type={JWT}&account=acme/ci");
        let request = post(&whole, form).unwrap();
        let Credentials::Exchange { account, token } = request.credentials else { panic!("no exchange") };
        assert_eq!((account.as_str(), token.expose()), ("acme/ci", "a.b.c"));
        assert_eq!(post(&format!("{whole}&audience=reg"), form).unwrap().service.as_deref(), Some("reg"));
        assert!(post(&format!("{whole}&requested_token_type={ACCESS_TOKEN}"), form).is_ok());
        for part in ["subject_token=a.b.c", &format!("subject_token_type={JWT}"), "account=acme/ci"] {
            assert!(post(&whole.replace(part, "x=y"), form).is_err(), "{part}");
        }
        for more in [
            "actor_token=x",
            "resource=https://x",
            "service=one&audience=two",
            "requested_token_type=urn:ietf:params:oauth:token-type:saml2",
        ] {
            assert!(post(&format!("{whole}&{more}"), form).is_err(), "{more}");
        }
        assert!(post(&whole.replace(":jwt", ":saml2"), form).is_err());
    }
}

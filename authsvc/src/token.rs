//! `GET /token` and `POST /token`: let the caller in, cut what they ask to what they may have, sign it.

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use identity::Secret;
use identity::access::IssueError;
use identity::audit::{self, Client, Credential, Origin};
use identity::federation::{ExchangeError, Exchanged, is_token_of_account};
use identity::login::{Door, Login, LoginError};
use identity::rbac::Principal;
use identity::scope::Scope;
use identity::token::Access;
use serde::Serialize;
use serde_json::value::RawValue;
use storage::clock::rfc3339;

use crate::State;
use crate::error::Error;
use crate::request::{ACCESS_TOKEN, Credentials, MAX_BODY, TokenRequest};

/// How long a client may take to send a form.
const PATIENCE: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(20) };

/// The answer, as every client can read it: `token` and `access_token` are the same, and quoted already, as they are long and
/// have nothing to escape.
#[derive(Serialize)]
struct Answer {
    token: Box<RawValue>,
    access_token: Box<RawValue>,
    expires_in: i64,
    issued_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<String>,
    /// To POST only: what was granted (RFC 6749 §5.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_type: Option<&'static str>,
    /// To a token exchange only: what kind of token it is (RFC 8693 §2.2.1).
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_token_type: Option<&'static str>,
}

/// Somebody who got in.
#[derive(Default)]
struct Caller {
    login: Option<Login>,
    /// The refresh token that they showed.
    refresh: Option<Secret>,
    /// When what they showed ends (unix seconds), where it does.
    until: Option<i64>,
    /// What they showed.
    credential: Credential,
}

/// Docker token specification, "Requesting a Token".
pub(crate) async fn get(Shared(state): Shared<State>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let answer = async {
        let wanted = TokenRequest::from_query(parts.uri.query(), &parts.headers)?;
        give(&state, wanted, &origin(&parts)).await
    };
    match answer.await {
        Ok((answer, _)) => respond(&answer),
        Err(error) => error.respond(false),
    }
}

/// Docker token specification, "OAuth2": grants `password` and `refresh_token`; and token exchange (RFC 8693).
pub(crate) async fn post(Shared(state): Shared<State>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let from = origin(&parts);
    let answer = async {
        // Bounded whether or not the client says how long it is: containers/image sends it in chunks.
        let body = tokio::time::timeout(PATIENCE, to_bytes(body, MAX_BODY)).await.map_err(|_| Error::Slow)?;
        let body = body.map_err(|_| Error::TooLarge)?;
        let wanted = TokenRequest::from_form(&body, &parts.headers)?;
        let exchange = matches!(wanted.credentials, Credentials::Exchange { .. });
        let (answer, access) = give(&state, wanted, &from).await?;
        let issued_token_type = exchange.then_some(ACCESS_TOKEN);
        Ok(Answer { scope: Some(scope_text(access)), token_type: Some("Bearer"), issued_token_type, ..answer })
    };
    match answer.await {
        Ok(answer) => respond(&answer),
        Err(error) => Error::respond(error, true),
    }
}

async fn give(state: &State, wanted: TokenRequest, from: &Origin) -> Result<(Answer, Vec<Access>), Error> {
    let identity = &state.identity;
    let service = identity.service();
    if wanted.service.as_deref().is_some_and(|wanted| wanted != service) {
        return Err(Error::invalid("invalid_request", format!("unknown service: this issues tokens for {service}")));
    }
    let Caller { login, refresh, until, credential } = let_in(state, wanted.credentials, from).await?;
    let refresh_token = match (&login, refresh) {
        // The refresh token that was shown goes on being good.
        (_, Some(shown)) => wanted.offline.then_some(shown),
        // What is had for a token of an issuer ends with it.
        (Some(login), None) if wanted.offline && until.is_none() => identity.issue_refresh(login, service).await?,
        _ => None,
    };
    let issued = identity.issue_until(login.as_ref(), &wanted.scopes, until.unwrap_or(i64::MAX)).await?;
    note(state, login.as_ref(), credential, from, &wanted.scopes, &issued.access).await?;
    tracing::debug!(
        user.name = login.as_ref().map_or("", |login| login.principal.name.as_str()),
        api_key.id = login.as_ref().and_then(|login| login.key.as_ref()).map(|key| key.id.as_str()),
        asked = %scopes_text(&wanted.scopes),
        "token issued"
    );
    let quoted = RawValue::from_string(format!("\"{}\"", issued.token));
    let token = quoted.map_err(|error| IssueError::Sign(error.into()))?;
    let answer = Answer {
        access_token: token.clone(),
        token,
        expires_in: issued.expires_in,
        issued_at: rfc3339(issued.issued_at),
        refresh_token: refresh_token.map(|token| token.expose().to_owned()),
        scope: None,
        token_type: None,
        issued_token_type: None,
    };
    Ok((answer, issued.access))
}

/// Notes for the audit log who gets in, and what they get of what they asked for.
///
/// # Errors
/// [`storage::Error::Busy`]: then they get nothing.
async fn note(
    state: &State,
    login: Option<&Login>,
    credential: Credential,
    from: &Origin,
    asked: &[Scope],
    granted: &[Access],
) -> storage::Result<()> {
    let principal = login.map_or_else(|| Principal::nobody("").into(), |login| login.principal.clone());
    let logged_in = match credential {
        Credential::Password => true,
        // Every request of a build shows its key: with scopes, what was granted is told, and to whom.
        Credential::ApiKey(_) => asked.is_empty(),
        _ => false,
    };
    let by = audit::Caller { principal, credential, origin: from.clone() };
    if logged_in {
        state.identity.note_login(&by).await?;
    }
    state.identity.note_grants(&by, asked, granted).await
}

/// Lets the caller in.
async fn let_in(state: &State, credentials: Credentials, from: &Origin) -> Result<Caller, Error> {
    let identity = &state.identity;
    Ok(match credentials {
        Credentials::Nobody => Caller::default(),
        // `docker login` has no other place for a token of an issuer than the password's.
        Credentials::Password { name, secret } if is_token_of_account(&name, &secret) => {
            let exchanged = Box::pin(identity.exchange(from, &name, &secret)).await;
            exchanged
                .map_err(|error| match error {
                    ExchangeError::Refused => Error::Login(LoginError::Refused),
                    other => other.into(),
                })?
                .into()
        }
        Credentials::Password { name, secret } => {
            let login = identity.login_from(from, &name, &secret, Door::Registry).await?;
            let credential = match &login.key {
                Some(key) => Credential::ApiKey(key.id.clone()),
                None => Credential::Password,
            };
            Caller { login: Some(login), credential, ..Caller::default() }
        }
        Credentials::Refresh(token) => {
            let login = identity.login_with_refresh(&token, identity.service()).await?;
            Caller { login: Some(login), refresh: Some(token), credential: Credential::Refresh, until: None }
        }
        Credentials::Exchange { account, token } => Box::pin(identity.exchange(from, &account, &token)).await?.into(),
    })
}

impl From<Exchanged> for Caller {
    fn from(exchanged: Exchanged) -> Self {
        let Exchanged { login, trust, until } = exchanged;
        Self { login: Some(login), refresh: None, until: Some(until), credential: Credential::Federated(trust) }
    }
}

/// Where a request comes from, as the server noted it.
fn origin(parts: &Parts) -> Origin {
    let origin = parts.extensions.get::<Origin>().cloned().unwrap_or_default();
    Origin { client: Client::Docker, ..origin }
}

fn respond(answer: &Answer) -> Response {
    // Long enough at once: a buffer that grows is copied again and again.
    let mut body = Vec::with_capacity(2 * answer.token.get().len() + 512);
    if let Err(error) = serde_json::to_writer(&mut body, answer) {
        tracing::error!(%error, "an answer cannot be written");
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    // RFC 6749 §5.1.
    ([(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-store")], body).into_response()
}

/// What was granted, as a scope again.
fn scope_text(access: Vec<Access>) -> String {
    let granted = access.into_iter().filter(|access| !access.actions.is_empty());
    let scopes: Vec<Scope> = granted.map(|a| Scope { kind: a.kind, name: a.name, actions: a.actions }).collect();
    scopes_text(&scopes)
}

fn scopes_text(scopes: &[Scope]) -> String {
    scopes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

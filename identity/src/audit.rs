//! Who does something, from where, and how that gets into the audit log.
//!
//! Every change takes the [`Caller`] that makes it and records an [`Entry`] in its own transaction, last of all. What
//! changes nothing (pulls, token grants, denials) is recorded apart.

pub mod export;
mod folding;
mod grants;
pub(crate) mod journal;
mod retention;

pub use self::folding::PullEvents;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;
use storage::Tx;
use storage::audit::{self, NewEvent};

use crate::core::Identity;
use crate::rbac::Principal;

/// Longest text of a client's that is kept, in characters.
const MAX_TEXT: usize = 256;

/// The kind of client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Client {
    /// A browser, that is a session's cookie.
    Browser,
    /// `rctl`.
    Cli,
    /// Another program at the REST API.
    #[default]
    Api,
    /// A registry client: docker and its like, at the registry or the token service.
    Docker,
    /// A command on the server's own command line, or the server by itself.
    Server,
}

impl Client {
    /// As events spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Browser => "browser",
            Self::Cli => "cli",
            Self::Api => "api",
            Self::Docker => "docker",
            Self::Server => "server",
        }
    }
}

/// Where a request comes from. The server puts one into every request's extensions.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// The kind of client.
    pub client: Client,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub agent: String,
    /// The request's id in the logs.
    pub request_id: String,
}

/// What somebody showed to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Credential {
    /// Nothing.
    #[default]
    None,
    /// A password, at a log-in.
    Password,
    /// A passkey, at a log-in.
    Passkey,
    /// A session, by its public id.
    Session(String),
    /// An API key, by its public part.
    ApiKey(String),
    /// A refresh token, as docker keeps one.
    Refresh,
    /// A token of a trusted issuer, by the id of the trust.
    Federated(String),
    /// An access token of the registry.
    Token,
    /// A one-time link or code that was mailed.
    Mailed,
    /// The server's own command line.
    Server,
}

impl Credential {
    /// As events spell it.
    #[must_use]
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Self::None => "".into(),
            Self::Password => "password".into(),
            Self::Passkey => "passkey".into(),
            Self::Session(id) => format!("session:{id}").into(),
            Self::ApiKey(id) => format!("api-key:{id}").into(),
            Self::Refresh => "refresh-token".into(),
            Self::Federated(id) => format!("trusted-issuer:{id}").into(),
            Self::Token => "token".into(),
            Self::Mailed => "mailed-link".into(),
            Self::Server => "server".into(),
        }
    }
}

/// Who does something, by which credential, from where.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The user with the rights of this moment.
    pub principal: Arc<Principal>,
    /// What they showed.
    pub credential: Credential,
    /// Where they are.
    pub origin: Origin,
}

impl Caller {
    /// The server itself, or whoever runs its commands. It has no rights of its own: functions that ask for some refuse it.
    #[must_use]
    pub fn server() -> Self {
        let origin = Origin { client: Client::Server, ..Origin::default() };
        Self { principal: Arc::new(Principal::nobody("server")), credential: Credential::Server, origin }
    }

    /// Somebody from nowhere in particular.
    #[must_use]
    pub fn of(principal: Arc<Principal>) -> Self {
        Self { principal, credential: Credential::None, origin: Origin::default() }
    }
}

/// How something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Outcome {
    /// It was done.
    #[default]
    Ok,
    /// It was not allowed.
    Denied,
    /// It failed.
    Error,
}

impl Outcome {
    /// As events spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Error => "error",
        }
    }
}

/// What happened, in the words of whoever records it.
#[derive(Debug, Clone, Default)]
pub struct Entry<'a> {
    /// The organization by its id; empty for the platform.
    pub org_id: &'a str,
    /// `noun.verb`, such as `user.create`.
    pub action: &'a str,
    /// What it was done to, by a name people know.
    pub target: &'a str,
    /// Slug of the project, where it lies in one.
    pub project: &'a str,
    /// How it ended.
    pub outcome: Outcome,
    /// Why not, where it was not done.
    pub reason: &'a str,
    /// What changed, before and after; null where there is nothing to say. Never a secret.
    pub detail: Value,
}

impl Caller {
    /// The event of an entry.
    #[must_use]
    pub fn event(&self, entry: &Entry<'_>, at_ms: i64) -> NewEvent {
        let cut = |text: &str| match text.len() <= MAX_TEXT && !text.contains('\0') {
            true => text.to_owned(),
            false => text.chars().filter(|c| *c != '\0').take(MAX_TEXT).collect(),
        };
        // A machine's row is named with its organization, which nobody is shown.
        let shown = |name: &str| match name.split_once(':') {
            Some((shown, _)) if !self.principal.user_id.is_empty() => cut(shown),
            _ => cut(name),
        };
        NewEvent {
            org_id: entry.org_id.to_owned(),
            at_ms,
            actor_id: self.principal.user_id.clone(),
            actor: shown(&self.principal.name),
            credential: self.credential.text(),
            client: self.origin.client.as_str().into(),
            action: entry.action.to_owned(),
            target: cut(entry.target),
            project: cut(entry.project),
            outcome: entry.outcome.as_str().into(),
            reason: cut(entry.reason),
            address: self.origin.address.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            agent: cut(&self.origin.agent),
            request_id: cut(&self.origin.request_id),
            detail: if entry.detail.is_null() { String::new() } else { entry.detail.to_string() },
        }
    }
}

impl Identity {
    /// Records what a transaction changes, in that transaction: last of all, because it locks the chain.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn record(&self, tx: &mut Tx, by: &Caller, entry: &Entry<'_>) -> storage::Result<()> {
        audit::append(tx, by.event(entry, self.now_ms())).await?;
        Ok(())
    }
}

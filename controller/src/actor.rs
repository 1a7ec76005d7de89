//! Who calls: a session's user, or an API key's. Extracting one is authenticating; its methods are authorising.
//!
//! `can…` come first in every protected handler and name the permission, so that a search finds every decision. What the
//! caller may not see is 404, in the same words as what does not exist; only what they see may be 403.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use identity::Secret;
use identity::audit::{Caller, Client, Credential, Origin};
use identity::login::LoginError;
use identity::rbac::{Permission, Principal, Resource, authorize};
use identity::session::{BEARER_PREFIX, LiveSession, SessionKind};
use storage::orgs::{self, Org};
use storage::projects::{self, Project};

use crate::State;
use crate::audit::Trail;
use crate::error::{Error, Result};
use crate::sessions;

/// The header for an API key, beside `Authorization: Bearer`.
const API_KEY: &str = "x-api-key";
/// The header in which unsafe requests repeat the session's token.
pub(crate) const CSRF_TOKEN: &str = "x-csrf-token";

/// The header of what a page asks for by itself: it reads, and does not count as use of the session. Whoever sends it, or leaves
/// it out, gains nothing: they could have used the session.
const BY_ITSELF: &str = "x-refresh";

/// An authenticated caller with the rights of this moment.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// The user and their rights, what they showed, and where they are.
    pub(crate) caller: Caller,
    /// What the audit log learns of the request.
    trail: Trail,
    /// Id of the organization that the session chose, or that the API key belongs to.
    pub(crate) org_id: Option<String>,
    /// Whether a page asks by itself, with nobody there.
    by_itself: bool,
}

/// The holder of a session, even of one that must first choose a new password.
#[derive(Debug)]
pub(crate) struct Holder {
    /// The session.
    pub(crate) session: LiveSession,
    /// The holder, as whoever changes something.
    pub(crate) caller: Caller,
}

/// Whoever comes without credentials.
#[derive(Debug)]
pub(crate) struct Visitor(Origin);

impl Visitor {
    /// Where they are, as a client of that kind unless they say that they are `rctl`.
    pub(crate) fn origin(&self, client: Client) -> Origin {
        origin_as(&self.0, client)
    }
}

impl FromRequestParts<State> for Visitor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &State) -> Result<Self> {
        Ok(Self(parts.extensions.get::<Origin>().cloned().unwrap_or_default()))
    }
}

impl FromRequestParts<State> for Holder {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self> {
        let (secret, kind) = session_secret(&parts.headers, state).ok_or(Error::Unauthenticated)?;
        let found = match by_itself(parts) {
            true => state.identity().peek_session(&secret, kind).await?,
            false => state.identity().find_session(&secret, kind).await?,
        };
        let session = found.ok_or(Error::Unauthenticated)?;
        let client = if kind == SessionKind::Cli { Client::Cli } else { Client::Browser };
        let caller = Caller {
            principal: Arc::clone(&session.principal),
            credential: Credential::Session(session.id.clone()),
            origin: origin(parts, client),
        };
        trail(parts).caller(&caller);
        // Not for safe methods: those change nothing, and their answers are not for other sites to read. Nor for bearer
        // tokens, which no browser sends by itself.
        let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        let given = parts.headers.get(CSRF_TOKEN).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if kind == SessionKind::Browser && !safe && !session.csrf_matches(given) {
            return Err(Error::CsrfToken);
        }
        Ok(Self { session, caller })
    }
}

impl Holder {
    /// Somebody who may do more than repair their own access: with a password of their own choice, and a second factor
    /// where one is asked for.
    ///
    /// # Errors
    /// 403 that says what to do first.
    pub(crate) fn full(&self) -> Result<()> {
        if self.session.must_change_password {
            return Err(Error::PasswordChangeRequired);
        }
        if self.session.must_enrol { Err(Error::MfaEnrolmentRequired) } else { Ok(()) }
    }

    /// The holder as a caller, who is seen in the organization that they chose, and their session.
    pub(crate) async fn into_actor(self, parts: &Parts, state: &State) -> (Actor, LiveSession) {
        let by_itself = by_itself(parts);
        if !by_itself {
            sessions::api::note_visit(state, &self.session).await;
        }
        let org_id = self.session.org_id.clone();
        (Actor { caller: self.caller, trail: trail(parts), org_id, by_itself }, self.session)
    }
}

/// The secret of the session that a request shows: a command line's bearer token, or a browser's cookie.
fn session_secret(headers: &HeaderMap, state: &State) -> Option<(Secret, SessionKind)> {
    if headers.contains_key(API_KEY) {
        return None;
    }
    if headers.contains_key(header::AUTHORIZATION) {
        let token = api_key(headers).ok().flatten()?;
        return token.starts_with(BEARER_PREFIX).then(|| (Secret::new(token), SessionKind::Cli));
    }
    let cookie = sessions::cookie(headers, state.settings().secure_cookies)?;
    Some((Secret::new(cookie), SessionKind::Browser))
}

impl FromRequestParts<State> for Actor {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self> {
        // A key says more than a cookie that the browser adds by itself.
        if let Some(key) = api_key(&parts.headers)?.filter(|key| !key.starts_with(BEARER_PREFIX)) {
            return match state.identity().login_with_key(&origin(parts, Client::Api), &Secret::new(key)).await {
                Ok(login) => {
                    let id = login.key.map(|key| key.id).unwrap_or_default();
                    Ok(Self::new(login.principal, Credential::ApiKey(id), parts))
                }
                Err(LoginError::Refused) => Err(Error::Unauthenticated),
                Err(error) => Err(error.into()),
            };
        }
        let holder = Holder::from_request_parts(parts, state).await?;
        holder.full()?;
        Ok(holder.into_actor(parts, state).await.0)
    }
}

/// The API key of a request, if it carries one. Credentials of another kind are an error, not "none".
fn api_key(headers: &HeaderMap) -> Result<Option<&str>> {
    if let Some(value) = headers.get(API_KEY) {
        return value.to_str().map(|key| Some(key.trim())).map_err(|_| Error::Unauthenticated);
    }
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
    match bearer {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(key.trim())),
        _ => Err(Error::Unauthenticated),
    }
}

/// Whether a page asks by itself, with nobody there.
fn by_itself(parts: &Parts) -> bool {
    matches!(parts.method, Method::GET | Method::HEAD) && parts.headers.contains_key(BY_ITSELF)
}

/// What the audit log learns of a request.
fn trail(parts: &Parts) -> Trail {
    parts.extensions.get::<Trail>().cloned().unwrap_or_default()
}

/// Where a request comes from, as the server noted it.
pub(crate) fn origin(parts: &Parts, client: Client) -> Origin {
    origin_as(&parts.extensions.get::<Origin>().cloned().unwrap_or_default(), client)
}

fn origin_as(origin: &Origin, client: Client) -> Origin {
    let client = if origin.agent.starts_with("rctl/") { Client::Cli } else { client };
    Origin { client, ..origin.clone() }
}

impl Actor {
    fn new(principal: Arc<Principal>, credential: Credential, parts: &Parts) -> Self {
        let org_id = principal.key_org.clone();
        let caller = Caller { principal, credential, origin: origin(parts, Client::Api) };
        let trail = trail(parts);
        trail.caller(&caller);
        Self { caller, trail, org_id, by_itself: false }
    }

    /// The user and their rights.
    pub(crate) fn principal(&self) -> &Principal {
        &self.caller.principal
    }

    /// Whether an API key let them in.
    pub(crate) fn by_key(&self) -> bool {
        matches!(self.caller.credential, Credential::ApiKey(_))
    }

    /// Asks for a permission on a thing that the caller sees.
    ///
    /// # Errors
    /// 403 with the permission that is missing.
    pub(crate) fn can(&self, permission: Permission, resource: &Resource<'_>) -> Result<()> {
        authorize(self.principal(), permission, resource).into_result()?;
        Ok(())
    }

    /// Whether [`Actor::can`] would allow it.
    pub(crate) fn may(&self, permission: Permission, resource: &Resource<'_>) -> bool {
        authorize(self.principal(), permission, resource).is_allowed()
    }

    /// The organization of that slug, and a permission on the whole of it.
    ///
    /// # Errors
    /// 404 where there is none that the caller sees, 403 where the permission is missing.
    pub(crate) async fn can_in_org(&self, permission: Permission, state: &State, slug: &str) -> Result<Org> {
        let org = self.sees_org(state, slug).await?;
        self.can_named(permission, &in_org(&org), &org, None)?;
        Ok(org)
    }

    /// As [`Actor::can`]; a denial says the names of organization and project.
    ///
    /// # Errors
    /// 403 with the permission that is missing.
    pub(crate) fn can_named(
        &self,
        permission: Permission,
        resource: &Resource<'_>,
        org: &Org,
        project: Option<&str>,
    ) -> Result<()> {
        let decided = authorize(self.principal(), permission, resource).into_result();
        decided.map_err(|denial| denial.named(&org.slug, project))?;
        Ok(())
    }

    /// The organization of that slug, if the caller may see that it exists.
    ///
    /// # Errors
    /// 404 where not.
    pub(crate) async fn sees_org(&self, state: &State, slug: &str) -> Result<Org> {
        let found = orgs::find_by_slug(&mut state.db().read().await?, slug).await?;
        let org = self.seen(found, |org| self.is_shown(org)).ok_or(Error::NotFound("organization"))?;
        if !self.by_itself {
            state.identity().note_visit(&org.id, &self.principal().user_id, self.caller.origin.client).await;
        }
        Ok(org)
    }

    /// What was found, where the caller may see it.
    fn seen<T>(&self, found: Option<T>, may: impl FnOnce(&T) -> bool) -> Option<T> {
        let there = found.is_some();
        let seen = found.filter(may);
        if there && seen.is_none() {
            self.trail.hidden();
        }
        seen
    }

    /// Whether the caller may see that an organization exists.
    pub(crate) fn is_shown(&self, org: &Org) -> bool {
        self.may(Permission::OrgRead, &in_org(org)) || self.may(Permission::PlatformOrgRead, &Resource::Platform)
    }

    /// The project of those slugs, and a permission on it.
    ///
    /// # Errors
    /// 404 where there is none that the caller sees, 403 where the permission is missing.
    pub(crate) async fn can_in_project(
        &self,
        permission: Permission,
        state: &State,
        org: &str,
        project: &str,
    ) -> Result<(Org, Project)> {
        let org = self.sees_org(state, org).await?;
        let found = projects::find_by_slug(&mut state.db().read().await?, &org.id, project).await?;
        let seen = self.seen(found, |project| self.may(Permission::ProjectRead, &in_project(project)));
        let project = seen.ok_or(Error::NotFound("project"))?;
        self.can_named(permission, &in_project(&project), &org, Some(&project.slug))?;
        Ok((org, project))
    }
}

/// An organization, as decisions know it.
pub(crate) fn in_org(org: &Org) -> Resource<'_> {
    Resource::Org { org_id: &org.id }
}

/// A project, as decisions know it.
pub(crate) fn in_project(project: &Project) -> Resource<'_> {
    Resource::Project { org_id: &project.org_id, project_id: &project.id }
}

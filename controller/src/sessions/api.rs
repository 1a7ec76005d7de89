//! `/login` and what follows it, `/logout`, `/session`, `/password`

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{StatusCode, header};
use identity::Secret;
use identity::audit::{Client, Origin};
use identity::login::{Door, Factor, LoggedIn, LoginError, Method, Pending};
use identity::rbac::Principal;
use identity::session::{LiveSession, NewSession, SessionKind};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::orgs;
use utoipa::ToSchema;

use super::set_cookie;
use crate::State;
use crate::actor::{Holder, origin};
use crate::error::{Error, Problem, Result};
use crate::{extract, page, time};

/// Name and password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The user's e-mail.
    #[schema(example = "admin@localhost")]
    pub(crate) username: String,
    /// The user's password.
    #[schema(value_type = String, format = Password)]
    pub(crate) password: Secret,
}

/// A second factor for a log-in that waits: exactly one of `code`, `recovery_code` and `passkey`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecondFactor {
    /// What the log-in that waits is named by.
    #[schema(value_type = String)]
    pub(crate) token: Secret,
    /// A code of the authenticator app.
    #[schema(value_type = Option<String>, example = "287082")]
    pub(crate) code: Option<Secret>,
    /// A recovery code.
    #[schema(value_type = Option<String>)]
    pub(crate) recovery_code: Option<Secret>,
    /// What `navigator.credentials.get` gave, as JSON.
    #[schema(value_type = Option<Object>)]
    pub(crate) passkey: Option<Value>,
}

/// A passkey for a log-in without a password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"token": "8b1d…", "credential": {"id": "…", "type": "public-key"}}))]
pub(crate) struct PasskeyCredential {
    /// What the log-in that was begun is named by.
    #[schema(value_type = String)]
    pub(crate) token: Secret,
    /// What `navigator.credentials.get` gave, as JSON.
    #[schema(value_type = Object)]
    pub(crate) credential: Value,
}

/// A log-in by passkey that was begun.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PasskeyOptions {
    /// What the next step names it by.
    pub(crate) token: String,
    /// Options for `navigator.credentials.get`, as JSON.
    #[schema(value_type = Object)]
    pub(crate) options: Value,
}

/// A change of one's own password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"current": "the old pass phrase", "new": "the new pass phrase"}))]
pub(crate) struct PasswordChange {
    /// The password so far.
    #[schema(value_type = String, format = Password)]
    pub(crate) current: Secret,
    /// The one to be.
    #[schema(value_type = String, format = Password)]
    pub(crate) new: Secret,
}

/// The organization to be chosen.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrgChoice {
    /// Its slug.
    #[schema(example = "main")]
    pub(crate) org: String,
}

/// Whose session it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionUser {
    /// Opaque id.
    pub(crate) id: String,
    /// E-mail.
    pub(crate) name: String,
    /// Whether they run the platform.
    pub(crate) operator: bool,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Its id in the list of sessions.
    pub(crate) id: String,
    /// Whose it is.
    pub(crate) user: SessionUser,
    /// What requests by cookie that change something repeat in the header X-CSRF-Token.
    pub(crate) csrf_token: String,
    /// The new bearer token, where the session is a command line's and got another secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) access_token: Option<String>,
    /// When it ends.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: i64,
    /// Slug of the chosen organization: the session carries rights in that one alone.
    pub(crate) org: Option<String>,
    /// Slugs of the organizations that the user is an active member of; at most 500.
    pub(crate) organizations: Vec<String>,
    /// Whether a new password must be chosen before anything else: POST /password.
    pub(crate) must_change_password: bool,
    /// Whether a second factor must be enrolled before anything else: POST /account/mfa/totp.
    pub(crate) must_enrol_mfa: bool,
    /// Whether a second factor was shown.
    pub(crate) second_factor: bool,
    /// How many recovery codes are left, where one was used up just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovery_codes_left: Option<i64>,
}

/// A log-in whose password is right and whose second factor is to be shown.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PendingView {
    /// What is to be shown.
    pub(crate) second_factor: PendingLogin,
}

/// A log-in that waits for its second factor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PendingLogin {
    /// What POST /login/second-factor names it by.
    pub(crate) token: String,
    /// Ways to show one: `totp`, `passkey`, `recovery`.
    #[schema(value_type = Vec<String>)]
    pub(crate) methods: Vec<Method>,
    /// When it ends.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: i64,
    /// Options for `navigator.credentials.get`, as JSON, where a passkey may be shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub(crate) passkey_options: Option<Value>,
}

/// What a log-in by password leads to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum LoginAnswer {
    /// A session, with its cookie.
    Session(Box<SessionView>),
    /// One more step, without a cookie.
    Pending(PendingView),
}

/// Log in
///
/// The answer sets the session's cookie, or asks for a second factor: then it sets none. Failures in a row lock the name for
/// a while, at every door.
#[utoipa::path(post, path = "/login", tag = "session", request_body = Credentials,
    responses((status = 200, description = "Logged in, or one more step", body = LoginAnswer)))]
pub(crate) async fn log_in(
    Shared(state): Shared<State>,
    parts: Parts,
    extract::Json(given): extract::Json<Credentials>,
) -> Result<Response> {
    match first_step(&state, &origin(&parts, Client::Browser), &given).await? {
        FirstStep::Session(session) => {
            let kind = SessionKind::Browser;
            let cookie = new_cookie(&state, &session, kind).map(|cookie| [(header::SET_COOKIE, cookie)]);
            let view = renewed(&state, &session, kind).await?;
            Ok((cookie, Json(LoginAnswer::Session(Box::new(view)))).into_response())
        }
        FirstStep::SecondFactor(pending) => Ok(Json(LoginAnswer::Pending(waiting(*pending))).into_response()),
    }
}

/// What a right password leads to.
#[derive(Debug)]
pub(crate) enum FirstStep {
    /// A browser's session.
    Session(NewSession),
    /// One more step.
    SecondFactor(Box<Pending>),
}

/// The first step of a log-in, for a browser: the API's and the page's.
///
/// # Errors
/// [`LoginError`].
pub(crate) async fn first_step(
    state: &State,
    from: &Origin,
    given: &Credentials,
) -> std::result::Result<FirstStep, LoginError> {
    match state.identity().login_from(from, &given.username, &given.password, Door::Console).await {
        Ok(login) => {
            let session = state.identity().begin_session(&login, from, SessionKind::Browser).await?;
            Ok(FirstStep::Session(session))
        }
        Err(LoginError::SecondFactor(pending)) => Ok(FirstStep::SecondFactor(pending)),
        Err(error) => Err(error),
    }
}

/// Show the second factor
///
/// Five tries within five minutes; each failure counts to the lockout of the name.
#[utoipa::path(post, path = "/login/second-factor", tag = "session", request_body = SecondFactor,
    responses((status = 200, description = "Logged in", body = SessionView)))]
pub(crate) async fn show_second_factor(
    Shared(state): Shared<State>,
    parts: Parts,
    extract::Json(given): extract::Json<SecondFactor>,
) -> Result<Response> {
    let factor = match (given.code, given.recovery_code, given.passkey) {
        (Some(code), None, None) => Factor::Code(code),
        (None, Some(code), None) => Factor::Recovery(code),
        (None, None, Some(passkey)) => Factor::Passkey(passkey),
        _ => return Err(Error::Unacceptable("send exactly one of code, recovery_code and passkey".into())),
    };
    let from = origin(&parts, Client::Browser);
    let done = state.identity().show_second_factor(&from, &given.token, factor, SessionKind::Browser).await?;
    logged_in(&state, done).await
}

/// Begin to log in by passkey
///
/// Without a name or password: the passkey says who it is, and verifies its user.
#[utoipa::path(post, path = "/login/passkey/begin", tag = "session",
    responses((status = 200, description = "Options for the browser", body = PasskeyOptions),
              (status = 429, description = "Too many requests: wait as long as Retry-After says", body = Problem,
               content_type = "application/problem+json")))]
pub(crate) async fn begin_passkey_login(Shared(state): Shared<State>, parts: Parts) -> Result<Json<PasskeyOptions>> {
    let begun = state.identity().begin_passkey_login(&origin(&parts, Client::Browser)).await?;
    Ok(Json(PasskeyOptions { token: begun.token.expose().to_owned(), options: begun.options }))
}

/// Log in by passkey
#[utoipa::path(post, path = "/login/passkey", tag = "session", request_body = PasskeyCredential,
    responses((status = 200, description = "Logged in", body = SessionView)))]
pub(crate) async fn log_in_by_passkey(
    Shared(state): Shared<State>,
    parts: Parts,
    extract::Json(given): extract::Json<PasskeyCredential>,
) -> Result<Response> {
    let from = origin(&parts, Client::Browser);
    let done = state.identity().log_in_by_passkey(&from, &given.token, given.credential).await?;
    logged_in(&state, done).await
}

/// Log out
#[utoipa::path(post, path = "/logout", tag = "session", responses((status = 204, description = "Logged out")))]
pub(crate) async fn log_out(holder: Holder, Shared(state): Shared<State>) -> Result<Response> {
    state.identity().end_session(&holder.caller, &holder.session).await?;
    let cookie = set_cookie("", 0, state.settings().secure_cookies);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// The session of the cookie or bearer token
#[utoipa::path(get, path = "/session", tag = "session",
    responses((status = 200, description = "The session", body = SessionView)))]
pub(crate) async fn get_session(holder: Holder, Shared(state): Shared<State>) -> Result<Json<SessionView>> {
    Ok(Json(view(&state, &holder.session).await?))
}

/// Choose an organization
///
/// A session carries rights in one organization, the chosen one. It gets another secret: the answer sets the cookie anew.
#[utoipa::path(post, path = "/session/org", tag = "session", request_body = OrgChoice,
    responses((status = 200, description = "Chosen", body = SessionView)))]
pub(crate) async fn choose_org(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Json(choice): extract::Json<OrgChoice>,
) -> Result<Response> {
    holder.full()?;
    let session = state.identity().switch_org(&holder.caller, &holder.session, &choice.org).await?;
    shown(&state, session, holder.session.kind, None).await
}

/// Choose a new password
///
/// Every other session and every token of the user ends. This session goes on with another secret: the answer sets the
/// cookie anew.
#[utoipa::path(post, path = "/password", tag = "session", request_body = PasswordChange,
    responses((status = 200, description = "Changed", body = SessionView)))]
pub(crate) async fn change_password(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Json(change): extract::Json<PasswordChange>,
) -> Result<Response> {
    let session = password_changed(&state, &holder, &change).await?;
    shown(&state, session, holder.session.kind, None).await
}

/// Changes the password, and gives the session that goes on.
///
/// # Errors
/// 401 for a wrong password, 422 for one that cannot be, 429.
pub(crate) async fn password_changed(state: &State, holder: &Holder, change: &PasswordChange) -> Result<NewSession> {
    let name = &holder.session.principal.name;
    let epoch = state.identity().change_password(&holder.caller, name, &change.current, &change.new).await?;
    Ok(state.identity().continue_session(&holder.session, epoch).await?)
}

fn waiting(pending: Pending) -> PendingView {
    PendingView {
        second_factor: PendingLogin {
            token: pending.token.expose().to_owned(),
            methods: pending.methods,
            expires_at: pending.expires_at,
            passkey_options: pending.passkey_options,
        },
    }
}

async fn logged_in(state: &State, done: LoggedIn) -> Result<Response> {
    shown(state, done.session, SessionKind::Browser, done.recovery_codes_left).await
}

/// A session that has a new secret: in the cookie, or for a command line in the answer.
pub(crate) async fn shown(
    state: &State,
    session: NewSession,
    kind: SessionKind,
    recovery_codes_left: Option<i64>,
) -> Result<Response> {
    let cookie = new_cookie(state, &session, kind);
    let view = SessionView { recovery_codes_left, ..renewed(state, &session, kind).await? };
    let mut response = Json(view).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

/// The cookie of a session that has a new secret, where it is a browser's.
pub(crate) fn new_cookie(state: &State, session: &NewSession, kind: SessionKind) -> Option<http::HeaderValue> {
    let lifetime = session.expires_at - state.identity().now();
    let secure = state.settings().secure_cookies;
    (kind == SessionKind::Browser).then(|| set_cookie(session.token.expose(), lifetime, secure))
}

/// What is told of a session that has a new secret.
pub(crate) async fn renewed(state: &State, session: &NewSession, kind: SessionKind) -> Result<SessionView> {
    let live = state.identity().find_session(&session.token, kind).await?.ok_or(Error::Unauthenticated)?;
    let access_token = (kind == SessionKind::Cli).then(|| session.token.expose().to_owned());
    Ok(SessionView { access_token, ..view(state, &live).await? })
}

/// Notes that the session's holder is in the organization that they chose, unless they must repair their access first.
pub(crate) async fn note_visit(state: &State, live: &LiveSession) {
    let client = if live.kind == SessionKind::Cli { Client::Cli } else { Client::Browser };
    if let (Some(org_id), false, false) = (&live.org_id, live.must_change_password, live.must_enrol) {
        state.identity().note_visit(org_id, &live.principal.user_id, client).await;
    }
}

async fn view(state: &State, live: &LiveSession) -> Result<SessionView> {
    note_visit(state, live).await;
    let mut session = state.db().read().await?;
    let orgs = orgs::list_of_user(&mut session, &live.principal.user_id, "", page::MAX).await?;
    let chosen = orgs.iter().find(|org| live.org_id.as_ref() == Some(&org.id));
    Ok(SessionView {
        id: live.id.clone(),
        user: user(&live.principal),
        csrf_token: live.csrf_token.expose().to_owned(),
        access_token: None,
        expires_at: live.expires_at,
        org: chosen.map(|org| org.slug.clone()),
        organizations: orgs.iter().map(|org| org.slug.clone()).collect(),
        must_change_password: live.must_change_password,
        must_enrol_mfa: live.must_enrol,
        second_factor: live.second_factor,
        recovery_codes_left: None,
    })
}

fn user(principal: &Principal) -> SessionUser {
    SessionUser { id: principal.user_id.clone(), name: principal.name.clone(), operator: principal.operator }
}

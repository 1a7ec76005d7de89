//! `/login`, `/logout`, `/session`, `/password`

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use identity::Secret;
use identity::login::Door;
use identity::rbac::Principal;
use serde::{Deserialize, Serialize};
use storage::orgs;
use utoipa::ToSchema;

use super::set_cookie;
use crate::State;
use crate::actor::Holder;
use crate::error::Result;
use crate::{extract, page, time};

/// Name and password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Credentials {
    /// The user's e-mail.
    #[schema(example = "admin@localhost")]
    username: String,
    /// The user's password.
    #[schema(value_type = String, format = Password)]
    password: Secret,
}

/// A change of one's own password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasswordChange {
    /// The password so far.
    #[schema(value_type = String, format = Password)]
    current: Secret,
    /// The one to be.
    #[schema(value_type = String, format = Password)]
    new: Secret,
}

/// Whose session it is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionUser {
    /// Opaque id.
    id: String,
    /// E-mail.
    name: String,
    /// Whether they run the platform.
    operator: bool,
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SessionView {
    /// Whose it is.
    user: SessionUser,
    /// What requests that change something repeat in the header X-CSRF-Token.
    csrf_token: String,
    /// When it ends.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    expires_at: i64,
    /// Slugs of the organizations that the user is an active member of; at most 500.
    organizations: Vec<String>,
    /// Whether a new password must be chosen before anything else: POST /password.
    must_change_password: bool,
}

/// Log in
///
/// The answer sets the session's cookie. Five failures in 15 minutes lock the name for a while, at every door.
#[utoipa::path(post, path = "/login", tag = "session", request_body = Credentials,
    responses((status = 200, description = "Logged in", body = SessionView)))]
pub(crate) async fn log_in(
    Shared(state): Shared<State>,
    extract::Json(given): extract::Json<Credentials>,
) -> Result<Response> {
    let login = state.identity().login(&given.username, &given.password, Door::Console).await?;
    let session = state.identity().begin_session(&login).await?;
    let lifetime = session.expires_at - state.identity().now();
    let cookie = set_cookie(session.token.expose(), lifetime, state.settings().secure_cookies);
    let view = SessionView {
        organizations: organizations(&state, &login.principal).await?,
        user: user(&login.principal),
        csrf_token: session.csrf_token.expose().to_owned(),
        expires_at: session.expires_at,
        must_change_password: login.must_change_password,
    };
    Ok(([(header::SET_COOKIE, cookie)], Json(view)).into_response())
}

/// Log out
#[utoipa::path(post, path = "/logout", tag = "session", responses((status = 204, description = "Logged out")))]
pub(crate) async fn log_out(holder: Holder, Shared(state): Shared<State>) -> Result<Response> {
    state.identity().end_session(&holder.cookie).await?;
    let cookie = set_cookie("", 0, state.settings().secure_cookies);
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

/// The session of the cookie
#[utoipa::path(get, path = "/session", tag = "session",
    responses((status = 200, description = "The session", body = SessionView)))]
pub(crate) async fn get_session(holder: Holder, Shared(state): Shared<State>) -> Result<Json<SessionView>> {
    let session = &holder.session;
    Ok(Json(SessionView {
        organizations: organizations(&state, &session.principal).await?,
        user: user(&session.principal),
        csrf_token: session.csrf_token.expose().to_owned(),
        expires_at: session.expires_at,
        must_change_password: session.must_change_password,
    }))
}

/// Choose a new password
///
/// Every session, this one too, and every token of the user ends: log in again.
#[utoipa::path(post, path = "/password", tag = "session", request_body = PasswordChange,
    responses((status = 204, description = "Changed")))]
pub(crate) async fn change_password(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Json(change): extract::Json<PasswordChange>,
) -> Result<StatusCode> {
    let name = &holder.session.principal.name;
    state.identity().change_password(&holder.caller, name, &change.current, &change.new).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn user(principal: &Principal) -> SessionUser {
    SessionUser { id: principal.user_id.clone(), name: principal.name.clone(), operator: principal.operator }
}

async fn organizations(state: &State, principal: &Principal) -> Result<Vec<String>> {
    let mut session = state.db().read().await?;
    let orgs = orgs::list_of_user(&mut session, &principal.user_id, "", page::MAX).await?;
    Ok(orgs.into_iter().map(|org| org.slug).collect())
}

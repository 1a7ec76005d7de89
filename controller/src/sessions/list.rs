//! `/account/sessions` and `/orgs/{org}/users/{name}/sessions`

use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::name::normalise;
use identity::rbac::Permission;
use identity::session::NewSession;
use serde::Serialize;
use storage::memberships::{self, Member};
use storage::sessions;
use utoipa::ToSchema;

use super::api::{SessionView, shown};
use crate::State;
use crate::actor::{Actor, Holder};
use crate::error::{Error, Result};
use crate::page::{Page, PageQuery};
use crate::{extract, time};

/// A session, as its owner and administrators see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListedSession {
    /// Its id.
    pub(crate) id: String,
    /// `browser` or `cli`.
    pub(crate) kind: String,
    /// From where it was begun.
    pub(crate) address: String,
    /// What the client called itself.
    pub(crate) agent: String,
    /// Whether a second factor was shown.
    pub(crate) second_factor: bool,
    /// Whether it is the session of this request.
    pub(crate) current: bool,
    /// When it began.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// When it was last used, to the minute.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) last_seen_at: i64,
    /// When it ends at the latest.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: i64,
}

impl ListedSession {
    fn of(row: sessions::Session, current: &str) -> Self {
        Self {
            current: row.id == current,
            id: row.id,
            kind: row.kind,
            address: row.address,
            agent: row.agent,
            second_factor: row.second_factor,
            created_at: row.created_at,
            last_seen_at: row.last_seen_at,
            expires_at: row.expires_at,
        }
    }
}

/// One's own sessions
#[utoipa::path(get, path = "/account/sessions", tag = "account", params(PageQuery),
    responses((status = 200, description = "Live sessions, oldest first", body = Page<ListedSession>)))]
pub(crate) async fn list_own_sessions(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Query(query): extract::Query<PageQuery>,
) -> Result<Json<Page<ListedSession>>> {
    holder.full()?;
    let bounds = query.bounds()?;
    let user_id = &holder.caller.principal.user_id;
    let rows = state.identity().sessions_of(user_id, None, &bounds.after, bounds.fetch()).await?;
    Ok(Json(bounds.page(rows, |row| &row.id, |row| ListedSession::of(row, &holder.session.id))))
}

/// End one of one's own sessions
///
/// What docker keeps, and access tokens, are not had through a session and stay: DELETE /account/sessions ends them too.
#[utoipa::path(delete, path = "/account/sessions/{id}", tag = "account", params(("id" = String, Path)),
    responses((status = 204, description = "Ended")))]
pub(crate) async fn end_own_session(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Path(id): extract::Path<String>,
) -> Result<StatusCode> {
    holder.full()?;
    state.identity().end_own_session(&holder.caller, &id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// End everything else
///
/// Every other session, what docker keeps, and access tokens. This session goes on with another secret.
#[utoipa::path(delete, path = "/account/sessions", tag = "account",
    responses((status = 200, description = "Ended", body = SessionView)))]
pub(crate) async fn end_other_sessions(holder: Holder, Shared(state): Shared<State>) -> Result<Response> {
    let session = others_ended(&state, &holder).await?;
    shown(&state, session, holder.session.kind, None).await
}

/// Ends everything else, and gives the session that goes on.
///
/// # Errors
/// As [`Holder::full`], and those of the database.
pub(crate) async fn others_ended(state: &State, holder: &Holder) -> Result<NewSession> {
    holder.full()?;
    Ok(state.identity().end_other_sessions(&holder.caller, &holder.session).await?)
}

/// Sessions of a member
///
/// Those in which this organization is the chosen one: where people were, and with what. It takes the right to read the
/// organization's audit log.
#[utoipa::path(get, path = "/orgs/{org}/users/{name}/sessions", tag = "users",
    params(("org" = String, Path), ("name" = String, Path), PageQuery),
    responses((status = 200, description = "Live sessions, oldest first", body = Page<ListedSession>)))]
pub(crate) async fn list_sessions(
    actor: Actor,
    Shared(state): Shared<State>,
    extract::Path((org, name)): extract::Path<(String, String)>,
    extract::Query(query): extract::Query<PageQuery>,
) -> Result<Json<Page<ListedSession>>> {
    let org = actor.can_in_org(Permission::AuditRead, &state, &org).await?;
    let bounds = query.bounds()?;
    let member = member(&state, &org.id, &name).await?;
    let rows = state.identity().sessions_of(&member.user_id, Some(&org.id), &bounds.after, bounds.fetch()).await?;
    Ok(Json(bounds.page(rows, |row| &row.id, |row| ListedSession::of(row, ""))))
}

/// End a member's sessions
///
/// Everything that they are logged in with, docker's tokens too, where they belong to this organization alone; else the
/// sessions in which it is the chosen one.
#[utoipa::path(delete, path = "/orgs/{org}/users/{name}/sessions", tag = "users",
    params(("org" = String, Path), ("name" = String, Path)), responses((status = 204, description = "Ended")))]
pub(crate) async fn end_sessions(
    actor: Actor,
    Shared(state): Shared<State>,
    extract::Path((org, name)): extract::Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let member = member(&state, &org.id, &name).await?;
    state.identity().end_sessions_of(&actor.caller, &org.id, &member.user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A member by the name that an administrator knows them by.
pub(crate) async fn member(state: &State, org_id: &str, name: &str) -> Result<Member> {
    let found = memberships::find_by_name(&mut state.db().read().await?, org_id, &normalise(name)).await?;
    found.ok_or(Error::NotFound("user"))
}

//! `/account/mfa`, `/orgs/{org}/users/{name}/mfa/reset`

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use identity::Secret;
use identity::mfa::{Changed, Proof};
use identity::rbac::Permission;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::passkeys;
use utoipa::ToSchema;

use crate::State;
use crate::actor::{Actor, Holder};
use crate::error::{Error, Result};
use crate::sessions::api::{SessionView, new_cookie, renewed};
use crate::sessions::list::member;
use crate::{extract, time};

/// One's second factors.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MfaView {
    /// Whether a log-in by password asks for one.
    pub(crate) enabled: bool,
    /// Whether an organization of the user asks for one.
    pub(crate) required: bool,
    /// When an authenticator app was confirmed.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) totp_since: Option<i64>,
    /// Passkeys.
    pub(crate) passkeys: Vec<PasskeyView>,
    /// Recovery codes that are left.
    pub(crate) recovery_codes: i64,
}

/// A passkey.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PasskeyView {
    /// Its id.
    pub(crate) id: String,
    /// What its owner calls it.
    pub(crate) name: String,
    /// When it was added.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// When it last let in.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_used_at: Option<i64>,
}

impl From<passkeys::Passkey> for PasskeyView {
    fn from(row: passkeys::Passkey) -> Self {
        Self { id: row.id, name: row.name, created_at: row.created_at, last_used_at: row.last_used_at }
    }
}

/// The passkeys of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Passkeys {
    /// At most twenty, oldest first.
    pub(crate) items: Vec<PasskeyView>,
}

/// What an authenticator app needs; shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TotpEnrolment {
    /// The secret in base 32, to be typed.
    pub(crate) secret: String,
    /// The same as an `otpauth://` URI.
    pub(crate) uri: String,
    /// The URI as a QR code: an SVG.
    pub(crate) svg: String,
}

/// A code of the authenticator app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TotpCode {
    /// Six digits.
    #[schema(value_type = String, example = "287082")]
    pub(crate) code: Secret,
}

/// What proves that it is the user who takes the authenticator app away: exactly one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"code": "123456"}))]
pub(crate) struct TotpRemoval {
    /// The password.
    #[schema(value_type = Option<String>, format = Password)]
    pub(crate) password: Option<Secret>,
    /// A code of the app.
    #[schema(value_type = Option<String>)]
    pub(crate) code: Option<Secret>,
}

/// Recovery codes; shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RecoveryCodes {
    /// Ten codes; each lets in once in place of a second factor.
    pub(crate) recovery_codes: Vec<String>,
}

/// What a change of second factors leads to.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MfaChange {
    /// New recovery codes, where some were made; shown this once.
    pub(crate) recovery_codes: Vec<String>,
    /// The session, which has a new secret: the answer sets its cookie.
    pub(crate) session: SessionView,
}

/// A passkey that is being added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PasskeyCreation {
    /// What the next step names it by.
    pub(crate) token: String,
    /// Options for `navigator.credentials.create`, as JSON.
    #[schema(value_type = Object)]
    pub(crate) options: Value,
}

/// A passkey that the browser made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeyToAdd {
    /// What it was begun as.
    #[schema(value_type = String)]
    pub(crate) token: Secret,
    /// What to call it.
    #[schema(example = "laptop")]
    pub(crate) name: String,
    /// What `navigator.credentials.create` gave, as JSON.
    #[schema(value_type = Object)]
    pub(crate) credential: Value,
}

/// What to change of a passkey.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PasskeyChange {
    /// What to call it.
    #[schema(example = "phone", max_length = 64)]
    pub(crate) name: String,
}

/// One's second factors
#[utoipa::path(get, path = "/account/mfa", tag = "account",
    responses((status = 200, description = "Second factors", body = MfaView)))]
pub(crate) async fn get_mfa(holder: Holder, Shared(state): Shared<State>) -> Result<Json<MfaView>> {
    may_enrol(&holder)?;
    let status = state.identity().mfa(&holder.caller.principal.user_id).await?;
    Ok(Json(MfaView {
        enabled: status.totp_since.is_some() || !status.passkeys.is_empty(),
        required: status.required,
        totp_since: status.totp_since,
        passkeys: status.passkeys.into_iter().map(PasskeyView::from).collect(),
        recovery_codes: status.recovery_codes,
    }))
}

/// Begin to enrol an authenticator app
///
/// It counts once a code of it was confirmed.
#[utoipa::path(post, path = "/account/mfa/totp", tag = "account",
    responses((status = 200, description = "What the app needs", body = TotpEnrolment)))]
pub(crate) async fn propose_totp(holder: Holder, Shared(state): Shared<State>) -> Result<Json<TotpEnrolment>> {
    may_enrol(&holder)?;
    let shown = state.identity().propose_totp(&holder.caller).await?;
    let text = |secret: &Secret| secret.expose().to_owned();
    Ok(Json(TotpEnrolment { secret: text(&shown.secret), uri: text(&shown.uri), svg: text(&shown.svg) }))
}

/// Turn the authenticator app on
///
/// Where it is the first factor, everything that was had without one ends; this session goes on.
#[utoipa::path(post, path = "/account/mfa/totp/confirm", tag = "account", request_body = TotpCode,
    responses((status = 200, description = "Turned on", body = MfaChange)))]
pub(crate) async fn confirm_totp(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Json(given): extract::Json<TotpCode>,
) -> Result<Response> {
    let changed = totp_confirmed(&state, &holder, &given).await?;
    show(&state, &holder, changed).await
}

/// Turns the authenticator app on.
///
/// # Errors
/// 422 for a wrong code, 409 where there is one, or none to confirm.
pub(crate) async fn totp_confirmed(state: &State, holder: &Holder, given: &TotpCode) -> Result<Changed> {
    may_enrol(holder)?;
    Ok(state.identity().confirm_totp(&holder.caller, &holder.session, &given.code).await?)
}

/// Remove the authenticator app
#[utoipa::path(delete, path = "/account/mfa/totp", tag = "account", request_body = TotpRemoval,
    responses((status = 200, description = "Removed", body = MfaChange)))]
pub(crate) async fn remove_totp(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Json(given): extract::Json<TotpRemoval>,
) -> Result<Response> {
    let changed = totp_removed(&state, &holder, given).await?;
    show(&state, &holder, changed).await
}

/// Takes the authenticator app away.
///
/// # Errors
/// 401 for a wrong password, 422 for a wrong code, 409 where there is no app.
pub(crate) async fn totp_removed(state: &State, holder: &Holder, given: TotpRemoval) -> Result<Changed> {
    holder.full()?;
    let proof = match (given.password, given.code) {
        (Some(password), None) => Proof::Password(password),
        (None, Some(code)) => Proof::Code(code),
        _ => return Err(Error::Unacceptable("send exactly one of password and code".into())),
    };
    Ok(state.identity().remove_totp(&holder.caller, &holder.session, &proof).await?)
}

/// Make new recovery codes
///
/// Those from before end.
#[utoipa::path(post, path = "/account/mfa/recovery-codes", tag = "account",
    responses((status = 200, description = "Ten codes", body = RecoveryCodes)))]
pub(crate) async fn renew_recovery_codes(holder: Holder, Shared(state): Shared<State>) -> Result<Json<RecoveryCodes>> {
    holder.full()?;
    let codes = state.identity().renew_recovery_codes(&holder.caller, &holder.session).await?;
    Ok(Json(RecoveryCodes { recovery_codes: texts(&codes) }))
}

/// Begin to add a passkey
#[utoipa::path(post, path = "/account/mfa/passkeys/begin", tag = "account",
    responses((status = 200, description = "Options for the browser", body = PasskeyCreation)))]
pub(crate) async fn begin_passkey(holder: Holder, Shared(state): Shared<State>) -> Result<Json<PasskeyCreation>> {
    may_enrol(&holder)?;
    let begun = state.identity().begin_passkey(&holder.caller, &holder.session).await?;
    Ok(Json(PasskeyCreation { token: begun.token.expose().to_owned(), options: begun.options }))
}

/// Add a passkey
///
/// The first factor of a user comes with recovery codes.
#[utoipa::path(post, path = "/account/mfa/passkeys", tag = "account", request_body = PasskeyToAdd,
    responses((status = 201, description = "Added", body = MfaChange)))]
pub(crate) async fn add_passkey(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Json(given): extract::Json<PasskeyToAdd>,
) -> Result<Response> {
    let changed = passkey_added(&state, &holder, &given).await?;
    let mut response = show(&state, &holder, changed).await?;
    *response.status_mut() = StatusCode::CREATED;
    Ok(response)
}

/// Adds a passkey.
///
/// # Errors
/// 422 where it is none, or its name cannot be.
pub(crate) async fn passkey_added(state: &State, holder: &Holder, given: &PasskeyToAdd) -> Result<Changed> {
    may_enrol(holder)?;
    let (caller, session) = (&holder.caller, &holder.session);
    Ok(state.identity().add_passkey(caller, session, &given.token, &given.name, &given.credential).await?)
}

/// One's passkeys
#[utoipa::path(get, path = "/account/mfa/passkeys", tag = "account",
    responses((status = 200, description = "Passkeys", body = Passkeys)))]
pub(crate) async fn list_passkeys(holder: Holder, Shared(state): Shared<State>) -> Result<Json<Passkeys>> {
    may_enrol(&holder)?;
    let status = state.identity().mfa(&holder.caller.principal.user_id).await?;
    Ok(Json(Passkeys { items: status.passkeys.into_iter().map(PasskeyView::from).collect() }))
}

/// Rename a passkey
#[utoipa::path(patch, path = "/account/mfa/passkeys/{id}", tag = "account", params(("id" = String, Path)),
    request_body = PasskeyChange, responses((status = 200, description = "The passkey", body = PasskeyView)))]
pub(crate) async fn rename_passkey(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Path(id): extract::Path<String>,
    extract::Json(given): extract::Json<PasskeyChange>,
) -> Result<Json<PasskeyView>> {
    holder.full()?;
    let renamed = state.identity().rename_passkey(&holder.caller, &holder.session, &id, &given.name).await?;
    Ok(Json(renamed.into()))
}

/// Remove a passkey
#[utoipa::path(delete, path = "/account/mfa/passkeys/{id}", tag = "account", params(("id" = String, Path)),
    responses((status = 200, description = "Removed", body = MfaChange)))]
pub(crate) async fn remove_passkey(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Path(id): extract::Path<String>,
) -> Result<Response> {
    let changed = passkey_removed(&state, &holder, &id).await?;
    show(&state, &holder, changed).await
}

/// Takes a passkey away.
///
/// # Errors
/// 404 where there is none of that id, 403 long after the log-in.
pub(crate) async fn passkey_removed(state: &State, holder: &Holder, id: &str) -> Result<Changed> {
    holder.full()?;
    Ok(state.identity().remove_passkey(&holder.caller, &holder.session, id).await?)
}

/// Take a member's second factors away
///
/// For whoever lost them, recovery codes included. Only where the user belongs to this organization alone: else 409.
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/mfa/reset", tag = "users",
    params(("org" = String, Path), ("name" = String, Path)),
    responses((status = 204, description = "Taken away; everything the user was logged in with ends")))]
pub(crate) async fn reset_mfa(
    actor: Actor,
    Shared(state): Shared<State>,
    extract::Path((org, name)): extract::Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let member = member(&state, &org.id, &name).await?;
    state.identity().reset_mfa(&actor.caller, &org.id, &member.user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whoever must enrol may; whoever has a temporary password chooses another first.
pub(crate) fn may_enrol(holder: &Holder) -> Result<()> {
    if holder.session.must_change_password { Err(Error::PasswordChangeRequired) } else { Ok(()) }
}

pub(crate) fn texts(codes: &[Secret]) -> Vec<String> {
    codes.iter().map(|code| code.expose().to_owned()).collect()
}

async fn show(state: &State, holder: &Holder, changed: Changed) -> Result<Response> {
    let kind = holder.session.kind;
    let cookie = new_cookie(state, &changed.session, kind);
    let session = renewed(state, &changed.session, kind).await?;
    let answer = MfaChange { recovery_codes: texts(&changed.recovery_codes), session };
    let mut response = Json(answer).into_response();
    if let Some(cookie) = cookie {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

//! `/device`

use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, StatusCode, header};
use identity::Secret;
use identity::audit::Client;
use identity::device::{INTERVAL, Polled};
use identity::session::SessionKind;
use serde::{Deserialize, Serialize};
use storage::device_grants::DeviceGrant;
use utoipa::ToSchema;

use crate::State;
use crate::actor::{Holder, origin};
use crate::error::{Error, Result};
use crate::{extract, time};

/// What asks for codes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct DeviceRequest {
    /// What the program calls itself; shown to whoever confirms.
    #[schema(example = "rctl on build-7")]
    pub(crate) client: String,
}

/// The codes of a program that waits (RFC 8628 §3.2).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceCodes {
    /// What the program asks with: POST /device/token.
    pub(crate) device_code: String,
    /// What its user types.
    #[schema(example = "BCDF-GHJK")]
    pub(crate) user_code: String,
    /// Where they type it.
    pub(crate) verification_uri: String,
    /// The same with the code in it.
    pub(crate) verification_uri_complete: String,
    /// Seconds that the codes live.
    pub(crate) expires_in: i64,
    /// Seconds to wait between two questions.
    pub(crate) interval: i64,
}

/// A question what became of a device code.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"device_code": "3f9c…"}))]
pub(crate) struct DeviceQuestion {
    /// The device code.
    #[schema(value_type = String)]
    pub(crate) device_code: Secret,
}

/// The session that was approved.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceToken {
    /// To be sent as `Authorization: Bearer`.
    #[schema(example = "rs1.…")]
    pub(crate) access_token: String,
    /// `Bearer`.
    pub(crate) token_type: &'static str,
    /// When it ends.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: i64,
    /// Who approved.
    pub(crate) user: String,
    /// Slug of the organization that the session is bound to.
    pub(crate) org: Option<String>,
}

/// Why there is no session (RFC 8628 §3.5).
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeviceRefusal {
    /// `authorization_pending`, `slow_down`, `access_denied` or `expired_token`.
    #[schema(example = "authorization_pending")]
    pub(crate) error: &'static str,
}

/// A program that waits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WaitingDevice {
    /// What it calls itself.
    pub(crate) client: String,
    /// From where it asks.
    pub(crate) address: String,
    /// Since when.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// When it gives up.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) expires_at: i64,
}

impl From<DeviceGrant> for WaitingDevice {
    fn from(grant: DeviceGrant) -> Self {
        let DeviceGrant { client, address, created_at, expires_at, .. } = grant;
        Self { client, address, created_at, expires_at }
    }
}

/// Ask for device codes
#[utoipa::path(post, path = "/device/code", tag = "device", request_body = DeviceRequest,
    responses((status = 200, description = "Codes", body = DeviceCodes)))]
pub(crate) async fn begin_device(
    Shared(state): Shared<State>,
    parts: Parts,
    extract::Json(given): extract::Json<DeviceRequest>,
) -> Result<Json<DeviceCodes>> {
    let codes = state.identity().begin_device(&origin(&parts, Client::Cli), &given.client).await?;
    let uri = format!("{}/device", state.identity().controller_url().trim_end_matches('/'));
    let user_code = codes.user_code.expose().to_owned();
    Ok(Json(DeviceCodes {
        device_code: codes.device_code.expose().to_owned(),
        verification_uri_complete: format!("{uri}?code={user_code}"),
        verification_uri: uri,
        user_code,
        expires_in: codes.expires_in,
        interval: INTERVAL,
    }))
}

/// Ask what became of a device code
#[utoipa::path(post, path = "/device/token", tag = "device", request_body = DeviceQuestion,
    responses((status = 200, description = "Approved", body = DeviceToken),
              (status = 400, description = "Not yet, or not at all", body = DeviceRefusal)))]
pub(crate) async fn poll_device(
    Shared(state): Shared<State>,
    parts: Parts,
    extract::Json(given): extract::Json<DeviceQuestion>,
) -> Result<Response> {
    let error = match state.identity().poll_device(&origin(&parts, Client::Cli), &given.device_code).await? {
        Polled::Approved { session, user, org } => {
            let answer = DeviceToken {
                access_token: session.token.expose().to_owned(),
                token_type: "Bearer",
                expires_at: session.expires_at,
                user,
                org,
            };
            return Ok(Json(answer).into_response());
        }
        Polled::Pending => "authorization_pending",
        Polled::SlowDown => "slow_down",
        Polled::Denied => "access_denied",
        Polled::Expired => "expired_token",
    };
    let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"))]);
    Ok((StatusCode::BAD_REQUEST, headers, Json(DeviceRefusal { error })).into_response())
}

/// What waits with a user code
#[utoipa::path(get, path = "/device/{user_code}", tag = "device", params(("user_code" = String, Path)),
    responses((status = 200, description = "What asks, and from where", body = WaitingDevice)))]
pub(crate) async fn get_device(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Path(user_code): extract::Path<String>,
) -> Result<Json<WaitingDevice>> {
    holder.full()?;
    Ok(Json(state.identity().find_device(&holder.caller, &user_code).await?.into()))
}

/// Approve a device
///
/// It gets a session of its own, with the rights and the organization of this one. Only a browser's session approves: the
/// token of a command line that was stolen would otherwise make itself successors.
#[utoipa::path(post, path = "/device/{user_code}/approve", tag = "device", params(("user_code" = String, Path)),
    responses((status = 204, description = "Approved")))]
pub(crate) async fn approve_device(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Path(user_code): extract::Path<String>,
) -> Result<StatusCode> {
    holder.full()?;
    if holder.session.kind != SessionKind::Browser {
        return Err(Error::Forbidden("approve devices in a browser"));
    }
    state.identity().decide_device(&holder.caller, &holder.session, &user_code, true).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Deny a device
#[utoipa::path(post, path = "/device/{user_code}/deny", tag = "device", params(("user_code" = String, Path)),
    responses((status = 204, description = "Denied")))]
pub(crate) async fn deny_device(
    holder: Holder,
    Shared(state): Shared<State>,
    extract::Path(user_code): extract::Path<String>,
) -> Result<StatusCode> {
    holder.full()?;
    state.identity().decide_device(&holder.caller, &holder.session, &user_code, false).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! The token service's answers to what goes wrong: the only place that knows statuses.
//!
//! The body is the registry's (`{"errors":[{"code","message"}]}`), whose message docker prints. To POST the OAuth2 fields
//! (RFC 6749 §5.2) are added to it.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use identity::access::IssueError;
use identity::federation::ExchangeError;
use identity::limits::Throttled;
use identity::login::LoginError;
use identity::scope::ScopeError;
use serde_json::json;

/// What clients are asked for: `Basic` alone, which every one of them speaks at the token endpoint.
const CHALLENGE: HeaderValue = HeaderValue::from_static("Basic realm=\"wharfinger\", charset=\"UTF-8\"");

/// Why no token was given.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The request makes no sense.
    #[error("{message}")]
    Invalid {
        /// The OAuth2 error.
        oauth: &'static str,
        /// What would be accepted.
        message: String,
    },
    /// More than is read.
    #[error("the request is too large: at most {} KiB", crate::request::MAX_BODY / 1024)]
    TooLarge,
    /// The body did not arrive in time.
    #[error("the request took too long to arrive")]
    Slow,
    /// The caller was not let in.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// A token of an issuer does not stand for the account that it was shown for.
    #[error("this token does not stand for that account: the organization's audit log says why")]
    Exchange,
    /// A token could not be made.
    #[error("tokens cannot be issued at this moment")]
    Issue(#[from] IssueError),
    /// The rows could not be written.
    #[error("tokens cannot be issued at this moment")]
    Storage(#[from] storage::Error),
}

impl Error {
    /// 400 with an OAuth2 error of RFC 6749 §5.2.
    pub(crate) fn invalid(oauth: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { oauth, message: message.into() }
    }

    fn wire(&self) -> Wire {
        match self {
            Self::Invalid { oauth, .. } => Wire::new(StatusCode::BAD_REQUEST, "INVALID_REQUEST", oauth),
            // RFC 6749 §5.2.
            Self::Exchange => Wire::new(StatusCode::BAD_REQUEST, "UNAUTHORIZED", "invalid_grant"),
            Self::TooLarge => Wire::new(StatusCode::PAYLOAD_TOO_LARGE, "SIZE_INVALID", "invalid_request"),
            Self::Slow => Wire::new(StatusCode::REQUEST_TIMEOUT, "INVALID_REQUEST", "invalid_request"),
            Self::Login(
                LoginError::Refused
                | LoginError::MustChangePassword
                | LoginError::ApiKeyRequired
                | LoginError::SecondFactor(_)
                | LoginError::WrongFactor
                | LoginError::Ended
                | LoginError::NoPasskeys,
            ) => Wire::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "invalid_grant"),
            Self::Login(LoginError::Locked { retry_after } | LoginError::Busy { retry_after }) => {
                Wire::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "temporarily_unavailable")
                    .after(*retry_after)
            }
            Self::Login(LoginError::Throttled(Throttled { retry_after })) => {
                Wire::new(StatusCode::TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "temporarily_unavailable")
                    .after(*retry_after)
            }
            Self::Login(LoginError::Unavailable(_)) | Self::Issue(_) | Self::Storage(_) => {
                Wire::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "temporarily_unavailable").after(1)
            }
        }
    }

    /// The answer; with the OAuth2 fields where the request was a POST.
    pub(crate) fn respond(self, oauth: bool) -> Response {
        let wire = self.wire();
        if wire.status.is_server_error() {
            tracing::error!(error = &self as &dyn std::error::Error, "no token issued");
        }
        let message = self.to_string();
        let mut body = json!({ "errors": [{ "code": wire.code, "message": message }] });
        if oauth {
            body["error"] = wire.oauth.into();
            body["error_description"] = message.into();
        }
        let mut response = (wire.status, Json(body)).into_response();
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if wire.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 §15.5.2 wants a challenge with every 401.
            headers.insert(WWW_AUTHENTICATE, CHALLENGE);
        }
        if let Some(seconds) = wire.retry_after {
            headers.insert(RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<ExchangeError> for Error {
    fn from(error: ExchangeError) -> Self {
        match error {
            ExchangeError::Refused => Self::Exchange,
            ExchangeError::Throttled(throttled) => LoginError::Throttled(throttled).into(),
            ExchangeError::Unavailable(error) => LoginError::Unavailable(error).into(),
        }
    }
}

impl From<ScopeError> for Error {
    fn from(error: ScopeError) -> Self {
        Self::invalid("invalid_scope", error.to_string())
    }
}

struct Wire {
    status: StatusCode,
    code: &'static str,
    oauth: &'static str,
    retry_after: Option<i64>,
}

impl Wire {
    fn new(status: StatusCode, code: &'static str, oauth: &'static str) -> Self {
        Self { status, code, oauth, retry_after: None }
    }

    fn after(self, seconds: i64) -> Self {
        Self { retry_after: Some(seconds.max(1)), ..self }
    }
}

/// 405; the router names the methods in `Allow`.
pub(crate) async fn method_not_allowed() -> Response {
    plain(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", "that path takes GET, and /token takes POST too")
}

/// 404.
pub(crate) async fn not_found() -> Response {
    plain(StatusCode::NOT_FOUND, "UNSUPPORTED", "this is the token service: there is /token, and nothing here")
}

fn plain(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "errors": [{ "code": code, "message": message }] }))).into_response()
}

//! What can go wrong, as problem details (RFC 9457). The one place of the controller that knows status codes of failures.

use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use identity::admin::AdminError;
use identity::device::DeviceError;
use identity::limits::Throttled;
use identity::login::LoginError;
use identity::mfa::MfaError;
use identity::rbac::{Denial, RuleError};
use serde::Serialize;
use utoipa::ToSchema;

use crate::audit::Refused;

/// Result of a handler.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure, in the terms of whoever called.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No credentials, or ones that are not (or no longer) good.
    #[error("log in: send the session cookie, or an API key as `Authorization: Bearer` or `X-API-KEY`")]
    Unauthenticated,
    /// A log-in with a name and password that do not fit. Says neither which, nor whether the name exists.
    #[error("the user name or the password is wrong")]
    BadCredentials,
    /// Too many failures of that name, or a machine that is busy with others' passwords.
    #[error("{reason}")]
    TryLater {
        /// How long to wait.
        seconds: i64,
        /// What for.
        reason: String,
    },
    /// The session may do nothing else before its user has chosen a new password.
    #[error("choose a new password first: POST /api/v1/password")]
    PasswordChangeRequired,
    /// The session may do nothing else before its user has a second factor.
    #[error(
        "an organization of yours asks for a second factor: enrol one first, POST /api/v1/account/mfa/totp or …/passkeys/begin"
    )]
    MfaEnrolmentRequired,
    /// A second factor that is not right.
    #[error("that code or passkey is not right, was used already, or came too late")]
    WrongFactor,
    /// A log-in of two steps that is over before its second.
    #[error("this log-in took too long or was tried too often: begin again")]
    LoginEnded,
    /// An unsafe request of a session without the session's token.
    #[error("the header X-CSRF-Token is missing or not the session's: GET /api/v1/session tells it")]
    CsrfToken,
    /// A page of an organization that the session did not choose: only the console asks.
    #[error("this is a page of the organization {0}, and your session works in another one")]
    OtherOrg(String),
    /// The caller may see the thing, but not do that to it.
    #[error("{0}")]
    Denied(Denial),
    /// Something that this caller never may do, for the reason given.
    #[error("{0}")]
    Forbidden(&'static str),
    /// Nothing of that name that the caller may see.
    #[error("there is no such {0}, or you may not see it")]
    NotFound(&'static str),
    /// No route has that path.
    #[error("there is nothing at this path: GET /api/v1/openapi.json lists what there is")]
    NoRoute,
    /// The path has other methods.
    #[error("this path does not know that method")]
    MethodNotAllowed,
    /// A name is taken, or what is to be changed is not as it would have to be.
    #[error("{0}")]
    Conflict(String),
    /// What is to be changed is no longer the version that the caller read.
    #[error("it was changed since you read it: read it again, and send its new ETag as If-Match")]
    Changed,
    /// Something else would be deleted than the caller was told.
    #[error(
        "something was pushed or deleted there since: GET /api/v1/orgs/{{org}}/deletion tells what would go now, and its mark"
    )]
    Moved,
    /// The first request with an `Idempotency-Key` still runs.
    #[error("the first request with that Idempotency-Key still runs: ask again in a moment")]
    InProgress,
    /// A request that cannot be read.
    #[error("{0}")]
    Malformed(String),
    /// The body's type is not JSON.
    #[error("send the body as JSON, with Content-Type: application/json")]
    NotJson,
    /// The body is larger than any that makes sense here.
    #[error("the body is larger than {} KiB", crate::extract::MAX_BODY / 1024)]
    TooLarge,
    /// A field whose value cannot be.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What would be accepted.
        reason: String,
    },
    /// A request that can be read and makes no sense.
    #[error("{0}")]
    Unacceptable(String),
    /// Something that this cannot do without does not answer.
    #[error("{0}")]
    Unavailable(&'static str),
    /// Something of ours broke. The cause goes to the log, never to the caller.
    #[error("internal error")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The body of every failure (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem it is: `urn:wharfinger:problem:…`.
    #[serde(rename = "type")]
    #[schema(example = "urn:wharfinger:problem:not-found")]
    pub kind: String,
    /// The kind in words.
    pub title: &'static str,
    /// The status code.
    #[schema(example = 404)]
    pub status: u16,
    /// What was wrong with this request, and what to do.
    pub detail: String,
    /// The field that is wrong, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<&'static str>,
    /// The permission that is missing, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub permission: Option<&'static str>,
    /// Why it is missing: what each role of the caller lacks there. Whoever sees the thing may know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// The organization that a page belongs to, where the session works in another one.
    #[serde(skip)]
    pub(crate) other_org: Option<String>,
}

impl Problem {
    /// The last part of its kind.
    pub(crate) fn which(&self) -> &str {
        self.kind.rsplit(':').next().unwrap_or_default()
    }
}

impl Error {
    /// A field whose value cannot be.
    pub fn invalid(field: &'static str, reason: &(impl ToString + ?Sized)) -> Self {
        Self::Invalid { field, reason: reason.to_string() }
    }

    /// Something of ours that broke.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal(cause.into())
    }

    /// The status that it is answered with.
    pub(crate) fn status(&self) -> StatusCode {
        self.kind().0
    }

    fn kind(&self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "Authentication required"),
            Self::BadCredentials => (StatusCode::UNAUTHORIZED, "bad-credentials", "Log-in refused"),
            Self::TryLater { .. } => (StatusCode::TOO_MANY_REQUESTS, "try-later", "Too many requests"),
            Self::PasswordChangeRequired => {
                (StatusCode::FORBIDDEN, "password-change-required", "A new password is needed")
            }
            Self::MfaEnrolmentRequired => {
                (StatusCode::FORBIDDEN, "mfa-enrolment-required", "A second factor is needed")
            }
            Self::WrongFactor => (StatusCode::UNAUTHORIZED, "wrong-factor", "Second factor refused"),
            Self::LoginEnded => (StatusCode::UNAUTHORIZED, "login-ended", "Log-in ended"),
            Self::CsrfToken => (StatusCode::FORBIDDEN, "csrf-token", "CSRF token missing"),
            Self::OtherOrg(_) => (StatusCode::CONFLICT, "other-org", "Another organization"),
            Self::Denied(_) => (StatusCode::FORBIDDEN, "denied", "Permission missing"),
            Self::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "Not allowed"),
            Self::NotFound(_) => (StatusCode::NOT_FOUND, "not-found", "Not found"),
            Self::NoRoute => (StatusCode::NOT_FOUND, "no-route", "No such path"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "Method not allowed"),
            Self::Conflict(_) => (StatusCode::CONFLICT, "conflict", "Conflict"),
            Self::Changed => (StatusCode::PRECONDITION_FAILED, "changed", "Changed meanwhile"),
            Self::Moved => (StatusCode::PRECONDITION_FAILED, "moved", "Something else would go"),
            Self::InProgress => (StatusCode::CONFLICT, "in-progress", "Request in progress"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed", "Malformed request"),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "not-json", "Unsupported media type"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "Body too large"),
            Self::Invalid { .. } => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "Invalid value"),
            Self::Unacceptable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "unacceptable", "Request makes no sense"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "Unavailable"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Internal error"),
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, kind, title) = self.kind();
        if let Self::Internal(cause) = &self {
            tracing::error!(error = chain(cause.as_ref()), "a request failed");
        }
        let problem = Problem {
            kind: format!("urn:wharfinger:problem:{kind}"),
            title,
            status: status.as_u16(),
            detail: self.to_string(),
            field: if let Self::Invalid { field, .. } = &self { Some(field) } else { None },
            why: match &self {
                Self::Denied(denial) => denial.because.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            },
            permission: if let Self::Denied(denial) = &self { Some(denial.permission.as_str()) } else { None },
            other_org: if let Self::OtherOrg(org) = &self { Some(org.clone()) } else { None },
        };
        let refused = Refused { reason: problem.detail.clone(), permission: problem.permission };
        let mut response = (status, axum::Json(&problem)).into_response();
        response.extensions_mut().insert(Arc::new(problem));
        if matches!(status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND) {
            response.extensions_mut().insert(refused);
        }
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            // RFC 9110 §15.5.2: a 401 carries a challenge.
            Self::Unauthenticated | Self::BadCredentials | Self::WrongFactor | Self::LoginEnded => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"wharfinger\""));
            }
            Self::TryLater { seconds, .. } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Unavailable(_) | Self::InProgress => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            }
            _ => {}
        }
        response
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl From<storage::Error> for Error {
    fn from(error: storage::Error) -> Self {
        match error {
            storage::Error::NotFound(what) => Self::NotFound(what),
            storage::Error::Conflict(what) => Self::Conflict(what.to_string()),
            storage::Error::Version => Self::Changed,
            storage::Error::Unavailable(_) => {
                tracing::error!(error = chain(&error), "the database did not answer in time");
                Self::Unavailable("the database did not answer in time: try again")
            }
            storage::Error::Busy(_) => Self::Unavailable("the audit log is behind: try again"),
            other => Self::internal(other),
        }
    }
}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl From<LoginError> for Error {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Refused => Self::BadCredentials,
            LoginError::Locked { retry_after } | LoginError::Busy { retry_after } => {
                Self::TryLater { seconds: retry_after.max(1), reason: error.to_string() }
            }
            LoginError::Throttled(Throttled { retry_after }) => {
                Self::TryLater { seconds: retry_after.max(1), reason: error.to_string() }
            }
            LoginError::MustChangePassword => Self::PasswordChangeRequired,
            LoginError::ApiKeyRequired => Self::Forbidden("use an API key in place of the password"),
            // Only `POST /login` logs in with a password, and goes on from there by itself.
            LoginError::SecondFactor(_) => Self::LoginEnded,
            LoginError::WrongFactor => Self::WrongFactor,
            LoginError::Ended => Self::LoginEnded,
            LoginError::NoPasskeys => Self::Conflict(error.to_string()),
            LoginError::Unavailable(error) => error.into(),
        }
    }
}

impl From<RuleError> for Error {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Repositories(pattern) => Self::invalid("repositories", &pattern),
            RuleError::Tags(pattern) => Self::invalid("tags", &pattern),
            other => Self::Unacceptable(other.to_string()),
        }
    }
}

impl From<AdminError> for Error {
    fn from(error: AdminError) -> Self {
        match error {
            AdminError::Invalid(reason) => Self::Unacceptable(reason.to_owned()),
            AdminError::Field { field, reason } => Self::Invalid { field, reason: reason.to_owned() },
            AdminError::KeyTooLong { .. } => Self::invalid("valid_days", &error),
            AdminError::Password(error) => Self::invalid("password", &error),
            AdminError::Denied(denial) => Self::Denied(denial),
            AdminError::Rule(error) => error.into(),
            AdminError::Moved => Self::Moved,
            AdminError::LastAdmin => Self::Conflict(error.to_string()),
            AdminError::Invited { retry_after } => {
                Self::TryLater { seconds: retry_after.max(1), reason: error.to_string() }
            }
            AdminError::Login(error) => error.into(),
            AdminError::Busy(busy) => LoginError::from(busy).into(),
            AdminError::Storage(error) => error.into(),
        }
    }
}

impl From<Throttled> for Error {
    fn from(error: Throttled) -> Self {
        Self::TryLater { seconds: error.retry_after.max(1), reason: error.to_string() }
    }
}

impl From<MfaError> for Error {
    fn from(error: MfaError) -> Self {
        match error {
            MfaError::Wrong => Self::Invalid { field: "code", reason: error.to_string() },
            MfaError::Name => Self::invalid("name", &error),
            MfaError::Enrolled
            | MfaError::NotEnrolled
            | MfaError::NoFactor
            | MfaError::TooMany
            | MfaError::NoPasskeys
            | MfaError::Elsewhere => Self::Conflict(error.to_string()),
            MfaError::Denied(denial) => Self::Denied(denial),
            MfaError::Machine => Self::Forbidden("second factors are for people"),
            MfaError::Stale => {
                Self::Forbidden("log in again first: second factors are changed within 15 minutes of a log-in")
            }
            MfaError::Damaged => Self::internal(error),
            MfaError::Login(error) => error.into(),
            MfaError::Storage(error) => error.into(),
        }
    }
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        match error {
            DeviceError::Throttled(error) => error.into(),
            DeviceError::Storage(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http_body_util::BodyExt;

    #[tokio::test]
    async fn what_broke_inside_is_not_told() {
        let response = Error::internal("password=hunter2").into_response();
        assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("hunter2"));
    }

    #[test]
    fn whoever_has_to_wait_is_told_how_long() {
        assert_eq!(
            Error::TryLater { seconds: 7, reason: String::new() }.into_response().headers()[header::RETRY_AFTER],
            "7"
        );
        assert!(Error::Unauthenticated.into_response().headers().contains_key(header::WWW_AUTHENTICATE));
    }
}

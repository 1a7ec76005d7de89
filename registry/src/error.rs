//! The registry's answers to what goes wrong: one enum of codes, mapped to HTTP here and nowhere else.
//!
//! Codes and body are those of distribution-spec 1.1.1, "Error Codes".

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use identity::token::Bearer;
use serde::Serialize;
use storage::names::{NameError, RepoName};
use storage::uploads::Upload;

/// Error codes of the specification, and the few statuses that have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)] // The specification describes them.
pub enum Code {
    BlobUnknown,
    BlobUploadInvalid,
    BlobUploadUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestUnknown,
    NameInvalid,
    NameUnknown,
    SizeInvalid,
    Unauthorized,
    Denied,
    Unsupported,
    #[serde(rename = "TOOMANYREQUESTS")]
    TooManyRequests,
    /// Not of the specification: a fault on this side (5xx).
    Unknown,
}

/// An answer other than success.
#[derive(Debug)]
pub struct Error(Box<Answer>);

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    code: Code,
    message: String,
    detail: serde_json::Value,
    headers: HeaderMap,
    /// What the operator's log says; never sent.
    cause: Option<storage::Error>,
    /// What the audit log says; never sent.
    owner: Option<Owner>,
}

/// Whose upload it was that they may no longer go on with.
#[derive(Debug)]
pub(crate) struct Owner {
    /// Id of the user.
    pub(crate) user_id: String,
    /// The API key that it was begun with.
    pub(crate) api_key_id: Option<String>,
    /// Canonical name of the repository.
    pub(crate) repository: String,
}

/// A handler's result.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error with a message that says what to do.
    pub fn new(status: StatusCode, code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Answer {
            status,
            code,
            message: message.into(),
            detail: serde_json::Value::Null,
            headers: HeaderMap::new(),
            cause: None,
            owner: None,
        }))
    }

    /// For an upload that its owner may no longer go on with.
    #[must_use]
    pub(crate) fn of(mut self, upload: &Upload) -> Self {
        let Upload { user_id, api_key_id, repository, .. } = upload.clone();
        self.0.owner = Some(Owner { user_id, api_key_id, repository });
        self
    }

    /// The same, by the holder of a token who is pushing something else to a repository.
    pub(crate) fn of_holder(mut self, bearer: &Bearer, repo: &RepoName) -> Self {
        let (user_id, api_key_id) = (bearer.user.clone().unwrap_or_default(), bearer.key.clone());
        self.0.owner = Some(Owner { user_id, api_key_id, repository: repo.canonical().to_owned() });
        self
    }

    /// Whose upload it was, where they may no longer go on with it.
    pub(crate) fn owner(&self) -> Option<&Owner> {
        self.0.owner.as_ref()
    }

    /// 400.
    pub fn bad(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// 404.
    pub fn missing(code: Code, message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, code, message)
    }

    /// 404 for a repository that does not exist.
    pub fn no_repository(name: &storage::names::RepoName) -> Self {
        Self::missing(Code::NameUnknown, "repository does not exist; it comes into being with the first push")
            .detail(serde_json::json!({ "name": name.as_spelled() }))
    }

    /// 405, naming the methods that the path takes.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, Code::Unsupported, "this path does not take that method")
            .header(ALLOW, HeaderValue::from_static(allow))
    }

    /// 401 with a challenge.
    pub fn challenge(code: Code, message: impl Into<String>, challenge: &str) -> Self {
        let mut error = Self::new(StatusCode::UNAUTHORIZED, code, message);
        if let Ok(value) = HeaderValue::from_str(challenge) {
            error.0.headers.insert(WWW_AUTHENTICATE, value);
        }
        error
    }

    /// 416 for a blob of that size.
    pub fn range_not_satisfiable(size: u64) -> Self {
        let error = Self::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            Code::SizeInvalid,
            format!("the range lies outside the blob, which has {size} bytes"),
        );
        match HeaderValue::try_from(format!("bytes */{size}")) {
            Ok(value) => error.header(CONTENT_RANGE, value),
            Err(_) => error,
        }
    }

    /// 429 or 503: the same request works in a moment.
    pub fn retry(status: StatusCode, message: impl Into<String>, seconds: u32) -> Self {
        Self::new(status, Code::TooManyRequests, message).header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.insert(name, value);
        self
    }

    /// Adds detail.
    #[must_use]
    pub fn detail(mut self, detail: serde_json::Value) -> Self {
        self.0.detail = detail;
        self
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }
}

impl From<storage::Error> for Error {
    fn from(cause: storage::Error) -> Self {
        use storage::Error as E;
        let mut error = match &cause {
            E::NotFound(_) => {
                Self::missing(Code::BlobUploadUnknown, "that upload does not exist or has ended; begin again")
            }
            E::Conflict(_) => {
                Self::retry(StatusCode::TOO_MANY_REQUESTS, "another request is writing the same thing; try again", 1)
            }
            E::NoSpace(_) => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                Code::Unknown,
                "the registry has no space left; nothing was stored, try again when its operator has made room",
            ),
            E::Unavailable(_) => {
                Self::retry(StatusCode::SERVICE_UNAVAILABLE, "the registry's database does not answer; try again", 2)
            }
            E::Busy(_) => Self::retry(
                StatusCode::SERVICE_UNAVAILABLE,
                "the registry cannot record what it gives out at this moment; try again",
                5,
            ),
            E::Damaged(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Unknown,
                "the stored content is damaged; tell the registry's operator",
            ),
            _ => Self::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Unknown, "internal error"),
        };
        error.0.cause = Some(cause);
        error
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        let code = match error {
            NameError::Repository | NameError::Slug => Code::NameInvalid,
            NameError::Tag => Code::ManifestInvalid,
            NameError::Digest | NameError::Algorithm => Code::DigestInvalid,
        };
        Self::bad(code, error.to_string())
    }
}

#[derive(Serialize)]
struct Wire<'a> {
    errors: [WireError<'a>; 1],
}

#[derive(Serialize)]
struct WireError<'a> {
    code: Code,
    message: &'a str,
    #[serde(skip_serializing_if = "serde_json::Value::is_null")]
    detail: &'a serde_json::Value,
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let answer = *self.0;
        if let Some(cause) = &answer.cause
            && answer.status.is_server_error()
        {
            let cause: &dyn std::error::Error = cause;
            tracing::error!(error = cause, status = answer.status.as_u16(), "registry request failed");
        }
        let wire = Wire { errors: [WireError { code: answer.code, message: &answer.message, detail: &answer.detail }] };
        let body = serde_json::to_vec(&wire).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

//! Versions: a resource carries the strong `ETag` `"<version>"`, and a change may say with `If-Match` which version it was
//! made for (RFC 9110 §13.1.1). Whoever was faster wins; the other gets 412 and reads again.

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;

use crate::error::{Error, Result};

/// The version that a change was made for; `None` where the caller does not care. To be handed to storage's `expected`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IfMatch(pub(crate) Option<i64>);

/// A version that no row has: what is not one of our tags matches nothing.
const NONE: i64 = -1;

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let mut values = parts.headers.get_all(header::IF_MATCH).into_iter();
        let Some(value) = values.next() else { return Ok(Self(None)) };
        let text = value.to_str().unwrap_or_default().trim();
        if values.next().is_some() || text.contains(',') {
            return Err(Error::Malformed("If-Match: name one ETag".into()));
        }
        Ok(Self(if text == "*" { None } else { Some(version(text).unwrap_or(NONE)) }))
    }
}

/// `"<version>"`; weak tags never match (RFC 9110 §8.8.3.2).
fn version(text: &str) -> Option<i64> {
    let digits = text.strip_prefix('"')?.strip_suffix('"')?;
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// The header of a version.
fn header_of(version: i64) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{version}\"")).unwrap_or_else(|_| HeaderValue::from_static("\"0\""))
}

/// A resource with its `ETag`.
#[derive(Debug)]
pub(crate) struct Versioned<T>(pub(crate) i64, pub(crate) T);

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        ([(header::ETAG, header_of(self.0))], Json(self.1)).into_response()
    }
}

/// The header of [`IfMatch`], for the document: a handler that takes one names it among its `params(…)`.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub(crate) struct IfMatchHeader {
    /// The `ETag` of what the change was made for; without it, or with `*`, any version is changed.
    #[param(rename = "If-Match", example = "\"1\"", required = false)]
    if_match: Option<String>,
}

/// 201: what was created, where it is to be found, and its version where it has one.
#[derive(Debug)]
pub(crate) struct Created<T> {
    /// Path below `/api/v1`, its variable parts by [`segment`].
    pub(crate) at: String,
    /// Its version.
    pub(crate) version: Option<i64>,
    /// It.
    pub(crate) body: T,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.body)).into_response();
        if let Ok(location) = HeaderValue::from_str(&format!("/api/v1{}", self.at)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if let Some(version) = self.version {
            response.headers_mut().insert(header::ETAG, header_of(version));
        }
        response
    }
}

/// A name as one segment of a path: what is not unreserved, nor allowed there as it is (RFC 3986 §3.3), is encoded.
pub(crate) fn segment(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use http::Request;

    async fn read(values: &[&str]) -> Result<IfMatch> {
        let request = values.iter().fold(Request::builder(), |r, value| r.header(header::IF_MATCH, *value));
        IfMatch::from_request_parts(&mut request.body(()).unwrap().into_parts().0, &()).await
    }

    #[tokio::test]
    async fn a_tag_is_its_version_and_anything_else_matches_nothing() {
        assert_eq!(read(&[]).await.unwrap(), IfMatch(None));
        assert_eq!(read(&["*"]).await.unwrap(), IfMatch(None));
        assert_eq!(read(&["\"7\""]).await.unwrap(), IfMatch(Some(7)));
        for other in ["W/\"7\"", "7", "\"seven\"", "\"\"", "\"-7\"", "", "\"99999999999999999999\""] {
            assert_eq!(read(&[other]).await.unwrap(), IfMatch(Some(NONE)), "{other}");
        }
        assert!(read(&["\"1\", \"2\""]).await.is_err());
        assert!(read(&["\"1\"", "\"2\""]).await.is_err());
    }

    #[test]
    fn names_are_one_segment() {
        assert_eq!(segment("ann+x@example.com"), "ann+x@example.com");
        assert_eq!(segment("a/b c?é"), "a%2Fb%20c%3F%C3%A9");
    }
}

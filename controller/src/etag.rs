//! Versions: a resource carries the strong `ETag` `"<version>-<whose>"`, and a change may say with `If-Match` which version it
//! was made for (RFC 9110 §13.1.1). Whoever was faster wins; the other gets 412 and reads again. Whose it is, is part of it:
//! what was read of one resource fits no other, nor a later one of the same name.

use std::fmt;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use storage::digest::digest_of;
use storage::names::Algorithm;

use crate::error::{Error, Result};

/// What an `ETag` says: which version, of which resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag {
    version: i64,
    of: u32,
}

impl Tag {
    /// That of a version of the resource with an id that no other has, nor will.
    pub(crate) fn new(id: &str, version: i64) -> Self {
        Self { version, of: short(id) }
    }

    /// `"<version>-<8 hexadecimal digits>"`; weak tags never match (RFC 9110 §8.8.3.2).
    fn parse(text: &str) -> Option<Self> {
        let (version, of) = text.strip_prefix('"')?.strip_suffix('"')?.split_once('-')?;
        let digits = version.bytes().all(|b| b.is_ascii_digit());
        let hex = of.len() == 8 && of.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        (digits && hex).then_some(())?;
        Some(Self { version: version.parse().ok()?, of: u32::from_str_radix(of, 16).ok()? })
    }

    fn header(self) -> HeaderValue {
        HeaderValue::from_str(&self.to_string()).unwrap_or_else(|_| HeaderValue::from_static("\"\""))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}-{:08x}\"", self.version, self.of)
    }
}

/// Enough of a hash of an id to tell two apart that come to the same name.
fn short(id: &str) -> u32 {
    let digest = digest_of(Algorithm::Sha256, id.as_bytes());
    digest.hex().get(..8).and_then(|hex| u32::from_str_radix(hex, 16).ok()).unwrap_or_default()
}

/// What a change was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Whatever is there.
    Any,
    /// This; `None` is what was never one of our tags, and matches nothing.
    Only(Option<Tag>),
}

/// A version that no row has.
const NONE: i64 = -1;

impl IfMatch {
    /// What the text of a header says.
    pub(crate) fn of(text: &str) -> Self {
        if text == "*" { Self::Any } else { Self::Only(Tag::parse(text)) }
    }

    /// The version that the resource of this id must have, to be handed to storage's `expected`; `None` where the caller
    /// does not care. For the tag of anything else it is one that no row has.
    pub(crate) fn expected(self, id: &str) -> Option<i64> {
        match self {
            Self::Any => None,
            Self::Only(tag) => Some(tag.filter(|tag| tag.of == short(id)).map_or(NONE, |tag| tag.version)),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let mut values = parts.headers.get_all(header::IF_MATCH).into_iter();
        let Some(value) = values.next() else { return Ok(Self::Any) };
        let text = value.to_str().unwrap_or_default().trim();
        if values.next().is_some() || text.contains(',') {
            return Err(Error::Malformed("If-Match: name one ETag".into()));
        }
        Ok(Self::of(text))
    }
}

/// A resource with its `ETag`.
#[derive(Debug)]
pub(crate) struct Versioned<T>(pub(crate) Tag, pub(crate) T);

impl<T: Serialize> IntoResponse for Versioned<T> {
    fn into_response(self) -> Response {
        ([(header::ETAG, self.0.header())], Json(self.1)).into_response()
    }
}

/// The header of [`IfMatch`], for the document: a handler that takes one names it among its `params(…)`.
#[derive(Debug, utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[allow(dead_code)]
pub(crate) struct IfMatchHeader {
    /// The `ETag` of what the change was made for; without it, or with `*`, any version is changed.
    #[param(rename = "If-Match", example = "\"1-5feceb66\"", required = false)]
    if_match: Option<String>,
}

/// 201: what was created, where it is to be found, and its version where it has one.
#[derive(Debug)]
pub(crate) struct Created<T> {
    /// Path below `/api/v1`, its variable parts by [`segment`].
    pub(crate) at: String,
    /// Its version, where it has one.
    pub(crate) tag: Option<Tag>,
    /// It.
    pub(crate) body: T,
}

impl<T: Serialize> IntoResponse for Created<T> {
    fn into_response(self) -> Response {
        let mut response = (StatusCode::CREATED, Json(self.body)).into_response();
        if let Ok(location) = HeaderValue::from_str(&format!("/api/v1{}", self.at)) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if let Some(tag) = self.tag {
            response.headers_mut().insert(header::ETAG, tag.header());
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
    async fn a_tag_is_a_version_of_one_resource_and_anything_else_matches_nothing() {
        assert_eq!(read(&[]).await.unwrap(), IfMatch::Any);
        assert_eq!(read(&["*"]).await.unwrap(), IfMatch::Any);
        assert_eq!(IfMatch::Any.expected("one"), None);
        let tag = Tag::new("one", 7).to_string();
        assert_eq!(tag, "\"7-7692c3ad\"");
        let given = read(&[&tag]).await.unwrap();
        assert_eq!(given.expected("one"), Some(7));
        assert_eq!(given.expected("another"), Some(NONE));
        let others =
            ["W/\"7-7692c3ad\"", "7-7692c3ad", "\"7\"", "\"seven-7692c3ad\"", "\"-7692c3ad\"", "\"--7692c3ad\""];
        let more =
            ["\"\"", "", "\"99999999999999999999-7692c3ad\"", "\"7-7692C3AD\"", "\"7-+692c3ad\"", "\"7-7692c3ad0\""];
        for other in others.into_iter().chain(more) {
            assert_eq!(read(&[other]).await.unwrap().expected("one"), Some(NONE), "{other}");
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

//! Extractors whose rejections are problem details: bounded JSON bodies, queries, paths.

use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::error::{Error, Result};

/// Largest body of a request.
pub(crate) const MAX_BODY: usize = 64 << 10;

/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A JSON body of at most [`MAX_BODY`] bytes.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        if !is_json(request.headers()) {
            return Err(Error::NotJson);
        }
        let body = read_body(request.into_body()).await?;
        serde_json::from_slice(&body).map(Self).map_err(|error| Error::Malformed(format!("the body: {error}")))
    }
}

/// A JSON body, or none at all.
#[derive(Debug)]
pub(crate) struct MaybeJson<T>(pub(crate) Option<T>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MaybeJson<T> {
    type Rejection = Error;

    async fn from_request(request: Request, _: &S) -> Result<Self> {
        let (parts, body) = request.into_parts();
        let body = read_body(body).await?;
        if body.is_empty() {
            return Ok(Self(None));
        }
        if !is_json(&parts.headers) {
            return Err(Error::NotJson);
        }
        let read = serde_json::from_slice(&body);
        read.map(|value| Self(Some(value))).map_err(|error| Error::Malformed(format!("the body: {error}")))
    }
}

/// The name of what is to be deleted, typed once more.
#[derive(Debug, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Confirmation {
    /// Its name.
    #[schema(example = "backend")]
    pub(crate) confirm: String,
}

/// A body of at most [`MAX_BODY`] bytes that arrives in time.
///
/// # Errors
/// 413, or 400 where it broke off or took too long.
pub(crate) async fn read_body(body: Body) -> Result<Bytes> {
    let Ok(body) = tokio::time::timeout(PATIENCE, axum::body::to_bytes(body, MAX_BODY)).await else {
        return Err(Error::Malformed("the body took too long to arrive".into()));
    };
    body.map_err(|error| match find_limit(&error) {
        true => Error::TooLarge,
        false => Error::Malformed("the body broke off".into()),
    })
}

/// The middleware that lets a request in once its whole body is there. Whoever calls is asked for only then: rights that were
/// taken away while a body was held back are gone.
pub(crate) async fn whole(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    match read_body(body).await {
        Ok(body) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Err(error) => error.into_response(),
    }
}

fn find_limit(error: &axum::Error) -> bool {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.into_iter().any(<dyn std::error::Error>::is::<http_body_util::LengthLimitError>)
}

/// `application/json` or `…+json`, whatever its parameters. Anything else a browser would send across sites unasked.
fn is_json(headers: &HeaderMap) -> bool {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

/// A field that is there, null or not.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Whether text holds a percent-encoded NUL: no name has one, and not every database takes one.
fn has_nul(text: &str) -> bool {
    text.contains("%00")
}

/// The query.
#[derive(Debug)]
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        if has_nul(parts.uri.query().unwrap_or_default()) {
            return Err(Error::Malformed("the query holds a NUL, which no name has".into()));
        }
        match axum::extract::Query::from_request_parts(parts, state).await {
            Ok(axum::extract::Query(query)) => Ok(Self(query)),
            Err(error) => Err(Error::Malformed(error.body_text())),
        }
    }
}

/// The variable parts of the path.
#[derive(Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        if has_nul(parts.uri.path()) {
            return Err(Error::NoRoute);
        }
        match axum::extract::Path::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(path)) => Ok(Self(path)),
            Err(PathRejection::FailedToDeserializePathParams(_)) => Err(Error::NoRoute),
            Err(error) => Err(Error::internal(error)),
        }
    }
}

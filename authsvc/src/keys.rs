//! The public halves of the signing keys, for whoever checks our tokens.

use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use crate::State;

/// Shorter than the time for which a new key is published before it signs.
const CACHE: &str = "public, max-age=30";

/// The keys as a JSON Web Key Set (RFC 7517 §8.5).
pub(crate) async fn jwks(Shared(state): Shared<State>) -> Response {
    let headers = [(CONTENT_TYPE, "application/jwk-set+json"), (CACHE_CONTROL, CACHE)];
    (headers, state.identity.jwks().to_string()).into_response()
}

/// Their self-signed certificates (RFC 8555 §9.1 names the type of such a bundle).
pub(crate) async fn bundle(Shared(state): Shared<State>) -> Response {
    let headers = [(CONTENT_TYPE, "application/pem-certificate-chain"), (CACHE_CONTROL, CACHE)];
    (headers, state.identity.certificate_bundle().to_string()).into_response()
}

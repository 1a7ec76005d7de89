//! The token service: `docker login` and every token that a registry client needs.
//!
//! ```text
//! GET  /token                   Basic or nobody      Docker token specification, "Requesting a Token"
//! POST /token                   OAuth2 form          Docker token specification, "OAuth2"; RFC 8693
//! GET  /.well-known/jwks.json   the public keys      RFC 7517; CNCF Distribution 3
//! GET  /keys/bundle.pem         their certificates   CNCF Distribution 2 (`rootcertbundle`)
//! ```
//!
//! [`request`] reads what clients send, in all its forms, into one [`request::TokenRequest`]; `token` lets the caller in
//! through [`identity::login`] or, with a token of an issuer that an organization trusts, [`identity::federation`], and [`identity::Identity::issue`] cuts what was asked to what may be granted; `error` is
//! the only place that knows statuses. Health is answered by the server around this router.

mod error;
mod keys;
pub mod request;
mod token;

use axum::Router;
use axum::routing::get;
use identity::Identity;

/// What the handlers share.
#[derive(Debug, Clone)]
pub struct State {
    identity: Identity,
}

impl State {
    /// A token service on an identity core.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        Self { identity }
    }
}

/// Every route of the token service.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/token", get(token::get).post(token::post))
        .route("/.well-known/jwks.json", get(keys::jwks))
        .route("/keys/bundle.pem", get(keys::bundle))
        .method_not_allowed_fallback(error::method_not_allowed)
        .fallback(error::not_found)
        .with_state(state)
}

#[cfg(test)]
mod tests;

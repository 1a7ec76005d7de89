//! The controller: organizations, projects, users, bindings, API keys, repositories and tags, as REST under `/api/v1`.
//!
//! `routes` lists every route with the permission that it needs. A handler takes typed input (`extract`, `page`), asks
//! its `actor` for the thing and the permission in one line, calls identity or storage, and renders. Failures are problem
//! details ([`error`]). [`console`] draws the same as pages: `<noun>/console.rs` beside `<noun>/api.rs`. [`openapi`] is the same routes as a document, kept in `openapi.json` for review.

mod account;
mod actor;
mod api_keys;
mod audit;
mod bindings;
mod console;
mod devices;
mod docs;
pub mod error;
mod etag;
mod extract;
mod groups;
mod home;
mod idempotency;
mod issuers;
mod machines;
mod manifests;
mod mfa;
pub mod openapi;
mod orgs;
mod origin;
pub mod page;
mod passwords;
mod platform;
mod projects;
mod repositories;
mod rights;
mod roles;
mod routes;
mod sessions;
mod settings;
mod time;
mod users;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue, header};
use identity::Identity;
use storage::Db;
use storage::objects::Objects;

use crate::error::Error;
use crate::manifests::config::Configs;

/// What the controller is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether the session cookie is for HTTPS alone: always, but where users reach the controller over plain HTTP.
    pub secure_cookies: bool,
    /// Where registry clients find the registry: host, and port where it is not 443.
    pub registry_host: String,
    /// Whether it speaks TLS there.
    pub registry_secure: bool,
    /// Certificate of the private CA, in PEM, that the services' certificates are of.
    pub private_ca: Option<String>,
    /// How long garbage collection leaves alone what was deleted, in seconds.
    pub grace: i64,
}

impl Settings {
    /// Whether browsers are told never to come by plain HTTP again (RFC 6797): not while the certificate is one that they do
    /// not know, which is how a server is tried out.
    fn stays_secure(&self) -> bool {
        self.secure_cookies && self.private_ca.is_none()
    }
}

/// What a request of the controller needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    objects: Objects,
    identity: Identity,
    settings: Settings,
    configs: Configs,
}

impl State {
    /// Puts the controller's parts together.
    #[must_use]
    pub fn new(db: Db, objects: Objects, identity: Identity, settings: Settings) -> Self {
        Self(Arc::new(Inner { db, objects, identity, settings, configs: Configs::default() }))
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    fn objects(&self) -> &Objects {
        &self.0.objects
    }

    fn configs(&self) -> &Configs {
        &self.0.configs
    }

    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }
}

/// The controller's routes.
pub fn router(state: State) -> Router {
    Router::new()
        .nest("/api/v1", routes::router(&state))
        .merge(console::router())
        .route("/docs", axum::routing::get(docs::get_page))
        .route("/docs/style.css", axum::routing::get(docs::get_style))
        .fallback(async || Error::NoRoute)
        .method_not_allowed_fallback(async || Error::MethodNotAllowed)
        .layer(axum::middleware::from_fn(extract::whole))
        .layer(axum::middleware::from_fn_with_state(state.clone(), audit::note_denials))
        .layer(axum::middleware::from_fn_with_state(state.clone(), origin::own_pages_only))
        .layer(axum::middleware::from_fn_with_state(state.clone(), console::answer::as_pages))
        .layer(axum::middleware::from_fn_with_state(state.clone(), harden))
        .with_state(state)
}

/// Headers that keep answers out of caches, frames and guesses about their type, and browsers on HTTPS.
async fn harden(axum::extract::State(state): axum::extract::State<State>, request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if state.settings().stays_secure() {
        let year = HeaderValue::from_static("max-age=31536000");
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, year);
    }
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod matrix;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tries;

//! The registry: Docker Registry v2 and OCI distribution-spec 1.1.1, with what its main branch has added since.
//!
//! A request becomes one [`action::Action`]; [`auth`] asks whether the token covers it; one of the modules named after the
//! specification's categories answers: [`blobs`], [`uploads`], [`manifests`], [`tags`], [`referrers`], [`catalog`]. They
//! call storage and render; status codes of failures are in [`error`] alone.

pub mod action;
mod audit;
pub mod auth;
mod blobs;
mod catalog;
mod direct;
pub mod error;
mod limits;
pub mod manifest;
mod manifests;
mod page;
mod pieces;
pub mod range;
mod referrers;
mod tags;
#[cfg(test)]
mod tests;
mod uploads;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue};
use identity::Identity;
use moka::sync::Cache;
use storage::Db;
use storage::objects::Objects;
use storage::shelf::Shelf;
use storage::uploads::Uploads;

use crate::action::Action;
use crate::auth::Realm;
use crate::error::{Error, Result};

static API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
static CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// What the registry is told at start.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The `service` that tokens must be for.
    pub service: String,
    /// Where the token service is.
    pub realm: Realm,
    /// Where the controller is, for messages that say what to do.
    pub controller_url: String,
    /// Largest manifest accepted, in bytes. The specification asks for 4 MiB or more.
    pub max_manifest: u64,
    /// Largest blob accepted, in bytes.
    pub max_blob: u64,
    /// Bytes of manifests and small blobs that are kept in memory, where one process serves all.
    pub cache: u64,
    /// A client that sends nothing for so long while it uploads is cut off; the session stays.
    pub body_idle: Duration,
}

/// What a request of the registry needs; cheap to clone.
#[derive(Debug, Clone)]
pub struct State(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    objects: Objects,
    shelf: Shelf,
    uploads: Uploads,
    identity: Identity,
    settings: Settings,
    /// Whose use of a revoked token was noted in the last minute.
    revoked: Cache<String, ()>,
}

impl State {
    /// Puts the registry's parts together.
    #[must_use]
    pub fn new(db: Db, objects: Objects, uploads: Uploads, identity: Identity, settings: Settings) -> Self {
        let shelf = Shelf::new(db.clone(), objects.clone(), settings.cache);
        let revoked = Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(60)).build();
        Self(Arc::new(Inner { db, objects, shelf, uploads, identity, settings, revoked }))
    }

    fn db(&self) -> &Db {
        &self.0.db
    }

    fn objects(&self) -> &Objects {
        &self.0.objects
    }

    fn shelf(&self) -> &Shelf {
        &self.0.shelf
    }

    fn uploads(&self) -> &Uploads {
        &self.0.uploads
    }

    fn identity(&self) -> &Identity {
        &self.0.identity
    }

    fn settings(&self) -> &Settings {
        &self.0.settings
    }

    fn realm(&self, headers: &HeaderMap) -> String {
        self.0.settings.realm.url(headers)
    }
}

/// In a response's extensions: the action's label, for metrics and the access log.
#[derive(Debug, Clone, Copy)]
pub struct ActionLabel(pub &'static str);

/// The registry's routes.
pub fn router(state: State) -> Router {
    Router::new().fallback(serve).with_state(state)
}

async fn serve(axum::extract::State(state): axum::extract::State<State>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    // HTTP/2 has the host in the request's target (RFC 9113 §8.3.1).
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(http::header::HOST, host);
    }
    let parsed = Action::parse(&parts.method, parts.uri.path(), parts.uri.query());
    let label = parsed.as_ref().map_or("unknown", Action::label);
    let outcome = match parsed {
        Ok(action) => dispatch(&state, &parts, action, body).await,
        Err(error) => Err(error),
    };
    if let Some(owner) = outcome.as_ref().err().and_then(Error::owner) {
        Box::pin(audit::shut_out(&state, &parts, owner, label)).await;
    }
    let mut response = outcome.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(&API_VERSION, HeaderValue::from_static("registry/2.0"));
    response.extensions_mut().insert(ActionLabel(label));
    response
}

// All but what is asked and pulled is in boxes: the state of every request has room for the largest part that is not.
async fn dispatch(state: &State, parts: &http::request::Parts, action: Action, body: Body) -> Result<Response> {
    let headers = &parts.headers;
    let head = parts.method == http::Method::HEAD;
    if auth::session::covers(&action) {
        return Box::pin(uploads::session(state, headers, action, body)).await;
    }
    let bearer = match auth::authorized(state, headers, &action).await {
        Ok(bearer) => bearer,
        Err(refusal) => {
            if let Some((bearer, why)) = &refusal.denied {
                Box::pin(audit::denied(state, &audit::caller(parts, bearer), &action, why)).await;
            }
            return Err(refusal.error);
        }
    };
    // Put together where something is recorded, and not for what is only looked at.
    let by = || audit::caller(parts, &bearer);
    match action {
        Action::Version => Ok(axum::Json(serde_json::json!({})).into_response()),
        Action::ListRepositories { page } => catalog::list(state, &bearer, &page).await,
        Action::ListTags { repo, page } => tags::list(state, &repo, &page).await,
        Action::ListReferrers { repo, subject, artifact_type, page } => {
            referrers::list(state, &repo, &subject, artifact_type.as_deref(), &page).await
        }
        Action::GetManifest { repo, reference } => {
            manifests::get(state, headers, by, manifests::Get { repo, reference, head }).await
        }
        Action::PutManifest { repo, reference, tags } => {
            Box::pin(manifests::put(state, headers, &by(), manifests::Put { repo, reference, tags }, body)).await
        }
        Action::DeleteManifest { repo, reference } => {
            Box::pin(manifests::delete(state, &by(), &repo, &reference)).await
        }
        Action::GetBlob { repo, digest } => {
            // Whoever has a name may be about to push: many clients ask with a token for pulling first.
            let lease = bearer.user.is_some();
            let how = blobs::Get { head, lease, outlet: parts.extensions.get() };
            blobs::get(state, headers, &repo, &digest, how).await
        }
        Action::DeleteBlob { repo, digest } => Box::pin(blobs::delete(state, &by(), &repo, &digest)).await,
        Action::BeginUpload { repo, algorithm, start } => {
            Box::pin(uploads::begin(state, headers, &bearer, uploads::Begin { repo, algorithm, start }, body)).await
        }
        // Covered by the session's capability above.
        Action::UploadStatus { .. }
        | Action::AppendUpload { .. }
        | Action::FinishUpload { .. }
        | Action::CancelUpload { .. } => Err(Error::method_not_allowed("GET, PATCH, PUT, DELETE")),
    }
}

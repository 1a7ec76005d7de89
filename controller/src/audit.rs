//! The audit log: what the API shows of it ([`api`]), and what was denied at the API on its way there.

pub(crate) mod api;
pub(crate) mod console;
pub(crate) mod words;

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::Response;
use http::StatusCode;
use identity::audit::{Caller, Entry, Outcome};
use serde_json::json;

use crate::State;

/// What is learned of a request on the way to its answer. Part of every request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trail(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    caller: Option<Caller>,
    hidden: bool,
}

impl Trail {
    /// Notes who calls.
    pub(crate) fn caller(&self, caller: &Caller) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).caller = Some(caller.clone());
    }

    /// Notes that something is there which the caller may not see, and is told is not there.
    pub(crate) fn hidden(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).hidden = true;
    }
}

/// In the extensions of an answer that refuses something: why.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    /// The reason, as the caller reads it.
    pub(crate) reason: String,
    /// The permission that is missing, if it is one.
    pub(crate) permission: Option<&'static str>,
}

/// The middleware that notes what was denied to somebody who is known: by 403, and by a 404 for what is there.
pub(crate) async fn note_denials(Shared(state): Shared<State>, mut request: Request, next: Next) -> Response {
    let trail = Trail::default();
    request.extensions_mut().insert(trail.clone());
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let Some(refused) = response.extensions().get::<Refused>() else { return response };
    let (caller, hidden) = {
        let mut seen = trail.0.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.caller.take(), seen.hidden)
    };
    let denied = response.status() == StatusCode::FORBIDDEN || (response.status() == StatusCode::NOT_FOUND && hidden);
    let Some(caller) = caller.filter(|_| denied) else { return response };
    let parts: Vec<&str> = path.trim_start_matches("/api/v1").split('/').collect();
    // As handlers read it: in another spelling it would be nobody's.
    let after = |name: &str| {
        let at = parts.iter().position(|part| *part == name);
        let part = at.and_then(|at| parts.get(at + 1)).copied().unwrap_or_default();
        percent_encoding::percent_decode_str(part).decode_utf8_lossy().replace('\0', "")
    };
    let (org, project) = (after("orgs"), after("projects"));
    let target = format!("{method} {path}");
    let entry = Entry {
        action: "access.denied",
        target: &target,
        project: &project,
        outcome: Outcome::Denied,
        reason: &refused.reason,
        detail: json!({ "status": response.status().as_u16(), "permission": refused.permission }),
        ..Entry::default()
    };
    state.identity().note_denial(&caller, &org, &entry).await;
    response
}

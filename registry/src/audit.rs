//! What the audit log learns of the registry: pushes and deletions in their own transactions, pulls and denials by note.

use std::sync::Arc;

use http::request::Parts;
use identity::audit::{Caller, Client, Credential, Entry, Origin, Outcome};
use identity::rbac::Principal;
use identity::token::Bearer;
use storage::Tx;
use storage::names::{Reference, RepoName};

use crate::State;
use crate::action::Action;

/// Whoever sent a request, as far as a token says.
pub(crate) fn caller(parts: &Parts, bearer: &Bearer) -> Caller {
    let origin = parts.extensions.get::<Origin>().cloned().unwrap_or_default();
    let credential = match (&bearer.key, &bearer.user) {
        (Some(key), _) => Credential::ApiKey(key.clone()),
        (None, Some(_)) => Credential::Token,
        (None, None) => Credential::None,
    };
    let user_id = bearer.user.clone().unwrap_or_default();
    // The rights are in the token: what is recorded needs none.
    let principal = Principal { user_id, ..Principal::nobody(bearer.name.clone()) };
    Caller { principal: Arc::new(principal), credential, origin: Origin { client: Client::Docker, ..origin } }
}

/// A manifest, by the name that people know it by.
pub(crate) fn target(repo: &RepoName, reference: &Reference) -> String {
    match reference {
        Reference::Tag(tag) => format!("{}:{}", repo.canonical(), tag.as_str()),
        Reference::Digest(digest) => format!("{}@{digest}", repo.canonical()),
    }
}

/// Records what a transaction changes in a repository, last of all.
///
/// # Errors
/// Those of the database.
pub(crate) async fn record(
    state: &State,
    tx: &mut Tx,
    by: &Caller,
    org_id: &str,
    (repo, action, target): (&RepoName, &'static str, &str),
    detail: serde_json::Value,
) -> storage::Result<()> {
    let project = repo.project();
    let entry = Entry { org_id, action, target, project, detail, ..Entry::default() };
    state.identity().record(tx, by, &entry).await
}

/// Notes that a manifest is about to go out.
///
/// # Errors
/// [`storage::Error::Busy`]: then it must not.
pub(crate) async fn pulled(
    state: &State,
    by: &Caller,
    repo: &RepoName,
    reference: &Reference,
    found: &storage::manifests::Manifest,
) -> storage::Result<()> {
    let (target, project) = (target(repo, reference), repo.project());
    let detail = serde_json::json!({ "digest": found.digest });
    let entry =
        Entry { org_id: &found.org_id, action: "image.pull", target: &target, project, detail, ..Entry::default() };
    state.identity().note(by, &entry).await
}

/// Notes that somebody's token did not cover an action. Whoever shows none, or anybody's, is only told to log in.
pub(crate) async fn denied(state: &State, by: &Caller, action: &Action, missing: &str) {
    let Some(repo) = action.repo().filter(|_| !by.principal.user_id.is_empty()) else { return };
    let entry = Entry {
        action: "access.denied",
        target: repo.canonical(),
        project: repo.project(),
        outcome: Outcome::Denied,
        reason: missing,
        detail: serde_json::json!({ "request": action.label() }),
        ..Entry::default()
    };
    state.identity().note_denial(by, repo.org(), &entry).await;
}

//! What the audit log learns of the registry: pushes and deletions in their own transactions, pulls and denials by note.

use std::sync::Arc;

use http::request::Parts;
use identity::audit::{Caller, Client, Credential, Entry, Origin, Outcome};
use identity::rbac::Principal;
use identity::token::Bearer;
use storage::names::{Reference, RepoName};
use storage::{Tx, users};

use crate::State;
use crate::action::Action;
use crate::auth::Why;
use crate::error::Owner;

/// Whoever sent a request, as far as a token says.
pub(crate) fn caller(parts: &Parts, bearer: &Bearer) -> Caller {
    let credential = match (&bearer.key, &bearer.user) {
        (Some(key), _) => Credential::ApiKey(key.clone()),
        (None, Some(_)) => Credential::Token,
        (None, None) => Credential::None,
    };
    let user_id = bearer.user.clone().unwrap_or_default();
    // The rights are in the token: what is recorded needs none.
    by(parts, Principal { user_id, ..Principal::nobody(bearer.name.clone()) }, credential)
}

fn by(parts: &Parts, principal: Principal, credential: Credential) -> Caller {
    let origin = parts.extensions.get::<Origin>().cloned().unwrap_or_default();
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

/// Notes that somebody's token did not cover an action, or was revoked. Whoever shows none, or anybody's, is only told to log
/// in.
pub(crate) async fn denied(state: &State, by: &Caller, action: &Action, why: &Why) {
    let Some(repo) = action.repo().filter(|_| !by.principal.user_id.is_empty()) else { return };
    let reason = match why {
        Why::Lacked(scope) => scope.as_str(),
        Why::Revoked if is_first_in_a_minute(state, by, repo) => {
            "the token was revoked, or what it was for is not open any more"
        }
        Why::Revoked => return,
    };
    note_denial(state, by, repo, action.label(), reason).await;
}

/// Clients try again with the token that they have, several requests at a time, and who stole one could fill the log with it.
fn is_first_in_a_minute(state: &State, by: &Caller, repo: &RepoName) -> bool {
    let key = match &by.credential {
        Credential::ApiKey(key) => key,
        _ => "",
    };
    state.0.revoked.entry(format!("{} {key} {}", by.principal.user_id, repo.canonical())).or_insert(()).is_fresh()
}

/// Notes that somebody's upload was refused because their right to it was taken away.
pub(crate) async fn shut_out(state: &State, parts: &Parts, owner: &Owner, label: &str) {
    let Ok(repo) = owner.repository.parse::<RepoName>() else { return };
    let found = async { users::find(&mut state.db().read().await?, &owner.user_id).await };
    let user = found.await.unwrap_or_else(|error: storage::Error| {
        tracing::warn!(%error, "cannot look up whose upload was refused; the audit log has their id alone");
        None
    });
    let name = user.map(|user| user.shown_name().to_owned()).unwrap_or_default();
    let principal = Principal { user_id: owner.user_id.clone(), ..Principal::nobody(name) };
    let credential = owner.api_key_id.clone().map_or(Credential::Token, Credential::ApiKey);
    let reason = "the right to push was taken away while the upload ran";
    note_denial(state, &by(parts, principal, credential), &repo, label, reason).await;
}

async fn note_denial(state: &State, by: &Caller, repo: &RepoName, label: &str, reason: &str) {
    let entry = Entry {
        action: "access.denied",
        target: repo.canonical(),
        project: repo.project(),
        outcome: Outcome::Denied,
        reason,
        detail: serde_json::json!({ "request": label }),
        ..Entry::default()
    };
    state.identity().note_denial(by, repo.org(), &entry).await;
}

//! What a token does not say: which tags its holder may write or delete. A custom role's tag patterns are asked when the tag is
//! known, with the rights of that moment.

use std::sync::Arc;

use http::StatusCode;
use identity::audit::{Caller, Credential, Entry, Outcome};
use identity::rbac::{Denial, Permission, Principal, Resource, authorize};
use storage::names::RepoName;

use crate::State;
use crate::error::{Code, Error, Result};

/// Where the repository lies.
pub(crate) struct Place<'a> {
    pub(crate) org_id: &'a str,
    pub(crate) project_id: &'a str,
}

/// What a caller may do to tags, by the rights of one moment. It is read before a transaction begins, and asked in it: to wait
/// for another connection there would let those who wait for each other stand still.
pub(crate) struct Limits {
    principal: Arc<Principal>,
    permission: Permission,
}

/// A tag that the caller's roles keep them from, and why.
pub(crate) struct Refusal {
    tag: String,
    denial: Box<Denial>,
}

impl Limits {
    /// The caller's limits at this moment.
    ///
    /// # Errors
    /// Those of the database; 403 where their rights are gone.
    pub(crate) async fn read(state: &State, by: &Caller, permission: Permission) -> Result<Self> {
        let key = match &by.credential {
            Credential::ApiKey(id) => Some(id.as_str()),
            _ => None,
        };
        let found = state.identity().principal(&by.principal.user_id, key).await?;
        let gone = || Error::new(StatusCode::FORBIDDEN, Code::Denied, "the rights were taken away; log in again");
        Ok(Self { principal: found.ok_or_else(gone)?, permission })
    }

    /// Whether there may be tags of the repository's project that the caller is kept from.
    pub(crate) fn are_some(&self, place: &Place<'_>) -> bool {
        let project = Resource::Project { org_id: place.org_id, project_id: place.project_id };
        !authorize(&self.principal, self.permission, &project).is_allowed()
    }

    /// The first of the tags that the caller's roles keep them from writing or deleting.
    ///
    /// # Errors
    /// That tag.
    pub(crate) fn check(&self, place: &Place<'_>, repo: &RepoName, tags: &[&str]) -> std::result::Result<(), Refusal> {
        for tag in tags {
            let resource = Resource::Repository {
                org_id: place.org_id,
                project_id: Some(place.project_id),
                path: repo.path(),
                tag: Some(tag),
            };
            if let Err(denial) = authorize(&self.principal, self.permission, &resource).into_result() {
                return Err(Refusal { tag: (*tag).to_owned(), denial: Box::new(denial) });
            }
        }
        Ok(())
    }
}

/// Notes that a tag was refused: 403 that says which, and what stands in the way. Not inside a transaction.
pub(crate) async fn refuse(state: &State, by: &Caller, place: &Place<'_>, repo: &RepoName, refusal: Refusal) -> Error {
    let reason = refusal.denial.named(repo.org(), Some(repo.project())).to_string();
    let entry = Entry {
        org_id: place.org_id,
        action: "access.denied",
        target: &format!("{}:{}", repo.canonical(), refusal.tag),
        project: repo.project(),
        outcome: Outcome::Denied,
        reason: &reason,
        ..Entry::default()
    };
    state.identity().note_refused(by, &entry).await;
    Error::new(StatusCode::FORBIDDEN, Code::Denied, reason)
}

/// Refuses tags that the caller's roles keep them from writing or deleting. Not inside a transaction.
///
/// # Errors
/// 403 that says which tag, and what stands in the way; those of the database.
pub(crate) async fn check_tags(
    state: &State,
    by: &Caller,
    permission: Permission,
    place: &Place<'_>,
    repo: &RepoName,
    tags: &[&str],
) -> Result<()> {
    match Limits::read(state, by, permission).await?.check(place, repo, tags) {
        Ok(()) => Ok(()),
        Err(refusal) => Err(refuse(state, by, place, repo, refusal).await),
    }
}

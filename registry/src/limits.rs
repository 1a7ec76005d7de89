//! What a token does not say: which tags its holder may write or delete. A custom role's tag patterns are asked when the tag is
//! known, with the rights of that moment.

use http::StatusCode;
use identity::audit::{Caller, Credential, Entry, Outcome};
use identity::rbac::{Permission, Resource, authorize};
use storage::names::RepoName;

use crate::State;
use crate::error::{Code, Error, Result};

/// Where the repository lies.
pub(crate) struct Place<'a> {
    pub(crate) org_id: &'a str,
    pub(crate) project_id: &'a str,
}

/// Whether the caller may do that to every tag of the repository.
///
/// # Errors
/// Those of the database; 403 where their rights are gone.
pub(crate) async fn is_limited(state: &State, by: &Caller, permission: Permission, place: &Place<'_>) -> Result<bool> {
    let project = Resource::Project { org_id: place.org_id, project_id: place.project_id };
    let principal = principal(state, by).await?;
    Ok(!authorize(&principal, permission, &project).is_allowed())
}

/// Refuses tags that the caller's roles keep them from writing or deleting.
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
    let principal = principal(state, by).await?;
    for tag in tags {
        let resource = Resource::Repository {
            org_id: place.org_id,
            project_id: Some(place.project_id),
            path: repo.path(),
            tag: Some(tag),
        };
        if let Err(denial) = authorize(&principal, permission, &resource).into_result() {
            let reason = denial.named(repo.org(), Some(repo.project())).to_string();
            let entry = Entry {
                org_id: place.org_id,
                action: "access.denied",
                target: &format!("{}:{tag}", repo.canonical()),
                project: repo.project(),
                outcome: Outcome::Denied,
                reason: &reason,
                ..Entry::default()
            };
            state.identity().note(by, &entry).await;
            return Err(Error::new(StatusCode::FORBIDDEN, Code::Denied, reason));
        }
    }
    Ok(())
}

async fn principal(state: &State, by: &Caller) -> Result<std::sync::Arc<identity::rbac::Principal>> {
    let key = match &by.credential {
        Credential::ApiKey(id) => Some(id.as_str()),
        _ => None,
    };
    let found = state.identity().principal(&by.principal.user_id, key).await?;
    found.ok_or_else(|| Error::new(StatusCode::FORBIDDEN, Code::Denied, "the rights were taken away; log in again"))
}

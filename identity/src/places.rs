//! Where repositories lie: the organization and the project that a name leads to, remembered as long as rights are.
//!
//! What is not there is never remembered: a project that was just made is found at once, in every process.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use storage::names::RepoName;
use storage::{orgs, projects};

use crate::core::Identity;

/// What a repository's name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// Id of the organization.
    pub(crate) org_id: String,
    /// Id of the project, where there is one.
    pub(crate) project_id: Option<String>,
    /// Whether anybody may pull there: the project is public, and its organization is open and allows it.
    pub(crate) public: bool,
}

impl Identity {
    /// The place of a repository, at most half a second old; `None` where there is no such organization.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn place(&self, name: &RepoName) -> storage::Result<Option<Arc<Place>>> {
        match self.known_place(name) {
            Some(known) => Ok(Some(known)),
            None => self.read_place(name).await,
        }
    }

    /// The place of a repository as far as it is remembered.
    pub(crate) fn known_place(&self, name: &RepoName) -> Option<Arc<Place>> {
        self.0.caches.places.get(&*key(name))
    }

    /// The place of a repository as it is at this moment.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn read_place(&self, name: &RepoName) -> storage::Result<Option<Arc<Place>>> {
        let generation = self.0.generation.load(Ordering::SeqCst);
        let mut session = self.db().read().await?;
        // Both are read whatever the first says: what is not there takes as long as what may not be seen.
        let org = orgs::find_by_slug(&mut session, name.org()).await?;
        let project = projects::find_by_path(&mut session, name.org(), name.project()).await?;
        drop(session);
        let Some(org) = org else { return Ok(None) };
        let public = project.as_ref().is_some_and(|project| project.public && org.public_allowed && org.is_active());
        let place = Arc::new(Place { org_id: org.id, project_id: project.map(|project| project.id), public });
        // What was read while somebody changed it is used once, not kept.
        if place.project_id.is_some() && self.0.generation.load(Ordering::SeqCst) == generation {
            self.0.caches.places.insert(key(name).into_owned(), Arc::clone(&place));
        }
        Ok(Some(place))
    }

    /// Drops what this process remembers of places. To be called after every committed change of a project.
    pub(crate) fn forget_places(&self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.caches.places.invalidate_all();
    }
}

/// Organization and project, by which places are remembered: what stands before the path, where both are spelled out.
fn key(name: &RepoName) -> Cow<'_, str> {
    let spelled = name.as_spelled();
    match spelled.get(..spelled.len() - name.path().len() - 1) {
        Some(before) if before.contains('/') => before.into(),
        _ => format!("{}/{}", name.org(), name.project()).into(),
    }
}

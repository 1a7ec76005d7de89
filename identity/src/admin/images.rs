//! Repositories and tags, deleted through the REST API: the same rows that the registry deletes, with the same effect.

use serde_json::json;
use storage::names::Tag;
use storage::repositories::Repository;
use storage::{projects, removal, tags};

use crate::audit::{Caller, Entry};
use crate::core::Identity;

impl Identity {
    /// Deletes a repository with everything in it. Its name is free at once; its bytes go by garbage collection.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where it is gone already, else those of the database.
    pub async fn delete_repository(&self, by: &Caller, repository: &Repository) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        if !removal::bury_repository(&mut tx, &repository.id).await? {
            return Err(storage::Error::NotFound("repository"));
        }
        let project = projects::find(&mut tx, &repository.project_id).await?.map(|p| p.slug).unwrap_or_default();
        let entry = Entry {
            org_id: &repository.org_id,
            action: "repository.delete",
            target: &repository.name,
            project: &project,
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await
    }

    /// Deletes a tag; its manifest and the manifest's other tags stay (distribution-spec, "Deleting tags").
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where there is none, else those of the database.
    pub async fn delete_tag(&self, by: &Caller, repository: &Repository, tag: &Tag) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        if !tags::delete(&mut tx, &repository.id, tag).await? {
            return Err(storage::Error::NotFound("tag"));
        }
        let project = projects::find(&mut tx, &repository.project_id).await?.map(|p| p.slug).unwrap_or_default();
        let entry = Entry {
            org_id: &repository.org_id,
            action: "tag.delete",
            target: &format!("{}:{tag}", repository.name),
            project: &project,
            detail: json!({"tag": tag.as_str()}),
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await
    }
}

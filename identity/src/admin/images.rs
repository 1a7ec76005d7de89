//! Repositories and tags, deleted through the REST API: the same rows that the registry deletes, with the same effect.

use serde_json::json;
use storage::names::{Digest, Tag};
use storage::repositories::Repository;
use storage::{manifests, projects, removal, tags};

use super::AdminError;
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::rbac::Denial;

/// Most tags of a manifest that are compared with a role's patterns when it is deleted.
pub const TAGS_CHECKED: i64 = 10_000;
/// Most tags that the audit log names of a manifest that was deleted.
const TAGS_RECORDED: i64 = 50;

/// Whether somebody may delete a tag: asked of everybody whose roles reach some tags alone.
pub type MayTag<'a> = &'a (dyn Fn(&str) -> Result<(), Denial> + Sync);

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

    /// Deletes a manifest and every tag that points at it, as the registry does. What it is made of goes by garbage collection
    /// once `grace` seconds are over. `may` is asked of every tag in the same transaction.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where there is none, [`AdminError::Denied`] for a tag that the caller may not delete, else
    /// those of the database.
    pub async fn delete_manifest(
        &self,
        by: &Caller,
        repository: &Repository,
        digest: &Digest,
        grace: i64,
        may: Option<MayTag<'_>>,
    ) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let most = if may.is_some() { TAGS_CHECKED } else { TAGS_RECORDED };
        let mut names = tags::pointing_at(&mut tx, &repository.id, digest, most).await?;
        if let Some(may) = may {
            if i64::try_from(names.len()).is_ok_and(|count| count >= TAGS_CHECKED) {
                let reason = "too many tags point at that manifest for roles that are limited to some tags";
                return Err(AdminError::Invalid(reason));
            }
            names.iter().try_for_each(|tag| may(tag))?;
        }
        names.truncate(usize::try_from(TAGS_RECORDED).unwrap_or_default());
        if !manifests::delete(&mut tx, &repository.id, digest, self.now() + grace).await? {
            return Err(storage::Error::NotFound("manifest").into());
        }
        let project = projects::find(&mut tx, &repository.project_id).await?.map(|p| p.slug).unwrap_or_default();
        let entry = Entry {
            org_id: &repository.org_id,
            action: "image.delete",
            target: &format!("{}@{digest}", repository.name),
            project: &project,
            detail: json!({ "tags": names }),
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        Ok(())
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

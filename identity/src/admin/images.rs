//! Repositories, manifests and tags, deleted through the REST API: the same rows that the registry deletes, with the same
//! effect.

use serde_json::{Value, json};
use storage::db::Tx;
use storage::deletion::{self, Choice};
use storage::names::{Digest, Tag};
use storage::repositories::Repository;
use storage::{audit, manifests, projects, removal, tags};

use super::AdminError;
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::rbac::Denial;

/// Most tags of a manifest or a repository that are compared with a role's patterns when it is deleted.
pub const TAGS_CHECKED: i64 = 10_000;
/// Most references of several manifests that go in one transaction: on SQLite everybody who writes waits for it.
const REFERENCES: i64 = 20_000;
/// Most tags that the audit log names of a manifest that was deleted.
const TAGS_RECORDED: i64 = 50;

/// Whether somebody may delete a tag: asked of everybody whose roles reach some tags alone.
pub type MayTag<'a> = &'a (dyn Fn(&str) -> Result<(), Denial> + Sync);

/// A deletion, and what whoever wants it was told.
pub struct Deletion<'a> {
    /// From where.
    pub repository: &'a Repository,
    /// What.
    pub choice: &'a Choice,
    /// The [`storage::deletion::Going::mark`] of what they were told; `None` of whoever did not ask.
    pub seen: Option<&'a str>,
    /// Seconds that what manifests are made of stays at least.
    pub grace: i64,
    /// Asked of every tag that goes with a manifest.
    pub may: Option<MayTag<'a>>,
}

/// One thing that went, for the audit log.
struct Gone {
    action: &'static str,
    target: String,
    detail: Value,
}

impl Identity {
    /// Deletes all that was chosen, or nothing. A repository's name is free at once; bytes go by garbage collection. Of tags,
    /// manifests and their other tags stay (distribution-spec, "Deleting tags").
    ///
    /// # Errors
    /// [`storage::Error::NotFound`] where one is not there, [`AdminError::Moved`] where something else would go than they were
    /// told, [`AdminError::Denied`] for a tag that they may not delete, else those of the database.
    pub async fn delete_content(&self, by: &Caller, deletion: &Deletion<'_>) -> Result<(), AdminError> {
        let Deletion { repository, choice, .. } = *deletion;
        let mut tx = self.db().begin().await?;
        deletion::hold(&mut tx, repository, choice).await?;
        if let Some(seen) = deletion.seen {
            let going = deletion::going(&mut tx, repository, choice).await?;
            choice.is_all_there(&going)?;
            if seen != going.mark() {
                return Err(AdminError::Moved);
            }
        }
        let mut gone = Vec::new();
        match choice {
            Choice::Tags(tags) => {
                for tag in tags {
                    gone.push(take_tag(&mut tx, repository, tag).await?);
                }
            }
            Choice::Manifests(digests) => {
                if digests.len() > 1 && deletion::references(&mut tx, repository, digests).await? > REFERENCES {
                    let why = "these images refer to too much to go at once: delete fewer at a time";
                    return Err(storage::Error::Conflict(why).into());
                }
                for digest in digests {
                    gone.push(take_manifest(&mut tx, deletion, digest, self.now() + deletion.grace).await?);
                }
            }
            Choice::Everything => gone.push(take_repository(&mut tx, deletion).await?),
        }
        self.record_gone(&mut tx, by, repository, gone).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn record_gone(
        &self,
        tx: &mut Tx,
        by: &Caller,
        repository: &Repository,
        gone: Vec<Gone>,
    ) -> storage::Result<()> {
        let project = projects::find(tx, &repository.project_id).await?.map(|p| p.slug).unwrap_or_default();
        let at_ms = self.now_ms();
        let event = |gone: Gone| {
            let entry = Entry {
                org_id: &repository.org_id,
                action: gone.action,
                target: &gone.target,
                project: &project,
                detail: gone.detail,
                ..Entry::default()
            };
            by.event(&entry, at_ms)
        };
        let events: Vec<_> = gone.into_iter().map(event).collect();
        audit::append_all(tx, &events).await
    }
}

async fn take_tag(tx: &mut Tx, repository: &Repository, tag: &Tag) -> Result<Gone, AdminError> {
    if !tags::delete(tx, &repository.id, tag).await? {
        return Err(storage::Error::NotFound("tag").into());
    }
    let target = format!("{}:{tag}", repository.name);
    Ok(Gone { action: "tag.delete", target, detail: json!({"tag": tag.as_str()}) })
}

async fn take_manifest(
    tx: &mut Tx,
    deletion: &Deletion<'_>,
    digest: &Digest,
    review_after: i64,
) -> Result<Gone, AdminError> {
    let repository = deletion.repository;
    let most = if deletion.may.is_some() { TAGS_CHECKED } else { TAGS_RECORDED };
    let mut names = tags::pointing_at(tx, &repository.id, digest, most).await?;
    may_all(deletion, &names)?;
    names.truncate(usize::try_from(TAGS_RECORDED).unwrap_or_default());
    if !manifests::delete(tx, &repository.id, digest, review_after).await? {
        return Err(storage::Error::NotFound("manifest").into());
    }
    let target = format!("{}@{digest}", repository.name);
    Ok(Gone { action: "image.delete", target, detail: json!({ "tags": names }) })
}

/// Whether all of these tags may go, where that is asked of each.
fn may_all(deletion: &Deletion<'_>, names: &[String]) -> Result<(), AdminError> {
    let Some(may) = deletion.may else { return Ok(()) };
    if i64::try_from(names.len()).is_ok_and(|count| count >= TAGS_CHECKED) {
        return Err(AdminError::Invalid("too many tags would go for roles that are limited to some tags"));
    }
    Ok(names.iter().try_for_each(|tag| may(tag))?)
}

async fn take_repository(tx: &mut Tx, deletion: &Deletion<'_>) -> Result<Gone, AdminError> {
    let repository = deletion.repository;
    if deletion.may.is_some() {
        may_all(deletion, &tags::of_repository(tx, &repository.id, TAGS_CHECKED).await?)?;
    }
    if !removal::bury_repository(tx, &repository.id).await? {
        return Err(storage::Error::NotFound("repository").into());
    }
    Ok(Gone { action: "repository.delete", target: repository.name.clone(), detail: Value::Null })
}

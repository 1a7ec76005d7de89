//! Projects: created, changed, deleted.

use serde_json::json;
use storage::projects::{self, NewProject, Project, UpdateProject};
use storage::repositories::{self, RepositoryFilter};
use storage::{Session, orgs, removal};

use crate::audit::{Caller, Entry};
use crate::core::Identity;

impl Identity {
    /// Creates a project.
    ///
    /// # Errors
    /// [`storage::Error::Conflict`] where the slug is taken in that organization, or where it would be public and the
    /// organization allows none that is; else those of the database.
    pub async fn create_project(&self, by: &Caller, new: &NewProject<'_>) -> storage::Result<Project> {
        let org_id = new.org_id;
        let mut tx = self.db().begin().await?;
        if new.settings.public {
            may_be_public(&mut tx, org_id).await?;
        }
        let project = projects::create(&mut tx, new, self.now()).await?;
        let (target, detail) = (project.slug.as_str(), state(&project));
        let entry = Entry { org_id, action: "project.create", target, project: target, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_places();
        Ok(project)
    }

    /// Changes a project. One that is no longer public closes at once, to tokens already issued too.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`], [`storage::Error::Version`], [`storage::Error::Conflict`] as for a new one; else those of
    /// the database.
    pub async fn update_project(&self, by: &Caller, id: &str, change: &UpdateProject) -> storage::Result<Project> {
        let mut tx = self.db().begin().await?;
        let before = projects::find(&mut tx, id).await?.ok_or(storage::Error::NotFound("project"))?;
        if change.public == Some(true) {
            may_be_public(&mut tx, &before.org_id).await?;
        }
        let project = projects::update(&mut tx, id, change).await?;
        let entry = Entry {
            org_id: &project.org_id,
            action: "project.update",
            target: &project.slug,
            project: &project.slug,
            detail: json!({"before": state(&before), "after": state(&project)}),
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_places();
        Ok(project)
    }

    /// Deletes a project with every repository in it, and the roles that were given on it. Access tokens that were had with
    /// those are judged again. Without `with_images`, only one without repositories.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`], [`storage::Error::Version`], [`storage::Error::Conflict`] where there are repositories;
    /// else those of the database.
    pub async fn delete_project(
        &self,
        by: &Caller,
        id: &str,
        with_images: bool,
        expected: Option<i64>,
    ) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        removal::judge_holders_again(&mut tx, id).await?;
        // Locks the row, and makes sure of its version.
        let project = projects::update(&mut tx, id, &UpdateProject { expected, ..UpdateProject::default() }).await?;
        let holds = || {
            storage::Error::Conflict(
                "the project holds repositories: to delete it with every image, confirm with its slug",
            )
        };
        // Asked first, so that nothing is buried only to be taken back.
        let filter = RepositoryFilter { org_id: None, project_id: Some(id) };
        if !with_images && !repositories::list(&mut tx, &filter, "", 1).await?.is_empty() {
            return Err(holds());
        }
        // And of what was buried: a push that was under way may have made one until then.
        let repositories = removal::bury_project(&mut tx, id).await?.unwrap_or_default();
        if repositories > 0 && !with_images {
            return Err(holds());
        }
        let entry = Entry {
            org_id: &project.org_id,
            action: "project.delete",
            target: &project.slug,
            project: &project.slug,
            detail: json!({"before": state(&project), "with_images": repositories > 0}),
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_everything();
        Ok(())
    }
}

async fn may_be_public(session: &mut Session, org_id: &str) -> storage::Result<()> {
    if orgs::get(session, org_id).await?.public_allowed {
        return Ok(());
    }
    Err(storage::Error::Conflict("the organization's settings allow no public projects"))
}

fn state(project: &Project) -> serde_json::Value {
    json!({"public": project.public, "sparse": project.sparse, "description": project.description})
}

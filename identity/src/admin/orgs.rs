//! Organizations and their projects.

use serde_json::json;
use storage::names::Slug;
use storage::orgs::{self, Org};
use storage::projects::{self, NewProject, Project, UpdateProject};

use super::{AddedUser, AdminError, NewUser, UserKind};
use crate::audit::{Caller, Entry};
use crate::bootstrap::create_default_project;
use crate::core::Identity;
use crate::name::UserName;
use crate::secret::Secret;

/// Longest name of an organization, in characters.
const MAX_NAME: usize = 128;

/// What a new organization needs.
#[derive(Debug, Clone)]
pub struct NewOrg<'a> {
    /// First path component of its repositories.
    pub slug: &'a Slug,
    /// What people call it; the slug without one.
    pub name: Option<&'a str>,
    /// Its first Organization Admin, and their password where it is not to be generated.
    pub admin: Option<(&'a UserName, Option<&'a Secret>)>,
}

/// An organization that was just created.
#[derive(Debug, Clone)]
pub struct CreatedOrg {
    /// It.
    pub org: Org,
    /// Its first Organization Admin.
    pub admin: Option<AddedUser>,
}

impl Identity {
    /// Creates an organization with its default project and its first Organization Admin.
    ///
    /// # Errors
    /// [`AdminError::Storage`] with a conflict where the slug is taken; [`AdminError::Password`], [`AdminError::Invalid`].
    pub async fn create_org(&self, by: &Caller, new: &NewOrg<'_>) -> Result<CreatedOrg, AdminError> {
        let name = new.name.unwrap_or(new.slug.as_str()).trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(AdminError::Invalid("an organization's name has 1 to 128 characters, none of them a control"));
        }
        let admin = match new.admin {
            Some((name, password)) => Some(self.prepare(&NewUser { name, kind: UserKind::Local, password }).await?),
            None => None,
        };
        let now = self.now();
        let mut tx = self.db().begin().await?;
        let org = orgs::create(&mut tx, &orgs::NewOrg { slug: new.slug, name }, now).await?;
        create_default_project(&mut tx, &org.id, now).await?;
        let admin = match admin {
            Some(prepared) => {
                let added = self.write_user(&mut tx, &org.id, prepared).await?;
                let role = crate::rbac::Role::ORGANIZATION_ADMIN;
                let user_id = &added.member.user_id;
                let new =
                    storage::bindings::NewBinding { org_id: &org.id, user_id, role, project_id: None, namespaces: &[] };
                storage::bindings::create(&mut tx, &new, now).await?;
                Some(added)
            }
            None => None,
        };
        let detail = json!({"name": org.name, "admin": admin.as_ref().map(|admin| &admin.member.name)});
        let entry = Entry { action: "org.create", target: &org.slug, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        self.record(&mut tx, by, &Entry { org_id: &org.id, ..entry }).await?;
        tx.commit().await?;
        if let Some(admin) = &admin {
            self.forget(&admin.member.user_id);
        }
        Ok(CreatedOrg { org, admin })
    }

    /// Creates a project.
    ///
    /// # Errors
    /// [`storage::Error::Conflict`] where the slug is taken in that organization, else those of the database.
    pub async fn create_project(&self, by: &Caller, new: &NewProject<'_>) -> storage::Result<Project> {
        let org_id = new.org_id;
        let mut tx = self.db().begin().await?;
        let project = projects::create(&mut tx, new, self.now()).await?;
        let detail = project_state(&project);
        let (target, project_slug) = (project.slug.as_str(), project.slug.as_str());
        let entry =
            Entry { org_id, action: "project.create", target, project: project_slug, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_public();
        Ok(project)
    }

    /// Changes a project. One that is no longer public closes at once, to tokens already issued too.
    ///
    /// # Errors
    /// [`storage::Error::NotFound`], else those of the database.
    pub async fn update_project(&self, by: &Caller, id: &str, change: &UpdateProject) -> storage::Result<Project> {
        let mut tx = self.db().begin().await?;
        let before = projects::find(&mut tx, id).await?.ok_or(storage::Error::NotFound("project"))?;
        let project = projects::update(&mut tx, id, change).await?;
        let entry = Entry {
            org_id: &project.org_id,
            action: "project.update",
            target: &project.slug,
            project: &project.slug,
            detail: json!({"before": project_state(&before), "after": project_state(&project)}),
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_public();
        Ok(project)
    }
}

fn project_state(project: &Project) -> serde_json::Value {
    json!({"public": project.public, "sparse": project.sparse, "description": project.description})
}

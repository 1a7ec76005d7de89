//! Bindings: giving roles and taking them away.

use serde_json::json;
use storage::bindings::{self, Binding};
use storage::{memberships, projects, users};

use super::{AdminError, keep_an_admin};
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::rbac::{Resource, Role, RoleScope};

/// Most namespaces of one binding.
const MAX_NAMESPACES: usize = 100;

/// What a new binding needs.
#[derive(Debug, Clone)]
pub struct NewBinding<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// Who gets the role: a member of it.
    pub user_id: &'a str,
    /// The role.
    pub role: Role,
    /// The project, for a role that is bound to one.
    pub project_id: Option<&'a str>,
    /// Kubernetes namespaces, for the roles that need them.
    pub namespaces: &'a [String],
}

impl Identity {
    /// Gives a role. The giver needs `member.write` there and every permission that the role brings.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] where role, project and namespaces do not fit; [`AdminError::Denied`];
    /// [`AdminError::Storage`] where user or project is not of the organization, or the binding exists.
    pub async fn create_binding(&self, by: &Caller, new: &NewBinding<'_>) -> Result<Binding, AdminError> {
        check_fit(new)?;
        let resource = match new.project_id {
            Some(project_id) => Resource::Project { org_id: new.org_id, project_id },
            None => Resource::Org { org_id: new.org_id },
        };
        by.principal.may_give(new.role, &resource).into_result()?;
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, new.org_id, new.user_id).await?;
        let member = member.ok_or(storage::Error::NotFound("user"))?;
        let mut project = String::new();
        if let Some(project_id) = new.project_id {
            let found = projects::find(&mut tx, project_id).await?;
            let found = found.filter(|project| project.org_id == new.org_id);
            project = found.ok_or(storage::Error::NotFound("project"))?.slug;
        }
        let row = bindings::NewBinding {
            org_id: new.org_id,
            user_id: new.user_id,
            role: new.role.token(),
            project_id: new.project_id,
            namespaces: new.namespaces,
        };
        let binding = bindings::create(&mut tx, &row, self.now()).await?;
        let entry = Entry {
            org_id: new.org_id,
            action: "binding.create",
            target: &member.name,
            project: &project,
            detail: json!({"role": binding.role, "namespaces": binding.namespaces}),
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget(new.user_id);
        Ok(binding)
    }

    /// Takes a role away. Access tokens that were had with it end.
    ///
    /// # Errors
    /// [`AdminError::LastAdmin`]; [`AdminError::Storage`] where there is no such binding in the organization.
    pub async fn delete_binding(&self, by: &Caller, org_id: &str, id: &str) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let binding = bindings::find(&mut tx, org_id, id).await?.ok_or(storage::Error::NotFound("binding"))?;
        bindings::delete(&mut tx, org_id, id).await?;
        if binding.role == Role::ORGANIZATION_ADMIN {
            keep_an_admin(&mut tx, org_id).await?;
        }
        users::bump_grants_epoch(&mut tx, &binding.user_id).await?;
        let owner = memberships::find(&mut tx, org_id, &binding.user_id).await?.map(|member| member.name);
        let project = match &binding.project_id {
            Some(id) => projects::find(&mut tx, id).await?.map(|project| project.slug),
            None => None,
        };
        let entry = Entry {
            org_id,
            action: "binding.delete",
            target: owner.as_deref().unwrap_or_default(),
            project: project.as_deref().unwrap_or_default(),
            detail: json!({"role": binding.role, "namespaces": binding.namespaces}),
            ..Entry::default()
        };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget(&binding.user_id);
        Ok(())
    }
}

fn check_fit(new: &NewBinding<'_>) -> Result<(), AdminError> {
    let fits = match new.role.scope() {
        RoleScope::Platform => return Err(AdminError::Invalid("that role is not given by a binding")),
        RoleScope::Organization => new.project_id.is_none(),
        RoleScope::Project => new.project_id.is_some(),
    };
    if !fits {
        return Err(AdminError::Invalid(if new.project_id.is_none() {
            "that role is bound to a project: name one"
        } else {
            "that role is bound to the whole organization: name no project"
        }));
    }
    if new.role.needs_namespaces() == new.namespaces.is_empty() {
        return Err(AdminError::Invalid(if new.namespaces.is_empty() {
            "that role needs namespaces: name at least one"
        } else {
            "that role takes no namespaces"
        }));
    }
    if new.namespaces.len() > MAX_NAMESPACES || !new.namespaces.iter().all(|name| is_namespace(name)) {
        return Err(AdminError::Invalid("namespaces are at most 100 DNS labels, as Kubernetes has them"));
    }
    Ok(())
}

/// A DNS label (RFC 1123 §2.1), which is what Kubernetes takes as a namespace.
fn is_namespace(s: &str) -> bool {
    (1..=63).contains(&s.len())
        && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !s.starts_with('-')
        && !s.ends_with('-')
}

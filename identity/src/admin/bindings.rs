//! Bindings: giving roles to users and groups, and taking them away.

use std::sync::Arc;

use serde_json::json;
use storage::bindings::{self, Binding, Subject};
use storage::{Tx, custom_roles, groups, memberships, orgs, projects, users};

use super::{AdminError, keep_an_admin};
use crate::audit::{Caller, Credential, Entry};
use crate::core::Identity;
use crate::rbac::{CustomRole, Denial, Given, Resource, Role, RoleScope};

/// Most namespaces of one binding.
const MAX_NAMESPACES: usize = 100;

/// What a new binding needs.
#[derive(Debug, Clone)]
pub struct NewBinding<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// Who gets the role: a member or a group of it.
    pub subject: Subject<'a>,
    /// The role.
    pub role: &'a Given,
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
    /// [`AdminError::Storage`] where user, group or project is not of the organization, or the binding exists.
    pub async fn create_binding(&self, by: &Caller, new: &NewBinding<'_>) -> Result<Binding, AdminError> {
        check_fit(new)?;
        let resource = place(new.org_id, new.project_id);
        if let Err(denial) = by.principal.may_give(new.role, &resource).into_result() {
            return Err(self.named(denial, new.org_id, new.project_id).await?.into());
        }
        let mut tx = self.db().begin().await?;
        match new.subject {
            Subject::User(id) => {
                memberships::find(&mut tx, new.org_id, id).await?.ok_or(storage::Error::NotFound("user"))?;
            }
            Subject::Group(id) => {
                if groups::lock(&mut tx, new.org_id, id).await?.builtin.as_deref() == Some(groups::LOCAL_USERS) {
                    return Err(AdminError::Invalid(
                        "All Local Users grants nothing: make a group of your own for that",
                    ));
                }
            }
        }
        if let Given::Custom(role) = new.role {
            // It may have grown since it was read.
            let row = custom_roles::lock(&mut tx, new.org_id, &role.id).await?;
            let role = Given::Custom(Arc::new(CustomRole::read(&row)?));
            by.principal.may_give(&role, &resource).into_result()?;
        }
        if let Some(project_id) = new.project_id {
            let found = projects::find(&mut tx, project_id).await?.filter(|project| project.org_id == new.org_id);
            found.ok_or(storage::Error::NotFound("project"))?;
        }
        let row = bindings::NewBinding {
            org_id: new.org_id,
            subject: new.subject,
            role: new.role.key(),
            project_id: new.project_id,
            namespaces: new.namespaces,
        };
        let binding = bindings::create(&mut tx, &row, self.now()).await?;
        bump(&mut tx, &binding).await?;
        self.record_binding(&mut tx, by, "binding.create", &binding).await?;
        tx.commit().await?;
        self.forget_holders(&binding);
        Ok(binding)
    }

    /// Takes a role away. Access tokens that were had with it end. Whoever takes it could have given it.
    ///
    /// # Errors
    /// [`AdminError::LastAdmin`], [`AdminError::Denied`]; [`AdminError::Invalid`] for the one that is part of the
    /// organization; [`AdminError::Storage`] where there is no such binding in the organization.
    pub async fn delete_binding(&self, by: &Caller, org_id: &str, id: &str) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let binding = bindings::find(&mut tx, org_id, id).await?.ok_or(storage::Error::NotFound("binding"))?;
        if binding.builtin {
            return Err(
                storage::Error::Conflict("that binding is part of the organization and cannot be taken away").into()
            );
        }
        if let Err(denial) = may_change(&mut tx, by, &binding, Way::Take).await? {
            return Err(denial.named(org_id, binding.project.as_deref()).into());
        }
        bump(&mut tx, &binding).await?;
        if !bindings::delete(&mut tx, org_id, id).await? {
            return Err(storage::Error::NotFound("binding").into());
        }
        if binding.role == Role::ORGANIZATION_ADMIN {
            keep_an_admin(&mut tx, org_id).await?;
        }
        self.record_binding(&mut tx, by, "binding.delete", &binding).await?;
        tx.commit().await?;
        self.forget_holders(&binding);
        Ok(())
    }

    async fn record_binding(&self, tx: &mut Tx, by: &Caller, action: &str, binding: &Binding) -> storage::Result<()> {
        let role = binding.role_name.as_deref().unwrap_or(&binding.role);
        let (kind, target) = match &binding.group {
            Some(group) => ("group", group.as_str()),
            None => ("user", binding.user.as_deref().map(shown).unwrap_or_default()),
        };
        let entry = Entry {
            org_id: &binding.org_id,
            action,
            target,
            project: binding.project.as_deref().unwrap_or_default(),
            detail: json!({"subject": kind, "role": role, "namespaces": binding.namespaces}),
            ..Entry::default()
        };
        self.record(tx, by, &entry).await
    }

    fn forget_holders(&self, binding: &Binding) {
        match &binding.user_id {
            Some(user) => self.forget(user),
            None => self.forget_everything(),
        }
    }

    /// A denial with names instead of ids.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn named(&self, denial: Denial, org_id: &str, project_id: Option<&str>) -> storage::Result<Denial> {
        let mut session = self.db().read().await?;
        let org = orgs::find(&mut session, org_id).await?.map(|org| org.slug);
        let project = match project_id {
            Some(id) => projects::find(&mut session, id).await?.filter(|project| project.org_id == org_id),
            None => None,
        };
        Ok(denial.named(org.as_deref().unwrap_or(org_id), project.map(|project| project.slug).as_deref()))
    }
}

/// Where a binding holds.
pub(super) fn place<'a>(org_id: &'a str, project_id: Option<&'a str>) -> Resource<'a> {
    match project_id {
        Some(project_id) => Resource::Project { org_id, project_id },
        None => Resource::Org { org_id },
    }
}

/// What becomes of what a binding gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Somebody gets it.
    Give,
    /// Somebody loses it.
    Take,
}

/// Whether the caller could have given what a binding gives. The server's own command line may take anything away; a role
/// that is no more gives nothing.
pub(super) async fn may_change(
    tx: &mut Tx,
    by: &Caller,
    binding: &Binding,
    way: Way,
) -> Result<Result<(), Denial>, AdminError> {
    if by.credential == Credential::Server {
        return Ok(Ok(()));
    }
    let role = match Role::find(&binding.role) {
        Some(role) => Some(Given::Base(role)),
        None => {
            let row = custom_roles::find(tx, &binding.org_id, &binding.role).await?;
            row.and_then(|row| CustomRole::read(&row).ok()).map(|role| Given::Custom(Arc::new(role)))
        }
    };
    let resource = place(&binding.org_id, binding.project_id.as_deref());
    Ok(role.map_or(Ok(()), |role| {
        let decision = match way {
            Way::Give => by.principal.may_pass_on(&role, &resource),
            Way::Take => by.principal.has_whatever(&role, &resource),
        };
        decision.into_result().map(|_| ())
    }))
}

/// Moves the grants' epoch of whoever holds a binding.
async fn bump(tx: &mut Tx, binding: &Binding) -> storage::Result<()> {
    match (&binding.user_id, &binding.group_id) {
        (Some(user), _) => users::bump_grants_epoch(tx, user).await,
        (None, Some(group)) => {
            groups::lock(tx, &binding.org_id, group).await?;
            groups::bump_members(tx, group).await
        }
        (None, None) => Ok(()),
    }
}

/// The part of a row's name that people see.
pub(super) fn shown(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
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
    if new.role.base().needs_namespaces() == new.namespaces.is_empty() {
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

//! The decision: may this principal do that to this thing? Pure, without I/O; denied unless a binding allows it.

mod permission;
mod role;

use std::fmt;

pub use permission::{Permission, UnknownPermission};
pub use role::{Role, RoleScope, RolesError};

/// A binding as the decision sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The binding's id.
    pub binding_id: String,
    /// The organization it lies in.
    pub org_id: String,
    /// The role it gives.
    pub role: Role,
    /// The project, or the whole organization.
    pub project_id: Option<String>,
}

/// Who asks: a user, by password or by an API key, with the rights that are theirs at this moment.
#[derive(Debug, Clone)]
pub struct Principal {
    /// The user's id.
    pub user_id: String,
    /// The user's name.
    pub name: String,
    /// Whether the user is a machine.
    pub machine: bool,
    /// Whether the user runs the platform; never so by API key.
    pub operator: bool,
    /// The organization of the API key, where one was used: no right reaches beyond it.
    pub key_org: Option<String>,
    /// The bindings that count.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// Somebody who may do nothing: the server by itself, or a name at a log-in that failed.
    #[must_use]
    pub fn nobody(name: impl Into<String>) -> Self {
        Self {
            user_id: String::new(),
            name: name.into(),
            machine: false,
            operator: false,
            key_org: None,
            grants: Vec::new(),
        }
    }
}

/// What a permission is asked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource<'a> {
    /// The platform, outside every organization.
    Platform,
    /// An organization.
    Org {
        /// Its id.
        org_id: &'a str,
    },
    /// A project of an organization.
    Project {
        /// The organization's id.
        org_id: &'a str,
        /// Its id.
        project_id: &'a str,
    },
    /// A project that does not exist yet.
    ProjectToCreate {
        /// The organization's id.
        org_id: &'a str,
    },
}

/// The answer, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, by this.
    Allow(Basis),
    /// Not allowed: this was missing.
    Deny(Denial),
}

/// What allowed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Basis {
    /// The binding of this id.
    Binding(String),
    /// The user runs the platform.
    Operator,
}

/// What was missing: a permission on a thing. `Display` is meant for whoever was denied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{permission} on {target} is missing")]
pub struct Denial {
    /// The permission.
    pub permission: Permission,
    /// The thing.
    pub target: Target,
}

/// A [`Resource`] that owns its ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The platform.
    Platform,
    /// The organization of this id.
    Org(String),
    /// The project of this id.
    Project(String),
    /// A project to be, in the organization of this id.
    ProjectToCreate(String),
}

impl Decision {
    /// Whether it is allowed.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }

    /// The basis, or the denial as an error.
    ///
    /// # Errors
    /// The denial.
    pub fn into_result(self) -> Result<Basis, Denial> {
        match self {
            Self::Allow(basis) => Ok(basis),
            Self::Deny(denial) => Err(denial),
        }
    }
}

/// Decides. Rights are the union of the principal's bindings; nothing else gives any.
#[must_use]
pub fn authorize(principal: &Principal, permission: Permission, resource: &Resource<'_>) -> Decision {
    if let Resource::Platform = resource {
        return operate(principal, permission);
    }
    let allowing = principal.grants.iter().find(|grant| {
        let in_reach = principal.key_org.as_ref().is_none_or(|org| *org == grant.org_id);
        in_reach && grant.allows(permission, resource)
    });
    match allowing {
        Some(grant) => Decision::Allow(Basis::Binding(grant.binding_id.clone())),
        None => deny(permission, resource),
    }
}

/// The platform's own permissions: the operator's, in person.
fn operate(principal: &Principal, permission: Permission) -> Decision {
    let role = Role::find(Role::PLATFORM_OPERATOR);
    let allowed = role.is_some_and(|role| role.permissions().contains(&permission));
    if principal.operator && principal.key_org.is_none() && allowed {
        Decision::Allow(Basis::Operator)
    } else {
        deny(permission, &Resource::Platform)
    }
}

fn deny(permission: Permission, resource: &Resource<'_>) -> Decision {
    Decision::Deny(Denial { permission, target: resource.into() })
}

impl Grant {
    fn allows(&self, permission: Permission, resource: &Resource<'_>) -> bool {
        let (org, project) = match *resource {
            Resource::Platform => return false,
            Resource::Org { org_id } | Resource::ProjectToCreate { org_id } => (org_id, None),
            Resource::Project { org_id, project_id } => (org_id, Some(project_id)),
        };
        if self.org_id != org {
            return false;
        }
        match (self.role.scope(), &self.project_id) {
            (RoleScope::Organization, None) => self.role.permissions().contains(&permission),
            (RoleScope::Project, Some(own)) if project == Some(own) => self.role.permissions().contains(&permission),
            (RoleScope::Project, Some(_)) => {
                matches!(resource, Resource::Org { .. }) && self.role.organization_permissions().contains(&permission)
            }
            // A binding that does not fit its role gives nothing.
            _ => false,
        }
    }
}

/// Where a principal has a permission on projects: whole organizations, and single projects of others.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Ids of organizations, every project of which is in reach.
    pub orgs: Vec<String>,
    /// Ids of single projects in reach.
    pub projects: Vec<String>,
}

impl Principal {
    /// Where the principal has a permission on projects: what [`authorize`] would allow, as sets to query by.
    #[must_use]
    pub fn reach(&self, permission: Permission) -> Reach {
        let mut reach = Reach::default();
        for grant in &self.grants {
            let org_id = &grant.org_id;
            match &grant.project_id {
                None if authorize(self, permission, &Resource::ProjectToCreate { org_id }).is_allowed() => {
                    reach.orgs.push(org_id.clone());
                }
                Some(project_id)
                    if authorize(self, permission, &Resource::Project { org_id, project_id }).is_allowed() =>
                {
                    reach.projects.push(project_id.clone());
                }
                _ => {}
            }
        }
        for list in [&mut reach.orgs, &mut reach.projects] {
            list.sort_unstable();
            list.dedup();
        }
        reach
    }

    /// Whether the principal may give `role` on `resource`: it takes `member.write` there, and every permission that the
    /// role would bring, so that nobody makes anybody mightier than themselves.
    #[must_use]
    pub fn may_give(&self, role: Role, resource: &Resource<'_>) -> Decision {
        let first = authorize(self, Permission::MemberWrite, resource);
        if !first.is_allowed() {
            return first;
        }
        let around = match *resource {
            Resource::Project { org_id, .. } | Resource::Org { org_id } | Resource::ProjectToCreate { org_id } => {
                Resource::Org { org_id }
            }
            Resource::Platform => Resource::Platform,
        };
        let here = role.permissions().iter().map(|p| authorize(self, *p, resource));
        let there = role.organization_permissions().iter().map(|p| authorize(self, *p, &around));
        here.chain(there).find(|decision| !decision.is_allowed()).unwrap_or(first)
    }
}

impl From<&Resource<'_>> for Target {
    fn from(resource: &Resource<'_>) -> Self {
        match *resource {
            Resource::Platform => Self::Platform,
            Resource::Org { org_id } => Self::Org(org_id.to_owned()),
            Resource::Project { project_id, .. } => Self::Project(project_id.to_owned()),
            Resource::ProjectToCreate { org_id } => Self::ProjectToCreate(org_id.to_owned()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("the platform"),
            Self::Org(id) => write!(f, "organization {id}"),
            Self::Project(id) => write!(f, "project {id}"),
            Self::ProjectToCreate(id) => write!(f, "a new project of organization {id}"),
        }
    }
}

#[cfg(test)]
mod tests;

//! The decision: may this principal do that to this thing? Pure, without I/O; denied unless a binding allows it.

mod custom;
mod explain;
mod narrowing;
mod patterns;
mod permission;
mod role;

use std::fmt;

use storage::names::RepoName;
use storage::repositories::Repository;

pub use custom::{CustomRole, Given, RuleError, assignable};
pub use explain::{Explanation, Held, Reason, explain};
pub use narrowing::Narrowing;
pub use patterns::{MAX_PATTERN, MAX_PATTERNS, PatternError, Patterns};
pub use permission::{Permission, UnknownPermission};
pub use role::{Role, RoleScope, RolesError};

/// A binding as the decision sees it. Names are for those who ask why; ids decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The binding's id.
    pub binding_id: String,
    /// The organization it lies in.
    pub org_id: String,
    /// The slug of that organization.
    pub org: String,
    /// The role it gives.
    pub role: Given,
    /// The project, or the whole organization.
    pub project_id: Option<String>,
    /// The slug of that project.
    pub project: Option<String>,
    /// Kubernetes namespaces, for the roles that need them.
    pub namespaces: Vec<String>,
    /// The name of the group that it was had through; `None`: it is the user's own.
    pub group: Option<String>,
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
    /// What the API key was narrowed to.
    pub narrowing: Narrowing,
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
            narrowing: Narrowing::default(),
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
    /// A repository, be it there or not. What is asked on a [`Resource::Project`] is asked on all of its repositories.
    Repository {
        /// The organization's id.
        org_id: &'a str,
        /// The project's id, where it exists.
        project_id: Option<&'a str>,
        /// The path below the project.
        path: &'a str,
        /// The tag to be written or deleted; `None`: the question is whether there may be any.
        tag: Option<&'a str>,
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
#[error("{permission} on {target} is missing{}", explain::list(because))]
pub struct Denial {
    /// The permission.
    pub permission: Permission,
    /// The thing.
    pub target: Target,
    /// What stood in the way.
    pub because: Vec<Reason>,
}

/// A [`Resource`] that owns its ids, or the names that took their places by [`Denial::named`].
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
    /// A repository.
    Repository {
        /// The id of its project; `None` where that does not exist.
        project: Option<String>,
        /// The path below the project.
        path: String,
        /// The tag that was to be written or deleted.
        tag: Option<String>,
    },
}

impl Denial {
    /// With names in the places of ids.
    #[must_use]
    pub fn named(mut self, org: &str, project: Option<&str>) -> Self {
        match &mut self.target {
            Target::Org(id) | Target::ProjectToCreate(id) => org.clone_into(id),
            Target::Project(id) => {
                if let Some(project) = project {
                    project.clone_into(id);
                }
            }
            Target::Repository { project: id, .. } => *id = project.map(ToOwned::to_owned).or(id.take()),
            Target::Platform => {}
        }
        self
    }
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

/// Decides. Rights are the union of the principal's bindings; nothing else gives any, and an API key only takes away.
#[must_use]
pub fn authorize(principal: &Principal, permission: Permission, resource: &Resource<'_>) -> Decision {
    if let Resource::Platform = resource {
        return operate(principal, permission);
    }
    if principal.narrowing.refuses(permission, resource).is_some() {
        return deny(principal, permission, resource);
    }
    match principal.counting().find(|grant| grant.verdict(permission, resource) == Verdict::Allows) {
        Some(grant) => Decision::Allow(Basis::Binding(grant.binding_id.clone())),
        None => deny(principal, permission, resource),
    }
}

/// The platform's own permissions: the operator's, in person.
fn operate(principal: &Principal, permission: Permission) -> Decision {
    let role = Role::find(Role::PLATFORM_OPERATOR);
    let allowed = role.is_some_and(|role| role.permissions().contains(&permission));
    let in_person = principal.key_org.is_none() && principal.narrowing == Narrowing::default();
    if principal.operator && in_person && allowed {
        Decision::Allow(Basis::Operator)
    } else {
        deny(principal, permission, &Resource::Platform)
    }
}

fn deny(principal: &Principal, permission: Permission, resource: &Resource<'_>) -> Decision {
    let because = explain::against(principal, permission, resource);
    let denial = Denial { permission, target: resource.into(), because };
    // Whoever sees a thing has a binding around it, which knows its names.
    let (org, project) = match *resource {
        Resource::Platform => return Decision::Deny(denial),
        Resource::Org { org_id } | Resource::ProjectToCreate { org_id } => (org_id, None),
        Resource::Project { org_id, project_id } => (org_id, Some(project_id)),
        Resource::Repository { org_id, project_id, .. } => (org_id, project_id),
    };
    let named = principal.grants.iter().find(|grant| grant.org_id == org).map_or(org, |grant| &grant.org);
    let of_project =
        principal.grants.iter().find(|grant| grant.project_id.is_some() && grant.project_id.as_deref() == project);
    Decision::Deny(denial.named(named, of_project.and_then(|grant| grant.project.as_deref())))
}

/// What one binding says to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// Yes.
    Allows,
    /// It does not hold there.
    Elsewhere,
    /// Its role has no such permission there.
    Lacks,
    /// Its role has it, for other repositories.
    OtherRepositories,
    /// Its role has it, for other tags.
    OtherTags,
}

/// Permissions by which others are let in, or get what they did not have.
const LETS_IN: [Permission; 6] = [
    Permission::MemberWrite,
    Permission::UserWrite,
    Permission::GroupWrite,
    Permission::RoleWrite,
    Permission::ApikeyManage,
    Permission::IssuerWrite,
];

impl Grant {
    /// Where it holds.
    fn place(&self) -> Resource<'_> {
        let org_id = self.org_id.as_str();
        match &self.project_id {
            Some(project_id) => Resource::Project { org_id, project_id },
            None => Resource::Org { org_id },
        }
    }

    fn verdict(&self, permission: Permission, resource: &Resource<'_>) -> Verdict {
        let (org, project, path, tag) = match *resource {
            Resource::Platform => return Verdict::Elsewhere,
            Resource::Org { org_id } | Resource::ProjectToCreate { org_id } => (org_id, None, None, None),
            Resource::Project { org_id, project_id } => (org_id, Some(project_id), None, None),
            Resource::Repository { org_id, project_id, path, tag } => (org_id, project_id, Some(path), tag),
        };
        if self.org_id != org {
            return Verdict::Elsewhere;
        }
        let permissions = match (self.role.scope(), &self.project_id) {
            (RoleScope::Organization, None) => self.role.permissions(),
            (RoleScope::Project, Some(own)) if project == Some(own) => self.role.permissions(),
            (RoleScope::Project, Some(_)) if matches!(resource, Resource::Org { .. }) => {
                self.role.organization_permissions()
            }
            // In another project; and a binding that does not fit its role gives nothing.
            _ => return Verdict::Elsewhere,
        };
        if !permissions.contains(&permission) {
            return Verdict::Lacks;
        }
        // Where no repository is named, all of them are meant; where one is and no tag, some tag of it.
        let reached = self.role.repositories(permission).is_none_or(|own| path.is_some_and(|path| own.matches(path)));
        if !reached {
            return Verdict::OtherRepositories;
        }
        let tagged = |own: &Patterns| path.is_some() && tag.is_none_or(|tag| own.matches(tag));
        if self.role.tags(permission).is_none_or(tagged) { Verdict::Allows } else { Verdict::OtherTags }
    }
}

/// Where a principal has a permission on projects: whole organizations, single projects of others, and parts of either.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// Ids of organizations, every project of which is in reach.
    pub orgs: Vec<String>,
    /// Ids of single projects in reach.
    pub projects: Vec<String>,
    /// Where only some repositories are in reach: which, [`authorize`] says of each.
    pub partly: Vec<Part>,
}

/// An organization or project of which only some repositories are in reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Id of the organization.
    pub org_id: String,
    /// Id of the project; `None`: any of the organization's.
    pub project_id: Option<String>,
}

impl Principal {
    /// The bindings that count: with an API key, those of its organization alone.
    fn counting(&self) -> impl Iterator<Item = &Grant> {
        self.grants.iter().filter(|grant| self.key_org.as_ref().is_none_or(|org| *org == grant.org_id))
    }

    /// Where the principal has a permission on projects: what [`authorize`] would allow, as sets to query by.
    #[must_use]
    pub fn reach(&self, permission: Permission) -> Reach {
        let mut reach = Reach::default();
        for grant in self.counting() {
            let org_id = grant.org_id.as_str();
            let places: Vec<Option<&str>> = match (&grant.project_id, &self.narrowing.projects) {
                (Some(project), _) => vec![Some(project)],
                (None, None) => vec![None],
                (None, Some(projects)) => projects.iter().map(|project| Some(project.as_str())).collect(),
            };
            for place in places {
                let resource = match place {
                    Some(project_id) => Resource::Project { org_id, project_id },
                    None => Resource::ProjectToCreate { org_id },
                };
                if self.narrowing.refuses(permission, &resource).is_some() {
                    continue;
                }
                match (grant.verdict(permission, &resource), place) {
                    (Verdict::Allows, Some(project)) => reach.projects.push(project.to_owned()),
                    (Verdict::Allows, None) => reach.orgs.push(org_id.to_owned()),
                    (Verdict::OtherRepositories | Verdict::OtherTags, _) => {
                        reach.partly.push(Part { org_id: org_id.to_owned(), project_id: place.map(ToOwned::to_owned) });
                    }
                    (Verdict::Lacks | Verdict::Elsewhere, _) => {}
                }
            }
        }
        reach.orgs.sort_unstable();
        reach.orgs.dedup();
        reach.projects.sort_unstable();
        reach.projects.dedup();
        reach.partly.sort_unstable();
        reach.partly.dedup();
        reach
    }

    /// Whether the principal has a permission in a repository.
    #[must_use]
    pub fn may_in(&self, permission: Permission, repository: &Repository) -> bool {
        let Ok(name) = repository.name.parse::<RepoName>() else { return false };
        let (org_id, project_id) = (repository.org_id.as_str(), Some(repository.project_id.as_str()));
        authorize(self, permission, &Resource::Repository { org_id, project_id, path: name.path(), tag: None })
            .is_allowed()
    }

    /// Whether the principal may give `role` on `resource`: it takes `member.write` there, and every permission that the
    /// role would bring, so that nobody makes anybody mightier than themselves.
    #[must_use]
    pub fn may_give(&self, role: &Given, resource: &Resource<'_>) -> Decision {
        let first = authorize(self, Permission::MemberWrite, resource);
        if !first.is_allowed() {
            return first;
        }
        self.may_pass_on(role, resource)
    }

    /// Whether the principal may say what a custom role of an organization is: it takes `role.write`, and every permission
    /// of the role wherever it could be given.
    #[must_use]
    pub fn may_define(&self, role: &Given, org_id: &str) -> Decision {
        let first = authorize(self, Permission::RoleWrite, &Resource::Org { org_id });
        if !first.is_allowed() {
            return first;
        }
        match role.scope() {
            RoleScope::Project => self.may_pass_on(role, &Resource::ProjectToCreate { org_id }),
            RoleScope::Organization | RoleScope::Platform => self.may_pass_on(role, &Resource::Org { org_id }),
        }
    }

    /// Whether the principal has every right that another has, so that they may act for them.
    ///
    /// # Errors
    /// The first that they lack.
    pub fn covers(&self, other: &Self) -> Result<(), Denial> {
        other.counting().try_for_each(|grant| self.covers_grant(grant))
    }

    /// Whether the principal has every right that a binding gives, be it in force or not.
    ///
    /// # Errors
    /// The first that they lack.
    pub(crate) fn covers_grant(&self, grant: &Grant) -> Result<(), Denial> {
        self.has_whatever(&grant.role, &grant.place()).into_result().map(|_| ())
    }

    /// Whether the principal may let a binding's holder in: as [`Principal::covers_grant`], and not by an API key where that
    /// makes people who make people.
    ///
    /// # Errors
    /// The first right that is missing.
    pub(crate) fn may_let_in(&self, grant: &Grant) -> Result<(), Denial> {
        self.may_pass_on(&grant.role, &grant.place()).into_result().map(|_| ())
    }

    /// Whether the principal may give others what the role would bring on `resource`: they have it all, and an API key passes
    /// nothing on by which others could be let in, or it would outlive its revocation in them.
    pub(crate) fn may_pass_on(&self, role: &Given, resource: &Resource<'_>) -> Decision {
        let mighty = |permission: &&Permission| LETS_IN.contains(permission);
        let brought = role.permissions().iter().chain(role.organization_permissions());
        if self.key_org.is_some()
            && let Some(permission) = brought.copied().find(|permission| mighty(&permission))
        {
            let Decision::Deny(denial) = deny(self, permission, resource) else {
                return self.has_whatever(role, resource);
            };
            return Decision::Deny(Denial { because: vec![Reason::KeyPassesOn], ..denial });
        }
        self.has_whatever(role, resource)
    }

    /// Whether the principal has whatever the role would bring on `resource`.
    pub(crate) fn has_whatever(&self, role: &Given, resource: &Resource<'_>) -> Decision {
        let around = match *resource {
            Resource::Project { org_id, .. }
            | Resource::Repository { org_id, .. }
            | Resource::Org { org_id }
            | Resource::ProjectToCreate { org_id } => Resource::Org { org_id },
            Resource::Platform => Resource::Platform,
        };
        if role.scope() == RoleScope::Platform {
            return deny(self, Permission::PlatformOrgManage, &Resource::Platform);
        }
        let here = role.permissions().iter().map(|p| self.has_all_of(*p, role, resource));
        let there = role.organization_permissions().iter().map(|p| self.has_all_of(*p, role, &around));
        let basis = Decision::Allow(Basis::Binding(String::new()));
        here.chain(there).find(|decision| !decision.is_allowed()).unwrap_or(basis)
    }

    /// Whether the principal has the permission wherever the role's patterns let it hold: without bounds, or by a binding
    /// whose patterns are those and perhaps more.
    fn has_all_of(&self, permission: Permission, role: &Given, resource: &Resource<'_>) -> Decision {
        let whole = authorize(self, permission, resource);
        if whole.is_allowed() || self.narrowing.refuses(permission, resource).is_some() {
            return whole;
        }
        let covers = |own: Option<&Patterns>, other: Option<&Patterns>| {
            own.is_none_or(|own| other.is_some_and(|other| own.covers(other)))
        };
        let part = self.counting().find(|grant| {
            matches!(grant.verdict(permission, resource), Verdict::OtherRepositories | Verdict::OtherTags)
                && covers(grant.role.repositories(permission), role.repositories(permission))
                && covers(grant.role.tags(permission), role.tags(permission))
        });
        part.map_or(whole, |grant| Decision::Allow(Basis::Binding(grant.binding_id.clone())))
    }
}

impl From<&Resource<'_>> for Target {
    fn from(resource: &Resource<'_>) -> Self {
        match *resource {
            Resource::Platform => Self::Platform,
            Resource::Org { org_id } => Self::Org(org_id.to_owned()),
            Resource::Project { project_id, .. } => Self::Project(project_id.to_owned()),
            Resource::ProjectToCreate { org_id } => Self::ProjectToCreate(org_id.to_owned()),
            Resource::Repository { project_id, path, tag, .. } => Self::Repository {
                project: project_id.map(ToOwned::to_owned),
                path: path.to_owned(),
                tag: tag.map(ToOwned::to_owned),
            },
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
            Self::Repository { project, path, tag } => {
                if let Some(tag) = tag {
                    write!(f, "tag {tag} of ")?;
                }
                match project {
                    Some(project) => write!(f, "repository {path} of project {project}"),
                    None => write!(f, "repository {path} of a new project"),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;

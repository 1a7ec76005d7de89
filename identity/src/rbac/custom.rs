//! What a binding gives: a base role as it is, or a custom role made of one.

use std::fmt;
use std::sync::Arc;

use storage::custom_roles::{CustomRole as Row, Rules};

use super::patterns::{PatternError, Patterns};
use super::{Permission, Role, RoleScope};

/// A custom role, ready to decide with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CustomRole {
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What it is made of.
    pub base: Role,
    permissions: Vec<Permission>,
    organization: Vec<Permission>,
    repositories: Patterns,
    tags: Patterns,
}

/// A role as a binding gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    /// One of the matrix.
    Base(Role),
    /// One of an organization's own.
    Custom(Arc<CustomRole>),
}

/// A custom role that cannot be. `Display` is meant for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// Its base is no role that a binding gives.
    #[error("there is no base role of that name")]
    Base,
    /// A name that is no permission.
    #[error("there is no permission {0:?}")]
    Unknown(String),
    /// A permission that has no meaning where the base is bound.
    #[error("{0} means nothing where {1} is given")]
    Scope(Permission, Role),
    /// A permission that is added to a base that has it, or removed from one that has not.
    #[error("{1} {2} {0}")]
    Pointless(Permission, Role, &'static str),
    /// A repository pattern.
    #[error("repositories: {0}")]
    Repositories(PatternError),
    /// A tag pattern.
    #[error("tags: {0}")]
    Tags(PatternError),
}

impl CustomRole {
    /// Reads a row.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn read(row: &Row) -> Result<Self, RuleError> {
        let base = Role::find(&row.base).ok_or(RuleError::Base)?;
        Self::compile(&row.id, &row.name, base, &row.rules)
    }

    /// Makes a custom role of its rules.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn compile(id: &str, name: &str, base: Role, rules: &Rules) -> Result<Self, RuleError> {
        if base.scope() == RoleScope::Platform {
            return Err(RuleError::Base);
        }
        let mut permissions = base.permissions().to_vec();
        let mut organization = base.organization_permissions().to_vec();
        let (here, around) = assignable(base.scope());
        for name in &rules.added {
            let added: Permission = name.parse().map_err(|_| RuleError::Unknown(name.clone()))?;
            let list = match (here.contains(&added), around.contains(&added)) {
                (true, _) => &mut permissions,
                (_, true) => &mut organization,
                _ => return Err(RuleError::Scope(added, base)),
            };
            if list.contains(&added) {
                return Err(RuleError::Pointless(added, base, "already has"));
            }
            list.push(added);
        }
        for name in &rules.removed {
            let removed: Permission = name.parse().map_err(|_| RuleError::Unknown(name.clone()))?;
            if !base.permissions().contains(&removed) && !base.organization_permissions().contains(&removed) {
                return Err(RuleError::Pointless(removed, base, "does not have"));
            }
            permissions.retain(|permission| *permission != removed);
            organization.retain(|permission| *permission != removed);
        }
        permissions.sort_unstable();
        organization.sort_unstable();
        Ok(Self {
            id: id.to_owned(),
            name: name.to_owned(),
            base,
            permissions,
            organization,
            repositories: Patterns::compile(&rules.repositories).map_err(RuleError::Repositories)?,
            tags: Patterns::compile(&rules.tags).map_err(RuleError::Tags)?,
        })
    }
}

#[cfg(test)]
impl CustomRole {
    pub(crate) fn without_patterns(&self) -> Self {
        Self { repositories: Patterns::default(), tags: Patterns::default(), ..self.clone() }
    }
}

/// What roles of a scope may be made of: permissions that hold where the role is bound, and around that.
#[must_use]
pub fn assignable(scope: RoleScope) -> (Vec<Permission>, Vec<Permission>) {
    let of = |list: fn(Role) -> &'static [Permission]| {
        let mut all: Vec<Permission> =
            Role::all().filter(|role| role.scope() == scope).flat_map(|role| list(role).iter().copied()).collect();
        all.sort_unstable();
        all.dedup();
        all
    };
    (of(Role::permissions), of(Role::organization_permissions))
}

impl Given {
    /// What bindings call it: the token of a base role, or the id of a custom one.
    #[must_use]
    pub fn key(&self) -> &str {
        match self {
            Self::Base(role) => role.token(),
            Self::Custom(role) => &role.id,
        }
    }

    /// What people call it: the token of a base role, or the name of a custom one.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Base(role) => role.token(),
            Self::Custom(role) => &role.name,
        }
    }

    /// The role of the matrix that it is, or is made of.
    #[must_use]
    pub fn base(&self) -> Role {
        match self {
            Self::Base(role) => *role,
            Self::Custom(role) => role.base,
        }
    }

    /// What it is bound to.
    #[must_use]
    pub fn scope(&self) -> RoleScope {
        self.base().scope()
    }

    /// What it allows on what it is bound to (and on the projects in that).
    #[must_use]
    pub fn permissions(&self) -> &[Permission] {
        match self {
            Self::Base(role) => role.permissions(),
            Self::Custom(role) => &role.permissions,
        }
    }

    /// What a project's role allows on the organization around the project.
    #[must_use]
    pub fn organization_permissions(&self) -> &[Permission] {
        match self {
            Self::Base(role) => role.organization_permissions(),
            Self::Custom(role) => &role.organization,
        }
    }

    /// The repositories in which its permission holds; `None`: all of them.
    #[must_use]
    pub fn repositories(&self, permission: Permission) -> Option<&Patterns> {
        match self {
            Self::Custom(role) if permission.is_registry() && !role.repositories.is_all() => Some(&role.repositories),
            _ => None,
        }
    }

    /// The tags for which its permission holds; `None`: all of them.
    #[must_use]
    pub fn tags(&self, permission: Permission) -> Option<&Patterns> {
        match self {
            Self::Custom(role) if permission.writes_tags() && !role.tags.is_all() => Some(&role.tags),
            _ => None,
        }
    }
}

impl Permission {
    /// Whether it is about what lies in repositories.
    #[must_use]
    pub fn is_registry(self) -> bool {
        matches!(self, Self::RegistryPull | Self::RegistryPush | Self::RegistryDelete | Self::RegistryManage)
    }

    /// Whether tag patterns limit it: reading never is.
    #[must_use]
    pub fn writes_tags(self) -> bool {
        matches!(self, Self::RegistryPush | Self::RegistryDelete)
    }
}

impl From<Role> for Given {
    fn from(role: Role) -> Self {
        Self::Base(role)
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn compile(base: &str, added: &[&str], removed: &[&str]) -> Result<CustomRole, RuleError> {
        let texts = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        let rules = Rules { added: texts(added), removed: texts(removed), ..Rules::default() };
        CustomRole::compile("id", "name", Role::find(base).unwrap(), &rules)
    }

    #[test]
    fn permissions_come_and_go_where_they_mean_something() {
        let role =
            compile("PROJECT_READ_ONLY", &["registry.push", "user.read"], &["member.read", "apikey.own"]).unwrap();
        assert_eq!(role.permissions, [Permission::RegistryPull, Permission::RegistryPush, Permission::ProjectRead]);
        assert_eq!(role.organization, [Permission::OrgRead, Permission::UserRead]);
        assert!(matches!(compile("PROJECT_ADMIN", &["user.write"], &[]), Err(RuleError::Scope(..))));
        assert!(matches!(compile("AUDITOR", &["platform.org.create"], &[]), Err(RuleError::Scope(..))));
        assert!(matches!(compile("AUDITOR", &["audit.read"], &[]), Err(RuleError::Pointless(..))));
        assert!(matches!(compile("AUDITOR", &["user.read", "user.read"], &[]), Err(RuleError::Pointless(..))));
        assert!(matches!(compile("AUDITOR", &[], &["user.read"]), Err(RuleError::Pointless(..))));
        assert!(matches!(compile("AUDITOR", &["everything"], &[]), Err(RuleError::Unknown(_))));
        assert_eq!(compile("SUPER_ADMIN", &[], &[]), Err(RuleError::Base));
    }
}

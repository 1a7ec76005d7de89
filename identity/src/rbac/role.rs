//! Roles, read from `roles.toml`, which is embedded.

use std::fmt;
use std::sync::LazyLock;

use serde::Deserialize;

use super::Permission;

static SOURCE: &str = include_str!("../../roles.toml");
static ROLES: LazyLock<Result<Vec<RoleData>, RolesError>> = LazyLock::new(|| parse(SOURCE));

/// What a role is bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoleScope {
    /// The platform, outside every organization.
    Platform,
    /// A whole organization.
    Organization,
    /// One project.
    Project,
}

/// A role of the matrix: a reference to its row.
#[derive(Clone, Copy)]
pub struct Role(&'static RoleData);

#[derive(Debug)]
struct RoleData {
    token: String,
    label: String,
    scope: RoleScope,
    namespaces: bool,
    permissions: Vec<Permission>,
    organization: Vec<Permission>,
}

/// Why the matrix could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("roles.toml: {0}")]
pub struct RolesError(String);

impl Role {
    /// Checks that the embedded matrix can be read; to be called once at start.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn check() -> Result<(), RolesError> {
        ROLES.as_ref().map(|_| ()).map_err(Clone::clone)
    }

    /// Every role, in the order of the matrix.
    pub fn all() -> impl Iterator<Item = Self> {
        ROLES.as_ref().map(Vec::as_slice).unwrap_or_default().iter().map(Self)
    }

    /// The role of that token.
    #[must_use]
    pub fn find(token: &str) -> Option<Self> {
        Self::all().find(|role| role.token() == token)
    }

    /// The role that may do everything in an organization.
    pub const ORGANIZATION_ADMIN: &'static str = "ADMIN";

    /// The role of those who run the platform.
    pub const PLATFORM_OPERATOR: &'static str = "SUPER_ADMIN";

    /// Its token, such as `PROJECT_ADMIN`.
    #[must_use]
    pub fn token(self) -> &'static str {
        &self.0.token
    }

    /// What people call it.
    #[must_use]
    pub fn label(self) -> &'static str {
        &self.0.label
    }

    /// What it is bound to.
    #[must_use]
    pub fn scope(self) -> RoleScope {
        self.0.scope
    }

    /// Whether a binding must name namespaces.
    #[must_use]
    pub fn needs_namespaces(self) -> bool {
        self.0.namespaces
    }

    /// What it allows on what it is bound to (and on the projects in that).
    #[must_use]
    pub fn permissions(self) -> &'static [Permission] {
        &self.0.permissions
    }

    /// What a project's role allows on the organization around the project.
    #[must_use]
    pub fn organization_permissions(self) -> &'static [Permission] {
        &self.0.organization
    }
}

impl PartialEq for Role {
    fn eq(&self, other: &Self) -> bool {
        self.token() == other.token()
    }
}

impl Eq for Role {}

impl fmt::Debug for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

fn parse(source: &str) -> Result<Vec<RoleData>, RolesError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        role: Vec<Entry>,
    }
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Entry {
        token: String,
        label: String,
        scope: RoleScope,
        #[serde(default)]
        namespaces: bool,
        permissions: Vec<String>,
        #[serde(default)]
        organization: Vec<String>,
    }
    let file: File = toml::from_str(source).map_err(|e| RolesError(e.to_string()))?;
    let named = |names: Vec<String>| -> Result<Vec<Permission>, RolesError> {
        names.iter().map(|name| name.parse().map_err(|e| RolesError(format!("{e}")))).collect()
    };
    let mut roles: Vec<RoleData> = Vec::new();
    for entry in file.role {
        if roles.iter().any(|role| role.token == entry.token) {
            return Err(RolesError(format!("{} is there twice", entry.token)));
        }
        if !entry.organization.is_empty() && entry.scope != RoleScope::Project {
            return Err(RolesError(format!("{}: only a project's role has `organization`", entry.token)));
        }
        roles.push(RoleData {
            token: entry.token,
            label: entry.label,
            scope: entry.scope,
            namespaces: entry.namespaces,
            permissions: named(entry.permissions)?,
            organization: named(entry.organization)?,
        });
    }
    Ok(roles)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_embedded_matrix_can_be_read() {
        Role::check().unwrap();
        assert_eq!(Role::all().count(), 13);
        assert_eq!(Role::find(Role::ORGANIZATION_ADMIN).unwrap().scope(), RoleScope::Organization);
        assert_eq!(Role::find(Role::PLATFORM_OPERATOR).unwrap().scope(), RoleScope::Platform);
        assert!(Role::all().all(|r| r.needs_namespaces() == r.token().starts_with("NAMESPACE_")));
        assert!(Role::find("NOPE").is_none());
    }

    #[test]
    fn a_matrix_with_a_mistake_is_refused() {
        let row = "[[role]]\ntoken='A'\nlabel='a'\nscope='organization'\npermissions=['org.read']\n";
        assert!(parse(row).is_ok());
        assert!(parse(&row.repeat(2)).unwrap_err().to_string().contains("twice"));
        assert!(parse(&row.replace("org.read", "org.raed")).unwrap_err().to_string().contains("org.raed"));
        assert!(parse(&format!("{row}organization=['org.read']\n")).is_err());
        assert!(parse(&format!("{row}unknown=1\n")).is_err());
    }
}

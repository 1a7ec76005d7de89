//! Permissions: dotted names, the vocabulary of `roles.toml`, of handlers and of denials.

use std::fmt;
use std::str::FromStr;

macro_rules! permissions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// Something that a role may allow.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Permission {
            $($(#[$doc])* $variant,)*
        }

        impl Permission {
            /// Every permission there is.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The dotted name.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

permissions! {
    /// Read images of a project.
    RegistryPull = "registry.pull",
    /// Write images to a project, new repositories included.
    RegistryPush = "registry.push",
    /// Delete tags, manifests and blobs of a project.
    RegistryDelete = "registry.delete",
    /// Change how the registry treats a project.
    RegistryManage = "registry.manage",
    /// See that an organization exists, and its name.
    OrgRead = "org.read",
    /// Change an organization's name.
    OrgUpdate = "org.update",
    /// See an organization's settings.
    SettingsRead = "settings.read",
    /// Change an organization's settings.
    SettingsWrite = "settings.write",
    /// See a project.
    ProjectRead = "project.read",
    /// Create projects.
    ProjectCreate = "project.create",
    /// Change a project, such as making it public.
    ProjectUpdate = "project.update",
    /// Delete projects, with every image in them.
    ProjectDelete = "project.delete",
    /// See the users of an organization.
    UserRead = "user.read",
    /// Add, deactivate and unlock users of an organization.
    UserWrite = "user.write",
    /// See groups and who is in them.
    GroupRead = "group.read",
    /// Make, change and delete groups, and say who is in them.
    GroupWrite = "group.write",
    /// See roles, an organization's own ones included.
    RoleRead = "role.read",
    /// Make, change and delete an organization's own roles.
    RoleWrite = "role.write",
    /// See who holds which role.
    MemberRead = "member.read",
    /// Give roles and take them away.
    MemberWrite = "member.write",
    /// Have API keys of one's own.
    ApikeyOwn = "apikey.own",
    /// See, make and revoke anybody's API keys.
    ApikeyManage = "apikey.manage",
    /// See which issuers' tokens stand for a machine.
    IssuerRead = "issuer.read",
    /// Say which issuers' tokens stand for a machine.
    IssuerWrite = "issuer.write",
    /// Read the audit log.
    AuditRead = "audit.read",
    /// See every organization of the platform, not what is in it.
    PlatformOrgRead = "platform.org.read",
    /// Create organizations.
    PlatformOrgCreate = "platform.org.create",
    /// Suspend, resume and delete organizations.
    PlatformOrgManage = "platform.org.manage",
    /// See how the platform is.
    PlatformHealth = "platform.health",
    /// Read the platform's own audit log.
    PlatformAudit = "platform.audit",
}

/// A text that names no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no permission {0:?}")]
pub struct UnknownPermission(String);

impl FromStr for Permission {
    type Err = UnknownPermission;
    fn from_str(s: &str) -> Result<Self, UnknownPermission> {
        Self::ALL.iter().copied().find(|p| p.as_str() == s).ok_or_else(|| UnknownPermission(s.to_owned()))
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

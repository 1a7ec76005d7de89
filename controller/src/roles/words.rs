//! What roles and permissions mean, in the words of the console.

use identity::rbac::{Permission, Role};

/// Permissions that belong together.
#[derive(Debug)]
pub(crate) struct Group {
    /// What they are about.
    pub(crate) title: &'static str,
    /// Each with what it allows.
    pub(crate) permissions: &'static [(Permission, &'static str)],
}

/// Everything that a role of an organization or project may allow.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        title: "Images",
        permissions: &[
            (Permission::RegistryPull, "Pull images"),
            (Permission::RegistryPush, "Push images, new repositories included"),
            (Permission::RegistryDelete, "Delete tags, manifests and repositories"),
            (Permission::RegistryManage, "Open a project to everybody, and change how the registry treats it"),
        ],
    },
    Group {
        title: "Projects",
        permissions: &[
            (Permission::ProjectRead, "See projects"),
            (Permission::ProjectCreate, "Create projects"),
            (Permission::ProjectUpdate, "Change projects"),
            (Permission::ProjectDelete, "Delete projects with everything in them"),
        ],
    },
    Group {
        title: "People",
        permissions: &[
            (Permission::UserRead, "See users"),
            (Permission::UserWrite, "Invite, deactivate, unlock and delete users"),
            (Permission::GroupRead, "See groups and who is in them"),
            (Permission::GroupWrite, "Make and change groups, and say who is in them"),
        ],
    },
    Group {
        title: "Roles",
        permissions: &[
            (Permission::RoleRead, "See roles and what they allow"),
            (Permission::RoleWrite, "Make, change and delete custom roles"),
            (Permission::MemberRead, "See who holds which role"),
            (Permission::MemberWrite, "Give roles and take them away"),
        ],
    },
    Group {
        title: "Keys and machines",
        permissions: &[
            (Permission::ApikeyOwn, "Have API keys of one's own"),
            (Permission::ApikeyManage, "See, make and revoke everybody's API keys"),
            (Permission::IssuerRead, "See trusted issuers"),
            (Permission::IssuerWrite, "Say which issuers are trusted"),
        ],
    },
    Group {
        title: "Organization",
        permissions: &[
            (Permission::OrgRead, "See the organization"),
            (Permission::OrgUpdate, "Change the organization's name"),
            (Permission::SettingsRead, "See the settings"),
            (Permission::SettingsWrite, "Change the settings"),
            (Permission::AuditRead, "Read the audit log"),
        ],
    },
];

/// What a permission allows; its own name where there are no words for it.
pub(crate) fn of(name: &str) -> &str {
    let all = GROUPS.iter().flat_map(|group| group.permissions);
    all.clone().find(|(permission, _)| permission.as_str() == name).map_or(name, |(_, words)| words)
}

/// The same within a sentence.
pub(crate) fn within(name: &str) -> String {
    let words = of(name);
    let first = words.chars().next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    first + words.get(1..).unwrap_or_default()
}

/// What people call a role: a base role's label, or a custom role's name.
pub(crate) fn label(role: &str) -> String {
    Role::find(role).map_or_else(|| role.to_owned(), |role| role.label().to_owned())
}

/// How many hold a role.
pub(crate) fn holders(users: &i64, groups: &i64) -> String {
    let (user, group) = (if *users == 1 { "user" } else { "users" }, if *groups == 1 { "group" } else { "groups" });
    format!("{users} {user} and {groups} {group}")
}

/// What a base role is for, in a sentence.
pub(crate) fn purpose(role: &str) -> &'static str {
    match role {
        "ADMIN" => "Runs the organization: everything in it.",
        "ADMINISTRATOR_READ_ONLY" => "Sees everything in the organization and changes nothing.",
        "AUDITOR" => "Reads the audit log, and nothing else.",
        "PROJECT_ADMIN" => "Runs a project: its images, its switches and who works in it.",
        "PROJECT_READ_ONLY" => "Pulls a project's images and sees who works in it.",
        "INFRA_ADMIN" | "INFRA_READ_ONLY" | "CLUSTER_ADMIN" => {
            "For whoever runs the clusters: pulls a project's images."
        }
        "WORKSPACE_ADMIN" => "For developers and builds: pulls and pushes a project's images.",
        "WORKSPACE_READ_ONLY" => "For whoever only runs what others build: pulls a project's images.",
        "NAMESPACE_ADMIN" => "Pulls and pushes a project's images, for the Kubernetes namespaces that are named.",
        "NAMESPACE_READ_ONLY" => "Pulls a project's images, for the Kubernetes namespaces that are named.",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use identity::rbac::RoleScope;

    #[test]
    fn every_permission_of_an_organization_has_its_words_once() {
        for permission in Permission::ALL {
            let said = GROUPS.iter().flat_map(|group| group.permissions).filter(|(said, _)| said == permission).count();
            assert_eq!(said, usize::from(!permission.as_str().starts_with("platform.")), "{permission}");
        }
        assert_eq!((of("registry.pull"), of("unheard.of")), ("Pull images", "unheard.of"));
        assert_eq!((within("registry.pull"), within("")), ("pull images".to_owned(), String::new()));
    }

    #[test]
    fn every_role_that_is_given_has_a_purpose() {
        for role in Role::all().filter(|role| role.scope() != RoleScope::Platform) {
            assert!(!purpose(role.token()).is_empty(), "{role}");
        }
        assert_eq!(
            (label("PROJECT_ADMIN"), label("release-manager")),
            ("Project Admin".into(), "release-manager".into())
        );
    }
}

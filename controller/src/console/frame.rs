//! What surrounds every page: bar, side, the notice of what was just done. What a role cannot use is not offered.

use identity::rbac::Permission;

use super::notice::Notice;
use super::parts::{Ago, Size};
use super::viewer::Viewer;

/// An organization in the menu.
#[derive(Debug, Clone)]
pub(crate) struct OrgLink {
    /// Its slug.
    pub(crate) slug: String,
    /// What people call it.
    pub(crate) name: String,
}

/// An entry of the side.
#[derive(Debug, Clone)]
pub(crate) struct NavItem {
    pub(crate) href: String,
    pub(crate) label: &'static str,
    pub(crate) icon: &'static str,
    pub(crate) current: bool,
}

/// A titled part of the side.
#[derive(Debug, Clone)]
pub(crate) struct NavGroup {
    pub(crate) title: &'static str,
    pub(crate) items: Vec<NavItem>,
}

/// Which entry of the side a page belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    /// None of them.
    None,
    Home,
    Repositories,
    Projects,
    Users,
    Groups,
    Roles,
    Machines,
    AllKeys,
    Issuers,
    Settings,
    Audit,
    Account,
    Keys,
    Orgs,
    Health,
    PlatformAudit,
}

/// What surrounds a page. Every template that extends `console/layout.html` has one in its field `frame`.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    /// Name of whoever looks.
    pub(crate) user: String,
    /// The chosen organization.
    pub(crate) org: Option<OrgLink>,
    /// Others to go to.
    pub(crate) others: Vec<OrgLink>,
    /// The side.
    pub(crate) nav: Vec<NavGroup>,
    /// What forms repeat in their field `csrf`.
    pub(crate) csrf: String,
    /// What was just done.
    pub(crate) notice: Option<Notice>,
    /// The time (unix seconds).
    pub(crate) now: i64,
}

impl Frame {
    /// Slug of the chosen organization; empty where there is none.
    pub(crate) fn slug(&self) -> &str {
        self.org.as_ref().map_or("", |org| org.slug.as_str())
    }

    /// Whether the side leads to a section of the chosen organization, `"/users"` say: whether a link to it would be one.
    pub(crate) fn offers(&self, section: &str) -> bool {
        let path = format!("/orgs/{}{section}", crate::etag::segment(self.slug()));
        self.nav.iter().flat_map(|group| &group.items).any(|item| item.href == path)
    }

    /// A time in relation to now, with the absolute one to be read on it.
    pub(crate) fn ago(&self, at: impl std::borrow::Borrow<i64>) -> Ago {
        Ago { at: *at.borrow(), now: self.now }
    }

    /// Bytes as people read them.
    #[allow(clippy::unused_self)] // Templates reach functions through what they hold.
    pub(crate) fn size(&self, bytes: impl std::borrow::Borrow<i64>) -> Size {
        Size(*bytes.borrow())
    }
}

/// The side for a viewer.
pub(super) fn nav(viewer: &Viewer, here: Section) -> Vec<NavGroup> {
    let mut groups = Vec::new();
    let mut add = |title, items: Vec<Option<NavItem>>| {
        let items: Vec<NavItem> = items.into_iter().flatten().collect();
        if !items.is_empty() {
            groups.push(NavGroup { title, items });
        }
    };
    if let Some(org) = viewer.org() {
        let item = |section, allowed: bool, path: &str, label, icon| {
            let href = format!("/orgs/{}{path}", org.slug);
            allowed.then_some(NavItem { href, label, icon, current: section == here })
        };
        let (whole, part) = (|p| viewer.may(p), |p| viewer.may_anywhere(p));
        add(
            "Registry",
            vec![
                item(Section::Home, true, "", "Home", "home"),
                item(Section::Repositories, part(Permission::RegistryPull), "/repositories", "Repositories", "box"),
                item(Section::Projects, part(Permission::ProjectRead), "/projects", "Projects", "folder"),
            ],
        );
        add(
            "System",
            vec![
                item(Section::Users, whole(Permission::UserRead), "/users", "Users", "user"),
                item(Section::Groups, whole(Permission::GroupRead), "/groups", "Groups", "group"),
                item(Section::Roles, whole(Permission::RoleRead), "/roles", "Roles", "badge"),
                item(Section::Machines, whole(Permission::UserRead), "/machines", "Machine users", "gear"),
                item(Section::AllKeys, whole(Permission::ApikeyManage), "/keys", "All API keys", "key"),
                item(Section::Issuers, whole(Permission::IssuerRead), "/issuers", "Trusted issuers", "link"),
                item(Section::Settings, whole(Permission::SettingsRead), "/settings", "Settings", "sliders"),
                item(Section::Audit, part(Permission::AuditRead), "/audit", "Audit", "list"),
            ],
        );
    }
    let item = |section, allowed: bool, path: &str, label, icon| {
        allowed.then_some(NavItem { href: path.to_owned(), label, icon, current: section == here })
    };
    let on = |permission| viewer.may_on_platform(permission);
    add(
        "Platform",
        vec![
            item(Section::Orgs, on(Permission::PlatformOrgRead), "/platform/orgs", "Organizations", "folder"),
            item(Section::Health, on(Permission::PlatformHealth), "/platform", "Health", "pulse"),
            item(Section::PlatformAudit, on(Permission::PlatformAudit), "/platform/audit", "Audit", "list"),
        ],
    );
    add(
        "My account",
        vec![
            item(Section::Account, true, "/account", "Account", "user"),
            item(Section::Keys, viewer.org().is_some(), "/account/keys", "API keys", "key"),
        ],
    );
    groups
}

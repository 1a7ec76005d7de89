//! `/orgs/{org}/users`

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::{SUGGESTIONS, given, offered, rows, segment, url};
use super::{UserRole, UserView};
use crate::State;
use crate::bindings::console::{RoleOption, every_option};
use crate::console::{self, Frame, Section, Viewer};
use crate::error::Result;
use crate::extract::{Path, Query};
use crate::groups::api::first_groups;
use crate::users::api::{self, Include, Kind, Status, UserQuery};

/// Roles that a row shows; the user's page has the others.
const SHOWN: usize = 3;

#[derive(Template)]
#[template(path = "users/list.html")]
struct ListPage {
    frame: Frame,
    users: Vec<UserView>,
    filters: Filters,
    choices: Choices,
    may_write: bool,
    here: String,
    first: String,
    next: Option<String>,
}

impl ListPage {
    fn shown<'a>(&self, user: &'a UserView) -> &'a [UserRole] {
        let roles = user.roles.as_deref().unwrap_or_default();
        roles.get(..SHOWN).unwrap_or(roles)
    }

    fn more(&self, user: &UserView) -> i64 {
        user.roles_total.unwrap_or_default() - i64::try_from(self.shown(user).len()).unwrap_or_default()
    }
}

/// What filters suggest.
struct Choices {
    roles: Vec<RoleOption>,
    projects: Vec<String>,
    groups: Vec<String>,
}

/// The filters as the address holds them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Filters {
    search: String,
    kind: String,
    status: String,
    group: String,
    project: String,
    role: String,
    after: String,
}

impl Filters {
    fn query(&self) -> UserQuery {
        UserQuery {
            search: given(&self.search),
            kind: match self.kind.as_str() {
                "local" => Some(Kind::Local),
                "machine" => Some(Kind::Machine),
                _ => None,
            },
            status: match self.status.as_str() {
                "invited" => Some(Status::Invited),
                "active" => Some(Status::Active),
                "inactive" => Some(Status::Inactive),
                _ => None,
            },
            group: given(&self.group),
            project: given(&self.project),
            role: given(&self.role),
            include: Some(Include::Roles),
        }
    }

    fn url(&self, path: &str, after: &str) -> String {
        let Self { search, kind, status, group, project, role, .. } = self;
        let fields = [
            ("search", search.as_str()),
            ("kind", kind),
            ("status", status),
            ("group", group),
            ("project", project),
            ("role", role),
            ("after", after),
        ];
        url(path, &fields)
    }

    /// Whether one of those is set that are folded away.
    fn more(&self) -> bool {
        [&self.group, &self.project, &self.role].iter().any(|text| !text.is_empty())
    }

    fn any(&self) -> bool {
        self.more() || [&self.search, &self.kind, &self.status].iter().any(|text| !text.is_empty())
    }
}

/// The table.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(filters): Query<Filters>,
) -> Result<Response> {
    let here = format!("/orgs/{}/users", segment(&org));
    let query = Query(rows(given(&filters.after)));
    let path = Path(org.clone());
    let Json(page) =
        api::list_users(viewer.actor(), Shared(state.clone()), path, Query(filters.query()), query).await?;
    let choices = Choices {
        roles: every_option(&viewer, &state, &org).await?,
        projects: offered(&viewer, &state, &org).await?.0,
        groups: group_names(&viewer, &state, &org).await?,
    };
    let next = page.next.map(|after| filters.url(&here, &after));
    let first = if filters.after.is_empty() { String::new() } else { filters.url(&here, "") };
    let frame = viewer.frame(Section::Users);
    let may_write = viewer.may(Permission::UserWrite);
    console::page(&ListPage { frame, users: page.items, filters, choices, may_write, here, first, next })
}

/// Groups to suggest, as far as the viewer may see them.
pub(super) async fn group_names(viewer: &Viewer, state: &State, org: &str) -> Result<Vec<String>> {
    if !viewer.may(Permission::GroupRead) {
        return Ok(Vec::new());
    }
    let groups = first_groups(&viewer.actor, state, org, SUGGESTIONS).await?;
    Ok(groups.into_iter().map(|group| group.name).collect())
}

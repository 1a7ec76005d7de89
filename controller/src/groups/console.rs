//! Groups, as pages.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::api::{self, GroupToCreate, GroupView};
use crate::State;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::Result;
use crate::etag::segment;
use crate::extract::{self, Path, Query};
use crate::page::PageQuery;

/// `/orgs/{org}/groups`
#[derive(Template)]
#[template(path = "groups/list.html")]
struct ListPage {
    frame: Frame,
    groups: Vec<GroupView>,
    may_write: bool,
    first: String,
    next: Option<String>,
}

/// `/orgs/{org}/groups/new`
#[derive(Template)]
#[template(path = "groups/new.html")]
struct NewPage {
    frame: Frame,
    given: NewForm,
    problem: Option<FormProblem>,
}

/// The fields of a group to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewForm {
    name: String,
    description: String,
}

/// The list.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Response> {
    let here = format!("/orgs/{}/groups", segment(&org));
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let Json(page) =
        api::list_groups(viewer.actor(), Shared(state), Path(org), Query(api::GroupQuery::default()), Query(query))
            .await?;
    let next = page.next.map(|after| format!("{here}?after={}", segment(&after)));
    let frame = viewer.frame(Section::Groups);
    let may_write = viewer.may(Permission::GroupWrite);
    console::page(&ListPage { frame, groups: page.items, may_write, first, next })
}

/// The form of a new one.
pub(crate) async fn new(viewer: Viewer, Shared(state): Shared<State>, Path(org): Path<String>) -> Result<Response> {
    viewer.actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    console::page(&NewPage { frame: viewer.frame(Section::Groups), given: NewForm::default(), problem: None })
}

/// Makes one.
pub(crate) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<NewForm>,
) -> Result<Response> {
    let new = GroupToCreate { name: given.name.clone(), description: given.description.clone() };
    let made = api::create_group(viewer.actor(), Shared(state.clone()), Path(org.clone()), extract::Json(new)).await;
    match made {
        Ok(made) => {
            let to = format!("/orgs/{}/groups", segment(&org));
            Ok(notice::done(&state, &to, &format!("Created the group {}.", made.body.name)))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let frame = viewer.frame(Section::Groups);
            console::page_as(status, &NewPage { frame, given, problem: Some(problem) })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::{ADMIN, Caller, Controller};

    #[tokio::test]
    async fn a_group_is_made_in_the_browser_and_mistakes_are_shown_where_they_are() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let new = controller.page(&admin, "/orgs/main/groups/new").await.expect(200);
        assert!(new.raw.contains("<label for=\"name\">Name</label>"), "{}", new.raw);
        let path = "/orgs/main/groups";
        let refused =
            controller.submit(&admin, path, &[("name", ""), ("description", "<b>kept</b>")]).await.expect(422);
        assert!(refused.raw.contains("aria-invalid=\"true\""), "{}", refused.raw);
        assert!(refused.raw.contains("&#60;b&#62;kept"), "what was typed stays, as text: {}", refused.raw);
        let made = controller.submit(&admin, path, &[("name", "crew"), ("description", "")]).await.expect(303);
        assert_eq!(made.headers["location"], path);
        let list = controller.page(&admin, path).await.expect(200);
        assert!(list.raw.contains(">crew</a>") && list.raw.contains("New group"));
        controller.submit(&admin, path, &[("name", "crew")]).await.expect(409);
    }

    #[tokio::test]
    async fn whoever_may_not_write_is_offered_nothing_and_refused() {
        let controller = Controller::start().await;
        let reader = controller.member("reader@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        let list = controller.page(&reader, "/orgs/main/groups").await.expect(200);
        assert!(!list.raw.contains("New group"));
        controller.page(&reader, "/orgs/main/groups/new").await.expect(403);
        controller.submit(&reader, "/orgs/main/groups", &[("name", "x")]).await.expect(403);
        controller.page(&Caller::Nobody, "/orgs/main/groups").await.expect(303);
    }
}

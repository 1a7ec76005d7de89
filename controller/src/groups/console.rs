//! Groups, as pages.

pub(crate) mod page;

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::api::{self, GroupQuery, GroupToCreate, GroupView};
use crate::State;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::Result;
use crate::extract::{self, Path, Query};
use crate::users::console::{given, rows, segment, url};

/// `/orgs/{org}/groups`
#[derive(Template)]
#[template(path = "groups/list.html")]
struct ListPage {
    frame: Frame,
    groups: Vec<GroupView>,
    search: String,
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

/// Which groups.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Which {
    search: String,
    after: String,
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
    Query(asked): Query<Which>,
) -> Result<Response> {
    let here = format!("/orgs/{}/groups", segment(&org));
    let at = |after: &str| url(&here, &[("search", &asked.search), ("after", after)]);
    let which = Query(GroupQuery { search: given(&asked.search), user: None });
    let query = Query(rows(given(&asked.after)));
    let Json(page) = api::list_groups(viewer.actor(), Shared(state), Path(org), which, query).await?;
    let first = if asked.after.is_empty() { String::new() } else { at("") };
    let next = page.next.map(|after| at(&after));
    let frame = viewer.frame(Section::Groups);
    let may_write = viewer.may(Permission::GroupWrite);
    console::page(&ListPage { frame, groups: page.items, search: asked.search, may_write, first, next })
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
            let to = format!("/orgs/{}/groups/{}", segment(&org), segment(&made.body.name));
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
mod tests;

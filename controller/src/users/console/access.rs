//! `/orgs/{org}/users/{name}/access`: groups and roles.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::list::group_names;
use super::{
    Head, PAGE, Refusal, RoleChoices, RoleForm, RoleToTake, Writable, drawn, give, given, role_words, rows, segment,
    split, url,
};
use crate::State;
use crate::bindings::api::{BindingsQuery, delete_binding, list_bindings};
use crate::console::{Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::Result;
use crate::extract::{self, Path, Query};
use crate::groups::api::{GroupMemberToAdd, GroupQuery, GroupView, add_group_member, list_groups, remove_group_member};
use crate::page::PageQuery;
use crate::rights::api::get_rights;

#[derive(Template)]
#[template(path = "users/access.html")]
struct AccessPage {
    frame: Frame,
    head: Head,
    /// Their groups, where the viewer may see groups.
    groups: Option<Vec<GroupView>>,
    more_groups: bool,
    may_group: bool,
    /// Groups to suggest.
    known: Vec<String>,
    roles: Vec<RoleRow>,
    /// Whether roles through groups are among them, and those of every project.
    whole: bool,
    choices: Option<RoleChoices>,
    typed: RoleForm,
    problem: Option<FormProblem>,
    first: String,
    next: Option<String>,
}

/// A role that somebody holds.
#[derive(Debug)]
pub(crate) struct RoleRow {
    pub(crate) role: String,
    pub(crate) project: Option<String>,
    pub(crate) namespaces: Vec<String>,
    pub(crate) group: Option<String>,
    /// Id of what gives it, where the viewer may take it away here.
    pub(crate) takes: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct At {
    after: String,
}

/// The field that names a group.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GroupForm {
    group: String,
}

/// The page.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Response> {
    access(&viewer, &state, (&org, &name), &at.after, RoleForm::default(), None).await
}

async fn access(
    viewer: &Viewer,
    state: &State,
    (org, name): (&str, &str),
    after: &str,
    typed: RoleForm,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "access").await?;
    let (groups, more_groups) = match viewer.may(Permission::GroupRead) {
        true => {
            let which = Query(GroupQuery { search: None, user: Some(name.to_owned()) });
            let query = Query(PageQuery { limit: Some(2 * PAGE), after: None });
            let path = Path(org.to_owned());
            let Json(page) = list_groups(viewer.actor(), Shared(state.clone()), path, which, query).await?;
            (Some(page.items), page.next.is_some())
        }
        false => (None, false),
    };
    let may_group = viewer.may(Permission::GroupWrite) && groups.is_some();
    let mut known = if may_group { group_names(viewer, state, org).await? } else { Vec::new() };
    known.retain(|name| !groups.iter().flatten().any(|group| group.name == *name));
    let (roles, next) = roles_of(viewer, state, org, &head, after).await?;
    let here = format!("{}/access", head.at);
    let (problem, refused) = split(refusal);
    let page = AccessPage {
        frame: viewer.frame(Section::Users),
        groups,
        more_groups,
        may_group,
        known,
        roles,
        whole: head.shows_rights,
        choices: RoleChoices::of(viewer, state, org).await?,
        typed,
        problem,
        first: if after.is_empty() { String::new() } else { here.clone() },
        next: next.map(|after| url(&here, &[("after", &after)])),
        head,
    };
    drawn(&page, refused)
}

/// A page of somebody's roles: all of them where the viewer may ask for that, else their own on the viewer's projects.
async fn roles_of(
    viewer: &Viewer,
    state: &State,
    org: &str,
    head: &Head,
    after: &str,
) -> Result<(Vec<RoleRow>, Option<String>)> {
    let writable = Writable::of(viewer);
    let name = &head.user.name;
    let takes = |binding: String, project: Option<&str>| writable.holds(project).then_some(binding);
    if head.shows_rights {
        let path = Path((org.to_owned(), name.clone()));
        let Json(page) = get_rights(viewer.actor(), Shared(state.clone()), path, Query(rows(given(after)))).await?;
        let row = |right: crate::rights::api::RightView| RoleRow {
            takes: takes(right.binding, right.project.as_deref()).filter(|_| right.group.is_none()),
            role: right.role,
            project: right.project,
            namespaces: right.namespaces,
            group: right.group,
        };
        return Ok((page.items.into_iter().map(row).collect(), page.next));
    }
    if viewer.actor.principal().reach(Permission::MemberRead).projects.is_empty() {
        return Ok((Vec::new(), None));
    }
    let query = BindingsQuery {
        user: Some(name.clone()),
        group: None,
        project: None,
        role: None,
        whole: None,
        limit: Some(PAGE),
        after: given(after),
    };
    let Json(page) = list_bindings(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), Query(query)).await?;
    let row = |binding: crate::bindings::api::BindingView| RoleRow {
        takes: takes(binding.id, binding.project.as_deref()),
        role: binding.role,
        project: binding.project,
        namespaces: binding.namespaces,
        group: None,
    };
    Ok((page.items.into_iter().map(row).collect(), page.next))
}

fn here(org: &str, name: &str) -> String {
    format!("/orgs/{}/users/{}/access", segment(org), segment(name))
}

/// Puts them into a group.
pub(crate) async fn join(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(form): Form<GroupForm>,
) -> Result<Response> {
    let new = GroupMemberToAdd { user: name.clone() };
    let path = Path((org.clone(), form.group.trim().to_owned()));
    match add_group_member(viewer.actor(), Shared(state.clone()), path, extract::Json(new)).await {
        Ok(_) => Ok(notice::done(&state, &here(&org, &name), &format!("{name} is in {} now.", form.group.trim()))),
        Err(error) => {
            let group = format!("The group {}", form.group.trim());
            let whom = viewer.may(Permission::GroupWrite).then_some(group.as_str());
            let refusal = Refusal::of(error, whom, &["group"])?;
            access(&viewer, &state, (&org, &name), "", RoleForm::default(), Some(refusal)).await
        }
    }
}

/// Takes them out of one.
pub(crate) async fn leave(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(form): Form<GroupForm>,
) -> Result<Response> {
    let path = Path((org.clone(), form.group.clone(), name.clone()));
    match remove_group_member(viewer.actor(), Shared(state.clone()), path).await {
        Ok(_) => {
            let said = format!("{name} is no longer in {}. Add them again to undo this.", form.group);
            Ok(notice::done(&state, &here(&org, &name), &said))
        }
        Err(error) => {
            let group = format!("The group {}", form.group);
            let whom = viewer.may(Permission::GroupWrite).then_some(group.as_str());
            let refusal = Refusal::of(error, whom, &["group"])?;
            access(&viewer, &state, (&org, &name), "", RoleForm::default(), Some(refusal)).await
        }
    }
}

/// Gives them a role.
pub(crate) async fn give_role(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(form): Form<RoleForm>,
) -> Result<Response> {
    match give(&viewer, &state, &org, (Some(name.clone()), None), &form).await {
        Ok(made) => {
            let said = format!("Gave {name} {}.", role_words(&made.role, made.project.as_deref()));
            Ok(notice::done(&state, &here(&org, &name), &said))
        }
        Err(error) => {
            let refusal = Refusal::of(error, None, &["project", "role"])?;
            access(&viewer, &state, (&org, &name), "", form, Some(refusal)).await
        }
    }
}

/// Takes a role away.
pub(crate) async fn take_role(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(form): Form<RoleToTake>,
) -> Result<Response> {
    let path = Path((org.clone(), form.binding));
    match delete_binding(viewer.actor(), Shared(state.clone()), path).await {
        Ok(_) => Ok(notice::done(&state, &here(&org, &name), "Took the role away. Give it again to undo this.")),
        Err(error) => {
            let whom = viewer.may_anywhere(Permission::MemberWrite).then_some("The role");
            let refusal = Refusal::of(error, whom, &[])?;
            access(&viewer, &state, (&org, &name), "", RoleForm::default(), Some(refusal)).await
        }
    }
}

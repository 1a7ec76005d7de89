//! `/orgs/{org}/groups/{group}`: who is in a group, what it gives, and what it is called.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use crate::State;
use crate::bindings::api::{BindingsQuery, delete_binding, list_bindings};
use crate::console::{Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::Result;
use crate::etag::{Tag, Versioned};
use crate::extract::{self, Path, Query};
use crate::groups::api::{self, GroupChange, GroupMemberQuery, GroupMemberToAdd, GroupMemberView, GroupView};
use crate::users::console::access::RoleRow;
use crate::users::console::{
    ConfirmPage, Confirmed, PAGE, Refusal, RoleChoices, RoleForm, RoleToTake, Writable, drawn, expected, give, given,
    role_words, rows, segment, split, url,
};

/// Which group a page is about, and where else one can go from there.
#[derive(Debug)]
struct Head {
    group: GroupView,
    /// Path of its page.
    at: String,
    tab: &'static str,
    version: Tag,
    /// Whether the viewer may change groups.
    may_write: bool,
    shows_roles: bool,
}

impl Head {
    async fn of(viewer: &Viewer, state: &State, org: &str, name: &str, tab: &'static str) -> Result<Self> {
        let path = Path((org.to_owned(), name.to_owned()));
        let Versioned(version, group) = api::get_group(viewer.actor(), Shared(state.clone()), path).await?;
        let reads = viewer.may(Permission::MemberRead)
            || !viewer.actor.principal().reach(Permission::MemberRead).projects.is_empty();
        Ok(Self {
            at: format!("/orgs/{}/groups/{}", segment(org), segment(&group.name)),
            tab,
            version,
            may_write: viewer.may(Permission::GroupWrite),
            shows_roles: reads && group.members.is_some(),
            group,
        })
    }

    /// Whether people are put into it: in All Local Users everybody is by themselves.
    fn takes_members(&self) -> bool {
        self.group.members.is_some()
    }
}

#[derive(Template)]
#[template(path = "groups/members.html")]
struct MembersPage {
    frame: Frame,
    head: Head,
    members: Vec<GroupMemberView>,
    search: String,
    may_search: bool,
    typed: MemberForm,
    problem: Option<FormProblem>,
    first: String,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "groups/roles.html")]
struct RolesPage {
    frame: Frame,
    head: Head,
    roles: Vec<RoleRow>,
    choices: Option<RoleChoices>,
    typed: RoleForm,
    problem: Option<FormProblem>,
    first: String,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "groups/edit.html")]
struct EditPage {
    frame: Frame,
    head: Head,
    typed: EditForm,
    problem: Option<FormProblem>,
}

/// Which members.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Which {
    search: String,
    after: String,
}

/// The field that names a user.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MemberForm {
    user: String,
}

/// The fields of a group.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct EditForm {
    name: String,
    description: String,
    version: String,
}

/// Its members.
pub(crate) async fn members(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Response> {
    draw_members(&viewer, &state, (&org, &name), which, MemberForm::default(), None).await
}

async fn draw_members(
    viewer: &Viewer,
    state: &State,
    (org, name): (&str, &str),
    which: Which,
    typed: MemberForm,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "members").await?;
    let (path, query) = (Path((org.to_owned(), name.to_owned())), Query(rows(given(&which.after))));
    let asked = Query(GroupMemberQuery { search: given(&which.search) });
    let Json(page) = api::list_group_members(viewer.actor(), Shared(state.clone()), path, asked, query).await?;
    let at = |after: &str| url(&head.at, &[("search", &which.search), ("after", after)]);
    let (problem, refused) = split(refusal);
    let page = MembersPage {
        frame: viewer.frame(Section::Groups),
        may_search: !which.search.is_empty() || !page.items.is_empty(),
        first: if which.after.is_empty() { String::new() } else { at("") },
        next: page.next.map(|after| at(&after)),
        members: page.items,
        search: which.search,
        typed,
        problem,
        head,
    };
    drawn(&page, refused)
}

fn at(org: &str, name: &str) -> String {
    format!("/orgs/{}/groups/{}", segment(org), segment(name))
}

/// Whom a denial is about, where the viewer may change groups as such.
fn whom(viewer: &Viewer, name: &str) -> Option<String> {
    viewer.may(Permission::GroupWrite).then(|| format!("The group {name}"))
}

/// Puts somebody into it.
pub(crate) async fn add(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(typed): Form<MemberForm>,
) -> Result<Response> {
    let new = GroupMemberToAdd { user: typed.user.clone() };
    let path = Path((org.clone(), name.clone()));
    match api::add_group_member(viewer.actor(), Shared(state.clone()), path, extract::Json(new)).await {
        Ok(made) => Ok(notice::done(&state, &at(&org, &name), &format!("{} is in {name} now.", made.body.name))),
        Err(error) => {
            let refusal = Refusal::of(error, whom(&viewer, &name).as_deref(), &["user"])?;
            draw_members(&viewer, &state, (&org, &name), Which::default(), typed, Some(refusal)).await
        }
    }
}

/// Takes somebody out of it.
pub(crate) async fn remove(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(form): Form<MemberForm>,
) -> Result<Response> {
    let path = Path((org.clone(), name.clone(), form.user.clone()));
    match api::remove_group_member(viewer.actor(), Shared(state.clone()), path).await {
        Ok(_) => {
            let said = format!("{} is no longer in {name}. Add them again to undo this.", form.user);
            Ok(notice::done(&state, &at(&org, &name), &said))
        }
        Err(error) => {
            let refusal = Refusal::of(error, whom(&viewer, &name).as_deref(), &[])?;
            let (which, typed) = (Which::default(), MemberForm::default());
            draw_members(&viewer, &state, (&org, &name), which, typed, Some(refusal)).await
        }
    }
}

/// Its roles.
pub(crate) async fn roles(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(which): Query<Which>,
) -> Result<Response> {
    draw_roles(&viewer, &state, (&org, &name), &which.after, RoleForm::default(), None).await
}

async fn draw_roles(
    viewer: &Viewer,
    state: &State,
    (org, name): (&str, &str),
    after: &str,
    typed: RoleForm,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "roles").await?;
    let query = BindingsQuery {
        user: None,
        group: Some(head.group.name.clone()),
        project: None,
        role: None,
        whole: None,
        limit: Some(PAGE),
        after: given(after),
    };
    let Json(page) = list_bindings(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), Query(query)).await?;
    let writable = Writable::of(viewer);
    let row = |binding: crate::bindings::api::BindingView| RoleRow {
        takes: (!binding.builtin && writable.holds(binding.project.as_deref())).then_some(binding.id),
        role: binding.role,
        project: binding.project,
        namespaces: binding.namespaces,
        group: None,
    };
    let here = format!("{}/roles", head.at);
    let choices = if head.takes_members() { RoleChoices::of(viewer, state, org).await? } else { None };
    let (problem, refused) = split(refusal);
    let page = RolesPage {
        frame: viewer.frame(Section::Groups),
        roles: page.items.into_iter().map(row).collect(),
        choices,
        typed,
        problem,
        first: if after.is_empty() { String::new() } else { here.clone() },
        next: page.next.map(|after| url(&here, &[("after", &after)])),
        head,
    };
    drawn(&page, refused)
}

/// Gives it a role.
pub(crate) async fn give_role(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(form): Form<RoleForm>,
) -> Result<Response> {
    match give(&viewer, &state, &org, (None, Some(name.clone())), &form).await {
        Ok(made) => {
            let said = format!("Gave everybody in {name} {}.", role_words(&made.role, made.project.as_deref()));
            Ok(notice::done(&state, &format!("{}/roles", at(&org, &name)), &said))
        }
        Err(error) => {
            let refusal = Refusal::of(error, None, &["project", "role"])?;
            draw_roles(&viewer, &state, (&org, &name), "", form, Some(refusal)).await
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
    match delete_binding(viewer.actor(), Shared(state.clone()), Path((org.clone(), form.binding))).await {
        Ok(_) => {
            let said = "Took the role away from everybody in the group. Give it again to undo this.";
            Ok(notice::done(&state, &format!("{}/roles", at(&org, &name)), said))
        }
        Err(error) => {
            let whom = viewer.may_anywhere(Permission::MemberWrite).then_some("The role");
            let refusal = Refusal::of(error, whom, &[])?;
            draw_roles(&viewer, &state, (&org, &name), "", RoleForm::default(), Some(refusal)).await
        }
    }
}

/// What it is called.
pub(crate) async fn edit(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    draw_edit(&viewer, &state, (&org, &name), None, None).await
}

async fn draw_edit(
    viewer: &Viewer,
    state: &State,
    (org, name): (&str, &str),
    typed: Option<EditForm>,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "edit").await?;
    let typed = typed.unwrap_or_else(|| EditForm {
        name: head.group.name.clone(),
        description: head.group.description.clone(),
        version: String::new(),
    });
    let (problem, refused) = split(refusal);
    drawn(&EditPage { frame: viewer.frame(Section::Groups), head, typed, problem }, refused)
}

/// Changes that.
pub(crate) async fn save(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(typed): Form<EditForm>,
) -> Result<Response> {
    let change = GroupChange { name: Some(typed.name.clone()), description: Some(typed.description.clone()) };
    let (path, version) = (Path((org.clone(), name.clone())), expected(&typed.version));
    match api::update_group(viewer.actor(), Shared(state.clone()), path, version, extract::Json(change)).await {
        Ok(Versioned(_, group)) => Ok(notice::done(&state, &at(&org, &group.name), "Saved the group.")),
        Err(error) => {
            let refusal = Refusal::of(error, None, &[])?;
            draw_edit(&viewer, &state, (&org, &name), Some(typed), Some(refusal)).await
        }
    }
}

/// Asks before it is deleted.
pub(crate) async fn ask(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    question(&viewer, &state, (&org, &name), None).await
}

/// Roles that the question names one by one.
const NAMED: usize = 10;

async fn question(
    viewer: &Viewer,
    state: &State,
    (org, name): (&str, &str),
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "edit").await?;
    let members = head.group.members.unwrap_or_default();
    let mut lines = vec![match members {
        0 => "Nobody is in it.".to_owned(),
        1 => "One member leaves it, and stays in the organization.".to_owned(),
        _ => format!("Its {members} members leave it, and stay in the organization."),
    }];
    if viewer.may(Permission::MemberRead) {
        let query = BindingsQuery {
            user: None,
            group: Some(head.group.name.clone()),
            project: None,
            role: None,
            whole: None,
            limit: i64::try_from(NAMED).ok(),
            after: None,
        };
        let path = Path(org.to_owned());
        let Json(page) = list_bindings(viewer.actor(), Shared(state.clone()), path, Query(query)).await?;
        let lost = page.items.iter().map(|binding| role_words(&binding.role, binding.project.as_deref()));
        let mut lost: Vec<String> = lost.collect();
        if page.next.is_some() {
            lost.push(format!("{} more", head.group.roles - i64::try_from(NAMED).unwrap_or_default()));
        }
        if !lost.is_empty() {
            lines.push(format!("They lose what they do not hold in another way: {}.", lost.join("; ")));
            lines.push("Access tokens that were had with that end at once.".to_owned());
        }
    }
    let (problem, refused) = split(refusal);
    let page = ConfirmPage {
        frame: viewer.frame(Section::Groups),
        crumbs: vec![
            ("Groups".to_owned(), format!("/orgs/{}/groups", segment(org))),
            (head.group.name.clone(), head.at.clone()),
        ],
        title: format!("Delete the group {}?", head.group.name),
        lines,
        undo: "This cannot be undone: you would make it anew.".to_owned(),
        action: format!("{}/delete", head.at),
        back: head.at.clone(),
        button: "Delete the group",
        word: head.group.name,
        version: head.version.to_string(),
        problem,
    };
    drawn(&page, refused)
}

/// Deletes it.
pub(crate) async fn delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(confirmed): Form<Confirmed>,
) -> Result<Response> {
    if let Err(mistake) = confirmed.check(&name) {
        viewer.actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
        return question(&viewer, &state, (&org, &name), Some(mistake)).await;
    }
    let (path, version) = (Path((org.clone(), name.clone())), expected(&confirmed.version));
    match api::delete_group(viewer.actor(), Shared(state.clone()), path, version).await {
        Ok(_) => {
            let to = format!("/orgs/{}/groups", segment(&org));
            Ok(notice::done(&state, &to, &format!("Deleted the group {name}.")))
        }
        Err(error) => {
            let refusal = Refusal::of(error, whom(&viewer, &name).as_deref(), &[])?;
            question(&viewer, &state, (&org, &name), Some(refusal)).await
        }
    }
}

//! Giving roles and taking them away, as pages. Those of projects, roles, users and groups lead here with what they know.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::rbac::{CustomRole, Given, Permission, Role};
use serde::Deserialize;
use storage::custom_roles::Rules;

use super::api::{self, BindingToCreate, BindingView};
use crate::State;
use crate::actor::{in_org, in_project};
use crate::console::form::several;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::etag::segment;
use crate::extract::{self, Path, Query};
use crate::page::PageQuery;
use crate::roles::api::{RoleView, base_roles, base_view, first_roles};
use crate::roles::words;
use crate::{groups, projects, users};

/// Names that a field offers; whoever has more types the others.
const OFFERED: i64 = 100;

/// Who holds which role, as tables tell it.
#[derive(Debug)]
pub(crate) struct Row {
    /// It.
    pub(crate) held: BindingView,
    /// What people call the role.
    pub(crate) label: String,
    /// Whether the viewer is offered to take it away.
    pub(crate) may_remove: bool,
    /// The page to come back to: `project`, `role`, `user`, `group` or `machine`.
    pub(crate) from: &'static str,
}

impl Row {
    /// A row on the page `from`.
    pub(crate) fn new(held: BindingView, from: &'static str, may_write: bool) -> Self {
        Self { label: words::label(&held.role), may_remove: may_write && !held.builtin, held, from }
    }

    /// The holder's name.
    pub(crate) fn who(&self) -> &str {
        self.held.group.as_deref().or(self.held.user.as_deref()).unwrap_or_default()
    }
}

/// Whether any of these names namespaces: tables have a column for them only then.
pub(crate) fn any_namespaces(rows: &[Row]) -> bool {
    rows.iter().any(|row| !row.held.namespaces.is_empty())
}

/// A role to choose.
#[derive(Debug, Clone)]
pub(crate) struct RoleOption {
    pub(crate) name: String,
    pub(crate) label: String,
}

/// `/orgs/{org}/bindings/new`
#[derive(Template)]
#[template(path = "bindings/new.html")]
struct NewPage {
    frame: Frame,
    given: GiveForm,
    fixed: &'static str,
    /// Whether it is known who gets it.
    named: bool,
    back: String,
    names: Vec<String>,
    slugs: Vec<String>,
    whole: Vec<RoleOption>,
    projects: Vec<RoleOption>,
    problem: Option<FormProblem>,
}

/// `/orgs/{org}/bindings/{id}/delete`
#[derive(Template)]
#[template(path = "bindings/delete.html")]
struct DeletePage {
    frame: Frame,
    row: Row,
    back: String,
    problem: Option<FormProblem>,
}

/// A role to be given; in the address, what of that is known.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GiveForm {
    /// `user` or `group`.
    kind: String,
    name: String,
    role: String,
    project: String,
    namespaces: String,
    /// What is fixed, and so where to go back to: `project`, `role`, `user`, `group` or `machine`.
    from: String,
}

/// The page that led here.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct FromForm {
    from: String,
}

/// A page that leads here, by its name.
fn known(from: &str) -> &'static str {
    ["project", "role", "user", "group", "machine"].into_iter().find(|known| *known == from).unwrap_or_default()
}

/// Where to go back to, and the entry of the side that this belongs to.
fn back(org: &str, from: &str, project: &str, role: &str, name: &str) -> (String, Section) {
    let org = segment(org);
    let (part, thing, tail, section) = match from {
        "project" => ("projects", project, "/members", Section::Projects),
        "role" => ("roles", role, "", Section::Roles),
        "user" => ("users", name, "", Section::Users),
        "machine" => ("machines", name, "", Section::Machines),
        "group" => ("groups", name, "", Section::Groups),
        _ => ("projects", "", "", Section::Projects),
    };
    match thing.is_empty() {
        true => (format!("/orgs/{org}/{part}"), section),
        false => (format!("/orgs/{org}/{part}/{}{tail}", segment(thing)), section),
    }
}

/// The form.
pub(crate) async fn new(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(given): Query<GiveForm>,
) -> Result<Response> {
    console::page(&new_page(&viewer, &state, &org, given, None).await?)
}

async fn new_page(
    viewer: &Viewer,
    state: &State,
    org: &str,
    mut given: GiveForm,
    problem: Option<FormProblem>,
) -> Result<NewPage> {
    let fixed = known(&given.from);
    let named = matches!(fixed, "user" | "group" | "machine");
    if named {
        given.kind = if fixed == "group" { "group" } else { "user" }.to_owned();
    }
    let (whole, projects) = match fixed {
        "project" => {
            let actor = viewer.actor();
            let (_, project) = actor.can_in_project(Permission::MemberWrite, state, org, &given.project).await?;
            let place = in_project(&project);
            let roles = options(viewer, state, org, "project").await?;
            let may = |role: &(Given, RoleOption)| actor.principal().may_give(&role.0, &place).is_allowed();
            (Vec::new(), roles.into_iter().filter(may).map(|role| role.1).collect())
        }
        _ => {
            if !viewer.may_anywhere(Permission::MemberWrite) {
                viewer.actor().can_in_org(Permission::MemberWrite, state, org).await?;
            }
            all_options(viewer, state, org).await?
        }
    };
    let names = if named { Vec::new() } else { names(viewer, state, org).await? };
    let slugs = if fixed == "project" { Vec::new() } else { projects::console::offered(viewer, state, org).await?.0 };
    let (back, section) = back(org, fixed, &given.project, &given.role, &given.name);
    let frame = viewer.frame(section);
    Ok(NewPage { frame, given, fixed, named, back, names, slugs, whole, projects, problem })
}

/// The roles that are given on that scope, as far as the viewer may know them.
async fn options(viewer: &Viewer, state: &State, org: &str, scope: &str) -> Result<Vec<(Given, RoleOption)>> {
    let roles = match viewer.may(Permission::RoleRead) {
        true => first_roles(&viewer.actor, state, org, 500).await?,
        false => base_roles().map(base_view).collect(),
    };
    let given = |view: RoleView| {
        let role = match &view.base {
            None => Role::find(&view.name).map(Given::from),
            Some(base) => {
                let rules = Rules {
                    added: view.added,
                    removed: view.removed,
                    repositories: view.repositories,
                    tags: view.tags,
                };
                let made = Role::find(base).and_then(|base| CustomRole::compile("", &view.name, base, &rules).ok());
                made.map(|role| Given::Custom(role.into()))
            }
        };
        role.map(|role| (role, RoleOption { name: view.name, label: view.label }))
    };
    Ok(roles.into_iter().filter(|role| role.scope == scope).filter_map(given).collect())
}

/// Roles to choose from where neither who nor where is said: those on the whole organization that the viewer may give, and
/// those on projects.
pub(crate) async fn all_options(
    viewer: &Viewer,
    state: &State,
    org: &str,
) -> Result<(Vec<RoleOption>, Vec<RoleOption>)> {
    let all = viewer.org().map(in_org).filter(|_| viewer.may(Permission::MemberWrite));
    let may = |role: &(Given, RoleOption)| {
        all.as_ref().is_some_and(|org| viewer.actor.principal().may_give(&role.0, org).is_allowed())
    };
    let whole = options(viewer, state, org, "org").await?.into_iter().filter(may).map(|role| role.1).collect();
    let projects = options(viewer, state, org, "project").await?.into_iter().map(|role| role.1).collect();
    Ok((whole, projects))
}

/// Every role that is given in an organization, as far as the viewer may know them.
pub(crate) async fn every_option(viewer: &Viewer, state: &State, org: &str) -> Result<Vec<RoleOption>> {
    let mut all = options(viewer, state, org, "org").await?;
    all.extend(options(viewer, state, org, "project").await?);
    Ok(all.into_iter().map(|role| role.1).collect())
}

/// Names of people, machines and groups to choose from.
async fn names(viewer: &Viewer, state: &State, org: &str) -> Result<Vec<String>> {
    let page = Query(PageQuery { limit: Some(OFFERED), after: None });
    let mut names = Vec::new();
    if viewer.may(Permission::UserRead) {
        let which = Query(users::api::UserQuery::default());
        let found =
            users::api::list_users(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), which, page).await?;
        names.extend(found.0.items.into_iter().map(|user| user.name));
    }
    if viewer.may(Permission::GroupRead) {
        let found = groups::api::first_groups(&viewer.actor, state, org, OFFERED).await?;
        names.extend(found.into_iter().map(|group| group.name));
    }
    Ok(names)
}

/// A failure that names nothing that is there, at the field that says so.
pub(crate) fn nameless(error: Error) -> Result<(StatusCode, FormProblem)> {
    let (field, message) = match error {
        Error::NotFound("user") => ("name", "Nobody of that name is in this organization."),
        Error::NotFound("group") => ("name", "There is no group of that name."),
        Error::NotFound("project") => ("project", "There is no project of that name, or it is not yours to see."),
        other => return FormProblem::of(other),
    };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, FormProblem { field, message: message.into() }))
}

/// Gives it.
pub(crate) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<GiveForm>,
) -> Result<Response> {
    let name = Some(given.name.trim().to_owned());
    let (user, group) = if given.kind == "group" { (None, name) } else { (name, None) };
    let project = given.project.trim();
    let new = BindingToCreate {
        user,
        group,
        role: given.role.clone(),
        project: (!project.is_empty()).then(|| project.to_owned()),
        namespaces: several(&given.namespaces),
    };
    let made = api::create_binding(viewer.actor(), Shared(state.clone()), Path(org.clone()), extract::Json(new)).await;
    match made {
        Ok(made) => {
            let row = Row::new(made.body, "", false);
            let (to, _) = back(&org, known(&given.from), project, &given.role, &given.name);
            Ok(notice::done(&state, &to, &format!("Gave {} the role {}.", row.who(), row.label)))
        }
        Err(error) => {
            let (status, problem) = nameless(error)?;
            console::page_as(status, &new_page(&viewer, &state, &org, given, Some(problem)).await?)
        }
    }
}

async fn delete_page(
    viewer: &Viewer,
    state: &State,
    org: &str,
    id: &str,
    from: &str,
    problem: Option<FormProblem>,
) -> Result<DeletePage> {
    let path = Path((org.to_owned(), id.to_owned()));
    let Json(held) = api::get_binding(viewer.actor(), Shared(state.clone()), path).await?;
    match &held.project {
        Some(slug) => {
            viewer.actor.can_in_project(Permission::MemberWrite, state, org, slug).await?;
        }
        None => {
            viewer.actor.can_in_org(Permission::MemberWrite, state, org).await?;
        }
    }
    let row = Row::new(held, known(from), true);
    let (back, section) =
        back(org, row.from, row.held.project.as_deref().unwrap_or_default(), &row.held.role, row.who());
    Ok(DeletePage { frame: viewer.frame(section), row, back, problem })
}

/// What taking one away means.
pub(crate) async fn confirm(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
    Query(query): Query<FromForm>,
) -> Result<Response> {
    console::page(&delete_page(&viewer, &state, &org, &id, &query.from, None).await?)
}

/// Takes it away.
pub(crate) async fn delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
    Form(given): Form<FromForm>,
) -> Result<Response> {
    let mut page = delete_page(&viewer, &state, &org, &id, &given.from, None).await?;
    match api::delete_binding(viewer.actor(), Shared(state.clone()), Path((org, id))).await {
        Ok(_) => {
            let text = format!("Removed {} from {}.", page.row.label, page.row.who());
            Ok(notice::done(&state, &page.back, &text))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            page.problem = Some(problem);
            console::page_as(status, &page)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Controller};

    const NEW: &str = "/orgs/main/bindings/new";
    const MEMBERS: &str = "/orgs/main/projects/alpha/members";

    #[tokio::test]
    async fn a_role_is_given_and_taken_where_the_page_says() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        controller.add("main", "dev@example.com").await;
        let form = controller.page(&admin, &format!("{NEW}?from=project&project=alpha")).await.expect(200);
        assert!(
            form.raw.contains(">Project Admin</option>") && !form.raw.contains(">Auditor</option>"),
            "{}",
            form.raw
        );
        assert!(form.raw.contains("value=\"dev@example.com\""));
        let fields = |name, role, from| {
            [("kind", "user"), ("name", name), ("role", role), ("project", "alpha"), ("from", from), ("namespaces", "")]
        };
        let give = "/orgs/main/bindings";
        let nobody = fields("<i>@example.com", "PROJECT_ADMIN", "project");
        let nobody = controller.submit(&admin, give, &nobody).await.expect(422);
        assert!(nobody.raw.contains("id=\"name-wrong\"") && !nobody.raw.contains("<i>"), "{}", nobody.raw);
        let none = controller.submit(&admin, give, &fields("dev@example.com", "", "project")).await.expect(422);
        assert!(none.raw.contains("id=\"role-wrong\""), "{}", none.raw);
        let misfit = controller.submit(&admin, give, &fields("dev@example.com", "NAMESPACE_ADMIN", "project")).await;
        assert!(misfit.expect(422).raw.contains("role=\"alert\""));
        let given = fields("dev@example.com", "PROJECT_ADMIN", "project");
        let given = controller.submit(&admin, give, &given).await.expect(303);
        assert_eq!(given.headers["location"], MEMBERS);
        controller.submit(&admin, give, &fields("dev@example.com", "PROJECT_ADMIN", "user")).await.expect(409);
        let held = controller.get(&admin, "/orgs/main/bindings?project=alpha").await.expect(200);
        let id = held.body["items"][0]["id"].as_str().unwrap().to_owned();
        let member = controller.page(&admin, MEMBERS).await.expect(200);
        assert!(member.raw.contains(&format!("/orgs/main/bindings/{id}/delete?from=project")), "{}", member.raw);
        let delete = format!("/orgs/main/bindings/{id}/delete");
        let asked = controller.page(&admin, &format!("{delete}?from=project")).await.expect(200);
        assert!(asked.raw.contains("Remove Project Admin from dev@example.com?"), "{}", asked.raw);
        let stranger = controller.other_org().await;
        controller.page(&stranger, &delete.replace("main", "other")).await.expect(404);
        let taken = controller.submit(&admin, &delete, &[("from", "project")]).await.expect(303);
        assert_eq!(taken.headers["location"], MEMBERS);
        controller.submit(&admin, &delete, &[]).await.expect(404);
    }

    #[tokio::test]
    async fn whoever_may_not_give_a_role_is_not_asked() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("alpha")))).await;
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("alpha")))).await;
        controller.page(&reader, NEW).await.expect(403);
        controller.page(&reader, &format!("{NEW}?from=project&project=alpha")).await.expect(403);
        let open = controller.page(&lead, NEW).await.expect(200);
        assert!(!open.raw.contains("On the whole organization"), "{}", open.raw);
        controller.page(&lead, &format!("{NEW}?from=project&project=defaultproject")).await.expect(404);
        // What the organization is made of is not theirs to see, and cannot be removed by anybody.
        let whole = controller.get(&admin, "/orgs/main/bindings?whole=true").await.expect(200);
        let id = whole.body["items"][0]["id"].as_str().unwrap().to_owned();
        let delete = format!("/orgs/main/bindings/{id}/delete");
        controller.page(&lead, &delete).await.expect(404);
        let kept = controller.submit(&admin, &delete, &[("from", "group")]).await.expect(409);
        assert!(kept.raw.contains("part of the organization"), "{}", kept.raw);
    }
}

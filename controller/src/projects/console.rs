//! Projects and who works in them, as pages.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::{Permission, Resource};
use serde::Deserialize;
use storage::projects::{COUNTED, Project};

use super::api::{self, ContentsView, ProjectChange, ProjectQuery, ProjectToCreate, ProjectView};
use crate::State;
use crate::actor::in_project;
use crate::bindings::api::{BindingsQuery, list_bindings};
use crate::bindings::console::Row;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::etag::{IfMatch, Versioned, segment};
use crate::extract::{self, Confirmation, MaybeJson, Path, Query};
use crate::page::PageQuery;

/// Lines of a page of a list.
const LINES: i64 = 50;

/// How many there are of something in a project, as far as it was counted.
pub(crate) fn counted(count: impl std::borrow::Borrow<i64>) -> String {
    let count = *count.borrow();
    if count > COUNTED { "10,000+".to_owned() } else { count.to_string() }
}

/// `/orgs/{org}/projects`
#[derive(Template)]
#[template(path = "projects/list.html")]
struct ListPage {
    frame: Frame,
    projects: Vec<ProjectView>,
    search: String,
    may_create: bool,
    allowed: bool,
    host: String,
    first: String,
    next: Option<String>,
}

/// `/orgs/{org}/projects/new`
#[derive(Template)]
#[template(path = "projects/new.html")]
struct NewPage {
    frame: Frame,
    given: ProjectForm,
    allowed: bool,
    may_open: bool,
    problem: Option<FormProblem>,
}

/// `/orgs/{org}/projects/{project}`
#[derive(Template)]
#[template(path = "projects/show.html")]
struct ShowPage {
    frame: Frame,
    project: ProjectView,
    allowed: bool,
    may_change: bool,
    may_members: bool,
    may_push: bool,
    may_pull: bool,
    login: String,
    push: String,
    pull: String,
}

/// `/orgs/{org}/projects/{project}/members`
#[derive(Template)]
#[template(path = "projects/members.html")]
struct MembersPage {
    frame: Frame,
    project: ProjectView,
    may_change: bool,
    may_write: bool,
    own: Vec<Row>,
    inherited: Vec<Row>,
    more: bool,
    first: String,
    next: Option<String>,
}

/// `/orgs/{org}/projects/{project}/edit`
#[derive(Template)]
#[template(path = "projects/edit.html")]
struct EditPage {
    frame: Frame,
    project: ProjectView,
    given: ProjectForm,
    version: String,
    allowed: bool,
    may_open: bool,
    may_members: bool,
    may_delete: bool,
    problem: Option<FormProblem>,
}

/// `/orgs/{org}/projects/{project}/delete`
#[derive(Template)]
#[template(path = "projects/delete.html")]
struct DeletePage {
    frame: Frame,
    project: ProjectView,
    contents: ContentsView,
    version: String,
    problem: Option<FormProblem>,
}

/// What a list is drawn from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    search: String,
    after: Option<String>,
}

/// The fields of a project.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProjectForm {
    slug: String,
    description: String,
    public: bool,
    sparse: bool,
    version: String,
}

/// A deletion.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteForm {
    confirm: String,
    version: String,
}

/// Projects that a field offers.
const OFFERED: i64 = 100;

/// Projects to choose from: the first of those that the viewer sees, and whether there are others, to be typed.
pub(crate) async fn offered(viewer: &Viewer, state: &State, org: &str) -> Result<(Vec<String>, bool)> {
    match api::first_slugs(&viewer.actor, state, org, OFFERED).await {
        Err(Error::Denied(_)) => Ok((Vec::new(), false)),
        found => found,
    }
}

/// Text of several lines, as browsers send it, with ends of lines as they are kept.
fn lines(text: &str) -> String {
    text.replace("\r\n", "\n").trim().to_owned()
}

/// Whether the organization's settings allow public projects.
fn allowed(viewer: &Viewer) -> bool {
    viewer.org().is_some_and(|org| org.public_allowed)
}

/// Whether the viewer may open that to everybody.
fn may_open(viewer: &Viewer, place: &Resource<'_>) -> bool {
    [Permission::RegistryManage, Permission::RegistryPull].into_iter().all(|may| viewer.actor.may(may, place))
}

fn page_of(org: &str, project: &str, tail: &str) -> String {
    format!("/orgs/{}/projects/{}{tail}", segment(org), segment(project))
}

/// A project with its version, and its row for decisions.
async fn find(viewer: &Viewer, state: &State, org: &str, project: &str) -> Result<(String, ProjectView, Project)> {
    let path = Path((org.to_owned(), project.to_owned()));
    let Versioned(version, view) = api::get_project(viewer.actor(), Shared(state.clone()), path).await?;
    let (_, row) = viewer.actor.can_in_project(Permission::ProjectRead, state, org, project).await?;
    Ok((version.to_string(), view, row))
}

/// The list.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let host = state.settings().registry_host.clone();
    let here = format!("/orgs/{}/projects?search={}", segment(&org), segment(&query.search));
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let which = Query(ProjectQuery { search: Some(query.search.clone()) });
    let bounds = Query(PageQuery { limit: Some(LINES), after: query.after });
    let Json(page) = api::list_projects(viewer.actor(), Shared(state), Path(org), which, bounds).await?;
    let next = page.next.map(|after| format!("{here}&after={}", segment(&after)));
    console::page(&ListPage {
        frame: viewer.frame(Section::Projects),
        projects: page.items,
        search: query.search,
        may_create: viewer.may(Permission::ProjectCreate),
        allowed: allowed(&viewer),
        host,
        first,
        next,
    })
}

fn new_page(viewer: &Viewer, given: ProjectForm, problem: Option<FormProblem>) -> NewPage {
    let may_open = viewer.org().is_some_and(|org| may_open(viewer, &Resource::ProjectToCreate { org_id: &org.id }));
    NewPage { frame: viewer.frame(Section::Projects), given, allowed: allowed(viewer), may_open, problem }
}

/// The form of a new one.
pub(crate) async fn new(viewer: Viewer, Shared(state): Shared<State>, Path(org): Path<String>) -> Result<Response> {
    viewer.actor.can_in_org(Permission::ProjectCreate, &state, &org).await?;
    console::page(&new_page(&viewer, ProjectForm::default(), None))
}

/// Makes one.
pub(crate) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<ProjectForm>,
) -> Result<Response> {
    let new = ProjectToCreate {
        slug: given.slug.trim().to_owned(),
        public: given.public,
        sparse: given.sparse,
        description: lines(&given.description),
    };
    let made = api::create_project(viewer.actor(), Shared(state.clone()), Path(org.clone()), extract::Json(new)).await;
    match made {
        Ok(made) => {
            let to = page_of(&org, &made.body.slug, "");
            Ok(notice::done(&state, &to, &format!("Created the project {}.", made.body.slug)))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            console::page_as(status, &new_page(&viewer, given, Some(problem)))
        }
    }
}

/// What there is to know of one.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
) -> Result<Response> {
    let (_, project, row) = find(&viewer, &state, &org, &project).await?;
    let may = |permission| viewer.actor.may(permission, &in_project(&row));
    let (host, user) = (&state.settings().registry_host, &viewer.actor.principal().name);
    let image = format!("{host}/{org}/{}/app:v1", project.slug);
    console::page(&ShowPage {
        frame: viewer.frame(Section::Projects),
        allowed: allowed(&viewer),
        may_change: may(Permission::ProjectUpdate),
        may_members: may(Permission::MemberRead),
        may_push: may(Permission::RegistryPush),
        may_pull: may(Permission::RegistryPull),
        login: format!("docker login {host} -u {user}"),
        push: format!("docker tag app:v1 {image}\ndocker push {image}"),
        pull: format!("docker pull {image}"),
        project,
    })
}

/// Who works in one.
pub(crate) async fn members(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let (_, project, row) = find(&viewer, &state, &org, &project).await?;
    viewer.actor.can_in_project(Permission::MemberRead, &state, &org, &project.slug).await?;
    let may = |permission| viewer.actor.may(permission, &in_project(&row));
    let here = page_of(&org, &project.slug, "/members");
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let list = async |which: BindingsQuery| {
        list_bindings(viewer.actor(), Shared(state.clone()), Path(org.clone()), Query(which)).await
    };
    let own = BindingsQuery {
        project: Some(project.slug.clone()),
        limit: Some(LINES),
        after: query.after,
        ..BindingsQuery::default()
    };
    let Json(own) = list(own).await?;
    let (inherited, more) = match viewer.may(Permission::MemberRead) && first.is_empty() {
        true => {
            let whole = BindingsQuery { whole: Some(true), limit: Some(LINES), ..BindingsQuery::default() };
            let Json(page) = list(whole).await?;
            (page.items, page.next.is_some())
        }
        false => (Vec::new(), false),
    };
    let may_write = may(Permission::MemberWrite);
    let rows = |items: Vec<_>, may| items.into_iter().map(|held| Row::new(held, "project", may)).collect();
    console::page(&MembersPage {
        frame: viewer.frame(Section::Projects),
        may_change: may(Permission::ProjectUpdate),
        may_write,
        own: rows(own.items, may_write),
        inherited: rows(inherited, false),
        more,
        first,
        next: own.next.map(|after| format!("{here}?after={}", segment(&after))),
        project,
    })
}

fn edit_page(
    viewer: &Viewer,
    (version, project, row): (String, ProjectView, Project),
    given: Option<ProjectForm>,
    problem: Option<FormProblem>,
) -> EditPage {
    let place = in_project(&row);
    let now = || ProjectForm {
        description: project.description.clone(),
        public: project.public,
        sparse: project.sparse,
        ..ProjectForm::default()
    };
    EditPage {
        frame: viewer.frame(Section::Projects),
        given: given.unwrap_or_else(now),
        version,
        allowed: allowed(viewer),
        may_open: may_open(viewer, &place),
        may_members: viewer.actor.may(Permission::MemberRead, &place),
        may_delete: viewer.actor.may(Permission::ProjectDelete, &place),
        project,
        problem,
    }
}

/// The form of its switches, and the way to delete it.
pub(crate) async fn edit(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
) -> Result<Response> {
    viewer.actor.can_in_project(Permission::ProjectUpdate, &state, &org, &project).await?;
    let found = find(&viewer, &state, &org, &project).await?;
    console::page(&edit_page(&viewer, found, None, None))
}

/// Changes it.
pub(crate) async fn update(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
    Form(given): Form<ProjectForm>,
) -> Result<Response> {
    let change = ProjectChange {
        public: Some(given.public),
        sparse: Some(given.sparse),
        description: Some(lines(&given.description)),
    };
    let path = Path((org.clone(), project.clone()));
    let changed = api::update_project(
        viewer.actor(),
        Shared(state.clone()),
        path,
        IfMatch::of(&given.version),
        extract::Json(change),
    );
    match changed.await {
        Ok(_) => Ok(notice::done(&state, &page_of(&org, &project, ""), &format!("Saved the project {project}."))),
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let found = find(&viewer, &state, &org, &project).await?;
            console::page_as(status, &edit_page(&viewer, found, Some(given), Some(problem)))
        }
    }
}

async fn delete_page(
    viewer: &Viewer,
    state: &State,
    org: &str,
    project: &str,
    problem: Option<FormProblem>,
) -> Result<DeletePage> {
    let path = Path((org.to_owned(), project.to_owned()));
    let Json(contents) = api::get_contents(viewer.actor(), Shared(state.clone()), path).await?;
    let (version, project, _) = find(viewer, state, org, project).await?;
    Ok(DeletePage { frame: viewer.frame(Section::Projects), project, contents, version, problem })
}

/// What its deletion means.
pub(crate) async fn confirm(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
) -> Result<Response> {
    console::page(&delete_page(&viewer, &state, &org, &project, None).await?)
}

/// Deletes it.
pub(crate) async fn delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
    Form(given): Form<DeleteForm>,
) -> Result<Response> {
    let path = Path((org.clone(), project.clone()));
    let typed = MaybeJson(Some(Confirmation { confirm: given.confirm.trim().to_owned() }));
    let gone =
        api::delete_project(viewer.actor(), Shared(state.clone()), path, IfMatch::of(&given.version), typed).await;
    match gone {
        Ok(_) => {
            let to = format!("/orgs/{}/projects", segment(&org));
            Ok(notice::done(&state, &to, &format!("Deleted the project {project}.")))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            console::page_as(status, &delete_page(&viewer, &state, &org, &project, Some(problem)).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::json;

    use crate::testing::{ADMIN, Caller, Controller};

    const LIST: &str = "/orgs/main/projects";

    #[tokio::test]
    async fn a_project_is_made_found_changed_and_deleted_by_its_name() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let none = controller.page(&admin, &format!("{LIST}?search=alpha")).await.expect(200);
        assert!(none.raw.contains("Nothing found"), "{}", none.raw);
        controller.page(&admin, "/orgs/main/new/project").await.expect(200);
        let wrong = [("slug", "No Slug"), ("description", "<b>kept</b>")];
        let wrong = controller.submit(&admin, LIST, &wrong).await.expect(422);
        assert!(wrong.raw.contains("id=\"slug-wrong\"") && wrong.raw.contains("&#60;b&#62;kept"), "{}", wrong.raw);
        let new = [("slug", "alpha"), ("description", "One\r\ntwo <i>"), ("public", "true")];
        let made = controller.submit(&admin, LIST, &new).await.expect(303);
        assert_eq!(made.headers["location"], "/orgs/main/projects/alpha");
        controller.push("main/alpha/app").await;
        let list = controller.page(&admin, &format!("{LIST}?search=TWO")).await.expect(200);
        assert!(list.raw.contains(">alpha</a>") && list.raw.contains(">Public<"), "{}", list.raw);
        assert!(!list.raw.contains("two <i>") && list.raw.contains(">1<span class=\"unseen\"> repositories in alpha"));
        let shown = controller.page(&admin, "/orgs/main/projects/alpha").await.expect(200);
        assert!(shown.raw.contains("docker push localhost:6000/main/alpha/app:v1"), "{}", shown.raw);

        let edit = "/orgs/main/projects/alpha/edit";
        let form = controller.page(&admin, edit).await.expect(200);
        assert!(form.raw.contains("checked"), "{}", form.raw);
        let first = form.version();
        let change = [("description", "New words"), ("version", first.as_str()), ("sparse", "true")];
        controller.submit(&admin, edit, &change).await.expect(303);
        let late = [("description", "Late words"), ("version", first.as_str())];
        let stale = controller.submit(&admin, edit, &late).await.expect(412);
        assert!(stale.raw.contains("Late words") && stale.raw.contains("Somebody else changed"), "{}", stale.raw);
        assert_ne!(stale.version(), first, "saving again is of what is there now");
        let now = controller.get(&admin, "/orgs/main/projects/alpha").await.expect(200).body;
        assert_eq!(
            (&now["description"], &now["public"], &now["sparse"]),
            (&json!("New words"), &json!(false), &json!(true))
        );

        let delete = "/orgs/main/projects/alpha/delete";
        let asked = controller.page(&admin, delete).await.expect(200);
        let now = asked.version();
        assert!(asked.raw.contains("1 repository with 1 tag and 1 manifest"), "{}", asked.raw);
        let typed =
            controller.submit(&admin, delete, &[("confirm", "beta"), ("version", now.as_str())]).await.expect(422);
        assert!(typed.raw.contains("id=\"confirm-wrong\""), "{}", typed.raw);
        controller.submit(&admin, delete, &[("confirm", "alpha"), ("version", first.as_str())]).await.expect(412);
        let gone =
            controller.submit(&admin, delete, &[("confirm", "alpha"), ("version", now.as_str())]).await.expect(303);
        assert_eq!(gone.headers["location"], LIST);
        controller.page(&admin, "/orgs/main/projects/alpha").await.expect(404);
    }

    #[tokio::test]
    async fn members_are_those_of_the_project_and_those_of_the_whole_organization() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let members = "/orgs/main/projects/alpha/members";
        let empty = controller.page(&admin, members).await.expect(200);
        assert!(empty.raw.contains("Nobody was added yet") && empty.raw.contains("Organization Admins"));
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("alpha")))).await;
        let seen = controller.page(&admin, members).await.expect(200);
        assert!(
            seen.raw.contains("/users/lead@example.com") && seen.raw.contains("By a role on the whole organization")
        );
        // Whoever leads the project does not see who runs the organization.
        let own = controller.page(&lead, members).await.expect(200);
        assert!(own.raw.contains("Add a member") && !own.raw.contains("Organization Admins"), "{}", own.raw);
        controller.page(&lead, "/orgs/main/projects/defaultproject/members").await.expect(404);
    }

    #[tokio::test]
    async fn what_a_role_cannot_do_is_not_offered_and_is_refused() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("alpha")))).await;
        let list = controller.page(&reader, LIST).await.expect(200);
        assert!(!list.raw.contains("New project") && !list.raw.contains("defaultproject"));
        let shown = controller.page(&reader, "/orgs/main/projects/alpha").await.expect(200);
        assert!(!shown.raw.contains("Settings</a>") && !shown.raw.contains("docker push"), "{}", shown.raw);
        for path in ["/orgs/main/new/project", "/orgs/main/projects/alpha/edit", "/orgs/main/projects/alpha/delete"] {
            controller.page(&reader, path).await.expect(403);
        }
        controller.submit(&reader, LIST, &[("slug", "mine")]).await.expect(403);
        controller.submit(&reader, "/orgs/main/projects/alpha/edit", &[("version", "1")]).await.expect(403);
        controller.submit(&reader, "/orgs/main/projects/alpha/delete", &[("confirm", "alpha")]).await.expect(403);
        controller.page(&Caller::Nobody, LIST).await.expect(303);
        let stranger = controller.other_org().await;
        for tail in ["", "/members", "/edit", "/delete"] {
            controller.page(&stranger, &format!("/orgs/main/projects/alpha{tail}")).await.expect(404);
        }
        // Without public projects none is offered.
        let closed = json!({"public_allowed": false});
        controller.call(&admin, Method::PATCH, "/orgs/main/settings", &closed).await.expect(200);
        let form = controller.page(&admin, "/orgs/main/new/project").await.expect(200);
        assert!(form.raw.contains("allow no public projects") && !form.raw.contains("name=\"public\""), "{}", form.raw);
    }
}

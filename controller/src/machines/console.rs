//! Machine users: made with a role and a key in one go, and what to write into a job.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::rbac::Permission;
use serde::Deserialize;

use crate::State;
use crate::api_keys::api::{ApiKeyToCreate, CreatedApiKey, create_api_key};
use crate::bindings::api::{BindingToCreate, BindingsQuery, create_binding, list_bindings};
use crate::bindings::console::{RoleOption, Row, all_options, nameless};
use crate::console::form::several;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice, see};
use crate::error::{Error, Result};
use crate::etag::{IfMatch, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::groups::api::first_groups;
use crate::issuers::api::{IssuerQuery, list_issuers};
use crate::issuers::console::{Job, Line, project_of};
use crate::page::PageQuery;
use crate::projects::console::offered;
use crate::users::api::{
    Include, Kind, UserQuery, UserToCreate, UserView, create_user, delete_user, get_user, list_users,
};

/// Lines of a page of a list.
const LINES: i64 = 50;
/// Names that a field offers; whoever has more types the others.
const OFFERED: i64 = 100;

/// `/orgs/{org}/machines`
#[derive(Template)]
#[template(path = "machines/list.html")]
struct ListPage {
    frame: Frame,
    machines: Vec<UserView>,
    search: String,
    may_write: bool,
    first: String,
    next: Option<String>,
}

/// `/orgs/{org}/new/machine`
#[derive(Template)]
#[template(path = "machines/new.html")]
struct NewPage {
    frame: Frame,
    given: MachineForm,
    may_give: bool,
    may_group: bool,
    may_key: bool,
    whole: Vec<RoleOption>,
    projects: Vec<RoleOption>,
    slugs: Vec<String>,
    groups: Vec<String>,
    problem: Option<FormProblem>,
}

/// Its first key, shown this once
#[derive(Template)]
#[template(path = "machines/made.html")]
struct MadePage {
    frame: Frame,
    made: CreatedApiKey,
    job: Job,
}

/// `/orgs/{org}/machines/{name}`
#[derive(Template)]
#[template(path = "machines/show.html")]
struct ShowPage {
    frame: Frame,
    machine: UserView,
    roles: Option<Vec<Row>>,
    issuers: Option<Vec<Line>>,
    may_give: bool,
    may_trust: bool,
    may_keys: bool,
    job: Job,
}

/// What a list is drawn from.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    search: String,
    after: Option<String>,
}

/// The fields of a machine to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct MachineForm {
    name: String,
    role: String,
    project: String,
    namespaces: String,
    groups: String,
    /// Whether to make a key.
    key: bool,
    valid_days: String,
}

/// The list.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let here = format!("/orgs/{}/machines?search={}", segment(&org), segment(&query.search));
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let which = UserQuery {
        search: Some(query.search.clone()),
        kind: Some(Kind::Machine),
        include: Some(Include::Access),
        ..UserQuery::default()
    };
    let bounds = Query(PageQuery { limit: Some(LINES), after: query.after });
    let Json(page) = list_users(viewer.actor(), Shared(state), Path(org), Query(which), bounds).await?;
    console::page(&ListPage {
        frame: viewer.frame(Section::Machines),
        machines: page.items,
        search: query.search,
        may_write: viewer.may(Permission::UserWrite),
        first,
        next: page.next.map(|after| format!("{here}&after={}", segment(&after))),
    })
}

async fn new_page(
    viewer: &Viewer,
    state: &State,
    org: &str,
    given: MachineForm,
    problem: Option<FormProblem>,
) -> Result<NewPage> {
    let may_give = viewer.may_anywhere(Permission::MemberWrite);
    let may_group = viewer.may(Permission::GroupWrite);
    let (whole, projects) = if may_give { all_options(viewer, state, org).await? } else { (Vec::new(), Vec::new()) };
    let groups = if may_group {
        let found = first_groups(&viewer.actor, state, org, OFFERED).await?;
        found.into_iter().filter(|group| group.builtin.is_none()).map(|group| group.name).collect()
    } else {
        Vec::new()
    };
    Ok(NewPage {
        frame: viewer.frame(Section::Machines),
        given,
        may_give,
        may_group,
        may_key: may_key(viewer),
        whole,
        projects,
        slugs: if may_give { offered(viewer, state, org).await?.0 } else { Vec::new() },
        groups,
        problem,
    })
}

/// Whether the viewer may make keys for others.
fn may_key(viewer: &Viewer) -> bool {
    [Permission::ApikeyOwn, Permission::ApikeyManage, Permission::MemberWrite].into_iter().all(|may| viewer.may(may))
}

/// The form of a new one.
pub(crate) async fn new(viewer: Viewer, Shared(state): Shared<State>, Path(org): Path<String>) -> Result<Response> {
    viewer.actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let given = MachineForm { key: may_key(&viewer), ..MachineForm::default() };
    console::page(&new_page(&viewer, &state, &org, given, None).await?)
}

/// Gives a machine that was just made what it was to have.
async fn equip(
    viewer: &Viewer,
    state: &State,
    org: &str,
    name: &str,
    given: &MachineForm,
) -> Result<Option<CreatedApiKey>> {
    if !given.role.is_empty() {
        let project = given.project.trim();
        let binding = BindingToCreate {
            user: Some(name.to_owned()),
            group: None,
            role: given.role.clone(),
            project: (!project.is_empty()).then(|| project.to_owned()),
            namespaces: several(&given.namespaces),
        };
        create_binding(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), extract::Json(binding)).await?;
    }
    if !given.key {
        return Ok(None);
    }
    let valid_days = match given.valid_days.trim() {
        "" => None,
        days => Some(days.parse().map_err(|_| Error::invalid("valid_days", "use a whole number of days"))?),
    };
    let key = ApiKeyToCreate {
        name: name.to_owned(),
        user: Some(name.to_owned()),
        valid_days,
        projects: None,
        permissions: None,
    };
    let made = create_api_key(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), extract::Json(key)).await?;
    Ok(Some(made.body))
}

/// A failure of the form, at the field that it is about.
fn problem_of(error: Error) -> Result<(StatusCode, FormProblem)> {
    match error {
        Error::NotFound("group") => {
            let message = "One of these groups does not exist.".into();
            Ok((StatusCode::UNPROCESSABLE_ENTITY, FormProblem { field: "groups", message }))
        }
        other => nameless(other),
    }
}

/// Makes one, with a role and a key. Where one of these cannot be, there is no machine either.
pub(crate) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<MachineForm>,
) -> Result<Response> {
    let groups = given.groups.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect();
    let new = UserToCreate {
        name: given.name.trim().to_owned(),
        kind: Kind::Machine,
        first_name: String::new(),
        last_name: String::new(),
        groups,
    };
    let made = create_user(viewer.actor(), Shared(state.clone()), Path(org.clone()), extract::Json(new)).await;
    let refused = match made {
        Ok(made) => {
            let name = made.body.name;
            match equip(&viewer, &state, &org, &name, &given).await {
                Ok(key) => return told(&viewer, &state, &org, &name, key).await,
                Err(error) => {
                    let path = Path((org.clone(), name));
                    delete_user(viewer.actor(), Shared(state.clone()), path, IfMatch::Any).await?;
                    error
                }
            }
        }
        Err(error) => error,
    };
    let (status, problem) = problem_of(refused)?;
    console::page_as(status, &new_page(&viewer, &state, &org, given, Some(problem)).await?)
}

/// What was made: with a key that is shown this once, or without.
async fn told(viewer: &Viewer, state: &State, org: &str, name: &str, key: Option<CreatedApiKey>) -> Result<Response> {
    let Some(made) = key else {
        let to = format!("/orgs/{}/machines/{}", segment(org), segment(name));
        return Ok(notice::done(state, &to, &format!("Made the machine {name}.")));
    };
    let job = job(viewer, state, org, name).await?;
    console::page(&MadePage { frame: viewer.frame(Section::Machines), made, job })
}

async fn job(viewer: &Viewer, state: &State, org: &str, name: &str) -> Result<Job> {
    let host = state.settings().registry_host.clone();
    let project = project_of(viewer, state, org, name).await?;
    Ok(Job {
        kind: "key",
        // With a key, the machine's name is enough: the key says whose it is.
        login: name.to_owned(),
        audience: String::new(),
        image: format!("{host}/{org}/{project}/app"),
        host,
    })
}

/// One of them.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<Response> {
    let path = Path((org.clone(), name));
    let Versioned(_, machine) = get_user(viewer.actor(), Shared(state.clone()), path).await?;
    if !matches!(machine.kind, Kind::Machine) {
        return Ok(see(&format!("/orgs/{}/users/{}", segment(&org), segment(&machine.name))));
    }
    let may_give = viewer.may(Permission::MemberWrite);
    let roles = if viewer.may(Permission::MemberRead) {
        let which = BindingsQuery { user: Some(machine.name.clone()), limit: Some(LINES), ..BindingsQuery::default() };
        let found = list_bindings(viewer.actor(), Shared(state.clone()), Path(org.clone()), Query(which)).await?;
        Some(found.0.items.into_iter().map(|held| Row::new(held, "machine", may_give)).collect())
    } else {
        None
    };
    let issuers = if viewer.may(Permission::IssuerRead) {
        let which = Query(IssuerQuery { user: Some(machine.name.clone()) });
        let bounds = Query(PageQuery { limit: Some(LINES), after: None });
        let found = list_issuers(viewer.actor(), Shared(state.clone()), Path(org.clone()), which, bounds).await?;
        Some(found.0.items.into_iter().map(Line::from).collect())
    } else {
        None
    };
    let job = job(&viewer, &state, &org, &machine.name).await?;
    console::page(&ShowPage {
        frame: viewer.frame(Section::Machines),
        machine,
        roles,
        issuers,
        may_give,
        may_trust: viewer.may(Permission::IssuerWrite),
        may_keys: viewer.may(Permission::ApikeyManage),
        job,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Caller, Controller};

    const LIST: &str = "/orgs/main/machines";

    #[tokio::test]
    async fn a_machine_is_made_with_a_role_and_a_key_or_not_at_all() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        assert!(controller.page(&admin, LIST).await.expect(200).raw.contains("No machine users yet"));
        let form = controller.page(&admin, "/orgs/main/new/machine").await.expect(200);
        assert!(form.raw.contains("name=\"key\" value=\"true\" checked"), "{}", form.raw);
        let fields = |name, role, project, groups, days| {
            [
                ("name", name),
                ("role", role),
                ("project", project),
                ("groups", groups),
                ("valid_days", days),
                ("key", "true"),
            ]
        };
        for (fields, field) in [
            (fields("Not A Name", "", "", "", ""), "name"),
            (fields("ci", "KING", "", "", ""), "role"),
            (fields("ci", "WORKSPACE_ADMIN", "<i>", "", ""), "project"),
            (fields("ci", "", "", "nobody", ""), "groups"),
            (fields("ci", "WORKSPACE_ADMIN", "defaultproject", "", "soon"), "valid_days"),
        ] {
            let wrong = controller.submit(&admin, LIST, &fields).await.expect(422);
            assert!(wrong.raw.contains(&format!("id=\"{field}-wrong\"")), "{field}: {}", wrong.raw);
            assert!(!wrong.raw.contains("<i>"));
            controller.get(&admin, "/orgs/main/users/ci").await.expect(404);
        }
        let good = fields("ci", "WORKSPACE_ADMIN", "defaultproject", "", "30");
        let made = controller.submit(&admin, LIST, &good).await.expect(200);
        let key = made.raw.split("<code>ra2.").nth(1).unwrap().split('<').next().unwrap();
        let key = Caller::Key(format!("ra2.{key}"));
        assert_eq!(controller.get(&key, "/orgs/main/repositories").await.expect(200).body["items"], json!([]));
        assert!(made.raw.contains("docker login localhost:6000 -u ci --password-stdin"), "{}", made.raw);
        controller.submit(&admin, LIST, &good).await.expect(409);

        let list = controller.page(&admin, &format!("{LIST}?search=CI")).await.expect(200);
        assert!(list.raw.contains(">ci</a>") && list.raw.contains("Workspace Admin"), "{}", list.raw);
        assert!(list.raw.contains(">1<span class=\"unseen\"> API keys of ci"), "{}", list.raw);
        let shown = controller.page(&admin, &format!("{LIST}/ci")).await.expect(200);
        assert!(shown.raw.contains("Workspace Admin") && shown.raw.contains("/issuers/new?user=ci"), "{}", shown.raw);
        let person = controller.page(&admin, &format!("{LIST}/{ADMIN}")).await.expect(303);
        assert_eq!(person.headers["location"], format!("/orgs/main/users/{ADMIN}"));
        // Without a key, there is nothing to be shown once.
        let plain = controller.submit(&admin, LIST, &[("name", "plain")]).await.expect(303);
        assert_eq!(plain.headers["location"], "/orgs/main/machines/plain");
    }

    #[tokio::test]
    async fn whoever_may_not_make_machines_reads_them_and_no_more() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
        let reader = controller.member("r@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        let list = controller.page(&reader, LIST).await.expect(200);
        assert!(list.raw.contains(">ci</a>") && !list.raw.contains("New machine user"), "{}", list.raw);
        let shown = controller.page(&reader, &format!("{LIST}/ci")).await.expect(200);
        assert!(!shown.raw.contains("Give a role") && !shown.raw.contains("/users/ci/keys"), "{}", shown.raw);
        controller.page(&reader, "/orgs/main/new/machine").await.expect(403);
        controller.submit(&reader, LIST, &[("name", "x")]).await.expect(403);
        let auditor = controller.member("a@example.com", Some(("AUDITOR", None))).await;
        controller.page(&auditor, LIST).await.expect(403);
        let stranger = controller.other_org().await;
        controller.page(&stranger, LIST).await.expect(404);
        controller.page(&stranger, "/orgs/other/machines/ci").await.expect(404);
    }
}

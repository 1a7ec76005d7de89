//! Roles, as pages: what each allows, who holds it, and an editor that shows what a change would mean before it is one.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::{CustomRole, Permission, Role, RoleScope, assignable};
use serde::Deserialize;
use storage::custom_roles::Rules;

use super::api::{self, RoleChange, RoleToCreate, RoleView, base_roles, base_view};
use super::words;
use crate::State;
use crate::bindings::api::{BindingsQuery, list_bindings};
use crate::bindings::console::Row;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::etag::{IfMatch, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::page::PageQuery;

/// Columns of a page of the matrix: the base roles, and some of one's own.
const COLUMNS: i64 = 30;
/// Lines of a page of holders.
const LINES: i64 = 50;

/// `/orgs/{org}/roles`
#[derive(Template)]
#[template(path = "roles/list.html")]
struct ListPage {
    frame: Frame,
    roles: Vec<RoleView>,
    may_write: bool,
    first: String,
    next: Option<String>,
}

/// `/orgs/{org}/roles/{role}`
#[derive(Template)]
#[template(path = "roles/show.html")]
struct ShowPage {
    frame: Frame,
    role: RoleView,
    may_write: bool,
    may_give: bool,
    holders: Option<Vec<Row>>,
    first: String,
    next: Option<String>,
}

/// `/orgs/{org}/new/role`, before a base is chosen
#[derive(Template)]
#[template(path = "roles/base.html")]
struct BasePage {
    frame: Frame,
    bases: Vec<RoleView>,
}

/// `/orgs/{org}/new/role` and `/orgs/{org}/roles/{role}/edit`
#[derive(Template)]
#[template(path = "roles/form.html")]
struct FormPage {
    frame: Frame,
    given: RoleForm,
    /// The role that is changed; `None` for a new one.
    before: Option<RoleView>,
    choices: Vec<Choices>,
    problem: Option<FormProblem>,
}

/// What saving would do.
#[derive(Template)]
#[template(path = "roles/preview.html")]
struct PreviewPage {
    frame: Frame,
    given: RoleForm,
    before: Option<RoleView>,
    gains: Vec<String>,
    loses: Vec<String>,
    /// How many permissions it has in all.
    total: usize,
    limits: Vec<Limit>,
}

/// `/orgs/{org}/roles/{role}/delete`
#[derive(Template)]
#[template(path = "roles/delete.html")]
struct DeletePage {
    frame: Frame,
    role: RoleView,
    version: String,
    problem: Option<FormProblem>,
}

/// Permissions to choose from that belong together.
#[derive(Debug)]
struct Choices {
    title: &'static str,
    boxes: Vec<Choice>,
}

/// A permission to choose.
#[derive(Debug)]
struct Choice {
    name: &'static str,
    words: &'static str,
    /// What else there is to know of it.
    hint: String,
    on: bool,
}

/// Where a role's permissions hold, before and after.
#[derive(Debug)]
struct Limit {
    what: &'static str,
    before: Vec<String>,
    after: Vec<String>,
}

/// A custom role as its form has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RoleForm {
    name: String,
    base: String,
    description: String,
    /// Permissions that it is to have.
    allow: Vec<String>,
    /// One pattern a line.
    repositories: String,
    tags: String,
    version: String,
    /// `save`, `edit`; anything else asks what saving would do.
    step: String,
}

/// Which base was chosen.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct BaseQuery {
    base: String,
}

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct AfterQuery {
    after: Option<String>,
}

/// The version that a deletion was asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteForm {
    version: String,
}

impl RoleForm {
    /// What is not yet said, where the base is chosen.
    fn of_base(base: Role) -> Self {
        let allow = permissions_of(base).map(|permission| permission.as_str().to_owned()).collect();
        Self { base: base.token().to_owned(), allow, ..Self::default() }
    }

    fn of(role: &RoleView, version: String) -> Self {
        Self {
            name: role.name.clone(),
            base: role.base.clone().unwrap_or_default(),
            description: role.description.clone(),
            allow: role.permissions.iter().map(ToString::to_string).collect(),
            repositories: role.repositories.join("\n"),
            tags: role.tags.join("\n"),
            version,
            step: String::new(),
        }
    }

    /// The rules that make the base what is asked for.
    fn rules(&self, base: Role) -> Rules {
        let has = |name: &str| permissions_of(base).any(|permission| permission.as_str() == name);
        let lines =
            |text: &str| text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect();
        let mut rules = Rules {
            added: self.allow.iter().filter(|name| !has(name)).cloned().collect(),
            removed: permissions_of(base)
                .map(Permission::as_str)
                .filter(|name| !self.allow.iter().any(|allowed| allowed == name))
                .map(str::to_owned)
                .collect(),
            repositories: lines(&self.repositories),
            tags: lines(&self.tags),
        };
        rules.normalise();
        rules
    }

    fn base(&self) -> Result<Role> {
        let found = base_roles().find(|role| role.token() == self.base);
        found.ok_or_else(|| Error::invalid("base", "choose one of the built-in roles"))
    }
}

/// A permission of a role, in words.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    words: &'a str,
    /// Whether a role of a project has it in the organization around that.
    around: bool,
    /// Whether the base role lacks it.
    added: bool,
}

impl RoleView {
    /// Whether it allows that.
    fn has(&self, permission: &str) -> bool {
        self.permissions.contains(&permission)
    }

    /// Whether anybody is known to hold it.
    fn is_held(&self) -> bool {
        self.users.unwrap_or_default() + self.groups.unwrap_or_default() > 0
    }

    /// What it allows, by what that is about.
    fn groups(&self) -> Vec<(&'static str, Vec<Line<'_>>)> {
        let here = assignable(RoleScope::Project).0;
        let line = |(permission, words): &(Permission, &'static str)| {
            self.has(permission.as_str()).then(|| Line {
                words,
                around: self.scope == "project" && !here.contains(permission),
                added: self.added.iter().any(|name| name == permission.as_str()),
            })
        };
        let group = |group: &words::Group| (group.title, group.permissions.iter().filter_map(line).collect::<Vec<_>>());
        words::GROUPS.iter().map(group).filter(|(_, lines)| !lines.is_empty()).collect()
    }
}

/// Everything that a base role allows, where it is given and around that.
fn permissions_of(base: Role) -> impl Iterator<Item = Permission> {
    base.permissions().iter().chain(base.organization_permissions()).copied()
}

/// The permissions that a custom role of that base can have.
fn choices(base: Role, given: &RoleForm) -> Vec<Choices> {
    let (here, around) = assignable(base.scope());
    let hint = |permission: Permission| {
        let mut parts = Vec::new();
        if base.scope() == RoleScope::Project && !here.contains(&permission) {
            parts.push("in the whole organization");
        }
        if permission.is_registry() {
            parts.push("in the repositories named below");
        }
        if permissions_of(base).any(|has| has == permission) {
            parts.push("part of the built-in role");
        }
        parts.join(", ")
    };
    let boxes = |group: &words::Group| {
        let can = group.permissions.iter().filter(|(can, _)| here.contains(can) || around.contains(can));
        let choice = |(permission, words): &(Permission, &'static str)| Choice {
            name: permission.as_str(),
            words,
            hint: hint(*permission),
            on: given.allow.iter().any(|name| name == permission.as_str()),
        };
        Choices { title: group.title, boxes: can.map(choice).collect() }
    };
    words::GROUPS.iter().map(boxes).filter(|group| !group.boxes.is_empty()).collect()
}

/// The list and the matrix.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<AfterQuery>,
) -> Result<Response> {
    let here = format!("/orgs/{}/roles", segment(&org));
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let bounds = Query(PageQuery { limit: Some(COLUMNS), after: query.after });
    let Json(page) = api::list_roles(viewer.actor(), Shared(state), Path(org), bounds).await?;
    let next = page.next.map(|after| format!("{here}?after={}", segment(&after)));
    let (frame, may_write) = (viewer.frame(Section::Roles), viewer.may(Permission::RoleWrite));
    console::page(&ListPage { frame, roles: page.items, may_write, first, next })
}

/// One of them, and who holds it.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
    Query(query): Query<AfterQuery>,
) -> Result<Response> {
    let path = Path((org.clone(), role));
    let Versioned(_, role) = api::get_role(viewer.actor(), Shared(state.clone()), path).await?;
    let here = format!("/orgs/{}/roles/{}", segment(&org), segment(&role.name));
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let (mut holders, mut next) = (None, None);
    if viewer.may_anywhere(Permission::MemberRead) {
        let which = BindingsQuery {
            role: Some(role.name.clone()),
            limit: Some(LINES),
            after: query.after,
            ..BindingsQuery::default()
        };
        let Json(page) = list_bindings(viewer.actor(), Shared(state), Path(org), Query(which)).await?;
        let may = viewer.may(Permission::MemberWrite);
        holders = Some(page.items.into_iter().map(|held| Row::new(held, "role", may)).collect());
        next = page.next.map(|after| format!("{here}?after={}", segment(&after)));
    }
    console::page(&ShowPage {
        frame: viewer.frame(Section::Roles),
        may_write: role.custom && viewer.may(Permission::RoleWrite),
        may_give: viewer.may_anywhere(Permission::MemberWrite),
        role,
        holders,
        first,
        next,
    })
}

/// The form of a new one, or the choice of what it is made of.
pub(crate) async fn new(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<BaseQuery>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::RoleWrite, &state, &org).await?;
    match base_roles().find(|role| role.token() == query.base) {
        Some(base) => console::page(&form_page(&viewer, RoleForm::of_base(base), None, None)),
        None => {
            let bases = base_roles().map(base_view).collect();
            console::page(&BasePage { frame: viewer.frame(Section::Roles), bases })
        }
    }
}

fn form_page(viewer: &Viewer, given: RoleForm, before: Option<RoleView>, problem: Option<FormProblem>) -> FormPage {
    let choices = Role::find(&given.base).map(|base| choices(base, &given)).unwrap_or_default();
    FormPage { frame: viewer.frame(Section::Roles), given, before, choices, problem }
}

/// What saving would do.
fn preview(viewer: &Viewer, given: RoleForm, before: Option<RoleView>) -> Result<PreviewPage> {
    let base = given.base()?;
    let rules = given.rules(base);
    CustomRole::compile("", &given.name, base, &rules)?;
    let had: Vec<&str> = match &before {
        Some(role) => role.permissions.clone(),
        None => permissions_of(base).map(Permission::as_str).collect(),
    };
    let told = |names: Vec<&str>| names.into_iter().map(|name| words::of(name).to_owned()).collect();
    let gains = told(given.allow.iter().map(String::as_str).filter(|name| !had.contains(name)).collect());
    let loses = told(had.iter().copied().filter(|name| !given.allow.iter().any(|allow| allow == name)).collect());
    let (repositories, tags) =
        before.as_ref().map(|role| (role.repositories.clone(), role.tags.clone())).unwrap_or_default();
    let limits = vec![
        Limit { what: "Repositories", before: repositories, after: rules.repositories },
        Limit { what: "Tags that may be written or deleted", before: tags, after: rules.tags },
    ];
    let total = given.allow.len();
    Ok(PreviewPage { frame: viewer.frame(Section::Roles), given, before, gains, loses, total, limits })
}

/// Makes one, or shows what it would be.
pub(crate) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<RoleForm>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::RoleWrite, &state, &org).await?;
    let refused = match given.step.as_str() {
        "edit" => return console::page(&form_page(&viewer, given, None, None)),
        "save" => {
            let rules = given.rules(given.base()?);
            let new = RoleToCreate {
                name: given.name.trim().to_owned(),
                base: given.base.clone(),
                description: given.description.trim().to_owned(),
                added: rules.added,
                removed: rules.removed,
                repositories: rules.repositories,
                tags: rules.tags,
            };
            let made =
                api::create_role(viewer.actor(), Shared(state.clone()), Path(org.clone()), extract::Json(new)).await;
            match made {
                Ok(made) => {
                    let to = format!("/orgs/{}/roles/{}", segment(&org), segment(&made.body.name));
                    return Ok(notice::done(&state, &to, &format!("Made the role {}.", made.body.name)));
                }
                Err(error) => error,
            }
        }
        _ => match preview(&viewer, given.clone(), None) {
            Ok(page) => return console::page(&page),
            Err(error) => error,
        },
    };
    let (status, problem) = FormProblem::of(refused)?;
    console::page_as(status, &form_page(&viewer, given, None, Some(problem)))
}

/// A custom role that the viewer may change.
async fn own(viewer: &Viewer, state: &State, org: &str, role: &str) -> Result<(String, RoleView)> {
    viewer.actor.can_in_org(Permission::RoleWrite, state, org).await?;
    let path = Path((org.to_owned(), role.to_owned()));
    let Versioned(version, role) = api::get_role(viewer.actor(), Shared(state.clone()), path).await?;
    if !role.custom {
        return Err(Error::Unacceptable("built-in roles stay as they are: make a role of your own from it".into()));
    }
    Ok((version.to_string(), role))
}

/// The form of one that is there.
pub(crate) async fn edit(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
) -> Result<Response> {
    let (version, role) = own(&viewer, &state, &org, &role).await?;
    console::page(&form_page(&viewer, RoleForm::of(&role, version), Some(role), None))
}

/// Changes one, or shows what the change would do.
pub(crate) async fn update(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
    Form(mut given): Form<RoleForm>,
) -> Result<Response> {
    let (version, before) = own(&viewer, &state, &org, &role).await?;
    // Neither changes.
    given.name.clone_from(&before.name);
    given.base = before.base.clone().unwrap_or_default();
    let refused = match given.step.as_str() {
        "edit" => return console::page(&form_page(&viewer, given, Some(before), None)),
        "save" => {
            let rules = given.rules(given.base()?);
            let change = RoleChange {
                description: Some(given.description.trim().to_owned()),
                added: Some(rules.added),
                removed: Some(rules.removed),
                repositories: Some(rules.repositories),
                tags: Some(rules.tags),
            };
            let path = Path((org.clone(), role.clone()));
            let if_match = IfMatch::of(&given.version);
            let changed =
                api::update_role(viewer.actor(), Shared(state.clone()), path, if_match, extract::Json(change)).await;
            match changed {
                Ok(_) => {
                    let to = format!("/orgs/{}/roles/{}", segment(&org), segment(&role));
                    return Ok(notice::done(&state, &to, &format!("Saved the role {role}.")));
                }
                Err(error) => error,
            }
        }
        // What is shown is the difference to what is there now, and so is what is saved.
        _ if given.version != version => Error::Changed,
        _ => match preview(&viewer, given.clone(), Some(before.clone())) {
            Ok(page) => return console::page(&page),
            Err(error) => error,
        },
    };
    let (status, problem) = FormProblem::of(refused)?;
    given.version = version;
    console::page_as(status, &form_page(&viewer, given, Some(before), Some(problem)))
}

async fn delete_page(
    viewer: &Viewer,
    state: &State,
    org: &str,
    role: &str,
    problem: Option<FormProblem>,
) -> Result<DeletePage> {
    let (version, role) = own(viewer, state, org, role).await?;
    Ok(DeletePage { frame: viewer.frame(Section::Roles), role, version, problem })
}

/// What its deletion means.
pub(crate) async fn confirm(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
) -> Result<Response> {
    console::page(&delete_page(&viewer, &state, &org, &role, None).await?)
}

/// Deletes it.
pub(crate) async fn delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
    Form(given): Form<DeleteForm>,
) -> Result<Response> {
    let path = Path((org.clone(), role.clone()));
    let gone = api::delete_role(viewer.actor(), Shared(state.clone()), path, IfMatch::of(&given.version)).await;
    match gone {
        Ok(_) => {
            let to = format!("/orgs/{}/roles", segment(&org));
            Ok(notice::done(&state, &to, &format!("Deleted the role {role}.")))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            console::page_as(status, &delete_page(&viewer, &state, &org, &role, Some(problem)).await?)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Controller};

    const LIST: &str = "/orgs/main/roles";

    #[tokio::test]
    async fn a_role_is_made_changed_and_deleted_and_says_what_that_means_first() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let bases = controller.page(&admin, "/orgs/main/new/role").await.expect(200);
        assert!(bases.raw.contains("value=\"WORKSPACE_ADMIN\"") && !bases.raw.contains("SUPER_ADMIN"));
        let form = controller.page(&admin, "/orgs/main/new/role?base=PROJECT_READ_ONLY").await.expect(200);
        assert!(form.raw.contains("value=\"registry.pull\" checked") && !form.raw.contains("\"settings.write\""));

        let fields = |repositories: &'static str, step: &'static str| {
            [
                ("name", "releases"),
                ("base", "PROJECT_READ_ONLY"),
                ("description", "<b>Tags</b>"),
                ("allow", "registry.pull"),
                ("allow", "registry.push"),
                ("allow", "project.read"),
                ("allow", "org.read"),
                ("allow", "apikey.own"),
                ("repositories", repositories),
                ("tags", "v*"),
                ("step", step),
            ]
        };
        let wrong = controller.submit(&admin, LIST, &fields("shop/[", "")).await.expect(422);
        assert!(
            wrong.raw.contains("id=\"repositories-wrong\"") && wrong.raw.contains("&#60;b&#62;Tags"),
            "{}",
            wrong.raw
        );
        let asked = controller.submit(&admin, LIST, &fields("shop/**", "")).await.expect(200);
        assert!(
            asked.raw.contains("Push images, new repositories included") && asked.raw.contains("See who holds which")
        );
        assert!(!asked.raw.contains("<b>Tags"));
        controller.get(&admin, "/orgs/main/roles/releases").await;
        controller.page(&admin, "/orgs/main/roles/releases").await.expect(404);
        let again = controller.submit(&admin, LIST, &fields("shop/**", "edit")).await.expect(200);
        assert!(again.raw.contains("value=\"registry.push\" checked"), "{}", again.raw);
        let made = controller.submit(&admin, LIST, &fields("shop/**", "save")).await.expect(303);
        assert_eq!(made.headers["location"], "/orgs/main/roles/releases");
        let role = controller.get(&admin, "/orgs/main/roles/releases").await.expect(200).body;
        assert_eq!((&role["added"], &role["removed"]), (&json!(["registry.push"]), &json!(["member.read"])));
        assert_eq!((&role["repositories"], &role["tags"]), (&json!(["shop/**"]), &json!(["v*"])));

        controller.member("dev@example.com", Some(("releases", Some("defaultproject")))).await;
        let shown = controller.page(&admin, "/orgs/main/roles/releases").await.expect(200);
        assert!(shown.raw.contains("dev@example.com") && shown.raw.contains("shop/**"), "{}", shown.raw);
        let matrix = controller.page(&admin, LIST).await.expect(200);
        assert!(matrix.raw.contains(">releases</a>") && matrix.raw.contains("Organization Admin"));
        assert!(matrix.raw.len() < 100 << 10, "{}", matrix.raw.len());

        let edit = "/orgs/main/roles/releases/edit";
        let version = controller.page(&admin, edit).await.expect(200).version();
        let change = |step: &'static str, version: &str| {
            [("allow", "registry.pull".to_owned()), ("step", step.to_owned()), ("version", version.to_owned())]
        };
        let submit = async |step: &'static str, version: &str| {
            let change = change(step, version);
            let change: Vec<(&str, &str)> = change.iter().map(|(name, value)| (*name, value.as_str())).collect();
            controller.submit(&admin, edit, &change).await
        };
        let asked = submit("", &version).await.expect(200);
        assert!(asked.raw.contains("1 user and 0 groups"), "{}", asked.raw);
        assert!(asked.raw.contains("Push images, new repositories included") && asked.raw.contains("every repository"));
        submit("save", &version).await.expect(303);
        let late = submit("save", &version).await.expect(412);
        assert_ne!(late.version(), version);
        submit("", &version).await.expect(412);

        let delete = "/orgs/main/roles/releases/delete";
        let held = controller.page(&admin, delete).await.expect(200);
        assert!(
            held.raw.contains("1 user and 0 groups") && !held.raw.contains("Delete the role</button>"),
            "{}",
            held.raw
        );
        let version = held.version();
        controller.submit(&admin, delete, &[("version", version.as_str())]).await.expect(409);
        let held = controller.get(&admin, "/orgs/main/bindings?role=releases").await.expect(200);
        let id = held.body["items"][0]["id"].as_str().unwrap().to_owned();
        controller.submit(&admin, &format!("/orgs/main/bindings/{id}/delete"), &[("from", "role")]).await.expect(303);
        controller.submit(&admin, delete, &[("version", "")]).await.expect(412);
        controller.submit(&admin, delete, &[("version", version.as_str())]).await.expect(303);
        controller.page(&admin, delete).await.expect(404);
    }

    #[tokio::test]
    async fn whoever_may_not_make_roles_reads_them_and_no_more() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/roles", &json!({"name": "own", "base": "AUDITOR"})).await.expect(201);
        let reader = controller.member("r@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        let list = controller.page(&reader, LIST).await.expect(200);
        assert!(!list.raw.contains("New role"));
        let shown = controller.page(&reader, "/orgs/main/roles/own").await.expect(200);
        assert!(!shown.raw.contains("/edit") && !shown.raw.contains("Give this role"), "{}", shown.raw);
        for path in ["/orgs/main/new/role", "/orgs/main/roles/own/edit", "/orgs/main/roles/own/delete"] {
            controller.page(&reader, path).await.expect(403);
        }
        controller.submit(&reader, LIST, &[("name", "x"), ("base", "AUDITOR")]).await.expect(403);
        controller.submit(&reader, "/orgs/main/roles/own/edit", &[]).await.expect(403);
        controller.submit(&reader, "/orgs/main/roles/own/delete", &[]).await.expect(403);
        controller.page(&admin, "/orgs/main/roles/ADMIN/edit").await.expect(422);
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("defaultproject")))).await;
        let admins = controller.page(&lead, "/orgs/main/roles/ADMIN").await.expect(200);
        assert!(!admins.raw.contains("Organization Admins"), "{}", admins.raw);
        let stranger = controller.other_org().await;
        controller.page(&stranger, "/orgs/main/roles").await.expect(404);
        controller.page(&stranger, "/orgs/other/roles/own").await.expect(404);
    }
}

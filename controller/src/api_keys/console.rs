//! API keys: one's own under `/account/keys`, everybody's under `/orgs/{org}/keys`.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::api_key::ApiKey;
use identity::rbac::Permission;
use serde::Deserialize;

use super::api::{self, ApiKeyQuery, ApiKeyToCreate, ApiKeyView};
use crate::State;
use crate::account::api::get_account;
use crate::account::console::Tools;
use crate::console::form::several;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice, see};
use crate::error::{Error, Result};
use crate::etag::segment;
use crate::extract::{self, Path, Query};
use crate::mfa::console::attachment;
use crate::page::PageQuery;
use crate::projects::console::offered;
use crate::roles::words;

/// Seconds before its end in which a key is marked (7 days).
const SOON: i64 = 7 * 86_400;

/// `/account/keys`, `/orgs/{org}/keys`
#[derive(Template)]
#[template(path = "api_keys/list.html")]
struct ListPage {
    frame: Frame,
    scope: Scope,
    keys: Vec<ApiKeyView>,
    /// Whether there is a role that may have them.
    may_have: bool,
    /// Only of this user.
    user: String,
    problem: Option<FormProblem>,
    first: String,
    next: Option<String>,
}

/// `…/new`
#[derive(Template)]
#[template(path = "api_keys/new.html")]
struct NewPage {
    frame: Frame,
    scope: Scope,
    given: NewForm,
    longest: Option<i64>,
    projects: Vec<String>,
    /// Whether there are others, to be typed.
    more_projects: bool,
    /// Permissions on images that there are to tick, with words for them.
    images: Vec<(&'static str, &'static str)>,
    /// All others.
    others: Vec<(&'static str, &'static str)>,
    problem: Option<FormProblem>,
}

/// A key, this once.
#[derive(Template)]
#[template(path = "api_keys/made.html")]
struct MadePage {
    frame: Frame,
    scope: Scope,
    key: String,
    view: ApiKeyView,
    docker: String,
    host: String,
    /// Whether the certificate is of a private CA.
    private: bool,
}

/// `…/{id}/revoke`
#[derive(Template)]
#[template(path = "api_keys/revoke.html")]
struct RevokePage {
    frame: Frame,
    scope: Scope,
    key: ApiKeyView,
}

/// Whose keys the pages are about.
#[derive(Debug, Clone)]
struct Scope {
    /// Path of the list.
    base: String,
    /// Slug of the organization.
    org: String,
    /// Everybody's.
    all: bool,
}

impl Scope {
    /// One's own in the chosen organization.
    fn own(viewer: &Viewer) -> Result<Self> {
        let org = viewer.org().ok_or(Error::NotFound("organization"))?.slug.clone();
        Ok(Self { base: "/account/keys".into(), org, all: false })
    }

    /// Everybody's in an organization.
    async fn all(viewer: &Viewer, state: &State, org: String) -> Result<Self> {
        viewer.actor.can_in_org(Permission::ApikeyManage, state, &org).await?;
        Ok(Self { base: format!("/orgs/{}/keys", segment(&org)), org, all: true })
    }

    fn section(&self) -> Section {
        if self.all { Section::AllKeys } else { Section::Keys }
    }
}

/// Which keys.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListQuery {
    user: String,
    after: Option<String>,
}

/// The fields of a key to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewForm {
    name: String,
    user: String,
    valid_days: String,
    projects: Vec<String>,
    /// Projects that are not among those to tick.
    more_projects: String,
    permissions: Vec<String>,
}

/// What goes into a file. No `Debug`: it holds a key.
#[derive(Deserialize)]
pub(crate) struct FileForm {
    key: String,
    user: String,
}

/// One's own keys.
pub(crate) async fn own_list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    query: Query<ListQuery>,
) -> Result<Response> {
    // Without an organization there are none, and the front page says so.
    if viewer.org().is_none() {
        return Ok(see("/"));
    }
    let scope = Scope::own(&viewer)?;
    list(viewer, state, scope, query.0).await
}

/// Everybody's.
pub(crate) async fn all_list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    query: Query<ListQuery>,
) -> Result<Response> {
    let scope = Scope::all(&viewer, &state, org).await?;
    list(viewer, state, scope, query.0).await
}

async fn list(viewer: Viewer, state: State, scope: Scope, query: ListQuery) -> Result<Response> {
    let user = query.user.trim().to_owned();
    let filter =
        if scope.all && !user.is_empty() { format!("user={}&", console::front::query(&user)) } else { String::new() };
    let whose = if scope.all {
        Some(user.clone()).filter(|user| !user.is_empty())
    } else {
        Some(viewer.actor.principal().name.clone())
    };
    let first = if query.after.is_some() { format!("{}?{filter}", scope.base) } else { String::new() };
    let which = Query(ApiKeyQuery { user: whose });
    let page = Query(PageQuery { limit: Some(console::PAGE), after: query.after });
    let frame = viewer.frame(scope.section());
    let may_have = scope.all || viewer.may(Permission::ApikeyOwn);
    let listed = if may_have {
        api::list_api_keys(viewer.actor(), Shared(state), Path(scope.org.clone()), which, page).await
    } else {
        // Nobody gave them a role: the page says it.
        Ok(Json(crate::page::Page { items: Vec::new(), next: None }))
    };
    match listed {
        Ok(Json(page)) => {
            let next = page.next.map(|after| format!("{}?{filter}after={}", scope.base, console::front::query(&after)));
            console::page(&ListPage { frame, scope, keys: page.items, may_have, user, problem: None, first, next })
        }
        Err(Error::NotFound("user")) => {
            let problem = Some(FormProblem { field: "user", message: "Nobody goes by that name here.".into() });
            console::page(&ListPage { frame, scope, keys: Vec::new(), may_have, user, problem, first, next: None })
        }
        Err(error) => Err(error),
    }
}

impl ListPage {
    fn ends_soon(&self, key: &ApiKeyView) -> bool {
        key.expires_at.is_some_and(|at| at > self.frame.now && at < self.frame.now + SOON)
    }

    fn has_ended(&self, key: &ApiKeyView) -> bool {
        key.expires_at.is_some_and(|at| at <= self.frame.now)
    }
}

/// The form of one's own.
pub(crate) async fn own_new(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    let scope = Scope::own(&viewer)?;
    viewer.actor.can_in_org(Permission::ApikeyOwn, &state, &scope.org).await?;
    console::page(&NewPage::of(&viewer, &state, scope, NewForm::default(), None).await?)
}

/// The form of anybody's.
pub(crate) async fn all_new(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<ListQuery>,
) -> Result<Response> {
    let scope = Scope::all(&viewer, &state, org).await?;
    let given = NewForm { user: query.user, ..NewForm::default() };
    console::page(&NewPage::of(&viewer, &state, scope, given, None).await?)
}

impl NewPage {
    async fn of(
        viewer: &Viewer,
        state: &State,
        scope: Scope,
        given: NewForm,
        problem: Option<FormProblem>,
    ) -> Result<Self> {
        let Json(account) = get_account(viewer.actor(), Shared(state.clone())).await?;
        let (projects, more_projects) = offered(viewer, state, &scope.org).await?;
        let held = |permission: &&Permission| viewer.may_anywhere(**permission);
        let all: Vec<Permission> = Permission::ALL.iter().filter(held).copied().collect();
        let named = |one: &Permission| (one.as_str(), words::of(one.as_str()));
        let (images, others) = all.iter().map(named).partition(|(name, _)| name.starts_with("registry."));
        let longest = account.profile.and_then(|profile| profile.longest_key_days);
        let frame = viewer.frame(scope.section());
        Ok(Self { frame, scope, given, longest, projects, more_projects, images, others, problem })
    }

    fn ticked(given: &[String], one: &str) -> bool {
        given.iter().any(|given| given == one)
    }

    /// Whether one of the permissions is ticked that are not shown at first.
    fn opens(&self) -> bool {
        self.others.iter().any(|(one, _)| Self::ticked(&self.given.permissions, one))
    }

    fn days(&self) -> String {
        match self.longest {
            Some(days) if !self.scope.all => format!("At most {days} here; left empty, as long as that."),
            _ => "Left empty, as long as the organization allows.".to_owned(),
        }
    }
}

/// Makes one's own.
pub(crate) async fn own_create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Form(given): Form<NewForm>,
) -> Result<Response> {
    let scope = Scope::own(&viewer)?;
    create(viewer, state, scope, NewForm { user: String::new(), ..given }).await
}

/// Makes anybody's.
pub(crate) async fn all_create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<NewForm>,
) -> Result<Response> {
    let scope = Scope::all(&viewer, &state, org).await?;
    create(viewer, state, scope, given).await
}

async fn create(viewer: Viewer, state: State, scope: Scope, given: NewForm) -> Result<Response> {
    let made = match wanted(&given) {
        Ok(new) => {
            let org = Path(scope.org.clone());
            api::create_api_key(viewer.actor(), Shared(state.clone()), org, extract::Json(new)).await
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(made) => {
            let api::CreatedApiKey { key, view } = made.body;
            let tools = Tools::of(&state, &view.user);
            let (frame, docker, private) = (viewer.frame(scope.section()), tools.docker_with(&key), tools.is_private());
            console::page(&MadePage { frame, scope, key, view, docker, host: tools.host, private })
        }
        Err(error) => {
            let (status, problem) = match error {
                Error::NotFound("user") => {
                    let message = "Nobody active goes by that name here.".into();
                    (http::StatusCode::UNPROCESSABLE_ENTITY, FormProblem { field: "user", message })
                }
                Error::NotFound("project") => {
                    let message = "One of the projects is not there, or not yours to see.".into();
                    (http::StatusCode::UNPROCESSABLE_ENTITY, FormProblem { field: "more_projects", message })
                }
                error => FormProblem::of(error)?,
            };
            console::page_as(status, &NewPage::of(&viewer, &state, scope, given, Some(problem)).await?)
        }
    }
}

/// What a form asks for.
fn wanted(given: &NewForm) -> Result<ApiKeyToCreate> {
    let some = |list: &[String]| (!list.is_empty()).then(|| list.to_vec());
    let days = given.valid_days.trim();
    let valid_days = match days.parse() {
        Ok(days) => Some(days),
        Err(_) if days.is_empty() => None,
        Err(_) => return Err(Error::invalid("valid_days", "use a whole number of days")),
    };
    let user = given.user.trim();
    let mut projects = given.projects.clone();
    projects.extend(several(&given.more_projects).into_iter().filter(|typed| !given.projects.contains(typed)));
    Ok(ApiKeyToCreate {
        name: given.name.clone(),
        user: (!user.is_empty()).then(|| user.to_owned()),
        valid_days,
        projects: some(&projects),
        permissions: some(&given.permissions),
    })
}

/// A key that was made just now as a file for `rctl`. The server does not know it any more: it says back what it is sent.
pub(crate) async fn file(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Form(given): Form<FileForm>,
) -> Result<Response> {
    let scope = Scope::own(&viewer)?;
    if ApiKey::parse(&given.key).is_none() || given.user.len() > 254 {
        return Err(Error::Malformed("the form holds something else than an API key".into()));
    }
    let text = Tools::of(&state, &given.user).rctl_file(&scope.org, &given.user, &given.key);
    Ok(attachment("rctl-config.json", "application/json", text))
}

/// Asks before one's own goes.
pub(crate) async fn own_ask_revoke(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Response> {
    let scope = Scope::own(&viewer)?;
    ask_revoke(viewer, state, scope, id).await
}

/// Asks before anybody's goes.
pub(crate) async fn all_ask_revoke(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Response> {
    let scope = Scope::all(&viewer, &state, org).await?;
    ask_revoke(viewer, state, scope, id).await
}

async fn ask_revoke(viewer: Viewer, state: State, scope: Scope, id: String) -> Result<Response> {
    let Json(key) = api::get_api_key(viewer.actor(), Shared(state), Path((scope.org.clone(), id))).await?;
    console::page(&RevokePage { frame: viewer.frame(scope.section()), scope, key })
}

/// Revokes one's own.
pub(crate) async fn own_revoke(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Response> {
    let scope = Scope::own(&viewer)?;
    revoke(viewer, state, scope, id).await
}

/// Revokes anybody's.
pub(crate) async fn all_revoke(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Response> {
    let scope = Scope::all(&viewer, &state, org).await?;
    revoke(viewer, state, scope, id).await
}

async fn revoke(viewer: Viewer, state: State, scope: Scope, id: String) -> Result<Response> {
    api::delete_api_key(viewer.actor(), Shared(state.clone()), Path((scope.org, id))).await?;
    Ok(notice::done(&state, &scope.base, "The API key is revoked."))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Caller, Controller, Reply};

    const OWN: &str = "/account/keys";
    const ALL: &str = "/orgs/main/keys";

    fn key_of(page: &Reply) -> String {
        let at = page.raw.find("name=\"key\" value=\"").unwrap();
        page.raw[at..].split('"').nth(3).unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_key_is_shown_once_with_what_to_do_with_it_and_revoked() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        assert!(controller.page(&admin, OWN).await.expect(200).raw.contains("No API keys"));
        let form = controller.page(&admin, "/account/keys/new").await.expect(200);
        assert!(form.raw.contains("value=\"registry.push\"") && form.raw.contains("value=\"defaultproject\""));
        assert!(!form.raw.contains("name=\"user\""));
        let refused = controller
            .submit(&admin, OWN, &[("name", "lap<top>"), ("valid_days", "soon"), ("permissions", "registry.pull")])
            .await
            .expect(422);
        assert!(refused.raw.contains("valid_days-wrong") && refused.raw.contains("lap&#60;top"), "{}", refused.raw);
        assert!(refused.raw.contains("value=\"registry.pull\" checked"), "what was ticked stays");
        let fields = [
            ("name", "lap<top>"),
            ("valid_days", "3"),
            ("permissions", "registry.pull"),
            ("permissions", "apikey.own"),
            ("projects", "defaultproject"),
        ];
        let made = controller.submit(&admin, OWN, &fields).await.expect(200);
        let key = key_of(&made);
        assert!(made.raw.contains(&format!("printf %s {key} | docker login localhost:6000 -u {ADMIN}")));
        assert!(
            made.raw.contains("rctl config set ca_file wharfinger-ca.crt"),
            "its certificate is of its own authority"
        );
        assert_eq!(made.headers["cache-control"], "no-store");
        let seen = controller.get(&Caller::Key(key.clone()), "/orgs/main/apikeys").await;
        assert_ne!(seen.status, 401, "the key lets in");
        let list = controller.page(&admin, OWN).await.expect(200);
        assert!(list.raw.contains("lap&#60;top") && list.raw.contains("Soon"), "{}", list.raw);
        assert!(!list.raw.contains(&key), "never again");

        let file = controller.submit(&admin, "/account/keys/file", &[("key", &key), ("user", ADMIN)]).await.expect(200);
        let profile = &file.body["profiles"]["default"];
        assert_eq!((&profile["api_key"], &profile["org"]), (&json!(key), &json!("main")));
        assert_eq!(profile["registry"], "localhost:6000");
        assert!(file.headers["content-disposition"].to_str().unwrap().starts_with("attachment"));
        controller.submit(&admin, "/account/keys/file", &[("key", "<b>"), ("user", ADMIN)]).await.expect(400);

        let id = key.split('.').nth(1).unwrap();
        let path = format!("{OWN}/{id}/revoke");
        assert!(controller.page(&admin, &path).await.expect(200).raw.contains("Revoke it"));
        controller.submit(&admin, &path, &[]).await.expect(303);
        controller.get(&Caller::Key(key), "/orgs/main").await.expect(401);
        controller.submit(&admin, &path, &[]).await.expect(404);
    }

    #[tokio::test]
    async fn everybodys_keys_are_for_those_who_manage_them_in_their_organization() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let dev = controller.member("dev@example.com", Some(("PROJECT_ADMIN", Some("defaultproject")))).await;
        controller.submit(&dev, OWN, &[("name", "of-dev")]).await.expect(200);
        controller.page(&dev, ALL).await.expect(403);
        controller.submit(&dev, ALL, &[("name", "x"), ("user", ADMIN)]).await.expect(403);
        let list = controller.page(&admin, ALL).await.expect(200);
        assert!(list.raw.contains("of-dev") && list.raw.contains("dev@example.com"));
        assert!(!controller.page(&admin, OWN).await.expect(200).raw.contains("of-dev"));
        let filtered = controller.page(&admin, &format!("{ALL}?user={ADMIN}")).await.expect(200);
        assert!(!filtered.raw.contains("of-dev"));
        let nobody = controller.page(&admin, &format!("{ALL}?user=nobody")).await.expect(200);
        assert!(nobody.raw.contains("Nobody goes by that name"), "{}", nobody.raw);
        let unknown = controller.submit(&admin, ALL, &[("name", "x"), ("user", "nobody")]).await.expect(422);
        assert!(unknown.raw.contains("user-wrong"), "{}", unknown.raw);
        controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
        let made = controller.submit(&admin, ALL, &[("name", "build"), ("user", "ci")]).await.expect(200);
        assert!(made.raw.contains("-u ci --password-stdin"), "{}", made.raw);
        // Another organization's admin finds neither list nor key.
        let boss = controller.other_org().await;
        controller.page(&boss, ALL).await.expect(404);
        let id = key_of(&made).split('.').nth(1).unwrap().to_owned();
        for path in
            [format!("{OWN}/{id}/revoke"), format!("{ALL}/{id}/revoke"), format!("/orgs/other/keys/{id}/revoke")]
        {
            controller.submit(&boss, &path, &[]).await.expect(404);
        }
        controller.submit(&admin, &format!("{ALL}/{id}/revoke"), &[]).await.expect(303);
        let listed = controller.get(&admin, "/orgs/main/apikeys?user=ci").await.expect(200);
        assert_eq!(listed.body["items"], Value::Array(Vec::new()));
    }

    #[tokio::test]
    async fn a_member_without_a_role_is_told_that_there_can_be_none() {
        let controller = Controller::start().await;
        let new = controller.member("new@example.com", None).await;
        let list = controller.page(&new, OWN).await.expect(200);
        assert!(!list.raw.contains("New API key"), "{}", list.raw);
        controller.page(&new, "/account/keys/new").await.expect(404);
        controller.submit(&new, OWN, &[("name", "x")]).await.expect(404);
    }
}

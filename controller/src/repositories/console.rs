//! Repositories, tags and what has none, as pages. A repository's page is at its name without the organization, which may
//! have several parts; what is to be deleted has a path of its own, so that no name can be mistaken for a deed.

use std::ops::ControlFlow;

use askama::Template;
use axum::Json;
use axum::extract::{RawQuery, State as Shared};
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;
use storage::names::{DEFAULT_PROJECT, RepoName};
use storage::projects;
use storage::repositories::Repository;

use super::api::{self, RepositoriesQuery, RepositoryQuery, RepositoryView, Sort, TagView, TagsQuery};
use super::api::{UntaggedQuery, UntaggedView, Wish, in_repository};
use super::deletion::{self, DeletionQuery, DeletionView, ManifestsDeletion, RepositoryDeletion, TagsDeletion};
use crate::State;
use crate::account::console::Tools;
use crate::actor::in_project;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::etag::segment;
use crate::extract::{self, Path, Query};
use crate::manifests::helm;
use crate::manifests::kind::Kind;
use crate::projects::console::offered;

/// Items of a page.
const PAGE: i64 = 50;

/// A name as one path: of the repository, without its organization.
fn path_of(name: &str) -> String {
    name.split('/').map(segment).collect::<Vec<_>>().join("/")
}

/// What follows the organization in a repository's full name.
fn behind_org<'a>(full: &'a str, org: &str) -> &'a str {
    full.strip_prefix(org).and_then(|rest| rest.strip_prefix('/')).unwrap_or(full)
}

/// A query made of what is not empty; empty itself where nothing is left.
fn query_of(pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    let text = query.finish();
    if text.is_empty() { text } else { format!("?{text}") }
}

/// How to push, with the viewer's own names.
#[derive(Debug)]
struct Push {
    tools: Tools,
    /// The repository in full.
    repository: String,
    /// What is before its last part.
    parent: String,
    /// Its last part.
    leaf: String,
    /// Whether the viewer may.
    allowed: bool,
}

impl Push {
    fn new(viewer: &Viewer, state: &State, repository: &str, allowed: bool) -> Self {
        let (parent, leaf) = repository.rsplit_once('/').unwrap_or(("", repository));
        Self {
            tools: Tools::of(state, &viewer.actor.principal().name),
            repository: repository.to_owned(),
            parent: parent.to_owned(),
            leaf: leaf.to_owned(),
            allowed,
        }
    }

    /// `HOST/REPOSITORY`
    fn address(&self) -> String {
        format!("{}/{}", self.tools.host, self.repository)
    }

    fn login(&self) -> String {
        format!("docker login {} -u {}", self.tools.host, self.tools.user)
    }

    fn docker(&self) -> String {
        format!("docker build -t {0}:v1 .\ndocker push {0}:v1", self.address())
    }

    fn podman(&self) -> String {
        format!("podman build -t {0}:v1 .\npodman push{1} {0}:v1", self.address(), self.tools.podman_more())
    }

    fn chart(&self) -> String {
        let Self { tools, parent, leaf, .. } = self;
        let (host, more) = (&tools.host, tools.file_more());
        format!(
            "helm create {leaf}\nhelm package {leaf} --version 0.1.0\nhelm push {leaf}-0.1.0.tgz oci://{host}/{parent}{more}"
        )
    }

    fn file(&self) -> String {
        let more = self.tools.file_more();
        format!("echo hello > hello.txt\noras push{more} {}:v1 hello.txt:text/plain", self.address())
    }
}

/// A digest's beginning.
fn short(digest: &str) -> String {
    digest.get(..19).map_or_else(|| digest.to_owned(), |begin| format!("{begin}…"))
}

/// The first of some platforms, and how many more there are.
fn few(platforms: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text = platforms.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if platforms.len() > SHOWN {
        text.push_str(&format!(" and {} more", platforms.len() - SHOWN));
    }
    text
}

/// So many of something.
fn count(number: impl std::borrow::Borrow<i64>, word: &str) -> String {
    let number = *number.borrow();
    let several = match word {
        "layer or config" => "layers or configs",
        "signature, attestation or SBOM" => "signatures, attestations or SBOMs",
        _ => "",
    };
    match (number, several) {
        (1, _) => format!("1 {word}"),
        (_, "") => format!("{number} {word}s"),
        (_, several) => format!("{number} {several}"),
    }
}

/// `/orgs/{org}/repositories`
#[derive(Template)]
#[template(path = "repositories/list.html")]
struct ListPage {
    frame: Frame,
    here: String,
    rows: Vec<RepositoryView>,
    given: ListGiven,
    /// Those to choose from; `None` where there are too many.
    projects: Option<Vec<String>>,
    first: String,
    next: Option<String>,
    push: Push,
}

/// The list's address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ListGiven {
    search: String,
    project: String,
    sort: String,
    after: String,
}

impl ListGiven {
    fn is_filtered(&self) -> bool {
        !self.search.is_empty() || !self.project.is_empty()
    }

    fn link(&self, here: &str, after: &str) -> String {
        let pairs = [("search", &*self.search), ("project", &*self.project), ("sort", &*self.sort), ("after", after)];
        format!("{here}{}", query_of(&pairs))
    }
}

fn sort_of(text: &str) -> Option<Sort> {
    (text == "pushed").then_some(Sort::Pushed)
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// The list.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(asked): Query<ListGiven>,
) -> Result<Response> {
    let query = RepositoriesQuery {
        project: given(&asked.project),
        search: given(&asked.search),
        sort: sort_of(&asked.sort),
        limit: Some(PAGE),
        after: given(&asked.after),
    };
    let listed = api::list_repositories(viewer.actor(), Shared(state.clone()), Path(org.clone()), Query(query)).await;
    let page = match listed {
        Ok(Json(page)) => page,
        // A project that is not there is a filter that finds nothing.
        Err(Error::NotFound("project")) => crate::page::Page { items: Vec::new(), next: None },
        Err(error) => return Err(error),
    };
    let here = format!("/orgs/{}/repositories", segment(&org));
    let first = if asked.after.is_empty() { String::new() } else { asked.link(&here, "") };
    let next = page.next.map(|after| asked.link(&here, &after));
    let (projects, more) = offered(&viewer, &state, &org).await?;
    let projects = (!more).then_some(projects);
    let push = push_somewhere(&viewer, &state, &org).await?;
    let frame = viewer.frame(Section::Repositories);
    console::page(&ListPage { frame, here, rows: page.items, given: asked, projects, first, next, push })
}

/// Projects that are looked at for one to push to.
const MOST_TRIED: usize = 20;

/// How to push something new: to a project in which the viewer may.
async fn push_somewhere(viewer: &Viewer, state: &State, org: &str) -> Result<Push> {
    let mut project = DEFAULT_PROJECT.to_owned();
    let mut allowed = viewer.may(Permission::RegistryPush);
    if let (false, Some(chosen)) = (allowed, viewer.org()) {
        let reach = viewer.actor.principal().reach(Permission::RegistryPush);
        let mut session = state.db().read().await?;
        for id in reach.projects.iter().take(MOST_TRIED) {
            let found = projects::find(&mut session, id).await?.filter(|found| found.org_id == chosen.id);
            if let Some(found) = found.filter(|f| viewer.actor.may(Permission::RegistryPush, &in_project(f))) {
                (project, allowed) = (found.slug, true);
                break;
            }
        }
    }
    let name = if project == DEFAULT_PROJECT { format!("{org}/app") } else { format!("{org}/{project}/app") };
    Ok(Push::new(viewer, state, &name, allowed))
}

/// Which tab of a repository, and what of it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ShowGiven {
    tab: String,
    search: String,
    sort: String,
    show: String,
    after: String,
}

impl ShowGiven {
    fn link(&self, here: &str, after: &str) -> String {
        let pairs = [
            ("tab", &*self.tab),
            ("search", &*self.search),
            ("sort", &*self.sort),
            ("show", &*self.show),
            ("after", after),
        ];
        format!("{here}{}", query_of(&pairs))
    }
}

/// A repository, above its tabs.
struct Head {
    /// Its name, without the organization.
    name: String,
    /// The pages of it, of its manifests, of what is to be deleted, and of two tags to compare.
    here: String,
    manifests: String,
    deletion: String,
    compare: String,
    /// It.
    view: RepositoryView,
    /// The tab that is shown.
    tab: &'static str,
    /// Whether the viewer may delete something of it.
    may_delete: bool,
    /// `HOST/REPOSITORY`
    address: String,
}

/// A tag of a page.
struct TagLine {
    tag: TagView,
    /// What fetches it.
    pull: String,
    /// The name as it is shown: whole, but for what only tools read.
    shown: String,
    /// What it is attached to, where its name says so.
    about: Option<String>,
    may_delete: bool,
}

/// `/orgs/{org}/repositories/{name}`
#[derive(Template)]
#[template(path = "repositories/tags.html")]
struct TagsPage {
    frame: Frame,
    head: Head,
    lines: Vec<TagLine>,
    given: ShowGiven,
    first: String,
    next: Option<String>,
}

/// `?tab=untagged`
#[derive(Template)]
#[template(path = "repositories/untagged.html")]
struct UntaggedPage {
    frame: Frame,
    head: Head,
    lines: Vec<UntaggedView>,
    first: String,
    next: Option<String>,
}

/// `?tab=push`
#[derive(Template)]
#[template(path = "repositories/how.html")]
struct PushPage {
    frame: Frame,
    head: Head,
    push: Push,
}

/// The digest that a tag's name says it is about: `sha256-<hex>`, with what it is behind a dot.
fn about(tag: &str) -> Option<String> {
    let (algorithm, rest) = tag.split_once('-')?;
    let hex = rest.split('.').next()?;
    let digest = format!("{algorithm}:{hex}");
    digest.parse::<storage::names::Digest>().ok().map(|digest| digest.to_string())
}

/// A tag's name, cut where it only repeats a digest.
fn shown_tag(tag: &str) -> String {
    let end = tag.rfind('.').map_or("", |at| &tag[at..]);
    match (about(tag), tag.get(..15)) {
        (Some(_), Some(begin)) => format!("{begin}…{end}"),
        _ => tag.to_owned(),
    }
}

impl TagsPage {
    /// Fills the page with so many tags.
    async fn list(
        &mut self,
        viewer: &Viewer,
        state: &State,
        (repo, row): (&RepoName, &Repository),
        limit: i64,
    ) -> Result<()> {
        let query = TagsQuery {
            repository: repo.canonical().to_owned(),
            search: given(&self.given.search),
            hide_attached: Some(self.given.show == "named"),
            sort: sort_of(&self.given.sort),
            limit: Some(limit),
            after: given(&self.given.after),
        };
        let org = Path(repo.org().to_owned());
        let Json(page) = api::list_tags(viewer.actor(), Shared(state.clone()), org, Query(query)).await?;
        let tools = Tools::of(state, &viewer.actor.principal().name);
        let line = |tag: TagView| TagLine {
            pull: pull_command(&tools, &self.head.address, &tag),
            shown: shown_tag(&tag.name),
            about: about(&tag.name),
            may_delete: viewer.actor.may(Permission::RegistryDelete, &in_repository(row, repo, Some(&tag.name))),
            tag,
        };
        self.lines = page.items.into_iter().map(line).collect();
        self.next = page.next.map(|after| self.given.link(&self.head.here, &after));
        Ok(())
    }

    /// The tags of the page that people gave.
    fn named(&self) -> impl Iterator<Item = &TagLine> {
        self.lines.iter().filter(|line| line.about.is_none())
    }
}

/// What fetches a tag.
fn pull_command(tools: &Tools, address: &str, tag: &TagView) -> String {
    let name = &tag.name;
    match tag.description.kind {
        Kind::Image | Kind::Index => format!("docker pull {address}:{name}"),
        Kind::HelmChart => helm::command("pull", tools, address, Some(name), &tag.digest),
        _ => format!("oras pull{} {address}:{name}", tools.file_more()),
    }
}

/// One repository.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(asked): Query<ShowGiven>,
) -> Result<Response> {
    let full = format!("{org}/{name}");
    let (repo, row) = api::repository(&viewer.actor, &state, &org, &full, &Wish::PULL).await?;
    let query = RepositoryQuery { repository: full.clone() };
    let Json(view) =
        api::get_repository(viewer.actor(), Shared(state.clone()), Path(org.clone()), Query(query)).await?;
    let shown = behind_org(repo.canonical(), &org).to_owned();
    let tab = match asked.tab.as_str() {
        "untagged" => "untagged",
        "push" => "push",
        _ => "tags",
    };
    let may = |permission, tag| viewer.actor.may(permission, &in_repository(&row, &repo, tag));
    let at = |noun: &str| format!("/orgs/{}/{noun}/{}", segment(&org), path_of(&shown));
    let head = Head {
        here: at("repositories"),
        manifests: at("manifests"),
        deletion: at("deletion"),
        compare: at("compare"),
        name: shown.clone(),
        view,
        tab,
        may_delete: may(Permission::RegistryDelete, None),
        address: format!("{}/{}", state.settings().registry_host, repo.canonical()),
    };
    match tab {
        "push" => {
            let push = Push::new(&viewer, &state, repo.canonical(), may(Permission::RegistryPush, None));
            console::page(&PushPage { frame: viewer.frame(Section::Repositories), head, push })
        }
        "untagged" => untagged_tab(&viewer, &state, &org, head, &asked).await,
        _ => tags_tab(&viewer, &state, (&repo, &row), head, asked).await,
    }
}

async fn tags_tab(
    viewer: &Viewer,
    state: &State,
    (repo, row): (&RepoName, &Repository),
    head: Head,
    mut asked: ShowGiven,
) -> Result<Response> {
    if asked.sort.is_empty() {
        asked.sort = "pushed".to_owned();
    }
    let first = if asked.after.is_empty() { String::new() } else { asked.link(&head.here, "") };
    let frame = viewer.frame(Section::Repositories);
    let mut page = TagsPage { frame, head, lines: Vec::new(), given: asked, first, next: None };
    let mut lines = PAGE;
    loop {
        page.list(viewer, state, (repo, row), lines).await?;
        match console::page_of(lines, &page)? {
            ControlFlow::Break(answer) => return Ok(answer),
            ControlFlow::Continue(fewer) => lines = fewer,
        }
    }
}

async fn untagged_tab(viewer: &Viewer, state: &State, org: &str, head: Head, asked: &ShowGiven) -> Result<Response> {
    let first = if asked.after.is_empty() { String::new() } else { asked.link(&head.here, "") };
    let frame = viewer.frame(Section::Repositories);
    let mut page = UntaggedPage { frame, head, lines: Vec::new(), first, next: None };
    let mut lines = PAGE;
    loop {
        let repository = page.head.view.name.clone();
        let query = UntaggedQuery { repository, limit: Some(lines), after: given(&asked.after) };
        let path = Path(org.to_owned());
        let Json(listed) = api::list_untagged(viewer.actor(), Shared(state.clone()), path, Query(query)).await?;
        page.next = listed.next.map(|after| asked.link(&page.head.here, &after));
        page.lines = listed.items;
        match console::page_of(lines, &page)? {
            ControlFlow::Break(answer) => return Ok(answer),
            ControlFlow::Continue(fewer) => lines = fewer,
        }
    }
}

/// What is to be deleted, as a page's address or form says it: tags, else manifests, else the repository.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct DeletionGiven {
    /// `tags` or `manifests`: where some were to be chosen, none chosen is not all.
    what: String,
    tag: Vec<String>,
    digest: Vec<String>,
    confirm: String,
    /// What the page said that goes: its [`DeletionView::mark`].
    seen: String,
}

impl DeletionGiven {
    /// The API's question.
    fn query(&self, repository: String) -> DeletionQuery {
        let joined = |texts: &[String]| (!texts.is_empty()).then(|| texts.join(","));
        DeletionQuery { repository, tag: joined(&self.tag), digest: joined(&self.digest) }
    }

    fn is_empty_choice(&self) -> bool {
        (self.what == "tags" && self.tag.is_empty()) || (self.what == "manifests" && self.digest.is_empty())
    }

    fn is_of_repository(&self) -> bool {
        self.tag.is_empty() && self.digest.is_empty()
    }
}

/// `/orgs/{org}/deletion/{name}`
#[derive(Template)]
#[template(path = "repositories/delete.html")]
struct DeletePage {
    frame: Frame,
    title: String,
    /// What the form asks for, of a repository.
    to_type: String,
    name: String,
    here: String,
    back: String,
    address: String,
    given: DeletionGiven,
    view: DeletionView,
    problem: Option<FormProblem>,
}

impl DeletePage {
    async fn of(
        viewer: &Viewer,
        state: &State,
        org: &str,
        name: &str,
        given: DeletionGiven,
        problem: Option<FormProblem>,
    ) -> Result<Self> {
        let query = Query(given.query(format!("{org}/{name}")));
        let Json(view) =
            deletion::get_deletion(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), query).await?;
        let name = behind_org(&view.repository, org).to_owned();
        let at = |noun: &str| format!("/orgs/{}/{noun}/{}", segment(org), path_of(&name));
        let title = match (given.tag.as_slice(), given.digest.as_slice()) {
            ([], []) => format!("Delete {name}"),
            ([tag], _) => format!("Delete the tag {tag}"),
            ([], [_]) => "Delete the image".to_owned(),
            ([], digests) => format!("Delete {} images", digests.len()),
            (tags, _) => format!("Delete {} tags", tags.len()),
        };
        Ok(Self {
            frame: viewer.frame(Section::Repositories),
            title,
            to_type: format!("Type {name} to delete it"),
            here: at("deletion"),
            back: at("repositories"),
            address: format!("{}/{}", state.settings().registry_host, view.repository),
            name,
            given,
            view,
            problem,
        })
    }

    /// How many tags go beyond those that are named.
    fn more_tags(&self) -> i64 {
        self.view.tag_count - i64::try_from(self.view.tags.len()).unwrap_or(i64::MAX)
    }

    /// The grace, in words.
    fn grace(&self) -> String {
        match self.view.grace_seconds {
            seconds if seconds >= 7_200 => format!("{} hours", seconds / 3_600),
            seconds if seconds >= 120 => format!("{} minutes", seconds / 60),
            seconds => format!("{seconds} seconds"),
        }
    }
}

/// What goes and what stays, before it does.
pub(crate) async fn ask_delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Result<Response> {
    let query = query.unwrap_or_default();
    if query.contains("%00") {
        return Err(Error::Malformed("the query holds a NUL, which no name has".into()));
    }
    let given: DeletionGiven = serde_html_form::from_str(&query)
        .map_err(|error| Error::Malformed(format!("what is to be deleted: {error}")))?;
    if given.is_empty_choice() {
        let tab = if given.what == "tags" { "" } else { "?tab=untagged" };
        let to = format!("/orgs/{}/repositories/{}{tab}", segment(&org), path_of(&name));
        return Ok(notice::done(&state, &to, "Nothing was chosen. Tick what is to be deleted first."));
    }
    console::page(&DeletePage::of(&viewer, &state, &org, &name, given, None).await?)
}

/// Deletes, where what goes is what the form's page said.
pub(crate) async fn delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(given): Form<DeletionGiven>,
) -> Result<Response> {
    if given.is_empty_choice() {
        return Err(Error::Malformed("nothing was chosen".into()));
    }
    let whole = given.is_of_repository();
    match delete_all(&viewer, &state, &org, &name, &given).await {
        Ok(done) => {
            let list = format!("/orgs/{}/repositories", segment(&org));
            let tab = if given.digest.is_empty() { "" } else { "?tab=untagged" };
            let to = if whole { list } else { format!("{list}/{}{tab}", path_of(&name)) };
            Ok(notice::done(&state, &to, &done))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let page = DeletePage::of(&viewer, &state, &org, &name, given, Some(problem)).await?;
            console::page_as(status, &page)
        }
    }
}

/// Deletes all of it or nothing; what to tell then.
async fn delete_all(viewer: &Viewer, state: &State, org: &str, name: &str, given: &DeletionGiven) -> Result<String> {
    let repository = format!("{org}/{name}");
    let (actor, state, path) = (viewer.actor(), Shared(state.clone()), Path(org.to_owned()));
    // Never without one: whoever deletes here was told what goes.
    let mark = Some(given.seen.clone());
    if given.is_of_repository() {
        let confirm = if given.confirm == name { repository.clone() } else { given.confirm.clone() };
        let body = extract::Json(extract::Confirmation { confirm });
        deletion::delete_repository(actor, state, path, Query(RepositoryDeletion { repository, mark }), body).await?;
        return Ok(format!("Deleted the repository {name}."));
    }
    if given.digest.is_empty() {
        let query = TagsDeletion { repository, tag: given.tag.join(","), mark };
        deletion::delete_tags(actor, state, path, Query(query)).await?;
    } else {
        let query = ManifestsDeletion { repository, digest: given.digest.join(","), mark };
        deletion::delete_manifests(actor, state, path, Query(query)).await?;
    }
    Ok(match (given.tag.as_slice(), given.digest.as_slice()) {
        ([tag], _) => format!("Deleted the tag {tag}."),
        ([], [_]) => "Deleted the image.".to_owned(),
        ([], digests) => format!("Deleted {} images.", digests.len()),
        (tags, _) => format!("Deleted {} tags.", tags.len()),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::{about, count, few, query_of, shown_tag};
    use crate::testing::{ADMIN, Caller, Controller};

    /// What a page that asks says it said.
    fn seen(page: &str) -> String {
        let at = page.split("name=\"seen\" value=\"").nth(1).unwrap_or_else(|| panic!("{page}"));
        at.split('"').next().unwrap().to_owned()
    }

    async fn stocked() -> (Controller, Caller) {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
        let config = json!({"os": "linux", "architecture": "arm64"});
        controller.push_image("main/web/shop", "v1", &config, &[b"base layer", b"first"]).await;
        controller.push_image("main/web/shop", "v2", &config, &[b"base layer", b"second"]).await;
        controller.push_image("main/app", "latest", &config, &[b"base layer"]).await;
        (controller, admin)
    }

    #[tokio::test]
    async fn a_list_is_searched_filtered_and_sorted() {
        let (controller, admin) = stocked().await;
        let all = controller.page(&admin, "/orgs/main/repositories").await.expect(200).raw;
        assert!(all.contains("href=\"/orgs/main/repositories/web/shop\">web/shop</a>"), "{all}");
        assert!(all.contains("href=\"/orgs/main/repositories/app\">app</a>") && all.contains(">Never<"));
        assert!(all.contains("data-label=\"Tags\">2<"), "{all}");
        let found = controller.page(&admin, "/orgs/main/repositories?search=SHO&sort=pushed").await.expect(200).raw;
        assert!(found.contains(">web/shop</a>") && !found.contains(">app</a>") && found.contains("value=\"SHO\""));
        let none = controller.page(&admin, "/orgs/main/repositories?search=%3Cb%3E").await.expect(200).raw;
        assert!(none.contains("Nothing found") && none.contains("&#60;b&#62;") && !none.contains("<b>"), "{none}");
        let web = controller.page(&admin, "/orgs/main/repositories?project=web").await.expect(200).raw;
        assert!(web.contains("<option selected>web</option>") && !web.contains(">app</a>"), "{web}");
        let gone = controller.page(&admin, "/orgs/main/repositories?project=none").await.expect(200).raw;
        assert!(gone.contains("Nothing found"));
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        let theirs = controller.page(&reader, "/orgs/main/repositories").await.expect(200).raw;
        assert!(theirs.contains(">web/shop</a>") && !theirs.contains(">app</a>"));
        assert!(!theirs.contains("Push a new repository"), "who may not push is not told how to");
    }

    #[tokio::test]
    async fn an_empty_list_teaches_how_to_push_with_the_viewers_own_names() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let empty = controller.page(&admin, "/orgs/main/repositories").await.expect(200).raw;
        for line in [
            "docker login localhost:6000 -u admin@localhost",
            "docker push localhost:6000/main/app:v1",
            "helm push app-0.1.0.tgz oci://localhost:6000/main --ca-file wharfinger-ca.crt<",
            "oras push --ca-file wharfinger-ca.crt localhost:6000/main/app:v1 hello.txt:text/plain",
        ] {
            assert!(empty.contains(line), "{line} in {empty}");
        }
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("defaultproject")))).await;
        let theirs = controller.page(&reader, "/orgs/main/repositories").await.expect(200).raw;
        assert!(theirs.contains("let you pull here, not push"));
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
        let pusher = controller.member("p@example.com", Some(("PROJECT_ADMIN", Some("web")))).await;
        let theirs = controller.page(&pusher, "/orgs/main/repositories").await.expect(200).raw;
        assert!(theirs.contains("docker push localhost:6000/main/web/app:v1"), "where they may: {theirs}");
    }

    #[tokio::test]
    async fn a_repository_shows_its_tags_and_what_they_are() {
        let (controller, admin) = stocked().await;
        let signature = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json"}]});
        let scheme = format!("sha256-{}.sig", "a".repeat(64));
        controller.push_manifest("main/web/shop", Some(&scheme), &signature, &[]).await;
        let page = controller.page(&admin, "/orgs/main/repositories/web/shop").await.expect(200).raw;
        assert!(page.contains("linux/arm64") && page.contains("Image</span>"), "{page}");
        assert!(page.contains("data-copy=\"docker pull localhost:6000/main/web/shop:v1\""), "{page}");
        assert!(page.contains("href=\"/orgs/main/manifests/web/shop?reference=v1\""), "{page}");
        assert!(page.contains("Signature (cosign)") && page.contains(&format!("reference=sha256:{}", "a".repeat(64))));
        let named = controller.page(&admin, "/orgs/main/repositories/web/shop?show=named").await.expect(200).raw;
        assert!(!named.contains("Signature (cosign)") && named.contains(">v1</a>"));
        let found = controller.page(&admin, "/orgs/main/repositories/web/shop?search=2").await.expect(200).raw;
        assert!(found.contains("\">v2</a>") && !found.contains("\">v1</a>"), "{found}");
        let other = controller.page(&admin, "/orgs/main/repositories/defaultproject/app").await.expect(200).raw;
        assert!(other.contains("<h1>app</h1>"), "one repository, whichever way it is spelled");
        let how = controller.page(&admin, "/orgs/main/repositories/web/shop?tab=push").await.expect(200).raw;
        assert!(how.contains("docker push localhost:6000/main/web/shop:v1"));
        let untagged = controller.page(&admin, "/orgs/main/repositories/web/shop?tab=untagged").await.expect(200).raw;
        assert!(untagged.contains("Nothing without a tag"));
        controller.page(&admin, "/orgs/main/repositories/web/none").await.expect(404);
        controller.page(&admin, "/orgs/main/repositories/web/shop?sort=bogus").await.expect(200);
        let boss = controller.other_org().await;
        controller.page(&boss, "/orgs/main/repositories/web/shop").await.expect(404);
        controller.page(&boss, "/orgs/main/deletion/web/shop").await.expect(404);
        controller.page(&Caller::Nobody, "/orgs/main/repositories/web/shop").await.expect(303);
    }

    #[tokio::test]
    async fn a_tag_goes_alone_and_its_image_later() {
        let (controller, admin) = stocked().await;
        let asked = controller.page(&admin, "/orgs/main/deletion/web/shop?tag=v1").await.expect(200).raw;
        assert!(asked.contains("<h1>Delete the tag v1</h1>") && asked.contains("the content, every byte"), "{asked}");
        assert!(asked.contains("crane tag localhost:6000/main/web/shop@sha256:"), "{asked}");
        let fields = [("tag", "v1"), ("seen", &*seen(&asked))];
        let deleted = controller.submit(&admin, "/orgs/main/deletion/web/shop", &fields).await.expect(303);
        assert_eq!(deleted.headers["location"], "/orgs/main/repositories/web/shop");
        controller.page(&admin, "/orgs/main/deletion/web/shop?tag=v1").await.expect(404);
        let untagged = controller.page(&admin, "/orgs/main/repositories/web/shop?tab=untagged").await.expect(200).raw;
        let digest = untagged.split("?reference=").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let asked = controller.page(&admin, &format!("/orgs/main/deletion/web/shop?digest={digest}")).await.expect(200);
        assert!(asked.raw.contains("<strong>5 B</strong> in 1 layer or config"), "{}", asked.raw);
        assert!(asked.raw.contains("stay for at least 24 hours"), "{}", asked.raw);
        let fields = [("what", "manifests"), ("digest", &*digest), ("seen", &*seen(&asked.raw))];
        let deleted = controller.submit(&admin, "/orgs/main/deletion/web/shop", &fields).await.expect(303);
        assert_eq!(deleted.headers["location"], "/orgs/main/repositories/web/shop?tab=untagged");
        let untagged = controller.page(&admin, "/orgs/main/repositories/web/shop?tab=untagged").await.expect(200).raw;
        assert!(untagged.contains("Nothing without a tag"));
    }

    #[tokio::test]
    async fn images_without_a_tag_are_found_behind_thousands_that_have_one() {
        let (controller, admin) = stocked().await;
        let asked = controller.page(&admin, "/orgs/main/deletion/web/shop?tag=v1").await.expect(200).raw;
        let fields = [("tag", "v1"), ("seen", &*seen(&asked))];
        controller.submit(&admin, "/orgs/main/deletion/web/shop", &fields).await.expect(303);
        for sql in [
            "INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload)
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
             SELECT r.id, 'd' || CAST(i AS TEXT), 'm', 2, 9000000000 + i, 'x', m.payload FROM n
             CROSS JOIN repositories r JOIN manifests m ON m.repository_id = r.id WHERE r.name = 'main/web/shop'
             AND m.digest = (SELECT MIN(x.digest) FROM manifests x WHERE x.repository_id = r.id)",
            "INSERT INTO tags (repository_id, name, digest, updated_at)
             SELECT repository_id, 't' || digest, digest, 1 FROM manifests WHERE size = 2",
        ] {
            storage::db::testing::run(&controller.db, sql).await;
        }
        let tab = "/orgs/main/repositories/web/shop?tab=untagged";
        let first = controller.page(&admin, tab).await.expect(200).raw;
        assert!(first.contains("Nothing without a tag so far"), "{first}");
        let next = first.split("rel=\"next\"").next().unwrap().rsplit("href=\"").next().unwrap();
        let next = next.split('"').next().unwrap().replace("&#38;", "&").replace("&amp;", "&");
        let second = controller.page(&admin, &next).await.expect(200).raw;
        assert!(second.contains("?reference=sha256:") && !second.contains("Next page"), "{second}");
    }

    #[tokio::test]
    async fn lists_of_long_names_are_small_pages_that_leave_nothing_out() {
        let (controller, admin) = stocked().await;
        let (part, tag) = ("p".repeat(60), "t".repeat(123));
        let long = format!("main/web/{part}/{part}/{part}/{part}");
        for sql in [
            "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
             WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 69)
             SELECT 'long' || CAST(i AS TEXT), r.org_id, r.project_id, 'LONG' || CAST(i AS TEXT), 1, 1 FROM n
             CROSS JOIN repositories r WHERE r.name = 'main/web/shop'",
            "INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload)
             WITH RECURSIVE n(i) AS (SELECT 10 UNION ALL SELECT i + 1 FROM n WHERE i < 69)
             SELECT 'long10', 'sha256:' || CAST(i AS TEXT), 'm', 2, i, 'x', m.payload FROM n
             CROSS JOIN manifests m JOIN repositories r ON r.id = m.repository_id WHERE r.name = 'main/app'",
            "INSERT INTO tags (repository_id, name, digest, updated_at)
             SELECT 'long10', 'TAG' || SUBSTR(digest, 8), digest, created_at FROM manifests WHERE repository_id = 'long10'",
        ] {
            let sql: String = sql.replace("LONG", &long).replace("TAG", &tag);
            storage::db::testing::run(&controller.db, sql.leak()).await;
        }
        let untagged = "INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload)
             SELECT 'long11', digest, media_type, 2, created_at, pushed_by, payload FROM manifests WHERE repository_id = 'long10'";
        storage::db::testing::run(&controller.db, untagged).await;
        let in_page = long.strip_prefix("main/").unwrap();
        for (path, each) in [
            ("/orgs/main/repositories?sort=name".to_owned(), format!(">{in_page}")),
            (format!("/orgs/main/repositories/{in_page}10?sort=name"), format!(">{tag}")),
            (format!("/orgs/main/repositories/{in_page}11?tab=untagged"), "name=\"digest\"".to_owned()),
        ] {
            let (mut next, mut shown, mut pages) = (Some(path.clone()), 0, 0);
            while let Some(path) = next {
                let page = controller.page(&admin, &path).await.expect(200).raw;
                assert!(page.len() < 100 << 10, "{path}: {} bytes", page.len());
                shown += page.matches(&each).count();
                pages += 1;
                let link = page.split_once("rel=\"next\"").and_then(|(before, _)| before.rsplit_once("href=\""));
                next = link.map(|(_, rest)| rest.split('"').next().unwrap().replace("&#38;", "&"));
            }
            assert!(shown >= 60 && pages > 1, "{path}: {shown} on {pages} pages");
        }
    }

    #[tokio::test]
    async fn nothing_chosen_is_not_everything() {
        let (controller, admin) = stocked().await;
        for (what, to) in [
            ("tags", "/orgs/main/repositories/web/shop"),
            ("manifests", "/orgs/main/repositories/web/shop?tab=untagged"),
        ] {
            let asked = controller.page(&admin, &format!("/orgs/main/deletion/web/shop?what={what}")).await.expect(303);
            assert_eq!(asked.headers["location"], to);
            controller
                .submit(&admin, "/orgs/main/deletion/web/shop", &[("what", what), ("confirm", "web/shop")])
                .await
                .expect(400);
        }
        let both =
            controller.page(&admin, "/orgs/main/deletion/web/shop?what=tags&tag=v1&tag=v2").await.expect(200).raw;
        assert!(both.contains("<h1>Delete 2 tags</h1>"));
        controller.submit(&admin, "/orgs/main/deletion/web/shop", &[("tag", "v1"), ("tag", "none")]).await.expect(404);
        controller.page(&admin, "/orgs/main/deletion/web/shop?tag=v1").await.expect(200);
        let fields = [("tag", "v1"), ("tag", "v2"), ("seen", &*seen(&both))];
        controller.submit(&admin, "/orgs/main/deletion/web/shop", &fields).await.expect(303);
        let page = controller.page(&admin, "/orgs/main/repositories/web/shop").await.expect(200).raw;
        assert!(page.contains("No tags"));
    }

    #[tokio::test]
    async fn a_repository_goes_when_its_name_is_typed() {
        let (controller, admin) = stocked().await;
        let asked = controller.page(&admin, "/orgs/main/deletion/web/shop").await.expect(200).raw;
        assert!(
            asked.contains("with its 2 manifests")
                && asked.contains("2 tags: <code>v1</code>, <code>v2</code>")
                && asked.contains("Type web/shop to delete it"),
            "{asked}"
        );
        // The config is one blob of both images; the other repository has it and the base, too.
        assert!(asked.contains("<strong>11 B</strong> in 2 layers or configs"), "{asked}");
        let path = "/orgs/main/deletion/web/shop";
        let seen = seen(&asked);
        let fields = [("confirm", "shop"), ("seen", &*seen)];
        let refused = controller.submit(&admin, path, &fields).await.expect(422).raw;
        assert!(refused.contains("value=\"shop\"") && refused.contains("aria-invalid"), "{refused}");
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        controller.submit(&reader, path, &[("confirm", "web/shop")]).await.expect(403);
        controller.page(&reader, path).await.expect(403);
        let page = controller.page(&reader, "/orgs/main/repositories/web/shop").await.expect(200).raw;
        assert!(!page.contains("Delete") && !page.contains("type=\"checkbox\""), "{page}");
        let fields = [("confirm", "web/shop"), ("seen", &*seen)];
        let deleted = controller.submit(&admin, path, &fields).await.expect(303);
        assert_eq!(deleted.headers["location"], "/orgs/main/repositories");
        controller.page(&admin, "/orgs/main/repositories/web/shop").await.expect(404);
    }

    #[tokio::test]
    async fn nothing_goes_that_the_page_did_not_say() {
        let (controller, admin) = stocked().await;
        let path = "/orgs/main/deletion/web/shop";
        let mark = async |query: &str| seen(&controller.page(&admin, &format!("{path}?{query}")).await.expect(200).raw);
        let refused = async |fields: &[(&str, &str)]| {
            let refused = controller.submit(&admin, path, fields).await.expect(412).raw;
            assert!(refused.contains("nothing was deleted"), "{refused}");
            seen(&refused)
        };
        // A tag that moves on meanwhile.
        let tag = mark("tag=v1").await;
        let config = json!({"os": "linux", "architecture": "arm64"});
        let digest = controller.push_image("main/web/shop", "v1", &config, &[b"newer"]).await;
        let now = refused(&[("tag", "v1"), ("seen", &tag)]).await;
        assert_ne!(now, tag);
        // An image that gets another tag.
        let query = format!("digest={digest}");
        let image = mark(&query).await;
        controller.push_image("main/web/shop", "prod", &config, &[b"newer"]).await;
        refused(&[("digest", &digest), ("seen", &image)]).await;
        // A repository that is pushed to.
        let whole = mark("").await;
        controller.push_image("main/web/shop", "v3", &config, &[b"newest"]).await;
        refused(&[("confirm", "web/shop"), ("seen", &whole)]).await;
        // What no page said.
        refused(&[("tag", "v2")]).await;
        let page = controller.page(&admin, "/orgs/main/repositories/web/shop").await.expect(200).raw;
        assert!(["v1", "v2", "v3", "prod"].iter().all(|tag| page.contains(&format!("\">{tag}</a>"))), "{page}");
        controller.submit(&admin, path, &[("tag", "v1"), ("seen", &now)]).await.expect(303);
    }

    #[test]
    fn texts_are_what_people_and_shells_read() {
        assert_eq!((count(1, "tag"), count(2, "layer or config")), ("1 tag".into(), "2 layers or configs".into()));
        assert_eq!(few(&["a", "b", "c", "d", "e"].map(str::to_owned)), "a, b, c, d and 1 more");
        assert_eq!(query_of(&[("a", ""), ("b", "c d&e")]), "?b=c+d%26e");
        let hex = "a".repeat(64);
        assert_eq!(about(&format!("sha256-{hex}.sig")), Some(format!("sha256:{hex}")));
        assert_eq!((about("v1-2"), about("sha256-ab.sig")), (None, None));
        assert_eq!(shown_tag(&format!("sha256-{hex}.sig")), "sha256-aaaaaaaa….sig");
        assert_eq!(shown_tag("v1.2"), "v1.2");
    }
}

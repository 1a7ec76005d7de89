//! `/orgs/{org}/repositories` and `/orgs/{org}/tags`

use axum::Json;
use axum::extract::State as Shared;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::Session;
use storage::manifests;
use storage::names::RepoName;
use storage::orgs::Org;
use storage::projects::{self, Project};
use storage::repositories::{self, Order, Repository, Summary, Wanted};
use storage::tags;
use utoipa::{IntoParams, ToSchema};

use super::looks::Looks;
use crate::State;
use crate::actor::{Actor, in_org, in_project};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::manifests::describe::DescriptionView;
use crate::page::{Bounds, Page, PageQuery};
use crate::time;

/// A repository.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepositoryView {
    /// Full name, as docker spells it behind the host.
    pub(crate) name: String,
    /// The project it lies in.
    pub(crate) project: String,
    /// When it was first pushed to.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// When a manifest was last pushed.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) pushed_at: i64,
    /// How many tags it has.
    pub(crate) tags: i64,
    /// Bytes of all that can be pulled from it, each layer counted once; what it shares with other repositories counts in each.
    pub(crate) size: i64,
    /// When a manifest was last pulled.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) pulled_at: Option<i64>,
    /// Who did.
    pub(crate) pulled_by: Option<String>,
}

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TagView {
    /// The tag.
    pub(crate) name: String,
    /// Digest of the manifest that it points at.
    pub(crate) digest: String,
    /// When it last moved.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: i64,
    /// Who moved it.
    pub(crate) pushed_by: String,
    /// When its manifest was last pulled, by this tag, another, or its digest.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) pulled_at: Option<i64>,
    /// Who did.
    pub(crate) pulled_by: Option<String>,
    /// What it points at.
    pub(crate) description: DescriptionView,
}

/// A manifest that no tag points at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UntaggedView {
    /// Its digest.
    pub(crate) digest: String,
    /// Digest of the manifest that it is about, which is not here.
    pub(crate) subject: Option<String>,
    /// When it was first pushed.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) pushed_at: i64,
    /// Who pushed it.
    pub(crate) pushed_by: String,
    /// When it was last pulled.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) pulled_at: Option<i64>,
    /// Who did.
    pub(crate) pulled_by: Option<String>,
    /// What it is.
    pub(crate) description: DescriptionView,
}

/// In which order a list is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Sort {
    /// By name.
    #[default]
    Name,
    /// What was pushed last comes first.
    Pushed,
}

impl From<Sort> for Order {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Name => Self::Name,
            Sort::Pushed => Self::Pushed,
        }
    }
}

/// Which repositories.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RepositoriesQuery {
    /// Only those of this project.
    pub(crate) project: Option<String>,
    /// Only those whose name, behind the organization, holds this.
    pub(crate) search: Option<String>,
    /// In which order.
    #[param(inline)]
    pub(crate) sort: Option<Sort>,
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<i64>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
}

/// Whose tags.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TagsQuery {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// Only those whose name holds this, in letters of either case.
    pub(crate) search: Option<String>,
    /// Leave out what tools tag to attach it to an image: `sha256-….sig` and its like.
    pub(crate) hide_attached: Option<bool>,
    /// In which order.
    #[param(inline)]
    pub(crate) sort: Option<Sort>,
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<i64>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
}

/// Whose manifests without a tag.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UntaggedQuery {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<i64>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
}

/// Which repository.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RepositoryQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
}

/// Longest text that is searched for.
const MAX_SEARCH: usize = 128;

/// What is searched for, checked.
fn searched(search: Option<String>) -> Result<String> {
    let search = search.unwrap_or_default().trim().to_owned();
    if search.len() > MAX_SEARCH || search.contains('\0') {
        return Err(Error::invalid("search", &format!("use {MAX_SEARCH} characters at most")));
    }
    Ok(search)
}

/// What a list of repositories is drawn from.
struct Choice {
    org: Org,
    project: Option<Project>,
    search: String,
    order: Order,
}

impl Choice {
    /// The choice from some place on, in one project where that is given.
    fn wanted<'a>(&'a self, project_id: Option<&'a str>, after: &'a str) -> Wanted<'a> {
        let Self { org, search, order, .. } = self;
        Wanted { org_id: &org.id, org: &org.slug, project_id, search, order: *order, after }
    }
}

/// Repositories that the caller may pull from
///
/// By name, or those that were pushed to last first.
#[utoipa::path(get, path = "/orgs/{org}/repositories", tag = "repositories",
    params(("org", description = "Slug of the organization"), RepositoriesQuery),
    responses((status = 200, description = "A page of repositories", body = Page<RepositoryView>)))]
pub(crate) async fn list_repositories(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<RepositoriesQuery>,
) -> Result<Json<Page<RepositoryView>>> {
    let org = actor.sees_org(&state, &slug).await?;
    let mut bounds = PageQuery { limit: query.limit, after: query.after }.bounds()?;
    bounds.after = unsealed(&actor, &state, &org, bounds.after)?;
    let project = match query.project {
        Some(project) => Some(actor.can_in_project(Permission::ProjectRead, &state, &slug, &project).await?.1),
        None => None,
    };
    let order = query.sort.unwrap_or_default().into();
    let choice = Choice { org, project, search: searched(query.search)?, order };
    let (rows, next) = in_reach(&actor, &state, &choice, &bounds).await?;
    let mut session = state.db().read().await?;
    let shown = rows.iter().take(bounds.limit).map(|row| row.id.as_str());
    let mut summaries = repositories::summaries(&mut session, shown).await?;
    let page = bounds.page_by(
        rows,
        |row| row.cursor(order),
        |row| {
            let summary = summaries.remove(&row.id).unwrap_or_default();
            view(row, summary)
        },
    );
    Ok(Json(Page { next: page.next.or(next), items: page.items }))
}

/// What the caller may pull from, and where to go on if that is not where the page ends: everything in the organization (or
/// project), what is in some of its projects, or single repositories.
async fn in_reach(
    actor: &Actor,
    state: &State,
    choice: &Choice,
    bounds: &Bounds,
) -> Result<(Vec<Repository>, Option<String>)> {
    let Choice { org, project, order, .. } = choice;
    let reach = actor.principal().reach(Permission::RegistryPull);
    let around = project.as_ref().map(|project| project.id.as_str());
    let mut session = state.db().read().await?;
    let whole = reach.orgs.contains(&org.id) || around.is_some_and(|id| reach.projects.iter().any(|p| p == id));
    if whole {
        let wanted = choice.wanted(around, &bounds.after);
        return Ok((repositories::page(&mut session, &wanted, bounds.fetch()).await?, None));
    }
    let here = |id: &str| around.is_none_or(|project| project == id);
    if reach.partly.iter().any(|part| part.org_id == org.id && part.project_id.as_deref().is_none_or(here)) {
        return one_by_one(actor, state, &mut session, choice, bounds).await;
    }
    let mut rows = Vec::new();
    let mut reached = false;
    for project_id in reach.projects.iter().filter(|id| here(id)) {
        if actor.may(Permission::RegistryPull, &Resource::Project { org_id: &org.id, project_id }) {
            reached = true;
            let wanted = choice.wanted(Some(project_id), &bounds.after);
            rows.extend(repositories::page(&mut session, &wanted, bounds.fetch()).await?);
        }
    }
    if !reached {
        match project {
            Some(project) => {
                actor.can_named(Permission::RegistryPull, &in_project(project), org, Some(&project.slug))?;
            }
            None => actor.can_named(Permission::RegistryPull, &in_org(org), org, None)?,
        }
    }
    match order {
        Order::Name => rows.sort_unstable_by(|a, b| a.name.cmp(&b.name)),
        Order::Pushed => rows.sort_unstable_by(|a, b| (b.pushed_at, &b.name).cmp(&(a.pushed_at, &a.name))),
    }
    rows.truncate(usize::try_from(bounds.fetch()).unwrap_or(usize::MAX));
    Ok((rows, None))
}

/// Rows that one request looks at where each is decided by itself.
const MOST_LOOKED_AT: usize = if cfg!(test) { 500 } else { 5_000 };
/// What a cursor begins with that stands at a repository which its holder may not pull from.
const SEALED: &str = "~";
/// The purpose that its key is derived from the master key for.
const SEAL: &str = "list cursor";

/// A place in a list as a cursor that tells nobody what is there; good for this caller in this organization.
fn sealed(actor: &Actor, state: &State, org: &Org, after: &str) -> String {
    let context = format!("{} {}", org.id, actor.principal().user_id);
    // As it stands in addresses: a plus there is a space.
    format!("{SEALED}{}", state.identity().seal(SEAL, &context, after.as_bytes()).replace('+', "-").replace('/', "_"))
}

/// The place that a cursor stands at.
fn unsealed(actor: &Actor, state: &State, org: &Org, cursor: String) -> Result<String> {
    let Some(sealed) = cursor.strip_prefix(SEALED) else { return Ok(cursor) };
    let context = format!("{} {}", org.id, actor.principal().user_id);
    let opened = state.identity().unseal(SEAL, &context, &sealed.replace('-', "+").replace('_', "/")).ok();
    let place = opened.and_then(|place| String::from_utf8(place.to_vec()).ok());
    place.ok_or_else(|| Error::invalid("after", "use the `next` of the page before"))
}

/// Those of a list that the caller may pull from; after so many, the page ends early and says where to go on.
async fn one_by_one(
    actor: &Actor,
    state: &State,
    session: &mut Session,
    choice: &Choice,
    bounds: &Bounds,
) -> Result<(Vec<Repository>, Option<String>)> {
    let around = choice.project.as_ref().map(|project| project.id.as_str());
    let (mut rows, mut after, mut seen) = (Vec::new(), bounds.after.clone(), 0);
    while rows.len() <= bounds.limit {
        if seen >= MOST_LOOKED_AT {
            return Ok((rows, Some(sealed(actor, state, &choice.org, &after))));
        }
        let batch = repositories::page(session, &choice.wanted(around, &after), crate::page::MAX).await?;
        let Some(last) = batch.last() else { break };
        after = last.cursor(choice.order);
        seen += batch.len();
        rows.extend(batch.into_iter().filter(|row| {
            let Ok(name) = row.name.parse::<RepoName>() else { return false };
            actor.may(Permission::RegistryPull, &in_repository(row, &name, None))
        }));
    }
    Ok((rows, None))
}

/// A repository, as decisions know it.
pub(crate) fn in_repository<'a>(row: &'a Repository, name: &'a RepoName, tag: Option<&'a str>) -> Resource<'a> {
    Resource::Repository { org_id: &row.org_id, project_id: Some(&row.project_id), path: name.path(), tag }
}

fn view(row: Repository, summary: Summary) -> RepositoryView {
    let project = row.name.parse::<RepoName>().map(|name| name.project().to_owned()).unwrap_or_default();
    RepositoryView {
        name: row.name,
        project,
        created_at: row.created_at,
        pushed_at: row.pushed_at,
        tags: summary.tags,
        size: summary.size,
        pulled_at: summary.pulled_at,
        pulled_by: summary.pulled_by,
    }
}

/// A repository
#[utoipa::path(get, path = "/orgs/{org}/repository", tag = "repositories",
    params(("org", description = "Slug of the organization"), RepositoryQuery),
    responses((status = 200, description = "The repository", body = RepositoryView)))]
pub(crate) async fn get_repository(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<RepositoryQuery>,
) -> Result<Json<RepositoryView>> {
    let (_, row) = repository(&actor, &state, &slug, &query.repository, &Wish::PULL).await?;
    let mut session = state.db().read().await?;
    let mut found = repositories::summaries(&mut session, [row.id.as_str()].into_iter()).await?;
    let summary = found.remove(&row.id).unwrap_or_default();
    Ok(Json(view(row, summary)))
}

/// Tags of a repository
///
/// By name, or those that moved last first.
#[utoipa::path(get, path = "/orgs/{org}/tags", tag = "repositories",
    params(("org", description = "Slug of the organization"), TagsQuery),
    responses((status = 200, description = "A page of tags", body = Page<TagView>)))]
pub(crate) async fn list_tags(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<TagsQuery>,
) -> Result<Json<Page<TagView>>> {
    let (_, found) = repository(&actor, &state, &slug, &query.repository, &Wish::PULL).await?;
    let bounds = PageQuery { limit: query.limit, after: query.after }.bounds()?;
    let order = query.sort.unwrap_or_default().into();
    let wanted = tags::Wanted {
        search: &searched(query.search)?,
        without_schemes: query.hide_attached.unwrap_or_default(),
        order,
        after: &bounds.after,
    };
    let mut session = state.db().read().await?;
    let rows = tags::page(&mut session, &found.id, &wanted, bounds.fetch()).await?;
    drop(session);
    let mut looks = Looks::of(&state, &found, rows.iter().map(|row| (row.digest.as_str(), row.size))).await?;
    let view = |row: tags::Listed| TagView {
        description: looks.take(&row.digest, row.artifact_type.as_deref(), row.content_size),
        name: row.name,
        digest: row.digest,
        updated_at: row.updated_at,
        pushed_by: row.pushed_by,
        pulled_at: row.pulled_at,
        pulled_by: row.pulled_by,
    };
    Ok(Json(bounds.page_by(rows, |row| row.cursor(order), view)))
}

/// Manifests of a repository without a tag
///
/// Newest first: those that no tag points at, no index lists, and that are attached to nothing which is here. 2,000 manifests are
/// looked at for a page, so one may be short, or empty, and still have a `next`: go on from there.
#[utoipa::path(get, path = "/orgs/{org}/untagged", tag = "repositories",
    params(("org", description = "Slug of the organization"), UntaggedQuery),
    responses((status = 200, description = "A page of manifests", body = Page<UntaggedView>)))]
pub(crate) async fn list_untagged(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<UntaggedQuery>,
) -> Result<Json<Page<UntaggedView>>> {
    let (_, found) = repository(&actor, &state, &slug, &query.repository, &Wish::PULL).await?;
    let bounds = PageQuery { limit: query.limit, after: query.after }.bounds()?;
    let mut session = state.db().read().await?;
    let (rows, next) = manifests::untagged(&mut session, &found.id, &bounds.after, bounds.fetch()).await?;
    drop(session);
    let mut looks = Looks::of(&state, &found, rows.iter().map(|row| (row.digest.as_str(), row.size))).await?;
    let view = |row: manifests::Listed| UntaggedView {
        description: looks.take(&row.digest, row.artifact_type.as_deref(), row.content_size),
        digest: row.digest,
        subject: row.subject,
        pushed_at: row.created_at,
        pushed_by: row.pushed_by,
        pulled_at: row.pulled_at,
        pulled_by: row.pulled_by,
    };
    let page = bounds.page_by(rows, manifests::Listed::cursor, view);
    Ok(Json(Page { next: page.next.or(next), items: page.items }))
}

/// What is asked of a repository.
pub(crate) struct Wish<'a> {
    pub(crate) permission: Permission,
    /// The tag that it is about, if it is about one.
    pub(crate) tag: Option<&'a str>,
}

impl Wish<'_> {
    /// Pulling from it.
    pub(crate) const PULL: Self = Self { permission: Permission::RegistryPull, tag: None };
}

/// The repository of that name in an organization, pulling from it, and a permission on it.
///
/// # Errors
/// 404 for what the caller may not see, 403 for what they may see and not do.
pub(crate) async fn repository(
    actor: &Actor,
    state: &State,
    slug: &str,
    name: &str,
    wish: &Wish<'_>,
) -> Result<(RepoName, Repository)> {
    let org = actor.sees_org(state, slug).await?;
    let name: RepoName = name.parse().map_err(|error| Error::invalid("repository", &error))?;
    let mut session = state.db().read().await?;
    let project = projects::find_by_slug(&mut session, &org.id, name.project()).await?;
    let seen = project.filter(|p| name.org() == org.slug && actor.may(Permission::ProjectRead, &in_project(p)));
    let project = seen.ok_or(Error::NotFound("repository"))?;
    let of = |tag| Resource::Repository { org_id: &org.id, project_id: Some(&project.id), path: name.path(), tag };
    // Before it is looked up: what may not be read is not told apart from what is not there.
    actor.can_named(Permission::RegistryPull, &of(None), &org, Some(&project.slug))?;
    actor.can_named(wish.permission, &of(wish.tag), &org, Some(&project.slug))?;
    let found = repositories::find(&mut session, &name).await?.ok_or(Error::NotFound("repository"))?;
    Ok((name, found))
}

/// Whether the caller may delete every tag of a repository: a role may be limited to some.
///
/// # Errors
/// 403 that says which it is not.
pub(crate) async fn every_tag(actor: &Actor, state: &State, name: &RepoName, row: &Repository) -> Result<()> {
    // Whoever may in the whole project may of every tag: there are no limits to look for.
    let project = Resource::Project { org_id: &row.org_id, project_id: &row.project_id };
    if actor.may(Permission::RegistryDelete, &project) {
        return Ok(());
    }
    let mut session = state.db().read().await?;
    let mut after = String::new();
    loop {
        let batch = tags::list(&mut session, name, &after, crate::page::MAX).await?;
        let Some(last) = batch.last() else { return Ok(()) };
        after.clone_from(&last.name);
        for tag in &batch {
            actor.can(Permission::RegistryDelete, &in_repository(row, name, Some(&tag.name)))?;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::json;

    use crate::testing::{ADMIN, Controller};

    #[tokio::test]
    async fn repositories_are_those_that_the_caller_may_pull_from() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for slug in ["alpha", "beta"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        for name in ["main/app", "main/alpha/a", "main/beta/b", "main/alpha/c"] {
            controller.push(name).await;
        }
        let names = |body: &serde_json::Value| {
            let items = body["items"].as_array().unwrap();
            items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let all = controller.get(&admin, "/orgs/main/repositories").await.expect(200);
        assert_eq!(names(&all.body), ["main/alpha/a", "main/alpha/c", "main/app", "main/beta/b"]);
        assert_eq!(all.body["items"][2]["project"], "defaultproject");
        let one = controller.get(&admin, "/orgs/main/repositories?project=beta").await.expect(200);
        assert_eq!(names(&one.body), ["main/beta/b"]);
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("alpha")))).await;
        let page = controller.get(&reader, "/orgs/main/repositories?limit=1").await.expect(200);
        assert_eq!(names(&page.body), ["main/alpha/a"]);
        let next = format!("/orgs/main/repositories?limit=1&after={}", page.text("next"));
        assert_eq!(names(&controller.get(&reader, &next).await.expect(200).body), ["main/alpha/c"]);
        controller.get(&reader, "/orgs/main/tags?repository=main/alpha/a").await.expect(200);
        for hidden in ["main/beta/b", "main/beta/none", "main/app", "other/app"] {
            controller.get(&reader, &format!("/orgs/main/tags?repository={hidden}")).await.expect(404);
        }
        let auditor = controller.member("a@example.com", Some(("AUDITOR", None))).await;
        controller.get(&auditor, "/orgs/main/repositories").await.expect(403);
    }

    #[tokio::test]
    async fn tags_and_repositories_are_deleted_by_those_who_may() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.push("main/app").await;
        let read = controller.get(&admin, "/orgs/main/manifest?repository=main/app&reference=v1").await.expect(200);
        assert_eq!((&read.body["size"], &read.body["manifest"]["schemaVersion"]), (&json!(19), &json!(2)));
        controller.get(&admin, "/orgs/main/manifest?repository=main/app&reference=v2").await.expect(404);
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("defaultproject")))).await;
        let (tag, repository) =
            ("/orgs/main/tags?repository=main/app&tag=v1", "/orgs/main/repositories?repository=main/app");
        let confirm = json!({"confirm": "main/app"});
        controller.call(&reader, Method::DELETE, tag, &json!(null)).await.expect(403);
        controller.call(&reader, Method::DELETE, repository, &confirm).await.expect(403);
        controller.call(&admin, Method::DELETE, tag, &json!(null)).await.expect(204);
        controller.call(&admin, Method::DELETE, tag, &json!(null)).await.expect(404);
        let by_digest = format!("/orgs/main/manifest?repository=main/app&reference={}", read.text("digest"));
        controller.get(&admin, &by_digest).await.expect(200);
        controller.call(&admin, Method::DELETE, repository, &json!({"confirm": "app"})).await.expect(422);
        controller.call(&admin, Method::DELETE, repository, &confirm).await.expect(204);
        controller.call(&admin, Method::DELETE, repository, &confirm).await.expect(404);
        controller.get(&admin, &by_digest).await.expect(404);
    }

    #[tokio::test]
    async fn several_go_at_once_or_none_and_only_what_the_preview_told() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for tag in ["v1", "v2", "v3"] {
            controller.push_image("main/app", tag, &json!({}), &[tag.as_bytes()]).await;
        }
        let delete = async |query: &str| {
            controller.call(&admin, Method::DELETE, &format!("/orgs/main/{query}"), &json!(null)).await
        };
        let ask = async |query: &str| {
            controller.get(&admin, &format!("/orgs/main/deletion?repository=main/app&{query}")).await.expect(200)
        };
        delete("tags?repository=main/app&tag=v1,none,v2").await.expect(404);
        let told = ask("tag=v1,v2").await;
        assert_eq!(told.body["tag_count"], 2, "none went");
        let mark = told.text("mark");
        controller.push_image("main/app", "v2", &json!({}), &[b"newer"]).await;
        let refused = delete(&format!("tags?repository=main/app&tag=v1,v2&mark={mark}")).await.expect(412);
        assert_eq!(refused.body["type"], "urn:wharfinger:problem:moved");
        let mark = ask("tag=v1,v2").await.text("mark");
        delete(&format!("tags?repository=main/app&tag=v2,v1&mark={mark}")).await.expect(204);
        let rows = controller.get(&admin, "/orgs/main/audit?action=tag.delete").await.expect(200);
        assert_eq!(rows.body["items"].as_array().unwrap().len(), 2, "each is in the log: {}", rows.body);
        let third = controller.get(&admin, "/orgs/main/manifest?repository=main/app&reference=v3").await.expect(200);
        let digest = third.text("digest");
        let mark = ask(&format!("digest={digest}")).await.text("mark");
        controller.push_image("main/app", "prod", &json!({}), &[b"v3"]).await;
        let query = format!("manifest?repository=main/app&digest={digest}&mark=");
        delete(&format!("{query}{mark}")).await.expect(412);
        let mark = ask(&format!("digest={digest}")).await.text("mark");
        delete(&format!("{query}{mark}")).await.expect(204);
        let whole = ask("").await.text("mark");
        controller.push_image("main/app", "late", &json!({}), &[b"late"]).await;
        let confirm = json!({"confirm": "main/app"});
        let path = format!("/orgs/main/repositories?repository=main/app&mark={whole}");
        controller.call(&admin, Method::DELETE, &path, &confirm).await.expect(412);
        let path = format!("/orgs/main/repositories?repository=main/app&mark={}", ask("").await.text("mark"));
        controller.call(&admin, Method::DELETE, &path, &confirm).await.expect(204);
    }

    #[tokio::test]
    async fn who_is_of_another_organization_deletes_nothing_and_learns_nothing() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.push_image("main/app", "v1", &json!({}), &[b"one"]).await;
        let digest = controller.push_image("main/app", "v2", &json!({}), &[b"two"]).await;
        let told = controller.get(&admin, "/orgs/main/deletion?repository=main/app&tag=v1,v2").await.expect(200);
        let (mark, boss) = (told.text("mark"), controller.other_org().await);
        let confirm = json!({"confirm": "main/app"});
        for (method, path) in [
            (Method::GET, "deletion?repository=main/app&tag=v1,v2".to_owned()),
            (Method::GET, format!("deletion?repository=main/app&digest={digest},{digest}")),
            (Method::DELETE, "tags?repository=main/app&tag=v1,v2".to_owned()),
            (Method::DELETE, format!("tags?repository=main/app&tag=v1,v2&mark={mark}")),
            (Method::DELETE, "tags?repository=main/app&tag=v1,v2&mark=none".to_owned()),
            (Method::DELETE, format!("manifest?repository=main/app&digest={digest}&mark={mark}")),
            (Method::DELETE, format!("repositories?repository=main/app&mark={mark}")),
        ] {
            // There, their organization has no such repository; here, they are nobody.
            for org in ["main", "other"] {
                let at = format!("/orgs/{org}/{path}");
                let answer = controller.call(&boss, method.clone(), &at, &confirm).await.expect(404);
                let never = at.replace("main/app", "main/never").replace("orgs/main", "orgs/never");
                let unknown = controller.call(&boss, method.clone(), &never, &confirm).await.expect(404);
                assert_eq!(answer.body["type"], unknown.body["type"], "{at}");
            }
        }
        let kept = controller.get(&admin, "/orgs/main/deletion?repository=main/app&tag=v1,v2").await.expect(200);
        assert_eq!(kept.text("mark"), mark);
    }

    #[tokio::test]
    async fn a_role_for_some_repositories_and_tags_reaches_those_alone() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for name in ["main/a", "main/b", "main/app"] {
            controller.push(name).await;
        }
        let role = json!({"name": "a-only", "base": "PROJECT_ADMIN", "repositories": ["a"], "tags": ["dev-*"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        let some = controller.member("some@example.com", Some(("a-only", Some("defaultproject")))).await;
        let listed = controller.get(&some, "/orgs/main/repositories").await.expect(200);
        let names: Vec<&str> =
            listed.body["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["main/a"]);
        controller.get(&some, "/orgs/main/tags?repository=main/a").await.expect(200);
        for other in ["main/b", "main/none"] {
            let denied = controller.get(&some, &format!("/orgs/main/tags?repository={other}")).await.expect(403);
            assert_eq!(denied.body["permission"], "registry.pull");
            assert!(denied.body["why"][0].as_str().unwrap().contains("a-only"), "{}", denied.body);
        }
        let tag = "/orgs/main/tags?repository=main/a&tag=v1";
        controller.call(&some, Method::DELETE, tag, &json!(null)).await.expect(403);
        let repository = "/orgs/main/repositories?repository=main/a";
        controller.call(&some, Method::DELETE, repository, &json!({"confirm": "main/a"})).await.expect(403);
        let mine = "/orgs/main/tags?repository=main/a&tag=dev-1";
        controller.call(&some, Method::DELETE, mine, &json!(null)).await.expect(404);
    }

    #[tokio::test]
    async fn a_page_that_ends_early_does_not_say_where() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.push("main/app").await;
        let mut tx = controller.db.begin().await.unwrap();
        let org = storage::orgs::find_by_slug(&mut tx, "main").await.unwrap().unwrap();
        let project = storage::projects::find_by_slug(&mut tx, &org.id, "defaultproject").await.unwrap().unwrap();
        for n in 0..super::MOST_LOOKED_AT * 2 {
            let name = format!("main/secret-{n:04}").parse().unwrap();
            storage::repositories::ensure(&mut tx, &org.id, &project.id, &name, 0).await.unwrap();
        }
        tx.commit().await.unwrap();
        controller.push("main/z").await;
        let role = json!({"name": "z-only", "base": "PROJECT_READ_ONLY", "repositories": ["z"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        let some = controller.member("some@example.com", Some(("z-only", Some("defaultproject")))).await;
        for sort in ["name", "pushed"] {
            let (mut after, mut found) = (String::new(), Vec::new());
            for _ in 0..9 {
                let path = format!("/orgs/main/repositories?sort={sort}&after={after}");
                let page = controller.get(&some, &path).await.expect(200);
                assert!(!page.raw.contains("secret"), "{}", page.raw);
                found.extend(page.body["items"].as_array().unwrap().iter().map(|item| item["name"].clone()));
                let Some(next) = page.body["next"].as_str() else { break };
                next.clone_into(&mut after);
            }
            assert_eq!((found, after.is_empty()), (vec![json!("main/z")], false));
            let path = format!("/orgs/main/repositories?sort={sort}&after={after}");
            let other =
                controller.member(&format!("{sort}@example.com"), Some(("z-only", Some("defaultproject")))).await;
            controller.get(&other, &path).await.expect(422);
            controller.get(&some, &path).await.expect(200);
        }
    }

    #[tokio::test]
    async fn lists_say_what_things_are_how_large_and_when_they_were_pulled() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = json!({"os": "linux", "architecture": "amd64"});
        let size = config.to_string().len() + 5;
        let digest = controller.push_image("main/app", "v1", &config, &[b"layer"]).await;
        let (caller, detail) = (identity::audit::Caller::server(), json!({"digest": digest}));
        let org = storage::orgs::find_by_slug(&mut controller.db.read().await.unwrap(), "main").await.unwrap().unwrap();
        let entry = identity::audit::Entry {
            org_id: &org.id,
            action: "image.pull",
            target: "main/app:v1",
            detail,
            ..identity::audit::Entry::default()
        };
        controller.identity.note(&caller, &entry).await.unwrap();
        controller.settle().await;
        let tags = controller.get(&admin, "/orgs/main/tags?repository=main/app").await.expect(200);
        let tag = &tags.body["items"][0];
        assert_eq!(tag["pushed_by"], ADMIN);
        assert_eq!((&tag["pulled_by"], tag["pulled_at"].is_string()), (&json!("server"), true));
        let description = &tag["description"];
        assert_eq!((&description["kind"], &description["platforms"]), (&json!("image"), &json!(["linux/amd64"])));
        assert_eq!(description["total_size"], json!(size));
        let one = controller.get(&admin, "/orgs/main/repository?repository=main/app").await.expect(200);
        assert_eq!((&one.body["tags"], &one.body["size"]), (&json!(1), &json!(size)));
        assert_eq!(one.body["pulled_by"], "server");
        let list = controller.get(&admin, "/orgs/main/repositories?search=ap&sort=pushed").await.expect(200);
        assert_eq!(list.body["items"][0], one.body);
        controller.get(&admin, &format!("/orgs/main/repositories?search={}", "x".repeat(129))).await.expect(422);
        controller.get(&admin, "/orgs/main/repositories?sort=size").await.expect(400);
    }

    #[tokio::test]
    async fn a_manifest_is_deleted_with_its_tags_by_those_who_may_delete_them() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let digest = controller.push_image("main/app", "v1", &json!({}), &[b"layer"]).await;
        let other = controller.push_image("main/app", "dev-1", &json!({"a": 1}), &[b"layer"]).await;
        let role = json!({"name": "dev", "base": "PROJECT_ADMIN", "tags": ["dev-*"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        let some = controller.member("some@example.com", Some(("dev", Some("defaultproject")))).await;
        let manifest = |digest: &str| format!("/orgs/main/manifest?repository=main/app&digest={digest}");
        let preview = |digest: &str| format!("/orgs/main/deletion?repository=main/app&digest={digest}");
        controller.get(&some, &preview(&digest)).await.expect(403);
        controller.call(&some, Method::DELETE, &manifest(&digest), &json!(null)).await.expect(403);
        let told = controller.get(&some, &preview(&other)).await.expect(200);
        assert_eq!((&told.body["bytes"], &told.body["shared_bytes"]), (&json!(7), &json!(5)));
        assert_eq!((&told.body["tags"][0]["name"], &told.body["grace_seconds"]), (&json!("dev-1"), &json!(86_400)));
        controller.call(&some, Method::DELETE, &manifest(&other), &json!(null)).await.expect(204);
        controller.call(&some, Method::DELETE, &manifest(&other), &json!(null)).await.expect(404);
        controller.get(&admin, &preview(&other)).await.expect(404);
        let tags = controller.get(&admin, "/orgs/main/tags?repository=main/app").await.expect(200);
        assert_eq!(tags.body["items"].as_array().unwrap().len(), 1);
        let events = controller.get(&admin, "/orgs/main/audit?action=image.delete").await.expect(200);
        assert_eq!(events.body["items"][0]["target"], format!("main/app@{other}"));
        for (question, status) in [
            ("&tag=v1", 200),
            ("", 200),
            ("&tag=v1,none", 404),
            ("&tag=a,,b", 422),
            ("&digest=md5:1", 422),
            ("&tag=v1&digest=x", 422),
        ] {
            let path = format!("/orgs/main/deletion?repository=main/app{question}");
            controller.get(&admin, &path).await.expect(status);
        }
        controller.get(&some, "/orgs/main/deletion?repository=main/app").await.expect(403);
        controller.get(&some, "/orgs/main/deletion?repository=main/app&tag=v1").await.expect(403);
    }

    #[tokio::test]
    async fn another_organizations_copy_keeps_nothing_here() {
        let controller = Controller::start().await;
        let (admin, boss) = (controller.login(ADMIN).await, controller.other_org().await);
        for name in ["main/app", "other/app"] {
            controller.push_image(name, "v1", &json!({}), &[b"the same layer"]).await;
        }
        let told = controller.get(&admin, "/orgs/main/deletion?repository=main/app").await.expect(200);
        assert_eq!((&told.body["bytes"], &told.body["shared_bytes"]), (&json!(16), &json!(0)));
        for path in ["repository", "untagged", "deletion", "tags"] {
            controller.get(&boss, &format!("/orgs/main/{path}?repository=main/app")).await.expect(404);
            controller.get(&boss, &format!("/orgs/other/{path}?repository=main/app")).await.expect(404);
        }
    }
}

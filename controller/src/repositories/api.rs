//! `/orgs/{org}/repositories` and `/orgs/{org}/tags`

use std::collections::HashMap;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::Session;
use storage::names::{RepoName, Tag};
use storage::orgs::Org;
use storage::projects::{self, Project};
use storage::repositories::{self, Repository, RepositoryFilter};
use storage::tags;
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org, in_project};
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};
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
}

/// Which repositories.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RepositoriesQuery {
    /// Only those of this project.
    pub(crate) project: Option<String>,
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
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<i64>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
}

/// Which tag.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TagQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// The tag.
    #[param(example = "v1")]
    pub(crate) tag: String,
}

/// Which repository.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RepositoryQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
}

/// Repositories that the caller may pull from
///
/// By name.
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
    let bounds = PageQuery { limit: query.limit, after: query.after }.bounds()?;
    let project = match query.project {
        Some(project) => Some(actor.can_in_project(Permission::ProjectRead, &state, &slug, &project).await?.1),
        None => None,
    };
    let (rows, next) = in_reach(&actor, &state, &org, project.as_ref(), &bounds).await?;
    let projects = project_slugs(&state, &rows).await?;
    let page = bounds.page(rows, |row| &row.name, |row| view(row, &projects));
    Ok(Json(Page { next: page.next.or(next), items: page.items }))
}

/// What the caller may pull from, and where to go on if that is not where the page ends: everything in the organization (or
/// project), what is in some of its projects, or single repositories.
async fn in_reach(
    actor: &Actor,
    state: &State,
    org: &Org,
    project: Option<&Project>,
    bounds: &Bounds,
) -> Result<(Vec<Repository>, Option<String>)> {
    let reach = actor.principal().reach(Permission::RegistryPull);
    let around = RepositoryFilter { org_id: Some(&org.id), project_id: project.map(|project| project.id.as_str()) };
    let mut session = state.db().read().await?;
    let whole = reach.orgs.contains(&org.id) || project.is_some_and(|project| reach.projects.contains(&project.id));
    if whole {
        return Ok((repositories::list(&mut session, &around, &bounds.after, bounds.fetch()).await?, None));
    }
    let here = |id: &str| project.is_none_or(|project| project.id == id);
    if reach.partly.iter().any(|part| part.org_id == org.id && part.project_id.as_deref().is_none_or(here)) {
        return one_by_one(actor, &mut session, &around, bounds).await;
    }
    let mut rows = Vec::new();
    let mut reached = false;
    for project_id in reach.projects.iter().filter(|id| here(id)) {
        if actor.may(Permission::RegistryPull, &Resource::Project { org_id: &org.id, project_id }) {
            reached = true;
            let filter = RepositoryFilter { org_id: None, project_id: Some(project_id) };
            rows.extend(repositories::list(&mut session, &filter, &bounds.after, bounds.fetch()).await?);
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
    rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    rows.truncate(usize::try_from(bounds.fetch()).unwrap_or(usize::MAX));
    Ok((rows, None))
}

/// Rows that one request looks at where each is decided by itself.
const MOST_LOOKED_AT: usize = 5_000;

/// Those of a list that the caller may pull from; after so many, the page ends early and says where to go on.
async fn one_by_one(
    actor: &Actor,
    session: &mut Session,
    filter: &RepositoryFilter<'_>,
    bounds: &Bounds,
) -> Result<(Vec<Repository>, Option<String>)> {
    let (mut rows, mut after, mut seen) = (Vec::new(), bounds.after.clone(), 0);
    while rows.len() <= bounds.limit {
        if seen >= MOST_LOOKED_AT {
            return Ok((rows, Some(after)));
        }
        let batch = repositories::list(session, filter, &after, crate::page::MAX).await?;
        let Some(last) = batch.last() else { break };
        after.clone_from(&last.name);
        seen += batch.len();
        rows.extend(batch.into_iter().filter(|row| {
            let Ok(name) = row.name.parse::<RepoName>() else { return false };
            actor.may(Permission::RegistryPull, &in_repository(row, &name, None))
        }));
    }
    Ok((rows, None))
}

/// A repository, as decisions know it.
fn in_repository<'a>(row: &'a Repository, name: &'a RepoName, tag: Option<&'a str>) -> Resource<'a> {
    Resource::Repository { org_id: &row.org_id, project_id: Some(&row.project_id), path: name.path(), tag }
}

async fn project_slugs(state: &State, rows: &[Repository]) -> Result<HashMap<String, String>> {
    let mut slugs = HashMap::new();
    let mut session = state.db().read().await?;
    for row in rows {
        if !slugs.contains_key(&row.project_id) {
            let slug = projects::find(&mut session, &row.project_id).await?.map(|project| project.slug);
            slugs.insert(row.project_id.clone(), slug.unwrap_or_default());
        }
    }
    Ok(slugs)
}

fn view(row: Repository, projects: &HashMap<String, String>) -> RepositoryView {
    let project = projects.get(&row.project_id).cloned().unwrap_or_default();
    RepositoryView { name: row.name, project, created_at: row.created_at, pushed_at: row.pushed_at }
}

/// Tags of a repository
///
/// By name.
#[utoipa::path(get, path = "/orgs/{org}/tags", tag = "repositories",
    params(("org", description = "Slug of the organization"), TagsQuery),
    responses((status = 200, description = "A page of tags", body = Page<TagView>)))]
pub(crate) async fn list_tags(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<TagsQuery>,
) -> Result<Json<Page<TagView>>> {
    let (name, _) = repository(&actor, &state, &slug, &query.repository, &Wish::PULL).await?;
    let mut session = state.db().read().await?;
    let bounds = PageQuery { limit: query.limit, after: query.after }.bounds()?;
    let rows = tags::list(&mut session, &name, &bounds.after, bounds.fetch()).await?;
    let view = |row: tags::TagRow| TagView { name: row.name, digest: row.digest, updated_at: row.updated_at };
    Ok(Json(bounds.page(rows, |row| &row.name, view)))
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

/// Delete a tag
///
/// Its manifest and the manifest's other tags stay.
#[utoipa::path(delete, path = "/orgs/{org}/tags", tag = "repositories",
    params(("org", description = "Slug of the organization"), TagQuery),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_tag(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<TagQuery>,
) -> Result<StatusCode> {
    let tag: Tag = query.tag.parse().map_err(|error| Error::invalid("tag", &error))?;
    let wish = Wish { permission: Permission::RegistryDelete, tag: Some(tag.as_str()) };
    let (_, found) = repository(&actor, &state, &slug, &query.repository, &wish).await?;
    state.identity().delete_tag(&actor.caller, &found, &tag).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Whether the caller may delete every tag of a repository: a role may be limited to some.
async fn every_tag(actor: &Actor, state: &State, name: &RepoName, row: &Repository) -> Result<()> {
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

/// Delete a repository
///
/// With every image in it; `confirm` is its name once more. Its bytes go by garbage collection, where no other repository of
/// the organization shares them.
#[utoipa::path(delete, path = "/orgs/{org}/repositories", tag = "repositories", request_body = extract::Confirmation,
    params(("org", description = "Slug of the organization"), RepositoryQuery),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_repository(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<RepositoryQuery>,
    extract::Json(confirmation): extract::Json<extract::Confirmation>,
) -> Result<StatusCode> {
    let wish = Wish { permission: Permission::RegistryDelete, tag: None };
    let (name, found) = repository(&actor, &state, &slug, &query.repository, &wish).await?;
    every_tag(&actor, &state, &name, &found).await?;
    if confirmation.confirm != query.repository {
        return Err(Error::invalid("confirm", "type the repository's full name"));
    }
    state.identity().delete_repository(&actor.caller, &found).await?;
    Ok(StatusCode::NO_CONTENT)
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
}

//! `/orgs/{org}/repositories` and `/orgs/{org}/tags`

use std::collections::HashMap;

use axum::Json;
use axum::extract::State as Shared;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::names::RepoName;
use storage::orgs::Org;
use storage::projects;
use storage::repositories::{self, Repository, RepositoryFilter};
use storage::tags;
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org, in_project};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::page::{Bounds, Page, PageQuery};
use crate::time;

/// A repository.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RepositoryView {
    /// Full name, as docker spells it behind the host.
    name: String,
    /// The project it lies in.
    project: String,
    /// When it was first pushed to.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: i64,
    /// When a manifest was last pushed.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pushed_at: i64,
}

/// A tag.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TagView {
    /// The tag.
    name: String,
    /// Digest of the manifest that it points at.
    digest: String,
    /// When it last moved.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    updated_at: i64,
}

/// Which repositories.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RepositoriesQuery {
    /// Only those of this project.
    project: Option<String>,
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `next` of the page before.
    after: Option<String>,
}

/// Whose tags.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TagsQuery {
    /// Full name of the repository.
    repository: String,
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `next` of the page before.
    after: Option<String>,
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
    let rows = match query.project {
        Some(project) => {
            let (_, project) = actor.can_in_project(Permission::RegistryPull, &state, &slug, &project).await?;
            let filter = RepositoryFilter { org_id: None, project_id: Some(&project.id) };
            repositories::list(&mut state.db().read().await?, &filter, &bounds.after, bounds.fetch()).await?
        }
        None => in_reach(&actor, &state, &org, &bounds).await?,
    };
    let projects = project_slugs(&state, &rows).await?;
    Ok(Json(bounds.page(rows, |row| &row.name, |row| view(row, &projects))))
}

/// What the caller may pull from: everything in the organization, or what is in some of its projects.
async fn in_reach(actor: &Actor, state: &State, org: &Org, bounds: &Bounds) -> Result<Vec<Repository>> {
    let reach = actor.principal().reach(Permission::RegistryPull);
    let mut session = state.db().read().await?;
    if reach.orgs.contains(&org.id) {
        let filter = RepositoryFilter { org_id: Some(&org.id), project_id: None };
        return Ok(repositories::list(&mut session, &filter, &bounds.after, bounds.fetch()).await?);
    }
    let mut rows = Vec::new();
    for project_id in &reach.projects {
        if actor.may(Permission::RegistryPull, &Resource::Project { org_id: &org.id, project_id }) {
            let filter = RepositoryFilter { org_id: None, project_id: Some(project_id) };
            rows.extend(repositories::list(&mut session, &filter, &bounds.after, bounds.fetch()).await?);
        }
    }
    if rows.is_empty() && reach.projects.is_empty() {
        actor.can(Permission::RegistryPull, &in_org(org))?;
    }
    rows.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    rows.truncate(usize::try_from(bounds.fetch()).unwrap_or(usize::MAX));
    Ok(rows)
}

async fn project_slugs(state: &State, rows: &[Repository]) -> Result<HashMap<String, String>> {
    let mut slugs = HashMap::new();
    let mut session = state.db().read().await?;
    for row in rows {
        if !slugs.contains_key(&row.project_id) {
            slugs.insert(row.project_id.clone(), projects::get(&mut session, &row.project_id).await?.slug);
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
    let org = actor.sees_org(&state, &slug).await?;
    let name: RepoName = query.repository.parse().map_err(|error| Error::invalid("repository", &error))?;
    let mut session = state.db().read().await?;
    let project = projects::find_by_slug(&mut session, &org.id, name.project()).await?;
    let seen = project.filter(|p| name.org() == org.slug && actor.may(Permission::ProjectRead, &in_project(p)));
    let project = seen.ok_or(Error::NotFound("repository"))?;
    actor.can(Permission::RegistryPull, &in_project(&project))?;
    repositories::find(&mut session, &name).await?.ok_or(Error::NotFound("repository"))?;
    let bounds = PageQuery { limit: query.limit, after: query.after }.bounds()?;
    let rows = tags::list(&mut session, &name, &bounds.after, bounds.fetch()).await?;
    let view = |row: tags::TagRow| TagView { name: row.name, digest: row.digest, updated_at: row.updated_at };
    Ok(Json(bounds.page(rows, |row| &row.name, view)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;
    use storage::names::RepoName;
    use storage::{orgs, projects, repositories};

    use crate::testing::{ADMIN, Controller};

    async fn push(controller: &Controller, name: &str) {
        let name: RepoName = name.parse().unwrap();
        let mut tx = controller.db.begin().await.unwrap();
        let org = orgs::find_by_slug(&mut tx, name.org()).await.unwrap().unwrap();
        let project = projects::find_by_slug(&mut tx, &org.id, name.project()).await.unwrap().unwrap();
        repositories::ensure(&mut tx, &org.id, &project.id, &name, 1).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn repositories_are_those_that_the_caller_may_pull_from() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for slug in ["alpha", "beta"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        for name in ["main/app", "main/alpha/a", "main/beta/b", "main/alpha/c"] {
            push(&controller, name).await;
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
}

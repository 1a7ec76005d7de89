//! `/orgs/{org}/projects`

use std::collections::HashMap;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::names::Slug;
use storage::orgs::Org;
use storage::projects::{self, Contents, NewProject, Project, ProjectCounts, ProjectSettings, UpdateProject};
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org, in_project};
use crate::error::{Error, Result};
use crate::etag::{Created, IfMatch, IfMatchHeader, Tag, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::page::{Bounds, Page, PageQuery};
use crate::time;

/// A project.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProjectView {
    /// Second path component of its repositories.
    pub(crate) slug: String,
    /// Whether anybody may pull from it without logging in.
    pub(crate) public: bool,
    /// Whether image manifests are taken although layers of theirs are not here, as a partial mirror needs it.
    pub(crate) sparse: bool,
    /// What it is for.
    pub(crate) description: String,
    /// When it was created.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// How many repositories it has; null for whoever may not pull from all of it. More than 10,000 are not counted: where it says
    /// so, there are that many at least.
    pub(crate) repositories: Option<i64>,
    /// How many users and groups hold a role on it; null for whoever may not see them. More than 10,000 are not counted, either.
    pub(crate) members: Option<i64>,
}

/// What a project holds, and what therefore goes with it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ContentsView {
    /// Repositories.
    pub(crate) repositories: i64,
    /// Tags in them.
    pub(crate) tags: i64,
    /// Manifests in them.
    pub(crate) manifests: i64,
    /// Bytes of layers and other blobs that no other project of the organization has.
    pub(crate) bytes: i64,
    /// Roles that were given on it.
    pub(crate) roles: i64,
}

impl From<Contents> for ContentsView {
    fn from(contents: Contents) -> Self {
        let Contents { repositories, tags, manifests, bytes, roles } = contents;
        Self { repositories, tags, manifests, bytes, roles }
    }
}

/// Which projects.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ProjectQuery {
    /// Text that is part of the slug or the description, in any case.
    pub(crate) search: Option<String>,
}

/// Longest text of a search, in characters.
const MAX_SEARCH: usize = 254;

impl ProjectQuery {
    fn text(&self) -> Result<Option<&str>> {
        let text = self.search.as_deref().map(str::trim).filter(|text| !text.is_empty());
        match text {
            Some(text) if text.chars().count() > MAX_SEARCH => {
                Err(Error::invalid("search", &format!("use at most {MAX_SEARCH} characters")))
            }
            text => Ok(text),
        }
    }
}

/// Projects as the caller sees them.
async fn views(actor: &Actor, state: &State, org: &Org, rows: Vec<Project>) -> Result<Vec<ProjectView>> {
    let ids: Vec<&str> = rows.iter().map(|project| project.id.as_str()).collect();
    let counts = projects::counts(&mut state.db().read().await?, &org.id, &ids).await?;
    let counts: HashMap<String, ProjectCounts> = counts.into_iter().map(|row| (row.id.clone(), row)).collect();
    let view = |project: Project| {
        let counted = counts.get(&project.id);
        let seen = |permission| counted.filter(|_| actor.may(permission, &in_project(&project)));
        ProjectView {
            repositories: seen(Permission::RegistryPull).map(|row| row.repositories),
            members: seen(Permission::MemberRead).map(|row| row.members),
            slug: project.slug,
            public: project.public,
            sparse: project.sparse,
            description: project.description,
            created_at: project.created_at,
        }
    };
    Ok(rows.into_iter().map(view).collect())
}

/// A project as the caller sees it.
async fn view(actor: &Actor, state: &State, org: &Org, project: Project) -> Result<ProjectView> {
    views(actor, state, org, vec![project]).await?.pop().ok_or(Error::NotFound("project"))
}

/// A project to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProjectToCreate {
    /// Second path component of its repositories; it can never be changed.
    #[schema(example = "backend", min_length = 2, max_length = 64)]
    pub(crate) slug: String,
    /// Whether anybody may pull from it without logging in.
    #[serde(default)]
    pub(crate) public: bool,
    /// Whether image manifests are taken although layers of theirs are not here.
    #[serde(default)]
    pub(crate) sparse: bool,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 512)]
    pub(crate) description: String,
}

/// Longest description of a project, in characters.
const MAX_DESCRIPTION: usize = 512;

fn checked_description(text: &str) -> Result<&str> {
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(|c| c.is_control() && c != '\n') {
        return Err(Error::invalid("description", &format!("at most {MAX_DESCRIPTION} characters, no controls")));
    }
    Ok(text)
}

/// What of a project changes; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"public": false, "description": "What the back end is made of"}))]
pub(crate) struct ProjectChange {
    /// Whether anybody may pull from it without logging in.
    pub(crate) public: Option<bool>,
    /// Whether image manifests are taken although layers of theirs are not here.
    pub(crate) sparse: Option<bool>,
    /// What it is for.
    #[schema(max_length = 512)]
    pub(crate) description: Option<String>,
}

/// Projects that the caller may see
///
/// By slug.
#[utoipa::path(get, path = "/orgs/{org}/projects", tag = "projects",
    params(("org", description = "Slug of the organization"), ProjectQuery, PageQuery),
    responses((status = 200, description = "A page of projects", body = Page<ProjectView>)))]
pub(crate) async fn list_projects(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(which): Query<ProjectQuery>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ProjectView>>> {
    let (org, page) = uncounted(&actor, &state, &org, &which, query).await?;
    Ok(Json(Page { items: views(&actor, &state, &org, page.items).await?, next: page.next }))
}

/// The rows of [`list_projects`], without what takes counting.
async fn uncounted(
    actor: &Actor,
    state: &State,
    org: &str,
    which: &ProjectQuery,
    query: PageQuery,
) -> Result<(Org, Page<Project>)> {
    let org = actor.sees_org(state, org).await?;
    let (search, bounds) = (which.text()?, query.bounds()?);
    let rows = in_reach(actor, state, &org, search, &bounds).await?;
    Ok((org, bounds.page(rows, |project| &project.slug, |project| project)))
}

/// Slugs of the first projects of [`list_projects`], to choose from, and whether there are more.
pub(crate) async fn first_slugs(actor: &Actor, state: &State, org: &str, most: i64) -> Result<(Vec<String>, bool)> {
    let query = PageQuery { limit: Some(most), after: None };
    let (_, page) = uncounted(actor, state, org, &ProjectQuery::default(), query).await?;
    Ok((page.items.into_iter().map(|project| project.slug).collect(), page.next.is_some()))
}

/// All of the organization's projects, or those that the caller has a role in.
async fn in_reach(
    actor: &Actor,
    state: &State,
    org: &Org,
    search: Option<&str>,
    bounds: &Bounds,
) -> Result<Vec<Project>> {
    let mut session = state.db().read().await?;
    if actor.may(Permission::ProjectRead, &Resource::ProjectToCreate { org_id: &org.id }) {
        return Ok(projects::list(&mut session, &org.id, search, &bounds.after, bounds.fetch()).await?);
    }
    let reach = actor.principal().reach(Permission::ProjectRead).projects;
    let mut rows = Vec::new();
    for id in &reach {
        rows.extend(projects::find(&mut session, id).await?.filter(|project| project.org_id == org.id));
    }
    if rows.is_empty() {
        actor.can(Permission::ProjectRead, &in_org(org))?;
    }
    let search = search.map(str::to_lowercase);
    let found = |project: &Project| {
        search.as_ref().is_none_or(|text| {
            project.slug.contains(text.as_str()) || project.description.to_lowercase().contains(text.as_str())
        })
    };
    rows.retain(|project| project.slug > bounds.after && found(project));
    rows.sort_unstable_by(|a, b| a.slug.cmp(&b.slug));
    Ok(rows)
}

/// Refuses whoever could not show every image of the project to others by other means.
fn may_open(actor: &Actor, project: &Resource<'_>, org: &Org, slug: Option<&str>) -> Result<()> {
    actor.can_named(Permission::RegistryManage, project, org, slug)?;
    actor.can_named(Permission::RegistryPull, project, org, slug)
}

/// Create a project
///
/// One that is public takes `registry.manage` and `registry.pull` on the whole of it too.
#[utoipa::path(post, path = "/orgs/{org}/projects", tag = "projects", request_body = ProjectToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Created", body = ProjectView)))]
pub(crate) async fn create_project(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<ProjectToCreate>,
) -> Result<Created<ProjectView>> {
    let org = actor.can_in_org(Permission::ProjectCreate, &state, &org).await?;
    if new.public {
        may_open(&actor, &Resource::ProjectToCreate { org_id: &org.id }, &org, None)?;
    }
    let slug: Slug = new.slug.parse().map_err(|error| Error::invalid("slug", &error))?;
    let settings = ProjectSettings { public: new.public, sparse: new.sparse };
    let description = checked_description(&new.description)?;
    let new = NewProject { org_id: &org.id, slug: &slug, settings, description };
    let project = state.identity().create_project(&actor.caller, &new).await?;
    let at = format!("/orgs/{}/projects/{}", org.slug, segment(&project.slug));
    let tag = Some(Tag::new(&project.id, project.version));
    Ok(Created { at, tag, body: view(&actor, &state, &org, project).await? })
}

/// A project
#[utoipa::path(get, path = "/orgs/{org}/projects/{project}", tag = "projects",
    params(("org", description = "Slug of the organization"), ("project", description = "Slug of the project")),
    responses((status = 200, description = "The project", body = ProjectView)))]
pub(crate) async fn get_project(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
) -> Result<Versioned<ProjectView>> {
    let (org, project) = actor.can_in_project(Permission::ProjectRead, &state, &org, &project).await?;
    Ok(Versioned(Tag::new(&project.id, project.version), view(&actor, &state, &org, project).await?))
}

/// What a project holds
///
/// It goes with the project when that is deleted, and so it takes `project.delete`.
#[utoipa::path(get, path = "/orgs/{org}/projects/{project}/contents", tag = "projects",
    params(("org", description = "Slug of the organization"), ("project", description = "Slug of the project")),
    responses((status = 200, description = "What it holds", body = ContentsView)))]
pub(crate) async fn get_contents(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
) -> Result<Json<ContentsView>> {
    let (org, project) = actor.can_in_project(Permission::ProjectDelete, &state, &org, &project).await?;
    Ok(Json(projects::contents(&mut state.db().read().await?, &org.id, &project.id).await?.into()))
}

/// Change a project
///
/// Making it public takes `registry.manage` and `registry.pull` on the whole of it too. One that is no longer public closes at once, to tokens that were already given too.
#[utoipa::path(patch, path = "/orgs/{org}/projects/{project}", tag = "projects", request_body = ProjectChange,
    params(("org", description = "Slug of the organization"), ("project", description = "Slug of the project"), IfMatchHeader),
    responses((status = 200, description = "The project as it is now", body = ProjectView)))]
pub(crate) async fn update_project(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
    if_match: IfMatch,
    extract::Json(change): extract::Json<ProjectChange>,
) -> Result<Versioned<ProjectView>> {
    let (org, project) = actor.can_in_project(Permission::ProjectUpdate, &state, &org, &project).await?;
    // One that is public stays so by itself: nobody who may not open it does by a change that comes too late.
    let public = change.public.filter(|public| !(*public && project.public));
    if public == Some(true) {
        may_open(&actor, &in_project(&project), &org, Some(&project.slug))?;
    }
    if let Some(text) = &change.description {
        checked_description(text)?;
    }
    let expected = if_match.expected(&project.id);
    let change = UpdateProject { public, sparse: change.sparse, description: change.description, expected };
    let project = state.identity().update_project(&actor.caller, &project.id, &change).await?;
    Ok(Versioned(Tag::new(&project.id, project.version), view(&actor, &state, &org, project).await?))
}

/// Delete a project
///
/// With the roles that were given on it. One that holds repositories goes only with `confirm`, its slug, and takes every
/// image along.
#[utoipa::path(delete, path = "/orgs/{org}/projects/{project}", tag = "projects",
    request_body(content = Option<extract::Confirmation>),
    params(("org", description = "Slug of the organization"), ("project", description = "Slug of the project"), IfMatchHeader),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_project(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, project)): Path<(String, String)>,
    if_match: IfMatch,
    extract::MaybeJson(confirmation): extract::MaybeJson<extract::Confirmation>,
) -> Result<StatusCode> {
    let (_, project) = actor.can_in_project(Permission::ProjectDelete, &state, &org, &project).await?;
    if confirmation.as_ref().is_some_and(|given| given.confirm != project.slug) {
        return Err(Error::invalid("confirm", "type the project's slug"));
    }
    state
        .identity()
        .delete_project(&actor.caller, &project.id, confirmation.is_some(), if_match.expected(&project.id))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::json;

    use crate::testing::{ADMIN, Caller, Controller};

    #[tokio::test]
    async fn projects_are_listed_in_pages_and_change() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for slug in ["alpha", "beta"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(409);
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "No Slug"})).await.expect(422);
        let first = controller.get(&admin, "/orgs/main/projects?limit=2").await.expect(200);
        assert_eq!(first.body["items"][1]["slug"], "beta");
        let found = controller.get(&admin, "/orgs/main/projects?search=LPH").await.expect(200);
        assert_eq!(
            (found.body["items"].as_array().unwrap().len(), &found.body["items"][0]["slug"]),
            (1, &json!("alpha"))
        );
        let next = format!("/orgs/main/projects?limit=2&after={}", first.text("next"));
        let last = controller.get(&admin, &next).await.expect(200);
        assert_eq!(last.body["items"][0]["slug"], "defaultproject");
        assert!(last.body["next"].is_null());
        let change = json!({"public": true});
        let changed = controller.call(&admin, Method::PATCH, "/orgs/main/projects/alpha", &change).await.expect(200);
        assert_eq!(changed.body["public"], true);
    }

    #[tokio::test]
    async fn a_project_goes_empty_or_by_its_name() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let path = "/orgs/main/projects/alpha";
        let made = controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        assert_eq!(made.headers["location"], "/api/v1/orgs/main/projects/alpha");
        let first = made.headers["etag"].to_str().unwrap().to_owned();
        assert!(first.starts_with("\"1-"), "{first}");
        controller.push("main/alpha/app").await;
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("alpha")))).await;
        let seen = controller.get(&lead, path).await.expect(200).body;
        assert_eq!((&seen["repositories"], &seen["members"]), (&json!(1), &json!(1)));
        let contents = format!("{path}/contents");
        controller.get(&lead, &contents).await.expect(403);
        let holds = controller.get(&admin, &contents).await.expect(200).body;
        assert_eq!(holds, json!({"repositories": 1, "tags": 1, "manifests": 1, "bytes": 0, "roles": 1}));
        controller.call(&lead, Method::DELETE, path, &json!({"confirm": "alpha"})).await.expect(403);
        controller.call(&admin, Method::DELETE, path, &json!(null)).await.expect(409);
        controller.call(&admin, Method::DELETE, path, &json!({"confirm": "beta"})).await.expect(422);
        let stale = [("if-match", "\"9\"")];
        controller.call_with(&admin, Method::DELETE, path, &json!({"confirm": "alpha"}), &stale).await.expect(412);
        controller.call(&admin, Method::DELETE, path, &json!({"confirm": "alpha"})).await.expect(204);
        controller.get(&admin, path).await.expect(404);
        controller.get(&lead, "/orgs/main").await.expect(404);
        let left = controller.get(&admin, "/orgs/main/repositories").await.expect(200);
        assert_eq!(left.body["items"], json!([]));
        // The slug is free again, and the old roles are not back with it.
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        controller.get(&lead, path).await.expect(404);
        // Nor is it what was read of the one before, though both are at their first version.
        let stale = [("if-match", first.as_str())];
        controller.call_with(&admin, Method::PATCH, path, &json!({"description": "x"}), &stale).await.expect(412);
        controller.call_with(&admin, Method::DELETE, path, &json!(null), &stale).await.expect(412);
        controller.call(&admin, Method::DELETE, path, &json!(null)).await.expect(204);
    }

    #[tokio::test]
    async fn the_tag_of_one_project_is_not_anothers() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for slug in ["alpha", "beta"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        let alpha = controller.get(&admin, "/orgs/main/projects/alpha").await.expect(200);
        let given = [("if-match", alpha.headers["etag"].to_str().unwrap())];
        let change = json!({"description": "x"});
        controller.call_with(&admin, Method::PATCH, "/orgs/main/projects/beta", &change, &given).await.expect(412);
        controller.call_with(&admin, Method::PATCH, "/orgs/main/projects/alpha", &change, &given).await.expect(200);
    }

    #[tokio::test]
    async fn whoever_has_a_role_in_one_project_sees_that_one() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("alpha")))).await;
        let listed = controller.get(&reader, "/orgs/main/projects").await.expect(200);
        assert_eq!(listed.body["items"].as_array().unwrap().len(), 1);
        let none = controller.get(&reader, "/orgs/main/projects?search=beta").await.expect(200);
        assert_eq!(none.body["items"], json!([]));
        controller.get(&reader, "/orgs/main/projects/alpha").await.expect(200);
        controller.get(&reader, "/orgs/main/projects/defaultproject").await.expect(404);
        let change = json!({"public": true});
        let denied = controller.call(&reader, Method::PATCH, "/orgs/main/projects/alpha", &change).await.expect(403);
        assert_eq!(denied.body["permission"], "project.update");
        controller.post(&reader, "/orgs/main/projects", &json!({"slug": "mine"})).await.expect(403);
    }

    #[tokio::test]
    async fn only_whoever_has_all_of_the_registry_there_opens_a_project_to_everybody() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let role = json!({"name": "part", "base": "PROJECT_READ_ONLY", "added": ["project.update", "registry.manage"],
            "repositories": ["docs/**"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        let part = controller.member("part@example.com", Some(("part", Some("alpha")))).await;
        let path = "/orgs/main/projects/alpha";
        let (open, text) = (json!({"public": true}), json!({"description": "x"}));
        controller.call(&part, Method::PATCH, path, &text).await.expect(200);
        let denied = controller.call(&part, Method::PATCH, path, &open).await.expect(403);
        assert_eq!(denied.body["permission"], "registry.manage");

        let narrow =
            json!({"name": "n", "permissions": ["org.read", "project.read", "project.update", "project.create"]});
        let key = controller.post(&admin, "/orgs/main/apikeys", &narrow).await.expect(201).text("key");
        let key = Caller::Key(key);
        controller.call(&key, Method::PATCH, path, &open).await.expect(403);
        controller.post(&key, "/orgs/main/projects", &json!({"slug": "beta", "public": true})).await.expect(403);
        controller.post(&key, "/orgs/main/projects", &json!({"slug": "beta"})).await.expect(201);
        controller.call(&admin, Method::PATCH, path, &open).await.expect(200);
        // It is open already: to say so again opens nothing.
        controller.call(&part, Method::PATCH, path, &open).await.expect(200);
        controller.call(&part, Method::PATCH, path, &json!({"public": false})).await.expect(200);
        controller.call(&part, Method::PATCH, path, &open).await.expect(403);
    }
}

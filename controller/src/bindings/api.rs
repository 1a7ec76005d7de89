//! `/orgs/{org}/bindings`

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::admin::NewBinding;
use identity::rbac::{Permission, Resource, Role};
use serde::{Deserialize, Serialize};
use storage::bindings::{self, Binding};
use storage::orgs::Org;
use storage::{Session, projects, users};
use utoipa::ToSchema;

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};
use crate::page::{Bounds, Page, PageQuery};
use crate::time;
use crate::users::api::member;

/// A role that a user holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BindingView {
    /// Opaque id.
    id: String,
    /// Name of the user.
    user: String,
    /// The role.
    role: String,
    /// Slug of the project; null for the whole organization.
    project: Option<String>,
    /// Kubernetes namespaces, for the roles that need them.
    namespaces: Vec<String>,
    /// When it was made.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: i64,
}

/// A role to be given.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindingToCreate {
    /// Name of the user, a member of the organization.
    user: String,
    /// The role.
    #[schema(example = "PROJECT_ADMIN")]
    role: String,
    /// Slug of the project, for a role of projects; null for one of the organization.
    project: Option<String>,
    /// Kubernetes namespaces, for the roles that need them.
    #[serde(default)]
    namespaces: Vec<String>,
}

/// Who holds which role
///
/// Oldest first. Whoever may read members of some projects alone sees theirs.
#[utoipa::path(get, path = "/orgs/{org}/bindings", tag = "bindings",
    params(("org", description = "Slug of the organization"), PageQuery),
    responses((status = 200, description = "A page of bindings", body = Page<BindingView>)))]
pub(crate) async fn list_bindings(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<BindingView>>> {
    let org = actor.sees_org(&state, &org).await?;
    let bounds = query.bounds()?;
    let rows = in_reach(&actor, &state, &org, &bounds).await?;
    let page = bounds.page(rows, |binding| &binding.id, |binding| binding);
    let mut session = state.db().read().await?;
    let mut items = Vec::with_capacity(page.items.len());
    for binding in page.items {
        items.push(view(&mut session, binding).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// All of the organization's bindings, or those of the projects whose members the caller may read.
async fn in_reach(actor: &Actor, state: &State, org: &Org, bounds: &Bounds) -> Result<Vec<Binding>> {
    let mut session = state.db().read().await?;
    if actor.principal().reach(Permission::MemberRead).projects.is_empty() {
        actor.can(Permission::MemberRead, &in_org(org))?;
    }
    let mut shown = Vec::new();
    let mut after = bounds.after.clone();
    while shown.len() <= bounds.limit {
        let rows = bindings::list(&mut session, &org.id, &after, crate::page::MAX).await?;
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.id);
        shown.extend(rows.into_iter().filter(|binding| actor.may(Permission::MemberRead, &place(binding))));
    }
    Ok(shown)
}

/// Give a role
///
/// It takes `member.write` there and every permission that the role brings: nobody makes anybody mightier than themselves.
#[utoipa::path(post, path = "/orgs/{org}/bindings", tag = "bindings", request_body = BindingToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Given", body = BindingView)))]
pub(crate) async fn create_binding(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<BindingToCreate>,
) -> Result<(StatusCode, Json<BindingView>)> {
    let (org, project) = match &new.project {
        None => (actor.can_in_org(Permission::MemberWrite, &state, &org).await?, None),
        Some(project) => {
            let (org, project) = actor.can_in_project(Permission::MemberWrite, &state, &org, project).await?;
            (org, Some(project.id))
        }
    };
    let role = Role::find(&new.role).ok_or_else(|| Error::invalid("role", &unknown_role()))?;
    let user = member(&state, &org, &new.user).await?;
    let binding = NewBinding {
        org_id: &org.id,
        user_id: &user.user_id,
        role,
        project_id: project.as_deref(),
        namespaces: &new.namespaces,
    };
    let binding = state.identity().create_binding(&actor.caller, &binding).await?;
    let mut session = state.db().read().await?;
    Ok((StatusCode::CREATED, Json(view(&mut session, binding).await?)))
}

/// Take a role away
///
/// Access tokens that were had with it end at once.
#[utoipa::path(delete, path = "/orgs/{org}/bindings/{id}", tag = "bindings",
    params(("org", description = "Slug of the organization"), ("id", description = "Id of the binding")),
    responses((status = 204, description = "Taken away")))]
pub(crate) async fn delete_binding(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.sees_org(&state, &org).await?;
    let found = bindings::find(&mut state.db().read().await?, &org.id, &id).await?;
    let seen = found.filter(|binding| actor.may(Permission::MemberRead, &place(binding)));
    let binding = seen.ok_or(Error::NotFound("binding"))?;
    actor.can(Permission::MemberWrite, &place(&binding))?;
    state.identity().delete_binding(&actor.caller, &org.id, &binding.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Where a binding holds.
fn place(binding: &Binding) -> Resource<'_> {
    match &binding.project_id {
        Some(project_id) => Resource::Project { org_id: &binding.org_id, project_id },
        None => Resource::Org { org_id: &binding.org_id },
    }
}

fn unknown_role() -> String {
    let known = Role::all().filter(|role| role.token() != Role::PLATFORM_OPERATOR).map(Role::token);
    format!("use one of {}", known.collect::<Vec<_>>().join(", "))
}

async fn view(session: &mut Session, binding: Binding) -> Result<BindingView> {
    let user = users::find(session, &binding.user_id).await?.map(|user| user.name).unwrap_or_default();
    let project = match &binding.project_id {
        Some(id) => projects::find(session, id).await?.map(|project| project.slug),
        None => None,
    };
    let Binding { id, role, namespaces, created_at, .. } = binding;
    Ok(BindingView { id, user, role, project, namespaces, created_at })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Controller};

    #[tokio::test]
    async fn a_project_admin_gives_roles_in_that_project_alone() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("alpha")))).await;
        controller.member("dev@example.com", None).await;
        let give =
            |role: &str, project: Option<&str>| json!({"user": "dev@example.com", "role": role, "project": project});
        let given =
            controller.post(&lead, "/orgs/main/bindings", &give("PROJECT_READ_ONLY", Some("alpha"))).await.expect(201);
        assert_eq!((given.text("user"), given.text("project")), ("dev@example.com".into(), "alpha".into()));
        controller.post(&lead, "/orgs/main/bindings", &give("ADMIN", None)).await.expect(403);
        controller
            .post(&lead, "/orgs/main/bindings", &give("PROJECT_READ_ONLY", Some("defaultproject")))
            .await
            .expect(404);
        let seen = controller.get(&lead, "/orgs/main/bindings").await.expect(200);
        assert_eq!(seen.body["items"].as_array().unwrap().len(), 2, "{}", seen.body);
        let path = format!("/orgs/main/bindings/{}", given.text("id"));
        controller.call(&lead, Method::DELETE, &path, &Value::Null).await.expect(204);
        controller.call(&lead, Method::DELETE, &path, &Value::Null).await.expect(404);
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_and_the_last_admin_stays() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for (body, status) in [
            (json!({"user": ADMIN, "role": "KING"}), 422),
            (json!({"user": ADMIN, "role": "SUPER_ADMIN"}), 422),
            (json!({"user": ADMIN, "role": "PROJECT_ADMIN"}), 422),
            (json!({"user": "nobody@example.com", "role": "AUDITOR"}), 404),
            (json!({"user": ADMIN, "role": "ADMIN"}), 409),
        ] {
            controller.post(&admin, "/orgs/main/bindings", &body).await.expect(status);
        }
        let listed = controller.get(&admin, "/orgs/main/bindings").await.expect(200);
        let id = listed.body["items"][0]["id"].as_str().unwrap().to_owned();
        let path = format!("/orgs/main/bindings/{id}");
        controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(409);
    }
}

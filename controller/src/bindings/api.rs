//! `/orgs/{org}/bindings`

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::admin::NewBinding;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::bindings::{self, Binding, BindingFilter, Subject};
use storage::orgs::Org;
use storage::{groups, memberships, projects};
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::etag::{Created, segment};
use crate::extract::{self, Path, Query};
use crate::groups::api::{group_of, shown};
use crate::page::{Page, PageQuery};
use crate::roles::api::{key_of, role_of};
use crate::time;
use crate::users::api::member;

/// A role that a user or a group holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BindingView {
    /// Opaque id.
    pub(crate) id: String,
    /// Name of the user; null where it is a group's.
    pub(crate) user: Option<String>,
    /// Name of the group; null where it is a user's own.
    pub(crate) group: Option<String>,
    /// The role: a base role's token, or a custom role's name.
    pub(crate) role: String,
    /// Slug of the project; null for the whole organization.
    pub(crate) project: Option<String>,
    /// Kubernetes namespaces, for the roles that need them.
    pub(crate) namespaces: Vec<String>,
    /// Whether it is part of the organization, which cannot be taken away.
    pub(crate) builtin: bool,
    /// When it was made.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
}

impl From<Binding> for BindingView {
    fn from(binding: Binding) -> Self {
        Self {
            id: binding.id,
            user: binding.user.as_deref().map(|name| shown(name).to_owned()),
            group: binding.group,
            role: binding.role_name.unwrap_or(binding.role),
            project: binding.project,
            namespaces: binding.namespaces,
            builtin: binding.builtin,
            created_at: binding.created_at,
        }
    }
}

/// A role to be given, to a user or to a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindingToCreate {
    /// Name of the user, a member of the organization.
    pub(crate) user: Option<String>,
    /// Name of the group.
    pub(crate) group: Option<String>,
    /// The role: a base role's token, or a custom role's name.
    #[schema(example = "PROJECT_ADMIN")]
    pub(crate) role: String,
    /// Slug of the project, for a role of projects; null for one of the organization.
    pub(crate) project: Option<String>,
    /// Kubernetes namespaces, for the roles that need them.
    #[serde(default)]
    pub(crate) namespaces: Vec<String>,
}

/// Which bindings. All that is given has to hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct BindingsQuery {
    /// Only this user's own.
    pub(crate) user: Option<String>,
    /// Only this group's.
    pub(crate) group: Option<String>,
    /// Only on this project.
    pub(crate) project: Option<String>,
    /// Only of this role.
    pub(crate) role: Option<String>,
    /// Only on the whole organization (`true`), or only on projects (`false`).
    pub(crate) whole: Option<bool>,
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<i64>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
}

/// Who holds which role
///
/// Oldest first. Whoever may read members of some projects alone sees theirs.
#[utoipa::path(get, path = "/orgs/{org}/bindings", tag = "bindings",
    params(("org", description = "Slug of the organization"), BindingsQuery),
    responses((status = 200, description = "A page of bindings", body = Page<BindingView>)))]
pub(crate) async fn list_bindings(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<BindingsQuery>,
) -> Result<Json<Page<BindingView>>> {
    let org = actor.sees_org(&state, &org).await?;
    let bounds = PageQuery { limit: query.limit, after: query.after }.bounds()?;
    let within = match actor.may(Permission::MemberRead, &in_org(&org)) {
        true => None,
        false => Some(actor.principal().reach(Permission::MemberRead).projects),
    };
    if within.as_ref().is_some_and(Vec::is_empty) {
        actor.can(Permission::MemberRead, &in_org(&org))?;
    }
    let mut session = state.db().read().await?;
    // A name that nothing has matches no binding.
    let nothing = || Some(String::new());
    let user = match &query.user {
        Some(name) => {
            let found = memberships::find_by_name(&mut session, &org.id, &identity::name::normalise(name)).await?;
            found.map(|member| member.user_id).or_else(nothing)
        }
        None => None,
    };
    let group = match &query.group {
        Some(name) => groups::find_by_name(&mut session, &org.id, name).await?.map(|group| group.id).or_else(nothing),
        None => None,
    };
    let project = match &query.project {
        Some(slug) => projects::find_by_slug(&mut session, &org.id, slug).await?.map(|p| p.id).or_else(nothing),
        None => None,
    };
    let role = match &query.role {
        Some(name) => key_of(&mut session, &org, name).await?.or_else(nothing),
        None => None,
    };
    let filter = BindingFilter {
        user_id: user.as_deref(),
        group_id: group.as_deref(),
        project_id: project.as_deref(),
        role: role.as_deref(),
        whole: query.whole,
        within: within.as_deref(),
    };
    let rows = bindings::list(&mut session, &org.id, &filter, &bounds.after, bounds.fetch()).await?;
    Ok(Json(bounds.page(rows, |binding| &binding.id, Into::into)))
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
) -> Result<Created<BindingView>> {
    let (org, project) = match &new.project {
        None => (actor.can_in_org(Permission::MemberWrite, &state, &org).await?, None),
        Some(project) => {
            let (org, project) = actor.can_in_project(Permission::MemberWrite, &state, &org, project).await?;
            (org, Some(project.id))
        }
    };
    let role = role_of(&actor, &state, &org, &new.role).await?;
    let (user, group) = match (&new.user, &new.group) {
        (Some(name), None) => {
            // Whoever may not see who is here learns nothing of it.
            if !actor.may(Permission::UserRead, &in_org(&org)) {
                return Err(Error::NotFound("user"));
            }
            (Some(member(&state, &org, name).await?.user_id), None)
        }
        (None, Some(name)) => (None, Some(group_of(&actor, &state, &org, name).await?.id)),
        _ => return Err(Error::invalid("user", "name a user or a group, one of them")),
    };
    let subject = match (&user, &group) {
        (Some(user), _) => Subject::User(user),
        (None, Some(group)) => Subject::Group(group),
        (None, None) => return Err(Error::NotFound("user")),
    };
    let binding = NewBinding {
        org_id: &org.id,
        subject,
        role: &role,
        project_id: project.as_deref(),
        namespaces: &new.namespaces,
    };
    let binding = state.identity().create_binding(&actor.caller, &binding).await?;
    let at = format!("/orgs/{}/bindings/{}", org.slug, segment(&binding.id));
    Ok(Created { at, tag: None, body: binding.into() })
}

/// A role that a user or a group holds
#[utoipa::path(get, path = "/orgs/{org}/bindings/{id}", tag = "bindings",
    params(("org", description = "Slug of the organization"), ("id", description = "Id of the binding")),
    responses((status = 200, description = "The binding", body = BindingView)))]
pub(crate) async fn get_binding(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Json<BindingView>> {
    Ok(Json(seen_binding(&actor, &state, &org, &id).await?.1.into()))
}

/// A binding that the caller may see.
async fn seen_binding(actor: &Actor, state: &State, org: &str, id: &str) -> Result<(Org, Binding)> {
    let org = actor.sees_org(state, org).await?;
    let found = bindings::find(&mut state.db().read().await?, &org.id, id).await?;
    let seen = found.filter(|binding| actor.may(Permission::MemberRead, &place(binding)));
    Ok((org, seen.ok_or(Error::NotFound("binding"))?))
}

/// Take a role away
///
/// Access tokens that were had with it end at once. Whoever takes a role could have given it.
#[utoipa::path(delete, path = "/orgs/{org}/bindings/{id}", tag = "bindings",
    params(("org", description = "Slug of the organization"), ("id", description = "Id of the binding")),
    responses((status = 204, description = "Taken away")))]
pub(crate) async fn delete_binding(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    let (org, binding) = seen_binding(&actor, &state, &org, &id).await?;
    actor.can_named(Permission::MemberWrite, &place(&binding), &org, binding.project.as_deref())?;
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
        let only = controller.get(&lead, "/orgs/main/bindings?whole=true").await.expect(200);
        assert_eq!(only.body["items"], json!([]));
        let path = format!("/orgs/main/bindings/{}", given.text("id"));
        assert_eq!(controller.get(&lead, &path).await.expect(200).body, given.body);
        let whole = controller.get(&admin, "/orgs/main/bindings?whole=true").await.expect(200);
        assert_eq!(whole.body["items"].as_array().unwrap().len(), 1, "{}", whole.body);
        let hidden = format!("/orgs/main/bindings/{}", whole.body["items"][0]["id"].as_str().unwrap());
        controller.get(&lead, &hidden).await.expect(404);
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
            (json!({"user": ADMIN, "group": "Organization Admins", "role": "AUDITOR"}), 422),
            (json!({"role": "AUDITOR"}), 422),
            (json!({"group": "nobody", "role": "AUDITOR"}), 404),
            (json!({"user": ADMIN, "role": "ADMIN"}), 201),
            (json!({"user": ADMIN, "role": "ADMIN"}), 409),
        ] {
            controller.post(&admin, "/orgs/main/bindings", &body).await.expect(status);
        }
        let own = controller.get(&admin, &format!("/orgs/main/bindings?user={ADMIN}")).await.expect(200);
        let path = format!("/orgs/main/bindings/{}", own.body["items"][0]["id"].as_str().unwrap());
        let group = format!("/orgs/main/groups/Organization%20Admins/members/{ADMIN}");
        controller.call(&admin, Method::DELETE, &group, &Value::Null).await.expect(204);
        controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(409);
        controller.post(&admin, &format!("/orgs/main/users/{ADMIN}/deactivate"), &Value::Null).await.expect(409);
        let empty = controller.get(&admin, "/orgs/main/bindings?role=nothing").await.expect(200);
        assert_eq!(empty.body["items"], json!([]));
    }
}

//! `/orgs/{org}/users`

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::Secret;
use identity::admin::{AddedUser, NewUser, UserKind};
use identity::name::{UserName, normalise};
use identity::rbac::Permission;
use serde::{Deserialize, Serialize};
use storage::memberships::{self, Member};
use storage::orgs::Org;
use utoipa::ToSchema;

use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;

/// A user as a member of the organization.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    /// Opaque id.
    id: String,
    /// E-mail, or a machine's name.
    name: String,
    /// `local` or `machine`.
    kind: String,
    /// Whether they have access to this organization at all.
    active: bool,
    /// Since when they are a member.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: i64,
}

impl From<Member> for UserView {
    fn from(member: Member) -> Self {
        let Member { user_id, name, kind, active, created_at, .. } = member;
        Self { id: user_id, name, kind, active, created_at }
    }
}

/// What kind of user.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A person with a password.
    Local,
    /// A program: API keys only.
    Machine,
}

/// A user to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserToCreate {
    /// E-mail of a person, or a machine's name.
    #[schema(example = "dev@example.com")]
    name: String,
    /// Which of the two.
    kind: Kind,
    /// A person's password; a temporary one is made where it is not given.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<Secret>,
}

/// A user who was added.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedUser {
    /// They.
    #[serde(flatten)]
    user: UserView,
    /// The password that was made, shown this once; it ends after 72 hours, and the first log-in has to choose another.
    #[serde(skip_serializing_if = "Option::is_none")]
    temporary_password: Option<String>,
}

impl From<AddedUser> for CreatedUser {
    fn from(added: AddedUser) -> Self {
        let temporary_password = added.temporary_password.map(|secret| secret.expose().to_owned());
        Self { user: added.member.into(), temporary_password }
    }
}

/// Users of an organization
///
/// By name.
#[utoipa::path(get, path = "/orgs/{org}/users", tag = "users",
    params(("org", description = "Slug of the organization"), PageQuery),
    responses((status = 200, description = "A page of users", body = Page<UserView>)))]
pub(crate) async fn list_users(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<UserView>>> {
    let org = actor.can_in_org(Permission::UserRead, &state, &org).await?;
    let bounds = query.bounds()?;
    let rows = memberships::list(&mut state.db().read().await?, &org.id, &bounds.after, bounds.fetch()).await?;
    Ok(Json(bounds.page(rows, |member| &member.name, UserView::from)))
}

/// Add a user to an organization
///
/// Somebody who has an account already is added with the credentials that they have.
#[utoipa::path(post, path = "/orgs/{org}/users", tag = "users", request_body = UserToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Added", body = CreatedUser)))]
pub(crate) async fn create_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<UserToCreate>,
) -> Result<(StatusCode, Json<CreatedUser>)> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let name: UserName = new.name.parse().map_err(|error| Error::invalid("name", &error))?;
    let kind = match new.kind {
        Kind::Local => UserKind::Local,
        Kind::Machine => UserKind::Machine,
    };
    let new = NewUser { name: &name, kind, password: new.password.as_ref() };
    let added = state.identity().add_user(&actor.caller, &org.id, &new).await?;
    Ok((StatusCode::CREATED, Json(added.into())))
}

/// A user of an organization
#[utoipa::path(get, path = "/orgs/{org}/users/{name}", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 200, description = "The user", body = UserView)))]
pub(crate) async fn get_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<Json<UserView>> {
    let org = actor.can_in_org(Permission::UserRead, &state, &org).await?;
    Ok(Json(member(&state, &org, &name).await?.into()))
}

/// Take a user's access to this organization away
///
/// On every channel and at once; `activate` restores it.
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/deactivate", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 204, description = "Deactivated")))]
pub(crate) async fn deactivate_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    set_active(&actor, &state, &org, &name, false).await
}

/// Give a user's access to this organization back
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/activate", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 204, description = "Activated")))]
pub(crate) async fn activate_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    set_active(&actor, &state, &org, &name, true).await
}

async fn set_active(actor: &Actor, state: &State, org: &Org, name: &str, active: bool) -> Result<StatusCode> {
    let member = member(state, org, name).await?;
    state.identity().set_active(&actor.caller, &org.id, &member.user_id, active).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lift the lock that failed log-ins put on a user
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/unlock", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 204, description = "Unlocked")))]
pub(crate) async fn unlock_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let member = member(&state, &org, &name).await?;
    state.identity().unlock(&actor.caller, &org.id, &member.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The member of that name.
///
/// # Errors
/// 404 where there is none.
pub(crate) async fn member(state: &State, org: &Org, name: &str) -> Result<Member> {
    let mut session = state.db().read().await?;
    let found = memberships::find_by_name(&mut session, &org.id, &normalise(name)).await?;
    found.ok_or(Error::NotFound("user"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Controller, PASSWORD};

    #[tokio::test]
    async fn a_deactivated_user_is_out_at_once_and_back_with_everything() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let user = controller.member("dev@example.com", Some(("ADMIN", None))).await;
        controller.get(&user, "/orgs/main").await.expect(200);
        let path = "/orgs/main/users/dev@example.com";
        controller.post(&admin, &format!("{path}/deactivate"), &Value::Null).await.expect(204);
        controller.get(&user, "/orgs/main").await.expect(401);
        controller.try_login("dev@example.com", PASSWORD).await.expect(401);
        assert_eq!(controller.get(&admin, path).await.expect(200).body["active"], false);
        controller.post(&admin, &format!("{path}/activate"), &Value::Null).await.expect(204);
        let user = controller.login("Dev@Example.com").await;
        controller.get(&user, "/orgs/main").await.expect(200);
    }

    #[tokio::test]
    async fn somebody_of_another_organization_is_added_with_the_credentials_they_have() {
        let controller = Controller::start().await;
        controller.other_org().await;
        let admin = controller.login(ADMIN).await;
        let body = json!({"name": "boss@other.example", "kind": "local"});
        let added = controller.post(&admin, "/orgs/main/users", &body).await.expect(201);
        assert!(added.body.get("temporary_password").is_none());
        controller.post(&admin, "/orgs/main/users", &body).await.expect(409);
        controller.login("boss@other.example").await;
    }

    #[tokio::test]
    async fn a_locked_user_is_unlocked_by_an_admin() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.member("dev@example.com", None).await;
        for _ in 0..5 {
            controller.try_login("dev@example.com", "wrong").await.expect(401);
        }
        controller.try_login("dev@example.com", PASSWORD).await.expect(429);
        controller.post(&admin, "/orgs/main/users/dev@example.com/unlock", &Value::Null).await.expect(204);
        controller.try_login("dev@example.com", PASSWORD).await.expect(200);
    }

    #[tokio::test]
    async fn machines_have_no_password_and_no_session() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let with = json!({"name": "ci", "kind": "machine", "password": PASSWORD});
        controller.post(&admin, "/orgs/main/users", &with).await.expect(422);
        controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
        let key = controller.post(&admin, "/orgs/main/apikeys", &json!({"name": "k", "user": "ci"})).await.expect(201);
        controller.try_login("ci", &key.text("key")).await.expect(401);
    }
}

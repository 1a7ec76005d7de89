//! `/orgs/{org}/apikeys`

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::admin::NewApiKey;
use identity::name::normalise;
use identity::rbac::{Permission, Principal, UnknownPermission};
use serde::{Deserialize, Serialize};
use storage::api_keys::{self, ApiKey, ApiKeyFilter};
use storage::orgs::Org;
use storage::{Session, memberships, projects};
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org, in_project};
use crate::error::{Error, Result};
use crate::etag::Created;
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;
use crate::users::api::member;

/// Projects that a key may be narrowed to at most.
const MAX_NARROW: usize = 100;

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyView {
    /// The key's public part.
    pub(crate) id: String,
    /// What its maker called it.
    pub(crate) name: String,
    /// Name of the user whose rights it carries.
    pub(crate) user: String,
    /// When it was made.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// When it ends, if ever.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) expires_at: Option<i64>,
    /// When it last let somebody in, to the minute.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_used_at: Option<i64>,
    /// The address from which it did.
    pub(crate) last_used_from: Option<String>,
    /// Slugs of the projects that it is narrowed to; null: all of its user's.
    pub(crate) projects: Option<Vec<String>>,
    /// Permissions that it is narrowed to; null: all of its user's.
    pub(crate) permissions: Option<Vec<String>>,
    /// Name of the user who made it, while they belong to the organization.
    pub(crate) created_by: Option<String>,
}

/// An API key to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyToCreate {
    /// What it is for.
    #[schema(example = "ci", min_length = 1, max_length = 128)]
    pub(crate) name: String,
    /// Name of the user whose rights it carries; oneself where it is not given. For another it takes `apikey.manage`,
    /// `member.write` and every right that they have in the organization.
    pub(crate) user: Option<String>,
    /// Days until it ends. As long as the organization, or what it set for the user, allows where it is not given.
    #[schema(minimum = 1, maximum = 3650)]
    pub(crate) valid_days: Option<u32>,
    /// Slugs of the projects that it is narrowed to.
    #[schema(min_items = 1, max_items = 100)]
    pub(crate) projects: Option<Vec<String>>,
    /// Permissions that it is narrowed to.
    #[schema(min_items = 1, max_items = 100, example = json!(["registry.pull"]))]
    pub(crate) permissions: Option<Vec<String>>,
}

/// Which API keys.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ApiKeyQuery {
    /// Only those of this user. Another's need `apikey.manage`.
    pub(crate) user: Option<String>,
}

/// An API key that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedApiKey {
    /// The whole key, shown this once.
    #[schema(example = "ra2.<40 hexadecimal>.<64 hexadecimal>")]
    pub(crate) key: String,
    /// The rest of it.
    #[serde(flatten)]
    pub(crate) view: ApiKeyView,
}

/// API keys
///
/// In order of their ids: one's own, or everybody's with `apikey.manage`.
#[utoipa::path(get, path = "/orgs/{org}/apikeys", tag = "API keys",
    params(("org", description = "Slug of the organization"), ApiKeyQuery, PageQuery),
    responses((status = 200, description = "A page of API keys", body = Page<ApiKeyView>)))]
pub(crate) async fn list_api_keys(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(which): Query<ApiKeyQuery>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ApiKeyView>>> {
    let org = actor.can_in_org(Permission::ApikeyOwn, &state, &org).await?;
    let bounds = query.bounds()?;
    let own = actor.principal().user_id.clone();
    let user_id = match &which.user {
        Some(name) if normalise(name) != actor.principal().name => {
            actor.can(Permission::ApikeyManage, &in_org(&org))?;
            Some(member(&state, &org, name).await?.user_id)
        }
        Some(_) => Some(own),
        None if actor.may(Permission::ApikeyManage, &in_org(&org)) => None,
        None => Some(own),
    };
    let mut session = state.db().read().await?;
    let filter = ApiKeyFilter { org_id: &org.id, user_id: user_id.as_deref() };
    let rows = api_keys::list(&mut session, &filter, &bounds.after, bounds.fetch()).await?;
    let page = bounds.page(rows, |key| &key.id, |key| key);
    let mut items = Vec::with_capacity(page.items.len());
    for key in page.items {
        items.push(view(&mut session, key).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// Make an API key
///
/// It carries the user's rights in this organization. A session is needed: a key that makes keys would outlive its
/// revocation.
///
/// Who has `apikey.manage` and `member.write` makes keys for other people and for machines that have no more rights in the
/// organization than they. A person hears of it by mail, and such a key counts only while its maker is an active member with
/// every right that the person has there; a machine's key stays when its maker goes.
#[utoipa::path(post, path = "/orgs/{org}/apikeys", tag = "API keys", request_body = ApiKeyToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Made", body = CreatedApiKey)))]
pub(crate) async fn create_api_key(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<ApiKeyToCreate>,
) -> Result<Created<CreatedApiKey>> {
    let org = actor.can_in_org(Permission::ApikeyOwn, &state, &org).await?;
    if actor.by_key() {
        return Err(Error::Forbidden("an API key cannot make API keys: log in with a password"));
    }
    let user_id = match &new.user {
        Some(name) if normalise(name) != actor.principal().name => {
            actor.can_named(Permission::ApikeyManage, &in_org(&org), &org, None)?;
            actor.can_named(Permission::MemberWrite, &in_org(&org), &org, None)?;
            covered(&actor, &state, &org, name).await?
        }
        _ => actor.principal().user_id.clone(),
    };
    let projects = match &new.projects {
        Some(slugs) => Some(project_ids(&actor, &state, &org, slugs).await?),
        None => None,
    };
    let permissions = new.permissions.as_ref().map(|names| names.iter().map(|name| name.parse()).collect());
    let permissions: Option<Vec<Permission>> = permissions.transpose().map_err(|error| unknown(&error))?;
    let key = NewApiKey {
        org_id: &org.id,
        user_id: &user_id,
        name: &new.name,
        valid_days: new.valid_days,
        projects: projects.as_deref(),
        permissions: permissions.as_deref(),
    };
    let made = state.identity().create_api_key(&actor.caller, &key).await?;
    let view = view(&mut state.db().read().await?, made.row).await?;
    let at = format!("/orgs/{}/apikeys/{}", org.slug, view.id);
    Ok(Created { at, tag: None, body: CreatedApiKey { key: made.key.expose().to_owned(), view } })
}

fn unknown(error: &UnknownPermission) -> Error {
    Error::invalid("permissions", error)
}

/// The member of that name, if the caller has every right that they have in the organization: their key gives those.
async fn covered(actor: &Actor, state: &State, org: &Org, name: &str) -> Result<String> {
    let member = member(state, org, name).await?;
    if let Some(theirs) = state.identity().principal(&member.user_id, None).await? {
        let mut here = Principal::clone(&theirs);
        here.grants.retain(|grant| grant.org_id == org.id);
        actor.principal().covers(&here)?;
    }
    Ok(member.user_id)
}

/// Ids of projects that the caller sees, by their slugs.
async fn project_ids(actor: &Actor, state: &State, org: &Org, slugs: &[String]) -> Result<Vec<String>> {
    if slugs.len() > MAX_NARROW {
        return Err(Error::invalid("projects", &format!("at most {MAX_NARROW}")));
    }
    let mut session = state.db().read().await?;
    let mut ids = Vec::with_capacity(slugs.len());
    for slug in slugs {
        let found = projects::find_by_slug(&mut session, &org.id, slug).await?;
        let seen = found.filter(|project| actor.may(Permission::ProjectRead, &in_project(project)));
        ids.push(seen.ok_or(Error::NotFound("project"))?.id);
    }
    Ok(ids)
}

/// An API key
#[utoipa::path(get, path = "/orgs/{org}/apikeys/{id}", tag = "API keys",
    params(("org", description = "Slug of the organization"), ("id", description = "The key's public part")),
    responses((status = 200, description = "The API key, without its secret", body = ApiKeyView)))]
pub(crate) async fn get_api_key(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Json<ApiKeyView>> {
    let (_, key) = seen_key(&actor, &state, &org, &id).await?;
    Ok(Json(view(&mut state.db().read().await?, key).await?))
}

/// Revoke an API key
///
/// It and the access tokens that were had with it end at once.
#[utoipa::path(delete, path = "/orgs/{org}/apikeys/{id}", tag = "API keys",
    params(("org", description = "Slug of the organization"), ("id", description = "The key's public part")),
    responses((status = 204, description = "Revoked")))]
pub(crate) async fn delete_api_key(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<StatusCode> {
    let (org, key) = seen_key(&actor, &state, &org, &id).await?;
    state.identity().delete_api_key(&actor.caller, &org.id, &key.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A key that the caller may see: their own, or anybody's with `apikey.manage`.
async fn seen_key(actor: &Actor, state: &State, org: &str, id: &str) -> Result<(Org, ApiKey)> {
    let org = actor.can_in_org(Permission::ApikeyOwn, state, org).await?;
    let found = api_keys::find(&mut state.db().read().await?, id).await?;
    let seen = found.filter(|key| {
        let own = key.user_id == actor.principal().user_id;
        key.org_id == org.id && (own || actor.may(Permission::ApikeyManage, &in_org(&org)))
    });
    Ok((org, seen.ok_or(Error::NotFound("API key"))?))
}

pub(crate) async fn view(session: &mut Session, key: ApiKey) -> Result<ApiKeyView> {
    let mut name_of = async |user_id: &str| -> Result<Option<String>> {
        Ok(memberships::find(session, &key.org_id, user_id).await?.map(|member| member.name))
    };
    let user = name_of(&key.user_id).await?.unwrap_or_default();
    let created_by = match &key.created_by {
        Some(maker) => name_of(maker).await?,
        None => None,
    };
    let list = |text: Option<&String>| text.map(|text| serde_json::from_str::<Vec<String>>(text).unwrap_or_default());
    let projects = match list(key.projects.as_ref()) {
        Some(ids) => {
            let mut slugs = Vec::with_capacity(ids.len());
            for id in &ids {
                // One that was deleted since gives nothing.
                slugs.extend(projects::find(session, id).await?.map(|project| project.slug));
            }
            slugs.sort_unstable();
            Some(slugs)
        }
        None => None,
    };
    let permissions = list(key.permissions.as_ref());
    let ApiKey { id, name, created_at, expires_at, last_used_at, last_used_from, .. } = key;
    Ok(ApiKeyView {
        id,
        name,
        user,
        created_at,
        expires_at,
        last_used_at,
        last_used_from,
        projects,
        permissions,
        created_by,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Caller, Controller};

    const KEYS: &str = "/orgs/main/apikeys";
    const ANN: &str = "ann@example.com";
    const BOB: &str = "bob@example.com";

    #[tokio::test]
    async fn a_key_made_for_a_person_counts_while_its_maker_may_do_all_that_they_may() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let ann = controller.member(ANN, Some(("ADMIN", None))).await;
        let bob = controller.member(BOB, Some(("AUDITOR", None))).await;
        controller.mails().await;
        let made = controller.post(&ann, KEYS, &json!({"name": "for-bob", "user": BOB})).await.expect(201);
        let told = controller.mail_to(BOB).await;
        assert!(told.text.contains(ANN) && told.text.contains(&made.text("id")), "{}", told.text);
        controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
        let body = json!({"user": "ci", "role": "AUDITOR"});
        controller.post(&admin, "/orgs/main/bindings", &body).await.expect(201);
        let machine = controller.post(&ann, KEYS, &json!({"name": "ci", "user": "ci"})).await.expect(201).text("key");
        let own = controller.post(&bob, KEYS, &json!({"name": "own"})).await.expect(201).text("key");
        let (key, machine, own) = (Caller::Key(made.text("key")), Caller::Key(machine), Caller::Key(own));
        controller.get(&key, "/orgs/main").await.expect(200);

        // Less than the owner: refused; as much again: good again.
        let listed = controller.get(&admin, &format!("/orgs/main/bindings?user={ANN}")).await.expect(200);
        let id = listed.body["items"][0]["id"].as_str().unwrap().to_owned();
        controller.call(&admin, Method::DELETE, &format!("/orgs/main/bindings/{id}"), &Value::Null).await.expect(204);
        controller.get(&key, "/orgs/main").await.expect(401);
        let body = json!({"user": ANN, "role": "ADMIN"});
        controller.post(&admin, "/orgs/main/bindings", &body).await.expect(201);
        controller.get(&key, "/orgs/main").await.expect(200);

        // Gone: refused. What the machine and the owner have by themselves stays.
        let path = format!("/orgs/main/users/{ANN}");
        controller.post(&admin, &format!("{path}/deactivate"), &Value::Null).await.expect(204);
        controller.get(&key, "/orgs/main").await.expect(401);
        controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(204);
        controller.get(&key, "/orgs/main").await.expect(401);
        controller.get(&machine, "/orgs/main").await.expect(200);
        controller.get(&own, "/orgs/main").await.expect(200);
    }

    #[tokio::test]
    async fn a_key_for_another_takes_the_right_to_let_members_do_things() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let role = json!({"name": "keys", "base": "AUDITOR", "added": ["apikey.manage"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        controller.member(BOB, None).await;
        let keys = controller.member(ANN, Some(("keys", None))).await;
        let denied = controller.post(&keys, KEYS, &json!({"name": "k", "user": BOB})).await.expect(403);
        assert_eq!(denied.body["permission"], "member.write");
        controller.post(&admin, KEYS, &json!({"name": "k", "user": BOB})).await.expect(201);
    }

    #[tokio::test]
    async fn an_api_key_makes_nobody_who_makes_others() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.member(ANN, None).await;
        controller.member(BOB, Some(("ADMIN", None))).await;
        let key = controller.post(&admin, KEYS, &json!({"name": "k"})).await.expect(201).text("key");
        let key = Caller::Key(key);
        let refused = [
            ("/orgs/main/bindings", json!({"user": ANN, "role": "ADMIN"})),
            ("/orgs/main/bindings", json!({"user": ANN, "role": "PROJECT_ADMIN", "project": "defaultproject"})),
            ("/orgs/main/groups/Organization%20Admins/members", json!({"user": ANN})),
            (
                "/orgs/main/users",
                json!({"name": "eve@example.com", "kind": "local", "groups": ["Organization Admins"]}),
            ),
            ("/orgs/main/roles", json!({"name": "users", "base": "AUDITOR", "added": ["user.write"]})),
        ];
        for (path, body) in &refused {
            let denied = controller.post(&key, path, body).await.expect(403);
            assert!(denied.text("detail").contains("log in"), "{}", denied.body);
        }
        // It does everything else, takes away too, but lets nobody mighty in again.
        controller.post(&key, "/orgs/main/bindings", &json!({"user": ANN, "role": "AUDITOR"})).await.expect(201);
        let body = json!({"name": "max@example.com", "kind": "local"});
        controller.post(&key, "/orgs/main/users", &body).await.expect(201);
        let path = format!("/orgs/main/users/{BOB}");
        controller.post(&key, &format!("{path}/deactivate"), &Value::Null).await.expect(204);
        controller.post(&key, &format!("{path}/activate"), &Value::Null).await.expect(403);
        controller.post(&admin, &format!("{path}/activate"), &Value::Null).await.expect(204);
        for (path, body) in &refused {
            controller.post(&admin, path, body).await.expect(201);
        }
    }

    #[tokio::test]
    async fn nobody_rules_over_somebody_mightier() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let role = json!({"name": "hr", "base": "AUDITOR", "added": ["user.read", "user.write"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        let hr = controller.member(ANN, Some(("hr", None))).await;
        let boss = controller.member(BOB, Some(("ADMIN", None))).await;
        controller.member("dev@example.com", Some(("AUDITOR", None))).await;
        let path = format!("/orgs/main/users/{BOB}");
        let tries = [
            (Method::POST, "/deactivate"),
            (Method::POST, "/activate"),
            (Method::POST, "/mfa/reset"),
            (Method::DELETE, "/sessions"),
            (Method::DELETE, ""),
        ];
        for (method, tail) in &tries {
            let path = format!("{path}{tail}");
            let denied = controller.call(&hr, method.clone(), &path, &Value::Null).await.expect(403);
            assert_eq!(denied.body["type"], "urn:wharfinger:problem:denied", "{path}");
        }
        controller.get(&boss, "/session").await.expect(200);
        // What somebody would have again counts.
        controller.post(&admin, &format!("{path}/deactivate"), &Value::Null).await.expect(204);
        controller.post(&hr, &format!("{path}/activate"), &Value::Null).await.expect(403);
        controller.call(&hr, Method::DELETE, &path, &Value::Null).await.expect(403);
        for (method, tail) in tries {
            let path = format!("/orgs/main/users/dev@example.com{tail}");
            controller.call(&hr, method, &path, &Value::Null).await.expect(204);
        }
    }
}

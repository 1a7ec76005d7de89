//! `/orgs/{org}/apikeys`

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::admin::NewApiKey;
use identity::name::normalise;
use identity::rbac::Permission;
use serde::{Deserialize, Serialize};
use storage::api_keys::{self, ApiKey, ApiKeyFilter};
use storage::{Session, users};
use utoipa::ToSchema;

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;
use crate::users::api::member;

/// An API key, without its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ApiKeyView {
    /// The key's public part.
    id: String,
    /// What its maker called it.
    name: String,
    /// Name of the user whose rights it carries.
    user: String,
    /// When it was made.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    created_at: i64,
    /// When it ends, if ever.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    expires_at: Option<i64>,
    /// When it last let somebody in, to the hour.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    last_used_at: Option<i64>,
}

/// An API key to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ApiKeyToCreate {
    /// What it is for.
    #[schema(example = "ci", min_length = 1, max_length = 128)]
    name: String,
    /// Name of the user whose rights it carries; oneself where it is not given. Another's needs `apikey.manage`.
    user: Option<String>,
    /// Days until it ends; never where it is not given.
    #[schema(minimum = 1, maximum = 3650)]
    valid_days: Option<u32>,
}

/// An API key that was made.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedApiKey {
    /// The whole key, shown this once.
    #[schema(example = "ra2.<40 hexadecimal>.<64 hexadecimal>")]
    key: String,
    /// The rest of it.
    #[serde(flatten)]
    view: ApiKeyView,
}

/// API keys
///
/// In order of their ids: one's own, or everybody's with `apikey.manage`.
#[utoipa::path(get, path = "/orgs/{org}/apikeys", tag = "API keys",
    params(("org", description = "Slug of the organization"), PageQuery),
    responses((status = 200, description = "A page of API keys", body = Page<ApiKeyView>)))]
pub(crate) async fn list_api_keys(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<ApiKeyView>>> {
    let org = actor.can_in_org(Permission::ApikeyOwn, &state, &org).await?;
    let bounds = query.bounds()?;
    let own = Some(actor.principal().user_id.as_str());
    let user_id = if actor.may(Permission::ApikeyManage, &in_org(&org)) { None } else { own };
    let mut session = state.db().read().await?;
    let filter = ApiKeyFilter { org_id: &org.id, user_id };
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
#[utoipa::path(post, path = "/orgs/{org}/apikeys", tag = "API keys", request_body = ApiKeyToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Made", body = CreatedApiKey)))]
pub(crate) async fn create_api_key(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<ApiKeyToCreate>,
) -> Result<(StatusCode, Json<CreatedApiKey>)> {
    let org = actor.can_in_org(Permission::ApikeyOwn, &state, &org).await?;
    if actor.by_key() {
        return Err(Error::Forbidden("an API key cannot make API keys: log in with a password"));
    }
    let user_id = match &new.user {
        Some(name) if normalise(name) != actor.principal().name => {
            actor.can(Permission::ApikeyManage, &in_org(&org))?;
            member(&state, &org, name).await?.user_id
        }
        _ => actor.principal().user_id.clone(),
    };
    let key = NewApiKey { org_id: &org.id, user_id: &user_id, name: &new.name, valid_days: new.valid_days };
    let made = state.identity().create_api_key(&actor.caller, &key).await?;
    let view = view(&mut state.db().read().await?, made.row).await?;
    Ok((StatusCode::CREATED, Json(CreatedApiKey { key: made.key.expose().to_owned(), view })))
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
    let org = actor.can_in_org(Permission::ApikeyOwn, &state, &org).await?;
    let found = api_keys::find(&mut state.db().read().await?, &id).await?;
    let seen = found.filter(|key| {
        let own = key.user_id == actor.principal().user_id;
        key.org_id == org.id && (own || actor.may(Permission::ApikeyManage, &in_org(&org)))
    });
    let key = seen.ok_or(Error::NotFound("API key"))?;
    state.identity().delete_api_key(&actor.caller, &org.id, &key.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn view(session: &mut Session, key: ApiKey) -> Result<ApiKeyView> {
    let user = users::find(session, &key.user_id).await?.map(|user| user.name).unwrap_or_default();
    let ApiKey { id, name, created_at, expires_at, last_used_at, .. } = key;
    Ok(ApiKeyView { id, name, user, created_at, expires_at, last_used_at })
}

//! `/account`

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use storage::memberships::{self, Member, UpdateMember};
use storage::orgs::{self, Org, OrgSettings};
use utoipa::ToSchema;

use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract;
use crate::time;

/// Oneself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AccountView {
    /// E-mail, or a machine's name.
    pub(crate) name: String,
    /// `local` or `machine`.
    #[schema(example = "local")]
    pub(crate) kind: &'static str,
    /// Whether one runs the platform.
    pub(crate) operator: bool,
    /// Slug of the organization that the session chose, or that the API key belongs to.
    pub(crate) org: Option<String>,
    /// What that organization knows of oneself; null without one.
    #[serde(flatten)]
    pub(crate) profile: Option<ProfileView>,
}

/// What an organization knows of somebody.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProfileView {
    /// First name; may be empty.
    pub(crate) first_name: String,
    /// Last name; may be empty.
    pub(crate) last_name: String,
    /// Whether one has a second factor.
    pub(crate) mfa: bool,
    /// Longest validity of new API keys, in days; null: what the organization says.
    pub(crate) key_valid_days: Option<i64>,
    /// Longest validity of one's new API keys here, in days, by oneself or by the organization; null: without bound.
    pub(crate) longest_key_days: Option<i64>,
    /// When one last came to this organization by any door, to the minute.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_access_at: Option<i64>,
    /// By which door: `console`, `cli`, `api` or `registry`.
    pub(crate) last_access_door: Option<String>,
    /// Since when one is a member.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
}

impl ProfileView {
    fn of(member: Member, settings: &OrgSettings) -> Self {
        Self {
            longest_key_days: member.key_valid_days.or(settings.key_valid_days),
            first_name: member.first_name,
            last_name: member.last_name,
            mfa: member.mfa,
            key_valid_days: member.key_valid_days,
            last_access_at: member.last_access_at,
            last_access_door: member.last_access_door,
            created_at: member.created_at,
        }
    }
}

/// What of oneself changes; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"first_name": "Ann", "last_name": "Smith"}))]
pub(crate) struct AccountChange {
    /// First name.
    #[schema(max_length = 64)]
    pub(crate) first_name: Option<String>,
    /// Last name.
    #[schema(max_length = 64)]
    pub(crate) last_name: Option<String>,
}

/// Oneself, in the organization that was chosen
#[utoipa::path(get, path = "/account", tag = "account",
    responses((status = 200, description = "Oneself", body = AccountView)))]
pub(crate) async fn get_account(actor: Actor, Shared(state): Shared<State>) -> Result<Json<AccountView>> {
    view(&actor, &state, chosen(&actor, &state).await?).await
}

/// Change what the chosen organization knows of oneself
#[utoipa::path(patch, path = "/account", tag = "account", request_body = AccountChange,
    responses((status = 200, description = "Oneself as it is now", body = AccountView)))]
pub(crate) async fn update_account(
    actor: Actor,
    Shared(state): Shared<State>,
    extract::Json(change): extract::Json<AccountChange>,
) -> Result<Json<AccountView>> {
    if actor.by_key() {
        return Err(Error::Forbidden("an API key does not change its user: log in"));
    }
    let none = || Error::Conflict("choose an organization first: POST /api/v1/session/org".into());
    let (org, member) = chosen(&actor, &state).await?.ok_or_else(none)?;
    let change = UpdateMember {
        first_name: change.first_name.as_deref(),
        last_name: change.last_name.as_deref(),
        key_valid_days: None,
    };
    let member = state.identity().update_member(&actor.caller, &org.id, &member.user_id, &change, None).await?;
    view(&actor, &state, Some((org, member))).await
}

/// The organization that the session chose, or that the API key belongs to, and the caller in it.
async fn chosen(actor: &Actor, state: &State) -> Result<Option<(Org, Member)>> {
    let Some(org_id) = &actor.org_id else { return Ok(None) };
    let mut session = state.db().read().await?;
    let org = orgs::find(&mut session, org_id).await?;
    let member = memberships::find(&mut session, org_id, &actor.principal().user_id).await?;
    Ok(org.zip(member))
}

async fn view(actor: &Actor, state: &State, chosen: Option<(Org, Member)>) -> Result<Json<AccountView>> {
    let principal = actor.principal();
    let (org, profile) = match chosen {
        Some((org, member)) => {
            let settings = orgs::settings(&mut state.db().read().await?, &org.id).await?;
            (Some(org.slug), Some(ProfileView::of(member, &settings)))
        }
        None => (None, None),
    };
    Ok(Json(AccountView {
        name: principal.name.clone(),
        kind: if principal.machine { "machine" } else { "local" },
        operator: principal.operator,
        org,
        profile,
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::json;

    use crate::testing::{ADMIN, Caller, Controller, OPERATOR};

    #[tokio::test]
    async fn one_sees_and_names_oneself_in_the_chosen_organization() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let change = json!({"first_name": "Ann", "last_name": "Smith"});
        let changed = controller.call(&admin, Method::PATCH, "/account", &change).await.expect(200);
        assert_eq!((&changed.body["org"], &changed.body["last_name"]), (&json!("main"), &json!("Smith")));
        let seen = controller.get(&admin, "/account").await.expect(200).body;
        assert_eq!((&seen["first_name"], &seen["last_access_door"]), (&json!("Ann"), &json!("console")));
        assert_eq!(seen["longest_key_days"], json!(null));
        let bound = json!({"key_valid_days": 30});
        controller.call(&admin, Method::PATCH, "/orgs/main/settings", &bound).await.expect(200);
        let seen = controller.get(&admin, "/account").await.expect(200).body;
        assert_eq!((&seen["longest_key_days"], &seen["key_valid_days"]), (&json!(30), &json!(null)));
        for other in [json!({"operator": true}), json!({"name": "x@example.com"}), json!({"key_valid_days": 9})] {
            controller.call(&admin, Method::PATCH, "/account", &other).await.expect(400);
        }
        let made = controller.post(&admin, "/orgs/main/apikeys", &json!({"name": "k"})).await.expect(201);
        let key = Caller::Key(made.text("key"));
        assert_eq!(controller.get(&key, "/account").await.expect(200).body["org"], "main");
        controller.call(&key, Method::PATCH, "/account", &change).await.expect(403);
        let operator = controller.login(OPERATOR).await;
        let seen = controller.get(&operator, "/account").await.expect(200).body;
        assert_eq!((&seen["operator"], &seen["org"]), (&json!(true), &json!(null)));
        controller.call(&operator, Method::PATCH, "/account", &change).await.expect(409);
    }
}

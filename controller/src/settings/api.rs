//! `/orgs/{org}/settings`

use axum::Json;
use axum::extract::State as Shared;
use identity::admin::UpdateSettings;
use identity::rbac::Permission;
use serde::{Deserialize, Serialize};
use storage::orgs::{self, Org, OrgSettings};
use storage::{memberships, projects};
use utoipa::ToSchema;

use crate::State;
use crate::actor::Actor;
use crate::error::Result;
use crate::etag::{IfMatch, IfMatchHeader, Tag, Versioned};
use crate::extract::{self, Path};

/// What an organization decided for itself.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SettingsView {
    /// Whether failed log-ins lock a name.
    pub(crate) lockout_enabled: bool,
    /// How many failures lock it.
    #[schema(minimum = 2, maximum = 100)]
    pub(crate) lockout_failures: i64,
    /// Within how many minutes, and for how many.
    #[schema(minimum = 1, maximum = 1440)]
    pub(crate) lockout_minutes: i64,
    /// After how many idle minutes a session ends; null: sessions end by age alone.
    #[schema(minimum = 1, maximum = 1440)]
    pub(crate) idle_logout_minutes: Option<i64>,
    /// Hours after which a session ends.
    #[schema(minimum = 1, maximum = 24)]
    pub(crate) session_hours: i64,
    /// Whether every local user needs a second factor.
    pub(crate) mfa_required: bool,
    /// Longest validity of new API keys in days, where a user has none of their own; null: without bound.
    #[schema(minimum = 1, maximum = 3650)]
    pub(crate) key_valid_days: Option<i64>,
    /// Whether projects may be public. Where not, none is, whatever it says of itself.
    pub(crate) public_allowed: bool,
    /// For how many days audit events are kept; null: for ever.
    #[schema(minimum = 30, maximum = 3650)]
    pub(crate) audit_days: Option<i64>,
}

impl From<OrgSettings> for SettingsView {
    fn from(s: OrgSettings) -> Self {
        Self {
            lockout_enabled: s.lockout_enabled,
            lockout_failures: s.lockout_failures,
            lockout_minutes: s.lockout_minutes,
            idle_logout_minutes: s.idle_logout_minutes,
            session_hours: s.session_hours,
            mfa_required: s.mfa_required,
            key_valid_days: s.key_valid_days,
            public_allowed: s.public_allowed,
            audit_days: s.audit_days,
        }
    }
}

/// What of an organization's settings changes; what is not given stays, and null lifts a bound.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"mfa_required": true, "idle_logout_minutes": 60}))]
pub(crate) struct SettingsChange {
    /// Whether failed log-ins lock a name.
    pub(crate) lockout_enabled: Option<bool>,
    /// How many failures lock it.
    #[schema(minimum = 2, maximum = 100)]
    pub(crate) lockout_failures: Option<i64>,
    /// Within how many minutes, and for how many.
    #[schema(minimum = 1, maximum = 1440)]
    pub(crate) lockout_minutes: Option<i64>,
    /// After how many idle minutes a session ends; null: sessions end by age alone.
    #[serde(default, deserialize_with = "extract::given")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 1440)]
    pub(crate) idle_logout_minutes: Option<Option<i64>>,
    /// Hours after which a session ends.
    #[schema(minimum = 1, maximum = 24)]
    pub(crate) session_hours: Option<i64>,
    /// Whether every local user needs a second factor.
    pub(crate) mfa_required: Option<bool>,
    /// Longest validity of new API keys in days; null: without bound.
    #[serde(default, deserialize_with = "extract::given")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 3650)]
    pub(crate) key_valid_days: Option<Option<i64>>,
    /// Whether projects may be public.
    pub(crate) public_allowed: Option<bool>,
    /// For how many days audit events are kept; null: for ever.
    #[serde(default, deserialize_with = "extract::given")]
    #[schema(value_type = Option<i64>, minimum = 30, maximum = 3650)]
    pub(crate) audit_days: Option<Option<i64>>,
}

/// They are not the organization, though they share its row and version.
fn identity_of(org: &Org) -> String {
    format!("{}/settings", org.id)
}

/// Whom stricter settings would touch.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EffectsView {
    /// Active people who are here and have no second factor: requiring one leads them to set one up.
    pub(crate) without_second_factor: i64,
    /// Projects that are public: not allowing that closes them.
    pub(crate) public_projects: i64,
}

/// Whom stricter settings would touch
#[utoipa::path(get, path = "/orgs/{org}/settings/effects", tag = "organizations",
    params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "Whom, in numbers", body = EffectsView)))]
pub(crate) async fn get_effects(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
) -> Result<Json<EffectsView>> {
    let org = actor.can_in_org(Permission::SettingsRead, &state, &org).await?;
    let mut session = state.db().read().await?;
    Ok(Json(EffectsView {
        without_second_factor: memberships::count_without_factor(&mut session, &org.id).await?,
        public_projects: projects::count_public(&mut session, &org.id).await?,
    }))
}

/// Settings of an organization
#[utoipa::path(get, path = "/orgs/{org}/settings", tag = "organizations",
    params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "The settings", body = SettingsView)))]
pub(crate) async fn get_settings(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
) -> Result<Versioned<SettingsView>> {
    let org = actor.can_in_org(Permission::SettingsRead, &state, &org).await?;
    let settings = orgs::settings(&mut state.db().read().await?, &org.id).await?;
    Ok(Versioned(Tag::new(&identity_of(&org), settings.version), settings.into()))
}

/// Change settings of an organization
///
/// They hold at once. Without public projects, those that are public close, to tokens that were already given too.
#[utoipa::path(patch, path = "/orgs/{org}/settings", tag = "organizations", request_body = SettingsChange,
    params(("org", description = "Slug of the organization"), IfMatchHeader),
    responses((status = 200, description = "The settings as they are now", body = SettingsView)))]
pub(crate) async fn update_settings(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    if_match: IfMatch,
    extract::Json(change): extract::Json<SettingsChange>,
) -> Result<Versioned<SettingsView>> {
    let org = actor.can_in_org(Permission::SettingsWrite, &state, &org).await?;
    let change = UpdateSettings {
        lockout_enabled: change.lockout_enabled,
        lockout_failures: change.lockout_failures,
        lockout_minutes: change.lockout_minutes,
        idle_logout_minutes: change.idle_logout_minutes,
        session_hours: change.session_hours,
        mfa_required: change.mfa_required,
        key_valid_days: change.key_valid_days,
        public_allowed: change.public_allowed,
        audit_days: change.audit_days,
    };
    let expected = if_match.expected(&identity_of(&org));
    let settings = state.identity().update_settings(&actor.caller, &org.id, &change, expected).await?;
    Ok(Versioned(Tag::new(&identity_of(&org), settings.version), settings.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{Method, header};
    use serde_json::json;

    use crate::testing::{ADMIN, Controller};

    #[tokio::test]
    async fn settings_change_within_bounds_and_only_from_the_version_that_was_read() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let path = "/orgs/main/settings";
        let read = controller.get(&admin, path).await.expect(200);
        assert_eq!(read.body["lockout_failures"], 5);
        assert_eq!(read.body["idle_logout_minutes"], json!(null));
        let tag = read.headers[header::ETAG].to_str().unwrap().to_owned();
        let change = json!({"idle_logout_minutes": 60, "key_valid_days": 90});
        let with = [("if-match", tag.as_str())];
        let changed = controller.call_with(&admin, Method::PATCH, path, &change, &with).await.expect(200);
        assert_eq!((&changed.body["idle_logout_minutes"], &changed.body["key_valid_days"]), (&json!(60), &json!(90)));
        let late = controller.call_with(&admin, Method::PATCH, path, &change, &with).await.expect(412);
        assert_eq!(late.body["type"], "urn:wharfinger:problem:changed");
        let lifted = json!({"idle_logout_minutes": null});
        let lifted = controller.call(&admin, Method::PATCH, path, &lifted).await.expect(200);
        assert_eq!((&lifted.body["idle_logout_minutes"], &lifted.body["key_valid_days"]), (&json!(null), &json!(90)));
        for (field, value) in [
            ("lockout_failures", 1),
            ("lockout_minutes", 0),
            ("idle_logout_minutes", 1441),
            ("session_hours", 25),
            ("key_valid_days", -1),
            ("audit_days", 29),
        ] {
            let refused = controller.call(&admin, Method::PATCH, path, &json!({ field: value })).await.expect(422);
            assert_eq!(refused.body["field"], field);
        }
        controller.call(&admin, Method::PATCH, path, &json!({"drift": true})).await.expect(400);
        let reader = controller.member("r@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        controller.get(&reader, path).await.expect(200);
        let denied = controller.call(&reader, Method::PATCH, path, &json!({})).await.expect(403);
        assert_eq!(denied.body["permission"], "settings.write");
    }

    #[tokio::test]
    async fn without_public_projects_none_is_made_and_none_stays_open() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let new = json!({"slug": "open", "public": true});
        controller.post(&admin, "/orgs/main/projects", &new).await.expect(201);
        let effects = controller.get(&admin, "/orgs/main/settings/effects").await.expect(200).body;
        assert_eq!(effects, json!({"without_second_factor": 1, "public_projects": 1}));
        controller
            .call(&admin, Method::PATCH, "/orgs/main/settings", &json!({"public_allowed": false}))
            .await
            .expect(200);
        let new = json!({"slug": "more", "public": true});
        controller.post(&admin, "/orgs/main/projects", &new).await.expect(409);
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "more"})).await.expect(201);
        let change = json!({"public": true});
        controller.call(&admin, Method::PATCH, "/orgs/main/projects/more", &change).await.expect(409);
    }
}

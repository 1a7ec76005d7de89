//! `/platform`: what the platform's operators see and do. Never what is in an organization.

use axum::Json;
use axum::extract::State as Shared;
use identity::admin::GRACE_DAYS;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::Session;
use storage::orgs::{self, Org, Remains, Usage};
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::etag::{Tag, Versioned};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;

/// Most organizations of a page: each is counted.
const MAX_PAGE: usize = 100;
/// Longest text to search for, in characters: the longest name.
const MAX_TEXT: usize = 128;

/// An organization, as an operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PlatformOrgView {
    /// First path component of its repositories.
    pub(crate) slug: String,
    /// What people call it.
    pub(crate) name: String,
    /// When it was created.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// `active`, `suspended` (no door opens), `deleting` (no door opens; it can be had back) or `removing` (it goes).
    #[schema(pattern = "^(active|suspended|deleting|removing)$")]
    pub(crate) status: String,
    /// When everything of it goes.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) delete_after: Option<i64>,
    /// What it uses.
    pub(crate) usage: UsageView,
    /// What is still to be taken away, where it goes.
    pub(crate) remains: Option<RemainsView>,
}

/// What is still to be taken away of an organization.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RemainsView {
    /// Projects.
    pub(crate) projects: i64,
    /// Repositories.
    pub(crate) repositories: i64,
    /// Layers and configurations.
    pub(crate) blobs: i64,
    /// Memberships.
    pub(crate) users: i64,
}

/// Which organizations.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct OrgQuery {
    /// Only those whose slug or name contains this.
    #[param(max_length = 128)]
    pub(crate) q: Option<String>,
    /// Only those of this status.
    #[param(pattern = "^(active|suspended|deleting|removing)?$")]
    pub(crate) status: Option<String>,
    /// Most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<i64>,
    /// The `next` of the page before.
    pub(crate) after: Option<String>,
}

/// What an organization uses; of a large one, as it was counted within the last minutes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UsageView {
    /// Members, active or not.
    pub(crate) users: i64,
    /// Repositories.
    pub(crate) repositories: i64,
    /// Bytes of layers and configurations, each counted once however many images share it.
    pub(crate) bytes: i64,
}

impl PlatformOrgView {
    async fn new(session: &mut Session, org: Org) -> Result<Self> {
        let Usage { users, repositories, bytes } = orgs::usage(session, &org.id).await?;
        let remains = match org.status == orgs::REMOVING {
            true => Some(orgs::remains(session, &org.id).await?.into()),
            false => None,
        };
        Ok(Self {
            slug: org.slug,
            name: org.name,
            created_at: org.created_at,
            status: org.status,
            delete_after: org.delete_after,
            usage: UsageView { users, repositories, bytes },
            remains,
        })
    }
}

impl From<Remains> for RemainsView {
    fn from(remains: Remains) -> Self {
        let Remains { projects, repositories, blobs, users } = remains;
        Self { projects, repositories, blobs, users }
    }
}

/// The wish to delete an organization.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"confirm": "acme", "grace_days": 7}))]
pub(crate) struct OrgToDelete {
    /// Its slug once more.
    pub(crate) confirm: String,
    /// Days until everything of it goes; 7 where it is not given.
    #[schema(minimum = 0, maximum = 90)]
    pub(crate) grace_days: Option<i64>,
}

/// Organizations of the platform
///
/// With what they use, by slug; at most 100 on a page.
#[utoipa::path(get, path = "/platform/orgs", tag = "platform", params(OrgQuery),
    responses((status = 200, description = "A page of organizations", body = Page<PlatformOrgView>)))]
pub(crate) async fn list_platform_orgs(
    actor: Actor,
    Shared(state): Shared<State>,
    Query(query): Query<OrgQuery>,
) -> Result<Json<Page<PlatformOrgView>>> {
    actor.can(Permission::PlatformOrgRead, &Resource::Platform)?;
    let OrgQuery { q, status, limit, after } = query;
    let (text, status) = (q.unwrap_or_default(), status.unwrap_or_default());
    if text.chars().count() > MAX_TEXT || text.contains('\0') {
        return Err(Error::invalid("q", "use at most 128 characters"));
    }
    if !["", orgs::ACTIVE, orgs::SUSPENDED, orgs::DELETING, orgs::REMOVING].contains(&status.as_str()) {
        return Err(Error::invalid("status", "use active, suspended, deleting or removing"));
    }
    let mut bounds = PageQuery { limit, after }.bounds()?;
    bounds.limit = bounds.limit.min(MAX_PAGE);
    let mut session = state.db().read().await?;
    let rows = orgs::search(&mut session, text.trim(), &status, &bounds.after, bounds.fetch()).await?;
    let page = bounds.page(rows, |org| &org.slug, |org| org);
    let mut items = Vec::with_capacity(page.items.len());
    for org in page.items {
        items.push(PlatformOrgView::new(&mut session, org).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// An organization of the platform
///
/// With what it uses; while it is being taken away, with what is still there.
#[utoipa::path(get, path = "/platform/orgs/{org}", tag = "platform",
    params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "The organization", body = PlatformOrgView)))]
pub(crate) async fn get_platform_org(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Versioned<PlatformOrgView>> {
    actor.can(Permission::PlatformOrgRead, &Resource::Platform)?;
    let org = found(&state, &slug).await?;
    view(&state, org).await
}

/// Suspend an organization
///
/// Nobody of it gets in by any door any more, with tokens that were already given neither, until it is resumed.
#[utoipa::path(post, path = "/platform/orgs/{org}/suspend", tag = "platform",
    params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "The organization as it is now", body = PlatformOrgView)))]
pub(crate) async fn suspend_org(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Versioned<PlatformOrgView>> {
    actor.can(Permission::PlatformOrgManage, &Resource::Platform)?;
    let org = found(&state, &slug).await?;
    let org = state.identity().suspend_org(&actor.caller, &org.id).await?;
    view(&state, org).await
}

/// Resume a suspended organization
#[utoipa::path(post, path = "/platform/orgs/{org}/resume", tag = "platform",
    params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "The organization as it is now", body = PlatformOrgView)))]
pub(crate) async fn resume_org(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Versioned<PlatformOrgView>> {
    actor.can(Permission::PlatformOrgManage, &Resource::Platform)?;
    let org = found(&state, &slug).await?;
    let org = state.identity().resume_org(&actor.caller, &org.id).await?;
    view(&state, org).await
}

/// Delete an organization
///
/// No door of it opens from now on. When the days of grace are over, its people, images and keys go for good; its slug is
/// never given to anybody else.
#[utoipa::path(post, path = "/platform/orgs/{org}/delete", tag = "platform", request_body = OrgToDelete,
    params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "The organization as it is now", body = PlatformOrgView)))]
pub(crate) async fn delete_org(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    extract::Json(wish): extract::Json<OrgToDelete>,
) -> Result<Versioned<PlatformOrgView>> {
    actor.can(Permission::PlatformOrgManage, &Resource::Platform)?;
    let org = found(&state, &slug).await?;
    if wish.confirm != org.slug {
        return Err(Error::invalid("confirm", "type the organization's slug"));
    }
    let days = wish.grace_days.unwrap_or(GRACE_DAYS);
    let org = state.identity().delete_org(&actor.caller, &org.id, days).await?;
    view(&state, org).await
}

/// Have an organization back that is being deleted
///
/// While its days of grace last.
#[utoipa::path(post, path = "/platform/orgs/{org}/undelete", tag = "platform",
    params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "The organization as it is now", body = PlatformOrgView)))]
pub(crate) async fn undelete_org(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Versioned<PlatformOrgView>> {
    actor.can(Permission::PlatformOrgManage, &Resource::Platform)?;
    let org = found(&state, &slug).await?;
    let org = state.identity().undelete_org(&actor.caller, &org.id).await?;
    view(&state, org).await
}

async fn found(state: &State, slug: &str) -> Result<Org> {
    let found = orgs::find_by_slug(&mut state.db().read().await?, slug).await?;
    found.ok_or(Error::NotFound("organization"))
}

async fn view(state: &State, org: Org) -> Result<Versioned<PlatformOrgView>> {
    let tag = Tag::new(&org.id, org.version);
    let view = PlatformOrgView::new(&mut state.db().read().await?, org).await?;
    Ok(Versioned(tag, view))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};
    use storage::removal::Remover;

    use crate::testing::{ADMIN, Controller, OPERATOR};

    #[tokio::test]
    async fn a_suspended_organization_is_closed_to_its_people_until_it_is_resumed() {
        let controller = Controller::start().await;
        let (admin, operator) = (controller.login(ADMIN).await, controller.login(OPERATOR).await);
        controller.get(&admin, "/orgs/main").await.expect(200);
        controller.post(&admin, "/platform/orgs/main/suspend", &Value::Null).await.expect(403);
        let suspended = controller.post(&operator, "/platform/orgs/main/suspend", &Value::Null).await.expect(200);
        assert_eq!(suspended.body["status"], "suspended");
        let closed = controller.get(&admin, "/orgs/main").await;
        assert!(matches!(closed.status.as_u16(), 401 | 404), "{}", closed.body);
        controller.post(&operator, "/platform/orgs/main/suspend", &Value::Null).await.expect(409);
        controller.post(&operator, "/platform/orgs/nowhere/suspend", &Value::Null).await.expect(404);
        controller.post(&operator, "/platform/orgs/main/resume", &Value::Null).await.expect(200);
        let admin = controller.login(ADMIN).await;
        controller.get(&admin, "/orgs/main").await.expect(200);
    }

    #[tokio::test]
    async fn an_organization_is_deleted_by_its_slug_and_can_be_had_back_until_its_time_is_over() {
        let controller = Controller::start().await;
        let operator = controller.login(OPERATOR).await;
        let path = "/platform/orgs/main/delete";
        controller.post(&operator, path, &json!({"confirm": "other"})).await.expect(422);
        controller.post(&operator, path, &json!({"confirm": "main", "grace_days": 91})).await.expect(422);
        let deleting = controller.post(&operator, path, &json!({"confirm": "main"})).await.expect(200);
        assert_eq!(deleting.body["status"], "deleting");
        assert!(deleting.body["delete_after"].is_string());
        controller.post(&operator, path, &json!({"confirm": "main"})).await.expect(409);
        let back = controller.post(&operator, "/platform/orgs/main/undelete", &Value::Null).await.expect(200);
        assert_eq!((&back.body["status"], &back.body["delete_after"]), (&json!("active"), &json!(null)));
        let listed = controller.get(&operator, "/platform/orgs").await.expect(200);
        assert_eq!(listed.body["items"][0]["usage"]["users"], 1);
    }

    #[tokio::test]
    async fn organizations_are_found_by_a_part_of_their_name_and_by_status() {
        let controller = Controller::start().await;
        controller.other_org().await;
        let operator = controller.login(OPERATOR).await;
        controller.post(&operator, "/platform/orgs/other/suspend", &Value::Null).await.expect(200);
        for (query, found) in [("?q=THE", 1), ("?q=%25", 0), ("?status=suspended", 1), ("?q=main&status=suspended", 0)]
        {
            let listed = controller.get(&operator, &format!("/platform/orgs{query}")).await.expect(200);
            assert_eq!(listed.body["items"].as_array().unwrap().len(), found, "{query}");
        }
        controller.get(&operator, "/platform/orgs?status=deleted").await.expect(422);
        controller.get(&operator, &format!("/platform/orgs?q={}", "x".repeat(129))).await.expect(422);
        let one = controller.get(&operator, "/platform/orgs/other").await.expect(200);
        assert_eq!((&one.body["status"], &one.body["remains"]), (&json!("suspended"), &Value::Null));
        controller.get(&operator, "/platform/orgs/nowhere").await.expect(404);
        let admin = controller.login(ADMIN).await;
        controller.get(&admin, "/platform/orgs/main").await.expect(403);
    }

    #[tokio::test]
    async fn an_organization_that_goes_says_what_is_still_there() {
        let controller = Controller::start().await;
        controller.other_org().await;
        let operator = controller.login(OPERATOR).await;
        let wish = json!({"confirm": "other", "grace_days": 0});
        controller.post(&operator, "/platform/orgs/other/delete", &wish).await.expect(200);
        controller.identity.end_due_orgs().await.unwrap();
        let going = controller.get(&operator, "/platform/orgs/other").await.expect(200);
        assert_eq!((&going.body["status"], &going.body["remains"]["users"]), (&json!("removing"), &json!(1)));
        Remover::new(controller.db.clone(), controller.clock.clone()).run().await.unwrap();
        controller.get(&operator, "/platform/orgs/other").await.expect(404);
    }
}

//! `/platform`: what the platform's operators see and do. Never what is in an organization.

use axum::Json;
use axum::extract::State as Shared;
use identity::admin::GRACE_DAYS;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::orgs::{self, Org, Usage};
use utoipa::ToSchema;

use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::etag::{Tag, Versioned};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;

/// Most organizations of a page: each is counted.
const MAX_PAGE: usize = 100;

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
}

/// What an organization uses.
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
    fn new(org: Org, usage: Usage) -> Self {
        let Usage { users, repositories, bytes } = usage;
        Self {
            slug: org.slug,
            name: org.name,
            created_at: org.created_at,
            status: org.status,
            delete_after: org.delete_after,
            usage: UsageView { users, repositories, bytes },
        }
    }
}

/// How the platform is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthView {
    /// Version of the server.
    pub(crate) version: &'static str,
    /// The time by the server's clock.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) now: i64,
    /// `sqlite` or `postgresql`.
    pub(crate) database: &'static str,
    /// How long the database took to answer, in milliseconds.
    pub(crate) database_ms: u64,
    /// Organizations by status.
    pub(crate) organizations: OrgCounts,
    /// Mails that wait to be sent.
    pub(crate) mails_waiting: i64,
    /// Objects whose bytes wait to be taken away.
    pub(crate) objects_to_remove: i64,
}

/// Organizations by status.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct OrgCounts {
    /// They live.
    pub(crate) active: i64,
    /// No door opens.
    pub(crate) suspended: i64,
    /// They are to be deleted.
    pub(crate) deleting: i64,
    /// They are being taken away.
    pub(crate) removing: i64,
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
#[utoipa::path(get, path = "/platform/orgs", tag = "platform", params(PageQuery),
    responses((status = 200, description = "A page of organizations", body = Page<PlatformOrgView>)))]
pub(crate) async fn list_platform_orgs(
    actor: Actor,
    Shared(state): Shared<State>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<PlatformOrgView>>> {
    actor.can(Permission::PlatformOrgRead, &Resource::Platform)?;
    let mut bounds = query.bounds()?;
    bounds.limit = bounds.limit.min(MAX_PAGE);
    let mut session = state.db().read().await?;
    let rows = orgs::list(&mut session, &bounds.after, bounds.fetch()).await?;
    let page = bounds.page(rows, |org| &org.slug, |org| org);
    let mut items = Vec::with_capacity(page.items.len());
    for org in page.items {
        let usage = orgs::usage(&mut session, &org.id).await?;
        items.push(PlatformOrgView::new(org, usage));
    }
    Ok(Json(Page { items, next: page.next }))
}

/// How the platform is
#[utoipa::path(get, path = "/platform/health", tag = "platform",
    responses((status = 200, description = "How it is", body = HealthView)))]
pub(crate) async fn get_platform_health(actor: Actor, Shared(state): Shared<State>) -> Result<Json<HealthView>> {
    actor.can(Permission::PlatformHealth, &Resource::Platform)?;
    let asked = std::time::Instant::now();
    state.db().ping().await?;
    let database_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let counts = storage::health::counts(&mut state.db().read().await?).await?;
    let mut organizations = OrgCounts::default();
    for (status, count) in counts.orgs {
        match status.as_str() {
            orgs::ACTIVE => organizations.active = count,
            orgs::SUSPENDED => organizations.suspended = count,
            orgs::DELETING => organizations.deleting = count,
            orgs::REMOVING => organizations.removing = count,
            _ => {}
        }
    }
    Ok(Json(HealthView {
        version: env!("CARGO_PKG_VERSION"),
        now: state.identity().now(),
        database: if state.db().is_sqlite() { "sqlite" } else { "postgresql" },
        database_ms,
        organizations,
        mails_waiting: counts.mails_waiting,
        objects_to_remove: counts.objects_to_remove,
    }))
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
    let usage = orgs::usage(&mut state.db().read().await?, &org.id).await?;
    Ok(Versioned(Tag::new(&org.id, org.version), PlatformOrgView::new(org, usage)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

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
        let health = controller.get(&operator, "/platform/health").await.expect(200);
        assert_eq!(health.body["organizations"]["active"], 1);
    }
}

//! `/orgs`

use axum::Json;
use axum::extract::State as Shared;
use identity::admin::NewOrg;
use identity::name::UserName;
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::names::Slug;
use storage::orgs::{self, Org};
use utoipa::ToSchema;

use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::etag::{Created, IfMatch, IfMatchHeader, Tag, Versioned};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;
use crate::users::api::UserView;

/// An organization.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrgView {
    /// First path component of its repositories.
    pub(crate) slug: String,
    /// What people call it.
    pub(crate) name: String,
    /// When it was created.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
}

impl From<Org> for OrgView {
    fn from(org: Org) -> Self {
        Self { slug: org.slug, name: org.name, created_at: org.created_at }
    }
}

/// An organization to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrgToCreate {
    /// First path component of its repositories; it can never be changed.
    #[schema(example = "acme", min_length = 2, max_length = 64)]
    pub(crate) slug: String,
    /// What people call it; the slug where it is not given.
    pub(crate) name: Option<String>,
    /// Its first Organization Admin.
    pub(crate) admin: Option<FirstAdmin>,
}

/// The first Organization Admin of an organization.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FirstAdmin {
    /// Their e-mail. They are invited by mail as by `POST /orgs/{org}/users`.
    pub(crate) email: String,
}

/// An organization that was created.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedOrgView {
    /// It.
    #[serde(flatten)]
    pub(crate) org: OrgView,
    /// Its first Organization Admin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) admin: Option<UserView>,
}

/// What of an organization changes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "Acme International"}))]
pub(crate) struct OrgChange {
    /// What people call it. Its slug never changes.
    #[schema(min_length = 1, max_length = 128)]
    pub(crate) name: String,
}

/// Organizations that the caller may see
///
/// By slug. The platform operator sees all of them, but not what is in them.
#[utoipa::path(get, path = "/orgs", tag = "organizations", params(PageQuery),
    responses((status = 200, description = "A page of organizations", body = Page<OrgView>)))]
pub(crate) async fn list_orgs(
    actor: Actor,
    Shared(state): Shared<State>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<OrgView>>> {
    let bounds = query.bounds()?;
    let mut session = state.db().read().await?;
    if actor.may(Permission::PlatformOrgRead, &Resource::Platform) {
        let rows = orgs::list(&mut session, &bounds.after, bounds.fetch()).await?;
        return Ok(Json(bounds.page(rows, |org| &org.slug, OrgView::from)));
    }
    // Members are few; those that the caller may not see (a key of another organization, no role yet) fewer.
    let mut shown = Vec::new();
    let mut after = bounds.after.clone();
    while shown.len() <= bounds.limit {
        let rows = orgs::list_of_user(&mut session, &actor.principal().user_id, &after, bounds.fetch()).await?;
        let Some(last) = rows.last() else { break };
        after.clone_from(&last.slug);
        shown.extend(rows.into_iter().filter(|org| actor.is_shown(org)));
    }
    Ok(Json(bounds.page(shown, |org| &org.slug, OrgView::from)))
}

/// Create an organization
///
/// With its `defaultproject`. For the platform operator.
#[utoipa::path(post, path = "/orgs", tag = "organizations", request_body = OrgToCreate,
    responses((status = 201, description = "Created", body = CreatedOrgView)))]
pub(crate) async fn create_org(
    actor: Actor,
    Shared(state): Shared<State>,
    extract::Json(new): extract::Json<OrgToCreate>,
) -> Result<Created<CreatedOrgView>> {
    actor.can(Permission::PlatformOrgCreate, &Resource::Platform)?;
    let slug: Slug = new.slug.parse().map_err(|error| Error::invalid("slug", &error))?;
    let admin = match &new.admin {
        Some(admin) => {
            let name: UserName = admin.email.parse().map_err(|error| Error::invalid("admin", &error))?;
            Some(name)
        }
        None => None,
    };
    let admin = admin.as_ref().map(|name| (name, None));
    let created =
        state.identity().create_org(&actor.caller, &NewOrg { slug: &slug, name: new.name.as_deref(), admin }).await?;
    let at = format!("/orgs/{}", created.org.slug);
    let tag = Some(Tag::new(&created.org.id, created.org.version));
    let body = CreatedOrgView { org: created.org.into(), admin: created.admin.map(|admin| admin.member.into()) };
    Ok(Created { at, tag, body })
}

/// An organization
#[utoipa::path(get, path = "/orgs/{org}", tag = "organizations", params(("org", description = "Slug of the organization")),
    responses((status = 200, description = "The organization", body = OrgView)))]
pub(crate) async fn get_org(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Versioned<OrgView>> {
    let org = actor.sees_org(&state, &slug).await?;
    Ok(Versioned(Tag::new(&org.id, org.version), org.into()))
}

/// Change an organization's name
#[utoipa::path(patch, path = "/orgs/{org}", tag = "organizations", request_body = OrgChange,
    params(("org", description = "Slug of the organization"), IfMatchHeader),
    responses((status = 200, description = "The organization as it is now", body = OrgView)))]
pub(crate) async fn update_org(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    if_match: IfMatch,
    extract::Json(change): extract::Json<OrgChange>,
) -> Result<Versioned<OrgView>> {
    let org = actor.can_in_org(Permission::OrgUpdate, &state, &slug).await?;
    let expected = if_match.expected(&org.id);
    let org = state.identity().rename_org(&actor.caller, &org.id, &change.name, expected).await?;
    Ok(Versioned(Tag::new(&org.id, org.version), org.into()))
}

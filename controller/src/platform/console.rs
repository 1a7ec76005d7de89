//! The platform's pages: its health, and the life of its organizations.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::admin::GRACE_DAYS;
use identity::rbac::{Permission, Resource};
use serde::Deserialize;

use super::api::{self, OrgQuery, OrgToDelete, PlatformOrgView};
use super::health::{self, HealthView};
use crate::State;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::Result;
use crate::etag::{Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::orgs::api::{FirstAdmin, OrgToCreate, create_org};

/// Organizations of a page.
const PAGE: i64 = 50;

/// `/platform`
#[derive(Template)]
#[template(path = "platform/health.html")]
struct HealthPage {
    frame: Frame,
    health: HealthView,
}

/// `/platform/orgs`
#[derive(Template)]
#[template(path = "platform/orgs.html")]
struct OrgsPage {
    frame: Frame,
    orgs: Vec<PlatformOrgView>,
    text: String,
    status: String,
    may_create: bool,
    first: String,
    next: Option<String>,
}

/// `/platform/orgs/new`
#[derive(Template)]
#[template(path = "platform/new.html")]
struct NewPage {
    frame: Frame,
    given: NewForm,
    problem: Option<FormProblem>,
}

/// `/platform/orgs/{org}`
#[derive(Template)]
#[template(path = "platform/org.html")]
struct OrgPage {
    frame: Frame,
    org: PlatformOrgView,
    may_manage: bool,
}

/// `/platform/orgs/{org}/suspend`
#[derive(Template)]
#[template(path = "platform/suspend.html")]
struct SuspendPage {
    frame: Frame,
    org: PlatformOrgView,
}

/// `/platform/orgs/{org}/delete`
#[derive(Template)]
#[template(path = "platform/delete.html")]
struct DeletePage {
    frame: Frame,
    org: PlatformOrgView,
    given: DeleteForm,
    problem: Option<FormProblem>,
}

/// The fields of an organization to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NewForm {
    slug: String,
    name: String,
    admin: String,
}

/// The fields of the wish to delete one.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct DeleteForm {
    confirm: String,
    grace_days: String,
}

impl Default for DeleteForm {
    fn default() -> Self {
        Self { confirm: String::new(), grace_days: GRACE_DAYS.to_string() }
    }
}

impl PlatformOrgView {
    /// Its page.
    fn page(&self) -> String {
        page_of(&self.slug)
    }

    /// The tone and the words of its status.
    fn badge(&self) -> (&'static str, &'static str) {
        match self.status.as_str() {
            "active" => ("good", "Active"),
            "suspended" => ("warn", "Suspended"),
            "deleting" => ("bad", "To be deleted"),
            _ => ("bad", "Being deleted"),
        }
    }
}

fn page_of(slug: &str) -> String {
    format!("/platform/orgs/{}", segment(slug))
}

/// How the platform is.
pub(crate) async fn health(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    let Json(health) = health::get_platform_health(viewer.actor(), Shared(state)).await?;
    console::page(&HealthPage { frame: viewer.frame(Section::Health), health })
}

/// The organizations.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Query(mut query): Query<OrgQuery>,
) -> Result<Response> {
    query.limit = Some(PAGE);
    let text = query.q.clone().unwrap_or_default();
    let status = query.status.clone().unwrap_or_default();
    let here = format!("/platform/orgs?{}", found_by(&text, &status));
    let first = if query.after.is_some() { here.clone() } else { String::new() };
    let Json(page) = api::list_platform_orgs(viewer.actor(), Shared(state), Query(query)).await?;
    let next = page.next.map(|after| format!("{here}&after={}", segment(&after)));
    let frame = viewer.frame(Section::Orgs);
    let may_create = viewer.may_on_platform(Permission::PlatformOrgCreate);
    console::page(&OrgsPage { frame, orgs: page.items, text, status, may_create, first, next })
}

/// The query of a search.
fn found_by(text: &str, status: &str) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs([("q", text), ("status", status)].into_iter().filter(|(_, value)| !value.is_empty()));
    query.finish()
}

/// The form of a new one.
pub(crate) async fn new(viewer: Viewer) -> Result<Response> {
    viewer.actor.can(Permission::PlatformOrgCreate, &Resource::Platform)?;
    console::page(&NewPage { frame: viewer.frame(Section::Orgs), given: NewForm::default(), problem: None })
}

/// Makes one.
pub(crate) async fn create(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Form(given): Form<NewForm>,
) -> Result<Response> {
    let filled = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let new = OrgToCreate {
        slug: given.slug.trim().to_owned(),
        name: filled(&given.name),
        admin: filled(&given.admin).map(|email| FirstAdmin { email }),
    };
    match create_org(viewer.actor(), Shared(state.clone()), extract::Json(new)).await {
        Ok(made) => {
            let slug = &made.body.org.slug;
            let told = match &given.admin.trim() {
                &"" => format!("Created {slug}. Nobody is in it yet."),
                admin => format!("Created {slug}. An invitation is on its way to {admin}."),
            };
            Ok(notice::done(&state, &page_of(slug), &told))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let frame = viewer.frame(Section::Orgs);
            console::page_as(status, &NewPage { frame, given, problem: Some(problem) })
        }
    }
}

/// One of them.
pub(crate) async fn show(viewer: Viewer, Shared(state): Shared<State>, Path(slug): Path<String>) -> Result<Response> {
    let Versioned(_, org) = api::get_platform_org(viewer.actor(), Shared(state), Path(slug)).await?;
    let may_manage = viewer.may_on_platform(Permission::PlatformOrgManage);
    console::page(&OrgPage { frame: viewer.frame(Section::Orgs), org, may_manage })
}

/// Asks whether it shall be suspended.
pub(crate) async fn ask_suspend(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Response> {
    let org = to_manage(&viewer, state, slug).await?;
    console::page(&SuspendPage { frame: viewer.frame(Section::Orgs), org })
}

/// Suspends it.
pub(crate) async fn suspend(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Response> {
    let Versioned(_, org) = api::suspend_org(viewer.actor(), Shared(state.clone()), Path(slug)).await?;
    Ok(notice::done(&state, &org.page(), &format!("Suspended {}. Nobody of it gets in.", org.slug)))
}

/// Opens its doors again.
pub(crate) async fn resume(viewer: Viewer, Shared(state): Shared<State>, Path(slug): Path<String>) -> Result<Response> {
    let Versioned(_, org) = api::resume_org(viewer.actor(), Shared(state.clone()), Path(slug)).await?;
    Ok(notice::done(&state, &org.page(), &format!("Resumed {}. Its people get in again.", org.slug)))
}

/// Asks whether it shall be deleted.
pub(crate) async fn ask_delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Response> {
    let org = to_manage(&viewer, state, slug).await?;
    let given = DeleteForm::default();
    console::page(&DeletePage { frame: viewer.frame(Section::Orgs), org, given, problem: None })
}

/// Deletes it.
pub(crate) async fn delete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Form(given): Form<DeleteForm>,
) -> Result<Response> {
    // What is no number is out of bounds.
    let grace_days = Some(given.grace_days.trim().parse().unwrap_or(-1));
    let wish = OrgToDelete { confirm: given.confirm.trim().to_owned(), grace_days };
    let (actor, shared) = (viewer.actor(), Shared(state.clone()));
    match api::delete_org(actor, shared, Path(slug.clone()), extract::Json(wish)).await {
        Ok(Versioned(_, org)) => {
            Ok(notice::done(&state, &org.page(), &format!("{} is closed, and will be deleted.", org.slug)))
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let org = to_manage(&viewer, state, slug).await?;
            let frame = viewer.frame(Section::Orgs);
            console::page_as(status, &DeletePage { frame, org, given, problem: Some(problem) })
        }
    }
}

/// Has it back.
pub(crate) async fn undelete(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
) -> Result<Response> {
    let Versioned(_, org) = api::undelete_org(viewer.actor(), Shared(state.clone()), Path(slug)).await?;
    Ok(notice::done(&state, &org.page(), &format!("{} stays. It is as it was before.", org.slug)))
}

/// What is asked about.
async fn to_manage(viewer: &Viewer, state: State, slug: String) -> Result<PlatformOrgView> {
    viewer.actor.can(Permission::PlatformOrgManage, &Resource::Platform)?;
    let Versioned(_, org) = api::get_platform_org(viewer.actor(), Shared(state), Path(slug)).await?;
    Ok(org)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use crate::testing::{ADMIN, Caller, Controller, OPERATOR};

    #[tokio::test]
    async fn an_organization_is_made_suspended_deleted_and_had_back_in_the_browser() {
        let controller = Controller::start().await;
        let operator = controller.login(OPERATOR).await;
        let path = "/platform/orgs";
        let refused = controller.submit(&operator, path, &[("slug", "A B"), ("name", "<i>")]).await.expect(422);
        assert!(refused.raw.contains("slug-wrong") && refused.raw.contains("&#60;i&#62;"), "{}", refused.raw);
        let refused = controller.submit(&operator, path, &[("slug", "acme"), ("admin", "nobody")]).await.expect(422);
        assert!(refused.raw.contains("their e-mail address"), "{}", refused.raw);
        let fields = [("slug", "acme"), ("name", "Acme Ltd"), ("admin", "ann@acme.example")];
        let made = controller.submit(&operator, path, &fields).await.expect(303);
        let page = made.headers["location"].to_str().unwrap().to_owned();
        assert_eq!(page, "/platform/orgs/acme");
        assert_eq!(controller.mail_to("ann@acme.example").await.to, "ann@acme.example");
        let list = controller.page(&operator, "/platform/orgs?q=ACM").await.expect(200);
        assert!(list.raw.contains("Acme Ltd") && !list.raw.contains(">main<"), "{}", list.raw);

        let asked = controller.page(&operator, "/platform/orgs/acme/suspend").await.expect(200);
        assert!(asked.raw.contains("pull"), "it says what that means: {}", asked.raw);
        controller.submit(&operator, "/platform/orgs/acme/suspend", &[]).await.expect(303);
        assert!(controller.page(&operator, &page).await.expect(200).raw.contains("Suspended"));
        controller.submit(&operator, "/platform/orgs/acme/resume", &[]).await.expect(303);

        let delete = "/platform/orgs/acme/delete";
        let wrong = controller.submit(&operator, delete, &[("confirm", "acne"), ("grace_days", "7")]).await.expect(422);
        assert!(wrong.raw.contains("confirm-wrong") && wrong.raw.contains("value=\"acne\""), "{}", wrong.raw);
        let wrong = controller.submit(&operator, delete, &[("confirm", "acme"), ("grace_days", "x")]).await.expect(422);
        assert!(wrong.raw.contains("grace_days-wrong"), "{}", wrong.raw);
        controller.submit(&operator, delete, &[("confirm", "acme"), ("grace_days", "3")]).await.expect(303);
        let going = controller.page(&operator, &page).await.expect(200);
        assert!(going.raw.contains("Keep it") && going.raw.contains("in 3 days"), "{}", going.raw);
        controller.submit(&operator, "/platform/orgs/acme/undelete", &[]).await.expect(303);
        assert!(controller.page(&operator, &page).await.expect(200).raw.contains(">Active<"));

        controller.submit(&operator, delete, &[("confirm", "acme"), ("grace_days", "0")]).await.expect(303);
        controller.identity.end_due_orgs().await.unwrap();
        let going = controller.page(&operator, &page).await.expect(200);
        assert!(going.raw.contains("data-refresh") && going.raw.contains("1 person"), "{}", going.raw);
    }

    #[tokio::test]
    async fn the_platforms_health_is_shown_to_its_operators_alone() {
        let controller = Controller::start().await;
        let operator = controller.login(OPERATOR).await;
        let health = controller.page(&operator, "/platform").await.expect(200);
        assert!(health.raw.contains("No process serves the registry."), "{}", health.raw);
        let admin = controller.login(ADMIN).await;
        for path in ["/platform", "/platform/orgs", "/platform/orgs/new", "/platform/orgs/main"] {
            controller.page(&admin, path).await.expect(403);
            controller.page(&Caller::Nobody, path).await.expect(303);
        }
        for path in ["/platform/orgs/main/suspend", "/platform/orgs/main/delete"] {
            controller.page(&admin, path).await.expect(403);
            controller.submit(&admin, path, &[("confirm", "main"), ("grace_days", "0")]).await.expect(403);
        }
        controller.page(&operator, "/platform/orgs/nowhere").await.expect(404);
    }
}

//! Failures as pages. The surfaces' one error type says what was wrong ([`crate::error`]); here it gets the words, and the
//! next step, that help in a browser.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode, header};
use identity::rbac::Permission;
use storage::names::RepoName;

use super::form::sentence;
use super::frame::{Frame, Section};
use super::viewer::Viewer;
use super::{front, notice, page_as, see};
use crate::State;
use crate::audit::Refused;
use crate::error::Problem;
use crate::etag::segment;

/// A failure, in the frame where somebody is logged in.
#[derive(Template)]
#[template(path = "console/problem.html")]
struct ProblemPage {
    frame: Frame,
    problem: Arc<Problem>,
    detail: String,
    advice: &'static str,
    /// The organization to switch to, and where to go on there.
    switch: Option<(String, String)>,
    /// What was looked for and is not there, and where the audit log tells what became of it.
    log: Option<(String, String)>,
}

/// The same, where nobody is.
#[derive(Template)]
#[template(path = "console/problem_door.html")]
struct DoorProblemPage {
    problem: Arc<Problem>,
    detail: String,
    advice: &'static str,
}

/// The middleware that draws failures outside the API as pages, and takes a notice away once it was told.
pub(crate) async fn as_pages(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    if request.uri().path().starts_with("/api/") {
        return next.run(request).await;
    }
    let (parts, body) = request.into_parts();
    let asked = parts.clone();
    let secure = state.settings().secure_cookies;
    let told = notice::read(&parts.headers, secure).is_some();
    let mut response = next.run(Request::from_parts(parts, body)).await;
    if let Some(problem) = response.extensions_mut().remove::<Arc<Problem>>() {
        response = failed(&state, asked, problem, response).await;
    }
    let is_page =
        response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"));
    if told && is_page {
        notice::clear(&mut response, secure);
    }
    response
}

/// What a failure becomes.
async fn failed(state: &State, mut asked: Parts, problem: Arc<Problem>, response: Response) -> Response {
    let reads = matches!(asked.method, Method::GET | Method::HEAD);
    let here = asked.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str).to_owned();
    match problem.which() {
        "unauthenticated" if reads => return see(&front::then("/login", &here)),
        "password-change-required" => return see(&front::then("/password", if reads { &here } else { "" })),
        "mfa-enrolment-required" => return see(&front::then("/second-factor/enrol", if reads { &here } else { "" })),
        _ => {}
    }
    let (detail, advice) = words(&problem);
    // Whatever it was, nothing is done any more: look as for reading.
    asked.method = Method::GET;
    let viewer = Viewer::of(&mut asked, state).await.ok();
    let drawn = match viewer {
        Some(viewer) => {
            let to = if reads { here } else { "/".to_owned() };
            let switch = problem.other_org.clone().map(|org| (org, to));
            let frame = viewer.frame(Section::None);
            let log = if problem.which() == "not-found" { in_the_log(&viewer, asked.uri.path()) } else { None };
            page_as(response.status(), &ProblemPage { frame, problem, detail, advice, switch, log })
        }
        None => page_as(response.status(), &DoorProblemPage { problem, detail, advice }),
    };
    let Ok(mut page) = drawn else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    for name in [header::RETRY_AFTER, header::ALLOW] {
        if let Some(value) = response.headers().get(&name) {
            page.headers_mut().insert(name, value.clone());
        }
    }
    if let Some(refused) = response.extensions().get::<Refused>() {
        page.extensions_mut().insert(refused.clone());
    }
    page
}

/// What a page was about, and the audit log's page of it: for whoever may read all of that log, and so learns nothing by it.
fn in_the_log(viewer: &Viewer, path: &str) -> Option<(String, String)> {
    let (org, rest) = path.strip_prefix("/orgs/")?.split_once('/')?;
    let (noun, rest) = rest.split_once('/')?;
    let plain = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8().ok().map(String::from);
    let name = match noun {
        "projects" | "users" | "groups" | "roles" | "machines" => plain(rest.split('/').next()?)?,
        "repositories" | "manifests" => {
            plain(&format!("{org}/{rest}"))?.parse::<RepoName>().ok()?.canonical().to_owned()
        }
        _ => return None,
    };
    let slug = &viewer.org().filter(|own| own.slug == org)?.slug;
    if name.len() > 254 || !viewer.may(Permission::AuditRead) {
        return None;
    }
    let href = format!("/orgs/{}/audit?target={}", segment(slug), front::query(&name));
    Some((name, href))
}

/// What a page says of a failure, and what to do.
fn words(problem: &Problem) -> (String, &'static str) {
    let said = sentence(&problem.detail);
    match problem.which() {
        "unauthenticated" => (
            "Your session ended before this arrived. Nothing was changed.".into(),
            "Log in again, then repeat what you were doing.",
        ),
        "csrf-token" => (
            "This form belongs to an earlier state of your session: you logged in again, or switched, in another tab. \
             Nothing was changed."
                .into(),
            "Go back, reload the page and send the form again.",
        ),
        "other-org" => (said, "Each session works in one organization at a time. Nothing was changed."),
        "denied" => (said, "Ask an Organization Admin for a role that allows it."),
        "not-found" | "no-route" => (
            if problem.which() == "no-route" { "There is no page at this address.".into() } else { said },
            "Check the address. Somebody may have deleted it, or it is not yours to see: then an Organization Admin can help.",
        ),
        "try-later" => (said, "Wait a moment and try again."),
        "changed" => (
            "Somebody else changed this while you were looking at it. Nothing was changed now.".into(),
            "Go back, reload the page and see what is different.",
        ),
        "internal" => (
            "Something broke on the server.".into(),
            "Try again in a moment. If it stays, tell whoever runs this server; its log says what happened.",
        ),
        "unavailable" => (said, "Try again in a moment."),
        _ => (said, "Go back and try again."),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Controller};

    const LOOK: &str = "Look for it in the audit log";

    #[tokio::test]
    async fn what_is_gone_leads_to_the_log_for_whoever_reads_it() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let dev = controller.member("dev@example.com", Some(("PROJECT_ADMIN", Some("defaultproject")))).await;
        let made = controller.post(&admin, "/orgs/main/groups", &json!({"name": "the crew"})).await.expect(201);
        let version = made.headers["etag"].to_str().unwrap().to_owned();
        let path = "/orgs/main/groups/the%20crew";
        let headers = [("if-match", version.as_str())];
        controller.call_with(&admin, http::Method::DELETE, path, &serde_json::Value::Null, &headers).await.expect(204);
        let gone = controller.page(&admin, path).await.expect(404);
        let href = "/orgs/main/audit?target=the+crew";
        assert!(gone.raw.contains(LOOK) && gone.raw.contains(&format!("href=\"{href}\"")), "{}", gone.raw);
        assert!(controller.page(&admin, href).await.expect(200).raw.contains("Group deleted"));
        for path in
            ["/orgs/main/projects/none", "/orgs/main/users/none%40x.example/keys", "/orgs/main/repositories/web/none"]
        {
            assert!(controller.page(&admin, path).await.expect(404).raw.contains(LOOK), "{path}");
        }
        assert!(
            controller.page(&admin, "/orgs/main/repositories/web/none").await.raw.contains("target=main%2Fweb%2Fnone")
        );
        // Whoever may not read the log reads what they read before, and so does whoever looks into another organization.
        let plain = controller.page(&dev, path).await;
        assert!(!plain.raw.contains(LOOK) && !plain.raw.contains("target="), "{}", plain.raw);
        controller.other_org().await;
        for path in ["/orgs/other/projects/none", "/orgs/none/projects/none"] {
            assert!(!controller.page(&admin, path).await.expect(404).raw.contains(LOOK), "{path}");
        }
        let hostile = controller.page(&admin, "/orgs/main/projects/%3Cb%3E%22").await;
        assert!(!hostile.raw.contains("<b>"), "{}", hostile.raw);
    }
}

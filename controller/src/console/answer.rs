//! Failures as pages. The surfaces' one error type says what was wrong ([`crate::error`]); here it gets the words, and the
//! next step, that help in a browser.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{Method, StatusCode, header};

use super::form::sentence;
use super::frame::{Frame, Section};
use super::viewer::Viewer;
use super::{front, notice, page_as, see};
use crate::State;
use crate::audit::Refused;
use crate::error::Problem;

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
            page_as(response.status(), &ProblemPage { frame, problem, detail, advice, switch })
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

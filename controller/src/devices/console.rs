//! `/device`: whoever waits for a browser's yes.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::api::{self, WaitingDevice};
use crate::State;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};

/// `/device`
#[derive(Template)]
#[template(path = "devices/code.html")]
struct CodePage {
    code: String,
    problem: Option<FormProblem>,
}

/// `/device?code=`
#[derive(Template)]
#[template(path = "devices/confirm.html")]
struct ConfirmPage {
    frame: Frame,
    code: String,
    device: WaitingDevice,
}

/// What became of it.
#[derive(Template)]
#[template(path = "devices/done.html")]
struct DonePage {
    approved: bool,
}

/// Which one.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CodeQuery {
    code: String,
}

/// What is to become of it.
#[derive(Debug, Deserialize)]
pub(crate) struct DecisionForm {
    code: String,
    decision: Decision,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Decision {
    /// Yes.
    Approve,
    /// No.
    Deny,
}

/// Asks for the code, or, with one, whether that is right.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Query(query): Query<CodeQuery>,
) -> Result<Response> {
    let code = typed(&query.code);
    if code.is_empty() {
        return console::page(&CodePage { code, problem: None });
    }
    match api::get_device(viewer.holder(), Shared(state), Path(code.clone())).await {
        Ok(Json(device)) => console::page(&ConfirmPage { frame: viewer.frame(Section::None), code, device }),
        Err(error) => once_more(code, error),
    }
}

/// Says yes or no.
pub(crate) async fn decide(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Form(given): Form<DecisionForm>,
) -> Result<Response> {
    let (holder, code, approved) = (viewer.holder(), typed(&given.code), given.decision == Decision::Approve);
    let decided = match given.decision {
        Decision::Approve => api::approve_device(holder, Shared(state), Path(code.clone())).await,
        Decision::Deny => api::deny_device(holder, Shared(state), Path(code.clone())).await,
    };
    match decided {
        Ok(_) => console::page(&DonePage { approved }),
        Err(error) => once_more(code, error),
    }
}

/// A code as people type it: in any case, with spaces.
fn typed(code: &str) -> String {
    code.chars().filter(|c| !c.is_whitespace()).take(16).collect::<String>().to_uppercase()
}

fn once_more(code: String, error: Error) -> Result<Response> {
    let (status, problem) = match error {
        Error::NotFound(_) => {
            let message = "Nothing waits with that code. Codes end after ten minutes, and work once.".into();
            (StatusCode::NOT_FOUND, FormProblem { field: "code", message })
        }
        other => FormProblem::of(other)?,
    };
    console::page_as(status, &CodePage { code, problem: Some(problem) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Caller, Controller};

    #[tokio::test]
    async fn a_command_line_is_let_in_or_refused_by_a_form() {
        let controller = Controller::start().await;
        let new = json!({"client": "rctl on <b>box</b>"});
        for (decision, words, outcome) in [("approve", "connected", 200), ("deny", "refused", 400)] {
            let codes = controller.post(&Caller::Nobody, "/device/code", &new).await.expect(200);
            let code = codes.text("user_code");
            let path = format!("/device?code={code}");
            let away = controller.page(&Caller::Nobody, &path).await.expect(303);
            assert_eq!(away.headers["location"], format!("/login?next=%2Fdevice%3Fcode%3D{code}").as_str());
            let admin = controller.login(ADMIN).await;
            let asked = controller.page(&admin, &format!("/device?code={}", code.to_lowercase())).await.expect(200);
            assert!(asked.raw.contains("rctl on &#60;b&#62;box") && asked.raw.contains(&code), "{}", asked.raw);
            let fields = [("code", code.as_str()), ("decision", decision)];
            let Caller::Session { cookie, .. } = admin.clone() else { panic!() };
            let forged = Caller::Session { cookie, csrf: String::new() };
            controller.submit(&forged, "/device", &fields).await.expect(403);
            let done = controller.submit(&admin, "/device", &fields).await.expect(200);
            assert!(done.raw.contains(words), "{}", done.raw);
            let again = controller.submit(&admin, "/device", &fields).await.expect(404);
            assert!(again.raw.contains("Nothing waits with that code"), "{}", again.raw);
            let question = json!({"device_code": codes.text("device_code")});
            controller.post(&Caller::Nobody, "/device/token", &question).await.expect(outcome);
        }
    }
}

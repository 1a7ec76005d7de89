//! `/orgs/{org}/users/{name}/rights`: what somebody may do, and why.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::{Head, Refusal, Status, drawn, given, offered, rows, split, url};
use crate::State;
use crate::console::{FormProblem, Frame, Section, Viewer};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::rights::api::{RightView, WhyQuery, WhyView, get_rights, get_why};

#[derive(Template)]
#[template(path = "users/rights.html")]
struct RightsPage {
    frame: Frame,
    head: Head,
    rights: Vec<RightView>,
    permissions: Vec<&'static str>,
    projects: Vec<String>,
    asked: Question,
    answer: Option<WhyView>,
    problem: Option<FormProblem>,
    first: String,
    next: Option<String>,
}

/// What is asked, as the address holds it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Question {
    permission: String,
    project: String,
    repository: String,
    tag: String,
    after: String,
}

/// The page.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(asked): Query<Question>,
) -> Result<Response> {
    let head = Head::of(&viewer, &state, &org, &name, "rights").await?;
    let path = Path((org.clone(), name.clone()));
    let query = Query(rows(given(&asked.after)));
    let Json(page) = get_rights(viewer.actor(), Shared(state.clone()), path, query).await?;
    let (answer, refusal) = match answer(&viewer, &state, &org, &head, &asked).await {
        Ok(answer) => (answer, None),
        Err(error) => (None, Some(Refusal::of(error, None, &["project", "repository"])?)),
    };
    let here = format!("{}/rights", head.at);
    let (problem, refused) = split(refusal);
    let page = RightsPage {
        frame: viewer.frame(Section::Users),
        head,
        rights: page.items,
        permissions: asked_for(),
        projects: offered(&viewer, &state, &org).await?.0,
        answer,
        problem,
        first: if asked.after.is_empty() { String::new() } else { here.clone() },
        next: page.next.map(|after| url(&here, &[("after", &after)])),
        asked,
    };
    drawn(&page, refused)
}

async fn answer(viewer: &Viewer, state: &State, org: &str, head: &Head, asked: &Question) -> Result<Option<WhyView>> {
    if asked.permission.is_empty() {
        return Ok(None);
    }
    if asked.permission.starts_with("platform.") {
        return Err(Error::invalid("permission", "ask for a permission of organizations"));
    }
    let query = WhyQuery {
        user: Some(head.user.name.clone()),
        permission: asked.permission.clone(),
        project: given(&asked.project),
        repository: given(&asked.repository),
        tag: given(&asked.tag),
    };
    let Json(answer) = get_why(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), Query(query)).await?;
    Ok(Some(answer))
}

/// Permissions that an organization gives.
fn asked_for() -> Vec<&'static str> {
    let all = Permission::ALL.iter().map(|permission| permission.as_str());
    all.filter(|name| !name.starts_with("platform.")).collect()
}

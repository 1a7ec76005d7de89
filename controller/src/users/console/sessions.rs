//! `/orgs/{org}/users/{name}/sessions`

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use serde::Deserialize;

use super::{Head, given, rows, url};
use crate::State;
use crate::console::{self, Frame, Section, Viewer};
use crate::error::Result;
use crate::extract::{Path, Query};
use crate::sessions::list::{ListedSession, list_sessions};

#[derive(Template)]
#[template(path = "users/sessions.html")]
struct SessionsPage {
    frame: Frame,
    head: Head,
    sessions: Vec<ListedSession>,
    first: String,
    next: Option<String>,
}

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct At {
    after: String,
}

/// The page.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Response> {
    let head = Head::of(&viewer, &state, &org, &name, "sessions").await?;
    let (path, query) = (Path((org, name)), Query(rows(given(&at.after))));
    let Json(page) = list_sessions(viewer.actor(), Shared(state), path, query).await?;
    let here = format!("{}/sessions", head.at);
    console::page(&SessionsPage {
        frame: viewer.frame(Section::Users),
        sessions: page.items,
        first: if at.after.is_empty() { String::new() } else { here.clone() },
        next: page.next.map(|after| url(&here, &[("after", &after)])),
        head,
    })
}

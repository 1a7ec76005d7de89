//! `/styleguide`: every component on one page. In debug builds alone.

use askama::Template;
use axum::response::Response;

use super::{FormProblem, Frame, Section, Viewer, page};
use crate::error::Result;

#[derive(Template)]
#[template(path = "console/styleguide.html")]
struct Page {
    frame: Frame,
    problem: Option<FormProblem>,
}

/// The page.
pub(crate) async fn show(viewer: Viewer) -> Result<Response> {
    let problem = FormProblem { field: "name", message: "Use lower-case letters, digits and dashes.".into() };
    page(&Page { frame: viewer.frame(Section::None), problem: Some(problem) })
}

#[derive(Template)]
#[template(path = "console/styleguide_dialog.html")]
struct DialogPage {
    frame: Frame,
    problem: Option<FormProblem>,
}

/// A page that a script opens as a dialog.
pub(crate) async fn dialog(viewer: Viewer) -> Result<Response> {
    page(&DialogPage { frame: viewer.frame(Section::None), problem: None })
}

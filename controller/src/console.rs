//! The console: what people see in a browser. The server draws every page, and every page works without a script; what a
//! page shows and changes goes through the functions of the REST API, so that neither can do what the other cannot.
//!
//! A request's way: [`answer`] (a failure becomes a page, or leads to the log-in) → [`form`] (a form's token stands for the
//! header that only scripts can send) → [`Viewer`] (whose session, in which organization) → the handler in
//! `<noun>/console.rs`, which calls its neighbour `api.rs` → a template of `templates/<noun>/` in the [`Frame`].

pub(crate) mod answer;
pub(crate) mod assets;
pub(crate) mod form;
mod frame;
pub(crate) mod front;
pub(crate) mod notice;
pub(crate) mod parts;
mod routes;
#[cfg(debug_assertions)]
mod styleguide;
mod viewer;

use std::ops::ControlFlow;

use askama::Template;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};

use crate::error::{Error, Result};

pub(crate) use form::{Form, FormProblem};
pub(crate) use frame::{Frame, Section};
pub(crate) use routes::router;
pub(crate) use viewer::Viewer;

/// What a page may do: run and look as our own files say, show our own pictures, ask and send forms to this server. No other
/// page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Rows of a list's page.
pub(crate) const PAGE: i64 = 50;

/// A page.
///
/// # Errors
/// 500 where the template cannot be drawn.
pub(crate) fn page(template: &impl Template) -> Result<Response> {
    page_as(StatusCode::OK, template)
}

/// A page with a status: a form that is shown again with what was wrong.
///
/// # Errors
/// As [`page`].
pub(crate) fn page_as(status: StatusCode, template: &impl Template) -> Result<Response> {
    Ok(answer(status, template.render().map_err(Error::internal)?))
}

/// Longest page, in bytes, where its lines hold names that others chose.
const LONGEST: usize = 96 << 10;

/// A page of so many lines, or how many to try instead where it is too long.
///
/// # Errors
/// As [`page`].
pub(crate) fn page_of(lines: i64, template: &impl Template) -> Result<ControlFlow<Response, i64>> {
    let text = template.render().map_err(Error::internal)?;
    if text.len() <= LONGEST || lines <= 1 {
        return Ok(ControlFlow::Break(answer(StatusCode::OK, text)));
    }
    let (longest, length) = (i64::try_from(LONGEST).unwrap_or(i64::MAX), i64::try_from(text.len()).unwrap_or(i64::MAX));
    Ok(ControlFlow::Continue((lines * longest / length).clamp(1, lines - 1)))
}

fn answer(status: StatusCode, text: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8")),
        (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
        // With no referrer at all, browsers would send forms with the origin `null`.
        (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    ];
    (status, headers, text).into_response()
}

/// Leads on to a page of ours after something was done, by GET. `to` is a path made of [`crate::etag::segment`]s.
pub(crate) fn see(to: &str) -> Response {
    let to = HeaderValue::from_str(to).unwrap_or_else(|_| HeaderValue::from_static("/"));
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

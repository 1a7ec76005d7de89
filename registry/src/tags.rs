//! Listing tags (end-8).

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use storage::names::RepoName;

use crate::State;
use crate::action::Page;
use crate::error::{Error, Result};
use crate::page;

#[derive(Serialize)]
struct TagList<'a> {
    name: &'a str,
    tags: Vec<String>,
}

/// Tags in byte order, after `last`, at most `n`.
pub(crate) async fn list(state: &State, repo: &RepoName, wanted: &Page) -> Result<Response> {
    let limit = page::limit(wanted, page::MAX);
    let mut session = state.db().read().await?;
    let rows =
        storage::tags::list(&mut session, repo, &wanted.last, i64::try_from(limit + 1).unwrap_or(i64::MAX)).await?;
    if rows.is_empty() && storage::repositories::find(&mut session, repo).await?.is_none() {
        return Err(Error::no_repository(repo));
    }
    drop(session);
    let mut tags: Vec<String> = rows.into_iter().map(|row| row.name).collect();
    let more = page::cut(&mut tags, limit);
    let last = tags.last().cloned().unwrap_or_default();
    let mut response = Json(TagList { name: repo.as_spelled(), tags }).into_response();
    if more {
        let path = format!("/v2/{repo}/tags/list");
        page::link(response.headers_mut(), &path, &[("last", &last), ("n", &limit.to_string())]);
    }
    Ok(response)
}

//! Listing tags (end-8).

use axum::body::Body;
use axum::response::Response;
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use storage::names::RepoName;

use crate::State;
use crate::action::Page;
use crate::error::{Error, Result};
use crate::page;

/// Tags in byte order, after `last`, at most `n`.
pub(crate) async fn list(state: &State, repo: &RepoName, wanted: &Page) -> Result<Response> {
    let limit = page::limit(wanted, page::MAX);
    let mut session = state.db().read().await?;
    let rows = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut tags = storage::tags::names(&mut session, repo, &wanted.last, rows).await?;
    if tags.is_empty() && storage::repositories::find(&mut session, repo).await?.is_none() {
        return Err(Error::no_repository(repo));
    }
    drop(session);
    // n=0 asks for an empty list, and that is all of it.
    let more = tags.cut(limit) && limit > 0;
    // Neither a repository's name nor a tag has anything to escape.
    let body = ["{\"name\":\"", repo.as_spelled(), "\",\"tags\":", &tags.to_json(), "}"].concat();
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if more {
        let path = format!("/v2/{repo}/tags/list");
        page::link(response.headers_mut(), &path, &[("last", tags.last()), ("n", &limit.to_string())]);
    }
    Ok(response)
}

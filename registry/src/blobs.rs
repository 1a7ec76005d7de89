//! Reading and deleting blobs (end-2, end-10).

use std::ops::Range;
use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, WARNING,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use identity::audit::Caller;
use storage::blobs::Blob;
use storage::names::{Digest, RepoName};
use storage::outlet::Outlet;
use storage::shelf::Shelved;

use crate::direct::{self, Direct};
use crate::error::{Code, Error, Result};
use crate::pieces::{CHUNK, Pieces};
use crate::range::{self, Wanted};
use crate::{CONTENT_DIGEST, State, audit};

/// How a blob is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Get<'a> {
    /// Only the head of the answer.
    pub(crate) head: bool,
    /// The caller may push, so that "it is there" is a promise: the blob's lease is renewed.
    pub(crate) lease: bool,
    /// The connection, where it can send from files.
    pub(crate) outlet: Option<&'a Outlet>,
}

fn unknown(digest: &Digest) -> Error {
    Error::missing(Code::BlobUnknown, "blob unknown to this repository")
        .detail(serde_json::json!({ "digest": digest.as_str() }))
}

/// A blob's bytes, or a part of them.
pub(crate) async fn get(
    state: &State,
    headers: &HeaderMap,
    repo: &RepoName,
    digest: &Digest,
    how: Get<'_>,
) -> Result<Response> {
    let found = state.shelf().blob(repo, digest).await?.ok_or_else(|| unknown(digest))?;
    if how.head && how.lease {
        renew_lease(state, repo, digest, found.blob.lease_until).await?;
    }
    let size = found.blob.size.unsigned_abs();
    let etag = format!("\"{digest}\"");
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    out.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    out.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    out.insert(CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable"));
    put(out, &CONTENT_DIGEST, digest.as_str());
    put(out, &ETAG, &etag);
    out.insert(CONTENT_LENGTH, HeaderValue::from(size));
    check_match(headers, &etag)?;
    if none_match(headers, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    let stale = headers.get(IF_RANGE).is_some_and(|given| given.as_bytes() != etag.as_bytes());
    // A range means something for GET alone (RFC 9110 §14.2).
    let (first, length) = match if stale || how.head { Wanted::Whole } else { range::wanted(headers, size) } {
        Wanted::Whole => (0, size),
        Wanted::Part { first, last } => {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            put(response.headers_mut(), &CONTENT_RANGE, &format!("bytes {first}-{last}/{size}"));
            (first, last - first + 1)
        }
        Wanted::Unsatisfiable => return Err(Error::range_not_satisfiable(size)),
    };
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    if !how.head && length > 0 {
        *response.body_mut() = body(state, &found, (repo, digest), how.outlet, first..first + length).await?;
    }
    Ok(response)
}

/// The bytes of a range: from memory where the blob is small, else as they are read, or straight from the file.
async fn body(
    state: &State,
    found: &Arc<Shelved>,
    (repo, digest): (&RepoName, &Digest),
    outlet: Option<&Outlet>,
    range: Range<u64>,
) -> Result<Body> {
    if found.is_small() {
        let bytes = match found.bytes() {
            Some(bytes) => bytes,
            None => healed(state, &found.blob, repo, digest, |row| state.shelf().bytes(found, row)).await?,
        };
        let part = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
        let part = part.filter(|(_, end)| *end <= bytes.len());
        // A row that says another length than its digest has is damage.
        let (start, end) = part.ok_or_else(|| storage::Error::Damaged("a blob's length is not its row's".into()))?;
        return Ok(Body::from(bytes.slice(start..end)));
    }
    let (first, end) = (range.start, range.end);
    // One piece is sooner copied than sent from the file, which takes more calls.
    if let Some(outlet) = outlet.filter(|_| end - first > CHUNK) {
        let warm_first = |row: Blob| direct::open(state, row.object_key, range.clone());
        // Nothing where the file system cannot do that.
        if let Some(reader) = healed(state, &found.blob, repo, digest, warm_first).await? {
            return Ok(Body::new(Direct::new(reader, outlet.clone(), range)));
        }
    }
    let read_first = |row: Blob| read_first(state, row.object_key, range.clone());
    let (piece, rest) = healed(state, &found.blob, repo, digest, read_first).await?;
    if piece.len() as u64 == end - first {
        return Ok(Body::from(piece));
    }
    Ok(Body::from_stream(stream::once(std::future::ready(Ok(piece))).chain(rest.into_stream())))
}

/// Reads a blob's first bytes, so that damage found at once is an error and not a cut body.
async fn healed<T, F: Future<Output = storage::Result<T>>>(
    state: &State,
    row: &Blob,
    repo: &RepoName,
    digest: &Digest,
    read: impl Fn(Blob) -> F,
) -> Result<T> {
    match read(row.clone()).await {
        Err(storage::Error::Damaged(_)) => {
            // A push may have put another object in its place between the two looks.
            let mut session = state.db().read().await?;
            let again = storage::blobs::find(&mut session, repo, digest).await?.ok_or_else(|| unknown(digest))?;
            drop(session);
            match read(again.clone()).await {
                Err(damage @ storage::Error::Damaged(_)) => {
                    report_damage(state, &again).await?;
                    Err(damage.into())
                }
                other => Ok(other?),
            }
        }
        other => Ok(other?),
    }
}

/// Bytes that are gone: says so from now on, so that the next push of the digest heals it. Not where the whole store is
/// away, as when its file system is not mounted.
async fn report_damage(state: &State, blob: &Blob) -> Result<()> {
    let objects = state.objects().clone();
    let present = tokio::task::spawn_blocking(move || objects.is_present()).await.unwrap_or(false);
    tracing::error!(
        digest = blob.digest,
        object.key = blob.object_key,
        store.present = present,
        "a blob's bytes are lost"
    );
    if present {
        let mut tx = state.db().begin().await?;
        let now = state.identity().now();
        storage::blobs::mark_damaged(&mut tx, &blob.org_id, &blob.digest, &blob.object_key, now).await?;
        tx.commit().await?;
    }
    Ok(())
}

async fn read_first(state: &State, key: String, range: Range<u64>) -> storage::Result<(Bytes, Pieces)> {
    let reader = state.shelf().reader(&key, range.end).await?;
    let mut pieces = Pieces::new(reader, range);
    let first = pieces.next().await?.unwrap_or_default();
    Ok((first, pieces))
}

/// Keeps a blob that a pusher was told of for the grace period, where an eighth of its lease is over.
async fn renew_lease(state: &State, repo: &RepoName, digest: &Digest, lease_until: i64) -> Result<()> {
    let now = state.identity().now();
    let grace = state.uploads().lifetimes().grace;
    if lease_until - now > grace - grace / 8 {
        return Ok(());
    }
    let mut tx = state.db().begin().await?;
    if let Some(repository) = storage::repositories::find(&mut tx, repo).await?
        && storage::blobs::renew_lease(&mut tx, &repository.id, digest, now + grace).await?
    {
        tx.commit().await?;
        return Ok(());
    }
    Err(unknown(digest))
}

/// Takes a blob out of the repository; at once it can no longer be read here.
pub(crate) async fn delete(state: &State, by: &Caller, repo: &RepoName, digest: &Digest) -> Result<Response> {
    let now = state.identity().now();
    let (mut tx, gone) = storage::blobs::begin_unlinked(state.db(), repo, digest, now).await?;
    let Some(gone) = gone else {
        let repository = storage::repositories::find(&mut tx, repo).await?;
        return Err(repository.map_or_else(|| Error::no_repository(repo), |_| unknown(digest)));
    };
    let target = format!("{}@{digest}", repo.canonical());
    let detail = serde_json::json!({ "still_referred_to": gone.referenced });
    audit::record(state, &mut tx, by, &gone.org_id, (repo, "blob.delete", &target), detail).await?;
    tx.commit().await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    if gone.referenced {
        let warning =
            "299 - \"manifests of this repository still refer to the deleted blob and can no longer be pulled\"";
        response.headers_mut().insert(WARNING, HeaderValue::from_static(warning));
    }
    Ok(response)
}

/// 412 where `If-Match` names something else than we have (RFC 9110 §13.1.1, strong comparison).
pub(crate) fn check_match(headers: &HeaderMap, etag: &str) -> Result<()> {
    let mut given = headers.get_all(http::header::IF_MATCH).iter().filter_map(|value| value.to_str().ok()).peekable();
    if given.peek().is_none()
        || given.any(|value| value.trim() == "*" || value.split(',').any(|one| one.trim() == etag))
    {
        return Ok(());
    }
    Err(Error::new(StatusCode::PRECONDITION_FAILED, Code::Unsupported, "If-Match names another entity than is here"))
}

/// Whether `If-None-Match` names what we have (RFC 9110 §13.1.2, weak comparison).
pub(crate) fn none_match(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(http::header::IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.trim() == "*" || value.split(',').any(|one| one.trim().trim_start_matches("W/") == etag))
}

/// Sets a header to text that is known to be header-safe.
pub(crate) fn put(headers: &mut HeaderMap, name: &http::HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}

//! Pushing blobs (end-4a, 4b, 4c, 5, 6, 11, 13, 14).
//!
//! Beginning an upload takes a token; the session's URL then carries its own capability. Request bodies are taken in by
//! a task of their own, so that a client that goes away does not stop the bookkeeping: what a PATCH brought before the
//! line broke is made durable, and `GET` on the session says how much that is.

mod incoming;

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use http::header::{CONTENT_LENGTH, LOCATION, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use identity::rbac::Permission;
use identity::token::Bearer;
use storage::names::{Algorithm, Digest, RepoName};
use storage::orgs;
use storage::projects::Place;
use storage::uploads::{Committed, NewUpload, Target, Upload};

use self::incoming::{Chunk, Incoming, Keep, TakeInError, take_in};
use crate::action::{Action, Start};
use crate::auth;
use crate::blobs::put;
use crate::error::{Code, Error, Result};
use crate::{CONTENT_DIGEST, State};

static UPLOAD_UUID: HeaderName = HeaderName::from_static("docker-upload-uuid");

/// An upload to begin.
#[derive(Debug)]
pub(crate) struct Begin {
    pub(crate) repo: RepoName,
    pub(crate) algorithm: Algorithm,
    pub(crate) start: Start,
}

/// Finds the organization and the project of a repository that is pushed to.
///
/// # Errors
/// 404 that says how to make the project. Only for callers whose token covers the repository.
pub(crate) async fn place(state: &State, repo: &RepoName) -> Result<Arc<Place>> {
    if let Some(place) = state.shelf().place(repo).await? {
        return Ok(place);
    }
    let mut session = state.db().read().await?;
    let (org, project, url) = (repo.org(), repo.project(), &state.settings().controller_url);
    let message = if orgs::find_by_slug(&mut session, org).await?.is_none() {
        format!("organization '{org}' does not exist")
    } else {
        format!(
            "project '{project}' does not exist in organization '{org}': create it with \
             POST {url}/api/v1/orgs/{org}/projects {{\"slug\":\"{project}\"}}, or push to {org}/<name>, \
             which lies in the default project"
        )
    };
    Err(Error::missing(Code::NameUnknown, message))
}

/// POST: a session, a whole blob, or a mount.
pub(crate) async fn begin(
    state: &State,
    headers: &HeaderMap,
    bearer: &Bearer,
    begin: Begin,
    body: Body,
) -> Result<Response> {
    let place = place(state, &begin.repo).await?;
    if let Start::Mount { digest, from } = &begin.start
        && mount(state, bearer, &begin.repo, &place, digest, from.as_ref()).await?
    {
        return Ok(created(&begin.repo, digest));
    }
    let Some(user) = &bearer.user else {
        // Anonymous tokens never carry push; this is the second lock on that door.
        return Err(Error::new(StatusCode::UNAUTHORIZED, Code::Unauthorized, "anonymous users cannot push"));
    };
    let epochs = bearer.epochs.to_string();
    let new = NewUpload {
        org_id: &place.org_id,
        project_id: &place.project_id,
        repository: begin.repo.canonical(),
        user_id: user,
        api_key_id: bearer.key.as_deref(),
        epochs: &epochs,
        algorithm: begin.algorithm,
    };
    let upload = state.uploads().begin(&new);
    match begin.start {
        // Nobody is told of the session: it ends with the request.
        Start::Monolithic(digest) => {
            finish(state, headers, &begin.repo, upload, Finish { digest, alone: true }, body).await
        }
        Start::Session | Start::Mount { .. } => Ok(progress(state, &begin.repo, &upload, 0, StatusCode::ACCEPTED)),
    }
}

/// Links a blob that the caller may read elsewhere in the organization into `repo`. False where there is none: then the
/// caller gets a session, whether the source is missing, another tenant's, or not the caller's to read.
async fn mount(
    state: &State,
    bearer: &Bearer,
    repo: &RepoName,
    place: &Place,
    digest: &Digest,
    from: Option<&RepoName>,
) -> Result<bool> {
    let readable = match from {
        Some(from) if from.org() != repo.org() || !auth::may_pull(bearer, from) => false,
        Some(from) => {
            let mut session = state.db().read().await?;
            storage::blobs::find(&mut session, from, digest).await?.is_some()
        }
        None => readable_somewhere(state, bearer, place, digest).await?,
    };
    if !readable {
        return Ok(false);
    }
    let now = state.identity().now();
    let mut tx = state.db().begin().await?;
    let repository = storage::repositories::ensure(&mut tx, &place.org_id, &place.project_id, repo, now).await?;
    let lease = now + state.uploads().lifetimes().grace;
    if !storage::blobs::link(&mut tx, &repository.id, &place.org_id, digest, lease).await? {
        return Ok(false);
    }
    tx.commit().await?;
    Ok(true)
}

/// Whether the caller may read the blob in any repository of the organization (a mount without `from`).
async fn readable_somewhere(state: &State, bearer: &Bearer, place: &Place, digest: &Digest) -> Result<bool> {
    let Some(user) = &bearer.user else { return Ok(false) };
    let Some(principal) = state.identity().principal(user, bearer.key.as_deref()).await? else { return Ok(false) };
    let reach = principal.reach(Permission::RegistryPull);
    let mut session = state.db().read().await?;
    if reach.orgs.contains(&place.org_id) {
        return Ok(storage::blobs::is_linked_in(&mut session, &place.org_id, None, digest).await?);
    }
    // Only what the caller may read is looked at: what else the organization has shows in no answer and in no time.
    for project in &reach.projects {
        if storage::blobs::is_linked_in(&mut session, &place.org_id, Some(project), digest).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// GET, PATCH, PUT, DELETE on a session, which its URL's capability covers.
pub(crate) async fn session(state: &State, headers: &HeaderMap, action: Action, body: Body) -> Result<Response> {
    match action {
        Action::UploadStatus { repo, session } => {
            let upload = auth::session::open(state, headers, &repo, &session).await?;
            Ok(progress(state, &repo, &upload, upload.received.unsigned_abs(), StatusCode::NO_CONTENT))
        }
        Action::AppendUpload { repo, session } => {
            let upload = auth::session::open(state, headers, &repo, &session).await?;
            append(state, headers, repo, upload, body).await
        }
        Action::FinishUpload { repo, session, digest } => {
            let upload = match auth::session::open(state, headers, &repo, &session).await {
                Ok(upload) => upload,
                Err(error) => return repeated(state, headers, &repo, &session, &digest).await?.ok_or(error),
            };
            finish(state, headers, &repo, upload, Finish { digest, alone: false }, body).await
        }
        Action::CancelUpload { repo, session } => {
            let upload = auth::session::open(state, headers, &repo, &session).await?;
            state.uploads().cancel(&upload.id).await?;
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(response)
        }
        _ => Err(Error::method_not_allowed("GET, PATCH, PUT, DELETE")),
    }
}

/// The answer to a PUT whose first answer was lost: the session is gone because the blob is there. It takes a token, since
/// whose session it was is no longer known.
async fn repeated(
    state: &State,
    headers: &HeaderMap,
    repo: &RepoName,
    session: &str,
    digest: &Digest,
) -> Result<Option<Response>> {
    let put = Action::FinishUpload { repo: repo.clone(), session: session.to_owned(), digest: digest.clone() };
    let Some(what) = auth::session::genuine(state, repo, session) else { return Ok(None) };
    if auth::authorized(state, headers, &put).await.is_err() {
        return Ok(None);
    }
    if state.uploads().find(auth::session::id(what)).await?.is_some() {
        return Ok(None);
    }
    let mut session = state.db().read().await?;
    let found = storage::blobs::find(&mut session, repo, digest).await?;
    Ok(found.map(|_| created(repo, digest)))
}

/// PATCH: the next chunk, or a stream of unknown length.
async fn append(state: &State, headers: &HeaderMap, repo: RepoName, upload: Upload, body: Body) -> Result<Response> {
    let chunk = Chunk::of(headers)?;
    let (state, headers) = (state.clone(), headers.clone());
    let task = tokio::spawn(async move {
        let mut writer = state.uploads().claim(&upload).await?;
        if let Err(error) = chunk.fits(&state, &repo, &upload, &writer) {
            writer.release().await?;
            return Err(error);
        }
        let request = Incoming { headers: &headers, repo: &repo, upload: &upload, chunk, keep: Keep::Checkpoints };
        let taken = take_in(&state, &mut writer, &request, body).await;
        let outcome = taken.and_then(|()| chunk.is_whole(&writer));
        match outcome {
            // What arrived is kept, also where the line broke: it is a prefix of what the client sends.
            Ok(()) | Err(TakeInError::Cut(_)) => {
                let at = writer.close().await;
                outcome.map_err(TakeInError::into_answer)?;
                let at = at?;
                Ok(progress(
                    &state,
                    &repo,
                    &Upload { unstored: upload.unstored && at == 0, ..upload },
                    at,
                    StatusCode::ACCEPTED,
                ))
            }
            Err(error) => {
                writer.release().await?;
                Err(error.into_answer())
            }
        }
    });
    join(task).await
}

/// How an upload is to be finished.
#[derive(Debug)]
struct Finish {
    /// The digest that the whole must have.
    digest: Digest,
    /// The session is this request's own, and ends with it.
    alone: bool,
}

/// PUT, or POST with `?digest=`: the last bytes, if any, and the digest that the whole must have.
async fn finish(
    state: &State,
    headers: &HeaderMap,
    repo: &RepoName,
    upload: Upload,
    how: Finish,
    body: Body,
) -> Result<Response> {
    let chunk = Chunk::of(headers)?;
    let (state, headers, repo) = (state.clone(), headers.clone(), repo.clone());
    let task = tokio::spawn(async move {
        let id = upload.id.clone();
        let outcome = try_finish(&state, &headers, &repo, upload, (chunk, &how.digest), body).await;
        if outcome.is_err() && how.alone {
            state.uploads().cancel(&id).await?;
        }
        outcome
    });
    join(task).await
}

async fn try_finish(
    state: &State,
    headers: &HeaderMap,
    repo: &RepoName,
    upload: Upload,
    (chunk, digest): (Chunk, &Digest),
    body: Body,
) -> Result<Response> {
    let mut writer = state.uploads().claim(&upload).await?;
    if let Err(error) = chunk.fits(state, repo, &upload, &writer) {
        writer.release().await?;
        return Err(error);
    }
    let request = Incoming { headers, repo, upload: &upload, chunk, keep: Keep::Nothing };
    let taken = take_in(state, &mut writer, &request, body).await;
    if let Err(error) = taken.and_then(|()| chunk.is_whole(&writer)) {
        writer.release().await?;
        return Err(error.into_answer());
    }
    match writer.commit(&Target { repository: repo, digest }).await? {
        Committed::Done { size } => {
            tracing::info!(repo.name = repo.canonical(), digest = digest.as_str(), size_bytes = size, "blob pushed");
            Ok(created(repo, digest))
        }
        Committed::DigestMismatch { computed } => {
            Err(Error::bad(Code::DigestInvalid, "the content has another digest than the upload was closed with")
                .detail(serde_json::json!({ "given": digest.as_str(), "computed": computed.as_str() })))
        }
    }
}

async fn join(task: tokio::task::JoinHandle<Result<Response>>) -> Result<Response> {
    task.await.unwrap_or_else(|error| {
        Err(storage::Error::Io { context: "an upload's task ended early", source: std::io::Error::other(error) }.into())
    })
}

/// 201 with where the blob is.
fn created(repo: &RepoName, digest: &Digest) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    put(response.headers_mut(), &LOCATION, &format!("/v2/{repo}/blobs/{digest}"));
    put(response.headers_mut(), &CONTENT_DIGEST, digest.as_str());
    response
}

/// Where a session stands.
fn progress(state: &State, repo: &RepoName, upload: &Upload, received: u64, status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    progress_headers(response.headers_mut(), state, repo, upload, received);
    if status == StatusCode::ACCEPTED {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    }
    response
}

fn progress_headers(headers: &mut HeaderMap, state: &State, repo: &RepoName, upload: &Upload, received: u64) {
    let session = auth::session::name(state, repo, upload);
    put(headers, &LOCATION, &format!("/v2/{repo}/blobs/uploads/{session}"));
    // The last byte, inclusive. For none there is no such number: clients read "0-0" and choke on "0--1".
    put(headers, &RANGE, &format!("0-{}", received.saturating_sub(1)));
    put(headers, &UPLOAD_UUID, &upload.id);
}

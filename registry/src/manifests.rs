//! Pulling, pushing and deleting manifests (end-3, end-7a, end-7b, end-9). Bytes go out as they came in.

use axum::body::Body;
use axum::response::Response;
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, LOCATION, WARNING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt;
use identity::audit::Caller;
use identity::rbac::Permission;
use storage::deletion::Choice;
use storage::digest::digest_of;
use storage::manifests::{NewManifest, Put as Stored};
use storage::names::{Algorithm, Digest, Reference, RepoName, Tag};
use tokio::time::{Instant, timeout_at};

use crate::blobs::{check_match, none_match, put as set};
use crate::error::{Code, Error, Result};
use crate::manifest::{self, Parsed};
use crate::uploads::place;
use crate::{CONTENT_DIGEST, State, audit, auth, limits};

static OCI_SUBJECT: HeaderName = HeaderName::from_static("oci-subject");
static OCI_TAG: HeaderName = HeaderName::from_static("oci-tag");

/// Most tags that the audit log names of a manifest that was deleted.
const TAGS_RECORDED: i64 = 50;
/// Most tags of a manifest that are compared with a role's patterns when it is deleted.
const TAGS_CHECKED: i64 = 10_000;

/// A manifest to push.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) repo: RepoName,
    pub(crate) reference: Reference,
    pub(crate) tags: Vec<Tag>,
}

/// A manifest to pull.
#[derive(Debug)]
pub(crate) struct Get {
    pub(crate) repo: RepoName,
    pub(crate) reference: Reference,
    /// The head alone.
    pub(crate) head: bool,
}

fn unknown(reference: &Reference) -> Error {
    Error::missing(Code::ManifestUnknown, "manifest unknown to this repository")
        .detail(serde_json::json!({ "reference": reference.to_string() }))
}

/// The exact bytes that were pushed. Who pulls is asked for where there is something to record.
pub(crate) async fn get(state: &State, headers: &HeaderMap, by: impl FnOnce() -> Caller, get: Get) -> Result<Response> {
    let Get { repo, reference, head } = get;
    let found = state.shelf().manifest(&repo, &reference).await?.ok_or_else(|| unknown(&reference))?;
    let etag = format!("\"{}\"", found.digest);
    let mut response = Response::new(Body::empty());
    let out = response.headers_mut();
    set(out, &CONTENT_TYPE, &found.media_type);
    set(out, &CONTENT_DIGEST, &found.digest);
    set(out, &ETAG, &etag);
    // A tag may move at any time.
    out.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    out.insert(CONTENT_LENGTH, HeaderValue::from(found.payload.len()));
    check_match(headers, &etag)?;
    if none_match(headers, &etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Ok(response);
    }
    if !head {
        audit::pulled(state, &by(), &repo, &reference, &found).await?;
        *response.body_mut() = Body::from(found.payload.clone());
    }
    Ok(response)
}

/// Stores a manifest and its tags, as one.
pub(crate) async fn put(state: &State, headers: &HeaderMap, by: &Caller, put: Put, body: Body) -> Result<Response> {
    let place = place(state, &put.repo).await?;
    let begun = Instant::now();
    let payload = read(state, headers, body).await?;
    if begun.elapsed() >= auth::RIGHTS_CHECK {
        auth::still_counts(state, headers, &put.repo).await?;
    }
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parsed = manifest::parse(content_type, &payload).map_err(|invalid| {
        let code =
            if matches!(invalid, manifest::Invalid::Digest(_)) { Code::DigestInvalid } else { Code::ManifestInvalid };
        Error::bad(code, invalid.to_string())
    })?;
    let digest = digest_for(&put.reference, &payload)?;
    let mut tags = put.tags;
    if let Reference::Tag(tag) = put.reference {
        tags.push(tag);
    }
    let here = limits::Place { org_id: &place.org_id, project_id: &place.project_id };
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    limits::check_tags(state, by, Permission::RegistryPush, &here, &put.repo, &names).await?;
    let now = state.identity().now();
    let (mut tx, repository) =
        storage::repositories::begin_in(state.db(), &place.org_id, &place.project_id, &put.repo, now).await?;
    let new = NewManifest {
        digest: &digest,
        media_type: &parsed.media_type,
        payload: &payload,
        blobs: if place.sparse { Vec::new() } else { parsed.blobs.clone() },
        children: if place.sparse {
            [parsed.blobs.as_slice(), &parsed.children].concat()
        } else {
            parsed.children.clone()
        },
        subject: parsed.subject.as_ref(),
        artifact_type: parsed.artifact_type.as_deref(),
        annotations: parsed.annotations.clone(),
        pushed_by: &by.principal.name,
        tags: &tags,
    };
    let lease = now + state.uploads().lifetimes().grace;
    match storage::manifests::put(&mut tx, &repository, &new, now, lease).await? {
        Stored::Stored { moved } => {
            let known_as = tags.last().map_or_else(|| Reference::Digest(digest.clone()), |t| Reference::Tag(t.clone()));
            let target = audit::target(&put.repo, &known_as);
            let detail = serde_json::json!({
                "digest": digest.as_str(),
                "media_type": parsed.media_type,
                "size": payload.len(),
                "tags": tags.iter().map(Tag::as_str).collect::<Vec<_>>(),
                "tags_moved_from": moved,
            });
            audit::record(state, &mut tx, by, &repository.org_id, (&put.repo, "image.push", &target), detail).await?;
            tx.commit().await?;
        }
        Stored::MissingBlobs(missing) => return Err(missing_blobs(&missing)),
    }
    tracing::info!(
        repo.name = put.repo.canonical(),
        digest = digest.as_str(),
        user.name = by.principal.name.as_str(),
        size_bytes = payload.len(),
        "manifest pushed"
    );
    Ok(created(&put.repo, &digest, &parsed, &tags, content_type))
}

/// The body, within the limit.
async fn read(state: &State, headers: &HeaderMap, mut body: Body) -> Result<Bytes> {
    let limit = state.settings().max_manifest;
    let too_large = || {
        let message = format!("manifests of this registry have at most {limit} bytes");
        Error::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message)
    };
    let declared = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if declared.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut payload = BytesMut::new();
    // A manifest is small: it has the time in all that a blob has between two bytes.
    let deadline = Instant::now() + state.settings().body_idle;
    loop {
        let frame = match timeout_at(deadline, body.frame()).await {
            Err(_) => {
                let message = "the manifest did not arrive in time";
                return Err(Error::new(StatusCode::REQUEST_TIMEOUT, Code::ManifestInvalid, message));
            }
            Ok(None) if declared.is_some_and(|length| length != payload.len() as u64) => {
                return Err(Error::bad(Code::SizeInvalid, "the body has another length than Content-Length says"));
            }
            Ok(None) => return Ok(payload.freeze()),
            Ok(Some(Err(_))) => {
                return Err(Error::bad(Code::ManifestInvalid, "the body ended before its declared end; push again"));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        if (payload.len() + bytes.len()) as u64 > limit {
            return Err(too_large());
        }
        payload.extend_from_slice(&bytes);
    }
}

fn digest_for(reference: &Reference, payload: &[u8]) -> Result<Digest> {
    match reference {
        Reference::Tag(_) => Ok(digest_of(Algorithm::Sha256, payload)),
        Reference::Digest(given) => {
            let computed = digest_of(given.algorithm(), payload);
            if &computed == given {
                return Ok(computed);
            }
            Err(Error::bad(Code::DigestInvalid, "the manifest has another digest than it was pushed under")
                .detail(serde_json::json!({ "given": given.as_str(), "computed": computed.as_str() })))
        }
    }
}

fn missing_blobs(missing: &[Digest]) -> Error {
    let listed: Vec<&str> = missing.iter().take(20).map(Digest::as_str).collect();
    let message = format!(
        "push these blobs to the repository first (or let the project take sparse images): {}",
        listed.join(", ")
    );
    Error::bad(Code::ManifestBlobUnknown, message).detail(serde_json::json!({ "digests": listed }))
}

fn created(repo: &RepoName, digest: &Digest, parsed: &Parsed, tags: &[Tag], content_type: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::CREATED;
    let out = response.headers_mut();
    set(out, &LOCATION, &format!("/v2/{repo}/manifests/{digest}"));
    set(out, &CONTENT_DIGEST, digest.as_str());
    if let Some(subject) = &parsed.subject {
        set(out, &OCI_SUBJECT, subject.as_str());
    }
    for tag in tags {
        if let Ok(value) = HeaderValue::from_str(tag.as_str()) {
            out.append(&OCI_TAG, value);
        }
    }
    if content_type.is_empty() {
        let warning = "299 - \"no Content-Type was sent: the manifest's media type was taken from its content\"";
        out.insert(WARNING, HeaderValue::from_static(warning));
    }
    response
}

/// By tag: that tag alone. By digest: the manifest and every tag that points at it.
pub(crate) async fn delete(state: &State, by: &Caller, repo: &RepoName, reference: &Reference) -> Result<Response> {
    let now = state.identity().now();
    let review = now + state.uploads().lifetimes().grace;
    let found = storage::repositories::find(&mut state.db().read().await?, repo).await?;
    let found = found.ok_or_else(|| Error::no_repository(repo))?;
    let here = limits::Place { org_id: &found.org_id, project_id: &found.project_id };
    let limits = limits::Limits::read(state, by, Permission::RegistryDelete).await?;
    let limited = limits.are_some(&here);
    if let Reference::Tag(tag) = reference
        && let Err(refusal) = limits.check(&here, repo, &[tag.as_str()])
    {
        return Err(limits::refuse(state, by, &here, repo, refusal).await);
    }
    let mut tx = state.db().begin().await?;
    let repository = storage::repositories::find(&mut tx, repo).await?.ok_or_else(|| Error::no_repository(repo))?;
    let choice = match reference {
        Reference::Tag(tag) => Choice::Tags(vec![tag.clone()]),
        Reference::Digest(digest) => Choice::Manifests(vec![digest.clone()]),
    };
    // What was looked at is what goes: no tag comes to a manifest meanwhile.
    storage::deletion::hold(&mut tx, &repository, &choice).await?;
    let (action, detail) = match reference {
        Reference::Tag(tag) => {
            let digest = storage::tags::target(&mut tx, &repository.id, tag).await?;
            ("tag.delete", serde_json::json!({ "digest": digest }))
        }
        Reference::Digest(digest) => {
            // Every tag goes with the manifest: whoever is kept from some must not take them along.
            let most = if limited { TAGS_CHECKED } else { TAGS_RECORDED };
            let mut tags = storage::tags::pointing_at(&mut tx, &repository.id, digest, most).await?;
            if limited {
                if tags.len() as i64 >= TAGS_CHECKED {
                    let message = "too many tags point at that manifest for roles that are limited to some tags";
                    return Err(Error::new(StatusCode::FORBIDDEN, Code::Denied, message));
                }
                let names: Vec<&str> = tags.iter().map(String::as_str).collect();
                if let Err(refusal) = limits.check(&here, repo, &names) {
                    drop(tx);
                    return Err(limits::refuse(state, by, &here, repo, refusal).await);
                }
                tags.truncate(TAGS_RECORDED.unsigned_abs() as usize);
            }
            ("image.delete", serde_json::json!({ "tags": tags }))
        }
    };
    let gone = match reference {
        Reference::Tag(tag) => storage::tags::delete(&mut tx, &repository.id, tag).await?,
        Reference::Digest(digest) => storage::manifests::delete(&mut tx, &repository.id, digest, review).await?,
    };
    if !gone {
        return Err(unknown(reference));
    }
    let target = audit::target(repo, reference);
    audit::record(state, &mut tx, by, &repository.org_id, (repo, action, &target), detail).await?;
    tx.commit().await?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::ACCEPTED;
    Ok(response)
}

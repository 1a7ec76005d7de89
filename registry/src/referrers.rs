//! Listing referrers (end-12): manifests that are about another, whether it is there or not.
//!
//! Entries of an index under the referrers tag (`sha256-<hex>`), which clients keep on registries without this API, are
//! folded in, as the specification asks of a registry that switches the API on; those whose manifest is gone are not.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use storage::db::Session;
use storage::names::{Digest, Reference, RepoName};
use storage::referrers::Referrer;

use crate::State;
use crate::action::Page;
use crate::error::Result;
use crate::manifest::{Descriptor, OCI_INDEX, index_entries};
use crate::page;

static FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");

/// Most referrers in one answer: some clients do not follow `Link`, so pages are large.
const MAX: u64 = 1000;

/// Most bytes of referrers in one answer, where it has more than one: what many clients read of an index.
const MAX_BYTES: usize = 4_000_000;

/// An entry of an index under the referrers tag.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Folded<'a> {
    digest: &'a str,
    media_type: &'a str,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<&'a BTreeMap<String, String>>,
}

impl Folded<'_> {
    fn json(of: &Descriptor) -> Bytes {
        let folded = Folded {
            digest: &of.digest,
            media_type: &of.media_type,
            size: of.size,
            artifact_type: of.artifact_type.as_deref(),
            annotations: of.annotations.as_ref(),
        };
        serde_json::to_vec(&folded).unwrap_or_default().into()
    }
}

/// An index of the referrers in byte order of their digests, after `last`, at most `n`.
pub(crate) async fn list(
    state: &State,
    repo: &RepoName,
    subject: &Digest,
    artifact_type: Option<&str>,
    wanted: &Page,
) -> Result<Response> {
    let limit = page::limit(wanted, MAX);
    let rows = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let mut session = state.db().read().await?;
    let found = storage::referrers::list(&mut session, repo, subject, artifact_type, &wanted.last, rows).await?;
    let folded = folded(&mut session, repo, subject, artifact_type, &wanted.last).await?;
    let all = merged(found, folded);
    let (body, last) = index(&mut session, repo, &all, limit).await?;
    drop(session);

    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        response.headers_mut().insert(&FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if let Some(last) = last {
        let n = limit.to_string();
        let mut query = vec![("last", last), ("n", n.as_str())];
        query.extend(artifact_type.map(|filter| ("artifactType", filter)));
        page::link(response.headers_mut(), &format!("/v2/{repo}/referrers/{subject}"), &query);
    }
    Ok(response)
}

/// What clients keep under the referrers tag and what is there, by digest.
async fn folded(
    session: &mut Session,
    repo: &RepoName,
    subject: &Digest,
    artifact_type: Option<&str>,
    after: &str,
) -> Result<Vec<Referrer>> {
    let tag = subject.referrers_tag().parse().map(Reference::Tag)?;
    let index = storage::manifests::find(session, repo, &tag).await?;
    let mut entries = index.map(|index| index_entries(&index.payload)).unwrap_or_default();
    entries.retain(|entry| {
        let fits = artifact_type.is_none_or(|filter| entry.artifact_type.as_deref() == Some(filter));
        fits && entry.digest.as_str() > after
    });
    let digests: Vec<Digest> = entries.iter().filter_map(|entry| entry.digest.parse().ok()).collect();
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let here = storage::manifests::existing(session, repo, digests.iter()).await?;
    entries.retain(|entry| here.contains(&entry.digest));
    let referrer = |of: &Descriptor| Referrer { digest: of.digest.clone(), descriptor: Some(Folded::json(of)) };
    Ok(entries.iter().map(referrer).collect())
}

/// Everything in byte order of the digests; what the rows say wins over what a client wrote under the tag.
fn merged(rows: Vec<Referrer>, folded: Vec<Referrer>) -> Vec<Referrer> {
    let mut all = rows;
    if !folded.is_empty() {
        all.extend(folded);
        // Stable: rows stay before what was folded in.
        all.sort_by(|one, other| one.digest.cmp(&other.digest));
        all.dedup_by(|later, first| later.digest == first.digest);
    }
    all
}

/// An index of the first `limit`, or of as many as an answer takes; and the last of them where there are more.
async fn index<'a>(
    session: &mut Session,
    repo: &RepoName,
    all: &'a [Referrer],
    limit: usize,
) -> Result<(Vec<u8>, Option<&'a str>)> {
    let size: usize = all.iter().map(|one| one.descriptor.as_ref().map_or(0, |json| json.len() + 1)).sum();
    let mut body = Vec::with_capacity(size + 128);
    body.extend_from_slice(b"{\"schemaVersion\":2,\"mediaType\":\"");
    body.extend_from_slice(OCI_INDEX.as_bytes());
    body.extend_from_slice(b"\",\"manifests\":[");
    let none = body.len();
    let mut last = None;
    let mut full = false;
    for Referrer { digest, descriptor } in all.iter().take(limit) {
        let json = match descriptor {
            Some(json) => json.clone(),
            // Empty where it was deleted since.
            None => storage::referrers::descriptor(session, repo, digest).await?.unwrap_or_default(),
        };
        if body.len() > none && !json.is_empty() {
            if body.len() + json.len() > MAX_BYTES {
                full = true;
                break;
            }
            body.push(b',');
        }
        body.extend_from_slice(&json);
        last = Some(digest.as_str());
    }
    body.extend_from_slice(b"]}");
    // n=0 asks for an empty list, and that is all of it.
    Ok((body, last.filter(|_| full || all.len() > limit)))
}

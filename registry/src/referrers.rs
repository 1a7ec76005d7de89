//! Listing referrers (end-12): manifests that are about another, whether it is there or not.
//!
//! Entries of an index under the referrers tag (`sha256-<hex>`), which clients keep on registries without this API, are
//! folded in, as the specification asks of a registry that switches the API on; those whose manifest is gone are not.

use std::collections::{BTreeMap, HashSet};

use axum::body::Body;
use axum::response::Response;
use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue};
use serde::Serialize;
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

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    media_type: &'static str,
    manifests: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    media_type: String,
    digest: String,
    size: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    annotations: Option<BTreeMap<String, String>>,
}

impl From<Referrer> for Entry {
    fn from(row: Referrer) -> Self {
        Self {
            media_type: row.media_type,
            digest: row.digest,
            size: row.size,
            artifact_type: row.artifact_type,
            annotations: row.annotations.and_then(|text| serde_json::from_str(&text).ok()),
        }
    }
}

impl From<Descriptor> for Entry {
    fn from(d: Descriptor) -> Self {
        Self {
            media_type: d.media_type,
            digest: d.digest,
            size: d.size,
            artifact_type: d.artifact_type,
            annotations: d.annotations,
        }
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
    let tag = subject.referrers_tag().parse().map(Reference::Tag)?;
    let folded = storage::manifests::find(&mut session, repo, &tag).await?;
    let folded = folded.map(|index| index_entries(&index.payload)).unwrap_or_default();
    let here = if folded.is_empty() {
        HashSet::new()
    } else {
        let digests: Vec<Digest> = folded.iter().filter_map(|entry| entry.digest.parse().ok()).collect();
        storage::manifests::existing(&mut session, repo, digests.iter()).await?
    };
    drop(session);

    // Ordered by digest; what the rows say wins over what a client wrote under the tag.
    let mut entries: BTreeMap<String, Entry> = BTreeMap::new();
    for descriptor in folded {
        let fits = artifact_type.is_none_or(|filter| descriptor.artifact_type.as_deref() == Some(filter));
        if fits && descriptor.digest > wanted.last && here.contains(&descriptor.digest) {
            entries.insert(descriptor.digest.clone(), descriptor.into());
        }
    }
    entries.extend(found.into_iter().map(|row| (row.digest.clone(), row.into())));
    let mut manifests: Vec<Entry> = entries.into_values().collect();
    let more = page::cut(&mut manifests, limit);
    let last = manifests.last().map(|entry| entry.digest.clone()).unwrap_or_default();
    let index = Index { schema_version: 2, media_type: OCI_INDEX, manifests };

    let mut response = Response::new(Body::from(serde_json::to_vec(&index).unwrap_or_default()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(OCI_INDEX));
    if artifact_type.is_some() {
        response.headers_mut().insert(&FILTERS_APPLIED, HeaderValue::from_static("artifactType"));
    }
    if more {
        let n = limit.to_string();
        let mut query = vec![("last", last.as_str()), ("n", n.as_str())];
        query.extend(artifact_type.map(|filter| ("artifactType", filter)));
        page::link(response.headers_mut(), &format!("/v2/{repo}/referrers/{subject}"), &query);
    }
    Ok(response)
}

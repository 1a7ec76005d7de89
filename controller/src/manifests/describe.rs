//! What a manifest is, in a few words: for its own page, and for lists.

use std::collections::{HashMap, HashSet};

use serde::Serialize;
use serde_json::{Map, Value};
use storage::manifests;
use storage::names::Digest;
use storage::repositories::Repository;
use utoipa::ToSchema;

use super::document::{self, Descriptor, Document, text};
use super::kind::{self, Kind};
use crate::State;
use crate::error::Result;
use crate::time;

/// Entries of an index that are looked at.
pub(crate) const MAX_CHILDREN: usize = 100;
/// Largest manifest of an index's entry that is read, in bytes.
pub(crate) const MAX_CHILD: i64 = 64 << 10;

/// What a manifest is.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct DescriptionView {
    /// What kind of thing it is.
    pub(crate) kind: Kind,
    /// What to call it.
    #[schema(example = "Multi-platform image")]
    pub(crate) label: String,
    /// Its artifact type, or its config's media type.
    pub(crate) artifact_type: Option<String>,
    /// What it runs on, at most 100.
    #[schema(example = json!(["linux/amd64", "linux/arm64/v8"]))]
    pub(crate) platforms: Vec<String>,
    /// Bytes of its config and layers, each counted once; of an index: of all of its manifests that are here.
    pub(crate) total_size: i64,
    /// When it was made, if it says so.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) made_at: Option<i64>,
}

/// The manifests that an index names, those that are here and small, by digest.
///
/// # Errors
/// Those of the database.
pub(crate) async fn children(
    state: &State,
    repository: &Repository,
    document: &Document,
) -> Result<HashMap<String, Document>> {
    let named = document.entries().take(MAX_CHILDREN);
    let digests: HashSet<Digest> = named.filter_map(|entry| entry.digest()?.parse().ok()).collect();
    if digests.is_empty() {
        return Ok(HashMap::new());
    }
    let mut session = state.db().read().await?;
    let rows = manifests::stored(&mut session, &repository.id, digests.iter(), MAX_CHILD).await?;
    let read = |row: manifests::Stored| (row.digest, Document::read(&row.payload.unwrap_or_default()));
    Ok(rows.into_iter().map(read).collect())
}

/// Describes one whose config, if it has one, was read.
pub(crate) fn with_config(
    document: &Document,
    config: Option<&Map<String, Value>>,
    children: &HashMap<String, Document>,
) -> DescriptionView {
    let (kind, label) = kind::of(document);
    let mut platforms: Vec<String> = match kind {
        Kind::Index => document.entries().take(MAX_CHILDREN).filter_map(Descriptor::platform).collect(),
        Kind::Image => config.and_then(document::platform).into_iter().collect(),
        _ => Vec::new(),
    };
    platforms.sort();
    platforms.dedup();
    let said = document.annotation("org.opencontainers.image.created");
    let made = config.and_then(|config| text(config, "created")).or(said);
    DescriptionView {
        kind,
        label,
        artifact_type: kind::type_of(document),
        platforms,
        total_size: total_size(document, children),
        made_at: made.and_then(made_at),
    }
}

/// The bytes that a manifest, or all of an index's manifests together, are made of.
pub(crate) fn total_size(document: &Document, children: &HashMap<String, Document>) -> i64 {
    let mut blobs = document.blobs();
    for digest in document.entries().take(MAX_CHILDREN).filter_map(Descriptor::digest) {
        blobs.extend(children.get(digest).map(Document::blobs).unwrap_or_default());
    }
    blobs.values().fold(0, |sum: i64, size| sum.saturating_add(*size))
}

/// A time, where it is one that is told: tools that build reproducibly write the year 1 or 1970.
pub(crate) fn made_at(text: &str) -> Option<i64> {
    let seconds = storage::clock::parse_rfc3339_ms(text.get(..text.len().min(64))?)?.div_euclid(1000);
    (seconds > 86_400).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_of_two_platforms_is_counted_once() {
        let image = |layer: &str| {
            let json = format!(
                r#"{{"config":{{"digest":"c{layer}","size":1}},"layers":[{{"digest":"base","size":100}},{{"digest":"{layer}","size":10}},{{"digest":"{layer}","size":10}}]}}"#
            );
            Document::read(json.as_bytes())
        };
        let children = HashMap::from([("x".to_owned(), image("x")), ("y".to_owned(), image("y"))]);
        let index = Document::read(br#"{"manifests":[{"digest":"x"},{"digest":"y"},{"digest":"gone"}]}"#);
        assert_eq!(total_size(&index, &children), 122);
        assert_eq!(total_size(&image("x"), &children), 111);
        let huge = Document::read(
            br#"{"layers":[{"digest":"a","size":9223372036854775807},{"digest":"b","size":9223372036854775807}]}"#,
        );
        assert_eq!(total_size(&huge, &children), i64::MAX);
    }

    #[test]
    fn times_that_mean_nothing_are_not_told() {
        assert_eq!(made_at("2026-09-21T10:00:00.123456789Z"), Some(1_789_984_800));
        for nothing in ["0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "", "yesterday", "2026-13-45T99:99:99Z", "é"] {
            assert_eq!(made_at(nothing), None, "{nothing}");
        }
    }
}

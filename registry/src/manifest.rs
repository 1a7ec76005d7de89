//! What a manifest says: as much of it as the registry must know (image-spec 1.1, Docker image manifest v2 schema 2).
//!
//! Any media type is accepted and the bytes are never changed. Of the known types the structure is checked, so that what
//! is stored can be pulled; of others, references are read where they look like an image's or an index's.

use std::collections::BTreeMap;

use serde::Deserialize;
use storage::names::{Digest, NameError};

/// Media types that mean an image: `config` and `layers`.
const IMAGES: [&str; 2] =
    ["application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json"];
/// Media types that mean an index: `manifests`.
const INDEXES: [&str; 2] =
    ["application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json"];
/// Docker's schema 1, which nobody should push any more.
const SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];
/// Content types that say nothing of the manifest's own type.
const VAGUE: [&str; 4] = ["", "application/json", "application/octet-stream", "text/plain"];
/// Most references that one manifest may have.
pub const MAX_REFERENCES: usize = 5_000;
/// Deepest nesting of arrays and objects.
const MAX_DEPTH: usize = 128;
/// Longest media type stored.
const MAX_MEDIA_TYPE: usize = 255;

/// The media type of an index, in which referrers are listed.
pub const OCI_INDEX: &str = INDEXES[0];

/// What the registry knows of a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parsed {
    /// Its media type, without parameters.
    pub media_type: String,
    /// Blobs that must be in the repository.
    pub blobs: Vec<Digest>,
    /// Entries of an index, which need not be there.
    pub children: Vec<Digest>,
    /// What it is about, which need not be there.
    pub subject: Option<Digest>,
    /// Its artifact type as the referrers API shows it.
    pub artifact_type: Option<String>,
    /// Its annotations as JSON text.
    pub annotations: Option<String>,
}

/// Why a manifest was refused; the text says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not JSON, or JSON of another shape.
    #[error("the manifest is not valid JSON of its media type: {0}")]
    Json(String),
    /// Docker schema 1.
    #[error(
        "Docker image manifest version 2, schema 1 is not supported: push with Docker 1.10 or newer, or convert the image with `skopeo copy --format v2s2`"
    )]
    Schema1,
    /// `schemaVersion` is not 2.
    #[error("schemaVersion must be 2")]
    SchemaVersion,
    /// The header and the body name two types.
    #[error("Content-Type is {header}, but the manifest's mediaType is {body}: they must be the same")]
    MediaType {
        /// What the header says.
        header: String,
        /// What the body says.
        body: String,
    },
    /// No media type at all, or one too long.
    #[error("the manifest's media type is missing or not valid: send it as Content-Type")]
    NoMediaType,
    /// An image and an index at once.
    #[error("a manifest has either config and layers, or manifests, not both")]
    Ambiguous,
    /// An image without a config.
    #[error("an image manifest needs a config")]
    NoConfig,
    /// A descriptor's digest is not one.
    #[error("a descriptor's digest is not valid: {0}")]
    Digest(NameError),
    /// Nested deeper than any tool could read.
    #[error("the manifest is not valid JSON of its media type: it is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// Too many references.
    #[error("a manifest has at most {MAX_REFERENCES} references")]
    TooMany,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    /// Of the artifact manifest that a release candidate of image-spec 1.1 had.
    blobs: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

/// A content descriptor (image-spec "Descriptors").
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// Media type of the content.
    #[serde(default)]
    pub media_type: String,
    /// Digest of the content.
    pub digest: String,
    /// Length of the content.
    #[serde(default)]
    pub size: i64,
    /// Artifact type of the content.
    pub artifact_type: Option<String>,
    /// Annotations.
    pub annotations: Option<BTreeMap<String, String>>,
    /// Where else the content is.
    #[serde(default)]
    urls: Vec<String>,
}

impl Descriptor {
    /// True for layers that may not be uploaded: they are not expected here.
    fn is_foreign(&self) -> bool {
        !self.urls.is_empty() || self.media_type.contains(".nondistributable.") || self.media_type.contains(".foreign.")
    }
}

/// Reads a manifest that was sent with `content_type`.
///
/// # Errors
/// [`Invalid`], to be answered with 400.
pub fn parse(content_type: &str, payload: &[u8]) -> Result<Parsed, Invalid> {
    let header = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if SCHEMA1.contains(&header.as_str()) {
        return Err(Invalid::Schema1);
    }
    let known = |media_type: &str| IMAGES.contains(&media_type) || INDEXES.contains(&media_type);
    let fields: Fields = match serde_json::from_slice(payload) {
        Ok(fields) => fields,
        // Not an image, not an index, and it says so: stored as it is.
        Err(_) if !VAGUE.contains(&header.as_str()) && !known(&header) => return opaque(header, payload),
        Err(error) => return Err(Invalid::Json(error.to_string())),
    };
    if is_deep(payload) {
        return Err(Invalid::TooDeep);
    }
    let media_type = media_type(&header, &fields)?;
    if fields.schema_version == Some(1) || fields.fs_layers.is_some() {
        return Err(Invalid::Schema1);
    }
    if known(&media_type) && fields.schema_version != Some(2) {
        return Err(Invalid::SchemaVersion);
    }
    let image = fields.config.is_some() || fields.layers.is_some();
    if known(&media_type) && image && fields.manifests.is_some() {
        return Err(Invalid::Ambiguous);
    }
    if IMAGES.contains(&media_type.as_str()) && fields.config.is_none() {
        return Err(Invalid::NoConfig);
    }
    if INDEXES.contains(&media_type.as_str()) && image {
        return Err(Invalid::Ambiguous);
    }
    references(media_type, fields)
}

/// Whether JSON is nested deeper than [`MAX_DEPTH`], also where we would skip it: others read what we serve.
fn is_deep(json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for &byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => depth += 1,
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return true;
        }
    }
    false
}

/// A manifest of a shape that we do not know. Whatever in it looks like a descriptor keeps the blob that it names.
fn opaque(media_type: String, payload: &[u8]) -> Result<Parsed, Invalid> {
    if !is_media_type(&media_type) {
        return Err(Invalid::NoMediaType);
    }
    let mut children = Vec::new();
    if let Ok(json) = serde_json::from_slice::<serde_json::Value>(payload) {
        if is_deep(payload) {
            return Err(Invalid::TooDeep);
        }
        let mut open = vec![&json];
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::Array(items) => open.extend(items),
                serde_json::Value::Object(fields) => {
                    children.extend(fields.get("digest").and_then(|d| d.as_str()).and_then(|d| d.parse().ok()));
                    open.extend(fields.values());
                }
                _ => {}
            }
        }
    }
    if children.len() > MAX_REFERENCES {
        return Err(Invalid::TooMany);
    }
    let children = distinct(children);
    Ok(Parsed { media_type, blobs: vec![], children, subject: None, artifact_type: None, annotations: None })
}

fn is_media_type(text: &str) -> bool {
    text.len() <= MAX_MEDIA_TYPE && text.contains('/') && text.bytes().all(|b| b.is_ascii_graphic())
}

/// The header's type where it says one, else the body's, else what the body looks like.
fn media_type(header: &str, fields: &Fields) -> Result<String, Invalid> {
    let body = fields.media_type.as_deref().unwrap_or_default();
    let media_type = match (VAGUE.contains(&header), body.is_empty()) {
        (false, false) if header != body.to_ascii_lowercase() => {
            return Err(Invalid::MediaType { header: header.to_owned(), body: body.to_owned() });
        }
        (false, _) => header,
        (true, false) => body,
        (true, true) if fields.manifests.is_some() => OCI_INDEX,
        (true, true) if fields.config.is_some() => IMAGES[0],
        (true, true) => return Err(Invalid::NoMediaType),
    };
    if is_media_type(media_type) { Ok(media_type.to_owned()) } else { Err(Invalid::NoMediaType) }
}

fn references(media_type: String, fields: Fields) -> Result<Parsed, Invalid> {
    let layers = fields.layers.unwrap_or_default();
    let others = fields.blobs.unwrap_or_default();
    let manifests = fields.manifests.unwrap_or_default();
    if layers.len() + others.len() + manifests.len() > MAX_REFERENCES {
        return Err(Invalid::TooMany);
    }
    // A layer that may live elsewhere need not be here; if it is, it stays.
    let (elsewhere, here): (Vec<&Descriptor>, Vec<&Descriptor>) =
        fields.config.iter().chain(&layers).chain(&others).partition(|d| d.is_foreign());
    let mut blobs = Vec::new();
    for descriptor in here {
        blobs.push(descriptor.digest.parse().map_err(Invalid::Digest)?);
    }
    let mut children = Vec::new();
    for descriptor in manifests.iter().chain(elsewhere) {
        match descriptor.digest.parse() {
            Ok(digest) => children.push(digest),
            // A child by an algorithm that we do not compute cannot be here: the index is sparse there.
            Err(NameError::Algorithm) => {}
            Err(error) => return Err(Invalid::Digest(error)),
        }
    }
    let subject = fields.subject.map(|d| d.digest.parse()).transpose().map_err(Invalid::Digest)?;
    let config_type = fields.config.map(|config| config.media_type);
    let artifact_type = fields.artifact_type.or(config_type).filter(|text| !text.is_empty());
    let annotations = fields.annotations.filter(|map| !map.is_empty());
    Ok(Parsed {
        media_type,
        blobs: distinct(blobs),
        children: distinct(children),
        subject,
        artifact_type,
        annotations: annotations.and_then(|map| serde_json::to_string(&map).ok()),
    })
}

fn distinct(mut digests: Vec<Digest>) -> Vec<Digest> {
    digests.sort_unstable();
    digests.dedup();
    digests
}

/// The entries of an index under the referrers tag; none where it is not an index.
#[must_use]
pub fn index_entries(payload: &[u8]) -> Vec<Descriptor> {
    serde_json::from_slice::<Fields>(payload).ok().and_then(|fields| fields.manifests).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const D1: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const D2: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn image(extra: &str) -> String {
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{}","config":{{"mediaType":"x/y","digest":"{D1}","size":2}},"layers":[{{"mediaType":"a/b","digest":"{D2}","size":3}}]{extra}}}"#,
            IMAGES[0]
        )
    }

    #[test]
    fn an_image_names_its_config_and_layers() {
        let parsed = parse(IMAGES[0], image("").as_bytes()).unwrap();
        assert_eq!(parsed.blobs.len(), 2);
        assert_eq!(parsed.artifact_type.as_deref(), Some("x/y"));
        let with_parameter = parse("application/vnd.oci.image.manifest.v1+json; charset=utf-8", image("").as_bytes());
        assert_eq!(with_parameter.unwrap().media_type, IMAGES[0]);
    }

    #[test]
    fn the_same_layer_twice_is_one_reference() {
        let twice = image("")
            .replace("\"size\":3}", &format!("\"size\":3}},{{\"mediaType\":\"a/b\",\"digest\":\"{D2}\",\"size\":3}}"));
        assert_eq!(parse(IMAGES[0], twice.as_bytes()).unwrap().blobs.len(), 2);
    }

    #[test]
    fn subject_artifact_type_and_annotations_are_read() {
        let text = image(&format!(
            r#","subject":{{"mediaType":"m/n","digest":"{D2}","size":1}},"artifactType":"t/u","annotations":{{"k":"v"}}"#
        ));
        let parsed = parse("", text.as_bytes()).unwrap();
        assert_eq!(parsed.subject.unwrap().as_str(), D2);
        assert_eq!(parsed.artifact_type.as_deref(), Some("t/u"));
        assert_eq!(parsed.annotations.as_deref(), Some(r#"{"k":"v"}"#));
    }

    #[test]
    fn foreign_layers_are_kept_if_they_are_here_and_not_expected_to_be() {
        let text = image("").replace("\"a/b\"", "\"application/vnd.oci.image.layer.nondistributable.v1.tar\"");
        let parsed = parse(IMAGES[0], text.as_bytes()).unwrap();
        assert_eq!((parsed.blobs.len(), parsed.children.len()), (1, 1));
        let text = image("").replace("\"size\":3", "\"size\":3,\"urls\":[\"https://example.com/x\"]");
        assert_eq!(parse(IMAGES[0], text.as_bytes()).unwrap().blobs.len(), 1);
    }

    #[test]
    fn what_cannot_be_pulled_is_refused() {
        let invalid = |content_type: &str, text: &str| parse(content_type, text.as_bytes()).unwrap_err();
        assert!(matches!(invalid(IMAGES[1], &image("")), Invalid::MediaType { .. }));
        assert!(matches!(invalid(IMAGES[0], &image(r#","manifests":[]"#)), Invalid::Ambiguous));
        assert!(matches!(invalid(IMAGES[0], &image(r#","schemaVersion":2"#)), Invalid::Json(_)));
        assert!(matches!(invalid(IMAGES[0], &image("").replace(":2,", ":3,")), Invalid::SchemaVersion));
        assert!(matches!(invalid(IMAGES[0], &image("").replace(D1, "sha256:xyz")), Invalid::Digest(_)));
        assert!(matches!(invalid(IMAGES[0], r#"{"schemaVersion":2}"#), Invalid::NoConfig));
        assert!(matches!(invalid(IMAGES[0], "not json"), Invalid::Json(_)));
        assert!(matches!(invalid("application/json", "{}"), Invalid::NoMediaType));
        assert!(matches!(invalid(SCHEMA1[1], "{}"), Invalid::Schema1));
        assert!(matches!(invalid("", r#"{"schemaVersion":1,"fsLayers":[]}"#), Invalid::NoMediaType | Invalid::Schema1));
        assert!(matches!(
            invalid(INDEXES[0], &format!(r#"{{"schemaVersion":2,"manifests":[],"config":{{"digest":"{D1}"}}}}"#)),
            Invalid::Ambiguous
        ));
    }

    #[test]
    fn deep_nesting_is_refused_without_harm() {
        let deep = format!("{{\"schemaVersion\":2,\"x\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        assert_eq!(parse(IMAGES[0], deep.as_bytes()).unwrap_err(), Invalid::TooDeep);
        let quoted = image(&format!(r#","x":"{}\"{}""#, "[".repeat(500), "{".repeat(500)));
        assert!(parse(IMAGES[0], quoted.as_bytes()).is_ok());
    }

    #[test]
    fn unknown_types_are_kept_whatever_they_hold() {
        let parsed = parse("application/vnd.example+thing", b"\x00\xff").unwrap();
        assert_eq!(parsed.media_type, "application/vnd.example+thing");
        let odd = format!(r#"{{"annotations":{{"n":1}},"things":[{{"digest":"{D1}"}},{{"x":{{"digest":"{D2}"}}}}]}}"#);
        let parsed = parse("application/vnd.example+json", odd.as_bytes()).unwrap();
        assert_eq!(parsed.children.len(), 2);
        let parsed = parse(
            "application/vnd.example+json",
            image("").replace(IMAGES[0], "application/vnd.example+json").as_bytes(),
        );
        assert_eq!(parsed.unwrap().blobs.len(), 2);
    }

    #[test]
    fn an_index_may_be_sparse_and_foreign() {
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"a/b","digest":"{D1}","size":1}},{{"mediaType":"a/b","digest":"blake3:ab","size":1}}]}}"#
        );
        let parsed = parse(INDEXES[0], text.as_bytes()).unwrap();
        assert_eq!((parsed.children.len(), parsed.blobs.len(), parsed.artifact_type), (1, 0, None));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics(content_type in "\\PC{0,40}", payload in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse(&content_type, &payload);
        }
    }
}

//! What a trace presupposes: the bytes behind each digest placeholder, and what must already be
//! in which repository before the first request.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::trace::{Line, Trace, placeholders, session};
use crate::support::oci::{
    self, DOCKER_MANIFEST, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, fresh, noise, sha256,
};

/// The bytes of one digest placeholder.
#[derive(Clone, Debug)]
pub(super) struct Content {
    pub(super) bytes: Vec<u8>,
    /// Of a manifest; `None` for a blob.
    pub(super) media_type: Option<String>,
}

impl Content {
    pub(super) fn digest(&self) -> String {
        sha256(&self.bytes)
    }
}

#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) contents: BTreeMap<String, Content>,
    /// `(repository, digest placeholder)` to upload first, blobs before manifests.
    pub(super) seeds: Vec<(String, String)>,
    /// `(repository, tag, digest placeholder)` to point first.
    pub(super) tags: Vec<(String, String, String)>,
    /// `U1` to the digest placeholder that the session is closed with.
    pub(super) closing: BTreeMap<String, String>,
    /// Whether strangers read.
    pub(super) public: bool,
}

impl Plan {
    pub(super) fn of(trace: &Trace) -> Self {
        let mut plan = Self::default();
        let manifests = manifest_digests(trace);
        let seeded = plan.find_seeds(trace, &manifests);
        for digest in all_digests(trace).difference(&manifests) {
            let size = blob_size(trace, digest).unwrap_or(64);
            plan.contents.insert(digest.clone(), Content { bytes: noise(fresh(), size), media_type: None });
        }
        plan.write_manifests(trace, &manifests, &seeded);
        let closings = trace.lines.iter().filter(|line| line.method == "PUT");
        plan.closing = closings.filter_map(|line| Some((session(&line.target)?, line.digests().pop()?))).collect();
        plan.public = trace.lines.iter().any(|line| line.sent.get("auth").is_some_and(|auth| auth.contains("(anon ")));
        plan
    }

    /// What the trace finds where it looks first was there before it began.
    fn find_seeds(&mut self, trace: &Trace, manifests: &BTreeSet<String>) -> BTreeSet<(String, String)> {
        let mut known: BTreeSet<(String, String)> = BTreeSet::new();
        let mut seeded: BTreeSet<(String, String)> = BTreeSet::new();
        let mut seen_tags: BTreeSet<(String, String)> = BTreeSet::new();
        for line in trace.lines.iter().filter(|line| line.status != 401) {
            let Some((repository, rest)) = line.repository() else { continue };
            if let (Some(from), Some(digest)) = (line.query("from"), line.digests().pop()) {
                if known.insert((from.clone(), digest.clone())) {
                    seeded.insert((from, digest.clone()));
                }
                known.insert((repository.to_owned(), digest));
                continue;
            }
            let there = matches!(line.status, 200 | 202) && matches!(line.method.as_str(), "GET" | "HEAD" | "DELETE");
            let deletes = line.method == "DELETE";
            let reference = rest.strip_prefix("/manifests/").filter(|reference| !reference.starts_with("sha256:"));
            let digest = line.digests().pop().or_else(|| line.received.get("DCD").cloned());
            if let Some(tag) = reference {
                let first = seen_tags.insert((repository.to_owned(), tag.to_owned()));
                if first && (there || deletes) {
                    let digest = digest.clone().unwrap_or_else(|| unnamed(repository, tag));
                    self.tags.push((repository.to_owned(), tag.to_owned(), digest.clone()));
                    seeded.insert((repository.to_owned(), digest.clone()));
                    known.insert((repository.to_owned(), digest));
                    continue;
                }
            }
            if rest.starts_with("/tags/") && there && seen_tags.insert((repository.to_owned(), "v1".into())) {
                let digest = unnamed(repository, "v1");
                self.tags.push((repository.to_owned(), "v1".into(), digest.clone()));
                seeded.insert((repository.to_owned(), digest));
            }
            let Some(digest) = digest else { continue };
            let referrers = rest.starts_with("/referrers/");
            if known.insert((repository.to_owned(), digest.clone())) && there && !referrers {
                seeded.insert((repository.to_owned(), digest));
            } else if line.status == 404 {
                known.remove(&(repository.to_owned(), line.digests().pop().unwrap_or_default()));
            }
        }
        let (last, first): (Vec<_>, Vec<_>) =
            seeded.iter().cloned().partition(|(_, digest)| is_manifest(digest, manifests));
        self.seeds = first.into_iter().chain(last).collect();
        seeded
    }

    /// Writes the manifests, each of the size the trace shows and naming what is there by then.
    fn write_manifests(&mut self, trace: &Trace, manifests: &BTreeSet<String>, seeded: &BTreeSet<(String, String)>) {
        let mut present: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (repository, digest) in seeded {
            if !is_manifest(digest, manifests) {
                present.entry(repository.clone()).or_default().push(digest.clone());
            }
        }
        for (repository, digest) in self.seeds.clone() {
            if is_manifest(&digest, manifests) {
                let blobs = present.get(&repository).cloned().unwrap_or_default();
                self.write(trace, &digest, &blobs, &[]);
            }
        }
        let mut children: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in &trace.lines {
            let Some((repository, rest)) = line.repository() else { continue };
            if line.method == "PUT" && rest.starts_with("/manifests/") {
                let digest = line.received.get("DCD").cloned().or_else(|| line.digests().pop());
                let digest = digest.unwrap_or_else(|| unnamed(repository, rest));
                let blobs = present.get(repository).cloned().unwrap_or_default();
                let below = children.get(repository).cloned().unwrap_or_default();
                self.write(trace, &digest, &blobs, &below);
                children.entry(repository.to_owned()).or_default().push(digest);
            } else if line.status == 201 || (line.status == 200 && rest.starts_with("/blobs/")) {
                for digest in line.digests().into_iter().filter(|digest| !manifests.contains(digest)) {
                    let there = present.entry(repository.to_owned()).or_default();
                    if !there.contains(&digest) {
                        there.push(digest);
                    }
                }
            } else if line.status == 200 && rest.starts_with("/manifests/") {
                children.entry(repository.to_owned()).or_default().extend(line.digests());
            }
        }
        for digest in manifests {
            self.write(trace, digest, &[], &[]);
        }
    }

    fn write(&mut self, trace: &Trace, digest: &str, blobs: &[String], children: &[String]) {
        if self.contents.contains_key(digest) {
            return;
        }
        let (size, media_type) = manifest_shape(trace, digest);
        let mut blobs: Vec<(&str, Vec<u8>)> = blobs
            .iter()
            .filter_map(|blob| self.contents.get(blob).map(|content| (OCI_LAYER, content.bytes.clone())))
            .collect();
        let mut children: Vec<String> = children.to_vec();
        loop {
            let mut value = self.document(&media_type, &blobs, &children);
            value["annotations"] = json!({"pad": ""});
            let length = value.to_string().len();
            let Some(size) = size else { return self.insert(digest, &media_type, &value) };
            if length <= size {
                value["annotations"]["pad"] = json!("p".repeat(size - length));
                return self.insert(digest, &media_type, &value);
            }
            assert!(blobs.pop().is_some() || children.pop().is_some(), "{digest} cannot be as small as {size}");
        }
    }

    fn document(&self, media_type: &str, blobs: &[(&str, Vec<u8>)], children: &[String]) -> Value {
        if media_type == OCI_INDEX {
            let below: Vec<Value> = children
                .iter()
                .filter_map(|child| self.contents.get(child))
                .map(|child| oci::descriptor(child.media_type.as_deref().unwrap_or(OCI_MANIFEST), &child.bytes))
                .collect();
            return json!({"schemaVersion": 2, "mediaType": media_type, "manifests": below});
        }
        // The smallest blob is the configuration; without any, the one that every repository gets.
        let config = blobs.iter().min_by_key(|(_, bytes)| bytes.len());
        let (config, layers): (Value, Vec<Value>) = match config {
            None => (oci::descriptor(OCI_CONFIG, COMMON_CONFIG), Vec::new()),
            Some((_, config)) => {
                let layers = blobs.iter().filter(|(_, bytes)| bytes != config);
                (
                    oci::descriptor(OCI_CONFIG, config),
                    layers.map(|(kind, bytes)| oci::descriptor(kind, bytes)).collect(),
                )
            }
        };
        json!({"schemaVersion": 2, "mediaType": media_type, "config": config, "layers": layers})
    }

    fn insert(&mut self, digest: &str, media_type: &str, value: &Value) {
        let content = Content { bytes: value.to_string().into_bytes(), media_type: Some(media_type.to_owned()) };
        self.contents.insert(digest.to_owned(), content);
    }
}

/// A configuration that is put into every repository of a replay.
pub(super) const COMMON_CONFIG: &[u8] = b"{}";

/// A manifest that the trace names by tag only.
fn unnamed(repository: &str, tag: &str) -> String {
    format!("unnamed:{repository}:{tag}")
}

fn is_manifest(digest: &str, manifests: &BTreeSet<String>) -> bool {
    manifests.contains(digest) || digest.starts_with("unnamed:")
}

fn all_digests(trace: &Trace) -> BTreeSet<String> {
    let texts = trace.lines.iter().flat_map(|line| std::iter::once(&line.target).chain(line.received.values()));
    texts.flat_map(|text| placeholders(text)).collect()
}

fn manifest_digests(trace: &Trace) -> BTreeSet<String> {
    let lines = trace.lines.iter().filter(|line| {
        line.repository().is_some_and(|(_, rest)| rest.starts_with("/manifests/") || rest.starts_with("/referrers/"))
    });
    lines.flat_map(|line| line.digests().into_iter().chain(line.received.get("DCD").cloned())).collect()
}

/// A blob's size: what a GET or HEAD said, or what was uploaded.
fn blob_size(trace: &Trace, digest: &str) -> Option<usize> {
    let number = |text: &String| text.parse().ok();
    trace.lines.iter().find_map(|line| {
        if !line.digests().iter().any(|named| named == digest) {
            return None;
        }
        match (line.method.as_str(), line.status) {
            ("GET" | "HEAD", 200) => line.received.get("CL").and_then(number),
            ("PUT", _) => line.content_length().filter(|length| *length > 0).or_else(|| {
                let same = |other: &&Line| other.method == "PATCH" && session(&other.target) == session(&line.target);
                let range = trace.lines.iter().find(same)?.received.get("Range")?;
                range.split_once('-')?.1.parse::<usize>().ok().map(|last| last + 1)
            }),
            _ => None,
        }
    })
}

/// A manifest's size and media type, as far as the trace tells.
fn manifest_shape(trace: &Trace, digest: &str) -> (Option<usize>, String) {
    let mut size = None;
    let mut media_type = None;
    for line in &trace.lines {
        let Some((repository, rest)) = line.repository() else { continue };
        let named = line.digests().iter().any(|named| named == digest)
            || line.received.get("DCD").is_some_and(|named| named == digest)
            || unnamed(repository, rest) == digest;
        if !named || !rest.starts_with("/manifests/") {
            continue;
        }
        if line.method == "PUT" {
            size = line.content_length().or(size);
            media_type = line.sent.get("ct").cloned().or(media_type);
        } else if line.status == 200 {
            size = size.or_else(|| line.received.get("CL").and_then(|text| text.parse().ok()));
            let accept = line.sent.get("accept").and_then(|accept| accept.split(',').next());
            media_type = media_type.or_else(|| accept.filter(|kind| kind.contains("/vnd.")).map(str::to_owned));
        }
    }
    let media_type = media_type.filter(|kind| kind.contains("manifest") || kind.contains("index"));
    (size, media_type.unwrap_or_else(|| DOCKER_MANIFEST.to_owned()))
}

//! Blobs and images made from nothing, and pushed the plain way.

use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};

use super::http::{Call, Endpoint, Reply};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

pub(crate) fn sha256(bytes: &[u8]) -> String {
    digest("sha256", &aws_lc_rs::digest::SHA256, bytes)
}

pub(crate) fn sha512(bytes: &[u8]) -> String {
    digest("sha512", &aws_lc_rs::digest::SHA512, bytes)
}

fn digest(name: &str, algorithm: &'static aws_lc_rs::digest::Algorithm, bytes: &[u8]) -> String {
    format!("{name}:{}", hex::encode(aws_lc_rs::digest::digest(algorithm, bytes)))
}

/// `length` bytes that compress badly and differ for each `seed` (`SplitMix64`).
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// A seed that no other call in this run got.
pub(crate) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    (u64::from(std::process::id()) << 32) | NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn descriptor(media_type: &str, bytes: &[u8]) -> Value {
    json!({"mediaType": media_type, "digest": sha256(bytes), "size": bytes.len()})
}

/// The path and query of a `Location`, which may be absolute or host-relative.
pub(crate) fn path_of(location: &str) -> String {
    match location.split_once("://") {
        None => location.to_owned(),
        Some((_, rest)) => rest.find('/').map_or_else(|| "/".to_owned(), |slash| rest[slash..].to_owned()),
    }
}

/// `url` with one more query parameter.
pub(crate) fn with_query(url: &str, parameter: &str) -> String {
    format!("{url}{}{parameter}", if url.contains('?') { '&' } else { '?' })
}

/// Opens an upload session and returns its path.
#[track_caller]
pub(crate) fn start_upload(registry: &Endpoint, repository: &str, token: &str) -> String {
    let reply = Call::post(format!("/v2/{repository}/blobs/uploads/")).bearer(token).send(registry).expect(202);
    path_of(reply.header("location").expect("a session"))
}

/// POST, then one PUT with the bytes.
pub(crate) fn put_blob(registry: &Endpoint, repository: &str, token: &str, bytes: &[u8]) -> Reply {
    let session = start_upload(registry, repository, token);
    let target = with_query(&session, &format!("digest={}", sha256(bytes)));
    Call::put(target).bearer(token).header("Content-Type", "application/octet-stream").body(bytes).send(registry)
}

#[track_caller]
pub(crate) fn push_blob(registry: &Endpoint, repository: &str, token: &str, bytes: &[u8]) -> String {
    put_blob(registry, repository, token, bytes).expect(201);
    sha256(bytes)
}

pub(crate) fn put_manifest(
    registry: &Endpoint,
    repository: &str,
    token: &str,
    reference: &str,
    media_type: &str,
    bytes: &[u8],
) -> Reply {
    let target = format!("/v2/{repository}/manifests/{reference}");
    Call::put(target).bearer(token).header("Content-Type", media_type).body(bytes).send(registry)
}

/// A whole image of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) layer: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
}

impl Image {
    pub(crate) fn new(seed: u64, layer_size: usize) -> Self {
        Self::with(seed, layer_size, |_| {})
    }

    /// An image whose manifest `change` may alter before it is fixed.
    pub(crate) fn with(seed: u64, layer_size: usize, change: impl FnOnce(&mut Value)) -> Self {
        let layer = noise(seed, layer_size);
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {"Labels": {"seed": seed.to_string()}},
            "rootfs": {"type": "layers", "diff_ids": [sha256(&layer)]},
        });
        let config = config.to_string().into_bytes();
        let mut manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": descriptor(OCI_CONFIG, &config), "layers": [descriptor(OCI_LAYER, &layer)],
        });
        change(&mut manifest);
        Self { layer, config, manifest: manifest.to_string().into_bytes() }
    }

    pub(crate) fn digest(&self) -> String {
        sha256(&self.manifest)
    }

    pub(crate) fn descriptor(&self) -> Value {
        descriptor(OCI_MANIFEST, &self.manifest)
    }

    #[track_caller]
    pub(crate) fn push_blobs(&self, registry: &Endpoint, repository: &str, token: &str) {
        push_blob(registry, repository, token, &self.layer);
        push_blob(registry, repository, token, &self.config);
    }

    #[track_caller]
    pub(crate) fn push(&self, registry: &Endpoint, repository: &str, token: &str, reference: &str) -> Reply {
        self.push_blobs(registry, repository, token);
        put_manifest(registry, repository, token, reference, OCI_MANIFEST, &self.manifest).expect(201)
    }
}

/// An index over these images.
pub(crate) fn index(children: &[Value]) -> Vec<u8> {
    json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).to_string().into_bytes()
}

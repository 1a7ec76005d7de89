//! Manifests of any bytes under any type: read or refused, and bounded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry::manifest::{MAX_REFERENCES, parse};

const TYPES: [&str; 6] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/json",
    "application/vnd.example; charset=utf-8",
];

fuzz_target!(|input: (u8, &[u8])| {
    let (kind, payload) = input;
    if let Ok(parsed) = parse(TYPES[usize::from(kind) % TYPES.len()], payload) {
        assert!(parsed.blobs.len() + parsed.children.len() <= MAX_REFERENCES + 1);
        assert!(!parsed.media_type.is_empty() && !parsed.media_type.contains(';'));
    }
});

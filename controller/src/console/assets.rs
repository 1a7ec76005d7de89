//! The console's own files. Their address has a hash of their content, so that browsers keep them for ever and never have an
//! old one; they are compressed once.

use std::io::Write;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, header};

use crate::State;
use crate::error::Error;

/// A file.
#[derive(Debug)]
pub(crate) struct Asset {
    name: &'static str,
    kind: &'static str,
    text: &'static str,
    packed: Vec<u8>,
    hash: String,
}

impl Asset {
    fn new(name: &'static str, kind: &'static str, text: &'static str) -> Self {
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        // Writing to memory does not fail; a file that could not be packed would be sent as it is.
        let packed = packer.write_all(text.as_bytes()).and_then(|()| packer.finish()).unwrap_or_default();
        let digest = storage::digest::digest_of(storage::names::Algorithm::Sha256, text.as_bytes());
        let hash = digest.to_string().split_once(':').map(|(_, hex)| hex[..16].to_owned()).unwrap_or_default();
        Self { name, kind, text, packed, hash }
    }

    /// Where a page finds it.
    pub(crate) fn url(&self) -> String {
        format!("/assets/{}/{}", self.hash, self.name)
    }
}

/// How everything looks.
pub(crate) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console.css", "text/css; charset=utf-8", include_str!("assets/console.css")));
/// What works better with a script.
pub(crate) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("console.js", "text/javascript; charset=utf-8", include_str!("assets/console.js")));
/// The mark in the browser's tab.
pub(crate) static MARK: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("mark.svg", "image/svg+xml", include_str!("assets/mark.svg")));

/// The files' route.
pub(super) fn router() -> Router<State> {
    Router::new().route("/assets/{hash}/{name}", get(serve))
}

async fn serve(Path((hash, name)): Path<(String, String)>, headers: HeaderMap) -> Response {
    let all: [&Asset; 3] = [&STYLE, &SCRIPT, &MARK];
    let Some(asset) = all.into_iter().find(|asset| asset.name == name && asset.hash == hash) else {
        return Error::NoRoute.into_response();
    };
    let accepts = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let packs = accepts.split(',').any(|one| one.trim().split(';').next() == Some("gzip")) && !asset.packed.is_empty();
    let body = if packs { axum::body::Bytes::from_static(&asset.packed) } else { asset.text.into() };
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(asset.kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable"));
    headers.insert(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    if packs {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

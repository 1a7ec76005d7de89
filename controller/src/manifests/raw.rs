//! `/orgs/{org}/manifest/raw`: the exact bytes, to be kept in a file.

use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use http::{HeaderValue, header};
use serde::Deserialize;
use storage::names::Digest;
use utoipa::IntoParams;

use super::api::{ManifestQuery, find};
use super::config;
use super::document::Document;
use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{Path, Query};

/// Which bytes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RawQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    repository: String,
    /// A tag or a digest.
    #[param(example = "v1")]
    reference: String,
    /// `manifest`, or `config` for the config that it names.
    #[param(example = "manifest")]
    part: Option<String>,
}

/// The exact bytes of a manifest, or of its config
///
/// As a file to be saved: whoever pushed it wrote it, and no browser is to show it.
#[utoipa::path(get, path = "/orgs/{org}/manifest/raw", tag = "repositories",
    params(("org", description = "Slug of the organization"), RawQuery),
    responses((status = 200, description = "The bytes", body = String, content_type = "application/octet-stream")))]
pub(crate) async fn get_raw_manifest(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<RawQuery>,
) -> Result<Response> {
    let RawQuery { repository, reference, part } = query;
    let found = find(&actor, &state, &slug, &ManifestQuery { repository, reference }).await?;
    let (name, body) = match part.as_deref() {
        None | Some("" | "manifest") => ("manifest.json", Body::from(found.manifest.payload)),
        Some("config") => {
            let document = Document::read(&found.manifest.payload);
            let digest = document.config().and_then(|config| config.digest()?.parse::<Digest>().ok());
            let loaded = config::load(&state, &found.repository, digest.as_slice(), config::MAX).await?;
            let bytes = loaded.into_values().next().ok_or(Error::NotFound("config"))?;
            ("config.json", Body::from(bytes.to_vec()))
        }
        Some(_) => return Err(Error::invalid("part", "use manifest or config")),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    let disposition = format!("attachment; filename=\"{name}\"");
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::try_from(disposition).map_err(Error::internal)?);
    Ok(response)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::testing::{ADMIN, Controller};

    #[tokio::test]
    async fn bytes_are_saved_and_never_shown() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = json!({"author": "<script>alert(1)</script>"});
        controller.push_image("main/app", "v1", &config, &[b"x"]).await;
        let path = "/orgs/main/manifest/raw?repository=main/app&reference=v1";
        let manifest = controller.get(&admin, path).await.expect(200);
        assert_eq!(manifest.body["schemaVersion"], 2);
        let read = controller.get(&admin, &format!("{path}&part=config")).await.expect(200);
        assert_eq!(read.raw, config.to_string());
        assert_eq!(read.headers["content-type"], "application/octet-stream");
        assert_eq!(read.headers["content-disposition"], "attachment; filename=\"config.json\"");
        assert_eq!(read.headers["x-content-type-options"], "nosniff");
        controller.get(&admin, &format!("{path}&part=other")).await.expect(422);
        controller.push("main/bare").await;
        controller
            .get(&admin, "/orgs/main/manifest/raw?repository=main/bare&reference=v1&part=config")
            .await
            .expect(404);
        let other = controller.other_org().await;
        controller.get(&other, path).await.expect(404);
    }
}

//! `/orgs/{org}/manifest/contents`: what a signature, an attestation or an SBOM says.
//!
//! It is told and not believed: no signature is checked here, and everybody who may push can attach anything.

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use storage::names::Digest;
use utoipa::{IntoParams, ToSchema};

use super::api::{Found, ManifestQuery, find};
use super::config;
use super::document::{Descriptor, Document, MAX_NAME, clip};
use super::kind::{self, Kind};
use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::time;

mod forms;
mod lenient;
mod read;

pub(crate) use read::read;

/// Layers that are read.
const MAX_LAYERS: usize = 4;
/// Packages that are told.
pub(crate) const MAX_PACKAGES: usize = 100;
/// The annotation of a layer that holds the certificate of whoever signed it with cosign.
pub(crate) const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
/// Longest text that packages are searched by.
const MAX_SEARCH: usize = 100;

/// Whose contents, and which packages of it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ContentsQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// A tag or a digest.
    #[param(example = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")]
    pub(crate) reference: String,
    /// Only packages with this in their name, version or licence.
    pub(crate) search: Option<String>,
}

/// What a signature, an attestation or an SBOM says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AttachedContentsView)]
pub(crate) struct ContentsView {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// What kind of thing it is. Of anything but a signature, an attestation or an SBOM, nothing more is told.
    pub(crate) kind: Kind,
    /// Whether signatures were checked: never, here.
    pub(crate) checked: bool,
    /// What its layers say, at most 4 of them.
    pub(crate) items: Vec<ContentView>,
    /// Layers beyond those.
    pub(crate) left_off: usize,
}

/// What a layer says.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ContentView {
    /// Digest of the layer.
    pub(crate) digest: String,
    /// Why nothing is told of it.
    pub(crate) problem: Option<Problem>,
    /// The signature.
    pub(crate) signature: Option<SignatureView>,
    /// The statement of in-toto.
    pub(crate) statement: Option<StatementView>,
    /// The list of packages.
    pub(crate) sbom: Option<SbomView>,
}

/// Why a layer's contents are not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = ContentProblem)]
pub(crate) enum Problem {
    /// It has more than 4 MiB.
    TooLarge,
    /// It is not in this repository, or is damaged.
    NotHere,
    /// It is not JSON, or of a form that is not known here.
    Unknown,
}

/// What a signature says of itself. None of it was checked.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SignatureView {
    /// How it is written.
    #[schema(example = "cosign")]
    pub(crate) form: &'static str,
    /// The digest that it signs, where it says it itself.
    pub(crate) signs: Option<String>,
    /// The name that the image was signed by.
    pub(crate) signed_as: Option<String>,
    /// Whether it comes with a certificate for whoever signed, in place of a key that others must know.
    pub(crate) keyless: bool,
    /// The certificate.
    pub(crate) certificate: Option<CertificateView>,
    /// A hint at the key.
    pub(crate) key_hint: Option<String>,
    /// Whether it comes with an entry of a transparency log.
    pub(crate) logged: bool,
}

/// What a certificate says.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = SignersCertificateView)]
pub(crate) struct CertificateView {
    /// Whom it is for: addresses of mail, of pages, or the subject's name.
    pub(crate) subjects: Vec<String>,
    /// Who issued it.
    pub(crate) issuer: String,
    /// Who logged the subject in, as Sigstore's certificates say.
    #[schema(example = "https://token.actions.githubusercontent.com")]
    pub(crate) login_issuer: Option<String>,
    /// Since when it holds.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) valid_from: i64,
    /// Until when.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) valid_until: i64,
}

/// What a statement of in-toto says.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct StatementView {
    /// What kind of statement it is.
    #[schema(example = "https://slsa.dev/provenance/v1")]
    pub(crate) predicate_type: String,
    /// What it is about, at most 20.
    pub(crate) subjects: Vec<SubjectView>,
    /// Subjects beyond those.
    pub(crate) subjects_left_off: usize,
    /// Of a provenance of SLSA: who built it, and from what.
    pub(crate) provenance: Option<ProvenanceView>,
}

/// What a statement is about.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SubjectView {
    /// Its name.
    pub(crate) name: String,
    /// Its digest.
    pub(crate) digest: Option<String>,
}

/// Who built something, and from what.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ProvenanceView {
    /// Who built it.
    pub(crate) builder: Option<String>,
    /// How.
    pub(crate) build_type: Option<String>,
    /// What it was built from, at most 20.
    pub(crate) sources: Vec<String>,
    /// Sources beyond those.
    pub(crate) sources_left_off: usize,
    /// When that ended.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) finished_at: Option<i64>,
}

/// What an SBOM says.
#[derive(Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct SbomView {
    /// How it is written.
    #[schema(example = "SPDX-2.3")]
    pub(crate) form: String,
    /// What it is about.
    pub(crate) name: Option<String>,
    /// What made it.
    pub(crate) tools: Vec<String>,
    /// When.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) made_at: Option<i64>,
    /// How many packages it lists.
    pub(crate) total: usize,
    /// How many of the first 20,000 are as was searched.
    pub(crate) found: usize,
    /// The first 100 of those.
    pub(crate) packages: Vec<PackageView>,
}

/// A package.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PackageView {
    /// Its name.
    pub(crate) name: String,
    /// Its version.
    pub(crate) version: Option<String>,
    /// Its licence, or several.
    pub(crate) licence: Option<String>,
}

impl Kind {
    /// Whether it says something about another manifest that can be told.
    pub(crate) fn speaks(self) -> bool {
        matches!(self, Self::Signature | Self::Attestation | Self::Sbom)
    }
}

/// What a signature, an attestation or an SBOM says
///
/// Of each layer of at most 4 MiB: who signed what, what a statement of in-toto is about, which packages an SBOM lists. Nothing of
/// it is checked: use `cosign verify` or `notation verify` for that.
#[utoipa::path(get, path = "/orgs/{org}/manifest/contents", tag = "repositories",
    params(("org", description = "Slug of the organization"), ContentsQuery),
    responses((status = 200, description = "What it says", body = ContentsView)))]
pub(crate) async fn get_contents(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<ContentsQuery>,
) -> Result<Json<ContentsView>> {
    let ContentsQuery { repository, reference, search } = query;
    let search = search.unwrap_or_default();
    if search.len() > MAX_SEARCH {
        return Err(Error::invalid("search", "use at most 100 bytes"));
    }
    let found = find(&actor, &state, &slug, &ManifestQuery { repository, reference }).await?;
    let document = Document::read(&found.manifest.payload);
    let (kind, _) = kind::of(&document);
    let mut items = Vec::new();
    let spoken = || document.layers().filter(|_| kind.speaks());
    for layer in spoken().take(MAX_LAYERS) {
        items.push(content(&state, &found, layer, &search).await?);
    }
    Ok(Json(ContentsView {
        repository: found.name.canonical().to_owned(),
        digest: found.manifest.digest.clone(),
        kind,
        checked: false,
        items,
        left_off: spoken().count().saturating_sub(MAX_LAYERS),
    }))
}

/// What a layer says, by its bytes and by what the manifest says of it.
async fn content(state: &State, found: &Found, layer: Descriptor<'_>, search: &str) -> Result<ContentView> {
    let named = clip(layer.digest().unwrap_or_default(), MAX_NAME);
    let silent = |problem| ContentView { digest: named.clone(), problem: Some(problem), ..ContentView::default() };
    if layer.size() > config::MAX {
        return Ok(silent(Problem::TooLarge));
    }
    let digest = layer.digest().and_then(|digest| digest.parse::<Digest>().ok());
    let loaded = config::load(state, &found.repository, digest.as_slice(), config::MAX).await?;
    let Some(bytes) = loaded.into_values().next() else { return Ok(silent(Problem::NotHere)) };
    let (search, certificate) = (search.to_owned(), certificate_of(layer));
    let logged = layer.annotation("dev.sigstore.cosign/bundle").is_some();
    let reading = move || read(&bytes, certificate.as_deref(), logged, &search);
    let content = tokio::task::spawn_blocking(reading).await.map_err(Error::internal)?;
    Ok(content.map_or_else(|| silent(Problem::Unknown), |content| ContentView { digest: named.clone(), ..content }))
}

/// The certificate that cosign puts beside a layer.
pub(crate) fn certificate_of(layer: Descriptor<'_>) -> Option<String> {
    layer.annotation(CERTIFICATE).map(str::to_owned)
}

impl ContentView {
    /// It in a few words.
    pub(crate) fn line(&self) -> Option<String> {
        let signer = self.signature.as_ref().map(SignatureView::line);
        let statement = self.statement.as_ref().and_then(StatementView::line);
        let sbom = self.sbom.as_ref().map(SbomView::line);
        let parts: Vec<String> = [sbom, statement, signer].into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl SignatureView {
    fn line(&self) -> String {
        let subject = self.certificate.as_ref().and_then(|certificate| certificate.subjects.first());
        match subject {
            Some(subject) => format!("says it is signed by {}", clip(subject, 120)),
            None if self.keyless => "says it is signed with a certificate".to_owned(),
            None => "says it is signed with a key".to_owned(),
        }
    }
}

impl StatementView {
    fn line(&self) -> Option<String> {
        let builder = self.provenance.as_ref()?.builder.as_deref().filter(|builder| !builder.is_empty())?;
        Some(format!("says it is built by {}", clip(builder, 120)))
    }
}

impl SbomView {
    fn line(&self) -> String {
        let by = self.tools.first().map(|tool| format!(", listed by {}", clip(tool, 60))).unwrap_or_default();
        match self.total {
            1 => format!("1 package{by}"),
            total => format!("{total} packages{by}"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Controller};

    async fn attach(controller: &Controller, artifact_type: &str, size: Option<usize>, bytes: &[u8]) -> String {
        let digest = controller.push_blob("main/app", bytes).await;
        let layer = json!({"mediaType": artifact_type, "digest": digest, "size": size.unwrap_or(bytes.len())});
        let manifest = json!({"schemaVersion": 2, "artifactType": artifact_type, "layers": [layer]});
        controller.push_manifest("main/app", None, &manifest, &[&digest]).await
    }

    async fn contents(controller: &Controller, digest: &str, more: &str) -> Value {
        let admin = controller.login(ADMIN).await;
        let path = format!("/orgs/main/manifest/contents?repository=main/app&reference={digest}{more}");
        controller.get(&admin, &path).await.expect(200).body
    }

    #[tokio::test]
    async fn an_sbom_is_told_and_searched_and_never_called_checked() {
        let controller = Controller::start().await;
        let sbom =
            json!({"spdxVersion": "SPDX-2.3", "packages": [{"name": "zlib", "versionInfo": "1.3"}, {"name": "curl"}]});
        let digest = attach(&controller, "application/spdx+json", None, sbom.to_string().as_bytes()).await;
        let read = contents(&controller, &digest, "").await;
        assert_eq!((&read["kind"], &read["checked"]), (&json!("sbom"), &json!(false)));
        assert_eq!(read["items"][0]["sbom"]["total"], 2);
        let read = contents(&controller, &digest, "&search=ZLI").await;
        assert_eq!(read["items"][0]["sbom"]["packages"], json!([{"name": "zlib", "version": "1.3", "licence": null}]));
        assert_eq!((&read["items"][0]["sbom"]["total"], &read["items"][0]["sbom"]["found"]), (&json!(2), &json!(1)));
        let other = controller.other_org().await;
        let path = format!("/orgs/main/manifest/contents?repository=main/app&reference={digest}");
        controller.get(&other, &path).await.expect(404);
        let admin = controller.login(ADMIN).await;
        controller.get(&admin, &format!("{path}&search={}", "x".repeat(101))).await.expect(422);
    }

    #[tokio::test]
    async fn what_is_too_large_or_unknown_or_not_here_is_called_that() {
        let controller = Controller::start().await;
        let large = attach(&controller, "application/spdx+json", Some(5 << 20), b"{}").await;
        assert_eq!(contents(&controller, &large, "").await["items"][0]["problem"], "too_large");
        let unknown = attach(&controller, "application/vnd.cyclonedx+json", None, b"<bom/>").await;
        assert_eq!(contents(&controller, &unknown, "").await["items"][0]["problem"], "unknown");
        let layer = json!({"digest": format!("sha256:{}", "0".repeat(64)), "size": 9});
        let gone = json!({"schemaVersion": 2, "artifactType": "application/spdx+json", "layers": [layer]});
        let gone = controller.push_manifest("main/app", None, &gone, &[]).await;
        assert_eq!(contents(&controller, &gone, "").await["items"][0]["problem"], "not_here");
        let image = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        assert_eq!(contents(&controller, &image, "").await["items"], json!([]));
    }
}

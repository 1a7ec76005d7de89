//! `/orgs/{org}/manifest`

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use storage::manifests::{self, Manifest, Stored};
use storage::names::{Digest, Reference, RepoName};
use storage::repositories::Repository;
use storage::{pulls, tags};
use utoipa::{IntoParams, ToSchema};

use super::config;
use super::describe::{self, DescriptionView, MAX_CHILDREN};
use super::document::{Descriptor, Document, MAX_NAME, MAX_TEXT, clip, object};
use super::image::{ChartView, ImageView, WasmView};
use super::kind::{self, Kind};
use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::repositories::api::{Wish, repository};
use crate::time;

/// Layers that are told.
const MAX_LAYERS: usize = 500;
/// Tags that are told.
const MAX_TAGS: usize = 100;

/// Which manifest.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ManifestQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// A tag or a digest.
    #[param(example = "v1")]
    pub(crate) reference: String,
}

/// A manifest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ManifestView {
    /// Full name of its repository.
    pub(crate) repository: String,
    /// Its digest.
    pub(crate) digest: String,
    /// Its media type.
    pub(crate) media_type: String,
    /// Length in bytes.
    pub(crate) size: i64,
    /// When it was first pushed.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) pushed_at: i64,
    /// Who pushed it first.
    pub(crate) pushed_by: String,
    /// When it was last pulled, by any name.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) pulled_at: Option<i64>,
    /// Who did.
    pub(crate) pulled_by: Option<String>,
    /// Digest of the manifest that it is about.
    pub(crate) subject: Option<String>,
    /// Tags that point at it, at most 100.
    pub(crate) tags: Vec<String>,
    /// Whether there are more.
    pub(crate) more_tags: bool,
    /// What it is.
    pub(crate) description: DescriptionView,
    /// Its annotations.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Of an index: its entries, at most 100.
    pub(crate) entries: Vec<EntryView>,
    /// Entries beyond those.
    pub(crate) entries_left_off: usize,
    /// Its layers, lowest first, at most 500.
    pub(crate) layers: Vec<LayerView>,
    /// Layers beyond those.
    pub(crate) layers_left_off: usize,
    /// Digest of its config.
    pub(crate) config_digest: Option<String>,
    /// What its config says, of an image.
    pub(crate) image: Option<ImageView>,
    /// What its config says, of a Helm chart.
    pub(crate) chart: Option<ChartView>,
    /// What its config says, of WebAssembly.
    pub(crate) wasm: Option<WasmView>,
    /// Its config, where it is JSON of at most 4 MiB that is here and undamaged.
    #[schema(value_type = Option<Object>)]
    pub(crate) config: Option<Map<String, Value>>,
    /// Its content, where it is JSON. The exact bytes are what the registry serves.
    #[schema(value_type = Option<Object>)]
    pub(crate) manifest: Option<Map<String, Value>>,
}

/// An entry of an index.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EntryView {
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// Its media type.
    pub(crate) media_type: String,
    /// What kind of thing it is.
    pub(crate) kind: Kind,
    /// What to call it.
    pub(crate) label: String,
    /// What it runs on.
    #[schema(example = "linux/amd64")]
    pub(crate) platform: Option<String>,
    /// Digest of the entry that it is about, as builders attach attestations.
    pub(crate) about: Option<String>,
    /// Bytes of its config and layers, where it is here.
    pub(crate) total_size: Option<i64>,
}

/// A layer, or whatever else an artifact is made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct LayerView {
    /// Its digest.
    pub(crate) digest: String,
    /// Its length in bytes.
    pub(crate) size: i64,
    /// Its media type.
    pub(crate) media_type: String,
    /// The name of its file, where it says one.
    pub(crate) title: Option<String>,
    /// The step that made it.
    pub(crate) command: Option<String>,
}

/// A manifest that was found, with its repository.
#[derive(Debug)]
pub(crate) struct Found {
    /// Name of the repository.
    pub(crate) name: RepoName,
    /// The repository.
    pub(crate) repository: Repository,
    /// The manifest.
    pub(crate) manifest: Manifest,
}

/// Finds what a reference stands for, for whoever may pull it.
///
/// # Errors
/// As `repository`; 422 for what is no reference, 404 for what is not there.
pub(crate) async fn find(actor: &Actor, state: &State, org: &str, query: &ManifestQuery) -> Result<Found> {
    let (name, repository) = repository(actor, state, org, &query.repository, &Wish::PULL).await?;
    let reference: Reference = query.reference.parse().map_err(|error| Error::invalid("reference", &error))?;
    let found = manifests::find(&mut state.db().read().await?, &name, &reference).await?;
    Ok(Found { name, repository, manifest: found.ok_or(Error::NotFound("manifest"))? })
}

/// A manifest of a repository
///
/// What a tag points at, or what has that digest: what it is, what it is made of, and what its config says.
#[utoipa::path(get, path = "/orgs/{org}/manifest", tag = "repositories",
    params(("org", description = "Slug of the organization"), ManifestQuery),
    responses((status = 200, description = "The manifest", body = ManifestView)))]
pub(crate) async fn get_manifest(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<ManifestQuery>,
) -> Result<Json<ManifestView>> {
    let found = find(&actor, &state, &slug, &query).await?;
    view(&state, &found).await.map(Json)
}

/// All that is known of a manifest.
async fn view(state: &State, found: &Found) -> Result<ManifestView> {
    let Found { name, repository, manifest } = found;
    let digest: Digest = manifest.digest.parse().map_err(Error::internal)?;
    let document = &Document::read(&manifest.payload);
    let children = describe::children(state, repository, document).await?;
    let (row, mut tags, pulled) = row_and_tags(state, repository, &digest).await?;
    let more_tags = tags.len() > MAX_TAGS;
    tags.truncate(MAX_TAGS);
    let config = load_config(state, repository, document).await?;
    let description = describe::with_config(document, config.as_ref(), &children);
    let image = config.as_ref().filter(|_| description.kind == Kind::Image).map(ImageView::of);
    Ok(ManifestView {
        repository: name.canonical().to_owned(),
        digest: manifest.digest.clone(),
        media_type: manifest.media_type.clone(),
        size: manifest.size,
        pushed_at: row.created_at,
        pushed_by: row.pushed_by,
        pulled_at: pulled.as_ref().map(|(at, _)| *at),
        pulled_by: pulled.map(|(_, by)| by),
        subject: row.subject,
        tags,
        more_tags,
        annotations: document.annotations().into_iter().collect(),
        entries: document.entries().take(MAX_CHILDREN).map(|entry| entry_view(entry, &children)).collect(),
        entries_left_off: document.entries().count().saturating_sub(MAX_CHILDREN),
        layers: layers(document, image.as_ref()),
        layers_left_off: document.layers().count().saturating_sub(MAX_LAYERS),
        config_digest: document.config().and_then(Descriptor::digest).map(|digest| clip(digest, MAX_NAME)),
        chart: config.as_ref().filter(|_| description.kind == Kind::HelmChart).map(ChartView::of),
        wasm: config.as_ref().filter(|_| description.kind == Kind::Wasm).map(WasmView::of),
        image,
        description,
        config,
        manifest: object(&manifest.payload),
    })
}

/// Its row, the tags that point at it, and when who pulled it last.
async fn row_and_tags(
    state: &State,
    repository: &Repository,
    digest: &Digest,
) -> Result<(Stored, Vec<String>, Option<(i64, String)>)> {
    let mut session = state.db().read().await?;
    let most = i64::try_from(MAX_TAGS + 1).unwrap_or(i64::MAX);
    let tags = tags::pointing_at(&mut session, &repository.id, digest, most).await?;
    let rows = manifests::stored(&mut session, &repository.id, std::iter::once(digest), 0).await?;
    let pulled = pulls::last(&mut session, &repository.id, digest).await?;
    // It may have gone since it was found.
    Ok((rows.into_iter().next().ok_or(Error::NotFound("manifest"))?, tags, pulled))
}

/// The config that a manifest names, where it is a JSON object that the repository may read.
pub(crate) async fn load_config(
    state: &State,
    repository: &Repository,
    document: &Document,
) -> Result<Option<Map<String, Value>>> {
    let digest = document.config().and_then(|config| config.digest()?.parse::<Digest>().ok());
    let loaded = config::load(state, repository, digest.as_slice(), config::MAX).await?;
    Ok(loaded.values().next().and_then(|bytes| object(bytes)))
}

/// The layers, each with the step that made it where the config tells of one for each.
pub(crate) fn layers(document: &Document, image: Option<&ImageView>) -> Vec<LayerView> {
    let steps = image.into_iter().flat_map(|image| &image.history);
    let steps: HashMap<usize, &str> = steps.filter_map(|step| Some((step.layer?, step.command.as_str()))).collect();
    let layer = |(at, layer): (usize, Descriptor<'_>)| LayerView {
        digest: layer.digest().map(|digest| clip(digest, MAX_NAME)).unwrap_or_default(),
        size: layer.size(),
        media_type: clip(layer.media_type(), MAX_NAME),
        title: layer.annotation("org.opencontainers.image.title").map(|title| clip(title, MAX_NAME)),
        command: steps.get(&at).filter(|command| !command.is_empty()).map(|command| clip(command, MAX_TEXT)),
    };
    document.layers().take(MAX_LAYERS).enumerate().map(layer).collect()
}

fn entry_view(entry: Descriptor<'_>, children: &HashMap<String, Document>) -> EntryView {
    let digest = entry.digest().unwrap_or_default();
    let child = children.get(digest);
    let (kind, label) = child.map_or_else(|| kind::of_type(entry.artifact_type()), kind::of);
    EntryView {
        digest: clip(digest, MAX_NAME),
        media_type: clip(entry.media_type(), MAX_NAME),
        kind,
        label,
        platform: entry.platform(),
        about: entry.annotation("vnd.docker.reference.digest").map(|digest| clip(digest, MAX_NAME)),
        total_size: child.map(|child| describe::total_size(child, children)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Controller};

    #[tokio::test]
    async fn a_manifest_says_what_it_is_and_what_its_config_says() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = json!({"os": "linux", "architecture": "amd64", "created": "2026-09-21T10:00:00Z",
            "config": {"Env": ["A=b"], "Labels": {"x": "y"}, "ExposedPorts": {"80/tcp": {}}},
            "history": [{"created_by": "ADD rootfs"}, {"created_by": "ENV A=b", "empty_layer": true}, {"created_by": "RUN make"}]});
        let digest = controller.push_image("main/app", "v1", &config, &[b"one", b"twotwo"]).await;
        let path = "/orgs/main/manifest?repository=main/app&reference=v1";
        let read = controller.get(&admin, path).await.expect(200).body;
        assert_eq!(read["digest"], digest);
        assert_eq!(read["tags"], json!(["v1"]));
        assert_eq!(read["description"]["kind"], "image");
        assert_eq!(read["description"]["platforms"], json!(["linux/amd64"]));
        assert_eq!(read["description"]["made_at"], "2026-09-21T10:00:00Z");
        assert_eq!(read["description"]["total_size"], json!(9 + config.to_string().len()));
        assert_eq!(read["image"]["env"], json!(["A=b"]));
        assert_eq!(read["image"]["ports"], json!(["80/tcp"]));
        assert_eq!(read["layers"][1]["command"], "RUN make");
        assert_eq!(read["config"]["config"]["Labels"]["x"], "y");
        assert_eq!(read["pushed_by"], ADMIN);
        // Once more, out of memory.
        assert_eq!(controller.get(&admin, path).await.expect(200).body["image"]["env"], json!(["A=b"]));
    }

    #[tokio::test]
    async fn a_config_that_the_repository_may_not_read_is_not_told() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let secret = json!({"os": "linux", "architecture": "amd64", "author": "secret"});
        controller.push_image("main/hidden", "v1", &secret, &[b"layer"]).await;
        let path = "/orgs/main/manifest?repository=main/hidden&reference=v1";
        let manifest = controller.get(&admin, path).await.expect(200).body;
        assert_eq!(manifest["image"]["author"], "secret");
        // The same manifest in another repository, which has no link to the config.
        controller.push_manifest("main/app", Some("v1"), &manifest["manifest"], &[]).await;
        let read =
            controller.get(&admin, "/orgs/main/manifest?repository=main/app&reference=v1").await.expect(200).body;
        assert_eq!((&read["config"], &read["image"]), (&json!(null), &json!(null)));
        assert_eq!(read["description"]["kind"], "image");
        // Damaged bytes are not told either, and are no failure.
        controller.damage("main/hidden", manifest["config_digest"].as_str().unwrap()).await;
        let fresh = controller.afresh();
        let read = fresh.get(&admin, path).await.expect(200).body;
        assert_eq!(read["config"], json!(null));
        let other = controller.other_org().await;
        controller.get(&other, path).await.expect(404);
    }

    #[tokio::test]
    async fn an_index_tells_of_its_entries() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = json!({"os": "linux", "architecture": "amd64"});
        let one = controller.push_image("main/app", "one", &config, &[b"base", b"x"]).await;
        let gone = format!("sha256:{}", "0".repeat(64));
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": one, "size": 1, "platform": {"os": "linux", "architecture": "amd64"}},
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": gone, "size": 1, "platform": {"os": "linux", "architecture": "arm64"}},
            {"mediaType": 7, "digest": null, "platform": "x"}, null]});
        controller.push_manifest("main/app", Some("all"), &index, &[]).await;
        let read =
            controller.get(&admin, "/orgs/main/manifest?repository=main/app&reference=all").await.expect(200).body;
        assert_eq!(read["description"]["label"], "Multi-platform image");
        assert_eq!(read["description"]["platforms"], json!(["linux/amd64", "linux/arm64"]));
        assert_eq!(read["entries"][0]["kind"], "image");
        assert_eq!(read["entries"][0]["total_size"], json!(5 + config.to_string().len()));
        assert_eq!(read["entries"][1]["total_size"], json!(null));
        assert_eq!(read["entries"].as_array().unwrap().len(), 3);
    }

    #[tokio::test]
    async fn what_is_not_json_is_no_failure() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.push_bytes("main/app", Some("odd"), "application/x-odd", b"\xff\x00 not json", None, &[]).await;
        let read =
            controller.get(&admin, "/orgs/main/manifest?repository=main/app&reference=odd").await.expect(200).body;
        assert_eq!((&read["manifest"], &read["description"]["kind"]), (&json!(null), &json!("artifact")));
    }
}

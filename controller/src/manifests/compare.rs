//! `/orgs/{org}/compare`: how two manifests of a repository differ.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use axum::Json;
use axum::extract::State as Shared;
use serde::{Deserialize, Serialize};
use storage::manifests;
use storage::names::{Reference, RepoName};
use storage::repositories::Repository;
use utoipa::{IntoParams, ToSchema};

use super::api::{Found, LayerView, ManifestQuery, find, layers, load_config};
use super::describe::{self, DescriptionView, MAX_CHILDREN};
use super::document::{Descriptor, Document};
use super::image::{ChartView, ImageView, StepView};
use super::kind::Kind;
use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{Path, Query};

/// What is taken where several platforms could be, and this is one of them.
const USUAL: &str = "linux/amd64";

/// What to compare.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct CompareQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// A tag or a digest: the older.
    #[param(example = "v1")]
    pub(crate) from: String,
    /// A tag or a digest: the newer.
    #[param(example = "v2")]
    pub(crate) to: String,
    /// For which platform, where there are several: `linux/amd64` where it is not given and there is that.
    #[param(example = "linux/amd64")]
    pub(crate) platform: Option<String>,
}

/// How two manifests differ.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CompareView {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// The one.
    pub(crate) from: SideView,
    /// The other.
    pub(crate) to: SideView,
    /// Platforms that could be compared.
    pub(crate) platforms: Vec<String>,
    /// The one that is.
    pub(crate) platform: Option<String>,
    /// The layers of `to`, then those of `from` that it no longer has.
    pub(crate) layers: Vec<LayerChangeView>,
    /// Bytes of the layers that both have.
    pub(crate) shared_size: i64,
    /// Bytes that whoever has `from` still has to pull for `to`.
    pub(crate) pull_size: i64,
    /// Bytes of the layers that `to` no longer has.
    pub(crate) removed_size: i64,
    /// What is different in their configs.
    pub(crate) config: Vec<DifferenceView>,
    /// What is different in their annotations.
    pub(crate) annotations: Vec<DifferenceView>,
    /// The steps that made them, in order.
    pub(crate) history: Vec<StepChangeView>,
}

/// One of the two.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SideView {
    /// What was asked for.
    pub(crate) reference: String,
    /// Digest of the manifest that is compared: of an index, the entry's for the platform.
    pub(crate) digest: String,
    /// What it is.
    pub(crate) description: DescriptionView,
}

/// What became of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// Both have it.
    Same,
    /// Only the other has it.
    Added,
    /// Only the one has it.
    Removed,
    /// Both have it, with different values.
    Changed,
}

/// A layer, and which of the two has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LayerChangeView {
    /// Who has it.
    pub(crate) change: Change,
    /// It.
    #[serde(flatten)]
    pub(crate) layer: LayerView,
}

/// A value that is different.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct DifferenceView {
    /// What it is of: `env`, `label`, `port`, `cmd`, …
    #[schema(example = "env")]
    pub(crate) field: &'static str,
    /// The name of the variable, label or annotation; empty where there is one value alone.
    pub(crate) name: String,
    /// What became of it.
    pub(crate) change: Change,
    /// The one's.
    pub(crate) from: Option<String>,
    /// The other's.
    pub(crate) to: Option<String>,
}

/// A step, and which of the two has it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StepChangeView {
    /// Who has it.
    pub(crate) change: Change,
    /// What was run.
    pub(crate) command: String,
}

/// How two manifests of a repository differ
///
/// Layers that they share, what a pull costs whoever has the one, configs and histories line by line.
#[utoipa::path(get, path = "/orgs/{org}/compare", tag = "repositories",
    params(("org", description = "Slug of the organization"), CompareQuery),
    responses((status = 200, description = "The differences", body = CompareView)))]
pub(crate) async fn compare_manifests(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<CompareQuery>,
) -> Result<Json<CompareView>> {
    let asked =
        |reference: &str| ManifestQuery { repository: query.repository.clone(), reference: reference.to_owned() };
    let from = find(&actor, &state, &slug, &asked(&query.from)).await.map_err(|error| at("from", error))?;
    let to = find(&actor, &state, &slug, &asked(&query.to)).await.map_err(|error| at("to", error))?;
    let (from, to) = (Side::of(from), Side::of(to));
    let platforms = choices(&from, &to)?;
    let platform = choose(&platforms, query.platform.as_deref())?;
    let from = from.resolve(&state, platform.as_deref()).await?;
    let to = to.resolve(&state, platform.as_deref()).await?;
    Ok(Json(compared(&from, &to, &query, (platforms, platform))))
}

/// A failure, at the parameter that it is of.
fn at(field: &'static str, error: Error) -> Error {
    match error {
        Error::Invalid { reason, .. } => Error::Invalid { field, reason },
        other => other,
    }
}

/// One of the two, as it was named.
struct Side {
    repository: Repository,
    name: RepoName,
    digest: String,
    document: Document,
}

impl Side {
    fn of(found: Found) -> Self {
        let document = Document::read(&found.manifest.payload);
        Self { repository: found.repository, name: found.name, digest: found.manifest.digest, document }
    }

    /// The platforms of an index; `None` of anything else.
    fn platforms(&self) -> Option<BTreeSet<String>> {
        let entries = || self.document.entries().take(MAX_CHILDREN);
        self.document.is_index().then(|| entries().filter_map(Descriptor::platform).collect())
    }

    /// It, or of an index its entry for a platform, with config.
    async fn resolve(self, state: &State, platform: Option<&str>) -> Result<Resolved> {
        let (digest, document) = match self.document.is_index() {
            true => self.entry(state, platform).await?,
            false => (self.digest, self.document),
        };
        let config = load_config(state, &self.repository, &document).await?;
        let description = describe::with_config(&document, config.as_ref(), &HashMap::new());
        let image = config.as_ref().filter(|_| description.kind == Kind::Image).map(ImageView::of);
        let chart = config.as_ref().filter(|_| description.kind == Kind::HelmChart).map(ChartView::of);
        Ok(Resolved { digest, document, description, image, chart })
    }

    async fn entry(&self, state: &State, platform: Option<&str>) -> Result<(String, Document)> {
        let is_it = |entry: &Descriptor<'_>| platform.is_some() && entry.platform().as_deref() == platform;
        let entry = self.document.entries().take(MAX_CHILDREN).find(is_it).and_then(Descriptor::digest);
        let reference: Option<Reference> = entry.and_then(|digest| digest.parse().ok().map(Reference::Digest));
        let found = match reference {
            Some(reference) => manifests::find(&mut state.db().read().await?, &self.name, &reference).await?,
            None => None,
        };
        let found = found.ok_or_else(|| {
            Error::Unacceptable(format!(
                "the image for {} is not in this repository",
                platform.unwrap_or("that platform")
            ))
        })?;
        Ok((found.digest, Document::read(&found.payload)))
    }
}

/// What can be chosen between: the platforms that both have; where one is no index, those of the other.
fn choices(from: &Side, to: &Side) -> Result<Vec<String>> {
    let common: BTreeSet<String> = match (from.platforms(), to.platforms()) {
        (None, None) => return Ok(Vec::new()),
        (Some(one), None) | (None, Some(one)) => one,
        (Some(one), Some(other)) => one.intersection(&other).cloned().collect(),
    };
    if common.is_empty() {
        return Err(Error::Unacceptable("there is no platform that both of them have".into()));
    }
    Ok(common.into_iter().collect())
}

fn choose(platforms: &[String], wanted: Option<&str>) -> Result<Option<String>> {
    let wanted = wanted.filter(|wanted| !wanted.is_empty());
    match wanted {
        Some(_) if platforms.is_empty() => Ok(None),
        Some(wanted) if platforms.iter().any(|one| one == wanted) => Ok(Some(wanted.to_owned())),
        Some(_) => Err(Error::invalid("platform", &format!("choose one of {}", platforms.join(", ")))),
        None => Ok(platforms.iter().find(|one| *one == USUAL).or(platforms.first()).cloned()),
    }
}

/// One of the two, as it is compared.
struct Resolved {
    digest: String,
    document: Document,
    description: DescriptionView,
    image: Option<ImageView>,
    chart: Option<ChartView>,
}

fn compared(
    from: &Resolved,
    to: &Resolved,
    query: &CompareQuery,
    (platforms, platform): (Vec<String>, Option<String>),
) -> CompareView {
    let side = |reference: &str, side: &Resolved| SideView {
        reference: reference.to_owned(),
        digest: side.digest.clone(),
        description: side.description.clone(),
    };
    let (had, has) = (from.document.blobs(), to.document.blobs());
    let sum = |blobs: &HashMap<&str, i64>, keep: &dyn Fn(&str) -> bool| {
        blobs.iter().filter(|(digest, _)| keep(digest)).fold(0, |sum: i64, (_, size)| sum.saturating_add(*size))
    };
    CompareView {
        repository: query.repository.clone(),
        from: side(&query.from, from),
        to: side(&query.to, to),
        platforms,
        platform,
        layers: layer_changes(layers(&from.document, from.image.as_ref()), layers(&to.document, to.image.as_ref())),
        shared_size: sum(&has, &|digest| had.contains_key(digest)),
        pull_size: sum(&has, &|digest| !had.contains_key(digest)),
        removed_size: sum(&had, &|digest| !has.contains_key(digest)),
        config: config_differences(from, to),
        annotations: map_differences(
            "annotation",
            &from.document.annotations().into_iter().collect(),
            &to.document.annotations().into_iter().collect(),
        ),
        history: step_changes(steps(from), steps(to)),
    }
}

fn steps(side: &Resolved) -> &[StepView] {
    side.image.as_ref().map_or(&[], |image| image.history.as_slice())
}

fn layer_changes(from: Vec<LayerView>, to: Vec<LayerView>) -> Vec<LayerChangeView> {
    let digests = |layers: &[LayerView]| layers.iter().map(|layer| layer.digest.clone()).collect::<HashSet<_>>();
    let (had, has) = (digests(&from), digests(&to));
    let kept = to.into_iter().map(|layer| {
        let change = if had.contains(&layer.digest) { Change::Same } else { Change::Added };
        LayerChangeView { change, layer }
    });
    let removed = from.into_iter().filter(|layer| !has.contains(&layer.digest));
    kept.chain(removed.map(|layer| LayerChangeView { change: Change::Removed, layer })).collect()
}

/// What the longest common part of two histories leaves over, in order. Both are bounded.
fn step_changes(from: &[StepView], to: &[StepView]) -> Vec<StepChangeView> {
    let same = |i: usize, j: usize| from[i].command == to[j].command;
    let mut longest = vec![vec![0u16; to.len() + 1]; from.len() + 1];
    for i in (0..from.len()).rev() {
        for j in (0..to.len()).rev() {
            longest[i][j] =
                if same(i, j) { longest[i + 1][j + 1] + 1 } else { longest[i + 1][j].max(longest[i][j + 1]) };
        }
    }
    let (mut i, mut j, mut changes) = (0, 0, Vec::new());
    while i < from.len() || j < to.len() {
        let change = if i < from.len() && j < to.len() && same(i, j) {
            Change::Same
        } else if j == to.len() || (i < from.len() && longest[i + 1][j] >= longest[i][j + 1]) {
            Change::Removed
        } else {
            Change::Added
        };
        let command = if change == Change::Added { &to[j].command } else { &from[i].command };
        changes.push(StepChangeView { change, command: command.clone() });
        i += usize::from(change != Change::Added);
        j += usize::from(change != Change::Removed);
    }
    changes
}

fn config_differences(from: &Resolved, to: &Resolved) -> Vec<DifferenceView> {
    let none = (ImageView::default(), ChartView::default());
    let (had, has) = (from.image.as_ref().unwrap_or(&none.0), to.image.as_ref().unwrap_or(&none.0));
    let mut found = Vec::new();
    let mut one = |field, from: Option<&str>, to: Option<&str>| found.extend(difference(field, "", from, to));
    one("platform", had.platform.as_deref(), has.platform.as_deref());
    one("entrypoint", words(&had.entrypoint).as_deref(), words(&has.entrypoint).as_deref());
    one("cmd", words(&had.cmd).as_deref(), words(&has.cmd).as_deref());
    one("user", had.user.as_deref(), has.user.as_deref());
    one("working_dir", had.working_dir.as_deref(), has.working_dir.as_deref());
    one("stop_signal", had.stop_signal.as_deref(), has.stop_signal.as_deref());
    one("healthcheck", words(&had.healthcheck).as_deref(), words(&has.healthcheck).as_deref());
    let (old, new) = (from.chart.as_ref().unwrap_or(&none.1), to.chart.as_ref().unwrap_or(&none.1));
    one("chart", old.name.as_deref(), new.name.as_deref());
    one("version", old.version.as_deref(), new.version.as_deref());
    one("app_version", old.app_version.as_deref(), new.app_version.as_deref());
    one("description", old.description.as_deref(), new.description.as_deref());
    found.extend(map_differences("env", &variables(&had.env), &variables(&has.env)));
    found.extend(map_differences("port", &set(&had.ports), &set(&has.ports)));
    found.extend(map_differences("volume", &set(&had.volumes), &set(&has.volumes)));
    found.extend(map_differences("label", &had.labels, &has.labels));
    found.extend(map_differences("dependency", &set(&old.dependencies), &set(&new.dependencies)));
    found
}

/// A list of words as it is written in a Dockerfile; `None` where there is none.
pub(crate) fn words(list: &[String]) -> Option<String> {
    (!list.is_empty()).then(|| serde_json::to_string(list).unwrap_or_default())
}

fn variables(env: &[String]) -> BTreeMap<String, String> {
    let split = |text: &String| {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        (name.to_owned(), value.to_owned())
    };
    env.iter().map(split).collect()
}

fn set(names: &[String]) -> BTreeMap<String, String> {
    names.iter().map(|name| (name.clone(), String::new())).collect()
}

fn map_differences(
    field: &'static str,
    from: &BTreeMap<String, String>,
    to: &BTreeMap<String, String>,
) -> Vec<DifferenceView> {
    let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();

    names
        .into_iter()
        .filter_map(|name| {
            difference(field, name, from.get(name).map(String::as_str), to.get(name).map(String::as_str))
        })
        .collect()
}

fn difference(field: &'static str, name: &str, from: Option<&str>, to: Option<&str>) -> Option<DifferenceView> {
    let change = match (from, to) {
        (from, to) if from == to => return None,
        (None, _) => Change::Added,
        (_, None) => Change::Removed,
        _ => Change::Changed,
    };
    let owned = |text: Option<&str>| text.map(str::to_owned);
    Some(DifferenceView { field, name: name.to_owned(), change, from: owned(from), to: owned(to) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Controller};

    fn config(env: &str, run: &str) -> Value {
        json!({"os": "linux", "architecture": "amd64",
            "config": {"Env": [format!("A={env}"), "B=b"], "Labels": {env: "1"}, "Cmd": ["serve"], "ExposedPorts": {"80/tcp": null}},
            "history": [{"created_by": "ADD rootfs"}, {"created_by": run}]})
    }

    #[tokio::test]
    async fn two_images_differ_in_layers_config_and_history() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let (one, two) = (config("x", "RUN make"), config("y", "RUN make all"));
        controller.push_image("main/app", "v1", &one, &[b"base", b"layer"]).await;
        controller.push_image("main/app", "v2", &two, &[b"base", b"another"]).await;
        let path = |more: &str| format!("/orgs/main/compare?repository=main/app&{more}");
        let read = controller.get(&admin, &path("from=v1&to=v2")).await.expect(200).body;
        let changes = |list: &str, field: &str| {
            let items = read[list].as_array().unwrap().iter();
            items.map(|item| format!("{} {}", item["change"].as_str().unwrap(), item[field])).collect::<Vec<_>>()
        };
        assert_eq!(changes("layers", "size"), ["same 4", "added 7", "removed 5"]);
        assert_eq!(
            changes("history", "command"),
            ["same \"ADD rootfs\"", "removed \"RUN make\"", "added \"RUN make all\""]
        );
        assert_eq!(changes("config", "name"), ["changed \"A\"", "removed \"x\"", "added \"y\""]);
        assert_eq!(read["shared_size"], 4);
        assert_eq!(read["pull_size"], json!(7 + two.to_string().len()));
        assert_eq!(read["removed_size"], json!(5 + one.to_string().len()));
        let same = controller.get(&admin, &path("from=v1&to=v1")).await.expect(200).body;
        assert_eq!((&same["config"], &same["pull_size"]), (&json!([]), &json!(0)));
        controller.get(&admin, &path("from=v1&to=gone")).await.expect(404);
        assert_eq!(controller.get(&admin, &path("from=v1&to=%20")).await.expect(422).body["field"], "to");
        let other = controller.other_org().await;
        controller.get(&other, &path("from=v1&to=v2")).await.expect(404);
    }

    #[tokio::test]
    async fn indexes_are_compared_for_a_platform_that_both_have() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let image = controller.push_image("main/app", "one", &config("x", "RUN"), &[b"base"]).await;
        let entry = |digest: &str, architecture: &str| {
            json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest,
            "size": 1, "platform": {"os": "linux", "architecture": architecture}})
        };
        let index = |entries: Value| json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries});
        let gone = format!("sha256:{}", "0".repeat(64));
        controller
            .push_manifest("main/app", Some("a"), &index(json!([entry(&image, "amd64"), entry(&gone, "arm64")])), &[])
            .await;
        controller
            .push_manifest(
                "main/app",
                Some("b"),
                &index(json!([entry(&image, "amd64"), entry(&gone, "arm64"), entry(&image, "s390x")])),
                &[],
            )
            .await;
        controller.push_manifest("main/app", Some("c"), &index(json!([entry(&image, "riscv64")])), &[]).await;
        let path = |more: &str| format!("/orgs/main/compare?repository=main/app&{more}");
        let read = controller.get(&admin, &path("from=a&to=b")).await.expect(200).body;
        assert_eq!(
            (&read["platforms"], &read["platform"]),
            (&json!(["linux/amd64", "linux/arm64"]), &json!("linux/amd64"))
        );
        assert_eq!(read["from"]["digest"], image);
        controller.get(&admin, &path("from=a&to=one")).await.expect(200);
        controller.get(&admin, &path("from=a&to=b&platform=linux/arm64")).await.expect(422);
        controller.get(&admin, &path("from=a&to=b&platform=linux/mips")).await.expect(422);
        controller.get(&admin, &path("from=a&to=c")).await.expect(422);
    }
}

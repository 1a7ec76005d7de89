//! What the configs of images and charts say.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::describe::made_at;
use super::document::{MAX_ENTRIES, MAX_NAME, MAX_TEXT, clip, fields, items, pairs, text, texts};
use crate::time;

/// Steps of a history that are told.
pub(crate) const MAX_HISTORY: usize = 500;

/// What the config of an image says.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ImageView {
    /// Operating system and architecture.
    #[schema(example = "linux/amd64")]
    pub(crate) platform: Option<String>,
    /// Who made it.
    pub(crate) author: Option<String>,
    /// Whom its process runs as.
    pub(crate) user: Option<String>,
    /// Where its process begins.
    pub(crate) working_dir: Option<String>,
    /// What is run.
    pub(crate) entrypoint: Vec<String>,
    /// Arguments of what is run, or what is run.
    pub(crate) cmd: Vec<String>,
    /// Variables, as `NAME=value`.
    pub(crate) env: Vec<String>,
    /// Ports that it listens on.
    pub(crate) ports: Vec<String>,
    /// Folders that keep data.
    pub(crate) volumes: Vec<String>,
    /// The signal that ends it.
    pub(crate) stop_signal: Option<String>,
    /// What asks it whether it is well.
    pub(crate) healthcheck: Vec<String>,
    /// Labels by name.
    pub(crate) labels: BTreeMap<String, String>,
    /// The steps that made it, oldest first, at most 500.
    pub(crate) history: Vec<StepView>,
    /// Steps beyond those.
    pub(crate) history_left_off: usize,
}

/// A step of an image's making.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct StepView {
    /// What was run.
    pub(crate) command: String,
    /// A remark.
    pub(crate) comment: Option<String>,
    /// When.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) made_at: Option<i64>,
    /// The layer that it made, counted from 0; none where it changed no file.
    pub(crate) layer: Option<usize>,
}

impl ImageView {
    /// Of a config.
    pub(crate) fn of(config: &Map<String, Value>) -> Self {
        let none = Map::new();
        let run = fields(config, "config").unwrap_or(&none);
        let of = |fields: &Map<String, Value>, name: &str| text(fields, name).map(|text| clip(text, MAX_TEXT));
        let mut history = steps(config);
        let history_left_off = history.len().saturating_sub(MAX_HISTORY);
        history.truncate(MAX_HISTORY);
        Self {
            platform: super::document::platform(config),
            author: of(config, "author"),
            user: of(run, "User"),
            working_dir: of(run, "WorkingDir"),
            entrypoint: texts(run, "Entrypoint"),
            cmd: texts(run, "Cmd"),
            env: texts(run, "Env"),
            ports: names(run, "ExposedPorts"),
            volumes: names(run, "Volumes"),
            stop_signal: of(run, "StopSignal"),
            healthcheck: fields(run, "Healthcheck").map(|check| texts(check, "Test")).unwrap_or_default(),
            labels: pairs(run, "Labels").into_iter().collect(),
            history,
            history_left_off,
        }
    }
}

/// The names of a field that is a set, kept as a map.
fn names(of: &Map<String, Value>, name: &str) -> Vec<String> {
    let mut names: Vec<String> =
        fields(of, name).into_iter().flat_map(Map::keys).take(MAX_ENTRIES).map(|name| clip(name, MAX_NAME)).collect();
    names.sort();
    names
}

fn steps(config: &Map<String, Value>) -> Vec<StepView> {
    let mut layers = 0;
    let step = |step: &Map<String, Value>| {
        let empty = step.get("empty_layer").and_then(Value::as_bool).unwrap_or_default();
        let layer = (!empty).then_some(layers);
        layers += usize::from(!empty);
        StepView {
            command: clip(text(step, "created_by").unwrap_or_default(), MAX_TEXT),
            comment: text(step, "comment").map(|text| clip(text, MAX_NAME)),
            made_at: text(step, "created").and_then(made_at),
            layer,
        }
    };
    items(config, "history").iter().filter_map(Value::as_object).map(step).collect()
}

/// A command of a history as it was written: without the words that builders put around it.
pub(crate) fn plain_command(command: &str) -> &str {
    let command = command.trim();
    let run = command.strip_prefix("/bin/sh -c #(nop)").or_else(|| command.strip_prefix("|0 "));
    let command = run.unwrap_or(command).trim();
    command.strip_suffix("# buildkit").unwrap_or(command).trim()
}

/// What the config of a Helm chart says.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ChartView {
    /// Its name.
    #[schema(example = "nginx")]
    pub(crate) name: Option<String>,
    /// Its version.
    pub(crate) version: Option<String>,
    /// The version of what it installs.
    pub(crate) app_version: Option<String>,
    /// What it is.
    pub(crate) description: Option<String>,
    /// `application` or `library`.
    #[serde(rename = "type")]
    pub(crate) kind: Option<String>,
    /// Versions of Kubernetes that it is for.
    pub(crate) kube_version: Option<String>,
    /// Its home page.
    pub(crate) home: Option<String>,
    /// Where its source is.
    pub(crate) sources: Vec<String>,
    /// Words to find it by.
    pub(crate) keywords: Vec<String>,
    /// Who keeps it.
    pub(crate) maintainers: Vec<String>,
    /// Charts that it needs, with their versions.
    pub(crate) dependencies: Vec<String>,
    /// Whether it should no longer be used.
    pub(crate) deprecated: bool,
}

impl ChartView {
    /// Of a config.
    pub(crate) fn of(config: &Map<String, Value>) -> Self {
        let of = |name: &str| text(config, name).map(|text| clip(text, MAX_TEXT));
        let list = |name: &str, one: fn(&Map<String, Value>) -> Option<String>| {
            items(config, name).iter().filter_map(Value::as_object).filter_map(one).take(50).collect()
        };
        Self {
            name: of("name"),
            version: of("version"),
            app_version: of("appVersion"),
            description: of("description"),
            kind: of("type"),
            kube_version: of("kubeVersion"),
            home: of("home"),
            sources: texts(config, "sources"),
            keywords: texts(config, "keywords"),
            maintainers: list("maintainers", |one| {
                let name = text(one, "name")?;
                let shown = text(one, "email").map_or(name.to_owned(), |email| format!("{name} <{email}>"));
                Some(clip(&shown, MAX_NAME))
            }),
            dependencies: list("dependencies", |one| {
                let shown = format!("{} {}", text(one, "name")?, text(one, "version").unwrap_or_default());
                Some(clip(shown.trim(), MAX_NAME))
            }),
            deprecated: config.get("deprecated").and_then(Value::as_bool).unwrap_or_default(),
        }
    }
}

/// What the config of a WebAssembly artifact says.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct WasmView {
    /// What it runs on.
    #[schema(example = "wasip2/wasm")]
    pub(crate) platform: Option<String>,
    /// Who made it.
    pub(crate) author: Option<String>,
    /// The world that the component is made for.
    pub(crate) target: Option<String>,
    /// What it offers.
    pub(crate) exports: Vec<String>,
    /// What it needs.
    pub(crate) imports: Vec<String>,
}

impl WasmView {
    /// Of a config.
    pub(crate) fn of(config: &Map<String, Value>) -> Self {
        let none = Map::new();
        let component = fields(config, "component").unwrap_or(&none);
        let of = |fields: &Map<String, Value>, name: &str| text(fields, name).map(|text| clip(text, MAX_TEXT));
        Self {
            platform: super::document::platform(config),
            author: of(config, "author"),
            target: of(component, "target"),
            exports: texts(component, "exports"),
            imports: texts(component, "imports"),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::manifests::document::object;

    #[test]
    fn empty_steps_make_no_layer() {
        let config = br#"{"os":"linux","architecture":"arm64","variant":"v8","history":[
            {"created_by":"ADD rootfs"},{"created_by":"ENV A=b","empty_layer":true},{"created_by":"RUN x # buildkit","comment":"c"}, 7]}"#;
        let image = ImageView::of(&object(config).unwrap());
        assert_eq!(image.platform.as_deref(), Some("linux/arm64/v8"));
        assert_eq!(image.history.iter().map(|step| step.layer).collect::<Vec<_>>(), [Some(0), None, Some(1)]);
        assert_eq!(plain_command(&image.history[2].command), "RUN x");
        assert_eq!(plain_command("/bin/sh -c #(nop)  CMD [\"sh\"]"), "CMD [\"sh\"]");
    }

    #[test]
    fn hostile_configs_say_nothing() {
        for odd in [
            r#"{"config":null,"history":{},"os":7}"#,
            r#"{"config":[],"history":[null,[],{"created_by":7,"created":{},"empty_layer":"yes"}]}"#,
            r#"{"config":{"Env":{"a":1},"Entrypoint":"sh","Cmd":[1,null,[]],"Labels":[1],"ExposedPorts":[80],"Healthcheck":7}}"#,
        ] {
            let image = ImageView::of(&object(odd.as_bytes()).unwrap());
            assert!(image.env.is_empty() && image.cmd.is_empty() && image.labels.is_empty(), "{odd}");
            assert!(image.platform.is_none() && image.ports.is_empty());
        }
        let many: Vec<String> =
            (0..2_000).map(|n| format!("{{\"created_by\":\"RUN make part-{n} && make install\"}}")).collect();
        let image = ImageView::of(&object(format!("{{\"history\":[{}]}}", many.join(",")).as_bytes()).unwrap());
        assert_eq!((image.history.len(), image.history_left_off), (500, 1_500));
        let chart = ChartView::of(&object(br#"{"name":7,"maintainers":[{"name":"Ann","email":"a@x"},{"email":"b"},3],"sources":"x","deprecated":"yes"}"#).unwrap());
        assert_eq!(chart.maintainers, ["Ann <a@x>"]);
        assert!(!chart.deprecated && chart.name.is_none());
    }

    #[test]
    fn a_component_says_what_it_offers_and_needs() {
        let config = br#"{"os":"wasip2","architecture":"wasm","author":"Ann","layerDigests":[],
            "component":{"exports":["wasi:cli/run@0.2.0"],"imports":["wasi:io/error@0.2.0",7],"target":null}}"#;
        let wasm = WasmView::of(&object(config).unwrap());
        assert_eq!((wasm.platform.as_deref(), wasm.author.as_deref()), (Some("wasip2/wasm"), Some("Ann")));
        assert_eq!((wasm.exports.as_slice(), wasm.imports.len()), (&["wasi:cli/run@0.2.0".to_owned()][..], 1));
        assert!(WasmView::of(&object(br#"{"component":[]}"#).unwrap()).exports.is_empty());
    }
}

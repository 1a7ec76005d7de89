//! Manifests, as pages: what one is and is made of, what is attached to it, how two differ.

use std::ops::ControlFlow;

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::rbac::Permission;
use serde::Deserialize;
use storage::names::{Digest, Reference, RepoName};
use storage::tags;

use super::api::{self, EntryView, LayerView, ManifestQuery, ManifestView};
use super::compare::{self, Change, CompareQuery, CompareView, DifferenceView, SideView, words};
use super::contents::{self, ContentView, ContentsQuery, ContentsView, Problem};
use super::document::{clip_drawn, drawn};
use super::helm;
use super::image::{ImageView, StepView, plain_command};
use super::kind::Kind;
use super::referrers::{self, CheckedBy, ReferrerView, ReferrersView, rank};
use crate::State;
use crate::account::console::Tools;
use crate::console::{self, FormProblem, Frame, Section, Viewer};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::repositories::api::{Wish, repository};

/// Layers, or steps, on a page.
const ON_PAGE: usize = 50;
/// Variables, labels or annotations on a page.
const MOST_PAIRS: usize = 100;
/// Characters of a value on a page.
const MOST_TEXT: usize = 400;
/// Bytes of raw JSON on a page, as it is drawn.
const MOST_RAW: usize = 40 << 10;
/// Bytes of a list of variables, labels or annotations on a page, as it is drawn.
const MOST_OF_PAIRS: usize = 24 << 10;
/// Lines of a list of differences on a page.
const MOST_LINES: usize = 100;
/// Tags to choose from.
const MOST_TAGS: i64 = 100;

/// What of a manifest is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tab {
    /// What a signature, an attestation or an SBOM says.
    Says,
    /// Platforms, layers or files.
    Content,
    Config,
    History,
    Attached,
    Raw,
}

/// The part of a page's address behind `?`.
#[derive(Debug, Deserialize)]
pub(crate) struct ShowQuery {
    #[serde(default)]
    reference: String,
    view: Option<String>,
    start: Option<usize>,
    search: Option<String>,
}

/// Where a repository's pages are.
struct Place {
    org: String,
    /// Full name of the repository.
    name: String,
    /// The name without the organization.
    below: String,
}

impl Place {
    fn of(org: &str, below: &str) -> Self {
        Self { org: crate::etag::segment(org), name: format!("{org}/{below}"), below: encode_path(below) }
    }

    /// The organization.
    fn slug(&self) -> &str {
        self.name.split('/').next().unwrap_or_default()
    }

    /// Where the deletion of a manifest is asked for.
    fn deletion(&self, digest: &str) -> String {
        format!("/orgs/{}/deletion/{}?digest={}", self.org, self.below, encode(digest))
    }

    /// The page of a manifest.
    fn manifest(&self, reference: &str) -> String {
        format!("/orgs/{}/manifests/{}?reference={}", self.org, self.below, encode(reference))
    }

    /// The page of the repository.
    fn repository(&self) -> String {
        format!("/orgs/{}/repositories/{}", self.org, self.below)
    }

    /// The page that compares.
    fn compare(&self, from: &str, to: &str, platform: Option<&str>) -> String {
        let (from, to) = (encode(from), encode(to));
        let more = platform.map(|platform| format!("&platform={}", encode(platform))).unwrap_or_default();
        format!("/orgs/{}/compare/{}?from={from}&to={to}{more}", self.org, self.below)
    }

    /// Where the exact bytes are.
    fn raw(&self, digest: &str, part: &str) -> String {
        let (name, digest) = (encode(&self.name), encode(digest));
        format!("/api/v1/orgs/{}/manifest/raw?repository={name}&reference={digest}&part={part}", self.org)
    }
}

/// A value in a query.
fn encode(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

fn encode_path(path: &str) -> String {
    path.split('/').map(crate::etag::segment).collect::<Vec<_>>().join("/")
}

/// `/orgs/{org}/manifests/{*name}`
#[derive(Template)]
#[template(path = "manifests/show.html")]
struct ShowPage {
    frame: Frame,
    place: Place,
    view: ManifestView,
    reference: String,
    tab: Tab,
    start: usize,
    commands: Vec<Command>,
    attached: ReferrersView,
    says: Option<ContentsView>,
    search: String,
    tools: Tools,
    may_delete: bool,
}

/// Something to paste.
#[derive(Debug)]
struct Command {
    what: &'static str,
    text: String,
}

/// A piece of the picture of layers.
#[derive(Debug, PartialEq, Eq)]
struct Bar {
    x: u32,
    width: u32,
    class: &'static str,
    title: String,
}

/// A line of the tree of what is attached: how many lists end before it, and whether one begins.
struct Branch<'a> {
    item: &'a ReferrerView,
    closes: usize,
    opens: bool,
}

impl ShowPage {
    /// This page with another tab, or further on in it.
    fn tab(&self, view: &str) -> String {
        format!("{}&view={view}", self.place.manifest(&self.reference))
    }

    fn is_index(&self) -> bool {
        self.view.description.kind == Kind::Index
    }

    fn content_title(&self) -> &'static str {
        match self.view.description.kind {
            Kind::Index if self.view.description.platforms.is_empty() => "Manifests",
            Kind::Index => "Platforms",
            Kind::Image => "Layers",
            _ => "Files",
        }
    }

    fn content_count(&self) -> usize {
        match self.view.description.kind {
            Kind::Index if self.view.description.platforms.is_empty() => {
                self.view.entries.len() + self.view.entries_left_off
            }
            Kind::Index => self.view.description.platforms.len(),
            _ => self.view.layers.len() + self.view.layers_left_off,
        }
    }

    /// Whether there is a tab for what it says.
    fn speaks(&self) -> bool {
        self.view.description.kind.speaks()
    }

    /// How its signature would be checked, as a command, where only the signature itself says what it is about.
    fn check(&self, content: &ContentView) -> Option<String> {
        let named = content.signature.as_ref()?.signs.as_deref();
        let stated = content.statement.as_ref().and_then(|said| said.subjects.first()?.digest.as_deref());
        let digest: Digest = named.or(stated).filter(|_| self.view.subject.is_none())?.parse().ok()?;
        let signature = self.view.description.kind == Kind::Signature;
        let verb = if signature { "verify".to_owned() } else { attestation_verb(&self.view) };
        let (more, by) = (self.tools.cosign_more(), trusted(content.signature.as_ref()?.keyless));
        Some(format!("cosign {verb} {by}{more} {}/{}@{digest}", self.tools.host, self.view.repository))
    }

    /// What an image was made by.
    fn steps(&self) -> &[StepView] {
        self.view.image.as_ref().map_or(&[], |image| &image.history)
    }

    fn layers_here(&self) -> &[LayerView] {
        here(&self.view.layers, self.start)
    }

    fn steps_here(&self) -> &[StepView] {
        here(self.steps(), self.start)
    }

    fn first_of(&self, view: &str) -> String {
        if self.start == 0 { String::new() } else { self.tab(view) }
    }

    fn next_of(&self, view: &str, length: usize) -> Option<String> {
        let next = self.start.saturating_add(ON_PAGE);
        (next < length).then(|| format!("{}&start={next}", self.tab(view)))
    }

    /// The layers as pieces of a strip of 1000, wide as they are large.
    fn bars(&self) -> Vec<Bar> {
        bars(&self.view.layers, &|size| self.frame.size(size).to_string())
    }

    /// What an entry of an index is about: the platform that it attests.
    fn about(&self, entry: &EntryView) -> String {
        let about = entry.about.as_deref().unwrap_or_default();
        let of = self.view.entries.iter().find(|other| !about.is_empty() && other.digest == about);
        of.and_then(|other| other.platform.clone()).unwrap_or_default()
    }

    fn pairs(&self, map: &std::collections::BTreeMap<String, String>) -> Vec<(String, String)> {
        few(map.iter().map(|(name, value)| (short(name), short(value))))
    }

    fn variables(&self, image: &ImageView) -> Vec<(String, String)> {
        let split = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (short(name), short(value))
        };
        few(image.env.iter().map(split))
    }

    /// The tree of what is attached, by groups with their titles.
    fn groups(&self) -> Vec<(&'static str, Vec<Branch<'_>>)> {
        let mut groups: Vec<(&'static str, Vec<Branch<'_>>)> = Vec::new();
        let mut depth = 0_usize;
        for item in &self.attached.items {
            let title = match rank(item.kind) {
                0 => "Signatures",
                1 => "Attestations",
                2 => "SBOMs",
                _ => "Others",
            };
            if item.depth == 1 && groups.last().is_none_or(|(last, _)| *last != title) {
                groups.push((title, Vec::new()));
                depth = 0;
            }
            let Some((_, branches)) = groups.last_mut() else { continue };
            branches.push(Branch { item, closes: depth.saturating_sub(item.depth), opens: item.depth > depth });
            depth = item.depth;
        }
        groups
    }

    /// It, as clients name it by its digest.
    fn exact(&self) -> String {
        format!("{}/{}@{}", self.tools.host, self.view.repository, self.view.digest)
    }

    fn raw_manifest(&self) -> Raw {
        Raw::of(self.view.manifest.as_ref())
    }

    fn raw_config(&self) -> Raw {
        Raw::of(self.view.config.as_ref())
    }
}

/// JSON as it is shown.
struct Raw {
    text: String,
    cut: bool,
}

impl Raw {
    fn of(value: Option<&serde_json::Map<String, serde_json::Value>>) -> Self {
        let mut beginning = Beginning(Vec::new());
        let whole = value.is_none_or(|value| serde_json::to_writer_pretty(&mut beginning, value).is_ok());
        let mut text = String::from_utf8_lossy(&beginning.0).into_owned();
        let cut = !whole || drawn(&text) > MOST_RAW;
        if cut {
            text = clip_drawn(&text, MOST_RAW);
        }
        Self { text, cut }
    }
}

/// What is written first; the rest is refused, so that what is deep, and large where it is indented, takes no room.
struct Beginning(Vec<u8>);

impl std::io::Write for Beginning {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() > MOST_RAW {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn here<T>(all: &[T], start: usize) -> &[T] {
    let rest = all.get(start..).unwrap_or_default();
    &rest[..rest.len().min(ON_PAGE)]
}

/// As many pairs as a page shows.
fn few(pairs: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut room = MOST_OF_PAIRS;
    let fits = |(name, value): &(String, String)| {
        let left = room.checked_sub(drawn(name) + drawn(value));
        room = left.unwrap_or_default();
        left.is_some()
    };
    pairs.take(MOST_PAIRS).take_while(fits).collect()
}

/// A value of theirs, as long as a page shows.
fn short(text: &str) -> String {
    clip_drawn(text, MOST_TEXT)
}

/// A command of a history as a page shows it.
fn step(text: &str) -> String {
    short(plain_command(text))
}

/// A value of theirs in a list of many.
fn brief(text: &str) -> String {
    clip_drawn(plain_command(text), 160)
}

/// What a tag by which something is attached ends in: `.sig`, or nothing.
fn ending(tag: &str) -> &str {
    tag.find('.').and_then(|at| tag.get(at..)).unwrap_or_default()
}

/// The name of a media type that says it: without what all of them begin with.
fn media(text: &str) -> &str {
    text.strip_prefix("application/vnd.").or_else(|| text.strip_prefix("application/")).unwrap_or(text)
}

/// Narrower than this (of 1000), layers become one piece with their neighbours.
const THIN: u32 = 6;

fn bars(layers: &[LayerView], size: &dyn Fn(i64) -> String) -> Vec<Bar> {
    const CLASSES: [&str; 4] = ["b1", "b2", "b3", "b4"];
    let total = layers.iter().fold(0u128, |sum, layer| sum + u128::from(layer.size.unsigned_abs()));
    if total == 0 {
        return Vec::new();
    }
    let at = |bytes: u128| u32::try_from(bytes * 1000 / total).unwrap_or(1000);
    let (mut bars, mut before, mut thin): (Vec<Bar>, u128, Option<(u128, usize)>) = (Vec::new(), 0, None);
    let small = |bars: &mut Vec<Bar>, from: u128, to: u128, count: usize| {
        let width = at(to).saturating_sub(at(from));
        if width > 0 {
            let bytes = i64::try_from(to - from).unwrap_or(i64::MAX);
            let what = if count == 1 { "1 small layer".to_owned() } else { format!("{count} small layers") };
            bars.push(Bar { x: at(from), width, class: "b5", title: format!("{what}: {}", size(bytes)) });
        }
    };
    for (number, layer) in layers.iter().enumerate() {
        let after = before + u128::from(layer.size.unsigned_abs());
        let width = at(after).saturating_sub(at(before));
        if width < THIN {
            let (from, count) = thin.unwrap_or((before, 0));
            thin = Some((from, count + 1));
        } else {
            if let Some((from, count)) = thin.take() {
                small(&mut bars, from, before, count);
            }
            let class = CLASSES.get(bars.len() % CLASSES.len()).copied().unwrap_or("b1");
            bars.push(Bar {
                x: at(before),
                width,
                class,
                title: format!("Layer {}: {}", number + 1, size(layer.size)),
            });
        }
        before = after;
    }
    if let Some((from, count)) = thin {
        small(&mut bars, from, before, count);
    }
    bars
}

/// What to paste to have it, as fits what it is.
fn commands(
    tools: &Tools,
    view: &ManifestView,
    reference: &str,
    signed: CheckedBy,
    says: Option<&ContentsView>,
) -> Vec<Command> {
    let (name, digest) = (format!("{}/{}", tools.host, view.repository), view.digest.as_str());
    let asked = reference.parse::<Reference>().ok();
    let tag = match &asked {
        Some(Reference::Tag(tag)) => Some(tag.as_str()),
        _ => view.tags.first().map(String::as_str),
    };
    let (more, cosign) = (tools.file_more(), tools.cosign_more());
    let mut commands = Vec::new();
    let mut add = |what, text: String| commands.push(Command { what, text });
    let exact = format!("{name}@{digest}");
    match view.description.kind {
        Kind::Image | Kind::Index => {
            if let Some(tag) = tag {
                add("Pull what the tag points at", format!("docker pull {name}:{tag}"));
            }
            add("Pull exactly this", format!("docker pull {exact}"));
        }
        Kind::HelmChart => {
            let tags = tag.into_iter().chain(view.tags.iter().map(String::as_str));
            let tag = tags.into_iter().find(|tag| helm::version(tag).is_some());
            add("Pull the chart", helm::command("pull", tools, &name, tag, digest));
            let words = format!("install {}", helm::release(&view.repository));
            add("Install it", helm::command(&words, tools, &name, tag, digest));
        }
        Kind::Signature | Kind::Attestation => {
            add("See the manifest", format!("oras manifest fetch --pretty{more} {exact}"));
            if let Some(subject) = &view.subject {
                let signature = view.description.kind == Kind::Signature;
                let verb = if signature { "verify".to_owned() } else { attestation_verb(view) };
                let keyless = keyless(view, says);
                let what = if keyless { "Check it, by whom you expect to have signed" } else { "Check it" };
                add(what, format!("cosign {verb} {}{cosign} {name}@{subject}", trusted(keyless)));
            }
        }
        Kind::Wasm | Kind::Sbom | Kind::Artifact => {
            if let Some(tag) = tag {
                add("Pull what the tag points at", format!("oras pull{more} {name}:{tag}"));
            }
            add("Pull exactly this", format!("oras pull{more} {exact}"));
        }
    }
    if signed.key {
        add("Check its signature", format!("cosign verify {}{cosign} {exact}", trusted(false)));
    }
    if signed.certificate {
        let what = "Check its signature, by whom you expect to have signed";
        add(what, format!("cosign verify {}{cosign} {exact}", trusted(true)));
    }
    commands
}

/// Whether a signature comes with a certificate: the manifest says so, or what was read of its layers.
fn keyless(view: &ManifestView, says: Option<&ContentsView>) -> bool {
    let beside = || view.manifest.as_ref()?.get("layers")?.get(0)?.get("annotations")?.get(contents::CERTIFICATE);
    let mut said = says.iter().flat_map(|says| &says.items).filter_map(|content| content.signature.as_ref());
    said.any(|signature| signature.keyless) || beside().is_some()
}

/// What cosign checks a signature by: a key, or whom the reader expects to have signed. Whom it names itself is never put in:
/// anybody can have signed as themselves.
fn trusted(keyless: bool) -> &'static str {
    if keyless { "--certificate-identity=EXPECTED --certificate-oidc-issuer=ISSUER" } else { "--key cosign.pub" }
}

/// What of cosign checks an attestation.
fn attestation_verb(view: &ManifestView) -> String {
    predicate(view).map_or_else(|| "verify-attestation".to_owned(), |kind| format!("verify-attestation --type {kind}"))
}

/// What an attestation states, by its type, which cosign asks for; `None` where it does not say, or not so that it can stand in a
/// command that people paste.
fn predicate(view: &ManifestView) -> Option<&str> {
    let layer = || view.manifest.as_ref()?.get("layers")?.get(0)?.get("annotations")?.get("predicateType")?.as_str();
    let stated = view.annotations.get("dev.sigstore.bundle.predicateType").map(String::as_str).or_else(layer)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_' | '/' | ':');
    (stated.starts_with("https://") && stated.len() <= 200 && stated.chars().all(plain)).then_some(stated)
}

/// A manifest.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, below)): Path<(String, String)>,
    Query(query): Query<ShowQuery>,
) -> Result<Response> {
    let place = Place::of(&org, &below);
    let asked = || ManifestQuery { repository: place.name.clone(), reference: query.reference.clone() };
    let found = api::get_manifest(viewer.actor(), Shared(state.clone()), Path(org.clone()), Query(asked())).await;
    let Json(view) = match found {
        Ok(found) => found,
        Err(Error::NotFound("manifest") | Error::Invalid { field: "reference", .. }) => {
            return unknown(&viewer, &state, place, query.reference).await;
        }
        Err(error) => return Err(error),
    };
    // By digest: a tag may move between the two.
    let exactly = ManifestQuery { repository: place.name.clone(), reference: view.digest.clone() };
    let attached =
        referrers::list_referrers(viewer.actor(), Shared(state.clone()), Path(org.clone()), Query(exactly)).await?;
    let Json(attached) = attached;
    let direct = attached.items.iter().filter(|item| item.depth == 1);
    let signed = direct.fold(CheckedBy::default(), |by, item| by.or(item.checked_by));
    let wish = Wish { permission: Permission::RegistryDelete, tag: None };
    let may_delete = repository(&viewer.actor, &state, place.slug(), &place.name, &wish).await.is_ok();
    let tools = Tools::of(&state, &viewer.actor.principal().name);
    let speaks = view.description.kind.speaks();
    let tab = match query.view.as_deref() {
        None | Some("says") if speaks => Tab::Says,
        Some("config") => Tab::Config,
        Some("history") => Tab::History,
        Some("attached") => Tab::Attached,
        Some("raw") => Tab::Raw,
        _ => Tab::Content,
    };
    let search = super::document::clip(query.search.unwrap_or_default().trim(), 90);
    let says = match tab {
        Tab::Says => {
            let (repository, reference) = (place.name.clone(), view.digest.clone());
            let query = ContentsQuery { repository, reference, search: Some(search.clone()) };
            let Json(mut says) = contents::get_contents(viewer.actor(), Shared(state), Path(org), Query(query)).await?;
            // Several layers share the room of one page.
            let mut room = MOST_LINES;
            for sbom in says.items.iter_mut().filter_map(|content| content.sbom.as_mut()) {
                sbom.packages.truncate(room);
                room -= sbom.packages.len();
            }
            Some(says)
        }
        _ => None,
    };
    let commands = commands(&tools, &view, &query.reference, signed, says.as_ref());
    let (reference, start) = (query.reference, query.start.unwrap_or_default());
    let frame = viewer.frame(Section::Repositories);
    console::page(&ShowPage {
        frame,
        place,
        view,
        reference,
        tab,
        start,
        commands,
        attached,
        says,
        search,
        tools,
        may_delete,
    })
}

/// What a reference that stands for nothing is answered with.
#[derive(Template)]
#[template(path = "manifests/unknown.html")]
struct UnknownPage {
    frame: Frame,
    place: Place,
    reference: String,
    by_digest: bool,
    tags: Vec<String>,
}

async fn unknown(viewer: &Viewer, state: &State, place: Place, reference: String) -> Result<Response> {
    let tags = tag_names(viewer, state, &place).await?;
    let reference = super::document::clip(&reference, 150);
    let by_digest = reference.contains(':');
    let frame = viewer.frame(Section::Repositories);
    console::page_as(StatusCode::NOT_FOUND, &UnknownPage { frame, place, reference, by_digest, tags })
}

/// Tags of a repository to choose from, without those that only attach something.
async fn tag_names(viewer: &Viewer, state: &State, place: &Place) -> Result<Vec<String>> {
    let (name, _): (RepoName, _) = repository(&viewer.actor, state, place.slug(), &place.name, &Wish::PULL).await?;
    let rows = tags::list(&mut state.db().read().await?, &name, "", MOST_TAGS).await?;
    let is_scheme = |tag: &str| tag.len() >= 71 && (tag.starts_with("sha256-") || tag.starts_with("sha512-"));
    Ok(rows.into_iter().map(|row| row.name).filter(|tag| !is_scheme(tag)).collect())
}

/// The part of a comparison's address behind `?`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct CompareForm {
    from: String,
    to: String,
    platform: Option<String>,
}

/// `/orgs/{org}/compare/{*name}`
#[derive(Template)]
#[template(path = "manifests/compare.html")]
struct ComparePage {
    frame: Frame,
    place: Place,
    given: CompareForm,
    tags: Vec<String>,
    problem: Option<FormProblem>,
    result: Option<CompareView>,
    /// Most lines of each list.
    lines: usize,
}

impl ComparePage {
    fn options(&self) -> &[String] {
        self.result.as_ref().map_or(&[], |result| &result.platforms)
    }

    fn chosen(&self, platform: &str) -> bool {
        self.result.as_ref().and_then(|result| result.platform.as_deref()) == Some(platform)
    }

    fn swapped(&self) -> String {
        self.place.compare(&self.given.to, &self.given.from, self.given.platform.as_deref())
    }

    fn more(&self, result: &CompareView) -> String {
        let (from, to) = (result.from.description.total_size, result.to.description.total_size);
        match to.saturating_sub(from) {
            0 => "as large as before".to_owned(),
            more if more > 0 => format!("{} larger", self.frame.size(more)),
            less => format!("{} smaller", self.frame.size(less.saturating_neg())),
        }
    }
}

impl CompareView {
    fn sides(&self) -> [(&'static str, &SideView); 2] {
        [("From", &self.from), ("To", &self.to)]
    }

    /// Lists of differences: each with its title and what is said where it is empty.
    fn differences(&self) -> [(&'static str, &'static str, &[DifferenceView]); 2] {
        [
            ("Configuration", "Both are configured alike.", &self.config),
            ("Annotations", "Their annotations are the same.", &self.annotations),
        ]
    }
}

/// What a field of a config is called.
fn field(name: &str) -> &'static str {
    match name {
        "platform" => "Platform",
        "entrypoint" => "Entrypoint",
        "cmd" => "Command",
        "user" => "User",
        "working_dir" => "Working directory",
        "stop_signal" => "Stop signal",
        "healthcheck" => "Health check",
        "chart" => "Chart",
        "version" => "Version",
        "app_version" => "Version of the application",
        "description" => "Description",
        "env" => "Variable",
        "port" => "Port",
        "volume" => "Volume",
        "label" => "Label",
        "dependency" => "Dependency",
        _ => "Annotation",
    }
}

impl Change {
    /// What a badge looks like that says it, and its word.
    fn badge(self) -> (&'static str, &'static str) {
        match self {
            Self::Same => ("", "Same"),
            Self::Added => ("good", "Added"),
            Self::Removed => ("bad", "Removed"),
            Self::Changed => ("warn", "Changed"),
        }
    }

    /// The class of a line that became so.
    fn line(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Same | Self::Changed => "",
        }
    }
}

/// Two manifests side by side, and the form that chooses them.
pub(crate) async fn compare(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, below)): Path<(String, String)>,
    Query(given): Query<CompareForm>,
) -> Result<Response> {
    let place = Place::of(&org, &below);
    let tags = tag_names(&viewer, &state, &place).await?;
    let frame = viewer.frame(Section::Repositories);
    let mut page =
        ComparePage { frame, place, given: given.clone(), tags, problem: None, result: None, lines: MOST_LINES };
    if given.from.is_empty() || given.to.is_empty() {
        return console::page(&page);
    }
    let CompareForm { from, to, platform } = given;
    let query = CompareQuery { repository: page.place.name.clone(), from, to, platform };
    match compare::compare_manifests(viewer.actor(), Shared(state), Path(org), Query(query)).await {
        Ok(Json(result)) => {
            page.result = Some(result);
            loop {
                match console::page_of(i64::try_from(page.lines).unwrap_or(i64::MAX), &page)? {
                    ControlFlow::Break(answer) => return Ok(answer),
                    ControlFlow::Continue(fewer) => page.lines = usize::try_from(fewer).unwrap_or_default(),
                }
            }
        }
        Err(Error::NotFound("manifest")) => {
            let message = "One of the two is not in this repository: a tag may have been deleted.".to_owned();
            page.problem = Some(FormProblem { field: "", message });
            console::page_as(StatusCode::NOT_FOUND, &page)
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            page.problem = Some(problem);
            console::page_as(status, &page)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use super::*;
    use crate::testing::{ADMIN, Controller};

    #[test]
    fn layers_are_as_wide_as_they_are_large() {
        let layer =
            |size| LayerView { digest: String::new(), size, media_type: String::new(), title: None, command: None };
        let drawn = bars(&[layer(500), layer(1), layer(1), layer(498)], &|size| size.to_string());
        let told: Vec<_> = drawn.iter().map(|bar| (bar.x, bar.width, bar.title.as_str())).collect();
        assert_eq!(told, [(0, 500, "Layer 1: 500"), (500, 2, "2 small layers: 2"), (502, 498, "Layer 4: 498")]);
        assert_eq!(bars(&[layer(0)], &|size| size.to_string()), []);
        assert!(bars(&vec![layer(i64::MAX); 500], &|size| size.to_string()).len() <= 500);
    }

    #[tokio::test]
    async fn what_an_sbom_says_is_shown_escaped_and_searched() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let sbom = json!({"spdxVersion": "SPDX-2.3", "creationInfo": {"creators": ["Tool: syft-1.9"]},
            "packages": [{"name": "<b>zlib", "versionInfo": "1.3"}, {"name": "curl"}]});
        let layer = controller.push_blob("main/app", sbom.to_string().as_bytes()).await;
        let manifest = json!({"schemaVersion": 2, "artifactType": "application/spdx+json",
            "layers": [{"mediaType": "application/spdx+json", "digest": layer, "size": 9}]});
        let digest = controller.push_manifest("main/app", None, &manifest, &[&layer]).await;
        let path = format!("/orgs/main/manifests/app?reference={digest}");
        let page = controller.page(&admin, &path).await.expect(200).raw;
        for shown in ["syft-1.9", "&#60;b&#62;zlib", "curl", "not checked here", "2 packages"] {
            assert!(page.contains(shown), "{shown}");
        }
        let found = controller.page(&admin, &format!("{path}&view=says&search=zlib")).await.expect(200).raw;
        assert!(found.contains("zlib") && !found.contains("<th scope=\"row\">curl"));
        let none = controller.page(&admin, &format!("{path}&view=says&search=none")).await.expect(200).raw;
        assert!(none.contains("No package is like that"));
        controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let image = controller.page(&admin, "/orgs/main/manifests/app?reference=v1&view=says").await.expect(200).raw;
        assert!(!image.contains("not checked here"));
    }

    #[tokio::test]
    async fn a_signature_says_what_it_signs_and_how_to_check_it() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let image = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let payload =
            json!({"critical": {"identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": image}}});
        let layer = controller.push_blob("main/app", payload.to_string().as_bytes()).await;
        let manifest = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": layer, "size": 9}]});
        let tag = format!("{}.sig", image.replace(':', "-"));
        controller.push_manifest("main/app", Some(&tag), &manifest, &[&layer]).await;
        let page = controller.page(&admin, &format!("/orgs/main/manifests/app?reference={tag}")).await.expect(200).raw;
        assert!(page.contains("not checked here") && page.contains("a key") && !page.contains("verified"), "{page}");
        assert!(page.contains("cosign verify --key cosign.pub") && page.contains(&format!("@{image}")));
        let tree = controller.page(&admin, "/orgs/main/manifests/app?reference=v1&view=attached").await.expect(200).raw;
        assert!(tree.contains("says it is signed with a key") && tree.contains("not checked here"));
    }

    #[tokio::test]
    async fn a_signature_without_a_key_is_checked_by_whom_one_expects_and_not_by_whom_it_names() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let image = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let payload =
            json!({"critical": {"identity": {"docker-reference": ""}, "image": {"docker-manifest-digest": image}}});
        let layer = controller.push_blob("main/app", payload.to_string().as_bytes()).await;
        let certificate = include_str!("contents/keyless.pem");
        let manifest = json!({"schemaVersion": 2, "artifactType": "application/vnd.dev.cosign.artifact.sig.v1+json",
            "subject": {"digest": image, "mediaType": "application/vnd.oci.image.manifest.v1+json", "size": 9},
            "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": layer, "size": 9,
                "annotations": {"dev.sigstore.cosign/certificate": certificate}}]});
        let digest = controller.push_manifest("main/app", None, &manifest, &[&layer]).await;
        for view in ["says", "raw"] {
            let path = format!("/orgs/main/manifests/app?reference={digest}&view={view}");
            let page = controller.page(&admin, &path).await.expect(200).raw;
            assert!(page.contains("cosign verify --certificate-identity=EXPECTED --certificate-oidc-issuer=ISSUER"));
            assert!(!page.contains("--key cosign.pub") && !page.contains("identity=ann"), "{page}");
            assert!(page.contains("it is found by what it is about"));
        }
    }

    #[tokio::test]
    async fn an_image_says_how_each_kind_of_its_signatures_is_checked() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let (by_key, by_certificate) =
            ("cosign verify --key cosign.pub", "cosign verify --certificate-identity=EXPECTED");
        let signing =
            json!({"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": "x", "size": 9});
        let mut keyless = signing.clone();
        keyless["annotations"] = json!({"dev.sigstore.cosign/certificate": include_str!("contents/keyless.pem")});
        for (name, layers, shown) in [
            ("none", vec![], [false, false]),
            ("key", vec![&signing], [true, false]),
            ("keyless", vec![&keyless], [false, true]),
            ("both", vec![&signing, &keyless], [true, true]),
        ] {
            let repository = format!("main/{name}");
            let image = controller.push_image(&repository, "v1", &json!({}), &[name.as_bytes()]).await;
            if !layers.is_empty() {
                let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json"});
                let signature = json!({"schemaVersion": 2, "config": config, "layers": layers});
                let tag = format!("{}.sig", image.replace(':', "-"));
                controller.push_manifest(&repository, Some(&tag), &signature, &[]).await;
            }
            let path = format!("/orgs/main/manifests/{name}?reference=v1");
            let page = controller.page(&admin, &path).await.expect(200).raw;
            assert_eq!([page.contains(by_key), page.contains(by_certificate)], shown, "{name}: {page}");
            assert!(!page.contains("identity=ann"), "anybody can have signed as themselves");
        }
    }

    #[test]
    fn of_what_is_large_only_the_beginning_is_written() {
        let deep = format!("{{\"x\":[{}]}}", vec!["[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]"; 40_000].join(","));
        let deep: serde_json::Map<_, _> = serde_json::from_str(&deep).unwrap();
        let raw = Raw::of(Some(&deep));
        assert!(raw.cut && raw.text.starts_with("{\n  \"x\"") && raw.text.len() < 2 * MOST_RAW);
        let mut beginning = Beginning(Vec::new());
        assert!(serde_json::to_writer_pretty(&mut beginning, &deep).is_err() && beginning.0.capacity() < 4 * MOST_RAW);
        let small: serde_json::Map<_, _> = serde_json::from_str("{\"a\": \"é\"}").unwrap();
        let raw = Raw::of(Some(&small));
        assert_eq!((raw.text.as_str(), raw.cut), ("{\n  \"a\": \"é\"\n}", false));
        assert_eq!(Raw::of(None).text, "");
    }

    #[tokio::test]
    async fn a_comparison_of_much_that_is_long_is_one_small_page() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = |side: &str| {
            let many = || (0..400).map(|n| (format!("{side}{n}{}", "'".repeat(300)), json!("'".repeat(300))));
            let env: Vec<String> = many().map(|(name, value)| format!("{name}={value}")).collect();
            let history: Vec<Value> = many().map(|(name, _)| json!({"created_by": name})).collect();
            json!({"os": "linux", "architecture": "amd64", "history": history,
                "config": {"Env": env, "Labels": many().collect::<serde_json::Map<_, _>>()}})
        };
        controller.push_image("main/app", "v1", &config("a"), &[b"x"]).await;
        controller.push_image("main/app", "v2", &config("b"), &[b"y"]).await;
        let page = controller.page(&admin, "/orgs/main/compare/app?from=v1&to=v2").await.expect(200).raw;
        assert!(page.len() < 100 << 10 && page.contains("more are not shown"), "{} bytes", page.len());
        assert!(page.matches("<del>").count() > 5, "and yet not empty");
    }

    #[tokio::test]
    async fn what_several_large_sboms_say_is_one_small_page() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let text = "'".repeat(500);
        let package = json!({"name": text, "versionInfo": text, "licenseDeclared": text});
        let subject = json!({"name": text, "digest": {"sha256": text}});
        let statement = json!({"predicateType": "https://slsa.dev/provenance/v1", "subject": vec![subject; 30],
            "predicate": {"materials": vec![json!({"uri": text}); 30], "spdxVersion": "SPDX-2.3", "packages": vec![package; 300]}});
        let layer = controller.push_blob("main/app", statement.to_string().as_bytes()).await;
        let layers = vec![json!({"mediaType": "application/vnd.in-toto+json", "digest": layer, "size": 9}); 6];
        let manifest = json!({"schemaVersion": 2, "layers": layers});
        controller.push_manifest("main/app", Some("all"), &manifest, &[&layer]).await;
        let page = controller.page(&admin, "/orgs/main/manifests/app?reference=all&view=says").await.expect(200).raw;
        assert!(page.len() < 100 << 10, "{} bytes", page.len());
        assert!(page.contains("the first 100 of 300") && page.contains("2 more layers are not shown"));
    }

    #[tokio::test]
    async fn a_component_of_webassembly_is_shown() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = json!({"os": "wasip2", "architecture": "wasm", "component": {"exports": ["wasi:cli/run@0.2.0"]}});
        let config = controller.push_blob("main/app", config.to_string().as_bytes()).await;
        let manifest = json!({"schemaVersion": 2, "layers": [],
            "config": {"mediaType": "application/vnd.wasm.config.v0+json", "digest": config, "size": 9}});
        controller.push_manifest("main/app", Some("w"), &manifest, &[&config]).await;
        let page = controller.page(&admin, "/orgs/main/manifests/app?reference=w&view=config").await.expect(200).raw;
        assert!(page.contains("wasip2/wasm") && page.contains("wasi:cli/run@0.2.0"));
    }

    #[tokio::test]
    async fn an_image_is_shown_with_its_layers_config_history_and_bytes() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Env": ["GREETING=ahoy"], "Entrypoint": ["/bin/app"]},
            "history": [{"created_by": "ADD rootfs"}, {"created_by": "RUN make # buildkit"}]});
        let digest = controller.push_image("main/app", "v1", &config, &[b"base", b"layer"]).await;
        let path = "/orgs/main/manifests/app?reference=v1";
        let page = controller.page(&admin, path).await.expect(200).raw;
        for shown in [
            "linux/amd64",
            "docker pull localhost:6000/main/app:v1",
            &digest,
            "RUN make<",
            "<svg class=\"chart strip\"",
        ] {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        assert!(page.contains(&format!("/orgs/main/deletion/app?digest={}", encode(&digest))), "{page}");
        let ask = controller.page(&admin, &format!("/orgs/main/deletion/app?digest={}", encode(&digest))).await;
        ask.expect(200);
        let reader = controller.member("r@example.com", Some(("PROJECT_READ_ONLY", Some("defaultproject")))).await;
        let seen = controller.page(&reader, path).await.expect(200).raw;
        assert!(!seen.contains("/deletion/"), "{seen}");
        let page = controller.page(&admin, &format!("{path}&view=config")).await.expect(200).raw;
        assert!(page.contains("ahoy") && page.contains("/bin/app"));
        let page = controller.page(&admin, &format!("{path}&view=history")).await.expect(200).raw;
        assert!(page.contains("ADD rootfs"));
        let page = controller.page(&admin, &format!("{path}&view=raw")).await.expect(200).raw;
        assert!(page.contains("&#34;schemaVersion&#34;: 2") && page.contains("/manifest/raw?"));
        let by_digest = format!("/orgs/main/manifests/app?reference={digest}&view=attached");
        assert!(controller.page(&admin, &by_digest).await.expect(200).raw.contains("cosign sign"));
    }

    #[tokio::test]
    async fn what_is_not_there_helps_and_what_may_not_be_seen_is_not_there() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.push("main/app").await;
        for reference in ["v9", "sha256:zz", "", "%3Cb%3E", &format!("sha256:{}", "0".repeat(64))] {
            let page =
                controller.page(&admin, &format!("/orgs/main/manifests/app?reference={reference}")).await.expect(404);
            assert!(page.raw.contains("reference=v1\">v1</a>") && !page.raw.contains("<b>"), "{}", page.raw);
        }
        controller.page(&admin, "/orgs/main/manifests/none?reference=v1").await.expect(404);
        let other = controller.other_org().await;
        for path in
            ["/orgs/main/manifests/app?reference=v1", "/orgs/main/compare/app?from=v1&to=v1", "/orgs/main/compare/app"]
        {
            controller.page(&other, path).await.expect(404);
        }
        let auditor = controller.member("a@example.com", Some(("AUDITOR", None))).await;
        let page = controller.page(&auditor, "/orgs/main/manifests/app?reference=v1").await;
        assert!([403, 404].contains(&page.status.as_u16()));
    }

    fn hostile() -> Value {
        let (long, mark) = ("<script>alert(1)</script>".repeat(4_000), "<img src=x onerror=alert(1)>");
        json!({"os": mark, "architecture": mark, "created": mark, "author": long, "history": vec![json!({"created_by": long, "comment": mark}); 700],
            "config": {"Env": vec![long.clone(); 400], "Cmd": [mark, 7, null], "Entrypoint": mark, "User": mark, "Labels": {mark: long, "n": 7, "d": [[[[]]]]},
                "ExposedPorts": {mark: {}}, "Volumes": 7}})
    }

    #[tokio::test]
    async fn hostile_configs_and_annotations_are_text_and_no_failure() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = hostile().to_string();
        let blob = controller.push_blob("main/app", config.as_bytes()).await;
        let mark = "<img src=x onerror=alert(1)>";
        let layer = json!({"mediaType": mark, "digest": mark, "size": -5, "annotations": {"org.opencontainers.image.title": mark}});
        let image = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob, "size": 1e300}, "layers": vec![layer; 600],
            "annotations": {mark: mark.repeat(900), "n": 7}});
        controller.push_manifest("main/app", Some("image"), &image, &[&blob]).await;
        let mut chart = image.clone();
        chart["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
        controller.push_manifest("main/app", Some("chart"), &chart, &[&blob]).await;
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "artifactType": mark, "manifests": vec![
            json!({"mediaType": mark, "digest": mark, "size": "x", "platform": {"os": mark, "architecture": mark, "variant": 7}}); 150]});
        controller.push_manifest("main/app", Some("index"), &index, &[]).await;
        let deep = format!("{{\"schemaVersion\":2,\"a\":{}{}}}", "[".repeat(5_000), "]".repeat(5_000));
        controller.push_bytes("main/app", Some("deep"), "application/x-deep", deep.as_bytes(), None, &[]).await;
        for reference in ["image", "chart", "index", "deep"] {
            for view in ["content", "config", "history", "attached", "raw", "x"] {
                let path = format!("/orgs/main/manifests/app?reference={reference}&view={view}");
                let page = controller.page(&admin, &path).await.expect(200).raw;
                assert!(!page.contains("<img") && !page.contains("<script>"), "{path}");
                assert!(page.len() < 400 << 10, "{path}: {}", page.len());
                controller.page(&admin, &format!("{path}&start=18446744073709551615")).await.expect(200);
            }
            for to in ["image", "chart", "index", "deep"] {
                let page = controller.page(&admin, &format!("/orgs/main/compare/app?from={reference}&to={to}")).await;
                assert!(page.status.as_u16() < 500 && !page.raw.contains("<img"), "{reference} {to}: {}", page.status);
                assert!(page.raw.len() < 1 << 20, "{}", page.raw.len());
            }
        }
    }

    #[tokio::test]
    async fn text_that_grows_when_it_is_drawn_makes_no_large_page() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let pairs = |count: usize| {
            let pair = |at: usize| (format!("{}{at}", "&".repeat(250)), json!("'".repeat(500)));
            Value::Object((0..count).map(pair).collect())
        };
        let env: Vec<String> = (0..120).map(|at| format!("{}{at}={}", "&".repeat(250), "'".repeat(500))).collect();
        let step = json!({"created_by": "'".repeat(900), "comment": "'".repeat(900), "empty_layer": true});
        let config = json!({"os": "linux", "architecture": "amd64", "config": {"Env": env, "Labels": pairs(120)}, "history": vec![step; 100]});
        let blob = controller.push_blob("main/app", config.to_string().as_bytes()).await;
        let layer =
            json!({"mediaType": "'".repeat(255), "annotations": {"org.opencontainers.image.title": "'".repeat(255)}});
        let image = json!({"schemaVersion": 2, "annotations": pairs(120), "layers": vec![layer; 60],
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": blob}});
        controller.push_manifest("main/app", Some("v1"), &image, &[&blob]).await;
        for view in ["content", "config", "history", "attached", "raw"] {
            let page = controller.page(&admin, &format!("/orgs/main/manifests/app?reference=v1&view={view}")).await;
            let page = page.expect(200).raw;
            assert!(page.len() < 100 << 10, "{view}: {}", page.len());
        }
    }

    #[tokio::test]
    async fn what_is_attached_is_a_tree() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let image = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let about = |subject: &str, kind: &str| json!({"schemaVersion": 2, "artifactType": kind, "layers": [], "subject": {"digest": subject}});
        let sbom = controller.push_manifest("main/app", None, &about(&image, "application/spdx+json"), &[]).await;
        let signature = about(&sbom, "application/vnd.cncf.notary.signature");
        controller.push_manifest("main/app", None, &signature, &[]).await;
        controller.push_manifest("main/app", None, &about(&image, "application/vnd.cncf.notary.signature"), &[]).await;
        let page = controller.page(&admin, "/orgs/main/manifests/app?reference=v1&view=attached").await.expect(200).raw;
        for shown in ["<h2>Signatures</h2>", "<h2>SBOMs</h2>", "SBOM (SPDX)"] {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        let tree = page.split("<h2>SBOMs</h2>").nth(1).unwrap().split("</section>").next().unwrap();
        assert_eq!((tree.matches("<ul").count(), tree.matches("</ul>").count()), (2, 2), "{tree}");
        assert_eq!((tree.matches("<li").count(), tree.matches("</li>").count()), (2, 2), "{tree}");
    }

    #[tokio::test]
    async fn two_tags_are_compared() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let config = |env: &str| json!({"os": "linux", "architecture": "amd64", "config": {"Env": [env]}});
        controller.push_image("main/app", "v1", &config("A=<i>"), &[b"base", b"one"]).await;
        controller.push_image("main/app", "v2", &config("A=y"), &[b"base", b"two"]).await;
        let form = controller.page(&admin, "/orgs/main/compare/app").await.expect(200).raw;
        assert!(form.contains("<option value=\"v2\">"));
        let page = controller.page(&admin, "/orgs/main/compare/app?from=v1&to=v2").await.expect(200).raw;
        for shown in ["A", "&#60;i&#62;", "from=v2&#38;to=v1", "Changed"] {
            assert!(page.contains(shown), "{shown} in {page}");
        }
        assert!(
            controller
                .page(&admin, "/orgs/main/compare/app?from=v1&to=v9")
                .await
                .expect(404)
                .raw
                .contains("role=\"alert\"")
        );
        let wrong = controller.page(&admin, "/orgs/main/compare/app?from=v1&to=%20").await.expect(422).raw;
        assert!(wrong.contains("aria-invalid"), "{wrong}");
    }

    #[tokio::test]
    async fn charts_are_fetched_by_their_tags_and_attestations_checked_by_their_types() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let about = json!({"name": "app", "version": "9.9.9; rm -rf /"}).to_string();
        let config = controller.push_blob("main/app", about.as_bytes()).await;
        let chart = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.cncf.helm.config.v1+json", "digest": config},
            "layers": [{"mediaType": "application/vnd.cncf.helm.chart.content.v1.tar+gzip"}]});
        let digest = controller.push_manifest("main/app", Some("latest"), &chart, &[&config]).await;
        let page = async |reference: &str| {
            controller.page(&admin, &format!("/orgs/main/manifests/app?reference={reference}")).await.expect(200).raw
        };
        let tags = async || controller.page(&admin, "/orgs/main/repositories/app").await.expect(200).raw;
        // Helm takes versions for tags, and nothing else.
        let by_digest = format!("helm pull oci://localhost:6000/main/app@{digest} --ca-file wharfinger-ca.crt<");
        let shown = page("latest").await;
        assert!(shown.contains(&by_digest) && !shown.contains("rm -rf /<"), "{shown}");
        assert!(tags().await.contains(&by_digest));
        controller.push_manifest("main/app", Some("1.2.3_build.4"), &chart, &[&config]).await;
        for shown in [page("latest").await, page("1.2.3_build.4").await, tags().await] {
            let version = "helm pull oci://localhost:6000/main/app --version 1.2.3+build.4 --ca-file wharfinger-ca.crt";
            assert!(shown.contains(version), "{shown}");
        }
        let attests = |kind: &str| {
            json!({"schemaVersion": 2, "artifactType": "application/vnd.dev.sigstore.bundle.v0.3+json", "layers": [],
            "subject": {"digest": digest}, "annotations": {"dev.sigstore.bundle.predicateType": kind, "dev.sigstore.bundle.content": "dsse-envelope"}})
        };
        let slsa = controller.push_manifest("main/app", None, &attests("https://slsa.dev/provenance/v1"), &[]).await;
        let hostile = controller.push_manifest("main/app", None, &attests("https://x/;$(reboot)"), &[]).await;
        let check = format!("--key cosign.pub --registry-cacert wharfinger-ca.crt localhost:6000/main/app@{digest}<");
        let shown = page(&slsa).await;
        assert!(
            shown.contains(&format!("verify-attestation --type https://slsa.dev/provenance/v1 {check}")),
            "{shown}"
        );
        let shown = page(&hostile).await;
        assert!(shown.contains(&format!("verify-attestation {check}")), "{shown}");
    }
}

//! `/orgs/{org}/referrers`: what is attached to a manifest, and to that.
//!
//! By the field `subject`; by the index that clients keep under the referrers tag (`sha256-<hex>`) on registries without that
//! API; and by cosign's tags, `sha256-<hex>.sig`, `.att` and `.sbom`.

use std::collections::{HashMap, HashSet};

use axum::Json;
use axum::extract::State as Shared;
use serde::Serialize;
use storage::Session;
use storage::manifests::{self, Stored};
use storage::names::{Digest, Tag};
use storage::repositories::Repository;
use storage::tags;
use utoipa::ToSchema;

use super::api::{ManifestQuery, find};
use super::document::{Descriptor, Document, MAX_NAME, clip};
use super::kind::{self, Kind};
use super::{config, contents};
use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::time;

/// Referrers that are told in all.
const MAX: usize = 200;
/// How far from the manifest they may be.
const MAX_DEPTH: usize = 4;
/// Referrers whose contents are read.
const MAX_SUMMARIES: usize = 20;
/// Largest manifest that is read to say what it is.
const MAX_READ: i64 = 16 << 10;
/// Largest index under a referrers tag that is read.
const MAX_INDEX: i64 = 128 << 10;
/// Tags whose manifests are read at a time.
const TOGETHER: usize = 16;
/// What cosign puts behind the tag of what it signs.
const SUFFIXES: [&str; 4] = ["", ".sig", ".att", ".sbom"];

/// What is attached to a manifest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReferrersView {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// Digest of the manifest.
    pub(crate) digest: String,
    /// What is attached to it, each followed by what is attached to that; at most 200.
    pub(crate) items: Vec<ReferrerView>,
    /// Whether there is more.
    pub(crate) more: bool,
}

/// Something that is attached to a manifest.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct ReferrerView {
    /// Its digest.
    pub(crate) digest: String,
    /// Digest of what it is about.
    pub(crate) about: String,
    /// How far it is from the manifest that was asked for: 1 where it is about that.
    pub(crate) depth: usize,
    /// What kind of thing it is.
    pub(crate) kind: Kind,
    /// What to call it.
    #[schema(example = "Signature (cosign)")]
    pub(crate) label: String,
    /// Its artifact type, or its config's media type.
    pub(crate) artifact_type: Option<String>,
    /// Its length in bytes, with what it is made of.
    pub(crate) total_size: i64,
    /// What it says in a few words, of the first 20 that say something and are small. Nothing of it is checked.
    #[schema(example = "214 packages, listed by syft-1.9")]
    pub(crate) summary: Option<String>,
    /// What that is read from.
    #[serde(skip)]
    speech: Option<Speech>,
    /// What cosign would check it by, if it is a signature of cosign's.
    #[serde(skip)]
    pub(crate) checked_by: CheckedBy,
    /// The tag by which it is attached, where it is by one.
    pub(crate) tag: Option<String>,
    /// When it was first pushed.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) pushed_at: i64,
    /// Who pushed it first.
    pub(crate) pushed_by: String,
}

/// A layer that says something, and what is beside it.
#[derive(Debug, Clone)]
struct Speech {
    digest: Digest,
    certificate: Option<String>,
}

/// What cosign checks signatures by. Neither where there is none, both where that could not be read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CheckedBy {
    /// A key.
    pub(crate) key: bool,
    /// A certificate, and by whom one expects it to be.
    pub(crate) certificate: bool,
}

impl CheckedBy {
    /// By what a manifest says: in the older form, certificates stand beside its layers; a bundle has to be read.
    fn of(label: &str, document: Option<&Document>) -> Self {
        if !label.starts_with("Signature (cosign") {
            return Self::default();
        }
        let simple = |layer: &Descriptor<'_>| layer.media_type().starts_with(kind::SIMPLE_SIGNING);
        let mut by = Self::default();
        for layer in document.into_iter().flat_map(Document::layers).filter(simple) {
            let certificate = contents::certificate_of(layer).is_some();
            by = Self { key: by.key || !certificate, certificate: by.certificate || certificate };
        }
        if by == Self::default() { Self { key: true, certificate: true } } else { by }
    }

    /// Both together.
    pub(crate) fn or(self, other: Self) -> Self {
        Self { key: self.key || other.key, certificate: self.certificate || other.certificate }
    }
}

/// What is attached to a manifest
///
/// Signatures, attestations, SBOMs and whatever else is about it, by its `subject`, the referrers tag, or cosign's tags.
#[utoipa::path(get, path = "/orgs/{org}/referrers", tag = "repositories",
    params(("org", description = "Slug of the organization"), ManifestQuery),
    responses((status = 200, description = "What is attached", body = ReferrersView)))]
pub(crate) async fn list_referrers(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<ManifestQuery>,
) -> Result<Json<ReferrersView>> {
    let found = find(&actor, &state, &slug, &query).await?;
    let digest: Digest = found.manifest.digest.parse().map_err(Error::internal)?;
    let (items, more) = attached(&state, &found.repository, &digest).await?;
    let mut items = in_order(items, digest.as_str());
    summarize(&state, &found.repository, &mut items).await?;
    let repository = found.name.canonical().to_owned();
    Ok(Json(ReferrersView { repository, digest: found.manifest.digest, items, more }))
}

/// Everything that is attached, level by level.
async fn attached(state: &State, repository: &Repository, digest: &Digest) -> Result<(Vec<ReferrerView>, bool)> {
    let mut session = state.db().read().await?;
    let mut seen = HashSet::from([digest.as_str().to_owned()]);
    let (mut level, mut items) = (vec![digest.clone()], Vec::new());
    for depth in 1..=MAX_DEPTH {
        let mut next = Vec::new();
        for (row, about, tag) in of_level(&mut session, repository, &level, &seen).await? {
            if !seen.insert(row.digest.clone()) {
                continue;
            }
            if items.len() == MAX {
                return Ok((items, true));
            }
            next.extend(row.digest.parse::<Digest>().ok());
            items.push(view(row, about, tag, depth));
        }
        if next.is_empty() {
            return Ok((items, false));
        }
        level = next;
    }
    let deeper = storage::referrers::of(&mut session, &repository.id, level.iter(), 0, 1).await?;
    Ok((items, !deeper.is_empty()))
}

/// Adds to the first of them what they say, where that is small enough to be remembered.
async fn summarize(state: &State, repository: &Repository, items: &mut [ReferrerView]) -> Result<()> {
    let speaking: Vec<&mut ReferrerView> =
        items.iter_mut().filter(|item| item.speech.is_some()).take(MAX_SUMMARIES).collect();
    let digests: Vec<Digest> = speaking.iter().filter_map(|item| Some(item.speech.as_ref()?.digest.clone())).collect();
    let loaded = config::load(state, repository, &digests, config::SMALL).await?;
    for item in speaking {
        let Some(speech) = &item.speech else { continue };
        let Some(bytes) = loaded.get(speech.digest.as_str()) else { continue };
        let Some(told) = contents::read(bytes, speech.certificate.as_deref(), false, "") else { continue };
        item.summary = told.line();
        if let (CheckedBy { key: true, certificate: true }, Some(signature)) = (item.checked_by, &told.signature) {
            item.checked_by = CheckedBy { key: !signature.keyless, certificate: signature.keyless };
        }
    }
    Ok(())
}

/// What is about one of these manifests, with that one's digest, and the tag that says so: of what is named in many indexes each
/// once, and nothing that was seen before by its tag, so that it takes no more memory than is told.
async fn of_level(
    session: &mut Session,
    repository: &Repository,
    level: &[Digest],
    seen: &HashSet<String>,
) -> Result<Vec<(Stored, String, Option<String>)>> {
    let most = i64::try_from(MAX + 1).unwrap_or(i64::MAX);
    let rows = storage::referrers::of(session, &repository.id, level.iter(), MAX_READ, most).await?;
    let by_subject = rows.into_iter().filter_map(|row| {
        let about = row.subject.clone()?;
        Some((row, about, None))
    });
    let mut found: Vec<_> = by_subject.collect();
    let mut listed: HashSet<String> = found.iter().map(|(row, ..)| row.digest.clone()).collect();
    let wanted: HashMap<Tag, &Digest> = level.iter().flat_map(scheme_tags).collect();
    let there = tags::named(session, &repository.id, wanted.keys()).await?;
    for some in there.chunks(TOGETHER) {
        let targets: Vec<Digest> = some.iter().filter_map(|row| row.digest.parse().ok()).collect();
        let tagged = by_digest(manifests::stored(session, &repository.id, targets.iter(), MAX_INDEX).await?);
        for row in some {
            let Ok(tag) = row.name.parse::<Tag>() else { continue };
            let (Some(about), Some(manifest)) = (wanted.get(&tag), tagged.get(&row.digest)) else { continue };
            if tag.as_str() == about.referrers_tag() {
                let index = Document::read(manifest.payload.as_deref().unwrap_or_default());
                let named = index.entries().filter_map(|entry| entry.digest()?.parse().ok());
                let fresh = |entry: &Digest| !seen.contains(entry.as_str()) && listed.insert(entry.to_string());
                let entries: Vec<Digest> = named.filter(fresh).take(MAX + 1).collect();
                let rows = manifests::stored(session, &repository.id, entries.iter(), MAX_READ).await?;
                found.extend(rows.into_iter().map(|row| (row, about.to_string(), Some(tag.as_str().to_owned()))));
            } else if !seen.contains(&row.digest) && listed.insert(row.digest.clone()) {
                found.push((manifest.clone(), about.to_string(), Some(row.name.clone())));
            }
            if found.len() > MAX {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn by_digest(rows: Vec<Stored>) -> HashMap<String, Stored> {
    rows.into_iter().map(|row| (row.digest.clone(), row)).collect()
}

/// The tags by which clients attach something to a manifest.
fn scheme_tags(digest: &Digest) -> impl Iterator<Item = (Tag, &Digest)> {
    let base = digest.referrers_tag();
    SUFFIXES.iter().filter_map(move |suffix| Some((format!("{base}{suffix}").parse().ok()?, digest)))
}

fn view(row: Stored, about: String, tag: Option<String>, depth: usize) -> ReferrerView {
    let document = row.payload.as_deref().map(Document::read);
    let artifact_type = row.artifact_type.map(|text| clip(&text, MAX_NAME));
    let (kind, label) = match &document {
        Some(document) => kind::of(document),
        None => kind::of_type(artifact_type.as_deref()),
    };
    let first = document.as_ref().filter(|_| kind.speaks()).and_then(|document| document.layers().next());
    let speech = first.and_then(|layer| {
        let certificate = contents::certificate_of(layer);
        Some(Speech { digest: layer.digest()?.parse().ok()?, certificate })
    });
    let checked_by = CheckedBy::of(&label, document.as_ref());
    let content = document.iter().flat_map(Document::blobs).map(|(_, size)| size);
    ReferrerView {
        digest: row.digest,
        about,
        depth,
        kind,
        label,
        artifact_type,
        total_size: content.fold(row.size, i64::saturating_add),
        summary: None,
        speech,
        checked_by,
        tag,
        pushed_at: row.created_at,
        pushed_by: row.pushed_by,
    }
}

/// Where a kind stands among the others.
pub(crate) fn rank(kind: Kind) -> u8 {
    match kind {
        Kind::Signature => 0,
        Kind::Attestation => 1,
        Kind::Sbom => 2,
        _ => 3,
    }
}

/// As a tree is read: each before what is attached to it, by kind, the newest first.
fn in_order(items: Vec<ReferrerView>, root: &str) -> Vec<ReferrerView> {
    let mut by_about: HashMap<String, Vec<ReferrerView>> = HashMap::new();
    for item in items {
        by_about.entry(item.about.clone()).or_default().push(item);
    }
    for siblings in by_about.values_mut() {
        // The first is taken last.
        siblings.sort_by(|a, b| (rank(b.kind), a.pushed_at, &b.digest).cmp(&(rank(a.kind), b.pushed_at, &a.digest)));
    }
    let mut ordered = Vec::new();
    let mut open = by_about.remove(root).unwrap_or_default();
    while let Some(item) = open.pop() {
        open.extend(by_about.remove(&item.digest).unwrap_or_default());
        ordered.push(item);
    }
    ordered
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Controller};

    fn about(subject: &str, artifact_type: &str) -> Value {
        json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "artifactType": artifact_type,
            "config": {"mediaType": "application/vnd.oci.empty.v1+json"}, "layers": [],
            "subject": {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": subject, "size": 1}})
    }

    #[tokio::test]
    async fn what_is_attached_is_found_by_subject_and_by_tags_and_by_what_is_attached_to_that() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let image = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let sbom = controller.push_manifest("main/app", None, &about(&image, "application/spdx+json"), &[]).await;
        let of_sbom = about(&sbom, "application/vnd.cncf.notary.signature");
        let of_sbom = controller.push_manifest("main/app", None, &of_sbom, &[]).await;
        let sig = json!({"schemaVersion": 2, "config": {"mediaType": "application/vnd.oci.image.config.v1+json"},
            "layers": [{"mediaType": "application/vnd.dev.cosign.simplesigning.v1+json", "digest": "x", "size": 5}]});
        let tag = format!("{}.sig", image.replace(':', "-"));
        let sig = controller.push_manifest("main/app", Some(&tag), &sig, &[]).await;
        let folded = json!({"schemaVersion": 2, "artifactType": "application/sarif+json", "layers": []});
        let folded = controller.push_manifest("main/app", None, &folded, &[]).await;
        let index = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [{"digest": folded}, {"digest": format!("sha256:{}", "0".repeat(64))}, {"digest": 7}]});
        controller.push_manifest("main/app", Some(&image.replace(':', "-")), &index, &[]).await;
        // Of another repository.
        controller.push_manifest("main/other", None, &about(&image, "application/vnd.cyclonedx+json"), &[]).await;
        let read =
            controller.get(&admin, "/orgs/main/referrers?repository=main/app&reference=v1").await.expect(200).body;
        let told: Vec<(&str, &str, u64)> = read["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| {
                (item["digest"].as_str().unwrap(), item["kind"].as_str().unwrap(), item["depth"].as_u64().unwrap())
            })
            .collect();
        assert_eq!(
            told,
            [(&*sig, "signature", 1), (&*sbom, "sbom", 1), (&*of_sbom, "signature", 2), (&*folded, "artifact", 1)]
        );
        assert_eq!((&read["items"][0]["tag"], &read["more"]), (&json!(tag), &json!(false)));
        let other = controller.other_org().await;
        controller.get(&other, "/orgs/main/referrers?repository=main/app&reference=v1").await.expect(404);
    }

    #[tokio::test]
    async fn what_a_small_one_says_is_told_in_a_line() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let image = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let sbom =
            json!({"bomFormat": "CycloneDX", "specVersion": "1.5", "components": [{"name": "a"}, {"name": "b"}]});
        let layer = controller.push_blob("main/app", sbom.to_string().as_bytes()).await;
        let mut manifest = about(&image, "application/vnd.cyclonedx+json");
        manifest["layers"] = json!([{"mediaType": "application/vnd.cyclonedx+json", "digest": layer, "size": 9}]);
        controller.push_manifest("main/app", None, &manifest, &[&layer]).await;
        let path = "/orgs/main/referrers?repository=main/app&reference=v1";
        let read = controller.get(&admin, path).await.expect(200).body;
        assert_eq!(read["items"][0]["summary"], "2 packages");
        // Of a blob that the repository has no link to, nothing is told.
        let hidden = json!({"bomFormat": "CycloneDX", "components": [{"name": "secret"}]});
        let hidden = controller.push_blob("main/hidden", hidden.to_string().as_bytes()).await;
        manifest["layers"][0]["digest"] = json!(hidden);
        controller.push_manifest("main/app", None, &manifest, &[]).await;
        let read = controller.get(&admin, path).await.expect(200).body;
        assert_eq!(read["items"].as_array().unwrap().iter().filter(|item| item["summary"].is_null()).count(), 1);
    }

    #[tokio::test]
    async fn what_many_indexes_name_is_read_once() {
        let controller = Controller::start().await;
        let image = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let mut parts = Vec::new();
        for n in 0..20 {
            let part = json!({"schemaVersion": 2, "artifactType": format!("a/{n}"), "layers": []});
            parts.push(json!({"digest": controller.push_manifest("main/app", None, &part, &[]).await}));
        }
        let mut level = Vec::new();
        for n in 0..10 {
            let one = controller.push_manifest("main/app", None, &about(&image, &format!("b/{n}")), &[]).await;
            let index = json!({"schemaVersion": 2, "manifests": parts, "annotations": {"n": n.to_string()}});
            controller.push_manifest("main/app", Some(&one.replace(':', "-")), &index, &[]).await;
            level.push(one.parse().unwrap());
        }
        let mut session = controller.db.read().await.unwrap();
        let repository =
            storage::repositories::find(&mut session, &"main/app".parse().unwrap()).await.unwrap().unwrap();
        let seen = std::collections::HashSet::from([parts[0]["digest"].as_str().unwrap().to_owned()]);
        let found = super::of_level(&mut session, &repository, &level, &seen).await.unwrap();
        assert_eq!(found.len(), 19);
    }

    #[tokio::test]
    async fn many_and_deep_ones_end() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let first = controller.push_image("main/app", "v1", &json!({}), &[b"x"]).await;
        let mut last = first.clone();
        for _ in 0..7 {
            last = controller.push_manifest("main/app", None, &about(&last, "a/b"), &[]).await;
        }
        let path = "/orgs/main/referrers?repository=main/app&reference=v1";
        let read = controller.get(&admin, path).await.expect(200).body;
        assert_eq!((read["items"].as_array().unwrap().len(), &read["more"]), (4, &json!(true)));
        for n in 0..205 {
            controller.push_manifest("main/app", None, &about(&first, &format!("a/{n}")), &[]).await;
        }
        let read = controller.get(&admin, path).await.expect(200).body;
        assert_eq!((read["items"].as_array().unwrap().len(), &read["more"]), (200, &json!(true)));
    }
}

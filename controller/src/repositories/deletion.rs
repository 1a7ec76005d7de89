//! `/orgs/{org}/deletion`, and the deletion of manifests: what goes is told before, by the same rules.

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::rbac::{Permission, Resource, authorize};
use serde::{Deserialize, Serialize};
use storage::deletion::{self, Preview};
use storage::digest::digest_of;
use storage::names::{Algorithm, Digest, RepoName, Tag};
use storage::repositories::Repository;
use storage::tags;
use utoipa::{IntoParams, ToSchema};

use super::api::{Wish, every_tag, in_repository, repository};
use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{Path, Query};

/// Most tags, or digests, of one question.
pub(crate) const MOST: usize = 100;

/// The deletion of what. Of neither tag nor digest: of the repository.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeletionQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// The tag, or several with commas between them, at most 100.
    #[param(example = "v1,v2")]
    pub(crate) tag: Option<String>,
    /// The manifest's digest, or several with commas between them, at most 100.
    pub(crate) digest: Option<String>,
}

/// Which manifest.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct DigestQuery {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// The manifest's digest.
    pub(crate) digest: String,
}

/// A tag that goes.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GoingTag {
    /// The tag.
    pub(crate) name: String,
    /// Digest of the manifest that it points at.
    pub(crate) digest: String,
}

/// What a deletion would take away, and what it would leave.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeletionView {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// The first tags that go, by name, at most 100.
    pub(crate) tags: Vec<GoingTag>,
    /// How many tags go.
    pub(crate) tag_count: i64,
    /// How many manifests go.
    pub(crate) manifests: i64,
    /// How many blobs go: the organization has no other use for them.
    pub(crate) blobs: i64,
    /// Their bytes, which garbage collection takes later.
    pub(crate) bytes: i64,
    /// How many blobs of what goes stay, because others use them too.
    pub(crate) shared_blobs: i64,
    /// Their bytes.
    pub(crate) shared_bytes: i64,
    /// The first 50 tags that stay at the manifests whose tags go.
    pub(crate) tags_left: Vec<String>,
    /// Digests of the manifests that stay without a tag.
    pub(crate) untagged: Vec<String>,
    /// How many manifests stay that an index which goes lists.
    pub(crate) entries_left: i64,
    /// How many manifests stay that are attached to one that goes: signatures, attestations, SBOMs.
    pub(crate) referrers_left: i64,
    /// How many indexes stay that list a manifest which goes: pulling them for its platform fails.
    pub(crate) broken_indexes: i64,
    /// How many seconds the bytes stay before garbage collection may take them.
    pub(crate) grace_seconds: i64,
}

impl DeletionView {
    /// What tells whether the same would still go: the tags and what they point at, the manifests, and what would break. Not
    /// the bytes, which what happens in other repositories changes too.
    pub(crate) fn mark(&self) -> String {
        let mut said = format!("{} {} {}", self.tag_count, self.manifests, self.broken_indexes);
        for tag in &self.tags {
            said.push_str(&format!(" {}@{}", tag.name, tag.digest));
        }
        digest_of(Algorithm::Sha256, said.as_bytes()).hex().to_owned()
    }
}

/// Several in one field.
fn several<T: std::str::FromStr<Err: std::fmt::Display>>(field: &'static str, text: &str) -> Result<Vec<T>> {
    let mut parts: Vec<&str> = text.split(',').collect();
    parts.sort_unstable();
    parts.dedup();
    if parts.len() > MOST {
        return Err(Error::invalid(field, &format!("name {MOST} at most")));
    }
    parts.into_iter().map(|part| part.parse().map_err(|error| Error::invalid(field, &error))).collect()
}

/// What a deletion would take away
///
/// Of tags alone, of manifests with their tags, or (of neither) of the whole repository. Nothing is changed. Whoever may not
/// delete it is told so here.
#[utoipa::path(get, path = "/orgs/{org}/deletion", tag = "repositories",
    params(("org", description = "Slug of the organization"), DeletionQuery),
    responses((status = 200, description = "What would go and what would stay", body = DeletionView)))]
pub(crate) async fn get_deletion(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<DeletionQuery>,
) -> Result<Json<DeletionView>> {
    let wish = Wish { permission: Permission::RegistryDelete, tag: None };
    let preview = match (query.tag.as_deref(), query.digest.as_deref()) {
        (Some(_), Some(_)) => return Err(Error::Unacceptable("name tags or digests, not both".into())),
        (Some(text), None) => {
            let wanted: Vec<Tag> = several("tag", text)?;
            let first = wanted.first().map(Tag::as_str);
            let wish = Wish { permission: Permission::RegistryDelete, tag: first };
            let (name, found) = repository(&actor, &state, &slug, &query.repository, &wish).await?;
            for tag in &wanted {
                actor.can(Permission::RegistryDelete, &in_repository(&found, &name, Some(tag.as_str())))?;
            }
            let preview = deletion::of_tags(&mut state.db().read().await?, &found.id, &wanted).await?;
            if preview.tag_count < i64::try_from(wanted.len()).unwrap_or(i64::MAX) {
                return Err(Error::NotFound("tag"));
            }
            (name, preview)
        }
        (None, Some(text)) => {
            let wanted: Vec<Digest> = several("digest", text)?;
            let (name, found) = repository(&actor, &state, &slug, &query.repository, &wish).await?;
            for digest in &wanted {
                tags_of(&actor, &state, &name, &found, digest).await?;
            }
            let preview = deletion::of_manifests(&mut state.db().read().await?, &found.id, &wanted).await?;
            if preview.manifests < i64::try_from(wanted.len()).unwrap_or(i64::MAX) {
                return Err(Error::NotFound("manifest"));
            }
            (name, preview)
        }
        (None, None) => {
            let (name, found) = repository(&actor, &state, &slug, &query.repository, &wish).await?;
            every_tag(&actor, &state, &name, &found).await?;
            let preview = deletion::of_repository(&mut state.db().read().await?, &found).await?;
            (name, preview)
        }
    };
    Ok(Json(view(&state, &preview.0, preview.1)))
}

fn view(state: &State, name: &RepoName, preview: Preview) -> DeletionView {
    DeletionView {
        repository: name.canonical().to_owned(),
        tags: preview.tags.into_iter().map(|(name, digest)| GoingTag { name, digest }).collect(),
        tag_count: preview.tag_count,
        manifests: preview.manifests,
        blobs: preview.blobs,
        bytes: preview.bytes,
        shared_blobs: preview.shared_blobs,
        shared_bytes: preview.shared_bytes,
        tags_left: preview.tags_left,
        untagged: preview.untagged,
        entries_left: preview.entries_left,
        referrers_left: preview.referrers_left,
        broken_indexes: preview.broken_indexes,
        grace_seconds: state.settings().grace,
    }
}

/// Whether the caller may delete every tag of a manifest: they go with it.
async fn tags_of(actor: &Actor, state: &State, name: &RepoName, row: &Repository, digest: &Digest) -> Result<()> {
    let project = Resource::Project { org_id: &row.org_id, project_id: &row.project_id };
    if actor.may(Permission::RegistryDelete, &project) {
        return Ok(());
    }
    let most = identity::admin::TAGS_CHECKED;
    let tags = tags::pointing_at(&mut state.db().read().await?, &row.id, digest, most).await?;
    tags.iter().try_for_each(|tag| actor.can(Permission::RegistryDelete, &in_repository(row, name, Some(tag))))
}

/// Delete a manifest
///
/// With every tag that points at it. What it is made of goes by garbage collection, where nothing else uses it; the entries
/// of an index and what is attached to an image stay.
#[utoipa::path(delete, path = "/orgs/{org}/manifest", tag = "repositories",
    params(("org", description = "Slug of the organization"), DigestQuery),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_manifest(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<DigestQuery>,
) -> Result<StatusCode> {
    let wish = Wish { permission: Permission::RegistryDelete, tag: None };
    let (name, found) = repository(&actor, &state, &slug, &query.repository, &wish).await?;
    let digest: Digest = query.digest.parse().map_err(|error| Error::invalid("digest", &error))?;
    let project = Resource::Project { org_id: &found.org_id, project_id: &found.project_id };
    let limited = !actor.may(Permission::RegistryDelete, &project);
    let principal = actor.principal();
    let may = |tag: &str| {
        let decided = authorize(principal, Permission::RegistryDelete, &in_repository(&found, &name, Some(tag)));
        decided.into_result().map(drop).map_err(|denial| denial.named(&slug, Some(name.project())))
    };
    let may: Option<identity::admin::MayTag<'_>> = if limited { Some(&may) } else { None };
    state.identity().delete_manifest(&actor.caller, &found, &digest, state.settings().grace, may).await?;
    Ok(StatusCode::NO_CONTENT)
}

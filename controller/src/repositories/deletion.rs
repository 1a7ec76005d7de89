//! `/orgs/{org}/deletion`, and the deletions themselves: what goes is told before, by the same rules.

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::admin::{Deletion, MayTag};
use identity::rbac::{Permission, Resource, authorize};
use serde::{Deserialize, Serialize};
use storage::deletion::{self, Choice, Preview};
use storage::names::{Digest, RepoName, Tag};
use storage::repositories::Repository;
use storage::tags;
use utoipa::{IntoParams, ToSchema};

use super::api::{self, Wish, every_tag, in_repository};
use crate::State;
use crate::actor::Actor;
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};

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

/// Which tags go.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct TagsDeletion {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// The tag, or several with commas between them, at most 100: all of them go, or none.
    #[param(example = "v1,v2")]
    pub(crate) tag: String,
    /// The `mark` of the preview: nothing goes where something else would than it told.
    pub(crate) mark: Option<String>,
}

/// Which manifests go.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ManifestsDeletion {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// The manifest's digest, or several with commas between them, at most 100: all of them go, or none.
    pub(crate) digest: String,
    /// The `mark` of the preview: nothing goes where something else would than it told.
    pub(crate) mark: Option<String>,
}

/// Which repository goes.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RepositoryDeletion {
    /// Full name of the repository.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: String,
    /// The `mark` of the preview: nothing goes where something else would than it told.
    pub(crate) mark: Option<String>,
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
    /// Tells what goes: send it with the deletion, and nothing goes where something else would by then.
    pub(crate) mark: String,
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
    let (name, found, choice) = match (query.tag.as_deref(), query.digest.as_deref()) {
        (Some(_), Some(_)) => return Err(Error::Unacceptable("name tags or digests, not both".into())),
        (Some(text), None) => chosen_tags(&actor, &state, &slug, &query.repository, text).await?,
        (None, Some(text)) => {
            let (name, found, digests) = chosen_manifests(&actor, &state, &slug, &query.repository, text).await?;
            for digest in &digests {
                tags_of(&actor, &state, &name, &found, digest).await?;
            }
            (name, found, Choice::Manifests(digests))
        }
        (None, None) => {
            let (name, found) = chosen_repository(&actor, &state, &slug, &query.repository).await?;
            every_tag(&actor, &state, &name, &found).await?;
            (name, found, Choice::Everything)
        }
    };
    let preview = deletion::preview(&mut state.db().read().await?, &found, &choice).await?;
    choice.is_all_there(&preview.going)?;
    Ok(Json(view(&state, &name, preview)))
}

/// Tags that the caller may delete, there or not.
async fn chosen_tags(
    actor: &Actor,
    state: &State,
    slug: &str,
    repository: &str,
    text: &str,
) -> Result<(RepoName, Repository, Choice)> {
    let tags: Vec<Tag> = several("tag", text)?;
    let wish = Wish { permission: Permission::RegistryDelete, tag: tags.first().map(Tag::as_str) };
    let (name, found) = api::repository(actor, state, slug, repository, &wish).await?;
    for tag in &tags {
        actor.can(Permission::RegistryDelete, &in_repository(&found, &name, Some(tag.as_str())))?;
    }
    Ok((name, found, Choice::Tags(tags)))
}

/// Manifests of a repository that the caller may delete something from. Of their tags nothing is known yet.
async fn chosen_manifests(
    actor: &Actor,
    state: &State,
    slug: &str,
    repository: &str,
    text: &str,
) -> Result<(RepoName, Repository, Vec<Digest>)> {
    let digests: Vec<Digest> = several("digest", text)?;
    let (name, found) = chosen_repository(actor, state, slug, repository).await?;
    Ok((name, found, digests))
}

/// A repository that the caller may delete something from. Of its tags nothing is known yet.
async fn chosen_repository(
    actor: &Actor,
    state: &State,
    slug: &str,
    repository: &str,
) -> Result<(RepoName, Repository)> {
    let wish = Wish { permission: Permission::RegistryDelete, tag: None };
    api::repository(actor, state, slug, repository, &wish).await
}

fn view(state: &State, name: &RepoName, preview: Preview) -> DeletionView {
    DeletionView {
        repository: name.canonical().to_owned(),
        mark: preview.going.mark(),
        tags: preview.going.tags.into_iter().map(|(name, digest)| GoingTag { name, digest }).collect(),
        tag_count: preview.going.tag_count,
        manifests: preview.going.manifests,
        blobs: preview.blobs,
        bytes: preview.bytes,
        shared_blobs: preview.shared_blobs,
        shared_bytes: preview.shared_bytes,
        tags_left: preview.tags_left,
        untagged: preview.untagged,
        entries_left: preview.entries_left,
        referrers_left: preview.referrers_left,
        broken_indexes: preview.going.broken_indexes,
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

/// Delete tags
///
/// Their manifests and the manifests' other tags stay.
#[utoipa::path(delete, path = "/orgs/{org}/tags", tag = "repositories",
    params(("org", description = "Slug of the organization"), TagsDeletion),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_tags(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<TagsDeletion>,
) -> Result<StatusCode> {
    let (name, found, choice) = chosen_tags(&actor, &state, &slug, &query.repository, &query.tag).await?;
    delete(&actor, &state, (&name, &found, &choice), query.mark.as_deref()).await
}

/// Delete manifests
///
/// With every tag that points at them. What they are made of goes by garbage collection, where nothing else uses it; the
/// entries of an index and what is attached to an image stay.
#[utoipa::path(delete, path = "/orgs/{org}/manifest", tag = "repositories",
    params(("org", description = "Slug of the organization"), ManifestsDeletion),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_manifests(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<ManifestsDeletion>,
) -> Result<StatusCode> {
    let (name, found, digests) = chosen_manifests(&actor, &state, &slug, &query.repository, &query.digest).await?;
    delete(&actor, &state, (&name, &found, &Choice::Manifests(digests)), query.mark.as_deref()).await
}

/// Delete a repository
///
/// With every image in it; `confirm` is its name once more. Its bytes go by garbage collection, where no other repository of
/// the organization shares them.
#[utoipa::path(delete, path = "/orgs/{org}/repositories", tag = "repositories", request_body = extract::Confirmation,
    params(("org", description = "Slug of the organization"), RepositoryDeletion),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_repository(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(slug): Path<String>,
    Query(query): Query<RepositoryDeletion>,
    extract::Json(confirmation): extract::Json<extract::Confirmation>,
) -> Result<StatusCode> {
    let (name, found) = chosen_repository(&actor, &state, &slug, &query.repository).await?;
    // Whichever of its two spellings: the page shows the one that rows have.
    if confirmation.confirm != query.repository && confirmation.confirm != name.canonical() {
        return Err(Error::invalid("confirm", "type the repository's full name"));
    }
    delete(&actor, &state, (&name, &found, &Choice::Everything), query.mark.as_deref()).await
}

async fn delete(
    actor: &Actor,
    state: &State,
    (name, repository, choice): (&RepoName, &Repository, &Choice),
    seen: Option<&str>,
) -> Result<StatusCode> {
    let project = Resource::Project { org_id: &repository.org_id, project_id: &repository.project_id };
    // Whoever may in the whole project may of every tag.
    let limited = !actor.may(Permission::RegistryDelete, &project);
    let ask = |tag: &str| {
        let place = in_repository(repository, name, Some(tag));
        let decided = authorize(actor.principal(), Permission::RegistryDelete, &place);
        decided.into_result().map(drop).map_err(|denial| denial.named(name.org(), Some(name.project())))
    };
    let may: Option<MayTag<'_>> = if limited { Some(&ask) } else { None };
    let deletion = Deletion { repository, choice, seen, grace: state.settings().grace, may };
    state.identity().delete_content(&actor.caller, &deletion).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Manifests, stored byte for byte, with what they refer to.

use std::collections::HashSet;

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::names::{Digest, Reference, RepoName, Tag};
use crate::{blobs, execute, execute_each, query_all_each, query_opt, repositories, tags};

/// A manifest as it is served.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Manifest {
    /// The organization of its repository.
    pub org_id: String,
    /// Its digest, by the algorithm it was pushed under.
    pub digest: String,
    /// The media type it was pushed with.
    pub media_type: String,
    /// Length in bytes.
    pub size: i64,
    /// The exact bytes.
    pub payload: Vec<u8>,
}

/// A manifest to store. Whoever builds it has checked the digest against the payload.
#[derive(Debug)]
pub struct NewManifest<'a> {
    /// Digest of `payload`.
    pub digest: &'a Digest,
    /// Media type without parameters.
    pub media_type: &'a str,
    /// The exact bytes.
    pub payload: &'a [u8],
    /// Blobs that must be linked in the repository: config and layers that are stored here.
    pub blobs: Vec<Digest>,
    /// Entries of an index: manifests or blobs, which need not exist.
    pub children: Vec<Digest>,
    /// The manifest that this one is about, which need not exist.
    pub subject: Option<&'a Digest>,
    /// What the referrers API shows as `artifactType`.
    pub artifact_type: Option<&'a str>,
    /// Annotations as JSON text, for the referrers API.
    pub annotations: Option<String>,
    /// Name of who pushes.
    pub pushed_by: &'a str,
    /// Tags to set, in the same transaction.
    pub tags: &'a [Tag],
}

/// How a [`put`] ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// Stored, and every tag set.
    Stored,
    /// Nothing was stored: these blobs are not in the repository.
    MissingBlobs(Vec<Digest>),
}

/// Stores a manifest, its references and its tags as one. Its blobs' leases are renewed, which also locks them against
/// garbage collection until the commit. Storing the same bytes again is fine.
///
/// The caller commits only where the answer is [`Put::Stored`].
///
/// # Errors
/// Those of the database.
pub async fn put(
    tx: &mut Tx,
    repository: &repositories::Repository,
    new: &NewManifest<'_>,
    now: i64,
    lease_until: i64,
) -> Result<Put> {
    let present = linked(tx, &repository.id, new).await?;
    // In one order everywhere, so that no two transactions wait for each other.
    let mut all: Vec<&Digest> =
        new.blobs.iter().chain(new.children.iter().filter(|d| present.contains(d.as_str()))).collect();
    all.sort_unstable();
    all.dedup();
    let mut missing = Vec::new();
    for digest in all {
        let renewed =
            present.contains(digest.as_str()) && blobs::renew_lease(tx, &repository.id, digest, lease_until).await?;
        if !renewed && new.blobs.contains(digest) {
            missing.push(digest.clone());
        }
    }
    if !missing.is_empty() {
        return Ok(Put::MissingBlobs(missing));
    }
    insert(tx, &repository.id, new, now).await?;
    let mut tags: Vec<&Tag> = new.tags.iter().collect();
    tags.sort_unstable();
    tags.dedup();
    for tag in tags {
        tags::set(tx, &repository.id, tag, new.digest, now).await?;
    }
    repositories::touch(tx, &repository.id, now).await?;
    Ok(Put::Stored)
}

async fn insert(tx: &mut Tx, repository_id: &str, new: &NewManifest<'_>, now: i64) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO manifests (repository_id, digest, media_type, size, subject, artifact_type, annotations,
                                created_at, pushed_by, payload)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
         ON CONFLICT (repository_id, digest) DO UPDATE SET
             media_type = excluded.media_type, size = excluded.size, subject = excluded.subject,
             artifact_type = excluded.artifact_type, annotations = excluded.annotations, payload = excluded.payload",
        repository_id,
        new.digest.as_str(),
        new.media_type,
        i64::try_from(new.payload.len()).unwrap_or(i64::MAX),
        new.subject.map(Digest::as_str),
        new.artifact_type,
        new.annotations.as_deref(),
        now,
        new.pushed_by,
        new.payload,
    )?;
    execute_each!(
        tx,
        "INSERT INTO manifest_references (repository_id, manifest, target)
         SELECT $1, $2, value FROM json_each($3) WHERE TRUE ON CONFLICT DO NOTHING",
        "INSERT INTO manifest_references (repository_id, manifest, target)
         SELECT $1, $2, jsonb_array_elements_text(CAST($3 AS JSONB)) ON CONFLICT DO NOTHING",
        repository_id,
        new.digest.as_str(),
        set_of(new.blobs.iter().chain(&new.children)),
    )?;
    Ok(())
}

/// Which of the manifest's references are blobs that the repository can read.
async fn linked(session: &mut Session, repository_id: &str, new: &NewManifest<'_>) -> Result<HashSet<String>> {
    let rows: Vec<(String,)> = query_all_each!(
        session,
        (String,),
        "SELECT digest FROM blob_links WHERE repository_id = $1 AND digest IN (SELECT value FROM json_each($2))",
        "SELECT digest FROM blob_links WHERE repository_id = $1
         AND digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        repository_id,
        set_of(new.blobs.iter().chain(&new.children)),
    )?;
    Ok(rows.into_iter().map(|(digest,)| digest).collect())
}

/// Which of these digests are manifests of the repository.
///
/// # Errors
/// Those of the database.
pub async fn existing<'a>(
    session: &mut Session,
    repo: &RepoName,
    digests: impl Iterator<Item = &'a Digest>,
) -> Result<HashSet<String>> {
    let rows: Vec<(String,)> = query_all_each!(
        session,
        (String,),
        "SELECT m.digest FROM repositories r JOIN manifests m ON m.repository_id = r.id
         WHERE r.name = $1 AND m.digest IN (SELECT value FROM json_each($2))",
        "SELECT m.digest FROM repositories r JOIN manifests m ON m.repository_id = r.id
         WHERE r.name = $1 AND m.digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        repo.canonical(),
        set_of(digests),
    )?;
    Ok(rows.into_iter().map(|(digest,)| digest).collect())
}

/// A JSON array of digests, to be bound as one parameter. Digests need no escaping.
fn set_of<'a>(digests: impl Iterator<Item = &'a Digest>) -> String {
    let quoted: Vec<String> = digests.map(|digest| format!("\"{digest}\"")).collect();
    format!("[{}]", quoted.join(","))
}

/// Finds a manifest by tag or digest, in one query.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, repo: &RepoName, reference: &Reference) -> Result<Option<Manifest>> {
    match reference {
        Reference::Tag(tag) => query_opt!(
            session,
            Manifest,
            "SELECT r.org_id, m.digest, m.media_type, m.size, m.payload FROM repositories r
             JOIN tags t ON t.repository_id = r.id AND t.name = $2
             JOIN manifests m ON m.repository_id = r.id AND m.digest = t.digest
             WHERE r.name = $1",
            repo.canonical(),
            tag.as_str(),
        ),
        Reference::Digest(digest) => query_opt!(
            session,
            Manifest,
            "SELECT r.org_id, m.digest, m.media_type, m.size, m.payload FROM repositories r
             JOIN manifests m ON m.repository_id = r.id AND m.digest = $2
             WHERE r.name = $1",
            repo.canonical(),
            digest.as_str(),
        ),
    }
}

/// Takes a manifest and every tag that points at it away, and puts what it referred to up for review. Returns whether it
/// was there.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, repository_id: &str, digest: &Digest, review_after: i64) -> Result<bool> {
    execute!(
        tx,
        "INSERT INTO gc_links (repository_id, digest, review_after)
         SELECT repository_id, target, $3 FROM manifest_references WHERE repository_id = $1 AND manifest = $2
         ORDER BY target
         ON CONFLICT (repository_id, digest) DO UPDATE SET review_after = excluded.review_after",
        repository_id,
        digest.as_str(),
        review_after,
    )?;
    // Tags and references go with it: ON DELETE CASCADE.
    let gone =
        execute!(tx, "DELETE FROM manifests WHERE repository_id = $1 AND digest = $2", repository_id, digest.as_str())?;
    Ok(gone > 0)
}

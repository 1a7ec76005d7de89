//! Manifests, stored byte for byte, with what they refer to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Display;

use bytes::Bytes;

use crate::db::{Raw, Session, Tx};
use crate::error::Result;
use crate::names::{Digest, Reference, RepoName, Tag};
use crate::{blobs, execute, query_all, query_all_each, query_opt, query_opt_each, repositories};

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
    #[sqlx(try_from = "Vec<u8>")]
    pub payload: Bytes,
}

/// A manifest with the rows that it was read from.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Found {
    /// The manifest.
    #[sqlx(flatten)]
    pub(crate) manifest: Manifest,
    /// Its row, on `SQLite`.
    pub(crate) manifest_row: i64,
    /// The row of the tag that it was found by, or again its own.
    pub(crate) tag_row: i64,
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
    Stored {
        /// What each of the tags that pointed at another manifest pointed at before.
        moved: BTreeMap<String, String>,
    },
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
    let Here { sizes, moved } = look(tx, &repository.id, new, lease_until).await?;
    let mut missing: Vec<Digest> =
        new.blobs.iter().filter(|digest| !sizes.contains_key(digest.as_str())).cloned().collect();
    if !missing.is_empty() {
        missing.sort_unstable();
        missing.dedup();
        return Ok(Put::MissingBlobs(missing));
    }
    insert(tx, &repository.id, new, sizes.values().sum(), now).await?;
    Ok(Put::Stored { moved })
}

/// What a repository has of a manifest that comes.
#[derive(Debug, Default)]
struct Here {
    /// The lengths of those of its references that are blobs of the repository, and sound. Their leases are renewed.
    sizes: HashMap<String, i64>,
    /// Its tags that point at another manifest, and at which.
    moved: BTreeMap<String, String>,
}

/// Renews the leases of the blobs that a manifest refers to, and sees what it replaces.
async fn look(tx: &mut Tx, repository_id: &str, new: &NewManifest<'_>, lease_until: i64) -> Result<Here> {
    let (targets, tags) = (set_of(new.blobs.iter().chain(&new.children)), tags_of(new.tags));
    if let Raw::Sqlite(connection) = tx.raw() {
        // One message: everybody waits meanwhile. A row is of a blob, or of a tag.
        let rows: Vec<(String, Option<i64>, Option<String>)> = sqlx::query_as::<sqlx::Sqlite, _>(
            "UPDATE blob_links SET lease_until = MAX(lease_until, $3)
             WHERE repository_id = $1 AND digest IN (SELECT value FROM json_each($2)) AND EXISTS (
                 SELECT 1 FROM blobs b
                 WHERE b.org_id = blob_links.org_id AND b.digest = blob_links.digest AND b.damaged_at IS NULL)
             RETURNING digest, (
                 SELECT size FROM blobs b WHERE b.org_id = blob_links.org_id AND b.digest = blob_links.digest), NULL;
             SELECT name, NULL, digest FROM tags
             WHERE repository_id = $1 AND name IN (SELECT value FROM json_each($4)) AND digest <> $5",
        )
        .bind(repository_id)
        .bind(targets)
        .bind(lease_until)
        .bind(tags)
        .bind(new.digest.as_str())
        .fetch_all(connection)
        .await?;
        let mut here = Here::default();
        for (what, size, before) in rows {
            match (size, before) {
                (_, Some(before)) => here.moved.extend([(what, before)]),
                (size, None) => here.sizes.extend(size.map(|size| (what, size))),
            }
        }
        return Ok(here);
    }
    let linked: Vec<(String, i64)> = query_all!(
        tx,
        (String, i64),
        "SELECT l.digest, b.size FROM blob_links l JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
         WHERE l.repository_id = $1 AND l.digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        repository_id,
        targets,
    )?;
    let mut sizes: HashMap<String, i64> = linked.into_iter().collect();
    // In one order everywhere, so that no two transactions wait for each other.
    let mut there: Vec<&Digest> =
        new.blobs.iter().chain(&new.children).filter(|digest| sizes.contains_key(digest.as_str())).collect();
    there.sort_unstable();
    there.dedup();
    for digest in there {
        if !blobs::renew_lease(tx, repository_id, digest, lease_until).await? {
            sizes.remove(digest.as_str());
        }
    }
    let moved: Vec<(String, String)> = query_all!(
        tx,
        (String, String),
        "SELECT name, digest FROM tags WHERE repository_id = $1 AND digest <> $3
         AND name IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        repository_id,
        tags,
        new.digest.as_str(),
    )?;
    Ok(Here { sizes, moved: moved.into_iter().collect() })
}

/// Tags as [`set_of`], each once and in order: everywhere in the same, so that no two transactions wait for each other.
fn tags_of(tags: &[Tag]) -> String {
    set_of(tags.iter().map(Tag::as_str).collect::<BTreeSet<_>>().into_iter())
}

/// The manifest, what it refers to, its tags, and when its repository was pushed to.
async fn insert(tx: &mut Tx, repository_id: &str, new: &NewManifest<'_>, content_size: i64, now: i64) -> Result<()> {
    macro_rules! manifest {
        () => {
            "INSERT INTO manifests (repository_id, digest, media_type, size, subject, artifact_type, annotations,
                                    created_at, pushed_by, payload, content_size)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)
             ON CONFLICT (repository_id, digest) DO UPDATE SET
                 media_type = excluded.media_type, size = excluded.size, subject = excluded.subject,
                 artifact_type = excluded.artifact_type, annotations = excluded.annotations, payload = excluded.payload,
                 content_size = excluded.content_size"
        };
    }
    macro_rules! tagged {
        ($now:literal, $by:literal, $names:literal) => {
            concat!(
                "INSERT INTO tags (repository_id, name, digest, updated_at, pushed_by) SELECT $1, value, $2, ",
                $now,
                ", ",
                $by,
                " FROM ",
                $names,
                " WHERE TRUE
                 ON CONFLICT (repository_id, name) DO UPDATE SET digest = excluded.digest, updated_at = excluded.updated_at,
                     pushed_by = excluded.pushed_by"
            )
        };
    }
    let (targets, tags) = (set_of(new.blobs.iter().chain(&new.children)), tags_of(new.tags));
    /// Runs a statement that begins with [`manifest!`].
    macro_rules! insert_manifest {
        ($sql:expr $(, $more:expr)*) => {
            execute!(
                tx,
                $sql,
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
                content_size
                $(, $more)*
            )
        };
    }
    if matches!(tx.raw(), Raw::Sqlite(_)) {
        // One message: everybody waits meanwhile.
        let all = concat!(
            manifest!(),
            ";
            INSERT INTO manifest_references (repository_id, manifest, target)
            SELECT $1, $2, value FROM json_each($12) WHERE TRUE ON CONFLICT DO NOTHING;
            UPDATE repositories SET pushed_at = $8 WHERE id = $1;",
            tagged!("$8", "$9", "json_each($13)")
        );
        insert_manifest!(all, targets, tags)?;
        return Ok(());
    }
    // The manifest's row in a statement of its own: the parts of one statement run in no order, and whoever deletes the
    // manifest meanwhile would take along references that were found to be there already.
    insert_manifest!(manifest!())?;
    execute!(
        tx,
        concat!(
            "WITH pushed AS (UPDATE repositories SET pushed_at = $5 WHERE id = $1), tagged AS (",
            tagged!("CAST($5 AS BIGINT)", "CAST($6 AS TEXT)", "jsonb_array_elements_text(CAST($4 AS JSONB))"),
            ")
            INSERT INTO manifest_references (repository_id, manifest, target)
            SELECT $1, $2, jsonb_array_elements_text(CAST($3 AS JSONB)) ON CONFLICT DO NOTHING"
        ),
        repository_id,
        new.digest.as_str(),
        targets,
        tags,
        now,
        new.pushed_by,
    )?;
    Ok(())
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

/// A JSON array of digests or tags, to be bound as one parameter. Neither needs escaping.
pub(crate) fn set_of(names: impl Iterator<Item = impl Display>) -> String {
    let quoted: Vec<String> = names.map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", quoted.join(","))
}

/// Finds a manifest by tag or digest, in one query.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, repo: &RepoName, reference: &Reference) -> Result<Option<Manifest>> {
    Ok(find_with_rows(session, repo, reference).await?.map(|found| found.manifest))
}

/// As [`find`], for what is kept in memory.
///
/// # Errors
/// Those of the database.
pub(crate) async fn find_with_rows(
    session: &mut Session,
    repo: &RepoName,
    reference: &Reference,
) -> Result<Option<Found>> {
    macro_rules! by_tag {
        ($rows:literal) => {
            concat!(
                "SELECT r.org_id, m.digest, m.media_type, m.size, m.payload, ",
                $rows,
                " FROM repositories r
                 JOIN tags t ON t.repository_id = r.id AND t.name = $2
                 JOIN manifests m ON m.repository_id = r.id AND m.digest = t.digest
                 WHERE r.name = $1"
            )
        };
    }
    macro_rules! by_digest {
        ($rows:literal) => {
            concat!(
                "SELECT r.org_id, m.digest, m.media_type, m.size, m.payload, ",
                $rows,
                " FROM repositories r
                 JOIN manifests m ON m.repository_id = r.id AND m.digest = $2
                 WHERE r.name = $1"
            )
        };
    }
    match reference {
        Reference::Tag(tag) => query_opt_each!(
            session,
            Found,
            by_tag!("m.rowid AS manifest_row, t.rowid AS tag_row"),
            by_tag!("CAST(0 AS BIGINT) AS manifest_row, CAST(0 AS BIGINT) AS tag_row"),
            repo.canonical(),
            tag.as_str(),
        ),
        Reference::Digest(digest) => query_opt_each!(
            session,
            Found,
            by_digest!("m.rowid AS manifest_row, m.rowid AS tag_row"),
            by_digest!("CAST(0 AS BIGINT) AS manifest_row, CAST(0 AS BIGINT) AS tag_row"),
            repo.canonical(),
            digest.as_str(),
        ),
    }
}

/// A manifest as it is looked at.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Stored {
    /// Its digest.
    pub digest: String,
    /// The media type it was pushed with.
    pub media_type: String,
    /// Length in bytes.
    pub size: i64,
    /// Digest of the manifest that it is about.
    pub subject: Option<String>,
    /// Its artifact type, or its config's media type.
    pub artifact_type: Option<String>,
    /// When it was first pushed (unix seconds).
    pub created_at: i64,
    /// Name of who pushed it first.
    pub pushed_by: String,
    /// The exact bytes, where they are not more than was asked for.
    pub payload: Option<Vec<u8>>,
}

/// Those of the digests that are manifests of the repository, with the bytes of those that have at most `most`.
///
/// # Errors
/// Those of the database.
pub async fn stored<'a>(
    session: &mut Session,
    repository_id: &str,
    digests: impl Iterator<Item = &'a Digest>,
    most: i64,
) -> Result<Vec<Stored>> {
    query_all_each!(
        session,
        Stored,
        "SELECT digest, media_type, size, subject, artifact_type, created_at, pushed_by,
                CASE WHEN size <= $3 THEN payload END AS payload
         FROM manifests WHERE repository_id = $1 AND digest IN (SELECT value FROM json_each($2))",
        "SELECT digest, media_type, size, subject, artifact_type, created_at, pushed_by,
                CASE WHEN size <= $3 THEN payload END AS payload
         FROM manifests WHERE repository_id = $1 AND digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        repository_id,
        set_of(digests),
        most,
    )
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
    execute!(tx, "DELETE FROM last_pulls WHERE repository_id = $1 AND digest = $2", repository_id, digest.as_str())?;
    // Tags and references go with it: ON DELETE CASCADE.
    let gone =
        execute!(tx, "DELETE FROM manifests WHERE repository_id = $1 AND digest = $2", repository_id, digest.as_str())?;
    Ok(gone > 0)
}

/// A manifest as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Listed {
    /// Its digest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: i64,
    /// Its artifact type, or its config's media type.
    pub artifact_type: Option<String>,
    /// The manifest that it is about.
    pub subject: Option<String>,
    /// Bytes of its config and layers, or of those of its entries that are here, each counted once.
    pub content_size: i64,
    /// When it first came (unix seconds).
    pub created_at: i64,
    /// Name of who pushed it first.
    pub pushed_by: String,
    /// When it was last pulled, by any name (unix seconds).
    pub pulled_at: Option<i64>,
    /// Name of who did.
    pub pulled_by: Option<String>,
}

impl Listed {
    /// What to go on after, where this is the last of a page.
    #[must_use]
    pub fn cursor(&self) -> String {
        cursor_of(self.created_at, &self.digest)
    }
}

/// The cursor of lists that are newest first.
pub(crate) fn cursor_of(at: i64, name: &str) -> String {
    format!("{at}!{name}")
}

/// What a cursor of such a list says; the beginning where it says nothing that makes sense.
pub(crate) fn read_cursor(cursor: &str) -> (i64, &str) {
    let parts = cursor.split_once('!').and_then(|(at, name)| Some((at.parse().ok()?, name)));
    parts.unwrap_or((i64::MAX, ""))
}

/// Most manifests that are looked at for one page of those without a tag: where all have one, there is no end to them otherwise.
const LOOK_AT: i64 = if cfg!(test) { 3 } else { 2000 };

/// At most `limit` manifests of a repository that nothing holds by name: no tag points at them, no other manifest lists
/// them, and what they are about is not here. Newest first, after a [`Listed::cursor`]. Where so many were looked at before there
/// were enough that the rest is left, the cursor of the last of them is returned too.
///
/// # Errors
/// Those of the database.
pub async fn untagged(
    session: &mut Session,
    repository_id: &str,
    after: &str,
    limit: i64,
) -> Result<(Vec<Listed>, Option<String>)> {
    let (at, digest) = read_cursor(after);
    let found = query_all!(
        session,
        Listed,
        "SELECT m.digest, m.media_type, m.size, m.artifact_type, m.subject, m.created_at, m.pushed_by,
                p.pulled_at, p.pulled_by,
                m.content_size + COALESCE((
                    SELECT CAST(SUM(b.size) AS BIGINT) FROM blob_links l
                    JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
                    WHERE l.repository_id = m.repository_id AND l.digest IN (
                        SELECT y.target FROM manifest_references x JOIN manifest_references y
                        ON y.repository_id = x.repository_id AND y.manifest = x.target
                        WHERE x.repository_id = m.repository_id AND x.manifest = m.digest)), 0) AS content_size
         FROM (SELECT created_at, digest FROM manifests WHERE repository_id = $1 AND (created_at, digest) < ($2, $3)
               ORDER BY created_at DESC, digest DESC LIMIT $5) AS seen
         CROSS JOIN manifests m LEFT JOIN last_pulls p ON p.repository_id = m.repository_id AND p.digest = m.digest
         WHERE m.repository_id = $1 AND m.digest = seen.digest
         AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = $1 AND t.digest = seen.digest)
         AND NOT EXISTS (SELECT 1 FROM manifest_references x WHERE x.repository_id = $1 AND x.target = seen.digest)
         AND NOT EXISTS (SELECT 1 FROM manifests s WHERE s.repository_id = m.repository_id AND s.digest = m.subject)
         ORDER BY seen.created_at DESC, seen.digest DESC LIMIT $4",
        repository_id,
        at,
        digest,
        limit,
        LOOK_AT,
    )?;
    if i64::try_from(found.len()).is_ok_and(|found| found >= limit) {
        return Ok((found, None));
    }
    let last = query_opt!(
        session,
        (i64, String),
        "SELECT created_at, digest FROM manifests WHERE repository_id = $1 AND (created_at, digest) < ($2, $3)
         ORDER BY created_at DESC, digest DESC LIMIT 1 OFFSET $4",
        repository_id,
        at,
        digest,
        LOOK_AT - 1,
    )?;
    Ok((found, last.map(|(at, digest)| cursor_of(at, &digest))))
}

/// Most bytes of manifests that one list reads, and of one of them: a list must not cost what a pusher likes.
const MOST_READ: (i64, i64) = (4 << 20, 256 << 10);

/// The exact bytes of those of the digests that are manifests of the repository, as far as they are not too large for a
/// list; the others are left out.
///
/// # Errors
/// Those of the database.
pub async fn payloads<'a>(
    session: &mut Session,
    repository_id: &str,
    listed: impl Iterator<Item = (&'a str, i64)>,
) -> Result<HashMap<String, Vec<u8>>> {
    let mut budget = MOST_READ.0;
    let mut wanted: Vec<&str> = Vec::new();
    for (digest, size) in listed {
        if size <= MOST_READ.1 && size <= budget && !wanted.contains(&digest) {
            budget -= size;
            wanted.push(digest);
        }
    }
    let rows: Vec<(String, Vec<u8>)> = query_all_each!(
        session,
        (String, Vec<u8>),
        "SELECT digest, payload FROM manifests
         WHERE repository_id = $1 AND digest IN (SELECT value FROM json_each($2))",
        "SELECT digest, payload FROM manifests
         WHERE repository_id = $1 AND digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        repository_id,
        serde_json::to_string(&wanted).unwrap_or_default(),
    )?;
    Ok(rows.into_iter().collect())
}

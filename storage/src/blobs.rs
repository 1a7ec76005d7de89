//! Blobs: which object holds the bytes of a digest in an organization, and in which repositories it may be read.
//!
//! A blob belongs to an organization, never to two: content is addressed and deduplicated inside a tenant, so that nobody
//! learns from a push what another tenant has. It is readable in a repository only through a link. A link lives while a
//! manifest of the repository refers to the blob, or while its lease lasts; [`crate::gc`] takes away the rest.

use crate::db::{Db, Session, Tx};
use crate::digest::digest_of;
use crate::error::{Error, Result};
use crate::manifests::set_of;
use crate::names::{Digest, RepoName};
use crate::objects::Objects;
use crate::removal::FIRST;
use crate::repositories;
use crate::{execute, query_all_each, query_opt, query_opt_each};

/// A blob as it is read through a repository.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Blob {
    /// The organization that it belongs to.
    pub org_id: String,
    /// Its digest.
    pub digest: String,
    /// Its length in bytes.
    pub size: i64,
    /// The object that holds it.
    pub object_key: String,
    /// Until when its link stands without a manifest (unix seconds).
    pub lease_until: i64,
    /// Its bytes, where they are in the database and not in an object; not yet proved.
    pub content: Option<Vec<u8>>,
}

impl Blob {
    /// The bytes that are in the database, where they have the digest and the length that the row says.
    pub(crate) fn proven(&self) -> Option<&[u8]> {
        let content = self.content.as_deref().filter(|bytes| bytes.len() as u64 == self.size.unsigned_abs())?;
        is_right(&self.digest, content).then_some(content)
    }
}

fn is_right(digest: &str, bytes: &[u8]) -> bool {
    digest.parse::<Digest>().is_ok_and(|digest| digest_of(digest.algorithm(), bytes) == digest)
}

/// Blobs of at most so many bytes are kept in the database.
pub const IN_DATABASE: u64 = 16 << 10;

/// Finds a blob that a repository may read, in one query.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, repo: &RepoName, digest: &Digest) -> Result<Option<Blob>> {
    Ok(find_with_rows(session, repo, digest).await?.map(|found| found.blob))
}

/// A blob with the rows that it was read from.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct Found {
    /// The blob.
    #[sqlx(flatten)]
    pub(crate) blob: Blob,
    /// Its row, on `SQLite`.
    pub(crate) blob_row: i64,
    /// The row that links it into the repository.
    pub(crate) link_row: i64,
}

/// As [`find`], for what is kept in memory.
///
/// # Errors
/// Those of the database.
pub(crate) async fn find_with_rows(session: &mut Session, repo: &RepoName, digest: &Digest) -> Result<Option<Found>> {
    macro_rules! find {
        ($rows:literal) => {
            concat!(
                "SELECT b.org_id, b.digest, b.size, b.object_key, l.lease_until, s.content, ",
                $rows,
                " FROM repositories r
                 JOIN blob_links l ON l.repository_id = r.id AND l.digest = $2
                 JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest AND b.damaged_at IS NULL
                 LEFT JOIN small_objects s ON s.object_key = b.object_key
                 WHERE r.name = $1"
            )
        };
    }
    query_opt_each!(
        session,
        Found,
        find!("b.rowid AS blob_row, l.rowid AS link_row"),
        find!("CAST(0 AS BIGINT) AS blob_row, CAST(0 AS BIGINT) AS link_row"),
        repo.canonical(),
        digest.as_str(),
    )
}

/// Those of the digests that are blobs which the repository may read.
///
/// # Errors
/// Those of the database.
pub async fn find_all<'a>(
    session: &mut Session,
    repository_id: &str,
    digests: impl Iterator<Item = &'a Digest>,
) -> Result<Vec<Blob>> {
    query_all_each!(
        session,
        Blob,
        "SELECT b.org_id, b.digest, b.size, b.object_key, l.lease_until, s.content FROM blob_links l
         JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest AND b.damaged_at IS NULL
         LEFT JOIN small_objects s ON s.object_key = b.object_key
         WHERE l.repository_id = $1 AND l.digest IN (SELECT value FROM json_each($2))",
        "SELECT b.org_id, b.digest, b.size, b.object_key, l.lease_until, s.content FROM blob_links l
         JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest AND b.damaged_at IS NULL
         LEFT JOIN small_objects s ON s.object_key = b.object_key
         WHERE l.repository_id = $1 AND l.digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        repository_id,
        set_of(digests),
    )
}

/// All bytes of a blob, proved against its digest: for small ones. Blocks.
///
/// # Errors
/// [`Error::Damaged`] where they are missing or others; else [`Error::Io`].
pub fn read(objects: &Objects, blob: &Blob) -> Result<Vec<u8>> {
    if let Some(content) = blob.proven() {
        return Ok(content.to_vec());
    }
    let mut bytes = vec![0; usize::try_from(blob.size).unwrap_or_default()];
    if blob.content.is_none() {
        objects.open_object(&blob.object_key)?.read_at(&mut bytes, 0)?;
    }
    if !is_right(&blob.digest, &bytes) {
        return Err(Error::Damaged(format!("a blob's bytes are not those of {}", blob.digest)));
    }
    Ok(bytes)
}

/// A sealed object, or bytes for the database, that become a blob.
#[derive(Debug)]
pub struct NewBlob<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// Digest of the content.
    pub digest: &'a Digest,
    /// Length of the content in bytes.
    pub size: i64,
    /// The object.
    pub object_key: &'a str,
    /// The content, where it goes to the database.
    pub content: Option<&'a [u8]>,
}

/// Records a blob. Where the organization has that digest already, the new object takes the old one's place (which heals
/// a damaged one) and the old one is taken away after `discard_after`, when nobody reads it any more.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut Tx, new: &NewBlob<'_>, now: i64, discard_after: i64) -> Result<()> {
    if let Some(content) = new.content {
        let sql = "INSERT INTO small_objects (object_key, content) VALUES ($1, $2)";
        execute!(tx, sql, new.object_key, content)?;
    }
    // The row may go between the two statements where several processes share the database: then insert again.
    for _ in 0..3 {
        let inserted = execute!(
            tx,
            "INSERT INTO blobs (org_id, digest, size, object_key, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (org_id, digest) DO NOTHING",
            new.org_id,
            new.digest.as_str(),
            new.size,
            new.object_key,
            now,
        )?;
        if inserted > 0 {
            return Ok(());
        }
        // Clearing `doomed_at` locks the row, so that the key read is the one replaced.
        let old: Option<(String,)> = query_opt!(
            tx,
            (String,),
            "UPDATE blobs SET doomed_at = NULL WHERE org_id = $1 AND digest = $2 RETURNING object_key",
            new.org_id,
            new.digest.as_str(),
        )?;
        if let Some((old,)) = old {
            execute!(
                tx,
                "UPDATE blobs SET object_key = $3, damaged_at = NULL WHERE org_id = $1 AND digest = $2",
                new.org_id,
                new.digest.as_str(),
                new.object_key,
            )?;
            return discard_object(tx, &old, discard_after).await;
        }
    }
    Err(Error::Conflict("the blob is being taken away; push it again"))
}

/// Begins a transaction that does as [`create`] and [`link_own`] do, all in one message, for a repository that is there.
/// `None` where it is not, and wherever that takes no fewer messages.
///
/// # Errors
/// Those of the database.
pub(crate) async fn begin_created(
    db: &Db,
    new: &NewBlob<'_>,
    (project_id, repository): (&str, &RepoName),
    now: i64,
    (lease_until, discard_after): (i64, i64),
) -> Result<Option<Tx>> {
    if !db.is_sqlite() {
        return Ok(None);
    }
    let create = || {
        sqlx::query(
            "INSERT INTO gc_objects (object_key, delete_after)
             SELECT object_key, $10 FROM blobs WHERE org_id = $1 AND digest = $2 ON CONFLICT (object_key) DO NOTHING;
             INSERT INTO blobs (org_id, digest, size, object_key, created_at) VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (org_id, digest) DO UPDATE SET
                 object_key = excluded.object_key, damaged_at = NULL, doomed_at = NULL;
             INSERT INTO gc_links (repository_id, digest, review_after)
             SELECT id, $2, $6 + 1 FROM repositories WHERE name = $7 AND project_id = $8
             ON CONFLICT (repository_id, digest) DO UPDATE SET review_after = excluded.review_after;
             INSERT INTO small_objects (object_key, content) SELECT $4, $9 WHERE $9 IS NOT NULL;
             INSERT INTO blob_links (repository_id, digest, org_id, lease_until)
             SELECT id, $2, $1, $6 FROM repositories WHERE name = $7 AND project_id = $8
             ON CONFLICT (repository_id, digest) DO UPDATE SET lease_until = MAX(lease_until, excluded.lease_until)
             RETURNING 1",
        )
        .bind(new.org_id)
        .bind(new.digest.as_str())
        .bind(new.size)
        .bind(new.object_key)
        .bind(now)
        .bind(lease_until)
        .bind(repository.canonical())
        .bind(project_id)
        .bind(new.content)
        .bind(discard_after)
    };
    let (tx, linked) = db.begin_with(create).await?;
    // Without the repository it is half done, and is dropped.
    Ok(linked.is_some_and(|rows| !rows.is_empty()).then_some(tx))
}

/// Puts an object without a row up for removal.
///
/// # Errors
/// Those of the database.
pub async fn discard_object(tx: &mut Tx, object_key: &str, delete_after: i64) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO gc_objects (object_key, delete_after) VALUES ($1, $2) ON CONFLICT (object_key) DO NOTHING",
        object_key,
        delete_after,
    )?;
    Ok(())
}

/// Links a blob of the organization into a repository, with a lease. Returns false where the organization has no such
/// blob (or only a damaged one).
///
/// # Errors
/// Those of the database.
pub async fn link(tx: &mut Tx, repository_id: &str, org_id: &str, digest: &Digest, lease_until: i64) -> Result<bool> {
    let alive = execute!(
        tx,
        "UPDATE blobs SET doomed_at = NULL WHERE org_id = $1 AND digest = $2 AND damaged_at IS NULL",
        org_id,
        digest.as_str(),
    )?;
    if alive == 0 {
        return Ok(false);
    }
    link_own(tx, repository_id, org_id, digest, lease_until).await?;
    Ok(true)
}

/// As [`link`], for a blob that the transaction has made or locked itself.
///
/// # Errors
/// Those of the database.
pub async fn link_own(tx: &mut Tx, repository_id: &str, org_id: &str, digest: &Digest, lease_until: i64) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO blob_links (repository_id, digest, org_id, lease_until) VALUES ($1, $2, $3, $4)
         ON CONFLICT (repository_id, digest) DO UPDATE SET lease_until =
             CASE WHEN excluded.lease_until > blob_links.lease_until
                  THEN excluded.lease_until ELSE blob_links.lease_until END",
        repository_id,
        digest.as_str(),
        org_id,
        lease_until,
    )?;
    review_link(tx, repository_id, digest, lease_until).await
}

/// Renews the lease of a link; never shortens it. Returns false where the repository has no such blob, or where the
/// blob is known to be damaged: then a client that pushes it again heals it.
///
/// # Errors
/// Those of the database.
pub async fn renew_lease(tx: &mut Tx, repository_id: &str, digest: &Digest, lease_until: i64) -> Result<bool> {
    let renewed = execute!(
        tx,
        "UPDATE blob_links SET lease_until = CASE WHEN lease_until < $3 THEN $3 ELSE lease_until END
         WHERE repository_id = $1 AND digest = $2 AND EXISTS (
             SELECT 1 FROM blobs b
             WHERE b.org_id = blob_links.org_id AND b.digest = blob_links.digest AND b.damaged_at IS NULL)",
        repository_id,
        digest.as_str(),
        lease_until,
    )?;
    Ok(renewed > 0)
}

/// A link that was taken away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unlinked {
    /// The organization of the repository.
    pub org_id: String,
    /// A manifest of the repository refers to the blob still.
    pub referenced: bool,
}

/// Begins a transaction that takes a link away at once: the repository can no longer read the blob. `None` where there was
/// none.
///
/// # Errors
/// Those of the database.
pub async fn begin_unlinked(db: &Db, repo: &RepoName, digest: &Digest, now: i64) -> Result<(Tx, Option<Unlinked>)> {
    // Whoever has the one writer's turn need not lock.
    let unlink = || {
        sqlx::query(
            "DELETE FROM blob_links WHERE repository_id = (SELECT id FROM repositories WHERE name = $1) AND digest = $2
             RETURNING org_id, FALSE;
             UPDATE blobs SET doomed_at = $3
             WHERE org_id = (SELECT org_id FROM repositories WHERE name = $1) AND digest = $2 AND doomed_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = blobs.org_id AND l.digest = blobs.digest);
             SELECT NULL, EXISTS (
                 SELECT 1 FROM manifest_references
                 WHERE repository_id = (SELECT id FROM repositories WHERE name = $1) AND target = $2)",
        )
        .bind(repo.canonical())
        .bind(digest.as_str())
        .bind(now)
    };
    let (mut tx, rows) = db.begin_with(unlink).await?;
    let Some(rows) = rows else {
        let gone = unlink_locked(&mut tx, repo, digest, now).await?;
        return Ok((tx, gone));
    };
    let (mut org_id, mut referenced) = (None, false);
    for row in rows {
        let (org, used): (Option<String>, bool) = sqlx::FromRow::from_row(&row)?;
        org_id = org_id.or(org);
        referenced |= used;
    }
    Ok((tx, org_id.map(|org_id| Unlinked { org_id, referenced })))
}

/// As [`begin_unlinked`], where several write.
async fn unlink_locked(tx: &mut Tx, repo: &RepoName, digest: &Digest, now: i64) -> Result<Option<Unlinked>> {
    let Some(repository) = repositories::find(tx, repo).await? else { return Ok(None) };
    let Some(org_id) = lock_for_unlink(tx, &repository.id, digest.as_str()).await? else { return Ok(None) };
    let gone = execute!(
        tx,
        "DELETE FROM blob_links WHERE repository_id = $1 AND digest = $2",
        repository.id.as_str(),
        digest.as_str(),
    )?;
    doom_if_unlinked(tx, &org_id, digest.as_str(), now).await?;
    let referenced = is_referenced(tx, &repository.id, digest).await?;
    Ok((gone > 0).then_some(Unlinked { org_id, referenced }))
}

/// Locks the blob behind a link, as every transaction does before it touches the link: blob, link, queue, in that order, so
/// that no two wait for each other, and so that of two that take a blob's last links away the second sees what the first
/// did. Returns the organization, or `None` where there is no such link.
pub(crate) async fn lock_for_unlink(tx: &mut Tx, repository_id: &str, digest: &str) -> Result<Option<String>> {
    let link: Option<(String,)> = query_opt!(
        tx,
        (String,),
        "SELECT org_id FROM blob_links WHERE repository_id = $1 AND digest = $2",
        repository_id,
        digest,
    )?;
    let Some((org_id,)) = link else { return Ok(None) };
    execute!(tx, "UPDATE blobs SET doomed_at = doomed_at WHERE org_id = $1 AND digest = $2", org_id.as_str(), digest,)?;
    Ok(Some(org_id))
}

/// Marks a blob whose bytes were found missing or wrong: it is not served, and a push of its digest heals it. Only while it
/// still is in the object that was looked at.
///
/// # Errors
/// Those of the database.
pub async fn mark_damaged(tx: &mut Tx, org_id: &str, digest: &str, object_key: &str, now: i64) -> Result<bool> {
    let marked = execute!(
        tx,
        "UPDATE blobs SET damaged_at = $4 WHERE org_id = $1 AND digest = $2 AND object_key = $3",
        org_id,
        digest,
        object_key,
        now,
    )?;
    Ok(marked > 0)
}

/// Whether a manifest of the repository refers to the blob.
async fn is_referenced(session: &mut Session, repository_id: &str, digest: &Digest) -> Result<bool> {
    let used: Option<(i64,)> = query_opt!(
        session,
        (i64,),
        "SELECT CAST(1 AS BIGINT) FROM manifest_references WHERE repository_id = $1 AND target = $2 LIMIT 1",
        repository_id,
        digest.as_str(),
    )?;
    Ok(used.is_some())
}

/// Marks a blob, whose row the transaction has locked, for removal where no repository links to it.
pub(crate) async fn doom_if_unlinked(tx: &mut Tx, org_id: &str, digest: &str, now: i64) -> Result<u64> {
    execute!(
        tx,
        "UPDATE blobs SET doomed_at = $3 WHERE org_id = $1 AND digest = $2
         AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = $1 AND l.digest = $2)",
        org_id,
        digest,
        now,
    )
}

/// Asks garbage collection to look at a link once its lease is over.
async fn review_link(tx: &mut Tx, repository_id: &str, digest: &Digest, after: i64) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO gc_links (repository_id, digest, review_after) VALUES ($1, $2, $3)
         ON CONFLICT (repository_id, digest) DO UPDATE SET review_after = excluded.review_after",
        repository_id,
        digest.as_str(),
        after + 1,
    )?;
    Ok(())
}

/// Whether some repository of the project, or (without one) of the organization, links to the blob. For a mount without
/// `from`, asked only of what the caller may read.
///
/// # Errors
/// Those of the database.
pub async fn is_linked_in(
    session: &mut Session,
    org_id: &str,
    project_id: Option<&str>,
    digest: &Digest,
) -> Result<bool> {
    let found: Option<(i64,)> = query_opt!(
        session,
        (i64,),
        "SELECT CAST(1 AS BIGINT) FROM blob_links l JOIN repositories r ON r.id = l.repository_id
         WHERE l.org_id = $1 AND l.digest = $2 AND ($3 = '' OR r.project_id = $3) AND r.name > $4 LIMIT 1",
        org_id,
        digest.as_str(),
        project_id.unwrap_or(""),
        // A buried repository has nothing any more.
        FIRST,
    )?;
    Ok(found.is_some())
}

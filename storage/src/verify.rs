//! Proves rows against bytes and bytes against digests, while everything serves.
//!
//! Every blob's object is read and hashed, every manifest's payload is hashed, every object is looked up in the rows. A
//! finding is confirmed by a second look at the row, since pushes and collection go on meanwhile. With `repair`, a blob
//! whose bytes are missing or wrong is marked damaged: it is not served, and the next push of its digest heals it; an
//! orphaned object whose trailer and hash are right becomes a blob again; only one that is not whole is taken away.

use serde::Serialize;

use crate::clock::Clock;
use crate::db::{Db, Session, Tx};
use crate::digest::{Hasher, digest_of};
use crate::error::{Error, Result};
use crate::names::Digest;
use crate::objects::{Objects, Trailer};
use crate::{blobs, execute, query_all, query_opt};

/// Rows read at a time.
const PAGE: i64 = 100;
/// Bytes read at a time.
const CHUNK: usize = 1 << 20;
/// An object without a row is an orphan only when it is older than this many seconds.
const ORPHAN_AGE: u64 = 600;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What is wrong.
    pub problem: Problem,
    /// The digest, or the object's key, that it is about.
    pub subject: String,
    /// Id of the organization, where known.
    pub org: Option<String>,
    /// What a repair does, or did, about it.
    pub repair: &'static str,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Problem {
    /// A blob's object is not there, or shorter than its row says.
    BytesMissing,
    /// A blob's bytes have another digest.
    BytesWrong,
    /// A blob's object does not say of itself what its row says.
    TrailerWrong,
    /// The operating system cannot read an object now: a bad disk, perhaps.
    Unreadable,
    /// A manifest's payload has another digest.
    ManifestWrong,
    /// A manifest refers to a blob that its repository cannot read.
    ReferenceBroken,
    /// A blob that no repository links to and that does not wait for its removal.
    Adrift,
    /// An object that no row knows.
    Orphan,
}

/// What a verification saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Blobs checked.
    pub blobs: u64,
    /// Content bytes read.
    pub bytes: u64,
    /// Manifests checked.
    pub manifests: u64,
    /// Objects looked up.
    pub objects: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
}

/// The verifier.
#[derive(Debug, Clone)]
pub struct Verifier {
    db: Db,
    objects: Objects,
    clock: Clock,
    repair: bool,
}

#[derive(Debug, Clone, sqlx::FromRow)]
struct BlobRow {
    org_id: String,
    digest: String,
    size: i64,
    object_key: String,
    content: Option<Vec<u8>>,
}

impl Verifier {
    /// A verifier that only looks, or that repairs what it finds.
    #[must_use]
    pub fn new(db: Db, objects: Objects, clock: Clock, repair: bool) -> Self {
        Self { db, objects, clock, repair }
    }

    /// Looks at everything. `progress` is called now and then with what was seen so far.
    ///
    /// # Errors
    /// Those of the database and of listing the byte store; a damaged object is a finding, not an error.
    pub async fn run(&self, mut progress: impl FnMut(&Report)) -> Result<Report> {
        let mut report = Report::default();
        self.check_blobs(&mut report, &mut progress).await?;
        self.check_manifests(&mut report, &mut progress).await?;
        self.check_references(&mut report).await?;
        self.check_objects(&mut report, &mut progress).await?;
        Ok(report)
    }

    async fn check_blobs(&self, report: &mut Report, progress: &mut impl FnMut(&Report)) -> Result<()> {
        let (mut org, mut digest) = (String::new(), String::new());
        loop {
            let mut session = self.db.read().await?;
            let page: Vec<BlobRow> = query_all!(
                session,
                BlobRow,
                "SELECT b.org_id, b.digest, b.size, b.object_key, s.content FROM blobs b
                 LEFT JOIN small_objects s ON s.object_key = b.object_key
                 WHERE (b.org_id > $1 OR (b.org_id = $1 AND b.digest > $2)) AND b.damaged_at IS NULL
                 ORDER BY b.org_id, b.digest LIMIT CAST($3 AS BIGINT)",
                org.as_str(),
                digest.as_str(),
                PAGE,
            )?;
            drop(session);
            let Some(last) = page.last() else { return Ok(()) };
            (org, digest) = (last.org_id.clone(), last.digest.clone());
            for row in page {
                report.blobs += 1;
                report.bytes += row.size.unsigned_abs();
                if let Some(problem) = self.check_blob(&row).await? {
                    self.damaged(report, &row, problem).await?;
                }
            }
            progress(report);
        }
    }

    async fn check_blob(&self, row: &BlobRow) -> Result<Option<Problem>> {
        let (objects, row) = (self.objects.clone(), row.clone());
        tokio::task::spawn_blocking(move || inspect(&objects, &row))
            .await
            .map_err(|e| Error::Io { context: "verifying an object", source: std::io::Error::other(e) })
    }

    async fn damaged(&self, report: &mut Report, row: &BlobRow, problem: Problem) -> Result<()> {
        let mut tx = self.db.begin().await?;
        // A push may have replaced the object, or collection taken the blob, while its bytes were read.
        let still: Option<(String,)> = query_opt!(
            tx,
            (String,),
            "SELECT object_key FROM blobs WHERE org_id = $1 AND digest = $2 AND object_key = $3",
            row.org_id.as_str(),
            row.digest.as_str(),
            row.object_key.as_str(),
        )?;
        if still.is_none() {
            return Ok(());
        }
        let action = match problem {
            // Bytes that are right are served whatever their trailer says.
            Problem::TrailerWrong => "none: the content is right; the next push of this digest writes a new object",
            Problem::Unreadable => "none: look at the disk, then verify again",
            _ => "mark the blob damaged: it is not served, and the next push of this digest heals it",
        };
        if self.repair && matches!(problem, Problem::BytesMissing | Problem::BytesWrong) {
            let now = self.clock.now();
            blobs::mark_damaged(&mut tx, &row.org_id, &row.digest, &row.object_key, now).await?;
            tx.commit().await?;
        }
        report.findings.push(Finding {
            problem,
            subject: row.digest.clone(),
            org: Some(row.org_id.clone()),
            repair: action,
        });
        Ok(())
    }

    async fn check_manifests(&self, report: &mut Report, progress: &mut impl FnMut(&Report)) -> Result<()> {
        let (mut repository, mut digest) = (String::new(), String::new());
        loop {
            let mut session = self.db.read().await?;
            let page: Vec<(String, String, Vec<u8>)> = query_all!(
                session,
                (String, String, Vec<u8>),
                "SELECT repository_id, digest, payload FROM manifests
                 WHERE repository_id > $1 OR (repository_id = $1 AND digest > $2)
                 ORDER BY repository_id, digest LIMIT 10",
                repository.as_str(),
                digest.as_str(),
            )?;
            drop(session);
            let Some(last) = page.last() else { return Ok(()) };
            (repository, digest) = (last.0.clone(), last.1.clone());
            for (_, digest, payload) in page {
                report.manifests += 1;
                report.bytes += payload.len() as u64;
                let right = digest.parse::<Digest>().is_ok_and(|d| digest_of(d.algorithm(), &payload) == d);
                if !right {
                    report.findings.push(Finding {
                        problem: Problem::ManifestWrong,
                        subject: digest,
                        org: None,
                        repair: "none: delete the manifest and push it again, or restore the database",
                    });
                }
            }
            progress(report);
        }
    }

    async fn check_references(&self, report: &mut Report) -> Result<()> {
        let mut session = self.db.read().await?;
        let broken: Vec<(String, String, String)> = query_all!(
            session,
            (String, String, String),
            "SELECT r.org_id, r.name, m.target FROM manifest_references m
             JOIN repositories r ON r.id = m.repository_id
             JOIN blobs b ON b.org_id = r.org_id AND b.digest = m.target
             WHERE NOT EXISTS (SELECT 1 FROM blob_links l
                               WHERE l.repository_id = m.repository_id AND l.digest = m.target)
               AND NOT EXISTS (SELECT 1 FROM manifests c
                               WHERE c.repository_id = m.repository_id AND c.digest = m.target)
             LIMIT 1000",
        )?;
        let adrift: Vec<(String, String)> = query_all!(
            session,
            (String, String),
            "SELECT org_id, digest FROM blobs b WHERE doomed_at IS NULL AND damaged_at IS NULL
             AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = b.org_id AND l.digest = b.digest) LIMIT 1000",
        )?;
        drop(session);
        for (org, digest) in adrift {
            if self.repair {
                let mut tx = self.db.begin().await?;
                blobs::doom_if_unlinked(&mut tx, &org, &digest, self.clock.now()).await?;
                tx.commit().await?;
            }
            let repair = "let it go after the grace period";
            report.findings.push(Finding { problem: Problem::Adrift, subject: digest, org: Some(org), repair });
        }
        report.findings.extend(broken.into_iter().map(|(org, name, target)| Finding {
            problem: Problem::ReferenceBroken,
            subject: format!("{name}@{target}"),
            org: Some(org),
            repair: "none: the blob was deleted from the repository by a client; push it again",
        }));
        Ok(())
    }

    async fn check_objects(&self, report: &mut Report, progress: &mut impl FnMut(&Report)) -> Result<()> {
        for folder in Objects::folders() {
            let objects = self.objects.clone();
            let keys = tokio::task::spawn_blocking(move || objects.list(&folder))
                .await
                .map_err(|e| Error::Io { context: "listing objects", source: std::io::Error::other(e) })??;
            for (key, age) in keys {
                report.objects += 1;
                if age >= ORPHAN_AGE && !self.is_known(&key).await? {
                    self.orphan(report, key).await?;
                }
            }
            progress(report);
        }
        Ok(())
    }

    async fn is_known(&self, key: &str) -> Result<bool> {
        let mut session = self.db.read().await?;
        known(&mut session, key).await
    }

    async fn orphan(&self, report: &mut Report, key: String) -> Result<()> {
        let (objects, name) = (self.objects.clone(), key.clone());
        let looked = tokio::task::spawn_blocking(move || match objects.is_being_written(&name)? {
            true => Ok(None),
            false => sealed(&objects, &name).map(Some),
        })
        .await
        .map_err(|e| Error::Io { context: "verifying an orphan", source: std::io::Error::other(e) })?;
        let trailer = match looked {
            Ok(Some(trailer)) => trailer,
            // An upload that comes slowly has its row only later.
            Ok(None) => return Ok(()),
            // It went away meanwhile.
            Err(Error::Damaged(_)) => return Ok(()),
            Err(error) => {
                tracing::error!(%error, object.key = key, "an orphan cannot be read");
                let repair = "none: look at the disk, then verify again";
                report.findings.push(Finding { problem: Problem::Unreadable, subject: key, org: None, repair });
                return Ok(());
            }
        };
        let mut tx = self.db.begin().await?;
        // Somebody may have given it a row while it was read.
        if known(&mut tx, &key).await? {
            return Ok(());
        }
        let repair = self.adopt_or_discard(&mut tx, &key, trailer.as_ref()).await?;
        if self.repair {
            tx.commit().await?;
        }
        report.findings.push(Finding { problem: Problem::Orphan, subject: key, org: trailer.map(|t| t.org), repair });
        Ok(())
    }

    /// What to do with an object that no row knows: bytes that are what they say are worth keeping, as after the database
    /// was restored from a backup that is older than the bytes.
    async fn adopt_or_discard(&self, tx: &mut Tx, key: &str, trailer: Option<&Trailer>) -> Result<&'static str> {
        let now = self.clock.now();
        if let Some(t) = trailer {
            let org: Option<(String,)> =
                query_opt!(tx, (String,), "SELECT id FROM orgs WHERE id = $1", t.org.as_str())?;
            let healed: Option<(String,)> = query_opt!(
                tx,
                (String,),
                "SELECT object_key FROM blobs WHERE org_id = $1 AND digest = $2 AND damaged_at IS NOT NULL",
                t.org.as_str(),
                t.digest.as_str(),
            )?;
            if let Some((old,)) = healed {
                execute!(
                    tx,
                    "UPDATE blobs SET object_key = $3, damaged_at = NULL WHERE org_id = $1 AND digest = $2",
                    t.org.as_str(),
                    t.digest.as_str(),
                    key,
                )?;
                blobs::discard_object(tx, &old, now).await?;
                return Ok("give the damaged blob of that digest these bytes");
            }
            if org.is_some() {
                let adopted = execute!(
                    tx,
                    "INSERT INTO blobs (org_id, digest, size, object_key, created_at, doomed_at)
                     VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (org_id, digest) DO NOTHING",
                    t.org.as_str(),
                    t.digest.as_str(),
                    i64::try_from(t.size).unwrap_or(i64::MAX),
                    key,
                    now,
                )?;
                if adopted > 0 {
                    return Ok(
                        "make it a blob of its organization again, which goes after the grace period unless linked",
                    );
                }
            }
        }
        blobs::discard_object(tx, key, now).await?;
        Ok("take the bytes away at the next collection")
    }
}

/// Whether any row names the object.
async fn known(session: &mut Session, key: &str) -> Result<bool> {
    let known: Option<(i64,)> = query_opt!(
        session,
        (i64,),
        "SELECT CAST(1 AS BIGINT) FROM blobs WHERE object_key = $1
         UNION ALL SELECT CAST(1 AS BIGINT) FROM uploads WHERE object_key = $1
         UNION ALL SELECT CAST(1 AS BIGINT) FROM gc_objects WHERE object_key = $1 LIMIT 1",
        key,
    )?;
    Ok(known.is_some())
}

/// What an object says of itself, where that is true. Blocks.
fn sealed(objects: &Objects, key: &str) -> Result<Option<Trailer>> {
    let Some(trailer) = objects.open_object(key)?.trailer()? else { return Ok(None) };
    Ok(hash_matches(objects, key, &trailer.digest, trailer.size)?.then_some(trailer))
}

/// Reads one blob's object. Blocks.
fn inspect(objects: &Objects, row: &BlobRow) -> Option<Problem> {
    let size = row.size.unsigned_abs();
    if let Some(content) = &row.content {
        let right = row.digest.parse::<Digest>().is_ok_and(|d| digest_of(d.algorithm(), content) == d);
        return (!right || content.len() as u64 != size).then_some(Problem::BytesWrong);
    }
    let expected = Trailer { org: row.org_id.clone(), digest: row.digest.clone(), size };
    let looked = hash_matches(objects, &row.object_key, &row.digest, size)
        .and_then(|right| Ok((right, objects.open_object(&row.object_key)?.trailer()?)));
    match looked {
        Ok((false, _)) => Some(Problem::BytesWrong),
        Ok((true, trailer)) => (trailer.as_ref() != Some(&expected)).then_some(Problem::TrailerWrong),
        Err(Error::Damaged(_)) => Some(Problem::BytesMissing),
        Err(error) => {
            tracing::error!(%error, digest = row.digest, "a blob cannot be read");
            Some(Problem::Unreadable)
        }
    }
}

/// Whether the first `size` bytes of an object have that digest. Blocks.
fn hash_matches(objects: &Objects, key: &str, digest: &str, size: u64) -> Result<bool> {
    let Ok(expected) = digest.parse::<Digest>() else { return Ok(false) };
    let reader = objects.open_object(key)?;
    let mut hasher = Hasher::new(expected.algorithm());
    let mut buffer = vec![0u8; CHUNK];
    let mut offset = 0;
    while offset < size {
        let length = usize::try_from(size - offset).unwrap_or(CHUNK).min(CHUNK);
        reader.read_at(&mut buffer[..length], offset)?;
        hasher.update(&buffer[..length]);
        offset += length as u64;
    }
    Ok(hasher.finish() == expected)
}

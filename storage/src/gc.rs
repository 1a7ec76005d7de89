//! Online garbage collection: in small transactions, while everything serves.
//!
//! ```text
//! unlink, lease over ─→ gc_links ─review─→ link deleted ─→ blob doomed ─grace─→ blob deleted ─→ gc_objects ─→ bytes gone
//! ```
//!
//! Everything that may have taken a blob's last use away puts the link into `gc_links`; a review deletes it only where its
//! lease is over and no manifest of the repository refers to the blob. Whoever is told "I have it" (a push that asks with
//! HEAD, a mount, a commit) renews the lease, and a manifest's transaction renews the leases of its blobs, which locks
//! the same rows: on `PostgreSQL` a concurrent review waits, then sees the new lease. A doomed blob is rescued by any new
//! link until it is deleted. There is no global lock and no read-only mode; several processes may collect at once.

use futures_util::stream::{self, StreamExt};
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::db::{Db, Session};
use crate::error::{Error, Result};
use crate::objects::Objects;
use crate::uploads::{self, Lifetimes};
use crate::{blobs, execute, execute_each, query_all, query_one, query_opt};

pub mod requests;

/// Rows that one transaction takes on.
const BATCH: i64 = 200;
/// Objects whose rows one transaction deletes: it touches every page of their content.
const OBJECTS: i64 = 50;
/// Transactions that run at a time, so that they share commits.
const AT_ONCE: usize = 4;

/// How long until a link of a repository that is being pushed to is looked at again, in seconds.
const PUSHING: i64 = 300;

#[derive(Debug, sqlx::FromRow)]
struct Due {
    repository_id: String,
    digest: String,
    review_after: i64,
    name: Option<String>,
}

/// What a pass did, or (dry run) would do at first sight.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// Upload sessions that made no progress and were given up.
    pub uploads_expired: u64,
    /// Links reviewed.
    pub links_reviewed: u64,
    /// Links taken away.
    pub links_removed: u64,
    /// Blobs whose rows were deleted.
    pub blobs_removed: u64,
    /// Content bytes of those blobs.
    pub bytes_freed: u64,
    /// Objects whose bytes were taken away.
    pub objects_removed: u64,
}

impl Report {
    /// True where there was nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

/// The collector; cheap to clone.
#[derive(Debug, Clone)]
pub struct Collector {
    db: Db,
    objects: Objects,
    clock: Clock,
    lifetimes: Lifetimes,
}

impl Collector {
    /// A collector over a database and a byte store.
    #[must_use]
    pub fn new(db: Db, objects: Objects, clock: Clock, lifetimes: Lifetimes) -> Self {
        Self { db, objects, clock, lifetimes }
    }

    /// One pass over everything that is due, in batches, until nothing due is left.
    ///
    /// # Errors
    /// Those of the database and the byte store. What was done stays done.
    pub async fn run(&self) -> Result<Report> {
        self.run_telling(|_| ()).await
    }

    /// As [`Collector::run`]; tells what was done so far after every batch.
    ///
    /// # Errors
    /// As [`Collector::run`].
    pub async fn run_telling(&self, tell: impl Fn(&Report)) -> Result<Report> {
        let mut report = Report::default();
        while self.expire_uploads(&mut report).await? {
            tell(&report);
        }
        while self.review_links(&mut report).await? {
            tell(&report);
        }
        while self.remove_blobs(&mut report).await? {
            tell(&report);
        }
        while self.remove_objects(&mut report).await? {
            tell(&report);
        }
        Ok(report)
    }

    /// As this one, but unused blobs are kept for so many seconds.
    #[must_use]
    pub fn with_grace(&self, grace: i64) -> Self {
        Self { lifetimes: Lifetimes { grace, ..self.lifetimes }, ..self.clone() }
    }

    async fn expire_uploads(&self, report: &mut Report) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let gone = uploads::expire(&mut tx, self.clock.now(), BATCH).await?;
        tx.commit().await?;
        report.uploads_expired += gone;
        Ok(gone > 0)
    }

    async fn review_links(&self, report: &mut Report) -> Result<bool> {
        let now = self.clock.now();
        let mut session = self.db.read().await?;
        let due: Vec<Due> = query_all!(
            session,
            Due,
            "SELECT g.repository_id, g.digest, g.review_after, r.name FROM gc_links g
             LEFT JOIN repositories r ON r.id = g.repository_id
             WHERE g.review_after <= $1 ORDER BY g.review_after LIMIT CAST($2 AS BIGINT)",
            now,
            BATCH,
        )?;
        drop(session);
        let found = due.len();
        let reviews = due.into_iter().map(|link| {
            let this = self.clone();
            async move { this.review(&link, now).await }
        });
        let mut reviews = stream::iter(reviews).buffer_unordered(AT_ONCE);
        while let Some(removed) = reviews.next().await {
            report.links_reviewed += 1;
            report.links_removed += u64::from(removed?);
        }
        Ok(found > 0)
    }

    /// Looks at one link, in a transaction of its own. Returns whether it was taken away.
    async fn review(&self, link: &Due, now: i64) -> Result<bool> {
        let (repository, digest) = (link.repository_id.as_str(), link.digest.as_str());
        let mut tx = self.db.begin().await?;
        let org = blobs::lock_for_unlink(&mut tx, repository, digest).await?;
        let again = match &org {
            // A push to the repository is under way: its blobs wait for the manifest that comes last.
            Some(_) if self.is_pushed_to(&mut tx, link, now).await? => Some(now + PUSHING),
            Some(_) => self.lease(&mut tx, link, now).await?,
            None => None,
        };
        let mut removed = false;
        if let (Some(org), None) = (&org, again) {
            let gone = execute!(
                tx,
                "DELETE FROM blob_links WHERE repository_id = $1 AND digest = $2 AND lease_until < $3
                 AND NOT EXISTS (SELECT 1 FROM manifest_references m WHERE m.repository_id = $1 AND m.target = $2)",
                repository,
                digest,
                now,
            )?;
            removed = gone > 0;
            if removed {
                blobs::doom_if_unlinked(&mut tx, org, digest, now).await?;
            }
        }
        // A link that a manifest holds needs no further review: the manifest's deletion asks for the next.
        match again {
            Some(at) => execute!(
                tx,
                "UPDATE gc_links SET review_after = $3 WHERE repository_id = $1 AND digest = $2 AND review_after < $3",
                repository,
                digest,
                at,
            )?,
            None => execute!(
                tx,
                "DELETE FROM gc_links WHERE repository_id = $1 AND digest = $2 AND review_after = $3",
                repository,
                digest,
                link.review_after,
            )?,
        };
        tx.commit().await?;
        Ok(removed)
    }

    async fn is_pushed_to(&self, session: &mut Session, link: &Due, now: i64) -> Result<bool> {
        let open: Option<(i64,)> = query_opt!(
            session,
            (i64,),
            "SELECT CAST(1 AS BIGINT) FROM uploads WHERE repository = $1 AND expires_at > $2 LIMIT 1",
            link.name.as_deref().unwrap_or_default(),
            now,
        )?;
        Ok(open.is_some())
    }

    /// When to look again at a link whose lease still lasts.
    async fn lease(&self, session: &mut Session, link: &Due, now: i64) -> Result<Option<i64>> {
        let lease: Option<(i64,)> = query_opt!(
            session,
            (i64,),
            "SELECT lease_until FROM blob_links WHERE repository_id = $1 AND digest = $2 AND lease_until >= $3",
            link.repository_id.as_str(),
            link.digest.as_str(),
            now,
        )?;
        Ok(lease.map(|(until,)| until + 1))
    }

    async fn remove_blobs(&self, report: &mut Report) -> Result<bool> {
        let now = self.clock.now();
        let cutoff = now - self.lifetimes.grace;
        let mut session = self.db.read().await?;
        let due: Vec<(String, String)> = query_all!(
            session,
            (String, String),
            "SELECT org_id, digest FROM blobs WHERE doomed_at <= $1 ORDER BY doomed_at LIMIT $2",
            cutoff,
            BATCH,
        )?;
        drop(session);
        let found = due.len();
        let removals = due.into_iter().map(|(org, digest)| {
            let this = self.clone();
            async move { this.remove_blob(&org, &digest, cutoff, now).await }
        });
        let mut removals = stream::iter(removals).buffer_unordered(AT_ONCE);
        while let Some(freed) = removals.next().await {
            if let Some(bytes) = freed? {
                report.blobs_removed += 1;
                report.bytes_freed += bytes;
            }
        }
        Ok(found > 0)
    }

    /// Takes one blob's row away, in a transaction of its own. Returns its bytes, where nothing links to it.
    async fn remove_blob(&self, org: &str, digest: &str, cutoff: i64, now: i64) -> Result<Option<u64>> {
        let mut tx = self.db.begin().await?;
        let removed: Option<(String, i64)> = query_opt!(
            tx,
            (String, i64),
            "DELETE FROM blobs WHERE org_id = $1 AND digest = $2 AND doomed_at <= $3
             AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = $1 AND l.digest = $2)
             RETURNING object_key, size",
            org,
            digest,
            cutoff,
        )?;
        match &removed {
            Some((key, _)) => blobs::discard_object(&mut tx, key, now).await?,
            // It has a link after all: it lives.
            None => {
                execute!(
                    tx,
                    "UPDATE blobs SET doomed_at = NULL WHERE org_id = $1 AND digest = $2 AND doomed_at <= $3",
                    org,
                    digest,
                    cutoff,
                )?;
            }
        }
        tx.commit().await?;
        Ok(removed.map(|(_, size)| size.unsigned_abs()))
    }

    async fn remove_objects(&self, report: &mut Report) -> Result<bool> {
        let now = self.clock.now();
        let mut session = self.db.read().await?;
        // An object that a row names is never taken, whatever put it here.
        let due: Vec<(String,)> = query_all!(
            session,
            (String,),
            "SELECT object_key FROM gc_objects g WHERE delete_after <= $1
             AND NOT EXISTS (SELECT 1 FROM blobs b WHERE b.object_key = g.object_key)
             AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.object_key = g.object_key)
             ORDER BY delete_after LIMIT CAST($2 AS BIGINT)",
            now,
            OBJECTS,
        )?;
        drop(session);
        if due.is_empty() {
            return Ok(false);
        }
        let objects = self.objects.clone();
        let outcomes = tokio::task::spawn_blocking(move || {
            due.into_iter().map(|(key,)| (objects.remove(&key), key)).collect::<Vec<_>>()
        })
        .await
        .map_err(|e| Error::Io { context: "removing objects", source: std::io::Error::other(e) })?;
        let (gone, kept): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(outcome, _)| outcome.is_ok());
        let gone = json_array(gone.into_iter().map(|(_, key)| key))?;
        let mut tx = self.db.begin().await?;
        // As few statements as can be: pushes wait for their turn.
        report.objects_removed += execute_each!(
            tx,
            "DELETE FROM gc_objects WHERE object_key IN (SELECT value FROM json_each($1))",
            "DELETE FROM gc_objects WHERE object_key IN (SELECT jsonb_array_elements_text(CAST($1 AS JSONB)))",
            gone.as_str(),
        )?;
        execute_each!(
            tx,
            "DELETE FROM small_objects WHERE object_key IN (SELECT value FROM json_each($1))",
            "DELETE FROM small_objects WHERE object_key IN (SELECT jsonb_array_elements_text(CAST($1 AS JSONB)))",
            gone.as_str(),
        )?;
        for (outcome, key) in &kept {
            if let Err(error) = outcome {
                tracing::error!(%error, object.key = key, "an object cannot be removed; trying again in an hour");
            }
            let later = "UPDATE gc_objects SET delete_after = $2 WHERE object_key = $1";
            execute!(tx, later, key.as_str(), now + 3600)?;
        }
        tx.commit().await?;
        Ok(true)
    }

    /// What a pass would do now, without doing it. Counts what is due at this moment; a pass may find more, since one
    /// step makes the next one's work.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn dry_run(&self) -> Result<Report> {
        let now = self.clock.now();
        let mut session = self.db.read().await?;
        let uploads_expired = count(
            &mut session,
            "SELECT COUNT(*) FROM uploads WHERE expires_at <= $1 AND (writer IS NULL OR writer_until < $1)",
            now,
        )
        .await?;
        let links_reviewed = count(&mut session, "SELECT COUNT(*) FROM gc_links WHERE review_after <= $1", now).await?;
        let links_removed = count(
            &mut session,
            "SELECT COUNT(*) FROM gc_links g JOIN blob_links l
               ON l.repository_id = g.repository_id AND l.digest = g.digest AND l.lease_until < $1
             WHERE g.review_after <= $1 AND NOT EXISTS (
               SELECT 1 FROM uploads u JOIN repositories r ON r.name = u.repository
               WHERE r.id = g.repository_id AND u.expires_at > $1)
             AND NOT EXISTS (
               SELECT 1 FROM manifest_references m WHERE m.repository_id = g.repository_id AND m.target = g.digest)",
            now,
        )
        .await?;
        let (blobs_removed, bytes_freed): (i64, i64) = query_one!(
            session,
            (i64, i64),
            "SELECT COUNT(*), CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blobs b WHERE doomed_at <= $1
             AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = b.org_id AND l.digest = b.digest)",
            now - self.lifetimes.grace,
        )?;
        let objects_removed =
            count(&mut session, "SELECT COUNT(*) FROM gc_objects WHERE delete_after <= $1", now).await?;
        Ok(Report {
            uploads_expired,
            links_reviewed,
            links_removed,
            blobs_removed: blobs_removed.unsigned_abs(),
            bytes_freed: bytes_freed.unsigned_abs(),
            objects_removed,
        })
    }
}

async fn count(session: &mut Session, sql: &'static str, now: i64) -> Result<u64> {
    let (n,): (i64,) = query_one!(session, (i64,), sql, now)?;
    Ok(n.unsigned_abs())
}

/// Texts as one parameter.
fn json_array(texts: impl Iterator<Item = String>) -> Result<String> {
    serde_json::to_string(&texts.collect::<Vec<_>>()).map_err(|error| Error::Damaged(error.to_string()))
}

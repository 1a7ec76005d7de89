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

use std::time::Instant;

use futures_util::future::try_join_all;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::db::{Db, Session, Tx};
use crate::error::{Error, Result};
use crate::objects::Objects;
use crate::uploads::{self, Lifetimes};
use crate::{blobs, execute, query_all, query_one};

mod pace;
pub mod requests;
mod rows;

use pace::{Pace, Took};

/// Rows that are looked for at a time.
const BATCH: i64 = 200;

/// A link to be looked at: its repository's id, its digest, and from when on.
type Due = (String, String, i64);

/// What a transaction did.
#[derive(Debug, Default)]
struct Done {
    removed: u64,
    bytes: u64,
    took: Took,
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

    /// One pass over everything that is due when it begins, in batches.
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
        // Links that come due meanwhile are for the next pass: with no grace, one that is slower than those who push would never end.
        let begun = self.clock.now();
        let (mut report, mut pace) = (Report::default(), Pace::new(self.db.is_sqlite()));
        while self.expire_uploads(&mut report).await? {
            tell(&report);
        }
        while self.review_links(&mut report, &mut pace, begun).await? {
            tell(&report);
        }
        while self.remove_blobs(&mut report, &mut pace).await? {
            tell(&report);
        }
        while self.remove_objects(&mut report, &mut pace).await? {
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

    async fn review_links(&self, report: &mut Report, pace: &mut Pace, begun: i64) -> Result<bool> {
        let now = self.clock.now();
        let mut session = self.db.read().await?;
        let due: Vec<Due> = query_all!(
            session,
            Due,
            "SELECT repository_id, digest, review_after FROM gc_links
             WHERE review_after <= $1 ORDER BY review_after LIMIT CAST($2 AS BIGINT)",
            begun,
            BATCH,
        )?;
        drop(session);
        let mut rest = due.as_slice();
        while !rest.is_empty() {
            let (links, later) = pace.next(rest);
            let reviews = links.chunks(pace.together()).map(|links| self.review(links, now));
            for done in try_join_all(reviews).await? {
                report.links_removed += done.removed;
                tokio::time::sleep(pace.rest(links.len(), &done.took)).await;
            }
            report.links_reviewed += links.len() as u64;
            rest = later;
        }
        Ok(!due.is_empty())
    }

    /// Looks at some links, in one transaction: blobs, links, queue, as everybody does (see [`blobs::lock_for_unlink`]). Where
    /// there are several writers, it is one link.
    async fn review(&self, links: &[Due], now: i64) -> Result<Done> {
        let mut turn = Turn::begin(&self.db).await?;
        if !self.db.is_sqlite() {
            for (repository, digest, _) in links {
                blobs::lock_for_unlink(&mut turn.tx, repository, digest).await?;
            }
        }
        let removed = rows::review(&mut turn.tx, links, now).await?;
        Ok(Done { removed, bytes: 0, took: turn.end().await? })
    }

    async fn remove_blobs(&self, report: &mut Report, pace: &mut Pace) -> Result<bool> {
        let now = self.clock.now();
        let cutoff = self.lifetimes.doomed_before(now);
        let mut session = self.db.read().await?;
        let due: Vec<(String, String)> = query_all!(
            session,
            (String, String),
            "SELECT org_id, digest FROM blobs WHERE doomed_at <= $1 ORDER BY doomed_at LIMIT CAST($2 AS BIGINT)",
            cutoff,
            BATCH,
        )?;
        drop(session);
        let mut rest = due.as_slice();
        while !rest.is_empty() {
            let (doomed, later) = pace.next(rest);
            let removals = doomed.chunks(pace.together()).map(|doomed| self.remove_rows(doomed, cutoff, now));
            for done in try_join_all(removals).await? {
                report.blobs_removed += done.removed;
                report.bytes_freed += done.bytes;
                tokio::time::sleep(pace.rest(doomed.len(), &done.took)).await;
            }
            rest = later;
        }
        Ok(!due.is_empty())
    }

    /// Takes away the rows of blobs that nothing links to, in one transaction; the others live.
    async fn remove_rows(&self, doomed: &[(String, String)], cutoff: i64, now: i64) -> Result<Done> {
        let mut turn = Turn::begin(&self.db).await?;
        let sizes = rows::remove_blobs(&mut turn.tx, doomed, cutoff, now).await?;
        let bytes = sizes.iter().fold(0, |sum: u64, size| sum.saturating_add(size.unsigned_abs()));
        Ok(Done { removed: sizes.len() as u64, bytes, took: turn.end().await? })
    }

    async fn remove_objects(&self, report: &mut Report, pace: &mut Pace) -> Result<bool> {
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
            pace.objects(),
        )?;
        drop(session);
        if due.is_empty() {
            return Ok(false);
        }
        let found = due.len();
        let objects = self.objects.clone();
        let outcomes = tokio::task::spawn_blocking(move || {
            due.into_iter().map(|(key,)| (objects.remove(&key), key)).collect::<Vec<_>>()
        })
        .await
        .map_err(|e| Error::Io { context: "removing objects", source: std::io::Error::other(e) })?;
        let (gone, kept): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|(outcome, _)| outcome.is_ok());
        let gone: Vec<String> = gone.into_iter().map(|(_, key)| key).collect();
        let mut turn = Turn::begin(&self.db).await?;
        report.objects_removed += rows::forget_objects(&mut turn.tx, &gone).await?;
        for (outcome, key) in &kept {
            if let Err(error) = outcome {
                tracing::error!(%error, object.key = key, "an object cannot be removed; trying again in an hour");
            }
            let later = "UPDATE gc_objects SET delete_after = $2 WHERE object_key = $1";
            execute!(turn.tx, later, key.as_str(), now + 3600)?;
        }
        tokio::time::sleep(pace.rest(found, &turn.end().await?)).await;
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
            self.lifetimes.doomed_before(now),
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

/// A transaction of the collector's, on the clock.
struct Turn {
    tx: Tx,
    asked: Instant,
    began: Instant,
    number: u64,
}

impl Turn {
    async fn begin(db: &Db) -> Result<Self> {
        let asked = Instant::now();
        let tx = db.begin().await?;
        Ok(Self { tx, asked, began: Instant::now(), number: db.turns() })
    }

    async fn end(self) -> Result<Took> {
        let (waited, held) = (self.began - self.asked, self.began.elapsed());
        self.tx.commit().await?;
        Ok(Took { waited, held, whole: self.asked.elapsed(), number: self.number })
    }
}

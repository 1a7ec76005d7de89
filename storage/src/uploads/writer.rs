//! The writing side of one upload session.

use std::thread::JoinHandle;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::{Active, CLAIM, Stage, Upload, Uploads, insert};
use crate::blobs::{self, NewBlob};
use crate::db::Tx;
use crate::digest::{Hasher, digest_of};
use crate::error::{Error, Result};
use crate::names::{Algorithm, Digest, RepoName};
use crate::objects::{ObjectWriter, Objects, Trailer};
use crate::{execute, repositories};

/// Bytes gathered before they go to a blocking thread to be hashed and written.
const BATCH: usize = 1 << 20;
/// Pieces shorter than this are copied together.
const SMALL: usize = 16 * 1024;
/// Bytes after which the disk is asked to begin writing, while more come.
const EARLY: u64 = 16 << 20;
/// Bytes between checkpoints of a long stream, so that a crash loses no more.
const CHECKPOINT: u64 = 64 << 20;
/// A write begins only while the claim still lasts this long.
const MARGIN: Duration = Duration::from_secs(15);

/// The right to write one upload session, until it is released, committed or dropped.
#[derive(Debug)]
pub struct Writer {
    uploads: Uploads,
    row: Upload,
    /// What the row calls this writer; nothing where one process serves, which knows its own.
    claim: Option<String>,
    claimed_at: Instant,
    active: Active,
    pending: Vec<Bytes>,
    /// Bytes went to a blocking thread, and so perhaps to the object.
    flushed: bool,
    /// Small pieces, copied together: each piece of its own would keep a whole receive buffer alive.
    tail: BytesMut,
    pending_bytes: usize,
    /// Bytes taken in by [`Writer::write`], flushed or not, since the session began.
    accepted: u64,
    began_at: u64,
    /// A commit failed in a way that does not tell whether it happened: a row may count on bytes behind `received`.
    in_doubt: bool,
    /// What a blocking thread works on now, or last left behind.
    sink: Sink,
}

/// The object and the digest, which travel to a blocking thread and back.
#[derive(Debug)]
enum Sink {
    Idle(Option<Box<Open>>),
    Busy(tokio::task::JoinHandle<Result<Box<Open>>>),
}

#[derive(Debug)]
struct Open {
    object: ObjectWriter,
    hasher: Hasher,
    /// A sync of what was written before, which runs beside the writing.
    early: Option<JoinHandle<Result<()>>>,
    /// Bytes written since it began.
    unsynced: u64,
}

impl Open {
    /// Hashes and writes, on two cores where there are so many to spare.
    fn take(&mut self, batch: &[Bytes], spread: bool) -> Result<()> {
        let Self { object, hasher, early, unsynced } = self;
        if spread && batch.iter().map(Bytes::len).sum::<usize>() >= BATCH / 2 {
            std::thread::scope(|scope| {
                scope.spawn(|| batch.iter().for_each(|bytes| hasher.update(bytes)));
                object.write(batch)
            })?;
        } else {
            batch.iter().for_each(|bytes| hasher.update(bytes));
            object.write(batch)?;
        }
        *unsynced += batch.iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        if *unsynced >= EARLY && early.as_ref().is_none_or(JoinHandle::is_finished) {
            self.hear_early()?;
            let sync = self.object.early_sync()?;
            self.unsynced = 0;
            self.early = Some(std::thread::spawn(move || sync.run()));
        }
        Ok(())
    }

    /// Waits for the sync that runs beside, if one does. Its failure counts: the system may tell of an error only once.
    fn hear_early(&mut self) -> Result<()> {
        let Some(early) = self.early.take() else { return Ok(()) };
        early.join().unwrap_or_else(|_| {
            Err(Error::Io { context: "a syncing thread ended early", source: std::io::Error::other("panic") })
        })
    }
}

/// Where a finished upload goes.
#[derive(Debug)]
pub struct Target<'a> {
    /// The repository, which is made if it is not there.
    pub repository: &'a RepoName,
    /// The digest that the client says the content has.
    pub digest: &'a Digest,
}

/// How a commit ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Committed {
    /// The blob is durable and readable in the repository; the session is gone.
    Done {
        /// Its length in bytes.
        size: u64,
    },
    /// The content has another digest. The session stands where its last checkpoint was.
    DigestMismatch {
        /// The digest that the content has.
        computed: Digest,
    },
}

impl Writer {
    pub(super) fn new(uploads: Uploads, row: Upload, claim: Option<String>, active: Active) -> Result<Self> {
        let accepted = u64::try_from(row.received).map_err(|_| Error::Damaged("an upload's length".into()))?;
        // They are to be written as if they came now.
        let tail = BytesMut::from(row.content.as_deref().unwrap_or_default());
        Ok(Self {
            uploads,
            row,
            claim,
            claimed_at: Instant::now(),
            active,
            pending: Vec::new(),
            flushed: false,
            pending_bytes: tail.len(),
            tail,
            accepted,
            began_at: accepted,
            in_doubt: false,
            sink: Sink::Idle(None),
        })
    }

    /// The session's row as of the last checkpoint.
    #[must_use]
    pub fn upload(&self) -> &Upload {
        &self.row
    }

    /// Bytes taken in so far, durable or not.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Bytes that are durable.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.row.received.unsigned_abs()
    }

    /// Bytes that were durable when this writer took the session.
    #[must_use]
    pub fn began_at(&self) -> u64 {
        self.began_at
    }

    /// Ends when a newer request asks for the session: this one should checkpoint and release.
    pub async fn superseded(&mut self) {
        // An error means that the registry of writers is gone, as at shutdown: not a reason to stop.
        if self.active.stop.wait_for(|stop| *stop).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Takes in the next bytes. They are hashed and written behind the caller's back, one batch at a time.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Io`] from this or an earlier batch; [`Error::Conflict`] where the claim was lost.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        self.accepted += bytes.len() as u64;
        self.pending_bytes += bytes.len();
        if bytes.len() < SMALL {
            self.tail.extend_from_slice(&bytes);
        } else {
            self.gather_tail();
            self.pending.push(bytes);
        }
        if self.pending_bytes >= BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    fn gather_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pending.push(self.tail.split().freeze());
        }
    }

    /// True where so much was taken in since the last checkpoint that a long stream should make one.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        self.accepted - self.received() >= CHECKPOINT
    }

    /// Hands the pending bytes to a blocking thread, once it is done with the batch before.
    async fn flush(&mut self) -> Result<()> {
        let open = self.settle().await?;
        self.keep_claim().await?;
        self.gather_tail();
        let batch = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        self.flushed = true;
        let opening = self.opening();
        let spread = self.uploads.has_idle_cores();
        self.sink = Sink::Busy(tokio::task::spawn_blocking(move || {
            let mut open = opening.or_open(open)?;
            open.take(&batch, spread)?;
            Ok(open)
        }));
        Ok(())
    }

    /// Waits for the blocking thread.
    async fn settle(&mut self) -> Result<Option<Box<Open>>> {
        match std::mem::replace(&mut self.sink, Sink::Idle(None)) {
            Sink::Idle(open) => Ok(open),
            Sink::Busy(task) => Ok(Some(joined(task.await)?)),
        }
    }

    /// Flushes, waits, and returns the open object.
    async fn settled(&mut self) -> Result<Box<Open>> {
        self.flush().await?;
        // After a flush there always is one.
        self.settle().await?.ok_or(Error::Conflict("the upload is closed"))
    }

    /// Durable bytes in the object.
    fn in_object(&self) -> u64 {
        if self.row.content.is_some() { 0 } else { self.received() }
    }

    /// All bytes of the session, where they are few and none is in the object: then they go to the database.
    fn few(&self) -> Option<Vec<u8>> {
        let few = !self.flushed && self.in_object() == 0 && self.accepted <= self.uploads.0.few;
        few.then(|| self.pending.iter().chain([&self.tail.clone().freeze()]).flatten().copied().collect())
    }

    fn opening(&self) -> Opening {
        Opening {
            objects: self.uploads.0.objects.clone(),
            key: self.row.object_key.clone(),
            received: self.in_object(),
            algorithm: self.row.algorithm.clone(),
            hash_state: self.row.hash_state.clone(),
        }
    }

    /// Renews the claim where it is about to run out.
    async fn keep_claim(&mut self) -> Result<()> {
        if lasts(self.claimed_at) {
            return Ok(());
        }
        if self.row.unstored {
            return Box::pin(self.store()).await;
        }
        let started = Instant::now();
        let now = self.uploads.0.clock.now();
        let mut tx = self.uploads.0.db.begin().await?;
        let kept = execute!(
            tx,
            "UPDATE uploads SET writer_until = $3, expires_at = $4
             WHERE id = $1 AND writer IS NOT DISTINCT FROM $2 AND expires_at > 0",
            self.row.id.as_str(),
            self.claim.as_deref(),
            now + CLAIM,
            now + self.uploads.0.lifetimes.upload_idle,
        )?;
        tx.commit().await?;
        self.claimed_at = started;
        if kept == 0 { Err(Error::Conflict("the upload was taken over by another request")) } else { Ok(()) }
    }

    /// Writes the row of a session that takes long, so that others know that it is under way.
    async fn store(&mut self) -> Result<()> {
        self.claimed_at = Instant::now();
        let row = Upload {
            expires_at: self.uploads.0.clock.now() + self.uploads.0.lifetimes.upload_idle,
            unstored: false,
            ..self.row.clone()
        };
        let mut tx = self.uploads.0.db.begin().await?;
        if !insert(&mut tx, &row).await? {
            return Err(Error::Conflict("the upload was taken over by another request"));
        }
        self.certain(tx.commit().await)?;
        self.uploads.note(&row.id, Stage::Stored);
        self.row = row;
        Ok(())
    }

    /// Makes all bytes taken in so far durable and moves the acknowledged byte behind them. Returns where it stands.
    ///
    /// # Errors
    /// As [`Writer::write`]; then the acknowledged byte has not moved.
    pub async fn checkpoint(&mut self) -> Result<u64> {
        if self.accepted == self.received() {
            return Ok(self.received());
        }
        let claim = self.claim.clone();
        self.advance(claim.as_deref()).await
    }

    /// A last checkpoint that lets the session go in the same transaction. Returns where the acknowledged byte stands.
    ///
    /// # Errors
    /// As [`Writer::checkpoint`].
    pub async fn close(mut self) -> Result<u64> {
        if self.accepted == self.received() {
            let received = self.received();
            self.release().await?;
            return Ok(received);
        }
        let outcome = self.advance(None).await;
        if outcome.is_err() {
            self.release().await?;
        }
        outcome
    }

    /// Syncs the object, then moves the acknowledged byte; `next` is the claim that the row has from then on.
    async fn advance(&mut self, next: Option<&str>) -> Result<u64> {
        let few = self.few();
        let (open, received, hash_state) = if few.is_some() {
            (None, self.accepted, None)
        } else {
            let open = self.synced().await?;
            let (written, state) = (open.object.written(), open.hasher.save());
            (Some(open), written, Some(state))
        };
        self.keep_claim().await?;
        let mut moved = Upload {
            received: i64::try_from(received).map_err(|_| Error::Damaged("an upload's length".into()))?,
            hash_state,
            content: few,
            expires_at: self.uploads.0.clock.now() + self.uploads.0.lifetimes.upload_idle,
            ..self.row.clone()
        };
        let mut tx = self.uploads.0.db.begin().await?;
        if !self.move_to(&mut tx, &moved, next).await? {
            return Err(Error::Conflict("the upload was taken over by another request"));
        }
        self.certain(tx.commit().await)?;
        if std::mem::take(&mut moved.unstored) {
            self.uploads.note(&moved.id, Stage::Stored);
        }
        self.row = moved;
        self.sink = Sink::Idle(open);
        Ok(self.received())
    }

    /// The object, with all bytes taken in so far in it and durable.
    async fn synced(&mut self) -> Result<Box<Open>> {
        let mut open = self.settled().await?;
        joined(
            tokio::task::spawn_blocking(move || {
                open.hear_early()?;
                open.object.sync()?;
                open.unsynced = 0;
                Ok(open)
            })
            .await,
        )
    }

    /// Writes how far the session has come; `next` is the claim that the row has from then on. False where it is not ours.
    async fn move_to(&self, tx: &mut Tx, moved: &Upload, next: Option<&str>) -> Result<bool> {
        if moved.unstored {
            return insert(tx, moved).await;
        }
        let moved = execute!(
            tx,
            "UPDATE uploads SET received = $3, hash_state = $4, expires_at = $5, writer = $6, content = $7
             WHERE id = $1 AND writer IS NOT DISTINCT FROM $2 AND expires_at > 0",
            moved.id.as_str(),
            self.claim.as_deref(),
            moved.received,
            moved.hash_state.as_deref(),
            moved.expires_at,
            next,
            moved.content.as_deref(),
        )?;
        Ok(moved > 0)
    }

    /// Lets the session go, with its acknowledged byte where the last checkpoint left it.
    ///
    /// # Errors
    /// Those of the database; then the claim runs out by itself.
    pub async fn release(mut self) -> Result<()> {
        self.cut().await;
        if self.claim.is_none() {
            return Ok(());
        }
        let mut tx = self.uploads.0.db.begin().await?;
        execute!(
            tx,
            "UPDATE uploads SET writer = NULL WHERE id = $1 AND writer IS NOT DISTINCT FROM $2",
            self.row.id.as_str(),
            self.claim.as_deref(),
        )?;
        tx.commit().await
    }

    /// Takes back the room of bytes that were not acknowledged, before anything is written to the database, which may be
    /// waiting for just that room. The object's lock makes sure that they are ours; where it is lost, the claim does.
    async fn cut(&mut self) {
        let received = self.in_object();
        // A blocking thread may still be writing: the next claim must not begin before it ends.
        let open = match self.settle().await {
            Ok(Some(open)) => Some(open),
            Ok(None) if !self.flushed => return,
            // Writing failed, and took the object along: open it anew, which cuts it.
            _ => None,
        };
        if self.in_doubt {
            return;
        }
        let opening = self.opening();
        let unstored = self.row.unstored;
        let (claimed, claimed_at) = (self.claim.is_some(), self.claimed_at);
        let cut = tokio::task::spawn_blocking(move || match open {
            // No row names it: whoever writes next takes another object.
            _ if unstored => opening.objects.remove(&opening.key),
            Some(mut open) => {
                // It holds the object's lock as well.
                if let Err(error) = open.hear_early() {
                    tracing::debug!(%error, "an early sync failed");
                }
                if open.object.written() > received { open.object.truncate(received) } else { Ok(()) }
            }
            // Somebody else may be writing, or have made a blob of it: the next claim cuts.
            None if claimed && !lasts(claimed_at) => Ok(()),
            None => opening.objects.append(&opening.key, received).map(drop),
        });
        if let Err(error) = joined(cut.await) {
            tracing::debug!(%error, upload.id = self.row.id, "unacknowledged bytes stay until the upload is resumed or ends");
        }
    }

    /// Checks the digest, makes the bytes durable, and turns the session into a blob of the repository. The session is
    /// released where the digest is another.
    ///
    /// # Errors
    /// As [`Writer::write`]; then the session stands where its last checkpoint was.
    pub async fn commit(mut self, target: &Target<'_>) -> Result<Committed> {
        match self.try_commit(target).await {
            Ok(done @ Committed::Done { .. }) => Ok(done),
            other => {
                self.release().await?;
                other
            }
        }
    }

    async fn try_commit(&mut self, target: &Target<'_>) -> Result<Committed> {
        if let Some(content) = self.few() {
            let computed = digest_of(target.digest.algorithm(), &content);
            if &computed != target.digest {
                return Ok(Committed::DigestMismatch { computed });
            }
            self.keep_claim().await?;
            self.record(target, self.accepted, Some(&content)).await?;
            return Ok(Committed::Done { size: self.accepted });
        }
        let open = self.settle().await?;
        self.keep_claim().await?;
        self.gather_tail();
        let last = Last {
            open,
            opening: self.opening(),
            batch: std::mem::take(&mut self.pending),
            spread: self.uploads.has_idle_cores(),
        };
        self.pending_bytes = 0;
        self.flushed = true;
        let (org, wanted) = (self.row.org_id.clone(), target.digest.clone());
        let (open, computed) = joined(tokio::task::spawn_blocking(move || last.seal(org, &wanted)).await)?;
        if &computed != target.digest {
            self.sink = Sink::Idle(Some(open));
            return Ok(Committed::DigestMismatch { computed });
        }
        let size = open.object.written();
        // It stays open, and so locked, until the session is a blob.
        self.sink = Sink::Idle(Some(open));
        self.keep_claim().await?;
        self.record(target, size, None).await?;
        Ok(Committed::Done { size })
    }

    /// The one transaction that makes a session a blob.
    async fn record(&mut self, target: &Target<'_>, size: u64, content: Option<&[u8]>) -> Result<()> {
        let shared = self.uploads.0.clone();
        let now = shared.clock.now();
        let row = &self.row;
        let size = i64::try_from(size).map_err(|_| Error::Damaged("an upload's length".into()))?;
        let blob = NewBlob { org_id: &row.org_id, digest: target.digest, size, object_key: &row.object_key, content };
        let (lease, discard) = (now + shared.lifetimes.grace, now + shared.lifetimes.discard);
        let place = (row.project_id.as_str(), target.repository);
        let mut tx = match blobs::begin_created(&shared.db, &blob, place, now, (lease, discard)).await? {
            Some(tx) => tx,
            None => {
                let mut tx = shared.db.begin().await?;
                let repository =
                    repositories::ensure(&mut tx, &row.org_id, &row.project_id, target.repository, now).await?;
                // Both lock the row, and both have cleared whatever kept it from being linked.
                blobs::create(&mut tx, &blob, now, discard).await?;
                blobs::link_own(&mut tx, &repository.id, &row.org_id, target.digest, lease).await?;
                tx
            }
        };
        if !row.unstored {
            let ours = execute!(
                tx,
                "DELETE FROM uploads WHERE id = $1 AND writer IS NOT DISTINCT FROM $2 AND expires_at > 0",
                row.id.as_str(),
                self.claim.as_deref()
            )?;
            if ours == 0 {
                return Err(Error::Conflict("the upload was taken over by another request"));
            }
        }
        self.certain(tx.commit().await)?;
        // Before the session is let go: whoever waits for it must find it ended.
        self.uploads.note(&self.row.id, Stage::Ended);
        Ok(())
    }

    /// Notes where a commit's failure leaves open whether it happened, as when the connection is lost. A full disk does not.
    fn certain(&mut self, outcome: Result<()>) -> Result<()> {
        if matches!(&outcome, Err(error) if !matches!(error, Error::NoSpace(_))) {
            self.in_doubt = true;
            // Whoever takes the session up next must look for a row.
            self.uploads.note(&self.row.id, Stage::Stored);
        }
        outcome
    }

    /// As after a commit whose connection was lost.
    #[cfg(test)]
    pub(crate) fn doubt(&mut self) {
        let _ = self.certain(Err(Error::Conflict("the connection was lost")));
    }

    /// As after a write that failed, and so long ago that the claim has run out.
    #[cfg(test)]
    pub(crate) async fn fail_and_wait(&mut self) {
        drop(self.settle().await);
        self.sink = Sink::Busy(tokio::spawn(async { Err(Error::NoSpace("a test")) }));
        self.claimed_at = Instant::now() - Duration::from_secs(CLAIM.unsigned_abs());
    }
}

/// What it takes to open a session's object on a blocking thread.
struct Opening {
    objects: Objects,
    key: String,
    received: u64,
    algorithm: String,
    hash_state: Option<Vec<u8>>,
}

impl Opening {
    fn or_open(&self, open: Option<Box<Open>>) -> Result<Box<Open>> {
        if let Some(open) = open {
            return Ok(open);
        }
        let hasher = match &self.hash_state {
            Some(state) => Hasher::restore(state, self.received)?,
            None => {
                let algorithm: Algorithm =
                    self.algorithm.parse().map_err(|_| Error::Damaged("an upload's digest algorithm".into()))?;
                Hasher::new(algorithm)
            }
        };
        let object = self.objects.append(&self.key, self.received)?;
        Ok(Box::new(Open { object, hasher, early: None, unsynced: 0 }))
    }
}

/// The last of a session's bytes, and what was written before.
struct Last {
    open: Option<Box<Open>>,
    opening: Opening,
    batch: Vec<Bytes>,
    spread: bool,
}

impl Last {
    /// Writes the rest and says which digest the whole has; where it is the one that is wanted, makes it durable. Blocks.
    fn seal(self, org: String, wanted: &Digest) -> Result<(Box<Open>, Digest)> {
        let mut open = self.opening.or_open(self.open)?;
        open.take(&self.batch, self.spread)?;
        let computed = computed(&open, wanted.algorithm())?;
        if &computed == wanted {
            open.hear_early()?;
            let size = open.object.written();
            open.object.seal(&Trailer { org, digest: computed.to_string(), size })?;
        }
        Ok((open, computed))
    }
}

/// The digest of what was written. Blocks.
fn computed(open: &Open, algorithm: Algorithm) -> Result<Digest> {
    if open.hasher.algorithm() == algorithm {
        return Ok(open.hasher.clone().finish());
    }
    // The client named another algorithm only now: read the bytes once more.
    let mut hasher = Hasher::new(algorithm);
    let reader = open.object.reader()?;
    let mut buffer = vec![0u8; BATCH];
    let mut offset = 0;
    while offset < open.object.written() {
        let length = usize::try_from(open.object.written() - offset).unwrap_or(BATCH).min(BATCH);
        reader.read_at(&mut buffer[..length], offset)?;
        hasher.update(&buffer[..length]);
        offset += length as u64;
    }
    Ok(hasher.finish())
}

/// Whether a claim lasts for long enough that a write may begin.
fn lasts(claimed_at: Instant) -> bool {
    claimed_at.elapsed() + MARGIN < Duration::from_secs(CLAIM.unsigned_abs())
}

fn joined<T>(outcome: std::result::Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| {
        Err(Error::Io { context: "a writing thread ended early", source: std::io::Error::other(error) })
    })
}

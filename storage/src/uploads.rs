//! Upload sessions: how a stream becomes a blob.
//!
//! A session begins without a row: its URL says all that there is to it, and outlives any crash. From its first durable
//! byte (on `PostgreSQL` from its first claim) it is a row that says how many bytes are durable in which object, and the
//! digest's state after them. Any process may take a session up: [`Uploads::claim`] gives one request at a time the right to
//! write ([`Writer`]), a newer request of the same process at once, one of another process when the older one's claim runs out
//! (on `SQLite` one process serves, and no claim is written). Only
//! [`Writer::checkpoint`] moves the acknowledged byte; what lies behind it is cut off by the next claim.

mod recent;
mod writer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;
use crate::db::{Db, Session, Tx};
use crate::error::{Error, Result};
use crate::names::{Algorithm, new_id};
use crate::objects::Objects;
use crate::{blobs, execute, query_all, query_opt};

use self::recent::{Recent, Stage};
pub use self::writer::{Committed, Target, Writer};

/// How long a claim lasts unless it is renewed, in seconds.
const CLAIM: i64 = 30;
/// Most sessions that one user may have open which hold bytes or are being written.
pub const MAX_OPEN: i64 = 5_000;
/// How long a request waits for another one's claim on the same session to end.
const PATIENCE: Duration = Duration::from_secs(35);

/// Cores of this machine; asking the system takes several calls.
static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// An upload session as its row has it, or as its URL does.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Upload {
    /// Opaque id, which nobody can guess.
    pub id: String,
    /// The organization that the bytes will belong to.
    pub org_id: String,
    /// The project.
    pub project_id: String,
    /// Canonical name of the repository.
    pub repository: String,
    /// Who began it.
    pub user_id: String,
    /// The API key it was begun with, if any.
    pub api_key_id: Option<String>,
    /// The principal's epochs when it was begun.
    pub epochs: String,
    /// The object that the bytes go to.
    pub object_key: String,
    /// Durable bytes.
    pub received: i64,
    /// Digest algorithm that is computed while streaming.
    pub algorithm: String,
    /// The digest's state after `received` bytes; none before the first in the object.
    pub hash_state: Option<Vec<u8>>,
    /// The bytes received, while they are few; then the object has none.
    pub content: Option<Vec<u8>>,
    /// The claim of the request that may write, if any.
    pub writer: Option<String>,
    /// When that claim runs out (unix seconds).
    pub writer_until: i64,
    /// When it was begun (unix seconds).
    pub created_at: i64,
    /// When it is given up unless it makes progress (unix seconds).
    pub expires_at: i64,
    /// There is no row yet: nothing of it is durable but its URL.
    #[sqlx(skip)]
    pub unstored: bool,
}

/// A session to begin.
#[derive(Debug)]
pub struct NewUpload<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// The project.
    pub project_id: &'a str,
    /// Canonical name of the repository.
    pub repository: &'a str,
    /// Who begins it.
    pub user_id: &'a str,
    /// The API key it is begun with, if any.
    pub api_key_id: Option<&'a str>,
    /// The principal's epochs.
    pub epochs: &'a str,
    /// Digest algorithm to compute while streaming.
    pub algorithm: Algorithm,
}

/// How long things live, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// How long a blob that nothing refers to is kept, counted from when somebody was last told that it is there.
    pub grace: i64,
    /// How long an upload session that makes no progress is kept.
    pub upload_idle: i64,
    /// How long a replaced object's bytes are kept for those who are reading them.
    pub discard: i64,
}

impl Default for Lifetimes {
    fn default() -> Self {
        Self { grace: 24 * 3600, upload_idle: 24 * 3600, discard: 900 }
    }
}

impl Lifetimes {
    /// A blob that has been unused since this time or longer may go at `now`. Seconds are cut off: one more is the whole grace.
    pub(crate) fn doomed_before(&self, now: i64) -> i64 {
        now - self.grace - i64::from(self.grace > 0)
    }
}

/// The upload sessions of this process and the store behind them; cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    objects: Objects,
    clock: Clock,
    lifetimes: Lifetimes,
    /// Blobs of at most so many bytes go to the database.
    few: u64,
    /// Sessions that a request of this process writes now; sending `true` asks it to stop.
    active: Mutex<HashMap<String, Holder>>,
    /// What became of the sessions that this process began last.
    recent: Mutex<Recent>,
    /// Numbers requests in the order in which they came.
    tickets: AtomicU64,
}

/// The request of this process that writes a session.
#[derive(Debug, Clone)]
struct Holder {
    ticket: u64,
    stop: watch::Sender<bool>,
}

impl Uploads {
    /// Upload sessions over a database and a byte store.
    #[must_use]
    pub fn new(db: Db, objects: Objects, clock: Clock, lifetimes: Lifetimes) -> Self {
        Self(Arc::new(Shared {
            db,
            objects,
            clock,
            lifetimes,
            few: blobs::IN_DATABASE,
            active: Mutex::default(),
            recent: Mutex::default(),
            tickets: AtomicU64::new(0),
        }))
    }

    /// As [`Uploads::new`], but every blob is an object.
    #[cfg(test)]
    pub(crate) fn into_objects(db: Db, objects: Objects, clock: Clock, lifetimes: Lifetimes) -> Self {
        let mut uploads = Self::new(db, objects, clock, lifetimes);
        if let Some(shared) = Arc::get_mut(&mut uploads.0) {
            shared.few = 0;
        }
        uploads
    }

    /// How long things live.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        self.0.lifetimes
    }

    /// Begins a session, which the answer's URL alone remembers until it is written.
    #[must_use]
    pub fn begin(&self, new: &NewUpload<'_>) -> Upload {
        let upload = self.as_begun(new_id(), new, self.0.clock.now());
        self.note(&upload.id, Stage::Begun);
        upload
    }

    /// A session as it was when it began, put together from its URL.
    #[must_use]
    pub fn as_begun(&self, id: String, new: &NewUpload<'_>, created_at: i64) -> Upload {
        Upload {
            id,
            org_id: new.org_id.to_owned(),
            project_id: new.project_id.to_owned(),
            repository: new.repository.to_owned(),
            user_id: new.user_id.to_owned(),
            api_key_id: new.api_key_id.map(ToOwned::to_owned),
            epochs: new.epochs.to_owned(),
            // Whoever writes it first names its object: two that did not know of each other must not share one.
            object_key: String::new(),
            received: 0,
            algorithm: new.algorithm.as_str().to_owned(),
            hash_state: None,
            content: None,
            writer: None,
            writer_until: 0,
            created_at,
            expires_at: created_at.saturating_add(self.0.lifetimes.upload_idle),
            unstored: true,
        }
    }

    /// Finds a session that has not expired by its row.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(&self, id: &str) -> Result<Option<Upload>> {
        let mut session = self.0.db.read().await?;
        let found = find(&mut session, id).await?;
        Ok(found.filter(|u| u.expires_at > self.0.clock.now()))
    }

    /// A session as it is now that was `begun` so. A session without a row that this process did not end, or whose end it
    /// has forgotten, counts as one that nobody wrote: to write it again does no harm.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn resume(&self, begun: Upload) -> Result<Option<Upload>> {
        let stage = self.stage(&begun.id);
        // The one process that serves a database of SQLite knows that no row was written.
        let is_new = stage == Some(Stage::Begun) && self.0.db.is_sqlite();
        if !is_new && let Some(row) = self.find(&begun.id).await? {
            return Ok(Some(row));
        }
        let alive = stage != Some(Stage::Ended) && begun.unstored && begun.expires_at > self.0.clock.now();
        Ok(alive.then_some(begun))
    }

    fn stage(&self, id: &str) -> Option<Stage> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner).stage(id)
    }

    /// Notes what became of a session. Returns what was known of it before.
    fn note(&self, id: &str, stage: Stage) -> Option<Stage> {
        self.0.recent.lock().unwrap_or_else(PoisonError::into_inner).note(id, stage)
    }

    /// Takes the right to write a session. A request of this process that holds it is asked to stop and waited for.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such session; [`Error::Conflict`] where a request of another process holds
    /// it and does not let go, or the user has [`MAX_OPEN`] sessions.
    pub async fn claim(&self, upload: &Upload) -> Result<Writer> {
        let id = upload.id.as_str();
        let deadline = Instant::now() + PATIENCE;
        let ticket = self.0.tickets.fetch_add(1, Ordering::Relaxed);
        let active = loop {
            match self.try_enter(id, ticket) {
                Ok(active) => break active,
                // Whoever came later knows better what its client wants: never push it out.
                Err(holder) if holder.ticket > ticket => {
                    return Err(Error::Conflict("a newer request is writing this upload"));
                }
                Err(Holder { stop: holder, .. }) => {
                    holder.send_replace(true);
                    // The holder drops its receiver when it has let go.
                    if timeout(PATIENCE, holder.closed()).await.is_err() || Instant::now() > deadline {
                        return Err(Error::Conflict("another request is writing this upload"));
                    }
                }
            }
        };
        if self.0.db.is_sqlite() {
            // The one process that serves has just noted who writes.
            let mut upload = self.resume(upload.clone()).await?.ok_or(Error::NotFound("upload"))?;
            if upload.unstored {
                upload.object_key = new_id();
            }
            return Writer::new(self.clone(), upload, None, active);
        }
        let claim = new_id();
        loop {
            if let Some(row) = self.try_claim(upload, &claim).await? {
                return Writer::new(self.clone(), row, Some(claim), active);
            }
            if Instant::now() > deadline {
                return Err(Error::Conflict("another request is writing this upload"));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Writes a claim into the session's row, or writes the row. `None` where another holds it.
    async fn try_claim(&self, upload: &Upload, claim: &str) -> Result<Option<Upload>> {
        let now = self.0.clock.now();
        let mut tx = self.0.db.begin().await?;
        let claimed: Option<Upload> = query_opt!(
            tx,
            Upload,
            "UPDATE uploads SET writer = $2, writer_until = $3
             WHERE id = $1 AND expires_at > $4 AND (writer IS NULL OR writer_until < $4) RETURNING *",
            upload.id.as_str(),
            claim,
            now + CLAIM,
            now,
        )?;
        if claimed.is_some() {
            tx.commit().await?;
            return Ok(claimed);
        }
        match find(&mut tx, &upload.id).await? {
            Some(row) if row.expires_at > now => return Ok(None),
            Some(_) => return Err(Error::NotFound("upload")),
            None if !upload.unstored || upload.expires_at <= now || self.stage(&upload.id) == Some(Stage::Ended) => {
                return Err(Error::NotFound("upload"));
            }
            None => {}
        }
        let row = Upload {
            object_key: new_id(),
            writer: Some(claim.to_owned()),
            writer_until: now + CLAIM,
            unstored: false,
            ..upload.clone()
        };
        let written = insert(&mut tx, &row).await?;
        tx.commit().await?;
        self.note(&row.id, Stage::Stored);
        Ok(written.then_some(row))
    }

    /// Whether there are cores enough for every running upload to hash on one and write on another.
    fn has_idle_cores(&self) -> bool {
        let active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner).len();
        *CORES >= 2 * active
    }

    /// Registers this request as the process's writer of a session, or names the one that is.
    fn try_enter(&self, id: &str, ticket: u64) -> std::result::Result<Active, Holder> {
        let mut active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(holder) = active.get(id) {
            return Err(holder.clone());
        }
        let (sender, stop) = watch::channel(false);
        active.insert(id.to_owned(), Holder { ticket, stop: sender });
        drop(active);
        Ok(Active { uploads: self.clone(), id: id.to_owned(), stop })
    }

    /// Gives a session up: its bytes go, and no request can write it any more. Returns whether it was there.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn cancel(&self, id: &str) -> Result<bool> {
        let holder = self.0.active.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        if let Some(holder) = holder {
            holder.stop.send_replace(true);
            let _ = timeout(PATIENCE, holder.stop.closed()).await;
        }
        let was = self.note(id, Stage::Ended);
        if was == Some(Stage::Begun) && self.0.db.is_sqlite() {
            return Ok(true);
        }
        let mut tx = self.0.db.begin().await?;
        let key: Option<(String,)> =
            query_opt!(tx, (String,), "DELETE FROM uploads WHERE id = $1 RETURNING object_key", id)?;
        if let Some((key,)) = &key {
            blobs::discard_object(&mut tx, key, self.0.clock.now()).await?;
        }
        tx.commit().await?;
        Ok(key.is_some() || was == Some(Stage::Begun))
    }

    /// Forgets claims that a former process of this machine left behind. Only for the one process that serves a
    /// `SQLite` database: others would lose claims that are alive.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn forget_claims(&self) -> Result<()> {
        let mut tx = self.0.db.begin().await?;
        execute!(tx, "UPDATE uploads SET writer = NULL WHERE writer IS NOT NULL")?;
        tx.commit().await
    }
}

/// This process's registration as the writer of a session; dropping it lets the next one in.
#[derive(Debug)]
struct Active {
    uploads: Uploads,
    id: String,
    stop: watch::Receiver<bool>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.uploads.0.active.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

/// Writes a session's row. False where one of that id is there.
///
/// # Errors
/// [`Error::Conflict`] where the user has [`MAX_OPEN`] sessions; else those of the database.
async fn insert(tx: &mut Tx, upload: &Upload) -> Result<bool> {
    let inserted = execute!(
        tx,
        "INSERT INTO uploads (id, org_id, project_id, repository, user_id, api_key_id, epochs, object_key, received,
                              algorithm, hash_state, writer, writer_until, created_at, expires_at, content)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16
         WHERE (SELECT COUNT(*) FROM (SELECT 1 FROM uploads WHERE user_id = $5 AND expires_at > $14 LIMIT CAST($17 AS BIGINT)) AS open) < $17
         ON CONFLICT (id) DO NOTHING",
        upload.id.as_str(),
        upload.org_id.as_str(),
        upload.project_id.as_str(),
        upload.repository.as_str(),
        upload.user_id.as_str(),
        upload.api_key_id.as_deref(),
        upload.epochs.as_str(),
        upload.object_key.as_str(),
        upload.received,
        upload.algorithm.as_str(),
        upload.hash_state.as_deref(),
        upload.writer.as_deref(),
        upload.writer_until,
        upload.created_at,
        upload.expires_at,
        upload.content.as_deref(),
        MAX_OPEN,
    )?;
    if inserted == 0 && find(tx, &upload.id).await?.is_none() {
        return Err(Error::Conflict("too many uploads are open: finish or cancel some"));
    }
    Ok(inserted > 0)
}

async fn find(session: &mut Session, id: &str) -> Result<Option<Upload>> {
    query_opt!(session, Upload, "SELECT * FROM uploads WHERE id = $1", id)
}

/// Gives up sessions that made no progress in time; at most `limit` at once. Returns how many.
///
/// # Errors
/// Those of the database.
pub async fn expire(tx: &mut Tx, now: i64, limit: i64) -> Result<u64> {
    let due: Vec<(String,)> = query_all!(
        tx,
        (String,),
        "SELECT id FROM uploads WHERE expires_at <= $1 AND (writer IS NULL OR writer_until < $1)
         ORDER BY expires_at LIMIT $2",
        now,
        limit,
    )?;
    let mut gone = 0;
    for (id,) in due {
        // It may have been claimed, or have made progress, since it was listed.
        let key: Option<(String,)> = query_opt!(
            tx,
            (String,),
            "DELETE FROM uploads WHERE id = $1 AND expires_at <= $2 AND (writer IS NULL OR writer_until < $2)
             RETURNING object_key",
            id,
            now,
        )?;
        if let Some((key,)) = key {
            blobs::discard_object(tx, &key, now).await?;
            gone += 1;
        }
    }
    Ok(gone)
}

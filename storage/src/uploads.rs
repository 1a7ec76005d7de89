//! Upload sessions: how a stream becomes a blob.
//!
//! A session is a row that says how many bytes are durable in which object, and the digest's state after them. Any
//! process may take a session up: [`Uploads::claim`] gives one request at a time the right to write ([`Writer`]), a newer
//! request of the same process at once, one of another process when the older one's claim runs out (on `SQLite` one process
//! serves, and no claim is written). Only
//! [`Writer::checkpoint`] moves the acknowledged byte; what lies behind it is cut off by the next claim.

mod writer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;
use crate::db::{Db, Session, Tx};
use crate::error::{Error, Result};
use crate::names::{Algorithm, new_id};
use crate::objects::Objects;
use crate::{blobs, execute, query_all, query_opt};

pub use writer::{Committed, Target, Writer};

/// How long a claim lasts unless it is renewed, in seconds.
const CLAIM: i64 = 30;
/// Most sessions that one user may have open.
pub const MAX_OPEN: i64 = 5_000;
/// How long a request waits for another one's claim on the same session to end.
const PATIENCE: Duration = Duration::from_secs(35);

/// An upload session as its row has it.
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
    /// The digest's state after `received` bytes; none before the first.
    pub hash_state: Option<Vec<u8>>,
    /// The claim of the request that may write, if any.
    pub writer: Option<String>,
    /// When that claim runs out (unix seconds).
    pub writer_until: i64,
    /// When it was begun (unix seconds).
    pub created_at: i64,
    /// When it is given up unless it makes progress (unix seconds).
    pub expires_at: i64,
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

/// The upload sessions of this process and the store behind them; cheap to clone.
#[derive(Clone, Debug)]
pub struct Uploads(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    db: Db,
    objects: Objects,
    clock: Clock,
    lifetimes: Lifetimes,
    /// Sessions that a request of this process writes now; sending `true` asks it to stop.
    active: Mutex<HashMap<String, Holder>>,
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
        Self(Arc::new(Shared { db, objects, clock, lifetimes, active: Mutex::default(), tickets: AtomicU64::new(0) }))
    }

    /// How long things live.
    #[must_use]
    pub fn lifetimes(&self) -> Lifetimes {
        self.0.lifetimes
    }

    /// Begins a session.
    ///
    /// # Errors
    /// [`Error::Conflict`] where the user has [`MAX_OPEN`] sessions open; else those of the database.
    pub async fn begin(&self, new: &NewUpload<'_>) -> Result<Upload> {
        let now = self.0.clock.now();
        let upload = Upload {
            id: new_id(),
            org_id: new.org_id.to_owned(),
            project_id: new.project_id.to_owned(),
            repository: new.repository.to_owned(),
            user_id: new.user_id.to_owned(),
            api_key_id: new.api_key_id.map(ToOwned::to_owned),
            epochs: new.epochs.to_owned(),
            object_key: new_id(),
            received: 0,
            algorithm: new.algorithm.as_str().to_owned(),
            hash_state: None,
            writer: None,
            writer_until: 0,
            created_at: now,
            expires_at: now + self.0.lifetimes.upload_idle,
        };
        let mut tx = self.0.db.begin().await?;
        if !insert(&mut tx, &upload).await? {
            return Err(Error::Conflict("too many uploads are open: finish or cancel some"));
        }
        tx.commit().await?;
        Ok(upload)
    }

    /// Finds a session that has not expired.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn find(&self, id: &str) -> Result<Option<Upload>> {
        let mut session = self.0.db.read().await?;
        let found = find(&mut session, id).await?;
        Ok(found.filter(|u| u.expires_at > self.0.clock.now()))
    }

    /// Takes the right to write a session. A request of this process that holds it is asked to stop and waited for.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no such session; [`Error::Conflict`] where a request of another process holds
    /// it and does not let go.
    pub async fn claim(&self, id: &str) -> Result<Writer> {
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
            let row = self.find(id).await?.ok_or(Error::NotFound("upload"))?;
            return Writer::new(self.clone(), row, None, active);
        }
        let claim = new_id();
        loop {
            let now = self.0.clock.now();
            let mut tx = self.0.db.begin().await?;
            let claimed: Option<Upload> = query_opt!(
                tx,
                Upload,
                "UPDATE uploads SET writer = $2, writer_until = $3
                 WHERE id = $1 AND expires_at > $4 AND (writer IS NULL OR writer_until < $4) RETURNING *",
                id,
                claim.as_str(),
                now + CLAIM,
                now,
            )?;
            if let Some(row) = claimed {
                tx.commit().await?;
                return Writer::new(self.clone(), row, Some(claim), active);
            }
            if find(&mut tx, id).await?.is_none_or(|u| u.expires_at <= now) {
                return Err(Error::NotFound("upload"));
            }
            drop(tx);
            if Instant::now() > deadline {
                return Err(Error::Conflict("another request is writing this upload"));
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// Whether there are cores enough for every running upload to hash on one and write on another.
    fn has_idle_cores(&self) -> bool {
        let active = self.0.active.lock().unwrap_or_else(PoisonError::into_inner).len();
        std::thread::available_parallelism().map_or(1, usize::from) >= 2 * active
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
        let mut tx = self.0.db.begin().await?;
        let key: Option<(String,)> =
            query_opt!(tx, (String,), "DELETE FROM uploads WHERE id = $1 RETURNING object_key", id)?;
        if let Some((key,)) = &key {
            blobs::discard_object(&mut tx, key, self.0.clock.now()).await?;
        }
        tx.commit().await?;
        Ok(key.is_some())
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

/// False where the user has [`MAX_OPEN`] sessions open.
async fn insert(tx: &mut Tx, upload: &Upload) -> Result<bool> {
    let inserted = execute!(
        tx,
        "INSERT INTO uploads (id, org_id, project_id, repository, user_id, api_key_id, epochs, object_key, received,
                              algorithm, writer_until, created_at, expires_at)
         SELECT $1, $2, $3, $4, $5, $6, $7, $8, 0, $9, 0, $10, $11
         WHERE (SELECT COUNT(*) FROM (SELECT 1 FROM uploads WHERE user_id = $5 AND expires_at > $10 LIMIT $12) AS open) < $12",
        upload.id.as_str(),
        upload.org_id.as_str(),
        upload.project_id.as_str(),
        upload.repository.as_str(),
        upload.user_id.as_str(),
        upload.api_key_id.as_deref(),
        upload.epochs.as_str(),
        upload.object_key.as_str(),
        upload.algorithm.as_str(),
        upload.created_at,
        upload.expires_at,
        MAX_OPEN,
    )?;
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

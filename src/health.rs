//! Whether this process lives, and whether it should be sent requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use storage::Db;
use storage::objects::Objects;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// An answer is good for so long: health checks of many balancers must not become the database's load.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take to answer, and the blob folder.
const PATIENCE: Duration = Duration::from_secs(3);

/// The health of the process; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    /// Where the bytes are, for a process that serves them.
    objects: Option<Objects>,
    draining: AtomicBool,
    seen: Mutex<Seen>,
}

/// What was found out last.
#[derive(Debug, Default)]
struct Seen {
    answer: Option<(Instant, Result<(), &'static str>)>,
    /// The last look at the blob folder, where it is not over: whoever looks at one that hangs, hangs too.
    look: Option<JoinHandle<storage::Result<()>>>,
}

impl Health {
    /// The health of a process that uses this database, and these objects.
    pub(crate) fn new(db: Db, objects: Option<Objects>) -> Self {
        Self(Arc::new(Inner { db, objects, draining: AtomicBool::new(false), seen: Mutex::default() }))
    }

    /// From now on the process is not ready: it is about to end.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::SeqCst);
    }

    /// The answer to `/healthz` or `/readyz`; `None` for another path.
    pub(crate) async fn answer(&self, path: &str) -> Option<(StatusCode, &'static str)> {
        match path {
            "/healthz" => Some((StatusCode::OK, "ok\n")),
            "/readyz" if self.0.draining.load(Ordering::SeqCst) => {
                Some((StatusCode::SERVICE_UNAVAILABLE, "shutting down\n"))
            }
            "/readyz" => Some(match self.able().await {
                Ok(()) => (StatusCode::OK, "ready\n"),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            }),
            _ => None,
        }
    }

    /// Whether what requests need answers; else what does not.
    async fn able(&self) -> Result<(), &'static str> {
        // Held across the questions on purpose: one at a time, the others wait for its answer.
        let mut seen = self.0.seen.lock().await;
        if let Some((at, answer)) = seen.answer
            && at.elapsed() < FRESH
        {
            return answer;
        }
        // Boxed, since every connection keeps room for an answer, and few ever ask for this one.
        let answer = if !Box::pin(self.database_answers()).await {
            Err("the database does not answer\n")
        } else if !Box::pin(self.folder_answers(&mut seen.look)).await {
            Err("the blob folder does not answer\n")
        } else {
            Ok(())
        };
        seen.answer = Some((Instant::now(), answer));
        answer
    }

    async fn database_answers(&self) -> bool {
        match timeout(PATIENCE, self.0.db.ping()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the database does not answer");
                false
            }
            Err(_) => {
                tracing::error!("the database did not answer in {PATIENCE:?}");
                false
            }
        }
    }

    async fn folder_answers(&self, look: &mut Option<JoinHandle<storage::Result<()>>>) -> bool {
        let Some(objects) = &self.0.objects else { return true };
        // One that hung when it was last asked for says nothing of this moment.
        let _ = look.take_if(|look| look.is_finished());
        let running = look.get_or_insert_with(|| {
            let objects = objects.clone();
            tokio::task::spawn_blocking(move || objects.probe())
        });
        let Ok(looked) = timeout(PATIENCE, running).await else {
            tracing::error!("the blob folder did not answer in {PATIENCE:?}");
            return false;
        };
        *look = None;
        match looked {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the blob folder does not answer");
                false
            }
            Err(error) => {
                tracing::error!(%error, "the blob folder could not be looked at");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[tokio::test]
    async fn a_draining_process_lives_but_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite://{}", dir.path().join("t.db").display())).await.unwrap();
        let health = Health::new(db, None);
        assert_eq!(health.answer("/readyz").await.unwrap().0, StatusCode::OK);
        health.drain();
        assert_eq!(health.answer("/readyz").await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.answer("/healthz").await.unwrap().0, StatusCode::OK);
        assert!(health.answer("/v2/").await.is_none());
    }

    #[tokio::test]
    async fn a_process_whose_blob_folder_is_gone_is_not_ready() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::connect(&format!("sqlite://{}", dir.path().join("t.db").display())).await.unwrap();
        let blobs = dir.path().join("blobs");
        let objects = Objects::open(blobs.to_str().unwrap()).unwrap();
        assert_eq!(Health::new(db.clone(), Some(objects.clone())).answer("/readyz").await.unwrap().0, StatusCode::OK);
        // As after the file system there was unmounted: an empty folder.
        std::fs::remove_dir_all(&blobs).unwrap();
        std::fs::create_dir(&blobs).unwrap();
        let answer = Health::new(db.clone(), Some(objects)).answer("/readyz").await.unwrap();
        assert_eq!(answer, (StatusCode::SERVICE_UNAVAILABLE, "the blob folder does not answer\n"));
        assert_eq!(Health::new(db, None).answer("/readyz").await.unwrap().0, StatusCode::OK, "who reads no bytes");
    }
}

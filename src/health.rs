//! Whether this process lives, and whether it should be sent requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::StatusCode;
use storage::Db;
use tokio::sync::Mutex;

/// An answer about the database is good for so long: health checks of many balancers must not become its load.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// The health of the process; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    draining: AtomicBool,
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Health {
    /// The health of a process that uses this database.
    pub(crate) fn new(db: Db) -> Self {
        Self(Arc::new(Inner { db, draining: AtomicBool::new(false), seen: Mutex::new(None) }))
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
            "/readyz" if self.database_answers().await => Some((StatusCode::OK, "ready\n")),
            "/readyz" => Some((StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")),
            _ => None,
        }
    }

    async fn database_answers(&self) -> bool {
        // Held across the question on purpose: one question at a time, the others wait for its answer.
        let mut seen = self.0.seen.lock().await;
        if let Some((at, answer)) = *seen
            && at.elapsed() < FRESH
        {
            return answer;
        }
        // Boxed, since every connection keeps room for an answer, and few ever ask for this one.
        let ping = Box::pin(self.0.db.ping());
        let answer = match tokio::time::timeout(PATIENCE, ping).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the database does not answer");
                false
            }
            Err(_) => {
                tracing::error!("the database did not answer in {PATIENCE:?}");
                false
            }
        };
        *seen = Some((Instant::now(), answer));
        answer
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
        let health = Health::new(db);
        assert_eq!(health.answer("/readyz").await.unwrap().0, StatusCode::OK);
        health.drain();
        assert_eq!(health.answer("/readyz").await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(health.answer("/healthz").await.unwrap().0, StatusCode::OK);
        assert!(health.answer("/v2/").await.is_none());
    }
}

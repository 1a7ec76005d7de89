//! What this process says of itself to the platform's operators, by a row that it renews while it lives: which services it
//! serves, how much room there is, how long its certificate holds, how its background tasks end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use storage::processes::{self, BEAT, Folder, Process, Report, Task};
use storage::{Clock, Db};
use tokio_util::sync::CancellationToken;

use crate::cli::Service;
use crate::config::Config;
use crate::stores::Stores;
use crate::tls::Certificate;

/// How the tasks ended; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends(Arc<Mutex<BTreeMap<&'static str, Task>>>);

impl Ends {
    /// Notes how a run ended.
    pub(crate) fn note(&self, task: &'static str, well: bool, now: i64) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let end = ends.entry(task).or_insert_with(|| Task { name: task.to_owned(), ..Task::default() });
        *(if well { &mut end.ok_at } else { &mut end.failed_at }) = Some(now);
    }

    fn list(&self) -> Vec<Task> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

/// What says that the process lives.
pub(crate) struct Presence {
    process: Process,
    folders: Vec<(&'static str, PathBuf)>,
    certificate: Option<Arc<Certificate>>,
    ends: Ends,
    stores: Stores,
}

impl Presence {
    /// That of a process that serves the named services.
    pub(crate) fn new(
        config: &Config,
        stores: &Stores,
        services: &[Service],
        certificate: Option<Arc<Certificate>>,
        ends: Ends,
    ) -> Self {
        let now = stores.content.clock.now();
        let process = Process {
            id: storage::names::new_id(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            report: Report {
                services: services.iter().map(|service| service.name().to_owned()).collect(),
                ..Report::default()
            },
            started_at: now,
            seen_at: now,
        };
        let mut folders = vec![("blobs", stores.content.objects.root().to_owned())];
        if config.sqlite_path().is_some() {
            folders.push(("data", config.data_dir.clone()));
        }
        Self { process, folders, certificate, ends, stores: stores.clone() }
    }

    /// Says so every few seconds until `stop`, and then that it ends.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let (db, clock) = (self.stores.content.db.clone(), self.stores.content.clock.clone());
        let beat = Duration::from_secs(BEAT.unsigned_abs());
        loop {
            if let Err(error) = self.say(&db, &clock).await {
                tracing::warn!(%error, "cannot say that this process lives");
            }
            if stop.run_until_cancelled(tokio::time::sleep(beat)).await.is_none() {
                break;
            }
        }
        if let Err(error) = forget(&db, &self.process.id).await {
            tracing::warn!(%error, "cannot say that this process ends");
        }
    }

    async fn say(&mut self, db: &Db, clock: &Clock) -> storage::Result<()> {
        let report = &mut self.process.report;
        report.folders = self.folders.iter().filter_map(|(what, path)| room(what, path)).collect();
        report.certificate = self.certificate.as_ref().and_then(|certificate| certificate.facts());
        report.tasks = self.ends.list();
        report.events_waiting = i64::try_from(self.stores.identity.events_waiting()).unwrap_or(i64::MAX);
        self.process.seen_at = clock.now();
        let mut tx = db.begin().await?;
        processes::note(&mut tx, &self.process).await?;
        tx.commit().await
    }
}

async fn forget(db: &Db, id: &str) -> storage::Result<()> {
    let mut tx = db.begin().await?;
    processes::forget(&mut tx, id).await?;
    tx.commit().await
}

/// The room on the file system of a folder.
fn room(what: &str, path: &Path) -> Option<Folder> {
    let found = rustix::fs::statvfs(path).ok()?;
    let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(found.f_frsize)).unwrap_or(i64::MAX);
    Some(Folder { what: what.to_owned(), total: bytes(found.f_blocks), free: bytes(found.f_bavail) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_good_and_the_last_bad_end_are_kept() {
        let ends = Ends::default();
        ends.note("gc", true, 1);
        ends.note("gc", false, 2);
        ends.note("mail", true, 3);
        let gc = Task { name: "gc".into(), ok_at: Some(1), failed_at: Some(2) };
        let mail = Task { name: "mail".into(), ok_at: Some(3), failed_at: None };
        assert_eq!(ends.list(), [gc, mail]);
    }

    #[test]
    fn a_file_system_has_room() {
        assert!(room("data", Path::new("/")).is_some_and(|room| room.total > room.free));
        assert!(room("data", Path::new("/nowhere/at/all")).is_none());
    }
}

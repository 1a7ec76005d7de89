//! Garbage collection: by itself every so often, and when `wharfinger gc --now` asks for it.
//!
//! Where a registry serves, it collects: on `SQLite`, those who push would wait for another process's lock.

use std::convert::Infallible;
use std::io::{self, IsTerminal};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use identity::Identity;
use storage::gc::{Collector, Report, requests};
use storage::removal::Remover;
use storage::{Clock, Db, processes};

use crate::cli::{Gc, Service};
use crate::commands::print_json;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::stores::{self, Content, Stores};

/// How often whoever waits for a pass looks how far it is.
const LOOK: Duration = Duration::from_millis(200);
/// How often a pass says in the log how far it is.
const NEWS: Duration = Duration::from_secs(60);
/// A process that serves takes a request within this time (seconds), or is busy with another.
const TAKEN: i64 = 5;

/// What a process that serves collects with; cheap to clone.
#[derive(Clone)]
pub(crate) struct Garbage {
    db: Db,
    clock: Clock,
    remover: Remover,
    collector: Collector,
    identity: Identity,
    metrics: Metrics,
}

impl Garbage {
    /// That of a process.
    pub(crate) fn new(stores: &Stores, metrics: &Metrics) -> Self {
        let Content { db, objects, clock, lifetimes } = stores.content.clone();
        Self {
            remover: Remover::new(db.clone(), clock.clone()),
            collector: Collector::new(db.clone(), objects, clock.clone(), lifetimes),
            identity: stores.identity.clone(),
            metrics: metrics.clone(),
            db,
            clock,
        }
    }

    /// A pass over everything that is due.
    pub(crate) async fn collect(&self) -> Result<()> {
        self.pass(&self.collector, |_| ()).await?;
        Ok(())
    }

    async fn pass(&self, collector: &Collector, tell: impl Fn(&Report)) -> Result<Report> {
        // What was deleted makes the collector's work.
        self.identity.end_due_orgs().await?;
        let removed = self.remover.run().await?;
        if !removed.is_idle() {
            tracing::info!(
                removed.repositories = removed.repositories,
                removed.projects = removed.projects,
                removed.orgs = removed.orgs,
                removed.users = removed.users,
                "what was deleted is gone"
            );
        }
        let last_news = Mutex::new(Instant::now());
        let tell = |report: &Report| {
            tell(report);
            let mut last = last_news.lock().unwrap_or_else(PoisonError::into_inner);
            if last.elapsed() >= NEWS {
                *last = Instant::now();
                log(report, "garbage is being collected");
            }
        };
        let report = collector.run_telling(tell).await?;
        self.metrics.collected(report.blobs_removed, report.bytes_freed);
        if !report.is_idle() {
            log(&report, "garbage collected");
        }
        Ok(report)
    }

    /// Collects for those who asked for it.
    pub(crate) async fn answer(&self) -> Result<()> {
        let waiting = requests::waiting(&mut self.db.read().await?).await?;
        for wanted in waiting {
            let mut tx = self.db.begin().await?;
            let taken = requests::take(&mut tx, &wanted.id, self.clock.now()).await?;
            tx.commit().await?;
            if taken {
                self.answer_one(&wanted).await?;
            }
        }
        Ok(())
    }

    /// Says every second that this process collects, and how far it is.
    async fn say_so_far(&self, id: &str, last: impl Fn() -> Report) -> Infallible {
        loop {
            tokio::time::sleep(Duration::from_secs(requests::BEAT.unsigned_abs())).await;
            if let Err(error) = self.note(id, &last()).await {
                tracing::warn!(%error, "cannot say how far garbage collection is");
            }
        }
    }

    async fn note(&self, id: &str, report: &Report) -> storage::Result<()> {
        let mut tx = self.db.begin().await?;
        requests::note(&mut tx, id, report, self.clock.now()).await?;
        tx.commit().await
    }

    async fn answer_one(&self, wanted: &requests::Wanted) -> Result<()> {
        let so_far = Mutex::new(Report::default());
        let last = || *so_far.lock().unwrap_or_else(PoisonError::into_inner);
        let collector = self.collector.with_grace(wanted.grace);
        let pass = self.pass(&collector, |report| {
            *so_far.lock().unwrap_or_else(PoisonError::into_inner) = *report;
        });
        // Both at once: whoever waits for a turn in the database may wait for the other.
        let outcome = tokio::select! {
            outcome = pass => outcome,
            never = self.say_so_far(&wanted.id, last) => match never {},
        };
        let problem = outcome.as_ref().err().map(|error| format!("{error:#}")).unwrap_or_default();
        let mut tx = self.db.begin().await?;
        requests::end(&mut tx, &wanted.id, outcome.as_ref().unwrap_or(&last()), &problem, self.clock.now()).await?;
        tx.commit().await?;
        outcome.map(|_| ())
    }
}

/// `wharfinger gc`
pub(crate) async fn gc(config: &Config, arguments: &Gc) -> Result<ExitCode> {
    let Content { db, objects, clock, lifetimes } = stores::content(config).await?;
    let grace = arguments.grace.map_or(lifetimes.grace, |grace| grace.seconds());
    let collector = Collector::new(db.clone(), objects, clock.clone(), lifetimes).with_grace(grace);
    let report = if arguments.dry_run {
        collector.dry_run().await.context("collecting garbage")?
    } else if let Some(report) = by_server(&db, &clock, grace).await? {
        report
    } else {
        // What was deleted makes the collector's work.
        Remover::new(db.clone(), clock).run().await.context("taking away what was deleted")?;
        collector.run_telling(show).await.context("collecting garbage")?
    };
    if !arguments.dry_run && io::stderr().is_terminal() {
        eprintln!();
    }
    print_json(&report)?;
    db.close().await;
    Ok(ExitCode::SUCCESS)
}

/// The report of a pass by a process that serves the registry; `None` where none does, or none takes it.
async fn by_server(db: &Db, clock: &Clock, grace: i64) -> Result<Option<Report>> {
    let serving = processes::list(&mut db.read().await?).await?;
    let registry = Service::Registry.name();
    if !serving.iter().any(|p| p.is_alive(clock.now()) && p.report.services.iter().any(|name| name == registry)) {
        return Ok(None);
    }
    // Where there is no room for a row, collecting makes some.
    let Ok(id) = ask(db, grace).await else { return Ok(None) };
    let mut waited = Duration::ZERO;
    loop {
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
        let state =
            requests::state(&mut db.read().await?, &id).await?.context("the request for a pass was forgotten")?;
        if state.ended && !state.problem.is_empty() {
            bail!("collecting garbage: {}", state.problem);
        }
        if state.ended {
            return Ok(Some(state.report));
        }
        show(&state.report);
        let silent = match state.taken_at {
            Some(at) => clock.now() - at > requests::SILENT,
            None => waited.as_secs() >= TAKEN.unsigned_abs(),
        };
        if silent && withdraw(db, clock, &id).await? {
            return Ok(None);
        }
    }
}

async fn ask(db: &Db, grace: i64) -> storage::Result<String> {
    let mut tx = db.begin().await?;
    let id = requests::ask(&mut tx, grace).await?;
    tx.commit().await?;
    Ok(id)
}

async fn withdraw(db: &Db, clock: &Clock, id: &str) -> storage::Result<bool> {
    let mut tx = db.begin().await?;
    let withdrawn = requests::withdraw(&mut tx, id, clock.now()).await?;
    tx.commit().await?;
    Ok(withdrawn)
}

/// Says to the operator what a pass did so far.
fn log(report: &Report, what: &str) {
    tracing::info!(
        gc.uploads_expired = report.uploads_expired,
        gc.links_removed = report.links_removed,
        gc.blobs_removed = report.blobs_removed,
        gc.bytes_freed = report.bytes_freed,
        gc.objects_removed = report.objects_removed,
        "{what}"
    );
}

/// Says to whoever looks on how far it is.
fn show(report: &Report) {
    if io::stderr().is_terminal() {
        eprint!(
            "\r{} links looked at, {} blobs and {} objects taken away ",
            report.links_reviewed, report.blobs_removed, report.objects_removed
        );
    }
}

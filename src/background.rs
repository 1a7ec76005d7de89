//! What happens besides requests: garbage collection, keys, expired log-ins, certificates.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use storage::activity::Measurer;
use storage::{Clock, orgs};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::cli::Service;
use crate::config::{Config, Tls};
use crate::garbage::Garbage;
use crate::mail::Postman;
use crate::metrics::Metrics;
use crate::pki::{self, Pki};
use crate::presence::{Ends, Presence};
use crate::stores::{Content, SetupLock, Stores};
use crate::tls::Certificate;

/// How often it is looked whether another process changed what is kept in memory.
const OTHERS: Duration = Duration::from_millis(250);
/// How often the database's log is folded while much is written.
const FOLD: Duration = Duration::from_millis(100);
/// How often it is looked whether somebody asks for garbage to be collected.
const ASKED: Duration = Duration::from_millis(500);
/// How often signing keys are read again, and expired log-ins forgotten: well before a new key signs.
const IDENTITY: Duration = Duration::from_secs(5);
/// How often the outbox is looked into.
const MAIL: Duration = Duration::from_millis(500);
/// How often it is counted what large organizations use.
const USAGE: Duration = Duration::from_secs(60);
/// How often it is looked which organizations are to be measured.
const MEASURE: Duration = Duration::from_secs(20);
/// How often audit events are looked at that are older than their organization keeps them.
const AUDIT: Duration = Duration::from_secs(600);
/// How often the private CA's certificate is looked at.
const CERTIFICATE: Duration = Duration::from_secs(12 * 3600);

/// The background tasks of this process.
pub(crate) struct Background {
    tasks: TaskTracker,
    stop: CancellationToken,
    metrics: Metrics,
    ends: Ends,
    clock: Clock,
}

impl Background {
    /// Starts what the named services need.
    ///
    /// # Errors
    /// Where mails cannot go out as configured.
    pub(crate) fn start(
        config: &Config,
        stores: &Stores,
        metrics: &Metrics,
        certificate: Option<Arc<Certificate>>,
        services: &[Service],
    ) -> Result<Self> {
        let this = Self {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            metrics: metrics.clone(),
            ends: Ends::default(),
            clock: stores.content.clock.clone(),
        };
        let presence = Presence::new(config, stores, services, certificate.clone(), this.ends.clone());
        this.tasks.spawn(presence.run(this.stop.clone()));
        if services.contains(&Service::Registry) {
            let db = stores.content.db.clone();
            this.every("cache", OTHERS, move || {
                let db = db.clone();
                async move { Ok(db.notice_others().await?) }
            });
            let db = stores.content.db.clone();
            this.every("log", FOLD, move || {
                let db = db.clone();
                async move { Ok(db.fold_log().await?) }
            });
        }
        if services.contains(&Service::Registry) {
            let garbage = Garbage::new(stores, metrics);
            if config.gc_interval.0 > 0 {
                let garbage = garbage.clone();
                this.every("gc", config.gc_interval.duration(), move || {
                    let garbage = garbage.clone();
                    async move { garbage.collect().await }
                });
            }
            this.every("gc-requests", ASKED, move || {
                let garbage = garbage.clone();
                async move { garbage.answer().await }
            });
        }
        let identity = stores.identity.clone();
        this.every("identity", IDENTITY, move || {
            let identity = identity.clone();
            async move { Ok(identity.tick().await?) }
        });
        if services.contains(&Service::Controller) {
            let postman = Arc::new(Postman::new(&config.mail)?);
            let identity = stores.identity.clone();
            this.every("mail", MAIL, move || {
                let (postman, identity) = (Arc::clone(&postman), identity.clone());
                async move { postman.round(&identity).await }
            });
        }
        if services.contains(&Service::Controller) {
            let Content { db, clock, .. } = stores.content.clone();
            this.begin("usage", Duration::ZERO, USAGE, move || {
                let (db, now) = (db.clone(), clock.now());
                async move { Ok(orgs::count_usage(&db, now).await?) }
            });
        }
        if services.contains(&Service::Controller) {
            let Content { db, clock, .. } = stores.content.clone();
            let measurer = Arc::new(Measurer::new(db, clock));
            this.every("measure", MEASURE, move || {
                let measurer = Arc::clone(&measurer);
                async move { Ok(measurer.run().await?) }
            });
        }
        let identity = stores.identity.clone();
        this.every("audit", AUDIT, move || {
            let identity = identity.clone();
            async move { Ok(identity.cut_audit().await?) }
        });
        if let Some(certificate) = certificate {
            this.tasks.spawn(certificate.watch(this.stop.clone()));
        }
        if config.tls == Tls::Private {
            this.renew_certificate(config, stores);
        }
        Ok(this)
    }

    /// Renews the private CA's certificate in time, for servers that run for a year; [`Certificate::watch`] takes it.
    fn renew_certificate(&self, config: &Config, stores: &Stores) {
        let (pki, hostname, clock) =
            (Pki::in_dir(&config.pki_dir()), config.hostname.clone(), stores.content.clock.clone());
        let data_dir = config.data_dir.clone();
        self.every("certificate", CERTIFICATE, move || {
            let (pki, names, now, data_dir) = (pki.clone(), pki::names(&hostname), clock.now(), data_dir.clone());
            async move {
                tokio::task::spawn_blocking(move || {
                    let _setup = SetupLock::take(&data_dir)?;
                    pki.ensure(&names, now)
                })
                .await??;
                Ok(())
            }
        });
    }

    /// Runs a task every so often until stopped. A failure is reported and the next run is not put off.
    fn every<F>(&self, name: &'static str, interval: Duration, task: impl FnMut() -> F + Send + 'static)
    where
        F: Future<Output = Result<()>> + Send,
    {
        self.begin(name, interval, interval, task);
    }

    /// As [`Self::every`], the first time after `first`.
    fn begin<F>(
        &self,
        name: &'static str,
        first: Duration,
        interval: Duration,
        mut task: impl FnMut() -> F + Send + 'static,
    ) where
        F: Future<Output = Result<()>> + Send,
    {
        let (stop, metrics) = (self.stop.clone(), self.metrics.clone());
        let (ends, clock) = (self.ends.clone(), self.clock.clone());
        self.tasks.spawn(async move {
            let mut wait = first;
            while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
                wait = interval;
                // A run that has begun may finish: it works in small transactions.
                let outcome = task().await;
                metrics.task_ran(name, outcome.is_ok());
                ends.note(name, outcome.is_ok(), clock.now());
                if let Err(error) = outcome {
                    tracing::error!(task = name, error = format!("{error:#}"), "a background task failed");
                }
            }
        });
    }

    /// Stops the tasks; those that run get a few seconds to finish.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await.is_err() {
            tracing::warn!("background tasks are cut off; they go on at the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_task_that_fails_runs_again_and_stops_when_told() {
        let metrics = Metrics::new(0);
        let background = Background {
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            metrics: metrics.clone(),
            ends: Ends::default(),
            clock: Clock::System,
        };
        let runs = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&runs);
        background.every("test", Duration::from_millis(5), move || {
            let run = counted.fetch_add(1, Ordering::SeqCst);
            async move { if run == 0 { Err(anyhow::anyhow!("the first one fails")) } else { Ok(()) } }
        });
        while runs.load(Ordering::SeqCst) < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        background.stop().await;
        let at_the_end = runs.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(30)).await;
        assert_eq!(runs.load(Ordering::SeqCst), at_the_end);
        let failed = r#"background_runs_total{task="test",outcome="error"} 1"#;
        assert!(metrics.text().contains(failed));
    }
}

//! `/platform/health`: whether everything that serves and works in the background does so. Never what is in an organization.

use axum::Json;
use axum::extract::State as Shared;
use identity::keys::MAX_AGE;
use identity::rbac::{Permission, Resource};
use serde::Serialize;
use storage::health::{self, Counts};
use storage::orgs;
use storage::processes::{self, Process};
use storage::signing_keys::{self, SigningKey};
use utoipa::ToSchema;

use crate::State;
use crate::actor::Actor;
use crate::error::Result;
use crate::time;

/// The services of the platform.
const SERVICES: [&str; 3] = ["registry", "authsvc", "controller"];
/// A certificate with less left is a problem: the private CA renews its own a month before, others should.
const SHORT_OF_TIME: i64 = 14 * 86_400;
/// Events that wait to be written, from which on the audit log falls behind: half of what fits.
const BEHIND: i64 = 2048;
/// Mails that wait for longer are late.
const LATE: i64 = 900;

/// How the platform is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HealthView {
    /// Version of the server.
    pub(crate) version: &'static str,
    /// The time by the server's clock.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) now: i64,
    /// What needs somebody's attention, as sentences; empty where all is well.
    pub(crate) problems: Vec<String>,
    /// `sqlite` or `postgresql`.
    pub(crate) database: &'static str,
    /// How long the database took to answer, in milliseconds.
    pub(crate) database_ms: u64,
    /// Bytes of the database.
    pub(crate) database_bytes: i64,
    /// Organizations by status.
    pub(crate) organizations: OrgCounts,
    /// Mails that wait to be sent.
    pub(crate) mails_waiting: i64,
    /// Objects whose bytes wait to be taken away.
    pub(crate) objects_to_remove: i64,
    /// The three services.
    pub(crate) services: Vec<ServiceView>,
    /// Processes that were heard of within a day.
    pub(crate) processes: Vec<ProcessView>,
    /// Mails.
    pub(crate) mails: MailsView,
    /// What else waits to be done in the background.
    pub(crate) work: WorkView,
    /// Keys that sign access tokens, the youngest first.
    pub(crate) signing_keys: Vec<SigningKeyView>,
    /// When the next signing key is made by itself.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) next_signing_key_at: Option<i64>,
}

/// Organizations by status.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct OrgCounts {
    /// They live.
    pub(crate) active: i64,
    /// No door opens.
    pub(crate) suspended: i64,
    /// They are to be deleted.
    pub(crate) deleting: i64,
    /// They are being taken away.
    pub(crate) removing: i64,
}

/// A service.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ServiceView {
    /// `registry`, `authsvc` or `controller`.
    pub(crate) name: &'static str,
    /// Processes that serve it now.
    pub(crate) processes: usize,
}

impl ServiceView {
    /// What people call it.
    pub(crate) fn spoken(&self) -> &'static str {
        match self.name {
            "registry" => "Registry",
            "authsvc" => "Token service",
            _ => "Controller",
        }
    }
}

/// A process that serves.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessView {
    /// Name of its machine.
    pub(crate) host: String,
    /// Version of the program.
    pub(crate) version: String,
    /// Whether it was heard of a moment ago.
    pub(crate) alive: bool,
    /// When it started.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) started_at: i64,
    /// When it was last heard of.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) seen_at: i64,
    /// Services that it serves.
    pub(crate) services: Vec<String>,
    /// Room on the file systems that it writes to.
    pub(crate) folders: Vec<FolderView>,
    /// The certificate that it serves with; null where TLS ends before it.
    pub(crate) certificate: Option<CertificateView>,
    /// How its background tasks ended.
    pub(crate) tasks: Vec<TaskView>,
    /// Audit events that it noted and has not written yet.
    pub(crate) events_waiting: i64,
}

/// Room on a file system.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FolderView {
    /// `blobs` or `data` (the database and the keys).
    pub(crate) what: String,
    /// Bytes of the file system.
    pub(crate) total: i64,
    /// Bytes that are free.
    pub(crate) free: i64,
}

impl FolderView {
    /// How much of it is taken, in hundredths.
    pub(crate) fn percent(&self) -> i64 {
        let taken = i128::from(self.total - self.free) * 100 / i128::from(self.total.max(1));
        i64::try_from(taken.clamp(0, 100)).unwrap_or(0)
    }

    /// Whether less than a tenth is left.
    pub(crate) fn is_short(&self) -> bool {
        self.free < self.total / 10
    }
}

/// A certificate.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CertificateView {
    /// Names that it is for.
    pub(crate) names: Vec<String>,
    /// Who signed it.
    pub(crate) issuer: String,
    /// Until when it holds.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) not_after: i64,
}

/// A task in the background.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TaskView {
    /// `gc`, `mail`, `identity`, `usage`, `audit` or `certificate`.
    pub(crate) name: String,
    /// When it last ended well.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) ok_at: Option<i64>,
    /// When it last failed.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) failed_at: Option<i64>,
}

impl TaskView {
    /// Whether it failed since it last ended well.
    pub(crate) fn fails(&self) -> bool {
        self.failed_at > self.ok_at
    }
}

/// Mails in the outbox.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MailsView {
    /// Those that are to be sent.
    pub(crate) waiting: i64,
    /// Those of them that were tried in vain, and are tried again.
    pub(crate) failing: i64,
    /// Those that were given up.
    pub(crate) given_up: i64,
    /// When the oldest that waits was written.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) oldest_at: Option<i64>,
    /// Why one of them did not get through, without the address that it was for.
    pub(crate) last_error: Option<String>,
}

/// What waits to be done in the background.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkView {
    /// Uploads that were begun and have not ended.
    pub(crate) uploads: i64,
    /// Links between repositories and layers to be looked at by garbage collection.
    pub(crate) links_to_review: i64,
    /// Objects whose bytes wait to be taken away.
    pub(crate) objects_to_remove: i64,
    /// Deleted repositories whose rows wait to be taken away.
    pub(crate) repositories_to_remove: i64,
}

/// A key that signs access tokens.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SigningKeyView {
    /// What tokens name it by.
    pub(crate) kid: String,
    /// `next` (published, signs later), `signing` or `retiring` (its last tokens still count).
    #[schema(pattern = "^(next|signing|retiring)$")]
    pub(crate) state: &'static str,
    /// When it was made.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// From when on it signs.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) signs_from: i64,
    /// Until when its signatures count, where a younger one takes over.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) counts_until: Option<i64>,
}

/// How the platform is
///
/// Its services and the processes that serve them, room on disk, what waits in the background, keys and certificates.
#[utoipa::path(get, path = "/platform/health", tag = "platform",
    responses((status = 200, description = "How it is", body = HealthView)))]
pub(crate) async fn get_platform_health(actor: Actor, Shared(state): Shared<State>) -> Result<Json<HealthView>> {
    actor.can(Permission::PlatformHealth, &Resource::Platform)?;
    let asked = std::time::Instant::now();
    state.db().ping().await?;
    let database_ms = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let now = state.identity().now();
    let mut session = state.db().read().await?;
    let counts = health::counts(&mut session).await?;
    let processes = processes::list(&mut session).await?;
    let keys = signing_keys::list(&mut session).await?;
    let last_error = health::last_mail_error(&mut session).await?.map(|(error, to)| without(&error, &to));
    drop(session);
    let alive = |name: &str| {
        processes.iter().filter(|one| one.is_alive(now) && one.report.services.iter().any(|is| is == name)).count()
    };
    let mut view = HealthView {
        version: env!("CARGO_PKG_VERSION"),
        now,
        problems: Vec::new(),
        database: if state.db().is_sqlite() { "sqlite" } else { "postgresql" },
        database_ms,
        database_bytes: counts.database_bytes,
        organizations: OrgCounts::new(&counts),
        mails_waiting: counts.mails.waiting,
        objects_to_remove: counts.work.objects_to_remove,
        services: SERVICES.map(|name| ServiceView { name, processes: alive(name) }).into(),
        mails: MailsView {
            waiting: counts.mails.waiting,
            failing: counts.mails.failing,
            given_up: counts.mails.given_up,
            oldest_at: counts.mails.oldest_at,
            last_error,
        },
        work: WorkView {
            uploads: counts.work.uploads,
            links_to_review: counts.work.links_to_review,
            objects_to_remove: counts.work.objects_to_remove,
            repositories_to_remove: counts.work.repositories_to_remove,
        },
        processes: processes.into_iter().map(|process| ProcessView::new(process, now)).collect(),
        next_signing_key_at: keys.iter().map(|key| key.created_at + MAX_AGE).max(),
        signing_keys: signing_keys_at(keys, now),
    };
    view.problems = problems(&view);
    Ok(Json(view))
}

/// Text without an address, however it is written.
fn without(text: &str, address: &str) -> String {
    let (low, wanted) = (text.to_ascii_lowercase(), address.to_ascii_lowercase());
    let (mut kept, mut at) = (String::with_capacity(text.len()), 0);
    while let Some(found) = low[at..].find(&wanted).filter(|_| !wanted.is_empty()) {
        kept.push_str(&text[at..at + found]);
        kept.push('…');
        at += found + wanted.len();
    }
    kept + &text[at..]
}

impl OrgCounts {
    fn new(counts: &Counts) -> Self {
        let mut organizations = Self::default();
        for (status, count) in &counts.orgs {
            match status.as_str() {
                orgs::ACTIVE => organizations.active = *count,
                orgs::SUSPENDED => organizations.suspended = *count,
                orgs::DELETING => organizations.deleting = *count,
                orgs::REMOVING => organizations.removing = *count,
                _ => {}
            }
        }
        organizations
    }
}

impl ProcessView {
    fn new(process: Process, now: i64) -> Self {
        let alive = process.is_alive(now);
        let report = process.report;
        let folder =
            |folder: processes::Folder| FolderView { what: folder.what, total: folder.total, free: folder.free };
        let task = |task: processes::Task| TaskView { name: task.name, ok_at: task.ok_at, failed_at: task.failed_at };
        Self {
            host: process.host,
            version: process.version,
            alive,
            started_at: process.started_at,
            seen_at: process.seen_at,
            services: report.services,
            folders: report.folders.into_iter().map(folder).collect(),
            certificate: report.certificate.map(|certificate| CertificateView {
                names: certificate.names,
                issuer: certificate.issuer,
                not_after: certificate.not_after,
            }),
            tasks: report.tasks.into_iter().map(task).collect(),
            events_waiting: report.events_waiting,
        }
    }
}

/// The keys that count, and what each is there for.
fn signing_keys_at(keys: Vec<SigningKey>, now: i64) -> Vec<SigningKeyView> {
    let mut keys: Vec<SigningKey> =
        keys.into_iter().filter(|key| key.verify_until.is_none_or(|until| until > now)).collect();
    keys.sort_by_key(|key| (-key.created_at, -key.sign_from));
    let signing = keys.iter().position(|key| key.sign_from <= now).unwrap_or(keys.len().saturating_sub(1));
    let state = |index: usize| match index.cmp(&signing) {
        std::cmp::Ordering::Less => "next",
        std::cmp::Ordering::Equal => "signing",
        std::cmp::Ordering::Greater => "retiring",
    };
    let view = |(index, key): (usize, SigningKey)| SigningKeyView {
        kid: key.kid,
        state: state(index),
        created_at: key.created_at,
        signs_from: key.sign_from,
        counts_until: key.verify_until,
    };
    keys.into_iter().enumerate().map(view).collect()
}

/// What needs somebody's attention.
fn problems(view: &HealthView) -> Vec<String> {
    let mut problems = Vec::new();
    for service in view.services.iter().filter(|service| service.processes == 0) {
        problems.push(format!("No process serves the {}.", service.spoken().to_lowercase()));
    }
    for process in &view.processes {
        let host = &process.host;
        if !process.alive {
            continue;
        }
        for folder in process.folders.iter().filter(|folder| folder.is_short()) {
            let percent = 100 - folder.percent();
            problems.push(format!("On {host}, only {percent} % of the disk with the {} is free.", folder.what));
        }
        if let Some(certificate) = &process.certificate {
            let left = certificate.not_after - view.now;
            if left <= 0 {
                problems.push(format!("The certificate on {host} has expired."));
            } else if left < SHORT_OF_TIME {
                problems.push(format!("The certificate on {host} expires in {} days.", left / 86_400));
            }
        }
        for task in process.tasks.iter().filter(|task| task.fails()) {
            problems.push(format!("On {host}, the background task {} fails; the log says why.", task.name));
        }
        if process.events_waiting > BEHIND {
            problems.push(format!("On {host}, the audit log falls behind: {} events wait.", process.events_waiting));
        }
    }
    let MailsView { failing, given_up, oldest_at, .. } = &view.mails;
    if *failing > 0 || *given_up > 0 {
        problems.push(format!("Mails do not get through: {failing} are tried again, {given_up} were given up."));
    } else if oldest_at.is_some_and(|at| view.now - at > LATE) {
        problems.push("Mails wait for more than 15 minutes.".to_owned());
    }
    problems
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use storage::mails::{self, NewMail};
    use storage::processes::{Certificate, Folder, Report, Task};

    use super::*;
    use crate::testing::{ADMIN, Controller, OPERATOR};

    async fn say(controller: &Controller, id: &str, report: Report, seen_at: i64) {
        let (host, version) = (format!("{id}.example"), "1".to_owned());
        let process = Process { id: id.to_owned(), host, version, report, started_at: seen_at - 60, seen_at };
        let mut tx = controller.db.begin().await.unwrap();
        processes::note(&mut tx, &process).await.unwrap();
        tx.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_service_that_nobody_serves_is_a_problem() {
        let controller = Controller::start().await;
        let (operator, now) = (controller.login(OPERATOR).await, controller.clock.now());
        let services = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let report = Report { services: services(&["registry", "controller"]), ..Report::default() };
        say(&controller, "one", report.clone(), now).await;
        say(&controller, "old", Report { services: services(&["authsvc"]), ..report }, now - processes::SILENT).await;
        let health = controller.get(&operator, "/platform/health").await.expect(200).body;
        assert_eq!(health["problems"], serde_json::json!(["No process serves the token service."]));
        assert_eq!(health["services"][0], serde_json::json!({"name": "registry", "processes": 1}));
        assert_eq!(health["processes"][1]["alive"], false);
        assert_eq!(health["organizations"]["active"], 1);
        assert_eq!(health["signing_keys"][0]["state"], "signing");
        assert!(health["database_bytes"].as_i64().unwrap() > 0);
        let admin = controller.login(ADMIN).await;
        controller.get(&admin, "/platform/health").await.expect(403);
    }

    #[tokio::test]
    async fn what_needs_attention_is_said_and_no_address_of_a_tenant() {
        let controller = Controller::start().await;
        let (operator, now) = (controller.login(OPERATOR).await, controller.clock.now());
        let certificate = Certificate { not_after: now + 3 * 86_400, ..Certificate::default() };
        let report = Report {
            services: SERVICES.map(str::to_owned).into(),
            folders: vec![Folder { what: "blobs".into(), total: 1000, free: 50 }],
            certificate: Some(certificate),
            tasks: vec![Task { name: "gc".into(), ok_at: Some(now - 9), failed_at: Some(now) }],
            events_waiting: 4000,
        };
        say(&controller, "one", report, now).await;
        let mut tx = controller.db.begin().await.unwrap();
        let new = NewMail { id: "m", org_id: None, recipient: "ann@acme.example", kind: "reset", sealed: "s" };
        mails::create(&mut tx, &new, now).await.unwrap();
        mails::update_failed(&mut tx, "m", "550 <Ann@Acme.example>: no such user", None).await.unwrap();
        tx.commit().await.unwrap();
        let health = controller.get(&operator, "/platform/health").await.expect(200).body;
        let said = health["problems"].to_string();
        for part in [
            "only 5 % of the disk with the blobs",
            "expires in 3 days",
            "task gc fails",
            "4000 events",
            "1 were given up",
        ] {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert_eq!(health["mails"]["last_error"], "550 <…>: no such user");
    }

    #[test]
    fn keys_are_told_apart_by_what_they_do() {
        let key = |kid: &str, created_at, sign_from, verify_until| SigningKey {
            kid: kid.into(),
            sealed: String::new(),
            public_key: String::new(),
            certificate: String::new(),
            created_at,
            sign_from,
            verify_until,
        };
        let keys = vec![
            key("c", 30, 90, None),
            key("b", 20, 20, Some(200)),
            key("a", 10, 10, Some(99)),
            key("0", 1, 1, Some(40)),
        ];
        let states: Vec<_> = signing_keys_at(keys, 50).into_iter().map(|key| (key.kid, key.state)).collect();
        assert_eq!(states, [("c".into(), "next"), ("b".into(), "signing"), ("a".into(), "retiring")]);
    }
}

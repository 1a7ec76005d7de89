//! Serving: sockets first, then stores, then requests, until a signal; then an orderly end.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::Router;
use storage::Clock;
use storage::uploads::Uploads;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::access::Surface;
use crate::background::Background;
use crate::cli::Service;
use crate::config::{Config, Tls};
use crate::connection::{FIRST_REQUEST, Listener, Stop};
use crate::first_start::{self, Welcome};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pki::{self, Pki};
use crate::proxies::Proxies;
use crate::stores::{Content, ServeLock, SetupLock, Stores, TOKEN_SERVICE};
use crate::tls::{Certificate, Protocols, server_config};
use crate::{bind, monitor};

/// How long closing the database may take.
const LAST: Duration = Duration::from_secs(5);
/// How long writing the last audit events may take.
const AUDIT: Duration = Duration::from_secs(10);
/// Connections of the admin listener.
const MONITOR_CONNECTIONS: u32 = 64;

/// Serves the named services, or all of them, until SIGTERM or SIGINT. A second signal ends the process at once.
///
/// # Errors
/// Says what kept the services from starting, and what can be done.
pub(crate) async fn run(config: &Config, named: &[Service]) -> Result<ExitCode> {
    let services = if named.is_empty() { Service::ALL.to_vec() } else { sorted(named) };
    raise_descriptor_limit();
    let mut signals = Signals::new()?;
    // Before anything is made: who cannot listen leaves nothing behind.
    let sockets = Sockets::bind(config, &services)?;
    crate::files::private_dir(&config.data_dir)?;
    let exclusive = config.sqlite_path().filter(|_| services.contains(&Service::Registry));
    let _lock = exclusive.map(ServeLock::take).transpose()?;
    let setup = SetupLock::take(&config.data_dir)?;
    let stores = Stores::open(config).await?;
    // Whatever can fail comes before the first accounts: a password that is made is shown.
    let certificate = certificate(config, &stores.content.clock)?;
    let acceptors = acceptors(certificate.as_ref(), &services)?;
    let welcome = first_start::ensure(config, &stores).await?;
    drop(setup);
    if let Some(welcome) = welcome {
        say(&welcome, config);
    }
    let Content { db, objects, clock, lifetimes } = stores.content.clone();
    let uploads = Uploads::new(db.clone(), objects, clock.clone(), lifetimes);
    if exclusive.is_some() {
        uploads.forget_claims().await.context("taking over the uploads of the last run")?;
    }
    let process = Process::new(config, &stores, &services);
    let parts = Parts { config, stores: &stores, uploads };
    for ((service, socket), tls) in sockets.services.into_iter().zip(acceptors) {
        process.listen(socket, service.name(), router(&parts, service), tls, config.max_connections);
    }
    let monitor = process.monitor(sockets.monitor);
    let background = Background::start(config, &stores, &process.metrics, certificate, &services)?;
    tell_cost(&stores).await;
    tracing::info!(services = ?services.iter().map(|s| s.name()).collect::<Vec<_>>(), "serving");
    signals.next().await;
    let code = process.drain(config, &mut signals).await;
    background.stop().await;
    monitor.gently.cancel();
    // No request runs any more: what they noted is written while the database is still open.
    if !stores.identity.close_journal(AUDIT).await {
        tracing::error!("the database did not take the last audit events: they are in this log");
    }
    // What is cut off may hold a connection for ever; the database is as safe as after a crash.
    if tokio::time::timeout(LAST, db.close()).await.is_err() {
        tracing::warn!("the database's connections are cut off");
    }
    tracing::info!("stopped");
    Ok(code)
}

/// Says what a password costs on this machine: whoever guesses pays it, and so does every log-in.
async fn tell_cost(stores: &Stores) {
    let cost = stores.identity.hash_cost();
    match stores.identity.measure_hash().await {
        Ok(took) => tracing::info!(
            argon2.memory_kib = cost.memory,
            argon2.passes = cost.passes,
            duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "a password hash costs"
        ),
        Err(error) => tracing::warn!(%error, "the cost of a password hash was not measured"),
    }
}

fn sorted(named: &[Service]) -> Vec<Service> {
    let mut services = named.to_vec();
    services.sort_unstable();
    services.dedup();
    services
}

/// Prints to standard output what only the first start knows; never to the log.
fn say(welcome: &Welcome, config: &Config) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if out.write_all(welcome.text(config).as_bytes()).and_then(|()| out.flush()).is_err() {
        tracing::warn!(
            "the first passwords could not be printed: set new ones with `wharfinger admin reset-password {}` (and {})",
            config.first.admin_email,
            config.first.operator_email
        );
    }
}

/// The sockets, all of them or none.
struct Sockets {
    services: Vec<(Service, TcpListener)>,
    monitor: TcpListener,
}

impl Sockets {
    fn bind(config: &Config, services: &[Service]) -> Result<Self> {
        let flag = |service| match service {
            Service::Registry => "--registry-listen",
            Service::Authsvc => "--auth-listen",
            Service::Controller => "--controller-listen",
        };
        let bound = services.iter().map(|&s| Ok((s, bind::tcp(config.listen(s), flag(s))?)));
        Ok(Self { services: bound.collect::<Result<_>>()?, monitor: bind::tcp(config.admin_listen, "--admin-listen")? })
    }
}

/// The certificate to serve with; makes or renews it where it is the private CA's.
fn certificate(config: &Config, clock: &Clock) -> Result<Option<Arc<Certificate>>> {
    let (cert, key) = match &config.tls {
        Tls::Off => return Ok(None),
        Tls::Files { cert, key } => (cert.clone(), key.clone()),
        Tls::Private => {
            let pki = Pki::in_dir(&config.pki_dir());
            pki.ensure(&pki::names(&config.hostname), clock.now()).context("setting up the private CA")?;
            (pki.server_cert, pki.server_key)
        }
    };
    Ok(Some(Certificate::open(cert, key).context("loading the TLS certificate")?))
}

/// How each service speaks TLS, in the services' order.
fn acceptors(certificate: Option<&Arc<Certificate>>, services: &[Service]) -> Result<Vec<Option<TlsAcceptor>>> {
    services.iter().map(|&service| certificate.map(|c| acceptor(c, service)).transpose()).collect()
}

fn acceptor(certificate: &Arc<Certificate>, service: Service) -> Result<TlsAcceptor> {
    let protocols = if service == Service::Registry { Protocols::Http1 } else { Protocols::Http2 };
    Ok(TlsAcceptor::from(server_config(Arc::clone(certificate), protocols)?))
}

/// What routers are made of.
struct Parts<'a> {
    config: &'a Config,
    stores: &'a Stores,
    uploads: Uploads,
}

fn router(parts: &Parts<'_>, service: Service) -> Router {
    let Parts { config, stores, uploads } = parts;
    let Stores { content: Content { db, objects, .. }, identity } = (*stores).clone();
    match service {
        Service::Registry => {
            let settings = registry::Settings {
                service: TOKEN_SERVICE.to_owned(),
                realm: realm(config),
                controller_url: config.external_url(Service::Controller),
                cache: config.cache_size.0,
                max_manifest: config.max_manifest_size.0,
                max_blob: config.max_blob_size.0,
                body_idle: config.body_timeout.duration(),
            };
            registry::router(registry::State::new(db, objects, uploads.clone(), identity, settings))
        }
        Service::Authsvc => authsvc::router(authsvc::State::new(identity)),
        Service::Controller => {
            let plain = config.tls == Tls::Off && config.external_url(service).starts_with("http://");
            let private = config.tls == Tls::Private;
            let settings = controller::Settings {
                secure_cookies: !plain,
                registry_host: config.registry_host(),
                registry_secure: config.external_url(Service::Registry).starts_with("https://"),
                // Pages show it to whoever wants to trust it; without it they leave that step out.
                private_ca: private
                    .then(|| std::fs::read_to_string(Pki::in_dir(&config.pki_dir()).ca_cert).ok())
                    .flatten(),
                grace: stores.content.lifetimes.grace,
            };
            controller::router(controller::State::new(db, objects, identity, settings))
        }
    }
}

/// Where challenges send clients: to the URL that was configured, else to this machine by the name they used.
fn realm(config: &Config) -> registry::auth::Realm {
    if config.auth_external_url.is_some() {
        return registry::auth::Realm::Fixed(format!("{}/token", config.external_url(Service::Authsvc)));
    }
    registry::auth::Realm::ByHost {
        scheme: if config.tls == Tls::Off { "http" } else { "https" },
        hosts: pki::names(&config.hostname),
        port: config.auth_listen.port(),
    }
}

/// What the running services share.
struct Process {
    health: Health,
    metrics: Metrics,
    stop: Stop,
    connections: TaskTracker,
    proxies: Proxies,
}

impl Process {
    fn new(config: &Config, stores: &Stores, services: &[Service]) -> Self {
        // The others read no bytes.
        let objects = services.contains(&Service::Registry).then(|| stores.content.objects.clone());
        Self {
            health: Health::new(stores.content.db.clone(), objects),
            metrics: Metrics::new(stores.content.clock.now()),
            stop: Stop::new(),
            connections: TaskTracker::new(),
            proxies: config.trusted_proxies.clone(),
        }
    }

    fn listen(&self, socket: TcpListener, name: &'static str, router: Router, tls: Option<TlsAcceptor>, most: u32) {
        let surface = Surface::behind(self.proxies.clone(), name, router, self.health.clone(), self.metrics.clone());
        announce(name, socket.local_addr().ok(), tls.is_some());
        let listener = Listener { socket, tls, surface, max_connections: most, first_request: FIRST_REQUEST };
        self.connections.spawn(listener.run(self.stop.clone(), self.connections.clone()));
    }

    /// Serves metrics and health until its own stop: whoever watches sees the process drain.
    fn monitor(&self, socket: TcpListener) -> Stop {
        let stop = Stop::new();
        let router = monitor::router(self.metrics.clone());
        let surface = Surface::new("admin", router, self.health.clone(), self.metrics.clone());
        announce("admin", socket.local_addr().ok(), false);
        let listener =
            Listener { socket, tls: None, surface, max_connections: MONITOR_CONNECTIONS, first_request: FIRST_REQUEST };
        tokio::spawn(listener.run(stop.clone(), TaskTracker::new()));
        stop
    }

    /// Stops taking requests and waits for those in flight: no longer than configured, no longer than a second signal.
    async fn drain(self, config: &Config, signals: &mut Signals) -> ExitCode {
        self.health.drain();
        self.stop.gently.cancel();
        self.connections.close();
        tracing::info!(connections = self.connections.len(), "draining");
        let code = tokio::select! {
            () = self.connections.wait() => ExitCode::SUCCESS,
            () = tokio::time::sleep(config.drain_timeout.duration()) => {
                tracing::warn!(connections = self.connections.len(), "requests in flight are cut off");
                ExitCode::SUCCESS
            }
            () = signals.next() => {
                tracing::warn!(connections = self.connections.len(), "a second signal: requests in flight are cut off");
                ExitCode::FAILURE
            }
        };
        self.stop.now.cancel();
        // Their tasks end at once; only what blocks a thread may take a moment.
        let _ = tokio::time::timeout(Duration::from_secs(1), self.connections.wait()).await;
        code
    }
}

fn announce(name: &str, address: Option<SocketAddr>, tls: bool) {
    let address = address.map(|a| a.to_string()).unwrap_or_default();
    tracing::info!(service.name = name, listen.address = address, tls, "listening");
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).context("listening for signals");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => tracing::info!("SIGTERM"),
            _ = self.interrupt.recv() => tracing::info!("SIGINT"),
        }
    }
}

/// A connection is a descriptor, and a blob that is read, or was a moment ago, another: the usual soft limit of 1024 is for programs that call
/// select(2), which this one does not.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

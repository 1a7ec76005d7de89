//! The real binary, started on free loopback ports in a directory of its own.

use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::api::Api;
use super::http::{Call, Endpoint, Reply, trust};
use super::mail::Spool;

/// The Organization Admin that an unattended start makes, and the first organization.
pub(crate) const ADMIN: &str = "admin@localhost";
pub(crate) const ADMIN_PASSWORD: &str = "tide tables and the rope locker";
pub(crate) const OPERATOR: &str = "operator@localhost";
pub(crate) const OPERATOR_PASSWORD: &str = "operators keep long passwords too";
pub(crate) const ORG: &str = "main";

/// How the server under test is to be started.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    tls: bool,
    hostname: String,
    data_dir: Option<PathBuf>,
    args: Vec<String>,
    env: Vec<(String, String)>,
    clock: bool,
}

impl Setup {
    /// Plain HTTP on `localhost`, as behind a proxy: what most tests want.
    pub(crate) fn plain() -> Self {
        Self {
            tls: false,
            hostname: "localhost".into(),
            data_dir: None,
            args: Vec::new(),
            env: Vec::new(),
            clock: false,
        }
    }

    /// TLS with the private root that the server makes for `hostname`.
    pub(crate) fn tls(hostname: &str) -> Self {
        Self { tls: true, hostname: hostname.into(), ..Self::plain() }
    }

    pub(crate) fn arg(mut self, flag: &str, value: impl Into<String>) -> Self {
        self.args.extend([flag.to_owned(), value.into()]);
        self
    }

    pub(crate) fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Gives the server a clock that [`Server::advance`] moves; a release build has none.
    pub(crate) fn clock(mut self) -> Self {
        self.clock = true;
        self
    }

    /// Uses `dir` (kept afterwards) in place of a temporary data directory.
    pub(crate) fn data_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(dir.into());
        self
    }

    /// Starts the binary and waits until `/readyz` says so.
    pub(crate) fn start(self) -> Server {
        let scratch = tempfile::Builder::new().prefix("wharfinger-").tempdir().expect("a temporary directory");
        let data_dir = self.data_dir.clone().unwrap_or_else(|| scratch.path().join("data"));
        let database = Database::from_env();
        let ports = Ports::free();
        let mut server = Server {
            setup: self,
            ports,
            data_dir,
            log: scratch.path().join("server.log"),
            child: None,
            scratch,
            database,
        };
        server.launch();
        server
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) registry: u16,
    pub(crate) auth: u16,
    pub(crate) controller: u16,
    pub(crate) admin: u16,
}

impl Ports {
    fn free() -> Self {
        Self { registry: free_port(), auth: free_port(), controller: free_port(), admin: free_port() }
    }
}

/// A port that nobody listens on, not handed out before by this process, and below those that the
/// system gives to outgoing connections: one of these could take it before the server does.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let start = std::process::id().wrapping_mul(997);
    for _ in 0..COUNT {
        let number = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + number).expect("a port number");
        if TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).is_ok() {
            return port;
        }
    }
    panic!("no free port");
}

/// A database of the test's own on the PostgreSQL of `TEST_DATABASE_URL`, dropped with it.
struct Database {
    root: String,
    name: String,
}

impl Database {
    fn from_env() -> Option<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let root = std::env::var("TEST_DATABASE_URL").ok().filter(|url| !url.is_empty())?;
        let name = format!("wharfinger_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let database = Self { root, name };
        database.psql(&format!("CREATE DATABASE {}", database.name));
        Some(database)
    }

    fn url(&self) -> String {
        let mut url = url::Url::parse(&self.root).expect("TEST_DATABASE_URL is a URL");
        url.set_path(&self.name);
        url.into()
    }

    fn psql(&self, statement: &str) {
        let done = Command::new("psql").args([&self.root, "-v", "ON_ERROR_STOP=1", "-qc", statement]).status();
        assert!(done.expect("psql runs").success(), "{statement}");
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.psql(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
    }
}

/// A running server; killed when dropped, with its log shown if the test failed.
pub(crate) struct Server {
    setup: Setup,
    pub(crate) ports: Ports,
    pub(crate) data_dir: PathBuf,
    log: PathBuf,
    child: Option<Child>,
    scratch: tempfile::TempDir,
    database: Option<Database>,
}

/// The binary under test: cargo's, or the one named by `WHARFINGER_BIN`.
pub(crate) fn binary() -> PathBuf {
    std::env::var_os("WHARFINGER_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_wharfinger")), PathBuf::from)
}

impl Server {
    /// The environment and flags of this server, for the server itself and its other commands.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("WHARFINGER_") {
                command.env_remove(name);
            }
        }
        let listen = |port: u16| format!("[::]:{port}");
        command
            .current_dir(self.scratch.path())
            .env("WHARFINGER_ADMIN_EMAIL", ADMIN)
            .env("WHARFINGER_ADMIN_PASSWORD", ADMIN_PASSWORD)
            .env("WHARFINGER_OPERATOR_EMAIL", OPERATOR)
            .env("WHARFINGER_OPERATOR_PASSWORD", OPERATOR_PASSWORD)
            .env("WHARFINGER_ORG", ORG)
            .env("WHARFINGER_DATA_DIR", &self.data_dir)
            .env("WHARFINGER_HOSTNAME", &self.setup.hostname)
            .env("WHARFINGER_TLS", if self.setup.tls { "on" } else { "off" })
            .env("WHARFINGER_REGISTRY_LISTEN", listen(self.ports.registry))
            .env("WHARFINGER_AUTH_LISTEN", listen(self.ports.auth))
            .env("WHARFINGER_CONTROLLER_LISTEN", listen(self.ports.controller))
            .env("WHARFINGER_ADMIN_LISTEN", format!("127.0.0.1:{}", self.ports.admin));
        if let Some(database) = &self.database {
            command.env("WHARFINGER_DATABASE_URL", database.url());
        }
        if !self.setup.tls {
            command
                .env("WHARFINGER_REGISTRY_EXTERNAL_URL", format!("http://{}", self.registry_host()))
                .env("WHARFINGER_AUTH_EXTERNAL_URL", format!("http://{}:{}", self.setup.hostname, self.ports.auth))
                .env(
                    "WHARFINGER_CONTROLLER_EXTERNAL_URL",
                    format!("http://{}:{}", self.setup.hostname, self.ports.controller),
                );
        }
        if self.setup.clock {
            command.env("WHARFINGER_TEST_CLOCK_FILE", self.clock_file());
        }
        command.envs(self.setup.env.iter().map(|(name, value)| (name, value)));
        command.args(&self.setup.args);
        command
    }

    fn clock_file(&self) -> PathBuf {
        self.scratch.path().join("clock")
    }

    /// Seconds by which the server's clock is ahead.
    fn ahead(&self) -> i64 {
        fs::read_to_string(self.clock_file()).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// Moves the clock of a server of [`Setup::clock`].
    pub(crate) fn advance(&self, seconds: i64) {
        assert!(self.setup.clock, "the server has a clock of its own");
        let next = self.clock_file().with_extension("next");
        fs::write(&next, (self.ahead() + seconds).to_string()).expect("the clock's file");
        fs::rename(next, self.clock_file()).expect("the clock's file");
    }

    /// What the server takes for the time, in unix seconds.
    #[allow(clippy::disallowed_methods)] // It is another process that keeps the time.
    pub(crate) fn now(&self) -> i64 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970");
        i64::try_from(now.as_secs()).expect("seconds") + self.ahead()
    }

    /// The mails that the server leaves because it has no mail server.
    pub(crate) fn spool(&self) -> Spool {
        let set = self.setup.env.iter().find(|(name, _)| name == "WHARFINGER_MAIL_DIR");
        Spool::new(set.map_or_else(|| self.data_dir.join("mail"), |(_, dir)| PathBuf::from(dir)))
    }

    /// The database of this server, where it is a PostgreSQL.
    pub(crate) fn database_url(&self) -> Option<String> {
        self.database.as_ref().map(Database::url)
    }

    fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let errors = log.try_clone().expect("the same file");
        let child = self.command().stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", binary().display())));
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().expect("its state")) {
                panic!("the server stopped at once ({status}):\n{}", self.log());
            }
            if Call::get("/readyz").try_send(&self.admin()).is_ok_and(|reply| reply.status == 200) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("not ready after 60 s:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running server").id()
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status();
        assert!(done.expect("kill runs").success());
    }

    /// `kill -9`, and the corpse collected.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM without waiting.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits for the server to end by itself.
    pub(crate) fn wait(&mut self, limit: Duration) -> std::process::ExitStatus {
        let deadline = Instant::now() + limit;
        let mut child = self.child.take().expect("a running server");
        loop {
            if let Some(status) = child.try_wait().expect("its state") {
                return status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("the server did not end in {limit:?}:\n{}", self.log());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts the binary again on the same data and ports, after [`Server::kill`] or the like.
    pub(crate) fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// Runs another command of the binary over the same configuration; its output, if it succeeded.
    pub(crate) fn run(&self, args: &[&str]) -> String {
        let (success, text) = self.try_run(args);
        assert!(success, "{args:?}:\n{text}");
        text
    }

    pub(crate) fn try_run(&self, args: &[&str]) -> (bool, String) {
        let output = self.command().args(args).stdin(Stdio::null()).output().expect("the binary runs");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }

    /// Resident memory in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("its status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
    }

    pub(crate) fn ca_path(&self) -> PathBuf {
        self.data_dir.join("pki").join("ca.crt")
    }

    fn endpoint(&self, port: u16) -> Endpoint {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let tls = self.setup.tls.then(|| trust(&fs::read(self.ca_path()).unwrap_or_default()));
        Endpoint { addr: address, host: format!("{}:{port}", self.setup.hostname), tls }
    }

    pub(crate) fn registry(&self) -> Endpoint {
        self.endpoint(self.ports.registry)
    }

    pub(crate) fn auth(&self) -> Endpoint {
        self.endpoint(self.ports.auth)
    }

    pub(crate) fn controller(&self) -> Endpoint {
        self.endpoint(self.ports.controller)
    }

    /// Health and metrics, which are plain HTTP on loopback.
    pub(crate) fn admin(&self) -> Endpoint {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports.admin));
        Endpoint { addr: address, host: address.to_string(), tls: None }
    }

    /// `hostname:port`, the way clients name the registry.
    pub(crate) fn registry_host(&self) -> String {
        format!("{}:{}", self.setup.hostname, self.ports.registry)
    }

    /// The challenge that the registry answers strangers with.
    pub(crate) fn challenge(&self) -> Reply {
        Call::get("/v2/").send(&self.registry()).expect(401)
    }

    /// The `service` that tokens are made for.
    pub(crate) fn service(&self) -> String {
        parameter(self.challenge().header("www-authenticate").expect("a challenge"), "service").expect("a service")
    }

    /// What the token service answers to a GET with these scopes.
    pub(crate) fn try_token(&self, login: Option<(&str, &str)>, scopes: &[&str]) -> Reply {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("service", &self.service());
        query.extend_pairs(scopes.iter().map(|scope| ("scope", *scope)));
        let call = Call::get(format!("/token?{}", query.finish()));
        let call = if let Some((user, password)) = login { call.basic(user, password) } else { call };
        call.send(&self.auth())
    }

    pub(crate) fn token(&self, user: &str, password: &str, scopes: &[&str]) -> String {
        let reply = self.try_token(Some((user, password)), scopes).expect(200).json();
        reply["token"].as_str().expect("a token").to_owned()
    }

    /// A token of the Organization Admin with every right over `repository`.
    pub(crate) fn admin_token(&self, repository: &str) -> String {
        self.token(ADMIN, ADMIN_PASSWORD, &[&format!("repository:{repository}:pull,push,delete")])
    }

    /// The REST API as somebody with a password.
    pub(crate) fn login(&self, user: &str, password: &str) -> Api {
        Api::login(self.controller(), user, password).with_spool(self.spool())
    }

    /// The REST API as the Organization Admin.
    pub(crate) fn api(&self) -> Api {
        self.login(ADMIN, ADMIN_PASSWORD)
    }

    /// The REST API as the platform operator.
    pub(crate) fn operator(&self) -> Api {
        self.login(OPERATOR, OPERATOR_PASSWORD)
    }

    /// The REST API as a stranger.
    pub(crate) fn stranger(&self) -> Api {
        Api::stranger(self.controller()).with_spool(self.spool())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("--- the end of the server's log ---");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The value of `name="…"` in a challenge.
pub(crate) fn parameter(challenge: &str, name: &str) -> Option<String> {
    let start = challenge.find(&format!("{name}=\""))? + name.len() + 2;
    let length = challenge[start..].find('"')?;
    Some(challenge[start..start + length].to_owned())
}

/// Where the repository's own files are.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs `work` in `count` threads and collects what they return.
pub(crate) fn parallel<T: Send + 'static>(count: usize, work: impl Fn(usize) -> T + Send + Sync + 'static) -> Vec<T> {
    let work = Arc::new(work);
    let threads: Vec<_> = (0..count)
        .map(|index| {
            let work = Arc::clone(&work);
            thread::spawn(move || work(index))
        })
        .collect();
    threads.into_iter().map(|thread| thread.join().expect("a worker that does not panic")).collect()
}

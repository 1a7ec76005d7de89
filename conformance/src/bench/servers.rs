//! The servers that are compared: how each is started, on a folder of its own, and what it promises.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustls::ClientConfig;
use serde_json::{Value, json};

use super::client::{Login, Registry};
use super::http::{Body, Connection, Origin, Reply, Request, trust};
use super::measure::{Server, block_on};
use super::work::{Bench, Kind, Spec};

const ADMIN: &str = "admin@localhost";
const PASSWORD: &str = "tide tables and the rope locker";
const OPERATOR_PASSWORD: &str = "operators keep long passwords too";
/// Seconds after which what nothing refers to is garbage.
const GRACE: f64 = 2.0;

/// A server that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, clap::ValueEnum)]
pub(crate) enum Peer {
    Wharfinger,
    /// CNCF Distribution 2.8, as Debian has it.
    DockerRegistry,
    /// CNCF Distribution 3.
    Distribution,
    /// Static files: the ceiling for pulls.
    Nginx,
}

/// Ours first: the others are compared with it.
pub(crate) const PEERS: [Peer; 4] = [Peer::Wharfinger, Peer::DockerRegistry, Peer::Distribution, Peer::Nginx];

impl Peer {
    /// The name in results and on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Wharfinger => "wharfinger",
            Self::DockerRegistry => "docker-registry",
            Self::Distribution => "distribution",
            Self::Nginx => "nginx",
        }
    }

    /// The same in some words, for each row that writes.
    pub(crate) fn synced(self) -> &'static str {
        match self {
            Self::Wharfinger => "bytes, names, rows",
            Self::DockerRegistry => "bytes, no names",
            Self::Distribution => "bytes, names of links",
            Self::Nginx => "nothing",
        }
    }

    /// What is on the disk when the server says that something is stored.
    pub(crate) fn durability(self) -> &'static str {
        match self {
            Self::Wharfinger => "synced: content, its name in the folder and the database's commit, before the answer",
            Self::DockerRegistry => {
                "every file synced, most twice; no folder ever, so names may be lost; links written in place"
            }
            Self::Distribution => {
                "every file synced, links renamed into synced folders; not the folder that a blob is moved to"
            }
            Self::Nginx => "reads only",
        }
    }

    /// Why a workload means nothing here, where it does not.
    pub(crate) fn cannot(self, spec: &Spec) -> Option<&'static str> {
        match (self, spec.kind) {
            (Self::Wharfinger, _) => None,
            (Self::Nginx, Kind::Pull | Kind::Range | Kind::Manifest { .. } | Kind::ImagePull | Kind::Idle) => None,
            (Self::Nginx, _) => Some("static files only"),
            (_, Kind::Token(_)) => Some("no token service"),
            (_, Kind::Referrers(_)) => Some("no referrers API"),
            _ => None,
        }
    }

    /// The program, from `make tools` or the system.
    fn program(self, programs: &Programs) -> Result<PathBuf> {
        let name = match self {
            Self::Wharfinger => return absolute(&programs.wharfinger),
            Self::Distribution => return absolute(&programs.tools.join("registry")),
            Self::DockerRegistry => "docker-registry",
            Self::Nginx => "nginx",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian keeps nginx where only root looks.
        let folders = std::env::split_paths(&path).chain(["/usr/sbin".into()]);
        folders
            .map(|folder| folder.join(name))
            .find(|file| file.is_file())
            .with_context(|| format!("{name} is not installed"))
    }

    /// What the program says of its version, where it is there.
    pub(crate) fn version(self, programs: &Programs) -> Result<String> {
        let flag = if self == Self::Nginx { "-v" } else { "--version" };
        let output = Command::new(self.program(programs)?).arg(flag).output()?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).replace("nginx version: ", "");
        let words = said.lines().next().unwrap_or_default().split(' ');
        // Where it lies is no part of its version.
        Ok(words.filter(|word| !word.starts_with('/')).collect::<Vec<_>>().join(" "))
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize().with_context(|| format!("{} is not there", path.display()))
}

/// Where the programs are.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Programs {
    /// The binary of Wharfinger
    #[arg(long, env = "WHARFINGER_BIN", default_value = "target/release/wharfinger")]
    pub(crate) wharfinger: PathBuf,
    /// The folder that `make tools` fills
    #[arg(long, default_value = "target/tools/bin")]
    pub(crate) tools: PathBuf,
}

/// One P-256 certificate for `localhost`, which every server uses.
#[derive(Clone, Debug)]
pub(crate) struct Pki {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) trust: Arc<ClientConfig>,
}

impl Pki {
    /// Makes it in `folder`.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let root_key = rcgen::KeyPair::generate()?;
        let mut root = rcgen::CertificateParams::new(Vec::new())?;
        root.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        root.distinguished_name.push(rcgen::DnType::CommonName, "benchmark root");
        let root_certificate = root.self_signed(&root_key)?;
        let key = rcgen::KeyPair::generate()?;
        let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()])?;
        let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(root, root_key))?;
        let file = |name: &str, text: String| -> Result<PathBuf> {
            let path = folder.join(name);
            fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        let ca = file("ca.pem", root_certificate.pem())?;
        let certificate = file("server.pem", leaf.pem() + &root_certificate.pem())?;
        let key = file("server.key", key.serialize_pem())?;
        Ok(Self { certificate, key, trust: trust(Some(&ca))? })
    }

    /// The root that clients trust.
    pub(crate) fn ca(&self) -> PathBuf {
        self.certificate.with_file_name("ca.pem")
    }
}

/// A server that runs; stopped, and its folder deleted, when dropped.
pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) bench: Bench,
    pub(crate) url: String,
    child: Child,
    folder: PathBuf,
    start: Box<dyn Fn() -> Result<Child> + Send>,
    port: u16,
}

impl Running {
    /// Starts a server on an empty folder in `scratch`.
    pub(crate) fn start(peer: Peer, tls: bool, programs: &Programs, pki: &Pki, scratch: &Path) -> Result<Self> {
        let port = free_port()?;
        let folder = scratch.join(format!("{}-{port}", peer.name()));
        fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
        let folder = folder.canonicalize()?;
        let url = format!("{}://localhost:{port}", if tls { "https" } else { "http" });
        let program = peer.program(programs)?;
        let launch = Launch { program, port, folder: folder.clone(), tls: tls.then(|| pki.clone()) };
        let mut ours = None;
        let mut files = None;
        let mut gc_command = None;
        let start: Box<dyn Fn() -> Result<Child> + Send> = match peer {
            Peer::Wharfinger => {
                let ports = Ports { auth: free_port()?, controller: free_port()?, admin: free_port()? };
                gc_command = Some(format!(
                    "WHARFINGER_DATA_DIR={} {} gc --now --grace 0s",
                    launch.folder.join("data").display(),
                    launch.program.display()
                ));
                ours = Some(ports);
                Box::new(move || launch.wharfinger(ports))
            }
            Peer::DockerRegistry | Peer::Distribution => {
                let config = launch.distribution_config()?;
                gc_command = Some(format!("{} garbage-collect {}", launch.program.display(), config.display()));
                Box::new(move || launch.spawn(Command::new(&launch.program).arg("serve").arg(&config)))
            }
            Peer::Nginx => {
                let config = launch.nginx_config()?;
                files = Some(folder.join("files"));
                Box::new(move || {
                    launch.spawn(Command::new(&launch.program).arg("-c").arg(&config).arg("-p").arg(&launch.folder))
                })
            }
        };
        let child = start()?;
        let bench = Bench {
            registry: Arc::new(Registry::new(&url, Arc::clone(&pki.trust), Login::default())?),
            base: "main/bench".into(),
            server: Some(Server(child.id())),
            files,
            gc_command,
            gc_wait: GRACE + 1.0,
        };
        let mut running = Self { peer, bench, url, child, folder, start, port };
        running.wait()?;
        if let Some(ports) = ours {
            let login = set_up(tls, ports, &pki.trust)?;
            running.bench.registry = Arc::new(Registry::new(&running.url, Arc::clone(&pki.trust), login)?);
        }
        Ok(running)
    }

    /// The data folder of ours, or the root of a peer's files.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Stops the server and starts it again; how long it took from there until it answered a request.
    pub(crate) fn restart(&mut self) -> Result<Duration> {
        self.end();
        let began = Instant::now();
        self.child = (self.start)()?;
        self.bench.server = Some(Server(self.child.id()));
        self.wait()?;
        Ok(began.elapsed())
    }

    /// Stops the server, lets `change` work on its files, and starts it again.
    pub(crate) fn offline(&mut self, change: impl FnOnce(&Self) -> Result<()>) -> Result<()> {
        self.end();
        change(self)?;
        self.child = (self.start)()?;
        self.bench.server = Some(Server(self.child.id()));
        self.wait()
    }

    /// Waits for an answer. Ours is 503 until it is ready.
    fn wait(&mut self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(120);
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended at once ({status}): {}", self.peer.name(), self.log());
            }
            if TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok() {
                let answer = block_on(async {
                    Connection::new(&self.bench.registry.origin).send(&Request::new("GET", "/v2/")).await
                });
                if answer.is_ok_and(|reply| reply.status < 500) {
                    return Ok(());
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        bail!("{} does not answer: {}", self.peer.name(), self.log())
    }

    fn log(&self) -> String {
        let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        log.lines().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn end(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let deadline = Instant::now() + Duration::from_secs(40);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What every server is started with.
#[derive(Clone, Debug)]
struct Launch {
    program: PathBuf,
    port: u16,
    folder: PathBuf,
    tls: Option<Pki>,
}

/// Where the other services of ours listen.
#[derive(Clone, Copy, Debug)]
struct Ports {
    auth: u16,
    controller: u16,
    admin: u16,
}

impl Launch {
    fn spawn(&self, command: &mut Command) -> Result<Child> {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).context("a log")?;
        // Distribution 3 looks for a collector of traces otherwise.
        command.env("OTEL_TRACES_EXPORTER", "none");
        let spawned = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn();
        spawned.with_context(|| format!("start {}", self.program.display()))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }

    fn wharfinger(&self, ports: Ports) -> Result<Child> {
        let mut command = Command::new(&self.program);
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("WHARFINGER_")) {
            command.env_remove(name);
        }
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let services = [("REGISTRY", self.port), ("AUTH", ports.auth), ("CONTROLLER", ports.controller)];
        for (service, port) in services {
            command.env(format!("WHARFINGER_{service}_LISTEN"), format!("127.0.0.1:{port}"));
            command.env(format!("WHARFINGER_{service}_EXTERNAL_URL"), format!("{scheme}://localhost:{port}"));
        }
        match &self.tls {
            None => {
                command.env("WHARFINGER_TLS", "off");
            }
            Some(pki) => {
                command.env("WHARFINGER_TLS_CERT", &pki.certificate).env("WHARFINGER_TLS_KEY", &pki.key);
            }
        }
        command
            .arg("serve")
            .current_dir(&self.folder)
            .env("WHARFINGER_ADMIN_EMAIL", ADMIN)
            .env("WHARFINGER_ADMIN_PASSWORD", PASSWORD)
            .env("WHARFINGER_OPERATOR_PASSWORD", OPERATOR_PASSWORD)
            .env("WHARFINGER_ORG", "main")
            .env("WHARFINGER_DATA_DIR", self.folder.join("data"))
            .env("WHARFINGER_ADMIN_LISTEN", format!("127.0.0.1:{}", ports.admin))
            .env("WHARFINGER_MAX_CONNECTIONS", "16384")
            .env("WHARFINGER_GC_INTERVAL", "0")
            .env("WHARFINGER_GC_GRACE", format!("{GRACE}s"))
            .env("WHARFINGER_LOG_LEVEL", "warn");
        self.spawn(&mut command)
    }

    fn distribution_config(&self) -> Result<PathBuf> {
        let Self { port, folder, .. } = self;
        let mut text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    rootdirectory: {}\n  \
             delete:\n    enabled: true\n  cache:\n    blobdescriptor: inmemory\nhttp:\n  addr: 127.0.0.1:{port}\n  secret: benchmark\n",
            folder.join("data").display(),
        );
        if let Some(pki) = &self.tls {
            let (certificate, key) = (pki.certificate.display(), pki.key.display());
            text.push_str(&format!("  tls:\n    certificate: {certificate}\n    key: {key}\n"));
        }
        self.write("config.yml", &text)
    }

    fn nginx_config(&self) -> Result<PathBuf> {
        let Self { port, folder, .. } = self;
        let place = folder.display();
        fs::create_dir_all(folder.join("files"))?;
        let tls = self.tls.as_ref().map_or_else(String::new, |pki| {
            let (certificate, key) = (pki.certificate.display(), pki.key.display());
            format!("    ssl_certificate {certificate};\n    ssl_certificate_key {key};\n    ssl_protocols TLSv1.3;\n")
        });
        let ssl = if self.tls.is_some() { " ssl" } else { "" };
        // Workers that drop their rights could not read the folder.
        let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
        let text = format!(
            "{user}daemon off;\nworker_processes auto;\npid {place}/pid;\nerror_log {place}/log error;\nevents {{ worker_connections 16384; }}\n\
             http {{\n  access_log off;\n  sendfile on;\n  tcp_nodelay on;\n  keepalive_requests 1000000000;\n  keepalive_timeout 1h;\n  \
             open_file_cache max=10000;\n  default_type application/octet-stream;\n  client_body_temp_path {place}/body;\n  \
             proxy_temp_path {place}/proxy;\n  fastcgi_temp_path {place}/fastcgi;\n  uwsgi_temp_path {place}/uwsgi;\n  scgi_temp_path {place}/scgi;\n  \
             server {{\n    listen 127.0.0.1:{port}{ssl};\n{tls}    root {place}/files;\n  }}\n}}\n"
        );
        self.write("nginx.conf", &text)
    }
}

/// Makes a project and an API key by the REST API.
fn set_up(tls: bool, ports: Ports, config: &Arc<ClientConfig>) -> Result<Login> {
    let scheme = if tls { "https" } else { "http" };
    let origin = Origin::parse(&format!("{scheme}://localhost:{}", ports.controller), config)?;
    let post = |path: &str, body: &Value, headers: &[(&str, &str)]| -> Result<Reply> {
        let body = body.to_string();
        let mut request = Request::new("POST", path).header("Content-Type", "application/json").keep();
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::Bytes(body.as_bytes()));
        let reply = block_on(async { Connection::new(&origin).send(&request).await })?;
        reply.expect(&[200, 201]).with_context(|| path.to_owned())
    };
    let reply = post("/api/v1/login", &json!({"username": ADMIN, "password": PASSWORD}), &[])?;
    let cookie =
        reply.header("set-cookie").and_then(|cookie| cookie.split(';').next()).context("no session")?.to_owned();
    let token = reply.json()?["csrf_token"].as_str().context("no token of the session")?.to_owned();
    let session = [("Cookie", cookie.as_str()), ("X-CSRF-Token", token.as_str())];
    post("/api/v1/orgs/main/projects", &json!({"slug": "bench"}), &session)?;
    let key = post("/api/v1/orgs/main/apikeys", &json!({"name": "benchmark"}), &session)?.json()?;
    let api_key = key["key"].as_str().context("no API key")?.to_owned();
    Ok(Login { user: Some(ADMIN.into()), password: Some(PASSWORD.into()), api_key: Some(api_key) })
}

/// A port that nobody listens on, below those that the system gives to outgoing connections.
fn free_port() -> Result<u16> {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        let number = std::process::id().wrapping_mul(997).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT)?;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port is free")
}

//! A place to run other people's programs: a server, a home directory, and a mount namespace in
//! which the server's name resolves and nothing of the machine is changed.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::server;
use crate::support::{Server, Setup};

pub(crate) const HOSTNAME: &str = "wharfinger.test";

/// Not a loopback address, for which docker would trust any certificate and fall back to plain
/// HTTP. `tests/tools/in-network.sh` provides it.
const ADDRESS: &str = "192.0.2.10";

/// Binds the private files over the machine's, in a mount namespace of the command's own.
const INSIDE: &str = r#"
mount --bind "$DESK/hosts" /etc/hosts
if [ -d /etc/docker ]; then mount --bind "$DESK/docker" /etc/docker; fi
if [ -d /etc/containers ]; then mount --bind "$DESK/certs.d" /etc/containers/certs.d; fi
exec "$@"
"#;

pub(crate) struct Desk {
    pub(crate) server: Server,
    dir: tempfile::TempDir,
}

impl Desk {
    /// A desk before a fresh server that speaks TLS with its own private root, and has a second project, `copies`.
    pub(crate) fn new() -> Self {
        assert!(TcpListener::bind((ADDRESS, 0)).is_ok(), "run these with `make clients`, which provides {ADDRESS}");
        let server = Setup::tls(HOSTNAME).start();
        let dir = tempfile::Builder::new().prefix("desk-").tempdir().expect("a temporary directory");
        let desk = Self { server, dir };
        let make = |name: &str| fs::create_dir_all(desk.path(name)).expect("a directory");
        for name in ["home", "run", "tmp", "docker", "certs.d", "storage", "storage-run"] {
            make(name);
        }
        fs::create_dir_all("/etc/containers/certs.d").expect("a place to bind over");
        desk.write("hosts", &format!("127.0.0.1 localhost\n::1 localhost\n{ADDRESS} {HOSTNAME}\n"));
        let ca = fs::read_to_string(desk.server.ca_path()).expect("the private root");
        for folder in ["docker/certs.d", "certs.d"] {
            make(&format!("{folder}/{}", desk.host()));
            desk.write(&format!("{folder}/{}/ca.crt", desk.host()), &ca);
        }
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            desk.path("storage").display(),
            desk.path("storage-run").display()
        );
        desk.write("storage.conf", &storage);
        desk.server.api().create_project("main", "copies", false);
        desk
    }

    /// `hostname:port` of the registry.
    pub(crate) fn host(&self) -> String {
        self.server.registry_host()
    }

    /// The reference of a repository (and tag or digest) in the first organization.
    pub(crate) fn reference(&self, name: &str) -> String {
        format!("{}/main/{name}", self.host())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).expect("a written file");
        path.to_string_lossy().into_owned()
    }

    /// A tar archive of one file with `text` in it.
    pub(crate) fn layer(&self, name: &str, text: &str) -> String {
        let folder = format!("{name}.d");
        fs::create_dir_all(self.path(&folder)).expect("a directory");
        self.write(&format!("{folder}/hello"), text);
        let tar = self.path(&format!("{name}.tar")).to_string_lossy().into_owned();
        self.run("tar", &["-C", &self.path(&folder).to_string_lossy(), "-cf", &tar, "hello"]);
        tar
    }

    /// `program` with a private home, trusting the server's root, seeing private files in `/etc`.
    pub(crate) fn command(&self, program: &str, args: &[&str]) -> Command {
        let program = find(program);
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-euc", INSIDE, "sh"]).arg(program).args(args);
        command
            .current_dir(self.dir.path())
            .env("DESK", self.dir.path())
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env("CONTAINERS_STORAGE_CONF", self.path("storage.conf"))
            .env("DOCKER_HOST", format!("unix://{}", self.path("docker.sock").display()))
            .env("DOCKER_BUILDKIT", "0")
            .env("COSIGN_PASSWORD", "a password for the key")
            .env("SSL_CERT_FILE", self.server.ca_path())
            .env_remove("DOCKER_CONFIG");
        command
    }

    /// Runs it to success and returns what it wrote to standard output.
    #[track_caller]
    pub(crate) fn run(&self, program: &str, args: &[&str]) -> String {
        self.run_with(program, args, "")
    }

    /// As [`Desk::run`], with `input` on standard input.
    #[track_caller]
    pub(crate) fn run_with(&self, program: &str, args: &[&str], input: &str) -> String {
        let (success, output, errors) = self.finish(program, args, input);
        assert!(success, "{program} {args:?} failed:\n{output}\n{errors}");
        output
    }

    /// Runs it to failure and returns all that it said.
    #[track_caller]
    pub(crate) fn fails(&self, program: &str, args: &[&str]) -> String {
        let (success, output, errors) = self.finish(program, args, "");
        assert!(!success, "{program} {args:?} succeeded:\n{output}\n{errors}");
        format!("{output}\n{errors}")
    }

    fn finish(&self, program: &str, args: &[&str], input: &str) -> (bool, String, String) {
        let mut command = self.command("timeout", &["--kill-after=5", "120"]);
        command.arg(find(program)).args(args);
        let file = self.path("tmp/input");
        fs::write(&file, input).expect("the input");
        command.stdin(fs::File::open(&file).expect("the input"));
        let output = command.output().unwrap_or_else(|error| panic!("{program}: {error}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// Starts a daemon and waits until `ready` says so; it ends with the returned value.
    pub(crate) fn daemon(&self, program: &str, args: &[&str], ready: impl Fn() -> bool) -> Daemon {
        let log = self.path(&format!("{program}.log"));
        let file = fs::File::create(&log).expect("a log");
        let mut command = self.command(program, args);
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("the log")).stderr(file);
        let mut daemon = Daemon { child: command.spawn().unwrap_or_else(|error| panic!("{program}: {error}")) };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !ready() {
            let ended = daemon.child.try_wait().expect("its state").is_some();
            let text = || fs::read_to_string(&log).unwrap_or_default();
            assert!(!ended && Instant::now() < deadline, "{program} did not start:\n{}", text());
            thread::sleep(Duration::from_millis(50));
        }
        daemon
    }
}

/// A daemon of the journey's own, ended with SIGTERM and then, if need be, for good.
pub(crate) struct Daemon {
    child: Child,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        for _ in 0..200 {
            if self.child.try_wait().is_ok_and(|state| state.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a program is: what `make tools` built first, then the search path.
pub(crate) fn find(program: &str) -> PathBuf {
    if program.contains('/') {
        return program.into();
    }
    let ours = server::root().join("target/tools/bin");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = [Path::new("/usr/sbin"), Path::new("/sbin")].map(Path::to_path_buf);
    let found = std::iter::once(ours).chain(std::env::split_paths(&path)).chain(system).map(|dir| dir.join(program));
    found
        .into_iter()
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("{program} is missing: run `make tools`"))
}

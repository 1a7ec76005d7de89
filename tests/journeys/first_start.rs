//! The first start: what it makes is made once, whole, and what it says is said.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::Call;
use crate::support::http::Endpoint;
use crate::support::server::binary;

/// A server with no configuration but where it listens; killed when dropped.
struct Bare {
    child: Child,
    admin: u16,
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("its address").port()
}

fn command(data: &Path, admin: u16) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("WHARFINGER_") {
            command.env_remove(name);
        }
    }
    command.env("WHARFINGER_DATA_DIR", data).env("WHARFINGER_ADMIN_LISTEN", format!("127.0.0.1:{admin}"));
    for name in ["REGISTRY", "AUTH", "CONTROLLER"] {
        command.env(format!("WHARFINGER_{name}_LISTEN"), format!("127.0.0.1:{}", port()));
    }
    command.stdin(Stdio::null());
    command
}

fn start(data: &Path, args: &[&str], log: &Path) -> Bare {
    let admin = port();
    let out = std::fs::File::options().create(true).append(true).open(log).expect("a log");
    let err = out.try_clone().expect("the same");
    let child = command(data, admin).args(args).stdout(out).stderr(err).spawn().expect("the binary");
    Bare { child, admin }
}

fn ready(server: &mut Bare, log: &Path) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, server.admin));
    let admin = Endpoint { addr, host: addr.to_string(), tls: None };
    while Instant::now() < deadline {
        let ended = server.child.try_wait().expect("its state");
        assert!(ended.is_none(), "it ended: {}", std::fs::read_to_string(log).unwrap_or_default());
        if Call::get("/readyz").try_send(&admin).is_ok_and(|reply| reply.status == 200) {
            return;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    panic!("not ready: {}", std::fs::read_to_string(log).unwrap_or_default());
}

#[test]
fn services_that_start_first_at_once_make_one_installation() {
    for round in 0..3 {
        let dir = tempfile::tempdir().expect("a directory");
        let (data, log) = (dir.path().join("data"), dir.path().join("log"));
        let mut three: Vec<Bare> =
            ["registry", "authsvc", "controller"].iter().map(|s| start(&data, &["serve", s], &log)).collect();
        three.iter_mut().for_each(|server| ready(server, &log));
        let said = std::fs::read_to_string(&log).expect("the log");
        assert_eq!(said.matches("Wharfinger is ready.").count(), 1, "round {round}: {said}");
        let pki = data.join("pki");
        let check = Command::new("openssl")
            .args(["verify", "-CAfile"])
            .args([pki.join("ca.crt"), pki.join("server.crt")])
            .output()
            .expect("openssl");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
        drop(three);
        ready(&mut start(&data, &[], &log), &log);
    }
}

#[test]
fn a_password_that_is_made_is_shown_though_the_first_try_failed() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, log) = (dir.path().join("data"), dir.path().join("log"));
    let wrong = dir.path().join("wrong.pem");
    std::fs::write(&wrong, "no certificate").expect("a file");
    let failed = command(&data, port()).arg("--tls-cert").arg(&wrong).arg("--tls-key").arg(&wrong).output();
    assert!(!failed.expect("it runs").status.success());
    let mut server = start(&data, &[], &log);
    ready(&mut server, &log);
    let said = std::fs::read_to_string(&log).expect("the log");
    assert!(said.contains("admin@localhost  password ") && said.contains("operator@localhost  password "), "{said}");
    drop(server);
    std::fs::remove_file(&log).expect("a fresh log");
    ready(&mut start(&data, &[], &log), &log);
    assert!(!std::fs::read_to_string(&log).expect("the log").contains("  password "), "never again");
}

#[test]
fn a_password_file_may_go_after_the_first_start() {
    let dir = tempfile::tempdir().expect("a directory");
    let (data, log, file) = (dir.path().join("data"), dir.path().join("log"), dir.path().join("password"));
    std::fs::write(&file, "a quiet harbour at night\n").expect("a file");
    let begin = || {
        let admin = port();
        let out = std::fs::File::options().create(true).append(true).open(&log).expect("a log");
        let err = out.try_clone().expect("the same");
        let mut command = command(&data, admin);
        command.env("WHARFINGER_ADMIN_PASSWORD_FILE", &file).stdout(out).stderr(err);
        Bare { child: command.spawn().expect("the binary"), admin }
    };
    let mut first = begin();
    ready(&mut first, &log);
    drop(first);
    std::fs::remove_file(&file).expect("the secret goes");
    ready(&mut begin(), &log);
}

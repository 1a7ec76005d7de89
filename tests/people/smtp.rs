//! Mails by SMTP with STARTTLS and AUTH, against a server that takes nothing without them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

use crate::support::mail::{INVITED, RESET, Spool};
use crate::support::server::{free_port, root};
use crate::support::{Server, Setup};
use crate::wait_until_ready;

struct Catcher {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
}

impl Catcher {
    fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("catcher-").tempdir().unwrap();
        certificates(dir.path());
        let port = free_port();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        let python = root().join("target/tools/py/bin/python");
        assert!(python.is_file(), "{} is missing: run `make tools`", python.display());
        std::fs::create_dir(dir.path().join("mail")).unwrap();
        let mut child = Command::new(python)
            .arg(root().join("tests/people/catcher.py"))
            .args([
                &port.to_string(),
                &path("server.crt"),
                &path("server.key"),
                "harbour",
                "the mailing secret",
                &path("mail"),
            ])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        wait_until_ready(&mut child, "the mail server");
        Self { child, port, dir }
    }

    fn mails(&self) -> Spool {
        Spool::new(self.dir.path().join("mail"))
    }

    /// A server that sends its mails here.
    fn server(&self, url: &str) -> Server {
        let authority = self.dir.path().join("ca.crt").to_string_lossy().into_owned();
        let setup = Setup::plain().env("WHARFINGER_SMTP_URL", url).env("SSL_CERT_FILE", authority);
        setup.env("WHARFINGER_MAIL_FROM", "Harbour Office <office@harbour.example>").start()
    }
}

impl Drop for Catcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A private root, and a certificate of it for `localhost`.
fn certificates(dir: &Path) {
    let script = "
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj '/CN=Test Root' -keyout ca.key -out ca.crt
        openssl req -newkey rsa:2048 -nodes -subj '/CN=localhost' -keyout server.key -out server.csr
        printf 'subjectAltName=DNS:localhost\\nbasicConstraints=CA:FALSE\\n' > names
        openssl x509 -req -in server.csr -CA ca.crt -CAkey ca.key -days 2 -extfile names -out server.crt
    ";
    let done =
        Command::new("sh").args(["-ec", script]).current_dir(dir).stderr(Stdio::null()).stdout(Stdio::null()).status();
    assert!(done.expect("openssl").success());
}

#[test]
fn an_invitation_and_a_reset_arrive_over_tls_in_both_parts() {
    let catcher = Catcher::start();
    let server =
        catcher.server(&format!("smtp://harbour:the%20mailing%20secret@localhost:{}?tls=required", catcher.port));
    let admin = server.api();
    admin.post("/orgs/main/users", &json!({"name": "dev@localhost", "kind": "local"})).expect(201);
    let mail = catcher.mails().next("dev@localhost", INVITED, 0);
    assert_eq!(mail.header("x-envelope-to"), "dev@localhost");
    assert_eq!(mail.header("x-envelope-from"), "office@harbour.example");
    assert!(mail.header("from").contains("Harbour Office"), "{:?}", mail.headers);
    assert!(mail.header("content-type").contains("multipart/alternative"), "{:?}", mail.headers);
    let temporary = mail.temporary_password();
    assert!(mail.html.contains(&temporary));
    let session = server.login("dev@localhost", &temporary);
    session.change_password(&temporary, "a developer's long secret");

    server.stranger().post("/password/forgot", &json!({"email": "dev@localhost"})).expect(202);
    let token = catcher.mails().next("dev@localhost", RESET, 0).reset_token();
    server.stranger().post("/password/reset", &json!({"token": token, "new": "a new and different one"})).expect(204);
    server.login("dev@localhost", "a new and different one");
    assert!(!server.log().contains("mailing secret"));
}

#[test]
fn mails_wait_for_a_server_that_is_not_there_yet() {
    // Nothing is sent past what must be: wrong passwords, and no TLS where it is required.
    let catcher = Catcher::start();
    let server = catcher.server(&format!("smtp://harbour:wrong@localhost:{}?tls=required", catcher.port));
    server.api().post("/orgs/main/users", &json!({"name": "dev@localhost", "kind": "local"})).expect(201);
    assert!(catcher.mails().try_next("dev@localhost", "", 0, Duration::from_secs(3)).is_none());
    assert!(Spool::new(server.data_dir.join("mail")).to("dev@localhost").is_empty(), "nor is it left in a folder");
    // The change itself is done, and readers are told.
    server.api().get("/orgs/main/users/dev@localhost").expect(200);
    assert!(server.log().to_lowercase().contains("mail"), "{}", server.log());
}

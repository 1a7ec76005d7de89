//! `wharfinger audit …`: exports and stored chains, proven and tampered with; what a server noted outlives its end.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use crate::support::oci::{Image, fresh};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::support::{Call, Server, Setup};

/// Exit status and output of a command on a text from standard input.
fn run(server: &Server, args: &[&str], input: &[u8]) -> (i32, String) {
    let mut command = server.command();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // A command that has seen enough reads no further.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    (output.status.code().unwrap(), text)
}

#[test]
fn an_export_is_genuine_until_anything_of_it_is_changed() {
    let server = Setup::plain().start();
    let admin = server.api();
    admin.create_project("main", "harbour", false);
    Image::new(fresh(), 100).push(&server.registry(), "main/app", &server.admin_token("main/app"), "v1");
    let export = admin.get("/orgs/main/audit/export?format=ndjson").expect(200).text();
    let verify = |text: &str| run(&server, &["audit", "verify", "-"], text.as_bytes());

    let (status, said) = verify(&export);
    assert!(status == 0 && said.starts_with("genuine: "), "{status} {said}");
    let file = server.data_dir.join("export.ndjson");
    fs::write(&file, &export).unwrap();
    assert_eq!(run(&server, &["audit", "verify", file.to_str().unwrap()], b"").0, 0);

    let lines: Vec<&str> = export.lines().collect();
    assert!(lines.len() > 5, "{export}");
    let joined = |lines: &[&str]| format!("{}\n", lines.join("\n"));
    let mut tampered = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let mut bytes = line.as_bytes().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let flipped = String::from_utf8(bytes).unwrap();
        let with = |line: &str| joined(&[&lines[..n], &[line], &lines[n + 1..]].concat());
        tampered.push((format!("a bit flipped in line {n}"), with(&flipped)));
        tampered.push((format!("without line {n}"), joined(&[&lines[..n], &lines[n + 1..]].concat())));
        tampered.push((format!("line {n} twice"), joined(&[&lines[..=n], &lines[n..]].concat())));
    }
    let mut swapped = lines.clone();
    swapped.swap(2, 3);
    tampered.push(("two lines swapped".into(), joined(&swapped)));
    tampered.push(("without the last line feed".into(), export.trim_end().to_owned()));
    tampered.push(("nothing".into(), String::new()));
    for (what, text) in tampered {
        let (status, said) = verify(&text);
        assert!(status == 1 && said.contains("not genuine"), "{what}: {status} {said}");
    }

    // Another key is not the server's; no key proves nothing, and none is made.
    let other = server.data_dir.join("other.key");
    fs::write(&other, "0f".repeat(32)).unwrap();
    let with_key = |key: &str| run(&server, &["audit", "verify", "-", "--master-key-file", key], export.as_bytes());
    assert_eq!(with_key(other.to_str().unwrap()).0, 1);
    let missing = server.data_dir.join("missing.key");
    assert_eq!(with_key(missing.to_str().unwrap()).0, 2);
    assert!(!missing.exists());
    assert_eq!(run(&server, &["audit", "verify", "/nowhere/export"], b"").0, 2);
    assert_eq!(run(&server, &["audit", "verify"], b"").0, 2);
}

#[test]
fn an_export_is_proven_with_the_key_alone() {
    let server = Setup::plain().start();
    let export = server.api().get("/orgs/main/audit/export?format=ndjson&action=org.*").expect(200).text();
    let empty = tempfile::tempdir().unwrap();
    let (data, key) = (empty.path().join("data"), server.data_dir.join("master.key"));
    let args =
        ["audit", "verify", "-", "--data-dir", data.to_str().unwrap(), "--master-key-file", key.to_str().unwrap()];
    let (status, said) = run(&server, &args, export.as_bytes());
    assert!(status == 0 && said.contains("action=org.*"), "{status} {said}");
    assert!(!data.exists(), "no database and no folder were made");
}

#[test]
fn stored_chains_are_proven_and_sigterm_keeps_what_was_noted() {
    let mut server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    Image::new(fresh(), 100).push(&registry, "main/app", &token, "v1");
    server.stranger().try_login("nobody@localhost", "a wrong password").expect(401);
    for _ in 0..20 {
        Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&registry).expect(200);
    }
    server.terminate();
    assert!(server.wait(Duration::from_secs(30)).success());
    let (status, said) = run(&server, &["audit", "check"], b"");
    assert!(status == 0 && said.contains("main: ") && said.contains("the platform: "), "{status} {said}");
    assert_eq!(run(&server, &["audit", "check", "--org", "main"], b"").0, 0);
    assert_eq!(run(&server, &["audit", "check", "--org", "nowhere"], b"").0, 2);
    server.restart();
    let admin = server.api();
    assert_eq!(admin.audit("main", "action=image.pull").len(), 20);
    server.try_token(Some((ADMIN, ADMIN_PASSWORD)), &[]).expect(200);
    std::thread::sleep(Duration::from_millis(500));
    let logins = admin.audit("main", "action=login&client=docker");
    assert_eq!(logins.len(), 2, "one for each request of a token by password: {logins:?}");
    assert!(!admin.audit("main", "action=token.grant&outcome=ok").is_empty());
}

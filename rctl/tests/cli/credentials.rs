//! Container tools: docker's credential helper, logging in, trusting.

use serde_json::{Value, json};

use crate::support::{Desk, KEY_ID, KEY_SECRET, Server, ran, say};

const STORE: &str = r#"{"ServerURL": "https://reg.example:6000", "Username": "bob", "Secret": "s3cret"}"#;

#[test]
fn docker_stores_gets_lists_and_erases() {
    let desk = Desk::bare();
    let helper = |action: &str, input: &str| desk.run_with(&["credential-helper", action], input);
    helper("store", STORE).expect(0);
    let got: Value = serde_json::from_str(&helper("get", "reg.example:6000\n").expect(0).out).unwrap();
    assert_eq!(got, json!({"ServerURL": "reg.example:6000", "Username": "bob", "Secret": "s3cret"}));
    assert_eq!(helper("list", "").expect(0).out, "{\"reg.example:6000\":\"bob\"}\n");
    helper("erase", "https://reg.example:6000").expect(0);
    // Docker knows "there is none" by these words on standard output.
    let none = helper("get", "reg.example:6000").expect(1);
    assert_eq!((none.out.as_str(), none.err.as_str()), ("credentials not found in native keychain\n", ""));
    assert_eq!(helper("list", "").expect(0).out, "{}\n");
    let bad = helper("store", r#"{"Secret": "s3cret"}"#).expect(2);
    assert!(!bad.err.contains("s3cret"));
}

#[test]
fn it_answers_by_docker_s_name_with_the_profile_s_key() {
    let server = Server::start(vec![
        say(200, &json!({"items": [{"slug": "acme"}], "next": null})),
        say(200, &json!({"user": "ci"})),
    ]);
    let desk = Desk::bare().env("RCTL_REST_ENDPOINT", &server.url);
    desk.run_with(&["login", "--api-key-stdin"], &format!("ra2.{KEY_ID}.{KEY_SECRET}\n")).expect(0);
    let link = desk.path("docker-credential-rctl");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_rctl"), &link).unwrap();
    let mut command = std::process::Command::new(&link);
    command.arg("get").env_clear().env("HOME", desk.dir.path()).stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"127.0.0.1:6000").unwrap();
    let answer = ran(child.wait_with_output().unwrap()).expect(0);
    let answer: Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((answer["Username"].as_str(), answer["Secret"].as_str().unwrap().len()), (Some("ci"), 109));
}

#[test]
fn tools_without_docker_read_a_file() {
    let server = Server::start(vec![say(200, &json!({"user": "ci"}))]);
    let desk = Desk::at(&server);
    desk.run(&["registry", "login", "reg.example:6000"]).expect(0);
    let file = desk.path(".config/containers/auth.json");
    let auth: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert!(auth["auths"]["reg.example:6000"]["auth"].as_str().is_some_and(|auth| auth.len() > 100));
}

#[test]
fn docker_gets_the_key_on_its_standard_input() {
    let server = Server::start(vec![say(200, &json!({"user": "ci"}))]);
    let desk = Desk::at(&server);
    let bin = desk.path("bin");
    std::fs::create_dir(&bin).unwrap();
    let docker = bin.join("docker");
    std::fs::write(&docker, "#!/bin/sh\necho \"$@\" > args\n/bin/cat > stdin\n").unwrap();
    std::fs::set_permissions(&docker, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let desk = desk.env("PATH", bin.to_str().unwrap());
    desk.run(&["registry", "login", "reg.example:6000"]).expect(0);
    let read = |name: &str| std::fs::read_to_string(desk.path(name)).unwrap();
    assert_eq!(read("args"), "login --username ci --password-stdin -- reg.example:6000\n");
    assert_eq!(read("stdin"), format!("ra2.{KEY_ID}.{KEY_SECRET}"));
}

#[test]
fn a_certificate_is_installed_after_asking() {
    let desk = Desk::bare();
    std::fs::write(desk.path("ca.crt"), CERTIFICATE).unwrap();
    let args = ["registry", "trust", "reg.example:6000", "--ca-file", "ca.crt", "--certs-dir", "certs.d"];
    let asked = desk.run(&args).expect(2);
    assert!(asked.err.contains("SHA-256 of the certificate") && !desk.path("certs.d").exists(), "{asked:?}");
    let yes = [&args[..], &["--yes"]].concat();
    desk.run(&yes).expect(0);
    assert_eq!(std::fs::read_to_string(desk.path("certs.d/reg.example:6000/ca.crt")).unwrap(), CERTIFICATE);
    assert!(desk.run(&args).expect(0).out.contains("already"));
    std::fs::write(desk.path("ca.crt"), "nothing of the kind").unwrap();
    desk.run(&yes).expect(1);
}

/// A certificate for the tests; its key is nowhere.
const CERTIFICATE: &str = include_str!("ca.crt");

//! The server with its own private root.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::support::http::trust;
use crate::support::oci::{Image, fresh};
use crate::support::{Call, Setup};

#[test]
fn the_three_listeners_speak_tls_with_the_private_root() {
    let server = Setup::tls("localhost").start();
    let token = server.admin_token("main/app");
    let image = Image::new(fresh(), 100_000);
    image.push(&server.registry(), "main/app", &token, "v1");
    let found = Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&server.registry()).expect(200);
    assert_eq!(found.body, image.manifest);
    let api = server.api();
    api.get("/orgs").expect(200);
    let challenge = server.challenge();
    assert!(challenge.header("www-authenticate").unwrap().contains("realm=\"https://localhost:"));
}

#[test]
fn private_keys_are_for_the_owner_alone() {
    let server = Setup::tls("localhost").start();
    let pki = server.data_dir.join("pki");
    let keys = ["pki/server.key", "master.key"];
    for key in keys {
        let mode = fs::metadata(server.data_dir.join(key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{key} is {mode:o}");
    }
    assert!(fs::read_to_string(pki.join("ca.crt")).unwrap().contains("BEGIN CERTIFICATE"));
}

#[test]
fn a_stranger_who_trusts_another_root_is_not_fooled() {
    let (server, other) = (Setup::tls("localhost").start(), Setup::tls("localhost").start());
    let mut endpoint = server.registry();
    endpoint.tls = Some(trust(&fs::read(other.ca_path()).unwrap()));
    assert!(Call::get("/v2/").try_send(&endpoint).is_err());
    endpoint.tls = None;
    let plain = Call::get("/v2/").try_send(&endpoint);
    assert!(plain.is_err() || plain.is_ok_and(|reply| reply.status == 400), "plain HTTP is not served");
}

#[test]
fn d39_a_certificate_that_changes_is_taken_up_and_a_broken_one_is_not() {
    let made = Setup::tls("localhost").start();
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = (dir.path().join("tls.crt"), dir.path().join("tls.key"));
    let take = |from: &crate::support::Server| {
        fs::copy(from.data_dir.join("pki/server.crt"), &certificate).unwrap();
        fs::copy(from.data_dir.join("pki/server.key"), &key).unwrap();
    };
    take(&made);
    let server = Setup::tls("localhost")
        .arg("--tls-cert", certificate.to_string_lossy())
        .arg("--tls-key", key.to_string_lossy())
        .start();
    let mut endpoint = server.registry();
    let ping = |endpoint: &crate::support::http::Endpoint| {
        Call::get("/v2/").try_send(endpoint).is_ok_and(|reply| reply.status == 401)
    };
    endpoint.tls = Some(trust(&fs::read(made.ca_path()).unwrap()));
    assert!(ping(&endpoint));
    // Browsers are told to insist on TLS, but not for good on the word of an authority that only this server knows.
    let insists = |endpoint: &crate::support::http::Endpoint| {
        Call::get("/login").send(endpoint).expect(200).header("strict-transport-security").map(str::to_owned)
    };
    let mut console = server.controller();
    console.tls.clone_from(&endpoint.tls);
    assert!(insists(&console).is_some_and(|header| header.starts_with("max-age=")));
    assert_eq!(insists(&made.controller()), None);
    fs::write(&certificate, "not a certificate").unwrap();
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(ping(&endpoint), "a broken file keeps the old certificate");
    let next = Setup::tls("localhost").start();
    take(&next);
    let mut renewed = endpoint.clone();
    renewed.tls = Some(trust(&fs::read(next.ca_path()).unwrap()));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while !ping(&renewed) {
        assert!(std::time::Instant::now() < deadline, "the new certificate is not taken up");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

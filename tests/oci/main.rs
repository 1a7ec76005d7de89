//! The OCI conformance program against the real binary, over TLS with token auth.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use support::Setup;
use support::server::{ADMIN, ADMIN_PASSWORD, ORG, root};

#[test]
fn the_oci_program_finds_nothing_to_fail_or_to_skip() {
    let server = Setup::tls("localhost").start();
    // The program's `sparse` data has images whose layers were never pushed; projects take those where told to.
    let api = server.api();
    api.create_project(ORG, "conformance", false);
    api.patch("/orgs/main/projects/conformance", &serde_json::json!({ "sparse": true })).expect(200);
    let status = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "conformance", "--", "oci"])
        .args([
            "--registry",
            &format!("https://{}", server.registry_host()),
            "--repo1",
            "main/conformance/one",
            "--repo2",
            "main/conformance/two",
        ])
        .args(["--username", ADMIN, "--ca", &server.ca_path().to_string_lossy()])
        .env("CONFORMANCE_PASSWORD", ADMIN_PASSWORD)
        .current_dir(root())
        .status();
    assert!(status.expect("the conformance program runs").success());
}

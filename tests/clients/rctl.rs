//! `rctl registry login`: docker trusts the server and is logged in, by nothing else.

use std::fs;

use crate::desk::Desk;
use crate::docker::dockerd;
use crate::support::server::binary;

#[test]
fn rctl_makes_docker_trust_the_server_and_logs_it_in() {
    let desk = Desk::new();
    let _daemon = dockerd(&desk);
    // What the desk did for docker, `rctl` is to do.
    fs::remove_dir_all(desk.path(&format!("docker/certs.d/{}", desk.host()))).expect("a folder that was there");
    let image = desk.reference("by-rctl:v1");
    desk.run("docker", &["import", &desk.layer("layer", "by rctl"), &image]);
    let untrusted = desk.fails("docker", &["push", &image]);
    assert!(untrusted.contains("certificate"), "{untrusted}");

    let (_, key) = desk.server.api().create_api_key("main", None, "desk");
    let rctl = binary().with_file_name("rctl").to_string_lossy().into_owned();
    let ca = desk.server.ca_path().to_string_lossy().into_owned();
    let endpoint = desk.server.controller().url();
    let host = desk.host();
    let login = ["registry", "login", &host, "--tool", "docker", "--yes", "--ca-file", &ca, "--endpoint", &endpoint];
    let mut command = desk.command(&rctl, &login);
    let output = command.env("RCTL_API_KEY", &key).env("PATH", std::env::var("PATH").unwrap()).output().expect("rctl");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
    assert!(!said.contains(&key), "a key is not shown: {said}");

    desk.run("docker", &["push", &image]);
    desk.run("docker", &["rmi", "-f", &image]);
    desk.run("docker", &["pull", &image]);
}

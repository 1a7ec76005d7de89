//! docker: the command line before a daemon of the journey's own.

use serde_json::json;

use crate::desk::{Daemon, Desk};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

pub(crate) fn dockerd(desk: &Desk) -> Daemon {
    let path = |name: &str| desk.path(name).to_string_lossy().into_owned();
    let socket = format!("unix://{}", path("docker.sock"));
    // It trusts what lies in /etc/docker/certs.d, as on anybody's machine, and no variable of the desk's.
    let args = [
        "-u",
        "SSL_CERT_FILE",
        "dockerd",
        "--data-root",
        &path("dockerd"),
        "--exec-root",
        &path("dockerd-run"),
        "-p",
        &path("dockerd.pid"),
        "-H",
        &socket,
        "--iptables=false",
        "--ip6tables=false",
        "--bridge=none",
        "--storage-driver=vfs",
    ];
    desk.daemon("env", &args, || desk.command("docker", &["info"]).output().is_ok_and(|output| output.status.success()))
}

#[test]
fn docker_logs_in_builds_pushes_pulls_and_logs_out() {
    let desk = Desk::new();
    let _daemon = dockerd(&desk);
    let image = desk.reference("app:v1");
    let layer = desk.layer("layer", "from docker");
    desk.run("docker", &["import", &layer, &image]);

    let denied = desk.fails("docker", &["push", &image]);
    assert!(
        denied.contains("denied") || denied.contains("unauthorized") || denied.contains("no basic auth"),
        "{denied}"
    );
    let wrong = desk.fails("docker", &["login", "-u", ADMIN, "-p", "wrong", &desk.host()]);
    assert!(wrong.contains("unauthorized") || wrong.contains("denied"), "{wrong}");
    desk.run_with("docker", &["login", "-u", ADMIN, "--password-stdin", &desk.host()], ADMIN_PASSWORD);
    let config = std::fs::read_to_string(desk.path("home/.docker/config.json")).unwrap();
    assert!(config.contains("identitytoken"), "the password itself is not kept: {config}");

    let pushed = desk.run("docker", &["push", &image]);
    let digest = pushed.split("digest: ").nth(1).and_then(|rest| rest.split(' ').next()).expect("a digest").to_owned();
    desk.run("docker", &["push", &image]);
    desk.run("docker", &["tag", &image, &desk.reference("copies/app:v1")]);
    let mounted = desk.run("docker", &["push", &desk.reference("copies/app:v1")]);
    assert!(mounted.contains("Mounted from"), "{mounted}");

    desk.write("layer.d/Dockerfile", "FROM scratch\nCOPY hello /hello\nLABEL journey=docker\n");
    let built = desk.reference("built:v1");
    desk.run("docker", &["build", "-q", "-t", &built, &desk.path("layer.d").to_string_lossy()]);
    desk.run("docker", &["push", &built]);

    desk.run("docker", &["rmi", "-f", &image, &desk.reference("copies/app:v1"), &built]);
    desk.run("docker", &["pull", &image]);
    assert!(desk.run("docker", &["pull", &image]).contains("up to date"));
    desk.run("docker", &["pull", &desk.reference(&format!("app@{digest}"))]);
    desk.run("docker", &["pull", &built]);
    let label = desk.run("docker", &["inspect", "-f", "{{.Config.Labels.journey}}", &built]);
    assert_eq!(label.trim(), "docker");
    let missing = desk.fails("docker", &["pull", &desk.reference("app:none")]);
    assert!(missing.contains("manifest unknown") || missing.contains("not found"), "{missing}");

    let list = desk.reference("app:list");
    desk.run("docker", &["manifest", "create", &list, &image, &built]);
    desk.run("docker", &["manifest", "push", &list]);
    let raw: serde_json::Value = serde_json::from_str(&desk.run("docker", &["manifest", "inspect", &list])).unwrap();
    assert_eq!(raw["manifests"].as_array().unwrap().len(), 2);

    desk.run("docker", &["logout", &desk.host()]);
    let out = desk.fails("docker", &["pull", &image]);
    assert!(out.contains("unauthorized") || out.contains("denied") || out.contains("no basic auth"), "{out}");
}

#[test]
fn docker_pulls_a_public_project_without_a_login_and_cannot_push_there() {
    let desk = Desk::new();
    desk.server.api().create_project("main", "open", true);
    let _daemon = dockerd(&desk);
    let image = desk.reference("open/app:v1");
    let layer = desk.layer("layer", "for everyone");
    desk.run("docker", &["import", &layer, &image]);
    desk.run_with("docker", &["login", "-u", ADMIN, "--password-stdin", &desk.host()], ADMIN_PASSWORD);
    desk.run("docker", &["push", &image]);
    desk.run("docker", &["logout", &desk.host()]);
    desk.run("docker", &["rmi", "-f", &image]);
    desk.run("docker", &["pull", &image]);
    let denied = desk.fails("docker", &["push", &image]);
    assert!(denied.contains("denied"), "{denied}");
    desk.server.api().patch("/orgs/main/projects/open", &json!({"public": false})).expect(200);
    desk.run("docker", &["rmi", "-f", &image]);
    desk.fails("docker", &["pull", &image]);
}

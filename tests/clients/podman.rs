//! podman and buildah: build from scratch, push, pull, search.

use crate::desk::Desk;
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

fn context(desk: &Desk, text: &str) -> String {
    desk.layer("context", text);
    desk.write("context.d/Containerfile", "FROM scratch\nCOPY hello /hello\nLABEL journey=podman\n");
    desk.path("context.d").to_string_lossy().into_owned()
}

#[test]
fn podman_logs_in_pushes_and_pulls() {
    let desk = Desk::new();
    let image = desk.reference("pod:v1");
    let layer = desk.layer("layer", "from podman");
    desk.run("podman", &["import", "--quiet", &layer, &image]);
    let refused = desk.fails("podman", &["push", "--quiet", &image]);
    assert!(
        refused.contains("unauthorized") || refused.contains("authentication required") || refused.contains("denied"),
        "{refused}"
    );
    let (success, text) = {
        let wrong = desk.fails("podman", &["login", "-u", ADMIN, "-p", "wrong", &desk.host()]);
        (wrong.contains("invalid username/password"), wrong)
    };
    assert!(success, "{text}");
    desk.run_with("podman", &["login", "-u", ADMIN, "--password-stdin", &desk.host()], ADMIN_PASSWORD);
    desk.run("podman", &["push", "--quiet", "--digestfile", "digest", &image]);
    let digest = std::fs::read_to_string(desk.path("digest")).unwrap();
    desk.run("podman", &["push", "--quiet", &image]);
    desk.run("podman", &["push", "--quiet", &image, &desk.reference("copies/pod:v1")]);
    desk.run("podman", &["rmi", "--all", "--force"]);
    desk.run("podman", &["pull", "--quiet", &image]);
    desk.run("podman", &["pull", "--quiet", &desk.reference(&format!("pod@{digest}"))]);
    desk.run("podman", &["pull", "--quiet", &desk.reference("copies/pod:v1")]);
    let tags = desk.run("podman", &["search", "--list-tags", &desk.reference("pod")]);
    assert!(tags.lines().count() == 2 && tags.trim().ends_with("v1"), "{tags}");
    let found = desk.run("podman", &["search", "--format", "{{.Name}}", &format!("{}/pod", desk.host())]);
    assert!(found.contains("pod"), "{found}");
    let missing = desk.fails("podman", &["pull", "--quiet", &desk.reference("pod:none")]);
    assert!(missing.contains("manifest unknown"), "{missing}");

    let list = desk.reference("pod:list");
    desk.run("podman", &["manifest", "create", &list, &format!("docker://{image}")]);
    desk.run("podman", &["manifest", "push", "--all", &list, &format!("docker://{list}")]);
    let raw = desk.run("skopeo", &["inspect", "--raw", &format!("docker://{list}")]);
    assert!(raw.contains(digest.trim()), "{raw}");
    desk.run("podman", &["logout", &desk.host()]);
    desk.fails("podman", &["pull", "--quiet", "--policy=always", &image]);
}

#[test]
fn buildah_builds_and_pushes_in_both_formats() {
    let desk = Desk::new();
    desk.run_with("buildah", &["login", "-u", ADMIN, "--password-stdin", &desk.host()], ADMIN_PASSWORD);
    let context = context(&desk, "from buildah");
    for format in ["oci", "docker"] {
        let image = desk.reference(&format!("built:{format}"));
        desk.run("buildah", &["bud", "--quiet", "--isolation", "chroot", "--format", format, "-t", &image, &context]);
        desk.run("buildah", &["push", "--quiet", "--format", format.replace("docker", "v2s2").as_str(), &image]);
        desk.run("buildah", &["rmi", "--all", "--force"]);
        desk.run("buildah", &["pull", "--quiet", &image]);
        let label = desk.run("skopeo", &["inspect", "--format", "{{.Labels.journey}}", &format!("docker://{image}")]);
        assert_eq!(label.trim(), "podman");
    }
}

//! skopeo: copy in and out, inspect, list, sync, delete.

use crate::desk::Desk;
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

fn login(desk: &Desk) {
    desk.run_with("skopeo", &["login", "-u", ADMIN, "--password-stdin", &desk.host()], ADMIN_PASSWORD);
}

/// A local OCI layout with one image tagged `v1`.
fn layout(desk: &Desk) -> String {
    let layer = desk.layer("skopeo", "an image from nothing");
    let archive = desk.path("image.tar").to_string_lossy().into_owned();
    desk.run("crane", &["append", "--oci-empty-base", "-f", &layer, "-o", &archive, "-t", "local/app:v1"]);
    let layout = format!("oci:{}:v1", desk.path("layout").display());
    desk.run("skopeo", &["copy", &format!("docker-archive:{archive}"), &layout]);
    layout
}

#[test]
fn skopeo_copies_inspects_lists_syncs_and_deletes() {
    let desk = Desk::new();
    let local = layout(&desk);
    let image = format!("docker://{}", desk.reference("sk:v1"));
    let refused = desk.fails("skopeo", &["copy", &local, &image]);
    assert!(
        refused.contains("unauthorized") || refused.contains("authentication required") || refused.contains("denied"),
        "{refused}"
    );
    login(&desk);
    desk.run("skopeo", &["copy", &local, &image]);

    let inspected: serde_json::Value = serde_json::from_str(&desk.run("skopeo", &["inspect", &image])).unwrap();
    let digest = inspected["Digest"].as_str().unwrap();
    assert_eq!(inspected["RepoTags"], serde_json::json!(["v1"]));
    let by_digest = format!("docker://{}", desk.reference(&format!("sk@{digest}")));
    desk.run("skopeo", &["inspect", "--config", &by_digest]);

    let copy = format!("docker://{}", desk.reference("copies/sk:v2"));
    desk.run("skopeo", &["copy", "--preserve-digests", &image, &copy]);
    let copied: serde_json::Value = serde_json::from_str(&desk.run("skopeo", &["inspect", &copy])).unwrap();
    assert_eq!(copied["Digest"], inspected["Digest"]);
    desk.run("skopeo", &["copy", "--format", "v2s2", &local, &format!("docker://{}", desk.reference("sk:docker"))]);
    let tags = desk.run("skopeo", &["list-tags", &format!("docker://{}", desk.reference("sk"))]);
    let tags: serde_json::Value = serde_json::from_str(&tags).unwrap();
    assert_eq!(tags["Tags"], serde_json::json!(["docker", "v1"]));

    let out = desk.path("synced").to_string_lossy().into_owned();
    desk.run("skopeo", &["sync", "--src", "docker", "--dest", "dir", "--scoped", &desk.reference("sk"), &out]);
    desk.run("skopeo", &["sync", "--src", "dir", "--dest", "docker", &out, &desk.reference("copies/synced")]);

    desk.run("skopeo", &["delete", &image]);
    let gone = desk.fails("skopeo", &["inspect", &image]);
    assert!(gone.contains("manifest unknown"), "{gone}");
    desk.run("skopeo", &["inspect", "--no-tags", &copy]);
    desk.run("skopeo", &["logout", &desk.host()]);
}

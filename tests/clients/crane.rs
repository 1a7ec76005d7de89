//! crane, from go-containerregistry: the library under ko, kaniko and cosign.

use crate::desk::Desk;
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

pub(crate) fn login(desk: &Desk) {
    desk.run_with("crane", &["auth", "login", &desk.host(), "-u", ADMIN, "--password-stdin"], ADMIN_PASSWORD);
}

/// Pushes an image of one small layer and returns its digest.
pub(crate) fn append(desk: &Desk, reference: &str, text: &str) -> String {
    let layer = desk.layer("append", text);
    desk.run("crane", &["append", "--oci-empty-base", "-f", &layer, "-t", reference]);
    desk.run("crane", &["digest", reference]).trim().to_owned()
}

#[test]
fn crane_pushes_validates_copies_lists_and_deletes() {
    let desk = Desk::new();
    let image = desk.reference("app:v1");
    let layer = desk.layer("layer", "refused");
    let refused = desk.fails("crane", &["append", "--oci-empty-base", "-f", &layer, "-t", &image]);
    assert!(refused.contains("UNAUTHORIZED") || refused.contains("401"), "{refused}");
    login(&desk);
    let digest = append(&desk, &image, "hello");
    assert!(digest.starts_with("sha256:"), "{digest}");
    desk.run("crane", &["validate", "--remote", &image]);
    desk.run("crane", &["validate", "--remote", &desk.reference(&format!("app@{digest}"))]);

    append(&desk, &desk.reference("app:v2"), "hello again");
    let index = desk.reference("app:both");
    desk.run("crane", &["index", "append", "-m", &image, "-m", &desk.reference("app:v2"), "-t", &index]);
    desk.run("crane", &["cp", &index, &desk.reference("copies/app:both")]);
    desk.run("crane", &["validate", "--remote", &desk.reference("copies/app:both")]);
    assert_eq!(desk.run("crane", &["ls", &desk.reference("app")]), "both\nv1\nv2\n");
    desk.run("crane", &["tag", &image, "stable"]);
    assert_eq!(desk.run("crane", &["digest", &desk.reference("app:stable")]).trim(), digest);

    let catalog = desk.run("crane", &["catalog", &desk.host()]);
    let names: Vec<&str> = catalog.lines().collect();
    assert_eq!(names.len(), 2, "{catalog}");
    assert!(names.iter().all(|name| name.starts_with("main/")), "{catalog}");

    desk.run("crane", &["delete", &desk.reference("app:stable")]);
    assert_eq!(desk.run("crane", &["digest", &image]).trim(), digest, "the tag alone goes");
    desk.run("crane", &["delete", &desk.reference(&format!("app@{digest}"))]);
    let gone = desk.fails("crane", &["manifest", &image]);
    assert!(gone.contains("MANIFEST_UNKNOWN"), "{gone}");
    let pulled = desk.path("copy.tar").to_string_lossy().into_owned();
    desk.run("crane", &["pull", &desk.reference("app:v2"), &pulled]);
    desk.run("crane", &["push", &pulled, &desk.reference("app:v3")]);
}

#[test]
fn crane_works_with_an_api_key_and_stops_when_it_is_revoked() {
    let desk = Desk::new();
    let api = desk.server.api();
    let (id, key) = api.create_api_key("main", None, "crane");
    desk.run_with("crane", &["auth", "login", &desk.host(), "-u", ADMIN, "--password-stdin"], &key);
    let image = desk.reference("keyed:v1");
    append(&desk, &image, "pushed with a key");
    api.delete(&format!("/orgs/main/apikeys/{id}")).expect(204);
    let refused = desk.fails("crane", &["manifest", &image]);
    assert!(refused.contains("UNAUTHORIZED") || refused.contains("401"), "{refused}");
}

//! oras: artifacts, attachments, discovery and copies of whole graphs.

use crate::desk::Desk;
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

#[test]
fn oras_pushes_attaches_discovers_copies_and_deletes() {
    let desk = Desk::new();
    desk.write("notes.txt", "an artifact");
    desk.write("sbom.json", "{\"bom\": true}");
    let artifact = desk.reference("art:v1");
    desk.fails("oras", &["push", &artifact, "notes.txt:text/plain"]);
    desk.run_with("oras", &["login", "-u", ADMIN, "--password-stdin", &desk.host()], ADMIN_PASSWORD);
    desk.run("oras", &["push", &artifact, "notes.txt:text/plain"]);
    desk.run("oras", &["attach", "--artifact-type", "application/vnd.example.sbom", &artifact, "sbom.json"]);
    desk.run("oras", &["attach", "--artifact-type", "application/vnd.example.note", &artifact, "notes.txt:text/plain"]);

    let discover = |extra: &[&str], reference: &str| -> serde_json::Value {
        let args = [&["discover", "--format", "json"], extra, &[reference]].concat();
        serde_json::from_str(&desk.run("oras", &args)).unwrap()
    };
    let referrers = |found: &serde_json::Value| found["referrers"].as_array().map_or(0, Vec::len);
    assert_eq!(referrers(&discover(&[], &artifact)), 2);
    let one = discover(&["--artifact-type", "application/vnd.example.sbom"], &artifact);
    assert_eq!(referrers(&one), 1, "{one}");
    assert_eq!(desk.run("oras", &["repo", "tags", &desk.reference("art")]), "v1\n", "no fallback tag is left behind");

    let copy = desk.reference("copies/art:v1");
    desk.run("oras", &["cp", "-r", &artifact, &copy]);
    assert_eq!(referrers(&discover(&[], &copy)), 2);
    desk.run("oras", &["pull", "-o", &desk.path("pulled").to_string_lossy(), &copy]);
    assert_eq!(std::fs::read_to_string(desk.path("pulled/notes.txt")).unwrap(), "an artifact");

    let repositories = desk.run("oras", &["repo", "ls", &desk.host()]);
    assert_eq!(repositories.lines().count(), 2, "{repositories}");
    desk.run("oras", &["manifest", "delete", "--force", &copy]);
    desk.fails("oras", &["manifest", "fetch", &copy]);
    desk.run("oras", &["manifest", "fetch", &artifact]);
    desk.run("oras", &["logout", &desk.host()]);
}

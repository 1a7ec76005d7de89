//! regctl, from regclient.

use crate::crane::{append, login};
use crate::desk::Desk;
use crate::support::server::{ADMIN, ADMIN_PASSWORD};

#[test]
fn regctl_copies_with_referrers_exports_imports_and_deletes_tags() {
    let desk = Desk::new();
    login(&desk);
    let image = desk.reference("rg:v1");
    let digest = append(&desk, &image, "for regctl");
    desk.run_with("regctl", &["registry", "login", &desk.host(), "-u", ADMIN, "--pass-stdin"], ADMIN_PASSWORD);
    desk.write("note.txt", "a note");
    desk.run(
        "regctl",
        &["artifact", "put", "--artifact-type", "application/vnd.example", "--subject", &image, "-f", "note.txt"],
    );
    let listed = desk.run("regctl", &["artifact", "list", &image]);
    assert!(listed.contains("application/vnd.example"), "{listed}");

    let copy = desk.reference("copies/rg:v1");
    desk.run("regctl", &["image", "copy", "--referrers", "--digest-tags", &image, &copy]);
    assert_eq!(desk.run("regctl", &["image", "digest", &copy]).trim(), digest);
    assert!(desk.run("regctl", &["artifact", "list", &copy]).contains("application/vnd.example"));
    desk.run("regctl", &["image", "export", &image, "rg.tar"]);
    desk.run("regctl", &["image", "import", &desk.reference("copies/imported:v1"), "rg.tar"]);
    assert_eq!(desk.run("regctl", &["image", "digest", &desk.reference("copies/imported:v1")]).trim(), digest);

    let blob = desk.run_with("regctl", &["blob", "put", &desk.reference("rg")], "a blob of its own");
    assert_eq!(desk.run("regctl", &["blob", "get", &desk.reference("rg"), blob.trim()]), "a blob of its own");
    desk.run("regctl", &["image", "copy", &image, &desk.reference("rg:v2")]);
    assert_eq!(desk.run("regctl", &["tag", "ls", &desk.reference("rg")]), "v1\nv2\n");
    desk.run("regctl", &["tag", "rm", &desk.reference("rg:v1")]);
    assert_eq!(desk.run("regctl", &["tag", "ls", &desk.reference("rg")]), "v2\n");
    assert_eq!(desk.run("regctl", &["image", "digest", &desk.reference("rg:v2")]).trim(), digest);
    let repositories = desk.run("regctl", &["repo", "ls", &desk.host()]);
    assert_eq!(repositories.lines().count(), 3, "{repositories}");
}

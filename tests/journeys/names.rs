//! Names, tags and paths: what is one, what is none, and what only looks like a trick.

use crate::support::oci::{Image, OCI_MANIFEST, fresh, put_manifest};
use crate::support::{Call, Setup, sha256};

#[test]
fn d38_odd_but_legal_names_and_tags_work() {
    let server = Setup::plain().start();
    let registry = server.registry();
    server.api().create_project("main", "team", false);
    let long = format!("main/team/{}", "x".repeat(255 - "main/team/".len() - registry.host.len() - 1));
    let names = [
        "main/team/a__b",
        "main/team/a--b",
        "main/team/a.b",
        "main/team/blobs/uploads/x",
        "main/team/manifests/tags/list",
        "main/team/v2/catalog",
        "main/team/a/b/c/d/e/f/g",
        long.as_str(),
    ];
    for name in names {
        let token = server.admin_token(name);
        let image = Image::new(fresh(), 50);
        let tag = "T".repeat(128);
        image.push(&registry, name, &token, &tag);
        let found = Call::get(format!("/v2/{name}/manifests/{tag}")).bearer(&token).send(&registry).expect(200);
        assert_eq!(found.body, image.manifest, "{name}");
        let tags = Call::get(format!("/v2/{name}/tags/list")).bearer(&token).send(&registry).expect(200).json();
        assert_eq!(tags["name"], name);
        put_manifest(&registry, name, &token, &"t".repeat(129), OCI_MANIFEST, &image.manifest).expect(400);
    }
}

#[test]
fn two_components_are_the_same_repository_in_the_default_project() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let image = Image::new(fresh(), 50);
    image.push(&registry, "main/app", &server.admin_token("main/app"), "v1");
    let full = "main/defaultproject/app";
    let found = Call::get(format!("/v2/{full}/manifests/v1")).bearer(&server.admin_token(full)).send(&registry);
    assert_eq!(found.expect(200).body, image.manifest);
}

#[test]
fn d38_illegal_names_and_path_tricks_get_an_error_of_the_specification() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let token = server.admin_token("main/app");
    let digest = sha256(b"x");
    for name in [
        "main/App",
        "main/a..b",
        "main/-a",
        "main/a-",
        "main//a",
        "main/a_",
        "main/a___b",
        "main/é",
        "main/a%2fb",
        "main/%2e%2e/x",
        "main/..%2f..%2fetc",
        "main/a%00b",
        "main/a b",
    ] {
        let path = format!("/v2/{}/blobs/{digest}", name.replace(' ', "%20").replace('é', "%C3%A9"));
        let reply = Call::get(path).bearer(&token).send(&registry);
        assert!(matches!(reply.status, 400 | 401 | 404), "{name}: {} {}", reply.status, reply.text());
        assert!(!reply.code().is_empty(), "{name}: {}", reply.text());
    }
    for path in [
        "/v2/../../etc/passwd",
        "/v2/main/app/blobs/../../../../etc/passwd",
        "/v2/main/app/blobs/sha256:..%2f..%2f",
        "/v3/",
        "/v2x",
        "/v2/_catalog/x",
        "/v2/main/app/manifests/",
        "/v2/main/app/nothing/x",
    ] {
        let reply = Call::get(path).bearer(&token).send(&registry);
        assert!(matches!(reply.status, 400 | 401 | 404), "{path}: {}", reply.status);
    }
}

#[test]
fn a_push_to_a_project_or_organization_that_is_not_there_says_what_to_do() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let token = server.admin_token("main/nowhere/app");
    let reply = Call::post("/v2/main/nowhere/app/blobs/uploads/").bearer(&token).send(&registry);
    assert!(matches!(reply.status, 401 | 403 | 404), "{}", reply.status);
    assert!(reply.text().contains("project"), "{}", reply.text());
    let token = server.admin_token("elsewhere/app");
    let reply = Call::post("/v2/elsewhere/app/blobs/uploads/").bearer(&token).send(&registry);
    assert!(matches!(reply.status, 401 | 403 | 404), "{}", reply.status);
}

//! Cross-repository mounts: they save bytes and tell nothing.

use crate::support::http::Endpoint;
use crate::support::oci::{fresh, noise, push_blob};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::support::{Api, Call, Reply, Server, Setup, sha256};

fn mount(registry: &Endpoint, token: &str, to: &str, query: &str) -> Reply {
    Call::post(format!("/v2/{to}/blobs/uploads/?{query}")).bearer(token).send(registry)
}

fn both(server: &Server, to: &str, from: &str) -> String {
    server.token(ADMIN, ADMIN_PASSWORD, &[&format!("repository:{to}:pull,push"), &format!("repository:{from}:pull")])
}

#[test]
fn d29_mount_with_and_without_from_and_to_itself() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let bytes = noise(fresh(), 1000);
    let digest = push_blob(&registry, "main/source", &server.admin_token("main/source"), &bytes);
    let token = both(&server, "main/target", "main/source");
    let mounted = mount(&registry, &token, "main/target", &format!("mount={digest}&from=main/source")).expect(201);
    assert_eq!(mounted.header("docker-content-digest"), Some(digest.as_str()));
    let found = Call::get(format!("/v2/main/target/blobs/{digest}")).bearer(&token).send(&registry).expect(200);
    assert_eq!(found.body, bytes);
    mount(&registry, &token, "main/target", &format!("mount={digest}&from=main/target")).expect(201);
    mount(&registry, &server.admin_token("main/third"), "main/third", &format!("mount={digest}")).expect(201);
    // What is not there, or no mount at all, opens a session.
    mount(&registry, &token, "main/target", &format!("mount={}&from=main/source", sha256(b"none"))).expect(202);
    mount(&registry, &token, "main/target", "from=main/source").expect(202);
    mount(&registry, &token, "main/target", "mount=sha256:nonsense&from=main/source").expect(400);
}

#[test]
fn d29_a_mount_without_the_right_to_the_source_asks_for_it_or_opens_a_session() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let api = server.api();
    for project in ["secret", "open"] {
        api.create_project("main", project, false);
    }
    let digest = push_blob(&registry, "main/secret/app", &server.admin_token("main/secret/app"), b"a secret layer");
    api.create_user("main", "dev@localhost", "a developer's password");
    api.bind("main", "dev@localhost", "PROJECT_ADMIN", Some("open"));
    let login = ("dev@localhost", "a developer's password");

    // A token that was never asked for the source: the challenge names both.
    let token = server.token(login.0, login.1, &["repository:main/open/app:pull,push"]);
    let asked = mount(&registry, &token, "main/open/app", &format!("mount={digest}&from=main/secret/app"));
    let missing =
        mount(&registry, &token, "main/open/app", &format!("mount={}&from=main/secret/app", sha256(b"no such")));
    assert_eq!(asked.status, missing.status);
    assert_eq!(asked.header("www-authenticate"), missing.header("www-authenticate"));

    // One that asked and was refused: as if nothing were there, whether it is or not.
    let scopes = ["repository:main/open/app:pull,push", "repository:main/secret/app:pull"];
    let token = server.token(login.0, login.1, &scopes);
    for digest in [digest.as_str(), &sha256(b"no such")] {
        let reply =
            mount(&registry, &token, "main/open/app", &format!("mount={digest}&from=main/secret/app")).expect(202);
        assert_eq!(reply.header("docker-content-digest"), None);
    }
    // Nor does an anonymous mount reach into what the caller may not read.
    mount(&registry, &token, "main/open/app", &format!("mount={digest}")).expect(202);
    Call::get(format!("/v2/main/open/app/blobs/{digest}")).bearer(&token).send(&registry).expect(404);
}

#[test]
fn d16_a_blob_deleted_here_is_not_read_through_there() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let digest = push_blob(&registry, "main/a", &server.admin_token("main/a"), b"shared bytes");
    let token = both(&server, "main/b", "main/a");
    mount(&registry, &token, "main/b", &format!("mount={digest}&from=main/a")).expect(201);
    let path = |repository: &str| format!("/v2/{repository}/blobs/{digest}");
    Call::get(path("main/a")).bearer(&token).send(&registry).expect(200);
    Call::delete(path("main/a")).bearer(&server.admin_token("main/a")).send(&registry).expect(202);
    Call::get(path("main/a")).bearer(&token).send(&registry).expect_error(404, "BLOB_UNKNOWN");
    Call::get(path("main/b")).bearer(&token).send(&registry).expect(200);
}

#[test]
fn d31_a_project_whose_name_begins_another_gives_no_right_to_it() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let api: Api = server.api();
    for project in ["aa", "aa-b"] {
        api.create_project("main", project, false);
        let name = format!("main/{project}/app");
        push_blob(&registry, &name, &server.admin_token(&name), project.as_bytes());
    }
    api.create_user("main", "dev@localhost", "a developer's password");
    api.bind("main", "dev@localhost", "PROJECT_ADMIN", Some("aa"));
    let read = |project: &str| {
        let name = format!("main/{project}/app");
        let token =
            server.token("dev@localhost", "a developer's password", &[&format!("repository:{name}:pull,push,delete")]);
        Call::get(format!("/v2/{name}/blobs/{}", sha256(project.as_bytes()))).bearer(&token).send(&registry).status
    };
    assert_eq!(read("aa"), 200);
    assert!(matches!(read("aa-b"), 401 | 404));
    // A repository `aa/b` below project `aa` is not project `aa-b` either.
    let token = server.token("dev@localhost", "a developer's password", &["repository:main/aa-b:pull,push"]);
    assert_eq!(Call::post("/v2/main/aa-b/blobs/uploads/").bearer(&token).send(&registry).status, 401);
}

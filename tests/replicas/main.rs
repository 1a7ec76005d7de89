//! Two replicas over one PostgreSQL, one blob folder and one master key, without stickiness.
//!
//! Run by `make postgres`, which sets `TEST_DATABASE_URL`; without it these tests fail.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use support::http::Endpoint;
use support::oci::{Image, fresh, noise, path_of, push_blob, sha256, start_upload, with_query};
use support::server::{ADMIN, ADMIN_PASSWORD, ORG, parallel};
use support::{Call, Reply, Server, Setup, propagation};

const REPOSITORY: &str = "main/replicated";

/// The first replica, and a second over the same rows, bytes and keys.
fn pair() -> (Server, Server) {
    let first = Setup::plain().start();
    let url = first.database_url().expect("TEST_DATABASE_URL names a PostgreSQL: run `make postgres`");
    let second = Setup::plain()
        .env("WHARFINGER_DATABASE_URL", url)
        .env("WHARFINGER_BLOB_URL", format!("file://{}", first.data_dir.join("blobs").display()))
        .env("WHARFINGER_MASTER_KEY_FILE", first.data_dir.join("master.key").to_string_lossy())
        .env("WHARFINGER_MAIL_DIR", first.data_dir.join("mail").to_string_lossy())
        .env("WHARFINGER_AUTH_EXTERNAL_URL", format!("http://localhost:{}", first.ports.auth))
        .start();
    (first, second)
}

fn patch(registry: &Endpoint, session: &str, token: &str, range: &str, bytes: &[u8]) -> Reply {
    Call::patch(session).bearer(token).header("Content-Range", range).body(bytes).send(registry)
}

#[test]
fn d34_any_request_of_a_push_may_land_on_any_replica() {
    let (a, b) = pair();
    let token = a.admin_token(REPOSITORY);
    let image = Image::new(fresh(), 300_000);
    let (first, second) = image.layer.split_at(100_000);
    let session = start_upload(&a.registry(), REPOSITORY, &token);
    let one = patch(&b.registry(), &session, &token, "0-99999", first).expect(202);
    let session = path_of(one.header("location").expect("a session"));
    let status = Call::get(&session).send(&a.registry()).expect(204);
    assert_eq!(status.header("range"), Some("0-99999"));
    let two = patch(&a.registry(), &session, &token, "100000-299999", second).expect(202);
    let session = path_of(two.header("location").expect("a session"));
    let digest = sha256(&image.layer);
    Call::put(with_query(&session, &format!("digest={digest}"))).bearer(&token).send(&b.registry()).expect(201);
    push_blob(&a.registry(), REPOSITORY, &token, &image.config);
    let target = format!("/v2/{REPOSITORY}/manifests/v1");
    let manifest = Call::put(&target).bearer(&token).header("Content-Type", support::oci::OCI_MANIFEST);
    manifest.body(image.manifest.clone()).send(&b.registry()).expect(201);
    for replica in [&a, &b] {
        let blob = Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(&token).send(&replica.registry());
        assert_eq!(blob.expect(200).body, image.layer);
        Call::get(&target).bearer(&token).send(&replica.registry()).expect(200);
    }
}

#[test]
fn d34_an_upload_whose_replica_is_killed_goes_on_at_the_other() {
    let (a, mut b) = pair();
    let token = a.admin_token(REPOSITORY);
    let content = noise(fresh(), 200_000);
    let session = start_upload(&a.registry(), REPOSITORY, &token);
    patch(&b.registry(), &session, &token, "0-99999", &content[..100_000]).expect(202);
    // A stream to the second replica that never ends.
    let mut wire = b.registry().connect().expect("a connection");
    let head = format!(
        "PATCH {session} HTTP/1.1\r\nHost: {}\r\nTransfer-Encoding: chunked\r\n\r\nC350\r\n",
        b.registry_host()
    );
    wire.write_all(head.as_bytes()).expect("a head");
    wire.write_all(&content[100_000..150_000]).expect("a chunk");
    wire.flush().expect("sent");
    thread::sleep(Duration::from_millis(500));
    b.kill();
    let status = Call::get(&session).send(&a.registry()).expect(204);
    assert_eq!(status.header("range"), Some("0-99999"), "the acknowledged byte and no other");
    let begun = Instant::now();
    patch(&a.registry(), &session, &token, "100000-199999", &content[100_000..]).expect(202);
    println!("taken over after {:?}", begun.elapsed());
    let digest = sha256(&content);
    Call::put(with_query(&session, &format!("digest={digest}"))).send(&a.registry()).expect(201);
    let blob = Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(&token).send(&a.registry()).expect(200);
    assert_eq!(blob.body, content);
}

#[test]
fn a_revocation_at_one_replica_is_felt_at_the_other_within_a_second() {
    let (a, b) = pair();
    let api = a.api();
    api.create_user(ORG, "dev@example.com", "a quiet harbour at night");
    let binding = api.bind(ORG, "dev@example.com", "WORKSPACE_ADMIN", Some("defaultproject"));
    let scope = format!("repository:{REPOSITORY}:pull,push");
    let token = || a.token("dev@example.com", "a quiet harbour at night", &[&scope]);
    let list = |token: &str| Call::get(format!("/v2/{REPOSITORY}/tags/list")).bearer(token).send(&b.registry()).status;
    let felt = |what: &str, refused: &dyn Fn() -> bool| {
        let begun = Instant::now();
        while !refused() {
            assert!(begun.elapsed() < Duration::from_secs(1), "{what} is not felt after a second");
            thread::sleep(Duration::from_millis(10));
        }
        println!("{what}: felt at the other replica after {:?}", begun.elapsed());
    };

    let first = token();
    let session = start_upload(&b.registry(), REPOSITORY, &first);
    assert_eq!(list(&first), 404);
    api.delete(&format!("/orgs/{ORG}/bindings/{binding}")).expect(204);
    felt("a binding taken away", &|| list(&first) == 401);
    felt("the running upload's end", &|| Call::get(&session).send(&b.registry()).status == 401);

    api.bind(ORG, "dev@example.com", "WORKSPACE_ADMIN", Some("defaultproject"));
    let (_, key) = api.create_api_key(ORG, None, "ci");
    let by_key = b.token(ADMIN, &key, &[&scope]);
    assert_eq!(list(&by_key), 404);
    let keys = api.get(&format!("/orgs/{ORG}/apikeys")).expect(200).json();
    let id = keys["items"][0]["id"].as_str().expect("an id").to_owned();
    api.delete(&format!("/orgs/{ORG}/apikeys/{id}")).expect(204);
    felt("an API key revoked", &|| list(&by_key) == 401);

    let second = token();
    assert_eq!(list(&second), 404);
    api.post(&format!("/orgs/{ORG}/users/dev@example.com/deactivate"), &serde_json::json!({})).expect(204);
    felt("a user deactivated", &|| list(&second) == 401);
    let login = Some(("dev@example.com", "a quiet harbour at night"));
    felt("the log-in at the other's token service", &|| b.try_token(login, &[&scope]).status == 401);
}

#[test]
fn every_change_at_one_replica_is_felt_at_the_other_within_a_second() {
    let (a, b) = pair();
    propagation::measure(&a, &b);
}

#[test]
fn tokens_signed_after_a_rotation_are_accepted_everywhere() {
    let (a, b) = pair();
    let old = a.admin_token(REPOSITORY);
    a.run(&["keys", "rotate"]);
    let check = |token: &str| {
        for replica in [&a, &b] {
            let reply = Call::get(format!("/v2/{REPOSITORY}/tags/list")).bearer(token).send(&replica.registry());
            assert_eq!(reply.status, 404, "{}", reply.text());
        }
    };
    check(&old);
    check(&a.admin_token(REPOSITORY));
    check(&b.token(ADMIN, ADMIN_PASSWORD, &[&format!("repository:{REPOSITORY}:pull")]));
}

#[test]
fn the_same_image_pushed_deleted_and_collected_at_both_stays_whole() {
    let (a, b) = pair();
    let token = a.admin_token(REPOSITORY);
    let image = Image::new(fresh(), 50_000);
    let replicas = [a.registry(), b.registry()];
    let (pushed, bearer) = (image.clone(), token.clone());
    parallel(8, move |worker| {
        for _ in 0..6 {
            let registry = &replicas[worker % 2];
            pushed.push(registry, REPOSITORY, &bearer, "v1");
            if worker == 0 {
                let path = format!("/v2/{REPOSITORY}/manifests/{}", pushed.digest());
                let status = Call::delete(path).bearer(&bearer).send(registry).status;
                assert!(matches!(status, 202 | 404), "{status}");
            }
        }
    });
    a.run(&["gc", "--now"]);
    image.push(&a.registry(), REPOSITORY, &token, "v1");
    b.run(&["gc", "--now"]);
    for digest in [sha256(&image.layer), sha256(&image.config)] {
        Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(&token).send(&b.registry()).expect(200);
    }
    a.run(&["verify"]);
}

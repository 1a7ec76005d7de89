//! Uploads: every style, every way to get it wrong, and what is left behind.

use std::io::Write as _;

use crate::support::http::Endpoint;
use crate::support::oci::{fresh, noise, path_of, push_blob, sha256, sha512, start_upload, with_query};
use crate::support::{Call, Reply, Server, Setup};

const REPOSITORY: &str = "main/uploads";

struct Upload<'a> {
    registry: &'a Endpoint,
    token: &'a str,
    session: String,
}

impl<'a> Upload<'a> {
    fn start(registry: &'a Endpoint, token: &'a str) -> Self {
        Self { registry, token, session: start_upload(registry, REPOSITORY, token) }
    }

    /// Appends, with `Content-Range` if one is given, and follows `Location`.
    fn patch(&mut self, bytes: &[u8], range: Option<&str>) -> Reply {
        let mut call = Call::patch(&self.session).bearer(self.token).body(bytes);
        if let Some(range) = range {
            call = call.header("Content-Range", range);
        }
        let reply = call.send(self.registry);
        if let Some(location) = reply.header("location") {
            self.session = path_of(location);
        }
        reply
    }

    fn status(&self) -> Reply {
        Call::get(&self.session).bearer(self.token).send(self.registry)
    }

    fn close(&self, digest: &str, body: &[u8]) -> Reply {
        let target = with_query(&self.session, &format!("digest={digest}"));
        Call::put(target).bearer(self.token).body(body).send(self.registry)
    }
}

fn start() -> (Server, Endpoint, String) {
    let server = Setup::plain().start();
    let registry = server.registry();
    let token = server.admin_token(REPOSITORY);
    (server, registry, token)
}

fn get(registry: &Endpoint, token: &str, digest: &str) -> Reply {
    Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(token).send(registry)
}

#[test]
fn d04_a_zero_byte_blob_by_every_style() {
    let (_server, registry, token) = start();
    let empty = sha256(b"");
    let monolithic = format!("/v2/{REPOSITORY}/blobs/uploads/?digest={empty}");
    Call::post(monolithic).bearer(&token).body(b"").send(&registry).expect(201);
    Upload::start(&registry, &token).close(&empty, b"").expect(201);
    let mut chunked = Upload::start(&registry, &token);
    assert_eq!(chunked.status().expect(204).header("range"), Some("0-0"));
    Call::patch(&chunked.session).bearer(&token).chunked(b"").send(&registry).expect(202);
    chunked.patch(b"", None).expect(202);
    chunked.close(&empty, b"").expect(201);
    let found = get(&registry, &token, &empty).expect(200);
    assert_eq!(found.header("content-length"), Some("0"));
    // One byte also reads `0-0`: only the bytes tell them apart.
    let mut one = Upload::start(&registry, &token);
    assert_eq!(one.patch(b"x", None).expect(202).header("range"), Some("0-0"));
    one.close(&empty, b"").expect_error(400, "DIGEST_INVALID");
    let mut one = Upload::start(&registry, &token);
    one.patch(b"x", Some("0-0")).expect(202);
    one.close(&sha256(b"x"), b"").expect(201);
}

#[test]
fn d05_an_out_of_order_or_overlapping_chunk_is_refused_and_the_upload_goes_on() {
    let (_server, registry, token) = start();
    let bytes = noise(fresh(), 3000);
    let mut upload = Upload::start(&registry, &token);
    upload.patch(&bytes[..1000], Some("0-999")).expect(202);
    for range in ["2000-2999", "500-1499", "0-999"] {
        let refused = upload.patch(&bytes[..1000], Some(range)).expect(416);
        assert_eq!(refused.header("range"), Some("0-999"), "after {range}");
        assert!(refused.header("location").is_some());
    }
    upload.patch(&bytes[1000..2000], Some("1000-1999")).expect(202);
    upload.patch(&bytes[2000..], Some("2000-2999")).expect(202);
    upload.close(&sha256(&bytes), b"").expect(201);
    assert_eq!(get(&registry, &token, &sha256(&bytes)).expect(200).body, bytes);
}

#[test]
fn d06_a_closing_put_with_a_body_and_the_wrong_content_range() {
    let (_server, registry, token) = start();
    let bytes = noise(fresh(), 2000);
    let mut upload = Upload::start(&registry, &token);
    upload.patch(&bytes[..1000], Some("0-999")).expect(202);
    let target = with_query(&upload.session, &format!("digest={}", sha256(&bytes)));
    let put = |range: &str| {
        Call::put(&target).bearer(&token).header("Content-Range", range).body(&bytes[1000..]).send(&registry)
    };
    put("1500-2499").expect(416);
    for nonsense in ["1000-*", "1999-1000", "x-y", "-1", "1000-99999999999999999999999"] {
        let refused = put(nonsense);
        assert!(matches!(refused.status, 400 | 416), "{nonsense}: {}", refused.status);
    }
    put("1000-1999").expect(201);
}

#[test]
fn d07_a_stream_without_length_or_range() {
    let (_server, registry, token) = start();
    let bytes = noise(fresh(), 300_000);
    let mut upload = Upload::start(&registry, &token);
    let streamed = Call::patch(&upload.session).bearer(&token).chunked(bytes.clone()).send(&registry).expect(202);
    assert_eq!(streamed.header("range"), Some("0-299999"));
    upload.session = path_of(streamed.header("location").unwrap());
    upload.close(&sha256(&bytes), b"").expect(201);
    // The same in one PUT, as containerd and BuildKit do, streamed.
    let more = noise(fresh(), 100_000);
    let session = start_upload(&registry, REPOSITORY, &token);
    let target = with_query(&session, &format!("digest={}", sha256(&more)));
    Call::put(target).bearer(&token).chunked(more.clone()).send(&registry).expect(201);
    assert_eq!(get(&registry, &token, &sha256(&more)).expect(200).body, more);
}

#[test]
fn d08_a_body_that_ends_early_leaves_the_bytes_that_arrived() {
    let (_server, registry, token) = start();
    let bytes = noise(fresh(), 200_000);
    for sent in [0usize, 1, 999, 65_536, 199_999] {
        let session = start_upload(&registry, REPOSITORY, &token);
        let head = format!(
            "PATCH {session} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
            registry.host,
            bytes.len()
        );
        let mut wire = registry.connect().unwrap();
        wire.write_all(head.as_bytes()).unwrap();
        wire.write_all(&bytes[..sent]).unwrap();
        wire.flush().unwrap();
        drop(wire);
        // The server may still be writing what arrived: wait until the offset stands still.
        let (mut last, mut stood) = (None, 0);
        while stood < 3 {
            let range =
                Call::get(&session).bearer(&token).send(&registry).expect(204).header("range").map(str::to_owned);
            stood = if range == last { stood + 1 } else { 0 };
            last = range;
            std::thread::sleep(std::time::Duration::from_millis(60));
        }
        let last: usize = last.unwrap().strip_prefix("0-").unwrap().parse().unwrap();
        let held = if last == 0 && sent != 1 { 0 } else { last + 1 };
        assert!(held <= sent, "{held} bytes of {sent}");
        let target = with_query(&session, &format!("digest={}", sha256(&bytes)));
        let rest = Call::put(&target).bearer(&token).header("Content-Range", format!("{held}-{}", bytes.len() - 1));
        rest.body(&bytes[held..]).send(&registry).expect(201);
        assert_eq!(get(&registry, &token, &sha256(&bytes)).expect(200).body, bytes);
    }
}

#[test]
fn d08_a_chunk_longer_than_its_content_range_is_refused() {
    let (_server, registry, token) = start();
    let mut upload = Upload::start(&registry, &token);
    for range in ["0-9", "0-11"] {
        let refused = upload.patch(b"eleven byte", Some(range));
        assert!(matches!(refused.status, 400 | 416), "{}", refused.status);
    }
    assert_eq!(upload.status().expect(204).header("range"), Some("0-0"));
    upload.close(&sha256(b"eleven byte"), b"eleven byte").expect(201);
}

#[test]
fn d09_a_failed_append_and_a_resume_keep_hash_and_bytes_together() {
    let (mut server, registry, token) = start();
    let bytes = noise(fresh(), 500_000);
    let mut upload = Upload::start(&registry, &token);
    upload.patch(&bytes[..200_000], None).expect(202);
    upload.patch(b"not the next", Some("7-18")).expect(416);
    server.kill();
    server.restart();
    assert_eq!(upload.status().expect(204).header("range"), Some("0-199999"), "an acknowledged chunk survives kill -9");
    upload.patch(&bytes[200_000..], Some("200000-499999")).expect(202);
    upload.close(&sha256(&bytes), b"").expect(201);
    assert_eq!(get(&registry, &token, &sha256(&bytes)).expect(200).body, bytes);
    server.run(&["verify"]);
}

#[test]
fn d20_sha512_and_unknown_algorithms() {
    let (_server, registry, token) = start();
    let bytes = noise(fresh(), 1000);
    let digest = sha512(&bytes);
    let hinted = format!("/v2/{REPOSITORY}/blobs/uploads/?digest-algorithm=sha512");
    let session = path_of(Call::post(hinted).bearer(&token).send(&registry).expect(202).header("location").unwrap());
    let closed = Call::put(with_query(&session, &format!("digest={digest}"))).bearer(&token).body(bytes.clone());
    assert_eq!(closed.send(&registry).expect(201).header("docker-content-digest"), Some(digest.as_str()));
    let unhinted = noise(fresh(), 1000);
    Upload::start(&registry, &token).close(&sha512(&unhinted), &unhinted).expect(201);
    let found = get(&registry, &token, &sha512(&unhinted)).expect(200);
    assert_eq!(found.header("docker-content-digest"), Some(sha512(&unhinted).as_str()));
    assert_eq!(found.body, unhinted);
    Upload::start(&registry, &token).close("md5:d41d8cd98f00b204e9800998ecf8427e", b"").expect(400);
    let unknown = format!("/v2/{REPOSITORY}/blobs/uploads/?digest-algorithm=md5");
    Call::post(unknown).bearer(&token).send(&registry).expect(400);
}

#[test]
fn d28_a_digest_that_does_not_match_or_is_none() {
    let (_server, registry, token) = start();
    let bytes = noise(fresh(), 100);
    let right = sha256(&bytes);
    let wrong = [
        sha256(b"something else"),
        right.to_uppercase(),
        right.replace("sha256:", "SHA256:"),
        right[..right.len() - 1].to_owned(),
        format!("{right}0"),
        "sha256:../../../../etc/passwd".into(),
        "sha256:%2e%2e%2f".into(),
        String::new(),
        "sha256".into(),
        format!("sha512:{}", &right[7..]),
    ];
    for digest in wrong {
        Upload::start(&registry, &token).close(&digest, &bytes).expect_error(400, "DIGEST_INVALID");
    }
    let session = start_upload(&registry, REPOSITORY, &token);
    Call::put(&session).bearer(&token).body(bytes).send(&registry).expect(400);
    get(&registry, &token, &right).expect_error(404, "BLOB_UNKNOWN");
}

#[test]
fn a_session_outlives_a_killed_server_with_bytes_and_without() {
    let (mut server, _, token) = start();
    let mut sessions = Vec::new();
    for sent in [0, 1_000, 16_384, 16_385, 300_000] {
        let (registry, bytes) = (server.registry(), noise(fresh(), 400_000));
        let mut upload = Upload::start(&registry, &token);
        if sent > 0 {
            upload.patch(&bytes[..sent], None).expect(202);
        }
        sessions.push((upload.session.clone(), sent, bytes));
    }
    server.restart();
    let registry = server.registry();
    for (session, sent, bytes) in sessions {
        let mut upload = Upload { registry: &registry, token: &token, session };
        let there = upload.status().expect(204);
        assert_eq!(there.header("range"), Some(format!("0-{}", sent.max(1) - 1).as_str()));
        let more = (sent + 20_000).min(bytes.len());
        upload.patch(&bytes[sent..more], Some(&format!("{sent}-{}", more - 1))).expect(202);
        let digest = sha256(&bytes);
        upload.close(&digest, &bytes[more..]).expect(201);
        assert_eq!(get(&registry, &token, &digest).expect(200).body, bytes);
        upload.status().expect(404);
    }
}

#[test]
fn an_upload_can_be_cancelled_and_is_then_unknown() {
    let (_server, registry, token) = start();
    let mut upload = Upload::start(&registry, &token);
    upload.patch(b"some bytes", None).expect(202);
    Call::delete(&upload.session).bearer(&token).send(&registry).expect(204);
    upload.status().expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    upload.patch(b"more", None).expect_error(404, "BLOB_UPLOAD_UNKNOWN");
    Call::delete(&upload.session).bearer(&token).send(&registry).expect(404);
}

#[test]
fn an_upload_session_is_of_one_repository_and_cannot_be_guessed() {
    let (server, registry, token) = start();
    let upload = Upload::start(&registry, &token);
    let other = server.admin_token("main/other");
    let elsewhere = upload.session.replace("main/uploads", "main/other");
    Call::get(elsewhere).bearer(&other).send(&registry).expect(404);
    for id in ["../../x", "00000000000000000000000000", "01arz3ndektsv4rrffq69g5fav", "%00", "a b"] {
        let path = format!("/v2/{REPOSITORY}/blobs/uploads/{}", id.replace(' ', "%20"));
        let reply = Call::patch(path).bearer(&token).body(b"x").send(&registry);
        assert!(matches!(reply.status, 400 | 404), "{id}: {}", reply.status);
    }
}

#[test]
fn a_wrong_digest_loses_nothing_that_was_there() {
    let (_server, registry, token) = start();
    let bytes = noise(fresh(), 5000);
    let digest = push_blob(&registry, REPOSITORY, &token, &bytes);
    Upload::start(&registry, &token).close(&digest, b"other bytes").expect_error(400, "DIGEST_INVALID");
    assert_eq!(get(&registry, &token, &digest).expect(200).body, bytes);
}

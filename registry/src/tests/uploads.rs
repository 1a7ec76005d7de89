//! Every way to push a blob, and every way that it can go wrong.

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use storage::digest::digest_of;
use storage::names::Algorithm;

use super::world::{World, sha256};

#[tokio::test]
async fn every_upload_style_takes_zero_one_and_many_bytes() {
    let w = World::new().await;
    for content in [b"".as_slice(), b"x", b"many bytes, and a few more"] {
        let digest = sha256(content);
        // POST, then PUT with the body.
        let session = w.begin("acme/one").await;
        let put = w.put(&format!("{session}?digest={digest}")).body(content.to_vec()).send().await;
        assert_eq!(put.status, 201, "{}", put.text());
        assert_eq!(put.header("location"), format!("/v2/acme/one/blobs/{digest}"));
        assert_eq!(put.header("docker-content-digest"), digest);
        // POST with everything.
        let post = w.post(&format!("/v2/acme/two/blobs/uploads/?digest={digest}")).body(content.to_vec()).send().await;
        assert_eq!(post.status, 201, "{}", post.text());
        // Streamed PATCH without length or range, then an empty PUT.
        let session = w.begin("acme/three").await;
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            content.chunks(3).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        let patch = w.patch(&session).stream(Body::from_stream(stream::iter(pieces))).send().await;
        assert_eq!(patch.status, 202);
        assert_eq!(patch.header("range"), format!("0-{}", content.len().saturating_sub(1)));
        let session = patch.header("location");
        assert_eq!(w.put(&format!("{session}?digest={digest}")).send().await.status, 201);
        // Chunks of one byte.
        let mut session = w.begin("acme/four").await;
        for (i, byte) in content.iter().enumerate() {
            let patch = w.patch(&session).header("content-range", &format!("{i}-{i}")).body(vec![*byte]).send().await;
            assert_eq!(patch.status, 202, "{}", patch.text());
            session = patch.header("location");
        }
        assert_eq!(w.put(&format!("{session}?digest={digest}")).send().await.status, 201);
        for repo in ["acme/one", "acme/two", "acme/three", "acme/four"] {
            let got = w.get(&format!("/v2/{repo}/blobs/{digest}")).send().await;
            assert_eq!((got.status, got.body.as_ref()), (200, content));
        }
    }
}

#[tokio::test]
async fn an_empty_session_reports_zero_zero_and_a_status_asks_no_token() {
    let w = World::new().await;
    let reply = w.post("/v2/acme/app/blobs/uploads/").send().await;
    assert_eq!((reply.status, reply.header("range").as_str()), (202, "0-0"));
    assert!(!reply.header("docker-upload-uuid").is_empty());
    let location = reply.header("location");
    assert!(location.starts_with("/v2/acme/app/blobs/uploads/") && !location.ends_with('/'));
    let status = w.anonymous("GET", &location).send().await;
    assert_eq!((status.status, status.header("range").as_str()), (204, "0-0"));
    assert_eq!(status.header("location"), location);
}

#[tokio::test]
async fn a_session_that_ended_is_gone_by_every_url_that_it_had() {
    let w = World::new().await;
    let begun = w.begin("acme/app").await;
    let moved = w.patch(&begun).body("hello").send().await.header("location");
    assert_ne!(begun, moved);
    let digest = sha256(b"hello");
    for url in [&begun, &moved] {
        assert_eq!(w.anonymous("GET", url).send().await.header("range"), "0-4");
    }
    assert_eq!(w.put(&format!("{begun}?digest={digest}")).send().await.status, 201);
    for url in [&begun, &moved] {
        assert_eq!(w.anonymous("GET", url).send().await.status, 404);
        assert_eq!(w.patch(url).body("more").send().await.status, 404);
    }
    let cancelled = w.begin("acme/app").await;
    assert_eq!(w.delete(&cancelled).send().await.status, 204);
    for reply in [w.anonymous("GET", &cancelled), w.delete(&cancelled), w.patch(&cancelled).body("x")] {
        assert_eq!(reply.send().await.status, 404);
    }
}

#[tokio::test]
async fn a_session_ends_with_its_project_though_another_takes_the_name() {
    let w = World::new().await;
    let server = identity::audit::Caller::server();
    let begun = w.begin("acme/web/app").await;
    let mut session = w.db.read().await.unwrap();
    let web = storage::projects::find_by_path(&mut session, "acme", "web").await.unwrap().unwrap();
    drop(session);
    w.identity.delete_project(&server, &web.id, true, None).await.unwrap();
    let put = |url: String| w.put(&format!("{url}?digest={}", sha256(b"late"))).body("late").send();
    assert_eq!(put(begun.clone()).await.status, 404);
    let slug = "web".parse().unwrap();
    let new = storage::projects::NewProject {
        org_id: &web.org_id,
        slug: &slug,
        settings: storage::projects::ProjectSettings::default(),
        description: "",
    };
    w.identity.create_project(&server, &new).await.unwrap();
    assert_eq!(put(begun).await.status, 404);
}

#[tokio::test]
async fn a_session_s_url_can_be_changed_in_nothing() {
    let w = World::new().await;
    let begun = w.begin("acme/app").await;
    let (what, mac) = begun.rsplit_once('.').unwrap();
    for (at, _) in what.match_indices(|c: char| c.is_ascii_alphanumeric()).skip("v2acmeappblobsuploads".len()) {
        let mut forged = what.to_owned();
        forged.replace_range(at..=at, if &what[at..=at] == "0" { "1" } else { "0" });
        assert_eq!(w.anonymous("GET", &format!("{forged}.{mac}")).send().await.status, 404, "{forged}");
    }
    let elsewhere = begun.replace("acme/app", "acme/other");
    assert_eq!(w.anonymous("GET", &elsewhere).send().await.status, 404);
    assert_eq!(w.anonymous("GET", &begun).send().await.status, 204);
}

#[tokio::test]
async fn chunks_out_of_order_are_416_and_the_session_lives() {
    let w = World::new().await;
    let session = w.begin("acme/app").await;
    let first = w.patch(&session).header("content-range", "0-4").body("hello").send().await;
    assert_eq!(first.status, 202);
    let moved = first.header("location");
    for (range, session) in [("0-4", &moved), ("9-13", &moved), ("4-8", &session)] {
        let wrong = w.patch(session).header("content-range", range).body("world").send().await;
        assert_eq!(wrong.status, 416);
        assert_eq!((wrong.header("range"), wrong.header("location")), ("0-4".to_owned(), moved.clone()));
        let digest = sha256(b"helloworld");
        let wrong =
            w.put(&format!("{session}?digest={digest}")).header("content-range", range).body("world").send().await;
        assert_eq!(wrong.status, 416);
    }
    let digest = sha256(b"hello world");
    let put = w.put(&format!("{session}?digest={digest}")).header("content-range", "5-10").body(" world").send().await;
    assert_eq!(put.status, 201, "{}", put.text());
}

#[tokio::test]
async fn a_chunk_of_another_length_than_it_says_is_refused_and_not_kept() {
    let w = World::new().await;
    let session = w.begin("acme/app").await;
    let lie = w.patch(&session).header("content-range", "0-9").header("content-length", "5").body("hello").send().await;
    assert_eq!((lie.status, lie.code()), (400, "SIZE_INVALID".into()));
    let body = Body::from_stream(stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"hello"))]));
    let lie = w.patch(&session).header("content-range", "0-9").stream(body).send().await;
    assert_eq!((lie.status, lie.code()), (400, "SIZE_INVALID".into()));
    let garbled = w.patch(&session).header("content-range", "zero-nine").body("hello").send().await;
    assert_eq!((garbled.status, garbled.code()), (400, "BLOB_UPLOAD_INVALID".into()));
    assert_eq!(w.get(&session).send().await.header("range"), "0-0");
}

#[tokio::test]
async fn a_body_that_breaks_off_is_kept_to_its_last_byte_and_resumes() {
    let w = World::new().await;
    let content: Vec<u8> = (0..3_000_000u32).map(|i| (i % 251) as u8).collect();
    let digest = sha256(&content);
    for cut in [0usize, 1, 4096, 1_048_576, 2_999_999] {
        let session = w.begin("acme/app").await;
        let pieces = [Ok(Bytes::copy_from_slice(&content[..cut])), Err(std::io::Error::other("gone"))];
        let broken = w.patch(&session).stream(Body::from_stream(stream::iter(pieces))).send().await;
        assert_eq!(broken.status, 400);
        let status = w.get(&session).send().await;
        assert_eq!(status.header("range"), format!("0-{}", cut.saturating_sub(1)));
        let range = format!("{cut}-{}", content.len() - 1);
        let rest = w.patch(&session).header("content-range", &range).body(content[cut..].to_vec()).send().await;
        assert_eq!(rest.status, 202, "{}", rest.text());
        assert_eq!(w.put(&format!("{session}?digest={digest}")).send().await.status, 201);
        assert_eq!(w.get(&format!("/v2/acme/app/blobs/{digest}")).send().await.body.as_ref(), content);
    }
}

#[tokio::test]
async fn a_put_whose_body_breaks_off_stores_nothing_and_can_be_sent_again() {
    let w = World::new().await;
    let digest = sha256(b"whole content");
    let session = w.begin("acme/app").await;
    let pieces = [Ok(Bytes::from_static(b"whole")), Err(std::io::Error::other("gone"))];
    let broken =
        w.put(&format!("{session}?digest={digest}")).stream(Body::from_stream(stream::iter(pieces))).send().await;
    assert_eq!(broken.status, 400);
    assert_eq!(w.head(&format!("/v2/acme/app/blobs/{digest}")).send().await.status, 404);
    let again = w.put(&format!("{session}?digest={digest}")).body("whole content").send().await;
    assert_eq!(again.status, 201);
}

#[tokio::test]
async fn a_wrong_digest_is_400_and_the_right_one_still_works() {
    let w = World::new().await;
    let session = w.begin("acme/app").await;
    w.patch(&session).body("content").send().await;
    for wrong in [sha256(b"other"), digest_of(Algorithm::Sha512, b"other").to_string()] {
        let put = w.put(&format!("{session}?digest={wrong}")).send().await;
        assert_eq!((put.status, put.code()), (400, "DIGEST_INVALID".into()));
        assert_eq!(w.head(&format!("/v2/acme/app/blobs/{wrong}")).send().await.status, 404);
    }
    for bad in ["sha256:short", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:../../etc/passwd", "x"] {
        assert_eq!(w.put(&format!("{session}?digest={bad}")).send().await.status, 400, "{bad}");
    }
    assert_eq!(w.put(&session).send().await.status, 400, "no digest at all");
    assert_eq!(w.put(&format!("{session}?digest={}", sha256(b"content"))).send().await.status, 201);
    let post = w.post(&format!("/v2/acme/app/blobs/uploads/?digest={}", sha256(b"a"))).body("b").send().await;
    assert_eq!((post.status, post.code()), (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn sha512_works_with_and_without_the_hint() {
    let w = World::new().await;
    let digest = digest_of(Algorithm::Sha512, b"content").to_string();
    for start in ["/v2/acme/a/blobs/uploads/?digest-algorithm=sha512", "/v2/acme/b/blobs/uploads/"] {
        let session = w.post(start).send().await.header("location");
        w.patch(&session).body("content").send().await;
        let put = w.put(&format!("{session}?digest={digest}")).send().await;
        assert_eq!((put.status, put.header("docker-content-digest")), (201, digest.clone()));
    }
    assert_eq!(w.get(&format!("/v2/acme/b/blobs/{digest}")).send().await.body.as_ref(), b"content");
    let unknown = w.post("/v2/acme/a/blobs/uploads/?digest-algorithm=blake3").send().await;
    assert_eq!((unknown.status, unknown.code()), (400, "DIGEST_INVALID".into()));
}

#[tokio::test]
async fn a_cancelled_session_is_gone_and_so_are_forged_and_foreign_ones() {
    let w = World::new().await;
    let session = w.begin("acme/app").await;
    assert_eq!(w.delete(&session).send().await.status, 204);
    for method in ["GET", "PATCH", "DELETE"] {
        let reply = w.request(method, &session).send().await;
        assert_eq!((reply.status, reply.code()), (404, "BLOB_UPLOAD_UNKNOWN".into()), "{method}");
    }
    let session = w.begin("acme/app").await;
    let forged = format!("{}0", &session[..session.len() - 1]);
    let forged = if forged == session { format!("{}1", &session[..session.len() - 1]) } else { forged };
    let elsewhere = session.replace("/acme/app/", "/acme/other/");
    let bare = session.split('.').next().unwrap().to_owned();
    for wrong in [forged, elsewhere, bare, "/v2/acme/app/blobs/uploads/..%2f..".to_owned()] {
        let reply = w.patch(&wrong).body("x").send().await;
        assert!(matches!(reply.status, 400 | 404), "{wrong}: {}", reply.status);
    }
    // The other spelling of the same repository is the same repository.
    let long = session.replace("/acme/app/", "/acme/defaultproject/app/");
    assert_eq!(w.get(&long).send().await.status, 204);
}

#[tokio::test]
async fn the_same_blob_may_arrive_in_many_sessions_at_once() {
    let w = World::new().await;
    let digest = sha256(b"the same");
    let mut sessions = Vec::new();
    for _ in 0..6 {
        sessions.push(w.begin("acme/app").await);
    }
    let puts = sessions.iter().map(|s| w.put(&format!("{s}?digest={digest}")).body("the same").send());
    for put in futures_util::future::join_all(puts).await {
        assert_eq!(put.status, 201, "{}", put.text());
    }
}

#[tokio::test]
async fn a_mount_links_within_the_organization_and_falls_back_to_a_session() {
    let w = World::new().await;
    let digest = w.push_blob("acme/source", b"shared").await;
    let mount = |query: &str| w.post(&format!("/v2/acme/target/blobs/uploads/?{query}"));
    let done = mount(&format!("mount={digest}&from=acme/source&origin=example.com")).send().await;
    assert_eq!((done.status, done.header("docker-content-digest")), (201, digest.clone()));
    assert_eq!(w.get(&format!("/v2/acme/target/blobs/{digest}")).send().await.body.as_ref(), b"shared");
    // Without `from`: anything that the caller may read in the organization.
    let done = w.post(&format!("/v2/acme/third/blobs/uploads/?mount={digest}")).send().await;
    assert_eq!(done.status, 201);
    // To itself.
    let done = w.post(&format!("/v2/acme/source/blobs/uploads/?mount={digest}&from=acme/source")).send().await;
    assert_eq!(done.status, 201);
    // Not there, or `from` without `mount`: a session.
    let missing = sha256(b"nowhere");
    for query in [format!("mount={missing}&from=acme/source"), format!("mount={missing}"), "from=acme/source".into()] {
        let reply = mount(&query).send().await;
        assert_eq!((reply.status, reply.header("range").as_str()), (202, "0-0"), "{query}");
    }
    assert_eq!(mount("mount=sha256:bad&from=acme/source").send().await.status, 400);
}

#[tokio::test]
async fn a_push_to_what_does_not_exist_says_how_to_make_it() {
    let w = World::new().await;
    let reply = w.post("/v2/acme/newproject/app/blobs/uploads/").send().await;
    assert_eq!((reply.status, reply.code()), (404, "NAME_UNKNOWN".into()));
    assert!(
        reply.text().contains("project 'newproject' does not exist")
            && reply.text().contains("/api/v1/orgs/acme/projects")
    );
    let reply = w.put("/v2/acme/newproject/app/manifests/v1").body("{}").send().await;
    assert_eq!((reply.status, reply.code()), (404, "NAME_UNKNOWN".into()));
}

#[tokio::test]
async fn a_blob_over_the_limit_is_413() {
    let w = World::new().await;
    let session = w.begin("acme/app").await;
    let reply = w.patch(&session).body(vec![0u8; World::MAX_BLOB + 1]).send().await;
    assert_eq!((reply.status, reply.code()), (413, "SIZE_INVALID".into()));
    assert_eq!(w.get(&session).send().await.header("range"), "0-0");
}

#[tokio::test]
async fn a_put_that_is_sent_again_after_its_answer_was_lost_is_201() {
    let w = World::new().await;
    let session = w.begin("acme/app").await;
    let digest = sha256(b"content");
    let path = format!("{session}?digest={digest}");
    assert_eq!(w.put(&path).body("content").send().await.status, 201);
    assert_eq!(w.put(&path).body("content").send().await.status, 201);
    assert_eq!(w.anonymous("PUT", &path).body("content").send().await.status, 404, "without a token nothing is said");
    assert_eq!(w.put(&format!("{session}?digest={}", sha256(b"x"))).body("x").send().await.status, 404);
}

#[tokio::test]
async fn huge_and_overlong_chunks_are_refused_before_they_are_kept() {
    let w = World::new().await;
    let session = w.begin("acme/app").await;
    let far = w.patch(&session).header("content-range", "0-18446744073709551615").body("x").send().await;
    assert_eq!(far.status, 400);
    let pieces = [Ok::<_, std::io::Error>(Bytes::from_static(b"more than it says"))];
    let long = w.patch(&session).header("content-range", "0-3").stream(Body::from_stream(stream::iter(pieces)));
    assert_eq!(long.send().await.code(), "SIZE_INVALID");
    assert_eq!(w.get(&session).send().await.header("range"), "0-0");
}

#[tokio::test]
async fn a_monolithic_post_that_fails_leaves_no_session() {
    let w = World::new().await;
    let path = format!("/v2/acme/app/blobs/uploads/?digest={}", sha256(b"a"));
    assert_eq!(w.post(&path).body("b").send().await.status, 400);
    w.collect().await;
    assert_eq!(w.objects(), 0);
}

#[tokio::test]
async fn a_mount_of_a_name_from_another_registry_is_a_session() {
    let w = World::new().await;
    let digest = sha256(b"x");
    let reply = w.post(&format!("/v2/acme/app/blobs/uploads/?mount={digest}&from=pause&origin=registry.example"));
    assert_eq!(reply.send().await.status, 202);
}

//! Manifests: what is taken, what is refused, and that bytes stay bytes.

use storage::digest::digest_of;
use storage::names::Algorithm;

use super::world::{INDEX, OCI, World, sha256};

#[tokio::test]
async fn a_manifest_comes_back_byte_for_byte_by_tag_and_digest() {
    let w = World::new().await;
    let layer = w.push_blob("acme/app", b"layer").await;
    let mut manifest = w.image("acme/app", &[&layer]).await;
    manifest.insert_str(1, "\n  \"unknown\" : [1.0, 1e2,\t\"\\u00e9\"],");
    let digest = sha256(manifest.as_bytes());
    let put = w.put("/v2/acme/app/manifests/v1").manifest(&manifest).send().await;
    assert_eq!((put.status, put.header("docker-content-digest")), (201, digest.clone()), "{}", put.text());
    assert_eq!(put.header("location"), format!("/v2/acme/app/manifests/{digest}"));
    for reference in ["v1", &digest] {
        let path = format!("/v2/acme/app/manifests/{reference}");
        let (get, head) = (w.get(&path).send().await, w.head(&path).header("accept", "text/html").send().await);
        assert_eq!((get.status, get.text()), (200, manifest.clone()));
        for reply in [&get, &head] {
            assert_eq!(reply.header("content-type"), OCI);
            assert_eq!(reply.header("docker-content-digest"), digest);
            assert_eq!(reply.header("content-length"), manifest.len().to_string());
        }
        assert!(head.body.is_empty());
        let same = w.get(&path).header("if-none-match", &format!("\"{digest}\"")).send().await;
        assert_eq!(same.status, 304);
    }
    assert_eq!(w.get("/v2/acme/defaultproject/app/manifests/v1").send().await.status, 200);
}

#[tokio::test]
async fn by_digest_with_tags_sets_them_all_and_says_so() {
    let w = World::new().await;
    let manifest = w.image("acme/app", &[]).await;
    let digest = sha256(manifest.as_bytes());
    let tags: Vec<String> = (0..12).map(|i| format!("tag=t{i}")).collect();
    let put = w.put(&format!("/v2/acme/app/manifests/{digest}?{}", tags.join("&"))).manifest(&manifest).send().await;
    assert_eq!(put.status, 201);
    assert_eq!(put.headers.get_all("oci-tag").iter().count(), 12);
    assert_eq!(w.get("/v2/acme/app/manifests/t11").send().await.status, 200);
    let bad = w.put(&format!("/v2/acme/app/manifests/{digest}?tag=.bad")).manifest(&manifest).send().await;
    assert_eq!(bad.status, 400);
    let many: Vec<String> = (0..101).map(|i| format!("tag=t{i}")).collect();
    let many = w.put(&format!("/v2/acme/app/manifests/{digest}?{}", many.join("&"))).manifest(&manifest).send().await;
    assert_eq!(many.status, 414);
}

#[tokio::test]
async fn sha512_manifests_are_kept_under_their_own_digest() {
    let w = World::new().await;
    let manifest = w.image("acme/app", &[]).await;
    let digest = digest_of(Algorithm::Sha512, manifest.as_bytes()).to_string();
    let put = w.put(&format!("/v2/acme/app/manifests/{digest}?tag=v1")).manifest(&manifest).send().await;
    assert_eq!((put.status, put.header("docker-content-digest")), (201, digest.clone()));
    let get = w.get("/v2/acme/app/manifests/v1").send().await;
    assert_eq!((get.status, get.header("docker-content-digest")), (200, digest));
}

#[tokio::test]
async fn missing_blobs_are_named_and_missing_children_and_subjects_are_fine() {
    let w = World::new().await;
    let absent = sha256(b"absent");
    let manifest = w.image("acme/app", &[&absent]).await;
    let put = w.put("/v2/acme/app/manifests/v1").manifest(&manifest).send().await;
    assert_eq!((put.status, put.code()), (400, "MANIFEST_BLOB_UNKNOWN".into()));
    assert!(put.text().contains(&absent));
    assert_eq!(w.get("/v2/acme/app/manifests/v1").send().await.status, 404);
    // A blob of another repository does not count.
    w.push_blob("acme/elsewhere", b"absent").await;
    assert_eq!(w.put("/v2/acme/app/manifests/v1").manifest(&manifest).send().await.status, 400);
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"{OCI}","digest":"{absent}","size":1}},{{"mediaType":"{OCI}","digest":"{absent}","size":1}}],"subject":{{"mediaType":"{OCI}","digest":"{absent}","size":1}}}}"#
    );
    let put = w.put("/v2/acme/app/manifests/sparse").typed(INDEX, &index).send().await;
    assert_eq!((put.status, put.header("oci-subject")), (201, absent));
    let empty = format!(r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[]}}"#);
    assert_eq!(w.put("/v2/acme/app/manifests/empty").typed(INDEX, &empty).send().await.status, 201);
}

#[tokio::test]
async fn the_same_layer_twice_and_blobs_as_index_entries_are_taken() {
    let w = World::new().await;
    let layer = w.push_blob("acme/app", b"layer").await;
    let manifest = w.image("acme/app", &[&layer, &layer]).await;
    assert_eq!(w.put("/v2/acme/app/manifests/twice").manifest(&manifest).send().await.status, 201);
    let cache = format!(
        r#"{{"schemaVersion":2,"mediaType":"{INDEX}","manifests":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{layer}","size":5}},{{"mediaType":"application/vnd.buildkit.cacheconfig.v0","digest":"{layer}","size":5}}]}}"#
    );
    assert_eq!(w.put("/v2/acme/app/manifests/cache").typed(INDEX, &cache).send().await.status, 201);
    // The index alone keeps the blob.
    w.delete(&format!("/v2/acme/app/manifests/{}", sha256(manifest.as_bytes()))).send().await;
    w.clock.advance(5 * World::GRACE);
    w.collect().await;
    assert_eq!(w.get(&format!("/v2/acme/app/blobs/{layer}")).send().await.status, 200);
}

#[tokio::test]
async fn what_no_client_could_pull_is_refused_with_a_reason() {
    let w = World::new().await;
    let image = w.image("acme/app", &[]).await;
    let deep = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI}","x":{}{}}}"#, "[".repeat(10_000), "]".repeat(10_000));
    let schema1 = r#"{"schemaVersion":1,"name":"x","tag":"y","fsLayers":[]}"#;
    for (content_type, body, word) in [
        (OCI, "not json", "JSON"),
        (OCI, deep.as_str(), "JSON"),
        (INDEX, image.as_str(), "Content-Type"),
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", schema1, "schema 1"),
        ("application/json", r#"{"schemaVersion":2}"#, "media type"),
    ] {
        let reply = w.put("/v2/acme/app/manifests/v1").typed(content_type, body).send().await;
        assert_eq!((reply.status, reply.code()), (400, "MANIFEST_INVALID".into()), "{word}");
        assert!(reply.text().contains(word), "{}", reply.text());
    }
    let wrong = w.put(&format!("/v2/acme/app/manifests/{}", sha256(b"other"))).manifest(&image).send().await;
    assert_eq!((wrong.status, wrong.code()), (400, "DIGEST_INVALID".into()));
    for reference in ["sha256:baddigeststring", ".dot", &"x".repeat(129)] {
        let put = w.put(&format!("/v2/acme/app/manifests/{reference}")).manifest(&image).send().await;
        assert_eq!(put.status, 400, "{reference}");
    }
}

#[tokio::test]
async fn the_size_limit_is_exact() {
    let w = World::new().await;
    let pad = |total: usize| {
        let shell = r#"{"x":""}"#;
        format!(r#"{{"x":"{}"}}"#, "a".repeat(total - shell.len()))
    };
    let kind = "application/vnd.example+json";
    let fits = w.put("/v2/acme/app/manifests/v1").typed(kind, &pad(World::MAX_MANIFEST)).send().await;
    assert_eq!(fits.status, 201, "{}", fits.text());
    let over = w.put("/v2/acme/app/manifests/v2").typed(kind, &pad(World::MAX_MANIFEST + 1)).send().await;
    assert_eq!((over.status, over.code()), (413, "SIZE_INVALID".into()));
}

#[tokio::test]
async fn a_tag_goes_alone_and_a_digest_takes_its_tags() {
    let w = World::new().await;
    let manifest = w.image("acme/app", &[]).await;
    let digest = sha256(manifest.as_bytes());
    for tag in ["a", "b", "c"] {
        w.put(&format!("/v2/acme/app/manifests/{tag}")).manifest(&manifest).send().await;
    }
    assert_eq!(w.delete("/v2/acme/app/manifests/a").send().await.status, 202);
    assert_eq!(w.head("/v2/acme/app/manifests/a").send().await.status, 404);
    assert_eq!(w.head("/v2/acme/app/manifests/b").send().await.status, 200);
    assert_eq!(w.head(&format!("/v2/acme/app/manifests/{digest}")).send().await.status, 200);
    assert_eq!(w.delete(&format!("/v2/acme/app/manifests/{digest}")).send().await.status, 202);
    for reference in ["b", "c", &digest] {
        assert_eq!(w.head(&format!("/v2/acme/app/manifests/{reference}")).send().await.status, 404);
        let again = w.delete(&format!("/v2/acme/app/manifests/{reference}")).send().await;
        assert_eq!((again.status, again.code()), (404, "MANIFEST_UNKNOWN".into()));
    }
    assert_eq!(w.delete("/v2/acme/never/manifests/a").send().await.status, 404);
    // Pushed again after the deletion, it is there again.
    let again = w.put("/v2/acme/app/manifests/a").manifest(&manifest).send().await;
    assert_eq!(again.status, 201, "{}", again.text());
}

#[tokio::test]
async fn the_same_manifest_and_tag_may_be_pushed_by_many_at_once() {
    let w = World::new().await;
    let manifest = w.image("acme/app", &[]).await;
    let puts = (0..10).map(|_| w.put("/v2/acme/app/manifests/v1").manifest(&manifest).send());
    for put in futures_util::future::join_all(puts).await {
        assert_eq!(put.status, 201, "{}", put.text());
    }
}

#[tokio::test]
async fn a_sparse_project_takes_images_without_their_layers_and_keeps_those_that_are_here() {
    let w = World::new().await;
    let (here, absent) = (w.push_blob("acme/web/app", b"here").await, sha256(b"absent"));
    let manifest = w.image("acme/web/app", &[&here, &absent]).await;
    assert_eq!(w.put("/v2/acme/web/app/manifests/v1").manifest(&manifest).send().await.status, 400);
    w.make_web_sparse().await;
    assert_eq!(w.put("/v2/acme/web/app/manifests/v1").manifest(&manifest).send().await.status, 201);
    assert_eq!(w.get("/v2/acme/web/app/manifests/v1").send().await.text(), manifest);
    for _ in 0..2 {
        w.clock.advance(10 * World::GRACE);
        w.collect().await;
    }
    assert_eq!(w.get(&format!("/v2/acme/web/app/blobs/{here}")).send().await.status, 200);
    assert_eq!(w.get(&format!("/v2/acme/web/app/blobs/{absent}")).send().await.status, 404);
}

#[tokio::test]
async fn a_tag_that_comes_while_its_manifest_is_deleted_stays() {
    let w = World::new().await;
    let manifest = w.image("acme/app", &[]).await;
    let digest = sha256(manifest.as_bytes());
    assert_eq!(w.put("/v2/acme/app/manifests/dev").manifest(&manifest).send().await.status, 201);
    assert_eq!(w.get("/v2/acme/app/manifests/dev").send().await.status, 200);
    w.identity.settle().await;
    // Somebody holds what a deletion takes first, after it has looked which tags there are.
    let mut tx = w.db.begin().await.unwrap();
    let at = w.clock.now() + 1;
    let pull = storage::pulls::Pull { repository: "acme/app", digest: digest.as_str().into(), at, by: "dev", count: 1 };
    storage::pulls::note(&mut tx, &[pull]).await.unwrap();
    let path = format!("/v2/acme/app/manifests/{digest}");
    let delete = w.delete(&path).send();
    let push = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let push = w.put("/v2/acme/app/manifests/prod").manifest(&manifest).send();
        tokio::pin!(push);
        let early = tokio::time::timeout(std::time::Duration::from_millis(500), &mut push).await;
        assert!(early.is_err(), "it comes to what is being looked at");
        drop(tx);
        push.await
    };
    let (deleted, pushed) = tokio::join!(delete, push);
    assert_eq!((deleted.status, pushed.status), (202, 201), "{} {}", deleted.text(), pushed.text());
    assert_eq!(w.get("/v2/acme/app/manifests/prod").send().await.status, 200);
    assert_eq!(w.get("/v2/acme/app/manifests/dev").send().await.status, 404);
}

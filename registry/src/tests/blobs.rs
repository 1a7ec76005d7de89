//! Reading and deleting blobs.

use super::world::{World, sha256};

#[tokio::test]
async fn head_and_get_agree_and_answer_conditions() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", b"0123456789").await;
    let path = format!("/v2/acme/app/blobs/{digest}");
    let head = w.head(&path).send().await;
    let get = w.get(&path).send().await;
    for reply in [&head, &get] {
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-length"), "10");
        assert_eq!(reply.header("docker-content-digest"), digest);
        assert_eq!(reply.header("content-type"), "application/octet-stream");
        assert_eq!(reply.header("docker-distribution-api-version"), "registry/2.0");
        assert_eq!(reply.header("etag"), format!("\"{digest}\""));
    }
    assert!(head.body.is_empty());
    for given in [format!("\"{digest}\""), format!("W/\"{digest}\""), format!("\"x\", \"{digest}\""), "*".into()] {
        let reply = w.get(&path).header("if-none-match", &given).send().await;
        assert_eq!((reply.status, reply.body.len()), (304, 0), "{given}");
    }
    assert_eq!(w.get(&path).header("if-none-match", "\"x\"").send().await.status, 200);
}

#[tokio::test]
async fn ranges_are_served_and_impossible_ones_are_416() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", b"0123456789").await;
    let path = format!("/v2/acme/app/blobs/{digest}");
    for (range, content, shown) in [
        ("bytes=0-3", "0123", "bytes 0-3/10"),
        ("bytes=5-", "56789", "bytes 5-9/10"),
        ("bytes=-4", "6789", "bytes 6-9/10"),
        ("bytes=-500", "0123456789", "bytes 0-9/10"),
        ("bytes=8-5000", "89", "bytes 8-9/10"),
    ] {
        let reply = w.get(&path).header("range", range).send().await;
        assert_eq!((reply.status, reply.text().as_str()), (206, content), "{range}");
        assert_eq!(reply.header("content-range"), shown);
        assert_eq!(reply.header("content-length"), content.len().to_string());
    }
    for range in ["bytes=5-0", "bytes=10-", "bytes=5000-10000", "bytes=-0"] {
        let reply = w.get(&path).header("range", range).send().await;
        assert_eq!((reply.status, reply.header("content-range").as_str()), (416, "bytes */10"), "{range}");
        assert_ne!(reply.header("content-length"), "10");
    }
    for range in ["bytes=0-1,4-5", "lines=0-1", "bytes=x-y"] {
        assert_eq!(w.get(&path).header("range", range).send().await.status, 200, "{range}");
    }
    let stale = w.get(&path).header("range", "bytes=0-3").header("if-range", "\"other\"").send().await;
    assert_eq!(stale.status, 200);
    let fresh = w.get(&path).header("range", "bytes=0-3").header("if-range", &format!("\"{digest}\"")).send().await;
    assert_eq!(fresh.status, 206);
}

#[tokio::test]
async fn a_large_blob_arrives_whole_and_in_parts() {
    let w = World::new().await;
    let content: Vec<u8> = (0..2_000_000u32).map(|i| (i % 253) as u8).collect();
    let digest = w.push_blob("acme/app", &content).await;
    let path = format!("/v2/acme/app/blobs/{digest}");
    assert_eq!(w.get(&path).send().await.body.as_ref(), content);
    let part = w.get(&path).header("range", "bytes=262143-1500000").send().await;
    assert_eq!(part.body.as_ref(), &content[262_143..=1_500_000]);
}

#[tokio::test]
async fn missing_and_malformed_blobs_are_told_apart() {
    let w = World::new().await;
    w.push_blob("acme/app", b"x").await;
    let missing = w.get(&format!("/v2/acme/app/blobs/{}", sha256(b"y"))).send().await;
    assert_eq!((missing.status, missing.code()), (404, "BLOB_UNKNOWN".into()));
    let upper = format!("sha256:{}", "A".repeat(64));
    let short = format!("sha256:{}", "a".repeat(63));
    for bad in [upper.as_str(), short.as_str(), "sha256:..%2f..%2fx", "latest"] {
        let reply = w.get(&format!("/v2/acme/app/blobs/{bad}")).send().await;
        assert_eq!(reply.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn a_deleted_blob_is_unreadable_here_at_once_and_stays_elsewhere() {
    let w = World::new().await;
    let digest = w.push_blob("acme/a", b"shared").await;
    w.push_blob("acme/b", b"shared").await;
    let here = format!("/v2/acme/a/blobs/{digest}");
    assert_eq!(w.delete(&here).send().await.status, 202);
    assert_eq!(w.head(&here).send().await.status, 404);
    assert_eq!(w.get(&here).send().await.status, 404);
    assert_eq!(w.delete(&here).send().await.status, 404);
    assert_eq!(w.get(&format!("/v2/acme/b/blobs/{digest}")).send().await.status, 200);
    assert_eq!(w.delete(&format!("/v2/acme/never/blobs/{digest}")).send().await.status, 404);
}

#[tokio::test]
async fn a_blob_that_was_said_to_be_there_outlives_collection_until_its_manifest_comes() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", b"leased").await;
    w.clock.advance(World::GRACE - 1);
    assert_eq!(w.head(&format!("/v2/acme/app/blobs/{digest}")).send().await.status, 200);
    w.clock.advance(World::GRACE - 1);
    w.collect().await;
    let manifest = w.image("acme/app", &[&digest]).await;
    assert_eq!(w.put("/v2/acme/app/manifests/v1").manifest(&manifest).send().await.status, 201);
    w.clock.advance(10 * World::GRACE);
    w.collect().await;
    assert_eq!(w.get(&format!("/v2/acme/app/blobs/{digest}")).send().await.body.as_ref(), b"leased");
}

#[tokio::test]
async fn blobs_pushed_hours_before_their_manifest_wait_for_it() {
    let w = World::new().await;
    let first = w.push_blob("acme/app", b"first layer").await;
    for _ in 0..6 {
        let session = w.begin("acme/app").await;
        w.patch(&session).body("part of a slow one").send().await;
        w.clock.advance(World::GRACE);
        w.collect().await;
    }
    let manifest = w.image("acme/app", &[&first]).await;
    let put = w.put("/v2/acme/app/manifests/v1").manifest(&manifest).send().await;
    assert_eq!(put.status, 201, "{}", put.text());
}

#[tokio::test]
async fn a_pushed_layer_that_may_live_elsewhere_stays_while_its_manifest_does() {
    let w = World::new().await;
    let layer = w.push_blob("acme/app", b"foreign").await;
    let manifest = w.image("acme/app", &[&layer]).await.replace("layer.v1.tar", "layer.nondistributable.v1.tar");
    assert_eq!(w.put("/v2/acme/app/manifests/v1").manifest(&manifest).send().await.status, 201);
    w.clock.advance(10 * World::GRACE);
    w.collect().await;
    w.clock.advance(10 * World::GRACE);
    w.collect().await;
    assert_eq!(w.get(&format!("/v2/acme/app/blobs/{layer}")).send().await.status, 200);
}

/// Content that is too long for the database.
fn precious() -> Vec<u8> {
    b"precious".repeat(usize::try_from(storage::blobs::IN_DATABASE).unwrap() / 8 + 1)
}

#[tokio::test]
async fn whole_store_gone_is_not_damage() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", &precious()).await;
    let small = w.push_blob("acme/app", b"small").await;
    let path = format!("/v2/acme/app/blobs/{digest}");
    w.unmount(true);
    assert_eq!(w.get(&path).send().await.status, 500);
    assert_eq!(w.get(&format!("/v2/acme/app/blobs/{small}")).send().await.body.as_ref(), b"small");
    w.unmount(false);
    assert_eq!(w.get(&path).send().await.body.as_ref(), precious());
}

#[tokio::test]
async fn a_small_blob_takes_every_range_from_memory_and_from_its_row() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", b"0123456789").await;
    for _ in 0..2 {
        let path = format!("/v2/acme/app/blobs/{digest}");
        assert_eq!(w.get(&path).header("range", "bytes=2-4").send().await.body.as_ref(), b"234");
        assert_eq!(w.get(&path).header("range", "bytes=-3").send().await.body.as_ref(), b"789");
        assert_eq!(w.get(&path).header("range", "bytes=10-").send().await.status, 416);
        assert_eq!(w.get(&path).send().await.body.as_ref(), b"0123456789");
    }
}

#[tokio::test]
async fn head_ignores_ranges_and_conditions_are_exact() {
    let w = World::new().await;
    let digest = w.push_blob("acme/app", b"0123456789").await;
    let path = format!("/v2/acme/app/blobs/{digest}");
    let head = w.head(&path).header("range", "bytes=0-3").send().await;
    assert_eq!((head.status, head.header("content-length").as_str()), (200, "10"));
    let unchanged = w.head(&path).header("if-none-match", &format!("\"{digest}\"")).send().await;
    assert_eq!((unchanged.status, unchanged.header("content-length").as_str()), (304, "10"));
    assert_eq!(w.get(&path).header("if-match", "\"other\"").send().await.status, 412);
    assert_eq!(w.get(&path).header("if-match", &format!("\"{digest}\"")).send().await.status, 200);
}

#[tokio::test]
async fn damaged_bytes_are_an_error_and_never_content() {
    for damage in [World::lose_objects, World::rot_objects] {
        let w = World::new().await;
        let digest = w.push_blob("acme/app", &precious()).await;
        damage(&w);
        let path = format!("/v2/acme/app/blobs/{digest}");
        let reply = w.get(&path).send().await;
        assert_eq!(reply.status, 500);
        assert!(!reply.text().contains("recious"));
        // From now on it is not there, so that clients push it again.
        assert_eq!(w.head(&path).send().await.status, 404);
        w.push_blob("acme/app", &precious()).await;
        assert_eq!(w.get(&path).send().await.body.as_ref(), precious());
    }
}

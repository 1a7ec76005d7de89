//! Range, HEAD and conditional requests.

use crate::support::http::Endpoint;
use crate::support::oci::{Image, fresh, noise, push_blob};
use crate::support::{Call, Reply, Setup};

const REPOSITORY: &str = "main/ranges";

fn get(registry: &Endpoint, token: &str, digest: &str, range: &str) -> Reply {
    Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(token).header("Range", range).send(registry)
}

#[test]
fn d26_ranges_single_suffix_open_past_the_end_and_unknown() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let bytes = noise(fresh(), 10_000);
    let digest = push_blob(&registry, REPOSITORY, &token, &bytes);
    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=9000-", 9000, 10_000),
        ("bytes=9000-20000", 9000, 10_000),
        ("bytes=-500", 9500, 10_000),
        ("bytes=-20000", 0, 10_000),
    ] {
        let part = get(&registry, &token, &digest, range).expect(206);
        assert_eq!(part.body, bytes[from..to], "{range}");
        assert_eq!(part.header("content-range"), Some(format!("bytes {from}-{}/10000", to - 1).as_str()));
        assert_eq!(part.header("content-length"), Some((to - from).to_string().as_str()));
    }
    for range in ["bytes=10000-", "bytes=20000-30000", "bytes=-0"] {
        let refused = get(&registry, &token, &digest, range).expect(416);
        assert_eq!(refused.header("content-range"), Some("bytes */10000"), "{range}");
        assert_eq!(refused.header("content-length").map(str::to_owned), Some(refused.body.len().to_string()));
    }
    for range in ["lines=0-1", "bytes", "bytes=x-y", "bytes=0-0,5-6,9-10"] {
        let reply = get(&registry, &token, &digest, range);
        assert!(matches!(reply.status, 200 | 206 | 416), "{range}: {}", reply.status);
        if reply.status == 200 {
            assert_eq!(reply.body, bytes, "{range}");
        }
    }
    let backwards = get(&registry, &token, &digest, "bytes=500-0");
    assert!(matches!(backwards.status, 416 | 200), "{}", backwards.status);
    let target = format!("/v2/{REPOSITORY}/blobs/{digest}");
    let stale = Call::get(&target).bearer(&token).header("Range", "bytes=0-9").header("If-Range", "\"other\"");
    assert_eq!(stale.send(&registry).expect(200).body, bytes);
}

#[test]
fn d25_head_says_what_get_would_without_a_body() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let image = Image::new(fresh(), 5000);
    image.push(&registry, REPOSITORY, &token, "v1");
    let layer = crate::support::sha256(&image.layer);
    for target in [format!("blobs/{layer}"), "manifests/v1".into(), format!("manifests/{}", image.digest())] {
        let path = format!("/v2/{REPOSITORY}/{target}");
        let get = Call::get(&path).bearer(&token).send(&registry).expect(200);
        let head = Call::head(&path).bearer(&token).send(&registry).expect(200);
        for name in ["content-length", "content-type", "docker-content-digest", "etag"] {
            assert_eq!(head.header(name), get.header(name), "{target} {name}");
            assert!(head.header(name).is_some(), "{target} has no {name}");
        }
        assert_eq!(get.header("content-length").map(str::to_owned), Some(get.body.len().to_string()));
        let etag = get.header("etag").unwrap();
        let fresh = Call::get(&path).bearer(&token).header("If-None-Match", etag).send(&registry).expect(304);
        assert_eq!(fresh.header("etag"), Some(etag));
    }
    let missing = format!("/v2/{REPOSITORY}/blobs/{}", crate::support::sha256(b"nothing"));
    Call::head(missing).bearer(&token).send(&registry).expect(404);
}

#[test]
fn nothing_under_v2_is_compressed() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let digest = push_blob(&registry, REPOSITORY, &token, &[b'a'; 100_000]);
    let call = Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(&token);
    let reply = call.header("Accept-Encoding", "zstd;q=1.0, gzip;q=0.8, deflate;q=0.5").send(&registry).expect(200);
    assert_eq!(reply.header("content-encoding"), None);
    assert_eq!(reply.body.len(), 100_000);
}

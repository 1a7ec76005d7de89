//! Manifests: stored byte for byte, checked for what they name, deleted with what points to them.

use serde_json::json;

use crate::support::http::Endpoint;
use crate::support::oci::{
    self, DOCKER_LIST, DOCKER_MANIFEST, Image, OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, descriptor, fresh,
    index, noise, push_blob, put_manifest, sha256, sha512,
};
use crate::support::{Call, Reply, Server, Setup};

const REPOSITORY: &str = "main/manifests";

fn start() -> (Server, Endpoint, String) {
    let server = Setup::plain().start();
    let registry = server.registry();
    let token = server.admin_token(REPOSITORY);
    (server, registry, token)
}

fn get(registry: &Endpoint, token: &str, reference: &str) -> Reply {
    Call::get(format!("/v2/{REPOSITORY}/manifests/{reference}")).bearer(token).send(registry)
}

fn delete(registry: &Endpoint, token: &str, reference: &str) -> Reply {
    Call::delete(format!("/v2/{REPOSITORY}/manifests/{reference}")).bearer(token).send(registry)
}

fn put(registry: &Endpoint, token: &str, reference: &str, kind: &str, bytes: &[u8]) -> Reply {
    put_manifest(registry, REPOSITORY, token, reference, kind, bytes)
}

#[test]
fn d27_bytes_are_kept_whatever_their_shape() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    image.push_blobs(&registry, REPOSITORY, &token);
    let pretty: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let pretty = serde_json::to_vec_pretty(&pretty).unwrap();
    let spaced = [b"\n\n  ".as_slice(), &image.manifest, b"\n"].concat();
    for bytes in [&pretty, &spaced] {
        put(&registry, &token, "kept", OCI_MANIFEST, bytes).expect(201);
        assert_eq!(&get(&registry, &token, "kept").expect(200).body, bytes);
    }
    // Parameters of the type are ignored; what is served is the bare type.
    put(&registry, &token, "kept", &format!("{OCI_MANIFEST}; charset=utf-8"), &pretty).expect(201);
    assert_eq!(get(&registry, &token, "kept").expect(200).header("content-type"), Some(OCI_MANIFEST));
}

#[test]
fn d27_contradictions_are_refused() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    image.push_blobs(&registry, REPOSITORY, &token);
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep_manifest = format!("{{\"schemaVersion\":2,\"mediaType\":\"{OCI_MANIFEST}\",\"annotations\":{deep}}}");
    let parsed: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
    let mut version = parsed.clone();
    version["schemaVersion"] = json!(3);
    let mut both = parsed.clone();
    both["manifests"] = json!([]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (OCI_INDEX, image.manifest.clone()),
        (OCI_MANIFEST, version.to_string().into_bytes()),
        (OCI_MANIFEST, both.to_string().into_bytes()),
        (OCI_MANIFEST, deep.into_bytes()),
        (OCI_MANIFEST, deep_manifest.into_bytes()),
        (OCI_MANIFEST, b"{".to_vec()),
        (OCI_MANIFEST, b"".to_vec()),
        (OCI_MANIFEST, b"null".to_vec()),
        (OCI_MANIFEST, b"\xff\xfe{}".to_vec()),
    ];
    for (kind, bytes) in cases {
        put(&registry, &token, "bad", kind, &bytes).expect_error(400, "MANIFEST_INVALID");
    }
    get(&registry, &token, "bad").expect_error(404, "MANIFEST_UNKNOWN");
}

#[test]
fn d27_a_manifest_over_the_limit_is_413_and_one_of_four_mebibytes_is_fine() {
    let (_server, registry, token) = start();
    let big = Image::with(fresh(), 10, |manifest| manifest["annotations"] = json!({"pad": "p".repeat(4 << 20)}));
    big.push(&registry, REPOSITORY, &token, "big");
    assert_eq!(get(&registry, &token, "big").expect(200).body, big.manifest);
    let huge = Image::with(fresh(), 10, |manifest| manifest["annotations"] = json!({"pad": "p".repeat(9 << 20)}));
    huge.push_blobs(&registry, REPOSITORY, &token);
    put(&registry, &token, "huge", OCI_MANIFEST, &huge.manifest).expect(413);
    let target = format!("/v2/{REPOSITORY}/manifests/huge");
    let streamed = Call::put(target).bearer(&token).header("Content-Type", OCI_MANIFEST).chunked(huge.manifest);
    streamed.send(&registry).expect(413);
}

#[test]
fn d42_a_schema_1_push_is_told_why() {
    let (_server, registry, token) = start();
    let body = json!({"schemaVersion": 1, "name": "x", "tag": "y", "fsLayers": [], "history": [], "signatures": []})
        .to_string();
    for kind in [
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        "application/vnd.docker.distribution.manifest.v1+json",
    ] {
        let refused = put(&registry, &token, "old", kind, body.as_bytes());
        assert!(matches!(refused.status, 400 | 415), "{}", refused.status);
        assert!(refused.text().to_lowercase().contains("schema"), "{}", refused.text());
    }
}

#[test]
fn d12_a_layer_or_a_child_may_be_named_twice() {
    let (_server, registry, token) = start();
    let image = Image::with(fresh(), 100, |manifest| {
        let layer = manifest["layers"][0].clone();
        manifest["layers"] = json!([layer, layer]);
    });
    image.push(&registry, REPOSITORY, &token, "twice");
    let both = index(&[image.descriptor(), image.descriptor()]);
    put(&registry, &token, "index", OCI_INDEX, &both).expect(201);
    delete(&registry, &token, &sha256(&both)).expect(202);
    assert_eq!(get(&registry, &token, "twice").expect(200).body, image.manifest);
}

#[test]
fn a_manifest_that_names_missing_blobs_is_refused_with_their_digests() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    push_blob(&registry, REPOSITORY, &token, &image.config);
    let refused = put(&registry, &token, "v1", OCI_MANIFEST, &image.manifest);
    assert!(matches!(refused.status, 400 | 404), "{}", refused.status);
    assert_eq!(refused.code(), "MANIFEST_BLOB_UNKNOWN");
    assert!(refused.text().contains(&sha256(&image.layer)), "{}", refused.text());
}

#[test]
fn d17_sparse_nested_and_empty_indexes_and_docker_lists() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    image.push(&registry, REPOSITORY, &token, "v1");
    let absent = Image::new(fresh(), 100);
    let sparse = index(&[image.descriptor(), absent.descriptor()]);
    put(&registry, &token, "sparse", OCI_INDEX, &sparse).expect(201);
    put(&registry, &token, "empty", OCI_INDEX, &index(&[])).expect(201);
    let mut below = descriptor(OCI_INDEX, &sparse);
    for depth in 0..6 {
        // Twice the same child at each level: a careless walk takes time exponential in the depth.
        let level = index(&[below.clone(), below.clone()]);
        put(&registry, &token, &format!("level-{depth}"), OCI_INDEX, &level).expect(201);
        below = descriptor(OCI_INDEX, &level);
    }
    let docker = json!({
        "schemaVersion": 2, "mediaType": DOCKER_MANIFEST,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": sha256(&image.config), "size": image.config.len()},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip", "digest": sha256(&image.layer), "size": image.layer.len()}],
    })
    .to_string()
    .into_bytes();
    put(&registry, &token, "docker", DOCKER_MANIFEST, &docker).expect(201);
    let list =
        json!({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor(DOCKER_MANIFEST, &docker)]})
            .to_string();
    put(&registry, &token, "list", DOCKER_LIST, list.as_bytes()).expect(201);
    // Build caches name layers and a configuration as children of an index.
    let cache = index(&[
        descriptor(OCI_LAYER, &image.layer),
        descriptor("application/vnd.buildkit.cacheconfig.v0", &image.config),
    ]);
    put(&registry, &token, "cache", OCI_INDEX, &cache).expect(201);
    assert_eq!(get(&registry, &token, "list").expect(200).header("content-type"), Some(DOCKER_LIST));
}

#[test]
fn d15_deleting_a_digest_takes_its_tags_and_deleting_a_tag_takes_only_itself() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    image.push(&registry, REPOSITORY, &token, "one");
    for tag in ["two", "three"] {
        put(&registry, &token, tag, OCI_MANIFEST, &image.manifest).expect(201);
    }
    delete(&registry, &token, "one").expect(202);
    get(&registry, &token, "one").expect_error(404, "MANIFEST_UNKNOWN");
    get(&registry, &token, "two").expect(200);
    get(&registry, &token, &image.digest()).expect(200);
    delete(&registry, &token, &image.digest()).expect(202);
    for reference in ["two", "three", image.digest().as_str()] {
        get(&registry, &token, reference).expect_error(404, "MANIFEST_UNKNOWN");
        delete(&registry, &token, reference).expect(404);
    }
    let blob = format!("/v2/{REPOSITORY}/blobs/{}", sha256(&image.layer));
    Call::delete(&blob).bearer(&token).send(&registry).expect(202);
    Call::get(&blob).bearer(&token).send(&registry).expect_error(404, "BLOB_UNKNOWN");
    Call::delete(&blob).bearer(&token).send(&registry).expect(404);
}

#[test]
fn d28_a_manifest_under_the_wrong_digest_is_refused() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    image.push_blobs(&registry, REPOSITORY, &token);
    put(&registry, &token, &sha256(b"another"), OCI_MANIFEST, &image.manifest).expect_error(400, "DIGEST_INVALID");
    for reference in ["sha256:abc", "sha256:baddigeststring", "md5:0", &image.digest().to_uppercase()] {
        put(&registry, &token, reference, OCI_MANIFEST, &image.manifest).expect(400);
        let found = get(&registry, &token, reference);
        assert!(matches!(found.status, 400 | 404), "{reference}: {}", found.status);
    }
    put(&registry, &token, &sha512(&image.manifest), OCI_MANIFEST, &image.manifest).expect(201);
    let found = get(&registry, &token, &sha512(&image.manifest)).expect(200);
    assert_eq!(found.header("docker-content-digest"), Some(sha512(&image.manifest).as_str()));
}

#[test]
fn d20_algorithms_may_be_mixed_in_one_manifest() {
    let (_server, registry, token) = start();
    let layer = noise(fresh(), 500);
    let session = oci::start_upload(&registry, REPOSITORY, &token);
    let digest = sha512(&layer);
    Call::put(oci::with_query(&session, &format!("digest={digest}")))
        .bearer(&token)
        .body(layer.clone())
        .send(&registry)
        .expect(201);
    let config = b"{}".to_vec();
    push_blob(&registry, REPOSITORY, &token, &config);
    let manifest = json!({
        "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": descriptor(OCI_CONFIG, &config),
        "layers": [{"mediaType": OCI_LAYER, "digest": digest, "size": layer.len()}],
    });
    put(&registry, &token, "mixed", OCI_MANIFEST, manifest.to_string().as_bytes()).expect(201);
}

#[test]
fn a_put_by_digest_may_set_several_tags() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    image.push_blobs(&registry, REPOSITORY, &token);
    let tags: Vec<String> = (0..12).map(|number| format!("t{number}")).collect();
    let query: Vec<String> = tags.iter().map(|tag| format!("tag={tag}")).collect();
    let reply =
        put(&registry, &token, &format!("{}?{}", image.digest(), query.join("&")), OCI_MANIFEST, &image.manifest)
            .expect(201);
    let told: Vec<&str> =
        reply.headers.iter().filter(|(name, _)| name == "oci-tag").map(|(_, value)| value.as_str()).collect();
    assert_eq!(told.join(", ").replace(", ", ",").split(',').count(), 12, "{told:?}");
    for tag in tags {
        assert_eq!(get(&registry, &token, &tag).expect(200).body, image.manifest);
    }
}

#[test]
fn accept_never_hides_a_manifest() {
    let (_server, registry, token) = start();
    let image = Image::new(fresh(), 100);
    image.push(&registry, REPOSITORY, &token, "v1");
    for accept in [DOCKER_MANIFEST, "application/json", "*/*", "text/html"] {
        let call = Call::get(format!("/v2/{REPOSITORY}/manifests/v1")).bearer(&token).header("Accept", accept);
        let reply = call.send(&registry).expect(200);
        assert_eq!(reply.header("content-type"), Some(OCI_MANIFEST));
    }
}

#[test]
fn a_stray_subject_is_welcome_and_echoed() {
    let (_server, registry, token) = start();
    let subject = Image::new(fresh(), 10);
    let image = Image::with(fresh(), 10, |manifest| manifest["subject"] = subject.descriptor());
    let reply = image.push(&registry, REPOSITORY, &token, "v1");
    assert_eq!(reply.header("oci-subject"), Some(subject.digest().as_str()));
}

#[test]
fn d27_a_key_that_is_given_twice_is_refused_or_kept_as_it_is() {
    let (_server, registry, token) = start();
    let (image, hidden) = (Image::new(fresh(), 100), Image::new(fresh(), 100));
    image.push_blobs(&registry, REPOSITORY, &token);
    let text = String::from_utf8(image.manifest.clone()).unwrap();
    let second = descriptor(OCI_LAYER, &hidden.layer);
    let twice = format!("{},\"layers\":[{second}]}}", &text[..text.len() - 1]);
    // What one reader takes for the layers, another must not find missing: both lists count, or none does.
    let reply = put(&registry, &token, "twice", OCI_MANIFEST, twice.as_bytes());
    assert_eq!(reply.status, 400, "{}", reply.text());
    get(&registry, &token, "twice").expect(404);
}

//! Referrers: found by subject, filtered, folded with the older tag scheme.

use serde_json::{Value, json};

use crate::support::http::Endpoint;
use crate::support::oci::{Image, OCI_INDEX, OCI_MANIFEST, descriptor, fresh, index, put_manifest, sha256, sha512};
use crate::support::{Call, Reply, Setup};

const REPOSITORY: &str = "main/referrers";

fn list(registry: &Endpoint, token: &str, subject: &str, query: &str) -> Reply {
    Call::get(format!("/v2/{REPOSITORY}/referrers/{subject}{query}")).bearer(token).send(registry)
}

fn found(reply: &Reply) -> Vec<Value> {
    assert_eq!(reply.header("content-type"), Some(OCI_INDEX));
    let body = reply.json();
    assert_eq!(body["schemaVersion"], 2);
    assert_eq!(body["mediaType"], OCI_INDEX);
    body["manifests"].as_array().expect("an array").clone()
}

fn artifact(subject: &Value, kind: &str) -> Image {
    Image::with(fresh(), 10, |manifest| {
        manifest["subject"] = subject.clone();
        manifest["artifactType"] = json!(kind);
        manifest["annotations"] = json!({"made.by": "a journey"});
    })
}

#[test]
fn d19_unknown_subjects_bad_digests_filters_and_annotations() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    assert_eq!(found(&list(&registry, &token, &sha256(b"unknown"), "").expect(200)), Vec::<Value>::new());
    list(&registry, &token, "sha256:nonsense", "").expect(400);
    list(&registry, &token, "v1", "").expect(400);

    let subject = Image::new(fresh(), 100);
    let first = artifact(&subject.descriptor(), "application/vnd.example.sbom");
    let second = artifact(&subject.descriptor(), "application/vnd.example.signature");
    for referrer in [&first, &second] {
        referrer.push(&registry, REPOSITORY, &token, &referrer.digest());
    }
    let by_config = Image::with(fresh(), 10, |manifest| manifest["subject"] = subject.descriptor());
    by_config.push(&registry, REPOSITORY, &token, "tagged");
    let all = found(&list(&registry, &token, &subject.digest(), "").expect(200));
    assert_eq!(all.len(), 3, "the subject itself was never pushed");
    let entry = all.iter().find(|entry| entry["digest"] == first.digest().as_str()).expect("the first");
    assert_eq!(entry["artifactType"], "application/vnd.example.sbom");
    assert_eq!(entry["annotations"]["made.by"], "a journey");
    assert_eq!(entry["size"], first.manifest.len());
    let entry = all.iter().find(|entry| entry["digest"] == by_config.digest().as_str()).expect("the third");
    assert_eq!(entry["artifactType"], "application/vnd.oci.image.config.v1+json");

    let filtered =
        list(&registry, &token, &subject.digest(), "?artifactType=application%2Fvnd.example.sbom").expect(200);
    assert_eq!(filtered.header("oci-filters-applied"), Some("artifactType"));
    assert_eq!(found(&filtered).len(), 1);
    let none = list(&registry, &token, &subject.digest(), "?artifactType=text%2Fnone").expect(200);
    assert_eq!(found(&none), Vec::<Value>::new());

    let gone = format!("/v2/{REPOSITORY}/manifests/{}", second.digest());
    Call::delete(gone).bearer(&token).send(&registry).expect(202);
    assert_eq!(found(&list(&registry, &token, &subject.digest(), "").expect(200)).len(), 2);
}

#[test]
fn d19_referrers_pushed_by_the_tag_scheme_are_folded_in() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let subject = Image::new(fresh(), 100);
    let by_api = artifact(&subject.descriptor(), "application/vnd.example.new");
    by_api.push(&registry, REPOSITORY, &token, &by_api.digest());
    let by_tag = Image::new(fresh(), 10);
    by_tag.push(&registry, REPOSITORY, &token, &by_tag.digest());
    let mut entry = by_tag.descriptor();
    entry["artifactType"] = json!("application/vnd.example.old");
    let fallback = index(&[entry, by_api.descriptor()]);
    let tag = subject.digest().replace(':', "-");
    put_manifest(&registry, REPOSITORY, &token, &tag, OCI_INDEX, &fallback).expect(201);
    let all = found(&list(&registry, &token, &subject.digest(), "").expect(200));
    assert_eq!(all.len(), 2, "each once: {all:?}");
}

#[test]
fn d18_referrers_of_referrers_and_a_circle_of_subjects() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let subject = Image::new(fresh(), 100);
    let signature = artifact(&subject.descriptor(), "application/vnd.example.signature");
    let countersigned = artifact(&signature.descriptor(), "application/vnd.example.signature");
    for each in [&countersigned, &signature, &subject] {
        each.push(&registry, REPOSITORY, &token, &each.digest());
    }
    assert_eq!(found(&list(&registry, &token, &signature.digest(), "").expect(200)).len(), 1);
    server.run(&["gc", "--now", "--grace", "0s"]);
    // The subject is there, so are its signature and the signature's signature.
    for each in [&subject, &signature, &countersigned] {
        let path = format!("/v2/{REPOSITORY}/manifests/{}", each.digest());
        assert_eq!(Call::get(path).bearer(&token).send(&registry).expect(200).body, each.manifest);
    }
    let itself = json!({"schemaVersion": 2, "mediaType": OCI_MANIFEST,
        "config": descriptor("application/vnd.oci.empty.v1+json", &subject.config), "layers": [],
        "subject": {"mediaType": OCI_MANIFEST, "digest": sha256(b"unknown"), "size": 1}});
    put_manifest(&registry, REPOSITORY, &token, "strange", OCI_MANIFEST, itself.to_string().as_bytes()).expect(201);
}

#[test]
fn d20_the_fallback_tag_of_a_sha512_subject_is_cut_to_fit() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let subject = Image::new(fresh(), 100);
    subject.push_blobs(&registry, REPOSITORY, &token);
    let digest = sha512(&subject.manifest);
    put_manifest(&registry, REPOSITORY, &token, &digest, OCI_MANIFEST, &subject.manifest).expect(201);
    let referrer = Image::new(fresh(), 10);
    referrer.push(&registry, REPOSITORY, &token, &referrer.digest());
    let mut entry = referrer.descriptor();
    entry["artifactType"] = json!("application/vnd.example.old");
    // At most 32 characters of the algorithm and 64 of the encoded part (distribution-spec, "Referrers Tag Schema").
    let tag = format!("sha512-{}", &digest["sha512:".len()..][..64]);
    put_manifest(&registry, REPOSITORY, &token, &tag, OCI_INDEX, &index(&[entry])).expect(201);
    let all = found(&list(&registry, &token, &digest, "").expect(200));
    assert_eq!(all.len(), 1, "{all:?}");
    assert_eq!(all[0]["digest"], referrer.digest().as_str());
}

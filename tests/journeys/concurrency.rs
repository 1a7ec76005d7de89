//! Many clients at the same blob, tag or manifest.

use crate::support::oci::{Image, OCI_MANIFEST, fresh, noise, put_blob, put_manifest};
use crate::support::server::parallel;
use crate::support::{Call, Setup, sha256};

#[test]
fn d10_the_same_blob_in_many_sessions_and_repositories_at_once() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let bytes = noise(fresh(), 200_000);
    let tokens: Vec<(String, String)> = (0..16)
        .map(|number| {
            let name = format!("main/r{}", number % 4);
            let token = server.admin_token(&name);
            (name, token)
        })
        .collect();
    let statuses = parallel(16, {
        let (registry, tokens, bytes) = (registry.clone(), tokens.clone(), bytes.clone());
        move |index| put_blob(&registry, &tokens[index].0, &tokens[index].1, &bytes).status
    });
    assert!(statuses.iter().all(|status| *status == 201), "{statuses:?}");
    for (name, token) in tokens {
        let found =
            Call::get(format!("/v2/{name}/blobs/{}", sha256(&bytes))).bearer(&token).send(&registry).expect(200);
        assert_eq!(found.body, bytes);
    }
    server.run(&["verify"]);
}

#[test]
fn d11_d14_tags_moved_and_deleted_at_once_end_in_one_of_the_states() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/race"));
    let images: Vec<Image> = (0..4).map(|_| Image::new(fresh(), 100)).collect();
    for image in &images {
        image.push_blobs(&registry, "main/race", &token);
    }
    let statuses = parallel(12, {
        let (registry, token, images) = (registry.clone(), token.clone(), images.clone());
        move |index| {
            let mut seen = Vec::new();
            for round in 0..10 {
                let image = &images[(index + round) % images.len()];
                seen.push(if index == 11 {
                    Call::delete("/v2/main/race/manifests/latest").bearer(&token).send(&registry).status
                } else {
                    put_manifest(&registry, "main/race", &token, "latest", OCI_MANIFEST, &image.manifest).status
                });
            }
            seen
        }
    });
    let all: Vec<u16> = statuses.into_iter().flatten().collect();
    assert!(all.iter().all(|status| matches!(status, 201 | 202 | 404)), "{all:?}");
    let last = Call::get("/v2/main/race/manifests/latest").bearer(&token).send(&registry);
    assert!(last.status == 404 || images.iter().any(|image| image.manifest == last.body), "{}", last.status);
    server.run(&["verify"]);
}

#[test]
fn d13_a_blob_that_was_seen_stays_until_its_manifest_comes() {
    let server = Setup::plain().arg("--gc-grace", "1h").start();
    let (registry, token) = (server.registry(), server.admin_token("main/lease"));
    let image = Image::new(fresh(), 1000);
    image.push_blobs(&registry, "main/lease", &token);
    Call::head(format!("/v2/main/lease/blobs/{}", sha256(&image.layer))).bearer(&token).send(&registry).expect(200);
    server.run(&["gc", "--now"]);
    put_manifest(&registry, "main/lease", &token, "v1", OCI_MANIFEST, &image.manifest).expect(201);
    let found = Call::get(format!("/v2/main/lease/blobs/{}", sha256(&image.layer))).bearer(&token).send(&registry);
    assert_eq!(found.expect(200).body, image.layer);
}

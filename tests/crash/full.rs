//! A disk that fills up.

use std::fs;

use crate::disk::Disk;
use crate::support::oci::{Image, fresh, noise, put_blob, start_upload, with_query};
use crate::support::{Call, Setup, sha256};
use crate::traffic::works;

#[test]
fn d22_a_full_disk_is_a_clean_error_and_pushes_work_once_there_is_room() {
    let disk = Disk::new("ext4", 160);
    let server = Setup::plain().data_dir(disk.path().join("data")).start();
    let (registry, token) = (server.registry(), server.admin_token("main/full"));
    let kept = Image::new(fresh(), 100_000);
    kept.push(&registry, "main/full", &token, "v1");
    let filler = disk.path().join("filler");
    fs::write(&filler, vec![1; 110 << 20]).expect("room for the filler");

    let bytes = noise(fresh(), 60 << 20);
    let session = start_upload(&registry, "main/full", &token);
    for attempt in 0..3 {
        let target = with_query(&session, &format!("digest={}", sha256(&bytes)));
        match Call::put(target).bearer(&token).body(bytes.clone()).try_send(&registry) {
            Ok(reply) => {
                assert!(
                    reply.status >= 500 || matches!(reply.status, 404 | 416),
                    "attempt {attempt}: {}",
                    reply.status
                );
            }
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::ConnectionRefused, "the server is gone"),
        }
    }
    let refused = put_blob(&registry, "main/full", &token, &noise(fresh(), 60 << 20));
    assert!(refused.status == 507 || refused.status >= 500, "{}", refused.status);
    assert_eq!(refused.status, 507, "a full disk says so: {}", refused.text());
    Call::get("/healthz").send(&server.admin()).expect(200);
    let found = Call::get("/v2/main/full/manifests/v1").bearer(&token).send(&registry).expect(200);
    assert_eq!(found.body, kept.manifest);
    Call::get(format!("/v2/main/full/blobs/{}", sha256(&bytes))).bearer(&token).send(&registry).expect(404);

    fs::remove_file(&filler).expect("the filler");
    works(&server);
    let smaller = noise(fresh(), 20 << 20);
    put_blob(&registry, "main/full", &token, &smaller).expect(201);
    server.run(&["gc", "--now", "--grace", "0s"]);
    server.run(&["verify"]);
}

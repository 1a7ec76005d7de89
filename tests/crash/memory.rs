//! Memory does not grow with the size of blobs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::http::{Endpoint, Wire};
use crate::support::oci::{noise, path_of, start_upload, with_query};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, parallel};
use crate::support::{Call, Reply, Setup};

const UPLOADS: usize = 8;
const PIECE: usize = 1 << 20;
const PIECES: usize = 1024;
const ALLOWED: u64 = 64 << 20;

/// Pieces of one upload: the same noise, marked with who and which, so that all blobs differ.
fn piece(noise: &mut [u8], upload: usize, number: usize) {
    noise[..8].copy_from_slice(&((upload as u64) << 32 | number as u64).to_le_bytes());
}

fn upload(registry: &Endpoint, token: &str, upload: usize) {
    let session = start_upload(registry, "main/big", token);
    let mut bytes = noise(1, PIECE);
    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    let head = format!(
        "PATCH {session} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        registry.host
    );
    let mut wire: Box<dyn Wire> = registry.connect().expect("a connection");
    wire.write_all(head.as_bytes()).unwrap();
    for number in 0..PIECES {
        piece(&mut bytes, upload, number);
        hash.update(&bytes);
        wire.write_all(format!("{PIECE:x}\r\n").as_bytes()).unwrap();
        wire.write_all(&bytes).unwrap();
        wire.write_all(b"\r\n").unwrap();
    }
    wire.write_all(b"0\r\n\r\n").unwrap();
    wire.flush().unwrap();
    let reply = Reply::read(wire.as_mut(), false).expect("an answer").expect(202);
    let session = path_of(reply.header("location").unwrap());
    let digest = format!("sha256:{}", hex::encode(hash.finish()));
    Call::put(with_query(&session, &format!("digest={digest}"))).bearer(token).send(registry).expect(201);
    let head = Call::head(format!("/v2/main/big/blobs/{digest}")).bearer(token).send(registry).expect(200);
    assert_eq!(head.header("content-length"), Some((PIECE * PIECES).to_string().as_str()));
}

#[test]
fn eight_uploads_of_a_gibibyte_take_at_most_64_mib_more_than_rest() {
    let server = Arc::new(Setup::tls("localhost").start());
    let registry = server.registry();
    // A first round of small requests, so that what is made once is made.
    let token = server.token(ADMIN, ADMIN_PASSWORD, &["repository:main/big:pull,push"]);
    crate::traffic::works(&server);
    let idle = server.resident();
    let done = Arc::new(AtomicBool::new(false));
    let watcher = {
        let (server, done) = (Arc::clone(&server), Arc::clone(&done));
        std::thread::spawn(move || {
            let mut most = 0;
            while !done.load(Ordering::Relaxed) {
                most = most.max(server.resident());
                std::thread::sleep(Duration::from_millis(50));
            }
            most
        })
    };
    parallel(UPLOADS, move |number| upload(&registry, &token, number));
    done.store(true, Ordering::Relaxed);
    let most = watcher.join().expect("the watcher");
    println!("at rest {} MiB, at most {} MiB", idle >> 20, most >> 20);
    assert!(most <= idle + ALLOWED, "at rest {} MiB, at most {} MiB", idle >> 20, most >> 20);
}

//! Blobs that go from their file to a connection without TLS by themselves: every byte, and nothing but them.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::support::http::{Endpoint, Reply};
use crate::support::oci::{Image, fresh, noise, push_blob, sha256};
use crate::support::server::parallel;
use crate::support::{Call, Server, Setup};

const REPOSITORY: &str = "main/files";

/// A metric of the registry.
fn metric(server: &Server, name: &str) -> u64 {
    let line = format!(r#"wharfinger_{name}{{service="registry"}} "#);
    let text = Call::get("/metrics").send(&server.admin()).expect(200).text();
    text.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |value| value.parse().unwrap())
}

/// Body bytes that the system moved by itself.
fn from_files(server: &Server) -> u64 {
    metric(server, "http_sent_from_files_bytes_total")
}

/// A request that leaves the connection open.
fn request(registry: &Endpoint, token: &str, method: &str, target: &str, range: Option<&str>) -> String {
    let range = range.map(|range| format!("Range: {range}\r\n")).unwrap_or_default();
    let host = &registry.host;
    format!(
        "{method} /v2/{REPOSITORY}/{target} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{range}\r\n"
    )
}

fn connect(registry: &Endpoint) -> TcpStream {
    let socket = TcpStream::connect(registry.addr).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

/// The files of all objects.
fn objects(server: &Server) -> Vec<PathBuf> {
    let folders = std::fs::read_dir(server.data_dir.join("blobs/objects")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    files.map(|file| file.unwrap().path()).collect()
}

#[test]
fn whole_parts_and_heads_on_one_connection() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let size = (5 << 20) + 12_345;
    let bytes = noise(fresh(), size);
    let digest = push_blob(&registry, REPOSITORY, &token, &bytes);
    let target = format!("blobs/{digest}");
    let before = from_files(&server);
    let mut socket = connect(&registry);
    let mut moved = 0;
    for (range, from, to) in [
        (None, 0, size),
        (Some("bytes=0-0"), 0, 1),
        (Some("bytes=0-65535"), 0, 65_536),
        (Some("bytes=1048575-1048576"), 1_048_575, 1_048_577),
        (Some("bytes=1000000-4000000"), 1_000_000, 4_000_001),
        (Some("bytes=1048576-2097151"), 1 << 20, 2 << 20),
        (Some("bytes=-1"), size - 1, size),
        (Some("bytes=-40000"), size - 40_000, size),
        (Some("bytes=100-99999999"), 100, size),
        (None, 0, size),
    ] {
        socket.write_all(request(&registry, &token, "GET", &target, range).as_bytes()).unwrap();
        let got = Reply::read(&mut socket, false).unwrap().expect(if range.is_some() { 206 } else { 200 });
        assert!(got.body == bytes[from..to], "{range:?}");
        moved += if to - from > 256 << 10 { to - from } else { 0 };
        socket.write_all(request(&registry, &token, "HEAD", &target, range).as_bytes()).unwrap();
        let head = Reply::read(&mut socket, true).unwrap().expect(200);
        assert_eq!(head.header("content-length"), Some(size.to_string().as_str()));
    }
    drop(socket);
    assert_eq!(from_files(&server) - before, moved as u64);
}

#[test]
fn a_pipeline_of_blobs_and_manifests_is_answered_in_order() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let image = Image::new(fresh(), 3_000_000);
    image.push(&registry, REPOSITORY, &token, "v1");
    let layer = format!("blobs/{}", sha256(&image.layer));
    let manifest = Call::get(format!("/v2/{REPOSITORY}/manifests/v1")).bearer(&token).send(&registry).expect(200).body;
    let before = from_files(&server);
    let missing = format!("blobs/{}", sha256(b"nothing"));
    type Asked<'a> = (&'a str, &'a str, Option<&'a str>, u16, &'a [u8]);
    let asked: [Asked<'_>; 9] = [
        ("GET", &layer, None, 200, &image.layer),
        ("GET", "manifests/v1", None, 200, &manifest),
        ("HEAD", &layer, None, 200, b""),
        ("GET", &layer, Some("bytes=500000-1700000"), 206, &image.layer[500_000..=1_700_000]),
        ("GET", &layer, Some("bytes=0-99999"), 206, &image.layer[..100_000]),
        ("GET", "manifests/v1", None, 200, &manifest),
        ("GET", &layer, Some("bytes=7-7"), 206, &image.layer[7..8]),
        ("GET", &missing, None, 404, b""),
        ("GET", &layer, None, 200, &image.layer),
    ];
    let pipeline: String =
        asked.iter().map(|(method, target, range, ..)| request(&registry, &token, method, target, *range)).collect();
    for _ in 0..3 {
        let mut socket = connect(&registry);
        socket.write_all(pipeline.as_bytes()).unwrap();
        for (at, (method, _, _, status, body)) in asked.iter().enumerate() {
            let got = Reply::read(&mut socket, *method == "HEAD").unwrap().expect(*status);
            assert!(*status == 404 || got.body == *body, "answer {at}");
        }
    }
    assert_eq!(from_files(&server) - before, 3 * (2 * 3_000_000 + 1_200_001));
}

#[test]
fn slow_readers_get_every_byte_and_those_who_leave_hold_nothing() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let bytes = noise(fresh(), 12 << 20);
    let digest = push_blob(&registry, REPOSITORY, &token, &bytes);
    let ask = request(&registry, &token, "GET", &format!("blobs/{digest}"), None);
    for at in 0..6 {
        let mut leaving = connect(&registry);
        leaving.write_all(ask.as_bytes()).unwrap();
        leaving.read_exact(&mut vec![0; 1 + at * 300_000]).unwrap();
    }
    let mut slow = connect(&registry);
    rustix::net::sockopt::set_socket_recv_buffer_size(&slow, 128 << 10).unwrap();
    slow.write_all(ask.as_bytes()).unwrap();
    let mut got = Vec::new();
    let mut buffer = [0u8; 24_571];
    while !got.ends_with(&bytes[bytes.len() - 100..]) {
        let read = slow.read(&mut buffer).unwrap();
        assert_ne!(read, 0, "after {} bytes", got.len());
        got.extend_from_slice(&buffer[..read]);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(got.ends_with(&bytes));
    drop(slow);
    let patience = Instant::now();
    while metric(&server, "connections") > 0 {
        assert!(patience.elapsed() < Duration::from_secs(10), "connections stay open");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn many_at_once_from_memory_and_from_disk() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let blobs: Vec<(String, Vec<u8>)> = (0..3)
        .map(|at| {
            let bytes = noise(fresh(), (4 << 20) + at * 777_777);
            (push_blob(&registry, REPOSITORY, &token, &bytes), bytes)
        })
        .collect();
    let before = from_files(&server);
    for file in objects(&server) {
        rustix::fs::fadvise(File::open(file).unwrap(), 0, None, rustix::fs::Advice::DontNeed).unwrap();
    }
    let moved = parallel(24, move |at| {
        let (digest, bytes) = &blobs[at % 3];
        let mut socket = connect(&registry);
        let mut moved = 0;
        for round in 0..3 {
            let from = at * 10_007 + round * 100_003;
            let range = (round > 0).then(|| format!("bytes={from}-"));
            let ask = request(&registry, &token, "GET", &format!("blobs/{digest}"), range.as_deref());
            socket.write_all(ask.as_bytes()).unwrap();
            let got = Reply::read(&mut socket, false).unwrap().body;
            let expected = if round > 0 { &bytes[from..] } else { &bytes[..] };
            assert_eq!(sha256(&got), sha256(expected), "{at} {round}");
            moved += got.len() as u64;
        }
        moved
    });
    assert_eq!(from_files(&server) - before, moved.into_iter().sum::<u64>());
}

#[test]
fn a_file_that_is_cut_is_an_error_and_never_other_bytes() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let bytes = noise(fresh(), 40 << 20);
    let digest = push_blob(&registry, REPOSITORY, &token, &bytes);
    let files = objects(&server);
    let [file] = &files[..] else { panic!("{files:?}") };
    let mut socket = connect(&registry);
    socket.write_all(request(&registry, &token, "GET", &format!("blobs/{digest}"), None).as_bytes()).unwrap();
    let mut got = vec![0; 100_000];
    socket.read_exact(&mut got).unwrap();
    OpenOptions::new().write(true).open(file).unwrap().set_len(32 << 20).unwrap();
    // Closed or reset, as the case may be.
    let _ = socket.read_to_end(&mut got);
    let start = got.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    assert!(got.len() - start <= 32 << 20 && bytes.starts_with(&got[start..]), "{} bytes", got.len());
    // Who asks now is told at once, and the next is told that it is not there: a push heals it.
    let call = Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(&token);
    assert_eq!(call.send(&registry).status, 500);
    assert_eq!(call.send(&registry).status, 404);
    push_blob(&registry, REPOSITORY, &token, &bytes);
    assert!(call.send(&registry).expect(200).body == bytes);
}

#[test]
fn what_is_encrypted_is_read_as_ever() {
    let server = Setup::tls("localhost").start();
    let (registry, token) = (server.registry(), server.admin_token(REPOSITORY));
    let bytes = noise(fresh(), 3_000_000);
    let digest = push_blob(&registry, REPOSITORY, &token, &bytes);
    let got = Call::get(format!("/v2/{REPOSITORY}/blobs/{digest}")).bearer(&token).send(&registry).expect(200);
    assert!(got.body == bytes);
    assert_eq!(from_files(&server), 0);
}

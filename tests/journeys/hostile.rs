//! Requests that no honest client makes.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use crate::support::http::Endpoint;
use crate::support::oci::{Image, fresh, start_upload};
use crate::support::{Call, Reply, Server, Setup};

/// Sends bytes and the end of them, and reads the status of an answer if there is one.
fn raw(endpoint: &Endpoint, request: &[u8]) -> Option<u16> {
    let mut wire = TcpStream::connect(endpoint.addr).ok()?;
    wire.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    // A server that has answered may have stopped reading.
    let _ = wire.write_all(request);
    let _ = wire.shutdown(Shutdown::Write);
    Reply::read(&mut wire, false).ok().map(|reply| reply.status)
}

fn alive(server: &Server) {
    Call::get("/readyz").send(&server.admin()).expect(200);
    let token = server.admin_token("main/alive");
    Image::new(fresh(), 100).push(&server.registry(), "main/alive", &token, "v1");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[test]
fn malformed_requests_are_refused_and_the_server_goes_on() {
    let server = Setup::plain().start();
    for endpoint in [server.registry(), server.auth(), server.controller()] {
        let host = &endpoint.host;
        let many: String = (0..5000).map(|number| format!("X-Flood-{number}: {number}\r\n")).collect();
        let requests: Vec<Vec<u8>> = vec![
            b"\r\n\r\n".to_vec(),
            b"nonsense\r\n\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
            b"GET /v2/ HTTP/1.1\r\n\r\n".to_vec(),
            b"GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n".to_vec(),
            format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\n{many}\r\n").into_bytes(),
            format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX-Long: {}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
            format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
            format!("POST /v2/main/a/blobs/uploads/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: -5\r\n\r\n").into_bytes(),
            format!("POST /v2/main/a/blobs/uploads/ HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef").into_bytes(),
            format!("POST /token HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n").into_bytes(),
            format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nBad Header: x\r\n\r\n").into_bytes(),
            format!("GET /v2/ HTTP/1.1\r\nHost: {host}\r\nX: a\0b\r\n\r\n").into_bytes(),
        ];
        for request in requests {
            if let Some(status) = raw(&endpoint, &request) {
                assert!(
                    (400..500).contains(&status) || status == 505,
                    "{status} to {:?}",
                    String::from_utf8_lossy(&request[..60.min(request.len())])
                );
            }
        }
    }
    alive(&server);
}

#[test]
fn deep_and_endless_bodies_are_bounded() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    let idle = server.resident();
    for (endpoint, path) in [(server.auth(), "/token"), (server.controller(), "/api/v1/login")] {
        let endless = Call::post(path).header("Content-Type", "application/json").body(vec![b'['; 32 << 20]);
        if let Ok(reply) = endless.try_send(&endpoint) {
            assert!((400..500).contains(&reply.status), "{path}: {}", reply.status);
        }
        let deep = Call::post(path).header("Content-Type", "application/json").body("[".repeat(10_000)).send(&endpoint);
        assert!((400..500).contains(&deep.status), "{path}: {}", deep.status);
    }
    let manifest = Call::put("/v2/main/app/manifests/v1").bearer(&token).header("Content-Type", "application/json");
    if let Ok(reply) = manifest.body(vec![b' '; 64 << 20]).try_send(&registry) {
        assert_eq!(reply.status, 413);
    }
    alive(&server);
    let grown = server.resident().saturating_sub(idle);
    assert!(grown < 64 << 20, "{} MiB more than at rest", grown >> 20);
}

#[test]
fn d35_a_slow_loris_is_dropped_and_a_slow_upload_is_not() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/slow"));
    let mut loris = registry.connect().unwrap();
    loris.write_all(b"GET /v2/ HTTP/1.1\r\nHost: x\r\n").unwrap();
    let session = start_upload(&registry, "main/slow", &token);
    let body = vec![7u8; 45];
    let head = format!(
        "PATCH {session} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        registry.host,
        body.len()
    );
    let mut slow = registry.connect().unwrap();
    slow.write_all(head.as_bytes()).unwrap();
    let started = Instant::now();
    for byte in &body {
        slow.write_all(&[*byte]).unwrap();
        slow.flush().unwrap();
        std::thread::sleep(Duration::from_secs(1));
    }
    let reply = Reply::read(slow.as_mut(), false).unwrap().expect(202);
    assert_eq!(reply.header("range"), Some("0-44"));
    assert!(started.elapsed() >= Duration::from_secs(45));
    let mut rest = Vec::new();
    let _ = loris.read_to_end(&mut rest);
    let text = String::from_utf8_lossy(&rest);
    assert!(text.is_empty() || text.starts_with("HTTP/1.1 4"), "{text}");
}

#[test]
fn d33_forwarded_headers_of_a_stranger_change_nothing() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    let call = Call::post("/v2/main/app/blobs/uploads/").bearer(&token);
    let call = call
        .header("X-Forwarded-Host", "evil.example")
        .header("X-Forwarded-Proto", "https")
        .header("Forwarded", "host=evil.example");
    let reply = call.send(&registry).expect(202);
    assert!(!reply.header("location").unwrap().contains("evil.example"));
    let challenge = Call::get("/v2/").header("X-Forwarded-Host", "evil.example").send(&registry).expect(401);
    assert!(!challenge.header("www-authenticate").unwrap().contains("evil.example"));
}

#[test]
fn unknown_methods_and_paths_have_a_body_of_the_specification() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    for (method, path) in [
        ("TRACE", "/v2/"),
        ("POST", "/v2/"),
        ("PATCH", "/v2/main/app/manifests/v1"),
        ("PUT", "/v2/main/app/tags/list"),
        ("BREW", "/v2/main/app/manifests/v1"),
    ] {
        let reply = Call::new(method, path).bearer(&token).send(&registry);
        assert!(matches!(reply.status, 400 | 404 | 405 | 501), "{method} {path}: {}", reply.status);
    }
}

#![allow(clippy::unwrap_used)]

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_LENGTH;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use storage::objects::{ObjectReader, Objects, Trailer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::connection::tests::{Running, start};

/// More than the buffers of two sockets hold.
const LENGTH: usize = 24 << 20;

/// An object, and a router that answers with it in right and in wrong ways.
struct Stored {
    _dir: tempfile::TempDir,
    reader: ObjectReader,
    content: Arc<Vec<u8>>,
}

impl Stored {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let content: Vec<u8> = (0..LENGTH).map(|at| (at % 251 + 1) as u8).collect();
        let objects = Objects::open(dir.path().to_str().unwrap()).unwrap();
        let key = storage::names::new_id();
        let mut writer = objects.append(&key, 0).unwrap();
        writer.write(&[Bytes::copy_from_slice(&content)]).unwrap();
        writer.seal(&Trailer { org: "o".into(), digest: "d".into(), size: LENGTH as u64 }).unwrap();
        Self { reader: objects.open_object(&key).unwrap(), _dir: dir, content: Arc::new(content) }
    }

    fn router(&self) -> Router {
        Router::new()
            .route("/whole", get(async |State(r), Extension(o)| sized(markers(r, o, LENGTH), LENGTH)))
            .route("/chunked", get(async |State(r), Extension(o)| Response::new(markers(r, o, 6 << 20))))
            .route("/short", get(async |State(r), Extension(o)| sized(markers(r, o, 5000), 4000)))
            .route("/copied", get(async |State(r), Extension(o)| sized(copies(&r, &o), 4000)))
            .route("/kept", get(async |State(r), Extension(o)| sized(kept(&r, &o), 5)))
            .route("/bytes", get(async || "bytes"))
            .with_state(self.reader.clone())
    }

    async fn serve(&self) -> Running {
        start(self.router(), false).await
    }
}

fn sized(body: Body, length: usize) -> Response {
    Response::builder().header(CONTENT_LENGTH, length).body(body).unwrap()
}

fn markers(reader: ObjectReader, outlet: Outlet, length: usize) -> Body {
    let pieces = (0..length).step_by(storage::outlet::SEGMENT);
    let pieces = pieces.map(move |at| Ok::<_, Infallible>(outlet.push(&reader, at as u64, (length - at) as u64)));
    Body::from_stream(stream::iter(pieces))
}

fn copies(reader: &ObjectReader, outlet: &Outlet) -> Body {
    Body::from(Bytes::copy_from_slice(&outlet.push(reader, 0, 4000)))
}

fn kept(reader: &ObjectReader, outlet: &Outlet) -> Body {
    let _lost = outlet.push(reader, 0, 4000);
    Body::from("bytes")
}

async fn ask(address: SocketAddr, paths: &[&str]) -> TcpStream {
    let mut socket = TcpStream::connect(address).await.unwrap();
    for (at, path) in paths.iter().enumerate() {
        let close = if at + 1 == paths.len() { "Connection: close\r\n" } else { "" };
        socket.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{close}\r\n").as_bytes()).await.unwrap();
    }
    socket
}

/// Everything that comes until the connection ends, well or badly.
async fn all(mut socket: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let _ = socket.read_to_end(&mut got).await;
    got
}

fn split(answer: &[u8]) -> (String, &[u8]) {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
    (String::from_utf8_lossy(&answer[..end]).into_owned(), &answer[end + 4..])
}

#[tokio::test]
async fn a_file_arrives_whole_in_both_framings_and_is_counted() {
    let stored = Stored::new();
    let running = stored.serve().await;
    let answer = all(ask(running.address, &["/whole"]).await).await;
    let (head, body) = split(&answer);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(body == &stored.content[..]);
    assert_eq!(running.surface.sent_from_files().get(), LENGTH as u64);
    let answer = all(ask(running.address, &["/chunked"]).await).await;
    let (head, mut body) = split(&answer);
    assert!(head.contains("chunked"), "{head}");
    for at in 0..3 {
        body = body.strip_prefix(b"200000\r\n").unwrap();
        assert!(body[..2 << 20] == stored.content[at << 21..(at + 1) << 21]);
        body = body[2 << 20..].strip_prefix(b"\r\n").unwrap();
    }
    assert_eq!(body, b"0\r\n\r\n");
}

#[tokio::test]
async fn answers_of_both_kinds_follow_each_other_on_one_connection() {
    let stored = Stored::new();
    let running = stored.serve().await;
    let answer = all(ask(running.address, &["/bytes", "/whole", "/bytes", "/whole", "/bytes"]).await).await;
    let mut rest = &answer[..];
    for file in [false, true, false, true, false] {
        let (head, body) = split(rest);
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let expected = if file { &stored.content[..] } else { b"bytes" };
        assert!(body.starts_with(expected));
        rest = &body[expected.len()..];
    }
    assert!(rest.is_empty());
}

/// A marker is zeros: none of them may come out, whatever is done wrong.
#[tokio::test]
async fn a_marker_is_never_content() {
    let stored = Stored::new();
    let running = stored.serve().await;
    for wrong in ["/short", "/copied", "/kept"] {
        let got = all(ask(running.address, &["/bytes", wrong, "/bytes"]).await).await;
        assert!(got.ends_with(b"bytes") && !got.contains(&0), "{wrong}: {}", String::from_utf8_lossy(&got));
        assert_eq!(got.windows(12).filter(|window| window == b"HTTP/1.1 200").count(), 1, "{wrong}");
    }
    assert_eq!(running.surface.sent_from_files().get(), 0);
}

/// What hyper would do if it began to copy bodies: here it is told to.
#[tokio::test]
async fn a_server_that_copies_bodies_sends_nothing_of_them() {
    let stored = Stored::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let reader = stored.reader.clone();
    let server = tokio::spawn(async move {
        let (socket, _) = listener.accept().await.unwrap();
        let outlet = Outlet::new();
        let plain = Plain::new(socket, outlet.clone(), Counter::default());
        let service = service_fn(move |_| {
            let body = markers(reader.clone(), outlet.clone(), 100_000);
            std::future::ready(Ok::<_, Infallible>(sized(body, 100_000)))
        });
        let mut http = hyper::server::conn::http1::Builder::new();
        http.pipeline_flush(true).serve_connection(TokioIo::new(plain), service).await
    });
    assert_eq!(all(ask(address, &["/"]).await).await, b"");
    assert!(server.await.unwrap().is_err());
}

#[tokio::test]
async fn a_file_in_flight_is_finished_when_the_server_stops() {
    let stored = Stored::new();
    let running = stored.serve().await;
    let socket = ask(running.address, &["/whole"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    running.stop.gently.cancel();
    running.connections.close();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let answer = all(socket).await;
    assert!(split(&answer).1 == &stored.content[..]);
    tokio::time::timeout(Duration::from_secs(5), running.connections.wait()).await.unwrap();
}

#[tokio::test]
async fn who_reads_nothing_or_goes_away_holds_nothing_up() {
    let stored = Stored::new();
    let running = stored.serve().await;
    let mut gone = ask(running.address, &["/whole"]).await;
    gone.read_exact(&mut [0u8; 1000]).await.unwrap();
    drop(gone);
    let stuck = ask(running.address, &["/whole"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(all(ask(running.address, &["/bytes"]).await).await.ends_with(b"bytes"));
    running.stop.gently.cancel();
    running.stop.now.cancel();
    running.connections.close();
    tokio::time::timeout(Duration::from_secs(5), running.connections.wait()).await.unwrap();
    assert!(all(stuck).await.len() < LENGTH);
}

#[tokio::test]
async fn nothing_is_copied_on_a_connection_without_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    assert!(Plain::new(socket, Outlet::new(), Counter::default()).is_write_vectored());
}

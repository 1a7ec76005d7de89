#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::routing::get;
use rustls_pki_types::pem::PemObject;
use storage::Db;

use super::*;
use crate::health::Health;
use crate::metrics::Metrics;
use crate::pki::Pki;
use crate::tls::{Certificate, Protocols, server_config};

pub(super) struct Running {
    dir: tempfile::TempDir,
    pub(super) address: SocketAddr,
    pub(super) surface: Surface,
    pub(super) stop: Stop,
    pub(super) connections: TaskTracker,
    accepting: tokio::task::JoinHandle<()>,
}

pub(super) async fn start(router: Router, tls: bool) -> Running {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::connect(&format!("sqlite://{}", dir.path().join("t.db").display())).await.unwrap();
    let surface = Surface::new("test", router, Health::new(db, None), Metrics::new(0));
    let tls = tls.then(|| {
        let pki = Pki::in_dir(&dir.path().join("pki"));
        pki.ensure(&["localhost".to_owned()], storage::Clock::System.now()).unwrap();
        let certificate = Certificate::open(pki.server_cert, pki.server_key).unwrap();
        TlsAcceptor::from(server_config(certificate, Protocols::Http2).unwrap())
    });
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, connections) = (Stop::new(), TaskTracker::new());
    let listener = Listener {
        socket,
        tls,
        surface: surface.clone(),
        max_connections: 8,
        first_request: Duration::from_millis(500),
    };
    let accepting = tokio::spawn(listener.run(stop.clone(), connections.clone()));
    Running { dir, address, surface, stop, connections, accepting }
}

async fn exchange(address: SocketAddr, request: &str) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    answer
}

const CLOSE: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_request_in_flight_is_finished_and_new_connections_are_not_taken() {
    static BEGUN: AtomicBool = AtomicBool::new(false);
    let slow = || async {
        BEGUN.store(true, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
        "finished"
    };
    let running = start(Router::new().route("/", get(slow)), false).await;
    let in_flight = tokio::spawn(exchange(running.address, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    while !BEGUN.load(Ordering::SeqCst) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running.stop.gently.cancel();
    running.accepting.await.unwrap();
    assert!(TcpStream::connect(running.address).await.is_err());
    // The connection was kept alive, and is closed by the server once the answer is out.
    assert!(in_flight.await.unwrap().ends_with("finished"));
    running.connections.close();
    running.connections.wait().await;
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let running = start(Router::new().route("/", get(|| async { "x" })), false).await;
    let idle = TcpStream::connect(running.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop.gently.cancel();
    running.connections.close();
    tokio::time::timeout(Duration::from_secs(5), running.connections.wait()).await.unwrap();
    drop(idle);
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_when_patience_is_over() {
    let never = || async { std::future::pending::<&str>().await };
    let running = start(Router::new().route("/", get(never)), false).await;
    let client = tokio::spawn(exchange(running.address, CLOSE));
    tokio::time::sleep(Duration::from_millis(50)).await;
    running.stop.gently.cancel();
    running.stop.now.cancel();
    running.connections.close();
    tokio::time::timeout(Duration::from_secs(5), running.connections.wait()).await.unwrap();
    assert_eq!(client.await.unwrap(), "");
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let running = start(Router::new(), true).await;
    let answer = exchange(running.address, CLOSE).await;
    assert!(answer.starts_with("HTTP/1.0 400") && answer.contains("https://"), "{answer}");
}

#[tokio::test]
async fn tls_agrees_on_http2_where_both_want_it() {
    let running = start(Router::new().route("/", get(|| async { "secure" })), true).await;
    let ca = std::fs::read(running.dir.path().join("pki/ca.crt")).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls_pki_types::CertificateDer::from_pem_slice(&ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    let socket = TcpStream::connect(running.address).await.unwrap();
    let name = rustls_pki_types::ServerName::try_from("localhost").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, socket).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn too_many_header_fields_are_refused() {
    let running = start(Router::new().route("/", get(|| async { "x" })), false).await;
    let fields = "X-Field: 1\r\n".repeat(MAX_FIELDS + 1);
    let answer = exchange(running.address, &CLOSE.replace("Connection", &format!("{fields}Connection"))).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn who_sends_no_request_is_cut_off_and_who_sent_one_may_wait() {
    let running = start(Router::new().route("/", get(|| async { "x" })), false).await;
    let mut slow = TcpStream::connect(running.address).await.unwrap();
    slow.write_all(b"GET / HT").await.unwrap();
    let mut patient = TcpStream::connect(running.address).await.unwrap();
    patient.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = [0u8; 12];
    patient.read_exact(&mut answer).await.unwrap();
    assert_eq!(slow.read(&mut [0u8; 64]).await.unwrap_or(0), 0);
    tokio::time::sleep(Duration::from_millis(700)).await;
    patient.write_all(CLOSE.as_bytes()).await.unwrap();
    let mut rest = String::new();
    patient.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("200 OK"), "{rest}");
}

#[tokio::test]
async fn an_idle_connection_holds_little() {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::connect(&format!("sqlite://{}", dir.path().join("t.db").display())).await.unwrap();
    let surface = Surface::new("test", Router::new(), Health::new(db, None), Metrics::new(0));
    // hyper keeps room for an answer in every connection.
    let request = http::Request::new(axum::body::Body::empty());
    let answer = size_of_val(&surface.clone().answer(SocketAddr::from(([127, 0, 0, 1], 1)), request));
    assert!(answer <= 3 << 10, "{answer} bytes for an answer");
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let connected = TcpStream::connect(socket.local_addr().unwrap()).await.unwrap();
    let connection = Connection {
        peer: socket.local_addr().unwrap(),
        surface,
        http: Arc::new(builder()),
        first_request: FIRST_REQUEST,
        stop: Stop::new(),
    };
    let task = size_of_val(&connection.serve(connected, None));
    assert!(task <= 512, "{task} bytes for the task");
}

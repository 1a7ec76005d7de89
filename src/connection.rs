//! From an accepted socket to requests: TLS, HTTP/1.1 or HTTP/2, every wait bounded, and an orderly end.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use storage::outlet::Outlet;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::plain::Plain;
use crate::access::Surface;

mod plain;

/// How long a peer may take no byte of an answer.
const STUCK: Duration = Duration::from_secs(120);
/// Time for a TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Time for a connection's first request.
pub(crate) const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// Time for each further one, the wait for it included. Longer than clients keep idle connections (Go: 90 s), since a push
/// fails where the server closes one that the client is about to send a body on.
const KEEP_ALIVE: Duration = Duration::from_secs(120);
/// Most header fields of a request.
const MAX_FIELDS: usize = 100;
/// Read buffer of an HTTP/1.1 connection: bounds its memory, and the head of a request.
const BUFFER: usize = 128 << 10;
/// Pause after the system had no descriptor for another connection.
const BREATH: Duration = Duration::from_millis(100);

/// When to stop.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    /// Take no more connections or requests; finish those in flight.
    pub(crate) gently: CancellationToken,
    /// Drop everything.
    pub(crate) now: CancellationToken,
}

impl Stop {
    /// Neither, yet.
    pub(crate) fn new() -> Self {
        Self { gently: CancellationToken::new(), now: CancellationToken::new() }
    }
}

/// A listening socket and what answers on it.
pub(crate) struct Listener {
    /// The socket.
    pub(crate) socket: TcpListener,
    /// TLS, if it is spoken here.
    pub(crate) tls: Option<TlsAcceptor>,
    /// Who answers.
    pub(crate) surface: Surface,
    /// Connections held at a time.
    pub(crate) max_connections: u32,
    /// Time for a connection's first request: [`FIRST_REQUEST`].
    pub(crate) first_request: Duration,
}

impl Listener {
    /// Accepts connections until told to stop. They are tasks of `connections`.
    pub(crate) async fn run(self, stop: Stop, connections: TaskTracker) {
        let limit = Arc::new(Semaphore::new(self.max_connections as usize));
        let http = Arc::new(builder());
        loop {
            let next = async {
                // The permit first: a connection that cannot be held stays in the system's queue.
                let permit = Arc::clone(&limit).acquire_owned().await.ok()?;
                Some((permit, self.socket.accept().await))
            };
            let Some(Some((permit, accepted))) = stop.gently.run_until_cancelled(next).await else { return };
            let (socket, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_connection(&error) => continue,
                Err(error) => {
                    tracing::error!(service.name = self.surface.name(), %error, "a connection cannot be accepted");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
            };
            let connection = Connection {
                peer,
                surface: self.surface.clone(),
                http: Arc::clone(&http),
                first_request: self.first_request,
                stop: stop.clone(),
            };
            let tls = self.tls.clone();
            let now = stop.now.clone();
            connections.spawn(async move {
                let _permit = permit;
                let _open = connection.surface.connection_open();
                now.run_until_cancelled(connection.serve(socket, tls)).await;
            });
        }
    }
}

/// Errors of `accept` that tell about a connection which is gone already (accept(2), "Error handling").
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

fn builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(KEEP_ALIVE)
        .max_headers(MAX_FIELDS)
        .max_buf_size(BUFFER);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(32 << 10)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        // A peer that is gone without a word is noticed.
        .keep_alive_interval(FIRST_REQUEST)
        .keep_alive_timeout(HANDSHAKE);
    builder
}

struct Connection {
    peer: SocketAddr,
    surface: Surface,
    http: Arc<Builder<TokioExecutor>>,
    first_request: Duration,
    stop: Stop,
}

impl Connection {
    async fn serve(self, socket: TcpStream, tls: Option<TlsAcceptor>) {
        // Without this, the end of an answer waits for the client's delayed acknowledgement: 40 ms.
        if socket.set_nodelay(true).is_err() {
            return;
        }
        // A peer that takes nothing of what it asked for is cut off; a closed receive window counts as nothing.
        let patience = u32::try_from(STUCK.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = rustix::net::sockopt::set_tcp_user_timeout(&socket, patience) {
            tracing::debug!(%error, "the connection has no bound on a peer that does not read");
        }
        let spoken = match tls {
            None => {
                let outlet = Outlet::new();
                let socket = Plain::new(socket, outlet.clone(), self.surface.sent_from_files());
                self.speak(socket, Some(outlet), false)
            }
            // Boxed, as what a handshake needs is more than an idle connection holds afterwards.
            Some(tls) => match Box::pin(self.secure(socket, tls)).await {
                Some(spoken) => spoken,
                None => return,
            },
        };
        spoken.await;
    }

    /// Shakes hands; returns what is spoken then, or nothing where that came to no good.
    async fn secure(self, socket: TcpStream, tls: TlsAcceptor) -> Option<Spoken> {
        let handshake = tokio::time::timeout(HANDSHAKE, shake_hands(tls, socket));
        match self.stop.gently.run_until_cancelled(handshake).await? {
            Ok(Ok(Some(stream))) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                return Some(self.speak(stream, None, http2));
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(client.address = %self.peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(client.address = %self.peer, "TLS handshake took too long"),
        }
        None
    }

    /// No `async fn`: that would keep room for the stream that it was given besides the one that it hands on. An `outlet` is
    /// the stream's own.
    fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        outlet: Option<Outlet>,
        http2: bool,
    ) -> Spoken {
        let Self { peer, surface, http, first_request, stop } = self;
        // What TLS agreed on, never a guess from the first bytes: that would wait for them without end.
        let http = (*http).clone();
        let http = if http2 { http.http2_only() } else { http.http1_only() };
        let begun = Arc::new(AtomicBool::new(false));
        let noted = Arc::clone(&begun);
        let service = service_fn(move |mut request: http::Request<Incoming>| {
            noted.store(true, Ordering::Relaxed);
            if let Some(outlet) = &outlet {
                request.extensions_mut().insert(outlet.clone());
            }
            surface.clone().answer(peer, request)
        });
        let mut connection = Box::pin(http.serve_connection(TokioIo::new(stream), service).into_owned());
        Box::pin(async move {
            let mut first_request = std::pin::pin!(tokio::time::sleep(first_request));
            let (mut waiting, mut stopping) = (true, false);
            let ended = loop {
                tokio::select! {
                    ended = connection.as_mut() => break ended,
                    () = first_request.as_mut(), if waiting => {
                        if !begun.load(Ordering::Relaxed) {
                            return;
                        }
                        waiting = false;
                    }
                    () = stop.gently.cancelled(), if !stopping => {
                        connection.as_mut().graceful_shutdown();
                        stopping = true;
                    }
                }
            };
            if let Err(error) = ended {
                tracing::debug!(client.address = %peer, error, "connection ended badly");
            }
        })
    }
}

/// A connection on which HTTP is spoken, until it ends. There are many that do nothing: it holds little more than its parts.
type Spoken = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Speaks TLS with a client that does; tells one that speaks HTTP that it should, and returns nothing.
async fn shake_hands(
    tls: TlsAcceptor,
    mut socket: TcpStream,
) -> std::io::Result<Option<tokio_rustls::server::TlsStream<TcpStream>>> {
    let mut first = [0u8];
    // A TLS record of a handshake begins with 22 (RFC 8446 §5.1), an HTTP request with a capital letter.
    if socket.peek(&mut first).await? == 1 && first[0].is_ascii_uppercase() {
        const TEXT: &str = "this port speaks HTTPS; use https://\n";
        let head = "HTTP/1.0 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: ";
        socket.write_all(format!("{head}{}\r\n\r\n{TEXT}", TEXT.len()).as_bytes()).await?;
        socket.shutdown().await?;
        // Closed with bytes unread, the connection would be reset and the answer lost.
        let mut rest = [0u8; 4096];
        for _ in 0..4 {
            if socket.read(&mut rest).await? == 0 {
                break;
            }
        }
        return Ok(None);
    }
    tls.accept(socket).await.map(Some)
}

#[cfg(test)]
mod tests;

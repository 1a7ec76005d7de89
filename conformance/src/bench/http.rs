//! An HTTP/1.1 client that costs little, so that what is measured is the server.
//!
//! A connection waits for each answer; a thread may have many of them. Bodies that nobody looks at are counted and dropped
//! where they were received.

use std::io::{self, Write as _};
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::content::{Noise, PIECE};
use super::tls::Session;

/// The longest head that is read.
const LONGEST_HEAD: usize = 64 << 10;
/// The longest body that is kept: a list of 500,000 tags fits.
const LONGEST_KEPT: u64 = 64 << 20;
/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a request and its answer may take, of a GiB as well.
const PATIENCE: Duration = Duration::from_secs(900);

/// Where a server is, and how it is spoken to.
#[derive(Clone, Debug)]
pub(crate) struct Origin {
    addr: SocketAddr,
    /// `host:port`, as sent in `Host`.
    host: String,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

/// A TLS configuration that trusts the roots in a PEM file, or nobody; AES-128-GCM comes first, as Go's clients have it.
pub(crate) fn trust(ca: Option<&Path>) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    if let Some(ca) = ca {
        for certificate in CertificateDer::pem_file_iter(ca).with_context(|| format!("read {}", ca.display()))? {
            roots.add(certificate.context("read a certificate")?).context("use a certificate as a root")?;
        }
    }
    let suites = &mut provider::ALL_CIPHER_SUITES.to_vec();
    suites.sort_by_key(|suite| suite.suite() != rustls::CipherSuite::TLS13_AES_128_GCM_SHA256);
    let provider = CryptoProvider { cipher_suites: suites.clone(), ..provider::default_provider() };
    let config = ClientConfig::builder_with_provider(Arc::new(provider)).with_safe_default_protocol_versions()?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

impl Origin {
    /// Reads `http://host:port` or `https://host:port`; what follows is not looked at.
    pub(crate) fn parse(url: &str, config: &Arc<ClientConfig>) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").with_context(|| format!("{url}: needs http:// or https://"))?;
        let authority = rest.split('/').next().unwrap_or_default();
        let (name, port) = match authority.rsplit_once(':') {
            Some((name, port)) if !port.contains(']') => (name, port.parse().context("a port")?),
            _ => (authority, if scheme == "https" { 443 } else { 80 }),
        };
        let tls = match scheme {
            "http" => None,
            "https" => Some((Arc::clone(config), ServerName::try_from(name.to_owned()).context("a host's name")?)),
            other => bail!("no scheme that a registry speaks: {other}"),
        };
        let mut found =
            (name.trim_matches(['[', ']']), port).to_socket_addrs().with_context(|| format!("find {name}"))?;
        // Peers listen on IPv4 alone, `localhost` may come as IPv6 first.
        let all: Vec<SocketAddr> = found.by_ref().collect();
        let addr = all.iter().find(|addr| addr.is_ipv4()).or(all.first()).with_context(|| format!("find {name}"))?;
        Ok(Self { addr: *addr, host: authority.to_owned(), tls })
    }
}

/// The bytes of a request's body.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Body<'a> {
    Empty,
    Bytes(&'a [u8]),
    /// A part of a blob, with `Content-Length`.
    Part {
        noise: &'a Noise,
        offset: u64,
        length: u64,
    },
    /// A whole blob with `Transfer-Encoding: chunked`, as Docker sends layers.
    Stream(&'a Noise),
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    pub(crate) method: &'static str,
    pub(crate) target: &'a str,
    /// Whole lines, each ended by CR LF.
    pub(crate) headers: String,
    pub(crate) body: Body<'a>,
    /// Whether the answer's body is wanted; otherwise only its length is.
    pub(crate) keep: bool,
}

impl<'a> Request<'a> {
    pub(crate) fn new(method: &'static str, target: &'a str) -> Self {
        Self { method, target, headers: String::new(), body: Body::Empty, keep: false }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        for part in [name, ": ", value, "\r\n"] {
            self.headers.push_str(part);
        }
        self
    }

    pub(crate) fn body(mut self, body: Body<'a>) -> Self {
        self.body = body;
        self
    }

    pub(crate) fn keep(mut self) -> Self {
        self.keep = true;
        self
    }
}

/// An answer, read to its end.
#[derive(Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    head: String,
    /// Bytes of the body, kept or not.
    pub(crate) length: u64,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.split("\r\n").skip(1).filter_map(|line| line.split_once(':'));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// This answer if its status is one of these.
    pub(crate) fn expect(self, wanted: &[u16]) -> Result<Self> {
        let said: String = String::from_utf8_lossy(&self.body).chars().filter(|c| !c.is_control()).take(300).collect();
        ensure!(wanted.contains(&self.status), "status {} {said}", self.status);
        Ok(self)
    }

    pub(crate) fn json(&self) -> Result<serde_json::Value> {
        serde_json::from_slice(&self.body).with_context(|| format!("status {}, not JSON", self.status))
    }
}

enum Wire {
    /// With room for what is received.
    Plain(TcpStream, Vec<u8>),
    Tls(Box<Session>),
}

impl Wire {
    async fn open(origin: &Origin) -> io::Result<Self> {
        let tcp = timeout(CONNECT, TcpStream::connect(origin.addr)).await??;
        tcp.set_nodelay(true)?;
        Ok(match &origin.tls {
            None => Self::Plain(tcp, vec![0; PIECE]),
            Some((config, name)) => Self::Tls(Box::new(Session::open(tcp, config, name).await?)),
        })
    }

    async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(tcp, _) => tcp.write_all(bytes).await,
            Self::Tls(session) => session.write_all(bytes).await,
        }
    }

    /// Receives, and hands out what came; that nothing did is an error.
    async fn receive(&mut self, taken: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        let count = match self {
            Self::Plain(tcp, room) => {
                let count = tcp.read(room).await?;
                taken(&room[..count]);
                count
            }
            Self::Tls(session) => session.receive(taken).await?,
        };
        match count {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed in the middle")),
            _ => Ok(()),
        }
    }
}

/// What was received and not looked at yet.
struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    fn waiting(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Receives more behind what waits.
    async fn more(&mut self, wire: &mut Wire) -> io::Result<()> {
        wire.receive(&mut |bytes| self.keep(bytes)).await
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.start > 0 && (self.start == self.end || self.buffer.len() < self.end + bytes.len()) {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() < self.end + bytes.len() {
            self.buffer.resize(self.end + bytes.len(), 0);
        }
        self.buffer[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Everything up to the end of a line or a head, which is taken.
    async fn until(&mut self, wire: &mut Wire, mark: &[u8]) -> io::Result<String> {
        let mut seen = 0;
        loop {
            let waiting = self.waiting();
            let from = seen.min(waiting.len());
            if let Some(at) = waiting[from..].windows(mark.len()).position(|window| window == mark) {
                let text = String::from_utf8(waiting[..from + at].to_vec()).map_err(io::Error::other)?;
                self.start += from + at + mark.len();
                return Ok(text);
            }
            if waiting.len() > LONGEST_HEAD {
                return Err(io::Error::other("a head without an end"));
            }
            seen = (waiting.len() + 1).saturating_sub(mark.len());
            self.more(wire).await?;
        }
    }

    /// Takes `length` bytes of a body.
    async fn take(&mut self, wire: &mut Wire, length: u64, mut keep: Option<&mut Vec<u8>>) -> io::Result<()> {
        let mut left = length;
        let mut part = |bytes: &[u8]| {
            let count = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
            if let Some(kept) = &mut keep {
                kept.extend_from_slice(&bytes[..count]);
            }
            left -= count as u64;
            (count, left)
        };
        let (count, mut more) = part(self.waiting());
        self.start += count;
        // What follows is not copied once more, but for what is behind the body.
        while more > 0 {
            let mut taken = |bytes: &[u8]| {
                let (count, left) = part(bytes);
                more = left;
                self.keep(&bytes[count..]);
            };
            wire.receive(&mut taken).await?;
        }
        Ok(())
    }
}

/// A connection that is opened when it is needed and kept as long as the server keeps it.
pub(crate) struct Connection {
    origin: Origin,
    wire: Option<Wire>,
    inbox: Inbox,
    piece: Vec<u8>,
    head: Vec<u8>,
}

impl Connection {
    pub(crate) fn new(origin: &Origin) -> Self {
        let inbox = Inbox { buffer: Vec::new(), start: 0, end: 0 };
        Self { origin: origin.clone(), wire: None, inbox, piece: Vec::new(), head: Vec::new() }
    }

    /// Connects, so that the first request need not.
    pub(crate) async fn open(&mut self) -> io::Result<()> {
        if self.wire.is_none() {
            (self.inbox.start, self.inbox.end) = (0, 0);
            self.wire = Some(Wire::open(&self.origin).await?);
        }
        Ok(())
    }

    /// The cipher suite, where the connection is open and encrypted.
    pub(crate) fn cipher(&self) -> Option<String> {
        match &self.wire {
            Some(Wire::Tls(session)) => session.cipher().map(|suite| format!("{suite:?}")),
            _ => None,
        }
    }

    /// Sends a request and reads the answer. A connection that broke is not used again.
    pub(crate) async fn send(&mut self, request: &Request<'_>) -> Result<Reply> {
        let sent = timeout(PATIENCE, self.send_and_wait(request)).await;
        sent.unwrap_or_else(|_| bail!("{} {}: no answer", request.method, request.target))
    }

    async fn send_and_wait(&mut self, request: &Request<'_>) -> Result<Reply> {
        self.open().await.with_context(|| format!("connect to {}", self.origin.host))?;
        let Some(mut wire) = self.wire.take() else { bail!("not connected") };
        let sent = self.write(&mut wire, request).await;
        // A server may answer before it has read everything: what it said counts, not the broken write.
        let read = self.read(&mut wire, request).await;
        let reply = match (sent, read) {
            (Ok(()), Ok(reply)) => reply,
            (Err(_), Ok(reply)) => return Ok(reply),
            (Err(error), Err(_)) | (Ok(()), Err(error)) => {
                return Err(error).with_context(|| format!("{} {}", request.method, request.target));
            }
        };
        let closes = reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        if !closes {
            self.wire = Some(wire);
        }
        Ok(reply)
    }

    async fn write(&mut self, wire: &mut Wire, request: &Request<'_>) -> io::Result<()> {
        self.head.clear();
        write!(self.head, "{} {} HTTP/1.1\r\nHost: {}\r\n", request.method, request.target, self.origin.host)?;
        self.head.extend_from_slice(request.headers.as_bytes());
        match request.body {
            Body::Bytes(bytes) => write!(self.head, "Content-Length: {}\r\n", bytes.len())?,
            Body::Part { length, .. } => write!(self.head, "Content-Length: {length}\r\n")?,
            Body::Stream(_) => self.head.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Body::Empty if matches!(request.method, "POST" | "PUT" | "PATCH") => {
                self.head.extend_from_slice(b"Content-Length: 0\r\n");
            }
            Body::Empty => {}
        }
        self.head.extend_from_slice(b"\r\n");
        match request.body {
            // One write, so that a small request is one segment.
            Body::Bytes(bytes) => {
                self.head.extend_from_slice(bytes);
                wire.write_all(&self.head).await
            }
            Body::Empty => wire.write_all(&self.head).await,
            Body::Part { noise, offset, length } => {
                wire.write_all(&self.head).await?;
                self.write_part(wire, noise, offset, length).await
            }
            Body::Stream(noise) => {
                wire.write_all(&self.head).await?;
                self.write_chunks(wire, noise).await
            }
        }
    }

    async fn write_part(&mut self, wire: &mut Wire, noise: &Noise, offset: u64, length: u64) -> io::Result<()> {
        self.piece.resize(PIECE, 0);
        let (mut offset, end) = (offset, offset + length);
        while offset < end {
            let room = usize::try_from(end - offset).unwrap_or(PIECE).min(PIECE);
            let count = noise.fill(offset, &mut self.piece[..room]);
            if count == 0 {
                return Err(io::Error::other("a part beyond the end of its blob"));
            }
            wire.write_all(&self.piece[..count]).await?;
            offset += count as u64;
        }
        Ok(())
    }

    async fn write_chunks(&mut self, wire: &mut Wire, noise: &Noise) -> io::Result<()> {
        const LINE: usize = 16;
        self.piece.resize(LINE + PIECE + 2, 0);
        let mut offset = 0;
        while offset < noise.length {
            let count = noise.fill(offset, &mut self.piece[LINE..LINE + PIECE]);
            // The size goes right before the bytes: one write for each chunk.
            let line = format!("{count:x}\r\n");
            let from = LINE - line.len();
            self.piece[from..LINE].copy_from_slice(line.as_bytes());
            self.piece[LINE + count..LINE + count + 2].copy_from_slice(b"\r\n");
            wire.write_all(&self.piece[from..LINE + count + 2]).await?;
            offset += count as u64;
        }
        wire.write_all(b"0\r\n\r\n").await
    }

    async fn read(&mut self, wire: &mut Wire, request: &Request<'_>) -> io::Result<Reply> {
        let mut reply = Reply::default();
        while reply.status < 200 {
            reply.head = self.inbox.until(wire, b"\r\n\r\n").await?;
            let status = reply.head.split(' ').nth(1).and_then(|code| code.get(..3)).and_then(|code| code.parse().ok());
            reply.status = status.ok_or_else(|| io::Error::other(format!("not a status line: {}", reply.head)))?;
        }
        if request.method == "HEAD" || reply.status == 204 || reply.status == 304 {
            return Ok(reply);
        }
        let keep = request.keep || reply.status >= 400;
        let mut body = Vec::new();
        if reply.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            reply.length = self.read_chunks(wire, keep.then_some(&mut body)).await?;
        } else {
            let length = reply.header("content-length").and_then(|length| length.parse().ok());
            reply.length = length.ok_or_else(|| io::Error::other("an answer without a length"))?;
            if keep && reply.length > LONGEST_KEPT {
                return Err(io::Error::other("an answer too long to be kept"));
            }
            self.inbox.take(wire, reply.length, keep.then_some(&mut body)).await?;
        }
        reply.body = body;
        Ok(reply)
    }

    async fn read_chunks(&mut self, wire: &mut Wire, mut keep: Option<&mut Vec<u8>>) -> io::Result<u64> {
        let mut all = 0;
        loop {
            let line = self.inbox.until(wire, b"\r\n").await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(io::Error::other)?;
            if size == 0 {
                while !self.inbox.until(wire, b"\r\n").await?.is_empty() {}
                return Ok(all);
            }
            all += size;
            if keep.is_some() && all > LONGEST_KEPT {
                return Err(io::Error::other("an answer too long to be kept"));
            }
            self.inbox.take(wire, size, keep.as_deref_mut()).await?;
            self.inbox.until(wire, b"\r\n").await?;
        }
    }
}

/// The path and query of a `Location`, which may be absolute or not.
pub(crate) fn path_of(location: &str) -> &str {
    match location.split_once("://") {
        None => location,
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
    }
}

/// `path` with one more parameter.
pub(crate) fn with_query(path: &str, parameter: &str) -> String {
    format!("{path}{}{parameter}", if path.contains('?') { '&' } else { '?' })
}

/// A text as the value of a parameter.
pub(crate) fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Read as _;
    use std::net::TcpListener;

    use super::*;

    /// A server that answers each request (a head, and a body by `ends`) with the next of `replies`, in small pieces.
    fn serve(replies: Vec<&'static str>, ends: &[u8]) -> (Origin, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let ends = ends.to_vec();
        let thread = std::thread::spawn(move || {
            let (mut tcp, _) = listener.accept().unwrap();
            let mut all = Vec::new();
            for reply in replies {
                let (from, mut byte) = (all.len(), [0; 1]);
                while !all[from..].ends_with(&ends) {
                    assert_eq!(tcp.read(&mut byte).unwrap(), 1);
                    all.push(byte[0]);
                }
                for part in reply.as_bytes().chunks(7) {
                    tcp.write_all(part).unwrap();
                    tcp.flush().unwrap();
                }
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        (Origin::parse(&url, &trust(None).unwrap()).unwrap(), thread)
    }

    #[tokio::test]
    async fn answers_of_every_framing_are_read_on_one_connection() {
        let (origin, server) = serve(
            vec![
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDocker-Content-Digest: x\r\n\r\nhello",
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n",
                "HTTP/1.1 204 No Content\r\n\r\n",
                "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno",
            ],
            b"\r\n\r\n",
        );
        let mut connection = Connection::new(&origin);
        let reply = connection.send(&Request::new("GET", "/one").keep()).await.unwrap();
        assert_eq!(
            (reply.status, reply.header("docker-content-digest"), reply.body.as_slice()),
            (200, Some("x"), &b"hello"[..])
        );
        let reply = connection.send(&Request::new("GET", "/two")).await.unwrap();
        assert_eq!((reply.status, reply.length, reply.body.len()), (200, 13, 0), "counted, not kept");
        assert_eq!(connection.send(&Request::new("GET", "/three")).await.unwrap().status, 204);
        let reply = connection.send(&Request::new("GET", "/four")).await.unwrap();
        assert_eq!(reply.body, b"no", "what an error says is kept");
        assert!(reply.expect(&[200, 201]).unwrap_err().to_string().contains("404 no"));
        assert!(server.join().unwrap().starts_with("GET /one HTTP/1.1\r\nHost: 127.0.0.1:"));
    }

    #[tokio::test]
    async fn parts_and_streams_are_the_blob() {
        let noise = Noise::new(1, 100);
        let (origin, server) = serve(vec!["HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"], b"0\r\n\r\n");
        let request = Request::new("PATCH", "/u").body(Body::Stream(&noise));
        assert_eq!(Connection::new(&origin).send(&request).await.unwrap().status, 202);
        let seen = server.join().unwrap();
        assert!(seen.contains("Transfer-Encoding: chunked\r\n\r\n64\r\n") && seen.ends_with("\r\n0\r\n\r\n"));
        let (origin, server) = serve(vec!["HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"], &noise.bytes()[88..]);
        let request = Request::new("PUT", "/u").body(Body::Part { noise: &noise, offset: 88, length: 12 });
        assert_eq!(Connection::new(&origin).send(&request).await.unwrap().status, 202);
        assert!(server.join().unwrap().contains("Content-Length: 12\r\n\r\n"));
    }

    #[tokio::test]
    async fn an_answer_cut_short_is_an_error() {
        let (origin, server) = serve(vec!["HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"], b"\r\n\r\n");
        assert!(Connection::new(&origin).send(&Request::new("GET", "/")).await.is_err());
        server.join().unwrap();
    }

    #[test]
    fn locations_and_parameters() {
        assert_eq!(path_of("https://localhost:6000/v2/a?x=1"), "/v2/a?x=1");
        assert_eq!(path_of("/v2/a"), "/v2/a");
        assert_eq!(with_query("/a", "b=c"), "/a?b=c");
        assert_eq!(with_query("/a?x=1", "b=c"), "/a?x=1&b=c");
        assert_eq!(escaped("repository:a/b:pull,push"), "repository%3Aa%2Fb%3Apull%2Cpush");
        let config = trust(None).unwrap();
        assert!(Origin::parse("ftp://localhost", &config).is_err());
        assert!(Origin::parse("localhost:5000", &config).is_err());
        assert_eq!(Origin::parse("https://localhost:1234/x", &config).unwrap().addr.to_string(), "127.0.0.1:1234");
    }
}

//! An HTTP/1.1 client of one request a connection. It sends exactly what it is told to, so that
//! a test can repeat a header, lie about a length or stop in the middle.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};

/// Where to connect, and as whom to address the server.
#[derive(Clone, Debug)]
pub(crate) struct Endpoint {
    pub(crate) addr: SocketAddr,
    /// `hostname:port`, as sent in `Host`.
    pub(crate) host: String,
    /// The client configuration that trusts the server's root, when it speaks TLS.
    pub(crate) tls: Option<Arc<rustls::ClientConfig>>,
}

pub(crate) trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

impl Endpoint {
    pub(crate) fn url(&self) -> String {
        format!("{}://{}", if self.tls.is_some() { "https" } else { "http" }, self.host)
    }

    /// A connection ready for bytes.
    pub(crate) fn connect(&self) -> io::Result<Box<dyn Wire>> {
        let tcp = TcpStream::connect_timeout(&self.addr, Duration::from_secs(10))?;
        tcp.set_read_timeout(Some(Duration::from_secs(120)))?;
        tcp.set_write_timeout(Some(Duration::from_secs(120)))?;
        tcp.set_nodelay(true)?;
        match &self.tls {
            None => Ok(Box::new(tcp)),
            Some(config) => {
                let name = self.host.rsplit_once(':').map_or(self.host.as_str(), |(name, _)| name);
                let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
                let session = rustls::ClientConnection::new(config.clone(), name).map_err(io::Error::other)?;
                Ok(Box::new(rustls::StreamOwned::new(session, tcp)))
            }
        }
    }
}

/// A TLS configuration that trusts the one root in `pem`.
pub(crate) fn trust(pem: &[u8]) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        roots.add(certificate.expect("a PEM certificate")).expect("a usable root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

#[derive(Clone, Debug)]
enum Body {
    None,
    /// Sent with `Content-Length`.
    Sized(Vec<u8>),
    /// Sent with `Transfer-Encoding: chunked`, in pieces of at most 64 KiB.
    Chunked(Vec<u8>),
}

/// One request, built up and then sent.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Body,
}

impl Call {
    pub(crate) fn new(method: &str, target: impl Into<String>) -> Self {
        Self { method: method.to_owned(), target: target.into(), headers: Vec::new(), body: Body::None }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn head(target: impl Into<String>) -> Self {
        Self::new("HEAD", target)
    }

    pub(crate) fn post(target: impl Into<String>) -> Self {
        Self::new("POST", target)
    }

    pub(crate) fn put(target: impl Into<String>) -> Self {
        Self::new("PUT", target)
    }

    pub(crate) fn patch(target: impl Into<String>) -> Self {
        Self::new("PATCH", target)
    }

    pub(crate) fn delete(target: impl Into<String>) -> Self {
        Self::new("DELETE", target)
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn header_if(self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value { self.header(name, value) } else { self }
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn basic(self, user: &str, password: &str) -> Self {
        use base64::Engine as _;
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        self.header("Authorization", format!("Basic {pair}"))
    }

    pub(crate) fn body(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Sized(bytes.into());
        self
    }

    pub(crate) fn chunked(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.body = Body::Chunked(bytes.into());
        self
    }

    pub(crate) fn json(self, value: &serde_json::Value) -> Self {
        self.header("Content-Type", "application/json").body(value.to_string())
    }

    pub(crate) fn form(self, pairs: &[(&str, &str)]) -> Self {
        let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
        self.header("Content-Type", "application/x-www-form-urlencoded").body(text)
    }

    fn head_bytes(&self, host: &str) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            head.push_str(&format!("Host: {host}\r\n"));
        }
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        let framed = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        match &self.body {
            _ if framed => {}
            Body::Sized(bytes) => head.push_str(&format!("Content-Length: {}\r\n", bytes.len())),
            Body::Chunked(_) => head.push_str("Transfer-Encoding: chunked\r\n"),
            Body::None if matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") => {
                head.push_str("Content-Length: 0\r\n");
            }
            Body::None => {}
        }
        head.push_str("Connection: close\r\n\r\n");
        head.into_bytes()
    }

    /// The request as it goes over the wire.
    pub(crate) fn bytes(&self, host: &str) -> Vec<u8> {
        let mut all = self.head_bytes(host);
        match &self.body {
            Body::None => {}
            Body::Sized(bytes) => all.extend_from_slice(bytes),
            Body::Chunked(bytes) => {
                for piece in bytes.chunks(64 << 10) {
                    all.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    all.extend_from_slice(piece);
                    all.extend_from_slice(b"\r\n");
                }
                all.extend_from_slice(b"0\r\n\r\n");
            }
        }
        all
    }

    /// Sends the request and reads the reply; an error when the server closes without one.
    pub(crate) fn try_send(&self, endpoint: &Endpoint) -> io::Result<Reply> {
        let mut wire = endpoint.connect()?;
        exchange(wire.as_mut(), &self.bytes(&endpoint.host), self.method == "HEAD")
    }

    /// As [`Call::try_send`], for requests that must be answered.
    pub(crate) fn send(&self, endpoint: &Endpoint) -> Reply {
        self.try_send(endpoint).unwrap_or_else(|error| panic!("{} {}: {error}", self.method, self.target))
    }
}

/// Writes `request` and reads one reply. A server may answer before it has read all of the
/// request and then close: what it said counts, not the broken write.
pub(crate) fn exchange(wire: &mut dyn Wire, request: &[u8], head: bool) -> io::Result<Reply> {
    let written = wire.write_all(request).and_then(|()| wire.flush());
    match Reply::read(wire, head) {
        Ok(reply) => Ok(reply),
        Err(error) => Err(written.err().unwrap_or(error)),
    }
}

/// A reply, read to its end.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn read(wire: &mut dyn Wire, head: bool) -> io::Result<Self> {
        loop {
            let reply = Self::read_one(wire, head)?;
            if reply.status >= 200 {
                return Ok(reply);
            }
        }
    }

    fn read_one(wire: &mut dyn Wire, head: bool) -> io::Result<Self> {
        let mut raw = Vec::new();
        let mut byte = [0u8; 1];
        while !raw.ends_with(b"\r\n\r\n") {
            if wire.read(&mut byte)? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed before a reply"));
            }
            raw.push(byte[0]);
        }
        let text = String::from_utf8(raw).map_err(io::Error::other)?;
        let mut lines = text.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
        let status: u16 = status.ok_or_else(|| io::Error::other(format!("not a status line: {text}")))?;
        let headers: Vec<(String, String)> = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut reply = Self { status, headers, body: Vec::new() };
        if head || status < 200 || status == 204 || status == 304 {
            return Ok(reply);
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            reply.body = read_chunked(wire)?;
        } else if let Some(length) = reply.header("content-length") {
            let length: usize = length.parse().map_err(io::Error::other)?;
            reply.body = vec![0; length];
            wire.read_exact(&mut reply.body)?;
        } else {
            wire.read_to_end(&mut reply.body)?;
        }
        Ok(reply)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {}, not JSON ({error}): {}", self.status, self.text()))
    }

    /// The reply, if its status is `status`.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        let body: String = self.text().chars().filter(|each| !each.is_control()).take(600).collect();
        assert_eq!(self.status, status, "headers {:?}, body {body}", self.headers);
        self
    }

    /// The `code` of the first error in a specification error body.
    pub(crate) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Expects `status` with a specification error of `code`, and a message that says something.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, code: &str) -> Self {
        let reply = self.expect(status);
        assert_eq!(reply.code(), code, "{}", reply.text());
        let message = reply.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned();
        assert!(!message.is_empty(), "an error without a message: {}", reply.text());
        reply
    }
}

fn read_chunked(wire: &mut dyn Wire) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let line = read_line(wire)?;
        let size = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16);
        let size = size.map_err(io::Error::other)?;
        if size == 0 {
            while !read_line(wire)?.is_empty() {}
            return Ok(all);
        }
        let start = all.len();
        all.resize(start + size, 0);
        wire.read_exact(&mut all[start..])?;
        read_line(wire)?;
    }
}

fn read_line(wire: &mut dyn Wire) -> io::Result<String> {
    let mut line = Vec::new();
    let mut byte = [0u8; 1];
    loop {
        if wire.read(&mut byte)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match byte[0] {
            b'\n' => return String::from_utf8(line).map_err(io::Error::other),
            b'\r' => {}
            other => line.push(other),
        }
    }
}

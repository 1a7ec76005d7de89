//! What every request of every service goes through: a name, bounds on its head, health, the service's own router, and
//! one line in the log and the metrics when the last byte is out.

use std::borrow::Cow;
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use identity::audit::{Client, Origin};
use prometheus_client::metrics::counter::Counter;
use tower::ServiceExt;
use tracing::Instrument;

use crate::health::Health;
use crate::metrics::{Answered, InFlight, Metrics};
use crate::proxies::Proxies;
use crate::request_id::{self, X_REQUEST_ID};

/// Longest path with query. Names, digests, ten tags and an upload's URL need a tenth of it.
const MAX_TARGET: usize = 8 << 10;
/// Most bytes of header names and values. A bearer token for 32 scopes needs a fifth of it.
const MAX_HEADERS: usize = 32 << 10;
/// What is recorded of a request whose client went away before the answer, as nginx does.
const GONE: u16 = 499;
/// A path or user agent is cut to this in the log.
const MAX_LOGGED: usize = 512;

/// One of the services, as the listeners see it; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Surface(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: &'static str,
    router: Router,
    health: Health,
    metrics: Metrics,
    proxies: Proxies,
}

/// In a response's extensions: the pattern of the route that matched.
#[derive(Debug, Clone)]
struct RouteLabel(MatchedPath);

impl Surface {
    /// A service of that name.
    pub(crate) fn new(name: &'static str, router: Router, health: Health, metrics: Metrics) -> Self {
        Self::behind(Proxies::default(), name, router, health, metrics)
    }

    /// A service of that name, behind proxies that are believed.
    pub(crate) fn behind(
        proxies: Proxies,
        name: &'static str,
        router: Router,
        health: Health,
        metrics: Metrics,
    ) -> Self {
        // The registry has no routes, and says itself what each request was.
        let router = if router.has_routes() { router.layer(axum::middleware::from_fn(label)) } else { router };
        Self(Arc::new(Inner { name, router, health, metrics, proxies }))
    }

    /// Its name in logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        self.0.name
    }

    /// Counts a connection in until the guard is dropped.
    pub(crate) fn connection_open(&self) -> InFlight {
        self.0.metrics.connection_open(self.0.name)
    }

    /// Counts bytes that its connections send straight from files.
    pub(crate) fn sent_from_files(&self) -> Counter {
        self.0.metrics.sent_from_files(self.0.name)
    }

    /// Answers one request. Never fails: a handler that panics is a 500.
    pub(crate) async fn answer<B>(self, peer: SocketAddr, mut request: Request<B>) -> Result<Response, Infallible>
    where
        B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let id = request_id::of(request.headers());
        let received = Arc::new(AtomicU64::new(0));
        let client = self.0.proxies.client(peer.ip(), request.headers_mut());
        let mut record = Record::begin(&self, client, peer, &request, &id, Arc::clone(&received));
        let mut request = request.map(|body| Body::new(Counted { body, count: received }));
        request.extensions_mut().insert(ConnectInfo(peer));
        request.extensions_mut().insert(Origin {
            client: if self.0.name == "controller" { Client::Api } else { Client::Docker },
            address: Some(client),
            agent: record.agent.clone(),
            request_id: record_id(&id),
        });
        let span = tracing::info_span!("request", request.id = id.to_str().unwrap_or_default());
        let mut response = self.respond(request).instrument(span).await;
        response.headers_mut().insert(&X_REQUEST_ID, id);
        record.answered(&response);
        Ok(response.map(|body| Body::new(Recorded { expected: body.size_hint().exact(), body, record })))
    }

    async fn respond(&self, request: Request<Body>) -> Response {
        if let Some(refusal) = oversized(&request) {
            return refusal;
        }
        if matches!(*request.method(), Method::GET | Method::HEAD)
            && let Some((status, text)) = self.0.health.answer(request.uri().path()).await
        {
            return (status, [(header::CACHE_CONTROL, "no-store")], text).into_response();
        }
        match AssertUnwindSafe(self.0.router.clone().oneshot(request)).catch_unwind().await {
            Ok(Ok(response)) => response,
            Ok(Err(never)) => match never {},
            // The panic hook has logged it.
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error\n").into_response(),
        }
    }
}

fn record_id(id: &HeaderValue) -> String {
    id.to_str().unwrap_or_default().to_owned()
}

/// Notes which route matched, where the services' own middleware cannot be asked.
async fn label(matched: Option<MatchedPath>, request: axum::extract::Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    if let Some(matched) = matched {
        response.extensions_mut().insert(RouteLabel(matched));
    }
    response
}

/// Refuses heads that nobody honest sends (RFC 9110 §15.5.15, RFC 6585 §5).
fn oversized<B>(request: &Request<B>) -> Option<Response> {
    if request.uri().path_and_query().map_or(0, |target| target.as_str().len()) > MAX_TARGET {
        return Some((StatusCode::URI_TOO_LONG, "the URL is too long\n").into_response());
    }
    let size: usize = request.headers().iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    (size > MAX_HEADERS)
        .then(|| (StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "the headers are too large\n").into_response())
}

/// Counts a request body's bytes as they are read.
struct Counted<B> {
    body: B,
    count: Arc<AtomicU64>,
}

impl<B: http_body::Body<Data = Bytes> + Unpin> http_body::Body for Counted<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(data) = frame.data_ref()
        {
            self.count.fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response body that writes its request's record when it is done with, or dropped.
struct Recorded {
    body: Body,
    expected: Option<u64>,
    record: Record,
}

impl http_body::Body for Recorded {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => self.record.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            Poll::Ready(None) => self.record.complete = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        // hyper does not ask for more once the announced length is out.
        self.record.complete |= self.body.is_end_stream() || self.expected == Some(self.record.sent);
    }
}

/// What is known of a request; writes its line when dropped, so that one whose client went away is seen as well.
struct Record {
    surface: Surface,
    /// Who asks.
    client: IpAddr,
    /// Who is connected: the client, or a trusted proxy.
    peer: SocketAddr,
    id: HeaderValue,
    method: Method,
    path: String,
    agent: String,
    started: Instant,
    status: u16,
    route: Cow<'static, str>,
    received: Arc<AtomicU64>,
    sent: u64,
    complete: bool,
    _in_flight: InFlight,
}

impl Record {
    fn begin<B>(
        surface: &Surface,
        client: IpAddr,
        peer: SocketAddr,
        request: &Request<B>,
        id: &HeaderValue,
        received: Arc<AtomicU64>,
    ) -> Self {
        Self {
            surface: surface.clone(),
            client,
            peer,
            id: id.clone(),
            method: request.method().clone(),
            path: loggable(request.uri().path()),
            agent: agent(request.headers()),
            started: Instant::now(),
            status: GONE,
            route: "unknown".into(),
            received,
            sent: 0,
            complete: false,
            _in_flight: surface.0.metrics.request_in_flight(surface.0.name),
        }
    }

    fn answered(&mut self, response: &Response) {
        self.status = response.status().as_u16();
        // An answer to HEAD has a length and no body.
        self.complete = self.method == Method::HEAD;
        let extensions = response.extensions();
        if let Some(registry::ActionLabel(label)) = extensions.get() {
            self.route = (*label).into();
        } else if let Some(RouteLabel(matched)) = extensions.get() {
            self.route = matched.as_str().to_owned().into();
        } else if matches!(self.path.as_str(), "/healthz" | "/readyz") {
            self.route = self.path.clone().into();
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let took = self.started.elapsed();
        let received = self.received.load(Ordering::Relaxed);
        let method = known(&self.method);
        self.surface.0.metrics.answered(&Answered {
            service: self.surface.0.name,
            route: &self.route,
            method,
            status: self.status,
            took,
            received,
            sent: self.sent,
        });
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    service.name = self.surface.0.name,
                    request.id = self.id.to_str().unwrap_or_default(),
                    client.address = %self.client,
                    peer.address = %self.peer.ip().to_canonical(),
                    peer.port = self.peer.port(),
                    http.method = method,
                    url.path = self.path,
                    http.route = &*self.route,
                    http.status = self.status,
                    http.complete = self.complete,
                    http.received_bytes = received,
                    http.sent_bytes = self.sent,
                    duration_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
                    user_agent = self.agent,
                    "request"
                )
            };
        }
        // Probes come every few seconds, for ever.
        if matches!(&*self.route, "/healthz" | "/readyz" | "/metrics") { line!(debug) } else { line!(info) }
    }
}

/// The path without what must not be in a log: an upload's URL ends in `<id>.<capability>`.
fn loggable(path: &str) -> String {
    let path = cut(path);
    match path.rfind("/blobs/uploads/") {
        Some(at) => {
            let secret = path[at..].find('.').map_or(path.len(), |dot| at + dot);
            path[..secret].to_owned()
        }
        None => path.to_owned(),
    }
}

fn agent(headers: &HeaderMap) -> String {
    let value = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    cut(value).to_owned()
}

/// The first [`MAX_LOGGED`] characters.
fn cut(text: &str) -> &str {
    let end = text.char_indices().nth(MAX_LOGGED).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

/// A label that a client cannot make up.
fn known(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests;

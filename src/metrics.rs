//! What Prometheus may know: counts, durations and bytes by service, route and status; never a name of a tenant.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// Seconds: from a cached answer to a large blob on a slow line.
const BUCKETS: [f64; 15] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0, 600.0];

/// Every metric of the process; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    started: Instant,
    uptime: Gauge<f64, AtomicU64>,
    requests: Family<Request, Counter>,
    durations: Family<Route, Histogram>,
    in_flight: Family<Service, Gauge>,
    connections: Family<Service, Gauge>,
    received: Family<Service, Counter>,
    sent: Family<Service, Counter>,
    sent_from_files: Family<Service, Counter>,
    tasks: Family<Task, Counter>,
    collected_blobs: Counter,
    collected_bytes: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    service: &'static str,
    route: Cow<'static, str>,
    method: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Route {
    service: &'static str,
    route: Cow<'static, str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    service: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Task {
    task: &'static str,
    outcome: &'static str,
}

/// One answered request.
#[derive(Debug)]
pub(crate) struct Answered<'a> {
    /// The service that answered.
    pub(crate) service: &'static str,
    /// The class of the request: a route's pattern, an action's name.
    pub(crate) route: &'a Cow<'static, str>,
    /// The method, if it is a known one.
    pub(crate) method: &'static str,
    /// The status.
    pub(crate) status: u16,
    /// Time from the request's head to the answer's last byte.
    pub(crate) took: Duration,
    /// Body bytes read.
    pub(crate) received: u64,
    /// Body bytes written.
    pub(crate) sent: u64,
}

impl Metrics {
    /// An empty set. `now` is when the process started (unix seconds).
    pub(crate) fn new(now: i64) -> Self {
        let mut registry = Registry::with_prefix("wharfinger");
        let uptime = Gauge::default();
        registry.register_with_unit("uptime", "Time since the process started", Unit::Seconds, uptime.clone());
        let started: Gauge = Gauge::default();
        started.set(now);
        registry.register_with_unit("start_time", "When the process started (unix time)", Unit::Seconds, started);
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The program", build);
        let durations = Family::<Route, Histogram>::new_with_constructor(|| Histogram::new(BUCKETS));
        let inner = Inner {
            started: Instant::now(),
            uptime,
            requests: Family::default(),
            durations,
            in_flight: Family::default(),
            connections: Family::default(),
            received: Family::default(),
            sent: Family::default(),
            sent_from_files: Family::default(),
            tasks: Family::default(),
            collected_blobs: Counter::default(),
            collected_bytes: Counter::default(),
            registry,
        };
        Self(Arc::new(inner.registered()))
    }

    /// Counts an answered request.
    pub(crate) fn answered(&self, answered: &Answered<'_>) {
        let Answered { service, route, method, status, took, received, sent } = *answered;
        let request = Request { service, route: route.clone(), method, status };
        self.0.requests.get_or_create(&request).inc();
        let route = Route { service, route: route.clone() };
        self.0.durations.get_or_create(&route).observe(took.as_secs_f64());
        self.0.received.get_or_create(&Service { service }).inc_by(received);
        self.0.sent.get_or_create(&Service { service }).inc_by(sent);
    }

    /// Counts a request in until the guard is dropped.
    pub(crate) fn request_in_flight(&self, service: &'static str) -> InFlight {
        InFlight::new(self.0.in_flight.get_or_create_owned(&Service { service }))
    }

    /// Counts a connection in until the guard is dropped.
    pub(crate) fn connection_open(&self, service: &'static str) -> InFlight {
        InFlight::new(self.0.connections.get_or_create_owned(&Service { service }))
    }

    /// Counts bytes that a service's connections send straight from files.
    pub(crate) fn sent_from_files(&self, service: &'static str) -> Counter {
        self.0.sent_from_files.get_or_create_owned(&Service { service })
    }

    /// Counts a run of a background task.
    pub(crate) fn task_ran(&self, task: &'static str, well: bool) {
        self.0.tasks.get_or_create(&Task { task, outcome: if well { "ok" } else { "error" } }).inc();
    }

    /// Counts what a garbage collection took away.
    pub(crate) fn collected(&self, blobs: u64, bytes: u64) {
        self.0.collected_blobs.inc_by(blobs);
        self.0.collected_bytes.inc_by(bytes);
    }

    /// Everything, in the `OpenMetrics` text format.
    pub(crate) fn text(&self) -> String {
        self.0.uptime.set(self.0.started.elapsed().as_secs_f64());
        let mut text = String::new();
        // Writing into a String does not fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }
}

impl Inner {
    fn registered(mut self) -> Self {
        let r = &mut self.registry;
        r.register("http_requests", "Requests answered", self.requests.clone());
        r.register_with_unit(
            "http_request_duration",
            "Time from a request's head to its answer's last byte",
            Unit::Seconds,
            self.durations.clone(),
        );
        r.register("http_requests_in_flight", "Requests being answered", self.in_flight.clone());
        r.register("connections", "Open connections", self.connections.clone());
        r.register_with_unit("http_received", "Body bytes read", Unit::Bytes, self.received.clone());
        r.register_with_unit("http_sent", "Body bytes written", Unit::Bytes, self.sent.clone());
        r.register_with_unit(
            "http_sent_from_files",
            "Body bytes that the system moved from a file to a connection without TLS by itself",
            Unit::Bytes,
            self.sent_from_files.clone(),
        );
        r.register("background_runs", "Runs of background tasks", self.tasks.clone());
        r.register("gc_blobs_removed", "Blobs that garbage collection removed", self.collected_blobs.clone());
        r.register_with_unit(
            "gc_freed",
            "Content bytes that garbage collection freed",
            Unit::Bytes,
            self.collected_bytes.clone(),
        );
        self
    }
}

/// Keeps a gauge one higher while it lives.
#[derive(Debug)]
pub(crate) struct InFlight(Gauge);

impl InFlight {
    fn new(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answered_requests_are_counted_by_what_they_were() {
        let metrics = Metrics::new(0);
        let answered = Answered {
            service: "registry",
            route: &"get_blob".into(),
            method: "GET",
            status: 200,
            took: Duration::from_millis(3),
            received: 0,
            sent: 7,
        };
        metrics.answered(&answered);
        metrics.answered(&answered);
        let guard = metrics.request_in_flight("registry");
        let text = metrics.text();
        let line = r#"wharfinger_http_requests_total{service="registry",route="get_blob",method="GET",status="200"} 2"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains(r#"wharfinger_http_sent_bytes_total{service="registry"} 14"#), "{text}");
        assert!(text.contains(r#"wharfinger_http_requests_in_flight{service="registry"} 1"#), "{text}");
        drop(guard);
        assert!(metrics.text().contains(r#"wharfinger_http_requests_in_flight{service="registry"} 0"#));
    }
}

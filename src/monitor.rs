//! The admin listener: metrics and health, in plain HTTP, on loopback unless someone says otherwise.

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::get;
use http::header;

use crate::metrics::Metrics;

/// Routes of the admin listener. Health is answered before the router is asked.
pub(crate) fn router(metrics: Metrics) -> Router {
    Router::new().route("/metrics", get(text)).with_state(metrics)
}

async fn text(State(metrics): State<Metrics>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], metrics.text())
}

#![allow(clippy::unwrap_used)]

use axum::routing::{get, post};
use http_body_util::BodyExt;
use storage::Db;

use super::*;

async fn surface() -> (tempfile::TempDir, Surface, Metrics) {
    let dir = tempfile::tempdir().unwrap();
    let db = Db::connect(&format!("sqlite://{}", dir.path().join("t.db").display())).await.unwrap();
    let router = Router::new()
        .route("/things/{name}", get(|| async { "seven b" }))
        .route("/read", post(|body: String| async move { body.len().to_string() }))
        .route("/panic", get(|| async { panic!("on purpose") as () }));
    let metrics = Metrics::new(0);
    let surface = Surface::new("test", router, Health::new(db, None), metrics.clone());
    (dir, surface, metrics)
}

fn peer() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 9))
}

async fn call(surface: &Surface, request: Request<Body>) -> (StatusCode, HeaderMap, Bytes) {
    let response = surface.clone().answer(peer(), request).await.unwrap();
    let (parts, body) = response.into_parts();
    (parts.status, parts.headers, body.collect().await.unwrap().to_bytes())
}

fn get_request(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

#[tokio::test]
async fn a_request_is_named_and_counted_by_its_route() {
    let (_dir, surface, metrics) = surface().await;
    let (status, headers, body) = call(&surface, get_request("/things/secret-name?token=x")).await;
    assert_eq!((status, body.as_ref()), (StatusCode::OK, &b"seven b"[..]));
    assert_eq!(headers[&X_REQUEST_ID].len(), 26);
    let text = metrics.text();
    assert!(text.contains(r#"route="/things/{name}",method="GET",status="200"} 1"#), "{text}");
    assert!(text.contains(r#"http_sent_bytes_total{service="test"} 7"#), "{text}");
    assert!(!text.contains("secret-name"));
}

#[tokio::test]
async fn a_body_is_counted_as_it_is_read() {
    let (_dir, surface, metrics) = surface().await;
    let request = Request::post("/read").body(Body::from("12345")).unwrap();
    assert_eq!(call(&surface, request).await.2, "5");
    assert!(metrics.text().contains(r#"http_received_bytes_total{service="test"} 5"#));
}

#[tokio::test]
async fn a_panic_is_a_500_and_the_next_request_is_served() {
    let (_dir, surface, _) = surface().await;
    assert_eq!(call(&surface, get_request("/panic")).await.0, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(call(&surface, get_request("/things/a")).await.0, StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_goes_away_is_counted_too() {
    let (_dir, surface, metrics) = surface().await;
    let never =
        Request::post("/read").body(Body::from_stream(futures_util::stream::pending::<std::io::Result<Bytes>>()));
    let waiting = surface.clone().answer(peer(), never.unwrap());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(20), waiting).await.is_err());
    let text = metrics.text();
    assert!(text.contains(r#"method="POST",status="499"} 1"#), "{text}");
    assert!(text.contains(r#"http_requests_in_flight{service="test"} 0"#), "{text}");
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused() {
    let (_dir, surface, _) = surface().await;
    let long = format!("/things/{}", "a".repeat(MAX_TARGET));
    assert_eq!(call(&surface, get_request(&long)).await.0, StatusCode::URI_TOO_LONG);
    let mut request = get_request("/things/a");
    request.headers_mut().insert("x-large", HeaderValue::from_str(&"a".repeat(MAX_HEADERS)).unwrap());
    assert_eq!(call(&surface, request).await.0, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn health_is_answered_on_every_service() {
    let (_dir, surface, _) = surface().await;
    assert_eq!(call(&surface, get_request("/healthz")).await.0, StatusCode::OK);
    assert_eq!(call(&surface, get_request("/readyz")).await.0, StatusCode::OK);
}

#[test]
fn the_capability_of_an_upload_is_not_logged() {
    assert_eq!(loggable("/v2/a/b/blobs/uploads/01abc.0123456789abcdef"), "/v2/a/b/blobs/uploads/01abc");
    assert_eq!(loggable("/v2/a.b/c/manifests/v1.2"), "/v2/a.b/c/manifests/v1.2");
    assert_eq!(loggable(&"é".repeat(2000)).chars().count(), MAX_LOGGED);
}

#[tokio::test]
async fn the_address_is_the_clients_and_a_strangers_word_is_dropped() {
    async fn seen(request: Request<Body>) -> String {
        let origin = request.extensions().get::<Origin>().unwrap();
        let proto = request.headers().get("x-forwarded-proto").and_then(|value| value.to_str().ok());
        format!("{} {}", origin.address.unwrap(), proto.unwrap_or("-"))
    }
    let dir = tempfile::tempdir().unwrap();
    let db = Db::connect(&format!("sqlite://{}", dir.path().join("t.db").display())).await.unwrap();
    for (proxies, answer) in [("127.0.0.0/8", "198.51.100.1 https"), ("10.0.0.0/8", "127.0.0.1 -")] {
        let router = Router::new().route("/", get(seen));
        let (health, metrics) = (Health::new(db.clone(), None), Metrics::new(0));
        let surface = Surface::behind(proxies.parse().unwrap(), "test", router, health, metrics);
        let mut request = get_request("/");
        request.headers_mut().insert("x-forwarded-for", HeaderValue::from_static("8.8.8.8, 198.51.100.1"));
        request.headers_mut().insert("x-forwarded-proto", HeaderValue::from_static("https"));
        assert_eq!(call(&surface, request).await.2, answer);
    }
}

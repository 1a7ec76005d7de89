//! Which sites' pages may send requests that change something: the controller's own.
//!
//! Browsers say in `Origin` whose page makes a request (Fetch standard, "origin header"). The session's token and the JSON
//! bodies keep other sites' forms out already; this holds where one of these fails, and at the log-in, which has no token yet.

use axum::extract::{Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, Method, Uri, header};

use crate::State;
use crate::error::Error;

/// Refuses what would change something and comes from a page of another site. Programs send no `Origin`.
pub(crate) async fn own_pages_only(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    if !safe && is_foreign(request.headers(), request.uri(), state.identity().controller_url()) {
        return Error::Forbidden("this request comes from a page of another site").into_response();
    }
    next.run(request).await
}

/// Whether the page that makes the request is neither of the host that it is sent to nor of the controller's own URL.
fn is_foreign(headers: &HeaderMap, uri: &Uri, own: &str) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin = origin.to_str().unwrap_or_default();
    if origin.eq_ignore_ascii_case(own.trim_end_matches('/')) {
        return false;
    }
    let Some((scheme, authority)) = origin.split_once("://") else { return true };
    // Whoever is on the way can make a plain page of the same name.
    let secured = own.strip_prefix("https://").map(|own| own.trim_end_matches('/'));
    if scheme == "http" && secured.is_some_and(|own| own.eq_ignore_ascii_case(authority)) {
        return true;
    }
    let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let named = named.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    !named.is_some_and(|host| host.eq_ignore_ascii_case(authority))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pages_of_the_host_and_of_the_own_url_are_the_controllers() {
        let foreign = |origin: Option<&str>, host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            is_foreign(&headers, &Uri::from_static("/api/v1/login"), "https://harbour.example/")
        };
        assert!(!foreign(None, "localhost"));
        assert!(!foreign(Some("https://harbour.example"), "inner:8443"));
        assert!(!foreign(Some("http://localhost:8443"), "localhost:8443"));
        for origin in
            ["https://evil.example", "null", "", "http://localhost:8443.evil.example", "http://localhost", "file://"]
        {
            assert!(foreign(Some(origin), "localhost:8443"), "{origin}");
        }
        // The same name, but by plain HTTP.
        assert!(foreign(Some("http://harbour.example"), "harbour.example"));
        assert!(!foreign(Some("https://harbour.example"), "harbour.example"));
    }
}

//! `/login`, `/device`, `/password-reset`: small pages of files that lie beside this one. They know nothing but the public
//! API, hold no text of anybody's, and load nothing but their own script and style.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header;

use crate::State;

static LOGIN: &str = include_str!("pages/login.html");
static DEVICE: &str = include_str!("pages/device.html");
static PASSWORD_RESET: &str = include_str!("pages/password_reset.html");
static SCRIPT: &str = include_str!("pages/pages.js");
static STYLE: &str = include_str!("pages/style.css");

/// What a page may do: run its own script, look as its own style says, ask this server. No form is sent anywhere, the script
/// does it; no other page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'none'; \
                      base-uri 'none'; frame-ancestors 'none'";

/// The pages' routes.
pub(crate) fn router() -> Router<State> {
    Router::new()
        .route("/login", get(async || page(LOGIN)))
        .route("/device", get(async || page(DEVICE)))
        .route("/password-reset", get(async || page(PASSWORD_RESET)))
        .route("/pages/pages.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/pages/style.css", get(async || file("text/css; charset=utf-8", STYLE)))
}

fn page(text: &'static str) -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, text).into_response()
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text).into_response()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use http::Request;

    use super::*;
    use crate::testing::Controller;

    #[tokio::test]
    async fn pages_load_their_own_files_alone_and_are_framed_by_nobody() {
        let controller = Controller::start().await;
        for path in ["/login", "/device", "/device?code=BCDF-GHJK", "/password-reset"] {
            let reply = controller.send(Request::get(path).body(Body::empty()).unwrap()).await.expect(200);
            let policy = reply.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
                assert!(policy.contains(part), "{policy}");
            }
            assert!(!policy.contains("unsafe"));
            assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
            assert_eq!(reply.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        }
        for path in ["/pages/pages.js", "/pages/style.css"] {
            controller.send(Request::get(path).body(Body::empty()).unwrap()).await.expect(200);
        }
    }

    #[test]
    fn nothing_in_a_page_is_inline_unlabelled_or_from_elsewhere() {
        for page in [LOGIN, DEVICE, PASSWORD_RESET] {
            for forbidden in ["style=", " onclick", " onsubmit", "<style", "javascript:", "http://", "https://"] {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
            assert_eq!(
                page.matches("<script").count(),
                page.matches("<script src=\"/pages/pages.js\" defer></script>").count()
            );
            for (at, _) in page.match_indices("<input id=\"").chain(page.match_indices("<select id=\"")) {
                let id = page[at..].split('"').nth(1).unwrap();
                assert!(page.contains(&format!("<label for=\"{id}\">")), "{id} has no label");
            }
        }
        for forbidden in ["innerHTML", "insertAdjacentHTML", "document.write", "eval(", "localStorage"] {
            assert!(!SCRIPT.contains(forbidden), "{forbidden}");
        }
    }
}

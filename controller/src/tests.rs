//! What holds for every route, and the ways in.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use axum::body::Body;
use futures_util::{StreamExt, stream};
use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::routes::{Access, ROUTES, Route};
use crate::testing::{ADMIN, Caller, Controller, OPERATOR, PASSWORD, temporary_password};
use crate::tries::{body, path};

fn method(route: &Route) -> Method {
    route.method.to_uppercase().parse().unwrap()
}

#[tokio::test]
async fn without_credentials_every_route_is_401() {
    let controller = Controller::start().await;
    for route in ROUTES.iter().filter(|route| route.access != Access::Anyone) {
        for caller in [Caller::Nobody, Caller::Key("ra2.nonsense".into()), Caller::Key("other.token".into())] {
            let reply = controller.call(&caller, method(route), &path(route, "main"), &body(route, "main")).await;
            assert_eq!(reply.status, 401, "{route:?}: {}", reply.body);
            assert_eq!(reply.headers[header::WWW_AUTHENTICATE], "Bearer realm=\"wharfinger\"");
        }
    }
}

#[tokio::test]
async fn the_operator_sees_that_organizations_exist_and_nothing_in_them() {
    let controller = Controller::start().await;
    let operator = controller.login(OPERATOR).await;
    controller.get(&operator, "/orgs/main").await.expect(200);
    for route in ROUTES.iter().filter(|route| route.path.starts_with("/orgs/{org}/")) {
        let reply = controller.call(&operator, method(route), &path(route, "main"), &body(route, "main")).await;
        assert!(matches!(reply.status.as_u16(), 403 | 404), "{route:?}: {} {}", reply.status, reply.body);
    }
}

#[tokio::test]
async fn a_member_without_a_role_sees_nothing() {
    let controller = Controller::start().await;
    let member = controller.member("new@example.com", None).await;
    for route in ROUTES.iter().filter(|route| route.path.starts_with("/orgs/{org}")) {
        let reply = controller.call(&member, method(route), &path(route, "main"), &body(route, "main")).await;
        assert_eq!(reply.status, 404, "{route:?}: {}", reply.body);
    }
    assert_eq!(controller.get(&member, "/orgs").await.expect(200).body["items"], json!([]));
}

#[tokio::test]
async fn a_page_that_refreshes_itself_holds_off_no_idle_log_out() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let change = json!({"idle_logout_minutes": 10});
    controller.call(&admin, Method::PATCH, "/orgs/main/settings", &change).await.expect(200);
    let Caller::Session { cookie, .. } = &admin else { unreachable!() };
    let refresh = async |path: &str| {
        let request = Request::get(path).header(header::COOKIE, cookie).header("x-refresh", "1");
        controller.send(request.body(Body::empty()).unwrap()).await
    };
    let (page, api) = ("/orgs/main/audit?live=1", "/api/v1/orgs/main/audit");
    for _ in 0..9 {
        controller.clock.advance(60);
        refresh(page).await.expect(200);
        refresh(api).await.expect(200);
    }
    // Somebody is there, and then nobody.
    controller.page(&admin, page).await.expect(200);
    for _ in 0..9 {
        controller.clock.advance(60);
        refresh(page).await.expect(200);
    }
    controller.clock.advance(60);
    let led = refresh(page).await.expect(303);
    assert!(led.headers["location"].to_str().unwrap().starts_with("/login"));
    refresh(api).await.expect(401);
    // A change is one, whatever it says.
    let admin = controller.login(ADMIN).await;
    controller.clock.advance(500);
    let new = json!({"slug": "fresh"});
    controller.call_with(&admin, Method::POST, "/orgs/main/projects", &new, &[("x-refresh", "1")]).await.expect(201);
    controller.clock.advance(500);
    controller.get(&admin, "/orgs/main").await.expect(200);
}

#[tokio::test]
async fn who_is_shut_out_while_their_body_is_held_back_changes_nothing() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    for (at, (path, kind, first, last)) in [
        ("/api/v1/orgs/main/groups", "application/json", "{\"name\": \"crew\"", "}"),
        ("/orgs/main/groups", "application/x-www-form-urlencoded", "name=crew&description", "="),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("second{at}@example.com");
        let second = controller.member(&name, Some(("ADMIN", None))).await;
        let Caller::Session { cookie, csrf } = &second else { unreachable!() };
        let (let_go, held) = tokio::sync::oneshot::channel::<()>();
        let pieces = stream::once(async move { first }).chain(stream::once(async move {
            held.await.unwrap();
            last
        }));
        let body = Body::from_stream(pieces.map(|piece| Ok::<_, std::convert::Infallible>(piece.as_bytes())));
        let request = Request::post(path).header(header::COOKIE, cookie).header("x-csrf-token", csrf);
        let sent = controller.send(request.header(header::CONTENT_TYPE, kind).body(body).unwrap());
        let shut_out = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            let out = controller.post(&admin, &format!("/orgs/main/users/{name}/deactivate"), &Value::Null).await;
            assert!(out.status.is_success(), "{}", out.body);
            let_go.send(()).unwrap();
        };
        let (reply, ()) = tokio::join!(sent, shut_out);
        assert!(matches!(reply.status.as_u16(), 401 | 303), "{path}: {} {}", reply.status, reply.body);
        let groups = controller.get(&admin, "/orgs/main/groups").await.expect(200);
        assert!(!groups.body.to_string().contains("crew"), "{path}");
    }
}

#[tokio::test]
async fn no_name_in_a_path_is_one_that_browsers_take_for_a_folder() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let operator = controller.login(OPERATOR).await;
    let made = controller.post(&admin, "/orgs/main/groups", &json!({"name": "crew"})).await.expect(201);
    let version = made.headers[header::ETAG].to_str().unwrap().to_owned();
    for dots in [".", "..", " .. "] {
        for (path, new) in [
            ("/orgs/main/groups", json!({"name": dots})),
            ("/orgs/main/roles", json!({"name": dots, "base": "PROJECT_READ_ONLY"})),
            ("/orgs/main/users", json!({"name": dots, "kind": "machine"})),
            ("/orgs/main/projects", json!({"slug": dots})),
        ] {
            let refused = controller.post(&admin, path, &new).await.expect(422);
            assert!(!refused.text("detail").is_empty(), "{path}");
        }
        controller.post(&operator, "/orgs", &json!({"slug": dots, "name": "x"})).await.expect(422);
        let rename = json!({"name": dots});
        let headers = [("if-match", version.as_str())];
        let refused = controller.call_with(&admin, Method::PATCH, "/orgs/main/groups/crew", &rename, &headers).await;
        assert!(refused.expect(422).text("detail").contains("dots"));
    }
}

#[tokio::test]
async fn a_session_needs_its_token_where_it_changes_something() {
    let controller = Controller::start().await;
    let Caller::Session { cookie, csrf } = controller.login(ADMIN).await else { unreachable!() };
    let other = controller.login(ADMIN).await;
    let Caller::Session { csrf: others, .. } = other else { unreachable!() };
    for wrong in [String::new(), others, csrf.to_uppercase()] {
        let caller = Caller::Session { cookie: cookie.clone(), csrf: wrong };
        let reply = controller.post(&caller, "/orgs/main/projects", &json!({"slug": "fresh"})).await.expect(403);
        assert_eq!(reply.body["type"], "urn:wharfinger:problem:csrf-token");
        controller.get(&caller, "/orgs/main").await.expect(200);
    }
    let caller = Caller::Session { cookie, csrf };
    controller.post(&caller, "/orgs/main/projects", &json!({"slug": "fresh"})).await.expect(201);
}

#[tokio::test]
async fn a_session_ends_at_logout_and_after_a_day() {
    let controller = Controller::start().await;
    let first = controller.login(ADMIN).await;
    let second = controller.login(ADMIN).await;
    let reply = controller.post(&first, "/logout", &Value::Null).await.expect(204);
    assert!(reply.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    controller.get(&first, "/session").await.expect(401);
    let session = controller.get(&second, "/session").await.expect(200);
    assert_eq!(session.body["organizations"], json!(["main"]));
    controller.clock.advance(86_400);
    controller.get(&second, "/session").await.expect(401);
}

#[tokio::test]
async fn a_temporary_password_lets_in_to_choose_another_and_nothing_else() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let new = json!({"name": "new@example.com", "kind": "local"});
    let made = controller.post(&admin, "/orgs/main/users", &new).await.expect(201);
    let temporary = temporary_password(&controller.mail_to("new@example.com").await);
    assert!(!made.body.to_string().contains(&temporary));
    let reply = controller.try_login("new@example.com", &temporary).await.expect(200);
    assert_eq!(reply.body["must_change_password"], true);
    let cookie = reply.headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
    let caller = Caller::Session { cookie, csrf: reply.text("csrf_token") };
    let refused = controller.get(&caller, "/orgs").await.expect(403);
    assert_eq!(refused.body["type"], "urn:wharfinger:problem:password-change-required");
    controller.get(&caller, "/session").await.expect(200);
    let short = json!({"current": temporary, "new": "short"});
    controller.post(&caller, "/password", &short).await.expect(422);
    let change = json!({"current": temporary, "new": PASSWORD});
    let changed = controller.post(&caller, "/password", &change).await.expect(200);
    controller.get(&caller, "/session").await.expect(401);
    controller.get(&changed.session(), "/orgs").await.expect(200);
    controller.login("new@example.com").await;
}

#[tokio::test]
async fn known_and_unknown_names_fail_alike_and_are_locked_alike() {
    let controller = Controller::start().await;
    for name in [ADMIN, "nobody@example.com"] {
        for _ in 0..5 {
            let reply = controller.try_login(name, "wrong").await.expect(401);
            assert_eq!(reply.body["detail"], "the user name or the password is wrong");
        }
        let reply = controller.try_login(name, "wrong").await.expect(429);
        assert!(reply.headers.contains_key(header::RETRY_AFTER));
    }
    controller.try_login(ADMIN, PASSWORD).await.expect(429);
}

#[tokio::test]
async fn an_api_key_lets_in_by_either_header_until_it_is_revoked_and_makes_no_keys() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let made = controller.post(&admin, "/orgs/main/apikeys", &json!({"name": "ci", "valid_days": 1})).await.expect(201);
    let key = Caller::Key(made.text("key"));
    controller.get(&key, "/orgs/main/projects").await.expect(200);
    let bearer =
        Request::get("/api/v1/orgs/main").header(header::AUTHORIZATION, format!("Bearer {}", made.text("key")));
    controller.send(bearer.body(Body::empty()).unwrap()).await.expect(200);
    controller.post(&key, "/orgs/main/apikeys", &json!({"name": "more"})).await.expect(403);
    let listed = controller.get(&admin, "/orgs/main/apikeys").await.expect(200);
    assert_eq!(listed.body["items"][0]["name"], "ci");
    assert!(!listed.body.to_string().contains(&made.text("key")));
    let path = format!("/orgs/main/apikeys/{}", made.text("id"));
    controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(204);
    controller.get(&key, "/orgs/main/projects").await.expect(401);
    controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(404);
}

#[tokio::test]
async fn bodies_are_bounded_json_without_unknown_fields() {
    let controller = Controller::start().await;
    let request = |kind: &str, body: String| {
        Request::post("/api/v1/login").header(header::CONTENT_TYPE, kind).body(Body::from(body)).unwrap()
    };
    let login = json!({"username": ADMIN, "password": PASSWORD}).to_string();
    controller.send(request("application/json; charset=utf-8", login.clone())).await.expect(200);
    controller.send(request("text/plain", login.clone())).await.expect(415);
    controller.send(request("application/json", "{".into())).await.expect(400);
    controller.send(request("application/json", "[".repeat(50_000))).await.expect(400);
    controller.send(request("application/json", format!("{login}{}", " ".repeat(65 << 10)))).await.expect(413);
    let extra = json!({"username": ADMIN, "password": PASSWORD, "admin": true}).to_string();
    controller.send(request("application/json", extra)).await.expect(400);
}

#[test]
fn browsers_are_kept_on_https_where_the_certificate_is_one_they_know() {
    let settings = |secure_cookies, private_ca: Option<&str>| crate::Settings {
        secure_cookies,
        registry_host: "registry.example.com".into(),
        registry_secure: true,
        private_ca: private_ca.map(str::to_owned),
        grace: 0,
    };
    assert!(settings(true, None).stays_secure());
    assert!(!settings(false, None).stays_secure() && !settings(true, Some("PEM")).stays_secure());
}

#[tokio::test]
async fn a_path_that_is_not_there_and_a_method_that_is_not_are_problems_too() {
    let controller = Controller::start().await;
    let reply = controller.get(&Caller::Nobody, "/nothing").await.expect(404);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/problem+json");
    let reply = controller.call(&Caller::Nobody, Method::DELETE, "/login", &Value::Null).await.expect(405);
    assert_eq!(reply.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(reply.headers[header::CACHE_CONTROL], "no-store");
    assert_eq!(reply.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
    assert!(!reply.headers.contains_key(header::STRICT_TRANSPORT_SECURITY), "a private CA is for trying it out");
    controller.get(&Caller::Nobody, "/openapi.json").await.expect(200);
}

//! Ways into a session, and ways that are none.
#![allow(clippy::unwrap_used)]

use axum::body::Body;
use http::{Method, Request, header};
use serde_json::{Value, json};

use crate::testing::{ADMIN, Caller, Controller, PASSWORD, Reply};

async fn bearer(controller: &Controller, method: Method, path: &str, token: &str, body: &Value) -> Reply {
    let request = Request::builder()
        .method(method)
        .uri(format!("/api/v1{path}"))
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::CONTENT_TYPE, "application/json");
    let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
    controller.send(request.body(body).unwrap()).await
}

/// A command line's token that the admin approved.
async fn device_token(controller: &Controller, approver: &Caller) -> String {
    let codes = controller.post(&Caller::Nobody, "/device/code", &json!({"client": "rctl"})).await.expect(200);
    let approve = format!("/device/{}/approve", codes.text("user_code"));
    controller.post(approver, &approve, &Value::Null).await.expect(204);
    let question = json!({"device_code": codes.text("device_code")});
    controller.post(&Caller::Nobody, "/device/token", &question).await.expect(200).text("access_token")
}

#[tokio::test]
async fn a_cookie_that_was_planted_is_never_the_sessions() {
    let controller = Controller::start().await;
    let planted = format!("__Host-wharfinger_session={}", "a".repeat(64));
    let request = Request::post("/api/v1/login")
        .header(header::COOKIE, &planted)
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(json!({"username": ADMIN, "password": PASSWORD}).to_string()));
    let reply = controller.send(request.unwrap()).await.expect(200);
    let Caller::Session { cookie, .. } = reply.session() else { unreachable!() };
    assert_ne!(cookie, planted);
    assert!(reply.headers[header::SET_COOKIE].to_str().unwrap().contains("; Secure"));
    let planted = Caller::Session { cookie: planted, csrf: String::new() };
    controller.get(&planted, "/session").await.expect(401);
}

#[tokio::test]
async fn every_step_gives_a_new_secret_and_the_old_one_opens_nothing() {
    let controller = Controller::start().await;
    let first = controller.login(ADMIN).await;
    let chosen = controller.post(&first, "/session/org", &json!({"org": "main"})).await.expect(200);
    controller.get(&first, "/session").await.expect(401);
    let second = chosen.session();
    let change = json!({"current": PASSWORD, "new": "violet otter juggles seven"});
    let third = controller.post(&second, "/password", &change).await.expect(200).session();
    controller.get(&second, "/session").await.expect(401);
    let ended = controller.call(&third, Method::DELETE, "/account/sessions", &Value::Null).await.expect(200);
    controller.get(&third, "/session").await.expect(401);
    controller.get(&ended.session(), "/session").await.expect(200);
}

#[tokio::test]
async fn a_device_is_approved_with_the_sessions_token_alone() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let codes = controller.post(&Caller::Nobody, "/device/code", &json!({"client": "x"})).await.expect(200);
    assert_eq!((codes.body["interval"].as_i64(), codes.body["expires_in"].as_i64()), (Some(5), Some(600)));
    let Caller::Session { cookie, .. } = &admin else { unreachable!() };
    let forged = Caller::Session { cookie: cookie.clone(), csrf: String::new() };
    for verb in ["approve", "deny"] {
        let path = format!("/device/{}/{verb}", codes.text("user_code"));
        let refused = controller.post(&forged, &path, &Value::Null).await.expect(403);
        assert_eq!(refused.body["type"], "urn:wharfinger:problem:csrf-token");
        controller.post(&Caller::Nobody, &path, &Value::Null).await.expect(401);
    }
    let question = json!({"device_code": codes.text("device_code")});
    let waiting = controller.post(&Caller::Nobody, "/device/token", &question).await.expect(400);
    assert_eq!(waiting.body["error"], "authorization_pending");
    let key = controller.post(&admin, "/orgs/main/apikeys", &json!({"name": "ci"})).await.expect(201).text("key");
    let path = format!("/device/{}/approve", codes.text("user_code"));
    controller.post(&Caller::Key(key), &path, &Value::Null).await.expect(401);
}

#[tokio::test]
async fn a_command_line_needs_no_cookie_and_ends_with_its_owner() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let token = device_token(&controller, &admin).await;
    bearer(&controller, Method::GET, "/orgs/main", &token, &Value::Null).await.expect(200);
    let new = json!({"slug": "fresh"});
    bearer(&controller, Method::POST, "/orgs/main/projects", &token, &new).await.expect(201);
    let listed = controller.get(&admin, "/account/sessions").await.expect(200);
    let cli = listed.body["items"].as_array().unwrap().iter().find(|session| session["kind"] == "cli").unwrap();
    let path = format!("/account/sessions/{}", cli["id"].as_str().unwrap());
    controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(204);
    bearer(&controller, Method::GET, "/orgs/main", &token, &Value::Null).await.expect(401);

    let token = device_token(&controller, &admin).await;
    let change = json!({"current": PASSWORD, "new": "violet otter juggles seven"});
    let changed = bearer(&controller, Method::POST, "/password", &token, &change).await.expect(200);
    assert!(!changed.headers.contains_key(header::SET_COOKIE));
    bearer(&controller, Method::GET, "/session", &token, &Value::Null).await.expect(401);
    bearer(&controller, Method::GET, "/session", &changed.text("access_token"), &Value::Null).await.expect(200);
    controller.get(&admin, "/session").await.expect(401);
}

#[tokio::test]
async fn where_a_second_factor_is_asked_for_a_session_may_enrol_and_nothing_else() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let required = json!({"mfa_required": true});
    controller.call(&admin, Method::PATCH, "/orgs/main/settings", &required).await.expect(200);
    let admin = controller.login(ADMIN).await;
    assert_eq!(controller.get(&admin, "/session").await.expect(200).body["must_enrol_mfa"], true);
    for path in ["/orgs", "/orgs/main", "/orgs/main/users", "/account/sessions", "/device/BCDF-GHJK"] {
        let refused = controller.get(&admin, path).await.expect(403);
        assert_eq!(refused.body["type"], "urn:wharfinger:problem:mfa-enrolment-required", "{path}");
    }
    controller.post(&admin, "/session/org", &json!({"org": "main"})).await.expect(403);
    let shown = controller.post(&admin, "/account/mfa/totp", &Value::Null).await.expect(200);
    assert!(shown.text("uri").starts_with("otpauth://totp/") && shown.text("svg").starts_with("<svg"));
    let wrong = controller.post(&admin, "/account/mfa/totp/confirm", &json!({"code": "000000"})).await.expect(422);
    assert_eq!(wrong.body["field"], "code");
}

#[tokio::test]
async fn a_second_step_without_a_first_is_refused() {
    let controller = Controller::start().await;
    for token in ["", "x", &"0".repeat(64), &"0".repeat(10_000)] {
        let body = json!({"token": token, "code": "123456"});
        let reply = controller.post(&Caller::Nobody, "/login/second-factor", &body).await.expect(401);
        assert_eq!(reply.body["type"], "urn:wharfinger:problem:login-ended");
        assert!(!reply.headers.contains_key(header::SET_COOKIE));
    }
    let both = json!({"token": "x", "code": "123456", "recovery_code": "y"});
    controller.post(&Caller::Nobody, "/login/second-factor", &both).await.expect(422);
}

//! Accounts felt at every door: users, roles, keys, lockout, and how fast a change arrives.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::oci::{Image, fresh};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, OPERATOR, OPERATOR_PASSWORD};
use crate::support::{Api, Call, Server, Setup};

const DEV: &str = "dev@localhost";
const DEV_PASSWORD: &str = "a developer's password";

fn with_developer() -> (Server, Api, String) {
    let server = Setup::plain().start();
    let api = server.api();
    api.create_user("main", DEV, DEV_PASSWORD);
    let binding = api.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    Image::new(fresh(), 10).push(&server.registry(), "main/app", &server.admin_token("main/app"), "v1");
    (server, api, binding)
}

fn dev_token(server: &Server) -> String {
    server.token(DEV, DEV_PASSWORD, &["repository:main/app:pull,push"])
}

/// Pulls until it is refused; the law allows a second.
fn refused_within_a_second(server: &Server, token: &str) {
    let started = Instant::now();
    while Call::get("/v2/main/app/manifests/v1").bearer(token).send(&server.registry()).status == 200 {
        assert!(started.elapsed() < Duration::from_secs(1), "still allowed after a second");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_token_already_issued_dies_with_the_binding_the_user_and_the_key() {
    let (server, api, binding) = with_developer();
    let pull = |token: &str| Call::get("/v2/main/app/manifests/v1").bearer(token).send(&server.registry()).status;

    let token = dev_token(&server);
    assert_eq!(pull(&token), 200);
    api.delete(&format!("/orgs/main/bindings/{binding}")).expect(204);
    refused_within_a_second(&server, &token);

    api.bind("main", DEV, "PROJECT_READ_ONLY", Some("defaultproject"));
    let token = dev_token(&server);
    assert_eq!(pull(&token), 200);
    api.post(&format!("/orgs/main/users/{DEV}/deactivate"), &json!({})).expect(204);
    refused_within_a_second(&server, &token);
    api.post(&format!("/orgs/main/users/{DEV}/activate"), &json!({})).expect(204);

    let (id, key) = server.login(DEV, DEV_PASSWORD).create_api_key("main", None, "ci");
    let token = server.token(DEV, &key, &["repository:main/app:pull"]);
    assert_eq!(pull(&token), 200);
    api.delete(&format!("/orgs/main/apikeys/{id}")).expect(204);
    refused_within_a_second(&server, &token);
    server.try_token(Some((DEV, &key)), &[]).expect(401);
}

#[test]
fn a_changed_password_ends_sessions_tokens_and_refresh_tokens() {
    let (server, _, _) = with_developer();
    let session = Api::login(server.controller(), DEV, DEV_PASSWORD);
    let query = format!("service={}&offline_token=true&client_id=docker", server.service());
    let reply = Call::get(format!("/token?{query}")).basic(DEV, DEV_PASSWORD).send(&server.auth()).expect(200).json();
    let refresh = reply["refresh_token"].as_str().unwrap().to_owned();
    let token = dev_token(&server);
    let second = Api::login(server.controller(), DEV, DEV_PASSWORD);
    second.change_password(DEV_PASSWORD, "another long password");
    refused_within_a_second(&server, &token);
    session.get("/session").expect(401);
    let form = [
        ("grant_type", "refresh_token"),
        ("refresh_token", refresh.as_str()),
        ("service", "x"),
        ("client_id", "docker"),
    ];
    let again = Call::post("/token").form(&form).send(&server.auth());
    assert!(matches!(again.status, 400 | 401), "{}", again.status);
    server.try_token(Some((DEV, DEV_PASSWORD)), &[]).expect(401);
    server.try_token(Some((DEV, "another long password")), &[]).expect(200);
}

#[test]
fn five_failures_at_any_doors_lock_all_of_them_until_an_admin_unlocks() {
    let (server, api, _) = with_developer();
    let login = |password: &str| {
        Call::post("/api/v1/login")
            .json(&json!({"username": DEV, "password": password}))
            .send(&server.controller())
            .status
    };
    for _ in 0..3 {
        assert_eq!(login("wrong"), 401);
    }
    for _ in 0..2 {
        server.try_token(Some((DEV, "wrong")), &[]).expect(401);
    }
    let locked = server.try_token(Some((DEV, DEV_PASSWORD)), &[]);
    assert!(matches!(locked.status, 401 | 429), "{}", locked.status);
    assert!(matches!(login(DEV_PASSWORD), 401 | 429));
    server.try_token(Some((ADMIN, ADMIN_PASSWORD)), &[]).expect(200);
    api.post(&format!("/orgs/main/users/{DEV}/unlock"), &json!({})).expect(204);
    server.try_token(Some((DEV, DEV_PASSWORD)), &[]).expect(200);
    assert_eq!(login(DEV_PASSWORD), 200);
}

#[test]
fn the_api_wants_a_session_and_its_csrf_token() {
    let server = Setup::plain().start();
    let controller = server.controller();
    Call::get("/api/v1/orgs").send(&controller).expect(401);
    let reply = Call::post("/api/v1/login")
        .json(&json!({"username": ADMIN, "password": ADMIN_PASSWORD}))
        .send(&controller)
        .expect(200);
    let cookie = reply.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let body = json!({"slug": "team"});
    let without = Call::post("/api/v1/orgs/main/projects").header("Cookie", cookie).json(&body).send(&controller);
    assert!(matches!(without.status, 401 | 403), "{}", without.status);
    assert_eq!(without.header("content-type"), Some("application/problem+json"));
    let api = server.api();
    api.post("/orgs/main/projects", &body).expect(201);
    api.post("/logout", &json!({})).expect(204);
    api.get("/orgs").expect(401);
    let openapi = Call::get("/api/v1/openapi.json").send(&controller).expect(200).json();
    assert!(openapi["openapi"].as_str().unwrap().starts_with("3.1"));
}

#[test]
fn an_api_key_opens_the_api_by_either_header() {
    let server = Setup::plain().start();
    let (id, key) = server.api().create_api_key("main", None, "script");
    let controller = server.controller();
    Call::get("/api/v1/orgs/main/projects").bearer(&key).send(&controller).expect(200);
    Call::get("/api/v1/orgs/main/projects").header("X-API-KEY", &key).send(&controller).expect(200);
    let list = server.api().get("/orgs/main/apikeys").expect(200).text();
    assert!(list.contains(&id) && !list.contains(key.rsplit('.').next().unwrap()), "the secret is shown once");
}

#[test]
fn only_the_operator_creates_organizations_and_reads_no_images() {
    let server = Setup::plain().start();
    let refused = server.api().post("/orgs", &json!({"slug": "mine"}));
    assert!(matches!(refused.status, 403 | 404), "{}", refused.status);
    server.operator().create_org("other", "admin@other.example", "quiet nights at the far quay");
    Image::new(fresh(), 10).push(&server.registry(), "main/app", &server.admin_token("main/app"), "v1");
    let token = server.token(OPERATOR, OPERATOR_PASSWORD, &["repository:main/app:pull"]);
    Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&server.registry()).expect(401);
}

#[test]
fn someone_may_work_in_two_organizations_with_one_password() {
    let (server, _, _) = with_developer();
    server.operator().create_org("other", "admin@other.example", "quiet nights at the far quay");
    let other = Api::login(server.controller(), "admin@other.example", "quiet nights at the far quay");
    other.post("/orgs/other/users", &json!({"name": DEV, "kind": "local"})).expect(201);
    other.bind("other", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    let token = server.token(DEV, DEV_PASSWORD, &["repository:other/app:pull,push"]);
    Image::new(fresh(), 10).push(&server.registry(), "other/app", &token, "v1");
    other.post(&format!("/orgs/other/users/{DEV}/deactivate"), &json!({})).expect(204);
    let started = Instant::now();
    while Call::get("/v2/other/app/manifests/v1").bearer(&token).send(&server.registry()).status == 200 {
        assert!(started.elapsed() < Duration::from_secs(1));
    }
    let own = dev_token(&server);
    Call::get("/v2/main/app/manifests/v1").bearer(&own).send(&server.registry()).expect(200);
}

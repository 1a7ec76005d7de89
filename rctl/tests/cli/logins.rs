//! Logging in and out, and the file that keeps it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Desk, KEY_ID, KEY_SECRET, Server, nothing, problem, say};

const TOKEN: &str = "rs1.00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

fn code(interval: u64) -> Value {
    json!({"device_code": "the-device-code", "user_code": "BCDF-GHJK", "verification_uri": "https://c.example/device",
        "verification_uri_complete": "https://c.example/device?code=BCDF-GHJK", "expires_in": 600, "interval": interval})
}

fn oauth(error: &str) -> crate::support::Answer {
    say(400, &json!({"error": error}))
}

fn granted() -> crate::support::Answer {
    say(200, &json!({"access_token": TOKEN, "expires_at": "2026-03-02T10:00:00Z", "user": "bob@x", "org": "acme"}))
}

fn stored(desk: &Desk) -> Value {
    serde_json::from_slice(&std::fs::read(desk.path(".rctl/config.json")).expect("the file")).expect("JSON")
}

#[test]
fn a_browser_lets_it_in() {
    let server = Server::start(vec![
        say(200, &code(1)),
        oauth("authorization_pending"),
        granted(),
        say(200, &json!({"user": {"name": "bob@x"}, "csrf_token": "hidden-csrf"})),
        nothing(),
    ]);
    let desk = Desk::bare();
    let ran = desk.run(&["login", "--endpoint", &server.url]).expect(0);
    assert!(ran.err.contains("https://c.example/device\n") && ran.err.contains("BCDF-GHJK"), "{ran:?}");
    assert!(!ran.out.contains("rs1.") && !ran.err.contains("rs1.") && !ran.err.contains("the-device-code"), "{ran:?}");
    assert_eq!(server.asked()[1].body, json!({"device_code": "the-device-code"}));
    assert_eq!(server.asked()[0].header("authorization"), None);
    let profile = &stored(&desk)["profiles"]["default"];
    assert_eq!((profile["session"]["token"].as_str(), profile["org"].as_str()), (Some(TOKEN), Some("acme")));

    let ran = desk.run(&["whoami"]).expect(0);
    assert!(ran.out.contains("bob@x") && !ran.out.contains("hidden-csrf"), "{ran:?}");
    assert_eq!(server.asked()[3].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
    assert!(!desk.run(&["config", "show", "-o", "json"]).expect(0).out.contains("rs1."));
    desk.run(&["logout"]).expect(0);
    assert_eq!(server.lines()[4], "POST /api/v1/logout");
    assert_eq!(stored(&desk)["profiles"]["default"].get("session"), None);
}

#[test]
fn another_organization_is_another_token() {
    let other = TOKEN.replace('0', "f");
    let server =
        Server::start(vec![say(200, &code(1)), granted(), say(200, &json!({"org": "beta", "access_token": other}))]);
    let desk = Desk::bare();
    desk.run(&["login", "--endpoint", &server.url]).expect(0);
    let ran = desk.run(&["org", "switch", "beta"]).expect(0);
    assert!(!ran.out.contains("rs1."));
    let profile = &stored(&desk)["profiles"]["default"];
    assert_eq!((&profile["session"]["token"], &profile["org"]), (&json!(other), &json!("beta")));
    assert_eq!(server.asked()[2].body, json!({"org": "beta"}));
}

#[test]
fn it_slows_down_when_told_to() {
    let server = Server::start(vec![say(200, &code(1)), oauth("slow_down"), granted()]);
    let begun = Instant::now();
    Desk::bare().run(&["login", "--endpoint", &server.url]).expect(0);
    assert!(begun.elapsed() >= Duration::from_secs(7), "1 s, then 5 s more than that");
}

#[test]
fn a_no_in_the_browser_and_a_late_yes_are_failures() {
    for (error, status) in [("access_denied", 4), ("expired_token", 3)] {
        let server = Server::start(vec![say(200, &code(1)), oauth(error)]);
        let desk = Desk::bare();
        desk.run(&["login", "--endpoint", &server.url]).expect(status);
        assert!(!desk.path(".rctl/config.json").exists());
    }
}

#[test]
fn only_web_addresses_are_shown_and_opened() {
    let mut body = code(1);
    body["verification_uri"] = "file:///etc/passwd".into();
    let server = Server::start(vec![say(200, &body)]);
    Desk::bare().run(&["login", "--endpoint", &server.url]).expect(1);
}

#[test]
fn a_key_comes_by_standard_input() {
    let server = Server::start(vec![
        say(200, &json!({"items": [{"slug": "acme"}], "next": null})),
        say(200, &json!({"user": "ci"})),
        problem(401, "unauthenticated", "log in"),
    ]);
    let desk = Desk::bare().env("RCTL_REST_ENDPOINT", &server.url);
    let key = format!("ra2.{KEY_ID}.{KEY_SECRET}");
    desk.run_with(&["login", "--api-key-stdin"], &format!("{key}\n")).expect(0);
    assert_eq!(stored(&desk)["profiles"]["default"]["api_key"], key.as_str());
    let mode = |path: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(desk.path(path)).unwrap().permissions())
    };
    assert_eq!((mode(".rctl") & 0o777, mode(".rctl/config.json") & 0o777), (0o700, 0o600));
    // One that is not good is not kept.
    let other = Desk::bare().env("RCTL_REST_ENDPOINT", &server.url);
    other.run_with(&["login", "--api-key-stdin"], &format!("{key}\n")).expect(3);
    assert!(!other.path(".rctl/config.json").exists());
    other.run_with(&["login", "--api-key-stdin"], "").expect(2);
}

#[test]
fn profiles_are_made_shown_and_changed() {
    let desk = Desk::bare();
    desk.run(&["config", "init", "--endpoint", "a.example", "--org", "acme", "--project", "web"]).expect(0);
    desk.run(&["config", "init", "--endpoint", "a.example"]).expect(2);
    desk.run(&["config", "init", "--profile", "lab", "--endpoint", "b.example"]).expect(0);
    let shown = |desk: &Desk| -> Value {
        serde_json::from_str(&desk.run(&["config", "show", "-o", "json"]).expect(0).out).unwrap()
    };
    assert_eq!(shown(&desk)["endpoint"], "https://a.example");
    assert_eq!(shown(&desk)["registry"], "a.example:6000");
    desk.run(&["config", "set", "current", "lab"]).expect(0);
    assert_eq!(shown(&desk)["endpoint"], "https://b.example");
    desk.run(&["config", "set", "current", "moon"]).expect(2);
    desk.run(&["config", "set", "org", "beta"]).expect(0);
    assert_eq!(shown(&desk)["org"], "beta");
    desk.run(&["config", "set", "org", ""]).expect(0);
    assert_eq!(shown(&desk)["org"], Value::Null);
    desk.run(&["config", "set", "api_key", "ra2.a.b"]).expect(2);
    desk.run(&["get", "users", "--profile", "moon"]).expect(2);
    let desk = desk.env("RCTL_PROFILE", "default").env("RCTL_PROJECT", "docs");
    assert_eq!((&shown(&desk)["endpoint"], &shown(&desk)["project"]), (&json!("https://a.example"), &json!("docs")));
}

#[test]
fn a_new_endpoint_does_not_get_the_old_credentials() {
    let server = Server::start(vec![say(200, &json!({"items": [], "next": null}))]);
    let desk = Desk::bare();
    let key = format!("ra2.{KEY_ID}.{KEY_SECRET}\n");
    desk.run_with(&["login", "--api-key-stdin", "--endpoint", &server.url], &key).expect(0);
    desk.run(&["get", "orgs", "--endpoint", "http://127.0.0.1:2"]).expect(3);
    desk.run(&["config", "set", "endpoint", "http://127.0.0.1:2"]).expect(0);
    assert_eq!(stored(&desk)["profiles"]["default"].get("api_key"), None);
}

#[test]
fn warnings_are_given_where_there_is_danger() {
    let server = Server::start(vec![say(200, &json!({"items": [], "next": null}))]);
    let desk = Desk::at(&server).env("RCTL_SKIP_SERVER_CERT_VALIDATION", "true");
    assert!(desk.run(&["get", "users"]).expect(0).err.contains("anybody may pose"));
    let desk = desk.env("RCTL_SKIP_SERVER_CERT_VALIDATION", "maybe");
    desk.run(&["get", "users"]).expect(2);
    let desk = Desk::bare().env("RCTL_REST_ENDPOINT", "http://far.example");
    assert!(desk.run(&["get", "orgs"]).expect(3).err.contains("not encrypted"));
}

#[test]
fn a_temporary_password_is_replaced() {
    let login = say(200, &json!({"user": {"name": "bob@x"}, "csrf_token": "t0k", "must_change_password": true}));
    let login = login.with("set-cookie", "wharfinger_session=abc; HttpOnly; Path=/");
    let changed =
        say(200, &json!({"csrf_token": "t1k"})).with("set-cookie", "wharfinger_session=def; HttpOnly; Path=/");
    let server = Server::start(vec![login, changed, nothing()]);
    let desk = Desk::bare().env("RCTL_REST_ENDPOINT", &server.url);
    let ran = desk.run_with(&["password", "change", "--user", "bob@x"], "old secret\nnew secret\n").expect(0);
    assert!(!format!("{ran:?}").contains("secret"));
    let asked = server.asked();
    assert_eq!(asked[1].body, json!({"current": "old secret", "new": "new secret"}));
    assert_eq!(
        (asked[1].header("cookie"), asked[1].header("x-csrf-token")),
        (Some("wharfinger_session=abc"), Some("t0k"))
    );
    // The session that goes on has another cookie.
    assert_eq!(
        (server.lines()[2].as_str(), asked[2].header("cookie")),
        ("POST /api/v1/logout", Some("wharfinger_session=def"))
    );
}

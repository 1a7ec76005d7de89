//! Second factors, the device log-in, and sessions, from the outside.

use std::time::Duration;

use serde_json::json;

use crate::support::{Api, Call, Server, Setup, totp};

const DEV: &str = "dev@localhost";
const PASSWORD: &str = "a developer's long secret";

fn town() -> (Server, Api) {
    let server = Setup::plain().clock().start();
    let admin = server.api();
    admin.create_user("main", DEV, PASSWORD);
    admin.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    (server, admin)
}

#[test]
fn codes_by_time_are_switched_on_asked_for_and_switched_off() {
    let (server, admin) = town();
    let session = server.login(DEV, PASSWORD);
    let begun = session.post("/account/mfa/totp", &json!({})).json();
    let (secret, uri, svg) =
        (begun["secret"].as_str().unwrap(), begun["uri"].as_str().unwrap(), begun["svg"].as_str().unwrap());
    assert!(uri.starts_with("otpauth://totp/") && uri.contains(secret), "{uri}");
    assert!(svg.contains("<svg"), "{svg}");
    // Not confirmed, it does not count.
    server.login(DEV, PASSWORD);
    let (secret, codes, _) = session.enrol_totp(server.now());
    assert_eq!(codes.len(), 10);
    assert_eq!(admin.get(&format!("/orgs/main/users/{DEV}")).expect(200).json()["mfa"], true);
    server.advance(totp::STEP);
    let second = Api::login_totp(server.controller(), DEV, PASSWORD, &secret, server.now());
    second.get("/orgs/main/projects").expect(200);

    // docker takes an API key, not the password.
    let refused = server.try_token(Some((DEV, PASSWORD)), &[]).expect(401);
    assert!(refused.text().contains("API key"), "{}", refused.text());
    let (_, key) = second.create_api_key("main", None, "docker");
    server.try_token(Some((DEV, &key)), &["repository:main/app:pull"]).expect(200);

    let off = second.send(Call::delete("/api/v1/account/mfa/totp").json(&json!({"password": PASSWORD})));
    assert!(matches!(off.status, 200 | 204), "{} {}", off.status, off.text());
    server.login(DEV, PASSWORD);
}

#[test]
fn recovery_codes_let_in_once_each_and_an_admin_resets() {
    let (server, admin) = town();
    let (_, codes, _) = server.login(DEV, PASSWORD).enrol_totp(server.now());
    let stranger = server.stranger();
    for code in &codes[..3] {
        let pending = stranger.begin_second_factor(DEV, PASSWORD);
        // However it is typed.
        let typed = code.to_uppercase().replace('-', " ");
        let reply = stranger.second_factor(&pending, &json!({"recovery_code": typed})).expect(200);
        Api::of_session(server.controller(), &reply).get("/orgs/main/projects").expect(200);
    }
    let pending = stranger.begin_second_factor(DEV, PASSWORD);
    stranger.second_factor(&pending, &json!({"recovery_code": codes[0]})).expect(401);
    let reset = admin.post(&format!("/orgs/main/users/{DEV}/mfa/reset"), &json!({}));
    assert!(matches!(reset.status, 200 | 204), "{} {}", reset.status, reset.text());
    server.login(DEV, PASSWORD);
}

#[test]
fn whoever_lost_every_factor_is_helped_on_the_command_line_and_told() {
    const TAKEN_OFF: &str = "took the second factor";
    let (server, _) = town();
    let (_, _, session) = server.login(DEV, PASSWORD).enrol_totp(server.now());
    let (found, text) = server.try_run(&["admin", "reset-mfa", "nobody@localhost"]);
    assert!(!found && text.contains("nobody@localhost"), "{text}");
    let seen = server.spool().count(DEV, TAKEN_OFF);
    server.run(&["admin", "reset-mfa", DEV]);
    server.login(DEV, PASSWORD);
    session.get("/account").expect(401);
    server.spool().next(DEV, TAKEN_OFF, seen);
}

#[test]
fn an_organization_that_wants_second_factors_leads_everybody_into_one() {
    let (server, admin) = town();
    let (_, _, admin) = admin.enrol_totp(server.now());
    admin.patch("/orgs/main/settings", &json!({"mfa_required": true})).expect(200);
    let session = server.login(DEV, PASSWORD);
    let refused = session.get("/orgs/main/projects").expect(403).json();
    assert!(refused["type"].as_str().unwrap().ends_with("mfa-enrolment-required"), "{refused}");
    server.try_token(Some((DEV, PASSWORD)), &[]).expect(401);
    let (_, _, session) = session.enrol_totp(server.now());
    session.get("/orgs/main/projects").expect(200);
}

#[test]
fn a_device_without_a_browser_is_let_in_by_a_browser_elsewhere() {
    let (server, _) = town();
    let stranger = server.stranger();
    let begun = stranger.post("/device/code", &json!({"client": "rctl on a headless box"})).expect(200).json();
    let (device, user) =
        (begun["device_code"].as_str().unwrap().to_owned(), begun["user_code"].as_str().unwrap().to_owned());
    assert!(begun["verification_uri"].as_str().unwrap().starts_with(&server.controller().url()));
    assert!(begun["verification_uri_complete"].as_str().unwrap().contains(&user));
    let interval = begun["interval"].as_u64().unwrap();
    let poll = || stranger.post("/device/token", &json!({"device_code": device}));
    assert_eq!(poll().expect(400).json()["error"], "authorization_pending");
    let session = server.login(DEV, PASSWORD);
    let shown = session.get(&format!("/device/{user}")).expect(200).text();
    assert!(shown.contains("headless"), "{shown}");
    session.post(&format!("/device/{user}/approve"), &json!({})).expect(204);
    std::thread::sleep(Duration::from_secs(interval));
    let reply = poll().expect(200).json();
    let token = reply["access_token"].as_str().unwrap();
    let cli = Api::bearer(server.controller(), token);
    cli.get("/orgs/main/projects").expect(200);
    cli.post("/orgs/main/apikeys", &json!({"name": "by-cli"})).expect(201);
    let list = session.get("/account/sessions").expect(200).json();
    let own =
        list["items"].as_array().unwrap().iter().find(|each| each["kind"] == "cli").expect("the CLI's session").clone();
    session.delete(&format!("/account/sessions/{}", own["id"].as_str().unwrap())).expect(204);
    cli.get("/orgs/main/projects").expect(401);
}

#[test]
fn sessions_are_listed_and_ended_by_oneself_and_by_an_admin() {
    let (server, admin) = town();
    let first = server.login(DEV, PASSWORD);
    let second = server.login(DEV, PASSWORD);
    let list = first.get("/account/sessions").expect(200).json();
    assert!(list["items"].as_array().unwrap().len() >= 2, "{list}");
    let first = first.renewed(&first.delete("/account/sessions").expect(200), "");
    first.get("/session").expect(200);
    second.get("/session").expect(401);
    let third = server.login(DEV, PASSWORD);
    admin.get(&format!("/orgs/main/users/{DEV}/sessions")).expect(200);
    admin.delete(&format!("/orgs/main/users/{DEV}/sessions")).expect(204);
    third.get("/session").expect(401);
    first.get("/session").expect(401);
}

#[test]
fn an_idle_session_ends_where_an_organization_says_so() {
    let (server, admin) = town();
    admin.patch("/orgs/main/settings", &json!({"idle_logout_minutes": 60})).expect(200);
    let session = server.login(DEV, PASSWORD);
    for _ in 0..3 {
        server.advance(50 * 60);
        session.get("/session").expect(200);
    }
    server.advance(61 * 60);
    session.get("/session").expect(401);
}

//! The device authorization grant (RFC 8628).

use std::time::Duration;

use serde_json::{Value, json};

use super::{DEV, DEV_PASSWORD, one_of, post, tries};
use crate::support::{Api, Call};

fn begin(town: &super::Town) -> (String, String) {
    let reply = post(town, "/device/code", &json!({"client": "rctl"})).expect(200).json();
    let text = |field: &str| reply[field].as_str().expect(field).to_owned();
    (text("device_code"), text("user_code"))
}

fn poll(town: &super::Town, code: &str) -> crate::support::Reply {
    post(town, "/device/token", &json!({"device_code": code}))
}

fn error(reply: &crate::support::Reply) -> Value {
    reply.json()["error"].clone()
}

tries! {
    "a device code is redeemed before anybody approved it",
    "hands out a session for the code" => |town| {
        let (device, _) = begin(town);
        let reply = poll(town, &device).expect(400);
        assert_eq!(error(&reply), "authorization_pending");
    };
    "the user code is taken for the device code, or guessed",
    "keeps one code for both" => |town| {
        let (device, user) = begin(town);
        town.dev.post(&format!("/device/{user}/approve"), &json!({})).expect(204);
        for guess in [user.clone(), String::new(), device[..device.len() - 1].to_owned(), format!("{device}0"), "%".into(), "0".repeat(64)] {
            one_of(&poll(town, &guess), &[400, 401, 422]);
        }
        poll(town, &device).expect(200);
    };
    "a device code is redeemed twice",
    "keeps the grant after it did its work" => |town| {
        let (device, user) = begin(town);
        town.dev.post(&format!("/device/{user}/approve"), &json!({})).expect(204);
        let token = poll(town, &device).expect(200).json()["access_token"].as_str().expect("a token").to_owned();
        assert!(token.starts_with("rs1."));
        std::thread::sleep(Duration::from_secs(6));
        poll(town, &device).expect(400);
        Api::bearer(town.server.controller(), &token).get("/session").expect(200);
    };
    "a denied device gets in",
    "forgets to look at the answer" => |town| {
        let (device, user) = begin(town);
        town.dev.post(&format!("/device/{user}/deny"), &json!({})).expect(204);
        let reply = poll(town, &device).expect(400);
        assert_eq!(error(&reply), "access_denied");
        one_of(&town.dev.post(&format!("/device/{user}/approve"), &json!({})), &[404, 409]);
    };
    "a device polls faster than it may",
    "lets codes be guessed at any speed" => |town| {
        let (device, _) = begin(town);
        poll(town, &device).expect(400);
        let reply = poll(town, &device);
        assert!(reply.status == 429 || error(&reply) == "slow_down", "{}", reply.text());
    };
    "a device code is redeemed after it ended",
    "never looks at its age" => |town| {
        let (device, user) = begin(town);
        town.server.advance(3600);
        let session = town.server.login(DEV, DEV_PASSWORD);
        one_of(&session.post(&format!("/device/{user}/approve"), &json!({})), &[404, 409]);
        let reply = poll(town, &device).expect(400);
        assert_eq!(error(&reply), "expired_token");
    };
    "a device is approved without a session, with a key, or by a forged form",
    "takes any credentials for consent" => |town| {
        let admin = town.server.api();
        let (_, user) = begin(town);
        let path = format!("/api/v1/device/{user}/approve");
        Call::post(&path).json(&json!({})).send(&town.server.controller()).expect(401);
        let (_, key) = admin.create_api_key("main", None, "approver");
        one_of(&Api::bearer(town.server.controller(), &key).post(&path["/api/v1".len()..], &json!({})), &[401, 403]);
        let forged = Call::post(&path).header("Cookie", admin.cookie()).json(&json!({})).send(&town.server.controller());
        forged.expect(403);
    };
    "a CLI session approves the next device",
    "lets a stolen token breed" => |town| {
        let admin = town.server.api();
        let (device, user) = begin(town);
        admin.post(&format!("/device/{user}/approve"), &json!({})).expect(204);
        let token = poll(town, &device).expect(200).json()["access_token"].as_str().expect("a token").to_owned();
        let (_, next) = begin(town);
        let cli = Api::bearer(town.server.controller(), &token);
        one_of(&cli.post(&format!("/device/{next}/approve"), &json!({})), &[401, 403]);
    };
    "a device session outlives the session's user: the password is changed",
    "keeps CLI sessions apart from the epoch" => |town| {
        let (name, password) = { let admin = town.server.api(); admin.create_user("main", "cli-user@localhost", "nobody would think of it"); ("cli-user@localhost", "nobody would think of it") };
        let session = town.server.login(name, password);
        let (device, user) = begin(town);
        session.post(&format!("/device/{user}/approve"), &json!({})).expect(204);
        let (late, late_user) = begin(town);
        session.post(&format!("/device/{late_user}/approve"), &json!({})).expect(204);
        let token = poll(town, &device).expect(200).json()["access_token"].as_str().expect("a token").to_owned();
        session.change_password(password, "a quite different thing");
        Api::bearer(town.server.controller(), &token).get("/session").expect(401);
        // Nor does what was approved before give a session afterwards.
        assert_ne!(poll(town, &late).status, 200);
    };
    "user codes are guessed in a session",
    "lets whoever is logged in try them all" => |town| {
        let session = town.server.login(DEV, DEV_PASSWORD);
        let mut statuses = Vec::new();
        for number in 0..40 {
            statuses.push(session.get(&format!("/device/BCDF-{:04}", number)).status);
        }
        assert!(statuses.iter().all(|status| [400, 404, 422, 429].contains(status)), "{statuses:?}");
        assert!(statuses.contains(&429), "nobody counts: {statuses:?}");
    };
}

//! Second factors.

use serde_json::json;

use super::{one_of, problem, tries};
use crate::support::{Api, Call, totp};

/// A person with codes by time: name, password, secret, recovery codes.
fn enrolled(town: &super::Town, name: &str) -> (String, &'static str, String, Vec<String>) {
    let (name, password) = town.victim(name);
    town.admin.bind("main", &name, "PROJECT_ADMIN", Some("defaultproject"));
    let session = town.server.login(&name, password);
    let (secret, codes, _) = session.enrol_totp(town.server.now());
    // The code that confirmed is used up.
    town.server.advance(totp::STEP);
    (name, password, secret, codes)
}

tries! {
    "a code is used twice",
    "takes every code of the last minute (RFC 6238 §5.2)" => |town| {
        let (name, password, secret, _) = enrolled(town, "replay");
        let stranger = town.server.stranger();
        let code = totp::code(&secret, town.server.now());
        let pending = stranger.begin_second_factor(&name, password);
        stranger.second_factor(&pending, &json!({"code": code})).expect(200);
        let pending = stranger.begin_second_factor(&name, password);
        one_of(&stranger.second_factor(&pending, &json!({"code": code})), &[401]);
        // Nor an older one than the last that was taken.
        let older = totp::code(&secret, town.server.now() - totp::STEP);
        one_of(&stranger.second_factor(&pending, &json!({"code": older})), &[401]);
    };
    "codes are tried until one fits",
    "limits passwords, not codes" => |town| {
        let (name, password, secret, _) = enrolled(town, "brute");
        let stranger = town.server.stranger();
        let right = totp::code(&secret, town.server.now());
        let mut statuses = Vec::new();
        for number in 0..8 {
            let reply = stranger.try_login(&name, password);
            let Some(pending) = reply.json()["second_factor"]["token"].as_str().map(str::to_owned) else {
                statuses.push(reply.status);
                continue;
            };
            let wrong = format!("{:06}", (right.parse::<u32>().expect("digits") + number + 1) % 1_000_000);
            statuses.push(stranger.second_factor(&pending, &json!({"code": wrong})).status);
        }
        assert!(statuses[5..].iter().all(|status| *status == 429), "{statuses:?}");
        // A right password in between does not set the count back.
        assert_ne!(stranger.try_login(&name, password).status, 200);
    };
    "a pending log-in is tried again and again",
    "lets one first step carry any number of second ones" => |town| {
        let (name, password, secret, _) = enrolled(town, "pending");
        let stranger = town.server.stranger();
        let pending = stranger.begin_second_factor(&name, password);
        for number in 0..5 {
            stranger.second_factor(&pending, &json!({"code": format!("00000{number}")}));
        }
        assert_ne!(stranger.second_factor(&pending, &json!({"code": totp::code(&secret, town.server.now())})).status, 200);
    };
    "a pending log-in is used twice",
    "keeps the token after it did its work" => |town| {
        let (name, password, secret, codes) = enrolled(town, "twice");
        let stranger = town.server.stranger();
        let pending = stranger.begin_second_factor(&name, password);
        stranger.second_factor(&pending, &json!({"code": totp::code(&secret, town.server.now())})).expect(200);
        one_of(&stranger.second_factor(&pending, &json!({"recovery_code": codes[0]})), &[401]);
        // It was not taken for that.
        let pending = stranger.begin_second_factor(&name, password);
        stranger.second_factor(&pending, &json!({"recovery_code": codes[0]})).expect(200);
    };
    "a pending log-in is finished with another user's factor",
    "checks the code of whoever it fits" => |town| {
        let (name, password, ..) = enrolled(town, "victim-two");
        let (_, _, others, codes) = enrolled(town, "thief-two");
        let stranger = town.server.stranger();
        let pending = stranger.begin_second_factor(&name, password);
        one_of(&stranger.second_factor(&pending, &json!({"code": totp::code(&others, town.server.now())})), &[401]);
        one_of(&stranger.second_factor(&pending, &json!({"recovery_code": codes[0]})), &[401]);
    };
    "a pending log-in is used as a session",
    "keeps both in one table" => |town| {
        let (name, password, ..) = enrolled(town, "half");
        let pending = town.server.stranger().begin_second_factor(&name, password);
        for call in [
            Call::get("/api/v1/session").header("Cookie", format!("wharfinger_session={pending}")),
            Call::get("/api/v1/session").bearer(&pending),
            Call::get("/api/v1/orgs/main").bearer(&format!("rs1.{pending}")),
        ] {
            call.send(&town.server.controller()).expect(401);
        }
    };
    "a pending log-in outlives a change of the password",
    "keeps what the old password began" => |town| {
        let (name, password, secret, _) = enrolled(town, "outlived");
        let stranger = town.server.stranger();
        let session = Api::login_totp(town.server.controller(), &name, password, &secret, town.server.now());
        town.server.advance(totp::STEP);
        let pending = stranger.begin_second_factor(&name, password);
        session.change_password(password, "a quite different thing");
        one_of(&stranger.second_factor(&pending, &json!({"code": totp::code(&secret, town.server.now())})), &[401]);
    };
    "a recovery code is used twice",
    "keeps it after it did its work" => |town| {
        let (name, password, _, codes) = enrolled(town, "recovery");
        assert_eq!(codes.len(), 10);
        let stranger = town.server.stranger();
        let enter = |code: &str| stranger.second_factor(&stranger.begin_second_factor(&name, password), &json!({"recovery_code": code})).status;
        assert_eq!(enter(&codes[0]), 200);
        assert_eq!(enter(&codes[0]), 401);
        assert_eq!(enter(&codes[1]), 200);
        assert_eq!(enter(""), 401);
    };
    "old recovery codes are used after new ones were made",
    "adds the new to the old" => |town| {
        let (name, password, secret, codes) = enrolled(town, "renewed");
        let session = Api::login_totp(town.server.controller(), &name, password, &secret, town.server.now());
        town.server.advance(totp::STEP);
        let body = json!({"password": password, "code": totp::code(&secret, town.server.now())});
        let reply = session.post("/account/mfa/recovery-codes", &body);
        let reply = if reply.status == 400 { session.post("/account/mfa/recovery-codes", &json!({})) } else { reply };
        one_of(&reply, &[200, 201]);
        let stranger = town.server.stranger();
        let pending = stranger.begin_second_factor(&name, password);
        one_of(&stranger.second_factor(&pending, &json!({"recovery_code": codes[0]})), &[401]);
        let fresh = reply.json()["recovery_codes"][0].as_str().expect("a code").to_owned();
        stranger.second_factor(&pending, &json!({"recovery_code": fresh})).expect(200);
    };
    "the second factor is passed by at the token service",
    "asks for it in the browser alone" => |town| {
        let (name, password, secret, codes) = enrolled(town, "docker");
        let code = totp::code(&secret, town.server.now());
        for given in [password.to_owned(), format!("{password}{code}"), code, codes[0].clone()] {
            let reply = town.server.try_token(Some((&name, &given)), &["repository:main/app:pull"]).expect(401);
            if given == password {
                assert!(reply.text().contains("API key"), "{}", reply.text());
            }
        }
        // A wrong password is not told from a right one by the hint.
        let wrong = town.server.try_token(Some((&name, "a wrong password")), &[]);
        assert!(!wrong.text().contains("API key"), "{}", wrong.text());
    };
    "a refresh token from before the second factor goes on",
    "asks for the second factor at the log-in alone" => |town| {
        let (name, password) = town.victim("refreshed");
        let query = format!("service={}&offline_token=true&client_id=docker", town.server.service());
        let reply = Call::get(format!("/token?{query}")).basic(&name, password).send(&town.server.auth()).expect(200).json();
        let refresh = reply["refresh_token"].as_str().expect("a refresh token").to_owned();
        town.server.login(&name, password).enrol_totp(town.server.now());
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("service", "x"), ("client_id", "docker")];
        one_of(&Call::post("/token").form(&form).send(&town.server.auth()), &[400, 401]);
    };
    "the second factor is taken off by a stolen session",
    "asks for the session alone" => |town| {
        let (name, password, secret, _) = enrolled(town, "stolen");
        let session = Api::login_totp(town.server.controller(), &name, password, &secret, town.server.now());
        let off = |body: serde_json::Value| session.send(Call::delete("/api/v1/account/mfa/totp").json(&body));
        one_of(&off(json!({})), &[400, 401, 403, 422]);
        one_of(&off(json!({"password": "a wrong password"})), &[401, 403, 422]);
        one_of(&off(json!({"code": "000000"})), &[401, 403, 422]);
        let stranger = town.server.stranger();
        stranger.begin_second_factor(&name, password);
    };
    "the secret of the second factor is read again",
    "shows the QR code whenever it is asked for" => |town| {
        let (name, password, secret, _) = enrolled(town, "reread");
        let session = Api::login_totp(town.server.controller(), &name, password, &secret, town.server.now());
        let seen = session.get("/account/mfa").expect(200).text();
        assert!(!seen.contains(&secret), "{seen}");
        assert!(!town.server.log().contains(&secret));
    };
    "somebody who must have a second factor goes on without",
    "asks for enrolment in the page alone" => |town| {
        town.server.operator().create_org("strict", "admin@strict.example", "no rope is cut without a knot");
        let admin = town.server.login("admin@strict.example", "no rope is cut without a knot");
        // Who demands it of others has it: the admin's own session may end here, and begins anew.
        let (secret, _, _) = admin.enrol_totp(town.server.now());
        town.server.advance(totp::STEP);
        let admin = Api::login_totp(town.server.controller(), "admin@strict.example", "no rope is cut without a knot", &secret, town.server.now())
            .with_spool(town.server.spool());
        admin.create_user("strict", "lax@localhost", "nobody would think of it");
        admin.bind("strict", "lax@localhost", "PROJECT_ADMIN", Some("defaultproject"));
        admin.patch("/orgs/strict/settings", &json!({"mfa_required": true})).expect(200);
        let session = town.server.login("lax@localhost", "nobody would think of it");
        for path in ["/orgs/strict", "/orgs/strict/projects", "/orgs/strict/apikeys"] {
            let reply = session.get(path);
            assert_eq!((reply.status, problem(&reply).as_str()), (403, "mfa-enrolment-required"), "{path}");
        }
        session.post("/orgs/strict/apikeys", &json!({"name": "around"})).expect(403);
        town.server.try_token(Some(("lax@localhost", "nobody would think of it")), &[]).expect(401);
        let (_, _, session) = session.enrol_totp(town.server.now());
        session.get("/orgs/strict/projects").expect(200);
    };
    "an admin resets the second factor of somebody who has other organizations too",
    "lets each organization unlock all the others" => |town| {
        let (name, password, ..) = enrolled(town, "shared");
        town.red.post("/orgs/red/users", &json!({"name": name, "kind": "local"})).expect(201);
        // They did not accept it: the answer is that of whoever is nowhere else, and nothing happens.
        town.red.post(&format!("/orgs/red/users/{name}/mfa/reset"), &json!({})).expect(204);
        town.server.stranger().begin_second_factor(&name, password);
    };
}

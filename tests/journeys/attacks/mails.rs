//! Links and passwords that come by mail.

use std::time::Duration;

use serde_json::json;

use super::{RED_ADMIN, one_of, post, tries, visible};
use crate::support::mail::{INVITED, RESET};
use crate::support::{Api, Call};

const NEW: &str = "a new and different one";

/// Lets the limits of the address be as at the beginning.
fn later(town: &super::Town) {
    town.server.advance(600);
}

fn reset(town: &super::Town, token: &str, new: &str) -> crate::support::Reply {
    post(town, "/password/reset", &json!({"token": token, "new": new}))
}

tries! {
    "a reset link is used twice",
    "keeps the token after it did its work" => |town| {
        later(town);
        let (name, _) = town.victim("reset-twice");
        let token = town.server.api().forget_password(&name);
        reset(town, &token, NEW).expect(204);
        assert_ne!(reset(town, &token, "the thief's own choice").status, 204);
        town.server.stranger().try_login(&name, NEW).expect(200);
    };
    "a reset link is used after three days",
    "never looks at its age" => |town| {
        later(town);
        let (name, password) = town.victim("reset-late");
        let token = town.server.api().forget_password(&name);
        town.server.advance(72 * 3600 + 1);
        assert_ne!(reset(town, &token, NEW).status, 204);
        town.server.stranger().try_login(&name, password).expect(200);
    };
    "a reset link from before the password was changed is used",
    "leaves links alive when the password changes" => |town| {
        later(town);
        let (name, password) = town.victim("reset-after-change");
        let token = town.server.stranger().forget_password(&name);
        let session = town.server.login(&name, password);
        session.change_password(password, NEW);
        assert_ne!(reset(town, &token, "the thief's own choice").status, 204);
        town.server.stranger().try_login(&name, NEW).expect(200);
    };
    "a failed reset uses up the link, or a guess finds one",
    "looks tokens up by their beginning" => |town| {
        later(town);
        let (name, _) = town.victim("reset-guess");
        let token = town.server.stranger().forget_password(&name);
        for guess in [String::new(), token[..token.len() - 1].to_owned(), format!("{token}0"), token.to_uppercase(), "%".into(), "' OR 1=1 --".into()] {
            if guess != token {
                assert_ne!(reset(town, &guess, NEW).status, 204, "{guess}");
            }
        }
        later(town);
        one_of(&reset(town, &token, "short"), &[422]);
        reset(town, &token, NEW).expect(204);
    };
    "a reset link opens another user's account",
    "takes the name from the request" => |town| {
        later(town);
        let (thief, _) = town.victim("reset-thief");
        let token = town.server.stranger().forget_password(&thief);
        for field in ["email", "username", "user", "name"] {
            let body = json!({"token": token, "new": NEW, field: RED_ADMIN});
            one_of(&post(town, "/password/reset", &body), &[400, 422]);
        }
        town.server.stranger().try_login(RED_ADMIN, super::RED_PASSWORD).expect(200);
    };
    "a reset link is used as a session, or another token as a reset link",
    "keeps one table of one-time tokens and forgets their kinds" => |town| {
        later(town);
        let (name, password) = town.victim("reset-kind");
        let token = town.server.stranger().forget_password(&name);
        let device = post(town, "/device/code", &json!({"client": "rctl"})).expect(200).json();
        let cookie = town.server.login(&name, password).cookie().split('=').nth(1).expect("a value").to_owned();
        for other in [device["device_code"].as_str().expect("a code"), &cookie] {
            assert_ne!(reset(town, other, NEW).status, 204);
        }
        Call::get("/api/v1/session").bearer(&token).send(&town.server.controller()).expect(401);
        assert_ne!(post(town, "/device/token", &json!({"device_code": token})).status, 200);
        assert_ne!(post(town, "/login/second-factor", &json!({"token": token, "code": "000000"})).status, 200);
    };
    "a reset passes the second factor by",
    "logs in whoever came by the link, or takes the factor off" => |town| {
        later(town);
        let (name, password) = town.victim("reset-mfa");
        town.server.login(&name, password).enrol_totp(town.server.now());
        let token = town.server.stranger().forget_password(&name);
        let reply = reset(town, &token, NEW).expect(204);
        assert!(reply.header("set-cookie").is_none());
        town.server.stranger().begin_second_factor(&name, NEW);
    };
    "a reset unlocks nothing else: sessions and tokens of the old password go on",
    "changes the hash alone" => |town| {
        later(town);
        let (name, password) = town.victim("reset-sessions");
        let session = town.server.login(&name, password);
        let token = town.server.stranger().forget_password(&name);
        reset(town, &token, NEW).expect(204);
        session.get("/session").expect(401);
        town.server.try_token(Some((&name, password)), &[]).expect(401);
    };
    "addresses are told apart by asking for a reset",
    "answers 404 for unknown addresses" => |town| {
        later(town);
        let known = post(town, "/password/forgot", &json!({"email": super::READER}));
        let unknown = post(town, "/password/forgot", &json!({"email": "nobody-5@localhost"}));
        assert_eq!(visible(&known), visible(&unknown));
        assert_eq!(known.status, 202);
    };
    "a machine, or somebody who never came, is sent a reset link",
    "sends one to whatever is in the table of users" => |town| {
        later(town);
        town.server.api().create_machine("main", "mailbox");
        town.server.api().invite("main", "never-came@localhost");
        for name in ["mailbox", "never-came@localhost", "nobody-6@localhost"] {
            one_of(&post(town, "/password/forgot", &json!({"email": name})), &[202, 422]);
        }
        // Whoever has no account gets no mail.
        let none = town.server.spool().try_next("nobody-6@localhost", "", 0, Duration::from_millis(800));
        assert!(none.is_none(), "{none:?}");
        assert!(town.server.spool().to("mailbox").is_empty());
    };
    "somebody is flooded with mails",
    "sends one for every request" => |town| {
        later(town);
        let (name, _) = town.victim("flooded");
        for _ in 0..20 {
            one_of(&post(town, "/password/forgot", &json!({"email": name})), &[202, 429]);
        }
        std::thread::sleep(Duration::from_millis(1500));
        let sent = town.server.spool().count(&name, RESET);
        assert!(sent <= 6, "{sent} mails");
    };
    "the link in a mail leads to the host that the request named",
    "makes links from Host, X-Forwarded-Host or Forwarded" => |town| {
        later(town);
        let (name, _) = town.victim("poisoned");
        let seen = town.server.spool().count(&name, RESET);
        let call = Call::post("/api/v1/password/forgot").json(&json!({"email": name}))
            .header("Host", "evil.example").header("X-Forwarded-Host", "evil.example")
            .header("Forwarded", "host=evil.example").header("X-Forwarded-Proto", "https");
        let reply = call.send(&town.server.controller());
        if reply.status == 202 {
            let mail = town.server.spool().next(&name, RESET, seen);
            assert!(!mail.text.contains("evil.example") && !mail.html.contains("evil.example"), "{}", mail.text);
        } else {
            one_of(&reply, &[400, 403, 421]);
        }
    };
    "a name puts headers or markup into a mail",
    "pastes text into the message" => |town| {
        later(town);
        for name in ["a@localhost\r\nBcc: evil@example.com", "a@localhost\nX: y", "<script>@localhost", "a@localhost, b@localhost"] {
            one_of(&town.server.api().post("/orgs/main/users", &json!({"name": name, "kind": "local"})), &[400, 422]);
        }
        let operator = town.server.operator();
        let body = json!({"slug": "markup", "name": "<b>Free</b> money\r\nBcc: evil@example.com", "admin": {"email": "boss@markup.example"}});
        let reply = operator.post("/orgs", &body);
        if reply.status == 201 {
            let mail = town.server.spool().next("boss@markup.example", INVITED, 0);
            assert!(!mail.html.contains("<b>Free"), "{}", mail.html);
            assert!(!mail.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("bcc")));
        } else {
            one_of(&reply, &[400, 422]);
        }
    };
    "an invitation is sent to take an account over",
    "sends a new password to, or for, an account that exists" => |town| {
        later(town);
        let (name, password) = town.victim("taken-over");
        let red = town.server.login(RED_ADMIN, super::RED_PASSWORD);
        let seen = town.server.spool().count(&name, INVITED);
        red.post("/orgs/red/users", &json!({"name": name, "kind": "local"})).expect(201);
        town.server.spool().next(&name, crate::support::mail::ADDED, 0);
        assert_eq!(town.server.spool().count(&name, INVITED), seen);
        town.server.stranger().try_login(&name, password).expect(200);
        // Resending to somebody who has logged in sends no password either.
        red.post(&format!("/orgs/red/users/{name}/resend"), &json!({}));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(town.server.spool().count(&name, INVITED), seen);
        town.server.stranger().try_login(&name, password).expect(200);
    };
    "an address is squatted before its owner comes",
    "keeps what an unverified account was prepared with" => |town| {
        later(town);
        // Red invites somebody, reads nothing of their mail, and prepares what it can.
        let red = town.server.login(RED_ADMIN, super::RED_PASSWORD);
        let first = red.invite("red", "owner@localhost").temporary_password();
        let session = Api::login(town.server.controller(), "owner@localhost", &first);
        // Main invites them too: what came before ends.
        let second = town.server.api().invite("main", "owner@localhost").temporary_password();
        assert_ne!(first, second);
        session.get("/session").expect(401);
        town.server.stranger().try_login("owner@localhost", &first).expect(401);
        town.server.stranger().try_login("owner@localhost", &second).expect(200);
    };
    "mails lie where others read them",
    "writes files as the umask says" => |town| {
        later(town);
        use std::os::unix::fs::PermissionsExt as _;
        let spool = town.server.spool();
        town.victim("private-mail");
        let mail = spool.to("private-mail@localhost").remove(0);
        assert_eq!(std::fs::metadata(&mail.file).unwrap().permissions().mode() & 0o077, 0);
        assert_eq!(std::fs::metadata(spool.dir()).unwrap().permissions().mode() & 0o077, 0);
        let password = mail.temporary_password();
        assert!(!town.server.log().contains(&password));
        let database = std::fs::read(town.server.data_dir.join("wharfinger.db")).unwrap_or_default();
        assert!(!database.windows(password.len()).any(|window| window == password.as_bytes()));
    };
}

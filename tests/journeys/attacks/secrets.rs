//! Guessing: passwords, keys, names.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{DEV, one_of, tries, visible};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::support::{Api, Call};

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

tries! {
    "unknown names are told from known ones by the answer of a log-in",
    "says `no such user`" => |town| {
        let known = town.server.stranger().try_login("reader@localhost", "a wrong password");
        let unknown = town.server.stranger().try_login("nobody-1@localhost", "a wrong password");
        assert_eq!(visible(&known), visible(&unknown));
        let known = town.server.try_token(Some(("reader@localhost", "a wrong password")), &[]);
        let unknown = town.server.try_token(Some(("nobody-2@localhost", "a wrong password")), &[]);
        assert_eq!(visible(&known), visible(&unknown));
    };
    "unknown names are told from known ones by time",
    "hashes the password of known names only" => |town| {
        let sample = |name: &str, number: usize| {
            let begun = Instant::now();
            // Each round its own name, so that no lock gets in between.
            let name = name.replace('#', &number.to_string());
            town.server.try_token(Some((&name, "a wrong password")), &[]).expect(401);
            begun.elapsed()
        };
        for number in 0..5 {
            town.admin.create_user("main", &format!("timed-{number}@localhost"), "nobody would think of it");
        }
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for number in 0..5 {
            known.push(sample("timed-#@localhost", number));
            unknown.push(sample("absent-#@localhost", number));
        }
        let (known, unknown) = (median(known), median(unknown));
        println!("a wrong password of a known name takes {known:?}, of an unknown one {unknown:?}");
        // A hash is tens of milliseconds, everything else a few.
        assert!(unknown * 3 > known && known * 3 > unknown, "{known:?} against {unknown:?}");
    };
    "unknown names are told from known ones by the lock",
    "locks known names only" => |town| {
        let (victim, _) = town.victim("locked-out");
        let storm = |name: &str| (0..7).map(|_| town.server.stranger().try_login(name, "wrong, wrong").status).collect::<Vec<_>>();
        assert_eq!(storm(&victim), storm("nobody-3@localhost"));
    };
    "unknown names are told from known ones by an invitation",
    "answers 409 for an address that has an account elsewhere" => |town| {
        let known = town.red.post("/orgs/red/users", &json!({"name": DEV, "kind": "local"})).expect(201);
        let unknown = town.red.post("/orgs/red/users", &json!({"name": "new-1@localhost", "kind": "local"})).expect(201);
        let blank = |reply: &crate::support::Reply, name: &str| {
            let mut body = reply.json();
            for field in ["created_at", "invited_at"] {
                if !body[field].is_null() {
                    body[field] = json!("T");
                }
            }
            body.to_string().replace(name, "X")
        };
        assert_eq!(blank(&known, DEV), blank(&unknown, "new-1@localhost"));
        let list = |name: &str| {
            let reply = town.red.get(&format!("/orgs/red/users/{name}")).expect(200);
            blank(&reply, name)
        };
        assert_eq!(list(DEV), list("new-1@localhost"));
    };
    "passwords are guessed through one door after another",
    "counts failures for each door" => |town| {
        let (victim, password) = town.victim("guessed");
        let mut statuses = Vec::new();
        for number in 0..3 {
            statuses.push(town.server.stranger().try_login(&victim, &format!("guess {number} of many")).status);
            statuses.push(town.server.try_token(Some((&victim, &format!("guess {number} by docker"))), &[]).status);
        }
        assert_eq!(&statuses[..5], &[401; 5], "{statuses:?}");
        assert_eq!(statuses[5], 429, "{statuses:?}");
        // The right one does not open it either, spelled as it may be.
        for name in [victim.clone(), victim.to_uppercase()] {
            assert_ne!(town.server.stranger().try_login(&name, password).status, 200);
            assert_ne!(town.server.try_token(Some((&name, password)), &[]).status, 200);
        }
    };
    "spellings of a name each have five guesses of their own",
    "counts failures by the name as it was sent" => |town| {
        let (victim, password) = town.victim("spelled");
        let spellings = [victim.clone(), victim.to_uppercase(), format!(" {victim}"), format!("{victim} "), victim.replace("spelled", "Spelled")];
        for spelling in &spellings {
            town.server.stranger().try_login(spelling, "a wrong password");
            town.server.stranger().try_login(spelling, "another wrong one");
        }
        assert_eq!(town.server.stranger().try_login(&victim, password).status, 429);
    };
    "the current password is guessed in a stolen session",
    "counts failures at the log-in alone" => |town| {
        let (victim, password) = town.victim("session-guess");
        let session = town.server.login(&victim, password);
        let change = |current: &str| session.post("/password", &json!({"current": current, "new": "what the thief would like"})).status;
        for number in 0..6 {
            assert_ne!(change(&format!("guess {number} of many")), 200);
        }
        assert_ne!(change(password), 200, "after so many failures even the right one must wait");
    };
    "API keys are guessed: a wrong secret, cut short, empty, of another key",
    "compares as many characters as were sent" => |town| {
        let (_, key) = town.admin.create_api_key("main", None, "guessed");
        let (_, other) = town.admin.create_api_key("main", None, "other");
        let parts: Vec<&str> = key.split('.').collect();
        let others: Vec<&str> = other.split('.').collect();
        let secret = parts[2];
        let mut guesses = vec![
            format!("ra2.{}.{}", parts[1], "0".repeat(64)),
            format!("ra2.{}.{}", parts[1], &secret[..63]),
            format!("ra2.{}.{}", parts[1], &secret[..1]),
            format!("ra2.{}.", parts[1]),
            format!("ra2.{}", parts[1]),
            format!("ra2.{}.{}", parts[1], others[2]),
            format!("ra2.{}.{secret}0", parts[1]),
            format!("ra1.{}.{secret}", parts[1]),
            format!("ra2..{secret}"),
            format!("ra2.{}.{}", parts[1], secret.replace(|c: char| c.is_ascii_digit(), "%")),
            format!("ra2.%.{secret}"),
            format!("{key}.x"),
            format!("ra2.{}.{}", "0".repeat(40), "0".repeat(64)),
        ];
        guesses.push(String::new());
        for guess in &guesses {
            Call::get("/api/v1/orgs/main").header("X-API-KEY", guess).send(&town.server.controller()).expect(401);
            Call::get("/api/v1/orgs/main").bearer(guess).send(&town.server.controller()).expect(401);
        }
        // Fewer at the token service: failures there count to the name.
        for guess in &guesses[..3] {
            town.server.try_token(Some((ADMIN, guess)), &[]).expect(401);
        }
        Api::bearer(town.server.controller(), &key).get("/orgs/main").expect(200);
        town.server.try_token(Some((ADMIN, ADMIN_PASSWORD)), &[]).expect(200);
    };
    "a key is used with another user's name",
    "takes the key and forgets to compare the name" => |town| {
        let (_, key) = town.admin.create_api_key("main", None, "named");
        town.server.try_token(Some((DEV, &key)), &[]).expect(401);
        town.server.try_token(Some(("nobody-4@localhost", &key)), &[]).expect(401);
    };
    "a key is shown again",
    "keeps keys as they are, and lists them" => |town| {
        let (id, key) = town.admin.create_api_key("main", None, "shown-once");
        let secret = key.rsplit('.').next().expect("a secret").to_owned();
        for path in ["/orgs/main/apikeys".to_owned(), format!("/orgs/main/apikeys/{id}"), "/orgs/main/audit?limit=500".to_owned()] {
            let text = town.admin.get(&path).expect(200).text();
            assert!(!text.contains(&secret), "{path}");
        }
        assert!(!town.server.log().contains(&secret));
    };
    "a password that everybody knows is chosen",
    "looks at the length alone" => |town| {
        let admin = town.server.api();
        let temporary = admin.invite("main", "weak@localhost").temporary_password();
        let session = Api::login(town.server.controller(), "weak@localhost", &temporary);
        for new in ["short", "password", "Password1", "12345678", "qwertyuiop", "aaaaaaaaaaaa", "weak@localhost", "iloveyou1"] {
            one_of(&session.post("/password", &json!({"current": temporary, "new": new})), &[422]);
        }
    };
    "a temporary password is used after three days",
    "never looks at its age" => |town| {
        let temporary = town.server.api().invite("main", "late@localhost").temporary_password();
        town.server.advance(72 * 3600 + 1);
        town.server.stranger().try_login("late@localhost", &temporary).expect(401);
        // Another invitation brings another, and the old one stays dead.
        let admin = town.server.api();
        let seen = admin.spool().count("late@localhost", crate::support::mail::INVITED);
        one_of(&admin.post("/orgs/main/users/late@localhost/resend", &json!({})), &[200, 202, 204]);
        let fresh = admin.spool().next("late@localhost", crate::support::mail::INVITED, seen).temporary_password();
        town.server.stranger().try_login("late@localhost", &temporary).expect(401);
        town.server.stranger().try_login("late@localhost", &fresh).expect(200);
    };
}

//! What is sent: addresses in headers, shapes of JSON, letters in names, and what they do to logs and exports.

use serde_json::json;

use super::{one_of, post, tries};
use crate::support::api::segment;
use crate::support::mail::INVITED;
use crate::support::server::parallel;
use crate::support::{Call, Setup};

/// The day of a time, as RFC 3339 begins.
pub(super) fn rfc3339_day(unix: i64) -> String {
    // Howard Hinnant's civil_from_days.
    let shifted = unix.div_euclid(86_400) + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    format!("{:04}-{month:02}-{day:02}", year_of_era + era * 400 + i64::from(month <= 2))
}

tries! {
    "the address in the audit log is what the client says",
    "believes X-Forwarded-For" => |town| {
        let call = Call::post("/api/v1/orgs/main/projects").json(&json!({"slug": "spoofed"}))
            .header("X-Forwarded-For", "203.0.113.77").header("X-Real-IP", "203.0.113.77")
            .header("Forwarded", "for=203.0.113.77").header("True-Client-IP", "203.0.113.77").header("CF-Connecting-IP", "203.0.113.77");
        town.admin.send(call).expect(201);
        let events = town.admin.audit("main", "action=project.create");
        let event = events.iter().find(|event| event["target"].as_str().is_some_and(|target| target.contains("spoofed"))).expect("the event");
        let address = event["address"].as_str().expect("an address");
        assert!(address == "127.0.0.1" || address == "::1", "{address}");
        assert!(!town.server.log().contains("203.0.113.77"));
    };
    "limits for each address are passed by with made-up addresses",
    "counts by X-Forwarded-For" => |_| {
        // A server of its own: this address is refused afterwards.
        let server = Setup::plain().start();
        let controller = server.controller();
        let spray = move |worker: usize| {
            let guess = |number: usize| {
                let body = json!({"username": format!("spray-{worker}-{number}@localhost"), "password": "a wrong password"});
                let address = format!("203.0.113.{}", (worker * 80 + number) % 250);
                Call::post("/api/v1/login").json(&body).header("X-Forwarded-For", address).send(&controller)
            };
            let stopped = (0..80).map(guess).find(|reply| reply.status == 429);
            stopped.map(|reply| reply.header("retry-after").is_some())
        };
        let stopped = parallel(4, spray);
        assert!(stopped.iter().all(|each| *each == Some(true)), "320 guesses from one address: {stopped:?}");
    };
    "JSON that is huge, deep, double or not JSON at all",
    "parses before it counts" => |town| {
        let send = |body: Vec<u8>| {
            let call = Call::post("/api/v1/orgs/main/groups").header("Content-Type", "application/json").body(body);
            town.admin.send(call)
        };
        one_of(&send(vec![b' '; 5 << 20]), &[413]);
        one_of(&send("[".repeat(60_000).into_bytes()), &[400]);
        one_of(&send(format!("{}1{}", "{\"a\":".repeat(5_000), "}".repeat(5_000)).into_bytes()), &[400]);
        one_of(&send(b"{\"name\":\"a\",\"name\":\"b\"}".to_vec()), &[400]);
        one_of(&send(b"{\"name\":\"\xff\xfe\"}".to_vec()), &[400]);
        one_of(&send(b"{\"name\":1e999}".to_vec()), &[400]);
        one_of(&send(b"{\"name\":null}".to_vec()), &[400]);
        one_of(&send(b"name=x".to_vec()), &[400]);
        one_of(&send(b"{\"name\":\"x\"} trailing".to_vec()), &[400]);
        one_of(&send(format!("{{\"name\":\"{}\"}}", "x".repeat(60_000)).into_bytes()), &[400, 422]);
    };
    "names with NUL, control characters, other alphabets, or nothing in them",
    "stores what it is given: two that look alike, one that no one can type" => |town| {
        let bad = ["a\u{0}b", "a\nb", "a\u{202e}b", "\u{200b}", "a\u{7f}", "", " ", "a\u{feff}", "\u{2028}"];
        for name in bad {
            one_of(&town.admin.post("/orgs/main/groups", &json!({"name": name})), &[400, 422]);
            one_of(&town.admin.post("/orgs/main/users", &json!({"name": format!("{name}@localhost"), "kind": "local"})), &[400, 422]);
            one_of(&town.admin.post("/orgs/main/users", &json!({"name": name, "kind": "machine"})), &[400, 422]);
            one_of(&town.admin.post("/orgs/main/projects", &json!({"slug": name})), &[400, 422]);
            one_of(&town.admin.post("/orgs/main/apikeys", &json!({"name": name})), &[400, 422]);
            one_of(&town.admin.try_role("main", name, "AUDITOR", &json!({})), &[400, 422]);
        }
        for name in ["\u{0430}dmin@localhost", "admin@localhost\u{0}", "admin@localhost\u{ad}", "ｄev@localhost"] {
            one_of(&town.admin.post("/orgs/main/users", &json!({"name": name, "kind": "local"})), &[400, 422]);
        }
    };
    "two spellings of one address become two people",
    "compares letters by their bytes" => |town| {
        town.admin.create_user("main", "case@localhost", "nobody would think of it");
        let again = town.admin.post("/orgs/main/users", &json!({"name": "CASE@LocalHost", "kind": "local"}));
        one_of(&again, &[409]);
        assert_eq!(town.server.spool().count("case@localhost", INVITED), 1);
    };
    "paths that climb, are encoded twice, or end in a NUL",
    "decodes after it decided" => |town| {
        for path in [
            "/orgs/red/../main/users", "/orgs/red/%2e%2e/main/users", "/orgs/main%2Fusers", "/orgs/main%00", "/orgs/main%2500/users",
            "/orgs//main/users", "/orgs/main/users/..%2f..%2f..%2fred", "/orgs/./main/users", "/orgs/MAIN/users", "/orgs/main./users",
            "/orgs/main;x=y/users", "/orgs/%6dain%20/users", "/orgs/main/users/%ff",
        ] {
            let reply = town.red.get(path);
            one_of(&reply, &[400, 404, 405]);
        }
    };
    "parameters that the database would read: quotes, wildcards, numbers past their end",
    "pastes text into SQL" => |town| {
        let hidden = town.admin.get("/orgs/main/users?search=%25").expect(200).json();
        assert_eq!(hidden["items"], json!([]), "a wildcard is a letter like any other");
        for query in [
            "search=%27%20OR%201%3D1%20--", "after=%27", "limit=0", "limit=-1", "limit=1e9", "limit=99999999999999999999", "after=%00",
            "kind=%27", "status=x", "limit=10&limit=20",
        ] {
            let reply = town.admin.get(&format!("/orgs/main/users?{query}"));
            assert!(reply.status < 500, "{query}: {}", reply.text());
        }
        for query in ["since=x", "until=9999999999999999999", "after=-1", "after=99999999999999999999", "outcome=%27", "limit=100000", "address=%27", "seq=1"] {
            let reply = town.admin.get(&format!("/orgs/main/audit?{query}"));
            assert!(reply.status < 500, "{query}: {}", reply.text());
        }
    };
    "a cell of the exported audit log is a formula (CSV injection)",
    "writes values as they are" => |town| {
        for agent in ["=HYPERLINK(\"http://evil.example\")", "+1+1", "-2+3", "@SUM(1)", "\t=1+1", "a\",=1+1,\"b"] {
            town.admin.send(Call::post("/api/v1/orgs/main/groups").header("User-Agent", agent).json(&json!({"name": format!("csv {}", agent.len())})));
        }
        let export = town.admin.get("/orgs/main/audit/export?format=csv").expect(200).text();
        assert!(export.contains("HYPERLINK"));
        for cell in cells(&export) {
            assert!(!cell.starts_with(['=', '+', '-', '@', '\t', '\r']) || cell.parse::<f64>().is_ok(), "{cell}");
        }
    };
    "a line of the log or of the export is made up (log injection)",
    "writes line feeds as they are" => |town| {
        let forged = "x\\n{\"level\":\"ERROR\",\"message\":\"forged line\"}";
        town.admin.send(Call::get("/api/v1/orgs/main/users/x%0aINFO%20forged%20line%0d%0a").header("User-Agent", forged));
        post(town, "/login", &json!({"username": "x\nINFO forged line", "password": "p\nINFO forged line"}));
        town.server.try_token(Some(("x\nINFO forged line", "y")), &[]);
        let log = town.server.log();
        assert!(!log.lines().any(|line| line.trim_start().starts_with("INFO forged line") || line.starts_with("{\"level\":\"ERROR\",\"message\":\"forged")));
        let export = town.admin.get("/orgs/main/audit/export?format=ndjson").expect(200).text();
        for line in export.lines() {
            assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
        }
    };
    "a secret is found in the log",
    "logs bodies, headers or queries" => |town| {
        let token = town.admin.forget_password(super::READER);
        Call::get(format!("/password-reset?token={token}")).send(&town.server.controller());
        let (_, key) = town.admin.create_api_key("main", None, "in-the-log");
        Call::get("/api/v1/orgs/main").bearer(&key).send(&town.server.controller());
        let cookie = town.admin.cookie().split('=').nth(1).expect("a value").to_owned();
        let log = town.server.log();
        for secret in [key.rsplit('.').next().expect("a secret"), &cookie, super::DEV_PASSWORD, super::RED_PASSWORD, crate::support::server::ADMIN_PASSWORD, &token] {
            assert!(!log.contains(secret), "a secret is in the log");
        }
    };
    "a header is smuggled through a value that comes back",
    "copies request headers into answers" => |town| {
        let reply = town.admin.send(Call::get("/api/v1/orgs/main").header("X-Request-Id", "x\u{1b}[31m evil"));
        assert!(!reply.header("x-request-id").unwrap_or_default().contains('\u{1b}'));
        let reply = town.admin.get(&format!("/orgs/main/users/{}", segment("x\r\nSet-Cookie: a=b")));
        assert!(reply.header("set-cookie").is_none());
        one_of(&reply, &[400, 404]);
    };
    "the same request twice with one idempotency key does its work twice",
    "checks for the key before, and writes it after" => |town| {
        let statuses = parallel(8, {
            let admin = town.admin.clone();
            move |_| admin.post_once("/orgs/main/apikeys", "race-1", &json!({"name": "race"})).status
        });
        assert!(statuses.iter().all(|status| matches!(status, 201 | 409)), "{statuses:?}");
        let list = town.admin.get("/orgs/main/apikeys?limit=200").expect(200).json();
        let made = list["items"].as_array().expect("keys").iter().filter(|key| key["name"] == "race").count();
        assert_eq!(made, 1);
    };
    "an error tells what is inside",
    "answers with the database's words" => |town| {
        for path in ["/orgs/main/users/%27", "/orgs/main/apikeys/%27", "/orgs/main/audit/99999999999999999999", "/device/%27", "/orgs/main/bindings/x"] {
            let text = town.admin.get(path).text().to_lowercase();
            for word in ["sqlite", "postgres", "select ", "panicked", "/src/", ".rs:"] {
                assert!(!text.contains(word), "{path}: {text}");
            }
        }
    };
}

/// The cells of a CSV text (RFC 4180).
fn cells(text: &str) -> Vec<String> {
    let (mut cells, mut cell, mut quoted) = (Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                cell.push('"');
            }
            '"' => quoted = !quoted,
            ',' | '\n' if !quoted => cells.push(std::mem::take(&mut cell)),
            '\r' if !quoted => {}
            other => cell.push(other),
        }
    }
    cells
}

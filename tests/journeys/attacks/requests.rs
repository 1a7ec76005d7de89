//! Sessions, and requests that somebody else makes in their name.

use serde_json::json;

use super::{DEV, DEV_PASSWORD, one_of, problem, tries};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::support::{Api, Call};

tries! {
    "a session's cookie is planted before the log-in (session fixation)",
    "keeps the session that the browser came with" => |town| {
        let planted = format!("wharfinger_session={}", "a".repeat(64));
        let reply = Call::post("/api/v1/login").header("Cookie", &planted)
            .json(&json!({"username": DEV, "password": DEV_PASSWORD})).send(&town.server.controller()).expect(200);
        let given = reply.header("set-cookie").expect("a cookie of the server's own");
        assert!(!given.contains(&"a".repeat(64)));
        Call::get("/api/v1/session").header("Cookie", &planted).send(&town.server.controller()).expect(401);
        // Nor is the attacker's own session, planted, given the victim's rights.
        let red = town.red.cookie();
        let reply = Call::post("/api/v1/login").header("Cookie", red)
            .json(&json!({"username": DEV, "password": DEV_PASSWORD})).send(&town.server.controller()).expect(200);
        assert!(!reply.header("set-cookie").expect("a cookie").starts_with(red));
        let session = town.red.get("/session").expect(200).text();
        assert!(session.contains(super::RED_ADMIN), "{session}");
    };
    "a form of another site sends the cookie (CSRF without a token)",
    "trusts the cookie" => |town| {
        let reply = Call::post("/api/v1/orgs/main/projects").header("Cookie", town.admin.cookie())
            .json(&json!({"slug": "forged"})).send(&town.server.controller());
        assert_eq!((reply.status, problem(&reply).as_str()), (403, "csrf-token"));
    };
    "the CSRF token of another session is sent",
    "checks that the token is one, not whose" => |town| {
        let reply = Call::post("/api/v1/orgs/main/projects").header("Cookie", town.admin.cookie())
            .header("X-CSRF-Token", town.red.csrf()).json(&json!({"slug": "forged"})).send(&town.server.controller());
        reply.expect(403);
    };
    "a foreign origin sends the cookie and the token",
    "looks at the token alone" => |town| {
        let forge = |origin: &str| {
            let call = Call::post("/api/v1/orgs/main/projects").header("Origin", origin).json(&json!({"slug": "forged"}));
            town.admin.send(call).status
        };
        for origin in ["https://evil.example", "null", "http://localhost.evil.example"] {
            assert_eq!(forge(origin), 403, "{origin}");
        }
    };
    "a login form of another site logs the victim in as the attacker (login CSRF)",
    "takes log-ins from every origin" => |town| {
        let body = json!({"username": DEV, "password": DEV_PASSWORD});
        let call = Call::post("/api/v1/login").header("Origin", "https://evil.example").json(&body);
        one_of(&call.send(&town.server.controller()), &[403]);
    };
    "a body is sent as text/plain, as forms of other sites can",
    "parses whatever the type says" => |town| {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "text/plain; x=application/json"] {
            let call = Call::post("/api/v1/orgs/main/projects").header("Content-Type", kind)
                .body(json!({"slug": "forged"}).to_string());
            town.admin.send(call).expect(415);
        }
    };
    "another site reads the answer with the victim's cookie (CORS)",
    "answers every origin with Access-Control-Allow-Origin" => |town| {
        let call = Call::get("/api/v1/session").header("Origin", "https://evil.example");
        let reply = town.admin.send(call);
        assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{:?}", reply.headers);
        let flight = Call::new("OPTIONS", "/api/v1/orgs/main/projects").header("Origin", "https://evil.example")
            .header("Access-Control-Request-Method", "POST").send(&town.server.controller());
        assert!(!flight.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{:?}", flight.headers);
    };
    "the method is overridden in a header or a parameter",
    "honours X-HTTP-Method-Override" => |town| {
        for header in ["X-HTTP-Method-Override", "X-Method-Override", "X-HTTP-Method"] {
            let reply = town.admin.send(Call::get(format!("/api/v1/orgs/main/users/{DEV}")).header(header, "DELETE"));
            reply.expect(200);
        }
        town.admin.get(&format!("/orgs/main/users/{DEV}?_method=DELETE"));
        town.admin.get(&format!("/orgs/main/users/{DEV}")).expect(200);
    };
    "the path is overridden in a header",
    "routes by X-Original-URL or X-Rewrite-URL" => |town| {
        for header in ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Prefix"] {
            let reply = Call::get("/api/v1/openapi.json").header(header, "/api/v1/orgs/main/users").send(&town.server.controller());
            assert!(reply.expect(200).json()["openapi"].is_string());
        }
    };
    "a user's name is sent in a header",
    "trusts a proxy's X-Remote-User" => |town| {
        for header in ["X-Remote-User", "X-Forwarded-User", "Remote-User", "X-User", "X-Wharfinger-User"] {
            Call::get("/api/v1/session").header(header, ADMIN).send(&town.server.controller()).expect(401);
            Call::get("/api/v1/orgs/main").header(header, ADMIN).send(&town.server.controller()).expect(401);
        }
    };
    "a session's token is sent in the query",
    "looks for credentials wherever they may be, logs included" => |town| {
        let (_, key) = town.admin.create_api_key("main", None, "query");
        for name in ["access_token", "token", "api_key", "key", "session"] {
            Call::get(format!("/api/v1/orgs/main?{name}={key}")).send(&town.server.controller()).expect(401);
            let cookie = town.admin.cookie().split('=').nth(1).expect("a value").to_owned();
            Call::get(format!("/api/v1/orgs/main?{name}={cookie}")).send(&town.server.controller()).expect(401);
        }
    };
    "a cookie's value is sent as a bearer token, and a CLI session as a cookie",
    "keeps one table of tokens and takes each at each door" => |town| {
        let value = town.admin.cookie().split('=').nth(1).expect("a value").to_owned();
        for token in [value.clone(), format!("rs1.{value}")] {
            let reply = Api::bearer(town.server.controller(), &token).post("/orgs/main/projects", &json!({"slug": "forged"}));
            reply.expect(401);
        }
    };
    "a session goes on after its logout",
    "deletes the cookie in the browser alone" => |town| {
        let session = town.server.login(DEV, DEV_PASSWORD);
        session.post("/logout", &json!({})).expect(204);
        session.get("/session").expect(401);
        session.get("/orgs").expect(401);
    };
    "a session lives for ever when it is used",
    "prolongs it at each request" => |town| {
        let session = town.server.login(DEV, DEV_PASSWORD);
        for _ in 0..5 {
            town.server.advance(5 * 3600 - 60);
            session.get("/session");
        }
        session.get("/session").expect(401);
    };
    "a session chooses an organization that its user is no member of",
    "takes any slug" => |town| {
        // The day before ended all sessions.
        let red = town.server.login(super::RED_ADMIN, super::RED_PASSWORD);
        one_of(&red.post("/session/org", &json!({"org": "main"})), &[404]);
        red.get("/orgs/main").expect(404);
    };
    "a temporary password's session does more than choose a new one",
    "asks for the change in the page alone" => |town| {
        let admin = town.server.api();
        let temporary = admin.invite("main", "fresh@localhost").temporary_password();
        admin.bind("main", "fresh@localhost", "ADMIN", None);
        let session = Api::login(town.server.controller(), "fresh@localhost", &temporary);
        for path in ["/orgs/main", "/orgs/main/users", "/orgs", "/account/mfa", "/account/sessions"] {
            let reply = session.get(path);
            assert_eq!((reply.status, problem(&reply).as_str()), (403, "password-change-required"), "{path}");
        }
        session.post("/orgs/main/apikeys", &json!({"name": "early"})).expect(403);
        town.server.try_token(Some(("fresh@localhost", &temporary)), &[]).expect(401);
        // Nor is the temporary one kept as the new one.
        one_of(&session.post("/password", &json!({"current": temporary, "new": temporary})), &[422]);
    };
    "the log-in's page sends on to another site (open redirect)",
    "follows `next`, `redirect`, `return_to`" => |town| {
        for page in ["/login", "/device", "/password-reset"] {
            for name in ["next", "redirect", "return_to", "redirect_uri", "url"] {
                let reply = Call::get(format!("{page}?{name}=https://evil.example/")).send(&town.server.controller());
                // Strangers are led to the log-in, which brings them back to the page that they wanted, at our host.
                let to = reply.header("location").unwrap_or("/login?next=%2F");
                assert!(to.starts_with("/login?next=%2F"), "{page} {name}: {to}");
                assert!(!reply.text().contains("evil.example"), "{page} {name}");
            }
            for path in ["//evil.example/", "/\\evil.example", "/%2f%2fevil.example"] {
                let reply = Call::get(format!("{path}{}", &page[1..])).send(&town.server.controller());
                let to = reply.header("location").unwrap_or_default();
                assert!(to.is_empty() || to.starts_with("/login?next=%2F"), "{path}: {to}");
            }
        }
        for next in ["https://evil.example/", "//evil.example/", "/\\evil.example", "/%2f%2fevil.example", "javascript:alert(1)"] {
            let fields = [("username", ADMIN), ("password", ADMIN_PASSWORD), ("next", next)];
            let to = Call::post("/login").form(&fields).send(&town.server.controller()).expect(303);
            let to = to.header("location").expect("a way on").to_owned();
            // Percent-encoded slashes are part of a name here, never of a host.
            assert!(to == "/" || to == "/%2f%2fevil.example", "{next}: {to}");
        }
    };
    "a page is framed, or runs a script that somebody slipped in",
    "serves pages without a policy" => |town| {
        for page in ["/login", "/password-reset", "/nowhere"] {
            let reply = Call::get(page).send(&town.server.controller());
            assert!(matches!(reply.status, 200 | 404), "{page}: {}", reply.status);
            let policy = reply.header("content-security-policy").unwrap_or_default().to_owned();
            assert!(policy.contains("frame-ancestors 'none'"), "{page}: {policy}");
            assert!(policy.contains("default-src 'none'") || policy.contains("default-src 'self'"), "{page}: {policy}");
            assert!(!policy.contains("unsafe-inline") && !policy.contains("unsafe-eval"), "{page}: {policy}");
            assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
        }
        let reply = Call::get("/device?user_code=%3Cscript%3Ealert(1)%3C/script%3E").send(&town.server.controller());
        assert!(!reply.text().contains("<script>alert"));
    };
    "the cookie is readable by scripts or goes to other sites",
    "sets a plain cookie" => |town| {
        let reply = town.server.stranger().try_login(ADMIN, ADMIN_PASSWORD).expect(200);
        let cookie = reply.header("set-cookie").expect("a cookie");
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Path=/"), "{cookie}");
        assert!(!cookie.to_lowercase().contains("domain="), "{cookie}");
    };
}

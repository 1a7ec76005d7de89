//! What is asked of the server, command by command.

use serde_json::{Value, json};

use crate::support::{Desk, KEY_ID, KEY_SECRET, Server, nothing, problem, say};

#[test]
fn it_says_who_it_is_and_never_shows_the_key() {
    let server = Server::start(vec![say(200, &json!({"items": [], "next": null}))]);
    let ran = Desk::at(&server).run(&["-v", "get", "users"]).expect(0);
    assert!(ran.err.contains("GET http://"), "{ran:?}");
    let asked = &server.asked()[0];
    assert_eq!(asked.header("user-agent"), Some(concat!("rctl/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(asked.header("authorization"), Some(format!("Bearer ra2.{KEY_ID}.{KEY_SECRET}").as_str()));
}

/// The calls of a command against a server that says yes to all of them.
fn calls(args: &[&str], answers: &[Value]) -> Vec<(String, Value)> {
    let script = answers.iter().map(|body| if body.is_null() { nothing() } else { say(200, body) }).collect();
    let server = Server::start(script);
    Desk::at(&server).run(args).expect(0);
    server.asked().into_iter().map(|asked| (asked.line, asked.body)).collect()
}

fn one(args: &[&str], answer: &Value) -> (String, Value) {
    let mut all = calls(args, std::slice::from_ref(answer));
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}

#[test]
fn creations_say_only_what_was_given() {
    let some = json!({"name": "x"});
    let at = |path: &str| format!("POST /api/v1/orgs/acme/{path}");
    let bob = calls(&["create", "user", "bob@x", "--first-name", "Bob", "--groups", "a"], &[some.clone(), json!({})]);
    assert_eq!(bob[0], (at("users"), json!({"name": "bob@x", "kind": "local", "first_name": "Bob"})));
    assert_eq!(bob[1], (at("groups/a/members"), json!({"user": "bob@x"})));
    assert_eq!(one(&["create", "user", "ci", "--machine"], &some).1, json!({"name": "ci", "kind": "machine"}));
    assert_eq!(
        one(&["create", "org", "new", "--admin", "ann@x"], &some),
        ("POST /api/v1/orgs".into(), json!({"slug": "new", "admin": {"email": "ann@x"}}))
    );
    assert_eq!(
        one(&["create", "role", "rel", "--base", "PROJECT_READ_ONLY", "--add", "registry.push", "--tags", "v*"], &some),
        (at("roles"), json!({"name": "rel", "base": "PROJECT_READ_ONLY", "added": ["registry.push"], "tags": ["v*"]}))
    );
    assert_eq!(
        one(&["create", "apikey", "k", "--user", "ci", "--days", "9", "--projects", "web"], &some),
        (at("apikeys"), json!({"name": "k", "user": "ci", "valid_days": 9, "projects": ["web"]}))
    );
    assert_eq!(
        one(
            &[
                "create",
                "issuer",
                "gh",
                "--user",
                "ci",
                "--issuer",
                "https://i",
                "--audience",
                "r",
                "--rule",
                "repository=a/b,a/c"
            ],
            &some
        ),
        (
            at("issuers"),
            json!({"name": "gh", "user": "ci", "issuer": "https://i", "audience": "r", "rules": {"repository": ["a/b", "a/c"]}})
        )
    );
    assert_eq!(
        one(&["create", "project", "web", "--public"], &json!({})),
        (at("projects"), json!({"slug": "web", "public": true}))
    );
}

#[test]
fn roles_of_projects_find_their_project() {
    let bound = json!({"id": "b", "role": "x"});
    let server = Server::start(vec![say(200, &json!({"scope": "project"})), say(201, &bound)]);
    let desk = Desk::at(&server).env("RCTL_PROJECT", "web");
    desk.run(&["assign", "role", "PROJECT_ADMIN", "--user", "bob"]).expect(0);
    assert_eq!(server.asked()[1].body, json!({"user": "bob", "role": "PROJECT_ADMIN", "project": "web"}));
    // A role of the organization is not narrowed to a project by a variable.
    let server = Server::start(vec![say(201, &bound)]);
    let desk = Desk::at(&server).env("RCTL_PROJECT", "web");
    desk.run(&["assign", "role", "ADMIN", "--group", "ops"]).expect(0);
    assert_eq!(server.asked()[0].body, json!({"group": "ops", "role": "ADMIN"}));
}

#[test]
fn updates_are_of_what_was_seen() {
    let server =
        Server::start(vec![say(200, &json!({"name": "bob"})).with("etag", "\"7\""), say(200, &json!({"name": "bob"}))]);
    Desk::at(&server).run(&["update", "user", "bob", "--last-name", "B", "--key-valid-days", "default"]).expect(0);
    let asked = server.asked();
    assert_eq!(server.lines(), ["GET /api/v1/orgs/acme/users/bob", "PATCH /api/v1/orgs/acme/users/bob"]);
    assert_eq!(asked[1].header("if-match"), Some("\"7\""));
    assert_eq!(asked[1].body, json!({"last_name": "B", "key_valid_days": null}));
    Desk::at(&server).run(&["update", "user", "bob"]).expect(2);
}

#[test]
fn a_key_is_replaced_before_it_is_revoked() {
    let old = json!({"id": "k1", "name": "n", "user": "ci", "projects": ["web"], "permissions": null});
    let made = json!({"id": "k2", "key": "ra2.x.y"});
    let server = Server::start(vec![say(200, &old), say(201, &made), nothing()]);
    let ran = Desk::at(&server).run(&["update", "apikey", "k1", "--yes", "-o", "json"]).expect(0);
    assert!(ran.out.contains("ra2.x.y"));
    let last = server.asked();
    assert_eq!(last[1].body, json!({"name": "n", "user": "ci", "projects": ["web"]}));
    assert_eq!(last[2].line, "DELETE /api/v1/orgs/acme/apikeys/k1");
}

#[test]
fn group_associations_are_members_and_bindings() {
    let none = say(200, &json!({"items": [], "next": null}));
    let server = Server::start(vec![
        say(201, &json!({})),
        problem(409, "conflict", "they are in it"),
        say(201, &json!({"id": "b"})),
        none.clone(),
        none,
    ]);
    let args = ["create", "groupassociation", "ops", "--users", "a,b", "--project", "web", "--role", "PROJECT_ADMIN"];
    Desk::at(&server).run(&args).expect(0);
    // With --project the role's scope needs no question.
    assert_eq!(server.asked()[2].body, json!({"group": "ops", "role": "PROJECT_ADMIN", "project": "web"}));
    assert_eq!(server.asked()[1].body, json!({"user": "b"}));
}

#[test]
fn yes_and_no_are_statuses() {
    for (allowed, status, word) in [(true, 0, "yes\n"), (false, 4, "no\n")] {
        let server = Server::start(vec![say(200, &json!({"allowed": allowed, "because": []}))]);
        let ran = Desk::at(&server).run(&["auth", "can-i", "registry.push", "--project", "web"]).expect(status);
        assert_eq!((ran.out.as_str(), ran.err.as_str()), (word, ""));
        assert_eq!(server.lines(), ["GET /api/v1/orgs/acme/auth/why?permission=registry.push&project=web"]);
    }
}

#[test]
fn settings_are_named() {
    let answers = [json!({}), json!({"idle_logout_minutes": 60})];
    let all = calls(&["org", "settings", "set", "idle_logout_minutes=60", "key_valid_days=null"], &answers);
    assert_eq!(all[1].1, json!({"idle_logout_minutes": 60, "key_valid_days": null}));
}

#[test]
fn only_the_binding_that_was_named_is_deleted() {
    let all = json!({"items": [
        {"id": "1", "user": "bob", "role": "PROJECT_ADMIN", "project": "web"},
        {"id": "2", "user": "bob", "role": "PROJECT_ADMIN", "project": "docs"},
        {"id": "3", "user": "bob", "role": "ADMIN", "project": null},
    ], "next": null});
    let done = calls(&["delete", "binding", "--user", "bob", "--role", "ADMIN", "--yes"], &[all.clone(), Value::Null]);
    assert_eq!(done[1].0, "DELETE /api/v1/orgs/acme/bindings/3");
    let args = ["delete", "binding", "--user", "bob", "--role", "PROJECT_ADMIN", "--project", "web", "--yes"];
    assert_eq!(calls(&args, &[all, Value::Null])[1].0, "DELETE /api/v1/orgs/acme/bindings/1");
}

#[test]
fn an_export_is_private_and_whole_or_not_there() {
    let server = Server::start(vec![say(200, &json!({"seq": 1})), problem(403, "denied", "no")]);
    let desk = Desk::at(&server);
    desk.run(&["audit", "export", "--file", "a.ndjson", "--since", "2026-01-01T00:00:00Z"]).expect(0);
    assert_eq!(std::fs::read_to_string(desk.path("a.ndjson")).unwrap(), "{\"seq\":1}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(desk.path("a.ndjson")).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    desk.run(&["audit", "export", "--file", "b.ndjson"]).expect(4);
    assert!(!desk.path("b.ndjson").exists());
}

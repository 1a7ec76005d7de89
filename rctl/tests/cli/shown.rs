//! Tables, JSON and YAML, as people and programs read them.

use serde_json::{Value, json};

use crate::support::{Desk, Server, golden, nothing, say};

fn page(items: &Value) -> Value {
    json!({"items": items, "next": null})
}

/// Every list and thing that is shown, with an answer of the server for each.
fn samples() -> Vec<(&'static str, Vec<&'static str>, Value)> {
    let user = json!({"name": "bob@acme.example", "kind": "local", "status": "active", "mfa": true, "first_name": "Bob",
        "last_name": "Builder", "last_access_at": "2026-03-01T10:00:00Z", "key_valid_days": 30, "last_access_door": "console", "invited_at": null,
        "created_at": "2026-01-01T00:00:00Z"});
    let machine = json!({"name": "ci", "kind": "machine", "status": "invited", "mfa": null, "created_at": "2026-01-01T00:00:00Z"});
    let key = json!({"id": "aa11", "name": "laptop", "user": "bob@acme.example", "created_at": "2026-01-01T00:00:00Z",
        "expires_at": "2026-04-01T00:00:00Z", "last_used_at": null, "projects": ["web"], "permissions": []});
    let binding = json!({"id": "bb22", "user": null, "group": "ops", "role": "NAMESPACE_ADMIN", "project": "web",
        "namespaces": ["blue", "green"], "created_at": "2026-01-01T00:00:00Z"});
    let event = json!({"seq": 7, "at": "2026-03-01T10:00:00Z", "user": "bob@acme.example", "action": "user.create",
        "target": "ci", "outcome": "ok", "client": "cli", "address": "192.0.2.7", "detail": {"kind": "machine"}});
    vec![
        ("users", vec!["get", "users"], page(&json!([user, machine]))),
        ("user", vec!["get", "user", "bob@acme.example"], user.clone()),
        ("no-users", vec!["get", "users"], page(&json!([]))),
        ("apikeys", vec!["get", "apikeys"], page(&json!([key]))),
        ("bindings", vec!["get", "bindings"], page(&json!([binding]))),
        ("groups", vec!["get", "groups"], page(&json!([{"name": "ops", "description": "On call", "builtin": false}]))),
        (
            "roles",
            vec!["get", "roles"],
            page(&json!([{"name": "ADMIN", "label": "Organization Admin", "scope": "org"}])),
        ),
        ("projects", vec!["get", "projects"], page(&json!([{"slug": "web", "public": false, "sparse": false}]))),
        (
            "orgs",
            vec!["get", "orgs"],
            page(&json!([{"slug": "acme", "name": "Acme Ltd", "created_at": "2026-01-01T00:00:00Z"}])),
        ),
        (
            "platform",
            vec!["get", "orgs", "--platform"],
            page(
                &json!([{"slug": "acme", "name": "Acme Ltd", "status": "deleting", "delete_after": "2026-03-08T00:00:00Z",
                "usage": {"users": 3, "repositories": 2, "bytes": 1024}}]),
            ),
        ),
        (
            "issuers",
            vec!["get", "issuers"],
            page(&json!([{"id": "cc33", "name": "github", "user": "ci", "issuer": "https://i.example",
            "rules": {"repository": ["acme/web"]}}])),
        ),
        ("audit", vec!["audit", "list"], page(&json!([event]))),
        (
            "repos",
            vec!["registry", "repos"],
            page(&json!([{"name": "acme/web/shop", "project": "web", "pushed_at": "2026-03-01T10:00:00Z"}])),
        ),
        (
            "tags",
            vec!["registry", "tags", "acme/web/shop"],
            page(&json!([{"name": "v1", "digest": "sha256:ab", "updated_at": "2026-03-01T10:00:00Z"}])),
        ),
        ("settings", vec!["org", "settings", "get"], json!({"idle_logout_minutes": 60, "mfa_required": true})),
        (
            "why",
            vec!["auth", "why", "registry.push"],
            json!({"allowed": false, "because": ["no role of yours has it", "you are in no group"], "missing": "registry.push on web"}),
        ),
        (
            "whoami",
            vec!["whoami"],
            json!({"id": "aa11", "name": "laptop", "user": "bob@acme.example", "created_at": "2026-01-01T00:00:00Z",
                "expires_at": "2026-04-01T00:00:00Z", "projects": ["web"], "permissions": null}),
        ),
    ]
}

#[test]
fn everything_is_shown_in_four_ways() {
    let mut all = String::new();
    for (_, args, answer) in samples() {
        for format in ["table", "wide", "json", "yaml"] {
            let server = Server::start(vec![say(200, &answer)]);
            let ran = Desk::at(&server).run(&[&args[..], &["-o", format]].concat()).expect(0);
            assert!(!ran.out.contains('\x1b'), "colours where nobody looks");
            if format == "json" {
                serde_json::from_str::<Value>(&ran.out).expect("JSON");
            }
            let shown = format!("$ rctl {} -o {format}\n{}{}\n", args.join(" "), ran.out, ran.err);
            all.push_str(&shown.replace(&server.url, "http://127.0.0.1:1"));
        }
    }
    golden("output.txt", &all);
}

#[test]
fn what_is_done_is_said_to_people_and_not_to_programs() {
    let server = Server::start(vec![nothing(), nothing()]);
    let desk = Desk::at(&server);
    assert_eq!(desk.run(&["user", "deactivate", "bob"]).expect(0).out, "bob is inactive\n");
    assert_eq!(desk.run(&["user", "deactivate", "bob", "-o", "json"]).expect(0).out, "");
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let items: Vec<Value> = (0..5000).map(|n| json!({"name": format!("user-{n}"), "kind": "machine"})).collect();
    let server = Server::start(vec![say(200, &page(&json!(items)))]);
    let desk = Desk::at(&server);
    let mut command = desk.command(&["get", "users"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

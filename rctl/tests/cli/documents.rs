//! `apply` against a script: order, differences, idempotence.

use serde_json::json;

use crate::support::{Desk, Server, golden, problem, say};

const TEAM: &str = "\
# Out of order on purpose.
kind: Binding
spec: {group: ops, role: PROJECT_ADMIN, project: web}
---
kind: Group
metadata: {name: ops}
spec: {description: Those on call, members: [bob@x, ann@x]}
---
kind: User
metadata: {name: bob@x}
spec: {first_name: Bob}
---
kind: Project
metadata: {name: web}
spec: {public: false}
";

fn none() -> crate::support::Answer {
    problem(404, "not-found", "no such thing")
}

fn list(items: &serde_json::Value) -> crate::support::Answer {
    say(200, &json!({"items": items, "next": null}))
}

#[test]
fn what_is_missing_is_made_in_order() {
    let made = || say(201, &json!({}));
    let server = Server::start(vec![
        none(),
        made(), // project
        none(),
        made(), // user
        none(),
        made(),
        list(&json!([])),
        made(),
        made(), // group, its members
        list(&json!([])),
        made(), // binding
    ]);
    let desk = Desk::at(&server);
    std::fs::write(desk.path("team.yaml"), TEAM).unwrap();
    let ran = desk.run(&["apply", "-f", "team.yaml"]).expect(0);
    assert!(ran.out.ends_with("4 created, 0 changed, 0 unchanged\n"), "{ran:?}");
    let made: Vec<String> = server.lines().into_iter().filter(|line| line.starts_with("POST")).collect();
    let at = |path: &str| format!("POST /api/v1/orgs/acme/{path}");
    assert_eq!(
        made,
        [at("projects"), at("users"), at("groups"), at("groups/ops/members"), at("groups/ops/members"), at("bindings")]
    );
}

fn all_there() -> Vec<crate::support::Answer> {
    vec![
        say(200, &json!({"slug": "web", "public": false, "sparse": true})),
        say(200, &json!({"name": "bob@x", "first_name": "Bob", "status": "invited"})),
        say(200, &json!({"name": "ops", "description": "Those on call"})),
        list(&json!([{"name": "bob@x"}, {"name": "ann@x"}])),
        list(&json!([{"id": "b", "group": "ops", "role": "PROJECT_ADMIN", "project": "web", "namespaces": []}])),
    ]
}

#[test]
fn what_is_there_already_is_left_alone() {
    let server = Server::start(all_there());
    let ran = Desk::at(&server).run_with(&["apply", "-f", "-"], TEAM).expect(0);
    assert!(ran.out.ends_with("0 created, 0 changed, 4 unchanged\n"), "{ran:?}");
    assert!(server.lines().iter().all(|line| line.starts_with("GET")), "{:?}", server.lines());
}

#[test]
fn a_dry_run_shows_the_difference_and_changes_nothing() {
    let mut script = all_there();
    script[1] = say(200, &json!({"name": "bob@x", "first_name": "Robert", "status": "active"}));
    script[3] = list(&json!([{"name": "bob@x"}, {"name": "eve@x"}]));
    script[4] = list(&json!([]));
    let server = Server::start(script);
    let ran = Desk::at(&server).run_with(&["apply", "-f", "-", "--dry-run"], TEAM).expect(0);
    golden("dry-run.txt", &ran.out);
    assert!(server.lines().iter().all(|line| line.starts_with("GET")), "{:?}", server.lines());
}

#[test]
fn a_refusal_names_the_document() {
    let server = Server::start(vec![none(), problem(403, "denied", "project.create is missing on acme")]);
    let ran = Desk::at(&server).run_with(&["apply", "-f", "-"], TEAM).expect(4);
    assert!(ran.err.contains("document 4 (Project web): project.create is missing"), "{ran:?}");
}

#[test]
fn nothing_is_done_where_one_document_is_wrong() {
    let server = Server::start(Vec::new());
    let ran = Desk::at(&server)
        .run_with(&["apply", "-f", "-"], &format!("{TEAM}---\nkind: Gruop\nmetadata: {{name: x}}\n"))
        .expect(2);
    assert!(ran.err.contains("document 5 (Gruop)"), "{ran:?}");
    assert!(server.lines().is_empty());
    Desk::at(&server).run_with(&["apply", "-f", "-"], "").expect(2);
}

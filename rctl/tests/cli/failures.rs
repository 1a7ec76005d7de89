//! Failures: which status, which words, which next step; and what is tried again.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Answer, Desk, Server, golden, nothing, problem, say};

#[test]
fn every_failure_has_its_status_and_next_step() {
    let mut all = String::new();
    let cases: Vec<(i32, Answer)> = vec![
        (3, problem(401, "unauthenticated", "log in")),
        (
            4,
            Answer::Say(
                403,
                Vec::new(),
                json!({"type": "urn:wharfinger:problem:denied", "detail": "user.read is missing on acme",
            "permission": "user.read", "why": ["role AUDITOR through group auditors does not have it"]})
                .to_string(),
            ),
        ),
        (4, problem(403, "password-change-required", "choose a new password first")),
        (4, problem(403, "mfa-enrolment-required", "acme wants a second factor")),
        (5, problem(404, "not-found", "there is no such user, or you may not see it")),
        (5, problem(404, "no-route", "there is nothing at this path")),
        (6, problem(409, "conflict", "the name is taken")),
        (6, problem(412, "changed", "it was changed")),
        (8, Answer::Say(422, Vec::new(), json!({"detail": "too long", "field": "name"}).to_string())),
        (8, problem(400, "malformed", "the body: nonsense")),
        (9, problem(429, "try-later", "too many").with("retry-after", "7")),
        (1, problem(500, "internal", "internal error")),
        (1, Answer::Say(200, Vec::new(), "<html>".into())),
        (1, Answer::Say(302, vec![("location", "https://elsewhere.example/".into())], String::new())),
        (1, say(200, &json!({"next": null}))),
    ];
    for (status, answer) in cases {
        let server = Server::start(vec![answer.clone()]);
        let ran = Desk::at(&server).run(&["get", "users"]).expect(status);
        assert_eq!(ran.out, "", "failures go to standard error");
        all.push_str(&format!("status {status}\n{}\n", ran.err.replace(&server.url, "http://127.0.0.1:1")));
    }
    golden("failures.txt", &all);
}

#[test]
fn nothing_is_sent_anywhere_without_a_server_or_credentials() {
    let ran = Desk::bare().run(&["get", "users"]).expect(2);
    assert!(ran.err.contains("RCTL_REST_ENDPOINT"), "{ran:?}");
    let server = Server::start(Vec::new());
    let desk = Desk::bare().env("RCTL_REST_ENDPOINT", &server.url).env("RCTL_ORG", "acme");
    let ran = desk.run(&["get", "users"]).expect(3);
    assert!(ran.err.contains("rctl login"), "{ran:?}");
    assert!(server.lines().is_empty());
}

#[test]
fn a_server_that_is_not_there_is_status_7() {
    let desk = Desk::bare()
        .env("RCTL_REST_ENDPOINT", "http://127.0.0.1:1")
        .env("RCTL_API_KEY", "ra2.a.b")
        .env("RCTL_ORG", "acme");
    let ran = desk.run(&["get", "users"]).expect(7);
    assert!(ran.err.contains("cannot reach http://127.0.0.1:1"), "{ran:?}");
}

#[test]
fn what_may_be_repeated_is_repeated() {
    let list = say(200, &json!({"items": [], "next": null}));
    let server = Server::start(vec![Answer::Cut, problem(503, "unavailable", "busy"), list]);
    Desk::at(&server).run(&["get", "users"]).expect(0);
    assert_eq!(server.lines().len(), 3);
}

#[test]
fn a_creation_is_repeated_under_its_key() {
    let server = Server::start(vec![Answer::Cut, say(201, &json!({"slug": "web"}))]);
    Desk::at(&server).run(&["create", "project", "web"]).expect(0);
    let asked = server.asked();
    let key = asked[0].header("idempotency-key").expect("a key");
    assert_eq!((key.len(), asked[1].header("idempotency-key")), (32, Some(key)));
}

#[test]
fn an_action_is_not_repeated_once_it_may_have_arrived() {
    let server = Server::start(vec![Answer::Cut, nothing()]);
    Desk::at(&server).run(&["user", "resend", "bob"]).expect(7);
    assert_eq!(server.lines().len(), 1);
}

#[test]
fn a_deletion_whose_answer_got_lost_is_done() {
    let server = Server::start(vec![Answer::Cut, problem(404, "not-found", "no such user")]);
    Desk::at(&server).run(&["delete", "user", "bob", "--yes"]).expect(0);
    let server = Server::start(vec![problem(404, "not-found", "no such user")]);
    Desk::at(&server).run(&["delete", "user", "bob", "--yes"]).expect(5);
}

#[test]
fn a_server_cannot_make_it_wait_for_long() {
    let busy = problem(503, "unavailable", "busy").with("retry-after", "86400");
    let server = Server::start(vec![busy, say(200, &json!({"items": [], "next": null}))]);
    let begun = Instant::now();
    Desk::at(&server).run(&["get", "users"]).expect(0);
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn lists_are_read_to_their_end_and_no_further() {
    let page = |name: &str, next: Option<&str>| say(200, &json!({"items": [{"name": name}], "next": next}));
    let server = Server::start(vec![page("a", Some("a")), page("b", Some("b")), page("c", None)]);
    let ran = Desk::at(&server).run(&["get", "users", "-o", "json"]).expect(0);
    assert_eq!(ran.out.matches("name").count(), 3);
    assert!(server.lines()[1].contains("after=a") && server.lines()[2].contains("after=b"));
    // A list that goes round in circles.
    let server = Server::start(vec![page("a", Some("a")), page("a", Some("a"))]);
    Desk::at(&server).run(&["get", "users"]).expect(1);
    let server = Server::start(vec![page("a", Some("a"))]);
    let ran = Desk::at(&server).run(&["get", "users", "--limit", "1"]).expect(0);
    assert!(ran.err.contains("more than 1") && server.lines()[0].contains("limit=1"), "{ran:?}");
}

#[test]
fn names_cannot_lead_elsewhere() {
    let server = Server::start(vec![say(200, &json!({"name": "x"}))]);
    let desk = Desk::at(&server);
    for bad in ["..", ".", ""] {
        desk.run(&["get", "user", bad]).expect(2);
    }
    assert!(server.lines().is_empty());
    desk.run(&["get", "user", "../projects?x=%2f#y"]).expect(0);
    assert_eq!(server.lines(), ["GET /api/v1/orgs/acme/users/..%2Fprojects%3Fx=%252f%23y"]);
}

#[test]
fn what_destroys_asks_first() {
    let server = Server::start(vec![nothing()]);
    let desk = Desk::at(&server);
    for args in
        [&["delete", "user", "bob"][..], &["delete", "org", "acme"], &["delete", "project", "web", "--with-images"]]
    {
        let ran = desk.run(args).expect(2);
        assert!(ran.err.contains("--yes") || ran.err.contains("--confirm"), "{ran:?}");
    }
    desk.run(&["delete", "org", "acme", "--confirm", "acne"]).expect(130);
    assert!(server.lines().is_empty());
}

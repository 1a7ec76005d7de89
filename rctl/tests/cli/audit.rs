//! Verification of exports: what was done to a file, and what the server says of it.

use auditchain::export::{Header, KIND, VERSION, Writer};
use auditchain::{Event, GENESIS, NewEvent};
use serde_json::json;

use crate::support::{Answer, Desk, Server, say};

/// An export of three events.
fn export() -> String {
    let events: Vec<Event> = (1..=3).fold(Vec::new(), |mut chain, seq| {
        let prev = chain.last().map_or(GENESIS.to_owned(), |event: &Event| event.hash.clone());
        let event = NewEvent {
            org_id: "o1".into(),
            at_ms: seq * 1000,
            actor: "bob@x".into(),
            action: "user.create".into(),
            target: format!("u{seq}"),
            outcome: "ok".into(),
            ..NewEvent::default()
        };
        chain.push(Event::chained(event, seq, prev));
        chain
    });
    let head = &events[2];
    let header = Header {
        kind: KIND.into(),
        version: VERSION,
        org_id: "o1".into(),
        org: "acme".into(),
        exported_at_ms: 9000,
        filter: String::new(),
        after_seq: 0,
        anchor: GENESIS.into(),
        head_seq: 3,
        head_hash: head.hash.clone(),
    };
    let (mut writer, mut text) = Writer::begin(&header).unwrap();
    for event in &events {
        text.push_str(&writer.event(event).unwrap());
    }
    text.push_str(&writer.end(&|_: &[u8]| [7; 32]).unwrap());
    text
}

fn verified(text: &str, answers: Vec<Answer>, args: &[&str], status: i32) -> String {
    let server = Server::start(answers);
    let ran = Desk::at(&server).run_with(&[&["audit", "verify", "-"], args].concat(), text).expect(status);
    format!("{}{}", ran.out, ran.err)
}

#[test]
fn a_whole_export_is_confirmed_by_the_server() {
    let server = Server::start(vec![say(200, &json!({"genuine": true}))]);
    let ran = Desk::at(&server).run_with(&["audit", "verify", "-"], &export()).expect(0);
    assert!(ran.out.contains("knows the last event"), "{ran:?}");
    let asked = &server.asked()[0];
    assert_eq!(asked.body["trailer"]["count"], 3);
    assert_eq!((asked.line.as_str(), &asked.body["seq"]), ("POST /api/v1/orgs/acme/audit/confirm", &json!(3)));
}

#[test]
fn a_chain_that_was_hashed_anew_is_not_the_server_s() {
    let said = verified(&export(), vec![say(200, &json!({"genuine": false}))], &[], 10);
    assert!(said.contains("does not know the last event"), "{said}");
}

#[test]
fn every_change_is_found_without_the_server() {
    verified(&export(), Vec::new(), &["--offline"], 0);
    let text = export();
    let lines: Vec<&str> = text.lines().collect();
    let join = |order: &[usize]| order.iter().map(|at| format!("{}\n", lines[*at])).collect::<String>();
    let changed = [
        text.replace("\"u2\"", "\"u9\""),
        text.replace("bob@x", "eve@x"),
        join(&[0, 1, 3, 4]),
        join(&[0, 2, 1, 3, 4]),
        join(&[0, 1, 2, 2, 3, 4]),
        join(&[0, 1, 2, 3]),
        join(&[0, 1, 2, 4]),
        join(&[0, 2, 3, 4]),
    ];
    for text in changed {
        verified(&text, Vec::new(), &["--offline"], 10);
    }
}

#[test]
fn what_is_no_export_is_not_called_forged() {
    for text in ["", "seq,time,user\n1,2,3\n", "{}\n"] {
        let said = verified(text, Vec::new(), &["--offline"], 2);
        assert!(said.contains("no audit export"), "{said}");
    }
    Desk::bare().run(&["audit", "verify", "/nowhere"]).expect(1);
}

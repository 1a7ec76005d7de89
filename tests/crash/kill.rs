//! `kill -9` while fifty clients push, and while garbage is collected beside them.

use std::process::Stdio;
use std::time::Duration;

use crate::support::oci::{Image, fresh, noise, push_blob};
use crate::support::{Call, Server, Setup};
use crate::traffic::{Traffic, works};

#[test]
fn kill_9_during_fifty_pushes_loses_no_promise() {
    let mut server = Setup::plain().start();
    for round in 0..4u64 {
        let traffic = Traffic::start(&server);
        std::thread::sleep(Duration::from_millis(2500 + 700 * round));
        server.kill();
        let outcome = traffic.stop();
        server.restart();
        outcome.check(&server);
        works(&server);
    }
}

const COLLECT: [&str; 4] = ["gc", "--now", "--grace", "0s"];
const LOOK: [&str; 4] = ["gc", "--dry-run", "--grace", "0s"];

/// Pushes blobs, half of them so small that they live in the database, and deletes them. Returns their digests.
fn garbage(server: &Server, token: &str) -> Vec<String> {
    let registry = server.registry();
    let sizes = [4_000, 40_000].into_iter().cycle().take(600);
    let digests: Vec<String> =
        sizes.map(|size| push_blob(&registry, "main/gone", token, &noise(fresh(), size))).collect();
    for digest in &digests {
        Call::delete(format!("/v2/main/gone/blobs/{digest}")).bearer(token).send(&registry).expect(202);
    }
    digests
}

/// How many blobs a collection took away, or would.
fn collected(server: &Server, command: [&str; 4]) -> u64 {
    let said = server.run(&command);
    let said = &said[said.find('{').expect("a report")..];
    let report = serde_json::Deserializer::from_str(said).into_iter::<serde_json::Value>().next();
    report.expect("a report").expect("JSON")["blobs_removed"].as_u64().expect("a number")
}

#[test]
fn kill_9_during_a_collection_loses_nothing_that_is_used_and_leaves_nothing_behind() {
    let mut server = Setup::plain().start();
    let kept = Image::new(fresh(), 100_000);
    kept.push(&server.registry(), "main/gone", &server.admin_token("main/gone"), "kept");
    let (mut halves, mut rounds, mut wait) = (0, 0, 500);
    while halves < 2 {
        rounds += 1;
        assert!(rounds <= 12, "{halves} collections were cut off in the middle");
        let token = server.admin_token("main/gone");
        let digests = garbage(&server, &token);
        let traffic = Traffic::start(&server);
        let mut asked = server.command().args(COLLECT).stdout(Stdio::null()).spawn().expect("the binary runs");
        std::thread::sleep(Duration::from_millis(wait));
        // Without a server it would collect by itself.
        asked.kill().and_then(|()| asked.wait()).expect("it is gone");
        server.kill();
        let outcome = traffic.stop();
        let left = collected(&server, LOOK);
        println!("after {wait} ms {left} of {} blobs are left", digests.len());
        // It begins within half a second, and takes one or two beside pushes.
        match usize::try_from(left).unwrap() {
            0 => wait = wait.saturating_sub(100).max(100),
            all if all == digests.len() => wait += 100,
            _ => halves += 1,
        }
        server.restart();
        outcome.check(&server);
        for digest in &digests {
            Call::get(format!("/v2/main/gone/blobs/{digest}")).bearer(&token).send(&server.registry()).expect(404);
        }
        // Unless the server has done it for the one who asked.
        assert!(collected(&server, COLLECT) <= left);
        assert_eq!(collected(&server, COLLECT), 0);
        let manifest = Call::get("/v2/main/gone/manifests/kept").bearer(&token).send(&server.registry()).expect(200);
        assert_eq!(manifest.body, kept.manifest);
        server.run(&["verify"]);
    }
}

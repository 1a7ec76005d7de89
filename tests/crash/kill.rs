//! `kill -9` while fifty clients push.

use std::time::Duration;

use crate::support::Setup;
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

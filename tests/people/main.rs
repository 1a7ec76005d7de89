//! People as they come: a mail server that insists on TLS and a log-in, and a real browser with a passkey; and a
//! real OpenID Connect provider that machines bring tokens of.
//!
//! `make people` runs these after `make tools`: they need the Python and Node.js packages under `target/tools` and Chromium. A
//! missing program fails its journey; nothing is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod browser;
mod federation;
mod smtp;
#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader};
use std::process::Child;
use std::sync::mpsc;
use std::time::Duration;

/// Waits for the line that a program says once it serves; kills one that says nothing for a minute.
fn wait_until_ready(child: &mut Child, what: &str) {
    let mut out = BufReader::new(child.stdout.take().expect("its output is read"));
    let (said, hears) = mpsc::channel();
    std::thread::spawn(move || {
        let mut line = String::new();
        let read = out.read_line(&mut line);
        let _ = said.send(read.map(|_| line));
    });
    let line = hears.recv_timeout(Duration::from_secs(60));
    if line.is_err() {
        let _ = child.kill();
    }
    let line = line.unwrap_or_else(|_| panic!("{what} says nothing for a minute"));
    assert_eq!(line.unwrap().trim(), "ready", "{what} did not start: run `make tools`");
}

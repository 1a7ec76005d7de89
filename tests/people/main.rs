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

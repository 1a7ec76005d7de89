//! The program as people and scripts meet it: its help, its output, its failures, against a server that says what the test
//! tells it to. `BLESS=1 cargo test -p rctl --test cli` writes the golden files anew.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod support;

mod audit;
mod calls;
mod contract;
mod credentials;
mod documents;
mod failures;
mod help;
mod logins;
mod shown;

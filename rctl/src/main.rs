//! Wharfinger on the command line: organizations, people, rights, keys, the registry and its audit log, by the public REST
//! API alone.
//!
//! ```text
//! cli.rs        the command line            config.rs   what to talk to, as whom: flags, environment, file
//! client.rs     calls, repetition, pages    output.rs   tables, JSON, YAML, failures
//! commands/     a noun (or theme) a file    apply/      documents → plan → changes
//! ```

// The doc comments of options are their help texts.
#![allow(rustdoc::invalid_html_tags, rustdoc::bare_urls)]

mod apply;
mod cli;
mod client;
mod commands;
mod config;
mod context;
mod credential_helper;
mod error;
mod output;
mod secret;

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = tokio::select! {
        done = cli::run() => done,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(error::exit::INTERRUPTED),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if !error.is_said() {
                output::failure(&error);
            }
            ExitCode::from(error.exit_code())
        }
    }
}

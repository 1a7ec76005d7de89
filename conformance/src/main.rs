//! Points the registry conformance programs of others at any registry and judges what they say.
//!
//! `conformance oci` runs the OCI distribution-spec program with every switch on. It believes no
//! exit code alone: the results have to be new, complete and free of failures and of skips.
//! `conformance bench` measures how fast a registry is, beside others.

mod bench;
mod oci;
mod results;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Conformance of a container registry, judged by other people's programs.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the OCI distribution-spec conformance program with every API and data switch on.
    Oci(Box<oci::Options>),
    /// Measure how fast registries are.
    #[command(subcommand)]
    Bench(bench::Command),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Oci(options) => oci::run(&options),
        Command::Bench(command) => bench::run(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! Wharfinger: a container registry, its token service and its REST API, in one program.
//!
//! This crate wires: [`cli`] and [`config`] say what is wanted, [`stores`] opens what the layers below keep, [`serve`] binds
//! the sockets and runs the services until a signal, [`connection`] and [`access`] are what every request goes through,
//! [`background`] is what happens besides, [`garbage`] is collected there or by command, [`commands`] is everything else that is
//! not serving. What the services answer is in
//! the crates `registry`, `authsvc` and `controller`.

mod access;
mod audit;
mod background;
mod bind;
mod cli;
mod commands;
mod config;
mod connection;
mod files;
mod first_start;
mod garbage;
mod health;
mod logs;
mod mail;
mod metrics;
mod monitor;
mod pki;
mod presence;
mod proxies;
mod request_id;
mod serve;
mod stores;
mod tls;

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::cli::{AdminCommand, AuditCommand, Command, ConfigCommand, KeysCommand};
use crate::config::Loaded;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            // Causes on lines of their own: what to do about it is in the first.
            eprintln!("wharfinger: {error}");
            error.chain().skip(1).for_each(|cause| eprintln!("  because: {cause}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Databases and blobs are not for other users of the machine, whatever folder they are put in.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let Loaded { command, config, sources } = Loaded::from_process()?;
    if let Command::Config(ConfigCommand::Check) = command {
        return Ok(commands::check_config(&config, &sources));
    }
    if let Command::Healthcheck = command {
        return Ok(commands::healthcheck(&config));
    }
    if let Command::Audit(AuditCommand::Verify { file }) = &command {
        return Ok(audit::verify(&config, file));
    }
    let _logs = logs::init(config.log_format, &config.log_level)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    let done = runtime.block_on(execute(command, &config));
    // A blocking task that hangs on a disk must not keep the process alive.
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    done
}

async fn execute(command: Command, config: &config::Config) -> Result<ExitCode> {
    match command {
        Command::Serve { services } => serve::run(config, &services).await,
        Command::Migrate => commands::migrate(config).await,
        Command::Gc(arguments) => garbage::gc(config, &arguments).await,
        Command::Verify { repair } => commands::verify(config, repair).await,
        Command::Keys(KeysCommand::Rotate) => commands::rotate_keys(config).await,
        Command::Admin(AdminCommand::ResetPassword { email }) => commands::reset_password(config, &email).await,
        Command::Admin(AdminCommand::ResetMfa { email }) => commands::reset_mfa(config, &email).await,
        Command::Audit(AuditCommand::Check { org }) => Ok(audit::check(config, org.as_deref()).await),
        Command::Config(_) | Command::Healthcheck | Command::Audit(AuditCommand::Verify { .. }) => {
            Ok(ExitCode::SUCCESS)
        }
    }
}

#[cfg(all(test, packed_relocations))]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::io::Read;

    #[test]
    fn relocations_are_packed() {
        let mut head = Vec::new();
        std::fs::File::open(std::env::current_exe().unwrap()).unwrap().take(64 << 10).read_to_end(&mut head).unwrap();
        // The version that a program with packed relocations asks of the C library, among the names at its beginning.
        let asked = b"GLIBC_ABI_DT_RELR";
        assert!(head.windows(asked.len()).any(|window| window == asked));
    }
}

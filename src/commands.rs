//! Everything that is not serving. All of it works beside running services.

use std::collections::BTreeMap;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use storage::verify::Verifier;

use crate::config::{self, Config, Source};
use crate::stores::{self, Content, SetupLock};

/// Longest password read from standard input.
const MAX_LINE: u64 = 1024;

/// `wharfinger config check`: the effective configuration on standard output, problems on standard error.
pub(crate) fn check_config(config: &Config, sources: &BTreeMap<&'static str, Source>) -> ExitCode {
    let report = config::report(config, sources);
    print!("{}", report.settings);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in config::unknown_variables(names) {
        eprintln!("note: the environment variable {name} is not a setting");
    }
    for problem in &report.problems {
        eprintln!("problem: {problem}");
    }
    if report.problems.is_empty() {
        eprintln!("the configuration is good");
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// `wharfinger migrate`
pub(crate) async fn migrate(config: &Config) -> Result<ExitCode> {
    let setup = SetupLock::take(&config.data_dir)?;
    let db = stores::database(config).await?;
    db.migrate().await.context("bringing the database's schema up to date")?;
    drop(setup);
    db.close().await;
    println!("the database's schema is up to date");
    Ok(ExitCode::SUCCESS)
}

/// How often it says how far `verify` is: it could after every folder of the byte store.
const VERIFYING: Duration = Duration::from_secs(1);

/// `wharfinger verify`: fails where something is found that it did not repair.
pub(crate) async fn verify(config: &Config, repair: bool) -> Result<ExitCode> {
    let Content { db, objects, clock, .. } = stores::content(config).await?;
    let mut said = Instant::now();
    let report = Verifier::new(db.clone(), objects, clock, repair)
        .run(|seen| {
            if said.elapsed() < VERIFYING {
                return;
            }
            said = Instant::now();
            tracing::info!(blobs = seen.blobs, bytes = seen.bytes, manifests = seen.manifests, "verifying");
        })
        .await
        .context("verifying")?;
    print_json(&report)?;
    db.close().await;
    Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `wharfinger keys rotate`
pub(crate) async fn rotate_keys(config: &Config) -> Result<ExitCode> {
    let stores = stores::stores(config).await?;
    let kid = stores.identity.rotate_keys().await.context("making a signing key")?;
    stores.content.db.close().await;
    println!("made the signing key {kid}; it signs once every service had time to learn of it");
    Ok(ExitCode::SUCCESS)
}

/// `wharfinger admin reset-password`
pub(crate) async fn reset_password(config: &Config, email: &str) -> Result<ExitCode> {
    let given = read_password()?;
    let stores = stores::stores(config).await?;
    let reset = stores.identity.reset_password(&identity::audit::Caller::server(), email, given.as_ref()).await;
    let generated = reset.with_context(|| format!("resetting {email}'s password"))?;
    stores.content.db.close().await;
    eprintln!("{email} has a new password; everything they were logged in with has ended");
    if let Some(generated) = generated {
        eprintln!("it is temporary: the next log-in has to choose another");
        println!("{}", generated.expose());
    }
    Ok(ExitCode::SUCCESS)
}

/// `wharfinger admin reset-mfa`
pub(crate) async fn reset_mfa(config: &Config, email: &str) -> Result<ExitCode> {
    let stores = stores::stores(config).await?;
    let reset = stores.identity.reset_mfa_of(&identity::audit::Caller::server(), email).await;
    reset.with_context(|| format!("taking the second factors off {email}"))?;
    stores.content.db.close().await;
    eprintln!("{email} has no second factor any more; everything they were logged in with has ended");
    Ok(ExitCode::SUCCESS)
}

/// The first line of standard input, where that is not a terminal and holds one.
fn read_password() -> Result<Option<identity::Secret>> {
    let input = io::stdin();
    if input.is_terminal() {
        return Ok(None);
    }
    let mut line = String::new();
    input.lock().take(MAX_LINE + 1).read_line(&mut line).context("reading the password from standard input")?;
    let line = line.trim_end_matches(['\r', '\n']);
    ensure!(line.len() as u64 <= MAX_LINE, "the password on standard input is too long");
    Ok((!line.is_empty()).then(|| identity::Secret::new(line)))
}

/// `wharfinger healthcheck`: asks the admin listener.
pub(crate) fn healthcheck(config: &Config) -> ExitCode {
    match ask(config.admin_listen) {
        Ok(answer) if answer.starts_with("HTTP/1.1 200 ") => {
            println!("ready");
            ExitCode::SUCCESS
        }
        Ok(answer) => {
            eprintln!("not ready: {}", answer.lines().next_back().unwrap_or("no answer"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("not ready: {} does not answer: {error}", config.admin_listen);
            ExitCode::FAILURE
        }
    }
}

fn ask(listen: SocketAddr) -> io::Result<String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let ip = match listen.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let mut stream = TcpStream::connect_timeout(&SocketAddr::new(ip, listen.port()), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}

pub(crate) fn print_json(report: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

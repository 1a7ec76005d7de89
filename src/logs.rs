//! Logs: for people on a terminal, one JSON object a line otherwise; always on standard error.

mod json;
mod lines;

use std::io::{self, IsTerminal};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use self::lines::{Guard, Lines};
use crate::config::LogFormat;

/// Sends everything that the program reports to standard error, panics included. Call once. What is
/// left is written when the guard is dropped.
///
/// # Errors
/// Where `level` is neither a level nor a list of directives, or logging is set up already.
pub(crate) fn init(format: LogFormat, level: &str) -> Result<Guard> {
    let filter = parse(level)?;
    let terminal = io::stderr().is_terminal();
    let human = match format {
        LogFormat::Auto => terminal,
        LogFormat::Human => true,
        LogFormat::Json => false,
    };
    let (lines, guard) = Lines::to(io::stderr()).context("starting the log")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(lines);
    let done = if human {
        builder.with_ansi(terminal).with_target(false).try_init()
    } else {
        builder.event_format(json::Lines).fmt_fields(json::Spans).try_init()
    };
    done.map_err(|error| anyhow::anyhow!("setting up logs: {error}"))?;
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        let payload = panic.payload();
        let message = payload.downcast_ref::<&str>().copied().or(payload.downcast_ref::<String>().map(String::as_str));
        tracing::error!(code.location = place, panic.message = message, "a task panicked");
    }));
    Ok(guard)
}

/// Reads `info` or `info,registry=debug`.
///
/// # Errors
/// Says what was wrong.
pub(crate) fn parse(level: &str) -> Result<EnvFilter> {
    // sqlx tells every statement at debug level; slow ones at warn are welcome.
    let quiet = if level.contains("sqlx") { String::new() } else { ",sqlx=warn".to_owned() };
    EnvFilter::builder().parse(format!("{level}{quiet}")).with_context(|| format!("log level {level:?}"))
}

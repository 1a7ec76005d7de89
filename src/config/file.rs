//! The TOML file. A key that is not known is refused: a typing error must not silently be a default.

use std::path::Path;

use anyhow::{Context, Result, anyhow};

use super::Settings;

/// Largest file that is read.
const MAX_FILE: u64 = 1 << 20;

/// Reads the file.
///
/// # Errors
/// Where it cannot be read; or the key, what is wrong with it, and its line.
pub(super) fn read(path: &Path) -> Result<Settings> {
    let bytes = crate::files::read_bounded(path, MAX_FILE).context("the configuration file (--config)")?;
    let text = String::from_utf8(bytes).map_err(|_| anyhow!("{} is not UTF-8 text", path.display()))?;
    parse(&text, path)
}

/// Reads the file's text; `path` is for messages.
pub(super) fn parse(text: &str, path: &Path) -> Result<Settings> {
    toml::from_str(text).map_err(|error| {
        // Not the error's own text: that quotes the line, which may hold a password.
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.as_bytes()[..start].iter().filter(|b| **b == b'\n').count() + 1;
        anyhow!("{}:{line}: {}", path.display(), explain(error.message(), text.lines().nth(line - 1).unwrap_or("")))
    })
}

fn explain(message: &str, line: &str) -> String {
    if let Some(key) = message.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next()) {
        return format!("unknown key `{key}`: keys are the options of `wharfinger --help` with underscores");
    }
    match line.split_once('=') {
        Some((key, _)) if !key.contains("password") && !key.contains("smtp_url") => {
            format!("`{}`: {message}", key.trim())
        }
        Some((key, _)) => format!("`{}`: expected text", key.trim()),
        None => message.to_owned(),
    }
}

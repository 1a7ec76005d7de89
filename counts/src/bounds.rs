//! What was counted when somebody last looked, in `bounds.toml`, and how much more is too much.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde::Deserialize;

/// In percent. Compilers and libraries move counts by a few; what is meant to be found is a query or a copy more.
const TOLERANCE: u64 = 30;

/// What one request takes.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Counted {
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
    pub(crate) instructions: Option<u64>,
}

fn file() -> PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("bounds.toml")
}

/// Takes these counts for those that others are compared with.
pub(crate) fn write(rows: &[(&str, Counted)]) -> Result<()> {
    let mut text = String::from("# What one of each takes; `BLESS=1 make counts` writes this file.\n");
    for (name, Counted { allocations, bytes, instructions }) in rows {
        let instructions = instructions.context("no instructions were counted")?;
        write!(text, "\n[{name}]\nallocations = {allocations}\nbytes = {bytes}\ninstructions = {instructions}\n")?;
    }
    std::fs::write(file(), text).context("write bounds.toml")
}

/// Prints a table; false where something takes too much, or is not in the file.
pub(crate) fn compare(rows: &[(&str, Counted)]) -> Result<bool> {
    let text = std::fs::read_to_string(file()).context("read bounds.toml; BLESS=1 writes it")?;
    let known: BTreeMap<String, Counted> = toml::from_str(&text)?;
    let mut fine = true;
    println!("{:<22}{:>12}{:>8}{:>12}{:>8}{:>14}{:>8}", "one", "allocations", "", "bytes", "", "instructions", "");
    for (name, counted) in rows {
        let Some(bound) = known.get(*name) else {
            println!("{name:<22}not in bounds.toml");
            fine = false;
            continue;
        };
        let pairs = [
            (12, Some(counted.allocations), Some(bound.allocations)),
            (12, Some(counted.bytes), Some(bound.bytes)),
            (14, counted.instructions, bound.instructions),
        ];
        let mut line = format!("{name:<22}");
        for (width, now, before) in pairs {
            let Some((now, before)) = now.zip(before) else { continue };
            write!(line, "{now:>width$}{:>8}", change(now, before))?;
            if too_much(now, before) {
                line.push('!');
                fine = false;
            }
        }
        println!("{line}");
    }
    if !fine {
        println!("more than {TOLERANCE} % above bounds.toml (!): find out why, or BLESS=1 where it is worth it");
    }
    Ok(fine)
}

fn too_much(now: u64, before: u64) -> bool {
    now * 100 > before * (100 + TOLERANCE)
}

fn change(now: u64, before: u64) -> String {
    #[allow(clippy::cast_precision_loss)]
    let percent = (now as f64 / before.max(1) as f64 - 1.0) * 100.0;
    format!("{percent:+.1}%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_more_is_too_much_and_less_never_is() {
        assert!(!too_much(130, 100) && !too_much(1, 100));
        assert!(too_much(131, 100));
        assert_eq!(change(131, 100), "+31.0%");
        assert_eq!(change(50, 100), "-50.0%");
    }
}

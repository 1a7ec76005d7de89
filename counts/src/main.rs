//! Counts what the requests that clients make most cost: allocations, bytes and, under Valgrind, instructions.
//!
//! Times drift with the machine and with what else it does; counts stay within a few percent, so that a check may fail on
//! them. [`world`] puts the services together in this process, [`paths`] sends them requests on one thread (those of `SQLite`
//! are counted too), [`bounds`] compares with what was counted before.
//!
//! `counts` checks everything, `counts heap` leaves the instructions out, `counts run` only runs (for a profiler).

mod bounds;
mod heap;
mod paths;
mod world;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::bounds::Counted;
use crate::paths::{Hot, Taken};

fn main() -> Result<ExitCode> {
    let word = std::env::args().nth(1).unwrap_or_default();
    let taken = run()?;
    let profile = match word.as_str() {
        "" => instructions()?.into_iter().map(Some).collect(),
        "heap" => vec![None; Hot::ALL.len()],
        "run" => return Ok(ExitCode::SUCCESS),
        _ => anyhow::bail!("counts, counts heap or counts run"),
    };
    let rows: Vec<(&str, Counted)> = Hot::ALL.iter().zip(taken).zip(profile).map(row).collect();
    if std::env::var_os("BLESS").is_some() {
        ensure!(word.is_empty(), "bounds are renewed with all counts or not at all");
        bounds::write(&rows)?;
    }
    let fine = bounds::compare(&rows)?;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn row(((hot, taken), instructions): ((&(Hot, &'static str), Taken), Option<u64>)) -> (&'static str, Counted) {
    (hot.1, Counted { allocations: taken.allocations, bytes: taken.bytes, instructions })
}

fn run() -> Result<Vec<Taken>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let world = world::World::new().await?;
        paths::run(&world).await
    })
}

/// Runs this program under Callgrind, which writes a file at the end of every stretch, and reads the sums.
fn instructions() -> Result<Vec<u64>> {
    let folder = PathBuf::from("target/counts");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let out = folder.join("callgrind.out");
    let status = Command::new("valgrind")
        .args(["--quiet", "--tool=callgrind"])
        .arg(format!("--dump-before={}", paths::MARK))
        .arg(format!("--callgrind-out-file={}", out.display()))
        .arg(std::env::current_exe()?)
        .arg("run")
        .status()
        .context("valgrind: tests/tools/install.sh counts installs it")?;
    ensure!(status.success(), "valgrind: {status}");
    // Files are numbered from 1; the stretches between those of the paths prepare the next.
    (1..=Hot::ALL.len()).map(|path| total(&out.with_extension(format!("out.{}", 2 * path)))).collect()
}

fn total(profile: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(profile).with_context(|| profile.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")).context("a profile without a sum")?;
    Ok(paths::of_one(total.trim().parse()?))
}

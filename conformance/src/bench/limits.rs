//! What the machine is, and what it can do at most, measured beside the servers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Facts about the machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// Instructions that decide how fast digests and ciphers are.
    pub(crate) instructions: Vec<String>,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    pub(crate) filesystem: String,
}

impl Machine {
    /// This machine, and the file system that `data` is on.
    pub(crate) fn here(data: &Path) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = cpu.lines().find(|line| line.split(':').next().is_some_and(|key| key.trim() == name));
            line.and_then(|line| line.split_once(':')).map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let flags = field("flags");
        let known = ["sha_ni", "aes", "vaes", "avx2", "avx512f"];
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let memory: f64 = memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or(0.0);
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            processor: field("model name"),
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            instructions: known
                .iter()
                .filter(|name| flags.split(' ').any(|flag| flag == **name))
                .map(|name| (*name).to_owned())
                .collect(),
            memory_gib: memory / f64::from(1 << 20),
            kernel: kernel.trim().to_owned(),
            filesystem: filesystem(data),
        }
    }
}

/// The type of the file system with the longest mount point above a path.
fn filesystem(path: &Path) -> String {
    let path = path.canonicalize().unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let fields = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        Some((fields.nth(1)?, fields.next()?))
    });
    let above = fields.filter(|(mount, _)| path.starts_with(mount)).max_by_key(|(mount, _)| mount.len());
    above.map_or_else(String::new, |(_, kind)| kind.to_owned())
}

/// What was measured at one time, by name; a program that is not installed leaves its names out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limits(pub(crate) BTreeMap<String, f64>);

impl Limits {
    /// Measures all of it; takes about half a minute.
    pub(crate) fn measure(data: &Path) -> Self {
        let mut found = BTreeMap::new();
        let mut note = |name: &str, value: Result<f64>| match value {
            Ok(value) => {
                found.insert(name.to_owned(), value);
            }
            Err(error) => eprintln!("{name} is not measured: {error:#}"),
        };
        note("SHA-256, OpenSSL, one core, MiB/s", openssl("sha256"));
        note("AES-128-GCM, OpenSSL, one core, MiB/s", openssl("aes-128-gcm"));
        note("loopback TCP, one stream, MiB/s", loopback());
        note(
            "1 MiB writes with a sync at the end, MiB/s",
            fio(data, &["--bs=1m", "--size=1g", "--end_fsync=1"]).map(|(_, mib)| mib),
        );
        note("received, hashed, written and synced, bare TCP, one stream, MiB/s", taken_in(data, 1));
        note("received, hashed, written and synced, bare TCP, four streams, MiB/s", taken_in(data, 4));
        let synced = ["--bs=4k", "--size=64m", "--fdatasync=1", "--time_based", "--runtime=3"];
        note("4 KiB writes with a sync each, alone, a second", fio(data, &synced).map(|(each, _)| each));
        let many = [&synced[..], &["--numjobs=16", "--group_reporting"]].concat();
        note("4 KiB writes with a sync each, 16 at a time, a second", fio(data, &many).map(|(each, _)| each));
        Self(found)
    }
}

/// MiB in a second of `openssl speed`.
fn openssl(algorithm: &str) -> Result<f64> {
    let output =
        Command::new("openssl").args(["speed", "-seconds", "2", "-bytes", "16384", "-evp", algorithm]).output()?;
    speed(&String::from_utf8_lossy(&output.stdout)).context("openssl says nothing")
}

/// Reads `sha256   343040.00k` off the last line.
fn speed(said: &str) -> Option<f64> {
    let thousands: f64 = said.trim().lines().last()?.split_whitespace().last()?.strip_suffix('k')?.parse().ok()?;
    Some(thousands * 1000.0 / f64::from(1 << 20))
}

/// Writes in a second, and MiB in a second.
fn fio(data: &Path, arguments: &[&str]) -> Result<(f64, f64)> {
    let folder = data.join("fio");
    fs::create_dir_all(&folder)?;
    let output = Command::new("fio")
        .args(["--name=limit", "--rw=write", "--output-format=json"])
        .arg(format!("--directory={}", folder.display()))
        .args(arguments)
        .output();
    let _ = fs::remove_dir_all(&folder);
    let report: serde_json::Value =
        serde_json::from_slice(&output.context("run fio")?.stdout).context("fio says nothing")?;
    let write = &report["jobs"][0]["write"];
    let iops = write["iops"].as_f64().context("no rate")?;
    let total = write["io_bytes"].as_f64().context("no bytes")?;
    let runtime = report["jobs"][0]["job_runtime"].as_f64().context("no time")? / 1000.0;
    Ok((iops, total / runtime / f64::from(1 << 20)))
}

/// MiB in a second through the loopback interface.
fn loopback() -> Result<f64> {
    const TOTAL: usize = 2 << 30;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let sender = std::thread::spawn(move || -> std::io::Result<()> {
        let (mut tcp, _) = listener.accept()?;
        let piece = vec![0x5a; 256 << 10];
        for _ in 0..TOTAL / piece.len() {
            tcp.write_all(&piece)?;
        }
        Ok(())
    });
    let mut tcp = TcpStream::connect(address)?;
    let (start, mut piece, mut all) = (Instant::now(), vec![0; 256 << 10], 0);
    loop {
        let count = tcp.read(&mut piece)?;
        if count == 0 {
            break;
        }
        all += count;
    }
    let seconds = start.elapsed().as_secs_f64();
    sender.join().map_err(|_| anyhow::anyhow!("the sender panicked"))??;
    Ok(all as f64 / f64::from(1 << 20) / seconds)
}

/// MiB in a second of what no registry can do without when a gibibyte is pushed: receiving, hashing, writing and syncing it,
/// each beside the others, with the sender on the same cores. No TLS, no HTTP, nothing else.
fn taken_in(data: &Path, streams: usize) -> Result<f64> {
    const PIECE: usize = 1 << 20;
    let total = (1 << 30) / streams;
    let folder = data.join("limit");
    fs::create_dir_all(&folder)?;
    let (start, listener) = (Instant::now(), TcpListener::bind("127.0.0.1:0")?);
    let address = listener.local_addr()?;
    let taken: Result<()> = std::thread::scope(|scope| {
        let receivers: Vec<_> = (0..streams)
            .map(|stream| {
                let path = folder.join(stream.to_string());
                scope.spawn(move || -> Result<()> {
                    let mut tcp = TcpStream::connect(address)?;
                    let (pieces, written) = mpsc::sync_channel::<Arc<Vec<u8>>>(4);
                    let writer = std::thread::spawn(move || -> std::io::Result<()> {
                        let mut file = fs::File::create(path)?;
                        for piece in written {
                            file.write_all(&piece)?;
                        }
                        file.sync_data()
                    });
                    let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
                    for _ in 0..total / PIECE {
                        let mut piece = vec![0; PIECE];
                        tcp.read_exact(&mut piece)?;
                        let piece = Arc::new(piece);
                        pieces.send(Arc::clone(&piece)).ok().context("the writer is gone")?;
                        hash.update(&piece);
                    }
                    drop(pieces);
                    std::hint::black_box(hash.finish());
                    writer.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
                    Ok(())
                })
            })
            .collect();
        for _ in 0..streams {
            let (mut tcp, _) = listener.accept()?;
            scope.spawn(move || {
                let piece = vec![0x5a; 256 << 10];
                // Whoever receives says what went wrong.
                (0..total / piece.len()).try_for_each(|_| tcp.write_all(&piece))
            });
        }
        receivers.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow::anyhow!("a receiver panicked"))?)
    });
    let seconds = start.elapsed().as_secs_f64();
    let _ = fs::remove_dir_all(&folder);
    taken?;
    Ok((total * streams) as f64 / f64::from(1 << 20) / seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn openssl_is_understood() {
        let said = "version: 3.0.17\ntype          16384 bytes\nsha256        343040.00k\n";
        assert!((speed(said).unwrap() - 327.148).abs() < 0.01);
        assert_eq!(speed("nothing"), None);
    }

    #[test]
    fn the_machine_is_known() {
        let machine = Machine::here(Path::new("/"));
        assert!(machine.cores > 0 && machine.memory_gib > 0.1, "{machine:?}");
        assert!(!machine.kernel.is_empty() && !machine.filesystem.is_empty(), "{machine:?}");
    }
}

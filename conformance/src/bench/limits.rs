//! What the machine is, and what it can do at most, measured beside the servers.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use anyhow::{Context, Result, anyhow};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ServerConfig, ServerConnection, StreamOwned};
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::content::PIECE;
use super::measure::runtime;
use super::servers::Pki;
use super::tls::Session;

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
    /// Whether rows of one may stand beside rows of the other: the same processor, and as much of it.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        (&self.processor, self.cores, &self.instructions) == (&other.processor, other.cores, &other.instructions)
    }

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
    /// Measures all of it; takes about a minute.
    pub(crate) fn measure(data: &Path, pki: &Pki) -> Self {
        let mut found = BTreeMap::new();
        let mut note = |name: &str, value: Result<f64>| match value {
            Ok(value) => {
                found.insert(name.to_owned(), value);
            }
            Err(error) => eprintln!("{name} is not measured: {error:#}"),
        };
        note("SHA-256, OpenSSL, one core, MiB/s", openssl("sha256"));
        note("AES-128-GCM, OpenSSL, one core, MiB/s", openssl("aes-128-gcm"));
        note("loopback TCP, one stream, MiB/s", sent(None, 1));
        note("loopback TCP, eight streams, MiB/s", sent(None, 8));
        note("sent from memory over TLS, one stream, MiB/s", sent(Some(pki), 1));
        note("sent from memory over TLS, eight streams, MiB/s", sent(Some(pki), 8));
        note(
            "1 MiB writes with a sync at the end, MiB/s",
            fio(data, &["--bs=1m", "--size=1g", "--end_fsync=1"]).map(|(_, mib)| mib),
        );
        for (streams, named) in [(1, "one stream"), (4, "four streams"), (16, "16 streams")] {
            let name = |over| format!("received, hashed, written and synced, {over}, {named}, MiB/s");
            note(&name("bare TCP"), taken_in(data, None, streams));
            note(&name("TLS"), taken_in(data, Some(pki), streams));
        }
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

/// Connections through the loopback interface, of which one end sends and the other receives.
struct Wires {
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<(Arc<ServerConfig>, Arc<ClientConfig>)>,
}

impl Wires {
    /// With the certificate and the cipher that the servers have, or without TLS.
    fn new(pki: Option<&Pki>) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let tls = pki.map(|pki| -> Result<_> {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&pki.certificate)?.collect();
            let key = PrivateKeyDer::from_pem_file(&pki.key)?;
            let server = ServerConfig::builder().with_no_client_auth().with_single_cert(chain?, key)?;
            Ok((Arc::new(server), Arc::clone(&pki.trust)))
        });
        Ok(Self { address: listener.local_addr()?, listener, tls: tls.transpose()? })
    }

    fn sender(&self) -> Result<Box<dyn Write + Send>> {
        let (tcp, _) = self.listener.accept()?;
        let Some((config, _)) = &self.tls else { return Ok(Box::new(tcp)) };
        let mut session = ServerConnection::new(Arc::clone(config))?;
        session.set_buffer_limit(Some(PIECE + (16 << 10)));
        Ok(Box::new(StreamOwned::new(session, tcp)))
    }

    fn receiver(&self) -> Result<Box<dyn Read + Send>> {
        let tcp = TcpStream::connect(self.address)?;
        let Some((_, config)) = &self.tls else { return Ok(Box::new(tcp)) };
        Ok(Box::new(Receiver::Shaking(tcp, Arc::clone(config))))
    }
}

/// The receiving end, as the load program has it: it shakes hands when it first reads, by when somebody sends.
enum Receiver {
    Shaking(TcpStream, Arc<ClientConfig>),
    Open(Runtime, Box<Session>),
}

impl Receiver {
    fn shaken(tcp: &TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let (runtime, tcp) = (runtime()?, tcp.try_clone()?);
        tcp.set_nonblocking(true)?;
        let session =
            runtime.block_on(async { Session::open(tokio::net::TcpStream::from_std(tcp)?, config, &name).await })?;
        Ok(Self::Open(runtime, Box::new(session)))
    }
}

impl Read for Receiver {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if let Self::Shaking(tcp, config) = self {
            *self = Self::shaken(tcp, config)?;
        }
        let Self::Open(runtime, session) = self else { return Err(io::ErrorKind::NotConnected.into()) };
        runtime.block_on(session.read(into))
    }
}

/// MiB in a second of `total` bytes that are sent over some connections at a time, which are open before the clock starts;
/// `take` receives those of one.
fn moved(
    pki: Option<&Pki>,
    streams: usize,
    total: usize,
    take: impl Fn(usize, usize, Box<dyn Read + Send>) -> Result<()> + Sync,
) -> Result<f64> {
    let (wires, each, take) = (Wires::new(pki)?, total / streams, &take);
    let ends: Vec<_> = (0..streams).map(|_| Ok((wires.receiver()?, wires.sender()?))).collect::<Result<Vec<_>>>()?;
    let start = Instant::now();
    std::thread::scope(|scope| -> Result<()> {
        let mut receivers = Vec::new();
        for (stream, (receiver, mut sender)) in ends.into_iter().enumerate() {
            receivers.push(scope.spawn(move || take(stream, each, receiver)));
            scope.spawn(move || {
                let piece = vec![0x5a; PIECE];
                // Whoever receives says what went wrong.
                (0..each / piece.len()).try_for_each(|_| sender.write_all(&piece)).and_then(|()| sender.flush())
            });
        }
        receivers.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a receiver panicked"))?)
    })?;
    Ok((each * streams) as f64 / f64::from(1 << 20) / start.elapsed().as_secs_f64())
}

/// MiB in a second of what no server can do without when it sends: no files, no HTTP, with the receivers on the same cores.
fn sent(pki: Option<&Pki>, streams: usize) -> Result<f64> {
    moved(pki, streams, 2 << 30, |_, each, mut wire| {
        let mut piece = vec![0; PIECE];
        (0..each / piece.len()).try_for_each(|_| wire.read_exact(&mut piece).map_err(Into::into))
    })
}

/// MiB in a second of what no registry can do without when a gibibyte is pushed: receiving, hashing, writing and syncing it,
/// each beside the others, with the senders on the same cores. No HTTP, no database, nothing else.
fn taken_in(data: &Path, pki: Option<&Pki>, streams: usize) -> Result<f64> {
    let folder = data.join("limit");
    fs::create_dir_all(&folder)?;
    let speed =
        moved(pki, streams, 1 << 30, |stream, each, wire| take_in(&folder.join(stream.to_string()), each, wire));
    let _ = fs::remove_dir_all(&folder);
    speed
}

fn take_in(path: &Path, total: usize, mut wire: Box<dyn Read + Send>) -> Result<()> {
    /// Pieces that are under way at a time.
    const PIECES: usize = 16;
    let (to_hash, hashed) = mpsc::sync_channel::<Arc<Vec<u8>>>(PIECES);
    let (to_write, written) = mpsc::sync_channel::<Arc<Vec<u8>>>(PIECES);
    let (give_back, free) = mpsc::channel();
    std::thread::scope(|scope| {
        let recycle = move |piece| {
            // Whoever comes last has it alone; nobody waits for it any more at the end.
            if let Some(piece) = Arc::into_inner(piece) {
                let _ = give_back.send(piece);
            }
        };
        let recycle_too = recycle.clone();
        let hasher = scope.spawn(move || {
            let mut hash = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
            for piece in hashed {
                hash.update(&piece);
                recycle(piece);
            }
            std::hint::black_box(hash.finish());
        });
        let writer = scope.spawn(move || -> io::Result<()> {
            let mut file = fs::File::create(path)?;
            for piece in written {
                file.write_all(&piece)?;
                recycle_too(piece);
            }
            file.sync_data()
        });
        let received = (0..total / PIECE).try_for_each(|_| -> Result<()> {
            let mut piece = free.try_recv().unwrap_or_else(|_| vec![0; PIECE]);
            wire.read_exact(&mut piece)?;
            let piece = Arc::new(piece);
            // Both are there until they have everything; the writer says itself why it is not.
            let _ = to_hash.send(Arc::clone(&piece));
            to_write.send(piece).ok().context("the writer is gone")
        });
        drop((to_hash, to_write));
        hasher.join().map_err(|_| anyhow!("the hasher panicked"))?;
        writer.join().map_err(|_| anyhow!("the writer panicked"))??;
        received
    })
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
    fn what_is_taken_in_is_all_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        let sent: Vec<u8> = (0..40 * PIECE).map(|n| (n / 7).to_le_bytes()[0]).collect();
        take_in(&path, sent.len(), Box::new(io::Cursor::new(sent.clone()))).unwrap();
        assert!(fs::read(&path).unwrap() == sent);
        assert!(take_in(&path, sent.len(), Box::new(io::Cursor::new(vec![0; PIECE]))).is_err());
        assert!(take_in(&dir.path().join("no/folder"), sent.len(), Box::new(io::Cursor::new(sent.clone()))).is_err());
    }

    #[test]
    fn bytes_go_through_with_tls_and_without_and_come_to_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::new(&dir.path().join("pki")).unwrap();
        for tls in [None, Some(&pki)] {
            let speed = moved(tls, 2, 4 << 20, |_, each, mut wire| {
                let mut all = vec![0; each];
                wire.read_exact(&mut all)?;
                anyhow::ensure!(all.len() == 2 << 20 && all.iter().all(|byte| *byte == 0x5a));
                Ok(())
            });
            assert!(speed.unwrap() > 0.0);
            // One that asks for more than is sent is told, and does not wait.
            assert!(moved(tls, 1, PIECE, |_, each, mut wire| Ok(wire.read_exact(&mut vec![0; each + 1])?)).is_err());
        }
    }

    #[test]
    fn the_machine_is_known() {
        let machine = Machine::here(Path::new("/"));
        assert!(machine.cores > 0 && machine.memory_gib > 0.1, "{machine:?}");
        assert!(!machine.kernel.is_empty() && !machine.filesystem.is_empty(), "{machine:?}");
        assert!(machine.is_like(&Machine { kernel: "another".into(), ..machine.clone() }));
        assert!(!machine.is_like(&Machine { cores: machine.cores + 1, ..machine.clone() }));
    }
}

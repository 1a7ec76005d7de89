//! What is measured beside the answers: time, processor, memory, and how fast the machine is just now.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Result;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use super::client::{Client, Registry};

/// When a load ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Limit<'a> {
    Count(u64),
    Time(Duration),
    /// When somebody else says so.
    Told(&'a AtomicBool),
}

/// How many threads the connections are dealt out to: what costs the client least, which has the server's cores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Threads {
    /// To change from thread to thread would cost more than small requests do.
    EachCore,
    /// Of a large body, more has come by when the thread is next.
    EachConnection,
}

impl Threads {
    /// For bodies of so many bytes.
    pub(crate) fn for_bodies_of(bytes: u64) -> Self {
        if bytes < 1 << 20 { Self::EachCore } else { Self::EachConnection }
    }

    fn count(self) -> usize {
        match self {
            Self::EachCore => std::thread::available_parallelism().map_or(1, NonZero::get),
            Self::EachConnection => usize::MAX,
        }
    }
}

/// One operation that went well.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Done {
    pub(crate) bytes: u64,
    /// Latencies are told apart by it.
    pub(crate) kind: &'static str,
}

/// Latencies of one kind of operation, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) count: u64,
    pub(crate) p50_ms: f64,
    pub(crate) p90_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) max_ms: f64,
}

impl Latency {
    /// Reads them off nanoseconds in any order.
    pub(crate) fn of(mut nanoseconds: Vec<u64>) -> Self {
        nanoseconds.sort_unstable();
        let at = |part: f64| percentile(&nanoseconds, part) as f64 / 1e6;
        Self { count: nanoseconds.len() as u64, p50_ms: at(0.50), p90_ms: at(0.90), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// The smallest value that at least this part of all values do not exceed (nearest rank).
fn percentile(sorted: &[u64], part: f64) -> u64 {
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.max(1) - 1).copied().unwrap_or(0)
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    /// From the first connection's beginning to the last one's end.
    pub(crate) between: Option<(Instant, Instant)>,
    pub(crate) bytes: u64,
    pub(crate) latency: BTreeMap<&'static str, Vec<u64>>,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) client_cpu_s: f64,
    pub(crate) server_cpu_s: Option<f64>,
    pub(crate) server_peak_mib: Option<f64>,
    pub(crate) cipher: Option<String>,
    /// Figures of one workload alone, by name.
    pub(crate) extra: BTreeMap<String, f64>,
}

impl Measured {
    fn failed(&mut self, message: String) {
        self.errors += 1;
        self.first_error.get_or_insert(message);
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (kind, mut samples) in other.latency {
            self.latency.entry(kind).or_default().append(&mut samples);
        }
        self.between = match (self.between, other.between) {
            (Some((start, end)), Some((other_start, other_end))) => Some((start.min(other_start), end.max(other_end))),
            (one, other) => one.or(other),
        };
        self.bytes += other.bytes;
        self.errors += other.errors;
        self.first_error = self.first_error.take().or(other.first_error);
        self.cipher = self.cipher.take().or(other.cipher);
    }

    /// Operations that went well.
    pub(crate) fn operations(&self) -> u64 {
        self.latency.values().map(|all| all.len() as u64).sum()
    }
}

/// A load gives up after so many failures: the row is invalid after the first.
const MOST_ERRORS: u64 = 50;

/// What waits for sockets on one thread.
pub(crate) fn runtime() -> io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Waits for something that is not measured.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    runtime()?.block_on(work)
}

/// Runs `operation` on `concurrency` connections, each of which waits for one answer before it asks again.
///
/// The connections are open before the clock starts. `operation` is given numbers from 0 on, each once.
pub(crate) fn drive(
    registry: &Arc<Registry>,
    server: Option<&Server>,
    (concurrency, threads): (usize, Threads),
    limit: Limit<'_>,
    operation: impl AsyncFn(&mut Client, u64) -> Result<Done> + Sync,
) -> Measured {
    let threads = threads.count().min(concurrency);
    let mut all = Measured::default();
    let runtimes = match (0..threads).map(|_| runtime()).collect::<io::Result<Vec<_>>>() {
        Ok(runtimes) => runtimes,
        Err(error) => {
            all.failed(format!("begin: {error}"));
            return all;
        }
    };
    let (next, failures, over) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    // Once when everybody is connected, once to begin.
    let barrier = Barrier::new(threads + 1);
    let connect = async || {
        let (mut client, mut mine) = (Client::new(registry), Measured::default());
        if let Err(error) = client.connection.open().await {
            mine.failed(format!("connect: {error}"));
            over.store(true, Ordering::Relaxed);
        }
        mine.cipher = client.connection.cipher();
        (client, mine)
    };
    let work = async |mut client: Client, mut mine: Measured, start: Instant| {
        while !over.load(Ordering::Relaxed) {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let ended = match limit {
                Limit::Count(count) => number >= count,
                Limit::Time(time) => start.elapsed() >= time,
                Limit::Told(flag) => flag.load(Ordering::Relaxed),
            };
            if ended {
                break;
            }
            let began = Instant::now();
            match operation(&mut client, number).await {
                Ok(done) => {
                    let took = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                    mine.latency.entry(done.kind).or_default().push(took);
                    mine.bytes += done.bytes;
                }
                Err(error) => {
                    mine.failed(format!("{error:#}"));
                    if failures.fetch_add(1, Ordering::Relaxed) >= MOST_ERRORS {
                        over.store(true, Ordering::Relaxed);
                    }
                }
            }
        }
        mine.between = Some((start, Instant::now()));
        mine
    };
    let thread = |runtime: Runtime, share: usize| {
        runtime.block_on(async {
            let connected = join_all((0..share).map(|_| connect())).await;
            // Nobody has anything to do meanwhile.
            barrier.wait();
            barrier.wait();
            let start = Instant::now();
            join_all(connected.into_iter().map(|(client, mine)| work(client, mine, start))).await
        })
    };
    std::thread::scope(|scope| {
        let thread = &thread;
        let shares = (0..threads).map(|index| (concurrency + index) / threads);
        let workers: Vec<_> = runtimes
            .into_iter()
            .zip(shares)
            .map(|(runtime, share)| scope.spawn(move || thread(runtime, share)))
            .collect();
        barrier.wait();
        if let Some(server) = server {
            server.forget_peak();
        }
        let (client, before) = (own_cpu_s(), server.map(|server| server.cpu_s()));
        barrier.wait();
        for worker in workers {
            match worker.join() {
                Ok(share) => share.into_iter().for_each(|mine| all.merge(mine)),
                Err(_) => all.failed("a thread of the client panicked".into()),
            }
        }
        all.seconds = all.between.map_or(0.0, |(start, end)| (end - start).as_secs_f64());
        all.client_cpu_s = own_cpu_s() - client;
        all.server_cpu_s = server.map(|server| server.cpu_s()).zip(before).map(|(after, before)| after - before);
        all.server_peak_mib = server.map(|server| server.peak_mib());
    });
    all
}

/// Processor time of a process so far, in seconds: its own, and that of children that ended and were waited for.
fn cpu_s(pid: u32) -> (f64, f64) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // Fields are counted from behind the name, which may hold anything: utime is the 12th after it.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks =
        |from: usize| fields.iter().skip(from).take(2).filter_map(|field| field.parse::<u64>().ok()).sum::<u64>();
    let second = rustix::param::clock_ticks_per_second() as f64;
    (ticks(11) as f64 / second, ticks(13) as f64 / second)
}

/// Processor time of this process.
fn own_cpu_s() -> f64 {
    cpu_s(std::process::id()).0
}

/// Processor time of programs that this process ran to their end.
pub(crate) fn programs_cpu_s() -> f64 {
    cpu_s(std::process::id()).1
}

/// A server's process, with its children.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server(pub(crate) u32);

impl Server {
    /// The process and all that descend from it.
    fn processes(self) -> Vec<u32> {
        let parent_of = |pid: u32| -> Option<u32> {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
        };
        let listed = fs::read_dir("/proc").into_iter().flatten().flatten();
        let all: Vec<(u32, u32)> = listed
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(|pid| Some((pid, parent_of(pid)?)))
            .collect();
        let mut found = vec![self.0];
        let mut at = 0;
        while let Some(parent) = found.get(at).copied() {
            found.extend(all.iter().filter(|(_, of)| *of == parent).map(|(pid, _)| *pid));
            at += 1;
        }
        found
    }

    fn cpu_s(self) -> f64 {
        self.processes().into_iter().map(cpu_s).map(|(own, children)| own + children).sum()
    }

    /// Lets the peak begin anew, where the system allows it.
    pub(crate) fn forget_peak(self) {
        for pid in self.processes() {
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
    }

    /// The sum of what each process held at most.
    pub(crate) fn peak_mib(self) -> f64 {
        let peak = |pid: u32| -> Option<f64> {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
            line.split_whitespace().next()?.parse().ok()
        };
        self.processes().into_iter().filter_map(peak).sum::<f64>() / 1024.0
    }
}

/// MiB of SHA-256 in a second of one core, just now: on a shared machine runs are alike only where this is.
pub(crate) fn sha256_speed() -> f64 {
    let block = vec![0x5a; 1 << 20];
    let start = Instant::now();
    let mut hashed = 0;
    while start.elapsed() < Duration::from_millis(150) {
        black_box(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, black_box(&block)));
        hashed += 1;
    }
    f64::from(hashed) / start.elapsed().as_secs_f64()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn percentiles_are_values_that_were_seen() {
        let hundred: Vec<u64> = (1..=100).map(|n| n * 1_000_000).rev().collect();
        let latency = Latency::of(hundred);
        assert_eq!((latency.p50_ms, latency.p90_ms, latency.p99_ms, latency.max_ms), (50.0, 90.0, 99.0, 100.0));
        assert_eq!(latency.count, 100);
        assert_eq!(Latency::of(vec![7_000_000]).p99_ms, 7.0);
        assert_eq!(percentile(&[1, 2], 0.5), 1);
        assert_eq!(percentile(&[1, 2], 0.51), 2);
        assert_eq!(Latency::of(Vec::new()), Latency::default());
    }

    #[test]
    fn a_process_is_counted_with_its_children() {
        let before = Server(std::process::id()).cpu_s();
        let mut child = std::process::Command::new("sleep").arg("5").spawn().unwrap();
        assert!(Server(std::process::id()).processes().contains(&child.id()));
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(100) {
            black_box(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &[0; 4096]));
        }
        assert!(Server(std::process::id()).cpu_s() > before);
        assert!(Server(std::process::id()).peak_mib() > 1.0);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

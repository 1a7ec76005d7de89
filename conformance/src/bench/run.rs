//! Runs workloads against each server in turn, and keeps every row.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use super::limits::{Limits, Machine};
use super::measure::{Measured, sha256_speed};
use super::row::Row;
use super::seed;
use super::servers::{PEERS, Peer, Pki, Programs, Running};
use super::work::{Kind, Prepared, Scale, Spec, all};

/// What is compared, and how.
#[derive(Debug, clap::Args)]
pub(crate) struct RunOptions {
    /// A workload of `bench list`, or a prefix of several; all of them where none is named
    #[arg(long = "workload", short)]
    workloads: Vec<String>,
    /// Servers to compare; all that are installed where none is named
    #[arg(long = "peer", value_enum)]
    peers: Vec<Peer>,
    /// `https`, `http` or both; by default both where it matters, and `https` elsewhere
    #[arg(long = "scheme", value_parser = ["https", "http"])]
    schemes: Vec<String>,
    /// How often each row is measured, the servers taking turns
    #[arg(long, default_value_t = 5)]
    runs: u32,
    /// How large the workloads are
    #[arg(long, value_enum, default_value = "full")]
    scale: Scale,
    /// Where the servers keep their data while they are measured
    #[arg(long, default_value = "target/bench/data")]
    data: PathBuf,
    /// Where the rows are kept; those of earlier runs stay until they are measured again
    #[arg(long, default_value = super::RESULTS)]
    results: PathBuf,
    /// Do not measure what the machine itself can do
    #[arg(long)]
    no_limits: bool,
    #[command(flatten)]
    programs: Programs,
}

/// All that was measured, as it is kept.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) limits: Vec<Limits>,
    /// Versions by server.
    pub(crate) versions: std::collections::BTreeMap<String, String>,
    pub(crate) records: Vec<Record>,
}

/// One row of one server, or why there is none.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) scheme: String,
    pub(crate) peer: String,
    pub(crate) workload: String,
    pub(crate) scale: String,
    /// The call that measured it: each has a number of its own.
    #[serde(default)]
    pub(crate) call: u64,
    /// Rows of one call and one round were measured one right after the other.
    pub(crate) round: u32,
    pub(crate) row: Option<Row>,
    /// What went wrong.
    pub(crate) failure: Option<String>,
    /// Why it means nothing for this server.
    pub(crate) cannot: Option<String>,
    /// How what a list holds got there, where it was not pushed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) seeded: Option<String>,
}

impl Record {
    /// Whether something went wrong that should not.
    fn has_failed(&self) -> bool {
        self.failure.is_some() || self.row.as_ref().is_some_and(|row| !row.valid())
    }
}

impl Results {
    /// Reads what was kept, where there is any.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        Ok(Some(serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))?))
    }

    /// The file is kept with the sources: a line for each row, so that a row measured again is one line that differs.
    fn write(&self, path: &Path) -> Result<()> {
        let lines = |rows: Result<Vec<String>, serde_json::Error>| rows.map(|rows| rows.join(",\n"));
        let text = format!(
            "{{\"machine\":{},\n\"versions\":{},\n\"limits\":[\n{}\n],\n\"records\":[\n{}\n]}}\n",
            serde_json::to_string(&self.machine)?,
            serde_json::to_string(&self.versions)?,
            lines(self.limits.iter().map(serde_json::to_string).collect())?,
            lines(self.records.iter().map(serde_json::to_string).collect())?,
        );
        let next = path.with_extension("next");
        fs::write(&next, text).with_context(|| format!("write {}", next.display()))?;
        fs::rename(&next, path).with_context(|| format!("write {}", path.display()))
    }
}

/// A server that several rows use, and what was prepared on it.
struct Kept {
    running: Running,
    prepared: HashMap<String, Rc<Prepared>>,
    seeded: HashMap<u64, String>,
}

/// Measures all of it.
pub(crate) fn run(options: &RunOptions) -> Result<()> {
    let mut chosen = if options.workloads.is_empty() { all() } else { super::chosen(&options.workloads)? };
    chosen.retain(|spec| options.scale == Scale::Full || !spec.is_long_list());
    let mut results = Results::read(&options.results)?.unwrap_or_default();
    let folder = options.results.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    fs::create_dir_all(&options.data).with_context(|| format!("make {}", options.data.display()))?;
    // Beside the data, which is for the servers alone.
    let pki = Pki::new(&options.data.with_file_name("pki"))?;
    let mut peers = Vec::new();
    for peer in PEERS.into_iter().filter(|peer| options.peers.is_empty() || options.peers.contains(peer)) {
        match peer.version(&options.programs) {
            Ok(version) => {
                results.versions.insert(peer.name().into(), version);
                peers.push(peer);
            }
            Err(error) if options.peers.is_empty() => eprintln!("{} is left out: {error:#}", peer.name()),
            Err(error) => return Err(error),
        }
    }
    ensure!(!peers.is_empty(), "no server to measure");
    let here = Machine::here(&options.data);
    if options.workloads.is_empty() || results.records.is_empty() {
        results.limits.clear();
    }
    if !results.records.is_empty() && !here.is_like(&results.machine) {
        // A report of two machines would say nothing of either.
        ensure!(
            options.workloads.is_empty(),
            "the rows in {} are of another machine ({}): measure all of them, or name another file with --results",
            options.results.display(),
            results.machine.processor
        );
        results.records.clear();
    }
    results.machine = here;
    let call = results.records.iter().map(|record| record.call).max().unwrap_or_default() + 1;
    if !options.no_limits {
        results.limits.push(Limits::measure(&options.data, &pki));
    }
    for scheme in ["https", "http"] {
        let asked = |spec: &&Spec| match options.schemes.as_slice() {
            [] => scheme == "https" || spec.is_about_bytes(),
            schemes => schemes.iter().any(|each| each == scheme),
        };
        let specs: Vec<&Spec> = chosen.iter().filter(asked).collect();
        let mut kept = HashMap::new();
        for spec in specs {
            let runner = Runner { options, pki: &pki, scheme, call };
            results.records.retain(|record| {
                !(record.scheme == scheme
                    && record.workload == spec.name
                    && peers.iter().any(|peer| peer.name() == record.peer))
            });
            runner.rounds(spec, &peers, &mut kept, &mut results.records);
            results.write(&options.results)?;
        }
    }
    if !options.no_limits {
        results.limits.push(Limits::measure(&options.data, &pki));
        results.write(&options.results)?;
    }
    let current = results.records.iter().filter(|record| chosen.iter().any(|spec| spec.name == record.workload));
    let current: Vec<Record> = current.cloned().collect();
    println!("\n{}", super::report::summary(&current));
    let failed = current.iter().filter(|record| record.has_failed()).count();
    ensure!(failed == 0, "{failed} runs failed");
    Ok(())
}

struct Runner<'a> {
    options: &'a RunOptions,
    pki: &'a Pki,
    call: u64,
    scheme: &'static str,
}

impl Runner<'_> {
    /// Each round begins with another server, so that none always follows the same one.
    fn rounds(&self, spec: &Spec, peers: &[Peer], kept: &mut HashMap<Peer, Kept>, records: &mut Vec<Record>) {
        let spec = &spec.clone().at(self.options.scale);
        let able: Vec<Peer> = peers.iter().copied().filter(|peer| peer.cannot(spec).is_none()).collect();
        let record = |peer: Peer, round, row| Record {
            scheme: self.scheme.into(),
            peer: peer.name().into(),
            workload: spec.name.into(),
            scale: format!("{:?}", self.options.scale).to_lowercase(),
            call: self.call,
            round,
            row,
            failure: None,
            cannot: None,
            seeded: None,
        };
        for peer in peers {
            let cannot = peer.cannot(spec).map(str::to_owned);
            records.extend(cannot.map(|why| Record { cannot: Some(why), ..record(*peer, 0, None) }));
        }
        for round in 0..self.options.runs {
            for turn in 0..able.len() {
                let peer = able[(turn + round as usize) % able.len()];
                match self.measure(spec, peer, kept) {
                    Ok((row, seeded)) => {
                        println!("{:<6}{:<16}{}", self.scheme, peer.name(), row.line());
                        records.push(Record { seeded, ..record(peer, round, Some(row)) });
                    }
                    Err(error) => {
                        println!("{:<6}{:<16}{:<22} FAILED: {error:#}", self.scheme, peer.name(), spec.name);
                        records.push(Record { failure: Some(format!("{error:#}")), ..record(peer, round, None) });
                        // What state it is in nobody knows.
                        kept.remove(&peer);
                    }
                }
            }
        }
    }

    fn start(&self, peer: Peer) -> Result<Running> {
        let options = self.options;
        Running::start(peer, self.scheme == "https", &options.programs, self.pki, &options.data)
    }

    fn measure(&self, spec: &Spec, peer: Peer, kept: &mut HashMap<Peer, Kept>) -> Result<(Row, Option<String>)> {
        if spec.wants_fresh_server() {
            let running = self.start(peer)?;
            let prepared = running.bench.prepare(spec)?;
            return Ok((Row::measure(&running.bench, spec, &prepared)?, None));
        }
        let kept = match kept.entry(peer) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let running = self.start(peer)?;
                entry.insert(Kept { running, prepared: HashMap::new(), seeded: HashMap::new() })
            }
        };
        let seeded = match kept.seeded.get(&seed::key(spec)) {
            Some(how) => Some(how.clone()),
            None => {
                let how = seed::fill(&mut kept.running, spec)?.map(str::to_owned);
                kept.seeded.extend(how.clone().map(|how| (seed::key(spec), how)));
                how
            }
        };
        if spec.kind == Kind::Start {
            // Only ours is filled.
            let entries = if seeded.is_some() { spec.entries } else { 0 };
            return Ok((Row { entries, ..starts(&mut kept.running, spec)? }, seeded));
        }
        let prepared = match kept.prepared.get(&spec.fixture()) {
            Some(prepared) => Rc::clone(prepared),
            None => {
                let prepared = Rc::new(kept.running.bench.prepare(spec)?);
                kept.prepared.insert(spec.fixture(), Rc::clone(&prepared));
                prepared
            }
        };
        Ok((Row::measure(&kept.running.bench, spec, &prepared)?, seeded))
    }
}

/// How long a server takes from its start to the first answer.
fn starts(running: &mut Running, spec: &Spec) -> Result<Row> {
    let before = sha256_speed();
    let took: Result<Vec<_>> = (0..spec.count).map(|_| running.restart()).collect();
    let took = took?;
    let mut measured = Measured { seconds: took.iter().map(Duration::as_secs_f64).sum(), ..Measured::default() };
    let nanoseconds = took.iter().map(|took| u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    measured.latency.insert("start", nanoseconds.collect());
    measured.server_peak_mib = running.bench.server.map(|server| server.peak_mib());
    Ok(Row::of(spec, measured, before, sha256_speed()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn what_is_kept_is_read_again_and_has_a_line_for_each_row() {
        let record = |workload: &str| Record {
            scheme: "https".into(),
            peer: "nginx".into(),
            workload: workload.into(),
            scale: "full".into(),
            call: 3,
            round: 1,
            row: None,
            failure: Some("a \"quoted\"\nline".into()),
            cannot: None,
            seeded: None,
        };
        let limits = Limits([("SHA-256".to_owned(), 1.5)].into());
        let kept = Results {
            machine: Machine { processor: "P".into(), ..Machine::default() },
            limits: vec![limits.clone(), limits],
            versions: [("nginx".to_owned(), "1".to_owned())].into(),
            records: vec![record("pull-4k"), record("range-64k")],
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        for kept in [&kept, &Results::default()] {
            kept.write(&path).unwrap();
            let read = Results::read(&path).unwrap().unwrap();
            assert_eq!(serde_json::to_value(&read).unwrap(), serde_json::to_value(kept).unwrap());
        }
        kept.write(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().filter(|line| line.contains("\"workload\"")).count(), 2, "{text}");
        assert!(Results::read(&dir.path().join("none")).unwrap().is_none());
    }
}

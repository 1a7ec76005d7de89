//! Writes the report from what was kept: medians, spreads, ratios of pairs, and where ours loses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::charts::{Bar, Chart};
use super::limits::Limits;
use super::row::{Row, figure};
use super::run::{Record, Results};
use super::servers::{PEERS, Peer};
use super::work::{Spec, all};

/// Where the report goes.
#[derive(Debug, clap::Args)]
pub(crate) struct ReportOptions {
    /// Where `bench run` kept the rows
    #[arg(long, default_value = super::RESULTS)]
    results: PathBuf,
    /// The folder of `REPORT.md` and `charts/`
    #[arg(long, default_value = "conformance/bench")]
    folder: PathBuf,
}

/// Writes `REPORT.md` and the charts.
pub(crate) fn write(options: &ReportOptions) -> Result<()> {
    let results = Results::read(&options.results)?;
    let results = results.with_context(|| format!("{} is not there: run `make bench`", options.results.display()))?;
    ensure!(!results.records.is_empty(), "nothing was measured");
    let charts = options.folder.join("charts");
    fs::create_dir_all(&charts).with_context(|| format!("make {}", charts.display()))?;
    let cells = Cells::of(&results.records);
    let mut names = Vec::new();
    for scheme in SCHEMES {
        for (title, file, prefixes) in FAMILIES {
            let chart = chart(&cells, scheme, title, prefixes);
            if !chart.is_empty() {
                let name = format!("{file}-{scheme}.svg");
                put(&charts.join(&name), &chart.svg())?;
                names.push((format!("{title}, {scheme}"), name));
            }
        }
    }
    put(&options.folder.join("REPORT.md"), &text(&results, &cells, &names))?;
    println!("{}", options.folder.join("REPORT.md").display());
    Ok(())
}

/// The rates side by side.
pub(crate) fn summary(records: &[Record]) -> String {
    let (cells, mut text) = (Cells::of(records), String::new());
    for scheme in SCHEMES {
        comparison(&mut text, &cells, scheme);
    }
    text
}

fn put(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

const SCHEMES: [&str; 2] = ["https", "http"];

/// Charts: a title, a file, and the workloads by the beginnings of their names.
const FAMILIES: [(&str, &str, &[&str]); 4] = [
    ("Pushes", "pushes", &["push-", "image-push"]),
    ("Pulls", "pulls", &["pull-", "range-", "image-pull", "mixed-"]),
    ("Manifests", "manifests", &["manifest-"]),
    ("Lists", "lists", &["tags-", "catalog-", "referrers-"]),
];

/// The rows of one workload, way and server.
#[derive(Clone, Debug, Default)]
struct Cell<'a> {
    /// By call and round; only valid rows.
    rows: BTreeMap<(u64, u32), &'a Row>,
    /// Why there is none, or why some do not count.
    failure: Option<&'a str>,
    seeded: Option<&'a str>,
}

impl Cell<'_> {
    fn spread(&self, value: impl Fn(&Row) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.rows.values().filter_map(|row| value(row)).collect())
    }
}

struct Cells<'a>(BTreeMap<(&'a str, &'a str, &'a str), Cell<'a>>);

impl<'a> Cells<'a> {
    fn of(records: &'a [Record]) -> Self {
        let mut cells: BTreeMap<_, Cell<'a>> = BTreeMap::new();
        for record in records {
            let key = (record.scheme.as_str(), record.workload.as_str(), record.peer.as_str());
            let cell = cells.entry(key).or_default();
            cell.seeded = cell.seeded.or(record.seeded.as_deref());
            match &record.row {
                Some(row) if row.valid() => {
                    cell.rows.insert((record.call, record.round), row);
                }
                Some(row) => cell.failure = row.first_error.as_deref().or(Some("nothing was done")),
                None => cell.failure = record.failure.as_deref().or(record.cannot.as_deref()),
            }
        }
        Self(cells)
    }

    fn get(&self, scheme: &'a str, workload: &'a str, peer: Peer) -> Option<&Cell<'a>> {
        self.0.get(&(scheme, workload, peer.name()))
    }

    /// Workloads of which anything is known, in the order of the list.
    fn workloads(&self, scheme: &str) -> Vec<Spec> {
        let known = |spec: &Spec| self.0.keys().any(|(of, name, _)| *of == scheme && *name == spec.name);
        all().into_iter().filter(known).collect()
    }

    /// How many times as fast ours is as a peer: the median over rounds, each pair of which ran together.
    fn ratio(&self, scheme: &'a str, workload: &'a str, peer: Peer) -> Option<Spread> {
        let ours = self.get(scheme, workload, Peer::Wharfinger)?;
        let theirs = self.get(scheme, workload, peer)?;
        let pairs = ours.rows.iter().filter_map(|(when, row)| Some(row.rate / theirs.rows.get(when)?.rate));
        Spread::of(pairs.collect())
    }
}

/// The middle of some values, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    least: f64,
    most: f64,
    count: usize,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len() % 2 == 1 { values[middle] } else { f64::midpoint(values[middle - 1], values[middle]) };
        Some(Self { median, least, most, count: values.len() })
    }

    fn text(self) -> String {
        if self.count == 1 {
            return figure(self.median);
        }
        format!("{} ({}–{})", figure(self.median), figure(self.least), figure(self.most))
    }
}

fn text(results: &Results, cells: &Cells<'_>, charts: &[(String, String)]) -> String {
    let mut text = String::from(
        "# How fast it is, beside others\n\n\
         Written by `conformance bench report` from what `make bench` measured; how, and what each row means, is in\n\
         [docs/BENCHMARKS.md](../../docs/BENCHMARKS.md). The servers ran on one machine, one after the other in every round,\n\
         with their data on the same disk and the load program on the same cores. A figure is the median of the rounds, with the\n\
         least and the most in brackets; a ratio is the median of the ratios of rows that were measured in the same round.\n\n",
    );
    let small: Vec<&str> =
        results.records.iter().map(|record| record.scale.as_str()).filter(|scale| *scale != "full").collect();
    if let Some(scale) = small.first() {
        let _ = writeln!(text, "**{} runs were of a smaller size ({scale}): they say little.**\n", small.len());
    }
    machine(&mut text, results);
    servers(&mut text, results);
    losses(&mut text, cells);
    for scheme in SCHEMES {
        comparison(&mut text, cells, scheme);
    }
    if !charts.is_empty() {
        text.push_str("## Charts\n\nIn each row the fastest fills the width.\n\n");
        for (title, file) in charts {
            let _ = writeln!(text, "![{title}](charts/{file})\n");
        }
    }
    for scheme in SCHEMES {
        details(&mut text, cells, scheme);
    }
    without(&mut text, cells);
    text
}

fn machine(text: &mut String, results: &Results) {
    let machine = &results.machine;
    text.push_str("## The machine\n\n| what | value |\n|---|---|\n");
    let instructions = machine.instructions.join(", ");
    let rows = [
        ("processor", format!("{} × {}", machine.cores, machine.processor)),
        ("instructions that matter", instructions),
        ("memory", format!("{:.0} GiB", machine.memory_gib)),
        ("kernel", machine.kernel.clone()),
        ("file system", machine.filesystem.clone()),
    ];
    for (name, value) in rows {
        let _ = writeln!(text, "| {name} | {value} |");
    }
    let mut limits: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, value) in results.limits.iter().flat_map(|Limits(found)| found) {
        limits.entry(name).or_default().push(*value);
    }
    for (name, values) in limits {
        let _ = writeln!(text, "| {name} | {} |", Spread::of(values).map_or_else(String::new, Spread::text));
    }
    let speeds = results.records.iter().filter_map(|record| record.row.as_ref());
    let speeds = Spread::of(speeds.flat_map(|row| [row.sha256_before, row.sha256_after]).collect());
    if let Some(speeds) = speeds {
        let _ = writeln!(text, "| SHA-256 before and after every row, one core, MiB/s | {} |", speeds.text());
    }
    text.push('\n');
}

fn servers(text: &mut String, results: &Results) {
    text.push_str("## The servers\n\n| server | version | what is on the disk when it answers |\n|---|---|---|\n");
    for peer in PEERS {
        if let Some(version) = results.versions.get(peer.name()) {
            let _ = writeln!(text, "| {} | {version} | {} |", peer.name(), peer.durability());
        }
    }
    text.push_str(
        "\nEvery server had the same P-256 certificate; ours asked for a token on every request, the others for none.\n\
         zot and angos are not here: neither can be had through an ordinary package client.\n\n",
    );
}

/// Rows in which another server is ahead.
fn losses(text: &mut String, cells: &Cells<'_>) {
    text.push_str("## Where we lose\n\n");
    let mut lost = Vec::new();
    for scheme in SCHEMES {
        for spec in cells.workloads(scheme) {
            for peer in PEERS {
                let ratio =
                    cells.ratio(scheme, spec.name, peer).filter(|ratio| peer != Peer::Wharfinger && ratio.median < 1.0);
                lost.extend(
                    ratio.map(|ratio| format!("| {} | {scheme} | {} | {} |", spec.name, peer.name(), ratio.text())),
                );
            }
        }
    }
    if lost.is_empty() {
        text.push_str("In no row that was measured.\n\n");
    } else {
        let _ = writeln!(text, "| workload | | beside | ours / theirs |\n|---|---|---|---|\n{}\n", lost.join("\n"));
    }
}

fn present(cells: &Cells<'_>, scheme: &str) -> Vec<Peer> {
    let known = |peer: &Peer| {
        cells.0.iter().any(|((of, _, name), cell)| *of == scheme && *name == peer.name() && !cell.rows.is_empty())
    };
    PEERS.into_iter().filter(known).collect()
}

fn comparison(text: &mut String, cells: &Cells<'_>, scheme: &'static str) {
    let (peers, workloads) = (present(cells, scheme), cells.workloads(scheme));
    if workloads.is_empty() {
        return;
    }
    let _ = write!(
        text,
        "## Rates and ratios, {scheme}\n\nThe ratio is ours / theirs: above 1 ours is faster.\n\n| workload | unit |"
    );
    for peer in &peers {
        let _ = write!(text, " {} |", peer.name());
        if *peer != Peer::Wharfinger {
            text.push_str(" ratio |");
        }
    }
    text.push_str("\n|---|---|");
    text.push_str(&"---|".repeat((peers.len() * 2).saturating_sub(usize::from(peers.contains(&Peer::Wharfinger)))));
    text.push('\n');
    for spec in workloads {
        let unit = peers.iter().filter_map(|peer| cells.get(scheme, spec.name, *peer)?.rows.values().next()).next();
        let _ = write!(text, "| {} | {} |", spec.name, unit.map_or("", |row| row.unit.as_str()));
        for peer in &peers {
            let cell = cells.get(scheme, spec.name, *peer);
            let rate = cell.and_then(|cell| cell.spread(|row| Some(row.rate))).map_or_else(|| "–".into(), Spread::text);
            let _ = write!(text, " {rate} |");
            if *peer != Peer::Wharfinger {
                let ratio = cells.ratio(scheme, spec.name, *peer).map_or_else(|| "–".into(), Spread::text);
                let _ = write!(text, " {ratio} |");
            }
        }
        text.push('\n');
    }
    text.push('\n');
}

fn details(text: &mut String, cells: &Cells<'_>, scheme: &'static str) {
    let (peers, workloads) = (present(cells, scheme), cells.workloads(scheme));
    if workloads.is_empty() {
        return;
    }
    let _ = writeln!(
        text,
        "## Latency, processor and memory, {scheme}\n\n\
         Latencies are those of a closed loop, in milliseconds. \"Client\" is the load program's part of the processor time of\n\
         both: where it is bold, the row says as much of the client as of the server.\n\n\
         | workload | server | n | p50 | p90 | p99 | max | server CPU | client | peak MiB | sizes and seeds |\n|---|---|---|---|---|---|---|---|---|---|---|"
    );
    for spec in workloads {
        for peer in &peers {
            let Some(cell) = cells.get(scheme, spec.name, *peer) else { continue };
            let Some(first) = cell.rows.values().next() else { continue };
            let say = |value: fn(&Row) -> Option<f64>| {
                cell.spread(value).map_or_else(|| "–".into(), |spread| figure(spread.median))
            };
            let cost = say(|row| row.server_cost().map(|(cost, _)| cost));
            let unit = first.server_cost().map_or("", |(_, unit)| unit);
            let client = cell.spread(|row| Some(100.0 * row.client_cpu_s / (row.client_cpu_s + row.server_cpu_s?)));
            let client = client.filter(|client| client.median.is_finite());
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {} | {} | {cost} {unit} | {} | {} | {} |",
                spec.name,
                peer.name(),
                cell.rows.len(),
                say(|row| Some(row.latency.p50_ms)),
                say(|row| Some(row.latency.p90_ms)),
                say(|row| Some(row.latency.p99_ms)),
                say(|row| Some(row.latency.max_ms)),
                client.map_or_else(|| "–".into(), share),
                say(|row| row.server_peak_mib),
                remarks(first, cell, spec.writes().then(|| peer.synced())),
            );
        }
    }
    text.push('\n');
}

/// The client's part, emphasized where it is nearly half: on two cores the row is as much about the client then.
fn share(client: Spread) -> String {
    if client.median >= 45.0 { format!("**{:.0} %**", client.median) } else { format!("{:.0} %", client.median) }
}

/// A number of things.
fn count(number: u64) -> String {
    if number < 1000 { number.to_string() } else { figure(number as f64) }
}

/// What a reader has to know of a row beside its figures; `synced` is what is on the disk before the answer, where that matters.
fn remarks(row: &Row, cell: &Cell<'_>, synced: Option<&str>) -> String {
    let mut all = vec![format!("{} at a time", row.concurrency)];
    if row.entries > 0 {
        all.push(format!("{} there before", count(row.entries)));
    }
    if row.unit == "MiB/s" {
        all.push(format!("{} MiB each", row.bytes_each >> 20));
    } else if row.operations > 0 && row.bytes > 0 {
        all.push(format!("{} bytes an answer", figure(row.bytes as f64 / row.operations as f64)));
    }
    all.extend(synced.map(|synced| format!("synced: {synced}")));
    all.extend(cell.seeded.map(str::to_owned));
    all.extend(row.extra.iter().map(|(name, value)| format!("{} {}", name.replace('_', " "), figure(*value))));
    for (kind, latency) in &row.by_kind {
        all.push(format!("{kind}: p50 {}, p99 {} ms", figure(latency.p50_ms), figure(latency.p99_ms)));
    }
    all.extend(row.cipher.as_ref().map(|cipher| cipher.replace("TLS13_", "")));
    all.extend(cell.failure.map(|failure| format!("some runs failed: {failure}")));
    all.join("; ")
}

/// Rows that there are none of, and why.
fn without(text: &mut String, cells: &Cells<'_>) {
    let mut missing: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    let known: Vec<&str> = all().iter().map(|spec| spec.name).collect();
    for ((_, workload, peer), cell) in cells.0.iter().filter(|((_, workload, _), _)| known.contains(workload)) {
        if let Some(failure) = cell.failure.filter(|_| cell.rows.is_empty()) {
            let all = missing.entry((peer, failure)).or_default();
            if !all.contains(workload) {
                all.push(workload);
            }
        }
    }
    if missing.is_empty() {
        return;
    }
    text.push_str("## What could not be measured\n\n| server | why | workloads |\n|---|---|---|\n");
    for ((peer, failure), workloads) in missing {
        let failure: String =
            failure.chars().map(|c| if c == '|' || c.is_control() { ' ' } else { c }).take(200).collect();
        let _ = writeln!(text, "| {peer} | {failure} | {} |", workloads.join(", "));
    }
}

fn chart(cells: &Cells<'_>, scheme: &'static str, title: &str, prefixes: &[&str]) -> Chart {
    let peers = present(cells, scheme);
    let mut chart = Chart::new(format!("{title}, {scheme}"), peers.iter().map(|peer| peer.name().to_owned()).collect());
    for spec in
        cells.workloads(scheme).iter().filter(|spec| prefixes.iter().any(|prefix| spec.name.starts_with(prefix)))
    {
        let bars = peers.iter().enumerate().filter_map(|(series, peer)| {
            let cell = cells.get(scheme, spec.name, *peer)?;
            let spread = cell.spread(|row| Some(row.rate))?;
            let unit = &cell.rows.values().next()?.unit;
            let label = format!("{} {unit}", figure(spread.median));
            Some(Bar { series, value: spread.median, least: spread.least, most: spread.most, label })
        });
        chart.group(spec.name, bars.collect());
    }
    chart
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::bench::limits::Machine;
    use crate::bench::measure::Latency;

    fn record(peer: Peer, workload: &str, round: u32, rate: f64, errors: u64) -> Record {
        let row = Row {
            workload: workload.into(),
            about: String::new(),
            concurrency: 4,
            bytes_each: 4096,
            entries: 0,
            seconds: 1.0,
            operations: 10,
            bytes: 40960,
            rate,
            unit: "/s".into(),
            latency: Latency { count: 10, p50_ms: 1.5, ..Latency::default() },
            by_kind: BTreeMap::new(),
            errors,
            first_error: (errors > 0).then(|| "status 500 | no".into()),
            client_cpu_s: 0.25,
            server_cpu_s: Some(0.75),
            server_peak_mib: Some(33.0),
            cipher: None,
            sha256_before: 300.0,
            sha256_after: 310.0,
            extra: BTreeMap::new(),
        };
        let (scheme, scale) = ("https".into(), "tiny".into());
        let (peer, workload) = (peer.name().into(), workload.into());
        Record {
            scheme,
            peer,
            workload,
            scale,
            call: 0,
            round,
            row: Some(row),
            failure: None,
            cannot: None,
            seeded: None,
        }
    }

    fn report(records: Vec<Record>) -> String {
        let versions = PEERS.iter().map(|peer| (peer.name().to_owned(), "1".to_owned())).collect();
        let results = Results { machine: Machine::default(), limits: Vec::new(), versions, records };
        let cells = Cells::of(&results.records);
        text(&results, &cells, &[])
    }

    #[test]
    fn medians_lie_in_the_middle() {
        assert_eq!(Spread::of(Vec::new()), None);
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]).unwrap().text(), "2.00 (1.00–3.00)");
        assert_eq!(Spread::of(vec![4.0, 1.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(vec![4.0]).unwrap().text(), "4.00");
    }

    #[test]
    fn ratios_are_those_of_pairs() {
        let rates = [(0, 10.0, 1.0), (1, 20.0, 10.0), (2, 30.0, 10.0)];
        let records = rates.iter().flat_map(|(round, ours, theirs)| {
            [
                record(Peer::Wharfinger, "push-4k", *round, *ours, 0),
                record(Peer::Distribution, "push-4k", *round, *theirs, 0),
            ]
        });
        let text = report(records.collect());
        // The ratio of the medians would be 2.
        assert!(text.contains("| push-4k | /s | 20.0 (10.0–30.0) | 10.0 (1.00–10.0) | 3.00 (2.00–10.0) |"), "{text}");
        assert!(text.contains("In no row that was measured."), "{text}");
        assert!(
            text.contains("synced: bytes, names, rows") && text.contains("synced: bytes, names of links"),
            "{text}"
        );
        assert!(
            text.contains("| push-4k | wharfinger | 3 | 1.50 | 0.000 | 0.000 | 0.000 | 75.0 ms | 25 % | 33.0 |"),
            "{text}"
        );
    }

    #[test]
    fn rows_of_two_calls_are_no_pair() {
        let theirs = Record { call: 1, ..record(Peer::DockerRegistry, "push-4k", 0, 10.0, 0) };
        let text = report(vec![record(Peer::Wharfinger, "push-4k", 0, 5.0, 0), theirs]);
        assert!(text.contains("| push-4k | /s | 5.00 | 10.0 | – |"), "{text}");
    }

    #[test]
    fn a_row_with_an_error_does_not_count_and_a_lost_one_is_told() {
        let records = vec![
            record(Peer::Wharfinger, "push-4k", 0, 5.0, 0),
            record(Peer::Wharfinger, "push-4k", 1, 900.0, 1),
            record(Peer::DockerRegistry, "push-4k", 0, 10.0, 0),
            record(Peer::Distribution, "push-4k", 0, 10.0, 3),
        ];
        let text = report(records);
        assert!(text.contains("| push-4k | https | docker-registry | 0.500 |"), "{text}");
        assert!(!text.contains("900"), "{text}");
        assert!(text.contains("| distribution | status 500   no | push-4k |"), "{text}");
    }
}

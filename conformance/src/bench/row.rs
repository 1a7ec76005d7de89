//! One measurement, as it is printed and kept.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::measure::{Latency, Measured, sha256_speed};
use super::work::{Bench, Kind, Prepared, Spec};

/// What one run of one workload came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) workload: String,
    pub(crate) about: String,
    pub(crate) concurrency: usize,
    pub(crate) bytes_each: u64,
    /// What was there before, such as tags in a list.
    pub(crate) entries: u64,
    pub(crate) seconds: f64,
    pub(crate) operations: u64,
    pub(crate) bytes: u64,
    pub(crate) rate: f64,
    /// `MiB/s`, or a number of things in a second.
    pub(crate) unit: String,
    pub(crate) latency: Latency,
    /// By kind of operation, where there are several.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) by_kind: BTreeMap<String, Latency>,
    /// Any makes the row invalid.
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    pub(crate) client_cpu_s: f64,
    pub(crate) server_cpu_s: Option<f64>,
    pub(crate) server_peak_mib: Option<f64>,
    pub(crate) cipher: Option<String>,
    /// MiB of SHA-256 in a second of one core.
    pub(crate) sha256_before: f64,
    pub(crate) sha256_after: f64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) extra: BTreeMap<String, f64>,
}

impl Row {
    /// Runs a workload over what was prepared.
    pub(crate) fn measure(bench: &Bench, spec: &Spec, prepared: &Prepared) -> Result<Self> {
        // What earlier runs left to be written is not this run's to wait for.
        rustix::fs::sync();
        let sha256_before = sha256_speed();
        let measured = bench.run(spec, prepared)?;
        Ok(Self::of(spec, measured, sha256_before, sha256_speed()))
    }

    pub(crate) fn of(spec: &Spec, measured: Measured, sha256_before: f64, sha256_after: f64) -> Self {
        let operations = measured.operations();
        let (amount, unit) = match spec.kind {
            Kind::Push(_) | Kind::Pull | Kind::UpDown if spec.bytes >= 1 << 20 => {
                (measured.bytes as f64 / f64::from(1 << 20), "MiB/s")
            }
            Kind::ImagePush | Kind::ImagePull | Kind::Mixed => (operations as f64, "images/s"),
            _ => (operations as f64, "/s"),
        };
        let mut rate = if measured.seconds > 0.0 { amount / measured.seconds } else { 0.0 };
        let mut unit = unit.to_owned();
        if let Some(collected) = measured.extra.get("gc_blobs_per_s") {
            (rate, unit) = (*collected, "blobs/s".into());
        }
        let by_kind: BTreeMap<String, Latency> = if measured.latency.len() > 1 {
            measured.latency.iter().map(|(kind, all)| ((*kind).to_owned(), Latency::of(all.clone()))).collect()
        } else {
            BTreeMap::new()
        };
        Self {
            workload: spec.name.into(),
            about: spec.about.into(),
            concurrency: spec.concurrency,
            bytes_each: spec.bytes,
            entries: spec.entries,
            seconds: measured.seconds,
            operations,
            bytes: measured.bytes,
            rate,
            unit,
            latency: Latency::of(measured.latency.into_values().flatten().collect()),
            by_kind,
            errors: measured.errors,
            first_error: measured.first_error,
            client_cpu_s: measured.client_cpu_s,
            server_cpu_s: measured.server_cpu_s,
            server_peak_mib: measured.server_peak_mib,
            cipher: measured.cipher,
            sha256_before,
            sha256_after,
            extra: measured.extra,
        }
    }

    /// Whether the row may be compared.
    pub(crate) fn valid(&self) -> bool {
        self.errors == 0 && self.operations > 0
    }

    /// Seconds of the server's processor for a GiB, or milliseconds for an operation.
    pub(crate) fn server_cost(&self) -> Option<(f64, &'static str)> {
        let cpu = self.server_cpu_s?;
        if self.unit == "MiB/s" {
            Some((cpu / (self.bytes as f64 / f64::from(1 << 30)), "s/GiB"))
        } else if self.operations > 0 {
            Some((cpu * 1000.0 / self.operations as f64, "ms"))
        } else {
            None
        }
    }

    /// A line for people.
    pub(crate) fn line(&self) -> String {
        let cost = self.server_cost().map_or_else(|| "-".into(), |(cost, unit)| format!("{} {unit}", figure(cost)));
        let peak = self.server_peak_mib.map_or_else(|| "-".into(), |peak| format!("{peak:.0} MiB"));
        let mut line = format!(
            "{:<22} {:>8} {:<8} p50 {:>8} p99 {:>8} ms  cpu {:>12}  peak {:>8}  client {:>6} s  sha256 {:.0}/{:.0}",
            self.workload,
            figure(self.rate),
            self.unit,
            figure(self.latency.p50_ms),
            figure(self.latency.p99_ms),
            cost,
            peak,
            figure(self.client_cpu_s),
            self.sha256_before,
            self.sha256_after,
        );
        if let Some(error) = &self.first_error {
            line.push_str(&format!("  INVALID: {} errors, the first: {error}", self.errors));
        }
        for (name, value) in &self.extra {
            line.push_str(&format!("\n{:<22} {name} {}", "", figure(*value)));
        }
        for (kind, latency) in &self.by_kind {
            line.push_str(&format!(
                "\n{:<22} {} p50 {} p99 {} ms",
                "",
                kind,
                figure(latency.p50_ms),
                figure(latency.p99_ms)
            ));
        }
        line
    }
}

/// A number with three digits that count.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        size if size >= 99.95 => 0,
        size if size >= 9.995 => 1,
        size if size >= 0.9995 => 2,
        _ => 3,
    };
    let text = format!("{value:.digits$}");
    if digits > 0 || text.len() < 4 {
        return text;
    }
    let (sign, plain) = text.split_at(usize::from(text.starts_with('-')));
    let grouped: Vec<&str> =
        plain.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    format!("{sign}{}", grouped.join(","))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::bench::work::all;

    fn spec(name: &str) -> Spec {
        all().into_iter().find(|spec| spec.name == name).unwrap()
    }

    #[test]
    fn figures_have_three_digits() {
        let all = [0.0123, 0.5, 1.234, 12.34, 99.96, 123.4, 1234.5, 38_248.0, 1_234_567.0];
        let all: Vec<String> = all.into_iter().map(figure).collect();
        assert_eq!(all, ["0.012", "0.500", "1.23", "12.3", "100", "123", "1,234", "38,248", "1,234,567"]);
    }

    #[test]
    fn a_row_says_bytes_or_operations_in_a_second() {
        let mut measured = Measured { seconds: 2.0, bytes: 1 << 30, server_cpu_s: Some(4.0), ..Measured::default() };
        measured.latency.insert("push", vec![2_000_000_000]);
        let row = Row::of(&spec("push-1g-put"), measured.clone(), 300.0, 200.0);
        assert_eq!((row.rate, row.unit.as_str(), row.server_cost()), (512.0, "MiB/s", Some((4.0, "s/GiB"))));
        assert!(row.valid());
        let row = Row::of(&spec("manifest-get-tag"), measured.clone(), 300.0, 200.0);
        assert_eq!((row.rate, row.unit.as_str(), row.server_cost()), (0.5, "/s", Some((4000.0, "ms"))));
        measured.errors = 1;
        assert!(!Row::of(&spec("push-4k"), measured, 1.0, 1.0).valid(), "one error is enough");
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        let mut measured = Measured { seconds: 2.0, ..Measured::default() };
        measured.latency.insert("quiet", vec![1, 2]);
        measured.latency.insert("beside", vec![3]);
        measured.extra.insert("gc_blobs_per_s".into(), 1200.0);
        let row = Row::of(&spec("gc"), measured, 1.0, 2.0);
        assert_eq!((row.rate, row.unit.as_str()), (1200.0, "blobs/s"));
        assert_eq!(row.by_kind.len(), 2);
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(serde_json::from_str::<Row>(&text).unwrap(), row);
    }
}

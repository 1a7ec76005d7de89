//! Small parts of pages that take more than a template to make. What they write is safe in HTML.

use std::fmt;

use askama::filters::HtmlSafe;
use storage::clock::rfc3339;

/// A time, said in relation to now: `<time>` with the absolute one in `datetime` and, on hover, in `title`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ago {
    /// The time (unix seconds).
    pub(crate) at: i64,
    /// Now (unix seconds).
    pub(crate) now: i64,
}

impl HtmlSafe for Ago {}

impl fmt::Display for Ago {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let absolute = rfc3339(self.at);
        let shown = absolute.replacen('T', " ", 1).replace('Z', " UTC");
        write!(f, "<time datetime=\"{absolute}\" title=\"{shown}\">{}</time>", relative(self.at, self.now))
    }
}

fn relative(at: i64, now: i64) -> String {
    let seconds = at.abs_diff(now);
    let (count, unit) = match seconds {
        0..45 => return if at > now { "in a moment".into() } else { "just now".into() },
        45..5_400 => (seconds.div_ceil(60).max(1), "minute"),
        5_400..129_600 => ((seconds + 1_800) / 3_600, "hour"),
        129_600..3_888_000 => ((seconds + 43_200) / 86_400, "day"),
        3_888_000..47_304_000 => ((seconds + 1_296_000) / 2_592_000, "month"),
        _ => ((seconds + 15_768_000) / 31_536_000, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    if at > now { format!("in {count} {unit}{plural}") } else { format!("{count} {unit}{plural} ago") }
}

/// Bytes as people read them, by powers of 1024.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size(pub(crate) i64);

impl HtmlSafe for Size {}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
        #[allow(clippy::cast_precision_loss)] // Shown with one decimal.
        let (mut value, mut unit) = (self.0.max(0) as f64, 0);
        while value >= 1024.0 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        if unit == 0 || value >= 100.0 {
            write!(f, "{value:.0} {}", UNITS[unit])
        } else {
            write!(f, "{value:.1} {}", UNITS[unit])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_people_do() {
        for (seconds, text) in [
            (0, "just now"),
            (44, "just now"),
            (60, "1 minute ago"),
            (3_600, "60 minutes ago"),
            (7_200, "2 hours ago"),
            (90_000, "25 hours ago"),
            (259_200, "3 days ago"),
            (5_184_000, "2 months ago"),
            (63_072_000, "2 years ago"),
            (-7_200, "in 2 hours"),
            (-10, "in a moment"),
        ] {
            assert_eq!(relative(1_790_000_000 - seconds, 1_790_000_000), text);
        }
        let shown = Ago { at: 1_790_000_000, now: 1_790_000_000 }.to_string();
        assert!(shown.starts_with("<time datetime=\"2026-09-21T"), "{shown}");
        assert!(shown.contains(" UTC\">just now</time>"), "{shown}");
    }

    #[test]
    fn sizes_have_a_unit() {
        for (bytes, text) in
            [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (150 << 20, "150 MiB"), (3 << 40, "3.0 TiB")]
        {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}

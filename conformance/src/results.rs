//! Reads what the OCI program wrote: `results.yaml` (one word for each API and kind of data) and
//! `junit.xml` (one element for each case).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Result, ensure};

/// What the program says of one API, kind of data or case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    Pass,
    Skip,
    Disabled,
    Fail,
}

impl Outcome {
    fn parse(word: &str) -> Option<Self> {
        match word.to_ascii_lowercase().as_str() {
            "pass" | "passed" => Some(Self::Pass),
            "skip" | "skipped" => Some(Self::Skip),
            "disabled" => Some(Self::Disabled),
            "fail" | "failure" | "error" => Some(Self::Fail),
            _ => None,
        }
    }
}

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Summary {
    /// By name, APIs and kinds of data alike.
    areas: BTreeMap<String, Outcome>,
    /// In the order they ran.
    cases: Vec<(String, Outcome)>,
}

/// A run of either version has several hundred cases; far fewer mean that it stopped early.
const FEWEST_CASES: usize = 500;

impl Summary {
    /// Reads both files.
    ///
    /// # Errors
    /// If a section is missing or a word is unknown, which a new version of the program would cause.
    pub(crate) fn parse(yaml: &str, junit: &str) -> Result<Self> {
        let mut areas = BTreeMap::new();
        for section in ["apis", "data"] {
            let lines = yaml.lines().skip_while(|line| *line != format!("{section}:")).skip(1);
            let before = areas.len();
            for line in lines.take_while(|line| line.starts_with(' ')) {
                if let Some((name, word)) = line.trim().rsplit_once(": ") {
                    let outcome = Outcome::parse(word);
                    ensure!(outcome.is_some(), "results.yaml says {line:?}");
                    areas.extend(outcome.map(|outcome| (name.trim_matches('"').to_owned(), outcome)));
                }
            }
            ensure!(areas.len() > before, "results.yaml has no section {section:?}");
        }
        let mut cases = Vec::new();
        for element in junit.split("<testcase ").skip(1) {
            let word = attribute(element, "status").unwrap_or_default();
            let outcome = Outcome::parse(&word);
            ensure!(outcome.is_some(), "junit.xml has a case with status {word:?}");
            let name = attribute(element, "name").unwrap_or_default();
            cases.extend(outcome.map(|outcome| (name.trim_start_matches("OCI Conformance Test/").to_owned(), outcome)));
        }
        Ok(Self { areas, cases })
    }

    /// How many cases ended so.
    pub(crate) fn count(&self, outcome: Outcome) -> usize {
        self.cases.iter().filter(|(_, each)| *each == outcome).count()
    }

    /// All that keeps this run from being a clean pass.
    pub(crate) fn problems(&self, allow_skip: &[String]) -> Vec<String> {
        let allowed = |name: &str| allow_skip.iter().any(|allowed| name == allowed || name.ends_with(allowed));
        let mut problems = Vec::new();
        if self.cases.len() < FEWEST_CASES {
            problems.push(format!("only {} cases ran", self.cases.len()));
        }
        for (name, outcome) in self.areas.iter().chain(self.cases.iter().map(|(name, outcome)| (name, outcome))) {
            match outcome {
                Outcome::Pass => {}
                Outcome::Fail => problems.push(format!("FAIL {name}")),
                Outcome::Skip | Outcome::Disabled if allowed(name) => {}
                Outcome::Skip => problems.push(format!("skipped {name}")),
                Outcome::Disabled => problems.push(format!("disabled {name}")),
            }
        }
        problems
    }
}

fn attribute(element: &str, name: &str) -> Option<String> {
    let start = element.find(&format!("{name}=\""))? + name.len() + 2;
    let length = element[start..].find('"')?;
    Some(element[start..start + length].to_owned())
}

/// The runs side by side: what each area says, then the counts.
pub(crate) fn table(summaries: &[(&str, Summary)]) -> String {
    let names: std::collections::BTreeSet<&String> =
        summaries.iter().flat_map(|(_, summary)| summary.areas.keys()).collect();
    let mut text = String::new();
    let mut row = |first: &str, cells: Vec<String>| {
        let cells: String = cells.iter().fold(String::new(), |all, cell| format!("{all}{cell:>10}"));
        let _ = writeln!(text, "{first:<34}{cells}");
    };
    row("OCI distribution-spec", summaries.iter().map(|(version, _)| (*version).to_owned()).collect());
    for name in names {
        let cell = |summary: &Summary| {
            summary.areas.get(name).map_or_else(|| "-".to_owned(), |outcome| format!("{outcome:?}"))
        };
        row(name, summaries.iter().map(|(_, summary)| cell(summary)).collect());
    }
    for outcome in [Outcome::Pass, Outcome::Skip, Outcome::Disabled, Outcome::Fail] {
        let first = format!("cases: {outcome:?}");
        row(&first, summaries.iter().map(|(_, summary)| summary.count(outcome).to_string()).collect());
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const YAML: &str = "config:\n  tls: enabled\napis:\n  Ping: Pass\n  Tag delete: Skip\ndata:\n  Image: FAIL\n  Sparse Manifests: Disabled\n";

    fn junit(cases: &[(&str, &str)]) -> String {
        let case = |(name, status): &(&str, &str)| {
            format!("<testcase name=\"OCI Conformance Test/{name}\" status=\"{status}\"></testcase>")
        };
        cases.iter().map(case).collect()
    }

    fn passing(count: usize) -> Vec<(&'static str, &'static str)> {
        vec![("ping", "passed"); count]
    }

    #[test]
    fn a_clean_run_has_no_problems() {
        let summary = Summary::parse("apis:\n  Ping: Pass\ndata:\n  Image: Pass\n", &junit(&passing(600))).unwrap();
        assert_eq!(summary.problems(&[]), Vec::<String>::new());
        assert_eq!(summary.count(Outcome::Pass), 600);
    }

    #[test]
    fn failures_skips_and_disabled_areas_are_problems() {
        let summary = Summary::parse(YAML, &junit(&passing(600))).unwrap();
        assert_eq!(summary.problems(&[]), ["FAIL Image", "disabled Sparse Manifests", "skipped Tag delete"]);
        assert_eq!(summary.problems(&["Tag delete".into()]), ["FAIL Image", "disabled Sparse Manifests"]);
    }

    #[test]
    fn a_failed_case_counts_even_where_its_area_passes() {
        let mut cases = passing(600);
        cases.push(("sha512 blobs/post only", "failure"));
        let summary = Summary::parse("apis:\n  Ping: Pass\ndata:\n  Image: Pass\n", &junit(&cases)).unwrap();
        assert_eq!(summary.problems(&[]), ["FAIL sha512 blobs/post only"]);
    }

    #[test]
    fn a_run_that_stopped_early_is_a_problem() {
        let summary = Summary::parse("apis:\n  Ping: Pass\ndata:\n  Image: Pass\n", &junit(&passing(3))).unwrap();
        assert_eq!(summary.problems(&[]), ["only 3 cases ran"]);
    }

    #[test]
    fn an_unknown_word_or_a_missing_section_is_an_error() {
        assert!(Summary::parse("apis:\n  Ping: Perhaps\ndata:\n  Image: Pass\n", "").is_err());
        assert!(Summary::parse("config:\n  tls: enabled\n", "").is_err());
    }
}

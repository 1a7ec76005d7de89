//! Every workload against a server, at a size that says nothing but that it works.

#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

fn bench() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conformance"));
    command.arg("bench");
    command
}

#[test]
fn every_workload_runs_without_an_error_and_is_reported() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let server = std::env::var_os("WHARFINGER_BIN").map_or_else(|| root.join("target/debug/wharfinger"), Into::into);
    assert!(server.is_file(), "{} is not there: run `cargo build`", server.display());
    let scratch = tempfile::tempdir().unwrap();
    let results = scratch.path().join("results.json");
    let status = bench()
        .args(["run", "--scale", "tiny", "--runs", "1", "--no-limits", "--peer", "wharfinger"])
        .arg("--wharfinger")
        .arg(server)
        .arg("--data")
        .arg(scratch.path().join("data"))
        .arg("--results")
        .arg(&results)
        .status();
    assert!(status.unwrap().success());
    let folder = scratch.path().join("report");
    let status = bench().arg("report").arg("--results").arg(&results).arg("--folder").arg(&folder).status();
    assert!(status.unwrap().success());
    let report = std::fs::read_to_string(folder.join("REPORT.md")).unwrap();
    let listed = String::from_utf8(bench().arg("list").output().unwrap().stdout).unwrap();
    let names = listed.lines().filter_map(|line| line.split_whitespace().next());
    // At this size a long list is as short as the others.
    for name in names.filter(|name| !name.contains("-500k-") && !name.contains("-50k-")) {
        assert!(report.contains(&format!("| {name} | wharfinger | 1 |")), "{name} is not in the report:\n{report}");
    }
    assert!(folder.join("charts/pulls-https.svg").is_file());
    assert_eq!(std::fs::read_dir(scratch.path().join("data")).unwrap().count(), 0, "servers leave nothing behind");
}

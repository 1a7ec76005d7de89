//! The arrows of docs/ARCHITECTURE.md: who of our crates may depend on whom.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Each crate with what it may stand on, directly.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wharfinger", &["registry", "authsvc", "controller", "identity", "storage", "auditchain"]),
    ("registry", &["identity", "storage"]),
    ("authsvc", &["identity", "storage"]),
    ("controller", &["identity", "storage", "auditchain"]),
    ("identity", &["storage", "auditchain"]),
    ("storage", &["auditchain"]),
    ("auditchain", &[]),
    ("rctl", &["auditchain"]),
    ("conformance", &[]),
    // Puts the services together as the program does, to count what their requests take.
    ("counts", &["registry", "authsvc", "identity", "storage"]),
];

#[test]
fn arrows_point_down_and_surfaces_never_see_each_other() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let ours: BTreeSet<&str> = packages.iter().filter_map(|p| p["name"].as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = MAY_USE.iter().copied().collect();
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let may = allowed.get(name).unwrap_or_else(|| panic!("{name} has no place in the layers: say where it stands"));
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            let on = dependency["name"].as_str().expect("a name");
            let shipped = dependency["kind"].is_null();
            assert!(!shipped || !ours.contains(on) || may.contains(&on), "{name} may not depend on {on}");
        }
    }
}

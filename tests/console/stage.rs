//! Where the scenes play: Node.js with a Chromium, one at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value, json};

use crate::support::Server;
use crate::support::server::{ADMIN, ADMIN_PASSWORD, OPERATOR, OPERATOR_PASSWORD, root};

/// One browser at a time: each takes what this machine has.
static STAGE: Mutex<()> = Mutex::new(());

/// Plays a scene of this folder before a server; what it prints is shown, and a failure of it is one of the test. `command`
/// makes what runs a program with arguments. A scene that pushes does so with docker, where `seeds` say `docker`.
#[track_caller]
pub(crate) fn play(server: &Server, scene: &str, seeds: &Value, command: impl Fn(&str, &[&str]) -> Command) {
    let _alone = STAGE.lock().unwrap_or_else(PoisonError::into_inner);
    let node = root().join("target/tools/node/node_modules");
    let playwright = node.join("playwright-core/index.mjs");
    let axe = node.join("axe-core/axe.min.js");
    for file in [&playwright, &axe] {
        assert!(file.is_file(), "{} is missing: run `make tools`", file.display());
    }
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let chromium = chromium.into_iter().find(|path| Path::new(path).is_file()).expect("Chromium: run `make tools`");
    let pictures: PathBuf = root().join("target/console");
    fs::create_dir_all(&pictures).expect("a folder for pictures");
    let told = json!({
        "playwright": playwright, "axe": axe, "chromium": chromium, "pictures": pictures,
        "url": server.controller().url(), "registry": server.registry().url(), "auth": server.auth().url(),
        "service": server.service(), "spool": server.spool().dir(),
        "admin": {"name": ADMIN, "password": ADMIN_PASSWORD},
        "operator": {"name": OPERATOR, "password": OPERATOR_PASSWORD},
        "docker": seeds["docker"], "seeds": seeds,
    });
    let file = pictures.join(format!("{scene}.json"));
    fs::write(&file, told.to_string()).expect("a file for the scene");
    let script = root().join("tests/console").join(scene);
    let status = command("node", &[&script.to_string_lossy(), &file.to_string_lossy()]).status().expect("node");
    fs::remove_file(&file).expect("the scene's file");
    assert!(status.success(), "{scene}: {status}");
}

//! A passkey in a real browser: added, shown as the second factor, and instead of a password.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::mail::RESET;
use crate::support::server::root;
use crate::support::{Api, Setup};

const DEV: &str = "dev@localhost";
const PASSWORD: &str = "a developer's long secret";

/// Runs a script of this folder in Node.js with Chromium; the JSON object that it prints.
#[track_caller]
fn browse(script: &str, args: &[&str]) -> Value {
    let playwright = root().join("target/tools/node/node_modules/playwright-core/index.mjs");
    assert!(playwright.is_file(), "{} is missing: run `make tools`", playwright.display());
    let chromium = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
    let chromium = chromium.into_iter().find(|path| Path::new(path).is_file()).expect("Chromium: run `make tools`");
    let output = Command::new("node")
        .arg(root().join("tests/people").join(script))
        .arg(playwright)
        .arg(chromium)
        .args(args)
        .output()
        .expect("node");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let seen = serde_json::from_slice(&output.stdout).expect("JSON");
    println!("{seen}");
    seen
}

#[test]
fn the_pages_lead_from_the_invitation_to_a_passkey_and_let_a_command_line_in() {
    let server = Setup::plain().start();
    let admin = server.api();
    let temporary = admin.invite("main", DEV).temporary_password();
    let stranger = server.stranger();
    let begun = stranger.post("/device/code", &json!({"client": "rctl on a headless box"})).expect(200).json();
    let device = begun["verification_uri_complete"].as_str().expect("a link").to_owned();
    // Asked for now, the link would die with the first change of the password; so somebody else's.
    let other = "other@localhost";
    admin.create_user("main", other, PASSWORD);
    let seen = server.spool().count(other, RESET);
    stranger.post("/password/forgot", &json!({"email": other})).expect(202);
    let reset = server.spool().next(other, RESET, seen).link("password-reset");
    let new = "a new and different one";
    let url = server.controller().url();
    let seen = browse("pages.mjs", &[&url, DEV, &temporary, PASSWORD, &device, &reset, other, new]);
    assert_eq!((&seen["named"], &seen["whoByPasskey"]), (&DEV.into(), &DEV.into()));
    assert_eq!(seen["landed"], format!("{url}/account/mfa"), "what was wanted before the log-in");
    assert_eq!(seen["codes"], 10);
    for (what, words) in [("told", "logged out"), ("resetTold", "password is set"), ("usedUp", "used or has ended")] {
        assert!(seen[what].to_string().contains(words), "{what}: {seen}");
    }
    assert!(seen["back"].to_string().contains("/login"), "the page from before the log-out is not shown: {seen}");
    assert_eq!(seen["secondAddress"], format!("{url}/login"), "the waiting log-in is not told to the address");
    assert_eq!(seen["passkeyOffered"], false, "without a script there are no passkeys");
    assert_eq!(seen["quietAddress"], format!("{url}/account/keys"));
    assert!(seen["client"].to_string().contains("headless"), "{seen}");
    assert!(!seen["address"].to_string().contains("token="), "the token does not stay in the address: {seen}");
    // Nothing broke the pages' policy, and nothing came from elsewhere. (A form with a mistake is answered with 422.)
    let complaints = seen["complaints"].as_array().expect("a list");
    let odd: Vec<&Value> = complaints.iter().filter(|line| !line.to_string().contains("status of 422")).collect();
    assert!(odd.is_empty(), "{odd:?}");
    let reply = stranger.post("/device/token", &json!({"device_code": begun["device_code"]})).expect(200).json();
    let cli = Api::bearer(server.controller(), reply["access_token"].as_str().expect("a token"));
    cli.get("/session").expect(200);
    server.login(other, new);
}

#[test]
fn a_passkey_is_added_shown_second_and_shown_alone() {
    let server = Setup::plain().start();
    let admin = server.api();
    admin.create_user("main", DEV, PASSWORD);
    let steps = browse("passkey.mjs", &[&server.controller().url(), DEV, PASSWORD]);
    for (step, status) in [
        ("login", 200),
        ("begin", 200),
        ("added", 201),
        ("logout", 204),
        ("before", 401),
        ("secondFactor", 200),
        ("passwordless", 200),
        ("session", 200),
    ] {
        assert_eq!(steps[step], status, "{step}: {steps}");
    }
    for refused in ["addedTwice", "secondFactorTwice", "passwordlessTwice", "otherChallenge"] {
        assert!(steps[refused].as_u64().is_some_and(|status| (400..500).contains(&status)), "{refused}: {steps}");
    }
    assert_eq!(steps["recoveryCodes"], 10);
    assert!(steps["methods"].to_string().contains("passkey"), "{steps}");
    assert_eq!((&steps["secondFactorUser"], &steps["passwordlessUser"]), (&DEV.into(), &DEV.into()));
    // docker takes an API key from now on.
    let refused = server.try_token(Some((DEV, PASSWORD)), &[]).expect(401);
    assert!(refused.text().contains("API key"), "{}", refused.text());
}

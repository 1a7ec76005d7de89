//! A person's way from the invitation to a push with docker, and out again in the middle of one.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::desk::Desk;
use crate::docker::dockerd;
use crate::support::{Api, totp};

const DEV: &str = "dev@localhost";
const PASSWORD: &str = "a developer's long secret";

#[test]
fn invited_enrolled_pushing_with_a_key_and_deactivated_in_the_middle_of_a_push() {
    let desk = Desk::new();
    let _daemon = dockerd(&desk);
    let server = &desk.server;
    let admin = server.api();

    let temporary = admin.invite("main", DEV).temporary_password();
    let first = server.login(DEV, &temporary);
    first.change_password(&temporary, PASSWORD);
    admin.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    let (secret, codes, _) = server.login(DEV, PASSWORD).enrol_totp(server.now() - totp::STEP);
    assert_eq!(codes.len(), 10);
    let session = Api::login_totp(server.controller(), DEV, PASSWORD, &secret, server.now());
    let (_, key) = session.create_api_key("main", None, "laptop");

    let refused = desk.fails("docker", &["login", "-u", DEV, "-p", PASSWORD, &desk.host()]);
    assert!(refused.contains("API key"), "the password alone is not enough, and docker says what is: {refused}");
    desk.run_with("docker", &["login", "-u", DEV, "--password-stdin", &desk.host()], &key);
    let small = desk.reference("people/small:v1").replace("/people/", "/");
    let layer = desk.layer("layer", "from a person");
    desk.run("docker", &["import", &layer, &small]);
    desk.run("docker", &["push", &small]);

    // A layer that takes docker some seconds.
    let big = desk.reference("big:v1");
    desk.run(
        "sh",
        &["-ec", "mkdir big && head -c 400M /dev/urandom > big/noise && tar -cf big.tar -C big noise && rm -r big"],
    );
    desk.run("docker", &["import", &desk.path("big.tar").to_string_lossy(), &big]);
    let mut push = desk.command("docker", &["push", &big]);
    let push = push.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("docker");
    let blobs = || desk.server.data_dir.join("blobs");
    let size = || disk_use(&blobs());
    let (before, begun) = (size(), Instant::now());
    while size() < before + (8 << 20) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the push does not begin");
        thread::sleep(Duration::from_millis(20));
    }
    let seen = refusals(&desk);
    admin.post(&format!("/orgs/main/users/{DEV}/deactivate"), &json!({})).expect(204);
    let since = Instant::now();
    while refusals(&desk) == seen {
        assert!(since.elapsed() < Duration::from_secs(1), "the push goes on for more than a second");
        thread::sleep(Duration::from_millis(5));
    }
    println!("the push in flight was refused after {:?}", since.elapsed());
    let output = push.wait_with_output().expect("docker ends");
    assert!(!output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let said = desk.fails("docker", &["pull", &small]);
    assert!(said.contains("denied") || said.contains("unauthorized"), "{said}");

    // One action gives it all back; docker's credentials are as good as before.
    admin.post(&format!("/orgs/main/users/{DEV}/activate"), &json!({})).expect(204);
    desk.run_with("docker", &["login", "-u", DEV, "--password-stdin", &desk.host()], &key);
    desk.run("docker", &["push", &small]);
}

/// Bytes below a folder.
fn disk_use(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_use(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// How many parts of uploads the registry refused, by its log.
fn refusals(desk: &Desk) -> usize {
    let log = desk.server.log();
    log.lines().filter(|line| line.contains("PATCH") && line.contains("401")).count()
}

#[test]
fn failures_of_docker_and_of_the_api_lock_together() {
    let desk = Desk::new();
    let _daemon = dockerd(&desk);
    let admin = desk.server.api();
    admin.create_user("main", DEV, PASSWORD);
    for _ in 0..3 {
        desk.fails("docker", &["login", "-u", DEV, "-p", "a wrong password", &desk.host()]);
    }
    let stranger = desk.server.stranger();
    // docker may ask twice for one login; whoever comes fifth or later is locked out.
    let statuses: Vec<u16> = (0..3).map(|_| stranger.try_login(DEV, "a wrong password").status).collect();
    assert_eq!(statuses.last(), Some(&429), "{statuses:?}");
    let locked = desk.fails("docker", &["login", "-u", DEV, "-p", PASSWORD, &desk.host()]);
    assert!(!locked.contains("Login Succeeded"), "{locked}");
    assert_eq!(stranger.try_login(DEV, PASSWORD).status, 429);
    admin.post(&format!("/orgs/main/users/{DEV}/unlock"), &json!({})).expect(204);
    desk.run_with("docker", &["login", "-u", DEV, "--password-stdin", &desk.host()], PASSWORD);
}

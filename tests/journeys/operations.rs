//! What an operator does: collect, verify, stop, restart, look.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::oci::{Image, fresh, noise, path_of, push_blob, put_blob, start_upload, with_query};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::support::{Call, Setup, sha256};

/// Every file below `dir`.
fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] })
        .collect()
}

/// The object that holds `content`; what else it says of itself follows the content.
fn object_with(dir: &Path, content: &[u8]) -> PathBuf {
    files(dir).into_iter().find(|path| holds(path, content)).expect("an object with these bytes")
}

fn holds(path: &Path, content: &[u8]) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(content))
}

#[test]
fn d41_sigterm_lets_an_upload_finish() {
    let mut server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/drain"));
    let bytes = noise(fresh(), 1_000_000);
    let target = with_query(&start_upload(&registry, "main/drain", &token), &format!("digest={}", sha256(&bytes)));
    let head = format!(
        "PUT {target} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        registry.host,
        bytes.len()
    );
    let mut wire = registry.connect().unwrap();
    wire.write_all(head.as_bytes()).unwrap();
    wire.write_all(&bytes[..500_000]).unwrap();
    wire.flush().unwrap();
    std::thread::sleep(Duration::from_millis(200));
    server.terminate();
    std::thread::sleep(Duration::from_millis(500));
    wire.write_all(&bytes[500_000..]).unwrap();
    wire.flush().unwrap();
    crate::support::Reply::read(wire.as_mut(), false).expect("an answer").expect(201);
    assert!(server.wait(Duration::from_secs(30)).success(), "a clean end");
    server.restart();
    let found = Call::get(format!("/v2/main/drain/blobs/{}", sha256(&bytes))).bearer(&server.admin_token("main/drain"));
    assert_eq!(found.send(&server.registry()).expect(200).body, bytes);
}

#[test]
fn a_restart_keeps_accounts_images_and_sessions_of_upload() {
    let mut server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    let image = Image::new(fresh(), 1000);
    image.push(&registry, "main/app", &token, "v1");
    let session = start_upload(&registry, "main/app", &token);
    let session = path_of(
        Call::patch(&session).bearer(&token).body("abc").send(&registry).expect(202).header("location").unwrap(),
    );
    server.terminate();
    server.wait(Duration::from_secs(30));
    server.restart();
    let found = Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&registry).expect(200);
    assert_eq!(found.body, image.manifest, "and the token from before still counts");
    assert_eq!(Call::get(&session).bearer(&token).send(&registry).expect(204).header("range"), Some("0-2"));
    server.try_token(Some((ADMIN, ADMIN_PASSWORD)), &[]).expect(200);
}

#[test]
fn garbage_goes_while_serving_and_only_garbage() {
    let mut server = Setup::plain().arg("--gc-grace", "1s").arg("--gc-interval", "1h").start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    let image = Image::new(fresh(), 50_000);
    image.push(&registry, "main/app", &token, "v1");
    let loose = noise(fresh(), 70_000);
    let digest = push_blob(&registry, "main/app", &token, &loose);
    let blobs = server.data_dir.join("blobs");
    object_with(&blobs, &loose);
    server.run(&["gc", "--dry-run"]);
    Call::get(format!("/v2/main/app/blobs/{digest}")).bearer(&token).send(&registry).expect(200);
    std::thread::sleep(Duration::from_millis(2100));
    server.run(&["gc", "--now"]);
    std::thread::sleep(Duration::from_millis(2100));
    let report = server.run(&["gc", "--now"]);
    assert!(report.contains("\"blobs_removed\": 1"), "{report}");
    let metrics = Call::get("/metrics").send(&server.admin()).expect(200).text();
    assert!(metrics.contains("gc_blobs_removed_total 1"), "the server collects for whoever asks: {metrics}");
    Call::get(format!("/v2/main/app/blobs/{digest}")).bearer(&token).send(&registry).expect(404);
    assert!(!files(&blobs).iter().any(|path| holds(path, &loose)), "the bytes are gone too");
    let kept = Call::get(format!("/v2/main/app/blobs/{}", sha256(&image.layer))).bearer(&token).send(&registry);
    assert_eq!(kept.expect(200).body, image.layer);
    push_blob(&registry, "main/app", &token, &loose);
    Call::get(format!("/v2/main/app/blobs/{digest}")).bearer(&token).send(&registry).expect(200);
    std::thread::sleep(Duration::from_millis(2100));
    // One that died still counts among those who serve, and takes no request.
    server.kill();
    let report = server.run(&["gc", "--now", "--grace", "0s"]);
    assert!(report.contains("\"links_removed\": 1"), "{report}");
}

#[test]
fn d21_a_corrupt_blob_is_reported_and_healed_by_the_next_push() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    let image = Image::new(fresh(), 50_000);
    image.push(&registry, "main/app", &token, "v1");
    let said = server.run(&["verify"]);
    // One line a second, and not one for each of a thousand folders.
    assert!(said.lines().filter(|line| line.contains("\"verifying\"")).count() < 100, "{said}");
    let path = object_with(&server.data_dir.join("blobs"), &image.layer);
    let mut bytes = fs::read(&path).unwrap();
    bytes[1234] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (clean, report) = server.try_run(&["verify"]);
    assert!(!clean && report.contains(&sha256(&image.layer)), "{report}");
    server.try_run(&["verify", "--repair"]);
    put_blob(&registry, "main/app", &token, &image.layer).expect(201);
    let healed = Call::get(format!("/v2/main/app/blobs/{}", sha256(&image.layer))).bearer(&token).send(&registry);
    assert_eq!(healed.expect(200).body, image.layer);
    server.run(&["verify"]);
}

#[test]
fn d21_a_truncated_blob_is_never_served_as_content() {
    let server = Setup::plain().start();
    let (registry, token) = (server.registry(), server.admin_token("main/app"));
    let bytes = noise(fresh(), 50_000);
    let digest = push_blob(&registry, "main/app", &token, &bytes);
    let path = object_with(&server.data_dir.join("blobs"), &bytes);
    fs::write(&path, b"").unwrap();
    // Cut off before the promised length is as good as an error: no client takes that for the blob.
    if let Ok(reply) = Call::get(format!("/v2/main/app/blobs/{digest}")).bearer(&token).try_send(&registry) {
        assert!(reply.status >= 500, "{}", reply.status);
    }
    Call::get("/readyz").send(&server.admin()).expect(200);
}

#[test]
fn health_readiness_and_metrics_are_where_they_should_be() {
    let server = Setup::plain().start();
    for endpoint in [server.registry(), server.auth(), server.controller(), server.admin()] {
        Call::get("/healthz").send(&endpoint).expect(200);
        Call::get("/readyz").send(&endpoint).expect(200);
    }
    let metrics = Call::get("/metrics").send(&server.admin()).expect(200).text();
    assert!(metrics.lines().any(|line| line.starts_with("# TYPE")), "{metrics}");
    for endpoint in [server.registry(), server.auth(), server.controller()] {
        assert_ne!(Call::get("/metrics").send(&endpoint).status, 200, "metrics are for the admin listener");
    }
    server.run(&["healthcheck"]);
    server.run(&["config", "check"]);
}

#[test]
fn logs_hold_no_secret() {
    let server = Setup::plain().arg("--log-level", "debug").start();
    let (_, key) = server.api().create_api_key("main", None, "quiet");
    let token = server.token(ADMIN, &key, &["repository:main/app:pull,push"]);
    Image::new(fresh(), 10).push(&server.registry(), "main/app", &token, "v1");
    server.try_token(Some((ADMIN, "a wrong but still secret password")), &[]).expect(401);
    let log = server.log();
    let signature = token.rsplit('.').next().unwrap();
    let secret = key.rsplit('.').next().unwrap();
    for (what, text) in [
        ("password", ADMIN_PASSWORD),
        ("key", secret),
        ("token", signature),
        ("attempt", "a wrong but still secret password"),
    ] {
        assert!(!log.contains(text), "the log holds a {what}");
    }
}

#[test]
fn an_admin_who_forgot_the_password_is_helped_on_the_command_line() {
    let server = Setup::plain().start();
    server.run(&["admin", "reset-password", ADMIN]);
    server.try_token(Some((ADMIN, ADMIN_PASSWORD)), &[]).expect(401);
}

#[test]
fn a_wrong_configuration_is_an_error_that_names_it() {
    let server = Setup::plain().start();
    for (name, value) in [
        ("WHARFINGER_TLS", "perhaps"),
        ("WHARFINGER_REGISTRY_LISTEN", "nowhere"),
        ("WHARFINGER_DATABASE_URL", "oracle://x"),
    ] {
        let output = server.command().args(["config", "check"]).env(name, value).output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!output.status.success(), "{name}={value}: {text}");
        assert!(text.contains(value) || text.contains(name), "{name}: {text}");
    }
}

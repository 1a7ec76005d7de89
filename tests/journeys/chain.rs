//! The audit log: every door leaves its event, and no line of an export can be changed unseen.

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::oci::{Image, fresh};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::support::{Api, Call, Server, Setup};

const DEV: &str = "dev@localhost";
const PASSWORD: &str = "a developer's long secret";

fn text(event: &Value, field: &str) -> String {
    event[field].as_str().unwrap_or_default().to_owned()
}

/// Waits for an event like this.
#[track_caller]
fn event(api: &Api, org: &str, what: &str, like: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let events = api.audit(org, "");
        if let Some(found) = events.iter().find(|event| like(event)) {
            return found.clone();
        }
        let seen: BTreeSet<String> = events
            .iter()
            .map(|each| format!("{} {} {}", text(each, "action"), text(each, "outcome"), text(each, "client")))
            .collect();
        assert!(begun.elapsed() < Duration::from_secs(2), "no event of {what} among {seen:#?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn every_door_leaves_its_event() {
    let server = Setup::plain().start();
    let admin = server.api();
    admin.create_user("main", DEV, PASSWORD);
    admin.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    let registry = server.registry();
    let token = server.token(DEV, PASSWORD, &["repository:main/app:pull,push,delete"]);
    let image = Image::new(fresh(), 100);
    image.push(&registry, "main/app", &token, "v1");
    Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&registry).expect(200);
    Call::delete("/v2/main/app/manifests/v1").bearer(&token).send(&registry).expect(202);
    server.stranger().try_login(DEV, "a wrong password").expect(401);
    server.try_token(Some((DEV, "a wrong password")), &[]).expect(401);
    server
        .try_token(Some((DEV, PASSWORD)), &["repository:main/app:pull", "repository:main/other/app:pull"])
        .expect(200);
    let session = server.login(DEV, PASSWORD);
    let denied = session.get("/orgs/main/settings");
    assert!(matches!(denied.status, 403 | 404), "{}", denied.status);
    let (id, key) = session.create_api_key("main", None, "audited");
    Api::bearer(server.controller(), &key).get("/orgs/main/projects").expect(200);
    session.delete(&format!("/orgs/main/apikeys/{id}")).expect(204);
    session.post("/logout", &json!({})).expect(204);

    let is = |action: &'static str, outcome: &'static str, client: &'static str| {
        move |event: &Value| {
            text(event, "action") == action
                && text(event, "outcome") == outcome
                && (client.is_empty() || text(event, "client") == client)
        }
    };
    let find = |what: &str, like: &dyn Fn(&Value) -> bool| event(&admin, "main", what, like);
    for (action, outcome, client) in [
        ("user.invite", "ok", ""),
        ("binding.create", "ok", ""),
        ("password.change", "ok", ""),
        ("login", "ok", "browser"),
        ("login", "denied", "browser"),
        ("login", "denied", "docker"),
        ("token.grant", "ok", "docker"),
        ("token.grant", "denied", "docker"),
        ("image.push", "ok", "docker"),
        ("image.pull", "ok", "docker"),
        ("apikey.create", "ok", ""),
        ("apikey.delete", "ok", ""),
    ] {
        let found = find(&format!("{action} {outcome} {client}"), &is(action, outcome, client));
        assert!(!text(&found, "user").is_empty() || action == "login", "{found}");
        assert!(!text(&found, "address").is_empty(), "{found}");
    }
    find("the deletion", &|event| {
        matches!(text(event, "action").as_str(), "tag.delete" | "image.delete") && text(event, "outcome") == "ok"
    });
    let pushed = find("the push", &is("image.push", "ok", ""));
    assert!(pushed.to_string().contains("main/app") && text(&pushed, "user") == DEV, "{pushed}");
    if denied.status == 403 {
        find("the denial", &is("access.denied", "denied", ""));
    }
    // Filters find the same events.
    for query in [
        format!("user={DEV}"),
        "action=image.push".into(),
        "outcome=denied".into(),
        "client=docker".into(),
        "project=defaultproject".into(),
    ] {
        assert!(!admin.audit("main", &query).is_empty(), "{query}");
    }
    assert!(admin.audit("main", "action=image.push").iter().all(|event| text(event, "action") == "image.push"));
    // No secret is in any of it.
    let all = admin.get("/orgs/main/audit/export?format=ndjson").expect(200).text();
    for secret in [PASSWORD, ADMIN_PASSWORD, key.rsplit('.').next().unwrap()] {
        assert!(!all.contains(secret));
    }
}

/// Exports the chain of `main` to a file; its lines.
fn export(server: &Server, admin: &Api) -> (std::path::PathBuf, Vec<String>) {
    let reply = admin.get("/orgs/main/audit/export?format=ndjson").expect(200);
    let file = server.data_dir.join("export.ndjson");
    fs::write(&file, &reply.body).unwrap();
    (file, reply.text().lines().map(str::to_owned).collect())
}

#[test]
fn an_export_that_was_edited_shortened_or_reordered_is_found() {
    let server = Setup::plain().start();
    let admin = server.api();
    for number in 0..20 {
        admin.create_project("main", &format!("project-{number}"), false);
    }
    let (file, lines) = export(&server, &admin);
    assert!(lines.len() > 20, "{}", lines.len());
    let name = file.to_string_lossy().into_owned();
    let verify = |lines: &[String]| {
        fs::write(&file, lines.join("\n") + "\n").unwrap();
        server.try_run(&["audit", "verify", &name])
    };
    let (fine, said) = verify(&lines);
    assert!(fine, "{said}");
    let middle = lines.len() / 2;
    let mut edited = lines.clone();
    edited[middle] = edited[middle].replacen("project-", "proyect-", 1).replacen("\"ok\"", "\"denied\"", 1);
    let mut removed = lines.clone();
    removed.remove(middle);
    let mut swapped = lines.clone();
    swapped.swap(middle, middle + 1);
    let mut doubled = lines.clone();
    doubled.insert(middle, lines[middle].clone());
    for (what, changed) in [("edited", edited), ("removed", removed), ("reordered", swapped), ("doubled", doubled)] {
        let (fine, said) = verify(&changed);
        assert!(!fine, "{what} is not found: {said}");
    }
}

#[test]
fn a_crash_leaves_a_whole_chain() {
    let mut server = Setup::plain().start();
    let admin = server.api();
    let pid = server.pid();
    let killer = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(400));
        let _ = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    });
    let mut done = 0;
    for number in 0..10_000 {
        let call =
            admin.dress(Call::post("/api/v1/orgs/main/projects").json(&json!({"slug": format!("crash-{number}")})));
        match call.try_send(&server.controller()) {
            Ok(reply) if reply.status == 201 => done += 1,
            Ok(reply) => panic!("{}", reply.text()),
            Err(_) => break,
        }
    }
    killer.join().unwrap();
    server.restart();
    let admin = server.api();
    let (file, lines) = export(&server, &admin);
    let created = lines.iter().filter(|line| line.contains("project.create")).count();
    assert!(created >= done, "{created} events of {done} changes");
    server.run(&["audit", "verify", &file.to_string_lossy()]);
    // Every project that is there has its event.
    let mut there = 0;
    let mut after = String::new();
    loop {
        let page = admin.get(&format!("/orgs/main/projects?limit=200&after={after}")).expect(200).json();
        there += page["items"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|each| each["slug"].as_str().unwrap().starts_with("crash-"))
            .count();
        let Some(next) = page["next"].as_str() else { break };
        after = next.to_owned();
    }
    assert_eq!(created, there);
    println!("{there} changes before the crash, and as many events");
    let _ = ADMIN;
}

#[test]
fn whoever_may_not_read_the_log_reads_none_of_it() {
    let server = Setup::plain().start();
    let admin = server.api();
    admin.create_user("main", DEV, PASSWORD);
    admin.bind("main", DEV, "PROJECT_READ_ONLY", Some("defaultproject"));
    let session = server.login(DEV, PASSWORD);
    for path in ["/orgs/main/audit", "/orgs/main/audit/1", "/orgs/main/audit/export?format=ndjson", "/platform/audit"] {
        let reply = session.get(path);
        assert!(matches!(reply.status, 403 | 404), "{path}: {}", reply.status);
    }
    admin.bind("main", DEV, "AUDITOR", None);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!session.audit("main", "").is_empty());
}

//! The life of people and machines in an organization through `rctl` alone, from the invitation to the deletion. The one
//! thing done elsewhere is what a person does in a browser: confirming the code of `rctl login`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::support::mail::{ADDED, INVITED, RESET};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, OPERATOR, OPERATOR_PASSWORD, ORG, binary, root};
use crate::support::{Server, Setup};

const BOB: &str = "bob@example.com";
const BOBS: &str = "marmalade on the quarterdeck";
const BOBS_NEXT: &str = "the second mate whistles softly";

/// `rctl` beside the server's binary, built once if need be; or the one named by `RCTL_BIN`.
fn rctl() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(named) = std::env::var_os("RCTL_BIN") {
            return named.into();
        }
        let beside = PathBuf::from(env!("CARGO_BIN_EXE_wharfinger")).with_file_name("rctl");
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--quiet", "-p", "rctl"]).current_dir(root()).status();
        assert!(built.is_ok_and(|status| status.success()) && beside.exists(), "no rctl beside {}", binary().display());
        beside
    })
}

/// Somebody at a terminal of their own.
struct Desk<'a> {
    server: &'a Server,
    home: tempfile::TempDir,
    env: Vec<(&'static str, String)>,
}

/// What a run came to.
#[derive(Debug)]
struct Ran {
    status: i32,
    out: String,
    err: String,
}

impl<'a> Desk<'a> {
    /// Has a profile for the server and no credentials yet.
    fn new(server: &'a Server) -> Self {
        let desk = Self { server, home: tempfile::tempdir().expect("a home"), env: Vec::new() };
        let ca = server.ca_path();
        let endpoint = format!("https://{}", server.controller().host);
        desk.ok(&["config", "init", "--endpoint", &endpoint, "--ca-file", ca.to_str().expect("a path")]);
        desk
    }

    /// Logged in by a browser, where `name` and `password` are typed.
    fn logged_in(server: &'a Server, name: &str, password: &str) -> Self {
        let desk = Self::new(server);
        desk.log_in(name, password);
        desk
    }

    /// Has an API key in the environment.
    fn with_key(server: &'a Server, key: &str) -> Self {
        let mut desk = Self::new(server);
        desk.env = vec![("RCTL_API_KEY", key.to_owned()), ("RCTL_ORG", ORG.to_owned())];
        desk
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(rctl());
        command.args(args).env_clear().env("HOME", self.home.path()).current_dir(self.home.path());
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn log_in(&self, name: &str, password: &str) {
        let mut child = self.command(&["login"]).spawn().expect("rctl");
        let code = user_code(&mut child);
        let browser = self.server.login(name, password);
        let reply = browser.post(&format!("/device/{code}/approve"), &json!({}));
        assert!(matches!(reply.status, 200 | 204), "{} {}", reply.status, reply.text());
        let output = child.wait_with_output().expect("its end");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains(name));
    }

    fn run_with(&self, args: &[&str], input: &str) -> Ran {
        let mut child = self.command(args).spawn().expect("rctl");
        let _ = child.stdin.take().expect("its input").write_all(input.as_bytes());
        let output = child.wait_with_output().expect("its end");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Ran { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }

    #[track_caller]
    fn ok(&self, args: &[&str]) -> String {
        let ran = self.run_with(args, "");
        assert_eq!(ran.status, 0, "{args:?}: {ran:?}");
        ran.out
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let out = self.ok(&[args, &["-o", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    #[track_caller]
    fn fails(&self, status: i32, args: &[&str]) -> String {
        let ran = self.run_with(args, "");
        assert_eq!(ran.status, status, "{args:?}: {ran:?}");
        ran.err
    }

    #[track_caller]
    fn change_password(&self, status: i32, name: &str, current: &str, new: &str) {
        let ran = self.run_with(&["password", "change", "--user", name], &format!("{current}\n{new}\n"));
        assert_eq!(ran.status, status, "{ran:?}");
    }

    /// A new API key: its id and the key.
    #[track_caller]
    fn key(&self, args: &[&str]) -> (String, String) {
        let made = self.json(&[&["create", "apikey"], args].concat());
        let text = |field: &str| made[field].as_str().expect(field).to_owned();
        (text("id"), text("key"))
    }
}

/// The code that `rctl login` shows.
fn user_code(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.as_mut().expect("its words")).lines();
    let line = lines.find_map(|line| line.ok()?.strip_prefix("and enter").map(str::to_owned));
    line.expect("a code").trim().to_owned()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().filter_map(|item| item["name"].as_str()).collect()
}

#[test]
fn an_invitation_becomes_an_account_and_an_account_ends() {
    let server = Setup::tls("localhost").clock().start();
    let spool = server.spool();
    let admin = Desk::logged_in(&server, ADMIN, ADMIN_PASSWORD);
    assert_eq!(admin.json(&["whoami"])["user"]["name"], ADMIN);

    // Invited; the first temporary password runs out, the second is good.
    let made = admin.json(&["create", "user", BOB, "--first-name", "Bob"]);
    assert_eq!((&made["name"], &made["status"]), (&json!(BOB), &json!("invited")));
    let first = spool.next(BOB, INVITED, 0).temporary_password();
    let bob = Desk::new(&server);
    server.advance(73 * 3600);
    bob.change_password(3, BOB, &first, BOBS);
    admin.log_in(ADMIN, ADMIN_PASSWORD);
    admin.ok(&["user", "resend", BOB]);
    let second = spool.next(BOB, INVITED, 1).temporary_password();
    for weak in ["short", "password1", "1234567890"] {
        bob.change_password(8, BOB, &second, weak);
    }
    bob.change_password(0, BOB, &second, BOBS);
    bob.change_password(3, BOB, &second, BOBS_NEXT);
    bob.log_in(BOB, BOBS);
    let who = bob.json(&["whoami"]);
    assert_eq!((&who["user"]["name"], &who["org"]), (&json!(BOB), &json!(ORG)));

    // Deactivated and back: recorded, reversible, felt at once.
    admin.ok(&["user", "deactivate", BOB]);
    let said = bob.fails(3, &["get", "projects"]);
    assert!(said.contains("rctl login"), "{said}");
    assert_eq!(admin.json(&["get", "user", BOB])["status"], "inactive");
    admin.ok(&["user", "activate", BOB]);
    bob.log_in(BOB, BOBS);

    // A link by mail; the change ends other sessions.
    bob.ok(&["password", "forgot", BOB]);
    bob.ok(&["password", "forgot", "nobody@example.com"]);
    let link = spool.next(BOB, RESET, 0).link("password-reset");
    let ran = bob.run_with(&["password", "reset"], &format!("{link}\n{BOBS_NEXT}\n"));
    assert_eq!(ran.status, 0, "{ran:?}");
    let ran = bob.run_with(&["password", "reset"], &format!("{link}\n{BOBS}\n"));
    assert_ne!(ran.status, 0, "a link is good once: {ran:?}");
    bob.fails(3, &["whoami"]);

    // Locked out by guesses, and let in again.
    for _ in 0..5 {
        bob.change_password(3, BOB, "a guess that is wrong", BOBS);
    }
    bob.change_password(9, BOB, BOBS_NEXT, BOBS);
    admin.ok(&["user", "unlock", BOB]);
    bob.log_in(BOB, BOBS_NEXT);

    // Profile, list, search.
    admin.ok(&["update", "user", BOB, "--last-name", "Builder", "--key-valid-days", "30"]);
    let seen = admin.json(&["get", "user", BOB]);
    assert_eq!((&seen["last_name"], &seen["key_valid_days"]), (&json!("Builder"), &json!(30)));
    admin.ok(&["create", "user", "ci", "--machine"]);
    assert_eq!(names(&admin.json(&["get", "users", "--kind", "machine"])), ["ci"]);
    assert_eq!(names(&admin.json(&["get", "users", "--search", "bob"])), [BOB]);
    assert_eq!(names(&admin.json(&["get", "users", "--limit", "1"])).len(), 1);
    assert_eq!(names(&admin.json(&["get", "users"])).len(), 3);

    // Deleted; and one admin stays.
    admin.ok(&["delete", "user", BOB, "--yes"]);
    bob.fails(3, &["whoami"]);
    admin.fails(5, &["get", "user", BOB]);
    admin.fails(6, &["user", "deactivate", ADMIN]);
    admin.fails(6, &["delete", "user", ADMIN, "--yes"]);
    admin.ok(&["logout"]);
    admin.fails(3, &["whoami"]);
}

#[test]
fn groups_roles_and_keys_decide_and_say_why() {
    let server = Setup::tls("localhost").start();
    let admin = Desk::logged_in(&server, ADMIN, ADMIN_PASSWORD);
    admin.ok(&["create", "project", "web"]);
    admin.ok(&["create", "user", "ci", "--machine"]);
    admin.ok(&["create", "group", "builders", "--description", "They build", "--users", "ci"]);
    let (id, key) = admin.key(&["deploy", "--user", "ci", "--days", "30"]);
    let machine = Desk::with_key(&server, &key);

    // Nothing yet; then through the group, and why.
    admin.fails(4, &["auth", "can-i", "registry.push", "--user", "ci", "--project", "web"]);
    let role =
        ["--base", "PROJECT_READ_ONLY", "--add", "registry.push", "--repositories", "release/**", "--tags", "v*"];
    admin.ok(&[&["create", "role", "release-manager"], &role[..]].concat());
    admin.ok(&["create", "groupassociation", "builders", "--role", "release-manager", "--project", "web"]);
    let repository = format!("{ORG}/web/release/app");
    let push = ["auth", "can-i", "registry.push", "--user", "ci", "--project", "web", "--repository", &repository];
    assert_eq!(admin.ok(&push), "yes\n");
    admin.ok(&[&push[..], &["--tag", "v1"]].concat());
    admin.fails(4, &[&push[..], &["--tag", "latest"]].concat());
    let why =
        admin.json(&["auth", "why", "registry.push", "--user", "ci", "--project", "web", "--repository", &repository]);
    let because = why["because"].to_string();
    assert!(because.contains("builders") && because.contains("release-manager"), "{why}");
    let rights = admin.json(&["get", "user", "ci", "--rights"]).to_string();
    assert!(rights.contains("builders") && rights.contains("release-manager"), "{rights}");
    let who = machine.json(&["whoami"]);
    assert_eq!((&who["user"]["name"], &who["org"]), (&json!("ci"), &json!(ORG)));
    let denied = machine.fails(4, &["create", "project", "mine"]);
    assert!(denied.contains("project.create"), "{denied}");
    machine.fails(5, &["get", "project", "defaultproject"]);
    assert_eq!(machine.json(&["get", "projects"])[0]["slug"], "web");

    // Bindings of their own.
    admin.ok(&["assign", "role", "PROJECT_ADMIN", "--user", "ci", "--project", "web"]);
    let bindings = admin.json(&["get", "bindings", "--user", "ci"]);
    assert_eq!(bindings[0]["role"], "PROJECT_ADMIN");
    let binding = bindings[0]["id"].as_str().expect("an id").to_owned();
    admin.ok(&["update", "binding", &binding, "--role", "PROJECT_READ_ONLY"]);
    admin.ok(&["delete", "binding", "--user", "ci", "--role", "PROJECT_READ_ONLY", "--project", "web", "--yes"]);
    admin.ok(&["update", "role", "release-manager", "--clear", "tags"]);
    admin.ok(&[&push[..], &["--tag", "latest"]].concat());

    // Keys: listed, narrowed, replaced, revoked.
    let listed = admin.json(&["get", "apikeys", "--user", "ci"]);
    assert_eq!((&listed[0]["id"], &listed[0]["name"]), (&json!(id), &json!("deploy")));
    assert!(listed[0]["last_used_at"].is_string() && !listed.to_string().contains(&key), "{listed}");
    let (narrow, narrow_key) =
        admin.key(&["pull", "--user", "ci", "--projects", "web", "--permissions", "registry.pull"]);
    // Narrowed to pulling, it is nobody to the API: not even the organization is there for it.
    Desk::with_key(&server, &narrow_key).fails(5, &["get", "project", "web"]);
    admin.ok(&["delete", "apikey", &narrow, "--yes"]);
    Desk::with_key(&server, &narrow_key).fails(3, &["whoami"]);
    let next = admin.json(&["update", "apikey", &id, "--yes"]);
    machine.fails(3, &["whoami"]);
    Desk::with_key(&server, next["key"].as_str().expect("a key")).ok(&["whoami"]);

    // Taken apart again.
    admin.ok(&["delete", "groupassociation", "builders", "--users", "ci", "--yes"]);
    admin.fails(4, &["auth", "can-i", "registry.pull", "--user", "ci", "--project", "web"]);
    admin.ok(&["delete", "groupassociation", "builders", "--project", "web", "--role", "release-manager", "--yes"]);
    admin.ok(&["delete", "role", "release-manager", "--yes"]);
    admin.ok(&["delete", "group", "builders", "--yes"]);
    admin.ok(&["delete", "project", "web", "--yes"]);
    let events = admin.json(&["audit", "list", "--action", "group.delete"]);
    assert_eq!(events[0]["client"], "cli", "{events}");
    admin.ok(&["audit", "export", "--file", "audit.ndjson"]);
    let verified = admin.json(&["audit", "verify", "audit.ndjson"]);
    assert_eq!(verified["server"], "knows the last event, and sealed this export", "{verified}");
    let file = admin.home.path().join("audit.ndjson");
    let text = std::fs::read_to_string(&file).expect("the export");
    std::fs::write(&file, text.replacen("group.delete", "group.update", 1)).expect("an edit");
    admin.fails(10, &["audit", "verify", "audit.ndjson", "--offline"]);
}

#[test]
fn one_person_is_in_two_organizations_and_leaves_one() {
    let server = Setup::tls("localhost").start();
    let operator = Desk::logged_in(&server, OPERATOR, OPERATOR_PASSWORD);
    operator.ok(&["create", "org", "harbour", "--name", "Harbour Works", "--admin", BOB]);
    let temporary = server.spool().next(BOB, INVITED, 0).temporary_password();
    let bob = Desk::new(&server);
    bob.change_password(0, BOB, &temporary, BOBS);
    let admin = Desk::logged_in(&server, ADMIN, ADMIN_PASSWORD);
    admin.ok(&["create", "user", BOB]);
    server.spool().next(BOB, ADDED, 0);
    bob.log_in(BOB, BOBS);
    bob.ok(&["org", "switch", "harbour"]);
    bob.ok(&["create", "project", "quay"]);
    bob.ok(&["org", "switch", ORG]);
    bob.fails(5, &["get", "project", "quay"]);
    assert_eq!(bob.json(&["whoami"])["org"], ORG);

    admin.ok(&["delete", "user", BOB, "--yes"]);
    bob.log_in(BOB, BOBS);
    bob.ok(&["org", "switch", "harbour"]);
    assert!(names(&bob.json(&["get", "users"])).contains(&BOB));
    bob.ok(&["org", "settings", "set", "idle_logout_minutes=60"]);
    operator.ok(&["org", "suspend", "harbour"]);
    bob.fails(3, &["get", "users"]);
    operator.ok(&["org", "resume", "harbour"]);
    let orgs = operator.json(&["get", "orgs", "--platform"]);
    assert!(orgs.to_string().contains("harbour"), "{orgs}");
    operator.ok(&["delete", "org", "harbour", "--confirm", "harbour", "--grace-days", "7"]);
    operator.ok(&["org", "undelete", "harbour"]);
}

const TEAM: &str = "\
kind: Binding
spec: {group: developers, role: release-manager, project: shop}
---
kind: Group
metadata: {name: developers}
spec: {description: They write it, members: [bot]}
---
kind: User
metadata: {name: bot}
spec: {kind: machine}
---
kind: Role
metadata: {name: release-manager}
spec: {base: PROJECT_READ_ONLY, added: [registry.push], tags: [v*], repositories: [release/**]}
---
kind: Project
metadata: {name: shop}
spec: {public: false}
";

#[test]
fn a_file_applied_twice_changes_once() {
    let server = Setup::tls("localhost").start();
    let admin = Desk::logged_in(&server, ADMIN, ADMIN_PASSWORD);
    let apply = |args: &[&str], text: &str| {
        let ran = admin.run_with(&[&["apply", "-f", "-"], args].concat(), text);
        assert_eq!(ran.status, 0, "{ran:?}");
        ran.out
    };
    let preview = apply(&["--dry-run"], TEAM);
    assert!(preview.ends_with("5 would be created, 0 would be changed, 0 unchanged\n"), "{preview}");
    admin.fails(5, &["get", "project", "shop"]);
    let first = apply(&[], TEAM);
    assert!(first.ends_with("5 created, 0 changed, 0 unchanged\n"), "{first}");
    let before = admin.json(&["audit", "list", "--limit", "1"])[0]["seq"].clone();
    let second = apply(&[], TEAM);
    assert!(second.ends_with("0 created, 0 changed, 5 unchanged\n"), "{second}");
    let after = admin.json(&["audit", "list", "--limit", "1"])[0]["seq"].clone();
    assert_eq!(before, after, "nothing was changed, nothing was recorded");

    let changed = TEAM.replace("They write it", "They run it").replace("[v*]", "[v*, rc-*]");
    let preview = apply(&["--dry-run"], &changed);
    assert!(preview.contains("- description: They write it\n") && preview.contains("+ - rc-*"), "{preview}");
    let third = apply(&[], &changed);
    assert!(third.ends_with("0 created, 2 changed, 3 unchanged\n"), "{third}");
    let wrong = admin.run_with(&["apply", "-f", "-"], &format!("{TEAM}---\nkind: Ship\n"));
    assert!(wrong.status == 2 && wrong.err.contains("document 6"), "{wrong:?}");
}

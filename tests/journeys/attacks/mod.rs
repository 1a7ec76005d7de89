//! The attack list. Each try says what a naive implementation would do, makes the request, and expects the refusal.
//!
//! Tries of one kind share a server; `refused: <name>` is printed for each that failed to get through.

mod codes;
mod devices;
mod escalation;
mod inputs;
mod mails;
mod neighbours;
mod requests;
mod secrets;
mod tokens;
mod walk;

use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use crate::support::oci::{Image, fresh};
use crate::support::{Api, Call, Reply, Server, Setup};

/// An attack.
struct Try {
    name: &'static str,
    /// What a naive implementation would do.
    naive: &'static str,
    /// Panics where the attack gets through.
    attack: fn(&Town),
}

const RED_ADMIN: &str = "admin@red.example";
const RED_PASSWORD: &str = "crimson sails in the evening wind";
const DEV: &str = "dev@localhost";
const DEV_PASSWORD: &str = "a developer's long secret";
const READER: &str = "reader@localhost";
const READER_PASSWORD: &str = "lamps along the breakwater";

/// The organization `main` (the victim) with a developer (`PROJECT_ADMIN` of `defaultproject`) and a reader
/// (`PROJECT_READ_ONLY` of it), and the organization `red` (the attacker's own).
struct Town {
    server: Server,
    admin: Api,
    red: Api,
    dev: Api,
    reader: Api,
}

impl Town {
    fn new() -> Self {
        let server = Setup::plain().clock().start();
        let admin = server.api();
        server.operator().create_org("red", RED_ADMIN, RED_PASSWORD);
        admin.create_user("main", DEV, DEV_PASSWORD);
        admin.create_user("main", READER, READER_PASSWORD);
        admin.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
        admin.bind("main", READER, "PROJECT_READ_ONLY", Some("defaultproject"));
        admin.create_project("main", "secret", false);
        Image::new(fresh(), 100).push(&server.registry(), "main/app", &server.admin_token("main/app"), "v1");
        let secret = server.admin_token("main/secret/app");
        Image::new(fresh(), 100).push(&server.registry(), "main/secret/app", &secret, "v1");
        let red = server.login(RED_ADMIN, RED_PASSWORD);
        let (dev, reader) = (server.login(DEV, DEV_PASSWORD), server.login(READER, READER_PASSWORD));
        Self { server, admin, red, dev, reader }
    }

    /// A person of `main` with no role, for a try that spoils its victim.
    fn victim(&self, name: &str) -> (String, &'static str) {
        const PASSWORD: &str = "nobody would think of it";
        let name = format!("{name}@localhost");
        // Some tries let days pass, which end sessions.
        self.server.api().create_user("main", &name, PASSWORD);
        (name, PASSWORD)
    }

    /// Makes every try, and fails with the names of those that got through.
    fn endure(&self, tries: &[Try]) {
        let mut through = Vec::new();
        for each in tries {
            match catch_unwind(AssertUnwindSafe(|| (each.attack)(self))) {
                Ok(()) => println!("refused: {}", each.name),
                Err(_) => through.push(format!("{} (naive: {})", each.name, each.naive)),
            }
        }
        assert!(through.is_empty(), "got through:\n  {}", through.join("\n  "));
    }
}

/// What must be the same for a thing that is there and a thing that is not.
fn visible(reply: &Reply) -> (u16, Vec<(String, String)>, String) {
    let quiet = ["date", "x-request-id", "content-length"];
    let headers = reply.headers.iter().filter(|(name, _)| !quiet.contains(&name.as_str())).cloned().collect();
    (reply.status, headers, reply.text())
}

#[track_caller]
fn one_of(reply: &Reply, statuses: &[u16]) {
    assert!(statuses.contains(&reply.status), "{} is none of {statuses:?}: {}", reply.status, reply.text());
}

/// The last part of a problem's type.
fn problem(reply: &Reply) -> String {
    let kind = reply.json()["type"].as_str().unwrap_or_default().to_owned();
    kind.rsplit(':').next().unwrap_or_default().to_owned()
}

/// What a token lets its holder do, as it says itself.
pub(crate) fn granted(token: &str) -> Value {
    use base64::Engine as _;
    let claims = token.split('.').nth(1).expect("a payload");
    let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).expect("base64url");
    serde_json::from_slice::<Value>(&bytes).expect("claims")["access"].clone()
}

fn post(town: &Town, path: &str, body: &Value) -> Reply {
    Call::post(format!("/api/v1{path}")).json(body).send(&town.server.controller())
}

const LISTS: &[(&str, &[Try])] = &[
    ("neighbours", neighbours::TRIES),
    ("escalation", escalation::TRIES),
    ("requests", requests::TRIES),
    ("secrets", secrets::TRIES),
    ("codes", codes::TRIES),
    ("mails", mails::TRIES),
    ("devices", devices::TRIES),
    ("tokens", tokens::TRIES),
    ("inputs", inputs::TRIES),
];

#[test]
fn the_list_is_long_and_every_try_has_a_name_and_a_reason() {
    let tries: Vec<&Try> = LISTS.iter().flat_map(|(_, tries)| tries.iter()).collect();
    assert!(tries.len() >= 40, "{}", tries.len());
    let names: std::collections::BTreeSet<&str> = tries.iter().map(|each| each.name).collect();
    assert_eq!(names.len(), tries.len(), "names are unique");
    assert!(tries.iter().all(|each| each.naive.len() > 10));
    println!("{} attacks, and the walk over every route", tries.len());
}

/// `tries! { "name", "what a naive implementation does" => |town| {…}; }`
macro_rules! tries {
    ($($name:literal, $naive:literal => $attack:expr;)*) => {
        pub(super) const TRIES: &[super::Try] =
            &[$(super::Try { name: $name, naive: $naive, attack: $attack },)*];

        #[test]
        fn every_try_is_refused() {
            super::Town::new().endure(TRIES);
        }
    };
}
use tries;

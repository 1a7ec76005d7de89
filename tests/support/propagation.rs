//! How long a change of somebody's rights takes to be felt: at the registry, at the token service, at the controller, and by
//! an upload whose body is on its way. The law allows a second.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde_json::json;

use super::http::Call;
use super::oci::{Image, fresh, noise, start_upload};
use super::server::ORG;
use super::{Api, Server};

const LIMIT: Duration = Duration::from_secs(1);
const PASSWORD: &str = "somebody's long secret";
const REPOSITORY: &str = "main/felt";

/// A body that is sent piece by piece until the server answers.
struct InFlight {
    stop: Arc<AtomicBool>,
    writer: JoinHandle<()>,
    reader: JoinHandle<(Instant, String)>,
}

impl InFlight {
    fn begin(server: &Server, token: &str) -> Self {
        let registry = server.registry();
        let session = start_upload(&registry, REPOSITORY, token);
        let mut wire = TcpStream::connect(registry.addr).expect("a connection");
        let mut answers = wire.try_clone().expect("the same connection");
        answers.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        let head = format!(
            "PATCH {session} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n",
            registry.host
        );
        wire.write_all(head.as_bytes()).expect("a head");
        let stop = Arc::new(AtomicBool::new(false));
        let writer = thread::spawn({
            let stop = Arc::clone(&stop);
            move || {
                let piece = noise(fresh(), 4096);
                while !stop.load(Ordering::Relaxed) {
                    let sent = write!(wire, "{:x}\r\n", piece.len())
                        .and_then(|()| wire.write_all(&piece))
                        .and_then(|()| wire.write_all(b"\r\n"));
                    if sent.is_err() {
                        return;
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        let reader = thread::spawn(move || {
            let mut answer = vec![0; 1024];
            let length = answers.read(&mut answer).unwrap_or(0);
            let line = String::from_utf8_lossy(&answer[..length]).lines().next().unwrap_or_default().to_owned();
            (Instant::now(), line)
        });
        Self { stop, writer, reader }
    }

    /// When the server cut it off, after `since`.
    fn end(self, since: Instant) -> Duration {
        assert!(!self.writer.is_finished() || self.reader.is_finished(), "the body goes on until the answer");
        let (at, line) = self.reader.join().expect("an answer");
        self.stop.store(true, Ordering::Relaxed);
        self.writer.join().expect("the writer ends");
        assert!(line.is_empty() || line.contains(" 401 "), "{line}");
        at.saturating_duration_since(since)
    }
}

/// What is looked at until it is refused.
type Probe<'a> = (&'static str, Box<dyn Fn() -> bool + Send + Sync + 'a>);

/// The parts of a measurement: where the changes are made, where they are felt.
struct Stand<'a> {
    at: &'a Server,
    felt: &'a Server,
    admin: Api,
    operator: Api,
    lines: Vec<(String, &'static str, Duration)>,
}

/// Somebody with a session, a key, and tokens of each.
struct Somebody {
    name: String,
    session: Api,
    key_id: String,
    key: String,
    token: String,
    token_by_key: String,
}

impl Stand<'_> {
    fn somebody(&self, name: &str, bind: impl FnOnce(&str)) -> Somebody {
        let name = format!("{name}@localhost");
        self.admin.create_user(ORG, &name, PASSWORD);
        bind(&name);
        let session = Api::login(self.felt.controller(), &name, PASSWORD);
        let (key_id, key) = session.create_api_key(ORG, None, "felt");
        let scope = [format!("repository:{REPOSITORY}:pull,push")];
        let scope = [scope[0].as_str()];
        let token = self.felt.token(&name, PASSWORD, &scope);
        let token_by_key = self.felt.token(&name, &key, &scope);
        let who = Somebody { name, session, key_id, key, token, token_by_key };
        assert!(self.pulls(&who.token) && self.pulls(&who.token_by_key), "rights to begin with");
        who
    }

    fn pulls(&self, token: &str) -> bool {
        let target = format!("/v2/{REPOSITORY}/manifests/v1");
        Call::get(target).bearer(token).send(&self.felt.registry()).status == 200
    }

    /// Whether the token service still grants a pull.
    fn grants(&self, name: &str, secret: &str) -> bool {
        let reply = self.felt.try_token(Some((name, secret)), &[&format!("repository:{REPOSITORY}:pull")]);
        reply.status == 200 && {
            let token = reply.json()["token"].as_str().expect("a token").to_owned();
            self.pulls(&token)
        }
    }

    fn sees(&self, api: &Api) -> bool {
        api.at(self.felt.controller()).get(&format!("/orgs/{ORG}/projects/defaultproject")).status == 200
    }

    /// Makes the change and waits for every probe to be refused.
    fn measure(
        &mut self,
        what: &str,
        change: impl FnOnce(),
        probes: &[Probe<'_>],
        upload: Option<InFlight>,
    ) -> Vec<(String, &'static str, Duration)> {
        for (door, probe) in probes {
            assert!(probe(), "{what}: the {door} lets in before the change");
        }
        change();
        let since = Instant::now();
        let mut felt: Vec<(String, &'static str, Duration)> = thread::scope(|scope| {
            let waits: Vec<_> = probes
                .iter()
                .map(|(door, probe)| {
                    let wait = scope.spawn(move || {
                        while probe() && since.elapsed() < LIMIT * 5 {
                            thread::sleep(Duration::from_millis(5));
                        }
                        since.elapsed()
                    });
                    (*door, wait)
                })
                .collect();
            waits.into_iter().map(|(door, wait)| (what.to_owned(), door, wait.join().expect("a probe"))).collect()
        });
        if let Some(upload) = upload {
            felt.push((what.to_owned(), "upload in flight", upload.end(since)));
        }
        felt
    }
}

/// Makes each change at one server and measures when it is felt at the other (which may be the same). Prints a table.
pub(crate) fn measure(at: &Server, felt: &Server) {
    let admin = at.api();
    Image::new(fresh(), 100).push(&at.registry(), REPOSITORY, &at.admin_token(REPOSITORY), "v1");
    let mut stand = Stand { at, felt, operator: at.operator(), admin, lines: Vec::new() };
    let direct = |admin: &Api, name: &str| drop(admin.bind(ORG, name, "PROJECT_ADMIN", Some("defaultproject")));

    macro_rules! round {
        ($what:literal, $who:ident, $bind:expr, $change:expr, [$($door:literal => $probe:expr),*], $upload:expr) => {{
            let admin = stand.admin.clone();
            let $who = stand.somebody(&$what.replace(' ', "-"), |name: &str| $bind(&admin, name));
            let upload: Option<&str> = $upload;
            let upload = upload.map(|token| InFlight::begin(stand.felt, token));
            thread::sleep(Duration::from_millis(100));
            let view = Stand { at: stand.at, felt: stand.felt, admin: stand.admin.clone(), operator: stand.operator.clone(), lines: Vec::new() };
            let probes: Vec<Probe<'_>> = vec![$(($door, Box::new(|| $probe(&view)))),*];
            let lines = stand.measure($what, || $change(&view), &probes, upload);
            stand.lines.extend(lines);
        }};
    }

    round!("user deactivated", who, direct,
        |s: &Stand<'_>| drop(s.admin.post(&format!("/orgs/{ORG}/users/{}/deactivate", who.name), &json!({})).expect(204)),
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token), "token service" => |s: &Stand<'_>| s.grants(&who.name, PASSWORD),
         "controller" => |s: &Stand<'_>| s.sees(&who.session), "controller, by key" => |s: &Stand<'_>| s.sees(&Api::bearer(s.felt.controller(), &who.key))],
        Some(&who.token));
    round!("user deleted", who, direct,
        |s: &Stand<'_>| drop(s.admin.delete(&format!("/orgs/{ORG}/users/{}", who.name)).expect(204)),
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token), "token service" => |s: &Stand<'_>| s.grants(&who.name, PASSWORD),
         "controller" => |s: &Stand<'_>| s.sees(&who.session), "controller, by key" => |s: &Stand<'_>| s.sees(&Api::bearer(s.felt.controller(), &who.key))],
        Some(&who.token));
    let mut reset = String::new();
    round!("password reset", who, |admin: &Api, name: &str| { direct(admin, name); reset = admin.forget_password(name); },
        |s: &Stand<'_>| drop(s.admin.post("/password/reset", &json!({"token": reset, "new": "a new and different one"})).expect(204)),
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token), "token service" => |s: &Stand<'_>| s.grants(&who.name, PASSWORD),
         "controller" => |s: &Stand<'_>| s.sees(&who.session)],
        Some(&who.token));
    round!("API key revoked", who, direct,
        |s: &Stand<'_>| drop(s.admin.delete(&format!("/orgs/{ORG}/apikeys/{}", who.key_id)).expect(204)),
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token_by_key), "token service" => |s: &Stand<'_>| s.grants(&who.name, &who.key),
         "controller" => |s: &Stand<'_>| s.sees(&Api::bearer(s.felt.controller(), &who.key))],
        Some(&who.token_by_key));
    round!("sessions ended", who, direct,
        |s: &Stand<'_>| drop(s.admin.delete(&format!("/orgs/{ORG}/users/{}/sessions", who.name)).expect(204)),
        ["controller" => |s: &Stand<'_>| s.sees(&who.session)], None);
    stand.admin.create_group(ORG, "felt");
    stand.admin.bind_group(ORG, "felt", "PROJECT_ADMIN", Some("defaultproject"));
    round!("group left", who, |admin: &Api, name: &str| admin.add_member(ORG, "felt", name),
        |s: &Stand<'_>| drop(s.admin.delete(&format!("/orgs/{ORG}/groups/felt/members/{}", who.name)).expect(204)),
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token), "token service" => |s: &Stand<'_>| s.grants(&who.name, PASSWORD),
         "controller" => |s: &Stand<'_>| s.sees(&who.session), "controller, by key" => |s: &Stand<'_>| s.sees(&Api::bearer(s.felt.controller(), &who.key))],
        Some(&who.token));
    stand.admin.try_role(ORG, "felt", "PROJECT_ADMIN", &json!({})).expect(201);
    round!("role changed", who, |admin: &Api, name: &str| drop(admin.bind(ORG, name, "felt", Some("defaultproject"))),
        |s: &Stand<'_>| drop(s.admin.patch(&format!("/orgs/{ORG}/roles/felt"),
            &json!({"removed": ["registry.pull", "registry.push", "project.read"]})).expect(200)),
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token), "token service" => |s: &Stand<'_>| s.grants(&who.name, PASSWORD),
         "controller" => |s: &Stand<'_>| s.sees(&who.session), "controller, by key" => |s: &Stand<'_>| s.sees(&Api::bearer(s.felt.controller(), &who.key))],
        Some(&who.token));
    let mut binding = String::new();
    round!("binding deleted", who, |admin: &Api, name: &str| binding = admin.bind(ORG, name, "PROJECT_ADMIN", Some("defaultproject")),
        |s: &Stand<'_>| drop(s.admin.delete(&format!("/orgs/{ORG}/bindings/{binding}")).expect(204)),
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token), "token service" => |s: &Stand<'_>| s.grants(&who.name, PASSWORD),
         "controller" => |s: &Stand<'_>| s.sees(&who.session), "controller, by key" => |s: &Stand<'_>| s.sees(&Api::bearer(s.felt.controller(), &who.key))],
        Some(&who.token));
    round!("organization suspended", who, direct,
        |s: &Stand<'_>| { let reply = s.operator.post(&format!("/platform/orgs/{ORG}/suspend"), &json!({})); assert!(reply.status < 300, "{}", reply.text()); },
        ["registry" => |s: &Stand<'_>| s.pulls(&who.token), "token service" => |s: &Stand<'_>| s.grants(&who.name, PASSWORD),
         "controller" => |s: &Stand<'_>| s.sees(&who.session), "controller, by key" => |s: &Stand<'_>| s.sees(&Api::bearer(s.felt.controller(), &who.key))],
        Some(&who.token));

    println!("{:<24} {:<20} felt after", "change", "at");
    for (what, door, took) in &stand.lines {
        println!("{what:<24} {door:<20} {:>6.1} ms", took.as_secs_f64() * 1000.0);
    }
    for (what, door, took) in &stand.lines {
        assert!(*took < LIMIT, "{what} is felt at the {door} after {took:?}");
    }
}

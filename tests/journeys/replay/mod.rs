//! The requests of real clients, captured against other registries, repeated against ours: the
//! same statuses and headers, or a difference that is justified in `differences.rs`.

mod differences;
mod plan;
mod trace;

use std::collections::{BTreeMap, BTreeSet};

use differences::{DIFFERENCES, Difference};
use plan::{COMMON_CONFIG, Content, Plan};
use trace::{Auth, Line, Trace};

use crate::support::server::parameter;
use crate::support::{Call, Reply, Server, Setup, oci};

const PASSWORD: &str = "a password for the replay";

#[test]
fn every_trace_gets_the_same_answers() {
    let server = Setup::plain().start();
    let service = server.service();
    let operator = server.operator();
    let traces = trace::all();
    assert!(traces.len() >= 70, "only {} traces", traces.len());
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    for (index, trace) in traces.iter().enumerate() {
        let org = format!("t{index}");
        let user = format!("alice-{index}@localhost");
        operator.create_org(&org, &user, PASSWORD);
        let plan = Plan::of(trace);
        let mut replay = Replay {
            server: &server,
            service: &service,
            org,
            user,
            plan,
            sessions: BTreeMap::new(),
            tokens: BTreeMap::new(),
        };
        replay.prepare();
        for line in &trace.lines {
            replay.step(trace, line, &mut wrong, &mut used);
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    for entry in used.iter().map(|index| &DIFFERENCES[*index]) {
        println!(
            "{} {} {}: theirs {}, ours {}: {}",
            entry.trace, entry.method, entry.target, entry.theirs, entry.ours, entry.why
        );
    }
    let stale: Vec<&Difference> =
        DIFFERENCES.iter().enumerate().filter(|(index, _)| !used.contains(index)).map(|(_, entry)| entry).collect();
    assert!(stale.is_empty(), "justified differences that no trace needs: {stale:#?}");
}

/// One trace on its way through our server, in an organization of its own.
struct Replay<'a> {
    server: &'a Server,
    service: &'a str,
    org: String,
    user: String,
    plan: Plan,
    /// `U1` to the path and query of our session.
    sessions: BTreeMap<String, String>,
    /// The scopes a token was asked for, to the token.
    tokens: BTreeMap<String, String>,
}

impl Replay<'_> {
    /// `alice/app` or `bob/sk` of the trace is a repository in our organization.
    fn repository(&self, theirs: &str) -> String {
        self.rename(theirs)
    }

    fn rename(&self, text: &str) -> String {
        let org = &self.org;
        let encoded = text.replace("alice%2F", &format!("{org}%2F")).replace("bob%2F", &format!("{org}%2Fbobs-"));
        encoded.replace("alice/", &format!("{org}/")).replace("bob/", &format!("{org}/bobs-"))
    }

    /// Puts in place what the trace presupposes.
    fn prepare(&mut self) {
        let registry = self.server.registry();
        if self.plan.public {
            let path = format!("/orgs/{}/projects/defaultproject", self.org);
            let admin = crate::support::Api::login(self.server.controller(), &self.user, PASSWORD);
            admin.patch(&path, &serde_json::json!({"public": true})).expect(200);
        }
        let mut prepared = BTreeSet::new();
        for (repository, digest) in self.plan.seeds.clone() {
            let name = self.repository(&repository);
            let token = self.full_token(&name);
            let content = self.content(&digest);
            if prepared.insert(name.clone()) {
                oci::push_blob(&registry, &name, &token, COMMON_CONFIG);
            }
            match &content.media_type {
                None => drop(oci::push_blob(&registry, &name, &token, &content.bytes)),
                Some(kind) => {
                    oci::put_manifest(&registry, &name, &token, &content.digest(), kind, &content.bytes).expect(201);
                }
            }
        }
        for (repository, tag, digest) in self.plan.tags.clone() {
            let name = self.repository(&repository);
            let content = self.content(&digest);
            let kind = content.media_type.clone().unwrap_or_default();
            oci::put_manifest(&registry, &name, &self.full_token(&name), &tag, &kind, &content.bytes).expect(201);
        }
    }

    fn content(&self, digest: &str) -> Content {
        self.plan.contents.get(digest).unwrap_or_else(|| panic!("no bytes for {digest}")).clone()
    }

    fn full_token(&self, repository: &str) -> String {
        self.server.token(&self.user, PASSWORD, &[&format!("repository:{repository}:pull,push,delete")])
    }

    /// The trace's text with our digests, sessions, names and service in it.
    fn ours(&self, text: &str) -> String {
        let mut text = self.rename(text);
        for (placeholder, content) in &self.plan.contents {
            if placeholder.starts_with("sha256:") {
                text = replace_whole(&text, placeholder, &content.digest());
            }
        }
        text
    }

    fn step(&mut self, trace: &Trace, line: &Line, wrong: &mut Vec<String>, used: &mut BTreeSet<usize>) {
        let reply = if line.target.starts_with("/token") { self.token_request(line) } else { self.request(line) };
        let mut compare = |field: &'static str, theirs: &str, ours: &str| {
            if theirs == ours {
                return;
            }
            let excuse = DIFFERENCES.iter().position(|entry| {
                trace.name.starts_with(entry.trace)
                    && line.method == entry.method
                    && line.target.contains(entry.target)
                    && field == entry.field
                    && theirs == entry.theirs
                    && ours == entry.ours
            });
            if let Some(index) = excuse {
                used.insert(index);
            } else {
                let request = format!("{} {}", line.method, line.target);
                let body = reply.text().chars().take(200).collect::<String>();
                wrong.push(format!(
                    "{}:{}: {request}\n    {field}: theirs {theirs}, ours {ours}\n    {body}",
                    trace.name, line.number
                ));
            }
        };
        compare("status", &line.status.to_string(), &reply.status.to_string());
        if reply.status == line.status {
            for (field, theirs, ours) in self.headers(line, &reply) {
                compare(field, &theirs, &ours);
            }
        }
        self.remember_session(line, &reply);
    }

    /// The headers that both have to agree on, as (name, theirs, ours).
    fn headers(&self, line: &Line, reply: &Reply) -> Vec<(&'static str, String, String)> {
        let mut pairs = Vec::new();
        let theirs = |name: &str| line.received.get(name).map(|value| self.ours(value));
        let ours = |name: &str| reply.header(name).unwrap_or("(none)").to_owned();
        if let Some(expected) = theirs("DCD") {
            pairs.push(("docker-content-digest", expected, ours("docker-content-digest")));
        }
        if let Some(expected) = theirs("Range") {
            pairs.push(("range", expected, ours("range")));
        }
        if let Some(expected) = theirs("Location") {
            pairs.push(("location", shape(&expected), shape(&ours("location"))));
        }
        // Lengths of blobs and manifests are the client's business; of error texts and lists, ours.
        let exact =
            line.repository().is_some_and(|(_, rest)| rest.starts_with("/blobs/") || rest.starts_with("/manifests/"));
        if let Some(expected) = theirs("CL").filter(|_| exact && line.status == 200) {
            pairs.push(("content-length", expected, ours("content-length")));
        }
        if let Some(expected) = line.received.get("WWW-Authenticate").filter(|value| value.starts_with("Bearer")) {
            let challenge = ours("www-authenticate");
            let realm = format!("{}/token", self.server.auth().url());
            pairs.push(("realm", realm, parameter(&challenge, "realm").unwrap_or_default()));
            pairs.push(("service", self.service.to_owned(), parameter(&challenge, "service").unwrap_or_default()));
            let scope = self.rename(&parameter(expected, "scope").unwrap_or_default());
            pairs.push(("scope", scope, parameter(&challenge, "scope").unwrap_or_default()));
            let error = parameter(expected, "error").unwrap_or_default();
            pairs.push(("error", error, parameter(&challenge, "error").unwrap_or_default()));
        }
        pairs
    }

    fn remember_session(&mut self, line: &Line, reply: &Reply) {
        let theirs = line.received.get("Location").and_then(|location| location.split_once("/uploads/"));
        let (Some((_, session)), Some(location)) = (theirs, reply.header("location")) else { return };
        let name = session.split('?').next().unwrap_or(session).to_owned();
        self.sessions.insert(name, oci::path_of(location));
    }

    fn request(&mut self, line: &Line) -> Reply {
        let mut call = Call::new(&line.method, self.target(line));
        match line.auth() {
            Auth::None => {}
            // We offer Bearer only: a client of a Basic registry is a client with a token here.
            Auth::Basic => {
                let repository = line.repository().map(|(name, _)| self.repository(name));
                let scopes = repository.map(|name| format!("repository:{name}:pull,push"));
                let scopes: Vec<&str> = scopes.iter().map(String::as_str).collect();
                call = call.bearer(&self.server.token(&self.user, PASSWORD, &scopes));
            }
            Auth::Bearer { scopes, anonymous } => call = call.bearer(&self.bearer(&scopes, anonymous)),
        }
        call = self.send_headers(line, call);
        call.send(&self.server.registry())
    }

    fn target(&self, line: &Line) -> String {
        let Some(session) = trace::session(&line.target) else { return self.ours(&line.target) };
        let path = self.sessions.get(&session).unwrap_or_else(|| panic!("no session {session}")).clone();
        match line.query("digest") {
            Some(digest) => oci::with_query(&path, &format!("digest={}", self.ours(&digest))),
            None => path,
        }
    }

    fn send_headers(&self, line: &Line, mut call: Call) -> Call {
        if let Some(kind) = line.sent.get("ct") {
            call = call.header("Content-Type", kind);
        }
        if let Some(range) = line.sent.get("cr") {
            call = call.header("Content-Range", range);
        }
        if let Some(encodings) = line.sent.get("ae") {
            call = call.header("Accept-Encoding", encodings);
        }
        let kinds = [
            oci::DOCKER_MANIFEST,
            oci::DOCKER_LIST,
            oci::OCI_MANIFEST,
            oci::OCI_INDEX,
            "application/vnd.docker.distribution.manifest.v1+prettyjws",
            "application/json",
        ];
        if line.sent.contains_key("accept-lines") {
            call = kinds.iter().fold(call, |call, kind| call.header("Accept", *kind));
        } else if let Some(accept) = line.sent.get("accept") {
            let list = if accept.contains(" types in ") { kinds.join(",") } else { accept.clone() };
            call = call.header("Accept", list);
        }
        let chunked = line.sent.get("te").is_some_and(|coding| coding == "chunked");
        match self.body(line) {
            Some(bytes) if chunked => call.chunked(bytes),
            Some(bytes) => call.body(bytes),
            None => call,
        }
    }

    /// The bytes that the request carries: a manifest, a blob in one PUT, or a chunk.
    fn body(&self, line: &Line) -> Option<Vec<u8>> {
        let (_, rest) = line.repository()?;
        match line.method.as_str() {
            "PUT" if rest.starts_with("/manifests/") => {
                let digest = line.received.get("DCD").cloned().or_else(|| line.digests().pop());
                let kind = line.sent.get("ct").cloned();
                // A refused push says nothing of its digest; any document of the type will do.
                let refused = || Content { bytes: br#"{"schemaVersion":2}"#.to_vec(), media_type: kind };
                Some(digest.map_or_else(refused, |digest| self.content(&digest)).bytes)
            }
            "PUT" if line.content_length().is_some_and(|length| length > 0) => {
                Some(self.content(&line.digests().pop()?).bytes)
            }
            "PATCH" => {
                let digest = self.plan.closing.get(&trace::session(&line.target)?);
                Some(
                    digest.map_or_else(
                        || vec![0; line.content_length().unwrap_or(1)],
                        |digest| self.content(digest).bytes,
                    ),
                )
            }
            _ => None,
        }
    }

    fn bearer(&mut self, scopes: &[String], anonymous: bool) -> String {
        let asked = self.rename(&scopes.join(" "));
        if let Some(token) = self.tokens.get(&asked) {
            return token.clone();
        }
        let scopes: Vec<&str> = asked.split_whitespace().collect();
        let login = (!anonymous).then_some((self.user.as_str(), PASSWORD));
        let reply = self.server.try_token(login, &scopes).expect(200).json();
        let token = reply["token"].as_str().expect("a token").to_owned();
        self.tokens.insert(asked, token.clone());
        token
    }

    /// A request to the token service, with our user, service and secrets.
    fn token_request(&mut self, line: &Line) -> Reply {
        let (pairs, form) = match line.sent.get("form") {
            Some(form) => (trace::form(form), true),
            None => {
                let query = line.target.split_once('?').map_or("", |(_, query)| query);
                (url::form_urlencoded::parse(query.as_bytes()).into_owned().collect(), false)
            }
        };
        let pairs: Vec<(String, String)> =
            pairs.into_iter().map(|(name, value)| (name.clone(), self.parameter(&name, &value))).collect();
        let text = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(&pairs).finish();
        let mut call = if form {
            let call = Call::post("/token").header("Content-Type", line.sent["ct"].clone());
            if line.sent.get("te").is_some_and(|coding| coding == "chunked") {
                call.chunked(text)
            } else {
                call.body(text)
            }
        } else {
            Call::get(format!("/token?{text}"))
        };
        if line.auth() == Auth::Basic {
            let password = if line.status == 401 { "not the password" } else { PASSWORD };
            call = call.basic(&self.user, password);
        }
        let reply = call.send(&self.server.auth());
        if reply.status == 200 {
            let scopes: Vec<&str> =
                pairs.iter().filter(|(name, _)| name == "scope").map(|(_, scope)| scope.as_str()).collect();
            let body = reply.json();
            let token = body["token"].as_str().or(body["access_token"].as_str()).expect("a token");
            self.tokens.insert(scopes.join(" "), token.to_owned());
        }
        reply
    }

    fn parameter(&self, name: &str, value: &str) -> String {
        match name {
            "account" | "username" => self.user.clone(),
            "password" => PASSWORD.to_owned(),
            "service" => self.service.to_owned(),
            "refresh_token" => self.refresh_token(),
            _ => self.rename(value),
        }
    }

    fn refresh_token(&self) -> String {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("service", self.service), ("offline_token", "true"), ("client_id", "replay")])
            .finish();
        let reply =
            Call::get(format!("/token?{query}")).basic(&self.user, PASSWORD).send(&self.server.auth()).expect(200);
        reply.json()["refresh_token"].as_str().expect("a refresh token").to_owned()
    }
}

/// A `Location` without host, state and session id: what kind of place it points to.
fn shape(location: &str) -> String {
    let path = oci::path_of(location);
    match path.split_once("/uploads/") {
        Some((before, id)) if !id.is_empty() => format!("{before}/uploads/(session)"),
        _ => path,
    }
}

/// Replaces `from` where no further digit follows it.
fn replace_whole(text: &str, from: &str, to: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let after = at + from.len();
        let longer = rest[after..].starts_with(|next: char| next.is_ascii_digit());
        done.push_str(&rest[..at]);
        done.push_str(if longer { from } else { to });
        rest = &rest[after..];
    }
    done.push_str(rest);
    done
}

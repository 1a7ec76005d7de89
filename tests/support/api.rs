//! The controller's REST API, as a caller with credentials of one kind.

use serde_json::{Value, json};

use super::http::{Call, Endpoint, Reply};
use super::mail::{INVITED, Mail, RESET, Spool};
use super::totp;

/// What is sent along with every request.
#[derive(Clone, Debug)]
enum Credentials {
    None,
    Session { cookie: String, csrf: String },
    Bearer(String),
}

/// A caller.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    endpoint: Endpoint,
    credentials: Credentials,
    spool: Option<Spool>,
}

impl Api {
    /// Somebody without credentials.
    pub(crate) fn stranger(endpoint: Endpoint) -> Self {
        Self { endpoint, credentials: Credentials::None, spool: None }
    }

    /// Whoever has this API key or session of the CLI.
    pub(crate) fn bearer(endpoint: Endpoint, token: &str) -> Self {
        Self { endpoint, credentials: Credentials::Bearer(token.to_owned()), spool: None }
    }

    /// Logs in with a password alone.
    #[track_caller]
    pub(crate) fn login(endpoint: Endpoint, user: &str, password: &str) -> Self {
        let reply = Self::stranger(endpoint.clone()).try_login(user, password).expect(200);
        Self::of_session(endpoint, &reply)
    }

    /// The session that an answer begins.
    #[track_caller]
    pub(crate) fn of_session(endpoint: Endpoint, reply: &Reply) -> Self {
        let cookie = reply.header("set-cookie").unwrap_or_else(|| panic!("no session cookie: {}", reply.text()));
        let cookie = cookie.split(';').next().expect("a pair").to_owned();
        let csrf = reply.json()["csrf_token"].as_str().expect("a CSRF token").to_owned();
        Self { endpoint, credentials: Credentials::Session { cookie, csrf }, spool: None }
    }

    /// The session that goes on after a change of credentials.
    #[track_caller]
    pub(crate) fn renewed(&self, reply: &Reply, field: &str) -> Self {
        let cookie = reply.header("set-cookie").expect("a new cookie").split(';').next().expect("a pair").to_owned();
        let csrf =
            reply.json().pointer(&format!("{field}/csrf_token")).and_then(Value::as_str).expect("a token").to_owned();
        Self { credentials: Credentials::Session { cookie, csrf }, ..self.clone() }
    }

    /// The same caller, who also reads the mails that the server leaves.
    pub(crate) fn with_spool(mut self, spool: Spool) -> Self {
        self.spool = Some(spool);
        self
    }

    /// The same credentials at another replica.
    pub(crate) fn at(&self, endpoint: Endpoint) -> Self {
        Self { endpoint, ..self.clone() }
    }

    pub(crate) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// `name=value` of the session's cookie.
    pub(crate) fn cookie(&self) -> &str {
        match &self.credentials {
            Credentials::Session { cookie, .. } => cookie,
            other => panic!("no session: {other:?}"),
        }
    }

    pub(crate) fn csrf(&self) -> &str {
        match &self.credentials {
            Credentials::Session { csrf, .. } => csrf,
            other => panic!("no session: {other:?}"),
        }
    }

    #[track_caller]
    pub(crate) fn spool(&self) -> &Spool {
        self.spool.as_ref().expect("a caller of `Server::login` and its like, who reads mails")
    }

    /// The answer to a name and a password.
    pub(crate) fn try_login(&self, user: &str, password: &str) -> Reply {
        Call::post("/api/v1/login").json(&json!({"username": user, "password": password})).send(&self.endpoint)
    }

    /// Logs in with a password and a code of the time.
    #[track_caller]
    pub(crate) fn login_totp(endpoint: Endpoint, user: &str, password: &str, secret: &str, now: i64) -> Self {
        let stranger = Self::stranger(endpoint.clone());
        let pending = stranger.begin_second_factor(user, password);
        let reply = stranger.second_factor(&pending, &json!({"code": totp::code(secret, now)}));
        Self::of_session(endpoint, &reply.expect(200))
    }

    /// The token of a log-in that waits for its second factor.
    #[track_caller]
    pub(crate) fn begin_second_factor(&self, user: &str, password: &str) -> String {
        let reply = self.try_login(user, password).expect(200);
        assert!(reply.header("set-cookie").is_none(), "no cookie before the second factor");
        let token = reply.json()["second_factor"]["token"].as_str().map(str::to_owned);
        token.unwrap_or_else(|| panic!("no second factor is asked for: {}", reply.text()))
    }

    /// The answer to a second factor: `{"code"}`, `{"recovery_code"}` or `{"passkey"}`.
    pub(crate) fn second_factor(&self, pending: &str, factor: &Value) -> Reply {
        let mut body = factor.clone();
        body["token"] = json!(pending);
        Call::post("/api/v1/login/second-factor").json(&body).send(&self.endpoint)
    }

    /// Switches codes by time on for the caller: the secret, the recovery codes, and the session that goes on.
    #[track_caller]
    pub(crate) fn enrol_totp(&self, now: i64) -> (String, Vec<String>, Self) {
        let begun = self.post("/account/mfa/totp", &json!({}));
        assert!(matches!(begun.status, 200 | 201), "{} {}", begun.status, begun.text());
        let secret = begun.json()["secret"].as_str().expect("a secret").to_owned();
        let done = self.post("/account/mfa/totp/confirm", &json!({"code": totp::code(&secret, now)}));
        assert!(matches!(done.status, 200 | 201), "{} {}", done.status, done.text());
        let codes = done.json()["recovery_codes"].as_array().expect("recovery codes").clone();
        let codes = codes.iter().map(|code| code.as_str().expect("a code").to_owned()).collect();
        (secret, codes, self.renewed(&done, "/session"))
    }

    pub(crate) fn send(&self, call: Call) -> Reply {
        self.dress(call).send(&self.endpoint)
    }

    /// The call with the caller's credentials.
    pub(crate) fn dress(&self, call: Call) -> Call {
        match &self.credentials {
            Credentials::None => call,
            Credentials::Session { cookie, csrf } => call.header("Cookie", cookie).header("X-CSRF-Token", csrf),
            Credentials::Bearer(token) => call.bearer(token),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(Call::get(format!("/api/v1{path}")))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::post(format!("/api/v1{path}")).json(body))
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::put(format!("/api/v1{path}")).json(body))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::patch(format!("/api/v1{path}")).json(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send(Call::delete(format!("/api/v1{path}")))
    }

    /// As [`Api::post`], at most once for each `key`.
    pub(crate) fn post_once(&self, path: &str, key: &str, body: &Value) -> Reply {
        self.send(Call::post(format!("/api/v1{path}")).header("Idempotency-Key", key).json(body))
    }

    /// As [`Api::patch`], if the resource is still as `etag` says.
    pub(crate) fn patch_if(&self, path: &str, etag: &str, body: &Value) -> Reply {
        self.send(Call::patch(format!("/api/v1{path}")).header("If-Match", etag).json(body))
    }

    /// An organization with an admin of its own, who has chosen `password`.
    #[track_caller]
    pub(crate) fn create_org(&self, slug: &str, email: &str, password: &str) {
        let seen = self.spool().count(email, INVITED);
        let reply = self.post("/orgs", &json!({"slug": slug, "admin": {"email": email}})).expect(201);
        self.first_login(email, password, seen, reply.json()["admin"]["temporary_password"].as_str());
    }

    pub(crate) fn create_project(&self, org: &str, slug: &str, public: bool) {
        self.post(&format!("/orgs/{org}/projects"), &json!({"slug": slug, "public": public})).expect(201);
    }

    /// Asks for a link that resets the password of `email`; its token.
    #[track_caller]
    pub(crate) fn forget_password(&self, email: &str) -> String {
        let seen = self.spool().count(email, RESET);
        self.post("/password/forgot", &json!({"email": email})).expect(202);
        self.spool().next(email, RESET, seen).reset_token()
    }

    /// Chooses another password; the session that goes on.
    #[track_caller]
    pub(crate) fn change_password(&self, current: &str, new: &str) -> Self {
        self.renewed(&self.post("/password", &json!({"current": current, "new": new})).expect(200), "")
    }

    /// Invites a person; the mail with their temporary password.
    #[track_caller]
    pub(crate) fn invite(&self, org: &str, name: &str) -> Mail {
        let seen = self.spool().count(name, INVITED);
        self.post(&format!("/orgs/{org}/users"), &json!({"name": name, "kind": "local"})).expect(201);
        self.spool().next(name, INVITED, seen)
    }

    /// A person who was invited and has chosen `password`.
    #[track_caller]
    pub(crate) fn create_user(&self, org: &str, name: &str, password: &str) {
        let seen = self.spool().count(name, INVITED);
        let reply = self.post(&format!("/orgs/{org}/users"), &json!({"name": name, "kind": "local"})).expect(201);
        self.first_login(name, password, seen, reply.json()["temporary_password"].as_str());
    }

    /// A machine user.
    #[track_caller]
    pub(crate) fn create_machine(&self, org: &str, name: &str) {
        self.post(&format!("/orgs/{org}/users"), &json!({"name": name, "kind": "machine"})).expect(201);
    }

    #[track_caller]
    fn first_login(&self, name: &str, password: &str, seen: usize, shown: Option<&str>) {
        let mailed = || self.spool().next(name, INVITED, seen).temporary_password();
        let temporary = shown.map_or_else(mailed, str::to_owned);
        let session = Self::login(self.endpoint.clone(), name, &temporary);
        session.change_password(&temporary, password);
    }

    #[track_caller]
    pub(crate) fn create_group(&self, org: &str, name: &str) {
        self.post(&format!("/orgs/{org}/groups"), &json!({"name": name})).expect(201);
    }

    #[track_caller]
    pub(crate) fn add_member(&self, org: &str, group: &str, user: &str) {
        let reply = self.post(&format!("/orgs/{org}/groups/{}/members", segment(group)), &json!({"user": user}));
        assert!(matches!(reply.status, 201 | 204), "{} {}", reply.status, reply.text());
    }

    /// A custom role; `change` alters what is sent.
    pub(crate) fn try_role(&self, org: &str, name: &str, base: &str, change: &Value) -> Reply {
        let mut body = json!({"name": name, "base": base});
        for (key, value) in change.as_object().into_iter().flatten() {
            body[key] = value.clone();
        }
        self.post(&format!("/orgs/{org}/roles"), &body)
    }

    /// Gives `user` a role in the organization, or in one project of it; the binding's id.
    #[track_caller]
    pub(crate) fn bind(&self, org: &str, user: &str, role: &str, project: Option<&str>) -> String {
        let body = json!({"user": user, "role": role, "project": project});
        let reply = self.post(&format!("/orgs/{org}/bindings"), &body).expect(201);
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    /// As [`Api::bind`], for a group.
    #[track_caller]
    pub(crate) fn bind_group(&self, org: &str, group: &str, role: &str, project: Option<&str>) -> String {
        let body = json!({"group": group, "role": role, "project": project});
        let reply = self.post(&format!("/orgs/{org}/bindings"), &body).expect(201);
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    /// A new API key of `user` (or one's own): its id and the key, shown this once.
    #[track_caller]
    pub(crate) fn create_api_key(&self, org: &str, user: Option<&str>, name: &str) -> (String, String) {
        let mut body = json!({"name": name});
        if let Some(user) = user {
            body["user"] = json!(user);
        }
        let reply = self.post(&format!("/orgs/{org}/apikeys"), &body).expect(201).json();
        let text = |field: &str| reply[field].as_str().expect(field).to_owned();
        (text("id"), text("key"))
    }

    /// The events of an organization that a query finds, newest first.
    #[track_caller]
    pub(crate) fn audit(&self, org: &str, query: &str) -> Vec<Value> {
        let reply = self.get(&format!("/orgs/{org}/audit?limit=500&{query}")).expect(200).json();
        reply["items"].as_array().expect("events").clone()
    }
}

/// A text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

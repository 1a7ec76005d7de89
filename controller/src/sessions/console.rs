//! The door: log-in, second factor, log-out; and one's sessions.

use std::fmt;

use askama::Template;
use axum::Json;
use axum::extract::{FromRequestParts, State as Shared};
use axum::response::Response;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use identity::Secret;
use identity::audit::Client;
use identity::login::{Factor, LoggedIn, LoginError, Method, Pending};
use identity::session::{LiveSession, NewSession, SessionKind};
use serde::Deserialize;

use super::api::{self, Credentials, FirstStep};
use super::list::{self, ListedSession};
use super::set_cookie;
use crate::State;
use crate::actor::{Holder, origin};
use crate::console::front::{own_path, then};
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice, see};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::page::PageQuery;

/// `/login`
#[derive(Template)]
#[template(path = "sessions/login.html")]
struct LoginPage {
    username: String,
    next: String,
    /// Somebody is logged in, and is to show once more who they are.
    again: bool,
    passkeys: bool,
    trouble: Option<Trouble>,
    notice: Option<String>,
}

/// `/login/second-factor`
#[derive(Template)]
#[template(path = "sessions/second_factor.html")]
struct FactorPage {
    token: String,
    totp: bool,
    /// Options for `navigator.credentials.get`; empty where no passkey can be shown.
    options: String,
    next: String,
    problem: Option<FormProblem>,
}

/// `/account/sessions`
#[derive(Template)]
#[template(path = "sessions/list.html")]
struct ListPage {
    frame: Frame,
    sessions: Vec<ListedSession>,
    first: String,
    next: Option<String>,
}

/// `/account/sessions/end-others`
#[derive(Template)]
#[template(path = "sessions/end_others.html")]
struct EndOthersPage {
    frame: Frame,
}

/// Why somebody did not get in.
#[derive(Debug, PartialEq, Eq)]
enum Trouble {
    /// Name or password.
    Wrong,
    /// The passkey.
    Passkey,
    /// The name is locked for so many minutes.
    Locked(i64),
    /// Too many tries, for so many seconds.
    Wait(i64),
    /// The log-in that waited is over.
    Ended,
}

impl Trouble {
    /// What a page says of it, and the status to say it with.
    fn of(error: LoginError) -> Result<(StatusCode, Self)> {
        Ok(match error {
            LoginError::Refused => (StatusCode::UNAUTHORIZED, Self::Wrong),
            LoginError::WrongFactor => (StatusCode::UNAUTHORIZED, Self::Passkey),
            LoginError::Ended => (StatusCode::UNAUTHORIZED, Self::Ended),
            LoginError::Locked { retry_after } => (StatusCode::TOO_MANY_REQUESTS, Self::Locked(minutes(retry_after))),
            LoginError::Busy { retry_after } => (StatusCode::TOO_MANY_REQUESTS, Self::Wait(retry_after.max(1))),
            LoginError::Throttled(throttled) => {
                (StatusCode::TOO_MANY_REQUESTS, Self::Wait(throttled.retry_after.max(1)))
            }
            other => return Err(other.into()),
        })
    }

    /// Seconds to wait, where that helps.
    fn seconds(&self) -> Option<i64> {
        match self {
            Self::Locked(minutes) => Some(minutes * 60),
            Self::Wait(seconds) => Some(*seconds),
            Self::Wrong | Self::Passkey | Self::Ended => None,
        }
    }
}

fn minutes(seconds: i64) -> i64 {
    seconds.max(1).saturating_add(59) / 60
}

/// Where a log-in leads.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct LoginQuery {
    next: String,
    /// Not empty: show the form to somebody who is logged in, too.
    again: String,
}

/// The fields of a log-in by password. No `Debug`: it holds one.
#[derive(Deserialize)]
pub(crate) struct LoginForm {
    username: String,
    password: Secret,
    #[serde(default)]
    next: String,
}

/// The fields of a second factor.
#[derive(Deserialize)]
pub(crate) struct FactorForm {
    token: Secret,
    /// Whether the page offers the authenticator app.
    #[serde(default)]
    totp: bool,
    #[serde(default)]
    options: String,
    #[serde(default)]
    code: Option<Secret>,
    #[serde(default)]
    recovery: Option<Secret>,
    /// What a passkey signed, as JSON.
    #[serde(default)]
    credential: Option<String>,
    #[serde(default)]
    next: String,
}

/// The fields of a log-in by passkey.
#[derive(Deserialize)]
pub(crate) struct PasskeyForm {
    token: Secret,
    credential: String,
    #[serde(default)]
    next: String,
}

/// The form. Whoever is logged in is led on.
pub(crate) async fn login(
    Shared(state): Shared<State>,
    Query(query): Query<LoginQuery>,
    mut parts: Parts,
) -> Result<Response> {
    let holder = Holder::from_request_parts(&mut parts, &state).await.ok();
    let again = !query.again.is_empty();
    match &holder {
        Some(holder) if !again => Ok(see(&onward(&state, &holder.session, &query.next).await?)),
        _ => {
            let username = holder.as_ref().map(|holder| holder.session.principal.name.clone()).unwrap_or_default();
            let again = again && holder.is_some();
            let notice = notice::read(&parts.headers, state.settings().secure_cookies).map(|notice| notice.0);
            let passkeys = state.identity().has_passkeys();
            // What leads elsewhere is not even repeated.
            let next = own_path(&query.next).unwrap_or_default().to_owned();
            console::page(&LoginPage { username, next, again, passkeys, trouble: None, notice })
        }
    }
}

/// Logs in by password.
pub(crate) async fn log_in(
    Shared(state): Shared<State>,
    parts: Parts,
    Form(given): Form<LoginForm>,
) -> Result<Response> {
    let credentials = Credentials { username: given.username.clone(), password: given.password };
    match api::first_step(&state, &origin(&parts, Client::Browser), &credentials).await {
        Ok(FirstStep::Session(session)) => enter(&state, &parts, &session, &given.next, None).await,
        Ok(FirstStep::SecondFactor(pending)) => console::page(&FactorPage::of(*pending, given.next)),
        Err(error) => refuse(&state, error, given.username, given.next),
    }
}

/// `/login/second-factor` is the answer to a password: by itself it leads to the log-in.
pub(crate) async fn no_factor() -> Response {
    see("/login")
}

impl FactorPage {
    fn of(pending: Pending, next: String) -> Self {
        Self {
            token: pending.token.expose().to_owned(),
            totp: pending.methods.contains(&Method::Totp),
            options: pending.passkey_options.map(|options| options.to_string()).unwrap_or_default(),
            next,
            problem: None,
        }
    }
}

/// Shows the second factor.
pub(crate) async fn show_second_factor(
    Shared(state): Shared<State>,
    parts: Parts,
    Form(given): Form<FactorForm>,
) -> Result<Response> {
    let filled = |secret: Option<Secret>| secret.filter(|secret| !secret.expose().trim().is_empty());
    let factor = match (filled(given.code), filled(given.recovery), given.credential.filter(|text| !text.is_empty())) {
        (_, _, Some(credential)) => Ok(Factor::Passkey(json(&credential)?)),
        (Some(code), None, None) => Ok(Factor::Code(code)),
        (None, Some(code), None) => Ok(Factor::Recovery(code)),
        _ => Err("fill in one of the two: a code of the app, or a recovery code"),
    };
    let from = origin(&parts, Client::Browser);
    let shown = match factor {
        Ok(factor) => state.identity().show_second_factor(&from, &given.token, factor, SessionKind::Browser).await,
        Err(message) => return again(&given.token, given.totp, given.options, given.next, message),
    };
    match shown {
        Ok(done) => arrive(&state, &parts, &done, &given.next).await,
        Err(error @ LoginError::WrongFactor) => {
            again(&given.token, given.totp, given.options, given.next, &error.to_string())
        }
        Err(error) => refuse(&state, error, String::new(), given.next),
    }
}

/// The same step once more: the log-in still waits.
fn again(token: &Secret, totp: bool, options: String, next: String, message: &str) -> Result<Response> {
    let problem = Some(FormProblem { field: "", message: console::form::sentence(message) });
    let token = token.expose().to_owned();
    console::page_as(StatusCode::UNPROCESSABLE_ENTITY, &FactorPage { token, totp, options, next, problem })
}

/// Logs in by passkey alone.
pub(crate) async fn log_in_by_passkey(
    Shared(state): Shared<State>,
    parts: Parts,
    Form(given): Form<PasskeyForm>,
) -> Result<Response> {
    let from = origin(&parts, Client::Browser);
    match state.identity().log_in_by_passkey(&from, &given.token, json(&given.credential)?).await {
        Ok(done) => arrive(&state, &parts, &done, &given.next).await,
        Err(error) => refuse(&state, error, String::new(), given.next),
    }
}

/// What a browser's passkey gave.
///
/// # Errors
/// 400 where it is no JSON.
pub(crate) fn json(credential: &str) -> Result<serde_json::Value> {
    serde_json::from_str(credential).map_err(|error| Error::Malformed(format!("the passkey: {error}")))
}

fn refuse(state: &State, error: LoginError, username: String, next: String) -> Result<Response> {
    let (status, trouble) = Trouble::of(error)?;
    let (passkeys, wait) = (state.identity().has_passkeys(), trouble.seconds());
    let page = LoginPage { username, next, again: false, passkeys, trouble: Some(trouble), notice: None };
    let mut response = console::page_as(status, &page)?;
    if status == StatusCode::UNAUTHORIZED {
        let challenge = HeaderValue::from_static("Bearer realm=\"wharfinger\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = wait {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    Ok(response)
}

async fn arrive(state: &State, parts: &Parts, done: &LoggedIn, next: &str) -> Result<Response> {
    let left = done.recovery_codes_left.map(|left| {
        let codes = if left == 1 { "1 code is".to_owned() } else { format!("{left} codes are") };
        format!("You used a recovery code up; {codes} left. You can make new ones under My account, Second factor.")
    });
    enter(state, parts, &done.session, next, left.as_deref()).await
}

/// Leads somebody in who logged in just now. The session that the browser had before ends: nobody could reach it any more.
async fn enter(state: &State, parts: &Parts, session: &NewSession, next: &str, told: Option<&str>) -> Result<Response> {
    let mut before = parts.clone();
    before.method = http::Method::GET;
    if let Ok(holder) = Holder::from_request_parts(&mut before, state).await
        && holder.session.kind == SessionKind::Browser
    {
        state.identity().end_session(&holder.caller, &holder.session).await?;
    }
    let live = live(state, session).await?;
    api::note_visit(state, &live).await;
    let to = onward(state, &live, next).await?;
    let response = match told {
        Some(told) => notice::done(state, &to, told),
        None => see(&to),
    };
    Ok(with_session(state, session, response))
}

/// A session that was begun or renewed just now.
///
/// # Errors
/// 401 where something ended it meanwhile.
async fn live(state: &State, session: &NewSession) -> Result<LiveSession> {
    let found = state.identity().find_session(&session.token, SessionKind::Browser).await?;
    found.ok_or(Error::Unauthenticated)
}

/// Where somebody whose session was renewed just now goes on.
///
/// # Errors
/// 401 where something ended it meanwhile.
pub(crate) async fn renewed_onward(state: &State, session: &NewSession, next: &str) -> Result<String> {
    onward(state, &live(state, session).await?, next).await
}

/// Where a session goes on: what must be done first, then what was wanted, else a choice where there is one.
async fn onward(state: &State, live: &LiveSession, next: &str) -> Result<String> {
    if live.must_change_password {
        return Ok(then("/password", next));
    }
    if live.must_enrol {
        return Ok(then("/second-factor/enrol", next));
    }
    if let Some(next) = own_path(next) {
        return Ok(next.to_owned());
    }
    let mut session = state.db().read().await?;
    let orgs = storage::orgs::list_of_user(&mut session, &live.principal.user_id, "", 2).await?;
    Ok(if orgs.len() > 1 { "/organization".to_owned() } else { "/".to_owned() })
}

/// An answer that gives the browser its session.
pub(crate) fn with_session(state: &State, session: &NewSession, mut response: Response) -> Response {
    if let Some(cookie) = api::new_cookie(state, session, SessionKind::Browser) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// Logs out. Where the session is over already, nothing is left to be done.
pub(crate) async fn log_out(Shared(state): Shared<State>, mut parts: Parts) -> Result<Response> {
    match Holder::from_request_parts(&mut parts, &state).await {
        Ok(holder) => state.identity().end_session(&holder.caller, &holder.session).await?,
        Err(Error::Unauthenticated) => {}
        Err(error) => return Err(error),
    }
    let mut response = notice::done(&state, "/login", "You are logged out.");
    let cookie = set_cookie("", 0, state.settings().secure_cookies);
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// One's sessions.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Query(query): Query<PageQuery>,
) -> Result<Response> {
    let here = "/account/sessions";
    let first = if query.after.is_some() { here.to_owned() } else { String::new() };
    let query = PageQuery { limit: Some(console::PAGE), ..query };
    let Json(page) = list::list_own_sessions(viewer.holder(), Shared(state), Query(query)).await?;
    let next = page.next.map(|after| format!("{here}?after={}", console::front::query(&after)));
    console::page(&ListPage { frame: viewer.frame(Section::Account), sessions: page.items, first, next })
}

/// Ends one; its own means to log out.
pub(crate) async fn end(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    parts: Parts,
) -> Result<Response> {
    if id == viewer.session.id {
        return log_out(Shared(state), parts).await;
    }
    list::end_own_session(viewer.holder(), Shared(state.clone()), Path(id)).await?;
    Ok(notice::done(&state, "/account/sessions", "The session is ended."))
}

/// Asks before everything else ends.
pub(crate) async fn ask_end_others(viewer: Viewer) -> Result<Response> {
    console::page(&EndOthersPage { frame: viewer.frame(Section::Account) })
}

/// Ends everything else.
pub(crate) async fn end_others(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    let session = list::others_ended(&state, &viewer.holder()).await?;
    let told = "Every other session is ended, and whatever docker kept.";
    Ok(with_session(&state, &session, notice::done(&state, "/account/sessions", told)))
}

/// Where somebody shows once more who they are, and goes on from there.
pub(crate) fn again_and(next: &str) -> String {
    format!("/login?again=1&next={}", console::front::query(next))
}

/// What a client called itself, as people say it.
#[derive(Debug)]
struct Agent<'a>(&'a str);

impl fmt::Display for Agent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Others call themselves Chrome and Safari too: the first that fits is it.
        const PROGRAMS: [(&str, &str); 8] = [
            ("Edg/", "Edge"),
            ("OPR/", "Opera"),
            ("Firefox/", "Firefox"),
            ("Chrome/", "Chrome"),
            ("Safari/", "Safari"),
            ("rctl/", "rctl"),
            ("curl/", "curl"),
            ("Mozilla/", "A browser"),
        ];
        const SYSTEMS: [(&str, &str); 6] = [
            ("Android", "Android"),
            ("iPhone", "iPhone"),
            ("iPad", "iPad"),
            ("Windows", "Windows"),
            ("Mac OS X", "macOS"),
            ("Linux", "Linux"),
        ];
        let of = |known: &[(&str, &'static str)]| known.iter().find(|(part, _)| self.0.contains(part)).map(|one| one.1);
        match (of(&PROGRAMS), of(&SYSTEMS)) {
            (Some(program), Some(system)) => write!(f, "{program} on {system}"),
            (Some(program), None) => f.write_str(program),
            (None, _) if self.0.is_empty() => f.write_str("Unknown program"),
            (None, _) => f.write_str(self.0),
        }
    }
}

impl ListedSession {
    /// The client, as people say it.
    fn client(&self) -> String {
        Agent(&self.agent).to_string()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use axum::body::Body;
    use http::{Method, Request, header};
    use serde_json::{Value, json};

    use super::Agent;
    use crate::testing::{ADMIN, Caller, Controller, PASSWORD, Reply, temporary_password};

    /// The session that an answer of the door gives; its token is in the page that follows.
    async fn session(controller: &Controller, reply: &Reply) -> Caller {
        let mut cookies = reply.headers.get_all(header::SET_COOKIE).into_iter().map(|value| value.to_str().unwrap());
        let cookie = cookies.rfind(|cookie| cookie.starts_with("__Host-wharfinger_session=")).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && cookie.contains("Secure"));
        let cookie = cookie.split(';').next().unwrap().to_owned();
        let caller = Caller::Session { cookie: cookie.clone(), csrf: String::new() };
        let csrf = controller.get(&caller, "/session").await.expect(200).text("csrf_token");
        Caller::Session { cookie, csrf }
    }

    fn hidden(page: &Reply, name: &str) -> String {
        let at = page.raw.find(&format!("name=\"{name}\" value=\"")).unwrap();
        page.raw[at..].split('"').nth(3).unwrap().to_owned()
    }

    async fn log_in(controller: &Controller, password: &str, next: &str) -> Reply {
        let fields = [("username", ADMIN), ("password", password), ("next", next)];
        controller.submit(&Caller::Nobody, "/login", &fields).await
    }

    #[tokio::test]
    async fn a_password_opens_a_session_and_leads_where_it_was_wanted_but_never_away() {
        let controller = Controller::start().await;
        let page = controller.page(&Caller::Nobody, "/login?next=%2Forgs%2Fmain%2Fgroups").await.expect(200);
        assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
        assert!(page.raw.contains("name=\"next\" value=\"/orgs/main/groups\""), "{}", page.raw);
        assert!(page.raw.contains("autocomplete=\"current-password\""));
        for (next, to) in [
            ("/orgs/main/groups", "/orgs/main/groups"),
            ("", "/"),
            ("//evil.example", "/"),
            ("/\\evil.example", "/"),
            ("https://evil.example/", "/"),
            ("javascript:alert(1)", "/"),
        ] {
            let reply = log_in(&controller, PASSWORD, next).await.expect(303);
            assert_eq!(reply.headers[header::LOCATION], to, "{next}");
            let caller = session(&controller, &reply).await;
            // Whoever is in already is led on.
            let led = controller.page(&caller, "/login?next=//evil.example").await.expect(303);
            assert_eq!(led.headers[header::LOCATION], "/");
        }
    }

    #[tokio::test]
    async fn the_doors_pages_load_their_own_files_alone_and_are_kept_and_framed_by_nobody() {
        let controller = Controller::start().await;
        for path in ["/login", "/password-reset"] {
            let page = controller.page(&Caller::Nobody, path).await.expect(200);
            let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
            for part in ["default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"] {
                assert!(policy.contains(part), "{policy}");
            }
            assert!(!policy.contains("unsafe"));
            assert_eq!(page.headers[header::CACHE_CONTROL], "no-store");
            assert_eq!(page.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
            for forbidden in ["style=", " onclick", " onsubmit", "<style", "javascript:", "http://", "https://"] {
                assert!(!page.raw.contains(forbidden), "{forbidden} in {path}");
            }
        }
    }

    #[tokio::test]
    async fn a_wrong_password_says_nothing_of_the_name_and_a_lock_says_what_to_do() {
        let controller = Controller::start().await;
        let mut pages = Vec::new();
        for name in [ADMIN, "nobody@example.com"] {
            for _ in 0..5 {
                let fields = [("username", name), ("password", "wr<o>ng"), ("next", "")];
                let reply = controller.submit(&Caller::Nobody, "/login", &fields).await.expect(401);
                assert!(reply.raw.contains("The e-mail or the password is wrong"), "{}", reply.raw);
                assert!(!reply.raw.contains("wr<o>ng") && !reply.raw.contains("wr&#60;"), "no password comes back");
                assert!(!reply.headers.contains_key(header::SET_COOKIE));
                pages.push(reply.raw.replace(name, "NAME"));
            }
            let fields = [("username", name), ("password", PASSWORD), ("next", "")];
            let locked = controller.submit(&Caller::Nobody, "/login", &fields).await.expect(429);
            assert!(locked.raw.contains("locked for 15 minutes") && locked.raw.contains("/password-reset"));
            assert!(locked.headers.contains_key(header::RETRY_AFTER));
            pages.push(locked.raw.replace(name, "NAME"));
        }
        let (known, unknown) = pages.split_at(6);
        assert_eq!(known, unknown, "known and unknown names look alike");
    }

    #[tokio::test]
    async fn a_page_of_another_site_logs_nobody_in() {
        let controller = Controller::start().await;
        for path in ["/login", "/login/second-factor", "/login/passkey", "/password-reset", "/password-reset/choose"] {
            let request = Request::post(path)
                .header(header::HOST, "localhost")
                .header(header::ORIGIN, "https://evil.example")
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .body(Body::from(format!(
                    "username={ADMIN}&password={PASSWORD}&token=x&credential=1&email=a&new=b&repeat=b"
                )))
                .unwrap();
            let refused = controller.send(request).await.expect(403);
            assert!(!refused.headers.contains_key(header::SET_COOKIE));
        }
    }

    #[tokio::test]
    async fn a_log_in_leaves_no_session_behind_and_fixes_none() {
        let controller = Controller::start().await;
        let old = controller.login(ADMIN).await;
        let Caller::Session { cookie, .. } = &old else { panic!() };
        let again = controller.page(&old, "/login?again=1&next=/account/mfa").await.expect(200);
        assert!(again.raw.contains("Log in again") && again.raw.contains(&format!("value=\"{ADMIN}\"")));
        let request = Request::post("/login")
            .header(header::COOKIE, cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Body::from(format!("username={ADMIN}&password={}&next=/account/mfa", PASSWORD.replace(' ', "+"))))
            .unwrap();
        let reply = controller.send(request).await.expect(303);
        assert_eq!(reply.headers[header::LOCATION], "/account/mfa");
        session(&controller, &reply).await;
        controller.get(&old, "/session").await.expect(401);
    }

    #[tokio::test]
    async fn an_invitation_leads_to_a_password_of_ones_own_and_on() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let new = json!({"name": "new@example.com", "kind": "local"});
        controller.post(&admin, "/orgs/main/users", &new).await.expect(201);
        let temporary = temporary_password(&controller.mail_to("new@example.com").await);
        let fields = [("username", "new@example.com"), ("password", temporary.as_str()), ("next", "/account/keys")];
        let reply = controller.submit(&Caller::Nobody, "/login", &fields).await.expect(303);
        assert_eq!(reply.headers[header::LOCATION], "/password?next=%2Faccount%2Fkeys");
        let caller = session(&controller, &reply).await;
        let welcome = controller.page(&caller, "/password?next=%2Faccount%2Fkeys").await.expect(200);
        assert!(welcome.raw.contains("Welcome to main"), "{}", welcome.raw);
        let away = controller.page(&caller, "/account").await.expect(303);
        assert_eq!(away.headers[header::LOCATION], "/password?next=%2Faccount");
        let chosen = "violet otter juggles seven";
        for (current, new, repeat, at) in [
            ("wrong", chosen, chosen, "current-wrong"),
            (&temporary, "short", "short", "new-wrong"),
            (&temporary, chosen, "another", "repeat-wrong"),
        ] {
            let fields = [("current", current), ("new", new), ("repeat", repeat)];
            let refused = controller.submit(&caller, "/password", &fields).await.expect(422);
            assert!(refused.raw.contains(&format!("id=\"{at}\"")), "{at}: {}", refused.raw);
            assert!(!refused.raw.contains(chosen) && !refused.raw.contains(&temporary));
        }
        let fields = [("current", temporary.as_str()), ("new", chosen), ("repeat", chosen), ("next", "/account/keys")];
        let reply = controller.submit(&caller, "/password", &fields).await.expect(303);
        assert_eq!(reply.headers[header::LOCATION], "/account/keys");
        controller.get(&caller, "/session").await.expect(401);
        let caller = session(&controller, &reply).await;
        // Whoever had one chosen for them by an administrator is not new.
        assert_eq!(controller.page(&caller, "/password").await.expect(303).headers["location"], "/account/password");
    }

    #[tokio::test]
    async fn a_second_factor_is_asked_for_without_telling_its_token_to_the_address() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let app = controller.submit(&admin, "/second-factor/enrol/app", &[("next", "/account/mfa")]).await.expect(200);
        assert!(app.raw.contains("<svg") && app.raw.contains("role=\"img\""), "{}", app.raw);
        let svg = &app.raw[app.raw.rfind("<svg").unwrap()..app.raw.rfind("</svg>").unwrap()];
        assert!(!svg.contains("style"), "the policy forbids styles in place");
        let wrong = controller
            .submit(&admin, "/second-factor/enrol/app/confirm", &[("code", "000000"), ("next", "")])
            .await
            .expect(422);
        assert!(wrong.raw.contains("code-wrong"), "{}", wrong.raw);
        let code = app_code(&controller, &app);
        let fields = [("code", code.as_str()), ("next", "/account/mfa")];
        let on = controller.submit(&admin, "/second-factor/enrol/app/confirm", &fields).await.expect(200);
        assert_eq!(on.raw.matches("<li><code>").count(), 10);
        let admin = session(&controller, &on).await;
        let recovery = on.raw.split("<li><code>").nth(1).unwrap().split('<').next().unwrap().to_owned();
        let file = controller.submit(&admin, "/account/mfa/recovery-codes/file", &[("codes", &recovery)]).await;
        let file = file.expect(200);
        assert!(file.raw.contains(&recovery) && file.headers["content-disposition"].to_str().unwrap().contains(".txt"));
        let markup = [("codes", "<script>")];
        controller.submit(&admin, "/account/mfa/recovery-codes/file", &markup).await.expect(400);

        let second = log_in(&controller, PASSWORD, "/account/mfa").await.expect(200);
        assert!(!second.headers.contains_key(header::SET_COOKIE), "no session yet");
        let token = hidden(&second, "token");
        let fields = [("token", token.as_str()), ("totp", "true"), ("code", "000000"), ("next", "/account/mfa")];
        let wrong = controller.submit(&Caller::Nobody, "/login/second-factor", &fields).await.expect(422);
        assert_eq!((hidden(&wrong, "token"), hidden(&wrong, "next")), (token.clone(), "/account/mfa".to_owned()));
        let empty = [("token", token.as_str()), ("totp", "true"), ("next", "")];
        controller.submit(&Caller::Nobody, "/login/second-factor", &empty).await.expect(422);
        let fields = [("token", token.as_str()), ("recovery", recovery.as_str()), ("next", "/account/mfa")];
        let reply = controller.submit(&Caller::Nobody, "/login/second-factor", &fields).await.expect(303);
        assert_eq!(reply.headers[header::LOCATION], "/account/mfa");
        let notice =
            reply.headers.get_all(header::SET_COOKIE).into_iter().any(|c| c.to_str().unwrap().contains("9%20codes"));
        assert!(notice, "{:?}", reply.headers);
        let ended = controller.submit(&Caller::Nobody, "/login/second-factor", &fields).await.expect(401);
        assert!(ended.raw.contains("Begin again with your password"), "{}", ended.raw);
        assert_eq!(
            controller.page(&Caller::Nobody, "/login/second-factor").await.expect(303).headers["location"],
            "/login"
        );
    }

    /// The code that an app shows whose secret is on a page.
    fn app_code(controller: &Controller, app: &Reply) -> String {
        let secret = app.raw.split("<pre><code>").nth(1).unwrap().split('<').next().unwrap().replace(' ', "");
        let secret = data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).unwrap();
        let app = totp_rs::Builder::new()
            .with_algorithm(totp_rs::Algorithm::SHA1)
            .with_digits(6)
            .with_step_duration(30)
            .with_secret(secret)
            .build_noncompliant();
        app.generate(controller.identity.now().unsigned_abs()).to_string()
    }

    #[tokio::test]
    async fn a_passkey_is_renamed_by_its_owner_alone() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let app = controller.submit(&admin, "/second-factor/enrol/app", &[]).await.expect(200);
        let code = app_code(&controller, &app);
        let on = controller.submit(&admin, "/second-factor/enrol/app/confirm", &[("code", &code)]).await.expect(200);
        let admin = session(&controller, &on).await;
        let other = controller.member("other@example.com", None).await;
        let user_id = {
            let found = storage::users::find_by_name(&mut controller.db.read().await.unwrap(), ADMIN).await;
            found.unwrap().unwrap().id
        };
        let passkey = storage::passkeys::Passkey {
            id: "a1".into(),
            user_id,
            name: "old <b>".into(),
            credential: "{}".into(),
            created_at: 1,
            last_used_at: None,
        };
        let mut tx = controller.db.begin().await.unwrap();
        storage::passkeys::create(&mut tx, &passkey).await.unwrap();
        tx.commit().await.unwrap();
        let path = "/account/mfa/passkeys/a1/rename";
        assert!(controller.page(&admin, "/account/mfa").await.expect(200).raw.contains(path));
        let asked = controller.page(&admin, path).await.expect(200);
        assert!(asked.raw.contains("value=\"old &#60;b&#62;\""), "{}", asked.raw);
        let empty = controller.submit(&admin, path, &[("name", "  ")]).await.expect(422);
        assert!(empty.raw.contains("1 to 64 characters"), "{}", empty.raw);
        controller.submit(&admin, path, &[("name", "phone")]).await.expect(303);
        let listed = controller.get(&admin, "/account/mfa/passkeys").await.expect(200);
        assert_eq!(listed.body["items"][0]["name"], "phone");
        let read = controller.get(&admin, "/orgs/main/audit?action=passkey.rename").await.expect(200);
        assert_eq!(read.body["items"].as_array().map_or(0, Vec::len), 1);
        controller.page(&other, path).await.expect(404);
        controller.submit(&other, path, &[("name", "mine")]).await.expect(404);
        let named = json!({"name": "laptop"});
        let api = "/account/mfa/passkeys/a1";
        controller.call(&other, Method::PATCH, api, &named).await.expect(404);
        let renamed = controller.call(&admin, Method::PATCH, api, &named).await.expect(200);
        assert_eq!(renamed.body["name"], "laptop");
    }

    #[tokio::test]
    async fn where_a_second_factor_is_asked_for_everything_leads_to_its_page() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let required = json!({"mfa_required": true});
        controller.call(&admin, Method::PATCH, "/orgs/main/settings", &required).await.expect(200);
        let reply = log_in(&controller, PASSWORD, "/orgs/main/groups").await.expect(303);
        assert_eq!(reply.headers[header::LOCATION], "/second-factor/enrol?next=%2Forgs%2Fmain%2Fgroups");
        let admin = session(&controller, &reply).await;
        let page = controller.page(&admin, "/second-factor/enrol?next=%2Forgs%2Fmain%2Fgroups").await.expect(200);
        assert!(page.raw.contains("A second factor is needed") && page.raw.contains("data-passkey=\"create\""));
        for path in ["/orgs/main/groups", "/account/keys", "/account/password", "/device"] {
            let led = controller.page(&admin, path).await.expect(303);
            assert!(led.headers["location"].to_str().unwrap().starts_with("/second-factor/enrol"), "{path}");
        }
        controller
            .submit(&admin, "/account/password", &[("current", "x"), ("new", "y"), ("repeat", "y")])
            .await
            .expect(303);
    }

    #[tokio::test]
    async fn logging_out_takes_the_cookie_away_and_is_told() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let Caller::Session { cookie, .. } = admin.clone() else { panic!() };
        let forged = Caller::Session { cookie, csrf: String::new() };
        controller.submit(&forged, "/logout", &[]).await.expect(403);
        let out = controller.submit(&admin, "/logout", &[]).await.expect(303);
        assert_eq!(out.headers[header::LOCATION], "/login");
        let cookies: Vec<&str> =
            out.headers.get_all(header::SET_COOKIE).into_iter().map(|value| value.to_str().unwrap()).collect();
        assert!(cookies.iter().any(|c| c.starts_with("__Host-wharfinger_session=;") && c.contains("Max-Age=0")));
        controller.get(&admin, "/session").await.expect(401);
        let notice = cookies[0].split(';').next().unwrap();
        let request = Request::get("/login").header(header::COOKIE, notice).body(Body::empty()).unwrap();
        assert!(controller.send(request).await.expect(200).raw.contains("You are logged out."));
        controller.submit(&admin, "/logout", &[]).await.expect(303);
    }

    #[tokio::test]
    async fn sessions_are_seen_and_ended_one_by_one_or_all_others() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let second = controller.login(ADMIN).await;
        let list = controller.page(&admin, "/account/sessions").await.expect(200);
        assert_eq!(list.raw.matches("This session").count(), 1);
        let id = controller.get(&second, "/session").await.expect(200).text("id");
        controller.submit(&admin, &format!("/account/sessions/{id}/end"), &[]).await.expect(303);
        controller.get(&second, "/session").await.expect(401);
        let third = controller.login(ADMIN).await;
        controller.page(&admin, "/account/sessions/end-others").await.expect(200);
        let ended = controller.submit(&admin, "/account/sessions/end-others", &[]).await.expect(303);
        controller.get(&third, "/session").await.expect(401);
        let admin = session(&controller, &ended).await;
        let other = controller.other_org().await;
        let id = controller.get(&other, "/session").await.expect(200).text("id");
        controller.submit(&admin, &format!("/account/sessions/{id}/end"), &[]).await.expect(404);
        controller.get(&other, "/session").await.expect(200);
        let id = controller.get(&admin, "/session").await.expect(200).text("id");
        let out = controller.submit(&admin, &format!("/account/sessions/{id}/end"), &[]).await.expect(303);
        assert_eq!(out.headers[header::LOCATION], "/login");
    }

    #[tokio::test]
    async fn of_several_organizations_one_is_chosen_after_the_log_in() {
        let controller = Controller::start().await;
        controller.other_org().await;
        controller.add("other", ADMIN).await;
        let reply = log_in(&controller, PASSWORD, "").await.expect(303);
        assert_eq!(reply.headers[header::LOCATION], "/organization");
        let caller = session(&controller, &reply).await;
        let choice = controller.page(&caller, "/organization").await.expect(200);
        assert!(choice.raw.contains("Go on") && choice.raw.contains("value=\"other\""), "{}", choice.raw);
        assert_eq!(controller.call(&caller, Method::POST, "/logout", &Value::Null).await.status, 204);
    }

    #[test]
    fn clients_are_called_as_people_do() {
        for (agent, text) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36",
                "Chrome on Linux",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Mobile Safari/604",
                "Safari on iPhone",
            ),
            ("Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Windows"),
            ("rctl/1.0", "rctl"),
            ("something", "something"),
            ("", "Unknown program"),
        ] {
            assert_eq!(Agent(agent).to_string(), text);
        }
    }
}

//! Second factors: adding the first, and what becomes of them.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use identity::Secret;
use identity::mfa::Changed;
use identity::session::NewSession;
use serde::Deserialize;

use super::api::{self, MfaView, PasskeyChange, PasskeyToAdd, PasskeyView, TotpCode, TotpRemoval};
use crate::State;
use crate::actor::Holder;
use crate::console::front::own_path;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice, see};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::passwords::console::NextQuery;
use crate::sessions::console::{json, with_session};

/// Where second factors are shown.
const HERE: &str = "/account/mfa";
/// Recovery codes that there are at a time.
const CODES: usize = 10;

/// `/second-factor/enrol`
#[derive(Template)]
#[template(path = "mfa/enrol.html")]
struct EnrolPage {
    csrf: String,
    /// Whether nothing else can be done before.
    must: bool,
    passkeys: bool,
    /// Whether the log-in is not long ago.
    fresh: bool,
    next: String,
    problem: Option<FormProblem>,
}

/// `/second-factor/enrol/app`
#[derive(Template)]
#[template(path = "mfa/app.html")]
struct AppPage {
    csrf: String,
    /// The QR code, an SVG of ours; `None` where it was shown before.
    svg: Option<String>,
    /// The secret in groups of four.
    secret: String,
    next: String,
    problem: Option<FormProblem>,
}

/// Recovery codes, this once.
#[derive(Template)]
#[template(path = "mfa/codes.html")]
struct CodesPage {
    csrf: String,
    codes: Vec<String>,
    next: String,
    added: &'static str,
}

/// `/account/mfa`
#[derive(Template)]
#[template(path = "mfa/show.html")]
struct ShowPage {
    frame: Frame,
    mfa: MfaView,
    passkeys: bool,
    fresh: bool,
    problem: Option<FormProblem>,
}

/// `/account/mfa/totp/remove`
#[derive(Template)]
#[template(path = "mfa/remove_totp.html")]
struct RemoveTotpPage {
    frame: Frame,
    /// Whether it is the last factor.
    last: bool,
    required: bool,
    problem: Option<FormProblem>,
}

/// `/account/mfa/passkeys/{id}/remove`
#[derive(Template)]
#[template(path = "mfa/remove_passkey.html")]
struct RemovePasskeyPage {
    frame: Frame,
    passkey: PasskeyView,
    last: bool,
    required: bool,
}

/// `/account/mfa/passkeys/{id}/rename`
#[derive(Template)]
#[template(path = "mfa/rename_passkey.html")]
struct RenamePasskeyPage {
    frame: Frame,
    passkey: PasskeyView,
    typed: String,
    problem: Option<FormProblem>,
}

/// A code of the authenticator app. No `Debug`: it is one.
#[derive(Deserialize)]
pub(crate) struct CodeForm {
    code: Secret,
    #[serde(default)]
    next: String,
}

/// Where to go on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NextForm {
    next: String,
}

/// What to call a passkey.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NameForm {
    name: String,
}

/// A passkey to be. No `Debug`: it holds what names the ceremony.
#[derive(Deserialize)]
pub(crate) struct PasskeyForm {
    token: Secret,
    credential: String,
    name: String,
    #[serde(default)]
    next: String,
}

/// What proves that it is the user. No `Debug`.
#[derive(Deserialize)]
pub(crate) struct ProofForm {
    #[serde(default)]
    code: Option<Secret>,
    #[serde(default)]
    password: Option<Secret>,
}

/// Recovery codes that their owner wants as a file. No `Debug`.
#[derive(Deserialize)]
pub(crate) struct FileForm {
    #[serde(default)]
    codes: Vec<String>,
}

fn csrf(holder: &Holder) -> String {
    holder.session.csrf_token.expose().to_owned()
}

impl EnrolPage {
    fn of(state: &State, holder: &Holder, next: String, problem: Option<FormProblem>) -> Self {
        Self {
            csrf: csrf(holder),
            must: holder.session.must_enrol,
            passkeys: state.identity().has_passkeys(),
            fresh: state.identity().may_change_factors(&holder.session),
            next,
            problem,
        }
    }
}

/// Which factor to add.
pub(crate) async fn enrol(
    holder: Holder,
    Shared(state): Shared<State>,
    Query(query): Query<NextQuery>,
) -> Result<Response> {
    api::may_enrol(&holder)?;
    console::page(&EnrolPage::of(&state, &holder, query.next, None))
}

/// Begins with an authenticator app: shows its secret.
pub(crate) async fn propose_app(
    holder: Holder,
    Shared(state): Shared<State>,
    Form(given): Form<NextForm>,
) -> Result<Response> {
    let page = EnrolPage::of(&state, &holder, given.next.clone(), None);
    match api::propose_totp(holder, Shared(state)).await {
        Ok(Json(shown)) => {
            let secret = grouped(&shown.secret);
            let (csrf, svg) = (page.csrf, Some(shown.svg));
            console::page(&AppPage { csrf, svg, secret, next: given.next, problem: None })
        }
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            console::page_as(status, &EnrolPage { problem: Some(problem), ..page })
        }
    }
}

/// A secret as people can type it.
fn grouped(secret: &str) -> String {
    let parts: Vec<&str> =
        (0..secret.len()).step_by(4).filter_map(|at| secret.get(at..secret.len().min(at + 4))).collect();
    parts.join(" ")
}

/// The page is the answer to a button: by itself it leads to the choice.
pub(crate) async fn no_app() -> Response {
    see("/second-factor/enrol")
}

/// The codes are the answer to a button.
pub(crate) async fn no_codes() -> Response {
    see(HERE)
}

/// Turns the authenticator app on.
pub(crate) async fn confirm_app(
    holder: Holder,
    Shared(state): Shared<State>,
    Form(given): Form<CodeForm>,
) -> Result<Response> {
    match api::totp_confirmed(&state, &holder, &TotpCode { code: given.code }).await {
        Ok(changed) => added(&state, &changed, &given.next, "Your authenticator app is on"),
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let (csrf, problem) = (csrf(&holder), Some(problem));
            console::page_as(status, &AppPage { csrf, svg: None, secret: String::new(), next: given.next, problem })
        }
    }
}

/// Adds a passkey.
pub(crate) async fn add_passkey(
    holder: Holder,
    Shared(state): Shared<State>,
    Form(given): Form<PasskeyForm>,
) -> Result<Response> {
    let new = PasskeyToAdd { token: given.token, name: given.name, credential: json(&given.credential)? };
    match api::passkey_added(&state, &holder, &new).await {
        Ok(changed) => added(&state, &changed, &given.next, "Your passkey is added"),
        Err(error) => {
            let (status, mut problem) = FormProblem::of(error)?;
            problem.field = "";
            console::page_as(status, &EnrolPage::of(&state, &holder, given.next, Some(problem)))
        }
    }
}

/// A factor was added: shows the recovery codes that came with it.
fn added(state: &State, changed: &Changed, next: &str, what: &'static str) -> Result<Response> {
    let session = &changed.session;
    let to = own_path(next).unwrap_or("/").to_owned();
    let response = if changed.recovery_codes.is_empty() {
        notice::done(state, &to, &format!("{what}."))
    } else {
        let (csrf, codes) = (session.csrf_token.expose().to_owned(), api::texts(&changed.recovery_codes));
        console::page(&CodesPage { csrf, codes, next: to, added: what })?
    };
    Ok(with_session(state, session, response))
}

/// One's second factors.
pub(crate) async fn show(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    console::page(&ShowPage::of(&viewer, &state, None).await?)
}

impl ShowPage {
    async fn of(viewer: &Viewer, state: &State, problem: Option<FormProblem>) -> Result<Self> {
        let Json(mfa) = api::get_mfa(viewer.holder(), Shared(state.clone())).await?;
        let (passkeys, fresh) = (state.identity().has_passkeys(), state.identity().may_change_factors(&viewer.session));
        Ok(Self { frame: viewer.frame(Section::Account), mfa, passkeys, fresh, problem })
    }
}

/// Asks for proof before the authenticator app goes.
pub(crate) async fn ask_remove_app(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    console::page(&RemoveTotpPage::of(&viewer, state, None).await?)
}

impl RemoveTotpPage {
    async fn of(viewer: &Viewer, state: State, problem: Option<FormProblem>) -> Result<Self> {
        let Json(mfa) = api::get_mfa(viewer.holder(), Shared(state)).await?;
        let (last, required) = (mfa.passkeys.is_empty(), mfa.required);
        Ok(Self { frame: viewer.frame(Section::Account), last, required, problem })
    }
}

/// Takes the authenticator app away.
pub(crate) async fn remove_app(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Form(given): Form<ProofForm>,
) -> Result<Response> {
    let filled = |secret: Option<Secret>| secret.filter(|secret| !secret.expose().is_empty());
    let (code, password) = (filled(given.code), filled(given.password));
    let removed = if code.is_none() && password.is_none() {
        Err(Error::invalid("code", "fill in a code of the app, or your password"))
    } else {
        let password = if code.is_some() { None } else { password };
        api::totp_removed(&state, &viewer.holder(), TotpRemoval { password, code }).await
    };
    match removed {
        Ok(changed) => Ok(gone(&state, &changed.session, "The authenticator app is removed.")),
        Err(error) => {
            let (status, problem) = match error {
                Error::BadCredentials => {
                    let message = "That is not your password.".into();
                    (StatusCode::UNPROCESSABLE_ENTITY, FormProblem { field: "password", message })
                }
                error => FormProblem::of(error)?,
            };
            console::page_as(status, &RemoveTotpPage::of(&viewer, state, Some(problem)).await?)
        }
    }
}

fn gone(state: &State, session: &NewSession, told: &str) -> Response {
    with_session(state, session, notice::done(state, HERE, told))
}

/// Asks what to call a passkey.
pub(crate) async fn ask_rename_passkey(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Response> {
    let (passkey, _) = passkey(&viewer, &state, &id).await?;
    let (frame, typed) = (viewer.frame(Section::Account), passkey.name.clone());
    console::page(&RenamePasskeyPage { frame, passkey, typed, problem: None })
}

/// Gives a passkey another name.
pub(crate) async fn rename_passkey(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(id): Path<String>,
    Form(NameForm { name: typed }): Form<NameForm>,
) -> Result<Response> {
    let given = PasskeyChange { name: typed.clone() };
    let renamed =
        api::rename_passkey(viewer.holder(), Shared(state.clone()), Path(id.clone()), crate::extract::Json(given))
            .await;
    match renamed {
        Ok(_) => Ok(notice::done(&state, HERE, "The passkey has another name.")),
        Err(error) => {
            let (status, problem) = FormProblem::of(error)?;
            let (passkey, _) = passkey(&viewer, &state, &id).await?;
            let (frame, problem) = (viewer.frame(Section::Account), Some(problem));
            console::page_as(status, &RenamePasskeyPage { frame, passkey, typed, problem })
        }
    }
}

/// A passkey of one's own, and the other factors.
async fn passkey(viewer: &Viewer, state: &State, id: &str) -> Result<(PasskeyView, MfaView)> {
    let Json(mut mfa) = api::get_mfa(viewer.holder(), Shared(state.clone())).await?;
    let at = mfa.passkeys.iter().position(|passkey| passkey.id == id).ok_or(Error::NotFound("passkey"))?;
    Ok((mfa.passkeys.remove(at), mfa))
}

/// Asks before a passkey goes.
pub(crate) async fn ask_remove_passkey(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Response> {
    let (passkey, others) = passkey(&viewer, &state, &id).await?;
    let (last, required) = (others.passkeys.is_empty() && others.totp_since.is_none(), others.required);
    let frame = viewer.frame(Section::Account);
    console::page(&RemovePasskeyPage { frame, passkey, last, required })
}

/// Takes a passkey away.
pub(crate) async fn remove_passkey(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(id): Path<String>,
) -> Result<Response> {
    match api::passkey_removed(&state, &viewer.holder(), &id).await {
        Ok(changed) => Ok(gone(&state, &changed.session, "The passkey is removed.")),
        Err(error) => once_more(&viewer, &state, error).await,
    }
}

/// Makes new recovery codes.
pub(crate) async fn renew_codes(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    match api::renew_recovery_codes(viewer.holder(), Shared(state.clone())).await {
        Ok(Json(codes)) => {
            let csrf = viewer.session.csrf_token.expose().to_owned();
            let added = "Your new recovery codes";
            console::page(&CodesPage { csrf, codes: codes.recovery_codes, next: HERE.to_owned(), added })
        }
        Err(error) => once_more(&viewer, &state, error).await,
    }
}

async fn once_more(viewer: &Viewer, state: &State, error: Error) -> Result<Response> {
    let (status, problem) = FormProblem::of(error)?;
    console::page_as(status, &ShowPage::of(viewer, state, Some(problem)).await?)
}

/// Recovery codes as a file, for whoever has no script that could make it. It says back what has their form alone.
pub(crate) async fn codes_file(_: Holder, Form(given): Form<FileForm>) -> Result<Response> {
    let is_code = |code: &String| {
        code.len() <= 40 && code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    if given.codes.is_empty() || given.codes.len() > CODES || !given.codes.iter().all(is_code) {
        return Err(Error::Malformed("the form holds something else than recovery codes".into()));
    }
    let text = format!("Recovery codes of Wharfinger. Each lets you in once.\n\n{}\n", given.codes.join("\n"));
    Ok(attachment("wharfinger-recovery-codes.txt", "text/plain; charset=utf-8", text))
}

/// A file to keep, never shown as a page. `name` is ours.
pub(crate) fn attachment(name: &'static str, kind: &'static str, text: String) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")) {
        headers.insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

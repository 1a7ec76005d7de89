//! Passwords: the one that must be changed, one's own, and the one that was forgotten.

use askama::Template;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::Secret;
use serde::Deserialize;
use storage::{memberships, orgs};

use super::api::{self, Forgotten, Reset};
use crate::State;
use crate::actor::{Holder, Visitor};
use crate::console::front::own_path;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice, see};
use crate::error::{Error, Result};
use crate::extract::{Json, Query};
use crate::sessions::api::{PasswordChange, password_changed};
use crate::sessions::console::{renewed_onward, with_session};

/// `/password`
#[derive(Template)]
#[template(path = "passwords/forced.html")]
struct ForcedPage {
    csrf: String,
    user: String,
    /// Name of the organization that invited somebody who is here for the first time.
    welcome: Option<String>,
    next: String,
    problem: Option<FormProblem>,
}

/// `/account/password`
#[derive(Template)]
#[template(path = "passwords/change.html")]
struct ChangePage {
    frame: Frame,
    problem: Option<FormProblem>,
}

/// `/password-reset`
#[derive(Template)]
#[template(path = "passwords/reset.html")]
struct ResetPage {
    email: String,
    /// Whether a mail was asked for just now.
    asked: bool,
    /// What was typed as the mail's code, where it is asked for once more.
    token: String,
    problem: Option<FormProblem>,
}

/// Where to go on.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NextQuery {
    pub(crate) next: String,
}

/// The fields of a change. No `Debug`: it holds passwords.
#[derive(Deserialize)]
pub(crate) struct ChangeForm {
    current: Secret,
    new: Secret,
    repeat: Secret,
    #[serde(default)]
    next: String,
}

/// The field of a mail that is asked for.
#[derive(Debug, Deserialize)]
pub(crate) struct AskForm {
    email: String,
}

/// The fields of a password by a mail. No `Debug`: it holds secrets.
#[derive(Deserialize)]
pub(crate) struct ResetForm {
    token: Secret,
    new: Secret,
    repeat: Secret,
}

/// The form of whoever must choose a password first.
pub(crate) async fn forced(
    holder: Holder,
    Shared(state): Shared<State>,
    Query(query): Query<NextQuery>,
) -> Result<Response> {
    if !holder.session.must_change_password {
        return Ok(see(own_path(&query.next).unwrap_or("/account/password")));
    }
    console::page(&ForcedPage::of(&state, &holder, query.next, None).await?)
}

impl ForcedPage {
    async fn of(state: &State, holder: &Holder, next: String, problem: Option<FormProblem>) -> Result<Self> {
        let user = holder.session.principal.name.clone();
        let welcome = inviting_org(state, holder).await?;
        Ok(Self { csrf: holder.session.csrf_token.expose().to_owned(), user, welcome, next, problem })
    }
}

/// Name of the organization that somebody comes to by its invitation, who never chose a password of their own.
async fn inviting_org(state: &State, holder: &Holder) -> Result<Option<String>> {
    let Some(org_id) = &holder.session.org_id else { return Ok(None) };
    let mut session = state.db().read().await?;
    let member = memberships::find(&mut session, org_id, &holder.session.principal.user_id).await?;
    match member {
        Some(member) if !member.verified => Ok(orgs::find(&mut session, org_id).await?.map(|org| org.name)),
        _ => Ok(None),
    }
}

/// Changes it, and leads on.
pub(crate) async fn change_forced(
    holder: Holder,
    Shared(state): Shared<State>,
    Form(given): Form<ChangeForm>,
) -> Result<Response> {
    let next = given.next.clone();
    match change(&state, &holder, given).await {
        Ok(session) => {
            let to = renewed_onward(&state, &session, &next).await?;
            Ok(with_session(&state, &session, notice::done(&state, &to, "Your password is changed.")))
        }
        Err(error) => {
            let (status, problem) = problem(error)?;
            console::page_as(status, &ForcedPage::of(&state, &holder, next, Some(problem)).await?)
        }
    }
}

/// The form of whoever wants to.
pub(crate) async fn own(viewer: Viewer) -> Result<Response> {
    console::page(&ChangePage { frame: viewer.frame(Section::Account), problem: None })
}

/// Changes it.
pub(crate) async fn change_own(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Form(given): Form<ChangeForm>,
) -> Result<Response> {
    match change(&state, &viewer.holder(), given).await {
        Ok(session) => {
            let told = "Your password is changed. Every other session is ended.";
            Ok(with_session(&state, &session, notice::done(&state, "/account/password", told)))
        }
        Err(error) => {
            let (status, problem) = problem(error)?;
            console::page_as(status, &ChangePage { frame: viewer.frame(Section::Account), problem: Some(problem) })
        }
    }
}

async fn change(state: &State, holder: &Holder, given: ChangeForm) -> Result<identity::session::NewSession> {
    alike(&given.new, &given.repeat)?;
    password_changed(state, holder, &PasswordChange { current: given.current, new: given.new }).await
}

fn alike(new: &Secret, repeat: &Secret) -> Result<()> {
    if new.expose() == repeat.expose() { Ok(()) } else { Err(Error::invalid("repeat", "the two are not the same")) }
}

/// What was wrong, at the fields of these forms.
fn problem(error: Error) -> Result<(StatusCode, FormProblem)> {
    let error = match error {
        Error::BadCredentials => return Ok((StatusCode::UNPROCESSABLE_ENTITY, wrong_current())),
        Error::Invalid { field: "password", reason } => Error::Invalid { field: "new", reason },
        other => other,
    };
    FormProblem::of(error)
}

fn wrong_current() -> FormProblem {
    FormProblem { field: "current", message: "That is not your password so far.".into() }
}

/// The page of whoever forgot theirs.
pub(crate) async fn forgotten() -> Result<Response> {
    console::page(&ResetPage { email: String::new(), asked: false, token: String::new(), problem: None })
}

/// Asks for a mail. The answer is the same whether or not there is somebody of that address.
pub(crate) async fn ask(
    visitor: Visitor,
    Shared(state): Shared<State>,
    Form(given): Form<AskForm>,
) -> Result<Response> {
    let email = given.email.trim().to_owned();
    match api::forgot_password(visitor, Shared(state), Json(Forgotten { email: email.clone() })).await {
        Ok(_) => console::page(&ResetPage { email, asked: true, token: String::new(), problem: None }),
        Err(error) => {
            let (status, mut problem) = FormProblem::of(error)?;
            if status == StatusCode::UNPROCESSABLE_ENTITY {
                problem.field = "email";
            }
            console::page_as(status, &ResetPage { email, asked: false, token: String::new(), problem: Some(problem) })
        }
    }
}

/// Sets a password by means of a mail.
pub(crate) async fn reset(
    visitor: Visitor,
    Shared(state): Shared<State>,
    Form(given): Form<ResetForm>,
) -> Result<Response> {
    let token = token_of(given.token.expose()).to_owned();
    let done = match alike(&given.new, &given.repeat) {
        Ok(()) => {
            let reset = Reset { token: Secret::new(token.as_str()), new: given.new };
            api::reset_password(visitor, Shared(state.clone()), Json(reset)).await
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(_) => Ok(notice::done(&state, "/login", "Your password is set. Log in with it.")),
        Err(error) => {
            let ended = matches!(error, Error::Unacceptable(_));
            let (status, mut problem) = problem(error)?;
            let token = if ended { String::new() } else { token };
            if ended {
                problem.field = "token";
            }
            console::page_as(status, &ResetPage { email: String::new(), asked: false, token, problem: Some(problem) })
        }
    }
}

/// The secret in what somebody pasted: the mail's whole link, or the end of it.
fn token_of(pasted: &str) -> &str {
    let end = pasted.rsplit("token=").next().unwrap_or(pasted).trim();
    end.split(['&', '#']).next().unwrap_or(end)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::token_of;
    use crate::testing::{ADMIN, Caller, Controller, PASSWORD, token};

    const NEW: &str = "violet otter juggles seven";

    #[test]
    fn the_secret_is_found_in_whatever_was_pasted() {
        for pasted in ["abc", " abc\n", "https://hub.example/password-reset#token=abc", "#token=abc&x=y", "token=abc"] {
            assert_eq!(token_of(pasted), "abc", "{pasted}");
        }
    }

    #[tokio::test]
    async fn a_forgotten_password_is_replaced_by_a_mail_without_a_script() {
        let controller = Controller::start().await;
        let nobody = &Caller::Nobody;
        let page = controller.page(nobody, "/password-reset").await.expect(200);
        assert!(page.raw.contains("I have the mail") && page.raw.contains("data-fragment=\"token\""));
        let asked = controller.submit(nobody, "/password-reset", &[("email", ADMIN)]).await.expect(200);
        let unknown = controller.submit(nobody, "/password-reset", &[("email", "no@example.com")]).await.expect(200);
        assert_eq!(asked.raw.replace(ADMIN, "NAME"), unknown.raw.replace("no@example.com", "NAME"));
        let odd = controller.submit(nobody, "/password-reset", &[("email", "no address")]).await.expect(422);
        assert!(odd.raw.contains("id=\"email-wrong\""), "{}", odd.raw);
        let link = format!("https://localhost/password-reset#token={}", token(&controller.mail_to(ADMIN).await));
        let set = async |link: &str, new: &str, repeat: &str| {
            let fields = [("token", link), ("new", new), ("repeat", repeat)];
            controller.submit(nobody, "/password-reset/choose", &fields).await
        };
        let refused = set(&link, NEW, "another").await.expect(422);
        assert!(refused.raw.contains("repeat-wrong") && !refused.raw.contains(NEW), "{}", refused.raw);
        assert!(set(&link, "short", "short").await.expect(422).raw.contains("new-wrong"));
        assert!(set("nonsense", NEW, NEW).await.expect(422).raw.contains("token-wrong"));
        let done = set(&link, NEW, NEW).await.expect(303);
        assert_eq!(done.headers["location"], "/login");
        assert!(set(&link, NEW, NEW).await.expect(422).raw.contains("token-wrong"));
        controller.try_login(ADMIN, NEW).await.expect(200);
    }

    #[tokio::test]
    async fn ones_password_is_changed_with_the_old_one() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let change = async |current: &str, new: &str| {
            let fields = [("current", current), ("new", new), ("repeat", new)];
            controller.submit(&admin, "/account/password", &fields).await
        };
        let wrong = change("wrong", NEW).await.expect(422);
        assert!(wrong.raw.contains("current-wrong") && !wrong.raw.contains(NEW), "{}", wrong.raw);
        assert!(change(PASSWORD, "admin@localhost").await.expect(422).raw.contains("new-wrong"));
        let changed = change(PASSWORD, NEW).await.expect(303);
        assert!(changed.headers.get_all("set-cookie").into_iter().count() == 2, "a notice, and the new secret");
        controller.get(&admin, "/session").await.expect(401);
        controller.try_login(ADMIN, NEW).await.expect(200);
    }
}

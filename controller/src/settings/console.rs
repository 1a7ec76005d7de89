//! An organization's settings, as a page: each says what it does, and what touches people is asked about first.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::api::{self, EffectsView, SettingsChange, SettingsView};
use crate::State;
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::etag::{IfMatch, Versioned, segment};
use crate::extract::{self, Path};
use crate::orgs::api::{OrgChange, get_org, update_org};

/// `/orgs/{org}/settings`
#[derive(Template)]
#[template(path = "settings/show.html")]
struct ShowPage {
    frame: Frame,
    now: SettingsView,
    given: SettingsForm,
    version: String,
    name: String,
    /// The version of the organization that the name is of.
    name_version: String,
    may_write: bool,
    may_rename: bool,
    problem: Option<FormProblem>,
    name_problem: Option<FormProblem>,
}

/// What would happen to whom.
#[derive(Template)]
#[template(path = "settings/preview.html")]
struct PreviewPage {
    frame: Frame,
    given: SettingsForm,
    effects: EffectsView,
    asks_factor: bool,
    closes: bool,
}

/// The fields, as they were typed.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SettingsForm {
    lockout_enabled: bool,
    lockout_failures: String,
    lockout_minutes: String,
    idle_logout_minutes: String,
    session_hours: String,
    mfa_required: bool,
    key_valid_days: String,
    public_allowed: bool,
    audit_days: String,
    version: String,
    /// `save` once it was told what would happen.
    step: String,
}

/// Another name.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct NameForm {
    name: String,
    version: String,
}

impl From<&SettingsView> for SettingsForm {
    fn from(now: &SettingsView) -> Self {
        let maybe = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
        Self {
            lockout_enabled: now.lockout_enabled,
            lockout_failures: now.lockout_failures.to_string(),
            lockout_minutes: now.lockout_minutes.to_string(),
            idle_logout_minutes: maybe(now.idle_logout_minutes),
            session_hours: now.session_hours.to_string(),
            mfa_required: now.mfa_required,
            key_valid_days: maybe(now.key_valid_days),
            public_allowed: now.public_allowed,
            audit_days: maybe(now.audit_days),
            version: String::new(),
            step: String::new(),
        }
    }
}

/// A number that was typed; `None` where nothing was.
fn number(field: &'static str, text: &str) -> Result<Option<i64>> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Error::invalid(field, "use a whole number")),
    }
}

impl SettingsForm {
    fn change(&self) -> Result<SettingsChange> {
        let needed = |field, text: &str| {
            let number = number(field, text)?;
            number.map(Some).ok_or_else(|| Error::invalid(field, "use a whole number"))
        };
        Ok(SettingsChange {
            lockout_enabled: Some(self.lockout_enabled),
            lockout_failures: needed("lockout_failures", &self.lockout_failures)?,
            lockout_minutes: needed("lockout_minutes", &self.lockout_minutes)?,
            idle_logout_minutes: Some(number("idle_logout_minutes", &self.idle_logout_minutes)?),
            session_hours: needed("session_hours", &self.session_hours)?,
            mfa_required: Some(self.mfa_required),
            key_valid_days: Some(number("key_valid_days", &self.key_valid_days)?),
            public_allowed: Some(self.public_allowed),
            audit_days: Some(number("audit_days", &self.audit_days)?),
        })
    }
}

async fn show_page(viewer: &Viewer, state: &State, org: &str, version: &str, now: SettingsView) -> Result<ShowPage> {
    let read = get_org(viewer.actor(), Shared(state.clone()), Path(org.to_owned())).await?;
    Ok(ShowPage {
        frame: viewer.frame(Section::Settings),
        given: (&now).into(),
        now,
        version: version.to_owned(),
        name_version: read.0.to_string(),
        name: read.1.name,
        may_write: viewer.may(Permission::SettingsWrite),
        may_rename: viewer.may(Permission::OrgUpdate),
        problem: None,
        name_problem: None,
    })
}

async fn read(viewer: &Viewer, state: &State, org: &str) -> Result<(String, SettingsView)> {
    let read = api::get_settings(viewer.actor(), Shared(state.clone()), Path(org.to_owned())).await;
    read.map(|Versioned(version, now)| (version.to_string(), now))
}

/// The settings.
pub(crate) async fn show(viewer: Viewer, Shared(state): Shared<State>, Path(org): Path<String>) -> Result<Response> {
    let (version, now) = read(&viewer, &state, &org).await?;
    console::page(&show_page(&viewer, &state, &org, &version, now).await?)
}

/// Changes them, or tells first whom that touches.
pub(crate) async fn save(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<SettingsForm>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::SettingsWrite, &state, &org).await?;
    let (version, now) = read(&viewer, &state, &org).await?;
    let (asks_factor, closes) = (given.mfa_required && !now.mfa_required, now.public_allowed && !given.public_allowed);
    let refused = match given.change() {
        Ok(_) if given.step != "save" && given.version == version && (asks_factor || closes) => {
            let path = Path(org.clone());
            let Json(effects) = api::get_effects(viewer.actor(), Shared(state.clone()), path).await?;
            let frame = viewer.frame(Section::Settings);
            return console::page(&PreviewPage { frame, given, effects, asks_factor, closes });
        }
        Ok(change) => {
            let if_match = IfMatch::of(&given.version);
            let path = Path(org.clone());
            let saved =
                api::update_settings(viewer.actor(), Shared(state.clone()), path, if_match, extract::Json(change))
                    .await;
            match saved {
                Ok(_) => {
                    let to = format!("/orgs/{}/settings", segment(&org));
                    return Ok(notice::done(&state, &to, "Saved the settings. They count at once."));
                }
                Err(error) => error,
            }
        }
        Err(error) => error,
    };
    let (status, problem) = FormProblem::of(refused)?;
    let page = ShowPage { given, problem: Some(problem), ..show_page(&viewer, &state, &org, &version, now).await? };
    console::page_as(status, &page)
}

/// Gives the organization another name.
pub(crate) async fn rename(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<NameForm>,
) -> Result<Response> {
    let change = OrgChange { name: given.name.trim().to_owned() };
    let path = Path(org.clone());
    let if_match = IfMatch::of(&given.version);
    let renamed = update_org(viewer.actor(), Shared(state.clone()), path, if_match, extract::Json(change)).await;
    match renamed {
        Ok(_) => {
            let to = format!("/orgs/{}/settings", segment(&org));
            Ok(notice::done(&state, &to, "Saved the organization's name."))
        }
        Err(error) => {
            let (status, mut problem) = FormProblem::of(error)?;
            if status == http::StatusCode::UNPROCESSABLE_ENTITY {
                problem.field = "name";
            }
            let (version, now) = read(&viewer, &state, &org).await?;
            let page = show_page(&viewer, &state, &org, &version, now).await?;
            console::page_as(status, &ShowPage { name: given.name, name_problem: Some(problem), ..page })
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use crate::testing::{ADMIN, Controller, Reply};

    const PATH: &str = "/orgs/main/settings";

    /// The version in the form of the settings, which comes behind that of the name.
    fn version(page: &Reply) -> String {
        let at = page.raw.rsplit("name=\"version\" value=\"").next().unwrap();
        at.split('"').next().unwrap().replace("&#34;", "\"")
    }

    fn fields<'a>(version: &'a str, more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
        let mut all = vec![
            ("lockout_failures", "5"),
            ("lockout_minutes", "15"),
            ("session_hours", "24"),
            ("idle_logout_minutes", ""),
            ("key_valid_days", ""),
            ("audit_days", ""),
            ("version", version),
        ];
        all.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
        all.extend_from_slice(more);
        all
    }

    #[tokio::test]
    async fn settings_are_saved_and_what_touches_people_is_asked_first() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "open", "public": true})).await.expect(201);
        let version = self::version(&controller.page(&admin, PATH).await.expect(200));
        let same = [("lockout_enabled", "true"), ("public_allowed", "true")];
        for (field, value) in [("session_hours", "25"), ("lockout_minutes", "soon"), ("audit_days", "1")] {
            let more = [same[0], same[1], (field, value)];
            let wrong = controller.submit(&admin, PATH, &fields(&version, &more)).await.expect(422);
            assert!(wrong.raw.contains(&format!("id=\"{field}-wrong\"")) && wrong.raw.contains(value), "{}", wrong.raw);
        }
        let more = [same[0], same[1], ("idle_logout_minutes", "30"), ("key_valid_days", "90")];
        controller.submit(&admin, PATH, &fields(&version, &more)).await.expect(303);
        let now = controller.get(&admin, PATH).await.expect(200).body;
        assert_eq!((&now["idle_logout_minutes"], &now["key_valid_days"]), (&json!(30), &json!(90)));
        let late = controller.submit(&admin, PATH, &fields(&version, &more)).await.expect(412);
        let version = self::version(&late);

        let strict = [("mfa_required", "true"), ("lockout_enabled", "true")];
        let asked = controller.submit(&admin, PATH, &fields(&version, &strict)).await.expect(200);
        assert!(asked.raw.contains("1 person has no second factor") && asked.raw.contains("1 public project closes"));
        let now = controller.get(&admin, PATH).await.expect(200).body;
        assert_eq!((&now["mfa_required"], &now["public_allowed"]), (&json!(false), &json!(true)));
        let closed = [("lockout_enabled", "true"), ("step", "save")];
        controller.submit(&admin, PATH, &fields(&version, &closed)).await.expect(303);
        assert_eq!(controller.get(&admin, PATH).await.expect(200).body["public_allowed"], false);
    }

    #[tokio::test]
    async fn an_organization_gets_another_name_by_its_version() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let version = controller.page(&admin, PATH).await.expect(200).version();
        let path = "/orgs/main/settings/name";
        let empty = controller.submit(&admin, path, &[("name", ""), ("version", version.as_str())]).await.expect(422);
        assert!(empty.raw.contains("id=\"name-wrong\""), "{}", empty.raw);
        let name = [("name", "Acme <i>"), ("version", version.as_str())];
        controller.submit(&admin, path, &name).await.expect(303);
        let page = controller.page(&admin, PATH).await.expect(200);
        assert!(page.raw.contains("Acme &#60;i&#62;") && !page.raw.contains("Acme <i>"), "{}", page.raw);
        controller.submit(&admin, path, &name).await.expect(412);
    }

    #[tokio::test]
    async fn whoever_may_only_read_them_sees_no_form() {
        let controller = Controller::start().await;
        let reader = controller.member("r@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        let page = controller.page(&reader, PATH).await.expect(200);
        assert!(!page.raw.contains("name=\"session_hours\"") && page.raw.contains("24 hours"), "{}", page.raw);
        controller.submit(&reader, PATH, &fields("", &[])).await.expect(403);
        let renamed = controller.submit(&reader, "/orgs/main/settings/name", &[("name", "x"), ("version", "")]).await;
        renamed.expect(403);
        let auditor = controller.member("a@example.com", Some(("AUDITOR", None))).await;
        controller.page(&auditor, PATH).await.expect(403);
        let stranger = controller.other_org().await;
        controller.page(&stranger, PATH).await.expect(404);
    }
}

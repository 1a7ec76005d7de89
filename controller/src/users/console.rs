//! Users, as pages: people and machines of an organization.

pub(crate) mod access;
pub(crate) mod invite;
pub(crate) mod keys;
pub(crate) mod list;
pub(crate) mod profile;
pub(crate) mod rights;
pub(crate) mod sessions;

use askama::Template;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::rbac::{Permission, Role, RoleScope};
use serde::Deserialize;

use super::api::{self, Kind, Status, UserRole, UserView};
use crate::State;
use crate::audit::Refused;
use crate::bindings::api::{BindingToCreate, BindingView, create_binding};
use crate::bindings::console::{RoleOption, all_options};
pub(crate) use crate::console::form::{given, several};
use crate::console::{self, FormProblem, Frame, Viewer};
use crate::error::{Error, Result};
use crate::etag::{IfMatch, Tag, Versioned};
use crate::extract::{self, Path};
use crate::page::PageQuery;
use crate::projects::console::offered;
use crate::roles::words;

/// Rows of a page.
pub(crate) const PAGE: i64 = 50;
/// Suggestions of a field at most; whatever else there is can be typed.
pub(crate) const SUGGESTIONS: i64 = 100;

/// A name as one segment of a page's path. `new` would be the page of what is to be.
pub(crate) fn segment(name: &str) -> String {
    if name == "new" { "%6Eew".to_owned() } else { crate::etag::segment(name) }
}

/// A page of [`PAGE`] rows after a key.
pub(crate) fn rows(after: Option<String>) -> PageQuery {
    PageQuery { limit: Some(PAGE), after }
}

/// A path with a query of what is not empty.
pub(crate) fn url(path: &str, fields: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(fields.iter().filter(|(_, value)| !value.is_empty()));
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

/// The version that a form was drawn of, for whoever would change what another changed meanwhile.
pub(crate) fn expected(version: &str) -> IfMatch {
    if version.is_empty() { IfMatch::Any } else { IfMatch::of(version) }
}

/// A reason of the API, with what people call the roles in it.
pub(crate) fn reason(text: &str) -> String {
    let named = Role::all().fold(text.to_owned(), |text, role| {
        text.replace(&format!("role {} on", role.token()), &format!("role {} on", role.label()))
    });
    console::form::sentence(&named)
}

/// The door of somebody's last access.
pub(crate) fn door(door: &str) -> &'static str {
    match door {
        "console" => "in the browser",
        "cli" => "by rctl",
        "registry" => "by a registry client",
        _ => "by the API",
    }
}

/// Tone and word for the state of somebody's access.
pub(crate) fn status(user: &UserView) -> (&'static str, &'static str) {
    match user.status {
        Status::Inactive => ("bad", "Inactive"),
        _ if user.locked_until.is_some() => ("warn", "Locked"),
        Status::Invited => ("deed", "Invited"),
        Status::Active => ("good", "Active"),
    }
}

/// First and last name; empty where nobody told them.
pub(crate) fn full_name(user: &UserView) -> String {
    format!("{} {}", user.first_name, user.last_name).trim().to_owned()
}

/// What somebody is.
pub(crate) fn is_machine(user: &UserView) -> bool {
    matches!(user.kind, Kind::Machine)
}

/// Who a page is about, and where else one can go from there.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) user: UserView,
    /// Path of their page.
    pub(crate) at: String,
    /// The tab that is open.
    pub(crate) tab: &'static str,
    pub(crate) version: Tag,
    pub(crate) may_write: bool,
    shows_rights: bool,
    shows_keys: bool,
    shows_audit: bool,
}

impl Head {
    async fn of(viewer: &Viewer, state: &State, org: &str, name: &str, tab: &'static str) -> Result<Self> {
        let path = Path((org.to_owned(), name.to_owned()));
        let Versioned(version, user) = api::get_user(viewer.actor(), Shared(state.clone()), path).await?;
        let own = user.name == viewer.actor.principal().name;
        Ok(Self {
            at: format!("/orgs/{}/users/{}", segment(org), segment(&user.name)),
            tab,
            version,
            may_write: viewer.may(Permission::UserWrite),
            shows_rights: own || viewer.may(Permission::MemberRead),
            shows_keys: own || viewer.may(Permission::ApikeyManage),
            shows_audit: viewer.may(Permission::AuditRead),
            user,
        })
    }

    fn title(&self) -> String {
        given(&full_name(&self.user)).unwrap_or_else(|| self.user.name.clone())
    }

    fn audit(&self, org: &str) -> String {
        url(&format!("/orgs/{}/audit", segment(org)), &[("user", &self.user.name)])
    }
}

/// A refusal that is shown on the page where somebody tried.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) problem: FormProblem,
    note: Option<Refused>,
}

impl Refusal {
    /// What a failure says. `whom` is who something was to be done to, where the viewer has the permission as such: then a
    /// denial is one of rank. Names that lead nowhere are mistakes in these fields.
    ///
    /// # Errors
    /// The failure itself, where the page could not say more.
    pub(crate) fn of(error: Error, whom: Option<&str>, fields: &[&'static str]) -> Result<Self> {
        if let Error::NotFound(what) = &error
            && let Some(field) = fields.iter().find(|field| field.eq_ignore_ascii_case(what))
        {
            let message = format!("There is no such {what}, or you may not see it.");
            return Ok(Self { status: StatusCode::NOT_FOUND, problem: FormProblem { field, message }, note: None });
        }
        let note = match &error {
            Error::Denied(denial) => {
                Some(Refused { reason: error.to_string(), permission: Some(denial.permission.as_str()) })
            }
            Error::Forbidden(_) => Some(Refused { reason: error.to_string(), permission: None }),
            _ => None,
        };
        if let (Error::Denied(denial), Some(whom)) = (&error, whom) {
            let mut missing = denial.clone();
            missing.because.clear();
            let message = format!(
                "{whom} has rights that you do not have: {missing}. Only somebody with at least those rights can do this."
            );
            let problem = FormProblem { field: "", message };
            return Ok(Self { status: StatusCode::FORBIDDEN, problem, note });
        }
        if matches!(error, Error::Changed) {
            let message = "Somebody else changed this while you were looking at it. Nothing was changed now: compare what \
                           is there with what you wanted, and send it again.";
            let problem = FormProblem { field: "", message: message.to_owned() };
            return Ok(Self { status: StatusCode::PRECONDITION_FAILED, problem, note });
        }
        let (status, problem) = FormProblem::of(error)?;
        Ok(Self { status, problem, note })
    }

    /// A mistake that only a form can hold.
    pub(crate) fn mistake(field: &'static str, message: &str) -> Self {
        let problem = FormProblem { field, message: message.to_owned() };
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, problem, note: None }
    }
}

/// A page, with what was refused on it.
///
/// # Errors
/// As [`console::page`].
pub(crate) fn drawn(template: &impl Template, refusal: Option<(StatusCode, Option<Refused>)>) -> Result<Response> {
    let Some((status, note)) = refusal else { return console::page(template) };
    let mut response = console::page_as(status, template)?;
    if let Some(note) = note {
        response.extensions_mut().insert(note);
    }
    Ok(response)
}

/// What was wrong, and what the answer says of it besides.
pub(crate) fn split(refusal: Option<Refusal>) -> (Option<FormProblem>, Option<(StatusCode, Option<Refused>)>) {
    match refusal {
        Some(Refusal { status, problem, note }) => (Some(problem), Some((status, note))),
        None => (None, None),
    }
}

/// A page that asks before something is done.
#[derive(Template)]
#[template(path = "users/confirm.html")]
pub(crate) struct ConfirmPage {
    pub(crate) frame: Frame,
    /// Name and path of the pages above.
    pub(crate) crumbs: Vec<(String, String)>,
    /// The question.
    pub(crate) title: String,
    /// What will happen.
    pub(crate) lines: Vec<String>,
    /// How it can be undone, or that it cannot.
    pub(crate) undo: String,
    /// Where the form goes.
    pub(crate) action: String,
    /// Where whoever thinks better of it goes.
    pub(crate) back: String,
    pub(crate) button: &'static str,
    /// What is to be typed where it cannot be undone; else empty.
    pub(crate) word: String,
    /// What it is asked about; empty where that does not matter.
    pub(crate) version: String,
    pub(crate) problem: Option<FormProblem>,
}

impl ConfirmPage {
    fn prompt(&self) -> String {
        format!("Type {} to go on", self.word)
    }
}

/// The fields of a [`ConfirmPage`].
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Confirmed {
    pub(crate) confirm: String,
    pub(crate) version: String,
}

impl Confirmed {
    /// # Errors
    /// What is to be typed, where something else was.
    pub(crate) fn check(&self, word: &str) -> std::result::Result<(), Refusal> {
        if self.confirm.trim() == word {
            return Ok(());
        }
        Err(Refusal::mistake("confirm", &format!("Type {word} as it is written here.")))
    }
}

/// Roles and places to choose from, for whoever may give roles somewhere.
#[derive(Debug, Clone, Default)]
pub(crate) struct RoleChoices {
    /// Roles on the whole organization; none where the viewer may give none there.
    pub(crate) org: Vec<RoleOption>,
    /// Roles on a project.
    pub(crate) project: Vec<RoleOption>,
    /// Projects to suggest.
    pub(crate) projects: Vec<String>,
    /// Whether there are others, to be typed.
    pub(crate) more_projects: bool,
}

impl RoleChoices {
    /// What the viewer may give; nothing where that is none.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn of(viewer: &Viewer, state: &State, org: &str) -> Result<Option<Self>> {
        let place = Writable::of(viewer);
        if !place.anywhere() {
            return Ok(None);
        }
        let (projects, more_projects) = offered(viewer, state, org).await?;
        let (whole, project) = all_options(viewer, state, org).await?;
        let mut choices = Self { org: whole, project, projects, more_projects };
        choices.projects.retain(|project| place.holds(Some(project)));
        Ok(Some(choices))
    }
}

/// Where the viewer may give roles and take them away.
#[derive(Debug)]
pub(crate) struct Writable {
    pub(crate) org: bool,
    projects: Vec<String>,
}

impl Writable {
    pub(crate) fn of(viewer: &Viewer) -> Self {
        let principal = viewer.actor.principal();
        let reach = principal.reach(Permission::MemberWrite).projects;
        let here =
            principal.grants.iter().filter(|grant| grant.project_id.as_ref().is_some_and(|id| reach.contains(id)));
        let projects = here.filter_map(|grant| grant.project.clone()).collect();
        Self { org: viewer.may(Permission::MemberWrite), projects }
    }

    pub(crate) fn anywhere(&self) -> bool {
        self.org || !self.projects.is_empty()
    }

    pub(crate) fn holds(&self, project: Option<&str>) -> bool {
        self.org || project.is_some_and(|project| self.projects.iter().any(|own| own == project))
    }
}

/// The fields that give a role.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RoleForm {
    pub(crate) role: String,
    pub(crate) project: String,
    pub(crate) namespaces: String,
}

/// The field that takes one away.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RoleToTake {
    pub(crate) binding: String,
}

/// What a base role lacks, or has too much, where it is to be given: field and reason. Of custom ones the API says it.
pub(crate) fn misfit(role: &str, on_project: bool, with_namespaces: bool) -> Option<(&'static str, &'static str)> {
    let role = Role::find(role)?;
    match (role.scope(), on_project) {
        (RoleScope::Project, false) => return Some(("project", "this role is given on a project: name it")),
        (RoleScope::Organization, true) => {
            return Some(("project", "this role is given on the whole organization: leave the project out"));
        }
        _ => {}
    }
    let lacks = role.needs_namespaces() && !with_namespaces;
    lacks.then_some(("namespaces", "this role needs namespaces: name at least one"))
}

/// Gives a role to a user or a group.
///
/// # Errors
/// Those of the API.
pub(crate) async fn give(
    viewer: &Viewer,
    state: &State,
    org: &str,
    (user, group): (Option<String>, Option<String>),
    form: &RoleForm,
) -> Result<BindingView> {
    if form.role.is_empty() {
        return Err(Error::invalid("role", "choose a role"));
    }
    let project = given(&form.project);
    if let Some((field, reason)) = misfit(&form.role, project.is_some(), !form.namespaces.trim().is_empty()) {
        return Err(Error::invalid(field, reason));
    }
    let new = BindingToCreate { user, group, role: form.role.clone(), project, namespaces: several(&form.namespaces) };
    let path = Path(org.to_owned());
    Ok(create_binding(viewer.actor(), Shared(state.clone()), path, extract::Json(new)).await?.body)
}

/// A role and where, in words.
pub(crate) fn role_words(role: &str, project: Option<&str>) -> String {
    let place = project.map_or_else(|| "the organization".to_owned(), |project| format!("project {project}"));
    format!("{} on {place}", words::label(role))
}

#[cfg(test)]
mod tests;

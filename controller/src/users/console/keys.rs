//! `/orgs/{org}/users/{name}/keys`: API keys of somebody.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::{ConfirmPage, Confirmed, Head, Refusal, drawn, given, offered, rows, segment, several, split, url};
use crate::State;
use crate::api_keys::api::{
    ApiKeyQuery, ApiKeyToCreate, ApiKeyView, CreatedApiKey, create_api_key, delete_api_key, get_api_key, list_api_keys,
};
use crate::console::{self, Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};

/// What a key can be narrowed to in the form.
const NARROW: [&str; 3] = ["registry.pull", "registry.push", "registry.delete"];

#[derive(Template)]
#[template(path = "users/keys.html")]
struct KeysPage {
    frame: Frame,
    head: Head,
    keys: Vec<ApiKeyView>,
    may_make: bool,
    own: bool,
    projects: Vec<String>,
    typed: KeyForm,
    problem: Option<FormProblem>,
    first: String,
    next: Option<String>,
}

#[derive(Template)]
#[template(path = "users/key_made.html")]
struct MadePage {
    frame: Frame,
    head: Head,
    made: CreatedApiKey,
}

/// Which page.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct At {
    after: String,
}

/// The fields of a key to be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct KeyForm {
    name: String,
    valid_days: String,
    projects: String,
    permissions: Vec<String>,
}

impl KeyForm {
    fn narrows(&self, permission: &str) -> bool {
        self.permissions.iter().any(|chosen| chosen == permission)
    }
}

/// The page.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(at): Query<At>,
) -> Result<Response> {
    keys(&viewer, &state, (&org, &name), &at.after, KeyForm::default(), None).await
}

async fn keys(
    viewer: &Viewer,
    state: &State,
    (org, name): (&str, &str),
    after: &str,
    typed: KeyForm,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "keys").await?;
    let which = Query(ApiKeyQuery { user: Some(head.user.name.clone()) });
    let query = Query(rows(given(after)));
    let path = Path(org.to_owned());
    let Json(page) = list_api_keys(viewer.actor(), Shared(state.clone()), path, which, query).await?;
    let own = head.user.name == viewer.actor.principal().name;
    let may_make = own || (viewer.may(Permission::ApikeyManage) && viewer.may(Permission::MemberWrite));
    let here = format!("{}/keys", head.at);
    let (problem, refused) = split(refusal);
    let page = KeysPage {
        frame: viewer.frame(Section::Users),
        keys: page.items,
        may_make,
        own,
        projects: if may_make { offered(viewer, state, org).await?.0 } else { Vec::new() },
        typed,
        problem,
        first: if after.is_empty() { String::new() } else { here.clone() },
        next: page.next.map(|after| url(&here, &[("after", &after)])),
        head,
    };
    drawn(&page, refused)
}

/// Makes a key, and shows it this once.
pub(crate) async fn make(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(typed): Form<KeyForm>,
) -> Result<Response> {
    let made = match wanted(&name, &typed) {
        Ok(new) => {
            let path = Path(org.clone());
            create_api_key(viewer.actor(), Shared(state.clone()), path, extract::Json(new)).await
        }
        Err(error) => Err(error),
    };
    match made {
        Ok(made) => {
            let head = Head::of(&viewer, &state, &org, &name, "keys").await?;
            console::page(&MadePage { frame: viewer.frame(Section::Users), head, made: made.body })
        }
        Err(Error::NotFound("project")) => {
            let mistake = Refusal::mistake("projects", "One of these projects does not exist, or you may not see it.");
            keys(&viewer, &state, (&org, &name), "", typed, Some(mistake)).await
        }
        Err(error) => {
            let able = viewer.may(Permission::ApikeyManage) && viewer.may(Permission::MemberWrite);
            let refusal = Refusal::of(error, able.then_some(name.as_str()), &[])?;
            keys(&viewer, &state, (&org, &name), "", typed, Some(refusal)).await
        }
    }
}

/// The key that a form asks for.
fn wanted(name: &str, form: &KeyForm) -> Result<ApiKeyToCreate> {
    let days = match given(&form.valid_days) {
        None => None,
        Some(text) => {
            Some(text.parse().map_err(|_| Error::invalid("valid_days", "write a number of days, or nothing"))?)
        }
    };
    let projects = several(&form.projects);
    Ok(ApiKeyToCreate {
        name: form.name.clone(),
        user: Some(name.to_owned()),
        valid_days: days,
        projects: Some(projects).filter(|projects| !projects.is_empty()),
        permissions: Some(form.permissions.clone()).filter(|permissions| !permissions.is_empty()),
    })
}

/// Asks before a key is revoked.
pub(crate) async fn ask(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name, id)): Path<(String, String, String)>,
) -> Result<Response> {
    let head = Head::of(&viewer, &state, &org, &name, "keys").await?;
    let key = key_of(&viewer, &state, &org, &head, &id).await?;
    let keys = format!("{}/keys", head.at);
    let page = ConfirmPage {
        frame: viewer.frame(Section::Users),
        crumbs: vec![
            ("Users".to_owned(), format!("/orgs/{}/users", segment(&org))),
            (head.user.name.clone(), head.at.clone()),
            ("API keys".to_owned(), keys.clone()),
        ],
        title: format!("Revoke the API key {}?", key.name),
        lines: vec![
            "Whatever uses it is refused at once: docker, rctl and the API.".to_owned(),
            "Access tokens that were had with it end too.".to_owned(),
        ],
        undo: "This cannot be undone. You can make another key and put that in its place.".to_owned(),
        action: format!("{keys}/{}/revoke", segment(&key.id)),
        back: keys,
        button: "Revoke the key",
        word: String::new(),
        version: String::new(),
        problem: None,
    };
    console::page(&page)
}

/// Revokes one.
pub(crate) async fn revoke(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name, id)): Path<(String, String, String)>,
    Form(_): Form<Confirmed>,
) -> Result<Response> {
    let head = Head::of(&viewer, &state, &org, &name, "keys").await?;
    let key = key_of(&viewer, &state, &org, &head, &id).await?;
    delete_api_key(viewer.actor(), Shared(state.clone()), Path((org, key.id))).await?;
    Ok(notice::done(&state, &format!("{}/keys", head.at), &format!("Revoked the key {}.", key.name)))
}

/// A key of theirs.
async fn key_of(viewer: &Viewer, state: &State, org: &str, head: &Head, id: &str) -> Result<ApiKeyView> {
    let path = Path((org.to_owned(), id.to_owned()));
    let Json(key) = get_api_key(viewer.actor(), Shared(state.clone()), path).await?;
    if key.user == head.user.name { Ok(key) } else { Err(Error::NotFound("API key")) }
}

//! `/orgs/{org}/users/{name}`: who somebody is, and what may be done to their access.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use serde::Deserialize;

use super::{ConfirmPage, Confirmed, Head, Refusal, drawn, expected, given, is_machine, segment, split};
use crate::State;
use crate::api_keys::api::{ApiKeyQuery, list_api_keys};
use crate::bindings::api::{BindingsQuery, list_bindings};
use crate::console::{Form, FormProblem, Frame, Section, Viewer, notice};
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};
use crate::groups::api::{GroupQuery, list_groups};
use crate::mfa::api::reset_mfa;
use crate::page::{Page, PageQuery};
use crate::sessions::list::end_sessions;
use crate::users::api::{self, Status, UserChange};

#[derive(Template)]
#[template(path = "users/profile.html")]
struct ProfilePage {
    frame: Frame,
    head: Head,
    typed: ProfileForm,
    problem: Option<FormProblem>,
}

/// The fields of the profile.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ProfileForm {
    first_name: String,
    last_name: String,
    key_valid_days: String,
    version: String,
}

/// Something that is done to somebody's access.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Resend,
    Activate,
    Deactivate,
    Unlock,
    ResetMfa,
    EndSessions,
    Delete,
}

impl Deed {
    fn find(word: &str) -> Result<Self> {
        Ok(match word {
            "resend" => Self::Resend,
            "activate" => Self::Activate,
            "deactivate" => Self::Deactivate,
            "unlock" => Self::Unlock,
            "reset-mfa" => Self::ResetMfa,
            "end-sessions" => Self::EndSessions,
            "delete" => Self::Delete,
            _ => return Err(Error::NoRoute),
        })
    }
}

/// The page.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<Response> {
    profile(&viewer, &state, &org, &name, None, None).await
}

async fn profile(
    viewer: &Viewer,
    state: &State,
    org: &str,
    name: &str,
    typed: Option<ProfileForm>,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "profile").await?;
    let typed = typed.unwrap_or_else(|| ProfileForm {
        first_name: head.user.first_name.clone(),
        last_name: head.user.last_name.clone(),
        key_valid_days: head.user.key_valid_days.map(|days| days.to_string()).unwrap_or_default(),
        version: String::new(),
    });
    let (problem, refused) = split(refusal);
    drawn(&ProfilePage { frame: viewer.frame(Section::Users), head, typed, problem }, refused)
}

/// Saves the profile.
pub(crate) async fn save(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Form(typed): Form<ProfileForm>,
) -> Result<Response> {
    let days = match given(&typed.key_valid_days) {
        None => None,
        Some(text) => match text.parse() {
            Ok(days) => Some(days),
            Err(_) => {
                let mistake = Refusal::mistake("key_valid_days", "Write a number of days, 1 to 3650, or nothing.");
                return profile(&viewer, &state, &org, &name, Some(typed), Some(mistake)).await;
            }
        },
    };
    let change = UserChange {
        first_name: Some(typed.first_name.clone()),
        last_name: Some(typed.last_name.clone()),
        key_valid_days: Some(days),
    };
    let (path, version) = (Path((org.clone(), name.clone())), expected(&typed.version));
    match api::update_user(viewer.actor(), Shared(state.clone()), path, version, extract::Json(change)).await {
        Ok(_) => {
            let to = format!("/orgs/{}/users/{}", segment(&org), segment(&name));
            Ok(notice::done(&state, &to, "Saved the profile."))
        }
        Err(error) => {
            let refusal = Refusal::of(error, None, &[])?;
            profile(&viewer, &state, &org, &name, Some(typed), Some(refusal)).await
        }
    }
}

/// Asks before something is done.
pub(crate) async fn ask(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name, deed)): Path<(String, String, String)>,
) -> Result<Response> {
    let deed = Deed::find(&deed)?;
    viewer.actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    question(&viewer, &state, &org, &name, deed, None).await
}

async fn question(
    viewer: &Viewer,
    state: &State,
    org: &str,
    name: &str,
    deed: Deed,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let head = Head::of(viewer, state, org, name, "profile").await?;
    let whom = head.user.name.clone();
    let machine = is_machine(&head.user);
    let (title, lines, undo, button, path) = match deed {
        Deed::Deactivate => (
            format!("Deactivate {whom}?"),
            deactivated(machine, org),
            "You can undo this: reactivate them, and everything they had counts again.".to_owned(),
            "Deactivate",
            "deactivate",
        ),
        Deed::ResetMfa => (
            format!("Take the second factor of {whom} away?"),
            vec![
                "Their authenticator app, passkeys and recovery codes no longer count.".to_owned(),
                "Everything that they are logged in with ends.".to_owned(),
                "They log in with their password alone, and set up a new second factor then.".to_owned(),
            ],
            "Do this only for somebody who lost their factor and whom you know: the old one cannot be given back."
                .to_owned(),
            "Reset the second factor",
            "reset-mfa",
        ),
        Deed::EndSessions => (
            format!("Log {whom} out everywhere?"),
            vec![
                "Every session in the browser and of rctl ends, and what docker keeps of a log-in.".to_owned(),
                "Of somebody who belongs to other organizations too, only the sessions in this one end.".to_owned(),
                "Their API keys stay: revoke those one by one.".to_owned(),
            ],
            "They can log in again at once.".to_owned(),
            "Log out everywhere",
            "end-sessions",
        ),
        Deed::Delete => (
            format!("Delete {whom} from {org}?"),
            deleted(viewer, state, org, &whom, machine).await?,
            format!("This cannot be undone. To let {whom} in again you would begin anew."),
            "Delete",
            "delete",
        ),
        // Nothing is lost by these: their buttons do it.
        Deed::Resend | Deed::Activate | Deed::Unlock => return Err(Error::NoRoute),
    };
    let (problem, refused) = split(refusal);
    let page = ConfirmPage {
        frame: viewer.frame(Section::Users),
        crumbs: vec![("Users".to_owned(), format!("/orgs/{}/users", segment(org))), (whom.clone(), head.at.clone())],
        title,
        lines,
        undo,
        action: format!("{}/{path}", head.at),
        back: head.at.clone(),
        button,
        word: if deed == Deed::Delete { whom } else { String::new() },
        version: head.version.to_string(),
        problem,
    };
    drawn(&page, refused)
}

fn deactivated(machine: bool, org: &str) -> Vec<String> {
    let mut lines = vec![
        "docker and every other registry client: refused with the next request.".to_owned(),
        "API and rctl: API keys and sessions are refused.".to_owned(),
        "Roles, groups and API keys stay as they are, and count for nothing meanwhile.".to_owned(),
    ];
    if !machine {
        lines.insert(0, format!("In the browser: they can no longer work in {org}, and are logged out of it at once."));
        lines.push("Other organizations that they belong to are not touched.".to_owned());
    }
    lines
}

/// What goes with somebody.
async fn deleted(viewer: &Viewer, state: &State, org: &str, whom: &str, machine: bool) -> Result<Vec<String>> {
    let (actor, path) = (|| viewer.actor(), || Path(org.to_owned()));
    let whole = || PageQuery { limit: Some(100), after: None };
    let mut lines = Vec::new();
    if viewer.may(Permission::MemberRead) {
        let query = BindingsQuery {
            user: Some(whom.to_owned()),
            group: None,
            project: None,
            role: None,
            whole: None,
            limit: Some(100),
            after: None,
        };
        let Json(own) = list_bindings(actor(), Shared(state.clone()), path(), Query(query)).await?;
        if !own.items.is_empty() {
            let are = if own.items.len() == 1 { "is" } else { "are" };
            lines.push(format!("They lose the {} that {are} their own.", counted(&own, "role")));
        }
    }
    if viewer.may(Permission::GroupRead) {
        let which = GroupQuery { search: None, user: Some(whom.to_owned()) };
        let Json(mut groups) =
            list_groups(actor(), Shared(state.clone()), path(), Query(which), Query(whole())).await?;
        groups.items.retain(|group| group.members.is_some());
        if !groups.items.is_empty() {
            lines.push(format!("They leave {}, and lose the roles that come with it.", counted(&groups, "group")));
        }
    }
    if viewer.may(Permission::ApikeyManage) {
        let which = ApiKeyQuery { user: Some(whom.to_owned()) };
        let Json(keys) = list_api_keys(actor(), Shared(state.clone()), path(), Query(which), Query(whole())).await?;
        if !keys.items.is_empty() {
            let ends = if keys.items.len() == 1 { "stops" } else { "stop" };
            lines.push(format!("{} of theirs {ends} working at once, on every channel.", counted(&keys, "API key")));
        }
    }
    if machine {
        lines.push("Issuers whose tokens stand for it are no longer trusted.".to_owned());
    } else {
        lines.push(format!("They are logged out of {org}, and can no longer see it."));
        lines.push("Other organizations that they belong to are not touched.".to_owned());
    }
    lines.push("Images that they pushed stay, and so does what the audit log tells of them.".to_owned());
    Ok(lines)
}

/// How many there are of something, as far as one page tells.
fn counted<T>(page: &Page<T>, what: &str) -> String {
    let count = page.items.len();
    let plural = if count == 1 { "" } else { "s" };
    if page.next.is_some() { format!("more than {count} {what}s") } else { format!("{count} {what}{plural}") }
}

/// Does it.
pub(crate) async fn act(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, name, deed)): Path<(String, String, String)>,
    Form(confirmed): Form<Confirmed>,
) -> Result<Response> {
    let deed = Deed::find(&deed)?;
    let at = format!("/orgs/{}/users/{}", segment(&org), segment(&name));
    if deed == Deed::Delete
        && let Err(mistake) = confirmed.check(&name)
    {
        viewer.actor.can_in_org(Permission::UserWrite, &state, &org).await?;
        return question(&viewer, &state, &org, &name, deed, Some(mistake)).await;
    }
    let (actor, shared, path) = (viewer.actor(), Shared(state.clone()), Path((org.clone(), name.clone())));
    let done = match deed {
        Deed::Resend => api::resend_invitation(actor, shared, path).await,
        Deed::Activate => api::activate_user(actor, shared, path).await,
        Deed::Deactivate => api::deactivate_user(actor, shared, path).await,
        Deed::Unlock => api::unlock_user(actor, shared, path).await,
        Deed::ResetMfa => reset_mfa(actor, shared, path).await,
        Deed::EndSessions => end_sessions(actor, shared, path).await,
        Deed::Delete => api::delete_user(actor, shared, path, expected(&confirmed.version)).await,
    };
    if let Err(error) = done {
        let whom = viewer.may(Permission::UserWrite).then_some(name.as_str());
        let refusal = Refusal::of(error, whom, &[])?;
        return profile(&viewer, &state, &org, &name, None, Some(refusal)).await;
    }
    let (to, text) = match deed {
        Deed::Resend => (at, format!("Sent {name} a new invitation. What the one before said no longer works.")),
        Deed::Activate => (at, format!("{name} has access again, with everything they had.")),
        Deed::Deactivate => (at, format!("{name} has no access any more.")),
        Deed::Unlock => (at, format!("{name} can log in again.")),
        Deed::ResetMfa => (at, format!("{name} has no second factor any more.")),
        Deed::EndSessions => (format!("{at}/sessions"), format!("{name} is logged out.")),
        Deed::Delete => (format!("/orgs/{}/users", segment(&org)), format!("Deleted {name}.")),
    };
    Ok(notice::done(&state, &to, &text))
}

//! `/orgs/{org}/users/new`: invitations for many at once.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::name::normalise;
use identity::rbac::Permission;
use serde::Deserialize;

use super::list::group_names;
use super::{Refusal, RoleChoices, RoleForm, SUGGESTIONS, drawn, give, misfit, role_words, segment, several, split};
use crate::State;
use crate::console::form::sentence;
use crate::console::{Form, FormProblem, Frame, Section, Viewer};
use crate::error::{Error, Result};
use crate::extract::{self, Path};
use crate::users::api::{self, Kind, UserToCreate};

/// Most addresses of one form.
const MOST: usize = 100;
/// Most projects that a role is given on in one go.
const MOST_PROJECTS: usize = 10;
/// The group that everybody is in by themselves.
const EVERYBODY: &str = "All Local Users";
const NO_ADDRESS: &str = "This is not an e-mail address.";

#[derive(Template)]
#[template(path = "users/new.html")]
struct NewPage {
    frame: Frame,
    given: InviteForm,
    groups: Vec<String>,
    /// Whether there are others, to be typed.
    more_groups: bool,
    choices: Option<RoleChoices>,
    problem: Option<FormProblem>,
}

#[derive(Template)]
#[template(path = "users/invited.html")]
struct InvitedPage {
    frame: Frame,
    results: Vec<Invited>,
    given: InviteForm,
    groups: Vec<String>,
    /// Whether there are others, to be typed.
    more_groups: bool,
    choices: Option<RoleChoices>,
    problem: Option<FormProblem>,
}

impl InvitedPage {
    fn count(&self, wanted: &str) -> usize {
        self.results.iter().filter(|result| result.outcome.word() == wanted).count()
    }
}

/// The fields of the form.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct InviteForm {
    addresses: String,
    groups: Vec<String>,
    role: String,
    projects: Vec<String>,
    /// Projects and groups that are not among those to tick.
    more_projects: String,
    more_groups: String,
    namespaces: String,
}

impl InviteForm {
    /// With what was typed beside what was ticked.
    fn whole(&self) -> Self {
        let mut whole = self.clone();
        whole.projects.extend(several(&self.more_projects));
        let typed = self.more_groups.lines().map(str::trim).filter(|name| !name.is_empty());
        whole.groups.extend(typed.map(ToOwned::to_owned));
        for list in [&mut whole.projects, &mut whole.groups] {
            let mut seen = BTreeSet::new();
            list.retain(|name| seen.insert(name.clone()));
        }
        whole
    }
}

/// Somebody to be invited.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Invitee {
    address: String,
    first_name: String,
    last_name: String,
}

impl Invitee {
    /// As it can be read again.
    fn typed(&self) -> String {
        match (self.first_name.as_str(), self.last_name.as_str()) {
            ("", "") => self.address.clone(),
            (first, "") => format!("{first} <{}>", self.address),
            (first, last) => format!("\"{last}, {first}\" <{}>", self.address),
        }
    }
}

/// What became of one.
#[derive(Debug)]
struct Invited {
    address: String,
    /// The address with the name that was written beside it.
    typed: String,
    /// Their page, where there is one.
    at: Option<String>,
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    /// Invited; with the roles that could not be given, and why.
    Invited(Vec<String>),
    /// A member before.
    Here,
    /// Not invited, for this reason.
    Refused(String),
}

impl Outcome {
    fn word(&self) -> &'static str {
        match self {
            Self::Invited(_) => "Invited",
            Self::Here => "Already here",
            Self::Refused(_) => "Refused",
        }
    }
}

/// The form.
pub(crate) async fn new(viewer: Viewer, Shared(state): Shared<State>, Path(org): Path<String>) -> Result<Response> {
    viewer.actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    ask(&viewer, &state, &org, InviteForm::default(), None).await
}

async fn ask(
    viewer: &Viewer,
    state: &State,
    org: &str,
    given: InviteForm,
    refusal: Option<Refusal>,
) -> Result<Response> {
    let (problem, refused) = split(refusal);
    let (groups, more_groups) = joinable(viewer, state, org).await?;
    let choices = RoleChoices::of(viewer, state, org).await?;
    let frame = viewer.frame(Section::Users);
    drawn(&NewPage { frame, given, groups, more_groups, choices, problem }, refused)
}

/// Groups that somebody can be put into by the viewer, and whether there are more.
async fn joinable(viewer: &Viewer, state: &State, org: &str) -> Result<(Vec<String>, bool)> {
    if !viewer.may(Permission::GroupWrite) {
        return Ok((Vec::new(), false));
    }
    let mut groups = group_names(viewer, state, org).await?;
    let more = i64::try_from(groups.len()).is_ok_and(|seen| seen >= SUGGESTIONS);
    groups.retain(|name| name != EVERYBODY);
    Ok((groups, more))
}

/// Invites everybody of the form, and says what became of each.
pub(crate) async fn invite(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Form(given): Form<InviteForm>,
) -> Result<Response> {
    viewer.actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let (invitees, whole) = (read(&given.addresses), given.whole());
    if let Some(mistake) = mistake(&invitees, &whole) {
        return ask(&viewer, &state, &org, given, Some(mistake)).await;
    }
    // Goes on where the browser does not wait: what was begun is whole, and the list of users tells it.
    let (asked, wanted) = ((viewer.clone(), state.clone(), org.clone()), whole);
    let work = tokio::spawn(async move {
        let (viewer, state, org) = asked;
        let mut results = Vec::with_capacity(invitees.len());
        for invitee in &invitees {
            results.push(invite_one(&viewer, &state, &org, invitee, &wanted).await);
        }
        results
    });
    let results = work.await.map_err(Error::internal)?;
    let again = results.iter().filter(|result| matches!(result.outcome, Outcome::Refused(_)));
    let addresses = again.map(|result| result.typed.as_str()).collect::<Vec<_>>().join("\n");
    let (groups, more_groups) = joinable(&viewer, &state, &org).await?;
    let choices = RoleChoices::of(&viewer, &state, &org).await?;
    let frame = viewer.frame(Section::Users);
    let given = InviteForm { addresses, ..given };
    drawn(&InvitedPage { frame, results, given, groups, more_groups, choices, problem: None }, None)
}

fn mistake(invitees: &[Invitee], form: &InviteForm) -> Option<Refusal> {
    if invitees.is_empty() {
        return Some(Refusal::mistake("addresses", "Write at least one e-mail address."));
    }
    if invitees.len() > MOST {
        let said = format!("At most {MOST} at once; these are {}.", invitees.len());
        return Some(Refusal::mistake("addresses", &said));
    }
    if form.projects.len() > MOST_PROJECTS {
        return Some(Refusal::mistake("projects", &format!("Choose at most {MOST_PROJECTS} projects.")));
    }
    if form.role.is_empty() {
        let unused = !form.projects.is_empty();
        return unused.then(|| Refusal::mistake("role", "Choose the role to give on these projects."));
    }
    let (field, reason) = misfit(&form.role, !form.projects.is_empty(), !form.namespaces.trim().is_empty())?;
    Some(Refusal::mistake(if field == "project" { "projects" } else { field }, &sentence(reason)))
}

async fn invite_one(viewer: &Viewer, state: &State, org: &str, invitee: &Invitee, form: &InviteForm) -> Invited {
    if !invitee.address.contains('@') {
        let outcome = Outcome::Refused(NO_ADDRESS.to_owned());
        return Invited { address: invitee.address.clone(), typed: invitee.typed(), at: None, outcome };
    }
    let new = UserToCreate {
        name: invitee.address.clone(),
        kind: Kind::Local,
        first_name: invitee.first_name.clone(),
        last_name: invitee.last_name.clone(),
        groups: form.groups.clone(),
    };
    let path = Path(org.to_owned());
    let made = api::create_user(viewer.actor(), Shared(state.clone()), path, extract::Json(new)).await;
    let (at, outcome) = match made {
        Ok(made) => {
            let name = made.body.name;
            let at = format!("/orgs/{}/users/{}", segment(org), segment(&name));
            (Some(at), Outcome::Invited(give_roles(viewer, state, org, &name, form).await))
        }
        Err(error) => not_invited(viewer, state, org, invitee, error).await,
    };
    Invited { address: invitee.address.clone(), typed: invitee.typed(), at, outcome }
}

/// Why somebody was not invited.
async fn not_invited(
    viewer: &Viewer,
    state: &State,
    org: &str,
    invitee: &Invitee,
    error: Error,
) -> (Option<String>, Outcome) {
    if matches!(error, Error::Conflict(_)) {
        let path = Path((org.to_owned(), normalise(&invitee.address)));
        if let Ok(found) = api::get_user(viewer.actor(), Shared(state.clone()), path).await {
            return (Some(format!("/orgs/{}/users/{}", segment(org), segment(&found.1.name))), Outcome::Here);
        }
    }
    (None, Outcome::Refused(reason(&error)))
}

fn reason(error: &Error) -> String {
    match error {
        Error::Invalid { field: "name", .. } => NO_ADDRESS.into(),
        Error::Invalid { reason, .. } => sentence(reason),
        Error::Internal(cause) => {
            tracing::error!(error = %cause, "an invitation failed");
            "Something broke on the server; its log says what.".into()
        }
        other => sentence(&other.to_string()),
    }
}

/// Gives the form's role to somebody who was just invited; what could not be given, and why.
async fn give_roles(viewer: &Viewer, state: &State, org: &str, name: &str, form: &InviteForm) -> Vec<String> {
    if form.role.is_empty() {
        return Vec::new();
    }
    let places = if form.projects.is_empty() { vec![String::new()] } else { form.projects.clone() };
    let mut problems = Vec::new();
    for project in places {
        let role = RoleForm { role: form.role.clone(), project, namespaces: form.namespaces.clone() };
        if let Err(error) = give(viewer, state, org, (Some(name.to_owned()), None), &role).await {
            let place = Some(role.project.as_str()).filter(|project| !project.is_empty());
            problems.push(format!("Without {}: {}", role_words(&role.role, place), reason(&error)));
        }
    }
    problems
}

/// Whoever a text names: one to a line or separated by commas or semicolons, as an address or as `Name <address>`.
fn read(text: &str) -> Vec<Invitee> {
    let (mut seen, mut invitees) = (BTreeSet::new(), Vec::new());
    for entry in entries(text) {
        for invitee in invitees_of(&entry) {
            if seen.insert(normalise(&invitee.address)) {
                invitees.push(invitee);
            }
        }
    }
    invitees
}

/// The parts of a list, with what stands in quotes kept together.
fn entries(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted) = (Vec::new(), String::new(), false);
    for c in text.chars() {
        match c {
            '"' => quoted = !quoted,
            // A quote that nobody closed does not swallow the next line.
            '\n' | '\r' => {
                quoted = false;
                parts.push(std::mem::take(&mut part));
            }
            ',' | ';' if !quoted => parts.push(std::mem::take(&mut part)),
            _ => part.push(c),
        }
    }
    parts.push(part);
    parts.into_iter().map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

fn invitees_of(entry: &str) -> Vec<Invitee> {
    if let Some((name, rest)) = entry.split_once('<') {
        let address = rest.split('>').next().unwrap_or_default().trim().to_owned();
        let (first_name, last_name) = names(name.trim());
        return vec![Invitee { address, first_name, last_name }];
    }
    let plain =
        |address: &str| Invitee { address: address.to_owned(), first_name: String::new(), last_name: String::new() };
    let words: Vec<&str> = entry.split_whitespace().collect();
    if words.iter().all(|word| word.contains('@')) {
        words.into_iter().map(plain).collect()
    } else {
        vec![plain(entry)]
    }
}

/// First and last name of `Ann Smith` or `Smith, Ann`.
fn names(text: &str) -> (String, String) {
    let text = text.trim_matches('\'').trim();
    let (first, last) = match text.split_once(',') {
        Some((last, first)) => (first, last),
        None => text.rsplit_once(char::is_whitespace).unwrap_or((text, "")),
    };
    (first.trim().to_owned(), last.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_people_paste_it() {
        let text = "ann@a.example\nBob Jones <bob@a.example>; \"Smith, Eve\" <eve@a.example>, <dan@a.example>\r\n\
                    one@a.example two@a.example\tANN@a.example\n\"open <x@a.example>\nlast@a.example,,\nnot an address";
        let read: Vec<_> =
            read(text).into_iter().map(|who| format!("{}|{}|{}", who.address, who.first_name, who.last_name)).collect();
        let expected = [
            "ann@a.example||",
            "bob@a.example|Bob|Jones",
            "eve@a.example|Eve|Smith",
            "dan@a.example||",
            "one@a.example||",
            "two@a.example||",
            "x@a.example|open|",
            "last@a.example||",
            "not an address||",
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn who_was_refused_is_written_so_that_it_reads_the_same_again() {
        for text in
            ["a@a.example", "Ann <a@a.example>", "\"Jones Smith, Ann Mary\" <a@a.example>", "Bob Jones <b@a.example>"]
        {
            let once = read(text);
            assert_eq!(read(&once[0].typed()), once, "{text}");
        }
    }
}

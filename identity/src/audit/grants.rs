//! What the audit log learns of the token service: who got in there, and what they were granted of what they asked for.

use std::collections::BTreeMap;

use serde_json::json;
use storage::names::RepoName;

use super::{Caller, Entry, Outcome};
use crate::core::Identity;
use crate::scope::Scope;
use crate::token::Access;

/// What can be granted on a repository. Other words are not repeated: a client may ask for anything.
const KNOWN: [&str; 4] = ["pull", "push", "delete", "*"];

/// What was asked of one organization.
#[derive(Debug, Default)]
struct Asked {
    /// `<repository>:<actions>` of what was granted.
    granted: Vec<String>,
    /// As much of what was refused.
    refused: Vec<String>,
    /// The projects, by their slugs.
    projects: Vec<String>,
    /// A repository that something was granted on.
    opened: Option<RepoName>,
}

impl Asked {
    fn add(&mut self, name: &RepoName, scope: &Scope, given: &[String]) {
        let text = |actions: &[&str]| format!("{}:{}", name.canonical(), actions.join(","));
        if !given.is_empty() {
            self.granted.push(text(&given.iter().map(String::as_str).collect::<Vec<_>>()));
            self.opened.get_or_insert_with(|| name.clone());
        }
        // `*` asks for whatever there is: it is refused where nothing came of it.
        let is_given = |action: &str| if action == "*" { !given.is_empty() } else { given.iter().any(|g| g == action) };
        let refused: Vec<&str> = scope.actions.iter().map(String::as_str).filter(|action| !is_given(action)).collect();
        if !refused.is_empty() {
            let known: Vec<&str> = refused.into_iter().filter(|action| KNOWN.contains(action)).collect();
            self.refused.push(text(&known));
        }
        if !self.projects.iter().any(|project| project == name.project()) {
            self.projects.push(name.project().to_owned());
        }
    }
}

impl Identity {
    /// Notes what a token grants of what was asked for: one event, `token.grant`, for each organization of the asked
    /// repositories, denied where anything was refused. Where nothing was granted at all, it goes where denials go
    /// ([`Identity::note_denial`]): strangers are no business of the organization.
    ///
    /// # Errors
    /// As [`Identity::note`].
    pub async fn note_grants(&self, by: &Caller, asked: &[Scope], granted: &[Access]) -> storage::Result<()> {
        let mut orgs: BTreeMap<String, Asked> = BTreeMap::new();
        for scope in asked.iter().filter(|scope| scope.kind == "repository" && !scope.actions.is_empty()) {
            // What is no name belongs to nobody.
            let Ok(name) = scope.name.parse::<RepoName>() else { continue };
            let found = granted.iter().find(|access| access.kind == scope.kind && access.name == scope.name);
            let given = found.map_or(&[][..], |access| &access.actions);
            orgs.entry(name.org().to_owned()).or_default().add(&name, scope, given);
        }
        for (slug, Asked { granted, refused, projects, opened }) in orgs {
            let denied = !refused.is_empty();
            let target = if granted.is_empty() { refused.join(" ") } else { granted.join(" ") };
            let entry = Entry {
                action: "token.grant",
                target: &target,
                project: if let [project] = &projects[..] { project } else { "" },
                outcome: if denied { Outcome::Denied } else { Outcome::Ok },
                reason: if denied { "not everything that was asked for may be granted" } else { "" },
                detail: json!({ "granted": granted, "refused": refused }),
                ..Entry::default()
            };
            match self.org_of_grant(opened).await {
                Some(org_id) => self.note(by, &Entry { org_id: &org_id, ..entry }).await?,
                None => self.note_denial(by, &slug, &Entry { outcome: Outcome::Denied, ..entry }).await,
            }
        }
        Ok(())
    }

    /// Id of the organization of a repository that something was granted on.
    async fn org_of_grant(&self, opened: Option<RepoName>) -> Option<String> {
        match self.place(&opened?).await {
            Ok(place) => place.map(|place| place.org_id.clone()),
            Err(error) => {
                tracing::warn!(%error, "cannot look up whose audit log a grant belongs to; it goes where denials go");
                None
            }
        }
    }

    /// Notes that somebody got in at the token service: in every organization that they came to, for an operator of none in
    /// the platform's.
    ///
    /// # Errors
    /// As [`Identity::note`].
    pub async fn note_login(&self, by: &Caller) -> storage::Result<()> {
        let orgs = match (&by.principal.key_org, self.subject(&by.principal.user_id).await) {
            (Some(org_id), _) => vec![org_id.clone()],
            (None, Ok(subject)) => subject.map(|subject| subject.orgs.clone()).unwrap_or_default(),
            (None, Err(error)) => {
                tracing::warn!(%error, "cannot look up whose audit log a log-in belongs to; it goes to the platform's");
                Vec::new()
            }
        };
        let entry = Entry { action: "login", target: &by.principal.name, ..Entry::default() };
        if orgs.is_empty() {
            self.note(by, &entry).await?;
        }
        for org_id in &orgs {
            self.note(by, &Entry { org_id, ..entry.clone() }).await?;
        }
        Ok(())
    }
}

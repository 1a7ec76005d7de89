//! Why: the same decision, with every reason that speaks for it, or what stands in its way.

use std::fmt;

use super::{Decision, Grant, Permission, Principal, Resource, Verdict, authorize};

/// Most reasons that are given.
const MOST: usize = 20;

/// A decision with its reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// What [`authorize`] says.
    pub decision: Decision,
    /// Why, at most 20 reasons; never none.
    pub because: Vec<Reason>,
}

/// A reason. `Display` is one clause for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// This binding allows it.
    Held(Held),
    /// The user runs the platform.
    Operator,
    /// The project is public.
    Public,
    /// This binding would allow it in repositories that match these patterns.
    Repositories(Held, String),
    /// This binding would allow it for tags that match these patterns.
    Tags(Held, String),
    /// The API key belongs to another organization.
    KeyOrg,
    /// The API key is narrowed to other projects.
    KeyProjects,
    /// The API key is narrowed to these permissions.
    KeyPermissions(Vec<Permission>),
    /// An API key lets nobody in who could let others in.
    KeyPassesOn,
    /// The user was deactivated in the organization.
    Deactivated,
    /// No role of theirs allows it there.
    NoRole,
}

/// A binding in words: through group X, role Y on project Z.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The binding's id.
    pub binding_id: String,
    /// The name of the group that it was had through.
    pub group: Option<String>,
    /// The role's name.
    pub role: String,
    /// The slug of the organization.
    pub org: String,
    /// The slug of the project; `None`: the whole organization.
    pub project: Option<String>,
}

/// Explains a decision. Pure, as the decision is, and of the same opinion.
#[must_use]
pub fn explain(principal: &Principal, permission: Permission, resource: &Resource<'_>) -> Explanation {
    let decision = authorize(principal, permission, resource);
    let because = match (&decision, resource) {
        (Decision::Deny(denial), _) => denial.because.clone(),
        (Decision::Allow(_), Resource::Platform) => vec![Reason::Operator],
        (Decision::Allow(_), _) => principal
            .counting()
            .filter(|grant| grant.verdict(permission, resource) == Verdict::Allows)
            .take(MOST)
            .map(|grant| Reason::Held(grant.into()))
            .collect(),
    };
    Explanation { decision, because }
}

/// What stands in the way.
pub(super) fn against(principal: &Principal, permission: Permission, resource: &Resource<'_>) -> Vec<Reason> {
    if let Some(narrow) = principal.narrowing.refuses(permission, resource) {
        return vec![narrow];
    }
    let org = match *resource {
        Resource::Platform => return vec![Reason::NoRole],
        Resource::Org { org_id }
        | Resource::Project { org_id, .. }
        | Resource::ProjectToCreate { org_id }
        | Resource::Repository { org_id, .. } => org_id,
    };
    if principal.key_org.as_ref().is_some_and(|key| key != org) {
        return vec![Reason::KeyOrg];
    }
    let mut reasons: Vec<Reason> = principal
        .counting()
        .filter_map(|grant| {
            let patterns = |patterns: Option<&super::Patterns>| patterns.map(ToString::to_string).unwrap_or_default();
            match grant.verdict(permission, resource) {
                Verdict::OtherRepositories => {
                    Some(Reason::Repositories(grant.into(), patterns(grant.role.repositories(permission))))
                }
                Verdict::OtherTags => Some(Reason::Tags(grant.into(), patterns(grant.role.tags(permission)))),
                Verdict::Allows | Verdict::Elsewhere | Verdict::Lacks => None,
            }
        })
        .take(MOST)
        .collect();
    if reasons.is_empty() {
        reasons.push(Reason::NoRole);
    }
    reasons
}

/// Reasons as the tail of a sentence.
pub(super) fn list(reasons: &[Reason]) -> String {
    if reasons.is_empty() {
        return String::new();
    }
    let texts: Vec<String> = reasons.iter().map(ToString::to_string).collect();
    format!(": {}", texts.join("; "))
}

impl From<&Grant> for Held {
    fn from(grant: &Grant) -> Self {
        Self {
            binding_id: grant.binding_id.clone(),
            group: grant.group.clone(),
            role: grant.role.name().to_owned(),
            org: grant.org.clone(),
            project: grant.project.clone().or_else(|| grant.project_id.clone()),
        }
    }
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(group) = &self.group {
            write!(f, "through group {group}, ")?;
        }
        match &self.project {
            Some(project) => write!(f, "role {} on project {project}", self.role),
            None => write!(f, "role {} on organization {}", self.role, self.org),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held(held) => held.fmt(f),
            Self::Operator => f.write_str("they run the platform"),
            Self::Public => f.write_str("the project is public: anybody may pull"),
            Self::Repositories(held, patterns) => {
                write!(f, "{held} allows it only in repositories that match {patterns}")
            }
            Self::Tags(held, patterns) => write!(f, "{held} allows it only for tags that match {patterns}"),
            Self::KeyOrg => f.write_str("the API key belongs to another organization"),
            Self::KeyProjects => f.write_str("the API key is narrowed to other projects"),
            Self::KeyPermissions(list) => {
                let names: Vec<&str> = list.iter().map(|permission| permission.as_str()).collect();
                write!(
                    f,
                    "the API key is narrowed to {}",
                    if names.is_empty() { "nothing".into() } else { names.join(", ") }
                )
            }
            Self::KeyPassesOn => f.write_str(
                "an API key passes nothing on by which others are let in, because it would outlive its revocation: log in",
            ),
            Self::Deactivated => f.write_str("the user is deactivated in this organization"),
            Self::NoRole => f.write_str("no role held there has it"),
        }
    }
}

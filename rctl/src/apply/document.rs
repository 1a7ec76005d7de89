//! Documents: what a file may say.

use serde::Deserialize;
use serde_json::Value;

use crate::error::{Error, Result};

/// Most documents of one call.
const MAX_DOCUMENTS: usize = 1000;
/// Most entries of a list.
const MAX_LIST: usize = 1000;

/// A document, checked.
#[derive(Debug, Clone)]
pub(crate) struct Document {
    /// Its place in the input, from 1.
    number: usize,
    /// The organization, if it names one.
    org: Option<String>,
    /// What it describes.
    pub(crate) thing: Thing,
}

/// What a document describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Thing {
    /// An organization, by slug.
    Organization(String, OrganizationSpec),
    /// A project, by slug.
    Project(String, ProjectSpec),
    /// A custom role, by name.
    Role(String, RoleSpec),
    /// A user, by name.
    User(String, UserSpec),
    /// A group, by name.
    Group(String, GroupSpec),
    /// A binding, which has no name.
    Binding(BindingSpec),
}

/// An organization.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OrganizationSpec {
    pub(crate) name: Option<String>,
    pub(crate) settings: Option<serde_json::Map<String, Value>>,
}

/// A project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ProjectSpec {
    pub(crate) public: Option<bool>,
    pub(crate) sparse: Option<bool>,
    pub(crate) description: Option<String>,
}

/// A custom role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleSpec {
    pub(crate) base: String,
    #[serde(default)]
    pub(crate) added: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) removed: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) repositories: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) tags: Option<Vec<String>>,
    #[serde(default)]
    pub(crate) description: Option<String>,
}

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct UserSpec {
    pub(crate) kind: Option<UserKind>,
    pub(crate) first_name: Option<String>,
    pub(crate) last_name: Option<String>,
    pub(crate) active: Option<bool>,
}

/// A kind of users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum UserKind {
    /// A person.
    Local,
    /// A machine.
    Machine,
}

/// A group; members, where they are given, are all of its members.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct GroupSpec {
    pub(crate) description: Option<String>,
    pub(crate) members: Option<Vec<String>>,
}

/// A binding.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BindingSpec {
    #[serde(default)]
    pub(crate) user: Option<String>,
    #[serde(default)]
    pub(crate) group: Option<String>,
    pub(crate) role: String,
    #[serde(default)]
    pub(crate) project: Option<String>,
    #[serde(default)]
    pub(crate) namespaces: Vec<String>,
}

/// The frame of every document.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frame {
    #[serde(rename = "apiVersion", default)]
    api_version: Option<String>,
    kind: String,
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Metadata {
    name: Option<String>,
    org: Option<String>,
}

/// Reads the documents of a text; `before` of them came in other files.
///
/// # Errors
/// [`Error::Document`] with the number of the first that cannot be.
pub(crate) fn parse(text: &str, before: usize) -> Result<Vec<Document>> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|error| Error::Usage(format!("neither YAML nor JSON: {error}")))?;
    let values = values.into_iter().filter(|value| !value.is_null());
    // A JSON file may hold a list of them.
    let values: Vec<Value> =
        values.flat_map(|value| if let Value::Array(all) = value { all } else { vec![value] }).collect();
    if before + values.len() > MAX_DOCUMENTS {
        return Err(Error::Usage(format!("more than {MAX_DOCUMENTS} documents: apply them in parts")));
    }
    values.into_iter().enumerate().map(|(at, value)| check(value, before + at + 1)).collect()
}

fn check(value: Value, number: usize) -> Result<Document> {
    let label = value.get("kind").and_then(Value::as_str).map(|kind| format!(" ({kind})")).unwrap_or_default();
    let wrong = |what: String| Error::Document { number, name: label.clone(), error: Box::new(Error::Usage(what)) };
    let frame: Frame = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    if frame.api_version.as_deref().is_some_and(|version| version != "wharfinger/v1") {
        return Err(wrong("apiVersion: use wharfinger/v1, or leave it out".into()));
    }
    let spec = if frame.spec.is_null() { Value::Object(serde_json::Map::new()) } else { frame.spec };
    if too_long(&spec) {
        return Err(wrong(format!("a list has more than {MAX_LIST} entries")));
    }
    let name = frame.metadata.name.filter(|name| !name.is_empty());
    let named = || name.clone().ok_or_else(|| wrong("metadata: name: it needs one".into()));
    let thing = match frame.kind.as_str() {
        "Organization" => Thing::Organization(named()?, read(spec).map_err(wrong)?),
        "Project" => Thing::Project(named()?, read(spec).map_err(wrong)?),
        "Role" => Thing::Role(named()?, read(spec).map_err(wrong)?),
        "User" => Thing::User(named()?, read(spec).map_err(wrong)?),
        "Group" => Thing::Group(named()?, read(spec).map_err(wrong)?),
        "Binding" => {
            let spec: BindingSpec = read(spec).map_err(wrong)?;
            if spec.user.is_some() == spec.group.is_some() {
                return Err(wrong("spec: name either a user or a group".into()));
            }
            Thing::Binding(spec)
        }
        other => {
            let kinds = "Organization, Project, User, Group, Role or Binding";
            return Err(wrong(format!("kind {other:?}: use {kinds}")));
        }
    };
    Ok(Document { number, org: frame.metadata.org, thing })
}

fn read<T: serde::de::DeserializeOwned>(spec: Value) -> std::result::Result<T, String> {
    serde_json::from_value(spec).map_err(|error| format!("spec: {error}"))
}

fn too_long(spec: &Value) -> bool {
    let lists = spec.as_object().into_iter().flat_map(serde_json::Map::values).filter_map(Value::as_array);
    lists.into_iter().any(|list| list.len() > MAX_LIST)
}

impl Document {
    /// Its kind and name.
    pub(crate) fn title(&self) -> String {
        match &self.thing {
            Thing::Organization(name, _) => format!("Organization {name}"),
            Thing::Project(name, _) => format!("Project {name}"),
            Thing::Role(name, _) => format!("Role {name}"),
            Thing::User(name, _) => format!("User {name}"),
            Thing::Group(name, _) => format!("Group {name}"),
            Thing::Binding(spec) => {
                let who = spec.user.as_deref().or(spec.group.as_deref()).unwrap_or_default();
                let place = spec.project.as_ref().map(|project| format!(" on {project}")).unwrap_or_default();
                format!("Binding {} for {who}{place}", spec.role)
            }
        }
    }

    /// The order in which things depend on each other.
    pub(crate) fn rank(&self) -> u8 {
        match self.thing {
            Thing::Organization(..) => 0,
            Thing::Project(..) => 1,
            Thing::Role(..) => 2,
            Thing::User(..) => 3,
            Thing::Group(..) => 4,
            Thing::Binding(..) => 5,
        }
    }

    /// Whether it says in which organization it is.
    pub(crate) fn names_org(&self) -> bool {
        self.org.is_some() || matches!(self.thing, Thing::Organization(..))
    }

    /// The organization that it is in.
    pub(crate) fn org<'a>(&'a self, default: &'a str) -> &'a str {
        self.org.as_deref().unwrap_or(default)
    }

    /// Says of an error which document it is about.
    pub(crate) fn blame(&self, error: Error) -> Error {
        Error::Document { number: self.number, name: format!(" ({})", self.title()), error: Box::new(error) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn errors_name_the_document() {
        let good = "kind: Project\nmetadata: {name: web}\n";
        for (bad, word) in [
            ("kind: Projekt\nmetadata: {name: x}", "Projekt"),
            ("kind: Project", "name"),
            ("kind: Project\nmetadata: {name: x}\nspec: {publik: true}", "publik"),
            ("kind: Role\nmetadata: {name: x}", "base"),
            ("kind: Binding\nspec: {role: ADMIN}", "either"),
            ("kind: Binding\nspec: {role: ADMIN, user: a, group: b}", "either"),
            ("kind: User\nmetadata: {name: x, password: y}", "password"),
            ("apiVersion: v1\nkind: Project\nmetadata: {name: x}", "apiVersion"),
            ("[]", ""),
        ] {
            let text = format!("{good}---\n{good}---\n{bad}\n");
            match parse(&text, 0) {
                Err(error) => {
                    let said = error.to_string();
                    assert!(said.contains("document 3") && said.contains(word), "{bad}: {said}");
                    assert_eq!(error.exit_code(), crate::error::exit::USAGE);
                }
                Ok(documents) => assert!(bad == "[]" && documents.len() == 2, "{bad}"),
            }
        }
    }

    #[test]
    fn json_is_as_good_as_yaml() {
        let one = r#"{"kind": "User", "metadata": {"name": "ci"}, "spec": {"kind": "machine"}}"#;
        let all = parse(&format!("[{one}, {one}]"), 0).unwrap();
        assert_eq!(all.len(), 2);
        assert!(
            matches!(&all[1].thing, Thing::User(name, spec) if name == "ci" && spec.kind == Some(UserKind::Machine))
        );
    }

    #[test]
    fn bombs_do_not_go_off() {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x,x]\n");
        for (this, last) in ('b'..='j').zip('a'..='i') {
            text.push_str(&format!("{this}: &{this} [{}]\n", vec![format!("*{last}"); 10].join(",")));
        }
        assert!(parse(&text, 0).is_err());
        assert!(parse(&"[".repeat(100_000), 0).is_err());
        assert!(parse(&"kind: Project\nmetadata: {name: x}\n---\n".repeat(MAX_DOCUMENTS + 1), 0).is_err());
    }
}

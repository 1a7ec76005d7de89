//! What has to change, shown as a difference, and the calls that change it.

use serde_json::{Map, Value, json};
use similar::TextDiff;

use super::document::{Document, Thing};
use super::resource::{self, Current};
use crate::client::Call;
use crate::commands::group::{add_member, remove_member};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{clean, yaml};

/// What becomes of a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The thing is new.
    Created,
    /// It is there, but not so.
    Changed,
    /// It is there, and so.
    Unchanged,
}

impl Outcome {
    /// In the words of a report.
    pub(crate) fn done(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
        }
    }

    /// In the words of a preview.
    pub(crate) fn would(self) -> &'static str {
        match self {
            Self::Created => "would be created",
            Self::Changed => "would be changed",
            Self::Unchanged => "unchanged",
        }
    }
}

/// The way from what is there to what is wanted.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// What becomes of it.
    pub(crate) outcome: Outcome,
    current: Option<Current>,
    desired: Value,
}

impl Change {
    /// The difference, a line a line; empty where there is none.
    ///
    /// # Errors
    /// [`Error::Other`] for what YAML cannot say.
    pub(crate) fn diff(&self, colour: bool) -> Result<String> {
        if self.outcome == Outcome::Unchanged {
            return Ok(String::new());
        }
        let before = self.current.as_ref().map(|current| yaml(&current.fields)).transpose()?.unwrap_or_default();
        let after =
            if self.desired.as_object().is_some_and(Map::is_empty) { String::new() } else { yaml(&self.desired)? };
        let mut text = String::new();
        for change in TextDiff::from_lines(before.as_str(), after.as_str()).iter_all_changes() {
            let (sign, code) = match change.tag() {
                similar::ChangeTag::Delete => ('-', "31"),
                similar::ChangeTag::Insert => ('+', "32"),
                similar::ChangeTag::Equal => (' ', "0"),
            };
            let line = clean(change.value().trim_end_matches('\n'));
            text.push_str(&if colour {
                format!("  \x1b[{code}m{sign} {line}\x1b[0m\n")
            } else {
                format!("  {sign} {line}\n")
            });
        }
        Ok(text)
    }

    /// Those wanted fields that are not so yet.
    fn differing(&self) -> Map<String, Value> {
        let before = self.current.as_ref().map(|current| &current.fields);
        let wanted = self.desired.as_object().cloned().unwrap_or_default();
        wanted.into_iter().filter(|(name, value)| before.is_none_or(|before| before[name] != *value)).collect()
    }
}

/// Compares a document with what is there.
///
/// # Errors
/// The server's; [`Error::Usage`] for changes that cannot be.
pub(crate) async fn compare(context: &Context, document: &Document, org: &str) -> Result<Change> {
    let desired = resource::desired(&document.thing);
    let current = resource::current(context, document.org(org), &document.thing, &desired).await?;
    let outcome = match &current {
        None => Outcome::Created,
        Some(current) if current.fields == desired => Outcome::Unchanged,
        Some(_) => Outcome::Changed,
    };
    let change = Change { outcome, current, desired };
    let fixed = match &document.thing {
        Thing::User(..) => "kind",
        Thing::Role(..) => "base",
        _ => "",
    };
    if outcome == Outcome::Changed && change.differing().contains_key(fixed) {
        return Err(Error::Usage(format!(
            "spec: {fixed}: it cannot change; delete the thing first, or use another name"
        )));
    }
    Ok(change)
}

/// Makes it so.
///
/// # Errors
/// The server's.
pub(crate) async fn carry_out(context: &Context, document: &Document, org: &str, change: &Change) -> Result<()> {
    let org = document.org(org);
    let new = change.outcome == Outcome::Created;
    let mut fields = change.differing();
    let client = context.client()?;
    match &document.thing {
        Thing::Organization(slug, _) => {
            let settings = fields.remove("settings");
            put(context, new, &["orgs"], ("slug", slug), fields).await?;
            if let Some(settings) = settings {
                client.update(&["orgs", slug, "settings"], settings).await?;
            }
        }
        Thing::Project(slug, _) => put(context, new, &["orgs", org, "projects"], ("slug", slug), fields).await?,
        Thing::Role(name, _) => put(context, new, &["orgs", org, "roles"], ("name", name), fields).await?,
        Thing::User(name, _) => {
            let active = fields.remove("active").and_then(|active| active.as_bool());
            if new {
                fields.entry("kind").or_insert_with(|| "local".into());
            }
            put(context, new, &["orgs", org, "users"], ("name", name), fields).await?;
            match active {
                Some(true) if new => {}
                Some(active) => {
                    let verb = if active { "activate" } else { "deactivate" };
                    client.send(&Call::post(&["orgs", org, "users", name, verb])).await?;
                }
                None => {}
            }
        }
        Thing::Group(name, _) => {
            let members = fields.remove("members");
            put(context, new, &["orgs", org, "groups"], ("name", name), fields).await?;
            if let Some(members) = members {
                set_members(context, org, name, &members).await?;
            }
        }
        Thing::Binding(_) => {
            client.send(&Call::create(&["orgs", org, "bindings"], change.desired.clone())?).await?;
            if let Some(id) = change.current.as_ref().and_then(|current| current.id.as_deref()) {
                client.send(&Call::delete(&["orgs", org, "bindings", id])).await?;
            }
        }
    }
    Ok(())
}

/// Makes a thing in a collection, or changes the one of that name; nothing where there is nothing to change.
async fn put(
    context: &Context,
    new: bool,
    collection: &[&str],
    (key, name): (&str, &str),
    mut fields: Map<String, Value>,
) -> Result<()> {
    let client = context.client()?;
    if new {
        fields.insert(key.into(), name.into());
        client.send(&Call::create(collection, Value::Object(fields))?).await?;
    } else if !fields.is_empty() {
        client.update(&[collection, &[name]].concat(), Value::Object(fields)).await?;
    }
    Ok(())
}

/// Puts those into a group that are missing, and takes those out that are too many.
async fn set_members(context: &Context, org: &str, group: &str, wanted: &Value) -> Result<()> {
    let there = json!(resource::members(context, org, group).await?);
    let names = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (there, wanted) = (names(&there), names(wanted));
    for name in wanted.iter().filter(|name| !there.contains(name)) {
        add_member(context, org, group, name).await?;
    }
    for name in there.iter().filter(|name| !wanted.contains(name)) {
        remove_member(context, org, group, name).await?;
    }
    Ok(())
}

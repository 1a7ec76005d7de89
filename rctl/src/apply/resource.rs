//! What a document wants, and what of it is there: both as the fields that the document names, so that they can be compared.

use serde_json::{Map, Value, json};

use super::document::{BindingSpec, Thing, UserKind};
use crate::client::Call;
use crate::commands::Fields;
use crate::commands::binding::Filter;
use crate::context::Context;
use crate::error::{Error, Result};

/// The fields that a document names, lists in order.
pub(crate) fn desired(thing: &Thing) -> Value {
    let fields = match thing {
        Thing::Organization(_, spec) => {
            Fields::default().maybe("name", spec.name.clone()).maybe("settings", spec.settings.clone())
        }
        Thing::Project(_, spec) => Fields::default()
            .maybe("public", spec.public)
            .maybe("sparse", spec.sparse)
            .maybe("description", spec.description.clone()),
        Thing::Role(_, spec) => Fields::default()
            .with("base", spec.base.as_str())
            .maybe("added", spec.added.clone().map(sorted))
            .maybe("removed", spec.removed.clone().map(sorted))
            .maybe("repositories", spec.repositories.clone().map(sorted))
            .maybe("tags", spec.tags.clone().map(sorted))
            .maybe("description", spec.description.clone()),
        Thing::User(_, spec) => Fields::default()
            .maybe("kind", spec.kind.map(kind))
            .maybe("first_name", spec.first_name.clone())
            .maybe("last_name", spec.last_name.clone())
            .maybe("active", spec.active),
        Thing::Group(_, spec) => Fields::default()
            .maybe("description", spec.description.clone())
            .maybe("members", spec.members.clone().map(sorted)),
        Thing::Binding(spec) => Fields::default()
            .maybe("user", spec.user.clone())
            .maybe("group", spec.group.clone())
            .with("role", spec.role.as_str())
            .maybe("project", spec.project.clone())
            .list("namespaces", &sorted(spec.namespaces.clone())),
    };
    fields.into_value()
}

/// How the API calls a kind.
pub(crate) fn kind(kind: UserKind) -> &'static str {
    match kind {
        UserKind::Local => "local",
        UserKind::Machine => "machine",
    }
}

fn sorted(mut list: Vec<String>) -> Vec<String> {
    list.sort_unstable();
    list.dedup();
    list
}

/// What is there.
#[derive(Debug, Clone)]
pub(crate) struct Current {
    /// The fields of [`desired`], as they are now.
    pub(crate) fields: Value,
    /// The id, of things without a name.
    pub(crate) id: Option<String>,
}

/// What is there of a thing; `None` where it is not there at all.
///
/// # Errors
/// The server's.
pub(crate) async fn current(context: &Context, org: &str, thing: &Thing, desired: &Value) -> Result<Option<Current>> {
    let Some(mut found) = (match thing {
        Thing::Organization(slug, _) => get(context, &["orgs", slug]).await?,
        Thing::Project(slug, _) => get(context, &["orgs", org, "projects", slug]).await?,
        Thing::Role(name, _) => get(context, &["orgs", org, "roles", name]).await?,
        Thing::User(name, _) => get(context, &["orgs", org, "users", name]).await?,
        Thing::Group(name, _) => get(context, &["orgs", org, "groups", name]).await?,
        Thing::Binding(spec) => return binding(context, org, spec).await,
    }) else {
        return Ok(None);
    };
    match thing {
        Thing::Organization(slug, spec) if spec.settings.is_some() => {
            found["settings"] = get(context, &["orgs", slug, "settings"]).await?.unwrap_or_default();
        }
        Thing::Group(name, spec) if spec.members.is_some() => {
            found["members"] = sorted(members(context, org, name).await?).into();
        }
        Thing::User(..) => {
            if let Some(status) = found["status"].as_str() {
                found["active"] = (status != "inactive").into();
            }
        }
        _ => {}
    }
    Ok(Some(Current { fields: project(&found, desired), id: None }))
}

async fn get(context: &Context, segments: &[&str]) -> Result<Option<Value>> {
    match context.client()?.send(&Call::get(segments)).await {
        Ok(reply) => Ok(Some(reply.body)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The names in a group.
///
/// # Errors
/// The server's.
pub(crate) async fn members(context: &Context, org: &str, group: &str) -> Result<Vec<String>> {
    let path = ["orgs", org, "groups", group, "members"];
    let (items, _) = context.client()?.list(&Call::get(&path), crate::client::MAX_ITEMS, |_| ()).await?;
    let names = items.iter().filter_map(|item| item["name"].as_str().or_else(|| item["user"].as_str()));
    Ok(names.map(str::to_owned).collect())
}

async fn binding(context: &Context, org: &str, spec: &BindingSpec) -> Result<Option<Current>> {
    let filter = Filter {
        user: spec.user.clone(),
        group: spec.group.clone(),
        project: spec.project.clone(),
        role: Some(spec.role.clone()),
    };
    let found = match filter.find(context, org, None).await {
        // The user, group or project may be made by a document before.
        Err(Error::Refused(problem)) if matches!(problem.status, 404 | 422) => return Ok(None),
        found => found?,
    };
    let ids = crate::commands::binding::exact(&filter, &found);
    let Some(there) = found.iter().find(|binding| ids.iter().any(|id| binding["id"] == id.as_str())) else {
        return Ok(None);
    };
    let mut wanted = desired(&Thing::Binding(spec.clone()));
    if there["namespaces"].as_array().is_some_and(|list| !list.is_empty()) {
        wanted["namespaces"] = json!([]);
    }
    Ok(Some(Current { fields: project(there, &wanted), id: there["id"].as_str().map(str::to_owned) }))
}

/// Those fields of `found` that `desired` has; lists in order.
fn project(found: &Value, desired: &Value) -> Value {
    let names = desired.as_object().into_iter().flat_map(Map::keys);
    let fields = names.map(|name| {
        let value = match (&found[name.as_str()], &desired[name.as_str()]) {
            (there @ Value::Object(_), wanted @ Value::Object(_)) => project(there, wanted),
            // What was never set and what is set to nothing are the same.
            (Value::Null, Value::Array(_)) => json!([]),
            (Value::Null, Value::String(text)) if text.is_empty() => json!(""),
            (Value::Array(list), _) => {
                let names: Option<Vec<String>> = list.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                names.map_or_else(|| list.clone().into(), |names| sorted(names).into())
            }
            (other, _) => other.clone(),
        };
        (name.clone(), value)
    });
    Value::Object(fields.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_document_names_is_compared() {
        let found = json!({"public": true, "sparse": false, "created_at": "x", "tags": ["b", "a"], "settings": {"a": 1, "b": 2}});
        let wanted = json!({"public": false, "tags": ["a"], "settings": {"a": 3}, "description": ""});
        let shown = project(&found, &wanted);
        assert_eq!(shown, json!({"public": true, "tags": ["a", "b"], "settings": {"a": 1}, "description": ""}));
    }
}

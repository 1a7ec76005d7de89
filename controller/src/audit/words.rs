//! What happened, in words: actions as people name them, and what changed as rows.

use serde_json::{Map, Value};

/// Every action, and what people call it.
pub(crate) const ACTIONS: &[(&str, &str)] = &[
    ("image.push", "Image push"),
    ("image.pull", "Image pull"),
    ("image.delete", "Image deletion"),
    ("tag.delete", "Tag deletion"),
    ("repository.delete", "Repository deletion"),
    ("login", "Log-in"),
    ("access.denied", "Refused request"),
    ("session.begin", "Session begun"),
    ("session.switch", "Switch of organization"),
    ("session.end", "Session ended"),
    ("session.end_all", "All sessions ended"),
    ("token.grant", "Registry token granted"),
    ("token.exchange", "Token exchange"),
    ("device.approve", "Terminal log-in approved"),
    ("device.deny", "Terminal log-in denied"),
    ("password.change", "Password change"),
    ("password.reset", "Password reset"),
    ("password.reset_request", "Password reset asked for"),
    ("mfa.enrol", "Second factor set up"),
    ("mfa.remove", "Second factor removed"),
    ("mfa.reset", "Second factor reset"),
    ("mfa.recovery_use", "Recovery code used"),
    ("passkey.add", "Passkey added"),
    ("passkey.remove", "Passkey removed"),
    ("passkey.rename", "Passkey renamed"),
    ("apikey.create", "API key made"),
    ("apikey.delete", "API key revoked"),
    ("user.invite", "Invitation"),
    ("user.resend", "Invitation sent again"),
    ("user.create", "User added"),
    ("user.update", "User changed"),
    ("user.deactivate", "User deactivated"),
    ("user.activate", "User activated"),
    ("user.unlock", "User unlocked"),
    ("user.delete", "User removed"),
    ("group.create", "Group made"),
    ("group.update", "Group changed"),
    ("group.delete", "Group deleted"),
    ("group.member_add", "Group member added"),
    ("group.member_remove", "Group member removed"),
    ("binding.create", "Role given"),
    ("binding.delete", "Role taken away"),
    ("role.create", "Custom role made"),
    ("role.update", "Custom role changed"),
    ("role.delete", "Custom role deleted"),
    ("project.create", "Project made"),
    ("project.update", "Project changed"),
    ("project.delete", "Project deleted"),
    ("issuer.create", "Trusted issuer added"),
    ("issuer.update", "Trusted issuer changed"),
    ("issuer.delete", "Trusted issuer removed"),
    ("settings.update", "Settings changed"),
    ("org.create", "Organization made"),
    ("org.update", "Organization changed"),
    ("org.suspend", "Organization suspended"),
    ("org.resume", "Organization resumed"),
    ("org.delete_request", "Deletion of the organization asked for"),
    ("org.delete_cancel", "Deletion of the organization called off"),
    ("org.delete", "Organization deleted"),
    ("audit.export", "Audit export"),
    ("audit.cut", "Old audit events removed"),
];

/// Kinds of actions that can be asked for together.
pub(crate) const KINDS: &[(&str, &str)] = &[
    ("image.*", "Everything about images"),
    ("user.*", "Everything about users"),
    ("group.*", "Everything about groups"),
    ("binding.*", "Everything about who has which role"),
    ("project.*", "Everything about projects"),
    ("session.*", "Everything about sessions"),
    ("apikey.*", "Everything about API keys"),
    ("mfa.*", "Everything about second factors"),
];

/// What people call an action.
pub(crate) fn action(code: &str) -> String {
    let known = ACTIONS.iter().find(|(known, _)| *known == code);
    known.map_or_else(|| code.replace(['.', '_'], " "), |(_, words)| (*words).to_owned())
}

/// A field that an event tells of.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Its name.
    pub(crate) field: String,
    /// What it was; `None` where the event does not tell of a state before.
    pub(crate) before: Option<String>,
    /// What it is.
    pub(crate) after: Option<String>,
    /// Whether those differ.
    pub(crate) differs: bool,
}

/// What an event tells: what changed, and whatever else it says.
pub(crate) fn told(detail: &Value) -> (Vec<Change>, Vec<(String, String)>) {
    let Value::Object(fields) = detail else {
        let said = if detail.is_null() { Vec::new() } else { vec![("detail".to_owned(), shown(detail))] };
        return (Vec::new(), said);
    };
    let nothing = Map::new();
    let side = |name: &str| fields.get(name).and_then(Value::as_object);
    let (before, after) = (side("before"), side("after"));
    let mut names: Vec<&String> = before.unwrap_or(&nothing).keys().collect();
    names.extend(after.unwrap_or(&nothing).keys().filter(|name| !before.is_some_and(|b| b.contains_key(*name))));
    let mut changes: Vec<Change> = names
        .into_iter()
        .map(|name| {
            let (was, is) = (before.and_then(|side| side.get(name)), after.and_then(|side| side.get(name)));
            Change { field: plain(name), before: was.map(shown), after: is.map(shown), differs: was != is }
        })
        .collect();
    // What changed comes first.
    changes.sort_by_key(|change| !change.differs);
    let rest =
        fields.iter().filter(|(name, value)| !(matches!(name.as_str(), "before" | "after") && value.is_object()));
    (changes, rest.map(|(name, value)| (plain(name), shown(value))).collect())
}

/// A field's name as people read it.
fn plain(name: &str) -> String {
    name.replace('_', " ")
}

/// A value as people read it.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "not set".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "none".to_owned(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_change_is_told_field_by_field_with_what_differs_first() {
        let detail = json!({
            "before": {"description": "", "public": false, "gone": 1},
            "after": {"description": "", "public": true, "tags": ["a", "b"]},
            "with_images": true,
        });
        let (changes, said) = told(&detail);
        let row = |field: &str, before: Option<&str>, after: Option<&str>, differs| Change {
            field: field.into(),
            before: before.map(Into::into),
            after: after.map(Into::into),
            differs,
        };
        assert_eq!(
            changes,
            [
                row("gone", Some("1"), None, true),
                row("public", Some("no"), Some("yes"), true),
                row("tags", None, Some("a, b"), true),
                row("description", Some("empty"), Some("empty"), false),
            ]
        );
        assert_eq!(said, [("with images".to_owned(), "yes".to_owned())]);
        assert_eq!(told(&Value::Null), (Vec::new(), Vec::new()));
        assert_eq!(told(&json!({"before": "yesterday"})).1, [("before".to_owned(), "yesterday".to_owned())]);
    }

    #[test]
    fn every_action_has_one_name() {
        for (n, (code, words)) in ACTIONS.iter().enumerate() {
            assert!(!words.is_empty());
            assert!(ACTIONS.iter().skip(n + 1).all(|(other, _)| other != code), "{code}");
        }
        assert_eq!(action("image.push"), "Image push");
        assert_eq!(action("kite.fly_high"), "kite fly high");
    }
}

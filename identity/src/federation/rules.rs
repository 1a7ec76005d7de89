//! Which tokens of an issuer count: every claim that a rule names must be there and equal one of the rule's texts. No
//! patterns: a pattern that lets in one repository too many looks like one that does not.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// Most rules of one trust.
const MOST_RULES: usize = 20;
/// Most values of one rule.
const MOST_VALUES: usize = 50;
/// Longest name of a claim, in bytes.
const MAX_CLAIM: usize = 128;
/// Longest value, in bytes.
const MAX_VALUE: usize = 512;
/// Claims that are checked without a rule.
const CHECKED_ANYWAY: [&str; 5] = ["iss", "aud", "exp", "nbf", "iat"];

/// Claims that name one workload of an issuer that many share: a repository, a project, a service account. A set of rules
/// holds all claims of at least one of these rows, else "any repository of GitHub" would be a machine of ours.
const SUBJECTS: [&[&str]; 8] = [
    &["sub"],
    // GitHub Actions.
    &["repository_id"],
    &["repository"],
    // GitLab CI.
    &["project_id"],
    &["project_path"],
    // Kubernetes. A pod's own name is made up anew with each pod.
    &["kubernetes.io/serviceaccount/uid"],
    &["kubernetes.io/namespace", "kubernetes.io/serviceaccount/name"],
    // Flat claims of other issuers that repeat Kubernetes' words.
    &["kubernetes.io/serviceaccount/namespace", "kubernetes.io/serviceaccount/service-account.name"],
];

/// Why rules were refused. `Display` is meant for whoever wrote them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// No rule says which workload it is.
    #[error(
        "name the workload: a rule for sub, or for repository_id or repository (GitHub), project_id or project_path (GitLab), \
         kubernetes.io/serviceaccount/uid, or both kubernetes.io/namespace and kubernetes.io/serviceaccount/name \
         (Kubernetes); without one, everybody whom the issuer gives tokens to would be this machine"
    )]
    NoSubject,
    /// Too many.
    #[error("at most {MOST_RULES} rules of at most {MOST_VALUES} values each")]
    TooMany,
    /// A rule that nothing can fit.
    #[error("{0}: name at least one value")]
    NoValue(String),
    /// The name of a claim that cannot be one.
    #[error("a claim's name has 1 to {MAX_CLAIM} bytes, no control characters, and no empty part between slashes")]
    Claim,
    /// A value that cannot be one.
    #[error("{0}: a value has 1 to {MAX_VALUE} bytes and no control characters")]
    Value(String),
    /// A value that looks like a pattern.
    #[error("{0}: values are compared as they are, so `*` stands for itself alone: list the values")]
    Pattern(String),
    /// A claim that is checked without a rule.
    #[error("{0} is checked anyway: make no rule for it")]
    CheckedAnyway(String),
}

/// The rules of one trust: claim → the texts that it may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules(BTreeMap<String, Vec<String>>);

impl Rules {
    /// Checks rules.
    ///
    /// # Errors
    /// [`RulesError`].
    pub fn new(rules: BTreeMap<String, Vec<String>>) -> Result<Self, RulesError> {
        if rules.len() > MOST_RULES || rules.values().any(|values| values.len() > MOST_VALUES) {
            return Err(RulesError::TooMany);
        }
        for (claim, values) in &rules {
            let plain = !claim.chars().any(char::is_control) && claim.split('/').all(|part| !part.is_empty());
            let url = claim.starts_with("https://") || claim.starts_with("http://");
            if !(1..=MAX_CLAIM).contains(&claim.len()) || (!plain && !url) {
                return Err(RulesError::Claim);
            }
            if CHECKED_ANYWAY.contains(&claim.as_str()) {
                return Err(RulesError::CheckedAnyway(claim.clone()));
            }
            if values.is_empty() {
                return Err(RulesError::NoValue(claim.clone()));
            }
            for value in values {
                if !(1..=MAX_VALUE).contains(&value.len()) || value.chars().any(char::is_control) {
                    return Err(RulesError::Value(claim.clone()));
                }
                if value.contains('*') {
                    return Err(RulesError::Pattern(claim.clone()));
                }
            }
        }
        let named = SUBJECTS.iter().any(|row| row.iter().all(|claim| rules.contains_key(*claim)));
        if named { Ok(Self(rules)) } else { Err(RulesError::NoSubject) }
    }

    /// Reads them from a row; `None` where they are not what [`Rules::to_row`] wrote.
    pub(super) fn from_row(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok().and_then(|rules| Self::new(rules).ok())
    }

    /// As a row keeps them.
    pub(super) fn to_row(&self) -> String {
        serde_json::json!(self.0).to_string()
    }

    /// Claim → values.
    #[must_use]
    pub fn as_map(&self) -> &BTreeMap<String, Vec<String>> {
        &self.0
    }

    /// The claim of the first rule that does not hold.
    pub(super) fn first_failed(&self, claims: &Map<String, Value>) -> Option<&str> {
        let holds = |claim: &str, values: &[String]| find(claims, claim).is_some_and(|found| fits(found, values));
        self.0.iter().find(|(claim, values)| !holds(claim, values)).map(|(claim, _)| claim.as_str())
    }
}

/// A claim by its name, or by its path where it lies in others: `kubernetes.io/serviceaccount/name`.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(found) = claims.get(path) {
        return Some(found);
    }
    let (head, rest) = path.split_once('/')?;
    find(claims.get(head)?.as_object()?, rest)
}

/// Whether a claim is one of the texts, or a list that holds one. Whole numbers and truth values are compared as JSON
/// spells them; nothing else is ever equal.
fn fits(found: &Value, values: &[String]) -> bool {
    let equals = |found: &Value| match found {
        Value::String(text) => values.iter().any(|value| value == text),
        Value::Bool(true) => values.iter().any(|value| value == "true"),
        Value::Bool(false) => values.iter().any(|value| value == "false"),
        Value::Number(number) if number.is_i64() || number.is_u64() => {
            values.iter().any(|value| *value == number.to_string())
        }
        _ => false,
    };
    match found {
        Value::Array(list) => list.iter().any(equals),
        single => equals(single),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
    use super::*;
    use serde_json::json;

    fn rules(value: Value) -> Result<Rules, RulesError> {
        Rules::new(serde_json::from_value(value).unwrap())
    }

    fn failed(rules: &Rules, claims: Value) -> Option<String> {
        rules.first_failed(claims.as_object().unwrap()).map(ToOwned::to_owned)
    }

    #[test]
    fn every_rule_must_hold_exactly() {
        let rules =
            rules(json!({"sub": ["repo:acme/app:ref:refs/heads/main"], "environment": ["prod", "stage"]})).unwrap();
        let sub = "repo:acme/app:ref:refs/heads/main";
        assert_eq!(failed(&rules, json!({"sub": sub, "environment": "stage"})), None);
        assert_eq!(failed(&rules, json!({"sub": sub, "environment": ["dev", "prod"]})), None);
        assert_eq!(failed(&rules, json!({"sub": sub})).as_deref(), Some("environment"));
        for wrong in
            [json!("Prod"), json!("prod "), json!(""), json!(null), json!([]), json!({"prod": 1}), json!([["prod"]])]
        {
            let failed = failed(&rules, json!({"sub": sub, "environment": wrong}));
            assert_eq!(failed.as_deref(), Some("environment"), "{wrong}");
        }
        for near in ["repo:acme/app:ref:refs/heads/main2", "xrepo:acme/app:ref:refs/heads/main", "repo:acme/app"] {
            assert_eq!(failed(&rules, json!({"sub": near, "environment": "prod"})).as_deref(), Some("sub"), "{near}");
        }
    }

    #[test]
    fn claims_within_claims_are_found_by_path_and_whole_names_come_first() {
        let rules =
            rules(json!({"kubernetes.io/namespace": ["build"], "kubernetes.io/serviceaccount/name": ["ci"]})).unwrap();
        let claims =
            |ns: &str| json!({"kubernetes.io": {"namespace": ns, "serviceaccount": {"name": "ci", "uid": "u"}}});
        assert_eq!(failed(&rules, claims("build")), None);
        assert_eq!(failed(&rules, claims("other")).as_deref(), Some("kubernetes.io/namespace"));
        let shadow = json!({"kubernetes.io/namespace": "other", "kubernetes.io": claims("build")["kubernetes.io"]});
        assert_eq!(failed(&rules, shadow).as_deref(), Some("kubernetes.io/namespace"));
        let flat = json!({"kubernetes.io": "build", "namespace": "build"});
        assert!(failed(&rules, flat).is_some());
    }

    #[test]
    fn numbers_and_truth_values_are_compared_as_they_are_spelled() {
        let rules = rules(json!({"project_id": ["42"], "ref_protected": ["true"]})).unwrap();
        assert_eq!(failed(&rules, json!({"project_id": 42, "ref_protected": true})), None);
        assert_eq!(failed(&rules, json!({"project_id": "42", "ref_protected": "true"})), None);
        for wrong in [json!(42.0), json!(420), json!(-42), json!("042"), json!(4.2e1)] {
            assert_eq!(
                failed(&rules, json!({"project_id": wrong, "ref_protected": true})).as_deref(),
                Some("project_id")
            );
        }
    }

    #[test]
    fn rules_that_would_let_everybody_in_are_refused() {
        for wide in [
            json!({}),
            json!({"repository_owner": ["acme"]}),
            json!({"namespace_path": ["acme"]}),
            json!({"kubernetes.io/namespace": ["build"]}),
            json!({"kubernetes.io/serviceaccount/name": ["default"]}),
            json!({"kubernetes.io/pod/name": ["x"]}),
            json!({"environment": ["prod"], "ref": ["refs/heads/main"]}),
        ] {
            assert_eq!(rules(wide.clone()), Err(RulesError::NoSubject), "{wide}");
        }
        for narrow in [
            json!({"sub": ["x"]}),
            json!({"repository_id": ["1"]}),
            json!({"project_path": ["a/b"]}),
            json!({"kubernetes.io/serviceaccount/uid": ["1"]}),
        ] {
            rules(narrow).unwrap();
        }
    }

    #[test]
    fn rules_are_bounded_and_hold_no_patterns() {
        assert_eq!(rules(json!({"sub": []})), Err(RulesError::NoValue("sub".into())));
        assert_eq!(rules(json!({"sub": [""]})), Err(RulesError::Value("sub".into())));
        assert_eq!(rules(json!({"sub": ["a\u{0}"]})), Err(RulesError::Value("sub".into())));
        assert_eq!(rules(json!({"sub": ["repo:acme/*"]})), Err(RulesError::Pattern("sub".into())));
        assert_eq!(rules(json!({"sub": ["x"], "aud": ["y"]})), Err(RulesError::CheckedAnyway("aud".into())));
        assert_eq!(rules(json!({"sub": ["x"], "a//b": ["y"]})), Err(RulesError::Claim));
        assert!(rules(json!({"sub": ["x"], "https://acme.example/groups": ["y"]})).is_ok());
        assert_eq!(rules(json!({"sub": ["x"], "": ["y"]})), Err(RulesError::Claim));
        assert_eq!(rules(json!({"sub": vec!["x"; 51]})), Err(RulesError::TooMany));
        let many: BTreeMap<String, Vec<String>> = (0..21).map(|i| (format!("c{i}"), vec!["x".into()])).collect();
        assert_eq!(Rules::new(many), Err(RulesError::TooMany));
        assert_eq!(rules(json!({"sub": ["x".repeat(513)]})), Err(RulesError::Value("sub".into())));
        let kept = rules(json!({"sub": ["x"]})).unwrap();
        assert_eq!(Rules::from_row(&kept.to_row()), Some(kept));
        assert_eq!(Rules::from_row("{}"), None);
    }
}

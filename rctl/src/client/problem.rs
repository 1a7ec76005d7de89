//! The server's own words about a failure: problem details (RFC 9457).

use serde_json::Value;

use crate::error::LOG_IN;

/// The prefix of the types of problems.
const URN: &str = "urn:wharfinger:problem:";

/// A failure, as the server told it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The status code.
    pub(crate) status: u16,
    /// Its type, a URI.
    pub(crate) uri: String,
    /// What was wrong with this request.
    pub(crate) detail: String,
    /// The field that is wrong.
    pub(crate) field: Option<String>,
    /// The permission that is missing.
    pub(crate) permission: Option<String>,
    /// Why it was decided so, a line each.
    pub(crate) why: Vec<String>,
    /// Seconds until another try makes sense.
    pub(crate) retry_after: Option<u64>,
    /// The `error` of an OAuth answer (RFC 6749 §5.2, RFC 8628 §3.5).
    pub(crate) oauth: Option<String>,
}

impl Problem {
    /// Reads an answer's body; any body will do.
    pub(crate) fn read(status: u16, body: &Value, retry_after: Option<u64>) -> Self {
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        let why = match body.get("why").or_else(|| body.get("because")) {
            Some(Value::String(line)) => vec![line.clone()],
            Some(Value::Array(lines)) => lines.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            _ => Vec::new(),
        };
        let oauth = text("error");
        let detail = text("detail").or_else(|| text("error_description")).or_else(|| oauth.clone());
        Self {
            status,
            uri: text("type").unwrap_or_default(),
            detail: detail.unwrap_or_else(|| format!("the server answered {status} and does not say why")),
            field: text("field"),
            permission: text("permission"),
            why,
            retry_after,
            oauth,
        }
    }

    /// The last part of the type.
    pub(crate) fn kind(&self) -> &str {
        self.uri.strip_prefix(URN).unwrap_or_default()
    }

    /// What to do next, where that is known.
    pub(crate) fn next_step(&self) -> Option<String> {
        let step = match (self.status, self.kind()) {
            (_, "password-change-required") => "`rctl password change`".into(),
            (_, "mfa-enrolment-required") => {
                "log in at the console and set up a second factor; then `rctl login`".into()
            }
            (401, "bad-credentials") => return None,
            (401, _) => LOG_IN.into(),
            (403, _) => match &self.permission {
                Some(permission) => {
                    format!("ask an Organization Admin; `rctl auth why {permission}` tells what is missing")
                }
                None => return None,
            },
            (404, "no-route") => "the server may be older than this rctl: `rctl version`".into(),
            (404, _) => "check the spelling and the organization: --org, and `rctl org switch` where you are logged in by browser".into(),
            (412, _) => "someone changed it in the meantime: look at it again, then repeat the command".into(),
            (429, _) => match self.retry_after {
                Some(seconds) => format!("try again in {seconds} s"),
                None => "try again later".into(),
            },
            (502..=504, _) => "try again in a moment".into(),
            (500, _) => "the server's log says more".into(),
            _ => return None,
        };
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn any_body_makes_a_problem() {
        for body in [json!(null), json!([1]), json!("x"), json!({"detail": 7, "why": {}})] {
            let problem = Problem::read(500, &body, None);
            assert!(problem.detail.contains("500"), "{body}");
            assert!(problem.why.is_empty());
        }
        let told =
            json!({"type": "urn:wharfinger:problem:denied", "detail": "no", "permission": "user.write", "why": ["a"]});
        let problem = Problem::read(403, &told, None);
        assert_eq!((problem.kind(), problem.why.len()), ("denied", 1));
        assert!(problem.next_step().is_some_and(|step| step.contains("user.write")));
    }
}

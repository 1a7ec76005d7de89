//! Docker's scope grammar as a value (Docker token specification, "Token Scope"):
//! `type[(class)]:name:action[,action]`, separated by spaces, given once or repeated.
//!
//! The type ends at the first colon and the actions begin after the last, because a name may hold a `host:port/`.
//! Entries for one thing are one: their actions unite. Nothing in here trusts the text; sizes are bounded.

use std::fmt;

/// Most scopes taken in one request.
pub const MAX_SCOPES: usize = 32;
/// Most bytes of scopes taken in one request.
pub const MAX_BYTES: usize = 4096;
/// Most actions taken for one thing.
const MAX_ACTIONS: usize = 16;

/// One thing and what is asked on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// `repository`, `registry`, or something that we do not know and grant nothing on.
    pub kind: String,
    /// The thing's name, as it was spelled.
    pub name: String,
    /// Actions in the order they were first asked; `*` is one.
    pub actions: Vec<String>,
}

/// Why scopes were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Too many, or too long.
    #[error("too many scopes: at most {MAX_SCOPES}, of {MAX_BYTES} bytes together")]
    TooMany,
    /// Not of the grammar.
    #[error("invalid scope: use TYPE:NAME:ACTION[,ACTION], as in repository:acme/app:pull,push")]
    Malformed,
}

impl Scope {
    /// Parses every `scope` parameter of a request, each of which may hold several, into one list without repetition.
    ///
    /// # Errors
    /// [`ScopeError`]; then nothing of the request should be granted.
    pub fn parse_all<'a>(params: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, ScopeError> {
        let mut scopes: Vec<Self> = Vec::new();
        let (mut bytes, mut entries) = (0, 0);
        for param in params {
            bytes += param.len() + 1;
            if bytes > MAX_BYTES {
                return Err(ScopeError::TooMany);
            }
            for text in param.split_ascii_whitespace() {
                entries += 1;
                if entries > MAX_SCOPES {
                    return Err(ScopeError::TooMany);
                }
                let scope = Self::parse(text)?;
                match scopes.iter_mut().find(|known| known.kind == scope.kind && known.name == scope.name) {
                    Some(known) => known.unite(scope.actions)?,
                    None => scopes.push(scope),
                }
            }
        }
        Ok(scopes)
    }

    fn parse(text: &str) -> Result<Self, ScopeError> {
        let (kind, rest) = text.split_once(':').ok_or(ScopeError::Malformed)?;
        let (name, actions) = rest.rsplit_once(':').ok_or(ScopeError::Malformed)?;
        let kind = without_class(kind).ok_or(ScopeError::Malformed)?;
        // Quotes, backslashes and controls have no place in a name and could confuse whoever prints it.
        let plain = |b: u8| b.is_ascii_graphic() && b != b'"' && b != b'\\';
        if name.is_empty() || !name.bytes().all(plain) {
            return Err(ScopeError::Malformed);
        }
        let mut scope = Self { kind: kind.to_owned(), name: name.to_owned(), actions: Vec::new() };
        let actions: Vec<String> = actions.split(',').filter(|a| !a.is_empty()).map(ToOwned::to_owned).collect();
        if !actions.iter().all(|a| a == "*" || a.bytes().all(|b| b.is_ascii_lowercase())) {
            return Err(ScopeError::Malformed);
        }
        scope.unite(actions)?;
        Ok(scope)
    }

    fn unite(&mut self, actions: Vec<String>) -> Result<(), ScopeError> {
        for action in actions {
            if !self.actions.contains(&action) {
                self.actions.push(action);
            }
        }
        if self.actions.len() > MAX_ACTIONS { Err(ScopeError::TooMany) } else { Ok(()) }
    }

    /// Whether an action is asked, by name or by `*`.
    #[must_use]
    pub fn asks(&self, action: &str) -> bool {
        self.actions.iter().any(|a| a == action || a == "*")
    }
}

/// `repository(plugin)` is a `repository`: the class is deprecated and means nothing here.
fn without_class(kind: &str) -> Option<&str> {
    let word =
        |s: &str| !s.is_empty() && s.len() <= 64 && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let kind = match kind.split_once('(') {
        Some((kind, class)) => class.strip_suffix(')').filter(|class| word(class)).map(|_| kind)?,
        None => kind,
    };
    word(kind).then_some(kind)
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.kind, self.name, self.actions.join(","))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(params: &[&str]) -> Result<Vec<String>, ScopeError> {
        Ok(Scope::parse_all(params.iter().copied())?.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn every_form_that_clients_send_is_understood() {
        let both = ["repository:a/x:push,pull", "repository:a/y:pull"];
        assert_eq!(parse(&both).unwrap(), both);
        assert_eq!(parse(&["repository:a/x:push,pull repository:a/y:pull"]).unwrap(), both);
        assert_eq!(parse(&["repository:r:pull repository:r:pull,push"]).unwrap(), ["repository:r:pull,push"]);
        assert_eq!(parse(&["repository:r:pull,push", "repository:r:pull"]).unwrap(), ["repository:r:pull,push"]);
        assert_eq!(parse(&["repository:r:*", "repository:r:delete"]).unwrap(), ["repository:r:*,delete"]);
        assert_eq!(parse(&["registry:catalog:*"]).unwrap(), ["registry:catalog:*"]);
        assert_eq!(parse(&["repository(plugin):a/x:pull"]).unwrap(), ["repository:a/x:pull"]);
        assert_eq!(parse(&["", "  "]).unwrap(), [""; 0]);
        assert_eq!(parse(&["repository:a/x:"]).unwrap(), ["repository:a/x:"]);
    }

    #[test]
    fn a_name_may_hold_a_host_and_port() {
        let scopes = Scope::parse_all(["repository:localhost:6000/a/x:pull"]).unwrap();
        assert_eq!((scopes[0].kind.as_str(), scopes[0].name.as_str()), ("repository", "localhost:6000/a/x"));
        assert!(scopes[0].asks("pull") && !scopes[0].asks("push"));
    }

    #[test]
    fn hostile_scopes_are_refused() {
        for bad in [
            "x",
            "repository",
            "repository:a",
            "repository::pull",
            ":a:pull",
            "Repository:a:pull",
            "repository(:a:pull",
            "repository():a:pull",
            "repository(A):a:pull",
            "repository:a:PULL",
            "repository:a\"b:pull",
            "repository:a\\b:pull",
            "repository:\u{e9}:pull",
        ] {
            assert_eq!(parse(&[bad]), Err(ScopeError::Malformed), "{bad}");
        }
        let many: Vec<String> = (0..33).map(|i| format!("repository:a/{i}:pull")).collect();
        assert_eq!(parse(&[&many.join(" ")]), Err(ScopeError::TooMany));
        assert!(parse(&[&many[..32].join(" ")]).is_ok());
        let long = format!("repository:{}:pull", "a".repeat(MAX_BYTES));
        assert_eq!(parse(&[&long]), Err(ScopeError::TooMany));
        let actions: Vec<String> = ('a'..='z').map(|c| c.to_string()).collect();
        assert_eq!(parse(&[&format!("repository:a:{}", actions.join(","))]), Err(ScopeError::TooMany));
        assert_eq!(parse(&["repository:a:pull"; 33]), Err(ScopeError::TooMany));
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_its_text_parses_again(s in "[a-z()]{0,6}:?[ -~\\PC]{0,30}:?[a-z,*]{0,12}") {
            if let Ok(scopes) = Scope::parse_all([s.as_str()]) {
                let text: Vec<String> = scopes.iter().map(ToString::to_string).collect();
                let again = Scope::parse_all(text.iter().map(String::as_str)).unwrap();
                proptest::prop_assert_eq!(scopes, again);
            }
        }
    }
}

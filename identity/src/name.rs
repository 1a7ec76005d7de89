//! Names of users: an e-mail address or a machine's name, normalised so that one person has one spelling.

use std::fmt;
use std::str::FromStr;

/// Longest name accepted (RFC 5321 §4.5.3.1.3 allows a path of 256 with its brackets).
const MAX: usize = 254;

/// Whether a character is a control or shows nothing of itself: zero width, soft hyphen, marks that turn the direction of
/// text (Unicode's category Cf, as far as it is not emoji or a script's own). Two names must not look alike by one.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A normalised user name: lower case, ASCII, no white space, no colon (RFC 7617: a user-id has none).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(String);

/// Why a name was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid name: use an e-mail address, or for a machine 1 to 64 letters, digits, '.', '_', '+' and '-' that begin and end with a letter or digit"
)]
pub struct UserNameError;

impl UserName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is an e-mail address rather than a machine's name.
    #[must_use]
    pub fn is_email(&self) -> bool {
        self.0.contains('@')
    }
}

/// What a typed name is compared by: trimmed and in lower case, whether or not it could be somebody's.
#[must_use]
pub fn normalise(typed: &str) -> String {
    let typed = typed.trim();
    // More than the longest name cannot be somebody's; what is beyond need not be kept to say so.
    if typed.is_ascii() {
        return typed[..typed.len().min(MAX + 1)].to_ascii_lowercase();
    }
    typed.chars().take(MAX + 1).flat_map(char::to_lowercase).collect()
}

impl FromStr for UserName {
    type Err = UserNameError;
    fn from_str(typed: &str) -> Result<Self, UserNameError> {
        let name = normalise(typed);
        let ok = match name.split_once('@') {
            Some((local, domain)) => name.len() <= MAX && is_local_part(local) && is_domain(domain),
            None => name.len() <= 64 && is_machine(&name),
        };
        if ok { Ok(Self(name)) } else { Err(UserNameError) }
    }
}

fn is_local_part(s: &str) -> bool {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.".contains(&b);
    (1..=64).contains(&s.len()) && s.bytes().all(ok) && !s.starts_with('.') && !s.ends_with('.') && !s.contains("..")
}

fn is_domain(s: &str) -> bool {
    let label = |l: &str| {
        (1..=63).contains(&l.len())
            && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !l.starts_with('-')
            && !l.ends_with('-')
    };
    s.split('.').all(label)
}

fn is_machine(s: &str) -> bool {
    let alnum = |c: char| c.is_ascii_alphanumeric();
    s.starts_with(alnum) && s.ends_with(alnum) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b))
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn one_person_has_one_spelling() {
        let name: UserName = "  Ann.Smith+x@Acme.Example ".parse().unwrap();
        assert_eq!(name.as_str(), "ann.smith+x@acme.example");
        assert!(name.is_email() && !"CI-bot".parse::<UserName>().unwrap().is_email());
        assert!("admin@localhost".parse::<UserName>().is_ok());
        for bad in
            ["", " ", "a b", "a:b", "a@", "@b", "a@b@c", "a..b@c", "a@-b", "ünï@x", "-ci", "ci/", "a\0", "a@b..c"]
        {
            assert!(bad.parse::<UserName>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(65).parse::<UserName>().is_err());
    }

    proptest::proptest! {
        #[test]
        fn normalising_never_panics_and_is_stable(s in "\\PC{0,300}") {
            if let Ok(name) = s.parse::<UserName>() {
                proptest::prop_assert_eq!(name.as_str().parse::<UserName>().unwrap(), name.clone());
                proptest::prop_assert_eq!(name.as_str(), normalise(&s));
            }
        }
    }
}

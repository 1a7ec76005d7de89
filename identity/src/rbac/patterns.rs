//! Patterns of repositories' paths and of tags: globs in which `*` and `?` stay within one component and `**` does not.

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Most patterns of one kind in a role.
pub const MAX_PATTERNS: usize = 32;
/// Longest pattern, in bytes.
pub const MAX_PATTERN: usize = 128;

/// Patterns of which one has to match. None at all match everything.
#[derive(Clone, Default)]
pub struct Patterns {
    texts: Vec<String>,
    set: Option<GlobSet>,
}

/// Patterns that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// Too many.
    #[error("at most {MAX_PATTERNS} patterns")]
    TooMany,
    /// One that is empty, too long, or holds what no name does.
    #[error("a pattern has 1 to {MAX_PATTERN} visible ASCII characters")]
    Text,
    /// One that is no glob.
    #[error("{0}")]
    Glob(String),
}

impl Patterns {
    /// Compiles patterns.
    ///
    /// # Errors
    /// [`PatternError`].
    pub fn compile(texts: &[String]) -> Result<Self, PatternError> {
        if texts.is_empty() {
            return Ok(Self::default());
        }
        if texts.len() > MAX_PATTERNS {
            return Err(PatternError::TooMany);
        }
        let mut set = GlobSetBuilder::new();
        for text in texts {
            if text.is_empty() || text.len() > MAX_PATTERN || !text.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(PatternError::Text);
            }
            let glob = GlobBuilder::new(text).literal_separator(true).backslash_escape(true).build();
            set.add(glob.map_err(|error| PatternError::Glob(error.to_string()))?);
        }
        let set = set.build().map_err(|error| PatternError::Glob(error.to_string()))?;
        Ok(Self { texts: texts.to_vec(), set: Some(set) })
    }

    /// Whether the text is matched.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.set.as_ref().is_none_or(|set| set.is_match(text))
    }

    /// Whether everything is matched.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.texts.is_empty()
    }

    /// Whether whatever `other` matches is matched for certain: it has no pattern that is not here too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        self.is_all() || (!other.is_all() && other.texts.iter().all(|text| self.texts.contains(text)))
    }

    /// The patterns.
    #[must_use]
    pub fn texts(&self) -> &[String] {
        &self.texts
    }
}

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts == other.texts
    }
}

impl Eq for Patterns {}

impl fmt::Debug for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.texts).finish()
    }
}

impl fmt::Display for Patterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.texts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn patterns(texts: &[&str]) -> Result<Patterns, PatternError> {
        Patterns::compile(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn a_star_stays_in_its_component() {
        let ci = patterns(&["ci/*", "app-?", "team/**"]).unwrap();
        for (path, matched) in [
            ("ci/a", true),
            ("ci/a/b", false),
            ("ci", false),
            ("app-1", true),
            ("app-12", false),
            ("team/a/b", true),
            ("xci/a", false),
            ("app-/", false),
        ] {
            assert_eq!(ci.matches(path), matched, "{path}");
        }
        assert!(patterns(&[]).unwrap().matches("anything/at/all"));
        assert!(patterns(&["v[0-9]*.{x,y}"]).unwrap().matches("v12.x"));
    }

    #[test]
    fn patterns_are_bounded_and_have_to_be_globs() {
        assert_eq!(patterns(&["a"; MAX_PATTERNS + 1]).unwrap_err(), PatternError::TooMany);
        for bad in ["", "ä", "a b", "a\0", &"x".repeat(MAX_PATTERN + 1)] {
            assert_eq!(patterns(&[bad]).unwrap_err(), PatternError::Text, "{bad}");
        }
        for bad in ["[", "{a", "a}", "[z-a]", "\\"] {
            assert!(matches!(patterns(&[bad]).unwrap_err(), PatternError::Glob(_)), "{bad}");
        }
        assert!(patterns(&["{a,{b,{c,d}}}"; MAX_PATTERNS]).is_ok());
    }

    #[test]
    fn what_covers_has_every_pattern_of_the_other() {
        let (all, a, ab) = (patterns(&[]).unwrap(), patterns(&["a"]).unwrap(), patterns(&["a", "b"]).unwrap());
        assert!(all.covers(&a) && all.covers(&all) && ab.covers(&a) && a.covers(&a));
        assert!(!a.covers(&all) && !a.covers(&ab));
        assert_eq!((ab.to_string().as_str(), format!("{ab:?}").as_str()), ("a, b", "[\"a\", \"b\"]"));
    }
}

//! Names that are checked when they are built: holding one means that it is valid.
//!
//! Grammar: distribution-spec 1.1.1, "Pulling manifests" (`<name>`, `<reference>`) and image-spec "Digests".

use std::cell::RefCell;
use std::fmt;
use std::str::FromStr;

use crate::clock;

/// The project that a two-component repository name lies in.
pub const DEFAULT_PROJECT: &str = "defaultproject";

/// Longest repository name accepted. Clients cap `host/name` at 255.
pub const MAX_REPOSITORY_NAME: usize = 255;

/// Why a name was refused; the text says what would be accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Not a repository name.
    #[error(
        "invalid repository name: use ORGANIZATION/PROJECT/NAME (or ORGANIZATION/NAME), each part of lower-case letters and digits separated by '.', '_', '__' or '-', 255 characters at most"
    )]
    Repository,
    /// Not a tag.
    #[error("invalid tag: use letters, digits, '_', '.' and '-', starting with a letter, a digit or '_', 128 at most")]
    Tag,
    /// Not a digest.
    #[error("invalid digest: use sha256:<64 lower-case hex> or sha512:<128 lower-case hex>")]
    Digest,
    /// A digest by an algorithm that this registry does not compute.
    #[error("unsupported digest algorithm: use sha256 or sha512")]
    Algorithm,
    /// Not a slug of an organization or project.
    #[error("invalid name: use 2 to 64 lower-case letters and digits, separated by '.', '_' or '-'")]
    Slug,
}

/// A new identifier: 26 lower-case Crockford base-32 characters, 48 bits of milliseconds then 80 random bits, so that
/// ids made later sort later and nobody can guess one.
///
/// # Panics
/// Where the operating system has no randomness to give.
#[must_use]
pub fn new_id() -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let random = random();
    let millis = u128::from(clock::system_millis().unsigned_abs() & 0xffff_ffff_ffff);
    let value = (millis << 80) | (u128::from_be_bytes(random) & ((1 << 80) - 1));
    (0..26).rev().map(|i| char::from(ALPHABET[((value >> (5 * i)) & 31) as usize])).collect()
}

/// Sixteen random bytes. Every request has a name: asking for a hundred at once costs little more than asking for one.
#[allow(clippy::expect_used)] // Going on without randomness would be worse than stopping.
fn random() -> [u8; 16] {
    thread_local! {
        static READY: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
    }
    READY.with_borrow_mut(|ready| {
        if ready.is_empty() {
            ready.resize(100, [0; 16]);
            aws_lc_rs::rand::fill(ready.as_flattened_mut()).expect("the system's random source works");
        }
        ready.pop().expect("there are a hundred")
    })
}

/// One path component: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`.
fn is_component(s: &str) -> bool {
    let bytes = s.as_bytes();
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let mut i = 0;
    loop {
        let start = i;
        while i < bytes.len() && alnum(bytes[i]) {
            i += 1;
        }
        if i == start {
            return false;
        }
        if i == bytes.len() {
            return true;
        }
        let separator = i;
        while i < bytes.len() && !alnum(bytes[i]) {
            i += 1;
        }
        match &bytes[separator..i] {
            b"." | b"_" | b"__" => {}
            run if run.iter().all(|&b| b == b'-') => {}
            _ => return false,
        }
    }
}

/// The short name of an organization or a project: `[a-z0-9]+([._-][a-z0-9]+)*`, 2 to 64 characters.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Slug {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let single = |pair: &[u8]| pair.iter().all(|b| b"._-".contains(b));
        if (2..=64).contains(&s.len()) && is_component(s) && !s.as_bytes().windows(2).any(single) {
            Ok(Self(s.to_owned()))
        } else {
            Err(NameError::Slug)
        }
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A repository's name: `<org>/<project>/<path…>`, or `<org>/<name>` for a repository of `defaultproject`.
///
/// The same repository may be spelled in two ways (`acme/app`, `acme/defaultproject/app`): [`RepoName::canonical`] is
/// what rows hold and what equality compares; [`RepoName::as_spelled`] is what the client said and expects back.
#[derive(Debug, Clone)]
pub struct RepoName {
    spelled: String,
    /// Set where it differs from `spelled`.
    canonical: Option<String>,
    org_end: usize,
    path_start: usize,
}

impl RepoName {
    /// The organization's slug.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.spelled[..self.org_end]
    }

    /// The project's slug.
    #[must_use]
    pub fn project(&self) -> &str {
        if self.path_start == self.org_end + 1 {
            DEFAULT_PROJECT
        } else {
            &self.spelled[self.org_end + 1..self.path_start - 1]
        }
    }

    /// The path below the project.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.spelled[self.path_start..]
    }

    /// The name as the client spelled it.
    #[must_use]
    pub fn as_spelled(&self) -> &str {
        &self.spelled
    }

    /// The one spelling that rows hold: `<org>/<name>` for a one-component path in `defaultproject`, else the full form.
    #[must_use]
    pub fn canonical(&self) -> &str {
        self.canonical.as_deref().unwrap_or(&self.spelled)
    }
}

impl PartialEq for RepoName {
    fn eq(&self, other: &Self) -> bool {
        self.canonical() == other.canonical()
    }
}

impl Eq for RepoName {}

impl FromStr for RepoName {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.len() > MAX_REPOSITORY_NAME || !s.split('/').all(is_component) {
            return Err(NameError::Repository);
        }
        let org_end = s.find('/').ok_or(NameError::Repository)?;
        let path_start = s[org_end + 1..].find('/').map_or(org_end + 1, |i| org_end + 1 + i + 1);
        let mut name = Self { spelled: s.to_owned(), canonical: None, org_end, path_start };
        if path_start != org_end + 1 && name.project() == DEFAULT_PROJECT && !name.path().contains('/') {
            name.canonical = Some(format!("{}/{}", name.org(), name.path()));
        }
        Ok(name)
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spelled)
    }
}

/// A tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(String);

impl Tag {
    /// The tag as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let ok = s.len() <= 128
            && s.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if ok { Ok(Self(s.to_owned())) } else { Err(NameError::Tag) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A digest algorithm that image-spec registers and this registry computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, which everybody uses.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    /// The name in digests: `sha256` or `sha512`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    /// Length of the digest in hexadecimal characters.
    #[must_use]
    pub fn hex_len(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

impl FromStr for Algorithm {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        match s {
            "sha256" => Ok(Self::Sha256),
            "sha512" => Ok(Self::Sha512),
            _ => Err(NameError::Algorithm),
        }
    }
}

/// A content digest, `<algorithm>:<lower-case hex>` (image-spec "Digests").
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest {
    text: String,
    algorithm: Algorithm,
}

impl Digest {
    /// Makes a digest of raw hash bytes. `hash` is as long as `algorithm` says: 32 or 64 bytes.
    #[must_use]
    pub fn from_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        debug_assert_eq!(hash.len() * 2, algorithm.hex_len());
        Self { text: format!("{}:{}", algorithm.as_str(), hex::encode(hash)), algorithm }
    }

    /// The whole text, `sha256:…`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The algorithm.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hexadecimal part.
    #[must_use]
    pub fn hex(&self) -> &str {
        &self.text[self.algorithm.as_str().len() + 1..]
    }

    /// The tag under which clients of registries without the referrers API keep a subject's referrers: `<alg>-<hex>`,
    /// cut to the length of a tag (distribution-spec "Referrers Tag Schema").
    #[must_use]
    pub fn referrers_tag(&self) -> String {
        let hex = &self.hex()[..self.hex().len().min(64)];
        format!("{}-{hex}", self.algorithm.as_str())
    }
}

impl FromStr for Digest {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        let (algorithm, hex) = s.split_once(':').ok_or(NameError::Digest)?;
        let known = algorithm.parse::<Algorithm>();
        let lower_hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        match known {
            Ok(algorithm) if hex.len() == algorithm.hex_len() && hex.bytes().all(lower_hex) => {
                Ok(Self { text: s.to_owned(), algorithm })
            }
            Ok(_) => Err(NameError::Digest),
            // image-spec: algorithm = [a-z0-9]+ ([+._-] [a-z0-9]+)*. Well formed but not ours is another matter than malformed.
            Err(_) if is_foreign_algorithm(algorithm) && !hex.is_empty() => Err(NameError::Algorithm),
            Err(_) => Err(NameError::Digest),
        }
    }
}

fn is_foreign_algorithm(s: &str) -> bool {
    s.len() <= 32
        && s.split(['+', '.', '_', '-'])
            .all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a manifest is asked for by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// By tag.
    Tag(Tag),
    /// By digest.
    Digest(Digest),
}

impl FromStr for Reference {
    type Err = NameError;
    fn from_str(s: &str) -> Result<Self, NameError> {
        if s.contains(':') { s.parse().map(Self::Digest) } else { s.parse().map(Self::Tag) }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => digest.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn repository_names_follow_the_grammar() {
        for good in [
            "a/b",
            "acme/app",
            "a__b/c--d/e.f/g_h",
            "acme/_catalog0/x".replace('_', "").as_str(),
            "a1/b2/blobs/uploads",
        ] {
            assert!(good.parse::<RepoName>().is_ok(), "{good}");
        }
        let long = format!("a/{}", "b".repeat(254));
        for bad in [
            "a",
            "",
            "A/b",
            "a//b",
            "/a/b",
            "a/b/",
            "a/.b",
            "a/b.",
            "a/b..c",
            "a/b___c",
            "a/b._c",
            "a/../b",
            "a/b%2fc",
            "a/é",
            long.as_str(),
            "_catalog/x",
        ] {
            assert!(bad.parse::<RepoName>().is_err(), "{bad}");
        }
        assert!(format!("a/{}", "b".repeat(253)).parse::<RepoName>().is_ok());
    }

    #[test]
    fn two_spellings_are_one_repository() {
        let short: RepoName = "acme/app".parse().unwrap();
        let long: RepoName = "acme/defaultproject/app".parse().unwrap();
        assert_eq!(short, long);
        assert_eq!((long.org(), long.project(), long.path()), ("acme", "defaultproject", "app"));
        assert_eq!((short.org(), short.project(), short.path()), ("acme", "defaultproject", "app"));
        assert_eq!(long.canonical(), "acme/app");
        assert_eq!(long.as_spelled(), "acme/defaultproject/app");
        let deep: RepoName = "acme/defaultproject/app/x".parse().unwrap();
        assert_eq!(
            (deep.project(), deep.path(), deep.canonical()),
            ("defaultproject", "app/x", "acme/defaultproject/app/x")
        );
    }

    #[test]
    fn digests_are_exact() {
        let good = format!("sha256:{}", "a".repeat(64));
        assert_eq!(good.parse::<Digest>().unwrap().hex().len(), 64);
        assert!(format!("sha512:{}", "0".repeat(128)).parse::<Digest>().is_ok());
        for bad in [
            "sha256:",
            "sha256:abc",
            &format!("sha256:{}", "A".repeat(64)),
            &format!("sha256:{}", "a".repeat(63)),
            "sha256:../../x",
            "nope",
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(NameError::Digest), "{bad}");
        }
        assert_eq!("blake3:abcd".parse::<Digest>(), Err(NameError::Algorithm));
    }

    #[test]
    fn ids_are_ordered_and_unlike() {
        let a = new_id();
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| new_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert_eq!(a.len(), 26);
    }

    proptest::proptest! {
        #[test]
        fn parsing_never_panics_and_round_trips(s in "\\PC{0,80}") {
            if let Ok(name) = s.parse::<RepoName>() { proptest::prop_assert_eq!(name.as_spelled(), &s); }
            if let Ok(tag) = s.parse::<Tag>() { proptest::prop_assert_eq!(tag.as_str(), &s); }
            if let Ok(digest) = s.parse::<Digest>() { proptest::prop_assert_eq!(digest.as_str(), &s); }
        }

        #[test]
        fn every_part_of_a_name_is_in_the_name(org in "[a-z]{2,5}", project in "[a-z]{2,5}", path in "[a-z]{1,5}(/[a-z]{1,5}){0,3}") {
            let name: RepoName = format!("{org}/{project}/{path}").parse().unwrap();
            proptest::prop_assert_eq!((name.org(), name.project(), name.path()), (org.as_str(), project.as_str(), path.as_str()));
        }
    }
}

//! Repository names, tags and slugs: what parses is of the grammar and reads the same again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storage::names::{RepoName, Slug, Tag};

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<RepoName>() {
        assert_eq!(name.as_spelled(), text);
        assert!(name.canonical().len() <= 4096);
        assert!(!name.canonical().contains("..") && !name.canonical().contains("//"), "{text:?}");
        let again: RepoName = name.canonical().parse().expect("a canonical name is a name");
        assert_eq!(again, name);
        assert_eq!(again.canonical(), name.canonical());
        // The long spelling of a short name is the same repository, where it is not too long to be one.
        if let Ok(full) = format!("{}/{}/{}", name.org(), name.project(), name.path()).parse::<RepoName>() {
            assert_eq!(full, name);
        }
    }
    if let Ok(tag) = text.parse::<Tag>() {
        assert!(tag.as_str() == text && text.len() <= 128 && text.is_ascii() && !text.contains('/'));
    }
    if let Ok(slug) = text.parse::<Slug>() {
        assert!(slug.as_str() == text && !text.contains('/'));
    }
});

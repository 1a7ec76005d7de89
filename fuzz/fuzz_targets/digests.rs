//! Digests: what parses is an algorithm and lower-case hex of its length, and nothing a path could abuse.

#![no_main]

use libfuzzer_sys::fuzz_target;
use storage::names::Digest;

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.as_str(), text);
        assert_eq!(digest.hex().len(), digest.algorithm().hex_len());
        assert!(digest.hex().bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)));
        assert!(digest.referrers_tag().len() <= 128);
    }
});

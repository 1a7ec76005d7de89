//! `Content-Range` of a chunk: first and last in order, and both as they were written.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry::range::parse_chunk;

fuzz_target!(|value: &str| {
    if let Some((first, last)) = parse_chunk(value) {
        assert!(first <= last);
        assert_eq!(parse_chunk(&format!("{first}-{last}")), Some((first, last)));
    }
});

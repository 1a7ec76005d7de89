//! `Range`: a part lies within the content.

#![no_main]

use libfuzzer_sys::fuzz_target;
use registry::range::{Wanted, parse};

fuzz_target!(|input: (u64, &str)| {
    let (size, value) = input;
    if let Wanted::Part { first, last } = parse(value, size) {
        assert!(first <= last && last < size, "{value:?} of {size}: {first}-{last}");
    }
});

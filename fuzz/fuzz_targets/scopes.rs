//! Scopes: bounded, without repetition, and the same when printed and read again.

#![no_main]

use std::collections::HashSet;

use identity::scope::Scope;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|params: Vec<&str>| {
    let Ok(scopes) = Scope::parse_all(params.iter().copied()) else { return };
    let things: HashSet<(&str, &str)> = scopes.iter().map(|scope| (scope.kind.as_str(), scope.name.as_str())).collect();
    assert_eq!(things.len(), scopes.len(), "one entry a thing");
    let printed: Vec<String> = scopes.iter().map(ToString::to_string).collect();
    let again = Scope::parse_all(printed.iter().map(String::as_str)).expect("what was printed can be read");
    assert_eq!(again, scopes);
});

//! Request lines: any method, path and query is an action or an error.

#![no_main]

use http::Method;
use libfuzzer_sys::fuzz_target;
use registry::action::Action;

fuzz_target!(|input: (u8, &str, Option<&str>)| {
    let (method, path, query) = input;
    let methods =
        [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
    let method = &methods[usize::from(method) % methods.len()];
    for path in [path.to_owned(), format!("/v2/{path}")] {
        if let Ok(action) = Action::parse(method, &path, query) {
            assert!(!action.label().is_empty());
        }
    }
});

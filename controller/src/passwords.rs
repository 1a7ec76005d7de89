//! Passwords that were forgotten.

pub(crate) mod api;
pub(crate) mod console;

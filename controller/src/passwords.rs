//! Passwords that were forgotten.

pub(crate) mod api;

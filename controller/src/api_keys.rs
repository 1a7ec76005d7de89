//! API keys: how programs get in.

pub(crate) mod api;
pub(crate) mod console;

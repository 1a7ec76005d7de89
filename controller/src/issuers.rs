//! Trusted issuers: whose tokens stand for a machine.

pub(crate) mod api;
pub(crate) mod console;

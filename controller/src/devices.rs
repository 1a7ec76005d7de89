//! Device authorization (RFC 8628): how a command line without a browser logs in.

pub(crate) mod api;
pub(crate) mod console;

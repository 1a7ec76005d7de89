//! Effective rights, and why.

pub(crate) mod api;

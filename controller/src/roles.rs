//! Roles: those of the matrix, and an organization's own.

pub(crate) mod api;
pub(crate) mod console;
pub(crate) mod words;

//! Roles: those of the matrix, and an organization's own.

pub(crate) mod api;

//! Repositories and tags.

pub(crate) mod api;
pub(crate) mod console;
pub(crate) mod deletion;
mod looks;

//! Oneself, in the organization that was chosen.

pub(crate) mod api;
pub(crate) mod console;

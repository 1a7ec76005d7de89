//! Oneself, in the organization that was chosen.

pub(crate) mod api;

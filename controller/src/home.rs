//! What is going on in an organization, for whoever comes in.

pub(crate) mod api;
mod chart;
pub(crate) mod console;

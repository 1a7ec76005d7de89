//! Users of an organization: people and machines.

pub(crate) mod api;
pub(crate) mod console;

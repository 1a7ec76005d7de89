//! Users of an organization: people and machines.

pub(crate) mod api;

//! Organizations: the tenants.

pub(crate) mod api;

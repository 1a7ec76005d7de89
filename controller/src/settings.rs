//! Settings of organizations.

pub(crate) mod api;

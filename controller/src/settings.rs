//! Settings of organizations.

pub(crate) mod api;
pub(crate) mod console;

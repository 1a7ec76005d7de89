//! The platform, as its operators see it.

pub(crate) mod api;

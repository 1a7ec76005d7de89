//! The platform, as its operators see it.

pub(crate) mod api;
pub(crate) mod console;
pub(crate) mod health;

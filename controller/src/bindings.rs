//! Bindings: who holds which role where.

pub(crate) mod api;
pub(crate) mod console;

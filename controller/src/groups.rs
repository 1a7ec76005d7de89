//! Groups of an organization's members.

pub(crate) mod api;
pub(crate) mod console;

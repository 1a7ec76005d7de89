//! Projects: folders of work in an organization.

pub(crate) mod api;
pub(crate) mod console;

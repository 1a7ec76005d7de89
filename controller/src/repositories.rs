//! Repositories and their tags, as the registry knows them.

pub(crate) mod api;

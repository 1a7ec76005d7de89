//! What is in a repository, looked at: what a manifest is, its layers and config, what is attached to it, how two differ.
//!
//! Whoever pushed it wrote every byte of it. [`document`] reads it with bounds and believes nothing: what is missing, of
//! another type or too long is left out, and never a failure.

pub(crate) mod api;
pub(crate) mod compare;
pub(crate) mod config;
pub(crate) mod console;
pub(crate) mod contents;
pub(crate) mod describe;
pub(crate) mod document;
pub(crate) mod helm;
pub(crate) mod image;
pub(crate) mod kind;
pub(crate) mod raw;
pub(crate) mod referrers;

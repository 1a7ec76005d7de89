//! Journeys through the running binary that need no other service.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod replay;
#[path = "../support/mod.rs"]
mod support;

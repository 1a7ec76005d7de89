//! The registry through its router, in-process. Names say which edge case of the protocol each test holds.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod audit;
mod blobs;
mod lists;
mod manifests;
mod rights;
mod uploads;
mod world;

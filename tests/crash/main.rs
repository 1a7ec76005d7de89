//! What must survive `kill -9`, a power cut, a full disk and eight gigabytes at once.
//!
//! These need root (loop devices, mounts) and the programs that `make tools` installs.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod disk;
mod full;
mod kill;
mod memory;
mod power;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

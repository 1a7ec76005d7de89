//! Real clients against the real binary over TLS, each in a journey of its own.
//!
//! These need root, the programs that `make tools` installs, and nothing from the network: every
//! image is made on the spot. A missing program fails its journey; nothing is skipped.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod console;
mod containerd;
mod cosign;
mod crane;
mod desk;
mod distribution;
mod docker;
mod helm;
mod oras;
mod pasted;
mod people;
mod podman;
mod rctl;
mod regctl;
mod skopeo;
#[path = "../console/stage.rs"]
mod stage;
#[path = "../support/mod.rs"]
mod support;
mod tour;

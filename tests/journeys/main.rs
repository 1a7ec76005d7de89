//! Journeys through the running binary that need no other service.
//!
//! Tests named `d05_…` stand for the numbered edge cases that every registry has been bitten by.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod accounts;
mod attacks;
mod audit_verify;
mod chain;
mod concurrency;
mod factors;
mod files;
mod first_start;
mod hostile;
mod layers;
mod listings;
mod manifests;
mod mounts;
mod names;
mod operations;
mod people;
mod propagation;
mod ranges;
mod rctl;
mod referrers;
mod replay;
#[path = "../support/mod.rs"]
mod support;
mod tenancy;
mod tls;
mod tokens;
mod uploads;

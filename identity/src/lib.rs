//! Who may do what. One core for the registry, the token service and the controller.
//!
//! Pure functions decide and know neither rows nor requests: [`rbac`] (the role matrix of `roles.toml` and
//! [`rbac::authorize`]), [`scope`] (docker's scope grammar), [`token`] (signing and checking access tokens), [`password`]
//! and [`api_key`] (what a secret must look like and how it is kept). [`Identity`] joins them to the rows: [`login`] is the
//! one sequence behind every door, [`mfa`] what it asks for besides a password, [`limits`] how often somebody may try;
//! [`federation`] is the way in for machines that bring a token of somebody else's issuer; [`session`], [`refresh`] and
//! [`device`] are what a log-in leaves behind, [`keys`] is the ring of signing keys, [`principal`] the live rights of a user,
//! cached for half a second at most, and [`admin`] every change to them, each in one transaction with the epoch that makes
//! it felt at once.

pub mod access;
pub mod admin;
pub mod api_key;
pub mod audit;
pub mod bootstrap;
mod core;
pub mod device;
pub mod federation;
pub mod keys;
pub mod limits;
pub mod login;
pub mod mail;
pub mod master;
pub mod mfa;
pub mod name;
pub mod password;
mod places;
pub mod policy;
pub mod principal;
pub mod rbac;
pub mod refresh;
pub mod scope;
pub mod secret;
pub mod session;
pub mod token;
pub mod visits;

pub use crate::core::{Identity, OpenError, Options};
pub use crate::master::MasterKey;
pub use crate::secret::Secret;

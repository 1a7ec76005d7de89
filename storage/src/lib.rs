//! What exists: rows, bytes and names. No HTTP, no policy.
//!
//! Rows live in SQL ([`db`]: `SQLite` or `PostgreSQL`, one SQL text), bytes in an object store ([`blobs`]: opaque keys on
//! the local file system). One noun is one file and one table; a function takes the [`db::Session`] or [`db::Tx`] that it
//! shall run on, so that a caller decides what belongs to one transaction. [`uploads`] turns a stream into a blob,
//! [`gc`] takes away what nothing refers to, [`verify`] proves rows against bytes. [`names`] holds what may be a name.

pub mod activity;
pub mod api_keys;
pub mod audit;
pub mod bindings;
pub mod blobs;
pub mod challenges;
pub mod clock;
pub mod custom_roles;
pub mod db;
pub mod deletion;
pub mod device_grants;
pub mod digest;
pub mod error;
pub mod gc;
pub mod groups;
pub mod health;
pub mod idempotency;
pub mod lists;
pub mod login_failures;
pub mod mails;
pub mod manifests;
pub mod memberships;
pub mod names;
pub mod objects;
pub mod orgs;
pub mod outlet;
pub mod passkeys;
pub mod processes;
pub mod projects;
pub mod pulls;
pub mod recovery_codes;
pub mod referrers;
pub mod refresh_tokens;
pub mod removal;
pub mod repositories;
pub mod sessions;
pub mod shelf;
pub mod signing_keys;
pub mod tags;
pub mod totp;
pub mod trusted_issuers;
pub mod uploads;
pub mod users;
pub mod verify;

#[cfg(test)]
mod content_story;

pub use clock::Clock;
pub use db::{Db, Session, Tx};
pub use error::{Error, Result};

//! What every journey needs: the real binary on free ports in a private directory, an HTTP/1.1
//! client that can also misbehave, the REST API by name, and images built from nothing.

// Each test binary takes the part it needs.
#![allow(dead_code, unused_imports, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod api;
pub(crate) mod http;
pub(crate) mod mail;
pub(crate) mod oci;
pub(crate) mod propagation;
pub(crate) mod server;
pub(crate) mod totp;

pub(crate) use api::Api;
pub(crate) use http::{Call, Reply};
pub(crate) use mail::{Mail, Spool};
pub(crate) use oci::{Image, sha256};
pub(crate) use server::{Server, Setup};

//! Machine users, as pages: one of the users' kinds, with what programs need around it.

pub(crate) mod console;

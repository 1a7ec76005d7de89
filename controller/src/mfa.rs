//! Second factors: one's own, and taking a member's away.

pub(crate) mod api;
pub(crate) mod console;

//! Times as the API writes them: RFC 3339, in UTC, to the second.

use serde::Serializer;
use storage::clock::rfc3339;

/// For `#[serde(serialize_with)]`.
#[allow(clippy::trivially_copy_pass_by_ref)] // serde's signature.
pub(crate) fn text<S: Serializer>(unix: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*unix))
}

/// For `#[serde(serialize_with)]` on what may be missing.
pub(crate) fn maybe<S: Serializer>(unix: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match unix {
        Some(unix) => text(unix, serializer),
        None => serializer.serialize_none(),
    }
}

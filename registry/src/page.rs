//! Keyset pages and their `Link` (distribution-spec "Listing Tags", RFC 8288).

use http::{HeaderMap, HeaderValue, header};

use crate::action::Page;

/// Most entries in one answer, and as many as are given where the client names no number.
pub(crate) const MAX: u64 = 10_000;

/// How many entries to give.
pub(crate) fn limit(page: &Page, most: u64) -> usize {
    usize::try_from(page.n.unwrap_or(most).min(most)).unwrap_or(0)
}

/// Cuts `entries`, of which one more than `limit` was read, to `limit`; true where there are more.
pub(crate) fn cut<T>(entries: &mut Vec<T>, limit: usize) -> bool {
    let more = entries.len() > limit;
    entries.truncate(limit);
    // n=0 asks for an empty list, and that is all of it.
    more && limit > 0
}

/// The header that names the next page: `path` with `query`, which begins with `last`.
pub(crate) fn link(headers: &mut HeaderMap, path: &str, query: &[(&str, &str)]) {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
    if let Ok(value) = HeaderValue::try_from(format!("<{path}?{query}>; rel=\"next\"")) {
        headers.insert(header::LINK, value);
    }
}

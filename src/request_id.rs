//! A name for every request, in its answer and in the logs.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The header that carries it.
pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest one taken from a client.
const MAX: usize = 64;

/// The client's own, where it is short and harmless in a log; else a new one.
pub(crate) fn of(headers: &HeaderMap) -> HeaderValue {
    let given = headers.get(&X_REQUEST_ID).filter(|value| {
        let safe = |b: &u8| b.is_ascii_alphanumeric() || b"-_.:".contains(b);
        (1..=MAX).contains(&value.len()) && value.as_bytes().iter().all(safe)
    });
    match given {
        Some(value) => value.clone(),
        None => {
            HeaderValue::from_str(&storage::names::new_id()).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn given(id: &str) -> HeaderMap {
        HeaderMap::from_iter([(X_REQUEST_ID.clone(), HeaderValue::from_str(id).unwrap())])
    }

    #[test]
    fn a_harmless_name_is_kept_and_any_other_replaced() {
        assert_eq!(of(&given("ci-42:a.b_c")), "ci-42:a.b_c");
        for bad in ["", "a b", "a\"b", "%0a", &"x".repeat(65)] {
            let made = of(&given(bad));
            assert_eq!(made.len(), 26, "{bad}");
        }
        assert_ne!(of(&HeaderMap::new()), of(&HeaderMap::new()));
    }
}

//! `Range` of a download (RFC 9110 §14) and `Content-Range` of an upload's chunk (distribution-spec end-5, end-6).

use http::{HeaderMap, header};

/// Which bytes of a download are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// All of them: no range, one that is not in bytes, several, or one that is not well formed (RFC 9110 §14.2 lets a
    /// server ignore those).
    Whole,
    /// These, both ends inclusive and inside the content.
    Part {
        /// First byte.
        first: u64,
        /// Last byte.
        last: u64,
    },
    /// None that the content has.
    Unsatisfiable,
}

/// Reads the `Range` header against content of `size` bytes.
#[must_use]
pub fn wanted(headers: &HeaderMap, size: u64) -> Wanted {
    let mut values = headers.get_all(header::RANGE).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Wanted::Whole };
    value.to_str().map_or(Wanted::Whole, |value| parse(value, size))
}

/// Reads one `Range` value against content of `size` bytes.
#[must_use]
pub fn parse(value: &str, size: u64) -> Wanted {
    let Some((unit, spec)) = value.split_once('=') else { return Wanted::Whole };
    let Some((first, last)) = spec.trim().split_once('-') else { return Wanted::Whole };
    if !unit.trim().eq_ignore_ascii_case("bytes") || spec.contains(',') {
        return Wanted::Whole;
    }
    match (number(first), number(last)) {
        (Some(first), _) if first >= size && (last.is_empty() || number(last).is_some()) => Wanted::Unsatisfiable,
        (Some(first), Some(last)) if first > last => Wanted::Unsatisfiable,
        (Some(first), Some(last)) => Wanted::Part { first, last: last.min(size - 1) },
        (Some(first), None) if last.is_empty() => Wanted::Part { first, last: size - 1 },
        // A suffix: the last bytes.
        (None, Some(0)) if first.is_empty() => Wanted::Unsatisfiable,
        (None, Some(_)) if first.is_empty() && size == 0 => Wanted::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() => Wanted::Part { first: size.saturating_sub(suffix), last: size - 1 },
        _ => Wanted::Whole,
    }
}

/// A `Content-Range` that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotARange;

/// `Content-Range: <first>-<last>` of a chunk: the specification's form, without a unit; `bytes <first>-<last>/<total>`
/// of RFC 9110 is understood too.
///
/// # Errors
/// The header is there and is neither.
pub fn chunk(headers: &HeaderMap) -> Result<Option<(u64, u64)>, NotARange> {
    let Some(value) = headers.get(header::CONTENT_RANGE) else { return Ok(None) };
    value.to_str().ok().and_then(parse_chunk).map(Some).ok_or(NotARange)
}

/// Reads one `Content-Range` value.
#[must_use]
pub fn parse_chunk(value: &str) -> Option<(u64, u64)> {
    let value = value.strip_prefix("bytes ").unwrap_or(value);
    let value = value.split_once('/').map_or(value, |(range, _total)| range);
    let (first, last) = value.split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// Larger than any blob, and small enough to reckon with.
const FAR: u64 = 1 << 62;

/// Digits only: no sign, no space.
fn number(s: &str) -> Option<u64> {
    let digits = !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    // Beyond any size is still just "far".
    digits.then(|| s.parse().unwrap_or(u64::MAX).min(FAR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_follow_rfc_9110() {
        let part = |first, last| Wanted::Part { first, last };
        for (value, expected) in [
            ("bytes=0-9", part(0, 9)),
            ("bytes=90-", part(90, 99)),
            ("bytes=-10", part(90, 99)),
            ("bytes=-500", part(0, 99)),
            ("bytes=50-5000", part(50, 99)),
            ("bytes=0-99999999999999999999999", part(0, 99)),
            ("Bytes=0-0", part(0, 0)),
            ("bytes=100-", Wanted::Unsatisfiable),
            ("bytes=100-200", Wanted::Unsatisfiable),
            ("bytes=50-10", Wanted::Unsatisfiable),
            ("bytes=-0", Wanted::Unsatisfiable),
            ("bytes=0-1,5-6", Wanted::Whole),
            ("lines=0-9", Wanted::Whole),
            ("bytes=a-b", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
        ] {
            assert_eq!(parse(value, 100), expected, "{value}");
        }
        assert_eq!(parse("bytes=0-0", 0), Wanted::Unsatisfiable);
        assert_eq!(parse("bytes=-1", 0), Wanted::Unsatisfiable);
    }

    #[test]
    fn chunks_are_read_in_both_forms() {
        assert_eq!(parse_chunk("0-904"), Some((0, 904)));
        assert_eq!(parse_chunk("bytes 5-9/*"), Some((5, 9)));
        assert_eq!(parse_chunk("5-9/10"), Some((5, 9)));
        assert_eq!(parse_chunk("0-18446744073709551615"), Some((0, FAR)));
        for bad in ["", "-", "5", "9-5", "a-b", "0-", "-5", " 1-2"] {
            assert_eq!(parse_chunk(bad), None, "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn a_part_always_lies_inside(value in "bytes=[0-9]{0,21}-[0-9]{0,21}", size in 0u64..1000) {
            if let Wanted::Part { first, last } = parse(&value, size) {
                proptest::prop_assert!(first <= last && last < size);
            }
        }
    }
}

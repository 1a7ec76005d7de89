//! One-time codes by time (RFC 6238): SHA-1, six digits, thirty seconds.

use aws_lc_rs::hmac;

/// Length of a step in seconds.
pub(crate) const STEP: i64 = 30;

/// The code of a shared secret (base32) at `now` (unix seconds).
pub(crate) fn code(secret: &str, now: i64) -> String {
    let secret = secret.trim_end_matches('=').to_uppercase();
    let secret = data_encoding::BASE32_NOPAD.decode(secret.as_bytes()).expect("base32");
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &secret);
    let step = u64::try_from(now / STEP).expect("a time after 1970");
    let tag = hmac::sign(&key, &step.to_be_bytes());
    let tag = tag.as_ref();
    let at = usize::from(tag[tag.len() - 1] & 0xf);
    let word = u32::from_be_bytes([tag[at] & 0x7f, tag[at + 1], tag[at + 2], tag[at + 3]]);
    format!("{:06}", word % 1_000_000)
}

#[test]
fn codes_are_those_of_the_rfc() {
    // RFC 6238, appendix B, cut to six digits.
    let secret = data_encoding::BASE32_NOPAD.encode(b"12345678901234567890");
    for (at, text) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
        assert_eq!(code(&secret, at), text);
    }
}

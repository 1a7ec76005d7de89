//! Time-based one-time passwords (RFC 6238): SHA-1, six digits, steps of 30 seconds, one step of skew to either side. That is
//! what every authenticator app knows; anything else some of them silently get wrong.

use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use totp_rs::{Algorithm, Builder, Totp};
use zeroize::Zeroizing;

use super::MfaError;
use crate::secret::{Secret, fill_random};

/// Bytes of a secret (RFC 4226 §4 recommends 160 bits).
const SECRET_BYTES: usize = 20;
/// Steps before and after this one whose code is taken.
const SKEW: u16 = 1;
/// Seconds of a step.
pub(crate) const STEP: u64 = 30;
/// Who asks for the code, as apps show it.
const ISSUER: &str = "Wharfinger";

/// What an authenticator app needs, to be shown once.
#[derive(Debug, Clone)]
pub struct Enrolment {
    /// The secret in base 32, to be typed.
    pub secret: Secret,
    /// The same as an `otpauth://` URI.
    pub uri: Secret,
    /// The URI as a QR code, an SVG.
    pub svg: Secret,
}

/// A new secret.
pub(crate) fn generate() -> Zeroizing<Vec<u8>> {
    let mut secret = Zeroizing::new(vec![0u8; SECRET_BYTES]);
    fill_random(&mut secret);
    secret
}

fn totp(secret: &[u8], name: &str) -> Result<Totp, MfaError> {
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(6)
        .with_skew(SKEW)
        .with_step_duration(STEP)
        .with_secret(secret)
        .with_issuer(Some(ISSUER))
        .with_account_name(name)
        .build()
        .map_err(|_| MfaError::Damaged)
}

/// Shows a secret to the user of that name.
pub(crate) fn enrolment(secret: &[u8], name: &str) -> Result<Enrolment, MfaError> {
    let uri = totp(secret, name)?.to_url().map_err(|_| MfaError::Damaged)?;
    let code = QrCode::with_error_correction_level(uri.as_bytes(), EcLevel::M).map_err(|_| MfaError::Damaged)?;
    let image = code.render::<svg::Color<'_>>().min_dimensions(220, 220).build();
    // The declaration is for files; inside of a page it is an error.
    let image = image.find("<svg").map_or(image.as_str(), |at| &image[at..]).to_owned();
    let text = data_encoding::BASE32_NOPAD.encode(secret);
    Ok(Enrolment { secret: Secret::new(text), uri: Secret::new(uri), svg: Secret::new(image) })
}

/// The step whose code this is, if it is one of this moment; compared in constant time. Spaces are ignored, as people copy
/// them.
pub(crate) fn step_of(secret: &[u8], code: &str, now: i64) -> Option<i64> {
    let digits: String = code.chars().filter(|c| !c.is_whitespace()).take(8).collect();
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let now = u64::try_from(now).ok()?;
    let step = totp(secret, "user").ok()?.check(&digits, now)?;
    i64::try_from(step).ok()
}

/// The code of a moment, for tests of what takes it.
#[cfg(test)]
pub(crate) fn code_at(secret: &[u8], now: i64) -> String {
    totp(secret, "user").map(|totp| totp.generate(now.unsigned_abs()).to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn codes_are_those_of_the_standard() {
        // RFC 6238, appendix B, cut to six digits.
        let secret = b"12345678901234567890";
        for (time, code) in
            [(59, "287082"), (1_111_111_109, "081804"), (1_234_567_890, "005924"), (20_000_000_000, "353130")]
        {
            assert_eq!(step_of(secret, code, time), Some(time / 30), "{time}");
        }
        assert_eq!(step_of(secret, "287 082", 59), Some(1));
        assert_eq!(step_of(secret, "287082", 89), Some(1), "a step late");
        assert_eq!(step_of(secret, "287082", 90), None, "two steps late");
        for bad in ["", "28708", "2870822", "28708a", "٢٨٧٠٨٢", "-87082"] {
            assert_eq!(step_of(secret, bad, 59), None, "{bad}");
        }
    }

    #[test]
    fn an_app_is_told_all_it_needs() {
        let shown = enrolment(b"12345678901234567890", "ann+x@acme.example").unwrap();
        assert_eq!(shown.secret.expose(), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
        let uri = url::Url::parse(shown.uri.expose()).unwrap();
        assert_eq!((uri.scheme(), uri.host_str()), ("otpauth", Some("totp")));
        let pairs: std::collections::HashMap<_, _> = uri.query_pairs().into_owned().collect();
        assert_eq!(pairs["secret"], shown.secret.expose());
        assert_eq!(pairs["issuer"], "Wharfinger");
        assert!(shown.svg.expose().starts_with("<svg") && shown.svg.expose().trim_end().ends_with("</svg>"));
    }

    proptest::proptest! {
        #[test]
        fn no_text_breaks_it(code in "\\PC{0,12}", now in 0i64..4_000_000_000) {
            let _ = step_of(b"12345678901234567890", &code, now);
        }
    }
}

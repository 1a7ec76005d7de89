//! What was just done, told on the next page: a cookie that lives for one page. It can be read and planted by nobody else
//! (`HttpOnly`, `SameSite=Strict`, and over HTTPS `__Host-`); whatever it says is text.

use axum::response::Response;
use http::{HeaderMap, HeaderValue, header};

use super::see;
use crate::State;

const NAME: &str = "__Host-wharfinger_notice";
/// Over plain HTTP, which `__Host-` does not allow.
const PLAIN_NAME: &str = "wharfinger_notice";
/// Longest notice, in bytes.
const MAX: usize = 400;

/// A notice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Notice(pub(crate) String);

fn name(secure: bool) -> &'static str {
    if secure { NAME } else { PLAIN_NAME }
}

/// Leads on to a page of ours that tells what was done.
pub(crate) fn done(state: &State, to: &str, text: &str) -> Response {
    let mut response = see(to);
    let mut end = text.len().min(MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let text = encode(&text[..end]);
    set(&mut response, &text, 60, state.settings().secure_cookies);
    response
}

/// What a cookie's value may hold (RFC 6265 §4.1.1) and more is encoded.
fn encode(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

fn set(response: &mut Response, value: &str, seconds: i64, secure: bool) {
    let (name, flag) = (name(secure), if secure { "; Secure" } else { "" });
    let cookie = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{flag}");
    if let Ok(cookie) = HeaderValue::from_str(&cookie) {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
}

/// The notice that a request carries.
pub(crate) fn read(headers: &HeaderMap, secure: bool) -> Option<Notice> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let value = pairs.flat_map(|value| value.split(';')).find_map(|pair| {
        let (found, value) = pair.trim().split_once('=')?;
        (found == name(secure)).then_some(value)
    })?;
    let text: String = percent_encoding::percent_decode_str(value).decode_utf8().ok()?.into_owned();
    (!text.is_empty() && text.len() <= MAX).then_some(Notice(text))
}

/// Takes it away, once a page told it.
pub(super) fn clear(response: &mut Response, secure: bool) {
    set(response, "", 0, secure);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_notice_comes_back_as_it_was_said() {
        let mut response = see("/");
        let text = "Invited <ann@example.com>; é, and more";
        set(&mut response, &encode(text), 60, true);
        let cookie = response.headers()[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        let headers = HeaderMap::from_iter([(header::COOKIE, HeaderValue::from_str(&cookie).unwrap())]);
        assert_eq!(read(&headers, true).unwrap().0, text);
        assert_eq!(read(&headers, false), None);
        assert_eq!(read(&HeaderMap::new(), true), None);
    }
}

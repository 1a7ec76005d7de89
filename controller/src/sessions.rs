//! Sessions of people: the cookie, and what the API says about one.

pub(crate) mod api;
pub(crate) mod console;
pub(crate) mod list;

use http::{HeaderMap, HeaderValue, header};

/// The cookie's name. Browsers take a cookie whose name begins with `__Host-` only over HTTPS, for this host alone and for
/// every path, so neither a neighbouring domain nor plain HTTP can plant one.
pub(crate) const COOKIE: &str = "__Host-wharfinger_session";
/// The cookie's name where users reach the controller over plain HTTP, which `__Host-` does not allow.
const PLAIN_COOKIE: &str = "wharfinger_session";

fn cookie_name(secure: bool) -> &'static str {
    if secure { COOKIE } else { PLAIN_COOKIE }
}

/// The session cookie of a request.
pub(crate) fn cookie(headers: &HeaderMap, secure: bool) -> Option<&str> {
    let wanted = cookie_name(secure);
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    pairs.flat_map(|value| value.split(';')).find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == wanted).then(|| value.trim())
    })
}

/// The header that gives a browser its cookie for so many seconds; 0 takes it away. Scripts cannot read it, and other
/// sites' requests do not carry it.
pub(crate) fn set_cookie(value: &str, seconds: i64, secure: bool) -> HeaderValue {
    let name = cookie_name(secure);
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    // A session's secret is hexadecimal: nothing in it could make the header invalid.
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}

#[cfg(test)]
mod doors;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_cookie_is_found_among_others() {
        let headers = HeaderMap::from_iter([(
            header::COOKIE,
            HeaderValue::from_static("a=b; wharfinger_session=plain; __Host-wharfinger_session=secret ; x=y"),
        )]);
        assert_eq!(cookie(&headers, true), Some("secret"));
        assert_eq!(cookie(&headers, false), Some("plain"));
        assert_eq!(cookie(&HeaderMap::new(), true), None);
    }

    #[test]
    fn the_cookie_is_for_this_site_alone() {
        let secure = set_cookie("x", 60, true);
        let text = secure.to_str().unwrap();
        assert!(text.starts_with("__Host-wharfinger_session=x;"), "{text}");
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Max-Age=60", "Path=/"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!set_cookie("x", 60, false).to_str().unwrap().contains("Secure"));
    }
}

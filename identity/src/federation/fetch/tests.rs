#![allow(clippy::unwrap_used)]
use super::*;
use crate::federation::testing::{Key, Publisher};
use serde_json::json;

async fn fetch(publisher: &Publisher) -> Result<Fetched, FetchError> {
    Web::new(true).keys(&publisher.url).await
}

/// A publisher whose discovery document says this.
async fn saying(
    said: impl Fn(&str) -> Value + Send + Sync + 'static,
    keys: crate::federation::testing::Answer,
) -> Publisher {
    Publisher::start(move |path, own| match path {
        "/.well-known/openid-configuration" => ("200 OK", said(own).to_string().into()),
        _ => keys.clone(),
    })
    .await
}

#[test]
fn only_public_addresses_are_public() {
    let local = [
        "127.0.0.1",
        "127.255.255.254",
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.1.1",
        "100.64.0.1",
        "100.127.255.255",
        "::1",
        "fc00::1",
        "fd12:3456::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "2002:c0a8:101::1",
    ];
    let never = [
        "0.0.0.0",
        "0.1.2.3",
        "169.254.169.254",
        "169.254.0.1",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "192.0.0.1",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "::",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "2001:db8::1",
        "2001::1",
        "2001:10::1",
        "3fff::1",
        "100::1",
        "::a9fe:a9fe",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "64:ff9b:1::1",
        "2002:a9fe:a9fe::1",
        "fd00:ec2::254",
        "5f00::1",
    ];
    let public = [
        "1.1.1.1",
        "140.82.121.3",
        "172.15.0.1",
        "172.32.0.1",
        "100.63.0.1",
        "100.128.0.1",
        "2606:4700::1",
        "64:ff9b::101:101",
    ];
    for (list, expected) in [(&local[..], Reach::Local), (&never[..], Reach::Never), (&public[..], Reach::Public)] {
        for text in list {
            assert_eq!(reach(text.parse().unwrap()), expected, "{text}");
        }
    }
}

#[tokio::test]
async fn keys_are_found_by_discovery_and_their_age_is_told() {
    let publisher = Publisher::of(Key::new("k1").set()).await;
    let fetched = fetch(&publisher).await.unwrap();
    assert!(fetched.keys.has("k1"));
    assert_eq!((fetched.max_age, publisher.asked()), (Some(300), 2));
    for (value, expected) in
        [("no-store", None), ("max-age=5", Some(5)), ("public, Max-Age=7", Some(7)), ("max-age=x", None)]
    {
        assert_eq!(max_age(value), expected, "{value}");
    }
}

#[tokio::test]
async fn local_addresses_are_not_asked_unless_the_operator_allows_them() {
    let publisher = Publisher::of(Key::new("k1").set()).await;
    let port = publisher.url.rsplit(':').next().unwrap();
    let web = Web::new(false);
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0", "2130706433", "0x7f.1", "127.1", "0177.0.0.1"]
    {
        for scheme in ["http", "https"] {
            let issuer = format!("{scheme}://{host}:{port}");
            assert_eq!(web.keys(&issuer).await.unwrap_err(), FetchError::Forbidden, "{issuer}");
        }
    }
    assert_eq!(publisher.asked(), 0);
    // Allowed ones may be asked; what hands out a machine's credentials may not, and plain text stays at home.
    let web = Web::new(true);
    for issuer in
        ["http://169.254.169.254", "http://[fd00:ec2::254]", "http://0.0.0.0", "http://1.1.1.1", "file:///etc/passwd"]
    {
        assert_eq!(web.keys(issuer).await.unwrap_err(), FetchError::Forbidden, "{issuer}");
    }
    let named = publisher.url.replace("http://", "http://user:secret@");
    assert_eq!(web.keys(&named).await.unwrap_err(), FetchError::Forbidden);
    assert!(web.keys(&format!("http://localhost:{port}")).await.is_err_and(|error| error == FetchError::OtherIssuer));
}

#[tokio::test]
async fn a_document_cannot_point_where_its_issuer_may_not() {
    let target = Publisher::of(Key::new("k1").set()).await;
    for place in ["http://169.254.169.254/latest", "http://1.1.1.1/keys", "file:///etc/passwd", "gopher://127.0.0.1/"] {
        let publisher = saying(move |own| json!({"issuer": own, "jwks_uri": place}), ("200 OK", Vec::new())).await;
        assert_eq!(fetch(&publisher).await.unwrap_err(), FetchError::Forbidden, "{place}");
    }
    let redirect: &'static str = Box::leak(format!("302 Found\r\nlocation: {}/keys", target.url).into_boxed_str());
    let publisher =
        saying(|own| json!({"issuer": own, "jwks_uri": format!("{own}/keys")}), (redirect, Vec::new())).await;
    assert_eq!(fetch(&publisher).await.unwrap_err(), FetchError::Status(302));
    assert_eq!(target.asked(), 0);
}

#[tokio::test]
async fn answers_are_bounded_and_must_be_the_issuers() {
    let keys = |own: &str| json!({"issuer": own, "jwks_uri": format!("{own}/keys")});
    let large = saying(keys, ("200 OK", vec![b' '; MAX_BYTES + 1])).await;
    assert_eq!(fetch(&large).await.unwrap_err(), FetchError::TooLarge);
    let empty = saying(keys, ("200 OK", b"{\"keys\":[]}".to_vec())).await;
    assert_eq!(fetch(&empty).await.unwrap_err(), FetchError::NoKeys);
    let broken = saying(keys, ("500 Oh", Vec::new())).await;
    assert_eq!(fetch(&broken).await.unwrap_err(), FetchError::Status(500));
    let set = Key::new("k").set().to_string().into_bytes();
    let other =
        saying(|own| json!({"issuer": format!("{own}/"), "jwks_uri": format!("{own}/keys")}), ("200 OK", set)).await;
    assert_eq!(fetch(&other).await.unwrap_err(), FetchError::OtherIssuer);
    let nothing = saying(|own| json!({"issuer": own}), ("200 OK", Vec::new())).await;
    assert_eq!(fetch(&nothing).await.unwrap_err(), FetchError::Malformed);
    let text = Publisher::start(|_, _| ("200 OK", b"<html>".to_vec())).await;
    assert_eq!(fetch(&text).await.unwrap_err(), FetchError::Malformed);
    let gone = Publisher::of(json!({})).await;
    let url = gone.url.clone();
    gone.stop().await;
    assert_eq!(Web::new(true).keys(&url).await.unwrap_err(), FetchError::Unreachable);
}

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
use super::*;
use crate::federation::testing::{Key, part};
use aws_lc_rs::hmac;
use serde_json::json;

const NOW: i64 = 1_800_000_000;

fn claims() -> Value {
    json!({"iss": "https://ci.example", "aud": "wharfinger", "sub": "acme/app", "iat": NOW - 5, "nbf": NOW - 5, "exp": NOW + 300})
}

fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn judge(claims: &Value) -> Result<i64, Refusal> {
    let rules = Rules::from_row(r#"{"sub":["acme/app"]}"#).unwrap();
    let terms = Terms { issuer: "https://ci.example", audience: "wharfinger", rules: &rules };
    terms.judge(claims.as_object().unwrap(), NOW)
}

fn check(text: &str, keys: &KeySet) -> Result<(), Refusal> {
    SubjectToken::read(text)?.verify(keys)
}

#[test]
fn issuer_audience_and_rules_are_exact() {
    assert_eq!(judge(&claims()), Ok(NOW + 300));
    for iss in ["https://ci.example/", "https://CI.example", "https://ci.example.evil.example", ""] {
        assert_eq!(judge(&with(json!({"iss": iss}))), Err(Refusal::Untrusted), "{iss}");
    }
    assert_eq!(judge(&with(json!({"iss": ["https://ci.example"]}))), Err(Refusal::Untrusted));
    assert_eq!(judge(&with(json!({"aud": ["other", "wharfinger"]}))), Ok(NOW + 300));
    for aud in [json!("wharfinger "), json!(["other"]), json!([]), json!({"wharfinger": true}), json!(7), json!(null)] {
        assert_eq!(judge(&with(json!({"aud": aud}))), Err(Refusal::Audience("wharfinger".into())), "{aud}");
    }
    assert_eq!(judge(&with(json!({"sub": "acme/app2"}))), Err(Refusal::Rule("sub".into())));
}

#[test]
fn times_are_checked_against_the_time_that_is_passed_in() {
    let at = |name: &str, value: Value| judge(&with(json!({ name: value })));
    assert_eq!(at("exp", json!(NOW)), Err(Refusal::Expired));
    assert_eq!(at("exp", json!(NOW + 1)), Ok(NOW + 1));
    assert_eq!(at("exp", json!(NOW as f64 + 10.9)), Ok(NOW + 10));
    assert_eq!(at("nbf", json!(NOW + 30)), Ok(NOW + 300));
    assert_eq!(at("nbf", json!(NOW + 31)), Err(Refusal::NotYet));
    assert_eq!(at("iat", json!(NOW + 31)), Err(Refusal::NotYet));
    assert_eq!(at("nbf", json!(null)), Ok(NOW + 300));
    let old = with(json!({"iat": NOW - 24 * 3600 - 1, "exp": NOW + 999_999}));
    assert_eq!(judge(&old), Err(Refusal::TooOld));
    for name in ["exp", "iat"] {
        for wrong in [json!(null), json!("1800000300"), json!([]), json!(true)] {
            assert_eq!(at(name, wrong), Err(Refusal::Malformed), "{name}");
        }
    }
    for extreme in [json!(i64::MIN), json!(i64::MAX), json!(u64::MAX), json!(1e300), json!(-1e300)] {
        let _ = (at("exp", extreme.clone()), at("nbf", extreme.clone()), at("iat", extreme));
    }
}

#[test]
fn a_token_counts_by_the_keys_own_signature_and_nothing_else() {
    let (key, other) = (Key::new("k1"), Key::new("k1"));
    let text = key.set().to_string();
    let keys = KeySet::published(text.as_bytes()).unwrap();
    let good = key.sign(&claims());
    assert_eq!(check(&good, &keys), Ok(()));
    assert_eq!(check(&other.sign(&claims()), &keys), Err(Refusal::Signature));
    assert_eq!(check(&Key::new("k2").sign(&claims()), &keys), Err(Refusal::UnknownKey));

    let parts: Vec<&str> = good.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], part(&with(json!({"sub": "root"}))), parts[2]);
    assert_eq!(check(&forged, &keys), Err(Refusal::Signature));
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let header = part(&json!({"alg": none, "kid": "k1"}));
        for signature in ["", parts[2]] {
            assert_eq!(check(&format!("{header}.{}.{signature}", parts[1]), &keys), Err(Refusal::Algorithm), "{none}");
        }
    }
    assert_eq!(check(&format!("{}.{}.", parts[0], parts[1]), &keys), Err(Refusal::Signature));

    // HS256 with what everybody knows: the set, the key, its coordinates.
    let jwk = &key.set()["keys"][0];
    for secret in [text.clone(), jwk.to_string(), jwk["x"].as_str().unwrap().to_owned(), String::new()] {
        let head = format!("{}.{}", part(&json!({"alg": "HS256", "kid": "k1"})), parts[1]);
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), head.as_bytes());
        let token = format!("{head}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()));
        assert_eq!(check(&token, &keys), Err(Refusal::Algorithm));
    }
    for alg in ["RS256", "PS256", "ES384", "EdDSA"] {
        let token = key.sign_with(&json!({"alg": alg, "kid": "k1"}), &claims());
        assert_eq!(check(&token, &keys), Err(Refusal::UnknownKey), "{alg}");
    }
}

#[test]
fn keys_that_a_token_brings_along_are_not_looked_at() {
    let (key, mine) = (Key::new("k1"), Key::new("k1"));
    let keys = KeySet::published(key.set().to_string().as_bytes()).unwrap();
    for more in [
        json!({"jwk": mine.set()["keys"][0]}),
        json!({"jku": "https://evil.example/keys"}),
        json!({"x5u": "https://evil.example/cert"}),
        json!({"x5c": ["AAAA"]}),
    ] {
        let mut header = json!({"alg": "ES256", "kid": "k1"});
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(check(&mine.sign_with(&header, &claims()), &keys), Err(Refusal::Signature), "{header}");
    }
}

#[test]
fn headers_that_mean_something_else_are_refused() {
    let key = Key::new("k1");
    let keys = KeySet::published(key.set().to_string().as_bytes()).unwrap();
    let under = |header: Value| check(&key.sign_with(&header, &claims()), &keys);
    for typ in ["JWT", "jwt", "at+jwt", "application/at+JWT"] {
        assert_eq!(under(json!({"alg": "ES256", "kid": "k1", "typ": typ})), Ok(()), "{typ}");
    }
    for typ in [json!("logout+jwt"), json!("secevent+jwt"), json!("dpop+jwt"), json!(""), json!(7)] {
        assert_eq!(under(json!({"alg": "ES256", "kid": "k1", "typ": typ})), Err(Refusal::Type), "{typ}");
    }
    assert_eq!(under(json!({"alg": "ES256", "kid": "k1", "crit": ["exp"]})), Err(Refusal::Malformed));
    assert_eq!(under(json!({"alg": "ES256"})), Err(Refusal::UnknownKey));
    assert_eq!(under(json!({"kid": "k1"})), Err(Refusal::Algorithm));
}

#[test]
fn what_is_no_token_is_refused_and_never_panics() {
    let long = format!("{}.{}.c2ln", part(&json!({"alg": "ES256", "kid": "k"})), "A".repeat(20_000));
    for bad in
        ["", ".", "..", "...", "a.b.c", "eyJ.eyJ.eyJ", "e30.W10.e30", "e30.e30.e30.e30", "\u{0}.\u{0}.\u{0}", &long]
    {
        assert!(SubjectToken::read(bad).is_err(), "{bad:.20}");
    }
    let nested =
        format!("{}.{}.c2ln", part(&json!({"alg": "ES256", "kid": "k"})), URL_SAFE_NO_PAD.encode("[".repeat(9000)));
    assert!(SubjectToken::read(&nested).is_err());
}

proptest::proptest! {
    #[test]
    fn reading_never_panics(s in "[A-Za-z0-9_.=-]{0,200}") {
        let _ = SubjectToken::read(&s);
    }
}

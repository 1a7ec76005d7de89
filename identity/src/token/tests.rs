#![allow(clippy::unwrap_used)]
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as B64;
use serde_json::json;

use super::*;
use crate::keys::KeyMaterial;

const NOW: i64 = 1_800_000_000;

fn claims() -> Claims {
    Claims {
        iss: "https://auth".into(),
        sub: "ann@acme.example".into(),
        aud: "wharfinger".into(),
        exp: NOW + 300,
        nbf: NOW,
        iat: NOW,
        jti: "1".into(),
        access: vec![Access { kind: "repository".into(), name: "acme/app".into(), actions: vec!["pull".into()] }],
        uid: Some("u1".into()),
        ep: Some(Epochs { user: 3, grants: 4 }),
        key: None,
        open: vec![],
    }
}

struct Ours {
    key: KeyMaterial,
    signer: Signer,
    verifier: Verifier,
}

fn ours() -> Ours {
    let key = KeyMaterial::generate().unwrap();
    let mut verifier = Verifier::new("https://auth", "wharfinger");
    verifier.add_es256(&key.kid, key.point());
    Ours { signer: Signer::es256(&key.kid, &key.pkcs8).unwrap(), verifier, key }
}

/// The same payload and signature under another header.
fn with_header(token: &str, header: &serde_json::Value) -> String {
    let rest = token.split_once('.').unwrap().1;
    format!("{}.{rest}", B64.encode(header.to_string()))
}

#[test]
fn a_token_says_what_it_was_made_of() {
    let ours = ours();
    let token = ours.signer.sign(&claims()).unwrap();
    let (read, kid) = ours.verifier.verify(&token, NOW).unwrap();
    assert_eq!((&read, kid.as_str()), (&claims(), ours.signer.kid()));
    let bearer = Bearer::from(&read);
    assert_eq!((bearer.user.as_deref(), bearer.epochs.to_string().as_str()), (Some("u1"), "3.4"));
    assert!(bearer.access[0].allows("pull") && !bearer.access[0].allows("push"));
    let header = B64.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header, json!({"typ": "JWT", "alg": "ES256", "kid": ours.signer.kid()}));
    let payload = B64.decode(token.split('.').nth(1).unwrap()).unwrap();
    let payload: serde_json::Value = serde_json::from_slice(&payload).unwrap();
    assert_eq!(payload["ep"], "3.4");
    assert_eq!(payload["access"][0]["type"], "repository");
    assert!(payload.get("key").is_none() && payload.get("open").is_none());
}

#[test]
fn times_count_with_a_minute_of_leeway() {
    let ours = ours();
    let token = ours.signer.sign(&claims()).unwrap();
    assert!(ours.verifier.verify(&token, NOW - LEEWAY).is_ok());
    assert!(matches!(ours.verifier.verify(&token, NOW - LEEWAY - 1), Err(BearerError::NotYet)));
    assert!(ours.verifier.verify(&token, NOW + 300 + LEEWAY - 1).is_ok());
    assert!(matches!(ours.verifier.verify(&token, NOW + 300 + LEEWAY), Err(BearerError::Expired)));
}

#[test]
fn issuer_and_audience_are_exact() {
    let ours = ours();
    let other = Claims { iss: "https://auth.evil".into(), ..claims() };
    let token = ours.signer.sign(&other).unwrap();
    assert!(matches!(ours.verifier.verify(&token, NOW), Err(BearerError::Issuer)));
    let other = Claims { aud: "wharfinger2".into(), ..claims() };
    let token = ours.signer.sign(&other).unwrap();
    assert!(matches!(ours.verifier.verify(&token, NOW), Err(BearerError::Audience)));
}

#[test]
fn alg_confusion_is_refused() {
    let ours = ours();
    let kid = ours.signer.kid();
    let token = ours.signer.sign(&claims()).unwrap();
    for alg in ["none", "None", "HS256", "RS256", "ES384", "EdDSA"] {
        let forged = with_header(&token, &json!({"typ": "JWT", "alg": alg, "kid": kid}));
        assert!(ours.verifier.verify(&forged, NOW).is_err(), "{alg}");
    }
    // Signed by HMAC with the public key as the secret.
    for secret in [ours.key.point().to_vec(), ours.key.spki.clone()] {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::HS256) };
        let forged =
            jsonwebtoken::encode(&header, &claims(), &jsonwebtoken::EncodingKey::from_secret(&secret)).unwrap();
        assert!(matches!(ours.verifier.verify(&forged, NOW), Err(BearerError::Signature)));
    }
    let unsigned = token.rsplit_once('.').unwrap().0;
    assert!(ours.verifier.verify(&format!("{unsigned}."), NOW).is_err());
    let none = with_header(&format!("{unsigned}."), &json!({"alg": "none"}));
    assert!(ours.verifier.verify(&none, NOW).is_err());
}

#[test]
fn a_key_that_the_token_brings_along_is_not_trusted() {
    let (ours, theirs) = (ours(), ours());
    let point = theirs.key.point();
    let jwk = json!({"kty": "EC", "crv": "P-256", "x": B64.encode(&point[1..33]), "y": B64.encode(&point[33..]),
                     "kid": ours.signer.kid()});
    let forged = Signer::es256(ours.signer.kid(), &theirs.key.pkcs8).unwrap().sign(&claims()).unwrap();
    assert!(matches!(ours.verifier.verify(&forged, NOW), Err(BearerError::Signature)));
    for extra in [
        json!({"jwk": jwk}),
        json!({"jku": "https://evil/keys"}),
        json!({"x5u": "https://evil/c"}),
        json!({"x5c": ["AAAA"]}),
    ] {
        let mut header = json!({"typ": "JWT", "alg": "ES256", "kid": ours.signer.kid()});
        header.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert!(ours.verifier.verify(&with_header(&forged, &header), NOW).is_err(), "{extra}");
    }
    let own_kid = theirs.signer.sign(&claims()).unwrap();
    assert!(matches!(ours.verifier.verify(&own_kid, NOW), Err(BearerError::UnknownKey)));
    let no_kid = with_header(&forged, &json!({"alg": "ES256"}));
    assert!(matches!(ours.verifier.verify(&no_kid, NOW), Err(BearerError::UnknownKey)));
}

#[test]
fn every_changed_byte_is_noticed() {
    let ours = ours();
    let token = ours.signer.sign(&claims()).unwrap();
    for at in 0..token.len() {
        let mut bytes = token.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(ours.verifier.verify(&changed, NOW).is_err(), "byte {at}");
    }
    assert!(matches!(ours.verifier.verify(&"a".repeat(MAX_LEN + 1), NOW), Err(BearerError::Malformed)));
}

#[test]
fn what_is_no_key_signs_nothing() {
    let ours = ours();
    assert!(Signer::es256("key", b"no key").is_none());
    assert!(Signer::es256("key", &ours.key.pkcs8[1..]).is_none());
}

proptest::proptest! {
    #[test]
    fn garbage_never_panics(s in "[A-Za-z0-9_.-]{0,200}|\\PC{0,100}") {
        let verifier = Verifier::new("i", "a");
        proptest::prop_assert!(verifier.verify(&s, NOW).is_err());
    }

    #[test]
    fn epochs_round_trip(user in 0i64.., grants in 0i64..) {
        let epochs = Epochs { user, grants };
        proptest::prop_assert_eq!(epochs.to_string().parse::<Epochs>().unwrap(), epochs);
    }
}

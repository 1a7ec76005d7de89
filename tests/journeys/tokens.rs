//! Tokens: how they are asked for, and every way to forge one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::support::oci::{Image, fresh};
use crate::support::server::{ADMIN, ADMIN_PASSWORD, parameter};
use crate::support::{Call, Server, Setup};

const SCOPE: &str = "repository:main/app:pull,push";

fn claims(token: &str) -> Value {
    let part = token.split('.').nth(1).expect("claims");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON")
}

fn ping(server: &Server, token: &str) -> u16 {
    Call::get("/v2/").bearer(token).send(&server.registry()).status
}

fn encode(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

#[test]
fn d30_the_challenge_is_bearer_only_and_exact() {
    let server = Setup::plain().start();
    let challenge = server.challenge();
    let all: Vec<&(String, String)> = challenge.headers.iter().filter(|(name, _)| name == "www-authenticate").collect();
    assert_eq!(all.len(), 1);
    assert!(all[0].1.starts_with("Bearer "), "{}", all[0].1);
    assert_eq!(parameter(&all[0].1, "realm"), Some(format!("{}/token", server.auth().url())));
    assert_eq!(parameter(&all[0].1, "scope"), None, "no scope on /v2/");
    let manifest = Call::get("/v2/main/app/manifests/v1").send(&server.registry()).expect(401);
    let header = manifest.header("www-authenticate").unwrap();
    assert_eq!(parameter(header, "scope").as_deref(), Some("repository:main/app:pull"));
    for (call, scope) in [
        (Call::post("/v2/main/app/blobs/uploads/"), "repository:main/app:pull,push"),
        (Call::put("/v2/main/app/manifests/v1").body("{}"), "repository:main/app:pull,push"),
        (Call::delete("/v2/main/app/manifests/v1"), "repository:main/app:delete"),
        (Call::get("/v2/_catalog"), "registry:catalog:*"),
        (
            Call::post(format!("/v2/main/app/blobs/uploads/?mount=sha256:{}&from=main/b", "0".repeat(64))),
            "repository:main/app:pull,push repository:main/b:pull",
        ),
    ] {
        let reply = call.send(&server.registry()).expect(401);
        assert_eq!(reply.code(), "UNAUTHORIZED");
        assert_eq!(parameter(reply.header("www-authenticate").unwrap(), "scope").as_deref(), Some(scope));
    }
}

#[test]
fn d30_get_and_post_answer_alike() {
    let server = Setup::plain().start();
    let (auth, service) = (server.auth(), server.service());
    let got = server.try_token(Some((ADMIN, ADMIN_PASSWORD)), &[SCOPE]).expect(200).json();
    let form = [
        ("grant_type", "password"),
        ("username", ADMIN),
        ("password", ADMIN_PASSWORD),
        ("service", &service),
        ("scope", SCOPE),
        ("client_id", "journey"),
        ("access_type", "offline"),
    ];
    let posted = Call::post("/token").form(&form).send(&auth).expect(200).json();
    for reply in [&got, &posted] {
        let token = reply["access_token"].as_str().or(reply["token"].as_str()).unwrap();
        assert_eq!(ping(&server, token), 200);
        assert!(reply["expires_in"].as_i64().unwrap() >= 60);
        assert!(reply["issued_at"].is_string());
        let access = &claims(token)["access"][0];
        assert_eq!((access["name"].as_str(), access["type"].as_str()), (Some("main/app"), Some("repository")));
    }
    assert_eq!(got["token"], got["access_token"]);
    assert!(got.get("refresh_token").is_none_or(Value::is_null), "not asked for: {got}");
    let refresh = posted["refresh_token"].as_str().expect("access_type=offline");
    for _ in 0..2 {
        let form = [
            ("grant_type", "refresh_token"),
            ("refresh_token", refresh),
            ("service", &service),
            ("scope", SCOPE),
            ("client_id", "journey"),
        ];
        let again = Call::post("/token").form(&form).send(&auth).expect(200).json();
        assert_eq!(ping(&server, again["access_token"].as_str().unwrap()), 200, "reusable until revoked");
    }
    let bad = [
        ("grant_type", "refresh_token"),
        ("refresh_token", "nonsense"),
        ("service", &service),
        ("client_id", "journey"),
    ];
    let refused = Call::post("/token").form(&bad).send(&auth);
    assert!(matches!(refused.status, 400 | 401), "{}", refused.status);
    let unknown = Call::post("/token").form(&[("grant_type", "something"), ("service", &service)]).send(&auth);
    assert_eq!(unknown.status, 400);
}

#[test]
fn d30_scopes_are_split_united_and_narrowed_never_refused() {
    let server = Setup::plain().start();
    server.api().create_user("main", "reader@localhost", "lamps along the breakwater");
    server.api().bind("main", "reader@localhost", "PROJECT_READ_ONLY", Some("defaultproject"));
    let grant = |scopes: &[&str]| {
        let token = server.token("reader@localhost", "lamps along the breakwater", scopes);
        claims(&token)["access"].as_array().cloned().unwrap_or_default()
    };
    let actions = |entry: &Value| -> Vec<String> {
        let mut list: Vec<String> =
            entry["actions"].as_array().unwrap().iter().map(|each| each.as_str().unwrap().to_owned()).collect();
        list.sort();
        list
    };
    let of = |granted: &[Value], name: &str| {
        granted.iter().find(|entry| entry["name"] == name).map(actions).unwrap_or_default()
    };
    let narrowed = grant(&["repository:main/app:pull,push,delete"]);
    assert_eq!(of(&narrowed, "main/app"), ["pull"]);
    assert_eq!(of(&grant(&["repository:main/app:*"]), "main/app"), ["pull"]);
    let two = grant(&["repository:main/app:pull repository:main/b:pull"]);
    assert_eq!((of(&two, "main/app"), of(&two, "main/b")), (vec!["pull".to_owned()], vec!["pull".to_owned()]));
    let united = grant(&["repository:main/app:push", "repository:main/app:pull"]);
    assert_eq!(of(&united, "main/app"), ["pull"]);
    assert_eq!(of(&grant(&["repository:elsewhere/app:pull"]), "elsewhere/app"), Vec::<String>::new());
    for odd in [
        "",
        "repository(plugin):main/app:pull",
        "registry:catalog:*",
        "repository:main/app:",
        "something:else:entirely",
    ] {
        server.try_token(Some(("reader@localhost", "lamps along the breakwater")), &[odd]).expect(200);
    }
    for malformed in ["nonsense", "repository", "repository::pull", ":::"] {
        let reply = server.try_token(Some(("reader@localhost", "lamps along the breakwater")), &[malformed]);
        assert!(matches!(reply.status, 200 | 400), "{malformed}: {}", reply.status);
    }
    let many: Vec<String> = (0..500).map(|number| format!("repository:main/r{number}:pull")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let status = server.try_token(Some(("reader@localhost", "lamps along the breakwater")), &many).status;
    assert!(matches!(status, 200 | 400 | 413 | 414 | 431), "{status}");
}

#[test]
fn d30_wrong_credentials_are_401_and_say_nothing_of_the_account() {
    let server = Setup::plain().start();
    let wrong = server.try_token(Some((ADMIN, "wrong")), &[]).expect(401);
    let unknown = server.try_token(Some(("nobody@localhost", "wrong")), &[]).expect(401);
    assert_eq!(wrong.text(), unknown.text());
    assert!(wrong.header("www-authenticate").is_some_and(|value| value.starts_with("Basic")));
    assert_eq!(wrong.code(), "UNAUTHORIZED");
    let anonymous = server.try_token(None, &[SCOPE]).expect(200).json();
    let token = anonymous["token"].as_str().unwrap();
    assert_eq!(claims(token)["sub"], "");
    assert_eq!(claims(token)["access"][0]["actions"], json!([]));
    Call::get("/v2/main/app/tags/list").bearer(token).send(&server.registry()).expect(401);
}

#[test]
fn d30_forged_tokens_are_refused() {
    let server = Setup::plain().start();
    let good = server.admin_token("main/app");
    assert_eq!(ping(&server, &good), 200);
    let parts: Vec<&str> = good.split('.').collect();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[0]).unwrap()).unwrap();
    let body = claims(&good);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = header.clone();
        change(&mut changed);
        encode(&changed)
    };
    let mut later = body.clone();
    later["exp"] = json!(body["exp"].as_i64().unwrap() + 86_400);
    let mut other = body.clone();
    other["sub"] = json!("operator@localhost");
    let jwks = Call::get("/.well-known/jwks.json").send(&server.auth()).expect(200);
    let key = jsonwebtoken::EncodingKey::from_secret(&jwks.body);
    let confused = {
        let mut forged = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        forged.kid = header["kid"].as_str().map(str::to_owned);
        jsonwebtoken::encode(&forged, &body, &key).unwrap()
    };
    let (own_key, own_jwk) = own_key();
    let signed = |change: &dyn Fn(&mut jsonwebtoken::Header)| {
        let mut forged = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        forged.kid = header["kid"].as_str().map(str::to_owned);
        change(&mut forged);
        jsonwebtoken::encode(&forged, &body, &own_key).unwrap()
    };
    let forged = [
        ("unsigned", format!("{}.{}.", with(&|header| header["alg"] = json!("none")), parts[1])),
        ("none in capitals", format!("{}.{}.{}", with(&|header| header["alg"] = json!("NONE")), parts[1], parts[2])),
        ("signature cut", format!("{}.{}.{}", parts[0], parts[1], &parts[2][..parts[2].len() - 4])),
        ("no signature", format!("{}.{}.", parts[0], parts[1])),
        ("later exp", format!("{}.{}.{}", parts[0], encode(&later), parts[2])),
        ("other sub", format!("{}.{}.{}", parts[0], encode(&other), parts[2])),
        ("other kid", format!("{}.{}.{}", with(&|header| header["kid"] = json!("AAAA:BBBB")), parts[1], parts[2])),
        (
            "kid as a path",
            format!("{}.{}.{}", with(&|header| header["kid"] = json!("../../../dev/null")), parts[1], parts[2]),
        ),
        ("HS256 with the public key", confused),
        ("another key under our kid", signed(&|_| {})),
        ("an embedded key", signed(&|header| header.jwk = Some(own_jwk.clone()))),
        ("a key to fetch", signed(&|header| header.jku = Some("http://127.0.0.1:1/jwks.json".into()))),
        ("not a token", "abc".into()),
        ("empty", String::new()),
        ("two parts", "a.b".into()),
        ("huge", "A".repeat(20_000)),
        ("five parts", "a.b.c.d.e".into()),
    ];
    for (what, token) in forged {
        let status = ping(&server, &token);
        assert!(matches!(status, 401 | 431 | 400), "{what}: {status}");
    }
    let refused = Call::get("/v2/main/app/tags/list").bearer("abc").send(&server.registry()).expect(401);
    assert_eq!(parameter(refused.header("www-authenticate").unwrap(), "error").as_deref(), Some("invalid_token"));
}

/// A P-256 key of the forger's own, and its public half.
fn own_key() -> (jsonwebtoken::EncodingKey, jsonwebtoken::jwk::Jwk) {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
    let pkcs8 =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &aws_lc_rs::rand::SystemRandom::new()).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).unwrap();
    let point = pair.public_key().as_ref();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    let jwk = serde_json::from_value(json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})).unwrap();
    (jsonwebtoken::EncodingKey::from_ec_der(pkcs8.as_ref()), jwk)
}

#[test]
fn d30_keys_rotate_without_refusing_anyone() {
    let server = Setup::plain().start();
    let registry = server.registry();
    let before = server.admin_token("main/app");
    Image::new(fresh(), 10).push(&registry, "main/app", &before, "v1");
    let kids = || -> Vec<Value> {
        let keys = Call::get("/.well-known/jwks.json").send(&server.auth()).expect(200).json();
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].clone()).collect()
    };
    let old = kids();
    server.run(&["keys", "rotate"]);
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(15);
    while kids() == old {
        assert!(std::time::Instant::now() < deadline, "the new key is not published");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert!(old.iter().all(|kid| kids().contains(kid)), "the old key stays published");
    assert_eq!(ping(&server, &before), 200);
    assert_eq!(ping(&server, &server.admin_token("main/app")), 200);
}

#[test]
fn d30_an_api_key_logs_in_without_a_refresh_token() {
    let server = Setup::plain().start();
    let (_, key) = server.api().create_api_key("main", None, "laptop");
    assert!(key.starts_with("ra2."), "{key}");
    let query = format!("service={}&offline_token=true&client_id=docker", server.service());
    let reply = Call::get(format!("/token?{query}")).basic(ADMIN, &key).send(&server.auth()).expect(200).json();
    assert!(reply.get("refresh_token").is_none_or(Value::is_null), "{reply}");
    assert_eq!(ping(&server, reply["token"].as_str().unwrap()), 200);
    server.try_token(Some(("nobody@localhost", &key)), &[]).expect(401);
    let mut wrong = key.clone();
    wrong.replace_range(key.len() - 1.., if key.ends_with('0') { "1" } else { "0" });
    server.try_token(Some((ADMIN, &wrong)), &[]).expect(401);
}

#[test]
fn d30_a_flood_of_unknown_keys_costs_nothing_and_a_token_of_another_server_is_none() {
    let (server, other) = (Setup::plain().start(), Setup::plain().start());
    assert_eq!(ping(&server, &other.admin_token("main/app")), 401);
    let good = server.admin_token("main/app");
    let rest = good.split_once('.').unwrap().1;
    let started = std::time::Instant::now();
    for number in 0..300 {
        let header = encode(&json!({"typ": "JWT", "alg": "ES256", "kid": format!("KID{number}")}));
        assert_eq!(ping(&server, &format!("{header}.{rest}")), 401);
    }
    assert!(started.elapsed() < std::time::Duration::from_secs(10), "{:?}", started.elapsed());
    assert_eq!(ping(&server, &good), 200);
}

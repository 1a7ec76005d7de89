//! Machines without a secret of their own, by tokens of a real OpenID Connect provider.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::support::http::Endpoint;
use crate::support::oci::{Image, fresh};
use crate::support::server::{OPERATOR, OPERATOR_PASSWORD, free_port, root};
use crate::support::{Api, Call, Reply, Server, Setup};
use crate::wait_until_ready;

const AUDIENCE: &str = "https://registry.acme.example";
const SCOPE: &str = "repository:main/app:pull,push";

/// `oidc-provider` in a process of its own.
struct Provider {
    child: Child,
    endpoint: Endpoint,
}

impl Provider {
    fn start() -> Self {
        let folder = root().join("target/tools/oidc");
        let script = folder.join("provider.mjs");
        assert!(script.is_file(), "{} is missing: run `make tools`", script.display());
        let port = free_port();
        let mut child = Command::new("node")
            .arg("provider.mjs")
            .arg(port.to_string())
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("node is installed: run `make tools`");
        wait_until_ready(&mut child, "the provider");
        let host = format!("127.0.0.1:{port}");
        Self { child, endpoint: Endpoint { addr: host.parse::<SocketAddr>().unwrap(), host, tls: None } }
    }

    fn issuer(&self) -> String {
        self.endpoint.url()
    }

    /// A token for a client, its `sub`, with the claims of a CI job.
    fn token_of(&self, client: &str, audience: &str, claims: &Value, algorithm: &str) -> String {
        let form = [("grant_type", "client_credentials"), ("resource", audience), ("scope", "push")];
        let call = Call::post("/token").basic(client, "secret").form(&form);
        let call = call.header("x-claims", claims.to_string()).header("x-alg", algorithm).header("x-life", "240");
        let reply = call.send(&self.endpoint).expect(200).json();
        reply["access_token"].as_str().unwrap().to_owned()
    }

    fn token(&self, claims: &Value) -> String {
        self.token_of("acme-app", AUDIENCE, claims, "RS256")
    }

    /// What it publishes.
    fn keys(&self) -> String {
        Call::get("/jwks").send(&self.endpoint).expect(200).text()
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the rules ask for.
fn job() -> Value {
    json!({"repository_id": "7", "environment": "prod", "ref": "refs/heads/main"})
}

fn exchange(server: &Server, account: &str, token: &str) -> Reply {
    let form = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("subject_token", token),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:jwt"),
        ("account", account),
        ("service", &server.service()),
        ("scope", SCOPE),
    ];
    Call::post("/token").form(&form).send(&server.auth())
}

#[track_caller]
fn refused(server: &Server, account: &str, token: &str) -> Value {
    let reply = exchange(server, account, token).expect(400).json();
    assert_eq!(reply["error"], "invalid_grant", "{account}");
    reply
}

fn pushes(server: &Server, token: &str) -> u16 {
    Call::post("/v2/main/app/blobs/uploads/").bearer(token).send(&server.registry()).status
}

/// The admin reads why the last exchange was refused: what changes nothing is written within a moment.
#[track_caller]
fn wait_for(admin: &Api, reason: &str, what: &str) {
    let begun = Instant::now();
    loop {
        let events = admin.audit("main", "action=token.exchange&outcome=denied");
        if events.first().is_some_and(|event| event["reason"].as_str().unwrap().contains(reason)) {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(3), "{what}: {reason} is not in {events:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A server whose organization `main` trusts the provider to say who is its machine `ci`; the admin, and the trust's path.
fn trusting(provider: &Provider) -> (Server, Api, String) {
    let server = Setup::plain().clock().env("WHARFINGER_FEDERATION_ALLOW_PRIVATE", "true").start();
    let admin = server.api();
    admin.create_machine("main", "ci");
    admin.bind("main", "ci", "PROJECT_ADMIN", Some("defaultproject"));
    let trust = json!({
        "name": "CI of acme/app", "user": "ci", "issuer": provider.issuer(), "audience": AUDIENCE,
        "rules": {"sub": ["acme-app"], "repository_id": ["7"], "environment": ["prod", "stage"]},
    });
    let made = admin.post("/orgs/main/issuers", &trust).expect(201).json();
    let path = format!("/orgs/main/issuers/{}", made["id"].as_str().unwrap());
    (server, admin, path)
}

#[test]
fn a_ci_job_pushes_without_a_secret_until_it_is_trusted_no_longer() {
    let provider = Provider::start();
    let (server, admin, path) = trusting(&provider);
    for algorithm in ["RS256", "PS256", "ES256", "EdDSA"] {
        let token = provider.token_of("acme-app", AUDIENCE, &job(), algorithm);
        let answer = exchange(&server, "main/ci", &token).expect(200).json();
        assert_eq!(answer["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token", "{algorithm}");
        assert_eq!((&answer["token_type"], &answer["scope"]), (&json!("Bearer"), &json!(SCOPE)));
        assert!((1..=240).contains(&answer["expires_in"].as_i64().unwrap()), "no longer than the token: {answer}");
        assert!(answer.get("refresh_token").is_none());
    }

    // As docker does it: the token is the password, and is shown anew for each scope.
    let token = provider.token(&job());
    let login = Call::get("/token?account=main%2Fci&client_id=docker&offline_token=true&service=wharfinger");
    let login = login.basic("main/ci", &token).send(&server.auth()).expect(200).json();
    assert!(login.get("refresh_token").is_none(), "{login}");
    let access = server.token("main/ci", &token, &[SCOPE]);
    let image = Image::new(fresh(), 64 << 10);
    image.push_blobs(&server.registry(), "main/app", &access);
    image.push(&server.registry(), "main/app", &access, "v1").expect(201);
    let seen = admin.get(&path).expect(200).json();
    assert!(seen["last_used_at"].is_string(), "{seen}");

    // Only the machine's rights: nothing in another project, and no door but the registry's.
    let form = "repository:main/elsewhere/app:pull,push";
    let narrow = server.token("main/ci", &token, &[form]);
    let elsewhere = Call::post("/v2/main/elsewhere/app/blobs/uploads/").bearer(&narrow).send(&server.registry());
    assert!(matches!(elsewhere.status, 401 | 403 | 404), "{}", elsewhere.status);
    Api::bearer(server.controller(), &token).get("/orgs/main").expect(401);
    Api::bearer(server.controller(), &access).get("/orgs/main").expect(401);

    // Trusted no longer: the access token that is out ends within a second.
    assert_eq!(pushes(&server, &access), 202);
    admin.delete(&path).expect(204);
    let begun = Instant::now();
    while pushes(&server, &access) != 401 {
        assert!(begun.elapsed() < Duration::from_secs(1), "still good after {:?}", begun.elapsed());
    }
    println!("a trust that was deleted was felt after {:?}", begun.elapsed());
    refused(&server, "main/ci", &token);

    wait_for(&admin, "no trust", "a trust that was deleted");
    let events = admin.audit("main", "action=token.exchange");
    assert!(events.iter().any(|event| event["outcome"] == "ok" && event["user"] == "ci"), "{events:?}");
}

#[test]
fn tokens_that_do_not_fit_are_refused_alike_and_the_admin_reads_why() {
    let provider = Provider::start();
    let (server, admin, _) = trusting(&provider);
    let good = provider.token(&job());
    exchange(&server, "main/ci", &good).expect(200);
    let with = |name: &str, value: Value| {
        let mut claims = job();
        claims[name] = value;
        provider.token(&claims)
    };
    let parts: Vec<&str> = good.split('.').collect();
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());

    // A key of the attacker's own under the provider's id of a key, and what everybody knows of the real one as a secret.
    let pkcs8 = aws_lc_rs::signature::EcdsaKeyPair::generate_pkcs8(
        &aws_lc_rs::signature::ECDSA_P256_SHA256_FIXED_SIGNING,
        &aws_lc_rs::rand::SystemRandom::new(),
    );
    let own = EncodingKey::from_ec_der(pkcs8.unwrap().as_ref());
    let other_key = |kid: &str| {
        let header = Header { kid: Some(kid.into()), ..Header::new(Algorithm::ES256) };
        jsonwebtoken::encode(&header, &claims, &own).unwrap()
    };
    let hs256 = |secret: &str| {
        let head = format!("{}.{}", encode(&json!({"alg": "HS256", "typ": "JWT", "kid": "rs256"})), parts[1]);
        let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), head.as_bytes());
        format!("{head}.{}", URL_SAFE_NO_PAD.encode(mac.as_ref()))
    };
    let none = encode(&json!({"alg": "none", "kid": "rs256"}));
    let keys: Value = serde_json::from_str(&provider.keys()).unwrap();
    let modulus = keys["keys"][0]["n"].as_str().unwrap().to_owned();
    let mut root_claims = claims.clone();
    root_claims["repository_id"] = json!("8");

    let first = refused(&server, "nowhere/ci", &good);
    for (what, account, token, reason) in [
        ("another repository", "main/ci", with("repository_id", json!("8")), "the rule for repository_id"),
        ("a number that looks like it", "main/ci", with("repository_id", json!(7.5)), "the rule for repository_id"),
        ("a missing claim", "main/ci", provider.token(&json!({"repository_id": "7"})), "the rule for environment"),
        ("a claim with more", "main/ci", with("environment", json!("prod-2")), "the rule for environment"),
        ("another client", "main/ci", provider.token_of("acme-other", AUDIENCE, &job(), "RS256"), "the rule for sub"),
        (
            "another audience",
            "main/ci",
            provider.token_of("acme-app", "https://other.example", &job(), "RS256"),
            "the audience",
        ),
        ("another key", "main/ci", other_key("es256"), "the signature is wrong"),
        ("a key nobody knows", "main/ci", other_key("made-up"), "no key of the token's kid"),
        ("no signature", "main/ci", format!("{none}.{}.", parts[1]), "the token's algorithm"),
        ("a signature under none", "main/ci", format!("{none}.{}.{}", parts[1], parts[2]), "the token's algorithm"),
        ("the public set as a secret", "main/ci", hs256(&provider.keys()), "the token's algorithm"),
        ("the modulus as a secret", "main/ci", hs256(&modulus), "the token's algorithm"),
        (
            "other claims, old signature",
            "main/ci",
            format!("{}.{}.{}", parts[0], encode(&claims_as(&claims)), parts[2]),
            "the signature is wrong",
        ),
        (
            "rules fit, old signature",
            "main/ci",
            format!("{}.{}.{}", parts[0], encode(&root_claims), parts[2]),
            "the rule for repository_id",
        ),
    ] {
        let answer = refused(&server, account, &token);
        assert_eq!(answer, first, "{what}");
        wait_for(&admin, reason, what);
        // The same by docker's door.
        server.try_token(Some((account, &token)), &[SCOPE]).expect(401);
    }
    for account in ["main/nobody", "main/admin@localhost", "main", "main/ci/ci", "other/ci"] {
        assert_eq!(refused(&server, account, &good), first, "{account}");
    }
    // Once it has expired.
    server.advance(241);
    assert_eq!(refused(&server, "main/ci", &good), first);
}

/// The same claims under a new id: only the signature tells.
fn claims_as(claims: &Value) -> Value {
    let mut claims = claims.clone();
    claims["jti"] = json!("another");
    claims
}

#[test]
fn one_organizations_trust_opens_no_other_and_ends_with_its_machine() {
    let provider = Provider::start();
    let (server, admin, _) = trusting(&provider);
    let operator = server.login(OPERATOR, OPERATOR_PASSWORD);
    operator.create_org("other", "boss@other.example", "seven gulls over a grey pier");
    let boss = server.login("boss@other.example", "seven gulls over a grey pier");
    boss.create_machine("other", "ci");
    let token = provider.token(&job());
    exchange(&server, "main/ci", &token).expect(200);
    refused(&server, "other/ci", &token);

    let access = server.token("main/ci", &token, &[SCOPE]);
    assert_eq!(pushes(&server, &access), 202);
    admin.post("/orgs/main/users/ci/deactivate", &json!({})).expect(204);
    let begun = Instant::now();
    while pushes(&server, &access) != 401 {
        assert!(begun.elapsed() < Duration::from_secs(1), "still good after {:?}", begun.elapsed());
    }
    refused(&server, "main/ci", &token);
}

#[test]
fn an_issuer_in_the_servers_own_network_is_not_asked_by_default() {
    let provider = Provider::start();
    let server = Setup::plain().start();
    let admin = server.api();
    admin.create_machine("main", "ci");
    for issuer in [provider.issuer(), "http://169.254.169.254".into(), "http://localhost:6001".into()] {
        let trust =
            json!({"name": "x", "user": "ci", "issuer": issuer, "audience": AUDIENCE, "rules": {"sub": ["acme-app"]}});
        let refused = admin.post("/orgs/main/issuers", &trust).expect(422).json();
        assert_eq!(refused["field"], "issuer");
    }
    // The keys given by hand make no request necessary.
    let keys: Value = serde_json::from_str(&provider.keys()).unwrap();
    let trust = json!({"name": "x", "user": "ci", "issuer": provider.issuer(), "audience": AUDIENCE,
                       "rules": {"sub": ["acme-app"]}, "keys": keys});
    admin.post("/orgs/main/issuers", &trust).expect(201);
    exchange(&server, "main/ci", &provider.token(&job())).expect(200);
}

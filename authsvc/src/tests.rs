//! Each row of what real clients send, against the router in-process.
#![allow(clippy::unwrap_used)]

use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::header::{ALLOW, AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt as _;
use identity::admin::NewApiKey;
use identity::bootstrap::Bootstrap;
use identity::password::Cost;
use identity::{Identity, MasterKey, Options};
use serde_json::{Value, json};
use storage::projects::UpdateProject;
use storage::{Clock, Db};
use tempfile::TempDir;
use tower::ServiceExt as _;

use crate::State;

const NAME: &str = "admin@localhost";
const PASSWORD: &str = "a quiet harbour";

struct Service {
    identity: Identity,
    clock: Clock,
    db: Db,
    _dir: TempDir,
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

async fn service() -> Service {
    let dir = tempfile::tempdir().unwrap();
    let db = storage::db::testing::fresh(dir.path()).await;
    let clock = Clock::manual(1_800_000_000);
    let mut options = Options::new("https://auth.test", "wharfinger");
    options.cost = Cost { memory: 64, passes: 1 };
    options.clock = clock.clone();
    let identity = Identity::open(db.clone(), MasterKey::generate(), options).await.unwrap();
    let bootstrap = Bootstrap {
        org: "main".parse().unwrap(),
        admin: NAME.parse().unwrap(),
        admin_password: Some(PASSWORD.into()),
        operator: "operator@localhost".parse().unwrap(),
        operator_password: Some(PASSWORD.into()),
    };
    identity.bootstrap(&bootstrap).await.unwrap();
    Service { identity, clock, db, _dir: dir }
}

impl Service {
    async fn send(&self, request: Request<Body>) -> Answer {
        let response = crate::router(State::new(self.identity.clone())).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::String(String::from_utf8_lossy(&bytes).into()));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    async fn get(&self, query: &str, credentials: Option<(&str, &str)>) -> Answer {
        let mut request = Request::get(format!("/token?{query}"));
        if let Some((name, secret)) = credentials {
            request = request.header(AUTHORIZATION, format!("Basic {}", STANDARD.encode(format!("{name}:{secret}"))));
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    async fn post(&self, form: &str) -> Answer {
        self.post_as(form, "application/x-www-form-urlencoded").await
    }

    async fn post_as(&self, form: &str, content_type: &str) -> Answer {
        let request = Request::post("/token").header(CONTENT_TYPE, content_type);
        self.send(request.body(Body::from(form.to_owned())).unwrap()).await
    }

    async fn api_key(&self) -> String {
        let mut session = self.db.read().await.unwrap();
        let org = storage::orgs::find_by_slug(&mut session, "main").await.unwrap().unwrap();
        let user = storage::users::find_by_name(&mut session, NAME).await.unwrap().unwrap();
        drop(session);
        let new = NewApiKey {
            org_id: &org.id,
            user_id: &user.id,
            name: "ci",
            valid_days: None,
            projects: None,
            permissions: None,
        };
        self.identity.create_api_key(&identity::audit::Caller::server(), &new).await.unwrap().key.expose().to_owned()
    }

    async fn publish(&self, public: bool) {
        let found = storage::projects::find_by_path(&mut self.db.read().await.unwrap(), "main", "defaultproject").await;
        self.identity
            .update_project(
                &identity::audit::Caller::server(),
                &found.unwrap().unwrap().id,
                &UpdateProject { public: Some(public), sparse: None, ..UpdateProject::default() },
            )
            .await
            .unwrap();
    }
}

impl Answer {
    fn claims(&self) -> Value {
        assert_eq!(self.status, StatusCode::OK, "{}", self.body);
        assert_eq!(self.body["token"], self.body["access_token"]);
        let payload = self.body["token"].as_str().unwrap().split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }

    /// `name=actions` of every entry.
    fn access(&self) -> Vec<String> {
        let claims = self.claims();
        let actions = |entry: &Value| {
            let actions: Vec<&str> = entry["actions"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
            format!("{}={}", entry["name"].as_str().unwrap(), actions.join(","))
        };
        claims["access"].as_array().unwrap().iter().map(actions).collect()
    }

    fn refresh_token(&self) -> &str {
        self.body["refresh_token"].as_str().unwrap()
    }
}

const ME: Option<(&str, &str)> = Some((NAME, PASSWORD));

#[tokio::test]
async fn docker_login_gets_a_refresh_token_and_then_lives_on_it() {
    let s = service().await;
    let answer = s.get("account=admin%40localhost&client_id=docker&offline_token=true&service=wharfinger", ME).await;
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
    assert_eq!(answer.headers[CONTENT_TYPE], "application/json");
    assert_eq!(answer.body["expires_in"], json!(300));
    assert_eq!(answer.body["issued_at"], "2027-01-15T08:00:00Z");
    let claims = answer.claims();
    assert_eq!(
        (&claims["iss"], &claims["sub"], &claims["aud"]),
        (&json!("https://auth.test"), &json!(NAME), &json!("wharfinger"))
    );
    assert_eq!(claims["access"], json!([]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);

    let form = format!(
        "client_id=docker&grant_type=refresh_token&refresh_token={}&scope=repository%3Amain%2Fapp%3Apush%2Cpull&service=wharfinger",
        answer.refresh_token()
    );
    for _ in 0..3 {
        let again = s.post(&form).await;
        assert_eq!(again.access(), ["main/app=push,pull"]);
        assert_eq!(again.body["scope"], "repository:main/app:push,pull");
        assert!(again.body.get("refresh_token").is_none());
    }
}

#[tokio::test]
async fn docker_push_and_pull_ask_in_their_own_order() {
    let s = service().await;
    let push = s.get("account=a&scope=repository%3Amain%2Fapp%3Apush%2Cpull&service=wharfinger", ME).await;
    assert_eq!(push.access(), ["main/app=push,pull"]);
    assert!(push.body.get("refresh_token").is_none() && push.body.get("scope").is_none());
    let mount = "scope=repository%3Amain%2Fapp2%3Apush%2Cpull&scope=repository%3Amain%2Fapp%3Apull&service=wharfinger";
    assert_eq!(s.get(mount, ME).await.access(), ["main/app2=push,pull", "main/app=pull"]);
    let refresh = s.get("offline_token=true", ME).await;
    let form = format!(
        "grant_type=refresh_token&refresh_token={}&scope=repository%3Amain%2Fapp2%3Apush%2Cpull+repository%3Amain%2Fapp%3Apull",
        refresh.refresh_token()
    );
    assert_eq!(s.post(&form).await.access(), ["main/app2=push,pull", "main/app=pull"]);
}

#[tokio::test]
async fn podman_skopeo_and_buildah_repeat_the_scope_even_of_one_repository() {
    let s = service().await;
    let again =
        "account=a&scope=repository%3Amain%2Fpod%3Apull%2Cpush&scope=repository%3Amain%2Fpod%3Apull&service=wharfinger";
    assert_eq!(s.get(again, ME).await.access(), ["main/pod=pull,push"]);
    assert_eq!(s.get("scope=repository%3Amain%2Fsk%3A%2A", ME).await.access(), ["main/sk=pull,push,delete"]);
    let both = "scope=repository%3Amain%2Fsk%3A%2A&scope=repository%3Amain%2Fsk%3Adelete";
    assert_eq!(s.get(both, ME).await.access(), ["main/sk=pull,push,delete"]);
}

#[tokio::test]
async fn containers_image_posts_its_refresh_token_in_chunks() {
    let s = service().await;
    let login = s.get("offline_token=true", ME).await;
    let form = format!(
        "client_id=containers%2Fimage&grant_type=refresh_token&refresh_token={}&scope=repository%3Amain%2Fa%3Apull&scope=repository%3Amain%2Fb%3Apull%2Cpush&service=wharfinger",
        login.refresh_token()
    );
    let pieces: Vec<Result<Vec<u8>, std::io::Error>> = form.as_bytes().chunks(7).map(|c| Ok(c.to_vec())).collect();
    let request = Request::post("/token")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from_stream(futures_util::stream::iter(pieces)))
        .unwrap();
    assert_eq!(s.send(request).await.access(), ["main/a=pull", "main/b=pull,push"]);
}

#[tokio::test]
async fn containerd_and_buildkit_post_a_password_with_overlapping_scopes() {
    let s = service().await;
    let form = "client_id=containerd-client&grant_type=password&password=a+quiet+harbour&scope=repository%3Amain%2Fapp%3Apull+repository%3Amain%2Fapp%3Apull%2Cpush&service=wharfinger&username=admin%40localhost";
    let answer = s.post_as(form, "application/x-www-form-urlencoded; charset=utf-8").await;
    assert_eq!(answer.access(), ["main/app=pull,push"]);
    assert_eq!(answer.body["scope"], "repository:main/app:pull,push");
    assert_eq!(answer.body["token_type"], "Bearer");
    assert!(answer.body.get("refresh_token").is_none());
    let offline = s.post(&format!("{form}&access_type=offline")).await;
    assert_eq!(offline.refresh_token().len(), 64);
}

#[tokio::test]
async fn crane_sends_no_account_and_asks_for_the_catalog() {
    let s = service().await;
    assert_eq!(
        s.get("scope=repository%3Amain%2Fapp%3Apush%2Cpull&service=wharfinger", ME).await.access(),
        ["main/app=push,pull"]
    );
    assert_eq!(s.get("scope=registry%3Acatalog%3A%2A&service=wharfinger", ME).await.access(), ["catalog=*"]);
    assert_eq!(s.get("scope=registry%3Acatalog%3A%2A&service=wharfinger", None).await.access(), ["catalog="]);
}

#[tokio::test]
async fn regctl_and_oras_log_in_without_a_scope() {
    let s = service().await;
    let regctl = s.get("account=a&client_id=regclient%2F0.11&service=wharfinger", ME).await;
    assert_eq!(regctl.access(), [""; 0]);
    let helm = s.post("grant_type=password&username=admin%40localhost&password=a+quiet+harbour&service=wharfinger&client_id=oras-go").await;
    assert_eq!(helm.access(), [""; 0]);
    assert_eq!(helm.body["scope"], "");
}

#[tokio::test]
async fn the_conformance_suite_sends_two_scopes_in_one_parameter() {
    let s = service().await;
    let one = "service=wharfinger&scope=repository%3Amain%2Fa%3Apull%2Cpush%20repository%3Amain%2Fb%3Apull";
    assert_eq!(s.get(one, ME).await.access(), ["main/a=pull,push", "main/b=pull"]);
}

#[tokio::test]
async fn anybody_gets_a_token_that_pulls_what_is_public_and_no_more() {
    let s = service().await;
    let query = "service=wharfinger&scope=repository%3Amain%2Fapp%3Apush%2Cpull&scope=repository%3Anope%2Fapp%3Apull";
    let closed = s.get(query, None).await;
    assert_eq!(closed.access(), ["main/app=", "nope/app="]);
    assert_eq!(closed.claims()["sub"], "");
    s.publish(true).await;
    assert_eq!(s.get(query, None).await.access(), ["main/app=pull", "nope/app="]);
    assert!(s.get("offline_token=true", None).await.body.get("refresh_token").is_none());
}

#[tokio::test]
async fn an_api_key_stands_in_for_the_password_and_gets_no_refresh_token() {
    let s = service().await;
    let key = s.api_key().await;
    let answer = s.get("offline_token=true&scope=repository%3Amain%2Fapp%3Apull", Some((NAME, &key))).await;
    assert_eq!(answer.access(), ["main/app=pull"]);
    assert!(answer.body.get("refresh_token").is_none());
    assert_eq!(answer.claims()["key"].as_str().unwrap().len(), 40);
    assert_eq!(s.get("", Some(("operator@localhost", &key))).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn bad_credentials_are_401_with_a_message_and_the_same_for_unknown_names() {
    let s = service().await;
    let known = s.get("service=wharfinger", Some((NAME, "wrong password"))).await;
    let unknown = s.get("service=wharfinger", Some(("nobody@localhost", "wrong password"))).await;
    for answer in [&known, &unknown] {
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers[WWW_AUTHENTICATE], "Basic realm=\"wharfinger\", charset=\"UTF-8\"");
        assert_eq!(
            answer.body,
            json!({"errors": [{"code": "UNAUTHORIZED", "message": "wrong user name or password"}]})
        );
    }
    let post = s.post("grant_type=password&username=nobody&password=wrong+password").await;
    assert_eq!(post.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        (&post.body["error"], &post.body["errors"][0]["code"]),
        (&json!("invalid_grant"), &json!("UNAUTHORIZED"))
    );
    let refresh = s.post(&format!("grant_type=refresh_token&refresh_token={}", "0".repeat(64))).await;
    assert_eq!(refresh.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_locked_name_is_429_with_retry_after_at_both_doors() {
    let s = service().await;
    for _ in 0..5 {
        s.get("", Some((NAME, "wrong password"))).await;
    }
    let get = s.get("", ME).await;
    let post = s.post("grant_type=password&username=admin%40localhost&password=a+quiet+harbour").await;
    for answer in [&get, &post] {
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.headers[RETRY_AFTER], "900");
        assert_eq!(answer.body["errors"][0]["code"], "TOOMANYREQUESTS");
    }
    s.clock.advance(900);
    assert_eq!(s.get("", ME).await.status, StatusCode::OK);
}

#[tokio::test]
async fn what_makes_no_sense_is_400() {
    let s = service().await;
    let cases = [
        ("grant_type=client_credentials", "unsupported_grant_type"),
        ("username=a&password=b", "invalid_request"),
        ("grant_type=password&username=a", "invalid_request"),
        ("grant_type=refresh_token", "invalid_request"),
        ("grant_type=password&username=admin%40localhost&password=x&scope=nonsense", "invalid_scope"),
        ("grant_type=password&username=admin%40localhost&password=x&service=another", "invalid_request"),
    ];
    for (form, error) in cases {
        let answer = s.post(form).await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{form}");
        assert!(answer.body["error_description"].is_string() && answer.body["errors"][0]["message"].is_string());
    }
    assert_eq!(s.post_as("{}", "application/json").await.status, StatusCode::BAD_REQUEST);
    let many: String = (0..33).map(|i| format!("scope=repository:a/{i}:pull&")).collect();
    assert_eq!(s.get(&many, ME).await.status, StatusCode::BAD_REQUEST);
    let large = format!("grant_type=password&username=a&password={}", "x".repeat(17 * 1024));
    assert_eq!(s.post(&large).await.status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn hostile_scopes_are_answered_and_grant_nothing() {
    let s = service().await;
    for scope in [
        "repository:..%2F..%2Fetc:pull",
        "repository:main%2F..%2Fapp:pull",
        "repository:MAIN%2Fapp:pull",
        "repository:main%2Fapp:pull%2Cfly",
    ] {
        let access = s.get(&format!("scope={scope}"), ME).await.access();
        assert!(access[0].ends_with('=') || access[0] == "main/app=pull", "{scope}: {access:?}");
    }
    let quote = s.get("scope=repository:a%22b%2Fc:pull", ME).await;
    assert_eq!(quote.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn keys_are_published_for_both_kinds_of_reader() {
    let s = service().await;
    let token = s.get("", ME).await;
    let header = token.body["token"].as_str().unwrap().split('.').next().unwrap();
    let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    let jwks = s.send(Request::get("/.well-known/jwks.json").body(Body::empty()).unwrap()).await;
    assert_eq!(jwks.headers[CONTENT_TYPE], "application/jwk-set+json");
    let key = &jwks.body["keys"][0];
    assert_eq!((&key["kid"], &key["alg"], &key["crv"]), (&header["kid"], &json!("ES256"), &json!("P-256")));
    assert!(key.get("d").is_none());
    let bundle = s.send(Request::get("/keys/bundle.pem").body(Body::empty()).unwrap()).await;
    assert!(bundle.body.as_str().unwrap().starts_with("-----BEGIN CERTIFICATE-----\n"));
    assert!(!bundle.body.as_str().unwrap().contains("PRIVATE"));
}

#[tokio::test]
async fn other_paths_and_methods_say_so() {
    let s = service().await;
    let missing = s.send(Request::get("/nothing").body(Body::empty()).unwrap()).await;
    assert_eq!((missing.status, &missing.body["errors"][0]["code"]), (StatusCode::NOT_FOUND, &json!("UNSUPPORTED")));
    let put = s.send(Request::put("/token").body(Body::empty()).unwrap()).await;
    assert_eq!(put.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(put.headers[ALLOW].to_str().unwrap().contains("POST"));
}

#[tokio::test]
async fn a_form_that_never_ends_is_not_waited_for() {
    let s = service().await;
    let begun = futures_util::stream::once(async { Ok::<_, std::io::Error>("grant_type=") });
    let body = Body::from_stream(futures_util::StreamExt::chain(begun, futures_util::stream::pending()));
    let request = Request::post("/token").header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(body).unwrap();
    let slow = tokio::time::timeout(std::time::Duration::from_secs(10), s.send(request)).await.unwrap();
    assert_eq!((slow.status, &slow.body["error"]), (StatusCode::REQUEST_TIMEOUT, &json!("invalid_request")));
}

/// A machine `ci` of `main` that may push, an issuer that it trusts, and what that issuer signs.
struct Ci {
    s: Service,
    key: jsonwebtoken::EncodingKey,
    trust: storage::trusted_issuers::TrustedIssuer,
}

async fn ci() -> Ci {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    let s = service().await;
    let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &aws_lc_rs::rand::SystemRandom::new());
    let key = jsonwebtoken::EncodingKey::from_ec_der(pair.unwrap().as_ref());
    let mut jwk =
        serde_json::to_value(jsonwebtoken::jwk::Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).unwrap())
            .unwrap();
    jwk["kid"] = json!("k1");
    let org = storage::orgs::find_by_slug(&mut s.db.read().await.unwrap(), "main").await.unwrap().unwrap();
    let server = identity::audit::Caller::server();
    let name = "ci".parse().unwrap();
    let new = identity::admin::NewUser { name: &name, kind: identity::admin::UserKind::Machine, password: None };
    let machine = s.identity.add_user(&server, &org.id, &new).await.unwrap().member.user_id;
    let project = storage::projects::find_by_path(&mut s.db.read().await.unwrap(), "main", "defaultproject").await;
    let project = project.unwrap().unwrap().id;
    let mut tx = s.db.begin().await.unwrap();
    let binding = storage::bindings::NewBinding {
        org_id: &org.id,
        subject: storage::bindings::Subject::User(&machine),
        role: "PROJECT_ADMIN",
        project_id: Some(&project),
        namespaces: &[],
    };
    storage::bindings::create(&mut tx, &binding, 1).await.unwrap();
    tx.commit().await.unwrap();
    let rules = [("sub".to_owned(), vec!["acme/app".to_owned()])].into_iter().collect();
    let new = identity::federation::NewTrust {
        name: "ci".into(),
        issuer: "https://ci.example".into(),
        audience: "wharfinger".into(),
        rules: identity::federation::rules::Rules::new(rules).unwrap(),
        keys: Some(json!({ "keys": [jwk] })),
    };
    let trust = s.identity.create_trust(&server, &org.id, &machine, &new).await.unwrap();
    Ci { s, key, trust }
}

impl Ci {
    fn token(&self, sub: &str, life: i64) -> String {
        let now = self.s.clock.now();
        let claims =
            json!({"iss": "https://ci.example", "aud": "wharfinger", "sub": sub, "iat": now, "exp": now + life});
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("k1".into());
        jsonwebtoken::encode(&header, &claims, &self.key).unwrap()
    }

    async fn exchange(&self, account: &str, token: &str) -> Answer {
        let kind = "urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Ajwt";
        let grant = "urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
        let scope = "repository%3Amain%2Fapp%3Apull%2Cpush";
        let form = format!(
            "grant_type={grant}&subject_token={token}&subject_token_type={kind}&account={account}&service=wharfinger&scope={scope}&access_type=offline"
        );
        self.s.post(&form).await
    }
}

#[tokio::test]
async fn a_token_of_a_trusted_issuer_is_exchanged() {
    let ci = ci().await;
    let answer = ci.exchange("main/ci", &ci.token("acme/app", 120)).await;
    assert_eq!(answer.access(), ["main/app=pull,push"]);
    assert_eq!(answer.body["issued_token_type"], "urn:ietf:params:oauth:token-type:access_token");
    assert_eq!((&answer.body["token_type"], &answer.body["expires_in"]), (&json!("Bearer"), &json!(120)));
    assert_eq!(answer.body["scope"], "repository:main/app:pull,push");
    assert!(answer.body.get("refresh_token").is_none());
    assert_eq!(answer.headers[CACHE_CONTROL], "no-store");
    let claims = answer.claims();
    assert_eq!((claims["exp"].as_i64(), claims["key"].is_null()), (Some(ci.s.clock.now() + 120), true));
}

#[tokio::test]
async fn docker_shows_the_issuers_token_as_a_password() {
    let ci = ci().await;
    let token = ci.token("acme/app", 900);
    let query = "account=main%2Fci&client_id=docker&offline_token=true&service=wharfinger&scope=repository%3Amain%2Fapp%3Apush%2Cpull";
    let get = ci.s.get(query, Some(("main/ci", &token))).await;
    assert_eq!(get.access(), ["main/app=push,pull"]);
    assert!(get.body.get("refresh_token").is_none() && get.body.get("issued_token_type").is_none());
    let form =
        format!("grant_type=password&username=main%2Fci&password={token}&service=wharfinger&access_type=offline");
    let post = ci.s.post(&form).await;
    assert_eq!(post.status, StatusCode::OK);
    assert!(post.body.get("refresh_token").is_none());
    let wrong = ci.s.get(query, Some(("main/ci", &ci.token("acme/other", 900)))).await;
    assert_eq!(wrong.status, StatusCode::UNAUTHORIZED);
    let nowhere = ci.s.get(query, Some(("nowhere/ci", &token))).await;
    assert_eq!((nowhere.status, &nowhere.body), (wrong.status, &wrong.body));
}

#[tokio::test]
async fn an_exchange_that_is_refused_says_the_same_whatever_the_reason() {
    let ci = ci().await;
    let token = ci.token("acme/app", 120);
    let mut forged = token.clone();
    forged.truncate(token.len() - 4);
    forged.push_str("AAAA");
    let first = ci.exchange("main/ci", &ci.token("acme/other", 120)).await;
    assert_eq!((first.status, &first.body["error"]), (StatusCode::BAD_REQUEST, &json!("invalid_grant")));
    for (account, token) in [
        ("nowhere/ci", &token),
        ("main/nobody", &token),
        ("main/admin%40localhost", &token),
        ("admin%40localhost", &token),
        ("main/ci", &forged),
        ("main/ci", &"eyJhbGciOiJub25lIn0.e30.".to_owned()),
        ("main/ci", &"nonsense".to_owned()),
        ("main/ci", &ci.token("acme/app", -1)),
    ] {
        let answer = ci.exchange(account, token).await;
        assert_eq!((answer.status, &answer.body), (first.status, &first.body), "{account} {token}");
    }
    ci.s.identity.delete_trust(&identity::audit::Caller::server(), &ci.trust, None).await.unwrap();
    let deleted = ci.exchange("main/ci", &token).await;
    assert_eq!((deleted.status, &deleted.body), (first.status, &first.body));
}

#[tokio::test]
async fn an_exchange_that_asks_for_what_is_not_given_is_400() {
    let s = service().await;
    let grant = "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange";
    let jwt = "subject_token_type=urn:ietf:params:oauth:token-type:jwt";
    for (rest, error) in [
        (String::new(), "invalid_request"),
        (format!("subject_token=a.b.c&{jwt}"), "invalid_request"),
        (format!("account=a/b&{jwt}"), "invalid_request"),
        ("account=a/b&subject_token=a.b.c&subject_token_type=saml".into(), "invalid_request"),
        (format!("account=a/b&subject_token=a.b.c&{jwt}&actor_token=x"), "invalid_request"),
        (format!("account=a/b&subject_token=a.b.c&{jwt}&resource=https://x"), "invalid_target"),
        (format!("account=a/b&subject_token=a.b.c&{jwt}&service=x&audience=y"), "invalid_target"),
        (format!("account=a/b&subject_token=a.b.c&{jwt}&service=other"), "invalid_request"),
    ] {
        let answer = s.post(&format!("{grant}&{rest}")).await;
        assert_eq!((answer.status, &answer.body["error"]), (StatusCode::BAD_REQUEST, &json!(error)), "{rest}");
    }
}

impl Service {
    /// The events of an action in an organization's chain, oldest first; of the platform's where the slug is empty.
    async fn events(&self, org: &str, action: &str) -> Vec<storage::audit::NewEvent> {
        use storage::audit::{Direction, Filter, list};
        self.identity.settle().await;
        let mut session = self.db.read().await.unwrap();
        let found = storage::orgs::find_by_slug(&mut session, org).await.unwrap();
        let org_id = found.map(|org| org.id).unwrap_or_default();
        let filter = Filter { action, ..Filter::default() };
        let found = list(&mut session, &org_id, &filter, Direction::Oldest, None, 500).await.unwrap();
        found.events.into_iter().map(|event| event.event).collect()
    }
}

#[tokio::test]
async fn a_log_in_leaves_an_event_and_a_grant_another_by_the_credential_that_was_shown() {
    let s = service().await;
    let login = s.get("account=admin%40localhost&client_id=docker&offline_token=true&service=wharfinger", ME).await;
    let refresh = login.refresh_token().to_owned();
    let key = s.api_key().await;
    s.get("service=wharfinger", Some((NAME, &key))).await.claims();
    let logins = s.events("main", "login").await;
    let seen: Vec<_> = logins.iter().map(|e| (e.actor.as_str(), &*e.client, &*e.outcome)).collect();
    assert_eq!(seen, [(NAME, "docker", "ok"); 2]);
    assert_eq!(logins[0].credential, "password");
    assert!(logins[1].credential.starts_with("api-key:"));

    s.get("scope=repository:main/app:pull,push&scope=repository:main/team/app:pull", ME).await.claims();
    s.get("scope=repository:main/app:pull", Some((NAME, &key))).await.claims();
    s.post(&format!(
        "grant_type=refresh_token&refresh_token={refresh}&service=wharfinger&scope=repository:main/app:push"
    ))
    .await
    .claims();
    let grants = s.events("main", "token.grant").await;
    assert_eq!(grants.len(), 3, "one for each request and organization");
    assert_eq!((&*grants[0].credential, &*grants[0].outcome), ("password", "ok"));
    assert_eq!((grants[0].target.as_str(), grants[0].project.as_str()), ("main/app:pull,push main/team/app:pull", ""));
    assert_eq!(grants[1].credential, logins[1].credential);
    assert_eq!((grants[1].target.as_str(), grants[1].project.as_str()), ("main/app:pull", "defaultproject"));
    assert_eq!((&*grants[2].credential, grants[2].target.as_str()), ("refresh-token", "main/app:push"));
    assert_eq!(
        s.events("main", "login").await.len(),
        3,
        "a key and a refresh token with scopes are no log-in of their own"
    );
    for event in s.events("main", "login").await.iter().chain(&grants) {
        let text = format!("{event:?}");
        assert!(!text.contains(&key) && !text.contains(&refresh) && !text.contains(PASSWORD));
    }
}

#[tokio::test]
async fn what_was_refused_is_told_and_strangers_tell_an_organization_nothing() {
    let s = service().await;
    s.get("scope=repository:main/app:pull,frobnicate", ME).await.claims();
    s.get("scope=repository:main/app:pull,push", None).await.claims();
    s.get("scope=repository:nowhere/app:pull", ME).await.claims();
    let theirs = s.events("main", "token.grant").await;
    assert_eq!(theirs.len(), 1);
    assert_eq!(theirs[0].outcome, "denied");
    let detail: Value = serde_json::from_str(&theirs[0].detail).unwrap();
    assert_eq!(detail, json!({"granted": ["main/app:pull"], "refused": ["main/app:"]}));
    let platform = s.events("", "token.grant").await;
    let seen: Vec<_> = platform.iter().map(|e| (e.actor.as_str(), e.target.as_str(), &*e.outcome)).collect();
    assert_eq!(seen, [("", "main/app:pull,push", "denied"), (NAME, "nowhere/app:pull", "denied")]);

    s.publish(true).await;
    s.get("scope=repository:main/app:pull", None).await.claims();
    let public = s.events("main", "token.grant").await.pop().unwrap();
    assert_eq!((public.actor.as_str(), &*public.credential, &*public.outcome), ("", "", "ok"));
    assert_eq!(public.target, "main/app:pull");
    // As long as a request may be, and no longer.
    let many: String = (0..30).map(|n| format!("+repository:main/{}{n}:pull", "x".repeat(100))).collect();
    s.get(&format!("scope={}", &many[1..]), None).await.claims();
    let long = s.events("main", "token.grant").await.pop().unwrap();
    assert_eq!(long.target.len(), 256);
    assert!(long.detail.len() < 5000);
    s.get("scope=registry:catalog:*&scope=repository:NOT/a/name:pull", ME).await.claims();
    assert_eq!(s.events("", "token.grant").await.len(), 2, "what has no organization goes nowhere");
}

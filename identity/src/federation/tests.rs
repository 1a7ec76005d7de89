#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]
use std::collections::BTreeMap;

use serde_json::{Value, json};
use storage::audit;

use super::testing::{Key, Publisher};
use super::*;
use crate::admin::{NewUser, UserKind};
use crate::core::testing::{self, Testing};
use crate::scope::Scope;

const ISSUER: &str = "https://ci.example";

struct Ci {
    t: Testing,
    key: Key,
    org: String,
    machine: String,
}

fn new_trust(key: &Key, rules: Value) -> NewTrust {
    NewTrust {
        name: "ci".into(),
        issuer: ISSUER.into(),
        audience: "wharfinger".into(),
        rules: Rules::new(serde_json::from_value::<BTreeMap<_, _>>(rules).unwrap()).unwrap(),
        keys: Some(key.set()),
    }
}

async fn add_machine(t: &Testing, org_id: &str, name: &str) -> String {
    let name = name.parse().unwrap();
    let new = NewUser { name: &name, kind: UserKind::Machine, password: None };
    t.identity.add_user(&Caller::server(), org_id, &new).await.unwrap().member.user_id
}

async fn ci() -> Ci {
    let t = testing::identity().await;
    let org = t.org("main").await;
    let machine = add_machine(&t, &org, "ci").await;
    t.give(&machine, "PROJECT_ADMIN", Some(&t.project("main", "defaultproject").await)).await;
    Ci { t, key: Key::new("k1"), org, machine }
}

impl Ci {
    async fn trust(&self, rules: Value) -> TrustedIssuer {
        let new = new_trust(&self.key, rules);
        self.t.identity.create_trust(&Caller::server(), &self.org, &self.machine, &new).await.unwrap()
    }

    fn token(&self, changes: Value) -> Secret {
        let now = self.t.now();
        let mut claims = json!({"iss": ISSUER, "aud": "wharfinger", "sub": "acme/app", "iat": now, "exp": now + 200});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        Secret::new(self.key.sign(&claims))
    }

    async fn exchange(&self, account: &str, token: &Secret) -> Result<Exchanged, ExchangeError> {
        let from = Origin { address: Some("192.0.2.7".parse().unwrap()), ..Origin::default() };
        self.t.identity.exchange(&from, account, token).await
    }

    async fn refused(&self, account: &str, token: &Secret) {
        assert!(matches!(self.exchange(account, token).await, Err(ExchangeError::Refused)), "{account}");
    }

    /// The reason of the youngest event of the organization.
    async fn last_reason(&self) -> String {
        self.t.identity.settle().await;
        let head = audit::head(&mut self.t.db.read().await.unwrap(), &self.org).await.unwrap();
        let event = audit::find(&mut self.t.db.read().await.unwrap(), &self.org, head.seq).await.unwrap().unwrap();
        assert_eq!(event.event.action, "token.exchange");
        event.event.reason
    }

    async fn access_token(&self, exchanged: &Exchanged) -> String {
        let scopes = Scope::parse_all(["repository:main/app:pull,push"]).unwrap();
        let issued = self.t.identity.issue_until(Some(&exchanged.login), &scopes, exchanged.until).await.unwrap();
        assert_eq!(issued.access[0].actions, ["pull", "push"]);
        issued.token
    }
}

#[tokio::test]
async fn a_token_that_fits_is_the_machine_for_as_long_as_it_lives() {
    let ci = ci().await;
    let trust = ci.trust(json!({"sub": ["acme/app"]})).await;
    let exchanged = ci.exchange("main/ci", &ci.token(json!({}))).await.unwrap();
    assert!(exchanged.login.principal.machine && exchanged.login.key.is_none());
    assert_eq!(exchanged.login.principal.key_org.as_deref(), Some(ci.org.as_str()));
    assert_eq!(exchanged.until, ci.t.now() + 200);
    let issued = ci.t.identity.issue_until(Some(&exchanged.login), &[], exchanged.until).await.unwrap();
    assert_eq!(issued.expires_in, 200);
    let token = ci.access_token(&exchanged).await;
    ci.t.identity.verify_bearer(&token).await.unwrap();
    let used = trusted_issuers::find(&mut ci.t.db.read().await.unwrap(), &ci.org, &trust.id).await.unwrap().unwrap();
    assert_eq!(used.last_used_at, Some(ci.t.now()));
    assert_eq!(ci.last_reason().await, "");
    // As often as docker asks, under any spelling of the machine's name.
    ci.exchange("main/CI", &ci.token(json!({}))).await.unwrap();
}

#[tokio::test]
async fn whatever_does_not_fit_is_refused_and_the_log_says_why() {
    let ci = ci().await;
    ci.trust(json!({"sub": ["acme/app"], "environment": ["prod"]})).await;
    let now = ci.t.now();
    let prod = json!({"environment": "prod"});
    ci.exchange("main/ci", &ci.token(prod.clone())).await.unwrap();
    for (changes, reason) in [
        (json!({}), "the rule for environment does not hold"),
        (json!({"environment": "prod", "sub": "acme/other"}), "the rule for sub does not hold"),
        (json!({"environment": "prod", "aud": "other"}), "the token is not for the audience wharfinger"),
        (json!({"environment": "prod", "exp": now - 1}), "the token has expired"),
        (json!({"environment": "prod", "nbf": now + 90}), "the token is not valid yet"),
        (json!({"environment": "prod", "iss": "https://other.example"}), "the machine has no trust in this issuer"),
    ] {
        ci.refused("main/CI", &ci.token(changes)).await;
        assert_eq!(ci.last_reason().await, reason);
    }
    // Whoever searches for the machine finds what it was refused with what it was granted.
    let filter = audit::Filter { actor: "ci", action: "token.exchange", ..audit::Filter::default() };
    let mut session = ci.t.db.read().await.unwrap();
    let found = audit::list(&mut session, &ci.org, &filter, audit::Direction::Newest, None, 20).await.unwrap();
    assert_eq!(found.events.len(), 7);
    drop(session);
    let mut claims = json!({"iss": ISSUER, "aud": "wharfinger", "sub": "acme/app", "iat": now, "exp": now + 9});
    claims["environment"] = json!("prod");
    ci.refused("main/ci", &Key::new("k1").sign(&claims).into()).await;
    assert_eq!(ci.last_reason().await, "the signature is wrong");
    ci.refused("main/ci", &Key::new("k2").sign(&claims).into()).await;
    ci.refused("main/ci", &"no token".into()).await;
}

#[tokio::test]
async fn strangers_learn_nothing_and_write_into_no_organizations_log() {
    let ci = ci().await;
    ci.trust(json!({"sub": ["acme/app"]})).await;
    let before = audit::head(&mut ci.t.db.read().await.unwrap(), &ci.org).await.unwrap().seq;
    let token = ci.token(json!({}));
    for account in [
        "nowhere/ci",
        "main/other",
        "main/admin@localhost",
        "main",
        "",
        "/",
        "main/",
        "/ci",
        "main/ci/x",
        "main/ci:x",
        "a\0/b",
    ] {
        let begun = tokio::time::Instant::now();
        ci.refused(account, &token).await;
        assert!(begun.elapsed() >= PACE, "{account}");
    }
    ci.t.identity.settle().await;
    assert_eq!(audit::head(&mut ci.t.db.read().await.unwrap(), &ci.org).await.unwrap().seq, before);
}

#[tokio::test]
async fn another_organizations_trust_says_nothing_here() {
    let ci = ci().await;
    ci.trust(json!({"sub": ["acme/app"]})).await;
    let slug = "other".parse().unwrap();
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: None };
    let other = ci.t.identity.create_org(&Caller::server(), &new).await.unwrap().org.id;
    add_machine(&ci.t, &other, "bot").await;
    let token = ci.token(json!({}));
    ci.refused("other/ci", &token).await;
    ci.refused("other/bot", &token).await;
    ci.refused("main/bot", &token).await;
    ci.exchange("main/ci", &token).await.unwrap();
}

#[tokio::test]
async fn a_deleted_or_changed_trust_ends_what_was_had_by_it() {
    let ci = ci().await;
    let trust = ci.trust(json!({"sub": ["acme/app"]})).await;
    let token = ci.access_token(&ci.exchange("main/ci", &ci.token(json!({}))).await.unwrap()).await;
    let narrower = new_trust(&ci.key, json!({"sub": ["acme/other"]}));
    let changed = ci.t.identity.update_trust(&Caller::server(), &trust, &narrower, Some(1)).await.unwrap();
    assert!(ci.t.identity.verify_bearer(&token).await.is_err());
    ci.refused("main/ci", &ci.token(json!({}))).await;
    let stale = ci.t.identity.update_trust(&Caller::server(), &trust, &narrower, Some(1)).await;
    assert!(matches!(stale, Err(TrustError::Storage(storage::Error::Version))));

    let other = ci.token(json!({"sub": "acme/other"}));
    let token = ci.access_token(&ci.exchange("main/ci", &other).await.unwrap()).await;
    ci.t.identity.verify_bearer(&token).await.unwrap();
    ci.t.identity.delete_trust(&Caller::server(), &changed, None).await.unwrap();
    assert!(ci.t.identity.verify_bearer(&token).await.is_err());
    ci.refused("main/ci", &other).await;
    assert_eq!(ci.last_reason().await, "the machine has no trust in this issuer");
}

#[tokio::test]
async fn a_machine_that_is_shut_out_gets_in_no_more() {
    let ci = ci().await;
    ci.trust(json!({"sub": ["acme/app"]})).await;
    let token = ci.access_token(&ci.exchange("main/ci", &ci.token(json!({}))).await.unwrap()).await;
    ci.t.deactivate(&ci.machine).await;
    ci.refused("main/ci", &ci.token(json!({}))).await;
    assert!(ci.t.identity.verify_bearer(&token).await.is_err());
    ci.t.identity.set_active(&Caller::server(), &ci.org, &ci.machine, true).await.unwrap();
    ci.exchange("main/ci", &ci.token(json!({}))).await.unwrap();
    let mut tx = ci.t.db.begin().await.unwrap();
    orgs::set_status(&mut tx, &ci.org, &[orgs::ACTIVE], orgs::SUSPENDED, None).await.unwrap();
    tx.commit().await.unwrap();
    ci.refused("main/ci", &ci.token(json!({}))).await;
}

#[tokio::test]
async fn published_keys_are_found_only_where_the_operator_allows_the_place() {
    let ci = ci().await;
    let publisher = Publisher::of(ci.key.set()).await;
    let new =
        NewTrust { issuer: publisher.url.clone(), keys: None, ..new_trust(&ci.key, json!({"sub": ["acme/app"]})) };
    let refused = ci.t.identity.create_trust(&Caller::server(), &ci.org, &ci.machine, &new).await;
    assert!(matches!(refused, Err(TrustError::Invalid { field: "issuer", .. })));
    let open = ci.t.allowing_private_issuers().await;
    open.create_trust(&Caller::server(), &ci.org, &ci.machine, &new).await.unwrap();
    let token = ci.token(json!({"iss": publisher.url}));
    open.exchange(&Origin::default(), "main/ci", &token).await.unwrap();
    open.exchange(&Origin::default(), "main/ci", &token).await.unwrap();
    assert_eq!(publisher.asked(), 2);
    // The row is there, and still this server does not ask.
    ci.refused("main/ci", &token).await;
    assert!(ci.last_reason().await.contains("not one that may be asked"));
    assert_eq!(publisher.asked(), 2);
}

#[tokio::test]
async fn nobody_trusts_an_issuer_for_a_machine_that_may_more_than_they() {
    let ci = ci().await;
    let new = new_trust(&ci.key, json!({"sub": ["acme/app"]}));
    let nobody = Caller::of(Principal::nobody("x").into());
    let refused = ci.t.identity.create_trust(&nobody, &ci.org, &ci.machine, &new).await;
    assert!(matches!(refused, Err(TrustError::Denied(_))));
    let trust = ci.trust(json!({"sub": ["acme/app"]})).await;
    let refused = ci.t.identity.update_trust(&nobody, &trust, &new, None).await;
    assert!(matches!(refused, Err(TrustError::Denied(_))));
    // Whoever may all of it, may.
    let admin = ci.t.user("admin@localhost").await;
    let admin = Caller::of(ci.t.identity.principal(&admin, None).await.unwrap().unwrap());
    ci.t.identity.update_trust(&admin, &trust, &new, None).await.unwrap();
}

#[tokio::test]
async fn trusts_are_for_machines_and_bounded() {
    let ci = ci().await;
    let person = ci.t.user("admin@localhost").await;
    let new = new_trust(&ci.key, json!({"sub": ["acme/app"]}));
    let by = Caller::server();
    let refused = ci.t.identity.create_trust(&by, &ci.org, &person, &new).await;
    assert!(matches!(refused, Err(TrustError::NotAMachine)));
    for bad in [
        NewTrust { name: " ".into(), ..new.clone() },
        NewTrust { name: "x".repeat(129), ..new.clone() },
        NewTrust { issuer: String::new(), ..new.clone() },
        NewTrust { audience: "a b".into(), ..new.clone() },
        NewTrust { issuer: "http://ci.example".into(), keys: None, ..new.clone() },
        NewTrust { issuer: "https://user@ci.example".into(), keys: None, ..new.clone() },
        NewTrust { issuer: "https://ci.example?x=1".into(), keys: None, ..new.clone() },
        NewTrust { issuer: "ci.example".into(), keys: None, ..new.clone() },
        NewTrust { keys: Some(json!({"keys": []})), ..new.clone() },
        NewTrust { keys: Some(json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k"}]})), ..new.clone() },
    ] {
        let refused = ci.t.identity.create_trust(&by, &ci.org, &ci.machine, &bad).await;
        assert!(matches!(refused, Err(TrustError::Invalid { .. })), "{bad:?}");
    }
    for _ in 0..trusts::PER_MACHINE {
        ci.t.identity.create_trust(&by, &ci.org, &ci.machine, &new).await.unwrap();
    }
    let refused = ci.t.identity.create_trust(&by, &ci.org, &ci.machine, &new).await;
    assert!(matches!(refused, Err(TrustError::TooMany(_))));
}

#[test]
fn a_password_is_not_taken_for_a_token() {
    let token: Secret = Key::new("k").sign(&json!({"sub": "x"})).into();
    assert!(is_token_of_account("acme/ci", &token));
    for name in ["ann@acme.example", "ci", "acme/ann@acme.example", "acme/", "/ci", "a/b/c", ""] {
        assert!(!is_token_of_account(name, &token), "{name}");
    }
    for secret in ["", "eyJ", "eyJ.x", "eyJ.x.y.z", "abc.def.ghi", "eyJ .x.y", "a quiet harbour"] {
        assert!(!is_token_of_account("acme/ci", &secret.into()), "{secret}");
    }
}

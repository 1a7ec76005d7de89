#![allow(clippy::unwrap_used)]
use storage::projects::UpdateProject;

use super::*;
use crate::audit::{Caller, Origin};
use crate::core::testing::{self, PASSWORD, Testing};
use crate::login::Door;
use crate::token::{Bearer, BearerError};

async fn login(t: &Testing, name: &str) -> Login {
    t.identity.login(name, &PASSWORD.into(), Door::Registry).await.unwrap()
}

/// What is granted, as `name=actions`.
async fn granted(t: &Testing, who: Option<&Login>, scopes: &[&str]) -> Vec<String> {
    let scopes = Scope::parse_all(scopes.iter().copied()).unwrap();
    let issued = t.identity.issue(who, &scopes).await.unwrap();
    let bearer: std::sync::Arc<Bearer> = t.identity.verify_bearer(&issued.token).await.unwrap();
    assert_eq!(bearer.access, issued.access);
    issued.access.iter().map(|a| format!("{}={}", a.name, a.actions.join(","))).collect()
}

async fn with_reader(t: &Testing) -> Login {
    let ann = t.add("ann@acme.example").await;
    let project = t.project("main", "defaultproject").await;
    t.give(&ann, "PROJECT_READ_ONLY", Some(&project)).await;
    login(t, "ann@acme.example").await
}

#[tokio::test]
async fn a_scope_is_narrowed_and_never_refused() {
    let t = testing::identity().await;
    let ann = with_reader(&t).await;
    assert_eq!(granted(&t, Some(&ann), &["repository:main/app:push,pull"]).await, ["main/app=pull"]);
    assert_eq!(
        granted(&t, Some(&ann), &["repository:main/defaultproject/app:pull"]).await,
        ["main/defaultproject/app=pull"]
    );
    assert_eq!(granted(&t, Some(&ann), &["repository:main/app:*"]).await, ["main/app=pull"]);
    assert_eq!(granted(&t, Some(&ann), &["repository:main/app:delete,push"]).await, ["main/app="]);
    assert_eq!(granted(&t, Some(&ann), &["registry:catalog:*"]).await, ["catalog=*"]);
    assert_eq!(granted(&t, Some(&ann), &["unknown:thing:pull"]).await, [""; 0]);
    let admin = login(&t, "admin@localhost").await;
    assert_eq!(granted(&t, Some(&admin), &["repository:main/app:*"]).await, ["main/app=pull,push,delete"]);
    assert_eq!(granted(&t, Some(&admin), &["repository:main/app:push,pull,fly"]).await, ["main/app=push,pull"]);
}

#[tokio::test]
async fn what_is_not_there_looks_like_what_is_not_allowed() {
    let t = testing::identity().await;
    let ann = with_reader(&t).await;
    let scopes =
        ["repository:nope/app:pull", "repository:main/nope/app:pull", "repository:main:pull", "repository:MAIN/x:pull"];
    assert_eq!(granted(&t, Some(&ann), &scopes).await, ["nope/app=", "main/nope/app=", "main=", "MAIN/x="]);
    let operator = login(&t, "operator@localhost").await;
    assert_eq!(granted(&t, Some(&operator), &["repository:main/app:*"]).await, ["main/app="]);
}

#[tokio::test]
async fn whoever_may_push_is_granted_repositories_and_projects_to_come() {
    let t = testing::identity().await;
    let admin = login(&t, "admin@localhost").await;
    let scopes = ["repository:main/new/app:push,pull", "repository:main/never/seen/before:pull"];
    assert_eq!(granted(&t, Some(&admin), &scopes).await, ["main/new/app=push,pull", "main/never/seen/before=pull"]);
}

#[tokio::test]
async fn anybody_may_pull_what_is_public_until_it_no_longer_is() {
    let t = testing::identity().await;
    let scopes = ["repository:main/app:push,pull", "registry:catalog:*"];
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=", "catalog="]);
    let project = t.project("main", "defaultproject").await;
    t.identity
        .update_project(
            &Caller::server(),
            &project,
            &UpdateProject { public: Some(true), sparse: None, ..UpdateProject::default() },
        )
        .await
        .unwrap();
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=pull", "catalog="]);
    let operator = login(&t, "operator@localhost").await;
    assert_eq!(granted(&t, Some(&operator), &scopes).await, ["main/app=pull", "catalog=*"]);

    let parsed = Scope::parse_all(scopes).unwrap();
    let open = t.identity.issue(None, &parsed).await.unwrap().token;
    let by_right = t.identity.issue(Some(&login(&t, "admin@localhost").await), &parsed).await.unwrap().token;
    t.identity
        .update_project(
            &Caller::server(),
            &project,
            &UpdateProject { public: Some(false), sparse: None, ..UpdateProject::default() },
        )
        .await
        .unwrap();
    assert!(matches!(t.identity.verify_bearer(&open).await, Err(BearerError::Revoked(_))));
    assert!(t.identity.verify_bearer(&by_right).await.is_ok());
}

#[tokio::test]
async fn an_organization_that_allows_no_public_projects_closes_them_at_once() {
    let t = testing::identity().await;
    let (org, project) = (t.org("main").await, t.project("main", "defaultproject").await);
    let public = UpdateProject { public: Some(true), ..UpdateProject::default() };
    t.identity.update_project(&Caller::server(), &project, &public).await.unwrap();
    let scopes = ["repository:main/app:pull"];
    let open = t.identity.issue(None, &Scope::parse_all(scopes).unwrap()).await.unwrap().token;
    assert!(t.identity.verify_bearer(&open).await.is_ok());
    let allow = |allowed| crate::admin::UpdateSettings { public_allowed: Some(allowed), ..Default::default() };
    t.identity.update_settings(&Caller::server(), &org, &allow(false), None).await.unwrap();
    assert_eq!(granted(&t, None, &scopes).await, ["main/app="]);
    assert!(matches!(t.identity.verify_bearer(&open).await, Err(BearerError::Revoked(_))));
    let refused = t.identity.update_project(&Caller::server(), &project, &public).await;
    assert!(refused.unwrap_err().is_conflict());
    // What the project says of itself stays, and holds again.
    t.identity.update_settings(&Caller::server(), &org, &allow(true), None).await.unwrap();
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=pull"]);
    // A suspended organization is closed to strangers too.
    t.identity.suspend_org(&Caller::server(), &org).await.unwrap();
    assert_eq!(granted(&t, None, &scopes).await, ["main/app="]);
    t.identity.resume_org(&Caller::server(), &org).await.unwrap();
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=pull"]);
}

#[tokio::test]
async fn tokens_end_when_rights_shrink_or_the_credential_changes() {
    let t = testing::identity().await;
    let ann = t.add("ann@acme.example").await;
    let project = t.project("main", "defaultproject").await;
    let binding = t.give(&ann, "PROJECT_ADMIN", Some(&project)).await;
    let (key_id, key) = t.key_of("ann@acme.example").await;
    let org = t.org("main").await;
    let token = async || {
        let login = t.identity.login_with_key(&Origin::default(), &key).await.unwrap();
        let scopes = Scope::parse_all(["repository:main/app:pull,push repository:other/app:pull"]).unwrap();
        t.identity.issue(Some(&login), &scopes).await.unwrap().token
    };
    let revoked = async |token: &str| matches!(t.identity.verify_bearer(token).await, Err(BearerError::Revoked(_)));

    let one = token().await;
    assert!(t.identity.verify_bearer(&one).await.is_ok());
    let (unrelated, _) = t.key_of("ann@acme.example").await;
    let more = t.give(&ann, "AUDITOR", None).await;
    t.identity.delete_api_key(&Caller::server(), &org, &unrelated).await.unwrap();
    t.identity.delete_binding(&Caller::server(), &org, &more).await.unwrap();
    assert!(t.identity.verify_bearer(&one).await.is_ok(), "what it grants is still theirs: nobody else can end it");
    t.identity.delete_binding(&Caller::server(), &org, &binding).await.unwrap();
    assert!(revoked(&one).await, "a binding was removed");
    t.give(&ann, "PROJECT_READ_ONLY", Some(&project)).await;
    assert!(revoked(&one).await, "half of what it grants is not what it grants");

    let two = token().await;
    t.deactivate(&ann).await;
    assert!(revoked(&two).await, "the user was deactivated");
    t.identity.set_active(&Caller::server(), &org, &ann, true).await.unwrap();

    let three = token().await;
    t.identity.reset_password(&Caller::server(), "ann@acme.example", None).await.unwrap();
    assert!(revoked(&three).await, "the password was reset");

    let four = token().await;
    t.identity.delete_api_key(&Caller::server(), &org, &key_id).await.unwrap();
    assert!(revoked(&four).await, "the key was revoked");
}

#[tokio::test]
async fn another_process_feels_it_within_half_a_second() {
    let t = testing::identity().await;
    let other = t.another_process().await;
    let admin = login(&t, "admin@localhost").await;
    let token = t.identity.issue(Some(&admin), &[]).await.unwrap().token;
    assert!(other.verify_bearer(&token).await.is_ok());
    t.identity.reset_password(&Caller::server(), "admin@localhost", None).await.unwrap();
    tokio::time::sleep(t.options.rights_for + std::time::Duration::from_millis(50)).await;
    assert!(matches!(other.verify_bearer(&token).await, Err(BearerError::Revoked(_))));
}

#[tokio::test]
async fn what_is_remembered_grants_and_never_refuses() {
    let t = testing::identity().await;
    let scopes = ["repository:main/app:pull", "repository:main/later/app:pull"];
    let ann = with_reader(&t).await;
    // Another process: this one is not told what it does.
    let other = t.another_process().await;
    let mut remembered = false;
    // More than once, as half a second goes by quickly on a machine that does much else.
    for _ in 0..20 {
        assert_eq!(granted(&t, Some(&ann), &scopes).await, ["main/app=pull", "main/later/app="]);
        remembered |= t.identity.known_place(&"main/app".parse().unwrap()).is_some();
    }
    assert!(remembered);

    // Refused a moment ago, and seen at once.
    let slug = "later".parse().unwrap();
    let settings = storage::projects::ProjectSettings { public: true, sparse: false };
    let org = t.org("main").await;
    let new = storage::projects::NewProject { org_id: &org, slug: &slug, settings, description: "" };
    other.create_project(&Caller::server(), &new).await.unwrap();
    let project = t.project("main", "defaultproject").await;
    let opened = UpdateProject { public: Some(true), ..UpdateProject::default() };
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=", "main/later/app=pull"]);
    other.update_project(&Caller::server(), &project, &opened).await.unwrap();
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=pull", "main/later/app=pull"]);

    // Closed elsewhere: felt here within half a second; closed here, at once.
    let shut = UpdateProject { public: Some(false), ..UpdateProject::default() };
    other.update_project(&Caller::server(), &project, &shut).await.unwrap();
    tokio::time::sleep(t.options.rights_for + std::time::Duration::from_millis(50)).await;
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=", "main/later/app=pull"]);
    let later = t.project("main", "later").await;
    t.identity.update_project(&Caller::server(), &later, &shut).await.unwrap();
    assert_eq!(granted(&t, None, &scopes).await, ["main/app=", "main/later/app="]);
}

#[tokio::test]
async fn a_token_does_not_outlive_its_key() {
    let t = testing::identity().await;
    let (_, key) = t.key_of("admin@localhost").await;
    t.advance(86_400 - 100);
    let login = t.identity.login_with_key(&Origin::default(), &key).await.unwrap();
    assert_eq!(t.identity.issue(Some(&login), &[]).await.unwrap().expires_in, 100);
}

#[tokio::test]
async fn a_key_of_one_project_opens_no_other_that_takes_its_name() {
    let t = testing::identity().await;
    let (org, admin) = (t.org("main").await, t.user("admin@localhost").await);
    let slug = "web".parse().unwrap();
    let new =
        storage::projects::NewProject { org_id: &org, slug: &slug, settings: Default::default(), description: "" };
    let web = t.identity.create_project(&Caller::server(), &new).await.unwrap();
    let key = crate::admin::NewApiKey {
        org_id: &org,
        user_id: &admin,
        name: "web",
        valid_days: Some(1),
        projects: Some(std::slice::from_ref(&web.id)),
        permissions: None,
    };
    let key = t.identity.create_api_key(&Caller::server(), &key).await.unwrap().key;
    let login = t.identity.login_with_key(&Origin::default(), &key).await.unwrap();
    let scopes = Scope::parse_all(["repository:main/web/x:pull,push"]).unwrap();
    let token = t.identity.issue(Some(&login), &scopes).await.unwrap().token;
    assert!(t.identity.verify_bearer(&token).await.is_ok());
    t.identity.delete_project(&Caller::server(), &web.id, false, None).await.unwrap();
    assert!(matches!(t.identity.verify_bearer(&token).await, Err(BearerError::Revoked(_))));
    t.identity.create_project(&Caller::server(), &new).await.unwrap();
    assert!(matches!(t.identity.verify_bearer(&token).await, Err(BearerError::Revoked(_))));
}

#[tokio::test]
async fn a_checked_token_still_ends() {
    let t = testing::identity().await;
    let token = t.anonymous_token().await;
    assert!(t.identity.verify_bearer(&token).await.is_ok());
    t.advance(360);
    assert!(matches!(t.identity.verify_bearer(&token).await, Err(BearerError::Expired)));
    assert!(matches!(t.identity.verify_bearer("a.b.c").await, Err(BearerError::Malformed)));
}

#[tokio::test]
async fn a_project_is_not_its_neighbour_whose_name_begins_alike() {
    let t = testing::identity().await;
    let org = t.org("main").await;
    let ann = t.add("ann@acme.example").await;
    for slug in ["web", "web-b", "web.b", "we"] {
        t.identity
            .create_project(
                &Caller::server(),
                &storage::projects::NewProject {
                    org_id: &org,
                    slug: &slug.parse().unwrap(),
                    settings: storage::projects::ProjectSettings::default(),
                    description: "",
                },
            )
            .await
            .unwrap();
    }
    let slug = "main-b".parse().unwrap();
    t.identity
        .create_org(&Caller::server(), &crate::admin::NewOrg { slug: &slug, name: None, admin: None })
        .await
        .unwrap();
    t.give(&ann, "PROJECT_ADMIN", Some(&t.project("main", "web").await)).await;
    let ann = login(&t, "ann@acme.example").await;
    let scopes = [
        "repository:main/web/b:pull",
        "repository:main/web-b/x:pull",
        "repository:main/web.b/x:pull",
        "repository:main/we/b:pull",
        "repository:main/web:pull",
        "repository:main-b/web/x:pull",
        "repository:main/defaultproject/web/b:pull",
    ];
    let refused =
        ["main/web-b/x=", "main/web.b/x=", "main/we/b=", "main/web=", "main-b/web/x=", "main/defaultproject/web/b="];
    let granted = granted(&t, Some(&ann), &scopes).await;
    assert_eq!((granted[0].as_str(), &granted[1..]), ("main/web/b=pull", refused.map(String::from).as_slice()));
}

#[tokio::test]
async fn a_flood_of_unknown_keys_reads_the_ring_once_a_second() {
    let t = testing::identity().await;
    let other = t.another_process().await;
    let stranger = crate::keys::KeyMaterial::generate().unwrap();
    let claims = |token: &str| t.identity.ring().verifier.verify(token, t.now()).unwrap().0;
    let forged = crate::token::Signer::es256(&stranger.kid, &stranger.pkcs8)
        .unwrap()
        .sign(&claims(&t.anonymous_token().await))
        .unwrap();
    other.rotate_keys().await.unwrap();
    t.advance(60);
    let real = other.issue(None, &[]).await.unwrap().token;
    let before = t.identity.jwks();
    // Somebody else's key is read for in the first second, so that the second real one must wait for the next.
    t.identity.0.ring_missed_at.store(t.now(), std::sync::atomic::Ordering::Relaxed);
    for _ in 0..100 {
        assert!(matches!(t.identity.verify_bearer(&forged).await, Err(BearerError::UnknownKey)));
    }
    assert!(matches!(t.identity.verify_bearer(&real).await, Err(BearerError::UnknownKey)));
    assert_eq!(t.identity.jwks(), before);
    t.advance(1);
    assert!(t.identity.verify_bearer(&real).await.is_ok());
}

#[tokio::test]
async fn checked_tokens_are_remembered_in_bounded_memory() {
    let t = testing::identity().await;
    let access = crate::token::Access {
        kind: "repository".into(),
        name: format!("main/{}", "x".repeat(120)),
        actions: vec!["pull".into()],
    };
    let claims = crate::token::Claims {
        iss: "i".into(),
        sub: String::new(),
        aud: "a".into(),
        exp: 0,
        nbf: 0,
        iat: 0,
        jti: String::new(),
        access: vec![access; 32],
        uid: None,
        ep: None,
        key: None,
        open: vec![],
    };
    for i in 0..8000u32 {
        let hash = crate::secret::sha256(&i.to_string());
        t.identity.0.checked.insert(hash, crate::principal::Checked::new(claims.clone(), String::new()).into());
    }
    t.identity.0.checked.run_pending_tasks();
    // Each of them takes more than 5 KB.
    assert!(t.identity.0.checked.entry_count() < 16 * 1024 * 1024 / 5000, "{}", t.identity.0.checked.entry_count());
}

#[tokio::test]
async fn a_right_that_is_used_by_password_accepts_the_organization_and_nothing_else_does() {
    use crate::admin::{NewUser, UserKind};
    let t = testing::identity().await;
    let (slug, bob) = ("home".parse().unwrap(), "bob@acme.example".parse().unwrap());
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: Some((&bob, Some(&PASSWORD.into()))) };
    t.identity.create_org(&Caller::server(), &new).await.unwrap();
    let (main, project) = (t.org("main").await, t.project("main", "defaultproject").await);
    let new = NewUser { name: &bob, kind: UserKind::Local, password: None };
    let user = t.identity.add_user(&Caller::server(), &main, &new).await.unwrap().member.user_id;
    let accepted = async || {
        let found = storage::memberships::find(&mut t.db.read().await.unwrap(), &main, &user).await.unwrap();
        found.unwrap().accepted_at.is_some()
    };
    let change = UpdateProject { public: Some(true), ..UpdateProject::default() };
    t.identity.update_project(&Caller::server(), &project, &change).await.unwrap();
    let open = login(&t, "bob@acme.example").await;
    assert_eq!(granted(&t, Some(&open), &["repository:main/app:pull"]).await, ["main/app=pull"]);
    assert!(!accepted().await, "anybody may pull that");
    t.give(&user, "PROJECT_ADMIN", Some(&project)).await;
    // A key may have been made by the organization.
    let (_, key) = t.key_of("bob@acme.example").await;
    let by_key = t.identity.login("bob@acme.example", &key, Door::Registry).await.unwrap();
    assert_eq!(granted(&t, Some(&by_key), &["repository:main/app:push"]).await, ["main/app=push"]);
    assert!(!accepted().await);
    let by_right = login(&t, "bob@acme.example").await;
    assert_eq!(granted(&t, Some(&by_right), &["repository:main/app:push"]).await, ["main/app=push"]);
    assert!(accepted().await);
}

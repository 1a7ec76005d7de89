#![allow(clippy::unwrap_used)]
use storage::orgs::OrgSettings;

use super::*;
use crate::core::testing::{self, PASSWORD, Testing};
use crate::login::Door;

const ADMIN: &str = "admin@localhost";

async fn begin(t: &Testing, kind: SessionKind) -> NewSession {
    let login = t.identity.login(ADMIN, &PASSWORD.into(), Door::Console).await.unwrap();
    t.identity.begin_session(&login, &Origin::default(), kind).await.unwrap()
}

async fn find(t: &Testing, session: &NewSession) -> Option<LiveSession> {
    t.identity.find_session(&session.token, SessionKind::Browser).await.unwrap()
}

fn caller(session: &LiveSession) -> Caller {
    Caller::of(session.principal.clone())
}

async fn settings(t: &Testing, change: impl FnOnce(&mut OrgSettings)) {
    let org = t.org("main").await;
    let mut tx = t.db.begin().await.unwrap();
    let mut settings = orgs::settings(&mut tx, &org).await.unwrap();
    change(&mut settings);
    orgs::update_settings(&mut tx, &org, &settings, None).await.unwrap();
    tx.commit().await.unwrap();
    t.identity.forget(&t.user(ADMIN).await);
}

#[tokio::test]
async fn a_session_lasts_a_day_unless_something_ends_it() {
    let t = testing::identity().await;
    let first = begin(&t, SessionKind::Browser).await;
    let second = begin(&t, SessionKind::Browser).await;
    let live = find(&t, &first).await.unwrap();
    assert_eq!(live.principal.name, ADMIN);
    assert!(live.csrf_matches(first.csrf_token.expose()) && !live.csrf_matches(second.csrf_token.expose()));
    assert!(!live.csrf_matches(""));
    for nonsense in ["x", &"g".repeat(64), &"0".repeat(64)] {
        assert!(t.identity.find_session(&nonsense.into(), SessionKind::Browser).await.unwrap().is_none());
    }
    t.identity.end_session(&caller(&live), &live).await.unwrap();
    assert!(find(&t, &first).await.is_none());
    t.advance(86_399);
    assert!(find(&t, &second).await.is_some());
    t.advance(1);
    assert!(find(&t, &second).await.is_none());
}

#[tokio::test]
async fn an_organization_says_how_long_a_session_lasts_and_may_lie_idle() {
    let t = testing::identity().await;
    let session = begin(&t, SessionKind::Browser).await;
    settings(&t, |s| (s.session_hours, s.idle_logout_minutes) = (2, Some(60))).await;
    for _ in 0..2 {
        t.advance(3599);
        assert!(find(&t, &session).await.is_some(), "used in time");
    }
    t.advance(2);
    assert!(find(&t, &session).await.is_none(), "two hours old");
    let session = begin(&t, SessionKind::Browser).await;
    t.advance(3600);
    assert!(find(&t, &session).await.is_none(), "idle for an hour");
}

#[tokio::test]
async fn use_is_noted_once_a_minute() {
    let t = testing::identity().await;
    let session = begin(&t, SessionKind::Browser).await;
    let begun = t.now();
    t.advance(59);
    find(&t, &session).await.unwrap();
    let admin = t.user(ADMIN).await;
    let seen = t.identity.sessions_of(&admin, None, "", 10).await.unwrap()[0].last_seen_at;
    assert_eq!(seen, begun);
    t.advance(1);
    find(&t, &session).await.unwrap();
    let seen = t.identity.sessions_of(&admin, None, "", 10).await.unwrap()[0].last_seen_at;
    assert_eq!(seen, begun + 60);
}

#[tokio::test]
async fn a_cookie_is_no_bearer_token_and_the_other_way_round() {
    let t = testing::identity().await;
    let browser = begin(&t, SessionKind::Browser).await;
    let cli = begin(&t, SessionKind::Cli).await;
    assert!(cli.token.expose().starts_with("rs1.") && cli.token.expose().len() == 68);
    let bearer = |secret: &str| Secret::new(format!("rs1.{secret}"));
    let find = async |secret: &Secret, kind| t.identity.find_session(secret, kind).await.unwrap().is_some();
    assert!(find(&cli.token, SessionKind::Cli).await && !find(&cli.token, SessionKind::Browser).await);
    assert!(!find(&bearer(browser.token.expose()), SessionKind::Cli).await);
    assert!(!find(&browser.token, SessionKind::Cli).await);
    assert!(!find(&cli.token.expose()[4..].into(), SessionKind::Browser).await);
}

#[tokio::test]
async fn an_api_key_opens_no_session() {
    let t = testing::identity().await;
    let (_, key) = t.key_of(ADMIN).await;
    let refused = t.identity.login(ADMIN, &key, Door::Console).await;
    assert!(matches!(refused, Err(crate::login::LoginError::Refused)));
    let login = t.identity.login_with_key(&Origin::default(), &key).await.unwrap();
    assert!(t.identity.begin_session(&login, &Origin::default(), SessionKind::Browser).await.is_err());
}

#[tokio::test]
async fn a_new_password_ends_every_session_but_the_one_that_goes_on_with_a_new_secret() {
    let t = testing::identity().await;
    let (session, other) = (begin(&t, SessionKind::Browser).await, begin(&t, SessionKind::Browser).await);
    let live = find(&t, &session).await.unwrap();
    let new = "quite another one".into();
    let epoch = t.identity.change_password(&Caller::server(), ADMIN, &PASSWORD.into(), &new).await.unwrap();
    assert!(find(&t, &session).await.is_none() && find(&t, &other).await.is_none());
    let renewed = t.identity.continue_session(&live, epoch).await.unwrap();
    assert_eq!(find(&t, &renewed).await.unwrap().id, live.id);
    assert!(t.identity.continue_session(&live, epoch).await.is_err(), "the old secret is spent");

    // What ended it meanwhile stands.
    let live = find(&t, &renewed).await.unwrap();
    let epoch = t.identity.change_password(&Caller::server(), ADMIN, &new, &PASSWORD.into()).await.unwrap();
    t.identity.reset_password(&Caller::server(), ADMIN, Some(&PASSWORD.into())).await.unwrap();
    let late = t.identity.continue_session(&live, epoch).await.unwrap();
    assert!(find(&t, &late).await.is_none());
}

#[tokio::test]
async fn a_session_is_bound_to_one_organization_and_gets_a_new_secret_with_another() {
    let t = testing::identity().await;
    let name = ADMIN.parse().unwrap();
    let slug = "aaa".parse().unwrap();
    let session = begin(&t, SessionKind::Browser).await;
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: Some((&name, None)) };
    let other = t.identity.create_org(&Caller::server(), &new).await.unwrap().org.id;
    let main = t.org("main").await;
    let live = find(&t, &session).await.unwrap();
    assert_eq!(live.org_id.as_ref(), Some(&main));
    assert!(!live.principal.grants.is_empty() && live.principal.grants.iter().all(|grant| grant.org_id == main));

    let switched = t.identity.switch_org(&caller(&live), &live, "aaa").await.unwrap();
    assert!(find(&t, &session).await.is_none(), "a new secret after every step");
    let live = find(&t, &switched).await.unwrap();
    assert!(!live.principal.grants.is_empty() && live.principal.grants.iter().all(|grant| grant.org_id == other));
    assert!(live.csrf_matches(switched.csrf_token.expose()));
    for nowhere in ["nowhere", "", "a\u{fffd}"] {
        let unknown = t.identity.switch_org(&caller(&live), &live, nowhere).await;
        assert!(matches!(unknown, Err(storage::Error::NotFound("organization"))));
    }
    // Shut out of the chosen one, the session carries nothing, and may choose another.
    let admin = t.user(ADMIN).await;
    let mut tx = t.db.begin().await.unwrap();
    memberships::update_active(&mut tx, &other, &admin, false).await.unwrap();
    tx.commit().await.unwrap();
    t.identity.forget(&admin);
    let live = find(&t, &switched).await.unwrap();
    assert!(live.org_id.is_none() && live.principal.grants.is_empty());
    assert!(t.identity.switch_org(&caller(&live), &live, "aaa").await.is_err());
    let back = t.identity.switch_org(&caller(&live), &live, "main").await.unwrap();
    assert_eq!(find(&t, &back).await.unwrap().org_id, Some(main));
}

#[tokio::test]
async fn sessions_are_listed_and_ended_by_their_owner_alone() {
    let t = testing::identity().await;
    let (mine, other) = (begin(&t, SessionKind::Browser).await, begin(&t, SessionKind::Cli).await);
    let live = find(&t, &mine).await.unwrap();
    let admin = t.user(ADMIN).await;
    assert_eq!(t.identity.sessions_of(&admin, None, "", 10).await.unwrap().len(), 2);
    t.add("ann@acme.example").await;
    let login = t.identity.login("ann@acme.example", &PASSWORD.into(), Door::Console).await.unwrap();
    let stolen = t.identity.end_own_session(&Caller::of(login.principal), &mine.id).await;
    assert!(matches!(stolen, Err(storage::Error::NotFound("session"))));
    t.identity.end_own_session(&caller(&live), &other.id).await.unwrap();
    assert!(t.identity.find_session(&other.token, SessionKind::Cli).await.unwrap().is_none());
    assert!(find(&t, &mine).await.is_some());

    let docker = t.identity.login(ADMIN, &PASSWORD.into(), Door::Registry).await.unwrap();
    let refresh = t.identity.issue_refresh(&docker, "wharfinger").await.unwrap().unwrap();
    let token = t.identity.issue(Some(&docker), &[]).await.unwrap().token;
    let third = begin(&t, SessionKind::Browser).await;
    let renewed = t.identity.end_other_sessions(&caller(&live), &live).await.unwrap();
    assert!(find(&t, &renewed).await.is_some());
    assert!(find(&t, &mine).await.is_none() && find(&t, &third).await.is_none());
    assert!(t.identity.login_with_refresh(&refresh, "wharfinger").await.is_err());
    assert!(t.identity.verify_bearer(&token).await.is_err());
}

#[tokio::test]
async fn an_admin_ends_what_is_theirs_and_no_other_organizations() {
    let t = testing::identity().await;
    let (main, admin) = (t.org("main").await, t.user(ADMIN).await);
    let session = begin(&t, SessionKind::Browser).await;
    let docker = t.identity.login(ADMIN, &PASSWORD.into(), Door::Registry).await.unwrap();
    let refresh = t.identity.issue_refresh(&docker, "wharfinger").await.unwrap().unwrap();
    t.identity.end_sessions_of(&Caller::server(), &main, &admin).await.unwrap();
    assert!(find(&t, &session).await.is_none());
    assert!(
        t.identity.login_with_refresh(&refresh, "wharfinger").await.is_err(),
        "everything, where it is their only one"
    );

    let name = ADMIN.parse().unwrap();
    let slug = "other".parse().unwrap();
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: Some((&name, None)) };
    let other = t.identity.create_org(&Caller::server(), &new).await.unwrap().org.id;
    let session = begin(&t, SessionKind::Browser).await;
    assert_eq!(t.identity.sessions_of(&admin, Some(&other), "", 10).await.unwrap(), []);
    assert_eq!(t.identity.sessions_of(&admin, Some(&main), "", 10).await.unwrap().len(), 1);
    t.identity.end_sessions_of(&Caller::server(), &other, &admin).await.unwrap();
    assert!(find(&t, &session).await.is_some(), "its chosen organization is another");
    t.identity.end_sessions_of(&Caller::server(), &main, &admin).await.unwrap();
    assert!(find(&t, &session).await.is_none());
}

#![allow(clippy::unwrap_used)]
use storage::orgs::OrgSettings;

use super::*;
use crate::admin::{Invite, UserKind};
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
async fn what_a_page_asks_for_by_itself_is_no_use() {
    let t = testing::identity().await;
    let session = begin(&t, SessionKind::Browser).await;
    settings(&t, |s| s.idle_logout_minutes = Some(60)).await;
    let peek = async || t.identity.peek_session(&session.token, SessionKind::Browser).await.unwrap();
    t.advance(3_000);
    assert!(peek().await.is_some());
    t.advance(599);
    assert!(peek().await.is_some());
    t.advance(1);
    assert!(peek().await.is_none() && find(&t, &session).await.is_none(), "nobody was there for an hour");
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

/// What stands in the audit log of an organization about log-ins.
async fn log_ins(t: &Testing, org_id: &str) -> usize {
    use storage::audit::{Direction, Filter, list};
    let (filter, mut session) = (Filter { action: "login", ..Filter::default() }, t.db.read().await.unwrap());
    list(&mut session, org_id, &filter, Direction::Newest, None, 100).await.unwrap().events.len()
}

#[tokio::test]
async fn an_invitation_binds_nobody_until_they_choose_the_organization() {
    let t = testing::identity().await;
    let (main, admin) = (t.org("main").await, t.user(ADMIN).await);
    let (slug, name, boss) = ("aaa".parse().unwrap(), ADMIN.parse().unwrap(), "eve@evil.example".parse().unwrap());
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: Some((&boss, Some(&PASSWORD.into()))) };
    let evil = t.identity.create_org(&Caller::server(), &new).await.unwrap().org;
    let new = Invite { name: &name, kind: UserKind::Local, first_name: "", last_name: "", groups: &[] };
    let before = begin(&t, SessionKind::Browser).await;
    t.identity.invite_user(&Caller::server(), &evil, &new).await.unwrap();
    let mut tx = t.db.begin().await.unwrap();
    let harsh = OrgSettings {
        mfa_required: true,
        session_hours: 1,
        idle_logout_minutes: Some(5),
        lockout_failures: 1,
        lockout_minutes: 1000,
        ..OrgSettings::default()
    };
    storage::orgs::update_settings(&mut tx, &evil.id, &harsh, None).await.unwrap();
    tx.commit().await.unwrap();
    t.identity.forget_everything();

    assert!(t.identity.login(ADMIN, &"wrong".into(), Door::Console).await.is_err());
    let session = begin(&t, SessionKind::Browser).await;
    let live = find(&t, &session).await.unwrap();
    assert_eq!(live.org_id.as_ref(), Some(&main), "not the first in the order of slugs");
    assert!(!live.must_enrol && live.expires_at - t.now() == 86_400);
    assert_eq!((log_ins(&t, &evil.id).await, log_ins(&t, &main).await), (0, 3));
    t.identity.end_sessions_of(&Caller::server(), &evil.id, &admin).await.unwrap();
    assert!(find(&t, &session).await.is_some());
    t.advance(600);
    assert!(find(&t, &before).await.is_some());
    let docker = t.identity.login(ADMIN, &PASSWORD.into(), Door::Registry).await.unwrap();
    assert!(docker.principal.grants.iter().all(|grant| grant.org_id == main));
    // The real organization ends everything, as if there were no other one.
    let refresh = t.identity.issue_refresh(&docker, "wharfinger").await.unwrap().unwrap();
    t.identity.end_sessions_of(&Caller::server(), &main, &admin).await.unwrap();
    assert!(t.identity.login_with_refresh(&refresh, "wharfinger").await.is_err());

    let session = begin(&t, SessionKind::Browser).await;
    let live = find(&t, &session).await.unwrap();
    let switched = t.identity.switch_org(&caller(&live), &live, "aaa").await.unwrap();
    let live = find(&t, &switched).await.unwrap();
    assert!(live.must_enrol && live.expires_at - t.now() == 3600, "by their own act");
    assert!(t.identity.login(ADMIN, &"wrong".into(), Door::Console).await.is_err());
    assert_eq!(log_ins(&t, &evil.id).await, 1);
}

#[tokio::test]
async fn whoever_is_nowhere_else_accepts_by_logging_in() {
    let t = testing::identity().await;
    let (ann, main) = (t.add("ann@acme.example").await, t.org("main").await);
    let (slug, name) = ("other".parse().unwrap(), "ann@acme.example".parse().unwrap());
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: Some((&name, None)) };
    let other = t.identity.create_org(&Caller::server(), &new).await.unwrap().org.id;
    let accepted =
        async || memberships::find(&mut t.db.read().await.unwrap(), &other, &ann).await.unwrap().unwrap().accepted_at;
    let log_in = async || {
        let login = t.identity.login("ann@acme.example", &PASSWORD.into(), Door::Console).await.unwrap();
        t.identity.begin_session(&login, &Origin::default(), SessionKind::Browser).await.unwrap()
    };
    log_in().await;
    assert_eq!(accepted().await, None);
    t.deactivate(&ann).await;
    assert_eq!(find(&t, &log_in().await).await.unwrap().org_id, Some(other.clone()));
    assert_eq!(accepted().await, Some(t.now()));
    assert_eq!((log_ins(&t, &main).await, log_ins(&t, &other).await), (1, 1));
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

#[tokio::test]
async fn whoever_never_was_here_accepts_who_invited_them_last() {
    let t = testing::identity().await;
    let name = "ann@acme.example".parse().unwrap();
    let new = crate::admin::NewUser { name: &name, kind: UserKind::Local, password: None };
    let main = t.org("main").await;
    let ann = t.identity.add_user(&Caller::server(), &main, &new).await.unwrap().member.user_id;
    let slug = "other".parse().unwrap();
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: Some((&name, None)) };
    let other = t.identity.create_org(&Caller::server(), &new).await.unwrap().org.id;
    let accepted = async |org: &str| {
        memberships::find(&mut t.db.read().await.unwrap(), org, &ann).await.unwrap().unwrap().accepted_at.is_some()
    };
    assert!(accepted(&main).await && !accepted(&other).await);
    // As the mail would say it.
    let temporary = t.identity.reset_password(&Caller::server(), name.as_str(), None).await.unwrap().unwrap();
    let login = t.identity.login(name.as_str(), &temporary, Door::Console).await.unwrap();
    t.identity.begin_session(&login, &Origin::default(), SessionKind::Browser).await.unwrap();
    assert!(accepted(&main).await && accepted(&other).await);
}

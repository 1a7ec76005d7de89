#![allow(clippy::unwrap_used)]
use storage::orgs::{self, OrgSettings};

use super::authenticator::Authenticator;
use super::*;
use crate::audit::{Client, Credential, Origin};
use crate::core::testing::{self, PASSWORD, Testing};
use crate::login::{Door, Factor, LoggedIn, Method, Pending};
use crate::session::SessionKind;

const ADMIN: &str = "admin@localhost";
const ORIGIN: &str = "https://localhost";

fn from() -> Origin {
    Origin { client: Client::Browser, address: Some("192.0.2.7".parse().unwrap()), ..Origin::default() }
}

async fn live(t: &Testing, session: &NewSession) -> LiveSession {
    t.identity.find_session(&session.token, SessionKind::Browser).await.unwrap().unwrap()
}

fn caller(session: &LiveSession) -> Caller {
    let principal = session.principal.clone();
    Caller { principal, credential: Credential::Session(session.id.clone()), origin: from() }
}

/// A session by password alone.
pub(crate) async fn log_in(t: &Testing, name: &str) -> LiveSession {
    let login = t.identity.login_from(&from(), name, &PASSWORD.into(), Door::Console).await.unwrap();
    let session = t.identity.begin_session(&login, &from(), SessionKind::Browser).await.unwrap();
    live(t, &session).await
}

/// A log-in that waits for its second factor.
async fn pending(t: &Testing, name: &str) -> Pending {
    match t.identity.login_from(&from(), name, &PASSWORD.into(), Door::Console).await {
        Err(LoginError::SecondFactor(pending)) => *pending,
        other => panic!("{other:?}"),
    }
}

async fn show(t: &Testing, pending: &Pending, factor: Factor) -> Result<LoggedIn, LoginError> {
    t.identity.show_second_factor(&from(), &pending.token, factor, SessionKind::Browser).await
}

struct Enrolled {
    secret: Vec<u8>,
    codes: Vec<Secret>,
    session: LiveSession,
}

impl Enrolled {
    fn code(&self, t: &Testing) -> Factor {
        Factor::Code(totp::code_at(&self.secret, t.now()).into())
    }
}

/// Enrols an authenticator app, and waits for its next code.
async fn enrol(t: &Testing, name: &str) -> Enrolled {
    let session = log_in(t, name).await;
    let by = caller(&session);
    let shown = t.identity.propose_totp(&by).await.unwrap();
    let secret = data_encoding::BASE32_NOPAD.decode(shown.secret.expose().as_bytes()).unwrap();
    let code = totp::code_at(&secret, t.now()).into();
    let changed = t.identity.confirm_totp(&by, &session, &code).await.unwrap();
    t.advance(30);
    Enrolled { secret, codes: changed.recovery_codes, session: live(t, &changed.session).await }
}

async fn add_passkey(t: &Testing, session: &LiveSession) -> (Authenticator, Changed) {
    let by = caller(session);
    let mut device = Authenticator::at(ORIGIN);
    let begun = t.identity.begin_passkey(&by, session).await.unwrap();
    let credential = device.create(&begun.options);
    let changed = t.identity.add_passkey(&by, session, &begun.token, "laptop", &credential).await.unwrap();
    (device, changed)
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
async fn an_app_turns_the_second_factor_on_and_everything_had_without_it_ends() {
    let t = testing::identity().await;
    let other = t.identity.login(ADMIN, &PASSWORD.into(), Door::Console).await.unwrap();
    let other = t.identity.begin_session(&other, &from(), SessionKind::Browser).await.unwrap();
    let docker = t.identity.login(ADMIN, &PASSWORD.into(), Door::Registry).await.unwrap();
    let refresh = t.identity.issue_refresh(&docker, "wharfinger").await.unwrap().unwrap();
    let token = t.identity.issue(Some(&docker), &[]).await.unwrap().token;
    let before = log_in(&t, ADMIN).await;
    let enrolled = enrol(&t, ADMIN).await;
    assert_eq!(enrolled.codes.len(), 10);
    assert!(enrolled.session.second_factor && enrolled.session.id != before.id);

    assert!(t.identity.find_session(&other.token, SessionKind::Browser).await.unwrap().is_none());
    assert!(t.identity.verify_bearer(&token).await.is_err());
    assert!(t.identity.login_with_refresh(&refresh, "wharfinger").await.is_err());
    let docker = t.identity.login(ADMIN, &PASSWORD.into(), Door::Registry).await;
    assert!(matches!(docker, Err(LoginError::ApiKeyRequired)), "{docker:?}");
    assert!(docker.unwrap_err().to_string().contains("API key"));
    let (_, key) = t.key_of(ADMIN).await;
    t.identity.login(ADMIN, &key, Door::Registry).await.unwrap();

    let waiting = pending(&t, ADMIN).await;
    assert_eq!(waiting.methods, [Method::Totp, Method::Recovery]);
    let done = show(&t, &waiting, enrolled.code(&t)).await.unwrap();
    assert!(live(&t, &done.session).await.second_factor);
    assert!(matches!(t.identity.propose_totp(&caller(&enrolled.session)).await, Err(MfaError::Enrolled)));
}

#[tokio::test]
async fn a_code_is_taken_once_and_no_older_one_after_it() {
    let t = testing::identity().await;
    let enrolled = enrol(&t, ADMIN).await;
    let code = enrolled.code(&t);
    show(&t, &pending(&t, ADMIN).await, code.clone()).await.unwrap();
    let replayed = show(&t, &pending(&t, ADMIN).await, code).await;
    assert!(matches!(replayed, Err(LoginError::WrongFactor)), "{replayed:?}");
    let older = Factor::Code(totp::code_at(&enrolled.secret, t.now() - 30).into());
    assert!(matches!(show(&t, &pending(&t, ADMIN).await, older).await, Err(LoginError::WrongFactor)));
    t.advance(30);
    show(&t, &pending(&t, ADMIN).await, enrolled.code(&t)).await.unwrap();
}

#[tokio::test]
async fn the_code_that_enrolled_is_spent() {
    let t = testing::identity().await;
    let enrolled = enrol(&t, ADMIN).await;
    let used = Factor::Code(totp::code_at(&enrolled.secret, t.now() - 30).into());
    assert!(matches!(show(&t, &pending(&t, ADMIN).await, used).await, Err(LoginError::WrongFactor)));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_show_the_same_code_at_the_same_time_one_gets_in() {
    let t = testing::identity().await;
    let enrolled = enrol(&t, ADMIN).await;
    let another = t.another_process().await;
    for factor in [enrolled.code(&t), Factor::Recovery(enrolled.codes[0].clone())] {
        // Three at once: two failures do not lock.
        let mut tries = Vec::new();
        for i in 0..3 {
            let identity = if i % 2 == 0 { t.identity.clone() } else { another.clone() };
            let (waiting, factor) = (pending(&t, ADMIN).await, factor.clone());
            tries.push(tokio::spawn(async move {
                identity.show_second_factor(&from(), &waiting.token, factor, SessionKind::Browser).await.is_ok()
            }));
        }
        let mut got_in = 0;
        for a_try in tries {
            got_in += usize::from(a_try.await.unwrap());
        }
        assert_eq!(got_in, 1);
    }
}

#[tokio::test]
async fn a_recovery_code_lets_in_once_and_new_ones_end_the_old() {
    let t = testing::identity().await;
    let enrolled = enrol(&t, ADMIN).await;
    let typed = Secret::new(enrolled.codes[3].expose().to_uppercase().replace('-', " "));
    let done = show(&t, &pending(&t, ADMIN).await, Factor::Recovery(typed)).await.unwrap();
    assert_eq!(done.recovery_codes_left, Some(9));
    let again = show(&t, &pending(&t, ADMIN).await, Factor::Recovery(enrolled.codes[3].clone())).await;
    assert!(matches!(again, Err(LoginError::WrongFactor)));
    let new = t.identity.renew_recovery_codes(&caller(&enrolled.session), &enrolled.session).await.unwrap();
    let old = show(&t, &pending(&t, ADMIN).await, Factor::Recovery(enrolled.codes[4].clone())).await;
    assert!(matches!(old, Err(LoginError::WrongFactor)));
    show(&t, &pending(&t, ADMIN).await, Factor::Recovery(new[0].clone())).await.unwrap();
    let others = log_in(&t, "operator@localhost").await;
    assert!(matches!(t.identity.renew_recovery_codes(&caller(&others), &others).await, Err(MfaError::NoFactor)));
}

#[tokio::test]
async fn guesses_at_codes_lock_the_name_at_every_door_and_a_right_password_does_not_forget_them() {
    let t = testing::identity().await;
    let enrolled = enrol(&t, ADMIN).await;
    let wrong = || Factor::Code("000000".into());
    for i in 0..5 {
        // A new log-in each time: the password is right, and nothing is forgotten for it.
        let waiting = pending(&t, ADMIN).await;
        assert!(matches!(show(&t, &waiting, wrong()).await, Err(LoginError::WrongFactor)), "{i}");
    }
    for door in [Door::Console, Door::Registry] {
        let locked = t.identity.login(ADMIN, &PASSWORD.into(), door).await;
        assert!(matches!(locked, Err(LoginError::Locked { .. })), "{locked:?}");
    }
    t.advance(900);
    let waiting = pending(&t, ADMIN).await;
    for _ in 0..4 {
        assert!(matches!(show(&t, &waiting, wrong()).await, Err(LoginError::WrongFactor)));
    }
    show(&t, &waiting, enrolled.code(&t)).await.unwrap();
    assert!(matches!(show(&t, &pending(&t, ADMIN).await, wrong()).await, Err(LoginError::WrongFactor)));
    t.advance(30);
    show(&t, &pending(&t, ADMIN).await, enrolled.code(&t)).await.unwrap();
}

#[tokio::test]
async fn a_log_in_that_waits_has_few_tries_little_time_and_one_end() {
    let t = testing::identity().await;
    let enrolled = enrol(&t, ADMIN).await;
    settings(&t, |s| s.lockout_enabled = false).await;
    let waiting = pending(&t, ADMIN).await;
    for _ in 0..5 {
        assert!(matches!(show(&t, &waiting, Factor::Code("000000".into())).await, Err(LoginError::WrongFactor)));
    }
    assert!(matches!(show(&t, &waiting, enrolled.code(&t)).await, Err(LoginError::Ended)));

    let waiting = pending(&t, ADMIN).await;
    t.advance(300);
    assert!(matches!(show(&t, &waiting, enrolled.code(&t)).await, Err(LoginError::Ended)));

    let waiting = pending(&t, ADMIN).await;
    show(&t, &waiting, enrolled.code(&t)).await.unwrap();
    t.advance(30);
    assert!(matches!(show(&t, &waiting, enrolled.code(&t)).await, Err(LoginError::Ended)), "used");

    let waiting = pending(&t, ADMIN).await;
    t.identity.reset_password(&Caller::server(), ADMIN, Some(&"quite another one".into())).await.unwrap();
    assert!(matches!(show(&t, &waiting, enrolled.code(&t)).await, Err(LoginError::Ended)), "the password changed");
    let made_up = Pending { token: "0".repeat(64).into(), ..waiting };
    assert!(matches!(show(&t, &made_up, enrolled.code(&t)).await, Err(LoginError::Ended)));
}

#[tokio::test]
async fn the_last_factor_takes_the_codes_along_and_needs_a_proof() {
    let t = testing::identity().await;
    let enrolled = enrol(&t, ADMIN).await;
    let by = caller(&enrolled.session);
    for wrong in [Proof::Password("wrong password".into()), Proof::Code("000000".into())] {
        assert!(t.identity.remove_totp(&by, &enrolled.session, &wrong).await.is_err());
    }
    let changed = t.identity.remove_totp(&by, &enrolled.session, &Proof::Password(PASSWORD.into())).await.unwrap();
    let session = live(&t, &changed.session).await;
    let status = t.identity.mfa(&session.principal.user_id).await.unwrap();
    assert_eq!((status.totp_since, status.recovery_codes), (None, 0));
    log_in(&t, ADMIN).await;
    let removed = t.identity.remove_totp(&by, &session, &Proof::Password(PASSWORD.into())).await;
    assert!(matches!(removed, Err(MfaError::NotEnrolled)));
}

#[tokio::test]
async fn an_organization_that_asks_for_it_leads_everybody_into_enrolment() {
    let t = testing::identity().await;
    let docker = t.identity.login(ADMIN, &PASSWORD.into(), Door::Registry).await.unwrap();
    let refresh = t.identity.issue_refresh(&docker, "wharfinger").await.unwrap().unwrap();
    let session = log_in(&t, ADMIN).await;
    assert!(!session.must_enrol);
    settings(&t, |s| s.mfa_required = true).await;
    let late = t.identity.login_with_refresh(&refresh, "wharfinger").await;
    assert!(matches!(late, Err(LoginError::ApiKeyRequired)), "{late:?}");
    let docker = t.identity.login(ADMIN, &PASSWORD.into(), Door::Registry).await;
    assert!(matches!(docker, Err(LoginError::ApiKeyRequired)));
    assert!(log_in(&t, ADMIN).await.must_enrol);
    let enrolled = enrol(&t, ADMIN).await;
    assert!(!enrolled.session.must_enrol);
}

#[tokio::test]
async fn an_admin_resets_only_who_belongs_to_them_alone() {
    let t = testing::identity().await;
    t.add("ann@acme.example").await;
    enrol(&t, "ann@acme.example").await;
    let (main, ann) = (t.org("main").await, t.user("ann@acme.example").await);
    let slug = "other".parse().unwrap();
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: None };
    let other = t.identity.create_org(&Caller::server(), &new).await.unwrap().org.id;
    let stranger = t.identity.reset_mfa(&Caller::server(), &other, &ann).await;
    assert!(matches!(stranger, Err(MfaError::Storage(storage::Error::NotFound(_)))));
    t.identity.reset_mfa(&Caller::server(), &main, &ann).await.unwrap();
    assert!(t.identity.sessions_of(&ann, None, "", 10).await.unwrap().is_empty());
    enrol(&t, "ann@acme.example").await;

    let mut tx = t.db.begin().await.unwrap();
    memberships::create(&mut tx, &other, &ann, 1).await.unwrap();
    tx.commit().await.unwrap();
    // Whoever added her has no power over her, and takes none from whom she accepted.
    t.identity.reset_mfa(&Caller::server(), &other, &ann).await.unwrap();
    assert!(t.identity.mfa(&ann).await.unwrap().totp_since.is_some());
    t.identity.reset_mfa(&Caller::server(), &main, &ann).await.unwrap();
    assert!(t.identity.mfa(&ann).await.unwrap().totp_since.is_none());
    enrol(&t, "ann@acme.example").await;
    let mut tx = t.db.begin().await.unwrap();
    memberships::accept(&mut tx, &other, &ann, 1).await.unwrap();
    tx.commit().await.unwrap();
    let refused = t.identity.reset_mfa(&Caller::server(), &main, &ann).await;
    assert!(matches!(refused, Err(MfaError::Elsewhere)));
    assert!(t.identity.mfa(&ann).await.unwrap().totp_since.is_some());
    t.identity.reset_mfa_of(&Caller::server(), " ANN@acme.example").await.unwrap();
    log_in(&t, "ann@acme.example").await;
}

/// Subject and text of the only mail that waits.
async fn told(t: &Testing) -> (String, String) {
    let mut mails = t.identity.claim_mails(10).await.unwrap();
    let mail = mails.pop().unwrap();
    assert!(mails.is_empty(), "{mails:?}");
    assert_eq!(mail.letter.to, "ann@acme.example");
    t.identity.mail_delivered(&mail.id).await.unwrap();
    (mail.letter.subject, mail.letter.text)
}

#[tokio::test]
async fn whoever_gets_or_loses_a_second_factor_is_told_by_mail() {
    let t = testing::identity().await;
    t.add("ann@acme.example").await;
    let enrolled = enrol(&t, "ann@acme.example").await;
    let (subject, text) = told(&t).await;
    assert_eq!(subject, "An authenticator app was added to your account");
    assert!(text.contains("from 192.0.2.7."), "{text}");
    let (_, changed) = add_passkey(&t, &enrolled.session).await;
    assert!(told(&t).await.1.contains("The passkey \"laptop\" was added to"));
    let session = live(&t, &changed.session).await;
    t.identity.renew_recovery_codes(&caller(&session), &session).await.unwrap();
    assert_eq!(told(&t).await.0, "New recovery codes were made for your account");

    // A change that fails says nothing.
    let missing = t.identity.remove_passkey(&caller(&session), &session, "none").await;
    assert!(matches!(missing, Err(MfaError::Storage(storage::Error::NotFound(_)))));
    let passkey = t.identity.mfa(&session.principal.user_id).await.unwrap().passkeys.remove(0);
    let changed = t.identity.remove_passkey(&caller(&session), &session, &passkey.id).await.unwrap();
    assert!(told(&t).await.1.contains("The passkey \"laptop\" was removed from"));
    let session = live(&t, &changed.session).await;
    t.identity.remove_totp(&caller(&session), &session, &Proof::Password(PASSWORD.into())).await.unwrap();
    assert_eq!(told(&t).await.0, "The authenticator app was removed from your account");

    enrol(&t, "ann@acme.example").await;
    told(&t).await;
    t.identity.reset_mfa(&Caller::server(), &t.org("main").await, &t.user("ann@acme.example").await).await.unwrap();
    assert!(told(&t).await.1.contains("an administrator of"));
    t.identity.reset_mfa_of(&Caller::server(), "ann@acme.example").await.unwrap();
    assert!(told(&t).await.1.starts_with("Whoever runs this server\ntook"));
}

#[tokio::test]
async fn a_passkey_is_a_second_factor_and_both_factors_at_once() {
    let t = testing::identity().await;
    let (mut device, changed) = add_passkey(&t, &log_in(&t, ADMIN).await).await;
    assert_eq!(changed.recovery_codes.len(), 10);
    assert!(live(&t, &changed.session).await.second_factor);
    let waiting = pending(&t, ADMIN).await;
    assert_eq!(waiting.methods, [Method::Passkey, Method::Recovery]);
    device.counter = 5;
    let shown = device.get(waiting.passkey_options.as_ref().unwrap());
    let done = show(&t, &waiting, Factor::Passkey(shown.clone())).await.unwrap();
    assert_eq!(live(&t, &done.session).await.principal.name, ADMIN);
    let replayed = show(&t, &pending(&t, ADMIN).await, Factor::Passkey(shown)).await;
    assert!(matches!(replayed, Err(LoginError::WrongFactor)), "signed for another challenge");

    let begun = t.identity.begin_passkey_login(&from()).await.unwrap();
    device.counter = 6;
    let shown = device.get(&begun.options);
    let done = t.identity.log_in_by_passkey(&from(), &begun.token, shown.clone()).await.unwrap();
    assert_eq!(live(&t, &done.session).await.principal.name, ADMIN);
    let again = t.identity.log_in_by_passkey(&from(), &begun.token, shown).await;
    assert!(matches!(again, Err(LoginError::Ended)));
}

#[tokio::test]
async fn a_passkey_that_is_copied_unverified_or_on_another_site_is_refused() {
    let t = testing::identity().await;
    let (mut device, _) = add_passkey(&t, &log_in(&t, ADMIN).await).await;
    settings(&t, |s| s.lockout_enabled = false).await;
    device.counter = 7;
    let waiting = pending(&t, ADMIN).await;
    let shown = device.get(waiting.passkey_options.as_ref().unwrap());
    show(&t, &waiting, Factor::Passkey(shown)).await.unwrap();
    for (origin, counter, verifies) in [
        (ORIGIN, 7, true),
        (ORIGIN, 6, true),
        (ORIGIN, 8, false),
        ("https://localhost.evil.example", 8, true),
        ("http://localhost", 8, true),
        ("https://localhost:8443", 8, true),
    ] {
        (device.origin, device.counter, device.verifies) = (origin.to_owned(), counter, verifies);
        let waiting = pending(&t, ADMIN).await;
        let shown = device.get(waiting.passkey_options.as_ref().unwrap());
        let refused = show(&t, &waiting, Factor::Passkey(shown)).await;
        assert!(matches!(refused, Err(LoginError::WrongFactor)), "{origin} {counter} {verifies}: {refused:?}");
        let begun = t.identity.begin_passkey_login(&from()).await.unwrap();
        let shown = device.get(&begun.options);
        let refused = t.identity.log_in_by_passkey(&from(), &begun.token, shown).await;
        assert!(matches!(refused, Err(LoginError::WrongFactor)), "{origin} {counter} {verifies}: {refused:?}");
    }
}

#[tokio::test]
async fn a_passkey_of_somebody_else_opens_nothing_of_mine() {
    let t = testing::identity().await;
    t.add("ann@acme.example").await;
    let (_, _) = add_passkey(&t, &log_in(&t, ADMIN).await).await;
    let ann = log_in(&t, "ann@acme.example").await;
    let (mut hers, changed) = add_passkey(&t, &ann).await;
    let waiting = pending(&t, ADMIN).await;
    let shown = hers.get(waiting.passkey_options.as_ref().unwrap());
    assert!(matches!(show(&t, &waiting, Factor::Passkey(shown)).await, Err(LoginError::WrongFactor)));

    // What was begun by one user is not ended by another, and a key is one user's.
    let admin = enrol_second(&t).await;
    let begun = t.identity.begin_passkey(&caller(&admin), &admin).await.unwrap();
    let ann = live(&t, &changed.session).await;
    let credential = Authenticator::at(ORIGIN).create(&begun.options);
    let stolen = t.identity.add_passkey(&caller(&ann), &ann, &begun.token, "x", &credential).await;
    assert!(matches!(stolen, Err(MfaError::Wrong)), "{stolen:?}");
    let admins = t.identity.mfa(&admin.principal.user_id).await.unwrap().passkeys;
    let removed = t.identity.remove_passkey(&caller(&ann), &ann, &admins[0].id).await;
    assert!(matches!(removed, Err(MfaError::Storage(storage::Error::NotFound(_)))));
    let renamed = t.identity.rename_passkey(&caller(&ann), &ann, &admins[0].id, "mine").await;
    assert!(matches!(renamed, Err(MfaError::Storage(storage::Error::NotFound(_)))));
    let own = t.identity.mfa(&ann.principal.user_id).await.unwrap().passkeys;
    for no_name in ["", "  ", "a\u{202e}b", &"x".repeat(65)] {
        let named = t.identity.rename_passkey(&caller(&ann), &ann, &own[0].id, no_name).await;
        assert!(matches!(named, Err(MfaError::Name)), "{no_name}");
    }
    t.identity.rename_passkey(&caller(&ann), &ann, &own[0].id, " phone ").await.unwrap();
    let named = t.identity.mfa(&ann.principal.user_id).await.unwrap().passkeys.remove(0);
    assert_eq!((named.name.as_str(), &named.credential), ("phone", &own[0].credential));
    t.identity.remove_passkey(&caller(&ann), &ann, &own[0].id).await.unwrap();
    log_in(&t, "ann@acme.example").await;
}

/// A session of the admin's, who has a passkey, by a recovery code.
async fn enrol_second(t: &Testing) -> LiveSession {
    let admin = t.user(ADMIN).await;
    let codes = {
        let mut tx = t.db.begin().await.unwrap();
        let codes = t.identity.write_recovery_codes(&mut tx, &admin).await.unwrap();
        tx.commit().await.unwrap();
        codes
    };
    let done = show(t, &pending(t, ADMIN).await, Factor::Recovery(codes[0].clone())).await.unwrap();
    live(t, &done.session).await
}

#[tokio::test]
async fn an_address_is_no_name_for_a_passkey() {
    assert!(passkey::ceremonies("https://192.0.2.1:8443").is_none());
    assert!(passkey::ceremonies("https://[2001:db8::1]").is_none());
    assert!(passkey::ceremonies("https://console.example:8443").is_some());
}

#[tokio::test]
async fn a_session_that_ended_at_another_replica_cannot_renew_itself() {
    let t = testing::identity().await;
    let login = t.identity.login_from(&from(), ADMIN, &PASSWORD.into(), Door::Console).await.unwrap();
    let stolen = t.identity.begin_session(&login, &from(), SessionKind::Browser).await.unwrap();
    let other = t.another_process().await;
    let live = other.find_session(&stolen.token, SessionKind::Browser).await.unwrap().unwrap();
    t.identity.reset_password(&Caller::server(), ADMIN, Some(&"quite another one".into())).await.unwrap();
    // The other replica still takes it for a session, for half a second.
    assert!(other.end_other_sessions(&caller(&live), &live).await.is_err());
    assert!(other.renew_recovery_codes(&caller(&live), &live).await.is_err());
}

#[tokio::test]
async fn a_passkey_that_was_begun_before_the_second_factor_is_not_added_after_it() {
    let t = testing::identity().await;
    let attacker = log_in(&t, ADMIN).await;
    let by = caller(&attacker);
    let begun = t.identity.begin_passkey(&by, &attacker).await.unwrap();
    enrol(&t, ADMIN).await;
    let credential = Authenticator::at(ORIGIN).create(&begun.options);
    assert!(t.identity.add_passkey(&by, &attacker, &begun.token, "evil", &credential).await.is_err());
}

#[tokio::test]
async fn second_factors_change_soon_after_a_log_in_only() {
    let t = testing::identity().await;
    let session = log_in(&t, ADMIN).await;
    t.advance(900);
    assert!(matches!(t.identity.begin_passkey(&caller(&session), &session).await, Err(MfaError::Stale)));
    let codes = t.identity.renew_recovery_codes(&caller(&session), &session).await;
    assert!(matches!(codes, Err(MfaError::Stale)));
    assert!(matches!(t.identity.remove_passkey(&caller(&session), &session, "x").await, Err(MfaError::Stale)));
}

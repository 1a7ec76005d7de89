#![allow(clippy::unwrap_used)]
use super::*;
use crate::admin::{NewUser, UserKind};
use crate::audit::{Caller, Origin};
use crate::core::testing::{self, PASSWORD, Testing};
use crate::token::BearerError;

async fn try_login(t: &Testing, name: &str, secret: &str) -> Result<Login, LoginError> {
    t.identity.login(name, &secret.into(), Door::Registry).await
}

#[tokio::test]
async fn a_password_lets_in_and_names_are_normalised() {
    let t = testing::identity().await;
    for name in ["admin@localhost", " ADMIN@localhost "] {
        let login = try_login(&t, name, PASSWORD).await.unwrap();
        assert_eq!((login.principal.name.as_str(), login.key.is_some()), ("admin@localhost", false));
    }
    assert!(matches!(try_login(&t, "admin@localhost", "wrong password").await, Err(LoginError::Refused)));
    assert!(matches!(try_login(&t, "admin@localhost", "").await, Err(LoginError::Refused)));
    assert!(matches!(try_login(&t, "", PASSWORD).await, Err(LoginError::Refused)));
}

#[tokio::test]
async fn five_failures_lock_a_name_whether_or_not_it_exists_and_at_every_door() {
    let t = testing::identity().await;
    for name in ["admin@localhost", "nobody@localhost", "not a name: \u{fffd}", "nul\0"] {
        for i in 0..5 {
            let door = if i % 2 == 0 { Door::Console } else { Door::Registry };
            let refused = t.identity.login(name, &"wrong password".into(), door).await;
            assert!(matches!(refused, Err(LoginError::Refused)), "{name} {i}");
        }
        for door in [Door::Console, Door::Registry] {
            let locked = t.identity.login(name, &PASSWORD.into(), door).await.unwrap_err();
            assert!(matches!(locked, LoginError::Locked { retry_after: 900 }), "{name}: {locked}");
        }
    }
    t.advance(900);
    assert!(try_login(&t, "admin@localhost", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_success_in_between_forgets_the_failures_and_an_admin_unlocks() {
    let t = testing::identity().await;
    for _ in 0..3 {
        for _ in 0..4 {
            assert!(try_login(&t, "admin@localhost", "wrong password").await.is_err());
        }
        assert!(try_login(&t, "admin@localhost", PASSWORD).await.is_ok());
    }
    for _ in 0..5 {
        assert!(try_login(&t, "admin@localhost", "wrong password").await.is_err());
    }
    assert!(matches!(try_login(&t, "admin@localhost", PASSWORD).await, Err(LoginError::Locked { .. })));
    t.identity.unlock(&Caller::server(), &t.org("main").await, "Admin@Localhost").await.unwrap();
    assert!(try_login(&t, "admin@localhost", PASSWORD).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_guesses_are_counted_before_the_next_is_made() {
    let t = testing::identity().await;
    let guesses = (0..20).map(|i| {
        let identity = t.identity.clone();
        tokio::spawn(async move {
            identity.login("admin@localhost", &format!("guess number {i}").into(), Door::Registry).await
        })
    });
    let mut refused = 0;
    for guess in guesses.collect::<Vec<_>>() {
        refused += usize::from(matches!(guess.await.unwrap(), Err(LoginError::Refused)));
    }
    assert_eq!(refused, 5);
}

#[tokio::test]
async fn api_keys_work_while_the_name_is_locked_and_never_lock_it() {
    let t = testing::identity().await;
    let (id, key) = t.key_of("admin@localhost").await;
    let wrong = format!("ra2.{id}.{}", "0".repeat(64));
    for _ in 0..10 {
        assert!(matches!(try_login(&t, "admin@localhost", &wrong).await, Err(LoginError::Refused)));
    }
    assert!(try_login(&t, "admin@localhost", PASSWORD).await.is_ok());
    for _ in 0..5 {
        assert!(try_login(&t, "admin@localhost", "wrong password").await.is_err());
    }
    let login = t.identity.login("admin@localhost", &key, Door::Registry).await.unwrap();
    assert_eq!(login.key.unwrap().id, id);
    assert!(t.identity.login_with_key(&Origin::default(), &key).await.is_ok());
    assert!(matches!(t.identity.login("operator@localhost", &key, Door::Registry).await, Err(LoginError::Refused)));
    assert!(matches!(t.identity.login_with_key(&Origin::default(), &PASSWORD.into()).await, Err(LoginError::Refused)));
}

#[tokio::test]
async fn a_key_carries_its_organization_only_and_ends() {
    let t = testing::identity().await;
    let name = "admin@localhost".parse().unwrap();
    let slug = "other".parse().unwrap();
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: Some((&name, None)) };
    let other = t.identity.create_org(&Caller::server(), &new).await.unwrap();
    assert!(other.admin.unwrap().temporary_password.is_none());
    let (id, key) = t.key_of("admin@localhost").await;
    let by_key = t.identity.login_with_key(&Origin::default(), &key).await.unwrap().principal;
    let in_person = try_login(&t, "admin@localhost", PASSWORD).await.unwrap().principal;
    assert_eq!((by_key.grants.len(), in_person.grants.len()), (1, 2));
    assert_eq!(by_key.key_org, Some(t.org("main").await));
    let row = storage::api_keys::find(&mut t.db.read().await.unwrap(), &id).await.unwrap().unwrap();
    assert_eq!(row.last_used_at, Some(t.now()));
    t.advance(86_399);
    assert!(t.identity.login_with_key(&Origin::default(), &key).await.is_ok());
    t.advance(1);
    assert!(matches!(t.identity.login_with_key(&Origin::default(), &key).await, Err(LoginError::Refused)));
    assert!(t.identity.principal(&by_key.user_id, Some(&id)).await.unwrap().is_none());
}

#[tokio::test]
async fn a_machine_has_no_password_and_no_console() {
    let t = testing::identity().await;
    let name = "ci-bot".parse().unwrap();
    let new = NewUser { name: &name, kind: UserKind::Machine, password: None };
    t.identity.add_user(&Caller::server(), &t.org("main").await, &new).await.unwrap();
    let (_, key) = t.key_of("ci-bot").await;
    assert!(t.identity.login("ci-bot", &key, Door::Registry).await.unwrap().principal.machine);
    assert!(matches!(t.identity.login("ci-bot", &"".into(), Door::Console).await, Err(LoginError::Refused)));
}

#[tokio::test]
async fn a_temporary_password_opens_the_console_only_and_for_three_days() {
    let t = testing::identity().await;
    let name = "new@acme.example".parse().unwrap();
    let new = NewUser { name: &name, kind: UserKind::Local, password: None };
    let temporary =
        t.identity.add_user(&Caller::server(), &t.org("main").await, &new).await.unwrap().temporary_password.unwrap();
    let docker = t.identity.login("new@acme.example", &temporary, Door::Registry).await;
    assert!(matches!(docker, Err(LoginError::MustChangePassword)));
    let console = t.identity.login("new@acme.example", &temporary, Door::Console).await.unwrap();
    assert!(console.must_change_password);
    t.advance(72 * 3600 - 1);
    assert!(t.identity.login("new@acme.example", &temporary, Door::Console).await.is_ok());
    t.advance(1);
    let late = t.identity.login("new@acme.example", &temporary, Door::Console).await;
    assert!(matches!(late, Err(LoginError::Refused)));
    let reset = t.identity.reset_password(&Caller::server(), "new@acme.example", None).await.unwrap().unwrap();
    t.identity.change_password(&Caller::server(), "new@acme.example", &reset, &PASSWORD.into()).await.unwrap();
    assert!(try_login(&t, "new@acme.example", PASSWORD).await.is_ok());
}

#[tokio::test]
async fn a_remembered_password_is_forgotten_with_the_epoch() {
    let t = testing::identity().await;
    assert!(try_login(&t, "admin@localhost", PASSWORD).await.is_ok());
    let user = storage::users::find_by_name(&mut t.db.read().await.unwrap(), "admin@localhost").await.unwrap();
    let remembers =
        |name: &str, secret: &str| t.identity.remembers(user.as_ref(), &t.identity.name_key(name), &secret.into());
    assert!(remembers(" ADMIN@localhost", PASSWORD));
    assert!(!remembers("admin@localhost", "wrong password") && !remembers("operator@localhost", PASSWORD));
    t.identity.reset_password(&Caller::server(), "admin@localhost", Some(&"another good one".into())).await.unwrap();
    assert!(matches!(try_login(&t, "admin@localhost", PASSWORD).await, Err(LoginError::Refused)));
    assert!(try_login(&t, "admin@localhost", "another good one").await.is_ok());
}

#[tokio::test]
async fn somebody_shut_out_everywhere_is_refused_like_anybody_else() {
    let t = testing::identity().await;
    let bob = t.add("bob@acme.example").await;
    let (_, key) = t.key_of("bob@acme.example").await;
    assert!(try_login(&t, "bob@acme.example", PASSWORD).await.is_ok());
    t.deactivate(&bob).await;
    assert!(matches!(try_login(&t, "bob@acme.example", PASSWORD).await, Err(LoginError::Refused)));
    assert!(matches!(t.identity.login_with_key(&Origin::default(), &key).await, Err(LoginError::Refused)));
    t.identity.set_active(&Caller::server(), &t.org("main").await, &bob, true).await.unwrap();
    assert!(try_login(&t, "bob@acme.example", PASSWORD).await.is_ok());
    assert!(t.identity.login_with_key(&Origin::default(), &key).await.is_ok());
}

#[tokio::test]
async fn a_log_in_costs_one_hash_whoever_it_is_until_it_is_remembered() {
    use std::sync::atomic::Ordering;
    let t = testing::identity().await;
    let name = "ci-bot".parse().unwrap();
    let new = NewUser { name: &name, kind: UserKind::Machine, password: None };
    t.identity.add_user(&Caller::server(), &t.org("main").await, &new).await.unwrap();
    let cost = async |name: &str, secret: &str| {
        let before = t.identity.0.hasher.computed.load(Ordering::SeqCst);
        let _ = try_login(&t, name, secret).await;
        t.identity.0.hasher.computed.load(Ordering::SeqCst) - before
    };
    for name in ["admin@localhost", "nobody@localhost", "ci-bot", "no name: \u{fffd}", ""] {
        assert_eq!(cost(name, "wrong password").await, 1, "{name}");
    }
    assert_eq!(cost("admin@localhost", PASSWORD).await, 1);
    assert_eq!(cost("admin@localhost", PASSWORD).await, 0);
    assert_eq!(cost("admin@localhost", "wrong password").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn parallel_log_ins_of_one_client_cost_one_hash() {
    use std::sync::atomic::Ordering;
    let t = testing::identity().await;
    let before = t.identity.0.hasher.computed.load(Ordering::SeqCst);
    let logins = (0..16).map(|_| {
        let identity = t.identity.clone();
        tokio::spawn(async move { identity.login("admin@localhost", &PASSWORD.into(), Door::Registry).await })
    });
    for login in logins.collect::<Vec<_>>() {
        assert!(login.await.unwrap().is_ok());
    }
    assert_eq!(t.identity.0.hasher.computed.load(Ordering::SeqCst) - before, 1);
}

#[tokio::test]
async fn a_guess_is_counted_even_where_the_guesser_hangs_up() {
    use std::sync::atomic::Ordering;
    let t = testing::identity().await;
    for i in 1..=5 {
        let before = t.identity.0.hasher.computed.load(Ordering::SeqCst);
        let guess = try_login(&t, "admin@localhost", "wrong password");
        let begun = async {
            while t.identity.0.hasher.computed.load(Ordering::SeqCst) == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! { biased; () = begun => {}, _ = guess => {} }
        let key = t.identity.name_key("admin@localhost").hex;
        let mut counted = 0;
        for _ in 0..200 {
            let failed = login_failures::find(&mut t.db.read().await.unwrap(), &key).await.unwrap();
            counted = failed.map_or(0, |failed| failed.failures);
            if counted == i {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(counted, i, "the guess was not counted");
    }
    assert!(matches!(try_login(&t, "admin@localhost", PASSWORD).await, Err(LoginError::Locked { .. })));
}

#[tokio::test]
async fn a_token_never_carries_older_rights_under_a_newer_epoch() {
    let mut t = testing::identity().await;
    t.options.rights_for = Duration::from_secs(3600);
    let replica = t.another_process().await;
    let ann = t.add("ann@acme.example").await;
    let project = t.project("main", "defaultproject").await;
    let binding = t.give(&ann, "PROJECT_ADMIN", Some(&project)).await;
    let first = replica.login("ann@acme.example", &PASSWORD.into(), Door::Registry).await.unwrap();
    assert_eq!(first.principal.grants.len(), 1);
    // The other process now remembers rights that are taken away here.
    t.identity.delete_binding(&Caller::server(), &t.org("main").await, &binding).await.unwrap();
    let login = replica.login("ann@acme.example", &PASSWORD.into(), Door::Registry).await.unwrap();
    let scopes = crate::scope::Scope::parse_all(["repository:main/app:push,pull"]).unwrap();
    let issued = replica.issue(Some(&login), &scopes).await.unwrap();
    assert_eq!(issued.access[0].actions.len(), 2, "not remembered: {:?}", issued.access);
    assert!(matches!(t.identity.verify_bearer(&issued.token).await, Err(BearerError::Revoked(_))));
    // A password that is not remembered is looked up, and the rights are no older than what was found.
    let again = "another good one".into();
    t.identity.reset_password(&Caller::server(), "ann@acme.example", Some(&again)).await.unwrap();
    t.identity.change_password(&Caller::server(), "ann@acme.example", &again, &PASSWORD.into()).await.unwrap();
    let (from, name, right) = (Origin::default(), "ann@acme.example", PASSWORD.into());
    let checked = replica.check_password(&from, name, &right, Door::Console).await.unwrap();
    let login = replica.let_in(&from, checked, name, Door::Registry).await.unwrap();
    let issued = replica.issue(Some(&login), &scopes).await.unwrap();
    assert!(issued.access[0].actions.is_empty(), "{:?}", issued.access);
    assert!(t.identity.verify_bearer(&issued.token).await.is_ok());
}

/// Whether a log-in with the right password goes without reading a row.
async fn is_known(t: &Identity, name: &str) -> bool {
    t.right_a_moment_ago(&t.name_key(name), &PASSWORD.into()).await.unwrap().is_some()
}

#[tokio::test]
async fn a_lock_holds_for_a_remembered_password_at_once_and_soon_in_other_processes() {
    let mut t = testing::identity().await;
    t.options.rights_for = Duration::from_millis(200);
    let replica = t.another_process().await;
    let name = "admin@localhost";
    for process in [&t.identity, &replica] {
        process.login(name, &PASSWORD.into(), Door::Registry).await.unwrap();
        assert!(is_known(process, name).await);
    }
    assert!(try_login(&t, name, "wrong password").await.is_err());
    assert!(!is_known(&t.identity, name).await, "a failure is to be taken away");
    assert!(try_login(&t, name, PASSWORD).await.is_ok());
    assert!(is_known(&t.identity, name).await);
    for _ in 0..5 {
        assert!(try_login(&t, name, "wrong password").await.is_err());
    }
    assert!(matches!(try_login(&t, name, PASSWORD).await, Err(LoginError::Locked { .. })));
    tokio::time::sleep(t.options.rights_for).await;
    let there = replica.login(name, &PASSWORD.into(), Door::Registry).await;
    assert!(matches!(there, Err(LoginError::Locked { .. })));
    t.advance(900);
    assert!(replica.login(name, &PASSWORD.into(), Door::Registry).await.is_ok());
}

#[tokio::test]
async fn a_remembered_password_ends_soon_when_another_process_ends_it() {
    let mut t = testing::identity().await;
    t.options.rights_for = Duration::from_millis(200);
    let replica = t.another_process().await;
    let (ann, name) = (t.add("ann@acme.example").await, "ann@acme.example");
    let known = async || {
        replica.login(name, &PASSWORD.into(), Door::Registry).await.unwrap();
        assert!(is_known(&replica, name).await);
    };
    let gone = async || {
        tokio::time::sleep(t.options.rights_for).await;
        assert!(!is_known(&replica, name).await);
        let refused = replica.login(name, &PASSWORD.into(), Door::Registry).await;
        assert!(matches!(refused, Err(LoginError::Refused)));
    };
    known().await;
    t.deactivate(&ann).await;
    gone().await;
    t.identity.set_active(&Caller::server(), &t.org("main").await, &ann, true).await.unwrap();
    tokio::time::sleep(t.options.rights_for).await;
    known().await;
    t.identity.reset_password(&Caller::server(), name, Some(&"another good one".into())).await.unwrap();
    gone().await;
}

#[tokio::test]
async fn a_remembered_password_opens_no_more_than_one_that_is_looked_up() {
    let t = testing::identity().await;
    let name = "new@acme.example";
    let parsed = name.parse().unwrap();
    let new = NewUser { name: &parsed, kind: UserKind::Local, password: Some(&PASSWORD.into()) };
    t.identity.add_user(&Caller::server(), &t.org("main").await, &new).await.unwrap();
    t.identity.reset_password(&Caller::server(), name, None).await.unwrap();
    let temporary = t.identity.reset_password(&Caller::server(), name, None).await.unwrap().unwrap();
    let known = async || t.identity.right_a_moment_ago(&t.identity.name_key(name), &temporary).await.unwrap();
    for _ in 0..2 {
        let refused = t.identity.login(name, &temporary, Door::Registry).await;
        assert!(matches!(refused, Err(LoginError::MustChangePassword)));
        assert!(known().await.is_some());
    }
    t.advance(72 * 3600);
    assert!(known().await.is_none());
    let ended = t.identity.login(name, &temporary, Door::Registry).await;
    assert!(matches!(ended, Err(LoginError::Refused)));
}

#[tokio::test]
async fn no_organization_unlocks_somebody_of_another() {
    let t = testing::identity().await;
    t.add("ann@acme.example").await;
    let (slug, ann) = ("evil".parse().unwrap(), "ann@acme.example".parse().unwrap());
    let new = crate::admin::NewOrg { slug: &slug, name: None, admin: None };
    let evil = t.identity.create_org(&Caller::server(), &new).await.unwrap().org;
    let new = NewUser { name: &ann, kind: UserKind::Local, password: None };
    let member = t.identity.add_user(&Caller::server(), &evil.id, &new).await.unwrap().member;
    let lock = async || {
        for _ in 0..5 {
            assert!(try_login(&t, "ann@acme.example", "wrong password").await.is_err());
        }
    };
    // Whom Ann did not accept lifts nothing, in the words of whoever does, and takes that power from nobody.
    lock().await;
    t.identity.unlock(&Caller::server(), &evil.id, "ann@acme.example").await.unwrap();
    assert!(matches!(try_login(&t, "ann@acme.example", PASSWORD).await, Err(LoginError::Locked { .. })));
    t.identity.unlock(&Caller::server(), &t.org("main").await, "ann@acme.example").await.unwrap();
    assert!(try_login(&t, "ann@acme.example", PASSWORD).await.is_ok());
    let stranger = t.identity.unlock(&Caller::server(), &evil.id, "admin@localhost").await;
    assert!(matches!(stranger, Err(storage::Error::NotFound(_))));

    let mut tx = t.db.begin().await.unwrap();
    storage::memberships::accept(&mut tx, &evil.id, &member.user_id, t.now()).await.unwrap();
    tx.commit().await.unwrap();
    lock().await;
    for active in [true, false] {
        t.identity.set_active(&Caller::server(), &t.org("main").await, &member.user_id, active).await.unwrap();
        assert!(
            t.identity
                .unlock(&Caller::server(), &t.org("main").await, "Ann@acme.example")
                .await
                .unwrap_err()
                .is_conflict()
        );
    }
    t.identity.set_active(&Caller::server(), &t.org("main").await, &member.user_id, true).await.unwrap();
    assert!(matches!(try_login(&t, "ann@acme.example", PASSWORD).await, Err(LoginError::Locked { .. })));
    t.identity.reset_password(&Caller::server(), "ann@acme.example", Some(&"another good one".into())).await.unwrap();
    assert!(try_login(&t, "ann@acme.example", "another good one").await.is_ok());
}

#[tokio::test]
async fn names_that_nobody_has_cannot_fill_the_platforms_log() {
    use storage::audit::{Direction, Filter, list};
    let t = testing::identity().await;
    for n in 0..40 {
        let name = format!("nobody{n}@example.com");
        assert!(t.identity.login(&name, &"wrong".into(), Door::Console).await.is_err());
    }
    t.advance(60);
    assert!(t.identity.login("late@example.com", &"wrong".into(), Door::Console).await.is_err());
    tokio::task::yield_now().await;
    t.identity.settle().await;
    let mut session = t.db.read().await.unwrap();
    let events = |action| Filter { action, outcome: "denied", ..Filter::default() };
    let logins = list(&mut session, "", &events("login"), Direction::Oldest, None, 100).await.unwrap().events;
    let counted = list(&mut session, "", &events("access.denied"), Direction::Oldest, None, 100).await.unwrap().events;
    // Five of the minute are recorded in tests, and the one of the next.
    assert_eq!((logins.len(), counted.len()), (6, 1));
    assert_eq!(counted[0].event.detail, "{\"events\":35}");
}

#![allow(clippy::unwrap_used)]
use super::*;
use crate::core::testing::{self, Testing};
use crate::mfa::tests::log_in;

const ADMIN: &str = "admin@localhost";

fn at(address: &str) -> Origin {
    Origin { address: Some(address.parse().unwrap()), ..Origin::default() }
}

async fn someone(t: &Testing) -> (Caller, LiveSession) {
    let session = log_in(t, ADMIN).await;
    let by = Caller {
        principal: session.principal.clone(),
        credential: Credential::Session(session.id.clone()),
        origin: at("198.51.100.9"),
    };
    (by, session)
}

#[tokio::test]
async fn a_program_gets_a_session_once_somebody_said_yes() {
    let t = testing::identity().await;
    let (by, session) = someone(&t).await;
    let program = at("192.0.2.1");
    let codes = t.identity.begin_device(&program, "rctl on build-7").await.unwrap();
    assert!(matches!(t.identity.poll_device(&program, &codes.device_code).await.unwrap(), Polled::Pending));
    assert!(matches!(t.identity.poll_device(&program, &codes.device_code).await.unwrap(), Polled::SlowDown));
    t.advance(5);
    assert!(matches!(t.identity.poll_device(&program, &codes.device_code).await.unwrap(), Polled::Pending));

    let typed = codes.user_code.expose().to_lowercase().replace('-', " ");
    let waiting = t.identity.find_device(&by, &typed).await.unwrap();
    assert_eq!((waiting.client.as_str(), waiting.address.as_str()), ("rctl on build-7", "192.0.2.1"));
    t.identity.decide_device(&by, &session, &typed, true).await.unwrap();
    assert!(t.identity.decide_device(&by, &session, &typed, false).await.is_err(), "said once");
    t.advance(5);
    let Polled::Approved { session, user, org } = t.identity.poll_device(&program, &codes.device_code).await.unwrap()
    else {
        panic!("not approved")
    };
    assert_eq!((user.as_str(), org.as_deref()), (ADMIN, Some("main")));
    let live = t.identity.find_session(&session.token, SessionKind::Cli).await.unwrap().unwrap();
    assert_eq!(live.principal.name, ADMIN);
    assert!(
        matches!(t.identity.poll_device(&program, &codes.device_code).await.unwrap(), Polled::Expired),
        "given once"
    );
}

#[tokio::test]
async fn no_late_unknown_and_revoked_programs_get_nothing() {
    let t = testing::identity().await;
    let (by, session) = someone(&t).await;
    let program = at("192.0.2.1");
    let denied = t.identity.begin_device(&program, "x").await.unwrap();
    t.identity.decide_device(&by, &session, denied.user_code.expose(), false).await.unwrap();
    assert!(matches!(t.identity.poll_device(&program, &denied.device_code).await.unwrap(), Polled::Denied));
    assert!(matches!(t.identity.poll_device(&program, &"0".repeat(64).into()).await.unwrap(), Polled::Expired));

    let late = t.identity.begin_device(&program, "x").await.unwrap();
    t.advance(LIFETIME);
    assert!(t.identity.find_device(&by, late.user_code.expose()).await.is_err());
    assert!(matches!(t.identity.poll_device(&program, &late.device_code).await.unwrap(), Polled::Expired));

    // Whoever said yes was shut out before the program came for its answer.
    let (by, session) = someone(&t).await;
    let revoked = t.identity.begin_device(&program, "x").await.unwrap();
    t.identity.decide_device(&by, &session, revoked.user_code.expose(), true).await.unwrap();
    t.identity.reset_password(&Caller::server(), ADMIN, None).await.unwrap();
    assert!(matches!(t.identity.poll_device(&program, &revoked.device_code).await.unwrap(), Polled::Denied));
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_polls_at_the_same_time_one_gets_the_session() {
    let t = testing::identity().await;
    let (by, session) = someone(&t).await;
    let codes = t.identity.begin_device(&at("192.0.2.1"), "x").await.unwrap();
    t.identity.decide_device(&by, &session, codes.user_code.expose(), true).await.unwrap();
    let polls: Vec<_> = (0..6)
        .map(|_| {
            let (identity, code) = (t.identity.clone(), codes.device_code.clone());
            tokio::spawn(async move { identity.poll_device(&at("192.0.2.1"), &code).await.unwrap() })
        })
        .collect();
    let mut got = 0;
    for poll in polls {
        got += usize::from(matches!(poll.await.unwrap(), Polled::Approved { .. }));
    }
    assert_eq!(got, 1);
}

#[tokio::test]
async fn user_codes_are_not_found_by_trying_and_few_wait_for_an_address() {
    let t = testing::identity().await;
    let (by, _) = someone(&t).await;
    let mut tries = 0;
    let stopped = loop {
        match t.identity.find_device(&by, user_code().expose()).await {
            Err(DeviceError::Storage(storage::Error::NotFound(_))) => tries += 1,
            other => break other,
        }
    };
    assert!(matches!(stopped, Err(DeviceError::Throttled(_))), "{stopped:?}");
    assert_eq!(tries, 10);

    let mut waiting = 0;
    while t.identity.begin_device(&at("192.0.2.1"), "x").await.is_ok() {
        waiting += 1;
        t.advance(2);
    }
    assert_eq!(waiting, PENDING);
    t.identity.begin_device(&at("192.0.2.2"), "x").await.unwrap();
}

#[test]
fn user_codes_are_read_as_people_type_them() {
    for _ in 0..100 {
        let code = user_code();
        assert_eq!(code.expose().len(), 9);
        assert_eq!(normalise(code.expose()).unwrap(), code.expose().replace('-', ""));
    }
    for bad in ["", "BCDF", "BCDF-GHJA", "BCDF-GHJKL", "BCDF-GHJ1"] {
        assert_eq!(normalise(bad), None, "{bad}");
    }
}

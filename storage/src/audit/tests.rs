//! The audit log on both databases.
#![allow(clippy::unwrap_used)]

use super::check::{Checked, check, newest};
use super::retention::{Cut, cut};
use super::*;
use crate::db::Db;
use crate::db::testing::fresh;

const DAY: i64 = 86_400_000;

type Case<'a> = (Filter<'a>, Box<dyn Fn(&NewEvent) -> bool>);

fn event(org: &str, n: i64) -> NewEvent {
    NewEvent {
        org_id: org.into(),
        at_ms: 1000 * n,
        actor: format!("u{}", n % 3),
        client: if n % 2 == 0 { "docker" } else { "api" }.into(),
        action: ["image.pull", "image.push", "user.create", "login"][usize::try_from(n % 4).unwrap()].into(),
        project: ["", "a", "b", "a_"][usize::try_from(n % 4).unwrap()].into(),
        outcome: if n % 10 == 0 { "denied" } else { "ok" }.into(),
        address: format!("10.0.0.{}", n % 5),
        target: format!("t{}", n % 7),
        detail: "{\"é\":\"\\u0000\"}".into(),
        ..NewEvent::default()
    }
}

async fn filled(db: &Db, org: &str, n: i64) {
    let mut tx = db.begin().await.unwrap();
    append_all(&mut tx, &(1..=n).map(|n| event(org, n)).collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn seqs(db: &Db, filter: &Filter<'_>, direction: Direction, limit: i64) -> Vec<i64> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let mut session = db.read().await.unwrap();
        let found = list(&mut session, "o", filter, direction, cursor, limit).await.unwrap();
        assert!(i64::try_from(found.events.len()).unwrap() <= limit);
        all.extend(found.events.iter().map(|e| e.seq));
        cursor = found.next;
        if cursor.is_none() {
            return all;
        }
    }
}

#[tokio::test]
async fn every_filter_finds_what_it_says_in_both_directions_and_any_page() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    filled(&db, "o", 60).await;
    filled(&db, "other", 7).await;
    let within = |slug: &str, since| Within { slug: slug.to_owned(), since };
    let projects = [within("a", 0), within("b", 0)];
    let (one, late) = ([within("b", 0)], [within("a", 30_000), within("b", 0)]);
    let all = Filter::default();
    let cases: Vec<Case<'_>> = vec![
        (all.clone(), Box::new(|_| true)),
        (Filter { actor: "u1", ..all.clone() }, Box::new(|e| e.actor == "u1")),
        (Filter { target: "t3", ..all.clone() }, Box::new(|e| e.target == "t3")),
        (
            Filter { target: "t3", action: "image.*", ..all.clone() },
            Box::new(|e| e.target == "t3" && e.action.starts_with("image.")),
        ),
        (Filter { action: "image.pull", ..all.clone() }, Box::new(|e| e.action == "image.pull")),
        (Filter { action: "image.*", ..all.clone() }, Box::new(|e| e.action.starts_with("image."))),
        (Filter { action: "login.*", ..all.clone() }, Box::new(|e| e.action == "login")),
        (Filter { project: "a", ..all.clone() }, Box::new(|e| e.project == "a")),
        (Filter { projects: Some(&projects), ..all.clone() }, Box::new(|e| e.project == "a" || e.project == "b")),
        (Filter { projects: Some(&one), ..all.clone() }, Box::new(|e| e.project == "b")),
        (
            Filter { projects: Some(&late), ..all.clone() },
            Box::new(|e| e.project == "b" || (e.project == "a" && e.at_ms >= 30_000)),
        ),
        (Filter { projects: Some(&[]), ..all.clone() }, Box::new(|_| false)),
        (Filter { project: "a_", projects: Some(&projects), ..all.clone() }, Box::new(|_| false)),
        (Filter { outcome: "denied", ..all.clone() }, Box::new(|e| e.outcome == "denied")),
        (Filter { outcome: "ok", client: "api", ..all.clone() }, Box::new(|e| e.outcome == "ok" && e.client == "api")),
        (Filter { address: "10.0.0.4", ..all.clone() }, Box::new(|e| e.address == "10.0.0.4")),
        (
            Filter { since: Some(5000), until: Some(20_000), actor: "u2", ..all.clone() },
            Box::new(|e| e.at_ms >= 5000 && e.at_ms < 20_000 && e.actor == "u2"),
        ),
        (Filter { since: Some(61_000), ..all.clone() }, Box::new(|_| false)),
        (Filter { until: Some(1), ..all.clone() }, Box::new(|_| false)),
        (Filter { actor: "' OR 1=1 --", ..all.clone() }, Box::new(|_| false)),
    ];
    for (filter, pass) in cases {
        let expected: Vec<i64> = (1..=60).filter(|n| pass(&event("o", *n))).collect();
        for limit in [1, 7, 100] {
            assert_eq!(seqs(&db, &filter, Direction::Oldest, limit).await, expected, "{filter:?}");
            let newest: Vec<i64> = expected.iter().rev().copied().collect();
            assert_eq!(seqs(&db, &filter, Direction::Newest, limit).await, newest, "{filter:?}");
        }
    }
    let mut session = db.read().await.unwrap();
    let found = find(&mut session, "o", 13).await.unwrap().unwrap();
    assert_eq!(found.event, event("o", 13));
    assert!(find(&mut session, "o", 61).await.unwrap().is_none());
    assert_eq!(chains(&mut session, None, 10).await.unwrap(), ["o", "other"]);
    assert_eq!(chains(&mut session, Some("o"), 10).await.unwrap(), ["other"]);
    assert_eq!(head(&mut session, "nobody").await.unwrap(), Head::default());
}

#[tokio::test]
async fn a_page_looks_at_a_bounded_number_of_events_and_goes_on_from_there() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    let n = list::SCAN + 500;
    filled(&db, "o", n).await;
    let mut rare = event("o", 1);
    rare.client = "server".into();
    rare.at_ms = n * 1000;
    // By a filter that leads, it is found at once; by one that does not, after a page that is empty and has a cursor.
    let odd = Filter { until: Some(1500), ..Filter::default() };
    assert_eq!(seqs(&db, &odd, Direction::Newest, 10).await, [1]);
    let both = Filter { client: "api", outcome: "ok", since: Some(0), until: Some(3500), ..Filter::default() };
    assert_eq!(seqs(&db, &both, Direction::Newest, 10).await, [3, 1]);
    let mut session = db.read().await.unwrap();
    let nobody = ["x", "y"].map(|slug| Within { slug: slug.to_owned(), since: 0 });
    let none = Filter { projects: Some(&nobody), ..Filter::default() };
    let found = list(&mut session, "o", &none, Direction::Newest, None, 10).await.unwrap();
    // The last bundle, which has 20, and 63 full ones were opened: it was enough then.
    assert_eq!((found.events.len(), found.next), (0, Some(n - 20 - 63 * 64 + 1)));
    let found = list(&mut session, "o", &none, Direction::Newest, found.next, 10).await.unwrap();
    assert_eq!((found.events.len(), found.next), (0, None));
}

#[tokio::test]
async fn terms_that_never_meet_are_looked_for_in_a_bounded_number_of_bundles() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    let mut tx = db.begin().await.unwrap();
    for n in 1..=2100 {
        let actor = if n % 2 == 0 || n == 2099 { "one" } else { "other" };
        let action = if n == 2099 || n == 99 { "login" } else { "image.pull" };
        let alike = NewEvent { actor: actor.into(), action: action.into(), ..event("o", n) };
        // The first hundred lie in bundles of two, the others each in its own.
        let pair = if n <= 100 { vec![alike.clone(), alike] } else { vec![alike] };
        append_all(&mut tx, &pair).await.unwrap();
    }
    tx.commit().await.unwrap();
    let last = 2200;
    for (filter, expected) in [
        (Filter { actor: "one", action: "login", ..Filter::default() }, vec![last - 1]),
        (Filter { actor: "other", action: "login", ..Filter::default() }, vec![198, 197]),
        (Filter { client: "api", action: "image.push", ..Filter::default() }, vec![]),
    ] {
        assert_eq!(seqs(&db, &filter, Direction::Newest, 10).await, expected, "{filter:?}");
        let oldest: Vec<i64> = expected.into_iter().rev().collect();
        assert_eq!(seqs(&db, &filter, Direction::Oldest, 10).await, oldest, "{filter:?}");
    }
    // More than are looked at lie between: there is a cursor, and nothing is told twice behind it.
    let all = Filter { client: "docker", address: "", ..Filter::default() };
    let mut expected: Vec<i64> = seqs(&db, &all, Direction::Oldest, 7).await;
    assert_eq!(expected.len(), 1100);
    expected.reverse();
    assert_eq!(seqs(&db, &all, Direction::Newest, 7).await, expected);
    let mut session = db.read().await.unwrap();
    let never = Filter { action: "image.*", target: "nowhere", ..Filter::default() };
    let found = list(&mut session, "o", &never, Direction::Newest, None, 10).await.unwrap();
    assert_eq!(found.next, Some(last - 500), "no more bundles are opened than that");
}

#[tokio::test]
async fn what_an_older_version_wrote_is_one_chain_with_what_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let db = crate::db::testing::empty(dir.path()).await;
    db.migrate_to(7).await.unwrap();
    let mut last = String::new();
    for org in ["o", "p"] {
        let mut prev = GENESIS.to_owned();
        for seq in 1..=300 {
            let Event { event: e, hash, prev_hash, .. } = Event::chained(event(org, seq), seq, prev);
            let mut tx = db.begin().await.unwrap();
            execute!(
                tx,
                "INSERT INTO audit_events (org_id, seq, at_ms, actor_id, actor, credential, client, action, noun, target,
                     project, outcome, reason, address, agent, request_id, detail, prev_hash, hash)
                 VALUES ($1, $2, $3, '', $4, '', $5, $6, '', $7, $8, $9, '', $10, '', '', $11, $12, $13)",
                e.org_id,
                seq,
                e.at_ms,
                e.actor,
                e.client,
                e.action,
                e.target,
                e.project,
                e.outcome,
                e.address,
                e.detail,
                prev_hash,
                hash.as_str(),
            )
            .unwrap();
            tx.commit().await.unwrap();
            prev = hash;
        }
        let mut tx = db.begin().await.unwrap();
        execute!(tx, "INSERT INTO audit_heads VALUES ($1, 300, $2, 1, $3)", org, prev.as_str(), GENESIS).unwrap();
        execute!(tx, "INSERT INTO audit_spans VALUES ($1, 0, 1000, 300000)", org).unwrap();
        tx.commit().await.unwrap();
        last = prev;
    }
    // Somebody took one away: that must still be seen.
    let mut tx = db.begin().await.unwrap();
    execute!(tx, "DELETE FROM audit_events WHERE org_id = 'p' AND seq = 200").unwrap();
    tx.commit().await.unwrap();
    let (one, other) = tokio::join!(db.migrate(), db.migrate());
    one.unwrap();
    other.unwrap();
    let mut tx = db.begin().await.unwrap();
    append(&mut tx, event("o", 301)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(check(&db, "o").await.unwrap(), Checked { events: 301, flaw: None });
    let gap = auditchain::Flaw::Gap { after: 199, before: 201 };
    assert_eq!(check(&db, "p").await.unwrap(), Checked { events: 199, flaw: Some(gap) });
    let mut session = db.read().await.unwrap();
    assert_eq!(find(&mut session, "p", 300).await.unwrap().unwrap().hash, last);
    assert_eq!(find(&mut session, "o", 77).await.unwrap().unwrap().event, event("o", 77));
    let denied = Filter { outcome: "denied", ..Filter::default() };
    let expected: Vec<i64> = (1..=30).map(|n| n * 10).collect();
    assert_eq!(seqs(&db, &denied, Direction::Oldest, 7).await, expected);
    assert_eq!(query_one!(session, (i64,), "SELECT COUNT(*) FROM audit_events").unwrap().0, 0);
}

#[tokio::test]
async fn events_that_are_not_in_the_order_of_time_are_found_by_time_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    let mut events: Vec<NewEvent> = (1..=3000).map(|n| event("o", n)).collect();
    // A replica with a wrong clock, and one that was late.
    events[10].at_ms = 900_000_000;
    events[2900].at_ms = 500;
    let mut tx = db.begin().await.unwrap();
    append_all(&mut tx, &events).await.unwrap();
    tx.commit().await.unwrap();
    let early = Filter { until: Some(1001), ..Filter::default() };
    assert_eq!(seqs(&db, &early, Direction::Newest, 10).await, [2901, 1]);
    let late = Filter { since: Some(2_999_000), ..Filter::default() };
    assert_eq!(seqs(&db, &late, Direction::Oldest, 10).await, [11, 2999, 3000]);
}

#[tokio::test]
async fn a_stored_chain_is_proven_and_what_was_done_to_it_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    filled(&db, "o", 2100).await;
    for n in 1..=3 {
        let mut tx = db.begin().await.unwrap();
        append(&mut tx, event("o", n)).await.unwrap();
        tx.commit().await.unwrap();
    }
    assert_eq!(check(&db, "o").await.unwrap(), Checked { events: 2103, flaw: None });
    assert_eq!(check(&db, "nothing").await.unwrap(), Checked { events: 0, flaw: None });
    for (damage, repair) in [
        (
            "UPDATE audit_bundles SET events = replace(events, '\"u1\"', '\"someone\"') WHERE last_seq = 1408",
            "UPDATE audit_bundles SET events = replace(events, '\"someone\"', '\"u1\"') WHERE last_seq = 1408",
        ),
        (
            "UPDATE audit_bundles SET events = replace(events, '[[193000,', '[[193001,') WHERE last_seq = 256",
            "UPDATE audit_bundles SET events = replace(events, '[[193001,', '[[193000,') WHERE last_seq = 256",
        ),
        (
            "UPDATE audit_bundles SET events = '' || events || ' x' WHERE last_seq = 256",
            "UPDATE audit_bundles SET events = replace(events, ' x', '') WHERE last_seq = 256",
        ),
        (
            "UPDATE audit_bundles SET last_seq = 5000 WHERE last_seq = 256",
            "UPDATE audit_bundles SET last_seq = 256 WHERE last_seq = 5000",
        ),
        (
            "UPDATE audit_bundles SET last_seq = 5000 WHERE last_seq = 2103",
            "UPDATE audit_bundles SET last_seq = 2103 WHERE last_seq = 5000",
        ),
        (
            "UPDATE audit_bundles SET last_seq = 0 WHERE last_seq = 64",
            "UPDATE audit_bundles SET last_seq = 64 WHERE last_seq = 0",
        ),
        ("UPDATE audit_heads SET seq = 2104", "UPDATE audit_heads SET seq = 2103"),
    ] {
        let mut tx = db.begin().await.unwrap();
        assert_eq!(execute!(tx, damage).unwrap(), 1, "{damage}");
        tx.commit().await.unwrap();
        assert!(check(&db, "o").await.unwrap().flaw.is_some(), "{damage}");
        let mut tx = db.begin().await.unwrap();
        execute!(tx, repair).unwrap();
        tx.commit().await.unwrap();
        assert_eq!(check(&db, "o").await.unwrap().flaw, None, "{repair}");
    }
    assert_eq!(check(&db, "o").await.unwrap().flaw, None);
}

/// A chain of which the older months were taken away, in the middle of a bundle, and the first event that is left.
async fn cut_in_a_bundle(db: &Db) -> Event {
    filled(db, "o", 2100).await;
    let months = (1..=40).map(|n: i64| NewEvent { at_ms: n * 40 * DAY, ..event("o", 7) });
    let mut tx = db.begin().await.unwrap();
    append_all(&mut tx, &months.collect::<Vec<_>>()).await.unwrap();
    tx.commit().await.unwrap();
    cut(db, "o", 100, 40 * 40 * DAY, |_| event("o", 1)).await.unwrap().unwrap();
    let mut session = db.read().await.unwrap();
    let first = head(&mut session, "o").await.unwrap().first_seq;
    find(&mut session, "o", first).await.unwrap().unwrap()
}

#[tokio::test]
async fn what_lists_show_or_do_not_show_because_somebody_wants_it_is_found() {
    for damage in [
        "UPDATE audit_bundles SET events = 'forged' WHERE last_seq = 2140",
        "INSERT INTO audit_bundles SELECT org_id, last_seq + 500, events FROM audit_bundles",
        "INSERT INTO audit_bundles SELECT org_id, last_seq - 500, events FROM audit_bundles",
        "DELETE FROM audit_heads",
        "DELETE FROM audit_terms WHERE last_seq = 2140",
        "DELETE FROM audit_terms WHERE term = 'noun=login'",
        "DELETE FROM audit_spans",
        "UPDATE audit_spans SET max_ms = max_ms - 1",
        "UPDATE audit_spans SET min_ms = min_ms + 1",
    ] {
        let dir = tempfile::tempdir().unwrap();
        let db = fresh(dir.path()).await;
        let first = cut_in_a_bundle(&db).await;
        assert_eq!(first.seq, 2138);
        assert_eq!(check(&db, "o").await.unwrap(), Checked { events: 4, flaw: None });
        // Before the first event of its bundle one that nobody wrote, which says it has the hash that the first one follows.
        let lie = Event { seq: 2137, event: event("o", 5), prev_hash: String::new(), hash: first.prev_hash };
        let bundle = &bundles_after(&mut db.read().await.unwrap(), "o", 2137, 1).await.unwrap()[0];
        let forged = [vec![lie], bundle.open("o", |_| true).0].concat();
        let forged = bundle::of(&forged).unwrap().unwrap().text;
        let damage = damage.replace("forged", &forged);
        let mut tx = db.begin().await.unwrap();
        assert!(execute!(tx, sqlx::AssertSqlSafe(damage.clone())).unwrap() > 0, "{damage}");
        tx.commit().await.unwrap();
        assert!(check(&db, "o").await.unwrap().flaw.is_some(), "{damage}");
        assert_eq!(chains(&mut db.read().await.unwrap(), None, 10).await.unwrap(), ["o"]);
    }
}

#[tokio::test]
async fn terms_of_bundles_that_are_not_there_hide_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    filled(&db, "o", 9).await;
    let mut tx = db.begin().await.unwrap();
    for n in 1..=2100 {
        let term = "INSERT INTO audit_terms VALUES ('o', 'actor=u1', $1), ('o', 'noun=image', $1)";
        execute!(tx, term, 100 + n).unwrap();
    }
    append_all(&mut tx, &[event("o", 10)]).await.unwrap();
    tx.commit().await.unwrap();
    let one = Filter { actor: "u1", ..Filter::default() };
    let two = Filter { actor: "u1", client: "api", ..Filter::default() };
    for (filter, expected) in [(one, vec![10, 7, 4, 1]), (two, vec![7, 1])] {
        assert_eq!(seqs(&db, &filter, Direction::Newest, 10).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_reads_while_others_write_and_take_away_sees_one_chain() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    // Thirty events a day from 1970 on, of two writers at once.
    let writer = |first: i64| {
        let db = db.clone();
        tokio::spawn(async move {
            for n in 0..60 {
                let some = (0..1 + n % 40).map(|m| NewEvent { at_ms: (n * 40 + m) * DAY / 30, ..event("o", n + m) });
                let mut tx = db.begin().await.unwrap();
                append_all(&mut tx, &some.collect::<Vec<_>>()).await.unwrap();
                if (n + first) % 7 == 0 {
                    drop(tx);
                } else {
                    tx.commit().await.unwrap();
                }
            }
        })
    };
    let writers = [writer(0), writer(3)];
    let made = |cut: &Cut| NewEvent { at_ms: cut.older_than_ms, ..event("o", 1) };
    for round in 0.. {
        let over = writers.iter().all(tokio::task::JoinHandle::is_finished);
        cut(&db, "o", 1, round * 8 * DAY, made).await.unwrap();
        let checked = check(&db, "o").await.unwrap();
        assert_eq!(checked.flaw, None);
        let seen = newest(&mut db.read().await.unwrap(), "o", 100).await.unwrap();
        assert_eq!(seen.checked.flaw, None);
        let filter = Filter { action: "image.*", outcome: "ok", client: "docker", ..Filter::default() };
        let found = seqs(&db, &filter, Direction::Newest, 20).await;
        assert!(found.windows(2).all(|two| two[0] > two[1]), "{found:?}");
        if over {
            break;
        }
    }
    for one in writers {
        one.await.unwrap();
    }
    cut(&db, "o", 1, 80 * DAY, made).await.unwrap();
    assert_eq!(check(&db, "o").await.unwrap().flaw, None);
    let head = head(&mut db.read().await.unwrap(), "o").await.unwrap();
    let events = read(&mut db.read().await.unwrap(), "o", 0, 10_000).await.unwrap();
    assert_eq!(events.iter().map(|e| e.seq).collect::<Vec<_>>(), (head.first_seq..=head.seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_bundle_that_cannot_be_read_is_listed_once_and_keeps_nobody_from_what_is_older() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    for n in 1..=20 {
        let mut tx = db.begin().await.unwrap();
        append(&mut tx, event("o", n)).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut tx = db.begin().await.unwrap();
    execute!(tx, "UPDATE audit_bundles SET events = 'x' WHERE last_seq = 10").unwrap();
    tx.commit().await.unwrap();
    let all: Vec<i64> = (1..=20).collect();
    for limit in [1, 3, 100] {
        let mut session = db.read().await.unwrap();
        let (mut found, mut cursor) = (Vec::new(), None);
        loop {
            let page = list(&mut session, "o", &Filter::default(), Direction::Newest, cursor, limit).await.unwrap();
            found.extend(page.events.iter().map(|event| event.seq));
            cursor = page.next;
            assert!(found.len() <= 20, "{found:?}");
            if cursor.is_none() {
                break;
            }
        }
        found.reverse();
        assert_eq!(found, all);
        drop(session);
        assert_eq!(seqs(&db, &Filter::default(), Direction::Oldest, limit).await, all);
    }
}

#[tokio::test]
async fn the_newest_events_prove_themselves_up_to_the_head() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    for n in 1..=50 {
        let mut tx = db.begin().await.unwrap();
        append(&mut tx, event("o", n)).await.unwrap();
        tx.commit().await.unwrap();
    }
    let of = async |org: &str, count| newest(&mut db.read().await.unwrap(), org, count).await.unwrap();
    for (count, from, events) in [(10, 41, 10), (50, 1, 50), (1000, 1, 50)] {
        let found = of("o", count).await;
        assert_eq!((found.from_seq, found.checked), (from, Checked { events, flaw: None }));
        assert_eq!((found.first_ms, found.last_ms), (Some(1000), Some(50_000)));
    }
    let none = of("nothing", 10).await;
    assert_eq!((none.head, none.first_ms, none.checked), (Head::default(), None, Checked { events: 0, flaw: None }));
    for (damage, repair, seen) in [
        (
            "UPDATE audit_bundles SET events = replace(events, '\"u0\"', '\"someone\"') WHERE last_seq = 45",
            "UPDATE audit_bundles SET events = replace(events, '\"someone\"', '\"u0\"') WHERE last_seq = 45",
            true,
        ),
        (
            "UPDATE audit_bundles SET events = replace(events, '\"u2\"', '\"someone\"') WHERE last_seq = 5",
            "UPDATE audit_bundles SET events = replace(events, '\"someone\"', '\"u2\"') WHERE last_seq = 5",
            false,
        ),
        (
            "UPDATE audit_bundles SET last_seq = 90 WHERE last_seq = 50",
            "UPDATE audit_bundles SET last_seq = 50 WHERE last_seq = 90",
            true,
        ),
        ("UPDATE audit_heads SET seq = 51", "UPDATE audit_heads SET seq = 50", true),
    ] {
        for (sql, flawed) in [(damage, seen), (repair, false)] {
            let mut tx = db.begin().await.unwrap();
            execute!(tx, sql).unwrap();
            tx.commit().await.unwrap();
            assert_eq!(of("o", 10).await.checked.flaw.is_some(), flawed, "{sql}");
        }
    }
}

#[tokio::test]
async fn old_months_go_and_the_chain_has_no_hole() {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    // From 2026-01-01 on, 30 events a day.
    let begin = 1_767_225_600_000;
    let events = (0..3000).map(|n| NewEvent { at_ms: begin + n * DAY / 30, ..event("o", n) });
    let events: Vec<NewEvent> = events.collect();
    let mut tx = db.begin().await.unwrap();
    append_all(&mut tx, &events).await.unwrap();
    tx.commit().await.unwrap();
    let made = |cut: &Cut| NewEvent {
        org_id: "o".into(),
        at_ms: begin + 101 * DAY,
        action: "audit.cut".into(),
        detail: cut.until_seq.to_string(),
        ..NewEvent::default()
    };
    // On 2026-04-10 with 30 days, March must stay: it ended ten days ago.
    let now = begin + 99 * DAY;
    let done = cut(&db, "o", 30, now, made).await.unwrap().unwrap();
    let february = 30 * 59;
    assert_eq!((done.first_seq, done.until_seq), (1, february + 1));
    assert_eq!(done.older_than_ms, begin + 59 * DAY);
    let mut session = db.read().await.unwrap();
    let kept = head(&mut session, "o").await.unwrap();
    assert_eq!((kept.first_seq, kept.seq), (february + 1, 3001));
    assert!(find(&mut session, "o", february).await.unwrap().is_none());
    let first = find(&mut session, "o", february + 1).await.unwrap().unwrap();
    assert_eq!((first.prev_hash, first.event.at_ms), (kept.anchor, begin + 59 * DAY));
    assert_eq!(find(&mut session, "o", 3001).await.unwrap().unwrap().event.action, "audit.cut");
    drop(session);
    assert_eq!(check(&db, "o").await.unwrap(), Checked { events: 1231, flaw: None });
    // Again: nothing to do. Much later: everything but what records it.
    assert!(cut(&db, "o", 30, now, made).await.unwrap().is_none());
    cut(&db, "o", 30, now + 400 * DAY, made).await.unwrap().unwrap();
    assert_eq!(check(&db, "o").await.unwrap(), Checked { events: 1, flaw: None });
    let old = Filter { since: Some(0), until: Some(begin), ..Filter::default() };
    assert!(seqs(&db, &old, Direction::Newest, 10).await.is_empty());
    assert!(cut(&db, "nobody", 1, now, made).await.unwrap().is_none());
}

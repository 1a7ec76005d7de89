#![allow(clippy::unwrap_used)]
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{ConnectOptions, query_scalar, raw_sql};
use sqlx::{Executor, Row};
use tokio::time::{sleep, timeout};

use super::{First, Lane, Turn, ended};
use crate::db::changes::{Changes, Mark};
use crate::error::Error;

struct World {
    lane: Lane,
    changes: Arc<Changes>,
    options: SqliteConnectOptions,
}

impl World {
    async fn new(dir: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(dir.join("lane.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_millis(200));
        let changes = Arc::new(Changes::default());
        let lane = Lane::open(options.clone(), Arc::clone(&changes)).await.unwrap();
        let mut turn = lane.begin().await.unwrap();
        turn.execute(raw_sql("CREATE TABLE tags (id INTEGER PRIMARY KEY)")).await.unwrap();
        turn.commit().await.unwrap();
        Self { lane, changes, options }
    }

    async fn other(&self) -> SqliteConnection {
        self.options.connect().await.unwrap()
    }

    /// What another connection sees.
    async fn rows(&self) -> Vec<i64> {
        query_scalar("SELECT id FROM tags ORDER BY id").fetch_all(&mut self.other().await).await.unwrap()
    }
}

async fn insert(turn: &mut Turn, id: i64) {
    sqlx::query("INSERT INTO tags (id) VALUES ($1)").bind(id).execute(&mut **turn).await.unwrap();
}

/// Two rows, in two statements of the message that begins the turn.
fn two_rows(id: i64) -> First {
    let sql = "INSERT INTO tags (id) VALUES ($1); INSERT INTO tags (id) VALUES ($1 + 1000) RETURNING id";
    First::of(sqlx::query(sql).bind(id)).unwrap()
}

/// Lets what was spawned go on, on this one thread, until it waits for its turn.
async fn in_the_queue() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// One that is done and waits for its commit while another, which is returned, has its turn.
async fn done_and_next(world: &World, id: i64) -> (tokio::task::JoinHandle<crate::Result<()>>, Turn) {
    let mut first = world.lane.begin().await.unwrap();
    insert(&mut first, id).await;
    let lane = world.lane.clone();
    let next = tokio::spawn(async move { lane.begin().await });
    in_the_queue().await;
    let first = tokio::spawn(first.commit());
    (first, next.await.unwrap().unwrap())
}

#[tokio::test]
async fn what_is_acknowledged_is_there_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    join_all((0..100).map(async |id| {
        let mut turn = world.lane.begin().await.unwrap();
        insert(&mut turn, id).await;
        if id % 3 == 0 {
            return;
        }
        turn.commit().await.unwrap();
        let found: Option<i64> = query_scalar("SELECT id FROM tags WHERE id = $1")
            .bind(id)
            .fetch_optional(&mut world.other().await)
            .await
            .unwrap();
        assert_eq!(found, Some(id));
    }))
    .await;
    assert_eq!(world.rows().await, (0..100).filter(|id| id % 3 != 0).collect::<Vec<_>>());
}

#[tokio::test]
async fn those_who_wait_share_a_commit_and_one_that_is_dropped_takes_nobody_along() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    let (first, mut second) = done_and_next(&world, 1).await;
    insert(&mut second, 2).await;
    assert!(world.rows().await.is_empty(), "the first waits for the second");
    assert!(!first.is_finished());
    drop(second);
    first.await.unwrap().unwrap();
    assert_eq!(world.rows().await, [1]);
}

#[tokio::test]
async fn what_somebody_saw_and_gave_up_is_there_when_they_look_again() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    world.lane.settled().await.unwrap();
    let (first, mut second) = done_and_next(&world, 1).await;
    let seen: i64 = query_scalar("SELECT COUNT(*) FROM tags").fetch_one(&mut *second).await.unwrap();
    assert_eq!(seen, 1);
    drop(second);
    world.lane.settled().await.unwrap();
    assert_eq!(world.rows().await, [1]);
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn whoever_has_the_turn_may_read_elsewhere_after_another_gave_up() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    let mut first = world.lane.begin().await.unwrap();
    insert(&mut first, 1).await;
    let next = || {
        let lane = world.lane.clone();
        tokio::spawn(async move { lane.begin().await })
    };
    let (second, third) = (next(), next());
    in_the_queue().await;
    let first = tokio::spawn(first.commit());
    drop(second.await.unwrap().unwrap());
    let third = third.await.unwrap().unwrap();
    timeout(Duration::from_secs(1), world.lane.settled()).await.unwrap().unwrap();
    assert_eq!(world.rows().await, [1], "what was seen is committed before the next turn");
    third.commit().await.unwrap();
    first.await.unwrap().unwrap();
}

#[tokio::test]
async fn where_the_database_rolls_a_shared_transaction_back_everybody_in_it_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    for keep in [true, false] {
        let (first, mut second) = done_and_next(&world, 1).await;
        // As a disk error does.
        second.execute(raw_sql("ROLLBACK")).await.unwrap();
        if keep {
            assert!(second.commit().await.is_err());
        } else {
            drop(second);
        }
        assert!(matches!(first.await.unwrap(), Err(Error::Unavailable(_))));
        assert!(world.rows().await.is_empty());
    }
    let (first, mut second) = done_and_next(&world, 1).await;
    second.execute(raw_sql("ROLLBACK")).await.unwrap();
    let lane = world.lane.clone();
    let third = tokio::spawn(async move {
        let mut third = lane.begin().await.unwrap();
        insert(&mut third, 3).await;
        third.commit().await
    });
    in_the_queue().await;
    drop(second);
    assert!(first.await.unwrap().is_err());
    third.await.unwrap().unwrap();
    assert_eq!(world.rows().await, [3]);
}

#[tokio::test]
async fn a_caller_that_goes_away_while_it_waits_or_begins_stops_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    for id in 0..200 {
        let mut turn = world.lane.begin().await.unwrap();
        insert(&mut turn, id).await;
        let impatient = async { drop(timeout(Duration::from_micros(10 * (id as u64 % 20)), world.lane.begin()).await) };
        let (done, ()) = tokio::join!(turn.commit(), impatient);
        done.unwrap();
    }
    assert_eq!(world.rows().await.len(), 200);
    // Nobody holds the write lock.
    sleep(Duration::from_millis(20)).await;
    world.other().await.execute(raw_sql("BEGIN IMMEDIATE; ROLLBACK")).await.unwrap();
}

#[tokio::test]
async fn a_commit_whose_caller_went_away_still_happens() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    let (first, second) = done_and_next(&world, 1).await;
    first.abort();
    drop(second);
    // Nobody waits for it, so nobody is told when.
    for _ in 0..250 {
        if world.rows().await == [1] {
            return;
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("nothing was committed: {:?}", world.rows().await);
}

#[tokio::test]
async fn a_closed_lane_has_committed_and_takes_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    let mut turn = world.lane.begin().await.unwrap();
    insert(&mut turn, 1).await;
    let (done, ()) = tokio::join!(turn.commit(), world.lane.close());
    done.unwrap();
    assert_eq!(world.rows().await, [1]);
    assert!(matches!(world.lane.begin().await, Err(Error::Unavailable(sqlx::Error::PoolClosed))));
}

#[tokio::test]
async fn the_version_moves_by_what_others_commit_alone() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    let before = world.lane.version().await.unwrap();
    let mut turn = world.lane.begin().await.unwrap();
    insert(&mut turn, 1).await;
    turn.commit().await.unwrap();
    assert_eq!(world.lane.version().await.unwrap(), before);
    world.other().await.execute(raw_sql("INSERT INTO tags (id) VALUES (2)")).await.unwrap();
    assert_ne!(world.lane.version().await.unwrap(), before);
}

#[tokio::test]
async fn changed_rows_are_known_before_the_commit_is_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    let before = world.changes.now();
    let mut turn = world.lane.begin().await.unwrap();
    insert(&mut turn, 7).await;
    assert!(!world.changes.since(before, &[Mark::of("tags", 7)]));
    turn.commit().await.unwrap();
    assert!(world.changes.since(before, &[Mark::of("tags", 7)]));
    assert!(!world.changes.since(before, &[Mark::of("tags", 8)]));
}

#[tokio::test]
async fn what_comes_with_the_beginning_is_committed_or_given_up_like_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    join_all((0..100).map(async |id| {
        let (mut turn, rows) = world.lane.begin_with(two_rows(id)).await.unwrap();
        let returned: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
        assert_eq!(returned, [id + 1000]);
        if id % 2 == 0 {
            insert(&mut turn, id + 2000).await;
        }
        match id % 3 {
            0 => drop(turn),
            _ => turn.commit().await.unwrap(),
        }
    }))
    .await;
    let kept = || (0..100).filter(|id| id % 3 != 0);
    let wanted: Vec<i64> =
        kept().chain(kept().map(|id| id + 1000)).chain(kept().filter(|id| id % 2 == 0).map(|id| id + 2000)).collect();
    assert_eq!(world.rows().await, wanted);
}

#[tokio::test]
async fn a_beginning_that_fails_takes_nobody_along() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    // Alone.
    let mut turn = world.lane.begin().await.unwrap();
    insert(&mut turn, 1001).await;
    turn.commit().await.unwrap();
    assert!(world.lane.begin_with(two_rows(1)).await.is_err(), "the second row is there");
    assert_eq!(world.rows().await, [1001], "and so the first is not");
    world.other().await.execute(raw_sql("BEGIN IMMEDIATE; ROLLBACK")).await.unwrap();
    // In a group, after one that is done and after one that failed as well, with others to come.
    let (first, second) = done_and_next(&world, 5).await;
    let begin = |id| {
        let lane = world.lane.clone();
        tokio::spawn(async move {
            let (mut turn, _) = lane.begin_with(two_rows(id)).await?;
            insert(&mut turn, id + 2000).await;
            turn.commit().await
        })
    };
    let others = [1, 1, 6, 1, 7].map(begin);
    in_the_queue().await;
    second.commit().await.unwrap();
    first.await.unwrap().unwrap();
    let [a, b, c, d, e] = others.map(async |other| other.await.unwrap().is_ok());
    assert_eq!([a.await, b.await, c.await, d.await, e.await], [false, false, true, false, true]);
    assert_eq!(world.rows().await, [5, 6, 7, 1001, 1006, 1007, 2006, 2007]);
}

#[tokio::test]
async fn a_beginning_in_a_group_that_the_database_rolled_back_fails_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    for keep in [true, false] {
        let mut first = world.lane.begin().await.unwrap();
        insert(&mut first, 1).await;
        let (lane, other) = (world.lane.clone(), world.lane.clone());
        let second = tokio::spawn(async move { lane.begin().await });
        let third = tokio::spawn(async move { other.begin_with(two_rows(3)).await.map(drop) });
        // Both are in the group of the first: its end waits behind them.
        in_the_queue().await;
        let first = tokio::spawn(first.commit());
        let mut second = second.await.unwrap().unwrap();
        second.execute(raw_sql("ROLLBACK")).await.unwrap();
        if keep {
            assert!(second.commit().await.is_err());
        } else {
            drop(second);
        }
        assert!(first.await.unwrap().is_err());
        // After one that gave up, the group is ended before the next begins.
        assert_eq!(third.await.unwrap().is_err(), keep);
        assert!(world.rows().await.is_empty());
    }
    let (turn, _) = world.lane.begin_with(two_rows(4)).await.unwrap();
    turn.commit().await.unwrap();
    assert_eq!(world.rows().await, [4, 1004]);
}

#[tokio::test]
async fn a_caller_that_goes_away_while_it_begins_with_something_leaves_nothing_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::new(dir.path()).await;
    for id in 0..200 {
        let (turn, _) = world.lane.begin_with(two_rows(id)).await.unwrap();
        let patience = Duration::from_micros(10 * (id as u64 % 20));
        let impatient = async { drop(timeout(patience, world.lane.begin_with(two_rows(id + 500))).await) };
        let (done, ()) = tokio::join!(turn.commit(), impatient);
        done.unwrap();
    }
    sleep(Duration::from_millis(20)).await;
    assert_eq!(world.rows().await.len(), 400);
    world.other().await.execute(raw_sql("BEGIN IMMEDIATE; ROLLBACK")).await.unwrap();
}

#[tokio::test]
async fn a_thread_that_says_nothing_has_committed_nothing() {
    use futures_util::stream::{empty, iter};
    use sqlx::{Either, sqlite::SqliteQueryResult};
    let end = || Ok(Either::Left(SqliteQueryResult::default()));
    assert!(matches!(ended(empty(), 1).await, Err(sqlx::Error::WorkerCrashed)));
    assert!(matches!(ended(iter([end()]), 2).await, Err(sqlx::Error::WorkerCrashed)));
    assert!(ended(iter([end(), end()]), 2).await.is_ok());
    assert!(matches!(ended(iter([Err(sqlx::Error::PoolClosed)]), 1).await, Err(sqlx::Error::PoolClosed)));
}

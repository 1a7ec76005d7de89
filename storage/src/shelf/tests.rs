#![allow(clippy::unwrap_used)]
use super::*;
use crate::db::testing;
use crate::{execute, tags};

/// A database with one tagged manifest, and a shelf over it.
async fn world(dir: &std::path::Path) -> (Db, Shelf, RepoName, Reference) {
    let db = testing::fresh_sqlite(dir).await;
    let mut tx = db.begin().await.unwrap();
    for sql in [
        "INSERT INTO orgs (id, slug, name, created_at) VALUES ('a', 'acme', 'A', 1)",
        "INSERT INTO projects (id, org_id, slug, public, sparse, created_at)
         VALUES ('p', 'a', 'defaultproject', FALSE, FALSE, 0)",
        "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
         VALUES ('r', 'a', 'p', 'acme/app', 1, 1)",
        "INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload)
         VALUES ('r', 'd', 'a/b', 2, 1, 'x', CAST('{}' AS BLOB))",
        "INSERT INTO tags (repository_id, name, digest, updated_at) VALUES ('r', 'v1', 'd', 1)",
    ] {
        execute!(tx, sql).unwrap();
    }
    tx.commit().await.unwrap();
    let shelf = Shelf::new(db.clone(), Objects::open(dir.join("blobs").to_str().unwrap()).unwrap(), 1 << 20);
    (db, shelf, "acme/app".parse().unwrap(), "v1".parse().unwrap())
}

#[tokio::test]
async fn what_is_kept_is_not_read_again_until_its_rows_change() {
    let dir = tempfile::tempdir().unwrap();
    let (db, shelf, repo, tag) = world(dir.path()).await;
    let first = shelf.manifest(&repo, &tag).await.unwrap().unwrap();
    assert!(Arc::ptr_eq(&first, &shelf.manifest(&repo, &tag).await.unwrap().unwrap()));
    // Another tag's row, and the repository's, are none of its rows.
    testing::run(&db, "INSERT INTO tags (repository_id, name, digest, updated_at) VALUES ('r', 'v2', 'd', 1)").await;
    testing::run(&db, "UPDATE repositories SET pushed_at = 2").await;
    assert!(Arc::ptr_eq(&first, &shelf.manifest(&repo, &tag).await.unwrap().unwrap()));
    testing::run(&db, "UPDATE manifests SET media_type = 'c/d'").await;
    assert_eq!(shelf.manifest(&repo, &tag).await.unwrap().unwrap().media_type, "c/d");
}

#[tokio::test]
async fn a_place_is_kept_until_the_project_changes_or_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (db, shelf, repo, _) = world(dir.path()).await;
    let first = shelf.place(&repo).await.unwrap().unwrap();
    assert_eq!((first.org_id.as_str(), first.project_id.as_str(), first.sparse), ("a", "p", false));
    assert!(Arc::ptr_eq(&first, &shelf.place(&repo).await.unwrap().unwrap()));
    testing::run(&db, "UPDATE projects SET sparse = TRUE").await;
    assert!(shelf.place(&repo).await.unwrap().unwrap().sparse);
    testing::run(&db, "UPDATE projects SET slug = '!' || id").await;
    assert!(shelf.place(&repo).await.unwrap().is_none());
    testing::run(&db, "UPDATE projects SET slug = 'defaultproject'").await;
    assert!(shelf.place(&repo).await.unwrap().is_some());
    testing::run(&db, "UPDATE orgs SET status = 'deleted'").await;
    assert!(shelf.place(&repo).await.unwrap().is_none());
}

#[tokio::test]
async fn what_another_process_commits_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let (db, shelf, repo, tag) = world(dir.path()).await;
    db.notice_others().await.unwrap();
    let kept = shelf.manifest(&repo, &tag).await.unwrap().unwrap();
    db.notice_others().await.unwrap();
    assert!(Arc::ptr_eq(&kept, &shelf.manifest(&repo, &tag).await.unwrap().unwrap()));
    let other = Db::connect(&format!("sqlite://{}", dir.path().join("test.db").display())).await.unwrap();
    let mut tx = other.begin().await.unwrap();
    assert!(tags::delete(&mut tx, "r", &"v1".parse().unwrap()).await.unwrap());
    tx.commit().await.unwrap();
    db.notice_others().await.unwrap();
    assert!(shelf.manifest(&repo, &tag).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_among_writers_never_see_what_was_before_an_acknowledged_change() {
    let dir = tempfile::tempdir().unwrap();
    let (db, shelf, repo, tag) = world(dir.path()).await;
    let acknowledged = Arc::new(std::sync::atomic::AtomicI64::new(0));
    let writer = tokio::spawn({
        let (db, acknowledged) = (db.clone(), Arc::clone(&acknowledged));
        async move {
            for number in 1..200_i64 {
                let mut tx = db.begin().await.unwrap();
                execute!(tx, "UPDATE manifests SET size = $1", number).unwrap();
                tx.commit().await.unwrap();
                acknowledged.store(number, std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    while !writer.is_finished() {
        let least = acknowledged.load(std::sync::atomic::Ordering::SeqCst);
        let seen = shelf.manifest(&repo, &tag).await.unwrap().unwrap().size;
        assert!(seen >= least || least == 0, "saw {seen} after {least} was acknowledged");
        tokio::task::yield_now().await;
    }
    writer.await.unwrap();
}

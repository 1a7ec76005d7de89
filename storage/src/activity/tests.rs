//! Counters and measures on both databases.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::db::testing::{fresh, run};
use crate::names::RepoName;
use crate::removal::{Remover, bury_project, bury_repository};
use crate::{projects, repositories};

/// A Monday at noon.
const NOW: i64 = 1_790_000_000;

struct World {
    db: Db,
    clock: Clock,
    org: String,
    project: String,
    _dir: tempfile::TempDir,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let db = fresh(dir.path()).await;
    let mut tx = db.begin().await.unwrap();
    let slug = "acme".parse().unwrap();
    let org = orgs::create(&mut tx, &orgs::NewOrg { slug: &slug, name: "Acme" }, NOW).await.unwrap();
    let (slug, settings) = ("web".parse().unwrap(), projects::ProjectSettings::default());
    let web = projects::NewProject { org_id: &org.id, slug: &slug, settings, description: "" };
    let project = projects::create(&mut tx, &web, NOW).await.unwrap();
    tx.commit().await.unwrap();
    World { db, clock: Clock::manual(NOW), org: org.id, project: project.id, _dir: dir }
}

impl World {
    async fn repository(&self, name: &str) -> String {
        let name: RepoName = name.parse().unwrap();
        let mut tx = self.db.begin().await.unwrap();
        let made = repositories::ensure(&mut tx, &self.org, &self.project, &name, NOW).await.unwrap();
        tx.commit().await.unwrap();
        made.id
    }

    async fn pull(&self, pulls: &[(&str, i64)]) {
        let pulls: Vec<Pull<'_>> = pulls
            .iter()
            .map(|(name, at)| Pull { repository: name, digest: "sha256:a".into(), at: *at, by: "ann", count: 1 })
            .collect();
        let mut tx = self.db.begin().await.unwrap();
        count_pulls(&mut tx, &pulls).await.unwrap();
        tx.commit().await.unwrap();
    }

    async fn days(&self) -> (Vec<(i64, i64)>, Vec<(i64, i64)>) {
        let mut session = self.db.read().await.unwrap();
        let short = |days: Vec<Day>| days.into_iter().map(|d| (d.day, d.pulls)).collect();
        (
            short(days_of_org(&mut session, &self.org, 0).await.unwrap()),
            short(days_of_project(&mut session, &self.project, 0).await.unwrap()),
        )
    }
}

#[tokio::test]
async fn pulls_are_counted_by_day_for_repository_project_and_organization_and_go_with_them() {
    let w = world().await;
    let (app, api) = (w.repository("acme/web/app").await, w.repository("acme/web/api").await);
    let today = day_of(NOW);
    w.pull(&[("acme/web/app", NOW), ("acme/web/app", NOW), ("acme/web/api", NOW), ("acme/web/gone", NOW)]).await;
    w.pull(&[("acme/web/app", NOW), ("acme/web/api", NOW - DAY)]).await;
    w.pull(&[]).await;
    let expected = vec![(today - 1, 1), (today, 4)];
    assert_eq!(w.days().await, (expected.clone(), expected.clone()));
    let mut session = w.db.read().await.unwrap();
    let top = most_pulled(&mut session, &w.org, today - 6, 10).await.unwrap();
    let names: Vec<(&str, i64)> = top.iter().map(|p| (p.name.as_str(), p.pulls)).collect();
    assert_eq!(names, [("acme/web/app", 3), ("acme/web/api", 2)]);
    assert_eq!(most_pulled(&mut session, &w.org, today - 6, 1).await.unwrap().len(), 1);
    for project in [Some(w.project.as_str()), None] {
        let rows = repository_days(&mut session, &w.org, project, today - 6, 10).await.unwrap();
        assert_eq!(rows.iter().map(|row| row.pulls).sum::<i64>(), 5);
        assert_eq!(repository_days(&mut session, &w.org, project, today - 6, 2).await.unwrap().len(), 2);
    }
    drop(session);
    let remover = Remover::new(w.db.clone(), w.clock.clone());
    let mut tx = w.db.begin().await.unwrap();
    bury_repository(&mut tx, &app).await.unwrap();
    tx.commit().await.unwrap();
    remover.run().await.unwrap();
    let mut session = w.db.read().await.unwrap();
    let left = repository_days(&mut session, &w.org, None, 0, 10).await.unwrap();
    assert!(left.iter().all(|row| row.name == "acme/web/api") && left.len() == 2);
    let kept = query_all!(session, (String,), "SELECT repository_id FROM repository_days").unwrap();
    assert!(kept.iter().all(|(id,)| *id == api));
    drop(session);
    let mut tx = w.db.begin().await.unwrap();
    bury_project(&mut tx, &w.project).await.unwrap();
    tx.commit().await.unwrap();
    remover.run().await.unwrap();
    // What the organization saw it saw.
    assert_eq!(w.days().await, (expected, Vec::new()));
}

#[tokio::test]
async fn bytes_are_measured_once_a_day_however_often_they_are_shared() {
    let w = world().await;
    let (app, api) = (w.repository("acme/web/app").await, w.repository("acme/web/api").await);
    let mut tx = w.db.begin().await.unwrap();
    for (digest, size) in [("sha256:a", 100_i64), ("sha256:b", 20)] {
        let sql = "INSERT INTO blobs (org_id, digest, size, object_key, created_at) VALUES ($1, $2, $3, $2, 1)";
        execute!(tx, sql, w.org.as_str(), digest, size).unwrap();
    }
    for (repository, digest) in [(&app, "sha256:a"), (&api, "sha256:a"), (&api, "sha256:b")] {
        let sql = "INSERT INTO blob_links (repository_id, digest, org_id, lease_until) VALUES ($1, $2, $3, 0)";
        execute!(tx, sql, repository.as_str(), digest, w.org.as_str()).unwrap();
    }
    tx.commit().await.unwrap();
    let measurer = Measurer::new(w.db.clone(), w.clock.clone());
    measurer.run().await.unwrap();
    let read = async || {
        let mut session = w.db.read().await.unwrap();
        let days = days_of_org(&mut session, &w.org, 0).await.unwrap();
        (days, largest_projects(&mut session, &w.org, 10).await.unwrap())
    };
    let today = day_of(NOW);
    let of = |day, bytes| Day { day, pulls: 0, bytes: Some(bytes) };
    assert_eq!(read().await, (vec![of(today, 120)], vec![("web".to_owned(), 120)]));
    run(&w.db, "DELETE FROM blob_links WHERE digest = 'sha256:b'").await;
    run(&w.db, "DELETE FROM blobs WHERE digest = 'sha256:b'").await;
    measurer.run().await.unwrap();
    assert_eq!(read().await.0, [of(today, 120)], "not so soon again");
    w.clock.advance(DAY);
    measurer.run().await.unwrap();
    assert_eq!(read().await, (vec![of(today, 120), of(today + 1, 100)], vec![("web".to_owned(), 100)]));
    w.clock.advance(DAY * KEPT);
    measurer.run().await.unwrap();
    assert_eq!(read().await.0.len(), 2, "the oldest is forgotten");
}

#[tokio::test]
async fn what_home_asks_for_is_found_by_index() {
    let dir = tempfile::tempdir().unwrap();
    let db = crate::db::testing::fresh_sqlite(dir.path()).await;
    let mut session = db.read().await.unwrap();
    for sql in [
        "EXPLAIN QUERY PLAN SELECT day, pulls, bytes FROM org_days WHERE org_id = 'o' AND day >= 1 ORDER BY day LIMIT 400",
        "EXPLAIN QUERY PLAN SELECT day, pulls, bytes FROM project_days WHERE project_id = 'p' AND day >= 1 ORDER BY day",
        "EXPLAIN QUERY PLAN SELECT repository_id FROM repository_days WHERE org_id = 'o' AND day = 1 ORDER BY pulls DESC LIMIT 20",
        "EXPLAIN QUERY PLAN SELECT day FROM repository_days WHERE project_id = 'p' AND day >= 1 ORDER BY day DESC LIMIT 9",
        "EXPLAIN QUERY PLAN SELECT * FROM api_keys WHERE org_id = 'o' AND expires_at > 1 AND expires_at <= 2
         ORDER BY expires_at, id LIMIT 5",
    ] {
        let plan = query_all!(session, (i64, i64, i64, String), sql).unwrap();
        assert!(plan.iter().all(|(.., step)| !step.starts_with("SCAN")), "{sql}: {plan:?}");
    }
}

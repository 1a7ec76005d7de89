#![allow(clippy::unwrap_used)]

use super::*;
use crate::audit::{self, NewEvent};
use crate::db::testing;
use crate::digest::digest_of;
use crate::error::Error;
use crate::manifests::{self, NewManifest};
use crate::names::{Algorithm, Digest, Reference, RepoName, Tag};
use crate::objects::Objects;
use crate::orgs::{NewOrg, Org};
use crate::projects::{self, NewProject, Project, ProjectSettings};
use crate::repositories::{self, RepositoryFilter};
use crate::shelf::Shelf;
use crate::users::{self, NewUser};
use crate::{memberships, query_one};

struct World {
    _dir: tempfile::TempDir,
    db: Db,
    remover: Remover,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let db = testing::fresh(dir.path()).await;
    let remover = Remover::new(db.clone(), Clock::manual(1_000));
    World { _dir: dir, db, remover }
}

impl World {
    async fn org(&self, slug: &str) -> (Org, Project) {
        let mut tx = self.db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &slug.parse().unwrap(), name: slug }, 1).await.unwrap();
        let slug = "web".parse().unwrap();
        let new = NewProject { org_id: &org.id, slug: &slug, settings: ProjectSettings::default(), description: "" };
        let project = projects::create(&mut tx, &new, 1).await.unwrap();
        tx.commit().await.unwrap();
        (org, project)
    }

    /// A repository with a blob, a manifest that names it, and a tag.
    async fn push(&self, project: &Project, name: &str) -> Digest {
        let name: RepoName = name.parse().unwrap();
        let digest = digest_of(Algorithm::Sha256, name.canonical().as_bytes());
        let mut tx = self.db.begin().await.unwrap();
        let repository = repositories::ensure(&mut tx, &project.org_id, &project.id, &name, 1).await.unwrap();
        execute!(
            tx,
            "INSERT INTO blobs (org_id, digest, size, object_key, created_at) VALUES ($1, $2, 7, $3, 1)",
            project.org_id.as_str(),
            digest.as_str(),
            crate::names::new_id(),
        )
        .unwrap();
        blobs::link(&mut tx, &repository.id, &project.org_id, &digest, 5).await.unwrap();
        let new = NewManifest {
            digest: &digest,
            media_type: "a/b",
            payload: b"{}",
            blobs: vec![digest.clone()],
            children: vec![],
            subject: None,
            artifact_type: None,
            annotations: None,
            pushed_by: "x",
            tags: &["v1".parse::<Tag>().unwrap()],
        };
        manifests::put(&mut tx, &repository, &new, 1, 5).await.unwrap();
        tx.commit().await.unwrap();
        digest
    }

    async fn count(&self, sql: &'static str) -> i64 {
        let mut session = self.db.read().await.unwrap();
        let (count,): (i64,) = query_one!(session, (i64,), sql).unwrap();
        count
    }

    async fn member(&self, org: &Org, name: &str) -> String {
        let mut tx = self.db.begin().await.unwrap();
        let user = match users::find_by_name(&mut tx, name).await.unwrap() {
            Some(user) => user,
            None => {
                let new = NewUser { name, kind: "local", operator: false, password_hash: None, temporary_until: None };
                users::create(&mut tx, &new, 1).await.unwrap()
            }
        };
        memberships::create(&mut tx, &org.id, &user.id, 1).await.unwrap();
        tx.commit().await.unwrap();
        user.id
    }
}

#[tokio::test]
async fn a_buried_repository_is_out_of_sight_at_once_and_its_rows_go_later() {
    let w = world().await;
    let (org, project) = w.org("acme").await;
    let name: RepoName = "acme/web/app".parse().unwrap();
    w.push(&project, "acme/web/app").await;
    w.push(&project, "acme/web/other").await;
    let shelf = Shelf::new(w.db.clone(), Objects::open(w._dir.path().to_str().unwrap()).unwrap(), 1 << 20);
    let tag: Reference = "v1".parse().unwrap();
    assert!(shelf.manifest(&name, &tag).await.unwrap().is_some());
    let mut tx = w.db.begin().await.unwrap();
    let id = repositories::find(&mut tx, &name).await.unwrap().unwrap().id;
    assert!(bury_repository(&mut tx, &id).await.unwrap());
    assert!(!bury_repository(&mut tx, &id).await.unwrap());
    assert!(repositories::find(&mut tx, &name).await.unwrap().is_none());
    let filter = RepositoryFilter { org_id: Some(&org.id), project_id: None };
    let listed = repositories::list(&mut tx, &filter, "", 9).await.unwrap();
    assert_eq!(listed.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["acme/web/other"]);
    assert_eq!(orgs::usage(&mut tx, &org.id).await.unwrap(), orgs::Usage { users: 0, repositories: 1, bytes: 14 });
    tx.commit().await.unwrap();
    assert!(shelf.manifest(&name, &tag).await.unwrap().is_none());
    // The name is free again while the rest still goes.
    let mut tx = w.db.begin().await.unwrap();
    repositories::ensure(&mut tx, &org.id, &project.id, &name, 2).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(w.remover.run().await.unwrap(), Removed { repositories: 1, ..Removed::default() });
    assert!(w.remover.run().await.unwrap().is_idle());
    assert_eq!(w.count("SELECT COUNT(*) FROM manifests").await, 1);
    assert_eq!(w.count("SELECT COUNT(*) FROM blobs WHERE doomed_at = 1000").await, 1);
    assert_eq!(w.count("SELECT COUNT(*) FROM repositories").await, 2);
}

#[tokio::test]
async fn a_buried_project_goes_with_its_repositories_and_its_roles() {
    let w = world().await;
    let (org, project) = w.org("acme").await;
    w.push(&project, "acme/web/app").await;
    let user = w.member(&org, "ann@example.com").await;
    let mut tx = w.db.begin().await.unwrap();
    execute!(
        tx,
        "INSERT INTO bindings (id, org_id, user_id, role, project_id, namespaces, builtin, created_at)
         VALUES ('b', $1, $2, 'PROJECT_ADMIN', $3, '[]', FALSE, 1)",
        org.id.as_str(),
        user.as_str(),
        project.id.as_str(),
    )
    .unwrap();
    let before = users::find(&mut tx, &user).await.unwrap().unwrap().grants_epoch;
    assert!(bury_project(&mut tx, &project.id).await.unwrap().is_some());
    assert_eq!(bury_project(&mut tx, &project.id).await.unwrap(), None);
    assert!(users::find(&mut tx, &user).await.unwrap().unwrap().grants_epoch > before);
    assert!(projects::find_by_slug(&mut tx, &org.id, "web").await.unwrap().is_none());
    assert!(projects::find(&mut tx, &project.id).await.unwrap().is_none());
    assert!(projects::find_by_slug(&mut tx, &org.id, &format!("!{}", project.id)).await.unwrap().is_none());
    assert!(projects::list(&mut tx, &org.id, None, "", 9).await.unwrap().is_empty());
    // An upload that was about to end can make no repository in it; one that is there all the same goes too.
    let late = "acme/web/late".parse().unwrap();
    let made = repositories::ensure(&mut tx, &org.id, &project.id, &late, 2).await;
    assert!(matches!(made, Err(Error::NotFound("project"))));
    execute!(tx, "DELETE FROM repositories WHERE name = 'acme/web/late'").unwrap();
    execute!(
        tx,
        "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
         VALUES ('late', $1, $2, 'acme/web/late', 2, 2)",
        org.id.as_str(),
        project.id.as_str(),
    )
    .unwrap();
    // So do sessions whose first bytes came meanwhile.
    execute!(
        tx,
        "INSERT INTO uploads (id, org_id, project_id, repository, user_id, epochs, object_key, received, algorithm,
                              writer_until, created_at, expires_at)
         VALUES ('up', $1, $2, 'acme/web/late', 'u', '0.0', 'o', 0, 'sha256', 0, 0, 9999)",
        org.id.as_str(),
        project.id.as_str(),
    )
    .unwrap();
    tx.commit().await.unwrap();
    assert_eq!(w.remover.run().await.unwrap(), Removed { repositories: 2, ..Removed::default() });
    let mut tx = w.db.begin().await.unwrap();
    assert_eq!(crate::uploads::expire(&mut tx, 1_000, 9).await.unwrap(), 1);
    tx.commit().await.unwrap();
    assert_eq!(w.remover.run().await.unwrap(), Removed { projects: 1, ..Removed::default() });
    assert_eq!(w.count("SELECT COUNT(*) FROM projects").await, 0);
}

#[tokio::test]
async fn a_repository_that_waited_for_its_project_to_be_buried_is_not_made() {
    let w = world().await;
    let (org, project) = w.org("acme").await;
    let mut burial = w.db.begin().await.unwrap();
    bury_project(&mut burial, &project.id).await.unwrap();
    let db = w.db.clone();
    let made = tokio::spawn(async move {
        let mut tx = db.begin().await.unwrap();
        let name = "acme/web/late".parse().unwrap();
        repositories::ensure(&mut tx, &org.id, &project.id, &name, 2).await.map(drop)
    });
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    burial.commit().await.unwrap();
    assert!(matches!(made.await.unwrap(), Err(Error::NotFound("project"))));
    assert_eq!(w.count("SELECT COUNT(*) FROM repositories").await, 0);
}

#[tokio::test]
async fn an_organization_goes_down_to_its_slug_and_takes_nobody_elses() {
    let w = world().await;
    let (acme, project) = w.org("acme").await;
    let (other, others) = w.org("other").await;
    w.push(&project, "acme/web/app").await;
    w.push(&others, "other/web/app").await;
    let ann = w.member(&acme, "ann@example.com").await;
    let both = w.member(&acme, "both@example.com").await;
    w.member(&other, "both@example.com").await;
    let mut tx = w.db.begin().await.unwrap();
    for sql in [
        "INSERT INTO groups (id, org_id, name, description, version, created_at) VALUES ('g', $1, 'G', '', 1, 1)",
        "INSERT INTO custom_roles (id, org_id, name, description, base, added, removed, repositories, tags, version, created_at)
         VALUES ('c', $1, 'c', '', 'PROJECT_ADMIN', '[]', '[]', '[]', '[]', 1, 1)",
        "INSERT INTO mails (id, org_id, recipient, kind, sealed, attempts, next_at, created_at)
         VALUES ('m', $1, 'a@b.c', 'invite', '', 0, 0, 1)",
    ] {
        execute!(tx, sql, acme.id.as_str()).unwrap();
    }
    for sql in [
        "INSERT INTO group_members (group_id, user_id, org_id, created_at) VALUES ('g', $2, $1, 1)",
        "INSERT INTO bindings (id, org_id, user_id, role, namespaces, builtin, created_at)
         VALUES ('b', $1, $2, 'ADMIN', '[]', FALSE, 1)",
        "INSERT INTO api_keys (id, org_id, user_id, name, secret_hash, created_at) VALUES ('k', $1, $2, 'k', 'h', 1)",
        "INSERT INTO trusted_issuers (id, org_id, user_id, name, issuer, audience, rules, version, created_at)
         VALUES ('t', $1, $2, 't', 'i', 'a', '{}', 1, 1)",
    ] {
        execute!(tx, sql, acme.id.as_str(), ann.as_str()).unwrap();
    }
    for org_id in [acme.id.clone(), other.id.clone(), String::new()] {
        audit::append(&mut tx, NewEvent { org_id, ..NewEvent::default() }).await.unwrap();
    }
    judge_members_again(&mut tx, &acme.id).await.unwrap();
    assert!(users::find(&mut tx, &both).await.unwrap().unwrap().grants_epoch > 0);
    orgs::set_status(&mut tx, &acme.id, &[orgs::ACTIVE], orgs::DELETING, Some(500)).await.unwrap();
    assert!(orgs::list_due(&mut tx, 499).await.unwrap().is_empty());
    assert_eq!(orgs::list_due(&mut tx, 500).await.unwrap().len(), 1);
    tx.commit().await.unwrap();
    // Not before somebody says so.
    assert!(w.remover.run().await.unwrap().is_idle());
    let mut tx = w.db.begin().await.unwrap();
    orgs::set_status(&mut tx, &acme.id, &[orgs::DELETING], orgs::REMOVING, None).await.unwrap();
    tx.commit().await.unwrap();

    // The bytes first: garbage collection takes the blob, then the rest may go.
    let removed = w.remover.run().await.unwrap();
    assert_eq!((removed.repositories, removed.members, removed.users, removed.orgs), (1, 2, 1, 0));
    assert_eq!(w.count("SELECT COUNT(*) FROM blobs WHERE doomed_at = 0").await, 1);
    let mut tx = w.db.begin().await.unwrap();
    execute!(tx, "DELETE FROM blobs WHERE doomed_at = 0").unwrap();
    tx.commit().await.unwrap();
    assert_eq!(w.remover.run().await.unwrap().orgs, 1);
    assert!(w.remover.run().await.unwrap().is_idle());

    let mut session = w.db.read().await.unwrap();
    assert!(orgs::find_by_slug(&mut session, "acme").await.unwrap().is_none());
    assert!(orgs::find(&mut session, &acme.id).await.unwrap().is_none());
    assert_eq!(orgs::list(&mut session, "", 9).await.unwrap().len(), 1);
    assert!(users::find(&mut session, &ann).await.unwrap().is_none());
    assert!(users::find(&mut session, &both).await.unwrap().is_some());
    drop(session);
    // The slug is nobody else's, ever.
    let mut tx = w.db.begin().await.unwrap();
    let again = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "x" }, 9).await;
    assert!(again.unwrap_err().is_conflict());
    drop(tx);
    for (sql, left) in [
        ("SELECT COUNT(*) FROM audit_bundles", 2),
        (
            "SELECT COUNT(*) FROM audit_terms t WHERE NOT EXISTS
             (SELECT 1 FROM audit_bundles b WHERE b.org_id = t.org_id AND b.last_seq = t.last_seq)",
            0,
        ),
        ("SELECT COUNT(*) FROM audit_heads", 2),
        ("SELECT COUNT(*) FROM audit_spans", 2),
        ("SELECT COUNT(*) FROM projects", 1),
        ("SELECT COUNT(*) FROM repositories", 1),
        ("SELECT COUNT(*) FROM manifests", 1),
        ("SELECT COUNT(*) FROM blobs", 1),
        ("SELECT COUNT(*) FROM memberships", 1),
        ("SELECT COUNT(*) FROM bindings", 0),
        ("SELECT COUNT(*) FROM groups", 0),
        ("SELECT COUNT(*) FROM custom_roles", 0),
        ("SELECT COUNT(*) FROM mails", 0),
        ("SELECT COUNT(*) FROM orgs WHERE status = 'deleted' AND name = ''", 1),
    ] {
        assert_eq!(w.count(sql).await, left, "{sql}");
    }
}

#[tokio::test]
async fn a_repository_that_is_made_while_its_project_is_deleted_goes_with_it_and_is_counted() {
    let w = world().await;
    let (org, project) = w.org("acme").await;
    let mut push = w.db.begin().await.unwrap();
    let name = "acme/web/late".parse().unwrap();
    repositories::ensure(&mut push, &org.id, &project.id, &name, 2).await.unwrap();
    let db = w.db.clone();
    let burial = tokio::spawn(async move {
        let mut tx = db.begin().await.unwrap();
        let buried = bury_project(&mut tx, &project.id).await.unwrap();
        tx.commit().await.unwrap();
        buried
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    push.commit().await.unwrap();
    assert_eq!(burial.await.unwrap(), Some(1));
}

/// The id of a repository that is buried, and of whose manifests nothing is left.
async fn with_links_alone(w: &World, name: &str) -> String {
    let mut tx = w.db.begin().await.unwrap();
    let id = repositories::find(&mut tx, &name.parse().unwrap()).await.unwrap().unwrap().id;
    bury_repository(&mut tx, &id).await.unwrap();
    // Its references, then its manifests.
    for _ in 0..2 {
        assert!(!empty_repository(&mut tx, &id, 9).await.unwrap());
    }
    tx.commit().await.unwrap();
    id
}

#[tokio::test]
async fn of_two_who_take_a_blobs_last_links_away_one_dooms_it() {
    let w = world().await;
    let (org, project) = w.org("acme").await;
    let shared = w.push(&project, "acme/web/one").await;
    w.push(&project, "acme/web/two").await;
    let mut tx = w.db.begin().await.unwrap();
    let two = repositories::find(&mut tx, &"acme/web/two".parse().unwrap()).await.unwrap().unwrap().id;
    blobs::link(&mut tx, &two, &org.id, &shared, 5).await.unwrap();
    tx.commit().await.unwrap();
    let one = with_links_alone(&w, "acme/web/one").await;
    assert_eq!(with_links_alone(&w, "acme/web/two").await, two);
    let mut first = w.db.begin().await.unwrap();
    assert!(!empty_repository(&mut first, &one, 9).await.unwrap());
    let db = w.db.clone();
    let second = tokio::spawn(async move {
        let mut tx = db.begin().await.unwrap();
        assert!(!empty_repository(&mut tx, &two, 9).await.unwrap());
        tx.commit().await.unwrap();
    });
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    first.commit().await.unwrap();
    second.await.unwrap();
    assert_eq!(w.count("SELECT COUNT(*) FROM blob_links").await, 0);
    assert_eq!(w.count("SELECT COUNT(*) FROM blobs WHERE doomed_at IS NOT NULL").await, 2);
}

#[tokio::test]
async fn one_transaction_takes_so_many_references_and_no_more() {
    let w = world().await;
    let (_, project) = w.org("acme").await;
    w.push(&project, "acme/web/app").await;
    let mut tx = w.db.begin().await.unwrap();
    let id = repositories::find(&mut tx, &"acme/web/app".parse().unwrap()).await.unwrap().unwrap().id;
    let children = (0..REFERENCES + 500).map(|n| digest_of(Algorithm::Sha256, &n.to_le_bytes())).collect();
    let digest = digest_of(Algorithm::Sha256, b"an index");
    let index = NewManifest {
        digest: &digest,
        media_type: "a/b",
        payload: b"an index",
        blobs: vec![],
        children,
        subject: None,
        artifact_type: None,
        annotations: None,
        pushed_by: "",
        tags: &[],
    };
    let repository = repositories::find_by_id(&mut tx, &id).await.unwrap().unwrap();
    manifests::put(&mut tx, &repository, &index, 1, 5).await.unwrap();
    bury_repository(&mut tx, &id).await.unwrap();
    assert!(!empty_repository(&mut tx, &id, 9).await.unwrap());
    tx.commit().await.unwrap();
    // With the one of the other manifest there were so many and 501 more.
    assert_eq!(w.count("SELECT COUNT(*) FROM manifest_references").await, 501);
    assert_eq!(w.count("SELECT COUNT(*) FROM manifests").await, 2);
    assert_eq!(w.remover.run().await.unwrap().repositories, 1);
}

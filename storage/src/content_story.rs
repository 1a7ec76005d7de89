//! One story over every content function, told on `SQLite` and, where `TEST_DATABASE_URL` is set, on `PostgreSQL`.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;

use crate::blobs;
use crate::clock::Clock;
use crate::db::{Db, testing};
use crate::digest::digest_of;
use crate::error::Error;
use crate::gc::Collector;
use crate::manifests::{self, NewManifest, Put};
use crate::names::{Algorithm, Digest, Reference, RepoName, Tag};
use crate::objects::Objects;
use crate::repositories::{self, RepositoryFilter};
use crate::uploads::{Committed, Lifetimes, NewUpload, Target, Uploads};
use crate::verify::{Problem, Verifier};
use crate::{execute, query_one, referrers, tags};

const GRACE: i64 = 100;

struct World {
    dir: tempfile::TempDir,
    db: Db,
    objects: Objects,
    clock: Clock,
    uploads: Uploads,
    gc: Collector,
    repo: RepoName,
}

async fn world() -> World {
    let dir = tempfile::tempdir().unwrap();
    let db = testing::fresh(dir.path()).await;
    let mut tx = db.begin().await.unwrap();
    for org in ["acme", "other"] {
        execute!(tx, "INSERT INTO orgs (id, slug, name, created_at) VALUES ($1, $1, $1, 0)", org).unwrap();
        execute!(
            tx,
            "INSERT INTO projects (id, org_id, slug, public, sparse, created_at)
             VALUES ($1, $2, 'defaultproject', FALSE, FALSE, 0)",
            format!("{org}-default"),
            org
        )
        .unwrap();
    }
    tx.commit().await.unwrap();
    let objects = Objects::open(dir.path().join("blobs").to_str().unwrap()).unwrap();
    let clock = Clock::manual(1_000_000);
    let lifetimes = Lifetimes { grace: GRACE, upload_idle: 1000, discard: 10 };
    let uploads = Uploads::new(db.clone(), objects.clone(), clock.clone(), lifetimes);
    let gc = Collector::new(db.clone(), objects.clone(), clock.clone(), lifetimes);
    World { dir, db, objects, clock, uploads, gc, repo: "acme/app".parse().unwrap() }
}

fn sha256(content: &[u8]) -> Digest {
    digest_of(Algorithm::Sha256, content)
}

impl World {
    async fn begin(&self, org: &str) -> String {
        let new = NewUpload {
            org_id: org,
            project_id: &format!("{org}-default"),
            repository: self.repo.canonical(),
            user_id: "u",
            api_key_id: None,
            epochs: "0.0",
            algorithm: Algorithm::Sha256,
        };
        self.uploads.begin(&new).await.unwrap().id
    }

    async fn push_blob(&self, content: &'static [u8]) -> Digest {
        let digest = sha256(content);
        let id = self.begin("acme").await;
        let mut writer = self.uploads.claim(&id).await.unwrap();
        writer.write(Bytes::from_static(content)).await.unwrap();
        let target = Target { repository: &self.repo, digest: &digest };
        assert_eq!(writer.commit(&target).await.unwrap(), Committed::Done { size: content.len() as u64 });
        digest
    }

    async fn push_manifest(&self, payload: &[u8], blobs: Vec<Digest>, subject: Option<&Digest>, tags: &[Tag]) -> Put {
        let now = self.clock.now();
        let digest = sha256(payload);
        let mut tx = self.db.begin().await.unwrap();
        let repository = repositories::ensure(&mut tx, "acme", "acme-default", &self.repo, now).await.unwrap();
        let new = NewManifest {
            digest: &digest,
            media_type: "application/vnd.oci.image.manifest.v1+json",
            payload,
            blobs,
            children: vec![],
            subject,
            artifact_type: Some("a/b"),
            annotations: None,
            pushed_by: "dev@example.com",
            tags,
        };
        let put = manifests::put(&mut tx, &repository, &new, now, now + GRACE).await.unwrap();
        if put == Put::Stored {
            tx.commit().await.unwrap();
        }
        put
    }

    async fn has_blob(&self, digest: &Digest) -> bool {
        let mut session = self.db.read().await.unwrap();
        blobs::find(&mut session, &self.repo, digest).await.unwrap().is_some()
    }

    async fn read_blob(&self, digest: &Digest) -> Vec<u8> {
        let mut session = self.db.read().await.unwrap();
        let blob = blobs::find(&mut session, &self.repo, digest).await.unwrap().unwrap();
        let mut content = vec![0; usize::try_from(blob.size).unwrap()];
        self.objects.open_object(&blob.object_key).unwrap().read_at(&mut content, 0).unwrap();
        content
    }

    fn files(&self) -> usize {
        Objects::folders().map(|folder| self.objects.list(&folder).unwrap().len()).sum()
    }
}

#[tokio::test]
async fn an_image_is_pushed_listed_and_read() {
    let w = world().await;
    let (layer, config) = (w.push_blob(b"layer").await, w.push_blob(b"config").await);
    assert_eq!(w.read_blob(&layer).await, b"layer");
    let names: Vec<Tag> = ["v1", "v10", "v2", "V1"].iter().map(|t| t.parse().unwrap()).collect();
    let missing = sha256(b"never pushed");
    let put = w.push_manifest(b"{}", vec![layer.clone(), missing.clone()], None, &names).await;
    assert_eq!(put, Put::MissingBlobs(vec![missing]));
    let subject = sha256(b"subject that never came");
    assert_eq!(w.push_manifest(b"{}", vec![layer, config], Some(&subject), &names).await, Put::Stored);

    let mut session = w.db.read().await.unwrap();
    let listed = tags::list(&mut session, &w.repo, "", 10).await.unwrap();
    assert_eq!(listed.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["V1", "v1", "v10", "v2"]);
    let listed = tags::list(&mut session, &w.repo, "v1", 1).await.unwrap();
    assert_eq!(listed[0].name, "v10");
    for reference in ["v1".parse::<Reference>().unwrap(), Reference::Digest(sha256(b"{}"))] {
        let found = manifests::find(&mut session, &w.repo, &reference).await.unwrap().unwrap();
        assert_eq!((found.payload.as_slice(), found.size), (b"{}".as_slice(), 2));
    }
    let about = referrers::list(&mut session, &w.repo, &subject, Some("a/b"), "", 10).await.unwrap();
    assert_eq!(about.len(), 1);
    assert!(referrers::list(&mut session, &w.repo, &subject, Some("c/d"), "", 10).await.unwrap().is_empty());
    assert!(referrers::list(&mut session, &w.repo, &subject, None, &about[0].digest, 10).await.unwrap().is_empty());
    for filter in [
        RepositoryFilter::default(),
        RepositoryFilter { org_id: Some("acme"), project_id: None },
        RepositoryFilter { org_id: None, project_id: Some("acme-default") },
    ] {
        assert_eq!(repositories::list(&mut session, &filter, "", 5).await.unwrap().len(), 1);
        assert!(repositories::list(&mut session, &filter, "acme/app", 5).await.unwrap().is_empty());
    }
    let elsewhere = RepositoryFilter { org_id: Some("other"), project_id: None };
    assert!(repositories::list(&mut session, &elsewhere, "", 5).await.unwrap().is_empty());
    let layer = sha256(b"layer");
    for (org, project, expected) in
        [("acme", None, true), ("acme", Some("acme-default"), true), ("acme", Some("x"), false), ("other", None, false)]
    {
        assert_eq!(blobs::is_linked_in(&mut session, org, project, &layer).await.unwrap(), expected);
    }
    let known = manifests::existing(&mut session, &w.repo, [sha256(b"{}"), layer].iter()).await.unwrap();
    assert_eq!(known.len(), 1);
}

#[tokio::test]
async fn an_upload_resumes_at_the_acknowledged_byte() {
    let w = world().await;
    let id = w.begin("acme").await;
    let mut writer = w.uploads.claim(&id).await.unwrap();
    writer.write(Bytes::from_static(b"hello ")).await.unwrap();
    assert_eq!(writer.checkpoint().await.unwrap(), 6);
    writer.write(Bytes::from_static(b"never acknowledged")).await.unwrap();
    writer.release().await.unwrap();
    assert_eq!(w.uploads.find(&id).await.unwrap().unwrap().received, 6);

    // As if another process took it up: nothing but the row and the object are left.
    let other = Uploads::new(w.db.clone(), w.objects.clone(), w.clock.clone(), w.uploads.lifetimes());
    let mut writer = other.claim(&id).await.unwrap();
    writer.write(Bytes::from_static(b"wor")).await.unwrap();
    assert_eq!(writer.close().await.unwrap(), 9);
    let wrong = Target { repository: &w.repo, digest: &sha256(b"something else") };
    let writer = w.uploads.claim(&id).await.unwrap();
    let computed = sha256(b"hello wor");
    assert_eq!(writer.commit(&wrong).await.unwrap(), Committed::DigestMismatch { computed });
    let mut writer = w.uploads.claim(&id).await.unwrap();
    writer.write(Bytes::from_static(b"ld")).await.unwrap();
    let digest = sha256(b"hello world");
    let done = writer.commit(&Target { repository: &w.repo, digest: &digest }).await.unwrap();
    assert_eq!(done, Committed::Done { size: 11 });
    assert_eq!(w.read_blob(&digest).await, b"hello world");
    assert!(matches!(w.uploads.claim(&id).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_digest_by_another_algorithm_than_announced_is_computed_from_the_bytes() {
    let w = world().await;
    let id = w.begin("acme").await;
    let mut writer = w.uploads.claim(&id).await.unwrap();
    writer.write(Bytes::from_static(b"content")).await.unwrap();
    writer.checkpoint().await.unwrap();
    let digest = digest_of(Algorithm::Sha512, b"content");
    let done = writer.commit(&Target { repository: &w.repo, digest: &digest }).await.unwrap();
    assert_eq!(done, Committed::Done { size: 7 });
    assert_eq!(w.read_blob(&digest).await, b"content");
}

#[tokio::test]
async fn a_newer_request_takes_the_session_over() {
    let w = world().await;
    let id = w.begin("acme").await;
    let mut first = w.uploads.claim(&id).await.unwrap();
    first.write(Bytes::from_static(b"kept")).await.unwrap();
    let (uploads, again) = (w.uploads.clone(), id.clone());
    let second = tokio::spawn(async move { uploads.claim(&again).await.map(|writer| writer.received()) });
    first.superseded().await;
    assert_eq!(first.close().await.unwrap(), 4);
    assert_eq!(second.await.unwrap().unwrap(), 4);
}

#[tokio::test]
async fn a_writer_that_lost_its_claim_acknowledges_nothing() {
    let w = world().await;
    let id = w.begin("acme").await;
    let mut first = w.uploads.claim(&id).await.unwrap();
    first.write(Bytes::from_static(b"stale")).await.unwrap();
    w.uploads.forget_claims().await.unwrap();
    let other = Uploads::new(w.db.clone(), w.objects.clone(), w.clock.clone(), w.uploads.lifetimes());
    let second = other.claim(&id).await.unwrap();
    assert!(matches!(first.checkpoint().await, Err(Error::Conflict(_))));
    second.release().await.unwrap();
    drop(first);
    assert!(w.uploads.cancel(&id).await.unwrap());
    assert!(!w.uploads.cancel(&id).await.unwrap());
    assert!(w.uploads.find(&id).await.unwrap().is_none());
}

#[tokio::test]
async fn garbage_goes_after_its_grace_and_nothing_else_does() {
    let w = world().await;
    let (used, unused) = (w.push_blob(b"used").await, w.push_blob(b"unused").await);
    let abandoned = w.begin("acme").await;
    let mut writer = w.uploads.claim(&abandoned).await.unwrap();
    writer.write(Bytes::from_static(b"abandoned")).await.unwrap();
    writer.close().await.unwrap();
    let tag: Tag = "v1".parse().unwrap();
    assert_eq!(w.push_manifest(b"{}", vec![used.clone()], None, &[tag]).await, Put::Stored);
    assert!(w.gc.run().await.unwrap().is_idle());
    assert_eq!(w.files(), 3);

    // The lease is renewed for whoever is told "it is there".
    w.clock.advance(GRACE - 1);
    let mut tx = w.db.begin().await.unwrap();
    let repository = repositories::find(&mut tx, &w.repo).await.unwrap().unwrap();
    assert!(blobs::renew_lease(&mut tx, &repository.id, &unused, w.clock.now() + GRACE).await.unwrap());
    tx.commit().await.unwrap();
    w.clock.advance(GRACE);
    w.gc.run().await.unwrap();
    assert!(w.has_blob(&unused).await && w.has_blob(&used).await);

    w.clock.advance(2);
    let open = w.begin("acme").await;
    w.gc.run().await.unwrap();
    assert!(w.has_blob(&unused).await, "a push is under way");
    w.uploads.cancel(&open).await.unwrap();
    w.uploads.cancel(&abandoned).await.unwrap();
    w.clock.advance(301);
    assert_eq!(w.gc.dry_run().await.unwrap().links_removed, 1);
    w.gc.run().await.unwrap();
    assert!(!w.has_blob(&unused).await && w.has_blob(&used).await);
    assert_eq!(w.files(), 2, "bytes wait for the grace period");
    let expiring = w.begin("acme").await;
    w.clock.advance(1000);
    let report = w.gc.run().await.unwrap();
    assert_eq!((report.uploads_expired, report.blobs_removed, report.objects_removed), (1, 1, 2));
    assert!(w.uploads.find(&expiring).await.unwrap().is_none());
    assert_eq!(report.bytes_freed, 6);
    assert_eq!(w.files(), 1);
    assert!(w.has_blob(&used).await);

    // A deleted manifest lets its blobs go; a new push of the manifest's blob within the grace period rescues it.
    let mut tx = w.db.begin().await.unwrap();
    let review = w.clock.now() + GRACE;
    assert!(manifests::delete(&mut tx, &repository.id, &sha256(b"{}"), review).await.unwrap());
    assert!(!manifests::delete(&mut tx, &repository.id, &sha256(b"{}"), review).await.unwrap());
    tx.commit().await.unwrap();
    w.clock.advance(GRACE + 1);
    w.gc.run().await.unwrap();
    assert!(!w.has_blob(&used).await);
    let mut tx = w.db.begin().await.unwrap();
    assert!(blobs::link(&mut tx, &repository.id, "acme", &used, w.clock.now() + GRACE).await.unwrap());
    assert!(!blobs::link(&mut tx, &repository.id, "other", &used, w.clock.now() + GRACE).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(w.read_blob(&used).await, b"used");
    w.clock.advance(3 * GRACE);
    w.gc.run().await.unwrap();
    w.clock.advance(3 * GRACE);
    w.gc.run().await.unwrap();
    assert_eq!(w.files(), 0);
    let mut session = w.db.read().await.unwrap();
    let (left,): (i64,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM blobs").unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_blob_deleted_in_one_repository_stays_in_another() {
    let mut w = world().await;
    let digest = w.push_blob(b"shared").await;
    let first = w.repo.clone();
    w.repo = "acme/second".parse().unwrap();
    w.push_blob(b"shared").await;
    let mut tx = w.db.begin().await.unwrap();
    let repository = repositories::find(&mut tx, &first).await.unwrap().unwrap();
    assert!(!blobs::is_referenced(&mut tx, &repository.id, &digest).await.unwrap());
    assert!(blobs::unlink(&mut tx, &repository.id, &digest, w.clock.now()).await.unwrap());
    assert!(!blobs::unlink(&mut tx, &repository.id, &digest, w.clock.now()).await.unwrap());
    tx.commit().await.unwrap();
    assert!(w.has_blob(&digest).await);
    w.repo = first;
    assert!(!w.has_blob(&digest).await);
}

#[tokio::test]
async fn tags_move_and_go_alone() {
    let w = world().await;
    let tag: Tag = "latest".parse().unwrap();
    let other: Tag = "stable".parse().unwrap();
    w.push_manifest(b"{\"a\":1}", vec![], None, &[tag.clone(), other.clone()]).await;
    w.push_manifest(b"{\"a\":2}", vec![], None, std::slice::from_ref(&tag)).await;
    let mut tx = w.db.begin().await.unwrap();
    let found = manifests::find(&mut tx, &w.repo, &Reference::Tag(tag.clone())).await.unwrap().unwrap();
    assert_eq!(found.payload, b"{\"a\":2}");
    let repository = repositories::find(&mut tx, &w.repo).await.unwrap().unwrap();
    assert!(tags::delete(&mut tx, &repository.id, &tag).await.unwrap());
    assert!(!tags::delete(&mut tx, &repository.id, &tag).await.unwrap());
    let by_digest = Reference::Digest(sha256(b"{\"a\":2}"));
    assert!(manifests::find(&mut tx, &w.repo, &by_digest).await.unwrap().is_some());
    // Deleting by digest takes the manifest's tags along.
    manifests::delete(&mut tx, &repository.id, &sha256(b"{\"a\":1}"), 0).await.unwrap();
    assert!(manifests::find(&mut tx, &w.repo, &Reference::Tag(other)).await.unwrap().is_none());
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn verify_finds_what_is_wrong_and_a_new_push_heals_it() {
    let w = world().await;
    let verifier = |repair| Verifier::new(w.db.clone(), w.objects.clone(), w.clock.clone(), repair);
    let (lost, rotten) = (w.push_blob(b"lost").await, w.push_blob(b"rotten").await);
    w.push_manifest(b"{}", vec![lost.clone(), rotten.clone()], None, &[]).await;
    let report = verifier(false).run(|_| {}).await.unwrap();
    assert_eq!((report.blobs, report.manifests, report.objects, report.findings.len()), (2, 1, 2, 0));

    let mut session = w.db.read().await.unwrap();
    let lost_key = blobs::find(&mut session, &w.repo, &lost).await.unwrap().unwrap().object_key;
    let rotten_key = blobs::find(&mut session, &w.repo, &rotten).await.unwrap().unwrap().object_key;
    drop(session);
    w.objects.remove(&lost_key).unwrap();
    let path = w.dir.path().join("blobs/objects").join(&rotten_key[24..]).join(&rotten_key);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[0] ^= 1;
    std::fs::write(&path, bytes).unwrap();

    let report = verifier(false).run(|_| {}).await.unwrap();
    let mut problems: Vec<Problem> = report.findings.iter().map(|f| f.problem).collect();
    problems.sort_by_key(|p| format!("{p:?}"));
    assert_eq!(problems, [Problem::BytesMissing, Problem::BytesWrong]);
    assert!(w.has_blob(&lost).await, "without --repair nothing changes");
    verifier(true).run(|_| {}).await.unwrap();
    assert!(!w.has_blob(&lost).await && !w.has_blob(&rotten).await);
    // A manifest that needs them is refused until they are pushed again.
    assert!(matches!(w.push_manifest(b"{\"b\":1}", vec![lost.clone()], None, &[]).await, Put::MissingBlobs(_)));
    w.push_blob(b"lost").await;
    w.push_blob(b"rotten").await;
    assert_eq!(w.read_blob(&lost).await, b"lost");
    assert_eq!(w.read_blob(&rotten).await, b"rotten");
    assert!(verifier(false).run(|_| {}).await.unwrap().findings.is_empty());
}

#[tokio::test]
async fn bytes_that_nobody_acknowledged_take_no_room() {
    let w = world().await;
    let id = w.begin("acme").await;
    let mut writer = w.uploads.claim(&id).await.unwrap();
    writer.write(Bytes::from_static(b"kept")).await.unwrap();
    writer.checkpoint().await.unwrap();
    writer.write(Bytes::from(vec![7; 5 << 20])).await.unwrap();
    writer.release().await.unwrap();
    let key = w.uploads.find(&id).await.unwrap().unwrap().object_key;
    assert_eq!(w.objects.open_object(&key).unwrap().length().unwrap(), 4);
}

#[tokio::test]
async fn bytes_that_a_row_may_count_on_are_not_cut() {
    let w = world().await;
    let id = w.begin("acme").await;
    let mut writer = w.uploads.claim(&id).await.unwrap();
    writer.write(Bytes::from(vec![7; 2 << 20])).await.unwrap();
    writer.doubt();
    writer.release().await.unwrap();
    let key = w.uploads.find(&id).await.unwrap().unwrap().object_key;
    assert_eq!(w.objects.open_object(&key).unwrap().length().unwrap(), 2 << 20);
}

#[tokio::test]
async fn an_object_has_one_writer_whatever_the_rows_say() {
    let w = world().await;
    let id = w.begin("acme").await;
    let mut first = w.uploads.claim(&id).await.unwrap();
    first.write(Bytes::from_static(b"one")).await.unwrap();
    first.checkpoint().await.unwrap();
    w.uploads.forget_claims().await.unwrap();
    let other = Uploads::new(w.db.clone(), w.objects.clone(), w.clock.clone(), w.uploads.lifetimes());
    let mut second = other.claim(&id).await.unwrap();
    second.write(Bytes::from_static(b"two")).await.unwrap();
    assert!(matches!(second.checkpoint().await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn an_older_request_never_pushes_a_newer_one_out() {
    let w = world().await;
    let id = w.begin("acme").await;
    let first = w.uploads.claim(&id).await.unwrap();
    // Holds the session until a newer request wants it, or for a while.
    let claim = || {
        let (uploads, id) = (w.uploads.clone(), id.clone());
        tokio::spawn(async move {
            let mut writer = uploads.claim(&id).await?;
            let _ = tokio::time::timeout(std::time::Duration::from_millis(300), writer.superseded()).await;
            writer.release().await
        })
    };
    let second = claim();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let third = claim();
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    first.release().await.unwrap();
    // The second has its turn before the third or not at all; the third always has one.
    let _ = second.await.unwrap();
    third.await.unwrap().unwrap();
}

#[tokio::test]
async fn bytes_newer_than_the_database_become_a_blob_again() {
    let w = world().await;
    let digest = w.push_blob(b"newer than the backup").await;
    let mut tx = w.db.begin().await.unwrap();
    for table in ["DELETE FROM gc_links", "DELETE FROM blob_links", "DELETE FROM blobs"] {
        execute!(tx, table).unwrap();
    }
    tx.commit().await.unwrap();
    for folder in Objects::folders() {
        for (key, _) in w.objects.list(&folder).unwrap() {
            let path = w.dir.path().join("blobs/objects").join(&folder).join(key);
            let old = std::time::SystemTime::UNIX_EPOCH;
            std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
        }
    }
    let verifier = Verifier::new(w.db.clone(), w.objects.clone(), w.clock.clone(), true);
    let report = verifier.run(|_| {}).await.unwrap();
    assert_eq!(report.findings[0].problem, Problem::Orphan);
    let mut tx = w.db.begin().await.unwrap();
    let repository = repositories::find(&mut tx, &w.repo).await.unwrap().unwrap();
    assert!(blobs::link(&mut tx, &repository.id, "acme", &digest, w.clock.now() + GRACE).await.unwrap());
    tx.commit().await.unwrap();
    assert_eq!(w.read_blob(&digest).await, b"newer than the backup");
}

#[tokio::test]
async fn the_same_blob_from_many_at_once_is_one_blob() {
    let w = world().await;
    let digest = sha256(b"same");
    let mut tasks = Vec::new();
    for _ in 0..8 {
        let id = w.begin("acme").await;
        let (uploads, repo, digest) = (w.uploads.clone(), w.repo.clone(), digest.clone());
        tasks.push(tokio::spawn(async move {
            let mut writer = uploads.claim(&id).await.unwrap();
            writer.write(Bytes::from_static(b"same")).await.unwrap();
            writer.commit(&Target { repository: &repo, digest: &digest }).await.unwrap()
        }));
    }
    for task in tasks {
        assert_eq!(task.await.unwrap(), Committed::Done { size: 4 });
    }
    assert_eq!(w.read_blob(&digest).await, b"same");
    w.clock.advance(11);
    assert_eq!(w.gc.run().await.unwrap().objects_removed, 7);
    assert_eq!(w.read_blob(&digest).await, b"same");
}

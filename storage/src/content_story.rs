//! One story over every content function, told on `SQLite` and, where `TEST_DATABASE_URL` is set, on `PostgreSQL`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::blobs::{self, Blob, Unlinked};
use crate::clock::Clock;
use crate::db::{Db, Session, testing};
use crate::deletion::{self, Choice};
use crate::digest::digest_of;
use crate::error::Error;
use crate::gc::Collector;
use crate::manifests::{self, Manifest, NewManifest, Put};
use crate::names::{Algorithm, Digest, Reference, RepoName, Tag};
use crate::objects::Objects;
use crate::pulls::{self, Pull};
use crate::repositories::{self, Order, RepositoryFilter};
use crate::shelf::Shelf;
use crate::uploads::{Committed, Lifetimes, NewUpload, Target, Upload, Uploads};
use crate::verify::{Problem, Verifier};
use crate::{execute, query_all, query_one, referrers, removal, tags};

const GRACE: i64 = 100;
/// A manifest is stored, and no tag pointed at another.
const STORED: Put = Put::Stored { moved: BTreeMap::new() };

struct World {
    dir: tempfile::TempDir,
    db: Db,
    objects: Objects,
    clock: Clock,
    uploads: Uploads,
    gc: Collector,
    repo: RepoName,
    shelf: Shelf,
}

/// A world in which every blob is an object.
async fn world() -> World {
    world_with(Uploads::into_objects).await
}

/// A world as it is: small blobs are in the database.
async fn small_world() -> World {
    world_with(Uploads::new).await
}

async fn world_with(uploads: fn(Db, Objects, Clock, Lifetimes) -> Uploads) -> World {
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
    let uploads = uploads(db.clone(), objects.clone(), clock.clone(), lifetimes);
    let gc = Collector::new(db.clone(), objects.clone(), clock.clone(), lifetimes);
    let shelf = Shelf::new(db.clone(), objects.clone(), 1 << 20);
    World { dir, db, objects, clock, uploads, gc, shelf, repo: "acme/app".parse().unwrap() }
}

fn sha256(content: &[u8]) -> Digest {
    digest_of(Algorithm::Sha256, content)
}

impl World {
    fn begin(&self, org: &str) -> Upload {
        let new = NewUpload {
            org_id: org,
            project_id: &format!("{org}-default"),
            repository: self.repo.canonical(),
            user_id: "u",
            api_key_id: None,
            epochs: "0.0",
            algorithm: Algorithm::Sha256,
        };
        self.uploads.begin(&new)
    }

    /// A session in which some bytes are durable.
    async fn begin_with(&self, bytes: &'static [u8]) -> Upload {
        let upload = self.begin("acme");
        let mut writer = self.uploads.claim(&upload).await.unwrap();
        writer.write(Bytes::from_static(bytes)).await.unwrap();
        writer.close().await.unwrap();
        upload
    }

    async fn push_blob(&self, content: &'static [u8]) -> Digest {
        let digest = sha256(content);
        let upload = self.begin("acme");
        let mut writer = self.uploads.claim(&upload).await.unwrap();
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
        if matches!(put, Put::Stored { .. }) {
            tx.commit().await.unwrap();
        }
        put
    }

    /// Those of another process.
    fn other_uploads(&self) -> Uploads {
        Uploads::new(self.db.clone(), self.objects.clone(), self.clock.clone(), self.uploads.lifetimes())
    }

    /// Makes every object look as if it had not been touched for long.
    fn age_objects(&self) {
        for folder in Objects::folders() {
            for (key, _) in self.objects.list(&folder).unwrap() {
                let path = self.dir.path().join("blobs/objects").join(&folder).join(key);
                let old = std::time::SystemTime::UNIX_EPOCH;
                std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
            }
        }
    }

    async fn has_blob(&self, digest: &Digest) -> bool {
        let mut session = self.db.read().await.unwrap();
        let found = blobs::find(&mut session, &self.repo, digest).await.unwrap();
        // Once from the database, once from memory.
        for _ in 0..2 {
            let shelved = self.shelf.blob(&self.repo, digest).await.unwrap();
            let key = |blob: &Blob| (blob.object_key.clone(), blob.lease_until);
            assert_eq!(shelved.as_ref().map(|shelved| key(&shelved.blob)), found.as_ref().map(key));
        }
        found.is_some()
    }

    async fn manifest(&self, reference: &Reference) -> Option<Manifest> {
        let mut session = self.db.read().await.unwrap();
        let found = manifests::find(&mut session, &self.repo, reference).await.unwrap();
        for _ in 0..2 {
            assert_eq!(self.shelf.manifest(&self.repo, reference).await.unwrap().as_deref(), found.as_ref());
        }
        found
    }

    async fn read_blob(&self, digest: &Digest) -> Vec<u8> {
        let mut session = self.db.read().await.unwrap();
        let blob = blobs::find(&mut session, &self.repo, digest).await.unwrap().unwrap();
        let content = blobs::read(&self.objects, &blob).unwrap();
        let shelved = self.shelf.blob(&self.repo, digest).await.unwrap().unwrap();
        // From the database they come with the row.
        if blob.content.is_none() {
            assert_eq!(self.shelf.bytes(&shelved, blob).await.unwrap(), content);
        }
        assert_eq!(shelved.bytes().unwrap(), content);
        content
    }

    /// Objects, and contents in the database.
    async fn held(&self) -> usize {
        let mut session = self.db.read().await.unwrap();
        let (small,): (i64,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM small_objects").unwrap();
        let (open,): (i64,) =
            query_one!(session, (i64,), "SELECT COUNT(*) FROM uploads WHERE content IS NOT NULL").unwrap();
        self.files() + usize::try_from(small + open).unwrap()
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
    assert_eq!(w.push_manifest(b"{}", vec![layer, config], Some(&subject), &names).await, STORED);

    let mut session = w.db.read().await.unwrap();
    let listed = tags::list(&mut session, &w.repo, "", 10).await.unwrap();
    assert_eq!(listed.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["V1", "v1", "v10", "v2"]);
    let listed = tags::list(&mut session, &w.repo, "v1", 1).await.unwrap();
    assert_eq!(listed[0].name, "v10");
    for reference in ["v1".parse::<Reference>().unwrap(), Reference::Digest(sha256(b"{}"))] {
        let found = w.manifest(&reference).await.unwrap();
        assert_eq!((&found.payload[..], found.size), (&b"{}"[..], 2));
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
    resumes(world().await).await;
}

#[tokio::test]
async fn a_small_upload_resumes_at_the_acknowledged_byte() {
    resumes(small_world().await).await;
}

#[tokio::test]
async fn a_small_upload_that_grows_becomes_an_object() {
    let w = small_world().await;
    let upload = w.begin_with(b"little").await;
    assert_eq!(w.files(), 0);
    let large = Bytes::from(vec![7; 1 << 20]);
    // What was received is not lost where the next request comes to nothing.
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    writer.write(large.clone()).await.unwrap();
    writer.release().await.unwrap();
    assert_eq!(w.uploads.find(&upload.id).await.unwrap().unwrap().content.as_deref(), Some(&b"little"[..]));
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    assert_eq!((writer.received(), writer.accepted()), (6, 6));
    writer.write(large.clone()).await.unwrap();
    assert_eq!(writer.close().await.unwrap(), 6 + (1 << 20));
    let row = w.uploads.find(&upload.id).await.unwrap().unwrap();
    assert!(row.content.is_none() && row.hash_state.is_some());
    let whole = [b"little".as_slice(), &large, b"!"].concat();
    let digest = sha256(&whole);
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    writer.write(Bytes::from_static(b"!")).await.unwrap();
    writer.commit(&Target { repository: &w.repo, digest: &digest }).await.unwrap();
    assert_eq!(w.read_blob(&digest).await, whole);
    assert_eq!((w.files(), w.held().await), (1, 1));
}

#[tokio::test]
async fn a_small_blob_is_in_the_database_and_proved_when_it_is_read() {
    let w = small_world().await;
    let limit = usize::try_from(blobs::IN_DATABASE).unwrap();
    for (content, files) in [(vec![], 0), (vec![1; limit], 0), (vec![1; limit + 1], 1)] {
        let digest = digest_of(Algorithm::Sha512, &content);
        let mut writer = w.uploads.claim(&w.begin("acme")).await.unwrap();
        writer.write(Bytes::from(content.clone())).await.unwrap();
        let done = writer.commit(&Target { repository: &w.repo, digest: &digest }).await.unwrap();
        assert_eq!(done, Committed::Done { size: content.len() as u64 });
        assert_eq!(w.files(), files);
        assert_eq!(w.read_blob(&digest).await, content);
    }
    let mut writer = w.uploads.claim(&w.begin("acme")).await.unwrap();
    writer.write(Bytes::from_static(b"content")).await.unwrap();
    let computed = sha256(b"content");
    let wrong = writer.commit(&Target { repository: &w.repo, digest: &sha256(b"other") }).await.unwrap();
    assert_eq!(wrong, Committed::DigestMismatch { computed });

    let verifier = |repair| Verifier::new(w.db.clone(), w.objects.clone(), w.clock.clone(), repair);
    for (damage, problem) in [
        ("UPDATE small_objects SET content = (SELECT payload FROM manifests)", Problem::BytesWrong),
        ("DELETE FROM small_objects", Problem::BytesMissing),
    ] {
        let digest = w.push_blob(b"precious").await;
        w.push_manifest(b"{}", vec![digest.clone()], None, &[]).await;
        assert!(verifier(false).run(|_| {}).await.unwrap().findings.is_empty());
        testing::run(
            &w.db,
            "DELETE FROM small_objects WHERE object_key NOT IN
            (SELECT object_key FROM blobs WHERE size = 8)",
        )
        .await;
        testing::run(&w.db, "DELETE FROM blob_links WHERE digest NOT IN (SELECT digest FROM blobs WHERE size = 8)")
            .await;
        testing::run(&w.db, "DELETE FROM blobs WHERE size <> 8").await;
        testing::run(&w.db, damage).await;
        let shelved = w.shelf.blob(&w.repo, &digest).await.unwrap().unwrap();
        // What is in memory was right when it was read.
        if shelved.bytes().is_none() {
            let row = shelved.blob.clone();
            assert!(matches!(w.shelf.bytes(&shelved, row).await, Err(Error::Damaged(_))));
        }
        let report = verifier(true).run(|_| {}).await.unwrap();
        assert!(report.findings.iter().any(|f| f.problem == problem), "{:?}", report.findings);
        assert!(!w.has_blob(&digest).await);
        w.push_blob(b"precious").await;
        assert_eq!(w.read_blob(&digest).await, b"precious");
    }
}

async fn resumes(w: World) {
    let upload = w.begin("acme");
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    writer.write(Bytes::from_static(b"hello ")).await.unwrap();
    assert_eq!(writer.checkpoint().await.unwrap(), 6);
    writer.write(Bytes::from_static(b"never acknowledged")).await.unwrap();
    writer.release().await.unwrap();
    assert_eq!(w.uploads.find(&upload.id).await.unwrap().unwrap().received, 6);

    // As if another process took it up: nothing but the row and the object are left.
    let other = w.other_uploads();
    let mut writer = other.claim(&upload).await.unwrap();
    writer.write(Bytes::from_static(b"wor")).await.unwrap();
    assert_eq!(writer.close().await.unwrap(), 9);
    let wrong = Target { repository: &w.repo, digest: &sha256(b"something else") };
    let writer = w.uploads.claim(&upload).await.unwrap();
    let computed = sha256(b"hello wor");
    assert_eq!(writer.commit(&wrong).await.unwrap(), Committed::DigestMismatch { computed });
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    writer.write(Bytes::from_static(b"ld")).await.unwrap();
    let digest = sha256(b"hello world");
    let done = writer.commit(&Target { repository: &w.repo, digest: &digest }).await.unwrap();
    assert_eq!(done, Committed::Done { size: 11 });
    assert_eq!(w.read_blob(&digest).await, b"hello world");
    assert!(matches!(w.uploads.claim(&upload).await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn a_digest_by_another_algorithm_than_announced_is_computed_from_the_bytes() {
    let w = world().await;
    let upload = w.begin("acme");
    let mut writer = w.uploads.claim(&upload).await.unwrap();
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
    let upload = w.begin("acme");
    let mut first = w.uploads.claim(&upload).await.unwrap();
    first.write(Bytes::from_static(b"kept")).await.unwrap();
    let (uploads, again) = (w.uploads.clone(), upload.clone());
    let second = tokio::spawn(async move { uploads.claim(&again).await.map(|writer| writer.received()) });
    first.superseded().await;
    assert_eq!(first.close().await.unwrap(), 4);
    assert_eq!(second.await.unwrap().unwrap(), 4);
}

#[tokio::test]
async fn a_writer_that_lost_its_claim_acknowledges_nothing() {
    let w = world().await;
    let upload = w.begin("acme");
    let mut first = w.uploads.claim(&upload).await.unwrap();
    first.write(Bytes::from_static(b"kept")).await.unwrap();
    first.checkpoint().await.unwrap();
    first.write(Bytes::from_static(b"stale")).await.unwrap();
    if w.db.is_sqlite() {
        // One process serves, and knows who writes: a session is lost only when it is given up.
        testing::run(&w.db, "DELETE FROM uploads").await;
        assert!(matches!(first.checkpoint().await, Err(Error::Conflict(_))));
        assert!(w.uploads.find(&upload.id).await.unwrap().is_none());
        return;
    }
    w.uploads.forget_claims().await.unwrap();
    let other = w.other_uploads();
    let second = other.claim(&upload).await.unwrap();
    assert!(matches!(first.checkpoint().await, Err(Error::Conflict(_))));
    second.release().await.unwrap();
    drop(first);
    assert!(w.uploads.cancel(&upload.id).await.unwrap());
    assert!(!w.uploads.cancel(&upload.id).await.unwrap());
    assert!(w.uploads.find(&upload.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_writer_whose_claim_ran_out_cuts_nothing_of_the_next() {
    let w = world().await;
    let upload = w.begin("acme");
    let mut first = w.uploads.claim(&upload).await.unwrap();
    first.write(Bytes::from(vec![7; 2 << 20])).await.unwrap();
    first.fail_and_wait().await;
    if w.db.is_sqlite() {
        // One process serves, and knows who writes: what failed is cut at once.
        first.release().await.unwrap();
        assert_eq!(w.files(), 0);
        return;
    }
    w.uploads.forget_claims().await.unwrap();
    let other = w.other_uploads();
    let mut second = other.claim(&upload).await.unwrap();
    let content = vec![8; 2 << 20];
    second.write(Bytes::from(content.clone())).await.unwrap();
    let digest = sha256(&content);
    let target = Target { repository: &w.repo, digest: &digest };
    assert_eq!(second.commit(&target).await.unwrap(), Committed::Done { size: 2 << 20 });
    first.release().await.unwrap();
    assert!(w.read_blob(&digest).await == content, "what was acknowledged is whole");
}

#[tokio::test]
async fn what_is_being_written_is_no_orphan() {
    let w = world().await;
    let content = vec![7; 2 << 20];
    let mut writer = w.uploads.claim(&w.begin("acme")).await.unwrap();
    writer.write(Bytes::from(content.clone())).await.unwrap();
    while w.files() == 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    w.age_objects();
    let verifier = Verifier::new(w.db.clone(), w.objects.clone(), w.clock.clone(), true);
    assert_eq!(verifier.run(|_| {}).await.unwrap().findings, []);
    w.gc.run().await.unwrap();
    let digest = sha256(&content);
    writer.commit(&Target { repository: &w.repo, digest: &digest }).await.unwrap();
    assert!(w.read_blob(&digest).await == content);
}

#[tokio::test]
async fn garbage_goes_after_its_grace_and_nothing_else_does() {
    garbage_goes(world().await).await;
}

#[tokio::test]
async fn small_garbage_goes_as_well() {
    garbage_goes(small_world().await).await;
}

async fn garbage_goes(w: World) {
    let (used, unused) = (w.push_blob(b"used").await, w.push_blob(b"unused").await);
    let abandoned = w.begin_with(b"abandoned").await;
    let tag: Tag = "v1".parse().unwrap();
    assert_eq!(w.push_manifest(b"{}", vec![used.clone()], None, &[tag]).await, STORED);
    assert!(w.gc.run().await.unwrap().is_idle());
    assert_eq!(w.held().await, 3);

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
    let open = w.begin_with(b"open").await;
    w.gc.run().await.unwrap();
    assert!(w.has_blob(&unused).await, "a push is under way");
    w.uploads.cancel(&open.id).await.unwrap();
    w.uploads.cancel(&abandoned.id).await.unwrap();
    w.clock.advance(301);
    assert_eq!(w.gc.dry_run().await.unwrap().links_removed, 1);
    w.gc.run().await.unwrap();
    assert!(!w.has_blob(&unused).await && w.has_blob(&used).await);
    assert_eq!(w.held().await, 2, "bytes wait for the grace period");
    let expiring = w.begin_with(b"expiring").await;
    w.clock.advance(1000);
    let report = w.gc.run().await.unwrap();
    assert_eq!((report.uploads_expired, report.blobs_removed, report.objects_removed), (1, 1, 2));
    assert!(w.uploads.find(&expiring.id).await.unwrap().is_none());
    assert_eq!(report.bytes_freed, 6);
    assert_eq!(w.held().await, 1);
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
    assert_eq!(w.held().await, 0);
    let mut session = w.db.read().await.unwrap();
    let (left,): (i64,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM blobs").unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn of_what_is_reviewed_together_each_fares_on_its_own() {
    let mut w = world().await;
    let (gone, used, leased) = (w.push_blob(b"gone").await, w.push_blob(b"used").await, w.push_blob(b"leased").await);
    w.push_manifest(b"{}", vec![used.clone()], None, &[]).await;
    let first = w.repo.clone();
    w.repo = "acme/second".parse().unwrap();
    let pushed = w.push_blob(b"pushed").await;
    w.clock.advance(GRACE + 2);
    let open = w.begin_with(b"open").await;
    let now = w.clock.now();
    let mut tx = w.db.begin().await.unwrap();
    let repository = repositories::find(&mut tx, &first).await.unwrap().unwrap().id;
    let lease = "UPDATE blob_links SET lease_until = $1 WHERE digest = $2";
    execute!(tx, lease, now, leased.as_str()).unwrap();
    let nothing = "INSERT INTO gc_links (repository_id, digest, review_after) VALUES ($1, 'sha256:none', 0)";
    execute!(tx, nothing, repository.as_str()).unwrap();
    // Linked all the same.
    execute!(tx, "UPDATE blobs SET doomed_at = 0 WHERE digest = $1", used.as_str()).unwrap();
    tx.commit().await.unwrap();

    let report = w.gc.run().await.unwrap();
    assert_eq!((report.links_reviewed, report.links_removed, report.blobs_removed), (5, 1, 0));
    let mut session = w.db.read().await.unwrap();
    let later: Vec<(String, i64)> =
        query_all!(session, (String, i64), "SELECT digest, review_after FROM gc_links ORDER BY review_after").unwrap();
    assert_eq!(later, [(leased.to_string(), now + 1), (pushed.to_string(), now + 300)]);
    let doomed: Vec<(String, i64)> =
        query_all!(session, (String, i64), "SELECT digest, doomed_at FROM blobs WHERE doomed_at IS NOT NULL").unwrap();
    assert_eq!(doomed, [(gone.to_string(), now)]);
    drop(session);

    w.uploads.cancel(&open.id).await.unwrap();
    w.clock.advance(GRACE);
    assert_eq!(w.gc.run().await.unwrap().blobs_removed, 0, "it may have been doomed at the end of that second");
    w.clock.advance(1);
    let report = w.gc.run().await.unwrap();
    assert_eq!((report.blobs_removed, report.bytes_freed), (1, 4), "the others were doomed just now");
    w.repo = first;
    assert_eq!(w.read_blob(&used).await, b"used");
    assert!(!w.has_blob(&gone).await);
}

#[tokio::test]
async fn a_blob_deleted_in_one_repository_stays_in_another() {
    let mut w = world().await;
    let digest = w.push_blob(b"shared").await;
    let first = w.repo.clone();
    w.repo = "acme/second".parse().unwrap();
    w.push_blob(b"shared").await;
    let mut session = w.db.read().await.unwrap();
    let org_id = repositories::find(&mut session, &first).await.unwrap().unwrap().org_id;
    drop(session);
    let now = w.clock.now();
    let nobodys = "acme/nothing".parse().unwrap();
    assert_eq!(unlink(&w, &nobodys, &digest, now).await, None);
    let gone = Some(Unlinked { org_id, referenced: false });
    drop(blobs::begin_unlinked(&w.db, &first, &digest, now).await.unwrap());
    assert_eq!(unlink(&w, &first, &digest, now).await, gone, "what was not committed did not happen");
    assert_eq!(unlink(&w, &first, &digest, now).await, None);
    assert!(w.has_blob(&digest).await);
    assert_eq!(doomed_since(&w).await, None, "another links to it");
    let second = std::mem::replace(&mut w.repo, first);
    assert!(!w.has_blob(&digest).await);

    // The last link: the blob waits for its end from now on, and from no later time by being asked for again.
    assert_eq!(unlink(&w, &second, &digest, now).await, gone);
    assert_eq!(unlink(&w, &second, &digest, now + 60).await, None);
    assert_eq!(doomed_since(&w).await, Some(now));
}

async fn unlink(w: &World, repo: &RepoName, digest: &Digest, now: i64) -> Option<Unlinked> {
    let (tx, gone) = blobs::begin_unlinked(&w.db, repo, digest, now).await.unwrap();
    tx.commit().await.unwrap();
    gone
}

/// Since when the only blob waits for its end.
async fn doomed_since(w: &World) -> Option<i64> {
    let mut session = w.db.read().await.unwrap();
    let (since,): (Option<i64>,) = query_one!(session, (Option<i64>,), "SELECT doomed_at FROM blobs").unwrap();
    since
}

#[tokio::test]
async fn a_deleted_blob_that_a_manifest_names_is_told_of() {
    let w = world().await;
    let layer = w.push_blob(b"named").await;
    w.push_manifest(br#"{"named":1}"#, vec![layer.clone()], None, &[]).await;
    assert!(unlink(&w, &w.repo, &layer, w.clock.now()).await.unwrap().referenced);
    assert_eq!(unlink(&w, &w.repo, &layer, w.clock.now()).await, None, "named, but not there");
}

#[tokio::test]
async fn tags_move_and_go_alone() {
    let w = world().await;
    let tag: Tag = "latest".parse().unwrap();
    let other: Tag = "stable".parse().unwrap();
    w.push_manifest(b"{\"a\":1}", vec![], None, &[tag.clone(), other.clone()]).await;
    let named = Reference::Tag(tag.clone());
    assert_eq!(&w.manifest(&named).await.unwrap().payload[..], b"{\"a\":1}");
    w.push_manifest(b"{\"a\":2}", vec![], None, std::slice::from_ref(&tag)).await;
    assert_eq!(&w.manifest(&named).await.unwrap().payload[..], b"{\"a\":2}");
    let mut tx = w.db.begin().await.unwrap();
    let repository = repositories::find(&mut tx, &w.repo).await.unwrap().unwrap();
    assert!(tags::delete(&mut tx, &repository.id, &tag).await.unwrap());
    assert!(!tags::delete(&mut tx, &repository.id, &tag).await.unwrap());
    assert!(w.manifest(&named).await.is_some(), "not before the commit");
    tx.commit().await.unwrap();
    assert!(w.manifest(&named).await.is_none());
    assert!(w.manifest(&Reference::Digest(sha256(b"{\"a\":2}"))).await.is_some());
    // Deleting by digest takes the manifest's tags along.
    let (first, other) = (sha256(b"{\"a\":1}"), Reference::Tag(other));
    assert!(w.manifest(&other).await.is_some());
    let mut tx = w.db.begin().await.unwrap();
    manifests::delete(&mut tx, &repository.id, &first, 0).await.unwrap();
    tx.commit().await.unwrap();
    assert!(w.manifest(&other).await.is_none());
    assert!(w.manifest(&Reference::Digest(first)).await.is_none());
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
    let upload = w.begin("acme");
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    writer.write(Bytes::from_static(b"kept")).await.unwrap();
    writer.checkpoint().await.unwrap();
    writer.write(Bytes::from(vec![7; 5 << 20])).await.unwrap();
    writer.release().await.unwrap();
    let key = w.uploads.find(&upload.id).await.unwrap().unwrap().object_key;
    assert_eq!(w.objects.open_object(&key).unwrap().length().unwrap(), 4);
}

#[tokio::test]
async fn bytes_that_a_row_may_count_on_are_not_cut() {
    let w = world().await;
    let upload = w.begin("acme");
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    writer.write(Bytes::from(vec![7; 2 << 20])).await.unwrap();
    writer.doubt();
    let key = writer.upload().object_key.clone();
    writer.release().await.unwrap();
    assert_eq!(w.objects.open_object(&key).unwrap().length().unwrap(), 2 << 20);
}

#[tokio::test]
async fn a_session_outlives_the_process_that_began_it_without_a_row() {
    let w = world().await;
    let begun = w.begin("acme");
    assert!(w.uploads.find(&begun.id).await.unwrap().is_none());
    let other = w.other_uploads();
    assert_eq!(other.resume(begun.clone()).await.unwrap().as_ref(), Some(&begun));
    // Bytes that came to nothing leave nothing behind.
    let mut writer = other.claim(&begun).await.unwrap();
    writer.write(Bytes::from(vec![7; 2 << 20])).await.unwrap();
    writer.release().await.unwrap();
    if w.db.is_sqlite() {
        assert_eq!(w.files(), 0);
    }
    let mut writer = other.claim(&begun).await.unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    writer.close().await.unwrap();
    // Its first URL still says that it only began.
    assert_eq!(other.resume(begun.clone()).await.unwrap().map(|u| (u.received, u.unstored)), Some((4, false)));
    let mut writer = other.claim(&begun).await.unwrap();
    writer.write(Bytes::from_static(b" done")).await.unwrap();
    let digest = sha256(b"half done");
    writer.commit(&Target { repository: &w.repo, digest: &digest }).await.unwrap();
    assert!(other.resume(begun.clone()).await.unwrap().is_none());
    assert!(matches!(other.claim(&begun).await, Err(Error::NotFound(_))));

    let cancelled = w.begin("acme");
    assert!(w.uploads.cancel(&cancelled.id).await.unwrap());
    assert!(w.uploads.resume(cancelled.clone()).await.unwrap().is_none());
    let late = w.begin("acme");
    w.clock.advance(1000);
    assert!(w.uploads.resume(late).await.unwrap().is_none());

    // A process that forgot how the session ended may write it again, and harms nothing.
    let third = Uploads::new(w.db.clone(), w.objects.clone(), Clock::manual(1_000_000), w.uploads.lifetimes());
    let mut writer = third.claim(&begun).await.unwrap();
    writer.write(Bytes::from_static(b"again")).await.unwrap();
    writer.commit(&Target { repository: &w.repo, digest: &sha256(b"again") }).await.unwrap();
    assert_eq!(w.read_blob(&digest).await, b"half done");
}

#[tokio::test]
async fn a_user_cannot_write_any_number_of_sessions() {
    let w = world().await;
    let mut tx = w.db.begin().await.unwrap();
    execute!(
        tx,
        "WITH RECURSIVE n (i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < $1)
         INSERT INTO uploads (id, org_id, project_id, repository, user_id, epochs, object_key, received, algorithm,
                              writer_until, created_at, expires_at)
         SELECT 'u' || i, 'acme', 'acme-default', 'acme/app', 'u', '0.0', 'o' || i, 0, 'sha256', 0, 0, 2000000 FROM n",
        crate::uploads::MAX_OPEN,
    )
    .unwrap();
    tx.commit().await.unwrap();
    let upload = w.begin("acme");
    let refused = match w.uploads.claim(&upload).await {
        Ok(mut writer) => {
            writer.write(Bytes::from_static(b"one more")).await.unwrap();
            writer.checkpoint().await.map(drop)
        }
        Err(error) => Err(error),
    };
    assert!(matches!(refused, Err(Error::Conflict("too many uploads are open: finish or cancel some"))));
}

#[tokio::test]
async fn a_blob_that_another_project_of_the_name_has_is_not_linked_there() {
    let w = world().await;
    let mut gone = w.begin("acme");
    w.push_blob(b"there").await;
    gone.project_id = "gone".into();
    let writer = w.uploads.claim(&gone).await;
    // PostgreSQL finds at once that the project is not there.
    let Ok(mut writer) = writer else { return };
    writer.write(Bytes::from_static(b"late")).await.unwrap();
    let digest = sha256(b"late");
    let target = Target { repository: &"acme/other".parse().unwrap(), digest: &digest };
    assert!(matches!(writer.commit(&target).await, Err(Error::NotFound(_))));
    let mut session = w.db.read().await.unwrap();
    assert!(!blobs::is_linked_in(&mut session, "acme", None, &digest).await.unwrap());
}

/// Buries the project of `acme` and makes another of its name.
async fn replace_project(w: &World) {
    let mut tx = w.db.begin().await.unwrap();
    assert!(removal::bury_project(&mut tx, "acme-default").await.unwrap().is_some());
    execute!(
        tx,
        "INSERT INTO projects (id, org_id, slug, public, sparse, created_at)
         VALUES ('acme-anew', 'acme', 'defaultproject', FALSE, FALSE, 0)",
    )
    .unwrap();
    tx.commit().await.unwrap();
}

#[tokio::test]
async fn an_upload_never_ends_in_another_project_of_the_name() {
    for first in [&b""[..], b"half "] {
        for taken in [true, false] {
            let w = world().await;
            let upload = w.begin_with(first).await;
            let mut writer = w.uploads.claim(&upload).await.unwrap();
            replace_project(&w).await;
            if taken {
                let mut tx = w.db.begin().await.unwrap();
                repositories::ensure(&mut tx, "acme", "acme-anew", &w.repo, 1).await.unwrap();
                tx.commit().await.unwrap();
            }
            writer.write(Bytes::from_static(b"late")).await.unwrap();
            let digest = sha256(&[first, b"late"].concat());
            let done = writer.commit(&Target { repository: &w.repo, digest: &digest }).await;
            assert!(matches!(done, Err(Error::NotFound(_) | Error::Conflict(_))), "{done:?}");
            let mut session = w.db.read().await.unwrap();
            assert!(!blobs::is_linked_in(&mut session, "acme", None, &digest).await.unwrap());
            let there = repositories::find(&mut session, &w.repo).await.unwrap();
            assert_eq!(there.map(|there| there.project_id), taken.then(|| "acme-anew".to_owned()));
        }
    }
}

#[tokio::test]
async fn a_session_that_was_given_up_is_not_brought_back_by_who_writes_it() {
    let w = world().await;
    let upload = w.begin_with(b"half").await;
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    replace_project(&w).await;
    writer.write(Bytes::from_static(b" more")).await.unwrap();
    assert!(matches!(writer.close().await, Err(Error::Conflict(_))));
    assert!(w.uploads.find(&upload.id).await.unwrap().is_none());
}

#[tokio::test]
async fn a_row_that_a_lost_commit_made_is_found() {
    let w = world().await;
    let upload = w.begin("acme");
    let mut writer = w.uploads.claim(&upload).await.unwrap();
    writer.write(Bytes::from_static(b"half")).await.unwrap();
    // Another's row of the session stands for the one that was committed after all.
    let other = w.other_uploads();
    if w.db.is_sqlite() {
        let mut twin = other.claim(&upload).await.unwrap();
        twin.write(Bytes::from_static(b"half")).await.unwrap();
        twin.close().await.unwrap();
    }
    writer.doubt();
    writer.release().await.unwrap();
    if w.db.is_sqlite() {
        assert_eq!(w.uploads.resume(upload).await.unwrap().map(|upload| upload.received), Some(4));
    }
}

#[tokio::test]
async fn an_object_has_one_writer_whatever_the_rows_say() {
    let w = world().await;
    let upload = w.begin("acme");
    let mut first = w.uploads.claim(&upload).await.unwrap();
    first.write(Bytes::from_static(b"one")).await.unwrap();
    first.checkpoint().await.unwrap();
    w.uploads.forget_claims().await.unwrap();
    let other = w.other_uploads();
    let mut second = other.claim(&upload).await.unwrap();
    second.write(Bytes::from_static(b"two")).await.unwrap();
    assert!(matches!(second.checkpoint().await, Err(Error::Conflict(_))));
}

#[tokio::test]
async fn an_older_request_never_pushes_a_newer_one_out() {
    let w = world().await;
    let upload = w.begin("acme");
    let first = w.uploads.claim(&upload).await.unwrap();
    // Holds the session until a newer request wants it, or for a while.
    let claim = || {
        let (uploads, upload) = (w.uploads.clone(), upload.clone());
        tokio::spawn(async move {
            let mut writer = uploads.claim(&upload).await?;
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
    w.age_objects();
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
        let upload = w.begin("acme");
        let (uploads, repo, digest) = (w.uploads.clone(), w.repo.clone(), digest.clone());
        tasks.push(tokio::spawn(async move {
            let mut writer = uploads.claim(&upload).await.unwrap();
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

/// Takes a manifest away and collects until nothing is left to do; how many bytes that freed.
async fn collect(w: &World) -> u64 {
    let mut freed = 0;
    for _ in 0..4 {
        w.clock.advance(2 * GRACE);
        freed += w.gc.run().await.unwrap().bytes_freed;
    }
    freed
}

#[tokio::test]
async fn what_a_deletion_frees_is_known_before() {
    let mut w = world().await;
    let tags = |names: &[&str]| names.iter().map(|t| t.parse().unwrap()).collect::<Vec<Tag>>();
    let (base, mine, other) =
        (w.push_blob(b"base layer").await, w.push_blob(b"mine").await, w.push_blob(b"other!").await);
    let elsewhere = w.push_blob(b"elsewhere").await;
    let (first, second) = (sha256(b"{\"n\":1}"), sha256(b"{\"n\":2}"));
    let blobs = vec![base.clone(), mine, elsewhere.clone()];
    w.push_manifest(b"{\"n\":1}", blobs, None, &tags(&["v1", "latest"])).await;
    w.push_manifest(b"{\"n\":2}", vec![base, other], Some(&first), &tags(&["v2"])).await;
    let here = w.repo.clone();
    w.repo = "acme/second".parse().unwrap();
    w.push_blob(b"elsewhere").await;
    w.push_manifest(b"{\"n\":3}", vec![elsewhere], None, &tags(&["v1"])).await;
    w.repo = here;
    // Another tenant has the same bytes: that keeps nothing here.
    let mut tx = w.db.begin().await.unwrap();
    for sql in [
        "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
         VALUES ('theirs', 'other', 'other-default', 'other/app', 1, 1)",
        "INSERT INTO blobs (org_id, digest, size, object_key, created_at)
         SELECT 'other', digest, size, 'their-' || object_key, 1 FROM blobs WHERE org_id = 'acme'",
        "INSERT INTO blob_links (repository_id, digest, org_id, lease_until)
         SELECT 'theirs', digest, 'other', 9000000 FROM blobs WHERE org_id = 'other'",
    ] {
        execute!(tx, sql).unwrap();
    }
    tx.commit().await.unwrap();
    collect(&w).await;

    let mut session = w.db.read().await.unwrap();
    let repository = repositories::find(&mut session, &w.repo).await.unwrap().unwrap();
    let one = deletion::preview(&mut session, &repository, &Choice::Tags(tags(&["v1", "none"]))).await.unwrap();
    assert_eq!(
        (one.going.tags, one.tags_left, one.untagged, one.bytes),
        (vec![("v1".into(), first.to_string())], vec!["latest".into()], vec![], 0)
    );
    let both = deletion::preview(&mut session, &repository, &Choice::Tags(tags(&["v1", "latest"]))).await.unwrap();
    assert_eq!((both.going.tag_count, both.tags_left.len(), both.untagged), (2, 0, vec![first.to_string()]));

    let all = deletion::preview(&mut session, &repository, &Choice::Everything).await.unwrap();
    assert_eq!((all.going.tag_count, all.going.manifests, all.blobs, all.bytes), (3, 2, 3, 10 + 4 + 6));
    assert_eq!((all.shared_blobs, all.shared_bytes), (1, 9));
    let pair = deletion::preview(&mut session, &repository, &Choice::Manifests(vec![first.clone(), second.clone()]))
        .await
        .unwrap();
    assert_eq!((pair.bytes, pair.shared_bytes, pair.referrers_left), (20, 9, 0));
    let preview = deletion::preview(&mut session, &repository, &Choice::Manifests(vec![first.clone()])).await.unwrap();
    assert_eq!((preview.going.tags[1].0.as_str(), preview.going.tag_count, preview.going.manifests), ("v1", 2, 1));
    assert_eq!((preview.blobs, preview.bytes, preview.shared_blobs, preview.shared_bytes), (1, 4, 2, 19));
    assert_eq!(preview.referrers_left, 1);
    drop(session);

    let mut tx = w.db.begin().await.unwrap();
    manifests::delete(&mut tx, &repository.id, &first, w.clock.now()).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(collect(&w).await, preview.bytes.unsigned_abs(), "what was foretold");
    let left = deletion::preview(&mut w.db.read().await.unwrap(), &repository, &Choice::Everything).await.unwrap();
    let mut tx = w.db.begin().await.unwrap();
    assert!(crate::removal::bury_repository(&mut tx, &repository.id).await.unwrap());
    tx.commit().await.unwrap();
    crate::removal::Remover::new(w.db.clone(), w.clock.clone()).run().await.unwrap();
    assert_eq!(collect(&w).await, left.bytes.unsigned_abs());
    assert_eq!(left.bytes, 16);
}

#[tokio::test]
async fn an_index_is_as_large_as_its_entries_and_breaks_without_them() {
    let w = world().await;
    let layer = w.push_blob(b"layer").await;
    let child = sha256(b"{\"child\":1}");
    w.push_manifest(b"{\"child\":1}", vec![layer.clone()], None, &[]).await;
    let (twin, more) = (sha256(b"{\"child\":2}"), w.push_blob(b"more").await);
    w.push_manifest(b"{\"child\":2}", vec![layer, more], None, &["arm".parse().unwrap()]).await;
    let payload = b"{\"manifests\":[]}";
    let index = sha256(payload);
    let tag: Tag = "v1".parse().unwrap();
    let mut tx = w.db.begin().await.unwrap();
    let repository = repositories::find(&mut tx, &w.repo).await.unwrap().unwrap();
    let new = NewManifest {
        digest: &index,
        media_type: "application/vnd.oci.image.index.v1+json",
        payload,
        blobs: vec![],
        children: vec![child.clone(), twin, sha256(b"not here")],
        subject: None,
        artifact_type: None,
        annotations: None,
        pushed_by: "ci",
        tags: std::slice::from_ref(&tag),
    };
    assert_eq!(manifests::put(&mut tx, &repository, &new, w.clock.now(), 0).await.unwrap(), STORED);
    tx.commit().await.unwrap();
    let mut session = w.db.read().await.unwrap();
    let wanted = tags::Wanted { search: "", without_schemes: false, order: Order::Name, after: "" };
    let listed = tags::page(&mut session, &repository.id, &wanted, 9).await.unwrap();
    assert_eq!((listed[1].content_size, listed[1].pushed_by.as_str()), (9, "ci"), "the layer of both counts once");
    assert_eq!(untagged(&mut session, &repository.id, "").await, [], "the index has it");
    let payloads = manifests::payloads(&mut session, &repository.id, [(index.as_str(), 16)].into_iter()).await.unwrap();
    assert_eq!(payloads[index.as_str()], payload);
    let large =
        manifests::payloads(&mut session, &repository.id, [(index.as_str(), 5 << 20)].into_iter()).await.unwrap();
    assert!(large.is_empty(), "too large for a list");

    let preview = deletion::preview(&mut session, &repository, &Choice::Manifests(vec![index.clone()])).await.unwrap();
    assert_eq!((preview.entries_left, preview.bytes, preview.going.broken_indexes), (2, 0, 0));
    let preview = deletion::preview(&mut session, &repository, &Choice::Manifests(vec![child.clone()])).await.unwrap();
    assert_eq!((preview.going.broken_indexes, preview.bytes, preview.shared_bytes), (1, 0, 5));
    drop(session);
    let mut tx = w.db.begin().await.unwrap();
    manifests::delete(&mut tx, &repository.id, &index, 0).await.unwrap();
    tx.commit().await.unwrap();
    let mut session = w.db.read().await.unwrap();
    let found = untagged(&mut session, &repository.id, "").await;
    assert_eq!((found[0].digest.as_str(), found[0].content_size), (child.as_str(), 5));
    assert_eq!(untagged(&mut session, &repository.id, &found[0].cursor()).await, []);
}

/// All manifests without a tag from a place on, page by page.
async fn untagged(session: &mut Session, repository_id: &str, after: &str) -> Vec<manifests::Listed> {
    let (mut all, mut next) = (Vec::new(), Some(after.to_owned()));
    while let Some(after) = next {
        let (page, further) = manifests::untagged(session, repository_id, &after, 2).await.unwrap();
        next = if page.len() == 2 { Some(page[1].cursor()) } else { further };
        all.extend(page);
    }
    all
}

#[tokio::test]
async fn one_page_of_the_untagged_looks_at_so_many_manifests_and_says_where_to_go_on() {
    let w = world().await;
    let mut digests = Vec::new();
    for n in 0..9 {
        w.clock.advance(1);
        let payload = format!("{{\"n\":{n}}}");
        let tag: Tag = format!("v{n}").parse().unwrap();
        let tags = if [0, 1, 8].contains(&n) { vec![] } else { vec![tag] };
        w.push_manifest(payload.as_bytes(), vec![], None, &tags).await;
        digests.push(sha256(payload.as_bytes()).to_string());
    }
    let mut session = w.db.read().await.unwrap();
    let repository = repositories::find(&mut session, &w.repo).await.unwrap().unwrap();
    let found: Vec<String> = untagged(&mut session, &repository.id, "").await.into_iter().map(|m| m.digest).collect();
    assert_eq!(found, [8, 1, 0].map(|n: usize| digests[n].clone()));
    let (first, next) = manifests::untagged(&mut session, &repository.id, "", 2).await.unwrap();
    assert_eq!((first.len(), first[0].digest.as_str()), (1, digests[8].as_str()));
    let (none, next) = manifests::untagged(&mut session, &repository.id, &next.unwrap(), 2).await.unwrap();
    assert_eq!(none, []);
    let (last, next) = manifests::untagged(&mut session, &repository.id, &next.unwrap(), 3).await.unwrap();
    assert_eq!((last.len(), next.is_some()), (2, true), "there were three to look at");
}

#[tokio::test]
async fn whoever_pushes_to_what_is_held_for_a_deletion_waits_for_its_end() {
    let w = world().await;
    let [v1, v2, new]: [Tag; 3] = ["v1", "v2", "new"].map(|tag| tag.parse().unwrap());
    w.push_manifest(b"{\"n\":1}", vec![], None, std::slice::from_ref(&v1)).await;
    w.push_manifest(b"{\"n\":2}", vec![], None, std::slice::from_ref(&v2)).await;
    let repository = repositories::find(&mut w.db.read().await.unwrap(), &w.repo).await.unwrap().unwrap();
    for (choice, payload, tag) in [
        (Choice::Tags(vec![v1.clone()]), b"{\"n\":2}", &v1),
        (Choice::Manifests(vec![sha256(b"{\"n\":1}")]), b"{\"n\":1}", &new),
        (Choice::Everything, b"{\"n\":2}", &v2),
    ] {
        let mut tx = w.db.begin().await.unwrap();
        deletion::hold(&mut tx, &repository, &choice).await.unwrap();
        let push = w.push_manifest(payload, vec![], None, std::slice::from_ref(tag));
        tokio::pin!(push);
        let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut push).await;
        assert!(early.is_err(), "{choice:?}");
        drop(tx);
        assert!(matches!(push.await, Put::Stored { .. }));
    }
}

#[tokio::test]
async fn a_manifest_that_is_pushed_while_it_is_deleted_keeps_what_it_refers_to() {
    let w = world().await;
    let layer = w.push_blob(b"layer").await;
    let [v1, new]: [Tag; 2] = ["v1", "new"].map(|tag| tag.parse().unwrap());
    let (payload, digest) = (b"{}", sha256(b"{}"));
    w.push_manifest(payload, vec![layer.clone()], None, std::slice::from_ref(&v1)).await;
    let repository = repositories::find(&mut w.db.read().await.unwrap(), &w.repo).await.unwrap().unwrap();
    let mut tx = w.db.begin().await.unwrap();
    deletion::hold(&mut tx, &repository, &Choice::Manifests(vec![digest.clone()])).await.unwrap();
    let push = w.push_manifest(payload, vec![layer.clone()], None, std::slice::from_ref(&new));
    tokio::pin!(push);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut push).await.is_err());
    assert!(manifests::delete(&mut tx, &repository.id, &digest, w.clock.now() + GRACE).await.unwrap());
    let (deleted, pushed) = tokio::join!(tx.commit(), push);
    deleted.unwrap();
    assert!(matches!(pushed, Put::Stored { .. }));
    for _ in 0..3 {
        w.clock.advance(2 * GRACE);
        w.gc.run().await.unwrap();
    }
    assert!(w.manifest(&Reference::Tag(new.clone())).await.is_some());
    assert!(w.has_blob(&layer).await);
}

#[tokio::test]
async fn a_push_to_a_repository_that_is_being_deleted_makes_it_anew() {
    let w = world().await;
    let layer = w.push_blob(b"layer").await;
    let v1: Tag = "v1".parse().unwrap();
    w.push_manifest(b"{\"n\":1}", vec![layer.clone()], None, std::slice::from_ref(&v1)).await;
    let repository = repositories::find(&mut w.db.read().await.unwrap(), &w.repo).await.unwrap().unwrap();
    let mut tx = w.db.begin().await.unwrap();
    assert!(removal::bury_repository(&mut tx, &repository.id).await.unwrap());
    let push = w.push_manifest(b"{\"n\":2}", vec![], None, std::slice::from_ref(&v1));
    tokio::pin!(push);
    assert!(tokio::time::timeout(std::time::Duration::from_millis(300), &mut push).await.is_err());
    let (buried, pushed) = tokio::join!(tx.commit(), push);
    buried.unwrap();
    assert!(matches!(pushed, Put::Stored { .. }));
    assert_eq!(
        w.manifest(&Reference::Tag(v1.clone())).await.map(|found| found.payload),
        Some(Bytes::from_static(b"{\"n\":2}"))
    );
    // What went is nowhere to be mounted from.
    let mut session = w.db.read().await.unwrap();
    assert!(!blobs::is_linked_in(&mut session, "acme", None, &layer).await.unwrap());
}

#[tokio::test]
async fn lists_are_searched_and_sorted_page_by_page() {
    let mut w = world().await;
    for (n, name) in ["acme/app", "acme/web/shop", "acme/web/shop_old", "acme/acme"].iter().enumerate() {
        w.clock.advance(1);
        w.repo = name.parse().unwrap();
        let tags = ["v1", "v2", "RC-2", &format!("sha256-{}.sig", "a".repeat(64))].map(|tag| tag.parse().unwrap());
        w.push_manifest(format!("{{\"n\":{n}}}").as_bytes(), vec![], None, &tags).await;
    }
    let mut session = w.db.read().await.unwrap();
    let all = repositories::Wanted {
        org_id: "acme",
        org: "acme",
        project_id: None,
        search: "",
        order: Order::Name,
        after: "",
    };
    let mut pages = async |wanted: repositories::Wanted<'static>| {
        let (mut names, mut after) = (Vec::new(), String::new());
        loop {
            let page = repositories::page(&mut session, &repositories::Wanted { after: &after, ..wanted }, 2).await;
            let page = page.unwrap();
            let Some(last) = page.last() else { return names };
            after = last.cursor(wanted.order);
            names.extend(page.into_iter().map(|row| row.name));
        }
    };
    assert_eq!(pages(all).await, ["acme/acme", "acme/app", "acme/web/shop", "acme/web/shop_old"]);
    let newest = repositories::Wanted { order: Order::Pushed, ..all };
    assert_eq!(pages(newest).await, ["acme/acme", "acme/web/shop_old", "acme/web/shop", "acme/app"]);
    assert_eq!(pages(repositories::Wanted { search: "SHOP_", ..newest }).await, ["acme/web/shop_old"]);
    assert_eq!(pages(repositories::Wanted { search: "acme", ..all }).await, ["acme/acme"], "not the organization");
    assert!(pages(repositories::Wanted { project_id: Some("x"), ..all }).await.is_empty());
    assert!(pages(repositories::Wanted { project_id: Some("x"), ..newest }).await.is_empty());
    assert!(pages(repositories::Wanted { org_id: "other", org: "other", ..newest }).await.is_empty());

    let repository = repositories::find(&mut session, &w.repo).await.unwrap().unwrap();
    let mut named = async |wanted: tags::Wanted<'static>| {
        let rows = tags::page(&mut session, &repository.id, &wanted, 2).await.unwrap();
        let after = rows.last().unwrap().cursor(wanted.order);
        let next = tags::Wanted { after: &after, ..wanted };
        let more = tags::page(&mut session, &repository.id, &next, 9).await.unwrap();
        rows.into_iter().chain(more).map(|row| row.name).collect::<Vec<_>>()
    };
    let every = tags::Wanted { search: "", without_schemes: true, order: Order::Name, after: "" };
    assert_eq!(named(every).await, ["RC-2", "v1", "v2"]);
    assert_eq!(named(tags::Wanted { order: Order::Pushed, ..every }).await, ["v2", "v1", "RC-2"]);
    assert_eq!(named(tags::Wanted { search: "rc", ..every }).await, ["RC-2"]);
    assert_eq!(named(tags::Wanted { without_schemes: false, ..every }).await.len(), 4);
}

#[tokio::test]
async fn the_last_pull_of_each_image_is_known_and_goes_with_it() {
    let w = world().await;
    let (first, second) = (sha256(b"{\"n\":1}"), sha256(b"{\"n\":2}"));
    w.push_manifest(b"{\"n\":1}", vec![], None, &["v1".parse().unwrap()]).await;
    w.push_manifest(b"{\"n\":2}", vec![], None, &["v2".parse().unwrap()]).await;
    let pull = |digest: &Digest, at, by: &'static str| Pull {
        repository: "acme/app",
        digest: digest.to_string().into(),
        at,
        by,
        count: 1,
    };
    let gone = Pull { repository: "acme/gone", ..pull(&first, 9, "ann") };
    for batch in [vec![pull(&first, 5, "ann"), pull(&first, 7, "o\"Neill"), gone], vec![pull(&second, 6, "ci")], vec![]]
    {
        let mut tx = w.db.begin().await.unwrap();
        pulls::note(&mut tx, &batch).await.unwrap();
        tx.commit().await.unwrap();
    }
    let mut session = w.db.read().await.unwrap();
    let repository = repositories::find(&mut session, &w.repo).await.unwrap().unwrap();
    let id = repository.id.as_str();
    let wanted = tags::Wanted { search: "", without_schemes: false, order: Order::Name, after: "" };
    let listed = tags::page(&mut session, id, &wanted, 9).await.unwrap();
    let pulled: Vec<_> = listed.iter().map(|tag| (tag.pulled_at, tag.pulled_by.as_deref())).collect();
    assert_eq!(pulled, [(Some(7), Some("o\"Neill")), (Some(6), Some("ci"))]);
    let summary = repositories::summaries(&mut session, [id].into_iter()).await.unwrap().remove(id).unwrap();
    assert_eq!((summary.tags, summary.size, summary.pulled_at), (2, 0, Some(7)), "a late batch changes nothing");
    drop(session);
    let count = async || {
        let mut session = w.db.read().await.unwrap();
        query_one!(session, (i64,), "SELECT COUNT(*) FROM last_pulls").unwrap().0
    };
    assert_eq!(count().await, 3);
    let mut tx = w.db.begin().await.unwrap();
    manifests::delete(&mut tx, id, &first, 0).await.unwrap();
    crate::removal::bury_repository(&mut tx, id).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(count().await, 2);
    crate::removal::Remover::new(w.db.clone(), w.clock.clone()).run().await.unwrap();
    assert_eq!(count().await, 0);
}

#[tokio::test]
async fn what_was_pushed_before_lists_knew_sizes_has_them_too() {
    let dir = tempfile::tempdir().unwrap();
    let db = testing::empty(dir.path()).await;
    db.migrate_to(3).await.unwrap();
    let mut tx = db.begin().await.unwrap();
    for sql in [
        "INSERT INTO orgs (id, slug, name, created_at) VALUES ('a', 'aa', 'A', 1)",
        "INSERT INTO projects (id, org_id, slug, public, sparse, created_at) VALUES ('p', 'a', 'web', FALSE, FALSE, 0)",
        "INSERT INTO repositories (id, org_id, project_id, name, created_at, pushed_at)
         VALUES ('r', 'a', 'p', 'aa/web/x', 1, 1)",
        "INSERT INTO blobs (org_id, digest, size, object_key, created_at) VALUES ('a', 'b1', 30, 'k1', 1), ('a', 'b2', 4, 'k2', 1)",
        "INSERT INTO blob_links (repository_id, digest, org_id, lease_until) VALUES ('r', 'b1', 'a', 0), ('r', 'b2', 'a', 0)",
        "INSERT INTO manifests (repository_id, digest, media_type, size, created_at, pushed_by, payload)
         VALUES ('r', 'm', 'a/b', 2, 1, 'ann', '')",
        "INSERT INTO manifest_references (repository_id, manifest, target) VALUES ('r', 'm', 'b1'), ('r', 'm', 'b2')",
        "INSERT INTO tags (repository_id, name, digest, updated_at) VALUES ('r', 'v1', 'm', 1)",
    ] {
        execute!(tx, sql).unwrap();
    }
    tx.commit().await.unwrap();
    db.migrate().await.unwrap();
    let wanted = tags::Wanted { search: "", without_schemes: false, order: Order::Name, after: "" };
    let listed = tags::page(&mut db.read().await.unwrap(), "r", &wanted, 9).await.unwrap();
    assert_eq!((listed[0].content_size, listed[0].pushed_by.as_str()), (34, "ann"));
}

//! What is read most, kept in memory: manifests, and small blobs with their bytes.
//!
//! On `SQLite` this process is the only one that serves content, and every change of a row passes through its writer: what
//! is kept counts exactly as long as the rows that it was read from stay as they were ([`Changes`]).
//! Where other processes commit as well, what they change is noticed at the next [`Db::notice_others`]. On `PostgreSQL`
//! nothing is kept: other replicas write, and each request asks once. Objects that are read from stay open for some seconds on
//! either: what a key names never changes.

mod readers;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use moka::sync::Cache;

use crate::blobs::{self, Blob};
use crate::db::Db;
use crate::db::changes::{Changes, Mark};
use crate::error::{Error, Result};
use crate::manifests::{self, Manifest};
use crate::names::{Digest, Reference, RepoName};
use crate::objects::{ObjectReader, Objects};
use crate::projects::{self, Place};
use crate::shelf::readers::Readers;

/// Blobs of at most so many bytes are kept whole.
pub const SMALL: u64 = 64 << 10;
/// Projects whose ids are kept.
const PLACES: u64 = 10_000;
/// What an entry takes besides its texts and bytes, about.
const ENTRY: usize = 512;

/// The shelf; cheap to clone.
#[derive(Clone, Debug)]
pub struct Shelf(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    db: Db,
    objects: Objects,
    manifests: Cache<String, Kept<Manifest>>,
    blobs: Cache<String, Kept<Shelved>>,
    places: Cache<String, Kept<Place>>,
    readers: Arc<Readers>,
}

/// A value, and the rows that it was read from.
#[derive(Debug)]
struct Kept<T> {
    value: Arc<T>,
    read: u64,
    rows: [Mark; 2],
}

impl<T> Clone for Kept<T> {
    fn clone(&self) -> Self {
        Self { value: Arc::clone(&self.value), read: self.read, rows: self.rows }
    }
}

/// A blob that a repository may read.
#[derive(Debug)]
pub struct Shelved {
    /// Its row.
    pub blob: Blob,
    bytes: OnceLock<Bytes>,
}

impl Shelved {
    /// With its bytes, where the database has them. Wrong ones stay where they are: they are damage, to be found when they
    /// are read.
    fn new(mut blob: Blob) -> Self {
        let bytes = OnceLock::new();
        if blob.proven().is_some()
            && let Some(content) = blob.content.take()
        {
            let _ = bytes.set(Bytes::from(content));
        }
        Self { blob, bytes }
    }

    /// Its bytes, where they were read before.
    #[must_use]
    pub fn bytes(&self) -> Option<Bytes> {
        self.bytes.get().cloned()
    }

    /// Whether its bytes are kept with it once they were read.
    #[must_use]
    pub fn is_small(&self) -> bool {
        self.blob.size.unsigned_abs() <= SMALL
    }
}

impl Shelf {
    /// A shelf of at most `capacity` bytes.
    #[must_use]
    pub fn new(db: Db, objects: Objects, capacity: u64) -> Self {
        let manifests = Cache::builder()
            .max_capacity(capacity / 2)
            .weigher(|key: &String, kept: &Kept<Manifest>| weight(key, kept.value.payload.len()))
            .build();
        let blobs = Cache::builder()
            .max_capacity(capacity / 2)
            .weigher(|key: &String, kept: &Kept<Shelved>| {
                let small = kept.value.is_small();
                weight(key, if small { usize::try_from(kept.value.blob.size).unwrap_or_default() } else { 0 })
            })
            .build();
        let places = Cache::builder().max_capacity(PLACES).build();
        let readers = Readers::new(objects.clone());
        Self(Arc::new(Inner { db, objects, manifests, blobs, places, readers }))
    }

    /// A manifest, by tag or digest.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn manifest(&self, repo: &RepoName, reference: &Reference) -> Result<Option<Arc<Manifest>>> {
        let key = match reference {
            Reference::Tag(tag) => key(repo, tag.as_str()),
            Reference::Digest(digest) => key(repo, digest.as_str()),
        };
        if let Some(kept) = self.look(&self.0.manifests, &key) {
            return Ok(Some(kept));
        }
        let read = self.0.db.changes().map(Changes::now);
        let mut session = self.0.db.read().await?;
        let Some(found) = manifests::find_with_rows(&mut session, repo, reference).await? else { return Ok(None) };
        let value = Arc::new(found.manifest);
        if let Some(read) = read {
            let named_by = if matches!(reference, Reference::Tag(_)) { "tags" } else { "manifests" };
            let rows = [Mark::of("manifests", found.manifest_row), Mark::of(named_by, found.tag_row)];
            self.0.manifests.insert(key, Kept { value: Arc::clone(&value), read, rows });
        }
        Ok(Some(value))
    }

    /// The organization and the project that a repository's name says.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn place(&self, repo: &RepoName) -> Result<Option<Arc<Place>>> {
        // No slug has a slash.
        let key = format!("{}/{}", repo.org(), repo.project());
        if let Some(kept) = self.look(&self.0.places, &key) {
            return Ok(Some(kept));
        }
        let read = self.0.db.changes().map(Changes::now);
        let mut session = self.0.db.read().await?;
        let Some(found) = projects::find_place(&mut session, repo.org(), repo.project()).await? else {
            return Ok(None);
        };
        let value = Arc::new(found.place);
        if let Some(read) = read {
            let rows = [Mark::of("orgs", found.org_row), Mark::of("projects", found.project_row)];
            self.0.places.insert(key, Kept { value: Arc::clone(&value), read, rows });
        }
        Ok(Some(value))
    }

    /// A blob that a repository may read.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn blob(&self, repo: &RepoName, digest: &Digest) -> Result<Option<Arc<Shelved>>> {
        let key = key(repo, digest.as_str());
        if let Some(kept) = self.look(&self.0.blobs, &key) {
            return Ok(Some(kept));
        }
        let read = self.0.db.changes().map(Changes::now);
        let mut session = self.0.db.read().await?;
        let Some(found) = blobs::find_with_rows(&mut session, repo, digest).await? else { return Ok(None) };
        let value = Arc::new(Shelved::new(found.blob));
        if let Some(read) = read {
            let rows = [Mark::of("blobs", found.blob_row), Mark::of("blob_links", found.link_row)];
            self.0.blobs.insert(key, Kept { value: Arc::clone(&value), read, rows });
        }
        Ok(Some(value))
    }

    /// Reads all bytes of a small blob from the object that `row` names, which is the blob's row as it is now; proves them
    /// against its digest and keeps them.
    ///
    /// # Errors
    /// [`Error::Damaged`] where they are missing or others; else [`Error::Io`].
    pub async fn bytes(&self, shelved: &Shelved, row: Blob) -> Result<Bytes> {
        let objects = self.0.objects.clone();
        let bytes = tokio::task::spawn_blocking(move || blobs::read(&objects, &row))
            .await
            .map_err(|e| Error::Io { context: "reading an object", source: std::io::Error::other(e) })??;
        Ok(shelved.bytes.get_or_init(|| Bytes::from(bytes)).clone())
    }

    /// An open object that has the bytes before `end`.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is missing or shorter; else [`Error::Io`].
    pub async fn reader(&self, key: &str, end: u64) -> Result<ObjectReader> {
        self.0.readers.get(key, end).await
    }

    fn look<T: Send + Sync + 'static>(&self, cache: &Cache<String, Kept<T>>, key: &str) -> Option<Arc<T>> {
        let changes = self.0.db.changes()?;
        let kept = cache.get(key)?;
        if changes.since(kept.read, &kept.rows) {
            // Not taken out: a newer one may be in its place by now. It will be replaced by what is read next.
            return None;
        }
        Some(kept.value)
    }
}

fn key(repo: &RepoName, reference: &str) -> String {
    // No name has a space.
    let mut key = String::with_capacity(repo.canonical().len() + 1 + reference.len());
    key.push_str(repo.canonical());
    key.push(' ');
    key.push_str(reference);
    key
}

fn weight(key: &str, bytes: usize) -> u32 {
    u32::try_from(ENTRY + key.len() + bytes).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;

//! Configs: small JSON blobs that manifests name. Whether a repository may read one is asked of its rows every time; only
//! bytes, which never change under a digest, are remembered.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use storage::blobs::{self, Blob};
use storage::names::Digest;
use storage::objects::Objects;
use storage::repositories::Repository;

use crate::State;
use crate::error::{Error, Result};

/// Largest config that is read.
pub(crate) const MAX: i64 = 4 << 20;
/// Largest that is remembered, and largest that is read where there are many.
pub(crate) const SMALL: i64 = 128 << 10;
/// Bytes remembered in all.
const REMEMBERED: u64 = 32 << 20;
/// How long they are, after their last use.
const IDLE: Duration = Duration::from_secs(600);

/// Bytes of configs by organization and digest.
#[derive(Debug, Clone)]
pub(crate) struct Configs(Cache<(String, String), Arc<[u8]>>);

impl Default for Configs {
    fn default() -> Self {
        let weight = |key: &(String, String), bytes: &Arc<[u8]>| {
            u32::try_from(bytes.len() + key.0.len() + key.1.len()).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(REMEMBERED).weigher(weight).time_to_idle(IDLE).build())
    }
}

/// The configs with these digests that the repository may read and that have at most `most` bytes. Those that are not here,
/// larger, or damaged are left out.
///
/// # Errors
/// Those of the database.
pub(crate) async fn load(
    state: &State,
    repository: &Repository,
    digests: &[Digest],
    most: i64,
) -> Result<HashMap<String, Arc<[u8]>>> {
    if digests.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = blobs::find_all(&mut state.db().read().await?, &repository.id, digests.iter()).await?;
    let mut found = HashMap::new();
    let mut unread = Vec::new();
    for row in rows.into_iter().filter(|row| (0..=most.min(MAX)).contains(&row.size)) {
        match state.configs().0.get(&(row.org_id.clone(), row.digest.clone())) {
            Some(bytes) => drop(found.insert(row.digest, bytes)),
            None => unread.push(row),
        }
    }
    if unread.is_empty() {
        return Ok(found);
    }
    let objects = state.objects().clone();
    let read = tokio::task::spawn_blocking(move || read(&objects, unread)).await.map_err(Error::internal)?;
    for (row, bytes) in read {
        if row.size <= SMALL {
            state.configs().0.insert((row.org_id, row.digest.clone()), Arc::clone(&bytes));
        }
        found.insert(row.digest, bytes);
    }
    Ok(found)
}

/// What can be read of them: a page without a config says more than none.
fn read(objects: &Objects, rows: Vec<Blob>) -> Vec<(Blob, Arc<[u8]>)> {
    let read = |row: Blob| match blobs::read(objects, &row) {
        Ok(bytes) => Some((row, Arc::from(bytes))),
        Err(error) => {
            tracing::error!(digest = row.digest, object.key = row.object_key, %error, "a config cannot be read");
            None
        }
    };
    rows.into_iter().filter_map(read).collect()
}

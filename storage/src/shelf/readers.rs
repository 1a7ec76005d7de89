//! Objects that are read again and again, as by whoever pulls a layer in many small ranges: kept open for some seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::objects::{self, ObjectReader, Objects};

/// Objects that are kept open, at most: each takes a file descriptor.
const MOST: usize = if cfg!(test) { 4 } else { 256 };
/// How long nobody has read from an object that is closed. A file that was removed takes room for as long as it is open.
const IDLE: Duration = Duration::from_millis(if cfg!(test) { 400 } else { 5000 });
/// How long an object is kept open at most: somebody may have put a file in another's place, as after damage.
const OLD: Duration = Duration::from_secs(if cfg!(test) { 5 } else { 30 });

/// Open objects, by key. A key names the same bytes for ever, so what is read here is never stale; a file may be lost, or cut
/// by somebody: one that could not be read is not kept.
#[derive(Debug)]
pub(super) struct Readers {
    objects: Objects,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    open: HashMap<String, Opened>,
    /// A task closes what is idle, for as long as anything is open.
    tidied: bool,
}

#[derive(Clone, Debug)]
struct Opened {
    reader: ObjectReader,
    length: u64,
    since: Instant,
    used: Instant,
}

impl Opened {
    fn is_fit(&self) -> bool {
        !self.reader.has_failed() && self.since.elapsed() < OLD && self.used.elapsed() < IDLE
    }
}

impl Readers {
    pub(super) fn new(objects: Objects) -> Arc<Self> {
        Arc::new(Self { objects, kept: Mutex::default() })
    }

    /// See [`Shelf::reader`](super::Shelf::reader).
    pub(super) async fn get(self: &Arc<Self>, key: &str, end: u64) -> Result<ObjectReader> {
        if let Some(reader) = self.kept().look(key, end) {
            return Ok(reader);
        }
        let (objects, named) = (self.objects.clone(), key.to_owned());
        let opening = tokio::task::spawn_blocking(move || -> Result<_> {
            let reader = objects.open_object(&named)?;
            let length = reader.length()?;
            Ok((reader, length))
        });
        let (reader, length) = opening
            .await
            .map_err(|e| Error::Io { context: "opening an object", source: std::io::Error::other(e) })??;
        if length < end {
            return Err(objects::shorter());
        }
        let now = Instant::now();
        let opened = Opened { reader: reader.clone(), length, since: now, used: now };
        let (begin, displaced) = self.kept().keep(key, opened);
        if let Some(displaced) = displaced {
            close(displaced);
        }
        if begin {
            tokio::spawn(tidy(Arc::downgrade(self)));
        }
        Ok(reader)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What a panic leaves is whole: every change is one call.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn look(&mut self, key: &str, end: u64) -> Option<ObjectReader> {
        let opened = self.open.get_mut(key).filter(|opened| opened.is_fit() && opened.length >= end)?;
        opened.used = Instant::now();
        Some(opened.reader.clone())
    }

    /// Keeps an object, in place of an earlier one of the key or, where there are too many, of the one that was not read from for
    /// longest: that is returned. Also whether a task must begin to tidy.
    fn keep(&mut self, key: &str, opened: Opened) -> (bool, Option<Opened>) {
        let longest = || self.open.iter().min_by_key(|(_, opened)| opened.used).map(|(key, _)| key.clone());
        let displaced = match self.open.contains_key(key) || self.open.len() < MOST {
            true => None,
            false => longest().and_then(|key| self.open.remove(&key)),
        };
        let earlier = self.open.insert(key.to_owned(), opened);
        (!std::mem::replace(&mut self.tidied, true), earlier.or(displaced))
    }

    /// Takes out what is not kept any longer. Whoever tidies ends where nothing is left.
    fn unfit(&mut self) -> Vec<Opened> {
        let unfit = self.open.extract_if(|_, opened| !opened.is_fit()).map(|(_, opened)| opened).collect();
        self.tidied = !self.open.is_empty();
        unfit
    }
}

async fn tidy(readers: Weak<Readers>) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(readers) = readers.upgrade() else { return };
        let (unfit, over) = {
            let mut kept = readers.kept();
            (kept.unfit(), !kept.tidied)
        };
        if !unfit.is_empty() {
            close(unfit);
        }
        if over {
            return;
        }
    }
}

/// Closes objects on a thread that may wait: the last one who closes a large file that was removed waits for the file system.
fn close(opened: impl Send + 'static) {
    tokio::task::spawn_blocking(move || drop(opened));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs;

    use bytes::Bytes;

    use super::*;

    /// A store with some objects of six bytes.
    fn world(dir: &std::path::Path, objects: usize) -> (Arc<Readers>, Vec<String>) {
        let store = Objects::open(dir.to_str().unwrap()).unwrap();
        let keys: Vec<String> = (0..objects).map(|_| crate::names::new_id()).collect();
        for key in &keys {
            store.append(key, 0).unwrap().write(&[Bytes::from_static(b"hello!")]).unwrap();
        }
        (Readers::new(store), keys)
    }

    /// Files below a folder that this process has open.
    fn open_files(dir: &std::path::Path) -> usize {
        let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
        open.filter(|fd| fs::read_link(fd.path()).is_ok_and(|file| file.starts_with(dir))).count()
    }

    /// Waits until so many files are open, no more: they are closed on another thread.
    async fn until_open(dir: &std::path::Path, files: usize) {
        for _ in 0..2000 {
            if open_files(dir) <= files {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("{} files stay open", open_files(dir));
    }

    #[tokio::test]
    async fn an_object_stays_open_while_it_is_read_from_and_is_closed_afterwards() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (readers, keys) = world(&dir, 1);
        let key = keys.first().unwrap();
        assert!(readers.get(key, 6).await.is_ok());
        assert_eq!(open_files(&dir), 1);
        readers.objects.remove(key).unwrap();
        let reader = readers.get(key, 6).await.unwrap();
        assert_eq!(reader.read(1, 4).unwrap(), "ello");
        drop(reader);
        until_open(&dir, 0).await;
        assert!(matches!(readers.get(key, 6).await, Err(Error::Damaged(_))));
        // A later one is closed as well.
        let later = crate::names::new_id();
        readers.objects.append(&later, 0).unwrap().write(&[Bytes::from_static(b"later!")]).unwrap();
        assert!(readers.get(&later, 6).await.is_ok());
        assert_eq!(open_files(&dir), 1);
        until_open(&dir, 0).await;
    }

    #[tokio::test]
    async fn an_object_that_could_not_be_read_is_opened_anew() {
        let dir = tempfile::tempdir().unwrap();
        let (readers, keys) = world(dir.path(), 1);
        let (key, path) = (&keys[0], dir.path().join("objects").join(&keys[0][24..]).join(&keys[0]));
        // Another file in its place is not seen while the one that is open does what it should.
        let first = readers.get(key, 6).await.unwrap();
        fs::write(path.with_extension("new"), "world and more").unwrap();
        fs::rename(path.with_extension("new"), &path).unwrap();
        assert_eq!(readers.get(key, 6).await.unwrap().read(0, 6).unwrap(), "hello!");
        // One that is too short is not it.
        assert_eq!(readers.get(key, 10).await.unwrap().read(0, 10).unwrap(), "world and ");
        assert!(matches!(readers.get(key, 15).await, Err(Error::Damaged(_))));
        // Nor one that is cut while it is open.
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(3).unwrap();
        let cut = readers.get(key, 6).await.unwrap();
        assert!(matches!(cut.read(0, 6), Err(Error::Damaged(_))));
        assert!(matches!(readers.get(key, 6).await, Err(Error::Damaged(_))));
        fs::write(&path, "healed").unwrap();
        assert_eq!(readers.get(key, 6).await.unwrap().read(0, 6).unwrap(), "healed");
        drop(first);
    }

    #[tokio::test]
    async fn few_objects_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (readers, keys) = world(&dir, 40);
        for key in &keys {
            assert!(readers.get(key, 6).await.is_ok());
        }
        until_open(&dir, MOST).await;
        // The last ones, of which one that is read from again stays.
        let last = &keys[36..];
        assert!(readers.get(&last[0], 6).await.is_ok());
        assert!(readers.get(&keys[0], 6).await.is_ok());
        until_open(&dir, MOST).await;
        let kept: Vec<bool> = last.iter().map(|key| readers.kept().open.contains_key(key)).collect();
        assert_eq!(kept, [true, false, true, true]);
    }
}

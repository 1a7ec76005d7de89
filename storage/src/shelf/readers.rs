//! Objects that are read again and again, as by whoever pulls a layer in many small ranges: kept open for some seconds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::objects::{ObjectReader, Objects};

/// Objects that are kept open, at most: each takes a file descriptor.
const MOST: usize = if cfg!(test) { 4 } else { 256 };
/// How long nobody has read from an object that is closed. A file that was removed takes room for as long as it is open.
const IDLE: Duration = if cfg!(test) { Duration::from_millis(50) } else { Duration::from_secs(5) };

/// Open objects, by key. A key names the same bytes for ever, so nothing here can be stale.
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
    used: Instant,
}

impl Readers {
    pub(super) fn new(objects: Objects) -> Arc<Self> {
        Arc::new(Self { objects, kept: Mutex::default() })
    }

    /// See [`Shelf::reader`](super::Shelf::reader).
    pub(super) async fn get(self: &Arc<Self>, key: &str, end: u64) -> Result<ObjectReader> {
        let kept = self.kept().look(key);
        let Opened { reader, length, .. } = match kept {
            Some(opened) => opened,
            None => self.open(key).await?,
        };
        if length < end {
            return Err(Error::Damaged("an object is shorter than its row says".into()));
        }
        Ok(reader)
    }

    async fn open(self: &Arc<Self>, key: &str) -> Result<Opened> {
        let (objects, named) = (self.objects.clone(), key.to_owned());
        let opening = tokio::task::spawn_blocking(move || -> Result<_> {
            let reader = objects.open_object(&named)?;
            let length = reader.length()?;
            Ok(Opened { reader, length, used: Instant::now() })
        });
        let opened = opening
            .await
            .map_err(|e| Error::Io { context: "opening an object", source: std::io::Error::other(e) })??;
        if self.kept().keep(key, opened.clone()) {
            tokio::spawn(tidy(Arc::downgrade(self)));
        }
        Ok(opened)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What a panic leaves is whole: every change is one call.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn look(&mut self, key: &str) -> Option<Opened> {
        let opened = self.open.get_mut(key)?;
        opened.used = Instant::now();
        Some(opened.clone())
    }

    /// Keeps an object, in place of the one that was not read from for longest where there are too many. True where a task
    /// must begin to tidy.
    fn keep(&mut self, key: &str, opened: Opened) -> bool {
        if self.open.len() >= MOST
            && let Some(oldest) = self.open.iter().min_by_key(|(_, opened)| opened.used).map(|(key, _)| key.clone())
        {
            self.open.remove(&oldest);
        }
        self.open.insert(key.to_owned(), opened);
        !std::mem::replace(&mut self.tidied, true)
    }

    /// Closes what is idle; false where nothing is left, and nobody tidies any more.
    fn tidy(&mut self) -> bool {
        self.open.retain(|_, opened| opened.used.elapsed() < IDLE);
        self.tidied = !self.open.is_empty();
        self.tidied
    }
}

async fn tidy(readers: Weak<Readers>) {
    loop {
        tokio::time::sleep(IDLE).await;
        match readers.upgrade() {
            Some(readers) if readers.kept().tidy() => {}
            _ => return,
        }
    }
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

    async fn until_closed(dir: &std::path::Path) {
        for _ in 0..200 {
            if open_files(dir) == 0 {
                return;
            }
            tokio::time::sleep(IDLE).await;
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
        assert!(matches!(readers.get(key, 7).await, Err(Error::Damaged(_))));
        drop(reader);
        until_closed(&dir).await;
        assert!(matches!(readers.get(key, 6).await, Err(Error::Damaged(_))));
        // A later one is closed as well.
        let later = crate::names::new_id();
        readers.objects.append(&later, 0).unwrap().write(&[Bytes::from_static(b"later!")]).unwrap();
        assert!(readers.get(&later, 6).await.is_ok());
        assert_eq!(open_files(&dir), 1);
        until_closed(&dir).await;
    }

    #[tokio::test]
    async fn few_objects_stay_open() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let (readers, keys) = world(&dir, 40);
        for key in &keys {
            assert!(readers.get(key, 6).await.is_ok());
        }
        assert_eq!(open_files(&dir), MOST);
        // The last ones, of which one that is read from again stays.
        let last = &keys[36..];
        assert!(readers.get(&last[0], 6).await.is_ok());
        assert!(readers.get(&keys[0], 6).await.is_ok());
        assert_eq!(open_files(&dir), MOST);
        let kept: Vec<bool> = last.iter().map(|key| readers.kept().look(key).is_some()).collect();
        assert_eq!(kept, [true, false, true, true]);
    }
}

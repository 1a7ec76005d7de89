//! A blob's bytes as they are read from its file, piece by piece.

use std::ops::Range;

use bytes::Bytes;
use futures_util::{Stream, stream};
use storage::objects::ObjectReader;
use tokio::task::JoinHandle;

/// Bytes read from a file at a time.
pub(crate) const CHUNK: u64 = 256 * 1024;

/// A range of an object that is being read.
pub(crate) struct Pieces {
    reader: ObjectReader,
    rest: Range<u64>,
    /// The piece after the one that is being sent, where the disk has to be waited for.
    ahead: Option<JoinHandle<storage::Result<Bytes>>>,
}

impl Pieces {
    pub(crate) fn new(reader: ObjectReader, range: Range<u64>) -> Self {
        Self { reader, rest: range, ahead: None }
    }

    /// The next piece; nothing at the end.
    ///
    /// # Errors
    /// Those of [`ObjectReader::read`].
    pub(crate) async fn next(&mut self) -> storage::Result<Option<Bytes>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Some(waiting) = self.ahead.take().or_else(|| self.begin_unless_warm()) else {
            let piece = read(&self.reader, &self.rest)?;
            self.rest.start += piece.len() as u64;
            return Ok(Some(piece));
        };
        let piece = waiting.await.map_err(|error| storage::Error::Io {
            context: "a reading thread ended early",
            source: std::io::Error::other(error),
        })??;
        self.rest.start += piece.len() as u64;
        // What follows is hardly in memory either.
        self.ahead = self.begin_unless_warm();
        Ok(Some(piece))
    }

    /// Begins to read the next piece on another thread. Not where the system has it in memory: to wake a thread takes longer
    /// then than to read it.
    fn begin_unless_warm(&self) -> Option<JoinHandle<storage::Result<Bytes>>> {
        if self.reader.is_warm(self.rest.start, length(&self.rest)) {
            return None;
        }
        let (reader, rest) = (self.reader.clone(), self.rest.clone());
        Some(tokio::task::spawn_blocking(move || read(&reader, &rest)))
    }

    /// All that is left.
    pub(crate) fn into_stream(self) -> impl Stream<Item = storage::Result<Bytes>> {
        stream::try_unfold(self, async |mut pieces| Ok(pieces.next().await?.map(|piece| (piece, pieces))))
    }
}

fn length(rest: &Range<u64>) -> u64 {
    (rest.end - rest.start).min(CHUNK)
}

/// At most one chunk. Blocks.
fn read(reader: &ObjectReader, rest: &Range<u64>) -> storage::Result<Bytes> {
    reader.read(rest.start, usize::try_from(length(rest)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::fs::{File, OpenOptions};

    use futures_util::TryStreamExt as _;
    use storage::objects::Objects;

    use super::*;

    const LENGTH: u64 = 3 * CHUNK + 1000;

    /// An object of some length, and its file.
    fn object(dir: &std::path::Path) -> (ObjectReader, Bytes, File) {
        let objects = Objects::open(dir.to_str().unwrap()).unwrap();
        let key = storage::names::new_id();
        let noise: Bytes =
            (0..u32::try_from(LENGTH).unwrap()).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
        let mut writer = objects.append(&key, 0).unwrap();
        writer.write(std::slice::from_ref(&noise)).unwrap();
        writer.sync().unwrap();
        let file = OpenOptions::new().write(true).open(dir.join("objects").join(&key[24..]).join(&key)).unwrap();
        (objects.open_object(&key).unwrap(), noise, file)
    }

    #[tokio::test]
    async fn every_byte_comes_once_whether_the_system_has_it_in_memory_or_not() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, noise, file) = object(dir.path());
        for range in [0..LENGTH, 5..CHUNK + 5, LENGTH - 1..LENGTH, 7..7] {
            for warm in [true, false] {
                if !warm {
                    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                }
                let pieces: Vec<Bytes> =
                    Pieces::new(reader.clone(), range.clone()).into_stream().try_collect().await.unwrap();
                assert!(pieces.iter().all(|piece| piece.len() as u64 <= CHUNK));
                let part = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
                assert!(pieces.concat() == noise[part], "{range:?} {warm}");
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_became_shorter_is_an_error_and_no_end() {
        let dir = tempfile::tempdir().unwrap();
        let (reader, _, file) = object(dir.path());
        let mut pieces = Pieces::new(reader, 0..LENGTH);
        assert_eq!(pieces.next().await.unwrap().unwrap().len() as u64, CHUNK);
        file.set_len(2 * CHUNK).unwrap();
        assert_eq!(pieces.next().await.unwrap().unwrap().len() as u64, CHUNK);
        assert!(matches!(pieces.next().await, Err(storage::Error::Damaged(_))));
    }
}

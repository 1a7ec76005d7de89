//! Where bytes live: objects with opaque keys, on the local file system. The one seam that bytes pass through.
//!
//! ```text
//! ROOT/
//!   LAYOUT                 "1": the version of this drawing
//!   objects/<xy>/<key>     <key> is an id of `names::new_id`, <xy> its last two characters (1,024 folders)
//! ```
//!
//! An upload writes straight to its final object; what makes it a blob is a row. An object is its content followed by a
//! trailer that says whose and what it is ([`Trailer`]), so that rows can be proved against bytes and rebuilt from them.
//! Nothing here decides anything: which object is which blob, who may read it and when it goes is in rows.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice, IoSliceMut, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

const LAYOUT: &str = "1\n";
const ALPHABET: &str = "0123456789abcdefghjkmnpqrstvwxyz";
const MAGIC: &[u8; 8] = b"WHARFOBJ";
/// Bytes of a file that one call writes at most. For longer writes the system takes larger pieces of memory to keep them in, and
/// such pieces may have to be had from the host first (free page reporting): 3.5 GB/s became 0.6 GB/s at 1 MiB.
const STRIDE: u64 = 256 << 10;
/// Buffers that one system call takes (POSIX: at least 16; Linux: 1,024).
const IOV_MAX: usize = 1024;
/// Distance of the bytes that tell whether a range is in memory: the system reads ahead, and forgets, in larger pieces.
const SAMPLE: usize = 128 << 10;
/// How far ahead of a reader that waits the disk is asked to read.
const AHEAD: u64 = 8 << 20;
/// A trailer is shorter than this.
const MAX_TRAILER: u64 = 1024;

/// The store of objects; cheap to clone.
#[derive(Clone, Debug)]
pub struct Objects {
    root: Arc<PathBuf>,
}

/// What an object says of itself, after its content: this as JSON, its length in four bytes, and eight magic bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trailer {
    /// Id of the organization that the bytes belong to.
    pub org: String,
    /// Digest of the content.
    pub digest: String,
    /// Length of the content in bytes.
    pub size: u64,
}

impl Objects {
    /// Opens the store at `file://PATH` or a plain path, making its folders at the first use. Blocks.
    ///
    /// # Errors
    /// [`Error::Config`] for a URL of another kind or a newer layout, else what the file system said.
    pub fn open(url: &str) -> Result<Self> {
        let path = match url.strip_prefix("file://") {
            Some(path) => path,
            None if url.contains("://") => {
                return Err(Error::Config(format!("the blob URL must start with file://, not {url}")));
            }
            None => url,
        };
        let root = PathBuf::from(path);
        match fs::read_to_string(root.join("LAYOUT")) {
            Ok(layout) if layout == LAYOUT => {}
            Ok(layout) if !layout.is_empty() => {
                return Err(Error::Config(format!("{path} was laid out by another version of this program")));
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("opening the blob folder")(error));
            }
            // Absent, or empty since a crash came between its making and its first byte.
            _ => Self::lay_out(&root).map_err(Error::io("making the blob folders"))?,
        }
        Ok(Self { root: Arc::new(root) })
    }

    /// Whether the store is there and answers: a mount point whose file system is gone holds no layout. Blocks.
    ///
    /// # Errors
    /// What the file system said.
    pub fn probe(&self) -> Result<()> {
        fs::metadata(self.root.join("LAYOUT")).map(|_| ()).map_err(Error::io("looking at the blob folder"))
    }

    /// Makes every folder beforehand, so that a new object needs only its own folder synced.
    fn lay_out(root: &Path) -> io::Result<()> {
        let objects = root.join("objects");
        fs::create_dir_all(&objects)?;
        fs::set_permissions(root, fs::Permissions::from_mode(0o700))?;
        for first in ALPHABET.chars() {
            for second in ALPHABET.chars() {
                match fs::create_dir(objects.join(format!("{first}{second}"))) {
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
            }
        }
        File::open(&objects)?.sync_all()?;
        let drafted = root.join(format!("LAYOUT.{}", crate::names::new_id()));
        let mut layout = File::create(&drafted)?;
        layout.write_all(LAYOUT.as_bytes())?;
        layout.sync_all()?;
        fs::rename(&drafted, root.join("LAYOUT"))?;
        // The folders above may be new as well, and a power cut must not take the root away.
        for folder in root.canonicalize()?.ancestors().skip(1) {
            match File::open(folder).and_then(|folder| folder.sync_all()) {
                Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
                _ => {}
            }
        }
        File::open(root)?.sync_all()
    }

    fn folder(&self, key: &str) -> PathBuf {
        let shard = key.len().checked_sub(2).and_then(|at| key.get(at..)).unwrap_or("00");
        self.root.join("objects").join(shard)
    }

    /// The folder that everything is in.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// True where the store's root is there: false where its file system is not mounted, so that nobody takes every
    /// object for lost. Blocks.
    #[must_use]
    pub fn is_present(&self) -> bool {
        self.root.join("LAYOUT").exists()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder(key).join(key)
    }

    /// Opens an object for appending after its first `received` bytes; whatever lies behind them was never acknowledged
    /// and is cut off. Makes the object where `received` is 0. Blocks.
    ///
    /// The object is locked until the writer is gone, also against writers of other processes and machines: a request that
    /// lost its claim and does not know it yet cannot write into what its successor writes.
    ///
    /// # Errors
    /// [`Error::Damaged`] where fewer than `received` bytes are there; [`Error::Conflict`] where another writer holds it;
    /// [`Error::NoSpace`]; else [`Error::Io`].
    pub fn append(&self, key: &str, received: u64) -> Result<ObjectWriter> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(received == 0)
            .mode(0o600)
            .open(self.path(key))
            .map_err(|error| missing_or(error, "opening an object for writing"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(Error::Conflict("another request is writing this upload")),
            Err(TryLockError::Error(error)) => return Err(Error::io("locking an object")(error)),
        }
        let length = file.metadata().map_err(Error::io("reading an object's length"))?.len();
        if length < received {
            return Err(Error::Damaged(format!("object {key} has {length} bytes, {received} were acknowledged")));
        }
        if length > received {
            file.set_len(received).map_err(Error::io("cutting an object"))?;
        }
        Ok(ObjectWriter { file, folder: self.folder(key), written: received, named: received > 0 })
    }

    /// Whether somebody on this machine (or on the same lock service) has an object open for writing. Whoever begins to write
    /// just then is told that another does: for objects that nobody should come back to. Blocks.
    ///
    /// # Errors
    /// As [`Objects::open_object`].
    pub fn is_being_written(&self, key: &str) -> Result<bool> {
        let file = File::open(self.path(key)).map_err(|error| missing_or(error, "opening an object"))?;
        match file.try_lock_shared() {
            Ok(()) => Ok(false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(Error::io("looking at an object's lock")(error)),
        }
    }

    /// Opens an object for reading. Blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not there; else [`Error::Io`].
    pub fn open_object(&self, key: &str) -> Result<ObjectReader> {
        let file = File::open(self.path(key)).map_err(|error| missing_or(error, "opening an object"))?;
        Ok(ObjectReader::of(file))
    }

    /// Takes an object away; one that is not there is fine. The removal need not be durable: a leftover is an orphan that
    /// the sweep finds. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn remove(&self, key: &str) -> Result<()> {
        match fs::remove_file(self.path(key)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("removing an object")(error)),
            _ => Ok(()),
        }
    }

    /// The folders' names, for [`Objects::list`].
    pub fn folders() -> impl Iterator<Item = String> {
        ALPHABET.chars().flat_map(|a| ALPHABET.chars().map(move |b| format!("{a}{b}")))
    }

    /// Keys in one folder with the age of their last change, in seconds before now. Files that are not ours are passed over.
    /// Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self, folder: &str) -> Result<Vec<(String, u64)>> {
        let mut keys = Vec::new();
        let entries = fs::read_dir(self.root.join("objects").join(folder)).map_err(Error::io("listing objects"))?;
        for entry in entries {
            let entry = entry.map_err(Error::io("listing objects"))?;
            let Ok(key) = entry.file_name().into_string() else { continue };
            if key.len() != 26 || !key.chars().all(|c| ALPHABET.contains(c)) || !key.ends_with(folder) {
                continue;
            }
            // A file that is gone by now was taken away by someone else.
            let Ok(metadata) = entry.metadata() else { continue };
            let age = metadata.modified().ok().and_then(|at| at.elapsed().ok()).map_or(0, |age| age.as_secs());
            keys.push((key, age));
        }
        Ok(keys)
    }
}

fn missing_or(error: io::Error, context: &'static str) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        Error::Damaged("an object is missing from the byte store".into())
    } else {
        Error::io(context)(error)
    }
}

/// Of an object that ends before the bytes that its row speaks of.
pub(crate) fn shorter() -> Error {
    Error::Damaged("an object is shorter than its row says".into())
}

/// An object being written, one writer at a time. All calls block.
#[derive(Debug)]
pub struct ObjectWriter {
    file: File,
    folder: PathBuf,
    written: u64,
    /// True once the folder that names the object is synced.
    named: bool,
}

impl ObjectWriter {
    /// Content bytes written, durable or not.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Appends pieces in few system calls. On an error the object holds some of them; [`Objects::append`] cuts them off again.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Io`].
    pub fn write(&mut self, pieces: &[Bytes]) -> Result<()> {
        let (mut slices, mut end) = (Vec::new(), self.written);
        for piece in pieces {
            let mut rest: &[u8] = piece;
            while !rest.is_empty() {
                let room = usize::try_from(STRIDE - end % STRIDE).unwrap_or(usize::MAX);
                let (next, later) = rest.split_at(rest.len().min(room));
                slices.push(IoSlice::new(next));
                end += next.len() as u64;
                rest = later;
                if end.is_multiple_of(STRIDE) || slices.len() == IOV_MAX {
                    self.write_slices(&mut slices)?;
                    slices.clear();
                }
            }
        }
        self.write_slices(&mut slices)
    }

    fn write_slices(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<()> {
        while !slices.is_empty() {
            match rustix::io::pwritev(&self.file, slices, self.written) {
                Ok(0) => return Err(Error::io("writing an object")(io::ErrorKind::WriteZero.into())),
                Ok(written) => {
                    self.written += written as u64;
                    IoSlice::advance_slices(&mut slices, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("writing an object")(error.into())),
            }
        }
        Ok(())
    }

    /// Another handle on the file, to sync what was written so far beside further writing. The last word on durability is
    /// [`ObjectWriter::sync`]'s.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn early_sync(&self) -> Result<EarlySync> {
        Ok(EarlySync(self.file.try_clone().map_err(Error::io("syncing an object"))?))
    }

    /// Makes every written byte, and the object's name, survive a power cut.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Io`]; then nothing may be acknowledged.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(Error::io("syncing an object"))?;
        if !self.named {
            File::open(&self.folder).and_then(|dir| dir.sync_all()).map_err(Error::io("syncing a blob folder"))?;
            self.named = true;
        }
        Ok(())
    }

    /// Cuts off what lies behind the first `length` bytes, so that bytes that nobody acknowledged take no room.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn truncate(&mut self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(Error::io("cutting an object"))?;
        self.written = length;
        Ok(())
    }

    /// Writes the trailer behind the content and makes the whole durable.
    ///
    /// # Errors
    /// As [`ObjectWriter::sync`].
    pub fn seal(&mut self, trailer: &Trailer) -> Result<()> {
        let mut bytes = serde_json::to_vec(trailer).map_err(|e| Error::Damaged(format!("an object's trailer: {e}")))?;
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        bytes.extend(length.to_be_bytes());
        bytes.extend(MAGIC);
        self.file.write_all_at(&bytes, self.written).map_err(Error::io("sealing an object"))?;
        self.sync()
    }

    /// A reader of what was written so far.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn reader(&self) -> Result<ObjectReader> {
        Ok(ObjectReader::of(self.file.try_clone().map_err(Error::io("reading an object back"))?))
    }
}

/// See [`ObjectWriter::early_sync`].
#[derive(Debug)]
pub struct EarlySync(File);

impl EarlySync {
    /// Has the disk write what is not on it yet. Blocks.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Io`]: then the system may not tell the next sync of it, and nothing may be
    /// acknowledged.
    pub fn run(self) -> Result<()> {
        self.0.sync_data().map_err(Error::io("syncing an object"))
    }
}

/// An open object; cheap to clone, safe to read from many places at once.
#[derive(Clone, Debug)]
pub struct ObjectReader {
    open: Arc<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    failed: AtomicBool,
}

impl ObjectReader {
    fn of(file: File) -> Self {
        Self { open: Arc::new(Open { file, failed: AtomicBool::new(false) }) }
    }

    /// Whether any read of it has failed: who reads next should open it anew.
    pub(crate) fn has_failed(&self) -> bool {
        self.open.failed.load(Ordering::Relaxed)
    }

    /// To be said where reading it failed.
    pub(crate) fn fail(&self) {
        self.open.failed.store(true, Ordering::Relaxed);
    }

    /// Reads exactly `buffer.len()` bytes at `offset`. Blocks.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the object ends before; else [`Error::Io`].
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        self.file().read_exact_at(buffer, offset).map_err(|error| {
            self.fail();
            if error.kind() == io::ErrorKind::UnexpectedEof { shorter() } else { Error::io("reading an object")(error) }
        })
    }

    /// Reads exactly `length` bytes at `offset` into a new buffer. Blocks.
    ///
    /// # Errors
    /// As [`ObjectReader::read_at`].
    pub fn read(&self, offset: u64, length: usize) -> Result<Bytes> {
        let mut buffer = Vec::with_capacity(length);
        while buffer.len() < length {
            let at = offset + buffer.len() as u64;
            match rustix::io::pread(self.file(), rustix::buffer::spare_capacity(&mut buffer), at) {
                Ok(0) => {
                    self.fail();
                    return Err(shorter());
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    self.fail();
                    return Err(Error::io("reading an object")(error.into()));
                }
            }
        }
        // The allocator may have given more room than was asked for.
        buffer.truncate(length);
        Ok(Bytes::from(buffer))
    }

    /// Whether a range seems to be in the system's memory, so that reading it would not wait for a disk; samples of it are.
    #[must_use]
    pub fn is_warm(&self, offset: u64, length: u64) -> bool {
        let Some(last) = length.checked_sub(1) else { return true };
        (0..length).step_by(SAMPLE).chain([last]).all(|at| {
            let mut byte = [0u8];
            let now = ReadWriteFlags::NOWAIT;
            matches!(rustix::io::preadv2(self.file(), &mut [IoSliceMut::new(&mut byte)], offset + at, now), Ok(1))
        })
    }

    /// Has the system read a range into its memory, and what follows it soon; false where the file system cannot give its
    /// pages away (sendfile(2)). Blocks.
    ///
    /// # Errors
    /// As [`ObjectReader::read_at`].
    pub fn warm(&self, offset: u64, length: u64) -> Result<bool> {
        let context = "reading an object ahead";
        // Only advice: without it the disk is asked for less at a time.
        let _ = rustix::fs::fadvise(self.file(), offset, NonZeroU64::new(length.max(AHEAD)), Advice::WillNeed);
        let nowhere = OpenOptions::new().write(true).open("/dev/null").map_err(Error::io(context))?;
        let (mut at, end) = (offset, offset + length);
        while at < end {
            let left = usize::try_from(end - at).unwrap_or(usize::MAX);
            match rustix::fs::sendfile(&nowhere, self.file(), Some(&mut at), left) {
                Ok(0) => {
                    self.fail();
                    return Err(shorter());
                }
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => return Ok(false),
                Err(error) => {
                    self.fail();
                    return Err(Error::io(context)(error.into()));
                }
            }
        }
        Ok(true)
    }

    pub(crate) fn file(&self) -> &File {
        &self.open.file
    }

    /// Length of the object, trailer included. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn length(&self) -> Result<u64> {
        Ok(self.file().metadata().map_err(Error::io("reading an object's length"))?.len())
    }

    /// What the object says of itself; `None` where it was never sealed or its end is cut off. Blocks.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn trailer(&self) -> Result<Option<Trailer>> {
        let length = self.length()?;
        if length < 12 {
            return Ok(None);
        }
        let mut end = [0u8; 12];
        self.read_at(&mut end, length - 12)?;
        let size = u64::from(u32::from_be_bytes([end[0], end[1], end[2], end[3]]));
        if &end[4..] != MAGIC || size > MAX_TRAILER || size + 12 > length {
            return Ok(None);
        }
        let mut json = vec![0u8; usize::try_from(size).unwrap_or_default()];
        self.read_at(&mut json, length - 12 - size)?;
        let trailer: Option<Trailer> = serde_json::from_slice(&json).ok();
        Ok(trailer.filter(|t| t.size == length - 12 - size))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn store() -> (tempfile::TempDir, Objects) {
        let dir = tempfile::tempdir().unwrap();
        let objects = Objects::open(&format!("file://{}", dir.path().display())).unwrap();
        (dir, objects)
    }

    #[test]
    fn an_object_resumes_at_the_acknowledged_byte() {
        let (_dir, objects) = store();
        let key = crate::names::new_id();
        let mut writer = objects.append(&key, 0).unwrap();
        writer.write(&[Bytes::from_static(b"hello, lost tail")]).unwrap();
        writer.sync().unwrap();
        drop(writer);
        let mut writer = objects.append(&key, 7).unwrap();
        writer.write(&[Bytes::from_static(b"world")]).unwrap();
        let trailer = Trailer { org: "o".into(), digest: "d".into(), size: 12 };
        writer.seal(&trailer).unwrap();
        let reader = objects.open_object(&key).unwrap();
        let mut content = [0u8; 12];
        reader.read_at(&mut content, 0).unwrap();
        assert_eq!(&content, b"hello, world");
        assert_eq!(reader.trailer().unwrap(), Some(trailer));
        assert!(matches!(objects.append(&crate::names::new_id(), 3), Err(Error::Damaged(_))));
    }

    #[test]
    fn pieces_of_any_length_are_written_one_after_another() {
        let (_dir, objects) = store();
        let key = crate::names::new_id();
        let noise: Vec<u8> = (0..2_500_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()[2]).collect();
        let noise = Bytes::from(noise);
        // Within a stride, to its end, over three of them; nothing; and more than one call takes.
        let mut lengths = vec![7, 262_137, 0, 800_000, 1, 0];
        lengths.extend([3; 2 * IOV_MAX + 5]);
        let (mut writer, mut from) = (objects.append(&key, 0).unwrap(), 0);
        let mut pieces: Vec<Bytes> = Vec::new();
        for length in lengths {
            pieces.push(noise.slice(from..from + length));
            from += length;
        }
        writer.write(&[]).unwrap();
        writer.write(&pieces).unwrap();
        writer.write(&[noise.slice(from..)]).unwrap();
        assert_eq!(writer.written(), noise.len() as u64);
        let mut content = vec![0; noise.len()];
        writer.reader().unwrap().read_at(&mut content, 0).unwrap();
        assert!(content == noise, "other bytes");
    }

    #[test]
    fn an_unsealed_or_cut_object_has_no_trailer() {
        let (dir, objects) = store();
        let key = crate::names::new_id();
        let mut writer = objects.append(&key, 0).unwrap();
        writer.write(&[Bytes::from_static(&[7; 100])]).unwrap();
        assert_eq!(objects.open_object(&key).unwrap().trailer().unwrap(), None);
        writer.seal(&Trailer { org: "o".into(), digest: "d".into(), size: 100 }).unwrap();
        let path = dir.path().join("objects").join(&key[24..]).join(&key);
        let file = OpenOptions::new().write(true).open(&path).unwrap();
        file.set_len(file.metadata().unwrap().len() - 1).unwrap();
        assert_eq!(objects.open_object(&key).unwrap().trailer().unwrap(), None);
    }

    #[test]
    fn a_store_reopens_and_refuses_another_layout() {
        let (dir, _objects) = store();
        let url = dir.path().display().to_string();
        assert!(Objects::open(&url).is_ok());
        fs::write(dir.path().join("LAYOUT"), "2\n").unwrap();
        assert!(matches!(Objects::open(&url), Err(Error::Config(_))));
        assert!(matches!(Objects::open("s3://bucket"), Err(Error::Config(_))));
        assert_eq!(Objects::folders().count(), 1024);
    }
}

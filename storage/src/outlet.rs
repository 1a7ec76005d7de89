//! Object bytes that the system moves from a file to a socket by itself (sendfile(2)), without passing through our memory.
//!
//! An HTTP body is made of buffers, and a segment of a file is none. In its place the body yields a *marker*: a slice of
//! one region of memory that is never written and never read, as long as the segment. The connection's [`Outlet`] has the
//! segments in the order of their markers. Whoever writes to the socket shows the outlet everything that is due
//! ([`Outlet::next`]) and is told how to go on.
//!
//! A marker must never be taken for content. Each has its own address, so that it is known by where it lies and not by what
//! is in it, and no write begins before all markers that are due are exactly the segments that are due: the same number, in
//! the same order, at the same byte. Where they are not (a marker was copied, shortened, lost or kept back), nothing more is
//! written on that connection.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use rustix::io::Errno;

use crate::objects::ObjectReader;

/// Longest segment.
pub const SEGMENT: usize = 2 << 20;
/// Room of addresses for markers. No page of it is ever touched, so that it takes no memory.
const ROOM: usize = 16 << 20;
/// Distance between the beginnings of two markers made one after the other: some 230,000 are told apart.
const STEP: usize = 64;

static BLANK: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0u8; ROOM]));
static MADE: AtomicUsize = AtomicUsize::new(0);

/// The segments that one connection has yet to send, in order; cheap to clone. Whoever has it may answer with segments of
/// files on that connection.
#[derive(Debug, Clone, Default)]
pub struct Outlet(Arc<Mutex<Queue>>);

#[derive(Debug, Default)]
struct Queue {
    segments: VecDeque<Segment>,
    /// Once out of step, for ever.
    broken: bool,
}

#[derive(Debug)]
struct Segment {
    reader: ObjectReader,
    offset: u64,
    /// Address of the marker's first byte that is not sent.
    mark: usize,
    left: usize,
}

/// What goes on the wire next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Bytes: every slice.
    Bytes,
    /// Bytes, the first so many slices; a segment follows.
    BytesBefore(usize),
    /// The first segment: [`Outlet::send`].
    Segment,
}

impl Outlet {
    /// One without segments.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds at most [`SEGMENT`] bytes of an object, and returns the marker that stands for what was added. It must be given
    /// to the connection at once.
    #[must_use]
    pub fn push(&self, reader: &ObjectReader, offset: u64, length: u64) -> Bytes {
        let length = usize::try_from(length).unwrap_or(SEGMENT).min(SEGMENT);
        let at = MADE.fetch_add(1, Ordering::Relaxed) % ((ROOM - SEGMENT) / STEP) * STEP;
        let marker = BLANK.slice(at..at + length);
        if length > 0 {
            let mark = marker.as_ptr().addr();
            self.queue().segments.push_back(Segment { reader: reader.clone(), offset, mark, left: length });
        }
        marker
    }

    /// Says how to go on where `due` is all that the connection has to write.
    ///
    /// # Errors
    /// The markers in it are not the segments; then nothing of it may be written.
    pub fn next(&self, due: &[IoSlice<'_>]) -> io::Result<Next> {
        let mut queue = self.queue();
        queue.next(due).inspect_err(|_| queue.broken = true)
    }

    /// Has the system send bytes of the first segment; returns how many, and whether these were the last of it. For sockets
    /// that do not block.
    ///
    /// # Errors
    /// What the system says; that the file ends before the segment does.
    pub fn send(&self, socket: impl AsFd) -> io::Result<(usize, bool)> {
        let mut queue = self.queue();
        queue.send(socket).inspect_err(|error| queue.broken |= error.kind() != io::ErrorKind::WouldBlock)
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn next(&self, due: &[IoSlice<'_>]) -> io::Result<Next> {
        let out_of_step = || Err(io::Error::other("what is to be written is out of step with the segments of files"));
        if self.broken {
            return out_of_step();
        }
        let mut segments = self.segments.iter();
        let (mut before, mut first) = (false, None);
        for (at, slice) in due.iter().enumerate().filter(|(_, slice)| !slice.is_empty()) {
            if !is_marker(slice) {
                before |= first.is_none();
                continue;
            }
            if !segments.next().is_some_and(|due| due.mark == slice.as_ptr().addr() && due.left == slice.len()) {
                return out_of_step();
            }
            first.get_or_insert(at);
        }
        if segments.next().is_some() {
            return out_of_step();
        }
        Ok(match first {
            None => Next::Bytes,
            Some(at) if before => Next::BytesBefore(at),
            Some(_) => Next::Segment,
        })
    }

    fn send(&mut self, socket: impl AsFd) -> io::Result<(usize, bool)> {
        let Some(first) = self.segments.front_mut().filter(|_| !self.broken) else {
            return Err(io::Error::other("there is no segment to send"));
        };
        let sent = loop {
            let mut offset = first.offset;
            match rustix::fs::sendfile(&socket, first.reader.file(), Some(&mut offset), first.left) {
                Err(Errno::INTR) => {}
                other => break other?,
            }
        };
        if sent == 0 || sent > first.left {
            first.reader.fail();
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "an object became shorter while it was sent"));
        }
        first.offset += sent as u64;
        first.mark += sent;
        first.left -= sent;
        let whole = first.left == 0;
        if whole {
            self.segments.pop_front();
        }
        Ok((sent, whole))
    }
}

/// Whether a slice touches the markers' region; never looks at its bytes.
fn is_marker(slice: &[u8]) -> bool {
    // Before the first segment there is no region.
    let Some(blank) = LazyLock::get(&BLANK) else { return false };
    let (start, region) = (slice.as_ptr().addr(), blank.as_ptr().addr());
    start < region + blank.len() && region < start + slice.len()
}

#[cfg(test)]
mod tests;

//! A blob's bytes that go from its file to the connection without passing through our memory (see [`storage::outlet`]).

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use storage::objects::ObjectReader;
use storage::outlet::{Outlet, SEGMENT};
use tokio::task::JoinHandle;

use crate::State;

/// Opens an object for a [`Direct`] body, with its first segment in memory, so that damage found at once is an error and not
/// a cut body. Nothing where the file system cannot do that.
pub(crate) async fn open(state: &State, key: String, range: Range<u64>) -> storage::Result<Option<ObjectReader>> {
    let reader = state.shelf().reader(&key, range.end).await?;
    tokio::task::spawn_blocking(move || {
        let able = reader.warm(range.start, segment(&range))?;
        Ok(able.then_some(reader))
    })
    .await
    .map_err(ended_early)?
}

/// A range of an object as markers for an outlet. What comes next is read into the system's memory while a segment is sent,
/// so that sending waits for no disk.
#[derive(Debug)]
pub(crate) struct Direct {
    reader: ObjectReader,
    outlet: Outlet,
    /// What is not yielded.
    rest: Range<u64>,
    ahead: Option<JoinHandle<storage::Result<bool>>>,
}

impl Direct {
    /// For a reader that [`open`] gave, for the same range, and the connection's outlet.
    pub(crate) fn new(reader: ObjectReader, outlet: Outlet, rest: Range<u64>) -> Self {
        Self { reader, outlet, rest, ahead: None }
    }

    /// Reads the next segment ahead, where it is not in memory.
    fn read_ahead(&mut self) {
        let (from, length) = (self.rest.start, segment(&self.rest));
        if !self.reader.is_warm(from, length) {
            let reader = self.reader.clone();
            self.ahead = Some(tokio::task::spawn_blocking(move || reader.warm(from, length)));
        }
    }
}

impl Body for Direct {
    type Data = Bytes;
    type Error = storage::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, storage::Error>>> {
        if let Some(ahead) = &mut self.ahead {
            let read = ready!(Pin::new(ahead).poll(cx)).map_err(ended_early).flatten();
            self.ahead = None;
            if let Err(error) = read {
                self.rest.start = self.rest.end;
                return Poll::Ready(Some(Err(error)));
            }
        }
        if self.rest.is_empty() {
            return Poll::Ready(None);
        }
        let marker = self.outlet.push(&self.reader, self.rest.start, segment(&self.rest));
        self.rest.start += marker.len() as u64;
        self.read_ahead();
        Poll::Ready(Some(Ok(Frame::data(marker))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.end - self.rest.start)
    }
}

/// Length of a range's first segment.
fn segment(range: &Range<u64>) -> u64 {
    (range.end - range.start).min(SEGMENT as u64)
}

fn ended_early(error: tokio::task::JoinError) -> storage::Error {
    storage::Error::Io { context: "a reading thread ended early", source: std::io::Error::other(error) }
}

//! Taking in the bytes of one request: what its headers promise, how slowly it may come, and when it is cut off.

use std::time::Duration;

use axum::body::Body;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body_util::BodyExt;
use storage::names::RepoName;
use storage::uploads::{Upload, Writer};
use tokio::time::{Instant, timeout};

use super::progress_headers;
use crate::error::{Code, Error, Result};
use crate::{State, auth, range};

/// What the headers say of a request's chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chunk {
    range: Option<(u64, u64)>,
    length: Option<u64>,
}

impl Chunk {
    pub(super) fn of(headers: &HeaderMap) -> Result<Self> {
        let range = range::chunk(headers).map_err(|range::NotARange| {
            Error::bad(Code::BlobUploadInvalid, "Content-Range must be <first>-<last>, both inclusive, without a unit")
        })?;
        let length = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
        match (range, length) {
            (Some((first, last)), Some(length)) if last - first + 1 != length => Err(Error::bad(
                Code::SizeInvalid,
                format!("Content-Range is of {} bytes, Content-Length of {length}", last - first + 1),
            )),
            _ => Ok(Self { range, length }),
        }
    }

    /// 416 where the chunk does not begin at the acknowledged byte, saying where that is. The session stays. A chunk that
    /// does not say where it begins means the byte that was acknowledged when its request came.
    pub(super) fn fits(self, state: &State, repo: &RepoName, upload: &Upload, writer: &Writer) -> Result<()> {
        let received = writer.received();
        let first = self.range.map_or(upload.received.unsigned_abs(), |(first, _)| first);
        if first == received {
            return Ok(());
        }
        let error = Error::new(
            StatusCode::RANGE_NOT_SATISFIABLE,
            Code::BlobUploadInvalid,
            format!("chunks must arrive in order: the next byte is {received}, this chunk begins at {first}"),
        );
        let mut headers = HeaderMap::new();
        progress_headers(&mut headers, state, repo, writer.upload(), received);
        Err(headers.drain().fold(error, |error, (name, value)| match name {
            Some(name) => error.header(name, value),
            None => error,
        }))
    }

    /// The most bytes that the whole may have after this chunk.
    fn bound(self, writer: &Writer) -> u64 {
        let by_range = self.range.map(|(_, last)| last + 1);
        let by_length = self.length.map(|length| writer.began_at().saturating_add(length));
        by_range.or(by_length).unwrap_or(u64::MAX)
    }

    /// Whether as many bytes arrived as the headers said.
    pub(super) fn is_whole(self, writer: &Writer) -> std::result::Result<(), TakeInError> {
        let arrived = writer.accepted();
        match (self.range, self.length) {
            (Some((_, last)), _) if arrived != last + 1 => {
                let message = format!("Content-Range ends at {last}, the body at {}", arrived.saturating_sub(1));
                Err(TakeInError::Refused(Error::bad(Code::SizeInvalid, message)))
            }
            (None, Some(length)) if arrived != writer.began_at().saturating_add(length) => {
                let message = "the body ended before its declared end; resume this upload";
                Err(TakeInError::Cut(Error::bad(Code::SizeInvalid, message)))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a long body is made durable on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// Now and then: a crash loses little.
    Checkpoints,
    /// Not before the end: a client that sends a whole blob in one request begins again where that fails.
    Nothing,
}

/// Why a body was not taken in whole.
#[derive(Debug)]
pub(super) enum TakeInError {
    /// The line broke, stood still, or a newer request wants the session: what arrived is good.
    Cut(Error),
    /// What arrived must not be kept.
    Refused(Error),
}

impl TakeInError {
    pub(super) fn into_answer(self) -> Error {
        match self {
            Self::Cut(error) | Self::Refused(error) => error,
        }
    }
}

impl From<storage::Error> for TakeInError {
    fn from(error: storage::Error) -> Self {
        Self::Refused(error.into())
    }
}

/// A request that brings bytes for a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Incoming<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) repo: &'a RepoName,
    pub(super) upload: &'a Upload,
    pub(super) chunk: Chunk,
    pub(super) keep: Keep,
}

/// Fewer bytes than this in as long as a client may be silent: it holds a connection, not an upload.
const CRAWL: u64 = 1024;

/// Reads a body into the writer, until its end.
pub(super) async fn take_in(
    state: &State,
    writer: &mut Writer,
    request: &Incoming<'_>,
    mut body: Body,
) -> std::result::Result<(), TakeInError> {
    let idle = state.settings().body_idle;
    let bound = request.chunk.bound(writer);
    let mut checked = Instant::now();
    let (mut paced, mut pace) = (Instant::now(), writer.accepted());
    loop {
        let next = tokio::select! {
            biased;
            () = writer.superseded() => {
                let message = "a newer request took this upload over";
                let error = Error::new(StatusCode::CONFLICT, Code::BlobUploadInvalid, message);
                return Err(TakeInError::Cut(error));
            }
            next = timeout(idle, body.frame()) => next,
        };
        let frame = match next {
            Err(_) => return Err(too_slow(idle)),
            // Between the last byte and the end there may be a wait, and there was one for the session.
            Ok(None) => return check_rights(state, request).await,
            Ok(Some(Err(error))) => {
                tracing::debug!(%error, "an upload's body was cut");
                let message = "the body ended before its declared end; resume this upload";
                return Err(TakeInError::Cut(Error::bad(Code::BlobUploadInvalid, message)));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        let Ok(bytes) = frame.into_data() else { continue };
        let after = writer.accepted() + bytes.len() as u64;
        if after > state.settings().max_blob {
            let message = format!("blobs of this registry have at most {} bytes", state.settings().max_blob);
            return Err(TakeInError::Refused(Error::new(StatusCode::PAYLOAD_TOO_LARGE, Code::SizeInvalid, message)));
        }
        if after > bound {
            let message = "the body is longer than its headers say";
            return Err(TakeInError::Refused(Error::bad(Code::SizeInvalid, message)));
        }
        writer.write(bytes).await?;
        if request.keep == Keep::Checkpoints && writer.wants_checkpoint() {
            writer.checkpoint().await?;
        }
        if checked.elapsed() >= auth::RIGHTS_CHECK {
            checked = Instant::now();
            check_rights(state, request).await?;
        }
        if paced.elapsed() >= idle {
            if writer.accepted() - pace < CRAWL {
                return Err(too_slow(idle));
            }
            (paced, pace) = (Instant::now(), writer.accepted());
        }
    }
}

/// What arrived is not kept where whoever began the upload may no longer push.
async fn check_rights(state: &State, request: &Incoming<'_>) -> std::result::Result<(), TakeInError> {
    if auth::session::still_allowed(state, request.upload).await.map_err(TakeInError::Refused)? {
        return Ok(());
    }
    Err(TakeInError::Refused(auth::session::revoked(state, request.headers, request.repo).of(request.upload)))
}

fn too_slow(idle: Duration) -> TakeInError {
    let message = format!("fewer than {CRAWL} bytes arrived in {} seconds; resume this upload", idle.as_secs());
    TakeInError::Cut(Error::new(StatusCode::REQUEST_TIMEOUT, Code::BlobUploadInvalid, message))
}

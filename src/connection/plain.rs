//! A connection without TLS, which sends segments of files as well as bytes (see [`storage::outlet`]).

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use prometheus_client::metrics::counter::Counter;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{SendAncillaryBuffer, SendFlags};
use storage::outlet::{Next, Outlet};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

/// After so many bytes without a wait, other connections have their turn.
const TURN: usize = 8 << 20;

/// The socket, and the segments that its answers are made of.
pub(super) struct Plain {
    socket: TcpStream,
    outlet: Outlet,
    /// Bytes that went straight from files.
    from_files: Counter,
    /// Bytes sent in this turn.
    turn: usize,
}

impl Plain {
    pub(super) fn new(socket: TcpStream, outlet: Outlet, from_files: Counter) -> Self {
        Self { socket, outlet, from_files, turn: 0 }
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.turn >= TURN {
            self.turn = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let polled = poll_segment(&self.socket, cx, &self.outlet);
        match &polled {
            Poll::Ready(Ok(sent)) => {
                self.turn += sent;
                self.from_files.inc_by(*sent as u64);
            }
            _ => self.turn = 0,
        }
        polled
    }
}

/// Acts on the socket when it takes bytes.
fn poll_socket(
    socket: &TcpStream,
    cx: &mut Context<'_>,
    act: impl Fn(&TcpStream) -> io::Result<usize>,
) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        match socket.try_io(Interest::WRITABLE, || act(socket)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return Poll::Ready(done),
        }
    }
}

/// Sends bytes of the first segment when the socket takes them.
fn poll_segment(socket: &TcpStream, cx: &mut Context<'_>, outlet: &Outlet) -> Poll<io::Result<usize>> {
    loop {
        ready!(socket.poll_write_ready(cx))?;
        let mut full = None;
        let sent = socket.try_io(Interest::WRITABLE, || {
            let (sent, whole) = outlet.send(socket)?;
            if whole || takes_more(socket) {
                return Ok(sent);
            }
            // Noted, so that the next try waits: one in vain looks up pages of the file first.
            full = Some(sent);
            Err(io::ErrorKind::WouldBlock.into())
        });
        match (sent, full) {
            (_, Some(sent)) => return Poll::Ready(Ok(sent)),
            (Err(error), None) if error.kind() == io::ErrorKind::WouldBlock => {}
            (done, None) => return Poll::Ready(done),
        }
    }
}

/// Whether the socket has room, or an error to tell. Where not, the system will say when it has.
fn takes_more(socket: &TcpStream) -> bool {
    let mut asked = [PollFd::new(socket, PollFlags::OUT)];
    !matches!(rustix::event::poll(&mut asked, Some(&Timespec::default())), Ok(0))
}

/// Sends bytes of which the system knows that more follow at once, so that a head is no packet of its own.
fn send_before(socket: &TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let flags = SendFlags::MORE | SendFlags::NOSIGNAL;
    Ok(rustix::net::sendmsg(socket, slices, &mut SendAncillaryBuffer::default(), flags)?)
}

impl AsyncRead for Plain {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncWrite for Plain {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.outlet.next(slices)? {
            Next::Bytes => Pin::new(&mut self.socket).poll_write_vectored(cx, slices),
            Next::BytesBefore(count) => poll_socket(&self.socket, cx, |socket| send_before(socket, &slices[..count])),
            Next::Segment => self.poll_send(cx),
        }
    }

    /// Or hyper would copy what it is to write, markers too.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;

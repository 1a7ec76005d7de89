//! TLS for the load program, with as few copies as the library allows: records are received many at a time and decrypted
//! where they lie, and nobody who only counts bytes copies them once more.

use std::io;
use std::sync::Arc;

use rustls::client::{ClientConnectionData, UnbufferedClientConnection};
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, UnbufferedStatus, WriteTraffic};
use rustls::{CipherSuite, ClientConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::content::PIECE;

/// The longest record on the wire (RFC 8446 §5.2), with its header.
const RECORD: usize = (16 << 10) + 256 + 5;
/// Bytes that one record carries at most.
const FRAGMENT: usize = 16 << 10;
/// More than a record's header, tag and type take.
const OVERHEAD: usize = 64;

/// A client's end of a TLS connection.
pub(crate) struct Session {
    tcp: TcpStream,
    tls: UnbufferedClientConnection,
    /// What was received and not decrypted yet is between the two.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// Records to be sent.
    outgoing: Vec<u8>,
    /// Decrypted, and given to nobody yet.
    early: Vec<u8>,
}

/// Where a connection stands when everything received was looked at.
#[derive(PartialEq, Eq)]
enum Stand {
    /// Hands are not shaken yet: more must come.
    Shaking,
    Open,
    /// The peer sends nothing more.
    Closed,
}

impl Session {
    /// Shakes hands.
    ///
    /// # Errors
    /// Where the peer is not who it should be, or goes away.
    pub(crate) async fn open(
        tcp: TcpStream,
        config: &Arc<ClientConfig>,
        name: &ServerName<'static>,
    ) -> io::Result<Self> {
        let tls = UnbufferedClientConnection::new(Arc::clone(config), name.clone()).map_err(io::Error::other)?;
        let (incoming, outgoing) = (vec![0; PIECE + RECORD], Vec::new());
        let mut session = Self { tcp, tls, incoming, start: 0, end: 0, outgoing, early: Vec::new() };
        let mut early = Vec::new();
        loop {
            match session.look(None, &mut |bytes| early.extend_from_slice(bytes)).await? {
                Stand::Open => break,
                Stand::Shaking if session.fill().await? > 0 => {}
                Stand::Shaking | Stand::Closed => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        session.early = early;
        Ok(session)
    }

    pub(crate) fn cipher(&self) -> Option<CipherSuite> {
        self.tls.negotiated_cipher_suite().map(|suite| suite.suite())
    }

    /// Receives at least once where nothing waits, and hands out what was decrypted, piece by piece; how much it was, which is
    /// nothing only at the end.
    ///
    /// # Errors
    /// What the socket says, and where a record is not genuine.
    pub(crate) async fn receive(&mut self, taken: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
        if !self.early.is_empty() {
            let early = std::mem::take(&mut self.early);
            taken(&early);
            return Ok(early.len());
        }
        let mut count = 0;
        loop {
            let mut counted = |bytes: &[u8]| {
                count += bytes.len();
                taken(bytes);
            };
            let stand = self.look(None, &mut counted).await?;
            if count > 0 || stand == Stand::Closed || self.fill().await? == 0 {
                return Ok(count);
            }
        }
    }

    /// Receives into a buffer; how much, which is nothing only at the end. What is more than fits comes with the next.
    ///
    /// # Errors
    /// As [`Session::receive`].
    pub(crate) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (mut filled, mut rest) = (0, Vec::new());
        let mut taken = |bytes: &[u8]| {
            let count = bytes.len().min(into.len() - filled);
            into[filled..filled + count].copy_from_slice(&bytes[..count]);
            filled += count;
            rest.extend_from_slice(&bytes[count..]);
        };
        self.receive(&mut taken).await?;
        self.early = rest;
        Ok(filled)
    }

    /// Sends all of it.
    ///
    /// # Errors
    /// What the socket says.
    pub(crate) async fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut early = Vec::new();
        for piece in bytes.chunks(PIECE) {
            let stand = self.look(Some(piece), &mut |bytes| early.extend_from_slice(bytes)).await?;
            if stand != Stand::Open {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        self.early.append(&mut early);
        Ok(())
    }

    /// Looks at what was received, answers what is to be answered, and sends `piece` once that may be done.
    async fn look(&mut self, mut piece: Option<&[u8]>, taken: &mut dyn FnMut(&[u8])) -> io::Result<Stand> {
        let Self { tcp, tls, incoming, start, end, outgoing, .. } = self;
        let mut written = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = tls.process_tls_records(&mut incoming[*start..*end]);
            let stand = match state.map_err(io::Error::other)? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(io::Error::other)?;
                        discard += record.discard;
                        taken(record.payload);
                    }
                    None
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    outgoing.resize(outgoing.len().max(written + RECORD), 0);
                    written += data.encode(&mut outgoing[written..]).map_err(io::Error::other)?;
                    None
                }
                ConnectionState::TransmitTlsData(data) => {
                    tcp.write_all(&outgoing[..written]).await?;
                    written = 0;
                    data.done();
                    None
                }
                ConnectionState::WriteTraffic(mut traffic) => {
                    if let Some(piece) = piece.take() {
                        send(tcp, &mut traffic, piece, outgoing).await?;
                    }
                    Some(Stand::Open)
                }
                ConnectionState::BlockedHandshake => Some(Stand::Shaking),
                ConnectionState::PeerClosed | ConnectionState::Closed => Some(Stand::Closed),
                other => return Err(io::Error::other(format!("TLS is in a state of no client: {other:?}"))),
            };
            *start += discard;
            if let Some(stand) = stand {
                return Ok(stand);
            }
        }
    }

    /// Receives more behind what waits; how much.
    async fn fill(&mut self) -> io::Result<usize> {
        // A part of a record at most.
        self.incoming.copy_within(self.start..self.end, 0);
        (self.start, self.end) = (0, self.end - self.start);
        let count = self.tcp.read(&mut self.incoming[self.end..]).await?;
        self.end += count;
        Ok(count)
    }
}

/// Encrypts and sends a piece.
async fn send(
    tcp: &mut TcpStream,
    traffic: &mut WriteTraffic<'_, ClientConnectionData>,
    piece: &[u8],
    outgoing: &mut Vec<u8>,
) -> io::Result<()> {
    let room = piece.len() + (piece.len() / FRAGMENT + 1) * OVERHEAD;
    outgoing.resize(outgoing.len().max(room), 0);
    let written = traffic.encrypt(piece, outgoing).map_err(io::Error::other)?;
    tcp.write_all(&outgoing[..written]).await
}

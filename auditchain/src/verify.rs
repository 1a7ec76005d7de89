//! Checking an export: a pure function over its lines, in bounded memory.

use std::io::{self, BufRead, Read};

use aws_lc_rs::digest::{Context, SHA256};

use crate::export::{Header, KIND, Trailer, VERSION};
use crate::{Chain, Event, Flaw, GENESIS, Mac};

/// Longest line that is read, in bytes: far beyond what the server writes.
pub const MAX_LINE: u64 = 4 << 20;

/// What was found good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// What the export says of itself.
    pub header: Header,
    /// How it ends.
    pub trailer: Trailer,
    /// Whether the seal was checked and found genuine; without the key it is neither.
    pub sealed: bool,
}

/// Why an export is not good.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("the file cannot be read")]
    Io(#[from] io::Error),
    /// It is not an export, or one of another layout.
    #[error("this is not an audit export of a layout that this program knows")]
    NotAnExport,
    /// A line that no export has.
    #[error("line {line} is not as it was written: {reason}")]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// It ends before its trailer.
    #[error("the file is cut off: its last line is not the trailer")]
    CutOff,
    /// Something follows the trailer.
    #[error("line {0} comes after the end")]
    AfterEnd(u64),
    /// The events are not what the server recorded.
    #[error("line {line}: {flaw}")]
    Chain {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        #[source]
        flaw: Flaw,
    },
    /// The trailer does not fit the lines before it.
    #[error("the trailer does not fit the lines before it: something was edited, taken out or added")]
    Trailer,
    /// The seal is not one of this key.
    #[error(
        "the seal is not genuine: the file was made or changed by somebody without the server's key, or the key is another one"
    )]
    Seal,
}

/// Checks an export. With `mac`, the seal is checked too.
///
/// What the chain alone proves, without the key: that no event between the first and the last was edited, taken out or
/// moved *unless whoever did it also hashed the rest of the chain anew*. The seal, or the server's word on the last event,
/// rules that out.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(reader: impl BufRead, mac: Option<&Mac<'_>>) -> Result<Report, Error> {
    let mut lines = Lines { reader, number: 0, digest: Context::new(&SHA256) };
    let first = lines.next()?.ok_or(Error::NotAnExport)?;
    let header: Header = serde_json::from_str(&first).map_err(|_| Error::NotAnExport)?;
    if header.kind != KIND || header.version != VERSION {
        return Err(Error::NotAnExport);
    }
    lines.take_in(&first, &header)?;
    if header.after_seq == 0 && header.anchor != GENESIS {
        return Err(Error::Chain { line: 1, flaw: Flaw::Broken(1) });
    }
    let mut chain = Chain::after(&header.org_id, header.after_seq, &header.anchor);
    let trailer = loop {
        let Some(text) = lines.next()? else { return Err(Error::CutOff) };
        if let Ok(trailer) = serde_json::from_str::<Trailer>(&text) {
            lines.is_canonical(&text, &trailer)?;
            break trailer;
        }
        let event: Event = serde_json::from_str(&text).map_err(|error| lines.bad(error.to_string()))?;
        lines.take_in(&text, &event)?;
        let line = lines.number;
        let taken = if header.is_whole() { chain.push(&event) } else { chain.push_later(&event) };
        taken.map_err(|flaw| Error::Chain { line, flaw })?;
        if event.seq == header.head_seq && event.hash != header.head_hash {
            return Err(Error::Chain { line, flaw: Flaw::End { found: event.seq, expected: header.head_seq } });
        }
        if event.seq > header.head_seq {
            return Err(Error::Chain { line, flaw: Flaw::End { found: event.seq, expected: header.head_seq } });
        }
    };
    if lines.next()?.is_some() {
        return Err(Error::AfterEnd(lines.number));
    }
    finish(&header, &trailer, &chain, lines, mac)?;
    Ok(Report { header, trailer, sealed: mac.is_some() })
}

fn finish<R>(
    header: &Header,
    trailer: &Trailer,
    chain: &Chain,
    lines: Lines<R>,
    mac: Option<&Mac<'_>>,
) -> Result<(), Error> {
    if header.is_whole() {
        chain
            .ends_with(header.head_seq, &header.head_hash)
            .map_err(|flaw| Error::Chain { line: lines.number, flaw })?;
    }
    let last = if chain.count() == 0 { (0, "") } else { chain.head() };
    let fits = trailer.count == chain.count()
        && (trailer.last_seq, trailer.last_hash.as_str()) == last
        && trailer.digest == hex::encode(lines.digest.finish());
    if !fits {
        return Err(Error::Trailer);
    }
    match mac {
        Some(mac) if !trailer.is_genuine(&header.org_id, mac) => Err(Error::Seal),
        _ => Ok(()),
    }
}

/// Lines of bounded length, counted, and the digest of those taken in.
struct Lines<R> {
    reader: R,
    number: u64,
    digest: Context,
}

impl<R> Lines<R> {
    fn bad(&self, reason: impl Into<String>) -> Error {
        Error::Line { line: self.number, reason: reason.into() }
    }

    /// A line must be the very bytes that its value is written as: nothing is hidden beside the fields, or twice.
    fn is_canonical(&self, text: &str, value: &impl serde::Serialize) -> Result<(), Error> {
        match serde_json::to_string(value) {
            Ok(written) if written == text => Ok(()),
            _ => Err(self.bad("it has other fields, or in another spelling")),
        }
    }

    fn take_in(&mut self, text: &str, value: &impl serde::Serialize) -> Result<(), Error> {
        self.is_canonical(text, value)?;
        self.digest.update(text.as_bytes());
        self.digest.update(b"\n");
        Ok(())
    }
}

impl<R: BufRead> Lines<R> {
    /// The next line without its end; none at the end. A last line without a line feed is cut off.
    fn next(&mut self) -> Result<Option<String>, Error> {
        let mut line = Vec::new();
        self.reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if line.pop() != Some(b'\n') {
            return Err(if line.len() as u64 + 1 >= MAX_LINE { self.bad("it is too long") } else { Error::CutOff });
        }
        String::from_utf8(line).map(Some).map_err(|_| self.bad("it is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::export::Writer;
    use crate::testing::chain;

    fn mac(data: &[u8]) -> [u8; 32] {
        use aws_lc_rs::hmac;
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"test"), data);
        tag.as_ref().try_into().unwrap()
    }

    fn export(all: &[Event], cut: usize, keep: impl Fn(&Event) -> bool, filter: &str) -> Vec<String> {
        let (after_seq, anchor) = match cut {
            0 => (0, GENESIS.to_owned()),
            n => (all[n - 1].seq, all[n - 1].hash.clone()),
        };
        let header = Header {
            kind: KIND.into(),
            version: VERSION,
            org_id: "o".into(),
            org: "main".into(),
            exported_at_ms: 1,
            filter: filter.into(),
            after_seq,
            anchor,
            head_seq: all.last().map_or(after_seq, |e| e.seq),
            head_hash: all.last().map_or(GENESIS.into(), |e| e.hash.clone()),
        };
        let (mut writer, first) = Writer::begin(&header).unwrap();
        let mut lines = vec![first];
        for event in all[cut..].iter().filter(|e| keep(e)) {
            lines.push(writer.event(event).unwrap());
        }
        lines.push(writer.end(&mac).unwrap());
        lines
    }

    fn check(lines: &[String]) -> Result<Report, Error> {
        verify(lines.concat().as_bytes(), Some(&mac))
    }

    #[test]
    fn an_export_is_good_whole_cut_by_retention_filtered_or_empty() {
        let events = chain("o", 8);
        for lines in [
            export(&events, 0, |_| true, ""),
            export(&events, 3, |_| true, ""),
            export(&events, 8, |_| true, ""),
            export(&events, 0, |e| e.event.action == "image.pull", "action=image.pull"),
            export(&events, 0, |_| false, "action=none"),
            export(&[], 0, |_| true, ""),
        ] {
            let report = check(&lines).unwrap();
            assert!(report.sealed);
            assert_eq!(report.trailer.count as usize, lines.len() - 2);
            assert!(!verify(lines.concat().as_bytes(), None).unwrap().sealed);
        }
    }

    #[test]
    fn every_line_that_is_taken_out_moved_repeated_or_added_is_noticed_without_the_key_too() {
        let events = chain("o", 6);
        for good in [export(&events, 0, |_| true, ""), export(&events, 0, |e| e.seq != 3, "outcome=ok")] {
            let bad = |lines: &[String]| verify(lines.concat().as_bytes(), None).unwrap_err();
            for i in 0..good.len() {
                let mut lines = good.clone();
                lines.remove(i);
                bad(&lines);
                let mut lines = good.clone();
                lines.insert(i, good[i].clone());
                bad(&lines);
                if i + 1 < good.len() {
                    let mut lines = good.clone();
                    lines.swap(i, i + 1);
                    bad(&lines);
                }
                let mut lines = good.clone();
                lines.insert(i, "\n".into());
                bad(&lines);
                bad(&good[..i]);
            }
            let foreign = serde_json::to_string(&chain("p", 1)[0]).unwrap() + "\n";
            let mut lines = good.clone();
            lines[1] = foreign;
            assert!(matches!(bad(&lines), Error::Chain { flaw: Flaw::Foreign(1), .. }));
            let mut lines = good.clone();
            lines.push("x\n".into());
            bad(&lines);
        }
    }

    #[test]
    fn every_byte_that_is_changed_is_noticed() {
        let good = export(&chain("o", 3), 0, |_| true, "").concat().into_bytes();
        for i in 0..good.len() {
            for bit in [1u8, 0x20] {
                let mut bad = good.clone();
                bad[i] ^= bit;
                assert!(verify(bad.as_slice(), Some(&mac)).is_err(), "byte {i}");
            }
            assert!(verify(&good[..i], Some(&mac)).is_err(), "cut at {i}");
        }
    }

    #[test]
    fn whoever_hashes_everything_anew_is_betrayed_by_the_seal() {
        let mut events = chain("o", 4);
        events[1].event.actor = "innocent@example.com".into();
        let mut prev = GENESIS.to_owned();
        for event in &mut events {
            *event = Event::chained(event.event.clone(), event.seq, prev);
            prev = event.hash.clone();
        }
        let mut lines = export(&events, 0, |_| true, "");
        check(&lines).unwrap();
        let trailer: Trailer = serde_json::from_str(&lines[5]).unwrap();
        let forged = Trailer { seal: "0".repeat(64), ..trailer };
        lines[5] = serde_json::to_string(&forged).unwrap() + "\n";
        assert!(matches!(check(&lines), Err(Error::Seal)));
        verify(lines.concat().as_bytes(), None).unwrap();
    }

    #[test]
    fn what_is_hidden_beside_the_fields_is_noticed() {
        let good = export(&chain("o", 1), 0, |_| true, "");
        for (from, to) in [("{\"seq\":1,", "{\"seq\":1,\"x\":2,"), ("{\"seq\":1,", "{ \"seq\":1,")] {
            let mut lines = good.clone();
            lines[1] = lines[1].replace(from, to);
            assert!(matches!(check(&lines), Err(Error::Line { line: 2, .. })));
        }
        assert!(matches!(verify("hello\n".as_bytes(), None), Err(Error::NotAnExport)));
        assert!(matches!(verify("".as_bytes(), None), Err(Error::NotAnExport)));
        let long = vec![b'x'; MAX_LINE as usize + 5];
        assert!(verify(long.as_slice(), None).is_err());
    }
}

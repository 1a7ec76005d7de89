//! An export as lines of JSON: a header, events in the order of the chain, a trailer.
//!
//! The trailer's digest covers every byte before it, and its seal (HMAC-SHA256 under a key that only the server has) the
//! rest of the trailer and the organization: whoever holds the file can change nothing, add nothing and leave nothing out
//! that the server, or whoever has its master key, would not notice.

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::{Event, Mac};

/// What [`Header::kind`] says.
pub const KIND: &str = "wharfinger-audit";
/// The layout that this writes and reads.
pub const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Header {
    /// [`KIND`].
    pub kind: String,
    /// [`VERSION`].
    pub version: u32,
    /// The organization's id; empty for the platform.
    pub org_id: String,
    /// The organization's slug; empty for the platform.
    pub org: String,
    /// When the export began (unix milliseconds).
    pub exported_at_ms: i64,
    /// The filter, as it was asked for; empty where every event is here.
    pub filter: String,
    /// Events begin after this one: 0, or what retention took away.
    pub after_seq: i64,
    /// The hash of that one.
    pub anchor: String,
    /// The youngest event when the export began. Where there is no filter it is the last one here.
    pub head_seq: i64,
    /// The hash of that one.
    pub head_hash: String,
}

impl Header {
    /// Whether every event between `after_seq` and `head_seq` must be there.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.filter.is_empty()
    }
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trailer {
    /// How many events there are.
    pub count: u64,
    /// The last of them; 0 where there is none.
    pub last_seq: i64,
    /// Its hash; empty where there is none.
    pub last_hash: String,
    /// SHA-256 (hexadecimal) of every byte before this line.
    pub digest: String,
    /// HMAC-SHA256 (hexadecimal) over [`Trailer::sealed_text`].
    pub seal: String,
}

impl Trailer {
    /// What the seal covers: the organization and everything else of the trailer.
    #[must_use]
    pub fn sealed_text(&self, org_id: &str) -> String {
        let parts = serde_json::json!([KIND, VERSION, org_id, self.count, self.last_seq, self.last_hash, self.digest]);
        parts.to_string()
    }

    /// Whether the seal is one of this key, for an export of this organization. In constant time.
    #[must_use]
    pub fn is_genuine(&self, org_id: &str, mac: &Mac<'_>) -> bool {
        use subtle::ConstantTimeEq;
        let expected = hex::encode(mac(self.sealed_text(org_id).as_bytes()));
        bool::from(expected.as_bytes().ct_eq(self.seal.as_bytes()))
    }
}

/// Writes an export, line by line. Holds a running digest and no events.
pub struct Writer {
    org_id: String,
    digest: Context,
    count: u64,
    last: (i64, String),
}

impl Writer {
    /// Begins; returns the first line too. Lines end in a line feed.
    ///
    /// # Errors
    /// Never in fact: a header can be written as JSON.
    pub fn begin(header: &Header) -> serde_json::Result<(Self, String)> {
        let mut writer =
            Self { org_id: header.org_id.clone(), digest: Context::new(&SHA256), count: 0, last: (0, String::new()) };
        let line = writer.line(header)?;
        Ok((writer, line))
    }

    /// The line of the next event.
    ///
    /// # Errors
    /// Never in fact.
    pub fn event(&mut self, event: &Event) -> serde_json::Result<String> {
        self.count += 1;
        self.last = (event.seq, event.hash.clone());
        self.line(event)
    }

    /// The last line.
    ///
    /// # Errors
    /// Never in fact.
    pub fn end(self, mac: &Mac<'_>) -> serde_json::Result<String> {
        let mut trailer = Trailer {
            count: self.count,
            last_seq: self.last.0,
            last_hash: self.last.1,
            digest: hex::encode(self.digest.finish()),
            seal: String::new(),
        };
        trailer.seal = hex::encode(mac(trailer.sealed_text(&self.org_id).as_bytes()));
        Ok(format!("{}\n", serde_json::to_string(&trailer)?))
    }

    fn line(&mut self, value: &impl Serialize) -> serde_json::Result<String> {
        let line = format!("{}\n", serde_json::to_string(value)?);
        self.digest.update(line.as_bytes());
        Ok(line)
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("count", &self.count).finish_non_exhaustive()
    }
}

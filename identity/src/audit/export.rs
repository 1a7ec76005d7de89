//! Exports: sealed lines of JSON that prove themselves ([`auditchain::export`]), or CSV for spreadsheets.
//!
//! An export reads the chain in batches, each in a moment of its own: it holds no transaction and no more than a batch in
//! memory, however long its reader takes.

use auditchain::export::{Header, KIND, Trailer, VERSION, Writer};
use storage::audit::{self, Direction, Event, Filter, Head, Within};
use storage::clock::rfc3339;
use storage::orgs::Org;

use super::{Caller, Entry};
use crate::core::Identity;

/// The purpose that the seal's key is derived from the master key for.
pub const SEAL: &str = "audit export";
/// Events read at a time.
const BATCH: i64 = 500;
/// The first line of a CSV export.
const COLUMNS: &str = "seq,time,actor,action,target,project,outcome,reason,credential,client,address,agent,request_id,detail,\
                       hash\r\n";

/// Which events; empty text and `None` choose all. As [`Filter`], but it owns its text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Not before this (unix milliseconds).
    pub since: Option<i64>,
    /// Before this (unix milliseconds).
    pub until: Option<i64>,
    /// Name of the actor.
    pub actor: String,
    /// An action (`user.create`), or all of a noun (`user.*`).
    pub action: String,
    /// Slug of the project.
    pub project: String,
    /// Only of these projects.
    pub projects: Option<Vec<Within>>,
    /// `ok`, `denied` or `error`.
    pub outcome: String,
    /// `browser`, `cli`, `api`, `docker` or `server`.
    pub client: String,
    /// The client's address.
    pub address: String,
    /// What it was done to.
    pub target: String,
}

impl Query {
    /// As storage takes it.
    #[must_use]
    pub fn filter(&self) -> Filter<'_> {
        Filter {
            since: self.since,
            until: self.until,
            actor: &self.actor,
            action: &self.action,
            project: &self.project,
            projects: self.projects.as_deref(),
            outcome: &self.outcome,
            client: &self.client,
            address: &self.address,
            target: &self.target,
        }
    }

    /// The filter in words, as an export's header carries it; empty where it chooses everything.
    #[must_use]
    pub fn text(&self) -> String {
        let projects = |all: &[Within]| {
            let slugs: Vec<&str> = all.iter().map(|project| project.slug.as_str()).collect();
            format!("[{}]", slugs.join(","))
        };
        let time = |at: Option<i64>| at.map(|at| at.to_string()).unwrap_or_default();
        let parts = [
            ("since_ms", time(self.since)),
            ("until_ms", time(self.until)),
            ("user", self.actor.clone()),
            ("action", self.action.clone()),
            ("project", self.project.clone()),
            ("projects", self.projects.as_deref().map_or(String::new(), projects)),
            ("outcome", self.outcome.clone()),
            ("client", self.client.clone()),
            ("address", self.address.clone()),
            ("target", self.target.clone()),
        ];
        let given = parts.into_iter().filter(|(_, value)| !value.is_empty());
        given.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Lines of JSON: a header, the events, a sealed trailer.
    Ndjson,
    /// RFC 4180, with a line of column names. No cell begins with what a spreadsheet would take for a formula.
    Csv,
}

/// An export that runs. Dropped before its end, it leaves a file without a trailer, which nobody takes for a whole one.
#[derive(Debug)]
pub struct Export {
    identity: Identity,
    org_id: String,
    query: Query,
    head: Head,
    /// The last event that was looked at.
    seq: i64,
    state: State,
    pending: Option<String>,
}

#[derive(Debug)]
enum State {
    Ndjson(Writer),
    Csv,
    Ended,
}

impl Identity {
    /// Begins an export of an organization's events, or of the platform's where there is none, and records it. It ends with
    /// the event that is the youngest now.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn begin_export(
        &self,
        by: &Caller,
        org: Option<&Org>,
        query: Query,
        format: Format,
    ) -> storage::Result<Export> {
        let (org_id, slug) = org.map_or(("", ""), |org| (org.id.as_str(), org.slug.as_str()));
        let form = if format == Format::Csv { "csv" } else { "ndjson" };
        let filter = query.text();
        let detail = serde_json::json!({ "format": form, "filter": filter });
        let mut tx = self.db().begin().await?;
        self.record(&mut tx, by, &Entry { org_id, action: "audit.export", target: slug, detail, ..Entry::default() })
            .await?;
        let head = audit::head(&mut tx, org_id).await?;
        tx.commit().await?;
        let header = Header {
            kind: KIND.to_owned(),
            version: VERSION,
            org_id: org_id.to_owned(),
            org: slug.to_owned(),
            exported_at_ms: self.now_ms(),
            filter,
            after_seq: head.first_seq - 1,
            anchor: head.anchor.clone(),
            head_seq: head.seq,
            head_hash: head.hash.clone(),
        };
        let (state, first) = match format {
            Format::Ndjson => {
                let (writer, line) = Writer::begin(&header).map_err(unwritable)?;
                (State::Ndjson(writer), line)
            }
            Format::Csv => (State::Csv, COLUMNS.to_owned()),
        };
        let seq = head.first_seq - 1;
        Ok(Export { identity: self.clone(), org_id: org_id.to_owned(), query, head, seq, state, pending: Some(first) })
    }

    /// Whether an event of that place and hash is in the chain of an organization.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn confirm_event(&self, org_id: &str, seq: i64, hash: &str) -> storage::Result<bool> {
        let found = audit::find(&mut self.db().read().await?, org_id, seq).await?;
        Ok(found.is_some_and(|event| event.hash == hash && event.expected_hash() == hash))
    }

    /// Whether an export's trailer is one that we sealed for an organization.
    #[must_use]
    pub fn confirm_trailer(&self, org_id: &str, trailer: &Trailer) -> bool {
        trailer.is_genuine(org_id, &|data| self.mac(SEAL, data))
    }
}

impl Export {
    /// The next piece of the export; `None` at its end.
    ///
    /// # Errors
    /// Those of the database; [`storage::Error::Conflict`] where retention took away what was still to come.
    pub async fn next(&mut self) -> storage::Result<Option<String>> {
        if let Some(first) = self.pending.take() {
            return Ok(Some(first));
        }
        if matches!(self.state, State::Ended) {
            return Ok(None);
        }
        loop {
            let filter = self.query.filter();
            let mut session = self.identity.db().read().await?;
            let direction = Direction::Oldest;
            let found = audit::list(&mut session, &self.org_id, &filter, direction, Some(self.seq), BATCH).await?;
            drop(session);
            let last = found.next.filter(|next| *next < self.head.seq);
            let events: Vec<&Event> = found.events.iter().filter(|event| event.seq <= self.head.seq).collect();
            let hole = self.seq < self.head.seq && events.first().is_none_or(|first| first.seq != self.seq + 1);
            if self.query == Query::default() && hole {
                return Err(storage::Error::Conflict("events were taken away by retention while they were exported"));
            }
            let mut text = self.write(&events)?;
            match last {
                Some(seq) => self.seq = seq,
                None => text.push_str(&self.end()?),
            }
            if !text.is_empty() || matches!(self.state, State::Ended) {
                return Ok(Some(text));
            }
        }
    }

    fn write(&mut self, events: &[&Event]) -> storage::Result<String> {
        let mut text = String::new();
        for event in events {
            match &mut self.state {
                State::Ndjson(writer) => text.push_str(&writer.event(event).map_err(unwritable)?),
                State::Csv => csv_line(event, &mut text),
                State::Ended => {}
            }
        }
        Ok(text)
    }

    fn end(&mut self) -> storage::Result<String> {
        match std::mem::replace(&mut self.state, State::Ended) {
            State::Ndjson(writer) => writer.end(&|data| self.identity.mac(SEAL, data)).map_err(unwritable),
            State::Csv | State::Ended => Ok(String::new()),
        }
    }
}

#[allow(clippy::needless_pass_by_value)] // The signature of `map_err`.
fn unwritable(error: serde_json::Error) -> storage::Error {
    storage::Error::Damaged(format!("an audit event cannot be written: {error}"))
}

/// Unix milliseconds as RFC 3339 in UTC: `2026-11-24T10:00:00.123Z`.
#[must_use]
pub fn rfc3339_ms(unix_ms: i64) -> String {
    let seconds = rfc3339(unix_ms.div_euclid(1000));
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_ms.rem_euclid(1000))
}

fn csv_line(event: &Event, out: &mut String) {
    let e = &event.event;
    let time = rfc3339_ms(e.at_ms);
    out.push_str(&event.seq.to_string());
    let cells: [&str; 14] = [
        &time,
        &e.actor,
        &e.action,
        &e.target,
        &e.project,
        &e.outcome,
        &e.reason,
        &e.credential,
        &e.client,
        &e.address,
        &e.agent,
        &e.request_id,
        &e.detail,
        &event.hash,
    ];
    for cell in cells {
        out.push(',');
        csv_cell(cell, out);
    }
    out.push_str("\r\n");
}

/// A cell of RFC 4180. What a spreadsheet would take for a formula gets a quote before it (OWASP, "CSV Injection").
fn csv_cell(text: &str, out: &mut String) {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']);
    let quote = formula || text.contains([',', '"', '\r', '\n']);
    if !quote {
        out.push_str(text);
        return;
    }
    out.push('"');
    if formula {
        out.push('\'');
    }
    out.push_str(&text.replace('"', "\"\""));
    out.push('"');
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use auditchain::verify::{Report, verify};
    use storage::orgs;

    use super::*;
    use crate::core::testing::{self, Testing};

    async fn main_org(t: &Testing) -> Org {
        orgs::find_by_slug(&mut t.db.read().await.unwrap(), "main").await.unwrap().unwrap()
    }

    async fn read(mut export: Export) -> String {
        let mut text = String::new();
        while let Some(piece) = export.next().await.unwrap() {
            text.push_str(&piece);
        }
        assert!(export.next().await.unwrap().is_none());
        text
    }

    async fn noted(t: &Testing, org: &Org, count: usize) {
        for n in 0..count {
            let action = if n % 2 == 0 { "image.pull" } else { "image.push" };
            let entry = Entry { org_id: &org.id, action, target: "=cmd|' /C calc'!A0", ..Entry::default() };
            t.identity.note(&Caller::server(), &entry).await.unwrap();
        }
        t.identity.settle().await;
    }

    fn check(t: &Testing, text: &str) -> Result<Report, auditchain::verify::Error> {
        verify(text.as_bytes(), Some(&|data| t.identity.mac(SEAL, data)))
    }

    #[tokio::test]
    async fn an_export_proves_itself_and_is_recorded() {
        let t = testing::identity().await;
        let org = main_org(&t).await;
        noted(&t, &org, usize::try_from(BATCH).unwrap() + 20).await;
        let export =
            t.identity.begin_export(&Caller::server(), Some(&org), Query::default(), Format::Ndjson).await.unwrap();
        // What comes later is not of it.
        noted(&t, &org, 3).await;
        let text = read(export).await;
        let report = check(&t, &text).unwrap();
        assert!(report.sealed && report.header.is_whole());
        assert_eq!((report.header.org.as_str(), report.header.after_seq), ("main", 0));
        assert!(text.lines().rev().nth(1).unwrap().contains("audit.export"));
        let trailer = report.trailer;
        assert!(t.identity.confirm_trailer(&org.id, &trailer) && !t.identity.confirm_trailer("", &trailer));
        assert!(t.identity.confirm_event(&org.id, trailer.last_seq, &trailer.last_hash).await.unwrap());
        assert!(!t.identity.confirm_event(&org.id, trailer.last_seq - 1, &trailer.last_hash).await.unwrap());
        assert!(!t.identity.confirm_event("", trailer.last_seq, &trailer.last_hash).await.unwrap());
        let forged = text.replacen("image.pull", "image.push", 1);
        assert!(check(&t, &forged).is_err());
    }

    #[tokio::test]
    async fn an_export_may_be_of_what_a_filter_leaves_and_of_a_chain_that_was_cut() {
        let t = testing::identity().await;
        let org = main_org(&t).await;
        noted(&t, &org, 20).await;
        let query = Query { action: "image.pull".into(), ..Query::default() };
        let export = t.identity.begin_export(&Caller::server(), Some(&org), query, Format::Ndjson).await.unwrap();
        let report = check(&t, &read(export).await).unwrap();
        assert_eq!((report.trailer.count, report.header.filter.as_str()), (10, "action=image.pull"));
        t.keep_audit_for(&org.id, 1).await;
        t.advance(90 * 86_400);
        t.identity.cut_audit().await.unwrap();
        let export =
            t.identity.begin_export(&Caller::server(), Some(&org), Query::default(), Format::Ndjson).await.unwrap();
        let report = check(&t, &read(export).await).unwrap();
        assert!(report.header.after_seq > 20);
        assert_eq!(report.trailer.count, 2, "the cut, and this export");
        let export = t.identity.begin_export(&Caller::server(), None, Query::default(), Format::Ndjson).await.unwrap();
        assert_eq!(check(&t, &read(export).await).unwrap().header.org_id, "");
    }

    #[tokio::test]
    async fn no_cell_is_a_formula() {
        let t = testing::identity().await;
        let org = main_org(&t).await;
        noted(&t, &org, 2).await;
        let query = Query { action: "image.*".into(), ..Query::default() };
        let export = t.identity.begin_export(&Caller::server(), Some(&org), query, Format::Csv).await.unwrap();
        let text = read(export).await;
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(lines[0].split(',').count(), 15);
        assert!(lines[1].contains(",\"'=cmd|' /C calc'!A0\","), "{}", lines[1]);
        let mut cell = String::new();
        for (text, expected) in [
            ("a", "a"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"x\"", "\"say \"\"x\"\"\""),
            ("+1", "\"'+1\""),
            ("@x", "\"'@x\""),
            ("-1", "\"'-1\""),
            ("\t=1", "\"'\t=1\""),
            ("a\nb", "\"a\nb\""),
        ] {
            cell.clear();
            csv_cell(text, &mut cell);
            assert_eq!(cell, expected);
        }
    }

    #[test]
    fn times_are_to_the_millisecond() {
        assert_eq!(rfc3339_ms(1_795_514_400_007), "2026-11-24T10:00:00.007Z");
    }
}

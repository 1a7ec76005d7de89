//! Verification: the chain of an export is checked here, and the server is asked whether it knows the last event and made the
//! seal.
//!
//! The chain alone shows every edit, removal and reordering, unless whoever did it hashed the rest anew; the server's word
//! rules that out.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

use auditchain::verify::{Error as Flawed, Report, verify};
use clap::Args;
use serde_json::{Value, json};

use crate::client::Call;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, Progress, col, note};

/// Lines of the answer.
const COLUMNS: &[Column] = &[
    col("Organization", &["org"]),
    col("Events", &["events"]),
    col("Filter", &["filter"]),
    col("Last event", &["last_seq"]),
    col("Chain", &["chain"]),
    col("Server", &["server"]),
];

/// Verify an export.
#[derive(Debug, Args)]
#[command(after_help = "Status 10 where anything was edited, taken out, added or put in another order.\n\n\
    Examples:\n  rctl audit verify audit.ndjson\n  rctl audit verify audit.ndjson --offline\n  zcat audit.ndjson.gz | rctl audit verify -")]
pub(crate) struct Verify {
    /// The export, as NDJSON; `-` is standard input
    file: PathBuf,
    /// Do not ask the server whether it knows the last event
    #[arg(long)]
    offline: bool,
}

impl Verify {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::NotGenuine`] with the first thing that is wrong, [`Error::File`].
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let report = self.check()?;
        let server = match self.offline {
            true => "not asked",
            false => confirm(context, &report).await?,
        };
        let shown = json!({
            "org": report.header.org,
            "events": report.trailer.count,
            "filter": report.header.filter,
            "last_seq": report.trailer.last_seq,
            "chain": "whole",
            "server": server,
        });
        context.out.item(&shown, COLUMNS)
    }

    fn check(&self) -> Result<Report> {
        let progress = Progress::bytes("verifying");
        let checked = if self.file.as_os_str() == "-" {
            verify(Counted { inner: BufReader::new(std::io::stdin().lock()), read: 0, progress: &progress }, None)
        } else {
            let file = File::open(&self.file).map_err(Error::file(&self.file))?;
            verify(Counted { inner: BufReader::new(file), read: 0, progress: &progress }, None)
        };
        checked.map_err(|flaw| match flaw {
            Flawed::Io(error) => Error::file(&self.file)(error),
            Flawed::NotAnExport => Error::Usage(format!(
                "{}: no audit export; `rctl audit export --format ndjson` makes one",
                self.file.display()
            )),
            flaw => Error::NotGenuine(format!("{}: {flaw}", self.file.display())),
        })
    }
}

/// What the server says of the last event.
async fn confirm(context: &Context, report: &Report) -> Result<&'static str> {
    if context.settings.endpoint.is_none() || !context.client()?.has_credential() {
        note("note: not logged in, so that the server was not asked about the last event");
        return Ok("not asked");
    }
    if report.trailer.last_seq == 0 {
        return Ok("not asked: there is no event");
    }
    let org = context.settings.org.as_deref().unwrap_or(&report.header.org);
    let trailer = &report.trailer;
    let body = json!({"seq": trailer.last_seq, "hash": trailer.last_hash, "trailer": trailer});
    match context.client()?.send(&Call::post(&["orgs", org, "audit", "confirm"]).body(body)).await {
        Ok(reply) if reply.body["genuine"] == Value::Bool(true) => Ok("knows the last event, and sealed this export"),
        Ok(_) => Err(Error::NotGenuine(
            "the server does not know the last event, or did not seal this export: it was made anew or changed".into(),
        )),
        Err(Error::Unreachable { .. }) => {
            note("note: the server does not answer: the last event is not confirmed");
            Ok("does not answer")
        }
        Err(error) => Err(error),
    }
}

/// Shows how far the reading is.
struct Counted<'a, R> {
    inner: R,
    read: usize,
    progress: &'a Progress,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.inner.read(buffer)?;
        self.read += size;
        self.progress.at(self.read);
        Ok(size)
    }
}

impl<R: BufRead> BufRead for Counted<'_, R> {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, amount: usize) {
        self.read += amount;
        self.progress.at(self.read);
        self.inner.consume(amount);
    }
}

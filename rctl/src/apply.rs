//! `apply`: things as files describe them. Documents are read and checked all together, put into the order in which they
//! depend on each other, compared with what is there, and only then is anything changed. What fits already is left alone.

mod document;
mod plan;
mod resource;

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Progress, print};
use document::Document;
use plan::{Change, Outcome};

/// Largest input, in bytes.
const MAX_INPUT: u64 = 4 << 20;

/// Make things as files describe them.
#[derive(Debug, Args)]
#[command(after_help = "YAML or JSON, any number of documents. Fields that are not given are left as they are.\n\n  \
    kind: Organization | Project | User | Group | Role | Binding\n  metadata: {name: …, org: …}\n  spec: {…}      (docs/RCTL.md lists the fields)\n\n\
    Examples:\n  rctl apply -f team.yaml --dry-run\n  cat *.yaml | rctl apply -f -")]
pub(crate) struct Apply {
    /// The file; `-` is standard input
    #[arg(short, long = "file", value_name = "FILE|-", required = true)]
    files: Vec<PathBuf>,
    /// Show what would change, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Apply {
    /// Does it.
    ///
    /// # Errors
    /// [`Error::Document`] with the number of the document; those before it are applied.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let mut documents = Vec::new();
        for file in &self.files {
            documents.extend(document::parse(&read(file)?, documents.len())?);
        }
        if documents.is_empty() {
            return Err(Error::Usage("there is no document in it".into()));
        }
        let org = match documents.iter().all(Document::names_org) {
            true => String::new(),
            false => context.org().await?,
        };
        documents.sort_by_key(Document::rank);
        let progress = Progress::steps("applying", documents.len());
        let mut tally = Tally::default();
        for (done, document) in documents.iter().enumerate() {
            let change = plan::compare(context, document, &org).await.map_err(|error| document.blame(error))?;
            if self.dry_run {
                progress.hide(|| ());
                self.preview(context, document, &change)?;
            } else if change.outcome != Outcome::Unchanged {
                plan::carry_out(context, document, &org, &change).await.map_err(|error| document.blame(error))?;
            }
            if !self.dry_run {
                let text = format!("{} {}", document.title(), change.outcome.done());
                progress.hide(|| drop(context.out.say(&text)));
            }
            tally.count(change.outcome);
            progress.at(done + 1);
        }
        drop(progress);
        self.sum_up(context, &tally)
    }

    fn preview(&self, context: &Context, document: &Document, change: &Change) -> Result<()> {
        if context.out.is_data() {
            return Ok(());
        }
        context.out.say(&format!("{} {}", document.title(), change.outcome.would()))?;
        print(&change.diff(context.out.colour)?)
    }

    fn sum_up(&self, context: &Context, tally: &Tally) -> Result<()> {
        let Tally { created, changed, unchanged } = *tally;
        if context.out.is_data() {
            let dry_run = self.dry_run;
            let sum = json!({"created": created, "changed": changed, "unchanged": unchanged, "dry_run": dry_run});
            return context.out.data(&sum);
        }
        let would = if self.dry_run { "would be " } else { "" };
        context.out.say(&format!("{created} {would}created, {changed} {would}changed, {unchanged} unchanged"))
    }
}

/// How many documents ended how.
#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    created: usize,
    changed: usize,
    unchanged: usize,
}

impl Tally {
    fn count(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Created => self.created += 1,
            Outcome::Changed => self.changed += 1,
            Outcome::Unchanged => self.unchanged += 1,
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let mut text = String::new();
    let size = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(MAX_INPUT + 1).read_to_string(&mut text)?
    } else {
        let file = std::fs::File::open(path).map_err(Error::file(path))?;
        file.take(MAX_INPUT + 1).read_to_string(&mut text).map_err(Error::file(path))?
    };
    if size as u64 > MAX_INPUT {
        return Err(Error::Usage(format!("{}: larger than 4 MiB; apply it in parts", path.display())));
    }
    Ok(text)
}

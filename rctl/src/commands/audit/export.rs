//! Exports: as many events as there are, streamed to a file or to standard output.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::{Filter, Form};
use crate::client::{Call, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Progress, note};

/// Write events to a file.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// ndjson or csv
    #[arg(long, value_enum, default_value = "ndjson", hide_possible_values = true)]
    format: Form,
    /// The file; standard output where it is not given. One that is there is not overwritten
    #[arg(long, short)]
    file: Option<PathBuf>,
    #[command(flatten)]
    filter: Filter,
}

impl Export {
    /// Does it.
    ///
    /// # Errors
    /// The server's, [`Error::File`]. A file that did not become whole is removed.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let form = if self.format == Form::Csv { "csv" } else { "ndjson" };
        let path = ["orgs", org.as_str(), "audit", "export"];
        let call = self.filter.on(Call::get(&path).query("format", form));
        let client = context.client()?;
        let response = client.stream(&call).await?;
        match &self.file {
            None => copy(client, response, std::io::stdout().lock(), Error::Stream).await.map(drop),
            Some(path) => {
                let file = create(path).map_err(Error::file(path))?;
                let copied = copy(client, response, BufWriter::new(file), |error| Error::file(path)(error)).await;
                if copied.is_err() {
                    let _ = std::fs::remove_file(path);
                }
                note(&format!("{} bytes in {}", copied?, path.display()));
                Ok(())
            }
        }
    }
}

/// A new file for its owner alone: who did what from where is nobody else's to know.
fn create(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(path)
}

async fn copy(
    client: &Client,
    mut response: reqwest::Response,
    mut to: impl Write,
    failed: impl Fn(std::io::Error) -> Error,
) -> Result<usize> {
    let progress = Progress::bytes("exporting");
    let mut size = 0;
    while let Some(chunk) = response.chunk().await.map_err(|error| client.unreachable(&error))? {
        to.write_all(&chunk).map_err(&failed)?;
        size += chunk.len();
        progress.at(size);
    }
    to.flush().map_err(&failed)?;
    Ok(size)
}

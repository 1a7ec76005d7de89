//! What goes to standard output: tables for people, JSON and YAML for programs. Text from the server is never let loose on a
//! terminal: control characters are shown, not sent.

mod progress;
mod table;

use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::error::{Error, Result};
pub(crate) use progress::Progress;
pub(crate) use table::{Column, clean, col, wide};

/// How to show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    #[default]
    Table,
    /// More columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Where and how to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// How.
    pub(crate) format: Format,
    /// Whether standard output may be coloured.
    pub(crate) colour: bool,
}

impl Output {
    /// Colour on terminals alone, and not against the caller's wish (<https://no-color.org>).
    pub(crate) fn new(format: Format) -> Self {
        Self { format, colour: std::io::stdout().is_terminal() && wants_colour() }
    }

    /// Whether a program reads it.
    pub(crate) fn is_data(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Shows a list.
    ///
    /// # Errors
    /// [`Error::Stream`].
    pub(crate) fn list(&self, items: &[Value], columns: &[Column], none: &str) -> Result<()> {
        match self.format {
            Format::Json | Format::Yaml => self.data(&Value::Array(items.to_vec())),
            Format::Table | Format::Wide if items.is_empty() => {
                let _ = writeln!(std::io::stderr(), "{none}");
                Ok(())
            }
            Format::Table => print(&table::rows(items, columns, false, self.colour)),
            Format::Wide => print(&table::rows(items, columns, true, self.colour)),
        }
    }

    /// Shows one thing, with all that is known of it.
    ///
    /// # Errors
    /// [`Error::Stream`].
    pub(crate) fn item(&self, item: &Value, columns: &[Column]) -> Result<()> {
        if self.is_data() { self.data(item) } else { print(&table::sheet(item, columns, self.colour)) }
    }

    /// Shows data as JSON, or as YAML where that was asked for.
    ///
    /// # Errors
    /// [`Error::Stream`].
    pub(crate) fn data(&self, value: &Value) -> Result<()> {
        match self.format {
            Format::Yaml => print(&yaml(value)?),
            _ => print(&format!("{}\n", serde_json::to_string_pretty(value).map_err(|e| Error::Other(e.to_string()))?)),
        }
    }

    /// Says a sentence to a person; programs read the exit status.
    ///
    /// # Errors
    /// [`Error::Stream`].
    pub(crate) fn say(&self, text: &str) -> Result<()> {
        if self.is_data() { Ok(()) } else { print(&format!("{}\n", clean(text))) }
    }
}

/// Writes to standard output.
///
/// # Errors
/// [`Error::Stream`].
pub(crate) fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// A value as YAML.
///
/// # Errors
/// [`Error::Other`] for what YAML cannot say.
pub(crate) fn yaml(value: &Value) -> Result<String> {
    let mut text = serde_saphyr::to_string(value).map_err(|error| Error::Other(error.to_string()))?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn wants_colour() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Shows a failure on standard error: what, why, and the next step.
pub(crate) fn failure(error: &Error) {
    let colour = std::io::stderr().is_terminal() && wants_colour();
    let paint = |code: &str, text: &str| if colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let mut text = format!("{} {}\n", paint("1;31", "error:"), clean(&error.to_string()));
    if let Some(problem) = problem(error) {
        if let Some(field) = problem.field.as_ref().filter(|field| !problem.detail.contains(field.as_str())) {
            text.push_str(&format!("  field: {}\n", clean(field)));
        }
        for line in &problem.why {
            text.push_str(&format!("  because: {}\n", clean(line)));
        }
    }
    if let Some(next) = error.next_step() {
        text.push_str(&format!("  {} {}\n", paint("1", "next:"), clean(&next)));
    }
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

fn problem(error: &Error) -> Option<&crate::client::problem::Problem> {
    match error {
        Error::Refused(problem) => Some(problem),
        Error::Document { error, .. } => problem(error),
        _ => None,
    }
}

/// Says something that is no result on standard error.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", clean(text));
}

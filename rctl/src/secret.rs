//! Secrets: a type that does not show them, and the two ways in: a prompt, or standard input. Never the command line,
//! which every user of the machine can read.

use std::io::{BufRead, IsTerminal, Read};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Longest secret that is read, in bytes.
const MAX: u64 = 4096;

/// Text that `Debug` does not show.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    /// Takes text.
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the wire or the file that keeps it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Asks for a secret without echo; where standard input is no terminal, reads its next line.
///
/// # Errors
/// [`Error::Usage`] where nothing comes.
pub(crate) fn ask(prompt: &str) -> Result<Secret> {
    if std::io::stdin().is_terminal() {
        return Ok(Secret::new(rpassword::prompt_password(format!("{prompt}: "))?));
    }
    line(prompt).map(Secret)
}

/// The next line of standard input.
///
/// # Errors
/// [`Error::Usage`] where there is none, or it is longer than any secret.
pub(crate) fn line(what: &str) -> Result<String> {
    let mut line = Vec::new();
    // One byte at a time through the shared buffer: what follows is for the next question.
    let read = std::io::stdin().lock().take(MAX).read_until(b'\n', &mut line)?;
    let text = String::from_utf8(line).map_err(|_| Error::Usage(format!("{what}: not UTF-8")))?;
    if read == 0 || (!text.ends_with('\n') && read as u64 == MAX) {
        return Err(Error::Usage(format!("{what}: expected on standard input, one line of at most {MAX} bytes")));
    }
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_does_not_show_it() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some(Secret(…))");
    }
}

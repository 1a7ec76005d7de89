//! What can go wrong, what the next step is, and with which status the program ends. The one place that knows exit codes.

use std::path::PathBuf;

use crate::client::problem::Problem;

/// Result of a command.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Exit codes, as `docs/RCTL.md` and `rctl --help` list them.
pub(crate) mod exit {
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const NOT_AUTHENTICATED: u8 = 3;
    pub(crate) const DENIED: u8 = 4;
    pub(crate) const NOT_FOUND: u8 = 5;
    pub(crate) const CONFLICT: u8 = 6;
    pub(crate) const UNAVAILABLE: u8 = 7;
    pub(crate) const INVALID: u8 = 8;
    pub(crate) const TRY_LATER: u8 = 9;
    pub(crate) const NOT_GENUINE: u8 = 10;
    pub(crate) const INTERRUPTED: u8 = 130;
}

/// A failure, in the terms of whoever called.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The command line does not say enough, or says what cannot be.
    #[error("{0}")]
    Usage(String),
    /// There is nothing to log in with.
    #[error("{0}")]
    NotLoggedIn(String),
    /// The server said no.
    #[error("{}", .0.detail)]
    Refused(Box<Problem>),
    /// The server could not be reached, or went away in the middle.
    #[error("cannot reach {endpoint}: {cause}")]
    Unreachable {
        /// Where it should be.
        endpoint: String,
        /// What the network said.
        cause: String,
        /// Whether its certificate was the reason.
        untrusted: bool,
    },
    /// The server answered what no Wharfinger would.
    #[error("the answer of {endpoint} makes no sense: {what}")]
    Foreign {
        /// Who answered.
        endpoint: String,
        /// What is wrong with it.
        what: String,
    },
    /// A file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// Standard input or output.
    #[error("{0}")]
    Stream(#[from] std::io::Error),
    /// Another program that was asked to help.
    #[error("{program}: {what}")]
    Program {
        /// Its name.
        program: String,
        /// What it said.
        what: String,
    },
    /// An audit log that was tampered with.
    #[error("{0}")]
    NotGenuine(String),
    /// The answer to a question is no: said already, nothing to add.
    #[error("no")]
    No,
    /// There are no such credentials: said already, in docker's words.
    #[error("no credentials")]
    Missing,
    /// The caller thought better of it.
    #[error("nothing was done")]
    Declined,
    /// A document of a file that is applied.
    #[error("document {number}{name}: {error}")]
    Document {
        /// Its place, from 1.
        number: usize,
        /// What it describes, as ` (Kind name)`.
        name: String,
        /// What is wrong.
        error: Box<Error>,
    },
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Error {
    /// A failure of a file.
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Whether the server said that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.status == 404 && problem.kind() != "no-route")
    }

    /// Whether standard output went away, as `rctl … | head` does: no failure at all.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Stream(error) if error.kind() == std::io::ErrorKind::BrokenPipe)
    }

    /// Whether all was said before.
    pub(crate) fn is_said(&self) -> bool {
        self.is_broken_pipe() || matches!(self, Self::No | Self::Missing)
    }

    /// The status that the program ends with.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            error if error.is_broken_pipe() => 0,
            Self::Usage(_) => exit::USAGE,
            Self::NotLoggedIn(_) => exit::NOT_AUTHENTICATED,
            Self::Unreachable { .. } => exit::UNAVAILABLE,
            Self::NotGenuine(_) => exit::NOT_GENUINE,
            Self::No => exit::DENIED,
            Self::Declined => exit::INTERRUPTED,
            Self::Document { error, .. } => error.exit_code(),
            Self::Refused(problem) => match problem.status {
                401 => exit::NOT_AUTHENTICATED,
                403 => exit::DENIED,
                404 | 405 | 410 => exit::NOT_FOUND,
                409 | 412 | 428 => exit::CONFLICT,
                429 => exit::TRY_LATER,
                502..=504 => exit::UNAVAILABLE,
                400 | 413 | 415 | 422 => exit::INVALID,
                _ => exit::ERROR,
            },
            _ => exit::ERROR,
        }
    }

    /// What to do next, where that is known.
    pub(crate) fn next_step(&self) -> Option<String> {
        match self {
            Self::NotLoggedIn(_) => Some(LOG_IN.into()),
            Self::Unreachable { untrusted: true, .. } => Some(
                "if the server has a private CA, name its certificate: --ca-file FILE, RCTL_CA_FILE, or `rctl config set ca_file FILE`"
                    .into(),
            ),
            Self::Unreachable { .. } => {
                Some("check the endpoint (`rctl config show`) and that the server runs".into())
            }
            Self::Foreign { .. } => Some("check that the endpoint is the controller: `rctl config show`".into()),
            Self::Refused(problem) => problem.next_step(),
            Self::Document { error, .. } => error.next_step(),
            _ => None,
        }
    }
}

/// How to get credentials.
pub(crate) const LOG_IN: &str = "`rctl login`, or set RCTL_API_KEY and RCTL_API_SECRET";

/// What the server would say of a thing that is looked for in a list.
pub(crate) fn not_found(what: &str) -> Error {
    let detail = format!("there is no such {what}, or you may not see it");
    Error::Refused(Box::new(Problem { status: 404, detail, ..Problem::default() }))
}

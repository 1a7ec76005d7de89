//! What each command does: a noun or a theme a file, its options, its calls and the columns of its tables together.

pub(crate) mod apikey;
pub(crate) mod assign;
pub(crate) mod audit;
pub(crate) mod auth;
pub(crate) mod binding;
pub(crate) mod completion;
pub(crate) mod config;
pub(crate) mod group;
pub(crate) mod groupassociation;
pub(crate) mod issuer;
pub(crate) mod login;
pub(crate) mod org;
pub(crate) mod password;
pub(crate) mod project;
pub(crate) mod registry;
pub(crate) mod role;
pub(crate) mod session;
pub(crate) mod user;
pub(crate) mod version;
pub(crate) mod whoami;

use serde_json::{Map, Value};

/// The fields that were given, and no others: what is not said is not changed.
#[derive(Debug, Default)]
pub(crate) struct Fields(Map<String, Value>);

impl Fields {
    /// Adds a field.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.into(), value.into());
        self
    }

    /// Adds a field, if there is a value.
    pub(crate) fn maybe<T: Into<Value>>(self, name: &str, value: Option<T>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds a list, if anything is in it.
    pub(crate) fn list(self, name: &str, values: &[String]) -> Self {
        if values.is_empty() { self } else { self.with(name, values.to_vec()) }
    }

    /// Whether nothing was given.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// As a body.
    pub(crate) fn into_value(self) -> Value {
        Value::Object(self.0)
    }

    /// As the body of a change.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::error::Error::Usage) where there is nothing to change.
    pub(crate) fn change(self) -> crate::error::Result<Value> {
        if self.is_empty() {
            return Err(crate::error::Error::Usage("nothing to change: see --help for what can be".into()));
        }
        Ok(self.into_value())
    }
}

/// `--limit` of lists.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Limit {
    /// Show at most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
}

impl Limit {
    /// As a number of items.
    pub(crate) fn get(self) -> Option<usize> {
        self.limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
    }
}

/// `--yes` of what asks first.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Yes {
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}

/// The name of this machine, for people who look at lists of keys and sessions later.
pub(crate) fn machine() -> String {
    let name = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let name: String =
        name.trim().chars().filter(|c| c.is_ascii_alphanumeric() || ".-_".contains(*c)).take(60).collect();
    if name.is_empty() { "a machine".into() } else { name }
}

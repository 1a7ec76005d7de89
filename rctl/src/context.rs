//! What every command needs: what holds for this call, the server, the output, and the questions to people.

use std::cell::OnceCell;
use std::io::{IsTerminal, Write};

use serde_json::Value;

use crate::client::{Call, Client, MAX_ITEMS};
use crate::config::Settings;
use crate::error::{Error, Result};
use crate::output::{Column, Output, Progress, note};
use crate::secret;

/// The call of a command.
#[derive(Debug)]
pub(crate) struct Context {
    /// What holds for this call.
    pub(crate) settings: Settings,
    /// Where results go.
    pub(crate) out: Output,
    /// Whether requests are told.
    pub(crate) verbose: bool,
    client: OnceCell<Client>,
}

impl Context {
    /// Makes one.
    pub(crate) fn new(settings: Settings, out: Output, verbose: bool) -> Self {
        if settings.insecure {
            note(&format!("warning: {} is set: anybody may pose as the server", crate::config::var::SKIP_VALIDATION));
        }
        if let Some(url) = settings.endpoint.as_ref().filter(|url| url.scheme() == "http" && !is_loopback(url)) {
            note(&format!("warning: {url} is not encrypted: credentials can be read on the way"));
        }
        Self { settings, out, verbose, client: OnceCell::new() }
    }

    /// The server.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub(crate) fn client(&self) -> Result<&Client> {
        match self.client.get() {
            Some(client) => Ok(client),
            None => {
                let made = Client::new(&self.settings, self.verbose)?;
                Ok(self.client.get_or_init(|| made))
            }
        }
    }

    /// The organization: of the command line, environment or profile, else the only one that the caller is in.
    ///
    /// # Errors
    /// [`Error::Usage`] where there is a choice to make.
    pub(crate) async fn org(&self) -> Result<String> {
        if let Some(org) = &self.settings.org {
            return Ok(org.clone());
        }
        let (orgs, _) = self.client()?.list(&Call::get(&["orgs"]), 20, |_| ()).await?;
        let slugs: Vec<&str> = orgs.iter().filter_map(|org| org["slug"].as_str()).collect();
        match slugs[..] {
            [only] => Ok(only.to_owned()),
            [] => Err(Error::Usage("you are in no organization: ask an Organization Admin for an invitation".into())),
            _ => {
                let names = slugs.join(", ");
                Err(Error::Usage(format!(
                    "which organization? --org SLUG, RCTL_ORG or `rctl config set org SLUG`: {names}"
                )))
            }
        }
    }

    /// The project: of the command line, else of the environment or profile.
    ///
    /// # Errors
    /// [`Error::Usage`] where nobody names one.
    pub(crate) fn project(&self, given: Option<&str>) -> Result<String> {
        let found = given.map(str::to_owned).or_else(|| self.settings.project.clone());
        found.ok_or_else(|| {
            Error::Usage("which project? --project SLUG, RCTL_PROJECT or `rctl config set project SLUG`".into())
        })
    }

    /// Shows all items of a list.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub(crate) async fn show_list(
        &self,
        call: &Call<'_>,
        limit: Option<usize>,
        columns: &[Column],
        noun: &str,
    ) -> Result<()> {
        let items = self.fetch(call, limit, noun).await?;
        self.out.list(&items, columns, &format!("no {noun}"))
    }

    /// All items of a list; says so where there are more than `limit`.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub(crate) async fn fetch(&self, call: &Call<'_>, limit: Option<usize>, noun: &str) -> Result<Vec<Value>> {
        let progress = Progress::spinner("reading", noun);
        let limit = limit.unwrap_or(MAX_ITEMS);
        let (items, more) = self.client()?.list(call, limit, |count| progress.at(count)).await?;
        drop(progress);
        if more {
            note(&format!("there are more than {limit} {noun}: --limit shows more"));
        }
        Ok(items)
    }

    /// Makes a call and shows the thing that it answers with, or says `done` where it answers nothing.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn show(&self, call: &Call<'_>, columns: &[Column], done: &str) -> Result<()> {
        let reply = self.client()?.send(call).await?;
        if reply.body.is_null() { self.out.say(done) } else { self.out.item(&reply.body, columns) }
    }

    /// Makes a call and says `done`.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub(crate) async fn act(&self, call: &Call<'_>, done: &str) -> Result<()> {
        self.client()?.send(call).await?;
        self.out.say(done)
    }

    /// Asks a person before something that cannot be undone; programs say `--yes`.
    ///
    /// # Errors
    /// [`Error::Declined`], or [`Error::Usage`] where there is nobody to ask.
    pub(crate) fn confirm(&self, question: &str, yes: bool) -> Result<()> {
        if yes || agrees(question)? { Ok(()) } else { Err(Error::Declined) }
    }

    /// Has a person type a name before something that destroys; programs give it with `--confirm`.
    ///
    /// # Errors
    /// [`Error::Declined`] where it is another name, [`Error::Usage`] where there is nobody to ask.
    pub(crate) fn confirm_name(&self, warning: &str, name: &str, given: Option<&str>) -> Result<()> {
        let typed = match given {
            Some(given) => given.to_owned(),
            None if std::io::stdin().is_terminal() => {
                eprintln!("{warning}");
                eprint!("Type {name} to go on: ");
                secret::line("the name")?
            }
            None => return Err(Error::Usage(format!("{warning} To go on without a terminal: --confirm {name}"))),
        };
        if typed.trim() == name { Ok(()) } else { Err(Error::Declined) }
    }
}

/// Asks; enter alone is no.
///
/// # Errors
/// [`Error::Usage`] where there is nobody to ask.
pub(crate) fn agrees(question: &str) -> Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::Usage(format!("{question} There is no terminal to ask at: say --yes")));
    }
    eprint!("{question} [y/N] ");
    std::io::stderr().flush()?;
    let answer = secret::line("an answer")?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

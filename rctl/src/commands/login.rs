//! `login` and `logout`. A login is the device authorization grant (RFC 8628): this program never sees a password, and the
//! browser may be on another machine.

use std::io::IsTerminal;
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{machine, whoami};
use crate::client::{AGENT, Call, Client};
use crate::config::{Credential, Settings, StoredSession, key_of, var};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Progress, note};
use crate::secret::{self, Secret};

/// The pause between two questions where the server names none, and what `slow_down` adds (RFC 8628 §3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// Longest time to wait, whatever the server says.
const MAX_WAIT: u64 = 3600;

/// Log in.
#[derive(Debug, Args)]
#[command(
    after_help = "A code is shown. Open the address in a browser on any machine, log in there and compare the code.\n\
    The session is kept in ~/.rctl/config.json and lasts 24 hours at most.\n\n\
    Examples:\n  rctl login --endpoint https://registry.example.com\n  rctl login --no-browser\n  \
    rctl login --api-key-stdin < key"
)]
pub(crate) struct Login {
    /// Only show the address; open no browser
    #[arg(long)]
    no_browser: bool,
    /// Keep an API key instead: ra2.<id>.<secret>, read from standard input
    #[arg(long, conflicts_with = "no_browser")]
    api_key_stdin: bool,
}

impl Login {
    /// Does it.
    ///
    /// # Errors
    /// The server's; [`Error::Refused`] where the browser said no or nobody came in time.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        if self.api_key_stdin { with_key(context).await } else { self.with_device(context).await }
    }

    async fn with_device(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        let begun =
            Call::post(&["device", "code"]).body(json!({"client": format!("{AGENT} on {}", machine())})).anonymous();
        let begun = client.send(&begun).await?.body;
        let grant = Grant::read(&begun).ok_or_else(|| client.foreign("a device code that is none".into()))?;
        self.show(&grant);
        let answer = grant.wait(client).await?;
        let token = answer["access_token"].as_str().ok_or_else(|| client.foreign("no access token".into()))?;
        let text = |name: &str| answer[name].as_str().or_else(|| answer[name]["name"].as_str()).map(str::to_owned);
        let session = StoredSession { token: Secret::new(token), expires_at: text("expires_at") };
        let org = answer["org"].as_str().or_else(|| answer["org"]["slug"].as_str()).map(str::to_owned);
        let user = text("user");
        store(&context.settings, |profile| {
            profile.session = Some(session.clone());
            profile.api_key = None;
            profile.user = user.clone();
            profile.org = context.settings.org.clone().or(org.clone()).or(profile.org.take());
        })?;
        if context.settings.from_environment {
            note(&format!("note: {} is set and wins over this session", var::API_KEY));
        }
        let who = user.as_deref().unwrap_or("you");
        context.out.say(&format!("Logged in at {} as {who}.", client.endpoint()))?;
        context.out.is_data().then(|| context.out.data(&json!({"user": user, "org": org}))).transpose().map(drop)
    }

    fn show(&self, grant: &Grant) {
        note(&format!("To log in, open  {}", grant.page));
        note(&format!("and enter         {}", grant.user_code));
        let opened = !self.no_browser && has_display() && open(grant.page_with_code.as_deref().unwrap_or(&grant.page));
        if opened {
            note("A browser was opened. Compare the code there with the one above.");
        }
    }
}

/// A login that waits for a browser.
#[derive(Debug)]
struct Grant {
    device_code: Secret,
    user_code: String,
    page: String,
    page_with_code: Option<String>,
    lifetime: Duration,
    interval: Duration,
}

impl Grant {
    fn read(body: &Value) -> Option<Self> {
        let text = |name: &str| body[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let seconds = |name: &str| body[name].as_u64();
        Some(Self {
            device_code: Secret::new(text("device_code")?),
            user_code: text("user_code")?,
            page: web_address(&text("verification_uri")?)?,
            page_with_code: text("verification_uri_complete").and_then(|page| web_address(&page)),
            lifetime: Duration::from_secs(seconds("expires_in")?.min(MAX_WAIT)),
            interval: seconds("interval").map_or(INTERVAL, |pause| Duration::from_secs(pause.clamp(1, 60))),
        })
    }

    /// Asks until the browser has answered.
    async fn wait(&self, client: &Client) -> Result<Value> {
        let progress = Progress::spinner("waiting for the browser", "s");
        let begun = Instant::now();
        let mut interval = self.interval;
        loop {
            tokio::time::sleep(interval).await;
            progress.at(usize::try_from(begun.elapsed().as_secs()).unwrap_or_default());
            let ask = json!({"device_code": self.device_code.expose()});
            match client.send(&Call::post(&["device", "token"]).body(ask).anonymous()).await {
                Ok(reply) => return Ok(reply.body),
                Err(Error::Refused(problem)) => match problem.oauth.as_deref() {
                    Some("authorization_pending") => {}
                    Some("slow_down") => interval += INTERVAL,
                    Some("access_denied") => return Err(said(*problem, 403, "the login was denied in the browser")),
                    Some("expired_token") => return Err(said(*problem, 401, EXPIRED)),
                    _ => return Err(Error::Refused(problem)),
                },
                // RFC 8628 §3.5: a connection that timed out is asked for more slowly.
                Err(Error::Unreachable { untrusted: false, .. }) => {
                    interval = (interval * 2).min(Duration::from_secs(60));
                }
                Err(error) => return Err(error),
            }
            if begun.elapsed() > self.lifetime {
                return Err(Error::NotLoggedIn(EXPIRED.into()));
            }
        }
    }
}

/// Why nothing came of a login.
const EXPIRED: &str = "the code has expired before anybody entered it";

fn said(problem: crate::client::problem::Problem, status: u16, detail: &str) -> Error {
    Error::Refused(Box::new(crate::client::problem::Problem { status, detail: detail.into(), ..problem }))
}

/// Only web addresses are handed to the desktop: it would open files and programs as well.
fn web_address(text: &str) -> Option<String> {
    let url = url::Url::parse(text).ok()?;
    matches!(url.scheme(), "https" | "http").then(|| url.to_string())
}

fn has_display() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    std::io::stderr().is_terminal() && (cfg!(target_os = "macos") || set("DISPLAY") || set("WAYLAND_DISPLAY"))
}

fn open(page: &str) -> bool {
    let program = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = || Stdio::null();
    Command::new(program).arg(page).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().is_ok()
}

async fn with_key(context: &Context) -> Result<()> {
    let key = key_of(Some(secret::ask("API key")?.expose().to_owned()), None)?;
    let key = key.ok_or_else(|| Error::Usage("no API key came on standard input".into()))?;
    let client =
        Client::new(&context.settings, context.verbose)?.with_credential(Some(Credential::ApiKey(key.clone())));
    // The list is for whoever has a good key; a key is in one organization, and sees it once it has a role there.
    let (orgs, _) = client.list(&Call::get(&["orgs"]), 1, |_| ()).await?;
    let org = context.settings.org.clone().or_else(|| orgs.first()?["slug"].as_str().map(str::to_owned));
    let account = match (client.key_id(), &org) {
        (Some(id), Some(org)) => whoami::of_key(&client, &id, org).await?,
        _ => Value::Null,
    };
    let user = whoami::name(&account).map(str::to_owned);
    store(&context.settings, |profile| {
        profile.api_key = Some(key);
        profile.session = None;
        profile.user = user.clone();
        profile.org = org.or(profile.org.take());
    })?;
    context.out.say(&format!("The key of {} is kept for {}.", user.as_deref().unwrap_or("you"), client.endpoint()))
}

/// Changes the profile, and binds it to the server that was talked to.
///
/// # Errors
/// [`Error::File`].
pub(crate) fn store(settings: &Settings, change: impl FnOnce(&mut crate::config::Profile)) -> Result<()> {
    let endpoint = settings.endpoint()?.as_str().trim_end_matches('/').to_owned();
    let ca_file = settings.ca_file.as_deref().map(std::path::absolute).transpose().map_err(Error::Stream)?;
    settings.file.update(|document| {
        let profile = document.profiles.entry(settings.profile.clone()).or_default();
        profile.endpoint = Some(endpoint);
        if let Some(path) = ca_file {
            profile.ca_file = Some(path.to_string_lossy().into_owned());
        }
        change(profile);
        document.current.get_or_insert_with(|| settings.profile.clone());
    })
}

/// Log out.
#[derive(Debug, Args)]
#[command(
    after_help = "A kept API key is forgotten here, but stays good: `rctl delete apikey` revokes it.\n\nExamples:\n  rctl logout"
)]
pub(crate) struct Logout {}

impl Logout {
    /// Does it. The credentials are forgotten even if the server does not answer.
    ///
    /// # Errors
    /// [`Error::File`], or the server's where the session may still live.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let document = context.settings.file.read()?;
        let stored = document.profiles.get(&context.settings.profile).cloned().unwrap_or_default();
        let ended = match stored.session {
            Some(session) if !context.settings.from_environment => {
                let client = Client::new(&context.settings, context.verbose)?;
                let client = client.with_credential(Some(Credential::Session(session.token)));
                client.send(&Call::post(&["logout"])).await.map(drop)
            }
            _ => Ok(()),
        };
        context.settings.file.update(|document| {
            if let Some(profile) = document.profiles.get_mut(&context.settings.profile) {
                profile.session = None;
                profile.api_key = None;
                profile.user = None;
            }
        })?;
        match ended {
            // It had ended before.
            Err(Error::Refused(problem)) if problem.status == 401 => {}
            ended => ended?,
        }
        context.out.say("Logged out.")
    }
}

//! Organizations: what they are called, how they are set up, whether they run.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Fields, Limit, login};
use crate::client::Call;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, col, wide};
use crate::secret::Secret;

/// Columns of organizations.
const COLUMNS: &[Column] = &[col("ORG", &["slug"]), col("NAME", &["name"]), col("CREATED", &["created_at"])];

/// Columns of organizations, as operators see them.
const PLATFORM: &[Column] = &[
    col("ORG", &["slug"]),
    col("NAME", &["name"]),
    col("STATUS", &["status"]),
    wide("USERS", &["usage.users"]),
    wide("REPOSITORIES", &["usage.repositories"]),
    wide("BYTES", &["usage.bytes"]),
    wide("CREATED", &["created_at"]),
    col("GOES", &["delete_after"]),
];

/// Lines of the platform's health.
const HEALTH: &[Column] = &[
    col("Problems", &["problems"]),
    col("Version", &["version"]),
    col("Time", &["now"]),
    col("Database", &["database"]),
    col("Answers in ms", &["database_ms"]),
    col("Organizations", &["organizations"]),
    col("Mails waiting", &["mails_waiting"]),
    col("Objects to remove", &["objects_to_remove"]),
];

/// Make an organization.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl create org acme --name 'Acme Ltd' --admin ann@acme.example")]
pub(crate) struct Create {
    /// Its slug: the first part of its images' names
    slug: String,
    /// Its name
    #[arg(long)]
    name: Option<String>,
    /// Its first Organization Admin, who is invited by e-mail
    #[arg(long, value_name = "EMAIL")]
    admin: Option<String>,
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let fields = Fields::default().with("slug", self.slug.as_str()).maybe("name", self.name.as_deref());
        let fields = fields.maybe("admin", self.admin.as_deref().map(|email| json!({"email": email})));
        context.show(&Call::create(&["orgs"], fields.into_value())?, COLUMNS, "made").await
    }
}

/// Show organizations.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl get orgs\n  rctl get org acme -o yaml\n  rctl get orgs --platform -o wide")]
pub(crate) struct Get {
    /// One of them
    slug: Option<String>,
    /// All of the platform, with state and usage (platform operators)
    #[arg(long, conflicts_with = "slug")]
    platform: bool,
    #[command(flatten)]
    limit: Limit,
}

impl Get {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match &self.slug {
            Some(slug) => context.show(&Call::get(&["orgs", slug]), COLUMNS, "").await,
            None if self.platform => {
                let call = Call::get(&["platform", "orgs"]);
                context.show_list(&call, self.limit.get(), PLATFORM, "organizations").await
            }
            None => context.show_list(&Call::get(&["orgs"]), self.limit.get(), COLUMNS, "organizations").await,
        }
    }
}

/// Change an organization.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl update org acme --name 'Acme International'")]
pub(crate) struct Update {
    /// Which
    slug: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let change = Fields::default().maybe("name", self.name.as_deref()).change()?;
        let changed = context.client()?.update(&["orgs", &self.slug], change).await?;
        context.out.item(&changed, COLUMNS)
    }
}

/// Delete an organization.
#[derive(Debug, Args)]
#[command(
    after_help = "Nobody gets in from now on; people, images and keys go when the grace period ends. Until then\n\
    `rctl org undelete` takes it back.\n\nExamples:\n  rctl delete org acme\n  rctl delete org acme --confirm acme --grace-days 7"
)]
pub(crate) struct Delete {
    /// Which
    slug: String,
    /// Its slug once more, in place of typing it when asked
    #[arg(long, value_name = "SLUG")]
    confirm: Option<String>,
    /// Days until everything of it goes
    #[arg(long, value_name = "DAYS")]
    grace_days: Option<u32>,
}

impl Delete {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let warning = format!("{} loses all of its people, images and keys.", self.slug);
        context.confirm_name(&warning, &self.slug, self.confirm.as_deref())?;
        let body = Fields::default().with("confirm", self.slug.as_str()).maybe("grace_days", self.grace_days);
        let call = Call::post(&["platform", "orgs", &self.slug, "delete"]).body(body.into_value());
        context
            .show(&call, PLATFORM, &format!("{} is being deleted; `rctl org undelete {0}` takes it back", self.slug))
            .await
    }
}

/// What else can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Let nobody in until it is resumed (platform operators)
    Suspend {
        /// Which
        slug: String,
    },
    /// End a suspension (platform operators)
    Resume {
        /// Which
        slug: String,
    },
    /// Take a deletion back, while its grace period lasts (platform operators)
    Undelete {
        /// Which
        slug: String,
    },
    /// Choose the organization that your session is in: it carries rights in one at a time
    #[command(visible_alias = "use", after_help = "Examples:\n  rctl org switch beta")]
    Switch {
        /// Which
        slug: String,
    },
    /// Show how the platform is (platform operators)
    Health,
    /// Settings: lockout, idle logout, MFA, validity of keys
    #[command(subcommand)]
    Settings(Settings),
}

/// Settings.
#[derive(Debug, Subcommand)]
pub(crate) enum Settings {
    /// Show them
    Get,
    /// Change them
    #[command(
        after_help = "Examples:\n  rctl org settings set mfa_required=true idle_logout_minutes=60\n  rctl org settings set key_valid_days=null"
    )]
    Set {
        /// NAME=VALUE, where VALUE is JSON or else text
        #[arg(required = true, value_name = "NAME=VALUE")]
        settings: Vec<String>,
    },
}

impl Action {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let (slug, verb, done) = match self {
            Self::Suspend { slug } => (slug, "suspend", "is suspended"),
            Self::Resume { slug } => (slug, "resume", "runs again"),
            Self::Undelete { slug } => (slug, "undelete", "stays"),
            Self::Switch { slug } => return switch(context, slug).await,
            Self::Health => return context.show(&Call::get(&["platform", "health"]), HEALTH, "").await,
            Self::Settings(settings) => return settings.run(context).await,
        };
        context.act(&Call::post(&["platform", "orgs", slug, verb]), &format!("{slug} {done}")).await
    }
}

/// Chooses the organization of the session. A session that changes what it may do gets another token.
async fn switch(context: &Context, slug: &str) -> Result<()> {
    if !context.client()?.has_session() {
        return Err(Error::Usage(
            "an API key is in one organization for good: `rctl login`, or a key of the other one".into(),
        ));
    }
    let reply = context.client()?.send(&Call::post(&["session", "org"]).body(json!({"org": slug}))).await?;
    let token = reply.body["access_token"].as_str().map(Secret::new);
    login::store(&context.settings, |profile| {
        profile.org = Some(slug.to_owned());
        if let (Some(session), Some(token)) = (&mut profile.session, token) {
            session.token = token;
        }
    })?;
    context.out.say(&format!("You are in {slug} now."))
}

impl Settings {
    async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let path = ["orgs", org.as_str(), "settings"];
        let settings = match self {
            Self::Get => context.client()?.send(&Call::get(&path)).await?.body,
            Self::Set { settings } => {
                let mut fields = Fields::default();
                for setting in settings {
                    let (name, value) = parse(setting)?;
                    fields = fields.with(name, value);
                }
                context.client()?.update(&path, fields.into_value()).await?
            }
        };
        if context.out.is_data() {
            return context.out.data(&settings);
        }
        let pairs =
            settings.as_object().into_iter().flatten().map(|(name, value)| json!({"name": name, "value": value}));
        context.out.list(
            &pairs.collect::<Vec<_>>(),
            &[col("SETTING", &["name"]), col("VALUE", &["value"])],
            "no settings",
        )
    }
}

fn parse(setting: &str) -> Result<(&str, Value)> {
    let (name, value) = setting
        .split_once('=')
        .filter(|(name, _)| !name.is_empty())
        .ok_or_else(|| Error::Usage(format!("{setting:?}: use NAME=VALUE; `rctl org settings get` lists the names")))?;
    Ok((name, serde_json::from_str(value).unwrap_or_else(|_| value.into())))
}

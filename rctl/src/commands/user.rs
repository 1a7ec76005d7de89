//! Users: people, who are invited by e-mail, and machines.

use clap::{Args, Subcommand};

use super::group::add_member;
use super::{Fields, Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col, wide};

/// Columns of users.
pub(crate) const COLUMNS: &[Column] = &[
    col("USER", &["name"]),
    col("KIND", &["kind"]),
    col("STATUS", &["status"]),
    col("MFA", &["mfa"]),
    col("LAST ACCESS", &["last_access_at"]),
    wide("FIRST NAME", &["first_name"]),
    wide("LAST NAME", &["last_name"]),
    wide("KEY DAYS", &["key_valid_days"]),
    wide("DOOR", &["last_access_door"]),
    wide("INVITED", &["invited_at"]),
    wide("CREATED", &["created_at"]),
];

/// Columns of effective rights.
const RIGHTS: &[Column] = &[
    col("ROLE", &["role"]),
    col("PROJECT", &["project"]),
    col("NAMESPACES", &["namespaces"]),
    col("GROUP", &["group"]),
    wide("REPOSITORIES", &["repositories"]),
    wide("TAGS", &["tags"]),
    wide("PERMISSIONS", &["permissions"]),
    wide("WHY", &["why"]),
];

/// Make a user.
#[derive(Debug, Args)]
#[command(
    after_help = "A person gets a mail with a temporary password, which is valid for 72 hours and must be changed at the\n\
    first login. No password is ever given here. A machine has no password: make it an API key.\n\n\
    Examples:\n  rctl create user bob@acme.example --first-name Bob --groups developers\n  rctl create user ci --machine\n  \
    rctl create apikey deploy --user ci"
)]
pub(crate) struct Create {
    /// An e-mail address, or a machine's name
    name: String,
    /// A machine: API keys only, no console
    #[arg(long)]
    machine: bool,
    #[command(flatten)]
    profile: Profile,
    /// Groups to be in from the start
    #[arg(long, value_delimiter = ',', value_name = "GROUP,…")]
    groups: Vec<String>,
}

/// What is known of a user.
#[derive(Debug, Args)]
struct Profile {
    /// First name
    #[arg(long)]
    first_name: Option<String>,
    /// Last name
    #[arg(long)]
    last_name: Option<String>,
}

impl Profile {
    fn fields(&self) -> Fields {
        Fields::default().maybe("first_name", self.first_name.as_deref()).maybe("last_name", self.last_name.as_deref())
    }
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's; the user is there even if a group is refused.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let kind = if self.machine { "machine" } else { "local" };
        let body = self.profile.fields().with("name", self.name.as_str()).with("kind", kind).into_value();
        let made = context.client()?.send(&Call::create(&["orgs", &org, "users"], body)?).await?.body;
        for group in &self.groups {
            add_member(context, &org, group, &self.name).await?;
        }
        context.out.item(&made, COLUMNS)
    }
}

/// Show users.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl get users --status invited\n  rctl get users --search bob --group developers -o wide\n  \
    rctl get user bob@acme.example\n  rctl get user bob@acme.example --rights"
)]
pub(crate) struct Get {
    /// One of them
    name: Option<String>,
    /// Their effective rights, and through what
    #[arg(long, requires = "name")]
    rights: bool,
    /// Whose name contains this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// Of this kind: local or machine
    #[arg(long)]
    kind: Option<String>,
    /// In this state: invited, active or inactive
    #[arg(long)]
    status: Option<String>,
    /// In this group
    #[arg(long)]
    group: Option<String>,
    /// With a role on this project
    #[arg(long)]
    project: Option<String>,
    /// With this role
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    limit: Limit,
}

impl Get {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        match &self.name {
            Some(name) if self.rights => {
                let call = Call::get(&["orgs", &org, "users", name, "rights"]);
                show_rights(context, &call).await
            }
            Some(name) => context.show(&Call::get(&["orgs", &org, "users", name]), COLUMNS, "").await,
            None => {
                let call = Call::get(&["orgs", &org, "users"])
                    .maybe("search", self.search.as_deref())
                    .maybe("kind", self.kind.as_deref())
                    .maybe("status", self.status.as_deref())
                    .maybe("group", self.group.as_deref())
                    .maybe("project", self.project.as_deref())
                    .maybe("role", self.role.as_deref());
                context.show_list(&call, self.limit.get(), COLUMNS, "users").await
            }
        }
    }
}

/// Shows effective rights.
///
/// # Errors
/// The server's.
pub(crate) async fn show_rights(context: &Context, call: &Call<'_>) -> Result<()> {
    context.show_list(call, None, RIGHTS, "rights").await
}

/// Change a user.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl update user bob@acme.example --last-name Builder\n  \
    rctl update user ci --key-valid-days 30\n  rctl update user ci --key-valid-days default")]
pub(crate) struct Update {
    /// Who
    name: String,
    #[command(flatten)]
    profile: Profile,
    /// Days that new API keys are valid at most, in place of the organization's setting; `default` ends that
    #[arg(long, value_name = "DAYS|default", value_parser = days)]
    key_valid_days: Option<Days>,
}

/// A number of days, or the default.
#[derive(Debug, Clone, Copy)]
struct Days(Option<u32>);

fn days(text: &str) -> std::result::Result<Days, String> {
    if text == "default" {
        return Ok(Days(None));
    }
    text.parse().map(|days| Days(Some(days))).map_err(|_| "use a number of days, or `default`".into())
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let change = self.profile.fields().maybe("key_valid_days", self.key_valid_days.map(|days| days.0)).change()?;
        let changed = context.client()?.update(&["orgs", &org, "users", &self.name], change).await?;
        context.out.item(&changed, COLUMNS)
    }
}

/// Delete a user.
#[derive(Debug, Args)]
#[command(
    after_help = "Other organizations of the user are not touched. `rctl user deactivate` can be taken back; this cannot.\n\n\
    Examples:\n  rctl delete user bob@acme.example\n  rctl delete user ci --yes"
)]
pub(crate) struct Delete {
    /// Who
    name: String,
    #[command(flatten)]
    yes: Yes,
}

impl Delete {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        context.confirm(&format!("Delete {} from {org}?", self.name), self.yes.yes)?;
        let call = Call::delete(&["orgs", &org, "users", &self.name]);
        context.act(&call, &format!("user {} deleted from {org}", self.name)).await
    }
}

/// What else can be done.
#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Give a user's access back
    Activate(Who),
    /// Take a user's access away on every channel, until it is given back
    Deactivate(Who),
    /// End a lockout
    Unlock(Who),
    /// Send an invitation again, with a new temporary password
    Resend(Who),
    /// Take a user's second factors away, so that they set up new ones
    MfaReset(Who),
}

/// Whom.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl user deactivate bob@acme.example\n  rctl user activate bob@acme.example")]
pub(crate) struct Who {
    /// The user
    name: String,
}

impl Action {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let (who, verb, done): (&Who, &[&str], _) = match self {
            Self::Activate(who) => (who, &["activate"], "is active"),
            Self::Deactivate(who) => (who, &["deactivate"], "is inactive"),
            Self::Unlock(who) => (who, &["unlock"], "may log in again"),
            Self::Resend(who) => (who, &["resend"], "is invited again"),
            Self::MfaReset(who) => (who, &["mfa", "reset"], "has no second factor any more"),
        };
        let org = context.org().await?;
        let path = [&["orgs", &org, "users", &who.name], verb].concat();
        context.act(&Call::post(&path), &format!("{} {done}", who.name)).await
    }
}

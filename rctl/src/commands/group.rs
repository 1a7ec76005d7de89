//! Groups.

use clap::Args;
use serde_json::json;

use super::{Fields, Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col, wide};

/// Columns of groups.
pub(crate) const COLUMNS: &[Column] = &[
    col("GROUP", &["name"]),
    col("BUILT IN", &["builtin"]),
    col("DESCRIPTION", &["description"]),
    wide("CREATED", &["created_at"]),
];

/// Make a group.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl create group developers --users ann@acme.example,bob@acme.example\n  \
    rctl assign role PROJECT_ADMIN --group developers --project web")]
pub(crate) struct Create {
    /// Its name
    name: String,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// Its first members
    #[arg(long, value_delimiter = ',', value_name = "USER,…")]
    users: Vec<String>,
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's; the group is there even if a member is refused.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let body = Fields::default().with("name", self.name.as_str()).maybe("description", self.description.as_deref());
        let made = context.client()?.send(&Call::create(&["orgs", &org, "groups"], body.into_value())?).await?;
        for user in &self.users {
            add_member(context, &org, &self.name, user).await?;
        }
        if self.users.is_empty() {
            return context.out.item(&made.body, COLUMNS);
        }
        context.show(&Call::get(&["orgs", &org, "groups", &self.name]), COLUMNS, "made").await
    }
}

/// Puts a user into a group; one who is in already stays.
///
/// # Errors
/// The server's.
pub(crate) async fn add_member(context: &Context, org: &str, group: &str, user: &str) -> Result<()> {
    let path = ["orgs", org, "groups", group, "members"];
    match context.client()?.send(&Call::create(&path, json!({"user": user}))?).await {
        Err(crate::error::Error::Refused(problem)) if problem.status == 409 => Ok(()),
        done => done.map(drop),
    }
}

/// Takes a user out of a group.
///
/// # Errors
/// The server's.
pub(crate) async fn remove_member(context: &Context, org: &str, group: &str, user: &str) -> Result<()> {
    context.client()?.send(&Call::delete(&["orgs", org, "groups", group, "members", user])).await.map(drop)
}

/// Show groups.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl get groups\n  rctl get group developers\n  rctl get groupassociation developers"
)]
pub(crate) struct Get {
    /// One of them
    name: Option<String>,
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
            Some(name) => context.show(&Call::get(&["orgs", &org, "groups", name]), COLUMNS, "").await,
            None => context.show_list(&Call::get(&["orgs", &org, "groups"]), self.limit.get(), COLUMNS, "groups").await,
        }
    }
}

/// Change a group.
#[derive(Debug, Args)]
#[command(after_help = "Members: `rctl create groupassociation`, `rctl delete groupassociation`.\n\n\
    Examples:\n  rctl update group developers --description 'They write it'\n  rctl update group developers --name builders")]
pub(crate) struct Update {
    /// Which
    group: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let fields = Fields::default().maybe("name", self.name.as_deref());
        let change = fields.maybe("description", self.description.as_deref()).change()?;
        let changed = context.client()?.update(&["orgs", &org, "groups", &self.group], change).await?;
        context.out.item(&changed, COLUMNS)
    }
}

/// Delete a group.
#[derive(Debug, Args)]
#[command(after_help = "Its members lose what they had through it.\n\nExamples:\n  rctl delete group developers")]
pub(crate) struct Delete {
    /// Which
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
        context.confirm(&format!("Delete the group {} of {org}?", self.name), self.yes.yes)?;
        context.act(&Call::delete(&["orgs", &org, "groups", &self.name]), &format!("group {} deleted", self.name)).await
    }
}

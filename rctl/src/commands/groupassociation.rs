//! Group associations: who is in a group, and which roles it carries, in one command.

use clap::Args;
use serde_json::json;

use super::Yes;
use super::binding::{self, Filter, Place, Subject};
use super::group::{add_member, remove_member};
use crate::client::Call;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, Progress, col};

/// Columns of members.
const MEMBERS: &[Column] = &[col("USER", &["name"]), col("KIND", &["kind"]), col("ACTIVE", &["active"])];

/// Put users into a group, and give it a role.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl create groupassociation developers --users ann@acme.example,bob@acme.example\n  \
    rctl create groupassociation developers --project web --role PROJECT_ADMIN"
)]
pub(crate) struct Create {
    /// The group
    group: String,
    /// Users to put into it
    #[arg(long, value_delimiter = ',', value_name = "USER,…", required_unless_present = "role")]
    users: Vec<String>,
    /// A role for it
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's; what was done before stays done.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        if self.role.is_none() && (self.place.project.is_some() || !self.place.namespaces.is_empty()) {
            return Err(Error::Usage("which role on the project? --role ROLE".into()));
        }
        let org = context.org().await?;
        let progress = Progress::steps("members", self.users.len());
        for (done, user) in self.users.iter().enumerate() {
            add_member(context, &org, &self.group, user).await?;
            progress.at(done + 1);
        }
        drop(progress);
        if let Some(role) = &self.role {
            binding::create(context, &org, &Subject::group(&self.group), role, &self.place).await?;
        }
        show(context, &org, &self.group).await
    }
}

/// Show the members of a group and its roles.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl get groupassociation developers\n  rctl get groupassociation developers -o yaml"
)]
pub(crate) struct Get {
    /// The group
    group: String,
}

impl Get {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        show(context, &org, &self.group).await
    }
}

async fn show(context: &Context, org: &str, group: &str) -> Result<()> {
    let members = context.fetch(&Call::get(&["orgs", org, "groups", group, "members"]), None, "members").await?;
    let bindings = Filter { group: Some(group.into()), ..Filter::default() }.find(context, org, None).await?;
    if context.out.is_data() {
        return context.out.data(&json!({"group": group, "members": members, "bindings": bindings}));
    }
    context.out.list(&members, MEMBERS, "no members")?;
    context.out.say("")?;
    context.out.list(&bindings, binding::COLUMNS, "no bindings")
}

/// Take users out of a group, or a role away from it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl delete groupassociation developers --users bob@acme.example\n  \
    rctl delete groupassociation developers --project web --role PROJECT_ADMIN")]
pub(crate) struct Delete {
    /// The group
    group: String,
    /// Users to take out of it
    #[arg(long, value_delimiter = ',', value_name = "USER,…", required_unless_present_any = ["role", "project"])]
    users: Vec<String>,
    /// The role to take away
    #[arg(long)]
    role: Option<String>,
    /// The project that the role is on; alone: every role on it
    #[arg(long, short)]
    project: Option<String>,
    #[command(flatten)]
    yes: Yes,
}

impl Delete {
    /// Does it.
    ///
    /// # Errors
    /// The server's; what was done before stays done.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        context.confirm(&format!("Take that away from the group {} of {org}?", self.group), self.yes.yes)?;
        for user in &self.users {
            remove_member(context, &org, &self.group, user).await?;
        }
        if self.role.is_some() || self.project.is_some() {
            let filter = Filter {
                group: Some(self.group.clone()),
                project: self.project.clone(),
                role: self.role.clone(),
                ..Filter::default()
            };
            let ids = binding::exact(&filter, &filter.find(context, &org, None).await?);
            if ids.is_empty() {
                return Err(crate::error::not_found("binding of the group"));
            }
            for id in &ids {
                context.client()?.send(&Call::delete(&["orgs", &org, "bindings", id])).await?;
            }
        }
        show(context, &org, &self.group).await
    }
}

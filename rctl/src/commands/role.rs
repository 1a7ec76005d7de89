//! Roles: the base ones, and custom ones made of them.

use clap::Args;

use super::{Fields, Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col, wide};

/// Columns of roles.
pub(crate) const COLUMNS: &[Column] = &[
    col("ROLE", &["name"]),
    col("BASE", &["base"]),
    col("SCOPE", &["scope"]),
    col("LABEL", &["label"]),
    wide("DESCRIPTION", &["description"]),
    wide("ADDED", &["added"]),
    wide("REMOVED", &["removed"]),
    wide("REPOSITORIES", &["repositories"]),
    wide("TAGS", &["tags"]),
    wide("PERMISSIONS", &["permissions"]),
];

/// What a custom role is made of.
#[derive(Debug, Args)]
struct Parts {
    /// Permissions that it has beyond its base role's
    #[arg(long, value_delimiter = ',', value_name = "PERMISSION,…")]
    add: Vec<String>,
    /// Permissions of its base role that it lacks
    #[arg(long, value_delimiter = ',', value_name = "PERMISSION,…")]
    remove: Vec<String>,
    /// Patterns: only these repositories, by their path below the project
    #[arg(long, value_delimiter = ',', value_name = "PATTERN,…")]
    repositories: Vec<String>,
    /// Patterns: only these tags may be written or deleted
    #[arg(long, value_delimiter = ',', value_name = "PATTERN,…")]
    tags: Vec<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

impl Parts {
    fn fields(&self) -> Fields {
        Fields::default()
            .list("added", &self.add)
            .list("removed", &self.remove)
            .list("repositories", &self.repositories)
            .list("tags", &self.tags)
            .maybe("description", self.description.as_deref())
    }
}

/// Make a custom role.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl create role release-manager --base PROJECT_READ_ONLY --add registry.push \\\n      \
    --repositories 'release/**' --tags 'v*'"
)]
pub(crate) struct Create {
    /// Its name: lower case
    name: String,
    /// The base role
    #[arg(long)]
    base: String,
    #[command(flatten)]
    parts: Parts,
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let body = self.parts.fields().with("name", self.name.as_str()).with("base", self.base.as_str()).into_value();
        context.show(&Call::create(&["orgs", &org, "roles"], body)?, COLUMNS, "made").await
    }
}

/// Show roles.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl get roles\n  rctl get role PROJECT_ADMIN -o yaml")]
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
            Some(name) => context.show(&Call::get(&["orgs", &org, "roles", name]), COLUMNS, "").await,
            None => context.show_list(&Call::get(&["orgs", &org, "roles"]), self.limit.get(), COLUMNS, "roles").await,
        }
    }
}

/// Change a custom role.
#[derive(Debug, Args)]
#[command(
    after_help = "A list that is given replaces the one before; those who have the role feel it within a second.\n\n\
    Examples:\n  rctl update role release-manager --tags 'v*,rc-*'\n  rctl update role release-manager --clear tags"
)]
pub(crate) struct Update {
    /// Which
    role: String,
    #[command(flatten)]
    parts: Parts,
    /// Lists to empty: added, removed, repositories, tags
    #[arg(long, value_delimiter = ',', value_name = "LIST,…", value_parser = ["added", "removed", "repositories", "tags"])]
    clear: Vec<String>,
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let empty: Vec<String> = Vec::new();
        let fields = self.clear.iter().fold(self.parts.fields(), |fields, list| fields.with(list, empty.clone()));
        let changed = context.client()?.update(&["orgs", &org, "roles", &self.role], fields.change()?).await?;
        context.out.item(&changed, COLUMNS)
    }
}

/// Delete a custom role.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl delete role release-manager")]
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
        context.confirm(&format!("Delete the role {} of {org}?", self.name), self.yes.yes)?;
        context.act(&Call::delete(&["orgs", &org, "roles", &self.name]), &format!("role {} deleted", self.name)).await
    }
}

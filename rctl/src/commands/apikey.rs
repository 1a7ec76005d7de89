//! API keys. The secret of one is shown once, when it is made.

use clap::Args;
use serde_json::Value;

use super::{Fields, Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col, note, wide};

/// Columns of API keys.
pub(crate) const COLUMNS: &[Column] = &[
    col("ID", &["id"]),
    col("NAME", &["name"]),
    col("USER", &["user"]),
    col("EXPIRES", &["expires_at"]),
    col("LAST USED", &["last_used_at"]),
    wide("FROM", &["last_used_from"]),
    wide("PROJECTS", &["projects"]),
    wide("PERMISSIONS", &["permissions"]),
    wide("MADE BY", &["created_by"]),
    wide("CREATED", &["created_at"]),
    wide("KEY", &["key"]),
];

/// Make an API key.
#[derive(Debug, Args)]
#[command(
    after_help = "The key is shown once. Who may see the output may use it: send it where it belongs at once.\n\n\
    Examples:\n  rctl create apikey laptop\n  rctl create apikey deploy --user ci --days 90 --projects web --permissions registry.pull,registry.push\n  \
    rctl create apikey deploy --user ci -o json | jq -r .key > key"
)]
pub(crate) struct Create {
    /// Its name
    name: String,
    /// Whose it is; yours where this is not given
    #[arg(long)]
    user: Option<String>,
    /// Days that it is valid
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    /// Only for these projects
    #[arg(long, value_delimiter = ',', value_name = "SLUG,…")]
    projects: Vec<String>,
    /// Only with these permissions
    #[arg(long, value_delimiter = ',', value_name = "PERMISSION,…")]
    permissions: Vec<String>,
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let body = Fields::default()
            .with("name", self.name.as_str())
            .maybe("user", self.user.as_deref())
            .maybe("valid_days", self.days)
            .list("projects", &self.projects)
            .list("permissions", &self.permissions);
        let made = context.client()?.send(&Call::create(&["orgs", &org, "apikeys"], body.into_value())?).await?;
        show_once(context, &made.body)
    }
}

fn show_once(context: &Context, made: &Value) -> Result<()> {
    context.out.item(made, COLUMNS)?;
    note("The key is not shown again.");
    Ok(())
}

/// Show API keys.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl get apikeys\n  rctl get apikeys --user ci -o wide")]
pub(crate) struct Get {
    /// One of them
    id: Option<String>,
    /// Of this user
    #[arg(long, conflicts_with = "id")]
    user: Option<String>,
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
        match &self.id {
            Some(id) => context.show(&Call::get(&["orgs", &org, "apikeys", id]), COLUMNS, "").await,
            None => {
                let path = ["orgs", org.as_str(), "apikeys"];
                let call = Call::get(&path).maybe("user", self.user.as_deref());
                context.show_list(&call, self.limit.get(), COLUMNS, "API keys").await
            }
        }
    }
}

/// Replace an API key.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys do not change. A new one with the same name and narrowing is made and shown, then the old one is\n\
    revoked.\n\nExamples:\n  rctl update apikey 3b… \n  rctl update apikey 3b… --days 30"
)]
pub(crate) struct Update {
    /// Which
    id: String,
    /// Days that the new one is valid
    #[arg(long, value_name = "DAYS")]
    days: Option<u32>,
    #[command(flatten)]
    yes: Yes,
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let client = context.client()?;
        let old = client.send(&Call::get(&["orgs", &org, "apikeys", &self.id])).await?.body;
        let name = old["name"].as_str().unwrap_or_default();
        context.confirm(&format!("Replace the API key {name}? The old one ends at once."), self.yes.yes)?;
        let kept = ["name", "user", "projects", "permissions"].into_iter().filter(|field| !old[*field].is_null());
        let fields = kept.fold(Fields::default(), |fields, field| fields.with(field, old[field].clone()));
        let body = fields.maybe("valid_days", self.days).into_value();
        let made = client.send(&Call::create(&["orgs", &org, "apikeys"], body)?).await?;
        // Shown before the old one goes: whatever happens then, one of the two is known.
        show_once(context, &made.body)?;
        client.send(&Call::delete(&["orgs", &org, "apikeys", &self.id])).await.map(drop)
    }
}

/// Revoke an API key.
#[derive(Debug, Args)]
#[command(
    after_help = "It is felt within a second, by tokens that were issued for it too.\n\nExamples:\n  rctl delete apikey 3b…"
)]
pub(crate) struct Delete {
    /// Which
    id: String,
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
        context.confirm(&format!("Revoke the API key {}?", self.id), self.yes.yes)?;
        context.act(&Call::delete(&["orgs", &org, "apikeys", &self.id]), &format!("API key {} revoked", self.id)).await
    }
}

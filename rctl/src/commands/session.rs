//! Sessions: one's own, or, for an admin, a user's.

use clap::{Args, Subcommand};

use super::{Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col, wide};

/// Columns of sessions.
const COLUMNS: &[Column] = &[
    col("ID", &["id"]),
    col("KIND", &["kind"]),
    col("CURRENT", &["current"]),
    col("LAST USED", &["last_seen_at"]),
    col("FROM", &["address"]),
    wide("SECOND FACTOR", &["second_factor"]),
    wide("AGENT", &["agent"]),
    wide("BEGAN", &["created_at"]),
    wide("ENDS", &["expires_at"]),
];

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub(crate) enum Sessions {
    /// List your sessions, or a user's
    #[command(after_help = "Examples:\n  rctl sessions list\n  rctl sessions list --user bob@acme.example")]
    List(List),
    /// End one of your sessions, all others, or all of a user's
    #[command(
        after_help = "Examples:\n  rctl sessions end 9d…\n  rctl sessions end --others\n  rctl sessions end --user bob@acme.example"
    )]
    End(End),
}

/// List sessions.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Whose, where they are not yours
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    limit: Limit,
}

/// End sessions.
#[derive(Debug, Args)]
pub(crate) struct End {
    /// One of yours
    #[arg(required_unless_present_any = ["others", "user"], conflicts_with_all = ["others", "user"])]
    id: Option<String>,
    /// All of yours but this one
    #[arg(long, conflicts_with = "user")]
    others: bool,
    /// All of this user's
    #[arg(long)]
    user: Option<String>,
    #[command(flatten)]
    yes: Yes,
}

impl Sessions {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match self {
            Self::List(List { user: Some(user), limit }) => {
                let org = context.org().await?;
                let call = Call::get(&["orgs", &org, "users", user, "sessions"]);
                context.show_list(&call, limit.get(), COLUMNS, "sessions").await
            }
            Self::List(List { user: None, limit }) => {
                context.show_list(&Call::get(&["account", "sessions"]), limit.get(), COLUMNS, "sessions").await
            }
            Self::End(End { user: Some(user), yes, .. }) => {
                let org = context.org().await?;
                context.confirm(&format!("End all sessions of {user}?"), yes.yes)?;
                let call = Call::delete(&["orgs", &org, "users", user, "sessions"]);
                context.act(&call, &format!("sessions of {user} ended")).await
            }
            Self::End(End { id: Some(id), .. }) => {
                context.act(&Call::delete(&["account", "sessions", id]), &format!("session {id} ended")).await
            }
            Self::End(_) => context.act(&Call::delete(&["account", "sessions"]), "all other sessions ended").await,
        }
    }
}

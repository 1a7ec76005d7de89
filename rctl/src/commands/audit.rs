//! The audit log of an organization.

use clap::{Args, Subcommand, ValueEnum};

use super::Limit;
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col, wide};

mod export;
mod verify;

/// Columns of events.
const COLUMNS: &[Column] = &[
    col("SEQ", &["seq"]),
    col("TIME", &["at"]),
    col("USER", &["user"]),
    col("ACTION", &["action"]),
    col("TARGET", &["target"]),
    col("OUTCOME", &["outcome"]),
    wide("PROJECT", &["project"]),
    wide("CLIENT", &["client"]),
    wide("ADDRESS", &["address"]),
    wide("REASON", &["reason"]),
    wide("AGENT", &["agent"]),
    wide("CREDENTIAL", &["credential"]),
    wide("REQUEST", &["request_id"]),
    wide("DETAIL", &["detail"]),
];

/// How many events a list shows where nobody says.
const DEFAULT_LIMIT: usize = 100;

/// What to do with it.
#[derive(Debug, Subcommand)]
pub(crate) enum Audit {
    /// List events, newest first
    #[command(
        visible_alias = "get",
        after_help = "Examples:\n  rctl audit list --user bob@acme.example --outcome denied\n  \
        rctl audit list --action image.push --project web --since 2026-01-01T00:00:00Z -o wide\n  rctl audit list 4711 -o yaml"
    )]
    List(List),
    /// Write events to a file
    #[command(after_help = "NDJSON can be verified; CSV is for spreadsheets.\n\n\
        Examples:\n  rctl audit export --file audit.ndjson\n  rctl audit export --format csv --since 2026-01-01T00:00:00Z > audit.csv")]
    Export(export::Export),
    /// Check that nothing in an export was edited, removed or put in another order
    Verify(verify::Verify),
}

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct Filter {
    /// From this time on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Of this user
    #[arg(long)]
    user: Option<String>,
    /// On this project
    #[arg(long)]
    project: Option<String>,
    /// Of this kind, such as image.push
    #[arg(long)]
    action: Option<String>,
    /// With this outcome: ok, denied or error
    #[arg(long)]
    outcome: Option<String>,
    /// From this kind of client: browser, cli, docker or api
    #[arg(long)]
    client: Option<String>,
    /// From this address
    #[arg(long)]
    address: Option<String>,
    /// Done to exactly this; give --action with it where events are many
    #[arg(long)]
    target: Option<String>,
}

impl Filter {
    /// Adds the conditions to a call.
    pub(crate) fn on<'a>(&'a self, call: Call<'a>) -> Call<'a> {
        call.maybe("since", self.since.as_deref())
            .maybe("until", self.until.as_deref())
            .maybe("user", self.user.as_deref())
            .maybe("project", self.project.as_deref())
            .maybe("action", self.action.as_deref())
            .maybe("outcome", self.outcome.as_deref())
            .maybe("client", self.client.as_deref())
            .maybe("address", self.address.as_deref())
            .maybe("target", self.target.as_deref())
    }
}

/// List events.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// One of them, with all that is known of it
    seq: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    limit: Limit,
}

/// The form of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A JSON object a line.
    Ndjson,
    /// Comma-separated values.
    Csv,
}

impl Audit {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match self {
            Self::List(List { seq: Some(seq), .. }) => {
                let (org, seq) = (context.org().await?, seq.to_string());
                context.show(&Call::get(&["orgs", &org, "audit", &seq]), COLUMNS, "").await
            }
            Self::List(list) => {
                let org = context.org().await?;
                let path = ["orgs", org.as_str(), "audit"];
                let call = list.filter.on(Call::get(&path));
                context.show_list(&call, list.limit.get().or(Some(DEFAULT_LIMIT)), COLUMNS, "events").await
            }
            Self::Export(export) => export.run(context).await,
            Self::Verify(verify) => verify.run(context).await,
        }
    }
}

//! Questions about rights: what may somebody do, and why.

use clap::{Args, Subcommand};
use serde_json::Value;

use crate::client::Call;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, col};

/// Lines of the answer.
const COLUMNS: &[Column] = &[col("Allowed", &["allowed"]), col("Because", &["because"]), col("Missing", &["missing"])];

/// What to ask.
#[derive(Debug, Subcommand)]
pub(crate) enum Auth {
    /// Tell whether somebody has a permission, and through which groups and roles
    #[command(after_help = "Examples:\n  rctl auth why registry.push --user bob@acme.example --project web\n  \
        rctl auth why registry.delete --repository acme/web/shop --tag v1\n  rctl auth why user.write")]
    Why(Question),
    /// Say yes (status 0) or no (status 4)
    #[command(name = "can-i", after_help = "Examples:\n  rctl auth can-i registry.push --project web && docker push …")]
    CanI(Question),
}

/// Who, what, where.
#[derive(Debug, Args)]
pub(crate) struct Question {
    /// The permission, such as registry.push
    permission: String,
    /// Who; you where this is not given
    #[arg(long)]
    user: Option<String>,
    /// On which project
    #[arg(long, short)]
    project: Option<String>,
    /// On which repository
    #[arg(long)]
    repository: Option<String>,
    /// On which tag of it
    #[arg(long, requires = "repository")]
    tag: Option<String>,
}

impl Question {
    async fn ask(&self, context: &Context) -> Result<Value> {
        let org = context.org().await?;
        let path = ["orgs", org.as_str(), "auth", "why"];
        let call = Call::get(&path)
            .query("permission", self.permission.as_str())
            .maybe("user", self.user.as_deref())
            .maybe("project", self.project.as_deref())
            .maybe("repository", self.repository.as_deref())
            .maybe("tag", self.tag.as_deref());
        Ok(context.client()?.send(&call).await?.body)
    }
}

impl Auth {
    /// Does it.
    ///
    /// # Errors
    /// The server's; [`Error::No`] where the answer to `can-i` is no.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let question = match self {
            Self::Why(question) | Self::CanI(question) => question,
        };
        let mut answer = question.ask(context).await?;
        let allowed = answer["allowed"].as_bool();
        if matches!(self, Self::CanI(_)) {
            let allowed = allowed.ok_or_else(|| Error::Other("the server does not say yes or no".into()))?;
            if context.out.is_data() {
                context.out.data(&answer)?;
            } else {
                context.out.say(if allowed { "yes" } else { "no" })?;
            }
            return if allowed { Ok(()) } else { Err(Error::No) };
        }
        if !context.out.is_data()
            && let Some(lines) = answer["because"].as_array()
        {
            let lines: Vec<&str> = lines.iter().filter_map(Value::as_str).collect();
            answer["because"] = lines.join("\n").into();
        }
        context.out.item(&answer, COLUMNS)
    }
}

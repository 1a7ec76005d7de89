//! `assign role`: bindings in the words of those who think of roles.

use clap::{Args, Subcommand};

use super::binding::{COLUMNS, Place, Subject, create};
use crate::context::Context;
use crate::error::Result;

/// What is given.
#[derive(Debug, Subcommand)]
pub(crate) enum Assign {
    /// Give a role to a user or a group
    #[command(visible_alias = "roles")]
    Role(Role),
}

/// Give a role.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl assign role PROJECT_ADMIN --user bob@acme.example --project web\n  \
    rctl assign role ADMIN --group admins\n  \
    rctl assign role NAMESPACE_ADMIN --group ops --project web --namespaces blue,green")]
pub(crate) struct Role {
    /// The role, base or custom
    role: String,
    #[command(flatten)]
    subject: Subject,
    #[command(flatten)]
    place: Place,
}

impl Assign {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let Self::Role(Role { role, subject, place }) = self;
        let org = context.org().await?;
        let made = create(context, &org, subject, role, place).await?;
        context.out.item(&made, COLUMNS)
    }
}

//! Versions.

use clap::Args;
use serde_json::json;

use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col};

/// Lines of the answer.
const COLUMNS: &[Column] = &[col("rctl", &["rctl"]), col("API", &["api"]), col("Server", &["endpoint"])];

/// Show versions.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl version\n  rctl version --client")]
pub(crate) struct Version {
    /// Do not ask the server
    #[arg(long)]
    client: bool,
}

impl Version {
    /// Does it; a server that does not answer is no failure.
    ///
    /// # Errors
    /// Those of standard output.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let mut versions = json!({"rctl": env!("CARGO_PKG_VERSION")});
        if !self.client && context.settings.endpoint.is_some() {
            let client = context.client()?;
            versions["endpoint"] = client.endpoint().into();
            versions["api"] = match client.send(&Call::get(&["openapi.json"]).anonymous()).await {
                Ok(reply) => reply.body["info"]["version"].clone(),
                Err(error) => format!("unknown: {error}").into(),
            };
        }
        context.out.item(&versions, COLUMNS)
    }
}

//! Who the credentials are.

use clap::Args;
use serde_json::{Value, json};

use super::user::show_rights;
use crate::client::{Call, Client};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, col};

/// Lines of the answer.
const COLUMNS: &[Column] = &[
    col("User", &["user.name"]),
    col("Organization", &["org"]),
    col("Organizations", &["organizations"]),
    col("API key", &["key.name"]),
    col("Projects", &["key.projects"]),
    col("Permissions", &["key.permissions"]),
    col("Ends", &["expires_at"]),
    col("Server", &["endpoint"]),
    col("Profile", &["profile"]),
    col("Credential", &["credential"]),
];

/// Show who you are.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl whoami\n  rctl whoami --rights")]
pub(crate) struct Whoami {
    /// Show what you may do, and through what
    #[arg(long)]
    rights: bool,
}

impl Whoami {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let client = context.client()?;
        if self.rights {
            let org = if client.has_session() { None } else { context.settings.org.clone() };
            let call = Call::get(&["account", "rights"]).maybe("org", org.as_deref());
            return show_rights(context, &call).await;
        }
        let mut account = account(context).await?;
        if let Value::Object(fields) = &mut account {
            // It is of no use to a reader, and worth something to whoever looks over a shoulder.
            fields.remove("csrf_token");
            fields.insert("endpoint".into(), client.endpoint().into());
            fields.insert("profile".into(), context.settings.profile.as_str().into());
            let credential = if client.has_session() { "session" } else { "API key" };
            fields.insert("credential".into(), credential.into());
        }
        context.out.item(&account, COLUMNS)
    }
}

/// Who the caller is: a session's user, or an API key's.
///
/// # Errors
/// The server's.
pub(crate) async fn account(context: &Context) -> Result<Value> {
    let client = context.client()?;
    match client.key_id() {
        Some(id) => of_key(client, &id, &context.org().await?).await,
        None => Ok(client.send(&Call::get(&["session"])).await?.body),
    }
}

/// Who a key is of. One that may not even see itself is still told whose rights it has.
///
/// # Errors
/// The server's.
pub(crate) async fn of_key(client: &Client, id: &str, org: &str) -> Result<Value> {
    match client.send(&Call::get(&["orgs", org, "apikeys", id])).await {
        Ok(reply) => {
            let key = reply.body;
            Ok(json!({"user": {"name": key["user"]}, "org": org, "expires_at": key["expires_at"], "key": key}))
        }
        Err(Error::Refused(problem)) if matches!(problem.status, 403 | 404) => {
            let path = ["orgs", org, "auth", "why"];
            let answer = client.send(&Call::get(&path).query("permission", "org.read")).await?.body;
            Ok(json!({"user": {"name": answer["user"]}, "org": org}))
        }
        Err(error) => Err(error),
    }
}

/// The name in an account.
pub(crate) fn name(account: &Value) -> Option<&str> {
    account["user"]["name"].as_str()
}

//! Who the credentials are.

use clap::Args;
use serde_json::Value;

use super::user::show_rights;
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col};

/// Lines of the answer.
const COLUMNS: &[Column] = &[
    col("User", &["user.name", "name", "user"]),
    col("Kind", &["kind", "user.kind"]),
    col("First name", &["first_name"]),
    col("Last name", &["last_name"]),
    col("Organization", &["org", "organization", "org.slug"]),
    col("Organizations", &["organizations"]),
    col("Session ends", &["expires_at"]),
    col("Last access", &["last_access_at", "last_access"]),
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
            if let Some(orgs) = fields.get_mut("organizations").and_then(Value::as_array_mut) {
                for org in orgs {
                    if let Some(slug) = org.get("slug").cloned().filter(|_| !context.out.is_data()) {
                        *org = slug;
                    }
                }
            }
        }
        context.out.item(&account, COLUMNS)
    }
}

/// The caller's account: of the session, or of the key's user.
///
/// # Errors
/// The server's.
pub(crate) async fn account(context: &Context) -> Result<Value> {
    let client = context.client()?;
    let path: &[&str] = if client.has_session() { &["session"] } else { &["account"] };
    Ok(client.send(&Call::get(path)).await?.body)
}

/// The name in an account.
pub(crate) fn name(account: &Value) -> Option<&str> {
    account["user"]["name"].as_str().or_else(|| account["name"].as_str()).or_else(|| account["user"].as_str())
}

//! Trusted OIDC issuers: CI systems log in as a machine user with tokens of their own, without a static secret.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value};

use super::{Fields, Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, col, wide};

/// Columns of issuers.
const COLUMNS: &[Column] = &[
    col("ID", &["id"]),
    col("NAME", &["name"]),
    col("USER", &["user"]),
    col("ISSUER", &["issuer"]),
    wide("AUDIENCE", &["audience"]),
    wide("RULES", &["rules"]),
    wide("LAST USED", &["last_used_at"]),
    wide("CREATED", &["created_at"]),
];

/// Largest file of keys.
const MAX_KEYS: u64 = 64 << 10;

/// Which tokens are good.
#[derive(Debug, Args)]
struct Rules {
    /// What `aud` must be
    #[arg(long)]
    audience: Option<String>,
    /// What a claim must be, exactly; more than one value: any of them. Every rule must hold
    #[arg(long = "rule", value_name = "CLAIM=VALUE[,VALUE…]")]
    rules: Vec<String>,
    /// The issuer's keys (JWKS), where the server cannot fetch them
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
}

impl Rules {
    fn fields(&self) -> Result<Fields> {
        let mut rules = Map::new();
        for rule in &self.rules {
            let (claim, values) = rule
                .split_once('=')
                .filter(|(claim, values)| !claim.is_empty() && !values.is_empty())
                .ok_or_else(|| Error::Usage(format!("the rule {rule:?}: use CLAIM=VALUE")))?;
            let values: Vec<Value> = values.split(',').map(Value::from).collect();
            if rules.insert(claim.into(), values.into()).is_some() {
                return Err(Error::Usage(format!("two rules for {claim}: list the values of one")));
            }
        }
        let rules = Some(rules).filter(|rules| !rules.is_empty());
        let keys = self.jwks.as_deref().map(read_keys).transpose()?;
        Ok(Fields::default().maybe("audience", self.audience.as_deref()).maybe("rules", rules).maybe("keys", keys))
    }
}

fn read_keys(path: &Path) -> Result<Value> {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::file(path))?;
    file.take(MAX_KEYS).read_to_end(&mut text).map_err(Error::file(path))?;
    serde_json::from_slice(&text).map_err(|error| Error::file(path)(error.into()))
}

/// Trust an issuer.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl create issuer github --user ci --issuer https://token.actions.githubusercontent.com \\\n      \
    --audience registry.example.com --rule repository=acme/web --rule ref=refs/heads/main"
)]
pub(crate) struct Create {
    /// A name for it
    name: String,
    /// The machine user that its tokens log in as
    #[arg(long)]
    user: String,
    /// Its URL, as `iss` says it
    #[arg(long, value_name = "URL")]
    issuer: String,
    #[command(flatten)]
    rules: Rules,
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        if self.rules.audience.is_none() || self.rules.rules.is_empty() {
            let why = "which tokens? --audience AUDIENCE and --rule CLAIM=VALUE, so that not every token of the issuer is good";
            return Err(Error::Usage(why.into()));
        }
        let fields = self.rules.fields()?.with("name", self.name.as_str()).with("user", self.user.as_str());
        let body = fields.with("issuer", self.issuer.as_str()).into_value();
        context.show(&Call::create(&["orgs", &org, "issuers"], body)?, COLUMNS, "made").await
    }
}

/// Show trusted issuers.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl get issuers -o wide")]
pub(crate) struct Get {
    /// One of them
    id: Option<String>,
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
            Some(id) => context.show(&Call::get(&["orgs", &org, "issuers", id]), COLUMNS, "").await,
            None => {
                context.show_list(&Call::get(&["orgs", &org, "issuers"]), self.limit.get(), COLUMNS, "issuers").await
            }
        }
    }
}

/// Change which tokens of an issuer are good.
#[derive(Debug, Args)]
#[command(
    after_help = "Rules that are given replace all that were before.\n\nExamples:\n  rctl update issuer 7c… --rule repository=acme/web,acme/docs"
)]
pub(crate) struct Update {
    /// Which
    id: String,
    /// Its new name
    #[arg(long)]
    name: Option<String>,
    /// Its new URL
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    #[command(flatten)]
    rules: Rules,
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let fields = self.rules.fields()?.maybe("name", self.name.as_deref());
        let change = fields.maybe("issuer", self.issuer.as_deref()).change()?;
        let changed = context.client()?.update(&["orgs", &org, "issuers", &self.id], change).await?;
        context.out.item(&changed, COLUMNS)
    }
}

/// Trust an issuer no more.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl delete issuer 7c…")]
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
        context.confirm(&format!("Trust the issuer {} no more?", self.id), self.yes.yes)?;
        context.act(&Call::delete(&["orgs", &org, "issuers", &self.id]), &format!("issuer {} deleted", self.id)).await
    }
}

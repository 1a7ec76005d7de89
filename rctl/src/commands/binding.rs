//! Bindings: a role for a user or a group, on the organization, a project, or namespaces of one.

use clap::Args;
use serde_json::Value;

use super::{Fields, Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, col, wide};

/// Columns of bindings.
pub(crate) const COLUMNS: &[Column] = &[
    col("ID", &["id"]),
    col("USER", &["user"]),
    col("GROUP", &["group"]),
    col("ROLE", &["role"]),
    col("PROJECT", &["project"]),
    col("NAMESPACES", &["namespaces"]),
    wide("BUILT IN", &["builtin"]),
    wide("CREATED", &["created_at"]),
];

/// Base roles that are bound to the whole organization.
const ORG_ROLES: [&str; 3] = ["ADMIN", "ADMINISTRATOR_READ_ONLY", "AUDITOR"];

/// Who gets a role.
#[derive(Debug, Clone, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Subject {
    /// The user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// The group
    #[arg(long, value_name = "NAME")]
    group: Option<String>,
}

/// On what.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Place {
    /// The project; the environment's or the profile's where the role needs one and this is not given
    #[arg(long, short, value_name = "SLUG")]
    pub(crate) project: Option<String>,
    /// Namespaces of the project, for NAMESPACE_* roles
    #[arg(long, value_delimiter = ',', value_name = "NAMESPACE,…")]
    pub(crate) namespaces: Vec<String>,
}

impl Subject {
    /// A group.
    pub(crate) fn group(name: &str) -> Self {
        Self { user: None, group: Some(name.into()) }
    }
}

/// Makes the binding and returns it; one that is there already is returned as it is.
///
/// # Errors
/// The server's.
pub(crate) async fn create(
    context: &Context,
    org: &str,
    subject: &Subject,
    role: &str,
    place: &Place,
) -> Result<Value> {
    let project = project_for(context, org, role, place).await?;
    let body = Fields::default()
        .maybe("user", subject.user.as_deref())
        .maybe("group", subject.group.as_deref())
        .with("role", role)
        .maybe("project", project.as_deref())
        .list("namespaces", &place.namespaces);
    Ok(context.client()?.send(&Call::create(&["orgs", org, "bindings"], body.into_value())?).await?.body)
}

/// The project that a role is bound to: none for roles of the organization.
async fn project_for(context: &Context, org: &str, role: &str, place: &Place) -> Result<Option<String>> {
    if place.project.is_some() {
        return Ok(place.project.clone());
    }
    let for_org = if ORG_ROLES.contains(&role) {
        true
    } else {
        let found = context.client()?.send(&Call::get(&["orgs", org, "roles", role])).await?.body;
        found["scope"] == "org"
    };
    if for_org { Ok(None) } else { context.project(None).map(Some) }
}

/// Make a binding.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl create binding --user bob@acme.example --role PROJECT_ADMIN --project web\n  \
    rctl create binding --group auditors --role AUDITOR\n  \
    rctl create binding --group ops --role NAMESPACE_ADMIN --project web --namespaces blue,green"
)]
pub(crate) struct Create {
    #[command(flatten)]
    subject: Subject,
    /// The role
    #[arg(long)]
    role: String,
    #[command(flatten)]
    place: Place,
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let made = create(context, &org, &self.subject, &self.role, &self.place).await?;
        context.out.item(&made, COLUMNS)
    }
}

/// Which bindings.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    /// Of this user
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Of this group
    #[arg(long)]
    pub(crate) group: Option<String>,
    /// On this project
    #[arg(long)]
    pub(crate) project: Option<String>,
    /// Of this role
    #[arg(long)]
    pub(crate) role: Option<String>,
}

impl Filter {
    /// The bindings that fit.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn find(&self, context: &Context, org: &str, limit: Option<usize>) -> Result<Vec<Value>> {
        let path = ["orgs", org, "bindings"];
        let call = Call::get(&path)
            .maybe("user", self.user.as_deref())
            .maybe("group", self.group.as_deref())
            .maybe("project", self.project.as_deref())
            .maybe("role", self.role.as_deref());
        context.fetch(&call, limit, "bindings").await
    }
}

/// Show bindings.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl get bindings --project web\n  rctl get bindings --user bob@acme.example -o json"
)]
pub(crate) struct Get {
    /// One of them
    #[arg(conflicts_with_all = ["user", "group", "project", "role"])]
    id: Option<String>,
    #[command(flatten)]
    filter: Filter,
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
            Some(id) => context.out.item(&find(context, &org, id).await?, COLUMNS),
            None => context.out.list(&self.filter.find(context, &org, self.limit.get()).await?, COLUMNS, "no bindings"),
        }
    }
}

/// The binding of an id.
async fn find(context: &Context, org: &str, id: &str) -> Result<Value> {
    let all = Filter::default().find(context, org, None).await?;
    let found = all.into_iter().find(|binding| binding["id"] == id);
    found.ok_or_else(|| crate::error::not_found("binding"))
}

/// Change a binding.
#[derive(Debug, Args)]
#[command(after_help = "The binding gets a new id: the new one is made first, then the old one goes.\n\n\
    Examples:\n  rctl update binding 5f… --role PROJECT_READ_ONLY\n  rctl update binding 5f… --namespaces blue")]
pub(crate) struct Update {
    /// Which
    id: String,
    /// Its new role
    #[arg(long)]
    role: Option<String>,
    #[command(flatten)]
    place: Place,
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        if self.role.is_none() && self.place.project.is_none() && self.place.namespaces.is_empty() {
            return Fields::default().change().map(drop);
        }
        let org = context.org().await?;
        let old = find(context, &org, &self.id).await?;
        let text = |name: &str| old[name].as_str().map(str::to_owned);
        let subject = Subject { user: text("user"), group: text("group") };
        let role = self.role.clone().or_else(|| text("role")).unwrap_or_default();
        let namespaces = match &self.place.namespaces[..] {
            [] => old["namespaces"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            given => given.to_vec(),
        };
        let namespaces = if role.starts_with("NAMESPACE_") || self.role.is_none() { namespaces } else { Vec::new() };
        let place = Place { project: self.place.project.clone().or_else(|| text("project")), namespaces };
        let made = create(context, &org, &subject, &role, &place).await?;
        context.client()?.send(&Call::delete(&["orgs", &org, "bindings", &self.id])).await?;
        context.out.item(&made, COLUMNS)
    }
}

/// Delete a binding.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  rctl delete binding 5f…\n  rctl delete binding --user bob@acme.example --role PROJECT_ADMIN --project web"
)]
pub(crate) struct Delete {
    /// Which, by its id
    #[arg(conflicts_with_all = ["user", "group", "project", "role"], required_unless_present = "role")]
    id: Option<String>,
    #[command(flatten)]
    filter: Filter,
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
        let ids = match &self.id {
            Some(id) => vec![id.clone()],
            None if self.filter.user.is_none() && self.filter.group.is_none() => {
                return Err(Error::Usage("whose? --user NAME or --group NAME".into()));
            }
            None => exact(&self.filter, &self.filter.find(context, &org, None).await?),
        };
        if ids.is_empty() {
            return Err(crate::error::not_found("binding"));
        }
        context.confirm(&format!("Delete {} of {org}?", count(ids.len())), self.yes.yes)?;
        for id in &ids {
            context.client()?.send(&Call::delete(&["orgs", &org, "bindings", id])).await?;
        }
        context.out.say(&format!("{} deleted", count(ids.len())))
    }
}

fn count(bindings: usize) -> String {
    if bindings == 1 { "1 binding".into() } else { format!("{bindings} bindings") }
}

/// The ids of those bindings that are just what a filter says: without a project, only those of the whole organization.
pub(crate) fn exact(filter: &Filter, bindings: &[Value]) -> Vec<String> {
    let same = |binding: &Value, name: &str, wanted: Option<&str>| binding[name].as_str() == wanted;
    let fit = bindings.iter().filter(|binding| {
        same(binding, "project", filter.project.as_deref())
            && same(binding, "user", filter.user.as_deref())
            && same(binding, "group", filter.group.as_deref())
            && filter.role.as_deref().is_none_or(|role| binding["role"] == role)
    });
    fit.filter_map(|binding| binding["id"].as_str()).map(str::to_owned).collect()
}

//! Projects.

use clap::Args;
use serde_json::json;

use super::{Fields, Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::Result;
use crate::output::{Column, col, wide};

/// Columns of projects.
pub(crate) const COLUMNS: &[Column] = &[
    col("PROJECT", &["slug"]),
    col("PUBLIC", &["public"]),
    wide("DESCRIPTION", &["description"]),
    wide("SPARSE", &["sparse"]),
    wide("CREATED", &["created_at"]),
];

/// Make a project.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl create project web\n  rctl create project docs --public")]
pub(crate) struct Create {
    /// Its slug: the second part of its images' names
    slug: String,
    #[command(flatten)]
    traits: Traits,
}

/// What a project may be.
#[derive(Debug, Args)]
struct Traits {
    /// Whether anybody may pull without logging in
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    public: Option<bool>,
    /// Whether image indexes may name manifests that are not there
    #[arg(long, value_name = "true|false", num_args = 0..=1, default_missing_value = "true")]
    sparse: Option<bool>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
}

impl Traits {
    fn fields(&self) -> Fields {
        let fields = Fields::default().maybe("public", self.public).maybe("sparse", self.sparse);
        fields.maybe("description", self.description.as_deref())
    }
}

impl Create {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let body = self.traits.fields().with("slug", self.slug.as_str()).into_value();
        context.show(&Call::create(&["orgs", &org, "projects"], body)?, COLUMNS, "made").await
    }
}

/// Show projects.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl get projects\n  rctl get project web -o json")]
pub(crate) struct Get {
    /// One of them
    slug: Option<String>,
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
        match &self.slug {
            Some(slug) => context.show(&Call::get(&["orgs", &org, "projects", slug]), COLUMNS, "").await,
            None => {
                let call = Call::get(&["orgs", &org, "projects"]);
                context.show_list(&call, self.limit.get(), COLUMNS, "projects").await
            }
        }
    }
}

/// Change a project.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl update project docs --public=false")]
pub(crate) struct Update {
    /// Which
    slug: String,
    #[command(flatten)]
    traits: Traits,
}

impl Update {
    /// Does it.
    ///
    /// # Errors
    /// The server's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        let org = context.org().await?;
        let change = self.traits.fields().change()?;
        let changed = context.client()?.update(&["orgs", &org, "projects", &self.slug], change).await?;
        context.out.item(&changed, COLUMNS)
    }
}

/// Delete a project.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  rctl delete project old\n  rctl delete project old --with-images --confirm old")]
pub(crate) struct Delete {
    /// Which
    slug: String,
    /// Even if there are images in it, which go with it
    #[arg(long)]
    with_images: bool,
    /// Its slug once more, in place of typing it when asked
    #[arg(long, value_name = "SLUG", requires = "with_images")]
    confirm: Option<String>,
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
        let path = ["orgs", org.as_str(), "projects", self.slug.as_str()];
        let mut call = Call::delete(&path);
        if self.with_images {
            let warning = format!("{org}/{} loses all of its images.", self.slug);
            context.confirm_name(&warning, &self.slug, self.confirm.as_deref())?;
            call = call.body(json!({"confirm": self.slug}));
        } else {
            context.confirm(&format!("Delete the project {org}/{}?", self.slug), self.yes.yes)?;
        }
        context.act(&call, &format!("project {} deleted", self.slug)).await
    }
}

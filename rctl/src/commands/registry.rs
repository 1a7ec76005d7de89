//! The registry: logging container tools in, trusting its certificate, looking at what is in it.

mod login;
mod trust;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{Limit, Yes};
use crate::client::Call;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::output::{Column, col, wide};

/// Columns of repositories.
const REPOSITORIES: &[Column] = &[
    col("REPOSITORY", &["name"]),
    col("PROJECT", &["project"]),
    col("PUSHED", &["pushed_at"]),
    wide("CREATED", &["created_at"]),
];
/// Columns of tags.
const TAGS: &[Column] = &[col("TAG", &["name"]), col("DIGEST", &["digest"]), col("UPDATED", &["updated_at"])];
/// Lines of a manifest.
const MANIFEST: &[Column] = &[
    col("Repository", &["repository"]),
    col("Digest", &["digest"]),
    col("Media type", &["media_type"]),
    col("Artifact type", &["artifact_type"]),
    col("Size", &["size"]),
    col("Pushed", &["created_at", "pushed_at"]),
    col("Tags", &["tags"]),
    col("Manifest", &["manifest", "content"]),
];

/// What to do with the registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Registry {
    /// Log docker, podman and others in with an API key
    Login(login::Login),
    /// Have docker and podman trust the registry's private CA
    Trust(trust::Trust),
    /// List repositories
    #[command(after_help = "Examples:\n  rctl registry repos\n  rctl registry repos --project web")]
    Repos(Repos),
    /// List the tags of a repository
    #[command(after_help = "Examples:\n  rctl registry tags acme/web/shop")]
    Tags(Tags),
    /// Show a manifest
    #[command(
        after_help = "Examples:\n  rctl registry manifest acme/web/shop:v1\n  rctl registry manifest acme/web/shop@sha256:… -o json"
    )]
    Manifest {
        /// REPOSITORY:TAG or REPOSITORY@DIGEST
        reference: String,
    },
    /// Delete a tag, or a whole repository
    #[command(
        after_help = "Examples:\n  rctl registry delete acme/web/shop:v1\n  rctl registry delete acme/web/shop --repository --confirm acme/web/shop"
    )]
    Delete(Delete),
}

/// List repositories.
#[derive(Debug, Args)]
pub(crate) struct Repos {
    /// Of this project
    #[arg(long, short)]
    project: Option<String>,
    #[command(flatten)]
    limit: Limit,
}

/// List tags.
#[derive(Debug, Args)]
pub(crate) struct Tags {
    /// The repository
    repository: String,
    #[command(flatten)]
    limit: Limit,
}

/// Delete a tag or a repository.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// REPOSITORY:TAG, or with --repository a REPOSITORY
    what: String,
    /// The whole repository, with all of its images
    #[arg(long)]
    repository: bool,
    /// The repository once more, in place of typing it when asked
    #[arg(long, value_name = "REPOSITORY", requires = "repository")]
    confirm: Option<String>,
    #[command(flatten)]
    yes: Yes,
}

impl Registry {
    /// Does it.
    ///
    /// # Errors
    /// The server's, or another program's.
    pub(crate) async fn run(&self, context: &Context) -> Result<()> {
        match self {
            Self::Login(login) => login.run(context).await,
            Self::Trust(trust) => trust.run(context),
            Self::Repos(Repos { project, limit }) => {
                let org = context.org().await?;
                let path = ["orgs", org.as_str(), "repositories"];
                let call = Call::get(&path).maybe("project", project.as_deref());
                context.show_list(&call, limit.get(), REPOSITORIES, "repositories").await
            }
            Self::Tags(Tags { repository, limit }) => {
                let org = org_of(context, repository).await?;
                let path = ["orgs", org.as_str(), "tags"];
                let call = Call::get(&path).query("repository", repository.as_str());
                context.show_list(&call, limit.get(), TAGS, "tags").await
            }
            Self::Manifest { reference } => manifest(context, reference).await,
            Self::Delete(delete) => delete.run(context).await,
        }
    }
}

async fn manifest(context: &Context, reference: &str) -> Result<()> {
    let (repository, reference) = split(reference)?;
    let org = org_of(context, repository).await?;
    let path = ["orgs", org.as_str(), "manifest"];
    let call = Call::get(&path).query("repository", repository).query("reference", reference);
    let mut found = context.client()?.send(&call).await?.body;
    for field in ["manifest", "content"] {
        if !context.out.is_data() && matches!(found[field], Value::Object(_)) {
            found[field] = serde_json::to_string_pretty(&found[field]).unwrap_or_default().into();
        }
    }
    context.out.item(&found, MANIFEST)
}

impl Delete {
    async fn run(&self, context: &Context) -> Result<()> {
        if self.repository {
            let org = org_of(context, &self.what).await?;
            let warning = format!("{} loses all of its images.", self.what);
            context.confirm_name(&warning, &self.what, self.confirm.as_deref())?;
            let path = ["orgs", org.as_str(), "repositories"];
            let call = Call::delete(&path).query("repository", self.what.as_str()).body(json!({"confirm": self.what}));
            return context.act(&call, &format!("repository {} deleted", self.what)).await;
        }
        let (repository, tag) = split(&self.what)?;
        if tag.contains(':') {
            return Err(Error::Usage(
                "only tags are deleted: a manifest goes through the registry, by those who may".into(),
            ));
        }
        let org = org_of(context, repository).await?;
        context.confirm(&format!("Delete the tag {}?", self.what), self.yes.yes)?;
        let path = ["orgs", org.as_str(), "tags"];
        let call = Call::delete(&path).query("repository", repository).query("tag", tag);
        context.act(&call, &format!("tag {} deleted", self.what)).await
    }
}

/// The organization of a repository: the first part of its name.
async fn org_of(context: &Context, repository: &str) -> Result<String> {
    match repository.split_once('/') {
        Some((org, rest)) if !org.is_empty() && !rest.is_empty() => Ok(org.to_owned()),
        _ => {
            let org = context.org().await?;
            Err(Error::Usage(format!("{repository:?} is no repository: use {org}/PROJECT/NAME")))
        }
    }
}

/// `REPOSITORY:TAG` or `REPOSITORY@DIGEST` in its two parts.
fn split(reference: &str) -> Result<(&str, &str)> {
    let by_digest = reference.split_once('@');
    let parts = by_digest.or_else(|| reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')));
    let parts = parts.filter(|(repository, reference)| !repository.is_empty() && !reference.is_empty());
    parts.ok_or_else(|| Error::Usage(format!("{reference:?}: use REPOSITORY:TAG or REPOSITORY@DIGEST")))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::split;

    #[test]
    fn references_have_two_parts() {
        assert_eq!(split("acme/web/shop:v1").unwrap(), ("acme/web/shop", "v1"));
        assert_eq!(split("acme/web/shop@sha256:ab").unwrap(), ("acme/web/shop", "sha256:ab"));
        for bad in ["acme/web/shop", "acme:80/web", ":v1", "x:", "@sha256:ab", ""] {
            assert!(split(bad).is_err(), "{bad}");
        }
    }
}

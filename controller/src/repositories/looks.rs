//! What the manifests of a list are, in a few words each: by a bounded number of queries and of bytes.

use std::collections::HashMap;

use storage::manifests;
use storage::names::Digest;
use storage::repositories::Repository;

use crate::State;
use crate::error::Result;
use crate::manifests::config::{self, SMALL};
use crate::manifests::describe::{DescriptionView, with_config};
use crate::manifests::document::{self, Descriptor, Document};
use crate::manifests::kind::{self, Kind};

/// Descriptions by digest; several tags may point at one.
pub(crate) struct Looks(HashMap<String, DescriptionView>);

impl Looks {
    /// Reads the listed manifests, digest and length of each, as far as a list may.
    ///
    /// # Errors
    /// Those of the database.
    pub(crate) async fn of<'a>(
        state: &State,
        repository: &Repository,
        listed: impl Iterator<Item = (&'a str, i64)>,
    ) -> Result<Self> {
        let payloads = manifests::payloads(&mut state.db().read().await?, &repository.id, listed).await?;
        let documents: HashMap<String, Document> =
            payloads.into_iter().map(|(digest, payload)| (digest, Document::read(&payload))).collect();
        // The configs of images say what they run on; those of others do not.
        let images = documents.values().filter(|document| matches!(kind::of(document), (Kind::Image, _)));
        let wanted: Vec<Digest> = images.filter_map(|image| image.config()?.digest()?.parse().ok()).collect();
        let configs = config::load(state, repository, &wanted, SMALL).await?;
        let described = documents.into_iter().map(|(digest, document)| {
            let bytes = document.config().and_then(Descriptor::digest).and_then(|digest| configs.get(digest));
            let config = bytes.and_then(|bytes| document::object(bytes));
            let view = with_config(&document, config.as_ref(), &HashMap::new());
            (digest, view)
        });
        Ok(Self(described.collect()))
    }

    /// The description of one, with the bytes that storage counts of it; a guess by its type where it was not read.
    pub(crate) fn take(&mut self, digest: &str, artifact_type: Option<&str>, content_size: i64) -> DescriptionView {
        let guess = || {
            let (kind, label) = kind::of_type(artifact_type);
            let artifact_type = artifact_type.map(ToOwned::to_owned);
            DescriptionView { kind, label, artifact_type, platforms: Vec::new(), total_size: 0, made_at: None }
        };
        let known = self.0.get(digest).cloned();
        DescriptionView { total_size: content_size, ..known.unwrap_or_else(guess) }
    }
}

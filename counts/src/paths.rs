//! What is counted: the requests that clients make most.

use anyhow::Result;
use http::StatusCode;

use crate::heap;
use crate::world::{Content, REPOSITORY, World, manifest};

/// Enough that what happens only now and then is spread over them.
const TIMES: u64 = 100;
/// So that caches, statements and buffers are there.
const WARM: u64 = 20;
/// A function that the profiler is told to begin anew at; nothing else may have the name.
pub(crate) const MARK: &str = "*a_stretch_begins_here*";

#[derive(Clone, Copy)]
pub(crate) enum Hot {
    ManifestByTag,
    ManifestHead,
    BlobGet,
    BlobHead,
    BlobMissing,
    TagPage,
    TagsWhole,
    CatalogPage,
    Referrers,
    ReferrersWhole,
    TokenByKey,
    TokenByPassword,
    BlobPush,
    ImagePush,
}

impl Hot {
    pub(crate) const ALL: [(Self, &'static str); 14] = [
        (Self::ManifestByTag, "manifest-get-tag"),
        (Self::ManifestHead, "manifest-head-digest"),
        (Self::BlobGet, "blob-get-4k"),
        (Self::BlobHead, "blob-head"),
        (Self::BlobMissing, "blob-head-404"),
        (Self::TagPage, "tags-100-of-10k"),
        (Self::TagsWhole, "tags-10k-whole"),
        (Self::CatalogPage, "catalog-100-of-1k"),
        (Self::Referrers, "referrers-50-of-2k"),
        (Self::ReferrersWhole, "referrers-1k-of-2k"),
        (Self::TokenByKey, "token-key"),
        (Self::TokenByPassword, "token-password"),
        (Self::BlobPush, "blob-push-4k"),
        (Self::ImagePush, "image-push"),
    ];

    /// What a client has ready before it begins.
    fn load(self, number: u64) -> Load {
        let number = (self as u64) << 32 | number;
        let layer = Content::numbered(number << 1, 4096);
        let config = Content::numbered((number << 1) + 1, 512);
        let manifest = manifest(&config, &layer, None);
        Load { layer, config, manifest, tag: format!("p{number}") }
    }

    async fn once(self, world: &World, load: &Load) -> Result<()> {
        let repository = format!("/v2/{REPOSITORY}");
        let missing = format!("{repository}/blobs/{}", load.layer.digest);
        let blob = format!("{repository}/blobs/{}", world.blob);
        let (method, path, status) = match self {
            Self::ManifestByTag => ("GET", format!("{repository}/manifests/t0000000"), StatusCode::OK),
            Self::ManifestHead => ("HEAD", format!("{repository}/manifests/{}", world.image), StatusCode::OK),
            Self::BlobGet => ("GET", blob, StatusCode::OK),
            Self::BlobHead => ("HEAD", blob, StatusCode::OK),
            Self::BlobMissing => ("HEAD", missing, StatusCode::NOT_FOUND),
            Self::TagPage => ("GET", format!("{repository}/tags/list?n=100&last=t0005000"), StatusCode::OK),
            Self::CatalogPage => ("GET", "/v2/_catalog?n=100&last=main/r000500".to_owned(), StatusCode::OK),
            Self::TagsWhole => ("GET", format!("{repository}/tags/list"), StatusCode::OK),
            Self::Referrers => ("GET", format!("{repository}/referrers/{}?n=50", world.image), StatusCode::OK),
            Self::ReferrersWhole => ("GET", format!("{repository}/referrers/{}", world.image), StatusCode::OK),
            Self::TokenByKey => return world.token(&world.by_key).await.map(drop),
            Self::TokenByPassword => return world.token(&world.by_password).await.map(drop),
            Self::BlobPush => return world.push_blob(&load.layer).await,
            Self::ImagePush => {
                world.push_blob(&load.layer).await?;
                world.push_blob(&load.config).await?;
                return world.push_manifest(&load.manifest, &load.tag).await;
            }
        };
        world.ask(method, &path, status).await.map(drop)
    }
}

struct Load {
    layer: Content,
    config: Content,
    manifest: Content,
    tag: String,
}

/// What one request, or one push, took of the heap.
pub(crate) struct Taken {
    pub(crate) allocations: u64,
    pub(crate) bytes: u64,
}

/// Ends a stretch of what the profiler counts, and begins the next.
#[inline(never)]
fn a_stretch_begins_here() {
    std::hint::black_box(());
}

/// Runs everything, one stretch before each path and one for it.
pub(crate) async fn run(world: &World) -> Result<Vec<Taken>> {
    let mut all = Vec::new();
    for (hot, _) in Hot::ALL {
        let loads: Vec<Load> = (0..WARM + TIMES).map(|number| hot.load(number)).collect();
        let (warm, counted) = loads.split_at(usize::try_from(WARM)?);
        for load in warm {
            hot.once(world, load).await?;
        }
        world.settle().await;
        a_stretch_begins_here();
        let before = heap::so_far();
        for load in counted {
            hot.once(world, load).await?;
        }
        // Events of the audit log are written after the answers, and are part of what a request costs.
        world.settle().await;
        let after = heap::so_far();
        a_stretch_begins_here();
        all.push(Taken { allocations: (after.0 - before.0) / TIMES, bytes: (after.1 - before.1) / TIMES });
    }
    Ok(all)
}

/// Of the instructions of a stretch, those of one request.
pub(crate) fn of_one(instructions: u64) -> u64 {
    instructions / TIMES
}

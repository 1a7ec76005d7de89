//! The workloads: what each sends, and what has to be there before.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::client::{Client, Registry, basic, scope_of};
use super::content::{Blob, Noise, PIECE, blobs, fresh_seed, mix, sha256};
use super::http::{Body, Connection, Origin, Reply, Request, escaped, path_of, with_query};
use super::measure::{Done, Limit, Measured, Server, Threads, block_on, drive, programs_cpu_s};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const ANY_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json, \
                            application/vnd.oci.image.index.v1+json";
/// Bytes of a chunk of [`Mode::Chunks`].
const CHUNK: u64 = 10 << 20;
/// Entries of a page of a list.
const PAGE: u64 = 100;
/// Bytes of a layer of a small image.
const SMALL_LAYER: u64 = 4096;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// How a blob is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// POST, then all of it in the PUT.
    Put,
    /// POST, PATCH of 10 MiB again and again, an empty PUT.
    Chunks,
    /// POST, one PATCH without a length, an empty PUT: what Docker does.
    Stream,
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    First,
    Middle,
    Last,
    /// All in one answer, or as many as the server gives.
    Whole,
}

/// What a token is asked for with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grant {
    ApiKey,
    Password,
    Refresh,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Push(Mode),
    Pull,
    Range,
    Manifest {
        method: &'static str,
        by_tag: bool,
    },
    ImagePush,
    ImagePull,
    Mixed,
    Tags(Part),
    Catalog(Part),
    Referrers(Part),
    Token(Grant),
    Delete,
    Gc {
        /// Others push meanwhile.
        beside: bool,
    },
    /// Blobs go up and come down at the same time: how much memory that takes.
    UpDown,
    /// Connections that are open and silent.
    Idle,
    /// From the start of the process to the first answer; only `bench run` can.
    Start,
}

/// A workload and its size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spec {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) about: &'static str,
    /// Bytes of a blob, or of a range.
    pub(crate) bytes: u64,
    /// Things that have to be there before, or that are pushed.
    pub(crate) entries: u64,
    pub(crate) concurrency: usize,
    /// Operations, or zero where time ends it.
    pub(crate) count: u64,
    pub(crate) seconds: f64,
}

/// How large the workloads are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    /// As the report has them.
    Full,
    /// Small enough for all of them to run in five minutes, on two servers.
    Quick,
    /// Only to see that they work.
    Tiny,
}

/// Every workload at full size.
pub(crate) fn all() -> Vec<Spec> {
    use Kind::{
        Catalog, Delete, Gc, Idle, ImagePull, ImagePush, Manifest, Mixed, Pull, Push, Range, Referrers, Start, Tags,
        Token, UpDown,
    };
    let base = |name, kind, about| Spec {
        name,
        kind,
        about,
        bytes: SMALL_LAYER,
        entries: 0,
        concurrency: 1,
        count: 0,
        seconds: 5.0,
    };
    let push = |name, mode, bytes, count, concurrency, about| Spec {
        bytes,
        count,
        concurrency,
        seconds: 0.0,
        ..base(name, Push(mode), about)
    };
    let pull = |name, bytes, entries, count, concurrency, about| Spec {
        bytes,
        entries,
        count,
        concurrency,
        seconds: if count == 0 { 5.0 } else { 0.0 },
        ..base(name, Pull, about)
    };
    let manifest = |name, method, by_tag, about| Spec {
        entries: 100,
        concurrency: 32,
        ..base(name, Manifest { method, by_tag }, about)
    };
    let list = |name, kind, entries, about| Spec { entries, seconds: 2.0, ..base(name, kind, about) };
    let token = |name, grant, about| Spec { concurrency: 16, ..base(name, Token(grant), about) };
    vec![
        push("push-1g-put", Mode::Put, GIB, 1, 1, "one blob of 1 GiB, POST and PUT"),
        push("push-1g-chunks", Mode::Chunks, GIB, 1, 1, "one blob of 1 GiB in PATCHes of 10 MiB"),
        push("push-1g-stream", Mode::Stream, GIB, 1, 1, "one blob of 1 GiB in one PATCH without a length"),
        push("push-64m-c4", Mode::Put, 64 * MIB, 32, 4, "32 blobs of 64 MiB, 4 at a time"),
        push("push-64m-c16", Mode::Put, 64 * MIB, 32, 16, "32 blobs of 64 MiB, 16 at a time"),
        push("push-4k", Mode::Put, 4096, 2000, 16, "2,000 blobs of 4 KiB, 16 at a time"),
        pull("pull-1g-c1", GIB, 1, 4, 1, "a blob of 1 GiB, 4 times"),
        pull("pull-1g-c8", GIB, 1, 16, 8, "a blob of 1 GiB, 16 times, 8 at a time"),
        pull("pull-64m", 64 * MIB, 16, 64, 16, "16 blobs of 64 MiB, each 4 times, 16 at a time"),
        pull("pull-4k", 4096, 1000, 0, 32, "1,000 blobs of 4 KiB, 32 at a time"),
        Spec {
            bytes: 64 << 10,
            entries: 1,
            concurrency: 8,
            ..base("range-64k", Range, "64 KiB somewhere in 1 GiB, 8 at a time")
        },
        manifest("manifest-get-tag", "GET", true, "manifests by tag, 32 at a time"),
        manifest("manifest-get-digest", "GET", false, "manifests by digest, 32 at a time"),
        manifest("manifest-head-tag", "HEAD", true, "HEAD of manifests by tag, 32 at a time"),
        manifest("manifest-head-digest", "HEAD", false, "HEAD of manifests by digest, 32 at a time"),
        Spec {
            count: 1000,
            seconds: 0.0,
            concurrency: 16,
            ..base("image-push", ImagePush, "1,000 small images as Docker pushes them, 16 at a time")
        },
        Spec {
            entries: 100,
            concurrency: 8,
            ..base("image-pull", ImagePull, "small images as Docker pulls them, 8 at a time")
        },
        Spec {
            entries: 100,
            concurrency: 16,
            ..base("mixed-95", Mixed, "19 pulls of small images for each push of one, 16 at a time")
        },
        list("tags-10k-first", Tags(Part::First), 10_000, "the first 100 of 10,000 tags"),
        list("tags-10k-middle", Tags(Part::Middle), 10_000, "100 tags in the middle of 10,000"),
        list("tags-10k-last", Tags(Part::Last), 10_000, "the last 100 of 10,000 tags"),
        list("tags-10k-whole", Tags(Part::Whole), 10_000, "10,000 tags without a page size, and the pages that follow"),
        list("tags-500k-first", Tags(Part::First), 500_000, "the first 100 of 500,000 tags"),
        list("tags-500k-middle", Tags(Part::Middle), 500_000, "100 tags in the middle of 500,000"),
        list("tags-500k-last", Tags(Part::Last), 500_000, "the last 100 of 500,000 tags"),
        list(
            "tags-500k-whole",
            Tags(Part::Whole),
            500_000,
            "500,000 tags without a page size, and the pages that follow",
        ),
        list("catalog-1k-first", Catalog(Part::First), 1_000, "the first 100 of 1,000 repositories"),
        list("catalog-1k-middle", Catalog(Part::Middle), 1_000, "100 repositories in the middle of 1,000"),
        list("catalog-1k-last", Catalog(Part::Last), 1_000, "the last 100 of 1,000 repositories"),
        list("catalog-50k-first", Catalog(Part::First), 50_000, "the first 100 of 50,000 repositories"),
        list("catalog-50k-middle", Catalog(Part::Middle), 50_000, "100 repositories in the middle of 50,000"),
        list("catalog-50k-last", Catalog(Part::Last), 50_000, "the last 100 of 50,000 repositories"),
        list("referrers-10k-first", Referrers(Part::First), 10_000, "the first 100 referrers of a subject with 10,000"),
        list(
            "referrers-10k-most",
            Referrers(Part::Whole),
            10_000,
            "the referrers of a subject with 10,000, as the first answer has them",
        ),
        token("token-key", Grant::ApiKey, "tokens by API key, 16 at a time"),
        token("token-password", Grant::Password, "tokens by password, 16 at a time"),
        token("token-refresh", Grant::Refresh, "tokens by refresh token, 16 at a time"),
        Spec {
            count: 2000,
            seconds: 0.0,
            concurrency: 16,
            ..base("delete", Delete, "2,000 blobs deleted by digest, 16 at a time")
        },
        Spec {
            entries: 10_000,
            concurrency: 4,
            ..base("gc", Gc { beside: true }, "10,000 blobs of 4 KiB collected while others are pushed, 4 at a time")
        },
        Spec {
            entries: 10_000,
            count: 1,
            seconds: 0.0,
            ..base("gc-alone", Gc { beside: false }, "10,000 blobs of 4 KiB collected while nobody does anything else")
        },
        Spec {
            bytes: GIB,
            count: 16,
            seconds: 0.0,
            concurrency: 16,
            ..base("memory-8up-8down", UpDown, "8 blobs of 1 GiB pushed while one is pulled 8 times")
        },
        Spec {
            count: 10_000,
            seconds: 0.0,
            concurrency: 16,
            ..base("idle-10k", Idle, "10,000 connections that say nothing after their first request")
        },
        Spec {
            entries: 1_000_000,
            count: 10,
            seconds: 0.0,
            ..base("start-1m", Start, "10 starts with 1,000,000 blobs stored, each until a request is answered")
        },
    ]
}

impl Spec {
    /// The workload at another size.
    pub(crate) fn at(mut self, scale: Scale) -> Self {
        match scale {
            Scale::Full => {}
            Scale::Quick => {
                self.bytes = match self.bytes {
                    GIB => 256 * MIB,
                    bytes if bytes == 64 * MIB => 16 * MIB,
                    bytes => bytes,
                };
                self.count = if self.count >= 1000 { self.count / 4 } else { self.count };
                self.seconds = self.seconds.min(1.5);
                self.entries = self.entries.min(if matches!(self.kind, Kind::Catalog(_)) { 300 } else { 1000 });
            }
            Scale::Tiny => {
                self.bytes = self.bytes.min(if self.bytes > MIB { 3 * MIB } else { 4096 });
                self.count = self.count.min(8);
                self.seconds = self.seconds.min(0.1);
                self.entries =
                    self.entries.min(if matches!(self.kind, Kind::Tags(_) | Kind::Catalog(_)) { 250 } else { 20 });
            }
        }
        self
    }

    /// A list that is the same as a shorter one at any size but the full one.
    pub(crate) fn is_long_list(&self) -> bool {
        matches!(self.kind, Kind::Tags(_) | Kind::Catalog(_)) && self.entries > 10_000
    }

    /// Whether a run leaves nothing that another could use: blobs that were pushed once, or deleted.
    pub(crate) fn is_used_up(&self) -> bool {
        matches!(self.kind, Kind::Push(_) | Kind::Delete | Kind::Gc { .. } | Kind::UpDown)
    }

    /// Whether it changes what the server keeps.
    pub(crate) fn writes(&self) -> bool {
        self.wants_fresh_server() && self.kind != Kind::Idle || self.kind == Kind::Mixed
    }

    /// Whether each run gets a server of its own with an empty disk: what was written before would count.
    pub(crate) fn wants_fresh_server(&self) -> bool {
        matches!(
            self.kind,
            Kind::Push(_) | Kind::ImagePush | Kind::Delete | Kind::Gc { .. } | Kind::UpDown | Kind::Idle
        )
    }

    /// Workloads of the same name here can use what was prepared for one of them.
    pub(crate) fn fixture(&self) -> String {
        let what = match self.kind {
            Kind::Pull => "pull",
            Kind::Manifest { .. } | Kind::ImagePull | Kind::Mixed => "images",
            _ => self.name,
        };
        format!("{what} {} {}", self.bytes, self.entries)
    }

    /// Whether encryption changes what is measured: then both ways are of interest.
    pub(crate) fn is_about_bytes(&self) -> bool {
        matches!(
            self.kind,
            Kind::Push(_) | Kind::Pull | Kind::Range | Kind::Manifest { .. } | Kind::ImagePush | Kind::ImagePull
        )
    }

    fn limit(&self) -> Limit<'static> {
        if self.count > 0 { Limit::Count(self.count) } else { Limit::Time(Duration::from_secs_f64(self.seconds)) }
    }

    /// How many connections there are, on which threads.
    fn crowd(&self) -> (usize, Threads) {
        (self.concurrency, Threads::for_bodies_of(self.bytes))
    }

    /// Bytes of the blob that ranges are taken of.
    fn ranged(&self) -> u64 {
        self.bytes * (GIB >> 16)
    }
}

/// A registry, and where in it the load goes.
pub(crate) struct Bench {
    pub(crate) registry: Arc<Registry>,
    /// Repositories are made below this name.
    pub(crate) base: String,
    pub(crate) server: Option<Server>,
    /// A server of plain files: what others get pushed is written there.
    pub(crate) files: Option<PathBuf>,
    /// What collects garbage, for the shell.
    pub(crate) gc_command: Option<String>,
    /// Seconds until what was pushed counts as garbage.
    pub(crate) gc_wait: f64,
}

/// A small image, ready to be pushed.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    config: Vec<u8>,
    config_digest: String,
    layer: Blob,
    manifest: Vec<u8>,
    digest: String,
    tag: String,
}

impl Image {
    fn new(seed: u64, index: u64) -> Self {
        let config =
            json!({"architecture": "amd64", "os": "linux", "seed": format!("{:016x}", mix(seed ^ mix(index)))});
        let config = config.to_string().into_bytes();
        let config_digest = sha256(&config);
        let layer = Blob::new(mix(seed).wrapping_add(index), SMALL_LAYER);
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": config_digest, "size": config.len()},
            "layers": [{"mediaType": LAYER, "digest": layer.digest, "size": layer.noise.length}],
        });
        let manifest = manifest.to_string().into_bytes();
        let digest = sha256(&manifest);
        Self { config, config_digest, layer, manifest, digest, tag: tag(index) }
    }
}

/// The name of a tag; their order is that of their numbers.
pub(crate) fn tag(index: u64) -> String {
    format!("t{index:07}")
}

/// What a workload needs to be there; made before anything is timed.
pub(crate) enum Prepared {
    Nothing,
    Blobs(Vec<Blob>),
    Images(Vec<Image>),
    /// A path to ask, again and again.
    Path {
        scope: String,
        path: String,
    },
    Token {
        origin: Origin,
        request: TokenRequest,
    },
}

/// A question to a token service.
pub(crate) struct TokenRequest {
    target: String,
    authorization: Option<String>,
    form: Option<String>,
}

impl Bench {
    fn repository(&self, name: &str) -> String {
        format!("{}/{name}", self.base)
    }

    /// Makes what the workload needs. What was pushed under the same name before does no harm.
    pub(crate) fn prepare(&self, spec: &Spec) -> Result<Prepared> {
        let seed = fresh_seed()?;
        let pulls = self.repository("pulls");
        let listing = |path: String, scope: String| Prepared::Path { scope, path };
        Ok(match spec.kind {
            Kind::Push(_) => Prepared::Blobs(blobs(seed, spec.count, spec.bytes)),
            Kind::Pull => Prepared::Blobs(self.stored(&pulls, blobs(seed, spec.entries, spec.bytes))?),
            Kind::Range => Prepared::Blobs(self.stored(&pulls, blobs(seed, 1, spec.ranged()))?),
            Kind::Delete => {
                Prepared::Blobs(self.stored(&self.repository("deleted"), blobs(seed, spec.count, spec.bytes))?)
            }
            Kind::Gc { .. } => {
                Prepared::Blobs(self.stored(&self.repository("garbage"), blobs(seed, spec.entries, spec.bytes))?)
            }
            Kind::Manifest { .. } | Kind::ImagePull | Kind::Mixed => {
                Prepared::Images(self.stored_images(&pulls, (0..spec.entries).map(|n| Image::new(seed, n)).collect())?)
            }
            Kind::ImagePush => Prepared::Images((0..spec.count).map(|n| Image::new(seed, n)).collect()),
            Kind::Tags(part) => {
                let repository = self.tags_repository(spec.entries);
                self.fill_tags(&repository, spec.entries)?;
                let path = page(&format!("/v2/{repository}/tags/list"), part, spec.entries, tag);
                listing(path, scope_of(&repository))
            }
            Kind::Catalog(part) => {
                self.fill_catalog(spec.entries)?;
                let path = page("/v2/_catalog", part, spec.entries, |n| self.catalog_repository(n));
                listing(path, "registry:catalog:*".into())
            }
            Kind::Referrers(part) => {
                let repository = self.referrers_repository();
                let subject = self.fill_referrers(spec.entries)?;
                // Their digests are no names that one could begin behind.
                let path =
                    page(&format!("/v2/{repository}/referrers/{subject}"), part, spec.entries, |_| String::new());
                listing(path, scope_of(&repository))
            }
            Kind::Token(grant) => self.token_request(grant)?,
            Kind::UpDown => {
                let mut all = self.stored(&pulls, blobs(seed, 1, spec.bytes))?;
                all.extend(blobs(!seed, spec.count.div_ceil(2), spec.bytes));
                Prepared::Blobs(all)
            }
            Kind::Idle => Prepared::Nothing,
            Kind::Start => anyhow::bail!("only `bench run` starts servers"),
        })
    }

    /// Runs the workload over what was prepared.
    pub(crate) fn run(&self, spec: &Spec, prepared: &Prepared) -> Result<Measured> {
        let pulls = self.repository("pulls");
        let scope = scope_of(&pulls);
        Ok(match (spec.kind, prepared) {
            (Kind::Push(mode), Prepared::Blobs(blobs)) => {
                let target = self.repository("pushes");
                self.warm(&target)?;
                self.drive(spec, async |client, number| {
                    let blob = pick(blobs, number)?;
                    push(client, &target, blob, mode).await?;
                    Ok(Done { bytes: blob.noise.length, kind: "push" })
                })
            }
            (Kind::Pull, Prepared::Blobs(blobs)) => self.drive(spec, async |client, number| {
                let blob = pick(blobs, number)?;
                pull(client, &scope, &pulls, &blob.digest, blob.noise.length).await
            }),
            (Kind::Range, Prepared::Blobs(blobs)) => self.drive(spec, async |client, number| {
                let blob = pick(blobs, 0)?;
                range(client, &scope, &pulls, blob, mix(number), spec.bytes).await
            }),
            (Kind::Manifest { method, by_tag }, Prepared::Images(images)) => {
                self.drive(spec, async |client, number| {
                    let image = pick(images, number)?;
                    let reference = if by_tag { &image.tag } else { &image.digest };
                    let reply = manifest(client, &scope, &pulls, method, reference).await?;
                    ensure!(
                        method == "HEAD" || reply.length == image.manifest.len() as u64,
                        "a manifest of {} bytes",
                        reply.length
                    );
                    Ok(Done { bytes: reply.length, kind: "manifest" })
                })
            }
            (Kind::ImagePush, Prepared::Images(images)) => {
                let target = self.repository(&format!("images-{:08x}", fresh_seed()? >> 32));
                self.warm(&target)?;
                self.drive(spec, async |client, number| push_image(client, &target, pick(images, number)?).await)
            }
            (Kind::ImagePull, Prepared::Images(images)) => {
                self.drive(spec, async |client, number| pull_image(client, &scope, &pulls, pick(images, number)?).await)
            }
            (Kind::Mixed, Prepared::Images(images)) => {
                let (target, seed) = (self.repository("mixed"), fresh_seed()?);
                self.warm(&target)?;
                self.drive(spec, async |client, number| {
                    if number % 20 == 10 {
                        push_image(client, &target, &Image::new(seed, number)).await
                    } else {
                        pull_image(client, &scope, &pulls, pick(images, number)?).await
                    }
                })
            }
            (Kind::Tags(_) | Kind::Catalog(_) | Kind::Referrers(_), Prepared::Path { scope, path }) => {
                let whole = matches!(spec.kind, Kind::Tags(Part::Whole));
                self.drive(spec, async |client, _| list(client, scope, path, whole).await)
            }
            (Kind::Token(_), Prepared::Token { origin, request }) => {
                let service = self.registry.at(origin.clone());
                drive(&service, self.server.as_ref(), spec.crowd(), spec.limit(), async |client, _| {
                    let reply = ask(&mut client.connection, request).await?;
                    Ok(Done { bytes: reply.length, kind: "token" })
                })
            }
            (Kind::Delete, Prepared::Blobs(blobs)) => {
                let target = self.repository("deleted");
                let scope = scope_of(&target);
                self.drive(spec, async |client, number| {
                    let path = format!("/v2/{target}/blobs/{}", pick(blobs, number)?.digest);
                    client.call(&scope, Request::new("DELETE", &path)).await?.expect(&[202])?;
                    Ok(Done { bytes: 0, kind: "delete" })
                })
            }
            (Kind::Gc { beside: true }, Prepared::Blobs(_)) => self.collect(spec)?,
            (Kind::Gc { beside: false }, Prepared::Blobs(_)) => self.collect_alone(spec)?,
            (Kind::UpDown, Prepared::Blobs(blobs)) => {
                let target = self.repository("pushes");
                self.warm(&target)?;
                self.drive(spec, async |client, number| {
                    if number % 2 == 1 {
                        let blob = pick(blobs, 0)?;
                        return pull(client, &scope, &pulls, &blob.digest, blob.noise.length).await;
                    }
                    let blob = pick(blobs, 1 + number / 2)?;
                    push(client, &target, blob, Mode::Put).await?;
                    Ok(Done { bytes: blob.noise.length, kind: "push" })
                })
            }
            (Kind::Idle, Prepared::Nothing) => self.idle(spec),
            _ => anyhow::bail!("{} was prepared as something else", spec.name),
        })
    }

    fn drive(&self, spec: &Spec, operation: impl AsyncFn(&mut Client, u64) -> Result<Done> + Sync) -> Measured {
        drive(&self.registry, self.server.as_ref(), spec.crowd(), spec.limit(), operation)
    }

    /// Makes sure that a token is held and the server knows the repository's name, before the clock starts.
    fn warm(&self, repository: &str) -> Result<()> {
        let blob = Blob::new(fresh_seed()?, 64);
        block_on(push(&mut Client::new(&self.registry), repository, &blob, Mode::Put))
    }

    /// Pushes blobs, untimed, and compares one with what comes back.
    fn stored(&self, repository: &str, blobs: Vec<Blob>) -> Result<Vec<Blob>> {
        if let Some(files) = &self.files {
            let folder = files.join("v2").join(repository).join("blobs");
            std::fs::create_dir_all(&folder)?;
            for blob in &blobs {
                write_noise(&folder.join(&blob.digest), &blob.noise)?;
            }
            return Ok(blobs);
        }
        let at_once = if blobs.first().is_some_and(|blob| blob.noise.length > MIB) { 2 } else { 16 };
        self.quietly(at_once, blobs.len() as u64, async |client, number| {
            push(client, repository, pick(&blobs, number)?, Mode::Put).await
        })?;
        if let Some(blob) = blobs.first().filter(|blob| blob.noise.length <= 64 * MIB) {
            let path = format!("/v2/{repository}/blobs/{}", blob.digest);
            let mut client = Client::new(&self.registry);
            let reply = block_on(client.call(&scope_of(repository), Request::new("GET", &path).keep()))?;
            ensure!(sha256(&reply.expect(&[200])?.body) == blob.digest, "the blob came back as something else");
        }
        Ok(blobs)
    }

    fn stored_images(&self, repository: &str, images: Vec<Image>) -> Result<Vec<Image>> {
        if let Some(files) = &self.files {
            let repository = files.join("v2").join(repository);
            std::fs::create_dir_all(repository.join("blobs"))?;
            std::fs::create_dir_all(repository.join("manifests"))?;
            for image in &images {
                std::fs::write(repository.join("blobs").join(&image.config_digest), &image.config)?;
                write_noise(&repository.join("blobs").join(&image.layer.digest), &image.layer.noise)?;
                for name in [&image.tag, &image.digest] {
                    std::fs::write(repository.join("manifests").join(name), &image.manifest)?;
                }
            }
            return Ok(images);
        }
        self.quietly(16, images.len() as u64, async |client, number| {
            push_image(client, repository, pick(&images, number)?).await.map(drop)
        })?;
        Ok(images)
    }

    /// Does something `count` times on several connections; the first failure is the result.
    fn quietly(
        &self,
        concurrency: usize,
        count: u64,
        work: impl AsyncFn(&mut Client, u64) -> Result<()> + Sync,
    ) -> Result<()> {
        let operation = async |client: &mut Client, number| {
            work(client, number).await?;
            Ok(Done { bytes: 0, kind: "set-up" })
        };
        let crowd = (concurrency, Threads::EachCore);
        let measured = drive(&self.registry, None, crowd, Limit::Count(count), operation);
        match measured.first_error {
            Some(error) => Err(anyhow::anyhow!("{error}")).context("set up"),
            None => Ok(()),
        }
    }

    /// The repository that has this many tags.
    pub(crate) fn tags_repository(&self, entries: u64) -> String {
        self.repository(&format!("tags-{entries}"))
    }

    /// The name of one of many repositories.
    pub(crate) fn catalog_repository(&self, index: u64) -> String {
        self.repository(&format!("catalog/r{index:06}"))
    }

    /// Tags an image often, unless it was done before.
    fn fill_tags(&self, repository: &str, entries: u64) -> Result<()> {
        if self.has_manifest(repository, &tag(entries - 1)) {
            return Ok(());
        }
        let image = Image::new(fresh_seed()?, 0);
        block_on(push_image(&mut Client::new(&self.registry), repository, &image))?;
        self.quietly(16, entries, async |client, number| {
            put_manifest(client, repository, &tag(number), &image.manifest).await
        })
    }

    fn fill_catalog(&self, entries: u64) -> Result<()> {
        if self.has_manifest(&self.catalog_repository(entries - 1), &tag(0)) {
            return Ok(());
        }
        let image = Image::new(fresh_seed()?, 0);
        self.quietly(16, entries, async |client, number| {
            push_image(client, &self.catalog_repository(number), &image).await.map(drop)
        })
    }

    fn has_manifest(&self, repository: &str, reference: &str) -> bool {
        let mut client = Client::new(&self.registry);
        block_on(manifest(&mut client, &scope_of(repository), repository, "HEAD", reference)).is_ok()
    }

    pub(crate) fn referrers_repository(&self) -> String {
        self.repository("referrers")
    }

    /// Pushes one image under the first tag.
    pub(crate) fn push_one(&self, repository: &str) -> Result<()> {
        let image = Image::new(fresh_seed()?, 0);
        block_on(push_image(&mut Client::new(&self.registry), repository, &image)).map(drop)
    }

    /// Pushes the image that others refer to, and the last of these.
    pub(crate) fn push_one_referrer(&self, entries: u64) -> Result<()> {
        let (repository, image) = (self.referrers_repository(), subject(entries));
        let last = referrer(&image, entries - 1);
        block_on(async {
            let mut client = Client::new(&self.registry);
            push_image(&mut client, &repository, &image).await?;
            put_manifest(&mut client, &repository, &sha256(&last), &last).await
        })
    }

    /// Gives one image many referrers, unless it was done before; the image's digest.
    fn fill_referrers(&self, entries: u64) -> Result<String> {
        let (repository, image) = (self.referrers_repository(), subject(entries));
        if !self.has_manifest(&repository, &sha256(&referrer(&image, entries - 1))) {
            block_on(push_image(&mut Client::new(&self.registry), &repository, &image))?;
            self.quietly(16, entries, async |client, number| {
                let bytes = referrer(&image, number);
                put_manifest(client, &repository, &sha256(&bytes), &bytes).await
            })?;
        }
        Ok(image.digest)
    }

    fn token_request(&self, grant: Grant) -> Result<Prepared> {
        let service = block_on(self.registry.token_service())?.context("the registry knows no tokens")?;
        let origin = Origin::parse(&service.realm, &self.registry.tls)?;
        let login = &self.registry.login;
        let user = login.user.as_deref().context("needs --user")?;
        let scope = format!("repository:{}:pull", self.repository("pulls"));
        let password = || login.password.as_deref().context("needs a password");
        let by = |secret: &str| TokenRequest {
            target: service.question(&scope),
            authorization: Some(basic(user, secret)),
            form: None,
        };
        let request = match grant {
            Grant::ApiKey => by(login.api_key.as_deref().context("needs an API key")?),
            Grant::Password => by(password()?),
            Grant::Refresh => {
                let form = |rest: String| TokenRequest {
                    target: path_of(&service.realm).to_owned(),
                    authorization: None,
                    form: Some(format!(
                        "service={}&scope={}&client_id=bench&{rest}",
                        escaped(&service.service),
                        escaped(&scope)
                    )),
                };
                let first = form(format!(
                    "grant_type=password&access_type=offline&username={}&password={}",
                    escaped(user),
                    escaped(password()?)
                ));
                let reply = block_on(ask(&mut Connection::new(&origin), &first))?.json()?;
                let token = reply["refresh_token"].as_str().context("no refresh token")?;
                form(format!("grant_type=refresh_token&refresh_token={}", escaped(token)))
            }
        };
        block_on(ask(&mut Connection::new(&origin), &request))?;
        Ok(Prepared::Token { origin, request })
    }

    /// Opens connections that stay open, and looks at the server's memory while they are.
    fn idle(&self, spec: &Spec) -> Measured {
        let before = self.server.map(|server| {
            server.forget_peak();
            server.peak_mib()
        });
        let open = Mutex::new(Vec::new());
        let mut measured = self.drive(spec, async |_, _| {
            let mut connection = Connection::new(&self.registry.origin);
            let reply = connection.send(&Request::new("GET", "/v2/")).await?.expect(&[200, 401, 404])?;
            open.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            Ok(Done { bytes: reply.length, kind: "connection" })
        });
        std::thread::sleep(Duration::from_secs_f64(spec.seconds.max(1.0)));
        measured.server_peak_mib = self.server.map(|server| server.peak_mib());
        if let Some((peak, before)) = measured.server_peak_mib.zip(before) {
            measured.extra.insert("idle_mib_before".into(), before);
            measured.extra.insert("idle_kib_each".into(), (peak - before) * 1024.0 / spec.count.max(1) as f64);
        }
        measured
    }

    /// Pushes for a while, then pushes while garbage is collected; latencies are told apart.
    fn collect(&self, spec: &Spec) -> Result<Measured> {
        std::thread::sleep(Duration::from_secs_f64(self.gc_wait));
        let target = self.repository("beside-gc");
        self.warm(&target)?;
        let seed = fresh_seed()?;
        let next = AtomicU64::new(0);
        let push_as = |kind: &'static str, limit: Limit<'_>| {
            drive(&self.registry, self.server.as_ref(), spec.crowd(), limit, async |client, _| {
                let number = next.fetch_add(1, Ordering::Relaxed);
                push(client, &target, &Blob::new(mix(seed).wrapping_add(number), spec.bytes), Mode::Put).await?;
                Ok(Done { bytes: spec.bytes, kind })
            })
        };
        let quietly = |time: Duration| push_as("quiet", Limit::Time(time));
        let before = Duration::from_secs_f64(spec.seconds / 2.0);
        let mut quiet = quietly(before);
        let over = AtomicBool::new(false);
        let (collected, mut measured) = std::thread::scope(|scope| {
            let collector = scope.spawn(|| {
                let collected = self.run_collector(spec.entries);
                over.store(true, Ordering::Relaxed);
                collected
            });
            let beside = push_as("beside", Limit::Told(&over));
            (collector.join(), beside)
        });
        measured.extra = collected.map_err(|_| anyhow::anyhow!("the collector's thread panicked"))??;
        // Quiet has to last as long: what happens now and then is in the percentiles of a minute, and not in those of seconds.
        quiet.merge(quietly(Duration::from_secs_f64(measured.seconds).saturating_sub(before).max(before)));
        measured.merge(quiet);
        Ok(measured)
    }

    fn collect_alone(&self, spec: &Spec) -> Result<Measured> {
        std::thread::sleep(Duration::from_secs_f64(self.gc_wait));
        let collected = Mutex::default();
        let mut measured = self.drive(spec, async |_, _| {
            *collected.lock().unwrap_or_else(PoisonError::into_inner) = self.run_collector(spec.entries)?;
            Ok(Done { bytes: 0, kind: "gc" })
        });
        measured.extra = collected.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(measured)
    }

    /// Collects garbage of so many blobs; what there is to say of it.
    fn run_collector(&self, entries: u64) -> Result<BTreeMap<String, f64>> {
        let command = self.gc_command.as_deref().context("needs --gc-command")?;
        let (start, cpu) = (Instant::now(), programs_cpu_s());
        let output = Command::new("sh").args(["-c", command]).output().context("run the collector")?;
        let seconds = start.elapsed().as_secs_f64();
        ensure!(output.status.success(), "the collector failed: {}", String::from_utf8_lossy(&output.stderr));
        let removed =
            collected_blobs(&String::from_utf8_lossy(&output.stdout)).context("the collector counts nothing")?;
        ensure!(removed >= entries as f64, "{removed} blobs were collected, {entries} were garbage");
        let said = [
            ("gc_seconds", seconds),
            ("gc_blobs", removed),
            ("gc_blobs_per_s", removed / seconds),
            ("gc_cpu_s", programs_cpu_s() - cpu),
        ];
        Ok(said.map(|(name, value)| (name.to_owned(), value)).into())
    }
}

/// How many blobs a collector says that it took away: ours in JSON, Distribution's a line for each.
fn collected_blobs(said: &str) -> Option<f64> {
    if let Ok(report) = serde_json::from_str::<serde_json::Value>(said) {
        return report["blobs_removed"].as_f64();
    }
    let lines = said.lines().filter(|line| line.starts_with("blob eligible for deletion:")).count();
    Some(lines as f64)
}

/// The image with so many referrers; always the same, so that a later run finds it.
fn subject(entries: u64) -> Image {
    Image::new(entries, 0)
}

fn referrer(image: &Image, number: u64) -> Vec<u8> {
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": "application/vnd.example.signature",
        "config": {"mediaType": CONFIG, "digest": image.config_digest, "size": image.config.len()},
        "layers": [{"mediaType": LAYER, "digest": image.layer.digest, "size": image.layer.noise.length}],
        "subject": {"mediaType": MANIFEST, "digest": image.digest, "size": image.manifest.len()},
        "annotations": {"org.example.number": format!("{number:08}")},
    });
    manifest.to_string().into_bytes()
}

fn pick<T>(all: &[T], number: u64) -> Result<&T> {
    let index = usize::try_from(number)?;
    all.get(index % all.len().max(1)).context("nothing was prepared")
}

/// The path of a page of 100 of `entries` sorted names, or of all of them.
fn page(path: &str, part: Part, entries: u64, name: impl Fn(u64) -> String) -> String {
    let behind = |last: u64| format!("{path}?n={PAGE}&last={}", escaped(&name(last)));
    match part {
        Part::Whole => path.to_owned(),
        Part::First => format!("{path}?n={PAGE}"),
        Part::Middle => behind(entries / 2),
        Part::Last => behind(entries.saturating_sub(PAGE + 1)),
    }
}

async fn push(client: &mut Client, repository: &str, blob: &Blob, mode: Mode) -> Result<()> {
    let scope = scope_of(repository);
    let start = format!("/v2/{repository}/blobs/uploads/");
    let reply = client.call(&scope, Request::new("POST", &start)).await?.expect(&[202]).context("POST")?;
    let mut location = location(&reply)?;
    let length = blob.noise.length;
    let put = match mode {
        Mode::Put => Body::Part { noise: &blob.noise, offset: 0, length },
        Mode::Stream => {
            let request = Request::new("PATCH", &location).body(Body::Stream(&blob.noise));
            let reply = client.call(&scope, request.header("Content-Type", "application/octet-stream")).await?;
            location = self::location(&reply.expect(&[202]).context("PATCH")?)?;
            Body::Empty
        }
        Mode::Chunks => {
            let mut offset = 0;
            while offset < length {
                let part = CHUNK.min(length - offset);
                let request = Request::new("PATCH", &location)
                    .header("Content-Type", "application/octet-stream")
                    .header("Content-Range", &format!("{offset}-{}", offset + part - 1))
                    .body(Body::Part { noise: &blob.noise, offset, length: part });
                let reply = client.call(&scope, request).await?.expect(&[202]).context("PATCH")?;
                location = self::location(&reply)?;
                offset += part;
            }
            Body::Empty
        }
    };
    let target = with_query(&location, &format!("digest={}", blob.digest));
    let request = Request::new("PUT", &target).header("Content-Type", "application/octet-stream").body(put);
    client.call(&scope, request).await?.expect(&[201]).context("PUT")?;
    Ok(())
}

fn location(reply: &Reply) -> Result<String> {
    Ok(path_of(reply.header("location").context("no Location")?).to_owned())
}

async fn push_bytes(client: &mut Client, repository: &str, digest: &str, bytes: &[u8]) -> Result<()> {
    let scope = scope_of(repository);
    let start = format!("/v2/{repository}/blobs/uploads/");
    let reply = client.call(&scope, Request::new("POST", &start)).await?.expect(&[202]).context("POST")?;
    let target = with_query(&location(&reply)?, &format!("digest={digest}"));
    let request = Request::new("PUT", &target).header("Content-Type", "application/octet-stream");
    client.call(&scope, request.body(Body::Bytes(bytes))).await?.expect(&[201]).context("PUT")?;
    Ok(())
}

async fn put_manifest(client: &mut Client, repository: &str, reference: &str, bytes: &[u8]) -> Result<()> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    let request = Request::new("PUT", &path).header("Content-Type", MANIFEST).body(Body::Bytes(bytes));
    client.call(&scope_of(repository), request).await?.expect(&[201]).context("PUT of a manifest")?;
    Ok(())
}

/// Asks for each blob, pushes what is not there, then the manifest under its tag: seven requests for a new image.
async fn push_image(client: &mut Client, repository: &str, image: &Image) -> Result<Done> {
    let scope = scope_of(repository);
    let is_there = async |client: &mut Client, digest: &str| -> Result<bool> {
        let path = format!("/v2/{repository}/blobs/{digest}");
        Ok(client.call(&scope, Request::new("HEAD", &path)).await?.expect(&[200, 404]).context("HEAD")?.status == 200)
    };
    if !is_there(client, &image.layer.digest).await? {
        push_bytes(client, repository, &image.layer.digest, &image.layer.noise.bytes()).await?;
    }
    if !is_there(client, &image.config_digest).await? {
        push_bytes(client, repository, &image.config_digest, &image.config).await?;
    }
    put_manifest(client, repository, &image.tag, &image.manifest).await?;
    let bytes = image.layer.noise.length + image.config.len() as u64 + image.manifest.len() as u64;
    Ok(Done { bytes, kind: "push" })
}

async fn manifest(
    client: &mut Client,
    scope: &str,
    repository: &str,
    method: &'static str,
    reference: &str,
) -> Result<Reply> {
    let path = format!("/v2/{repository}/manifests/{reference}");
    client
        .call(scope, Request::new(method, &path).header("Accept", ANY_MANIFEST))
        .await?
        .expect(&[200])
        .context("manifest")
}

/// Resolves the tag, then fetches manifest, configuration and layer.
async fn pull_image(client: &mut Client, scope: &str, repository: &str, image: &Image) -> Result<Done> {
    manifest(client, scope, repository, "HEAD", &image.tag).await?;
    let mut bytes = manifest(client, scope, repository, "GET", &image.digest).await?.length;
    for (digest, length) in
        [(&image.config_digest, image.config.len() as u64), (&image.layer.digest, image.layer.noise.length)]
    {
        bytes += pull(client, scope, repository, digest, length).await?.bytes;
    }
    Ok(Done { bytes, kind: "pull" })
}

async fn pull(client: &mut Client, scope: &str, repository: &str, digest: &str, length: u64) -> Result<Done> {
    let path = format!("/v2/{repository}/blobs/{digest}");
    let reply = client.call(scope, Request::new("GET", &path)).await?.expect(&[200]).context("blob")?;
    ensure!(reply.length == length, "{} bytes of {length}", reply.length);
    Ok(Done { bytes: reply.length, kind: "pull" })
}

/// Fetches `length` bytes at a place that `dice` chooses.
async fn range(
    client: &mut Client,
    scope: &str,
    repository: &str,
    blob: &Blob,
    dice: u64,
    length: u64,
) -> Result<Done> {
    let start = dice % (blob.noise.length - length + 1) / 8 * 8;
    let path = format!("/v2/{repository}/blobs/{}", blob.digest);
    let request = Request::new("GET", &path).header("Range", &format!("bytes={start}-{}", start + length - 1));
    let reply = client.call(scope, request).await?.expect(&[206]).context("range")?;
    ensure!(reply.length == length, "{} bytes of {length}", reply.length);
    Ok(Done { bytes: reply.length, kind: "range" })
}

/// A page of a list; or all of the list, by `Link` where the server says that there is more.
async fn list(client: &mut Client, scope: &str, path: &str, whole: bool) -> Result<Done> {
    let (mut bytes, mut next) = (0, Some(path.to_owned()));
    while let Some(path) = next.take() {
        let reply = client.call(scope, Request::new("GET", &path)).await?.expect(&[200]).context("list")?;
        bytes += reply.length;
        if whole {
            let link = reply.header("link").and_then(|link| link.split_once('<')?.1.split_once('>'));
            next = link.filter(|(_, rest)| rest.contains("next")).map(|(target, _)| path_of(target).to_owned());
        }
    }
    Ok(Done { bytes, kind: "list" })
}

async fn ask(connection: &mut Connection, question: &TokenRequest) -> Result<Reply> {
    let mut request = Request::new(if question.form.is_some() { "POST" } else { "GET" }, &question.target).keep();
    if let Some(authorization) = &question.authorization {
        request = request.header("Authorization", authorization);
    }
    if let Some(form) = &question.form {
        request =
            request.header("Content-Type", "application/x-www-form-urlencoded").body(Body::Bytes(form.as_bytes()));
    }
    connection.send(&request).await?.expect(&[200]).context("token")
}

fn write_noise(path: &Path, noise: &Noise) -> Result<()> {
    let mut file = std::fs::File::create(path).with_context(|| format!("write {}", path.display()))?;
    let (mut piece, mut offset) = (vec![0; PIECE], 0);
    while offset < noise.length {
        let count = noise.fill(offset, &mut piece);
        file.write_all(&piece[..count])?;
        offset += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_of_workloads_are_told_apart_and_every_size_ends() {
        let mut names: Vec<&str> = all().iter().map(|spec| spec.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for scale in [Scale::Full, Scale::Quick, Scale::Tiny] {
            for spec in all().into_iter().map(|spec| spec.at(scale)) {
                assert!(spec.count > 0 || spec.seconds > 0.0, "{spec:?} never ends");
                assert!(spec.concurrency > 0, "{spec:?}");
                assert!(!matches!(spec.kind, Kind::Pull) || spec.entries > 0, "{spec:?}");
            }
        }
    }

    #[test]
    fn pages_are_asked_for_as_the_specification_says() {
        assert_eq!(page("/l", Part::Whole, 1000, tag), "/l");
        assert_eq!(page("/l", Part::First, 1000, tag), "/l?n=100");
        assert_eq!(page("/l", Part::Middle, 1000, tag), "/l?n=100&last=t0000500");
        assert_eq!(page("/l", Part::Last, 1000, tag), "/l?n=100&last=t0000899", "then t0000900 to t0000999 follow");
    }

    #[test]
    fn an_image_names_what_it_is_made_of() {
        let image = Image::new(1, 2);
        let manifest: serde_json::Value = serde_json::from_slice(&image.manifest).unwrap();
        assert_eq!(manifest["config"]["digest"], sha256(&image.config));
        assert_eq!(manifest["layers"][0]["digest"], sha256(&image.layer.noise.bytes()));
        assert_eq!(image.digest, sha256(&image.manifest));
        assert_ne!(Image::new(1, 3).digest, image.digest);
        assert_ne!(Image::new(2, 2).layer, image.layer);
    }

    #[test]
    fn collectors_say_what_they_took_away() {
        assert_eq!(collected_blobs(r#"{"links_reviewed":9,"blobs_removed":7}"#), Some(7.0));
        let said = "0 blobs marked, 2 blobs and 0 manifests eligible for deletion\nblob eligible for deletion: sha256:a\nblob eligible for deletion: sha256:b\n";
        assert_eq!(collected_blobs(said), Some(2.0));
    }
}

//! A registry and its token service on a fresh database, in this process, with lists worth a page.

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::body::Body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use identity::admin::NewApiKey;
use identity::audit::Caller;
use identity::bootstrap::Bootstrap;
use identity::password::Cost;
use identity::{Identity, MasterKey, Options};
use sqlx::AssertSqlSafe;
use storage::db::{DbOptions, Raw};
use storage::digest::digest_of;
use storage::names::Algorithm;
use storage::objects::Objects;
use storage::uploads::{Lifetimes, Uploads};
use storage::{Clock, Db};
use tower::ServiceExt as _;

/// The most connections that `SQLite` is read with.
const READERS: u32 = 4;

/// Where everything is pushed to.
pub(crate) const REPOSITORY: &str = "main/app";
const ADMIN: &str = "admin@localhost";
const PASSWORD: &str = "a quiet harbour at night";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
const SCOPES: &str = "scope=repository:main/app:pull,push&scope=registry:catalog:*";
const TAGS: u64 = 10_000;
const REPOSITORIES: u64 = 1_000;
const REFERRERS: u64 = 2_000;

/// The services and what a client of theirs knows.
pub(crate) struct World {
    identity: Identity,
    registry: Router,
    tokens: Router,
    bearer: String,
    pub(crate) by_key: String,
    pub(crate) by_password: String,
    /// A blob of 4 KiB.
    pub(crate) blob: String,
    /// An image with referrers.
    pub(crate) image: String,
    _dir: tempfile::TempDir,
}

/// A blob to push.
pub(crate) struct Content {
    pub(crate) bytes: Bytes,
    pub(crate) digest: String,
}

impl Content {
    /// A blob of `size` bytes that no other number has.
    pub(crate) fn numbered(number: u64, size: usize) -> Self {
        let bytes: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(size).collect();
        Self::from(bytes)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self { digest: digest_of(Algorithm::Sha256, &bytes).to_string(), bytes: bytes.into() }
    }
}

/// The manifest of an image with one layer, and what it refers to where it is a referrer.
pub(crate) fn manifest(config: &Content, layer: &Content, subject: Option<(&str, usize)>) -> Content {
    let mut manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config.digest, "size": config.bytes.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
            "digest": layer.digest, "size": layer.bytes.len(),
        }],
    });
    if let Some((digest, size)) = subject {
        manifest["subject"] = serde_json::json!({ "mediaType": OCI, "digest": digest, "size": size });
    }
    Content::from(manifest.to_string().into_bytes())
}

impl World {
    pub(crate) async fn new() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let options = DbOptions { connections: READERS };
        let url = format!("sqlite://{}", dir.path().join("counts.db").display());
        let db = Db::connect_with(&url, &options).await?;
        db.migrate().await?;
        let objects = Objects::open(dir.path().join("blobs").to_str().context("a folder's name")?)?;
        // Stands still: nothing expires, however slowly this runs.
        let clock = Clock::manual(1_800_000_000);
        let mut options = Options::new("https://localhost:5001", "wharfinger");
        options.clock = clock.clone();
        options.cost = Cost { memory: 64, passes: 1 };
        let identity = Identity::open(db.clone(), MasterKey::generate(), options).await?;
        let first = Bootstrap {
            org: "main".parse()?,
            admin: ADMIN.parse()?,
            admin_password: Some(PASSWORD.into()),
            operator: "operator@localhost".parse()?,
            operator_password: Some(PASSWORD.into()),
        };
        identity.bootstrap(&first).await?;
        let key = api_key(&db, &identity).await?;
        let uploads = Uploads::new(db.clone(), objects.clone(), clock, Lifetimes::default());
        let settings = registry::Settings {
            service: "wharfinger".into(),
            realm: registry::auth::Realm::Fixed("https://localhost:5001/token".into()),
            controller_url: "https://localhost".into(),
            cache: 64 << 20,
            max_manifest: 4 << 20,
            max_blob: 1 << 30,
            body_idle: std::time::Duration::from_secs(600),
        };
        let registry = registry::router(registry::State::new(db.clone(), objects, uploads, identity.clone(), settings));
        let tokens = authsvc::router(authsvc::State::new(identity.clone()));
        let basic = |secret: &str| format!("Basic {}", STANDARD.encode(format!("{ADMIN}:{secret}")));
        let mut world = Self {
            identity,
            registry,
            tokens,
            bearer: String::new(),
            by_key: basic(&key),
            by_password: basic(PASSWORD),
            blob: String::new(),
            image: String::new(),
            _dir: dir,
        };
        world.bearer = format!("Bearer {}", world.token(&world.by_password).await?);
        world.fill(&db).await?;
        open_readers(&db).await?;
        Ok(world)
    }

    /// Pushes one of each thing that is read, and repeats the rows that lists are made of.
    async fn fill(&mut self, db: &Db) -> Result<()> {
        let (config, layer) = (Content::from(b"{}".to_vec()), Content::numbered(u64::MAX, 4096));
        for blob in [&config, &layer] {
            self.push_blob(blob).await?;
        }
        let image = manifest(&config, &layer, None);
        self.push_manifest(&image, "t0000000").await?;
        let referrer = manifest(&config, &layer, Some((&image.digest, image.bytes.len())));
        self.push_manifest(&referrer, &referrer.digest).await?;
        (self.blob, self.image) = (layer.digest, image.digest);
        self.settle().await;
        let mut tx = db.begin().await?;
        repeat(&mut tx, "tags", "name", "printf('t%07d', n)", TAGS).await?;
        repeat(&mut tx, "repositories", "id, name", "printf('c%025d', n), printf('main/r%06d', n)", REPOSITORIES)
            .await?;
        repeat(&mut tx, "manifests WHERE subject IS NOT NULL", "digest", "printf('sha256:%064x', n)", REFERRERS)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Waits for what is written after the answers.
    pub(crate) async fn settle(&self) {
        self.identity.settle().await;
    }

    /// A token for everything that is asked of the registry here.
    pub(crate) async fn token(&self, credentials: &str) -> Result<String> {
        let request = Request::get(format!("/token?service=wharfinger&{SCOPES}"))
            .header(header::AUTHORIZATION, credentials)
            .body(Body::empty())?;
        let (_, body) = answer(&self.tokens, request, StatusCode::OK).await?;
        let body: serde_json::Value = serde_json::from_slice(&body)?;
        Ok(body["token"].as_str().context("no token")?.to_owned())
    }

    /// A request without a body; the answer has to be of that status.
    pub(crate) async fn ask(&self, method: &str, path: &str, status: StatusCode) -> Result<(HeaderMap, Bytes)> {
        let request = self.request(method, path).header(header::ACCEPT, OCI).body(Body::empty())?;
        answer(&self.registry, request, status).await
    }

    fn request(&self, method: &str, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header(header::HOST, "localhost:6000")
            .header(header::AUTHORIZATION, &self.bearer)
    }

    async fn put(&self, path: &str, content_type: &str, body: &Bytes) -> Result<()> {
        let request = self
            .request("PUT", path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::CONTENT_LENGTH, body.len())
            .body(Body::from(body.clone()))?;
        answer(&self.registry, request, StatusCode::CREATED).await?;
        Ok(())
    }

    pub(crate) async fn push_blob(&self, blob: &Content) -> Result<()> {
        let begun = self.ask("POST", &format!("/v2/{REPOSITORY}/blobs/uploads/"), StatusCode::ACCEPTED).await?;
        let location = begun.0.get(header::LOCATION).context("no location")?.to_str()?;
        self.put(&format!("{location}?digest={}", blob.digest), "application/octet-stream", &blob.bytes).await
    }

    pub(crate) async fn push_manifest(&self, manifest: &Content, reference: &str) -> Result<()> {
        self.put(&format!("/v2/{REPOSITORY}/manifests/{reference}"), OCI, &manifest.bytes).await
    }
}

async fn answer(router: &Router, request: Request<Body>, status: StatusCode) -> Result<(HeaderMap, Bytes)> {
    let (parts, body) = router.clone().oneshot(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    ensure!(parts.status == status, "{} instead of {status}: {}", parts.status, String::from_utf8_lossy(&body));
    Ok((parts.headers, body))
}

/// Has every connection read the schema, which is otherwise part of whatever request happens to need one more of them.
async fn open_readers(db: &Db) -> Result<()> {
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = db.read().await?;
        storage::orgs::find_by_slug(&mut reader, "main").await?.context("no organization")?;
        readers.push(reader);
    }
    Ok(())
}

async fn api_key(db: &Db, identity: &Identity) -> Result<String> {
    let mut session = db.read().await?;
    let org = storage::orgs::find_by_slug(&mut session, "main").await?.context("no organization")?;
    let user = storage::users::find_by_name(&mut session, ADMIN).await?.context("no user")?;
    drop(session);
    let new = NewApiKey {
        org_id: &org.id,
        user_id: &user.id,
        name: "counts",
        valid_days: None,
        projects: None,
        permissions: None,
    };
    Ok(identity.create_api_key(&Caller::server(), &new).await?.key.expose().to_owned())
}

/// Repeats a row with some columns made anew from `n`, which counts from 1 to one less than `total`.
async fn repeat(tx: &mut storage::Tx, rows: &str, anew: &str, values: &str, total: u64) -> Result<()> {
    let table = rows.split(' ').next().unwrap_or(rows);
    let Raw::Sqlite(connection) = tx.raw() else { anyhow::bail!("this is about SQLite") };
    let columns: Vec<(String,)> =
        sqlx::query_as(AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')")))
            .fetch_all(&mut *connection)
            .await?;
    let changed: Vec<&str> = anew.split(", ").collect();
    let kept: Vec<&str> = columns.iter().map(|c| c.0.as_str()).filter(|c| !changed.contains(c)).collect();
    let kept = kept.join(", ");
    let statement = format!(
        "WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {}) \
         INSERT INTO {table} ({anew}, {kept}) SELECT {values}, {kept} FROM (SELECT * FROM {rows} LIMIT 1), number",
        total - 1
    );
    sqlx::query(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

//! A registry on a fresh database with two organizations, and a client for it.
//!
//! `acme` has the projects `defaultproject` and `web`; `admin@acme.example` runs it, `web@acme.example` has the project
//! `web` alone. `dev@other.example` runs `other`.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use identity::admin::{NewBinding, NewOrg, NewUser, UserKind};
use identity::bootstrap::Bootstrap;
use identity::login::Door;
use identity::password::Cost;
use identity::rbac::Role;
use identity::scope::Scope;
use identity::{Identity, MasterKey, Options, Secret};
use storage::digest::digest_of;
use storage::gc::Collector;
use storage::names::Algorithm;
use storage::objects::Objects;
use storage::projects::UpdateProject;
use storage::uploads::{Lifetimes, Uploads};
use storage::{Clock, Db};
use tower::ServiceExt;

use crate::auth::Realm;
use crate::{Settings, State, router};

pub(super) const OCI: &str = "application/vnd.oci.image.manifest.v1+json";
pub(super) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(super) const PASSWORD: &str = "a quiet harbour at night";
pub(super) const ADMIN: &str = "admin@acme.example";
/// What the admin's requests carry.
const EVERYTHING: &str = "registry:catalog:* repository:acme/app:pull,push,delete";

pub(super) fn sha256(content: &[u8]) -> String {
    digest_of(Algorithm::Sha256, content).to_string()
}

pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) db: Db,
    objects: Objects,
    pub(super) identity: Identity,
    lifetimes: Lifetimes,
    router: Router,
    dir: tempfile::TempDir,
}

impl World {
    pub(super) const GRACE: i64 = 3600;
    pub(super) const MAX_MANIFEST: usize = 64 * 1024;
    pub(super) const MAX_BLOB: usize = 4 << 20;

    pub(super) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = storage::db::testing::fresh(dir.path()).await;
        let objects = Objects::open(dir.path().join("blobs").to_str().unwrap()).unwrap();
        let clock = Clock::manual(1_800_000_000);
        let mut options = Options::new("https://localhost:5001", "wharfinger");
        options.clock = clock.clone();
        options.cost = Cost { memory: 64, passes: 1 };
        let identity = Identity::open(db.clone(), MasterKey::generate(), options).await.unwrap();
        let lifetimes = Lifetimes { grace: Self::GRACE, ..Lifetimes::default() };
        let uploads = Uploads::new(db.clone(), objects.clone(), clock.clone(), lifetimes);
        let settings = Settings {
            service: "wharfinger".into(),
            realm: Realm::ByHost { scheme: "https", hosts: vec!["localhost".into()], port: 5001 },
            controller_url: "https://localhost".into(),
            cache: 1 << 20,
            max_manifest: Self::MAX_MANIFEST as u64,
            max_blob: Self::MAX_BLOB as u64,
            body_idle: std::time::Duration::from_secs(5),
        };
        let state = State::new(db.clone(), objects.clone(), uploads, identity.clone(), settings);
        let world = Self { clock, db, objects, identity, lifetimes, router: router(state), dir };
        world.people().await;
        world
    }

    async fn people(&self) {
        let secret = Secret::from(PASSWORD);
        let first = Bootstrap {
            org: "acme".parse().unwrap(),
            admin: ADMIN.parse().unwrap(),
            admin_password: Some(PASSWORD.into()),
            operator: "operator@localhost".parse().unwrap(),
            operator_password: Some(PASSWORD.into()),
        };
        self.identity.bootstrap(&first).await.unwrap().unwrap();
        let (other, dev) = ("other".parse().unwrap(), "dev@other.example".parse().unwrap());
        let new = NewOrg { slug: &other, name: None, admin: Some((&dev, Some(&secret))) };
        self.identity.create_org(&identity::audit::Caller::server(), &new).await.unwrap();
        let acme = self.org_id("acme").await;
        let web = self
            .identity
            .create_project(
                &identity::audit::Caller::server(),
                &storage::projects::NewProject {
                    org_id: &acme,
                    slug: &"web".parse().unwrap(),
                    settings: storage::projects::ProjectSettings::default(),
                    description: "",
                },
            )
            .await
            .unwrap();
        let name = "web@acme.example".parse().unwrap();
        let new = NewUser { name: &name, kind: UserKind::Local, password: Some(&secret) };
        let user =
            self.identity.add_user(&identity::audit::Caller::server(), &acme, &new).await.unwrap().member.user_id;
        let admin = self.identity.login(ADMIN, &secret, Door::Registry).await.unwrap();
        let role = Role::find("PROJECT_ADMIN").unwrap();
        let new = NewBinding {
            org_id: &acme,
            subject: storage::bindings::Subject::User(&user),
            role: &role.into(),
            project_id: Some(&web.id),
            namespaces: &[],
        };
        self.identity.create_binding(&identity::audit::Caller::of(admin.principal.clone()), &new).await.unwrap();
    }

    /// The admin of `acme`, to change rights.
    pub(super) async fn admin(&self) -> identity::audit::Caller {
        let admin = self.identity.login(ADMIN, &Secret::from(PASSWORD), Door::Registry).await.unwrap();
        identity::audit::Caller::of(admin.principal)
    }

    /// Adds somebody without a role to `acme`.
    pub(super) async fn member(&self, name: &str) {
        let (name, secret, acme) = (name.parse().unwrap(), Secret::from(PASSWORD), self.org_id("acme").await);
        let new = NewUser { name: &name, kind: UserKind::Local, password: Some(&secret) };
        self.identity.add_user(&identity::audit::Caller::server(), &acme, &new).await.unwrap();
    }

    async fn org_id(&self, slug: &str) -> String {
        let mut session = self.db.read().await.unwrap();
        storage::orgs::find_by_slug(&mut session, slug).await.unwrap().unwrap().id
    }

    /// What the audit log of an organization, or of the platform where that is empty, says of an action.
    pub(super) async fn audit(&self, org: &str, action: &str) -> Vec<storage::audit::NewEvent> {
        self.identity.settle().await;
        let org_id = if org.is_empty() { String::new() } else { self.org_id(org).await };
        let filter = storage::audit::Filter { action, ..Default::default() };
        let mut session = self.db.read().await.unwrap();
        let oldest = storage::audit::Direction::Oldest;
        let found = storage::audit::list(&mut session, &org_id, &filter, oldest, None, 100).await.unwrap();
        found.events.into_iter().map(|event| event.event).collect()
    }

    pub(super) async fn token(&self, user: &str, scopes: &str) -> String {
        let login = self.identity.login(user, &Secret::from(PASSWORD), Door::Registry).await.unwrap();
        let scopes = Scope::parse_all([scopes]).unwrap();
        self.identity.issue(Some(&login), &scopes).await.unwrap().token
    }

    pub(super) async fn deactivate(&self, user: &str, org: &str) {
        let org = self.org_id(org).await;
        let mut session = self.db.read().await.unwrap();
        let id = storage::users::find_by_name(&mut session, user).await.unwrap().unwrap().id;
        drop(session);
        self.identity.set_active(&identity::audit::Caller::server(), &org, &id, false).await.unwrap();
    }

    /// Lets the project `web` take manifests whose layers are not here.
    pub(super) async fn make_web_sparse(&self) {
        let mut session = self.db.read().await.unwrap();
        let web = storage::projects::find_by_path(&mut session, "acme", "web").await.unwrap().unwrap();
        drop(session);
        self.identity
            .update_project(
                &identity::audit::Caller::server(),
                &web.id,
                &UpdateProject { public: None, sparse: Some(true), ..UpdateProject::default() },
            )
            .await
            .unwrap();
    }

    pub(super) async fn collect(&self) {
        Collector::new(self.db.clone(), self.objects.clone(), self.clock.clone(), self.lifetimes).run().await.unwrap();
    }

    /// Takes every object away behind the registry's back.
    pub(super) fn lose_objects(&self) {
        for folder in Objects::folders() {
            for (key, _) in self.objects.list(&folder).unwrap() {
                std::fs::remove_file(self.dir.path().join("blobs/objects").join(&folder).join(key)).unwrap();
            }
        }
    }

    /// Turns the first byte of every object into another.
    pub(super) fn rot_objects(&self) {
        use std::os::unix::fs::FileExt;
        for folder in Objects::folders() {
            for (key, _) in self.objects.list(&folder).unwrap() {
                let path = self.dir.path().join("blobs/objects").join(&folder).join(key);
                std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"!", 0).unwrap();
            }
        }
    }

    /// Moves the byte store away, as where its file system is not mounted, and back.
    pub(super) fn unmount(&self, away: bool) {
        let (here, there) = (self.dir.path().join("blobs"), self.dir.path().join("unmounted"));
        if away { std::fs::rename(here, there).unwrap() } else { std::fs::rename(there, here).unwrap() }
    }

    pub(super) fn objects(&self) -> usize {
        Objects::folders().map(|folder| self.objects.list(&folder).unwrap().len()).sum()
    }

    /// A request with whatever the admin of `acme` may do there.
    pub(super) fn request(&self, method: &str, path: &str) -> Call<'_> {
        Call { admin: true, ..self.anonymous(method, path) }
    }

    pub(super) fn anonymous(&self, method: &str, path: &str) -> Call<'_> {
        let headers = HeaderMap::new();
        Call { world: self, method: method.into(), path: path.into(), headers, body: Body::empty(), admin: false }
    }

    pub(super) fn get(&self, path: &str) -> Call<'_> {
        self.request("GET", path)
    }

    pub(super) fn head(&self, path: &str) -> Call<'_> {
        self.request("HEAD", path)
    }

    pub(super) fn post(&self, path: &str) -> Call<'_> {
        self.request("POST", path)
    }

    pub(super) fn put(&self, path: &str) -> Call<'_> {
        self.request("PUT", path)
    }

    pub(super) fn patch(&self, path: &str) -> Call<'_> {
        self.request("PATCH", path)
    }

    pub(super) fn delete(&self, path: &str) -> Call<'_> {
        self.request("DELETE", path)
    }

    /// Begins an upload and returns its URL.
    pub(super) async fn begin(&self, repo: &str) -> String {
        let reply = self.post(&format!("/v2/{repo}/blobs/uploads/")).send().await;
        assert_eq!(reply.status, 202, "{}", reply.text());
        reply.header("location")
    }

    pub(super) async fn push_blob(&self, repo: &str, content: &[u8]) -> String {
        let digest = sha256(content);
        let session = self.begin(repo).await;
        let put = self.put(&format!("{session}?digest={digest}")).body(content.to_vec()).send().await;
        assert_eq!(put.status, 201, "{}", put.text());
        digest
    }

    /// An image manifest with those layers and a config that is pushed along.
    pub(super) async fn image(&self, repo: &str, layers: &[&str]) -> String {
        let config = self.push_blob(repo, b"{}").await;
        let layers: Vec<String> = layers
            .iter()
            .map(|d| format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{d}","size":1}}"#))
            .collect();
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[{}]}}"#,
            layers.join(",")
        )
    }

    /// A token of the admin's that covers the repositories that a path speaks of.
    async fn admin_token(&self, path: &str) -> Arc<str> {
        let mut scopes = EVERYTHING.to_owned();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let rest = path.trim_start_matches("/v2/");
        for word in ["/blobs/", "/manifests/", "/tags/", "/referrers/"] {
            if let Some((name, _)) = rest.split_once(word) {
                scopes.push_str(&format!(" repository:{name}:pull,push,delete"));
            }
        }
        if let Some(from) = query.split('&').find_map(|pair| pair.strip_prefix("from=")) {
            scopes.push_str(&format!(" repository:{from}:pull"));
        }
        self.token(ADMIN, &scopes).await.into()
    }
}

pub(super) struct Call<'a> {
    world: &'a World,
    method: String,
    path: String,
    headers: HeaderMap,
    body: Body,
    admin: bool,
}

impl Call<'_> {
    pub(super) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.insert(http::HeaderName::try_from(name).unwrap(), value.parse().unwrap());
        self
    }

    pub(super) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// A body of known length.
    pub(super) fn body(mut self, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        if !self.headers.contains_key("content-length") {
            self = self.header("content-length", &body.len().to_string());
        }
        self.body = Body::from(body);
        self
    }

    pub(super) fn stream(mut self, body: Body) -> Self {
        self.body = body;
        self
    }

    pub(super) fn manifest(self, manifest: &str) -> Self {
        self.typed(OCI, manifest)
    }

    pub(super) fn typed(self, content_type: &str, body: &str) -> Self {
        self.header("content-type", content_type).body(body.to_owned())
    }

    pub(super) async fn send(mut self) -> Reply {
        if self.admin {
            let token = self.world.admin_token(&self.path).await;
            self = self.bearer(&token);
        }
        let mut request = Request::builder().method(self.method.as_str()).uri(&self.path).body(self.body).unwrap();
        *request.headers_mut() = self.headers;
        request.headers_mut().insert("host", "localhost:6000".parse().unwrap());
        let response = self.world.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let collected = body.collect().await;
        let body = collected.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let mut headers = parts.headers;
        // What hyper adds on the wire.
        headers.entry("content-length").or_insert_with(|| body.len().to_string().parse().unwrap());
        Reply { status: parts.status.as_u16(), headers, body }
    }
}

pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Reply {
    pub(super) fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(super) fn code(&self) -> String {
        self.json()["errors"][0]["code"].as_str().unwrap().to_owned()
    }
}

//! The whole router over a fresh database, and callers to drive it with.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use identity::admin::{NewOrg, NewUser, UserKind};
use identity::bootstrap::Bootstrap;
use identity::mail::Letter;
use identity::password::Cost;
use identity::{Identity, MasterKey, Options, Secret};
use serde_json::{Value, json};
use storage::blobs::{self, NewBlob};
use storage::db::testing::{fresh, fresh_sqlite};
use storage::digest::digest_of;
use storage::manifests::{self, NewManifest};
use storage::names::{Algorithm, RepoName};
use storage::objects::Objects;
use storage::{Clock, Db, orgs, projects, repositories};
use tower::ServiceExt;

use crate::{Settings, State};

pub(crate) const ADMIN: &str = "admin@localhost";
pub(crate) const OPERATOR: &str = "operator@localhost";
pub(crate) const PASSWORD: &str = "a password for tests";

/// A controller with the organization `main`, its admin and a platform operator.
pub(crate) struct Controller {
    router: Router,
    pub(crate) clock: Clock,
    pub(crate) db: Db,
    pub(crate) identity: Identity,
    objects: Objects,
    dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    /// The body as text, where it is any.
    pub(crate) raw: String,
}

impl Reply {
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        self
    }

    /// The session whose cookie the answer sets, and whose token it tells.
    pub(crate) fn session(&self) -> Caller {
        let cookie = self.headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        let told = self.body.get("session").unwrap_or(&self.body);
        Caller::Session { cookie, csrf: told["csrf_token"].as_str().unwrap().to_owned() }
    }

    /// What a page's form holds in its field `version`.
    pub(crate) fn version(&self) -> String {
        let at = self.raw.split("name=\"version\" value=\"").nth(1).unwrap_or_else(|| panic!("{}", self.raw));
        at.split('"').next().unwrap().replace("&#34;", "\"")
    }

    pub(crate) fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_else(|| panic!("{field} in {}", self.body)).to_owned()
    }
}

/// What a caller sends along.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    Nobody,
    Session { cookie: String, csrf: String },
    Key(String),
}

/// What a controller is told at start.
fn settings() -> Settings {
    Settings {
        secure_cookies: true,
        registry_host: "localhost:6000".into(),
        registry_secure: true,
        private_ca: Some("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into()),
        grace: 86_400,
    }
}

impl Controller {
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = fresh(dir.path()).await;
        Self::with(db, dir, MasterKey::generate(), Clock::manual(1_790_000_000)).await
    }

    /// On `SQLite` in a folder that stays, to be copied.
    pub(crate) async fn open(dir: &std::path::Path, master: MasterKey, clock: Clock) -> Self {
        Self::with(fresh_sqlite(dir).await, tempfile::tempdir().unwrap(), master, clock).await
    }

    /// Over a folder that [`Controller::open`] filled.
    pub(crate) async fn over(dir: tempfile::TempDir, master: MasterKey, clock: Clock) -> Self {
        let db = Db::connect(&format!("sqlite://{}", dir.path().join("test.db").display())).await.unwrap();
        Self::with(db, dir, master, clock).await
    }

    async fn with(db: Db, dir: tempfile::TempDir, master: MasterKey, clock: Clock) -> Self {
        let mut options = Options::new("https://localhost:5001", "wharfinger");
        options.clock = clock.clone();
        options.cost = Cost { memory: 64, passes: 1 };
        let identity = Identity::open(db.clone(), master, options).await.unwrap();
        let wanted = Bootstrap {
            org: "main".parse().unwrap(),
            admin: ADMIN.parse().unwrap(),
            admin_password: Some(Secret::new(PASSWORD)),
            operator: OPERATOR.parse().unwrap(),
            operator_password: Some(Secret::new(PASSWORD)),
        };
        // Nothing where it was done already.
        identity.bootstrap(&wanted).await.unwrap();
        let objects = laid_out(dir.path());
        let router = crate::router(State::new(db.clone(), objects.clone(), identity.clone(), settings()));
        Self { router, clock, db, identity, objects, dir }
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let raw = String::from_utf8_lossy(&bytes).into_owned();
        Reply { status: parts.status, headers: parts.headers, body, raw }
    }

    /// Waits until every event that was noted is in the audit log.
    pub(crate) async fn settle(&self) {
        self.identity.settle().await;
    }

    /// Sends JSON (or nothing, where that is null) to a path below `/api/v1`.
    pub(crate) async fn call(&self, caller: &Caller, method: Method, path: &str, body: &Value) -> Reply {
        self.call_with(caller, method, path, body, &[]).await
    }

    /// As [`Controller::call`], with more headers.
    pub(crate) async fn call_with(
        &self,
        caller: &Caller,
        method: Method,
        path: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("/api/v1{path}"));
        request = match caller {
            Caller::Nobody => request,
            Caller::Session { cookie, csrf } => request.header(header::COOKIE, cookie).header("x-csrf-token", csrf),
            Caller::Key(key) => request.header("x-api-key", key),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() {
            Body::empty()
        } else {
            request = request.header(header::CONTENT_TYPE, "application/json");
            Body::from(body.to_string())
        };
        self.send(request.body(body).unwrap()).await
    }

    /// Looks at a page of the console.
    pub(crate) async fn page(&self, caller: &Caller, path: &str) -> Reply {
        let mut request = Request::get(path);
        if let Caller::Session { cookie, .. } = caller {
            request = request.header(header::COOKIE, cookie);
        }
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Sends a form of the console, with the session's token.
    pub(crate) async fn submit(&self, caller: &Caller, path: &str, fields: &[(&str, &str)]) -> Reply {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.extend_pairs(fields);
        let mut request = Request::post(path).header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Caller::Session { cookie, csrf } = caller {
            request = request.header(header::COOKIE, cookie);
            form.append_pair("csrf", csrf);
        }
        self.send(request.body(Body::from(form.finish())).unwrap()).await
    }

    pub(crate) async fn get(&self, caller: &Caller, path: &str) -> Reply {
        self.call(caller, Method::GET, path, &Value::Null).await
    }

    pub(crate) async fn post(&self, caller: &Caller, path: &str, body: &Value) -> Reply {
        self.call(caller, Method::POST, path, body).await
    }

    pub(crate) async fn try_login(&self, name: &str, password: &str) -> Reply {
        self.post(&Caller::Nobody, "/login", &json!({"username": name, "password": password})).await
    }

    pub(crate) async fn login(&self, name: &str) -> Caller {
        let reply = self.try_login(name, PASSWORD).await.expect(200);
        let cookie = reply.headers[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
        Caller::Session { cookie, csrf: reply.text("csrf_token") }
    }

    /// A repository, as if somebody had pushed to it: with a manifest that the tag `v1` points at.
    pub(crate) async fn push(&self, name: &str) {
        let image = "application/vnd.oci.image.manifest.v1+json";
        self.push_bytes(name, Some("v1"), image, br#"{"schemaVersion":2}"#, None, &[]).await;
    }

    /// As somebody pushed it: a manifest with the blobs that it refers to, which are there. Its digest is returned.
    pub(crate) async fn push_bytes(
        &self,
        name: &str,
        tag: Option<&str>,
        media_type: &str,
        payload: &[u8],
        subject: Option<&str>,
        blobs: &[&str],
    ) -> String {
        let name: RepoName = name.parse().unwrap();
        let mut tx = self.db.begin().await.unwrap();
        let org = orgs::find_by_slug(&mut tx, name.org()).await.unwrap().unwrap();
        let project = projects::find_by_slug(&mut tx, &org.id, name.project()).await.unwrap().unwrap();
        let repository = repositories::ensure(&mut tx, &org.id, &project.id, &name, 1).await.unwrap();
        let (digest, subject) = (digest_of(Algorithm::Sha256, payload), subject.map(|s| s.parse().unwrap()));
        let new = NewManifest {
            digest: &digest,
            media_type,
            payload,
            blobs: blobs.iter().map(|digest| digest.parse().unwrap()).collect(),
            children: Vec::new(),
            subject: subject.as_ref(),
            artifact_type: None,
            annotations: None,
            pushed_by: ADMIN,
            tags: &tag.iter().map(|tag| tag.parse().unwrap()).collect::<Vec<_>>(),
        };
        let put = manifests::put(&mut tx, &repository, &new, 1, 1).await.unwrap();
        assert!(matches!(put, manifests::Put::Stored { .. }), "{put:?}");
        tx.commit().await.unwrap();
        digest.to_string()
    }

    /// As [`Controller::push_bytes`], of JSON whose `mediaType` and `subject` are what it says.
    pub(crate) async fn push_manifest(
        &self,
        name: &str,
        tag: Option<&str>,
        manifest: &Value,
        blobs: &[&str],
    ) -> String {
        let media_type = manifest["mediaType"].as_str().unwrap_or("application/vnd.oci.image.manifest.v1+json");
        let subject = manifest["subject"]["digest"].as_str();
        self.push_bytes(name, tag, media_type, manifest.to_string().as_bytes(), subject, blobs).await
    }

    /// A blob that a repository may read; its digest is returned.
    pub(crate) async fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let name: RepoName = name.parse().unwrap();
        let (digest, key) = (digest_of(Algorithm::Sha256, bytes), storage::names::new_id());
        std::fs::create_dir_all(self.dir.path().join("objects").join(&key[24..])).unwrap();
        let mut writer = self.objects.append(&key, 0).unwrap();
        writer.write(&[axum::body::Bytes::copy_from_slice(bytes)]).unwrap();
        let mut tx = self.db.begin().await.unwrap();
        let org = orgs::find_by_slug(&mut tx, name.org()).await.unwrap().unwrap();
        let project = projects::find_by_slug(&mut tx, &org.id, name.project()).await.unwrap().unwrap();
        let repository = repositories::ensure(&mut tx, &org.id, &project.id, &name, 1).await.unwrap();
        let size = i64::try_from(bytes.len()).unwrap();
        let new = NewBlob { org_id: &org.id, digest: &digest, size, object_key: &key, content: None };
        blobs::create(&mut tx, &new, 1, 1).await.unwrap();
        blobs::link(&mut tx, &repository.id, &org.id, &digest, 1).await.unwrap();
        tx.commit().await.unwrap();
        digest.to_string()
    }

    /// An image with a config and layers that are there; its digest is returned.
    pub(crate) async fn push_image(&self, name: &str, tag: &str, config: &Value, layers: &[&[u8]]) -> String {
        let text = config.to_string();
        let mut all = vec![self.push_blob(name, text.as_bytes()).await];
        let mut described = Vec::new();
        for layer in layers {
            let digest = self.push_blob(name, layer).await;
            described.push(json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest, "size": layer.len()}));
            all.push(digest);
        }
        let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": described,
            "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": all[0], "size": text.len()}});
        let all: Vec<&str> = all.iter().map(String::as_str).collect();
        self.push_manifest(name, Some(tag), &manifest, &all).await
    }

    /// Writes other bytes over those of a blob.
    pub(crate) async fn damage(&self, name: &str, digest: &str) {
        let mut session = self.db.read().await.unwrap();
        let (name, digest) = (name.parse().unwrap(), digest.parse().unwrap());
        let blob = blobs::find(&mut session, &name, &digest).await.unwrap().unwrap();
        let path = self.dir.path().join("objects").join(&blob.object_key[24..]).join(&blob.object_key);
        std::fs::write(&path, vec![b' '; usize::try_from(blob.size).unwrap()]).unwrap();
    }

    /// Another process over the same rows and bytes: what this one remembers, that one does not.
    pub(crate) fn afresh(&self) -> Self {
        let state = State::new(self.db.clone(), self.objects.clone(), self.identity.clone(), settings());
        Self {
            router: crate::router(state),
            clock: self.clock.clone(),
            db: self.db.clone(),
            identity: self.identity.clone(),
            objects: self.objects.clone(),
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// The organization `other` with an admin of its own, who is returned.
    pub(crate) async fn other_org(&self) -> Caller {
        let (slug, name, password) =
            ("other".parse().unwrap(), "boss@other.example".parse().unwrap(), Secret::new(PASSWORD));
        let new = NewOrg { slug: &slug, name: None, admin: Some((&name, Some(&password))) };
        self.identity.create_org(&identity::audit::Caller::server(), &new).await.unwrap();
        self.login("boss@other.example").await
    }

    /// Adds a person, with the password of everybody here, to an organization.
    pub(crate) async fn add(&self, org: &str, name: &str) {
        let org = orgs::find_by_slug(&mut self.db.read().await.unwrap(), org).await.unwrap().unwrap();
        let (name, password) = (name.parse().unwrap(), Secret::new(PASSWORD));
        let new = NewUser { name: &name, kind: UserKind::Local, password: Some(&password) };
        self.identity.add_user(&identity::audit::Caller::server(), &org.id, &new).await.unwrap();
    }

    /// A member of `main` with a role, who is returned.
    pub(crate) async fn member(&self, name: &str, role: Option<(&str, Option<&str>)>) -> Caller {
        self.add("main", name).await;
        if let Some((role, project)) = role {
            let admin = self.login(ADMIN).await;
            let body = json!({"user": name, "role": role, "project": project});
            self.post(&admin, "/orgs/main/bindings", &body).await.expect(201);
        }
        self.login(name).await
    }

    /// The mails that went out since the last time, oldest first.
    pub(crate) async fn mails(&self) -> Vec<Letter> {
        let mut letters = Vec::new();
        for mail in self.identity.claim_mails(500).await.unwrap() {
            self.identity.mail_delivered(&mail.id).await.unwrap();
            letters.push(mail.letter);
        }
        letters
    }

    /// The next mail, which must be to that address; it may be written a moment after the answer.
    pub(crate) async fn mail_to(&self, name: &str) -> Letter {
        for _ in 0..200 {
            if let Some(letter) = self.mails().await.pop() {
                assert_eq!(letter.to, name, "{}", letter.text);
                return letter;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("no mail to {name}");
    }
}

/// A byte store that says it is laid out, without the thousand folders of one that is: they are made as they are needed.
fn laid_out(dir: &std::path::Path) -> Objects {
    std::fs::write(dir.join("LAYOUT"), "1\n").unwrap();
    Objects::open(dir.to_str().unwrap()).unwrap()
}

/// The temporary password that a mail tells.
pub(crate) fn temporary_password(letter: &Letter) -> String {
    let line = letter.text.lines().find(|line| line.contains("Temporary password:")).unwrap();
    line.split_whitespace().last().unwrap().to_owned()
}

/// The secret of the link in a mail.
pub(crate) fn token(letter: &Letter) -> String {
    letter.text.split("#token=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned()
}

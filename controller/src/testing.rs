//! The whole router over a fresh database, and callers to drive it with.
#![allow(clippy::unwrap_used)]

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode, header};
use http_body_util::BodyExt;
use identity::bootstrap::Bootstrap;
use identity::password::Cost;
use identity::{Identity, MasterKey, Options, Secret};
use serde_json::{Value, json};
use storage::db::testing::{fresh, fresh_sqlite};
use storage::digest::digest_of;
use storage::manifests::{self, NewManifest};
use storage::names::{Algorithm, RepoName};
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
    _dir: tempfile::TempDir,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
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
        let router = crate::router(State::new(db.clone(), identity, Settings { secure_cookies: true }));
        Self { router, clock, db, _dir: dir }
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        let (parts, body) = self.router.clone().oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Reply { status: parts.status, headers: parts.headers, body }
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
        let name: RepoName = name.parse().unwrap();
        let mut tx = self.db.begin().await.unwrap();
        let org = orgs::find_by_slug(&mut tx, name.org()).await.unwrap().unwrap();
        let project = projects::find_by_slug(&mut tx, &org.id, name.project()).await.unwrap().unwrap();
        let repository = repositories::ensure(&mut tx, &org.id, &project.id, &name, 1).await.unwrap();
        let payload = br#"{"schemaVersion":2}"#;
        let new = NewManifest {
            digest: &digest_of(Algorithm::Sha256, payload),
            media_type: "application/vnd.oci.image.manifest.v1+json",
            payload,
            blobs: Vec::new(),
            children: Vec::new(),
            subject: None,
            artifact_type: None,
            annotations: None,
            pushed_by: ADMIN,
            tags: &["v1".parse().unwrap()],
        };
        manifests::put(&mut tx, &repository, &new, 1, 1).await.unwrap();
        tx.commit().await.unwrap();
    }

    /// The organization `other` with an admin of its own, who is returned.
    pub(crate) async fn other_org(&self) -> Caller {
        let operator = self.login(OPERATOR).await;
        let body = json!({"slug": "other", "admin": {"email": "boss@other.example", "password": PASSWORD}});
        self.post(&operator, "/orgs", &body).await.expect(201);
        self.login("boss@other.example").await
    }

    /// A member of `main` with a role, who is returned.
    pub(crate) async fn member(&self, name: &str, role: Option<(&str, Option<&str>)>) -> Caller {
        let admin = self.login(ADMIN).await;
        let body = json!({"name": name, "kind": "local", "password": PASSWORD});
        self.post(&admin, "/orgs/main/users", &body).await.expect(201);
        if let Some((role, project)) = role {
            let body = json!({"user": name, "role": role, "project": project});
            self.post(&admin, "/orgs/main/bindings", &body).await.expect(201);
        }
        self.login(name).await
    }
}

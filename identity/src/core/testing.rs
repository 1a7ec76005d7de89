//! An identity core on a fresh database, with a clock that is moved by hand.
#![allow(clippy::unwrap_used)]

use storage::{Clock, Db, memberships, orgs, projects};
use tempfile::TempDir;

use super::{Identity, Options};
use crate::MasterKey;
use crate::admin::{NewApiKey, NewBinding, NewUser, UserKind};
use crate::audit::Caller;
use crate::bootstrap::Bootstrap;
use crate::password::Cost;
use crate::rbac::{Grant, Principal, Role};
use crate::secret::Secret;
use storage::bindings::Subject;

/// The password of everybody here.
pub(crate) const PASSWORD: &str = "a quiet harbour";

pub(crate) struct Testing {
    pub(crate) identity: Identity,
    pub(crate) db: Db,
    pub(crate) options: Options,
    master: MasterKey,
    _dir: TempDir,
}

pub(crate) fn bootstrap() -> Bootstrap {
    Bootstrap {
        org: "main".parse().unwrap(),
        admin: "admin@localhost".parse().unwrap(),
        admin_password: Some(PASSWORD.into()),
        operator: "operator@localhost".parse().unwrap(),
        operator_password: Some(PASSWORD.into()),
    }
}

pub(crate) async fn empty_identity() -> Testing {
    let dir = tempfile::tempdir().unwrap();
    let db = storage::db::testing::fresh(dir.path()).await;
    let master = MasterKey::generate();
    let mut options = Options::new("https://auth.test", "wharfinger");
    options.cost = Cost { memory: 64, passes: 1 };
    options.hash_jobs = 2;
    options.clock = Clock::manual(1_800_000_000);
    let identity = Identity::open(db.clone(), master.clone(), options.clone()).await.unwrap();
    Testing { identity, db, options, master, _dir: dir }
}

/// With organization `main`, its admin `admin@localhost`, and `operator@localhost`.
pub(crate) async fn identity() -> Testing {
    let testing = empty_identity().await;
    testing.identity.bootstrap(&bootstrap()).await.unwrap().unwrap();
    testing
}

impl Testing {
    pub(crate) fn now(&self) -> i64 {
        self.identity.now()
    }

    pub(crate) fn advance(&self, seconds: i64) {
        self.options.clock.advance(seconds);
    }

    pub(crate) async fn another_process(&self) -> Identity {
        Identity::open(self.db.clone(), self.master.clone(), self.options.clone()).await.unwrap()
    }

    /// Another process, whose operator lets trusted issuers be on this machine.
    pub(crate) async fn allowing_private_issuers(&self) -> Identity {
        let options = Options { federation_allow_private: true, ..self.options.clone() };
        Identity::open(self.db.clone(), self.master.clone(), options).await.unwrap()
    }

    pub(crate) async fn anonymous_token(&self) -> String {
        self.identity.issue(None, &[]).await.unwrap().token
    }

    pub(crate) async fn org(&self, slug: &str) -> String {
        orgs::find_by_slug(&mut self.db.read().await.unwrap(), slug).await.unwrap().unwrap().id
    }

    pub(crate) async fn project(&self, org: &str, slug: &str) -> String {
        projects::find_by_path(&mut self.db.read().await.unwrap(), org, slug).await.unwrap().unwrap().id
    }

    pub(crate) async fn user(&self, name: &str) -> String {
        let row = storage::users::row_name(name, &self.org("main").await);
        storage::users::find_by_name(&mut self.db.read().await.unwrap(), &row).await.unwrap().unwrap().id
    }

    /// Adds a person to `main`.
    pub(crate) async fn add(&self, name: &str) -> String {
        let (name, password) = (name.parse().unwrap(), Secret::new(PASSWORD));
        let new = NewUser { name: &name, kind: UserKind::Local, password: Some(&password) };
        self.identity.add_user(&Caller::server(), &self.org("main").await, &new).await.unwrap().member.user_id
    }

    /// Gives a role in `main`, by somebody who may give any; returns the binding's id.
    pub(crate) async fn give(&self, user_id: &str, role: &str, project: Option<&str>) -> String {
        let org_id = self.org("main").await;
        let new = NewBinding {
            org_id: &org_id,
            subject: Subject::User(user_id),
            role: &Role::find(role).unwrap().into(),
            project_id: project,
            namespaces: &[],
        };
        let admin = Grant {
            binding_id: "test".into(),
            org_id: org_id.clone(),
            org: "main".into(),
            role: Role::find(Role::ORGANIZATION_ADMIN).unwrap().into(),
            project_id: None,
            project: None,
            namespaces: Vec::new(),
            group: None,
        };
        let giver = Principal { user_id: "test".into(), grants: vec![admin], ..Principal::nobody("test") };
        self.identity.create_binding(&Caller::of(giver.into()), &new).await.unwrap().id
    }

    /// Makes an API key in `main`; returns its id and the key.
    pub(crate) async fn key_of(&self, name: &str) -> (String, Secret) {
        let (org_id, user_id) = (self.org("main").await, self.user(name).await);
        let new = NewApiKey {
            org_id: &org_id,
            user_id: &user_id,
            name: "test",
            valid_days: Some(1),
            projects: None,
            permissions: None,
        };
        let made = self.identity.create_api_key(&Caller::server(), &new).await.unwrap();
        (made.row.id, made.key)
    }

    pub(crate) async fn deactivate(&self, user_id: &str) {
        let org = self.org("main").await;
        assert!(memberships::find(&mut self.db.read().await.unwrap(), &org, user_id).await.unwrap().is_some());
        self.identity.set_active(&Caller::server(), &org, user_id, false).await.unwrap();
    }

    pub(crate) async fn keep_audit_for(&self, org_id: &str, days: i64) {
        let mut tx = self.db.begin().await.unwrap();
        let mut settings = orgs::settings(&mut tx, org_id).await.unwrap();
        settings.audit_days = Some(days);
        orgs::update_settings(&mut tx, org_id, &settings, None).await.unwrap();
        tx.commit().await.unwrap();
    }
}

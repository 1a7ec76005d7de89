//! The live rights of a user: read from the rows, remembered for half a second at most, and dropped at once in the process
//! that changes them. That is how a revocation is felt everywhere within a second, by tokens already issued too.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use moka::sync::Cache;
use storage::api_keys::{self, ApiKey};
use storage::bindings::{Binding, Held};
use storage::names::RepoName;
use storage::users::User;
use storage::{bindings, custom_roles, memberships, orgs, passkeys, totp, users};

use crate::core::Identity;
use crate::keys::KeysError;
use crate::master::{MacKey, MasterKey};
use crate::mfa::Factors;
use crate::places::Place;
use crate::policy::Policy;
use crate::rbac::{CustomRole, Given, Grant, Narrowing, Permission, Principal, Role};
use crate::scope::Scope;
use crate::token::{Bearer, BearerError, Claims, Epochs, check_times};

/// A user with everything that their rights are made of.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(crate) user: User,
    /// Ids of the organizations in which the user is active.
    pub(crate) orgs: Vec<String>,
    grants: Vec<Grant>,
    /// What these organizations ask.
    pub(crate) policy: Policy,
    /// The user's second factors.
    pub(crate) factors: Factors,
}

impl Subject {
    pub(crate) fn epochs(&self) -> Epochs {
        Epochs { user: self.user.epoch, grants: self.user.grants_epoch }
    }

    /// Whether the user may get in anywhere at all.
    pub(crate) fn is_alive(&self) -> bool {
        self.user.operator || !self.orgs.is_empty()
    }

    /// Whether the registry's door, which cannot ask for a second factor, takes only API keys of the user.
    pub(crate) fn needs_api_key(&self) -> bool {
        self.user.kind == "local" && (self.factors.any() || self.policy.mfa_required)
    }

    /// Whether the user must enrol a second factor before anything else.
    pub(crate) fn must_enrol(&self) -> bool {
        self.user.kind == "local" && self.policy.mfa_required && !self.factors.any()
    }

    /// The user with their rights; by an API key, with no more than that carries.
    pub(crate) fn principal(&self, key: Option<&ApiKey>) -> Principal {
        let whole = self.rights_in(key.map(|key| key.org_id.as_str()));
        Principal { narrowing: key.map(narrowing).unwrap_or_default(), ..whole }
    }

    /// The user with their rights, by a credential of one organization if one is named.
    pub(crate) fn rights_in(&self, org: Option<&str>) -> Principal {
        let grants = self.grants.iter().filter(|grant| org.is_none_or(|org| grant.org_id == org));
        Principal {
            user_id: self.user.id.clone(),
            name: self.user.shown_name().to_owned(),
            machine: self.user.kind == "machine",
            operator: self.user.operator && org.is_none(),
            key_org: org.map(ToOwned::to_owned),
            narrowing: Narrowing::default(),
            grants: grants.cloned().collect(),
        }
    }
}

/// A token whose signature was found right.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) claims: Claims,
    /// What they say to whoever asks who calls.
    bearer: Arc<Bearer>,
    /// The key that signed it.
    kid: String,
}

impl Checked {
    pub(crate) fn new(claims: Claims, kid: String) -> Self {
        Self { bearer: Arc::new(Bearer::from(&claims)), claims, kid }
    }
}

/// What a key was narrowed to. What cannot be read is nothing: such a key opens nothing.
fn narrowing(key: &ApiKey) -> Narrowing {
    let list = |text: &Option<String>| -> Option<Vec<String>> {
        text.as_ref().map(|text| serde_json::from_str(text).unwrap_or_default())
    };
    Narrowing {
        projects: list(&key.projects),
        permissions: list(&key.permissions)
            .map(|names| names.iter().filter_map(|name| name.parse::<Permission>().ok()).collect()),
    }
}

/// What is remembered for a moment, and keys that are derived once.
pub(crate) struct Caches {
    subjects: Cache<String, Option<Arc<Subject>>>,
    keys: Cache<String, Option<Arc<ApiKey>>>,
    /// By `org/project`.
    pub(crate) places: Cache<String, Arc<Place>>,
    /// Names, by hash, that no failed log-in is counted against.
    pub(crate) unfailed: Cache<[u8; 32], ()>,
    macs: RwLock<HashMap<&'static str, MacKey>>,
}

impl Caches {
    pub(crate) fn new(ttl: Duration) -> Self {
        Self {
            subjects: Cache::builder().max_capacity(50_000).time_to_live(ttl).build(),
            keys: Cache::builder().max_capacity(50_000).time_to_live(ttl).build(),
            places: Cache::builder().max_capacity(50_000).time_to_live(ttl).build(),
            unfailed: Cache::builder().max_capacity(50_000).time_to_live(ttl).build(),
            macs: RwLock::default(),
        }
    }

    pub(crate) fn mac_key(&self, purpose: &'static str, master: &MasterKey) -> MacKey {
        if let Some(key) = self.macs.read().unwrap_or_else(PoisonError::into_inner).get(purpose) {
            return key.clone();
        }
        let mut macs = self.macs.write().unwrap_or_else(PoisonError::into_inner);
        macs.entry(purpose).or_insert_with(|| master.mac_key(purpose)).clone()
    }
}

/// Custom roles by their ids. One that cannot be read gives nothing.
fn compile(rows: &[custom_roles::CustomRole]) -> HashMap<String, Arc<CustomRole>> {
    let mut roles = HashMap::new();
    for row in rows {
        match CustomRole::read(row) {
            Ok(role) => {
                roles.insert(row.id.clone(), Arc::new(role));
            }
            Err(error) => tracing::warn!(role = row.id, %error, "a custom role cannot be read"),
        }
    }
    roles
}

fn grant(row: Held, custom: &HashMap<String, Arc<CustomRole>>) -> Option<Grant> {
    let Held { binding, org } = row;
    let role = match Role::find(&binding.role) {
        Some(role) => Given::Base(role),
        None => {
            let Some(role) = custom.get(&binding.role).filter(|_| binding.role_name.is_some()) else {
                tracing::warn!(binding.id, binding.role, "a binding names a role that does not exist");
                return None;
            };
            Given::Custom(Arc::clone(role))
        }
    };
    Some(Grant {
        binding_id: binding.id,
        org_id: binding.org_id,
        org,
        role,
        project_id: binding.project_id,
        project: binding.project,
        namespaces: binding.namespaces,
        group: binding.group,
    })
}

impl Identity {
    /// The rights of a user at this moment, by an API key of theirs if one is named; at most half a second old. `None`
    /// where the user may not get in anywhere, or the key has ended.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn principal(&self, user: &str, key: Option<&str>) -> storage::Result<Option<Arc<Principal>>> {
        let Some(subject) = self.subject(user).await?.filter(|subject| subject.is_alive()) else { return Ok(None) };
        let Some(key) = key else { return Ok(Some(Arc::new(subject.principal(None)))) };
        let key = self.counting_key(key, &subject).await?;
        Ok(key.map(|key| Arc::new(subject.principal(Some(&key)))))
    }

    /// A user's epochs, at most half a second old; `None` where there is no such user, or one who may not get in anywhere.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn epochs(&self, user: &str) -> storage::Result<Option<Epochs>> {
        Ok(self.subject(user).await?.filter(|subject| subject.is_alive()).map(|subject| subject.epochs()))
    }

    /// Checks an access token: signature (remembered until it ends), issuer, audience, times, then the user's epochs, and
    /// that what was granted because it is public still is.
    ///
    /// # Errors
    /// [`BearerError`].
    pub async fn verify_bearer(&self, token: &str) -> Result<Arc<Bearer>, BearerError> {
        let checked = self.check_signature(token).await?;
        let bearer = Arc::clone(&checked.bearer);
        if self.still_counts(&checked.claims).await.map_err(BearerError::Unavailable)? {
            Ok(bearer)
        } else {
            Err(BearerError::Revoked(bearer))
        }
    }

    // Asked by every request: the rights are put together only where they are looked at.
    async fn still_counts(&self, claims: &Claims) -> storage::Result<bool> {
        if let Some(user) = &claims.uid {
            let Some(subject) = self.subject(user).await?.filter(|subject| subject.is_alive()) else {
                return Ok(false);
            };
            let (now, Some(then)) = (subject.epochs(), claims.ep) else { return Ok(false) };
            if now.user != then.user {
                return Ok(false);
            }
            // Rights that moved need not be these, and another organization's admin may move them at will: look again. A key's
            // maker has epochs of their own; and what a key is narrowed to may be gone, and another project go by its name,
            // without any epoch moving.
            let key = match &claims.key {
                None => None,
                Some(key) => match self.counting_key(key, &subject).await? {
                    None => return Ok(false),
                    counting => counting,
                },
            };
            let narrowed = key.as_ref().is_some_and(|key| key.projects.is_some());
            if (now != then || narrowed)
                && !Box::pin(self.still_granted(&subject.principal(key.as_deref()), claims)).await?
            {
                return Ok(false);
            }
        }
        for name in &claims.open {
            if !self.is_public(name).await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether a token's holder would be granted now what the token grants.
    async fn still_granted(&self, who: &Principal, claims: &Claims) -> storage::Result<bool> {
        let scopes: Vec<Scope> = claims
            .access
            .iter()
            .filter(|access| !access.actions.is_empty())
            .map(|a| Scope { kind: a.kind.clone(), name: a.name.clone(), actions: a.actions.clone() })
            .collect();
        let (now, _) = self.grant(Some(who), &scopes).await?;
        Ok(now.len() == scopes.len() && scopes.iter().zip(&now).all(|(then, now)| then.actions == now.actions))
    }

    async fn check_signature(&self, token: &str) -> Result<Arc<Checked>, BearerError> {
        let now = self.now();
        let hash = crate::secret::sha256(token);
        let ring = self.ring();
        if let Some(known) = self.0.checked.get(&hash)
            && ring.verifier.knows(&known.kid)
        {
            check_times(&known.claims, now)?;
            return Ok(known);
        }
        let (claims, kid) = match ring.verifier.verify(token, now) {
            // Another process may have made the key. A flood of made-up keys reads the ring once a second, no more.
            Err(BearerError::UnknownKey) if self.0.ring_missed_at.swap(now, Ordering::Relaxed) != now => {
                self.reload_keys().await.map_err(|error| {
                    tracing::error!(%error, "cannot read the signing keys");
                    match error {
                        KeysError::Storage(error) => BearerError::Unavailable(error),
                        _ => BearerError::UnknownKey,
                    }
                })?;
                self.ring().verifier.verify(token, now)?
            }
            checked => checked?,
        };
        let checked = Arc::new(Checked::new(claims, kid));
        self.0.checked.insert(hash, Arc::clone(&checked));
        Ok(checked)
    }

    /// A user with their rights, at most half a second old.
    pub(crate) async fn subject(&self, user: &str) -> storage::Result<Option<Arc<Subject>>> {
        if let Some(known) = self.0.caches.subjects.get(user) {
            return Ok(known);
        }
        let generation = self.0.generation.load(Ordering::SeqCst);
        let subject = self.read_subject(user).await?.map(Arc::new);
        // What was read while somebody changed it is used once, not kept.
        if self.0.generation.load(Ordering::SeqCst) == generation {
            self.0.caches.subjects.insert(user.to_owned(), subject.clone());
        }
        Ok(subject)
    }

    /// As [`Identity::subject`], but no older than this row of the user.
    pub(crate) async fn subject_at(&self, user: &User) -> storage::Result<Option<Arc<Subject>>> {
        let known = self.subject(&user.id).await?;
        if known.as_ref().is_some_and(|s| (s.user.epoch, s.user.grants_epoch) == (user.epoch, user.grants_epoch)) {
            return Ok(known);
        }
        // Another process changed it.
        self.forget(&user.id);
        self.subject(&user.id).await
    }

    async fn read_subject(&self, id: &str) -> storage::Result<Option<Subject>> {
        let mut session = self.db().read().await?;
        // The epochs first: rights read after them can only be younger.
        let Some(user) = users::find(&mut session, id).await? else { return Ok(None) };
        let active = memberships::active_orgs(&mut session, id).await?;
        let rows = bindings::list_active_of_user(&mut session, id).await?;
        // Most people have none.
        let own = match rows.iter().any(|row| row.binding.role_name.is_some()) {
            true => custom_roles::list_of_user(&mut session, id).await?,
            false => Vec::new(),
        };
        let custom = compile(&own);
        let grants = rows.into_iter().filter_map(|row| grant(row, &custom)).collect();
        let settings = orgs::settings_of_user(&mut session, id).await?;
        let policy = Policy::strictest(&settings, self.0.options.lockout);
        let factors = Factors {
            totp: totp::find(&mut session, id).await?.is_some_and(|totp| totp.confirmed_at.is_some()),
            passkeys: !passkeys::list_of_user(&mut session, id, 1).await?.is_empty(),
        };
        Ok(Some(Subject { user, orgs: active, grants, policy, factors }))
    }

    /// The bindings that a member of an organization has there, whether they count now or not: at most `limit` after the id
    /// `after`, with the rows that they were made of.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn grants_of_member(
        &self,
        org_id: &str,
        user_id: &str,
        after: &str,
        limit: i64,
    ) -> storage::Result<Vec<(Grant, Binding)>> {
        let mut session = self.db().read().await?;
        let rows = bindings::list_of_member(&mut session, org_id, user_id, after, limit).await?;
        let custom = compile(&custom_roles::list_of_user(&mut session, user_id).await?);
        let both = |row: Held| grant(row.clone(), &custom).map(|grant| (grant, row.binding));
        Ok(rows.into_iter().filter_map(both).collect())
    }

    /// The role that bindings of an organization know by this key: a base role's token, or a custom role's id.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn role_of(&self, org_id: &str, key: &str) -> storage::Result<Option<Given>> {
        if let Some(role) = Role::find(key) {
            return Ok(Some(role.into()));
        }
        let row = custom_roles::find(&mut self.db().read().await?, org_id, key).await?;
        Ok(row.and_then(|row| CustomRole::read(&row).ok()).map(|role| Given::Custom(Arc::new(role))))
    }

    /// An API key that has not ended, at most half a second old.
    pub(crate) async fn live_key(&self, id: &str) -> storage::Result<Option<Arc<ApiKey>>> {
        let found = match self.0.caches.keys.get(id) {
            Some(known) => known,
            None => {
                let generation = self.0.generation.load(Ordering::SeqCst);
                let row = api_keys::find(&mut self.db().read().await?, id).await?.map(Arc::new);
                // Made-up ids must not push real keys out.
                if row.is_some() && self.0.generation.load(Ordering::SeqCst) == generation {
                    self.0.caches.keys.insert(id.to_owned(), row.clone());
                }
                row
            }
        };
        let now = self.now();
        Ok(found.filter(|key| key.expires_at.is_none_or(|end| end > now)))
    }

    /// An API key that has not ended, where it is this user's and counts.
    async fn counting_key(&self, id: &str, owner: &Subject) -> storage::Result<Option<Arc<ApiKey>>> {
        let Some(key) = self.live_key(id).await?.filter(|key| key.user_id == owner.user.id) else { return Ok(None) };
        Ok(if self.key_counts(&key, owner).await? { Some(key) } else { None })
    }

    /// Whether a key of this user counts at this moment. One that somebody else made for a person does so only while its maker
    /// is an active member of the organization, with every right that the person has there: else the key would grow with its
    /// user beyond its maker, and outlive the maker's time. A machine's key does not die with who made it.
    pub(crate) async fn key_counts(&self, key: &ApiKey, owner: &Subject) -> storage::Result<bool> {
        if !owner.orgs.contains(&key.org_id) {
            return Ok(false);
        }
        let made = key.created_by.as_deref().filter(|maker| !maker.is_empty() && *maker != key.user_id);
        let Some(maker) = made.filter(|_| owner.user.kind == "local") else { return Ok(true) };
        let Some(maker) = self.subject(maker).await?.filter(|maker| maker.orgs.contains(&key.org_id)) else {
            return Ok(false);
        };
        Ok(maker.rights_in(None).covers(&owner.rights_in(Some(&key.org_id))).is_ok())
    }

    /// Whether a repository lies in a public project, at most half a second old.
    async fn is_public(&self, repository: &str) -> storage::Result<bool> {
        let Ok(name) = repository.parse::<RepoName>() else { return Ok(false) };
        Ok(self.place(&name).await?.is_some_and(|place| place.public))
    }

    /// Drops what this process remembers of a user. To be called after every committed change of their rights.
    pub(crate) fn forget(&self, user: &str) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.caches.subjects.invalidate(user);
    }

    /// Drops what this process remembers of a name that was typed.
    pub(crate) fn forget_unfailed(&self, name_hash: &[u8; 32]) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.caches.unfailed.invalidate(name_hash);
    }

    /// Drops what this process remembers of an API key.
    pub(crate) fn forget_key(&self, key: &str) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.caches.keys.invalidate(key);
    }

    /// Drops what this process remembers of anybody: after changes that many may feel.
    pub(crate) fn forget_everything(&self) {
        self.0.generation.fetch_add(1, Ordering::SeqCst);
        self.0.caches.subjects.invalidate_all();
        self.0.caches.keys.invalidate_all();
        self.0.caches.places.invalidate_all();
        self.0.caches.unfailed.invalidate_all();
    }
}

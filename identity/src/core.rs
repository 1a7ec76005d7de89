//! [`Identity`]: rows, keys and caches joined. One value for all doors of a process; cheap to clone.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use moka::sync::Cache;
use storage::login_failures::LockoutRule;
use storage::{
    Clock, Db, challenges, device_grants, idempotency, login_failures, mails, refresh_tokens, sessions, signing_keys,
};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::audit::PullEvents;
use crate::audit::journal::Journal;
use crate::federation::Federation;
use crate::keys::{KeysError, Ring};
use crate::limits::Limits;
use crate::login::{RightPassword, Turns};
use crate::master::{MacKey, MasterKey, OpenSealedError};
use crate::password::{Busy, Cost, Hasher};
use crate::principal::{Caches, Checked};
use crate::rbac::{Role, RolesError};

/// Refresh tokens that nobody used for this long are forgotten (180 days).
const REFRESH_UNUSED: i64 = 180 * 86_400;
/// Seconds between two rounds of tidying.
const PURGE_EVERY: i64 = 600;
/// How long a password that was found right is remembered.
const REMEMBER: Duration = Duration::from_secs(60);

/// How many may ask for a new password at the same moment.
const RESETS: usize = 32;
/// How long it is remembered that a visit was noted.
const VISITS: Duration = Duration::from_secs(600);

/// Bytes of checked tokens that are remembered. Anybody can have tokens that name many repositories.
pub(crate) const CHECKED_BYTES: u64 = 16 << 20;

/// What [`Identity`] can be told.
#[derive(Debug, Clone)]
pub struct Options {
    /// `iss` of access tokens.
    pub issuer: String,
    /// `aud` of access tokens: the registry's `service`.
    pub service: String,
    /// URL that people reach the controller at: mails point there.
    pub controller_url: String,
    /// Life of an access token in seconds, at least 60.
    pub token_lifetime: i64,
    /// Longest life of a session in seconds.
    pub session_lifetime: i64,
    /// Life of a temporary password in seconds.
    pub temporary_password_lifetime: i64,
    /// When failed log-ins lock a name.
    pub lockout: LockoutRule,
    /// What one password hash costs.
    pub cost: Cost,
    /// How many password hashes run at a time; by default one core is left to everything else.
    pub hash_jobs: usize,
    /// How long rights are remembered before they are read again.
    pub rights_for: Duration,
    /// Whether trusted issuers may be in the server's own networks, and be asked without TLS there.
    pub federation_allow_private: bool,
    /// How the audit log tells of pulls.
    pub pull_events: PullEvents,
    /// The clock.
    pub clock: Clock,
}

impl Options {
    /// The defaults, for an issuer and a service.
    #[must_use]
    pub fn new(issuer: impl Into<String>, service: impl Into<String>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            issuer: issuer.into(),
            service: service.into(),
            controller_url: "https://localhost".into(),
            token_lifetime: 300,
            session_lifetime: 86_400,
            temporary_password_lifetime: 72 * 3600,
            lockout: LockoutRule { failures: 5, window: 900 },
            cost: Cost::default(),
            hash_jobs: cores.saturating_sub(1).max(1),
            rights_for: Duration::from_millis(500),
            federation_allow_private: false,
            pull_events: PullEvents::Each,
            clock: Clock::System,
        }
    }
}

/// Why [`Identity::open`] failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The signing keys could not be read.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The role matrix could not be read.
    #[error(transparent)]
    Roles(#[from] RolesError),
    /// The cost of a password hash is out of range.
    #[error("the cost of password hashes is out of range: {0}")]
    Cost(argon2::Error),
}

/// Who may do what, live.
#[derive(Clone)]
pub struct Identity(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) db: Db,
    pub(crate) master: MasterKey,
    pub(crate) options: Options,
    pub(crate) ring: RwLock<Arc<Ring>>,
    /// When an unknown key last made us read the ring again.
    pub(crate) ring_missed_at: AtomicI64,
    pub(crate) hasher: Hasher,
    pub(crate) caches: Caches,
    /// Passwords found right a moment ago, with the names that were typed, under a key that only this process has.
    pub(crate) remembered: Cache<[u8; 32], Arc<RightPassword>>,
    pub(crate) remember_key: MacKey,
    pub(crate) turns: Turns,
    /// How often somebody may try.
    pub(crate) limits: Limits,
    /// What is known of trusted issuers.
    pub(crate) federation: Federation,
    /// Passkey ceremonies, where the controller has a name.
    pub(crate) webauthn: Option<webauthn_rs::Webauthn>,
    /// Mails to whoever forgot their password that may be written at a time.
    pub(crate) resets: Arc<Semaphore>,
    /// Who came to which organization by which door, and when that was last noted.
    pub(crate) visits: Cache<(String, String, &'static str), i64>,
    /// Tokens whose signature was checked, by hash.
    pub(crate) checked: Cache<[u8; 32], Arc<Checked>>,
    pub(crate) generation: AtomicU64,
    pub(crate) journal: Journal,
    purged_at: AtomicI64,
}

impl Identity {
    /// Opens the identity core on a migrated database, making the first signing key where there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(db: Db, master: MasterKey, mut options: Options) -> Result<Self, OpenError> {
        Role::check()?;
        // Clients treat anything below a minute as a minute (Docker token specification, "expires_in").
        options.token_lifetime = options.token_lifetime.max(60);
        let hasher = Hasher::new(options.cost, options.hash_jobs).map_err(OpenError::Cost)?;
        let token_life = Duration::from_secs(options.token_lifetime.unsigned_abs() + 120);
        let identity = Self(Arc::new(Inner {
            ring: RwLock::new(Arc::new(Self::empty_ring(&options.issuer, &options.service))),
            ring_missed_at: AtomicI64::new(i64::MIN),
            hasher,
            caches: Caches::new(options.rights_for),
            remembered: Cache::builder().max_capacity(20_000).time_to_live(REMEMBER).build(),
            remember_key: MacKey::ephemeral(),
            turns: Turns::default(),
            limits: Limits::default(),
            federation: Federation::new(options.federation_allow_private),
            webauthn: crate::mfa::passkey::ceremonies(&options.controller_url),
            resets: Arc::new(Semaphore::new(RESETS)),
            visits: Cache::builder().max_capacity(50_000).time_to_live(VISITS).build(),
            checked: Cache::builder()
                .max_capacity(CHECKED_BYTES)
                .weigher(|_, checked: &Arc<Checked>| checked.claims.weight())
                .time_to_live(token_life)
                .build(),
            generation: AtomicU64::new(0),
            journal: Journal::default(),
            purged_at: AtomicI64::new(0),
            db,
            master,
            options,
        }));
        identity.reload_keys().await?;
        Ok(identity)
    }

    /// What a process does every few seconds: reads the signing keys again, replaces one that has grown old, and now and
    /// then forgets sessions, refresh tokens, failures and keys that no longer count.
    ///
    /// # Errors
    /// What the database or the keys said; the next call tries again.
    pub async fn tick(&self) -> Result<(), KeysError> {
        self.0.hasher.rest();
        let now = self.now();
        let last = self.0.purged_at.load(Ordering::Relaxed);
        if last + PURGE_EVERY <= now || last > now {
            self.0.purged_at.store(now, Ordering::Relaxed);
            self.purge(now).await?;
            self.tell_of_ending_keys().await?;
        }
        self.reload_keys().await?;
        self.rotate_keys_if_due().await
    }

    async fn purge(&self, now: i64) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        sessions::purge(&mut tx, now).await?;
        challenges::purge(&mut tx, now).await?;
        device_grants::purge(&mut tx, now).await?;
        refresh_tokens::purge(&mut tx, now - REFRESH_UNUSED).await?;
        login_failures::purge(&mut tx, self.0.options.lockout, now).await?;
        signing_keys::purge(&mut tx, now).await?;
        idempotency::purge(&mut tx, now).await?;
        mails::purge(&mut tx, now - crate::mail::KEEP).await?;
        tx.commit().await
    }

    /// The time by the one clock (unix seconds).
    #[must_use]
    pub fn now(&self) -> i64 {
        self.0.options.clock.now()
    }

    /// The time by the one clock (unix milliseconds).
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.0.options.clock.now_ms()
    }

    /// For how long the temporary password of an invitation lets in (seconds).
    #[must_use]
    pub fn invitation_lifetime(&self) -> i64 {
        self.0.options.temporary_password_lifetime
    }

    /// Where people reach the controller.
    #[must_use]
    pub fn controller_url(&self) -> &str {
        &self.0.options.controller_url
    }

    /// How long one password hash takes on this machine, to be told at start.
    ///
    /// # Errors
    /// [`Busy`] where it cannot be computed now.
    pub async fn measure_hash(&self) -> Result<Duration, Busy> {
        self.0.hasher.measure().await
    }

    /// What one password hash costs.
    #[must_use]
    pub fn hash_cost(&self) -> Cost {
        self.0.options.cost
    }

    /// `aud` of access tokens: the registry's `service`.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.0.options.service
    }

    /// HMAC-SHA256 under a key derived from the master key for this purpose: the same in every process.
    #[must_use]
    pub fn mac(&self, purpose: &'static str, data: &[u8]) -> [u8; 32] {
        self.0.caches.mac_key(purpose, &self.0.master).mac(data)
    }

    /// Encrypts under a key of the master key for this purpose; the same `context` opens it again ([`Identity::unseal`]).
    #[must_use]
    pub fn seal(&self, purpose: &str, context: &str, plain: &[u8]) -> String {
        BASE64.encode(self.0.master.seal(purpose, context, plain))
    }

    /// Opens what [`Identity::seal`] made.
    ///
    /// # Errors
    /// [`OpenSealedError`] for another key, purpose or context, and for text that was changed.
    pub fn unseal(&self, purpose: &str, context: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, OpenSealedError> {
        self.0.master.open(purpose, context, &BASE64.decode(sealed).map_err(|_| OpenSealedError)?)
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("issuer", &self.0.options.issuer).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod testing;

//! THE log-in sequence. Every door goes through it: console, `docker login`, REST.
//!
//! Known and unknown names get the same answers in the same time: the name is looked up, a hash is computed (a dummy's where
//! there is nobody), the failure is counted by the name that was typed. Five failures in a row within 15 minutes lock the
//! name for passwords at every door. API keys are neither locked nor counted: 256 random bits cannot be guessed, and
//! otherwise anybody could stop a company's builds.

use std::sync::Arc;
use std::time::Duration;

use storage::login_failures::{self, LoginFailures};
use storage::users::User;
use storage::{api_keys, memberships, users};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::Instrument;

use crate::api_key::ApiKey;
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::name::{UserName, normalise};
use crate::password::Busy;
use crate::rbac::Principal;
use crate::secret::Secret;
use crate::token::Epochs;

/// Log-ins under one name go one after the other; names share this many queues.
const QUEUES: usize = 256;
/// How long a log-in waits for the one before it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds between two notes that an API key was used.
const NOTE_USE_EVERY: i64 = 3600;

/// Where somebody knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The console and its REST API. Closed to machines; open with a temporary password, to change it.
    Console,
    /// The token service, that is `docker login`.
    Registry,
}

/// Somebody who got in.
#[derive(Debug, Clone)]
pub struct Login {
    /// Their rights.
    pub principal: Arc<Principal>,
    /// Their epochs when they were let in.
    pub epochs: Epochs,
    /// The API key they used.
    pub key: Option<UsedKey>,
    /// Whether they must choose a new password before anything else.
    pub must_change_password: bool,
}

/// The API key that somebody got in with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedKey {
    /// Its public part.
    pub id: String,
    /// The organization whose bindings it carries.
    pub org_id: String,
    /// When it ends (unix seconds), if ever.
    pub expires_at: Option<i64>,
}

/// Why somebody did not get in. `Display` is meant for them.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Wrong name, wrong secret, ended key, deactivated: which one is not said.
    #[error("wrong user name or password")]
    Refused,
    /// Too many failures under this name, whether or not somebody goes by it.
    #[error("too many failed log-ins: wait {} minutes, or ask an administrator to unlock the user; API keys work meanwhile", (retry_after + 59) / 60)]
    Locked {
        /// Seconds until the lock ends.
        retry_after: i64,
    },
    /// This machine checks as many passwords as it can.
    #[error("too many log-ins at this moment; try again in {retry_after} s")]
    Busy {
        /// Seconds to wait.
        retry_after: i64,
    },
    /// The password is right but temporary, and this door cannot change it.
    #[error("this password is temporary: log in to the console or POST /api/v1/login to choose your own first")]
    MustChangePassword,
    /// It cannot be checked now.
    #[error("log-ins cannot be checked at this moment")]
    Unavailable(#[from] storage::Error),
}

impl From<Busy> for LoginError {
    fn from(_: Busy) -> Self {
        Self::Busy { retry_after: 2 }
    }
}

/// The queues that log-ins wait in.
pub(crate) struct Turns(Vec<Arc<Mutex<()>>>);

impl Default for Turns {
    fn default() -> Self {
        Self((0..QUEUES).map(|_| Arc::default()).collect())
    }
}

impl Turns {
    /// Waits for the turn of a name. One at a time, so that parallel guesses are counted before the next is made, and
    /// parallel log-ins of one client cost one hash.
    async fn take(&self, name_hash: &[u8; 32]) -> Result<OwnedMutexGuard<()>, LoginError> {
        let queue = Arc::clone(&self.0[usize::from(name_hash[0]) % QUEUES]);
        tokio::time::timeout(PATIENCE, queue.lock_owned()).await.map_err(|_| LoginError::Busy { retry_after: 5 })
    }
}

/// A name as it is counted: nobody can read from the rows what was typed.
struct NameKey {
    raw: [u8; 32],
    hex: String,
}

impl Identity {
    /// Lets somebody in by name and secret: a password or, but for the console, an API key of theirs. A console session
    /// would carry more than the key does.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(&self, name: &str, secret: &Secret, door: Door) -> Result<Login, LoginError> {
        if let Some(key) = ApiKey::parse(secret.expose()) {
            if door == Door::Console {
                return Err(LoginError::Refused);
            }
            let login = self.login_by_key(&key).await?;
            return if login.principal.name == normalise(name) { Ok(login) } else { Err(LoginError::Refused) };
        }
        self.login_by_password(name, secret, door).await
    }

    /// Lets somebody in by API key alone, as programs do.
    ///
    /// # Errors
    /// [`LoginError::Refused`] for anything that is not a live key of an active user, [`LoginError::Unavailable`].
    pub async fn login_with_key(&self, secret: &Secret) -> Result<Login, LoginError> {
        let key = ApiKey::parse(secret.expose()).ok_or(LoginError::Refused)?;
        self.login_by_key(&key).await
    }

    async fn login_by_key(&self, key: &ApiKey) -> Result<Login, LoginError> {
        let row = self.live_key(key.id()).await?.filter(|row| key.matches(&row.secret_hash));
        let row = row.ok_or(LoginError::Refused)?;
        let subject = self.subject(&row.user_id).await?.filter(|subject| subject.orgs.contains(&row.org_id));
        let subject = subject.ok_or(LoginError::Refused)?;
        self.note_use(&row).await;
        let used = UsedKey { id: row.id.clone(), org_id: row.org_id.clone(), expires_at: row.expires_at };
        let principal = Arc::new(subject.principal(Some(&row.org_id)));
        Ok(Login { principal, epochs: subject.epochs(), key: Some(used), must_change_password: false })
    }

    /// Notes, to the hour, that a key was used. A convenience for its owner: failing at it keeps nobody out.
    async fn note_use(&self, row: &api_keys::ApiKey) {
        let now = self.now();
        if row.last_used_at.is_some_and(|at| at + NOTE_USE_EVERY > now) {
            return;
        }
        let noted = async {
            let mut tx = self.db().begin().await?;
            api_keys::touch(&mut tx, &row.id, now).await?;
            tx.commit().await
        };
        match noted.await {
            Ok(()) => self.forget_key(&row.id),
            Err(error) => tracing::warn!(%error, key.id = row.id, "cannot note that an API key was used"),
        }
    }

    async fn login_by_password(&self, name: &str, secret: &Secret, door: Door) -> Result<Login, LoginError> {
        let key = self.name_key(name);
        let (failed, user) = self.look_up(name, &key).await?;
        if self.remembers(user.as_ref(), secret) {
            return self.let_in(failed, user, &key, door).await;
        }
        let turn = self.0.turns.take(&key.raw).await?;
        let (this, name, secret) = (self.clone(), name.to_owned(), secret.clone());
        // In a task of its own: a guess is counted even where the guesser hangs up before hearing that it was wrong.
        let checked = async move {
            let _turn = turn;
            this.check_password(&name, &secret, &key, door).await
        };
        tokio::spawn(checked.in_current_span()).await.unwrap_or(Err(LoginError::Busy { retry_after: 2 }))
    }

    async fn check_password(
        &self,
        name: &str,
        secret: &Secret,
        key: &NameKey,
        door: Door,
    ) -> Result<Login, LoginError> {
        // Whoever went before may have locked the name, or found this very password right.
        let (failed, user) = self.look_up(name, key).await?;
        if !self.remembers(user.as_ref(), secret) {
            let hash = user.as_ref().and_then(|user| user.password_hash.as_deref());
            let right = self.0.hasher.verify(secret, hash).await?;
            if !right || !self.admits(user.as_ref(), door).await? {
                return Err(self.count_failure(key).await?);
            }
            if let Some(user) = &user {
                self.0.remembered.insert(self.remember_mac(user, secret), ());
            }
        }
        self.let_in(failed, user, key, door).await
    }

    /// Lets in somebody whose password was found right.
    async fn let_in(
        &self,
        failed: Option<LoginFailures>,
        user: Option<User>,
        key: &NameKey,
        door: Door,
    ) -> Result<Login, LoginError> {
        let Some(user) = user else { return Err(LoginError::Refused) };
        if !self.admits(Some(&user), door).await? {
            return Err(self.count_failure(key).await?);
        }
        if failed.is_some() {
            self.clear_failures(key).await?;
        }
        if user.must_change_password && door == Door::Registry {
            return Err(LoginError::MustChangePassword);
        }
        let subject = self.subject_at(&user).await?.filter(|subject| subject.is_alive()).ok_or(LoginError::Refused)?;
        // The grants' epoch was read with the rights, never after them: a token must not carry older rights under a newer
        // epoch. The other one is that of the password that was checked.
        let epochs = Epochs { user: user.epoch, ..subject.epochs() };
        let principal = Arc::new(subject.principal(None));
        Ok(Login { principal, epochs, key: None, must_change_password: user.must_change_password })
    }

    /// Reads what a name has failed and who goes by it.
    ///
    /// # Errors
    /// [`LoginError::Locked`] where it is locked.
    async fn look_up(&self, name: &str, key: &NameKey) -> Result<(Option<LoginFailures>, Option<User>), LoginError> {
        let mut session = self.db().read().await?;
        let failed = login_failures::find(&mut session, &key.hex).await?;
        let now = self.now();
        if let Some(until) = failed.map(|failed| failed.locked_until).filter(|until| *until > now) {
            return Err(LoginError::Locked { retry_after: until - now });
        }
        // Looked up whatever it is, so that a name nobody can have takes no less time; as a name that nobody has, since
        // `PostgreSQL` fails on text with a NUL.
        let known = name.parse::<UserName>();
        let user = users::find_by_name(&mut session, known.as_ref().map_or("", UserName::as_str)).await?;
        Ok((failed, user))
    }

    /// Whether a user whose password is right may pass this door.
    async fn admits(&self, user: Option<&User>, door: Door) -> Result<bool, LoginError> {
        let Some(user) = user else { return Ok(false) };
        let ended = user.password_expires_at.is_some_and(|end| end <= self.now());
        let closed = door == Door::Console && user.kind == "machine";
        let alive = self.subject(&user.id).await?.is_some_and(|subject| subject.is_alive());
        Ok(alive && !ended && !closed)
    }

    async fn count_failure(&self, key: &NameKey) -> Result<LoginError, LoginError> {
        let mut tx = self.db().begin().await?;
        let failed = login_failures::record(&mut tx, &key.hex, self.0.options.lockout, self.now()).await?;
        tx.commit().await?;
        tracing::info!(failures = failed.failures, locked = failed.locked_until > 0, "log-in refused");
        Ok(LoginError::Refused)
    }

    async fn clear_failures(&self, key: &NameKey) -> Result<(), LoginError> {
        let mut tx = self.db().begin().await?;
        login_failures::clear(&mut tx, &key.hex).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lifts the lock of a name, whether or not there is one, for an administrator of an organization.
    ///
    /// # Errors
    /// [`storage::Error::Conflict`] for somebody of several organizations: whoever added them to a second one could guess at
    /// their password without end. Else those of the database.
    pub async fn unlock(&self, by: &Caller, org_id: &str, name: &str) -> storage::Result<()> {
        let mut session = self.db().read().await?;
        if let Some(user) = users::find_by_name(&mut session, &normalise(name)).await?
            && memberships::count_of_user(&mut session, &user.id).await? > 1
        {
            return Err(storage::Error::Conflict(
                "the user belongs to other organizations too: the lock ends by itself within 15 minutes",
            ));
        }
        drop(session);
        let mut tx = self.db().begin().await?;
        login_failures::clear(&mut tx, &self.name_key(name).hex).await?;
        self.record(&mut tx, by, &Entry { org_id, action: "user.unlock", target: name, ..Entry::default() }).await?;
        tx.commit().await
    }

    /// Lifts the lock of a name for whoever runs the machine.
    pub(crate) async fn lift_lock(&self, name: &str) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        login_failures::clear(&mut tx, &self.name_key(name).hex).await?;
        tx.commit().await
    }

    /// Whether this password of this user, at this epoch, was found right within the last minute.
    fn remembers(&self, user: Option<&User>, secret: &Secret) -> bool {
        user.is_some_and(|user| self.0.remembered.get(&self.remember_mac(user, secret)).is_some())
    }

    fn remember_mac(&self, user: &User, secret: &Secret) -> [u8; 32] {
        let text = Secret::new(format!("{}\n{}\n{}", user.id, user.epoch, secret.expose()));
        self.0.remember_key.mac(text.expose().as_bytes())
    }

    fn name_key(&self, name: &str) -> NameKey {
        let raw = self.mac("login name", normalise(name).as_bytes());
        NameKey { raw, hex: hex::encode(raw) }
    }
}

#[cfg(test)]
mod tests;

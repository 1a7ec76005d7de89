//! THE log-in sequence. Every door goes through it: console, `docker login`, REST.
//!
//! Known and unknown names get the same answers in the same time: the name is looked up, a hash is computed (a dummy's where
//! there is nobody), the failure is counted by the name that was typed and recorded. Failures in a row lock the name for
//! passwords and second factors at every door, by the strictest setting of the user's organizations. API keys are neither
//! locked nor counted: 256 random bits cannot be guessed, and otherwise anybody could stop a company's builds.
//!
//! Where a second factor is on, a right password opens nothing yet: [`second_factor`] goes on from there, and the failures
//! before it stay counted until it is over. The registry's door, which cannot ask for one, then takes API keys only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use storage::login_failures::{self, LoginFailures};
use storage::users::User;
use storage::{Tx, api_keys, memberships, orgs, users};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tracing::Instrument;
use zeroize::Zeroizing;

use crate::api_key::ApiKey;
use crate::audit::{Caller, Client, Credential, Entry, Origin, Outcome};
use crate::core::Identity;
use crate::limits::{Limit, Throttled};
use crate::mail::Mail;
use crate::name::{UserName, normalise};
use crate::password::Busy;
use crate::policy::Policy;
use crate::rbac::Principal;
use crate::secret::Secret;
use crate::token::Epochs;

mod second_factor;

pub use second_factor::{Factor, LoggedIn, Method, PasskeyLogin, Pending};

/// Log-ins under one name go one after the other; names share this many queues.
const QUEUES: usize = 256;
/// How long a log-in waits for the one before it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Seconds between two notes that an API key was used.
const NOTE_USE_EVERY: i64 = 60;
/// Seconds between two notes that it was used from another address.
const NOTE_MOVE_EVERY: i64 = 5;

/// Where somebody knocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// The console and its REST API. Closed to machines; open with a temporary password, to change it.
    Console,
    /// The token service, that is `docker login`.
    Registry,
}

/// Why a log-in was refused, in the audit log.
const WRONG_PASSWORD: &str = "wrong name or password";
const SHUT_OUT: &str = "the password has ended, the door is closed to the user, or they are shut out everywhere";

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
    /// Whether they showed a second factor, or a passkey.
    pub second_factor: bool,
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
    /// The password is right, and this door takes API keys only of whoever has, or must have, a second factor.
    #[error("this account needs a second factor, which cannot be shown here: use an API key in place of the password")]
    ApiKeyRequired,
    /// The password is right, and a second factor is to be shown.
    #[error("show the second factor")]
    SecondFactor(Box<Pending>),
    /// The second factor is not right.
    #[error("that code or passkey is not right, or was used already")]
    WrongFactor,
    /// There is no log-in that waits for a second factor: it took too long, was tried too often, or something ended it.
    #[error("this log-in took too long or was tried too often: begin again with the password")]
    Ended,
    /// Too many tries from that address or under that name.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// Passkeys need a name to be bound to.
    #[error("passkeys need the controller to be reached by a name, not by an address")]
    NoPasskeys,
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

/// What is known of a name before its password is checked.
pub(crate) struct Known {
    failed: Option<LoginFailures>,
    pub(crate) user: Option<User>,
    pub(crate) policy: Policy,
}

/// Whose password was found right, and the epoch that it was theirs at.
pub(crate) struct RightPassword {
    user_id: String,
    epoch: i64,
}

/// Somebody whose password was found right.
struct Checked {
    failed: Option<LoginFailures>,
    user: User,
}

impl Identity {
    /// As [`Identity::login_from`], from nowhere in particular.
    ///
    /// # Errors
    /// [`LoginError`].
    pub async fn login(&self, name: &str, secret: &Secret, door: Door) -> Result<Login, LoginError> {
        self.login_from(&Origin::default(), name, secret, door).await
    }

    /// Lets somebody in by name and secret: a password or, but for the console, an API key of theirs. A console session
    /// would carry more than the key does.
    ///
    /// # Errors
    /// [`LoginError`]; [`LoginError::SecondFactor`] where the log-in goes on with [`Identity::show_second_factor`].
    pub async fn login_from(
        &self,
        from: &Origin,
        name: &str,
        secret: &Secret,
        door: Door,
    ) -> Result<Login, LoginError> {
        let from = at_door(from, door);
        if let Some(key) = ApiKey::parse(secret.expose()) {
            if door == Door::Console {
                return Err(LoginError::Refused);
            }
            let login = self.login_by_key(&from, &key).await?;
            // A machine's row is named with its organization, which nobody types.
            let shown = login.principal.name.split(':').next().unwrap_or_default();
            return if shown == normalise(name) { Ok(login) } else { Err(LoginError::Refused) };
        }
        let checked = Box::pin(self.check_password(&from, name, secret, door)).await?;
        Box::pin(self.let_in(&from, checked, name, door)).await
    }

    /// Lets somebody in by API key alone, as programs do.
    ///
    /// # Errors
    /// [`LoginError::Refused`] for anything that is not a live key of an active user, [`LoginError::Throttled`],
    /// [`LoginError::Unavailable`].
    pub async fn login_with_key(&self, from: &Origin, secret: &Secret) -> Result<Login, LoginError> {
        let Some(key) = ApiKey::parse(secret.expose()) else {
            self.admit(Limit::Login, from, None)?;
            self.count_against(Limit::Login, from, None);
            return Err(LoginError::Refused);
        };
        self.login_by_key(from, &key).await
    }

    /// By address alone: whoever fails under somebody's name must not stop their builds.
    async fn login_by_key(&self, from: &Origin, key: &ApiKey) -> Result<Login, LoginError> {
        self.admit(Limit::Login, from, None)?;
        let found = self.live_key(key.id()).await?;
        let row = found.clone().filter(|row| key.matches(&row.secret_hash));
        let subject = match &row {
            Some(row) => match self.subject(&row.user_id).await? {
                Some(subject) if self.key_counts(row, &subject).await? => Some(subject),
                _ => None,
            },
            None => None,
        };
        let (Some(row), Some(subject)) = (row, subject) else {
            self.count_against(Limit::Login, from, None);
            if let Some(row) = found {
                self.record_refused_key(from, &row).await?;
            }
            return Err(LoginError::Refused);
        };
        self.give_back(Limit::Login, from, None);
        self.note_use(from, &row).await;
        let used = UsedKey { id: row.id.clone(), org_id: row.org_id.clone(), expires_at: row.expires_at };
        let principal = Arc::new(subject.principal(Some(&row)));
        let epochs = subject.epochs();
        Ok(Login { principal, epochs, key: Some(used), must_change_password: false, second_factor: false })
    }

    /// Records that somebody showed a key whose secret is another, or whose user is shut out.
    async fn record_refused_key(&self, from: &Origin, row: &api_keys::ApiKey) -> storage::Result<()> {
        let by = Caller {
            principal: Arc::new(Principal::nobody("")),
            credential: Credential::ApiKey(row.id.clone()),
            origin: from.clone(),
        };
        let mut tx = self.db().begin().await?;
        let (outcome, reason) = (
            Outcome::Denied,
            "the key is not right, its user is shut out, or whoever made it for them has no longer the right to",
        );
        let entry =
            Entry { org_id: &row.org_id, action: "login", target: &row.id, outcome, reason, ..Entry::default() };
        self.record(&mut tx, &by, &entry).await?;
        tx.commit().await
    }

    /// Notes, to the minute, that a key was used, and from where. A convenience for its owner: failing at it keeps nobody
    /// out.
    async fn note_use(&self, from: &Origin, row: &api_keys::ApiKey) {
        let now = self.now();
        let address = from.address.map(|address| address.to_canonical().to_string());
        let moved = address.is_some() && address != row.last_used_from;
        let pause = if moved { NOTE_MOVE_EVERY } else { NOTE_USE_EVERY };
        if row.last_used_at.is_some_and(|at| at + pause > now) {
            return;
        }
        self.note_visit(&row.org_id, &row.user_id, from.client).await;
        let noted = async {
            let mut tx = self.db().begin().await?;
            api_keys::touch(&mut tx, &row.id, now, address.as_deref()).await?;
            tx.commit().await
        };
        match noted.await {
            Ok(()) => self.forget_key(&row.id),
            Err(error) => tracing::warn!(%error, key.id = row.id, "cannot note that an API key was used"),
        }
    }

    /// Checks the password of somebody who is logged in, as a log-in would, and returns their id and the
    /// epoch that it was right at.
    ///
    /// # Errors
    /// [`LoginError`].
    pub(crate) async fn check_own_password(
        &self,
        from: &Origin,
        name: &str,
        secret: &Secret,
    ) -> Result<(String, i64), LoginError> {
        let user = self.check_password(from, name, secret, Door::Console).await?.user;
        Ok((user.id, user.epoch))
    }

    async fn check_password(
        &self,
        from: &Origin,
        name: &str,
        secret: &Secret,
        door: Door,
    ) -> Result<Checked, LoginError> {
        self.admit(Limit::Login, from, Some(name))?;
        let checked = self.check_admitted(from, name, secret, door).await;
        match &checked {
            Ok(_) => self.give_back(Limit::Login, from, Some(name)),
            Err(LoginError::Refused | LoginError::Locked { .. }) => {
                self.count_against(Limit::Login, from, Some(name));
            }
            Err(_) => {}
        }
        checked
    }

    async fn check_admitted(
        &self,
        from: &Origin,
        name: &str,
        secret: &Secret,
        door: Door,
    ) -> Result<Checked, LoginError> {
        let key = self.name_key(name);
        if door == Door::Registry
            && let Some(checked) = self.right_a_moment_ago(&key, secret).await?
        {
            return Ok(checked);
        }
        let known = self.look_up(from, name, &key).await?;
        if self.remembers(known.user.as_ref(), &key, secret) {
            return self.admitted(from, known, name, &key, door).await;
        }
        let turn = self.0.turns.take(&key.raw).await?;
        let (this, from, name, secret) = (self.clone(), from.clone(), name.to_owned(), secret.clone());
        // In a task of its own: a guess is counted even where the guesser hangs up before hearing that it was wrong.
        let checked = async move {
            let _turn = turn;
            // Whoever went before may have locked the name, or found this very password right.
            let known = this.look_up(&from, &name, &key).await?;
            if !this.remembers(known.user.as_ref(), &key, &secret) {
                let hash = known.user.as_ref().and_then(|user| user.password_hash.as_deref());
                if !this.0.hasher.verify(&secret, hash).await? {
                    return Err(this.count_failure(&from, &known, &name, &key, WRONG_PASSWORD).await?);
                }
            }
            let checked = this.admitted(&from, known, &name, &key, door).await?;
            let User { id, epoch, .. } = &checked.user;
            let right = Arc::new(RightPassword { user_id: id.clone(), epoch: *epoch });
            this.0.remembered.insert(this.remember_mac(&key, &secret), right);
            Ok(checked)
        };
        tokio::spawn(checked.in_current_span()).await.unwrap_or(Err(LoginError::Busy { retry_after: 2 }))
    }

    /// Whoever docker asks for again and again: their password was found right within the last minute and is theirs still, and
    /// nothing is counted against the name. All of that is known from at most half a second ago, as an API key's rights are.
    /// `None` refuses nobody: it says that rows are to be read.
    async fn right_a_moment_ago(&self, key: &NameKey, secret: &Secret) -> storage::Result<Option<Checked>> {
        let Some(right) = self.0.remembered.get(&self.remember_mac(key, secret)) else { return Ok(None) };
        let Some(subject) = self.subject(&right.user_id).await? else { return Ok(None) };
        if subject.user.epoch != right.epoch
            || !subject.is_alive()
            || self.has_ended(&subject.user)
            || !self.has_no_failures(key).await?
        {
            return Ok(None);
        }
        Ok(Some(Checked { failed: None, user: subject.user.clone() }))
    }

    /// Whether nothing is counted against a name. What is remembered is only that nothing was.
    async fn has_no_failures(&self, key: &NameKey) -> storage::Result<bool> {
        if self.0.caches.unfailed.get(&key.raw).is_some() {
            return Ok(true);
        }
        let generation = self.0.generation.load(Ordering::SeqCst);
        let none = login_failures::find(&mut self.db().read().await?, &key.hex).await?.is_none();
        if none && self.0.generation.load(Ordering::SeqCst) == generation {
            self.0.caches.unfailed.insert(key.raw, ());
        }
        Ok(none)
    }

    /// A user whose password is right, if they may pass this door.
    async fn admitted(
        &self,
        from: &Origin,
        known: Known,
        name: &str,
        key: &NameKey,
        door: Door,
    ) -> Result<Checked, LoginError> {
        if !self.admits(known.user.as_ref(), door).await? {
            return Err(self.count_failure(from, &known, name, key, SHUT_OUT).await?);
        }
        let Known { failed, user, .. } = known;
        user.map(|user| Checked { failed, user }).ok_or(LoginError::Refused)
    }

    /// Lets in somebody whose password was found right.
    async fn let_in(&self, from: &Origin, checked: Checked, name: &str, door: Door) -> Result<Login, LoginError> {
        let Checked { failed, user } = checked;
        let subject = self.subject_at(&user).await?.filter(|subject| subject.is_alive()).ok_or(LoginError::Refused)?;
        // The failures before a second factor stay counted: whoever knows the password could guess at codes without end.
        if door == Door::Registry && subject.needs_api_key() {
            let mut tx = self.db().begin().await?;
            self.record_refused(&mut tx, from, Some(&user), name, "a second factor is needed: API keys only").await?;
            tx.commit().await?;
            return Err(LoginError::ApiKeyRequired);
        }
        if door == Door::Console && subject.factors.any() {
            return Err(LoginError::SecondFactor(Box::new(self.begin_second_factor(&subject, user.epoch).await?)));
        }
        if failed.is_some() {
            self.clear_failures(&self.name_key(name)).await?;
        }
        if user.must_change_password && door == Door::Registry {
            return Err(LoginError::MustChangePassword);
        }
        // The grants' epoch was read with the rights, never after them: a token must not carry older rights under a newer
        // epoch. The other one is that of the password that was checked.
        let epochs = Epochs { user: user.epoch, ..subject.epochs() };
        let principal = Arc::new(subject.principal(None));
        let must_change_password = user.must_change_password;
        Ok(Login { principal, epochs, key: None, must_change_password, second_factor: false })
    }

    /// Reads what a name has failed, who goes by it, and what their organizations ask.
    ///
    /// # Errors
    /// [`LoginError::Locked`] where it is locked.
    async fn look_up(&self, from: &Origin, name: &str, key: &NameKey) -> Result<Known, LoginError> {
        let mut session = self.db().read().await?;
        let failed = login_failures::find(&mut session, &key.hex).await?;
        // Looked up whatever it is, so that a name nobody can have takes no less time; as a name that nobody has, since
        // `PostgreSQL` fails on text with a NUL.
        let known = name.parse::<UserName>();
        let user = users::find_by_name(&mut session, known.as_ref().map_or("", UserName::as_str)).await?;
        let settings = orgs::settings_of_user(&mut session, user.as_ref().map_or("", |user| &user.id)).await?;
        drop(session);
        let policy = Policy::strictest(&settings, self.0.options.lockout);
        let now = self.now();
        let locked = failed.map(|failed| failed.locked_until).filter(|until| *until > now && policy.lockout.is_some());
        if let Some(until) = locked {
            let mut tx = self.db().begin().await?;
            self.record_refused(&mut tx, from, user.as_ref(), name, "the name is locked").await?;
            tx.commit().await?;
            return Err(LoginError::Locked { retry_after: until - now });
        }
        Ok(Known { failed, user, policy })
    }

    /// Whether a user whose password is right may pass this door.
    async fn admits(&self, user: Option<&User>, door: Door) -> Result<bool, LoginError> {
        let Some(user) = user else { return Ok(false) };
        let closed = door == Door::Console && user.kind == "machine";
        let alive = self.subject(&user.id).await?.is_some_and(|subject| subject.is_alive());
        Ok(alive && !self.has_ended(user) && !closed)
    }

    /// Whether a user's password, a temporary one, has ended.
    fn has_ended(&self, user: &User) -> bool {
        user.password_expires_at.is_some_and(|end| end <= self.now())
    }

    async fn count_failure(
        &self,
        from: &Origin,
        known: &Known,
        name: &str,
        key: &NameKey,
        reason: &str,
    ) -> Result<LoginError, LoginError> {
        let mut locked_until = None;
        let mut tx = self.db().begin().await?;
        if let Some(rule) = known.policy.lockout {
            let failed = login_failures::record(&mut tx, &key.hex, rule, self.now()).await?;
            tracing::info!(failures = failed.failures, locked = failed.locked_until > 0, "log-in refused");
            locked_until = Some(failed.locked_until).filter(|until| *until > 0);
        }
        self.record_refused(&mut tx, from, known.user.as_ref(), name, reason).await?;
        tx.commit().await?;
        self.forget_unfailed(&key.raw);
        if let (Some(until), Some(user)) = (locked_until, &known.user) {
            self.tell_locked(user.name.clone(), until);
        }
        Ok(LoginError::Refused)
    }

    /// Writes to somebody that their name is locked. Apart from the answer: a name that nobody has is refused as fast.
    fn tell_locked(&self, name: String, until: i64) {
        let this = self.clone();
        let told = async move {
            let mut tx = this.db().begin().await?;
            this.enqueue_mail(&mut tx, &name, None, &Mail::Locked { until }).await?;
            tx.commit().await
        };
        tokio::spawn(
            async move {
                if let Err(error) = told.await {
                    tracing::warn!(%error, "cannot write that a name is locked");
                }
            }
            .in_current_span(),
        );
    }

    /// Records a log-in that was refused: in the organizations of whoever goes by the name, else on the platform, where
    /// names that nobody has are recorded one by one only as long as they are few.
    async fn record_refused(
        &self,
        tx: &mut Tx,
        from: &Origin,
        user: Option<&User>,
        name: &str,
        reason: &str,
    ) -> storage::Result<()> {
        if user.is_none() && !self.admit_stranger() {
            return Ok(());
        }
        // What is no name may be a password that was typed into the wrong field.
        let typed = name
            .parse::<UserName>()
            .ok()
            .filter(UserName::is_email)
            .map(|name| name.as_str().to_owned())
            .unwrap_or_default();
        let by = Caller {
            principal: Arc::new(Principal::nobody(typed.clone())),
            credential: Credential::None,
            origin: from.clone(),
        };
        let (outcome, target) = (Outcome::Denied, typed.as_str());
        let entry = Entry { action: "login", target, outcome, reason, ..Entry::default() };
        self.record_for(tx, &by, user.map(|user| user.id.as_str()), &entry).await
    }

    /// Records an entry in every organization that a user is active in and accepted, else on the platform: for an operator, for
    /// nobody, and for whoever is nowhere by their own act.
    pub(crate) async fn record_for(
        &self,
        tx: &mut Tx,
        by: &Caller,
        user_id: Option<&str>,
        entry: &Entry<'_>,
    ) -> storage::Result<()> {
        let orgs = memberships::accepted_orgs(tx, user_id.unwrap_or_default()).await?;
        if orgs.is_empty() {
            return self.record(tx, by, &Entry { org_id: "", ..entry.clone() }).await;
        }
        for org_id in &orgs {
            self.record(tx, by, &Entry { org_id, ..entry.clone() }).await?;
        }
        Ok(())
    }

    async fn clear_failures(&self, key: &NameKey) -> Result<(), LoginError> {
        let mut tx = self.db().begin().await?;
        login_failures::clear(&mut tx, &key.hex).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Lifts the lock of a member's name, whether or not there is one, for an administrator of an organization. Nothing
    /// happens where the member did not accept the organization: whoever adds somebody could guess at their password without
    /// end. It is recorded as any other, so that it does not tell who has an account elsewhere.
    ///
    /// # Errors
    /// [`storage::Error::Conflict`] for somebody of several organizations, [`storage::Error::NotFound`] where there is no such
    /// member, else those of the database.
    pub async fn unlock(&self, by: &Caller, org_id: &str, name: &str) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        let member = memberships::find_by_name(&mut tx, org_id, &normalise(name)).await?;
        let member = member.ok_or(storage::Error::NotFound("user"))?;
        if member.accepted_at.is_some() && memberships::count_elsewhere(&mut tx, &member.user_id, org_id).await? > 0 {
            return Err(storage::Error::Conflict(
                "the user belongs to other organizations too: the lock ends by itself within 15 minutes",
            ));
        }
        if member.accepted_at.is_some() {
            login_failures::clear(&mut tx, &self.name_key(name).hex).await?;
        }
        self.record(&mut tx, by, &Entry { org_id, action: "user.unlock", target: name, ..Entry::default() }).await?;
        tx.commit().await
    }

    /// Until when failed log-ins lock these names, in their order; `None` for those that they do not.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn locked_until(&self, names: &[&str]) -> storage::Result<Vec<Option<i64>>> {
        let keys: Vec<String> = names.iter().map(|name| self.name_key(name).hex).collect();
        let asked: Vec<&str> = keys.iter().map(String::as_str).collect();
        let locked = login_failures::locked(&mut self.db().read().await?, &asked, self.now()).await?;
        let until = |key: &String| locked.iter().find(|(hash, _)| hash == key).map(|(_, until)| *until);
        Ok(keys.iter().map(until).collect())
    }

    /// Lifts the lock of a name for whoever runs the machine.
    pub(crate) async fn lift_lock(&self, name: &str) -> storage::Result<()> {
        let mut tx = self.db().begin().await?;
        login_failures::clear(&mut tx, &self.name_key(name).hex).await?;
        tx.commit().await
    }

    /// Whether this password, typed with this name, was found right for this user at this epoch within the last minute.
    fn remembers(&self, user: Option<&User>, key: &NameKey, secret: &Secret) -> bool {
        let Some(user) = user else { return false };
        let right = self.0.remembered.get(&self.remember_mac(key, secret));
        right.is_some_and(|right| right.user_id == user.id && right.epoch == user.epoch)
    }

    fn remember_mac(&self, key: &NameKey, secret: &Secret) -> [u8; 32] {
        // The name's part has one length, so that no name and password are those of another.
        let mut text = Zeroizing::new(Vec::with_capacity(key.raw.len() + secret.expose().len()));
        text.extend_from_slice(&key.raw);
        text.extend_from_slice(secret.expose().as_bytes());
        self.0.remember_key.mac(&text)
    }

    /// As a log-in under that name is counted.
    fn name_key(&self, name: &str) -> NameKey {
        let raw = self.mac("login name", normalise(name).as_bytes());
        NameKey { raw, hex: hex::encode(raw) }
    }
}

/// Where a request at a door comes from: what knocks at the registry's is docker or its like.
fn at_door(from: &Origin, door: Door) -> Origin {
    let client = if door == Door::Registry { Client::Docker } else { from.client };
    Origin { client, ..from.clone() }
}

#[cfg(test)]
mod tests;

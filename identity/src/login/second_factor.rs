//! What comes between a right password and a session where a second factor is on. The log-in that waits is a random secret
//! of 256 bits, bound to the user's epoch, good for five minutes and five tries; each failure counts to the lockout of the
//! name, as a wrong password does. Whatever the factor changes (a step spent, a code used up, a counter moved) is one
//! transaction with the session that it opens: of two who show the same thing at the same time, one gets in.

use serde_json::{Value, json};
use storage::challenges::{self, Challenge};
use storage::{Tx, login_failures, users};
use tracing::Instrument;

use super::{Known, LoginError};
use crate::audit::{Caller, Credential, Entry, Origin};
use crate::core::Identity;
use crate::limits::Limit;
use crate::mfa::passkey::Assertion;
use crate::mfa::{MfaError, Spent};
use crate::principal::Subject;
use crate::secret::{Secret, sha256_hex};
use crate::session::{NewSession, SessionKind, Start};

/// Challenges of log-ins that wait for a second factor.
const LOGIN: &str = "login";
/// Challenges of log-ins by passkey alone.
const PASSKEY_LOGIN: &str = "passkey-login";
/// Seconds that a log-in waits.
const LIFETIME: i64 = 300;
/// Tries that one log-in has.
const TRIES: i64 = 5;
/// Length of the secret of a challenge in bytes.
const LEN: usize = 32;
/// Why a log-in was refused, in the audit log.
const WRONG_FACTOR: &str = "wrong second factor";

/// A way to show a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// A code of an authenticator app.
    Totp,
    /// A passkey.
    Passkey,
    /// A recovery code.
    Recovery,
}

/// A log-in that waits for its second factor.
#[derive(Debug, Clone)]
pub struct Pending {
    /// What the next step names it by.
    pub token: Secret,
    /// What may be shown.
    pub methods: Vec<Method>,
    /// When it ends (unix seconds).
    pub expires_at: i64,
    /// Options for `navigator.credentials.get`, where a passkey may be shown.
    pub passkey_options: Option<Value>,
}

/// A second factor that is shown.
#[derive(Debug, Clone)]
pub enum Factor {
    /// A code of an authenticator app.
    Code(Secret),
    /// A recovery code.
    Recovery(Secret),
    /// What a passkey signed, as the browser gives it.
    Passkey(Value),
}

/// A log-in by passkey that was begun.
#[derive(Debug, Clone)]
pub struct PasskeyLogin {
    /// What the next step names it by.
    pub token: Secret,
    /// Options for `navigator.credentials.get`.
    pub options: Value,
}

/// Somebody who got in, with the session that was opened for them.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    /// The session.
    pub session: NewSession,
    /// Whether a recovery code was used up, and how many are left then.
    pub recovery_codes_left: Option<i64>,
}

impl Identity {
    /// Puts a log-in whose password was right in wait for its second factor.
    pub(super) async fn begin_second_factor(&self, subject: &Subject, epoch: i64) -> Result<Pending, LoginError> {
        let user_id = &subject.user.id;
        let mut methods = Vec::new();
        if subject.factors.totp {
            methods.push(Method::Totp);
        }
        let (mut passkey_options, mut data) = (None, String::new());
        if subject.factors.passkeys
            && let Some((options, state)) = self.begin_assertion(user_id).await?
        {
            methods.push(Method::Passkey);
            (passkey_options, data) = (Some(options), state);
        }
        methods.push(Method::Recovery);
        let mut tx = self.db().begin().await?;
        let (token, expires_at) = self.begin_challenge(&mut tx, LOGIN, Some((user_id, epoch)), data, LIFETIME).await?;
        tx.commit().await?;
        Ok(Pending { token, methods, expires_at, passkey_options })
    }

    /// Makes a random secret that names what is begun, for so many seconds: of a user at an epoch of theirs, or of whoever it
    /// will turn out to be. Returns it, and when it ends.
    pub(crate) async fn begin_challenge(
        &self,
        tx: &mut Tx,
        kind: &str,
        user: Option<(&str, i64)>,
        data: String,
        lifetime: i64,
    ) -> storage::Result<(Secret, i64)> {
        let (token, now) = (Secret::random_hex(LEN), self.now());
        let challenge = Challenge {
            secret_hash: sha256_hex(token.expose()),
            kind: kind.to_owned(),
            user_id: user.map(|(id, _)| id.to_owned()),
            epoch: user.map(|(_, epoch)| epoch).unwrap_or_default(),
            data,
            attempts: 0,
            created_at: now,
            expires_at: now + lifetime,
        };
        challenges::create(tx, &challenge).await?;
        Ok((token, challenge.expires_at))
    }

    /// Ends a log-in that waits: opens the session, if the second factor is right.
    ///
    /// # Errors
    /// [`LoginError::WrongFactor`], [`LoginError::Ended`], [`LoginError::Locked`], [`LoginError::Throttled`].
    pub async fn show_second_factor(
        &self,
        from: &Origin,
        token: &Secret,
        factor: Factor,
        kind: SessionKind,
    ) -> Result<LoggedIn, LoginError> {
        self.admit(Limit::Login, from, None)?;
        let (this, origin, token) = (self.clone(), from.clone(), token.clone());
        // In a task of its own: a guess is counted even where the guesser hangs up before hearing that it was wrong.
        let shown = async move { this.check_second_factor(&origin, &token, factor, kind).await };
        let shown = tokio::spawn(shown.in_current_span()).await.unwrap_or(Err(LoginError::Busy { retry_after: 2 }));
        self.settle_factor(from, &shown);
        shown
    }

    fn settle_factor(&self, from: &Origin, shown: &Result<LoggedIn, LoginError>) {
        match shown {
            Ok(_) => self.give_back(Limit::Login, from, None),
            Err(LoginError::WrongFactor | LoginError::Ended | LoginError::Locked { .. }) => {
                self.count_against(Limit::Login, from, None);
            }
            Err(_) => {}
        }
    }

    async fn check_second_factor(
        &self,
        from: &Origin,
        token: &Secret,
        factor: Factor,
        kind: SessionKind,
    ) -> Result<LoggedIn, LoginError> {
        let hash = sha256_hex(token.expose());
        let now = self.now();
        let mut tx = self.db().begin().await?;
        let challenge = challenges::try_once(&mut tx, LOGIN, &hash, TRIES, now).await?;
        tx.commit().await?;
        let challenge = challenge.ok_or(LoginError::Ended)?;
        let assertion = match &factor {
            Factor::Passkey(credential) => self.check_assertion(credential, &challenge.data).await,
            Factor::Code(_) | Factor::Recovery(_) => Err(MfaError::Wrong),
        };
        let user_id = challenge.user_id.as_deref().unwrap_or_default();
        let ticket = Ticket { kind: LOGIN, hash: &hash, epoch: challenge.epoch };
        self.finish_login(from, user_id, &ticket, &factor, assertion, kind).await
    }

    /// Begins a log-in by passkey alone: nobody is named, the passkey says who it is.
    ///
    /// # Errors
    /// [`LoginError::NoPasskeys`], [`LoginError::Throttled`], [`LoginError::Unavailable`].
    pub async fn begin_passkey_login(&self, from: &Origin) -> Result<PasskeyLogin, LoginError> {
        self.admit(Limit::Login, from, None)?;
        let (options, data) = self.begin_discovery()?;
        let mut tx = self.db().begin().await?;
        let (token, _) = self.begin_challenge(&mut tx, PASSKEY_LOGIN, None, data, LIFETIME).await?;
        tx.commit().await?;
        Ok(PasskeyLogin { token, options })
    }

    /// Ends a log-in by passkey alone: opens the session, if the passkey is somebody's and they are verified by it.
    ///
    /// # Errors
    /// As [`Identity::show_second_factor`].
    pub async fn log_in_by_passkey(
        &self,
        from: &Origin,
        token: &Secret,
        credential: Value,
    ) -> Result<LoggedIn, LoginError> {
        self.admit(Limit::Login, from, None)?;
        let (this, origin, token) = (self.clone(), from.clone(), token.clone());
        let shown = async move { this.check_passkey_login(&origin, &token, credential).await };
        let shown = tokio::spawn(shown.in_current_span()).await.unwrap_or(Err(LoginError::Busy { retry_after: 2 }));
        self.settle_factor(from, &shown);
        shown
    }

    async fn check_passkey_login(
        &self,
        from: &Origin,
        token: &Secret,
        credential: Value,
    ) -> Result<LoggedIn, LoginError> {
        let hash = sha256_hex(token.expose());
        let mut tx = self.db().begin().await?;
        let challenge = challenges::try_once(&mut tx, PASSKEY_LOGIN, &hash, 1, self.now()).await?;
        tx.commit().await?;
        let challenge = challenge.ok_or(LoginError::Ended)?;
        let Some(owner) = self.owner_of(&credential).await? else {
            return Err(LoginError::WrongFactor);
        };
        let assertion = self.check_discovered(&credential, &challenge.data).await;
        let subject = self.subject(&owner).await?.ok_or(LoginError::WrongFactor)?;
        let ticket = Ticket { kind: PASSKEY_LOGIN, hash: &hash, epoch: subject.user.epoch };
        self.finish_login(from, &owner, &ticket, &Factor::Passkey(credential), assertion, SessionKind::Browser).await
    }

    /// The end of either: lockout, factor, session, audit.
    async fn finish_login(
        &self,
        from: &Origin,
        user_id: &str,
        ticket: &Ticket<'_>,
        factor: &Factor,
        assertion: Result<Assertion, MfaError>,
        kind: SessionKind,
    ) -> Result<LoggedIn, LoginError> {
        let user = users::find(&mut self.db().read().await?, user_id).await?.ok_or(LoginError::Ended)?;
        let subject = self.subject_at(&user).await?.filter(|subject| subject.is_alive()).ok_or(LoginError::Ended)?;
        if user.epoch != ticket.epoch {
            return Err(LoginError::Ended);
        }
        self.admit(Limit::Login, &Origin::default(), Some(&user.name))?;
        let key = self.name_key(&user.name);
        let _turn = self.0.turns.take(&key.raw).await?;
        let known = self.look_up(from, &user.name, &key).await?;
        let mut tx = self.db().begin().await?;
        let spent = match (factor, assertion) {
            (Factor::Passkey(_), Ok(assertion)) if assertion.user_id() == user_id => {
                self.spend_assertion(&mut tx, &assertion).await
            }
            (Factor::Passkey(_), Err(MfaError::Storage(error))) => return Err(error.into()),
            (Factor::Passkey(_), _) => Err(MfaError::Wrong),
            (Factor::Code(code), _) => self.spend_code(&mut tx, user_id, code).await,
            (Factor::Recovery(code), _) => self.spend_recovery(&mut tx, user_id, code).await,
        };
        let spent = match spent {
            Ok(spent) => spent,
            Err(MfaError::Storage(error)) => return Err(error.into()),
            Err(_) => {
                drop(tx);
                return Err(self.count_wrong_factor(from, &known, &user.name).await?);
            }
        };
        let session = self.open_waiting(&mut tx, from, &subject, ticket, kind).await?;
        login_failures::clear(&mut tx, &key.hex).await?;
        let left = self.record_login(&mut tx, from, &subject, &session, spent).await?;
        tx.commit().await?;
        self.forget(user_id);
        self.give_back(Limit::Login, &Origin::default(), Some(&user.name));
        Ok(LoggedIn { session, recovery_codes_left: left })
    }

    async fn count_wrong_factor(&self, from: &Origin, known: &Known, name: &str) -> Result<LoginError, LoginError> {
        self.count_failure(from, known, name, &self.name_key(name), WRONG_FACTOR).await?;
        self.count_against(Limit::Login, &Origin::default(), Some(name));
        Ok(LoginError::WrongFactor)
    }

    /// Takes the log-in out of wait and opens its session.
    async fn open_waiting(
        &self,
        tx: &mut Tx,
        from: &Origin,
        subject: &Subject,
        ticket: &Ticket<'_>,
        kind: SessionKind,
    ) -> Result<NewSession, LoginError> {
        if challenges::take(tx, ticket.kind, ticket.hash, self.now()).await?.is_none() {
            return Err(LoginError::Ended);
        }
        let start =
            Start { user_id: &subject.user.id, epoch: ticket.epoch, kind, second_factor: true, from, org_id: None };
        Ok(self.write_session(tx, &start).await?)
    }

    async fn record_login(
        &self,
        tx: &mut Tx,
        from: &Origin,
        subject: &Subject,
        session: &NewSession,
        spent: Spent,
    ) -> storage::Result<Option<i64>> {
        let user_id = &subject.user.id;
        let credential = if spent == Spent::Passkey { Credential::Passkey } else { Credential::Password };
        let by = Caller { principal: subject.principal(None).into(), credential, origin: from.clone() };
        let left = match spent {
            Spent::Recovery => Some(storage::recovery_codes::count(tx, user_id).await?),
            Spent::Code | Spent::Passkey => None,
        };
        if let Some(left) = left {
            let entry = Entry {
                action: "mfa.recovery_use",
                target: &subject.user.name,
                detail: json!({"codes_left": left}),
                ..Entry::default()
            };
            self.record_for(tx, &by, Some(user_id), &entry).await?;
        }
        let detail = json!({"session": session.id, "second_factor": spent.as_str()});
        let entry = Entry { action: "login", target: &subject.user.name, detail, ..Entry::default() };
        self.record_for(tx, &by, Some(user_id), &entry).await?;
        Ok(left)
    }
}

/// The log-in that waits.
struct Ticket<'a> {
    kind: &'static str,
    hash: &'a str,
    epoch: i64,
}

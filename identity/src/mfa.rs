//! Second factors: authenticator apps ([`totp`]), passkeys ([`passkey`]) and, where both are lost, recovery codes
//! ([`recovery`]). The first factor that is added turns them on, and the last one that is taken away off; either moves the
//! user's epoch, so that whatever was had without it ends, and the session in which it happens goes on with a new secret.

pub(crate) mod passkey;
pub mod recovery;
pub mod totp;

use serde_json::{Value, json};
use storage::{Tx, challenges, memberships, passkeys, recovery_codes, totp as rows, users};

use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::limits::Limit;
use crate::login::LoginError;
use crate::mail::{FactorChange, Mail};
use crate::rbac::Denial;
use crate::secret::{Secret, sha256_hex};
use crate::session::{LiveSession, NewSession};

pub use totp::Enrolment;

/// Challenges of passkeys that are being added.
const ADD: &str = "passkey-add";
/// Seconds that adding a passkey may take.
const LIFETIME: i64 = 300;
/// What secrets of authenticator apps are sealed for.
const SEALED_FOR: &str = "totp";
/// Seconds after a log-in in which second factors may be changed.
const FRESH: i64 = 900;
/// Longest name of a passkey, in characters.
const MAX_NAME: usize = 64;

/// Which second factors a user has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Factors {
    /// A confirmed authenticator app.
    pub totp: bool,
    /// A passkey.
    pub passkeys: bool,
}

impl Factors {
    /// Whether there is any: then a log-in by password asks for one.
    #[must_use]
    pub fn any(self) -> bool {
        self.totp || self.passkeys
    }
}

/// What was used up as a second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spent {
    Code,
    Recovery,
    Passkey,
}

impl Spent {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Code => "totp",
            Self::Recovery => "recovery",
            Self::Passkey => "passkey",
        }
    }
}

/// Why a second factor was not changed or taken. `Display` is meant for whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub enum MfaError {
    /// A code, passkey or password that is not right.
    #[error("that code or passkey is not right, was used already, or came too late")]
    Wrong,
    /// There is an authenticator app already.
    #[error("there is an authenticator app already: remove it first")]
    Enrolled,
    /// There is nothing to confirm or to remove.
    #[error("there is no authenticator app to confirm or remove: begin with POST /api/v1/account/mfa/totp")]
    NotEnrolled,
    /// Recovery codes are for whoever has a second factor.
    #[error("there is no second factor that recovery codes could stand for: enrol one first")]
    NoFactor,
    /// As many passkeys as one may have.
    #[error("a user has at most {} passkeys", passkey::PER_USER)]
    TooMany,
    /// A name that a passkey cannot have.
    #[error("a passkey's name has 1 to {MAX_NAME} characters")]
    Name,
    /// Passkeys need a name to be bound to.
    #[error("passkeys need the controller to be reached by a name, not by an address")]
    NoPasskeys,
    /// The session is too old to change what opens the account.
    #[error("log in again first: second factors are changed within 15 minutes of a log-in")]
    Stale,
    /// A machine has neither password nor second factor.
    #[error("second factors are for people")]
    Machine,
    /// The user has what the administrator has not.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// An administrator of one organization must not take away what protects others.
    #[error("the user belongs to other organizations too: they reset it with a recovery code, or the platform does")]
    Elsewhere,
    /// What is kept cannot be read.
    #[error("the second factor that is kept cannot be read")]
    Damaged,
    /// The password that confirms it was not checked, or is wrong.
    #[error(transparent)]
    Login(#[from] LoginError),
    /// What the rows said.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// What a user has.
#[derive(Debug, Clone)]
pub struct Status {
    /// When an authenticator app was confirmed (unix seconds).
    pub totp_since: Option<i64>,
    /// Passkeys.
    pub passkeys: Vec<passkeys::Passkey>,
    /// Recovery codes that are left.
    pub recovery_codes: i64,
    /// Whether an organization of theirs asks for a second factor.
    pub required: bool,
}

/// What turning a factor on or off leads to.
#[derive(Debug, Clone)]
pub struct Changed {
    /// New recovery codes, where some were made: to be shown once.
    pub recovery_codes: Vec<Secret>,
    /// The new secret of the session in which it happened.
    pub session: NewSession,
}

/// A passkey that is being added.
#[derive(Debug, Clone)]
pub struct NewPasskey {
    /// What the next step names it by.
    pub token: Secret,
    /// Options for `navigator.credentials.create`.
    pub options: Value,
}

/// What proves that it is the user who takes a factor away.
#[derive(Debug, Clone)]
pub enum Proof {
    /// The password.
    Password(Secret),
    /// A code of the authenticator app.
    Code(Secret),
}

impl Identity {
    /// What second factors a user has.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn mfa(&self, user_id: &str) -> Result<Status, MfaError> {
        let required = self.subject(user_id).await?.is_some_and(|subject| subject.policy.mfa_required);
        let mut session = self.db().read().await?;
        Ok(Status {
            totp_since: rows::find(&mut session, user_id).await?.and_then(|totp| totp.confirmed_at),
            passkeys: passkeys::list_of_user(&mut session, user_id, passkey::PER_USER).await?,
            recovery_codes: recovery_codes::count(&mut session, user_id).await?,
            required,
        })
    }

    /// Makes a secret for an authenticator app. It counts once a code of it was shown to [`Identity::confirm_totp`].
    ///
    /// # Errors
    /// [`MfaError::Enrolled`], [`MfaError::Machine`].
    pub async fn propose_totp(&self, by: &Caller) -> Result<Enrolment, MfaError> {
        if by.principal.machine {
            return Err(MfaError::Machine);
        }
        let (user_id, secret) = (&by.principal.user_id, totp::generate());
        let shown = totp::enrolment(&secret, &by.principal.name)?;
        let sealed = self.seal(SEALED_FOR, user_id, &secret);
        let mut tx = self.db().begin().await?;
        if !rows::propose(&mut tx, user_id, &sealed).await? {
            return Err(MfaError::Enrolled);
        }
        tx.commit().await?;
        Ok(shown)
    }

    /// Turns an authenticator app on by a code of it, and makes new recovery codes.
    ///
    /// # Errors
    /// [`MfaError::Wrong`], [`MfaError::NotEnrolled`], [`MfaError::Enrolled`].
    pub async fn confirm_totp(&self, by: &Caller, session: &LiveSession, code: &Secret) -> Result<Changed, MfaError> {
        let user_id = &by.principal.user_id;
        self.admit(Limit::Login, &by.origin, Some(&by.principal.name)).map_err(LoginError::from)?;
        let row = rows::find(&mut self.db().read().await?, user_id).await?.ok_or(MfaError::NotEnrolled)?;
        if row.confirmed_at.is_some() {
            return Err(MfaError::Enrolled);
        }
        let secret = self.unseal(SEALED_FOR, user_id, &row.sealed).map_err(|_| MfaError::Damaged)?;
        let now = self.now();
        let Some(step) = totp::step_of(&secret, code.expose(), now) else {
            self.count_against(Limit::Login, &by.origin, Some(&by.principal.name));
            return Err(MfaError::Wrong);
        };
        let mut tx = self.db().begin().await?;
        let first = !self.has_factor(&mut tx, user_id).await?;
        if !rows::confirm(&mut tx, user_id, &row.sealed, step, now).await? {
            return Err(MfaError::Wrong);
        }
        self.turn_on(tx, by, session, first, FactorChange::AppAdded).await
    }

    /// Takes the authenticator app away.
    ///
    /// # Errors
    /// [`MfaError::Wrong`], [`MfaError::NotEnrolled`], [`MfaError::Login`].
    pub async fn remove_totp(&self, by: &Caller, session: &LiveSession, proof: &Proof) -> Result<Changed, MfaError> {
        let user_id = &by.principal.user_id;
        if let Proof::Password(password) = proof {
            self.check_own_password(&by.origin, &by.principal.name, password).await?;
        }
        let mut tx = self.db().begin().await?;
        if let Proof::Code(code) = proof {
            self.admit(Limit::Login, &by.origin, Some(&by.principal.name)).map_err(LoginError::from)?;
            if let Err(error) = self.spend_code(&mut tx, user_id, code).await {
                self.count_against(Limit::Login, &by.origin, Some(&by.principal.name));
                return Err(error);
            }
        }
        if !rows::delete(&mut tx, user_id).await? {
            return Err(MfaError::NotEnrolled);
        }
        self.turn_off(tx, by, session, FactorChange::AppRemoved).await
    }

    /// Makes ten new recovery codes; those from before end.
    ///
    /// # Errors
    /// [`MfaError::NoFactor`], [`MfaError::Stale`].
    pub async fn renew_recovery_codes(&self, by: &Caller, session: &LiveSession) -> Result<Vec<Secret>, MfaError> {
        self.must_be_fresh(session)?;
        let user_id = &by.principal.user_id;
        let mut tx = self.db().begin().await?;
        self.hold(&mut tx, session).await?;
        if !self.has_factor(&mut tx, user_id).await? {
            return Err(MfaError::NoFactor);
        }
        let codes = self.write_recovery_codes(&mut tx, user_id).await?;
        self.tell(&mut tx, by, FactorChange::CodesRenewed).await?;
        tx.commit().await?;
        Ok(codes)
    }

    /// Begins to add a passkey.
    ///
    /// # Errors
    /// [`MfaError::NoPasskeys`], [`MfaError::TooMany`], [`MfaError::Machine`], [`MfaError::Stale`].
    pub async fn begin_passkey(&self, by: &Caller, session: &LiveSession) -> Result<NewPasskey, MfaError> {
        self.must_be_fresh(session)?;
        if by.principal.machine {
            return Err(MfaError::Machine);
        }
        let (options, data) = self.begin_registration(&by.principal.user_id, &by.principal.name).await?;
        let user = Some((by.principal.user_id.as_str(), session.epoch()));
        let mut tx = self.db().begin().await?;
        let (token, _) = self.begin_challenge(&mut tx, ADD, user, data, LIFETIME).await?;
        tx.commit().await?;
        Ok(NewPasskey { token, options })
    }

    /// Adds a passkey that the browser made. The first factor of a user comes with recovery codes.
    ///
    /// # Errors
    /// [`MfaError::Wrong`] where it is not one, or not begun by this user; [`MfaError::Name`].
    pub async fn add_passkey(
        &self,
        by: &Caller,
        session: &LiveSession,
        token: &Secret,
        name: &str,
        credential: &Value,
    ) -> Result<Changed, MfaError> {
        let name = passkey_name(name)?;
        let user_id = &by.principal.user_id;
        let mut tx = self.db().begin().await?;
        let begun = challenges::take(&mut tx, ADD, &sha256_hex(token.expose()), self.now()).await?;
        // Whatever comes of it, it is over.
        tx.commit().await?;
        let begun = begun.filter(|begun| begun.user_id.as_ref() == Some(user_id) && begun.epoch == session.epoch());
        let begun = begun.ok_or(MfaError::Wrong)?;
        let row = self.finish_registration(user_id, name, credential, &begun.data)?;
        let mut tx = self.db().begin().await?;
        let first = !self.has_factor(&mut tx, user_id).await?;
        passkeys::create(&mut tx, &row).await?;
        self.turn_on(tx, by, session, first, FactorChange::PasskeyAdded(name)).await
    }

    /// Gives a passkey another name. It opens what it opened before, so no session ends.
    ///
    /// # Errors
    /// [`MfaError::Name`]; [`MfaError::Storage`] where the user has none of that id.
    pub async fn rename_passkey(
        &self,
        by: &Caller,
        session: &LiveSession,
        id: &str,
        name: &str,
    ) -> Result<passkeys::Passkey, MfaError> {
        const UNKNOWN: storage::Error = storage::Error::NotFound("passkey");
        let (name, user_id) = (passkey_name(name)?, &by.principal.user_id);
        let mut tx = self.db().begin().await?;
        self.hold(&mut tx, session).await?;
        let passkey = passkeys::find(&mut tx, id).await?.filter(|passkey| passkey.user_id == *user_id);
        let passkey = passkey.ok_or(UNKNOWN)?;
        if passkey.name != name {
            if !passkeys::rename(&mut tx, user_id, id, name).await? {
                return Err(UNKNOWN.into());
            }
            let detail = json!({"passkey": id, "before": {"name": passkey.name}, "after": {"name": name}});
            let entry = Entry { action: "passkey.rename", target: &by.principal.name, detail, ..Entry::default() };
            self.record_for(&mut tx, by, Some(user_id), &entry).await?;
        }
        tx.commit().await?;
        Ok(passkeys::Passkey { name: name.to_owned(), ..passkey })
    }

    /// Takes a passkey away.
    ///
    /// # Errors
    /// [`MfaError::Storage`] where the user has none of that id, [`MfaError::Stale`].
    pub async fn remove_passkey(&self, by: &Caller, session: &LiveSession, id: &str) -> Result<Changed, MfaError> {
        self.must_be_fresh(session)?;
        let mut tx = self.db().begin().await?;
        let passkey = passkeys::find(&mut tx, id).await?;
        if !passkeys::delete(&mut tx, &by.principal.user_id, id).await? {
            return Err(storage::Error::NotFound("passkey").into());
        }
        let name = passkey.map(|passkey| passkey.name).unwrap_or_default();
        self.turn_off(tx, by, session, FactorChange::PasskeyRemoved { id, name: &name }).await
    }

    /// Takes every second factor of a member away, for an administrator of the only organization that they are in by their own
    /// act. Where they did not accept this one, nothing happens; it is recorded all the same, so that nothing tells who has an
    /// account elsewhere.
    ///
    /// # Errors
    /// [`MfaError::Denied`] where the member has what the caller has not, [`MfaError::Elsewhere`] for somebody of several
    /// organizations; [`MfaError::Storage`] where there is no such member.
    pub async fn reset_mfa(&self, by: &Caller, org_id: &str, user_id: &str) -> Result<(), MfaError> {
        self.check_rank(by, org_id, user_id, false).await??;
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, org_id, user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        if member.accepted_at.is_some() {
            // Before anything is counted, because it locks the user.
            users::bump_epoch(&mut tx, user_id).await?;
            let alone = memberships::count_elsewhere(&mut tx, user_id, org_id).await? == 0;
            let operator = users::find(&mut tx, user_id).await?.is_some_and(|user| user.operator);
            if !alone || operator {
                return Err(MfaError::Elsewhere);
            }
            self.clear_factors(&mut tx, user_id).await?;
            let org = storage::orgs::get(&mut tx, org_id).await?;
            let mail = Mail::MfaReset { org: Some(&org.name), by: &by.principal.name, at: self.now() };
            self.enqueue_mail(&mut tx, &member.name, Some(org_id), &mail).await?;
        }
        self.record(&mut tx, by, &Entry { org_id, action: "mfa.reset", target: &member.name, ..Entry::default() })
            .await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// Takes every second factor of a user away, whoever they are: for whoever runs the machine.
    ///
    /// # Errors
    /// [`MfaError::Storage`] where there is no such user.
    pub async fn reset_mfa_of(&self, by: &Caller, name: &str) -> Result<(), MfaError> {
        let name = crate::name::normalise(name);
        let mut tx = self.db().begin().await?;
        let user = users::find_by_name(&mut tx, &name).await?.ok_or(storage::Error::NotFound("user"))?;
        users::bump_epoch(&mut tx, &user.id).await?;
        self.clear_factors(&mut tx, &user.id).await?;
        let mail = Mail::MfaReset { org: None, by: &by.principal.name, at: self.now() };
        self.enqueue_mail(&mut tx, &user.name, None, &mail).await?;
        let entry = Entry { action: "mfa.reset", target: &user.name, ..Entry::default() };
        self.record_for(&mut tx, by, Some(&user.id), &entry).await?;
        tx.commit().await?;
        self.forget(&user.id);
        Ok(())
    }

    /// Spends a code of a user's authenticator app.
    pub(crate) async fn spend_code(&self, tx: &mut Tx, user_id: &str, code: &Secret) -> Result<Spent, MfaError> {
        let row = rows::find(tx, user_id).await?.filter(|row| row.confirmed_at.is_some()).ok_or(MfaError::Wrong)?;
        let secret = self.unseal(SEALED_FOR, user_id, &row.sealed).map_err(|_| MfaError::Damaged)?;
        let step = totp::step_of(&secret, code.expose(), self.now()).ok_or(MfaError::Wrong)?;
        if rows::spend(tx, user_id, &row.sealed, step).await? { Ok(Spent::Code) } else { Err(MfaError::Wrong) }
    }

    /// Spends a recovery code of a user.
    pub(crate) async fn spend_recovery(&self, tx: &mut Tx, user_id: &str, code: &Secret) -> Result<Spent, MfaError> {
        let mac = self.recovery_mac(user_id, code.expose()).ok_or(MfaError::Wrong)?;
        if recovery_codes::spend(tx, user_id, &mac).await? { Ok(Spent::Recovery) } else { Err(MfaError::Wrong) }
    }

    /// A session that was stolen, or left open, must not plant a factor that outlives it: changes to factors are for those
    /// who logged in a moment ago.
    fn must_be_fresh(&self, session: &LiveSession) -> Result<(), MfaError> {
        if self.may_change_factors(session) { Ok(()) } else { Err(MfaError::Stale) }
    }

    /// Whether the session's holder logged in a moment ago, as changes to factors ask for.
    #[must_use]
    pub fn may_change_factors(&self, session: &LiveSession) -> bool {
        session.created_at() + FRESH > self.now()
    }

    /// Whether there can be passkeys: they are bound to a name, and an address is none.
    #[must_use]
    pub fn has_passkeys(&self) -> bool {
        self.0.webauthn.is_some()
    }

    async fn has_factor(&self, tx: &mut Tx, user_id: &str) -> storage::Result<bool> {
        let totp = rows::find(tx, user_id).await?.is_some_and(|totp| totp.confirmed_at.is_some());
        Ok(totp || !passkeys::list_of_user(tx, user_id, 1).await?.is_empty())
    }

    async fn write_recovery_codes(&self, tx: &mut Tx, user_id: &str) -> storage::Result<Vec<Secret>> {
        let codes = recovery::generate();
        let macs: Vec<String> = codes.iter().filter_map(|code| self.recovery_mac(user_id, code.expose())).collect();
        recovery_codes::replace(tx, user_id, &macs, self.now()).await?;
        Ok(codes)
    }

    async fn clear_factors(&self, tx: &mut Tx, user_id: &str) -> storage::Result<()> {
        rows::delete(tx, user_id).await?;
        passkeys::delete_all(tx, user_id).await?;
        recovery_codes::delete_all(tx, user_id).await
    }

    async fn turn_on(
        &self,
        mut tx: Tx,
        by: &Caller,
        session: &LiveSession,
        first: bool,
        change: FactorChange<'_>,
    ) -> Result<Changed, MfaError> {
        let user_id = &by.principal.user_id;
        self.hold(&mut tx, session).await?;
        if first {
            users::bump_epoch(&mut tx, user_id).await?;
        }
        let recovery_codes = match first || matches!(change, FactorChange::AppAdded) {
            true => self.write_recovery_codes(&mut tx, user_id).await?,
            false => Vec::new(),
        };
        let session = self.renew(&mut tx, session, true).await?;
        self.tell(&mut tx, by, change).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(Changed { recovery_codes, session })
    }

    /// Tells the user of a change by mail, should it not have been them, and the audit log.
    async fn tell(&self, tx: &mut Tx, by: &Caller, change: FactorChange<'_>) -> storage::Result<()> {
        let from = by.origin.address.map(|address| address.to_canonical().to_string());
        let from = from.as_deref().unwrap_or("an unknown address");
        let mail = Mail::Factor { change, at: self.now(), from };
        self.enqueue_mail(tx, &by.principal.name, None, &mail).await?;
        let (action, detail) = match change {
            FactorChange::AppAdded => ("mfa.enrol", json!({"method": "totp"})),
            FactorChange::AppRemoved => ("mfa.remove", json!({"method": "totp"})),
            FactorChange::PasskeyAdded(name) => ("passkey.add", json!({"name": name})),
            FactorChange::PasskeyRemoved { id, .. } => ("passkey.remove", json!({"passkey": id})),
            FactorChange::CodesRenewed => ("mfa.enrol", json!({"method": "recovery-codes"})),
        };
        let entry = Entry { action, target: &by.principal.name, detail, ..Entry::default() };
        self.record_for(tx, by, Some(&by.principal.user_id), &entry).await
    }

    async fn turn_off(
        &self,
        mut tx: Tx,
        by: &Caller,
        session: &LiveSession,
        change: FactorChange<'_>,
    ) -> Result<Changed, MfaError> {
        let user_id = &by.principal.user_id;
        self.hold(&mut tx, session).await?;
        users::bump_epoch(&mut tx, user_id).await?;
        if !self.has_factor(&mut tx, user_id).await? {
            recovery_codes::delete_all(&mut tx, user_id).await?;
        }
        let session = self.renew(&mut tx, session, session.second_factor).await?;
        self.tell(&mut tx, by, change).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(Changed { recovery_codes: Vec::new(), session })
    }
}

/// A name that a passkey can have.
fn passkey_name(name: &str) -> Result<&str, MfaError> {
    let name = name.trim();
    let fits = !name.is_empty() && name.chars().count() <= MAX_NAME && !name.chars().any(crate::name::is_hidden);
    if fits { Ok(name) } else { Err(MfaError::Name) }
}

#[cfg(test)]
mod authenticator;
#[cfg(test)]
pub(crate) mod tests;

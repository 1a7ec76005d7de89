//! Passwords: changing one's own, a link by mail for whoever forgot it, and a new one by whoever runs the server.

use std::sync::Arc;

use storage::{challenges, memberships, users};
use tracing::Instrument;

use super::{AdminError, UserKind};
use crate::audit::{Caller, Credential, Entry, Origin, Outcome};
use crate::core::Identity;
use crate::limits::Limit;
use crate::login::LoginError;
use crate::mail::Mail;
use crate::name::{UserName, normalise};
use crate::password::{self, Busy};
use crate::rbac::Principal;
use crate::secret::{Secret, sha256_hex};

/// How long a mailed link works, in seconds (72 h).
const LINK_LIFETIME: i64 = 72 * 3600;
/// What a link's challenge is called.
const RESET: &str = "reset";

impl Identity {
    /// Replaces somebody's password by one of their choice, after checking the current one as a log-in would. Everything
    /// that was had with the old one ends.
    ///
    /// # Errors
    /// [`AdminError::Login`] where the current one is not right; [`AdminError::Password`], [`AdminError::Invalid`];
    /// [`AdminError::Storage`] with a conflict where it was changed a moment before.
    pub async fn change_password(
        &self,
        by: &Caller,
        name: &str,
        current: &Secret,
        new: &Secret,
    ) -> Result<i64, AdminError> {
        password::check_for(new, name)?;
        if current == new {
            return Err(AdminError::Invalid("the new password is the old one"));
        }
        let (user_id, epoch) = self.check_own_password(&by.origin, name, current).await?;
        // Only while the password that was checked still is the one: a reset that came in between stands.
        self.write_password(by, "password.change", &user_id, new, None, Some(epoch)).await?;
        Ok(epoch + 1)
    }

    /// Gives somebody a new password, whoever they are, and lifts their lock: for the operator of the machine. Without
    /// `new` a temporary one is generated and returned.
    ///
    /// # Errors
    /// [`AdminError::Storage`] where there is no such user or they have no password; [`AdminError::Password`].
    pub async fn reset_password(
        &self,
        by: &Caller,
        name: &str,
        new: Option<&Secret>,
    ) -> Result<Option<Secret>, AdminError> {
        let name = normalise(name);
        if !name.contains('@') {
            return Err(AdminError::Invalid("a machine has no password: make an API key for it"));
        }
        let user = users::find_by_name(&mut self.db().read().await?, &name).await?;
        let user = user.ok_or(storage::Error::NotFound("user"))?;
        let generated = if new.is_none() { Some(password::generate()) } else { None };
        if let Some(new) = new {
            password::check(new)?;
            self.write_password(by, "password.reset", &user.id, new, None, None).await?;
        } else if let Some(generated) = &generated {
            let until = self.now() + self.0.options.temporary_password_lifetime;
            self.write_password(by, "password.reset", &user.id, generated, Some(until), None).await?;
        }
        self.lift_lock(&name).await?;
        Ok(generated)
    }

    async fn write_password(
        &self,
        by: &Caller,
        action: &str,
        user_id: &str,
        new: &Secret,
        until: Option<i64>,
        epoch: Option<i64>,
    ) -> Result<(), AdminError> {
        let hash = self.0.hasher.hash(new).await?;
        let mut tx = self.db().begin().await?;
        users::update_password(&mut tx, user_id, &hash, until, epoch).await?;
        self.finish_password(&mut tx, user_id).await?;
        self.record_everywhere(&mut tx, by, user_id, action).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// What follows every new password: links that were mailed before no longer work, and the owner hears of it.
    async fn finish_password(&self, tx: &mut storage::Tx, user_id: &str) -> storage::Result<()> {
        challenges::delete_of_user(tx, RESET, user_id).await?;
        if let Some(user) = users::find(tx, user_id).await? {
            self.enqueue_mail(tx, &user.name, None, &Mail::PasswordChanged { at: self.now() }).await?;
        }
        Ok(())
    }

    /// Mails a link to whoever forgot their password, if somebody goes by that address and may get in anywhere. The link
    /// works once, for 72 hours. Returns at once, whether or not there is somebody: the work is done apart.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for what is no address; [`AdminError::Login`] where too many ask from one place or for one
    /// address, [`AdminError::Busy`] at this moment.
    pub fn forgot_password(&self, from: &Origin, email: &str) -> Result<(), AdminError> {
        let name = email.parse::<UserName>().ok().filter(UserName::is_email);
        let name = name.ok_or(AdminError::Invalid("that is not an e-mail address"))?;
        self.admit(Limit::Reset, from, Some(name.as_str())).map_err(LoginError::from)?;
        let permit = Arc::clone(&self.0.resets).try_acquire_owned().map_err(|_| Busy)?;
        let (this, from) = (self.clone(), from.clone());
        let work = async move {
            let _permit = permit;
            if let Err(error) = this.mail_link(&from, &name).await {
                tracing::error!(%error, "a link to choose a new password could not be mailed");
            }
        };
        tokio::spawn(work.in_current_span());
        Ok(())
    }

    async fn mail_link(&self, from: &Origin, name: &UserName) -> storage::Result<()> {
        let found = users::find_by_name(&mut self.db().read().await?, name.as_str()).await?;
        let user = match found.filter(|user| user.kind == UserKind::Local.as_str()) {
            Some(user) if self.epochs(&user.id).await?.is_some() => user,
            _ => return self.record_stranger(from, name).await,
        };
        let by = mailed(from, &user, Credential::None);
        let mut tx = self.db().begin().await?;
        let whose = Some((user.id.as_str(), user.epoch));
        let (token, until) = self.begin_challenge(&mut tx, RESET, whose, String::new(), LINK_LIFETIME).await?;
        self.enqueue_mail(&mut tx, &user.name, None, &Mail::Reset { token: &token, until }).await?;
        self.record_everywhere(&mut tx, &by, &user.id, "password.reset_request").await?;
        tx.commit().await
    }

    async fn record_stranger(&self, from: &Origin, name: &UserName) -> storage::Result<()> {
        let principal = Principal::nobody(name.as_str());
        let by = Caller { principal: Arc::new(principal), credential: Credential::None, origin: from.clone() };
        let entry = Entry {
            action: "password.reset_request",
            target: name.as_str(),
            outcome: Outcome::Denied,
            reason: "nobody who may get in goes by that address",
            ..Entry::default()
        };
        let mut tx = self.db().begin().await?;
        self.record(&mut tx, &by, &entry).await?;
        tx.commit().await
    }

    /// Replaces a password by means of a mailed link. Everything that was had with the old one ends, and a lock is lifted.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] where the link was used, has ended, or never was; [`AdminError::Password`], with which the link
    /// is not used up.
    pub async fn reset_password_by_link(&self, from: &Origin, token: &Secret, new: &Secret) -> Result<(), AdminError> {
        const ENDED: AdminError = AdminError::Invalid("that link was used or has ended: ask for another one");
        self.admit(Limit::Reset, from, None).map_err(LoginError::from)?;
        let hash = sha256_hex(token.expose());
        let now = self.now();
        let mut session = self.db().read().await?;
        let found = challenges::find(&mut session, RESET, &hash, now).await?;
        let Some(user_id) = found.and_then(|challenge| challenge.user_id) else {
            self.count_against(Limit::Reset, from, None);
            return Err(ENDED);
        };
        let user = users::find(&mut session, &user_id).await?.ok_or(ENDED)?;
        drop(session);
        password::check_for(new, &user.name)?;
        let new_hash = self.0.hasher.hash(new).await?;
        let mut tx = self.db().begin().await?;
        let challenge = challenges::take(&mut tx, RESET, &hash, now).await?.ok_or(ENDED)?;
        let user = users::find(&mut tx, &user_id).await?.ok_or(ENDED)?;
        if user.epoch != challenge.epoch
            || memberships::active_orgs(&mut tx, &user_id).await?.is_empty() && !user.operator
        {
            return Err(ENDED);
        }
        users::update_password(&mut tx, &user_id, &new_hash, None, Some(challenge.epoch)).await?;
        self.finish_password(&mut tx, &user_id).await?;
        let by = mailed(from, &user, Credential::Mailed);
        self.record_everywhere(&mut tx, &by, &user_id, "password.reset").await?;
        tx.commit().await?;
        self.forget(&user_id);
        self.lift_lock(&user.name).await?;
        Ok(())
    }
}

/// Whoever holds what was mailed to a user, as the audit log names them.
fn mailed(from: &Origin, user: &users::User, credential: Credential) -> Caller {
    let mut principal = Principal::nobody(user.shown_name());
    principal.user_id.clone_from(&user.id);
    Caller { principal: Arc::new(principal), credential, origin: from.clone() }
}

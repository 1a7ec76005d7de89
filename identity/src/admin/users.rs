//! Users: adding them to an organization, shutting them out of it and letting them in again, and their passwords.

use serde_json::json;
use storage::memberships::{self, Member};
use storage::{Tx, users};

use super::{AdminError, keep_an_admin};
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::name::UserName;
use crate::password;
use crate::secret::Secret;

/// What kind of user somebody is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UserKind {
    /// A person with a password.
    Local,
    /// A program: API keys only, no console.
    Machine,
}

impl UserKind {
    /// As rows and the API spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Machine => "machine",
        }
    }
}

/// What adding a user needs.
#[derive(Debug, Clone)]
pub struct NewUser<'a> {
    /// An e-mail address for a person, a name for a machine.
    pub name: &'a UserName,
    /// Which of the two.
    pub kind: UserKind,
    /// A password to begin with; for a person without one a temporary one is generated.
    pub password: Option<&'a Secret>,
}

/// A user who was just added to an organization.
#[derive(Debug, Clone)]
pub struct AddedUser {
    /// Their membership.
    pub member: Member,
    /// The password that was generated, to be shown once; `None` where there was one already or it was given.
    pub temporary_password: Option<Secret>,
}

/// A user to be written: all that is slow has been done.
pub(crate) struct Prepared<'a> {
    new: NewUser<'a>,
    hash: Option<String>,
    generated: Option<Secret>,
}

impl Identity {
    /// Adds a user to an organization. Somebody who exists already keeps their credentials, whatever password is given.
    ///
    /// # Errors
    /// [`AdminError::Invalid`], [`AdminError::Password`]; [`AdminError::Storage`] with a conflict where the user belongs to
    /// the organization already, or the name is another kind of user's.
    pub async fn add_user(&self, by: &Caller, org_id: &str, new: &NewUser<'_>) -> Result<AddedUser, AdminError> {
        let prepared = self.prepare(new).await?;
        let mut tx = self.db().begin().await?;
        let added = self.write_user(&mut tx, org_id, prepared).await?;
        let detail = json!({"kind": added.member.kind});
        let entry = Entry { org_id, action: "user.create", target: &added.member.name, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget(&added.member.user_id);
        Ok(added)
    }

    /// Checks and hashes, before a transaction begins. Done for a name that exists too, so that both take as long.
    pub(crate) async fn prepare<'a>(&self, new: &NewUser<'a>) -> Result<Prepared<'a>, AdminError> {
        match new.kind {
            UserKind::Local if !new.name.is_email() => {
                return Err(AdminError::Invalid("a person's name is their e-mail address"));
            }
            UserKind::Machine if new.name.is_email() => {
                return Err(AdminError::Invalid("a machine's name is not an e-mail address"));
            }
            UserKind::Machine if new.password.is_some() => {
                return Err(AdminError::Invalid("a machine has no password: make an API key for it"));
            }
            UserKind::Machine => return Ok(Prepared { new: new.clone(), hash: None, generated: None }),
            UserKind::Local => {}
        }
        let generated = if new.password.is_none() { Some(password::generate()) } else { None };
        if let Some(given) = new.password {
            password::check(given)?;
        }
        let hash = match new.password.or(generated.as_ref()) {
            Some(password) => Some(self.0.hasher.hash(password).await?),
            None => None,
        };
        Ok(Prepared { new: new.clone(), hash, generated })
    }

    pub(crate) async fn write_user(
        &self,
        tx: &mut Tx,
        org_id: &str,
        prepared: Prepared<'_>,
    ) -> Result<AddedUser, AdminError> {
        let now = self.now();
        let Prepared { new, hash, generated } = prepared;
        if let Some(known) = users::find_by_name(tx, new.name.as_str()).await? {
            if known.kind != new.kind.as_str() || known.operator {
                return Err(storage::Error::Conflict("that name is taken").into());
            }
            let member = memberships::create(tx, org_id, &known.id, now).await?;
            return Ok(AddedUser { member, temporary_password: None });
        }
        let lifetime = self.0.options.temporary_password_lifetime;
        let row = users::NewUser {
            name: new.name.as_str(),
            kind: new.kind.as_str(),
            operator: false,
            password_hash: hash.as_deref(),
            temporary_until: generated.as_ref().map(|_| now + lifetime),
        };
        let user = users::create(tx, &row, now).await?;
        let member = memberships::create(tx, org_id, &user.id, now).await?;
        Ok(AddedUser { member, temporary_password: generated })
    }

    /// Shuts a member out of an organization, or lets them in again with all they had. What they were given ends: all of it
    /// where this was the last organization they were active in, else their access tokens.
    ///
    /// # Errors
    /// [`AdminError::LastAdmin`]; [`AdminError::Storage`] where there is no such member.
    pub async fn set_active(&self, by: &Caller, org_id: &str, user_id: &str, active: bool) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, org_id, user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        let changed = memberships::update_active(&mut tx, org_id, user_id, active).await?;
        if changed && !active {
            keep_an_admin(&mut tx, org_id).await?;
            // First, because it locks the user: two organizations that shut somebody out at the same time do so one after
            // the other, and the second sees that it was the last.
            users::bump_grants_epoch(&mut tx, user_id).await?;
            if memberships::active_orgs(&mut tx, user_id).await?.is_empty() {
                users::bump_epoch(&mut tx, user_id).await?;
            }
        }
        let action = if active { "user.activate" } else { "user.deactivate" };
        self.record(&mut tx, by, &Entry { org_id, action, target: &member.name, ..Entry::default() }).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

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
        let name = crate::name::normalise(name);
        let user = users::find_by_name(&mut self.db().read().await?, &name).await?;
        let user = user.ok_or(storage::Error::NotFound("user"))?;
        if user.kind == UserKind::Machine.as_str() {
            return Err(AdminError::Invalid("a machine has no password: make an API key for it"));
        }
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
        self.record_everywhere(&mut tx, by, user_id, action).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// Records what happened to a user in every organization of theirs, and on the platform where they run it.
    pub(crate) async fn record_everywhere(
        &self,
        tx: &mut Tx,
        by: &Caller,
        user_id: &str,
        action: &str,
    ) -> storage::Result<()> {
        let Some(user) = users::find(tx, user_id).await? else { return Ok(()) };
        let mut orgs = memberships::orgs_of_user(tx, user_id).await?;
        if user.operator {
            orgs.insert(0, String::new());
        }
        for org_id in &orgs {
            self.record(tx, by, &Entry { org_id, action, target: &user.name, ..Entry::default() }).await?;
        }
        Ok(())
    }
}

//! Users of an organization: inviting them, their profile, shutting them out and letting them in again, taking them away.

use serde_json::json;
use storage::groups::{self, Group};
use storage::memberships::{self, Member, UpdateMember};
use storage::orgs::Org;
use storage::users::{self, row_name};
use storage::{Tx, api_keys, idempotency};

use super::{AdminError, keep_an_admin};
use crate::audit::{Caller, Credential, Entry, Origin};
use crate::core::Identity;
use crate::limits::{Limit, Throttled};
use crate::mail::Mail;
use crate::name::UserName;
use crate::password;
use crate::rbac::Denial;
use crate::secret::Secret;

/// Longest first or last name, in characters.
const MAX_NAME: usize = 64;
/// Groups that somebody may be invited into at once.
const MAX_GROUPS: usize = 50;
/// Longest validity of API keys that may be set for somebody, in days.
const MAX_KEY_DAYS: i64 = 3650;
/// Bindings of a member that are looked at in one go.
const GRANTS: i64 = 500;
/// API keys of a member that are forgotten at once where the member goes: more than there can be.
const KEYS: i64 = 1000;

/// What invitations are counted under.
fn invited_as(org_id: &str, name: &str) -> String {
    format!("{org_id}/{name}")
}

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

/// What inviting a user needs.
#[derive(Debug, Clone)]
pub struct Invite<'a> {
    /// An e-mail address for a person, a name for a machine.
    pub name: &'a UserName,
    /// Which of the two.
    pub kind: UserKind,
    /// First name; may be empty.
    pub first_name: &'a str,
    /// Last name; may be empty.
    pub last_name: &'a str,
    /// Names of groups to be in from the start.
    pub groups: &'a [String],
}

/// A user who was just added to an organization.
#[derive(Debug, Clone)]
pub struct AddedUser {
    /// Their membership.
    pub member: Member,
    /// The password that was generated, to be shown once; `None` where there was one already, or it was given or mailed.
    pub temporary_password: Option<Secret>,
}

/// A user to be written: all that is slow has been done.
pub(crate) struct Prepared<'a> {
    new: NewUser<'a>,
    hash: Option<String>,
    generated: Option<Secret>,
}

/// What becomes of a password that was generated.
#[derive(Clone, Copy)]
pub(crate) enum Deliver<'a> {
    /// It is returned, to be shown once on the server's own command line.
    Return,
    /// It is mailed, in the name of this organization.
    Mail(&'a Org),
}

impl Identity {
    /// Adds a user to an organization, for whoever runs the server. Somebody who exists already keeps their credentials,
    /// whatever password is given.
    ///
    /// # Errors
    /// [`AdminError::Invalid`], [`AdminError::Password`]; [`AdminError::Storage`] with a conflict where the user belongs to
    /// the organization already, or the name is another kind of user's.
    pub async fn add_user(&self, by: &Caller, org_id: &str, new: &NewUser<'_>) -> Result<AddedUser, AdminError> {
        let prepared = self.prepare(new).await?;
        let mut tx = self.db().begin().await?;
        let added = self.write_user(&mut tx, org_id, &prepared, Deliver::Return).await?;
        self.record_user(&mut tx, by, "user.create", &added.member, json!({"kind": added.member.kind})).await?;
        tx.commit().await?;
        self.forget(&added.member.user_id);
        Ok(added)
    }

    /// Invites a user to an organization. A person hears of it by mail: somebody new, or who never used the temporary
    /// password of an earlier invitation, gets one (which ends that one, and what was had with it); whoever has an account
    /// already is told that they were added to the organization. All of that takes the same work and has the same answer.
    ///
    /// # Errors
    /// [`AdminError::Invalid`]; [`AdminError::Storage`] with a conflict where the user belongs to the organization already;
    /// [`AdminError::Invited`].
    pub async fn invite_user(&self, by: &Caller, org: &Org, new: &Invite<'_>) -> Result<Member, AdminError> {
        if new.kind == UserKind::Machine {
            return self.write_invited(by, org, new).await;
        }
        self.admit_invitation(Limit::Invitation, &org.id, new.name.as_str())?;
        let invited = self.write_invited(by, org, new).await;
        if invited.is_err() {
            self.give_back(Limit::Invitation, &Origin::default(), Some(&invited_as(&org.id, new.name.as_str())));
        }
        invited
    }

    /// An administrator must not flood an address, by inviting, deleting and inviting neither.
    fn admit_invitation(&self, limit: Limit, org_id: &str, name: &str) -> Result<(), AdminError> {
        let admitted = self.admit(limit, &Origin::default(), Some(&invited_as(org_id, name)));
        admitted.map_err(|Throttled { retry_after }| AdminError::Invited { retry_after })
    }

    async fn write_invited(&self, by: &Caller, org: &Org, new: &Invite<'_>) -> Result<Member, AdminError> {
        let (first_name, last_name) = (person_name(new.first_name)?, person_name(new.last_name)?);
        let user = NewUser { name: new.name, kind: new.kind, password: None };
        let prepared = self.prepare(&user).await?;
        // Two organizations may invite the same person at the same time: whoever comes second finds them there.
        let mut tries = 0;
        let member = loop {
            tries += 1;
            let mut tx = self.db().begin().await?;
            match self.write_user(&mut tx, &org.id, &prepared, Deliver::Mail(org)).await {
                Ok(added) => {
                    let names =
                        UpdateMember { first_name: Some(first_name), last_name: Some(last_name), key_valid_days: None };
                    let user_id = &added.member.user_id;
                    if !(first_name.is_empty() && last_name.is_empty()) {
                        memberships::update(&mut tx, &org.id, user_id, &names, None).await?;
                    }
                    let member = self.member(&mut tx, &org.id, user_id).await?;
                    let joined = self.join_groups(&mut tx, by, &member, new.groups).await?;
                    let action = if new.kind == UserKind::Machine { "user.create" } else { "user.invite" };
                    self.record_user(&mut tx, by, action, &member, json!({"kind": member.kind})).await?;
                    for group in &joined {
                        self.record_member(&mut tx, by, "group.member_add", group, &member).await?;
                    }
                    tx.commit().await?;
                    break member;
                }
                Err(AdminError::Storage(storage::Error::Conflict(_)))
                    if tries < 3 && {
                        drop(tx);
                        !self.is_member(&org.id, new).await?
                    } => {}
                Err(error) => return Err(error),
            }
        };
        self.forget(&member.user_id);
        Ok(member)
    }

    async fn join_groups(
        &self,
        tx: &mut Tx,
        by: &Caller,
        member: &Member,
        names: &[String],
    ) -> Result<Vec<Group>, AdminError> {
        if names.len() > MAX_GROUPS {
            return Err(AdminError::Field { field: "groups", reason: "at most 50 at a time" });
        }
        let mut groups = Vec::with_capacity(names.len());
        // In one order, so that two who do this at the same time do not wait for each other.
        let names: std::collections::BTreeSet<&str> = names.iter().map(|name| name.trim()).collect();
        for name in names {
            let found = groups::find_by_name(tx, &member.org_id, name).await?;
            let id = found.ok_or(storage::Error::NotFound("group"))?.id;
            let group = groups::lock(tx, &member.org_id, &id).await?;
            self.join_group(tx, by, &group, member).await?;
            groups.push(group);
        }
        Ok(groups)
    }

    async fn is_member(&self, org_id: &str, new: &Invite<'_>) -> storage::Result<bool> {
        let mut session = self.db().read().await?;
        if users::find_by_name(&mut session, new.name.as_str()).await?.is_some_and(|user| user.operator) {
            return Ok(true);
        }
        Ok(memberships::find_by_name(&mut session, org_id, new.name.as_str()).await?.is_some())
    }

    /// Invites a person anew who was not here so far: a new temporary password ends the old one.
    ///
    /// # Errors
    /// [`AdminError::Storage`]: a conflict for a machine and for somebody who was here already, or there is no such member;
    /// [`AdminError::Invited`].
    pub async fn invite_again(&self, by: &Caller, org: &Org, user_id: &str) -> Result<(), AdminError> {
        let generated = password::generate();
        let hash = self.0.hasher.hash(&generated).await?;
        let mut tx = self.db().begin().await?;
        let member = self.member(&mut tx, &org.id, user_id).await?;
        if member.kind != UserKind::Local.as_str() {
            return Err(storage::Error::Conflict("a machine gets no invitation: make an API key for it").into());
        }
        if member.last_access_at.is_some() || !member.active {
            return Err(storage::Error::Conflict(
                "only a user who was invited and has not been here yet is invited again",
            )
            .into());
        }
        self.admit_invitation(Limit::InvitationAgain, &org.id, &member.name)?;
        self.admit_invitation(Limit::Invitation, &org.id, &member.name)?;
        let known = users::find(&mut tx, user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        self.mail_invitation(&mut tx, org, &known, &hash, &generated).await?;
        memberships::update_invited(&mut tx, &org.id, user_id, self.now()).await?;
        self.record_user(&mut tx, by, "user.resend", &member, serde_json::Value::Null).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// Mails somebody that they were added, and to whoever never proved that the address is theirs a new temporary password.
    async fn mail_invitation(
        &self,
        tx: &mut Tx,
        org: &Org,
        known: &users::User,
        hash: &str,
        generated: &Secret,
    ) -> Result<(), AdminError> {
        if known.verified {
            self.enqueue_mail(tx, &known.name, Some(&org.id), &Mail::Added { org: &org.name }).await?;
            return Ok(());
        }
        let until = self.now() + self.0.options.temporary_password_lifetime;
        users::update_password(tx, &known.id, hash, Some(until), Some(known.epoch)).await?;
        let mail = Mail::Invitation { org: &org.name, password: generated, until };
        // What an older mail says no longer holds.
        storage::mails::delete_older(tx, &known.name, mail.kind()).await?;
        self.enqueue_mail(tx, &known.name, Some(&org.id), &mail).await?;
        Ok(())
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
        prepared: &Prepared<'_>,
        deliver: Deliver<'_>,
    ) -> Result<AddedUser, AdminError> {
        let now = self.now();
        let Prepared { new, hash, generated } = prepared;
        let name = row_name(new.name.as_str(), org_id);
        let known = match users::find_by_name(tx, &name).await? {
            // Runs the platform, and stands outside every organization.
            Some(known) if known.operator => {
                return Err(storage::Error::Conflict("that name cannot be added to an organization").into());
            }
            Some(known) => {
                memberships::create(tx, org_id, &known.id, now).await?;
                known
            }
            None => {
                let lifetime = self.0.options.temporary_password_lifetime;
                let row = users::NewUser {
                    name: &name,
                    kind: new.kind.as_str(),
                    operator: false,
                    password_hash: hash.as_deref(),
                    temporary_until: generated.as_ref().map(|_| now + lifetime),
                };
                let user = users::create(tx, &row, now).await?;
                memberships::create(tx, org_id, &user.id, now).await?;
                // Nobody else has a claim on somebody who is nowhere else.
                memberships::accept(tx, org_id, &user.id, now).await?;
                let member = self.member(tx, org_id, &user.id).await?;
                if matches!(deliver, Deliver::Return) {
                    return Ok(AddedUser { member, temporary_password: generated.clone() });
                }
                user
            }
        };
        if let (Deliver::Mail(org), Some(hash), Some(generated)) = (deliver, hash, generated) {
            self.mail_invitation(tx, org, &known, hash, generated).await?;
            memberships::update_invited(tx, org_id, &known.id, now).await?;
        }
        Ok(AddedUser { member: self.member(tx, org_id, &known.id).await?, temporary_password: None })
    }

    async fn member(&self, tx: &mut Tx, org_id: &str, user_id: &str) -> storage::Result<Member> {
        memberships::find(tx, org_id, user_id).await?.ok_or(storage::Error::NotFound("user"))
    }

    async fn record_user(
        &self,
        tx: &mut Tx,
        by: &Caller,
        action: &str,
        member: &Member,
        detail: serde_json::Value,
    ) -> storage::Result<()> {
        let entry = Entry { org_id: &member.org_id, action, target: &member.name, detail, ..Entry::default() };
        self.record(tx, by, &entry).await
    }

    /// Changes what an organization knows of a member. `expected` is the version that was read, if that matters.
    ///
    /// # Errors
    /// [`AdminError::Invalid`]; [`AdminError::Storage`] where there is no such member, or they changed since.
    pub async fn update_member(
        &self,
        by: &Caller,
        org_id: &str,
        user_id: &str,
        change: &UpdateMember<'_>,
        expected: Option<i64>,
    ) -> Result<Member, AdminError> {
        let change = UpdateMember {
            first_name: change.first_name.map(person_name).transpose()?,
            last_name: change.last_name.map(person_name).transpose()?,
            key_valid_days: change.key_valid_days,
        };
        if change.key_valid_days.flatten().is_some_and(|days| !(1..=MAX_KEY_DAYS).contains(&days)) {
            return Err(AdminError::Invalid("key_valid_days: 1 to 3650 days, or null for what the organization says"));
        }
        let state = |m: &Member| json!({"first_name": m.first_name, "last_name": m.last_name, "key_valid_days": m.key_valid_days});
        let mut tx = self.db().begin().await?;
        let before = self.member(&mut tx, org_id, user_id).await?;
        let after = memberships::update(&mut tx, org_id, user_id, &change, expected).await?;
        let detail = json!({"before": state(&before), "after": state(&after)});
        self.record_user(&mut tx, by, "user.update", &after, detail).await?;
        tx.commit().await?;
        Ok(after)
    }

    /// Shuts a member out of an organization, or lets them in again with all they had. What they were given ends: all of it
    /// where this was the last organization they were active in, else their access tokens.
    ///
    /// # Errors
    /// [`AdminError::Denied`] where the member has what the caller has not, [`AdminError::LastAdmin`];
    /// [`AdminError::Storage`] where there is no such member.
    pub async fn set_active(&self, by: &Caller, org_id: &str, user_id: &str, active: bool) -> Result<(), AdminError> {
        self.check_rank(by, org_id, user_id, active).await??;
        let mut tx = self.db().begin().await?;
        let member = self.member(&mut tx, org_id, user_id).await?;
        let changed = memberships::update_active(&mut tx, org_id, user_id, active).await?;
        if changed && !active {
            self.end_what_was_had(&mut tx, user_id).await?;
            keep_an_admin(&mut tx, org_id).await?;
        }
        let action = if active { "user.activate" } else { "user.deactivate" };
        self.record_user(&mut tx, by, action, &member, serde_json::Value::Null).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// Takes a member out of an organization, with their bindings, groups, API keys and trusted issuers there; their other
    /// organizations are not touched. What they were given ends as by [`Identity::set_active`]. A machine, which has no
    /// other organization, is gone.
    ///
    /// # Errors
    /// [`AdminError::Denied`] and [`AdminError::LastAdmin`] as by [`Identity::set_active`]; [`AdminError::Storage`] where there
    /// is no such member, or they changed since `expected`.
    pub async fn delete_member(
        &self,
        by: &Caller,
        org_id: &str,
        user_id: &str,
        expected: Option<i64>,
    ) -> Result<(), AdminError> {
        self.check_rank(by, org_id, user_id, false).await??;
        let mut tx = self.db().begin().await?;
        let member = self.member(&mut tx, org_id, user_id).await?;
        if expected.is_some_and(|expected| expected != member.version) {
            return Err(storage::Error::Version.into());
        }
        let filter = api_keys::ApiKeyFilter { org_id, user_id: Some(user_id) };
        let keys = api_keys::list(&mut tx, &filter, "", KEYS).await?;
        memberships::delete(&mut tx, org_id, user_id).await?;
        for key in &keys {
            idempotency::end_api_key(&mut tx, &key.id).await?;
        }
        self.end_what_was_had(&mut tx, user_id).await?;
        keep_an_admin(&mut tx, org_id).await?;
        if member.kind == UserKind::Machine.as_str() && memberships::count_of_user(&mut tx, user_id).await? == 0 {
            users::delete(&mut tx, user_id).await?;
        }
        let detail = json!({"kind": member.kind, "api_keys": keys.len()});
        self.record_user(&mut tx, by, "user.delete", &member, detail).await?;
        tx.commit().await?;
        keys.iter().for_each(|key| self.forget_key(&key.id));
        self.forget(user_id);
        Ok(())
    }

    /// Refuses whoever lacks a right that the member has in the organization, or would have there again: nobody rules over
    /// somebody mightier. Who lets somebody in (`enters`) must be able to give them all that, too.
    pub(crate) async fn check_rank(
        &self,
        by: &Caller,
        org_id: &str,
        user_id: &str,
        enters: bool,
    ) -> storage::Result<Result<(), Denial>> {
        if by.credential == Credential::Server {
            return Ok(Ok(()));
        }
        let mut after = String::new();
        loop {
            let page = self.grants_of_member(org_id, user_id, &after, GRANTS).await?;
            for (grant, _) in &page {
                let judged = if enters { by.principal.may_let_in(grant) } else { by.principal.covers_grant(grant) };
                if let Err(denial) = judged {
                    return Ok(Err(denial.named(&grant.org, grant.project.as_deref())));
                }
            }
            // Bindings whose role cannot be read give nothing and are left out: only an empty page is the last.
            match page.last() {
                Some((grant, _)) => after.clone_from(&grant.binding_id),
                None => return Ok(Ok(())),
            }
        }
    }

    /// Ends what a user was given, after they lost an organization.
    async fn end_what_was_had(&self, tx: &mut Tx, user_id: &str) -> storage::Result<()> {
        // Before anything is counted, because it locks the user: two organizations that shut somebody out at the same time do so one after the
        // other, and the second sees that it was the last.
        users::bump_grants_epoch(tx, user_id).await?;
        let operator = users::find(tx, user_id).await?.is_some_and(|user| user.operator);
        if !operator && memberships::active_orgs(tx, user_id).await?.is_empty() {
            users::bump_epoch(tx, user_id).await?;
        }
        Ok(())
    }

    /// Records what happened to a user in every organization that they accepted, and on the platform where they run it or
    /// there is none.
    pub(crate) async fn record_everywhere(
        &self,
        tx: &mut Tx,
        by: &Caller,
        user_id: &str,
        action: &str,
    ) -> storage::Result<()> {
        let Some(user) = users::find(tx, user_id).await? else { return Ok(()) };
        let mut orgs = memberships::accepted_orgs(tx, user_id).await?;
        if user.operator || orgs.is_empty() {
            orgs.insert(0, String::new());
        }
        for org_id in &orgs {
            self.record(tx, by, &Entry { org_id, action, target: user.shown_name(), ..Entry::default() }).await?;
        }
        Ok(())
    }
}

/// A first or last name.
fn person_name(text: &str) -> Result<&str, AdminError> {
    let text = text.trim();
    if text.chars().count() > MAX_NAME || text.chars().any(crate::name::is_hidden) {
        return Err(AdminError::Invalid("a first or last name has at most 64 characters, none of them a control"));
    }
    Ok(text)
}

//! Groups: making them, changing them, and who is in them.
//!
//! Whoever puts somebody into a group gives them all that the group holds, and could have given each of it by itself; and so
//! with taking away. So nobody becomes mightier by way of a group.

use serde_json::{Value, json};
use storage::groups::{self, Group, NewGroup, UpdateGroup};
use storage::memberships::{self, Member};
use storage::{Tx, bindings, users};

use super::bindings::{Way, may_change};
use super::{AdminError, keep_an_admin};
use crate::audit::{Caller, Entry};
use crate::core::Identity;

/// Longest name of a group, in characters.
const MAX_NAME: usize = 128;
/// Longest description of a group or role, in characters.
const MAX_DESCRIPTION: usize = 512;
/// Most groups of an organization.
const MAX_GROUPS: i64 = 1000;

impl Identity {
    /// Makes a group.
    ///
    /// # Errors
    /// [`AdminError::Field`]; [`AdminError::Storage`] with a conflict where the name is taken or there are too many.
    pub async fn create_group(&self, by: &Caller, new: &NewGroup<'_>) -> Result<Group, AdminError> {
        let org_id = new.org_id;
        let new = NewGroup { name: checked_name(new.name)?, description: checked_text(new.description)?, org_id };
        let mut tx = self.db().begin().await?;
        if groups::count(&mut tx, org_id).await? >= MAX_GROUPS {
            return Err(storage::Error::Conflict("an organization has at most 1000 groups").into());
        }
        let group = groups::create(&mut tx, &new, self.now()).await?;
        let entry =
            Entry { org_id, action: "group.create", target: &group.name, detail: state(&group), ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        Ok(group)
    }

    /// Changes a group's name or description.
    ///
    /// # Errors
    /// [`AdminError::Field`], [`AdminError::Invalid`] for one that is part of the organization; [`AdminError::Storage`].
    pub async fn update_group(
        &self,
        by: &Caller,
        org_id: &str,
        id: &str,
        change: &UpdateGroup<'_>,
    ) -> Result<Group, AdminError> {
        let change = UpdateGroup {
            name: change.name.map(checked_name).transpose()?,
            description: change.description.map(checked_text).transpose()?,
            expected: change.expected,
        };
        let mut tx = self.db().begin().await?;
        let before = own(groups::lock(&mut tx, org_id, id).await?)?;
        let group = groups::update(&mut tx, org_id, id, &change).await?;
        let detail = json!({"before": state(&before), "after": state(&group)});
        let entry = Entry { org_id, action: "group.update", target: &group.name, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_everything();
        Ok(group)
    }

    /// Deletes a group with all that it was given. Access tokens that were had with that end.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for one that is part of the organization, [`AdminError::Denied`] where the caller could not
    /// have given what it holds, [`AdminError::LastAdmin`]; [`AdminError::Storage`].
    pub async fn delete_group(
        &self,
        by: &Caller,
        org_id: &str,
        id: &str,
        expected: Option<i64>,
    ) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let group = own(groups::lock(&mut tx, org_id, id).await?)?;
        if expected.is_some_and(|version| version != group.version) {
            return Err(storage::Error::Version.into());
        }
        self.could_give(&mut tx, by, &group, Way::Take).await?;
        groups::bump_members(&mut tx, id).await?;
        groups::delete(&mut tx, org_id, id).await?;
        keep_an_admin(&mut tx, org_id).await?;
        let detail = state(&group);
        let entry = Entry { org_id, action: "group.delete", target: &group.name, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_everything();
        Ok(())
    }

    /// Puts a member of the organization into a group.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for the group that everybody is in by themselves, [`AdminError::Denied`] where the caller
    /// could not give what the group holds; [`AdminError::Storage`] where either is not of the organization, or the user is
    /// in it already.
    pub async fn add_group_member(&self, by: &Caller, org_id: &str, id: &str, user_id: &str) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, org_id, user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        let group = groups::lock(&mut tx, org_id, id).await?;
        self.join_group(&mut tx, by, &group, &member).await?;
        self.record_member(&mut tx, by, "group.member_add", &group, &member).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// As [`Identity::add_group_member`], in a transaction of the caller's, who records it, commits and forgets the user.
    pub(crate) async fn join_group(
        &self,
        tx: &mut Tx,
        by: &Caller,
        group: &Group,
        member: &Member,
    ) -> Result<(), AdminError> {
        explicit(group)?;
        self.could_give(tx, by, group, Way::Give).await?;
        groups::add_member(tx, group, &member.user_id, self.now()).await?;
        users::bump_grants_epoch(tx, &member.user_id).await?;
        Ok(())
    }

    /// Takes a user out of a group. Access tokens that were had with what it holds end.
    ///
    /// # Errors
    /// As [`Identity::add_group_member`], and [`AdminError::LastAdmin`].
    pub async fn remove_group_member(
        &self,
        by: &Caller,
        org_id: &str,
        id: &str,
        user_id: &str,
    ) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, org_id, user_id).await?.ok_or(storage::Error::NotFound("user"))?;
        let group = groups::lock(&mut tx, org_id, id).await?;
        explicit(&group)?;
        self.could_give(&mut tx, by, &group, Way::Take).await?;
        if !groups::remove_member(&mut tx, &group, user_id).await? {
            return Err(storage::Error::NotFound("member of that group").into());
        }
        users::bump_grants_epoch(&mut tx, user_id).await?;
        keep_an_admin(&mut tx, org_id).await?;
        self.record_member(&mut tx, by, "group.member_remove", &group, &member).await?;
        tx.commit().await?;
        self.forget(user_id);
        Ok(())
    }

    /// Refuses where the group holds what the caller could not give.
    async fn could_give(&self, tx: &mut Tx, by: &Caller, group: &Group, way: Way) -> Result<(), AdminError> {
        for binding in bindings::list_of_group(tx, &group.org_id, &group.id).await? {
            if let Err(denial) = may_change(tx, by, &binding, way).await? {
                let org = storage::orgs::find(tx, &group.org_id).await?.map(|org| org.slug).unwrap_or_default();
                return Err(denial.named(&org, binding.project.as_deref()).into());
            }
        }
        Ok(())
    }

    pub(super) async fn record_member(
        &self,
        tx: &mut Tx,
        by: &Caller,
        action: &str,
        group: &Group,
        member: &Member,
    ) -> storage::Result<()> {
        let detail = json!({"user": super::bindings::shown(&member.name)});
        let entry = Entry { org_id: &group.org_id, action, target: &group.name, detail, ..Entry::default() };
        self.record(tx, by, &entry).await
    }
}

fn state(group: &Group) -> Value {
    json!({"name": group.name, "description": group.description})
}

/// Refuses what is part of the organization.
fn own(group: Group) -> Result<Group, AdminError> {
    match group.builtin {
        Some(_) => Err(AdminError::Invalid("that group is part of the organization: it stays as it is")),
        None => Ok(group),
    }
}

/// Refuses the group that nobody is put into.
fn explicit(group: &Group) -> Result<(), AdminError> {
    match group.builtin.as_deref() {
        Some(groups::LOCAL_USERS) => {
            Err(AdminError::Invalid("every local user is in All Local Users, and nobody else"))
        }
        _ => Ok(()),
    }
}

fn checked_name(name: &str) -> Result<&str, AdminError> {
    let name = name.trim();
    let bad = |c: char| crate::name::is_hidden(c) || c == '/';
    // A browser takes these for the folder itself, and the one above: no page of such a group could be reached.
    if matches!(name, "." | "..") {
        return Err(AdminError::Field { field: "name", reason: "a name of dots alone has no address: use another" });
    }
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(bad) {
        let reason = "1 to 128 characters, none of them a slash or a control";
        return Err(AdminError::Field { field: "name", reason });
    }
    Ok(name)
}

/// A description: lines of text.
pub(super) fn checked_text(text: &str) -> Result<&str, AdminError> {
    let text = text.trim();
    if text.chars().count() > MAX_DESCRIPTION || text.chars().any(|c| c.is_control() && c != '\n') {
        let reason = "at most 512 characters, none of them a control";
        return Err(AdminError::Field { field: "description", reason });
    }
    Ok(text)
}

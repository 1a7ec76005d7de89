//! Organizations.

use serde_json::json;
use storage::groups;
use storage::names::Slug;
use storage::orgs::{self, Org};

use super::{AddedUser, AdminError, Deliver, NewUser, UserKind};
use crate::audit::{Caller, Entry};
use crate::bootstrap::create_default_project;
use crate::core::Identity;
use crate::name::UserName;
use crate::rbac::Role;
use crate::secret::Secret;

/// Longest name of an organization, in characters.
const MAX_NAME: usize = 128;

/// What a new organization needs.
#[derive(Debug, Clone)]
pub struct NewOrg<'a> {
    /// First path component of its repositories.
    pub slug: &'a Slug,
    /// What people call it; the slug without one.
    pub name: Option<&'a str>,
    /// Its first Organization Admin. Without a password they are invited by mail.
    pub admin: Option<(&'a UserName, Option<&'a Secret>)>,
}

/// An organization that was just created.
#[derive(Debug, Clone)]
pub struct CreatedOrg {
    /// It.
    pub org: Org,
    /// Its first Organization Admin.
    pub admin: Option<AddedUser>,
}

impl Identity {
    /// Creates an organization with its default project and its first Organization Admin.
    ///
    /// # Errors
    /// [`AdminError::Storage`] with a conflict where the slug is taken; [`AdminError::Password`], [`AdminError::Invalid`].
    pub async fn create_org(&self, by: &Caller, new: &NewOrg<'_>) -> Result<CreatedOrg, AdminError> {
        let name = checked_org_name(new.name.unwrap_or(new.slug.as_str()))?;
        let admin = match new.admin {
            Some((name, password)) => Some(self.prepare(&NewUser { name, kind: UserKind::Local, password }).await?),
            None => None,
        };
        let now = self.now();
        let mut tx = self.db().begin().await?;
        let org = orgs::create(&mut tx, &orgs::NewOrg { slug: new.slug, name }, now).await?;
        let admins = groups::create_builtin(&mut tx, &org.id, Role::ORGANIZATION_ADMIN, now).await?;
        create_default_project(&mut tx, &org.id, now).await?;
        let admin = match admin {
            Some(prepared) => {
                let added = self.write_user(&mut tx, &org.id, &prepared, Deliver::Mail(&org)).await?;
                groups::add_member(&mut tx, &admins, &added.member.user_id, now).await?;
                Some(added)
            }
            None => None,
        };
        let detail = json!({"name": org.name, "admin": admin.as_ref().map(|admin| &admin.member.name)});
        let entry = Entry { action: "org.create", target: &org.slug, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        self.record(&mut tx, by, &Entry { org_id: &org.id, ..entry }).await?;
        tx.commit().await?;
        if let Some(admin) = &admin {
            self.forget(&admin.member.user_id);
        }
        Ok(CreatedOrg { org, admin })
    }
}

/// A name that people call an organization.
pub(super) fn checked_org_name(name: &str) -> Result<&str, AdminError> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(crate::name::is_hidden) {
        return Err(AdminError::Field { field: "name", reason: "1 to 128 characters, none of them a control" });
    }
    Ok(name)
}

//! Custom roles: making and changing them. Nobody makes or changes a role of which they lack a permission.

use std::sync::Arc;

use serde_json::{Value, json};
use storage::custom_roles::{self, CustomRole as Row, NewCustomRole, Rules};
use storage::{Tx, orgs};

use super::AdminError;
use super::groups::checked_text;
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::rbac::{CustomRole, Given, Role};

/// Most custom roles of an organization.
const MAX_ROLES: i64 = 200;

/// What a new custom role needs.
#[derive(Debug, Clone)]
pub struct NewRole<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// Its name: lower-case letters, digits, `.`, `_` and `-`.
    pub name: &'a str,
    /// What it is for.
    pub description: &'a str,
    /// What it is made of.
    pub base: Role,
    /// What it does with that.
    pub rules: Rules,
}

/// What to change of a custom role; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct UpdateRole<'a> {
    /// What it is for.
    pub description: Option<&'a str>,
    /// Permissions that the base does not have.
    pub added: Option<Vec<String>>,
    /// Permissions of the base that it does not have.
    pub removed: Option<Vec<String>>,
    /// Patterns of paths below the project.
    pub repositories: Option<Vec<String>>,
    /// Patterns of tags that may be written or deleted.
    pub tags: Option<Vec<String>>,
    /// The version that the change was made for, if that matters.
    pub expected: Option<i64>,
}

impl Identity {
    /// Makes a custom role.
    ///
    /// # Errors
    /// [`AdminError::Field`], [`AdminError::Rule`], [`AdminError::Denied`]; [`AdminError::Storage`] with a conflict where
    /// the name is taken or there are too many.
    pub async fn create_role(&self, by: &Caller, new: &NewRole<'_>) -> Result<Row, AdminError> {
        let org_id = new.org_id;
        if !is_role_name(new.name) {
            let reason = "2 to 64 lower-case letters, digits, `.`, `_` and `-`, beginning with a letter or digit";
            return Err(AdminError::Field { field: "name", reason });
        }
        let description = checked_text(new.description)?;
        let mut rules = new.rules.clone();
        rules.normalise();
        let role = CustomRole::compile("", new.name, new.base, &rules)?;
        let mut tx = self.db().begin().await?;
        may_define(&mut tx, by, org_id, role).await?;
        if custom_roles::count(&mut tx, org_id).await? >= MAX_ROLES {
            return Err(storage::Error::Conflict("an organization has at most 200 custom roles").into());
        }
        let row = NewCustomRole { org_id, name: new.name, description, base: new.base.token(), rules: &rules };
        let row = custom_roles::create(&mut tx, &row, self.now()).await?;
        self.record_role(&mut tx, by, "role.create", &row, state(&row)).await?;
        tx.commit().await?;
        Ok(row)
    }

    /// Changes a custom role, for everybody who has it at once.
    ///
    /// # Errors
    /// As [`Identity::create_role`]; the caller needs what it was as well as what it becomes.
    pub async fn update_role(
        &self,
        by: &Caller,
        org_id: &str,
        id: &str,
        change: &UpdateRole<'_>,
    ) -> Result<Row, AdminError> {
        let mut tx = self.db().begin().await?;
        let before = custom_roles::touch(&mut tx, org_id, id, change.expected).await?;
        let description = change.description.map(checked_text).transpose()?.unwrap_or(&before.description);
        let list = |new: &Option<Vec<String>>, old: &[String]| new.clone().unwrap_or_else(|| old.to_vec());
        let mut rules = Rules {
            added: list(&change.added, &before.rules.added),
            removed: list(&change.removed, &before.rules.removed),
            repositories: list(&change.repositories, &before.rules.repositories),
            tags: list(&change.tags, &before.rules.tags),
        };
        rules.normalise();
        let base = Role::find(&before.base).ok_or(crate::rbac::RuleError::Base)?;
        // What it was: nobody meddles with what they could not have made. One that cannot be read gives nothing.
        let old = CustomRole::read(&before).ok();
        for role in old.into_iter().chain([CustomRole::compile(id, &before.name, base, &rules)?]) {
            may_define(&mut tx, by, org_id, role).await?;
        }
        custom_roles::bump_holders(&mut tx, org_id, id).await?;
        custom_roles::update(&mut tx, org_id, id, description, &rules).await?;
        let after = custom_roles::find(&mut tx, org_id, id).await?.ok_or(storage::Error::NotFound("role"))?;
        let detail = json!({"before": state(&before), "after": state(&after)});
        self.record_role(&mut tx, by, "role.update", &after, detail).await?;
        tx.commit().await?;
        self.forget_everything();
        Ok(after)
    }

    /// Deletes a custom role that nobody has.
    ///
    /// # Errors
    /// [`AdminError::Denied`]; [`AdminError::Storage`] with a conflict where somebody has it.
    pub async fn delete_role(
        &self,
        by: &Caller,
        org_id: &str,
        id: &str,
        expected: Option<i64>,
    ) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let row = custom_roles::touch(&mut tx, org_id, id, expected).await?;
        if let Ok(role) = CustomRole::read(&row) {
            may_define(&mut tx, by, org_id, role).await?;
        }
        custom_roles::delete(&mut tx, org_id, id).await?;
        self.record_role(&mut tx, by, "role.delete", &row, state(&row)).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn record_role(
        &self,
        tx: &mut Tx,
        by: &Caller,
        action: &str,
        row: &Row,
        detail: Value,
    ) -> storage::Result<()> {
        let entry = Entry { org_id: &row.org_id, action, target: &row.name, detail, ..Entry::default() };
        self.record(tx, by, &entry).await
    }
}

async fn may_define(tx: &mut Tx, by: &Caller, org_id: &str, role: CustomRole) -> Result<(), AdminError> {
    let Err(denial) = by.principal.may_define(&Given::Custom(Arc::new(role)), org_id).into_result() else {
        return Ok(());
    };
    let org = orgs::find(tx, org_id).await?.map(|org| org.slug);
    Err(denial.named(org.as_deref().unwrap_or(org_id), None).into())
}

fn state(row: &Row) -> Value {
    let Rules { added, removed, repositories, tags } = &row.rules;
    json!({"base": row.base, "description": row.description, "added": added, "removed": removed,
           "repositories": repositories, "tags": tags})
}

/// `[a-z0-9][a-z0-9._-]{1,63}`: no base role's token is one.
fn is_role_name(s: &str) -> bool {
    let first = s.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let rest = s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'));
    (2..=64).contains(&s.len()) && first && rest
}

//! What an organization decided for itself.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::{execute, query_all, query_opt};

/// The switches of an organization. Whoever sets them checks their bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct OrgSettings {
    /// The version of the organization that these belong to.
    pub version: i64,
    /// Whether failed log-ins lock a name.
    pub lockout_enabled: bool,
    /// How many failures lock it.
    pub lockout_failures: i64,
    /// Within how many minutes, and for how many.
    pub lockout_minutes: i64,
    /// After how many idle minutes a session ends; `None`: sessions end by age alone.
    pub idle_logout_minutes: Option<i64>,
    /// Hours after which a session ends.
    pub session_hours: i64,
    /// Whether every local user needs a second factor.
    pub mfa_required: bool,
    /// Longest validity of new API keys in days; `None`: without bound.
    pub key_valid_days: Option<i64>,
    /// Whether projects may be public.
    pub public_allowed: bool,
    /// For how many days audit events are kept; `None`: for ever.
    pub audit_days: Option<i64>,
}

impl Default for OrgSettings {
    /// What a new organization has, and what holds for a name that no organization knows.
    fn default() -> Self {
        Self {
            version: 1,
            lockout_enabled: true,
            lockout_failures: 5,
            lockout_minutes: 15,
            idle_logout_minutes: None,
            session_hours: 24,
            mfa_required: false,
            key_valid_days: None,
            public_allowed: true,
            audit_days: None,
        }
    }
}

/// The settings of an organization.
///
/// # Errors
/// [`Error::NotFound`] where there is none of that id, else those of the database.
pub async fn settings(session: &mut Session, org_id: &str) -> Result<OrgSettings> {
    query_opt!(
        session,
        OrgSettings,
        "SELECT version, lockout_enabled, lockout_failures, lockout_minutes, idle_logout_minutes, session_hours,
                mfa_required, key_valid_days, public_allowed, audit_days
         FROM orgs WHERE id = $1",
        org_id,
    )?
    .ok_or(Error::NotFound("organization"))
}

/// The settings of every living organization in which a user is active and that they accepted, in no particular order.
///
/// # Errors
/// Those of the database.
pub async fn settings_of_user(session: &mut Session, user_id: &str) -> Result<Vec<OrgSettings>> {
    query_all!(
        session,
        OrgSettings,
        "SELECT o.version, o.lockout_enabled, o.lockout_failures, o.lockout_minutes, o.idle_logout_minutes,
                o.session_hours, o.mfa_required, o.key_valid_days, o.public_allowed, o.audit_days
         FROM memberships m JOIN orgs o ON o.id = m.org_id
         WHERE m.user_id = $1 AND m.active = TRUE AND m.accepted_at IS NOT NULL AND o.status = 'active' LIMIT 10000",
        user_id,
    )
}

/// Writes an organization's settings and returns its new version. `expected` is the version that was read, if that matters;
/// [`OrgSettings::version`] is not.
///
/// # Errors
/// [`Error::Version`] where the organization changed since, [`Error::NotFound`], else those of the database.
pub async fn update_settings(tx: &mut Tx, org_id: &str, new: &OrgSettings, expected: Option<i64>) -> Result<i64> {
    let touched = execute!(
        tx,
        "UPDATE orgs SET version = version + 1, lockout_enabled = $3, lockout_failures = $4, lockout_minutes = $5,
                idle_logout_minutes = $6, session_hours = $7, mfa_required = $8, key_valid_days = $9,
                public_allowed = $10, audit_days = $11
         WHERE id = $1 AND version = COALESCE($2, version)",
        org_id,
        expected,
        new.lockout_enabled,
        new.lockout_failures,
        new.lockout_minutes,
        new.idle_logout_minutes,
        new.session_hours,
        new.mfa_required,
        new.key_valid_days,
        new.public_allowed,
        new.audit_days,
    )?;
    let version = settings(tx, org_id).await?.version;
    if touched == 0 { Err(Error::Version) } else { Ok(version) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::memberships;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn settings_have_defaults_and_change_as_one() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        assert_eq!(settings(&mut tx, &org.id).await.unwrap(), OrgSettings::default());
        let new = OrgSettings {
            lockout_failures: 3,
            idle_logout_minutes: Some(60),
            key_valid_days: Some(90),
            public_allowed: false,
            ..OrgSettings::default()
        };
        assert_eq!(update_settings(&mut tx, &org.id, &new, Some(1)).await.unwrap(), 2);
        assert_eq!(settings(&mut tx, &org.id).await.unwrap(), OrgSettings { version: 2, ..new });
        assert!(matches!(update_settings(&mut tx, &org.id, &new, Some(1)).await, Err(Error::Version)));
        assert!(matches!(update_settings(&mut tx, "nope", &new, None).await, Err(Error::NotFound(_))));

        let user = NewUser { name: "a", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &user, 1).await.unwrap();
        memberships::create(&mut tx, &org.id, &user.id, 1).await.unwrap();
        assert!(settings_of_user(&mut tx, &user.id).await.unwrap().is_empty(), "not accepted");
        memberships::accept(&mut tx, &org.id, &user.id, 1).await.unwrap();
        assert_eq!(settings_of_user(&mut tx, &user.id).await.unwrap(), [OrgSettings { version: 2, ..new }]);
        orgs::set_status(&mut tx, &org.id, &[orgs::ACTIVE], orgs::SUSPENDED, None).await.unwrap();
        assert!(settings_of_user(&mut tx, &user.id).await.unwrap().is_empty());
    }
}

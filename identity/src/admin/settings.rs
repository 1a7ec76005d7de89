//! An organization's settings. Each is a switch that something here obeys.

use serde_json::{Map, Value, json};
use storage::orgs::{self, OrgSettings};

use super::AdminError;
use crate::audit::{Caller, Entry};
use crate::core::Identity;

/// Failures that lock a name: fewer lock people out who mistype, more let passwords be guessed.
const LOCKOUT_FAILURES: std::ops::RangeInclusive<i64> = 2..=100;
/// Minutes within which failures count, and for which they lock: up to a day.
const LOCKOUT_MINUTES: std::ops::RangeInclusive<i64> = 1..=1440;
/// Idle minutes after which a session ends: up to a day, which no session outlives.
const IDLE_MINUTES: std::ops::RangeInclusive<i64> = 1..=1440;
/// Hours after which a session ends.
const SESSION_HOURS: std::ops::RangeInclusive<i64> = 1..=24;
/// Days that a key may be valid for: up to ten years.
const KEY_DAYS: std::ops::RangeInclusive<i64> = 1..=3650;
/// Days that audit events are kept for: from a month to ten years.
const AUDIT_DAYS: std::ops::RangeInclusive<i64> = 30..=3650;

/// What of an organization's settings changes; `None` leaves it as it is, `Some(None)` lifts the bound.
#[derive(Debug, Clone, Default)]
pub struct UpdateSettings {
    /// Whether failed log-ins lock a name.
    pub lockout_enabled: Option<bool>,
    /// How many failures lock it.
    pub lockout_failures: Option<i64>,
    /// Within how many minutes, and for how many.
    pub lockout_minutes: Option<i64>,
    /// After how many idle minutes a session ends.
    pub idle_logout_minutes: Option<Option<i64>>,
    /// Hours after which a session ends.
    pub session_hours: Option<i64>,
    /// Whether every local user needs a second factor.
    pub mfa_required: Option<bool>,
    /// Longest validity of new API keys in days.
    pub key_valid_days: Option<Option<i64>>,
    /// Whether projects may be public.
    pub public_allowed: Option<bool>,
    /// For how many days audit events are kept.
    pub audit_days: Option<Option<i64>>,
}

impl UpdateSettings {
    fn apply(&self, to: &OrgSettings) -> OrgSettings {
        OrgSettings {
            version: to.version,
            lockout_enabled: self.lockout_enabled.unwrap_or(to.lockout_enabled),
            lockout_failures: self.lockout_failures.unwrap_or(to.lockout_failures),
            lockout_minutes: self.lockout_minutes.unwrap_or(to.lockout_minutes),
            idle_logout_minutes: self.idle_logout_minutes.unwrap_or(to.idle_logout_minutes),
            session_hours: self.session_hours.unwrap_or(to.session_hours),
            mfa_required: self.mfa_required.unwrap_or(to.mfa_required),
            key_valid_days: self.key_valid_days.unwrap_or(to.key_valid_days),
            public_allowed: self.public_allowed.unwrap_or(to.public_allowed),
            audit_days: self.audit_days.unwrap_or(to.audit_days),
        }
    }
}

impl Identity {
    /// Changes an organization's settings; `expected` is the version that was read, if that matters. Without public projects,
    /// those that are public close at once, to tokens that were already given too.
    ///
    /// # Errors
    /// [`AdminError::Field`] for a value out of bounds; [`AdminError::Storage`] where the organization changed meanwhile.
    pub async fn update_settings(
        &self,
        by: &Caller,
        org_id: &str,
        change: &UpdateSettings,
        expected: Option<i64>,
    ) -> Result<OrgSettings, AdminError> {
        let mut tx = self.db().begin().await?;
        // Locks the row before it is read, so that what is not changed here is not changed back.
        let org = orgs::lock(&mut tx, org_id).await?;
        let before = orgs::settings(&mut tx, org_id).await?;
        let mut after = change.apply(&before);
        check(&after)?;
        after.version = orgs::update_settings(&mut tx, org_id, &after, expected).await?;
        let (before, now) = differences(&before, &after);
        let detail = json!({"before": before, "after": now});
        let entry = Entry { org_id, action: "settings.update", target: &org.slug, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        self.forget_everything();
        Ok(after)
    }
}

fn check(s: &OrgSettings) -> Result<(), AdminError> {
    let bounds = [
        ("lockout_failures", Some(s.lockout_failures), LOCKOUT_FAILURES, "use 2 to 100"),
        ("lockout_minutes", Some(s.lockout_minutes), LOCKOUT_MINUTES, "use 1 to 1440"),
        ("idle_logout_minutes", s.idle_logout_minutes, IDLE_MINUTES, "use 1 to 1440, or null for no idle logout"),
        ("session_hours", Some(s.session_hours), SESSION_HOURS, "use 1 to 24"),
        ("key_valid_days", s.key_valid_days, KEY_DAYS, "use 1 to 3650, or null for no bound"),
        ("audit_days", s.audit_days, AUDIT_DAYS, "use 30 to 3650, or null to keep events for ever"),
    ];
    match bounds.into_iter().find(|(_, value, bounds, _)| value.is_some_and(|value| !bounds.contains(&value))) {
        Some((field, _, _, reason)) => Err(AdminError::Field { field, reason }),
        None => Ok(()),
    }
}

/// What changed, before and after.
fn differences(before: &OrgSettings, after: &OrgSettings) -> (Map<String, Value>, Map<String, Value>) {
    let fields = |s: &OrgSettings| {
        [
            ("lockout_enabled", json!(s.lockout_enabled)),
            ("lockout_failures", json!(s.lockout_failures)),
            ("lockout_minutes", json!(s.lockout_minutes)),
            ("idle_logout_minutes", json!(s.idle_logout_minutes)),
            ("session_hours", json!(s.session_hours)),
            ("mfa_required", json!(s.mfa_required)),
            ("key_valid_days", json!(s.key_valid_days)),
            ("public_allowed", json!(s.public_allowed)),
            ("audit_days", json!(s.audit_days)),
        ]
    };
    let changed = fields(before).into_iter().zip(fields(after)).filter(|(before, after)| before != after);
    changed.map(|((name, before), (_, after))| ((name.to_owned(), before), (name.to_owned(), after))).unzip()
}

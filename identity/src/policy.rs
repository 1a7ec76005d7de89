//! What a user's organizations ask of their log-ins and sessions: of each switch, the strictest setting among the
//! organizations in which the user is active. A name that no organization knows is treated by the defaults.

use storage::login_failures::LockoutRule;
use storage::orgs::OrgSettings;

/// The strictest of the settings of a user's organizations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// When failures lock; `None` where every organization turned that off.
    pub lockout: Option<LockoutRule>,
    /// Seconds without a request that end a session.
    pub idle_logout: Option<i64>,
    /// Seconds after which a session ends in any case.
    pub session: i64,
    /// Whether people need a second factor.
    pub mfa_required: bool,
}

impl Policy {
    /// The strictest of these. Of none, nothing is asked but the default lockout.
    #[must_use]
    pub fn strictest(settings: &[OrgSettings], default: LockoutRule) -> Self {
        let locking = || settings.iter().filter(|org| org.lockout_enabled);
        let lockout =
            match (locking().map(|org| org.lockout_failures).min(), locking().map(|org| org.lockout_minutes).max()) {
                (Some(failures), Some(minutes)) => Some(LockoutRule { failures, window: minutes.saturating_mul(60) }),
                _ if settings.is_empty() => Some(default),
                _ => None,
            };
        Self {
            lockout,
            idle_logout: settings.iter().filter_map(|org| org.idle_logout_minutes).min().map(|m| m.saturating_mul(60)),
            session: settings.iter().map(|org| org.session_hours).min().unwrap_or(24).clamp(1, 24) * 3600,
            mfa_required: settings.iter().any(|org| org.mfa_required),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULT: LockoutRule = LockoutRule { failures: 5, window: 900 };

    #[test]
    fn the_strictest_of_each_switch_counts() {
        let lax = OrgSettings { lockout_enabled: false, lockout_failures: 1, session_hours: 100, ..Default::default() };
        let strict = OrgSettings {
            lockout_failures: 4,
            lockout_minutes: 10,
            idle_logout_minutes: Some(60),
            session_hours: 8,
            mfa_required: true,
            ..Default::default()
        };
        let other = OrgSettings {
            lockout_failures: 9,
            lockout_minutes: 30,
            idle_logout_minutes: Some(30),
            session_hours: 12,
            ..Default::default()
        };
        let nobody = Policy::strictest(&[], DEFAULT);
        assert_eq!((nobody.lockout, nobody.session, nobody.mfa_required), (Some(DEFAULT), 86_400, false));
        let alone = Policy::strictest(&[lax], DEFAULT);
        assert_eq!((alone.lockout, alone.session), (None, 86_400), "a day is the most");
        let all = Policy::strictest(&[lax, strict, other], DEFAULT);
        assert_eq!(all.lockout, Some(LockoutRule { failures: 4, window: 1800 }));
        assert_eq!((all.idle_logout, all.session, all.mfa_required), (Some(1800), 8 * 3600, true));
    }
}

//! Mails: what they say, and the outbox in which they wait.
//!
//! A mail is written in the transaction of what it is about ([`crate::Identity::enqueue_mail`]): both happen or neither. Its row
//! holds the text sealed under the master key, since it may carry a temporary password, and goes once the mail was
//! delivered. Who delivers claims mails ([`crate::Identity::claim_mails`]) and tells what became of each.

mod letter;
mod outbox;

pub(crate) use outbox::KEEP;
pub use outbox::{ClaimedMail, Letter};

use crate::secret::Secret;

/// What a mail is about.
#[derive(Debug, Clone)]
pub enum Mail<'a> {
    /// Somebody new: a temporary password.
    Invitation {
        /// Name of the organization.
        org: &'a str,
        /// The temporary password.
        password: &'a Secret,
        /// When it ends (unix seconds).
        until: i64,
    },
    /// Somebody who has an account already was added to an organization.
    Added {
        /// Name of the organization.
        org: &'a str,
    },
    /// The link to choose a new password.
    Reset {
        /// The link's secret.
        token: &'a Secret,
        /// When it ends (unix seconds).
        until: i64,
    },
    /// The password was changed.
    PasswordChanged {
        /// When (unix seconds).
        at: i64,
    },
    /// An API key ends soon.
    KeyExpiring {
        /// Name of the organization.
        org: &'a str,
        /// Whose key it is, as people know them.
        user: &'a str,
        /// What its maker called it.
        name: &'a str,
        /// Its public part.
        id: &'a str,
        /// When it ends (unix seconds).
        until: i64,
    },
    /// Somebody else made an API key for the user.
    KeyMade {
        /// Name of the organization.
        org: &'a str,
        /// Who made it, as people know them.
        by: &'a str,
        /// What they called it.
        name: &'a str,
        /// Its public part.
        id: &'a str,
    },
    /// The user changed what stands beside their password.
    Factor {
        /// What they changed.
        change: FactorChange<'a>,
        /// When (unix seconds).
        at: i64,
        /// Where they were, as people know addresses.
        from: &'a str,
    },
    /// Somebody else took the second factor off.
    MfaReset {
        /// Name of the organization whose administrator it was; `None` where whoever runs the server did it.
        org: Option<&'a str>,
        /// Who it was, as people know them.
        by: &'a str,
        /// When (unix seconds).
        at: i64,
    },
    /// Failed log-ins locked the name.
    Locked {
        /// When the lock ends (unix seconds).
        until: i64,
    },
}

/// What of their second factors a user changed.
#[derive(Debug, Clone, Copy)]
pub enum FactorChange<'a> {
    /// An authenticator app was added.
    AppAdded,
    /// The authenticator app was removed.
    AppRemoved,
    /// A passkey of this name was added.
    PasskeyAdded(&'a str),
    /// A passkey was removed.
    PasskeyRemoved {
        /// Its id.
        id: &'a str,
        /// Its name.
        name: &'a str,
    },
    /// New recovery codes were made; the old ones ended.
    CodesRenewed,
}

impl Mail<'_> {
    /// As rows spell the kind.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invitation { .. } => "invitation",
            Self::Added { .. } => "added",
            Self::Reset { .. } => "reset",
            Self::PasswordChanged { .. } => "password-changed",
            Self::KeyExpiring { .. } => "key-expiring",
            Self::KeyMade { .. } => "key-made",
            Self::Factor { .. } => "factor",
            Self::MfaReset { .. } => "mfa-reset",
            Self::Locked { .. } => "locked",
        }
    }
}

#[cfg(test)]
mod tests;

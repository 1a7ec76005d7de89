//! Changes to organizations, projects, users, bindings and API keys. Each is one transaction that also moves the epoch
//! of whoever loses something by it, and each drops what this process remembers. Whether the caller may is decided before:
//! by [`crate::rbac::authorize`], and for bindings in here too, because they must not give more than the giver has.

mod api_keys;
mod bindings;
mod groups;
mod images;
mod orgs;
mod passwords;
mod platform;
mod projects;
mod roles;
mod settings;
mod users;

pub use api_keys::{MadeApiKey, NewApiKey};
pub use bindings::NewBinding;
pub use images::{Deletion, MayTag, TAGS_CHECKED};
pub use orgs::{CreatedOrg, NewOrg};
pub use platform::GRACE_DAYS;
pub use roles::{NewRole, UpdateRole};
pub use settings::UpdateSettings;
pub(crate) use users::Deliver;
pub use users::{AddedUser, Invite, NewUser, UserKind};

use storage::{Tx, memberships};

use orgs::checked_org_name;

use crate::password::{Busy, PasswordError};
use crate::rbac::{Denial, Role, RuleError};

/// Why a change was not made. `Display` is meant for whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// It makes no sense.
    #[error("{0}")]
    Invalid(&'static str),
    /// A field's value cannot be.
    #[error("{field}: {reason}")]
    Field {
        /// The field.
        field: &'static str,
        /// What would be accepted.
        reason: &'static str,
    },
    /// An API key would be valid for longer than it may.
    #[error("an API key may be valid for {longest} days at most here")]
    KeyTooLong {
        /// The most days.
        longest: i64,
    },
    /// The password may not be one.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// The caller would give more than they have.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// A custom role that cannot be.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// Something else would be deleted than the caller was told.
    #[error("something was pushed or deleted there meanwhile, and something else would go now: ask again what would")]
    Moved,
    /// It would leave an organization without an active Organization Admin.
    #[error("an organization needs at least one active Organization Admin: make another one first")]
    LastAdmin,
    /// Enough invitations went to that address for now.
    #[error("an invitation went to that address a moment ago, or many did today: wait {retry_after} s")]
    Invited {
        /// Seconds until the next one may.
        retry_after: i64,
    },
    /// The current password was not right.
    #[error(transparent)]
    Login(#[from] crate::login::LoginError),
    /// Too many passwords are being hashed.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// What the rows said: not found, a name that is taken, or that they cannot be read.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// Refuses where a change leaves an organization without an active Organization Admin. Called last in a transaction.
async fn keep_an_admin(tx: &mut Tx, org_id: &str) -> Result<(), AdminError> {
    match memberships::count_active_holders(tx, org_id, Role::ORGANIZATION_ADMIN).await? {
        0 => Err(AdminError::LastAdmin),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

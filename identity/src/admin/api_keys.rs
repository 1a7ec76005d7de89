//! API keys: making and revoking them.

use serde_json::json;
use storage::api_keys::{self, ApiKey as Row};
use storage::{memberships, users};

use super::AdminError;
use crate::api_key::ApiKey;
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::secret::Secret;

/// Keys that one user may have in one organization.
const PER_USER: i64 = 200;
/// Longest name of a key, in characters.
const MAX_NAME: usize = 128;
/// Longest validity of a key, in days.
const MAX_DAYS: u32 = 3650;

/// What a new API key needs.
#[derive(Debug, Clone)]
pub struct NewApiKey<'a> {
    /// The organization whose bindings it carries.
    pub org_id: &'a str,
    /// Whose rights it carries: an active member of it.
    pub user_id: &'a str,
    /// What its maker calls it.
    pub name: &'a str,
    /// Days until it ends; never without.
    pub valid_days: Option<u32>,
}

/// An API key that was just made.
#[derive(Debug, Clone)]
pub struct MadeApiKey {
    /// Its row.
    pub row: Row,
    /// The whole key, to be shown once.
    pub key: Secret,
}

impl Identity {
    /// Makes an API key.
    ///
    /// # Errors
    /// [`AdminError::Invalid`] for a name, validity or number of keys out of bounds; [`AdminError::Storage`] where the user
    /// is not an active member.
    pub async fn create_api_key(&self, by: &Caller, new: &NewApiKey<'_>) -> Result<MadeApiKey, AdminError> {
        let name = new.name.trim();
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(AdminError::Invalid("an API key's name has 1 to 128 characters, none of them a control"));
        }
        if new.valid_days.is_some_and(|days| days == 0 || days > MAX_DAYS) {
            return Err(AdminError::Invalid("an API key is valid for 1 to 3650 days, or without end"));
        }
        let key = ApiKey::generate();
        let now = self.now();
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, new.org_id, new.user_id).await?;
        let member = member.filter(|member| member.active).ok_or(storage::Error::NotFound("user"))?;
        if api_keys::count(&mut tx, new.org_id, new.user_id).await? >= PER_USER {
            return Err(AdminError::Invalid("the user has 200 API keys here already: revoke some first"));
        }
        let row = api_keys::NewApiKey {
            id: key.id(),
            org_id: new.org_id,
            user_id: new.user_id,
            name,
            secret_hash: &key.secret_hash(),
            expires_at: new.valid_days.map(|days| now + i64::from(days) * 86_400),
        };
        let row = api_keys::create(&mut tx, &row, now).await?;
        let detail = json!({"id": row.id, "name": row.name, "expires_at": row.expires_at});
        let entry =
            Entry { org_id: new.org_id, action: "apikey.create", target: &member.name, detail, ..Entry::default() };
        self.record(&mut tx, by, &entry).await?;
        tx.commit().await?;
        Ok(MadeApiKey { row, key: key.reveal() })
    }

    /// Revokes an API key. Access tokens that were had with it end.
    ///
    /// # Errors
    /// [`AdminError::Storage`] where there is no such key in the organization.
    pub async fn delete_api_key(&self, by: &Caller, org_id: &str, id: &str) -> Result<(), AdminError> {
        let mut tx = self.db().begin().await?;
        let key = api_keys::find(&mut tx, id).await?.filter(|key| key.org_id == org_id);
        let key = key.ok_or(storage::Error::NotFound("API key"))?;
        api_keys::delete(&mut tx, id).await?;
        users::bump_grants_epoch(&mut tx, &key.user_id).await?;
        let owner = memberships::find(&mut tx, org_id, &key.user_id).await?.map(|member| member.name);
        let detail = json!({"id": key.id, "name": key.name});
        let target = owner.as_deref().unwrap_or_default();
        self.record(&mut tx, by, &Entry { org_id, action: "apikey.delete", target, detail, ..Entry::default() })
            .await?;
        tx.commit().await?;
        self.forget_key(id);
        self.forget(&key.user_id);
        Ok(())
    }
}

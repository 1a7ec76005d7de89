//! API keys: making and revoking them, and telling of those that end.

use serde_json::json;
use storage::api_keys::{self, ApiKey as Row};
use storage::memberships::{self, MemberFilter};
use storage::{Tx, idempotency, orgs, users};

use super::{AdminError, UserKind};
use crate::api_key::ApiKey;
use crate::audit::{Caller, Entry};
use crate::core::Identity;
use crate::mail::Mail;
use crate::rbac::{Permission, Role};
use crate::secret::Secret;

/// Keys that one user may have in one organization.
const PER_USER: i64 = 200;
/// Longest name of a key, in characters.
const MAX_NAME: usize = 128;
/// Longest validity of a key, in days.
const MAX_DAYS: u32 = 3650;

/// Projects that a key may be narrowed to, and permissions.
const MAX_NARROW: usize = 100;
/// Organization Admins that a notice goes to at most.
const MAX_ADMINS: i64 = 20;
/// How long before its end a key's owner is told, in seconds (7 days).
const NOTICE: i64 = 7 * 86_400;
/// Notices that are written in one go.
const NOTICES: i64 = 50;

/// What a new API key needs.
#[derive(Debug, Clone)]
pub struct NewApiKey<'a> {
    /// The organization whose bindings it carries.
    pub org_id: &'a str,
    /// Whose rights it carries: an active member of it.
    pub user_id: &'a str,
    /// What its maker calls it.
    pub name: &'a str,
    /// Days until it ends; as long as the organization allows without, which may be for ever.
    pub valid_days: Option<u32>,
    /// Ids of the projects, of that organization, that it is narrowed to.
    pub projects: Option<&'a [String]>,
    /// Permissions that it is narrowed to.
    pub permissions: Option<&'a [Permission]>,
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
        if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(crate::name::is_hidden) {
            return Err(AdminError::Invalid("an API key's name has 1 to 128 characters, none of them a control"));
        }
        if new.valid_days.is_some_and(|days| days == 0 || days > MAX_DAYS) {
            return Err(AdminError::Invalid("an API key is valid for 1 to 3650 days, or without end"));
        }
        let (projects, permissions) = narrowing(new)?;
        let key = ApiKey::generate();
        let now = self.now();
        let mut tx = self.db().begin().await?;
        let member = memberships::find(&mut tx, new.org_id, new.user_id).await?;
        let member = member.filter(|member| member.active).ok_or(storage::Error::NotFound("user"))?;
        // The user's own setting takes the place of the organization's; both hold for keys that are made from now on.
        let settings = orgs::settings(&mut tx, new.org_id).await?;
        let longest = member.key_valid_days.or(settings.key_valid_days);
        let days = new.valid_days.map(i64::from);
        if let (Some(days), Some(longest)) = (days, longest)
            && days > longest
        {
            return Err(AdminError::KeyTooLong { longest });
        }
        if api_keys::count(&mut tx, new.org_id, new.user_id).await? >= PER_USER {
            return Err(AdminError::Invalid("the user has 200 API keys here already: revoke some first"));
        }
        let row = api_keys::NewApiKey {
            id: key.id(),
            org_id: new.org_id,
            user_id: new.user_id,
            name,
            secret_hash: &key.secret_hash(),
            expires_at: days.or(longest).map(|days| now + days * 86_400),
            projects: projects.as_deref(),
            permissions: permissions.as_deref(),
            created_by: &by.principal.user_id,
        };
        let row = api_keys::create(&mut tx, &row, now).await?;
        if by.principal.user_id != new.user_id && member.kind == UserKind::Local.as_str() {
            let org = orgs::get(&mut tx, new.org_id).await?;
            let mail = Mail::KeyMade { org: &org.name, by: &by.principal.name, name: &row.name, id: &row.id };
            self.enqueue_mail(&mut tx, &member.name, Some(new.org_id), &mail).await?;
        }
        let detail = json!({
            "id": row.id, "name": row.name, "expires_at": row.expires_at, "projects": row.projects,
            "permissions": row.permissions,
        });
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
        idempotency::end_api_key(&mut tx, id).await?;
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

    /// Writes mails to the owners of keys that end within seven days, each once. Of a machine's keys its maker hears, and the
    /// Organization Admins where the maker is gone.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn tell_of_ending_keys(&self) -> storage::Result<()> {
        loop {
            let now = self.now();
            let mut tx = self.db().begin().await?;
            let keys = api_keys::take_expiring(&mut tx, now, now + NOTICE, NOTICES).await?;
            for key in &keys {
                self.tell_of_ending_key(&mut tx, key).await?;
            }
            tx.commit().await?;
            if i64::try_from(keys.len()).is_ok_and(|told| told < NOTICES) {
                return Ok(());
            }
        }
    }

    async fn tell_of_ending_key(&self, tx: &mut Tx, key: &Row) -> storage::Result<()> {
        let Some(owner) = memberships::find(tx, &key.org_id, &key.user_id).await? else { return Ok(()) };
        let (Some(org), Some(until)) = (orgs::find(tx, &key.org_id).await?, key.expires_at) else { return Ok(()) };
        if !owner.active {
            return Ok(());
        }
        let user = owner.name.clone();
        let mail = Mail::KeyExpiring { org: &org.name, user: &user, name: &key.name, id: &key.id, until };
        let mut to = vec![owner];
        if to[0].kind == UserKind::Machine.as_str() {
            let maker = match &key.created_by {
                Some(maker) => memberships::find(tx, &key.org_id, maker).await?,
                None => None,
            };
            to = match maker.filter(|maker| maker.active) {
                Some(maker) => vec![maker],
                None => {
                    let admins = MemberFilter { role: Some(Role::ORGANIZATION_ADMIN), ..MemberFilter::default() };
                    let admins = memberships::list(tx, &key.org_id, &admins, "", MAX_ADMINS).await?;
                    admins.into_iter().filter(|admin| admin.active).collect()
                }
            };
        }
        for member in &to {
            self.enqueue_mail(tx, &member.name, Some(&key.org_id), &mail).await?;
        }
        Ok(())
    }
}

/// What a key is narrowed to, as rows hold it: sorted JSON arrays.
fn narrowing(new: &NewApiKey<'_>) -> Result<(Option<String>, Option<String>), AdminError> {
    let sorted = |mut texts: Vec<&str>| {
        texts.sort_unstable();
        texts.dedup();
        json!(texts).to_string()
    };
    let projects: Option<Vec<&str>> = new.projects.map(|ids| ids.iter().map(String::as_str).collect());
    let permissions: Option<Vec<&str>> = new.permissions.map(|all| all.iter().map(|p| p.as_str()).collect());
    for list in [&projects, &permissions].into_iter().flatten() {
        if list.is_empty() || list.len() > MAX_NARROW {
            return Err(AdminError::Invalid(
                "an API key is narrowed to 1 to 100 projects, and to 1 to 100 permissions",
            ));
        }
    }
    if permissions.iter().flatten().any(|permission| permission.starts_with("platform.")) {
        return Err(AdminError::Invalid("no API key carries the permissions of the platform"));
    }
    Ok((projects.map(sorted), permissions.map(sorted)))
}

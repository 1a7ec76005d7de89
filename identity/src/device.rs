//! Device authorization (RFC 8628): how a command line without a browser logs in. It asks for two codes, shows the short one
//! to its user, and asks now and then what became of the long one. The user types the short one into a page of the
//! controller, sees what asks and from where, and approves with a session of their own, second factor included.
//!
//! The short code is eight consonants (34 bits): enough because only those who are logged in can try one, a few times a
//! minute, and because it lives for ten minutes.

use serde_json::json;
use storage::device_grants::{self, DeviceGrant, Verdict};
use storage::users;

use crate::audit::{Caller, Credential, Entry, Origin};
use crate::core::Identity;
use crate::limits::{Limit, Throttled};
use crate::secret::{Secret, fill_random, sha256_hex};
use crate::session::{LiveSession, NewSession, SessionKind, Start};

/// Seconds that the codes live.
const LIFETIME: i64 = 600;
/// Seconds that a program waits between two questions.
pub const INTERVAL: i64 = 5;
/// Programs that may wait at a time for one address.
const PENDING: i64 = 50;
/// Letters of a user code: no vowels, so no words; no letter that looks like another (RFC 8628 §6.1).
const ALPHABET: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// Letters of a user code.
const LETTERS: usize = 8;
/// Longest name of a program, in characters.
const MAX_CLIENT: usize = 100;

/// The codes of a program that waits.
#[derive(Debug, Clone)]
pub struct DeviceCodes {
    /// What the program asks with.
    pub device_code: Secret,
    /// What its user types: `BCDF-GHJK`.
    pub user_code: Secret,
    /// Seconds that they live.
    pub expires_in: i64,
}

/// What became of a device code.
#[derive(Debug, Clone)]
pub enum Polled {
    /// Nobody has said anything yet.
    Pending,
    /// As before, and it asks too often.
    SlowDown,
    /// Somebody said no.
    Denied,
    /// There is none, or it has ended.
    Expired,
    /// Somebody said yes: their session.
    Approved {
        /// The session.
        session: NewSession,
        /// Their name.
        user: String,
        /// Slug of the organization that it is bound to.
        org: Option<String>,
    },
}

/// Why nothing was done. `Display` is meant for whoever asked for it.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// Too often.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    /// What the rows said; [`storage::Error::NotFound`] for a user code that nothing waits with.
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// A new user code.
fn user_code() -> Secret {
    let mut letters = String::with_capacity(LETTERS + 1);
    while letters.len() <= LETTERS {
        let mut byte = [0u8; 1];
        fill_random(&mut byte);
        // 240 is the largest multiple of 20 in a byte: every letter is as likely as every other.
        if byte[0] < 240 {
            if letters.len() == 4 {
                letters.push('-');
            }
            letters.push(char::from(ALPHABET[usize::from(byte[0] % 20)]));
        }
    }
    Secret::new(letters)
}

/// A user code without case and punctuation; `None` where it cannot be one.
fn normalise(typed: &str) -> Option<String> {
    let letters: String =
        typed.chars().take(64).filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_uppercase()).collect();
    (letters.len() == LETTERS && letters.bytes().all(|b| ALPHABET.contains(&b))).then_some(letters)
}

impl Identity {
    fn user_code_hash(&self, typed: &str) -> Option<String> {
        Some(hex::encode(self.mac("device user code", normalise(typed)?.as_bytes())))
    }

    /// Gives a program its codes.
    ///
    /// # Errors
    /// [`DeviceError::Throttled`], also where too many wait for its address.
    pub async fn begin_device(&self, from: &Origin, client: &str) -> Result<DeviceCodes, DeviceError> {
        self.admit(Limit::Device, from, None)?;
        let now = self.now();
        let address = from.address.map(|address| address.to_canonical().to_string()).unwrap_or_default();
        let mut tx = self.db().begin().await?;
        if device_grants::count_pending(&mut tx, &address, now).await? >= PENDING {
            return Err(Throttled { retry_after: LIFETIME }.into());
        }
        let device_code = Secret::random_hex(32);
        let client: String = client.chars().filter(|c| !c.is_control()).take(MAX_CLIENT).collect();
        let mut grant = DeviceGrant {
            device_hash: sha256_hex(device_code.expose()),
            user_code_hash: String::new(),
            status: "pending".to_owned(),
            user_id: None,
            epoch: 0,
            org_id: None,
            second_factor: false,
            client,
            address,
            last_poll_ms: 0,
            created_at: now,
            expires_at: now + LIFETIME,
        };
        for _ in 0..5 {
            let user_code = user_code();
            grant.user_code_hash = self.user_code_hash(user_code.expose()).unwrap_or_default();
            if device_grants::create(&mut tx, &grant).await? {
                tx.commit().await?;
                return Ok(DeviceCodes { device_code, user_code, expires_in: LIFETIME });
            }
        }
        Err(Throttled { retry_after: INTERVAL }.into())
    }

    /// What waits with a user code, for somebody who is logged in. Wrong codes are counted: nobody finds one by trying.
    ///
    /// # Errors
    /// [`DeviceError::Storage`] with [`storage::Error::NotFound`], [`DeviceError::Throttled`].
    pub async fn find_device(&self, by: &Caller, user_code: &str) -> Result<DeviceGrant, DeviceError> {
        let account = by.principal.name.as_str();
        self.admit(Limit::DeviceCode, &by.origin, Some(account))?;
        let hash = self.user_code_hash(user_code).unwrap_or_default();
        let found = device_grants::find_pending(&mut self.db().read().await?, &hash, self.now()).await?;
        match found {
            Some(found) => {
                self.give_back(Limit::DeviceCode, &by.origin, Some(account));
                Ok(found)
            }
            None => {
                self.count_against(Limit::DeviceCode, &by.origin, Some(account));
                Err(storage::Error::NotFound("device code").into())
            }
        }
    }

    /// Says yes or no to what waits with a user code.
    ///
    /// # Errors
    /// As [`Identity::find_device`].
    pub async fn decide_device(
        &self,
        by: &Caller,
        session: &LiveSession,
        user_code: &str,
        approve: bool,
    ) -> Result<(), DeviceError> {
        let found = self.find_device(by, user_code).await?;
        let verdict = Verdict {
            status: if approve { "approved" } else { "denied" },
            user_id: &by.principal.user_id,
            epoch: session.epoch(),
            org_id: session.org_id.as_deref(),
            second_factor: session.second_factor,
        };
        let mut tx = self.db().begin().await?;
        if !device_grants::decide(&mut tx, &found.user_code_hash, &verdict, self.now()).await? {
            return Err(storage::Error::NotFound("device code").into());
        }
        let action = if approve { "device.approve" } else { "device.deny" };
        let detail = json!({"client": found.client, "address": found.address});
        let entry = Entry { action, target: &by.principal.name, detail, ..Entry::default() };
        self.record_for(&mut tx, by, Some(&by.principal.user_id), &entry).await?;
        tx.commit().await?;
        Ok(())
    }

    /// What became of a device code. A yes is given once: the session is opened, and the code is over.
    ///
    /// # Errors
    /// [`DeviceError::Throttled`]; those of the database.
    pub async fn poll_device(&self, from: &Origin, device_code: &Secret) -> Result<Polled, DeviceError> {
        self.admit(Limit::DevicePoll, from, None)?;
        let hash = sha256_hex(device_code.expose());
        let mut tx = self.db().begin().await?;
        let Some((grant, since_ms)) = device_grants::poll(&mut tx, &hash, self.now_ms()).await? else {
            return Ok(Polled::Expired);
        };
        if grant.expires_at <= self.now() {
            return Ok(Polled::Expired);
        }
        if grant.status == "pending" {
            tx.commit().await?;
            // Half a second of grace: clocks and networks are not exact.
            return Ok(if since_ms < INTERVAL * 1000 - 500 { Polled::SlowDown } else { Polled::Pending });
        }
        device_grants::delete(&mut tx, &hash).await?;
        let user = match &grant.user_id {
            Some(id) => users::find(&mut tx, id).await?.filter(|user| user.epoch == grant.epoch),
            None => None,
        };
        let Some(user) = user.filter(|_| grant.status == "approved") else {
            tx.commit().await?;
            return Ok(Polled::Denied);
        };
        let start = Start {
            user_id: &user.id,
            epoch: grant.epoch,
            kind: SessionKind::Cli,
            second_factor: grant.second_factor,
            from,
            org_id: grant.org_id.as_deref(),
        };
        let session = self.write_session(&mut tx, &start).await?;
        let org = match &grant.org_id {
            Some(org_id) => storage::orgs::find(&mut tx, org_id).await?.map(|org| org.slug),
            None => None,
        };
        let subject = self.subject(&user.id).await?;
        let by = Caller {
            principal: subject
                .map(|subject| subject.principal(None))
                .unwrap_or_else(|| crate::rbac::Principal::nobody(&user.name))
                .into(),
            credential: Credential::Session(session.id.clone()),
            origin: from.clone(),
        };
        let detail = json!({"session": session.id, "client": grant.client});
        let entry = Entry { action: "session.begin", target: &user.name, detail, ..Entry::default() };
        self.record_for(&mut tx, &by, Some(&user.id), &entry).await?;
        tx.commit().await?;
        self.forget(&user.id);
        Ok(Polled::Approved { session, user: user.name, org })
    }
}

#[cfg(test)]
mod tests;

//! Device authorization (RFC 8628): a program without a browser that waits for somebody with one, by the hash of its code.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::{execute, query_one, query_opt};

/// A program that waits.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct DeviceGrant {
    /// SHA-256 of the device code, in hexadecimal.
    pub device_hash: String,
    /// The user code under a key.
    pub user_code_hash: String,
    /// `pending`, `approved` or `denied`.
    pub status: String,
    /// Who decided.
    pub user_id: Option<String>,
    /// Their epoch then.
    pub epoch: i64,
    /// The organization that their session had chosen.
    pub org_id: Option<String>,
    /// Whether their session had shown a second factor.
    pub second_factor: bool,
    /// What the program calls itself.
    pub client: String,
    /// From where it asks.
    pub address: String,
    /// When it last asked for the outcome (unix milliseconds).
    pub last_poll_ms: i64,
    /// When it began to wait (unix seconds).
    pub created_at: i64,
    /// When it gives up (unix seconds).
    pub expires_at: i64,
}

/// What somebody with a browser says to a program that waits.
#[derive(Debug, Clone)]
pub struct Verdict<'a> {
    /// `approved` or `denied`.
    pub status: &'a str,
    /// Who says it.
    pub user_id: &'a str,
    /// Their epoch.
    pub epoch: i64,
    /// The organization that their session has chosen.
    pub org_id: Option<&'a str>,
    /// Whether their session has shown a second factor.
    pub second_factor: bool,
}

/// How many programs wait, asked for from this address.
///
/// # Errors
/// Those of the database.
pub async fn count_pending(session: &mut Session, address: &str, now: i64) -> Result<i64> {
    let (count,) = query_one!(
        session,
        (i64,),
        "SELECT COUNT(*) FROM device_grants WHERE address = $1 AND status = 'pending' AND expires_at > $2",
        address,
        now,
    )?;
    Ok(count)
}

/// Begins to wait. False where the user code is another's at this moment: try one more.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut Tx, new: &DeviceGrant) -> Result<bool> {
    let made = execute!(
        tx,
        "INSERT INTO device_grants (device_hash, user_code_hash, status, user_id, epoch, org_id, second_factor, client,
                                    address, last_poll_ms, created_at, expires_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT (user_code_hash) DO NOTHING",
        new.device_hash.as_str(),
        new.user_code_hash.as_str(),
        new.status.as_str(),
        new.user_id.as_deref(),
        new.epoch,
        new.org_id.as_deref(),
        new.second_factor,
        new.client.as_str(),
        new.address.as_str(),
        new.last_poll_ms,
        new.created_at,
        new.expires_at,
    )?;
    Ok(made > 0)
}

/// Finds a program that waits for its verdict, by the user code.
///
/// # Errors
/// Those of the database.
pub async fn find_pending(session: &mut Session, user_code_hash: &str, now: i64) -> Result<Option<DeviceGrant>> {
    query_opt!(
        session,
        DeviceGrant,
        "SELECT * FROM device_grants WHERE user_code_hash = $1 AND status = 'pending' AND expires_at > $2",
        user_code_hash,
        now,
    )
}

/// Finds a program by its device code, its row locked where the engine has row locks: of polls that come at the same time,
/// one after the other sees what the one before it wrote.
///
/// # Errors
/// Those of the database.
pub async fn poll(tx: &mut Tx, device_hash: &str, now_ms: i64) -> Result<Option<(DeviceGrant, i64)>> {
    let touched =
        execute!(tx, "UPDATE device_grants SET last_poll_ms = last_poll_ms WHERE device_hash = $1", device_hash)?;
    if touched == 0 {
        return Ok(None);
    }
    let found = query_opt!(tx, DeviceGrant, "SELECT * FROM device_grants WHERE device_hash = $1", device_hash)?;
    let Some(grant) = found else { return Ok(None) };
    execute!(tx, "UPDATE device_grants SET last_poll_ms = $2 WHERE device_hash = $1", device_hash, now_ms)?;
    let since = now_ms - grant.last_poll_ms;
    Ok(Some((grant, since)))
}

/// Says the verdict, once. False where it was said already, or nothing waits.
///
/// # Errors
/// Those of the database.
pub async fn decide(tx: &mut Tx, user_code_hash: &str, verdict: &Verdict<'_>, now: i64) -> Result<bool> {
    let touched = execute!(
        tx,
        "UPDATE device_grants SET status = $2, user_id = $3, epoch = $4, org_id = $5, second_factor = $6
         WHERE user_code_hash = $1 AND status = 'pending' AND expires_at > $7",
        user_code_hash,
        verdict.status,
        verdict.user_id,
        verdict.epoch,
        verdict.org_id,
        verdict.second_factor,
        now,
    )?;
    Ok(touched > 0)
}

/// Takes a program's row away. True where there was one: of all who try to at the same time, one gets it.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, device_hash: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM device_grants WHERE device_hash = $1", device_hash)? > 0)
}

/// Takes away those that gave up before `now`; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, now: i64) -> Result<u64> {
    execute!(tx, "DELETE FROM device_grants WHERE expires_at <= $1", now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn a_program_waits_is_decided_once_and_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user_id = users::create(&mut tx, &new, 1).await.unwrap().id;
        let made = |device: &str, user: &str| DeviceGrant {
            device_hash: device.into(),
            user_code_hash: user.into(),
            status: "pending".into(),
            user_id: None,
            epoch: 0,
            org_id: None,
            second_factor: false,
            client: "rctl".into(),
            address: "192.0.2.1".into(),
            last_poll_ms: 0,
            created_at: 1,
            expires_at: 100,
        };
        assert!(create(&mut tx, &made("d", "u")).await.unwrap());
        assert!(!create(&mut tx, &made("e", "u")).await.unwrap(), "the user code is taken");
        assert_eq!(count_pending(&mut tx, "192.0.2.1", 99).await.unwrap(), 1);
        assert_eq!(count_pending(&mut tx, "192.0.2.1", 100).await.unwrap(), 0);
        assert!(find_pending(&mut tx, "u", 99).await.unwrap().is_some());
        assert_eq!(find_pending(&mut tx, "u", 100).await.unwrap(), None);
        assert_eq!(poll(&mut tx, "d", 5000).await.unwrap().unwrap().1, 5000);
        assert_eq!(poll(&mut tx, "d", 6000).await.unwrap().unwrap().1, 1000);
        assert!(poll(&mut tx, "x", 6000).await.unwrap().is_none());
        let verdict = Verdict { status: "approved", user_id: &user_id, epoch: 1, org_id: None, second_factor: true };
        assert!(!decide(&mut tx, "u", &verdict, 100).await.unwrap(), "too late");
        assert!(
            decide(&mut tx, "u", &verdict, 99).await.unwrap() && !decide(&mut tx, "u", &verdict, 99).await.unwrap()
        );
        let (decided, _) = poll(&mut tx, "d", 7000).await.unwrap().unwrap();
        assert_eq!((decided.status.as_str(), decided.second_factor), ("approved", true));
        assert!(delete(&mut tx, "d").await.unwrap() && !delete(&mut tx, "d").await.unwrap());
        assert!(create(&mut tx, &made("d", "u")).await.unwrap());
        assert_eq!(purge(&mut tx, 100).await.unwrap(), 1);
    }
}

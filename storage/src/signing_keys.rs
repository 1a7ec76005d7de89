//! Keys that sign access tokens, their private halves sealed. At most a handful of rows.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::{execute, execute_each, query_all};

/// A signing key as it is stored: binary values are base64, and the private half is ciphertext.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct SigningKey {
    /// What tokens name it by.
    pub kid: String,
    /// The private key, sealed under the master key.
    pub sealed: String,
    /// `SubjectPublicKeyInfo` DER.
    pub public_key: String,
    /// A self-signed certificate of it, DER.
    pub certificate: String,
    /// When it was made (unix seconds).
    pub created_at: i64,
    /// From when on it signs, until a younger one does (unix seconds).
    pub sign_from: i64,
    /// Until when its signatures count (unix seconds), once a younger one took over.
    pub verify_until: Option<i64>,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("kid", &self.kid)
            .field("sign_from", &self.sign_from)
            .field("verify_until", &self.verify_until)
            .finish_non_exhaustive()
    }
}

/// Every key, the one that signs last first.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session) -> Result<Vec<SigningKey>> {
    query_all!(session, SigningKey, "SELECT * FROM signing_keys ORDER BY sign_from DESC, kid LIMIT 100")
}

/// Makes other processes that would make a key wait until the transaction ends; reading goes on. `SQLite` has one writer at a
/// time anyway.
///
/// # Errors
/// Those of the database.
pub async fn lock(tx: &mut Tx) -> Result<()> {
    execute_each!(tx, "SELECT 1", "LOCK TABLE signing_keys IN SHARE ROW EXCLUSIVE MODE")?;
    Ok(())
}

/// Creates a key, and sets until when the signatures of those before it count.
///
/// # Errors
/// [`crate::Error::Conflict`] where the key exists, else those of the database.
pub async fn create(tx: &mut Tx, new: &SigningKey, others_verify_until: i64) -> Result<()> {
    execute!(tx, "UPDATE signing_keys SET verify_until = $1 WHERE verify_until IS NULL", others_verify_until)?;
    execute!(
        tx,
        "INSERT INTO signing_keys (kid, sealed, public_key, certificate, created_at, sign_from, verify_until)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
        new.kid.as_str(),
        new.sealed.as_str(),
        new.public_key.as_str(),
        new.certificate.as_str(),
        new.created_at,
        new.sign_from,
        new.verify_until,
    )?;
    Ok(())
}

/// Takes away the keys whose signatures no longer count; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, now: i64) -> Result<u64> {
    execute!(tx, "DELETE FROM signing_keys WHERE verify_until <= $1", now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;

    #[tokio::test]
    async fn a_younger_key_retires_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let old = SigningKey {
            kid: "old".into(),
            sealed: "c2VhbGVk".into(),
            public_key: "cA".into(),
            certificate: "Yw".into(),
            created_at: 1,
            sign_from: 1,
            verify_until: None,
        };
        create(&mut tx, &old, 0).await.unwrap();
        let new = SigningKey { kid: "new".into(), sign_from: 60, ..old.clone() };
        create(&mut tx, &new, 500).await.unwrap();
        let rows = list(&mut tx).await.unwrap();
        assert_eq!(rows[0], new);
        assert_eq!(rows[1].verify_until, Some(500));
        assert!(!format!("{old:?}").contains("c2VhbGVk"));
        assert_eq!(purge(&mut tx, 499).await.unwrap(), 0);
        assert_eq!(purge(&mut tx, 500).await.unwrap(), 1);
    }
}

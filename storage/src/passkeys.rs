//! Passkeys (`WebAuthn`): public keys of credentials that people's devices hold.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::{execute, query_all, query_opt};

/// A passkey.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Passkey {
    /// SHA-256 of the credential's id, in hexadecimal.
    pub id: String,
    /// Whose it is.
    pub user_id: String,
    /// What its owner calls it.
    pub name: String,
    /// Public key, counter and flags, as the library keeps them: JSON.
    pub credential: String,
    /// When it was added (unix seconds).
    pub created_at: i64,
    /// When it last let in (unix seconds).
    pub last_used_at: Option<i64>,
}

/// Finds a passkey by the hash of its credential's id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, id: &str) -> Result<Option<Passkey>> {
    query_opt!(session, Passkey, "SELECT * FROM passkeys WHERE id = $1", id)
}

/// At most `limit` passkeys of a user, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn list_of_user(session: &mut Session, user_id: &str, limit: i64) -> Result<Vec<Passkey>> {
    query_all!(
        session,
        Passkey,
        "SELECT * FROM passkeys WHERE user_id = $1 ORDER BY created_at, id LIMIT $2",
        user_id,
        limit,
    )
}

/// Adds a passkey.
///
/// # Errors
/// [`Error::Conflict`] where it is somebody's already, else those of the database.
pub async fn create(tx: &mut Tx, new: &Passkey) -> Result<()> {
    let made = execute!(
        tx,
        "INSERT INTO passkeys (id, user_id, name, credential, created_at, last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (id) DO NOTHING",
        new.id.as_str(),
        new.user_id.as_str(),
        new.name.as_str(),
        new.credential.as_str(),
        new.created_at,
        new.last_used_at,
    )?;
    if made == 0 { Err(Error::Conflict("that passkey is known already")) } else { Ok(()) }
}

/// Notes that a passkey let in, and what its counter says now: only while it still says what was checked against, so that
/// of two uses of one counter one gets true.
///
/// # Errors
/// Those of the database.
pub async fn update(tx: &mut Tx, id: &str, checked: &str, credential: &str, now: i64) -> Result<bool> {
    let touched = execute!(
        tx,
        "UPDATE passkeys SET credential = $3, last_used_at = $4 WHERE id = $1 AND credential = $2",
        id,
        checked,
        credential,
        now,
    )?;
    Ok(touched > 0)
}

/// Gives a user's passkey another name. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn rename(tx: &mut Tx, user_id: &str, id: &str, name: &str) -> Result<bool> {
    Ok(execute!(tx, "UPDATE passkeys SET name = $3 WHERE user_id = $1 AND id = $2", user_id, id, name)? > 0)
}

/// Takes a user's passkey away. True where there was one.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, user_id: &str, id: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM passkeys WHERE user_id = $1 AND id = $2", user_id, id)? > 0)
}

/// Takes all passkeys of a user away; returns how many.
///
/// # Errors
/// Those of the database.
pub async fn delete_all(tx: &mut Tx, user_id: &str) -> Result<u64> {
    execute!(tx, "DELETE FROM passkeys WHERE user_id = $1", user_id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn a_passkey_is_somebodys_and_its_counter_moves_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let user_id = users::create(&mut tx, &new, 1).await.unwrap().id;
        let made = |id: &str| Passkey {
            id: id.into(),
            user_id: user_id.clone(),
            name: "laptop".into(),
            credential: "{1}".into(),
            created_at: 1,
            last_used_at: None,
        };
        create(&mut tx, &made("a")).await.unwrap();
        create(&mut tx, &made("b")).await.unwrap();
        assert!(create(&mut tx, &made("a")).await.unwrap_err().is_conflict());
        assert_eq!(list_of_user(&mut tx, &user_id, 10).await.unwrap(), [made("a"), made("b")]);
        assert!(update(&mut tx, "a", "{1}", "{2}", 9).await.unwrap());
        assert!(!update(&mut tx, "a", "{1}", "{2}", 9).await.unwrap());
        assert_eq!(find(&mut tx, "a").await.unwrap().unwrap().last_used_at, Some(9));
        assert!(!rename(&mut tx, "somebody", "a", "theirs").await.unwrap());
        assert!(rename(&mut tx, &user_id, "a", "phone").await.unwrap());
        assert_eq!(find(&mut tx, "a").await.unwrap().unwrap().name, "phone");
        assert_eq!(find(&mut tx, "b").await.unwrap().unwrap().name, "laptop");
        assert!(!delete(&mut tx, "somebody", "a").await.unwrap());
        assert!(delete(&mut tx, &user_id, "a").await.unwrap());
        assert_eq!(delete_all(&mut tx, &user_id).await.unwrap(), 1);
    }
}

//! Recovery codes: what lets in where the second factor is lost, each once. Rows hold codes under a key, never themselves.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::{execute, query_one};

/// Gives a user these codes in place of all they had.
///
/// # Errors
/// Those of the database.
pub async fn replace(tx: &mut Tx, user_id: &str, macs: &[String], now: i64) -> Result<()> {
    delete_all(tx, user_id).await?;
    for mac in macs {
        execute!(
            tx,
            "INSERT INTO recovery_codes (user_id, code_mac, created_at) VALUES ($1, $2, $3)",
            user_id,
            mac.as_str(),
            now,
        )?;
    }
    Ok(())
}

/// Spends a code: of all who show it at the same time, one gets true.
///
/// # Errors
/// Those of the database.
pub async fn spend(tx: &mut Tx, user_id: &str, mac: &str) -> Result<bool> {
    Ok(execute!(tx, "DELETE FROM recovery_codes WHERE user_id = $1 AND code_mac = $2", user_id, mac)? > 0)
}

/// How many codes a user has left.
///
/// # Errors
/// Those of the database.
pub async fn count(session: &mut Session, user_id: &str) -> Result<i64> {
    let (count,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM recovery_codes WHERE user_id = $1", user_id)?;
    Ok(count)
}

/// Takes all codes of a user away.
///
/// # Errors
/// Those of the database.
pub async fn delete_all(tx: &mut Tx, user_id: &str) -> Result<()> {
    execute!(tx, "DELETE FROM recovery_codes WHERE user_id = $1", user_id)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn a_code_is_spent_once_and_new_ones_replace_the_old() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser { name: "ann", kind: "local", operator: false, password_hash: None, temporary_until: None };
        let id = users::create(&mut tx, &new, 1).await.unwrap().id;
        replace(&mut tx, &id, &["a".into(), "b".into()], 1).await.unwrap();
        assert!(spend(&mut tx, &id, "a").await.unwrap() && !spend(&mut tx, &id, "a").await.unwrap());
        assert!(!spend(&mut tx, "somebody", "b").await.unwrap());
        assert_eq!(count(&mut tx, &id).await.unwrap(), 1);
        replace(&mut tx, &id, &["c".into(), "d".into()], 2).await.unwrap();
        assert!(!spend(&mut tx, &id, "b").await.unwrap());
        assert_eq!(count(&mut tx, &id).await.unwrap(), 2);
        delete_all(&mut tx, &id).await.unwrap();
        assert_eq!(count(&mut tx, &id).await.unwrap(), 0);
    }
}

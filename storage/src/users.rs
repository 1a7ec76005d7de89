//! Users: people and machines, one row across all organizations, and the epochs that end what they were given.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::names::new_id;
use crate::{execute, query_all, query_opt};

/// A user. `Debug` leaves the password's hash out.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct User {
    /// Opaque id.
    pub id: String,
    /// Normalised e-mail; a machine's is `<name>:<id of its organization>` ([`row_name`]).
    pub name: String,
    /// `local` or `machine`.
    pub kind: String,
    /// Whether the user runs the platform.
    pub operator: bool,
    /// PHC string of the password, where there is one.
    pub password_hash: Option<String>,
    /// Whether the next log-in must choose a new password.
    pub must_change_password: bool,
    /// When a temporary password ends (unix seconds).
    pub password_expires_at: Option<i64>,
    /// Ends sessions, refresh tokens and access tokens.
    pub epoch: i64,
    /// Ends access tokens.
    pub grants_epoch: i64,
    /// When the user was created (unix seconds).
    pub created_at: i64,
    /// Whether a person proved that the address is theirs, by what was mailed to it.
    pub verified: bool,
}

impl User {
    /// The name as people know it: a machine's without its organization.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        shown_name(&self.name)
    }
}

/// A row's name as people know it: a machine's without its organization.
#[must_use]
pub fn shown_name(row_name: &str) -> &str {
    row_name.split(':').next().unwrap_or_default()
}

/// The name of the row that people of an organization know as `shown` (normalised): names of machines, which have no `@`,
/// are the organization's own.
#[must_use]
pub fn row_name(shown: &str, org_id: &str) -> String {
    if shown.contains('@') { shown.to_owned() } else { format!("{shown}:{org_id}") }
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("kind", &self.kind)
            .field("operator", &self.operator)
            .field("epoch", &self.epoch)
            .field("grants_epoch", &self.grants_epoch)
            .finish_non_exhaustive()
    }
}

/// What a new user needs.
#[derive(Clone)]
#[allow(missing_debug_implementations)] // It carries a password's hash.
pub struct NewUser<'a> {
    /// Normalised e-mail, or [`row_name`] of a machine.
    pub name: &'a str,
    /// `local` or `machine`.
    pub kind: &'a str,
    /// Whether the user runs the platform.
    pub operator: bool,
    /// PHC string of the password, where there is one.
    pub password_hash: Option<&'a str>,
    /// When the password ends if it is a temporary one, which the first log-in must replace.
    pub temporary_until: Option<i64>,
}

/// Finds a user by id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, id: &str) -> Result<Option<User>> {
    query_opt!(session, User, "SELECT * FROM users WHERE id = $1", id)
}

/// Finds a user by normalised name.
///
/// # Errors
/// Those of the database.
pub async fn find_by_name(session: &mut Session, name: &str) -> Result<Option<User>> {
    query_opt!(session, User, "SELECT * FROM users WHERE name = $1", name)
}

/// At most `limit` platform operators, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn list_operators(session: &mut Session, limit: i64) -> Result<Vec<User>> {
    query_all!(session, User, "SELECT * FROM users WHERE operator = TRUE ORDER BY id LIMIT $1", limit)
}

/// Creates a user. One whose password is not a temporary one counts as verified.
///
/// # Errors
/// [`Error::Conflict`] where the name is taken, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewUser<'_>, now: i64) -> Result<User> {
    let user = User {
        id: new_id(),
        name: new.name.to_owned(),
        kind: new.kind.to_owned(),
        operator: new.operator,
        password_hash: new.password_hash.map(ToOwned::to_owned),
        must_change_password: new.temporary_until.is_some(),
        password_expires_at: new.temporary_until,
        epoch: 1,
        grants_epoch: 1,
        created_at: now,
        verified: new.temporary_until.is_none(),
    };
    let made = execute!(
        tx,
        "INSERT INTO users (id, name, kind, operator, password_hash, must_change_password, password_expires_at, epoch,
                            grants_epoch, created_at, verified)
         VALUES ($1, $2, $3, $4, $5, $6, $7, 1, 1, $8, $9) ON CONFLICT (name) DO NOTHING",
        user.id.as_str(),
        user.name.as_str(),
        user.kind.as_str(),
        user.operator,
        user.password_hash.as_deref(),
        user.must_change_password,
        user.password_expires_at,
        now,
        user.verified,
    )?;
    if made == 0 {
        return Err(Error::Conflict("a user of that name exists already"));
    }
    Ok(user)
}

/// Replaces the password and moves the epoch: whoever was logged in with the old one no longer is. With
/// `temporary_until` the next log-in must choose another; without it the user has chosen this one, by means of the old one or
/// of a mail, and is verified. With `epoch` only while the user's is that one.
///
/// # Errors
/// [`Error::NotFound`] where there is no such user, [`Error::Conflict`] where the epoch has moved, else those of the database.
pub async fn update_password(
    tx: &mut Tx,
    id: &str,
    hash: &str,
    temporary_until: Option<i64>,
    epoch: Option<i64>,
) -> Result<()> {
    let touched = execute!(
        tx,
        "UPDATE users SET password_hash = $2, must_change_password = $3, password_expires_at = $4, epoch = epoch + 1,
                verified = CASE WHEN $3 THEN verified ELSE TRUE END
         WHERE id = $1 AND (CAST($5 AS BIGINT) IS NULL OR epoch = $5)",
        id,
        hash,
        temporary_until.is_some(),
        temporary_until,
        epoch,
    )?;
    match (touched, epoch) {
        (0, Some(_)) => Err(Error::Conflict("the password was changed a moment ago: log in again")),
        (0, None) => Err(Error::NotFound("user")),
        _ => Ok(()),
    }
}

/// Whether the user's epoch still is this one; if so it stays until the transaction ends, the row being locked.
///
/// # Errors
/// Those of the database.
pub async fn hold_epoch(tx: &mut Tx, id: &str, epoch: i64) -> Result<bool> {
    Ok(execute!(tx, "UPDATE users SET epoch = epoch WHERE id = $1 AND epoch = $2", id, epoch)? > 0)
}

/// Moves the epoch: sessions, refresh tokens and access tokens end.
///
/// # Errors
/// Those of the database.
pub async fn bump_epoch(tx: &mut Tx, id: &str) -> Result<()> {
    execute!(tx, "UPDATE users SET epoch = epoch + 1 WHERE id = $1", id)?;
    Ok(())
}

/// Moves the grants' epoch: access tokens end, and are had anew with what rights there are then.
///
/// # Errors
/// Those of the database.
pub async fn bump_grants_epoch(tx: &mut Tx, id: &str) -> Result<()> {
    execute!(tx, "UPDATE users SET grants_epoch = grants_epoch + 1 WHERE id = $1", id)?;
    Ok(())
}

/// Deletes a user with everything that is theirs alone. To be called once they are a member of nothing.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    execute!(tx, "DELETE FROM sessions WHERE user_id = $1", id)?;
    execute!(tx, "DELETE FROM refresh_tokens WHERE user_id = $1", id)?;
    execute!(tx, "DELETE FROM challenges WHERE user_id = $1", id)?;
    execute!(tx, "DELETE FROM device_grants WHERE user_id = $1", id)?;
    execute!(tx, "DELETE FROM recovery_codes WHERE user_id = $1", id)?;
    execute!(tx, "DELETE FROM passkeys WHERE user_id = $1", id)?;
    execute!(tx, "DELETE FROM users WHERE id = $1", id)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;

    #[tokio::test]
    async fn a_new_password_moves_the_epoch_and_lost_rights_the_other() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let new = NewUser {
            name: "ann@acme.example",
            kind: "local",
            operator: true,
            password_hash: Some("$hash"),
            temporary_until: Some(99),
        };
        let ann = create(&mut tx, &new, 5).await.unwrap();
        assert!(create(&mut tx, &new, 6).await.unwrap_err().is_conflict());
        assert_eq!(find(&mut tx, &ann.id).await.unwrap().unwrap(), ann);
        assert!(!ann.verified && ann.must_change_password && !format!("{ann:?}").contains("$hash"));

        assert!(update_password(&mut tx, &ann.id, "$late", None, Some(ann.epoch + 1)).await.unwrap_err().is_conflict());
        update_password(&mut tx, &ann.id, "$new", None, Some(ann.epoch)).await.unwrap();
        bump_grants_epoch(&mut tx, &ann.id).await.unwrap();
        assert!(!hold_epoch(&mut tx, &ann.id, ann.epoch).await.unwrap());
        assert!(hold_epoch(&mut tx, &ann.id, ann.epoch + 1).await.unwrap());
        let after = find_by_name(&mut tx, "ann@acme.example").await.unwrap().unwrap();
        assert_eq!((after.epoch, after.grants_epoch, after.must_change_password), (2, 2, false));
        assert_eq!((after.password_hash.as_deref(), after.password_expires_at), (Some("$new"), None));
        assert!(after.verified, "somebody who chose a password by means of the mailed one");
        bump_epoch(&mut tx, &ann.id).await.unwrap();
        assert_eq!(find(&mut tx, &ann.id).await.unwrap().unwrap().epoch, 3);
        assert!(matches!(update_password(&mut tx, "nope", "x", None, None).await, Err(Error::NotFound(_))));
        assert_eq!(list_operators(&mut tx, 5).await.unwrap().len(), 1);
        assert_eq!(find(&mut tx, "nope").await.unwrap(), None);
        update_password(&mut tx, &ann.id, "$again", Some(9), None).await.unwrap();
        assert!(find(&mut tx, &ann.id).await.unwrap().unwrap().verified, "once and for all");
        delete(&mut tx, &ann.id).await.unwrap();
        assert_eq!(find(&mut tx, &ann.id).await.unwrap(), None);
    }

    #[test]
    fn machines_of_two_organizations_may_share_a_name() {
        assert_eq!(row_name("ci", "0a"), "ci:0a");
        assert_eq!(row_name("ann@acme.example", "0a"), "ann@acme.example");
        assert_eq!((shown_name("ci:0a"), shown_name("ann@acme.example")), ("ci", "ann@acme.example"));
    }
}

//! Mails to be sent: an outbox that is filled in the transaction of what a mail is about, and emptied by whoever claims a
//! mail first. What it says is sealed by the layer above; the row goes once it was delivered.

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::names::new_id;
use crate::{execute, query_all, query_one};

/// A mail that waits. `Debug` leaves out what it says.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Mail {
    /// Opaque id.
    pub id: String,
    /// The organization that it is about, if it is about one.
    pub org_id: Option<String>,
    /// The address that it goes to.
    pub recipient: String,
    /// What kind of mail it is.
    pub kind: String,
    /// What it says, sealed; empty once it was given up.
    pub sealed: String,
    /// How often it was tried.
    pub attempts: i64,
    /// When it may be tried next (unix seconds).
    pub next_at: i64,
    /// Why it did not get through the last time.
    pub last_error: Option<String>,
    /// When it was written (unix seconds).
    pub created_at: i64,
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("id", &self.id).field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// What a new mail needs.
#[derive(Clone)]
#[allow(missing_debug_implementations)] // It carries what the mail says.
pub struct NewMail<'a> {
    /// Opaque id: [`new_mail_id`].
    pub id: &'a str,
    /// The organization that it is about, if it is about one.
    pub org_id: Option<&'a str>,
    /// The address that it goes to.
    pub recipient: &'a str,
    /// What kind of mail it is.
    pub kind: &'a str,
    /// What it says, sealed.
    pub sealed: &'a str,
}

/// An id for a mail, needed before its row because its text is sealed with it.
#[must_use]
pub fn new_mail_id() -> String {
    new_id()
}

/// Puts a mail into the outbox; it goes out once `tx` is committed.
///
/// # Errors
/// Those of the database.
pub async fn create(tx: &mut Tx, new: &NewMail<'_>, now: i64) -> Result<()> {
    execute!(
        tx,
        "INSERT INTO mails (id, org_id, recipient, kind, sealed, attempts, next_at, last_error, created_at)
         VALUES ($1, $2, $3, $4, $5, 0, $6, NULL, $6)",
        new.id,
        new.org_id,
        new.recipient,
        new.kind,
        new.sealed,
        now,
    )?;
    Ok(())
}

/// How many mails may be tried now; cheap where there is none.
///
/// # Errors
/// Those of the database.
pub async fn count_due(session: &mut Session, now: i64) -> Result<i64> {
    let (count,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM mails WHERE next_at <= $1", now)?;
    Ok(count)
}

/// Takes at most `limit` mails that are due, oldest first. Nobody else gets them before `until`; each is claimed by one
/// process, however many try at once, and one that dies with a claim leaves the mail to the others.
///
/// # Errors
/// Those of the database.
pub async fn claim(tx: &mut Tx, now: i64, until: i64, limit: i64) -> Result<Vec<Mail>> {
    // The outer condition is asked again of a row that another process just claimed; the inner one is not.
    let mut mails = query_all!(
        tx,
        Mail,
        "UPDATE mails SET attempts = attempts + 1, next_at = $2
         WHERE next_at <= $1 AND id IN (SELECT id FROM mails WHERE next_at <= $1 ORDER BY next_at, id LIMIT $3)
         RETURNING *",
        now,
        until,
        limit,
    )?;
    mails.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
    Ok(mails)
}

/// Takes a mail out of the outbox: it was delivered.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, id: &str) -> Result<()> {
    execute!(tx, "DELETE FROM mails WHERE id = $1", id)?;
    Ok(())
}

/// Notes why a mail did not get through, and when to try again; without that it is given up, and what it says is wiped.
///
/// # Errors
/// Those of the database.
pub async fn update_failed(tx: &mut Tx, id: &str, error: &str, next_at: Option<i64>) -> Result<()> {
    execute!(
        tx,
        "UPDATE mails SET last_error = $2, next_at = $3, sealed = CASE WHEN $4 THEN '' ELSE sealed END WHERE id = $1",
        id,
        error,
        next_at.unwrap_or(i64::MAX),
        next_at.is_none(),
    )?;
    Ok(())
}

/// Takes the mails of one kind to an address out of the outbox, because a newer one takes their place.
///
/// # Errors
/// Those of the database.
pub async fn delete_older(tx: &mut Tx, recipient: &str, kind: &str) -> Result<()> {
    execute!(tx, "DELETE FROM mails WHERE recipient = $1 AND kind = $2", recipient, kind)?;
    Ok(())
}

/// Forgets the mails that were written before `before`, whatever became of them.
///
/// # Errors
/// Those of the database.
pub async fn purge(tx: &mut Tx, before: i64) -> Result<u64> {
    execute!(tx, "DELETE FROM mails WHERE created_at < $1", before)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::{Db, testing};

    async fn write(db: &Db, kind: &str, now: i64) -> String {
        let id = new_mail_id();
        let new = NewMail { id: &id, org_id: None, recipient: "ann@acme.example", kind, sealed: "5ea1ed" };
        let mut tx = db.begin().await.unwrap();
        create(&mut tx, &new, now).await.unwrap();
        tx.commit().await.unwrap();
        id
    }

    #[tokio::test]
    async fn a_mail_is_claimed_tried_again_and_gone_once_delivered() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let id = write(&db, "reset", 10).await;
        assert_eq!(count_due(&mut db.read().await.unwrap(), 9).await.unwrap(), 0);
        assert_eq!(count_due(&mut db.read().await.unwrap(), 10).await.unwrap(), 1);

        let mut tx = db.begin().await.unwrap();
        let mails = claim(&mut tx, 10, 100, 9).await.unwrap();
        assert_eq!((mails.len(), mails[0].attempts, mails[0].sealed.as_str()), (1, 1, "5ea1ed"));
        assert!(!format!("{:?}", mails[0]).contains("5ea1ed"));
        assert!(claim(&mut tx, 99, 200, 9).await.unwrap().is_empty());
        assert_eq!(claim(&mut tx, 100, 200, 9).await.unwrap()[0].attempts, 2);
        update_failed(&mut tx, &id, "no route", Some(150)).await.unwrap();
        let again = claim(&mut tx, 150, 200, 9).await.unwrap();
        assert_eq!((again[0].last_error.as_deref(), again[0].sealed.as_str()), (Some("no route"), "5ea1ed"));
        delete(&mut tx, &id).await.unwrap();
        assert!(claim(&mut tx, 999, 1000, 9).await.unwrap().is_empty());
        tx.commit().await.unwrap();

        let given_up = write(&db, "reset", 20).await;
        let mut tx = db.begin().await.unwrap();
        update_failed(&mut tx, &given_up, "no such user", None).await.unwrap();
        assert!(claim(&mut tx, 1 << 40, 1 << 41, 9).await.unwrap().is_empty());
        let all = query_all!(tx, Mail, "SELECT * FROM mails").unwrap();
        assert_eq!((all.len(), all[0].sealed.as_str()), (1, ""));
        assert_eq!(purge(&mut tx, 20).await.unwrap(), 0);
        assert_eq!(purge(&mut tx, 21).await.unwrap(), 1);
        tx.commit().await.unwrap();

        write(&db, "reset", 30).await;
        write(&db, "invitation", 30).await;
        let mut tx = db.begin().await.unwrap();
        delete_older(&mut tx, "ann@acme.example", "reset").await.unwrap();
        let left = claim(&mut tx, 30, 31, 9).await.unwrap();
        assert_eq!((left.len(), left[0].kind.as_str()), (1, "invitation"));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn many_who_claim_at_once_get_each_mail_once() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        for _ in 0..30 {
            write(&db, "invitation", 1).await;
        }
        let claims = (0..6).map(|_| {
            let db = db.clone();
            tokio::spawn(async move {
                let mut mine = Vec::new();
                for _ in 0..4 {
                    let mut tx = db.begin().await.unwrap();
                    mine.extend(claim(&mut tx, 5, 500, 10).await.unwrap().into_iter().map(|mail| mail.id));
                    tx.commit().await.unwrap();
                }
                mine
            })
        });
        let mut all = Vec::new();
        for claim in claims.collect::<Vec<_>>() {
            all.extend(claim.await.unwrap());
        }
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!((count, all.len()), (30, 30));
    }
}

//! A few counts that tell whether what works in the background keeps up.

use crate::db::Session;
use crate::error::Result;
use crate::{query_all, query_all_each, query_one, query_opt};

/// What is where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Organizations by status.
    pub orgs: Vec<(String, i64)>,
    /// What waits to be done.
    pub work: Work,
    /// Mails.
    pub mails: Mails,
    /// Bytes of the database.
    pub database_bytes: i64,
}

/// What waits to be done in the background.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Work {
    /// Uploads that were begun and have not ended.
    pub uploads: i64,
    /// Links between repositories and layers to be looked at.
    pub links_to_review: i64,
    /// Objects whose bytes wait to be taken away.
    pub objects_to_remove: i64,
    /// Deleted repositories whose rows wait to be taken away.
    pub repositories_to_remove: i64,
}

/// Mails in the outbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Mails {
    /// Those that are to be sent.
    pub waiting: i64,
    /// Those of them that were tried in vain.
    pub failing: i64,
    /// Those that were given up.
    pub given_up: i64,
    /// When the oldest that waits was written (unix seconds).
    pub oldest_at: Option<i64>,
}

/// Counts.
///
/// # Errors
/// Those of the database.
pub async fn counts(session: &mut Session) -> Result<Counts> {
    let orgs = query_all!(session, (String, i64), "SELECT status, COUNT(*) FROM orgs GROUP BY status ORDER BY status")?;
    let work = query_one!(
        session,
        Work,
        "SELECT (SELECT COUNT(*) FROM uploads) AS uploads,
                (SELECT COUNT(*) FROM gc_links) AS links_to_review,
                (SELECT COUNT(*) FROM gc_objects) AS objects_to_remove,
                (SELECT COUNT(*) FROM repositories WHERE name < '/') AS repositories_to_remove",
    )?;
    let mails = query_one!(
        session,
        Mails,
        "SELECT COUNT(CASE WHEN next_at < $1 THEN 1 END) AS waiting,
                COUNT(CASE WHEN next_at < $1 AND last_error IS NOT NULL THEN 1 END) AS failing,
                COUNT(CASE WHEN next_at = $1 THEN 1 END) AS given_up,
                MIN(CASE WHEN next_at < $1 THEN created_at END) AS oldest_at
         FROM mails",
        i64::MAX,
    )?;
    let sizes = query_all_each!(
        session,
        (i64,),
        "SELECT p.page_count * s.page_size FROM pragma_page_count() p, pragma_page_size() s",
        "SELECT pg_database_size(current_database())",
    )?;
    let database_bytes = sizes.first().map_or(0, |(bytes,)| *bytes);
    Ok(Counts { orgs, work, mails, database_bytes })
}

/// Why the mail that failed last did not get through, and the address that it was for: for whoever runs the mail server, who
/// is not to read the address.
///
/// # Errors
/// Those of the database.
pub async fn last_mail_error(session: &mut Session) -> Result<Option<(String, String)>> {
    query_opt!(
        session,
        (String, String),
        "SELECT last_error, recipient FROM mails WHERE last_error IS NOT NULL ORDER BY created_at DESC, id LIMIT 1",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::mails::{self, NewMail};
    use crate::orgs::{self, NewOrg};

    #[tokio::test]
    async fn organizations_are_counted_by_status() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        for slug in ["acme", "globex"] {
            orgs::create(&mut tx, &NewOrg { slug: &slug.parse().unwrap(), name: slug }, 1).await.unwrap();
        }
        let counts = counts(&mut tx).await.unwrap();
        assert!(counts.database_bytes > 10_000, "{counts:?}");
        assert_eq!((&counts.orgs[..], counts.work), (&[("active".into(), 2)][..], Work::default()));
    }

    #[tokio::test]
    async fn mails_are_told_apart_by_what_became_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        assert_eq!(last_mail_error(&mut tx).await.unwrap(), None);
        for (id, error, next_at) in
            [("a", None, None), ("b", Some("no route"), Some(99)), ("c", Some("no such user"), None)]
        {
            let new = NewMail { id, org_id: None, recipient: "ann@acme.example", kind: "reset", sealed: "s" };
            mails::create(&mut tx, &new, 10).await.unwrap();
            if let Some(error) = error {
                mails::update_failed(&mut tx, id, error, next_at).await.unwrap();
            }
        }
        let found = counts(&mut tx).await.unwrap().mails;
        assert_eq!(found, Mails { waiting: 2, failing: 1, given_up: 1, oldest_at: Some(10) });
        let last = last_mail_error(&mut tx).await.unwrap().unwrap();
        assert_eq!(last, ("no route".into(), "ann@acme.example".into()));
    }
}

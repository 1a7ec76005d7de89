//! A few counts that tell whether what works in the background keeps up.

use crate::db::Session;
use crate::error::Result;
use crate::{query_all, query_one};

/// What is where.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Organizations by status.
    pub orgs: Vec<(String, i64)>,
    /// Mails that wait to be sent.
    pub mails_waiting: i64,
    /// Objects whose bytes wait to be taken away.
    pub objects_to_remove: i64,
}

/// Counts.
///
/// # Errors
/// Those of the database.
pub async fn counts(session: &mut Session) -> Result<Counts> {
    let orgs = query_all!(session, (String, i64), "SELECT status, COUNT(*) FROM orgs GROUP BY status ORDER BY status")?;
    let (mails_waiting, objects_to_remove) =
        query_one!(session, (i64, i64), "SELECT (SELECT COUNT(*) FROM mails), (SELECT COUNT(*) FROM gc_objects)",)?;
    Ok(Counts { orgs, mails_waiting, objects_to_remove })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
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
        assert_eq!(counts, Counts { orgs: vec![("active".into(), 2)], ..Counts::default() });
    }
}

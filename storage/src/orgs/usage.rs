//! What organizations use. Counting walks over their rows; where these are many it is done in the background, and asked for as it
//! was counted last.

use crate::db::{Db, Session};
use crate::error::Result;
use crate::{execute, query_all, query_one, query_opt};

/// Whoever asks counts so many rows and no more: a page shows some fifty organizations.
const DEAR: i64 = 500;

/// How much of the platform an organization uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Usage {
    /// Members, active or not.
    pub users: i64,
    /// Repositories.
    pub repositories: i64,
    /// Bytes of blobs, each counted once however many repositories share it.
    pub bytes: i64,
}

/// What an organization uses: now, or where it is large, when it was last counted.
///
/// # Errors
/// Those of the database.
pub async fn usage(session: &mut Session, org_id: &str) -> Result<Usage> {
    let known = "SELECT users, repositories, bytes FROM org_usage WHERE org_id = $1";
    match query_opt!(session, Usage, known, org_id)? {
        Some(usage) => Ok(usage),
        None => Ok(count(session, org_id).await?.usage),
    }
}

#[derive(sqlx::FromRow)]
struct Counted {
    #[sqlx(flatten)]
    usage: Usage,
    blobs: i64,
}

async fn count(session: &mut Session, org_id: &str) -> Result<Counted> {
    query_one!(
        session,
        Counted,
        "SELECT (SELECT COUNT(*) FROM memberships WHERE org_id = $1) AS users,
                (SELECT COUNT(*) FROM repositories WHERE org_id = $1 AND name > '/') AS repositories,
                b.bytes, b.blobs
         FROM (SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) AS bytes, COUNT(*) AS blobs
               FROM blobs WHERE org_id = $1) AS b",
        org_id,
    )
}

/// Counts what organizations use, and keeps it where many rows were counted. No lock is held while it counts.
///
/// # Errors
/// Those of the database.
pub async fn count_usage(db: &Db, now: i64) -> Result<()> {
    count_dear(db, now, DEAR).await
}

async fn count_dear(db: &Db, now: i64, dear: i64) -> Result<()> {
    let mut after = String::new();
    loop {
        let mut session = db.read().await?;
        let ids = "SELECT id FROM orgs WHERE status <> 'deleted' AND id > $1 ORDER BY id LIMIT 100";
        let ids = query_all!(session, (String,), ids, after.as_str())?;
        drop(session);
        let Some((last,)) = ids.last() else { return Ok(()) };
        after.clone_from(last);
        for (id,) in &ids {
            count_one(db, id, now, dear).await?;
        }
    }
}

async fn count_one(db: &Db, id: &str, now: i64, dear: i64) -> Result<()> {
    let mut session = db.read().await?;
    let Counted { usage, blobs } = count(&mut session, id).await?;
    let keep = usage.users + usage.repositories + blobs >= dear;
    let kept = query_opt!(session, (i64,), "SELECT users FROM org_usage WHERE org_id = $1", id)?.is_some();
    drop(session);
    if keep || kept {
        let mut tx = db.begin().await?;
        execute!(tx, "DELETE FROM org_usage WHERE org_id = $1", id)?;
        if keep {
            execute!(
                tx,
                "INSERT INTO org_usage (org_id, users, repositories, bytes, counted_at) VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (org_id) DO NOTHING",
                id,
                usage.users,
                usage.repositories,
                usage.bytes,
                now,
            )?;
        }
        tx.commit().await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::orgs::{NewOrg, create};

    #[tokio::test]
    async fn what_is_dear_to_count_is_kept_and_what_is_not_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        tx.commit().await.unwrap();
        count_dear(&db, 5, 0).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        assert_eq!(usage(&mut tx, &org.id).await.unwrap(), Usage::default());
        let counted = "INSERT INTO blobs (org_id, digest, size, object_key, created_at) VALUES ($1, 'd', 7, 'o', 1)";
        execute!(tx, counted, org.id.as_str()).unwrap();
        tx.commit().await.unwrap();
        let asked = async |db: &Db| usage(&mut db.read().await.unwrap(), &org.id).await.unwrap().bytes;
        assert_eq!(asked(&db).await, 0, "as it was counted");
        count_dear(&db, 6, 0).await.unwrap();
        assert_eq!(asked(&db).await, 7);
        count_dear(&db, 7, i64::MAX).await.unwrap();
        let mut tx = db.begin().await.unwrap();
        execute!(tx, "UPDATE blobs SET size = 8").unwrap();
        tx.commit().await.unwrap();
        assert_eq!(asked(&db).await, 8, "what is cheap is never old");
    }
}

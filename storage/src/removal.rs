//! Taking away what was deleted: repositories, projects, whole organizations.
//!
//! ```text
//! bury ─→ out of sight, its name free again ─→ rows go, a few in each transaction ─→ blobs doomed ─→ gc takes the bytes
//! ```
//!
//! Deleting a repository or project gives it a name that nobody can ask for ([`BURIED`] and its id): one small transaction,
//! felt at once. What it holds goes later, by [`Remover::run`], in small transactions that can stop and go on anywhere. An
//! organization goes the same way once its time is over; its slug stays taken for ever, so that what old clients still pull
//! is never somebody else's.

use serde::Serialize;

use crate::clock::Clock;
use crate::db::{Db, Session, Tx};
use crate::error::Result;
use crate::manifests::set_of;
use crate::{blobs, execute, execute_each, orgs, query_all, query_all_each, query_opt};

/// First character of a buried name: none that can be asked for begins with it.
pub const BURIED: &str = "!";
/// Before every name that can be asked for, and behind every buried one.
pub(crate) const FIRST: &str = "/";

/// Rows that one transaction takes on.
const BATCH: i64 = 200;
/// References of manifests that one transaction takes away: they are small, and an index may have thousands.
const REFERENCES: i64 = 2000;
/// Manifests, whose bytes are in their rows.
const MANIFESTS: i64 = 20;

/// What a pass took away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Repositories.
    pub repositories: u64,
    /// Projects.
    pub projects: u64,
    /// Memberships.
    pub members: u64,
    /// People and machines that belonged nowhere else.
    pub users: u64,
    /// Organizations, down to their slug.
    pub orgs: u64,
}

impl Removed {
    /// True where there was nothing to do.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        *self == Self::default()
    }
}

/// Buries a repository. True where it was there.
///
/// # Errors
/// Those of the database.
pub async fn bury_repository(tx: &mut Tx, id: &str) -> Result<bool> {
    tx.changes_everything();
    let buried = execute!(tx, "UPDATE repositories SET name = '!' || id WHERE id = $1 AND name > $2", id, FIRST,)?;
    Ok(buried > 0)
}

/// Buries a project with its repositories; its bindings end, and access tokens that were had with them are judged again.
/// Uploads to it are given up. Returns how many repositories went with it; `None` where it was not there. The caller makes the
/// process forget everybody's rights.
///
/// # Errors
/// Those of the database.
pub async fn bury_project(tx: &mut Tx, id: &str) -> Result<Option<u64>> {
    judge_holders_again(tx, id).await?;
    tx.changes_everything();
    let buried = execute!(
        tx,
        "UPDATE projects SET slug = '!' || id, version = version + 1 WHERE id = $1 AND slug > $2",
        id,
        FIRST,
    )?;
    if buried == 0 {
        return Ok(None);
    }
    execute!(tx, "DELETE FROM bindings WHERE project_id = $1", id)?;
    let repositories =
        execute!(tx, "UPDATE repositories SET name = '!' || id WHERE project_id = $1 AND name > $2", id, FIRST)?;
    execute!(tx, "UPDATE uploads SET expires_at = 0 WHERE project_id = $1", id)?;
    Ok(Some(repositories))
}

/// Lets every access token of those who hold a role on a project be judged again. Comes before anything else in a
/// transaction: users are what everybody locks first.
///
/// # Errors
/// Those of the database.
pub async fn judge_holders_again(tx: &mut Tx, project_id: &str) -> Result<()> {
    // PostgreSQL locks in the order of ids, so that two who touch the same users cannot wait for each other.
    execute_each!(
        tx,
        "UPDATE users SET grants_epoch = grants_epoch + 1 WHERE id IN (
             SELECT user_id FROM bindings WHERE project_id = $1 AND user_id IS NOT NULL
             UNION SELECT g.user_id FROM bindings b JOIN group_members g ON g.group_id = b.group_id
             WHERE b.project_id = $1)",
        "UPDATE users SET grants_epoch = grants_epoch + 1 WHERE id IN (
             SELECT id FROM users WHERE id IN (
                 SELECT user_id FROM bindings WHERE project_id = $1 AND user_id IS NOT NULL
                 UNION SELECT g.user_id FROM bindings b JOIN group_members g ON g.group_id = b.group_id
                 WHERE b.project_id = $1) ORDER BY id FOR UPDATE)",
        project_id,
    )?;
    Ok(())
}

/// Lets every access token of an organization's members be judged again. The caller makes the process forget their rights.
///
/// # Errors
/// Those of the database.
pub async fn judge_members_again(tx: &mut Tx, org_id: &str) -> Result<()> {
    // As in [`judge_holders_again`].
    execute_each!(
        tx,
        "UPDATE users SET grants_epoch = grants_epoch + 1 WHERE id IN (SELECT user_id FROM memberships WHERE org_id = $1)",
        "UPDATE users SET grants_epoch = grants_epoch + 1 WHERE id IN (
             SELECT id FROM users WHERE id IN (SELECT user_id FROM memberships WHERE org_id = $1) ORDER BY id FOR UPDATE)",
        org_id,
    )?;
    Ok(())
}

/// What takes away, a little at a time; cheap to clone. Several processes may do so at once.
#[derive(Debug, Clone)]
pub struct Remover {
    db: Db,
    clock: Clock,
}

impl Remover {
    /// A remover over a database.
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// Takes away what is buried, and what is left of organizations that are [`orgs::REMOVING`], as far as garbage
    /// collection lets it: bytes go first, then what they belonged to.
    ///
    /// # Errors
    /// Those of the database. What was done stays done.
    pub async fn run(&self) -> Result<Removed> {
        let mut removed = Removed::default();
        self.bury_late_comers().await?;
        while self.empty_repositories(&mut removed).await? {}
        self.drop_projects(&mut removed).await?;
        for (org_id,) in self.removing().await? {
            self.remove_org(&org_id, &mut removed).await?;
        }
        Ok(removed)
    }

    /// Repositories that an earlier version let an upload make in a project that was being buried, and the sessions whose first
    /// bytes came just then: whoever has one could keep the project from going.
    async fn bury_late_comers(&self) -> Result<()> {
        let mut tx = self.db.begin().await?;
        tx.changes_everything();
        execute!(
            tx,
            "UPDATE repositories SET name = '!' || id WHERE name > $1
             AND project_id IN (SELECT id FROM projects WHERE slug < $1)",
            FIRST,
        )?;
        execute!(
            tx,
            "UPDATE uploads SET expires_at = 0
             WHERE expires_at > 0 AND project_id IN (SELECT id FROM projects WHERE slug < $1)",
            FIRST,
        )?;
        tx.commit().await
    }

    async fn removing(&self) -> Result<Vec<(String,)>> {
        let mut session = self.db.read().await?;
        query_all!(session, (String,), "SELECT id FROM orgs WHERE status = $1 ORDER BY id LIMIT 100", orgs::REMOVING)
    }

    /// One transaction on each of some buried repositories. False where there are none.
    async fn empty_repositories(&self, removed: &mut Removed) -> Result<bool> {
        let mut session = self.db.read().await?;
        let buried = query_all!(
            session,
            (String,),
            "SELECT id FROM repositories WHERE name < $1 ORDER BY name LIMIT 20",
            FIRST,
        )?;
        drop(session);
        for (id,) in &buried {
            let mut tx = self.db.begin().await?;
            removed.repositories += u64::from(empty_repository(&mut tx, id, self.clock.now()).await?);
            tx.commit().await?;
        }
        Ok(!buried.is_empty())
    }

    async fn drop_projects(&self, removed: &mut Removed) -> Result<()> {
        let mut tx = self.db.begin().await?;
        let gone = query_all!(
            tx,
            (String,),
            "DELETE FROM projects WHERE id IN (SELECT id FROM projects p WHERE p.slug < $1
                 AND NOT EXISTS (SELECT 1 FROM repositories r WHERE r.project_id = p.id)
                 AND NOT EXISTS (SELECT 1 FROM uploads u WHERE u.project_id = p.id)
                 AND NOT EXISTS (SELECT 1 FROM bindings b WHERE b.project_id = p.id)
                 ORDER BY slug LIMIT $2) RETURNING id",
            FIRST,
            BATCH,
        )?;
        for (id,) in &gone {
            execute!(tx, "DELETE FROM project_days WHERE project_id = $1", id.as_str())?;
            removed.projects += 1;
        }
        tx.commit().await
    }

    /// Everything of an organization that can go now.
    async fn remove_org(&self, org_id: &str, removed: &mut Removed) -> Result<()> {
        while self.bury_some(org_id).await? {}
        while self.empty_repositories(removed).await? {}
        for sql in [
            "UPDATE uploads SET expires_at = 0 WHERE org_id = $1 AND expires_at > 0",
            // Nobody comes back for them: they need no time of grace.
            "UPDATE blobs SET doomed_at = 0 WHERE org_id = $1 AND doomed_at > 0
             AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = blobs.org_id AND l.digest = blobs.digest)",
        ] {
            let mut tx = self.db.begin().await?;
            execute!(tx, sql, org_id)?;
            tx.commit().await?;
        }
        for sql in SMALL_TABLES {
            self.repeat(sql, org_id).await?;
        }
        while self.drop_members(org_id, removed).await? {}
        for sql in [
            "DELETE FROM custom_roles WHERE id IN (SELECT id FROM custom_roles WHERE org_id = $1 LIMIT $2)",
            "DELETE FROM groups WHERE id IN (SELECT id FROM groups WHERE org_id = $1 LIMIT $2)",
            "DELETE FROM org_days WHERE org_id = $1
             AND day IN (SELECT day FROM org_days WHERE org_id = $1 ORDER BY day LIMIT $2)",
            "DELETE FROM audit_bundles WHERE org_id = $1
             AND last_seq IN (SELECT last_seq FROM audit_bundles WHERE org_id = $1 ORDER BY last_seq LIMIT $2)",
            "DELETE FROM audit_terms WHERE org_id = $1
             AND (term, last_seq) IN
                 (SELECT term, last_seq FROM audit_terms WHERE org_id = $1 ORDER BY term, last_seq LIMIT $2)",
            "DELETE FROM audit_spans WHERE org_id = $1
             AND span IN (SELECT span FROM audit_spans WHERE org_id = $1 ORDER BY span LIMIT $2)",
        ] {
            self.repeat(sql, org_id).await?;
        }
        self.drop_projects(removed).await?;
        removed.orgs += u64::from(self.finish(org_id).await?);
        Ok(())
    }

    /// Runs a statement that touches `$2` rows of an organization at most, until it touches none.
    async fn repeat(&self, sql: &'static str, org_id: &str) -> Result<()> {
        loop {
            let mut tx = self.db.begin().await?;
            let touched = execute!(tx, sql, org_id, BATCH)?;
            tx.commit().await?;
            if touched == 0 {
                return Ok(());
            }
        }
    }

    async fn bury_some(&self, org_id: &str) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        let some = query_all!(
            tx,
            (String,),
            "SELECT id FROM projects WHERE org_id = $1 AND slug > $2 ORDER BY slug LIMIT 20",
            org_id,
            FIRST,
        )?;
        for (id,) in &some {
            bury_project(&mut tx, id).await?;
        }
        tx.commit().await?;
        Ok(!some.is_empty())
    }

    async fn drop_members(&self, org_id: &str, removed: &mut Removed) -> Result<bool> {
        let mut session = self.db.read().await?;
        let some = query_all!(
            session,
            (String,),
            "SELECT user_id FROM memberships WHERE org_id = $1 ORDER BY user_id LIMIT $2",
            org_id,
            BATCH,
        )?;
        drop(session);
        for (user_id,) in &some {
            let mut tx = self.db.begin().await?;
            let membership = "DELETE FROM memberships WHERE org_id = $1 AND user_id = $2";
            removed.members += execute!(tx, membership, org_id, user_id.as_str())?;
            removed.users += u64::from(drop_user(&mut tx, user_id).await?);
            tx.commit().await?;
        }
        Ok(!some.is_empty())
    }

    /// Leaves of an organization what keeps its slug taken, once nothing else is left. True where it was done.
    async fn finish(&self, org_id: &str) -> Result<bool> {
        let mut tx = self.db.begin().await?;
        for table in [
            "SELECT CAST(1 AS BIGINT) FROM blobs WHERE org_id = $1 LIMIT 1",
            "SELECT CAST(1 AS BIGINT) FROM uploads WHERE org_id = $1 LIMIT 1",
            "SELECT CAST(1 AS BIGINT) FROM projects WHERE org_id = $1 LIMIT 1",
            "SELECT CAST(1 AS BIGINT) FROM memberships WHERE org_id = $1 LIMIT 1",
        ] {
            if query_opt!(tx, (i64,), table, org_id)?.is_some() {
                return Ok(false);
            }
        }
        execute!(tx, "DELETE FROM audit_spans WHERE org_id = $1", org_id)?;
        execute!(tx, "DELETE FROM audit_heads WHERE org_id = $1", org_id)?;
        execute!(tx, "DELETE FROM org_usage WHERE org_id = $1", org_id)?;
        let done = execute!(
            tx,
            "UPDATE orgs SET status = $2, name = '', version = version + 1 WHERE id = $1 AND status = $3",
            org_id,
            orgs::DELETED,
            orgs::REMOVING,
        )?;
        tx.commit().await?;
        Ok(done > 0)
    }
}

/// Rows of an organization that nothing else refers to, each taken away `$2` at a time.
const SMALL_TABLES: [&str; 6] = [
    "DELETE FROM bindings WHERE id IN (SELECT id FROM bindings WHERE org_id = $1 LIMIT $2)",
    "DELETE FROM api_keys WHERE id IN (SELECT id FROM api_keys WHERE org_id = $1 LIMIT $2)",
    "DELETE FROM trusted_issuers WHERE id IN (SELECT id FROM trusted_issuers WHERE org_id = $1 LIMIT $2)",
    "DELETE FROM mails WHERE id IN (SELECT id FROM mails WHERE org_id = $1 LIMIT $2)",
    "DELETE FROM device_grants WHERE device_hash IN (SELECT device_hash FROM device_grants WHERE org_id = $1 LIMIT $2)",
    "DELETE FROM group_members WHERE org_id = $1
     AND user_id IN (SELECT user_id FROM group_members WHERE org_id = $1 ORDER BY user_id LIMIT $2)",
];

/// Some of what a buried repository holds; at the end, itself. True where it is gone.
async fn empty_repository(tx: &mut Tx, id: &str, now: i64) -> Result<bool> {
    // By themselves, as one transaction would otherwise take the references of many indexes at once.
    let references = execute!(
        tx,
        "DELETE FROM manifest_references WHERE repository_id = $1 AND (manifest, target) IN
             (SELECT manifest, target FROM manifest_references WHERE repository_id = $1 ORDER BY manifest, target LIMIT $2)",
        id,
        REFERENCES,
    )?;
    if references > 0 {
        return Ok(false);
    }
    // Tags go with their manifests: ON DELETE CASCADE.
    let manifests = execute!(
        tx,
        "DELETE FROM manifests WHERE repository_id = $1
         AND digest IN (SELECT digest FROM manifests WHERE repository_id = $1 ORDER BY digest LIMIT $2)",
        id,
        MANIFESTS,
    )?;
    if manifests > 0 {
        return Ok(false);
    }
    if unlink_some(tx, id, now).await? {
        return Ok(false);
    }
    let pulls = execute!(
        tx,
        "DELETE FROM last_pulls WHERE repository_id = $1
         AND digest IN (SELECT digest FROM last_pulls WHERE repository_id = $1 ORDER BY digest LIMIT $2)",
        id,
        BATCH,
    )?;
    if pulls > 0 {
        return Ok(false);
    }
    execute!(tx, "DELETE FROM repository_days WHERE repository_id = $1", id)?;
    execute!(tx, "DELETE FROM gc_links WHERE repository_id = $1", id)?;
    // Another process may be at it too, and have taken just what was looked for here: then there is more to come.
    let gone = execute!(
        tx,
        "DELETE FROM repositories WHERE id = $1
         AND NOT EXISTS (SELECT 1 FROM manifests m WHERE m.repository_id = $1)
         AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.repository_id = $1)
         AND NOT EXISTS (SELECT 1 FROM last_pulls p WHERE p.repository_id = $1)",
        id,
    )?;
    Ok(gone > 0)
}

/// Takes some of a buried repository's links away, and dooms the blobs that were linked nowhere else. False where there are none.
async fn unlink_some(tx: &mut Tx, id: &str, now: i64) -> Result<bool> {
    // The blobs first, in order, as whoever touches a link does ([`blobs::lock_for_unlink`]): of two that take a blob's last
    // links away the second must see what the first did.
    macro_rules! linked {
        ($lock:literal) => {
            concat!(
                "SELECT b.org_id, b.digest FROM blob_links l JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
                 WHERE l.repository_id = $1 ORDER BY l.digest LIMIT $2",
                $lock
            )
        };
    }
    let linked = query_all_each!(tx, (String, String), linked!(""), linked!(" FOR UPDATE OF b"), id, BATCH)?;
    execute_each!(
        tx,
        "DELETE FROM blob_links WHERE repository_id = $1 AND digest IN (SELECT value FROM json_each($2))",
        "DELETE FROM blob_links WHERE repository_id = $1
         AND digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))",
        id,
        set_of(linked.iter().map(|(_, digest)| digest)),
    )?;
    for (org_id, digest) in &linked {
        blobs::doom_if_unlinked(tx, org_id, digest, now).await?;
    }
    Ok(!linked.is_empty())
}

/// Takes a user away who belongs to no organization any more and does not run the platform. True where they were.
async fn drop_user(tx: &mut Tx, id: &str) -> Result<bool> {
    if !belongs_nowhere(tx, id).await? {
        return Ok(false);
    }
    for sql in [
        "DELETE FROM sessions WHERE user_id = $1",
        "DELETE FROM refresh_tokens WHERE user_id = $1",
        "DELETE FROM recovery_codes WHERE user_id = $1",
        "DELETE FROM passkeys WHERE user_id = $1",
        "DELETE FROM challenges WHERE user_id = $1",
        "DELETE FROM device_grants WHERE user_id = $1",
    ] {
        execute!(tx, sql, id)?;
    }
    Ok(execute!(tx, "DELETE FROM users WHERE id = $1", id)? > 0)
}

async fn belongs_nowhere(session: &mut Session, id: &str) -> Result<bool> {
    let found = query_opt!(
        session,
        (i64,),
        "SELECT CAST(1 AS BIGINT) FROM users u WHERE u.id = $1 AND u.operator = FALSE
         AND NOT EXISTS (SELECT 1 FROM memberships m WHERE m.user_id = u.id)",
        id,
    )?;
    Ok(found.is_some())
}

#[cfg(test)]
mod tests;

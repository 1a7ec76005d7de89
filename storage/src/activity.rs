//! What happened day by day: pulls of repositories, projects and organizations, and the bytes that they hold.
//!
//! Pulls are counted with the batches that journal them ([`count_pulls`]), bytes are measured in the background
//! ([`Measurer`]). Reading looks at a bounded number of rows, however many repositories there are.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use crate::clock::Clock;
use crate::db::{Db, Session, Tx};
use crate::error::Result;
use crate::pulls::Pull;
use crate::{execute, execute_each, orgs, query_all, query_one};

/// Seconds of a day.
const DAY: i64 = 86_400;
/// Days whose counts are kept.
const KEPT: i64 = 400;
/// An organization is not measured again within so many seconds, nor within a hundred times what measuring it took.
const REST: i64 = 60;

/// The day that a time lies in (both since 1970-01-01, in UTC).
#[must_use]
pub fn day_of(unix: i64) -> i64 {
    unix.div_euclid(DAY)
}

/// A day of an organization or a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx::FromRow)]
pub struct Day {
    /// Which.
    pub day: i64,
    /// Manifests that went out.
    pub pulls: i64,
    /// Bytes of blobs as they were last measured on that day.
    pub bytes: Option<i64>,
}

/// A day of a repository.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct RepositoryDay {
    /// Canonical name of the repository.
    pub name: String,
    /// Id of its project.
    pub project_id: String,
    /// Which day.
    pub day: i64,
    /// Manifests that went out.
    pub pulls: i64,
}

/// A repository and how often it was pulled.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Pulled {
    /// Its canonical name.
    pub name: String,
    /// Manifests that went out.
    pub pulls: i64,
}

#[derive(Serialize)]
struct Row<'a> {
    repository: &'a str,
    day: i64,
    pulls: u64,
}

macro_rules! count_into {
    ($rows:literal, $table:literal, $columns:literal, $what:literal, $key:literal) => {
        concat!(
            "INSERT INTO ",
            $table,
            " (",
            $columns,
            ", pulls) SELECT ",
            $what,
            ", CAST(SUM(x.pulls) AS BIGINT) FROM ",
            $rows,
            " JOIN repositories r ON r.name = x.repository WHERE TRUE GROUP BY ",
            $what,
            " ORDER BY 1, 2 ON CONFLICT (",
            $key,
            ") DO UPDATE SET pulls = ",
            $table,
            ".pulls + excluded.pulls"
        )
    };
}

macro_rules! count_each {
    ($tx:expr, $json:expr, $table:literal, $columns:literal, $what:literal, $key:literal) => {
        execute_each!(
            $tx,
            count_into!(
                "(SELECT value ->> 'repository' AS repository, CAST(value ->> 'day' AS BIGINT) AS day,
                         CAST(value ->> 'pulls' AS BIGINT) AS pulls FROM json_each($1)) x",
                $table,
                $columns,
                $what,
                $key
            ),
            count_into!(
                "jsonb_to_recordset(CAST($1 AS JSONB)) AS x(repository TEXT, day BIGINT, pulls BIGINT)",
                $table,
                $columns,
                $what,
                $key
            ),
            $json
        )
    };
}

/// Counts pulls. Those of repositories that are gone are passed over.
///
/// # Errors
/// Those of the database.
pub async fn count_pulls(tx: &mut Tx, pulls: &[Pull<'_>]) -> Result<()> {
    let mut counts: BTreeMap<(&str, i64), u64> = BTreeMap::new();
    for pull in pulls {
        *counts.entry((pull.repository, day_of(pull.at))).or_default() += pull.count;
    }
    if counts.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row<'_>> =
        counts.into_iter().map(|((repository, day), pulls)| Row { repository, day, pulls }).collect();
    let json = serde_json::to_string(&rows).unwrap_or_default();
    // In one order everywhere, so that no two processes wait for each other.
    count_each!(
        tx,
        json.as_str(),
        "repository_days",
        "repository_id, day, org_id, project_id",
        "r.id, x.day, r.org_id, r.project_id",
        "repository_id, day"
    )?;
    count_each!(
        tx,
        json.as_str(),
        "project_days",
        "project_id, day, org_id",
        "r.project_id, x.day, r.org_id",
        "project_id, day"
    )?;
    count_each!(tx, json.as_str(), "org_days", "org_id, day", "r.org_id, x.day", "org_id, day")?;
    Ok(())
}

/// The days of an organization from `since` on, oldest first. Days on which nothing happened are missing.
///
/// # Errors
/// Those of the database.
pub async fn days_of_org(session: &mut Session, org_id: &str, since: i64) -> Result<Vec<Day>> {
    query_all!(
        session,
        Day,
        "SELECT day, pulls, bytes FROM org_days WHERE org_id = $1 AND day >= $2 ORDER BY day LIMIT 400",
        org_id,
        since,
    )
}

/// As [`days_of_org`], of a project.
///
/// # Errors
/// Those of the database.
pub async fn days_of_project(session: &mut Session, project_id: &str, since: i64) -> Result<Vec<Day>> {
    query_all!(
        session,
        Day,
        "SELECT day, pulls, bytes FROM project_days WHERE project_id = $1 AND day >= $2 ORDER BY day LIMIT 400",
        project_id,
        since,
    )
}

/// The projects of an organization that hold most, by slug, with their bytes on the day they were last measured on.
///
/// # Errors
/// Those of the database.
pub async fn largest_projects(session: &mut Session, org_id: &str, limit: i64) -> Result<Vec<(String, i64)>> {
    query_all!(
        session,
        (String, i64),
        "SELECT p.slug, d.bytes FROM project_days d JOIN projects p ON p.id = d.project_id
         WHERE d.org_id = $1 AND d.bytes IS NOT NULL AND p.slug > '/'
         AND d.day = (SELECT MAX(o.day) FROM org_days o WHERE o.org_id = $1 AND o.bytes IS NOT NULL)
         ORDER BY d.bytes DESC, p.slug LIMIT $2",
        org_id,
        limit,
    )
}

macro_rules! top_of_day {
    ($ahead:literal) => {
        concat!(
            "SELECT repository_id FROM (SELECT repository_id FROM repository_days WHERE org_id = $1 AND day = $2 + ",
            $ahead,
            " ORDER BY pulls DESC LIMIT 20) AS t",
            $ahead
        )
    };
}

/// The repositories of an organization that were pulled most in the seven days from `since` on: among the twenty first of any
/// of those days, so that it does not matter how many others there are.
///
/// # Errors
/// Those of the database.
pub async fn most_pulled(session: &mut Session, org_id: &str, since: i64, limit: i64) -> Result<Vec<Pulled>> {
    query_all!(
        session,
        Pulled,
        concat!(
            "SELECT r.name, CAST(SUM(d.pulls) AS BIGINT) AS pulls FROM repository_days d
             JOIN repositories r ON r.id = d.repository_id
             WHERE d.day >= $2 AND r.name > '/' AND d.repository_id IN (",
            top_of_day!("0"),
            " UNION ",
            top_of_day!("1"),
            " UNION ",
            top_of_day!("2"),
            " UNION ",
            top_of_day!("3"),
            " UNION ",
            top_of_day!("4"),
            " UNION ",
            top_of_day!("5"),
            " UNION ",
            top_of_day!("6"),
            ") GROUP BY r.name ORDER BY pulls DESC, r.name LIMIT $3"
        ),
        org_id,
        since,
        limit,
    )
}

/// Days of repositories, of one project or of the whole organization, from `since` on: the newest `look` of them.
///
/// # Errors
/// Those of the database.
pub async fn repository_days(
    session: &mut Session,
    org_id: &str,
    project_id: Option<&str>,
    since: i64,
    look: i64,
) -> Result<Vec<RepositoryDay>> {
    match project_id {
        Some(project_id) => query_all!(
            session,
            RepositoryDay,
            "SELECT r.name, d.project_id, d.day, d.pulls FROM repository_days d
             JOIN repositories r ON r.id = d.repository_id
             WHERE d.project_id = $1 AND d.day >= $2 AND r.name > '/' ORDER BY d.day DESC LIMIT $3",
            project_id,
            since,
            look,
        ),
        None => query_all!(
            session,
            RepositoryDay,
            "SELECT r.name, d.project_id, d.day, d.pulls FROM repository_days d
             JOIN repositories r ON r.id = d.repository_id
             WHERE d.org_id = $1 AND d.day >= $2 AND r.name > '/' ORDER BY d.day DESC LIMIT $3",
            org_id,
            since,
            look,
        ),
    }
}

/// Measures in the background what organizations and their projects hold.
#[derive(Debug)]
pub struct Measurer {
    db: Db,
    clock: Clock,
    /// When each may be measured again.
    due: tokio::sync::Mutex<HashMap<String, i64>>,
}

impl Measurer {
    /// One over a database.
    #[must_use]
    pub fn new(db: Db, clock: Clock) -> Self {
        Self { db, clock, due: tokio::sync::Mutex::default() }
    }

    /// Measures every organization whose turn it is, and forgets days that are too old.
    ///
    /// # Errors
    /// Those of the database; what was measured stays.
    pub async fn run(&self) -> Result<()> {
        let mut due = self.due.lock().await;
        let mut after = String::new();
        loop {
            let page = orgs::list(&mut self.db.read().await?, &after, 100).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after.clone_from(&last.slug);
            for org in &page {
                if due.get(&org.id).is_some_and(|at| *at > self.clock.now()) {
                    continue;
                }
                let begun = std::time::Instant::now();
                self.measure(&org.id).await?;
                let took = i64::try_from(begun.elapsed().as_millis() / 10).unwrap_or(i64::MAX);
                due.insert(org.id.clone(), self.clock.now().saturating_add(took.max(REST)));
            }
        }
    }

    async fn measure(&self, org_id: &str) -> Result<()> {
        let today = day_of(self.clock.now());
        let mut session = self.db.read().await?;
        let (bytes,) = query_one!(
            session,
            (i64,),
            "SELECT CAST(COALESCE(SUM(size), 0) AS BIGINT) FROM blobs WHERE org_id = $1",
            org_id,
        )?;
        // However many repositories of a project share a blob, it is there once.
        let projects = query_all!(
            session,
            (String, i64),
            "SELECT x.project_id, CAST(SUM(b.size) AS BIGINT) FROM (
                 SELECT DISTINCT r.project_id, l.digest FROM blob_links l JOIN repositories r ON r.id = l.repository_id
                 WHERE l.org_id = $1) AS x
             JOIN blobs b ON b.org_id = $1 AND b.digest = x.digest GROUP BY x.project_id ORDER BY x.project_id",
            org_id,
        )?;
        drop(session);
        let mut tx = self.db.begin().await?;
        // Whoever holds nothing any more is measured as such.
        execute!(tx, "UPDATE project_days SET bytes = 0 WHERE org_id = $1 AND day = $2", org_id, today)?;
        for (project_id, bytes) in &projects {
            execute!(
                tx,
                "INSERT INTO project_days (project_id, day, org_id, pulls, bytes) VALUES ($1, $2, $3, 0, $4)
                 ON CONFLICT (project_id, day) DO UPDATE SET bytes = excluded.bytes",
                project_id.as_str(),
                today,
                org_id,
                *bytes,
            )?;
        }
        execute!(
            tx,
            "INSERT INTO org_days (org_id, day, pulls, bytes) VALUES ($1, $2, 0, $3)
             ON CONFLICT (org_id, day) DO UPDATE SET bytes = excluded.bytes",
            org_id,
            today,
            bytes,
        )?;
        for sql in [
            "DELETE FROM repository_days WHERE org_id = $1 AND day < $2",
            "DELETE FROM project_days WHERE org_id = $1 AND day < $2",
            "DELETE FROM org_days WHERE org_id = $1 AND day < $2",
        ] {
            execute!(tx, sql, org_id, today - KEPT)?;
        }
        tx.commit().await
    }
}

#[cfg(test)]
mod tests;

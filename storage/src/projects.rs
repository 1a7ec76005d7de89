//! Projects: folders of work in an organization, second path component of its repositories.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::names::{Slug, new_id};
use crate::removal::FIRST;
use crate::{execute, query_all, query_one, query_opt, query_opt_each};

/// A project.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Project {
    /// Opaque id.
    pub id: String,
    /// The organization it lies in.
    pub org_id: String,
    /// Second path component of its repositories; unique in the organization.
    pub slug: String,
    /// Whether anybody may pull from it without logging in.
    pub public: bool,
    /// Whether image manifests are taken although layers of theirs are not here, as a partial mirror needs it.
    pub sparse: bool,
    /// When it was created (unix seconds).
    pub created_at: i64,
    /// What it is for, in its people's words.
    pub description: String,
    /// Moves with every change.
    pub version: i64,
}

/// What a new project needs.
#[derive(Debug, Clone)]
pub struct NewProject<'a> {
    /// The organization it lies in.
    pub org_id: &'a str,
    /// Second path component of its repositories.
    pub slug: &'a Slug,
    /// Its switches.
    pub settings: ProjectSettings,
    /// What it is for.
    pub description: &'a str,
}

/// The switches of a project, all off by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProjectSettings {
    /// Whether anybody may pull from it without logging in.
    pub public: bool,
    /// Whether image manifests are taken although layers of theirs are not here.
    pub sparse: bool,
}

/// What of a project can change; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateProject {
    /// Whether anybody may pull from it without logging in.
    pub public: Option<bool>,
    /// Whether image manifests are taken although layers of theirs are not here.
    pub sparse: Option<bool>,
    /// What it is for.
    pub description: Option<String>,
    /// The version that the change was made for, if that matters.
    pub expected: Option<i64>,
}

/// Finds a project of an organization by its slug.
///
/// # Errors
/// Those of the database.
pub async fn find_by_slug(session: &mut Session, org_id: &str, slug: &str) -> Result<Option<Project>> {
    // A buried project goes by no name.
    query_opt!(
        session,
        Project,
        "SELECT * FROM projects WHERE org_id = $1 AND slug = $2 AND slug > $3",
        org_id,
        slug,
        FIRST,
    )
}

/// Where a push goes: an organization and a project of it.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Place {
    /// Id of the organization.
    pub org_id: String,
    /// Id of the project.
    pub project_id: String,
    /// Whether the project takes manifests whose layers are not here.
    pub sparse: bool,
}

/// A place with the rows that it was read from.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct FoundPlace {
    /// The place.
    #[sqlx(flatten)]
    pub(crate) place: Place,
    /// The organization's row, on `SQLite`.
    pub(crate) org_row: i64,
    /// The project's.
    pub(crate) project_row: i64,
}

/// Finds an organization and a project of it by their slugs, in one query.
///
/// # Errors
/// Those of the database.
pub(crate) async fn find_place(session: &mut Session, org: &str, project: &str) -> Result<Option<FoundPlace>> {
    macro_rules! find {
        ($rows:literal) => {
            concat!(
                "SELECT o.id AS org_id, p.id AS project_id, p.sparse, ",
                $rows,
                " FROM orgs o JOIN projects p ON p.org_id = o.id AND p.slug = $2 AND p.slug > $3
                 WHERE o.slug = $1 AND o.status <> 'deleted'"
            )
        };
    }
    query_opt_each!(
        session,
        FoundPlace,
        find!("o.rowid AS org_row, p.rowid AS project_row"),
        find!("CAST(0 AS BIGINT) AS org_row, CAST(0 AS BIGINT) AS project_row"),
        org,
        project,
        FIRST,
    )
}

/// Finds a project by its id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, id: &str) -> Result<Option<Project>> {
    query_opt!(session, Project, "SELECT * FROM projects WHERE id = $1 AND slug > $2", id, FIRST)
}

/// The project of that id.
///
/// # Errors
/// [`Error::NotFound`] where there is none, else those of the database.
pub async fn get(session: &mut Session, id: &str) -> Result<Project> {
    find(session, id).await?.ok_or(Error::NotFound("project"))
}

/// Finds a project by the slugs of its organization and itself.
///
/// # Errors
/// Those of the database.
pub async fn find_by_path(session: &mut Session, org: &str, project: &str) -> Result<Option<Project>> {
    query_opt!(
        session,
        Project,
        "SELECT p.id, p.org_id, p.slug, p.public, p.sparse, p.created_at, p.description, p.version
         FROM projects p JOIN orgs o ON o.id = p.org_id WHERE o.slug = $1 AND p.slug = $2",
        org,
        project,
    )
}

/// At most `limit` projects of an organization after the slug `after`, in byte order of the slug; only those with a text in slug
/// or description, where that is asked for.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    org_id: &str,
    search: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<Project>> {
    query_all!(
        session,
        Project,
        "SELECT * FROM projects WHERE org_id = $1 AND slug > $2
         AND (CAST($3 AS TEXT) IS NULL OR slug LIKE $3 ESCAPE '!' OR LOWER(description) LIKE $3 ESCAPE '!')
         ORDER BY slug LIMIT $4",
        org_id,
        after.max(FIRST),
        search.map(crate::db::like),
        limit,
    )
}

/// What lies in a project, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct ProjectCounts {
    /// The project.
    pub id: String,
    /// Repositories.
    pub repositories: i64,
    /// Users and groups that hold a role on it.
    pub members: i64,
}

/// So far repositories and members of a project are counted: a list of projects takes no longer for large ones.
pub const COUNTED: i64 = if cfg!(test) { 2 } else { 10_000 };

macro_rules! counts {
    ($ids:literal) => {
        concat!(
            "SELECT p.id,
                    (SELECT COUNT(*) FROM (SELECT 1 FROM repositories r WHERE r.project_id = p.id AND r.name > $3 LIMIT $4) AS named)
                    AS repositories,
                    (SELECT COUNT(*) FROM (SELECT 1 FROM bindings b WHERE b.project_id = p.id AND b.name > '' GROUP BY b.name LIMIT $4)
                     AS named)
                    + (SELECT COUNT(DISTINCT b.group_id) FROM bindings b WHERE b.project_id = p.id AND b.name = '') AS members
             FROM projects p WHERE p.org_id = $1 AND p.id IN (",
            $ids,
            ")"
        )
    };
}

/// How much lies in each of these projects of an organization; where it is more than [`COUNTED`], no more than that is sure.
///
/// # Errors
/// Those of the database.
pub async fn counts(session: &mut Session, org_id: &str, ids: &[&str]) -> Result<Vec<ProjectCounts>> {
    let ids = serde_json::to_string(ids).map_err(|e| Error::Damaged(e.to_string()))?;
    crate::query_all_each!(
        session,
        ProjectCounts,
        counts!("SELECT value FROM json_each($2)"),
        counts!("SELECT json_array_elements_text(CAST(CAST($2 AS TEXT) AS JSON))"),
        org_id,
        ids.as_str(),
        FIRST,
        COUNTED + 1,
    )
}

/// What a project holds, to be told before it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Contents {
    /// Repositories.
    pub repositories: i64,
    /// Tags in them.
    pub tags: i64,
    /// Manifests in them.
    pub manifests: i64,
    /// Bytes of blobs that no other project of the organization has.
    pub bytes: i64,
    /// Roles that were given on it.
    pub roles: i64,
}

/// What a project holds.
///
/// # Errors
/// Those of the database.
pub async fn contents(session: &mut Session, org_id: &str, id: &str) -> Result<Contents> {
    query_one!(
        session,
        Contents,
        "SELECT (SELECT COUNT(*) FROM repositories r WHERE r.project_id = $2 AND r.name > $3) AS repositories,
                (SELECT COUNT(*) FROM tags t JOIN repositories r ON r.id = t.repository_id
                 WHERE r.project_id = $2 AND r.name > $3) AS tags,
                (SELECT COUNT(*) FROM manifests m JOIN repositories r ON r.id = m.repository_id
                 WHERE r.project_id = $2 AND r.name > $3) AS manifests,
                (SELECT CAST(COALESCE(SUM(b.size), 0) AS BIGINT) FROM blobs b
                 WHERE b.org_id = $1 AND b.digest IN (
                     SELECT l.digest FROM blob_links l JOIN repositories r ON r.id = l.repository_id
                     WHERE r.project_id = $2 AND r.name > $3)
                 AND NOT EXISTS (
                     SELECT 1 FROM blob_links o JOIN repositories s ON s.id = o.repository_id
                     WHERE o.org_id = $1 AND o.digest = b.digest AND s.project_id <> $2 AND s.name > $3)) AS bytes,
                (SELECT COUNT(*) FROM bindings b WHERE b.org_id || '' = $1 AND b.project_id = $2) AS roles",
        org_id,
        id,
        FIRST,
    )
}

/// How many projects of an organization say that they are public.
///
/// # Errors
/// Those of the database.
pub async fn count_public(session: &mut Session, org_id: &str) -> Result<i64> {
    let sql = "SELECT COUNT(*) FROM projects WHERE org_id = $1 AND public = TRUE AND slug > $2";
    Ok(query_one!(session, (i64,), sql, org_id, FIRST)?.0)
}

/// Creates a project.
///
/// # Errors
/// [`Error::Conflict`] where the slug is taken in that organization, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewProject<'_>, now: i64) -> Result<Project> {
    let project = Project {
        id: new_id(),
        org_id: new.org_id.to_owned(),
        slug: new.slug.as_str().to_owned(),
        public: new.settings.public,
        sparse: new.settings.sparse,
        created_at: now,
        description: new.description.to_owned(),
        version: 1,
    };
    let made = execute!(
        tx,
        "INSERT INTO projects (id, org_id, slug, public, sparse, created_at, description) VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (org_id, slug) DO NOTHING",
        project.id.as_str(),
        project.org_id.as_str(),
        project.slug.as_str(),
        project.public,
        project.sparse,
        now,
        project.description.as_str(),
    )?;
    if made == 0 {
        return Err(Error::Conflict("a project of that name exists already"));
    }
    Ok(project)
}

/// Changes a project and returns it as it is then.
///
/// # Errors
/// [`Error::Version`] where it is not the expected one, [`Error::NotFound`] where there is none, else those of the database.
pub async fn update(tx: &mut Tx, id: &str, change: &UpdateProject) -> Result<Project> {
    let touched = execute!(
        tx,
        "UPDATE projects SET version = version + 1, public = COALESCE($3, public), sparse = COALESCE($4, sparse),
                description = COALESCE($5, description)
         WHERE id = $1 AND version = COALESCE($2, version)",
        id,
        change.expected,
        change.public,
        change.sparse,
        change.description.as_deref(),
    )?;
    let project = get(tx, id).await?;
    if touched == 0 { Err(Error::Version) } else { Ok(project) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::orgs::{self, NewOrg};

    #[tokio::test]
    async fn a_project_is_unique_in_its_organization_only() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let a = orgs::create(&mut tx, &NewOrg { slug: &"aa".parse().unwrap(), name: "A" }, 1).await.unwrap();
        let b = orgs::create(&mut tx, &NewOrg { slug: &"bb".parse().unwrap(), name: "B" }, 1).await.unwrap();
        let slug: Slug = "web".parse().unwrap();
        let in_a = create(
            &mut tx,
            &NewProject { org_id: &a.id, slug: &slug, settings: ProjectSettings::default(), description: "" },
            2,
        )
        .await
        .unwrap();
        create(
            &mut tx,
            &NewProject {
                org_id: &b.id,
                slug: &slug,
                settings: ProjectSettings { public: true, sparse: false },
                description: "",
            },
            2,
        )
        .await
        .unwrap();
        let again = create(
            &mut tx,
            &NewProject {
                org_id: &a.id,
                slug: &slug,
                settings: ProjectSettings { public: true, sparse: false },
                description: "",
            },
            3,
        )
        .await;
        assert!(again.unwrap_err().is_conflict());
        let change =
            UpdateProject { public: Some(true), sparse: Some(true), description: Some("x".into()), expected: Some(1) };
        let changed = update(&mut tx, &in_a.id, &change).await.unwrap();
        assert!(changed.public && changed.sparse);
        assert_eq!((changed.description.as_str(), changed.version), ("x", 2));
        assert!(matches!(update(&mut tx, &in_a.id, &change).await, Err(Error::Version)));
        assert!(update(&mut tx, &in_a.id, &UpdateProject::default()).await.unwrap().public);
        assert!(matches!(update(&mut tx, "nope", &UpdateProject::default()).await, Err(Error::NotFound(_))));
        tx.commit().await.unwrap();

        let mut s = db.read().await.unwrap();
        assert_eq!(find_by_path(&mut s, "aa", "web").await.unwrap().unwrap().id, in_a.id);
        assert_eq!(find_by_path(&mut s, "aa", "nope").await.unwrap(), None);
        assert_eq!(find_by_slug(&mut s, &a.id, "web").await.unwrap().unwrap().id, in_a.id);
        assert_eq!(list(&mut s, &a.id, None, "", 10).await.unwrap().len(), 1);
        assert!(list(&mut s, &a.id, None, "web", 10).await.unwrap().is_empty());
        for (text, found) in [("WE", 1), ("X", 1), ("%", 0), ("_e_", 0)] {
            assert_eq!(list(&mut s, &a.id, Some(text), "", 10).await.unwrap().len(), found, "{text}");
        }
        let empty = ProjectCounts { id: in_a.id.clone(), repositories: 0, members: 0 };
        assert_eq!(counts(&mut s, &a.id, &[&in_a.id, "nope"]).await.unwrap(), [empty]);
        assert!(counts(&mut s, &b.id, &[&in_a.id]).await.unwrap().is_empty());
        assert_eq!(contents(&mut s, &a.id, &in_a.id).await.unwrap(), Contents::default());
        assert_eq!(count_public(&mut s, &a.id).await.unwrap(), 1);
    }
}

//! Organizations: the tenants. A slug is unique for ever and never changes.

mod settings;
mod usage;

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::names::{Slug, new_id};
use crate::{execute, query_all, query_one, query_opt};

pub use settings::{OrgSettings, settings, settings_of_user, update_settings};
pub use usage::{Usage, count_usage, usage};

/// [`Org::status`] of one that lives.
pub const ACTIVE: &str = "active";
/// [`Org::status`] of one that no door opens for, until it is resumed.
pub const SUSPENDED: &str = "suspended";
/// [`Org::status`] of one that is to be deleted: no door opens, and after [`Org::delete_after`] everything goes.
pub const DELETING: &str = "deleting";
/// [`Org::status`] of one whose time is over and whose rows and bytes go ([`crate::removal`]).
pub const REMOVING: &str = "removing";
/// [`Org::status`] of one of which only the slug is left. No function here returns it.
pub const DELETED: &str = "deleted";

/// An organization.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Org {
    /// Opaque id.
    pub id: String,
    /// First path component of its repositories.
    pub slug: String,
    /// What people call it.
    pub name: String,
    /// When it was created (unix seconds).
    pub created_at: i64,
    /// [`ACTIVE`], [`SUSPENDED`], [`DELETING`] or [`REMOVING`].
    pub status: String,
    /// When a deletion that was asked for takes everything away (unix seconds).
    pub delete_after: Option<i64>,
    /// Moves with every change of the organization or its settings.
    pub version: i64,
    /// Whether its projects may be public: where not, none is, whatever it says of itself.
    pub public_allowed: bool,
}

impl Org {
    /// Whether its doors are open.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.status == ACTIVE
    }
}

/// What a new organization needs.
#[derive(Debug, Clone)]
pub struct NewOrg<'a> {
    /// First path component of its repositories.
    pub slug: &'a Slug,
    /// What people call it.
    pub name: &'a str,
}

/// Finds an organization by its slug.
///
/// # Errors
/// Those of the database.
pub async fn find_by_slug(session: &mut Session, slug: &str) -> Result<Option<Org>> {
    query_opt!(session, Org, "SELECT * FROM orgs WHERE slug = $1 AND status <> 'deleted'", slug)
}

/// Finds an organization by its id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, id: &str) -> Result<Option<Org>> {
    query_opt!(session, Org, "SELECT * FROM orgs WHERE id = $1 AND status <> 'deleted'", id)
}

/// The organization of that id.
///
/// # Errors
/// [`Error::NotFound`] where there is none, else those of the database.
pub async fn get(session: &mut Session, id: &str) -> Result<Org> {
    find(session, id).await?.ok_or(Error::NotFound("organization"))
}

/// The organization of that id, its row locked until the transaction ends where the engine has row locks.
///
/// # Errors
/// [`Error::NotFound`] where there is none, else those of the database.
pub async fn lock(tx: &mut Tx, id: &str) -> Result<Org> {
    execute!(tx, "UPDATE orgs SET version = version WHERE id = $1", id)?;
    get(tx, id).await
}

/// At most `limit` organizations after the slug `after`, in byte order of the slug.
///
/// # Errors
/// Those of the database.
pub async fn list(session: &mut Session, after: &str, limit: i64) -> Result<Vec<Org>> {
    query_all!(
        session,
        Org,
        "SELECT * FROM orgs WHERE slug > $1 AND status <> 'deleted' ORDER BY slug LIMIT $2",
        after,
        limit
    )
}

/// As [`list`], of those whose slug or name contains `text` (as it is, capital or small) and whose status is `status`, where
/// these are not empty.
///
/// # Errors
/// Those of the database.
pub async fn search(session: &mut Session, text: &str, status: &str, after: &str, limit: i64) -> Result<Vec<Org>> {
    let pattern = format!("%{}%", text.to_lowercase().replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_"));
    query_all!(
        session,
        Org,
        "SELECT * FROM orgs WHERE slug > $1 AND status <> 'deleted' AND ($2 = '' OR status = $2)
         AND (LOWER(slug) LIKE $3 ESCAPE '\\' OR LOWER(name) LIKE $3 ESCAPE '\\') ORDER BY slug LIMIT $4",
        after,
        status,
        pattern.as_str(),
        limit,
    )
}

/// As [`list`], but only living ones in which the user is an active member.
///
/// # Errors
/// Those of the database.
pub async fn list_of_user(session: &mut Session, user_id: &str, after: &str, limit: i64) -> Result<Vec<Org>> {
    query_all!(
        session,
        Org,
        "SELECT o.id, o.slug, o.name, o.created_at, o.status, o.delete_after, o.version, o.public_allowed
         FROM orgs o JOIN memberships m ON m.org_id = o.id
         WHERE m.user_id = $1 AND m.active = TRUE AND o.status = 'active' AND o.slug > $2 ORDER BY o.slug LIMIT $3",
        user_id,
        after,
        limit,
    )
}

/// Creates an organization.
///
/// # Errors
/// [`Error::Conflict`] where the slug is taken, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewOrg<'_>, now: i64) -> Result<Org> {
    let org = Org {
        id: new_id(),
        slug: new.slug.as_str().to_owned(),
        name: new.name.to_owned(),
        created_at: now,
        status: ACTIVE.to_owned(),
        delete_after: None,
        version: 1,
        public_allowed: true,
    };
    let made = execute!(
        tx,
        "INSERT INTO orgs (id, slug, name, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (slug) DO NOTHING",
        org.id.as_str(),
        org.slug.as_str(),
        org.name.as_str(),
        now,
    )?;
    if made == 0 {
        return Err(Error::Conflict("an organization of that name exists already"));
    }
    Ok(org)
}

/// Ids of organizations that were to be deleted by now, at most 100.
///
/// # Errors
/// Those of the database.
pub async fn list_due(session: &mut Session, now: i64) -> Result<Vec<Org>> {
    query_all!(
        session,
        Org,
        "SELECT * FROM orgs WHERE status = 'deleting' AND delete_after <= $1 ORDER BY id LIMIT 100",
        now
    )
}

/// What is still there of an organization that is being taken away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, sqlx::FromRow)]
pub struct Remains {
    /// Projects.
    pub projects: i64,
    /// Repositories, those that nobody sees any more among them.
    pub repositories: i64,
    /// Blobs.
    pub blobs: i64,
    /// Memberships.
    pub users: i64,
}

/// What is still there of an organization.
///
/// # Errors
/// Those of the database.
pub async fn remains(session: &mut Session, org_id: &str) -> Result<Remains> {
    query_one!(
        session,
        Remains,
        "SELECT (SELECT COUNT(*) FROM projects WHERE org_id = $1) AS projects,
                (SELECT COUNT(*) FROM repositories WHERE org_id = $1) AS repositories,
                (SELECT COUNT(*) FROM blobs WHERE org_id = $1) AS blobs,
                (SELECT COUNT(*) FROM memberships WHERE org_id = $1) AS users",
        org_id,
    )
}

/// Gives an organization another name and returns it as it is then. `expected` is the version that was read, if that matters.
///
/// # Errors
/// [`Error::Version`] where it changed since, [`Error::NotFound`], else those of the database.
pub async fn rename(tx: &mut Tx, id: &str, name: &str, expected: Option<i64>) -> Result<Org> {
    let touched = execute!(
        tx,
        "UPDATE orgs SET name = $2, version = version + 1 WHERE id = $1 AND version = COALESCE($3, version)",
        id,
        name,
        expected,
    )?;
    let org = get(tx, id).await?;
    if touched == 0 { Err(Error::Version) } else { Ok(org) }
}

/// Sets an organization's status and when it is to be deleted, and returns it as it is then. No change where its status is
/// none of `from`.
///
/// # Errors
/// [`Error::Conflict`] where its status is another, [`Error::NotFound`], else those of the database.
pub async fn set_status(tx: &mut Tx, id: &str, from: &[&str], to: &str, delete_after: Option<i64>) -> Result<Org> {
    execute!(tx, "UPDATE orgs SET version = version + 1 WHERE id = $1", id)?;
    let org = get(tx, id).await?;
    if !from.contains(&org.status.as_str()) {
        return Err(Error::Conflict("the organization is not in a state for that"));
    }
    execute!(
        tx,
        "UPDATE orgs SET status_before = status, status = $2, delete_after = $3 WHERE id = $1",
        id,
        to,
        delete_after
    )?;
    Ok(Org { status: to.to_owned(), delete_after, ..org })
}

/// The status that an organization had before the one it has, if it ever had another.
///
/// # Errors
/// Those of the database.
pub async fn status_before(session: &mut Session, id: &str) -> Result<Option<String>> {
    let row = query_opt!(session, (Option<String>,), "SELECT status_before FROM orgs WHERE id = $1", id)?;
    Ok(row.and_then(|(status,)| status))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;

    #[tokio::test]
    async fn organizations_are_made_once_and_listed_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        for slug in ["globex", "acme", "ac-me"] {
            create(&mut tx, &NewOrg { slug: &slug.parse().unwrap(), name: slug }, 7).await.unwrap();
        }
        let again = create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "x" }, 8).await;
        assert!(again.unwrap_err().is_conflict());
        tx.commit().await.unwrap();

        let mut s = db.read().await.unwrap();
        let slugs: Vec<String> = list(&mut s, "", 10).await.unwrap().into_iter().map(|o| o.slug).collect();
        assert_eq!(slugs, ["ac-me", "acme", "globex"]);
        assert_eq!(list(&mut s, "acme", 10).await.unwrap().len(), 1);
        for (text, status, found) in [("ME", "", 2), ("c-m", ACTIVE, 1), ("", SUSPENDED, 0), ("%", "", 0), ("", "", 3)]
        {
            assert_eq!(search(&mut s, text, status, "", 10).await.unwrap().len(), found, "{text} {status}");
        }
        let acme = find_by_slug(&mut s, "acme").await.unwrap().unwrap();
        assert_eq!(remains(&mut s, &acme.id).await.unwrap(), Remains::default());
        assert_eq!(get(&mut s, &acme.id).await.unwrap(), acme);
        assert!(matches!(get(&mut s, "nope").await, Err(Error::NotFound(_))));
        assert!(list_of_user(&mut s, "nobody", "", 10).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_change_needs_the_version_that_was_read() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        assert_eq!(lock(&mut tx, &org.id).await.unwrap(), org);
        let renamed = rename(&mut tx, &org.id, "B", Some(1)).await.unwrap();
        assert_eq!((renamed.name.as_str(), renamed.version), ("B", 2));
        assert!(matches!(rename(&mut tx, &org.id, "C", Some(1)).await, Err(Error::Version)));
        assert!(matches!(rename(&mut tx, "nope", "C", Some(1)).await, Err(Error::NotFound(_))));
        assert_eq!(rename(&mut tx, &org.id, "C", None).await.unwrap().version, 3);
        let gone = set_status(&mut tx, &org.id, &[ACTIVE], DELETING, Some(9)).await.unwrap();
        assert_eq!((gone.status.as_str(), gone.delete_after, gone.is_active()), (DELETING, Some(9), false));
        assert_eq!(get(&mut tx, &org.id).await.unwrap(), gone);
        assert!(set_status(&mut tx, &org.id, &[ACTIVE], SUSPENDED, None).await.unwrap_err().is_conflict());
        assert_eq!(status_before(&mut tx, &org.id).await.unwrap().as_deref(), Some(ACTIVE));
        assert_eq!(status_before(&mut tx, "nope").await.unwrap(), None);
    }
}

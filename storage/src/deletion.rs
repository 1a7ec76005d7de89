//! What a deletion would take away, and what it would leave: counted before anybody is asked whether they mean it. What goes
//! has a mark ([`Going::mark`]), and the transaction that deletes compares it with what was told.
//!
//! Bytes are those of blobs that garbage collection takes afterwards: no manifest of the repository that stays refers to
//! them, and no other repository of the organization has them. What other organizations have is neither read nor counted.

use crate::db::{Raw, Session, Tx};
use crate::digest::digest_of;
use crate::error::{Error, Result};
use crate::manifests::set_of;
use crate::names::{Algorithm, Digest, Tag};
use crate::removal::FIRST;
use crate::repositories::Repository;
use crate::{query_all, query_all_each, query_one};

/// Most names that a preview tells; the rest is counted.
pub const MOST_NAMED: i64 = 50;

/// What of a repository is to be deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// Tags alone: their manifests stay.
    Tags(Vec<Tag>),
    /// Manifests, with every tag that points at them.
    Manifests(Vec<Digest>),
    /// All of it.
    Everything,
}

impl Choice {
    /// That all that was chosen is among what goes.
    ///
    /// # Errors
    /// [`Error::NotFound`] where something is not there.
    pub fn is_all_there(&self, going: &Going) -> Result<()> {
        let (wanted, there, what) = match self {
            Self::Tags(tags) => (tags.len(), going.tag_count, "tag"),
            Self::Manifests(digests) => (digests.len(), going.manifests, "manifest"),
            Self::Everything => return Ok(()),
        };
        if i64::try_from(wanted).is_ok_and(|wanted| wanted <= there) { Ok(()) } else { Err(Error::NotFound(what)) }
    }
}

/// What goes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Going {
    /// The first tags, by name, each with the digest that it points at: all where tags are chosen.
    pub tags: Vec<(String, String)>,
    /// How many tags.
    pub tag_count: i64,
    /// How many manifests.
    pub manifests: i64,
    /// How many indexes stay that list a manifest that goes: who pulls them misses a part.
    pub broken_indexes: i64,
}

impl Going {
    /// Tells whether the same would still go: the tags and what they point at, the manifests, and what would break. Not the
    /// bytes, which what happens in other repositories changes too.
    #[must_use]
    pub fn mark(&self) -> String {
        let mut said = format!("{} {} {}", self.tag_count, self.manifests, self.broken_indexes);
        for (name, digest) in &self.tags {
            said.push_str(&format!(" {name}@{digest}"));
        }
        digest_of(Algorithm::Sha256, said.as_bytes()).hex().to_owned()
    }
}

/// What goes and what stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preview {
    /// What goes.
    pub going: Going,
    /// How many blobs go.
    pub blobs: i64,
    /// Their bytes.
    pub bytes: i64,
    /// How many blobs stay that what goes refers to: others do so too.
    pub shared_blobs: i64,
    /// Their bytes.
    pub shared_bytes: i64,
    /// The first tags that stay at the manifests that the tags which go point at.
    pub tags_left: Vec<String>,
    /// Digests of the manifests that stay and have no tag any more.
    pub untagged: Vec<String>,
    /// How many manifests stay that are entries of an index that goes.
    pub entries_left: i64,
    /// How many manifests stay that are about one that goes: its signatures, attestations and SBOMs.
    pub referrers_left: i64,
}

/// A statement with the set of names or digests `$2` between its parts.
macro_rules! with_set {
    ($session:expr, $row:ty, $first:literal $(, $rest:literal)+ ; $($arg:expr),+) => {
        query_all_each!(
            $session,
            $row,
            concat!($first $(, "(SELECT value FROM json_each($2))", $rest)+),
            concat!($first $(, "(SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))", $rest)+),
            $($arg),+
        )
    };
}

/// The names as a set for [`with_set`].
fn set_of_tags(tags: &[Tag]) -> String {
    let names: Vec<&str> = tags.iter().map(Tag::as_str).collect();
    serde_json::to_string(&names).unwrap_or_default()
}

/// Keeps what goes as it is until the transaction ends: nobody points a tag at it or pushes into it meanwhile. SQLite has one
/// writer at a time anyway.
///
/// # Errors
/// Those of the database.
pub async fn hold(tx: &mut Tx, repository: &Repository, choice: &Choice) -> Result<()> {
    let Raw::Postgres(connection) = tx.raw() else { return Ok(()) };
    let (sql, set) = match choice {
        Choice::Tags(tags) => (
            "SELECT 1 FROM tags WHERE repository_id = $1
             AND name IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB))) ORDER BY name FOR UPDATE",
            set_of_tags(tags),
        ),
        // A new tag refers to its manifest's row, and waits.
        Choice::Manifests(digests) => (
            "SELECT 1 FROM manifests WHERE repository_id = $1
             AND digest IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB))) ORDER BY digest FOR UPDATE",
            set_of(digests.iter()),
        ),
        // Every push says in this row when it was.
        Choice::Everything => ("SELECT 1 FROM repositories WHERE id = $1 AND $2 = '' FOR UPDATE", String::new()),
    };
    sqlx::query(sql).bind(&repository.id).bind(set).execute(connection).await?;
    Ok(())
}

/// How many references the manifests have together: as many rows go with them, in one transaction.
///
/// # Errors
/// Those of the database.
pub async fn references(session: &mut Session, repository: &Repository, digests: &[Digest]) -> Result<i64> {
    let set = set_of(digests.iter());
    let counts: Vec<(i64,)> = with_set!(
        session, (i64,),
        "SELECT COUNT(*) FROM manifest_references WHERE repository_id = $1 AND manifest IN ", "";
        repository.id.as_str(), set.as_str()
    )?;
    Ok(counts.first().map_or(0, |(count,)| *count))
}

/// What a deletion takes away. Tags and manifests that are not there are passed over.
///
/// # Errors
/// Those of the database.
pub async fn going(session: &mut Session, repository: &Repository, choice: &Choice) -> Result<Going> {
    let id = repository.id.as_str();
    match choice {
        Choice::Tags(tags) => {
            let names = set_of_tags(tags);
            let tags: Vec<(String, String)> = with_set!(
                session, (String, String),
                "SELECT name, digest FROM tags WHERE repository_id = $1 AND name IN ", " ORDER BY name";
                id, names.as_str()
            )?;
            Ok(Going { tag_count: i64::try_from(tags.len()).unwrap_or(i64::MAX), tags, ..Going::default() })
        }
        Choice::Manifests(digests) => {
            let set = set_of(digests.iter());
            let counts: Vec<(i64, i64, i64)> = with_set!(
                session, (i64, i64, i64),
                "SELECT
                     (SELECT COUNT(*) FROM manifests m WHERE m.repository_id = $1 AND m.digest IN ",
                "),
                     (SELECT COUNT(*) FROM tags t WHERE t.repository_id = $1 AND t.digest IN ",
                "),
                     (SELECT COUNT(DISTINCT x.manifest) FROM manifest_references x
                      WHERE x.repository_id = $1 AND x.target IN ", " AND x.manifest NOT IN ", ")";
                id, set.as_str()
            )?;
            let (manifests, tag_count, broken_indexes) = counts.first().copied().unwrap_or_default();
            let tags = with_set!(
                session, (String, String),
                "SELECT name, digest FROM tags WHERE repository_id = $1 AND digest IN ", " ORDER BY name LIMIT $3";
                id, set.as_str(), MOST_NAMED
            )?;
            Ok(Going { tags, tag_count, manifests, broken_indexes })
        }
        Choice::Everything => {
            let (manifests, tag_count): (i64, i64) = query_one!(
                session,
                (i64, i64),
                "SELECT (SELECT COUNT(*) FROM manifests WHERE repository_id = $1),
                        (SELECT COUNT(*) FROM tags WHERE repository_id = $1)",
                id,
            )?;
            let tags = query_all!(
                session,
                (String, String),
                "SELECT name, digest FROM tags WHERE repository_id = $1 ORDER BY name LIMIT $2",
                id,
                MOST_NAMED,
            )?;
            Ok(Going { tags, tag_count, manifests, broken_indexes: 0 })
        }
    }
}

/// What a deletion would take away, and what it would leave.
///
/// # Errors
/// Those of the database.
pub async fn preview(session: &mut Session, repository: &Repository, choice: &Choice) -> Result<Preview> {
    let going = going(session, repository, choice).await?;
    match choice {
        Choice::Tags(tags) => beside_tags(session, &repository.id, tags, going).await,
        Choice::Manifests(digests) => beside_manifests(session, &repository.id, digests, going).await,
        Choice::Everything => beside_everything(session, &repository.id, going).await,
    }
}

async fn beside_tags(session: &mut Session, repository_id: &str, tags: &[Tag], going: Going) -> Result<Preview> {
    let names = set_of_tags(tags);
    let left: Vec<(String,)> = with_set!(
        session, (String,),
        "SELECT t.name FROM tags t WHERE t.repository_id = $1 AND t.name NOT IN ",
        " AND t.digest IN (SELECT g.digest FROM tags g WHERE g.repository_id = $1 AND g.name IN ",
        ") ORDER BY t.name LIMIT $3";
        repository_id, names.as_str(), MOST_NAMED
    )?;
    let untagged: Vec<(String,)> = with_set!(
        session, (String,),
        "SELECT DISTINCT g.digest FROM tags g WHERE g.repository_id = $1 AND g.name IN ",
        " AND NOT EXISTS (SELECT 1 FROM tags t WHERE t.repository_id = $1 AND t.digest = g.digest AND t.name NOT IN ",
        ") ORDER BY g.digest";
        repository_id, names.as_str()
    )?;
    Ok(Preview {
        going,
        tags_left: left.into_iter().map(|(name,)| name).collect(),
        untagged: untagged.into_iter().map(|(digest,)| digest).collect(),
        ..Preview::default()
    })
}

async fn beside_manifests(
    session: &mut Session,
    repository_id: &str,
    digests: &[Digest],
    going: Going,
) -> Result<Preview> {
    let set = set_of(digests.iter());
    let counts: Vec<(i64, i64)> = with_set!(
        session, (i64, i64),
        "SELECT
             (SELECT COUNT(DISTINCT x.target) FROM manifest_references x
              JOIN manifests c ON c.repository_id = x.repository_id AND c.digest = x.target
              WHERE x.repository_id = $1 AND x.manifest IN ", " AND x.target NOT IN ",
        "),
             (SELECT COUNT(*) FROM manifests m WHERE m.repository_id = $1 AND m.subject IN ", " AND m.digest NOT IN ",
        ")";
        repository_id, set.as_str()
    )?;
    let (entries_left, referrers_left) = counts.first().copied().unwrap_or_default();
    // One row for each blob that what goes refers to: its length, and whether something that stays has it too.
    let bytes: Vec<(i64, i64, i64, i64)> = with_set!(
        session, (i64, i64, i64, i64),
        "SELECT CAST(COALESCE(SUM(1 - used), 0) AS BIGINT), CAST(COALESCE(SUM((1 - used) * size), 0) AS BIGINT),
                CAST(COALESCE(SUM(used), 0) AS BIGINT), CAST(COALESCE(SUM(used * size), 0) AS BIGINT)
         FROM (SELECT b.size AS size, CASE WHEN
                   EXISTS (SELECT 1 FROM manifest_references o
                           WHERE o.repository_id = $1 AND o.target = l.digest AND o.manifest NOT IN ",
        ")
                   OR EXISTS (SELECT 1 FROM blob_links e JOIN repositories r ON r.id = e.repository_id AND r.name > $3
                              WHERE e.org_id = l.org_id AND e.digest = l.digest AND e.repository_id <> $1)
                   THEN 1 ELSE 0 END AS used
               FROM blob_links l JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
               WHERE l.repository_id = $1 AND l.digest IN (
                   SELECT x.target FROM manifest_references x WHERE x.repository_id = $1 AND x.manifest IN ",
        ")) u";
        repository_id, set.as_str(), FIRST
    )?;
    let (blobs, bytes, shared_blobs, shared_bytes) = bytes.first().copied().unwrap_or_default();
    Ok(Preview { going, blobs, bytes, shared_blobs, shared_bytes, entries_left, referrers_left, ..Preview::default() })
}

async fn beside_everything(session: &mut Session, repository_id: &str, going: Going) -> Result<Preview> {
    let (blobs, bytes, shared_blobs, shared_bytes): (i64, i64, i64, i64) = query_one!(
        session,
        (i64, i64, i64, i64),
        "SELECT CAST(COALESCE(SUM(1 - used), 0) AS BIGINT), CAST(COALESCE(SUM((1 - used) * size), 0) AS BIGINT),
                CAST(COALESCE(SUM(used), 0) AS BIGINT), CAST(COALESCE(SUM(used * size), 0) AS BIGINT)
         FROM (SELECT b.size AS size, CASE WHEN
                   EXISTS (SELECT 1 FROM blob_links e JOIN repositories r ON r.id = e.repository_id AND r.name > $2
                           WHERE e.org_id = l.org_id AND e.digest = l.digest AND e.repository_id <> $1)
                   THEN 1 ELSE 0 END AS used
               FROM blob_links l JOIN blobs b ON b.org_id = l.org_id AND b.digest = l.digest
               WHERE l.repository_id = $1) u",
        repository_id,
        FIRST,
    )?;
    Ok(Preview { going, blobs, bytes, shared_blobs, shared_bytes, ..Preview::default() })
}

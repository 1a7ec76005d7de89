//! Manifests that are about another manifest (distribution-spec "Listing Referrers").

use crate::db::Session;
use crate::error::Result;
use crate::manifests::{Stored, set_of};
use crate::names::{Digest, RepoName};
use crate::{query_all, query_all_each};

/// What the referrers API says of one manifest.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Referrer {
    /// Its digest.
    pub digest: String,
    /// Its media type.
    pub media_type: String,
    /// Its length in bytes.
    pub size: i64,
    /// Its artifact type, or its config's media type.
    pub artifact_type: Option<String>,
    /// Its annotations as JSON text.
    pub annotations: Option<String>,
}

/// At most `limit` manifests of the repository whose subject is `subject`, after the digest `after`, in byte order of
/// the digest; only of `artifact_type` where that is given.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    repo: &RepoName,
    subject: &Digest,
    artifact_type: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<Referrer>> {
    query_all!(
        session,
        Referrer,
        "SELECT m.digest, m.media_type, m.size, m.artifact_type, m.annotations FROM repositories r
         JOIN manifests m ON m.repository_id = r.id AND m.subject = $2 AND m.digest > $3
         WHERE r.name = $1 AND ($4 = '' OR m.artifact_type = $4)
         ORDER BY m.digest LIMIT CAST($5 AS BIGINT)",
        repo.canonical(),
        subject.as_str(),
        after,
        artifact_type.unwrap_or(""),
        limit,
    )
}

/// At most `limit` manifests of the repository that are about one of the subjects, in byte order of subject and digest, with
/// the bytes of those that have at most `most`.
///
/// # Errors
/// Those of the database.
pub async fn of<'a>(
    session: &mut Session,
    repository_id: &str,
    subjects: impl Iterator<Item = &'a Digest>,
    most: i64,
    limit: i64,
) -> Result<Vec<Stored>> {
    query_all_each!(
        session,
        Stored,
        "SELECT digest, media_type, size, subject, artifact_type, created_at, pushed_by,
                CASE WHEN size <= $3 THEN payload END AS payload
         FROM manifests WHERE repository_id = $1 AND subject IN (SELECT value FROM json_each($2))
         ORDER BY subject, digest LIMIT $4",
        "SELECT digest, media_type, size, subject, artifact_type, created_at, pushed_by,
                CASE WHEN size <= $3 THEN payload END AS payload
         FROM manifests WHERE repository_id = $1 AND subject IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))
         ORDER BY subject, digest LIMIT $4",
        repository_id,
        set_of(subjects),
        most,
        limit,
    )
}

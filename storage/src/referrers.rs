//! Manifests that are about another manifest (distribution-spec "Listing Referrers").

use bytes::Bytes;

use crate::db::Session;
use crate::error::Result;
use crate::manifests::{Stored, set_of};
use crate::names::{Digest, RepoName};
use crate::{query_all_each, query_opt_each};

/// A descriptor whose texts take more bytes than this is not listed, so that a page is never large.
const LARGE: i64 = 3 << 10;

/// What the referrers API says of one manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: String,
    /// Its descriptor as JSON; none where it is large, and is to be had from [`descriptor`].
    pub descriptor: Option<Bytes>,
}

/// One of some lines: a descriptor that begins with its digest, or the digest alone. JSON text has no line breaks within.
fn read(lines: &Bytes, line: &str) -> Referrer {
    match line.strip_prefix("{\"digest\":\"").and_then(|rest| rest.split_once('"')) {
        Some((digest, _)) => Referrer { digest: digest.to_owned(), descriptor: Some(lines.slice_ref(line.as_bytes())) },
        None => Referrer { digest: line.to_owned(), descriptor: None },
    }
}

/// The descriptor of a manifest `m`, with the engine's way to write a text as JSON: what is before it, and behind.
macro_rules! descriptor {
    ($before:literal, $behind:literal) => {
        concat!(
            "FORMAT('{\"digest\":\"%s\",\"mediaType\":%s,\"size\":%s%s%s}', m.digest, ",
            $before,
            "m.media_type",
            $behind,
            ", m.size,
             CASE WHEN m.artifact_type IS NOT NULL THEN ',\"artifactType\":' || ",
            $before,
            "m.artifact_type",
            $behind,
            " END,
             CASE WHEN m.annotations IS NOT NULL THEN ',\"annotations\":' || m.annotations END)"
        )
    };
}

/// Descriptors made by the database, all in one row: to hand a thousand over costs this program more than to find them costs
/// the database.
macro_rules! joined {
    ($before:literal, $behind:literal) => {
        concat!(
            "SELECT COALESCE(STRING_AGG(line, '\n'), '') AS lines FROM (
                 SELECT CASE WHEN COALESCE(OCTET_LENGTH(m.artifact_type), 0) + COALESCE(OCTET_LENGTH(m.annotations), 0) > $6
                        THEN m.digest ELSE ", descriptor!($before, $behind), " END AS line
                 FROM repositories r
                 JOIN manifests m ON m.repository_id = r.id AND m.subject = $2 AND m.digest > $3
                 WHERE r.name = $1 AND ($4 = '' OR m.artifact_type = $4)
                 ORDER BY m.digest LIMIT CAST($5 AS BIGINT)) AS page"
        )
    };
}

macro_rules! alone {
    ($before:literal, $behind:literal) => {
        concat!(
            "SELECT ",
            descriptor!($before, $behind),
            " FROM repositories r
             JOIN manifests m ON m.repository_id = r.id WHERE r.name = $1 AND m.digest = $2"
        )
    };
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
    let found = query_opt_each!(
        session,
        (String,),
        joined!("JSON_QUOTE(", ")"),
        joined!("CAST(TO_JSON(", ") AS TEXT)"),
        repo.canonical(),
        subject.as_str(),
        after,
        artifact_type.unwrap_or(""),
        limit,
        LARGE,
    )?;
    let lines = Bytes::from(found.unwrap_or_default().0);
    Ok(std::str::from_utf8(&lines).unwrap_or_default().lines().map(|line| read(&lines, line)).collect())
}

/// The descriptor of one manifest, however large it is.
///
/// # Errors
/// Those of the database.
pub async fn descriptor(session: &mut Session, repo: &RepoName, digest: &str) -> Result<Option<Bytes>> {
    let found = query_opt_each!(
        session,
        (String,),
        alone!("JSON_QUOTE(", ")"),
        alone!("CAST(TO_JSON(", ") AS TEXT)"),
        repo.canonical(),
        digest,
    )?;
    Ok(found.map(|(text,)| text.into()))
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
         ORDER BY subject, digest LIMIT CAST($4 AS BIGINT)",
        "SELECT digest, media_type, size, subject, artifact_type, created_at, pushed_by,
                CASE WHEN size <= $3 THEN payload END AS payload
         FROM manifests WHERE repository_id = $1 AND subject IN (SELECT jsonb_array_elements_text(CAST($2 AS JSONB)))
         ORDER BY subject, digest LIMIT CAST($4 AS BIGINT)",
        repository_id,
        set_of(subjects),
        most,
        limit,
    )
}

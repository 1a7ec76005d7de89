//! The statements of garbage collection, each about a set of rows.
//!
//! On `SQLite` those of a transaction go in one message: the collector has the writer's turn meanwhile, and every message more
//! is two switches between threads for which all who push wait.

use serde::Serialize;

use super::Due;
use crate::db::{Raw, Tx};
use crate::error::{Error, Result};

/// How long until a link of a repository that is being pushed to is looked at again, in seconds.
const PUSHING: i64 = 300;

/// Statements with the same three parameters, of which the first is a set (JSON arrays, or texts), run one after another in one
/// message, or on `PostgreSQL` in one for each. Returns the rows of those that return some.
///
/// A part of a statement is a text or one of the words of `part!`.
macro_rules! in_turn {
    ($tx:expr, $row:ty, [$([$($part:tt)+]),+ $(,)?], $set:expr, $second:expr, $third:expr) => {
        match $tx.raw() {
            Raw::Sqlite(connection) => {
                let all = concat!($($(part!(sqlite $part)),+, ";"),+);
                let query = sqlx::query_as::<sqlx::Sqlite, $row>(all).bind($set).bind($second).bind($third);
                query.fetch_all(connection).await?
            }
            Raw::Postgres(connection) => {
                let mut rows = Vec::new();
                for statement in [$(concat!($(part!(postgres $part)),+)),+] {
                    let query = sqlx::query_as::<sqlx::Postgres, $row>(statement);
                    rows.extend(query.bind($set).bind($second).bind($third).fetch_all(&mut *connection).await?);
                }
                rows
            }
        }
    };
}

macro_rules! part {
    (sqlite one) => { "(SELECT value FROM json_each($1))" };
    (postgres one) => { "(SELECT jsonb_array_elements_text(CAST($1 AS JSONB)))" };
    (sqlite two) => { "(SELECT value ->> 0 AS a, value ->> 1 AS b FROM json_each($1))" };
    (postgres two) => { "(SELECT e ->> 0 AS a, e ->> 1 AS b FROM jsonb_array_elements(CAST($1 AS JSONB)) AS e)" };
    (sqlite three) => { "(SELECT value ->> 0 AS a, value ->> 1 AS b, value ->> 2 AS c FROM json_each($1))" };
    (postgres three) => {
        "(SELECT e ->> 0 AS a, e ->> 1 AS b, CAST(e ->> 2 AS BIGINT) AS c FROM jsonb_array_elements(CAST($1 AS JSONB)) AS e)"
    };
    // A push is under way, whose blobs wait for the manifest that comes last.
    ($engine:ident pushing) => {
        "EXISTS (SELECT 1 FROM repositories r JOIN uploads p ON p.repository = r.name
                 WHERE r.id = blob_links.repository_id AND p.expires_at > $2)"
    };
    // Whoever links a doomed blob changes its row first, and is waited for.
    (sqlite locked) => { "" };
    (postgres locked) => { "FOR UPDATE OF blobs" };
    ($engine:ident $text:literal) => { $text };
}

/// Looks at links: those whose lease is over and that no manifest uses are taken away, and blobs that were linked by nothing
/// else are doomed. Returns how many. Links with a lease, and of repositories that are pushed to, are to be looked at later.
///
/// Of several writers, whoever calls this has locked the blobs ([`crate::blobs::lock_for_unlink`]).
pub(super) async fn review(tx: &mut Tx, links: &[Due], now: i64) -> Result<u64> {
    let set = json(links)?;
    let gone = in_turn!(
        tx, (String,),
        [
            [
                "DELETE FROM blob_links WHERE (repository_id, digest) IN " two
                " AND lease_until < $2 AND NOT " pushing
                " AND NOT EXISTS (SELECT 1 FROM manifest_references m
                      WHERE m.repository_id = blob_links.repository_id AND m.target = blob_links.digest)
                  RETURNING digest"
            ],
            [
                "UPDATE blobs SET doomed_at = $2 WHERE (org_id, digest) IN
                     (SELECT r.org_id, due.b FROM " two " AS due JOIN repositories r ON r.id = due.a)
                 AND doomed_at IS NULL
                 AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = blobs.org_id AND l.digest = blobs.digest)"
            ],
            [
                "UPDATE gc_links SET review_after = later.at FROM (
                     SELECT blob_links.repository_id, blob_links.digest,
                            CASE WHEN " pushing " THEN $2 + $3 ELSE blob_links.lease_until + 1 END AS at
                     FROM " two " AS due
                     JOIN blob_links ON blob_links.repository_id = due.a AND blob_links.digest = due.b
                     WHERE blob_links.lease_until >= $2 OR " pushing ") AS later
                 WHERE gc_links.repository_id = later.repository_id AND gc_links.digest = later.digest
                 AND gc_links.review_after < later.at"
            ],
            // Those that were put off are due at another time. What a manifest uses needs no review: the manifest's deletion asks
            // for the next. A link that was let be for a push which has ended since stays, to be looked at once more.
            [
                "DELETE FROM gc_links WHERE (repository_id, digest, review_after) IN " three
                " AND NOT EXISTS (SELECT 1 FROM blob_links l
                      WHERE l.repository_id = gc_links.repository_id AND l.digest = gc_links.digest
                      AND NOT EXISTS (SELECT 1 FROM manifest_references m
                          WHERE m.repository_id = l.repository_id AND m.target = l.digest))"
            ],
        ],
        set.as_str(), now, PUSHING
    );
    Ok(gone.len() as u64)
}

/// Takes away the rows of blobs that were doomed until `cutoff` and that nothing links to, and puts their objects up for
/// removal; the others live. Returns the size of each that is gone.
pub(super) async fn remove_blobs(tx: &mut Tx, doomed: &[(String, String)], cutoff: i64, now: i64) -> Result<Vec<i64>> {
    let set = json(doomed)?;
    let gone = in_turn!(
        tx, (i64,),
        [
            [
                "INSERT INTO gc_objects (object_key, delete_after) SELECT object_key, $3 FROM blobs
                 WHERE (org_id, digest) IN " two " AND doomed_at <= $2
                 AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = blobs.org_id AND l.digest = blobs.digest) "
                locked " ON CONFLICT (object_key) DO NOTHING"
            ],
            [
                "DELETE FROM blobs WHERE (org_id, digest) IN " two " AND doomed_at <= $2
                 AND NOT EXISTS (SELECT 1 FROM blob_links l WHERE l.org_id = blobs.org_id AND l.digest = blobs.digest)
                 RETURNING size"
            ],
            ["UPDATE blobs SET doomed_at = NULL WHERE (org_id, digest) IN " two " AND doomed_at <= $2"],
        ],
        set.as_str(), cutoff, now
    );
    Ok(gone.into_iter().map(|(size,)| size).collect())
}

/// Forgets objects whose bytes are gone, with the content of those in the database. Returns how many.
pub(super) async fn forget_objects(tx: &mut Tx, keys: &[String]) -> Result<u64> {
    let set = json(keys)?;
    let gone = in_turn!(
        tx, (String,),
        [
            ["DELETE FROM gc_objects WHERE object_key IN " one " RETURNING object_key"],
            ["DELETE FROM small_objects WHERE object_key IN " one],
        ],
        set.as_str(), 0_i64, 0_i64
    );
    Ok(gone.len() as u64)
}

/// A set as one parameter.
fn json(items: &[impl Serialize]) -> Result<String> {
    serde_json::to_string(items).map_err(|error| Error::Damaged(error.to_string()))
}

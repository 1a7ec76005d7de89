//! Who pulled what last. Pulls are many: they are noted in batches, each of which writes a row once.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::db::{Session, Tx};
use crate::error::Result;
use crate::names::Digest;
use crate::{execute_each, query_opt};

/// A manifest that went out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pull<'a> {
    /// Canonical name of its repository.
    pub repository: &'a str,
    /// Its digest.
    pub digest: Cow<'a, str>,
    /// When (unix seconds).
    pub at: i64,
    /// Name of who took it.
    pub by: &'a str,
    /// How many there were, where several are told as one.
    pub count: u64,
}

#[derive(Serialize)]
struct Row<'a> {
    repository: &'a str,
    digest: &'a str,
    at: i64,
    by: &'a str,
}

/// Notes pulls: when each manifest, and each repository, was pulled last, and by whom. Repositories that are gone are passed
/// over.
///
/// # Errors
/// Those of the database.
pub async fn note(tx: &mut Tx, pulls: &[Pull<'_>]) -> Result<()> {
    let mut last: BTreeMap<(&str, &str), &Pull<'_>> = BTreeMap::new();
    for pull in pulls {
        for digest in ["", pull.digest.as_ref()] {
            let known = last.entry((pull.repository, digest)).or_insert(pull);
            if known.at <= pull.at {
                *known = pull;
            }
        }
    }
    if last.is_empty() {
        return Ok(());
    }
    let rows: Vec<Row<'_>> = last
        .into_iter()
        .map(|((repository, digest), pull)| Row { repository, digest, at: pull.at, by: pull.by })
        .collect();
    // In one order everywhere, so that no two processes wait for each other.
    execute_each!(
        tx,
        "INSERT INTO last_pulls (repository_id, digest, pulled_at, pulled_by)
         SELECT r.id, x.value ->> 'digest', x.value ->> 'at', x.value ->> 'by'
         FROM json_each($1) x JOIN repositories r ON r.name = x.value ->> 'repository'
         WHERE TRUE ORDER BY 1, 2
         ON CONFLICT (repository_id, digest) DO UPDATE SET pulled_at = excluded.pulled_at, pulled_by = excluded.pulled_by
         WHERE excluded.pulled_at >= last_pulls.pulled_at",
        "INSERT INTO last_pulls (repository_id, digest, pulled_at, pulled_by)
         SELECT r.id, x.digest, x.at, x.by
         FROM jsonb_to_recordset(CAST($1 AS JSONB)) AS x(repository TEXT, digest TEXT, at BIGINT, by TEXT)
         JOIN repositories r ON r.name = x.repository
         ORDER BY 1, 2
         ON CONFLICT (repository_id, digest) DO UPDATE SET pulled_at = excluded.pulled_at, pulled_by = excluded.pulled_by
         WHERE excluded.pulled_at >= last_pulls.pulled_at",
        serde_json::to_string(&rows).unwrap_or_default(),
    )?;
    Ok(())
}

/// When a manifest was pulled last, and by whom.
///
/// # Errors
/// Those of the database.
pub async fn last(session: &mut Session, repository_id: &str, digest: &Digest) -> Result<Option<(i64, String)>> {
    query_opt!(
        session,
        (i64, String),
        "SELECT pulled_at, pulled_by FROM last_pulls WHERE repository_id = $1 AND digest = $2",
        repository_id,
        digest.as_str(),
    )
}

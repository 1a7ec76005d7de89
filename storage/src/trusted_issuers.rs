//! Trusted issuers: whose tokens stand for a machine, and which of them (RFC 8693).

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::names::new_id;
use crate::{execute, query_all, query_one, query_opt};

/// A trust: tokens of one issuer, for one audience, that fit the rules, stand for one machine.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct TrustedIssuer {
    /// Opaque id.
    pub id: String,
    /// The organization that trusts.
    pub org_id: String,
    /// The machine whose rights the tokens carry.
    pub user_id: String,
    /// What its maker called it.
    pub name: String,
    /// `iss` of the tokens, byte for byte.
    pub issuer: String,
    /// What `aud` of the tokens must hold.
    pub audience: String,
    /// A JSON object: claim → exact values, one of which it must have.
    pub rules: String,
    /// A JSON Web Key Set given by hand; `None` where the issuer publishes its own.
    pub keys: Option<String>,
    /// Moves with every change.
    pub version: i64,
    /// When it was made (unix seconds).
    pub created_at: i64,
    /// When a token last got in by it (unix seconds, to the minute).
    pub last_used_at: Option<i64>,
}

/// What a trust says, when it is made or changed.
#[derive(Debug, Clone, Copy)]
pub struct TrustTerms<'a> {
    /// What its maker calls it.
    pub name: &'a str,
    /// `iss` of the tokens.
    pub issuer: &'a str,
    /// What `aud` of the tokens must hold.
    pub audience: &'a str,
    /// A JSON object: claim → exact values.
    pub rules: &'a str,
    /// A JSON Web Key Set given by hand.
    pub keys: Option<&'a str>,
}

/// Finds a trust of an organization.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, id: &str) -> Result<Option<TrustedIssuer>> {
    query_opt!(session, TrustedIssuer, "SELECT * FROM trusted_issuers WHERE org_id = $1 AND id = $2", org_id, id)
}

/// At most `limit` trusts of an organization after the id `after`, in order of the id; for one machine alone where that is asked for.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    org_id: &str,
    user_id: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<TrustedIssuer>> {
    query_all!(
        session,
        TrustedIssuer,
        "SELECT * FROM trusted_issuers WHERE org_id = $1 AND id > $2 AND (CAST($4 AS TEXT) IS NULL OR user_id = $4)
         ORDER BY id LIMIT $3",
        org_id,
        after,
        limit,
        user_id,
    )
}

/// At most `limit` trusts of a machine, oldest first.
///
/// # Errors
/// Those of the database.
pub async fn list_of_user(
    session: &mut Session,
    org_id: &str,
    user_id: &str,
    limit: i64,
) -> Result<Vec<TrustedIssuer>> {
    query_all!(
        session,
        TrustedIssuer,
        "SELECT * FROM trusted_issuers WHERE user_id = $1 AND org_id = $2 ORDER BY id LIMIT $3",
        user_id,
        org_id,
        limit,
    )
}

/// How many trusts an organization has, and how many of them are of this machine.
///
/// # Errors
/// Those of the database.
pub async fn count(session: &mut Session, org_id: &str, user_id: &str) -> Result<(i64, i64)> {
    query_one!(
        session,
        (i64, i64),
        "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN user_id = $2 THEN 1 ELSE 0 END), 0) AS BIGINT)
         FROM trusted_issuers WHERE org_id = $1",
        org_id,
        user_id,
    )
}

/// Makes a trust.
///
/// # Errors
/// Those of the database.
pub async fn create(
    tx: &mut Tx,
    org_id: &str,
    user_id: &str,
    terms: &TrustTerms<'_>,
    now: i64,
) -> Result<TrustedIssuer> {
    let id = new_id();
    execute!(
        tx,
        "INSERT INTO trusted_issuers (id, org_id, user_id, name, issuer, audience, rules, keys, version, created_at,
                                      last_used_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 1, $9, NULL)",
        id.as_str(),
        org_id,
        user_id,
        terms.name,
        terms.issuer,
        terms.audience,
        terms.rules,
        terms.keys,
        now,
    )?;
    find(tx, org_id, &id).await?.ok_or(Error::NotFound("trusted issuer"))
}

/// Replaces what a trust says, and returns it as it is then. `expected` is the version that was read, if that matters.
///
/// # Errors
/// [`Error::Version`] where it changed since, [`Error::NotFound`], else those of the database.
pub async fn update(
    tx: &mut Tx,
    org_id: &str,
    id: &str,
    terms: &TrustTerms<'_>,
    expected: Option<i64>,
) -> Result<TrustedIssuer> {
    let touched = execute!(
        tx,
        "UPDATE trusted_issuers SET name = $3, issuer = $4, audience = $5, rules = $6, keys = $7, version = version + 1
         WHERE org_id = $1 AND id = $2 AND version = COALESCE($8, version)",
        org_id,
        id,
        terms.name,
        terms.issuer,
        terms.audience,
        terms.rules,
        terms.keys,
        expected,
    )?;
    let trust = find(tx, org_id, id).await?.ok_or(Error::NotFound("trusted issuer"))?;
    if touched == 0 { Err(Error::Version) } else { Ok(trust) }
}

/// Notes that a token got in by a trust.
///
/// # Errors
/// Those of the database.
pub async fn touch(tx: &mut Tx, id: &str, now: i64) -> Result<()> {
    execute!(tx, "UPDATE trusted_issuers SET last_used_at = $2 WHERE id = $1", id, now)?;
    Ok(())
}

/// Deletes a trust of the version that was read, if that matters.
///
/// # Errors
/// [`Error::Version`] where it changed since, [`Error::NotFound`], else those of the database.
pub async fn delete(tx: &mut Tx, org_id: &str, id: &str, expected: Option<i64>) -> Result<()> {
    let touched = execute!(
        tx,
        "DELETE FROM trusted_issuers WHERE org_id = $1 AND id = $2 AND version = COALESCE($3, version)",
        org_id,
        id,
        expected,
    )?;
    match touched {
        0 if find(tx, org_id, id).await?.is_some() => Err(Error::Version),
        0 => Err(Error::NotFound("trusted issuer")),
        _ => Ok(()),
    }
}

/// Deletes every trust of a machine in an organization, before its membership goes.
///
/// # Errors
/// Those of the database.
pub async fn delete_of_user(tx: &mut Tx, org_id: &str, user_id: &str) -> Result<u64> {
    execute!(tx, "DELETE FROM trusted_issuers WHERE org_id = $1 AND user_id = $2", org_id, user_id)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::memberships;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn trusts_are_made_listed_changed_once_a_version_and_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap().id;
        let new =
            NewUser { name: "ci:x", kind: "machine", operator: false, password_hash: None, temporary_until: None };
        let user = users::create(&mut tx, &new, 1).await.unwrap().id;
        memberships::create(&mut tx, &org, &user, 1).await.unwrap();
        let terms = TrustTerms {
            name: "t",
            issuer: "https://i.example",
            audience: "a",
            rules: "{}",
            keys: Some("{\"keys\":[]}"),
        };
        let first = create(&mut tx, &org, &user, &terms, 5).await.unwrap();
        let second = create(&mut tx, &org, &user, &TrustTerms { keys: None, ..terms }, 6).await.unwrap();
        assert_eq!((first.version, first.keys.as_deref(), &second.keys), (1, Some("{\"keys\":[]}"), &None));
        assert_eq!(count(&mut tx, &org, &user).await.unwrap(), (2, 2));
        assert_eq!(count(&mut tx, &org, "another").await.unwrap(), (2, 0));
        assert_eq!(count(&mut tx, "another", &user).await.unwrap(), (0, 0));
        let ids: Vec<String> = list(&mut tx, &org, None, "", 9).await.unwrap().into_iter().map(|t| t.id).collect();
        assert_eq!(list(&mut tx, &org, None, &ids[0], 9).await.unwrap()[0].id, ids[1]);
        assert_eq!(list_of_user(&mut tx, &org, &user, 1).await.unwrap().len(), 1);
        assert!(list_of_user(&mut tx, "another", &user, 9).await.unwrap().is_empty());

        let changed = TrustTerms { audience: "b", ..terms };
        let after = update(&mut tx, &org, &first.id, &changed, Some(1)).await.unwrap();
        assert_eq!((after.audience.as_str(), after.version), ("b", 2));
        assert!(matches!(update(&mut tx, &org, &first.id, &changed, Some(1)).await, Err(Error::Version)));
        assert!(matches!(update(&mut tx, "another", &first.id, &changed, None).await, Err(Error::NotFound(_))));
        touch(&mut tx, &first.id, 77).await.unwrap();
        assert_eq!(find(&mut tx, &org, &first.id).await.unwrap().unwrap().last_used_at, Some(77));
        assert_eq!(find(&mut tx, "another", &first.id).await.unwrap(), None);

        assert!(matches!(delete(&mut tx, &org, &first.id, Some(1)).await, Err(Error::Version)));
        assert!(matches!(delete(&mut tx, "another", &first.id, None).await, Err(Error::NotFound(_))));
        delete(&mut tx, &org, &first.id, Some(2)).await.unwrap();
        assert_eq!(delete_of_user(&mut tx, &org, &user).await.unwrap(), 1);
        assert_eq!(count(&mut tx, &org, &user).await.unwrap(), (0, 0));
    }
}

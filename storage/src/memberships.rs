//! Memberships: which users belong to which organization, and whether they are active there.

use crate::db::{Session, Tx};
use crate::error::{Error, Result};
use crate::groups;
use crate::users::row_name;
use crate::{execute, execute_each, query_all, query_one, query_opt};

/// A user as a member of one organization.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Member {
    /// The organization.
    pub org_id: String,
    /// The user.
    pub user_id: String,
    /// The user's normalised name, a machine's without its organization.
    pub name: String,
    /// `local` or `machine`.
    pub kind: String,
    /// Whether the user has access to this organization at all.
    pub active: bool,
    /// Since when (unix seconds).
    pub created_at: i64,
    /// First name, as this organization knows it; may be empty.
    pub first_name: String,
    /// Last name, as this organization knows it; may be empty.
    pub last_name: String,
    /// Longest validity of new API keys in days; `None`: what the organization says.
    pub key_valid_days: Option<i64>,
    /// When the user last came to this organization by any door (unix seconds, to the minute).
    pub last_access_at: Option<i64>,
    /// By which: `console`, `cli`, `api` or `registry`.
    pub last_access_door: Option<String>,
    /// When the last invitation was sent (unix seconds).
    pub invited_at: Option<i64>,
    /// Since when the user is here by their own act (unix seconds): before, what the organization asks of its people does not bind
    /// them, and it has no power over their log-ins.
    pub accepted_at: Option<i64>,
    /// Moves with every change of the profile.
    pub version: i64,
    /// Whether the user proved that the address is theirs.
    pub verified: bool,
    /// Whether the user has a second factor.
    pub mfa: bool,
}

/// What a list of members is drawn from.
#[derive(Debug, Clone, Default)]
pub struct MemberFilter<'a> {
    /// Text that is part of the name, or of first and last name, in any case.
    pub search: Option<&'a str>,
    /// `local` or `machine`.
    pub kind: Option<&'a str>,
    /// `active`, `inactive`, or `invited`: active, but never here so far.
    pub status: Option<&'a str>,
    /// Name of a group that they belong to.
    pub group: Option<&'a str>,
    /// Slug of a project that a binding of theirs is for.
    pub project: Option<&'a str>,
    /// A role that they hold, by token or by the name of a custom one.
    pub role: Option<&'a str>,
}

/// What may be changed of a member; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct UpdateMember<'a> {
    /// First name.
    pub first_name: Option<&'a str>,
    /// Last name.
    pub last_name: Option<&'a str>,
    /// Longest validity of new API keys in days, or the organization's.
    pub key_valid_days: Option<Option<i64>>,
}

/// A member's columns, and what a query goes on with.
macro_rules! select {
    (from $($rest:expr),+ $(,)?) => {
        concat!(
            "SELECT m.org_id, m.user_id,
                    CASE WHEN u.kind = 'machine' AND LENGTH(u.name) > LENGTH(m.org_id) + 1 THEN SUBSTR(u.name, 1, LENGTH(u.name) - LENGTH(m.org_id) - 1)
                         ELSE u.name END AS name,
                    u.kind, m.active, m.created_at, m.first_name, m.last_name, m.key_valid_days, m.last_access_at,
                    m.last_access_door, m.invited_at, m.accepted_at, m.version, u.verified,
                    (u.totp_confirmed_at IS NOT NULL
                     OR EXISTS (SELECT 1 FROM passkeys p WHERE p.user_id = u.id)) AS mfa
             FROM ",
            $($rest),+
        )
    };
    ($($rest:expr),+ $(,)?) => {
        select!(from "memberships m JOIN users u ON u.id = m.user_id ", $($rest),+)
    };
}

mod list;
pub use list::list;

/// Finds a member of an organization by user id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, user_id: &str) -> Result<Option<Member>> {
    query_opt!(session, Member, select!("WHERE m.org_id = $1 AND m.user_id = $2"), org_id, user_id)
}

/// Finds a member of an organization by normalised name, a machine by that without its organization.
///
/// # Errors
/// Those of the database.
pub async fn find_by_name(session: &mut Session, org_id: &str, name: &str) -> Result<Option<Member>> {
    let row = row_name(name, org_id);
    query_opt!(session, Member, select!("WHERE m.org_id = $1 AND u.name = $2"), org_id, row)
}

/// Ids of the living organizations in which the user is active.
///
/// # Errors
/// Those of the database.
pub async fn active_orgs(session: &mut Session, user_id: &str) -> Result<Vec<String>> {
    let rows = query_all!(
        session,
        (String,),
        "SELECT m.org_id FROM memberships m JOIN orgs o ON o.id = m.org_id
         WHERE m.user_id = $1 AND m.active = TRUE AND o.status = 'active' ORDER BY m.org_id LIMIT 10000",
        user_id,
    )?;
    Ok(rows.into_iter().map(|(org,)| org).collect())
}

/// Ids of the organizations that a user is active in and accepted, in their order, whether or not these are suspended.
///
/// # Errors
/// Those of the database.
pub async fn accepted_orgs(session: &mut Session, user_id: &str) -> Result<Vec<String>> {
    let rows = query_all!(
        session,
        (String,),
        "SELECT org_id FROM memberships WHERE user_id = $1 AND active = TRUE AND accepted_at IS NOT NULL
         ORDER BY org_id LIMIT 10000",
        user_id,
    )?;
    Ok(rows.into_iter().map(|(org,)| org).collect())
}

/// How many people of an organization have no second factor, of those who are active there by their own act: of the others it
/// would tell whether they have an account elsewhere.
///
/// # Errors
/// Those of the database.
pub async fn count_without_factor(session: &mut Session, org_id: &str) -> Result<i64> {
    let (count,) = query_one!(
        session,
        (i64,),
        "SELECT COUNT(*) FROM memberships m JOIN users u ON u.id = m.user_id
         WHERE m.org_id = $1 AND m.active = TRUE AND m.accepted_at IS NOT NULL AND u.kind = 'local'
         AND u.totp_confirmed_at IS NULL AND NOT EXISTS (SELECT 1 FROM passkeys p WHERE p.user_id = u.id)",
        org_id,
    )?;
    Ok(count)
}

/// To how many organizations a user belongs, active there or not.
///
/// # Errors
/// Those of the database.
pub async fn count_of_user(session: &mut Session, user_id: &str) -> Result<i64> {
    let (count,) = query_one!(session, (i64,), "SELECT COUNT(*) FROM memberships WHERE user_id = $1", user_id)?;
    Ok(count)
}

/// In how many organizations other than this one a user is active that they accepted.
///
/// # Errors
/// Those of the database.
pub async fn count_elsewhere(session: &mut Session, user_id: &str, org_id: &str) -> Result<i64> {
    let (count,) = query_one!(
        session,
        (i64,),
        "SELECT COUNT(*) FROM memberships
         WHERE user_id = $1 AND org_id <> $2 AND active = TRUE AND accepted_at IS NOT NULL",
        user_id,
        org_id,
    )?;
    Ok(count)
}

/// Makes a user an active member of an organization, who did not accept it yet ([`accept`]).
///
/// # Errors
/// [`Error::Conflict`] where the user belongs to it already, else those of the database.
pub async fn create(tx: &mut Tx, org_id: &str, user_id: &str, now: i64) -> Result<Member> {
    let made = execute!(
        tx,
        "INSERT INTO memberships (org_id, user_id, name, kind, active, created_at)
         VALUES ($1, $2, (SELECT name FROM users WHERE id = $2), (SELECT kind FROM users WHERE id = $2), TRUE, $3)
         ON CONFLICT (org_id, user_id) DO NOTHING",
        org_id,
        user_id,
        now,
    )?;
    if made == 0 {
        return Err(Error::Conflict("the user belongs to this organization already"));
    }
    let member = find(tx, org_id, user_id).await?.ok_or(Error::NotFound("user"))?;
    update_searched(tx, &member).await?;
    Ok(member)
}

/// Keeps what a member is searched in as the member is.
async fn update_searched(tx: &mut Tx, member: &Member) -> Result<()> {
    let Member { org_id, user_id, name, first_name, last_name, .. } = member;
    let searched = format!("{name} {first_name} {last_name}").to_lowercase();
    let sql = "UPDATE memberships SET searched = $3 WHERE org_id = $1 AND user_id = $2 AND searched <> $3";
    if execute!(tx, sql, org_id.as_str(), user_id.as_str(), searched.as_str())? > 0 {
        let sql = "UPDATE group_members SET searched = $3 WHERE org_id = $1 AND user_id = $2";
        execute!(tx, sql, org_id.as_str(), user_id.as_str(), searched.as_str())?;
    }
    Ok(())
}

/// Changes a member's profile. `expected` is the version that was read, if that matters.
///
/// # Errors
/// [`Error::Version`] where the member changed since, [`Error::NotFound`], else those of the database.
pub async fn update(
    tx: &mut Tx,
    org_id: &str,
    user_id: &str,
    change: &UpdateMember<'_>,
    expected: Option<i64>,
) -> Result<Member> {
    let touched = execute!(
        tx,
        "UPDATE memberships SET version = version + 1, first_name = COALESCE($3, first_name),
                last_name = COALESCE($4, last_name), key_valid_days = CASE WHEN $5 THEN $6 ELSE key_valid_days END
         WHERE org_id = $1 AND user_id = $2 AND (CAST($7 AS BIGINT) IS NULL OR version = $7)",
        org_id,
        user_id,
        change.first_name,
        change.last_name,
        change.key_valid_days.is_some(),
        change.key_valid_days.flatten(),
        expected,
    )?;
    match find(tx, org_id, user_id).await? {
        Some(member) if touched > 0 => {
            update_searched(tx, &member).await?;
            Ok(member)
        }
        Some(_) => Err(Error::Version),
        None => Err(Error::NotFound("user")),
    }
}

/// Notes that an invitation was sent.
///
/// # Errors
/// Those of the database.
pub async fn update_invited(tx: &mut Tx, org_id: &str, user_id: &str, now: i64) -> Result<()> {
    let sql = "UPDATE memberships SET invited_at = $3 WHERE org_id = $1 AND user_id = $2";
    execute!(tx, sql, org_id, user_id, now)?;
    Ok(())
}

/// Notes that a user is in an organization by their own act. True where that was not known.
///
/// # Errors
/// Those of the database.
pub async fn accept(tx: &mut Tx, org_id: &str, user_id: &str, now: i64) -> Result<bool> {
    let sql = "UPDATE memberships SET accepted_at = $3 WHERE org_id = $1 AND user_id = $2 AND accepted_at IS NULL";
    Ok(execute!(tx, sql, org_id, user_id, now)? > 0)
}

/// As [`accept`], for the organization that invited the user last.
///
/// # Errors
/// Those of the database.
pub async fn accept_last_invitation(tx: &mut Tx, user_id: &str, now: i64) -> Result<()> {
    execute!(
        tx,
        "UPDATE memberships SET accepted_at = $2 WHERE user_id = $1 AND accepted_at IS NULL
         AND invited_at = (SELECT MAX(x.invited_at) FROM memberships x WHERE x.user_id = $1)",
        user_id,
        now,
    )?;
    Ok(())
}

/// Notes that a user came to an organization by a door. For somebody who is no member of it nothing happens.
///
/// # Errors
/// Those of the database.
pub async fn update_last_access(tx: &mut Tx, org_id: &str, user_id: &str, door: &str, now: i64) -> Result<()> {
    execute!(
        tx,
        "UPDATE memberships SET last_access_at = $3, last_access_door = $4 WHERE org_id = $1 AND user_id = $2",
        org_id,
        user_id,
        now,
        door,
    )?;
    Ok(())
}

/// Takes a user out of an organization, with everything that was theirs there: bindings, groups, API keys, trusted issuers,
/// and what is in flight for a session in it.
///
/// # Errors
/// [`Error::NotFound`] where they are no member, else those of the database.
pub async fn delete(tx: &mut Tx, org_id: &str, user_id: &str) -> Result<()> {
    // First, because it locks the row: nothing new can be hung on a member who is going. An update alone would not keep
    // PostgreSQL from letting rows refer to it.
    let found = execute_each!(
        tx,
        "UPDATE memberships SET active = FALSE WHERE org_id = $1 AND user_id = $2",
        "SELECT 1 FROM memberships WHERE org_id = $1 AND user_id = $2 FOR UPDATE",
        org_id,
        user_id,
    )?;
    if found == 0 {
        return Err(Error::NotFound("user"));
    }
    execute!(tx, "DELETE FROM bindings WHERE org_id = $1 AND user_id = $2", org_id, user_id)?;
    groups::remove_from_all(tx, org_id, user_id).await?;
    execute!(tx, "DELETE FROM api_keys WHERE org_id = $1 AND user_id = $2", org_id, user_id)?;
    execute!(tx, "DELETE FROM trusted_issuers WHERE org_id = $1 AND user_id = $2", org_id, user_id)?;
    execute!(tx, "DELETE FROM device_grants WHERE org_id = $1 AND user_id = $2", org_id, user_id)?;
    execute!(tx, "UPDATE sessions SET org_id = NULL WHERE org_id = $1 AND user_id = $2", org_id, user_id)?;
    execute!(tx, "DELETE FROM memberships WHERE org_id = $1 AND user_id = $2", org_id, user_id)?;
    Ok(())
}

/// Takes a member's access away or gives it back. True where that changed anything.
///
/// # Errors
/// Those of the database.
pub async fn update_active(tx: &mut Tx, org_id: &str, user_id: &str, active: bool) -> Result<bool> {
    let touched = execute!(
        tx,
        "UPDATE memberships SET active = $3 WHERE org_id = $1 AND user_id = $2 AND active <> $3",
        org_id,
        user_id,
        active,
    )?;
    Ok(touched > 0)
}

/// How many active members hold the role on the whole organization, by themselves or through a group: people who proved that
/// the address is theirs, since nobody else could make another one. The organization's row is locked until the transaction ends where the engine has row locks: two who would each take one away do so one after the other.
///
/// # Errors
/// Those of the database.
pub async fn count_active_holders(tx: &mut Tx, org_id: &str, role: &str) -> Result<i64> {
    execute!(tx, "UPDATE orgs SET name = name WHERE id = $1", org_id)?;
    let (count,) = query_one!(
        tx,
        (i64,),
        "SELECT COUNT(*) FROM memberships m JOIN users u ON u.id = m.user_id
         WHERE m.org_id = $1 AND m.active = TRUE AND u.kind <> 'machine' AND u.verified = TRUE AND m.user_id IN (
             SELECT b.user_id FROM bindings b
             WHERE b.org_id = $1 AND b.role = $2 AND b.project_id IS NULL AND b.user_id IS NOT NULL
             UNION SELECT x.user_id FROM bindings b JOIN group_members x ON x.group_id = b.group_id
             WHERE b.org_id = $1 AND b.role = $2 AND b.project_id IS NULL)",
        org_id,
        role,
    )?;
    Ok(count)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::bindings::{self, NewBinding, Subject};
    use crate::db::testing;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};

    #[tokio::test]
    async fn members_are_added_once_deactivated_and_counted() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        let mut ids = Vec::new();
        let machine = row_name("ci", &org.id);
        for (name, kind, temporary_until) in [
            ("bob@a.example", "local", None),
            ("ann@a.example", "local", None),
            ("eve@a.example", "local", Some(9)),
            (machine.as_str(), "machine", None),
        ] {
            let new = NewUser { name, kind, operator: false, password_hash: None, temporary_until };
            let user = users::create(&mut tx, &new, 1).await.unwrap();
            create(&mut tx, &org.id, &user.id, 2).await.unwrap();
            assert!(create(&mut tx, &org.id, &user.id, 2).await.unwrap_err().is_conflict());
            let new = NewBinding {
                org_id: &org.id,
                subject: Subject::User(&user.id),
                role: "ADMIN",
                project_id: None,
                namespaces: &[],
            };
            bindings::create(&mut tx, &new, 3).await.unwrap();
            ids.push(user.id);
        }
        assert_eq!(
            count_active_holders(&mut tx, &org.id, "ADMIN").await.unwrap(),
            2,
            "no machine, and nobody unverified"
        );
        assert!(update_active(&mut tx, &org.id, &ids[0], false).await.unwrap());
        assert!(!update_active(&mut tx, &org.id, &ids[0], false).await.unwrap());
        assert_eq!(count_active_holders(&mut tx, &org.id, "ADMIN").await.unwrap(), 1);
        assert!(active_orgs(&mut tx, &ids[0]).await.unwrap().is_empty());
        assert_eq!(active_orgs(&mut tx, &ids[1]).await.unwrap(), [org.id.as_str()]);
        let names: Vec<String> = list(&mut tx, &org.id, &MemberFilter::default(), "", 9)
            .await
            .unwrap()
            .into_iter()
            .map(|m| m.name)
            .collect();
        assert_eq!(names, ["ann@a.example", "bob@a.example", "ci", "eve@a.example"]);
        assert!(!find_by_name(&mut tx, &org.id, "bob@a.example").await.unwrap().unwrap().active);
        assert_eq!(orgs::list_of_user(&mut tx, &ids[1], "", 9).await.unwrap(), [org]);
    }

    #[tokio::test]
    async fn what_was_not_accepted_does_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let (acme, other) = people(&mut tx).await;
        let ann = find_by_name(&mut tx, &acme.id, "ann@a.example").await.unwrap().unwrap().user_id;
        create(&mut tx, &other.id, &ann, 3).await.unwrap();
        assert!(accepted_orgs(&mut tx, &ann).await.unwrap().is_empty());
        assert!(orgs::settings_of_user(&mut tx, &ann).await.unwrap().is_empty());
        assert!(accept(&mut tx, &acme.id, &ann, 4).await.unwrap());
        assert!(!accept(&mut tx, &acme.id, &ann, 5).await.unwrap());
        assert_eq!(find(&mut tx, &acme.id, &ann).await.unwrap().unwrap().accepted_at, Some(4));
        assert_eq!(accepted_orgs(&mut tx, &ann).await.unwrap(), [acme.id.as_str()]);
        assert_eq!(orgs::settings_of_user(&mut tx, &ann).await.unwrap().len(), 1);
        assert_eq!(count_elsewhere(&mut tx, &ann, &acme.id).await.unwrap(), 0);
        assert_eq!(count_elsewhere(&mut tx, &ann, &other.id).await.unwrap(), 1);
        update_invited(&mut tx, &other.id, &ann, 6).await.unwrap();
        accept_last_invitation(&mut tx, &ann, 7).await.unwrap();
        assert_eq!(find(&mut tx, &other.id, &ann).await.unwrap().unwrap().accepted_at, Some(7));
        assert_eq!(count_elsewhere(&mut tx, &ann, &acme.id).await.unwrap(), 1);
        update_active(&mut tx, &other.id, &ann, false).await.unwrap();
        assert_eq!(count_elsewhere(&mut tx, &ann, &acme.id).await.unwrap(), 0);
    }

    async fn names(tx: &mut Tx, org: &str, filter: MemberFilter<'_>) -> String {
        let members = list(tx, org, &filter, "", 99).await.unwrap();
        members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(" ")
    }

    /// `acme` with ann (Ann Smith), bob and the machine ci, which is called so in `other` too.
    async fn people(tx: &mut Tx) -> (orgs::Org, orgs::Org) {
        let acme = orgs::create(tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        let other = orgs::create(tx, &NewOrg { slug: &"other".parse().unwrap(), name: "O" }, 1).await.unwrap();
        for (name, kind, org) in [
            ("ann@a.example", "local", &acme),
            ("bob_1@a.example", "local", &acme),
            ("ci", "machine", &acme),
            ("ci", "machine", &other),
        ] {
            let name = row_name(name, &org.id);
            let new = NewUser { name: &name, kind, operator: false, password_hash: None, temporary_until: None };
            let user = users::create(tx, &new, 1).await.unwrap();
            create(tx, &org.id, &user.id, 2).await.unwrap();
        }
        (acme, other)
    }

    #[tokio::test]
    async fn lists_are_searched_filtered_and_paged() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let (acme, other) = people(&mut tx).await;
        let ann = find_by_name(&mut tx, &acme.id, "ann@a.example").await.unwrap().unwrap();
        let bob = find_by_name(&mut tx, &acme.id, "bob_1@a.example").await.unwrap().unwrap();
        let ci = find_by_name(&mut tx, &acme.id, "ci").await.unwrap().unwrap();
        assert_ne!(ci.user_id, find_by_name(&mut tx, &other.id, "ci").await.unwrap().unwrap().user_id);
        assert_eq!(count_without_factor(&mut tx, &acme.id).await.unwrap(), 0);
        accept(&mut tx, &acme.id, &ann.user_id, 4).await.unwrap();
        assert_eq!(count_without_factor(&mut tx, &acme.id).await.unwrap(), 1);
        assert_eq!((ann.version, ann.mfa, ann.verified, ann.last_access_at), (1, false, true, None));

        let change = UpdateMember { first_name: Some("Ann"), last_name: Some("Smith"), key_valid_days: Some(Some(30)) };
        let changed = update(&mut tx, &acme.id, &ann.user_id, &change, Some(1)).await.unwrap();
        assert_eq!((changed.first_name.as_str(), changed.key_valid_days, changed.version), ("Ann", Some(30), 2));
        let stale = update(&mut tx, &acme.id, &ann.user_id, &change, Some(1)).await;
        assert!(matches!(stale, Err(Error::Version)));
        let change = UpdateMember { key_valid_days: Some(None), ..UpdateMember::default() };
        let changed = update(&mut tx, &acme.id, &ann.user_id, &change, None).await.unwrap();
        assert_eq!((changed.first_name.as_str(), changed.key_valid_days), ("Ann", None));
        assert!(matches!(update(&mut tx, &acme.id, "nope", &change, None).await, Err(Error::NotFound(_))));

        update_invited(&mut tx, &acme.id, &bob.user_id, 7).await.unwrap();
        update_last_access(&mut tx, &acme.id, &ann.user_id, "console", 9).await.unwrap();
        let ann = find(&mut tx, &acme.id, &ann.user_id).await.unwrap().unwrap();
        assert_eq!((ann.last_access_at, ann.last_access_door.as_deref()), (Some(9), Some("console")));
        update_active(&mut tx, &acme.id, &bob.user_id, false).await.unwrap();

        crate::execute!(
            tx,
            "INSERT INTO groups (id, org_id, name, description, builtin, version, created_at)
             VALUES ('g1', $1, 'dev', '', NULL, 1, 1), ('g2', $1, 'All Local Users', '', 'local-users', 1, 1)",
            acme.id.as_str(),
        )
        .unwrap();
        let dev = crate::groups::find(&mut tx, &acme.id, "g1").await.unwrap().unwrap();
        crate::groups::add_member(&mut tx, &dev, &bob.user_id, 1).await.unwrap();
        let sql = "INSERT INTO projects (id, org_id, slug, public, sparse, created_at) VALUES ('p', $1, 'web', FALSE, FALSE, 1)";
        crate::execute!(tx, sql, acme.id.as_str()).unwrap();
        crate::execute!(
            tx,
            "INSERT INTO bindings (id, org_id, user_id, group_id, role, project_id, namespaces, builtin, created_at, name)
             VALUES ('b1', $1, NULL, 'g1', 'PROJECT_ADMIN', 'p', '[]', FALSE, 1, ''),
                    ('b2', $1, $2, NULL, 'AUDITOR', NULL, '[]', FALSE, 1,
                     (SELECT m.name FROM memberships m WHERE m.org_id = $1 AND m.user_id = $2))",
            acme.id.as_str(),
            ci.user_id.as_str(),
        )
        .unwrap();

        let all = MemberFilter::default;
        assert_eq!(names(&mut tx, &acme.id, all()).await, "ann@a.example bob_1@a.example ci");
        for (search, found) in [
            ("SMITH", "ann@a.example"),
            ("b_1", "bob_1@a.example"),
            ("%", ""),
            ("a.ex", "ann@a.example bob_1@a.example"),
        ] {
            assert_eq!(
                names(&mut tx, &acme.id, MemberFilter { search: Some(search), ..all() }).await,
                found,
                "{search}"
            );
        }
        assert_eq!(names(&mut tx, &acme.id, MemberFilter { kind: Some("machine"), ..all() }).await, "ci");
        for (status, found) in [("active", "ann@a.example ci"), ("inactive", "bob_1@a.example"), ("invited", "")] {
            assert_eq!(
                names(&mut tx, &acme.id, MemberFilter { status: Some(status), ..all() }).await,
                found,
                "{status}"
            );
        }
        for (group, found) in
            [("dev", "bob_1@a.example"), ("All Local Users", "ann@a.example bob_1@a.example"), ("x", "")]
        {
            assert_eq!(names(&mut tx, &acme.id, MemberFilter { group: Some(group), ..all() }).await, found, "{group}");
        }
        assert_eq!(names(&mut tx, &acme.id, MemberFilter { project: Some("web"), ..all() }).await, "bob_1@a.example");
        assert_eq!(names(&mut tx, &acme.id, MemberFilter { role: Some("AUDITOR"), ..all() }).await, "ci");
        let both = MemberFilter { role: Some("AUDITOR"), project: Some("web"), ..all() };
        assert_eq!(names(&mut tx, &acme.id, both).await, "");
        let first = list(&mut tx, &acme.id, &all(), "", 2).await.unwrap();
        let rest = list(&mut tx, &acme.id, &all(), &first[1].name, 2).await.unwrap();
        assert_eq!((first.len(), rest.len(), rest[0].name.as_str()), (2, 1, "ci"));
        assert!(list(&mut tx, &acme.id, &all(), "ci", 2).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_member_who_goes_takes_everything_along() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let (acme, other) = people(&mut tx).await;
        let ann = find_by_name(&mut tx, &acme.id, "ann@a.example").await.unwrap().unwrap();
        create(&mut tx, &other.id, &ann.user_id, 3).await.unwrap();
        for org in [&acme, &other] {
            let key = crate::api_keys::NewApiKey {
                id: &org.slug,
                org_id: &org.id,
                user_id: &ann.user_id,
                name: "k",
                secret_hash: "x",
                expires_at: None,
                projects: None,
                permissions: None,
                created_by: &ann.user_id,
            };
            crate::api_keys::create(&mut tx, &key, 1).await.unwrap();
        }
        delete(&mut tx, &acme.id, &ann.user_id).await.unwrap();
        assert!(matches!(delete(&mut tx, &acme.id, &ann.user_id).await, Err(Error::NotFound(_))));
        assert_eq!(active_orgs(&mut tx, &ann.user_id).await.unwrap(), [other.id.as_str()]);
        assert_eq!(count_of_user(&mut tx, &ann.user_id).await.unwrap(), 1);
        assert!(crate::api_keys::find(&mut tx, "acme").await.unwrap().is_none());
        assert!(crate::api_keys::find(&mut tx, "other").await.unwrap().is_some());
    }
}

//! Groups: sets of an organization's members that roles are bound to. Two are part of every organization: one of every local
//! member, which grants nothing and has no rows of its own, and one of those who administer it.

use crate::db::{Session, Tx, parts, within};
use crate::error::{Error, Result};
use crate::names::new_id;
use crate::{execute, execute_each, query_all, query_all_each, query_opt};

/// [`Group::builtin`] of the group of every local member.
pub const LOCAL_USERS: &str = "local-users";
/// [`Group::builtin`] of the group of those who administer the organization.
pub const ORGANIZATION_ADMINS: &str = "organization-admins";

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Group {
    /// Opaque id.
    pub id: String,
    /// The organization.
    pub org_id: String,
    /// What people call it; unique in the organization.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// [`LOCAL_USERS`] or [`ORGANIZATION_ADMINS`] where it is part of the organization itself.
    pub builtin: Option<String>,
    /// Moves with every change of its name or description.
    pub version: i64,
    /// When it was made (unix seconds).
    pub created_at: i64,
}

/// What a new group needs.
#[derive(Debug, Clone)]
pub struct NewGroup<'a> {
    /// The organization.
    pub org_id: &'a str,
    /// What people call it.
    pub name: &'a str,
    /// What it is for.
    pub description: &'a str,
}

/// What to change of a group; `None` leaves it.
#[derive(Debug, Clone, Default)]
pub struct UpdateGroup<'a> {
    /// What people call it.
    pub name: Option<&'a str>,
    /// What it is for.
    pub description: Option<&'a str>,
    /// The version that the change was made for, if that matters.
    pub expected: Option<i64>,
}

/// Somebody in a group.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct GroupMember {
    /// The user.
    pub user_id: String,
    /// The name of the user's row.
    pub name: String,
    /// `local` or `machine`.
    pub kind: String,
    /// Whether the user has access to the organization.
    pub active: bool,
    /// Since when (unix seconds).
    pub created_at: i64,
}

/// What a group is made of, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct GroupCounts {
    /// The group.
    pub id: String,
    /// How many were put into it.
    pub members: i64,
    /// How many roles it was given.
    pub roles: i64,
}

/// Finds a group of an organization by its id.
///
/// # Errors
/// Those of the database.
pub async fn find(session: &mut Session, org_id: &str, id: &str) -> Result<Option<Group>> {
    query_opt!(session, Group, "SELECT * FROM groups WHERE org_id = $1 AND id = $2", org_id, id)
}

/// Finds a group of an organization by its name.
///
/// # Errors
/// Those of the database.
pub async fn find_by_name(session: &mut Session, org_id: &str, name: &str) -> Result<Option<Group>> {
    query_opt!(session, Group, "SELECT * FROM groups WHERE org_id = $1 AND name = $2", org_id, name)
}

/// Finds a group that is part of the organization itself.
///
/// # Errors
/// Those of the database.
pub async fn find_builtin(session: &mut Session, org_id: &str, builtin: &str) -> Result<Option<Group>> {
    query_opt!(session, Group, "SELECT * FROM groups WHERE org_id = $1 AND builtin = $2", org_id, builtin)
}

macro_rules! listed {
    ($which:literal) => {
        concat!(
            "SELECT * FROM groups WHERE ",
            $which,
            " AND (CAST($3 AS TEXT) IS NULL OR LOWER(name) LIKE $3 ESCAPE '!' OR LOWER(description) LIKE $3 ESCAPE '!')
             ORDER BY name LIMIT $4"
        )
    };
}

/// At most `limit` groups of an organization after the name `after`, in byte order of the name; of one member alone, or with
/// a text in name or description, where that is asked for.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    org_id: &str,
    member: Option<&str>,
    search: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<Group>> {
    let search = search.map(crate::db::like);
    let Some(member) = member else {
        return query_all!(session, Group, listed!("org_id = $1 AND name > $2"), org_id, after, search, limit);
    };
    query_all!(session, Group, OF_MEMBER, org_id, after, search, limit, member)
}

/// Those of a member lead, written so that no engine reads all groups in the order of names.
static OF_MEMBER: &str = listed!(
    "id IN (SELECT x.group_id FROM group_members x WHERE x.user_id = $5 AND x.org_id = $1
            UNION ALL SELECT b.id FROM groups b WHERE b.org_id = $1 AND b.builtin = 'local-users'
            AND EXISTS (SELECT 1 FROM memberships m WHERE m.org_id = $1 AND m.user_id = $5 AND m.kind = 'local'))
     AND org_id || '' = $1 AND name || '' > $2"
);

/// How many members and roles these groups of an organization have.
///
/// # Errors
/// Those of the database.
pub async fn counts(session: &mut Session, org_id: &str, ids: &[&str]) -> Result<Vec<GroupCounts>> {
    let ids = serde_json::to_string(ids).map_err(|e| Error::Damaged(e.to_string()))?;
    query_all_each!(
        session,
        GroupCounts,
        "SELECT g.id, g.members,
                (SELECT COUNT(*) FROM bindings b WHERE b.group_id = g.id AND b.org_id = g.org_id) AS roles
         FROM groups g WHERE g.org_id = $1 AND g.id IN (SELECT value FROM json_each($2))",
        "SELECT g.id, g.members,
                (SELECT COUNT(*) FROM bindings b WHERE b.group_id = g.id AND b.org_id = g.org_id) AS roles
         FROM groups g
         WHERE g.org_id = $1 AND g.id IN (SELECT json_array_elements_text(CAST(CAST($2 AS TEXT) AS JSON)))",
        org_id,
        ids.as_str(),
    )
}

/// How many groups an organization has.
///
/// # Errors
/// Those of the database.
pub async fn count(session: &mut Session, org_id: &str) -> Result<i64> {
    let found = query_opt!(session, (i64,), "SELECT COUNT(*) FROM groups WHERE org_id = $1", org_id)?;
    Ok(found.map_or(0, |(count,)| count))
}

/// Creates a group.
///
/// # Errors
/// [`Error::Conflict`] where the name is taken, else those of the database.
pub async fn create(tx: &mut Tx, new: &NewGroup<'_>, now: i64) -> Result<Group> {
    insert(tx, new, None, now).await
}

/// Creates the groups that are part of every organization, and the role that comes with the second. Returns that one.
///
/// # Errors
/// [`Error::Conflict`] where they are there already, else those of the database.
pub async fn create_builtin(tx: &mut Tx, org_id: &str, admin_role: &str, now: i64) -> Result<Group> {
    let (name, description) = ("All Local Users", "Every local user of the organization; grants nothing.");
    insert(tx, &NewGroup { org_id, name, description }, Some(LOCAL_USERS), now).await?;
    let (name, description) = ("Organization Admins", "Administers the organization.");
    let admins = insert(tx, &NewGroup { org_id, name, description }, Some(ORGANIZATION_ADMINS), now).await?;
    execute!(
        tx,
        "INSERT INTO bindings (id, org_id, user_id, group_id, role, project_id, namespaces, builtin, created_at)
         VALUES ($1, $2, NULL, $3, $4, NULL, '[]', TRUE, $5)",
        new_id(),
        org_id,
        admins.id.as_str(),
        admin_role,
        now,
    )?;
    Ok(admins)
}

async fn insert(tx: &mut Tx, new: &NewGroup<'_>, builtin: Option<&str>, now: i64) -> Result<Group> {
    let group = Group {
        id: new_id(),
        org_id: new.org_id.to_owned(),
        name: new.name.to_owned(),
        description: new.description.to_owned(),
        builtin: builtin.map(ToOwned::to_owned),
        version: 1,
        created_at: now,
    };
    let made = execute!(
        tx,
        "INSERT INTO groups (id, org_id, name, description, builtin, version, created_at)
         VALUES ($1, $2, $3, $4, $5, 1, $6) ON CONFLICT (org_id, name) DO NOTHING",
        group.id.as_str(),
        group.org_id.as_str(),
        group.name.as_str(),
        group.description.as_str(),
        builtin,
        now,
    )?;
    if made == 0 {
        return Err(Error::Conflict("a group of that name exists already"));
    }
    Ok(group)
}

/// Changes a group.
///
/// # Errors
/// [`Error::Conflict`] where the name is taken, [`Error::Version`], [`Error::NotFound`], else those of the database.
pub async fn update(tx: &mut Tx, org_id: &str, id: &str, change: &UpdateGroup<'_>) -> Result<Group> {
    let changed = query_opt!(
        tx,
        Group,
        "UPDATE groups SET name = COALESCE($3, name), description = COALESCE($4, description), version = version + 1
         WHERE org_id = $1 AND id = $2 AND (CAST($5 AS BIGINT) IS NULL OR version = $5)
           AND NOT EXISTS (SELECT 1 FROM groups o WHERE o.org_id = $1 AND o.name = $3 AND o.id <> $2)
         RETURNING *",
        org_id,
        id,
        change.name,
        change.description,
        change.expected,
    )?;
    match (changed, find(tx, org_id, id).await?) {
        (Some(group), _) => Ok(group),
        (None, None) => Err(Error::NotFound("group")),
        (None, Some(group)) if change.expected.is_some_and(|version| version != group.version) => Err(Error::Version),
        (None, Some(_)) => Err(Error::Conflict("a group of that name exists already")),
    }
}

/// Locks a group's row: who is in it and what it is given is changed by one at a time.
///
/// # Errors
/// [`Error::NotFound`], else those of the database.
pub async fn lock(tx: &mut Tx, org_id: &str, id: &str) -> Result<Group> {
    let sql = "UPDATE groups SET version = version WHERE org_id = $1 AND id = $2 RETURNING *";
    query_opt!(tx, Group, sql, org_id, id)?.ok_or(Error::NotFound("group"))
}

/// Deletes a group with its memberships and bindings. The caller bumps its members' epochs before.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &mut Tx, org_id: &str, id: &str) -> Result<bool> {
    execute!(tx, "DELETE FROM bindings WHERE org_id = $1 AND group_id = $2", org_id, id)?;
    execute!(tx, "DELETE FROM group_members WHERE org_id = $1 AND group_id = $2", org_id, id)?;
    Ok(execute!(tx, "DELETE FROM groups WHERE org_id = $1 AND id = $2", org_id, id)? > 0)
}

/// Moves the grants' epoch of every member of a group.
///
/// # Errors
/// Those of the database.
pub async fn bump_members(tx: &mut Tx, id: &str) -> Result<()> {
    // PostgreSQL locks in the order of ids, so that two who touch the same users cannot wait for each other.
    execute_each!(
        tx,
        "UPDATE users SET grants_epoch = grants_epoch + 1
         WHERE id IN (SELECT user_id FROM group_members WHERE group_id = $1)",
        "UPDATE users SET grants_epoch = grants_epoch + 1
         WHERE id IN (SELECT id FROM users WHERE id IN (SELECT user_id FROM group_members WHERE group_id = $1)
                      ORDER BY id FOR UPDATE)",
        id,
    )?;
    Ok(())
}

macro_rules! copied {
    ($lock:literal) => {
        concat!(
            "INSERT INTO group_members (group_id, user_id, org_id, created_at, name, searched)
             SELECT CAST($1 AS TEXT), m.user_id, m.org_id, CAST($4 AS BIGINT), m.name, m.searched FROM memberships m
             WHERE m.org_id = $3 AND m.user_id = $2",
            $lock,
            " ON CONFLICT (group_id, user_id) DO NOTHING"
        )
    };
}

/// Makes a member of the group's organization a member of the group.
///
/// # Errors
/// [`Error::Conflict`] where the user is in it already, or is no member of the organization, else those of the database.
pub async fn add_member(tx: &mut Tx, group: &Group, user_id: &str, now: i64) -> Result<()> {
    // The member's row is held in PostgreSQL, so that what is copied of it stays as it is.
    let made =
        execute_each!(tx, copied!(""), copied!(" FOR SHARE"), group.id.as_str(), user_id, group.org_id.as_str(), now,)?;
    if made == 0 {
        return Err(Error::Conflict("the user is in that group already"));
    }
    execute!(tx, "UPDATE groups SET members = members + 1 WHERE id = $1", group.id.as_str())?;
    Ok(())
}

/// Takes a user out of a group. True where they were in it.
///
/// # Errors
/// Those of the database.
pub async fn remove_member(tx: &mut Tx, group: &Group, user_id: &str) -> Result<bool> {
    let sql = "DELETE FROM group_members WHERE group_id = $1 AND user_id = $2";
    let removed = execute!(tx, sql, group.id.as_str(), user_id)? > 0;
    if removed {
        execute!(tx, "UPDATE groups SET members = members - 1 WHERE id = $1", group.id.as_str())?;
    }
    Ok(removed)
}

/// Takes a user out of every group of an organization.
///
/// # Errors
/// Those of the database.
pub(crate) async fn remove_from_all(tx: &mut Tx, org_id: &str, user_id: &str) -> Result<()> {
    // PostgreSQL locks the groups in the order of names, as whoever puts somebody into several does.
    execute_each!(
        tx,
        "UPDATE groups SET members = members - 1 WHERE id IN (SELECT group_id FROM group_members WHERE org_id = $1 AND user_id = $2)",
        "UPDATE groups SET members = members - 1 WHERE id IN (
             SELECT id FROM groups WHERE id IN (SELECT group_id FROM group_members WHERE org_id = $1 AND user_id = $2)
             ORDER BY name FOR UPDATE)",
        org_id,
        user_id,
    )?;
    execute!(tx, "DELETE FROM group_members WHERE org_id = $1 AND user_id = $2", org_id, user_id)?;
    Ok(())
}

/// At most `limit` members of a group after the name `after`, in byte order of the name; with a text in their name or first
/// and last name where that is asked for.
///
/// # Errors
/// Those of the database.
pub async fn members(
    session: &mut Session,
    group: &Group,
    search: Option<&str>,
    after: &str,
    limit: i64,
) -> Result<Vec<GroupMember>> {
    let text = search.unwrap_or_default();
    let search = within(session, "", text);
    let everybody = group.builtin.as_deref() == Some(LOCAL_USERS);
    if let Some(ids) = parts::MEMBERS.few(session, &group.org_id, text, parts::FEW).await? {
        let sql = if everybody { LOCAL_MEMBERS_OF } else { MEMBERS_OF };
        let (org, ids) = (group.org_id.as_str(), serde_json::to_string(&ids).unwrap_or_default());
        return query_all!(session, GroupMember, sql, org, after, search.as_str(), group.id.as_str(), limit, ids);
    }
    let [sqlite, postgres] = if everybody { LOCAL_MEMBERS } else { MEMBERS };
    query_all_each!(
        session,
        GroupMember,
        sqlite,
        postgres,
        group.org_id.as_str(),
        after,
        search.as_str(),
        group.id.as_str(),
        limit,
    )
}

macro_rules! members {
    ($table:literal, $from:literal) => {
        // As an expression, or SQLite plans anew for every pattern.
        [members!($table, $from, ".searched GLOB ($3 || '')"), members!($table, $from, ".searched LIKE $3")]
    };
    ($table:literal, $from:literal, $find:literal) => {
        concat!(
            "SELECT m.user_id, u.name, u.kind, m.active, ",
            $from,
            " AND ",
            $table,
            $find,
            " ORDER BY ",
            $table,
            ".name LIMIT $5"
        )
    };
}

static LOCAL_MEMBERS: [&str; 2] = members!(
    "m",
    "m.created_at FROM memberships m JOIN users u ON u.id = m.user_id
     WHERE m.org_id = $1 AND m.kind = 'local' AND m.name > $2 AND $4 <> ''"
);
// In SQLite, a cross join is walked in the order that it is written in.
static MEMBERS: [&str; 2] = members!(
    "x",
    "x.created_at FROM group_members x CROSS JOIN memberships m JOIN users u ON u.id = m.user_id
     WHERE x.group_id = $4 AND x.name > $2 AND m.org_id = $1 AND m.user_id = x.user_id"
);

// Those of few members, on `SQLite`: `$6` are their user ids in JSON, and nothing else leads.
static LOCAL_MEMBERS_OF: &str = members!(
    "m",
    "m.created_at FROM json_each($6) i CROSS JOIN memberships m JOIN users u ON u.id = m.user_id
     WHERE m.org_id = $1 AND m.user_id = i.value AND m.kind = 'local' AND m.name > $2 AND $4 <> ''",
    ".searched GLOB ($3 || '')"
);
static MEMBERS_OF: &str = members!(
    "x",
    "x.created_at FROM json_each($6) i CROSS JOIN memberships m CROSS JOIN group_members x JOIN users u ON u.id = m.user_id
     WHERE m.org_id = $1 AND m.user_id = i.value AND x.group_id = $4 AND x.user_id = m.user_id AND x.name > $2",
    ".searched GLOB ($3 || '')"
);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::db::testing;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};
    use crate::{bindings, memberships};

    #[tokio::test]
    async fn a_list_of_members_reads_an_index_of_the_group_alone() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh_sqlite(dir.path()).await;
        let sql = format!("EXPLAIN QUERY PLAN {}", MEMBERS[0]);
        let mut session = db.read().await.unwrap();
        let plan = crate::query_all!(session, (i64, i64, i64, String), sqlx::AssertSqlSafe(sql.clone())).unwrap();
        assert!(plan[0].3.contains("x USING INDEX group_members_by_name (group_id=? AND name>?)"), "{plan:#?}");
        assert!(plan.iter().all(|(.., step)| !step.contains("TEMP B-TREE")), "{plan:#?}");
    }

    #[tokio::test]
    async fn the_groups_of_a_member_are_found_by_the_member() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh_sqlite(dir.path()).await;
        let sql = format!("EXPLAIN QUERY PLAN {OF_MEMBER}");
        let mut session = db.read().await.unwrap();
        let plan = crate::query_all!(session, (i64, i64, i64, String), sqlx::AssertSqlSafe(sql.clone())).unwrap();
        for step in ["groups USING INDEX sqlite_autoindex_groups_1 (id=?)", "x USING INDEX group_members_by_user"] {
            assert!(plan.iter().any(|(.., line)| line.contains(step)), "{plan:#?}");
        }
    }

    #[tokio::test]
    async fn groups_have_members_versions_and_two_that_are_always_there() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = orgs::create(&mut tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        let admins = create_builtin(&mut tx, &org.id, "ADMIN", 1).await.unwrap();
        let mut ids = Vec::new();
        for (name, kind) in [("bob@a.example", "local"), ("ci", "machine")] {
            let new = NewUser { name, kind, operator: false, password_hash: None, temporary_until: None };
            let user = users::create(&mut tx, &new, 1).await.unwrap();
            memberships::create(&mut tx, &org.id, &user.id, 2).await.unwrap();
            ids.push(user.id);
        }
        let new = NewGroup { org_id: &org.id, name: "dev", description: "" };
        let dev = create(&mut tx, &new, 3).await.unwrap();
        assert!(create(&mut tx, &new, 3).await.unwrap_err().is_conflict());
        let names = |groups: Vec<Group>| groups.into_iter().map(|group| group.name).collect::<Vec<_>>();
        let all = list(&mut tx, &org.id, None, None, "", 9).await.unwrap();
        assert_eq!(names(all), ["All Local Users", "Organization Admins", "dev"]);
        assert_eq!(names(list(&mut tx, &org.id, None, None, "Organization Admins", 9).await.unwrap()), ["dev"]);
        assert_eq!(count(&mut tx, &org.id).await.unwrap(), 3);

        add_member(&mut tx, &dev, &ids[0], 4).await.unwrap();
        add_member(&mut tx, &dev, &ids[1], 4).await.unwrap();
        assert!(add_member(&mut tx, &dev, &ids[0], 4).await.unwrap_err().is_conflict());
        assert!(add_member(&mut tx, &dev, "stranger", 4).await.unwrap_err().is_conflict());
        assert_eq!(
            names(list(&mut tx, &org.id, Some(&ids[0]), None, "", 9).await.unwrap()),
            ["All Local Users", "dev"]
        );
        assert_eq!(names(list(&mut tx, &org.id, Some(&ids[1]), None, "", 9).await.unwrap()), ["dev"]);
        let people = members(&mut tx, &dev, None, "", 9).await.unwrap();
        assert_eq!(people.iter().map(|m| m.kind.as_str()).collect::<Vec<_>>(), ["local", "machine"]);
        assert_eq!(members(&mut tx, &dev, None, "bob@a.example", 9).await.unwrap().len(), 1);
        let local = find_builtin(&mut tx, &org.id, LOCAL_USERS).await.unwrap().unwrap();
        assert_eq!(members(&mut tx, &local, None, "", 9).await.unwrap()[0].name, "bob@a.example");
        assert_eq!(
            names(list(&mut tx, &org.id, None, Some("ADMINISTERS"), "", 9).await.unwrap()),
            ["Organization Admins"]
        );
        assert_eq!(members(&mut tx, &dev, Some("BOB@"), "", 9).await.unwrap().len(), 1);
        for pattern in ["b_b", "b?b", "b*b", "*", "%", "[b]", "\\", "[^x]"] {
            for group in [&local, &dev] {
                assert_eq!(members(&mut tx, group, Some(pattern), "", 9).await.unwrap(), [], "{pattern}");
            }
        }
        let odd =
            memberships::UpdateMember { first_name: Some("B*b"), last_name: Some("Ü[x]?%_\\"), ..Default::default() };
        memberships::update(&mut tx, &org.id, &ids[0], &odd, None).await.unwrap();
        for part in ["b*B", "ü[X]?%_\\", "?", "%", "_", "[", "\\", "b*b ü"] {
            for group in [&local, &dev] {
                assert_eq!(members(&mut tx, group, Some(part), "", 9).await.unwrap().len(), 1, "{part}");
            }
        }
        let counted = counts(&mut tx, &org.id, &[&dev.id, &admins.id]).await.unwrap();
        let of = |id: &str| counted.iter().find(|c| c.id == id).map(|c| (c.members, c.roles)).unwrap();
        assert_eq!((of(&dev.id), of(&admins.id)), ((2, 0), (0, 1)));
        assert_eq!(counts(&mut tx, "other", &[&dev.id]).await.unwrap(), []);
        assert!(remove_member(&mut tx, &dev, &ids[1]).await.unwrap());
        assert_eq!(counts(&mut tx, &org.id, &[&dev.id]).await.unwrap()[0].members, 1);
        add_member(&mut tx, &dev, &ids[1], 5).await.unwrap();
        assert_eq!(counts(&mut tx, &org.id, &[&dev.id]).await.unwrap()[0].members, 2);
        bump_members(&mut tx, &dev.id).await.unwrap();
        assert_eq!(users::find(&mut tx, &ids[1]).await.unwrap().unwrap().grants_epoch, 2);

        let change = |name, expected| UpdateGroup { name: Some(name), description: None, expected };
        assert!(matches!(update(&mut tx, &org.id, &dev.id, &change("ops", Some(9))).await, Err(Error::Version)));
        assert!(
            update(&mut tx, &org.id, &dev.id, &change("Organization Admins", None)).await.unwrap_err().is_conflict()
        );
        let ops = update(&mut tx, &org.id, &dev.id, &change("ops", Some(1))).await.unwrap();
        assert_eq!((ops.name.as_str(), ops.version), ("ops", 2));
        assert_eq!(lock(&mut tx, &org.id, &dev.id).await.unwrap(), ops);
        assert!(matches!(lock(&mut tx, "other", &dev.id).await, Err(Error::NotFound(_))));
        assert_eq!(find_by_name(&mut tx, &org.id, "ops").await.unwrap().unwrap().id, dev.id);

        let of_admins = bindings::list_of_group(&mut tx, &org.id, &admins.id).await.unwrap();
        assert!(of_admins[0].builtin && of_admins[0].role == "ADMIN");
        add_member(&mut tx, &admins, &ids[0], 5).await.unwrap();
        assert_eq!(memberships::count_active_holders(&mut tx, &org.id, "ADMIN").await.unwrap(), 1);
        assert!(remove_member(&mut tx, &admins, &ids[0]).await.unwrap());
        assert!(!remove_member(&mut tx, &admins, &ids[0]).await.unwrap());
        assert_eq!(memberships::count_active_holders(&mut tx, &org.id, "ADMIN").await.unwrap(), 0);
        memberships::delete(&mut tx, &org.id, &ids[0]).await.unwrap();
        assert_eq!(counts(&mut tx, &org.id, &[&dev.id]).await.unwrap()[0].members, 1);
        assert!(!delete(&mut tx, "other", &dev.id).await.unwrap());
        assert!(delete(&mut tx, &org.id, &dev.id).await.unwrap());
        assert_eq!(find(&mut tx, &org.id, &dev.id).await.unwrap(), None);
    }
}

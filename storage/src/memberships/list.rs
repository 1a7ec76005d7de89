//! Lists of members, which look at few rows however many members there are.
//!
//! One condition leads, by an index that is in the order of the names; the others choose among what it gives, and the text that is
//! searched for is read from the index itself. Where only few members can be meant, as by a role that few hold, these lead; those
//! who hold one that many do are taken from indexes of their own ([`holders`]).

use std::collections::HashSet;

use super::{Member, MemberFilter};
use crate::db::{Session, parts, within};
use crate::error::Result;
use crate::groups::{self, LOCAL_USERS};
use crate::users::row_name;
use crate::{custom_roles, projects, query_all, query_all_each, query_one};

mod holders;
use holders::Bound;

/// So many members are looked up one by one and sorted; where more are meant, the list is walked until the page is full.
const FEW: usize = if cfg!(test) { 1 } else { 1000 };

/// The statements of one leading condition.
struct Statements {
    sqlite: &'static str,
    postgres: &'static str,
}

/// A member's status, as the index has it.
macro_rules! status {
    () => {
        "(CASE WHEN m.active = FALSE THEN 'inactive' WHEN m.kind = 'local' AND m.last_access_at IS NULL THEN 'invited'
               ELSE 'active' END)"
    };
}

/// Which bindings are meant: `$7` is the project, `$8` and `$9` are the role. The organization is written so that no engine looks
/// for all that the organization has.
macro_rules! bindings {
    () => {
        "b.org_id || '' = $1 AND ($7 = '' OR b.project_id = $7) AND ($8 = '' OR b.role IN ($8, $9))"
    };
}

macro_rules! page {
    ($($lead:expr),+) => {
        page!(order "m.name", from "memberships m JOIN users u ON u.id = m.user_id WHERE ", "m", $($lead),+)
    };
    (order $order:literal, from $from:literal, $searched:literal, $($lead:expr),+) => {
        Statements {
            // As an expression, or SQLite plans anew for every pattern.
            sqlite: page!(@ ".searched GLOB ($3 || '')", $order, $from, $searched, $($lead),+),
            postgres: page!(@ ".searched LIKE $3", $order, $from, $searched, $($lead),+),
        }
    };
    (@ $find:literal, $order:literal, $from:literal, $searched:literal, $($lead:expr),+) => {
        select!(
            from
            $from,
            "m.org_id = $1 AND ",
            $($lead,)+
            " AND ",
            $searched,
            $find,
            " AND ($4 = '' OR m.kind = $4) AND ($5 = '' OR ",
            status!(),
            " = $5)
             AND ($6 = '' OR EXISTS (SELECT 1 FROM group_members x WHERE x.group_id = $6 AND x.user_id = m.user_id))
             AND ($7 || $8 = ''
                  OR EXISTS (SELECT 1 FROM bindings b WHERE b.user_id = m.user_id AND ",
            bindings!(),
            ") OR EXISTS (SELECT 1 FROM group_members x JOIN bindings b ON b.group_id = x.group_id
                          WHERE x.user_id = m.user_id AND x.org_id = $1 AND ",
            bindings!(),
            ")) ORDER BY ",
            $order,
            " LIMIT $11"
        )
    };
}

static BY_NAME: Statements = page!("$10 = '' AND m.name > $2");
static BY_KIND: Statements = page!("m.kind = $10 AND m.name > $2");
static BY_STATUS: Statements = page!(status!(), " = $10 AND m.name > $2");
/// In `SQLite`, a cross join is walked in the order that it is written in.
static BY_GROUP: Statements = page!(
    order "g.name",
    from "group_members g CROSS JOIN memberships m JOIN users u ON u.id = m.user_id WHERE ",
    "g",
    "g.group_id = $10 AND g.name > $2 AND m.user_id = g.user_id"
);
/// The name is written so that no engine takes the index of names.
static BY_IDS: Statements = Statements {
    sqlite: page!(
        @ ".searched GLOB ($3 || '')", "m.name || ''", "memberships m JOIN users u ON u.id = m.user_id WHERE ", "m",
        "m.user_id IN (SELECT value FROM json_each($10)) AND m.name || '' > $2"
    ),
    postgres: page!(
        @ ".searched || '' LIKE $3", "m.name || ''", "memberships m JOIN users u ON u.id = m.user_id WHERE ", "m",
        "m.user_id IN (SELECT jsonb_array_elements_text(CAST($10 AS JSONB))) AND m.name || '' > $2"
    ),
};

/// A filter whose names are found: empty text chooses all. `search` is a pattern.
#[derive(Debug, Default)]
struct Found {
    /// Fits every text where nothing is searched for.
    search: String,
    /// What is searched for, as it was typed; empty where nothing is.
    text: String,
    kind: String,
    status: String,
    group: String,
    project: String,
    role: String,
    /// Id of the custom role of that name.
    custom: String,
}

impl Found {
    /// `None` where nobody can be meant.
    async fn of(session: &mut Session, org_id: &str, filter: &MemberFilter<'_>) -> Result<Option<Self>> {
        let mut found = Self {
            search: within(session, "", filter.search.unwrap_or_default()),
            text: filter.search.unwrap_or_default().to_owned(),
            kind: filter.kind.unwrap_or_default().to_owned(),
            status: filter.status.unwrap_or_default().to_owned(),
            role: filter.role.unwrap_or_default().to_owned(),
            ..Self::default()
        };
        if let Some(name) = filter.group {
            let Some(group) = groups::find_by_name(session, org_id, name).await? else { return Ok(None) };
            if group.builtin.as_deref() == Some(LOCAL_USERS) {
                if filter.kind.is_some_and(|kind| kind != "local") {
                    return Ok(None);
                }
                "local".clone_into(&mut found.kind);
            } else {
                found.group = group.id;
            }
        }
        if let Some(slug) = filter.project {
            let Some(project) = projects::find_by_slug(session, org_id, slug).await? else { return Ok(None) };
            found.project = project.id;
        }
        if let Some(role) = filter.role {
            found.custom = custom_roles::find_by_name(session, org_id, role).await?.map_or(String::new(), |c| c.id);
        }
        Ok(Some(found))
    }

    /// Whether the group leads its members' list, however many they are.
    fn group_leads(&self) -> bool {
        !self.group.is_empty() && self.kind.is_empty() && self.status.is_empty()
    }

    /// The bindings that alone choose, if they do.
    fn bound<'a>(&'a self, org_id: &'a str) -> Option<Bound<'a>> {
        let alone = [&self.text, &self.kind, &self.status, &self.group].iter().all(|text| text.is_empty());
        let Self { role, custom, project, .. } = self;
        (alone && !(role.is_empty() && project.is_empty())).then_some(Bound { org_id, role, custom, project })
    }

    /// The only members who can be meant, where these are few.
    async fn few(&self, session: &mut Session, org_id: &str) -> Result<Option<HashSet<String>>> {
        let limit = i64::try_from(FEW).unwrap_or(i64::MAX) + 1;
        let mut few: Option<HashSet<String>> = None;
        let mut meet = |rows: Vec<(String,)>| {
            let ids: HashSet<String> = rows.into_iter().map(|(id,)| id).collect();
            few = Some(match few.take() {
                Some(others) => others.intersection(&ids).cloned().collect(),
                None => ids,
            });
        };
        if let Some(ids) = parts::MEMBERS.few(session, org_id, &self.text, parts::FEW).await? {
            meet(ids.into_iter().map(|id| (id,)).collect());
        }
        // Counted first: a row that is fetched costs many times one that is counted.
        if !self.group.is_empty() && !self.group_leads() {
            let group = self.group.as_str();
            if query_one!(session, (i64,), OF_GROUP.count, group, limit)?.0 < limit {
                meet(query_all!(session, (String,), OF_GROUP.ids, group, limit)?);
            }
        }
        if !self.project.is_empty() {
            let project = self.project.as_str();
            if query_one!(session, (i64,), OF_PROJECT.count, project, limit)?.0 < limit {
                meet(query_all!(session, (String,), OF_PROJECT.ids, project, limit)?);
            }
        }
        if !self.role.is_empty() {
            let (role, custom) = (self.role.as_str(), self.custom.as_str());
            if query_one!(session, (i64,), OF_ROLE.count, role, limit, custom, org_id)?.0 < limit {
                meet(query_all!(session, (String,), OF_ROLE.ids, role, limit, custom, org_id)?);
            }
        }
        Ok(few)
    }

    /// What leads, and by which key. What leads need not choose any more.
    fn lead(&mut self, few: Option<&HashSet<String>>) -> (&'static Statements, String) {
        if let Some(ids) = few {
            return (&BY_IDS, serde_json::to_string(ids).unwrap_or_default());
        }
        if self.group_leads() {
            return (&BY_GROUP, std::mem::take(&mut self.group));
        }
        if self.status.is_empty() || self.kind == "machine" {
            if self.kind.is_empty() { (&BY_NAME, String::new()) } else { (&BY_KIND, std::mem::take(&mut self.kind)) }
        } else {
            (&BY_STATUS, std::mem::take(&mut self.status))
        }
    }
}

macro_rules! holders {
    ($which:literal) => {
        concat!(
            "SELECT user_id FROM (
                 SELECT b.user_id FROM bindings b WHERE b.user_id IS NOT NULL AND ",
            $which,
            " UNION ALL
                 SELECT x.user_id FROM bindings b JOIN group_members x ON x.group_id = b.group_id WHERE ",
            $which,
            ") AS holders LIMIT $2"
        )
    };
}

/// At most so many ids, and how many these are.
struct Ids {
    ids: &'static str,
    count: &'static str,
}

macro_rules! ids {
    ($sql:expr) => {
        Ids { ids: $sql, count: concat!("SELECT COUNT(*) FROM (", $sql, ") AS counted") }
    };
}

static OF_GROUP: Ids = ids!("SELECT user_id FROM group_members WHERE group_id = $1 LIMIT $2");
static OF_PROJECT: Ids = ids!(holders!("b.project_id = $1"));
static OF_ROLE: Ids = ids!(holders!("b.org_id = $4 AND b.role IN ($1, $3)"));

/// At most `limit` members of an organization after the name `after`, in byte order of the names of their rows.
///
/// # Errors
/// Those of the database.
pub async fn list(
    session: &mut Session,
    org_id: &str,
    filter: &MemberFilter<'_>,
    after: &str,
    limit: i64,
) -> Result<Vec<Member>> {
    let after = if after.is_empty() { String::new() } else { row_name(after, org_id) };
    let Some(mut found) = Found::of(session, org_id, filter).await? else { return Ok(Vec::new()) };
    let mut few = None;
    if let Some(bound) = found.bound(org_id) {
        few = bound.first(session, &after, limit).await?.map(HashSet::from_iter);
    }
    if few.is_none() {
        few = found.few(session, org_id).await?;
    }
    if few.as_ref().is_some_and(HashSet::is_empty) {
        return Ok(Vec::new());
    }
    let (statements, key) = found.lead(few.as_ref());
    query_all_each!(
        session,
        Member,
        statements.sqlite,
        statements.postgres,
        org_id,
        after.as_str(),
        found.search.as_str(),
        found.kind.as_str(),
        found.status.as_str(),
        found.group.as_str(),
        found.project.as_str(),
        found.role.as_str(),
        found.custom.as_str(),
        key.as_str(),
        limit,
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sqlx::AssertSqlSafe;

    use super::*;
    use crate::bindings::{self, NewBinding, Subject};
    use crate::db::{Tx, testing};
    use crate::groups::NewGroup;
    use crate::orgs::{self, NewOrg};
    use crate::users::{self, NewUser};
    use crate::{execute, memberships};

    /// A member, and everything that may be asked for.
    struct Person {
        name: &'static str,
        full: &'static str,
        kind: &'static str,
        status: &'static str,
        groups: &'static [&'static str],
        roles: &'static [(&'static str, Option<&'static str>)],
    }

    const fn person(name: &'static str, full: &'static str, kind: &'static str, status: &'static str) -> Person {
        Person { name, full, kind, status, groups: &[], roles: &[] }
    }

    const ON_WEB: Option<&str> = Some("web");

    static PEOPLE: [Person; 7] = [
        Person {
            groups: &["dev"],
            roles: &[("AUDITOR", None)],
            ..person("ann@a.example", "Änn Smith", "local", "active")
        },
        Person { roles: &[("PROJECT_ADMIN", ON_WEB)], ..person("bob@a.example", "Bob Smith", "local", "invited") },
        Person { groups: &["dev", "ops"], ..person("ci", "", "machine", "active") },
        Person { roles: &[("READER", ON_WEB), ("AUDITOR", None)], ..person("dan@a.example", "", "local", "inactive") },
        Person { groups: &["dev"], ..person("eve@b.example", "", "local", "active") },
        person("old", "", "machine", "inactive"),
        person("zoe@b.example", "Zoe Ann", "local", "active"),
    ];

    /// What the groups hold.
    static OF_GROUPS: [(&str, &str, Option<&str>); 2] = [("dev", "READER", ON_WEB), ("ops", "AUDITOR", None)];

    impl Person {
        fn holds(&self, role: Option<&str>, project: Option<&str>) -> bool {
            let of_groups =
                OF_GROUPS.iter().filter(|(group, ..)| self.groups.contains(group)).map(|(_, r, p)| (*r, *p));
            let mut held = self.roles.iter().copied().chain(of_groups);
            (role.is_none() && project.is_none())
                || held.any(|(r, p)| role.is_none_or(|role| role == r) && project.is_none_or(|slug| p == Some(slug)))
        }

        fn fits(&self, filter: &MemberFilter<'_>) -> bool {
            let text = format!("{} {}", self.name, self.full).to_lowercase();
            filter.search.is_none_or(|search| text.contains(&search.to_lowercase()))
                && filter.kind.is_none_or(|kind| kind == self.kind)
                && filter.status.is_none_or(|status| status == self.status)
                && filter.group.is_none_or(|group| match group {
                    "All Local Users" => self.kind == "local",
                    group => self.groups.contains(&group),
                })
                && self.holds(filter.role, filter.project)
        }
    }

    async fn bind(tx: &mut Tx, org_id: &str, subject: Subject<'_>, role: &str, project: Option<&str>) {
        let new = NewBinding { org_id, subject, role, project_id: project.map(|_| "p"), namespaces: &[] };
        bindings::create(tx, &new, 3).await.unwrap();
    }

    async fn fill(tx: &mut Tx) -> String {
        let org = orgs::create(tx, &NewOrg { slug: &"acme".parse().unwrap(), name: "A" }, 1).await.unwrap();
        groups::create_builtin(tx, &org.id, "ADMIN", 1).await.unwrap();
        let sql = "INSERT INTO projects (id, org_id, slug, public, sparse, created_at) VALUES ('p', $1, 'web', FALSE, FALSE, 1)";
        execute!(tx, sql, org.id.as_str()).unwrap();
        for (name, role, project) in OF_GROUPS {
            let group = groups::create(tx, &NewGroup { org_id: &org.id, name, description: "" }, 1).await.unwrap();
            bind(tx, &org.id, Subject::Group(&group.id), role, project).await;
        }
        for person in &PEOPLE {
            let name = row_name(person.name, &org.id);
            let new =
                NewUser { name: &name, kind: person.kind, operator: false, password_hash: None, temporary_until: None };
            let user = users::create(tx, &new, 1).await.unwrap();
            memberships::create(tx, &org.id, &user.id, 2).await.unwrap();
            let (first_name, last_name) = person.full.split_once(' ').unwrap_or_default();
            let change = memberships::UpdateMember {
                first_name: Some(first_name),
                last_name: Some(last_name),
                key_valid_days: None,
            };
            memberships::update(tx, &org.id, &user.id, &change, None).await.unwrap();
            if person.status == "inactive" {
                memberships::update_active(tx, &org.id, &user.id, false).await.unwrap();
            }
            if person.status == "active" {
                memberships::update_last_access(tx, &org.id, &user.id, "console", 9).await.unwrap();
            }
            for group in person.groups {
                let group = groups::find_by_name(tx, &org.id, group).await.unwrap().unwrap();
                groups::add_member(tx, &group, &user.id, 3).await.unwrap();
            }
            for (role, project) in person.roles {
                bind(tx, &org.id, Subject::User(&user.id), role, *project).await;
            }
        }
        org.id
    }

    #[tokio::test]
    async fn every_mixture_of_conditions_finds_who_fits() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh(dir.path()).await;
        let mut tx = db.begin().await.unwrap();
        let org = fill(&mut tx).await;
        let mut found_by = 0;
        for search in [None, Some("SMITH"), Some("ÄNN"), Some("ann"), Some("i"), Some("nn s"), Some("acme"), Some(&org)]
        {
            for kind in [None, Some("local"), Some("machine")] {
                for status in [None, Some("active"), Some("invited"), Some("inactive")] {
                    for group in [None, Some("dev"), Some("ops"), Some("All Local Users"), Some("none")] {
                        for (role, project) in [
                            (None, None),
                            (Some("AUDITOR"), None),
                            (Some("READER"), ON_WEB),
                            (Some("PROJECT_ADMIN"), None),
                            (None, ON_WEB),
                            (None, Some("none")),
                            (Some("none"), None),
                        ] {
                            let filter = MemberFilter { search, kind, status, group, project, role };
                            let wanted: Vec<&str> = PEOPLE.iter().filter(|p| p.fits(&filter)).map(|p| p.name).collect();
                            let found = list(&mut tx, &org, &filter, "", 99).await.unwrap();
                            let found: Vec<&str> = found.iter().map(|m| m.name.as_str()).collect();
                            assert_eq!(found, wanted, "{filter:?}");
                            found_by += usize::from(!found.is_empty());
                            let rest = list(&mut tx, &org, &filter, "bob@a.example", 1).await.unwrap();
                            let wanted = wanted.into_iter().find(|name| *name > "bob@a.example");
                            assert_eq!(rest.first().map(|m| m.name.as_str()), wanted, "{filter:?}");
                        }
                    }
                }
            }
        }
        assert!(found_by > 200, "{found_by}");
        assert_eq!(list(&mut tx, "other", &MemberFilter::default(), "", 9).await.unwrap(), []);
    }

    #[tokio::test]
    async fn each_condition_leads_by_its_index() {
        let dir = tempfile::tempdir().unwrap();
        let db = testing::fresh_sqlite(dir.path()).await;
        let mut session = db.read().await.unwrap();
        for (sql, index) in [
            (holders::OF_ROLE, "b USING INDEX bindings_by_role (org_id=? AND role=? AND name>?)"),
            (holders::OF_PROJECT, "b USING INDEX bindings_by_project (project_id=? AND name>?)"),
            (holders::OF_GROUP, "g USING INDEX group_members_by_name (group_id=? AND name>?)"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN {sql}");
            let plan: Vec<(i64, i64, i64, String)> =
                query_all!(session, (i64, i64, i64, String), AssertSqlSafe(sql.clone())).unwrap();
            assert!(plan.len() == 1 && plan[0].3.contains(index), "no sorting: {plan:#?}");
        }
        for (statements, index) in [
            (&BY_NAME, "m USING INDEX memberships_by_name (org_id=? AND name>?)"),
            (&BY_KIND, "m USING INDEX memberships_by_kind (org_id=? AND kind=? AND name>?)"),
            (&BY_STATUS, "m USING INDEX memberships_by_status (org_id=? AND <expr>=? AND name>?)"),
            (&BY_GROUP, "g USING INDEX group_members_by_name (group_id=? AND name>?)"),
            (&BY_IDS, "m USING INDEX sqlite_autoindex_memberships_1 (org_id=? AND user_id=?)"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN {}", statements.sqlite);
            let plan: Vec<(i64, i64, i64, String)> =
                query_all!(session, (i64, i64, i64, String), AssertSqlSafe(sql.clone())).unwrap();
            let plan: Vec<String> = plan.into_iter().map(|(.., step)| step).collect();
            assert!(plan[0].contains(index), "{plan:#?}");
            for step in ["b USING INDEX bindings_by_user", "b USING INDEX bindings_by_group"] {
                assert!(plan.iter().any(|line| line.contains(step)), "{plan:#?}");
            }
        }
    }
}

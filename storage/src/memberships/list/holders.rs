//! Who holds a role that thousands hold, or any role on such a project, in the order of names: what binds members themselves
//! and the members of every group that is bound are one list each, in that order already, and only as much of each is read as
//! a page may need.

use std::collections::BTreeMap;

use crate::db::Session;
use crate::error::Result;
use crate::query_all;

/// Most groups whose members are read one after the other.
const GROUPS: usize = if cfg!(test) { 2 } else { 32 };

/// Which bindings are meant; one of role and project at least.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a> {
    pub(super) org_id: &'a str,
    /// The role's token, or empty.
    pub(super) role: &'a str,
    /// Id of the custom role of that name, or empty.
    pub(super) custom: &'a str,
    /// Id of the project, or empty.
    pub(super) project: &'a str,
}

pub(super) static OF_ROLE: &str = "SELECT b.name, MIN(b.user_id) FROM bindings b
     WHERE b.org_id = $1 AND b.role = $2 AND b.name > $3 AND ($4 = '' OR b.project_id = $4)
     GROUP BY b.name ORDER BY b.name LIMIT CAST($5 AS BIGINT)";
pub(super) static OF_PROJECT: &str = "SELECT b.name, MIN(b.user_id) FROM bindings b
     WHERE b.project_id = $1 AND b.name > $2 GROUP BY b.name ORDER BY b.name LIMIT CAST($3 AS BIGINT)";
pub(super) static OF_GROUP: &str = "SELECT g.name, g.user_id FROM group_members g
     WHERE g.group_id = $1 AND g.name > $2 ORDER BY g.name LIMIT CAST($3 AS BIGINT)";
static GROUPS_OF_ROLE: &str = "SELECT DISTINCT b.group_id FROM bindings b
     WHERE b.org_id = $1 AND b.role IN ($2, $3) AND b.name = '' AND b.group_id IS NOT NULL
     AND ($4 = '' OR b.project_id = $4) LIMIT CAST($5 AS BIGINT)";
static GROUPS_OF_PROJECT: &str = "SELECT DISTINCT b.group_id FROM bindings b
     WHERE b.project_id = $1 AND b.name = '' AND b.group_id IS NOT NULL LIMIT CAST($2 AS BIGINT)";

impl Bound<'_> {
    /// User ids of the first `limit` holders after the name of a row. `None` where too many groups are bound.
    ///
    /// # Errors
    /// Those of the database.
    pub(super) async fn first(&self, session: &mut Session, after: &str, limit: i64) -> Result<Option<Vec<String>>> {
        let groups = self.groups(session).await?;
        if groups.len() > GROUPS {
            return Ok(None);
        }
        let mut first = BTreeMap::new();
        if self.role.is_empty() {
            first.extend(query_all!(session, (String, String), OF_PROJECT, self.project, after, limit)?);
        } else {
            for role in [self.role, self.custom].into_iter().filter(|role| !role.is_empty()) {
                let of_role =
                    query_all!(session, (String, String), OF_ROLE, self.org_id, role, after, self.project, limit)?;
                first.extend(of_role);
            }
        }
        for group in groups {
            first.extend(query_all!(session, (String, String), OF_GROUP, group, after, limit)?);
        }
        let most = usize::try_from(limit).unwrap_or_default();
        Ok(Some(first.into_values().take(most).collect()))
    }

    async fn groups(&self, session: &mut Session) -> Result<Vec<String>> {
        let limit = i64::try_from(GROUPS).unwrap_or(i64::MAX) + 1;
        let rows = if self.role.is_empty() {
            query_all!(session, (String,), GROUPS_OF_PROJECT, self.project, limit)?
        } else {
            let (org_id, role, custom, project) = (self.org_id, self.role, self.custom, self.project);
            query_all!(session, (String,), GROUPS_OF_ROLE, org_id, role, custom, project, limit)?
        };
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }
}

//! `/orgs/{org}/groups`

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::rbac::Permission;
use serde::{Deserialize, Serialize};
use storage::groups::{self, Group, GroupCounts, GroupMember, NewGroup, UpdateGroup};
use storage::orgs::Org;
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::etag::{Created, IfMatch, IfMatchHeader, Tag, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;
use crate::users::api::member;

/// A group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupView {
    /// What people call it.
    pub(crate) name: String,
    /// What it is for.
    pub(crate) description: String,
    /// Whether it is part of the organization, and so cannot be changed or deleted.
    pub(crate) builtin: bool,
    /// How many are in it; null for "All Local Users", where every local user is.
    pub(crate) members: Option<i64>,
    /// How many roles it was given.
    pub(crate) roles: i64,
    /// When it was made.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
}

impl GroupView {
    fn of(group: Group, counts: Option<&GroupCounts>) -> Self {
        let everybody = group.builtin.as_deref() == Some(groups::LOCAL_USERS);
        Self {
            name: group.name,
            description: group.description,
            builtin: group.builtin.is_some(),
            members: (!everybody).then(|| counts.map_or(0, |counts| counts.members)),
            roles: counts.map_or(0, |counts| counts.roles),
            created_at: group.created_at,
        }
    }
}

/// Which groups. All that is given has to hold.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct GroupQuery {
    /// Text that is part of name or description, in any case.
    pub(crate) search: Option<String>,
    /// Only those that this user is in; takes `user.read`.
    pub(crate) user: Option<String>,
}

/// Which members.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct GroupMemberQuery {
    /// Text that is part of the name, or of first and last name, in any case.
    pub(crate) search: Option<String>,
}

/// Longest text that is searched for, in characters.
const MAX_SEARCH: usize = 254;

/// A text to be searched for.
fn search_text(text: Option<&String>) -> Result<Option<&str>> {
    let text = text.map(|text| text.trim()).filter(|text| !text.is_empty());
    if text.is_some_and(|text| text.chars().count() > MAX_SEARCH || text.contains('\0')) {
        return Err(Error::invalid("search", &format!("use at most {MAX_SEARCH} characters")));
    }
    Ok(text)
}

/// A group to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupToCreate {
    /// What people call it.
    #[schema(example = "developers", min_length = 1, max_length = 128)]
    pub(crate) name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 512)]
    pub(crate) description: String,
}

/// What of a group changes; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupChange {
    /// What people call it.
    #[schema(example = "developers", min_length = 1, max_length = 128)]
    pub(crate) name: Option<String>,
    /// What it is for.
    #[schema(max_length = 512)]
    pub(crate) description: Option<String>,
}

/// Somebody in a group.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GroupMemberView {
    /// The user's name.
    pub(crate) name: String,
    /// `local` or `machine`.
    pub(crate) kind: String,
    /// Whether the user has access to the organization.
    pub(crate) active: bool,
    /// Since when.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
}

impl From<GroupMember> for GroupMemberView {
    fn from(row: GroupMember) -> Self {
        let name = shown(&row.name).to_owned();
        Self { name, kind: row.kind, active: row.active, created_at: row.created_at }
    }
}

/// Somebody to be put into a group.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct GroupMemberToAdd {
    /// Name of the user, a member of the organization.
    #[schema(example = "ann@acme.example")]
    pub(crate) user: String,
}

/// The part of a row's name that people see.
pub(crate) fn shown(name: &str) -> &str {
    name.split(':').next().unwrap_or_default()
}

/// A group that the caller may see.
///
/// # Errors
/// 404 where there is none.
pub(crate) async fn group_of(actor: &Actor, state: &State, org: &Org, name: &str) -> Result<Group> {
    let found = groups::find_by_name(&mut state.db().read().await?, &org.id, name).await?;
    found.filter(|_| actor.may(Permission::GroupRead, &in_org(org))).ok_or(Error::NotFound("group"))
}

/// Groups
///
/// By name.
#[utoipa::path(get, path = "/orgs/{org}/groups", tag = "groups",
    params(("org", description = "Slug of the organization"), GroupQuery, PageQuery),
    responses((status = 200, description = "A page of groups", body = Page<GroupView>)))]
pub(crate) async fn list_groups(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(which): Query<GroupQuery>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<GroupView>>> {
    let (org, page) = uncounted(&actor, &state, &org, &which, query).await?;
    let ids: Vec<&str> = page.items.iter().map(|group| group.id.as_str()).collect();
    let counts = groups::counts(&mut state.db().read().await?, &org.id, &ids).await?;
    let view = |group: Group| {
        let counts = counts.iter().find(|counts| counts.id == group.id);
        GroupView::of(group, counts)
    };
    Ok(Json(Page { items: page.items.into_iter().map(view).collect(), next: page.next }))
}

/// The rows of [`list_groups`], without what takes counting.
async fn uncounted(
    actor: &Actor,
    state: &State,
    org: &str,
    which: &GroupQuery,
    query: PageQuery,
) -> Result<(Org, Page<Group>)> {
    let org = actor.can_in_org(Permission::GroupRead, state, org).await?;
    let (search, bounds) = (search_text(which.search.as_ref())?, query.bounds()?);
    let user_id = match &which.user {
        Some(name) => Some(user_of(actor, state, &org, name).await?.user_id),
        None => None,
    };
    let mut session = state.db().read().await?;
    let of = user_id.as_deref();
    let rows = groups::list(&mut session, &org.id, of, search, &bounds.after, bounds.fetch()).await?;
    Ok((org, bounds.page(rows, |group| &group.name, |group| group)))
}

/// The first groups of [`list_groups`], to choose from.
pub(crate) async fn first_groups(actor: &Actor, state: &State, org: &str, most: i64) -> Result<Vec<Group>> {
    let query = PageQuery { limit: Some(most), after: None };
    Ok(uncounted(actor, state, org, &GroupQuery::default(), query).await?.1.items)
}

/// A group as it is shown.
async fn versioned(state: &State, group: Group) -> Result<Versioned<GroupView>> {
    let counts = groups::counts(&mut state.db().read().await?, &group.org_id, &[&group.id]).await?;
    Ok(Versioned(Tag::new(&group.id, group.version), GroupView::of(group, counts.first())))
}

/// Make a group
#[utoipa::path(post, path = "/orgs/{org}/groups", tag = "groups", request_body = GroupToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Made", body = GroupView)))]
pub(crate) async fn create_group(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<GroupToCreate>,
) -> Result<Created<GroupView>> {
    let org = actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    let new = NewGroup { org_id: &org.id, name: &new.name, description: &new.description };
    let group = state.identity().create_group(&actor.caller, &new).await?;
    let at = format!("/orgs/{}/groups/{}", org.slug, segment(&group.name));
    let tag = Some(Tag::new(&group.id, group.version));
    Ok(Created { at, tag, body: GroupView::of(group, None) })
}

/// A group
#[utoipa::path(get, path = "/orgs/{org}/groups/{group}", tag = "groups",
    params(("org", description = "Slug of the organization"), ("group", description = "Name of the group")),
    responses((status = 200, description = "The group", body = GroupView)))]
pub(crate) async fn get_group(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, group)): Path<(String, String)>,
) -> Result<Versioned<GroupView>> {
    let org = actor.can_in_org(Permission::GroupRead, &state, &org).await?;
    let group = group_of(&actor, &state, &org, &group).await?;
    versioned(&state, group).await
}

/// Change a group
///
/// The two that are part of the organization stay as they are.
#[utoipa::path(patch, path = "/orgs/{org}/groups/{group}", tag = "groups", request_body = GroupChange,
    params(("org", description = "Slug of the organization"), ("group", description = "Name of the group"), IfMatchHeader),
    responses((status = 200, description = "The group as it is now", body = GroupView)))]
pub(crate) async fn update_group(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, group)): Path<(String, String)>,
    if_match: IfMatch,
    extract::Json(change): extract::Json<GroupChange>,
) -> Result<Versioned<GroupView>> {
    let org = actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    let group = group_of(&actor, &state, &org, &group).await?;
    let expected = if_match.expected(&group.id);
    let change = UpdateGroup { name: change.name.as_deref(), description: change.description.as_deref(), expected };
    let group = state.identity().update_group(&actor.caller, &org.id, &group.id, &change).await?;
    versioned(&state, group).await
}

/// Delete a group
///
/// With all that it was given. It takes every permission that goes with it.
#[utoipa::path(delete, path = "/orgs/{org}/groups/{group}", tag = "groups",
    params(("org", description = "Slug of the organization"), ("group", description = "Name of the group"), IfMatchHeader),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_group(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, group)): Path<(String, String)>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    let group = group_of(&actor, &state, &org, &group).await?;
    state.identity().delete_group(&actor.caller, &org.id, &group.id, if_match.expected(&group.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is in a group
///
/// By name. In "All Local Users" is every local user, whoever put them there or not.
#[utoipa::path(get, path = "/orgs/{org}/groups/{group}/members", tag = "groups",
    params(("org", description = "Slug of the organization"), ("group", description = "Name of the group"),
           GroupMemberQuery, PageQuery),
    responses((status = 200, description = "A page of members", body = Page<GroupMemberView>)))]
pub(crate) async fn list_group_members(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, group)): Path<(String, String)>,
    Query(which): Query<GroupMemberQuery>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<GroupMemberView>>> {
    let org = actor.can_in_org(Permission::GroupRead, &state, &org).await?;
    let group = group_of(&actor, &state, &org, &group).await?;
    let (search, bounds) = (search_text(which.search.as_ref())?, query.bounds()?);
    // A machine's row has a longer name than people see.
    let after = match bounds.after.as_str() {
        machine if !machine.is_empty() && !machine.contains('@') => format!("{machine}:{}", org.id),
        other => other.to_owned(),
    };
    let rows = groups::members(&mut state.db().read().await?, &group, search, &after, bounds.fetch()).await?;
    Ok(Json(bounds.page(rows, |row| shown(&row.name), Into::into)))
}

/// Put a user into a group
///
/// It takes every permission that the group has been given: nobody makes anybody mightier than themselves.
#[utoipa::path(post, path = "/orgs/{org}/groups/{group}/members", tag = "groups", request_body = GroupMemberToAdd,
    params(("org", description = "Slug of the organization"), ("group", description = "Name of the group")),
    responses((status = 201, description = "They are in it", body = GroupMemberView)))]
pub(crate) async fn add_group_member(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, group)): Path<(String, String)>,
    extract::Json(new): extract::Json<GroupMemberToAdd>,
) -> Result<Created<GroupMemberView>> {
    let org = actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    let group = group_of(&actor, &state, &org, &group).await?;
    let user = user_of(&actor, &state, &org, &new.user).await?;
    state.identity().add_group_member(&actor.caller, &org.id, &group.id, &user.user_id).await?;
    let name = shown(&user.name).to_owned();
    let at = format!("/orgs/{}/groups/{}/members/{}", org.slug, segment(&group.name), segment(&name));
    let created_at = state.identity().now();
    let body = GroupMemberView { name, kind: user.kind, active: user.active, created_at };
    Ok(Created { at, tag: None, body })
}

/// Take a user out of a group
///
/// Access tokens that were had with what it holds end at once.
#[utoipa::path(delete, path = "/orgs/{org}/groups/{group}/members/{name}", tag = "groups",
    params(("org", description = "Slug of the organization"), ("group", description = "Name of the group"),
           ("name", description = "Name of the user")),
    responses((status = 204, description = "They are not in it any more")))]
pub(crate) async fn remove_group_member(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, group, name)): Path<(String, String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::GroupWrite, &state, &org).await?;
    let group = group_of(&actor, &state, &org, &group).await?;
    let user = user_of(&actor, &state, &org, &name).await?;
    state.identity().remove_group_member(&actor.caller, &org.id, &group.id, &user.user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A member of the organization whom the caller may see.
async fn user_of(actor: &Actor, state: &State, org: &Org, name: &str) -> Result<storage::memberships::Member> {
    if !actor.may(Permission::UserRead, &in_org(org)) {
        return Err(Error::NotFound("user"));
    }
    member(state, org, name).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Controller};

    const GROUPS: &str = "/orgs/main/groups";

    #[tokio::test]
    async fn a_group_gives_its_members_what_it_was_given_while_they_are_in_it() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let dev = controller.member("dev@example.com", None).await;
        let made = controller.post(&admin, GROUPS, &json!({"name": "the devs"})).await.expect(201);
        assert_eq!(made.headers["location"], "/api/v1/orgs/main/groups/the%20devs");
        controller.post(&admin, GROUPS, &json!({"name": "the devs"})).await.expect(409);
        controller.post(&admin, GROUPS, &json!({"name": " "})).await.expect(422);
        let give = json!({"group": "the devs", "role": "PROJECT_READ_ONLY", "project": "alpha"});
        let given = controller.post(&admin, "/orgs/main/bindings", &give).await.expect(201);
        assert_eq!((given.text("group"), given.body["user"].clone()), ("the devs".into(), Value::Null));
        let alpha = "/orgs/main/projects/alpha";
        controller.get(&dev, alpha).await.expect(404);
        let members = "/orgs/main/groups/the%20devs/members";
        controller.post(&admin, members, &json!({"user": "dev@example.com"})).await.expect(201);
        controller.post(&admin, members, &json!({"user": "dev@example.com"})).await.expect(409);
        controller.post(&admin, members, &json!({"user": "nobody@example.com"})).await.expect(404);
        controller.get(&dev, alpha).await.expect(200);
        let listed = controller.get(&admin, members).await.expect(200);
        assert_eq!(listed.body["items"][0]["name"], "dev@example.com");
        let one = format!("{members}/dev@example.com");
        controller.call(&admin, Method::DELETE, &one, &Value::Null).await.expect(204);
        controller.call(&admin, Method::DELETE, &one, &Value::Null).await.expect(404);
        controller.get(&dev, alpha).await.expect(404);
        controller.post(&admin, members, &json!({"user": "dev@example.com"})).await.expect(201);
        let filtered = controller.get(&admin, "/orgs/main/bindings?group=the%20devs&project=alpha").await.expect(200);
        assert_eq!(filtered.body["items"].as_array().unwrap().len(), 1);
        let path = "/orgs/main/groups/the%20devs";
        let stale = [("if-match", "\"7\"")];
        controller.call_with(&admin, Method::DELETE, path, &Value::Null, &stale).await.expect(412);
        let change = json!({"name": "devs", "description": "all of them"});
        let changed = controller.call(&admin, Method::PATCH, path, &change).await.expect(200);
        assert_eq!(changed.text("name"), "devs");
        assert!(changed.headers["etag"].to_str().unwrap().starts_with("\"2-"));
        controller.get(&dev, alpha).await.expect(200);
        controller.call(&admin, Method::DELETE, "/orgs/main/groups/devs", &Value::Null).await.expect(204);
        controller.get(&dev, alpha).await.expect(404);
        controller.get(&admin, "/orgs/main/groups/devs").await.expect(404);
    }

    #[tokio::test]
    async fn the_two_built_in_groups_stay_as_they_are_and_keep_an_admin() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.member("dev@example.com", None).await;
        let listed = controller.get(&admin, GROUPS).await.expect(200);
        let names: Vec<&Value> = listed.body["items"].as_array().unwrap().iter().map(|group| &group["name"]).collect();
        assert_eq!(names, ["All Local Users", "Organization Admins"]);
        for path in ["/orgs/main/groups/All%20Local%20Users", "/orgs/main/groups/Organization%20Admins"] {
            controller.call(&admin, Method::PATCH, path, &json!({"name": "x"})).await.expect(422);
            controller.call(&admin, Method::DELETE, path, &Value::Null).await.expect(422);
        }
        let local = "/orgs/main/groups/All%20Local%20Users/members";
        assert_eq!(controller.get(&admin, local).await.expect(200).body["items"].as_array().unwrap().len(), 2);
        controller.post(&admin, local, &json!({"user": "dev@example.com"})).await.expect(422);
        let give = json!({"group": "All Local Users", "role": "AUDITOR"});
        controller.post(&admin, "/orgs/main/bindings", &give).await.expect(422);
        let admins = format!("/orgs/main/groups/Organization%20Admins/members/{ADMIN}");
        controller.call(&admin, Method::DELETE, &admins, &Value::Null).await.expect(409);
        let bindings = controller.get(&admin, "/orgs/main/bindings").await.expect(200);
        let id = bindings.body["items"][0]["id"].as_str().unwrap().to_owned();
        assert_eq!(bindings.body["items"][0]["builtin"], true);
        let path = format!("/orgs/main/bindings/{id}");
        controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(409);
        // Mass assignment.
        controller.post(&admin, GROUPS, &json!({"name": "x", "builtin": "organization-admins"})).await.expect(400);
        let more = json!({"group": "Organization Admins", "role": "AUDITOR", "builtin": true});
        controller.post(&admin, "/orgs/main/bindings", &more).await.expect(400);
    }

    #[tokio::test]
    async fn nobody_becomes_mightier_by_way_of_a_group() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "alpha"})).await.expect(201);
        let role = json!({"name": "group-keeper", "base": "AUDITOR",
                          "added": ["group.read", "group.write", "user.read", "member.read", "member.write", "role.read"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        let keeper = controller.member("keeper@example.com", Some(("group-keeper", None))).await;
        let me = json!({"user": "keeper@example.com"});
        let admins = "/orgs/main/groups/Organization%20Admins/members";
        let denied = controller.post(&keeper, admins, &me).await.expect(403);
        assert!(denied.text("detail").contains("organization main"), "{}", denied.body);
        controller.call(&keeper, Method::DELETE, &format!("{admins}/{ADMIN}"), &Value::Null).await.expect(403);
        controller.post(&keeper, GROUPS, &json!({"name": "mine"})).await.expect(201);
        controller.post(&keeper, "/orgs/main/groups/mine/members", &me).await.expect(201);
        for (role, project) in [("ADMIN", None), ("PROJECT_READ_ONLY", Some("alpha"))] {
            let give = json!({"group": "mine", "role": role, "project": project});
            let reply = controller.post(&keeper, "/orgs/main/bindings", &give).await;
            assert!(matches!(reply.status.as_u16(), 403 | 404), "{}", reply.body);
        }
        controller.post(&admin, "/orgs/main/bindings", &json!({"group": "mine", "role": "ADMIN"})).await.expect(201);
        controller.post(&admin, "/orgs/main/groups/mine/members", &json!({"user": ADMIN})).await.expect(201);
        controller.get(&keeper, "/orgs/main/settings").await.expect(200);
        let out = "/orgs/main/groups/mine/members/keeper@example.com";
        controller.call(&admin, Method::DELETE, out, &Value::Null).await.expect(204);
        controller.post(&keeper, "/orgs/main/groups/mine/members", &me).await.expect(403);
        controller.call(&keeper, Method::DELETE, "/orgs/main/groups/mine", &Value::Null).await.expect(403);
    }

    #[tokio::test]
    async fn groups_of_another_organization_are_not_there() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let other = controller.other_org().await;
        controller.post(&admin, GROUPS, &json!({"name": "devs"})).await.expect(201);
        controller.get(&other, "/orgs/main/groups/devs").await.expect(404);
        controller.get(&other, "/orgs/other/groups/devs").await.expect(404);
        let give = json!({"group": "devs", "role": "AUDITOR"});
        controller.post(&other, "/orgs/other/bindings", &give).await.expect(404);
        controller
            .post(&admin, "/orgs/main/groups/devs/members", &json!({"user": "boss@other.example"}))
            .await
            .expect(404);
    }
}

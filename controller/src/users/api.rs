//! `/orgs/{org}/users`

use std::collections::HashMap;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::admin::{Invite, UserKind};
use identity::name::{UserName, normalise};
use identity::rbac::Permission;
use serde::{Deserialize, Serialize};
use storage::memberships::{self, Member, MemberFilter, UpdateMember};
use storage::orgs::Org;
use storage::users::row_name;
use storage::{Session, api_keys, bindings, projects};
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::etag::{Created, IfMatch, IfMatchHeader, Tag, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::page::{Bounds, Page, PageQuery};
use crate::time;

/// Longest text of a filter, in characters.
const MAX_FILTER: usize = 254;

/// A user as a member of the organization.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UserView {
    /// E-mail, or a machine's name.
    pub(crate) name: String,
    /// What kind of user.
    pub(crate) kind: Kind,
    /// Whether they have access to this organization.
    pub(crate) status: Status,
    /// First name, as this organization knows it; may be empty.
    pub(crate) first_name: String,
    /// Last name, as this organization knows it; may be empty.
    pub(crate) last_name: String,
    /// Whether they have a second factor; null as long as they have not been here.
    pub(crate) mfa: Option<bool>,
    /// Longest validity of their new API keys, in days; null: what the organization says.
    pub(crate) key_valid_days: Option<i64>,
    /// When they last came to this organization by any door, to the minute.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_access_at: Option<i64>,
    /// By which door: `console`, `cli`, `api` or `registry`.
    #[schema(example = "registry")]
    pub(crate) last_access_door: Option<String>,
    /// When they were last invited.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) invited_at: Option<i64>,
    /// Until when failed log-ins keep their password from letting them in; null where they do not.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) locked_until: Option<i64>,
    /// Since when they are a member.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// The first of the roles that they hold, by themselves or through a group, those on the whole organization before those
    /// on projects; at most 10. Only with `include=roles`, and only where the caller may see who holds which role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) roles: Option<Vec<UserRole>>,
    /// How many roles that would be in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) roles_total: Option<i64>,
    /// How many API keys they have: in lists that are to tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) keys: Option<i64>,
}

/// A role that a user holds.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct UserRole {
    /// The role: a base role's token, or a custom role's name.
    #[schema(example = "PROJECT_ADMIN")]
    pub(crate) role: String,
    /// Slug of the project; null for the whole organization.
    pub(crate) project: Option<String>,
    /// Name of the group that it was given to; null where it was given to the user.
    pub(crate) group: Option<String>,
}

impl From<Member> for UserView {
    fn from(member: Member) -> Self {
        let machine = member.kind == "machine";
        let been_here = machine || member.last_access_at.is_some();
        let status = match (member.active, been_here) {
            (false, _) => Status::Inactive,
            (true, false) => Status::Invited,
            (true, true) => Status::Active,
        };
        Self {
            name: member.name,
            kind: if machine { Kind::Machine } else { Kind::Local },
            status,
            first_name: member.first_name,
            last_name: member.last_name,
            // Before that, it would tell that the address has an account elsewhere.
            mfa: been_here.then_some(member.mfa),
            key_valid_days: member.key_valid_days,
            last_access_at: member.last_access_at,
            last_access_door: member.last_access_door,
            invited_at: member.invited_at,
            locked_until: None,
            created_at: member.created_at,
            roles: None,
            roles_total: None,
            keys: None,
        }
    }
}

/// What kind of user.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A person with a password.
    Local,
    /// A program: API keys only.
    Machine,
}

impl Kind {
    fn as_str(self) -> &'static str {
        UserKind::from(self).as_str()
    }
}

impl From<Kind> for UserKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Local => Self::Local,
            Kind::Machine => Self::Machine,
        }
    }
}

/// Whether a user has access to an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    /// They were invited and have not been here yet.
    Invited,
    /// They have.
    Active,
    /// It was taken away.
    Inactive,
}

impl Status {
    fn as_str(self) -> &'static str {
        match self {
            Self::Invited => "invited",
            Self::Active => "active",
            Self::Inactive => "inactive",
        }
    }
}

/// Which users.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UserQuery {
    /// Text that is part of the name, or of first and last name, in any case.
    pub(crate) search: Option<String>,
    /// Only of this kind.
    pub(crate) kind: Option<Kind>,
    /// Only with this status.
    pub(crate) status: Option<Status>,
    /// Only members of this group.
    pub(crate) group: Option<String>,
    /// Only those who hold a role on this project, themselves or by a group.
    pub(crate) project: Option<String>,
    /// Only those who hold this role, themselves or by a group.
    #[param(example = "PROJECT_ADMIN")]
    pub(crate) role: Option<String>,
    /// What to tell of each besides.
    pub(crate) include: Option<Include>,
}

/// What a list of users tells of each besides.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Include {
    /// The first of their roles. Whoever may see those of some projects alone is told those.
    Roles,
    /// Those, and how many API keys they have where the caller may manage these.
    Access,
}

impl UserQuery {
    fn filter(&self) -> Result<MemberFilter<'_>> {
        let checked = |field, text: &'_ Option<String>| match text {
            Some(text) if text.chars().count() > MAX_FILTER || text.contains('\0') => {
                Err(Error::invalid(field, &format!("use at most {MAX_FILTER} characters")))
            }
            _ => Ok(()),
        };
        for (field, text) in
            [("search", &self.search), ("group", &self.group), ("project", &self.project), ("role", &self.role)]
        {
            checked(field, text)?;
        }
        Ok(MemberFilter {
            search: self.search.as_deref().map(str::trim).filter(|text| !text.is_empty()),
            kind: self.kind.map(Kind::as_str),
            status: self.status.map(Status::as_str),
            group: self.group.as_deref(),
            project: self.project.as_deref(),
            role: self.role.as_deref(),
        })
    }
}

/// A user to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UserToCreate {
    /// E-mail of a person, or a machine's name.
    #[schema(example = "dev@example.com")]
    pub(crate) name: String,
    /// Which of the two.
    pub(crate) kind: Kind,
    /// First name.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub(crate) first_name: String,
    /// Last name.
    #[serde(default)]
    #[schema(max_length = 64)]
    pub(crate) last_name: String,
    /// Names of groups to be in from the start; takes `group.write`, and every right that they give.
    #[serde(default)]
    #[schema(max_items = 50)]
    pub(crate) groups: Vec<String>,
}

/// What of a user changes; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"first_name": "Ann", "last_name": "Smith", "key_valid_days": 30}))]
pub(crate) struct UserChange {
    /// First name.
    #[schema(max_length = 64)]
    pub(crate) first_name: Option<String>,
    /// Last name.
    #[schema(max_length = 64)]
    pub(crate) last_name: Option<String>,
    /// Longest validity of their new API keys, in days; null: what the organization says.
    #[serde(default, deserialize_with = "extract::given")]
    #[schema(value_type = Option<i64>, minimum = 1, maximum = 3650)]
    pub(crate) key_valid_days: Option<Option<i64>>,
}

/// Users of an organization
///
/// By name. Filters by role and project find what the caller may see of who holds which role: whoever may see that of some
/// projects alone finds those who hold one there.
#[utoipa::path(get, path = "/orgs/{org}/users", tag = "users",
    params(("org", description = "Slug of the organization"), UserQuery, PageQuery),
    responses((status = 200, description = "A page of users", body = Page<UserView>)))]
pub(crate) async fn list_users(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(which): Query<UserQuery>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<UserView>>> {
    let org = actor.can_in_org(Permission::UserRead, &state, &org).await?;
    let (filter, bounds) = (which.filter()?, query.bounds()?);
    let mut session = state.db().read().await?;
    let rows = chosen(&actor, &mut session, &org, &filter, &bounds).await?;
    let page = bounds.page(rows, |member| &member.name, |member| member);
    let told = match which.include {
        Some(Include::Roles | Include::Access) => roles_of(&actor, &mut session, &org, &page.items).await?,
        None => None,
    };
    let keys = match which.include {
        Some(Include::Access) if actor.may(Permission::ApikeyManage, &in_org(&org)) => {
            Some(keys_of(&mut session, &org, &page.items).await?)
        }
        _ => None,
    };
    drop(session);
    let mut items = views(&state, page.items).await?;
    for (view, keys) in items.iter_mut().zip(keys.into_iter().flatten()) {
        view.keys = Some(keys);
    }
    for (view, (roles, total)) in items.iter_mut().zip(told.into_iter().flatten()) {
        (view.roles, view.roles_total) = (Some(roles), Some(total));
    }
    Ok(Json(Page { items, next: page.next }))
}

/// Most projects that one caller's filters by role and project are looked up for.
const MAX_PROJECTS: usize = 500;

/// The members that a filter chooses. Who is in a group is told to whoever may read groups, and who holds which role where the
/// caller may read that: not by what passes a filter either.
async fn chosen(
    actor: &Actor,
    session: &mut Session,
    org: &Org,
    filter: &MemberFilter<'_>,
    bounds: &Bounds,
) -> Result<Vec<Member>> {
    if filter.group.is_some() {
        actor.can_named(Permission::GroupRead, &in_org(org), org, None)?;
    }
    let by_role = filter.role.is_some() || filter.project.is_some();
    if !by_role || actor.may(Permission::MemberRead, &in_org(org)) {
        return Ok(memberships::list(session, &org.id, filter, &bounds.after, bounds.fetch()).await?);
    }
    let (mut rows, mut reached) = (Vec::new(), false);
    for id in actor.principal().reach(Permission::MemberRead).projects.iter().take(MAX_PROJECTS) {
        let found = projects::find(session, id).await?;
        let Some(project) = found.filter(|project| project.org_id == org.id) else { continue };
        reached = true;
        if filter.project.is_none_or(|slug| slug == project.slug) {
            let here = MemberFilter { project: Some(&project.slug), ..filter.clone() };
            rows.extend(memberships::list(session, &org.id, &here, &bounds.after, bounds.fetch()).await?);
        }
    }
    if !reached {
        actor.can_named(Permission::MemberRead, &in_org(org), org, None)?;
    }
    rows.sort_by_cached_key(|member: &Member| row_name(&member.name, &org.id));
    rows.dedup_by(|one, other| one.user_id == other.user_id);
    rows.truncate(usize::try_from(bounds.fetch()).unwrap_or(usize::MAX));
    Ok(rows)
}

/// How many API keys each of these members has.
async fn keys_of(session: &mut Session, org: &Org, members: &[Member]) -> Result<Vec<i64>> {
    let ids: Vec<&str> = members.iter().map(|member| member.user_id.as_str()).collect();
    let counts: HashMap<String, i64> = api_keys::counts(session, &org.id, &ids).await?.into_iter().collect();
    Ok(ids.into_iter().map(|id| counts.get(id).copied().unwrap_or_default()).collect())
}

/// Most roles that a list tells of a user.
const MOST_ROLES: i64 = 10;

/// The first roles of each of these members as far as the caller may see them, and how many there are; nothing where they may
/// not.
async fn roles_of(
    actor: &Actor,
    session: &mut Session,
    org: &Org,
    members: &[Member],
) -> Result<Option<Vec<(Vec<UserRole>, i64)>>> {
    let within = match actor.may(Permission::MemberRead, &in_org(org)) {
        true => None,
        false => Some(actor.principal().reach(Permission::MemberRead).projects),
    };
    if within.as_ref().is_some_and(Vec::is_empty) {
        return Ok(None);
    }
    let ids: Vec<&str> = members.iter().map(|member| member.user_id.as_str()).collect();
    let rows = bindings::list_of_members(session, &org.id, &ids, within.as_deref(), MOST_ROLES).await?;
    let mut by_user: HashMap<String, (Vec<UserRole>, i64)> = HashMap::new();
    for row in rows {
        let (roles, total) = by_user.entry(row.user_id).or_default();
        roles.push(UserRole { role: row.role, project: row.project, group: row.group_name });
        *total = row.total;
    }
    Ok(Some(members.iter().map(|member| by_user.remove(&member.user_id).unwrap_or_default()).collect()))
}

/// Members as they are shown, with who is locked out.
async fn views(state: &State, members: Vec<Member>) -> Result<Vec<UserView>> {
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let locked = state.identity().locked_until(&names).await?;
    let mut views: Vec<UserView> = members.into_iter().map(UserView::from).collect();
    for (view, locked_until) in views.iter_mut().zip(locked) {
        // As with the second factor: of whoever has not been here it would tell that they are somebody elsewhere.
        let shown = view.mfa.is_some() && matches!(view.kind, Kind::Local);
        view.locked_until = locked_until.filter(|_| shown);
    }
    Ok(views)
}

/// A member as they are shown.
async fn shown(state: &State, org: &Org, member: Member) -> Result<Versioned<UserView>> {
    let tag = tag(org, &member);
    let view = views(state, vec![member]).await?.pop().ok_or(Error::NotFound("user"))?;
    Ok(Versioned(tag, view))
}

/// Invite a user to an organization
///
/// A person hears of it by mail. Somebody new gets a temporary password, which works for 72 hours and must be changed at the
/// first log-in; somebody who has an account already keeps it. The answer is the same. A machine gets nothing: make an API
/// key for it.
#[utoipa::path(post, path = "/orgs/{org}/users", tag = "users", request_body = UserToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Invited, or made", body = UserView)))]
pub(crate) async fn create_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<UserToCreate>,
) -> Result<Created<UserView>> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let name: UserName = new.name.parse().map_err(|error| Error::invalid("name", &error))?;
    if !new.groups.is_empty() {
        actor.can(Permission::GroupWrite, &in_org(&org))?;
    }
    let invite = Invite {
        name: &name,
        kind: new.kind.into(),
        first_name: &new.first_name,
        last_name: &new.last_name,
        groups: &new.groups,
    };
    let member = state.identity().invite_user(&actor.caller, &org, &invite).await?;
    let at = format!("/orgs/{}/users/{}", org.slug, segment(&member.name));
    Ok(Created { at, tag: Some(tag(&org, &member)), body: member.into() })
}

/// Send an invitation again
///
/// To somebody who was invited and has not been here yet. The temporary password of the mail before no longer works.
/// One each five minutes, and ten invitations a day to one address.
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/resend", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail")),
    responses((status = 204, description = "Sent")))]
pub(crate) async fn resend_invitation(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let member = member(&state, &org, &name).await?;
    state.identity().invite_again(&actor.caller, &org, &member.user_id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A user of an organization
#[utoipa::path(get, path = "/orgs/{org}/users/{name}", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 200, description = "The user", body = UserView)))]
pub(crate) async fn get_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<Versioned<UserView>> {
    let org = actor.can_in_org(Permission::UserRead, &state, &org).await?;
    let member = member(&state, &org, &name).await?;
    shown(&state, &org, member).await
}

/// Change what an organization knows of a user
#[utoipa::path(patch, path = "/orgs/{org}/users/{name}", tag = "users", request_body = UserChange,
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name"), IfMatchHeader),
    responses((status = 200, description = "The user as they are now", body = UserView)))]
pub(crate) async fn update_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    if_match: IfMatch,
    extract::Json(change): extract::Json<UserChange>,
) -> Result<Versioned<UserView>> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let member = member(&state, &org, &name).await?;
    let change = UpdateMember {
        first_name: change.first_name.as_deref(),
        last_name: change.last_name.as_deref(),
        key_valid_days: change.key_valid_days,
    };
    let expected = if_match.expected(&identity_of(&org, &member));
    let member = state.identity().update_member(&actor.caller, &org.id, &member.user_id, &change, expected).await?;
    shown(&state, &org, member).await
}

/// Delete a user from an organization
///
/// With their roles, groups, API keys and trusted issuers here, at once and for good. Their other organizations are not
/// touched.
#[utoipa::path(delete, path = "/orgs/{org}/users/{name}", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name"), IfMatchHeader),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let member = member(&state, &org, &name).await?;
    let expected = if_match.expected(&identity_of(&org, &member));
    state.identity().delete_member(&actor.caller, &org.id, &member.user_id, expected).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a user's access to this organization away
///
/// On every channel and at once; `activate` restores it.
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/deactivate", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 204, description = "Deactivated")))]
pub(crate) async fn deactivate_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    set_active(&actor, &state, &org, &name, false).await
}

/// Give a user's access to this organization back
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/activate", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 204, description = "Activated")))]
pub(crate) async fn activate_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    set_active(&actor, &state, &org, &name, true).await
}

async fn set_active(actor: &Actor, state: &State, org: &Org, name: &str, active: bool) -> Result<StatusCode> {
    let member = member(state, org, name).await?;
    state.identity().set_active(&actor.caller, &org.id, &member.user_id, active).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lift the lock that failed log-ins put on a user
#[utoipa::path(post, path = "/orgs/{org}/users/{name}/unlock", tag = "users",
    params(("org", description = "Slug of the organization"), ("name", description = "E-mail, or a machine's name")),
    responses((status = 204, description = "Unlocked")))]
pub(crate) async fn unlock_user(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::UserWrite, &state, &org).await?;
    let member = member(&state, &org, &name).await?;
    match state.identity().unlock(&actor.caller, &org.id, &member.name).await {
        // Whoever has not been here may be somebody of other organizations: it would tell so.
        Err(storage::Error::Conflict(_)) if member.last_access_at.is_none() => {}
        unlocked => unlocked?,
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What tells a membership from any other, and from an earlier one of the same user.
fn identity_of(org: &Org, member: &Member) -> String {
    format!("{}/{}/{}", org.id, member.user_id, member.created_at)
}

fn tag(org: &Org, member: &Member) -> Tag {
    Tag::new(&identity_of(org, member), member.version)
}

/// The member of that name.
///
/// # Errors
/// 404 where there is none.
pub(crate) async fn member(state: &State, org: &Org, name: &str) -> Result<Member> {
    let mut session = state.db().read().await?;
    let found = memberships::find_by_name(&mut session, &org.id, &normalise(name)).await?;
    found.ok_or(Error::NotFound("user"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Caller, Controller, OPERATOR, PASSWORD, Reply, temporary_password};

    async fn choose(controller: &Controller, name: &str, temporary: &str) {
        let reply = controller.try_login(name, temporary).await.expect(200);
        let session = reply.session();
        let change = json!({"current": temporary, "new": PASSWORD});
        controller.post(&session, "/password", &change).await.expect(200);
        let told = controller.mail_to(name).await;
        assert_eq!(told.subject, "Your password was changed");
    }

    async fn invite(controller: &Controller, admin: &Caller, org: &str, name: &str) -> Reply {
        controller.post(admin, &format!("/orgs/{org}/users"), &json!({"name": name, "kind": "local"})).await
    }

    #[tokio::test]
    async fn a_deactivated_user_is_out_at_once_and_back_with_everything() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let user = controller.member("dev@example.com", Some(("ADMIN", None))).await;
        controller.get(&user, "/orgs/main").await.expect(200);
        let path = "/orgs/main/users/dev@example.com";
        controller.post(&admin, &format!("{path}/deactivate"), &Value::Null).await.expect(204);
        controller.get(&user, "/orgs/main").await.expect(401);
        controller.try_login("dev@example.com", PASSWORD).await.expect(401);
        assert_eq!(controller.get(&admin, path).await.expect(200).body["status"], "inactive");
        controller.post(&admin, &format!("{path}/activate"), &Value::Null).await.expect(204);
        let user = controller.login("Dev@Example.com").await;
        controller.get(&user, "/orgs/main").await.expect(200);
        let seen = controller.get(&admin, path).await.expect(200).body;
        assert_eq!((&seen["status"], &seen["last_access_door"]), (&json!("active"), &json!("console")));
    }

    #[tokio::test]
    async fn whoever_is_new_known_or_waiting_is_invited_with_the_same_answer() {
        let controller = Controller::start().await;
        controller.other_org().await;
        let admin = controller.login(ADMIN).await;
        let boss = controller.login("boss@other.example").await;
        invite(&controller, &boss, "other", "waiting@example.com").await.expect(201);
        let first = temporary_password(&controller.mail_to("waiting@example.com").await);

        let mut answers = Vec::new();
        for name in ["new@example.com", "boss@other.example", "waiting@example.com"] {
            let reply = invite(&controller, &admin, "main", name).await.expect(201);
            assert_eq!(reply.headers["location"], format!("/api/v1/orgs/main/users/{name}"));
            let letter = controller.mail_to(name).await;
            assert_eq!(letter.subject.starts_with("Invitation to"), name != "boss@other.example", "{}", letter.subject);
            answers.push((name, reply, letter));
            invite(&controller, &admin, "main", name).await.expect(409);
        }
        let same = |reply: &Reply, name: &str| reply.body.to_string().replace(name, "X");
        for (name, reply, _) in &answers[1..] {
            assert_eq!(same(reply, name), same(&answers[0].1, "new@example.com"));
        }
        assert_eq!(answers[0].1.body["status"], "invited");
        assert_eq!(answers[0].1.body["mfa"], Value::Null);
        assert!(answers[0].1.body.get("id").is_none());
        assert!(controller.mails().await.is_empty());

        // Whoever was there keeps the credentials they had; an invitation that was never used is void.
        controller.login("boss@other.example").await;
        controller.try_login("waiting@example.com", &first).await.expect(401);
        choose(&controller, "waiting@example.com", &temporary_password(&answers[2].2)).await;
        let user = controller.login("waiting@example.com").await;
        let session = controller.get(&user, "/session").await.expect(200);
        assert_eq!(session.body["organizations"], json!(["main", "other"]));
    }

    #[tokio::test]
    async fn whoever_is_invited_into_groups_is_in_them_or_not_invited_at_all() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/groups", &json!({"name": "dev"})).await.expect(201);
        let body = |groups: &[&str]| json!({"name": "new@example.com", "kind": "local", "groups": groups});
        controller.post(&admin, "/orgs/main/users", &body(&["dev", "nope"])).await.expect(404);
        controller.get(&admin, "/orgs/main/users/new@example.com").await.expect(404);
        assert!(controller.mails().await.is_empty());
        controller.post(&admin, "/orgs/main/users", &body(&["dev", "Organization Admins", "dev"])).await.expect(201);
        let found = controller.get(&admin, "/orgs/main/users?group=dev").await.expect(200);
        assert_eq!(found.body["items"][0]["name"], "new@example.com");
        choose(&controller, "new@example.com", &temporary_password(&controller.mail_to("new@example.com").await)).await;
        let user = controller.login("new@example.com").await;
        controller.get(&user, "/orgs/main/users").await.expect(200);
    }

    #[tokio::test]
    async fn nobody_chooses_somebody_elses_password() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let with = json!({"name": "new@example.com", "kind": "local", "password": PASSWORD});
        controller.post(&admin, "/orgs/main/users", &with).await.expect(400);
        let operator = controller.login(OPERATOR).await;
        let with = json!({"slug": "fresh", "admin": {"email": "new@example.com", "password": PASSWORD}});
        controller.post(&operator, "/orgs", &with).await.expect(400);
        let fresh = json!({"slug": "fresh", "admin": {"email": "new@example.com"}});
        let made = controller.post(&operator, "/orgs", &fresh).await.expect(201);
        assert_eq!(made.body["admin"]["status"], "invited");
        choose(&controller, "new@example.com", &temporary_password(&controller.mail_to("new@example.com").await)).await;
        let user = controller.login("new@example.com").await;
        controller.get(&user, "/orgs/fresh/users").await.expect(200);
        // Nobody is added who stands outside of every organization.
        invite(&controller, &admin, "main", OPERATOR).await.expect(409);
    }

    #[tokio::test]
    async fn an_invitation_ends_after_three_days_and_is_sent_again() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        invite(&controller, &admin, "main", "new@example.com").await.expect(201);
        let first = temporary_password(&controller.mail_to("new@example.com").await);
        let resend = "/orgs/main/users/new@example.com/resend";
        controller.post(&admin, resend, &Value::Null).await.expect(204);
        let second = temporary_password(&controller.mail_to("new@example.com").await);
        controller.try_login("new@example.com", &first).await.expect(401);
        controller.clock.advance(72 * 3600);
        controller.try_login("new@example.com", &second).await.expect(401);
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, resend, &Value::Null).await.expect(204);
        choose(&controller, "new@example.com", &temporary_password(&controller.mail_to("new@example.com").await)).await;
        controller.post(&admin, resend, &Value::Null).await.expect(409);
        // Of somebody who has an account, too, so that it does not tell who has.
        controller.other_org().await;
        invite(&controller, &admin, "main", "boss@other.example").await.expect(201);
        assert_eq!(controller.mail_to("boss@other.example").await.subject, "You were added to main");
        controller.post(&admin, "/orgs/main/users/boss@other.example/resend", &Value::Null).await.expect(204);
        assert_eq!(controller.mail_to("boss@other.example").await.subject, "You were added to main");
    }

    #[tokio::test]
    async fn an_address_is_not_flooded_with_invitations() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let (path, resend) = ("/orgs/main/users/new@example.com", "/orgs/main/users/new@example.com/resend");
        invite(&controller, &admin, "main", "new@example.com").await.expect(201);
        controller.post(&admin, resend, &Value::Null).await.expect(204);
        let late = controller.post(&admin, resend, &Value::Null).await.expect(429);
        assert_eq!(late.headers["retry-after"], "300");
        controller.clock.advance(299);
        controller.post(&admin, resend, &Value::Null).await.expect(429);
        controller.clock.advance(1);
        controller.post(&admin, resend, &Value::Null).await.expect(204);
        // Nor by deleting and inviting: three went, seven are left. What fails sends none, and costs none.
        invite(&controller, &admin, "main", "new@example.com").await.expect(409);
        for _ in 0..7 {
            controller.call(&admin, Method::DELETE, path, &Value::Null).await.expect(204);
            invite(&controller, &admin, "main", "new@example.com").await.expect(201);
        }
        controller.call(&admin, Method::DELETE, path, &Value::Null).await.expect(204);
        invite(&controller, &admin, "main", "new@example.com").await.expect(429);
        invite(&controller, &admin, "main", "another@example.com").await.expect(201);
        controller.clock.advance(86_400 / 10);
        let admin = controller.login(ADMIN).await;
        invite(&controller, &admin, "main", "new@example.com").await.expect(201);
    }

    #[tokio::test]
    async fn a_profile_changes_by_version_and_is_found() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.member("dev@example.com", None).await;
        let path = "/orgs/main/users/dev@example.com";
        let first = controller.get(&admin, path).await.expect(200).headers["etag"].to_str().unwrap().to_owned();
        let change = json!({"first_name": " Ann ", "last_name": "Smith", "key_valid_days": 7});
        let changed = controller.call(&admin, Method::PATCH, path, &change).await.expect(200);
        assert_eq!((&changed.body["first_name"], &changed.body["key_valid_days"]), (&json!("Ann"), &json!(7)));
        let stale = [("if-match", first.as_str())];
        controller.call_with(&admin, Method::PATCH, path, &change, &stale).await.expect(412);
        controller.call_with(&admin, Method::DELETE, path, &Value::Null, &stale).await.expect(412);
        let changed = controller.call(&admin, Method::PATCH, path, &json!({"key_valid_days": null})).await.expect(200);
        assert_eq!((&changed.body["last_name"], &changed.body["key_valid_days"]), (&json!("Smith"), &Value::Null));
        for bad in [json!({"key_valid_days": 0}), json!({"first_name": "a\nb"}), json!({"last_name": "x".repeat(65)})] {
            controller.call(&admin, Method::PATCH, path, &bad).await.expect(422);
        }
        controller.call(&admin, Method::PATCH, path, &json!({"verified": true})).await.expect(400);
        for (query, found) in [
            ("search=smith", 1),
            ("search=SMITH&kind=local", 1),
            ("kind=machine", 0),
            ("status=active", 2),
            ("status=invited", 0),
            ("status=inactive", 0),
            ("role=ADMIN", 1),
            ("search=%25", 0),
        ] {
            let list = controller.get(&admin, &format!("/orgs/main/users?{query}")).await.expect(200);
            assert_eq!(list.body["items"].as_array().unwrap().len(), found, "{query}: {}", list.body);
        }
        controller.get(&admin, "/orgs/main/users?kind=robot").await.expect(400);
        controller.get(&admin, &format!("/orgs/main/users?search={}", "x".repeat(300))).await.expect(422);
        let first = controller.get(&admin, "/orgs/main/users?limit=1").await.expect(200);
        let next = format!("/orgs/main/users?limit=1&after={}", first.text("next"));
        let second = controller.get(&admin, &next).await.expect(200);
        assert_eq!(second.body["items"][0]["name"], "dev@example.com");
    }

    #[tokio::test]
    async fn filters_tell_nobody_of_roles_and_groups_that_they_may_not_see() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for slug in ["hidden", "web", "api"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        controller.member("spy@example.com", Some(("PROJECT_ADMIN", Some("web")))).await;
        controller.member("ann@example.com", Some(("PROJECT_ADMIN", Some("hidden")))).await;
        controller.member("bob@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        let spy = json!({"user": "spy@example.com", "role": "PROJECT_ADMIN", "project": "api"});
        controller.post(&admin, "/orgs/main/bindings", &spy).await.expect(201);
        let only = json!({"name": "directory", "base": "AUDITOR", "added": ["user.read"]});
        controller.post(&admin, "/orgs/main/roles", &only).await.expect(201);
        let spy = controller.login("spy@example.com").await;
        let names = async |caller: &Caller, query: &str| {
            let list = controller.get(caller, &format!("/orgs/main/users?{query}")).await.expect(200).body;
            let names = list["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned());
            (names.collect::<Vec<_>>().join(" "), list["next"].clone())
        };
        for (query, theirs, all) in [
            ("project=hidden", "", "ann@example.com"),
            ("role=PROJECT_ADMIN", "spy@example.com", "ann@example.com spy@example.com"),
            ("role=ADMIN", "", ADMIN),
            ("project=hidden&role=PROJECT_ADMIN", "", "ann@example.com"),
            ("project=nothing", "", ""),
            ("project=web", "bob@example.com spy@example.com", "bob@example.com spy@example.com"),
            ("project=web&role=PROJECT_READ_ONLY", "bob@example.com", "bob@example.com"),
            ("role=PROJECT_READ_ONLY&search=ann", "", ""),
        ] {
            assert_eq!(names(&spy, query).await.0, theirs, "{query}");
            assert_eq!(names(&admin, query).await.0, all, "{query}");
        }
        let (first, next) = names(&spy, "project=web&limit=1").await;
        assert_eq!((first.as_str(), next.as_str()), ("bob@example.com", Some("bob@example.com")));
        assert_eq!(names(&spy, "project=web&limit=1&after=bob@example.com").await.0, "spy@example.com");
        let clerk = controller.member("clerk@example.com", Some(("directory", None))).await;
        for query in ["role=ADMIN", "project=web", "group=Organization%20Admins"] {
            controller.get(&clerk, &format!("/orgs/main/users?{query}")).await.expect(403);
        }
        assert_eq!(names(&clerk, "search=ann").await.0, "ann@example.com");
    }

    #[tokio::test]
    async fn whoever_is_deleted_keeps_their_other_organizations_and_nothing_here() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let boss = controller.other_org().await;
        controller.add("main", "boss@other.example").await;
        let body = json!({"user": "boss@other.example", "role": "ADMIN"});
        controller.post(&admin, "/orgs/main/bindings", &body).await.expect(201);
        let boss = controller.post(&boss, "/session/org", &json!({"org": "main"})).await.expect(200).session();
        let key = controller.post(&boss, "/orgs/main/apikeys", &json!({"name": "k"})).await.expect(201).text("key");
        let boss = controller.post(&boss, "/session/org", &json!({"org": "other"})).await.expect(200).session();
        let kept = controller.post(&boss, "/orgs/other/apikeys", &json!({"name": "k"})).await.expect(201).text("key");
        controller.get(&Caller::Key(key.clone()), "/orgs/main").await.expect(200);
        let path = "/orgs/main/users/boss@other.example";
        controller.call(&admin, Method::DELETE, path, &Value::Null).await.expect(204);
        controller.get(&Caller::Key(key), "/orgs/main").await.expect(401);
        controller.get(&boss, "/orgs/main").await.expect(404);
        controller.get(&boss, "/orgs/other").await.expect(200);
        controller.get(&Caller::Key(kept), "/orgs/other").await.expect(200);
        controller.get(&admin, path).await.expect(404);
        // Added again, they have nothing of what they had.
        controller.add("main", "boss@other.example").await;
        controller.get(&boss, "/orgs/main").await.expect(404);

        // Whoever belongs to nothing any more has no session.
        let dev = controller.member("dev@example.com", Some(("AUDITOR", None))).await;
        controller.call(&admin, Method::DELETE, "/orgs/main/users/dev@example.com", &Value::Null).await.expect(204);
        controller.get(&dev, "/session").await.expect(401);
        let myself = format!("/orgs/main/users/{ADMIN}");
        controller.call(&admin, Method::DELETE, &myself, &Value::Null).await.expect(409);
        controller.get(&admin, "/orgs/main").await.expect(200);
    }

    #[tokio::test]
    async fn a_locked_user_is_unlocked_by_an_admin() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.member("dev@example.com", None).await;
        for _ in 0..5 {
            controller.try_login("dev@example.com", "wrong").await.expect(401);
        }
        controller.try_login("dev@example.com", PASSWORD).await.expect(429);
        controller.post(&admin, "/orgs/main/users/dev@example.com/unlock", &Value::Null).await.expect(204);
        controller.try_login("dev@example.com", PASSWORD).await.expect(200);
    }

    #[tokio::test]
    async fn machines_have_no_password_and_no_session_and_names_of_their_organization() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let boss = controller.other_org().await;
        let ci = json!({"name": "CI", "kind": "machine"});
        let made = controller.post(&admin, "/orgs/main/users", &ci).await.expect(201);
        assert_eq!((&made.body["name"], &made.body["status"]), (&json!("ci"), &json!("active")));
        controller.post(&admin, "/orgs/main/users", &ci).await.expect(409);
        controller.post(&boss, "/orgs/other/users", &ci).await.expect(201);
        assert!(controller.mails().await.is_empty());
        controller.post(&admin, "/orgs/main/users/ci/resend", &Value::Null).await.expect(409);
        let key = controller.post(&admin, "/orgs/main/apikeys", &json!({"name": "k", "user": "ci"})).await.expect(201);
        assert_eq!((&key.body["user"], &key.body["created_by"]), (&json!("ci"), &json!(ADMIN)));
        controller.try_login("ci", &key.text("key")).await.expect(401);
        controller.call(&admin, Method::DELETE, "/orgs/main/users/ci", &Value::Null).await.expect(204);
        controller.get(&Caller::Key(key.text("key")), "/orgs").await.expect(401);
        controller.get(&boss, "/orgs/other/users/ci").await.expect(200);
        controller.post(&admin, "/orgs/main/users", &ci).await.expect(201);
    }
}

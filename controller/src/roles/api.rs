//! `/orgs/{org}/roles`

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::admin::{NewRole, UpdateRole};
use identity::rbac::{CustomRole, Given, Permission, Role, RoleScope};
use serde::{Deserialize, Serialize};
use storage::Session;
use storage::bindings::{self, Holders};
use storage::custom_roles::{self, CustomRole as Row, Rules};
use storage::orgs::Org;
use utoipa::ToSchema;

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::etag::{Created, IfMatch, IfMatchHeader, Tag, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;

/// A role: one of the matrix, or an organization's own.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct RoleView {
    /// Token of a base role, or name of a custom one.
    pub(crate) name: String,
    /// What people call it.
    pub(crate) label: String,
    /// Whether it is the organization's own.
    pub(crate) custom: bool,
    /// `org` or `project`: what it is given on.
    #[schema(example = "project")]
    pub(crate) scope: &'static str,
    /// Token of the base role that a custom one is made of.
    pub(crate) base: Option<String>,
    /// What it is for.
    pub(crate) description: String,
    /// Whether namespaces must be named where it is given.
    pub(crate) namespaces: bool,
    /// What it allows on what it is given on, and for a project's role what it allows on the organization around that.
    pub(crate) permissions: Vec<&'static str>,
    /// Permissions that its base role does not have.
    pub(crate) added: Vec<String>,
    /// Permissions of its base role that it does not have.
    pub(crate) removed: Vec<String>,
    /// Patterns of the repositories that its registry permissions hold in, by their path below the project; empty: all.
    pub(crate) repositories: Vec<String>,
    /// Patterns of the tags that may be written or deleted; empty: all.
    pub(crate) tags: Vec<String>,
    /// When it was made; null for a base role.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) created_at: Option<i64>,
    /// How many users hold it themselves; null for whoever may not see them all.
    pub(crate) users: Option<i64>,
    /// How many groups hold it; null for whoever may not see them all.
    pub(crate) groups: Option<i64>,
}

/// A custom role to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleToCreate {
    /// Its name: lower-case letters, digits, `.`, `_` and `-`.
    #[schema(example = "release-manager", min_length = 2, max_length = 64)]
    pub(crate) name: String,
    /// Token of the base role.
    #[schema(example = "PROJECT_READ_ONLY")]
    pub(crate) base: String,
    /// What it is for.
    #[serde(default)]
    #[schema(max_length = 512)]
    pub(crate) description: String,
    /// Permissions that the base role does not have.
    #[serde(default)]
    pub(crate) added: Vec<String>,
    /// Permissions of the base role that it is not to have.
    #[serde(default)]
    pub(crate) removed: Vec<String>,
    /// Patterns of the repositories that its registry permissions hold in, by their path below the project; none: all.
    /// `*` stays within a component, `**` does not.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub(crate) repositories: Vec<String>,
    /// Patterns of the tags that may be written or deleted; none: all.
    #[serde(default)]
    #[schema(max_items = 32)]
    pub(crate) tags: Vec<String>,
}

/// What of a custom role changes; what is not given stays. Its name and base never change.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RoleChange {
    /// What it is for.
    #[schema(max_length = 512)]
    pub(crate) description: Option<String>,
    /// Permissions that the base role does not have.
    #[schema(example = json!(["registry.push"]))]
    pub(crate) added: Option<Vec<String>>,
    /// Permissions of the base role that it is not to have.
    pub(crate) removed: Option<Vec<String>>,
    /// Patterns of the repositories that its registry permissions hold in.
    #[schema(max_items = 32)]
    pub(crate) repositories: Option<Vec<String>>,
    /// Patterns of the tags that may be written or deleted.
    #[schema(max_items = 32)]
    pub(crate) tags: Option<Vec<String>>,
}

/// The roles that bindings give.
pub(crate) fn base_roles() -> impl Iterator<Item = Role> {
    Role::all().filter(|role| role.scope() != RoleScope::Platform)
}

/// What bindings call the role of that name: a base role's token, or a custom role's id.
///
/// # Errors
/// Those of the database.
pub(crate) async fn key_of(session: &mut Session, org: &Org, name: &str) -> Result<Option<String>> {
    if Role::find(name).is_some() {
        return Ok(Some(name.to_owned()));
    }
    Ok(custom_roles::find_by_name(session, &org.id, name).await?.map(|row| row.id))
}

/// A role that the caller may see, by its name.
///
/// # Errors
/// 422 where there is none.
pub(crate) async fn role_of(actor: &Actor, state: &State, org: &Org, name: &str) -> Result<Given> {
    if let Some(role) = Role::find(name) {
        return Ok(role.into());
    }
    let found = custom_roles::find_by_name(&mut state.db().read().await?, &org.id, name).await?;
    let seen = found.filter(|_| actor.may(Permission::RoleRead, &in_org(org)));
    let role = seen.and_then(|row| CustomRole::read(&row).ok()).ok_or_else(|| {
        let known: Vec<&str> = base_roles().map(Role::token).collect();
        Error::invalid("role", &format!("use a custom role's name or one of {}", known.join(", ")))
    })?;
    Ok(Given::Custom(Arc::new(role)))
}

/// A custom role that the caller may see.
async fn custom_of(state: &State, org: &Org, name: &str) -> Result<Row> {
    if Role::find(name).is_some() {
        return Err(Error::Unacceptable("that is a base role: it stays as it is; make a custom role of it".into()));
    }
    let found = custom_roles::find_by_name(&mut state.db().read().await?, &org.id, name).await?;
    found.ok_or(Error::NotFound("role"))
}

/// Roles
///
/// The base roles in the order of the matrix, then the organization's own by name.
#[utoipa::path(get, path = "/orgs/{org}/roles", tag = "roles",
    params(("org", description = "Slug of the organization"), PageQuery),
    responses((status = 200, description = "A page of roles", body = Page<RoleView>)))]
pub(crate) async fn list_roles(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<RoleView>>> {
    let (org, page) = uncounted(&actor, &state, &org, query).await?;
    Ok(Json(Page { items: counted(&actor, &state, &org, page.items).await?, next: page.next }))
}

/// The first roles, to choose from: nobody counts who holds them.
pub(crate) async fn first_roles(actor: &Actor, state: &State, org: &str, most: i64) -> Result<Vec<RoleView>> {
    let (_, page) = uncounted(actor, state, org, PageQuery { limit: Some(most), after: None }).await?;
    Ok(page.items.into_iter().map(|(_, view)| view).collect())
}

/// A page of roles by what bindings call them.
async fn uncounted(
    actor: &Actor,
    state: &State,
    org: &str,
    query: PageQuery,
) -> Result<(Org, Page<(String, RoleView)>)> {
    let org = actor.can_in_org(Permission::RoleRead, state, org).await?;
    let bounds = query.bounds()?;
    // The base roles come first, whatever their names.
    let keyed = |role: Role| (role.token().to_owned(), base_view(role));
    let mut views: Vec<(String, RoleView)> = match base_roles().position(|role| role.token() == bounds.after) {
        Some(at) => base_roles().skip(at + 1).map(keyed).collect(),
        None if bounds.after.is_empty() => base_roles().map(keyed).collect(),
        None => Vec::new(),
    };
    let after = if Role::find(&bounds.after).is_some() { "" } else { &bounds.after };
    if views.len() <= bounds.limit {
        let rows = custom_roles::list(&mut state.db().read().await?, &org.id, after, bounds.fetch()).await?;
        views.extend(rows.into_iter().map(|row| (row.id.clone(), custom_view(row))));
    }
    let page = bounds.page(views, |(_, view)| &view.name, |view| view);
    Ok((org, page))
}

/// Roles, by what bindings call them, with how many hold them where the caller may see that.
async fn counted(actor: &Actor, state: &State, org: &Org, mut roles: Vec<(String, RoleView)>) -> Result<Vec<RoleView>> {
    if actor.may(Permission::MemberRead, &in_org(org)) {
        let keys: Vec<&str> = roles.iter().map(|(key, _)| key.as_str()).collect();
        let holders = bindings::holders(&mut state.db().read().await?, &org.id, &keys).await?;
        let holders: HashMap<String, Holders> = holders.into_iter().map(|row| (row.role.clone(), row)).collect();
        for (key, view) in &mut roles {
            let (users, groups) = holders.get(key).map_or((0, 0), |row| (row.users, row.groups));
            (view.users, view.groups) = (Some(users), Some(groups));
        }
    }
    Ok(roles.into_iter().map(|(_, view)| view).collect())
}

/// As [`counted`], of one.
async fn counted_one(actor: &Actor, state: &State, org: &Org, key: &str, view: RoleView) -> Result<RoleView> {
    counted(actor, state, org, vec![(key.to_owned(), view)]).await?.pop().ok_or(Error::NotFound("role"))
}

/// Make a custom role
///
/// It takes every permission that it is to have, on the whole organization.
#[utoipa::path(post, path = "/orgs/{org}/roles", tag = "roles", request_body = RoleToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Made", body = RoleView)))]
pub(crate) async fn create_role(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<RoleToCreate>,
) -> Result<Created<RoleView>> {
    let org = actor.can_in_org(Permission::RoleWrite, &state, &org).await?;
    let base = base_roles().find(|role| role.token() == new.base);
    let base =
        base.ok_or_else(|| Error::invalid("base", "there is no base role of that name: GET …/roles lists them"))?;
    let new = NewRole {
        org_id: &org.id,
        name: &new.name,
        description: &new.description,
        base,
        rules: Rules { added: new.added, removed: new.removed, repositories: new.repositories, tags: new.tags },
    };
    let row = state.identity().create_role(&actor.caller, &new).await?;
    let at = format!("/orgs/{}/roles/{}", org.slug, segment(&row.name));
    let (id, tag) = (row.id.clone(), Some(Tag::new(&row.id, row.version)));
    Ok(Created { at, tag, body: counted_one(&actor, &state, &org, &id, custom_view(row)).await? })
}

/// A role
#[utoipa::path(get, path = "/orgs/{org}/roles/{role}", tag = "roles",
    params(("org", description = "Slug of the organization"), ("role", description = "Token or name of the role")),
    responses((status = 200, description = "The role", body = RoleView)))]
pub(crate) async fn get_role(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
) -> Result<Versioned<RoleView>> {
    let org = actor.can_in_org(Permission::RoleRead, &state, &org).await?;
    if let Some(base) = base_roles().find(|base| base.token() == role) {
        let view = counted_one(&actor, &state, &org, base.token(), base_view(base)).await?;
        return Ok(Versioned(Tag::new(base.token(), 1), view));
    }
    let found = custom_roles::find_by_name(&mut state.db().read().await?, &org.id, &role).await?;
    let row = found.ok_or(Error::NotFound("role"))?;
    let (id, tag) = (row.id.clone(), Tag::new(&row.id, row.version));
    Ok(Versioned(tag, counted_one(&actor, &state, &org, &id, custom_view(row)).await?))
}

/// Change a custom role
///
/// For everybody who has it, at once. It takes every permission that it has and is to have.
#[utoipa::path(patch, path = "/orgs/{org}/roles/{role}", tag = "roles", request_body = RoleChange,
    params(("org", description = "Slug of the organization"), ("role", description = "Name of the role"), IfMatchHeader),
    responses((status = 200, description = "The role as it is now", body = RoleView)))]
pub(crate) async fn update_role(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
    if_match: IfMatch,
    extract::Json(change): extract::Json<RoleChange>,
) -> Result<Versioned<RoleView>> {
    let org = actor.can_in_org(Permission::RoleWrite, &state, &org).await?;
    let row = custom_of(&state, &org, &role).await?;
    let change = UpdateRole {
        description: change.description.as_deref(),
        added: change.added,
        removed: change.removed,
        repositories: change.repositories,
        tags: change.tags,
        expected: if_match.expected(&row.id),
    };
    let row = state.identity().update_role(&actor.caller, &org.id, &row.id, &change).await?;
    let (id, tag) = (row.id.clone(), Tag::new(&row.id, row.version));
    Ok(Versioned(tag, counted_one(&actor, &state, &org, &id, custom_view(row)).await?))
}

/// Delete a custom role
///
/// Only one that nobody has.
#[utoipa::path(delete, path = "/orgs/{org}/roles/{role}", tag = "roles",
    params(("org", description = "Slug of the organization"), ("role", description = "Name of the role"), IfMatchHeader),
    responses((status = 204, description = "Deleted")))]
pub(crate) async fn delete_role(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, role)): Path<(String, String)>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::RoleWrite, &state, &org).await?;
    let row = custom_of(&state, &org, &role).await?;
    state.identity().delete_role(&actor.caller, &org.id, &row.id, if_match.expected(&row.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How the API calls a scope.
fn scope(scope: RoleScope) -> &'static str {
    match scope {
        RoleScope::Platform => "platform",
        RoleScope::Organization => "org",
        RoleScope::Project => "project",
    }
}

fn permissions(role: &Given) -> Vec<&'static str> {
    let all = role.permissions().iter().chain(role.organization_permissions());
    all.map(|permission| permission.as_str()).collect()
}

/// A base role, as the API tells it.
pub(crate) fn base_view(role: Role) -> RoleView {
    RoleView {
        name: role.token().to_owned(),
        label: role.label().to_owned(),
        custom: false,
        scope: scope(role.scope()),
        base: None,
        description: String::new(),
        namespaces: role.needs_namespaces(),
        permissions: permissions(&role.into()),
        added: Vec::new(),
        removed: Vec::new(),
        repositories: Vec::new(),
        tags: Vec::new(),
        created_at: None,
        users: None,
        groups: None,
    }
}

fn custom_view(row: Row) -> RoleView {
    let base = Role::find(&row.base);
    let role = CustomRole::read(&row).ok().map(|role| Given::Custom(Arc::new(role)));
    RoleView {
        label: row.name.clone(),
        name: row.name,
        custom: true,
        scope: base.map_or("org", |base| scope(base.scope())),
        base: Some(row.base),
        description: row.description,
        namespaces: base.is_some_and(Role::needs_namespaces),
        permissions: role.as_ref().map(permissions).unwrap_or_default(),
        added: row.rules.added,
        removed: row.rules.removed,
        repositories: row.rules.repositories,
        tags: row.rules.tags,
        created_at: Some(row.created_at),
        users: None,
        groups: None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Controller};

    const ROLES: &str = "/orgs/main/roles";

    #[tokio::test]
    async fn custom_roles_are_listed_behind_the_base_ones_and_change_for_everybody() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let new = json!({"name": "namer", "base": "AUDITOR", "added": ["org.update"]});
        let made = controller.post(&admin, ROLES, &new).await.expect(201);
        assert_eq!((made.text("scope"), made.text("base")), ("org".into(), "AUDITOR".into()));
        controller.post(&admin, ROLES, &new).await.expect(409);
        let first = controller.get(&admin, &format!("{ROLES}?limit=12")).await.expect(200);
        assert_eq!((first.body["items"].as_array().unwrap().len(), first.text("next")), (12, "CLUSTER_ADMIN".into()));
        let rest = controller.get(&admin, &format!("{ROLES}?limit=12&after=CLUSTER_ADMIN")).await.expect(200);
        assert_eq!((rest.body["items"][0]["name"].clone(), rest.body["next"].clone()), (json!("namer"), Value::Null));
        let none = controller.get(&admin, &format!("{ROLES}?after=namer")).await.expect(200);
        assert_eq!(none.body["items"], json!([]));
        assert_eq!(controller.get(&admin, &format!("{ROLES}/ADMIN")).await.expect(200).body["custom"], false);

        let dev = controller.member("dev@example.com", Some(("namer", None))).await;
        let rename = json!({"name": "Renamed"});
        controller.call(&dev, Method::PATCH, "/orgs/main", &rename).await.expect(200);
        let path = format!("{ROLES}/namer");
        let stale = [("if-match", "\"5\"")];
        controller.call_with(&admin, Method::PATCH, &path, &json!({"added": []}), &stale).await.expect(412);
        let changed = controller.call(&admin, Method::PATCH, &path, &json!({"added": []})).await.expect(200);
        assert!(changed.headers["etag"].to_str().unwrap().starts_with("\"2-"));
        controller.call(&dev, Method::PATCH, "/orgs/main", &rename).await.expect(403);
        controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(409);
        let held = controller.get(&admin, "/orgs/main/bindings?role=namer").await.expect(200);
        assert_eq!(held.body["items"][0]["role"], "namer");
        let counted = controller.get(&admin, &path).await.expect(200).body;
        assert_eq!((&counted["users"], &counted["groups"]), (&json!(1), &json!(0)));
        let binding = format!("/orgs/main/bindings/{}", held.body["items"][0]["id"].as_str().unwrap());
        controller.call(&admin, Method::DELETE, &binding, &Value::Null).await.expect(204);
        controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(204);
        controller.get(&admin, &path).await.expect(404);
    }

    #[tokio::test]
    async fn a_role_that_cannot_be_is_refused() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let many: Vec<String> = (0..33).map(|n| format!("a{n}")).collect();
        for (change, status) in [
            (json!({"name": "X"}), 422),
            (json!({"name": "a"}), 422),
            (json!({"base": "SUPER_ADMIN"}), 422),
            (json!({"base": "KING"}), 422),
            (json!({"base": "namer"}), 422),
            (json!({"added": ["everything"]}), 422),
            (json!({"added": ["user.write"]}), 422),
            (json!({"added": ["platform.org.manage"]}), 422),
            (json!({"removed": ["registry.push"]}), 422),
            (json!({"repositories": ["["]}), 422),
            (json!({"repositories": many}), 422),
            (json!({"tags": ["x".repeat(129)]}), 422),
            (json!({"id": "ADMIN"}), 400),
            (json!({"version": 9}), 400),
        ] {
            let mut new = json!({"name": "fine", "base": "PROJECT_READ_ONLY"});
            new.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            controller.post(&admin, ROLES, &new).await.expect(status);
        }
        for field in ["repositories", "tags"] {
            let new = json!({"name": "fine", "base": "PROJECT_READ_ONLY", field: ["["]});
            assert_eq!(controller.post(&admin, ROLES, &new).await.expect(422).body["field"], field);
        }
        controller.call(&admin, Method::PATCH, &format!("{ROLES}/ADMIN"), &json!({"added": []})).await.expect(422);
        controller.call(&admin, Method::DELETE, &format!("{ROLES}/ADMIN"), &Value::Null).await.expect(422);
    }

    #[tokio::test]
    async fn nobody_makes_or_changes_a_role_of_which_they_lack_a_permission() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let smith = json!({"name": "smith", "base": "AUDITOR",
                           "added": ["role.read", "role.write", "member.read", "member.write", "user.read"],
                           "removed": ["apikey.own"]});
        controller.post(&admin, ROLES, &smith).await.expect(201);
        let smith = controller.member("smith@example.com", Some(("smith", None))).await;
        // More than they have; the role they have themselves; a permission that it lacks; everything at once.
        let more = json!({"name": "more", "base": "AUDITOR", "added": ["settings.write"]});
        let denied = controller.post(&smith, ROLES, &more).await.expect(403);
        assert!(denied.text("detail").contains("organization main"), "{}", denied.body);
        controller.post(&smith, ROLES, &json!({"name": "pull", "base": "PROJECT_READ_ONLY"})).await.expect(403);
        let own = format!("{ROLES}/smith");
        let added = ["role.read", "role.write", "member.read", "member.write", "user.read", "user.write"];
        controller.call(&smith, Method::PATCH, &own, &json!({"added": added})).await.expect(403);
        controller.call(&smith, Method::PATCH, &own, &json!({"removed": []})).await.expect(403);
        controller.call(&smith, Method::PATCH, &own, &json!({"description": "mine"})).await.expect(200);
        let me = json!({"user": "smith@example.com", "role": "ADMIN"});
        controller.post(&smith, "/orgs/main/bindings", &me).await.expect(403);
        // A mightier role is not theirs to meddle with.
        let mighty = json!({"name": "mighty", "base": "ADMIN", "removed": ["apikey.own"]});
        controller.post(&admin, ROLES, &mighty).await.expect(201);
        let mighty = format!("{ROLES}/mighty");
        controller.call(&smith, Method::PATCH, &mighty, &json!({"description": "x"})).await.expect(403);
        controller.call(&smith, Method::DELETE, &mighty, &Value::Null).await.expect(403);
        let less = json!({"name": "less", "base": "AUDITOR", "removed": ["apikey.own", "audit.read"]});
        controller.post(&smith, ROLES, &less).await.expect(201);
    }

    #[tokio::test]
    async fn roles_of_another_organization_are_not_there() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let other = controller.other_org().await;
        controller.post(&admin, ROLES, &json!({"name": "reader", "base": "AUDITOR"})).await.expect(201);
        controller.get(&other, "/orgs/other/roles/reader").await.expect(404);
        let id = {
            let org =
                storage::orgs::find_by_slug(&mut controller.db.read().await.unwrap(), "main").await.unwrap().unwrap();
            storage::custom_roles::list(&mut controller.db.read().await.unwrap(), &org.id, "", 9)
                .await
                .unwrap()
                .remove(0)
                .id
        };
        for role in ["reader", id.as_str()] {
            let give = json!({"user": "boss@other.example", "role": role});
            controller.post(&other, "/orgs/other/bindings", &give).await.expect(422);
        }
        let project =
            json!({"user": "boss@other.example", "role": "PROJECT_ADMIN", "project": "../main/defaultproject"});
        controller.post(&other, "/orgs/other/bindings", &project).await.expect(404);
    }
}

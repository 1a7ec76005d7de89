//! `/orgs/{org}/users/{name}/rights`, `/account/rights` and `/orgs/{org}/auth/why`

use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use identity::rbac::{Decision, Given, Grant, Held, Permission, Principal, Reason, Resource, explain};
use serde::{Deserialize, Serialize};
use storage::bindings::Binding;
use storage::names::{RepoName, Tag};
use storage::orgs::Org;
use storage::projects;
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org, in_project};
use crate::error::{Error, Result};
use crate::extract::{Path, Query};
use crate::page::{Page, PageQuery};
use crate::users::api::member;

/// A role that somebody has, and how they came by it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RightView {
    /// Id of the binding that gives it.
    pub(crate) binding: String,
    /// Slug of the organization.
    pub(crate) org: String,
    /// The role: a base role's token, or a custom role's name.
    pub(crate) role: String,
    /// Token of the base role that a custom one is made of.
    pub(crate) base: String,
    /// Slug of the project; null for the whole organization.
    pub(crate) project: Option<String>,
    /// Kubernetes namespaces.
    pub(crate) namespaces: Vec<String>,
    /// Name of the group that it was given to; null where it was given to the user.
    pub(crate) group: Option<String>,
    /// What it allows.
    pub(crate) permissions: Vec<&'static str>,
    /// Patterns of the repositories that its registry permissions hold in; empty: all.
    pub(crate) repositories: Vec<String>,
    /// Patterns of the tags that may be written or deleted; empty: all.
    pub(crate) tags: Vec<String>,
    /// Whether it counts now: not where the user is deactivated.
    pub(crate) counts: bool,
    /// All that in a sentence.
    #[schema(example = "through group developers, role PROJECT_ADMIN on project web")]
    pub(crate) why: String,
}

/// Whose rights.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct RightsQuery {
    /// Only those in this organization.
    pub(crate) org: Option<String>,
}

/// What is asked.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WhyQuery {
    /// Name of the user; the caller where it is not given.
    pub(crate) user: Option<String>,
    /// The permission.
    #[param(example = "registry.push")]
    pub(crate) permission: String,
    /// Slug of the project; without it and without a repository, the question is about the whole organization.
    pub(crate) project: Option<String>,
    /// Full name of a repository, be it there or not.
    #[param(example = "acme/web/shop")]
    pub(crate) repository: Option<String>,
    /// A tag to be written or deleted.
    pub(crate) tag: Option<String>,
}

/// The answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WhyView {
    /// Name of the user.
    pub(crate) user: String,
    /// The permission.
    pub(crate) permission: &'static str,
    /// Whether they have it there.
    pub(crate) allowed: bool,
    /// Why, or why not: at most 20 reasons.
    pub(crate) because: Vec<String>,
    /// Where it is not allowed, what is missing.
    pub(crate) missing: Option<String>,
}

/// Rights of a user
///
/// Every role that they hold in the organization, by themselves or through a group; oldest first. One's own may be seen by
/// anybody.
#[utoipa::path(get, path = "/orgs/{org}/users/{name}/rights", tag = "rights",
    params(("org", description = "Slug of the organization"), ("name", description = "Name of the user"), PageQuery),
    responses((status = 200, description = "A page of roles", body = Page<RightView>)))]
pub(crate) async fn get_rights(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, name)): Path<(String, String)>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<RightView>>> {
    let org = actor.sees_org(&state, &org).await?;
    let user = visible_member(&actor, &state, &org, &name).await?;
    let bounds = query.bounds()?;
    let rows = state.identity().grants_of_member(&org.id, &user.user_id, &bounds.after, bounds.fetch()).await?;
    let view = |(grant, binding): (Grant, Binding)| right(&grant, binding.namespaces, user.active);
    Ok(Json(bounds.page(rows, |(grant, _)| &grant.binding_id, view)))
}

/// One's own rights
///
/// Every role that counts for the caller now, with what the API key was narrowed to left out of account; at most 1000.
#[utoipa::path(get, path = "/account/rights", tag = "rights", params(RightsQuery),
    responses((status = 200, description = "Roles", body = Page<RightView>)))]
pub(crate) async fn get_own_rights(
    actor: Actor,
    Shared(state): Shared<State>,
    Query(query): Query<RightsQuery>,
) -> Result<Json<Page<RightView>>> {
    let org = match &query.org {
        Some(slug) => Some(actor.sees_org(&state, slug).await?.slug),
        None => None,
    };
    let grants = actor.principal().grants.iter().filter(|grant| org.as_ref().is_none_or(|org| *org == grant.org));
    let items = grants.take(MOST_OWN).map(|grant| right(grant, grant.namespaces.clone(), true)).collect();
    Ok(Json(Page { items, next: None }))
}

/// Most of one's own rights that are listed.
const MOST_OWN: usize = 1000;

fn right(grant: &Grant, namespaces: Vec<String>, counts: bool) -> RightView {
    let role: &Given = &grant.role;
    let texts = |patterns: Option<&identity::rbac::Patterns>| patterns.map(|p| p.texts().to_vec()).unwrap_or_default();
    let all = role.permissions().iter().chain(role.organization_permissions());
    RightView {
        binding: grant.binding_id.clone(),
        org: grant.org.clone(),
        role: role.name().to_owned(),
        base: role.base().token().to_owned(),
        project: grant.project.clone(),
        namespaces,
        group: grant.group.clone(),
        permissions: all.map(|permission| permission.as_str()).collect(),
        repositories: texts(role.repositories(Permission::RegistryPush)),
        tags: texts(role.tags(Permission::RegistryPush)),
        counts,
        why: Held::from(grant).to_string(),
    }
}

/// Why somebody may do something, or may not
///
/// About oneself anybody may ask; about others whoever may see who holds which role there.
#[utoipa::path(get, path = "/orgs/{org}/auth/why", tag = "rights",
    params(("org", description = "Slug of the organization"), WhyQuery),
    responses((status = 200, description = "The answer", body = WhyView)))]
pub(crate) async fn get_why(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<WhyQuery>,
) -> Result<Json<WhyView>> {
    let org = actor.sees_org(&state, &org).await?;
    let permission: Permission = query.permission.parse().map_err(|error| Error::invalid("permission", &error))?;
    let repository = match &query.repository {
        Some(name) => Some(name.parse::<RepoName>().map_err(|error| Error::invalid("repository", &error))?),
        None => None,
    };
    if let Some(tag) = &query.tag {
        tag.parse::<Tag>().map_err(|error| Error::invalid("tag", &error))?;
        if repository.is_none() {
            return Err(Error::invalid("tag", "name the repository too"));
        }
    }
    let slug = match (&repository, &query.project) {
        (Some(name), _) if name.org() != org.slug => return Err(Error::NotFound("repository")),
        (Some(name), Some(project)) if name.project() != project => {
            return Err(Error::invalid("project", "the repository lies in another one"));
        }
        (Some(name), _) => Some(name.project()),
        (None, project) => project.as_deref(),
    };
    let project = match slug {
        Some(slug) => projects::find_by_slug(&mut state.db().read().await?, &org.id, slug).await?,
        None => None,
    };
    let seen = project.filter(|project| actor.may(Permission::ProjectRead, &in_project(project)));
    if slug.is_some() && seen.is_none() {
        return Err(Error::NotFound("project"));
    }
    let resource = match (&repository, &seen) {
        (Some(name), Some(project)) => Resource::Repository {
            org_id: &org.id,
            project_id: Some(&project.id),
            path: name.path(),
            tag: query.tag.as_deref(),
        },
        (_, Some(project)) => in_project(project),
        (_, None) => in_org(&org),
    };
    let (name, principal, active) = match &query.user {
        None => (actor.principal().name.clone(), Some(Arc::clone(&actor.caller.principal)), true),
        Some(name) => {
            let user = visible_member(&actor, &state, &org, name).await?;
            let own = user.user_id == actor.principal().user_id;
            let theirs = match own {
                true => Some(Arc::clone(&actor.caller.principal)),
                false => state.identity().principal(&user.user_id, None).await?,
            };
            (user.name, theirs, user.active)
        }
    };
    // Somebody who may get in nowhere has no rights.
    let principal = principal.unwrap_or_else(|| Arc::new(Principal::nobody(name.as_str())));
    let mut answer = explain(&principal, permission, &resource);
    let public = seen.as_ref().is_some_and(|project| project.public && org.public_allowed);
    if permission == Permission::RegistryPull && public && !answer.decision.is_allowed() {
        return Ok(Json(answered(&name, permission, true, &[Reason::Public], None)));
    }
    let missing = match answer.decision {
        Decision::Allow(_) => None,
        Decision::Deny(denial) => {
            let mut denial = denial.named(&org.slug, seen.as_ref().map(|project| project.slug.as_str()));
            denial.because.clear();
            Some(denial.to_string())
        }
    };
    if !active {
        answer.because = vec![Reason::Deactivated];
    }
    Ok(Json(answered(&name, permission, missing.is_none(), &answer.because, missing)))
}

fn answered(name: &str, permission: Permission, allowed: bool, because: &[Reason], missing: Option<String>) -> WhyView {
    WhyView {
        user: crate::groups::api::shown(name).to_owned(),
        permission: permission.as_str(),
        allowed,
        because: because.iter().map(ToString::to_string).collect(),
        missing,
    }
}

/// A member about whom the caller may ask: themselves, or anybody where they may see who holds which role.
async fn visible_member(actor: &Actor, state: &State, org: &Org, name: &str) -> Result<storage::memberships::Member> {
    let user = member(state, org, name).await;
    if let Ok(user) = &user
        && user.user_id == actor.principal().user_id
    {
        return Ok(user.clone());
    }
    if !actor.may(Permission::UserRead, &in_org(org)) {
        return Err(Error::NotFound("user"));
    }
    actor.can_named(Permission::MemberRead, &in_org(org), org, None)?;
    user
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Caller, Controller, Reply};

    async fn why(controller: &Controller, caller: &Caller, query: &str) -> Reply {
        controller.get(caller, &format!("/orgs/main/auth/why?{query}")).await
    }

    #[tokio::test]
    async fn every_right_says_how_it_came_about() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
        let ci = json!({"name": "ci", "base": "PROJECT_READ_ONLY", "added": ["registry.push"],
                        "repositories": ["ci/**"], "tags": ["v*"]});
        controller.post(&admin, "/orgs/main/roles", &ci).await.expect(201);
        controller.post(&admin, "/orgs/main/groups", &json!({"name": "builders"})).await.expect(201);
        let give = json!({"group": "builders", "role": "ci", "project": "web"});
        controller.post(&admin, "/orgs/main/bindings", &give).await.expect(201);
        let dev = controller.member("dev@example.com", Some(("AUDITOR", None))).await;
        let me = json!({"user": "dev@example.com"});
        controller.post(&admin, "/orgs/main/groups/builders/members", &me).await.expect(201);

        let path = "/orgs/main/users/dev@example.com/rights";
        let rights = controller.get(&admin, path).await.expect(200);
        let texts: Vec<&Value> = rights.body["items"].as_array().unwrap().iter().map(|right| &right["why"]).collect();
        assert_eq!(texts, ["through group builders, role ci on project web", "role AUDITOR on organization main"]);
        assert_eq!(rights.body["items"][0]["tags"], json!(["v*"]));
        let page = controller.get(&admin, &format!("{path}?limit=1")).await.expect(200);
        let rest = controller.get(&admin, &format!("{path}?after={}", page.text("next"))).await.expect(200);
        assert_eq!(rest.body["items"].as_array().unwrap().len(), 1);
        assert_eq!(controller.get(&dev, path).await.expect(200).body, rights.body);
        assert_eq!(controller.get(&dev, "/account/rights").await.expect(200).body["items"], rights.body["items"]);
        controller.get(&dev, &format!("/orgs/main/users/{ADMIN}/rights")).await.expect(404);
        controller.get(&dev, "/account/rights?org=other").await.expect(404);

        let who = "user=dev@example.com";
        let query = format!("{who}&permission=registry.push&repository=main/web/ci/app&tag=v1");
        let yes = why(&controller, &admin, &query).await.expect(200);
        assert_eq!(yes.body["because"], json!(["through group builders, role ci on project web"]));
        assert_eq!((yes.body["allowed"].clone(), yes.body["missing"].clone()), (json!(true), Value::Null));
        for (query, because, missing) in [
            (
                "permission=registry.push&repository=main/web/app",
                "through group builders, role ci on project web allows it only in repositories that match ci/**",
                "registry.push on repository app of project web is missing",
            ),
            (
                "permission=registry.push&repository=main/web/ci/app&tag=latest",
                "through group builders, role ci on project web allows it only for tags that match v*",
                "registry.push on tag latest of repository ci/app of project web is missing",
            ),
            (
                "permission=registry.delete&project=web",
                "no role held there has it",
                "registry.delete on project web is missing",
            ),
            ("permission=user.write", "no role held there has it", "user.write on organization main is missing"),
        ] {
            for (caller, who) in [(&admin, "user=dev@example.com&"), (&dev, "")] {
                let no = why(&controller, caller, &format!("{who}{query}")).await.expect(200);
                assert_eq!((no.body["allowed"].clone(), no.body["because"][0].clone()), (json!(false), json!(because)));
                assert_eq!(no.text("missing"), missing);
            }
        }
        // A denial says the same, to whoever may see the thing.
        let denied = controller.call(&dev, Method::PATCH, "/orgs/main/projects/web", &json!({"public": true})).await;
        let text = "project.update on project web is missing: no role held there has it";
        assert_eq!(denied.expect(403).text("detail"), text);

        controller.post(&admin, "/orgs/main/users/dev@example.com/deactivate", &Value::Null).await.expect(204);
        let out = why(&controller, &admin, &format!("{who}&permission=audit.read")).await.expect(200);
        assert_eq!(out.body["because"], json!(["the user is deactivated in this organization"]));
        assert_eq!(controller.get(&admin, path).await.expect(200).body["items"][0]["counts"], false);
    }

    #[tokio::test]
    async fn questions_are_answered_only_about_what_the_caller_sees() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let other = controller.other_org().await;
        for slug in ["web", "secret"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        let dev = controller.member("dev@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        for (query, status) in [
            ("permission=registry.pull&project=web", 200),
            ("permission=registry.pull&project=secret", 404),
            ("permission=registry.pull&project=nothing", 404),
            ("permission=registry.pull&repository=main/secret/app", 404),
            ("permission=registry.pull&repository=other/web/app", 404),
            ("permission=registry.pull&repository=main/web/app&project=secret", 422),
            ("permission=registry.pull&repository=NO", 422),
            ("permission=registry.pull&tag=v1", 422),
            ("permission=everything", 422),
            ("permission=org.read&user=admin@localhost", 404),
            ("permission=org.read&user=nobody@example.com", 404),
            ("permission=org.read&user=dev@example.com", 200),
        ] {
            let reply = why(&controller, &dev, query).await;
            assert_eq!(reply.status, status, "{query}: {}", reply.body);
        }
        let own = controller.get(&other, "/orgs/main/auth/why?permission=org.read").await.expect(404);
        let none = controller.get(&other, "/orgs/nowhere/auth/why?permission=org.read").await.expect(404);
        assert_eq!(own.body, none.body);
        let strange = "/orgs/other/auth/why?permission=org.read&user=dev@example.com";
        controller.get(&other, strange).await.expect(404);
        let public = json!({"public": true});
        controller.call(&admin, Method::PATCH, "/orgs/main/projects/web", &public).await.expect(200);
        let open = why(&controller, &admin, "user=dev@example.com&permission=registry.pull&project=web").await;
        assert_eq!(open.expect(200).body["because"][0], "role PROJECT_READ_ONLY on project web");
        controller.member("bare@example.com", None).await;
        let open = why(&controller, &admin, "user=bare@example.com&permission=registry.pull&project=web").await;
        assert_eq!(open.expect(200).body["because"][0], "the project is public: anybody may pull");
    }
}

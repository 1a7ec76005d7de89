//! `/orgs/{org}/issuers`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use identity::federation::rules::{Rules, RulesError};
use identity::federation::{NewTrust, TrustError};
use identity::rbac::Permission;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use storage::orgs::Org;
use storage::trusted_issuers::{self, TrustedIssuer};
use storage::{Session, users};
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::etag::{Created, IfMatch, IfMatchHeader, Tag, Versioned, segment};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;
use crate::users::api::member;

/// An issuer whose tokens stand for a machine.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IssuerView {
    /// Its id.
    pub(crate) id: String,
    /// What its maker called it.
    pub(crate) name: String,
    /// Name of the machine whose rights the tokens carry.
    pub(crate) user: String,
    /// `iss` of the tokens, byte for byte.
    #[schema(example = "https://token.actions.githubusercontent.com")]
    pub(crate) issuer: String,
    /// What `aud` of the tokens must hold.
    pub(crate) audience: String,
    /// Claim → texts, one of which it must be. All of them must hold.
    #[schema(value_type = BTreeMap<String, Vec<String>>)]
    pub(crate) rules: Value,
    /// The keys that were given, for an issuer that publishes none: a JSON Web Key Set.
    #[schema(value_type = Option<Object>)]
    pub(crate) keys: Option<Value>,
    /// When it was made.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: i64,
    /// When a token last got in by it, to the minute.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_used_at: Option<i64>,
}

/// An issuer to be trusted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssuerToCreate {
    /// What it is for.
    #[schema(example = "GitHub, acme/app", min_length = 1, max_length = 128)]
    pub(crate) name: String,
    /// Name of the machine whose rights the tokens shall carry.
    #[schema(example = "ci")]
    pub(crate) user: String,
    /// `iss` of the tokens, byte for byte: an https URL that publishes its keys, unless `keys` are given.
    #[schema(example = "https://token.actions.githubusercontent.com", min_length = 1, max_length = 512)]
    pub(crate) issuer: String,
    /// What `aud` of the tokens must hold.
    #[schema(example = "wharfinger", min_length = 1, max_length = 512)]
    pub(crate) audience: String,
    /// Claim → texts, one of which it must be; a claim within another by its path (`kubernetes.io/namespace`). All must hold,
    /// and together they must name one workload.
    #[schema(example = json!({"repository_id": ["1296269"], "ref": ["refs/heads/main"]}))]
    pub(crate) rules: BTreeMap<String, Vec<String>>,
    /// The issuer's public keys, where it publishes none: a JSON Web Key Set.
    #[schema(value_type = Option<Object>)]
    pub(crate) keys: Option<Value>,
}

/// What of a trusted issuer changes; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"rules": {"repository_id": ["1296269"]}}))]
pub(crate) struct IssuerChange {
    /// What it is for.
    #[schema(min_length = 1, max_length = 128)]
    pub(crate) name: Option<String>,
    /// `iss` of the tokens.
    #[schema(min_length = 1, max_length = 512)]
    pub(crate) issuer: Option<String>,
    /// What `aud` of the tokens must hold.
    #[schema(min_length = 1, max_length = 512)]
    pub(crate) audience: Option<String>,
    /// Claim → texts, in place of all the rules that were.
    pub(crate) rules: Option<BTreeMap<String, Vec<String>>>,
    /// The issuer's public keys; null where it publishes them.
    #[serde(default, deserialize_with = "extract::given")]
    #[schema(value_type = Option<Object>)]
    pub(crate) keys: Option<Option<Value>>,
}

/// Which trusted issuers.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct IssuerQuery {
    /// Only those whose tokens stand for this machine; takes `user.read`.
    pub(crate) user: Option<String>,
}

/// Trusted issuers
///
/// In order of their ids.
#[utoipa::path(get, path = "/orgs/{org}/issuers", tag = "trusted issuers",
    params(("org", description = "Slug of the organization"), IssuerQuery, PageQuery),
    responses((status = 200, description = "A page of trusted issuers", body = Page<IssuerView>)))]
pub(crate) async fn list_issuers(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(which): Query<IssuerQuery>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<IssuerView>>> {
    let org = actor.can_in_org(Permission::IssuerRead, &state, &org).await?;
    let bounds = query.bounds()?;
    let user_id = match &which.user {
        Some(name) => {
            actor.can_named(Permission::UserRead, &in_org(&org), &org, None)?;
            Some(member(&state, &org, name).await?.user_id)
        }
        None => None,
    };
    let mut session = state.db().read().await?;
    let rows = trusted_issuers::list(&mut session, &org.id, user_id.as_deref(), &bounds.after, bounds.fetch()).await?;
    let page = bounds.page(rows, |row| &row.id, |row| row);
    let mut items = Vec::with_capacity(page.items.len());
    for row in page.items {
        items.push(view(&mut session, row).await?);
    }
    Ok(Json(Page { items, next: page.next }))
}

/// Trust an issuer
///
/// From then on its tokens that fit the rules stand for the machine: `POST /token` of the token service exchanges them, and
/// `docker login` takes them as the password of `<organization>/<machine>`. The caller needs a session, and every right that
/// the machine has.
#[utoipa::path(post, path = "/orgs/{org}/issuers", tag = "trusted issuers", request_body = IssuerToCreate,
    params(("org", description = "Slug of the organization")),
    responses((status = 201, description = "Trusted", body = IssuerView)))]
pub(crate) async fn create_issuer(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(new): extract::Json<IssuerToCreate>,
) -> Result<Created<IssuerView>> {
    let org = actor.can_in_org(Permission::IssuerWrite, &state, &org).await?;
    in_person(&actor)?;
    let machine = member(&state, &org, &new.user).await?;
    let trust = NewTrust {
        name: new.name,
        issuer: new.issuer,
        audience: new.audience,
        rules: Rules::new(new.rules)?,
        keys: new.keys,
    };
    let made = state.identity().create_trust(&actor.caller, &org.id, &machine.user_id, &trust).await?;
    let at = format!("/orgs/{}/issuers/{}", org.slug, segment(&made.id));
    let tag = Some(Tag::new(&made.id, made.version));
    Ok(Created { at, tag, body: view(&mut state.db().read().await?, made).await? })
}

/// A trusted issuer
#[utoipa::path(get, path = "/orgs/{org}/issuers/{id}", tag = "trusted issuers",
    params(("org", description = "Slug of the organization"), ("id", description = "Id of the trusted issuer")),
    responses((status = 200, description = "The trusted issuer", body = IssuerView)))]
pub(crate) async fn get_issuer(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
) -> Result<Versioned<IssuerView>> {
    let org = actor.can_in_org(Permission::IssuerRead, &state, &org).await?;
    let trust = find(&state, &org, &id).await?;
    Ok(Versioned(Tag::new(&trust.id, trust.version), view(&mut state.db().read().await?, trust).await?))
}

/// Change what a trusted issuer's tokens must be
///
/// Access tokens that the machine has end, whatever they were had with. The caller needs a session, and every right that the
/// machine has.
#[utoipa::path(patch, path = "/orgs/{org}/issuers/{id}", tag = "trusted issuers", request_body = IssuerChange,
    params(("org", description = "Slug of the organization"), ("id", description = "Id of the trusted issuer"), IfMatchHeader),
    responses((status = 200, description = "The trusted issuer as it is now", body = IssuerView)))]
pub(crate) async fn update_issuer(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
    if_match: IfMatch,
    extract::Json(change): extract::Json<IssuerChange>,
) -> Result<Versioned<IssuerView>> {
    let org = actor.can_in_org(Permission::IssuerWrite, &state, &org).await?;
    in_person(&actor)?;
    let before = find(&state, &org, &id).await?;
    let rules = match change.rules {
        Some(rules) => rules,
        None => parse(&before.rules)?,
    };
    let keys = match change.keys {
        Some(keys) => keys,
        None => before.keys.as_deref().map(parse).transpose()?,
    };
    let trust = NewTrust {
        name: change.name.unwrap_or_else(|| before.name.clone()),
        issuer: change.issuer.unwrap_or_else(|| before.issuer.clone()),
        audience: change.audience.unwrap_or_else(|| before.audience.clone()),
        rules: Rules::new(rules)?,
        keys,
    };
    // What was not given is of the version that was read here, so nothing newer may be overwritten with it.
    let expected = Some(if_match.expected(&before.id).unwrap_or(before.version));
    let after = state.identity().update_trust(&actor.caller, &before, &trust, expected).await?;
    Ok(Versioned(Tag::new(&after.id, after.version), view(&mut state.db().read().await?, after).await?))
}

/// Trust an issuer no longer
///
/// Access tokens that the machine has end, whatever they were had with.
#[utoipa::path(delete, path = "/orgs/{org}/issuers/{id}", tag = "trusted issuers",
    params(("org", description = "Slug of the organization"), ("id", description = "Id of the trusted issuer"), IfMatchHeader),
    responses((status = 204, description = "Trusted no longer")))]
pub(crate) async fn delete_issuer(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, id)): Path<(String, String)>,
    if_match: IfMatch,
) -> Result<StatusCode> {
    let org = actor.can_in_org(Permission::IssuerWrite, &state, &org).await?;
    let trust = find(&state, &org, &id).await?;
    state.identity().delete_trust(&actor.caller, &trust, if_match.expected(&trust.id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A key that trusts issuers would outlive its revocation, as one that makes keys.
fn in_person(actor: &Actor) -> Result<()> {
    match actor.by_key() {
        true => Err(Error::Forbidden("an API key cannot say whose tokens are trusted: log in with a password")),
        false => Ok(()),
    }
}

async fn find(state: &State, org: &Org, id: &str) -> Result<TrustedIssuer> {
    let found = trusted_issuers::find(&mut state.db().read().await?, &org.id, id).await?;
    found.ok_or(Error::NotFound("trusted issuer"))
}

fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(Error::internal)
}

async fn view(session: &mut Session, trust: TrustedIssuer) -> Result<IssuerView> {
    let user = users::find(session, &trust.user_id).await?;
    let user = user.map(|user| user.shown_name().to_owned()).unwrap_or_default();
    let (rules, keys) = (parse(&trust.rules)?, trust.keys.as_deref().map(parse).transpose()?);
    let TrustedIssuer { id, name, issuer, audience, created_at, last_used_at, .. } = trust;
    Ok(IssuerView { id, name, user, issuer, audience, rules, keys, created_at, last_used_at })
}

impl From<RulesError> for Error {
    fn from(error: RulesError) -> Self {
        TrustError::from(error).into()
    }
}

impl From<TrustError> for Error {
    fn from(error: TrustError) -> Self {
        match error {
            TrustError::Invalid { field, reason } => Self::Invalid { field, reason },
            TrustError::NotAMachine => Self::invalid("user", &error),
            TrustError::TooMany(_) => Self::Conflict(error.to_string()),
            TrustError::Denied(denial) => Self::Denied(denial),
            TrustError::Storage(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::{Method, header};
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Caller, Controller, Reply};

    const PATH: &str = "/orgs/main/issuers";

    async fn start() -> (Controller, Caller) {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
        (controller, admin)
    }

    fn github() -> Value {
        json!({"name": "GitHub", "user": "ci", "issuer": "https://token.actions.githubusercontent.com",
               "audience": "wharfinger", "rules": {"repository_id": ["7"], "ref": ["refs/heads/main"]}})
    }

    fn with(changes: &Value) -> Value {
        let mut body = github();
        body.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        body
    }

    fn etag(reply: &Reply) -> String {
        reply.headers[header::ETAG].to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn an_issuer_is_trusted_changed_and_no_longer_trusted() {
        let (controller, admin) = start().await;
        let made = controller.post(&admin, PATH, &github()).await.expect(201);
        assert_eq!((&made.body["user"], &made.body["last_used_at"]), (&json!("ci"), &Value::Null));
        assert_eq!(made.body["rules"], github()["rules"]);
        let path = format!("{PATH}/{}", made.text("id"));
        assert_eq!(made.headers[header::LOCATION], format!("/api/v1{path}"));
        let read = controller.get(&admin, &path).await.expect(200);
        assert_eq!((&read.body, etag(&read)), (&made.body, etag(&made)));
        let listed = controller.get(&admin, PATH).await.expect(200);
        assert_eq!(listed.body["items"], json!([made.body]));
        controller.post(&admin, "/orgs/main/users", &json!({"name": "cd", "kind": "machine"})).await.expect(201);
        for (user, found) in [("ci", 1), ("cd", 0)] {
            let listed = controller.get(&admin, &format!("{PATH}?user={user}")).await.expect(200);
            assert_eq!(listed.body["items"].as_array().unwrap().len(), found, "{user}");
        }
        controller.get(&admin, &format!("{PATH}?user=nobody")).await.expect(404);

        let change = json!({"audience": "other"});
        let changed = controller.call(&admin, Method::PATCH, &path, &change).await.expect(200);
        assert_eq!((&changed.body["audience"], &changed.body["rules"]), (&json!("other"), &github()["rules"]));
        let old = [("if-match", etag(&made))];
        let old: Vec<_> = old.iter().map(|(name, value)| (*name, value.as_str())).collect();
        controller.call_with(&admin, Method::PATCH, &path, &change, &old).await.expect(412);
        controller.call_with(&admin, Method::DELETE, &path, &Value::Null, &old).await.expect(412);
        controller.call(&admin, Method::DELETE, &path, &Value::Null).await.expect(204);
        for method in [Method::GET, Method::DELETE] {
            controller.call(&admin, method, &path, &Value::Null).await.expect(404);
        }
    }

    #[tokio::test]
    async fn what_would_let_everybody_in_is_refused_with_the_reason() {
        let (controller, admin) = start().await;
        let wide = with(&json!({"rules": {"repository_owner": ["acme"]}}));
        let refused = controller.post(&admin, PATH, &wide).await.expect(422);
        assert_eq!(refused.body["field"], "rules");
        assert!(refused.text("detail").contains("repository_id"), "{}", refused.body);
        for (changes, field) in [
            (json!({"rules": {}}), "rules"),
            (json!({"rules": {"sub": ["repo:acme/*"]}}), "rules"),
            (json!({"rules": {"sub": []}}), "rules"),
            (json!({"issuer": "http://ci.example"}), "issuer"),
            (json!({"issuer": "https://ci.example/?x"}), "issuer"),
            (json!({"audience": ""}), "audience"),
            (json!({"name": ""}), "name"),
            (json!({"user": ADMIN}), "user"),
            (json!({"keys": {"keys": []}}), "keys"),
            (json!({"keys": {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "k"}]}}), "keys"),
        ] {
            let refused = controller.post(&admin, PATH, &with(&changes)).await.expect(422);
            assert_eq!(refused.body["field"], field, "{changes}");
        }
        controller.post(&admin, PATH, &with(&json!({"user": "nobody"}))).await.expect(404);
        controller.post(&admin, PATH, &with(&json!({"org_id": "other"}))).await.expect(400);
        let made = controller.post(&admin, PATH, &github()).await.expect(201);
        let path = format!("{PATH}/{}", made.text("id"));
        let wider = json!({"rules": {"ref": ["refs/heads/main"]}});
        controller.call(&admin, Method::PATCH, &path, &wider).await.expect(422);
    }

    #[tokio::test]
    async fn another_organizations_trusts_and_machines_are_not_there() {
        let (controller, admin) = start().await;
        let made = controller.post(&admin, PATH, &github()).await.expect(201);
        let alien = controller.other_org().await;
        let path = format!("/orgs/other/issuers/{}", made.text("id"));
        controller.get(&alien, &path).await.expect(404);
        controller.call(&alien, Method::PATCH, &path, &json!({"name": "mine"})).await.expect(404);
        controller.call(&alien, Method::DELETE, &path, &Value::Null).await.expect(404);
        controller.post(&alien, "/orgs/other/issuers", &github()).await.expect(404);
        assert_eq!(controller.get(&alien, "/orgs/other/issuers").await.expect(200).body["items"], json!([]));
        controller.get(&admin, &format!("{PATH}/{}", made.text("id"))).await.expect(200);
    }
}

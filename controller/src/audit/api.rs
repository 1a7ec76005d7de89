//! `/orgs/{org}/audit` and `/platform/audit`

use auditchain::export::Trailer;
use axum::Json;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::Response;
use futures_util::stream;
use http::{HeaderValue, header};
use identity::audit::export::{Format, Query as Wanted, rfc3339_ms};
use identity::rbac::{Permission, Resource};
use serde::{Deserialize, Serialize};
use storage::audit::{self, Direction, Event, Within, check};
use storage::clock::parse_rfc3339_ms;
use storage::orgs::{self, Org};
use storage::projects;
use utoipa::{IntoParams, ToSchema};

use crate::State;
use crate::actor::{Actor, in_org};
use crate::error::{Error, Result};
use crate::extract::{self, Path, Query};
use crate::page::{Page, PageQuery};
use crate::time;

/// Longest text of a filter.
const MAX_TEXT: usize = 256;
/// Events that are proven for one look at a chain.
const PROVEN: i64 = 1_000;
/// Most projects that one caller's events are looked up for.
const MAX_PROJECTS: usize = 500;

/// What happened.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventView {
    /// Place in the organization's chain, from 1 on without gaps.
    #[schema(minimum = 0)]
    pub(crate) seq: i64,
    /// When.
    #[schema(format = DateTime)]
    pub(crate) at: String,
    /// Who: name of the user, or what was typed as one.
    pub(crate) user: String,
    /// Who: id of the user; empty where nobody is known.
    pub(crate) user_id: String,
    /// What they showed: `password`, `session:<id>`, `api-key:<id>`, `token`, …
    pub(crate) credential: String,
    /// By which kind of client: `browser`, `cli`, `api`, `docker` or `server`.
    pub(crate) client: String,
    /// What: `user.create`, `image.push`, …
    pub(crate) action: String,
    /// To what.
    pub(crate) target: String,
    /// The project, where it lies in one.
    pub(crate) project: String,
    /// `ok`, `denied` or `error`.
    pub(crate) outcome: String,
    /// Why not, where it was not.
    pub(crate) reason: String,
    /// The client's address.
    pub(crate) address: String,
    /// What the client calls itself.
    pub(crate) agent: String,
    /// The request's id in the server's log.
    pub(crate) request_id: String,
    /// What changed, before and after; null where there is nothing to say.
    pub(crate) detail: serde_json::Value,
    /// Hash of the event before this one.
    pub(crate) prev_hash: String,
    /// Hash of this event.
    pub(crate) hash: String,
}

impl From<Event> for EventView {
    fn from(event: Event) -> Self {
        let Event { seq, event: e, prev_hash, hash } = event;
        Self {
            seq,
            at: rfc3339_ms(e.at_ms),
            user: e.actor,
            user_id: e.actor_id,
            credential: e.credential.into_owned(),
            client: e.client.into_owned(),
            action: e.action,
            target: e.target,
            project: e.project,
            outcome: e.outcome.into_owned(),
            reason: e.reason,
            address: e.address,
            agent: e.agent,
            request_id: e.request_id,
            detail: serde_json::from_str(&e.detail).unwrap_or_default(),
            prev_hash,
            hash,
        }
    }
}

/// Which events.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilterQuery {
    /// Not before this time (RFC 3339, or unix milliseconds).
    pub(crate) since: Option<String>,
    /// Before this time (RFC 3339, or unix milliseconds).
    pub(crate) until: Option<String>,
    /// Of this user.
    pub(crate) user: Option<String>,
    /// In this project.
    pub(crate) project: Option<String>,
    /// An action such as `image.push`, or all of a kind: `image.*`.
    pub(crate) action: Option<String>,
    /// `ok`, `denied` or `error`.
    pub(crate) outcome: Option<String>,
    /// `browser`, `cli`, `api`, `docker` or `server`.
    pub(crate) client: Option<String>,
    /// From this address.
    pub(crate) address: Option<String>,
    /// Done to exactly this. Give an action, or all of a kind, with it: the search looks at those.
    pub(crate) target: Option<String>,
    /// Of lists: most items to return, 1 to 500; 100 where it is not given.
    #[param(minimum = 1, maximum = 500)]
    pub(crate) limit: Option<i64>,
    /// Of lists: the `next` of the page before.
    pub(crate) after: Option<String>,
    /// Of exports: `ndjson` (the default), which proves itself, or `csv`.
    pub(crate) format: Option<String>,
}

/// An event, or an export's last line, to be confirmed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"seq": 4711, "hash": "3fc22d31055d13be5f81b6363275b9603e1e49dcc0fb9df07eab4c81ddf5769e"}))]
pub(crate) struct ConfirmRequest {
    /// Place of the event.
    pub(crate) seq: i64,
    /// Its hash, as 64 hexadecimal characters.
    #[schema(max_length = 64)]
    pub(crate) hash: String,
    /// The last line of an export; its seal is checked too.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub(crate) trailer: Option<Trailer>,
}

/// The server's word.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Confirmed {
    /// Whether the event is in the organization's chain with that hash, and the trailer's seal the server's.
    pub(crate) genuine: bool,
}

/// A chain of events, and what its newest events prove.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChainView {
    /// Place of the oldest event that is kept.
    #[schema(minimum = 0)]
    pub(crate) first_seq: i64,
    /// When it happened; null where there is no event.
    #[schema(format = DateTime)]
    pub(crate) first_at: Option<String>,
    /// Place of the youngest event; 0 where there is none.
    #[schema(minimum = 0)]
    pub(crate) last_seq: i64,
    /// When it happened; null where there is no event.
    #[schema(format = DateTime)]
    pub(crate) last_at: Option<String>,
    /// How many events are kept.
    #[schema(minimum = 0)]
    pub(crate) events: i64,
    /// Hash of the youngest event.
    pub(crate) last_hash: String,
    /// Hash of the event before the oldest that is kept; zeros where nothing was ever taken away.
    pub(crate) anchor: String,
    /// For how many days events are kept; null: for ever.
    pub(crate) keep_days: Option<i64>,
    /// What was proven for this answer.
    pub(crate) proof: ProofView,
}

/// What the newest events of a chain prove.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProofView {
    /// When they were checked.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: i64,
    /// The first event that was checked; the last one is the chain's.
    #[schema(minimum = 0)]
    pub(crate) from_seq: i64,
    /// How many were good: all of them, or those before the flaw.
    #[schema(minimum = 0)]
    pub(crate) events: u64,
    /// Whether every one is as it was written, in its place, and the last one the chain's end.
    pub(crate) whole: bool,
    /// What is wrong, where something is.
    pub(crate) flaw: Option<String>,
}

impl FilterQuery {
    fn wanted(&self, projects: Option<Vec<Within>>) -> Result<Wanted> {
        Ok(Wanted {
            since: moment("since", self.since.as_deref())?,
            until: moment("until", self.until.as_deref())?,
            actor: text("user", self.user.as_deref())?.to_lowercase(),
            action: text("action", self.action.as_deref())?,
            project: text("project", self.project.as_deref())?,
            projects,
            outcome: one_of("outcome", self.outcome.as_deref(), &["ok", "denied", "error"])?,
            client: one_of("client", self.client.as_deref(), &["browser", "cli", "api", "docker", "server"])?,
            address: text("address", self.address.as_deref())?,
            target: text("target", self.target.as_deref())?,
        })
    }

    async fn page(self, state: &State, org_id: &str, projects: Option<Vec<Within>>) -> Result<Json<Page<EventView>>> {
        let wanted = self.wanted(projects)?;
        let bounds = PageQuery { limit: self.limit, after: self.after }.bounds()?;
        let cursor = match bounds.after.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| Error::invalid("after", "use the `next` of the page before"))?),
        };
        let limit = i64::try_from(bounds.limit).unwrap_or(1);
        let mut session = state.db().read().await?;
        let found = audit::list(&mut session, org_id, &wanted.filter(), Direction::Newest, cursor, limit).await?;
        let items = found.events.into_iter().map(EventView::from).collect();
        // Nothing comes before the first event.
        let next = found.next.filter(|seq| *seq > 1).map(|seq| seq.to_string());
        Ok(Json(Page { items, next }))
    }
}

fn text(field: &'static str, value: Option<&str>) -> Result<String> {
    let value = value.unwrap_or_default();
    if value.chars().count() > MAX_TEXT {
        return Err(Error::invalid(field, &format!("use at most {MAX_TEXT} characters")));
    }
    Ok(value.to_owned())
}

fn one_of(field: &'static str, value: Option<&str>, known: &[&str]) -> Result<String> {
    match value.unwrap_or_default() {
        "" => Ok(String::new()),
        value if known.contains(&value) => Ok(value.to_owned()),
        _ => Err(Error::invalid(field, &format!("use one of: {}", known.join(", ")))),
    }
}

fn moment(field: &'static str, value: Option<&str>) -> Result<Option<i64>> {
    let Some(value) = value.filter(|value| !value.is_empty()) else { return Ok(None) };
    let read = value.parse().ok().or_else(|| parse_rfc3339_ms(value));
    read.map(Some).ok_or_else(|| Error::invalid(field, "use RFC 3339, such as 2026-11-24T10:00:00Z"))
}

/// The organization, and the projects to whose events the caller is limited, if they are.
async fn readable(actor: &Actor, state: &State, slug: &str) -> Result<(Org, Option<Vec<Within>>)> {
    let org = actor.sees_org(state, slug).await?;
    if actor.may(Permission::AuditRead, &in_org(&org)) {
        return Ok((org, None));
    }
    let mut within = Vec::new();
    let mut session = state.db().read().await?;
    for id in actor.principal().reach(Permission::AuditRead).projects.iter().take(MAX_PROJECTS) {
        let found = projects::find(&mut session, id).await?;
        let found = found.filter(|project| project.org_id == org.id);
        // An earlier project of that slug is none of theirs.
        within.extend(found.map(|project| Within { slug: project.slug, since: project.created_at * 1000 }));
    }
    if within.is_empty() {
        actor.can(Permission::AuditRead, &in_org(&org))?;
    }
    Ok((org, Some(within)))
}

/// List what happened in an organization, newest first
///
/// Whoever administers a project sees what happened in it. A page may hold fewer events than asked for, or none, and still
/// have a `next`: the search goes on from there.
#[utoipa::path(get, path = "/orgs/{org}/audit", tag = "audit",
    params(("org" = String, Path, description = "Slug of the organization"), FilterQuery),
    responses((status = 200, description = "A page of events", body = Page<EventView>)))]
pub(crate) async fn list_events(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<FilterQuery>,
) -> Result<Json<Page<EventView>>> {
    let (org, projects) = readable(&actor, &state, &org).await?;
    query.page(&state, &org.id, projects).await
}

/// What happened on the platform, outside every organization, newest first
#[utoipa::path(get, path = "/platform/audit", tag = "audit", params(FilterQuery),
    responses((status = 200, description = "A page of events", body = Page<EventView>)))]
pub(crate) async fn list_platform_events(
    actor: Actor,
    Shared(state): Shared<State>,
    Query(query): Query<FilterQuery>,
) -> Result<Json<Page<EventView>>> {
    actor.can(Permission::PlatformAudit, &Resource::Platform)?;
    query.page(&state, "", None).await
}

/// One event
#[utoipa::path(get, path = "/orgs/{org}/audit/{seq}", tag = "audit",
    params(("org" = String, Path, description = "Slug of the organization"),
           ("seq" = i64, Path, description = "Place of the event")),
    responses((status = 200, description = "The event", body = EventView)))]
pub(crate) async fn get_event(
    actor: Actor,
    Shared(state): Shared<State>,
    Path((org, seq)): Path<(String, String)>,
) -> Result<Json<EventView>> {
    let (org, projects) = readable(&actor, &state, &org).await?;
    let seq = seq.parse().map_err(|_| Error::NotFound("event"))?;
    let found = audit::find(&mut state.db().read().await?, &org.id, seq).await?;
    let of_theirs = |event: &Event| projects.is_none_or(|all| all.iter().any(|project| project.holds(event)));
    let seen = found.filter(of_theirs);
    seen.map(|event| Json(event.into())).ok_or(Error::NotFound("event"))
}

/// One event of the platform
#[utoipa::path(get, path = "/platform/audit/{seq}", tag = "audit",
    params(("seq" = i64, Path, description = "Place of the event")),
    responses((status = 200, description = "The event", body = EventView)))]
pub(crate) async fn get_platform_event(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(seq): Path<String>,
) -> Result<Json<EventView>> {
    actor.can(Permission::PlatformAudit, &Resource::Platform)?;
    let seq = seq.parse().map_err(|_| Error::NotFound("event"))?;
    let found = audit::find(&mut state.db().read().await?, "", seq).await?;
    found.map(|event| Json(event.into())).ok_or(Error::NotFound("event"))
}

/// Export events, oldest first
///
/// NDJSON begins with a header and ends with a sealed trailer: `wharfinger audit verify` and `rctl audit verify` find
/// whatever was edited, taken out or moved. An export that breaks off has no trailer.
#[utoipa::path(get, path = "/orgs/{org}/audit/export", tag = "audit",
    params(("org" = String, Path, description = "Slug of the organization"), FilterQuery),
    responses((status = 200, description = "The events, as a stream",
               content((String = "application/x-ndjson"), (String = "text/csv")))))]
pub(crate) async fn export_events(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(query): Query<FilterQuery>,
) -> Result<Response> {
    let (org, projects) = readable(&actor, &state, &org).await?;
    export(&actor, &state, Some(&org), query, projects).await
}

/// Export what happened on the platform, oldest first
///
/// As that of an organization.
#[utoipa::path(get, path = "/platform/audit/export", tag = "audit", params(FilterQuery),
    responses((status = 200, description = "The events, as a stream",
               content((String = "application/x-ndjson"), (String = "text/csv")))))]
pub(crate) async fn export_platform_events(
    actor: Actor,
    Shared(state): Shared<State>,
    Query(query): Query<FilterQuery>,
) -> Result<Response> {
    actor.can(Permission::PlatformAudit, &Resource::Platform)?;
    export(&actor, &state, None, query, None).await
}

async fn export(
    actor: &Actor,
    state: &State,
    org: Option<&Org>,
    query: FilterQuery,
    projects: Option<Vec<Within>>,
) -> Result<Response> {
    let wanted = query.wanted(projects)?;
    let (format, kind, ending) = match query.format.as_deref() {
        None | Some("" | "ndjson") => (Format::Ndjson, "application/x-ndjson", "ndjson"),
        Some("csv") => (Format::Csv, "text/csv; charset=utf-8", "csv"),
        Some(_) => return Err(Error::invalid("format", "use ndjson or csv")),
    };
    let export = state.identity().begin_export(&actor.caller, org, wanted, format).await?;
    let pieces = stream::try_unfold(export, async |mut export| {
        let piece = export.next().await.inspect_err(|error| tracing::error!(%error, "an audit export broke off"))?;
        Ok::<_, storage::Error>(piece.map(|piece| (piece, export)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    // A slug is safe in a header.
    let whose = org.map_or("platform", |org| org.slug.as_str());
    let name = format!("attachment; filename=\"audit-{whose}.{ending}\"");
    headers.insert(header::CONTENT_DISPOSITION, HeaderValue::try_from(name).map_err(Error::internal)?);
    Ok(response)
}

/// A chain's ends, and whether its newest events prove themselves
///
/// The newest 1,000 events are checked against their hashes for this answer. An export proves all of them.
#[utoipa::path(get, path = "/orgs/{org}/audit/chain", tag = "audit",
    params(("org" = String, Path, description = "Slug of the organization")),
    responses((status = 200, description = "The chain", body = ChainView)))]
pub(crate) async fn get_chain(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
) -> Result<Json<ChainView>> {
    let org = actor.can_in_org(Permission::AuditRead, &state, &org).await?;
    chain(&state, &org.id).await
}

/// The ends of the platform's chain, and whether its newest events prove themselves
#[utoipa::path(get, path = "/platform/audit/chain", tag = "audit",
    responses((status = 200, description = "The chain", body = ChainView)))]
pub(crate) async fn get_platform_chain(actor: Actor, Shared(state): Shared<State>) -> Result<Json<ChainView>> {
    actor.can(Permission::PlatformAudit, &Resource::Platform)?;
    chain(&state, "").await
}

async fn chain(state: &State, org_id: &str) -> Result<Json<ChainView>> {
    let mut session = state.db().read().await?;
    let keep_days = match org_id {
        "" => None,
        id => orgs::settings(&mut session, id).await?.audit_days,
    };
    let found = check::newest(&mut session, org_id, PROVEN).await?;
    let flaw = found.checked.flaw.map(|flaw| flaw.to_string());
    Ok(Json(ChainView {
        first_seq: found.head.first_seq,
        first_at: found.first_ms.map(rfc3339_ms),
        last_seq: found.head.seq,
        last_at: found.last_ms.map(rfc3339_ms),
        events: found.head.seq - found.head.first_seq + 1,
        last_hash: found.head.hash,
        anchor: found.head.anchor,
        keep_days,
        proof: ProofView {
            at: state.identity().now(),
            from_seq: found.from_seq,
            events: found.checked.events,
            whole: flaw.is_none(),
            flaw,
        },
    }))
}

/// Whether an event, and an export's seal, are the server's
#[utoipa::path(post, path = "/orgs/{org}/audit/confirm", tag = "audit",
    params(("org" = String, Path, description = "Slug of the organization")), request_body = ConfirmRequest,
    responses((status = 200, description = "The server's word", body = Confirmed)))]
pub(crate) async fn confirm_event(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    extract::Json(request): extract::Json<ConfirmRequest>,
) -> Result<Json<Confirmed>> {
    let (org, _) = readable(&actor, &state, &org).await?;
    let identity = state.identity();
    let sealed = request.trailer.is_none_or(|trailer| {
        let ends_there = trailer.last_seq == request.seq && trailer.last_hash == request.hash;
        ends_there && identity.confirm_trailer(&org.id, &trailer)
    });
    let genuine = sealed && identity.confirm_event(&org.id, request.seq, &request.hash).await?;
    Ok(Json(Confirmed { genuine }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use auditchain::verify::verify;
    use serde_json::{Value, json};

    use crate::testing::{ADMIN, Caller, Controller, OPERATOR};

    async fn actions(controller: &Controller, caller: &Caller, path: &str) -> Vec<String> {
        controller.settle().await;
        let page = controller.get(caller, path).await.expect(200).body;
        page["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect()
    }

    #[tokio::test]
    async fn changes_are_listed_newest_first_page_by_page_and_by_filter() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for slug in ["one", "two", "three"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        let page = controller.get(&admin, "/orgs/main/audit?action=project.*&limit=2").await.expect(200).body;
        let targets: Vec<&str> =
            page["items"].as_array().unwrap().iter().map(|e| e["target"].as_str().unwrap()).collect();
        assert_eq!(targets, ["three", "two"]);
        let event = &page["items"][0];
        assert_eq!(
            (&event["user"], &event["client"], &event["outcome"]),
            (&json!(ADMIN), &json!("browser"), &json!("ok"))
        );
        assert!(event["credential"].as_str().unwrap().starts_with("session:"), "{event}");
        let next = format!("/orgs/main/audit?action=project.*&limit=2&after={}", page["next"].as_str().unwrap());
        assert_eq!(controller.get(&admin, &next).await.expect(200).body["items"][0]["target"], "one");
        let one = controller.get(&admin, &format!("/orgs/main/audit/{}", event["seq"])).await.expect(200).body;
        assert_eq!(&one, event);
        for (filter, found) in [
            ("user=admin@localhost&action=project.create&project=two", 1),
            ("action=project.create&outcome=denied", 0),
            ("action=project.create&client=docker", 0),
            ("action=project.create&since=2020-01-01T00:00:00Z&until=2100-01-01", 3),
            ("action=project.create&since=2100-01-01", 0),
            ("action=project.create&user=nobody@example.com", 0),
        ] {
            let path = format!("/orgs/main/audit?{filter}");
            assert_eq!(actions(&controller, &admin, &path).await.len(), found, "{filter}");
        }
        for bad in ["since=yesterday", "outcome=good", "client=fax", "limit=0", "after=x"] {
            controller.get(&admin, &format!("/orgs/main/audit?{bad}")).await.expect(422);
        }
        for nothing in ["0", "99999999", "-1", "x"] {
            controller.get(&admin, &format!("/orgs/main/audit/{nothing}")).await.expect(404);
        }
    }

    #[tokio::test]
    async fn a_project_admin_sees_the_project_and_an_auditor_everything() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "secret"})).await.expect(201);
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("web")))).await;
        let auditor = controller.member("auditor@example.com", Some(("AUDITOR", None))).await;
        let reader = controller.member("reader@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        controller.settle().await;
        let seen = controller.get(&lead, "/orgs/main/audit").await.expect(200).body;
        let seen = seen["items"].as_array().unwrap();
        assert!(!seen.is_empty() && seen.iter().all(|event| event["project"] == "web"), "{seen:?}");
        assert!(actions(&controller, &lead, "/orgs/main/audit?project=secret").await.is_empty());
        let all = controller.get(&auditor, "/orgs/main/audit?project=secret").await.expect(200).body;
        let hidden = format!("/orgs/main/audit/{}", all["items"][0]["seq"]);
        controller.get(&auditor, &hidden).await.expect(200);
        controller.get(&lead, &hidden).await.expect(404);
        controller.get(&reader, "/orgs/main/audit").await.expect(403);
        let exported = controller.get(&lead, "/orgs/main/audit/export").await.expect(200).raw;
        let report = verify(exported.as_bytes(), None).unwrap();
        assert_eq!(report.header.filter, "projects=[web]");
        assert!(!exported.contains("secret"));
        let operator = controller.login(OPERATOR).await;
        controller.get(&operator, "/orgs/main/audit").await.expect(403);
        controller.get(&operator, "/platform/audit").await.expect(200);
        controller.get(&admin, "/platform/audit").await.expect(403);
    }

    #[tokio::test]
    async fn whoever_administers_a_project_sees_nothing_of_one_that_had_its_name_before() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let (path, body) = ("/orgs/main/projects/alpha", json!({"slug": "alpha"}));
        controller.post(&admin, "/orgs/main/projects", &body).await.expect(201);
        controller.call(&admin, http::Method::DELETE, path, &Value::Null).await.expect(204);
        controller.settle().await;
        let old = controller.get(&admin, "/orgs/main/audit?action=project.delete").await.expect(200);
        let seq = old.body["items"][0]["seq"].as_i64().unwrap();
        controller.clock.advance(2);
        controller.post(&admin, "/orgs/main/projects", &body).await.expect(201);
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("alpha")))).await;
        let seen = actions(&controller, &lead, "/orgs/main/audit?action=project.*").await;
        assert_eq!(seen, ["project.create"]);
        controller.get(&lead, &format!("/orgs/main/audit/{seq}")).await.expect(404);
        let export = controller.get(&lead, "/orgs/main/audit/export").await.expect(200).raw;
        assert!(export.contains("project.create") && !export.contains("project.delete"), "{export}");
    }

    #[tokio::test]
    async fn an_export_proves_itself_and_the_server_confirms_it() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.settle().await;
        let reply = controller.get(&admin, "/orgs/main/audit/export").await.expect(200);
        assert_eq!(reply.headers["content-type"], "application/x-ndjson");
        assert_eq!(reply.headers["content-disposition"], "attachment; filename=\"audit-main.ndjson\"");
        let report = verify(reply.raw.as_bytes(), None).unwrap();
        assert!(report.header.is_whole() && report.trailer.count > 0);
        let trailer = serde_json::to_value(&report.trailer).unwrap();
        let asks = |seq: &Value, hash: &Value, trailer: &Value| json!({"seq": seq, "hash": hash, "trailer": trailer});
        let good = asks(&trailer["last_seq"], &trailer["last_hash"], &trailer);
        let path = "/orgs/main/audit/confirm";
        assert_eq!(controller.post(&admin, path, &good).await.expect(200).body, json!({"genuine": true}));
        let bare = asks(&trailer["last_seq"], &trailer["last_hash"], &Value::Null);
        assert_eq!(controller.post(&admin, path, &bare).await.expect(200).body["genuine"], true);
        let mut forged = trailer.clone();
        forged["count"] = json!(1);
        for bad in [
            asks(&json!(1), &trailer["last_hash"], &Value::Null),
            asks(&trailer["last_seq"], &json!("0".repeat(64)), &Value::Null),
            asks(&trailer["last_seq"], &trailer["last_hash"], &forged),
        ] {
            assert_eq!(controller.post(&admin, path, &bad).await.expect(200).body["genuine"], false);
        }
        let other = controller.other_org().await;
        assert_eq!(
            controller.post(&other, "/orgs/other/audit/confirm", &good).await.expect(200).body["genuine"],
            false
        );
        let csv = controller.get(&admin, "/orgs/main/audit/export?format=csv&action=login").await.expect(200);
        assert!(csv.raw.starts_with("seq,time,actor,"));
        controller.get(&admin, "/orgs/main/audit/export?format=xml").await.expect(422);
    }

    #[tokio::test]
    async fn what_was_denied_is_in_the_log_of_whom_it_concerns() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let reader = controller.member("reader@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        let bare = controller.member("bare@example.com", None).await;
        let stranger = controller.other_org().await;
        controller.post(&reader, "/orgs/main/projects", &json!({"slug": "mine"})).await.expect(403);
        controller.get(&bare, "/orgs/main/projects").await.expect(404);
        controller.get(&bare, "/orgs/nowhere/projects").await.expect(404);
        controller.get(&stranger, "/orgs/main/users").await.expect(404);
        controller.settle().await;
        let denied = controller.get(&admin, "/orgs/main/audit?action=access.denied").await.expect(200).body;
        let denied = denied["items"].as_array().unwrap();
        let who: Vec<&str> = denied.iter().map(|event| event["user"].as_str().unwrap()).collect();
        assert_eq!(who, ["bare@example.com", "reader@example.com"]);
        assert_eq!(denied[1]["target"], "POST /api/v1/orgs/main/projects");
        assert_eq!(denied[1]["detail"]["permission"], "project.create");
        assert!(denied.iter().all(|event| event["outcome"] == "denied"));
        let operator = controller.login(OPERATOR).await;
        let platform = controller.get(&operator, "/platform/audit?action=access.denied").await.expect(200).body;
        assert_eq!(platform["items"][0]["user"], "boss@other.example");
        // Another spelling of the path hides nothing from those whose business it is.
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
        let pirate = controller.member("pirate@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        let path = "/orgs/%6dain/projects/%77eb";
        controller.call(&pirate, http::Method::DELETE, path, &json!({"confirm": "web"})).await.expect(403);
        controller.settle().await;
        let owner = controller.member("owner@example.com", Some(("PROJECT_ADMIN", Some("web")))).await;
        let denied = controller.get(&owner, "/orgs/main/audit?action=access.denied&project=web").await.expect(200).body;
        assert_eq!(denied["items"][0]["user"], "pirate@example.com", "{denied}");
        assert_eq!(denied["items"][0]["target"], "DELETE /api/v1/orgs/%6dain/projects/%77eb");
    }
}

//! The audit log, as pages: events by filter, one event with what it changed, and the chain they form.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use http::StatusCode;
use identity::rbac::Permission;
use serde::Deserialize;
use storage::clock::{parse_rfc3339_ms, rfc3339};

use super::api::{self, ChainView, EventView, FilterQuery};
use super::words::{self, Change};
use crate::State;
use crate::console::form::given;
use crate::console::{self, FormProblem, Frame, Section, Viewer};
use crate::error::{Error, Result};
use crate::etag::segment;
use crate::extract::{Path, Query};
use crate::page::Page;

/// Events of a page.
const PAGE: i64 = 50;
/// Ranges that are one click away: name, seconds.
const RANGES: [(&str, i64); 4] = [("hour", 3_600), ("24 hours", 86_400), ("7 days", 604_800), ("30 days", 2_592_000)];

/// Whose events a page shows.
#[derive(Debug, Clone)]
struct Place {
    /// Slug of the organization; empty for the platform.
    org: String,
    /// Whether the viewer sees all of it: else what lies in their projects.
    whole: bool,
    /// Whether the viewer may look at the organization's users.
    users: bool,
    /// Whether they may look at projects.
    projects: bool,
}

impl Place {
    fn of(viewer: &Viewer, org: &str) -> Self {
        let (whole, users) = (viewer.may(Permission::AuditRead), viewer.may(Permission::UserRead));
        Self { org: org.to_owned(), whole, users, projects: viewer.may_anywhere(Permission::ProjectRead) }
    }

    fn platform() -> Self {
        Self { org: String::new(), whole: true, users: false, projects: false }
    }

    /// The list's path.
    fn path(&self) -> String {
        if self.org.is_empty() { "/platform/audit".to_owned() } else { format!("/orgs/{}/audit", segment(&self.org)) }
    }

    fn section(&self) -> Section {
        if self.org.is_empty() { Section::PlatformAudit } else { Section::Audit }
    }

    /// A page of events by some filters.
    fn by(&self, filters: &[(&str, &str)]) -> String {
        with_query(&self.path(), filters)
    }

    /// The page of whoever did something, where there is one to look at.
    fn user(&self, event: &EventView) -> Option<String> {
        let known = self.users && !event.user_id.is_empty();
        known.then(|| format!("/orgs/{}/users/{}", segment(&self.org), segment(&event.user)))
    }

    /// The page of a project, where there is one to look at.
    fn project(&self, event: &EventView) -> Option<String> {
        let known = self.projects && !event.project.is_empty();
        known.then(|| format!("/orgs/{}/projects/{}", segment(&self.org), segment(&event.project)))
    }
}

/// A path with a query of what is not empty.
fn with_query(path: &str, pairs: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(pairs.iter().filter(|(_, value)| !value.is_empty()));
    match query.finish() {
        query if query.is_empty() => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// The filters as they stand in the page's address.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Given {
    since: String,
    until: String,
    user: String,
    project: String,
    action: String,
    outcome: String,
    client: String,
    address: String,
    target: String,
    after: String,
    /// `1` where the page follows what happens.
    live: String,
}

impl Given {
    fn pairs(&self) -> [(&'static str, &str); 9] {
        [
            ("since", &self.since),
            ("until", &self.until),
            ("user", &self.user),
            ("project", &self.project),
            ("action", &self.action),
            ("outcome", &self.outcome),
            ("client", &self.client),
            ("address", &self.address),
            ("target", &self.target),
        ]
    }

    /// The same filters with another value in one place, or one more.
    fn href(&self, path: &str, name: &str, value: &str) -> String {
        let mut pairs: Vec<(&str, &str)> = self.pairs().into_iter().filter(|(known, _)| *known != name).collect();
        pairs.push((name, value));
        with_query(path, &pairs)
    }

    /// Whether anything is filtered.
    fn any(&self) -> bool {
        self.pairs().iter().any(|(_, value)| !value.is_empty())
    }

    /// Whether anything is filtered by what is folded away at first.
    fn more(&self) -> bool {
        [&self.since, &self.until, &self.client, &self.address, &self.target].iter().any(|value| !value.is_empty())
    }

    fn live(&self) -> bool {
        self.live == "1" && self.after.is_empty()
    }

    /// As the API takes them.
    fn query(&self) -> FilterQuery {
        FilterQuery {
            since: given(&in_utc(&self.since)),
            until: given(&in_utc(&self.until)),
            user: given(&self.user),
            project: given(&self.project),
            action: given(&self.action),
            outcome: given(&self.outcome),
            client: given(&self.client),
            address: given(&self.address),
            target: given(&self.target),
            limit: Some(PAGE),
            after: given(&self.after),
            format: None,
        }
    }
}

/// What a field of a date and a time gives (`2026-11-24T10:00`, with seconds where there are any) as the API takes it; anything
/// else stays as it is.
fn in_utc(given: &str) -> String {
    match given.len() {
        16 => format!("{given}:00Z"),
        19 => format!("{given}Z"),
        _ => given.to_owned(),
    }
}

/// The other way round: what such a field can show.
fn for_field(given: &str) -> String {
    let at = given.parse().ok().or_else(|| parse_rfc3339_ms(&in_utc(given)));
    at.map_or_else(String::new, |at: i64| rfc3339(at.div_euclid(1000)).trim_end_matches('Z').to_owned())
}

/// `/orgs/{org}/audit` and `/platform/audit`
#[derive(Template)]
#[template(path = "audit/list.html")]
struct ListPage {
    frame: Frame,
    path: String,
    whose: String,
    place: Place,
    given: Given,
    problem: Option<FormProblem>,
    since: String,
    until: String,
    rows: Vec<Row>,
    ranges: Vec<(&'static str, String)>,
    projects: Vec<String>,
    live: String,
    still: String,
    export: Export,
    first: String,
    next: Option<String>,
}

/// Addresses of the exports of what is shown.
struct Export {
    ndjson: String,
    csv: String,
}

/// An event of a list.
struct Row {
    href: String,
    at: i64,
    shown_at: String,
    words: String,
    who: Option<String>,
    project: Option<String>,
    event: EventView,
}

impl Row {
    fn new(place: &Place, event: EventView) -> Self {
        let at = seconds(&event.at);
        Self {
            href: format!("{}/{}", place.path(), event.seq),
            at,
            shown_at: absolute(at),
            words: words::action(&event.action),
            who: place.user(&event),
            project: place.project(&event),
            event,
        }
    }
}

/// A time of the API in unix seconds.
fn seconds(at: &str) -> i64 {
    parse_rfc3339_ms(at).unwrap_or_default().div_euclid(1000)
}

/// A number as people read it.
pub(crate) fn count(number: impl std::fmt::Display) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time as people read it, in UTC.
pub(crate) fn absolute(at: i64) -> String {
    rfc3339(at).replacen('T', " ", 1).trim_end_matches('Z').to_owned()
}

/// The colour of an outcome.
pub(crate) fn tone(outcome: &str) -> &'static str {
    match outcome {
        "ok" => "good",
        "denied" => "bad",
        _ => "warn",
    }
}

/// An organization's events.
pub(crate) async fn list(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
    Query(given): Query<Given>,
) -> Result<Response> {
    let place = Place::of(&viewer, &org);
    let (actor, shared) = (viewer.actor(), Shared(state.clone()));
    let found = api::list_events(actor, shared, Path(org), Query(given.query())).await;
    let projects = if place.whole { Vec::new() } else { reachable(&viewer, &state).await? };
    draw_list(&viewer, place, given, projects, found)
}

/// The platform's events.
pub(crate) async fn list_platform(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Query(given): Query<Given>,
) -> Result<Response> {
    let found = api::list_platform_events(viewer.actor(), Shared(state), Query(given.query())).await;
    draw_list(&viewer, Place::platform(), given, Vec::new(), found)
}

/// Slugs of the projects whose events the viewer may read.
async fn reachable(viewer: &Viewer, state: &State) -> Result<Vec<String>> {
    let mut session = state.db().read().await?;
    let mut slugs = Vec::new();
    for id in viewer.actor.principal().reach(Permission::AuditRead).projects.iter().take(20) {
        let found = storage::projects::find(&mut session, id).await?;
        slugs.extend(found.filter(|found| viewer.org().is_some_and(|org| org.id == found.org_id)).map(|p| p.slug));
    }
    Ok(slugs)
}

fn draw_list(
    viewer: &Viewer,
    place: Place,
    given: Given,
    projects: Vec<String>,
    found: Result<Json<Page<EventView>>>,
) -> Result<Response> {
    let (status, problem, page) = match found {
        Ok(Json(page)) => (StatusCode::OK, None, page),
        Err(error) => {
            let (status, problem) = match error {
                // Whoever may not look is not shown a form either.
                Error::Denied(_) => return Err(error),
                error => FormProblem::of(error)?,
            };
            (status, Some(problem), Page { items: Vec::new(), next: None })
        }
    };
    let (frame, path) = (viewer.frame(place.section()), place.path());
    let since = |seconds: i64| rfc3339(frame.now - seconds);
    let export = |format| given.href(&format!("/api/v1{path}/export"), "format", format);
    let list = ListPage {
        whose: frame.org.as_ref().filter(|_| !place.org.is_empty()).map_or("the platform", |org| &org.name).to_owned(),
        ranges: RANGES.map(|(name, range)| (name, given.href(&path, "since", &since(range)))).into(),
        live: given.href(&path, "live", "1"),
        still: given.href(&path, "live", ""),
        export: Export { ndjson: export("ndjson"), csv: export("csv") },
        first: if given.after.is_empty() { String::new() } else { given.href(&path, "after", "") },
        next: page.next.map(|next| given.href(&path, "after", &next)),
        since: for_field(&given.since),
        until: for_field(&given.until),
        rows: page.items.into_iter().map(|event| Row::new(&place, event)).collect(),
        frame,
        path,
        place,
        given,
        problem,
        projects,
    };
    console::page_as(status, &list)
}

/// `/orgs/{org}/audit/{seq}` and `/platform/audit/{seq}`
#[derive(Template)]
#[template(path = "audit/event.html")]
struct EventPage {
    frame: Frame,
    path: String,
    words: String,
    at: i64,
    shown_at: String,
    event: EventView,
    changes: Vec<Change>,
    said: Vec<(String, String)>,
    who: Option<String>,
    project: Option<String>,
    same_user: String,
    same_target: String,
    older: Option<String>,
    younger: Option<String>,
}

/// One event of an organization.
pub(crate) async fn show(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path((org, seq)): Path<(String, String)>,
) -> Result<Response> {
    let place = Place::of(&viewer, &org);
    let get = async |seq: String| {
        let path = Path((org.clone(), seq));
        api::get_event(viewer.actor(), Shared(state.clone()), path).await.map(|Json(event)| event)
    };
    let event = get(seq).await?;
    let (older, younger) = (event.seq - 1, event.seq + 1);
    let neighbours = (get(older.to_string()).await.is_ok(), get(younger.to_string()).await.is_ok());
    draw_event(&viewer, &place, event, neighbours)
}

/// One event of the platform.
pub(crate) async fn show_platform(
    viewer: Viewer,
    Shared(state): Shared<State>,
    Path(seq): Path<String>,
) -> Result<Response> {
    let get = async |seq: String| {
        let found = api::get_platform_event(viewer.actor(), Shared(state.clone()), Path(seq)).await;
        found.map(|Json(event)| event)
    };
    let event = get(seq).await?;
    let (older, younger) = (event.seq - 1, event.seq + 1);
    let neighbours = (get(older.to_string()).await.is_ok(), get(younger.to_string()).await.is_ok());
    draw_event(&viewer, &Place::platform(), event, neighbours)
}

fn draw_event(viewer: &Viewer, place: &Place, event: EventView, (older, younger): (bool, bool)) -> Result<Response> {
    let path = place.path();
    let (changes, said) = words::told(&event.detail);
    let at = seconds(&event.at);
    let kind = event.action.split('.').next().unwrap_or_default();
    let all = if kind == event.action { event.action.clone() } else { format!("{kind}.*") };
    console::page(&EventPage {
        frame: viewer.frame(place.section()),
        words: words::action(&event.action),
        at,
        shown_at: absolute(at),
        changes,
        said,
        who: place.user(&event),
        project: place.project(&event),
        same_user: place.by(&[("user", &event.user)]),
        same_target: place.by(&[("target", &event.target), ("action", &all)]),
        older: older.then(|| format!("{path}/{}", event.seq - 1)),
        younger: younger.then(|| format!("{path}/{}", event.seq + 1)),
        path,
        event,
    })
}

/// `/orgs/{org}/audit/chain` and `/platform/audit/chain`
#[derive(Template)]
#[template(path = "audit/chain.html")]
struct ChainPage {
    frame: Frame,
    path: String,
    whose: String,
    rctl: bool,
    confirm: String,
    prove: String,
    chain: ChainView,
    first_at: Option<i64>,
    last_at: Option<i64>,
    export: String,
}

impl ChainPage {
    /// Whether events were taken away by retention.
    fn cut(&self) -> bool {
        self.chain.first_seq > 1
    }
}

/// The chain of an organization's events.
pub(crate) async fn chain(viewer: Viewer, Shared(state): Shared<State>, Path(org): Path<String>) -> Result<Response> {
    let place = Place::of(&viewer, &org);
    let Json(chain) = api::get_chain(viewer.actor(), Shared(state), Path(org)).await?;
    draw_chain(&viewer, &place, chain)
}

/// The chain of the platform's events.
pub(crate) async fn platform_chain(viewer: Viewer, Shared(state): Shared<State>) -> Result<Response> {
    let Json(chain) = api::get_platform_chain(viewer.actor(), Shared(state)).await?;
    draw_chain(&viewer, &Place::platform(), chain)
}

fn draw_chain(viewer: &Viewer, place: &Place, chain: ChainView) -> Result<Response> {
    let (frame, path) = (viewer.frame(place.section()), place.path());
    let named = if place.org.is_empty() { "platform" } else { &place.org };
    let time = |at: &Option<String>| at.as_deref().map(seconds);
    console::page(&ChainPage {
        whose: frame.org.as_ref().filter(|_| !place.org.is_empty()).map_or("the platform", |org| &org.name).to_owned(),
        confirm: format!("rctl audit verify audit-{named}.ndjson"),
        prove: format!("wharfinger audit verify audit-{named}.ndjson"),
        rctl: !place.org.is_empty(),
        first_at: time(&chain.first_at),
        last_at: time(&chain.last_at),
        export: format!("/api/v1{path}/export"),
        frame,
        path,
        chain,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::{for_field, in_utc};
    use crate::testing::{ADMIN, Caller, Controller, OPERATOR, Reply};

    const AUDIT: &str = "/orgs/main/audit";

    fn has(page: &Reply, text: &str) -> bool {
        page.raw.contains(text)
    }

    async fn seq_of(controller: &Controller, caller: &Caller, filter: &str) -> i64 {
        controller.settle().await;
        let page = controller.get(caller, &format!("{AUDIT}?{filter}&limit=1")).await.expect(200).body;
        page["items"][0]["seq"].as_i64().unwrap()
    }

    #[test]
    fn a_browsers_dates_are_the_apis_and_back() {
        for (given, sent) in [
            ("2026-11-24T10:00", "2026-11-24T10:00:00Z"),
            ("2026-11-24T10:00:09", "2026-11-24T10:00:09Z"),
            ("2026-11-24", "2026-11-24"),
            ("yesterday", "yesterday"),
        ] {
            assert_eq!(in_utc(given), sent);
        }
        assert_eq!(for_field("2026-11-24T11:00:00+01:00"), "2026-11-24T10:00:00");
        assert_eq!(for_field("1790000000000"), "2026-09-21T14:13:20");
        assert_eq!(for_field("yesterday"), "");
    }

    #[tokio::test]
    async fn events_are_shown_by_filter_with_words_pages_and_exports() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for n in 0..55 {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": format!("p{n}")})).await.expect(201);
        }
        controller.settle().await;
        let page = controller.page(&admin, &format!("{AUDIT}?action=project.*&user=ADMIN@localhost")).await.expect(200);
        assert!(has(&page, "Project made") && has(&page, ">project.create</code>"), "{}", page.raw);
        assert!(has(&page, "value=\"ADMIN@localhost\""), "what was typed stays");
        assert!(has(&page, ">p54<") && !has(&page, ">p3<"), "fifty to a page");
        assert!(page.raw.len() < 100 << 10, "{}", page.raw.len());
        let next = page.raw.split("href=\"").find(|part| part.contains("rel=\"next\"")).unwrap();
        let next = next.split('"').next().unwrap().replace("&#38;", "&");
        assert!(next.contains("action=project.*") && next.contains("user=ADMIN%40localhost"), "{next}");
        let second = controller.page(&admin, &next).await.expect(200);
        assert!(has(&second, ">p3<") && has(&second, "First page"));
        assert!(has(
            &page,
            "/api/v1/orgs/main/audit/export?user=ADMIN%40localhost&#38;action=project.*&#38;format=csv"
        ));
        for none in
            ["user=nobody@example.com", "since=2100-01-01T00:00", "target=nothing", "client=docker&action=login"]
        {
            let empty = controller.page(&admin, &format!("{AUDIT}?{none}")).await.expect(200);
            assert!(has(&empty, "No event passes these filters"), "{none}: {}", empty.raw);
        }
        let wrong = controller.page(&admin, &format!("{AUDIT}?outcome=good&since=x")).await.expect(422);
        assert!(has(&wrong, "role=\"alert\""), "{}", wrong.raw);
        controller.page(&Caller::Nobody, AUDIT).await.expect(303);
    }

    #[tokio::test]
    async fn a_live_page_says_how_to_stop_and_refreshes_without_a_script() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let still = controller.page(&admin, &format!("{AUDIT}?outcome=ok")).await.expect(200);
        assert!(!has(&still, "data-refresh") && has(&still, "outcome=ok&#38;live=1"), "{}", still.raw);
        let live = controller.page(&admin, &format!("{AUDIT}?outcome=ok&live=1")).await.expect(200);
        assert!(has(&live, "data-refresh=\"5\"") && has(&live, "Refresh") && has(&live, "Stop following"));
        // An older page stands still.
        let older = controller.page(&admin, &format!("{AUDIT}?live=1&after=3")).await.expect(200);
        assert!(!has(&older, "data-refresh"));
    }

    #[tokio::test]
    async fn an_event_shows_what_changed_and_leads_to_its_neighbours() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
        let change = json!({"description": "<script>alert(1)</script>"});
        controller.call(&admin, http::Method::PATCH, "/orgs/main/projects/web", &change).await.expect(200);
        let seq = seq_of(&controller, &admin, "action=project.update").await;
        let page = controller.page(&admin, &format!("{AUDIT}/{seq}")).await.expect(200);
        assert!(has(&page, "Project changed") && has(&page, "Before") && has(&page, "&#60;script&#62;alert"));
        assert!(!has(&page, "<script>alert"));
        assert!(has(&page, &format!("href=\"{AUDIT}/{}\"", seq - 1)), "{}", page.raw);
        assert!(has(&page, "target=web&#38;action=project.*") && has(&page, "user=admin%40localhost"));
        let same = controller.page(&admin, &format!("{AUDIT}?target=web&action=project.*")).await.expect(200);
        assert!(has(&same, "Project changed") && has(&same, "Project made"));
        for lost in ["0", "999999", "x"] {
            controller.page(&admin, &format!("{AUDIT}/{lost}")).await.expect(404);
        }
    }

    #[tokio::test]
    async fn the_chain_page_says_what_was_proven_and_how_to_prove_the_rest() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        controller.settle().await;
        let told = controller.get(&admin, "/orgs/main/audit/chain").await.expect(200).body;
        assert_eq!((&told["first_seq"], &told["proof"]["whole"]), (&json!(1), &json!(true)), "{told}");
        assert_eq!((&told["events"], &told["keep_days"]), (&told["proof"]["events"], &json!(null)));
        let page = controller.page(&admin, &format!("{AUDIT}/chain")).await.expect(200);
        assert!(has(&page, "prove themselves") && has(&page, "rctl audit verify audit-main.ndjson"), "{}", page.raw);
        assert!(has(&page, told["last_hash"].as_str().unwrap()));
        storage::db::testing::run(
            &controller.db,
            "UPDATE audit_bundles SET events = replace(events, '\"ok\"', '\"denied\"') WHERE last_seq = 1",
        )
        .await;
        let page = controller.page(&admin, &format!("{AUDIT}/chain")).await.expect(200);
        assert!(has(&page, "event 1 was edited") && !has(&page, "prove themselves"), "{}", page.raw);
    }

    #[tokio::test]
    async fn everybody_sees_what_is_theirs_to_see() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        for slug in ["web", "secret"] {
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
        }
        let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("web")))).await;
        let auditor = controller.member("auditor@example.com", Some(("AUDITOR", None))).await;
        let reader = controller.member("reader@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        let stranger = controller.other_org().await;
        let hidden = seq_of(&controller, &admin, "action=project.create&project=secret").await;
        let seen = controller.page(&lead, AUDIT).await.expect(200);
        assert!(has(&seen, ">web<") && !has(&seen, "secret") && !has(&seen, "/audit/chain"), "{}", seen.raw);
        controller.page(&lead, &format!("{AUDIT}/{hidden}")).await.expect(404);
        controller.page(&lead, &format!("{AUDIT}/chain")).await.expect(403);
        let all = controller.page(&auditor, AUDIT).await.expect(200);
        assert!(has(&all, "secret") && has(&all, "/audit/chain"));
        controller.page(&auditor, &format!("{AUDIT}/chain")).await.expect(200);
        for path in [AUDIT.to_owned(), format!("{AUDIT}/{hidden}"), format!("{AUDIT}/chain")] {
            controller.page(&reader, &path).await.expect(403);
            controller.page(&stranger, &path).await.expect(404);
        }
        let operator = controller.login(OPERATOR).await;
        let platform = controller.page(&operator, "/platform/audit").await.expect(200);
        assert!(has(&platform, "/platform/audit/1\""), "{}", platform.raw);
        controller.page(&operator, "/platform/audit/1").await.expect(200);
        controller.page(&operator, "/platform/audit/chain").await.expect(200);
        controller.get(&operator, "/platform/audit/export").await.expect(200);
        for path in ["/platform/audit", "/platform/audit/1", "/platform/audit/chain"] {
            controller.page(&admin, path).await.expect(403);
        }
        controller.get(&admin, "/platform/audit/export").await.expect(403);
    }
}

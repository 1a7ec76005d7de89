//! `/orgs/{org}/activity`

use std::collections::{BTreeMap, HashMap};

use axum::Json;
use axum::extract::State as Shared;
use identity::audit::Credential;
use identity::rbac::{Permission, Resource};
use serde::Serialize;
use storage::Session;
use storage::activity::{self, day_of};
use storage::api_keys::{self, ApiKeyFilter};
use storage::audit::{self, Direction, Event, Filter, Within};
use storage::clock::rfc3339;
use storage::names::RepoName;
use storage::orgs::Org;
use storage::projects::{self, Project};
use storage::repositories::{self, RepositoryFilter};
use utoipa::ToSchema;

use crate::State;
use crate::actor::{Actor, in_org};
use crate::api_keys::api::{self as keys, ApiKeyView};
use crate::error::Result;
use crate::extract::Path;
use crate::time;

/// Days that are told of.
const DAYS: i64 = 30;
/// Days that the most pulled repositories are those of.
const WEEK: i64 = 7;
/// Pushes that are looked at.
const PUSHES: i64 = 100;
/// Pushes that are told.
const SHOWN_PUSHES: usize = 10;
/// Repositories and projects that are told.
const SHOWN: usize = 5;
const SHOWN_PROJECTS: usize = 10;
/// Projects of a caller who does not see all of them that are looked at.
const MOST_PROJECTS: usize = 50;
/// Rows that are looked at where each repository is decided by itself.
const MOST_ROWS: i64 = 5_000;
/// How long before its end a key is told of, in seconds.
const SOON: i64 = 14 * 86_400;

/// What is going on in an organization, as far as the caller may see it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ActivityView {
    /// When the caller logged in before this time; null where this is the first, or it is not known.
    #[serde(serialize_with = "time::maybe")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub(crate) last_login_at: Option<i64>,
    /// How many of the newest hundred pushes came since then; null where that is not known.
    pub(crate) new_pushes: Option<usize>,
    /// The newest pushes to repositories that the caller may pull from, at most ten.
    pub(crate) pushes: Vec<PushView>,
    /// Whether pushes from before the last ones of the organization were not looked at, of which the caller may see some.
    pub(crate) older_pushes: bool,
    /// Whether the caller may pull from more than fifty projects, but not from all: of those beyond, nothing is told here.
    pub(crate) more_projects: bool,
    /// Whether there is no repository that the caller may pull from.
    pub(crate) empty: bool,
    /// Pulls on each of the last thirty days; null where the caller may pull nowhere.
    pub(crate) pulls: Option<Vec<DayView>>,
    /// What was pulled most in the last seven days, at most five.
    pub(crate) most_pulled: Vec<PulledView>,
    /// What is stored; null where the caller may not pull from any project as a whole, or nothing was measured yet.
    pub(crate) storage: Option<StorageView>,
    /// API keys that end within fourteen days, at most ten: one's own, or everybody's with `apikey.manage`.
    pub(crate) expiring_keys: Vec<ApiKeyView>,
}

/// A push.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PushView {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// The tag that was pushed; null where it was a digest.
    pub(crate) tag: Option<String>,
    /// The manifest's digest.
    pub(crate) digest: String,
    /// Who pushed it.
    pub(crate) user: String,
    /// When.
    #[serde(serialize_with = "time::text")]
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: i64,
}

/// Pulls of a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct DayView {
    /// The day, in UTC.
    #[schema(format = Date)]
    pub(crate) day: String,
    /// Manifests that went out.
    #[schema(minimum = 0)]
    pub(crate) pulls: i64,
}

/// A repository that was pulled.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PulledView {
    /// Full name of the repository.
    pub(crate) repository: String,
    /// Manifests that went out.
    #[schema(minimum = 0)]
    pub(crate) pulls: i64,
}

/// What is stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StorageView {
    /// Bytes of all that the caller sees; what several projects share counts once where that is the whole organization.
    #[schema(minimum = 0)]
    pub(crate) bytes: i64,
    /// How much that is more than thirty days ago, or than when it was first measured; null where there is no day before.
    pub(crate) growth: Option<i64>,
    /// The day that growth is counted from; null where there is none.
    #[schema(format = Date)]
    pub(crate) since: Option<String>,
    /// The largest projects, at most ten.
    pub(crate) projects: Vec<ProjectStorageView>,
}

/// What a project stores.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct ProjectStorageView {
    /// Slug of the project.
    pub(crate) project: String,
    /// Bytes, each once however many of its repositories share them.
    #[schema(minimum = 0)]
    pub(crate) bytes: i64,
}

/// What is going on
///
/// Recent pushes, pulls by day, what is stored and which keys end soon: each as far as the caller's roles reach, and absent
/// where they do not. Counts of pulls are up to date within a second, measures of storage within minutes.
#[utoipa::path(get, path = "/orgs/{org}/activity", tag = "organizations",
    params(("org" = String, Path, description = "Slug of the organization")),
    responses((status = 200, description = "What is going on", body = ActivityView)))]
pub(crate) async fn get_activity(
    actor: Actor,
    Shared(state): Shared<State>,
    Path(org): Path<String>,
) -> Result<Json<ActivityView>> {
    // Not merely seen: the platform's operator sees that it exists, and nothing in it.
    let org = actor.can_in_org(Permission::OrgRead, &state, &org).await?;
    let now = state.identity().now();
    let mut session = state.db().read().await?;
    let last_login_at = last_login(&mut session, &actor, &org).await?;
    let sight = Sight::of(&mut session, &actor, &org).await?;
    let (recent, older) = sight.pushes(&mut session).await?;
    let new_pushes = last_login_at.map(|since| recent.iter().filter(|push| push.at > since).count());
    let pushes = existing(&mut session, recent).await?;
    let (pulls, most_pulled) = sight.pulls(&mut session, day_of(now)).await?;
    Ok(Json(ActivityView {
        last_login_at,
        new_pushes,
        empty: sight.is_empty(&mut session).await?,
        older_pushes: older && pushes.len() < SHOWN_PUSHES,
        more_projects: sight.more_projects,
        pushes,
        pulls,
        most_pulled,
        storage: sight.storage(&mut session, day_of(now)).await?,
        expiring_keys: expiring_keys(&mut session, &actor, &org, now).await?,
    }))
}

/// When the caller logged in before the session that they are in now.
async fn last_login(session: &mut Session, actor: &Actor, org: &Org) -> Result<Option<i64>> {
    let Credential::Session(id) = &actor.caller.credential else { return Ok(None) };
    let name = actor.principal().name.as_str();
    let filter = Filter { actor: name, action: "login", outcome: "ok", ..Filter::default() };
    let found = audit::list(session, &org.id, &filter, Direction::Newest, None, 20).await?;
    let of_this = |event: &Event| {
        let detail: serde_json::Value = serde_json::from_str(&event.event.detail).unwrap_or_default();
        detail["session"].as_str() == Some(id)
    };
    let mut before = found.events.iter().skip_while(|event| !of_this(event)).skip(1);
    Ok(before.next().map(|event| event.event.at_ms.div_euclid(1000)))
}

async fn expiring_keys(session: &mut Session, actor: &Actor, org: &Org, now: i64) -> Result<Vec<ApiKeyView>> {
    if !actor.may(Permission::ApikeyOwn, &in_org(org)) {
        return Ok(Vec::new());
    }
    let all = actor.may(Permission::ApikeyManage, &in_org(org));
    let user_id = (!all).then_some(actor.principal().user_id.as_str());
    let filter = ApiKeyFilter { org_id: &org.id, user_id };
    let mut views = Vec::new();
    for key in api_keys::expiring(session, &filter, now, now + SOON, 10).await? {
        views.push(keys::view(session, key).await?);
    }
    Ok(views)
}

/// Those pushes whose repository is still there, as many as are shown.
async fn existing(session: &mut Session, pushes: Vec<PushView>) -> Result<Vec<PushView>> {
    let mut there: HashMap<String, bool> = HashMap::new();
    let mut kept = Vec::new();
    for push in pushes {
        if kept.len() == SHOWN_PUSHES {
            break;
        }
        if !there.contains_key(&push.repository) {
            let found = match push.repository.parse::<RepoName>() {
                Ok(name) => repositories::find(session, &name).await?.is_some(),
                Err(_) => false,
            };
            there.insert(push.repository.clone(), found);
        }
        if there.get(&push.repository) == Some(&true) {
            kept.push(push);
        }
    }
    Ok(kept)
}

/// What of an organization a caller may pull from.
struct Sight<'a> {
    actor: &'a Actor,
    org: &'a Org,
    /// All of it.
    whole: bool,
    /// Else these projects.
    projects: Vec<Project>,
    /// And some repositories of these.
    partly: Vec<Project>,
    /// Or some repositories anywhere.
    partly_anywhere: bool,
    /// Whether there are projects beyond those.
    more_projects: bool,
}

impl<'a> Sight<'a> {
    async fn of(session: &mut Session, actor: &'a Actor, org: &'a Org) -> Result<Self> {
        let reach = actor.principal().reach(Permission::RegistryPull);
        let whole = reach.orgs.contains(&org.id);
        let mut sight = Self {
            actor,
            org,
            whole,
            projects: Vec::new(),
            partly: Vec::new(),
            partly_anywhere: false,
            more_projects: false,
        };
        if whole {
            return Ok(sight);
        }
        let partly = reach.partly.iter().filter(|part| part.org_id == org.id);
        sight.more_projects = reach.projects.len() > MOST_PROJECTS || partly.clone().count() > MOST_PROJECTS;
        for id in reach.projects.iter().take(MOST_PROJECTS) {
            let found = projects::find(session, id).await?;
            sight.projects.extend(found.filter(|project| project.org_id == org.id));
        }
        for part in partly.take(MOST_PROJECTS) {
            match &part.project_id {
                Some(id) if !reach.projects.contains(id) => {
                    sight.partly.extend(projects::find(session, id).await?);
                }
                Some(_) => {}
                None => sight.partly_anywhere = true,
            }
        }
        Ok(sight)
    }

    fn nothing(&self) -> bool {
        !self.whole && self.projects.is_empty() && self.partly.is_empty() && !self.partly_anywhere
    }

    /// Whether the caller may pull from a repository, be it there or not.
    fn sees(&self, name: &RepoName, project_id: &str) -> bool {
        let (org_id, project_id) = (self.org.id.as_str(), Some(project_id));
        let resource = Resource::Repository { org_id, project_id, path: name.path(), tag: None };
        name.org() == self.org.slug && self.actor.may(Permission::RegistryPull, &resource)
    }

    /// The newest pushes, from the audit log: it knows who, and what was pushed over since. And whether there may be older ones.
    async fn pushes(&self, session: &mut Session) -> Result<(Vec<PushView>, bool)> {
        if self.nothing() {
            return Ok((Vec::new(), false));
        }
        let within: Option<Vec<Within>> = (!self.whole && !self.partly_anywhere).then(|| {
            let all = self.projects.iter().chain(&self.partly);
            all.map(|project| Within { slug: project.slug.clone(), since: project.created_at * 1000 }).collect()
        });
        let filter = Filter { action: "image.push", outcome: "ok", projects: within.as_deref(), ..Filter::default() };
        let found = audit::list(session, &self.org.id, &filter, Direction::Newest, None, PUSHES).await?;
        let mut ids: HashMap<String, Option<String>> = HashMap::new();
        let mut pushes = Vec::new();
        for event in found.events {
            let Some((name, push)) = push_of(event) else { continue };
            let slug = name.project().to_owned();
            if !ids.contains_key(&slug) {
                let found = projects::find_by_slug(session, &self.org.id, &slug).await?;
                ids.insert(slug.clone(), found.map(|project| project.id));
            }
            if let Some(Some(id)) = ids.get(&slug)
                && self.sees(&name, id)
            {
                pushes.push(push);
            }
        }
        Ok((pushes, !self.whole && found.next.is_some()))
    }

    async fn is_empty(&self, session: &mut Session) -> Result<bool> {
        let anywhere = self.whole || self.partly_anywhere;
        let all = RepositoryFilter { org_id: Some(&self.org.id), project_id: None };
        if anywhere {
            return Ok(repositories::list(session, &all, "", 1).await?.is_empty());
        }
        for project in self.projects.iter().chain(&self.partly) {
            let filter = RepositoryFilter { project_id: Some(&project.id), ..all.clone() };
            if !repositories::list(session, &filter, "", 1).await?.is_empty() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Pulls by day, and what was pulled most.
    async fn pulls(&self, session: &mut Session, today: i64) -> Result<(Option<Vec<DayView>>, Vec<PulledView>)> {
        if self.nothing() {
            return Ok((None, Vec::new()));
        }
        let (since, week) = (today - DAYS + 1, today - WEEK + 1);
        let mut days: BTreeMap<i64, i64> = (since..=today).map(|day| (day, 0)).collect();
        let mut most: BTreeMap<String, i64> = BTreeMap::new();
        if self.whole {
            for day in activity::days_of_org(session, &self.org.id, since).await? {
                days.entry(day.day).and_modify(|pulls| *pulls += day.pulls);
            }
            let limit = i64::try_from(SHOWN).unwrap_or_default();
            let found = activity::most_pulled(session, &self.org.id, week, limit).await?;
            most.extend(found.into_iter().map(|pulled| (pulled.name, pulled.pulls)));
        }
        for project in &self.projects {
            for day in activity::days_of_project(session, &project.id, since).await? {
                days.entry(day.day).and_modify(|pulls| *pulls += day.pulls);
            }
            for row in activity::repository_days(session, &self.org.id, Some(&project.id), week, MOST_ROWS).await? {
                *most.entry(row.name).or_default() += row.pulls;
            }
        }
        let mut rows = Vec::new();
        for project in &self.partly {
            rows.extend(activity::repository_days(session, &self.org.id, Some(&project.id), since, MOST_ROWS).await?);
        }
        if self.partly_anywhere {
            rows = activity::repository_days(session, &self.org.id, None, since, MOST_ROWS).await?;
        }
        for row in rows {
            // What lies in a project that is seen as a whole was counted.
            let counted = self.projects.iter().any(|project| project.id == row.project_id);
            let seen = row.name.parse().is_ok_and(|name| self.sees(&name, &row.project_id));
            if seen && !counted {
                days.entry(row.day).and_modify(|pulls| *pulls += row.pulls);
                if row.day >= week {
                    *most.entry(row.name).or_default() += row.pulls;
                }
            }
        }
        let days = days.into_iter().map(|(day, pulls)| DayView { day: date(day), pulls }).collect();
        let mut most: Vec<PulledView> =
            most.into_iter().map(|(repository, pulls)| PulledView { repository, pulls }).collect();
        most.sort_by(|a, b| b.pulls.cmp(&a.pulls).then_with(|| a.repository.cmp(&b.repository)));
        most.truncate(SHOWN);
        Ok((Some(days), most))
    }

    async fn storage(&self, session: &mut Session, today: i64) -> Result<Option<StorageView>> {
        let since = today - DAYS;
        let mut shown = Vec::new();
        let series: Vec<(i64, i64)> = if self.whole {
            let limit = i64::try_from(SHOWN_PROJECTS).unwrap_or_default();
            let found = activity::largest_projects(session, &self.org.id, limit).await?;
            shown.extend(found.into_iter().map(|(project, bytes)| ProjectStorageView { project, bytes }));
            let days = activity::days_of_org(session, &self.org.id, since).await?;
            days.into_iter().filter_map(|day| Some((day.day, day.bytes?))).collect()
        } else {
            let mut total = None;
            for project in &self.projects {
                let days = activity::days_of_project(session, &project.id, since).await?;
                if let Some(bytes) = days.iter().rev().find_map(|day| day.bytes) {
                    shown.push(ProjectStorageView { project: project.slug.clone(), bytes });
                    *total.get_or_insert(0) += bytes;
                }
            }
            total.map(|bytes| (today, bytes)).into_iter().collect()
        };
        let Some((_, bytes)) = series.last().copied() else { return Ok(None) };
        shown.sort_by(|a, b| b.bytes.cmp(&a.bytes).then_with(|| a.project.cmp(&b.project)));
        shown.truncate(SHOWN_PROJECTS);
        let first = series.first().filter(|_| series.len() > 1);
        let growth = first.map(|(_, before)| bytes - before);
        Ok(Some(StorageView { bytes, growth, since: first.map(|(day, _)| date(*day)), projects: shown }))
    }
}

/// A day as the API writes it.
fn date(day: i64) -> String {
    rfc3339(day * 86_400).chars().take(10).collect()
}

/// The push that an event tells of.
fn push_of(event: Event) -> Option<(RepoName, PushView)> {
    let e = event.event;
    let detail: serde_json::Value = serde_json::from_str(&e.detail).ok()?;
    let digest = detail["digest"].as_str()?.to_owned();
    // A name has neither of these; what follows is the tag or digest that was given.
    let repository = e.target.split(['@', ':']).next()?.to_owned();
    let tag = e.target.strip_prefix(&repository)?.strip_prefix(':').map(ToOwned::to_owned);
    let name = repository.parse().ok()?;
    Some((name, PushView { repository, tag, digest, user: e.actor, at: e.at_ms.div_euclid(1000) }))
}

//! The catalog: every repository that the caller may pull from, and no other.

use axum::Json;
use axum::response::{IntoResponse, Response};
use identity::rbac::{Permission, Principal};
use identity::token::Bearer;
use serde::Serialize;
use storage::repositories::{self, Repository, RepositoryFilter};

use crate::State;
use crate::action::Page;
use crate::error::Result;
use crate::page;

const PATH: &str = "/v2/_catalog";

#[derive(Serialize)]
struct Catalog {
    repositories: Vec<String>,
}

/// Repositories that one request looks at where each is decided by itself, shared by the places where that is so; of each
/// place some are, so that every request gets further.
const MOST_LOOKED_AT: i64 = 5_000;
const LEAST_LOOKED_AT: i64 = 100;

/// Names that were found, and the repository at which looking stopped before there were enough.
#[derive(Default)]
struct Found {
    names: Vec<String>,
    stopped: Option<Repository>,
}

/// Canonical names in byte order, after `last`, at most `n`. A page may be short, or empty, and still have a `Link`.
pub(crate) async fn list(state: &State, bearer: &Bearer, wanted: &Page) -> Result<Response> {
    let limit = page::limit(wanted, page::MAX);
    let principal = match &bearer.user {
        Some(user) => state.identity().principal(user, bearer.key.as_deref()).await?,
        None => None,
    };
    let Found { mut names, stopped } = match principal {
        Some(principal) => find(state, &principal, wanted, limit).await?,
        None => Found::default(),
    };
    if let Some(stopped) = &stopped {
        // What lies behind was not looked at everywhere.
        names.retain(|name| *name <= stopped.name);
    }
    names.sort_unstable();
    names.dedup();
    let more = page::cut(&mut names, limit);
    let last = names.last().unwrap_or(&wanted.last).clone();
    let n = limit.to_string();
    let mut response = Json(Catalog { repositories: names }).into_response();
    if more {
        page::link(response.headers_mut(), PATH, &[("last", &last), ("n", &n)]);
    } else if let Some(stopped) = stopped.filter(|_| limit > 0) {
        // By its id: its name may be one that the caller must not learn.
        page::link(response.headers_mut(), PATH, &[("last", &last), ("n", &n), ("seen", &stopped.id)]);
    }
    Ok(response)
}

async fn find(state: &State, principal: &Principal, wanted: &Page, limit: usize) -> Result<Found> {
    let rows = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let reach = principal.reach(Permission::RegistryPull);
    let orgs = reach.orgs.iter().map(|org| RepositoryFilter { org_id: Some(org), project_id: None });
    let projects = reach.projects.iter().map(|project| RepositoryFilter { org_id: None, project_id: Some(project) });
    // Of these only what matches the patterns of some role.
    let parts = reach.partly.iter().map(|part| match &part.project_id {
        Some(project) => RepositoryFilter { org_id: None, project_id: Some(project) },
        None => RepositoryFilter { org_id: Some(&part.org_id), project_id: None },
    });
    let look_at = MOST_LOOKED_AT / i64::try_from(reach.partly.len().max(1)).unwrap_or(MOST_LOOKED_AT);
    let look_at = look_at.max(LEAST_LOOKED_AT);
    let may = |row: &Repository| principal.may_in(Permission::RegistryPull, row);
    let mut session = state.db().read().await?;
    let mut after = wanted.last.clone();
    if let Some(id) = &wanted.seen
        && let Some(seen) = repositories::find_by_id(&mut session, id).await?
        && reach.partly.iter().any(|part| part.org_id == seen.org_id)
    {
        after = after.max(seen.name);
    }
    let mut all = Found::default();
    let whole = orgs.chain(projects).map(|filter| (filter, false));
    for (filter, partly) in whole.chain(parts.map(|filter| (filter, true))) {
        if partly {
            let (found, stopped) = repositories::list_where(&mut session, &filter, &after, rows, look_at, &may).await?;
            if let Some(stopped) = stopped
                && all.stopped.as_ref().is_none_or(|first| stopped.name < first.name)
            {
                all.stopped = Some(stopped);
            }
            all.names.extend(found.into_iter().map(|repository| repository.name));
        } else {
            let found = repositories::names(&mut session, &filter, &after, rows).await?;
            all.names.extend(found.iter().map(str::to_owned));
        }
        // What lies behind the first `limit + 1` is of no use: memory does not grow with the number of bindings.
        if all.names.len() > 2 * (limit + 1) {
            all.names.sort_unstable();
            all.names.truncate(limit + 1);
        }
    }
    Ok(all)
}

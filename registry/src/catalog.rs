//! The catalog: every repository that the caller may pull from, and no other.

use axum::Json;
use axum::response::{IntoResponse, Response};
use identity::rbac::Permission;
use identity::token::Bearer;
use serde::Serialize;
use storage::repositories::{self, RepositoryFilter};

use crate::State;
use crate::action::Page;
use crate::error::Result;
use crate::page;

#[derive(Serialize)]
struct Catalog {
    repositories: Vec<String>,
}

/// Canonical names in byte order, after `last`, at most `n`.
pub(crate) async fn list(state: &State, bearer: &Bearer, wanted: &Page) -> Result<Response> {
    let limit = page::limit(wanted, page::MAX);
    let rows = i64::try_from(limit + 1).unwrap_or(i64::MAX);
    let principal = match &bearer.user {
        Some(user) => state.identity().principal(user, bearer.key.as_deref()).await?,
        None => None,
    };
    let mut names = Vec::new();
    if let Some(principal) = principal {
        let reach = principal.reach(Permission::RegistryPull);
        let orgs = reach.orgs.iter().map(|org| RepositoryFilter { org_id: Some(org), project_id: None });
        let projects =
            reach.projects.iter().map(|project| RepositoryFilter { org_id: None, project_id: Some(project) });
        // Of these only what matches the patterns of some role.
        let parts = reach.partly.iter().map(|part| match &part.project_id {
            Some(project) => RepositoryFilter { org_id: None, project_id: Some(project) },
            None => RepositoryFilter { org_id: Some(&part.org_id), project_id: None },
        });
        let may = |row: &repositories::Repository| principal.may_in(Permission::RegistryPull, row);
        let mut session = state.db().read().await?;
        let whole = orgs.chain(projects).map(|filter| (filter, false));
        for (filter, partly) in whole.chain(parts.map(|filter| (filter, true))) {
            let found = match partly {
                false => repositories::list(&mut session, &filter, &wanted.last, rows).await?,
                true => repositories::list_where(&mut session, &filter, &wanted.last, rows, &may).await?,
            };
            names.extend(found.into_iter().map(|repository| repository.name));
            // What lies behind the first `limit + 1` is of no use: memory does not grow with the number of bindings.
            if names.len() > 2 * (limit + 1) {
                names.sort_unstable();
                names.truncate(limit + 1);
            }
        }
    }
    names.sort_unstable();
    names.dedup();
    let more = page::cut(&mut names, limit);
    let last = names.last().cloned().unwrap_or_default();
    let mut response = Json(Catalog { repositories: names }).into_response();
    if more {
        page::link(response.headers_mut(), "/v2/_catalog", &[("last", &last), ("n", &limit.to_string())]);
    }
    Ok(response)
}

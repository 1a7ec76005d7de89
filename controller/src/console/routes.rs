//! Every page of the console: path and handlers. A page has the path of the API's resource, without `/api/v1`.

use axum::Router;
use axum::routing::get;

use super::{assets, form, front};
use crate::State;
use crate::groups;

/// The console's routes.
pub(crate) fn router() -> Router<State> {
    let pages = Router::new()
        // Door
        .route("/", get(front::front))
        .route("/organization", get(front::choose).post(front::switch))
        // Home
        // Registry
        // System
        .route("/orgs/{org}/groups", get(groups::console::list).post(groups::console::create))
        .route("/orgs/{org}/groups/new", get(groups::console::new))
        // My account
        // Audit
        // Platform
        ;
    #[cfg(debug_assertions)]
    let pages = pages
        .route("/styleguide", get(super::styleguide::show))
        .route("/styleguide/dialog", get(super::styleguide::dialog));
    pages.layer(axum::middleware::from_fn(form::token_from_field)).merge(assets::router())
}

//! Every page of the console: path and handlers. A page has the path of the API's resource, without `/api/v1`.

use axum::Router;
use axum::routing::{get, post};

use super::{assets, form, front};
use crate::State;
use crate::{groups, platform};

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
        .route("/platform", get(platform::console::health))
        .route("/platform/orgs", get(platform::console::list).post(platform::console::create))
        .route("/platform/orgs/new", get(platform::console::new))
        .route("/platform/orgs/{org}", get(platform::console::show))
        .route("/platform/orgs/{org}/suspend", get(platform::console::ask_suspend).post(platform::console::suspend))
        .route("/platform/orgs/{org}/resume", post(platform::console::resume))
        .route("/platform/orgs/{org}/delete", get(platform::console::ask_delete).post(platform::console::delete))
        .route("/platform/orgs/{org}/undelete", post(platform::console::undelete));
    #[cfg(debug_assertions)]
    let pages = pages
        .route("/styleguide", get(super::styleguide::show))
        .route("/styleguide/dialog", get(super::styleguide::dialog));
    pages.layer(axum::middleware::from_fn(form::token_from_field)).merge(assets::router())
}

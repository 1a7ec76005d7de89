//! Every page of the console: path and handlers. A page has the path of the API's resource, without `/api/v1`.

use axum::Router;
use axum::routing::{get, post};

use super::{assets, form, front};
use crate::State;
use crate::users::console as users;
use crate::{audit, groups, platform};

/// The console's routes.
pub(crate) fn router() -> Router<State> {
    let pages = Router::new()
        // Door
        .route("/", get(front::front))
        .route("/organization", get(front::choose).post(front::switch))
        // Home
        // Registry
        // System: people
        .route("/orgs/{org}/users", get(users::list::list).post(users::invite::invite))
        .route("/orgs/{org}/users/new", get(users::invite::new))
        .route("/orgs/{org}/users/{name}", get(users::profile::show).post(users::profile::save))
        .route("/orgs/{org}/users/{name}/access", get(users::access::show))
        .route("/orgs/{org}/users/{name}/groups", post(users::access::join))
        .route("/orgs/{org}/users/{name}/groups/leave", post(users::access::leave))
        .route("/orgs/{org}/users/{name}/roles", post(users::access::give_role))
        .route("/orgs/{org}/users/{name}/roles/take", post(users::access::take_role))
        .route("/orgs/{org}/users/{name}/rights", get(users::rights::show))
        .route("/orgs/{org}/users/{name}/keys", get(users::keys::show).post(users::keys::make))
        .route("/orgs/{org}/users/{name}/keys/{id}/revoke", get(users::keys::ask).post(users::keys::revoke))
        .route("/orgs/{org}/users/{name}/sessions", get(users::sessions::show))
        .route("/orgs/{org}/users/{name}/{deed}", get(users::profile::ask).post(users::profile::act))
        .route("/orgs/{org}/groups", get(groups::console::list).post(groups::console::create))
        .route("/orgs/{org}/groups/new", get(groups::console::new))
        .route("/orgs/{org}/groups/{group}", get(groups::console::page::members))
        .route("/orgs/{org}/groups/{group}/members", post(groups::console::page::add))
        .route("/orgs/{org}/groups/{group}/members/remove", post(groups::console::page::remove))
        .route(
            "/orgs/{org}/groups/{group}/roles",
            get(groups::console::page::roles).post(groups::console::page::give_role),
        )
        .route("/orgs/{org}/groups/{group}/roles/take", post(groups::console::page::take_role))
        .route("/orgs/{org}/groups/{group}/edit", get(groups::console::page::edit).post(groups::console::page::save))
        .route("/orgs/{org}/groups/{group}/delete", get(groups::console::page::ask).post(groups::console::page::delete))
        // My account
        // Audit
        .route("/orgs/{org}/audit", get(audit::console::list))
        .route("/orgs/{org}/audit/chain", get(audit::console::chain))
        .route("/orgs/{org}/audit/{seq}", get(audit::console::show))
        .route("/platform/audit", get(audit::console::list_platform))
        .route("/platform/audit/chain", get(audit::console::platform_chain))
        .route("/platform/audit/{seq}", get(audit::console::show_platform))
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

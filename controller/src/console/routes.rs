//! Every page of the console: path and handlers. A page has the path of the API's resource, without `/api/v1`.

use axum::Router;
use axum::routing::{get, post};

use super::{assets, form, front};
use crate::State;
use crate::users::console as users;
use crate::{
    account, api_keys, audit, bindings, devices, groups, home, issuers, machines, manifests, mfa, passwords, platform,
    projects, repositories, roles, sessions, settings,
};

/// The console's routes.
pub(crate) fn router() -> Router<State> {
    let pages = Router::new()
        // Door
        .route("/", get(front::front))
        .route("/organization", get(front::choose).post(front::switch))
        .route("/login", get(sessions::console::login).post(sessions::console::log_in))
        .route("/login/second-factor", get(sessions::console::no_factor).post(sessions::console::show_second_factor))
        .route("/login/passkey", get(sessions::console::no_factor).post(sessions::console::log_in_by_passkey))
        .route("/logout", get(sessions::console::no_factor).post(sessions::console::log_out))
        .route("/password", get(passwords::console::forced).post(passwords::console::change_forced))
        .route("/password-reset", get(passwords::console::forgotten).post(passwords::console::ask))
        .route("/password-reset/choose", get(passwords::console::forgotten).post(passwords::console::reset))
        .route("/second-factor/enrol", get(mfa::console::enrol))
        .route("/second-factor/enrol/app", get(mfa::console::no_app).post(mfa::console::propose_app))
        .route("/second-factor/enrol/app/confirm", get(mfa::console::no_app).post(mfa::console::confirm_app))
        .route("/second-factor/enrol/passkey", get(mfa::console::no_app).post(mfa::console::add_passkey))
        .route("/device", get(devices::console::show).post(devices::console::decide))
        // Home
        .route("/orgs/{org}", get(home::console::show))
        // Registry
        .route("/orgs/{org}/manifests/{*name}", get(manifests::console::show))
        .route("/orgs/{org}/compare/{*name}", get(manifests::console::compare))
        .route("/orgs/{org}/repositories", get(repositories::console::list))
        .route("/orgs/{org}/repositories/{*name}", get(repositories::console::show))
        .route(
            "/orgs/{org}/deletion/{*name}",
            get(repositories::console::ask_delete).post(repositories::console::delete),
        )
        .route("/orgs/{org}/projects", get(projects::console::list).post(projects::console::create))
        .route("/orgs/{org}/new/project", get(projects::console::new))
        .route("/orgs/{org}/projects/{project}", get(projects::console::show))
        .route("/orgs/{org}/projects/{project}/members", get(projects::console::members))
        .route("/orgs/{org}/projects/{project}/edit", get(projects::console::edit).post(projects::console::update))
        .route("/orgs/{org}/projects/{project}/delete", get(projects::console::confirm).post(projects::console::delete))
        // System
        .route("/orgs/{org}/roles", get(roles::console::list).post(roles::console::create))
        .route("/orgs/{org}/new/role", get(roles::console::new))
        .route("/orgs/{org}/roles/{role}", get(roles::console::show))
        .route("/orgs/{org}/roles/{role}/edit", get(roles::console::edit).post(roles::console::update))
        .route("/orgs/{org}/roles/{role}/delete", get(roles::console::confirm).post(roles::console::delete))
        .route("/orgs/{org}/machines", get(machines::console::list).post(machines::console::create))
        .route("/orgs/{org}/new/machine", get(machines::console::new))
        .route("/orgs/{org}/machines/{name}", get(machines::console::show))
        .route("/orgs/{org}/issuers", get(issuers::console::list).post(issuers::console::create))
        .route("/orgs/{org}/issuers/new", get(issuers::console::new))
        .route("/orgs/{org}/issuers/{id}", get(issuers::console::show))
        .route("/orgs/{org}/issuers/{id}/edit", get(issuers::console::edit).post(issuers::console::update))
        .route("/orgs/{org}/issuers/{id}/delete", get(issuers::console::confirm).post(issuers::console::delete))
        .route("/orgs/{org}/settings", get(settings::console::show).post(settings::console::save))
        .route("/orgs/{org}/settings/name", post(settings::console::rename))
        .route("/orgs/{org}/bindings", post(bindings::console::create))
        .route("/orgs/{org}/bindings/new", get(bindings::console::new))
        .route("/orgs/{org}/bindings/{id}/delete", get(bindings::console::confirm).post(bindings::console::delete))
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
        .route("/orgs/{org}/keys", get(api_keys::console::all_list).post(api_keys::console::all_create))
        .route("/orgs/{org}/keys/new", get(api_keys::console::all_new))
        .route(
            "/orgs/{org}/keys/{id}/revoke",
            get(api_keys::console::all_ask_revoke).post(api_keys::console::all_revoke),
        )
        // My account
        .route("/account", get(account::console::profile).post(account::console::rename))
        .route("/account/password", get(passwords::console::own).post(passwords::console::change_own))
        .route("/account/mfa", get(mfa::console::show))
        .route("/account/mfa/totp/remove", get(mfa::console::ask_remove_app).post(mfa::console::remove_app))
        .route(
            "/account/mfa/passkeys/{id}/rename",
            get(mfa::console::ask_rename_passkey).post(mfa::console::rename_passkey),
        )
        .route(
            "/account/mfa/passkeys/{id}/remove",
            get(mfa::console::ask_remove_passkey).post(mfa::console::remove_passkey),
        )
        .route("/account/mfa/recovery-codes", get(mfa::console::no_codes).post(mfa::console::renew_codes))
        .route("/account/mfa/recovery-codes/file", post(mfa::console::codes_file))
        .route("/account/sessions", get(sessions::console::list))
        .route("/account/sessions/{id}/end", post(sessions::console::end))
        .route(
            "/account/sessions/end-others",
            get(sessions::console::ask_end_others).post(sessions::console::end_others),
        )
        .route("/account/keys", get(api_keys::console::own_list).post(api_keys::console::own_create))
        .route("/account/keys/new", get(api_keys::console::own_new))
        .route("/account/keys/file", post(api_keys::console::file))
        .route("/account/keys/{id}/revoke", get(api_keys::console::own_ask_revoke).post(api_keys::console::own_revoke))
        .route("/account/terminal", get(account::console::terminal))
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

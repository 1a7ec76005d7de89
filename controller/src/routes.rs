//! Every route of the API on one page: method, path, who may, handler. The router and the `OpenAPI` document are both made
//! of this table.

use axum::Router;
use identity::rbac::Permission;

use crate::State;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody.
    Anyone,
    /// Whoever has a session, even one that must first choose a new password.
    Session,
    /// Whoever has credentials; what is listed depends on their permissions.
    LoggedIn,
    /// Whoever has this permission on what the path names.
    Needs(Permission),
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route {
    /// The method, in lower case.
    pub(crate) method: &'static str,
    /// The path below `/api/v1`.
    pub(crate) path: &'static str,
    /// Who may.
    pub(crate) access: Access,
    /// Whether it honours `Idempotency-Key`: marked `, idempotent` behind its handler, as every create is.
    pub(crate) idempotent: bool,
}

macro_rules! routes {
    ($($method:ident $path:literal $access:expr => $($handler:ident)::+ $(, $mark:ident)?;)*) => {
        /// The table.
        pub(crate) const ROUTES: &[Route] = &[$(Route {
            method: stringify!($method),
            path: $path,
            access: $access,
            idempotent: routes!(@marked $($mark)?),
        },)*];

        /// The routes, to be nested under `/api/v1`.
        pub(crate) fn router(state: &State) -> Router<State> {
            Router::new()$(.route($path, routes!(@layer state, axum::routing::$method(crate::$($handler)::+) $(, $mark)?)))*
        }

        /// The paths of the document, as the handlers' attributes describe them.
        #[derive(utoipa::OpenApi)]
        #[openapi(paths($(crate::$($handler)::+),*))]
        pub(crate) struct Paths;
    };
    (@marked) => { false };
    (@marked idempotent) => { true };
    (@layer $state:ident, $handler:expr) => { $handler };
    (@layer $state:ident, $handler:expr, idempotent) => {
        $handler.layer(axum::middleware::from_fn_with_state($state.clone(), crate::idempotency::keep))
    };
}

use Access::{Anyone, LoggedIn, Needs, Session};
use Permission::{
    ApikeyOwn, GroupRead, GroupWrite, IssuerRead, IssuerWrite, MemberRead, MemberWrite, OrgRead, OrgUpdate,
    PlatformHealth, PlatformOrgCreate, PlatformOrgManage, PlatformOrgRead, ProjectCreate, ProjectDelete, ProjectRead,
    ProjectUpdate, RegistryDelete, RegistryPull, RoleRead, RoleWrite, SettingsRead, SettingsWrite, UserRead, UserWrite,
};

routes! {
    get    "/openapi.json"                        Anyone                   => openapi::get_openapi;

    post   "/login"                               Anyone                   => sessions::api::log_in;
    post   "/login/second-factor"                 Anyone                   => sessions::api::show_second_factor;
    post   "/login/passkey/begin"                 Anyone                   => sessions::api::begin_passkey_login;
    post   "/login/passkey"                       Anyone                   => sessions::api::log_in_by_passkey;
    post   "/logout"                              Session                  => sessions::api::log_out;
    get    "/session"                             Session                  => sessions::api::get_session;
    post   "/session/org"                         Session                  => sessions::api::choose_org;
    post   "/password"                            Session                  => sessions::api::change_password;
    post   "/password/forgot"                     Anyone                   => passwords::api::forgot_password;
    post   "/password/reset"                      Anyone                   => passwords::api::reset_password;

    get    "/account"                             LoggedIn                 => account::api::get_account;
    patch  "/account"                             LoggedIn                 => account::api::update_account;
    get    "/account/sessions"                    Session                  => sessions::list::list_own_sessions;
    delete "/account/sessions"                    Session                  => sessions::list::end_other_sessions;
    delete "/account/sessions/{id}"               Session                  => sessions::list::end_own_session;
    get    "/account/mfa"                         Session                  => mfa::api::get_mfa;
    post   "/account/mfa/totp"                    Session                  => mfa::api::propose_totp;
    post   "/account/mfa/totp/confirm"            Session                  => mfa::api::confirm_totp;
    delete "/account/mfa/totp"                    Session                  => mfa::api::remove_totp;
    post   "/account/mfa/recovery-codes"          Session                  => mfa::api::renew_recovery_codes;
    post   "/account/mfa/passkeys/begin"          Session                  => mfa::api::begin_passkey;
    post   "/account/mfa/passkeys"                Session                  => mfa::api::add_passkey;
    get    "/account/mfa/passkeys"                Session                  => mfa::api::list_passkeys;
    patch  "/account/mfa/passkeys/{id}"           Session                  => mfa::api::rename_passkey;
    delete "/account/mfa/passkeys/{id}"           Session                  => mfa::api::remove_passkey;

    post   "/device/code"                         Anyone                   => devices::api::begin_device;
    post   "/device/token"                        Anyone                   => devices::api::poll_device;
    get    "/device/{user_code}"                  Session                  => devices::api::get_device;
    post   "/device/{user_code}/approve"          Session                  => devices::api::approve_device;
    post   "/device/{user_code}/deny"             Session                  => devices::api::deny_device;

    get    "/orgs"                                LoggedIn                 => orgs::api::list_orgs;
    post   "/orgs"                                Needs(PlatformOrgCreate) => orgs::api::create_org, idempotent;
    get    "/orgs/{org}"                          Needs(OrgRead)           => orgs::api::get_org;
    patch  "/orgs/{org}"                          Needs(OrgUpdate)         => orgs::api::update_org;
    get    "/orgs/{org}/activity"                 Needs(OrgRead)           => home::api::get_activity;
    get    "/orgs/{org}/settings"                 Needs(SettingsRead)      => settings::api::get_settings;
    patch  "/orgs/{org}/settings"                 Needs(SettingsWrite)     => settings::api::update_settings;
    get    "/orgs/{org}/settings/effects"         Needs(SettingsRead)      => settings::api::get_effects;

    get    "/platform/health"                     Needs(PlatformHealth)    => platform::health::get_platform_health;
    get    "/platform/orgs"                       Needs(PlatformOrgRead)   => platform::api::list_platform_orgs;
    get    "/platform/orgs/{org}"                 Needs(PlatformOrgRead)   => platform::api::get_platform_org;
    post   "/platform/orgs/{org}/suspend"         Needs(PlatformOrgManage) => platform::api::suspend_org;
    post   "/platform/orgs/{org}/resume"          Needs(PlatformOrgManage) => platform::api::resume_org;
    post   "/platform/orgs/{org}/delete"          Needs(PlatformOrgManage) => platform::api::delete_org;
    post   "/platform/orgs/{org}/undelete"        Needs(PlatformOrgManage) => platform::api::undelete_org;

    get    "/orgs/{org}/projects"                 Needs(ProjectRead)       => projects::api::list_projects;
    post   "/orgs/{org}/projects"                 Needs(ProjectCreate)     => projects::api::create_project, idempotent;
    get    "/orgs/{org}/projects/{project}"       Needs(ProjectRead)       => projects::api::get_project;
    get    "/orgs/{org}/projects/{project}/contents"
                                                  Needs(ProjectDelete)     => projects::api::get_contents;
    patch  "/orgs/{org}/projects/{project}"       Needs(ProjectUpdate)     => projects::api::update_project;
    delete "/orgs/{org}/projects/{project}"       Needs(ProjectDelete)     => projects::api::delete_project;

    get    "/orgs/{org}/users"                    Needs(UserRead)          => users::api::list_users;
    post   "/orgs/{org}/users"                    Needs(UserWrite)         => users::api::create_user, idempotent;
    get    "/orgs/{org}/users/{name}"             Needs(UserRead)          => users::api::get_user;
    patch  "/orgs/{org}/users/{name}"             Needs(UserWrite)         => users::api::update_user;
    delete "/orgs/{org}/users/{name}"             Needs(UserWrite)         => users::api::delete_user;
    post   "/orgs/{org}/users/{name}/resend"      Needs(UserWrite)         => users::api::resend_invitation;
    post   "/orgs/{org}/users/{name}/deactivate"  Needs(UserWrite)         => users::api::deactivate_user;
    post   "/orgs/{org}/users/{name}/activate"    Needs(UserWrite)         => users::api::activate_user;
    post   "/orgs/{org}/users/{name}/unlock"      Needs(UserWrite)         => users::api::unlock_user;
    get    "/orgs/{org}/users/{name}/sessions"    Needs(Permission::AuditRead) => sessions::list::list_sessions;
    delete "/orgs/{org}/users/{name}/sessions"    Needs(UserWrite)         => sessions::list::end_sessions;
    post   "/orgs/{org}/users/{name}/mfa/reset"   Needs(UserWrite)         => mfa::api::reset_mfa;

    get    "/orgs/{org}/bindings"                 Needs(MemberRead)        => bindings::api::list_bindings;
    post   "/orgs/{org}/bindings"                 Needs(MemberWrite)       => bindings::api::create_binding, idempotent;
    get    "/orgs/{org}/bindings/{id}"            Needs(MemberRead)        => bindings::api::get_binding;
    delete "/orgs/{org}/bindings/{id}"            Needs(MemberWrite)       => bindings::api::delete_binding;

    get    "/orgs/{org}/groups"                   Needs(GroupRead)         => groups::api::list_groups;
    post   "/orgs/{org}/groups"                   Needs(GroupWrite)        => groups::api::create_group, idempotent;
    get    "/orgs/{org}/groups/{group}"           Needs(GroupRead)         => groups::api::get_group;
    patch  "/orgs/{org}/groups/{group}"           Needs(GroupWrite)        => groups::api::update_group;
    delete "/orgs/{org}/groups/{group}"           Needs(GroupWrite)        => groups::api::delete_group;
    get    "/orgs/{org}/groups/{group}/members"   Needs(GroupRead)         => groups::api::list_group_members;
    post   "/orgs/{org}/groups/{group}/members"   Needs(GroupWrite)        => groups::api::add_group_member, idempotent;
    delete "/orgs/{org}/groups/{group}/members/{name}"
                                                  Needs(GroupWrite)        => groups::api::remove_group_member;

    get    "/orgs/{org}/roles"                    Needs(RoleRead)          => roles::api::list_roles;
    post   "/orgs/{org}/roles"                    Needs(RoleWrite)         => roles::api::create_role, idempotent;
    get    "/orgs/{org}/roles/{role}"             Needs(RoleRead)          => roles::api::get_role;
    patch  "/orgs/{org}/roles/{role}"             Needs(RoleWrite)         => roles::api::update_role;
    delete "/orgs/{org}/roles/{role}"             Needs(RoleWrite)         => roles::api::delete_role;

    get    "/account/rights"                      LoggedIn                 => rights::api::get_own_rights;
    get    "/orgs/{org}/users/{name}/rights"      Needs(MemberRead)        => rights::api::get_rights;
    get    "/orgs/{org}/auth/why"                 LoggedIn                 => rights::api::get_why;

    get    "/orgs/{org}/apikeys"                  Needs(ApikeyOwn)         => api_keys::api::list_api_keys;
    post   "/orgs/{org}/apikeys"                  Needs(ApikeyOwn)         => api_keys::api::create_api_key, idempotent;
    get    "/orgs/{org}/apikeys/{id}"             Needs(ApikeyOwn)         => api_keys::api::get_api_key;
    delete "/orgs/{org}/apikeys/{id}"             Needs(ApikeyOwn)         => api_keys::api::delete_api_key;

    get    "/orgs/{org}/issuers"                  Needs(IssuerRead)        => issuers::api::list_issuers;
    post   "/orgs/{org}/issuers"                  Needs(IssuerWrite)       => issuers::api::create_issuer, idempotent;
    get    "/orgs/{org}/issuers/{id}"             Needs(IssuerRead)        => issuers::api::get_issuer;
    patch  "/orgs/{org}/issuers/{id}"             Needs(IssuerWrite)       => issuers::api::update_issuer;
    delete "/orgs/{org}/issuers/{id}"             Needs(IssuerWrite)       => issuers::api::delete_issuer;

    get    "/orgs/{org}/repositories"             Needs(RegistryPull)      => repositories::api::list_repositories;
    get    "/orgs/{org}/repository"               Needs(RegistryPull)      => repositories::api::get_repository;
    get    "/orgs/{org}/tags"                     Needs(RegistryPull)      => repositories::api::list_tags;
    get    "/orgs/{org}/untagged"                 Needs(RegistryPull)      => repositories::api::list_untagged;
    get    "/orgs/{org}/deletion"                 Needs(RegistryDelete)    => repositories::deletion::get_deletion;
    delete "/orgs/{org}/repositories"             Needs(RegistryDelete)    => repositories::deletion::delete_repository;
    delete "/orgs/{org}/tags"                     Needs(RegistryDelete)    => repositories::deletion::delete_tags;
    get    "/orgs/{org}/manifest"                 Needs(RegistryPull)      => manifests::api::get_manifest;
    delete "/orgs/{org}/manifest"                 Needs(RegistryDelete)    => repositories::deletion::delete_manifests;
    get    "/orgs/{org}/manifest/contents"        Needs(RegistryPull)      => manifests::contents::get_contents;
    get    "/orgs/{org}/manifest/raw"             Needs(RegistryPull)      => manifests::raw::get_raw_manifest;
    get    "/orgs/{org}/referrers"                Needs(RegistryPull)      => manifests::referrers::list_referrers;
    get    "/orgs/{org}/compare"                  Needs(RegistryPull)      => manifests::compare::compare_manifests;

    get    "/orgs/{org}/audit"                    Needs(Permission::AuditRead) => audit::api::list_events;
    get    "/orgs/{org}/audit/{seq}"              Needs(Permission::AuditRead) => audit::api::get_event;
    get    "/orgs/{org}/audit/export"             Needs(Permission::AuditRead) => audit::api::export_events;
    get    "/orgs/{org}/audit/chain"              Needs(Permission::AuditRead) => audit::api::get_chain;
    post   "/orgs/{org}/audit/confirm"            Needs(Permission::AuditRead) => audit::api::confirm_event;
    get    "/platform/audit"                      Needs(Permission::PlatformAudit) => audit::api::list_platform_events;
    get    "/platform/audit/{seq}"                Needs(Permission::PlatformAudit) => audit::api::get_platform_event;
    get    "/platform/audit/export"               Needs(Permission::PlatformAudit) => audit::api::export_platform_events;
    get    "/platform/audit/chain"                Needs(Permission::PlatformAudit) => audit::api::get_platform_chain;
}

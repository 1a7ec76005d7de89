//! A try of every route: something that it would take from somebody who may. The tests over all routes are made of these; a
//! route without one fails them.

use serde_json::Value;

use crate::routes::Route;

/// Somebody of `main` to do things to.
pub(crate) const TARGET: &str = "target@example.com";
/// An id that nothing has.
pub(crate) const NO_ID: &str = "01m873zmf5zd6b8zx74pqyqnqs";

/// Method and path of a route, query, body. In query and body, `{org}` is the organization that the try is made on.
const TRIES: &[(&str, &str, &str)] = &[
    ("get /openapi.json", "", ""),
    ("post /login", "", r#"{"username": "nobody@example.com", "password": "wrong"}"#),
    ("post /login/second-factor", "", r#"{"token": "none", "code": "123456"}"#),
    ("post /login/passkey/begin", "", ""),
    ("post /login/passkey", "", r#"{"token": "none", "credential": {}}"#),
    ("post /logout", "", ""),
    ("get /session", "", ""),
    ("post /password", "", r#"{"current": "wrong", "new": "another good password"}"#),
    ("post /session/org", "", r#"{"org": "{org}"}"#),
    ("get /account", "", ""),
    ("patch /account", "", r#"{"first_name": "Ann"}"#),
    ("get /account/sessions", "", ""),
    ("delete /account/sessions", "", ""),
    ("delete /account/sessions/{id}", "", ""),
    ("get /account/mfa", "", ""),
    ("post /account/mfa/totp", "", ""),
    ("post /account/mfa/totp/confirm", "", r#"{"code": "123456"}"#),
    ("delete /account/mfa/totp", "", r#"{"code": "123456"}"#),
    ("post /account/mfa/recovery-codes", "", ""),
    ("post /account/mfa/passkeys/begin", "", ""),
    ("post /account/mfa/passkeys", "", r#"{"token": "none", "name": "laptop", "credential": {}}"#),
    ("get /account/mfa/passkeys", "", ""),
    ("patch /account/mfa/passkeys/{id}", "", r#"{"name": "phone"}"#),
    ("delete /account/mfa/passkeys/{id}", "", ""),
    ("post /device/code", "", r#"{"client": "rctl"}"#),
    ("post /device/token", "", r#"{"device_code": "none"}"#),
    ("get /device/{user_code}", "", ""),
    ("post /device/{user_code}/approve", "", ""),
    ("post /device/{user_code}/deny", "", ""),
    ("post /password/forgot", "", r#"{"email": "nobody@example.com"}"#),
    ("post /password/reset", "", r#"{"token": "wrong", "new": "another good password"}"#),
    ("get /orgs", "", ""),
    ("post /orgs", "", r#"{"slug": "fresh"}"#),
    ("get /orgs/{org}", "", ""),
    ("patch /orgs/{org}", "", r#"{"name": "Renamed"}"#),
    ("get /orgs/{org}/activity", "", ""),
    ("get /orgs/{org}/settings", "", ""),
    ("get /orgs/{org}/settings/effects", "", ""),
    ("patch /orgs/{org}/settings", "", r#"{"session_hours": 8}"#),
    ("get /platform/health", "", ""),
    ("get /platform/orgs", "", ""),
    ("get /platform/orgs/{org}", "", ""),
    ("post /platform/orgs/{org}/suspend", "", ""),
    ("post /platform/orgs/{org}/resume", "", ""),
    ("post /platform/orgs/{org}/delete", "", r#"{"confirm": "{org}"}"#),
    ("post /platform/orgs/{org}/undelete", "", ""),
    ("get /orgs/{org}/projects", "", ""),
    ("post /orgs/{org}/projects", "", r#"{"slug": "fresh"}"#),
    ("get /orgs/{org}/projects/{project}", "", ""),
    ("get /orgs/{org}/projects/{project}/contents", "", ""),
    ("patch /orgs/{org}/projects/{project}", "", r#"{"sparse": true}"#),
    ("delete /orgs/{org}/projects/{project}", "", r#"{"confirm": "web"}"#),
    ("get /orgs/{org}/users", "", ""),
    ("post /orgs/{org}/users", "", r#"{"name": "fresh@example.com", "kind": "local"}"#),
    ("get /orgs/{org}/users/{name}", "", ""),
    ("patch /orgs/{org}/users/{name}", "", r#"{"first_name": "Ann"}"#),
    ("delete /orgs/{org}/users/{name}", "", ""),
    ("post /orgs/{org}/users/{name}/resend", "", ""),
    ("post /orgs/{org}/users/{name}/deactivate", "", ""),
    ("post /orgs/{org}/users/{name}/activate", "", ""),
    ("post /orgs/{org}/users/{name}/unlock", "", ""),
    ("get /orgs/{org}/users/{name}/sessions", "", ""),
    ("delete /orgs/{org}/users/{name}/sessions", "", ""),
    ("post /orgs/{org}/users/{name}/mfa/reset", "", ""),
    ("get /orgs/{org}/bindings", "", ""),
    ("post /orgs/{org}/bindings", "", r#"{"user": "target@example.com", "role": "AUDITOR"}"#),
    ("get /orgs/{org}/bindings/{id}", "", ""),
    ("delete /orgs/{org}/bindings/{id}", "", ""),
    ("get /orgs/{org}/groups", "", ""),
    ("post /orgs/{org}/groups", "", r#"{"name": "fresh"}"#),
    ("get /orgs/{org}/groups/{group}", "", ""),
    ("patch /orgs/{org}/groups/{group}", "", r#"{"description": "changed"}"#),
    ("delete /orgs/{org}/groups/{group}", "", ""),
    ("get /orgs/{org}/groups/{group}/members", "", ""),
    ("post /orgs/{org}/groups/{group}/members", "", r#"{"user": "target@example.com"}"#),
    ("delete /orgs/{org}/groups/{group}/members/{name}", "", ""),
    ("get /orgs/{org}/roles", "", ""),
    ("post /orgs/{org}/roles", "", r#"{"name": "fresh", "base": "PROJECT_READ_ONLY"}"#),
    ("get /orgs/{org}/roles/{role}", "", ""),
    ("patch /orgs/{org}/roles/{role}", "", r#"{"description": "changed"}"#),
    ("delete /orgs/{org}/roles/{role}", "", ""),
    ("get /account/rights", "", ""),
    ("get /orgs/{org}/users/{name}/rights", "", ""),
    ("get /orgs/{org}/auth/why", "?permission=registry.pull&project=web", ""),
    ("get /orgs/{org}/apikeys", "", ""),
    ("post /orgs/{org}/apikeys", "", r#"{"name": "fresh"}"#),
    ("get /orgs/{org}/apikeys/{id}", "", ""),
    ("delete /orgs/{org}/apikeys/{id}", "", ""),
    ("get /orgs/{org}/issuers", "", ""),
    (
        "post /orgs/{org}/issuers",
        "",
        r#"{"name": "ci", "user": "robot", "issuer": "https://ci.example", "audience": "a", "rules": {"sub": ["x"]}}"#,
    ),
    ("get /orgs/{org}/issuers/{id}", "", ""),
    ("patch /orgs/{org}/issuers/{id}", "", r#"{"name": "another"}"#),
    ("delete /orgs/{org}/issuers/{id}", "", ""),
    ("get /orgs/{org}/repositories", "", ""),
    ("get /orgs/{org}/repository", "?repository={org}/web/app", ""),
    ("get /orgs/{org}/tags", "?repository={org}/web/app", ""),
    ("get /orgs/{org}/untagged", "?repository={org}/web/app", ""),
    ("get /orgs/{org}/deletion", "?repository={org}/web/app&tag=v1", ""),
    ("delete /orgs/{org}/repositories", "?repository={org}/web/app", r#"{"confirm": "{org}/web/app"}"#),
    ("delete /orgs/{org}/tags", "?repository={org}/web/app&tag=v1", ""),
    (
        "delete /orgs/{org}/manifest",
        "?repository={org}/web/app&digest=sha256:bafebd36189ad3688b7b3915ea55d461e0bfcfbdde11e54b0a123999fb6be50f",
        "",
    ),
    ("get /orgs/{org}/manifest", "?repository={org}/web/app&reference=v1", ""),
    ("get /orgs/{org}/manifest/contents", "?repository={org}/web/app&reference=v1", ""),
    ("get /orgs/{org}/manifest/raw", "?repository={org}/web/app&reference=v1", ""),
    ("get /orgs/{org}/referrers", "?repository={org}/web/app&reference=v1", ""),
    ("get /orgs/{org}/compare", "?repository={org}/web/app&from=v1&to=v1", ""),
    ("get /orgs/{org}/audit", "?outcome=ok&action=login.*", ""),
    ("get /orgs/{org}/audit/{seq}", "", ""),
    ("get /orgs/{org}/audit/export", "?format=csv", ""),
    ("get /orgs/{org}/audit/chain", "", ""),
    ("post /orgs/{org}/audit/confirm", "", r#"{"seq": 1, "hash": "none"}"#),
    ("get /platform/audit", "", ""),
    ("get /platform/audit/{seq}", "", ""),
    ("get /platform/audit/export", "?format=csv", ""),
    ("get /platform/audit/chain", "", ""),
];

fn find(route: &Route) -> (&'static str, &'static str) {
    let name = format!("{} {}", route.method, route.path);
    let found = TRIES.iter().find(|(tried, ..)| *tried == name);
    let (_, query, body) = found.unwrap_or_else(|| panic!("{name} was never tried: add it to tries.rs"));
    (query, body)
}

/// The route's path with query, on an organization, with something plausible in the other places; `id` is what `{id}` is.
pub(crate) fn path_with(route: &Route, org: &str, id: &str) -> String {
    let (query, _) = find(route);
    let path = route
        .path
        .replace("{project}", "web")
        .replace("{group}", "crew")
        .replace("{role}", "crew-role")
        .replace("{name}", TARGET)
        .replace("{id}", id);
    let path = path.replace("{user_code}", "BCDF-GHJK").replace("{seq}", "1");
    format!("{path}{query}").replace("{org}", org)
}

/// As [`path_with`], with an id that nothing has.
pub(crate) fn path(route: &Route, org: &str) -> String {
    path_with(route, org, NO_ID)
}

/// A body that the route would take; null where it takes none.
pub(crate) fn body(route: &Route, org: &str) -> Value {
    match find(route).1 {
        "" => Value::Null,
        text => serde_json::from_str(&text.replace("{org}", org)).unwrap_or_else(|error| panic!("{route:?}: {error}")),
    }
}

#[test]
fn nothing_is_tried_that_is_not_there() {
    let routes: Vec<String> = crate::routes::ROUTES.iter().map(|r| format!("{} {}", r.method, r.path)).collect();
    for (tried, ..) in TRIES {
        assert!(routes.iter().any(|route| route == tried), "{tried}");
    }
}

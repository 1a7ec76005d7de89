//! Who gets which answer: every route of the document × every kind of caller, compared with `controller/route_matrix.txt`.
//! `BLESS=1 cargo test -p controller` writes it anew; its difference is read as code is.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write;

use http::{HeaderMap, Method, header};
use identity::MasterKey;
use serde_json::{Value, json};
use storage::Clock;

use crate::openapi::document;
use crate::routes::{ROUTES, Route};
use crate::testing::{ADMIN, Caller, Controller, OPERATOR, PASSWORD, Reply};
use crate::tries::{self, NO_ID, TARGET};

/// Roles of `main`, by their column.
const ROLES: [(&str, &str); 12] = [
    ("ADM", "ADMIN"),
    ("ORO", "ADMINISTRATOR_READ_ONLY"),
    ("AUD", "AUDITOR"),
    ("PAD", "PROJECT_ADMIN"),
    ("PRO", "PROJECT_READ_ONLY"),
    ("IAD", "INFRA_ADMIN"),
    ("IRO", "INFRA_READ_ONLY"),
    ("WAD", "WORKSPACE_ADMIN"),
    ("WRO", "WORKSPACE_READ_ONLY"),
    ("NAD", "NAMESPACE_ADMIN"),
    ("NRO", "NAMESPACE_READ_ONLY"),
    ("CAD", "CLUSTER_ADMIN"),
];

/// What the columns stand for.
const LEGEND: &str = "\
# none: no credentials. csrf: an Organization Admin's session without its token. key: an Organization Admin's API key.
# alien: the Organization Admin of another organization. oper: the platform's operator. bare: a member without a role.
# ADM… the base roles in the order of roles.toml; those of a project are held on the project that is asked for.
";

/// An installation with somebody in every role, to be copied for each try.
struct Template {
    dir: tempfile::TempDir,
    master: MasterKey,
    callers: Vec<(&'static str, Caller)>,
    ids: BTreeMap<&'static str, String>,
}

impl Template {
    async fn build() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::generate();
        let controller = Controller::open(dir.path(), master.clone(), Clock::manual(1_790_000_000)).await;
        let admin = controller.login(ADMIN).await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
        controller.push("main/web/app").await;
        let alien = controller.other_org().await;
        let mut callers = vec![("none", Caller::Nobody)];
        let Caller::Session { cookie, .. } = &admin else { unreachable!() };
        callers.push(("csrf", Caller::Session { cookie: cookie.clone(), csrf: String::new() }));
        let mut ids = BTreeMap::new();
        let made = controller.post(&admin, "/orgs/main/apikeys", &json!({"name": "matrix"})).await.expect(201);
        callers.push(("key", Caller::Key(made.text("key"))));
        ids.insert("apikeys", made.text("id"));
        callers.push(("alien", alien));
        callers.push(("oper", controller.login(OPERATOR).await));
        callers.push(("bare", controller.member("bare@example.com", None).await));
        controller.member(TARGET, None).await;
        let target = json!({"user": TARGET, "role": "PROJECT_READ_ONLY", "project": "web"});
        let given = controller.post(&admin, "/orgs/main/bindings", &target).await.expect(201);
        ids.insert("bindings", given.text("id"));
        let robot = json!({"name": "robot", "kind": "machine"});
        controller.post(&admin, "/orgs/main/users", &robot).await.expect(201);
        let issuer = json!({"name": "ci", "user": "robot", "issuer": "https://ci.example", "audience": "a",
                            "rules": {"sub": ["x"]}});
        let made = controller.post(&admin, "/orgs/main/issuers", &issuer).await.expect(201);
        ids.insert("issuers", made.text("id"));
        controller.post(&admin, "/orgs/main/groups", &json!({"name": "crew"})).await.expect(201);
        let role = json!({"name": "crew-role", "base": "PROJECT_READ_ONLY"});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        for (column, role) in ROLES {
            let name = format!("{}@example.com", role.to_lowercase());
            let session = controller.member(&name, None).await;
            let mut binding = json!({"user": name, "role": role});
            if !["ADMIN", "ADMINISTRATOR_READ_ONLY", "AUDITOR"].contains(&role) {
                binding["project"] = json!("web");
            }
            if role.starts_with("NAMESPACE_") {
                binding["namespaces"] = json!(["apps"]);
            }
            controller.post(&admin, "/orgs/main/bindings", &binding).await.expect(201);
            callers.push((column, session));
        }
        controller.db.close().await;
        Self { dir, master, callers, ids }
    }

    /// A controller over a copy.
    async fn copy(&self) -> Controller {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(self.dir.path().join("test.db"), dir.path().join("test.db")).unwrap();
        Controller::over(dir, self.master.clone(), Clock::manual(1_790_000_000)).await
    }

    /// What `{id}` is in a route's path.
    fn id(&self, route: &Route) -> &str {
        let noun = route.path.split('/').take_while(|part| *part != "{id}").last().unwrap_or_default();
        self.ids.get(noun).map_or(NO_ID, String::as_str)
    }
}

fn method(route: &Route) -> Method {
    route.method.to_uppercase().parse().unwrap()
}

/// The statuses that the document names for a route.
fn documented(route: &Route) -> Vec<u16> {
    let value = serde_json::to_value(document()).unwrap();
    let responses = value["paths"][route.path][route.method]["responses"].as_object().unwrap().clone();
    responses.keys().filter_map(|status| status.parse().ok()).collect()
}

#[tokio::test]
async fn every_route_answers_every_kind_of_caller_as_reviewed() {
    let template = Template::build().await;
    let mut text = String::from(LEGEND);
    let width = ROUTES.iter().map(|route| route.path.len()).max().unwrap() + 7;
    write!(text, "{:width$}", "").unwrap();
    template.callers.iter().for_each(|(column, _)| write!(text, " {column:>5}").unwrap());
    text.push('\n');
    let mut surprises = Vec::new();
    for route in ROUTES {
        let mut controller = template.copy().await;
        let documented = documented(route);
        write!(text, "{:width$}", format!("{:6} {}", route.method.to_uppercase(), route.path)).unwrap();
        for (column, caller) in &template.callers {
            // What failed may have counted too: every try of a change begins anew.
            if route.method != "get" {
                controller = template.copy().await;
            }
            let path = tries::path_with(route, "main", template.id(route));
            let reply = controller.call(caller, method(route), &path, &tries::body(route, "main")).await;
            let status = reply.status.as_u16();
            if !documented.contains(&status) {
                surprises.push(format!(
                    "{} {} as {column}: {status} is not documented, {}",
                    route.method, route.path, reply.body
                ));
            }
            if status == 201 {
                let at = reply.headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
                if !at.is_some_and(|at| at.starts_with("/api/v1/")) {
                    surprises.push(format!("{} {} as {column}: 201 without Location", route.method, route.path));
                }
                if !route.idempotent {
                    surprises.push(format!("{} {}: a create without `, idempotent`", route.method, route.path));
                }
            }
            write!(text, " {status:>5}").unwrap();
        }
        text.push('\n');
    }
    assert!(surprises.is_empty(), "answers that are not as they have to be:\n{}", surprises.join("\n"));
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/route_matrix.txt");
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let reviewed = std::fs::read_to_string(path).unwrap_or_default();
    let changed: Vec<&str> = text.lines().filter(|line| !reviewed.lines().any(|known| known == *line)).collect();
    assert!(text == reviewed, "who gets which answer changed: review it, then BLESS=1\n{}", changed.join("\n"));
}

/// What of an answer does not tell one request from another.
fn comparable(reply: &Reply) -> (u16, Value, HeaderMap) {
    let mut headers = reply.headers.clone();
    headers.remove(header::DATE);
    (reply.status.as_u16(), reply.body.clone(), headers)
}

#[tokio::test]
async fn another_organization_is_as_if_it_were_not_there() {
    let template = Template::build().await;
    let alien = &template.callers.iter().find(|(column, _)| *column == "alien").unwrap().1;
    let bare = &template.callers.iter().find(|(column, _)| *column == "bare").unwrap().1;
    let controller = template.copy().await;
    for route in ROUTES.iter().filter(|route| route.path.contains("{org}")) {
        for caller in [alien, bare] {
            let path = |org: &str| tries::path_with(route, org, template.id(route));
            // The same words where the body or the query names the organization too.
            let body = tries::body(route, "main");
            let there = controller.call(caller, method(route), &path("main"), &body).await;
            let nowhere = controller.call(caller, method(route), &path("nowhere"), &body).await;
            if !route.path.starts_with("/platform/") {
                assert_eq!(there.status, 404, "{route:?}: {}", there.body);
            }
            assert_eq!(comparable(&there), comparable(&nowhere), "{route:?}");
        }
    }
    // Nothing was changed by any of it.
    controller.try_login(ADMIN, PASSWORD).await.expect(200);
}

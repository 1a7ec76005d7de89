//! Home: what changed since one was here last, as far as one's roles reach.

use askama::Template;
use axum::Json;
use axum::extract::State as Shared;
use axum::response::Response;
use identity::rbac::Permission;
use storage::clock::rfc3339;

use super::api::{self, ActivityView, PushView};
use super::chart::{self, Bar};
use crate::State;
use crate::audit::api::{self as audit, EventView, FilterQuery};
use crate::audit::console::count;
use crate::audit::words;
use crate::console::{self, Frame, Section, Viewer};
use crate::error::Result;
use crate::etag::segment;
use crate::extract::{Path, Query};
use crate::page::PageQuery;
use crate::rights::api::{self as rights, RightsQuery};
use crate::users::api::{self as users, Status, UserQuery, UserView};

/// Denials that are counted; and those that are shown.
const COUNTED: i64 = 100;
const SHOWN: usize = 5;
/// Invitations and roles that are shown.
const INVITED: i64 = 5;
const ROLES: usize = 6;
/// `/orgs/{org}`
#[derive(Template)]
#[template(path = "home/home.html")]
struct HomePage {
    frame: Frame,
    here: String,
    activity: ActivityView,
    pushes: Vec<Push>,
    chart: Vec<Bar>,
    pulls: i64,
    busiest: String,
    projects: Vec<Bar>,
    invited: Option<(Vec<UserView>, bool)>,
    /// For how long an invitation lets in (seconds).
    lifetime: i64,
    keys_of_all: bool,
    denials: Option<Denials>,
    roles: Vec<String>,
    more_roles: usize,
    may: May,
    host: String,
    example: String,
}

/// What the viewer may do, for what the page offers.
struct May {
    pull: bool,
    push: bool,
    audit: bool,
}

/// A push, with where to look at it.
struct Push {
    href: String,
    name: String,
    fresh: bool,
    push: PushView,
}

/// What was refused in the last day.
struct Denials {
    count: String,
    href: String,
    events: Vec<(String, String, i64, EventView)>,
}

/// Home.
pub(crate) async fn show(viewer: Viewer, Shared(state): Shared<State>, Path(org): Path<String>) -> Result<Response> {
    let shared = || Shared(state.clone());
    let Json(activity) = api::get_activity(viewer.actor(), shared(), Path(org.clone())).await?;
    let frame = viewer.frame(Section::Home);
    let here = format!("/orgs/{}", segment(&org));
    let invited = if viewer.may(Permission::UserRead) { Some(invited(&viewer, &state, &org).await?) } else { None };
    let audit = viewer.may_anywhere(Permission::AuditRead);
    let denials = if audit { Some(denials(&viewer, &state, &org, &here, frame.now).await?) } else { None };
    let which = Query(RightsQuery { org: Some(org.clone()) });
    let Json(held) = rights::get_own_rights(viewer.actor(), shared(), which).await?;
    let mut roles: Vec<String> = held.items.iter().map(|right| role(&right.role, right.project.as_deref())).collect();
    roles.sort_unstable();
    roles.dedup();
    let more_roles = roles.len().saturating_sub(ROLES);
    roles.truncate(ROLES);
    let since = activity.last_login_at.unwrap_or(i64::MAX);
    let pulls = activity.pulls.as_deref().unwrap_or_default();
    let busiest = pulls.iter().max_by_key(|day| day.pulls).filter(|day| day.pulls > 0);
    let shares: Vec<(String, i64)> =
        activity.storage.iter().flat_map(|s| &s.projects).map(|p| (p.project.clone(), p.bytes)).collect();
    let project = held.items.iter().find_map(|right| right.project.clone()).map_or(String::new(), |p| format!("{p}/"));
    let whole = viewer.may(Permission::RegistryPush);
    console::page(&HomePage {
        pushes: activity.pushes.iter().map(|push| shown(&org, push, since)).collect(),
        chart: chart::columns(pulls.iter().map(|day| (day.day.clone(), day.pulls)).collect::<Vec<_>>().into_iter()),
        pulls: pulls.iter().map(|day| day.pulls).sum(),
        busiest: busiest.map_or_else(String::new, |day| format!(", most on {} ({})", day.day, count(day.pulls))),
        projects: chart::parts(&shares),
        invited,
        lifetime: state.identity().invitation_lifetime(),
        keys_of_all: viewer.may(Permission::ApikeyManage),
        denials,
        roles,
        more_roles,
        may: May {
            pull: viewer.may_anywhere(Permission::RegistryPull),
            push: viewer.may_anywhere(Permission::RegistryPush),
            audit,
        },
        host: state.settings().registry_host.clone(),
        example: format!("{}/{org}/{}hello:v1", state.settings().registry_host, if whole { "" } else { &project }),
        frame,
        here,
        activity,
    })
}

/// A role as one line.
fn role(role: &str, project: Option<&str>) -> String {
    let label = crate::roles::words::label(role);
    match project {
        Some(project) => format!("{label} on {project}"),
        None => format!("{label} on the whole organization"),
    }
}

/// A push, with the page of what was pushed.
fn shown(org: &str, push: &PushView, since: i64) -> Push {
    let below = push.repository.strip_prefix(org).and_then(|rest| rest.strip_prefix('/')).unwrap_or(&push.repository);
    let path: Vec<String> = below.split('/').map(segment).collect();
    let reference = push.tag.as_deref().unwrap_or(&push.digest);
    Push {
        href: format!("/orgs/{}/manifests/{}?reference={}", segment(org), path.join("/"), segment(reference)),
        name: match &push.tag {
            Some(tag) => format!("{below}:{tag}"),
            None => below.to_owned(),
        },
        fresh: push.at > since,
        push: PushView {
            repository: push.repository.clone(),
            tag: push.tag.clone(),
            digest: push.digest.clone(),
            user: push.user.clone(),
            at: push.at,
        },
    }
}

/// Those who were invited and have not come yet, and whether there are more.
async fn invited(viewer: &Viewer, state: &State, org: &str) -> Result<(Vec<UserView>, bool)> {
    let which = Query(UserQuery { status: Some(Status::Invited), ..UserQuery::default() });
    let bounds = Query(PageQuery { limit: Some(INVITED), after: None });
    let shared = Shared(state.clone());
    let Json(page) = users::list_users(viewer.actor(), shared, Path(org.to_owned()), which, bounds).await?;
    Ok((page.items, page.next.is_some()))
}

async fn denials(viewer: &Viewer, state: &State, org: &str, here: &str, now: i64) -> Result<Denials> {
    let since = rfc3339(now - 86_400);
    let wanted = FilterQuery {
        outcome: Some("denied".to_owned()),
        since: Some(since.clone()),
        limit: Some(COUNTED),
        ..FilterQuery::default()
    };
    let found = audit::list_events(viewer.actor(), Shared(state.clone()), Path(org.to_owned()), Query(wanted)).await;
    let Json(page) = found?;
    let more = if page.next.is_some() { "+" } else { "" };
    let number = format!("{}{more}", page.items.len());
    let events = page.items.into_iter().take(SHOWN).map(|event| {
        let at = storage::clock::parse_rfc3339_ms(&event.at).unwrap_or_default().div_euclid(1000);
        (words::action(&event.action), format!("{here}/audit/{}", event.seq), at, event)
    });
    Ok(Denials {
        count: number,
        href: format!("{here}/audit?outcome=denied&since={}", segment(&since)),
        events: events.collect(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use http::Method;
    use identity::audit::{Caller as By, Entry};
    use serde_json::{Value, json};
    use storage::orgs;

    use crate::testing::{ADMIN, Caller, Controller, OPERATOR, Reply};

    const HOME: &str = "/orgs/main";
    const ACTIVITY: &str = "/orgs/main/activity";

    fn has(page: &Reply, text: &str) -> bool {
        page.raw.contains(text)
    }

    impl Controller {
        /// What the registry notes of pushes and pulls.
        async fn note_of(&self, action: &'static str, project: &str, target: &str) {
            let org = orgs::find_by_slug(&mut self.db.read().await.unwrap(), "main").await.unwrap().unwrap();
            let detail = json!({"digest": format!("sha256:{}", "a".repeat(64))});
            let entry = Entry { org_id: &org.id, action, target, project, detail, ..Entry::default() };
            self.identity.note(&By::server(), &entry).await.unwrap();
            self.settle().await;
        }

        /// Two projects with a repository each, which were pushed to and pulled from.
        async fn busy(&self) -> Caller {
            let admin = self.login(ADMIN).await;
            self.clock.advance(60);
            for slug in ["web", "secret"] {
                self.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
                self.push(&format!("main/{slug}/app")).await;
                self.note_of("image.push", slug, &format!("main/{slug}/app:v1")).await;
                self.note_of("image.pull", slug, &format!("main/{slug}/app:v1")).await;
            }
            self.note_of("image.pull", "secret", "main/secret/app:v1").await;
            storage::activity::Measurer::new(self.db.clone(), self.clock.clone()).run().await.unwrap();
            admin
        }
    }

    fn pulls(body: &Value) -> i64 {
        body["pulls"].as_array().unwrap().iter().map(|day| day["pulls"].as_i64().unwrap()).sum()
    }

    #[tokio::test]
    async fn an_admin_sees_what_is_going_on() {
        let controller = Controller::start().await;
        controller.busy().await;
        controller.clock.advance(3600);
        let admin = controller.login(ADMIN).await;
        controller.push("main/web/new").await;
        controller.note_of("image.push", "web", "main/web/new:v2").await;
        let body = controller.get(&admin, ACTIVITY).await.expect(200).body;
        assert_eq!((pulls(&body), body["pulls"].as_array().unwrap().len()), (3, 30), "{body}");
        assert_eq!(body["most_pulled"][0], json!({"repository": "main/secret/app", "pulls": 2}));
        assert_eq!(
            (&body["pushes"][0]["repository"], &body["pushes"][0]["tag"]),
            (&json!("main/web/new"), &json!("v2"))
        );
        assert_eq!((&body["new_pushes"], &body["empty"]), (&json!(3), &json!(false)));
        assert!(body["storage"]["bytes"].is_i64(), "{body}");
        let page = controller.page(&admin, HOME).await.expect(200);
        assert!(has(&page, "web/new:v2") && has(&page, "secret/app") && has(&page, "Pulls a day"), "{}", page.raw);
        assert!(has(&page, "href=\"/orgs/main/manifests/web/new?reference=v2\""), "{}", page.raw);
        assert!(has(&page, "your log-in before this one") && has(&page, "Refused") && has(&page, "Invitations"));
        assert!(page.raw.len() < 100 << 10);
    }

    #[tokio::test]
    async fn pushes_count_as_new_since_the_log_in_before() {
        let controller = Controller::start().await;
        controller.busy().await;
        controller.clock.advance(3600);
        let first = controller.login(ADMIN).await;
        assert_eq!(controller.get(&first, ACTIVITY).await.expect(200).body["new_pushes"], 2);
        controller.clock.advance(3600);
        let second = controller.login(ADMIN).await;
        assert_eq!(controller.get(&second, ACTIVITY).await.expect(200).body["new_pushes"], 0);
        assert!(!has(&controller.page(&second, HOME).await.expect(200), ">new</span>"));
    }

    #[tokio::test]
    async fn whoever_has_one_project_sees_that_one_and_nothing_else() {
        let controller = Controller::start().await;
        controller.busy().await;
        let dev = controller.member("dev@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        let body = controller.get(&dev, ACTIVITY).await.expect(200).body;
        assert_eq!((pulls(&body), body["most_pulled"].as_array().unwrap().len()), (1, 1), "{body}");
        assert!(!body.to_string().contains("secret"), "{body}");
        let page = controller.page(&dev, HOME).await.expect(200);
        assert!(has(&page, "web/app:v1") && !has(&page, "secret"), "{}", page.raw);
        assert!(!has(&page, "Invitations") && !has(&page, "Refused"), "{}", page.raw);
        assert!(has(&page, "Project Read Only on web"));
    }

    #[tokio::test]
    async fn a_role_of_some_repositories_sees_those() {
        let controller = Controller::start().await;
        let admin = controller.busy().await;
        controller.push("main/web/ci/tool").await;
        for action in ["image.push", "image.pull"] {
            controller.note_of(action, "web", "main/web/ci/tool:v9").await;
        }
        let role = json!({"name": "ci", "base": "PROJECT_READ_ONLY", "repositories": ["ci/**"]});
        controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
        let some = controller.member("some@example.com", Some(("ci", Some("web")))).await;
        let body = controller.get(&some, ACTIVITY).await.expect(200).body;
        let pushed: Vec<&str> =
            body["pushes"].as_array().unwrap().iter().map(|p| p["repository"].as_str().unwrap()).collect();
        assert_eq!((pulls(&body), pushed), (1, vec!["main/web/ci/tool"]), "{body}");
        assert_eq!(body["most_pulled"], json!([{"repository": "main/web/ci/tool", "pulls": 1}]));
        assert_eq!(body["storage"], Value::Null);
    }

    #[tokio::test]
    async fn an_auditor_is_led_to_the_audit_log_and_strangers_nowhere() {
        let controller = Controller::start().await;
        let admin = controller.busy().await;
        let auditor = controller.member("auditor@example.com", Some(("AUDITOR", None))).await;
        let body = controller.get(&auditor, ACTIVITY).await.expect(200).body;
        assert_eq!((&body["pulls"], &body["storage"], &body["pushes"]), (&Value::Null, &Value::Null, &json!([])));
        let page = controller.page(&auditor, HOME).await.expect(200);
        assert!(has(&page, "Open the audit log") && !has(&page, "docker login") && !has(&page, "Pulls a day"));
        assert!(!has(&page, "web/app"), "{}", page.raw);
        let bare = controller.member("bare@example.com", None).await;
        controller.page(&bare, HOME).await.expect(404);
        let stranger = controller.other_org().await;
        controller.page(&stranger, HOME).await.expect(404);
        controller.get(&stranger, ACTIVITY).await.expect(404);
        let theirs = controller.page(&stranger, "/orgs/other").await.expect(200);
        assert!(!has(&theirs, "web/app"));
        let operator = controller.login(OPERATOR).await;
        controller.get(&operator, ACTIVITY).await.expect(403);
        controller.call(&admin, Method::POST, ACTIVITY, &Value::Null).await.expect(405);
    }

    #[tokio::test]
    async fn an_empty_organization_teaches_the_first_push_with_its_own_names() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let page = controller.page(&admin, HOME).await.expect(200);
        for step in [
            "docker login localhost:6000",
            "docker tag hello-world localhost:6000/main/hello:v1",
            "docker push localhost:6000/main/hello:v1",
        ] {
            assert!(has(&page, step), "{step}: {}", page.raw);
        }
    }

    #[tokio::test]
    async fn keys_that_end_soon_are_told_to_their_owner_and_to_who_manages_keys() {
        let controller = Controller::start().await;
        let admin = controller.login(ADMIN).await;
        let dev = controller.member("dev@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
        for (name, days) in [("soon", 10), ("later", 30)] {
            let body = json!({"name": format!("of-dev-{name}"), "valid_days": days});
            controller.post(&dev, "/orgs/main/apikeys", &body).await.expect(201);
            let body = json!({"name": format!("of-admin-{name}"), "valid_days": days});
            controller.post(&admin, "/orgs/main/apikeys", &body).await.expect(201);
        }
        let names = async |caller: &Caller| {
            let body = controller.get(caller, ACTIVITY).await.expect(200).body;
            let keys = body["expiring_keys"].as_array().unwrap().clone();
            keys.iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let mut all = names(&admin).await;
        all.sort_unstable();
        assert_eq!(all, ["of-admin-soon", "of-dev-soon"]);
        assert_eq!(names(&dev).await, ["of-dev-soon"]);
        assert!(has(&controller.page(&dev, HOME).await.expect(200), "of-dev-soon"));
    }

    #[tokio::test]
    async fn whoever_sees_some_projects_is_told_where_the_page_stops() {
        let controller = Controller::start().await;
        let admin = controller.busy().await;
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": "quiet"})).await.expect(201);
        let dev = controller.member("dev@example.com", Some(("PROJECT_READ_ONLY", Some("web")))).await;
        let give = json!({"user": "dev@example.com", "role": "PROJECT_READ_ONLY", "project": "quiet"});
        controller.post(&admin, "/orgs/main/bindings", &give).await.expect(201);
        let read = controller.get(&dev, ACTIVITY).await.expect(200).body;
        assert_eq!((&read["older_pushes"], &read["more_projects"]), (&json!(false), &json!(false)));
        assert!(!has(&controller.page(&dev, HOME).await, "newest pushes"));
        // Others push so much that what is theirs lies further back than is looked.
        let org = orgs::find_by_slug(&mut controller.db.read().await.unwrap(), "main").await.unwrap().unwrap();
        for n in 0..4_100 {
            let detail = json!({"digest": format!("sha256:{}", "b".repeat(64))});
            let target = "main/secret/app:v1";
            let entry =
                Entry { org_id: &org.id, action: "image.push", target, project: "secret", detail, ..Entry::default() };
            controller.identity.note(&By::server(), &entry).await.unwrap();
            if n % 100 == 99 {
                controller.settle().await;
            }
        }
        let read = controller.get(&dev, ACTIVITY).await.expect(200).body;
        assert_eq!((&read["older_pushes"], &read["pushes"]), (&json!(true), &json!([])));
        assert!(has(&controller.page(&dev, HOME).await, "older ones were not looked at"));
        let whole = controller.get(&admin, ACTIVITY).await.expect(200).body;
        assert_eq!(whole["older_pushes"], json!(false));
        for n in 0..50 {
            let slug = format!("p{n}");
            controller.post(&admin, "/orgs/main/projects", &json!({"slug": slug})).await.expect(201);
            let give = json!({"user": "dev@example.com", "role": "PROJECT_READ_ONLY", "project": slug});
            controller.post(&admin, "/orgs/main/bindings", &give).await.expect(201);
        }
        assert_eq!(controller.get(&dev, ACTIVITY).await.expect(200).body["more_projects"], json!(true));
        assert!(has(&controller.page(&dev, HOME).await, "more than 50 projects"));
    }
}

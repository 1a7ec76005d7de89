#![allow(clippy::unwrap_used)]

use http::Method;
use serde_json::{Value, json};

use crate::testing::{ADMIN, Caller, Controller, Reply};

const USERS: &str = "/orgs/main/users";
const ANN: &str = "ann@example.com";
const AT: &str = "/orgs/main/users/ann@example.com";

/// What a page says, without its markup.
fn text(reply: &Reply) -> String {
    let mut inside = true;
    let plain: String = reply
        .raw
        .chars()
        .filter(|c| {
            match c {
                '<' => inside = false,
                '>' => {
                    inside = true;
                    return false;
                }
                _ => {}
            }
            inside
        })
        .collect();
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn says(reply: &Reply, wanted: &str) {
    let text = text(reply);
    assert!(text.contains(wanted), "{wanted:?} in {text}");
}

#[track_caller]
fn lacks(reply: &Reply, unwanted: &str) {
    assert!(!reply.raw.contains(unwanted), "{unwanted:?} in {}", reply.raw);
}

/// The version that a page's form was drawn of.
fn version(page: &Reply) -> String {
    let value = page.raw.split("name=\"version\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    value.replace("&#34;", "\"")
}

async fn notice(controller: &Controller, caller: &Caller, done: &Reply) -> String {
    let Caller::Session { cookie, csrf } = caller else { panic!() };
    let set = done.headers["set-cookie"].to_str().unwrap().split(';').next().unwrap();
    let caller = Caller::Session { cookie: format!("{cookie}; {set}"), csrf: csrf.clone() };
    let page = controller.page(&caller, done.headers["location"].to_str().unwrap()).await.expect(200);
    text(&page)
}

#[tokio::test]
async fn the_table_tells_roles_status_and_access_and_keeps_its_filters() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
    controller.post(&admin, "/orgs/main/groups", &json!({"name": "crew"})).await.expect(201);
    let give = json!({"group": "crew", "role": "PROJECT_ADMIN", "project": "web"});
    controller.post(&admin, "/orgs/main/bindings", &give).await.expect(201);
    controller.member(ANN, Some(("AUDITOR", None))).await;
    controller.post(&admin, "/orgs/main/groups/crew/members", &json!({"user": ANN})).await.expect(201);
    controller.post(&admin, USERS, &json!({"name": "ci", "kind": "machine"})).await.expect(201);
    controller.post(&admin, USERS, &json!({"name": "new@example.com", "kind": "local"})).await.expect(201);
    let change = json!({"first_name": "<b>Ann</b>", "last_name": "\"><script>"});
    controller.call(&admin, Method::PATCH, AT, &change).await.expect(200);

    let all = controller.page(&admin, USERS).await.expect(200);
    says(&all, "Project Admin on web through crew");
    says(&all, "Auditor on the whole organization");
    for word in ["Invited", "Active", "Machine", "Local", "in the browser", "Keys only", "Unknown"] {
        says(&all, word);
    }
    assert!(all.raw.contains("&#60;b&#62;Ann&#60;/b&#62; &#34;&#62;&#60;script&#62;"), "{}", all.raw);
    lacks(&all, "<b>Ann");
    lacks(&all, "ci:");
    assert!(all.raw.contains("href=\"/orgs/main/users/ci\""));

    let some = controller.page(&admin, &format!("{USERS}?kind=&status=&search=ann&project=web")).await.expect(200);
    assert!(some.raw.contains(ANN) && some.raw.contains("value=\"web\"") && some.raw.contains("open><summary>"));
    lacks(&some, "new@example.com</a>");
    let none = controller.page(&admin, &format!("{USERS}?status=inactive")).await.expect(200);
    says(&none, "Nobody fits");
    controller.page(&admin, &format!("{USERS}?kind=king&status=dead")).await.expect(200);
    controller.page(&admin, &format!("{USERS}?search={}", "x".repeat(300))).await.expect(422);
}

#[tokio::test]
async fn a_page_of_many_leads_to_the_next_with_its_filters() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    for i in 0..51 {
        let new = json!({"name": format!("robot-{i:02}"), "kind": "machine"});
        controller.post(&admin, USERS, &new).await.expect(201);
    }
    let first = controller.page(&admin, &format!("{USERS}?kind=machine")).await.expect(200);
    lacks(&first, "robot-50");
    let next = format!("{USERS}?kind=machine&amp;after=robot-49");
    assert!(first.raw.contains(&next) || first.raw.contains(&next.replace("&amp;", "&#38;")), "{}", first.raw);
    let second = controller.page(&admin, &format!("{USERS}?kind=machine&after=robot-49")).await.expect(200);
    assert!(second.raw.contains("robot-50") && second.raw.contains("First page"));
    lacks(&second, "robot-49</a>");
    assert!(first.raw.len() < 100 << 10, "{} bytes", first.raw.len());
}

#[tokio::test]
async fn many_are_invited_at_once_and_each_is_told_of() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
    controller.post(&admin, "/orgs/main/groups", &json!({"name": "crew"})).await.expect(201);
    let form = controller.page(&admin, "/orgs/main/users/new").await.expect(200);
    assert!(
        form.raw.contains("name=\"groups\" value=\"crew\"") && form.raw.contains("name=\"projects\" value=\"web\"")
    );
    lacks(&form, "All Local Users");
    let addresses = format!("Ann Smith <{ANN}>\nbob@example.com, {ADMIN}; <script>alert(1)</script>\nrobot");
    let fields = [
        ("addresses", addresses.as_str()),
        ("groups", "crew"),
        ("role", "PROJECT_READ_ONLY"),
        ("projects", "web"),
        ("projects", "gone"),
    ];
    let done = controller.submit(&admin, USERS, &fields).await.expect(200);
    says(&done, "2 of 5 invited");
    says(&done, "1 already here, 2 refused.");
    says(&done, "Without Project Read Only on project gone:");
    says(&done, "This is not an e-mail address.");
    lacks(&done, "<script>alert");
    says(&done, "script robot");
    let ann = controller.get(&admin, AT).await.expect(200);
    assert_eq!((ann.text("first_name"), ann.text("last_name")), ("Ann".into(), "Smith".into()));
    let rights = controller.get(&admin, &format!("{AT}/rights")).await.expect(200);
    assert_eq!(rights.body["items"].as_array().unwrap().len(), 1);
    let crew = controller.get(&admin, "/orgs/main/groups/crew/members").await.expect(200);
    assert_eq!(crew.body["items"].as_array().unwrap().len(), 2);

    let nothing = controller.submit(&admin, USERS, &[("addresses", " \n,")]).await.expect(422);
    assert!(nothing.raw.contains("id=\"addresses-wrong\""));
    for (role, project, field) in [
        ("PROJECT_ADMIN", None, "projects"),
        ("ADMIN", Some("web"), "projects"),
        ("NAMESPACE_ADMIN", Some("web"), "namespaces"),
        ("", Some("web"), "role"),
    ] {
        let mut fields = vec![("addresses", "dan@example.com"), ("role", role)];
        fields.extend(project.map(|project| ("projects", project)));
        let page = controller.submit(&admin, USERS, &fields).await.expect(422);
        assert!(page.raw.contains(&format!("{field}-wrong")), "{field}: {}", page.raw);
    }
    controller.get(&admin, "/orgs/main/users/dan@example.com").await.expect(404);
    let many: String = (0..101).map(|i| format!("u{i}@example.com\n")).collect();
    let many = controller.submit(&admin, USERS, &[("addresses", &many)]).await.expect(422);
    says(&many, "At most 100 at once; these are 101.");
    let reader = controller.member("reader@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
    lacks(&controller.page(&reader, USERS).await.expect(200), "Invite people");
    controller.page(&reader, "/orgs/main/users/new").await.expect(403);
    controller.submit(&reader, USERS, &[("addresses", "x@example.com")]).await.expect(403);
}

#[tokio::test]
async fn a_profile_is_saved_unless_somebody_was_faster() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    controller.member(ANN, None).await;
    let page = controller.page(&admin, AT).await.expect(200);
    let (first, later) = (version(&page), version(&page).replacen('1', "2", 1));
    let fields =
        |days, version| [("first_name", "Ann"), ("last_name", "S."), ("key_valid_days", days), ("version", version)];
    let saved = controller.submit(&admin, AT, &fields("30", &first)).await.expect(303);
    assert!(notice(&controller, &admin, &saved).await.contains("Saved the profile."));
    assert_eq!(controller.get(&admin, AT).await.body["key_valid_days"], 30);
    let late = controller.submit(&admin, AT, &fields("60", &first)).await.expect(412);
    says(&late, "Somebody else changed this");
    assert!(late.raw.contains("value=\"60\"") && version(&late) == later);
    for days in ["many", "0", "-1"] {
        controller.submit(&admin, AT, &fields(days, &later)).await.expect(422);
    }
    controller.submit(&admin, AT, &fields("", &later)).await.expect(303);
    assert_eq!(controller.get(&admin, AT).await.body["key_valid_days"], Value::Null);
}

#[tokio::test]
async fn access_is_taken_and_given_back_and_deleted_by_name() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let ann = controller.member(ANN, Some(("AUDITOR", None))).await;
    let asked = controller.page(&admin, &format!("{AT}/deactivate")).await.expect(200);
    says(&asked, "logged out of it at once");
    says(&asked, "You can undo this");
    controller.submit(&admin, &format!("{AT}/deactivate"), &[]).await.expect(303);
    controller.page(&ann, "/organization").await.expect(303);
    let page = controller.page(&admin, AT).await.expect(200);
    says(&page, "Reactivate");
    lacks(&page, "Deactivate…");
    controller.submit(&admin, &format!("{AT}/activate"), &[]).await.expect(303);
    controller.page(&admin, &format!("{AT}/activate")).await.expect(404);
    controller.page(&admin, &format!("{AT}/explode")).await.expect(404);
    controller.submit(&admin, &format!("{AT}/explode"), &[]).await.expect(404);

    let asked = controller.page(&admin, &format!("{AT}/delete")).await.expect(200);
    says(&asked, "They lose the 1 role that is their own.");
    lacks(&asked, "API key of theirs");
    says(&asked, "This cannot be undone.");
    let path = format!("{AT}/delete");
    let wrong = controller.submit(&admin, &path, &[("confirm", "ann")]).await.expect(422);
    says(&wrong, "Type ann@example.com as it is written here.");
    controller.submit(&admin, &path, &[("confirm", ANN), ("version", "7")]).await.expect(412);
    let gone = controller.submit(&admin, &path, &[("confirm", ANN), ("version", &version(&asked))]).await.expect(303);
    assert_eq!(gone.headers["location"], USERS);
    controller.page(&admin, AT).await.expect(404);
}

#[tokio::test]
async fn the_last_admin_stays_and_nobody_rules_over_the_mightier() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let own = format!("{USERS}/{ADMIN}");
    let last = controller.submit(&admin, &format!("{own}/delete"), &[("confirm", ADMIN)]).await.expect(409);
    says(&last, "An organization needs at least one active Organization Admin: make another one first.");
    let out = controller
        .submit(&admin, &format!("{own}/groups/leave"), &[("group", "Organization Admins")])
        .await
        .expect(409);
    says(&out, "make another one first.");

    let role = json!({"name": "helpdesk", "base": "AUDITOR", "added": ["user.read", "user.write", "group.read"]});
    controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
    let desk = controller.member("desk@example.com", Some(("helpdesk", None))).await;
    let refused = controller.submit(&desk, &format!("{own}/deactivate"), &[]).await.expect(403);
    says(&refused, "admin@localhost has rights that you do not have:");
    controller.settle().await;
    let noted = controller.get(&admin, "/orgs/main/audit?outcome=denied").await.expect(200);
    assert!(
        noted.body["items"].as_array().unwrap().iter().any(|event| event["actor"]["name"] == "desk@example.com"
            || event["actor"] == "desk@example.com"
            || event.to_string().contains("desk@example.com")),
        "{}",
        noted.body
    );
}

#[tokio::test]
async fn groups_and_roles_come_and_go() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
    controller.post(&admin, "/orgs/main/groups", &json!({"name": "crew"})).await.expect(201);
    controller.member(ANN, None).await;
    let access = format!("{AT}/access");
    says(&controller.page(&admin, &access).await.expect(200), "No role: they can log in and see nothing.");
    controller.submit(&admin, &format!("{AT}/groups"), &[("group", "crew")]).await.expect(303);
    controller.submit(&admin, &format!("{AT}/groups"), &[("group", "crew")]).await.expect(409);
    let lost = controller.submit(&admin, &format!("{AT}/groups"), &[("group", "nobody")]).await.expect(404);
    assert!(lost.raw.contains("aria-describedby=\"group-wrong\""), "{}", lost.raw);
    let roles = format!("{AT}/roles");
    for (fields, status) in [
        (vec![("role", "")], 422),
        (vec![("role", "PROJECT_ADMIN")], 422),
        (vec![("role", "PROJECT_ADMIN"), ("project", "gone")], 404),
        (vec![("role", "ADMIN"), ("project", "web")], 422),
        (vec![("role", "NAMESPACE_ADMIN"), ("project", "web")], 422),
        (vec![("role", "NAMESPACE_ADMIN"), ("project", "web"), ("namespaces", "a, b")], 303),
        (vec![("role", "PROJECT_ADMIN"), ("project", "web")], 303),
        (vec![("role", "PROJECT_ADMIN"), ("project", "web")], 409),
    ] {
        controller.submit(&admin, &roles, &fields).await.expect(status);
    }
    let page = controller.page(&admin, &access).await.expect(200);
    says(&page, "Namespace Admin");
    says(&page, "namespaces a, b");
    let id = page.raw.split("name=\"binding\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    controller.submit(&admin, &format!("{roles}/take"), &[("binding", id)]).await.expect(303);
    controller.submit(&admin, &format!("{roles}/take"), &[("binding", id)]).await.expect(404);
    controller.submit(&admin, &format!("{AT}/groups/leave"), &[("group", "crew")]).await.expect(303);

    // Whoever leads one project sees and gives what is of that one.
    controller.post(&admin, "/orgs/main/projects", &json!({"slug": "secret"})).await.expect(201);
    controller
        .post(&admin, "/orgs/main/bindings", &json!({"user": ANN, "role": "PROJECT_ADMIN", "project": "secret"}))
        .await
        .expect(201);
    let lead = controller.member("lead@example.com", Some(("PROJECT_ADMIN", Some("web")))).await;
    let seen = controller.page(&lead, &access).await.expect(200);
    lacks(&seen, "secret");
    lacks(&seen, "On the whole organization");
    assert!(seen.raw.contains("Give a role"));
    lacks(&controller.page(&lead, USERS).await.expect(200), "secret");
    controller.submit(&lead, &roles, &[("role", "PROJECT_READ_ONLY"), ("project", "web")]).await.expect(303);
    controller.submit(&lead, &roles, &[("role", "PROJECT_READ_ONLY"), ("project", "secret")]).await.expect(404);
    controller.submit(&lead, &roles, &[("role", "ADMIN")]).await.expect(403);
    controller.page(&lead, &format!("{AT}/rights")).await.expect(403);
    let plain = controller.page(&lead, AT).await.expect(200);
    for part in ["Save</button>", "Deactivate", "Effective rights", "API keys</a></li><li"] {
        lacks(&plain, part);
    }
}

#[tokio::test]
async fn rights_say_why() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    controller.post(&admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
    let ci = json!({"name": "ci", "base": "PROJECT_READ_ONLY", "added": ["registry.push"], "repositories": ["ci/**"]});
    controller.post(&admin, "/orgs/main/roles", &ci).await.expect(201);
    controller.member(ANN, Some(("ci", Some("web")))).await;
    let rights = format!("{AT}/rights");
    let page = controller.page(&admin, &rights).await.expect(200);
    says(&page, "push images");
    says(&page, "Images only in repositories that match ci/**");
    for (query, status, said) in [
        (
            "permission=registry.push&project=&repository=main/web/ci/app&tag=",
            200,
            "Yes : ann@example.com may do that there: push images, new repositories included.",
        ),
        ("permission=registry.push&repository=main/web/app", 200, "allows it only in repositories that match ci/**."),
        ("permission=registry.delete&project=web", 200, "registry.delete on project web is missing."),
        ("permission=registry.push&project=gone", 404, "There is no such project, or you may not see it."),
        ("permission=registry.push&repository=other/web/app", 404, "There is no such repository"),
        ("permission=registry.push&repository=%3Cscript%3E", 422, "Something in this form cannot be."),
        ("permission=fly", 422, "There is no permission"),
        ("permission=platform.org.read", 422, "Ask for a permission of organizations."),
    ] {
        let page = controller.page(&admin, &format!("{rights}?{query}")).await.expect(status);
        let said_here = text(&page).replace(" : ", ": ");
        assert!(said_here.contains(&said.replace(" : ", ": ")), "{query}: {said_here}");
        lacks(&page, "<script>alert");
        lacks(&page, "value=\"<script>");
    }
}

#[tokio::test]
async fn keys_are_shown_once_and_revoked() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    controller.post(&admin, USERS, &json!({"name": "robot", "kind": "machine"})).await.expect(201);
    controller.post(&admin, "/orgs/main/bindings", &json!({"user": "robot", "role": "AUDITOR"})).await.expect(201);
    let at = "/orgs/main/users/robot/keys";
    says(&controller.page(&admin, at).await.expect(200), "No API keys");
    let bad = controller.submit(&admin, at, &[("name", "x"), ("valid_days", "soon")]).await.expect(422);
    assert!(bad.raw.contains("valid_days-wrong"), "{}", bad.raw);
    controller.submit(&admin, at, &[("name", "x"), ("projects", "gone")]).await.expect(422);
    let made = controller
        .submit(&admin, at, &[("name", "<i>ci</i>"), ("valid_days", "7"), ("permissions", "registry.pull")])
        .await
        .expect(200);
    let key = made.raw.split("ra2.").nth(1).unwrap().split(['<', '"']).next().unwrap().to_owned();
    controller.get(&Caller::Key(format!("ra2.{key}")), "/account").await.expect(200);
    lacks(&made, "<i>ci");
    let listed = controller.page(&admin, at).await.expect(200);
    lacks(&listed, &key);
    let id = key.split('.').next().unwrap();
    let revoke = format!("{at}/{id}/revoke");
    // Another's path does not lead to it.
    controller.page(&admin, &format!("/orgs/main/users/{ADMIN}/keys/{id}/revoke")).await.expect(404);
    says(&controller.page(&admin, &revoke).await.expect(200), "This cannot be undone.");
    controller.submit(&admin, &revoke, &[]).await.expect(303);
    controller.get(&Caller::Key(format!("ra2.{key}")), "/account").await.expect(401);
    controller.submit(&admin, &revoke, &[]).await.expect(404);
    let reader = controller.member("reader@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
    controller.page(&reader, at).await.expect(403);
    controller.submit(&reader, at, &[("name", "mine")]).await.expect(403);
}

#[tokio::test]
async fn sessions_are_seen_and_ended() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let ann = controller.member(ANN, Some(("AUDITOR", None))).await;
    controller.get(&ann, "/orgs/main").await.expect(200);
    let sessions = format!("{AT}/sessions");
    says(&controller.page(&admin, &sessions).await.expect(200), "Browser");
    says(
        &controller.page(&admin, &format!("{AT}/end-sessions")).await.expect(200),
        "Log ann@example.com out everywhere?",
    );
    controller.submit(&admin, &format!("{AT}/end-sessions"), &[]).await.expect(303);
    controller.get(&ann, "/orgs/main").await.expect(401);
    says(&controller.page(&admin, &sessions).await.expect(200), "Not logged in");
}

#[tokio::test]
async fn a_lock_is_told_and_lifted() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let ann = controller.member(ANN, None).await;
    controller.get(&ann, "/orgs/main").await;
    controller.post(&admin, "/orgs/main/bindings", &json!({"user": ANN, "role": "AUDITOR"})).await.expect(201);
    controller.get(&ann, "/orgs/main").await.expect(200);
    for _ in 0..5 {
        controller.try_login(ANN, "a wrong password").await;
        controller.clock.advance(61);
    }
    let admin = controller.login(ADMIN).await;
    let locked = controller.get(&admin, AT).await.expect(200);
    assert!(locked.body["locked_until"].is_string(), "{}", locked.body);
    says(&controller.page(&admin, USERS).await.expect(200), "Locked");
    controller.submit(&admin, &format!("{AT}/unlock"), &[]).await.expect(303);
    assert_eq!(controller.get(&admin, AT).await.body["locked_until"], Value::Null);
}

#[tokio::test]
async fn another_organization_finds_nobody() {
    let controller = Controller::start().await;
    controller.member(ANN, None).await;
    let boss = controller.other_org().await;
    for part in ["", "/access", "/rights", "/keys", "/sessions", "/delete", "/deactivate"] {
        controller.page(&boss, &format!("{AT}{part}")).await.expect(404);
        controller.page(&boss, &format!("/orgs/other/users/{ANN}{part}")).await.expect(404);
        controller.page(&Caller::Nobody, &format!("{AT}{part}")).await.expect(303);
    }
    for part in ["/delete", "/deactivate", "/activate", "/unlock", "/resend", "/groups", "/roles", "/keys"] {
        for at in [AT.to_owned(), format!("/orgs/other/users/{ANN}")] {
            let fields = [("confirm", ANN), ("group", "Organization Admins"), ("role", "AUDITOR"), ("name", "k")];
            controller.submit(&boss, &format!("{at}{part}"), &fields).await.expect(404);
        }
    }
}

#[tokio::test]
async fn a_machine_called_new_has_a_page_too() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    controller.post(&admin, USERS, &json!({"name": "new", "kind": "machine"})).await.expect(201);
    assert!(controller.page(&admin, USERS).await.expect(200).raw.contains("/orgs/main/users/%6Eew\""));
    says(&controller.page(&admin, "/orgs/main/users/%6Eew").await.expect(200), "Machine user");
}

#[tokio::test]
async fn projects_and_groups_beyond_those_to_tick_are_typed() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let few = controller.page(&admin, "/orgs/main/users/new").await.expect(200);
    lacks(&few, "Other projects");
    lacks(&few, "Other groups");
    for n in 0..101 {
        controller.post(&admin, "/orgs/main/projects", &json!({"slug": format!("p{n:03}")})).await.expect(201);
        controller.post(&admin, "/orgs/main/groups", &json!({"name": format!("crew, {n:03}")})).await.expect(201);
    }
    let form = controller.page(&admin, "/orgs/main/users/new").await.expect(200);
    says(&form, "Other projects");
    says(&form, "Other groups");
    assert!(form.raw.len() < 100 << 10 && !form.raw.contains("value=\"p100\""), "{} bytes", form.raw.len());
    let fields = [
        ("addresses", ANN),
        ("groups", "crew, 000"),
        ("more_groups", "crew, 000\r\n crew, 100 \n"),
        ("role", "PROJECT_READ_ONLY"),
        ("projects", "p000"),
        ("more_projects", "p100, p000 gone"),
    ];
    let done = controller.submit(&admin, USERS, &fields).await.expect(200);
    says(&done, "1 of 1 invited");
    says(&done, "Without Project Read Only on project gone:");
    let held = controller.get(&admin, &format!("/orgs/main/bindings?user={ANN}")).await.expect(200);
    let mut on: Vec<&str> =
        held.body["items"].as_array().unwrap().iter().filter_map(|b| b["project"].as_str()).collect();
    on.sort_unstable();
    assert_eq!(on, ["p000", "p100"]);
    for group in ["crew,%20000", "crew,%20100"] {
        let members = controller.get(&admin, &format!("/orgs/main/groups/{group}/members")).await.expect(200);
        assert_eq!(members.body["items"].as_array().unwrap().len(), 1, "{group}");
    }
    // A role on a project is one too where all of its projects are typed.
    let fields = [("addresses", "bob@example.com"), ("role", "ADMIN"), ("more_projects", "p100")];
    assert!(controller.submit(&admin, USERS, &fields).await.expect(422).raw.contains("projects-wrong"));

    says(&controller.page(&admin, "/account/keys/new").await.expect(200), "Other projects");
    let fields = [("name", "narrow"), ("more_projects", " p100 ")];
    controller.submit(&admin, "/account/keys", &fields).await.expect(200);
    let keys = controller.get(&admin, "/orgs/main/apikeys").await.expect(200);
    assert_eq!(keys.body["items"][0]["projects"], json!(["p100"]));
    controller.submit(&admin, "/account/keys", &[("name", "wide"), ("more_projects", "gone")]).await.expect(422);
}

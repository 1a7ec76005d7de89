//! The life of people and machines: invited, let in, put into groups, locked out, taken out, in one organization and in two.

use serde_json::json;

use crate::support::mail::{ADDED, INVITED};
use crate::support::oci::{Image, fresh};
use crate::support::server::{ADMIN, parallel};
use crate::support::{Api, Call, Server, Setup};

const DEV: &str = "dev@localhost";
const PASSWORD: &str = "a developer's long secret";
const TARGET: &str = "/v2/main/app/manifests/v1";

fn town() -> (Server, Api) {
    let server = Setup::plain().clock().start();
    let admin = server.api();
    Image::new(fresh(), 100).push(&server.registry(), "main/app", &server.admin_token("main/app"), "v1");
    (server, admin)
}

#[test]
fn an_invitation_becomes_a_member_who_pushes() {
    let (server, admin) = town();
    let mail = admin.invite("main", DEV);
    assert!(mail.html.contains(&mail.temporary_password()), "both parts tell it");
    assert!(mail.text.contains("main") && mail.link("/login").starts_with(&server.controller().url()));
    let view = admin.get(&format!("/orgs/main/users/{DEV}")).expect(200).json();
    assert_eq!((view["status"].as_str(), view["mfa"].is_null()), (Some("invited"), true), "{view}");

    let temporary = mail.temporary_password();
    let first = server.login(DEV, &temporary);
    assert_eq!(first.get("/session").expect(200).json()["must_change_password"], true);
    first.change_password(&temporary, PASSWORD);
    server.stranger().try_login(DEV, &temporary).expect(401);
    let session = server.login(DEV, PASSWORD);
    assert_eq!(session.get("/session").expect(200).json()["must_change_password"], false);

    admin.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    let token = server.token(DEV, PASSWORD, &["repository:main/app:pull,push"]);
    Image::new(fresh(), 100).push(&server.registry(), "main/app", &token, "v2");
    let view = admin.get(&format!("/orgs/main/users/{DEV}")).expect(200).json();
    assert_eq!(view["status"], "active", "{view}");
    assert!(!view["last_access_at"].is_null(), "{view}");
}

#[test]
fn a_temporary_password_ends_after_three_days_and_another_can_be_sent() {
    let (server, admin) = town();
    let first = admin.invite("main", DEV).temporary_password();
    server.advance(72 * 3600 - 60);
    server.stranger().try_login(DEV, &first).expect(200);
    server.advance(120);
    server.stranger().try_login(DEV, &first).expect(401);
    let admin = server.api();
    admin.post(&format!("/orgs/main/users/{DEV}/resend"), &json!({}));
    let second = admin.spool().next(DEV, INVITED, 1).temporary_password();
    assert_ne!(first, second);
    server.stranger().try_login(DEV, &second).expect(200);
}

#[test]
fn a_forgotten_password_is_replaced_by_a_link_within_three_days() {
    let (server, admin) = town();
    admin.create_user("main", DEV, PASSWORD);
    let session = server.login(DEV, PASSWORD);
    let stranger = server.stranger();
    let late = stranger.forget_password(DEV);
    server.advance(72 * 3600 + 1);
    let reset = |token: &str, new: &str| stranger.post("/password/reset", &json!({"token": token, "new": new})).status;
    assert_ne!(reset(&late, "a new and different one"), 204, "after 72 hours");
    let fine = stranger.forget_password(DEV);
    server.advance(72 * 3600 - 60);
    assert_eq!(reset(&fine, "a new and different one"), 204, "just before 72 hours");
    assert_ne!(reset(&fine, "and yet another one, twice"), 204, "once");
    session.get("/session").expect(401);
    server.stranger().try_login(DEV, PASSWORD).expect(401);
    server.login(DEV, "a new and different one").get("/session").expect(200);
}

#[test]
fn a_user_of_two_organizations_is_deleted_from_one() {
    let (server, admin) = town();
    server.operator().create_org("other", "admin@other.example", "quiet nights at the far quay");
    let other = server.login("admin@other.example", "quiet nights at the far quay");
    admin.create_user("main", DEV, PASSWORD);
    admin.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    other.post("/orgs/other/users", &json!({"name": DEV, "kind": "local"})).expect(201);
    server.spool().next(DEV, ADDED, 0);
    other.bind("other", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    let session = server.login(DEV, PASSWORD);
    let orgs = session.get("/session").expect(200).json()["organizations"].clone();
    assert_eq!(orgs, json!(["main", "other"]));
    let main_key = session.create_api_key("main", None, "main").1;
    let chosen = session.post("/session/org", &json!({"org": "other"})).expect(200);
    let session = session.renewed(&chosen, "");
    let other_key = session.create_api_key("other", None, "other").1;
    let scopes = ["repository:main/app:pull,push", "repository:other/app:pull,push"];
    let token = server.token(DEV, PASSWORD, &scopes);
    Image::new(fresh(), 100).push(&server.registry(), "other/app", &token, "v1");

    other.delete(&format!("/orgs/other/users/{DEV}")).expect(204);
    std::thread::sleep(std::time::Duration::from_millis(900));
    let pull = |path: &str, token: &str| Call::get(path).bearer(token).send(&server.registry()).status;
    let token = server.token(DEV, PASSWORD, &scopes);
    assert_eq!(pull("/v2/other/app/manifests/v1", &token), 401);
    assert_eq!(pull(TARGET, &token), 200);
    Api::bearer(server.controller(), &other_key).get("/orgs/other").expect(401);
    Api::bearer(server.controller(), &main_key).get("/orgs/main").expect(200);
    let again = server.login(DEV, PASSWORD);
    again.get("/orgs/main").expect(200);
    again.get("/orgs/other").expect(404);
    other.get(&format!("/orgs/other/users/{DEV}")).expect(404);
    assert_eq!(again.get("/session").expect(200).json()["organizations"], json!(["main"]));
}

#[test]
fn deactivating_takes_every_door_and_one_action_gives_all_of_it_back() {
    let (server, admin) = town();
    admin.create_user("main", DEV, PASSWORD);
    admin.bind("main", DEV, "PROJECT_ADMIN", Some("defaultproject"));
    admin.create_group("main", "crew");
    admin.add_member("main", "crew", DEV);
    let session = server.login(DEV, PASSWORD);
    let (_, key) = session.create_api_key("main", None, "ci");
    admin.post(&format!("/orgs/main/users/{DEV}/deactivate"), &json!({})).expect(204);
    let by_key = Api::bearer(server.controller(), &key);
    assert_ne!(by_key.get("/orgs/main/projects").status, 200);
    assert_ne!(session.get("/orgs/main/projects").status, 200);
    server.try_token(Some((DEV, &key)), &[]).expect(401);
    assert_eq!(admin.get(&format!("/orgs/main/users/{DEV}")).expect(200).json()["status"], "inactive");
    admin.post(&format!("/orgs/main/users/{DEV}/activate"), &json!({})).expect(204);
    by_key.get("/orgs/main/projects").expect(200);
    server.login(DEV, PASSWORD).get("/orgs/main/projects").expect(200);
    let token = server.token(DEV, &key, &["repository:main/app:pull"]);
    Call::get(TARGET).bearer(&token).send(&server.registry()).expect(200);
    let members = admin.get("/orgs/main/groups/crew/members").expect(200).text();
    assert!(members.contains(DEV), "{members}");
}

#[test]
fn rights_come_by_groups_and_custom_roles_and_say_why() {
    let (server, admin) = town();
    admin.create_user("main", DEV, PASSWORD);
    admin.create_group("main", "crew");
    admin.add_member("main", "crew", DEV);
    let change = json!({"added": ["registry.delete"], "removed": ["registry.push"], "repositories": ["team/*"]});
    admin.try_role("main", "cleaner", "WORKSPACE_ADMIN", &change).expect(201);
    admin.bind_group("main", "crew", "cleaner", Some("defaultproject"));
    let actions = |name: &str| {
        let token = server.token(DEV, PASSWORD, &[&format!("repository:main/defaultproject/{name}:pull,push,delete")]);
        let access = crate::attacks::granted(&token).to_string();
        ["pull", "push", "delete"].map(|action| access.contains(&format!("\"{action}\"")))
    };
    assert_eq!(actions("team/app"), [true, false, true]);
    assert_eq!(actions("app"), [false, false, false]);

    let rights = admin.get(&format!("/orgs/main/users/{DEV}/rights")).expect(200).text();
    for word in ["crew", "cleaner", "defaultproject"] {
        assert!(rights.contains(word), "{word}: {rights}");
    }
    let why = |permission: &str, repository: &str| {
        let path = format!(
            "/orgs/main/auth/why?user={DEV}&permission={permission}&repository=main/defaultproject/{repository}"
        );
        admin.get(&path).expect(200).json()
    };
    let yes = why("registry.delete", "team/app");
    assert_eq!(yes["allowed"], true, "{yes}");
    assert!(yes["because"].to_string().contains("crew"), "{yes}");
    let no = why("registry.push", "team/app");
    assert_eq!(no["allowed"], false, "{no}");
    assert_eq!(why("registry.delete", "app")["allowed"], false);

    admin.delete(&format!("/orgs/main/groups/crew/members/{DEV}")).expect(204);
    std::thread::sleep(std::time::Duration::from_millis(900));
    assert_eq!(actions("team/app"), [false, false, false]);
}

#[test]
fn one_administrator_is_always_left_whatever_happens_at_once() {
    let (server, admin) = town();
    let names: Vec<String> = (0..6).map(|number| format!("chief-{number}@localhost")).collect();
    for name in &names {
        admin.create_user("main", name, PASSWORD);
        admin.bind("main", name, "ADMIN", None);
    }
    // Each deactivates the next and, last, the first administrator; all at once.
    let mut targets = names.clone();
    targets.push(ADMIN.to_owned());
    let sessions: Vec<Api> = names.iter().map(|name| server.login(name, PASSWORD)).collect();
    let statuses = parallel(names.len(), {
        let targets = targets.clone();
        move |index| {
            let order = targets.iter().cycle().skip(index + 1).take(targets.len());
            let off =
                |name: &String| sessions[index].post(&format!("/orgs/main/users/{name}/deactivate"), &json!({})).status;
            order.map(off).collect::<Vec<u16>>()
        }
    });
    println!("{statuses:?}");
    assert!(statuses.iter().flatten().all(|status| matches!(status, 204 | 401 | 403 | 404 | 409)), "{statuses:?}");
    let alive = |name: &String| {
        let password = if name == ADMIN { crate::support::server::ADMIN_PASSWORD } else { PASSWORD };
        let reply = server.stranger().try_login(name, password);
        reply.status == 200 && Api::of_session(server.controller(), &reply).get("/orgs/main/users").status == 200
    };
    let left = targets.iter().filter(|name| alive(name)).count();
    assert!(left >= 1, "nobody administers the organization");
}

#[test]
fn lists_of_users_are_searched_filtered_and_paged() {
    let (server, admin) = town();
    for number in 0..7 {
        admin
            .post("/orgs/main/users", &json!({"name": format!("person-{number}@localhost"), "kind": "local"}))
            .expect(201);
    }
    admin.create_machine("main", "person-machine");
    admin.create_user("main", DEV, PASSWORD);
    let names = |query: &str| {
        let reply = admin.get(&format!("/orgs/main/users?{query}")).expect(200).json();
        let items = reply["items"].as_array().expect("users").clone();
        let names = items.iter().map(|user| user["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>();
        (names, reply["next"].as_str().map(str::to_owned))
    };
    assert_eq!(names("search=person").0.len(), 8);
    assert_eq!(names("search=person&kind=machine").0, ["person-machine"]);
    assert_eq!(names("status=invited").0.len(), 7);
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let (page, next) = names(&format!("limit=3&after={}", crate::support::api::segment(&after)));
        assert!(page.len() <= 3);
        all.extend(page);
        let Some(next) = next else { break };
        after = next;
    }
    let mut sorted = all.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!(sorted.len(), all.len(), "nobody twice");
    assert_eq!(all.len(), 10);
    drop(server);
}

#[test]
fn changes_wait_for_nobody_elses() {
    let (_server, admin) = town();
    admin.create_project("main", "shared", false);
    let etag = admin.get("/orgs/main/projects/shared").expect(200).header("etag").expect("an ETag").to_owned();
    admin.patch_if("/orgs/main/projects/shared", &etag, &json!({"description": "first"})).expect(200);
    admin.patch_if("/orgs/main/projects/shared", &etag, &json!({"description": "second"})).expect(412);
    let now = admin.get("/orgs/main/projects/shared").expect(200);
    assert_eq!(now.json()["description"], "first");
    admin
        .patch_if("/orgs/main/projects/shared", now.header("etag").expect("an ETag"), &json!({"description": "second"}))
        .expect(200);
    let body = json!({"slug": "once"});
    let first = admin.post_once("/orgs/main/projects", "create-once", &body).expect(201);
    let again = admin.post_once("/orgs/main/projects", "create-once", &body).expect(201);
    assert_eq!(first.json(), again.json());
    admin.post("/orgs/main/projects", &body).expect(409);
}

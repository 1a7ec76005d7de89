#![allow(clippy::unwrap_used)]
use serde_json::json;

use crate::testing::{ADMIN, Caller, Controller};

#[tokio::test]
async fn a_group_is_made_in_the_browser_and_mistakes_are_shown_where_they_are() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    let new = controller.page(&admin, "/orgs/main/groups/new").await.expect(200);
    assert!(new.raw.contains("<label for=\"name\">Name</label>"), "{}", new.raw);
    let path = "/orgs/main/groups";
    let refused = controller.submit(&admin, path, &[("name", ""), ("description", "<b>kept</b>")]).await.expect(422);
    assert!(refused.raw.contains("aria-invalid=\"true\""), "{}", refused.raw);
    assert!(refused.raw.contains("&#60;b&#62;kept"), "what was typed stays, as text: {}", refused.raw);
    let made = controller.submit(&admin, path, &[("name", "crew"), ("description", "")]).await.expect(303);
    assert_eq!(made.headers["location"], "/orgs/main/groups/crew");
    let list = controller.page(&admin, path).await.expect(200);
    assert!(list.raw.contains(">crew</a>") && list.raw.contains("New group"));
    controller.submit(&admin, path, &[("name", "crew")]).await.expect(409);
}

#[tokio::test]
async fn whoever_may_not_write_is_offered_nothing_and_refused() {
    let controller = Controller::start().await;
    let reader = controller.member("reader@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
    let list = controller.page(&reader, "/orgs/main/groups").await.expect(200);
    assert!(!list.raw.contains("New group"));
    controller.page(&reader, "/orgs/main/groups/new").await.expect(403);
    controller.submit(&reader, "/orgs/main/groups", &[("name", "x")]).await.expect(403);
    controller.page(&Caller::Nobody, "/orgs/main/groups").await.expect(303);
}

const GROUP: &str = "/orgs/main/groups/the%20crew";

async fn crew(controller: &Controller, admin: &Caller) {
    controller.post(admin, "/orgs/main/projects", &json!({"slug": "web"})).await.expect(201);
    controller.post(admin, "/orgs/main/groups", &json!({"name": "the crew"})).await.expect(201);
    let give = json!({"group": "the crew", "role": "PROJECT_ADMIN", "project": "web"});
    controller.post(admin, "/orgs/main/bindings", &give).await.expect(201);
}

#[tokio::test]
async fn members_are_found_added_and_removed() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    crew(&controller, &admin).await;
    controller.member("ann@example.com", None).await;
    controller.post(&admin, "/orgs/main/users", &json!({"name": "ci", "kind": "machine"})).await.expect(201);
    assert!(controller.page(&admin, GROUP).await.expect(200).raw.contains("Nobody is in this group"));
    let (add, remove) = (format!("{GROUP}/members"), format!("{GROUP}/members/remove"));
    for user in ["ann@example.com", "ci"] {
        let done = controller.submit(&admin, &add, &[("user", user)]).await.expect(303);
        assert_eq!(done.headers["location"], GROUP);
    }
    controller.submit(&admin, &add, &[("user", "ci")]).await.expect(409);
    let lost = controller.submit(&admin, &add, &[("user", "<i>nobody")]).await.expect(404);
    assert!(lost.raw.contains("user-wrong") && lost.raw.contains("&#60;i&#62;nobody"), "{}", lost.raw);
    let both = controller.page(&admin, GROUP).await.expect(200);
    assert!(
        both.raw.contains("/users/ann@example.com\"") && both.raw.contains("/users/ci\"") && !both.raw.contains("ci:")
    );
    let one = controller.page(&admin, &format!("{GROUP}?search=ANN")).await.expect(200);
    assert!(one.raw.contains("/users/ann@example.com\"") && !one.raw.contains("/users/ci\""), "{}", one.raw);
    let none = controller.page(&admin, &format!("{GROUP}?search=zzz")).await.expect(200);
    assert!(none.raw.contains("No member fits"));
    controller.submit(&admin, &remove, &[("user", "ci")]).await.expect(303);
    controller.submit(&admin, &remove, &[("user", "ci")]).await.expect(404);
    let list = controller.page(&admin, "/orgs/main/groups?search=CREW").await.expect(200);
    assert!(
        list.raw.contains("data-label=\"Members\">1</td>") && !list.raw.contains("All Local Users"),
        "{}",
        list.raw
    );
}

#[tokio::test]
async fn roles_are_given_and_taken_and_the_built_in_one_stays() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    crew(&controller, &admin).await;
    let (roles, take) = (format!("{GROUP}/roles"), format!("{GROUP}/roles/take"));
    controller.submit(&admin, &roles, &[("role", "AUDITOR")]).await.expect(303);
    controller.submit(&admin, &roles, &[("role", "AUDITOR")]).await.expect(409);
    let wrong = controller.submit(&admin, &roles, &[("role", "PROJECT_ADMIN")]).await.expect(422);
    assert!(wrong.raw.contains("project-wrong"), "{}", wrong.raw);
    let page = controller.page(&admin, &roles).await.expect(200);
    assert!(page.raw.contains("Project Admin") && page.raw.contains("Auditor"));
    let id = page.raw.split("name=\"binding\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    controller.submit(&admin, &take, &[("binding", id)]).await.expect(303);
    let admins = controller.page(&admin, "/orgs/main/groups/Organization%20Admins/roles").await.expect(200);
    assert!(admins.raw.contains("Organization Admin</a>") && !admins.raw.contains("Take away"), "{}", admins.raw);
    let everybody = controller.page(&admin, "/orgs/main/groups/All%20Local%20Users").await.expect(200);
    assert!(!everybody.raw.contains("Add a member") && !everybody.raw.contains("/edit\""), "{}", everybody.raw);
}

#[tokio::test]
async fn a_group_is_renamed_by_version_and_deleted_by_name() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    crew(&controller, &admin).await;
    let edit = format!("{GROUP}/edit");
    let page = controller.page(&admin, &edit).await.expect(200);
    let version = page.raw.split("name=\"version\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let version = version.replace("&#34;", "\"");
    let fields = [("name", "hands"), ("description", "all"), ("version", &version)];
    let done = controller.submit(&admin, &edit, &fields).await.expect(303);
    assert_eq!(done.headers["location"], "/orgs/main/groups/hands");
    let late = controller.submit(&admin, "/orgs/main/groups/hands/edit", &fields).await.expect(412);
    assert!(late.raw.contains("Somebody else changed this"), "{}", late.raw);
    controller.submit(&admin, "/orgs/main/groups/hands/edit", &[("name", " ")]).await.expect(422);

    let delete = "/orgs/main/groups/hands/delete";
    let asked = controller.page(&admin, delete).await.expect(200);
    assert!(asked.raw.contains("in another way: Project Admin on project web."), "{}", asked.raw);
    controller.submit(&admin, delete, &[("confirm", "Hands")]).await.expect(422);
    let gone = [("confirm", "hands"), ("version", "\"7-00000000\"")];
    controller.submit(&admin, delete, &gone).await.expect(412);
    controller.submit(&admin, delete, &[("confirm", "hands")]).await.expect(303);
    controller.page(&admin, "/orgs/main/groups/hands").await.expect(404);
    let builtin = [("confirm", "Organization Admins")];
    controller.submit(&admin, "/orgs/main/groups/Organization%20Admins/delete", &builtin).await.expect(422);
}

#[tokio::test]
async fn nobody_changes_a_group_that_is_mightier_than_they() {
    let controller = Controller::start().await;
    let admin = controller.login(ADMIN).await;
    crew(&controller, &admin).await;
    let role = json!({"name": "keeper", "base": "AUDITOR", "added": ["user.read", "group.read", "group.write"]});
    controller.post(&admin, "/orgs/main/roles", &role).await.expect(201);
    let keeper = controller.member("keeper@example.com", Some(("keeper", None))).await;
    let me = [("user", "keeper@example.com")];
    let refused = controller.submit(&keeper, &format!("{GROUP}/members"), &me).await.expect(403);
    assert!(refused.raw.contains("The group the crew has rights that you do not have:"), "{}", refused.raw);
    let refused = controller.submit(&keeper, &format!("{GROUP}/delete"), &[("confirm", "the crew")]).await.expect(403);
    assert!(refused.raw.contains("has rights that you do not have:"), "{}", refused.raw);
    let boss = controller.other_org().await;
    for part in ["", "/roles", "/edit", "/delete"] {
        controller.page(&boss, &format!("{GROUP}{part}")).await.expect(404);
        controller.page(&boss, &format!("/orgs/other/groups/the%20crew{part}")).await.expect(404);
    }
    for part in ["/members", "/members/remove", "/roles", "/edit", "/delete"] {
        let fields = [("user", "boss@other.example"), ("role", "AUDITOR"), ("confirm", "the crew"), ("name", "x")];
        controller.submit(&boss, &format!("/orgs/other/groups/the%20crew{part}"), &fields).await.expect(404);
        controller.submit(&boss, &format!("{GROUP}{part}"), &fields).await.expect(404);
    }
    let reader = controller.member("reader@example.com", Some(("ADMINISTRATOR_READ_ONLY", None))).await;
    let page = controller.page(&reader, GROUP).await.expect(200);
    assert!(!page.raw.contains("Add a member") && !page.raw.contains("Name and deletion"), "{}", page.raw);
    controller.page(&reader, &format!("{GROUP}/edit")).await.expect(403);
}

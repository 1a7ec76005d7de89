//! Another organization's things, by their ids, under one's own or the other's path.

use serde_json::json;

use super::{RED_ADMIN, RED_PASSWORD, one_of, tries, visible};
use crate::support::oci::{Image, fresh};
use crate::support::{Api, Call};

tries! {
    "a neighbour's API key is revoked by its id under the own organization",
    "DELETE … WHERE id = ? without the organization" => |town| {
        let (id, key) = town.admin.create_api_key("main", None, "victim");
        town.red.delete(&format!("/orgs/red/apikeys/{id}")).expect(404);
        Api::bearer(town.server.controller(), &key).get("/orgs/main/projects").expect(200);
    };
    "a neighbour's API key is read by its id under the own organization",
    "looks the key up by id alone" => |town| {
        let (id, _) = town.admin.create_api_key("main", None, "read-me");
        town.red.get(&format!("/orgs/red/apikeys/{id}")).expect(404);
    };
    "a neighbour's binding is taken away by its id under the own organization",
    "DELETE FROM bindings WHERE id = ? without the organization" => |town| {
        let (victim, _) = town.victim("bound");
        let binding = town.admin.bind("main", &victim, "PROJECT_READ_ONLY", Some("defaultproject"));
        town.red.delete(&format!("/orgs/red/bindings/{binding}")).expect(404);
        let list = town.admin.get(&format!("/orgs/main/bindings?user={victim}")).expect(200).text();
        assert!(list.contains(&binding), "{list}");
    };
    "a neighbour's group is joined from the own organization",
    "looks groups up by name or id across organizations" => |town| {
        town.admin.create_group("main", "crew");
        town.red.post("/orgs/red/groups/crew/members", &json!({"user": RED_ADMIN})).expect(404);
        town.red.post("/orgs/main/groups/crew/members", &json!({"user": RED_ADMIN})).expect(404);
    };
    "a stranger is added to the own group to learn whether they exist",
    "answers 404 for unknown names and 409 for known ones" => |town| {
        town.red.create_group("red", "spies");
        let known = town.red.post("/orgs/red/groups/spies/members", &json!({"user": super::DEV}));
        let unknown = town.red.post("/orgs/red/groups/spies/members", &json!({"user": "nobody@localhost"}));
        assert_eq!(visible(&known).0, visible(&unknown).0);
        assert_eq!(known.text().replace(super::DEV, "X"), unknown.text().replace("nobody@localhost", "X"));
    };
    "a role of the own organization is bound to a neighbour's project",
    "looks the project up by slug alone" => |town| {
        let body = json!({"user": RED_ADMIN, "role": "PROJECT_ADMIN", "project": "secret"});
        let reply = town.red.post("/orgs/red/bindings", &body);
        one_of(&reply, &[404, 422]);
        let token = town.server.token(RED_ADMIN, RED_PASSWORD, &["repository:main/secret/app:pull"]);
        assert_eq!(Call::get("/v2/main/secret/app/manifests/v1").bearer(&token).send(&town.server.registry()).status, 401);
    };
    "a custom role of a neighbour is bound by its name",
    "looks roles up across organizations" => |town| {
        town.admin.try_role("main", "theirs", "PROJECT_ADMIN", &json!({})).expect(201);
        let body = json!({"user": RED_ADMIN, "role": "theirs", "project": "defaultproject"});
        one_of(&town.red.post("/orgs/red/bindings", &body), &[404, 422]);
    };
    "an API key is narrowed to a neighbour's project and so widened",
    "stores any project ids that it is given" => |town| {
        let reply = town.red.post("/orgs/red/apikeys", &json!({"name": "wide", "projects": ["secret"]}));
        one_of(&reply, &[404, 422]);
    };
    "the same user name is looked up in the neighbour's organization",
    "finds users by their global name" => |town| {
        let known = town.red.get(&format!("/orgs/red/users/{}", super::DEV)).expect(404);
        let unknown = town.red.get("/orgs/red/users/nobody@localhost").expect(404);
        assert_eq!(visible(&known), visible(&unknown));
    };
    "a neighbour's member is deactivated, unlocked, deleted, reset",
    "acts on the user, not on the membership" => |town| {
        for verb in ["deactivate", "unlock", "resend", "mfa/reset"] {
            town.red.post(&format!("/orgs/red/users/{}/{verb}", super::DEV), &json!({})).expect(404);
        }
        town.red.delete(&format!("/orgs/red/users/{}", super::DEV)).expect(404);
        town.red.delete(&format!("/orgs/red/users/{}/sessions", super::DEV)).expect(404);
        town.dev.get("/session").expect(200);
    };
    "somebody else's session is ended by its id",
    "DELETE FROM sessions WHERE id = ? without the user" => |town| {
        let victim = town.server.login(super::DEV, super::DEV_PASSWORD);
        let list = victim.get("/account/sessions").expect(200).json();
        for session in list["items"].as_array().expect("sessions") {
            let id = session["id"].as_str().expect("an id");
            town.red.delete(&format!("/account/sessions/{id}")).expect(404);
            town.reader.delete(&format!("/account/sessions/{id}")).expect(404);
        }
        victim.get("/session").expect(200);
    };
    "an ETag of the past is taken for a match",
    "never compares, or compares after it wrote" => |town| {
        town.admin.create_project("main", "etag-one", false);
        let one = town.admin.get("/orgs/main/projects/etag-one").expect(200);
        let etag = one.header("etag").expect("an ETag").to_owned();
        town.admin.patch_if("/orgs/main/projects/etag-one", &etag, &json!({"description": "x"})).expect(200);
        town.admin.patch_if("/orgs/main/projects/etag-one", &etag, &json!({"description": "y"})).expect(412);
        let now = town.admin.get("/orgs/main/projects/etag-one").expect(200).json();
        assert_eq!(now["description"], "x");
    };
    "an idempotency key of another caller brings their answer",
    "keeps answers by the key alone" => |town| {
        let body = json!({"name": "once"});
        let first = town.admin.post_once("/orgs/main/apikeys", "key-1", &body).expect(201);
        let again = town.admin.post_once("/orgs/main/apikeys", "key-1", &body).expect(201);
        assert_eq!(first.json()["id"], again.json()["id"], "the caller's own repetition has the same answer");
        let other = town.dev.post_once("/orgs/main/apikeys", "key-1", &body).expect(201);
        assert_ne!(first.json()["id"], other.json()["id"]);
        assert_ne!(first.json()["key"], other.json()["key"]);
        let changed = town.admin.post_once("/orgs/main/apikeys", "key-1", &json!({"name": "twice"}));
        one_of(&changed, &[409, 422]);
    };
    "machines of the same name in two organizations get each other's keys",
    "keeps one name space, or finds machines by name alone" => |town| {
        town.admin.create_machine("main", "ci");
        town.red.create_machine("red", "ci");
        let (_, ours) = town.admin.create_api_key("main", Some("ci"), "ours");
        let (_, theirs) = town.red.create_api_key("red", Some("ci"), "theirs");
        town.red.bind("red", "ci", "PROJECT_ADMIN", Some("defaultproject"));
        town.admin.bind("main", "ci", "PROJECT_READ_ONLY", Some("defaultproject"));
        let scope = ["repository:main/app:pull,push"];
        let token = town.server.token("ci", &theirs, &scope);
        assert_eq!(Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&town.server.registry()).status, 401);
        let token = town.server.token("ci", &ours, &scope);
        Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&town.server.registry()).expect(200);
        assert!(!super::granted(&token).to_string().contains("push"));
        town.red.delete("/orgs/red/users/ci").expect(204);
        town.server.token("ci", &ours, &scope);
        town.server.try_token(Some(("ci", &theirs)), &scope).expect(401);
    };
    "a machine's inner name is used to reach it",
    "tells the name by which rows are kept apart" => |town| {
        town.admin.create_machine("main", "robot");
        let shown = town.admin.get("/orgs/main/users/robot").expect(200).text();
        assert!(!shown.contains("robot:"), "{shown}");
        one_of(&town.red.post("/orgs/red/users", &json!({"name": "robot:main", "kind": "machine"})), &[400, 422]);
    };
    "the platform operator reads a tenant's images, users and audit",
    "an operator is a super user" => |town| {
        let operator = town.server.operator();
        for path in ["/users", "/audit", "/repositories", "/groups", "/bindings", "/apikeys", "/issuers"] {
            let reply = operator.get(&format!("/orgs/main{path}"));
            one_of(&reply, &[403, 404]);
        }
        let body = json!({"user": crate::support::server::OPERATOR, "role": "ADMIN"});
        one_of(&operator.post("/orgs/main/bindings", &body), &[403, 404]);
    };
    "a blob of a neighbour is mounted by its digest",
    "keeps one store of blobs and asks for none of its owners" => |town| {
        let image = Image::new(fresh(), 300);
        image.push(&town.server.registry(), "main/secret/mount", &town.server.admin_token("main/secret/mount"), "v1");
        let token = town.server.token(RED_ADMIN, RED_PASSWORD, &["repository:red/app:pull,push", "repository:main/secret/mount:pull"]);
        let digest = crate::support::sha256(&image.layer);
        let path = format!("/v2/red/app/blobs/uploads/?mount={digest}&from=main/secret/mount");
        assert_eq!(Call::post(path).bearer(&token).send(&town.server.registry()).status, 202, "an upload, not a blob");
    };
}

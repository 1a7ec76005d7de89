//! More rights than one was given.

use serde_json::json;

use super::{DEV, DEV_PASSWORD, READER, granted, one_of, tries};
use crate::support::{Api, Call, sha256};

tries! {
    "a project's admin gives themselves the organization",
    "checks that the caller may write bindings, not which" => |town| {
        for role in ["ADMIN", "ADMINISTRATOR_READ_ONLY", "AUDITOR"] {
            one_of(&town.dev.post("/orgs/main/bindings", &json!({"user": DEV, "role": role})), &[403, 404, 422]);
        }
    };
    "a project's admin gives themselves another project",
    "checks the permission on any project" => |town| {
        let body = json!({"user": DEV, "role": "PROJECT_ADMIN", "project": "secret"});
        one_of(&town.dev.post("/orgs/main/bindings", &body), &[403, 404, 422]);
    };
    "a reader binds themselves to more",
    "lets everybody who sees the project write its members" => |town| {
        let body = json!({"user": READER, "role": "PROJECT_ADMIN", "project": "defaultproject"});
        one_of(&town.reader.post("/orgs/main/bindings", &body), &[403, 404]);
    };
    "a custom role holds more than its maker",
    "takes any permissions from whoever may write roles" => |town| {
        // The maker: every right over roles, none to delete images or over users.
        let (maker, password) = town.victim("maker");
        let change = json!({"added": ["role.write", "group.write", "member.write"]});
        let made = town.admin.try_role("main", "role-maker", "ADMINISTRATOR_READ_ONLY", &change).expect(201);
        drop(made);
        town.admin.bind("main", &maker, "role-maker", None);
        let maker_api = town.server.login(&maker, password);
        maker_api.get("/orgs/main/roles").expect(200);
        for (base, added) in [("ADMIN", json!([])), ("AUDITOR", json!(["user.write"])), ("AUDITOR", json!(["settings.write"]))] {
            one_of(&maker_api.try_role("main", "mine", base, &json!({"added": added})), &[403, 422]);
        }
        // Nor is an existing role widened, ...
        maker_api.try_role("main", "small", "AUDITOR", &json!({})).expect(201);
        one_of(&maker_api.patch("/orgs/main/roles/small", &json!({"added": ["user.write"]})), &[403, 422]);
        // ... nor one that is stronger than they are bound, to themselves or a group of theirs, ...
        one_of(&maker_api.post("/orgs/main/bindings", &json!({"user": maker, "role": "ADMIN"})), &[403, 422]);
        maker_api.create_group("main", "makers");
        maker_api.add_member("main", "makers", &maker);
        one_of(&maker_api.post("/orgs/main/bindings", &json!({"group": "makers", "role": "ADMIN"})), &[403, 422]);
        // ... nor a group joined that is stronger.
        let admins = maker_api.post("/orgs/main/groups/Organization%20Admins/members", &json!({"user": maker}));
        one_of(&admins, &[403, 422]);
    };
    "a custom role of a project holds permissions of the organization",
    "adds any permission to any base" => |town| {
        for added in ["user.write", "settings.write", "platform.org.create", "platform.health"] {
            let reply = town.admin.try_role("main", "too-much", "PROJECT_READ_ONLY", &json!({"added": [added]}));
            one_of(&reply, &[403, 422]);
        }
        let reply = town.admin.try_role("main", "too-much", "ADMIN", &json!({"added": ["platform.org.create"]}));
        one_of(&reply, &[403, 422]);
    };
    "a role is bound that only the platform has",
    "takes every role's token for a role of organizations" => |town| {
        one_of(&town.admin.post("/orgs/main/bindings", &json!({"user": DEV, "role": "SUPER_ADMIN"})), &[403, 404, 422]);
        one_of(&town.admin.try_role("main", "super", "SUPER_ADMIN", &json!({})), &[403, 404, 422]);
    };
    "a custom role takes the name of a base role",
    "looks custom roles up first" => |town| {
        for name in ["ADMIN", "admin?", "PROJECT_ADMIN", ""] {
            one_of(&town.admin.try_role("main", name, "AUDITOR", &json!({})), &[400, 409, 422]);
        }
    };
    "a pattern of repositories matches its neighbours",
    "compares prefixes, or the whole name with the project" => |town| {
        let (user, password) = town.victim("narrow");
        let change = json!({"repositories": ["team/*"]});
        town.admin.try_role("main", "team-only", "PROJECT_ADMIN", &change).expect(201);
        town.admin.bind("main", &user, "team-only", Some("defaultproject"));
        let may = |name: &str| {
            let scope = format!("repository:main/defaultproject/{name}:push");
            granted(&town.server.token(&user, password, &[&scope])).to_string().contains("push")
        };
        assert!(may("team/app"));
        for name in ["app", "team", "teams/app", "x/team/app", "other/team"] {
            assert!(!may(name), "{name}");
        }
    };
    "a pattern of tags is passed by with the digest, or by deleting",
    "checks tags at PUT of tags alone" => |town| {
        let (user, password) = town.victim("tagger");
        let change = json!({"tags": ["dev-*"]});
        town.admin.try_role("main", "dev-tags", "PROJECT_ADMIN", &change).expect(201);
        town.admin.bind("main", &user, "dev-tags", Some("defaultproject"));
        let registry = town.server.registry();
        let image = crate::support::Image::new(crate::support::oci::fresh(), 100);
        let admin = town.server.admin_token("main/tagged");
        image.push(&registry, "main/tagged", &admin, "prod");
        let token = town.server.token(&user, password, &["repository:main/tagged:pull,push,delete"]);
        let put = |reference: &str| {
            let kind = crate::support::oci::OCI_MANIFEST;
            crate::support::oci::put_manifest(&registry, "main/tagged", &token, reference, kind, &image.manifest).status
        };
        assert_eq!(put("dev-1"), 201);
        assert!(matches!(put("prod"), 401 | 403));
        let tag = Call::delete("/v2/main/tagged/manifests/prod").bearer(&token).send(&registry);
        one_of(&tag, &[401, 403]);
        let digest = format!("/v2/main/tagged/manifests/{}", sha256(&image.manifest));
        one_of(&Call::delete(&digest).bearer(&token).send(&registry), &[401, 403]);
        Call::get("/v2/main/tagged/manifests/prod").bearer(&admin).send(&registry).expect(200);
    };
    "the built-in groups are changed",
    "treats them like any other group" => |town| {
        for group in ["All%20Local%20Users", "Organization%20Admins"] {
            let gone = town.admin.delete(&format!("/orgs/main/groups/{group}"));
            one_of(&gone, &[403, 409, 422]);
        }
        let everyone = json!({"group": "All Local Users", "role": "ADMIN"});
        one_of(&town.admin.post("/orgs/main/bindings", &everyone), &[403, 409, 422]);
    };
    "a group of a built-in's name is made",
    "has names of groups twice, and picks one" => |town| {
        one_of(&town.admin.post("/orgs/main/groups", &json!({"name": "Organization Admins"})), &[409, 422]);
    };
    "an API key makes another key",
    "treats a key as its user" => |town| {
        let (_, key) = town.admin.create_api_key("main", None, "parent");
        let by_key = Api::bearer(town.server.controller(), &key);
        by_key.post("/orgs/main/apikeys", &json!({"name": "child"})).expect(403);
    };
    "an API key changes the password, the second factor or ends sessions",
    "treats a key as its user" => |town| {
        let (_, key) = town.dev.create_api_key("main", None, "thief");
        let by_key = Api::bearer(town.server.controller(), &key);
        let change = json!({"current": DEV_PASSWORD, "new": "what the thief would like"});
        one_of(&by_key.post("/password", &change), &[401, 403]);
        one_of(&by_key.post("/account/mfa/totp", &json!({})), &[401, 403]);
        one_of(&by_key.delete("/account/sessions"), &[401, 403]);
        one_of(&by_key.post("/account/mfa/passkeys/begin", &json!({})), &[401, 403]);
        one_of(&by_key.get("/session"), &[401, 403]);
    };
    "a narrow API key acts beyond its projects and permissions",
    "keeps the lists for show" => |town| {
        let body = json!({"name": "narrow", "projects": ["defaultproject"], "permissions": ["registry.pull"]});
        let key = town.admin.post("/orgs/main/apikeys", &body).expect(201).json()["key"].as_str().unwrap().to_owned();
        let by_key = Api::bearer(town.server.controller(), &key);
        one_of(&by_key.post("/orgs/main/projects", &json!({"slug": "by-key"})), &[403, 404]);
        one_of(&by_key.get("/orgs/main/users"), &[403, 404]);
        one_of(&by_key.get("/orgs/main/audit"), &[403, 404]);
        let scopes = ["repository:main/secret/app:pull", "repository:main/app:pull,push,delete"];
        let token = town.server.token(crate::support::server::ADMIN, &key, &scopes);
        let registry = town.server.registry();
        assert_eq!(Call::get("/v2/main/secret/app/manifests/v1").bearer(&token).send(&registry).status, 401);
        Call::get("/v2/main/app/manifests/v1").bearer(&token).send(&registry).expect(200);
        assert_eq!(Call::post("/v2/main/app/blobs/uploads/").bearer(&token).send(&registry).status, 401);
    };
    "an API key is made with permissions that its user lacks",
    "takes the list of permissions for a grant" => |town| {
        let body = json!({"name": "grand", "permissions": ["user.write", "registry.delete"]});
        let reply = town.reader.post("/orgs/main/apikeys", &body);
        if reply.status == 201 {
            let key = reply.json()["key"].as_str().expect("a key").to_owned();
            let by_key = Api::bearer(town.server.controller(), &key);
            one_of(&by_key.post("/orgs/main/users", &json!({"name": "x@localhost", "kind": "local"})), &[403, 404]);
            let token = town.server.token(READER, &key, &["repository:main/app:delete"]);
            assert!(!granted(&token).to_string().contains("delete"));
        } else {
            one_of(&reply, &[403, 422]);
        }
    };
    "a key is made in somebody else's name",
    "takes `user` from whoever may have keys" => |town| {
        let admin = json!({"name": "theirs", "user": crate::support::server::ADMIN});
        one_of(&town.dev.post("/orgs/main/apikeys", &admin), &[403, 404]);
        let theirs = town.reader.get(&format!("/orgs/main/apikeys?user={}", crate::support::server::ADMIN));
        assert!(matches!(theirs.status, 403 | 404) || theirs.json()["items"] == json!([]), "{}", theirs.text());
    };
    "a key is made to live longer than the organization allows",
    "caps the default only" => |town| {
        let settings = town.admin.patch("/orgs/main/settings", &json!({"key_valid_days": 30}));
        settings.expect(200);
        let reply = town.admin.post("/orgs/main/apikeys", &json!({"name": "eternal", "valid_days": 3650}));
        if reply.status == 201 {
            let until = reply.json()["expires_at"].as_str().expect("an end").to_owned();
            assert!(until < super::inputs::rfc3339_day(town.server.now() + 31 * 86_400), "{until}");
        } else {
            one_of(&reply, &[422]);
        }
        town.admin.patch("/orgs/main/settings", &json!({"key_valid_days": null})).expect(200);
    };
    "fields that are not the caller's are sent along",
    "copies the body into the row (mass assignment)" => |town| {
        let tries = [
            ("POST", "/orgs/main/users", json!({"name": "m1@localhost", "kind": "local", "operator": true})),
            ("POST", "/orgs/main/users", json!({"name": "m2@localhost", "kind": "local", "verified": true})),
            ("POST", "/orgs/main/users", json!({"name": "m3@localhost", "kind": "local", "password": "chosen by another"})),
            ("POST", "/orgs/main/users", json!({"name": "m4@localhost", "kind": "local", "org_id": "red"})),
            ("PATCH", "/account", json!({"operator": true})),
            ("PATCH", "/account", json!({"name": "other@localhost"})),
            ("PATCH", "/account", json!({"status": "active", "kind": "machine"})),
            ("PATCH", "/orgs/main/users/dev@localhost", json!({"verified": true})),
            ("PATCH", "/orgs/main/users/dev@localhost", json!({"password": "chosen by another"})),
            ("PATCH", "/orgs/main", json!({"slug": "mine"})),
            ("PATCH", "/orgs/main", json!({"status": "active"})),
            ("PATCH", "/orgs/main/projects/secret", json!({"org_id": "red"})),
            ("POST", "/orgs/main/apikeys", json!({"name": "k", "id": "00", "secret": "00"})),
            ("POST", "/orgs/main/bindings", json!({"user": DEV, "role": "AUDITOR", "builtin": true})),
            ("POST", "/orgs/main/groups", json!({"name": "mass", "builtin": "organization-admins"})),
        ];
        for (method, path, body) in tries {
            let reply = town.admin.send(Call::new(method, format!("/api/v1{path}")).json(&body));
            one_of(&reply, &[400, 422]);
        }
    };
    "the last admin leaves, is deactivated, deleted or unbound",
    "leaves an organization that nobody administers" => |town| {
        let admin = RED;
        one_of(&town.red.post(&format!("/orgs/red/users/{admin}/deactivate"), &json!({})), &[409]);
        one_of(&town.red.delete(&format!("/orgs/red/users/{admin}")), &[409]);
        let bindings = town.red.get(&format!("/orgs/red/bindings?user={admin}")).expect(200).json();
        for binding in bindings["items"].as_array().expect("bindings") {
            one_of(&town.red.delete(&format!("/orgs/red/bindings/{}", binding["id"].as_str().expect("an id"))), &[409]);
        }
        let member = town.red.delete(&format!("/orgs/red/groups/Organization%20Admins/members/{admin}"));
        one_of(&member, &[404, 409]);
        town.red.get("/orgs/red/users").expect(200);
    };
    "a settings page is written by a project's admin",
    "guards the form, not the request" => |town| {
        one_of(&town.dev.patch("/orgs/main/settings", &json!({"mfa_required": false})), &[403, 404]);
        one_of(&town.dev.patch("/orgs/main", &json!({"name": "Mine"})), &[403, 404]);
    };
    "an organization is suspended or deleted by its admin, or another's",
    "asks for a session alone at the operator's routes" => |town| {
        for caller in [&town.admin, &town.red, &town.dev] {
            for verb in ["suspend", "resume", "delete", "undelete"] {
                one_of(&caller.post(&format!("/platform/orgs/main/{verb}"), &json!({"confirm": "main"})), &[400, 403, 404, 422]);
            }
            one_of(&caller.get("/platform/orgs"), &[403, 404]);
            one_of(&caller.get("/platform/audit"), &[403, 404]);
            one_of(&caller.get("/platform/health"), &[403, 404]);
        }
        town.admin.get("/orgs/main").expect(200);
    };
}

const RED: &str = super::RED_ADMIN;

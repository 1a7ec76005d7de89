//! Access tokens: forged, borrowed, outlived, at the wrong door.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::{DEV, DEV_PASSWORD, one_of, tries};
use crate::support::server::{ADMIN, ADMIN_PASSWORD};
use crate::support::{Api, Call};

const TARGET: &str = "/v2/main/app/manifests/v1";

fn part(token: &str, number: usize) -> Value {
    let text = token.split('.').nth(number).expect("three parts");
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
}

fn pack(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

/// Every door where a bearer might be taken.
fn refused_everywhere(town: &super::Town, token: &str) {
    let registry = Call::get(TARGET).bearer(token).send(&town.server.registry());
    assert_eq!(registry.status, 401, "{token}");
    let controller = Call::get("/api/v1/orgs/main").bearer(token).send(&town.server.controller());
    assert_eq!(controller.status, 401, "{token}");
    let auth = Call::get(format!("/token?service={}", town.server.service())).bearer(token).send(&town.server.auth());
    let anonymous = auth.status == 200
        && super::granted(auth.json()["token"].as_str().unwrap_or("a.e30.b")).as_array().is_none_or(Vec::is_empty);
    assert!(matches!(auth.status, 400 | 401) || anonymous, "{}", auth.text());
}

fn token(town: &super::Town) -> String {
    town.server.token(ADMIN, ADMIN_PASSWORD, &["repository:main/app:pull"])
}

tries! {
    "a token says that it needs no signature (alg none)",
    "believes the header" => |town| {
        let good = token(town);
        for alg in ["none", "None", "NONE", "nOnE", ""] {
            let mut header = part(&good, 0);
            header["alg"] = json!(alg);
            let claims = good.split('.').nth(1).unwrap();
            refused_everywhere(town, &format!("{}.{claims}.", pack(&header)));
            refused_everywhere(town, &format!("{}.{claims}.{}", pack(&header), good.split('.').nth(2).unwrap()));
        }
    };
    "a token is signed with the public key as a shared secret (alg HS256)",
    "picks the algorithm from the token" => |town| {
        let good = token(town);
        let jwks = Call::get("/.well-known/jwks.json").send(&town.server.auth());
        let jwks = if jwks.status == 200 { jwks.body } else { Call::get("/keys").send(&town.server.auth()).body };
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": part(&good, 0)["kid"]});
        let signed = format!("{}.{}", pack(&header), good.split('.').nth(1).unwrap());
        let mut secrets: Vec<Vec<u8>> = vec![jwks.clone(), Vec::new(), b"secret".to_vec()];
        if let Ok(set) = serde_json::from_slice::<Value>(&jwks) {
            for field in ["x", "y", "n"] {
                if let Some(text) = set["keys"][0][field].as_str() {
                    secrets.push(URL_SAFE_NO_PAD.decode(text).unwrap_or_default());
                    secrets.push(text.as_bytes().to_vec());
                }
            }
        }
        for secret in secrets {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &secret);
            let tag = aws_lc_rs::hmac::sign(&key, signed.as_bytes());
            refused_everywhere(town, &format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref())));
        }
    };
    "a token brings or names its own key (kid, jwk, jku, x5u)",
    "looks keys up where the token says" => |town| {
        let good = token(town);
        let [_, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        for (field, value) in [
            ("kid", json!("../../../../dev/null")), ("kid", json!("' UNION SELECT 'x' --")), ("kid", json!("")), ("kid", json!(null)),
            ("kid", json!(["x"])), ("jku", json!("http://127.0.0.1:1/keys")), ("x5u", json!("http://127.0.0.1:1/keys")),
            ("crit", json!(["exp"])), ("typ", json!("at+jwt")), ("alg", json!("RS256")), ("alg", json!("ES384")),
        ] {
            let mut header = part(&good, 0);
            header[field] = value;
            refused_everywhere(town, &format!("{}.{claims}.{signature}", pack(&header)));
        }
    };
    "a token is changed: more actions, another subject, another time",
    "reads the claims and forgets the signature" => |town| {
        let good = town.server.token(DEV, DEV_PASSWORD, &["repository:main/app:pull"]);
        let [header, _, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        for (field, value) in [
            ("access", json!([{"type": "repository", "name": "main/secret/app", "actions": ["pull", "push", "delete"]}])),
            ("sub", json!(ADMIN)), ("exp", json!(4_102_444_800_i64)), ("aud", json!("other")), ("iss", json!("https://evil.example")),
        ] {
            let mut claims = part(&good, 1);
            claims[field] = value;
            let forged = format!("{header}.{}.{signature}", pack(&claims));
            assert_eq!(Call::get(TARGET).bearer(&forged).send(&town.server.registry()).status, 401, "{field}");
        }
        for cut in [good[..good.len() - 2].to_owned(), format!("{good}AA"), format!("{header}..{signature}"), good.replace('.', ".."), format!(" {good}.")] {
            assert_eq!(Call::get(TARGET).header("Authorization", format!("Bearer {cut}")).send(&town.server.registry()).status, 401);
        }
    };
    "a token of another installation is used",
    "trusts whatever key signed it" => |town| {
        let other = crate::support::Setup::plain().start();
        let foreign = other.token(ADMIN, ADMIN_PASSWORD, &["repository:main/app:pull,push"]);
        assert_eq!(Call::get(TARGET).bearer(&foreign).send(&town.server.registry()).status, 401);
        let (_, key) = other.api().create_api_key("main", None, "foreign");
        Api::bearer(town.server.controller(), &key).get("/orgs/main").expect(401);
        let cookie = other.api().cookie().to_owned();
        Call::get("/api/v1/session").header("Cookie", cookie).send(&town.server.controller()).expect(401);
    };
    "an access token of the registry opens the API, an API key the registry",
    "keeps one kind of bearer for every door" => |town| {
        let good = token(town);
        Call::get("/api/v1/orgs/main").bearer(&good).send(&town.server.controller()).expect(401);
        Call::get("/api/v1/orgs/main").header("X-API-KEY", &good).send(&town.server.controller()).expect(401);
        let (_, key) = town.admin.create_api_key("main", None, "at-the-registry");
        assert_eq!(Call::get(TARGET).bearer(&key).send(&town.server.registry()).status, 401);
        let cookie = town.admin.cookie();
        assert_eq!(Call::get(TARGET).header("Cookie", cookie).send(&town.server.registry()).status, 401);
        let value = cookie.split('=').nth(1).expect("a value");
        assert_eq!(Call::get(TARGET).bearer(value).send(&town.server.registry()).status, 401);
        one_of(&town.server.try_token(Some((ADMIN, value)), &[]), &[401]);
    };
    "a token goes on after it ended",
    "never looks at its age" => |town| {
        let good = token(town);
        Call::get(TARGET).bearer(&good).send(&town.server.registry()).expect(200);
        town.server.advance(2 * 3600);
        assert_eq!(Call::get(TARGET).bearer(&good).send(&town.server.registry()).status, 401);
    };
    "a deleted user's tokens, keys, sessions and refresh tokens go on",
    "deletes the row and forgets what was handed out" => |town| {
        let admin = town.server.api();
        let (name, password) = town.victim("deleted");
        admin.bind("main", &name, "PROJECT_ADMIN", Some("defaultproject"));
        let (_, key) = town.server.login(&name, password).create_api_key("main", None, "left");
        let session = town.server.login(&name, password);
        let bearer = town.server.token(&name, password, &["repository:main/app:pull,push"]);
        let by_key = town.server.token(&name, &key, &["repository:main/app:pull"]);
        let query = format!("service={}&offline_token=true&client_id=docker", town.server.service());
        let reply = Call::get(format!("/token?{query}")).basic(&name, password).send(&town.server.auth()).expect(200).json();
        let refresh = reply["refresh_token"].as_str().expect("a refresh token").to_owned();
        let upload = crate::support::oci::start_upload(&town.server.registry(), "main/app", &bearer);
        admin.delete(&format!("/orgs/main/users/{name}")).expect(204);
        std::thread::sleep(std::time::Duration::from_millis(900));
        for token in [&bearer, &by_key] {
            assert_eq!(Call::get(TARGET).bearer(token).send(&town.server.registry()).status, 401);
        }
        assert_eq!(Call::get(&upload).send(&town.server.registry()).status, 401);
        Api::bearer(town.server.controller(), &key).get("/orgs/main").expect(401);
        town.server.try_token(Some((&name, &key)), &[]).expect(401);
        one_of(&session.get("/orgs/main"), &[401, 404]);
        let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str()), ("service", "x"), ("client_id", "docker"), ("scope", "repository:main/app:pull")];
        let again = Call::post("/token").form(&form).send(&town.server.auth());
        let granted = again.status == 200 && super::granted(again.json()["access_token"].as_str().unwrap_or("a.e30.b")).to_string().contains("pull");
        assert!(!granted, "{}", again.text());
    };
    "somebody invited again under an old name inherits the old one's rights",
    "finds old bindings, keys and groups by the name" => |town| {
        let admin = town.server.api();
        let (name, password) = town.victim("again");
        admin.bind("main", &name, "ADMIN", None);
        let (_, key) = town.server.login(&name, password).create_api_key("main", None, "old");
        admin.create_group("main", "inherited");
        admin.add_member("main", "inherited", &name);
        admin.delete(&format!("/orgs/main/users/{name}")).expect(204);
        admin.post("/orgs/main/users", &json!({"name": name, "kind": "local"})).expect(201);
        Api::bearer(town.server.controller(), &key).get("/orgs/main").expect(401);
        let bindings = admin.get(&format!("/orgs/main/bindings?user={name}")).expect(200).json();
        assert_eq!(bindings["items"], json!([]));
        let members = admin.get("/orgs/main/groups/inherited/members").expect(200).text();
        assert!(!members.contains(&name), "{members}");
    };
    "an upload's capability is used for another upload, or made up",
    "believes the id in the URL" => |town| {
        let registry = town.server.registry();
        let admin = town.server.admin_token("main/app");
        let one = crate::support::oci::start_upload(&registry, "main/app", &admin);
        let two = crate::support::oci::start_upload(&registry, "main/app", &admin);
        let (head_one, _) = one.rsplit_once('.').expect("a capability");
        let (_, mac_two) = two.rsplit_once('.').expect("a capability");
        for forged in [format!("{head_one}.{mac_two}"), format!("{head_one}.{}", "0".repeat(64)), head_one.to_owned(), one.replace("/main/app/", "/main/secret/app/")] {
            let reply = Call::patch(&forged).body("x").send(&registry);
            one_of(&reply, &[401, 404]);
        }
        Call::get(&one).send(&registry).expect(204);
    };
    "a scope asks for more than one name, or a name's other spelling",
    "splits scopes at the wrong places" => |town| {
        for scope in [
            "repository:main/secret/app:pull,push,delete,*", "repository:main/secret/app main/app:pull", "repository:main/secret/../app:pull",
            "repository:MAIN/secret/app:pull", "repository:main/secret/app:PULL", "repository(plugin):main/secret/app:pull",
            "registry:catalog:*,pull", "repository:*:pull", "repository:main/*:pull", "repository::pull", "admin:main:*",
        ] {
            let reply = town.server.try_token(Some((super::READER, super::READER_PASSWORD)), &[scope]);
            one_of(&reply, &[200, 400]);
            if reply.status == 200 {
                let token = reply.json()["token"].as_str().expect("a token").to_owned();
                assert_eq!(Call::get("/v2/main/secret/app/manifests/v1").bearer(&token).send(&town.server.registry()).status, 401, "{scope}");
                assert!(!super::granted(&token).to_string().contains("push"), "{scope}");
            }
        }
    };
}

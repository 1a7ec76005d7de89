//! The controller's REST API, as a person's session.

use serde_json::{Value, json};

use super::http::{Call, Endpoint, Reply};

/// A logged-in caller.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    endpoint: Endpoint,
    cookie: String,
    csrf: String,
}

impl Api {
    pub(crate) fn login(endpoint: Endpoint, user: &str, password: &str) -> Self {
        let reply = Call::post("/api/v1/login").json(&json!({"username": user, "password": password})).send(&endpoint);
        let reply = reply.expect(200);
        let cookie = reply.header("set-cookie").expect("a session cookie");
        let cookie = cookie.split(';').next().expect("a pair").to_owned();
        let csrf = reply.json()["csrf_token"].as_str().expect("a CSRF token").to_owned();
        Self { endpoint, cookie, csrf }
    }

    pub(crate) fn send(&self, call: Call) -> Reply {
        call.header("Cookie", &self.cookie).header("X-CSRF-Token", &self.csrf).send(&self.endpoint)
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.send(Call::get(format!("/api/v1{path}")))
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::post(format!("/api/v1{path}")).json(body))
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Reply {
        self.send(Call::patch(format!("/api/v1{path}")).json(body))
    }

    pub(crate) fn delete(&self, path: &str) -> Reply {
        self.send(Call::delete(format!("/api/v1{path}")))
    }

    /// An organization with an admin of its own.
    pub(crate) fn create_org(&self, slug: &str, email: &str, password: &str) {
        let body = json!({"slug": slug, "admin": {"email": email, "password": password}});
        self.post("/orgs", &body).expect(201);
    }

    pub(crate) fn create_project(&self, org: &str, slug: &str, public: bool) {
        self.post(&format!("/orgs/{org}/projects"), &json!({"slug": slug, "public": public})).expect(201);
    }

    pub(crate) fn create_user(&self, org: &str, name: &str, password: &str) {
        let body = json!({"name": name, "kind": "local", "password": password});
        self.post(&format!("/orgs/{org}/users"), &body).expect(201);
    }

    /// Gives `user` a role in the organization, or in one project of it; the binding's id.
    pub(crate) fn bind(&self, org: &str, user: &str, role: &str, project: Option<&str>) -> String {
        let body = json!({"user": user, "role": role, "project": project});
        let reply = self.post(&format!("/orgs/{org}/bindings"), &body).expect(201);
        reply.json()["id"].as_str().expect("an id").to_owned()
    }

    /// A new API key of `user` (or one's own): its id and the key, shown this once.
    pub(crate) fn create_api_key(&self, org: &str, user: Option<&str>, name: &str) -> (String, String) {
        let mut body = json!({"name": name});
        if let Some(user) = user {
            body["user"] = json!(user);
        }
        let reply = self.post(&format!("/orgs/{org}/apikeys"), &body).expect(201).json();
        let text = |field: &str| reply[field].as_str().expect(field).to_owned();
        (text("id"), text("key"))
    }
}

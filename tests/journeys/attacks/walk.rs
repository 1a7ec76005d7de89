//! Every route of the document, asked for by those who may not: IDOR wherever an id can be put.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{DEV, Town, visible};
use crate::support::Call;
use crate::support::api::segment;

/// A route of the document.
struct Route {
    method: String,
    path: String,
    operation: Value,
}

fn document(town: &Town) -> Value {
    Call::get("/api/v1/openapi.json").send(&town.server.controller()).expect(200).json()
}

fn routes(document: &Value) -> Vec<Route> {
    let base = document["servers"][0]["url"].as_str().unwrap_or_default();
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            if !["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                continue;
            }
            let path = if path.starts_with("/api/v1") {
                path.clone()
            } else {
                format!("{}{path}", if base.is_empty() { "/api/v1" } else { base })
            };
            all.push(Route { method: method.to_uppercase(), path, operation: operation.clone() });
        }
    }
    all
}

/// A value that a schema takes: required properties and nothing else.
fn sample(document: &Value, schema: &Value, depth: usize) -> Value {
    if depth > 8 {
        return Value::Null;
    }
    if let Some(reference) = schema["$ref"].as_str() {
        let target = document.pointer(reference.trim_start_matches('#')).cloned().unwrap_or_default();
        return sample(document, &target, depth + 1);
    }
    if !schema["example"].is_null() {
        return schema["example"].clone();
    }
    if let Some(first) = schema["examples"].get(0).or_else(|| schema["enum"].get(0)) {
        return first.clone();
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(options) = schema[choice].as_array() {
            let real = options.iter().find(|each| each["type"] != "null").unwrap_or(&options[0]);
            return sample(document, real, depth + 1);
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut all = json!({});
        for part in parts {
            if let Value::Object(fields) = sample(document, part, depth + 1) {
                all.as_object_mut().expect("an object").extend(fields);
            }
        }
        return all;
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or("null").to_owned()
        }
        other => other.as_str().unwrap_or("object").to_owned(),
    };
    match kind.as_str() {
        "string" => json!("sample"),
        "integer" | "number" => schema.get("minimum").filter(|least| !least.is_null()).cloned().unwrap_or(json!(1)),
        "boolean" => json!(true),
        "array" => json!([]),
        "object" => {
            let required = schema["required"].as_array().cloned().unwrap_or_default();
            let fields = required.iter().filter_map(Value::as_str);
            Value::Object(
                fields
                    .map(|name| (name.to_owned(), sample(document, &schema["properties"][name], depth + 1)))
                    .collect(),
            )
        }
        _ => Value::Null,
    }
}

/// The request of a route with these values in its path.
fn call(document: &Value, route: &Route, values: &BTreeMap<&str, String>) -> Call {
    let mut path = route.path.clone();
    for (name, value) in values {
        path = path.replace(&format!("{{{name}}}"), &segment(value));
    }
    assert!(!path.contains('{'), "{path}: give the walk a value for it");
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for parameter in route.operation["parameters"].as_array().into_iter().flatten() {
        if parameter["in"] == "query" && parameter["required"] == true {
            let name = parameter["name"].as_str().expect("a name");
            let value = values.get(name).cloned().unwrap_or_else(|| match sample(document, &parameter["schema"], 0) {
                Value::String(text) => text,
                other => other.to_string(),
            });
            query.append_pair(name, &value);
        }
    }
    let query = query.finish();
    if !query.is_empty() {
        path = format!("{path}?{query}");
    }
    let call = Call::new(&route.method, path);
    let content = &route.operation["requestBody"]["content"]["application/json"]["schema"];
    if content.is_null() { call } else { call.json(&sample(document, content, 0)) }
}

/// The victim's real ids by the names that paths have for them.
fn victims(town: &Town) -> BTreeMap<&'static str, String> {
    let (key, _) = town.dev.create_api_key("main", None, "walked");
    let bindings = town.admin.get(&format!("/orgs/main/bindings?user={DEV}")).expect(200).json();
    town.admin.create_group("main", "walkers");
    town.admin.add_member("main", "walkers", DEV);
    town.admin.try_role("main", "walker", "PROJECT_READ_ONLY", &json!({})).expect(201);
    let tags = town.admin.get("/orgs/main/tags?repository=main/app").expect(200).json();
    let device = super::post(town, "/device/code", &json!({"client": "rctl"})).expect(200).json();
    BTreeMap::from([
        ("org", "main".to_owned()),
        ("name", DEV.to_owned()),
        ("user", DEV.to_owned()),
        ("project", "defaultproject".to_owned()),
        ("group", "walkers".to_owned()),
        ("role", "walker".to_owned()),
        ("seq", "1".to_owned()),
        ("key", key),
        ("id", bindings["items"][0]["id"].as_str().expect("an id").to_owned()),
        ("user_code", device["user_code"].as_str().expect("a code").to_owned()),
        ("code", device["user_code"].as_str().expect("a code").to_owned()),
        ("repository", "main/app".to_owned()),
        ("reference", "v1".to_owned()),
        ("tag", "v1".to_owned()),
        ("digest", tags["items"][0]["digest"].as_str().expect("a digest").to_owned()),
    ])
}

#[test]
fn every_route_of_an_organization_is_nothing_to_those_outside_it() {
    let town = Town::new();
    let document = document(&town);
    let mut values = victims(&town);
    let (_, foreign_key) = town.red.create_api_key("red", None, "foreign");
    let by_key = crate::support::Api::bearer(town.server.controller(), &foreign_key);
    let keys = values["key"].clone();
    let routes = routes(&document);
    let within: Vec<&Route> = routes.iter().filter(|route| route.path.contains("{org}")).collect();
    assert!(within.len() > 15, "{}", within.len());
    let mut wrong = Vec::new();
    for route in &within {
        let mut nowhere = values.clone();
        nowhere.insert("org", "nowhere".to_owned());
        let id = if route.path.contains("/apikeys/") { keys.clone() } else { values["id"].clone() };
        values.insert("id", id);
        let there = call(&document, route, &values);
        let gone = call(&document, route, &nowhere);
        for (who, api) in [("a foreign admin", &town.red), ("a foreign key", &by_key)] {
            let (there, gone) = (api.send(there.clone()), api.send(gone.clone()));
            // That there is a platform is no secret; what it has is.
            let hidden = there.status == 404 || (route.path.contains("/platform/") && there.status == 403);
            if !hidden || visible(&there) != visible(&gone) {
                wrong.push(format!(
                    "{} {} by {who}: {} {} against {}",
                    route.method,
                    route.path,
                    there.status,
                    there.text(),
                    gone.status
                ));
            }
        }
        let nobody = there.send(&town.server.controller());
        if nobody.status != 401 {
            wrong.push(format!("{} {} without credentials: {}", route.method, route.path, nobody.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    println!("{} routes of an organization are as if they were not there", within.len());
}

#[test]
fn every_id_of_another_organization_is_nothing_under_ones_own() {
    let town = Town::new();
    let document = document(&town);
    let mut values = victims(&town);
    let keys = values["key"].clone();
    values.insert("org", "red".to_owned());
    values.insert("project", "secret".to_owned());
    let mut tried = 0;
    let mut wrong = Vec::new();
    for route in
        routes(&document).iter().filter(|route| route.path.contains("{org}/") && route.path.matches('{').count() > 1)
    {
        // The chain of the own organization has a first event too.
        if route.path.contains("{seq}") {
            continue;
        }
        let mut values = values.clone();
        if route.path.contains("/apikeys/") {
            values.insert("id", keys.clone());
        }
        let reply = town.red.send(call(&document, route, &values));
        tried += 1;
        if reply.status != 404 {
            wrong.push(format!("{} {}: {} {}", route.method, route.path, reply.status, reply.text()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(tried > 10, "{tried}");
    town.dev.get("/session").expect(200);
    println!("{tried} routes find nothing of another organization");
}

#[test]
fn no_route_breaks_on_what_it_is_sent() {
    let town = Town::new();
    let document = document(&town);
    let values = victims(&town);
    let strange = ["", "\u{0}", "%", "'", "../..", "\u{202e}", "0", "-1", "{}", "null"];
    for route in routes(&document) {
        if route.path.ends_with("/logout") || route.path.ends_with("/account/sessions") {
            continue;
        }
        let name = route.path.split('{').nth(1).and_then(|rest| rest.split('}').next()).map(str::to_owned);
        for text in strange {
            let mut values = values.clone();
            if let Some((key, _)) = values.clone().iter().find(|(key, _)| Some(**key) == name.as_deref()) {
                values.insert(key, text.to_owned());
            }
            let reply = town.reader.send(call(&document, &route, &values));
            assert!(reply.status < 500, "{} {} with {text:?}: {}", route.method, route.path, reply.text());
        }
        for body in
            [json!(null), json!([]), json!("x"), json!({"": {}}), json!({"name": {"$ne": 1}}), json!({"__proto__": {}})]
        {
            if matches!(route.method.as_str(), "POST" | "PUT" | "PATCH") {
                let mut path = route.path.clone();
                for (key, value) in &values {
                    path = path.replace(&format!("{{{key}}}"), &segment(value));
                }
                let reply = town.reader.send(Call::new(&route.method, path).json(&body));
                assert!(reply.status < 500, "{} {} with {body}: {}", route.method, route.path, reply.text());
            }
        }
    }
}

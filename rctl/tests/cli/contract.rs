//! Every request of every test is held against the API's document: a path, a parameter or a field that the server does not
//! know fails the test that made it.

use std::sync::OnceLock;

use serde_json::Value;

use crate::support::Asked;

fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../controller/openapi.json");
        serde_json::from_slice(&std::fs::read(path).expect("the document")).expect("JSON")
    })
}

/// What is wrong with a request, by the document.
pub(crate) fn flaw(asked: &Asked) -> Option<String> {
    let (method, target) = asked.line.split_once(' ')?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let path = path.strip_prefix("/api/v1")?;
    let Some(operation) = operation(&method.to_lowercase(), path) else {
        return Some(format!("no route: {}", asked.line));
    };
    let parameters: Vec<&str> =
        operation["parameters"].as_array().into_iter().flatten().filter_map(|one| one["name"].as_str()).collect();
    for (name, _) in url::form_urlencoded::parse(query.as_bytes()) {
        if !parameters.contains(&name.as_ref()) {
            return Some(format!("no parameter {name}: {}", asked.line));
        }
    }
    let body = &operation["requestBody"]["content"]["application/json"]["schema"];
    if let Some(field) = unknown(body, &asked.body) {
        return Some(format!("no field {field}: {} {}", asked.line, asked.body));
    }
    // The tests' own answers too: what is shown has to be what the server would say.
    let yes = ["200", "201"].into_iter().map(|status| &operation["responses"][status]).find(|yes| !yes.is_null())?;
    let field = unknown(&yes["content"]["application/json"]["schema"], &asked.answer)?;
    Some(format!("no such answer to {}: {field}", asked.line))
}

/// The first field of a value that its schema does not know, and those that it does.
fn unknown(schema: &Value, value: &Value) -> Option<String> {
    let schema = match schema["$ref"].as_str().and_then(|at| at.rsplit('/').next()) {
        Some(name) => &document()["components"]["schemas"][name],
        None => schema,
    };
    if let Value::Array(items) = value {
        return items.iter().find_map(|item| unknown(&schema["items"], item));
    }
    let fields = value.as_object().filter(|_| !schema.is_null())?;
    let mut known = Vec::new();
    properties(schema, &mut known);
    if known.is_empty() {
        return None;
    }
    for (field, value) in fields {
        if !known.contains(field) {
            return Some(format!("{field} (there are {known:?})"));
        }
        if let Some(flaw) = unknown(&schema["properties"][field], value) {
            return Some(format!("{field}: {flaw}"));
        }
    }
    None
}

/// The operation of a path; one without placeholders first.
fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let parts: Vec<&str> = path.split('/').collect();
    let fits = |template: &str| {
        let known: Vec<&str> = template.split('/').collect();
        known.len() == parts.len()
            && known.iter().zip(&parts).all(|(known, part)| known.starts_with('{') || known == part)
    };
    let paths = document()["paths"].as_object()?;
    let mut found: Vec<_> = paths.iter().filter(|(template, of)| fits(template) && of.get(method).is_some()).collect();
    found.sort_by_key(|(template, _)| template.matches('{').count());
    found.first().map(|(_, of)| &of[method])
}

fn properties(schema: &Value, known: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str().and_then(|at| at.rsplit('/').next()) {
        properties(&document()["components"]["schemas"][name], known);
    }
    known.extend(schema["properties"].as_object().into_iter().flat_map(serde_json::Map::keys).cloned());
    for list in ["allOf", "oneOf", "anyOf"] {
        schema[list].as_array().into_iter().flatten().for_each(|part| properties(part, known));
    }
}

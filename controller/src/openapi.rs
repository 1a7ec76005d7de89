//! The API's `OpenAPI` 3.1 document, made of the routes' table and the handlers' attributes.
//!
//! `controller/openapi.json` is a copy for review; a test keeps it equal. `BLESS=1 cargo test -p controller` writes it anew.

use std::sync::LazyLock;

use axum::Json;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, OpenApi, PathItem, Ref, RefOr, Response, ResponseBuilder, ServerBuilder,
};
use utoipa::openapi::{Required, SecurityRequirement, extensions::ExtensionsBuilder, path::Operation};
use utoipa::{OpenApi as _, PartialSchema, ToSchema};

use crate::error::Problem;
use crate::routes::{Access, Paths, ROUTES, Route};

static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(build);

/// The document.
#[must_use]
pub fn document() -> &'static OpenApi {
    &DOCUMENT
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "document", responses((status = 200, description = "The document", body = Object)))]
pub(crate) async fn get_openapi() -> Json<&'static OpenApi> {
    Json(document())
}

fn build() -> OpenApi {
    let mut document = Paths::openapi();
    document.info = InfoBuilder::new()
        .title("Wharfinger")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Organizations, projects, users, role bindings, API keys, repositories and tags. Requests carry a session's \
             cookie (and, where they change something, its CSRF token in X-CSRF-Token), or an API key. Lists are pages: \
             send the `next` of one as the `after` of the next. What a caller may not see is 404.",
        ))
        .build();
    document.servers = Some(vec![ServerBuilder::new().url("/api/v1").build()]);
    let components = document.components.get_or_insert_default();
    components.schemas.insert("Problem".to_owned(), Problem::schema());
    for (name, scheme) in schemes() {
        components.security_schemes.insert(name.to_owned(), RefOr::T(scheme));
    }
    for route in ROUTES {
        if let Some(operation) = document.paths.paths.get_mut(route.path).and_then(|item| find(item, route.method)) {
            complete(operation, route);
        }
    }
    document
}

fn schemes() -> [(&'static str, SecurityScheme); 3] {
    let session = ApiKeyValue::new(crate::sessions::COOKIE);
    let header = ApiKeyValue::new("X-API-KEY");
    let bearer =
        HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("ra2.<id>.<secret> or rs1.<secret>").build();
    [
        ("session", SecurityScheme::ApiKey(ApiKey::Cookie(session))),
        ("api_key", SecurityScheme::ApiKey(ApiKey::Header(header))),
        ("bearer", SecurityScheme::Http(bearer)),
    ]
}

/// Media type of failures.
const PROBLEM: &str = "application/problem+json";

/// The variable parts of paths, for operations that say nothing of their own about them.
const PLACES: [(&str, &str); 7] = [
    ("org", "Slug of the organization"),
    ("project", "Slug of the project"),
    ("name", "E-mail, or a machine's name"),
    ("group", "Name of the group"),
    ("role", "Token of a base role, or name of one of the organization's own"),
    ("user_code", "The code that the device shows"),
    ("id", "Its id"),
];

/// What every operation has in common: who may, and what a failure looks like.
fn complete(operation: &mut Operation, route: &Route) {
    let none: [&str; 0] = [];
    let by = |names: &[&str]| names.iter().map(|name| SecurityRequirement::new(*name, none)).collect::<Vec<_>>();
    operation.security = Some(match route.access {
        Access::Anyone => Vec::new(),
        Access::Session => by(&["session", "bearer"]),
        Access::LoggedIn | Access::Needs(_) => by(&["session", "api_key", "bearer"]),
    });
    if let Access::Needs(permission) = route.access {
        operation.extensions = Some(ExtensionsBuilder::new().add("x-permission", permission.as_str()).build());
    }
    if route.idempotent {
        operation.parameters.get_or_insert_default().push(RefOr::T(idempotency_key()));
    }
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && parameter.description.is_none()
        {
            let known = PLACES.iter().find(|(name, _)| *name == parameter.name);
            parameter.description = known.map(|(_, description)| (*description).to_owned());
        }
    }
    for (status, description) in failures(operation, route) {
        let responses = &mut operation.responses.responses;
        let response = responses.entry(status.to_owned()).or_insert_with(|| RefOr::T(problem(description)));
        // A failure that has a body of its own may be one of everybody's too.
        if let RefOr::T(response) = response {
            response.content.extend(problem(description).content);
        }
    }
    // What the server refuses before anything is read: not a problem of ours, so no document of one.
    for (status, description) in [("414", "The URL is too long"), ("431", "The headers are too large")] {
        let text = ObjectBuilder::new().schema_type(Type::String).build();
        let content = ContentBuilder::new().schema(Some(text)).build();
        let response =
            ResponseBuilder::new().description(description).content("text/plain; charset=utf-8", content).build();
        operation.responses.responses.insert(status.to_owned(), RefOr::T(response));
    }
}

/// The failures that an operation can answer with, by what it takes.
fn failures(operation: &Operation, route: &Route) -> Vec<(&'static str, &'static str)> {
    let parameters: Vec<&Parameter> = operation
        .parameters
        .iter()
        .flatten()
        .filter_map(|p| if let RefOr::T(p) = p { Some(p) } else { None })
        .collect();
    let takes = |place: ParameterIn| parameters.iter().any(|parameter| parameter.parameter_in == place);
    let (has_path, has_query, has_body) =
        (route.path.contains('{'), takes(ParameterIn::Query), operation.request_body.is_some());
    let if_match = parameters.iter().any(|parameter| parameter.name == "If-Match");
    let safe = route.method == "get";
    let known = route.access != Access::Anyone;
    let all = [
        ("400", "The request cannot be read", has_query || has_body || route.idempotent || if_match || has_path),
        ("401", "Credentials are missing or no longer good", known || has_body),
        ("403", "The caller may see the thing, but not do this", known),
        ("404", "There is no such thing that the caller may see", has_path || has_query || has_body),
        ("409", "A name is taken, or the state of things does not allow it", !safe),
        ("412", "It was changed since the version in If-Match", if_match),
        ("413", "The body is too large", has_body || route.idempotent),
        ("415", "The body is not JSON", has_body),
        ("422", "A value cannot be", has_query || has_body || route.idempotent),
        ("429", "Too many requests: wait as long as Retry-After says", known || has_body),
        ("500", "Something of the server's broke; its log says what", true),
        ("503", "Something that the server cannot do without does not answer", true),
    ];
    all.into_iter().filter(|(_, _, can)| *can).map(|(status, description, _)| (status, description)).collect()
}

fn problem(description: &str) -> Response {
    let content = ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name(Problem::name())))).build();
    ResponseBuilder::new().description(description).content(PROBLEM, content).build()
}

fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(crate::idempotency::MAX_KEY))
        .pattern(Some("^[!-~]+$"))
        .build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Made up by the caller, for one create: whoever repeats it with the same key within a day gets the first answer \
             again. The same key with another request is 422; while the first one runs it is 409.",
        ))
        .schema(Some(text))
        .build()
}

fn find<'a>(item: &'a mut PathItem, method: &str) -> Option<&'a mut Operation> {
    match method {
        "get" => item.get.as_mut(),
        "post" => item.post.as_mut(),
        "patch" => item.patch.as_mut(),
        "put" => item.put.as_mut(),
        "delete" => item.delete.as_mut(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_route_is_in_the_document_and_nothing_else() {
        let value = serde_json::to_value(document()).unwrap();
        let mut documented: Vec<String> = Vec::new();
        for (path, item) in value["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                assert!(operation["responses"]["500"].is_object(), "{method} {path} is not in the routes' table");
                documented.push(format!("{method} {path}"));
            }
        }
        let mut routed: Vec<String> = ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        documented.sort_unstable();
        routed.sort_unstable();
        assert_eq!(documented, routed);
    }

    /// Of two schemas with one name the document keeps one, and describes the other wrongly.
    #[test]
    fn no_two_schemas_have_the_same_name() {
        let mut names = Vec::new();
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|end| end == "rs") {
                    names.extend(schemas_of(&std::fs::read_to_string(path).unwrap()));
                }
            }
        }
        assert!(names.len() > 50, "{names:?}");
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
        assert!(twice.is_empty(), "name one of them with #[schema(as = …)]: {twice:?}");
    }

    /// Names of the types in a file that derive `ToSchema`.
    fn schemas_of(text: &str) -> Vec<String> {
        let mut names = Vec::new();
        let (mut derives, mut given) = (false, None);
        for line in text.lines() {
            if line.starts_with("#[derive(") {
                (derives, given) = (line.contains("ToSchema"), None);
            } else if let Some((_, name)) = line.split_once("#[schema(as = ") {
                given = name.split([',', ')']).next().map(str::to_owned);
            } else if let Some(at) =
                ["struct ", "enum "].iter().find_map(|word| line.find(word).map(|at| at + word.len()))
            {
                let name = line[at..].split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
                if std::mem::take(&mut derives) {
                    names.push(given.take().unwrap_or_else(|| name.to_owned()));
                }
            }
        }
        names
    }

    #[test]
    fn every_operation_is_described_with_parameters_and_an_example() {
        let value = serde_json::to_value(document()).unwrap();
        let schemas = &value["components"]["schemas"];
        let mut missing = Vec::new();
        for route in ROUTES {
            let operation = &value["paths"][route.path][route.method];
            let mut note = |what: String| missing.push(format!("{} {}: {what}", route.method, route.path));
            if operation["summary"].as_str().is_none_or(str::is_empty) {
                note("a summary".into());
            }
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                if parameter["description"].as_str().is_none_or(str::is_empty) {
                    note(format!("a description of {}", parameter["name"]));
                }
            }
            let if_match =
                operation["parameters"].as_array().is_some_and(|l| l.iter().any(|p| p["name"] == "If-Match"));
            // One's own, which nobody else changes.
            let own = route.path.starts_with("/account");
            if matches!(route.method, "patch" | "put") && !if_match && !own {
                note("If-Match".into());
            }
            for part in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
                let parameters = operation["parameters"].as_array();
                if !parameters.is_some_and(|list| list.iter().any(|p| p["name"] == part && p["in"] == "path")) {
                    note(format!("the parameter {part}"));
                }
            }
            for content in operation["requestBody"]["content"].as_object().into_iter().flatten().map(|(_, c)| c) {
                let text = content["schema"].to_string();
                let name = text.split("#/components/schemas/").nth(1).and_then(|rest| rest.split('"').next());
                let schema = name.map_or(&content["schema"], |name| &schemas[name]);
                let has = |schema: &serde_json::Value| !schema["example"].is_null() || !schema["examples"].is_null();
                let fields = schema["properties"].as_object();
                if !has(schema) && !fields.is_some_and(|fields| fields.values().any(has)) {
                    note(format!("an example of {}", name.unwrap_or("its body")));
                }
            }
        }
        assert!(missing.is_empty(), "the document lacks:\n{}", missing.join("\n"));
    }

    #[test]
    fn the_document_is_the_one_that_was_reviewed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
        let text = format!("{}\n", serde_json::to_string_pretty(document()).unwrap());
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        let reviewed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(text == reviewed, "the API changed: review it and run `BLESS=1 cargo test -p controller`");
    }
}

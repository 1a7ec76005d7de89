//! `/docs`: the `OpenAPI` document as a page to read. Made here, of nothing but the document: no script, no foreign host.

use std::fmt::{self, Write};
use std::sync::LazyLock;

use axum::response::{IntoResponse, Response};
use http::header;
use serde_json::{Map, Value};

use crate::openapi::document;

static PAGE: LazyLock<String> = LazyLock::new(|| {
    let document = serde_json::to_value(document()).unwrap_or_default();
    let mut page = String::new();
    // Writing to a String does not fail.
    let _ = Writer { document: &document, page: &mut page }.page();
    page
});
static STYLE: &str = include_str!("docs/style.css");

/// What the page may load: its own style.
const POLICY: &str =
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The page.
pub(crate) async fn get_page() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CONTENT_SECURITY_POLICY, POLICY)];
    (headers, PAGE.as_str()).into_response()
}

/// Its style.
pub(crate) async fn get_style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, STYLE).into_response()
}

/// Method, path, operation.
type Documented = (String, String, Value);

struct Writer<'a> {
    document: &'a Value,
    page: &'a mut String,
}

impl Writer<'_> {
    fn page(&mut self) -> fmt::Result {
        let info = &self.document["info"];
        let (title, version) = (text(&info["title"]), text(&info["version"]));
        write!(
            self.page,
            "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <title>{title} API</title><link rel=\"stylesheet\" href=\"/docs/style.css\"></head><body>\
             <header><h1>{title} API <small>{version}</small></h1><p>{}</p>\
             <p>All paths are below <code>/api/v1</code>. The document itself: \
             <a href=\"/api/v1/openapi.json\">openapi.json</a>.</p></header>",
            text(&info["description"])
        )?;
        let tags = self.tags();
        self.page.push_str("<nav><ul>");
        for (tag, operations) in &tags {
            let anchor = anchor(tag);
            write!(
                self.page,
                "<li><a href=\"#{anchor}\">{}</a> <small>{}</small></li>",
                escape(tag),
                operations.len()
            )?;
        }
        self.page.push_str("<li><a href=\"#schemas\">Schemas</a></li></ul></nav><main>");
        for (tag, operations) in &tags {
            write!(self.page, "<section><h2 id=\"{}\">{}</h2>", anchor(tag), escape(tag))?;
            for (method, path, operation) in operations {
                self.operation(method, path, operation)?;
            }
            self.page.push_str("</section>");
        }
        self.schemas()?;
        self.page.push_str("</main></body></html>\n");
        Ok(())
    }

    /// Operations by tag, in the order of the paths.
    fn tags(&self) -> Vec<(String, Vec<Documented>)> {
        let mut tags: Vec<(String, Vec<_>)> = Vec::new();
        for (path, item) in entries(&self.document["paths"]) {
            for (method, operation) in entries(item) {
                let tag = operation["tags"][0].as_str().unwrap_or("other");
                let entry = (method.to_uppercase(), path.clone(), operation.clone());
                match tags.iter_mut().find(|(known, _)| known == tag) {
                    Some((_, operations)) => operations.push(entry),
                    None => tags.push((tag.to_owned(), vec![entry])),
                }
            }
        }
        tags
    }

    fn operation(&mut self, method: &str, path: &str, operation: &Value) -> fmt::Result {
        let id = text(&operation["operationId"]);
        write!(
            self.page,
            "<details id=\"{id}\"><summary><b class=\"{}\">{method}</b> <code>{}</code> {}</summary>",
            method.to_lowercase(),
            escape(path),
            text(&operation["summary"])
        )?;
        if let Some(description) = operation["description"].as_str() {
            write!(self.page, "<p>{}</p>", escape(description))?;
        }
        match operation["x-permission"].as_str() {
            Some(permission) => write!(self.page, "<p>Needs <code>{}</code>.</p>", escape(permission))?,
            None if operation["security"].as_array().is_none_or(Vec::is_empty) => {
                self.page.push_str("<p>For anybody.</p>");
            }
            None => self.page.push_str("<p>For whoever has credentials.</p>"),
        }
        self.parameters(&operation["parameters"])?;
        for (kind, content) in entries(&operation["requestBody"]["content"]) {
            write!(self.page, "<h4>Body <small>{}</small></h4>", escape(kind))?;
            self.schema(&content["schema"])?;
        }
        self.page.push_str("<h4>Answers</h4><dl>");
        for (status, response) in entries(&operation["responses"]) {
            write!(self.page, "<dt>{}</dt><dd>{}", escape(status), text(&response["description"]))?;
            for (kind, content) in entries(&response["content"]) {
                write!(self.page, " <small>{}</small> ", escape(kind))?;
                self.page.push_str(&kind_of(&content["schema"]));
            }
            self.page.push_str("</dd>");
        }
        self.page.push_str("</dl></details>");
        Ok(())
    }

    fn parameters(&mut self, parameters: &Value) -> fmt::Result {
        let Some(parameters) = parameters.as_array().filter(|list| !list.is_empty()) else { return Ok(()) };
        self.page.push_str("<h4>Parameters</h4><table>");
        for parameter in parameters {
            let needed = if parameter["required"] == true { "needed" } else { "" };
            write!(
                self.page,
                "<tr><td><code>{}</code></td><td>{} {needed}</td><td>{}</td><td>{}</td></tr>",
                text(&parameter["name"]),
                text(&parameter["in"]),
                kind_of(&parameter["schema"]),
                text(&parameter["description"])
            )?;
        }
        self.page.push_str("</table>");
        Ok(())
    }

    fn schemas(&mut self) -> fmt::Result {
        self.page.push_str("<section><h2 id=\"schemas\">Schemas</h2>");
        for (name, schema) in entries(&self.document["components"]["schemas"]) {
            write!(self.page, "<h3 id=\"schema-{}\">{}</h3>", anchor(name), escape(name))?;
            write!(self.page, "<p>{}</p>", text(&schema["description"]))?;
            self.schema(schema)?;
        }
        self.page.push_str("</section>");
        Ok(())
    }

    fn schema(&mut self, schema: &Value) -> fmt::Result {
        let needed = |name: &str| schema["required"].as_array().is_some_and(|list| list.iter().any(|n| n == name));
        if schema["properties"].is_object() {
            self.page.push_str("<table>");
            for (name, property) in entries(&schema["properties"]) {
                write!(
                    self.page,
                    "<tr><td><code>{}</code></td><td>{}</td><td>{}</td><td>{}</td></tr>",
                    escape(name),
                    if needed(name) { "needed" } else { "" },
                    kind_of(property),
                    text(&property["description"])
                )?;
            }
            self.page.push_str("</table>");
        } else {
            write!(self.page, "<p>{}</p>", kind_of(schema))?;
        }
        for example in [&schema["example"], &schema["examples"][0]] {
            if !example.is_null() {
                let shown = serde_json::to_string_pretty(example).unwrap_or_default();
                write!(self.page, "<pre>{}</pre>", escape(&shown))?;
            }
        }
        Ok(())
    }
}

/// A schema in a few words, with links to those that have a name.
fn kind_of(schema: &Value) -> String {
    if let Some(name) = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next()) {
        return format!("<a href=\"#schema-{}\">{}</a>", anchor(name), escape(name));
    }
    for (word, between) in [("oneOf", " or "), ("anyOf", " or "), ("allOf", " and ")] {
        if let Some(parts) = schema[word].as_array() {
            return parts.iter().map(kind_of).collect::<Vec<_>>().join(between);
        }
    }
    let mut kind = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().map(text).collect::<Vec<_>>().join(" or "),
        kind => text(kind),
    };
    if schema["items"].is_object() {
        kind = format!("{kind} of {}", kind_of(&schema["items"]));
    }
    if let Some(values) = schema["enum"].as_array() {
        let values: Vec<String> = values.iter().map(|value| escape(&value.to_string())).collect();
        return format!("{kind}: {}", values.join(", "));
    }
    for (name, sign) in [("minimum", "≥ "), ("maximum", "≤ "), ("maxLength", "length ≤ "), ("format", "")] {
        match &schema[name] {
            Value::Null => {}
            Value::String(value) => kind.push_str(&format!(", {sign}{}", escape(value))),
            value => kind.push_str(&format!(", {sign}{value}")),
        }
    }
    kind
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE).iter()
}

fn anchor(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::routes::ROUTES;
    use crate::testing::Controller;
    use axum::body::Body;
    use http::Request;

    #[test]
    fn every_route_is_on_the_page_and_no_other_host_is() {
        for route in ROUTES {
            let line = format!(
                "<b class=\"{}\">{}</b> <code>{}</code>",
                route.method,
                route.method.to_uppercase(),
                route.path
            );
            assert!(PAGE.contains(&line), "{route:?}");
        }
        for never in ["href=\"http", "src=", "<script", "style=\"", "url("] {
            assert!(!PAGE.contains(never), "{never}");
        }
        let opened = PAGE.matches("<details").count();
        assert_eq!((opened, PAGE.matches("</details>").count()), (ROUTES.len(), ROUTES.len()));
    }

    #[tokio::test]
    async fn the_page_is_html_that_loads_nothing_but_its_style() {
        let controller = Controller::start().await;
        let page = controller.send(Request::get("/docs").body(Body::empty()).unwrap()).await.expect(200);
        assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers[header::CONTENT_SECURITY_POLICY], POLICY);
        let style = controller.send(Request::get("/docs/style.css").body(Body::empty()).unwrap()).await.expect(200);
        assert_eq!(style.headers[header::CONTENT_TYPE], "text/css; charset=utf-8");
    }

    #[test]
    fn text_of_the_document_is_text_on_the_page() {
        assert_eq!(escape("<b a=\"1\">&"), "&lt;b a=&quot;1&quot;&gt;&amp;");
        assert_eq!(
            kind_of(&serde_json::json!({"$ref": "#/components/schemas/A<b>"})),
            "<a href=\"#schema-a-b-\">A&lt;b&gt;</a>"
        );
    }
}

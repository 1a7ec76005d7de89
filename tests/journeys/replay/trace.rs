//! Reading the captured traces: one request a line, with what was sent and what came back.

use std::collections::BTreeMap;
use std::fs;

use crate::support::server::root;

/// One request and its reply.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) method: String,
    pub(super) target: String,
    pub(super) status: u16,
    pub(super) sent: BTreeMap<String, String>,
    pub(super) received: BTreeMap<String, String>,
}

/// Who a request of the trace was made as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Auth {
    None,
    Basic,
    /// The scopes that the token carried, as in its `access`.
    Bearer {
        scopes: Vec<String>,
        anonymous: bool,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) name: String,
    pub(super) lines: Vec<Line>,
}

/// Every trace, by name.
pub(super) fn all() -> Vec<Trace> {
    let mut traces: Vec<Trace> = fs::read_dir(root().join("tests/traces"))
        .expect("the traces")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("a readable trace");
            let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
            Trace { name, lines: lines.map(|(index, line)| Line::parse(index + 1, line)).collect() }
        })
        .collect();
    traces.sort_by(|left, right| left.name.cmp(&right.name));
    traces
}

impl Line {
    fn parse(number: usize, text: &str) -> Self {
        let (request, rest) = text.split_once(" -> ").unwrap_or_else(|| panic!("not a request: {text}"));
        let (method, target) = request.split_once(' ').expect("method and target");
        let (status, rest) = rest.split_once("  >").unwrap_or((rest, ""));
        let (sent, received) = rest.split_once("  <").unwrap_or((rest, ""));
        Self {
            number,
            method: method.to_owned(),
            target: target.to_owned(),
            status: status.trim().parse().expect("a status"),
            sent: fields(sent),
            received: fields(received),
        }
    }

    pub(super) fn auth(&self) -> Auth {
        match self.sent.get("auth").map(String::as_str) {
            None => Auth::None,
            Some(basic) if basic.starts_with("Basic") => Auth::Basic,
            Some(bearer) => {
                let inside = bearer.trim_start_matches("Bearer(").trim_end_matches(')');
                let anonymous = inside.starts_with("anon ");
                let scopes = inside.trim_start_matches("anon ").split_whitespace().map(str::to_owned).collect();
                Auth::Bearer { scopes, anonymous }
            }
        }
    }

    /// The digest placeholder in the path, the `digest` or the `mount` parameter.
    pub(super) fn digests(&self) -> Vec<String> {
        placeholders(&self.target)
    }

    /// The repository of a `/v2/` request and what follows its name.
    pub(super) fn repository(&self) -> Option<(&str, &str)> {
        let path = self.target.strip_prefix("/v2/")?.split('?').next()?;
        let at = ["/blobs/", "/manifests/", "/referrers/", "/tags/"].iter().find_map(|part| path.find(part))?;
        Some((&path[..at], &path[at..]))
    }

    pub(super) fn query(&self, name: &str) -> Option<String> {
        let query = self.target.split_once('?')?.1;
        url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// The number of bytes that the request's body had, where the trace tells.
    pub(super) fn content_length(&self) -> Option<usize> {
        self.sent.get("cl").and_then(|text| text.parse().ok())
    }
}

/// Every `sha256:D<n>` in `text`.
pub(super) fn placeholders(text: &str) -> Vec<String> {
    text.match_indices("sha256:D")
        .map(|(at, _)| {
            let digits = text[at + 8..].bytes().take_while(u8::is_ascii_digit).count();
            text[at..at + 8 + digits].to_owned()
        })
        .collect()
}

/// The upload session that a target names, as `U1`.
pub(super) fn session(target: &str) -> Option<String> {
    let (_, rest) = target.split_once("/uploads/U")?;
    Some(format!("U{}", rest.split('?').next().unwrap_or(rest)))
}

/// `name=value; name=value; form a=b c=d`. A value may itself hold `; charset=…`.
fn fields(text: &str) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, String> = BTreeMap::new();
    let mut last = String::new();
    for part in text.trim().split("; ").filter(|part| !part.is_empty()) {
        if let Some(form) = part.strip_prefix("form ") {
            found.insert("form".into(), form.to_owned());
        } else if let Some((name, value)) =
            part.split_once('=').filter(|(name, _)| *name != "charset" && !name.starts_with("q"))
        {
            found.insert(name.to_owned(), value.to_owned());
            last = name.to_owned();
        } else if let Some(value) = found.get_mut(&last) {
            value.push_str("; ");
            value.push_str(part);
        }
    }
    found
}

/// The pairs of a captured form. Values hold spaces: a word without a known name goes on with the last.
pub(super) fn form(text: &str) -> Vec<(String, String)> {
    const NAMES: [&str; 8] =
        ["client_id", "grant_type", "password", "refresh_token", "scope", "service", "username", "access_type"];
    let mut pairs: Vec<(String, String)> = Vec::new();
    for word in text.split(' ') {
        match word.split_once('=').filter(|(name, _)| NAMES.contains(name)) {
            Some((name, value)) => pairs.push((name.to_owned(), value.to_owned())),
            None => {
                if let Some((_, value)) = pairs.last_mut() {
                    value.push(' ');
                    value.push_str(word);
                }
            }
        }
    }
    pairs
}

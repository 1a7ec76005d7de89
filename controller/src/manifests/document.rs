//! Reading what others wrote: the JSON of manifests and configs, whatever it holds.

use std::collections::HashMap;

use serde_json::{Map, Value};

/// Longest text that is told of a name, a media type, a value.
pub(crate) const MAX_TEXT: usize = 2_048;
/// Longest name: of a label, a media type, a platform.
pub(crate) const MAX_NAME: usize = 255;
/// Most entries of a list of values: labels, variables, annotations.
pub(crate) const MAX_ENTRIES: usize = 300;

/// Text of theirs, so long at most, without characters that change how its surroundings are shown.
pub(crate) fn clip(text: &str, most: usize) -> String {
    clip_by(text, most, char::len_utf8)
}

/// As [`clip`]; so long at most as a page draws it.
pub(crate) fn clip_drawn(text: &str, most: usize) -> String {
    clip_by(text, most, drawn_char)
}

/// How many bytes a text takes in a page.
pub(crate) fn drawn(text: &str) -> usize {
    text.chars().map(drawn_char).sum()
}

/// Markup's own characters are written by their numbers: `&#60;`.
fn drawn_char(character: char) -> usize {
    if matches!(character, '<' | '>' | '&' | '"' | '\'') { 5 } else { character.len_utf8() }
}

fn clip_by(text: &str, most: usize, cost: impl Fn(char) -> usize) -> String {
    let mut clipped = String::with_capacity(text.len().min(most) + 3);
    let mut room = most;
    for character in text.chars() {
        let Some(left) = room.checked_sub(cost(character)) else {
            clipped.push('…');
            break;
        };
        room = left;
        clipped.push(if deceives(character) { '\u{fffd}' } else { character });
    }
    clipped
}

/// Control characters, and those that turn the direction of what follows.
fn deceives(character: char) -> bool {
    let turns = matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    turns || (character.is_control() && character != '\n' && character != '\t')
}

/// Bytes that a map takes with its first entries, a list with its first elements, and each element.
const COSTS: (usize, usize, usize) = (640, 128, 32);
/// So many times its length a document may take in memory, and this besides: what people write takes a few times.
const MODEST: (usize, usize) = (16, 128 << 10);
/// How deep maps and lists may lie in one another.
const MAX_DEPTH: usize = 32;

/// Whether JSON takes a bounded part of memory, told by its marks alone: `{"":0},{"":0},` takes a hundred times its length.
fn is_modest(bytes: &[u8]) -> bool {
    let (mut cost, mut depth, mut in_text, mut escaped, mut opened) = (0, 0_usize, false, false, 0);
    for byte in bytes {
        if in_text {
            (escaped, in_text) = (*byte == b'\\' && !escaped, *byte != b'"' || escaped);
            continue;
        }
        if byte.is_ascii_whitespace() {
            continue;
        }
        // What is empty takes nothing of its own.
        cost += if matches!(byte, b'}' | b']') { 0 } else { opened };
        opened = 0;
        match byte {
            b'"' => in_text = true,
            b'{' | b'[' => {
                opened = if *byte == b'{' { COSTS.0 } else { COSTS.1 };
                depth += 1;
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b',' => cost += COSTS.2,
            _ => {}
        }
        if depth > MAX_DEPTH {
            return false;
        }
    }
    cost <= bytes.len().saturating_mul(MODEST.0).saturating_add(MODEST.1)
}

/// What a JSON object holds, where it is one and takes no more memory than can be spared for its length.
pub(crate) fn object(bytes: &[u8]) -> Option<Map<String, Value>> {
    if !is_modest(bytes) {
        return None;
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

/// A field that is text, and not empty.
pub(crate) fn text<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    fields.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A field that is an object.
pub(crate) fn fields<'a>(fields: &'a Map<String, Value>, name: &str) -> Option<&'a Map<String, Value>> {
    fields.get(name)?.as_object()
}

/// The elements of a field that is a list; none where it is not.
pub(crate) fn items<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a [Value] {
    fields.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The texts of a field that is a list of them.
pub(crate) fn texts(fields: &Map<String, Value>, name: &str) -> Vec<String> {
    items(fields, name).iter().filter_map(Value::as_str).take(MAX_ENTRIES).map(|text| clip(text, MAX_TEXT)).collect()
}

/// The entries of a field that is a map of texts, by name.
pub(crate) fn pairs(of: &Map<String, Value>, name: &str) -> Vec<(String, String)> {
    let entries = fields(of, name).into_iter().flatten();
    let pairs = entries.filter_map(|(name, value)| Some((name, value.as_str()?)));
    let mut pairs: Vec<_> =
        pairs.take(MAX_ENTRIES).map(|(name, value)| (clip(name, MAX_NAME), clip(value, MAX_TEXT))).collect();
    pairs.sort();
    pairs
}

/// A manifest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document(Map<String, Value>);

/// What a descriptor says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Descriptor<'a>(&'a Map<String, Value>);

impl Document {
    /// Reads one; empty where it is not a JSON object.
    pub(crate) fn read(payload: &[u8]) -> Self {
        Self(object(payload).unwrap_or_default())
    }

    /// The descriptor of the config.
    pub(crate) fn config(&self) -> Option<Descriptor<'_>> {
        fields(&self.0, "config").map(Descriptor)
    }

    /// The layers (of the artifact manifest that a release candidate of image-spec 1.1 had: the blobs).
    pub(crate) fn layers(&self) -> impl Iterator<Item = Descriptor<'_>> {
        let named = if self.0.contains_key("layers") { "layers" } else { "blobs" };
        items(&self.0, named).iter().filter_map(Value::as_object).map(Descriptor)
    }

    /// Whether it is an index.
    pub(crate) fn is_index(&self) -> bool {
        self.0.get("manifests").is_some_and(Value::is_array)
    }

    /// The entries of an index.
    pub(crate) fn entries(&self) -> impl Iterator<Item = Descriptor<'_>> {
        items(&self.0, "manifests").iter().filter_map(Value::as_object).map(Descriptor)
    }

    /// The artifact type that it says itself.
    pub(crate) fn artifact_type(&self) -> Option<&str> {
        text(&self.0, "artifactType")
    }

    /// An annotation.
    pub(crate) fn annotation(&self, name: &str) -> Option<&str> {
        text(fields(&self.0, "annotations")?, name)
    }

    /// Its annotations, by name.
    pub(crate) fn annotations(&self) -> Vec<(String, String)> {
        pairs(&self.0, "annotations")
    }

    /// Digests and sizes of the blobs that it is made of: its config and layers, each once.
    pub(crate) fn blobs(&self) -> HashMap<&str, i64> {
        self.config().into_iter().chain(self.layers()).filter_map(|d| Some((d.digest()?, d.size()))).collect()
    }
}

impl<'a> Descriptor<'a> {
    /// Media type of the content.
    pub(crate) fn media_type(self) -> &'a str {
        text(self.0, "mediaType").unwrap_or_default()
    }

    /// Digest of the content, as it is written there.
    pub(crate) fn digest(self) -> Option<&'a str> {
        text(self.0, "digest").filter(|digest| digest.len() <= MAX_NAME)
    }

    /// Length of the content; 0 where it is none.
    pub(crate) fn size(self) -> i64 {
        self.0.get("size").and_then(Value::as_i64).unwrap_or_default().max(0)
    }

    /// Artifact type of the content.
    pub(crate) fn artifact_type(self) -> Option<&'a str> {
        text(self.0, "artifactType")
    }

    /// An annotation.
    pub(crate) fn annotation(self, name: &str) -> Option<&'a str> {
        text(fields(self.0, "annotations")?, name)
    }

    /// What it runs on, as `linux/arm64/v8`; `None` where it says none, or `unknown/unknown` as attestations do.
    pub(crate) fn platform(self) -> Option<String> {
        platform(fields(self.0, "platform")?)
    }
}

/// A platform, of fields as those of a descriptor or of an image's config.
pub(crate) fn platform(of: &Map<String, Value>) -> Option<String> {
    let (os, architecture) = (text(of, "os")?, text(of, "architecture")?);
    if os == "unknown" && architecture == "unknown" {
        return None;
    }
    let parts = [Some(os), Some(architecture), text(of, "variant")];
    Some(clip(&parts.into_iter().flatten().collect::<Vec<_>>().join("/"), 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_clipped_between_characters_and_cannot_turn_what_surrounds_it() {
        assert_eq!(clip("héllo", 2), "h…");
        assert_eq!(clip("hello", 5), "hello");
        assert_eq!(clip("a\u{202e}b\u{0}c\nd\u{1b}", 100), "a\u{fffd}b\u{fffd}c\nd\u{fffd}");
    }

    #[test]
    fn what_takes_a_hundred_times_its_length_is_not_read() {
        let of = |element: &str, count: usize| format!("{{\"x\":[{}0]}}", element.repeat(count));
        for hostile in ["{\"\":0},", "[0],", "[{\"a\":[0]}],", "{\"{\":\"\\\"\"},"] {
            assert!(object(of(hostile, 100).as_bytes()).is_some(), "few of {hostile}");
            assert!(object(of(hostile, 100_000).as_bytes()).is_none(), "many of {hostile}");
        }
        let deep = |depth| format!("{{\"x\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(object(deep(MAX_DEPTH - 1).as_bytes()).is_some() && object(deep(MAX_DEPTH).as_bytes()).is_none());
        let digest = "a".repeat(64);
        for usual in [
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{digest}","size":7,"platform":{{"architecture":"amd64","os":"linux"}}}},"#
            ),
            r#"{"created":"1970-01-01T00:00:00Z","created_by":"store path","comment":""},"#.to_owned(),
            format!("\"sha256:{digest}\","),
            "0,".to_owned(),
            "{},".to_owned(),
            "\"[[[[{{{{,,,,\",".to_owned(),
        ] {
            assert!(object(of(&usual, 10_000).as_bytes()).is_some(), "{usual}");
        }
    }

    #[test]
    fn what_is_of_another_type_is_not_there() {
        for odd in
            ["", "null", "[]", "7", "\"x\"", "{", "{\"layers\":7,\"config\":[],\"annotations\":\"x\",\"manifests\":{}}"]
        {
            let document = Document::read(odd.as_bytes());
            assert!(document.config().is_none() && !document.is_index(), "{odd}");
            assert_eq!(document.layers().count() + document.annotations().len() + document.blobs().len(), 0, "{odd}");
        }
        let odd = br#"{"layers":[null,7,{"digest":5,"size":"9"},{"digest":"sha256:x","size":-4,"mediaType":null}],
                      "annotations":{"a":1,"b":null,"c":"text"}}"#;
        let document = Document::read(odd);
        assert_eq!(document.layers().map(Descriptor::size).collect::<Vec<_>>(), [0, 0]);
        assert_eq!(document.annotations(), [("c".to_owned(), "text".to_owned())]);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(Document::read(deep.as_bytes()).layers().count(), 0);
    }
}

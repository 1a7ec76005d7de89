//! An event of the log as one JSON object a line: `timestamp`, `level`, what the event says, `target`, and what the innermost
//! span of the request says (its id). Every request writes such a line: it is put together by hand, because a serializer
//! took a tenth of a small answer's time.

use std::cell::RefCell;
use std::fmt::{self, Write};

use identity::audit::export::rfc3339_ms;
use storage::clock::system_millis;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes events as lines.
pub(super) struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        thread_local! {
            static LINE: RefCell<String> = RefCell::default();
        }
        LINE.with_borrow_mut(|line| {
            line.clear();
            line.push_str("{\"timestamp\":\"");
            line.push_str(&rfc3339_ms(system_millis()));
            line.push_str("\",\"level\":\"");
            line.push_str(event.metadata().level().as_str());
            line.push('"');
            event.record(&mut Members(line));
            line.push_str(",\"target\":\"");
            escaped(line, event.metadata().target());
            line.push('"');
            let span = context.lookup_current();
            if let Some(fields) =
                span.as_ref().and_then(|span| span.extensions().get::<FormattedFields<N>>().map(|f| f.fields.clone()))
            {
                line.push_str(&fields);
            }
            line.push_str("}\n");
            writer.write_str(line)
        })
    }
}

/// Keeps what spans say as members of an object, each with its comma before it.
pub(super) struct Spans;

impl<'w> FormatFields<'w> for Spans {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut members = String::new();
        fields.record(&mut Members(&mut members));
        writer.write_str(&members)
    }
}

/// Adds members to an object that has one already.
struct Members<'a>(&'a mut String);

impl Members<'_> {
    fn name(&mut self, field: &Field) {
        self.0.push_str(",\"");
        escaped(self.0, field.name());
        self.0.push_str("\":");
    }

    fn plain(&mut self, field: &Field, value: impl fmt::Display) {
        self.name(field);
        // Writing into a String does not fail.
        let _ = write!(self.0, "{value}");
    }
}

impl Visit for Members<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.name(field);
        self.0.push('"');
        escaped(self.0, value);
        self.0.push('"');
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.plain(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.plain(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.plain(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // JSON has no word for what is no number.
        if value.is_finite() { self.plain(field, value) } else { self.plain(field, "null") }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.name(field);
        self.0.push('"');
        let _ = write!(Escaping(self.0), "{value:?}");
        self.0.push('"');
    }
}

struct Escaping<'a>(&'a mut String);

impl Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escaped(self.0, text);
        Ok(())
    }
}

/// Text between the quotes of a JSON string (RFC 8259 §7).
fn escaped(out: &mut String, text: &str) {
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.push_str(&text[plain..]);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn said(say: impl FnOnce()) -> Vec<Value> {
        let sink = Sink::default();
        let lines = sink.clone();
        let subscriber =
            tracing_subscriber::fmt().with_writer(move || lines.clone()).event_format(Lines).fmt_fields(Spans).finish();
        tracing::subscriber::with_default(subscriber, say);
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_is_an_object_of_what_was_said() {
        let lines = said(|| {
            let odd = "quote\" back\\ line\nreturn\r tab\t null\0 ü\u{7f}\u{2028}";
            tracing::info!(text = odd, shown = %odd, seen = ?Some(odd), n = -1, m = u64::MAX, yes = true, f = 1.5, "done");
            tracing::warn!(f = f64::NAN, "no \"number\"");
        });
        let odd = "quote\" back\\ line\nreturn\r tab\t null\0 ü\u{7f}\u{2028}";
        assert_eq!(lines.len(), 2);
        let time = lines[0]["timestamp"].as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with("20") && time.ends_with('Z'), "{time}");
        let first = &lines[0];
        assert_eq!((&first["text"], &first["shown"]), (&json!(odd), &json!(odd)));
        assert_eq!(first["seen"], json!(format!("{:?}", Some(odd))));
        assert_eq!(
            (&first["n"], &first["m"], &first["yes"], &first["f"]),
            (&json!(-1), &json!(u64::MAX), &json!(true), &json!(1.5))
        );
        assert_eq!(
            (&first["level"], &first["message"], &first["target"]),
            (&json!("INFO"), &json!("done"), &json!(module_path!()))
        );
        assert_eq!((&lines[1]["f"], &lines[1]["message"]), (&json!(null), &json!("no \"number\"")));
    }

    #[test]
    fn what_is_said_while_a_request_is_answered_has_its_id() {
        let lines = said(|| {
            let _inside = tracing::info_span!("request", request.id = "a\"b").entered();
            tracing::warn!("inside");
        });
        assert_eq!(lines[0]["request.id"], json!("a\"b"));
    }
}

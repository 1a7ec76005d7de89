//! Tables: what a column is called and where its value lies in the item.

use comfy_table::{Attribute, Cell, Color, ContentArrangement, Table};
use serde_json::Value;

/// A column of a table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    /// The heading.
    title: &'static str,
    /// The fields that may hold the value, the first that does wins; `a.b` looks into objects.
    fields: &'static [&'static str],
    /// Whether only wide tables have it.
    wide: bool,
}

/// A column of every table.
pub(crate) const fn col(title: &'static str, fields: &'static [&'static str]) -> Column {
    Column { title, fields, wide: false }
}

/// A column of wide tables.
pub(crate) const fn wide(title: &'static str, fields: &'static [&'static str]) -> Column {
    Column { title, fields, wide: true }
}

impl Column {
    fn value<'a>(&self, item: &'a Value) -> Option<&'a Value> {
        let found = |field: &&str| field.split('.').try_fold(item, |value, part| value.get(part));
        self.fields.iter().filter_map(found).find(|value| !value.is_null())
    }
}

/// A value as a cell shows it; `-` for what is not there.
fn show(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".into(),
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.into(),
        Some(Value::String(text)) if text.is_empty() => "-".into(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(items)) if items.is_empty() => "-".into(),
        Some(Value::Array(items)) => items.iter().map(|item| show(Some(item))).collect::<Vec<_>>().join(","),
        Some(Value::Object(fields)) => {
            let pairs = fields.iter().map(|(name, value)| format!("{}={}", clean(name), show(Some(value))));
            pairs.collect::<Vec<_>>().join(" ")
        }
        Some(number) => number.to_string(),
    }
}

/// Text without characters that move a cursor, change colours or reorder what is read.
pub(crate) fn clean(text: &str) -> String {
    let harmful = |c: char| {
        c != '\n' && c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.contains(harmful) {
        return text.to_owned();
    }
    let shown = text.chars().map(|c| if harmful(c) { c.escape_default().to_string() } else { c.to_string() });
    shown.collect()
}

fn one_line(text: String) -> String {
    if text.contains('\n') { text.replace('\n', "\\n") } else { text }
}

fn tint(text: &str) -> Option<Color> {
    match text {
        "active" | "ok" | "allowed" => Some(Color::Green),
        "invited" | "inactive" | "suspended" => Some(Color::Yellow),
        "denied" | "error" | "deleting" => Some(Color::Red),
        _ => None,
    }
}

fn cell(text: String, colour: bool) -> Cell {
    let tint = tint(&text).filter(|_| colour);
    let cell = Cell::new(text);
    if let Some(tint) = tint { cell.fg(tint) } else { cell }
}

fn bare(colour: bool) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.load_style(comfy_table::TableStyle::default());
    if colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

/// Many things, a line each.
pub(crate) fn rows(items: &[Value], columns: &[Column], all: bool, colour: bool) -> String {
    let columns: Vec<&Column> = columns.iter().filter(|column| all || !column.wide).collect();
    let mut table = bare(colour);
    table.set_header(columns.iter().map(|column| Cell::new(column.title).add_attribute(Attribute::Bold)));
    for item in items {
        table.add_row(columns.iter().map(|column| cell(one_line(show(column.value(item))), colour)));
    }
    text_of(table)
}

/// One thing, a line for each column that has a value.
pub(crate) fn sheet(item: &Value, columns: &[Column], colour: bool) -> String {
    let mut table = bare(colour);
    for column in columns {
        let value = column.value(item);
        if value.is_some() {
            let title = Cell::new(format!("{}:", column.title)).add_attribute(Attribute::Bold);
            table.add_row([title, cell(show(value), colour)]);
        }
    }
    text_of(table)
}

fn text_of(mut table: Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[col("NAME", &["name"]), col("WHO", &["user", "group"]), wide("AT", &["last.at"])];

    #[test]
    fn what_a_server_sends_cannot_drive_the_terminal() {
        let hostile = json!({"name": "a\u{1b}[2Jb\nc\u{9b}1m\u{202e}d"});
        let text = rows(&[hostile], COLUMNS, true, false);
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn columns_fall_back_and_look_inside() {
        let items = [json!({"name": "x", "user": null, "group": "ops", "last": {"at": "now"}})];
        assert_eq!(rows(&items, COLUMNS, true, false), "NAME  WHO  AT\nx     ops  now\n");
        assert_eq!(rows(&items, COLUMNS, false, false), "NAME  WHO\nx     ops\n");
        assert_eq!(sheet(&items[0], COLUMNS, false), "NAME:  x\nWHO:   ops\nAT:    now\n");
    }
}

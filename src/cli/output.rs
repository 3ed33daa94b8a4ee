//! The output of the commands: one entity or many, as a table, JSON, JSON lines or bare ids.
//!
//! JSON is the canonical JSON of the schema. Only this module and `export` write to standard output.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{ContentArrangement, Table, presets};
use prost::Message;
use prost_reflect::DynamicMessage;
use serde_json::Value;

use super::{
    Error,
    nouns::{ARTICLE, AUTHOR, COLLECTION, Noun, SECTION, TAG},
    terminal,
};
use cable_proto::POOL;

/// Rows that are aligned together; a longer listing is printed in parts.
const ROWS_PER_TABLE: usize = 500;

/// Minimum width of a table, in columns of the terminal. A narrower one is not readable.
const MIN_WIDTH: u16 = 60;

/// A format of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// One indented JSON value.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// Bare ids, one per line.
    Id,
}

impl Format {
    /// Returns the table on a terminal, else JSON lines.
    fn default_for_stdout() -> Self {
        if io::stdout().is_terminal() { Format::Table } else { Format::Jsonl }
    }
}

/// A message that can be printed.
#[derive(Debug)]
pub(crate) struct Entity(DynamicMessage);

impl From<DynamicMessage> for Entity {
    fn from(message: DynamicMessage) -> Self {
        Entity(message)
    }
}

impl Entity {
    /// Returns a message of the noun's type.
    pub(crate) fn new(noun: &Noun, message: &impl Message) -> Self {
        Entity::of(noun.message, message)
    }

    /// Returns a message of the named type.
    pub(crate) fn of(full_name: &str, message: &impl Message) -> Self {
        let descriptor = POOL.get_message_by_name(full_name).expect("callers name messages of the schema");
        let decoded = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice());
        Entity(decoded.expect("a message of the type named decodes as such"))
    }

    /// Returns the message.
    pub(crate) fn into_message(self) -> DynamicMessage {
        self.0
    }

    /// Returns canonical JSON on one line.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Returns canonical JSON, indented.
    pub(crate) fn pretty(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap_or_default()
    }

    /// Returns canonical JSON as a value.
    pub(crate) fn value(&self) -> Value {
        serde_json::to_value(&self.0).unwrap_or_default()
    }
}

/// Standard output in the requested format.
pub(crate) struct Output {
    format: Format,
    explicit: bool,
    width: Option<u16>,
    to: Box<dyn Write>,
}

impl Output {
    /// Returns the standard output of this process.
    pub(crate) fn stdout(format: Option<Format>) -> Self {
        Output {
            format: format.unwrap_or_else(Format::default_for_stdout),
            explicit: format.is_some(),
            width: terminal::width(),
            to: terminal::stdout(),
        }
    }

    /// Returns the format.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Returns whether the user requested this format.
    pub(crate) fn is_explicit(&self) -> bool {
        self.explicit
    }

    /// Prints `text` and ends the line, if `text` does not.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        let end = if text.ends_with('\n') { "" } else { "\n" };
        let written = write!(self.to, "{text}{end}").and_then(|()| self.to.flush());
        written.map_err(Error::stdout)
    }

    /// Clears the terminal, so that the next text replaces the last one. Does nothing if standard output is not a
    /// terminal.
    pub(crate) fn clear(&mut self) -> Result<(), Error> {
        self.to.flush().and_then(|()| terminal::clear()).map_err(Error::stdout)
    }

    /// Prints a body in Markdown for people, wrapped on a terminal.
    pub(crate) fn markdown(&mut self, text: &str) -> Result<(), Error> {
        match self.width {
            Some(width) => self.text(&terminal::wrap_markdown(text, width)),
            None => self.text(text),
        }
    }

    /// Prints one entity. As a table, it has one field per line and no body.
    pub(crate) fn one(&mut self, entity: &Entity) -> Result<(), Error> {
        let text = match self.format {
            Format::Table => fields_table(entity, self.width),
            Format::Json => entity.pretty(),
            Format::Jsonl => entity.line(),
            Format::Id => cell(&entity.value(), &["name"]),
        };
        self.text(&text)
    }

    /// Prints headings with their values.
    pub(crate) fn pairs(&mut self, rows: impl IntoIterator<Item = (String, String)>) -> Result<(), Error> {
        let text = pairs(rows, self.width);
        self.text(&text)
    }

    /// Prints an object that is not of the schema. As a table, it has one field per line.
    pub(crate) fn object(&mut self, object: &Value) -> Result<(), Error> {
        match self.format {
            Format::Table => {
                let fields = object.as_object().into_iter().flatten();
                self.pairs(fields.map(|(name, value)| (name.clone(), join_values(value))).collect::<Vec<_>>())
            }
            Format::Json => self.text(&format!("{object:#}")),
            Format::Jsonl => self.text(&object.to_string()),
            Format::Id => self.text(&cell(object, &["name"])),
        }
    }

    /// Prints objects that are not of the schema. Their table has these columns: a heading, and the field below it.
    pub(crate) fn objects(&mut self, columns: &[(&str, &str)], objects: &[Value]) -> Result<(), Error> {
        match self.format {
            Format::Table if objects.is_empty() => Ok(()),
            Format::Table => {
                let mut table = plain_table(self.width);
                table.set_header(columns.iter().map(|(heading, _)| *heading));
                for object in objects {
                    let cells = columns.iter().map(|(_, field)| cell(object, &[field]));
                    table.add_row(cells.map(|cell| terminal::escape(&cell).into_owned()));
                }
                self.text(&table_text(table))
            }
            Format::Json => self.text(&format!("{:#}", Value::from(objects.to_vec()))),
            Format::Jsonl | Format::Id => objects.iter().try_for_each(|object| self.object(object)),
        }
    }

    /// Starts a listing of the noun's entities.
    pub(crate) fn list<'a>(&'a mut self, noun: &'a Noun) -> Listing<'a> {
        Listing { output: self, noun, rows: Vec::new(), printed: 0 }
    }
}

/// A listing in progress. Before [`Listing::finish`], no part of it is certain to be printed.
pub(crate) struct Listing<'a> {
    output: &'a mut Output,
    noun: &'a Noun,
    rows: Vec<Vec<String>>,
    printed: usize,
}

impl Listing<'_> {
    /// Adds one entity.
    pub(crate) fn push(&mut self, entity: &Entity) -> Result<(), Error> {
        let first = self.printed == 0;
        match self.output.format {
            Format::Table => {
                let value = entity.value();
                let cells = self.noun.columns.iter().map(|(_, fields)| cell(&value, fields));
                self.rows.push(cells.map(|cell| terminal::escape(&cell).into_owned()).collect());
                return if self.rows.len() < ROWS_PER_TABLE { Ok(()) } else { self.print_rows() };
            }
            Format::Json => {
                let indented = entity.pretty().replace('\n', "\n  ");
                let before = if first { "[\n  " } else { ",\n  " };
                let written = write!(self.output.to, "{before}{indented}");
                written.map_err(Error::stdout)?;
            }
            Format::Jsonl => self.output.text(&entity.line())?,
            Format::Id => self.output.text(&cell(&entity.value(), &["name", "article/name"]))?,
        }
        self.printed += 1;
        Ok(())
    }

    /// Prints the rest of the listing. Returns the number of entities.
    pub(crate) fn finish(mut self) -> Result<usize, Error> {
        match self.output.format {
            Format::Table => self.print_rows()?,
            Format::Json if self.printed == 0 => self.output.text("[]")?,
            Format::Json => self.output.text("\n]")?,
            Format::Jsonl | Format::Id => {}
        }
        Ok(self.printed)
    }

    fn print_rows(&mut self) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut table = plain_table(self.output.width);
        if self.printed == 0 {
            table.set_header(self.noun.columns.iter().map(|(heading, _)| *heading));
        }
        self.printed += self.rows.len();
        table.add_rows(self.rows.drain(..));
        self.output.text(&table_text(table))
    }
}

fn plain_table(width: Option<u16>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    if let Some(width) = width {
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width.max(MIN_WIDTH));
    }
    table
}

/// Returns the text of the table, without spaces at the start and end of its lines.
fn table_text(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

/// Returns a table of headings and values.
fn pairs(rows: impl IntoIterator<Item = (String, String)>, width: Option<u16>) -> String {
    let mut table = plain_table(width);
    table.add_rows(rows.into_iter().map(|(heading, value)| [heading, terminal::escape(&value).into_owned()]));
    table_text(table)
}

/// Returns an entity with one field per line, in the order of the schema. The body is omitted: it has its own format
/// (`--body`).
fn fields_table(entity: &Entity, width: Option<u16>) -> String {
    let value = entity.value();
    let names = entity.0.fields().map(|(field, _)| field.json_name().to_owned());
    let shown = names.filter(|name| !matches!(name.as_str(), "body" | "renderedBody"));
    pairs(shown.filter_map(|name| value.get(&name).map(join_values).map(|text| (name, text))), width)
}

/// Returns the first of the fields that is set, in a short form.
fn cell(entity: &Value, fields: &[&str]) -> String {
    let value = fields.iter().find_map(|field| entity.pointer(&format!("/{field}")));
    match value {
        Some(Value::String(text)) => short_text(text),
        Some(Value::Array(items)) => items.len().to_string(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Returns a resource name without its kind, an enum value without its type, a time to the minute; else the text on one
/// line.
fn short_text(text: &str) -> String {
    for noun in [&ARTICLE, &AUTHOR, &SECTION, &TAG, &COLLECTION] {
        if let Some(id) = text.strip_prefix(noun.plural).and_then(|rest| rest.strip_prefix('/')) {
            return id.to_owned();
        }
    }
    if let Some(value) =
        ["TAG_KIND_", "ARTICLE_TYPE_", "ARTICLE_STATE_"].iter().find_map(|p| text.strip_prefix(p))
    {
        return value.to_ascii_lowercase();
    }
    match text.parse::<jiff::Timestamp>() {
        Ok(time) => format_minute(time),
        Err(_) => text.split_whitespace().collect::<Vec<_>>().join(" "),
    }
}

/// Returns a time to the minute, with its zone.
pub(crate) fn format_minute(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%MZ").to_string()
}

/// Returns a value for one cell: its readable parts, in its order.
fn join_values(value: &Value) -> String {
    let joined =
        |parts: Vec<String>| parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => joined(items.iter().map(join_values).collect()),
        Value::Object(fields) => joined(fields.values().map(join_values).collect()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use cable_proto::v1;

    #[derive(Clone, Default)]
    struct CaptureBuffer(Rc<RefCell<Vec<u8>>>);

    impl Write for CaptureBuffer {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(text)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn printed(format: Format, print: impl FnOnce(&mut Output)) -> String {
        let buffer = CaptureBuffer::default();
        let to = Box::new(buffer.clone());
        print(&mut Output { format, explicit: true, width: None, to });
        String::from_utf8(buffer.0.take()).unwrap()
    }

    fn tags() -> Vec<Entity> {
        let tag = |id: &str, name: &str, kind| v1::Tag {
            name: format!("tags/{id}"),
            display_name: name.into(),
            kind,
            revision: 7,
            ..Default::default()
        };
        let tags = [tag("harbour", "Harbour", 4), tag("q", "A \"q\"", 0)];
        tags.iter().map(|tag| Entity::new(&TAG, tag)).collect()
    }

    fn listed(format: Format, entities: &[Entity]) -> String {
        printed(format, |output| {
            let mut list = output.list(&TAG);
            for entity in entities {
                list.push(entity).unwrap();
            }
            list.finish().unwrap();
        })
    }

    #[test]
    fn a_listing_is_printed_in_each_format() {
        assert_eq!(listed(Format::Id, &tags()), "harbour\nq\n");
        let lines = listed(Format::Jsonl, &tags());
        assert_eq!(
            lines.lines().next(),
            Some(r#"{"name":"tags/harbour","revision":"7","displayName":"Harbour","kind":"TAG_KIND_PLACE"}"#)
        );
        let array: Value = serde_json::from_str(&listed(Format::Json, &tags())).unwrap();
        assert_eq!(array.as_array().unwrap().len(), 2);
        assert_eq!(array[1]["displayName"], "A \"q\"");
        let table = listed(Format::Table, &tags());
        let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0], ["ID", "NAME", "KIND", "DESCRIPTION"]);
        assert_eq!(rows[1], ["harbour", "Harbour", "place"]);
        assert!(table.lines().all(|line| line.trim() == line), "{table}");
    }

    #[test]
    fn an_empty_listing_is_valid_in_each_format() {
        assert_eq!(listed(Format::Json, &[]), "[]\n");
        for format in [Format::Table, Format::Jsonl, Format::Id] {
            assert_eq!(listed(format, &[]), "");
        }
    }

    #[test]
    fn a_long_table_has_one_heading() {
        let many: Vec<Entity> = (0..ROWS_PER_TABLE + 3).flat_map(|_| tags().into_iter().take(1)).collect();
        let table = listed(Format::Table, &many);
        assert_eq!(table.lines().count(), ROWS_PER_TABLE + 4);
        assert_eq!(table.matches("DESCRIPTION").count(), 1);
    }

    #[test]
    fn control_characters_are_escaped_in_tables() {
        let tag =
            v1::Tag { name: "tags/x".into(), display_name: "\u{1b}[2J\u{9b}".into(), ..Default::default() };
        let entity = Entity::new(&TAG, &tag);
        let listing = listed(Format::Table, std::slice::from_ref(&entity));
        let one = printed(Format::Table, |output| output.one(&entity).unwrap());
        for text in [listing, one] {
            assert!(text.contains("\\u001b[2J\\u009b") && !text.contains(['\u{1b}', '\u{9b}']), "{text:?}");
        }
    }

    #[test]
    fn nested_values_are_joined_for_a_cell() {
        let value =
            serde_json::json!({"credits": [{"author": "authors/a", "displayName": "Ann"}], "text": ""});
        assert_eq!(join_values(&value), "authors/a, Ann");
    }

    #[test]
    fn one_entity_has_a_row_per_field_without_its_body() {
        let article = v1::Article {
            headline: "Storm".into(),
            name: "articles/a".into(),
            tags: vec!["tags/x".into(), "tags/y".into()],
            body: Some(v1::Body::default()),
            ..Default::default()
        };
        let text = printed(Format::Table, |output| output.one(&Entity::new(&ARTICLE, &article)).unwrap());
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            rows,
            [vec!["name", "articles/a"], vec!["headline", "Storm"], vec!["tags", "tags/x,", "tags/y"]]
        );
    }
}

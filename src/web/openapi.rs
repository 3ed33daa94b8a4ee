//! The description of the resources in OpenAPI 3.1, made from the descriptors of the schema.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
};

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};

use super::{
    live,
    request::{Parameter, Resource},
};
use crate::{
    content::Read,
    model::{Kind as EntityKind, limit},
    wire::{POOL, json::put_string},
};

/// Where the description is served, under [`ROOT`].
pub(crate) const PATH: &str = "/v1/openapi.json";

const ABOUT: &str = "Content as JSON over HTTP, read-only. Each resource is the canonical JSON of the response of one \
                     method of cable.v1.ContentService. The revision at which it was served is in a header, because it \
                     differs between responses that are otherwise equal.";

/// Returns the description.
pub(crate) fn describe() -> String {
    let mut schemas = Schemas::default();
    let paths = resources()
        .into_iter()
        .map(|(path, resource)| (path, operation(&path_id(path), resource, &mut schemas)));
    let mut paths: Vec<(String, Json)> = paths.map(|(path, json)| (path.to_owned(), json)).collect();
    paths.push((live::PATH.to_owned(), feed_operation()));
    let parameters =
        Parameter::ALL.iter().map(|parameter| (parameter.name().to_owned(), describe_parameter(*parameter)));
    let parameters = parameters.collect();
    let schemas = schemas.finish();
    let info = object([
        ("title", text("Cable")),
        ("version", text(env!("CARGO_PKG_VERSION"))),
        ("description", text(ABOUT)),
    ]);
    let bearer = object([("type", text("http")), ("scheme", text("bearer"))]);
    let components = object([
        ("schemas", Json::Object(schemas)),
        ("parameters", Json::Object(parameters)),
        ("securitySchemes", object([("token", bearer)])),
    ]);
    let security = vec![object([]), object([("token", Json::Array(Vec::new()))])];
    let document = object([
        ("openapi", text("3.1.0")),
        ("info", info),
        ("security", Json::Array(security)),
        ("paths", Json::Object(paths)),
        ("components", components),
    ]);
    let mut out = String::new();
    document.write(&mut out, 0);
    out.push('\n');
    out
}

/// A value of JSON. The fields of an object keep their order.
enum Json {
    Text(String),
    Number(i64),
    Bool(bool),
    Array(Vec<Json>),
    Object(Vec<(String, Json)>),
}

fn text(text: impl Into<String>) -> Json {
    Json::Text(text.into())
}

fn object<const N: usize>(fields: [(&str, Json); N]) -> Json {
    Json::Object(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn reference(kind: &str, name: &str) -> Json {
    object([("$ref", text(format!("#/components/{kind}/{name}")))])
}

impl Json {
    fn write(&self, out: &mut String, depth: usize) {
        let indent = |out: &mut String, depth: usize| {
            out.push('\n');
            out.extend(std::iter::repeat_n("  ", depth));
        };
        let _ = match self {
            Json::Text(text) => {
                put_string(out, text);
                Ok(())
            }
            Json::Number(number) => write!(out, "{number}"),
            Json::Bool(value) => write!(out, "{value}"),
            Json::Array(values) if values.is_empty() => write!(out, "[]"),
            Json::Object(fields) if fields.is_empty() => write!(out, "{{}}"),
            Json::Array(values) => {
                let mut separator = '[';
                for value in values {
                    out.push(std::mem::replace(&mut separator, ','));
                    indent(out, depth + 1);
                    value.write(out, depth + 1);
                }
                indent(out, depth);
                write!(out, "]")
            }
            Json::Object(fields) => {
                let mut separator = '{';
                for (name, value) in fields {
                    out.push(std::mem::replace(&mut separator, ','));
                    indent(out, depth + 1);
                    put_string(out, name);
                    out.push_str(": ");
                    value.write(out, depth + 1);
                }
                indent(out, depth);
                write!(out, "}}")
            }
        };
    }
}

/// Returns the resources with their paths.
fn resources() -> Vec<(&'static str, Resource<'static>)> {
    vec![
        ("/v1/articles", Resource::Articles),
        ("/v1/articles/{id}", Resource::Entity(EntityKind::Article, "")),
        ("/v1/paths/{path}", Resource::Path("/")),
        ("/v1/authors", Resource::Entities(EntityKind::Author)),
        ("/v1/authors/{id}", Resource::Entity(EntityKind::Author, "")),
        ("/v1/sections", Resource::Entities(EntityKind::Section)),
        ("/v1/sections/{id}", Resource::Entity(EntityKind::Section, "")),
        ("/v1/tags", Resource::Entities(EntityKind::Tag)),
        ("/v1/tags/{id}", Resource::Entity(EntityKind::Tag, "")),
        ("/v1/collections", Resource::Entities(EntityKind::Collection)),
        ("/v1/collections/{id}", Resource::Entity(EntityKind::Collection, "")),
    ]
}

/// Returns the parameter in a path.
fn path_id(path: &str) -> Option<(&'static str, &'static str)> {
    match path.rsplit('/').next() {
        Some("{id}") => {
            Some(("id", "The client's id of the entity: 1 to 128 characters of A-Z a-z 0-9 . _ ~ -."))
        }
        Some("{path}") => {
            Some(("path", "The path on the site without its first slash. It may contain slashes."))
        }
        _ => None,
    }
}

/// Describes the GET of a resource.
fn operation(in_path: &Option<(&str, &str)>, resource: Resource<'_>, schemas: &mut Schemas) -> Json {
    let read = resource.read();
    let mut parameters: Vec<Json> = Vec::new();
    if let Some((name, about)) = in_path {
        parameters.push(object([
            ("name", text(*name)),
            ("in", text("path")),
            ("required", Json::Bool(true)),
            ("description", text(*about)),
            ("schema", object([("type", text("string"))])),
        ]));
    }
    let named = resource.parameters().iter().map(|parameter| reference("parameters", parameter.name()));
    parameters.extend(named);
    parameters.push(header_parameter(
        "If-None-Match",
        "Etags of responses that the client has; the response is 304 if one is current.",
    ));
    parameters.push(header_parameter("Cable-At-Least", "As `at_least_revision`. The larger one counts."));
    let mut found = vec![("description".to_owned(), text("The response of the method."))];
    found.push(("headers".to_owned(), response_headers()));
    let body = schemas.reference(&format!("cable.v1.{}Response", read.method()));
    found.push(("content".to_owned(), object([("application/json", object([("schema", body)]))])));
    let mut responses = vec![("200".to_owned(), Json::Object(found))];
    responses.push((
        "304".to_owned(),
        object([("description", text("The response that the client has is current."))]),
    ));
    let is_named = in_path.is_some();
    for (status, about, is_possible) in [
        ("308", "The entity has moved to the name in `Location`.", is_named),
        ("400", "A parameter is not valid; the error names it.", true),
        ("401", "The credential is missing or not valid.", true),
        ("403", "The role of the caller does not allow it.", true),
        ("404", "The entity does not exist or is not visible.", is_named),
        ("410", "The entity was removed; the error has the reason.", is_named),
        ("429", "The caller makes too many calls: wait for `Retry-After`.", true),
        (
            "503",
            "The node cannot serve the request now: retry after `Retry-After`, or at another node.",
            true,
        ),
    ] {
        if is_possible {
            let content = object([("application/json", object([("schema", reference("schemas", STATUS))]))]);
            responses.push((status.to_owned(), object([("description", text(about)), ("content", content)])));
        }
    }
    let get = object([
        ("operationId", text(read.method())),
        ("summary", text(method_comment(read))),
        ("parameters", Json::Array(parameters)),
        ("responses", Json::Object(responses)),
    ]);
    object([("get", get)])
}

fn header_parameter(name: &str, about: &str) -> Json {
    object([
        ("name", text(name)),
        ("in", text("header")),
        ("description", text(about)),
        ("schema", object([("type", text("string"))])),
    ])
}

fn response_headers() -> Json {
    let header =
        |about: &str| object([("description", text(about)), ("schema", object([("type", text("string"))]))]);
    object([
        ("ETag", header("The etag of the response, for `If-None-Match`.")),
        (
            "Cache-Control",
            header("How long caches may reuse the response; `private` if the request had a credential."),
        ),
        ("Surrogate-Key", header("The keys of all that the response rests on, separated by spaces.")),
        ("Cable-Revision", header("The revision at which the response was served.")),
    ])
}

fn describe_parameter(parameter: Parameter) -> Json {
    let string = || object([("type", text("string"))]);
    let flag = || object([("type", text("boolean"))]);
    let number = |minimum: i64, maximum: Option<i64>| {
        let mut fields =
            vec![("type".to_owned(), text("integer")), ("minimum".to_owned(), Json::Number(minimum))];
        fields.extend(maximum.map(|maximum| ("maximum".to_owned(), Json::Number(maximum))));
        Json::Object(fields)
    };
    let (about, schema) = match parameter {
        Parameter::Tag => {
            ("Ids of tags, separated by commas. The articles have all of them; at most 64.", string())
        }
        Parameter::AnyTag => {
            ("Ids of tags, separated by commas. The articles have at least one; at most 64.", string())
        }
        Parameter::Section => {
            ("The id of a section, the main or an additional one of the articles.", string())
        }
        Parameter::Author => {
            ("Ids of authors, separated by commas. The articles credit at least one; at most 64.", string())
        }
        Parameter::PageSize => (
            "The largest number of entities on the page. Unset or 0: 50. Larger values are treated as 1,000.",
            number(0, Some(i64::from(i32::MAX))),
        ),
        Parameter::PageToken => ("The `nextPageToken` of the page before. Unset: the first page.", string()),
        Parameter::View => (
            "The fields of the articles. Unset: full for one article, basic for several.",
            one_of(&["reference", "basic", "full"]),
        ),
        Parameter::Body => (
            "The format of bodies, in the full view. Unset: blocks.",
            one_of(&["blocks", "html", "markdown", "plain_text"]),
        ),
        Parameter::Include => {
            ("The kinds of entities to include, separated by commas: authors, sections and tags.", string())
        }
        Parameter::AtLeastRevision => (
            "The minimum revision to serve the request at, such as that of a write. The node waits for it up to 1 s.",
            number(0, None),
        ),
        Parameter::Kind => (
            "Kinds of entities, separated by commas: article, author, section, tag and collection. Unset: all.",
            string(),
        ),
        Parameter::After => (
            "Starts after this position: the id of an event, `LOG:REVISION:CHAIN`. The chain, and the log before the \
             revision, may be left out. Unset: the feed starts now.",
            string(),
        ),
        Parameter::Snapshot => ("Starts with everything that matches now.", flag()),
        Parameter::Reset => (
            "If the feed cannot resume at its position, it sends `reset` and a snapshot instead of an error.",
            flag(),
        ),
        Parameter::Backfill => ("Delivers writes that load old content, too.", flag()),
        Parameter::Interval => {
            ("The longest silence of the stream in seconds, 1 to 300. Unset: 10.", number(1, Some(300)))
        }
    };
    in_query(parameter, about, schema)
}

/// Describes a parameter of the feed, which for some has another meaning.
fn describe_feed_parameter(parameter: Parameter) -> Json {
    let about = match parameter {
        Parameter::Tag => "Ids of tags, separated by commas. The articles have at least one; at most 64.",
        Parameter::Section => {
            "Ids of sections, separated by commas. The articles are in at least one; at most 64."
        }
        Parameter::View => "The fields of the articles. Unset: basic.",
        other => return describe_parameter(other),
    };
    let schema = match parameter {
        Parameter::View => one_of(&["reference", "basic", "full"]),
        _ => object([("type", text("string"))]),
    };
    in_query(parameter, about, schema)
}

fn in_query(parameter: Parameter, about: &str, schema: Json) -> Json {
    object([
        ("name", text(parameter.name())),
        ("in", text("query")),
        ("description", text(about)),
        ("schema", schema),
    ])
}

fn one_of(words: &[&str]) -> Json {
    let words = words.iter().map(|word| text(*word)).collect();
    object([("type", text("string")), ("enum", Json::Array(words))])
}

/// Describes the GET of the feed.
fn feed_operation() -> Json {
    let mut parameters: Vec<Json> = live::PARAMETERS.into_iter().map(describe_feed_parameter).collect();
    parameters.push(header_parameter("Last-Event-ID", "As `after`, which it replaces. Browsers send it."));
    let events = object([("text/event-stream", object([("schema", object([("type", text("string"))]))]))]);
    let about = "Server-sent events. The type of an event is that of the event of a WatchResponse (`changes`, \
                 `snapshot`, `snapshot_end`, `checkpoint` or `reset`), its data the JSON of that event, and its id, \
                 where there is one, the position to resume after. The event `failed`, an error, is the last.";
    let found = object([("description", text(about)), ("content", events)]);
    let mut responses = vec![("200".to_owned(), found)];
    for (status, about) in [
        (
            "400",
            "A parameter is not valid, or the feed cannot resume at its position; the error has the reason.",
        ),
        ("401", "The credential is missing or not valid."),
        ("403", "The filter of the credential does not allow feeds."),
        ("429", "Too many feeds are open: wait for `Retry-After`."),
        ("503", "The node cannot serve the feed now: retry after `Retry-After`, or at another node."),
    ] {
        let content = object([("application/json", object([("schema", reference("schemas", STATUS))]))]);
        responses.push((status.to_owned(), object([("description", text(about)), ("content", content)])));
    }
    let get = object([
        ("operationId", text("Watch")),
        ("summary", text("Streams the changes to everything that a filter matches.")),
        ("parameters", Json::Array(parameters)),
        ("responses", Json::Object(responses)),
    ]);
    object([("get", get)])
}

/// The name of the schema of errors.
const STATUS: &str = "google.rpc.Status";

/// The messages that are described, and those that remain.
#[derive(Default)]
struct Schemas {
    seen: BTreeSet<String>,
    open: VecDeque<MessageDescriptor>,
}

impl Schemas {
    /// Returns a reference to a message, which is described too.
    fn reference(&mut self, message: &str) -> Json {
        if let Some(descriptor) =
            POOL.get_message_by_name(message).filter(|_| self.seen.insert(message.to_owned()))
        {
            self.open.push_back(descriptor);
        }
        reference("schemas", message)
    }

    fn finish(mut self) -> Vec<(String, Json)> {
        let mut described = vec![(STATUS.to_owned(), status())];
        while let Some(message) = self.open.pop_front() {
            let properties = message.fields().map(|field| {
                let mut schema = self.field(&field);
                let comment = comment(&field.parent_file(), field.path());
                if let (Json::Object(fields), false) = (&mut schema, comment.is_empty()) {
                    fields.push(("description".to_owned(), text(comment)));
                }
                (field.json_name().to_owned(), schema)
            });
            let properties = properties.collect();
            let schema = object([
                ("type", text("object")),
                ("description", text(comment(&message.parent_file(), message.path()))),
                ("properties", Json::Object(properties)),
            ]);
            described.push((message.full_name().to_owned(), schema));
        }
        described.sort_by(|(one, _), (other, _)| one.cmp(other));
        described
    }

    fn field(&mut self, field: &FieldDescriptor) -> Json {
        if field.is_map() {
            let value = field.kind().as_message().map(|entry| entry.map_entry_value_field().kind());
            let value = value.map_or(object([]), |kind| self.value(&kind));
            return object([("type", text("object")), ("additionalProperties", value)]);
        }
        let value = self.value(&field.kind());
        match field.cardinality() {
            Cardinality::Repeated => object([("type", text("array")), ("items", value)]),
            _ => value,
        }
    }

    fn value(&mut self, kind: &Kind) -> Json {
        let typed = |name: &str| object([("type", text(name))]);
        let formatted = |format: &str| object([("type", text("string")), ("format", text(format))]);
        match kind {
            Kind::Bool => typed("boolean"),
            Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Fixed32 | Kind::Sfixed32 => typed("integer"),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => formatted("int64"),
            Kind::Uint64 | Kind::Fixed64 => formatted("uint64"),
            Kind::Float | Kind::Double => typed("number"),
            Kind::String => typed("string"),
            Kind::Bytes => object([("type", text("string")), ("contentEncoding", text("base64"))]),
            Kind::Enum(of) => words(of),
            Kind::Message(message) => match message.full_name() {
                "google.protobuf.Timestamp" => formatted("date-time"),
                "google.protobuf.Duration" => formatted("duration in seconds"),
                name => self.reference(name),
            },
        }
    }
}

/// Describes the values of an enum. A value that this version of the schema does not know is a number.
fn words(of: &EnumDescriptor) -> Json {
    let names = of.values().map(|value| text(value.name())).collect();
    let known = object([("type", text("string")), ("enum", Json::Array(names))]);
    object([("anyOf", Json::Array(vec![known, object([("type", text("integer"))])]))])
}

/// Describes an error.
fn status() -> Json {
    let string = || object([("type", text("string"))]);
    let detail = object([
        ("type", text("object")),
        ("description", text("ErrorInfo, BadRequest, ResourceInfo or RetryInfo, as `@type` states.")),
        ("properties", object([("@type", string()), ("reason", string())])),
        ("required", Json::Array(vec![text("@type")])),
    ]);
    let about = format!(
        "An error. Clients decide by the reason in the detail ErrorInfo, not by the message. All errors are listed in \
         docs/reference/errors.md. A document above {} bytes is one, too.",
        limit::JSON_RESPONSE.maximum
    );
    object([
        ("type", text("object")),
        ("description", text(about)),
        (
            "properties",
            object([
                ("code", object([("type", text("integer")), ("description", text("The code of gRPC."))])),
                ("message", string()),
                ("details", object([("type", text("array")), ("items", detail)])),
            ]),
        ),
    ])
}

/// Returns the comment of a method in the schema.
fn method_comment(read: Read) -> String {
    let service = POOL.get_service_by_name("cable.v1.ContentService");
    let method = service.and_then(|service| service.methods().find(|method| method.name() == read.method()));
    let whole = method.map(|method| comment(&method.parent_file(), method.path())).unwrap_or_default();
    whole.split(". ").next().map(|first| first.trim_end_matches('.').to_owned()).unwrap_or_default()
}

/// Returns the comment at a place in the schema, in one line.
fn comment(file: &FileDescriptor, path: &[i32]) -> String {
    let info = file.file_descriptor_proto().source_code_info.as_ref();
    let location = info.and_then(|info| info.location.iter().find(|location| location.path == path));
    let text = location.map(|location| location.leading_comments().to_owned()).unwrap_or_default();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::{super::request::ROOT, *};

    #[test]
    fn every_reference_leads_to_a_description_and_every_parameter_has_one() {
        let description = describe();
        let parsed: Value = serde_json::from_str(&description).unwrap();
        let mut references = 0;
        for part in description.split("\"$ref\": \"#/").skip(1) {
            let pointer = format!("/{}", part.split('"').next().unwrap());
            assert!(parsed.pointer(&pointer).is_some(), "{pointer}");
            references += 1;
        }
        assert!(references > 100, "{references}");
        for (path, resource) in resources() {
            let at = path.replace("{id}", "x").replace("{path}", "x");
            assert_eq!(Resource::at(&at).map(Resource::read), Some(resource.read()), "{path}");
            assert!(path.starts_with(ROOT));
            let get = &parsed["paths"][path]["get"];
            assert_eq!(get["operationId"], resource.read().method());
            assert!(!get["summary"].as_str().unwrap().is_empty(), "{path}");
        }
        let feed = &parsed["paths"][live::PATH]["get"];
        let parameters = feed["parameters"].as_array().unwrap();
        for parameter in live::PARAMETERS {
            assert!(parameters.iter().any(|of| of["name"] == parameter.name()), "{}", parameter.name());
        }
        assert_eq!(parsed["paths"].as_object().unwrap().len(), resources().len() + 1);
        let headline = &parsed["components"]["schemas"]["cable.v1.Article"]["properties"]["headline"];
        assert!(headline["type"] == "string" && headline["description"].is_string(), "{headline}");
    }
}

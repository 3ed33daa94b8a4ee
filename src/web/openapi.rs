//! The description of the resources in OpenAPI 3.1, made from the descriptors of the schema.

use std::{
    collections::{BTreeSet, VecDeque},
    fmt::Write as _,
};

use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};

use super::{
    live,
    request::{Parameter, Resource},
    syndication::{Address, Format},
};
use crate::{
    content::Read,
    model::limit,
    wire::{POOL, json::put_string},
};

/// Where the description is served, under [`ROOT`].
pub(crate) const PATH: &str = "/v1/openapi.json";

const ABOUT: &str = "Content over HTTP, read-only. Each resource under /v1 is the canonical JSON of the response of one \
                     method of cable.v1.ContentService; feeds and sitemaps are made from the same articles. The revision at which it was served is in a header, because it \
                     differs between responses that are otherwise equal.";

/// Returns the description.
pub(crate) fn describe() -> String {
    let mut schemas = Schemas::default();
    let resources = Resource::forms().map(|resource| {
        let path = resource.template();
        let operation = operation(&path, resource, &mut schemas);
        (path, operation)
    });
    let mut paths: Vec<(String, Json)> = resources.collect();
    paths.push((live::PATH.to_owned(), feed_operation()));
    paths.push((PATH.to_owned(), own_operation()));
    paths.extend(Address::forms().map(|address| {
        let path = address.template();
        let operation = output_operation(&path, address);
        (path, operation)
    }));
    let parameters =
        Parameter::ALL.iter().map(|parameter| (parameter.name().to_owned(), describe_parameter(*parameter)));
    let headers =
        REQUEST_HEADERS.iter().map(|(name, about)| ((*name).to_owned(), header_parameter(name, about)));
    let parameters = parameters.chain(headers).collect();
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
        ("headers", object(HEADERS.map(|(name, about)| (name, response_header(about))))),
        ("responses", object(ERRORS.map(|(status, about)| (status, error_response(status, about))))),
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

/// Describes the parameter in a path.
fn path_parameter(path: &str) -> Option<Json> {
    let string = || vec![("type".to_owned(), text("string"))];
    let (name, about, schema) = if path.contains("{id}") {
        ("id", "The client's id of the entity: 1 to 128 characters of A-Z a-z 0-9 . _ ~ -.", string())
    } else if path.contains("{path}") {
        (
            "path",
            "The path on the site without its first slash. Its slashes and other characters may be encoded or not.",
            string(),
        )
    } else if path.contains("{month}") {
        let mut month = string();
        month.push(("pattern".to_owned(), text("^[0-9]{4}-(0[1-9]|1[0-2])(-[1-9][0-9]*)?$")));
        ("month", "A month in UTC, and the number of a part after the first: `2026-11`, `2026-11-2`.", month)
    } else {
        return None;
    };
    Some(object([
        ("name", text(name)),
        ("in", text("path")),
        ("required", Json::Bool(true)),
        ("description", text(about)),
        ("schema", Json::Object(schema)),
    ]))
}

/// Describes the GET of a resource.
fn operation(path: &str, resource: Resource<'_>, schemas: &mut Schemas) -> Json {
    let read = resource.read();
    let body = schemas.reference(&format!("cable.v1.{}Response", read.method()));
    let named = |about| path_parameter(path).map(|_| about);
    document(
        path,
        (read.method(), method_comment(read)),
        resource.parameters(),
        ("The response of the method.", "application/json", body),
        &[
            ("308", named("The entity has moved to the name in `Location`.")),
            ("404", named("The entity does not exist or is not visible.")),
            ("410", named(GONE)),
        ],
    )
}

const GONE: &str = "The entity was removed; the error has the reason.";

/// Describes the GET of a feed or a sitemap.
fn output_operation(path: &str, address: Address<'_>) -> Json {
    let (id, summary, about) = match address {
        Address::Feed(None, format) => (
            format!("AllFeed{}", id_of(format)),
            format!("Returns the newest 50 articles as {}.", format.name()),
            "The feed.",
        ),
        Address::Feed(Some((kind, _)), format) => {
            let noun = kind.noun();
            let upper = noun[..1].to_uppercase() + &noun[1..];
            (
                format!("{upper}Feed{}", id_of(format)),
                format!("Returns the newest 50 articles of one {noun} as {}.", format.name()),
                "The feed.",
            )
        }
        Address::Index => (
            "SitemapIndex".to_owned(),
            "Returns the index of the sitemaps: one for each month that has articles.".to_owned(),
            "The index.",
        ),
        Address::Month(..) => (
            "MonthSitemap".to_owned(),
            "Returns the pages of the articles published in one month, 5,000 in a part.".to_owned(),
            "The sitemap.",
        ),
        Address::News => (
            "NewsSitemap".to_owned(),
            "Returns the pages of the last 48 hours, at most 1,000, for Google News.".to_owned(),
            "The sitemap.",
        ),
    };
    let media_type = address.content_type();
    let body = object([("type", text(if media_type.ends_with("json") { "object" } else { "string" }))]);
    let named = |about| matches!(address, Address::Feed(Some(_), _)).then_some(about);
    document(
        path,
        (&id, summary),
        &[Parameter::AtLeastRevision],
        (about, media_type, body),
        &[
            ("308", named("The entity has moved; `Location` is the feed of its new name.")),
            ("404", Some("There is none, or the setting `site.url` is not set; the message states which.")),
            ("410", named(GONE)),
        ],
    )
}

/// Returns the name of a format in an operation id.
fn id_of(format: Format) -> String {
    format.name().split(' ').next().unwrap_or_default().to_owned()
}

/// The headers of requests.
const REQUEST_HEADERS: [(&str, &str); 3] = [
    ("If-None-Match", "Etags of responses that the client has; the response is 304 if one is current."),
    ("If-Match", "Etags of the response that the client expects; the response is 412 if none is current."),
    ("Cable-At-Least", "As `at_least_revision`. The larger one counts."),
];

/// The headers of responses.
const HEADERS: [(&str, &str); 8] = [
    ("ETag", "The etag of the response, for `If-None-Match`."),
    ("Cache-Control", "How long caches may reuse the response; `private` if the request had a credential."),
    ("Surrogate-Key", "The keys of everything that the response depends on, separated by spaces."),
    ("Cable-Revision", "The revision at which the response was served."),
    ("Location", "The new address, with the parameters of the request."),
    ("Allow", "`GET, HEAD`."),
    ("WWW-Authenticate", "`Bearer`."),
    ("Retry-After", "The seconds to wait, where a later attempt can succeed."),
];

/// The errors that several resources have.
const ERRORS: [(&str, &str); 9] = [
    ("400", "A parameter or the head of the request is not valid; the error names the part at fault."),
    ("401", "The credential is missing or not valid."),
    ("403", "The role of the caller, or the origin of the page, does not allow it."),
    ("405", "The method is neither GET nor HEAD."),
    ("412", "No etag in `If-Match` is that of the response; the error has the current one."),
    ("421", "The node listens on loopback, and `Host` is neither an IP address nor `localhost`."),
    ("429", "The caller makes too many calls: wait for `Retry-After`."),
    (NO_BODY, "The headers are larger than 16 KiB. The response has no body."),
    ("503", "The node cannot serve the request now: retry after `Retry-After`, or at another node."),
];

/// The error that the connection itself sends.
const NO_BODY: &str = "431";

/// The errors of the description itself, which needs no credential.
const OWN_ERRORS: [&str; 6] = ["400", "403", "405", "412", "421", NO_BODY];

/// Returns the response with an error that several resources have.
fn shared_error(status: &str) -> (String, Json) {
    (status.to_owned(), reference("responses", status))
}

/// Describes the GET of a document. `outcomes` are the statuses that only some documents have.
fn document(
    path: &str,
    (id, summary): (&str, String),
    in_query: &[Parameter],
    (about, media_type, body): (&str, &str, Json),
    outcomes: &[(&str, Option<&str>)],
) -> Json {
    let mut parameters: Vec<Json> = path_parameter(path).into_iter().collect();
    parameters.extend(in_query.iter().map(|parameter| reference("parameters", parameter.name())));
    parameters.extend(REQUEST_HEADERS.iter().map(|(name, _)| reference("parameters", name)));
    let found = object([
        ("description", text(about)),
        ("headers", response_headers()),
        ("content", object([(media_type, object([("schema", body)]))])),
    ]);
    let current = object([
        ("description", text("The response that the client has is current.")),
        ("headers", response_headers()),
    ]);
    let mut responses = vec![("200".to_owned(), found), ("304".to_owned(), current)];
    responses.extend(ERRORS.iter().map(|(status, _)| shared_error(status)));
    let own = outcomes.iter().filter_map(|(status, about)| Some((*status, (*about)?)));
    responses.extend(own.map(|(status, about)| (status.to_owned(), error_response(status, about))));
    responses.sort_by(|(one, _), (other, _)| one.cmp(other));
    let get = object([
        ("operationId", text(id)),
        ("summary", text(summary)),
        ("parameters", Json::Array(parameters)),
        ("responses", Json::Object(responses)),
    ]);
    object([("get", get)])
}

/// Describes the GET of this description.
fn own_operation() -> Json {
    let body = object([("type", text("object"))]);
    let content = object([("application/json", object([("schema", body)]))]);
    let headers = || headers(&["ETag", "Cache-Control"]);
    let found =
        object([("description", text("The description.")), ("headers", headers()), ("content", content)]);
    let about = "The description that the client has is current.";
    let current = object([("description", text(about)), ("headers", headers())]);
    let mut responses = vec![("200".to_owned(), found), ("304".to_owned(), current)];
    responses.extend(OWN_ERRORS.map(shared_error));
    let get = object([
        ("operationId", text("Describe")),
        ("summary", text("Returns this description.")),
        ("parameters", Json::Array(Vec::new())),
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

/// Describes the response with an error.
fn error_response(status: &str, about: &str) -> Json {
    if status == NO_BODY {
        return object([("description", text(about))]);
    }
    let content = object([("application/json", object([("schema", reference("schemas", STATUS))]))]);
    let mut names = vec!["Cache-Control"];
    names.extend(match status {
        "308" => Some("Location"),
        "401" => Some("WWW-Authenticate"),
        "405" => Some("Allow"),
        "429" | "503" => Some("Retry-After"),
        _ => None,
    });
    names.extend(["308", "404", "410"].contains(&status).then_some("Surrogate-Key"));
    object([("description", text(about)), ("headers", headers(&names)), ("content", content)])
}

fn response_header(about: &str) -> Json {
    object([("description", text(about)), ("schema", object([("type", text("string"))]))])
}

/// Describes the headers of a response, each of [`HEADERS`].
fn headers(names: &[&str]) -> Json {
    Json::Object(names.iter().map(|name| ((*name).to_owned(), reference("headers", name))).collect())
}

fn response_headers() -> Json {
    headers(&["ETag", "Cache-Control", "Surrogate-Key", "Cable-Revision"])
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
        Parameter::Include => (
            "The kinds of entities to include, one or more of authors, sections and tags, separated by commas.",
            string(),
        ),
        Parameter::AtLeastRevision => (
            "The minimum revision to serve the request at, such as that of a write. The node waits for it up to 1 s.",
            number(0, None),
        ),
        Parameter::Kind => (
            "Kinds of entities, one or more of article, author, section, tag and collection, separated by commas. Unset: all.",
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
    let own = [
        (
            "400",
            "A parameter is not valid, or the feed cannot resume at its position; the error has the reason.",
        ),
        ("403", "The filter of the credential, or the origin of the page, does not allow it."),
        ("429", "Too many feeds are open: wait for `Retry-After`."),
        ("503", "The node cannot serve the feed now: retry after `Retry-After`, or at another node."),
    ];
    responses.extend(own.map(|(status, about)| (status.to_owned(), error_response(status, about))));
    responses.extend(["401", "405", "421", NO_BODY].map(shared_error));
    responses.sort_by(|(one, _), (other, _)| one.cmp(other));
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

    use super::{
        super::{files, request::ROOT},
        *,
    };

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
        for resource in Resource::forms() {
            let path = resource.template();
            let at = path.replace("{id}", "x").replace("{path}", "x");
            assert_eq!(Resource::at(&at).map(Resource::read), Some(resource.read()), "{path}");
            assert!(path.starts_with(ROOT));
            let get = &parsed["paths"][&path]["get"];
            assert_eq!(get["operationId"], resource.read().method());
            assert!(!get["summary"].as_str().unwrap().is_empty(), "{path}");
        }
        let feed = &parsed["paths"][live::PATH]["get"];
        let parameters = feed["parameters"].as_array().unwrap();
        for parameter in live::PARAMETERS {
            assert!(parameters.iter().any(|of| of["name"] == parameter.name()), "{}", parameter.name());
        }
        let headline = &parsed["components"]["schemas"]["cable.v1.Article"]["properties"]["headline"];
        assert!(headline["type"] == "string" && headline["description"].is_string(), "{headline}");
    }

    #[test]
    fn every_route_is_described() {
        let parsed: Value = serde_json::from_str(&describe()).unwrap();
        let mut described = parsed["paths"].as_object().unwrap().clone();
        for address in Address::forms() {
            let path = address.template();
            let at = path.replace("{id}", "x").replace("{month}", "2026-11-2");
            let found = Address::at(&at).unwrap_or_else(|| panic!("{path}: no such route"));
            assert_eq!((found.template(), found.content_type()), (path.clone(), address.content_type()));
            let get =
                described.remove(&path).unwrap_or_else(|| panic!("{path}: not described"))["get"].clone();
            let content = get["responses"]["200"]["content"].as_object().unwrap();
            assert_eq!(content.keys().collect::<Vec<_>>(), [address.content_type()], "{path}");
            assert!(!get["summary"].as_str().unwrap().is_empty(), "{path}");
        }
        for resource in Resource::forms() {
            assert!(
                described.remove(&resource.template()).is_some(),
                "{}: not described",
                resource.template()
            );
        }
        assert!(described.remove(live::PATH).is_some());
        // The files other than the page and its parts.
        for path in files::paths().filter(|path| !["/", "/room.js", "/room.css"].contains(path)) {
            assert!(described.remove(path).is_some(), "{path}: not described");
        }
        assert!(described.is_empty(), "described, but no route: {described:?}");
        let mut ids = std::collections::HashSet::new();
        for path in parsed["paths"].as_object().unwrap().values() {
            assert!(ids.insert(path["get"]["operationId"].as_str().unwrap()), "{path}");
        }
    }
}

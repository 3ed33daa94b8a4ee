//! The resources under `/v1`, and the parameters of each: a GET is the call of one method, with the same request.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _, sync::Arc};

use bytes::Bytes;

use crate::{
    content::{Read, key_of},
    model::{Kind, Name, number, path},
    refusal::Refusal,
    wire::v1::{self, ArticleView, BodyFormat, Freshness, Include},
};

/// The start of the paths of all resources.
pub(crate) const ROOT: &str = "/v1";

/// The header that has the meaning of the parameter `at_least_revision`.
pub(crate) const AT_LEAST_HEADER: &str = "cable-at-least";

/// A resource, by the path of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// The articles that match a filter.
    Articles,
    /// The article that a path of the site leads to. The path starts after `/v1/paths`.
    Path(&'a str),
    /// All entities of a kind other than articles.
    Entities(Kind),
    /// One entity, by its id as the path has it.
    Entity(Kind, &'a str),
}

/// A parameter of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Parameter {
    Tag,
    AnyTag,
    Section,
    Author,
    PageSize,
    PageToken,
    View,
    Body,
    Include,
    AtLeastRevision,
    Kind,
    After,
    Snapshot,
    Reset,
    Backfill,
    Interval,
}

use Parameter::{
    AnyTag, AtLeastRevision, Author, Body, Include as Included, PageSize, PageToken, Section, Tag, View,
};

impl Parameter {
    /// The parameters of documents.
    pub(crate) const ALL: [Parameter; 10] =
        [Tag, AnyTag, Section, Author, PageSize, PageToken, View, Body, Included, AtLeastRevision];

    /// Returns the name of the parameter.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Tag => "tag",
            AnyTag => "any_tag",
            Section => "section",
            Author => "author",
            PageSize => "page_size",
            PageToken => "page_token",
            View => "view",
            Body => "body",
            Included => "include",
            AtLeastRevision => "at_least_revision",
            Parameter::Kind => "kind",
            Parameter::After => "after",
            Parameter::Snapshot => "snapshot",
            Parameter::Reset => "reset",
            Parameter::Backfill => "backfill",
            Parameter::Interval => "interval",
        }
    }

    /// Returns the fields of requests that the parameter sets.
    fn fields(self) -> &'static [&'static str] {
        match self {
            Tag => &["filter.all_tags", "filter.any_tags"],
            AnyTag => &["filter.any_tags"],
            Section => &["filter.section", "filter.sections"],
            Author => &["filter.authors"],
            PageSize => &["page_size"],
            PageToken => &["page_token"],
            View => &["view"],
            Body => &["body_format"],
            Included => &["includes"],
            AtLeastRevision => &["freshness.at_least_revision"],
            Parameter::Kind => &["filter.kinds"],
            Parameter::After => &["after.revision", "after.chain", "after.log_id"],
            Parameter::Snapshot => &["snapshot"],
            Parameter::Reset => &["allow_reset"],
            Parameter::Backfill => &["include_backfill"],
            Parameter::Interval => &["checkpoint_interval"],
        }
    }
}

/// A request for a document: the call that it stands for.
#[derive(Debug)]
pub(crate) struct DocumentRequest {
    /// The encoded request, without `freshness`: the key under which the response is cached.
    pub(crate) message: Bytes,
    /// The encoded request as it is called, if it differs.
    pub(crate) fresh: Option<Bytes>,
    /// The surrogate keys of what is requested, whether it exists or not.
    pub(crate) keys: Arc<[String]>,
    /// The request for the path with its percent-encoding removed, if no article has the path as written.
    pub(crate) decoded: Option<Box<DocumentRequest>>,
}

impl Resource<'static> {
    /// Returns a resource of each form, which the description lists.
    pub(crate) fn forms() -> impl Iterator<Item = Resource<'static>> {
        let of_kind = |kind| match kind {
            Kind::Article => {
                vec![Resource::Articles, Resource::Entity(kind, "{id}"), Resource::Path("/{path}")]
            }
            kind => vec![Resource::Entities(kind), Resource::Entity(kind, "{id}")],
        };
        Kind::ALL.into_iter().flat_map(of_kind)
    }
}

impl<'a> Resource<'a> {
    /// Returns the path of resources of this form, with what differs in braces.
    pub(crate) fn template(self) -> String {
        match self {
            Resource::Articles => format!("{ROOT}/{}", Kind::Article.collection()),
            Resource::Path(_) => format!("{ROOT}/paths/{{path}}"),
            Resource::Entities(kind) => format!("{ROOT}/{}", kind.collection()),
            Resource::Entity(kind, _) => format!("{ROOT}/{}/{{id}}", kind.collection()),
        }
    }

    /// Returns the resource at a path.
    pub(crate) fn at(path: &'a str) -> Option<Resource<'a>> {
        let rest = path.strip_prefix(ROOT)?.strip_prefix('/')?;
        let (collection, id) = rest.split_once('/').map_or((rest, None), |(first, id)| (first, Some(id)));
        if collection == "paths" {
            return id.map(|_| Resource::Path(&rest[collection.len()..]));
        }
        let kind = Kind::ALL.into_iter().find(|kind| kind.collection() == collection)?;
        match (kind, id) {
            (_, Some(id)) if !id.contains('/') => Some(Resource::Entity(kind, id)),
            (_, Some(_)) => None,
            (Kind::Article, None) => Some(Resource::Articles),
            (kind, None) => Some(Resource::Entities(kind)),
        }
    }

    /// Returns the read that the resource is served by.
    pub(crate) fn read(self) -> Read {
        match self {
            Resource::Articles => Read::ListArticles,
            Resource::Path(_) => Read::ResolvePath,
            Resource::Entities(Kind::Author) => Read::ListAuthors,
            Resource::Entities(Kind::Section) => Read::ListSections,
            Resource::Entities(Kind::Tag) => Read::ListTags,
            Resource::Entities(Kind::Collection | Kind::Article) => Read::ListCollections,
            Resource::Entity(Kind::Article, _) => Read::GetArticle,
            Resource::Entity(Kind::Author, _) => Read::GetAuthor,
            Resource::Entity(Kind::Section, _) => Read::GetSection,
            Resource::Entity(Kind::Tag, _) => Read::GetTag,
            Resource::Entity(Kind::Collection, _) => Read::GetCollection,
        }
    }

    /// Returns the parameters that the resource has.
    pub(crate) fn parameters(self) -> &'static [Parameter] {
        match self {
            Resource::Articles => &Parameter::ALL,
            Resource::Path(_) | Resource::Entity(Kind::Article | Kind::Collection, _) => {
                &[View, Body, Included, AtLeastRevision]
            }
            Resource::Entity(..) => &[AtLeastRevision],
            Resource::Entities(_) => &[PageSize, PageToken, AtLeastRevision],
        }
    }

    /// Returns the call that a request for the resource stands for. `at_least` is the value of the header
    /// `cable-at-least`.
    ///
    /// # Errors
    /// A parameter is unknown, repeated, or has a value that is not valid; the refusal names it.
    pub(crate) fn request(
        self,
        query: Option<&str>,
        at_least: Option<&[u8]>,
    ) -> Result<DocumentRequest, Refusal> {
        let values = Values::parse(self.parameters(), query.unwrap_or_default())?;
        let freshness = values.freshness(at_least)?;
        let choices = values.choices()?;
        let fresh = freshness.clone().map(|freshness| self.encode(&choices, Some(freshness)));
        let decoded = match self {
            Resource::Path(path) => decoded_segment(path),
            _ => None,
        };
        let decoded = decoded.map(|path| {
            Box::new(DocumentRequest {
                message: choices.resolve_path(&path, None),
                fresh: freshness.map(|freshness| choices.resolve_path(&path, Some(freshness))),
                keys: [path_key(&path)].into(),
                decoded: None,
            })
        });
        Ok(DocumentRequest {
            message: self.encode(&choices, None)?,
            fresh: fresh.transpose()?,
            keys: self.keys(&values).into(),
            decoded,
        })
    }

    /// Encodes the request of the call.
    fn encode(self, choices: &Choices, freshness: Option<Freshness>) -> Result<Bytes, Refusal> {
        let Choices { filter, page_size, page_token, view, body_format, includes } = choices.clone();
        Ok(match self {
            Resource::Articles => encode(&v1::ListArticlesRequest {
                filter,
                page_size,
                page_token,
                view,
                body_format,
                includes,
                freshness,
                ..Default::default()
            }),
            Resource::Path(path) => choices.resolve_path(&site_path(path), freshness),
            Resource::Entity(kind @ Kind::Article, id) => encode(&v1::GetArticleRequest {
                name: name_of(kind, id)?,
                view,
                body_format,
                includes,
                freshness,
                ..Default::default()
            }),
            Resource::Entity(kind @ Kind::Collection, id) => encode(&v1::GetCollectionRequest {
                name: name_of(kind, id)?,
                view,
                body_format,
                includes,
                freshness,
                ..Default::default()
            }),
            // The requests of these three are alike, and so are those of all listings of entities.
            Resource::Entity(kind @ (Kind::Author | Kind::Section | Kind::Tag), id) => {
                encode(&v1::GetTagRequest { name: name_of(kind, id)?, freshness, ..Default::default() })
            }
            Resource::Entities(_) => encode(&v1::ListTagsRequest { page_size, page_token, freshness }),
        })
    }

    /// Returns the surrogate keys of what is requested.
    fn keys(self, values: &Values<'_>) -> Vec<String> {
        match self {
            Resource::Articles => {
                let filter = values.filter();
                let names = filter.all_tags.iter().chain(&filter.any_tags).chain(&filter.authors);
                let names = names.chain([&filter.section].into_iter().filter(|section| !section.is_empty()));
                let lists: Vec<String> = names.map(|name| format!("list:{name}")).collect();
                if lists.is_empty() { vec!["list:articles".to_owned()] } else { lists }
            }
            Resource::Path(path) => {
                let paths = [Some(site_path(path)), decoded_segment(path)];
                paths.into_iter().flatten().map(|path| path_key(&path)).collect()
            }
            Resource::Entities(kind) => vec![format!("list:{}", kind.collection())],
            Resource::Entity(kind, id) => {
                let id = percent_decode(id, false).unwrap_or_default();
                Name::parse(&format!("{}/{id}", kind.collection())).iter().map(key_of).collect()
            }
        }
    }
}

/// Returns the path of the site that a path after `/v1/paths` stands for. A client that is generated from the
/// description encodes the slashes of a parameter, too: a path of one segment that has encoded slashes is decoded first.
fn site_path(path: &str) -> Cow<'_, str> {
    let segment = path.strip_prefix('/').unwrap_or(path);
    let has_encoded = segment.as_bytes().windows(3).any(|three| three.eq_ignore_ascii_case(b"%2f"));
    match percent_decode(segment, false) {
        Some(decoded) if has_encoded && !segment.contains('/') => {
            Cow::Owned(format!("/{}", decoded.strip_prefix('/').unwrap_or(&decoded)))
        }
        _ => Cow::Borrowed(path),
    }
}

/// Returns the path of one segment without its percent-encoding, if it has one beside slashes. Clients that are generated
/// from the description encode more characters than a path needs, such as a colon.
fn decoded_segment(path: &str) -> Option<Cow<'_, str>> {
    let segment = path.strip_prefix('/').unwrap_or(path);
    if segment.contains('/') || !segment.contains('%') {
        return None;
    }
    let decoded = Cow::Owned(format!("/{}", percent_decode(segment, false)?));
    let written = site_path(path);
    (matches!(written, Cow::Borrowed(_)) && !path::is_same(&written, &decoded)).then_some(decoded)
}

/// Returns the surrogate key of a path: its normal form, in the ASCII of a header.
fn path_key(path: &str) -> String {
    let mut key = "path:".to_owned();
    for byte in path::normalise(path).bytes() {
        match byte {
            b'!'..=b'~' => key.push(char::from(byte)),
            byte => _ = write!(key, "%{byte:02X}"),
        }
    }
    key
}

fn encode(request: &impl prost::Message) -> Bytes {
    request.encode_to_vec().into()
}

/// Returns the name of an entity whose id the path of a request has.
fn name_of(kind: Kind, id: &str) -> Result<String, Refusal> {
    let id = percent_decode(id, false).ok_or_else(|| not_utf8("name"))?;
    Ok(format!("{}/{id}", kind.collection()))
}

/// The values of the parameters as the fields of requests have them.
#[derive(Debug, Clone)]
struct Choices {
    filter: Option<v1::ArticleFilter>,
    page_size: i32,
    page_token: String,
    view: i32,
    body_format: i32,
    includes: Vec<i32>,
}

impl Choices {
    fn resolve_path(&self, path: &str, freshness: Option<Freshness>) -> Bytes {
        encode(&v1::ResolvePathRequest {
            path: path.to_owned(),
            view: self.view,
            body_format: self.body_format,
            includes: self.includes.clone(),
            freshness,
            ..Default::default()
        })
    }
}

/// The values of the parameters of a request.
pub(super) struct Values<'a>(Vec<(Parameter, Cow<'a, str>)>);

impl<'a> Values<'a> {
    pub(super) fn parse(known: &[Parameter], query: &'a str) -> Result<Values<'a>, Refusal> {
        let mut values = Values(Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = percent_decode(name, true).ok_or_else(|| not_utf8("query"))?;
            if name.is_empty() {
                return Err(Refusal::field("query", "a parameter has no name; write it as `name=value`"));
            }
            let Some(parameter) = known.iter().find(|parameter| parameter.name() == name) else {
                let known: Vec<_> = known.iter().map(|parameter| parameter.name()).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                let name: String = name.chars().filter(|c| !c.is_control()).take(64).collect();
                let problem = format!("unknown parameter; this resource has {known}");
                return Err(Refusal::field(name, problem));
            };
            if values.get(*parameter).is_some() {
                return Err(Refusal::field(parameter.name(), "repeated; separate several values by commas"));
            }
            let value = percent_decode(value, true).ok_or_else(|| not_utf8(parameter.name()))?;
            // Ignored, it would list everything for a page that does not know its tag.
            let filters = matches!(parameter, Tag | AnyTag | Section | Author | Parameter::Kind);
            if filters && value.split(',').any(str::is_empty) {
                return Err(Refusal::field(
                    parameter.name(),
                    "empty; leave the parameter out, or give a value",
                ));
            }
            if filters || *parameter == Included {
                check_distinct(*parameter, &value)?;
            }
            values.0.push((*parameter, value));
        }
        Ok(values)
    }

    fn choices(&self) -> Result<Choices, Refusal> {
        let filter = self.filter();
        Ok(Choices {
            filter: (filter != v1::ArticleFilter::default()).then_some(filter),
            view: self.view()?,
            body_format: self.body()?,
            includes: self.includes()?,
            page_size: self.page_size()?,
            page_token: self.text(PageToken).to_owned(),
        })
    }

    pub(super) fn get(&self, parameter: Parameter) -> Option<&str> {
        self.0.iter().find(|(of, _)| *of == parameter).map(|(_, value)| &**value)
    }

    fn text(&self, parameter: Parameter) -> &str {
        self.get(parameter).unwrap_or_default()
    }

    /// Returns the values of a parameter that are separated by commas.
    fn list(&self, parameter: Parameter) -> impl Iterator<Item = &str> {
        self.text(parameter).split(',').filter(|value| !value.is_empty())
    }

    /// Returns the names of the entities of a kind whose ids are separated by commas.
    pub(super) fn names(&self, parameter: Parameter, kind: Kind) -> Vec<String> {
        self.list(parameter).map(|id| cable_proto::full_name(kind.collection(), id)).collect()
    }

    fn filter(&self) -> v1::ArticleFilter {
        v1::ArticleFilter {
            all_tags: self.names(Tag, Kind::Tag),
            any_tags: self.names(AnyTag, Kind::Tag),
            section: cable_proto::full_name(Kind::Section.collection(), self.text(Section)),
            authors: self.names(Author, Kind::Author),
            ..Default::default()
        }
    }

    pub(super) fn view(&self) -> Result<i32, Refusal> {
        self.word(View, "ARTICLE_VIEW_", ArticleView::from_str_name, "reference, basic or full")
            .map(|view| view.map_or(0, |view| view as i32))
    }

    pub(super) fn body(&self) -> Result<i32, Refusal> {
        self.word(Body, "BODY_FORMAT_", BodyFormat::from_str_name, "blocks, html, markdown or plain_text")
            .map(|format| format.map_or(0, |format| format as i32))
    }

    fn includes(&self) -> Result<Vec<i32>, Refusal> {
        let expected = "one or more of authors, sections and tags, separated by commas";
        self.words(Included, "INCLUDE_", Include::from_str_name, expected)
    }

    /// Parses values of an enum that are separated by commas, each in lower case and without the prefix of its type.
    pub(super) fn words<E: Into<i32>>(
        &self,
        parameter: Parameter,
        prefix: &str,
        find: fn(&str) -> Option<E>,
        expected: &str,
    ) -> Result<Vec<i32>, Refusal> {
        let value = |word| {
            // The value 0 of an enum means that nothing is set.
            let found = parse_word(word, prefix, find).map(Into::into).filter(|value| *value != 0);
            found.ok_or_else(|| Refusal::field(parameter.name(), format!("must be {expected}")))
        };
        self.list(parameter).map(value).collect()
    }

    /// Parses a parameter that is `true` or `false`; false if it is not given.
    pub(super) fn flag(&self, parameter: Parameter) -> Result<bool, Refusal> {
        match self.get(parameter) {
            Some("true") => Ok(true),
            None | Some("false") => Ok(false),
            Some(_) => Err(Refusal::field(parameter.name(), "must be true or false")),
        }
    }

    /// Parses a number of seconds.
    pub(super) fn seconds(&self, parameter: Parameter) -> Result<Option<prost_types::Duration>, Refusal> {
        let Some(text) = self.get(parameter) else { return Ok(None) };
        let seconds = number::decimal(text)
            .ok_or_else(|| Refusal::field(parameter.name(), "must be a number of seconds"))?;
        Ok(Some(prost_types::Duration { seconds, nanos: 0 }))
    }

    /// Parses the value of an enum, in lower case and without the prefix of its type.
    fn word<E>(
        &self,
        parameter: Parameter,
        prefix: &str,
        find: fn(&str) -> Option<E>,
        expected: &str,
    ) -> Result<Option<E>, Refusal> {
        let Some(word) = self.get(parameter) else { return Ok(None) };
        let found = Some(word).filter(|word| *word != "unspecified");
        let found = found.and_then(|word| parse_word(word, prefix, find));
        found.map(Some).ok_or_else(|| Refusal::field(parameter.name(), format!("must be {expected}")))
    }

    fn page_size(&self) -> Result<i32, Refusal> {
        let Some(text) = self.get(PageSize) else { return Ok(0) };
        let problem = "must be a number from 0 to 2147483647";
        number::decimal(text).ok_or_else(|| Refusal::field(PageSize.name(), problem))
    }

    /// Parses the revision to wait for, from the parameter or the header.
    pub(super) fn freshness(&self, header: Option<&[u8]>) -> Result<Option<Freshness>, Refusal> {
        let parse = |text: &str, field: &str| {
            number::decimal(text).ok_or_else(|| {
                Refusal::field(field, "must be a revision: a number from 0 to 9223372036854775807")
            })
        };
        let of_header = header
            .map(|value| parse(std::str::from_utf8(value).unwrap_or_default(), AT_LEAST_HEADER))
            .transpose()?;
        let of_query =
            self.get(AtLeastRevision).map(|text| parse(text, AtLeastRevision.name())).transpose()?;
        let revision = of_header.max(of_query);
        Ok(revision.map(|at_least_revision| Freshness { at_least_revision, ..Default::default() }))
    }
}

fn parse_word<E>(word: &str, prefix: &str, find: fn(&str) -> Option<E>) -> Option<E> {
    let is_lower = word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    is_lower.then(|| find(&format!("{prefix}{}", word.to_ascii_uppercase()))).flatten()
}

/// Refuses a list that has a value twice: one of them is likely to be another one, misspelt.
fn check_distinct(parameter: Parameter, list: &str) -> Result<(), Refusal> {
    let mut seen = HashSet::new();
    let mut values = list.split(',').filter(|value| !value.is_empty());
    match values.find(|value| !seen.insert(*value)) {
        Some(_) => Err(Refusal::field(parameter.name(), "has a value twice; give each value once")),
        None => Ok(()),
    }
}

/// Checks the query of a resource that has no parameters.
///
/// # Errors
/// It has one.
pub(crate) fn no_parameters(query: &str) -> Result<(), Refusal> {
    Values::parse(&[], query).map(drop)
}

fn not_utf8(field: &str) -> Refusal {
    Refusal::field(field, "must be UTF-8, percent-encoded")
}

/// Returns a refusal with the parameter at fault in place of the field that it sets.
pub(crate) fn name_parameter(known: &[Parameter], mut refusal: Refusal) -> Refusal {
    if let Refusal::Field { field, .. } | Refusal::Limit { field, .. } = &mut refusal {
        let is_of = |rest: &str| rest.is_empty() || rest.starts_with('[');
        let sets = |parameter: &&Parameter| {
            parameter.fields().iter().any(|of| field.strip_prefix(of).is_some_and(is_of))
        };
        // A parameter whose only field it is comes before one that sets it in some requests only.
        let found = known.iter().filter(sets).min_by_key(|parameter| parameter.fields().len());
        if let Some(parameter) = found {
            *field = parameter.name().to_owned();
        }
    }
    refusal
}

/// Decodes a percent-encoded text. In a query, a plus sign stands for a space.
pub(super) fn percent_decode(text: &str, in_query: bool) -> Option<Cow<'_, str>> {
    let is_plain = |byte| byte != b'%' && (byte != b'+' || !in_query);
    if text.bytes().all(is_plain) {
        return Some(Cow::Borrowed(text));
    }
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? << 4 | digit()?) as u8
            }
            b'+' if in_query => b' ',
            byte => byte,
        });
    }
    String::from_utf8(decoded).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;

    fn fault(target: &str) -> (String, String) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        match Resource::at(path).unwrap().request(Some(query), None).unwrap_err() {
            Refusal::Field { field, problem } => (field, problem),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_path_is_a_resource_or_none() {
        for (path, resource) in [
            ("/v1/articles", Resource::Articles),
            ("/v1/articles/storm", Resource::Entity(Kind::Article, "storm")),
            ("/v1/tags/storm", Resource::Entity(Kind::Tag, "storm")),
            ("/v1/collections", Resource::Entities(Kind::Collection)),
            ("/v1/paths/news/storm", Resource::Path("/news/storm")),
            ("/v1/paths/", Resource::Path("/")),
        ] {
            assert_eq!(Resource::at(path), Some(resource), "{path}");
        }
        for path in
            ["/", "/v1", "/v1/", "/v1/pages", "/v1/articles/a/b", "/v2/articles", "/v1/paths", "/v1articles"]
        {
            assert_eq!(Resource::at(path), None, "{path}");
        }
    }

    #[test]
    fn a_path_whose_slashes_are_encoded_is_that_path() {
        for (target, path) in [
            ("/news/storm", "/news/storm"),
            ("/news%2Fst%C3%B6rm", "/news/störm"),
            ("/%2fnews%2fstorm", "/news/storm"),
            ("/100%2525%2Fsure", "/100%25/sure"),
            ("/news/a%2Fb", "/news/a%2Fb"),
            ("/news%252Fstorm", "/news%252Fstorm"),
            ("/%2F%ff", "/%2F%ff"),
            ("/", "/"),
        ] {
            assert_eq!(site_path(target), path, "{target}");
            let request = Resource::Path(target).request(None, None).unwrap();
            assert_eq!(v1::ResolvePathRequest::decode(request.message).unwrap().path, path);
            assert_eq!(request.keys[0], path_key(path));
            assert!(
                request.keys.iter().all(|key| key.is_ascii() && !key.contains(' ')),
                "{:?}",
                request.keys
            );
        }
    }

    #[test]
    fn a_segment_with_other_escapes_is_also_requested_without_them() {
        for (target, path, keys) in [
            ("/storm%3Alive", Some("/storm:live"), &["path:/storm%3Alive", "path:/storm:live"][..]),
            ("/100%25", Some("/100%"), &["path:/100%25"]),
            ("/st%C3%B6rm", None, &["path:/st%C3%B6rm"]),
            ("/storm", None, &["path:/storm"]),
            ("/news%2Fstorm%3Alive", None, &["path:/news/storm:live"]),
            ("/news/storm%3Alive", None, &["path:/news/storm%3Alive"]),
            ("/%ff", None, &["path:/%FF"]),
        ] {
            let request = Resource::Path(target).request(None, None).unwrap();
            let decoded =
                request.decoded.map(|decoded| v1::ResolvePathRequest::decode(decoded.message).unwrap());
            let is_same = path.is_some_and(|path| path::is_same(path, target));
            let expected = path.filter(|_| !is_same).map(str::to_owned);
            assert_eq!(decoded.map(|decoded| decoded.path), expected, "{target}");
            assert_eq!(*request.keys, *keys, "{target}");
        }
    }

    #[test]
    fn parameters_become_the_fields_of_the_request() {
        let target = "tag=storm,tags%2Fsea&any_tag=a&section=news&author=ida&page_size=7&page_token=x%2By\
                      &view=full&body=plain_text&include=authors,tags&at_least_revision=9";
        let request = Resource::Articles.request(Some(target), Some(b"12")).unwrap();
        let message = v1::ListArticlesRequest::decode(request.message.clone()).unwrap();
        let filter = message.filter.clone().unwrap();
        assert_eq!(filter.all_tags, ["tags/storm", "tags/sea"]);
        assert_eq!(
            (filter.any_tags, filter.section),
            (vec!["tags/a".to_owned()], "sections/news".to_owned())
        );
        assert_eq!(filter.authors, ["authors/ida"]);
        assert_eq!((message.page_size, &message.page_token[..]), (7, "x+y"));
        assert_eq!((message.view, message.body_format), (3, BodyFormat::PlainText as i32));
        assert_eq!(message.includes, [1, 3]);
        assert_eq!(message.freshness, None);
        let fresh = v1::ListArticlesRequest::decode(request.fresh.unwrap()).unwrap();
        assert_eq!(fresh.freshness.unwrap().at_least_revision, 12);
        let keys =
            ["list:tags/storm", "list:tags/sea", "list:tags/a", "list:authors/ida", "list:sections/news"];
        assert_eq!(*request.keys, keys);
        for query in [None, Some("page_token=&include=")] {
            let all = Resource::Articles.request(query, None).unwrap();
            assert!(all.message.is_empty() && all.fresh.is_none());
        }
        let all = Resource::Articles.request(None, None).unwrap();
        assert_eq!(*all.keys, ["list:articles"]);
    }

    #[test]
    fn a_parameter_that_is_not_valid_is_named() {
        for (target, field) in [
            ("/v1/articles/a?wiev=full", "wiev"),
            ("/v1/articles/a?tag=x", "tag"),
            ("/v1/tags/a?view=full", "view"),
            ("/v1/tags?tag=x", "tag"),
            ("/v1/articles?tag=a&tag=b", "tag"),
            ("/v1/articles?view=", "view"),
            ("/v1/articles?tag=", "tag"),
            ("/v1/articles?any_tag", "any_tag"),
            ("/v1/articles?section=&tag=a", "section"),
            ("/v1/articles?author=a,,b", "author"),
            ("/v1/articles?tag=a,", "tag"),
            ("/v1/articles?tag=a,a", "tag"),
            ("/v1/articles?include=tags,tags", "include"),
            ("/v1/articles?=x", "query"),
            ("/v1/articles?view=FULL", "view"),
            ("/v1/articles?view=unspecified", "view"),
            ("/v1/articles?body=pdf", "body"),
            ("/v1/articles?include=editors", "include"),
            ("/v1/articles?include=unspecified", "include"),
            ("/v1/articles?page_size=-1", "page_size"),
            ("/v1/articles?page_size=%2B1", "page_size"),
            ("/v1/articles?at_least_revision=%2B1", "at_least_revision"),
            ("/v1/articles?page_size=9999999999", "page_size"),
            ("/v1/articles?at_least_revision=", "at_least_revision"),
            ("/v1/articles?section=%ff", "section"),
            ("/v1/articles?section=%f", "section"),
            ("/v1/articles?%ff=1", "query"),
            ("/v1/articles/%ff", "name"),
        ] {
            assert_eq!(fault(target).0, field, "{target}");
        }
        assert!(fault("/v1/tags/a?x=1").1.contains("at_least_revision"));
        let header = Resource::Articles.request(None, Some(b"-1")).unwrap_err();
        assert!(matches!(header, Refusal::Field { field, .. } if field == "cable-at-least"));
    }

    #[test]
    fn refusals_of_the_call_name_the_parameter() {
        for (field, named) in [
            ("filter.all_tags[3]", "tag"),
            ("filter.any_tags", "any_tag"),
            ("filter.authors[0]", "author"),
            ("body_format", "body"),
            ("includes[1]", "include"),
            ("path", "path"),
        ] {
            let refusal = name_parameter(&Parameter::ALL, Refusal::field(field, "x"));
            assert!(matches!(&refusal, Refusal::Field { field, .. } if field == named), "{refusal:?}");
        }
    }
}

//! `cable article`: reads, lists, streams, puts and removes articles.

use cable_client::{
    Cable, Put as PutCall,
    v1::{self, ArticleFilter, ArticleOrder, ArticleView, BodyFormat, UpdateKind},
};
use cable_import::front_matter::parse_time;
use clap::{Args, ValueEnum};
use futures_util::StreamExt as _;
use prost_types::Timestamp;

use super::{
    Error,
    document::{Document, FileFormat},
    edit,
    feed::describe_damage,
    note,
    noun::{self, Remove},
    nouns::{ARTICLE, AUTHOR, SECTION, TAG},
    output::{Entity, Format, Output},
    pending,
    put::{self, Diff, Put},
    unmatched,
};

/// The server's limit on a page.
const MAX_PAGE_SIZE: u32 = 1_000;

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Print one article or several.
    Get(Get),
    /// Print the newest articles that match.
    Ls(Ls),
    /// Print all articles that match, as they arrive.
    Stream(Stream),
    /// Create articles or replace them completely, from JSON, Markdown or HTML.
    #[command(after_help = TEXT_HELP)]
    Put(PutArticle),
    /// Print the changes that a put would make, as a unified diff.
    Diff(DiffArticle),
    /// Edit an article as Markdown in $VISUAL or $EDITOR, and put it back unless it has changed meanwhile.
    #[command(after_help = TEXT_HELP)]
    Edit(edit::Edit),
    /// Remove an article, leaving a tombstone with the reason.
    Rm(Remove),
    /// Print and cancel pending versions, which are not yet due.
    #[command(subcommand)]
    Pending(pending::Command),
}

/// The help about articles in text files.
const TEXT_HELP: &str = "\
Articles in Markdown or HTML have their fields above the body, in YAML between lines `---` or in TOML between lines
`+++`:

  ---
  id: quay-reopens            # if unset, the name of the file
  headline: Quay reopens      # or title
  dek: After a year, boats land again
  tags: [port-averil]
  section: local
  authors: [ada, Nessa Voss]  # ids, or names of people without an entry
  date: 2026-03-01T06:00:00Z  # publishTime; updated is modifiedTime
  path: /local/quay-reopens
  ---
  The quay **opened again** on Monday.

All other fields of an article have their names in JSON. A put replaces the whole article.";

#[derive(Debug, Args)]
pub(crate) struct PutArticle {
    #[command(flatten)]
    put: Put,
    /// Format of the files. If unset, that of the extension: .md, .html, else JSON.
    #[arg(long = "as", value_name = "FORMAT", value_enum)]
    format: Option<FileFormat>,
    /// Kind of the change, for followers.
    #[arg(long, value_enum, default_value_t)]
    kind: Kind,
    /// Allow publishing a killed name.
    #[arg(long)]
    allow_killed: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DiffArticle {
    #[command(flatten)]
    diff: Diff,
    /// Format of the files. If unset, that of the extension: .md, .html, else JSON.
    #[arg(long = "as", value_name = "FORMAT", value_enum)]
    format: Option<FileFormat>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Ids of the articles.
    #[arg(required_unless_present = "path", conflicts_with = "path", value_name = "ID")]
    ids: Vec<String>,
    /// Path of the article's page, instead of an id; former paths work too.
    #[arg(long, value_name = "PATH")]
    path: Option<String>,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    filter: Filter,
    /// Maximum number of articles.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Debug, Args)]
pub(crate) struct Stream {
    #[command(flatten)]
    filter: Filter,
    /// Maximum number of articles. If unset, all.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    shape: Shape,
}

/// A filter of articles, and their order.
#[derive(Debug, Default, Args)]
pub(crate) struct Filter {
    #[command(flatten)]
    conditions: Conditions,
    /// Order of the articles.
    #[arg(long, value_enum, default_value_t)]
    order: Order,
}

/// The conditions of a filter. All that are given must hold.
#[derive(Debug, Default, Args)]
pub(crate) struct Conditions {
    /// Tag that articles must have; if repeated, all of them.
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// Tag that articles must have; if repeated, at least one of them.
    #[arg(long = "any-tag", value_name = "TAG")]
    any_tags: Vec<String>,
    /// Tag that articles must not have; may be repeated.
    #[arg(long = "no-tag", value_name = "TAG")]
    no_tags: Vec<String>,
    /// Section of the articles.
    #[arg(long, value_name = "SECTION")]
    section: Option<String>,
    /// Include child sections.
    #[arg(long, requires = "section")]
    children: bool,
    /// Author of the articles; if repeated, at least one of them.
    #[arg(long = "author", value_name = "AUTHOR")]
    authors: Vec<String>,
    /// Language of the articles: `en-GB`.
    #[arg(long, value_name = "LANGUAGE")]
    language: Option<String>,
    /// Time at or after which articles must be published: `2026-03-01` (UTC) or `2026-03-01T06:00:00Z`.
    #[arg(long, value_name = "TIME", value_parser = time)]
    after: Option<Timestamp>,
    /// Time before which articles must be published.
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<Timestamp>,
}

/// The view of an article and the format of its body.
#[derive(Debug, Default, Args)]
pub(crate) struct Shape {
    /// Fields of an article. If unset, all of a single article, all but the bodies of several.
    #[arg(long, value_enum)]
    view: Option<View>,
    /// Format of the body. Unless JSON is requested, `get` then prints the body alone.
    #[arg(long = "body", value_name = "FORMAT", value_enum)]
    body_format: Option<Body>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A change that readers should notice.
    #[default]
    Major,
    /// A small correction.
    Minor,
    /// A new version with nothing new for readers.
    Republish,
    /// Old content that is being loaded; only for a name without earlier content.
    Backfill,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Order {
    /// Newest publish time first.
    #[default]
    Published,
    /// Latest change first.
    Changed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum View {
    /// Name, etag, revision and times.
    Reference,
    /// All fields but the body.
    Basic,
    /// All fields.
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Body {
    /// Blocks, as stored.
    Blocks,
    /// HTML that is safe to place in a page.
    Html,
    /// CommonMark.
    Markdown,
    /// Plain text.
    Text,
}

impl Shape {
    /// Returns the view to request; `otherwise` if no option requests one. A body format requests the body.
    pub(crate) fn view(&self, otherwise: ArticleView) -> ArticleView {
        match (self.view, self.body_format) {
            (Some(View::Reference), _) => ArticleView::Reference,
            (Some(View::Basic), _) => ArticleView::Basic,
            (Some(View::Full), _) | (None, Some(_)) => ArticleView::Full,
            (None, None) => otherwise,
        }
    }

    pub(crate) fn body_format(&self) -> BodyFormat {
        match self.body_format {
            None | Some(Body::Blocks) => BodyFormat::Blocks,
            Some(Body::Html) => BodyFormat::Html,
            Some(Body::Markdown) => BodyFormat::Markdown,
            Some(Body::Text) => BodyFormat::PlainText,
        }
    }
}

impl Conditions {
    /// Returns the conditions as a message of the schema.
    pub(crate) fn to_message(&self) -> ArticleFilter {
        let mut filter = ArticleFilter::default();
        let names =
            |noun: &super::nouns::Noun, ids: &[String]| ids.iter().map(|id| noun.full_name(id)).collect();
        filter.all_tags = names(&TAG, &self.tags);
        filter.any_tags = names(&TAG, &self.any_tags);
        filter.excluded_tags = names(&TAG, &self.no_tags);
        filter.section = self.section.as_deref().map(|id| SECTION.full_name(id)).unwrap_or_default();
        filter.include_child_sections = self.children;
        filter.authors = names(&AUTHOR, &self.authors);
        filter.language = self.language.clone().unwrap_or_default();
        filter.published_after = self.after;
        filter.published_before = self.before;
        filter
    }
}

impl Filter {
    /// Returns the filter as a message of the schema.
    pub(crate) fn to_message(&self) -> ArticleFilter {
        self.conditions.to_message()
    }

    /// Returns the names that articles must have.
    fn names(&self) -> unmatched::Names {
        let ArticleFilter { all_tags, any_tags, section, authors, .. } = self.to_message();
        let sections = Some(section).filter(|section| !section.is_empty()).into_iter().collect();
        unmatched::Names { tags: [all_tags, any_tags].concat(), sections, authors }
    }

    /// Returns the order as an enum of the schema.
    pub(crate) fn order(&self) -> ArticleOrder {
        match self.order {
            Order::Published => ArticleOrder::PublishTimeDesc,
            Order::Changed => ArticleOrder::RevisionDesc,
        }
    }
}

/// Parses a time, or a day, which stands for its first instant in UTC.
fn time(text: &str) -> Result<Timestamp, String> {
    let time = parse_time(text)
        .ok_or("expected a day such as 2026-03-01 or a time with its offset such as 2026-03-01T06:00:00Z")?;
    Ok(Timestamp { seconds: time.as_second(), nanos: time.subsec_nanosecond() })
}

/// Runs the command.
pub(crate) async fn run(command: Command, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    match command {
        Command::Get(get) => run_get(get, cable, output).await,
        Command::Ls(ls) => run_ls(ls, cable, output).await,
        Command::Stream(stream) => run_stream(stream, cable, output).await,
        Command::Put(put) => run_put(put, cable, output).await,
        Command::Diff(diff) => put::diff::<v1::Article>(diff.diff, diff.format, cable, output).await,
        Command::Edit(edit) => edit::run(edit, cable, output).await,
        Command::Rm(remove) => noun::remove(&ARTICLE, remove, cable, output).await,
        Command::Pending(command) => pending::run(command, cable, output).await,
    }
}

async fn run_get(Get { ids, path, shape }: Get, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let (view, format) = requested(&shape, output);
    if let Some(path) = path {
        let resolved = cable.resolve(path).view(view).body_format(format).await?.into_inner();
        return print(&resolved.article, &shape, output);
    }
    let is_single = ids.len() == 1;
    let get = |id: String| async { Ok(cable.article(id).view(view).body_format(format).await?.into_inner()) };
    let (articles, missing) = noun::get_each(ids, get).await?;
    let is_json = output.is_explicit() && output.format() != Format::Table;
    if is_json || (shape.body_format.is_none() && output.format() != Format::Table) {
        noun::print_entities(&ARTICLE, &articles, is_single, output)?;
    } else {
        noun::print_each(&articles, output, |article, output| print(article, &shape, output))?;
    }
    missing
}

/// Returns whether the output is for people, who read a body as Markdown, and no other format of it is requested.
fn is_readable_table(shape: &Shape, output: &Output) -> bool {
    output.format() == Format::Table && shape.body_format.is_none()
}

/// Returns the view and the body format to request for one article. Only the view FULL has a body.
pub(crate) fn requested(shape: &Shape, output: &Output) -> (ArticleView, BodyFormat) {
    let view = shape.view(ArticleView::Full);
    let is_readable = view == ArticleView::Full && is_readable_table(shape, output);
    (view, if is_readable { BodyFormat::Markdown } else { shape.body_format() })
}

/// Prints one article: its fields and its readable body, the body alone, or JSON.
pub(crate) fn print(article: &v1::Article, shape: &Shape, output: &mut Output) -> Result<(), Error> {
    let entity = Entity::new(&ARTICLE, article);
    match &article.rendered_body {
        Some(body) if is_readable_table(shape, output) => {
            output.one(&entity)?;
            output.text("")?;
            output.markdown(&body.text)
        }
        Some(body) if !output.is_explicit() || output.format() == Format::Table => output.text(&body.text),
        _ => output.one(&entity),
    }
}

async fn run_put(
    PutArticle { put, format, kind, allow_killed }: PutArticle,
    cable: &Cable,
    output: &mut Output,
) -> Result<(), Error> {
    let kind = match kind {
        Kind::Major => UpdateKind::Major,
        Kind::Minor => UpdateKind::Minor,
        Kind::Republish => UpdateKind::Republish,
        Kind::Backfill => UpdateKind::Backfill,
    };
    let configure = |call: PutCall<v1::Article>, document: &Document<v1::Article>| {
        let call = call.update_kind(kind);
        let call = if allow_killed { call.allow_killed() } else { call };
        match document.body_source() {
            Some(source) => call.body_source(source),
            None => call,
        }
    };
    put::run(put, format, configure, cable, output).await
}

/// Reports that a listing is empty, with the names that are the likely cause.
async fn report_empty(filter: &Filter, cable: &Cable, output: &Output) -> Result<(), Error> {
    if output.format() == Format::Table {
        note("no articles match")?;
    }
    unmatched::report(filter.names(), cable).await
}

async fn run_ls(ls: Ls, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let Ls { filter, limit, shape } = ls;
    let list = cable.list(filter.to_message()).order(filter.order()).page_size(limit.min(MAX_PAGE_SIZE));
    let mut pages = list.view(shape.view(ArticleView::Basic)).body_format(shape.body_format()).pages();
    let (mut remaining, mut incomplete) = (limit as usize, None);
    let mut listing = output.list(&ARTICLE);
    while remaining > 0
        && let Some(page) = pages.next().await.transpose()?
    {
        let page = page.value;
        for article in page.articles.iter().take(remaining) {
            listing.push(&Entity::new(&ARTICLE, article))?;
        }
        remaining = remaining.saturating_sub(page.articles.len());
        incomplete = page.damage.or(incomplete);
    }
    if listing.finish()? == 0 {
        report_empty(&filter, cable, output).await?;
    }
    incomplete
        .map_or(Ok(()), |damage| Err(Error::Incomplete(format!("incomplete: {}", describe_damage(&damage)))))
}

async fn run_stream(stream: Stream, cable: &Cable, output: &mut Output) -> Result<(), Error> {
    let Stream { filter, limit, shape } = stream;
    let mut call = cable.stream(filter.to_message()).order(filter.order());
    if let Some(limit) = limit {
        call = call.max_articles(limit.into());
    }
    let mut articles = call.view(shape.view(ArticleView::Basic)).body_format(shape.body_format()).articles();
    let mut listing = output.list(&ARTICLE);
    let mut incomplete = Ok(());
    while let Some(article) = articles.next().await {
        match article {
            Ok(article) => listing.push(&Entity::new(&ARTICLE, &article))?,
            Err(error) if articles.end().is_some() => incomplete = Err(error),
            Err(error) => return Err(error.into()),
        }
    }
    if listing.finish()? == 0 {
        report_empty(&filter, cable, output).await?;
    }
    incomplete?;
    match articles.end() {
        Some(end) => {
            note(&format!("{} articles as of revision {} of log {}", end.count, end.revision, end.log_id))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct TestArgs {
        #[command(flatten)]
        filter: Filter,
        #[command(flatten)]
        shape: Shape,
    }

    fn parse(line: &str) -> Result<TestArgs, clap::Error> {
        TestArgs::try_parse_from(std::iter::once("ls").chain(line.split_whitespace()))
    }

    #[test]
    fn a_filter_accepts_bare_ids_as_names() {
        let line = "--tag russia --tag tags/ukraine --any-tag a --no-tag b --section world --children --author ann \
                    --after 2026-03-01 --before 2026-03-01T06:00:00+02:00 --language en-GB";
        let filter = parse(line).unwrap().filter.to_message();
        assert_eq!(filter.all_tags, ["tags/russia", "tags/ukraine"]);
        assert_eq!((&filter.any_tags[0][..], &filter.excluded_tags[0][..]), ("tags/a", "tags/b"));
        assert_eq!((&filter.section[..], filter.include_child_sections), ("sections/world", true));
        assert_eq!(filter.authors, ["authors/ann"]);
        assert_eq!(filter.published_after.unwrap().seconds, 1_772_323_200);
        assert_eq!(filter.published_before.unwrap().seconds, 1_772_323_200 + 4 * 3600);
        assert_eq!(filter.language, "en-GB");
    }

    #[test]
    fn invalid_options_are_refused_before_any_call() {
        for line in ["--children", "--after yesterday", "--after 2026-03-01T06:00:00", "--order sideways"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn a_body_format_implies_the_full_view() {
        let shape = parse("--body html").unwrap().shape;
        assert_eq!(
            (shape.view(ArticleView::Basic), shape.body_format()),
            (ArticleView::Full, BodyFormat::Html)
        );
        let shape = parse("--view basic --body html").unwrap().shape;
        assert_eq!(shape.view(ArticleView::Full), ArticleView::Basic);
        assert_eq!(parse("").unwrap().shape.view(ArticleView::Full), ArticleView::Full);
    }
}

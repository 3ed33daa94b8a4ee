//! A post of a static site's source as an article, from its file name, front matter and Markdown.

use std::{collections::BTreeSet, fmt::Write as _};

use cable_client::{Timestamp, v1};
use jiff::civil::Date;
use prost::Message as _;
use yaml_rust2::{Yaml, YamlLoader};

/// The directories of posts.
pub(super) const DIRECTORIES: [&str; 2] = ["_posts", "content/posts"];

/// The limits of the schema.
const MAX_TAGS: usize = 128;
const MAX_AUTHORS: usize = 64;
const MAX_BLOCKS: usize = 10_000;
const MAX_LINE_BYTES: usize = 1 << 10;
const MAX_PARAGRAPH_BYTES: usize = 4 << 10;
const MAX_ID_BYTES: usize = 128;

/// The maximum size of the blocks in bytes: an article without the part outside its body.
const MAX_BODY_BYTES: usize = (1 << 20) - (64 << 10);

/// The suffix of a cut id: `~~` and 16 hex digits.
const HASH_SUFFIX_BYTES: usize = 18;

/// The post that a file contains.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PostPath {
    /// The article's id: the file's name without date and extension.
    pub(super) id: String,
    date: Date,
}

/// A tag or an author that a post names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) id: String,
    pub(super) display_name: String,
}

/// A published post.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Post {
    pub(super) article: v1::Article,
    pub(super) tags: Vec<Label>,
    pub(super) authors: Vec<Label>,
    /// Whether the body was cut.
    pub(super) cut: bool,
}

/// The reason why a file cannot be parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    NotUtf8,
    NoFrontMatter,
    NoYaml,
}

impl PostPath {
    /// Returns the post of a path, or none if the file name does not start with a date, as those of posts do.
    pub(super) fn of(path: &str) -> Option<PostPath> {
        let (_, file) = path.rsplit_once('/')?;
        let date = file.get(..10)?.parse().ok()?;
        let rest = file.get(10..)?.strip_prefix('-')?;
        let slug = rest.rsplit_once('.').map_or(rest, |(slug, _)| slug);
        (!slug.is_empty()).then(|| PostPath { id: id(slug), date })
    }
}

impl Post {
    /// Parses a file. Returns none if the post is not published. A date after `now` is left out, so that nothing is
    /// pending.
    ///
    /// # Errors
    /// Fails if the file does not have the form of a post.
    pub(super) fn read(path: &PostPath, file: &[u8], now: Timestamp) -> Result<Option<Post>, Malformed> {
        let text = str::from_utf8(file).map_err(|_| Malformed::NotUtf8)?;
        let (front, body) = split_front_matter(text).ok_or(Malformed::NoFrontMatter)?;
        let documents = YamlLoader::load_from_str(&indented(front)).map_err(|_| Malformed::NoYaml)?;
        let front = documents.into_iter().next().filter(Yaml::is_hash).ok_or(Malformed::NoYaml)?;
        if front["published"].as_bool() == Some(false) {
            return Ok(None);
        }
        let tags = labels(&front["tags"], MAX_TAGS);
        let authors = labels(&front["authors"], MAX_AUTHORS);
        let (blocks, cut) = blocks(body);
        let mut article = v1::Article::default();
        article.name = format!("articles/{}", path.id);
        article.headline = headline(&front, &path.id);
        article.summary = summary(&front);
        article.path = format!("/{}/{}/", path.date.strftime("%Y/%m/%d"), path.id);
        article.publish_time =
            publish_time(&front["date"], path.date).filter(|time| time.seconds <= now.seconds);
        article.tags = tags.iter().map(|tag| format!("tags/{}", tag.id)).collect();
        article.byline = byline(&authors);
        article.body = Some(v1::Body::default()).map(|mut body| {
            body.blocks = blocks;
            body
        });
        Ok(Some(Post { article, tags, authors, cut }))
    }
}

/// Splits the text into front matter and body, which lines of three hyphens separate.
fn split_front_matter(text: &str) -> Option<(&str, &str)> {
    let text = text.trim_start_matches('\u{feff}');
    let (first, rest) = text.split_once('\n')?;
    if first.trim_end() != "---" {
        return None;
    }
    let mut front = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some((&rest[..front], &rest[front + line.len()..]));
        }
        front += line.len();
    }
    None
}

/// Indents the lines of quoted texts that continue at the margin, which libyaml allows, unless they look like a key.
fn indented(front: &str) -> String {
    let mut text = String::with_capacity(front.len());
    for line in front.lines() {
        if !starts_entry(line) {
            text.push(' ');
        }
        text.push_str(line);
        text.push('\n');
    }
    text
}

/// Returns whether a line starts a key, an item or a comment, or is indented already.
fn starts_entry(line: &str) -> bool {
    let key = line.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let is_key = key.len() < line.len() && (key == ":" || key.starts_with(": "));
    is_key || line.is_empty() || line.starts_with([' ', '-', '#'])
}

/// Returns a scalar as text.
fn scalar(value: &Yaml) -> Option<String> {
    match value {
        Yaml::String(text) | Yaml::Real(text) => Some(text.trim().to_owned()),
        Yaml::Integer(number) => Some(number.to_string()),
        _ => None,
    }
    .filter(|text| !text.is_empty())
}

/// Returns the title; without one, the words of the id.
fn headline(front: &Yaml, id: &str) -> String {
    let title = scalar(&front["title"]).unwrap_or_else(|| id.replace('-', " "));
    truncate(&title, MAX_LINE_BYTES)
}

fn summary(front: &Yaml) -> String {
    let text = scalar(&front["excerpt"]).or_else(|| scalar(&front["description"]));
    truncate(&text.unwrap_or_default(), MAX_PARAGRAPH_BYTES)
}

/// Returns the time in the front matter, or else the day in the file's name.
fn publish_time(value: &Yaml, day: Date) -> Option<Timestamp> {
    let value = scalar(value).unwrap_or_default();
    if let Ok(time) = value.parse::<jiff::Timestamp>() {
        return Some(Timestamp { seconds: time.as_second(), nanos: 0 });
    }
    let day = value.get(..10).and_then(|day| day.parse().ok()).unwrap_or(day);
    let midnight = day.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp { seconds: midnight.timestamp().as_second(), nanos: 0 })
}

/// Returns the names of a list, or of a single value in its place, without duplicates.
fn labels(value: &Yaml, max: usize) -> Vec<Label> {
    let values = value.as_vec().map_or(std::slice::from_ref(value), Vec::as_slice);
    let mut seen = BTreeSet::new();
    let named = values.iter().filter_map(scalar).map(|name| Label {
        id: id(&name.split_whitespace().collect::<Vec<_>>().join("-").to_lowercase()),
        display_name: truncate(&name, MAX_LINE_BYTES),
    });
    named.filter(|label| seen.insert(label.id.clone())).take(max).collect()
}

fn byline(authors: &[Label]) -> Option<v1::Byline> {
    let mut byline = v1::Byline::default();
    byline.credits = authors.iter().map(credit).collect();
    (!authors.is_empty()).then_some(byline)
}

fn credit(author: &Label) -> v1::Credit {
    let mut credit = v1::Credit::default();
    credit.author = format!("authors/{}", author.id);
    credit
}

/// Returns the id for a text that is not empty: ASCII letters, digits, `.`, `_` and `-` remain, each other byte becomes
/// `~` and two hex digits. An id that is too long is cut and ends in a hash of the whole.
fn id(text: &str) -> String {
    let mut id = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            id.push(byte.into());
        } else {
            let _ = write!(id, "~{byte:02x}");
        }
    }
    if id.len() > MAX_ID_BYTES {
        id.truncate(MAX_ID_BYTES - HASH_SUFFIX_BYTES);
        let _ = write!(id, "~~{:016x}", fnv(text.as_bytes()));
    }
    id
}

/// Returns the FNV-1a hash.
fn fnv(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Returns the text, cut to `max` bytes.
fn truncate(text: &str, max: usize) -> String {
    let fits = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|end| *end <= max).last();
    text[..fits.unwrap_or(0)].to_owned()
}

/// Returns the paragraphs and headings, which blank lines separate, and whether the body exceeds an article.
fn blocks(body: &str) -> (Vec<v1::Block>, bool) {
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    for text in paragraphs(body) {
        let block = block(&text);
        // The block's tag and length take at most 5 bytes.
        bytes += block.encoded_len() + 5;
        if bytes > MAX_BODY_BYTES || blocks.len() == MAX_BLOCKS {
            return (blocks, true);
        }
        blocks.push(block);
    }
    (blocks, false)
}

fn paragraphs(body: &str) -> Vec<String> {
    let lines: Vec<&str> = body.lines().map(str::trim_end).collect();
    lines
        .split(|line| line.is_empty())
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.join("\n"))
        .collect()
}

fn block(text: &str) -> v1::Block {
    let level = text.bytes().take_while(|byte| *byte == b'#').count();
    let heading =
        text.get(level..).and_then(|rest| rest.strip_prefix(' ')).filter(|_| (1..=6).contains(&level));
    let mut block = v1::Block::default();
    block.kind = Some(match heading.filter(|heading| !heading.contains('\n')) {
        Some(words) => {
            let mut heading = v1::Heading::default();
            // Level 1 is the headline's.
            heading.level = level.max(2) as i32;
            heading.spans.push(span(words.trim()));
            v1::block::Kind::Heading(heading)
        }
        None => {
            let mut paragraph = v1::Paragraph::default();
            paragraph.spans.push(span(text));
            v1::block::Kind::Paragraph(paragraph)
        }
    });
    block
}

fn span(text: &str) -> v1::Span {
    let mut span = v1::Span::default();
    text.clone_into(&mut span.text);
    span
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp { seconds: 1_700_000_000, nanos: 0 };

    fn post_path(slug: &str) -> PostPath {
        PostPath::of(&format!("_posts/2020-03-01-{slug}.md")).unwrap()
    }

    fn read(text: &str) -> Result<Option<Post>, Malformed> {
        Post::read(&post_path("storm-over-norwick"), text.as_bytes(), NOW)
    }

    fn post(text: &str) -> Post {
        read(text).unwrap().unwrap()
    }

    fn shown(block: &v1::Block) -> String {
        match block.kind.as_ref().unwrap() {
            v1::block::Kind::Heading(heading) => format!("h{}: {}", heading.level, heading.spans[0].text),
            v1::block::Kind::Paragraph(paragraph) => paragraph.spans[0].text.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_id_ignores_directory_date_and_extension() {
        for path in [
            "_posts/2020-03-01-storm.md",
            "content/posts/2020-03-01-storm.md",
            "_posts/2021-04-02-storm.html",
            "_posts/norwick/2020-03-01-storm",
        ] {
            assert_eq!(PostPath::of(path).unwrap().id, "storm", "{path}");
        }
        assert_eq!(PostPath::of("_posts/2020-03-01-fähre 2.md").unwrap().id, "f~c3~a4hre~202");
    }

    #[test]
    fn a_file_without_a_date_is_not_a_post() {
        for path in
            ["_posts/README.md", "_posts/2020-13-01-storm.md", "_posts/2020-03-01-.md", "2020-03-01-storm.md"]
        {
            assert_eq!(PostPath::of(path), None, "{path}");
        }
    }

    #[test]
    fn front_matter_and_body_become_an_article() {
        let post = post(
            "---\r\ntitle: \"Storm: Norwick's harbour\"\r\ndate: '2020-03-02T15:21:00-04:00'\r\nauthors:\r\n- ada\r\n\
             - ada\r\ntags: [High Seas, high seas, 2020, ~]\r\nexcerpt: Ferries stay in port.\r\n---\r\n\
             # What is known\r\n\r\nFirst line\r\nsecond line\r\n\r\n\r\n#hashtag\r\n",
        );
        let article = &post.article;
        assert_eq!(article.name, "articles/storm-over-norwick");
        assert_eq!(article.headline, "Storm: Norwick's harbour");
        assert_eq!(article.summary, "Ferries stay in port.");
        assert_eq!(article.path, "/2020/03/01/storm-over-norwick/");
        assert_eq!(article.publish_time.unwrap().seconds, 1_583_176_860);
        assert_eq!(article.tags, ["tags/high-seas", "tags/2020"]);
        assert_eq!(post.tags[0].display_name, "High Seas");
        let byline = article.byline.as_ref().unwrap();
        assert_eq!(
            byline.credits.iter().map(|credit| &credit.author[..]).collect::<Vec<_>>(),
            ["authors/ada"]
        );
        let blocks: Vec<_> = article.body.as_ref().unwrap().blocks.iter().map(shown).collect();
        assert_eq!(blocks, ["h2: What is known", "First line\nsecond line", "#hashtag"]);
        assert!(!post.cut);
    }

    #[test]
    fn a_quoted_text_may_continue_at_the_margin() {
        let post = post(
            "---\ntitle: \"Storm over\nall Norwick: the harbour\"\ntags:\n- sea\nexcerpt:\n  >\n  Closed.\n---\n",
        );
        assert_eq!(post.article.headline, "Storm over all Norwick: the harbour");
        assert_eq!(post.article.tags, ["tags/sea"]);
        assert_eq!(post.article.summary, "Closed.");
    }

    #[test]
    fn missing_fields_are_taken_from_the_file_name() {
        let post = post("---\ntags: sea\ndate: soon\n---\n");
        assert_eq!(post.article.headline, "storm over norwick");
        assert_eq!(post.article.tags, ["tags/sea"]);
        assert_eq!(post.article.publish_time.unwrap().seconds, 1_583_020_800);
        assert_eq!(post.article.byline, None);
    }

    #[test]
    fn a_date_in_the_future_is_left_out() {
        assert_eq!(post("---\ntitle: Storm\ndate: 2040-01-01\n---\n").article.publish_time, None);
    }

    #[test]
    fn an_unpublished_post_is_skipped() {
        assert_eq!(read("---\ntitle: Storm\npublished: false\n---\nText"), Ok(None));
        assert!(read("---\ntitle: Storm\npublished: true\n---\nText").unwrap().is_some());
    }

    #[test]
    fn malformed_posts_are_errors() {
        assert_eq!(read("title: Storm"), Err(Malformed::NoFrontMatter));
        assert_eq!(read("---\ntitle: Storm\n"), Err(Malformed::NoFrontMatter));
        assert_eq!(read("---\ntitle: \"Storm\" over: Norwick\n---\n"), Err(Malformed::NoYaml));
        assert_eq!(read("---\n- Storm\n---\n"), Err(Malformed::NoYaml));
        assert_eq!(read("---\n---\n"), Err(Malformed::NoYaml));
        let latin = [&b"---\ntitle: F"[..], &[0xe4], b"hre\n---\n"].concat();
        assert_eq!(Post::read(&post_path("a"), &latin, NOW), Err(Malformed::NotUtf8));
    }

    #[test]
    fn a_body_above_the_limit_is_cut_between_paragraphs() {
        let long =
            post(&format!("---\ntitle: Storm\n---\n{}", format!("{}\n\n", "ab ".repeat(3_333)).repeat(120)));
        assert!(long.cut);
        assert!(long.article.encoded_len() <= 1 << 20);
        assert_eq!(long.article.body.unwrap().blocks.len(), 98);
        let many = post(&format!("---\ntitle: Storm\n---\n{}", "a\n\n".repeat(10_001)));
        assert!(many.cut);
        assert_eq!(many.article.body.unwrap().blocks.len(), 10_000);
    }

    #[test]
    fn long_ids_are_valid_and_distinct() {
        let (one, other) = (id(&"ä".repeat(100)), id(&"ä".repeat(101)));
        assert_eq!((one.len(), other.len()), (MAX_ID_BYTES, MAX_ID_BYTES));
        assert_ne!(one, other);
    }

    #[test]
    fn a_text_is_truncated_between_two_characters() {
        assert_eq!(truncate("aä", 2), "a");
        assert_eq!(truncate("aä", 3), "aä");
        assert_eq!(truncate("", 3), "");
    }
}

//! Generates the archive of a fictional newspaper. The same seed always yields the same archive. Each article is
//! written to the file as soon as it is generated.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    ops::Range,
    path::Path,
};

use cable_client::{RawRecord, Timestamp, v1};
use prost::{Message as _, encoding::encode_varint};

use crate::words::Words;
use cable_load::random::{Random, Ranks};

const SEED: u64 = 2026;
const TAGS: usize = 10_000;
const AUTHORS: usize = 300;
/// The number of sections: three departments with three subsections each.
const SECTIONS: usize = 12;
const DEPARTMENTS: usize = 3;

/// The log-normal distribution of encoded sizes: two thirds of the articles are between half the median and twice the
/// median.
const MEDIAN_BYTES: f64 = 4_400.0;
const DEVIATION: f64 = 0.7;
const MIN_BYTES: f64 = 1_000.0;
const MAX_BYTES: f64 = 60_000.0;

/// The time range: ten years from the start of 2015.
const FIRST_SECOND: i64 = 1_420_070_400;
const SECONDS: i64 = 10 * 31_557_600;
/// The maximum random delay of a publish time in seconds. It makes the order of articles differ slightly from the order
/// of their publish times, as in a real newsroom.
const JITTER: usize = 3 * 86_400;

/// One article in this many is compressed, to check that generated text compresses about as well as real text.
const SAMPLE_INTERVAL: u64 = 50;
const ZSTD_LEVEL: i32 = 3;

/// A generated archive.
#[derive(Debug)]
pub(crate) struct Archive {
    pub(crate) articles: u64,
    pub(crate) entities: u64,
    /// The size of the articles file in bytes.
    pub(crate) bytes: u64,
    /// The encoded size of each article in bytes, in ascending order.
    pub(crate) sizes: Vec<u32>,
    /// The compression ratio of the sampled articles, compressed one by one with zstd at the store's level.
    pub(crate) compression: f64,
    /// The ids of the tags in use and their numbers of articles, most frequent first.
    pub(crate) tags: Vec<(String, u32)>,
}

/// Returns the id of the article with this number.
pub(crate) fn article_id(number: u64) -> String {
    format!("a{number:07}")
}

/// Returns the id of a section that has subsections.
pub(crate) fn department() -> String {
    section_id(0)
}

/// Returns the id of the tag with this number. The lower the number, the more articles have the tag.
pub(crate) fn tag_id(number: usize) -> String {
    format!("t{number:05}")
}

fn author_id(number: usize) -> String {
    format!("p{number:03}")
}

fn section_id(number: usize) -> String {
    format!("s{number:02}")
}

/// Writes an archive for `cable import binary`: one file of entities and one of articles.
///
/// # Errors
/// Fails if a file cannot be written.
pub(crate) fn write(entities: &Path, articles: &Path, count: u64) -> io::Result<Archive> {
    let entities = write_entities(entities)?;
    let mut generator = Generator::new(count);
    let mut file = Records::create(articles)?;
    let mut sizes = Vec::with_capacity(count as usize);
    let (mut raw, mut compressed) = (0, 0);
    for number in 0..count {
        let article = generator.article(number);
        sizes.push(article.encoded_len() as u32);
        if number % SAMPLE_INTERVAL == 0 {
            let encoded = article.encode_to_vec();
            raw += encoded.len();
            compressed += zstd::bulk::compress(&encoded, ZSTD_LEVEL)?.len();
        }
        file.write(&article.into())?;
    }
    let (articles, bytes) = file.finish()?;
    sizes.sort_unstable();
    let compression = raw as f64 / compressed.max(1) as f64;
    Ok(Archive { articles, entities, bytes, sizes, compression, tags: generator.tags_in_use() })
}

/// A set of articles of about the same size.
#[derive(Debug)]
pub(crate) struct Uniform {
    pub(crate) seed: u64,
    pub(crate) numbers: Range<u64>,
    /// The approximate encoded size of each article.
    pub(crate) bytes: usize,
    /// Whether the articles are newer than every article of an archive.
    pub(crate) newest: bool,
}

impl Uniform {
    /// Writes the articles to a file for `cable import binary`. In addition to random tags, each article has the tags
    /// that `tags` returns for its number.
    ///
    /// # Errors
    /// Fails if the file cannot be written.
    pub(crate) fn write(&self, path: &Path, tags: impl Fn(u64) -> Vec<&'static str>) -> io::Result<()> {
        let mut generator = Generator::new(self.numbers.end);
        generator.random = Random::new(self.seed);
        let mut file = Records::create(path)?;
        for number in self.numbers.clone() {
            let mut article = generator.draft(number);
            if self.newest {
                let seconds = FIRST_SECOND + SECONDS + number as i64;
                article.publish_time = Some(Timestamp { seconds, nanos: 0 });
            }
            article.tags.extend(tags(number).into_iter().map(|tag| format!("tags/{tag}")));
            generator.fill(&mut article, self.bytes);
            file.write(&article.into())?;
        }
        file.finish().map(drop)
    }
}

/// Writes a file of the sections, authors and tags to which the articles of any archive refer.
///
/// # Errors
/// Fails if the file cannot be written.
pub(crate) fn write_entities(path: &Path) -> io::Result<u64> {
    let mut file = Records::create(path)?;
    Generator::new(0).entities().iter().try_for_each(|record| file.write(record))?;
    Ok(file.finish()?.0)
}

/// A writer of a file of records: `CABLEREC`, a version byte, then each record, preceded by its length.
struct Records {
    file: BufWriter<File>,
    count: u64,
    bytes: u64,
}

impl Records {
    fn create(path: &Path) -> io::Result<Records> {
        let mut file = BufWriter::with_capacity(1 << 20, File::create_new(path)?);
        file.write_all(b"CABLEREC\x01")?;
        Ok(Records { file, count: 0, bytes: 9 })
    }

    fn write(&mut self, record: &RawRecord) -> io::Result<()> {
        let mut length = Vec::with_capacity(10);
        encode_varint(record.as_bytes().len() as u64, &mut length);
        self.file.write_all(&length)?;
        self.file.write_all(record.as_bytes())?;
        self.count += 1;
        self.bytes += (length.len() + record.as_bytes().len()) as u64;
        Ok(())
    }

    fn finish(self) -> io::Result<(u64, u64)> {
        self.file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        Ok((self.count, self.bytes))
    }
}

struct Generator {
    random: Random,
    words: Words,
    tags: Ranks,
    tag_counts: Vec<u32>,
    count: u64,
}

impl Generator {
    fn new(count: u64) -> Generator {
        Generator {
            random: Random::new(SEED),
            words: Words::new(SEED),
            tags: Ranks::zipf(TAGS, 1.0),
            tag_counts: vec![0; TAGS],
            count,
        }
    }

    /// Returns the sections, authors and tags.
    fn entities(&self) -> Vec<RawRecord> {
        let sections = (0..SECTIONS).map(|number| self.section(number).into());
        let authors = (0..AUTHORS).map(|number| self.author(number).into());
        let tags = (0..TAGS).map(|number| {
            let mut tag = v1::Tag::default();
            tag.name = format!("tags/{}", tag_id(number));
            tag.display_name = format!("{} {}", self.words.name(number), self.words.name(number / 7 + 3_001));
            tag.into()
        });
        sections.chain(authors).chain(tags).collect()
    }

    fn section(&self, number: usize) -> v1::Section {
        let mut section = v1::Section::default();
        section.name = format!("sections/{}", section_id(number));
        section.display_name = self.words.name(number);
        section.path = format!("/{}", section_id(number));
        if number >= DEPARTMENTS {
            section.parent = format!("sections/{}", section_id(number % DEPARTMENTS));
        }
        section
    }

    fn author(&self, number: usize) -> v1::Author {
        let mut author = v1::Author::default();
        author.name = format!("authors/{}", author_id(number));
        author.display_name = format!("{} {}", self.words.name(number), self.words.name(number + 5_003));
        let mut random = Random::new(number as u64);
        author.bio = format!("{} {}", self.words.sentence(&mut random), self.words.sentence(&mut random));
        author
    }

    fn article(&mut self, number: u64) -> v1::Article {
        let mut article = self.draft(number);
        let size = (MEDIAN_BYTES * (DEVIATION * self.random.normal()).exp()).clamp(MIN_BYTES, MAX_BYTES);
        self.fill(&mut article, size as usize);
        article
    }

    /// Returns an article without a body.
    fn draft(&mut self, number: u64) -> v1::Article {
        let random = &mut self.random;
        let length = random.between(5, 9);
        let mut article = v1::Article::default();
        article.name = format!("articles/{}", article_id(number));
        article.headline = self.words.phrase(random, length);
        article.dek = self.words.sentence(random);
        article.section = format!("sections/{}", section_id(random.below(SECTIONS)));
        article.language = "en".into();
        article.path = format!("/{}/{number}", article.headline.to_lowercase().replace(' ', "-"));
        let jitter = random.below(JITTER) as i64;
        let seconds = (number as i64 * (SECONDS - JITTER as i64)) / self.count as i64 + jitter;
        article.publish_time = Some(Timestamp { seconds: FIRST_SECOND + seconds, nanos: 0 });
        let authors = if random.chance(15) { 2 } else { 1 };
        article.byline = Some(byline(random, authors));
        article.tags = self.draw_tags();
        article
    }

    /// Adds a body that brings the article to about `bytes` bytes.
    fn fill(&mut self, article: &mut v1::Article, bytes: usize) {
        let body = bytes.saturating_sub(article.encoded_len());
        article.body = Some(self.body(body));
    }

    fn draw_tags(&mut self) -> Vec<String> {
        let count = self.random.between(3, 5);
        let mut ranks: Vec<usize> = Vec::with_capacity(count);
        while ranks.len() < count {
            let rank = self.tags.draw(&mut self.random);
            if !ranks.contains(&rank) {
                ranks.push(rank);
                self.tag_counts[rank] += 1;
            }
        }
        ranks.into_iter().map(|rank| format!("tags/{}", tag_id(rank))).collect()
    }

    /// Returns a body of about `bytes` bytes. Every sixth block is a heading, and all others are paragraphs.
    fn body(&mut self, bytes: usize) -> v1::Body {
        let mut body = v1::Body::default();
        let mut filled = 0;
        while filled < bytes {
            let heading = body.blocks.len() % 6 == 5;
            let block = if heading { self.heading() } else { self.paragraph(bytes - filled) };
            filled += block.encoded_len() + 3;
            body.blocks.push(block);
        }
        body
    }

    fn heading(&mut self) -> v1::Block {
        let words = self.random.between(2, 5);
        let mut heading = v1::Heading::default();
        heading.level = 2;
        heading.spans = vec![span(self.words.phrase(&mut self.random, words))];
        block(v1::block::Kind::Heading(heading))
    }

    /// Returns a paragraph of two to five sentences, or fewer if they exceed `max_bytes`. One sentence in four has a
    /// mark or a link.
    fn paragraph(&mut self, max_bytes: usize) -> v1::Block {
        let mut paragraph = v1::Paragraph::default();
        let sentences = self.random.between(2, 5);
        let mut plain = String::new();
        let mut filled = 0;
        for _ in 0..sentences {
            let sentence = self.words.sentence(&mut self.random);
            filled += sentence.len();
            if self.random.chance(25) {
                paragraph
                    .spans
                    .extend(Some(std::mem::take(&mut plain)).filter(|text| !text.is_empty()).map(span));
                paragraph.spans.push(self.special(sentence));
            } else {
                plain.push_str(&sentence);
            }
            plain.push(' ');
            if filled > max_bytes {
                break;
            }
        }
        paragraph.spans.push(span(plain.trim_end().to_owned()));
        paragraph.spans.retain(|span| !span.text.is_empty());
        block(v1::block::Kind::Paragraph(paragraph))
    }

    fn special(&mut self, text: String) -> v1::Span {
        let mut span = span(text);
        match self.random.below(3) {
            0 => span.marks = vec![v1::Mark::Strong.into()],
            1 => span.marks = vec![v1::Mark::Emphasis.into()],
            _ => {
                let mut link = v1::Link::default();
                link.href = format!("https://example.com/{}", self.words.word(&mut self.random));
                span.link = Some(link);
            }
        }
        span
    }

    fn tags_in_use(&self) -> Vec<(String, u32)> {
        let tag_counts = self.tag_counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut tag_counts: Vec<_> = tag_counts.map(|(number, count)| (tag_id(number), *count)).collect();
        tag_counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        tag_counts
    }
}

fn byline(random: &mut Random, authors: usize) -> v1::Byline {
    let mut byline = v1::Byline::default();
    for _ in 0..authors {
        let mut credit = v1::Credit::default();
        credit.author = format!("authors/{}", author_id(random.below(AUTHORS)));
        byline.credits.push(credit);
    }
    byline
}

fn span(text: String) -> v1::Span {
    let mut span = v1::Span::default();
    span.text = text;
    span
}

fn block(kind: v1::block::Kind) -> v1::Block {
    let mut block = v1::Block::default();
    block.kind = Some(kind);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_archive_is_realistic_and_reproducible() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let archive = write(&path("entities"), &path("articles"), 2_000).unwrap();
        assert_eq!((archive.articles, archive.entities), (2_000, (SECTIONS + AUTHORS + TAGS) as u64));
        let median = archive.sizes[1_000];
        assert!((4_200..4_700).contains(&median), "{median}");
        assert!(archive.sizes[1_999] < 62_000);
        assert!((1.8..2.4).contains(&archive.compression), "{}", archive.compression);
        let tags: u32 = archive.tags.iter().map(|(_, count)| count).sum();
        assert!((3 * 2_000..=5 * 2_000).contains(&tags));
        let again = write(&path("entities-2"), &path("articles-2"), 2_000).unwrap();
        assert_eq!(again.sizes, archive.sizes);
        let bytes = |name: &str| std::fs::read(path(name)).unwrap();
        assert!(bytes("articles") == bytes("articles-2") && bytes("entities") == bytes("entities-2"));
    }
}

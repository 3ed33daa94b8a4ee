//! Files of items: enclosures, Media RSS, pictures of podcasts, and the blocks that they become.

use std::collections::HashSet;

use cable_body::html;
use cable_proto::{
    limit,
    v1::{self, block::Kind},
};
use url::Url;

use super::entry::Entry;
use crate::{
    ConvertedItem,
    addresses::without_addresses,
    fit::truncate,
    piece::{is_web, one_line},
};

/// The kind of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileKind {
    Picture,
    Sound,
    Video,
    Other,
}

/// One file in an encoding.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct File {
    pub(super) url: String,
    /// The media type as the feed states it.
    pub(super) r#type: String,
    /// The medium as Media RSS states it: `image`, `audio`, `video`, `document`, `executable`.
    pub(super) medium: String,
    pub(super) width: i32,
    pub(super) height: i32,
}

impl File {
    pub(super) fn kind(&self) -> FileKind {
        let guessed = html::rendition(&self.url, None, None).map(|rendition| rendition.r#type);
        let of = |text: &str| match text.split('/').next().unwrap_or_default() {
            "image" => Some(FileKind::Picture),
            "audio" => Some(FileKind::Sound),
            "video" => Some(FileKind::Video),
            _ => None,
        };
        let stated = self.r#type.to_ascii_lowercase();
        let kind = of(&stated).or_else(|| of(&self.medium));
        // A type such as `application/octet-stream` has no meaning.
        kind.or_else(|| of(&guessed.unwrap_or_default())).unwrap_or(FileKind::Other)
    }

    /// Returns whether the file is a program of Flash, which nothing plays any more.
    pub(super) fn is_flash(&self) -> bool {
        self.r#type.contains("shockwave-flash")
    }

    fn rendition(&self) -> Option<v1::Rendition> {
        let mut rendition = html::rendition(&self.url, Some(self.width.max(0)), Some(self.height.max(0)))?;
        if let Ok(url) = Url::parse(&rendition.href) {
            rendition.href = url.to_string();
        } else if rendition.href.contains(':') || rendition.href.contains('\\') {
            return None;
        }
        let is_type = |text: &str| {
            text.len() as u64 <= limit::TOKEN.maximum
                && text.split('/').count() == 2
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/+.-_".contains(&byte))
        };
        if is_type(&self.r#type) {
            self.r#type.clone_into(&mut rendition.r#type);
        }
        (rendition.href.len() as u64 <= limit::URL.maximum).then_some(rendition)
    }
}

/// A file of an item, in one or several encodings, with its texts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Attachment {
    pub(super) files: Vec<File>,
    pub(super) title: String,
    pub(super) description: String,
    pub(super) alt_text: String,
    pub(super) credit: String,
    pub(super) copyright: String,
    /// The playing time in seconds.
    pub(super) duration: Option<i64>,
    /// The address of a picture that stands for it.
    pub(super) poster: String,
}

impl Attachment {
    pub(super) fn of_file(url: String, r#type: &str) -> Self {
        let r#type = r#type.split(';').next().unwrap_or_default().trim().to_owned();
        Attachment { files: vec![File { url, r#type, ..File::default() }], ..Attachment::default() }
    }

    pub(super) fn kind(&self) -> FileKind {
        self.files.first().map_or(FileKind::Other, File::kind)
    }

    /// Returns the file as media of the schema, if it has an address that can be used.
    fn media(&self) -> Option<v1::Media> {
        let mut hrefs = HashSet::new();
        let mut files: Vec<&File> = self.files.iter().collect();
        if self.kind() == FileKind::Picture {
            files.sort_by_key(|file| std::cmp::Reverse(file.width));
        }
        let renditions = files.into_iter().filter_map(File::rendition);
        let renditions = renditions.filter(|rendition| hrefs.insert(rendition.href.clone()));
        let renditions: Vec<_> = renditions.collect();
        let (kind, has_time) = match self.kind() {
            FileKind::Sound => (v1::MediaKind::Audio, true),
            FileKind::Video => (v1::MediaKind::Video, true),
            _ => (v1::MediaKind::Picture, false),
        };
        let caption = match (one_line(&self.title), one_line(&self.description)) {
            (title, description) if description.is_empty() || title == description => title,
            (title, description) if title.is_empty() => description,
            (title, description) => format!("{title}. {description}"),
        };
        let caption = truncate(&caption, limit::PARAGRAPH.maximum as usize);
        let line = |text: &str| {
            truncate(&without_addresses(&one_line(text)), limit::LINE.maximum as usize).to_owned()
        };
        Some(v1::Media {
            caption: spans(caption),
            alt_text: truncate(&one_line(&self.alt_text), limit::PARAGRAPH.maximum as usize).to_owned(),
            credit: line(&self.credit),
            copyright_notice: line(&self.copyright),
            kind: kind.into(),
            duration: self
                .duration
                .filter(|_| has_time)
                .map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
            poster: html::rendition(&self.poster, None, None)
                .filter(|_| kind == v1::MediaKind::Video)
                .and_then(|poster| {
                    let of_poster = File { url: poster.href, ..File::default() };
                    Some(of_poster.rendition()?.href)
                })
                .unwrap_or_default(),
            renditions: Some(renditions).filter(|renditions| !renditions.is_empty())?,
            ..Default::default()
        })
    }
}

fn spans(text: &str) -> Vec<v1::Span> {
    if text.is_empty() {
        return Vec::new();
    }
    vec![v1::Span { text: text.to_owned(), ..Default::default() }]
}

fn block(kind: Kind) -> v1::Block {
    v1::Block { id: String::new(), kind: Some(kind) }
}

/// Adds the files of an entry to its article, unless the body shows them already. The first picture leads the article; a
/// small picture does if there is no other. Counts those that are not used.
pub(super) fn place(entry: &Entry, article: &mut v1::Article, result: &mut ConvertedItem) {
    let ConvertedItem { notes, not_imported, .. } = result;
    let body = article.body.get_or_insert_default();
    let (mut shown, mut linked) = (HashSet::new(), HashSet::new());
    collect(&body.blocks, &mut shown, &mut linked);
    let has_picture = body.blocks.iter().any(shows_picture);
    let mut has_poster = false;
    for attachment in &entry.attachments {
        let urls: Vec<String> = attachment.files.iter().map(|file| key(&file.url)).collect();
        // A link to a sound is not a player; a link to a paper is all that there can be.
        let is_linked = attachment.kind() == FileKind::Other && urls.iter().any(|url| linked.contains(url));
        if is_linked || urls.iter().any(|url| shown.contains(url)) {
            *not_imported.entry("files that the article has already".into()).or_default() += 1;
            continue;
        }
        let Some(media) = attachment.media() else {
            let url = attachment.files.first().map_or("", |file| &file.url);
            notes.push(format!("file omitted: {:?} is not a URL of a file", truncate(url, 200)));
            continue;
        };
        shown.extend(urls);
        has_poster |= !media.poster.is_empty();
        let kind = match attachment.kind() {
            FileKind::Picture if article.lead_media.is_none() => {
                article.lead_media = Some(media);
                continue;
            }
            FileKind::Picture => Kind::Image(v1::Image { media: Some(media), href: String::new() }),
            FileKind::Sound => Kind::Audio(v1::Audio { media: Some(media) }),
            FileKind::Video => Kind::Video(v1::Video { media: Some(media) }),
            FileKind::Other => link(attachment, &media),
        };
        body.blocks.push(block(kind));
    }
    for url in &entry.embeds {
        if url.len() as u64 <= limit::URL.maximum && is_web(url) && shown.insert(key(url)) {
            body.blocks.push(block(Kind::Embed(v1::Embed { url: url.clone(), ..Default::default() })));
        }
    }
    let mut unused = entry.thumbnails.iter().filter(|url| !shown.contains(&key(url)));
    if !has_picture && !has_poster && article.lead_media.is_none() {
        let media = unused.by_ref().find_map(|url| Attachment::of_file(url.clone(), "image").media());
        article.lead_media = media;
    }
    let unused = unused.count();
    if unused > 0 {
        not_imported.insert("small pictures beside others".into(), unused as u64);
    }
}

/// Returns a paragraph that links to a file of another kind.
fn link(attachment: &Attachment, media: &v1::Media) -> Kind {
    let href = media.renditions[0].href.clone();
    let path = href.split(['?', '#']).next().unwrap_or_default();
    let name = path.rsplit('/').next().filter(|name| !name.is_empty()).unwrap_or(&href);
    let title = one_line(&attachment.title);
    let text = truncate(if title.is_empty() { name } else { &title }, limit::LINE.maximum as usize);
    let text = text.to_owned();
    let link = Some(v1::Link { href, ..Default::default() });
    Kind::Paragraph(v1::Paragraph { spans: vec![v1::Span { text, link, ..Default::default() }] })
}

/// Returns the address by which files are compared: without scheme, and without the query of a picture, which often
/// states a size. In other addresses, the query can name the file.
pub(super) fn key(url: &str) -> String {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let url = url.split('#').next().unwrap_or_default();
    let path = url.split('?').next().unwrap_or_default();
    if is_picture_name(path) { path.to_owned() } else { url.to_owned() }
}

/// Returns whether a path ends in the file type of a picture.
fn is_picture_name(path: &str) -> bool {
    const TYPES: [&str; 10] = ["jpg", "jpeg", "png", "gif", "webp", "avif", "svg", "bmp", "tif", "tiff"];
    let end = path.rsplit_once('.').map_or("", |(_, end)| end);
    TYPES.iter().any(|name| end.eq_ignore_ascii_case(name))
}

fn shows_picture(block: &v1::Block) -> bool {
    let own = match &block.kind {
        Some(Kind::Image(_) | Kind::Gallery(_) | Kind::Video(_)) => true,
        Some(Kind::RawHtml(raw)) => raw.html.contains("<img"),
        _ => false,
    };
    own || html::nested(block).any(shows_picture)
}

/// Collects the addresses of the files that blocks show, and of those that they link to.
fn collect(blocks: &[v1::Block], shown: &mut HashSet<String>, linked: &mut HashSet<String>) {
    fn media(media: Option<&v1::Media>, shown: &mut HashSet<String>) {
        let renditions = media.into_iter().flat_map(|media| &media.renditions);
        shown.extend(renditions.map(|rendition| key(&rendition.href)));
    }
    fn spans(spans: &[v1::Span], shown: &mut HashSet<String>) {
        let links = spans.iter().filter_map(|span| span.link.as_ref());
        shown.extend(links.filter(|link| !link.href.is_empty()).map(|link| key(&link.href)));
    }
    let mut open: Vec<&v1::Block> = blocks.iter().collect();
    while let Some(block) = open.pop() {
        match &block.kind {
            Some(Kind::Paragraph(paragraph)) => spans(&paragraph.spans, linked),
            Some(Kind::Image(image)) => media(image.media.as_ref(), shown),
            Some(Kind::Gallery(gallery)) => {
                gallery.images.iter().for_each(|image| media(image.media.as_ref(), shown));
            }
            Some(Kind::Video(video)) => media(video.media.as_ref(), shown),
            Some(Kind::Audio(audio)) => media(audio.media.as_ref(), shown),
            Some(Kind::Embed(embed)) => drop(shown.insert(key(&embed.url))),
            Some(Kind::RawHtml(raw)) => {
                let values = raw.html.split('"').filter(|part| part.contains('/'));
                shown.extend(values.map(|value| key(&value.replace("&amp;", "&"))));
            }
            _ => {}
        }
        open.extend(html::nested(block));
    }
}

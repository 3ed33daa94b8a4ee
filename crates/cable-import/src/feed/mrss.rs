//! The elements of RSS, podcasts and Media RSS that name files.

use url::Url;

use super::{
    article::host,
    entry::{Entry, resolved},
    media::{Attachment, File, FileKind, key},
    xml::Element,
};

/// Adds an element with a file to an entry. Returns false if the element is none.
pub(super) fn add(element: &Element, entry: &mut Entry, base: Option<&Url>) -> bool {
    let url = |name: &str| resolved(base, element.attribute(name));
    match element.name.as_str() {
        "enclosure" => entry.add_attachment(Attachment::of_file(url("url"), element.attribute("type"))),
        "media:content" => add_content(element, entry, base),
        "media:player" => entry.add_embed(url("url")),
        "media:group" => add_group(element, entry, base),
        "media:thumbnail" => entry.thumbnails.push(url("url")),
        "itunes:image" => {
            let href = if element.attribute("href").is_empty() { url("url") } else { url("href") };
            let medium = "image".to_owned();
            let file = File { url: href, medium, ..File::default() };
            entry.add_attachment(Attachment { files: vec![file], ..Attachment::default() });
        }
        "media:credit" | "media:text" if entry.attachments.is_empty() => entry.count(&element.name),
        "media:credit" => {
            let last = entry.attachments.last_mut();
            last.into_iter().for_each(|last| last.credit = element.plain());
        }
        _ => return false,
    }
    true
}

/// Adds a description of the item to its last file, which it follows. Returns whether there is one without description.
pub(super) fn add_caption(element: &Element, entry: &mut Entry) -> bool {
    let last = entry.attachments.last_mut().filter(|last| last.description.is_empty());
    last.map(|last| last.description = element.plain()).is_some()
}

/// Adds a file of an item, unless it is no file of the article. Sizes of one picture that follow each other are one.
fn add_content(element: &Element, entry: &mut Entry, base: Option<&Url>) {
    if let Some(player) = element.child("media:player") {
        entry.add_embed(resolved(base, player.attribute("url")));
    }
    let mut one = of_content(element, base);
    let Some(file) = one.files.first() else { return };
    if let Some(reason) = unusable(file) {
        if file.is_flash() {
            entry.add_embed(watch_page(&file.url));
            entry.thumbnails.extend(Some(one.poster).filter(|poster| !poster.is_empty()));
        }
        return entry.count(reason);
    }
    let is_size = |last: &&mut Attachment| {
        let is_picture =
            |one: &Attachment| one.files.first().is_some_and(|file| file.kind() == FileKind::Picture);
        is_picture(last)
            && last.files.first().is_some_and(|other| key(&other.url) == key(&file.url) && is_picture(&one))
    };
    match entry.attachments.last_mut().filter(is_size) {
        Some(last) => last.files.append(&mut one.files),
        None => entry.add_attachment(one),
    }
}

/// Returns why a file is none of the article, as the report counts it.
fn unusable(file: &File) -> Option<&'static str> {
    let host = Url::parse(&file.url).ok().map(|url| host(&url)).unwrap_or_default();
    if file.is_flash() {
        Some("players of Flash")
    } else if file.width == 1 && file.height == 1 {
        Some("pictures of one pixel")
    } else if host == "gravatar.com" || host.ends_with(".gravatar.com") {
        Some("pictures of authors")
    } else {
        None
    }
}

/// Returns the page of a video of YouTube whose player a feed names; empty for others.
fn watch_page(player: &str) -> String {
    let Some(url) = Url::parse(player).ok() else { return String::new() };
    let is_youtube = matches!(host(&url).as_str(), "youtube.com" | "youtube-nocookie.com");
    match url.path().strip_prefix("/v/").filter(|_| is_youtube) {
        Some(id) => format!("https://www.youtube.com/watch?v={}", id.split('&').next().unwrap_or_default()),
        None => String::new(),
    }
}

fn number(text: &str) -> i32 {
    text.trim().trim_end_matches("px").parse::<f64>().map_or(0, |number| number.clamp(0.0, 1e6) as i32)
}

fn of_content(element: &Element, base: Option<&Url>) -> Attachment {
    let file = File {
        url: resolved(base, element.attribute("url")),
        r#type: element.attribute("type").to_owned(),
        medium: element.attribute("medium").to_owned(),
        width: number(element.attribute("width")),
        height: number(element.attribute("height")),
    };
    let mut attachment = Attachment {
        files: Some(file).filter(|file| !file.url.is_empty()).into_iter().collect(),
        duration: duration(element.attribute("duration")),
        ..Attachment::default()
    };
    attachment.add_texts(element, base);
    // Mastodon rates its files, and describes them for readers who do not see them.
    if element.child("media:rating").is_some() && attachment.title.is_empty() {
        attachment.alt_text = std::mem::take(&mut attachment.description);
    }
    attachment
}

impl Attachment {
    fn add_texts(&mut self, element: &Element, base: Option<&Url>) {
        for child in element.children() {
            let text = || child.plain();
            match child.name.as_str() {
                "media:title" => self.title = text(),
                "media:description" => self.description = text(),
                "media:credit" => self.credit = text(),
                "media:copyright" => self.copyright = text(),
                "media:thumbnail" if self.poster.is_empty() => {
                    self.poster = resolved(base, child.attribute("url"));
                }
                _ => {}
            }
        }
    }
}

/// Adds the files of a group: one attachment of each kind, whose files are the same content in several encodings.
fn add_group(group: &Element, entry: &mut Entry, base: Option<&Url>) {
    let mut attachments: Vec<(bool, Attachment)> = Vec::new();
    let mut texts = Attachment::default();
    texts.add_texts(group, base);
    for player in group.children().filter(|child| child.name == "media:player") {
        entry.add_embed(resolved(base, player.attribute("url")));
    }
    for child in group.children().filter(|child| child.name == "media:content") {
        let is_default = child.attribute("isDefault") == "true";
        let one = of_content(child, base);
        if let Some((file, reason)) = one.files.first().and_then(|file| Some((file, unusable(file)?))) {
            if file.is_flash() {
                entry.add_embed(watch_page(&file.url));
            }
            entry.count(reason);
            continue;
        }
        match attachments.iter_mut().find(|(_, other)| other.kind() == one.kind()) {
            Some((_, other)) if is_default => {
                other.files.extend(one.files);
                let last = other.files.len().saturating_sub(1);
                other.files.swap(0, last);
            }
            Some((_, other)) => other.files.extend(one.files),
            None => attachments.push((is_default, one)),
        }
    }
    if attachments.is_empty() && !texts.poster.is_empty() {
        entry.thumbnails.push(std::mem::take(&mut texts.poster));
    }
    for (_, mut attachment) in attachments {
        let fill = |own: &mut String, shared: &String| {
            if own.is_empty() {
                own.clone_from(shared);
            }
        };
        fill(&mut attachment.credit, &texts.credit);
        fill(&mut attachment.copyright, &texts.copyright);
        fill(&mut attachment.poster, &texts.poster);
        entry.add_attachment(attachment);
    }
}

/// Sets the playing time that a podcast states for its item.
pub(super) fn set_durations(item: &Element, entry: &mut Entry) {
    let Some(seconds) = duration(&item.get("itunes:duration")) else { return };
    let playing = |attachment: &&mut Attachment| {
        matches!(attachment.kind(), FileKind::Sound | FileKind::Video) && attachment.duration.is_none()
    };
    if let Some(attachment) = entry.attachments.iter_mut().find(playing) {
        attachment.duration = Some(seconds);
    }
}

/// Returns the duration in seconds, written as `00:32:15`, `32:15`, `1935` or `1935.5`.
pub(super) fn duration(text: &str) -> Option<i64> {
    let text = text.trim().split('.').next().unwrap_or_default();
    if text.is_empty() || text.len() > 12 {
        return None;
    }
    text.split(':').try_fold(0_i64, |seconds, part| {
        let part: u32 = part.trim().parse().ok()?;
        seconds.checked_mul(60)?.checked_add(part.into())
    })
}

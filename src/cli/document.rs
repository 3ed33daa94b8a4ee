//! Files that contain entities: JSON of any kind, and articles in Markdown or HTML.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

use cable_client::v1::{self, BodyFormat};
use cable_import::{front_matter, references::is_id, text};
use prost::Message as _;
use prost_reflect::DynamicMessage;

use super::{Error, noun::Kind, nouns::ARTICLE};
use cable::near;

/// A format of files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileFormat {
    /// Canonical JSON.
    Json,
    /// Markdown, below front matter in YAML or TOML.
    Md,
    /// HTML, below front matter in YAML or TOML.
    Html,
}

impl FileFormat {
    /// Returns the format of a file by the end of its name: JSON unless it is that of Markdown or HTML.
    fn of(file: &Path) -> Self {
        let extension = file.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        match extension.to_ascii_lowercase().as_str() {
            "md" | "markdown" => FileFormat::Md,
            "html" | "htm" => FileFormat::Html,
            _ => FileFormat::Json,
        }
    }

    fn body_format(self) -> Option<BodyFormat> {
        match self {
            FileFormat::Json => None,
            FileFormat::Md => Some(BodyFormat::Markdown),
            FileFormat::Html => Some(BodyFormat::Html),
        }
    }
}

/// An entity in a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Document<K> {
    /// The entity. Its references and its name are full names.
    pub(crate) entity: K,
    /// Its name.
    pub(crate) name: String,
    /// The etag in the file; empty if it has none.
    pub(crate) etag: String,
    /// The text of the body, in a file of Markdown or HTML; blank if the article has no body.
    pub(crate) body: Option<v1::BodySource>,
}

impl<K> Document<K> {
    /// Returns the body to put in the form of text.
    pub(crate) fn body_source(&self) -> Option<v1::BodySource> {
        self.body.clone().filter(|body| !body.text.trim().is_empty())
    }
}

/// Reads the documents of a file, at least one.
pub(crate) fn read<K: Kind>(file: &Path, format: Option<FileFormat>) -> Result<Vec<Document<K>>, Error> {
    let mut bytes = Vec::new();
    let read = match file.to_str() {
        Some("-") => io::stdin().read_to_end(&mut bytes),
        _ => File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)),
    };
    read.map_err(|source| Error::io(format!("read {}", file.display()), source))?;
    let in_file = |problem: String| Error::Usage(format!("{}: {problem}", file.display()));
    let text = text::decode(&bytes).map_err(|error| in_file(error.to_string()))?;
    let text = text.as_ref();
    let parsed = match format.unwrap_or_else(|| FileFormat::of(file)).body_format() {
        Some(format) => parse_text(text, format, file).map(|document| vec![document]),
        None => parse_json(text),
    };
    match parsed {
        Ok(documents) if documents.is_empty() => Err(in_file(format!("contains no {}", K::NOUN.name))),
        Err(Error::Usage(problem)) => Err(in_file(problem)),
        parsed => parsed,
    }
}

fn parse_json<K: Kind>(text: &str) -> Result<Vec<Document<K>>, Error> {
    let document = |message: DynamicMessage| {
        let text =
            |field| message.get_field_by_name(field).and_then(|value| value.as_str().map(str::to_owned));
        let (name, etag) = (text("name").unwrap_or_default(), text("etag").unwrap_or_default());
        let entity = message.transcode_to().map_err(|error| K::NOUN.invalid(&error))?;
        Ok(Document { entity, name, etag, body: None })
    };
    K::NOUN.parse(text)?.into_iter().map(document).collect()
}

/// Parses an article in Markdown or HTML. Without a name, it has that of the file.
fn parse_text<K: Kind>(text: &str, format: BodyFormat, file: &Path) -> Result<Document<K>, Error> {
    let parsed = front_matter::parse(text).map_err(|error| Error::Usage(describe(&error)))?;
    let front_matter::Document { mut article, body } = parsed;
    if article.name.is_empty() {
        article.name = ARTICLE.full_name(id_of(file)?);
    }
    let entity = K::decode(article.encode_to_vec().as_slice()).map_err(|error| K::NOUN.invalid(&error))?;
    let body = v1::BodySource { format: format.into(), text: body };
    Ok(Document { entity, name: article.name, etag: article.etag, body: Some(body) })
}

/// Returns the id that the name of a file gives: `storm` for `storm.md`.
fn id_of(file: &Path) -> Result<&str, Error> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).filter(|stem| is_id(stem) && *stem != "-");
    stem.ok_or_else(|| {
        Error::Usage("no id, and the name of the file is not one: add `id` to the front matter".to_owned())
    })
}

/// Describes an error in front matter, with the field that an unknown one is likely to mean.
fn describe(error: &front_matter::Error) -> String {
    let hint = match error {
        front_matter::Error::UnknownField { field, known } => {
            let name = field.rsplit('.').next().unwrap_or(field);
            near::nearest(name, known, |known| known).map(|near| format!("; did you mean `{near}`?"))
        }
        _ => None,
    };
    format!("{error}{}", hint.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(name: &str, text: &[u8]) -> Result<Vec<Document<v1::Article>>, String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(name);
        std::fs::write(&file, text).unwrap();
        read(&file, None).map_err(|error| error.to_string())
    }

    #[test]
    fn the_format_of_a_file_is_that_of_its_extension() {
        for (name, format) in [
            ("a.md", FileFormat::Md),
            ("a.MD", FileFormat::Md),
            ("a.markdown", FileFormat::Md),
            ("a.html", FileFormat::Html),
            ("a.htm", FileFormat::Html),
            ("a.json", FileFormat::Json),
            ("a.jsonl", FileFormat::Json),
            ("md", FileFormat::Json),
            ("-", FileFormat::Json),
        ] {
            assert_eq!(FileFormat::of(Path::new(name)), format, "{name}");
        }
    }

    #[test]
    fn an_article_in_markdown_has_the_name_of_its_file_unless_it_has_one() {
        let documents =
            read_text("quay.md", "\u{feff}---\nheadline: Quay\n---\nIt *opens*.\n".as_bytes()).unwrap();
        let [Document { entity, name, etag, body: Some(body) }] = &documents[..] else {
            panic!("{documents:?}")
        };
        assert_eq!((&*entity.name, &**name, &**etag), ("articles/quay", "articles/quay", ""));
        assert_eq!((body.format(), &*body.text), (BodyFormat::Markdown, "It *opens*.\n"));
        let documents = read_text("a b.html", b"---\nid: quay\netag: x-1\n---\n\n \n").unwrap();
        assert_eq!((&*documents[0].name, &*documents[0].etag), ("articles/quay", "x-1"));
        assert_eq!(documents[0].body_source(), None);
    }

    #[test]
    fn a_file_that_holds_no_document_is_refused_with_its_name() {
        for (name, text, expected) in [
            ("a b.md", &b"x"[..], "add `id` to the front matter"),
            ("quay.md", b"---\nheadlin: x\n---\n", "unknown field `headlin`; did you mean `headline`?"),
            ("quay.md", b"---\ncanonical: x\n---\n", "unknown field `canonical`"),
            ("quay.json", b"", "contains no article"),
            ("quay.json", b"[]", "contains no article"),
            ("quay.json", b"{", "not a valid article"),
            ("quay.json", b"\xff\xfe{\0}\0", "UTF-16"),
            ("quay.md", b"-\0-\0-\0", "UTF-16"),
            ("quay.html", b"caf\xe9", "not UTF-8"),
        ] {
            let error = read_text(name, text).unwrap_err();
            assert!(error.contains(expected) && error.contains(name), "{name}: {error}");
        }
        assert_eq!(
            read_text("quay.json", b"\xef\xbb\xbf{\"name\": \"quay\"}").unwrap()[0].name,
            "articles/quay"
        );
    }
}

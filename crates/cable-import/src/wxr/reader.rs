//! A reader of an export's XML that returns one element of the channel at a time.
//!
//! It knows the structure of a channel, but not the meaning of its elements. Damage costs only the element in which it
//! is: the reader continues after the first end tag of that element.

use std::io::{self, BufRead};

use quick_xml::{
    escape,
    events::{BytesRef, Event},
};

use super::{
    Error,
    element::{Element, Field},
    names::Names,
    source::{MAX_ELEMENT_BYTES, Source},
};

/// The maximum number of bytes of a file that are read again to find the end of damaged elements. Damage is usually
/// found within its element, where nothing is read again.
const MAX_REREAD_BYTES: usize = 16 << 20;

/// A reader of a channel's elements.
pub(super) struct Reader<R> {
    source: Source<R>,
    names: Names,
    place: Place,
    reread_bytes: usize,
}

/// The part of the file that comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Rss,
    Channel,
    /// The end of the element `rss`.
    End,
    /// The end of the file, or an error.
    Done,
}

/// Damage that ends the reading of an element.
enum Fault {
    /// The source cannot be read.
    Read(io::Error),
    /// The text is not well-formed.
    Xml(quick_xml::Error),
    /// The text ends within the element.
    Ended,
    /// A section of the element has no end, so that it contains the element that follows.
    Unclosed,
    /// The first element of the file is not that of RSS.
    NotRss(String),
    /// A second export follows the first one.
    Appended,
}

impl From<quick_xml::Error> for Fault {
    fn from(error: quick_xml::Error) -> Self {
        match error {
            quick_xml::Error::Io(error) => Fault::Read(io::Error::new(error.kind(), error)),
            quick_xml::Error::Syntax(_) => Fault::Ended,
            error => Fault::Xml(error),
        }
    }
}

type Xml<'a, R> = quick_xml::Reader<&'a mut Source<R>>;

fn parser<R: BufRead>(source: &mut Source<R>) -> Xml<'_, R> {
    let mut xml = quick_xml::Reader::from_reader(source);
    let config = xml.config_mut();
    config.expand_empty_elements = true;
    config.allow_dangling_amp = true;
    config.allow_unmatched_ends = true;
    xml
}

impl<R: BufRead> Reader<R> {
    pub(super) fn new(input: R) -> Self {
        Reader { source: Source::new(input), names: Names::default(), place: Place::Start, reread_bytes: 0 }
    }

    fn read(&mut self) -> Result<Option<Element>, Error> {
        self.source.start_recording();
        let level = self.names.level();
        let mut xml = parser(&mut self.source);
        let (start, mut element) = match next_start(&mut xml, &mut self.names, &mut self.place) {
            Ok(Some(start)) => start,
            Ok(None) => return self.end(),
            Err(Fault::Read(error)) => return Err(Error::Read(error)),
            Err(fault @ Fault::Appended) => return Err(Error::Damaged(self.message(&fault))),
            Err(fault) => return self.skip_markup(level, &fault),
        };
        xml.get_mut().start_recording();
        match read_element(&mut xml, &mut self.names, &mut element, &start) {
            Ok(()) => Ok(Some(element.cleaned())),
            Err(Fault::Read(error)) => Err(Error::Read(error)),
            Err(fault) => self.skip_element(level, element.name, &start, &fault).map(Some),
        }
    }

    fn end(&self) -> Result<Option<Element>, Error> {
        let truncated = |within: &str| Err(self.truncated(within));
        match self.place {
            Place::Start => Err(Error::NotWxr("no elements".into())),
            Place::Rss => truncated("rss"),
            Place::Channel => truncated("channel"),
            Place::End | Place::Done => Ok(None),
        }
    }

    fn truncated(&self, within: &str) -> Error {
        Error::Truncated { within: within.to_owned(), position: self.source.position() }
    }

    /// Skips the start of markup between the elements of the channel that cannot be read. Returns an element for it.
    fn skip_markup(&mut self, level: u16, fault: &Fault) -> Result<Option<Element>, Error> {
        let message = self.message(fault);
        if self.place == Place::Start {
            return Err(Error::NotWxr(message));
        }
        self.names.return_to(level);
        let recorded = self.source.stop_recording();
        self.reread_bytes += recorded.len();
        if self.reread_bytes > MAX_REREAD_BYTES || recorded.len() >= MAX_ELEMENT_BYTES {
            return Err(Error::Damaged(message));
        }
        self.source.push_back(recorded);
        self.source.skip_past("<")?;
        Ok(Some(Element::damaged("markup".into(), "", message)))
    }

    /// Skips the rest of a damaged element. Returns an element that names it.
    fn skip_element(
        &mut self,
        level: u16,
        name: String,
        start: &str,
        fault: &Fault,
    ) -> Result<Element, Error> {
        let mut message = self.message(fault);
        self.names.return_to(level);
        let end_tag = format!("</{start}>");
        let recorded = self.source.stop_recording();
        self.reread_bytes += recorded.len();
        if self.reread_bytes <= MAX_REREAD_BYTES {
            self.source.push_back(recorded);
        } else {
            let lost = String::from_utf8_lossy(&recorded).matches(&format!("<{start}>")).count();
            if lost > 0 {
                message += &format!("; {lost} more elements within it are lost");
            }
        }
        self.source.start_recording();
        if !self.source.skip_past(&end_tag)? {
            message = "the file was cut off within it".to_owned();
        }
        let source = self.source.stop_recording();
        Ok(Element::damaged(name, &String::from_utf8_lossy(&source), message))
    }

    fn message(&self, fault: &Fault) -> String {
        let position = self.source.position();
        match fault {
            Fault::Read(error) => error.to_string(),
            Fault::Xml(error) => format!("XML not well-formed at byte {position}: {error}"),
            Fault::Ended if self.source.recorded().len() >= MAX_ELEMENT_BYTES => {
                format!("longer than {} MiB", MAX_ELEMENT_BYTES >> 20)
            }
            Fault::Ended => "a tag, comment or CDATA section without an end".to_owned(),
            Fault::Unclosed => "a comment or CDATA section without an end".to_owned(),
            Fault::NotRss(name) => format!("first element is <{name}>, not <rss>"),
            Fault::Appended => {
                format!(
                    "another export begins before byte {position}: split the file, and give all files to one command"
                )
            }
        }
    }
}

impl<R: BufRead> Iterator for Reader<R> {
    type Item = Result<Element, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if !matches!(read, Ok(Some(_))) {
            self.place = Place::Done;
        }
        read.transpose()
    }
}

/// Reads to the start of the next element of the channel. Returns its name as the file has it, and the element.
fn next_start<R: BufRead>(
    xml: &mut Xml<'_, R>,
    names: &mut Names,
    place: &mut Place,
) -> Result<Option<(String, Element)>, Fault> {
    let mut buffer = Vec::new();
    while *place != Place::Done {
        buffer.clear();
        let event = match xml.read_event_into(&mut buffer) {
            // Text after the export is not a part of it, such as the warnings of a web server.
            Err(error) if *place == Place::End && !matches!(error, quick_xml::Error::Io(_)) => break,
            event => event?,
        };
        match event {
            Event::Start(start) if *place == Place::End && start.local_name().into_inner() == "rss" => {
                return Err(Fault::Appended);
            }
            Event::Start(_) if *place == Place::End => {}
            Event::Start(start) if *place == Place::Start => {
                let name = names.open_root(&start).map_err(quick_xml::Error::from)?;
                if name != "rss" {
                    return Err(Fault::NotRss(name));
                }
                *place = Place::Rss;
            }
            Event::Start(start) => {
                let name = names.open(&start).map_err(quick_xml::Error::from)?;
                if *place != Place::Rss || name != "channel" {
                    return Ok(Some((
                        start.name().as_ref().to_owned(),
                        Element { name, ..Element::default() },
                    )));
                }
                *place = Place::Channel;
            }
            Event::End(end) => match (end.local_name().into_inner(), *place) {
                ("channel", Place::Channel) => {
                    names.close();
                    *place = Place::Rss;
                }
                ("rss", Place::Channel | Place::Rss) => *place = Place::End,
                // The end tag of a damaged element.
                _ => {}
            },
            Event::Eof if *place == Place::End => break,
            Event::Eof if xml.get_ref().recorded().len() >= MAX_ELEMENT_BYTES => return Err(Fault::Ended),
            Event::Eof => break,
            _ => {}
        }
    }
    Ok(None)
}

/// Reads the content of an element up to its end tag.
fn read_element<R: BufRead>(
    xml: &mut Xml<'_, R>,
    names: &mut Names,
    element: &mut Element,
    start: &str,
) -> Result<(), Fault> {
    let end_tag = format!("</{start}>");
    let mut buffer = Vec::new();
    let mut path: Vec<String> = Vec::new();
    loop {
        buffer.clear();
        match xml.read_event_into(&mut buffer)? {
            Event::Start(start) => {
                let name = names.open(&start).map_err(quick_xml::Error::from)?;
                path.push(name.clone());
                element.open_child(&path, Field::new(name, &start));
            }
            Event::End(_) => {
                names.close();
                if path.pop().is_none() {
                    return Ok(());
                }
            }
            Event::Text(text) => element.add_text(&path, &text.xml10_content()),
            Event::CData(text) => {
                let text = text.xml10_content();
                if contains_next(&text, &end_tag) && is_cdata_unclosed(&text) {
                    return Err(Fault::Unclosed);
                }
                element.add_text(&path, &text);
            }
            Event::Comment(text) if contains_next(&text, &end_tag) => return Err(Fault::Unclosed),
            Event::GeneralRef(name) => element.add_text(&path, &resolve(&name)),
            Event::Eof => return Err(Fault::Ended),
            _ => {}
        }
    }
}

/// Returns whether an end tag in the text is followed by a tag, as it is where the section with the text began in
/// another element.
fn contains_next(text: &str, end_tag: &str) -> bool {
    text.split_once(end_tag).is_some_and(|(_, rest)| rest.trim_start().starts_with('<'))
}

/// Returns whether the text has the start of a CDATA section without its end. An author who writes about XML has the
/// end, too: WordPress splits a text between its brackets.
fn is_cdata_unclosed(text: &str) -> bool {
    text.rsplit_once("<![CDATA[").is_some_and(|(_, last)| !last.ends_with("]]"))
}

/// Returns the value of a reference. HTML's own references are left for the HTML parser.
fn resolve(name: &BytesRef<'_>) -> String {
    if let Ok(Some(char)) = name.resolve_char_ref() {
        return char.into();
    }
    let name = name.xml10_content();
    match escape::resolve_xml_entity(&name) {
        Some(text) => text.to_owned(),
        None => format!("&{name};"),
    }
}

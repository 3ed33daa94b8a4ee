//! A document of XML 1.0 that is well-formed whatever the texts in it.

use std::borrow::Cow;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};

pub(super) struct Xml(Writer<Vec<u8>>);

impl Xml {
    /// Starts a document.
    pub(super) fn new() -> Xml {
        let mut xml = Xml(Writer::new(Vec::new()));
        xml.put(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        xml
    }

    /// Opens an element.
    pub(super) fn open(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.put(Event::Start(start(name, attributes)));
    }

    /// Closes an element.
    pub(super) fn close(&mut self, name: &str) {
        self.put(Event::End(BytesEnd::new(name)));
    }

    /// Adds an element without content.
    pub(super) fn empty(&mut self, name: &str, attributes: &[(&str, &str)]) {
        self.put(Event::Empty(start(name, attributes)));
    }

    /// Adds an element with a text.
    pub(super) fn text(&mut self, name: &str, text: &str) {
        self.text_with(name, &[], text);
    }

    /// Adds an element with attributes and a text.
    pub(super) fn text_with(&mut self, name: &str, attributes: &[(&str, &str)], text: &str) {
        self.open(name, attributes);
        self.put(Event::Text(BytesText::new(&clean(text))));
        self.close(name);
    }

    /// Returns the number of bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.get_ref().len()
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.0.into_inner()
    }

    fn put(&mut self, event: Event<'_>) {
        self.0.write_event(event).expect("a vector takes all bytes");
    }
}

fn start<'a>(name: &'a str, attributes: &[(&str, &str)]) -> BytesStart<'a> {
    let mut start = BytesStart::new(name);
    for (name, value) in attributes {
        start.push_attribute((*name, &*clean(value)));
    }
    start
}

/// Returns a text without the characters that XML 1.0 cannot hold, not even escaped.
fn clean(text: &str) -> Cow<'_, str> {
    let fits = |c: char| match c {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        c => c >= ' ',
    };
    match text.chars().all(fits) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.chars().filter(|c| fits(*c)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use quick_xml::{Reader, events::Event};

    use super::*;

    #[test]
    fn any_text_makes_a_well_formed_document() {
        let all: String = (0..0x11_0000).step_by(7).chain(0..256).filter_map(char::from_u32).collect();
        for text in [&all, "]]>", "<![CDATA[", "&amp;&", "\"'", "\u{fffe}\u{ffff}\0\u{b}", ""] {
            let mut xml = Xml::new();
            xml.open("root", &[("a", text)]);
            xml.text("child", text);
            xml.close("root");
            let document = String::from_utf8(xml.finish()).unwrap();
            assert!(!document.contains(['\0', '\u{b}', '\u{fffe}', '\u{ffff}']));
            let (mut reader, mut read, mut depth) = (Reader::from_str(&document), String::new(), 0);
            loop {
                match reader.read_event().unwrap() {
                    Event::Start(_) => depth += 1,
                    Event::End(_) => depth -= 1,
                    Event::Text(text) => read.push_str(&text),
                    Event::GeneralRef(name) => {
                        let of_number = name.strip_prefix('#').and_then(|n| n.parse().ok());
                        read.push(match &*name {
                            "lt" => '<',
                            "gt" => '>',
                            "amp" => '&',
                            "quot" => '"',
                            "apos" => '\'',
                            _ => char::from_u32(of_number.unwrap()).unwrap(),
                        });
                    }
                    Event::Eof => break,
                    _ => {}
                }
            }
            assert_eq!((depth, &*read), (0, &*clean(text)));
        }
    }
}

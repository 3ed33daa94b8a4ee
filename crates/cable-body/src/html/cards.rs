//! Cards of editors. Around their content, Ghost writes controls of players and icons, which are no words of the author.
//! Ghost and WordPress show parts as lines or buttons that their HTML does not separate. The heading of a panel that
//! opens is a heading, although a button is in it.

use ego_tree::NodeId;
use html5ever::{QualName, local_name};
use scraper::{ElementRef, Html, Node, node::Text};

use super::{
    markup,
    notes::{Notes, quoted},
};

/// The classes of Ghost's controls and icons.
const CONTROLS: [&str; 7] = [
    "kg-audio-player",
    "kg-bookmark-icon",
    "kg-file-card-icon",
    "kg-toggle-card-icon",
    "kg-video-large-play-icon",
    "kg-video-overlay",
    "kg-video-player-container",
];

/// The class of the picture of a linked page. It belongs to that page.
const THUMBNAIL: &str = "kg-bookmark-thumbnail";

/// The class of the picture of a sound, and of the icon where it has none.
const COVER: &str = "kg-audio-thumbnail";

/// The classes of Ghost's lines that are `span` elements.
const LINES: [&str; 2] = ["kg-bookmark-author", "kg-bookmark-publisher"];

/// The icon of a panel of WordPress that opens.
const PANEL_ICON: &str = "wp-block-accordion-heading__toggle-icon";

/// The classes of links that WordPress shows as buttons: the second link to a file, and all others.
const BUTTONS: [&str; 3] = ["wp-block-file__button", "wp-block-button__link", "wp-element-button"];

/// The change of an element.
enum Change {
    LeaveOut,
    /// The element is a line of its own.
    Line,
    /// The element does not continue the word before it.
    Separate,
    /// The element is running text.
    Text,
}

/// Leaves out the parts of cards that are no content, and reports the pictures among them.
pub(super) fn simplify(tree: &mut Html, notes: &mut Notes) {
    // The root has no parent that is an element. It gets the attributes of an `html` element in the text.
    let is_inner = |element: &ElementRef<'_>| element.parent().and_then(ElementRef::wrap).is_some();
    let elements = tree.tree.nodes().filter_map(ElementRef::wrap).filter(is_inner);
    let changes: Vec<_> = elements.filter_map(|e| Some((e.id(), change(e, notes)?))).collect();
    for (id, change) in changes {
        apply(tree, id, &change);
    }
}

fn change(element: ElementRef<'_>, notes: &mut Notes) -> Option<Change> {
    if is_heading_button(element) {
        return Some(Change::Text);
    }
    let class = element.attr("class")?;
    let has = |names: &[&str]| class.split_ascii_whitespace().any(|class| names.contains(&class));
    let name = element.value().name();
    if has(&[THUMBNAIL]) {
        let pictures = markup::below(element).chain([element]).filter(|e| e.value().name() == "img");
        for source in pictures.filter_map(|picture| picture.attr("src")) {
            notes.add(|| format!("picture {} of a linked page: left out", quoted(source)));
        }
    }
    let is_empty_cover = has(&[COVER]) && element.attr("src").is_none_or(|source| source.trim().is_empty());
    match () {
        () if has(&CONTROLS) || has(&[THUMBNAIL, PANEL_ICON]) || is_empty_cover => Some(Change::LeaveOut),
        () if has(&BUTTONS) => Some(Change::Separate),
        () if has(&LINES) && name == "span" => Some(Change::Line),
        () => None,
    }
}

/// Returns whether the element is the button in a heading that opens the panel below it.
fn is_heading_button(element: ElementRef<'_>) -> bool {
    let parent = || element.parent().and_then(ElementRef::wrap);
    let is_heading = |e: ElementRef<'_>| matches!(e.value().name(), "h1" | "h2" | "h3" | "h4" | "h5" | "h6");
    element.value().name() == "button" && parent().is_some_and(is_heading)
}

fn apply(tree: &mut Html, id: NodeId, change: &Change) {
    let Some(mut node) = tree.tree.get_mut(id) else { return };
    match (change, node.value()) {
        (Change::LeaveOut, _) => node.detach(),
        (Change::Separate, _) => {
            node.insert_before(Node::Text(Text { text: " ".into() }));
        }
        (Change::Line, Node::Element(element)) => {
            element.name = QualName { local: local_name!("div"), ..element.name.clone() };
        }
        (Change::Text, Node::Element(element)) => {
            element.name = QualName { local: local_name!("span"), ..element.name.clone() };
        }
        (Change::Line | Change::Text, _) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::{NoAttachments, body, plain_body};
    use crate::render;
    use cable_proto::v1::{self, BodyFormat, block::Kind};

    fn converted(html: &str) -> (Vec<Kind>, String, Vec<String>) {
        let converted = plain_body(html).unwrap();
        let text = render(&converted.body, BodyFormat::PlainText);
        let notes = converted.notes.lines.clone();
        (converted.body.blocks.into_iter().filter_map(|block| block.kind).collect(), text, notes)
    }

    #[test]
    fn a_bookmark_has_lines_and_no_pictures_of_its_page() {
        let (_, text, notes) = converted(
            "<figure class='kg-card kg-bookmark-card'><a class='kg-bookmark-container' href='https://b.example/'>\
             <div class='kg-bookmark-content'><div class='kg-bookmark-title'>Title</div>\
             <div class='kg-bookmark-description'>Description</div><div class='kg-bookmark-metadata'>\
             <img class='kg-bookmark-icon' src='/icon.png' alt=''><span class='kg-bookmark-author'>Site</span>\
             <span class='kg-bookmark-publisher'>Author</span></div></div>\
             <div class='kg-bookmark-thumbnail'><img src='/thumb.jpg' alt=''></div></a>\
             <figcaption>Caption</figcaption></figure>",
        );
        let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines, ["Title", "Description", "Site", "Author", "Caption"]);
        assert_eq!(notes, ["picture `/thumb.jpg` of a linked page: left out"]);
    }

    #[test]
    fn players_have_their_file_and_no_controls() {
        let (kinds, text, _) = converted(
            "<div class='kg-card kg-audio-card'><img src='' alt='audio-thumbnail' class='kg-audio-thumbnail kg-audio-hide'>\
             <div class='kg-audio-thumbnail placeholder'><svg><title>note</title></svg></div>\
             <div class='kg-audio-player-container'><audio src='/a.mp3' preload='metadata'></audio>\
             <div class='kg-audio-title'>Sound</div><div class='kg-audio-player'><button>Play</button>\
             <span class='kg-audio-current-time'>0:00</span><div>/<span>12.5</span></div><button>1&#215;</button>\
             </div></div></div>",
        );
        assert!(matches!(&kinds[..], [Kind::Audio(_), Kind::Paragraph(_)]), "{kinds:?}");
        assert!(text.contains("Sound") && !text.contains("0:00"), "{text}");
        let (kinds, text, _) = converted(
            "<figure class='kg-card kg-video-card kg-card-hascaption'><div class='kg-video-container'>\
             <video src='/v.mp4' poster='/p.jpg' width='640' height='360'></video>\
             <div class='kg-video-overlay'><button class='kg-video-large-play-icon'>Play</button></div>\
             <div class='kg-video-player-container'><div>0:00/<span>0:10</span></div><button>1&#215;</button></div>\
             </div><figcaption><p>A <b>cat</b></p></figcaption></figure>",
        );
        let [Kind::Video(v1::Video { media: Some(media), .. })] = &kinds[..] else { panic!("{kinds:?}") };
        assert_eq!(media.renditions[0].href, "/v.mp4");
        assert!(text.contains("A cat") && !text.contains("0:1"), "{text}");
    }

    #[test]
    fn pictures_and_links_of_the_author_stay() {
        let cover = "<div class='kg-card kg-audio-card'><img src='/cover.jpg' alt='Cover' class='kg-audio-thumbnail'>\
                     <audio src='/a.mp3'></audio></div>";
        assert!(matches!(&converted(cover).0[..], [Kind::Image(_), Kind::Audio(_)]));
        let (_, _, notes) = converted("<p>A</p><img class='kg-bookmark-thumbnail' src='/thumb.jpg'>");
        assert_eq!(notes, ["picture `/thumb.jpg` of a linked page: left out"]);
        // Classes of other elements, and of the whole text.
        let (kinds, _, _) = converted("<img class='kg-bookmark-author' src='/a.jpg'>");
        assert!(matches!(&kinds[..], [Kind::Image(_)]), "{kinds:?}");
        let (_, text, _) = converted("<html class='kg-video-overlay'><p>All words</p>");
        assert_eq!(text.trim(), "All words");
    }

    #[test]
    fn files_have_links_without_icons() {
        let (_, text, _) = converted(
            "<div class='kg-card kg-file-card'><a class='kg-file-card-container' href='/f.pdf' title='Download' download>\
             <div class='kg-file-card-contents'><div class='kg-file-card-title'>Plan</div>\
             <div class='kg-file-card-metadata'><div class='kg-file-card-filename'>f.pdf</div></div></div>\
             <div class='kg-file-card-icon'><svg><title>download-circle</title></svg></div></a></div>",
        );
        assert_eq!(text.lines().filter(|line| !line.is_empty()).collect::<Vec<_>>(), ["Plan", "f.pdf"]);
        let file = "<!-- wp:file --><div class='wp-block-file'><a href='/f.pdf'>Plan</a><a href='/f.pdf' \
                    class='wp-block-file__button wp-element-button' download>Save</a></div><!-- /wp:file -->";
        let converted = body(file, &NoAttachments);
        assert_eq!(render(&converted.body, BodyFormat::PlainText).trim(), "Plan Save");
    }

    #[test]
    fn headings_of_panels_are_headings() {
        let (kinds, text, _) = converted(
            "<div class='wp-block-accordion-item'><h3 class='wp-block-accordion-heading'><button type='button' \
             class='wp-block-accordion-heading__toggle'><span class='wp-block-accordion-heading__toggle-title'>What is a \
             <em>tide</em>?</span><span class='wp-block-accordion-heading__toggle-icon' aria-hidden='true'>+</span></button>\
             </h3><div class='wp-block-accordion-panel'><p>Water.</p></div></div>",
        );
        assert!(
            matches!(&kinds[..], [Kind::Heading(v1::Heading { level: 3, .. }), Kind::Paragraph(_)]),
            "{kinds:?}"
        );
        assert_eq!(text.split_whitespace().collect::<Vec<_>>().join(" "), "What is a tide? Water.");
    }

    #[test]
    fn buttons_and_controls_do_not_join_words() {
        for (html, words) in [
            (
                "<div class='wp-block-button'><a class='wp-block-button__link' href='/a'>One two</a>\
                 <a class='wp-block-button__link wp-element-button' href='/b'>three</a></div>",
                "One two three",
            ),
            (
                "<form><label>Name</label><button>Go</button><fieldset><legend>One</legend>two</fieldset></form>",
                "Name Go One two",
            ),
            (
                "<details><summary>One</summary><x-a>two</x-a><x-a>three</x-a> f<u>ou</u>r</details>",
                "One two three four",
            ),
            ("<dl><dt>a<script>x</script>b</dt><dd><dialog>c</dialog><output>d</output></dd></dl>", "ab c d"),
        ] {
            let found = converted(html).1;
            assert_eq!(found.split_whitespace().collect::<Vec<_>>().join(" "), words, "{html}");
        }
    }
}

//! Pictures that a text has twice: one that a script loads later, and its twin for browsers without scripts.

use scraper::Html;

use super::{
    blocks::Walker,
    figures::{has_only_pictures, media},
    markup, urls,
};
use cable_proto::v1::{self, Block, block::Kind};

/// Merges the pictures of a `noscript` with those of the block before it. Returns false if it has anything else.
pub(super) fn merge(walker: &mut Walker<'_>, tree: &Html, before: Option<&mut Block>) -> bool {
    let images = match before.and_then(|block| block.kind.as_mut()) {
        Some(Kind::Image(image)) => std::slice::from_mut(image),
        Some(Kind::Gallery(gallery)) => &mut gallery.images[..],
        _ => return false,
    };
    let mut pictures = images.iter_mut().filter_map(|image| image.media.as_mut()).collect::<Vec<_>>();
    has_only_pictures(tree.root_element())
        && pictures_of(walker, tree).iter().all(|picture| is_twin(&mut pictures, picture))
}

/// Returns the pictures of a tree.
fn pictures_of(walker: &mut Walker<'_>, tree: &Html) -> Vec<v1::Media> {
    let images = markup::below(tree.root_element()).filter(|e| e.value().name() == "img");
    images.filter_map(|img| media(walker, img)).collect()
}

/// Returns whether one of the pictures shows the same file, maybe in another size. A picture that lacks its file gets
/// that of its twin.
fn is_twin(pictures: &mut [&mut v1::Media], twin: &v1::Media) -> bool {
    let Some(file) = twin.renditions.first() else { return false };
    let stem = urls::file_stem(&file.href);
    for media in pictures {
        let lacks_file = media.renditions.is_empty() && media.alt_text == twin.alt_text;
        if lacks_file {
            media.renditions.push(file.clone());
        }
        if lacks_file || media.renditions.iter().any(|other| urls::file_stem(&other.href) == stem) {
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::{NoAttachments, body};
    use super::*;

    fn kinds(html: &str) -> Vec<Kind> {
        body(html, &NoAttachments).body.blocks.into_iter().filter_map(|block| block.kind).collect()
    }

    const LAZY: &str =
        "<img src='data:image/gif;base64,R0' data-src='https://a.b/real-300x200.jpg' alt='lazy'>";
    const BLANK: &str = "<img src='data:image/gif;base64,R0' alt='lazy'>";
    const SPINNER: &str = "<img src='/spinner.gif' data-lazy-src='//a.b/real.jpg' alt='lazy'>";
    const TWIN: &str = "<noscript><img src='https://a.b/real.jpg?x=1' alt='lazy'></noscript>";

    #[test]
    fn a_lazy_picture_comes_once() {
        let scaled =
            "<noscript><figure><img src='https://a.b/real-scaled.jpg' alt='lazy'></figure></noscript>";
        for html in [
            format!("<figure>{LAZY}{TWIN}</figure>"),
            format!("<figure>{LAZY}{TWIN}<figcaption>C</figcaption></figure>"),
            format!("<figure>{LAZY}</figure>{TWIN}"),
            format!("<figure>{LAZY}</figure>\n\n{scaled}"),
            format!("<p>{SPINNER}{TWIN}</p>"),
            format!("{BLANK}{TWIN}"),
            format!("<figure>{BLANK}{TWIN}</figure>"),
            format!("<figure><a href='/x'>{LAZY}{TWIN}</a></figure>"),
            format!("<div class='wp-caption'>{LAZY}{TWIN}<p class='wp-caption-text'>C</p></div>"),
        ] {
            let all = kinds(&html);
            let [Kind::Image(image)] = &all[..] else { panic!("{html}: {all:?}") };
            let files = &image.media.as_ref().unwrap().renditions;
            assert!(files[0].href.contains("a.b/real"), "{html}: {all:?}");
        }
    }

    #[test]
    fn other_content_without_scripts_stays() {
        assert_eq!(kinds(&format!("{LAZY}<noscript><img src='/other.jpg'></noscript>")).len(), 2);
        assert_eq!(
            kinds(&format!("{LAZY}<noscript>Words <img src='https://a.b/real.jpg'></noscript>")).len(),
            3
        );
        let gallery = format!(
            "<figure class='wp-block-gallery'>{LAZY}{TWIN}<img src='/b.jpg'><noscript><img src='/b-9x9.jpg'></noscript></figure>"
        );
        assert!(matches!(&kinds(&gallery)[..], [Kind::Gallery(gallery)] if gallery.images.len() == 2));
    }
}

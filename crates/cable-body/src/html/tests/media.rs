//! Pictures, galleries, players and embeds.

use super::*;

#[test]
fn pictures_retain_size_texts_credit_and_link() {
    let html = "<figure class='wp-block-image'><a href='/big'><img class='wp-image-7' src='https://a.b/c.jpg' \
                width='640' height='480' alt='A quay'></a><figcaption>The <em>old</em> quay</figcaption></figure>";
    let [Kind::Image(image)] = &with_files(html)[..] else { panic!("no image") };
    let media = image.media.as_ref().unwrap();
    let expected = v1::Rendition {
        href: "https://a.b/c.jpg".into(),
        r#type: "image/jpeg".into(),
        width: 640,
        height: 480,
    };
    assert_eq!(media.renditions, [expected]);
    assert_eq!((media.alt_text.as_str(), media.credit.as_str()), ("A quay", "Credit 7"));
    assert_eq!(media.caption, [bare("The "), marked("old", &[Mark::Emphasis]), bare(" quay")]);
    assert_eq!(image.href, "/big");
}

#[test]
fn the_caption_shortcode_is_a_figure() {
    let html = r#"[caption id="attachment_7" width="300" caption="x>y"]<a href="/q"><img src="/a.gif" alt=""/></a> The quay, <b>closed</b>[/caption] After"#;
    let all = with_files(html);
    let [Kind::Image(image), Kind::Paragraph(_)] = &all[..] else { panic!("{all:?}") };
    let caption: String = image.media.iter().flat_map(|m| &m.caption).map(|s| s.text.as_str()).collect();
    assert_eq!(caption, "x>y The quay, closed");
    assert_eq!(image.href, "/q");
}

#[test]
fn galleries_are_read_from_blocks_and_shortcodes() {
    let html = "<figure class='wp-block-gallery'><figure><img src='/1.jpg'><figcaption>One</figcaption></figure>\
                <figure><img src='/2.jpg'></figure><figcaption>Both</figcaption></figure>";
    let Kind::Gallery(gallery) = one(html) else { panic!("no gallery") };
    assert_eq!(gallery.images[0].media.as_ref().unwrap().caption, [bare("One")]);
    assert_eq!(gallery.caption, [bare("Both")]);
    for (html, count) in
        [("[gallery ids=\"1,2,200\"]", 2), ("<p>[gallery]</p>", 1), ("[gallery ids='3'/]", 1)]
    {
        let all = with_files(html);
        assert!(matches!(&all[..], [Kind::Gallery(g)] if g.images.len() == count), "{all:?}");
    }
    assert!(
        matches!(&with_files("[gallery ids='200']")[..], [Kind::RawHtml(raw)] if raw.reason == "shortcode [gallery]")
    );
}

#[test]
fn content_of_other_sites_is_embedded_by_url() {
    let url = "https://www.youtube.com/watch?v=1";
    let sources = [
        format!("{url}\n"),
        format!("[embed width='3']{url}[/embed]"),
        format!(
            "<figure class='wp-block-embed'><div class='wp-block-embed__wrapper'>\n{url}\n</div></figure>"
        ),
        format!("<iframe src='{url}'></iframe>"),
        format!("[video width=\"3\" mp4=\"{url}\"][/video]"),
        format!("[audio {url}]"),
        format!("<!-- wp:embed {{\"url\":\"{url}\"}} /-->"),
    ];
    for html in sources {
        let all = with_files(&html);
        let [Kind::Embed(embed)] = &all[..] else { panic!("{html}: {all:?}") };
        assert_eq!((embed.provider.as_str(), embed.url.as_str()), ("youtube", url));
    }
    let all = blocks("See\nhttps://vimeo.com/1\nnow. https://vimeo.com/2 too");
    assert!(matches!(&all[..], [Kind::Paragraph(_), Kind::Embed(_), Kind::Paragraph(_)]), "{all:?}");
    let in_block = "<!-- wp:paragraph --><p>https://vimeo.com/1</p><!-- /wp:paragraph -->";
    assert_eq!(one(in_block), paragraph(&[bare("https://vimeo.com/1")]));
}

#[test]
fn galleries_of_any_markup_are_galleries() {
    let (a, b) = ("<img src='/a.jpg'>", "<img src='/b.jpg'>");
    for html in [
        format!(
            "<ul class='wp-block-gallery columns-2'><li class='blocks-gallery-item'><figure>{a}</figure></li>\
             <li><figure>{b}</figure></li></ul>"
        ),
        format!(
            "<!-- wp:gallery --><ul class='wp-block-gallery'><li>{a}</li><li>{b}</li></ul><!-- /wp:gallery -->"
        ),
        format!(
            "<figure class='wp-block-gallery'><ul class='blocks-gallery-grid'><li>{a}</li><li>{b}</li></ul></figure>"
        ),
        format!("<ol class='gallery'><li>{a}</li><li>{b}</li></ol>"),
        format!(
            "<div class='gallery'><dl class='gallery-item'><dt>{a}</dt><dd class='gallery-caption'>A</dd></dl>\
             <dl><dt>{b}</dt></dl></div>"
        ),
        format!("<div class='tiled-gallery'><div class='gallery-row'>{a}{b}</div></div>"),
    ] {
        let Kind::Gallery(gallery) = one(&html) else { panic!("{html}") };
        assert_eq!(gallery.images.len(), 2, "{html}");
    }
    for html in [
        format!("<ul><li>{a}</li><li>{b}</li></ul>"),
        format!("<ul class='gallery'><li>{a} one</li><li>{b}</li></ul>"),
    ] {
        assert!(matches!(one(&html), Kind::List(_)), "{html}");
    }
}

#[test]
fn shortcodes_of_players_become_players() {
    for (shortcode, files) in [
        ("[video width=\"640\" mp4=\"/c.mp4\" webm=\"/c.webm?a=1&amp;b=2\" poster=\"/p.jpg\"][/video]", 2),
        ("[video src='https://a.b/c.mov' /]", 1),
        ("[audio mp3=\"https://a.b/c.mp3\" ogg=\"https://a.b/c.ogg\"][/audio]", 2),
        ("[audio https://a.b/c.mp3]", 1),
    ] {
        let media = match one(shortcode) {
            Kind::Video(video) => {
                let media = video.media.unwrap();
                assert_eq!(media.poster.is_empty(), files == 1, "{shortcode}");
                media
            }
            Kind::Audio(audio) => audio.media.unwrap(),
            other => panic!("{other:?}"),
        };
        assert_eq!(media.renditions.len(), files, "{shortcode}");
    }
    assert!(matches!(one("[video src='https://vimeo.com/1']"), Kind::Embed(_)));
}

#[test]
fn urls_that_are_not_taken_are_noted() {
    let long = "x".repeat(2_048);
    for (html, note) in [
        ("<p><a href='javascript:void(0)'>x</a></p>".to_owned(), "link to `javascript:void(0)`"),
        ("<h2><a href='data:x'>x</a></h2>".to_owned(), "link to `data:x`"),
        ("<table><tr><td><a href='x:y'>x</a></td></tr></table>".to_owned(), "link to `x:y`"),
        ("<pre>a <a href='javascript:x'>b</a></pre>".to_owned(), "link to `javascript:x`"),
        (
            "<figure><a href='javascript:x'><img src='/a.jpg'></a></figure>".to_owned(),
            "link to `javascript:x`",
        ),
        ("<img src='data:image/png;base64,AAAA' alt='x'>".to_owned(), "file `data:image/png;base64,AAAA`"),
        ("<figure><img src='file:///c:/x.png' alt='x'></figure>".to_owned(), "file `file:///c:/x.png`"),
        ("<img src='file:///c:/x.png'>".to_owned(), "picture `file:///c:/x.png`"),
        ("<dl><dt><a href='javascript:x'>a</a></dt></dl>".to_owned(), "element <dl>: 1 links or files"),
        (format!("<p><a href='/{long}'>x</a></p>"), "link to `/xxx"),
        (format!("<img src='/a.jpg' alt='{}'>", "x".repeat(5_000)), "text alternative `xxx"),
    ] {
        let notes = body(&html, &NoAttachments).notes;
        assert!(notes.lines.iter().any(|line| line.starts_with(note)), "{html}: {notes:?}");
    }
}

#[test]
fn players_have_files_poster_caption_and_credit() {
    let html = "<figure><video controls poster='/p.jpg' width=640 height=360 aria-label='Sea'>\
                <source src='https://a.b/c.mp4' type='video/mp4'><source src='/c.webm'></video>\
                <figcaption>Waves <small>Ann Vale</small></figcaption></figure>";
    let Kind::Video(video) = one(html) else { panic!("no video") };
    let media = video.media.unwrap();
    let file = |href: &str, kind: &str, width, height| v1::Rendition {
        href: href.into(),
        r#type: kind.into(),
        width,
        height,
    };
    assert_eq!(
        media.renditions,
        [file("https://a.b/c.mp4", "video/mp4", 640, 360), file("/c.webm", "video/webm", 0, 0)]
    );
    assert_eq!((media.poster.as_str(), media.alt_text.as_str()), ("/p.jpg", "Sea"));
    assert_eq!((&media.caption[..], media.credit.as_str()), (&[bare("Waves")][..], "Ann Vale"));
    for (html, wanted) in [
        ("<audio src='/a.mp3'></audio>", "audio"),
        ("<video src='/a.mp4'>Get a new browser.</video>", "video"),
        ("<p>w1 <video src='/a.mp4'></video></p>", "paragraph video"),
        ("<video src='/a.mp4'><p>w1<div>w2</div></video>", "video paragraph paragraph"),
        ("<video src='javascript:x'>w1</video>", "raw_html"),
        ("<iframe src='https://video.example/1'></iframe>", "embed"),
        (
            "<figure><video src='/a.mp4'></video><img src='/b.jpg'><figcaption>w1</figcaption></figure>",
            "video image paragraph",
        ),
    ] {
        let kinds: Vec<_> = with_files(html).iter().map(kind_name).collect();
        assert_eq!(kinds.join(" "), wanted, "{html}");
    }
    let converted = body("<video src='/a.mp4'><track src='/t.vtt'>Get a browser.</video>", &NoAttachments);
    assert_eq!(converted.notes.lines.len(), 2, "{:?}", converted.notes);
}

#[test]
fn pictures_of_a_gallery_have_links_and_files() {
    let html = "<figure><a href='/x'><img src='/1.jpg' srcset='/1.jpg 800w, /s.jpg 400w, /d.jpg 2x'></a>\
                <figure><img src='/2.jpg'><figcaption>Two</figcaption></figure></figure>";
    let Kind::Gallery(gallery) = one(html) else { panic!("no gallery") };
    assert_eq!(gallery.images.iter().map(|i| i.href.as_str()).collect::<Vec<_>>(), ["/x", ""]);
    let files = &gallery.images[0].media.as_ref().unwrap().renditions;
    assert_eq!(
        files.iter().map(|f| (f.href.as_str(), f.width)).collect::<Vec<_>>(),
        [("/1.jpg", 0), ("/s.jpg", 400)]
    );
    let html = "<figure><img src='/1.jpg'><img src='/2.jpg'><figure><figcaption>Three</figcaption></figure></figure>";
    assert!(matches!(one(html), Kind::Gallery(gallery) if gallery.caption == [bare("Three")]));
}

#[test]
fn focal_points_and_playing_times_of_other_forms_are_ignored() {
    let point = |value: &str| match one(&format!("<img src='/a.jpg' data-focal-point='{value}'>")) {
        Kind::Image(image) => image.media.unwrap().focal_point.map(|point| (point.x, point.y)),
        other => panic!("{other:?}"),
    };
    assert_eq!((point("0.375 0.5"), point(" 0 1 ")), (Some((0.375, 0.5)), Some((0.0, 1.0))));
    for value in ["", "0.5", "0.5,0.5", "0.5 1.1", "-0.1 0.5", "NaN 0.5", "inf 0", "0.5 0.5 0.5", "50% 50%"] {
        assert_eq!(point(value), None, "{value}");
    }
    let time = |value: &str| {
        let html = format!("<video src='/a.mp4' data-duration-seconds='{value}'></video>");
        match one(&html) {
            Kind::Video(video) => video.media.unwrap().duration.map(|time| (time.seconds, time.nanos)),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (time("74"), time("9.5"), time("0.000000001")),
        (Some((74, 0)), Some((9, 500_000_000)), Some((0, 1)))
    );
    assert_eq!(time("315576000000"), Some((315_576_000_000, 0)));
    for value in
        ["", ".5", "-1", "+1", "1e3", "PT9S", "9:30", "0.0000000001", "315576000001", "99999999999999999999"]
    {
        assert_eq!(time(value), None, "{value}");
    }
}

/// Files 1 and 2 are sounds, 3 is a video, 4 a document.
struct Recordings;

impl Attachments for Recordings {
    fn media(&self, id: u64) -> Option<v1::Media> {
        let name = ["a.mp3", "b.mp3", "c.mp4", "d.pdf"].get(usize::try_from(id).ok()?.checked_sub(1)?)?;
        let renditions = rendition(&format!("https://a.example/{name}"), None, None);
        Some(v1::Media { renditions: renditions.into_iter().collect(), ..Default::default() })
    }

    fn own_pictures(&self) -> Vec<v1::Media> {
        Vec::new()
    }
}

#[test]
fn a_playlist_becomes_its_sounds_and_videos() {
    let found = body("Before [playlist ids=\"1,3,4,9\"] after", &Recordings);
    let kinds: Vec<_> = found.body.blocks.iter().map(|block| block.kind.as_ref().unwrap()).collect();
    let [Kind::Paragraph(_), Kind::Audio(sound), Kind::Video(_), Kind::Paragraph(_)] = &kinds[..] else {
        panic!("{kinds:#?}")
    };
    assert_eq!(sound.media.as_ref().unwrap().renditions[0].href, "https://a.example/a.mp3");
    let notes = found.notes.lines.join("; ");
    assert!(notes.contains("not in the file: `9`") && notes.contains("d.pdf"), "{notes}");
    let Kind::RawHtml(raw) = one("[playlist ids='1']") else { panic!("no raw HTML") };
    assert_eq!(raw.reason, "shortcode [playlist]");
}

#[test]
fn attachments_that_are_not_known_are_reported() {
    for html in [
        "[gallery ids=\"1,9\"]",
        "<!-- wp:gallery {\"ids\":[1,9]} /-->",
        "<!-- wp:gallery {\"ids\":[9]} /-->",
        "<!-- wp:image {\"id\":9} /-->",
    ] {
        let notes = body(html, &Recordings).notes.lines;
        assert!(notes.iter().any(|note| note.contains("not in the file: `9`")), "{html}: {notes:?}");
    }
}

#[test]
fn a_background_is_a_picture_of_its_cover_or_reported() {
    for style in [
        "background-image:url(/a.jpg)",
        "background-image: url('/a.jpg')",
        "background:#000 url(&quot;/a.jpg&quot;)",
    ] {
        let html = format!("<div class='wp-block-cover' style=\"{style}\"><p>Words</p></div>");
        let all = blocks(&html);
        let [Kind::Image(image), Kind::Paragraph(_)] = &all[..] else { panic!("{html}: {all:#?}") };
        assert_eq!(image.media.as_ref().unwrap().renditions[0].href, "/a.jpg");
        let other = body(&html.replace("wp-block-cover", "hero"), &NoAttachments);
        assert_eq!(other.notes.lines, ["background picture `/a.jpg`: left out"]);
    }
    let shown = "<div class='wp-block-cover' style='background-image:url(/a.jpg)'><img src='/a.jpg'></div>";
    assert!(matches!(one(shown), Kind::Image(_)));
}

#[test]
fn a_title_of_a_picture_is_reported() {
    let notes = |html: &str| body(html, &NoAttachments).notes.lines;
    assert_eq!(
        notes("<img src='/a.jpg' alt='Quay' title='By  Jo'>"),
        ["title `By Jo` of a picture: left out"]
    );
    assert!(notes("<img src='/a.jpg' alt='Quay' title='Quay'><img src='/b.jpg' title=''>").is_empty());
}

#[test]
fn a_shortcode_with_the_address_of_a_video_is_an_embed() {
    for html in [
        "[youtube https://youtu.be/1]",
        "[youtube url='https://youtu.be/1' width=3]",
        "[youtube=https://youtu.be/1]",
        "[youtube=\"https://youtu.be/1\" w=3]",
    ] {
        let all = with_files(html);
        let [Kind::Embed(embed)] = &all[..] else { panic!("{html}: {all:?}") };
        assert_eq!((embed.provider.as_str(), embed.url.as_str()), ("youtube", "https://youtu.be/1"));
    }
    assert!(matches!(one("[vimeo 12345]"), Kind::RawHtml(_)));
    assert!(matches!(&with_files("[vimeo=https://vimeo.com/1]")[..], [Kind::Embed(_)]));
    assert!(matches!(&with_files("[tweet https://twitter.com/a/status/1]")[..], [Kind::Embed(_)]));
}

#[test]
fn a_caption_stays_with_its_picture_beside_icons() {
    for (beside, blocks) in [
        ("<div><svg><path d=\"M0 0\"/></svg></div>", 1),
        ("<button type=\"button\"> <svg></svg> </button>", 1),
        ("<button>Enlarge</button>", 3),
    ] {
        let html = format!(
            "<figure><a href=\"https://a.example/big.jpg\"><div><img src=\"https://a.example/a.jpg\" alt=\"x\">\
             {beside}</div></a><figcaption>The quay</figcaption></figure>"
        );
        let body = body(&html, &NoAttachments).body;
        assert_eq!(body.blocks.len(), blocks, "{body:?}");
        let Some(Kind::Image(image)) = &body.blocks[0].kind else { panic!("{body:?}") };
        assert_eq!(image.href, "https://a.example/big.jpg");
        if blocks == 1 {
            assert_eq!(image.media.as_ref().unwrap().caption[0].text, "The quay");
        }
    }
}

#[test]
fn captions_of_players_and_of_texts_are_no_shortcodes() {
    let video = "https://www.youtube.com/embed/1";
    for inner in [format!("<iframe src='{video}'></iframe>"), format!("[youtube {video}]")] {
        let all = with_files(&format!("[caption width=\"3\"]{inner} A <b>caption</b>[/caption] w1"));
        let [Kind::Embed(embed), Kind::Paragraph(_)] = &all[..] else { panic!("{all:#?}") };
        assert_eq!((embed.url.as_str(), embed.caption.len()), (video, 2));
    }
    assert_eq!(words_and_notes("[caption caption='w1']w2 <b>w3</b>[/caption] w4").0, "w1 w2 w3 w4");
}

#[test]
fn videos_of_videopress_are_embeds() {
    let (open, close) = ("<!-- wp:videopress/video {\"guid\":\"X1\"}", "<!-- /wp:videopress/video -->");
    let figure =
        |inner: &str| format!("{open} --><figure class='wp-block-videopress-video'>{inner}</figure>{close}");
    for (html, caption) in [
        (figure("<div class='wrapper'>\nhttps://videopress.com/v/X1\n</div>"), false),
        (figure("<div>https://videopress.com/v/X1</div><figcaption>w1</figcaption>"), true),
        (figure("<iframe src='https://videopress.com/v/X1'></iframe>"), false),
        (figure(""), false),
        (format!("{open} /-->"), false),
    ] {
        let all = with_files(&format!("<p>a</p>{html}<p>b</p>"));
        let [Kind::Paragraph(_), Kind::Embed(embed), Kind::Paragraph(_)] = &all[..] else {
            panic!("{html}: {all:#?}")
        };
        assert_eq!((embed.url.as_str(), !embed.caption.is_empty()), ("https://videopress.com/v/X1", caption));
    }
}

#[test]
fn a_picture_with_only_a_set_of_files_has_one() {
    for (html, files) in [
        ("<img srcset='/s1.jpg 1x, /s2.jpg 2x' alt='a'>", vec!["/s1.jpg"]),
        ("<img srcset='/s1.jpg, /s2.jpg 2x'>", vec!["/s1.jpg"]),
        ("<img srcset='/s1.jpg 400w, /s2.jpg 800w' width=3>", vec!["/s1.jpg", "/s2.jpg"]),
        ("<img src='data:image/gif;base64,R0' data-srcset='/s1.jpg 2x'>", vec!["/s1.jpg"]),
        ("<picture><source srcset='/s1.webp 1x'><img alt='a'></picture>", vec!["/s1.webp"]),
        ("<img src='/a.jpg' srcset='/s1.jpg 2x'>", vec!["/a.jpg"]),
    ] {
        let Kind::Image(image) = one(html) else { panic!("{html}") };
        let media = image.media.unwrap();
        assert_eq!(media.renditions.iter().map(|f| f.href.as_str()).collect::<Vec<_>>(), files, "{html}");
    }
}

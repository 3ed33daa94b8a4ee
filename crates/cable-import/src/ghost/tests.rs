//! The items and records that an export becomes, and the check that each row is accounted for.

use std::{fs, path::PathBuf};

use cable_proto::v1::BodyFormat;
use serde_json::{Value, json};

use super::*;
use crate::{report::Report, text};

/// A file that is removed with the value.
struct File(PathBuf);

impl File {
    fn new(name: &str, content: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cable-ghost-{}-{name}.json", std::process::id()));
        fs::write(&path, content).unwrap();
        File(path)
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _removed = fs::remove_file(&self.0);
    }
}

fn options() -> Options {
    Options { now: "2026-06-01T00:00:00Z".parse().unwrap(), ..Options::default() }
}

fn export(posts: Value) -> String {
    json!({"db": [{"meta": {"version": "5.1"}, "data": {
        "posts": posts,
        "members": [{"email": "reader@lantern.example"}],
        "posts_authors": [{"post_id": "p1", "author_id": "u2", "sort_order": 1}, {"post_id": "p1", "author_id": "u1", "sort_order": 0}],
        "posts_meta": [{"post_id": "p1", "feature_image_alt": "A swarm.", "feature_image_caption": "At <em>noon</em>.", "meta_title": "Bees are back"}],
        "posts_tags": [{"post_id": "p1", "tag_id": "t1", "sort_order": 0}, {"post_id": "p1", "tag_id": "t2", "sort_order": 1}],
        "settings": {"title": "Lantern"},
        "tags": [{"id": "t1", "slug": "bees", "name": "Bees", "description": "All on bees."},
                 {"id": "t2", "slug": "hash-front", "name": "#front", "visibility": "internal"}],
        "users": [{"id": "u1", "slug": "marta", "name": "Marta Fenn", "email": "marta@lantern.example", "twitter": "@marta"},
                  {"id": "u2", "slug": "jo", "name": "jo@lantern.example"}]
    }}]})
    .to_string()
}

fn posts() -> Value {
    json!([
        {"id": "p1", "uuid": "c9a2", "title": "Bees", "slug": "bees", "html": "<p>A swarm at <a href=\"__GHOST_URL__/mill/\">the mill</a>.</p>",
         "feature_image": "__GHOST_URL__/content/images/bees.jpg", "type": "post", "status": "published", "visibility": "paid",
         "published_at": "2026-05-02T06:00:00.000Z", "updated_at": "2026-05-03T06:00:00.000Z", "custom_excerpt": "A swarm.", "featured": 1},
        {"id": "p2", "title": "Ferry", "slug": "ferry", "html": null, "status": "scheduled", "published_at": "2031-05-02 06:00:00",
         "lexical": "{\"root\":{\"children\":[{\"type\":\"paragraph\",\"children\":[{\"type\":\"text\",\"text\":\"At noon.\"}]}]}}"},
        {"id": "p3", "title": "Idea", "slug": "idea", "html": "<p>Not yet.</p>", "status": "draft"},
        {"id": "p4", "title": "About", "slug": "about", "html": "<p>About us.</p>", "type": "page", "status": "published", "visibility": "public"},
        {"id": "p5", "title": "Letter", "slug": "letter", "html": "<p>Mail.</p>", "status": "sent"},
        {"id": "p6", "title": "Torn", "slug": "torn", "status": "published", "lexical": "{"},
        {"id": "p7", "title": "Bees again", "slug": "bees", "html": "<p>Bees.</p>", "status": "published"}
    ])
}

fn items(content: &str, name: &str, options: &Options) -> (Vec<Item>, Option<Error>) {
    let file = File::new(name, content);
    let export = read(&file.0, options).unwrap();
    let total = export.total();
    let mut items = Vec::new();
    let failure = export
        .for_each(&mut |item| {
            items.push(item);
            true
        })
        .err();
    assert_eq!(items.len() as u64, total);
    (items, failure)
}

fn converted<'a>(items: &'a [Item], title: &str) -> &'a ConvertedItem {
    match &items.iter().find(|item| item.label.contains(title)).unwrap().outcome {
        ItemOutcome::Converted(converted) => converted,
        other => panic!("{title}: {other:?}"),
    }
}

fn article<'a>(items: &'a [Item], title: &str) -> &'a v1::Article {
    match &converted(items, title).records[0].record {
        Some(Kind::Article(article)) => article,
        other => panic!("{title}: {other:?}"),
    }
}

#[test]
fn each_row_has_an_outcome_and_posts_have_their_fields() {
    let (items, failure) = items(&export(posts()), "fields", &options());
    assert!(failure.is_none());
    let bees = article(&items, "post p1");
    assert_eq!(
        (&*bees.name, &*bees.path, bees.access()),
        ("articles/gh-p1", "/bees/", v1::Access::Subscriber)
    );
    assert_eq!((&*bees.dek, &*bees.summary), ("A swarm.", "A swarm."));
    let lead = bees.lead_media.as_ref().unwrap();
    assert_eq!((&*lead.renditions[0].href, &*lead.alt_text), ("/content/images/bees.jpg", "A swarm."));
    assert_eq!(lead.caption.iter().map(|span| &*span.text).collect::<String>(), "At noon.");
    assert_eq!(bees.tags, ["tags/bees", "tags/hash-front"]);
    let credits = &bees.byline.as_ref().unwrap().credits;
    assert_eq!(credits.iter().map(|credit| &*credit.author).collect::<Vec<_>>(), ["authors/marta"]);
    let mentions = items.iter().filter_map(|item| match &item.outcome {
        ItemOutcome::Converted(converted) => Some(converted.mentions.len()),
        _ => None,
    });
    assert_eq!(mentions.sum::<usize>(), 0);
    assert!(converted(&items, "post p1").notes.iter().any(|note| note.contains("1 authors omitted")));
    assert_eq!(bees.alternative_headlines[0].text, "Bees are back");
    assert!(cable_body::render(bees.body.as_ref().unwrap(), BodyFormat::Html).contains("href=\"/mill/\""));
    assert_eq!(converted(&items, "post p1").not_imported["featured marks"], 1);
    let ferry = article(&items, "Ferry");
    assert_eq!((ferry.create_time, ferry.publish_time.map(|time| time.seconds)), (None, Some(1_935_468_000)));
    assert_eq!(cable_body::render(ferry.body.as_ref().unwrap(), BodyFormat::PlainText), "At noon.");
    assert_eq!(article(&items, "page p4").access(), v1::Access::Free);
    assert_eq!(article(&items, "post p7").path, "");
    let mut report = Report::default();
    let lines: Vec<String> = items.iter().map(|item| report.add(item)).collect();
    let of = |title: &str| lines.iter().find(|line| line.contains(title)).unwrap();
    assert!(of("Idea").contains("status draft") && of("Letter").contains("status sent"));
    assert!(of("Torn").contains("field `lexical`"));
    assert!(!lines.concat().contains("@lantern.example"), "{lines:?}");
    assert!(of("author u2").contains("failed"));
    let Some(Kind::Tag(front)) = &converted(&items, "#front").records[0].record else { panic!() };
    assert_eq!(front.kind(), v1::TagKind::Internal);
}

#[test]
fn drafts_are_pending_on_request_and_ids_have_the_prefix() {
    let options = Options { drafts: true, prefix: "lantern".into(), ..options() };
    let (items, _) = items(&export(posts()), "drafts", &options);
    let draft = article(&items, "Idea");
    assert_eq!(draft.name, "articles/lantern-gh-p3");
    assert!(draft.embargo.as_ref().unwrap().until.is_none());
}

#[test]
fn a_second_run_gives_the_same_items() {
    let export = export(posts());
    assert_eq!(items(&export, "first", &options()).0, items(&export, "second", &options()).0);
}

#[test]
fn a_file_that_was_cut_off_is_imported_up_to_there() {
    // The table of the posts comes last.
    let mut parts: Value = serde_json::from_str(&export(json!([]))).unwrap();
    let tables = parts["db"][0]["data"].as_object_mut().unwrap();
    tables.remove("posts");
    let before = parts["db"][0]["data"].to_string();
    let export = format!("{{\"db\":[{{\"data\":{},\"posts\":{}}}]}}", &before[..before.len() - 1], posts());
    let cut = &export[..export.find("\"p3\"").unwrap()];
    let (items, failure) = items(cut, "cut", &options());
    assert!(matches!(failure, Some(Error::Truncated(_))), "{failure:?}");
    assert_eq!(items.iter().filter(|item| item.kind == "post").count(), 2);
    assert!(article(&items, "post p1").byline.is_some());
}

#[test]
fn nothing_is_imported_if_a_table_that_posts_need_is_not_whole() {
    let export = export(posts());
    for table in ["posts", "users", "tags", "posts_authors", "posts_tags", "posts_meta"] {
        let start = export.find(&format!("\"{table}\":[")).unwrap();
        let file = File::new("incomplete", &export[..start + table.len() + 6]);
        let error = read(&file.0, &options()).err().unwrap();
        assert!(matches!(&error, Error::Incomplete(_)), "{table}: {error}");
        assert!(error.to_string().contains("nothing is imported: export again"), "{error}");
    }
}

#[test]
fn a_row_that_is_not_an_object_costs_only_itself() {
    let content = export(
        json!([null, 5, {"id": "p4", "title": "About", "slug": "about", "html": "<p>A</p>", "status": "published"}]),
    );
    let content = content
        .replace("\"users\":[", "\"users\":[null,")
        .replace("\"posts_tags\":[", "\"posts_tags\":[null,");
    let (items, failure) = items(&content, "null", &options());
    assert!(failure.is_none(), "{failure:?}");
    let failed = items.iter().filter(|item| item.outcome == ItemOutcome::Failed(NO_ROW.into())).count();
    assert_eq!(failed, 3);
    assert_eq!(article(&items, "About").path, "/about/");
}

#[test]
fn titles_and_excerpts_are_plain_text() {
    let content = export(json!([
        {"id": "p4", "title": "How <b> works & &amp; fails", "slug": "b", "html": "<p>A</p>", "status": "published", "custom_excerpt": "Use <i>, not &lt;"},
        {"id": "p5", "title": "Torn", "slug": "t", "lexical": "{", "plaintext": "Low water", "status": "published"}
    ]));
    let content = content.replace("\"name\":\"Bees\"", "\"name\":\"<Bees> & co\"");
    let (items, _) = items(&content, "plain", &options());
    let post = article(&items, "post p4");
    assert_eq!((&*post.headline, &*post.dek), ("How <b> works & &amp; fails", "Use <i>, not &lt;"));
    let Some(Kind::Tag(tag)) = &converted(&items, "tag t1").records[0].record else { panic!() };
    assert_eq!(tag.display_name, "<Bees> & co");
    let torn = article(&items, "Torn");
    assert_eq!(cable_body::render(torn.body.as_ref().unwrap(), BodyFormat::PlainText), "Low water");
    assert!(converted(&items, "Torn").notes.iter().any(|note| note.contains("plaintext")));
}

#[test]
fn other_files_are_no_exports() {
    for content in ["", "[]", "{}", "{\"db\":[{\"data\":{\"tags\":[]}}]}", "<rss/>", "{\"db\": 3}"] {
        let file = File::new("other", content);
        assert!(read(&file.0, &options()).is_err(), "{content}");
    }
    let file = File::new(
        "large",
        &format!("{{\"db\":[{{\"data\":{{\"posts\":[{{\"id\":\"{}\"}}]}}}}]}}", "x".repeat(33 << 20)),
    );
    let error = read(&file.0, &options()).err().unwrap();
    assert!(error.to_string().contains("more than 32 MiB"), "{error}");
}

#[test]
fn two_posts_with_one_id_do_not_replace_each_other() {
    let post = |title: &str| json!({"id": "p1", "title": title, "slug": "a", "html": "<p>A</p>", "status": "published"});
    let content = export(json!([post("First"), post("First"), post("Second")]));
    let (items, failure) = items(&content, "repeated", &options());
    assert!(failure.is_none(), "{failure:?}");
    let outcomes: Vec<_> =
        items.iter().filter(|item| item.kind == "post").map(|item| &item.outcome).collect();
    assert!(matches!(outcomes[0], ItemOutcome::Converted(_)), "{outcomes:?}");
    assert_eq!(outcomes[1], &ItemOutcome::Skipped(SkipReason::Duplicate));
    let ItemOutcome::Failed(problem) = outcomes[2] else { panic!("{outcomes:?}") };
    assert!(problem.contains("field `id`") && problem.contains("p1"), "{problem}");
}

#[test]
fn what_a_post_loses_is_in_its_notes() {
    let content = export(json!([
        {"id": "p1", "title": "Times", "html": "<p>A</p>", "status": "published", "published_at": "soon", "updated_at": "later"},
        {"id": "p8", "title": "Plain", "slug": "plain", "plaintext": "Low water\n\nat six", "status": "published", "published_at": "2026-05-02T06:00:00.000Z"}
    ]));
    let content = content.replace("\"tag_id\":\"t2\"", "\"tag_id\":\"t9\"");
    let (items, _) = items(&content, "notes", &options());
    let notes = converted(&items, "Times").notes.join("; ");
    for part in [
        "publication time omitted: \"soon\"",
        "time of the last change omitted: \"later\"",
        "no publication time",
        "no path",
        "1 tags omitted",
    ] {
        assert!(notes.contains(part), "{part}: {notes}");
    }
    let plain = converted(&items, "Plain");
    assert!(plain.notes.iter().any(|note| note.contains("plaintext")), "{:?}", plain.notes);
    let Some(Kind::Article(article)) = &plain.records[0].record else { panic!("{plain:?}") };
    assert_eq!(article.body.as_ref().unwrap().blocks.len(), 2);
}

#[test]
fn a_byte_order_mark_is_skipped_and_other_bytes_than_text_are_refused() {
    let content = format!("\u{feff}{}", export(posts()));
    let (items, _) = items(&content, "mark", &options());
    assert!(items.len() > 7);
    for (bytes, expected) in
        text::tests::wide_encodings("{\"db\": []}").into_iter().chain(text::tests::compressed())
    {
        let file = File::new("wide", "");
        fs::write(&file.0, bytes).unwrap();
        let problem = read(&file.0, &options()).map(drop).unwrap_err().to_string();
        assert!(problem.contains(&expected.to_string()), "{problem}");
    }
}

#[test]
fn posts_for_newsletters_are_skipped_and_claim_no_path() {
    let post = |id: &str, status: &str| json!({"id": id, "title": id, "slug": "tide", "html": "<p>A</p>", "status": status, "published_at": "2031-05-02 06:00:00"});
    let content = export(json!([
        post("m1", "scheduled"),
        post("m2", "draft"),
        post("m3", "published"),
        post("p9", "scheduled")
    ]));
    let meta = r#""posts_meta":[{"post_id":"m1","email_only":1},{"post_id":"m2","email_only":true},{"post_id":"m3","email_only":1},"#;
    let content = content.replace("\"posts_meta\":[", meta);
    for drafts in [false, true] {
        let (items, _) = items(&content, "mail", &Options { drafts, ..options() });
        for id in ["m1", "m2", "m3"] {
            let item = items.iter().find(|item| item.label.contains(id)).unwrap();
            assert_eq!(item.outcome, ItemOutcome::Skipped(SkipReason::OnlyMail), "{id}");
            assert_eq!(item.hidden_article, format!("articles/gh-{id}"));
        }
        assert_eq!(article(&items, "post p9").path, "/tide/");
    }
}

#[test]
fn blocks_for_members_are_not_free_and_those_for_mail_are_left_out() {
    let lexical = |visibility: Value| {
        let card = json!({"type": "html", "html": "<p>Secret</p>", "visibility": visibility});
        json!({"root": {"children": [card, {"type": "html", "html": "<p>Open</p>"}]}}).to_string()
    };
    let html = |gate: &str| {
        format!("<p>Open</p><!--kg-gated-block:begin {gate} --><p>Secret</p><!--kg-gated-block:end-->")
    };
    let post = |key: &str, text: String| json!([{"id": "p1", "title": "Gate", "slug": "g", key: text, "status": "published", "visibility": "public"}]);
    let members = [
        post("html", html("nonMember:false memberSegment:\"status:-free\"")),
        post("lexical", lexical(json!({"web": {"nonMember": false, "memberSegment": "status:free"}}))),
    ];
    for posts in members {
        let (items, _) = items(&export(posts), "members", &options());
        assert_eq!(article(&items, "Gate").access(), v1::Access::Subscriber);
        assert!(converted(&items, "Gate").notes.iter().any(|note| note.contains("members only")));
    }
    let mail = [
        post("html", html("nonMember:false memberSegment:\"\"")),
        post("lexical", lexical(json!({"web": {"nonMember": false, "memberSegment": ""}}))),
        post("lexical", lexical(json!({"showOnWeb": false}))),
        post("lexical", lexical(json!({"emailOnly": true, "segment": ""}))),
    ];
    for posts in mail {
        let (items, _) = items(&export(posts), "only-mail", &options());
        let gate = article(&items, "Gate");
        let text = cable_body::render(gate.body.as_ref().unwrap(), BodyFormat::PlainText);
        assert_eq!((text.as_str(), gate.access()), ("Open", v1::Access::Free));
        assert_eq!(converted(&items, "Gate").not_imported[documents::NOT_ON_SITE], 1);
    }
}

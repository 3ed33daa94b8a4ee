//! Bodies that are put as HTML or Markdown.

use cable_client::{
    BodyFormat, Change, ErrorReason,
    v1::{self, Block, Body, block::Kind},
};
use serde_json::{Value, json};
use tonic::Code;

use crate::{
    raw::{Raw, request_bytes},
    support::Node,
};

fn bare(id: &str) -> v1::Article {
    let mut article = v1::Article::default();
    article.name = format!("articles/{id}");
    article.headline = "The ferry is late".into();
    article
}

fn kinds(body: &Body) -> Vec<&'static str> {
    let kind = |block: &Block| match &block.kind {
        Some(Kind::Paragraph(_)) => "paragraph",
        Some(Kind::Heading(_)) => "heading",
        Some(Kind::Image(_)) => "image",
        Some(Kind::Table(_)) => "table",
        Some(Kind::Embed(_)) => "embed",
        Some(Kind::RawHtml(_)) => "raw_html",
        _ => "other",
    };
    body.blocks.iter().map(kind).collect()
}

#[tokio::test]
async fn html_and_markdown_become_blocks_with_a_report() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let markdown = "## Timetable\n\nIt sails at **noon**.\n\n![The quay](/quay.jpg)\n*The old quay*\n\n\
                    | a | b |\n| - | - |\n| 1 | 2 |\n\nhttps://video.example/1";
    let written = cable.put(bare("a")).body_markdown(markdown).await.unwrap();
    let report = written.body_conversion.unwrap();
    assert_eq!((report.raw_html_blocks, report.notes, report.omitted_notes), (0, vec![], 0));
    let article = cable.article("a").not_older_than(&written.position).await.unwrap();
    assert_eq!(kinds(article.body.as_ref().unwrap()), ["heading", "paragraph", "image", "table", "embed"]);
    assert_eq!(article.word_count, 13);

    let html = "<h2 id=t>Timetable</h2><dl><dt>noon</dt></dl><script>x()</script>";
    let written = cable.put(bare("a")).body_html(html).await.unwrap();
    let report = written.body_conversion.unwrap();
    assert_eq!((report.raw_html_blocks, report.notes.len()), (1, 2), "{:?}", report.notes);
    let rendered = cable.article("a").body_format(BodyFormat::Html).await.unwrap();
    let rendered = rendered.rendered_body.as_ref().unwrap().text.clone();
    assert_eq!(rendered, "<h2 id=\"t\">Timetable</h2>\n<dl><dt>noon</dt></dl>");

    // The rendered text can be put again, and changes nothing.
    let again = cable.put(bare("a")).body_html(rendered).await.unwrap();
    assert_eq!((again.revision, again.changed), (written.revision, false));
    node.stop().await;
}

#[tokio::test]
async fn a_commit_converts_the_bodies_of_its_puts() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let tag = v1::Tag { name: "t".into(), display_name: "T".into(), ..Default::default() };
    let large = "word ".repeat(2_000);
    let commit = cable
        .commit()
        .put(tag.clone())
        .change(Change::put(bare("a")).with_body_source(Body::markdown(large)))
        .put(bare("b"))
        .await
        .unwrap();
    let reports: Vec<_> = commit.results.iter().map(|result| result.body_conversion.is_some()).collect();
    assert_eq!(reports, [false, true, false]);
    assert_eq!(cable.article("a").await.unwrap().word_count, 2_000);
    let misplaced = Change::put(tag).with_body_source(Body::markdown("a"));
    let refused = cable.commit().put(bare("c")).change(misplaced).await.unwrap_err();
    assert_eq!(refused.violations()[0].field, "changes[1].body_source");
    let mut with_body = bare("c");
    with_body.body = Some(Body::paragraph("a"));
    let both = Change::put(with_body).with_body_source(Body::markdown("a"));
    let refused = cable.commit().change(both).await.unwrap_err();
    assert_eq!(refused.violations()[0].field, "changes[0].put_article.body");
    node.stop().await;
}

#[tokio::test]
async fn a_source_is_part_of_the_identity_of_its_request() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let put = |text: &str| cable.put(bare("a")).body_markdown(text).request_id("r1");
    let first = put("one").await.unwrap();
    assert!(first.body_conversion.is_some());
    let retried = put("one").await.unwrap();
    assert_eq!((retried.revision, retried.body_conversion), (first.revision, None));
    let other = put("two").await.unwrap_err();
    assert_eq!(other.reason(), Some(ErrorReason::RequestIdReused));
    node.stop().await;
}

#[tokio::test]
async fn a_source_that_cannot_become_a_body_is_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let raw = Raw::to(&node).await;
    let put = |body: Value, source: Value| {
        let mut article = json!({"name": "articles/a", "headline": "H"});
        if !body.is_null() {
            article["body"] = body;
        }
        request_bytes("PutArticle", json!({"article": article, "body_source": source}))
    };
    let many = "a\n\n".repeat(10_001);
    for (body, source, field) in [
        (Value::Null, json!({"text": "a"}), "body_source.format"),
        (Value::Null, json!({"format": 1, "text": "a"}), "body_source.format"),
        (Value::Null, json!({"format": 4, "text": "a"}), "body_source.format"),
        (Value::Null, json!({"format": 99, "text": "a"}), "body_source.format"),
        (json!({}), json!({"format": 2, "text": "a"}), "article.body"),
        (json!({"blocks": [{"divider": {}}]}), json!({"format": 3, "text": "a"}), "article.body"),
        (Value::Null, json!({"format": 3, "text": many}), "article.body.blocks"),
    ] {
        let refused = raw.send("PutArticle", put(body, source)).await.unwrap_err();
        assert_eq!((refused.code, &*refused.field), (Code::InvalidArgument, field));
    }
    raw.send("PutArticle", put(Value::Null, json!({"format": 2}))).await.unwrap();
    node.stop().await;
}

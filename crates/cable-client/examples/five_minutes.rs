//! Puts a tag and an article, reads and lists them, corrects the article, and withdraws it.
//!
//! Start a server with `cable serve`, then run `cargo run -p cable-client --example five_minutes`.

use std::error::Error;

use cable_client::{BodyFormat, Cable, Filter, Include, RemovalReason, v1};
use futures_util::TryStreamExt as _;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let cable = Cable::from_env()?;
    let status = cable.status().await?;
    eprintln!("cable {} holds {} articles", status.version, status.counts.unwrap_or_default().articles);

    // A commit is atomic: readers see both entities or neither.
    let committed = cable.commit().put(weather()).put(storm()).await?;
    eprintln!("put, up to revision {}", committed.position.revision);

    // With this position, the read sees the commit, on any node.
    let article = cable
        .article("storm-over-norwick")
        .body_format(BodyFormat::Html)
        .include([Include::Tags])
        .not_older_than(&committed.position)
        .await?;
    eprintln!("{}: {:?}", article.headline, article.rendered_body.as_ref().map(|body| &body.text));
    eprintln!("tagged {:?}", article.includes.tags.iter().map(|tag| &tag.display_name).collect::<Vec<_>>());

    let mut corrected = v1::Article::default();
    corrected.name = article.name.clone();
    corrected.headline = "Storm over Norwick passes".into();
    let written = cable.patch(corrected, ["headline"]).if_etag(&article.etag).await?;

    let mut listed = cable.list(Filter::default().tag("weather")).not_older_than(&written.position).items();
    while let Some(article) = listed.try_next().await? {
        eprintln!("in the list: {} (revision {})", article.headline, article.revision);
    }

    cable.remove("storm-over-norwick", RemovalReason::Withdrawn).await?;
    let removed = cable.article("storm-over-norwick").optional().await?;
    eprintln!("article found after its removal: {}", removed.is_some());
    Ok(())
}

fn weather() -> v1::Tag {
    let mut tag = v1::Tag::default();
    tag.name = "weather".into();
    tag.display_name = "Weather".into();
    tag
}

fn storm() -> v1::Article {
    let mut article = v1::Article::default();
    article.name = "storm-over-norwick".into();
    article.headline = "Storm over Norwick".into();
    article.tags = vec!["tags/weather".into()];
    article.body = Some(body("The ferry stays in harbour until Thursday."));
    article
}

fn body(text: &str) -> v1::Body {
    let mut span = v1::Span::default();
    span.text = text.into();
    let mut paragraph = v1::Paragraph::default();
    paragraph.spans = vec![span];
    let mut block = v1::Block::default();
    block.kind = Some(v1::block::Kind::Paragraph(paragraph));
    let mut body = v1::Body::default();
    body.blocks = vec![block];
    body
}

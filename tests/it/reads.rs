//! Written content reads back as written.

use cable_client::{Filter, Include, View};
use futures_util::TryStreamExt as _;

use crate::support::{Node, article, author};

#[tokio::test]
async fn a_put_article_is_read_listed_and_streamed_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let written = cable.put(article("storm", "Storm over the harbour", &["weather"])).await.unwrap();
    assert!(written.changed);
    let again = cable.put(article("storm", "Storm over the harbour", &["weather"])).await.unwrap();
    assert!(!again.changed);
    assert_eq!(again.revision, written.revision);
    let before = cable.status().await.unwrap();
    node.stop().await;

    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let after = cable.status().await.unwrap();
    assert_eq!((after.head, after.log_digest), (before.head, before.log_digest));
    let read = cable.article("storm").await.unwrap().into_inner();
    assert_eq!(read.headline, "Storm over the harbour");
    assert_eq!(read.revision, written.revision);
    let listed: Vec<_> = cable.list(Filter::default().tag("weather")).items().try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    let mut stream = cable.stream(Filter::default().tag("weather")).view(View::Full).articles();
    let mut streamed = Vec::new();
    while let Some(article) = stream.try_next().await.unwrap() {
        streamed.push(article);
    }
    assert_eq!(streamed.len(), 1);
    assert_eq!(stream.end().unwrap().count, 1);
    node.stop().await;
}

#[tokio::test]
async fn a_changed_author_appears_in_the_next_read_of_the_article() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let cable = node.client();
    let mut story = article("storm", "Storm", &[]);
    let mut credit = cable_client::v1::Credit::default();
    credit.author = "authors/ann".into();
    let mut byline = cable_client::v1::Byline::default();
    byline.credits = vec![credit];
    story.byline = Some(byline);
    let written = cable.put(story).await.unwrap();
    let read = || async { cable.article("storm").include([Include::Authors]).await.unwrap() };
    assert_eq!(read().await.includes.missing, ["authors/ann"]);
    cable.put(author("ann", "Ann Ellery")).await.unwrap();
    assert_eq!(read().await.includes.authors[0].display_name, "Ann Ellery");
    cable.put(author("ann", "Ann Ellery-Moss")).await.unwrap();
    let read = read().await;
    assert_eq!(read.includes.authors[0].display_name, "Ann Ellery-Moss");
    assert_eq!(read.into_inner().revision, written.revision);
    node.stop().await;
}

//! The client's feeds and mirrors, on a node that stops and restarts.

use std::{collections::BTreeMap, time::Duration};

use cable_client::{
    Cable, Event, FeedFilter, Filter, Mirror, MirrorEntity, MirrorSnapshot, NameState, RemovalReason, Retry,
    v1,
};
use futures_util::{StreamExt as _, TryStreamExt as _};

use crate::{
    dice::Rng,
    support::{Node, article, author},
};

/// Returns the etags of the articles with the tag, as the node lists them.
async fn listed(cable: &Cable) -> BTreeMap<String, String> {
    let articles: Vec<v1::Article> =
        cable.list(Filter::default().tag("sea")).page_size(1_000).items().try_collect().await.unwrap();
    articles.into_iter().map(|article| (article.name, article.etag)).collect()
}

fn etags(held: &MirrorSnapshot) -> BTreeMap<String, String> {
    let etag = |entity: &MirrorEntity| match entity {
        MirrorEntity::Article(article) => article.etag.clone(),
        other => panic!("{other:?}"),
    };
    held.entities.iter().map(|(name, entity)| (name.clone(), etag(entity))).collect()
}

/// Makes some commits: articles are added, change, leave the tag and are removed.
async fn write(cable: &Cable, rng: &mut Rng, commits: u64) -> i64 {
    let mut last = 0;
    for number in 0..commits {
        let mut commit = cable.commit();
        let first = rng.between(0, 39);
        for id in [first, first + 40] {
            let tags: &[&str] = if rng.one_in(3) { &["land"] } else { &["land", "sea"] };
            commit = commit.put(article(&format!("a{id}"), &format!("Storm {number}"), tags));
        }
        last = commit.put(author("ann", &format!("Ann {number}"))).await.unwrap().position.revision;
        if rng.one_in(4) {
            let removed = cable.remove(format!("a{first}"), RemovalReason::Withdrawn).await.unwrap();
            last = removed.position.revision;
        }
    }
    last
}

/// Applies the events of a feed until it has delivered everything up to a revision.
async fn follow(feed: &mut cable_client::Feed, held: &mut BTreeMap<String, String>, until: i64) {
    while feed.position().is_none_or(|position| position.revision < until) {
        let before = feed.position().map_or(0, |position| position.revision);
        let Event::Changes(changes) = feed.next().await.unwrap().unwrap().event else { continue };
        let mut last = before;
        for change in changes {
            assert!(change.revision > last, "{} after {last}", change.revision);
            last = change.revision;
            match change.state {
                NameState::Upsert(record) => {
                    let Some(v1::record::Record::Article(article)) = record.decode().unwrap().record else {
                        panic!("no article")
                    };
                    held.insert(change.name, article.etag);
                }
                _ => {
                    held.remove(&change.name);
                }
            }
        }
    }
}

async fn wait_for_revision(mirror: &Mirror, revision: i64) {
    mirror.ready().await.unwrap();
    while mirror.position().unwrap().revision < revision {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn feeds_and_mirrors_match_listings_across_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::start(dir.path()).await;
    let port = node.address.port();
    let cable = Cable::builder(node.endpoint()).retry(Retry::default().attempts(10)).build().unwrap();
    let mut rng = Rng::new(7);
    let filter = || FeedFilter::default().any_tag("sea");
    // Changes that do not match advance the positions within this time.
    let soon = Duration::from_secs(1);
    let mut feed = cable.feed(filter()).after(0).checkpoint_interval(soon).open();
    let mirror = cable.mirror(filter()).checkpoint_interval(soon).start();
    let everything = cable.mirror(FeedFilter::default()).start();
    let mut held = BTreeMap::new();
    for _ in 0..4 {
        let last = write(&cable, &mut rng, 40).await;
        follow(&mut feed, &mut held, last).await;
        wait_for_revision(&mirror, last).await;
        let listed = listed(&cable).await;
        assert!(listed.len() > 20, "{}", listed.len());
        assert_eq!(held, listed);
        assert_eq!(etags(&mirror.snapshot()), listed);
        // The feed is not polled meanwhile.
        write(&cable, &mut rng, 20).await;
        node.stop().await;
        node = Node::start_on(port, dir.path(), |_| {}).await;
    }
    let last = write(&cable, &mut rng, 10).await;
    follow(&mut feed, &mut held, last).await;
    wait_for_revision(&mirror, last).await;
    wait_for_revision(&everything, last).await;
    let listed = listed(&cable).await;
    assert_eq!(held, listed);
    assert_eq!(etags(&mirror.snapshot()), listed);
    assert_eq!(*everything.author("ann").unwrap(), cable.author("ann").await.unwrap().value);
    let count = cable.status().await.unwrap().counts.unwrap();
    assert_eq!(everything.len() as i64, count.articles + count.authors);
    assert!(feed.reconnects() >= 4 && last > 600, "{} reconnects, {last} revisions", feed.reconnects());
    node.stop().await;
}

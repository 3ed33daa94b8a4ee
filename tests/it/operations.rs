//! The operations page of a running node: what it shows follows what the node does.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use cable_client::{Cable, FeedFilter};
use futures_util::StreamExt as _;
use serde_json::json;

use crate::{
    connections::{program::Program, soon},
    raw::Raw,
    support::article,
};

/// Returns the operations page of a node.
pub(crate) fn page(ops: SocketAddr) -> String {
    let mut stream = TcpStream::connect(ops).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    response
}

/// Waits until the operations page of a node fulfils a condition, and returns it.
pub(crate) async fn page_with(ops: SocketAddr, is_expected: impl Fn(&str) -> bool) -> String {
    let expected = async {
        loop {
            let page = page(ops);
            if is_expected(&page) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    soon(expected).await
}

/// Returns the first line in words, and the path of the first line, of the tile with a title.
fn tile<'a>(page: &'a str, title: &str) -> (&'a str, &'a str) {
    let tile = page.split_once(&format!("<h3>{title}</h3>")).unwrap().1.split_once("</div>").unwrap().0;
    let now = tile.split_once("<p class=\"now\">").unwrap().1.split_once("</p>").unwrap().0;
    let path = tile.rsplit_once("<path class=\"line solid\" d=\"").unwrap().1.split_once('"').unwrap().0;
    (now, path)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operations_page_follows_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let program =
        Program::start_serving_ops(dir.path(), "true", &[("CABLE__SERVER__OPS_LISTEN", "127.0.0.1:0")]);
    let ops = program.ops_address.unwrap();
    let empty = page_with(ops, |page| page.contains("<dt>Head revision</dt><dd>0</dd>")).await;
    assert!(empty.contains("<h1>Serving</h1>") && empty.contains("No call since the start."), "{empty}");

    let endpoint = format!("http://{}", program.address);
    let cable = Cable::builder(&endpoint).build().unwrap();
    for i in 0..5 {
        cable.put(article(&format!("secret-{i}"), "A secret headline", &["t"])).await.unwrap();
    }
    let raw = Raw::at(&endpoint).await;
    assert!(raw.call("GetArticle", json!({"name": "articles/absent"})).await.is_err());
    let kill = json!({"name": "articles/secret-0", "reason": "REMOVAL_REASON_KILLED"});
    raw.call("RemoveArticle", kill).await.unwrap();
    let written = page_with(ops, |page| {
        page.contains("<dt>Head revision</dt><dd>6</dd>") && page.contains("PublishingService/RemoveArticle")
    })
    .await;
    for part in [
        "PublishingService/PutArticle</th>",
        "<td>OK 5</td>",
        "ContentService/GetArticle</th>",
        "<td>NOT_FOUND 1</td>",
        "<dt>Oldest revision that a feed can resume from</dt>",
    ] {
        assert!(written.contains(part), "{part}: {written}");
    }
    for secret in ["secret-", "A secret headline", "articles/absent"] {
        assert!(!written.contains(secret), "{secret}: {written}");
    }

    // A feed has connected when it has delivered something.
    let mut followers = [0, 1].map(|_| cable.feed(FeedFilter::default().any_tag("t")).after(0).open());
    for follower in &mut followers {
        soon(follower.next()).await.unwrap().unwrap();
    }
    let followed = page_with(ops, |page| tile(page, "Followers").0 == "2").await;
    assert!(followed.contains("<dt>Groups of followers with the same filter</dt><dd>1</dd>"), "{followed}");

    // The plot of the calls has a point for each sample.
    let before = tile(&followed, "Calls").1.to_owned();
    let points = |path: &str| path.matches(['M', 'L']).count();
    let after = page_with(ops, |page| points(tile(page, "Calls").1) > points(&before)).await;
    assert_ne!(tile(&after, "Calls").1, before);
}

//! The memory that a peer can make a node use.

use bytes::Bytes;
use cable_client::Cable;
use serde_json::json;

use super::{
    frames::{EMPTY, Peer, WINDOW, WINDOW_UPDATE, frame},
    millis,
    program::Program,
    soon,
    speaker::{Http2Client, framed},
};
use crate::{
    raw::request_bytes,
    support::{article, body},
};

const STREAM: &str = "/cable.v1.ContentService/StreamArticles";
const ARTICLES: usize = 60;
const BYTES: usize = 400_000;
const READERS: usize = 16;

/// Without back-pressure, each of these readers would have its own copy of all content: 384 MB.
#[tokio::test]
async fn stalled_readers_neither_grow_memory_nor_block_others() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), "true", &[("CABLE__CACHE__MAX_BYTES", "16MiB")]);
    let cable = Cable::builder(format!("http://{}", program.address)).build().unwrap();
    for at in 0..ARTICLES {
        let mut long = article(&format!("a{at}"), "Long", &[]);
        long.body = Some(body(&format!("{at} ").repeat(BYTES / 2)));
        cable.put(long).await.unwrap();
    }
    let before = program.memory("VmRSS");
    let request = framed(&request_bytes("StreamArticles", json!({"view": "ARTICLE_VIEW_FULL"})));
    let mut readers = Vec::new();
    for _ in 0..READERS {
        let mut reader = Peer::handshake(program.address, &[(4, WINDOW), (5, (1 << 24) - 1)]).await;
        reader.write(&frame(WINDOW_UPDATE, 0, 0, &(WINDOW - 65_535).to_be_bytes())).await;
        reader.open(1, STREAM).await;
        reader.finish(1, &request).await;
        readers.push(reader);
    }
    // The loop lasts until the memory stops growing. Other clients are served meanwhile.
    for at in 0..ARTICLES {
        soon(cable.article(format!("a{at}")).into_future()).await.unwrap();
        tokio::time::sleep(millis(50)).await;
    }
    let grown = program.memory("VmRSS").saturating_sub(before);
    assert!(grown < 100 << 10, "{grown} KB more");
    let mut late = readers.remove(0);
    assert!(late.read_response(1).await > ARTICLES * BYTES, "the response waited for its reader");
}

/// 600 responses of 2.3 MB would be 1.4 GB if all were composed at once. The cache is limited to 16 MiB.
#[tokio::test]
async fn large_unread_responses_are_not_composed() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), "true", &[("CABLE__CACHE__MAX_BYTES", "16MiB")]);
    let cable = Cable::builder(format!("http://{}", program.address)).build().unwrap();
    let mut long = article("long", "Long", &[]);
    long.body = Some(body(&"y".repeat(60_000)));
    cable.put(long).await.unwrap();
    let before = program.memory("VmRSS");
    let mut peers = Vec::new();
    for peer in 0..3 {
        let mut unread = Peer::handshake(program.address, &[(4, 0)]).await;
        for call in 0..200 {
            let names =
                [vec!["articles/long".to_owned(); 34], vec![format!("articles/{peer}-{call}")]].concat();
            let request = json!({"names": names, "view": "ARTICLE_VIEW_FULL"});
            unread.open(2 * call + 1, "/cable.v1.ContentService/BatchGetArticles").await;
            unread.finish(2 * call + 1, &framed(&request_bytes("BatchGetArticles", request))).await;
        }
        peers.push(unread);
    }
    tokio::time::sleep(millis(2_000)).await;
    let grown = program.memory("VmRSS").saturating_sub(before);
    // Without bounds the growth is 1.4 GB. Three connections may use 12 MiB and the cache 16 MiB; the rest is pending
    // requests and the allocator's overhead.
    assert!(grown < 96 << 10, "{grown} KB more");
    soon(cable.article("long").into_future()).await.unwrap();
}

/// The node could not even allocate four gigabytes for each message.
#[tokio::test]
async fn huge_declared_lengths_allocate_no_memory() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), "true", &[]);
    let client = Http2Client::connect(program.address, 1 << 20).await;
    client.call(STREAM, &[], EMPTY.into()).await;
    let before = program.memory("VmSize");
    for path in [STREAM, "/cable.v1.PublishingService/PutArticle"] {
        let mut open = Vec::new();
        for _ in 0..100 {
            let mut call = client.start_call(path, &[]).await;
            call.request.send_data(Bytes::from_static(b"\0\xff\xff\xff\xff"), false).unwrap();
            open.push(call);
        }
        for call in open {
            let (_, status) = call.response().await.finish().await;
            assert_eq!(status.code(), tonic::Code::InvalidArgument, "{path}: {status:?}");
        }
    }
    let grown = program.memory("VmSize").saturating_sub(before);
    assert!(grown < 1 << 20, "{grown} KB more");
}

//! Peers that break the protocol, or cause needless work for the node.

use super::{
    frames::{
        ACK, DATA, EMPTY, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, LIST_TAGS, PING, Peer,
        REFUSED_STREAM, RST_STREAM, SETTINGS, WINDOW, WINDOW_UPDATE, frame, headers, literal, request,
    },
    soon,
};
use crate::support::Node;

/// Identifiers of settings.
const MAX_CONCURRENT_STREAMS: u16 = 3;
const INITIAL_WINDOW_SIZE: u16 = 4;
const MAX_HEADER_LIST_SIZE: u16 = 6;

#[tokio::test]
async fn the_limits_of_a_connection_are_announced() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_streams = 3).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    let announced = peer.expect(SETTINGS).await.payload;
    let has = |id: u16, value: u32| {
        let pair = [&id.to_be_bytes()[..], &value.to_be_bytes()].concat();
        announced.chunks(6).any(|setting| setting == pair)
    };
    assert!(has(MAX_CONCURRENT_STREAMS, 3), "{announced:?}");
    assert!(has(INITIAL_WINDOW_SIZE, 64 << 10), "{announced:?}");
    assert!(has(MAX_HEADER_LIST_SIZE, 16 << 10), "{announced:?}");
}

#[tokio::test]
async fn a_stream_above_the_limit_is_refused_and_others_complete() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start_with(dir.path(), |config| config.connections.max_streams = 3).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    for stream in [1, 3, 5, 7] {
        peer.open(stream, LIST_TAGS).await;
    }
    let refused = peer.expect(RST_STREAM).await;
    assert_eq!((refused.stream, refused.code()), (7, REFUSED_STREAM));
    for stream in [1, 3, 5] {
        peer.finish(stream, EMPTY).await;
        assert!(peer.read_response(stream).await > EMPTY.len());
    }
    peer.call(9).await;
}

/// CVE-2023-44487.
#[tokio::test]
async fn a_peer_that_resets_its_own_streams_is_disconnected() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    let pair = |at: u32| {
        let open = frame(HEADERS, END_HEADERS, 2 * at + 1, &request(LIST_TAGS));
        [open, frame(RST_STREAM, 0, 2 * at + 1, &8_u32.to_be_bytes())].concat()
    };
    peer.write(&(0..1_000).flat_map(pair).collect::<Vec<_>>()).await;
    assert_eq!(peer.expect(GOAWAY).await.code(), ENHANCE_YOUR_CALM);
    peer.wait_for_close().await;
    Peer::handshake(node.address, &[]).await.call(1).await;
}

/// CVE-2025-8671: the peer breaks the protocol so that the node sends the resets, which a bound on the peer's own
/// resets does not count.
#[tokio::test]
async fn a_peer_that_provokes_resets_is_disconnected() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let provocations = [
        frame(WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes()),
        frame(WINDOW_UPDATE, 0, 0, &0_u32.to_be_bytes()),
        frame(DATA, 0, 0, EMPTY),
    ];
    for (flags, mut provocation) in
        [END_HEADERS, END_HEADERS, END_HEADERS | END_STREAM].into_iter().zip(provocations)
    {
        let mut peer = Peer::handshake(node.address, &[]).await;
        let mut one = |at: u32| {
            provocation[5..9].copy_from_slice(&(2 * at + 1).to_be_bytes());
            [&frame(HEADERS, flags, 2 * at + 1, &request(LIST_TAGS))[..], &provocation].concat()
        };
        let flood: Vec<u8> = (0..3_000).flat_map(&mut one).collect();
        peer.write(&flood).await;
        let (mut resets, mut got_goaway) = (0, false);
        while let Some(frame) = peer.next().await {
            resets += usize::from(frame.kind == RST_STREAM);
            got_goaway |= frame.kind == GOAWAY;
        }
        assert!(got_goaway && resets <= 1_100, "{resets} resets, goaway: {got_goaway}");
    }
    Peer::handshake(node.address, &[]).await.call(1).await;
}

#[tokio::test]
async fn oversized_headers_are_refused_and_endless_ones_disconnect() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    let with = |bytes: usize| {
        let mut block = request(LIST_TAGS);
        literal(&mut block, "x-large", &"x".repeat(bytes));
        block
    };
    peer.write(&headers(1, &with(15 << 10))).await;
    peer.finish(1, EMPTY).await;
    assert!(peer.read_response(1).await > EMPTY.len(), "below the bound");
    peer.write(&headers(3, &with(17 << 10))).await;
    let refused = loop {
        let frame = peer.next().await.expect("only the call ends");
        if frame.stream == 3 {
            break frame;
        }
    };
    assert!(refused.kind == RST_STREAM || refused.ends_stream(), "{refused:?}");
    peer.call(5).await;
    let endless = headers(7, &with(400 << 10));
    peer.write(&endless[..300 << 10]).await;
    soon(peer.wait_for_close()).await;
    Peer::handshake(node.address, &[]).await.call(1).await;
}

/// One open stream, and frames that cost the peer nothing.
#[tokio::test]
async fn a_flood_of_control_frames_is_answered_with_goaway() {
    const PRIORITY: u8 = 2;
    const UNKNOWN: u8 = 0xfa;
    const PADDED: u8 = 8;
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let mut padded = vec![0; 200];
    padded[0] = 199;
    for (name, flood) in [
        ("PING", frame(PING, 0, 0, &[7; 8])),
        ("PING acknowledged", frame(PING, ACK, 0, &[7; 8])),
        ("SETTINGS", frame(SETTINGS, 0, 0, &[0, INITIAL_WINDOW_SIZE as u8, 0, 0, 16, 0])),
        ("SETTINGS without any", frame(SETTINGS, 0, 0, &[])),
        ("WINDOW_UPDATE", frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes())),
        ("WINDOW_UPDATE of a stream", frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes())),
        ("PRIORITY", frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16])),
        ("unknown", frame(UNKNOWN, 0, 1, &[1, 2, 3])),
        ("unknown and empty", frame(UNKNOWN, 0, 0, &[])),
        ("DATA without any", frame(DATA, 0, 1, &[])),
        ("DATA that is padding", frame(DATA, PADDED, 1, &padded)),
    ] {
        let mut peer = Peer::handshake(node.address, &[]).await;
        peer.polite = false;
        peer.open(1, LIST_TAGS).await;
        peer.write(&flood.repeat(4_000)).await;
        let mut code = None;
        while let Some(frame) = peer.next().await {
            code = code.or((frame.kind == GOAWAY).then(|| frame.code()));
        }
        assert_eq!(code, Some(ENHANCE_YOUR_CALM), "{name}");
    }
    Peer::handshake(node.address, &[]).await.call(1).await;
}

#[tokio::test]
async fn a_window_update_after_each_frame_is_not_a_flood() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(dir.path()).await;
    let mut peer = Peer::handshake(node.address, &[]).await;
    for round in 0..60 {
        let streams: Vec<u32> = (0..50).map(|at| 2 * (50 * round + at) + 1).collect();
        let calls = streams.iter().flat_map(|stream| {
            let open = frame(HEADERS, END_HEADERS, *stream, &request(LIST_TAGS));
            [open, frame(DATA, END_STREAM, *stream, EMPTY)].concat()
        });
        peer.write(&calls.collect::<Vec<_>>()).await;
        let mut ended = 0;
        while ended < streams.len() {
            let read = peer.next().await.expect("the reader is served");
            assert_ne!(read.kind, GOAWAY);
            ended += usize::from(read.ends_stream());
            if read.kind == DATA {
                // Both windows, and a PING to measure the bandwidth.
                let more = (read.payload.len() as u32).to_be_bytes();
                let updates = [
                    frame(WINDOW_UPDATE, 0, 0, &more),
                    frame(WINDOW_UPDATE, 0, read.stream, &more),
                    frame(PING, 0, 0, &[7; 8]),
                ];
                peer.write(&updates.concat()).await;
            }
        }
    }
}

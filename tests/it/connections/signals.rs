//! The effect of signals on the program.

use super::{
    frames::{EMPTY, GOAWAY, LIST_TAGS, Peer},
    program::Program,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_a_call_in_flight() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), ":", &[("CABLE__SERVER__DRAIN_TIMEOUT", "10m")]);
    let mut peer = Peer::handshake(program.address, &[]).await;
    peer.open(1, LIST_TAGS).await;
    peer.call(3).await;
    program.signal("TERM");
    peer.expect(GOAWAY).await;
    program.signal("INT");
    peer.wait_for_close().await;
    assert_eq!(program.wait_for_exit(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_is_logged_and_the_node_continues() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), ":", &[]);
    let mut peer = Peer::handshake(program.address, &[]).await;
    peer.call(1).await;
    program.signal("HUP");
    program.wait_for_line("SIGHUP ignored");
    peer.open(3, LIST_TAGS).await;
    program.signal("TERM");
    program.wait_for_line("draining");
    peer.finish(3, EMPTY).await;
    assert!(peer.read_response(3).await > EMPTY.len());
    drop(peer);
    program.wait_for_line("stopped");
    assert_eq!(program.wait_for_exit(), Some(0));
}

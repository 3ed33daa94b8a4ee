//! The effect of signals on the program.

use std::{fs, path::Path};

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
async fn a_hangup_reloads_and_the_node_continues() {
    let dir = tempfile::tempdir().unwrap();
    let program = Program::start(dir.path(), ":", &[]);
    let mut peer = Peer::handshake(program.address, &[]).await;
    peer.call(1).await;
    program.signal("HUP");
    program.wait_for_line("reloaded");
    peer.open(3, LIST_TAGS).await;
    program.signal("TERM");
    program.wait_for_line("draining");
    peer.finish(3, EMPTY).await;
    assert!(peer.read_response(3).await > EMPTY.len());
    drop(peer);
    program.wait_for_line("stopped");
    assert_eq!(program.wait_for_exit(), Some(0));
}

/// Starts a node whose settings file is in its working directory.
fn start_with_file(dir: &Path, text: &str) -> Program {
    fs::write(dir.join("cable.toml"), text).unwrap();
    Program::start(&dir.join("store"), &format!("cd {}", dir.display()), &[])
}

#[test]
fn a_reload_takes_over_the_log_level_and_names_the_settings_that_need_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let program = start_with_file(dir.path(), "[log]\nlevel = 'info'\n[cache]\nmax_bytes = '16MiB'\n");
    let reload = |text: &str| {
        fs::write(dir.path().join("cable.toml"), text).unwrap();
        program.signal("HUP");
    };
    reload("[log]\nlevel = 'debug'\n[cache]\nmax_bytes = '32MiB'\n[feed]\nmax_open = 7\n");
    program.wait_for_line("settings=\"cache.max_bytes feed.max_open\"");
    program.wait_for_line("level=\"debug\"");
    // The level applies: at `error`, nothing follows the line that announces the reload.
    reload("[log]\nlevel = 'error'\n[cache]\nmax_bytes = '16MiB'\n");
    program.wait_for_line("reloading");
    for invalid in ["[log", "[log]\nlevel = 'info,=,'", "[log]\nlevels = 'info'", "[cache]\nmax_bytes = 0"] {
        reload(invalid);
        program.wait_for_line("reload: invalid settings; the previous ones remain in effect");
    }
    fs::remove_file(dir.path().join("cable.toml")).unwrap();
    program.signal("HUP");
    program.wait_for_line("cannot read the settings file");
    assert_eq!(program.count_log_lines("reloaded"), 0);
    reload("[cache]\nmax_bytes = '16MiB'\n");
    program.wait_for_line("level=\"info\"");
    program.signal("TERM");
    program.wait_for_line("stopped");
    assert_eq!(program.wait_for_exit(), Some(0));
}

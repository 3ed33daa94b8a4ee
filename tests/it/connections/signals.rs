//! The effect of signals on the program.

use std::{
    fs,
    io::Write as _,
    net::TcpListener,
    os::unix::net::UnixDatagram,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::{ServingStatus, pb};

use super::{
    PATIENCE,
    frames::{EMPTY, GOAWAY, LIST_TAGS, Peer},
    is_still_pending,
    places::free_address,
    program::Program,
    soon,
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
    assert_eq!(program.count_log_lines("settings=\"invalid\""), 0);
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

/// A pipe can be read only once. Opening it again would block the node until a process writes to it.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_became_pipes_are_refused_at_a_reload_and_block_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let program = start_with_file(dir.path(), "[log]\nlevel = 'info'\n");
    let mut peer = Peer::handshake(program.address, &[]).await;
    peer.call(1).await;
    let make_pipe = |path: &Path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mkfifoat(rustix::fs::CWD, path, mode).unwrap();
    };
    let (settings, credentials) = (dir.path().join("cable.toml"), dir.path().join("store/credentials.toml"));
    fs::remove_file(&settings).unwrap();
    make_pipe(&settings);
    program.signal("HUP");
    program.wait_for_line("not a regular file");
    peer.call(3).await;
    make_pipe(&credentials);
    program.wait_for_line("credentials not reloaded");
    // The node still reads what is valid, and still stops.
    fs::remove_file(&settings).unwrap();
    fs::remove_file(&credentials).unwrap();
    fs::write(&settings, "[log]\nlevel = 'debug'\n").unwrap();
    program.wait_for_line("credentials.toml is missing");
    program.signal("HUP");
    program.wait_for_line("level=\"debug\"");
    drop(peer);
    program.signal("TERM");
    assert_eq!(program.wait_for_exit(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_process_whose_threads_are_blocked() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address().await;
    // No process reads standard error, and it is full: the node blocks where it logs.
    let (unread, mut full) = std::io::pipe().unwrap();
    rustix::io::ioctl_fionbio(&full, true).unwrap();
    for size in [4_096, 1] {
        while full.write(&vec![b'.'; size]).is_ok() {}
    }
    rustix::io::ioctl_fionbio(&full, false).unwrap();
    let mut node = Command::new(env!("CARGO_BIN_EXE_cable"))
        .args(["serve", "--ops-listen", "off", "--listen", &address.to_string(), "--data"])
        .arg(dir.path())
        .current_dir(dir.path())
        .env("CABLE__SERVER__DRAIN_TIMEOUT", "10m")
        .stderr(full)
        .spawn()
        .unwrap();
    // A node that listens handles signals.
    let start = Instant::now();
    while std::net::TcpStream::connect(address).is_err() {
        assert!(start.elapsed() < PATIENCE, "the node listens");
        std::thread::sleep(Duration::from_millis(20));
    }
    let signal = || Command::new("kill").args(["-TERM", &node.id().to_string()]).status().unwrap();
    assert!(signal().success());
    // Two signals that arrive at once are one.
    std::thread::sleep(Duration::from_millis(200));
    assert!(signal().success());
    let start = Instant::now();
    let ended = loop {
        if let Some(status) = node.try_wait().unwrap() {
            break Some(status);
        }
        if start.elapsed() > PATIENCE {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let _ = node.kill();
    assert_eq!(ended.expect("the process ends").code(), Some(1));
    drop(unread);
}

async fn is_ready(program: &Program) -> bool {
    let mut stream = TcpStream::connect(program.ops_address.unwrap()).await.unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(
        response.starts_with("HTTP/1.1 200") || response.ends_with("not ready\ndraining\n"),
        "{response}"
    );
    response.starts_with("HTTP/1.1 200")
}

fn start_lame_duck(dir: &Path, time: &str) -> Program {
    let env = [("CABLE__SERVER__OPS_LISTEN", "127.0.0.1:0"), ("CABLE__SERVER__LAME_DUCK", time)];
    Program::start_serving_ops(dir, ":", &env)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lame_duck_is_not_ready_but_serves_until_it_drains() {
    let dir = tempfile::tempdir().unwrap();
    let program = start_lame_duck(dir.path(), "5s");
    let channel: Channel =
        Endpoint::from_shared(format!("http://{}", program.address)).unwrap().connect().await.unwrap();
    let mut watched = Vec::new();
    for service in ["", "cable.v1.ContentService", "cable.v1.PublishingService"] {
        let request = pb::HealthCheckRequest { service: service.to_owned() };
        let mut client = pb::health_client::HealthClient::new(channel.clone());
        let mut changes = client.watch(request).await.unwrap().into_inner();
        assert_eq!(changes.message().await.unwrap().unwrap().status, ServingStatus::Serving as i32);
        watched.push(changes);
    }
    let mut old = Peer::handshake(program.address, &[]).await;
    old.call(1).await;
    assert!(is_ready(&program).await);
    program.signal("TERM");
    for changes in &mut watched {
        let change = soon(changes.message()).await.unwrap().unwrap();
        assert_eq!(change.status, ServingStatus::NotServing as i32);
    }
    assert!(!is_ready(&program).await);
    old.call(3).await;
    let mut new = Peer::handshake(program.address, &[]).await;
    new.call(1).await;
    assert!(is_still_pending(new.expect(GOAWAY)).await, "the drain has not begun");
    soon(new.expect(GOAWAY)).await;
    drop((old, new));
    program.wait_for_line("reason=\"SIGTERM\"");
    assert_eq!(program.wait_for_exit(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_lame_duck() {
    let dir = tempfile::tempdir().unwrap();
    let program = start_lame_duck(dir.path(), "10m");
    let mut peer = Peer::handshake(program.address, &[]).await;
    peer.call(1).await;
    program.signal("INT");
    program.wait_for_line("not ready");
    peer.call(3).await;
    program.signal("TERM");
    peer.wait_for_close().await;
    let (code, last_lines) = program.wait_for_end();
    assert_eq!(code, Some(1));
    let failed: Vec<_> = last_lines.iter().filter(|line| line.contains("task_failed")).collect();
    assert!(failed.is_empty(), "the tasks ended on request: {failed:?}");
}

#[test]
fn systemd_is_notified_of_each_state_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(PATIENCE)).unwrap();
    let env = [
        ("NOTIFY_SOCKET", path.to_str().unwrap()),
        ("WATCHDOG_USEC", "200000"),
        ("CABLE__SERVER__LAME_DUCK", "1500ms"),
    ];
    let program = Program::start(&dir.path().join("store"), ":", &env);
    let address = program.address;
    let mut signs_of_life = 0;
    let mut next = || {
        let mut buffer = [0; 512];
        loop {
            let length = systemd.recv(&mut buffer).expect("a notification arrives");
            let text = String::from_utf8(buffer[..length].to_vec()).unwrap();
            if text != "WATCHDOG=1" {
                break text;
            }
            signs_of_life += 1;
        }
    };
    assert_eq!(next(), "READY=1");
    assert_eq!(next(), format!("STATUS=serving gRPC at {address}"));
    program.signal("HUP");
    assert!(next().starts_with("RELOADING=1\nMONOTONIC_USEC="));
    assert_eq!(next(), "READY=1");
    program.signal("TERM");
    assert_eq!(next(), "STOPPING=1");
    assert_eq!(next(), "STATUS=not ready; draining: the node is shutting down");
    assert_eq!(program.wait_for_exit(), Some(0));
    systemd.set_nonblocking(true).unwrap();
    let mut buffer = [0; 512];
    while let Ok(length) = systemd.recv(&mut buffer) {
        assert_eq!(&buffer[..length], b"WATCHDOG=1");
        signs_of_life += 1;
    }
    assert!(signs_of_life >= 2, "the watchdog is served, also during the lame duck: {signs_of_life}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_socket_activation_refuses_no_connection() {
    let dir = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let program = Program::start_activated(dir.path(), &listener, &[]);
    assert_eq!(program.address, address);
    Peer::handshake(address, &[]).await.call(1).await;
    program.signal("TERM");
    assert_eq!(program.wait_for_exit(), Some(0));
    let early = tokio::spawn(async move {
        let mut peer = Peer::handshake(address, &[]).await;
        peer.call(1).await;
    });
    let _program = Program::start_activated(dir.path(), &listener, &[]);
    soon(early).await.unwrap();
}

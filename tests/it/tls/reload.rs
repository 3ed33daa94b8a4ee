//! How a running node replaces its certificate, its key and its client CA.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use cable::config::ClientAuth;

use super::{
    authority::{Authority, Pair, configure, replace, write_pair},
    client::{Client, Connection, soon},
    files, start, start_verifying,
};
use crate::{
    connections::{
        places::{free_address, metrics},
        program::Program,
    },
    support::Node,
};

/// The number of swaps under load, unless this variable is set to another.
const SWAPS: usize = 20;
const SWAPS_VARIABLE: &str = "CABLE_TEST_SWAPS";

/// Keys that no node uses: OpenSSL has written one with a passphrase, and one of a size that is not accepted.
const ENCRYPTED_SEC_1: &str = include_str!("keys/encrypted_sec1.pem");
const SHORT_RSA: &str = include_str!("keys/rsa_1024.pem");

/// Waits until clients that trust an authority are served.
async fn wait_until_served(client: &Client, address: SocketAddr) {
    let served = async {
        while client.call(address).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(served).await;
}

/// Returns the value of a metric.
async fn metric(ops: SocketAddr, name: &str) -> u64 {
    let text = metrics(ops).await;
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("{name} is missing")).parse().unwrap()
}

async fn wait_for_failures(ops: SocketAddr, count: u64) {
    let failed = async {
        while metric(ops, "cable_tls_reload_failures_total").await < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(failed).await;
}

async fn start_with_metrics(dir: &Path, client: &Client) -> (Node, SocketAddr) {
    let ops = free_address().await;
    let node = Node::start_with(&dir.join("store"), |config| {
        configure(config, dir);
        config.server.ops_listen = Some(ops);
    })
    .await;
    // The node listens before it starts.
    client.call(node.address).await.unwrap();
    (node, ops)
}

/// Kubernetes keeps the files of a secret behind two symlinks, and replaces the inner one.
#[tokio::test]
async fn a_swap_of_the_symlink_of_a_directory_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (first, second) = (Authority::new("First CA"), Authority::new("Second CA"));
    for (authority, version) in [(&first, "..2026_01"), (&second, "..2026_02")] {
        fs::create_dir(at(version)).unwrap();
        write_pair(&at(version), &authority.node());
    }
    symlink("..2026_01", at("..data")).unwrap();
    for name in ["node.pem", "node.key"] {
        symlink(Path::new("..data").join(name), at(name)).unwrap();
    }
    let node = start(&dir).await;
    let client = Client::of(&first);
    let mut open = Connection::start(client.connect(node.address).await.unwrap()).await.unwrap();
    symlink("..2026_02", at("..data_tmp")).unwrap();
    fs::rename(at("..data_tmp"), at("..data")).unwrap();
    fs::remove_dir_all(at("..2026_01")).unwrap();
    wait_until_served(&Client::of(&second), node.address).await;
    assert!(client.call(node.address).await.is_err(), "the first certificate is no longer used");
    open.call().await.unwrap();
    node.stop().await;
}

/// The ways in which the files of a node can be wrong.
fn mistakes(authority: &Authority) -> Vec<(&'static str, String, String)> {
    let (good, other) = (authority.node(), authority.node());
    let (certificate, key) = (good.certificate_pem(), good.key_pem());
    let half = |text: &str| text[..text.len() / 2].to_owned();
    let expired = authority.expired_node();
    let damaged = certificate.replacen("MII", "MIA", 1);
    vec![
        ("half a certificate", half(&certificate), key.clone()),
        ("half a key", certificate.clone(), half(&key)),
        ("an empty certificate", String::new(), key.clone()),
        ("an empty key", certificate.clone(), String::new()),
        ("the key of another certificate", certificate.clone(), other.key_pem()),
        ("an expired certificate", expired.certificate_pem(), expired.key_pem()),
        ("the files exchanged", key.clone(), certificate.clone()),
        ("a damaged certificate", damaged, key.clone()),
        (
            "a damaged second certificate",
            format!("{certificate}{}", half(&other.certificate_pem())),
            key.clone(),
        ),
        ("too many certificates", certificate.repeat(17), key.clone()),
        ("the authority before the node", format!("{}{certificate}", authority.pem()), key.clone()),
        ("an encrypted key in SEC 1", certificate.clone(), ENCRYPTED_SEC_1.to_owned()),
        ("a short RSA key", certificate.clone(), SHORT_RSA.to_owned()),
        ("an encrypted key", certificate.clone(), key.replace("PRIVATE", "ENCRYPTED PRIVATE")),
        ("a file that is too large", format!("{certificate}{}", "#\n".repeat(1 << 19)), key),
    ]
}

/// Returns a part of the error of a mistake for which a general one would not show the way out.
fn expected(mistake: &str) -> &'static str {
    match mistake {
        "half a certificate" | "half a key" => "the file is not complete",
        "the authority before the node" => "the key belongs to number 2: move that to the start",
        "an encrypted key" | "an encrypted key in SEC 1" => {
            "the key is encrypted: write it without a passphrase"
        }
        "a short RSA key" => "RSA of 2048 to 8192 bits",
        _ => "",
    }
}

#[tokio::test]
async fn files_that_are_not_valid_leave_the_previous_ones_in_use() {
    let (dir, authority) = files();
    let client = Client::of(&authority);
    let (node, ops) = start_with_metrics(dir.path(), &client).await;
    let (certificate, key) = (dir.path().join("node.pem"), dir.path().join("node.key"));
    let expiry = metric(ops, "cable_tls_certificate_expiry_seconds").await;
    assert!(expiry > 1_700_000_000 && metric(ops, "cable_tls_reload_time_seconds").await > 1_700_000_000);
    let mistakes = mistakes(&authority);
    let (mut failures, most) = (0, 2 * mistakes.len() as u64);
    for (mistake, certificate_text, key_text) in mistakes {
        // The first file without the second one may be a mistake of its own.
        replace(&certificate, &certificate_text);
        replace(&key, &key_text);
        wait_for_failures(ops, failures + 1).await;
        tokio::time::sleep(Duration::from_millis(400)).await;
        failures = metric(ops, "cable_tls_reload_failures_total").await;
        client.call(node.address).await.unwrap_or_else(|error| panic!("{mistake}: {error}"));
    }
    assert!(failures <= most, "each mistake is logged once, not at each interval: {failures}");
    fs::remove_file(&key).unwrap();
    replace(&certificate, &authority.node().certificate_pem());
    wait_for_failures(ops, failures + 1).await;
    client.call(node.address).await.unwrap();
    assert_eq!(metric(ops, "cable_tls_certificate_expiry_seconds").await, expiry);
    let next = Authority::new("Next CA");
    write_pair(dir.path(), &next.node());
    wait_until_served(&Client::of(&next), node.address).await;
    node.stop().await;
}

#[tokio::test]
async fn a_node_does_not_start_with_files_that_are_not_valid() {
    let (dir, authority) = files();
    let at = |name: &str| dir.path().join(name);
    for (mistake, certificate, key) in mistakes(&authority) {
        replace(&at("node.pem"), &certificate);
        replace(&at("node.key"), &key);
        let error = try_start(dir.path()).await;
        assert!(!error.contains("[45, 45") && error.contains(expected(mistake)), "{mistake}: {error}");
        assert!(error.contains("node.pem") || error.contains("node.key"), "{mistake}: {error}");
        assert!(error.contains("`tls.certificate`") || error.contains("`tls.key`"), "{mistake}: {error}");
        assert!(!at("store").exists(), "{mistake}: no store is created");
    }
    write_pair(dir.path(), &authority.node());
    fs::remove_file(at("node.key")).unwrap();
    assert!(try_start(dir.path()).await.contains("node.key"));
    write_pair(dir.path(), &authority.node());
    for text in [
        String::new(),
        authority.pem()[..100].to_owned(),
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned(),
    ] {
        replace(&at("ca.pem"), &text);
        let error = try_start(dir.path()).await;
        assert!(error.contains("`tls.client_ca`") && error.contains("ca.pem"), "{error}");
    }
}

/// Starts a node with a client CA if there is one. Returns the error with its causes.
async fn try_start(dir: &Path) -> String {
    let mut config = cable::config::Config::default();
    configure(&mut config, dir);
    config.store.dir = dir.join("store");
    config.server.ops_listen = None;
    if dir.join("ca.pem").exists() {
        config.tls.client_ca = Some(dir.join("ca.pem"));
        config.tls.client_auth = ClientAuth::Required;
    }
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let run = cable::server::run(config, cable::clock::Clock::system(), listener, std::future::pending());
    let error = soon(run).await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_new_client_ca_applies_to_new_connections() {
    let (dir, authority) = files();
    let (first, second) = (Authority::new("First CA"), Authority::new("Second CA"));
    let node = start_verifying(&dir, &first, ClientAuth::Required).await;
    let client = Client::of(&authority);
    let (first_client, second_client) =
        (client.with(first.client("desk")), client.with(second.client("desk")));
    let mut open = Connection::start(first_client.connect(node.address).await.unwrap()).await.unwrap();
    open.call().await.unwrap();
    assert!(second_client.call(node.address).await.is_err());
    replace(&dir.path().join("ca.pem"), &[first.pem(), second.pem()].concat());
    wait_until_served(&second_client, node.address).await;
    first_client.call(node.address).await.unwrap();
    replace(&dir.path().join("ca.pem"), &second.pem());
    let refused = async {
        while first_client.call(node.address).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(refused).await;
    second_client.call(node.address).await.unwrap();
    open.call().await.unwrap();
    node.stop().await;
}

#[tokio::test]
async fn a_request_to_reload_does_not_wait_for_the_interval() {
    let (dir, authority) = files();
    let node = Node::start_with(&dir.path().join("store"), |config| {
        configure(config, dir.path());
        config.tls.reload_interval = Duration::from_secs(3_600);
    })
    .await;
    Client::of(&authority).call(node.address).await.unwrap();
    let next = Authority::new("Next CA");
    write_pair(dir.path(), &next.node());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(Client::of(&next).call(node.address).await.is_err());
    node.reload.request();
    wait_until_served(&Client::of(&next), node.address).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_loads_the_files_again() {
    let (dir, authority) = files();
    let path = |name: &str| dir.path().join(name).display().to_string();
    let (certificate, key) = (path("node.pem"), path("node.key"));
    let env = [
        ("CABLE__TLS__CERTIFICATE", &certificate[..]),
        ("CABLE__TLS__KEY", &key),
        ("CABLE__TLS__RELOAD_INTERVAL", "1h"),
    ];
    let program = Program::start(&dir.path().join("store"), ":", &env);
    Client::of(&authority).call(program.address).await.unwrap();
    fs::write(dir.path().join("node.key"), "half").unwrap();
    program.signal("HUP");
    program.wait_for_line("`tls.key`");
    Client::of(&authority).call(program.address).await.unwrap();
    let next = Authority::new("Next CA");
    write_pair(dir.path(), &next.node());
    program.signal("HUP");
    program.wait_for_line("TLS certificate reloaded");
    Client::of(&next).call(program.address).await.unwrap();
}

/// Certificates are swapped while clients connect and call all the time. No handshake and no call fails, although one
/// in ten swaps is a mistake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_swapped_under_load() {
    let swaps = std::env::var(SWAPS_VARIABLE).map_or(SWAPS, |count| count.parse().unwrap());
    let (dir, authority) = files();
    let client = Client::of(&authority);
    let (node, ops) = start_with_metrics(dir.path(), &client).await;
    let address = node.address;
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let reconnecting = (0..2).map(|_| {
        let (client, stop, calls) = (client.clone(), stop.clone(), calls.clone());
        tokio::spawn(async move {
            while !stop.load(Relaxed) {
                client.call(address).await.unwrap();
                calls.fetch_add(1, Relaxed);
            }
        })
    });
    let connected = {
        let (stop, calls) = (stop.clone(), calls.clone());
        let mut open = Connection::start(client.connect(address).await.unwrap()).await.unwrap();
        tokio::spawn(async move {
            while !stop.load(Relaxed) {
                open.call().await.unwrap();
                calls.fetch_add(1, Relaxed);
            }
        })
    };
    let load: Vec<_> = reconnecting.chain([connected]).collect();
    let mistakes = mistakes(&authority);
    for swap in 0..swaps {
        if swap % 10 == 4 {
            let failures = metric(ops, "cable_tls_reload_failures_total").await;
            let (_, certificate, key) = &mistakes[swap / 10 % mistakes.len()];
            replace(&dir.path().join("node.pem"), certificate);
            replace(&dir.path().join("node.key"), key);
            wait_for_failures(ops, failures + 1).await;
        } else {
            let next = authority.node();
            write_pair(dir.path(), &next);
            wait_for_certificate(&client, address, &next).await;
        }
    }
    stop.store(true, Relaxed);
    for task in load {
        task.await.unwrap();
    }
    let calls = calls.load(Relaxed);
    assert!(calls > swaps, "{calls} calls during {swaps} swaps");
    assert_eq!(metric(ops, "cable_tls_handshake_failures_total").await, 0);
    node.stop().await;
}

/// Waits until new connections receive this certificate.
async fn wait_for_certificate(client: &Client, address: SocketAddr, expected: &Pair) {
    let swapped = async {
        loop {
            let io = client.connect(address).await.unwrap();
            let (_, session) = io.get_ref();
            if session.peer_certificates().unwrap()[0] == expected.certificate {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(swapped).await;
}

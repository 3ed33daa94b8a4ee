//! Tokens and roles: every method against every kind of credential, and credentials that change while a node runs.

use std::{
    collections::BTreeMap, fs, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, time::Duration,
};

use bytes::Bytes;
use cable::{
    auth::{Anonymous, CredentialFile, NewCredential, Role},
    clock::Clock,
    config::ClientAuth,
    server,
};
use futures_util::future::join_all;
use http::{HeaderMap, Request};
use prost_reflect::DescriptorPool;
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tonic::Code;

use crate::{
    connections::{places::free_address, soon},
    raw::Raw,
    support::Node,
    tls::{
        authority::{Authority, configure, replace, write_pair},
        client::Client,
    },
};

/// The longest time until a revoked credential is refused and its feeds have ended.
const REVOCATION: Duration = Duration::from_secs(5);

/// An empty message.
const EMPTY: Bytes = Bytes::from_static(&[0; 5]);

fn file(dir: &Path) -> CredentialFile {
    CredentialFile::new(dir.join("credentials.toml"))
}

fn credential(name: &str, role: Role) -> NewCredential {
    NewCredential { name: name.to_owned(), role, filter: None, lifetime: None, certificate: None }
}

fn create(file: &CredentialFile, name: &str, role: Role) -> String {
    create_at(file, credential(name, role), Clock::system().now())
}

fn create_at(file: &CredentialFile, new: NewCredential, now: i64) -> String {
    file.create(new, now).unwrap().unwrap().expose().to_owned()
}

/// The outcome of a call, as far as access is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Admitted,
    Unauthenticated,
    Forbidden,
}

impl Outcome {
    fn of(headers: &HeaderMap) -> Outcome {
        match status(headers).as_deref() {
            Some("16") => Outcome::Unauthenticated,
            Some("7") => Outcome::Forbidden,
            _ => Outcome::Admitted,
        }
    }
}

/// The content types of calls that a client and that a browser makes.
const GRPC: &str = "application/grpc";
const WEB: &str = "application/grpc-web+proto";

/// A connection on which a call can be left without a body.
struct Connection {
    client: h2::client::SendRequest<Bytes>,
    content_type: &'static str,
}

impl Connection {
    async fn open(node: &Node) -> Connection {
        Connection::at(node.address).await
    }

    async fn at(address: SocketAddr) -> Connection {
        Connection::over(TcpStream::connect(address).await.unwrap()).await
    }

    async fn over(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Connection {
        let (client, connection) = h2::client::handshake(io).await.unwrap();
        tokio::spawn(async move { drop(connection.await) });
        Connection { client, content_type: GRPC }
    }

    /// Returns the connection of a browser: its calls are those of gRPC-Web.
    fn web(&self) -> Connection {
        Connection { client: self.client.clone(), content_type: WEB }
    }

    /// Calls a method with a value of `authorization`. The body is sent only if the node does not refuse the call at
    /// once.
    async fn call(&self, method: &str, authorization: Option<&str>) -> Outcome {
        let (mut response, mut body) = self.send(method, authorization).await;
        // A call that is admitted waits for its body.
        if let Ok(refused) = timeout(Duration::from_millis(100), &mut response).await {
            return self.outcome(refused.unwrap()).await;
        }
        body.send_data(EMPTY, true).unwrap();
        self.outcome(soon(response).await.unwrap()).await
    }

    /// Makes a call whose body never comes, and returns how it is refused.
    async fn refusal(&self, method: &str, authorization: Option<&str>) -> Outcome {
        let (response, _body) = self.send(method, authorization).await;
        self.outcome(soon(response).await.unwrap()).await
    }

    /// Returns the outcome of a call. Over gRPC-Web, the status may be the first message of the body, of a kind of its
    /// own. A feed may have no first message.
    async fn outcome(&self, response: http::Response<h2::RecvStream>) -> Outcome {
        let (head, mut body) = response.into_parts();
        if self.content_type == GRPC || status(&head.headers).is_some() {
            return Outcome::of(&head.headers);
        }
        assert_eq!(head.headers["content-type"], WEB);
        match timeout(Duration::from_millis(500), body.data()).await {
            Ok(Some(Ok(first))) if first[0] == 0x80 => {
                let trailers = String::from_utf8_lossy(&first[5..]).into_owned();
                let value = trailers.lines().find_map(|line| line.strip_prefix("grpc-status:")).unwrap();
                Outcome::of(&HeaderMap::from_iter([(
                    http::HeaderName::from_static("grpc-status"),
                    value.trim().parse().unwrap(),
                )]))
            }
            _ => Outcome::Admitted,
        }
    }

    /// Sends the head of a call.
    async fn send(
        &self,
        method: &str,
        authorization: Option<&str>,
    ) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
        let mut request = Request::post(format!("http://localhost/{method}"));
        request = request.header("content-type", self.content_type).header("te", "trailers");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let mut client = self.client.clone().ready().await.unwrap();
        client.send_request(request.body(()).unwrap(), false).unwrap()
    }
}

fn status(headers: &HeaderMap) -> Option<String> {
    headers.get("grpc-status").map(|code| code.to_str().unwrap().to_owned())
}

/// Returns the methods of all services, each with the role that it needs, by the kind of method that it is.
fn methods() -> BTreeMap<String, Option<Role>> {
    let files = [
        cable_proto::DESCRIPTORS,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ];
    let pools = files.map(|files| DescriptorPool::decode(files).unwrap());
    let services = pools.iter().flat_map(|pool| pool.services());
    let all = services.flat_map(|service| service.methods().collect::<Vec<_>>()).map(|method| {
        let service = method.parent_service();
        let role = match (service.full_name(), method.name()) {
            ("grpc.health.v1.Health", _) => None,
            ("cable.v1.AdminService", _) => Some(Role::Admin),
            (_, "GetPending" | "ListPending") => Some(Role::Editor),
            ("cable.v1.PublishingService", _) | (_, "Import") => Some(Role::Publisher),
            _ => Some(Role::Reader),
        };
        (format!("{}/{}", service.full_name(), method.name()), role)
    });
    all.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_admits_exactly_the_callers_whose_role_includes_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let roles = [Role::Reader, Role::Editor, Role::Publisher, Role::Admin];
    let mut callers: Vec<(String, Option<String>, Option<Role>)> = Vec::new();
    for role in roles {
        let token = create(&file, role.name(), role);
        callers.push((role.name().to_owned(), Some(format!("Bearer {token}")), Some(role)));
        callers.push((format!("{role}, lower case"), Some(format!("bearer {token}")), Some(role)));
    }
    let lifetime = Some(Duration::from_secs(1));
    let expired = create_at(&file, NewCredential { lifetime, ..credential("late", Role::Admin) }, 1_000_000);
    let revoked = create(&file, "gone", Role::Admin);
    file.revoke("gone").unwrap();
    let (admin, unused) = (callers[6].1.clone().unwrap(), create(&file, "other", Role::Admin));
    let last = if admin.ends_with('x') { "y" } else { "x" };
    let foreign = [&admin[..admin.len() - 1], last].concat();
    for (kind, value) in [
        ("no credential", None),
        ("expired", Some(format!("Bearer {expired}"))),
        ("revoked", Some(format!("Bearer {revoked}"))),
        ("another last character", Some(foreign)),
        ("cut off", Some(admin[..admin.len() - 6].to_owned())),
        ("another scheme", Some(format!("Basic {unused}"))),
        ("no scheme", Some(unused)),
        ("no token", Some("Bearer ".to_owned())),
        ("empty", Some(String::new())),
        ("long", Some(format!("Bearer {}", "a".repeat(8_000)))),
    ] {
        callers.push((kind.to_owned(), value, None));
    }
    let node = Node::start_with(dir.path(), |config| {
        config.auth.anonymous = Anonymous::Nothing;
        config.rate.failures_per_minute = 0;
    })
    .await;
    check_all_as_both(&Connection::open(&node).await, &callers).await;
    let reader = Raw::to(&node).await.with_authorization(callers[0].1.as_deref().unwrap());
    let refused = reader.call("PutTag", json!({})).await.unwrap_err();
    assert_eq!((refused.code, &refused.reason[..]), (Code::PermissionDenied, "ROLE_REQUIRED"));
    assert_eq!(
        (&refused.metadata["role"][..], &refused.metadata["required_role"][..]),
        ("reader", "publisher")
    );
    node.stop().await;

    let authority = Authority::new("Averil CA");
    write_pair(dir.path(), &authority.node());
    let node = Node::start_with(dir.path(), |config| {
        configure(config, dir.path());
        config.rate.failures_per_minute = 0;
    })
    .await;
    let io = Client::of(&authority).connect(node.address).await.unwrap();
    check_all_as_both(&Connection::over(io).await, &callers).await;
    node.stop().await;
}

/// A certificate takes the place of a token, for every method.
#[tokio::test(flavor = "multi_thread")]
async fn every_method_admits_exactly_the_certificates_whose_role_includes_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, authority) = (file(dir.path()), Authority::new("Averil CA"));
    write_pair(dir.path(), &authority.node());
    replace(&dir.path().join("ca.pem"), &authority.pem());
    let now = Clock::system().now();
    let map = |name: &str, role, lifetime, now| {
        let certificate = Some(format!("CN:{name}"));
        let mapped = NewCredential { certificate, lifetime, ..credential(name, role) };
        assert_eq!(file.create(mapped, now).unwrap(), None);
    };
    let roles = [Role::Reader, Role::Editor, Role::Publisher, Role::Admin];
    let mut certificates: Vec<(&str, Option<Role>)> = Vec::new();
    for role in roles {
        map(role.name(), role, None, now);
        certificates.push((role.name(), Some(role)));
    }
    map("late", Role::Admin, Some(Duration::from_secs(1)), 1_000_000);
    map("gone", Role::Admin, None, now);
    file.revoke("gone").unwrap();
    certificates.extend([("late", None), ("gone", None), ("stranger", None), ("", None)]);
    let tokens = roles.map(|role| {
        let token = create(&file, &format!("{role}-token"), role);
        ("a token", Some(format!("Bearer {token}")), Some(role))
    });
    let node = Node::start_with(dir.path(), |config| {
        configure(config, dir.path());
        config.tls.client_ca = Some(dir.path().join("ca.pem"));
        config.tls.client_auth = ClientAuth::Optional;
        config.auth.anonymous = Anonymous::Nothing;
        config.rate.failures_per_minute = 0;
    })
    .await;
    let client = Client::of(&authority);
    for (name, role) in certificates {
        let client = if name.is_empty() { client.clone() } else { client.with(authority.client(name)) };
        let connection = Connection::over(client.connect(node.address).await.unwrap()).await;
        let of = |kind: &str| format!("the certificate {name:?} and {kind}");
        // A token decides alone, whether it allows more or less than the certificate.
        let mut callers = vec![(of("no token"), None, role)];
        callers.extend(tokens.iter().map(|(kind, token, role)| (of(kind), token.clone(), *role)));
        callers.push((of("a wrong token"), Some("Bearer x".to_owned()), None));
        callers.push((of("another scheme"), Some("Basic x".to_owned()), None));
        for connection in [&connection, &connection.web()] {
            check_all(connection, &callers).await;
        }
    }
    node.stop().await;
}

/// Checks every method with every credential, as a client and as a browser.
async fn check_all_as_both(connection: &Connection, callers: &[(String, Option<String>, Option<Role>)]) {
    for connection in [connection, &connection.web()] {
        check_all(connection, callers).await;
        let unknown = connection.call("cable.v1.ContentService/Unknown", None).await;
        assert_eq!(unknown, Outcome::Unauthenticated, "an unknown method tells a stranger nothing");
    }
}

/// Checks every method with every credential.
async fn check_all(connection: &Connection, callers: &[(String, Option<String>, Option<Role>)]) {
    let methods = methods();
    assert!(methods.len() >= 35, "{methods:?}");
    for (kind, authorization, role) in callers {
        let calls = methods.iter().map(|(method, required)| async move {
            let expected = match (required, role) {
                (None, _) => Outcome::Admitted,
                (Some(_), None) => Outcome::Unauthenticated,
                (Some(required), Some(role)) if role >= required => Outcome::Admitted,
                _ => Outcome::Forbidden,
            };
            let outcome = match expected {
                Outcome::Admitted => connection.call(method, authorization.as_deref()).await,
                // A call that is refused is refused without its body.
                _ => connection.refusal(method, authorization.as_deref()).await,
            };
            assert_eq!(outcome, expected, "{method} called with {kind}");
        });
        join_all(calls).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_identifies_its_caller_unless_there_is_a_token() {
    let dir = tempfile::tempdir().unwrap();
    let (file, authority) = (file(dir.path()), Authority::new("Averil CA"));
    write_pair(dir.path(), &authority.node());
    replace(&dir.path().join("ca.pem"), &authority.pem());
    let mapped =
        NewCredential { certificate: Some("CN:desk".to_owned()), ..credential("desk", Role::Publisher) };
    assert_eq!(file.create(mapped, Clock::system().now()).unwrap(), None);
    let reader = format!("Bearer {}", create(&file, "render", Role::Reader));
    let node = Node::start_with(dir.path(), |config| {
        configure(config, dir.path());
        config.tls.client_ca = Some(dir.path().join("ca.pem"));
        config.tls.client_auth = ClientAuth::Optional;
    })
    .await;
    let client = Client::of(&authority);
    let [desk, other] = ["desk", "other"].map(|name| client.with(authority.client(name)));
    let put = "cable.v1.PublishingService/PutTag";
    for (client, token, expected) in [
        (&desk, None, Outcome::Admitted),
        (&desk, Some(&reader), Outcome::Forbidden),
        (&desk, Some(&"Bearer x".to_owned()), Outcome::Unauthenticated),
        (&other, None, Outcome::Unauthenticated),
        (&client, None, Outcome::Unauthenticated),
    ] {
        let connection = Connection::over(client.connect(node.address).await.unwrap()).await;
        let token = token.map(String::as_str);
        assert_eq!(connection.call(put, token).await, expected, "{token:?}");
        assert_eq!(
            connection.call(put, token).await,
            expected,
            "{token:?}, once more on the same connection"
        );
    }
    let connection = Connection::over(desk.connect(node.address).await.unwrap()).await;
    assert_eq!(connection.call(put, None).await, Outcome::Admitted);
    // A connection that was open before learns of a new mapping.
    let late = Connection::over(other.connect(node.address).await.unwrap()).await;
    assert_eq!(late.call(put, None).await, Outcome::Unauthenticated);
    let mapped =
        NewCredential { certificate: Some("CN:other".to_owned()), ..credential("other", Role::Publisher) };
    file.create(mapped, Clock::system().now()).unwrap();
    becomes_of(&late, put, None, Outcome::Admitted).await;

    file.revoke("desk").unwrap();
    let wait = async { while connection.call(put, None).await == Outcome::Admitted {} };
    assert!(timeout(REVOCATION, wait).await.is_ok(), "a mapped certificate can be revoked");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_have_rates_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let [noisy, quiet] =
        ["noisy", "quiet"].map(|name| format!("Bearer {}", create(&file, name, Role::Reader)));
    let node = Node::start_with(dir.path(), |config| {
        config.auth.anonymous = Anonymous::Role(Role::Reader);
        config.rate.credential_calls = 20;
        config.rate.address_calls = 5;
    })
    .await;
    let raw = Raw::to(&node).await;
    let start = Instant::now();
    let admitted = async |token: Option<&str>, calls: usize| {
        let raw = token.map_or(raw.clone(), |token| raw.with_authorization(token));
        let mut admitted = 0;
        for _ in 0..calls {
            match raw.call("ListTags", json!({})).await {
                Ok(_) => admitted += 1,
                Err(refused) => {
                    assert_eq!(
                        (refused.code, &refused.reason[..]),
                        (Code::ResourceExhausted, "RATE_LIMITED")
                    );
                    assert!(refused.retry);
                }
            }
        }
        admitted
    };
    let (of_noisy, anonymous) = (admitted(Some(&noisy), 200).await, admitted(None, 200).await);
    assert_eq!(admitted(Some(&quiet), 20).await, 20, "another caller is not affected");
    let seconds = start.elapsed().as_secs_f64();
    let most = |rate: f64| (rate * (1.0 + seconds)) as usize + 1;
    assert!((20..=most(20.0)).contains(&of_noisy), "{of_noisy} in {seconds} s");
    assert!((5..=most(5.0)).contains(&anonymous), "{anonymous} in {seconds} s");

    let wrong = raw.with_authorization("Bearer wrong");
    let mut reasons = BTreeMap::<String, usize>::new();
    for _ in 0..50 {
        *reasons.entry(wrong.call("ListTags", json!({})).await.unwrap_err().reason).or_default() += 1;
    }
    assert!((5..=10).contains(&reasons["UNAUTHENTICATED"]), "{reasons:?}");
    assert_eq!(reasons["UNAUTHENTICATED"] + reasons["RATE_LIMITED"], 50);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(
        raw.with_authorization(&quiet).call("ListTags", json!({})).await.is_ok(),
        "a valid token is accepted"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_publish_can_have_an_address_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let address = free_address().await;
    let node = Node::start_with(dir.path(), |config| config.publish.listen = Some(address)).await;
    let [main, publishing] = [node.address, address].map(Connection::at);
    let (main, publishing) = (main.await, publishing.await);
    for (method, role) in &methods() {
        let publishes = role.is_some_and(|role| role > Role::Reader);
        let expected = if publishes { Outcome::Forbidden } else { Outcome::Admitted };
        assert_eq!(main.call(method, None).await, expected, "{method}");
        assert_eq!(publishing.call(method, None).await, Outcome::Admitted, "{method}");
    }
    let raw = Raw::to(&node).await;
    for (method, request) in [("PutTag", json!({})), ("Export", json!({"include_pending": true}))] {
        let refused = raw.call(method, request).await.unwrap_err();
        assert_eq!(
            (refused.code, &refused.reason[..]),
            (Code::PermissionDenied, "NOT_SERVED_HERE"),
            "{method}"
        );
    }
    let publishing = Raw::at(&format!("http://{address}")).await;
    publishing.call("Export", json!({"include_pending": true})).await.unwrap();
    node.stop().await;
    assert!(TcpStream::connect(address).await.is_err(), "both listeners are closed");
}

/// Opens a feed. Returns its body.
async fn open_feed(node: &Node, token: Option<&str>) -> h2::RecvStream {
    let connection = Connection::open(node).await;
    let mut request = Request::post("http://localhost/cable.v1.FeedService/Watch")
        .header("content-type", "application/grpc");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let mut client = connection.client.ready().await.unwrap();
    let (response, mut body) = client.send_request(request.body(()).unwrap(), false).unwrap();
    body.send_data(EMPTY, true).unwrap();
    let response = soon(response).await.unwrap();
    assert_eq!(status(response.headers()), None);
    response.into_body()
}

/// Waits for the end of a feed. Returns its status.
async fn end_of(mut feed: h2::RecvStream) -> Option<String> {
    while let Some(data) = feed.data().await {
        let length = data.unwrap().len();
        let _released = feed.flow_control().release_capacity(length);
    }
    feed.trailers().await.unwrap().and_then(|trailers| status(&trailers))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_ends_takes_its_feeds_with_it_and_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let [kept, revoked, demoted] =
        ["kept", "revoked", "demoted"].map(|name| create(&file, name, Role::Publisher));
    let lifetime = Some(Duration::from_secs(4));
    let brief = NewCredential { lifetime, ..credential("brief", Role::Reader) };
    let brief = create_at(&file, brief, Clock::system().now());
    let node = Node::start(dir.path()).await;
    let kept_feed = open_feed(&node, Some(&kept)).await;
    let [revoked_feed, demoted_feed, brief_feed] = [
        open_feed(&node, Some(&revoked)).await,
        open_feed(&node, Some(&demoted)).await,
        open_feed(&node, Some(&brief)).await,
    ];
    let start = Instant::now();
    file.revoke("revoked").unwrap();
    let text = fs::read_to_string(file.path()).unwrap();
    let text = text.replace("\"demoted\"\nrole = \"publisher\"", "\"demoted\"\nrole = \"reader\"");
    fs::write(file.path(), text).unwrap();
    for feed in [revoked_feed, demoted_feed] {
        assert_eq!(timeout(REVOCATION, end_of(feed)).await.unwrap().as_deref(), Some("16"));
    }
    assert!(start.elapsed() < REVOCATION);
    assert_eq!(timeout(2 * REVOCATION, end_of(brief_feed)).await.unwrap().as_deref(), Some("16"));
    assert!(timeout(Duration::from_millis(300), end_of(kept_feed)).await.is_err(), "this one goes on");

    let connection = Connection::open(&node).await;
    let put = "cable.v1.PublishingService/PutTag";
    let get = "cable.v1.ContentService/ListTags";
    for (token, to_put, to_get) in [
        (&kept, Outcome::Admitted, Outcome::Admitted),
        (&revoked, Outcome::Unauthenticated, Outcome::Unauthenticated),
        (&demoted, Outcome::Forbidden, Outcome::Admitted),
        (&brief, Outcome::Unauthenticated, Outcome::Unauthenticated),
    ] {
        let value = format!("Bearer {token}");
        assert_eq!(connection.call(put, Some(&value)).await, to_put);
        assert_eq!(connection.call(get, Some(&value)).await, to_get);
    }
    drop(connection);
    node.stop().await;
    let (uses, entries) = (file.last_uses(), file.read().unwrap());
    let kept = entries.iter().find(|entry| entry.name == "kept").unwrap();
    assert!(uses[&kept.id].starts_with("20"), "{uses:?}");
}

/// Waits until a call has an outcome.
async fn becomes(connection: &Connection, authorization: Option<&str>, expected: Outcome) {
    becomes_of(connection, "cable.v1.ContentService/ListTags", authorization, expected).await;
}

async fn becomes_of(connection: &Connection, method: &str, authorization: Option<&str>, expected: Outcome) {
    let wait = async {
        while connection.call(method, authorization).await != expected {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    assert!(timeout(REVOCATION, wait).await.is_ok(), "never {expected:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_closes_with_its_first_credential_and_survives_a_broken_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = file(dir.path());
    let node = Node::start_with(dir.path(), |config| config.rate.failures_per_minute = 0).await;
    let connection = Connection::open(&node).await;
    becomes(&connection, None, Outcome::Admitted).await;
    let feed = open_feed(&node, None).await;
    let first = format!("Bearer {}", create(&file, "first", Role::Reader));
    becomes(&connection, None, Outcome::Unauthenticated).await;
    becomes(&connection, Some(&first), Outcome::Admitted).await;
    assert_eq!(timeout(REVOCATION, end_of(feed)).await.unwrap().as_deref(), Some("16"));

    // A file that others may write to is refused until its mode is fixed.
    let second = format!("Bearer {}", create(&file, "second", Role::Reader));
    becomes(&connection, Some(&second), Outcome::Admitted).await;
    file.revoke("second").unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o666)).unwrap();
    becomes(&connection, Some(&first), Outcome::Admitted).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    becomes(&connection, Some(&second), Outcome::Unauthenticated).await;

    let good = fs::read_to_string(file.path()).unwrap();
    fs::write(file.path(), "").unwrap();
    becomes(&connection, Some(&first), Outcome::Unauthenticated).await;
    for broken in ["nonsense", &good[..good.len() / 2]] {
        fs::write(file.path(), &good).unwrap();
        becomes(&connection, Some(&first), Outcome::Admitted).await;
        fs::write(file.path(), broken).unwrap();
        tokio::time::sleep(Duration::from_millis(1_200)).await;
        let outcome = connection.call("cable.v1.ContentService/ListTags", Some(&first)).await;
        assert_eq!(outcome, Outcome::Admitted, "{broken:?}");
        assert_eq!(connection.call("cable.v1.ContentService/ListTags", None).await, Outcome::Unauthenticated);
    }
    fs::remove_file(file.path()).unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert_eq!(connection.call("cable.v1.ContentService/ListTags", None).await, Outcome::Unauthenticated);
    assert_eq!(connection.call("cable.v1.ContentService/ListTags", Some(&first)).await, Outcome::Admitted);
    drop(connection);
    node.stop().await;
}

async fn start_on(address: &str, dir: &Path, anonymous: Anonymous) -> Result<(), server::Error> {
    let mut config = cable::config::Config::default();
    config.store.dir = dir.to_owned();
    config.store.reserve_bytes = 0;
    config.server.listen = address.parse().unwrap();
    config.server.ops_listen = None;
    config.server.plaintext = true;
    config.auth.anonymous = anonymous;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    server::run(config, Clock::system(), listener, std::future::ready(())).await
}

#[tokio::test]
async fn a_node_that_others_can_reach_needs_a_credential_or_an_explicit_choice() {
    for (address, anonymous, credential, starts) in [
        ("127.0.0.1:1", Anonymous::Auto, false, true),
        ("[::1]:1", Anonymous::Auto, false, true),
        ("127.0.0.1:1", Anonymous::Nothing, false, false),
        ("0.0.0.0:1", Anonymous::Auto, false, false),
        ("[::]:1", Anonymous::Auto, false, false),
        ("[::ffff:192.0.2.1]:1", Anonymous::Auto, false, false),
        ("0.0.0.0:1", Anonymous::Role(Role::Reader), false, true),
        ("0.0.0.0:1", Anonymous::Auto, true, true),
    ] {
        let dir = tempfile::tempdir().unwrap();
        if credential {
            create(&file(dir.path()), "a", Role::Reader);
        }
        match start_on(address, dir.path(), anonymous).await {
            Ok(()) => assert!(starts, "{address} {anonymous:?}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!starts, "{text}");
                assert!(text.contains("cable token new") && text.contains("auth.anonymous"), "{text}");
            }
        }
    }
}

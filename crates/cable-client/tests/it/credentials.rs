//! Tokens, metadata and deadlines: what each call sends, and what happens when a token is refused.

use std::{
    collections::BTreeSet,
    fs,
    future::IntoFuture as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use cable_client::{Cable, Error, ErrorKind, FeedFilter, Filter, RawRecord, RemovalReason, Retry, Token, v1};
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream};
use prost::Message as _;
use tonic::{Code, Status, Streaming, body::Body};

use crate::{
    feeds::{broken, changes, checkpoint, open, record, upsert},
    support::{Responses, Server, article, both_streams, position, server_stream, unary},
};

const CANARY: &str = "cable_7f3a_canary-of-the-token";

/// The headers of one call.
#[derive(Debug, Clone)]
struct Sent {
    call: String,
    token: Option<String>,
    trace: Option<String>,
    timeout: Option<String>,
}

type Recorded = Arc<Mutex<Vec<Sent>>>;

fn sent(call: &str, request: &http::Request<Body>) -> Sent {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    Sent {
        call: call.to_owned(),
        token: header("authorization"),
        trace: header("x-trace"),
        timeout: header("grpc-timeout"),
    }
}

/// Starts a server that records the headers of each call and refuses it.
fn serve_refusals(code: Code) -> (Server, Recorded) {
    let recorded = Recorded::default();
    let record = Arc::clone(&recorded);
    let server = Server::start(0, move |call, request| {
        record.lock().unwrap().push(sent(&call, &request));
        async move { Status::new(code, "refused").into_http() }
    });
    (server, recorded)
}

/// Starts a server that accepts only these tokens, and responds to GetStatus. Returns the tokens that it received.
fn serve_tokens(accepted: Arc<Mutex<Vec<&'static str>>>) -> (Server, Arc<Mutex<Vec<String>>>) {
    let received = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&received);
    let server = Server::start(0, move |call, request| {
        let token = sent(&call, &request).token.unwrap_or_default();
        let is_accepted = accepted.lock().unwrap().iter().any(|known| token == format!("Bearer {known}"));
        record.lock().unwrap().push(token);
        async move {
            if !is_accepted {
                return Status::unauthenticated("unknown token").into_http();
            }
            unary(request, |_: v1::GetStatusRequest| async { Ok(v1::GetStatusResponse::default()) }).await
        }
    });
    (server, received)
}

fn builder(server: &Server) -> cable_client::Builder {
    let quick = Retry::default().backoff(Duration::from_millis(5), Duration::from_millis(20));
    Cable::builder(server.url()).timeout(Duration::from_secs(5)).retry(quick)
}

/// Returns every call that the client can make. A stream is polled once.
fn every_call(cable: &Cable) -> Vec<BoxFuture<'static, Result<(), Error>>> {
    macro_rules! calls {
        (await [$($call:expr,)*] poll [$($stream:expr,)*]) => { vec![
            $({ let call = $call.into_future(); async move { call.await.map(drop) }.boxed() },)*
            $({ let mut stream = $stream; async move { stream.next().await.unwrap().map(drop) }.boxed() },)*
        ] };
    }
    let named = |name: &str| name.to_owned();
    let author = v1::Author { name: named("authors/a"), display_name: named("A"), ..Default::default() };
    let section = v1::Section { name: named("sections/a"), display_name: named("A"), ..Default::default() };
    let tag = v1::Tag { name: named("tags/a"), display_name: named("A"), ..Default::default() };
    let collection = v1::Collection { name: named("collections/a"), ..Default::default() };
    let withdrawn = RemovalReason::Withdrawn;
    let status = {
        let cable = cable.clone();
        async move { cable.status().await.map(drop) }.boxed()
    };
    let mirror = {
        let cable = cable.clone();
        async move { cable.mirror(FeedFilter::default()).start().ready().await }.boxed()
    };
    let backup = {
        let cable = cable.clone();
        async move { cable.backup().await.map(drop) }.boxed()
    };
    let mut calls = calls![
        await [cable.article("a"),
        cable.articles(["a"]),
        cable.resolve("/a"),
        cable.author("a"),
        cable.section("a"),
        cable.tag("a"),
        cable.collection("a"),
        cable.put(article("a")),
        cable.put(author),
        cable.put(section),
        cable.put(tag.clone()),
        cable.put(collection),
        cable.patch(article("a"), ["headline"]),
        cable.remove("a", withdrawn),
        cable.remove("authors/a", withdrawn),
        cable.remove("sections/a", withdrawn),
        cable.remove("tags/a", withdrawn),
        cable.remove("collections/a", withdrawn),
        cable.commit().put(tag),
        cable.pending("a"),
        cable.remove_pending("a"),
        ] poll [cable.list(Filter::default()).items(),
        cable.stream(Filter::default()).articles(),
        cable.authors().items(),
        cable.sections().items(),
        cable.tags().items(),
        cable.collections().items(),
        cable.list_pending().items(),
        cable.feed(FeedFilter::default()).open(),
        cable.export().after(position(1)).records(),
        cable.import(stream::iter([RawRecord::from(article("articles/a"))])),
    ]];
    calls.extend([status, mirror, backup]);
    let client = cable.clone();
    calls.push(Box::pin(async move { client.acknowledge("index", &position(1)).await.map(drop) }));
    let client = cable.clone();
    calls.push(Box::pin(async move { client.consumers().await.map(drop) }));
    let client = cable.clone();
    calls.push(Box::pin(async move { client.delete_consumer("index", None).await }));
    calls
}

/// Returns the methods of all services of the schema.
fn methods() -> BTreeSet<String> {
    let files = prost_types::FileDescriptorSet::decode(cable_proto::DESCRIPTORS).unwrap();
    let services =
        files.file.into_iter().filter(|file| file.package() == "cable.v1").flat_map(|file| file.service);
    services.flat_map(|service| service.method).map(|method| method.name().to_owned()).collect()
}

#[tokio::test]
async fn each_call_sends_token_metadata_and_deadline() {
    let (server, recorded) = serve_refusals(Code::PermissionDenied);
    let cable = builder(&server).token(CANARY).build().unwrap().with_metadata("x-trace", "4711").unwrap();
    for call in every_call(&cable) {
        let error = call.await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
        assert!(!format!("{error} {error:?}").contains("canary"));
    }
    let recorded = recorded.lock().unwrap();
    assert_eq!(recorded.iter().map(|sent| sent.call.clone()).collect::<BTreeSet<_>>(), methods());
    for sent in recorded.iter() {
        assert_eq!(sent.token.as_deref(), Some(&*format!("Bearer {CANARY}")), "{sent:?}");
        assert_eq!(sent.trace.as_deref(), Some("4711"), "{sent:?}");
        // The deadline would end a stream that is still being read.
        let is_stream =
            ["StreamArticles", "Watch", "Export", "Import", "Backup"].contains(&sent.call.as_str());
        assert_eq!(sent.timeout.is_none(), is_stream, "{sent:?}");
    }
}

#[tokio::test]
async fn a_client_without_token_and_metadata_sends_none() {
    let (server, recorded) = serve_refusals(Code::Unauthenticated);
    let cable = builder(&server).build().unwrap();
    let _other = cable.with_metadata("x-trace", "4711").unwrap();
    for call in every_call(&cable) {
        assert_eq!(call.await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    }
    assert!(recorded.lock().unwrap().iter().all(|sent| sent.token.is_none() && sent.trace.is_none()));
}

#[tokio::test]
async fn a_timeout_of_a_clone_applies_to_each_call() {
    let server = Server::start(0, |_, _| std::future::pending());
    let cable = builder(&server).build().unwrap().with_timeout(Duration::from_millis(100));
    for call in every_call(&cable) {
        // A feed and a mirror connect again for as long as it takes.
        let Ok(outcome) = tokio::time::timeout(Duration::from_secs(2), call).await else { continue };
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
        assert_eq!(error.message(), format!("no response from {} before the deadline", server.url()));
    }
    let slow = cable.with_timeout(Duration::from_secs(30));
    let error = slow.article("a").timeout(Duration::from_millis(50)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn a_rotated_token_file_is_read_when_the_old_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "old\n").unwrap();
    let accepted = Arc::new(Mutex::new(vec!["old"]));
    let (server, received) = serve_tokens(Arc::clone(&accepted));
    let cable = builder(&server).token(Token::file(&path)).build().unwrap();
    cable.status().await.unwrap();
    *accepted.lock().unwrap() = vec!["new"];
    // The file has the old token still: one attempt, and the file is read once more for nothing.
    assert_eq!(cable.status().await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    fs::write(&path, "new\n").unwrap();
    cable.status().await.unwrap();
    fs::remove_file(&path).unwrap();
    cable.status().await.unwrap();
    let bearer = ["old", "old", "old", "new", "new"].map(|token| format!("Bearer {token}"));
    assert_eq!(*received.lock().unwrap(), bearer);
}

#[tokio::test]
async fn a_callback_is_asked_once_more_after_a_refusal() {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let (server, received) = serve_tokens(accepted);
    let runs = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&runs);
    let callback = move || {
        let run = counted.fetch_add(1, SeqCst);
        async move { Ok::<_, Error>(format!("{CANARY}-{run}")) }
    };
    let cable = builder(&server).token(Token::from_fn(callback)).build().unwrap();
    let error = cable.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!format!("{error} {error:?} {cable:?}").contains("canary"));
    assert_eq!((runs.load(SeqCst), received.lock().unwrap().len()), (2, 2));
}

#[tokio::test]
async fn a_callback_that_fails_is_an_error_without_a_call() {
    let (server, recorded) = serve_refusals(Code::Ok);
    let token = Token::from_fn(|| async { Err::<String, _>("secret store is sealed") });
    let cable = builder(&server).token(token).build().unwrap();
    let error = cable.status().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Credentials);
    assert_eq!(error.message(), "cannot get a token: secret store is sealed");
    assert!(!error.is_retryable() && recorded.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_slow_callback_ends_with_the_deadline() {
    let (server, recorded) = serve_refusals(Code::Ok);
    let token = Token::from_fn(std::future::pending::<Result<String, Error>>);
    let cable = builder(&server).timeout(Duration::from_millis(100)).token(token).build().unwrap();
    let error = cable.put(article("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(error.message(), "no token from its source before the deadline: the call was not sent");
    assert!(!error.may_have_applied() && recorded.lock().unwrap().is_empty());
}

/// A stream ends with UNAUTHENTICATED in its course: the server has revoked its token.
#[tokio::test]
async fn a_feed_resumes_with_the_token_that_replaced_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "old").unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let (recorded, rotated) = (Arc::clone(&received), path.clone());
    let server = Server::start(0, move |call, request| {
        let token = sent(&call, &request).token.unwrap();
        let (recorded, rotated) = (Arc::clone(&recorded), rotated.clone());
        server_stream(request, move |request: v1::WatchRequest| {
            recorded.lock().unwrap().push((token.clone(), request.start.clone()));
            let revoked = || Status::unauthenticated("revoked");
            match token.as_str() {
                "Bearer old" => {
                    fs::write(&rotated, "new").unwrap();
                    broken(vec![changes(vec![upsert(7, record("articles/a"))])], revoked())
                }
                _ => broken(vec![changes(vec![upsert(8, record("articles/b"))])], revoked()),
            }
        })
    });
    let cable = builder(&server).token(Token::file(&path)).build().unwrap();
    let mut feed = cable.feed(FeedFilter::default()).open();
    for revision in [7, 8] {
        let delivery = feed.try_next().await.unwrap().unwrap();
        assert_eq!(delivery.position.unwrap().revision, revision);
    }
    // The new token is revoked too, and the file has no other.
    assert_eq!(feed.try_next().await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert!(feed.next().await.is_none());
    let received = received.lock().unwrap();
    let tokens: Vec<&str> = received.iter().map(|(token, _)| token.as_str()).collect();
    assert_eq!(tokens, ["Bearer old", "Bearer new"]);
    assert_eq!(received[1].1, Some(v1::watch_request::Start::After(position(7))));
}

#[tokio::test]
async fn a_feed_gives_up_on_a_source_of_tokens_that_are_all_refused() {
    let streams = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&streams);
    let server = Server::start(0, move |_, request| {
        counted.fetch_add(1, SeqCst);
        server_stream(request, |_: v1::WatchRequest| broken(Vec::new(), Status::unauthenticated("no")))
    });
    let number = AtomicUsize::new(0);
    let token = Token::from_fn(move || {
        let token = format!("token-{}", number.fetch_add(1, SeqCst));
        async move { Ok::<_, Error>(token) }
    });
    let mut feed = builder(&server).token(token).build().unwrap().feed(FeedFilter::default()).open();
    assert_eq!(feed.try_next().await.unwrap_err().kind(), ErrorKind::Unauthenticated);
    assert!((2..=4).contains(&streams.load(SeqCst)), "{streams:?}");
}

#[tokio::test]
async fn transfers_continue_with_the_token_that_replaced_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "old").unwrap();
    let rotated = path.clone();
    let server = Server::start(0, move |call, request| {
        let is_old = sent(&call, &request).token.as_deref() == Some("Bearer old");
        fs::write(&rotated, "new").unwrap();
        both_streams(request, move |chunks: Streaming<v1::ImportRequest>| -> Responses<v1::ImportResponse> {
            let respond = move |chunk: Result<v1::ImportRequest, Status>| {
                let chunk = chunk?;
                if is_old {
                    return Err(Status::unauthenticated("revoked"));
                }
                let mut response = v1::ImportResponse::default();
                response.chunk = chunk.chunk;
                response.results = vec![v1::ImportResult::default(); chunk.records.len()];
                Ok(response)
            };
            chunks.map(respond).boxed()
        })
    });
    let cable = builder(&server).token(Token::file(&path)).build().unwrap();
    let acks = cable.import(stream::iter([record("articles/a")]));
    assert_eq!(acks.try_collect::<Vec<_>>().await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_open_feed_is_not_disturbed_by_a_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    fs::write(&path, "old").unwrap();
    let server = Server::start(0, |_, request| {
        server_stream(request, |_: v1::WatchRequest| {
            open(vec![
                changes(vec![upsert(7, record("articles/a"))]),
                changes(vec![upsert(8, record("articles/b"))]),
            ])
        })
    });
    let cable = builder(&server).token(Token::file(&path)).build().unwrap();
    let mut feed = cable.feed(FeedFilter::default()).open();
    feed.try_next().await.unwrap().unwrap();
    fs::write(&path, "new").unwrap();
    feed.try_next().await.unwrap().unwrap();
    assert_eq!(feed.reconnects(), 0);
}

#[tokio::test]
async fn a_feed_of_an_idle_log_survives_each_rotation() {
    let streams = Arc::new(AtomicUsize::new(0));
    let server = Server::start(0, move |_, request| {
        let number = streams.fetch_add(1, SeqCst);
        server_stream(request, move |_: v1::WatchRequest| match number {
            0..4 => broken(vec![checkpoint(7)], Status::unauthenticated("revoked")),
            _ => open(vec![changes(vec![upsert(8, record("articles/a"))])]),
        })
    });
    let number = AtomicUsize::new(0);
    let token = Token::from_fn(move || {
        let token = format!("token-{}", number.fetch_add(1, SeqCst));
        async move { Ok::<_, Error>(token) }
    });
    let mut feed = builder(&server).token(token).build().unwrap().feed(FeedFilter::default()).open();
    for revision in [7, 7, 7, 7, 8] {
        let delivery = feed.try_next().await.unwrap().unwrap();
        assert_eq!(delivery.position.unwrap().revision, revision);
    }
}

//! Failures of servers and connections, with servers that fail by script.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use cable_client::{Cable, ErrorKind, ErrorReason, Filter, RawRecord, Retry, v1};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::{io::AsyncWriteExt as _, net::TcpListener};
use tonic::Code;

use crate::support::{Responses, Server, article, batch_response, position, refusal, server_stream, unary};

fn found() -> v1::GetArticleResponse {
    let mut response = v1::GetArticleResponse::default();
    response.article = Some(article("articles/a"));
    response
}

/// Starts a server that refuses GetArticle `times` times before it serves it.
fn serve_refusals(times: usize, code: Code, reason: &'static str) -> (Server, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let server = Server::start(0, move |_, request| {
        let calls = Arc::clone(&counted);
        unary(request, move |_: v1::GetArticleRequest| {
            let refused = calls.fetch_add(1, SeqCst) < times;
            async move { if refused { Err(refusal(code, reason)) } else { Ok(found()) } }
        })
    });
    (server, calls)
}

#[tokio::test]
async fn a_read_is_retried_while_the_node_is_unavailable() {
    let (server, calls) = serve_refusals(2, Code::Unavailable, "OVERLOADED");
    assert_eq!(server.client().article("a").await.unwrap().name, "articles/a");
    assert_eq!(calls.load(SeqCst), 3);
}

#[tokio::test]
async fn attempts_are_limited_and_the_last_error_is_returned() {
    let (server, calls) = serve_refusals(100, Code::Unavailable, "NOT_CAUGHT_UP");
    let error = server.client().article("a").await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::NotCaughtUp));
    assert_eq!(calls.load(SeqCst), 3);
    assert!(error.is_retryable() && !error.may_have_applied());
}

/// Starts a listener that sends `response` on each connection and closes it.
async fn serve_bytes(response: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            let _closed = connection.write_all(response).await;
        }
    });
    url
}

#[tokio::test]
async fn a_connection_error_names_the_address_and_the_cause() {
    let alert = serve_bytes(b"\x15\x03\x03\x00\x02\x02\x46").await;
    for (url, start) in [
        // No server listens on port 1.
        ("http://127.0.0.1:1".to_owned(), "cannot reach {url}: Connection refused"),
        (
            "http://no-such-host.invalid:7190".to_owned(),
            "cannot reach {url}: no address for `no-such-host.invalid`: failed to lookup address",
        ),
        (alert, "cannot reach {url}: the server speaks TLS on this port: use https://"),
        (serve_bytes(b"").await, "connection to {url} lost: "),
    ] {
        let cable = Cable::builder(&url).retry(Retry::none()).build().unwrap();
        let start = start.replace("{url}", &url);
        let call = cable.status().await.unwrap_err();
        let stream = cable.stream(Filter::default()).articles().next().await.unwrap().unwrap_err();
        for error in [call, stream] {
            assert_eq!(error.kind(), ErrorKind::Unavailable, "{url}: {error}");
            assert!(error.message().starts_with(&start), "{url}: {error}");
        }
    }
}

#[tokio::test]
async fn permanent_errors_are_not_retried() {
    let (server, calls) = serve_refusals(100, Code::NotFound, "ARTICLE_GONE");
    let error = server.client().article("a").await.unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::ArticleGone));
    assert_eq!(server.client().article("a").optional().await.unwrap(), None);
    assert_eq!(calls.load(SeqCst), 2);
}

#[tokio::test]
async fn a_write_is_retried_with_its_request_id() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&ids);
    let server = Server::start(0, move |_, request| {
        let ids = Arc::clone(&recorded);
        unary(request, move |put: v1::PutArticleRequest| {
            ids.lock().unwrap().push(put.request_id);
            let first = ids.lock().unwrap().len() == 1;
            async move {
                if first {
                    return Err(refusal(Code::Unavailable, "OUTCOME_UNKNOWN"));
                }
                let mut response = v1::PutArticleResponse::default();
                response.result = Some(v1::WriteResult::default());
                Ok(response)
            }
        })
    });
    server.client().put(article("a")).await.unwrap();
    server.client().put(article("a")).await.unwrap();
    let ids = ids.lock().unwrap();
    assert_eq!(ids.len(), 3);
    assert!(!ids[0].is_empty() && ids[0] == ids[1] && ids[1] != ids[2]);
}

#[tokio::test]
async fn a_timeout_is_an_error_and_leaves_a_write_in_doubt() {
    let server = Server::start(0, |_, _| std::future::pending());
    let (cable, start, limit) = (server.client(), Instant::now(), Duration::from_millis(150));
    let read = cable.article("a").timeout(limit).await.unwrap_err();
    let write = cable.put(article("a")).timeout(limit).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!((read.kind(), write.kind()), (ErrorKind::DeadlineExceeded, ErrorKind::DeadlineExceeded));
    assert!(!read.may_have_applied() && write.may_have_applied());
}

#[tokio::test]
async fn without_a_server_a_write_has_certainly_not_applied() {
    let (server, _) = serve_refusals(0, Code::Ok, "");
    let cable = server.client();
    drop(server);
    let error = cable.put(article("a")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.is_retryable() && !error.may_have_applied(), "{error:?}");
}

#[tokio::test]
async fn calls_go_to_the_live_node() {
    let (dead, _) = serve_refusals(0, Code::Ok, "");
    let (live, calls) = serve_refusals(0, Code::Ok, "");
    let cable = Cable::builder([dead.url(), live.url()]).build().unwrap();
    drop(dead);
    for _ in 0..30 {
        cable.article("a").await.unwrap();
    }
    assert_eq!(calls.load(SeqCst), 30);
}

#[tokio::test]
async fn a_client_survives_a_restart_of_its_server() {
    let (first, _) = serve_refusals(0, Code::Ok, "");
    let (cable, port) = (first.client(), first.address.port());
    cable.article("a").await.unwrap();
    drop(first);
    assert_eq!(cable.article("a").await.unwrap_err().kind(), ErrorKind::Unavailable);
    let _second =
        Server::start(port, |_, request| unary(request, |_: v1::GetArticleRequest| async { Ok(found()) }));
    cable.article("a").await.unwrap();
}

#[tokio::test]
async fn a_batch_fetches_deferred_names_and_preserves_the_order() {
    let server = Server::start(0, |_, request| {
        unary(request, |batch: v1::BatchGetArticlesRequest| {
            assert!(batch.names.len() <= 500);
            let response = batch_response(&batch, 300);
            async { Ok(response) }
        })
    });
    let names: Vec<String> = (0..1_234).map(|id| format!("articles/{id}")).collect();
    let articles = server.client().articles(names.clone()).await.unwrap();
    assert_eq!(articles.found().map(|article| article.name).collect::<Vec<_>>(), names);
}

#[tokio::test]
async fn an_empty_page_does_not_end_a_listing() {
    let server = Server::start(0, |_, request| {
        unary(request, |list: v1::ListArticlesRequest| {
            let mut response = v1::ListArticlesResponse::default();
            let (articles, next) = match list.page_token.as_str() {
                "" => (vec![article("articles/a")], "2"),
                "2" => (vec![], "3"),
                _ => (vec![article("articles/b")], ""),
            };
            (response.articles, response.next_page_token) = (articles, next.into());
            async { Ok(response) }
        })
    });
    let cable = server.client();
    let items: Vec<v1::Article> = cable.list(Filter::default()).items().try_collect().await.unwrap();
    assert_eq!(items.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["articles/a", "articles/b"]);
    assert_eq!(cable.list(Filter::default()).pages().count().await, 3);
}

#[tokio::test]
async fn a_broken_stream_is_an_error_after_its_last_message() {
    let server = Server::start(0, |_, request| {
        server_stream(request, |_: v1::StreamArticlesRequest| {
            let mut message = v1::StreamArticlesResponse::default();
            message.articles = vec![article("articles/a")];
            stream::iter([Ok(message), Err(refusal(Code::DataLoss, "RECORD_CORRUPT"))]).boxed()
        })
    });
    let mut articles = server.client().stream(Filter::default()).articles();
    assert!(articles.next().await.unwrap().is_ok());
    let error = articles.next().await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(ErrorReason::RecordCorrupt));
    assert!(articles.next().await.is_none() && articles.end().is_none());
}

pub(crate) fn record(id: i64) -> RawRecord {
    article(&format!("articles/{id}")).into()
}

/// Returns an export with two records per message, up to record `last`; the revision of a record is its number. The
/// call ends with DRAINING after three messages.
fn exported(request: &v1::ExportRequest, last: i64) -> Responses<v1::ExportResponse> {
    let mut messages = Vec::new();
    let mut next = request.after_revision + 1;
    while next <= last && messages.len() < 3 {
        let mut message = v1::ExportResponse::default();
        message.records = (next..(next + 2).min(last + 1)).map(record).collect();
        message.last_revision = (next + 1).min(last);
        next = message.last_revision + 1;
        messages.push(Ok(message));
    }
    if next <= last {
        messages.push(Err(refusal(Code::Unavailable, "DRAINING")));
    } else {
        let mut end = v1::ExportEnd::default();
        end.count = last - request.after_revision;
        end.position = Some(position(last));
        let mut message = v1::ExportResponse::default();
        message.end = Some(end);
        messages.push(Ok(message));
    }
    stream::iter(messages).boxed()
}

/// Starts a server of exports that also serves the log id.
fn serve_exports(
    port: u16,
    export: impl Fn(v1::ExportRequest) -> Responses<v1::ExportResponse> + Clone + Send + Sync + 'static,
) -> Server {
    Server::start(port, move |call, request| {
        let export = export.clone();
        async move {
            if call == "Export" {
                return server_stream(request, export).await;
            }
            let status = |_: v1::GetStatusRequest| async {
                let mut status = v1::GetStatusResponse::default();
                status.head = Some(position(15));
                Ok(status)
            };
            unary(request, status).await
        }
    })
}

#[tokio::test]
async fn an_export_resumes_after_its_server_was_killed() {
    let first = serve_exports(0, |request| exported(&request, 15).take(1).chain(stream::pending()).boxed());
    let mut records = first.client().export().records();
    for revision in [1, 2] {
        assert_eq!(records.try_next().await.unwrap(), Some(record(revision)));
    }
    let port = first.address.port();
    drop(first);
    let _second = serve_exports(port, |request| exported(&request, 15));
    let rest: Vec<RawRecord> = records.by_ref().try_collect().await.unwrap();
    assert_eq!(rest, (3..=15).map(record).collect::<Vec<_>>());
    assert_eq!(records.end().unwrap().position, Some(position(15)));
}

#[tokio::test]
async fn an_interrupted_export_resumes_without_gap_or_repeat() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&requests);
    let server = serve_exports(0, move |request| {
        let responses = exported(&request, 15);
        recorded.lock().unwrap().push((request.after_revision, request.log_id));
        responses
    });
    let mut records = server.client().export().records();
    let mut received = Vec::new();
    while let Some(record) = records.try_next().await.unwrap() {
        received.push(record);
    }
    assert_eq!(received, (1..=15).map(record).collect::<Vec<_>>());
    assert_eq!(records.end().unwrap().count, 3);
    assert_eq!(records.position().revision, 15);
    let log = || "0123abcd".to_owned();
    assert_eq!(*requests.lock().unwrap(), [(0, log()), (6, log()), (12, log())]);
}

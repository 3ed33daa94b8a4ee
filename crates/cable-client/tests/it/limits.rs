//! Extreme arguments: durations, counts, names and ids.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cable_client::{ArticleStream, Cable, Error, ErrorKind, FeedFilter, Filter, Import, Retry, v1};
use futures_util::{StreamExt as _, TryStreamExt as _};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    feeds::{checkpoint, open, serve_watch},
    support::{Server, article, batch_response, unary},
};

#[tokio::test]
async fn no_duration_is_too_long() {
    let waits = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&waits);
    let server = Server::start(0, move |_, request| {
        let waits = Arc::clone(&recorded);
        unary(request, move |request: v1::GetArticleRequest| {
            waits.lock().unwrap().push(request.freshness.unwrap().max_wait.unwrap().seconds);
            let mut response = v1::GetArticleResponse::default();
            response.article = Some(article("articles/a"));
            async { Ok(response) }
        })
    });
    for long in [Duration::MAX, Duration::from_secs(1_000_000_000_000)] {
        let cable = Cable::builder(server.url()).timeout(long).connect_timeout(long);
        let cable = cable.retry(Retry::default().backoff(long, long)).build().unwrap();
        cable.article("a").max_wait(long).timeout(long).await.unwrap();
        cable.with_timeout(long).article("a").max_wait(Duration::ZERO).await.unwrap();
    }
    // The longest duration of the schema, which a server refuses.
    let longest = 315_576_000_000;
    assert_eq!(*waits.lock().unwrap(), [longest, 0, longest, 0]);
}

#[tokio::test]
async fn no_duration_of_a_feed_is_too_long() {
    let (server, requests) = serve_watch(0, |number, _| match number {
        0 => futures_util::stream::iter([Err(Status::unavailable("no"))]).boxed(),
        _ => open(vec![checkpoint(1)]),
    });
    let long = Duration::MAX;
    let retry = Retry::default().backoff(Duration::from_millis(1), long);
    let cable = Cable::builder(server.url()).timeout(long).retry(retry).build().unwrap();
    let mut feed = cable.feed(FeedFilter::default()).checkpoint_interval(long).max_outage(long).open();
    assert!(feed.next().await.unwrap().is_ok());
    let interval = requests.lock().unwrap()[1].checkpoint_interval.unwrap();
    assert_eq!(interval.seconds, 315_576_000_000);
}

/// Returns the refusal of an invalid name in a list, as a server creates it.
fn refuse_name(index: usize) -> Status {
    let field = format!("names[{index}]");
    let text = format!("{field}: not a name");
    let mut details = ErrorDetails::with_bad_request_violation(&field, &text);
    details.set_error_info("FIELD_INVALID", "cable.v1", std::collections::HashMap::new());
    Status::with_error_details(Code::InvalidArgument, text, details)
}

#[tokio::test]
async fn an_invalid_name_in_a_batch_does_not_affect_the_others() {
    let server = Server::start(0, |_, request| {
        unary(request, |batch: v1::BatchGetArticlesRequest| {
            let invalid = batch.names.iter().position(|name| name.contains(' '));
            let response = batch_response(&batch, 400);
            async move { invalid.map_or(Ok(response), |index| Err(refuse_name(index))) }
        })
    });
    let mut names: Vec<String> = (0..1_300).map(|id| format!("articles/{id}")).collect();
    for invalid in [0, 501, 502, 1_299] {
        names[invalid] = format!("articles/not a name {invalid}");
    }
    let batch = server.client().articles(names.clone()).await.unwrap();
    assert_eq!(
        batch.items.iter().map(|item| &item.name).collect::<Vec<_>>(),
        names.iter().collect::<Vec<_>>()
    );
    let refused = batch.items.iter().enumerate().filter_map(|(index, item)| {
        let error = item.article.as_ref().err()?;
        assert_eq!(error.message(), format!("names[{index}]: not a name"));
        Some((index, error.violations()[0].field.clone()))
    });
    let expected = [0, 501, 502, 1_299].map(|index| (index, format!("names[{index}]")));
    assert_eq!(refused.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_stream_of_at_most_no_articles_is_empty() {
    let cable = Cable::builder("http://127.0.0.1:1").build().unwrap();
    let articles: Vec<v1::Article> =
        cable.stream(Filter::default()).max_articles(0).articles().try_collect().await.unwrap();
    assert_eq!(articles, []);
}

#[tokio::test]
async fn an_empty_request_id_is_replaced_by_a_random_one() {
    let ids = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&ids);
    let server = Server::start(0, move |_, request| {
        let ids = Arc::clone(&recorded);
        unary(request, move |put: v1::PutArticleRequest| {
            ids.lock().unwrap().push(put.request_id);
            let mut response = v1::PutArticleResponse::default();
            response.result = Some(v1::WriteResult::default());
            async { Ok(response) }
        })
    });
    server.client().put(article("a")).request_id("").await.unwrap();
    server.client().put(article("a")).request_id("mine").await.unwrap();
    let ids = ids.lock().unwrap();
    assert_eq!((ids[0].len(), ids[1].as_str()), (32, "mine"));
}

#[tokio::test]
async fn a_timeout_and_a_requested_delay_are_worth_a_later_retry() {
    let server = Server::start(0, |_, request| {
        unary(request, |_: v1::GetArticleRequest| async {
            let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(7)));
            let refusal = Status::with_error_details(Code::ResourceExhausted, "slower", details);
            Err::<v1::GetArticleResponse, _>(refusal)
        })
    });
    let limited = server.client().article("a").await.unwrap_err();
    assert!(limited.is_retryable() && limited.retry_after() == Some(Duration::from_secs(7)), "{limited:?}");
    let hung = Server::start(0, |_, _| std::future::pending());
    let late = hung.client().article("a").timeout(Duration::from_millis(50)).await.unwrap_err();
    assert!(late.kind() == ErrorKind::DeadlineExceeded && late.is_retryable(), "{late:?}");
    assert_eq!(late.clone().message(), late.message());
}

/// Streams can be parts of a state that threads share. This compiles, or it does not.
#[test]
fn streams_and_errors_can_be_shared() {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<ArticleStream>();
    is_shared::<Import>();
    is_shared::<Error>();
}

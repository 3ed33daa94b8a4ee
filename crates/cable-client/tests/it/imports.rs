//! Imports over calls that break, from sources and with records of every kind.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use cable_client::{ErrorKind, ErrorReason, RawRecord, v1};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tonic::{Code, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    faults::record,
    support::{Responses, Server, article, both_streams, refusal},
};

/// Imports chunks, and breaks the call before the acknowledgement of every third one.
fn imported(
    chunks: Streaming<v1::ImportRequest>,
    store: Arc<Mutex<Vec<RawRecord>>>,
) -> Responses<v1::ImportResponse> {
    let response = move |(number, chunk): (usize, Result<v1::ImportRequest, Status>)| {
        let chunk = chunk?;
        let mut store = store.lock().unwrap();
        let mut response = v1::ImportResponse::default();
        response.chunk = chunk.chunk;
        for record in chunk.records {
            let mut result = v1::ImportResult::default();
            result.set_outcome(v1::ImportOutcome::Unchanged);
            if !store.contains(&record) {
                result.set_outcome(v1::ImportOutcome::Written);
                store.push(record);
            }
            response.results.push(result);
        }
        if number % 3 == 2 { Err(refusal(Code::Unavailable, "DRAINING")) } else { Ok(response) }
    };
    chunks.enumerate().map(response).boxed()
}

#[tokio::test]
async fn an_interrupted_import_resends_unacknowledged_records() {
    let store = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&store);
    let server = Server::start(0, move |_, request| {
        let store = Arc::clone(&recorded);
        both_streams(request, move |chunks| imported(chunks, Arc::clone(&store)))
    });
    let records: Vec<RawRecord> = (0..9_500).map(record).collect();
    let acks: Vec<_> = server.client().import(stream::iter(records.clone())).try_collect().await.unwrap();
    assert_eq!(acks.len(), 10);
    let mut next = 0;
    for ack in &acks {
        assert_eq!(ack.first, next);
        next += ack.results.len() as u64;
    }
    assert_eq!(next, 9_500);
    let repeated = acks[2].results.iter().all(|result| result.outcome() == v1::ImportOutcome::Unchanged);
    assert!(repeated, "the third chunk was on disk before the call broke off");
    assert_eq!(*store.lock().unwrap(), records);
}

#[tokio::test]
async fn an_import_that_the_server_ends_early_is_an_error() {
    let server = Server::start(0, |_, request| {
        both_streams(request, |chunks: Streaming<v1::ImportRequest>| {
            let acks = chunks.take(1).map_ok(|chunk| {
                let mut response = v1::ImportResponse::default();
                response.chunk = chunk.chunk;
                response.results = vec![v1::ImportResult::default(); chunk.records.len()];
                response
            });
            acks.boxed()
        })
    });
    let mut acks = server.client().import(stream::iter((0..2_500).map(record)));
    assert!(acks.next().await.unwrap().is_ok());
    assert_eq!(acks.next().await.unwrap().unwrap_err().kind(), ErrorKind::Truncated);
    assert!(acks.next().await.is_none());
}

/// Starts a server that writes all records, except empty ones, which it refuses.
fn serve_imports() -> Server {
    Server::start(0, |_, request| {
        both_streams(request, |chunks: Streaming<v1::ImportRequest>| -> Responses<v1::ImportResponse> {
            let respond = |chunk: v1::ImportRequest| {
                let mut response = v1::ImportResponse::default();
                response.chunk = chunk.chunk;
                response.results = chunk.records.iter().map(result).collect();
                response
            };
            chunks.map_ok(respond).boxed()
        })
    })
}

fn result(record: &RawRecord) -> v1::ImportResult {
    let mut result = v1::ImportResult::default();
    result.name = record.name().unwrap_or_default();
    result.set_outcome(if record.as_bytes().is_empty() {
        v1::ImportOutcome::Refused
    } else {
        v1::ImportOutcome::Written
    });
    result
}

/// `unfold` panics when it is polled after its end.
#[tokio::test]
async fn a_source_is_not_polled_after_its_end() {
    let server = serve_imports();
    let source = stream::unfold(0, |id| async move { (id < 3).then(|| (record(id), id + 1)) });
    let acks: Vec<_> = server.client().import(source).try_collect().await.unwrap();
    assert_eq!(acks.iter().map(|ack| ack.results.len()).sum::<usize>(), 3);
}

#[tokio::test]
async fn a_record_above_the_limit_is_refused_alone() {
    let server = serve_imports();
    let mut large = article("articles/large");
    large.dek = "x".repeat(5 << 20);
    let mut records: Vec<RawRecord> = (0..1_500).map(record).collect();
    let large = RawRecord::from(large);
    for index in [0, 1, 700, 1_499] {
        records[index] = large.clone();
    }
    let names: Vec<String> = records.iter().map(|record| record.name().unwrap()).collect();
    let acks: Vec<_> = server.client().import(stream::iter(records)).try_collect().await.unwrap();
    let results: Vec<v1::ImportResult> = acks.into_iter().flat_map(|ack| ack.results).collect();
    assert_eq!(results.iter().map(|result| result.name.clone()).collect::<Vec<_>>(), names);
    for (index, result) in results.iter().enumerate() {
        let reason = result.error.as_ref().map(v1::ItemError::reason);
        let is_large = [0, 1, 700, 1_499].contains(&index);
        assert_eq!(reason, is_large.then_some(ErrorReason::LimitExceeded), "{index}");
        assert_eq!(result.outcome() == v1::ImportOutcome::Refused, is_large, "{index}");
    }
}

#[tokio::test]
async fn an_import_that_is_refused_when_it_opens_has_written_nothing() {
    let is_first = Arc::new(AtomicBool::new(true));
    let server = Server::start(0, move |_, request| {
        let is_refused = is_first.swap(false, SeqCst);
        async move {
            if is_refused {
                // The refusal comes after a chunk has arrived.
                let _chunk = axum::body::Body::new(request.into_body()).into_data_stream().next().await;
                let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(1)));
                return Status::with_error_details(Code::ResourceExhausted, "slower", details).into_http();
            }
            both_streams(request, |_: Streaming<v1::ImportRequest>| -> Responses<v1::ImportResponse> {
                stream::iter([Err(Status::internal("broken"))]).boxed()
            })
            .await
        }
    });
    let refused = server.client().import(stream::iter([record(1)])).next().await.unwrap().unwrap_err();
    assert!(refused.is_retryable() && !refused.may_have_applied(), "{refused:?}");
    let broken = server.client().import(stream::iter([record(1)])).next().await.unwrap().unwrap_err();
    assert!(broken.may_have_applied(), "{broken:?}");
}

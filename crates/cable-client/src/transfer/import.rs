//! Imports: records in chunks, and the acknowledgement of each one.
//!
//! The client sends up to four chunks before it waits for the acknowledgement of the first. Chunks that were sent and
//! not acknowledged stay in memory: a new call after a lost connection starts with them, in the same order and with the
//! same numbers. The server acknowledges records that it has already as UNCHANGED, so nothing is written twice.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
};

use bytes::Bytes;
use cable_proto::limit::{self, Limit};
use futures_util::{Stream, StreamExt as _, stream};
use prost::{Message as _, encoding::encoded_len_varint};
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tonic::Code;

use super::TransferCall;
use crate::{
    Cable, Error, ErrorKind, RawRecord, Result, Retry,
    client::Chunks,
    list::{Exclusive, ResultStream},
    v1::{
        ErrorReason, ImportMode, ImportOutcome, ImportRequest, ImportResponse, ImportResult, ItemError,
        Position,
    },
};

impl Cable {
    /// Imports records in chunks. Poll the stream of acknowledgements to keep the import running.
    ///
    /// A record replaces a version only if an import of the same [`source`](Import::source) wrote that version and
    /// nothing has changed it since, so an import can be repeated beside editors. See [`Import::overwrite`].
    ///
    /// After a lost connection, the import resumes with the records that were not acknowledged. Those of them that had
    /// been written are then acknowledged as UNCHANGED.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use cable_client::{RawRecord, v1};
    /// use futures_util::{TryStreamExt as _, stream};
    ///
    /// let mut tag = v1::Tag::default();
    /// tag.name = "tags/storm".into();
    /// tag.display_name = "Storm".into();
    /// let mut acks = cable.import(stream::iter([RawRecord::from(tag)]));
    /// while let Some(ack) = acks.try_next().await? {
    ///     println!("{} records acknowledged", ack.results.len());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn import(&self, records: impl Stream<Item = RawRecord> + Send + 'static) -> Import {
        let source = Source {
            records: records.fuse().boxed(),
            options: ImportRequest::default(),
            peeked: None,
            chunk: Vec::new(),
            refused: Vec::new(),
            next_index: 0,
        };
        Import { cable: self.clone(), state: Exclusive::new(ImportState::Configured(Some(source))) }
    }
}

/// The acknowledgement of consecutive records of an import: each one is on disk or refused.
///
/// An acknowledgement covers at most 1,000 records. The outcome of each is `WRITTEN`, `UNCHANGED`, `KEPT` or
/// `REFUSED`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ImportAck {
    /// The index of the first acknowledged record among all records of the import, from 0.
    pub first: u64,
    /// The result of each record, in order.
    pub results: Vec<ImportResult>,
    /// The position after these records.
    pub position: Position,
}

/// The acknowledgements of an import, in order. If the stream ends without an error, every record was acknowledged. See
/// [`Cable::import`].
///
/// A refused record does not affect the others. The stream reports it in its acknowledgement and continues. A record that
/// no server accepts because of its size, of about 4 MiB, is not sent, and is refused in the same way, with the reason
/// `LimitExceeded`.
///
/// ```no_run
/// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
/// use cable_client::{RawRecord, v1};
/// use futures_util::{TryStreamExt as _, stream};
///
/// # let records: Vec<RawRecord> = Vec::new();
/// let mut acks = cable.import(stream::iter(records));
/// while let Some(ack) = acks.try_next().await? {
///     for (index, result) in (ack.first..).zip(&ack.results) {
///         if let Some(error) = &result.error {
///             println!("record {index}, {}: {} {}", result.name, error.field, error.message);
///         }
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "streams do nothing unless polled"]
pub struct Import {
    cable: Cable,
    state: Exclusive<ImportState>,
}

/// The state of an import before and after it is first polled.
enum ImportState {
    /// `None` only while the import starts.
    Configured(Option<Source>),
    Running(ResultStream<ImportAck>),
}

impl Import {
    /// Sets the source of the records: a text that identifies the system that they come from, such as the URL of its
    /// site. Versions of different sources are never mixed. If unset, the records come from no particular source.
    pub fn source(self, source: impl Into<String>) -> Self {
        self.with(|request| request.source = source.into())
    }

    /// Replaces also versions that were changed or removed since their import, and those of other sources. Killed names
    /// and names that a record only mentions stay as they are.
    pub fn overwrite(self) -> Self {
        self.with(|request| request.mode = ImportMode::Overwrite.into())
    }

    /// Writes nothing. The results are those that the import would have. Each record is judged on the store as the
    /// records before it would leave it, as far as some 15,000 versions that they would write.
    pub fn dry_run(self) -> Self {
        self.with(|request| request.dry_run = true)
    }

    /// Changes the options of every chunk. A running import keeps its options.
    fn with(mut self, change: impl FnOnce(&mut ImportRequest)) -> Self {
        if let ImportState::Configured(Some(source)) = self.state.get_mut() {
            change(&mut source.options);
        }
        self
    }
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").finish_non_exhaustive()
    }
}

impl Stream for Import {
    type Item = Result<ImportAck>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let import = self.get_mut();
        let state = import.state.get_mut();
        if let ImportState::Configured(source) = state
            && let Some(source) = source.take()
        {
            let acks = acknowledgements(import.cable.clone(), Arc::new(PendingImport::new(source)));
            *state = ImportState::Running(acks);
        }
        match state {
            ImportState::Running(acks) => acks.poll_next_unpin(cx),
            ImportState::Configured(_) => Poll::Ready(None),
        }
    }
}

/// The largest number of records and bytes in one chunk of an import; a single larger record is a chunk of its own. The
/// server writes a chunk in one transaction and accepts 4 MiB. Large chunks cause far fewer writes of list pages.
const CHUNK_RECORDS: usize = 1_000;

const CHUNK_BYTES: usize = 3 << 20;
/// The largest number of unacknowledged chunks: enough that the server never waits for the network.
const IN_FLIGHT: usize = 4;

/// The records in flight. They outlive the calls that carry them.
struct PendingImport {
    source: AsyncMutex<Source>,
    /// The unacknowledged chunks, the oldest first. The number of a chunk is the index of its first record.
    sent: Mutex<VecDeque<Chunk>>,
    /// A permit for each chunk that may be added to `sent`.
    permits: Semaphore,
    all_sent: AtomicBool,
    /// Whether a call has ended after which a chunk in flight may have been written.
    in_doubt: AtomicBool,
}

/// A chunk, and the results of those of its records that are too large for any server.
#[derive(Clone)]
struct Chunk {
    /// The message. It has an empty record, which the server refuses, in place of each one that is too large.
    request: ImportRequest,
    /// The results, each with the index of its record in the chunk.
    refused: Vec<(usize, ImportResult)>,
}

impl PendingImport {
    fn new(source: Source) -> Self {
        PendingImport {
            source: AsyncMutex::new(source),
            sent: Mutex::default(),
            permits: Semaphore::new(IN_FLIGHT),
            all_sent: AtomicBool::new(false),
            in_doubt: AtomicBool::new(false),
        }
    }

    fn sent(&self) -> MutexGuard<'_, VecDeque<Chunk>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the chunk to send after chunk `last`: the next unacknowledged one or, if there is none, a new one.
    async fn next_chunk(&self, last: i64) -> Option<ImportRequest> {
        let unacknowledged = || {
            let sent = self.sent();
            sent.iter().map(|chunk| &chunk.request).find(|request| request.chunk > last).cloned()
        };
        if let Some(chunk) = unacknowledged() {
            return Some(chunk);
        }
        let permit = self.permits.acquire().await.ok()?;
        let mut source = self.source.lock().await;
        // The previous call may still have been running, and may have added a chunk meanwhile.
        if let Some(chunk) = unacknowledged() {
            return Some(chunk);
        }
        let Some(chunk) = source.chunk().await else {
            self.all_sent.store(true, Relaxed);
            return None;
        };
        permit.forget();
        let request = chunk.request.clone();
        self.sent().push_back(chunk);
        Some(request)
    }

    /// Returns the chunks for one call: first those in flight, then new ones.
    fn chunks(self: Arc<Self>) -> impl Stream<Item = ImportRequest> + Send + 'static {
        stream::unfold((self, -1), |(import, last)| async move {
            let chunk = import.next_chunk(last).await?;
            let last = chunk.chunk;
            Some((chunk, (import, last)))
        })
    }

    /// Removes the oldest chunk in flight, which the response must match, and frees its permit.
    fn acknowledge(&self, mut response: ImportResponse) -> Result<ImportAck> {
        let mut sent = self.sent();
        let is_oldest = sent.front().is_some_and(|Chunk { request, .. }| {
            request.chunk == response.chunk && request.records.len() == response.results.len()
        });
        let Some(Chunk { refused, .. }) = sent.pop_front().filter(|_| is_oldest) else {
            let mismatch = "acknowledgement does not match the oldest chunk in flight";
            return Err(Error::new(ErrorKind::Malformed, mismatch));
        };
        self.permits.add_permits(1);
        for (index, result) in refused {
            response.results[index] = result;
        }
        Ok(ImportAck {
            first: response.chunk.unsigned_abs(),
            results: response.results,
            position: response.position.unwrap_or_default(),
        })
    }

    /// Records the end of a call. A call that was refused when it opened has written nothing, but an earlier one may have.
    fn settle(&self, mut error: Error, was_open: bool) -> Error {
        let is_in_doubt = was_open || error.may_have_applied() || self.in_doubt.load(Relaxed);
        let is_in_doubt = is_in_doubt && !self.sent().is_empty();
        self.in_doubt.store(is_in_doubt, Relaxed);
        error.set_may_have_applied(is_in_doubt);
        error
    }

    /// Returns whether the source has ended and every chunk is acknowledged.
    fn is_done(&self) -> bool {
        self.all_sent.load(Relaxed) && self.sent().is_empty()
    }
}

/// The source of the records. Records that it has read but not yet returned in a chunk stay here if a call is
/// cancelled.
struct Source {
    records: stream::BoxStream<'static, RawRecord>,
    /// The options of the import: a chunk without records.
    options: ImportRequest,
    peeked: Option<RawRecord>,
    chunk: Vec<RawRecord>,
    /// The results of the records in `chunk` that are too large.
    refused: Vec<(usize, ImportResult)>,
    next_index: i64,
}

impl Source {
    /// Returns the next chunk, or `None` at the end.
    async fn chunk(&mut self) -> Option<Chunk> {
        let mut bytes: usize = self.chunk.iter().map(size).sum();
        while self.chunk.len() < CHUNK_RECORDS {
            if self.peeked.is_none() {
                self.peeked = self.records.next().await;
            }
            let Some(record) = self.peeked.take() else { break };
            let record = self.replace_oversized(record);
            bytes += size(&record);
            if bytes > CHUNK_BYTES && !self.chunk.is_empty() {
                self.peeked = Some(record);
                break;
            }
            self.chunk.push(record);
        }
        let request = ImportRequest {
            chunk: self.next_index,
            records: std::mem::take(&mut self.chunk),
            ..self.options.clone()
        };
        self.next_index += request.records.len() as i64;
        let refused = std::mem::take(&mut self.refused);
        (!request.records.is_empty()).then_some(Chunk { request, refused })
    }

    /// Returns a record, or an empty one if it is too large for a message of its own. That would end the whole import.
    fn replace_oversized(&mut self, record: RawRecord) -> RawRecord {
        let bytes = size(&record) + self.options.encoded_len() + MAX_NUMBER_BYTES;
        if bytes as u64 <= limit::WRITE_REQUEST.maximum {
            return record;
        }
        self.refused.push((self.chunk.len(), refuse_oversized(&record)));
        RawRecord::from_bytes(Bytes::new())
    }
}

/// The largest encoded size of the number of a chunk in bytes.
const MAX_NUMBER_BYTES: usize = 11;

/// Returns the result of a record that is larger than a message to the server may be.
fn refuse_oversized(record: &RawRecord) -> ImportResult {
    let Limit { name, maximum } = limit::WRITE_REQUEST;
    let bytes = record.encoded_len();
    let metadata =
        [("limit", name.to_owned()), ("value", bytes.to_string()), ("maximum", maximum.to_string())];
    let mut error = ItemError {
        code: Code::InvalidArgument.into(),
        message: format!("record: {bytes} exceeds the maximum of {maximum} ({name})"),
        metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
        ..ItemError::default()
    };
    error.set_reason(ErrorReason::LimitExceeded);
    let mut result = ImportResult { error: Some(error), ..ImportResult::default() };
    result.name = record.name().unwrap_or_default();
    result.set_outcome(ImportOutcome::Refused);
    result
}

/// Returns the acknowledgements. A call that fails is made again until the policy allows no further attempt; the
/// attempts are counted from the last acknowledgement.
fn acknowledgements(cable: Cable, import: Arc<PendingImport>) -> ResultStream<ImportAck> {
    let call = TransferCall::default();
    stream::try_unfold((cable, import, call), |(cable, import, mut call)| async move {
        loop {
            match next_response(&cable, &import, &mut call).await {
                Ok(Some(response)) => {
                    call.failures = 0;
                    let ack = import.acknowledge(response)?;
                    return Ok(Some((ack, (cable, import, call))));
                }
                Ok(None) if import.is_done() => return Ok(None),
                Ok(None) => {
                    return Err(Error::truncated("server ended the import before the last chunk"));
                }
                Err(error) => {
                    let error = import.settle(error, call.responses.is_some());
                    call.recover(&cable, error).await?;
                }
            }
        }
    })
    .boxed()
}

/// Returns the next response of the current call, which is made first if there is none.
async fn next_response(
    cable: &Cable,
    import: &Arc<PendingImport>,
    call: &mut TransferCall<ImportResponse>,
) -> Result<Option<ImportResponse>> {
    let responses = match &mut call.responses {
        Some(responses) => responses,
        None => {
            let request = || Chunks(Arc::clone(import).chunks());
            call.opened(cable.open(request, None, &Retry::none()).await?)
        }
    };
    responses.next().await.transpose()
}

/// Returns the size of a record within its chunk in bytes.
fn size(record: &RawRecord) -> usize {
    let length = record.encoded_len();
    1 + encoded_len_varint(length as u64) + length
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::v1;

    fn record(id: usize, bytes: usize) -> RawRecord {
        let name = format!("articles/{id}");
        v1::Article { name, dek: "x".repeat(bytes), ..Default::default() }.into()
    }

    fn import(records: Vec<RawRecord>, permits: usize) -> Arc<PendingImport> {
        let mut import = PendingImport::new(Source {
            records: stream::iter(records).boxed(),
            options: ImportRequest::default(),
            peeked: None,
            chunk: Vec::new(),
            refused: Vec::new(),
            next_index: 0,
        });
        import.permits = Semaphore::new(permits);
        Arc::new(import)
    }

    fn ack(chunk: &ImportRequest) -> ImportResponse {
        let results = vec![ImportResult::default(); chunk.records.len()];
        ImportResponse { chunk: chunk.chunk, results, position: None }
    }

    #[tokio::test]
    async fn chunks_have_all_records_in_order_within_limits() {
        let records: Vec<RawRecord> =
            (0..2_500).map(|id| record(id, if id == 1_200 { CHUNK_BYTES + 5 } else { 400 })).collect();
        let chunks: Vec<ImportRequest> = import(records.clone(), 100).chunks().collect().await;
        let mut next = 0;
        for chunk in &chunks {
            assert_eq!(chunk.chunk, next);
            next += chunk.records.len() as i64;
            assert!(chunk.records.len() <= CHUNK_RECORDS);
            let bytes: usize = chunk.records.iter().map(size).sum();
            assert!(bytes <= CHUNK_BYTES || chunk.records.len() == 1);
        }
        assert_eq!(chunks.into_iter().flat_map(|chunk| chunk.records).collect::<Vec<_>>(), records);
    }

    #[tokio::test]
    async fn the_number_of_chunks_in_flight_is_bounded() {
        let import = import((0..5).map(|id| record(id, CHUNK_BYTES)).collect(), 2);
        let mut chunks = Box::pin(Arc::clone(&import).chunks());
        let first = chunks.next().await.unwrap();
        chunks.next().await.unwrap();
        assert!(chunks.next().now_or_never().is_none());
        import.acknowledge(ack(&first)).unwrap();
        assert!(chunks.next().now_or_never().is_some());
        assert!(chunks.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_second_call_resends_unacknowledged_chunks() {
        let import = import((0..5).map(|id| record(id, CHUNK_BYTES)).collect(), 3);
        let mut first = Box::pin(Arc::clone(&import).chunks());
        for _ in 0..3 {
            first.next().await.unwrap();
        }
        let oldest = import.sent()[0].request.clone();
        assert_eq!(import.acknowledge(ack(&oldest)).unwrap().first, 0);
        drop(first);
        let mut second = Box::pin(Arc::clone(&import).chunks());
        let mut numbers = Vec::new();
        while let Some(chunk) = second.next().await {
            numbers.push(chunk.chunk);
            import.acknowledge(ack(&chunk)).unwrap();
        }
        assert_eq!(numbers, [1, 2, 3, 4]);
        assert!(import.is_done());
    }

    #[tokio::test]
    async fn a_partial_chunk_survives_a_cancelled_call() {
        let import = import(Vec::new(), 2);
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        import.source.try_lock().unwrap().records = stream::poll_fn(move |cx| receiver.poll_recv(cx)).boxed();
        sender.send(record(0, 1)).unwrap();
        let mut first = Box::pin(Arc::clone(&import).chunks());
        assert!(first.next().now_or_never().is_none());
        drop(first);
        sender.send(record(1, 1)).unwrap();
        drop(sender);
        let chunks: Vec<ImportRequest> = Arc::clone(&import).chunks().collect().await;
        assert_eq!(chunks[0].records, [record(0, 1), record(1, 1)]);
        assert_eq!(chunks.len(), 1);
    }

    #[test]
    fn an_unexpected_acknowledgement_is_refused() {
        let import = import(Vec::new(), 1);
        assert_eq!(import.acknowledge(ImportResponse::default()).unwrap_err().kind(), ErrorKind::Malformed);
    }
}

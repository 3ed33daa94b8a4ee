//! Imports and exports of whole stores. Both resume automatically after a lost connection.

use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use futures_util::{Stream, StreamExt as _, stream};
use prost::{Message as _, encoding::encoded_len_varint};
use tokio::{
    sync::{Mutex as AsyncMutex, Semaphore},
    time::sleep,
};

use crate::{
    Cable, Error, ErrorKind, RawRecord, Result, Retry,
    client::Chunks,
    list::{ResultStream, messages},
    v1::{
        ExportEnd, ExportRequest, ExportResponse, Freshness, ImportRequest, ImportResponse, ImportResult,
        Position,
    },
};

/// The largest number of records and bytes in one chunk of an import; a single larger record is a chunk of its own. The
/// server writes a chunk in one transaction and accepts 4 MiB. Large chunks cause far fewer writes of list pages.
const CHUNK_RECORDS: usize = 1_000;
const CHUNK_BYTES: usize = 3 << 20;
/// The largest number of unacknowledged chunks: enough that the server never waits for the network.
const IN_FLIGHT: usize = 4;

impl Cable {
    /// Imports records in chunks. Poll the stream of acknowledgements to keep the import running.
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
        let source = Source { records: records.boxed(), peeked: None, chunk: Vec::new(), next_index: 0 };
        let import = Arc::new(PendingImport {
            source: AsyncMutex::new(source),
            sent: Mutex::default(),
            permits: Semaphore::new(IN_FLIGHT),
            all_sent: AtomicBool::new(false),
        });
        Import { acks: acknowledgements(self.clone(), import) }
    }

    /// Exports all live versions and all tombstones in log order; [`records`](Export::records) returns the stream.
    ///
    /// ```no_run
    /// # async fn example(cable: cable_client::Cable) -> cable_client::Result<()> {
    /// use futures_util::TryStreamExt as _;
    ///
    /// let mut records = cable.export().records();
    /// while let Some(record) = records.try_next().await? {
    ///     println!("{}: {} bytes", record.name()?, record.as_bytes().len());
    /// }
    /// println!("complete up to {}", records.position());
    /// # Ok(())
    /// # }
    /// ```
    pub fn export(&self) -> Export {
        Export { cable: self.clone(), request: ExportRequest::default() }
    }
}

/// The acknowledgement of consecutive records of an import: each one is on disk or refused.
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
#[must_use = "streams do nothing unless polled"]
pub struct Import {
    acks: ResultStream<ImportAck>,
}

impl fmt::Debug for Import {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Import").finish_non_exhaustive()
    }
}

impl Stream for Import {
    type Item = Result<ImportAck>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.acks.poll_next_unpin(cx)
    }
}

/// The records in flight. They outlive the calls that carry them.
struct PendingImport {
    source: AsyncMutex<Source>,
    /// The unacknowledged chunks, the oldest first. The number of a chunk is the index of its first record.
    sent: Mutex<VecDeque<ImportRequest>>,
    /// A permit for each chunk that may be added to `sent`.
    permits: Semaphore,
    all_sent: AtomicBool,
}

/// The source of the records. Records that it has read but not yet returned in a chunk stay here if a call is
/// cancelled.
struct Source {
    records: stream::BoxStream<'static, RawRecord>,
    peeked: Option<RawRecord>,
    chunk: Vec<RawRecord>,
    next_index: i64,
}

impl Source {
    /// Returns the next chunk, or `None` at the end.
    async fn chunk(&mut self) -> Option<ImportRequest> {
        let mut bytes: usize = self.chunk.iter().map(size).sum();
        while self.chunk.len() < CHUNK_RECORDS {
            if self.peeked.is_none() {
                self.peeked = self.records.next().await;
            }
            let Some(record) = self.peeked.take() else { break };
            bytes += size(&record);
            if bytes > CHUNK_BYTES && !self.chunk.is_empty() {
                self.peeked = Some(record);
                break;
            }
            self.chunk.push(record);
        }
        let chunk = ImportRequest { chunk: self.next_index, records: std::mem::take(&mut self.chunk) };
        self.next_index += chunk.records.len() as i64;
        (!chunk.records.is_empty()).then_some(chunk)
    }
}

/// Returns the size of a record within its chunk in bytes.
fn size(record: &RawRecord) -> usize {
    let length = record.encoded_len();
    1 + encoded_len_varint(length as u64) + length
}

impl PendingImport {
    fn sent(&self) -> MutexGuard<'_, VecDeque<ImportRequest>> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the chunk to send after chunk `last`: the next unacknowledged one or, if there is none, a new one.
    async fn next_chunk(&self, last: i64) -> Option<ImportRequest> {
        let unacknowledged = || self.sent().iter().find(|chunk| chunk.chunk > last).cloned();
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
        self.sent().push_back(chunk.clone());
        Some(chunk)
    }

    fn chunks(self: Arc<Self>) -> impl Stream<Item = ImportRequest> + Send + 'static {
        stream::unfold((self, -1), |(import, last)| async move {
            let chunk = import.next_chunk(last).await?;
            let last = chunk.chunk;
            Some((chunk, (import, last)))
        })
    }

    fn acknowledge(&self, response: ImportResponse) -> Result<ImportAck> {
        let mut sent = self.sent();
        let matches = sent.front().is_some_and(|chunk| {
            chunk.chunk == response.chunk && chunk.records.len() == response.results.len()
        });
        if !matches {
            return Err(Error::new(
                ErrorKind::Malformed,
                "acknowledgement does not match the oldest chunk in flight",
            ));
        }
        sent.pop_front();
        self.permits.add_permits(1);
        Ok(ImportAck {
            first: response.chunk.unsigned_abs(),
            results: response.results,
            position: response.position.unwrap_or_default(),
        })
    }

    fn is_done(&self) -> bool {
        self.all_sent.load(Relaxed) && self.sent().is_empty()
    }
}

/// The current call of a transfer, and the number of failures since a call last made progress.
struct TransferCall<M> {
    responses: Option<ResultStream<M>>,
    failures: u32,
}

impl<M> Default for TransferCall<M> {
    fn default() -> Self {
        TransferCall { responses: None, failures: 0 }
    }
}

impl<M> TransferCall<M> {
    /// Waits before the next attempt, or returns the error if no attempt is left.
    async fn recover(&mut self, cable: &Cable, error: Error) -> Result<()> {
        self.responses = None;
        self.failures += 1;
        let Some(wait) = cable.shared.retry.for_transfer().wait(self.failures, &error) else {
            return Err(error);
        };
        sleep(wait).await;
        Ok(())
    }
}

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
                Err(mut error) => {
                    error.set_may_have_applied(!import.sent().is_empty());
                    call.recover(&cable, error).await?;
                }
            }
        }
    })
    .boxed()
}

async fn next_response(
    cable: &Cable,
    import: &Arc<PendingImport>,
    call: &mut TransferCall<ImportResponse>,
) -> Result<Option<ImportResponse>> {
    let responses = match &mut call.responses {
        Some(responses) => responses,
        none => {
            let request = || Chunks(Arc::clone(import).chunks());
            none.insert(messages(cable.open(request, None, &Retry::none()).await?))
        }
    };
    responses.next().await.transpose()
}

/// A call that exports a store; [`records`](Export::records) returns the stream. See [`Cable::export`].
#[derive(Debug, Clone)]
#[must_use = "calls do nothing unless their stream is polled"]
pub struct Export {
    cable: Cable,
    request: ExportRequest,
}

impl Export {
    /// Resumes after the last [`Position`] of an interrupted export, or after a revision of any log that the server
    /// has.
    pub fn after(mut self, position: impl Into<Freshness>) -> Self {
        let Freshness { at_least_revision, log_id, .. } = position.into();
        self.request = ExportRequest { after_revision: at_least_revision, log_id };
        self
    }

    /// Returns the stream of records. A name that changes during the export is sent again: of two records of one name,
    /// the later one is valid.
    pub fn records(self) -> RecordStream {
        let Export { cable, request } = self;
        let last = Position {
            revision: request.after_revision,
            log_id: request.log_id.clone(),
            ..Position::default()
        };
        RecordStream {
            parts: parts(cable, request),
            records: VecDeque::new(),
            received: last.clone(),
            consumed: last,
            end: None,
            incomplete: None,
            done: false,
        }
    }
}

/// One message of an export, with the id of its log.
struct ExportPart {
    message: ExportResponse,
    log_id: Arc<str>,
}

/// The state of a running export.
struct ExportState {
    cable: Cable,
    request: ExportRequest,
    call: TransferCall<ExportResponse>,
    /// The number of records received in the current call.
    received: i64,
    ended: bool,
}

fn parts(cable: Cable, request: ExportRequest) -> ResultStream<ExportPart> {
    let export = ExportState { cable, request, call: TransferCall::default(), received: 0, ended: false };
    stream::try_unfold(export, |mut export| async move {
        if export.ended {
            return Ok(None);
        }
        loop {
            match export.next().await {
                Ok(message) => {
                    export.record_progress(&message)?;
                    let log_id = export.request.log_id.as_str().into();
                    return Ok(Some((ExportPart { message, log_id }, export)));
                }
                Err(error) => export.call.recover(&export.cable, error).await?,
            }
        }
    })
    .boxed()
}

impl ExportState {
    async fn next(&mut self) -> Result<ExportResponse> {
        if self.request.log_id.is_empty() {
            // A resumed call needs the log id of its revision, which only the closing message of an export contains.
            let head = self.cable.status().await?.head.unwrap_or_default();
            self.request.log_id = head.log_id;
        }
        let messages = match &mut self.call.responses {
            Some(messages) => messages,
            none => {
                self.received = 0;
                let opened = self.cable.open(|| self.request.clone(), None, &Retry::none()).await?;
                none.insert(messages(opened))
            }
        };
        let truncated = || Error::truncated("export ended without its closing message");
        messages.next().await.ok_or_else(truncated)?
    }

    /// Records the progress of the export, and checks the server's closing message.
    fn record_progress(&mut self, message: &ExportResponse) -> Result<()> {
        self.call.failures = 0;
        self.received += message.records.len() as i64;
        if !message.records.is_empty() {
            self.request.after_revision = message.last_revision;
        }
        let Some(end) = &message.end else { return Ok(()) };
        self.ended = true;
        if end.count != self.received {
            let message = format!("{} records received instead of {}", self.received, end.count);
            return Err(Error::truncated(message));
        }
        if end.position.as_ref().is_some_and(|position| position.log_id != self.request.log_id) {
            return Err(Error::truncated("log changed during the export"));
        }
        Ok(())
    }
}

/// A stream of exported records that ends without an error only if it is complete.
///
/// It resumes automatically after a lost connection. Any failure that a retry does not resolve is an error. If the
/// server cannot read some records, the last item is an error ([`ErrorKind::DataLoss`]).
#[must_use = "streams do nothing unless polled"]
pub struct RecordStream {
    parts: ResultStream<ExportPart>,
    records: VecDeque<RawRecord>,
    /// The position of the last received record.
    received: Position,
    /// The position of the last message of which all records were taken.
    consumed: Position,
    end: Option<ExportEnd>,
    /// The error if the server cannot read some of the records.
    incomplete: Option<Error>,
    done: bool,
}

impl fmt::Debug for RecordStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordStream")
            .field("consumed", &self.consumed)
            .field("end", &self.end)
            .finish_non_exhaustive()
    }
}

impl RecordStream {
    /// Returns the server's closing message: the head that the export reached, and the content digest there. Its count
    /// covers only the records since the last connection was made. `None` before the end.
    #[must_use]
    pub fn end(&self) -> Option<&ExportEnd> {
        self.end.as_ref()
    }

    /// Returns the position to resume [`after`](Export::after) if the export is interrupted here. Some of the last
    /// records may then be sent again.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.consumed
    }

    fn accept(&mut self, part: ExportPart) {
        let ExportPart { message, log_id } = part;
        self.received.log_id = log_id.as_ref().into();
        if !message.records.is_empty() {
            self.received.revision = message.last_revision;
        }
        self.records.extend(message.records);
        let damage = message.end.as_ref().and_then(|end| end.damage.as_ref());
        self.incomplete = damage.map(Error::incomplete);
        self.end = message.end;
    }
}

impl Stream for RecordStream {
    type Item = Result<RawRecord>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(record) = self.records.pop_front() {
                if self.records.is_empty() {
                    self.consumed = self.received.clone();
                }
                return Poll::Ready(Some(Ok(record)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            match ready!(self.parts.poll_next_unpin(cx)) {
                Some(Ok(part)) => self.accept(part),
                Some(Err(error)) => {
                    self.done = true;
                    return Poll::Ready(Some(Err(error)));
                }
                None => {
                    self.done = true;
                    return Poll::Ready(self.incomplete.take().map(Err));
                }
            }
        }
    }
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
        let records = stream::iter(records).boxed();
        Arc::new(PendingImport {
            source: AsyncMutex::new(Source { records, peeked: None, chunk: Vec::new(), next_index: 0 }),
            sent: Mutex::default(),
            permits: Semaphore::new(permits),
            all_sent: AtomicBool::new(false),
        })
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
        let oldest = import.sent()[0].clone();
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

    fn export_state() -> ExportState {
        let cable = Cable::builder("http://127.0.0.1:1").build().unwrap();
        let request = ExportRequest { log_id: "0123abcd".into(), after_revision: 0 };
        ExportState { cable, request, call: TransferCall::default(), received: 0, ended: false }
    }

    fn end(count: i64, log_id: &str) -> ExportResponse {
        let position = Some(Position { log_id: log_id.into(), revision: 9, ..Default::default() });
        ExportResponse {
            end: Some(ExportEnd { count, position, ..Default::default() }),
            ..Default::default()
        }
    }

    #[test]
    fn an_export_resumes_after_the_last_received_message() {
        let mut export = export_state();
        export
            .record_progress(&ExportResponse { records: vec![record(1, 1)], last_revision: 7, end: None })
            .unwrap();
        assert_eq!(export.request.after_revision, 7);
        export.record_progress(&end(1, "0123abcd")).unwrap();
        assert_eq!((export.request.after_revision, export.ended), (7, true));
    }

    #[test]
    fn an_export_with_a_wrong_count_or_log_is_truncated() {
        assert_eq!(
            export_state().record_progress(&end(1, "0123abcd")).unwrap_err().kind(),
            ErrorKind::Truncated
        );
        assert_eq!(
            export_state().record_progress(&end(0, "ffffffff")).unwrap_err().kind(),
            ErrorKind::Truncated
        );
    }
}
